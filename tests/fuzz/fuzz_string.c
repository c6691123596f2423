/* SPDX-License-Identifier: Apache-2.0 */
/* The small parsers of text: what they accept, they write and read back the same. */
#include "fuzz.h"
#include "json/json.h"
#include "netlink/netlink.h"

#include <stdlib.h>
#include <string.h>

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_ip(const char *text)
{
    struct ip_addr ip, again, network;
    char buf[IP_TEXT_MAX];

    if (ip_parse(text, &ip) == 0) {
        check(ip.prefix <= ip_bits(&ip));
        check(ip_parse(ip_format(&ip, true, buf), &again) == 0);
        check(ip_same(&ip, &again) && ip.prefix == again.prefix);
        network = ip_network(&ip);
        check(ip_in_subnet(&ip, &network) && ip_compare(&network, &ip) <= 0);
    }
}

static void check_mac(const char *text)
{
    struct mac_addr mac, again;
    char buf[MAC_TEXT_MAX];

    if (mac_parse(text, &mac) == 0) {
        check(mac_parse(mac_format(&mac, buf), &again) == 0);
        check(!memcmp(&mac, &again, sizeof(mac)) && !(mac.bytes[0] & 1));
    }
}

static void check_number(const char *text)
{
    struct ip_addr ip = {.family = 10 /* AF_INET6 */}, back;
    int64_t n;

    if (str_to_int64(text, INT64_MIN, INT64_MAX, &n) == 0) {
        ip = ip_plus(&ip, n);
        if (n != INT64_MIN) {
            back = ip_plus(&ip, -n);
            ip = ip_plus(&back, n);
            check(ip_plus(&ip, -n).bytes[15] == 0);
        }
    }
}

/* UTF-8 comes back as it was; anything else comes back as something. */
static void check_quote(const char *text)
{
    size_t room = 6 * strlen(text) + 3;
    autofree char *quoted = malloc(room), *copy = strdup(text), *tight = malloc(room);
    autojson json_t *json = NULL, *plain = json_string(text), *made = NULL;
    int len;

    if (!quoted || !copy || !tight) {
        return;
    }
    len = json_quote(quoted, room, text);
    check(len >= 2 && (size_t)len == strlen(quoted));
    check(json_quote(tight, (size_t)len + 1, text) == len || len == 2);
    check(json_quote(tight, (size_t)len, text) < 0);
    json = json_loads(quoted, JSON_DECODE_ANY, NULL);
    check(json_is_string(json));
    check(!plain || json_equal(json, plain));
    str_make_utf8(copy);
    made = json_string(copy);
    check(made && (!plain || json_equal(made, plain)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = calloc(1, size + 1);

    if (text && size < 4096) {
        if (size) {
            memcpy(text, data, size);
        }
        check_ip(text);
        check_mac(text);
        check_number(text);
        check_quote(text);
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* IP addresses as values. */
#include "base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

unsigned ip_bits(const struct ip_addr *ip)
{
    return ip->family == AF_INET6 ? 128 : 32;
}

size_t ip_bytes(const struct ip_addr *ip)
{
    return ip_bits(ip) / 8;
}

int ip_parse(const char *text, struct ip_addr *ret)
{
    struct ip_addr ip = {0};
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    int64_t prefix;

    if (len >= sizeof(address)) {
        return -EINVAL;
    }
    memcpy(address, text, len);
    address[len] = '\0';
    if (inet_pton(AF_INET, address, ip.bytes) == 1) {
        ip.family = AF_INET;
    } else if (inet_pton(AF_INET6, address, ip.bytes) == 1) {
        ip.family = AF_INET6;
    } else {
        return -EINVAL;
    }
    prefix = ip_bits(&ip);
    if (slash && str_to_int64(slash + 1, 0, prefix, &prefix) < 0) {
        return -EINVAL;
    }
    ip.prefix = (unsigned)prefix;
    *ret = ip;
    return 0;
}

const char *ip_format(const struct ip_addr *ip, bool with_prefix, char buf[IP_TEXT_MAX])
{
    size_t used;

    if (!inet_ntop(ip->family, ip->bytes, buf, IP_TEXT_MAX)) {
        buf[0] = '\0';
        return buf;
    }
    used = strlen(buf);
    if (with_prefix) {
        snprintf(buf + used, IP_TEXT_MAX - used, "/%u", ip->prefix);
    }
    return buf;
}

int ip_compare(const struct ip_addr *a, const struct ip_addr *b)
{
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    return memcmp(a->bytes, b->bytes, ip_bytes(a));
}

bool ip_same(const struct ip_addr *a, const struct ip_addr *b)
{
    return ip_compare(a, b) == 0;
}

/* Keeps the first prefix bits and sets the rest to fill (0x00 or 0xff). */
static struct ip_addr with_host_bits(const struct ip_addr *ip, uint8_t fill)
{
    struct ip_addr out = *ip;

    for (unsigned i = 0; i < ip_bytes(ip); i++) {
        unsigned kept = ip->prefix > i * 8 ? ip->prefix - i * 8 : 0;
        uint8_t mask = kept >= 8 ? 0xff : (uint8_t)(0xff00 >> kept);

        out.bytes[i] = (uint8_t)((ip->bytes[i] & mask) | (fill & ~mask));
    }
    return out;
}

struct ip_addr ip_network(const struct ip_addr *ip)
{
    return with_host_bits(ip, 0x00);
}

struct ip_addr ip_last(const struct ip_addr *subnet)
{
    return with_host_bits(subnet, 0xff);
}

bool ip_in_subnet(const struct ip_addr *ip, const struct ip_addr *subnet)
{
    struct ip_addr a = *ip, b = ip_network(subnet);

    a.prefix = subnet->prefix;
    a = ip_network(&a);
    return ip_same(&a, &b);
}

struct ip_addr ip_plus(const struct ip_addr *ip, int64_t n)
{
    struct ip_addr out = *ip;

    for (size_t i = ip_bytes(ip); i-- > 0 && n != 0;) {
        int64_t sum = (n & 0xff) + out.bytes[i];

        out.bytes[i] = (uint8_t)(sum & 0xff);
        n = (n >> 8) + (sum >> 8);
    }
    return out;
}

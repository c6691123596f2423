/* SPDX-License-Identifier: Apache-2.0 */
/* resolvConf: a resolv.conf(5) of the host as the "dns" object of a CNI result. */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <string.h>

#define RESOLV_CONF_MAX (64 << 10)
#define SPACE           " \t\r\v\f"

/* Adds the rest of the line's words to dns[key], or puts the first one there. */
static int add_words(json_t *dns, const char *key, bool list, char *save)
{
    json_t *words = json_object_get(dns, key);
    const char *word;

    if (list && !words) {
        words = json_array();
        if (json_object_set_new(dns, key, words) < 0) {
            return -ENOMEM;
        }
    }
    while ((word = strtok_r(NULL, SPACE, &save))) {
        json_t *value = json_string(word);

        if (!value) {
            return -EINVAL; /* not UTF-8 */
        }
        if (!list) {
            return json_object_set_new(dns, key, value) < 0 ? -ENOMEM : 0;
        }
        if (json_array_append_new(words, value) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int add_line(json_t *dns, char *line)
{
    static const struct {
        const char *word, *key;
        bool list;
    } known[] = {{"nameserver", "nameservers", true},
                 {"domain", "domain", false},
                 {"search", "search", true},
                 {"options", "options", true}};
    char *save = NULL;
    const char *word = strtok_r(line, SPACE, &save);

    if (!word || word[0] == '#' || word[0] == ';') {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (!strcmp(word, known[i].word) && save && save[strspn(save, SPACE)]) {
            /* A name server a line: what follows its address is no other one. */
            if (i == 0) {
                save += strspn(save, SPACE);
                save[strcspn(save, SPACE)] = '\0';
            }
            return add_words(dns, known[i].key, known[i].list, save);
        }
    }
    return 0;
}

int ipam_dns_read(const char *path, json_t **ret, struct error *err)
{
    autofree char *text = NULL;
    autojson json_t *dns = json_object();
    char *save = NULL;
    int rc = dns ? file_read(path, RESOLV_CONF_MAX, &text, NULL) : -ENOMEM;

    if (rc < 0) {
        return error_sys(err, rc, "ipam.resolvConf: read %s", path);
    }
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        rc = add_line(dns, line);
        if (rc < 0) {
            return error_sys(err, rc, "ipam.resolvConf: %s", path);
        }
    }
    *ret = json_object_size(dns) ? take_ptr(dns) : NULL;
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, numbers, hashes. */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

char *str_printf(const char *fmt, ...)
{
    va_list args;
    char *s = NULL;
    int n;

    va_start(args, fmt);
    n = vasprintf(&s, fmt, args);
    va_end(args);
    return n < 0 ? NULL : s;
}

bool str_has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

int str_copy(char *dst, size_t size, const char *s)
{
    size_t len = strlen(s);

    if (len >= size) {
        if (size) {
            dst[0] = '\0';
        }
        return -ENAMETOOLONG;
    }
    memcpy(dst, s, len + 1);
    return 0;
}

int str_to_int64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
    char *end;
    long long value;

    if (!(*s == '-' || (*s >= '0' && *s <= '9'))) {
        return -EINVAL;
    }
    errno = 0;
    value = strtoll(s, &end, 10);
    if (end == s || *end || (*s == '-' && value == 0)) {
        return -EINVAL;
    }
    if (errno == ERANGE || value < min || value > max) {
        return -ERANGE;
    }
    *ret = value;
    return 0;
}

uint64_t hash64(uint64_t seed, const void *data, size_t len)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < len; i++) {
        seed = (seed ^ p[i]) * 0x100000001b3ULL;
    }
    return seed;
}

uint64_t hash64_str(uint64_t seed, const char *s)
{
    return hash64(seed, s, strlen(s) + 1);
}

void hash64_text(uint64_t hash, char out[14])
{
    /* FNV's high bits mix poorly on short input: finish as splitmix64 does. */
    hash ^= hash >> 30;
    hash *= 0xbf58476d1ce4e5b9ULL;
    hash ^= hash >> 27;
    hash *= 0x94d049bb133111ebULL;
    hash ^= hash >> 31;
    for (int i = 0; i < 13; i++) {
        out[i] = "0123456789abcdefghijklmnopqrstuv"[hash & 31];
        hash >>= 5;
    }
    out[13] = '\0';
}

int random_fill(void *buf, size_t len)
{
    ssize_t n = getrandom(buf, len, 0);

    return n == (ssize_t)len ? 0 : -EIO;
}

/* Bytes of the UTF-8 character at s (RFC 3629: no surrogates, no long forms); 0: none. */
static size_t utf8_len(const char *s)
{
    static const struct {
        unsigned char first, last, low, high; /* of the first byte; of the second */
        size_t len;
    } forms[] = {
        {0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    const unsigned char *u = (const unsigned char *)s;

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        if (u[0] < forms[i].first || u[0] > forms[i].last) {
            continue;
        }
        if (forms[i].len > 1 && (u[1] < forms[i].low || u[1] > forms[i].high)) {
            return 0;
        }
        for (size_t n = 2; n < forms[i].len; n++) {
            if ((u[n] & 0xc0) != 0x80) {
                return 0;
            }
        }
        return forms[i].len;
    }
    return 0;
}

void str_make_utf8(char *s)
{
    while (*s) {
        size_t len = utf8_len(s);

        if (!len) {
            *s = '?';
        }
        s += len ? len : 1;
    }
}

/* The JSON of the character at s; advances it. */
static const char *quote_one(const char **s, char escape[8], size_t *ret_len)
{
    const char *at = *s;
    size_t len = utf8_len(at);

    *s += len ? len : 1;
    if (len && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20) {
        *ret_len = len;
        return at;
    }
    if (!len) {
        memcpy(escape, "\\ufffd", 7);
    } else if ((unsigned char)*at < 0x20) {
        snprintf(escape, 8, "\\u%04x", (unsigned)*at);
    } else {
        snprintf(escape, 8, "\\%c", *at);
    }
    *ret_len = strlen(escape);
    return escape;
}

int json_quote(char *dst, size_t size, const char *s)
{
    size_t used = 0, len;

    if (size < 3) {
        return -ENAMETOOLONG;
    }
    dst[used++] = '"';
    while (*s) {
        char escape[8];
        const char *text = quote_one(&s, escape, &len);

        if (len + 2 > size - used) { /* a quote and a NUL come after it */
            return -ENAMETOOLONG;
        }
        memcpy(dst + used, text, len);
        used += len;
    }
    dst[used++] = '"';
    dst[used] = '\0';
    return (int)used;
}

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
    if (end == s || *end) {
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

int json_quote(char *dst, size_t size, const char *s)
{
    size_t used = 0;

    if (size < 3) {
        return -ENAMETOOLONG;
    }
    dst[used++] = '"';
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (used + 8 > size) {
            return -ENAMETOOLONG;
        }
        if (c == '"' || c == '\\') {
            dst[used++] = '\\';
            dst[used++] = (char)c;
        } else if (c < 0x20) {
            used += (size_t)snprintf(dst + used, size - used, "\\u%04x", c);
        } else {
            dst[used++] = (char)c;
        }
    }
    if (used + 2 > size) {
        return -ENAMETOOLONG;
    }
    dst[used++] = '"';
    dst[used] = '\0';
    return (int)used;
}

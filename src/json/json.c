/* SPDX-License-Identifier: Apache-2.0 */
/* Typed reading of jansson values with messages that name key, value and what is allowed. */
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void cleanup_json(json_t **value)
{
    json_decref(*value);
}

int json_parse(const char *text, size_t len, json_t **ret, struct error *err)
{
    json_error_t where;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);

    if (!value) {
        return error_set(err, -EBADMSG, "invalid JSON at line %d, column %d: %s", where.line,
                         where.column, where.text);
    }
    *ret = value;
    return 0;
}

/* Writes the path and key in front; returns the length used. */
static size_t write_path(const struct json_path *path, const char *key, char *buf, size_t size)
{
    size_t used = 0;

    if (path) {
        used = write_path(path->parent, path->key, buf, size);
        if (!path->key && used < size) {
            used += (size_t)snprintf(buf + used, size - used, "[%zu]", path->index);
        }
    }
    if (key && used < size) {
        used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? "." : "", key);
    }
    return used < size ? used : size - 1;
}

int json_bad(struct error *err, const struct json_path *path, const char *key, const json_t *value,
             const char *allowed)
{
    char where[256] = "";
    autofree char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

    write_path(path, key, where, sizeof(where));
    if (!value) {
        return error_set(err, -EINVAL, "%s: missing; must be %s", where, allowed);
    }
    return error_set(err, -EINVAL, "%s: %.200s is not allowed; must be %s", where,
                     text ? text : "?", allowed);
}

/* The value, or NULL for a missing key and for null. */
static json_t *value_of(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

int json_read_string(const json_t *object, const struct json_path *path, const char *key,
                     const char **ret, struct error *err)
{
    const json_t *value = value_of(object, key);

    if (!value) {
        return 0;
    }
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        return json_bad(err, path, key, value, "a string");
    }
    *ret = json_string_value(value);
    return 0;
}

int json_need_string(const json_t *object, const struct json_path *path, const char *key,
                     const char **ret, struct error *err)
{
    const char *s = NULL;
    int rc = json_read_string(object, path, key, &s, err);

    if (rc < 0) {
        return rc;
    }
    if (!s || !*s) {
        return json_bad(err, path, key, value_of(object, key), "a string that is not empty");
    }
    *ret = s;
    return 0;
}

int json_read_int(const json_t *object, const struct json_path *path, const char *key, int64_t min,
                  int64_t max, int64_t *ret, struct error *err)
{
    const json_t *value = value_of(object, key);

    if (!value) {
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max) {
        char allowed[96];

        snprintf(allowed, sizeof(allowed), "a whole number from %lld to %lld", (long long)min,
                 (long long)max);
        return json_bad(err, path, key, value, allowed);
    }
    *ret = json_integer_value(value);
    return 0;
}

int json_read_bool(const json_t *object, const struct json_path *path, const char *key, bool *ret,
                   struct error *err)
{
    const json_t *value = value_of(object, key);

    if (!value) {
        return 0;
    }
    if (!json_is_boolean(value)) {
        return json_bad(err, path, key, value, "true or false");
    }
    *ret = json_is_true(value);
    return 0;
}

int json_read_object(const json_t *object, const struct json_path *path, const char *key,
                     json_t **ret, struct error *err)
{
    json_t *value = value_of(object, key);

    if (!value) {
        return 0;
    }
    if (!json_is_object(value)) {
        return json_bad(err, path, key, value, "an object");
    }
    *ret = value;
    return 0;
}

int json_read_array(const json_t *object, const struct json_path *path, const char *key,
                    json_t **ret, struct error *err)
{
    json_t *value = value_of(object, key);

    if (!value) {
        return 0;
    }
    if (!json_is_array(value)) {
        return json_bad(err, path, key, value, "a list");
    }
    *ret = value;
    return 0;
}

int json_read_word(const json_t *object, const struct json_path *path, const char *key,
                   const char *const *words, int *ret, struct error *err)
{
    const json_t *value = value_of(object, key);
    char allowed[256] = "one of";
    size_t used = strlen(allowed);

    if (!value) {
        return 0;
    }
    for (int i = 0; words[i]; i++) {
        if (json_is_string(value) && !strcmp(json_string_value(value), words[i])) {
            *ret = i;
            return 0;
        }
        if (used < sizeof(allowed)) {
            used += (size_t)snprintf(allowed + used, sizeof(allowed) - used, "%s \"%s\"",
                                     i ? "," : "", words[i]);
        }
    }
    return json_bad(err, path, key, value, allowed);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed reading of jansson values, for configuration and protocols: what is wrong is answered with
 * the key, the value and what is allowed. A missing key or null leaves the output as it was.
 */
#pragma once

#include "base/base.h"

#include <jansson.h>

void cleanup_json(json_t **value);
#define autojson __attribute__((cleanup(cleanup_json)))

/*
 * Where a value stands, for messages: "ipam.ranges[0][1]". Made on the stack, linked upwards.
 */
struct json_path {
    const struct json_path *parent;
    const char *key; /* NULL: index counts */
    size_t index;
};

/* Parses one document; what comes after it is an error. The text need not end in NUL. */
int json_parse(const char *text, size_t len, json_t **ret, struct error *err);

/* -EINVAL with "KEY: VALUE is not ALLOWED"; path may be NULL for the top. */
int json_bad(struct error *err, const struct json_path *path, const char *key, const json_t *value,
             const char *allowed);

/* Readers of object[key]. All return 0 or -EINVAL. Strings are borrowed from the object. */
int json_read_string(const json_t *object, const struct json_path *path, const char *key,
                     const char **ret, struct error *err);
int json_read_int(const json_t *object, const struct json_path *path, const char *key, int64_t min,
                  int64_t max, int64_t *ret, struct error *err);
int json_read_bool(const json_t *object, const struct json_path *path, const char *key, bool *ret,
                   struct error *err);
int json_read_object(const json_t *object, const struct json_path *path, const char *key,
                     json_t **ret, struct error *err);
int json_read_array(const json_t *object, const struct json_path *path, const char *key,
                    json_t **ret, struct error *err);

/* One of the words (a NULL-terminated list); *ret is its index. */
int json_read_word(const json_t *object, const struct json_path *path, const char *key,
                   const char *const *words, int *ret, struct error *err);

/* A string of the object that must be there and not be empty. */
int json_need_string(const json_t *object, const struct json_path *path, const char *key,
                     const char **ret, struct error *err);

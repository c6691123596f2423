/* SPDX-License-Identifier: Apache-2.0 */
/*
 * set.json, run.json and summary.json into structures, with messages that name the key. The files
 * may come from another machine and another version: nothing in them is taken on trust.
 */
#include "report/report.h"
#include "report/report-internal.h"
#include "span/span.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAME_ALLOWED "a name of 1 to 64 characters without control characters"
#define MAX_COUNT    ((int64_t)1 << 40)

/* Names become labels, file names and columns of a terminal. */
static bool good_name(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return false;
        }
    }
    return len > 0 && len <= RESULT_NAME_MAX;
}

/* A folder inside the result folder. */
static bool good_dir(const char *dir)
{
    size_t len = strlen(dir);

    return good_name(dir) && dir[0] != '/' && strcmp(dir, "..") != 0 && strncmp(dir, "../", 3) &&
           !strstr(dir, "/../") && !(len >= 3 && !strcmp(dir + len - 3, "/.."));
}

static int need_name(const json_t *object, const struct json_path *path, const char *key,
                     const char **ret, struct error *err)
{
    int rc = json_need_string(object, path, key, ret, err);

    if (rc == 0 && !good_name(*ret)) {
        return json_bad(err, path, key, json_object_get(object, key), NAME_ALLOWED);
    }
    return rc;
}

static int need_seconds(const json_t *object, const struct json_path *path, const char *key,
                        double *ret, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    double number = json_number_value(value);

    if (!json_is_number(value) || !isfinite(number) || number < 0) {
        return json_bad(err, path, key, value, "a number that is not negative");
    }
    *ret = number;
    return 0;
}

/* NaN for null and for what is not there: a phase that no pod came through has no makespan. */
static int read_seconds(const json_t *object, const struct json_path *path, const char *key,
                        double *ret, struct error *err)
{
    const json_t *value = json_object_get(object, key);

    if (!value || json_is_null(value)) {
        *ret = NAN;
        return 0;
    }
    return need_seconds(object, path, key, ret, err);
}

static int need_count(const json_t *object, const struct json_path *path, const char *key,
                      int64_t *ret, struct error *err)
{
    int rc = json_read_int(object, path, key, 0, MAX_COUNT, ret, err);

    if (rc == 0 && !json_is_integer(json_object_get(object, key))) {
        return json_bad(err, path, key, NULL, "a whole number");
    }
    return rc;
}

static int need_bool(const json_t *object, const struct json_path *path, const char *key, bool *ret,
                     struct error *err)
{
    int rc = json_read_bool(object, path, key, ret, err);

    if (rc == 0 && !json_is_boolean(json_object_get(object, key))) {
        return json_bad(err, path, key, NULL, "true or false");
    }
    return rc;
}

static int need_array(const json_t *object, const char *key, json_t **ret, struct error *err)
{
    int rc = json_read_array(object, NULL, key, ret, err);

    return rc == 0 && !*ret ? json_bad(err, NULL, key, NULL, "a list") : rc;
}

static int need_object(const json_t *object, const struct json_path *path, const char *key,
                       json_t **ret, struct error *err)
{
    int rc = json_read_object(object, path, key, ret, err);

    return rc == 0 && !*ret ? json_bad(err, path, key, NULL, "an object") : rc;
}

/* One document with "v":1; the caller owns it, also when it is refused. */
static int parse_document(const char *text, size_t len, json_t **ret, struct error *err)
{
    int rc = json_parse(text, len, ret, err);
    const json_t *version;

    if (rc < 0) {
        return rc;
    }
    if (!json_is_object(*ret)) {
        return error_set(err, -EINVAL, "not an object");
    }
    version = json_object_get(*ret, "v");
    if (!json_is_integer(version) || json_integer_value(version) != 1) {
        return json_bad(err, NULL, "v", version, "1 (a newer sluice's file?)");
    }
    return 0;
}

/* ---- set.json ---- */

static int parse_variants(struct result *result, struct error *err)
{
    json_t *list = NULL;
    int rc = need_array(result->document, "variants", &list, err);

    if (rc < 0) {
        return rc;
    }
    result->variants = calloc(json_array_size(list) + 1, sizeof(*result->variants));
    if (!result->variants) {
        return error_sys(err, -ENOMEM, "variants");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct json_path top = {.key = "variants"}, path = {.parent = &top, .index = i};
        const json_t *item = json_array_get(list, i);
        const char *name = NULL;

        if (!json_is_object(item)) {
            return json_bad(err, &path, NULL, item, "an object");
        }
        rc = need_name(item, &path, "name", &name, err);
        if (rc < 0) {
            return rc;
        }
        if (result_find_variant(result, name, &(size_t){0}, NULL) == 0) {
            return json_bad(err, &path, "name", json_object_get(item, "name"),
                            "different from the other variants' names");
        }
        result->variants[result->n_variants++] = name;
    }
    return 0;
}

static int parse_set_run(struct result *result, const json_t *item, const struct json_path *path,
                         struct result_run *run, struct error *err)
{
    const char *variant = NULL;
    int rc;

    if (!json_is_object(item)) {
        return json_bad(err, path, NULL, item, "an object");
    }
    rc = need_name(item, path, "dir", &run->dir, err);
    if (rc == 0 && !good_dir(run->dir)) {
        rc = json_bad(err, path, "dir", json_object_get(item, "dir"),
                      "a folder inside the result folder");
    }
    rc = rc < 0 ? rc : need_name(item, path, "variant", &variant, err);
    if (rc == 0 && result_find_variant(result, variant, &run->variant, NULL) < 0) {
        rc = json_bad(err, path, "variant", json_object_get(item, "variant"),
                      "one of the variants' names");
    }
    rc = rc < 0 ? rc : need_count(item, path, "repeat", &run->repeat, err);
    return rc < 0 ? rc : need_bool(item, path, "valid", &run->valid, err);
}

int result_parse_set(const char *text, size_t len, struct result *result, struct error *err)
{
    json_t *list = NULL;
    int rc = parse_document(text, len, &result->document, err);

    rc = rc < 0 ? rc : parse_variants(result, err);
    rc = rc < 0 ? rc : need_array(result->document, "runs", &list, err);
    if (rc < 0) {
        return rc;
    }
    result->runs = calloc(json_array_size(list) + 1, sizeof(*result->runs));
    if (!result->runs) {
        return error_sys(err, -ENOMEM, "runs");
    }
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
        struct json_path top = {.key = "runs"}, path = {.parent = &top, .index = i};

        rc = parse_set_run(result, json_array_get(list, i), &path, &result->runs[i], err);
        result->n_runs++;
    }
    return rc;
}

/* ---- run.json ---- */

int result_parse_run(const char *text, size_t len, struct result_run *run, struct error *err)
{
    bool valid = false;
    int rc = parse_document(text, len, &run->document, err);

    rc = rc < 0 ? rc : need_bool(run->document, NULL, "valid", &valid, err);
    rc = rc < 0 ? rc : json_read_array(run->document, NULL, "problems", &run->problems, err);
    rc = rc < 0 ? rc : json_read_object(run->document, NULL, "options", &run->options, err);
    run->valid = run->valid && valid;
    return rc;
}

/* ---- summary.json ---- */

static int parse_stage(const char *name, const json_t *item, const struct json_path *path,
                       struct result_phase *phase, struct error *err)
{
    struct result_stage stage = {.name = name};
    int rc = need_count(item, path, "n", &stage.n, err);

    if (rc < 0 || stage.n == 0) {
        return rc; /* nobody went through it: no quantiles to ask for */
    }
    rc = need_seconds(item, path, "mean_s", &stage.mean_s, err);
    rc = rc < 0 ? rc : need_seconds(item, path, "p50_s", &stage.p50_s, err);
    rc = rc < 0 ? rc : need_seconds(item, path, "p90_s", &stage.p90_s, err);
    rc = rc < 0 ? rc : need_seconds(item, path, "p99_s", &stage.p99_s, err);
    rc = rc < 0 ? rc : need_seconds(item, path, "max_s", &stage.max_s, err);
    if (rc == 0) {
        phase->stages[phase->n_stages++] = stage;
    }
    return rc;
}

static int compare_stage(const void *a, const void *b)
{
    const struct result_stage *x = a, *y = b;

    return span_stage_compare(x->name, y->name);
}

static int parse_stages(json_t *object, const struct json_path *parent, struct result_phase *phase,
                        struct error *err)
{
    struct json_path path = {.parent = parent, .key = "stages"};
    const char *name;
    json_t *item;

    phase->stages = calloc(json_object_size(object) + 1, sizeof(*phase->stages));
    if (!phase->stages) {
        return error_sys(err, -ENOMEM, "stages");
    }
    json_object_foreach (object, name, item) {
        struct json_path here = {.parent = &path, .key = name};
        int rc;

        if (!good_name(name) || strlen(name) >= SPAN_STAGE_MAX || !json_is_object(item)) {
            return json_bad(err, &path, name, item, "an object under a stage's name");
        }
        rc = parse_stage(name, item, &here, phase, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (phase->n_stages > 1) {
        qsort(phase->stages, phase->n_stages, sizeof(*phase->stages), compare_stage);
    }
    return 0;
}

static int parse_cpu(json_t *object, const struct json_path *parent, struct result_phase *phase,
                     struct error *err)
{
    struct json_path path = {.parent = parent, .key = "cpu_s"};
    int rc = need_seconds(object, &path, "total", &phase->cpu_total_s, err);
    const char *name;
    json_t *item;

    phase->cpu = calloc(json_object_size(object) + 1, sizeof(*phase->cpu));
    if (!phase->cpu) {
        return error_sys(err, -ENOMEM, "cpu_s");
    }
    json_object_foreach (object, name, item) {
        struct result_cpu *part = &phase->cpu[phase->n_cpu];

        if (rc < 0) {
            return rc;
        }
        if (!good_name(name)) {
            return json_bad(err, &path, name, item, "under " NAME_ALLOWED);
        }
        if (strcmp(name, "total") != 0) {
            part->name = name;
            rc = need_seconds(object, &path, name, &part->seconds, err);
            phase->n_cpu++;
        }
    }
    return rc;
}

static int parse_phase(const json_t *object, const char *key, struct result_phase *phase,
                       struct error *err)
{
    struct json_path path = {.key = key};
    json_t *cpu = NULL, *stages = NULL;
    int rc = read_seconds(object, &path, "makespan_s", &phase->makespan_s, err);

    phase->present = true;
    rc = rc < 0 ? rc : read_seconds(object, &path, "pods_per_s", &phase->pods_per_s, err);
    rc = rc < 0 ? rc : need_object(object, &path, "cpu_s", &cpu, err);
    rc = rc < 0 ? rc : parse_cpu(cpu, &path, phase, err);
    rc = rc < 0 ? rc : need_object(object, &path, "stages", &stages, err);
    return rc < 0 ? rc : parse_stages(stages, &path, phase, err);
}

int result_parse_summary(const char *text, size_t len, struct result_run *run, struct error *err)
{
    json_t *start = NULL, *teardown = NULL;
    int rc = parse_document(text, len, &run->summary, err);

    rc = rc < 0 ? rc : need_count(run->summary, NULL, "pods", &run->pods, err);
    rc = rc < 0 ? rc : need_count(run->summary, NULL, "failed", &run->failed, err);
    rc = rc < 0 ? rc : need_object(run->summary, NULL, "start", &start, err);
    rc = rc < 0 ? rc : parse_phase(start, "start", &run->start, err);
    rc = rc < 0 ? rc : json_read_object(run->summary, NULL, "teardown", &teardown, err);
    return rc < 0 || !teardown ? rc : parse_phase(teardown, "teardown", &run->teardown, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A result folder as a whole: loading it, and choosing runs from it. */
#include "report/report.h"
#include "report/report-internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Far above any real one: 10,000 runs are 1 MB of set.json. */
#define MAX_FILE ((size_t)16 << 20)

/* Reads DIR/NAME (dir may be two parts); err says which file. */
static int read_part(const char *dir, const char *sub, const char *name, char **ret_path,
                     char **ret_data, size_t *ret_len, struct error *err)
{
    autofree char *path =
        sub ? str_printf("%s/%s/%s", dir, sub, name) : str_printf("%s/%s", dir, name);
    int rc = path ? file_read(path, MAX_FILE, ret_data, ret_len) : -ENOMEM;

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path ? path : name);
    }
    *ret_path = take_ptr(path);
    return 0;
}

static int load_run(const char *dir, struct result_run *run, struct error *err)
{
    autofree char *path = NULL, *data = NULL, *summary_path = NULL, *summary = NULL;
    size_t len = 0;
    int rc = read_part(dir, run->dir, "run.json", &path, &data, &len, err);

    if (rc < 0) {
        return rc;
    }
    rc = result_parse_run(data, len, run, err);
    if (rc < 0) {
        return error_wrap(err, "%s", path);
    }
    if (!run->valid) {
        return 0; /* its summary may be half there, and nothing is made of it */
    }
    rc = read_part(dir, run->dir, "summary.json", &summary_path, &summary, &len, err);
    if (rc < 0) {
        return rc;
    }
    rc = result_parse_summary(summary, len, run, err);
    return rc < 0 ? error_wrap(err, "%s", summary_path) : 0;
}

int result_load(const char *dir, struct result **ret, struct error *err)
{
    autoresult struct result *result = calloc(1, sizeof(*result));
    autofree char *path = NULL, *data = NULL;
    size_t len = 0;
    int rc;

    if (!result || !(result->dir = strdup(dir))) {
        return error_sys(err, -ENOMEM, "read %s", dir);
    }
    rc = read_part(dir, NULL, "set.json", &path, &data, &len, err);
    if (rc < 0) {
        return rc == -ENOENT || rc == -ENOTDIR ? error_wrap(err, "%s is not a result folder", dir)
                                               : rc;
    }
    rc = result_parse_set(data, len, result, err);
    if (rc < 0) {
        return error_wrap(err, "%s", path);
    }
    for (size_t i = 0; i < result->n_runs; i++) {
        rc = load_run(dir, &result->runs[i], err);
        if (rc < 0) {
            return rc;
        }
    }
    *ret = take_ptr(result);
    return 0;
}

static void phase_clear(struct result_phase *phase)
{
    free(phase->cpu);
    free(phase->stages);
}

void result_run_clear(struct result_run *run)
{
    phase_clear(&run->start);
    phase_clear(&run->teardown);
    json_decref(run->document);
    json_decref(run->summary);
    *run = (struct result_run){0};
}

void result_free(struct result *result)
{
    if (!result) {
        return;
    }
    for (size_t i = 0; i < result->n_runs; i++) {
        result_run_clear(&result->runs[i]);
    }
    free(result->runs);
    free(result->variants);
    json_decref(result->document);
    free(result->dir);
    free(result);
}

void cleanup_result(struct result **result)
{
    result_free(*result);
}

const char *result_variant_names(const struct result *result, char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < result->n_variants && used < size; i++) {
        used +=
            (size_t)snprintf(buf + used, size - used, "%s%s", i ? ", " : "", result->variants[i]);
    }
    return buf;
}

int result_find_variant(const struct result *result, const char *name, size_t *ret,
                        struct error *err)
{
    char names[512];

    for (size_t i = 0; i < result->n_variants; i++) {
        if (!strcmp(result->variants[i], name)) {
            *ret = i;
            return 0;
        }
    }
    return error_set(err, -ENOENT, "no variant '%s' in %s; there is: %s", name,
                     result->dir ? result->dir : "the set",
                     result_variant_names(result, names, sizeof(names)));
}

size_t result_count_runs(const struct result *result, size_t variant, bool valid)
{
    size_t n = 0;

    for (size_t i = 0; i < result->n_runs; i++) {
        n += result->runs[i].variant == variant && result->runs[i].valid == valid;
    }
    return n;
}

static int compare_makespan(const void *a, const void *b)
{
    double x = (*(const struct result_run *const *)a)->start.makespan_s;
    double y = (*(const struct result_run *const *)b)->start.makespan_s;

    return (x > y) - (x < y);
}

const struct result_run *result_median_run(const struct result *result, size_t variant)
{
    autofree const struct result_run **runs = calloc(result->n_runs + 1, sizeof(*runs));
    size_t n = 0;

    for (size_t i = 0; runs && i < result->n_runs; i++) {
        if (result->runs[i].variant == variant && result->runs[i].valid &&
            !isnan(result->runs[i].start.makespan_s)) {
            runs[n++] = &result->runs[i];
        }
    }
    if (n == 0) {
        return NULL;
    }
    qsort(runs, n, sizeof(*runs), compare_makespan);
    return runs[(n - 1) / 2];
}

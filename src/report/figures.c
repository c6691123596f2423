/* SPDX-License-Identifier: Apache-2.0 */
/* The table of figures, and drawing all of them for one result. */
#include "report/report-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct figure figures[] = {
    {"timeline", false, figure_timeline},
    {"stages", false, figure_stages},
    {"compare", true, figure_compare},
};

/* Appends text (owned from now on, NULL when memory was out) to a list. */
static int list_add(char ***list, size_t *n, char *text, struct error *err)
{
    char **bigger = text ? reallocarray(*list, *n + 1, sizeof(**list)) : NULL;

    if (!bigger) {
        free(text);
        return error_sys(err, -ENOMEM, "report");
    }
    *list = bigger;
    bigger[(*n)++] = text;
    return 0;
}

/* Draws one figure and notes the files. */
static int draw(const struct figure *figure, const struct figure_input *in, const char *dir,
                const char *suffix, struct report_output *output, struct error *err)
{
    static const char *const endings[] = {"svg", "png", "gp"};
    autofree char *name = str_printf("%s%s", figure->name, suffix);
    int rc = name ? figure->draw(in, dir, name, err) : error_sys(err, -ENOMEM, "report");

    for (size_t i = 0; i < ARRAY_SIZE(endings) && rc == 0; i++) {
        rc = list_add(&output->files, &output->n_files,
                      str_printf("%s/%s.%s", dir, name, endings[i]), err);
    }
    return rc;
}

/* "-NAME" with what does not belong in a file name made a dash, and then a number, so that two
 * variants never share a file. */
static char *variant_suffix(const struct result *result, size_t variant)
{
    static const char fine[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    autofree char *clean = strdup(result->variants[variant]);
    bool changed = false;

    for (char *p = clean; p && *p; p++) {
        if (!strchr(fine, *p)) {
            *p = '-';
            changed = true;
        }
    }
    if (!clean) {
        return NULL;
    }
    return changed ? str_printf("-%s-%zu", clean, variant + 1) : str_printf("-%s", clean);
}

static int draw_variant(const struct result *result, size_t variant, const char *dir,
                        struct report_output *output, struct error *err)
{
    struct figure_input in = {
        .result = result, .variant = variant, .run = result_median_run(result, variant)};
    struct span_list spans = {0};
    autofree char *suffix = variant_suffix(result, variant);
    autofree char *path = NULL;
    int rc;

    if (!in.run) {
        return list_add(&output->notes, &output->n_notes,
                        str_printf("%s: no valid run, not drawn", result->variants[variant]), err);
    }
    path = str_printf("%s/%s/spans.jsonl", result->dir, in.run->dir);
    if (!path || !suffix) {
        return error_sys(err, -ENOMEM, "report");
    }
    rc = span_read(path, &spans, err);
    if (rc == 0 && spans.bad_lines) {
        rc = list_add(&output->notes, &output->n_notes,
                      str_printf("%s: %zu lines are not spans, left out", path, spans.bad_lines),
                      err);
    }
    in.spans = &spans;
    for (size_t i = 0; i < ARRAY_SIZE(figures) && rc == 0; i++) {
        if (!figures[i].whole_set) {
            rc = draw(&figures[i], &in, dir, suffix, output, err);
            if (rc < 0) {
                error_wrap(err, "draw %s of %s", figures[i].name, path);
            }
        }
    }
    span_list_clear(&spans);
    return rc;
}

static int draw_set(const struct result *result, const char *dir, struct report_output *output,
                    struct error *err)
{
    struct figure_input in = {.result = result};
    size_t drawable = 0;
    int rc = 0;

    for (size_t v = 0; v < result->n_variants; v++) {
        drawable += result_median_run(result, v) != NULL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(figures) && rc == 0 && drawable > 1; i++) {
        if (figures[i].whole_set) {
            rc = draw(&figures[i], &in, dir, "", output, err);
            if (rc < 0) {
                error_wrap(err, "draw %s of %s", figures[i].name, result->dir);
            }
        }
    }
    return rc;
}

int report_draw(const struct result *result, const char *out_dir, struct report_output *ret,
                struct error *err)
{
    int rc = dir_make(out_dir, 0755);

    *ret = (struct report_output){0};
    if (rc < 0) {
        return error_sys(err, rc, "make %s", out_dir);
    }
    for (size_t v = 0; v < result->n_variants && rc == 0; v++) {
        rc = draw_variant(result, v, out_dir, ret, err);
    }
    return rc < 0 ? rc : draw_set(result, out_dir, ret, err);
}

void report_output_clear(struct report_output *output)
{
    for (size_t i = 0; i < output->n_files; i++) {
        free(output->files[i]);
    }
    for (size_t i = 0; i < output->n_notes; i++) {
        free(output->notes[i]);
    }
    free(output->files);
    free(output->notes);
    *output = (struct report_output){0};
}

char *figure_caption(const struct figure_input *in)
{
    static const char *const told[] = {"arrival", "sandbox", "driver"};
    size_t valid = result_count_runs(in->result, in->variant, true);
    char options[256] = "";
    size_t used = 0;

    for (size_t i = 0; i < ARRAY_SIZE(told); i++) {
        const char *value = json_string_value(json_object_get(in->run->options, told[i]));

        if (value && used < sizeof(options)) {
            used +=
                (size_t)snprintf(options + used, sizeof(options) - used, "%s %s, ", told[i], value);
        }
    }
    return valid == 1 ? str_printf("%s%s", options, in->run->dir)
                      : str_printf("%s%s, the median of %zu runs by makespan", options,
                                   in->run->dir, valid);
}

static const struct {
    double seconds;
    const char *name;
} units[] = {{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}};

/* The unit in which a duration is 1 or more, if there is one. */
static size_t unit_of(double seconds)
{
    size_t i = 0;

    while (i + 1 < ARRAY_SIZE(units) && seconds < units[i].seconds * 0.9995) {
        i++;
    }
    return i;
}

const char *figure_number(double value, char *buf, size_t size)
{
    snprintf(buf, size, "%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
    return buf;
}

const char *figure_duration(double seconds, char *buf, size_t size)
{
    size_t i = unit_of(seconds);
    char number[32];

    figure_number(seconds / units[i].seconds, number, sizeof(number));
    snprintf(buf, size, "%s %s", number, units[i].name);
    return buf;
}

const char *figure_round_duration(double seconds, char *buf, size_t size)
{
    size_t i = unit_of(seconds);

    snprintf(buf, size, "%.3g %s", seconds / units[i].seconds, units[i].name);
    return buf;
}

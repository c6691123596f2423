/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "report/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STAGE_1  "{\"n\":1,\"mean_s\":0.1,\"p50_s\":0.1,\"p90_s\":0.1,\"p99_s\":0.1,\"max_s\":0.1}"
#define RUN_GOOD "{\"v\":1,\"valid\":true,\"problems\":[],\"options\":{\"pods\":1}}"
#define SUMMARY(makespan)                                                                          \
    "{\"v\":1,\"pods\":1,\"failed\":0,\"start\":{\"makespan_s\":" makespan                         \
    ",\"pods_per_s\":1,\"cpu_s\":{\"plugin\":0.5,\"total\":1},\"stages\":{\"cni.link\":" STAGE_1   \
    ",\"del\":" STAGE_1 ",\"cni\":" STAGE_1 ",\"total\":" STAGE_1                                  \
    ",\"vm\":{\"n\":0},\"netns\":" STAGE_1 "}}}"

struct folder {
    char path[64];
};

static void put(const struct folder *folder, const char *name, const char *text)
{
    autofree char *path = str_printf("%s/%s", folder->path, name);

    *strrchr(path, '/') = '\0';
    assert_int_equal(dir_make(path, 0755), 0);
    path[strlen(path)] = '/';
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0644), 0);
}

/* A set of two variants, "a" with three runs of 3, 1 and 2 s, "b" with an invalid one. */
static int make_folder(void **state)
{
    static struct folder folder;

    strcpy(folder.path, "/tmp/test-report-XXXXXX");
    assert_non_null(mkdtemp(folder.path));
    put(&folder, "set.json",
        "{\"v\":1,\"variants\":[{\"name\":\"a\"},{\"name\":\"b\"}],\"runs\":["
        "{\"dir\":\"runs/0001\",\"variant\":\"a\",\"repeat\":1,\"valid\":true},"
        "{\"dir\":\"runs/0002\",\"variant\":\"b\",\"repeat\":1,\"valid\":false},"
        "{\"dir\":\"runs/0003\",\"variant\":\"a\",\"repeat\":2,\"valid\":true},"
        "{\"dir\":\"runs/0004\",\"variant\":\"a\",\"repeat\":3,\"valid\":true}]}");
    put(&folder, "runs/0001/run.json", RUN_GOOD);
    put(&folder, "runs/0001/summary.json", SUMMARY("3"));
    put(&folder, "runs/0002/run.json", "{\"v\":1,\"valid\":false,\"problems\":[\"pod p1\"]}");
    put(&folder, "runs/0003/run.json", RUN_GOOD);
    put(&folder, "runs/0003/summary.json", SUMMARY("1.0"));
    put(&folder, "runs/0004/run.json", RUN_GOOD);
    put(&folder, "runs/0004/summary.json", SUMMARY("2"));
    *state = &folder;
    return 0;
}

static int remove_folder(void **state)
{
    return dir_remove(((struct folder *)*state)->path);
}

static void test_load(void **state)
{
    static const char *const stages[] = {"total", "netns", "cni", "cni.link", "del"};
    autoresult struct result *result = NULL;
    const struct result_run *run;
    struct error err = {0};
    size_t variant = 9;

    if (result_load(((struct folder *)*state)->path, &result, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(result->n_variants, 2);
    assert_int_equal(result->n_runs, 4);
    assert_int_equal(result_find_variant(result, "b", &variant, &err), 0);
    assert_int_equal(variant, 1);
    assert_int_equal(result_count_runs(result, 0, true), 3);
    assert_int_equal(result_count_runs(result, 1, false), 1);
    assert_null(result_median_run(result, 1));
    run = result_median_run(result, 0);
    assert_string_equal(run->dir, "runs/0004");
    assert_true(run->start.makespan_s == 2 && run->start.cpu_total_s == 1);
    assert_int_equal(run->start.n_cpu, 1);
    assert_string_equal(run->start.cpu[0].name, "plugin");
    assert_false(run->teardown.present);
    assert_int_equal(run->start.n_stages, ARRAY_SIZE(stages)); /* vm has no span: left out */
    for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
        assert_string_equal(run->start.stages[i].name, stages[i]);
    }
    assert_int_equal(result_find_variant(result, "c", &variant, &err), -ENOENT);
    assert_non_null(strstr(err.text, "there is: a, b"));
}

static void test_even_number_of_runs(void **state)
{
    autoresult struct result *result = NULL;
    const struct folder *folder = *state;

    put(folder, "runs/0001/run.json", "{\"v\":1,\"valid\":false}");
    assert_int_equal(result_load(folder->path, &result, NULL), 0);
    assert_int_equal(result_count_runs(result, 0, true), 2); /* run.json's word counts too */
    assert_string_equal(result_median_run(result, 0)->dir, "runs/0003");
}

/* A run whose summary has no makespan is a run all the same, and never the median one. */
static void test_no_makespan(void **state)
{
    autoresult struct result *result = NULL;
    const struct folder *folder = *state;
    struct error err = {0};

    put(folder, "runs/0001/summary.json", SUMMARY("null"));
    put(folder, "runs/0004/summary.json",
        "{\"v\":1,\"pods\":1,\"failed\":1,\"start\":{\"cpu_s\":{\"total\":1},\"stages\":{}}}");
    if (result_load(folder->path, &result, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(result_count_runs(result, 0, true), 3);
    assert_true(isnan(result->runs[0].start.makespan_s));
    assert_true(result->runs[0].start.pods_per_s == 1);
    assert_true(isnan(result->runs[3].start.makespan_s));
    assert_true(isnan(result->runs[3].start.pods_per_s));
    assert_string_equal(result_median_run(result, 0)->dir, "runs/0003");
}

/* What is wrong with a file, and what the message must name. */
static const struct {
    const char *file, *text, *said;
} bad_files[] = {
    {"set.json", "{", "/set.json: invalid JSON at line 1"},
    {"set.json", "[]", "/set.json: not an object"},
    {"set.json", "{\"variants\":[]}", "/set.json: v: missing"},
    {"set.json", "{\"v\":2}", "/set.json: v: 2 is not allowed"},
    {"set.json", "{\"v\":1}", "/set.json: variants: missing"},
    {"set.json", "{\"v\":1,\"variants\":[3]}", "variants[0]: 3 is not allowed"},
    {"set.json", "{\"v\":1,\"variants\":[{}]}", "variants[0].name: missing"},
    {"set.json", "{\"v\":1,\"variants\":[{\"name\":\"a\\tb\"}]}", "variants[0].name: \"a\\tb\""},
    {"set.json", "{\"v\":1,\"variants\":[{\"name\":\"a\"},{\"name\":\"a\"}]}", "variants[1].name"},
    {"set.json", "{\"v\":1,\"variants\":[]}", "/set.json: runs: missing"},
    {"set.json", "{\"v\":1,\"variants\":[],\"runs\":[{\"dir\":\"../x\"}]}",
     "runs[0].dir: \"../x\""},
    {"set.json", "{\"v\":1,\"variants\":[],\"runs\":[{\"dir\":\"/x\"}]}", "runs[0].dir: \"/x\""},
    {"set.json", "{\"v\":1,\"variants\":[],\"runs\":[{\"dir\":\"r/..\"}]}", "runs[0].dir"},
    {"set.json", "{\"v\":1,\"variants\":[],\"runs\":[{\"dir\":\"r\",\"variant\":\"z\"}]}",
     "runs[0].variant: \"z\""},
    {"runs/0001/run.json", "{\"v\":1}", "/runs/0001/run.json: valid: missing"},
    {"runs/0001/run.json", "{\"v\":1,\"valid\":1}", "/runs/0001/run.json: valid: 1"},
    {"runs/0001/summary.json", "", "/runs/0001/summary.json: invalid JSON"},
    {"runs/0001/summary.json", "{\"v\":1,\"pods\":-1}", "pods: -1 is not allowed"},
    {"runs/0001/summary.json", "{\"v\":1,\"pods\":1,\"failed\":0}", "start: missing"},
    {"runs/0001/summary.json", SUMMARY("\"1\""), "start.makespan_s: \"1\" is not allowed"},
    {"runs/0001/summary.json", SUMMARY("-1"), "start.makespan_s: -1"},
    {"runs/0001/summary.json", SUMMARY("true"), "start.makespan_s: true"},
    {"runs/0001/summary.json", SUMMARY("1e999"), "invalid JSON"},
    {"runs/0001/summary.json",
     "{\"v\":1,\"pods\":1,\"failed\":0,\"start\":{\"makespan_s\":1,\"pods_per_s\":1,\"cpu_s\":{}}}",
     "start.cpu_s.total: missing"},
    {"runs/0001/summary.json",
     "{\"v\":1,\"pods\":1,\"failed\":0,\"start\":{\"makespan_s\":1,\"pods_per_s\":1,"
     "\"cpu_s\":{\"total\":1},\"stages\":{\"cni\":{\"n\":1,\"mean_s\":1,\"p50_s\":true}}}}",
     "start.stages.cni.p50_s: true is not allowed"},
};

static void test_bad_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad_files); i++) {
        autoresult struct result *result = NULL;
        void *folder = NULL;
        struct error err = {0};

        make_folder(&folder);
        put(folder, bad_files[i].file, bad_files[i].text);
        assert_true(result_load(((struct folder *)folder)->path, &result, &err) < 0);
        if (!strstr(err.text, bad_files[i].said)) {
            fail_msg("%zu: '%s' does not say '%s'", i, err.text, bad_files[i].said);
        }
        remove_folder(&folder);
    }
}

static void test_missing_files(void **state)
{
    autoresult struct result *result = NULL;
    const struct folder *folder = *state;
    autofree char *summary = str_printf("%s/runs/0003/summary.json", folder->path);
    struct error err = {0};

    assert_int_equal(unlink(summary), 0);
    assert_int_equal(result_load(folder->path, &result, &err), -ENOENT);
    assert_non_null(strstr(err.text, "runs/0003/summary.json: No such file"));
    assert_int_equal(result_load("/nowhere", &result, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nowhere is not a result folder"));
}

/* ---- comparing ---- */

static const struct comparison_metric *metric_of(const struct comparison *comparison,
                                                 const char *name)
{
    for (size_t i = 0; i < comparison->n; i++) {
        if (!strcmp(comparison->metrics[i].name, name)) {
            return &comparison->metrics[i];
        }
    }
    fail_msg("no metric %s", name);
    return NULL;
}

/* Makes a and b variants of n and n_b runs: a's last 1 to 3 s in turn, each of b's as in summary.
 */
static void give_runs(const struct folder *folder, int n, int n_b, const char *summary)
{
    static const char *const summaries[] = {SUMMARY("1"), SUMMARY("2"), SUMMARY("3")};
    json_t *runs = json_array();
    autojson json_t *set = json_pack("{s:i, s:[{s:s}, {s:s}], s:o}", "v", 1, "variants", "name",
                                     "a", "name", "b", "runs", runs);
    autofree char *text = NULL;

    for (int i = 0; i < n + n_b; i++) {
        autofree char *dir = str_printf("runs/b%d", i);
        autofree char *run = str_printf("%s/run.json", dir);
        autofree char *sum = str_printf("%s/summary.json", dir);

        json_array_append_new(runs, json_pack("{s:s, s:s, s:i, s:b}", "dir", dir, "variant",
                                              i < n ? "a" : "b", "repeat", i, "valid", 1));
        put(folder, run, i < n ? RUN_GOOD : "{\"v\":1,\"valid\":true,\"options\":{\"pods\":2}}");
        put(folder, sum, i < n ? summaries[i % 3] : summary);
    }
    text = json_dumps(set, 0);
    put(folder, "set.json", text);
}

static void test_compare(void **state)
{
    autoresult struct result *result = NULL;
    struct comparison comparison = {0};
    const struct comparison_metric *metric;

    give_runs(*state, 5, 6, SUMMARY("0.5"));
    assert_int_equal(result_load(((struct folder *)*state)->path, &result, NULL), 0);
    assert_int_equal(comparison_make(result, 0, result, 1, &comparison, NULL), 0);
    assert_int_equal(comparison.a_valid, 5);
    assert_int_equal(comparison.b_valid, 6);
    assert_string_equal(comparison.differences, "pods 1 / 2");
    metric = metric_of(&comparison, "makespan_s");
    assert_true(metric->a == 2 && metric->b == 0.5 && metric->ratio.point == 4);
    assert_true(metric->ratio.low == 2 && metric->ratio.high == 6);
    assert_string_equal(comparison_word_text(metric), "faster");
    metric = metric_of(&comparison, "stages.cni.link.p99_s");
    assert_string_equal(comparison_word_text(metric), "no clear difference");
    assert_true(metric_of(&comparison, "cpu_s.plugin")->cpu);
    comparison_clear(&comparison);

    assert_int_equal(comparison_make(result, 1, result, 0, &comparison, NULL), 0);
    assert_string_equal(comparison_word_text(metric_of(&comparison, "makespan_s")), "slower");
    comparison_clear(&comparison);
}

/* Below 5 runs on either side there is no verdict; below 2 no interval either. */
static void test_compare_few_runs(void **state)
{
    static const int runs[][2] = {{5, 4}, {4, 5}, {2, 2}, {5, 1}, {1, 5}, {1, 1}};

    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        autoresult struct result *result = NULL;
        struct comparison comparison = {0};
        const struct comparison_metric *metric;

        give_runs(*state, runs[i][0], runs[i][1], SUMMARY("0.5"));
        assert_int_equal(result_load(((struct folder *)*state)->path, &result, NULL), 0);
        assert_int_equal(comparison_make(result, 0, result, 1, &comparison, NULL), 0);
        metric = metric_of(&comparison, "makespan_s");
        assert_string_equal(comparison_word_text(metric), "too few runs");
        assert_int_equal(isnan(metric->ratio.low), runs[i][0] < 2 || runs[i][1] < 2);
        comparison_clear(&comparison);
    }
}

/* A run without a makespan counts for the rest only. */
static void test_compare_no_makespan(void **state)
{
    autoresult struct result *result = NULL;
    struct comparison comparison = {0};

    give_runs(*state, 5, 5, SUMMARY("null"));
    assert_int_equal(result_load(((struct folder *)*state)->path, &result, NULL), 0);
    assert_int_equal(comparison_make(result, 0, result, 1, &comparison, NULL), 0);
    assert_string_equal(comparison_word_text(metric_of(&comparison, "makespan_s")), "only in A");
    assert_int_equal(metric_of(&comparison, "pods_per_s")->n_b, 5);
    comparison_clear(&comparison);
}

static void test_compare_no_run(void **state)
{
    autoresult struct result *result = NULL;
    struct comparison comparison = {0};
    struct error err = {0};

    assert_int_equal(result_load(((struct folder *)*state)->path, &result, NULL), 0);
    assert_int_equal(comparison_make(result, 0, result, 1, &comparison, &err), -ENODATA);
    assert_non_null(strstr(err.text, "no valid run of b"));
}

/* ---- drawing ---- */

#define SPAN(stage, t0, t1)                                                                        \
    "{\"v\":1,\"pod\":\"p_1\",\"stage\":\"" stage "\",\"t0_ns\":" t0 ",\"t1_ns\":" t1 "}\n"

static void test_no_gnuplot(void **state)
{
    autoresult struct result *result = NULL;
    const struct folder *folder = *state;
    autofree char *path = strdup(getenv("PATH"));
    autofree char *out = str_printf("%s/report", folder->path);
    struct report_output output;
    struct error err = {0};

    put(folder, "runs/0004/spans.jsonl", SPAN("total", "1", "9"));
    assert_int_equal(result_load(folder->path, &result, NULL), 0);
    setenv("PATH", "/nowhere", 1);
    assert_int_equal(report_draw(result, out, &output, &err), -ENOENT);
    setenv("PATH", path, 1);
    report_output_clear(&output);
    assert_non_null(strstr(err.text, "gnuplot-nox"));
}

/* A name that would do harm if gnuplot took it for anything but text. */
static void test_draw_any_name(void **state)
{
    const struct folder *folder = *state;
    autofree char *trap = str_printf("%s/trap", folder->path);
    autofree char *out = str_printf("%s/it's", folder->path);
    autofree char *set = str_printf(
        "{\"v\":1,\"variants\":[{\"name\":\"'`touch %s`\"},{\"name\":\"<x_1>&@a #\\\"\\\\\"}],"
        "\"runs\":[{\"dir\":\"runs/0001\",\"variant\":\"'`touch %s`\",\"repeat\":1,\"valid\":true},"
        "{\"dir\":\"runs/0004\",\"variant\":\"<x_1>&@a #\\\"\\\\\",\"repeat\":1,\"valid\":true}]}",
        trap, trap);
    autoresult struct result *result = NULL;
    struct report_output output;
    struct error err = {0};

    if (access("/usr/bin/gnuplot", X_OK) < 0) {
        print_message("gnuplot is not installed\n");
        skip();
    }
    put(folder, "set.json", set);
    put(folder, "runs/0001/spans.jsonl", SPAN("total", "1", "9") SPAN("cni", "2", "8"));
    put(folder, "runs/0004/spans.jsonl", "?\n" SPAN("total", "1", "9") SPAN("cni.x'y", "2", "2"));
    assert_int_equal(result_load(folder->path, &result, NULL), 0);
    if (report_draw(result, out, &output, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(output.n_files, 3 * 5); /* 2 figures of 2 variants, 1 of both */
    assert_int_equal(output.n_notes, 1);
    for (size_t i = 0; i < output.n_files; i++) {
        assert_int_equal(access(output.files[i], R_OK), 0);
    }
    assert_int_equal(access(trap, F_OK), -1);
    report_output_clear(&output);
}

/* Draws a's median run of such spans and returns the timeline's script. */
static char *draw_timeline(const struct folder *folder, const char *spans)
{
    autofree char *out = str_printf("%s/out", folder->path), *script = NULL;
    autoresult struct result *result = NULL;
    struct report_output output;
    struct error err = {0};
    char *text;
    size_t len;

    put(folder, "runs/0004/spans.jsonl", spans);
    assert_int_equal(result_load(folder->path, &result, NULL), 0);
    if (report_draw(result, out, &output, &err) < 0) {
        fail_msg("%s", err.text);
    }
    report_output_clear(&output);
    script = str_printf("%s/timeline-a.gp", out);
    assert_int_equal(file_read(script, 1 << 20, &text, &len), 0);
    return text;
}

static void test_waiting_is_drawn_apart(void **state)
{
    autofree char *script = NULL, *without = NULL;

    if (access("/usr/bin/gnuplot", X_OK) < 0) {
        print_message("gnuplot is not installed\n");
        skip();
    }
    script = draw_timeline(
        *state, SPAN("total", "1000000000", "9000000000") SPAN("cni", "2000000000", "8000000000")
                    SPAN("cni.gate", "3000000000", "5000000000,\"wait_ns\":2000000000")
                        SPAN("vm", "8000000000", "9000000000,\"wait_ns\":7000000000"));
    assert_non_null(strstr(script, "$cni << EOD\n1.000000 7.000000 1\nEOD"));
    assert_non_null(strstr(script, "$cni_wait << EOD\n2.000000 4.000000 1\nEOD"));
    /* Never longer than the bar, whatever the file says. */
    assert_non_null(strstr(script, "$vm_wait << EOD\n7.000000 8.000000 1\nEOD"));
    assert_non_null(strstr(script, "'lighter: waiting at the gate'"));
    without = draw_timeline(*state, SPAN("total", "1000000000", "9000000000"));
    assert_null(strstr(without, "waiting"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_load, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_even_number_of_runs, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_no_makespan, make_folder, remove_folder),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test_setup_teardown(test_missing_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_compare, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_compare_few_runs, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_compare_no_makespan, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_compare_no_run, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_no_gnuplot, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_draw_any_name, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_waiting_is_drawn_apart, make_folder, remove_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

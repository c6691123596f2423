/* SPDX-License-Identifier: Apache-2.0 */
/* sluice report: draws a result's figures and says where they are. */
#include "command.h"

#include "report/report.h"

static const char help[] =
    "Usage: sluice report DIR [--out DIR2]\n"
    "\n"
    "Draws the figures of a result folder (made by 'sluice bench') with gnuplot: for each variant\n"
    "a timeline of all pods and the stages' durations, and, where there are several variants, a\n"
    "comparison. Each is written as SVG and PNG with the gnuplot script that draws it, and the\n"
    "files' names are printed.\n"
    "\n"
    "  -o, --out DIR2  where to write (DIR/report)\n"
    "  -h, --help      this text\n";

int command_report(int argc, char **argv)
{
    static const struct option options[] = {
        {"out", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    autoresult struct result *result = NULL;
    autofree char *default_out = NULL;
    struct report_output output = {0};
    struct error err = {0};
    const char *out = NULL;
    int rc;
    bool drawn;

    while (command_option(argc, argv, "ho:", options, help, &rc) != -1) {
        out = optarg;
    }
    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (argc - optind != 1) {
        return command_usage(argv[0], "needs one result folder");
    }
    if (!out) {
        default_out = str_printf("%s/report", argv[optind]);
        out = default_out ? default_out : "report";
    }
    rc = result_load(argv[optind], &result, &err);
    rc = rc < 0 ? rc : report_draw(result, out, &output, &err);
    for (size_t i = 0; i < output.n_files; i++) {
        printf("%s\n", output.files[i]);
    }
    for (size_t i = 0; i < output.n_notes; i++) {
        fprintf(stderr, "sluice %s: %s\n", argv[0], output.notes[i]);
    }
    drawn = output.n_files > 0;
    report_output_clear(&output);
    if (rc < 0) {
        return command_fail(argv[0], &err);
    }
    if (!drawn) {
        fprintf(stderr, "sluice %s: %s has no valid run: nothing drawn\n", argv[0], argv[optind]);
        return EXIT_INVALID_RESULT;
    }
    return EXIT_DONE;
}

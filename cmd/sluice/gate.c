/* SPDX-License-Identifier: Apache-2.0 */
/* sluice gate: the agent's gates, looked at, set, saved and watched. */
#include "command.h"
#include "gate/gate.h"
#include "rpc/call.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CALL_S     10
#define FILE_MAX   (1 << 20)
#define INTERVAL_S 1

struct arguments {
    const char *instance;
    char **words; /* after the verb */
    size_t n_words;
    int64_t interval_ns;
    int64_t count; /* 0: until Ctrl-C */
    bool json;
};

static const char help[] =
    "Usage: sluice gate show|set|load|save|watch [ARGUMENT]... [OPTION]...\n"
    "\n"
    "A gate limits how many pods are in a stage at once; those that come later wait, first come\n"
    "first served within a tenant, tenants in turn. The gates are the agent's.\n"
    "\n"
    "  show                each gate: its limit, who holds and waits, what was so far\n"
    "  set STAGE=N...      set limits, all or none; 0: no limit. They last until the agent ends\n"
    "  load FILE           set the limits of a file, as sluice tune writes it; -: standard input\n"
    "  load                set those that were saved\n"
    "  save                keep what is set now, for the agent's next start\n"
    "  watch               a line for each gate that is in use, again and again until Ctrl-C\n"
    "\n"
    "STAGE is netns, cni, cgroup, nic, vm, limits or total.\n"
    "\n"
    "  --instance DIR      the instance (default: $SLUICE_INSTANCE, else " INSTANCE_DEFAULT_DIR
    ")\n"
    "  --interval S        with watch: seconds between looks, 0.01 to 3600 (default 1)\n"
    "  --count N           with watch: end after N looks\n"
    "  --json              print the agent's answer\n"
    "  --help              print this\n";

/* ---- arguments ---- */

static int read_interval(const char *text, int64_t *ret_ns)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end || !(seconds >= 0.01 && seconds <= 3600)) {
        return -EINVAL;
    }
    *ret_ns = (int64_t)(seconds * NSEC_PER_SEC);
    return 0;
}

/* COMMAND_GO_ON or an exit code. */
static int parse(int argc, char **argv, struct arguments *ret, bool *ret_paced)
{
    static const struct option options[] = {
        {"instance", required_argument, NULL, 'i'}, {"interval", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'n'},    {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},           {0}};
    const char *instance = NULL;
    int c, rc;

    while ((c = command_option(argc, argv, "h", options, help, &rc)) != -1) {
        *ret_paced = *ret_paced || c == 's' || c == 'n';
        switch (c) {
        case 'i':
            instance = optarg;
            break;
        case 's':
            if (read_interval(optarg, &ret->interval_ns) < 0) {
                return command_usage(argv[0],
                                     "--interval \"%.32s\" is not allowed; must be seconds from "
                                     "0.01 to 3600",
                                     optarg);
            }
            break;
        case 'n':
            if (str_to_int64(optarg, 1, INT64_MAX, &ret->count) < 0) {
                return command_usage(argv[0],
                                     "--count \"%.32s\" is not allowed; must be a whole number "
                                     "from 1",
                                     optarg);
            }
            break;
        default:
            ret->json = true;
            break;
        }
    }
    return rc != COMMAND_GO_ON ? rc : command_instance(argv[0], instance, &ret->instance);
}

/* ---- the agent ---- */

static int ask(const struct arguments *args, const char *method, json_t *params, json_t **ret,
               struct error *err)
{
    return rpc_ask_once(args->instance, method, params, clock_ns() + CALL_S * NSEC_PER_SEC, ret,
                        err);
}

static int64_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static double seconds(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_json(const json_t *json, size_t flags)
{
    json_dumpf(json, stdout, flags);
    printf("\n");
}

/* ---- durations and limits as text ---- */

struct text {
    char text[24];
};

/* "-" where there is none. */
static struct text duration(double s)
{
    struct text ret;

    if (!isfinite(s)) {
        return (struct text){"-"};
    }
    snprintf(ret.text, sizeof(ret.text), s < 1 ? "%.2f ms" : "%.2f s", s < 1 ? s * 1e3 : s);
    return ret;
}

static struct text limit_text(const json_t *gate)
{
    int64_t limit = number(gate, "limit");
    struct text ret = {"-"};

    if (limit) {
        snprintf(ret.text, sizeof(ret.text), "%lld", (long long)limit);
    }
    return ret;
}

static double longest_wait(const json_t *gate)
{
    return number(gate, "waiting") ? (double)number(gate, "longest_wait_ns") / NSEC_PER_SEC : NAN;
}

/* ---- show ---- */

static void print_gates(const json_t *gates)
{
    const json_t *gate;
    size_t i;

    printf("%-7s %6s %8s %8s %13s %9s %10s %10s %8s %9s\n", "stage", "limit", "holding", "waiting",
           "longest wait", "admitted", "mean wait", "mean hold", "expired", "given up");
    json_array_foreach (gates, i, gate) {
        int64_t admitted = number(gate, "admitted"), held = number(gate, "held");
        double wait = seconds(gate, "wait_sum_s") / (double)admitted;
        double hold = seconds(gate, "hold_sum_s") / (double)(admitted - held); /* of those over */

        printf("%-7s %6s %8lld %8lld %13s %9lld %10s %10s %8lld %9lld\n",
               json_string_value(json_object_get(gate, "stage")), limit_text(gate).text,
               (long long)held, (long long)number(gate, "waiting"),
               duration(longest_wait(gate)).text, (long long)admitted, duration(wait).text,
               duration(hold).text, (long long)number(gate, "expired"),
               (long long)number(gate, "given_up"));
    }
}

static int show(const struct arguments *args, struct error *err)
{
    autojson json_t *answer = NULL;
    int rc = ask(args, "gate.show", NULL, &answer, err);

    if (rc < 0) {
        return rc;
    }
    if (args->json) {
        print_json(answer, JSON_INDENT(2));
    } else {
        print_gates(json_object_get(answer, "gates"));
    }
    return EXIT_DONE;
}

/* ---- set, load, save ---- */

/* As set takes them. */
static void print_limits(const json_t *answer)
{
    const json_t *limits = json_object_get(answer, "limits");

    for (size_t i = 0; i < span_n_stages; i++) {
        printf("%s%s=%lld", i ? " " : "", span_stages[i].name,
               (long long)number(limits, span_stages[i].name));
    }
    printf("\n");
}

/* Sets them (stolen) and tells what is set then. */
static int set_limits(const struct arguments *args, const char *method, json_t *params,
                      struct error *err)
{
    autojson json_t *answer = NULL;
    int rc = ask(args, method, params, &answer, err);

    if (rc < 0) {
        return rc;
    }
    if (args->json) {
        print_json(answer, JSON_INDENT(2));
    } else {
        print_limits(answer);
    }
    return EXIT_DONE;
}

static int set(const struct arguments *args, struct error *err)
{
    autojson json_t *limits = json_object();

    for (size_t i = 0; i < args->n_words; i++) {
        const char *name;
        unsigned limit;
        size_t stage;

        if (gate_setting_parse(args->words[i], &stage, &limit, err) < 0) {
            return command_usage("gate", "%s", err->text);
        }
        name = span_stages[stage].name;
        if (json_object_get(limits, name)) {
            return command_usage("gate", "%s is said twice", name);
        }
        json_object_set_new(limits, name, json_integer(limit));
    }
    return set_limits(args, "gate.set", json_pack("{s:i, s:O}", "v", 1, "limits", limits), err);
}

/* What the limits are founded on ("evidence") stays here. */
static int read_limits_file(const char *path, json_t **ret, struct error *err)
{
    autojson json_t *json = NULL;
    autofree char *text = NULL;
    size_t len;
    int rc = strcmp(path, "-") ? file_read(path, FILE_MAX, &text, &len)
                               : fd_read_all(STDIN_FILENO, FILE_MAX, &text, &len);

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path);
    }
    rc = json_parse(text, len, &json, err);
    if (rc == 0 && !json_is_object(json)) {
        rc = json_bad(err, NULL, "gate limits", json,
                      "an object such as {\"v\":1,\"limits\":{\"cni\":4}}");
    }
    if (rc == 0) {
        json_object_del(json, "evidence");
        *ret = take_ptr(json);
    }
    return rc;
}

static int load(const struct arguments *args, struct error *err)
{
    const char *path = args->n_words ? args->words[0] : NULL;
    json_t *limits = NULL;
    int rc;

    if (!path) {
        return set_limits(args, "gate.load", NULL, err);
    }
    rc = read_limits_file(path, &limits, err);
    if (rc == 0) {
        rc = set_limits(args, "gate.set", limits, err);
    }
    return rc == -EINVAL || rc == -EBADMSG ? error_wrap(err, "%s", path) : rc;
}

static int save(const struct arguments *args, struct error *err)
{
    autojson json_t *answer = NULL;
    int rc = ask(args, "gate.save", NULL, &answer, err);

    if (rc < 0) {
        return rc;
    }
    if (args->json) {
        print_json(answer, JSON_INDENT(2));
    } else {
        printf("%s\n", json_string_value(json_object_get(answer, "file")));
    }
    return EXIT_DONE;
}

/* ---- watch ---- */

/* Looks at the gates' answers; before is the look before this one, NULL at first. Returns the lines
 * written. */
static int print_used(const json_t *gates, const json_t *before, double interval_s)
{
    const json_t *gate;
    char now[16];
    struct tm local;
    time_t clock = time(NULL);
    int lines = 0;
    size_t i;

    strftime(now, sizeof(now), "%H:%M:%S", localtime_r(&clock, &local));
    json_array_foreach (gates, i, gate) {
        const json_t *was = json_array_get(before, i);
        int64_t admitted = was ? number(gate, "admitted") - number(was, "admitted") : 0;
        double wait = was ? seconds(gate, "wait_sum_s") - seconds(was, "wait_sum_s") : 0;

        if (!number(gate, "limit") && !number(gate, "held") && !number(gate, "waiting") &&
            !admitted) {
            continue;
        }
        printf("%s  %-7s %6s %8lld %8lld %13s %11.1f %10s\n", now,
               json_string_value(json_object_get(gate, "stage")), limit_text(gate).text,
               (long long)number(gate, "held"), (long long)number(gate, "waiting"),
               duration(longest_wait(gate)).text, (double)admitted / interval_s,
               duration(admitted ? wait / (double)admitted : NAN).text);
        lines++;
    }
    if (!lines) {
        printf("%s  no gate is in use\n", now);
        lines = 1;
    }
    return lines;
}

static void print_watch_heads(void)
{
    printf("%-8s  %-7s %6s %8s %8s %13s %11s %10s\n", "time", "stage", "limit", "holding",
           "waiting", "longest wait", "admitted/s", "mean wait");
}

/* True when it is time to end. */
static bool sleep_or_end(int64_t duration_ns)
{
    struct timespec time = {duration_ns / NSEC_PER_SEC, duration_ns % NSEC_PER_SEC};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return sigtimedwait(&set, NULL, &time) > 0;
}

/* Signals that end it are only looked at in sleep_or_end, so that a line is written whole. */
static void hold_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static int watch(const struct arguments *args, struct error *err)
{
    bool redraw = isatty(STDOUT_FILENO) && !args->json;
    autojson json_t *before = NULL;
    autoclose int fd = -1;
    int64_t before_ns = 0;
    int lines = 0, rc = rpc_open(args->instance, clock_ns() + CALL_S * NSEC_PER_SEC, &fd, err);

    if (rc < 0) {
        return rc;
    }
    hold_signals();
    if (!args->json) {
        print_watch_heads();
    }
    for (int64_t i = 0; !args->count || i < args->count; i++) {
        autojson json_t *answer = NULL;
        json_t *gates;
        int64_t now_ns;

        if (i && sleep_or_end(args->interval_ns)) {
            break;
        }
        now_ns = clock_ns();
        rc = rpc_ask(fd, "gate.show", NULL, now_ns + CALL_S * NSEC_PER_SEC, &answer, NULL, NULL,
                     err);
        if (rc < 0) {
            return rc;
        }
        gates = json_object_get(answer, "gates");
        if (redraw && lines) {
            printf("\033[%dA\033[J", lines); /* up, and all below cleared */
        }
        if (args->json) {
            print_json(answer, JSON_COMPACT);
        } else {
            lines = print_used(gates, before, (double)(now_ns - before_ns) / NSEC_PER_SEC);
        }
        fflush(stdout);
        json_decref(before);
        before = json_incref(gates);
        before_ns = now_ns;
    }
    return EXIT_DONE;
}

/* ---- the command ---- */

struct verb {
    const char *name;
    int (*run)(const struct arguments *args, struct error *err); /* exit code or negative errno */
    size_t min_words, max_words;
    const char *takes;
};

static const struct verb verbs[] = {
    {"show", show, 0, 0, "no arguments"},      {"set", set, 1, SIZE_MAX, "STAGE=N, one or more"},
    {"load", load, 0, 1, "one FILE, or none"}, {"save", save, 0, 0, "no arguments"},
    {"watch", watch, 0, 0, "no arguments"},
};

int command_gate(int argc, char **argv)
{
    struct arguments args = {.interval_ns = INTERVAL_S * NSEC_PER_SEC};
    const struct verb *verb = NULL;
    struct error err = {0};
    bool paced = false;
    int rc = parse(argc, argv, &args, &paced);

    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (optind == argc) {
        return command_usage(argv[0], "say one of: show, set, load, save, watch");
    }
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        verb = strcmp(verbs[i].name, argv[optind]) ? verb : &verbs[i];
    }
    if (!verb) {
        return command_usage(argv[0], "unknown verb '%s': say show, set, load, save or watch",
                             argv[optind]);
    }
    args.words = argv + optind + 1;
    args.n_words = (size_t)(argc - optind - 1);
    if (args.n_words < verb->min_words || args.n_words > verb->max_words) {
        return command_usage(argv[0], "%s takes %s", verb->name, verb->takes);
    }
    if (paced && verb->run != watch) {
        return command_usage(argv[0], "--interval and --count go with watch");
    }
    rc = verb->run(&args, &err);
    return rc < 0 ? command_fail(argv[0], &err) : rc;
}

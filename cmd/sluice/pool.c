/* SPDX-License-Identifier: Apache-2.0 */
/* sluice pool: the agent's pools, looked at, set, drained and saved. */
#include "command.h"
#include "rpc/call.h"

#include <errno.h>
#include <string.h>

#define CALL_S   10
#define CONF_MAX (1 << 20)

static const char help[] =
    "Usage: sluice pool show|set|drain|save [ARGUMENT]... [OPTION]...\n"
    "\n"
    "A pool keeps parts of a network ready: devices with their OVS ports and addresses for the\n"
    "kind ovs-dev-pool, whole namespaces for the other kinds. The pools are the agent's.\n"
    "\n"
    "  show                     each pool: what is free, what was so far\n"
    "  set NETWORK KEY=N...     change a pool; with --conf FILE make one (NETWORK may be left out)\n"
    "  drain NETWORK            remove what is free, and make no more until it is set again\n"
    "  save                     keep the pools that there are, for the agent's next start\n"
    "\n"
    "Keys: target (free parts to keep), floor (parts before STATUS says ready), maximum (parts\n"
    "free and cooling; default twice the target), rate (parts made a second; default 200),\n"
    "cool_down_ms (before what came back is used again; default 2000).\n"
    "\n"
    "  --conf FILE         with set: the network's configuration, a .conf or .conflist file\n"
    "  --instance DIR      the instance (default: $SLUICE_INSTANCE, else " INSTANCE_DEFAULT_DIR
    ")\n"
    "  --json              print the agent's answer\n"
    "  --help              print this\n"
    "\n"
    "Example: sluice pool set --conf /etc/cni/net.d/10-pods.conflist target=100 floor=20\n";

static const char *const keys[] = {"floor", "target", "maximum", "rate", "cool_down_ms", NULL};

struct arguments {
    const char *instance, *conf;
    bool json;
};

/* ---- what is asked for ---- */

static bool is_our_key(const char *text, size_t len)
{
    for (const char *const *key = keys; *key; key++) {
        if (strlen(*key) == len && !strncmp(*key, text, len)) {
            return true;
        }
    }
    return false;
}

/* "target=100" into an object. */
static int read_setting(const char *text, json_t *pool, struct error *err)
{
    size_t len = strcspn(text, "=");
    int64_t value;

    if (text[len] != '=' || !is_our_key(text, len) ||
        str_to_int64(text + len + 1, 0, UINT32_MAX, &value) < 0) {
        return error_set(err, -EINVAL,
                         "\"%.64s\" is not allowed; must be KEY=N, KEY one of floor, target, "
                         "maximum, rate, cool_down_ms",
                         text);
    }
    json_object_setn_new(pool, text, len, json_integer(value));
    return 0;
}

/* The first plugin of a list, with the list's name and version, or a single configuration. */
static int read_conf(const char *path, json_t **ret, struct error *err)
{
    autofree char *text = NULL;
    autojson json_t *json = NULL;
    json_t *plugin, *plugins = NULL;
    size_t len;
    int rc = file_read(path, CONF_MAX, &text, &len);

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path);
    }
    if ((rc = json_parse(text, len, &json, err)) < 0 ||
        (rc = json_read_array(json, NULL, "plugins", &plugins, err)) < 0) {
        return error_wrap(err, "%s", path);
    }
    plugin = plugins ? json_array_get(plugins, 0) : json;
    if (!json_is_object(plugin)) {
        return error_set(err, -EINVAL, "%s: names no plugin", path);
    }
    *ret = json_copy(plugin);
    json_object_set(*ret, "name", json_object_get(json, "name"));
    json_object_set(*ret, "cniVersion", json_object_get(json, "cniVersion"));
    return 0;
}

/* ---- the table ---- */

static int64_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_pool(const json_t *pool)
{
    const json_t *limits = json_object_get(pool, "limits");

    printf("%-24s %-11s %6lld %6lld %6lld %6lld %6lld %6lld %6lld %8lld %8lld  %s\n",
           json_string_value(json_object_get(pool, "network")),
           json_string_value(json_object_get(pool, "parts")), (long long)number(limits, "floor"),
           (long long)number(limits, "target"), (long long)number(limits, "maximum"),
           (long long)number(pool, "free"), (long long)number(pool, "cooling"),
           (long long)number(pool, "making"), (long long)number(pool, "taken"),
           (long long)number(pool, "hits"), (long long)number(pool, "misses"),
           json_is_true(json_object_get(pool, "draining")) ? "draining"
           : json_is_true(json_object_get(pool, "ready"))  ? "ready"
                                                           : "filling");
}

static void print_pools(const json_t *answer)
{
    const json_t *pools = json_object_get(answer, "pools");
    json_t *pool;
    size_t i;

    if (!json_array_size(pools)) {
        printf("No pools.\n");
        return;
    }
    printf("%-24s %-11s %6s %6s %6s %6s %6s %6s %6s %8s %8s  %s\n", "network", "parts", "floor",
           "target", "max", "free", "cool", "making", "taken", "hits", "misses", "state");
    json_array_foreach (pools, i, pool) {
        print_pool(pool);
    }
}

static void print(const struct arguments *args, const char *verb, const json_t *answer)
{
    if (args->json) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        printf("\n");
    } else if (!strcmp(verb, "save")) {
        printf("%lld pools saved in %s\n", (long long)number(answer, "pools"),
               json_string_value(json_object_get(answer, "file")));
    } else {
        print_pools(answer);
    }
}

/* ---- the verbs ---- */

static int read_set(const struct arguments *args, int n, char **words, json_t *params,
                    struct error *err)
{
    autojson json_t *pool = json_object(), *conf = NULL;
    int rc = args->conf ? read_conf(args->conf, &conf, err) : 0;

    if (rc == 0 && n && !strchr(words[0], '=')) {
        json_object_set_new(params, "network", json_string(words[0]));
        words++;
        n--;
    }
    for (int i = 0; rc == 0 && i < n; i++) {
        rc = read_setting(words[i], pool, err);
    }
    if (rc == 0 && !conf && !json_object_get(params, "network")) {
        rc = error_set(err, -EINVAL, "set needs NETWORK or --conf FILE");
    }
    if (conf) {
        json_object_set(params, "conf", conf);
    }
    json_object_set(params, "pool", pool);
    return rc;
}

/* The method's parameters, or a usage error. */
static int read_verb(const struct arguments *args, int n, char **words, json_t *params,
                     struct error *err)
{
    const char *verb = words[0];

    if (!strcmp(verb, "set")) {
        return read_set(args, n - 1, words + 1, params, err);
    }
    if (!strcmp(verb, "drain") && n == 2) {
        json_object_set_new(params, "network", json_string(words[1]));
        return 0;
    }
    if ((!strcmp(verb, "show") || !strcmp(verb, "save")) && n == 1) {
        return 0;
    }
    return error_set(err, -EINVAL, "must be show, set NETWORK KEY=N..., drain NETWORK or save");
}

int command_pool(int argc, char **argv)
{
    static const struct option options[] = {{"conf", required_argument, NULL, 'c'},
                                            {"instance", required_argument, NULL, 'i'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct arguments args = {0};
    autojson json_t *params = json_object(), *answer = NULL;
    const char *instance = NULL;
    struct error err = {0};
    char method[32];
    int c, rc;

    while ((c = command_option(argc, argv, "h", options, help, &rc)) != -1) {
        args.conf = c == 'c' ? optarg : args.conf;
        instance = c == 'i' ? optarg : instance;
        args.json |= c == 'j';
    }
    if (rc == COMMAND_GO_ON) {
        rc = command_instance(argv[0], instance, &args.instance);
    }
    if (rc != COMMAND_GO_ON) {
        return rc;
    }
    if (optind == argc) {
        return command_usage(argv[0], "must be show, set, drain or save");
    }
    if (read_verb(&args, argc - optind, argv + optind, params, &err) < 0) {
        return command_usage(argv[0], "%s", err.text);
    }
    snprintf(method, sizeof(method), "pool.%s", argv[optind]);
    if (rpc_ask_once(args.instance, method, json_incref(params), clock_ns() + CALL_S * NSEC_PER_SEC,
                     &answer, &err) < 0) {
        return command_fail(argv[0], &err);
    }
    print(&args, argv[optind], answer);
    return EXIT_DONE;
}

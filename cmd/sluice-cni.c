/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sluice-cni: every network kind as a CNI plugin whose work the agent does. Hands over what the
 * runtime said, unparsed; where no agent runs, or it will not do it, executes
 * sluice-cni-standalone. Linked with musl and without libraries, because it is started for every
 * pod.
 */
#include "rpc/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX  ((size_t)16 << 20)
#define DEADLINE_S 110 /* below the two minutes that runtimes give a plugin */

/* Error codes, as in src/cni/cni.h. */
enum {
    CNI_INVALID_ENVIRONMENT = 4,
    CNI_IO_FAILURE = 5,
    CNI_TRY_AGAIN_LATER = 11,
    CNI_NOT_FOUND = 104,
};

extern char **environ;

struct call {
    char *input; /* standard input */
    size_t input_len;
    int64_t start_ns, deadline_s;
    char instance[256]; /* a longer one has no socket */
};

/* ---- what the configuration says, without parsing it ---- */

struct string {
    const char *text; /* NULL: not a string, or one with escapes */
    size_t len;
};

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* The string after the colon that follows a key; false when there is no colon: not a key. */
static bool read_value(const char *after_key, struct string *ret)
{
    const char *p = skip_blanks(after_key);

    if (*p != ':') {
        return false;
    }
    p = skip_blanks(p + 1);
    if (*p == '"') {
        size_t len = strcspn(++p, "\"\\");

        if (p[len] == '"') {
            *ret = (struct string){p, len};
        }
    }
    return true;
}

/* How often a key (with its quotes) occurs, at any depth; and the first one's value. */
static int find_key(const struct call *call, const char *key, struct string *ret_first)
{
    const char *p = call->input, *end = p + call->input_len;
    size_t len = strlen(key);
    int n = 0;

    *ret_first = (struct string){0};
    while ((p = memmem(p, (size_t)(end - p), key, len))) {
        struct string value = {0};

        p += len;
        if (read_value(p, &value) && ++n == 1) {
            *ret_first = value;
        }
    }
    return n;
}

/* False when only a parser could tell which instance is meant, or it can't have a socket. */
static bool find_instance(struct call *call)
{
    struct string dir;
    int n = find_key(call, "\"sluiceDir\"", &dir);

    if (n > 1 || (n == 1 && !dir.text) || dir.len >= sizeof(call->instance)) {
        return false;
    }
    if (dir.len) {
        memcpy(call->instance, dir.text, dir.len);
        call->instance[dir.len] = '\0';
    } else if (str_copy(call->instance, sizeof(call->instance), instance_dir(NULL)) < 0) {
        return false;
    }
    return call->instance[0] == '/';
}

/* ---- answers of our own ---- */

static PRINTF_LIKE(3, 4) int fail(const struct call *call, unsigned code, const char *fmt, ...)
{
    char msg[1024], quoted[6 * sizeof(msg)]; /* room for every byte as an escape */
    struct string version;
    va_list args;

    va_start(args, fmt);
    vsnprintf(msg, sizeof(msg), fmt, args);
    va_end(args);
    find_key(call, "\"cniVersion\"", &version);
    if (!version.text || version.len > 16 || strspn(version.text, "0123456789.") != version.len) {
        version = (struct string){"1.1.0", 5};
    }
    if (json_quote(quoted, sizeof(quoted), msg) > 0) {
        dprintf(STDOUT_FILENO,
                "{\n    \"cniVersion\": \"%.*s\",\n    \"code\": %u,\n    \"msg\": %s\n}\n",
                (int)version.len, version.text, code, quoted);
    }
    return 1;
}

/* Becomes the standalone plugin, which finds standard input as we found it. */
static int run_standalone(const struct call *call)
{
    char path[4096];
    char *argv[] = {path, NULL};
    int fd, rc = memfd_sealed(call->input, call->input_len, &fd);

    if (rc < 0 || dup2(fd, STDIN_FILENO) < 0) {
        return fail(call, CNI_IO_FAILURE, "pass on the network configuration: %s",
                    strerror(rc < 0 ? -rc : errno));
    }
    program_path("sluice-cni-standalone", SLUICE_LIBEXECDIR, path, sizeof(path));
    execve(path, argv, environ);
    return fail(call, CNI_NOT_FOUND, "execute %s: %s", path, strerror(errno));
}

/* The work was begun, and nobody knows how far it came. ADD alone can't be done over. */
static int lost(const struct call *call, int rc)
{
    const char *command = getenv("CNI_COMMAND");

    if (!command || strcmp(command, "ADD") != 0) {
        return run_standalone(call);
    }
    if (rc == -ECONNRESET) {
        return fail(call, CNI_TRY_AGAIN_LATER,
                    "the agent ended while it worked on this; DEL and try again");
    }
    return fail(call, CNI_TRY_AGAIN_LATER, "receive the agent's answer: %s; DEL and try again",
                strerror(-rc));
}

static int timed_out(const struct call *call)
{
    return fail(call, CNI_TRY_AGAIN_LATER, "the agent did not answer within %d s",
                (int)call->deadline_s);
}

/* ---- the agent's answer ---- */

/* A result nobody got is no result: the runtime must hear of it. */
static int print(const struct rpc_message *answer, int status)
{
    const char *body = answer->body;
    size_t len = answer->body_len;

    if (fd_write_all(STDOUT_FILENO, body, len) < 0 ||
        (len && body[len - 1] != '\n' && fd_write_all(STDOUT_FILENO, "\n", 1) < 0)) {
        return 1;
    }
    return status;
}

/* A new buffer: the environment, as in /proc/self/environ, and the input behind it. */
static char *make_body(const struct call *call, size_t *ret_environment, size_t *ret_len)
{
    size_t len = 0;
    char *body, *p;

    for (char **e = environ; *e; e++) {
        len += strlen(*e) + 1;
    }
    *ret_environment = len;
    *ret_len = len + call->input_len;
    p = body = malloc(*ret_len + 1);
    for (char **e = environ; body && *e; e++) {
        p = stpcpy(p, *e) + 1;
    }
    if (body) {
        memcpy(p, call->input, call->input_len);
    }
    return body;
}

static int open_netns(void)
{
    const char *path = getenv("CNI_NETNS");

    /* O_NONBLOCK: a path to a FIFO must not hang us. */
    return path && *path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
}

/* Milliseconds that the agent gets: less than ours, so that its own error comes in time. */
static int agent_deadline_ms(int64_t deadline_ns)
{
    int left = clock_left_ms(deadline_ns);

    return left - (left > 10000 ? 1000 : left / 10);
}

static int ask_agent(const struct call *call)
{
    int64_t deadline_ns = call->start_ns + call->deadline_s * NSEC_PER_SEC;
    autoclose int netns_fd = open_netns(), fd = -1;
    struct rpc_part request = {.fds = &netns_fd, .n_fds = netns_fd >= 0};
    struct rpc_message answer;
    size_t environment;
    char header[128];
    int rc = rpc_connect(call->instance, deadline_ns, &fd);

    if (rc < 0) {
        return rc == -ETIMEDOUT ? timed_out(call) : run_standalone(call);
    }
    request.body = make_body(call, &environment, &request.body_len);
    if (!request.body || request.body_len > RPC_BODY_MAX) {
        return run_standalone(call);
    }
    snprintf(header, sizeof(header),
             "{\"id\":1,\"method\":\"cni.run\",\"params\":{\"environment\":%zu,"
             "\"deadline_ms\":%d}}",
             environment, agent_deadline_ms(deadline_ns));
    request.header = header;
    rc = rpc_call(fd, &request, deadline_ns, &answer);
    if (rc == -ETIMEDOUT) {
        return timed_out(call);
    }
    if (rc < 0) {
        return rc == -EPIPE ? run_standalone(call) : lost(call, rc);
    }
    if (rpc_reply_ok(&answer)) {
        return print(&answer, 0);
    }
    /* An error without a body: it began nothing. */
    return answer.body_len ? print(&answer, 1) : run_standalone(call);
}

int main(void)
{
    struct call call = {.start_ns = clock_ns(), .deadline_s = DEADLINE_S};
    const char *deadline = getenv("SLUICE_DEADLINE_S");
    int rc = fd_read_all(STDIN_FILENO, INPUT_MAX, &call.input, &call.input_len);

    if (rc < 0) {
        return fail(&call, CNI_IO_FAILURE, "read the network configuration: %s", strerror(-rc));
    }
    if (deadline && *deadline && str_to_int64(deadline, 1, 3600, &call.deadline_s) < 0) {
        return fail(&call, CNI_INVALID_ENVIRONMENT,
                    "SLUICE_DEADLINE_S: \"%.128s\" is not allowed; must be a whole number of "
                    "seconds from 1 to 3600",
                    deadline);
    }
    return find_instance(&call) ? ask_agent(&call) : run_standalone(&call);
}

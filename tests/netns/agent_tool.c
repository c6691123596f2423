/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_tool [--hold] [--times N] INSTANCE [METHOD PARAMS]... [-]
 *
 * Calls of the agent's methods on one connection: sends all requests at once, each N times, with
 * ids from 1 on, and prints the answers as they come, a line each. With "-", requests are read from
 * standard input too, as lines "METHOD PARAMS". Ends when all are answered; with --hold it keeps
 * the connection until it is killed or the agent goes. Exits with 1 when an answer was an error, 3
 * when the agent went.
 */
#include "rpc/call.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, AGENT_GONE = 3 };

struct talk {
    int fd;
    int64_t next_id;
    size_t open; /* requests not answered yet */
    bool refused;
};

static bool ask(struct talk *talk, const char *method, const char *params)
{
    autofree char *header = str_printf("{\"id\":%lld,\"method\":\"%s\",\"params\":%s}",
                                       (long long)++talk->next_id, method, params);
    struct rpc_part part = {.header = header};

    talk->open++;
    return header && rpc_send(talk->fd, &part) == 0;
}

static bool print_answer(struct talk *talk)
{
    struct rpc_message message;

    if (rpc_receive(talk->fd, NULL, &message) <= 0) {
        return false;
    }
    printf("%s\n", message.header);
    fflush(stdout);
    talk->open--;
    talk->refused = talk->refused || strstr(message.header, ",\"error\":{");
    rpc_message_clear(&message);
    return true;
}

/* One line of standard input; *ret_end at its end. */
static bool ask_line(struct talk *talk, bool *ret_end)
{
    char line[4096], *params;

    if (!fgets(line, sizeof(line), stdin)) {
        *ret_end = true;
        return true;
    }
    line[strcspn(line, "\n")] = '\0';
    params = strchr(line, ' ');
    if (params) {
        *params++ = '\0';
    }
    return ask(talk, line, params ? params : "{}");
}

static int converse(struct talk *talk, bool reads, bool hold)
{
    setvbuf(stdin, NULL, _IONBF, 0); /* or poll would not see what is buffered */
    while (talk->open || reads || hold) {
        struct pollfd fds[] = {{talk->fd, POLLIN, 0}, {reads ? STDIN_FILENO : -1, POLLIN, 0}};
        bool end = false;

        if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
            return FAILED;
        }
        if ((fds[0].revents && !print_answer(talk)) || (fds[1].revents && !ask_line(talk, &end))) {
            fprintf(stderr, "agent_tool: the agent went\n");
            return AGENT_GONE;
        }
        reads = reads && !end;
    }
    return talk->refused ? FAILED : 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: agent_tool [--hold] [--times N] INSTANCE [METHOD PARAMS]... [-]\n");
    return USAGE;
}

int main(int argc, char **argv)
{
    struct talk talk = {.fd = -1};
    bool hold = false, reads;
    struct error err = {0};
    int64_t times = 1;
    int i = 1, status;

    for (; i < argc && str_has_prefix(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--hold")) {
            hold = true;
        } else if (strcmp(argv[i], "--times") || ++i == argc ||
                   str_to_int64(argv[i], 1, 100000, &times) < 0) {
            return usage();
        }
    }
    reads = argc - i > 1 && !strcmp(argv[argc - 1], "-");
    if (i == argc || (argc - i - 1 - reads) % 2) {
        return usage();
    }
    if (rpc_open(argv[i++], clock_ns() + 10 * NSEC_PER_SEC, &talk.fd, &err) < 0) {
        fprintf(stderr, "agent_tool: %s\n", err.text);
        return FAILED;
    }
    for (; i + 1 < argc; i += 2) {
        for (int64_t k = 0; k < times; k++) {
            if (!ask(&talk, argv[i], argv[i + 1])) {
                return AGENT_GONE;
            }
        }
    }
    status = converse(&talk, reads, hold);
    close(talk.fd);
    return status;
}

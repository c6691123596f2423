/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every room needs and no library gives: errors that carry text, cleanup attributes, logging,
 * clocks, strings, files, child processes. Calls nothing else in Sluice and no third-party library.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/types.h>

#define ARRAY_SIZE(a)        (sizeof(a) / sizeof((a)[0]))
#define PRINTF_LIKE(fmt, va) __attribute__((format(printf, fmt, va)))

/* ---- errors (error.c) ---- */

/*
 * An error that a person or a protocol must be told. errnum is a negative errno; code is a
 * protocol's own number for it (CNI's, in src/cni) or 0 when nobody chose one. A text too long for
 * the room is cut at its end.
 */
struct error {
    int errnum;
    unsigned code;
    char text[1024];
};

/* Fills err (may be NULL) and returns errnum, so that a caller can `return error_set(...)`. */
int error_set(struct error *err, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As error_set, with the errno's own text after a colon. */
int error_sys(struct error *err, int errnum, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As error_set, with a protocol's code. */
int error_code(struct error *err, unsigned code, int errnum, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* Puts context and a colon in front of what err says; returns err's errnum (-EIO for NULL). */
int error_wrap(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- cleanup (used as attributes on locals) ---- */

void cleanup_fd(int *fd);
void cleanup_free(void *p);
void cleanup_file(FILE **f);

#define autoclose __attribute__((cleanup(cleanup_fd)))
#define autofree  __attribute__((cleanup(cleanup_free)))
#define autofile  __attribute__((cleanup(cleanup_file)))

/* Hands the descriptor or pointer out and leaves the local empty. */
int take_fd(int *fd);
#define take_ptr(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })

/* ---- logging to standard error (log.c) ---- */

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Level from the environment's SLUICE_LOG (error, warn, info, debug); info when unset. */
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* ---- clocks (clock.c) ---- */

#define NSEC_PER_SEC  1000000000LL
#define NSEC_PER_MSEC 1000000LL

int64_t clock_ns(void);                 /* CLOCK_MONOTONIC, nanoseconds */
int clock_left_ms(int64_t deadline_ns); /* milliseconds to a deadline, rounded up, 0 when past */
void clock_sleep_ns(int64_t duration_ns);

/* ---- strings and numbers (string.c) ---- */

/* A new string, or NULL when memory is out; the caller frees it. */
char *str_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);
bool str_has_prefix(const char *s, const char *prefix);

/* Copies s whole; -ENAMETOOLONG, and an empty dst, when it does not fit. */
int str_copy(char *dst, size_t size, const char *s);

/* A whole decimal number in [min, max] with nothing around it, else -EINVAL or -ERANGE. */
int str_to_int64(const char *s, int64_t min, int64_t max, int64_t *ret);

/* FNV-1a, 64 bits: for names derived from keys, not for security. Chain by passing the last. */
#define HASH64_START 0xcbf29ce484222325ULL
uint64_t hash64(uint64_t seed, const void *data, size_t len);
uint64_t hash64_str(uint64_t seed, const char *s); /* includes the terminating NUL */

/* 13 characters of [0-9a-v] and a NUL. */
void hash64_text(uint64_t hash, char out[14]);

int random_fill(void *buf, size_t len);

/* Makes text fit for JSON: every byte that is not part of a UTF-8 character becomes '?'. */
void str_make_utf8(char *s);

/*
 * Writes s as a JSON string with its quotes; returns the length, or -ENAMETOOLONG. Bytes that are
 * not UTF-8 become U+FFFD.
 */
int json_quote(char *dst, size_t size, const char *s);

/* ---- files (file.c) ---- */

/* Whole file as a NUL-terminated new buffer; -EFBIG past max bytes. */
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len);
int fd_read_all(int fd, size_t max, char **ret_data, size_t *ret_len);
int fd_write_all(int fd, const void *data, size_t len);

/* A new memfd, CLOEXEC, that holds data, is sealed against every change and stands at its start. */
int memfd_sealed(const void *data, size_t len, int *ret_fd);

/* Replaces path in one step (PATH.tmp, then rename); not synced. Two callers at once need a lock:
 * the temporary name is the same, so that a killed one leaves nothing that the next won't use. */
int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode);

/* Creates path and its parents; an existing directory is fine. */
int dir_make(const char *path, mode_t mode);

/* Removes path and all below it, not crossing into other file systems; a missing one is fine. */
int dir_remove(const char *path);

/* Opens or creates path and takes a flock, exclusive or shared; blocks. It goes with the
 * descriptor. */
int file_lock(const char *path, bool shared, int *ret_fd);

/* This boot's id (36 characters and a NUL) from /proc/sys/kernel/random/boot_id. */
int boot_id(char out[37]);

/* ---- the instance (instance.c) ---- */

#define INSTANCE_DEFAULT_DIR "/run/sluice"

/*
 * Where this instance's sockets, records and locks live: explicit_dir if given and not empty, else
 * SLUICE_INSTANCE, else /run/sluice. Borrowed; valid while its source is.
 */
const char *instance_dir(const char *explicit_dir);

/*
 * Notes in /run/sluice.instances that an instance other than the default one is in use, so that
 * `sluice clean` finds it; and forgets it. Failing to is no reason not to work.
 */
void instance_register(const char *dir);
void instance_forget(const char *dir);

/* Forgets it if it holds no attachment, and whatever others are gone. */
void instance_forget_unused(const char *dir);

/* The instances noted; those whose directory is gone are dropped. visit may be NULL. */
void instance_list(void (*visit)(const char *dir, void *cookie), void *cookie);

/* ---- child processes (proc.c) ---- */

struct proc_spec {
    const char *const *argv; /* argv[0] is the path to execute; no PATH search */
    const char *const *envp; /* NULL: ours */
    const char *input;       /* standard input; NULL: /dev/null */
    size_t input_len;
    size_t output_max;   /* more than this from the child is -EFBIG */
    int64_t deadline_ns; /* on clock_ns(); 0: none. Past it the child is killed, -ETIMEDOUT */
};

struct proc_result {
    char *out; /* NUL-terminated standard output; proc_result_clear frees */
    size_t out_len;
    char *errout; /* standard error, the same */
    size_t errout_len;
    int status; /* as waitpid's */
    pid_t pid;
    struct rusage usage; /* of the child and all it waited for */
};

/*
 * Runs a program to its end; blocks. Returns 0 whatever the program's exit status is, or a negative
 * errno when it could not be started, did not end in time, or wrote too much.
 */
int proc_run(const struct proc_spec *spec, struct proc_result *ret);
void proc_result_clear(struct proc_result *result);
bool proc_ok(const struct proc_result *result); /* exited with 0 */

/* Starts a program and returns at once; its output goes to log_fd (-1: ours). */
int proc_start(const char *const *argv, const char *const *envp, int log_fd, pid_t *ret_pid);

/* User and system CPU nanoseconds that a live process has used, threads included. */
int proc_cpu_ns(pid_t pid, int64_t *ret_ns);

/* ---- our own programs (program.c) ---- */

/*
 * Where another of our programs is: beside this one, as in a build tree, else in fallback_dir, be
 * it there or not. Returns buf.
 */
const char *program_path(const char *name, const char *fallback_dir, char *buf, size_t size);

/* ---- IP addresses (ip.c) ---- */

#define IP_TEXT_MAX 56 /* an IPv6 address, a slash, a prefix length, a NUL */

struct ip_addr {
    int family;        /* AF_INET, AF_INET6; 0: none */
    unsigned prefix;   /* bits */
    uint8_t bytes[16]; /* network order; IPv4 in the first four */
};

/* "10.1.2.3/24" or "fd00::1/64"; without a slash the prefix is the whole length. -EINVAL else. */
int ip_parse(const char *text, struct ip_addr *ret);

/* Writes the address, with its prefix length on demand; returns buf. */
const char *ip_format(const struct ip_addr *ip, bool with_prefix, char buf[IP_TEXT_MAX]);

unsigned ip_bits(const struct ip_addr *ip);                       /* 32 or 128 */
size_t ip_bytes(const struct ip_addr *ip);                        /* 4 or 16 */
int ip_compare(const struct ip_addr *a, const struct ip_addr *b); /* the addresses, as memcmp */
bool ip_same(const struct ip_addr *a, const struct ip_addr *b);   /* family and address */
bool ip_in_subnet(const struct ip_addr *ip, const struct ip_addr *subnet);
struct ip_addr ip_network(const struct ip_addr *ip);         /* host bits cleared */
struct ip_addr ip_last(const struct ip_addr *subnet);        /* host bits set */
struct ip_addr ip_plus(const struct ip_addr *ip, int64_t n); /* wraps at the family's end */

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small BPF programs made in memory, instruction by instruction, and what bpf(2) does with them and
 * their maps. No compiler and no libbpf: a plugin process has neither the time nor the room. Used
 * by policy and kind. Source: bpf(2), bpf-helpers(7), linux/bpf.h,
 * Documentation/bpf/standardization/instruction-set.
 */
#pragma once

#include "base/base.h"

#include <linux/bpf.h>

/* ---- code (code.c) ---- */

#define BPF_CODE_MAX   1024
#define BPF_LABELS_MAX 128

/*
 * A program in the making. Nothing here fails at once: what does not fit is told when it is loaded.
 * Registers are BPF_REG_0 to BPF_REG_10, sizes BPF_B, BPF_H, BPF_W, BPF_DW.
 */
struct bpf_code {
    struct bpf_insn insns[BPF_CODE_MAX];
    unsigned n;
    uint8_t targets[BPF_CODE_MAX]; /* the label that a jump goes to, plus 1; 0: no jump */
    int labels[BPF_LABELS_MAX];    /* the instruction that a label stands at; -1: nowhere yet */
    unsigned n_labels;
    bool overflow;
};

void bpf_code_begin(struct bpf_code *code);

/* A new label, which must be placed once. */
int bpf_label(struct bpf_code *code);
void bpf_place(struct bpf_code *code, int label);

void bpf_move(struct bpf_code *code, int dst, int src);
void bpf_set(struct bpf_code *code, int dst, int32_t value);
void bpf_set_map(struct bpf_code *code, int dst, int map_fd);

/* op: BPF_ADD, BPF_AND, BPF_LSH, ...; 64 bits. */
void bpf_math(struct bpf_code *code, int op, int dst, int src);
void bpf_math_with(struct bpf_code *code, int op, int dst, int32_t value);

void bpf_load(struct bpf_code *code, int size, int dst, int base, int offset);
void bpf_store(struct bpf_code *code, int size, int base, int offset, int src);
void bpf_store_value(struct bpf_code *code, int size, int base, int offset, int32_t value);

void bpf_jump(struct bpf_code *code, int label);
/* op: BPF_JEQ, BPF_JNE, BPF_JSET, ... _word compares the lower 32 bits only. */
void bpf_jump_if(struct bpf_code *code, int op, int dst, int32_t value, int label);
void bpf_jump_if_word(struct bpf_code *code, int op, int dst, uint32_t value, int label);
void bpf_jump_if_reg(struct bpf_code *code, int op, int dst, int src, int label);

void bpf_call(struct bpf_code *code, int helper);
void bpf_exit(struct bpf_code *code); /* with register 0 */
void bpf_return(struct bpf_code *code, int32_t value);

/* Four or two bytes as a program sees them in memory. */
uint32_t bpf_word(const void *bytes);
uint16_t bpf_half(const void *bytes);

/* Loads a SCHED_CLS program; name: at most 15 letters, digits, '_', '.'. The verifier's last words
 * are in err. */
int bpf_code_load(struct bpf_code *code, const char *name, int *ret_fd, struct error *err);

/* ---- code that reads packets (packet.c) ---- */

/* Registers that are kept through calls, a place on the stack, and a label. */
struct bpf_packet {
    struct bpf_code *code;
    int skb;    /* the packet */
    int at;     /* how far it was read, in bytes */
    int type;   /* what comes there: an EtherType in network order, or a protocol of IPv6 */
    int buffer; /* 4 bytes of the stack, aligned */
    int bad;    /* for a packet that ends too early, or has too many headers */
};

/* Copies len bytes that stand offset behind `at` to a place on the stack. Registers 0 to 5 go. */
void bpf_packet_read(const struct bpf_packet *p, int offset, int to, int len);

/* Moves past VLAN tags, of which there may be two: to what comes behind, or a third tag. */
void bpf_packet_skip_tags(const struct bpf_packet *p);

/*
 * Moves past IPv6's extension headers, the first of which is `type`: at the label icmp is the
 * beginning of an ICMPv6 message, at the label other anything else, which may be the middle of a
 * packet. Does not fall through.
 */
void bpf_packet_skip_extensions(const struct bpf_packet *p, int icmp, int other);

/* ---- tables: hash maps (table.c) ---- */

int bpf_table_new(const char *name, uint32_t key_size, uint32_t value_size, uint32_t entries,
                  int *ret_fd, struct error *err);
int bpf_table_add(int fd, const void *key, const void *value); /* -EEXIST; -E2BIG: it is full */
int bpf_table_put(int fd, const void *key, const void *value); /* new or instead; negative errno */
int bpf_table_get(int fd, const void *key, void *ret_value);   /* -ENOENT */
int bpf_table_delete(int fd, const void *key);                 /* -ENOENT */
/* The key behind another (NULL: the first); -ENOENT at the end. */
int bpf_table_next(int fd, const void *key, void *ret_key);

/* ---- what is in the kernel already (object.c) ---- */

/* A program by its id, and the first of a program's maps that has this name. */
int bpf_program_open(uint32_t id, int *ret_fd, struct error *err);
int bpf_program_table(int prog_fd, const char *name, int *ret_fd, struct error *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* A small assembler. Jumps name labels; loading turns them into distances. */
#include "bpf/bpf-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOG_SIZE (256 * 1024)

void bpf_code_begin(struct bpf_code *code)
{
    code->n = code->n_labels = 0;
    code->overflow = false;
}

static struct bpf_insn *add(struct bpf_code *code, int opcode, int dst, int src, int offset,
                            int32_t value)
{
    unsigned at = code->n < BPF_CODE_MAX ? code->n++ : BPF_CODE_MAX - 1;

    code->overflow |= code->n == BPF_CODE_MAX;
    code->targets[at] = 0;
    code->insns[at] = (struct bpf_insn){.code = (uint8_t)opcode,
                                        .dst_reg = (uint8_t)(dst & 15),
                                        .src_reg = (uint8_t)(src & 15),
                                        .off = (int16_t)offset,
                                        .imm = value};
    return &code->insns[at];
}

int bpf_label(struct bpf_code *code)
{
    if (code->n_labels == BPF_LABELS_MAX) {
        code->overflow = true;
        return 0;
    }
    code->labels[code->n_labels] = -1;
    return (int)code->n_labels++;
}

void bpf_place(struct bpf_code *code, int label)
{
    code->labels[label] = (int)code->n;
}

void bpf_move(struct bpf_code *code, int dst, int src)
{
    add(code, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

void bpf_set(struct bpf_code *code, int dst, int32_t value)
{
    add(code, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value);
}

void bpf_set_map(struct bpf_code *code, int dst, int map_fd)
{
    add(code, BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, map_fd);
    add(code, 0, 0, 0, 0, 0); /* the upper half */
}

void bpf_math(struct bpf_code *code, int op, int dst, int src)
{
    add(code, BPF_ALU64 | op | BPF_X, dst, src, 0, 0);
}

void bpf_math_with(struct bpf_code *code, int op, int dst, int32_t value)
{
    add(code, BPF_ALU64 | op | BPF_K, dst, 0, 0, value);
}

void bpf_load(struct bpf_code *code, int size, int dst, int base, int offset)
{
    add(code, BPF_LDX | BPF_MEM | size, dst, base, offset, 0);
}

void bpf_store(struct bpf_code *code, int size, int base, int offset, int src)
{
    add(code, BPF_STX | BPF_MEM | size, base, src, offset, 0);
}

void bpf_store_value(struct bpf_code *code, int size, int base, int offset, int32_t value)
{
    add(code, BPF_ST | BPF_MEM | size, base, 0, offset, value);
}

static void add_jump(struct bpf_code *code, int opcode, int dst, int src, int32_t value, int label)
{
    const struct bpf_insn *insn = add(code, opcode, dst, src, 0, value);

    code->targets[insn - code->insns] = (uint8_t)(label + 1);
}

void bpf_jump(struct bpf_code *code, int label)
{
    add_jump(code, BPF_JMP | BPF_JA, 0, 0, 0, label);
}

void bpf_jump_if(struct bpf_code *code, int op, int dst, int32_t value, int label)
{
    add_jump(code, BPF_JMP | op | BPF_K, dst, 0, value, label);
}

void bpf_jump_if_word(struct bpf_code *code, int op, int dst, uint32_t value, int label)
{
    add_jump(code, BPF_JMP32 | op | BPF_K, dst, 0, (int32_t)value, label);
}

void bpf_jump_if_reg(struct bpf_code *code, int op, int dst, int src, int label)
{
    add_jump(code, BPF_JMP | op | BPF_X, dst, src, 0, label);
}

void bpf_call(struct bpf_code *code, int helper)
{
    add(code, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

void bpf_exit(struct bpf_code *code)
{
    add(code, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

void bpf_return(struct bpf_code *code, int32_t value)
{
    bpf_set(code, BPF_REG_0, value);
    bpf_exit(code);
}

uint32_t bpf_word(const void *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof(word));
    return word;
}

uint16_t bpf_half(const void *bytes)
{
    uint16_t half;

    memcpy(&half, bytes, sizeof(half));
    return half;
}

static int resolve(struct bpf_code *code)
{
    for (unsigned i = 0; i < code->n; i++) {
        int at = code->targets[i] ? code->labels[code->targets[i] - 1] : 0;

        if (at < 0) {
            return -EINVAL;
        }
        if (code->targets[i]) {
            code->insns[i].off = (int16_t)(at - (int)i - 1);
        }
    }
    return 0;
}

/* The line before the verifier's statistics says what is wrong. */
static const char *last_words(char *log)
{
    char *line = log, *end = strstr(log, "\nprocessed ");

    if (end) {
        *end = '\0';
    }
    end = strrchr(log, '\n');
    line = end ? end + 1 : log;
    return line;
}

int bpf_code_load(struct bpf_code *code, const char *name, int *ret_fd, struct error *err)
{
    autofree char *log = NULL;
    union bpf_attr attr;
    int fd = code->overflow ? -E2BIG : resolve(code);

    if (fd < 0) {
        return error_sys(err, fd, "BPF program %s", name);
    }
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attr.insns = (uintptr_t)code->insns;
    attr.insn_cnt = code->n;
    attr.license = (uintptr_t) "Apache-2.0";
    (void)str_copy(attr.prog_name, sizeof(attr.prog_name), name);
    fd = bpf_command(BPF_PROG_LOAD, &attr, sizeof(attr));
    if (fd == -EACCES || fd == -EINVAL) {
        log = calloc(1, LOG_SIZE);
        if (log) {
            attr.log_buf = (uintptr_t)log;
            attr.log_size = LOG_SIZE;
            attr.log_level = 1;
            fd = bpf_command(BPF_PROG_LOAD, &attr, sizeof(attr));
        }
    }
    if (fd < 0) {
        return error_sys(err, fd, "load BPF program %s%s%.512s", name, log && *log ? ": " : "",
                         log ? last_words(log) : "");
    }
    *ret_fd = fd;
    return 0;
}

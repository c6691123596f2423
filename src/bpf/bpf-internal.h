/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once

#include "bpf/bpf.h"

/* bpf(2); a descriptor or 0, or a negative errno. Descriptors are CLOEXEC by nature. */
int bpf_command(int command, void *attr, size_t size);

/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. */
#pragma once

#include "policy/policy.h"

/* Adds "rules" of an object, and takes its "acl"; path says where the object stands. */
int policy_rules_read(struct policy *policy, const json_t *object, const struct json_path *path,
                      struct error *err);

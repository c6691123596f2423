/* SPDX-License-Identifier: Apache-2.0 */
/* Limits as a file, a request or a command line has them: set whole or not at all. */
#include "fuzz.h"
#include "gate/gate.h"

#include <stdlib.h>
#include <string.h>

#define BEFORE 7

static void check_refused(const struct gates *gates, const struct error *err)
{
    for (size_t i = 0; i < span_n_stages; i++) {
        if (gate_limit(gates, i) != BEFORE) {
            abort();
        }
    }
    if (!err->text[0]) {
        abort();
    }
}

/* What was set can be written and set again, and is the same then. */
static void check_set(struct gates *gates)
{
    autojson json_t *once = gates_limits(gates), *again = NULL;

    for (size_t i = 0; i < span_n_stages; i++) {
        if (gate_limit(gates, i) > GATE_LIMIT_MAX) {
            abort();
        }
    }
    if (!once || gates_set_limits(gates, once, 0, NULL) < 0) {
        abort();
    }
    again = gates_limits(gates);
    if (!json_equal(once, again)) {
        abort();
    }
}

static void try_limits(const json_t *json)
{
    struct gates *gates = NULL;
    struct error err = {0};

    if (gates_new(&gates) < 0) {
        return;
    }
    for (size_t i = 0; i < span_n_stages; i++) {
        gate_set_limit(gates, i, BEFORE, 0);
    }
    if (gates_set_limits(gates, json, 0, &err) < 0) {
        check_refused(gates, &err);
    } else {
        check_set(gates);
    }
    gates_free(gates);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    autofree char *text = strndup((const char *)data, size);
    autojson json_t *json = NULL;
    struct error err = {0};
    unsigned limit;
    size_t stage;

    if (json_parse((const char *)data, size, &json, NULL) == 0) {
        try_limits(json);
    }
    if (text && gate_setting_parse(text, &stage, &limit, &err) == 0 &&
        (stage >= span_n_stages || limit > GATE_LIMIT_MAX)) {
        abort();
    }
    return 0;
}

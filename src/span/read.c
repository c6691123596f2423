/* SPDX-License-Identifier: Apache-2.0 */
/* Spans: reading a file of them back. */
#include "span/span.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int span_parse(const char *line, size_t len, struct span *ret)
{
    autojson json_t *value = NULL;
    struct span span = {.ok = true};
    const char *pod = NULL, *stage = NULL;
    int64_t pid = 0, tid = 0;

    if (json_parse(line, len, &value, NULL) < 0 || !json_is_object(value) ||
        json_need_string(value, NULL, "pod", &pod, NULL) < 0 ||
        json_need_string(value, NULL, "stage", &stage, NULL) < 0 ||
        json_read_int(value, NULL, "t0_ns", 1, INT64_MAX, &span.t0_ns, NULL) < 0 ||
        json_read_int(value, NULL, "t1_ns", 1, INT64_MAX, &span.t1_ns, NULL) < 0 ||
        json_read_int(value, NULL, "wait_ns", 0, INT64_MAX, &span.wait_ns, NULL) < 0 ||
        json_read_int(value, NULL, "pid", 0, INT32_MAX, &pid, NULL) < 0 ||
        json_read_int(value, NULL, "tid", 0, INT32_MAX, &tid, NULL) < 0 ||
        json_read_int(value, NULL, "batch", 0, INT64_MAX, &span.batch, NULL) < 0 ||
        json_read_bool(value, NULL, "ok", &span.ok, NULL) < 0 ||
        str_copy(span.pod, sizeof(span.pod), pod) < 0 ||
        str_copy(span.stage, sizeof(span.stage), stage) < 0 || span.t0_ns <= 0 ||
        span.t1_ns < span.t0_ns) {
        return -EBADMSG;
    }
    span.pid = (int)pid;
    span.tid = (int)tid;
    *ret = span;
    return 0;
}

static int append(struct span_list *list, const struct span *span)
{
    if (list->n == list->size) {
        size_t size = list->size ? list->size * 2 : 256;
        struct span *spans = reallocarray(list->spans, size, sizeof(*spans));

        if (!spans) {
            return -ENOMEM;
        }
        list->spans = spans;
        list->size = size;
    }
    list->spans[list->n++] = *span;
    return 0;
}

int span_read(const char *path, struct span_list *ret, struct error *err)
{
    autofree char *data = NULL;
    struct span_list list = {0};
    size_t len = 0;
    int rc = file_read(path, (size_t)1 << 30, &data, &len);

    if (rc < 0) {
        return error_sys(err, rc, "read %s", path);
    }
    for (char *line = data, *end; line < data + len; line = end + 1) {
        struct span span;

        end = memchr(line, '\n', (size_t)(data + len - line));
        if (!end) {
            end = data + len;
        }
        if (span_parse(line, (size_t)(end - line), &span) < 0) {
            list.bad_lines++;
            continue;
        }
        rc = append(&list, &span);
        if (rc < 0) {
            span_list_clear(&list);
            return error_sys(err, rc, "read %s", path);
        }
    }
    *ret = list;
    return 0;
}

void span_list_clear(struct span_list *list)
{
    free(list->spans);
    *list = (struct span_list){0};
}

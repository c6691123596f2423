/* SPDX-License-Identifier: Apache-2.0 */
/* src/json: what is wrong is answered with key, value and what is allowed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "json/json.h"

#include <errno.h>
#include <string.h>

static json_t *parse(const char *text)
{
    json_t *json = NULL;
    struct error err;

    if (json_parse(text, strlen(text), &json, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return json;
}

static void test_parse_says_where_text_is_no_json(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "invalid JSON at line 1, column 0"},     {"{\"a\":\n1,}", "invalid JSON at line 2"},
        {"{} x", "invalid JSON at line 1, column 4"}, {"{\"a\":1,\"a\":2}", "duplicate object key"},
        {"{\"a\":\"\\u0000\"}", "\\u0000"},           {"{\"a\":99999999999999999999}", "too big"},
        {"\"\xff\"", "unable to decode byte"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};
        json_t *json = NULL;

        assert_int_equal(json_parse(cases[i].text, strlen(cases[i].text), &json, &err), -EBADMSG);
        if (!strstr(err.text, cases[i].says)) {
            fail_msg("%s", err.text);
        }
        assert_null(json);
    }
}

static void test_parse_needs_no_nul_at_the_end(void **state)
{
    autojson json_t *json = NULL;

    (void)state;
    assert_int_equal(json_parse("[1]xyz", 3, &json, NULL), 0);
    assert_int_equal(json_array_size(json), 1);
}

/* One value that each reader refuses, and the whole message. */
static void test_readers_name_key_value_and_what_is_allowed(void **state)
{
    static const char *const words[] = {"red", "green", NULL};
    autojson json_t *json = parse("{\"s\":\"x\",\"e\":\"\",\"n\":7,\"f\":1.5,\"l\":[1],\"o\":{}}");
    const char *s = "before";
    int64_t n = 77;
    bool b = true;
    int w = 5;
    json_t *j = json;
    struct error err;

    (void)state;
    assert_int_equal(json_read_string(json, NULL, "n", &s, &err), -EINVAL);
    assert_string_equal(err.text, "n: 7 is not allowed; must be a string");
    assert_int_equal(json_need_string(json, NULL, "e", &s, &err), -EINVAL);
    assert_string_equal(err.text, "e: \"\" is not allowed; must be a string that is not empty");
    assert_int_equal(json_need_string(json, NULL, "gone", &s, &err), -EINVAL);
    assert_string_equal(err.text, "gone: missing; must be a string that is not empty");
    assert_int_equal(json_read_int(json, NULL, "n", 8, 9, &n, &err), -EINVAL);
    assert_string_equal(err.text, "n: 7 is not allowed; must be a whole number from 8 to 9");
    assert_int_equal(json_read_int(json, NULL, "f", 0, 9, &n, &err), -EINVAL);
    assert_string_equal(err.text, "f: 1.5 is not allowed; must be a whole number from 0 to 9");
    assert_int_equal(json_read_bool(json, NULL, "s", &b, &err), -EINVAL);
    assert_string_equal(err.text, "s: \"x\" is not allowed; must be true or false");
    assert_int_equal(json_read_object(json, NULL, "l", &j, &err), -EINVAL);
    assert_string_equal(err.text, "l: [1] is not allowed; must be an object");
    assert_int_equal(json_read_array(json, NULL, "o", &j, &err), -EINVAL);
    assert_string_equal(err.text, "o: {} is not allowed; must be a list");
    assert_int_equal(json_read_word(json, NULL, "s", words, &w, &err), -EINVAL);
    assert_string_equal(err.text, "s: \"x\" is not allowed; must be one of \"red\", \"green\"");
    assert_string_equal(s, "before");
    assert_true(n == 77 && b && w == 5 && j == json);
}

static void test_readers_take_what_is_allowed(void **state)
{
    static const char *const words[] = {"red", "green", NULL};
    autojson json_t *json = parse("{\"s\":\"green\",\"n\":-7,\"b\":false,\"l\":[1],\"o\":{}}");
    const char *s = NULL;
    int64_t n = 0;
    bool b = true;
    int w = -1;
    json_t *l = NULL, *o = NULL;

    (void)state;
    assert_int_equal(json_read_string(json, NULL, "s", &s, NULL), 0);
    assert_string_equal(s, "green");
    assert_int_equal(json_need_string(json, NULL, "s", &s, NULL), 0);
    assert_int_equal(json_read_int(json, NULL, "n", -7, -7, &n, NULL), 0);
    assert_int_equal(n, -7);
    assert_int_equal(json_read_bool(json, NULL, "b", &b, NULL), 0);
    assert_false(b);
    assert_int_equal(json_read_array(json, NULL, "l", &l, NULL), 0);
    assert_int_equal(json_read_object(json, NULL, "o", &o, NULL), 0);
    assert_ptr_equal(l, json_object_get(json, "l"));
    assert_ptr_equal(o, json_object_get(json, "o"));
    assert_int_equal(json_read_word(json, NULL, "s", words, &w, NULL), 0);
    assert_int_equal(w, 1);
}

static void test_missing_and_null_leave_the_output(void **state)
{
    static const char *const words[] = {"red", NULL};
    autojson json_t *json = parse("{\"k\":null}");
    static const char *const keys[] = {"k", "gone"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const char *s = "s";
        int64_t n = 77;
        bool b = true;
        int w = 5;
        json_t *j = json;

        assert_int_equal(json_read_string(json, NULL, keys[i], &s, NULL), 0);
        assert_int_equal(json_read_int(json, NULL, keys[i], 0, 1, &n, NULL), 0);
        assert_int_equal(json_read_bool(json, NULL, keys[i], &b, NULL), 0);
        assert_int_equal(json_read_word(json, NULL, keys[i], words, &w, NULL), 0);
        assert_int_equal(json_read_object(json, NULL, keys[i], &j, NULL), 0);
        assert_int_equal(json_read_array(json, NULL, keys[i], &j, NULL), 0);
        assert_true(!strcmp(s, "s") && n == 77 && b && w == 5 && j == json);
    }
    assert_int_equal(json_read_object(NULL, NULL, "k", &json, NULL), 0); /* no object: missing */
}

static void test_path_is_written_in_front_of_the_key(void **state)
{
    struct json_path ipam = {.key = "ipam"}, ranges = {.parent = &ipam, .key = "ranges"};
    struct json_path set = {.parent = &ranges, .index = 0}, at = {.parent = &set, .index = 12};
    struct error err;

    (void)state;
    json_bad(&err, &at, "subnet", NULL, "a subnet");
    assert_string_equal(err.text, "ipam.ranges[0][12].subnet: missing; must be a subnet");
    json_bad(&err, &at, NULL, NULL, "x");
    assert_string_equal(err.text, "ipam.ranges[0][12]: missing; must be x");
}

static void test_long_paths_values_and_word_lists_are_cut(void **state)
{
    const char *many[64];
    char key[600], text[700];
    autojson json_t *json = NULL;
    struct json_path top = {.key = key}, at = {.parent = &top, .index = 3};
    struct error err;
    int w;

    (void)state;
    memset(key, 'k', sizeof(key));
    key[sizeof(key) - 1] = '\0';
    json_bad(&err, &at, key, NULL, "short");
    assert_true(strlen(err.text) < 400);
    assert_non_null(strstr(err.text, "must be short"));
    snprintf(text, sizeof(text), "{\"a\":\"%.500s\"}", key);
    json = parse(text);
    for (size_t i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = "a-rather-long-word";
    }
    many[ARRAY_SIZE(many) - 1] = NULL;
    assert_int_equal(json_read_word(json, NULL, "a", many, &w, &err), -EINVAL);
    assert_true(strlen(err.text) < 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_says_where_text_is_no_json),
        cmocka_unit_test(test_parse_needs_no_nul_at_the_end),
        cmocka_unit_test(test_readers_name_key_value_and_what_is_allowed),
        cmocka_unit_test(test_readers_take_what_is_allowed),
        cmocka_unit_test(test_missing_and_null_leave_the_output),
        cmocka_unit_test(test_path_is_written_in_front_of_the_key),
        cmocka_unit_test(test_long_paths_values_and_word_lists_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

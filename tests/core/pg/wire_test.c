// SPDX-License-Identifier: MIT
#include "pg/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void tells_whole_messages_from_pieces_and_nonsense(void **state)
{
    (void)state;
    assert_int_equal(wire_length(STR("Z\0\0\0")), 0);
    assert_int_equal(wire_length(STR("Z\0\0\0\5I")), 6);
    assert_int_equal(wire_length(STR("Z\0\0\0\5")), 0);
    assert_int_equal(wire_length(STR("Z\0\0\0\3I")), -1);
    assert_int_equal(wire_length(STR("D\377\377\377\377x")), -1);
}

static void takes_a_row_only_when_every_length_fits(void **state)
{
    struct str values;
    (void)state;
    struct str good = STR("\0\2\0\0\0\1a\377\377\377\377");
    assert_true(wire_row(good, 2, &values));
    assert_int_equal(values.len, good.len - 2);
    assert_false(wire_row(good, 1, &values));
    for (size_t len = 0; len < good.len; len++) {
        char *copy = malloc(len + 1); /* so that a sanitizer sees one byte too many */
        memcpy(copy, good.p, len);
        struct str cut = {copy, len};
        assert_false(wire_row(cut, 2, &values));
        free(copy);
    }
    assert_false(wire_row(STR("\0\1\0\0\0\2a"), 1, &values));
    assert_false(wire_row(STR("\0\1\377\377\377\376a"), 1, &values));
    assert_false(wire_row(STR("\0\1\0\0\0\1ab"), 1, &values));
}

#define TAIL "\0\0\0\0\0\0\0\0\0\27\0\4\377\377\377\377\0\0"

static void reads_columns_and_refuses_cut_ones(void **state)
{
    (void)state;
    struct str good = STR("\0\2id\0" TAIL "name\0" TAIL);
    struct pg_columns *c = wire_columns(good);
    assert_non_null(c);
    assert_int_equal(c->count, 2);
    assert_true(str_equal(c->list[0].name, STR("id")));
    assert_true(str_equal(c->list[1].name, STR("name")));
    assert_int_equal(c->list[1].oid, 23);
    pg_columns_put(c);
    for (size_t len = 0; len < good.len; len++)
        assert_null(wire_columns((struct str){good.p, len}));
    assert_null(wire_columns(STR("\377\377")));
}

static void reads_what_the_server_says_of_an_error(void **state)
{
    struct pg_error e = {0};
    bool fatal;
    (void)state;
    wire_error(STR("SFEHLER\0VERROR\0C23505\0Mtwice\0DKey\0nonly_once\0\0"), &e, &fatal);
    assert_string_equal(e.sqlstate, "23505");
    assert_string_equal(e.message, "twice");
    assert_string_equal(e.detail, "Key");
    assert_string_equal(e.constraint, "only_once");
    assert_false(fatal);
    wire_error(STR("VFATAL\0C57P01\0Mgone\0Mtwice"), &e, &fatal); /* the end is missing */
    assert_true(fatal);
    assert_string_equal(e.message, "gone");
    wire_error(STR("Cshorts\0"), &e, &fatal);
    assert_string_equal(e.sqlstate, "XX000");
    pg_error_clear(&e);
}

static void counts_rows_by_the_tag(void **state)
{
    (void)state;
    assert_int_equal(wire_tag(STR("INSERT 0 5\0")), 5);
    assert_int_equal(wire_tag(STR("SELECT 12\0")), 12);
    assert_int_equal(wire_tag(STR("CREATE TABLE\0")), 0);
    assert_int_equal(wire_tag(STR("")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_whole_messages_from_pieces_and_nonsense),
        cmocka_unit_test(takes_a_row_only_when_every_length_fits),
        cmocka_unit_test(reads_columns_and_refuses_cut_ones),
        cmocka_unit_test(reads_what_the_server_says_of_an_error),
        cmocka_unit_test(counts_rows_by_the_tag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

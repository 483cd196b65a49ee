// SPDX-License-Identifier: MIT
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void aligns_and_keeps_pieces_apart(void **state)
{
    (void)state;
    struct arena a;
    unsigned char *piece[500];
    arena_init(&a);
    for (int i = 0; i < 500; i++) {
        size_t size = (size_t)(i * 7 % 300) + 1;
        piece[i] = arena_alloc(&a, size);
        assert_int_equal((uintptr_t)piece[i] % 16, 0);
        memset(piece[i], i, size);
    }
    for (int i = 0; i < 500; i++)
        for (size_t at = 0; at < (size_t)(i * 7 % 300) + 1; at++)
            assert_int_equal(piece[i][at], (unsigned char)i);
    arena_done(&a);
}

static void keeps_one_small_block_over_a_reset(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    void *first = arena_alloc(&a, 16);
    assert_non_null(arena_alloc(&a, 1 << 20));
    assert_true(a.total_bytes > 1 << 20);
    arena_reset(&a);
    assert_true(a.total_bytes < 16384);
    assert_ptr_equal(arena_alloc(&a, 16), first);
    arena_done(&a);
    assert_int_equal(a.total_bytes, 0);
}

static void copies_with_an_end(void **state)
{
    (void)state;
    struct arena a;
    arena_init(&a);
    struct str s = arena_copy(&a, STR("text"));
    assert_string_equal(s.p, "text");
    s = arena_copy(&a, (struct str){NULL, 0});
    assert_string_equal(s.p, "");
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligns_and_keeps_pieces_apart), cmocka_unit_test(keeps_one_small_block_over_a_reset),
        cmocka_unit_test(copies_with_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

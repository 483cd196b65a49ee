// SPDX-License-Identifier: MIT
#include "codec/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const enum codec_id order[] = {CODEC_ZSTD, CODEC_GZIP, CODEC_BROTLI};

static enum codec_id choose(const char *field)
{
    struct accept a = {0};
    accept_read(&a, str_from(field));
    return accept_choose(&a, order, sizeof order / sizeof *order);
}

static void the_table_of_fields(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        enum codec_id chosen;
    } table[] = {
        {"", CODEC_IDENTITY},
        {"gzip", CODEC_GZIP},
        {"x-gzip", CODEC_GZIP},
        {"GZIP", CODEC_GZIP},
        {"deflate", CODEC_IDENTITY}, /* not among ours here */
        {"compress, gzip", CODEC_GZIP},
        {"gzip, deflate, br, zstd", CODEC_ZSTD}, /* equals: our order */
        {"gzip, br", CODEC_GZIP},
        {"gzip;q=0.5, br;q=0.8", CODEC_BROTLI}, /* weight before order */
        {"gzip;q=0.5, br", CODEC_BROTLI},
        {"gzip;q=0", CODEC_IDENTITY},
        {"gzip;q=0.000", CODEC_IDENTITY},
        {"gzip;q=0.001", CODEC_GZIP},
        {"gzip; q=1.000", CODEC_GZIP},
        {"gzip ; Q=0.4 , br;q=0.3", CODEC_GZIP},
        {"*", CODEC_ZSTD},
        {"*;q=0", CODEC_IDENTITY},
        {"*;q=0.1, gzip;q=0", CODEC_ZSTD},
        {"zstd;q=0, *", CODEC_GZIP},
        {"gzip;q=0.2, *;q=0.1", CODEC_GZIP},
        {"identity", CODEC_IDENTITY},
        {"identity, gzip;q=0.5", CODEC_IDENTITY}, /* likes it plain */
        {"identity;q=0.5, gzip", CODEC_GZIP},
        {"identity, gzip", CODEC_GZIP},
        {"identity;q=0, gzip", CODEC_GZIP},
        {"identity;q=0", CODEC_IDENTITY}, /* nothing fits: plain rather than 406 */
        {"gzip, gzip;q=0", CODEC_IDENTITY}, /* said twice: the lower weight */
        {"gzip;q=0, gzip", CODEC_IDENTITY},
        {"gzip;q=2", CODEC_IDENTITY}, /* malformed: left out */
        {"gzip;q=-1", CODEC_IDENTITY},
        {"gzip;q=", CODEC_IDENTITY},
        {"gzip;q", CODEC_IDENTITY},
        {"gzip;q = 0", CODEC_IDENTITY},
        {"gzip;q=0.5x", CODEC_IDENTITY},
        {"gzip;q=1.5", CODEC_IDENTITY},
        {"gzip;q=nan, br", CODEC_BROTLI},
        {"gzip;level=9", CODEC_GZIP}, /* a parameter of another meaning */
        {"gzip;level=9;q=0", CODEC_IDENTITY},
        {"gzip;q=0.99999", CODEC_GZIP},
        {",,, gzip ,,", CODEC_GZIP},
        {"gzip br", CODEC_IDENTITY},
        {"gzipp", CODEC_IDENTITY},
        {";q=1", CODEC_IDENTITY},
        {";", CODEC_IDENTITY},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (choose(table[i].field) != table[i].chosen)
            fail_msg("\"%s\" chose %s, not %s", table[i].field, codec_name(choose(table[i].field)),
                     codec_name(table[i].chosen));
}

static void several_fields_are_one_list(void **state)
{
    (void)state;
    struct accept a = {0};
    accept_read(&a, STR("gzip"));
    accept_read(&a, STR("br;q=0.5"));
    assert_int_equal(accept_weight(&a, CODEC_GZIP), 1000);
    assert_int_equal(accept_weight(&a, CODEC_BROTLI), 500);
    assert_int_equal(accept_weight(&a, CODEC_ZSTD), 0);
    assert_false(accept_needs_coding(&a));
}

static void tells_who_refuses_the_plain_body(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        bool needs;
    } table[] = {{"gzip", false},           {"gzip, identity;q=0", true}, {"gzip, *;q=0", true},
                 {"identity, *;q=0", false}, {"*", false},                 {"", false}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct accept a = {0};
        accept_read(&a, str_from(table[i].field));
        if (accept_needs_coding(&a) != table[i].needs)
            fail_msg("\"%s\"", table[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_fields),
        cmocka_unit_test(several_fields_are_one_list),
        cmocka_unit_test(tells_who_refuses_the_plain_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
#include "board/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>

static char why[256];

static double parse(const char *name, const char *text)
{
    double value = -1;
    int id = setting_find(str_from(name));
    assert_true(id >= 0);
    if (!setting_parse(id, str_from(text), &value, why, sizeof why))
        fail_msg("%s = %s: %s", name, text, why);
    return value;
}

static void refuses(const char *name, const char *text, const char *said)
{
    double value = -1;
    assert_false(setting_parse(setting_find(str_from(name)), str_from(text), &value, why, sizeof why));
    assert_true(value == -1);
    if (!strstr(why, said))
        fail_msg("%s = %s says: %s", name, text, why);
    assert_non_null(strstr(why, name));
}

static void has_defaults_within_their_own_bounds(void **state)
{
    (void)state;
    struct settings s;
    settings_init(&s);
    for (int i = 0; i < SETTING_COUNT; i++) {
        assert_true(setting_check(i, setting_number(&s, (enum setting_id)i), why, sizeof why));
        assert_int_equal(setting_find(str_from(setting_infos[i].name)), i);
        assert_int_equal(s.origin[i], ORIGIN_DEFAULT);
        assert_true(*setting_infos[i].doc);
    }
}

static void reads_sizes_with_units(void **state)
{
    (void)state;
    assert_true(parse("server.head_bytes", "2048") == 2048);
    assert_true(parse("server.head_bytes", "64KiB") == 65536);
    assert_true(parse("server.head_bytes", "10kB") == 10000);
    assert_true(parse("server.body_bytes", " 1MiB ") == 1048576);
    assert_true(parse("server.body_bytes", "2 GiB") == 2147483648.0);
    assert_true(parse("server.body_bytes", "1.5MiB") == 1572864);
    assert_true(parse("server.body_bytes", "1e6") == 1000000);
    assert_true(parse("server.body_min_rate", "64KiB") == 65536);
}

static void reads_times_with_units(void **state)
{
    (void)state;
    assert_true(parse("server.linger_ms", "1.5s") == 1500);
    assert_true(parse("server.linger_ms", "200ms") == 200);
    assert_true(parse("server.linger_ms", "0.3s") == 300);
    assert_true(parse("server.head_timeout_ms", "2m") == 120000);
    assert_true(parse("server.head_timeout_ms", "1h") == 3600000);
    assert_true(parse("resource.interval_s", "2m") == 120);
    assert_true(parse("stats.slow_ms", "0.5") == 0.5);
}

static void reads_booleans(void **state)
{
    (void)state;
    static const char *const yes[] = {"true", "on", "1", "TRUE", "yes"};
    static const char *const no[] = {"false", "off", "0", "Off", "no"};
    for (int i = 0; i < 5; i++) {
        assert_true(parse("reload.watch", yes[i]) == 1);
        assert_true(parse("reload.watch", no[i]) == 0);
    }
}

static void says_what_is_wrong_and_what_to_give(void **state)
{
    (void)state;
    refuses("reload.watch", "maybe", "true, false");
    refuses("reload.watch", "", "true, false");
    refuses("server.head_bytes", "64parsec", "64KiB");
    refuses("server.head_bytes", "64s", "1024 to 65536 bytes");
    refuses("server.head_bytes", "", "1024 to 65536 bytes");
    refuses("server.head_bytes", "12", "1024 to 65536 bytes");
    refuses("server.head_bytes", "1GiB", "out of bounds: 1073741824");
    refuses("server.head_bytes", "2000.5", "whole number");
    refuses("server.head_bytes", "nan", "not a number");
    refuses("server.head_bytes", "1e999", "not a number");
    refuses("server.fields", "50kB", "not a number of fields");
    refuses("server.linger_ms", "0.0001s", "whole number");
    refuses("stats.slow_ms", "-1", "0 to 3600000 ms");
    refuses("script.memory_factor", "1", "1.1 to 16");
}

static void cuts_its_message_to_the_room_there_is(void **state)
{
    (void)state;
    char small[8] = "xxxxxxx";
    double value;
    assert_false(setting_parse(0, STR("x"), &value, small, 4));
    assert_int_equal(strlen(small), 3);
    assert_false(setting_parse(0, STR("x"), &value, NULL, 0));
    assert_false(setting_check(SETTING_COUNT, 0, why, sizeof why));
    assert_false(setting_check(-1, 0, why, sizeof why));
}

static void knows_which_name_was_meant(void **state)
{
    (void)state;
    assert_string_equal(setting_nearest(STR("server.head_byte")), "server.head_bytes");
    assert_string_equal(setting_nearest(STR("head_bytes")), "server.head_bytes");
    assert_string_equal(setting_nearest(STR("sever.hed_bytes")), "server.head_bytes");
    assert_string_equal(setting_nearest(STR("worker.cpu_ms")), "script.cpu_ms");
    assert_string_equal(setting_nearest(STR("reload.wach")), "reload.watch");
    assert_null(setting_nearest(STR("completely.different")));
    assert_null(setting_nearest(STR("")));
    assert_int_equal(setting_find(STR("server.head_byte")), -1);
}

static void names_where_a_value_came_from(void **state)
{
    (void)state;
    assert_string_equal(setting_origin_name(ORIGIN_DEFAULT), "default");
    assert_string_equal(setting_origin_name(ORIGIN_FLAG), "flag");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_defaults_within_their_own_bounds),
        cmocka_unit_test(reads_sizes_with_units),
        cmocka_unit_test(reads_times_with_units),
        cmocka_unit_test(reads_booleans),
        cmocka_unit_test(says_what_is_wrong_and_what_to_give),
        cmocka_unit_test(cuts_its_message_to_the_room_there_is),
        cmocka_unit_test(knows_which_name_was_meant),
        cmocka_unit_test(names_where_a_value_came_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

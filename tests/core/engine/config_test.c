// SPDX-License-Identifier: MIT
#include "engine/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "script/limits.h"

#include <stdlib.h>
#include <string.h>

static struct config config;
static struct options options;
static struct problems problems;

static int begin(void **state)
{
    (void)state;
    options = (struct options){.command = COMMAND_RUN};
    unsetenv("PERILUNE_LISTEN");
    unsetenv("PERILUNE_WORKERS");
    return 0;
}

static int end(void **state)
{
    (void)state;
    config_done(&config);
    problems_done(&problems);
    unsetenv("PERILUNE_LISTEN");
    unsetenv("PERILUNE_WORKERS");
    return 0;
}

static bool reads(const char *text)
{
    config_done(&config);
    problems_done(&problems);
    struct config_texts texts = {.file = str_from(text), .file_name = "perilune.lua"};
    return config_read(&config, &options, &texts, &problems);
}

static void accepts(const char *text)
{
    if (!reads(text))
        fail_msg("%s:%d: %s", problems.list[0].file, problems.list[0].line, problems.list[0].text);
}

static void refuses(const char *text, const char *said)
{
    if (reads(text))
        fail_msg("taken: %s", text);
    for (size_t i = 0; i < problems.count; i++)
        if (strstr(problems.list[i].text, said))
            return;
    fail_msg("%s says: %s", text, problems.list[0].text);
}

static void flag_over_environment_over_file_over_default(void **state)
{
    (void)state;
    accepts(NULL);
    assert_string_equal(config.key[CONFIG_LISTEN].text, "127.0.0.1:8000");
    assert_int_equal(config.key[CONFIG_LISTEN].origin, ORIGIN_DEFAULT);
    accepts("return { listen = '127.0.0.1:1' }");
    assert_string_equal(config.key[CONFIG_LISTEN].text, "127.0.0.1:1");
    assert_int_equal(config.key[CONFIG_LISTEN].origin, ORIGIN_FILE);
    setenv("PERILUNE_LISTEN", "127.0.0.1:2", 1);
    accepts("return { listen = '127.0.0.1:1' }");
    assert_string_equal(config.key[CONFIG_LISTEN].text, "127.0.0.1:2");
    assert_int_equal(config.key[CONFIG_LISTEN].origin, ORIGIN_ENV);
    options.listen = "127.0.0.1:3";
    accepts("return { listen = '127.0.0.1:1' }");
    assert_string_equal(config.key[CONFIG_LISTEN].text, "127.0.0.1:3");
    assert_int_equal(config.key[CONFIG_LISTEN].origin, ORIGIN_FLAG);
}

static void settings_have_the_same_order(void **state)
{
    (void)state;
    int id = setting_find(STR("server.fields"));
    accepts("return { settings = { ['server.fields'] = 50 } }");
    assert_true(config.setting[id] == 50 && config.setting_origin[id] == ORIGIN_FILE);
    options.set[options.set_count++] = "server.fields=60";
    accepts("return { settings = { ['server.fields'] = 50 } }");
    assert_true(config.setting[id] == 60 && config.setting_origin[id] == ORIGIN_FLAG);
}

static double own_value(struct board *board, const char *upstream, enum own_setting which)
{
    const struct own_slot *slot = own_find(&board->own, str_from(upstream));
    assert_non_null(slot);
    return own_number(slot, &board->settings, which);
}

static void an_upstream_has_settings_of_its_own(void **state)
{
    (void)state;
    struct board *board = board_new(&(struct board_opts){.workers = 1});
    assert_non_null(board);
    accepts("return { upstreams = { api = { peers = { 'http://a' }, retries = 1 }, b = 'http://b' },"
            " settings = { ['upstream.retries'] = 3, ['upstream.b.budget_share'] = 0.5, ['upstream.b.keepalive_ms'] = '2s' } }");
    config_apply(&config, board, false);
    assert_true(own_value(board, "api", OWN_RETRIES) == 1); /* as its table says */
    assert_true(own_value(board, "b", OWN_RETRIES) == 3);   /* as all */
    assert_true(own_value(board, "b", OWN_BUDGET_SHARE) == .5 && own_value(board, "b", OWN_KEEPALIVE_MS) == 2000);
    options.set[options.set_count++] = "upstream.api.retries=0";
    accepts("return { upstreams = { api = { peers = { 'http://a' }, retries = 1 } }, settings = { ['upstream.api.retries'] = 2 } }");
    config_apply(&config, board, true);
    assert_true(own_value(board, "api", OWN_RETRIES) == 0); /* a flag goes before both */
    assert_null(own_find(&board->own, STR("b")));
    options.set_count = 0;
    refuses("return { upstreams = { api = 'http://a' }, settings = { ['upstream.apl.retries'] = 2 } }", "no upstream 'apl', did you mean 'api'");
    refuses("return { upstreams = { api = 'http://a' }, settings = { ['upstream.api.retries'] = 9 } }", "upstream.api.retries: ");
    refuses("return { upstreams = { api = 'http://a' }, settings = { ['upstream.api.retrys'] = 2 } }", "did you mean 'upstream.retries'");
    refuses("return { upstreams = { api = 'http://a' }, settings = { ['upstream.api.websocket'] = true } }", "unknown setting");
    board_free(board);
}

static void workers_are_at_least_one(void **state)
{
    (void)state;
    accepts("return { workers = 0 }");
    assert_true(config.workers >= 1);
    accepts("return { workers = 3 }");
    assert_int_equal(config.workers, 3);
    const char *bad[] = {"return { workers = -1 }", "return { workers = 1.5 }", "return { workers = 'many' }",
                         "return { workers = 65 }"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuses(bad[i], "workers");
}

static void names_the_key_that_was_meant(void **state)
{
    (void)state;
    refuses("return { lisen = 'x' }", "unknown key 'lisen', did you mean 'listen'?");
    refuses("return { upstream_ = 'x' }", "did you mean 'upstream");
    refuses("return { qqqqqqqqqq = 1 }", "unknown key 'qqqqqqqqqq'");
    refuses("return { settings = { ['server.field'] = 9 } }", "did you mean 'server.fields'?");
    options.set[options.set_count++] = "server.fieldz=9";
    refuses(NULL, "did you mean 'server.fields'?");
}

static void tells_the_line(void **state)
{
    (void)state;
    refuses("return {\n  listen = '127.0.0.1:1',\n  wrokers = 3,\n}", "did you mean 'workers'?");
    assert_int_equal(problems.list[0].line, 3);
    refuses("return {\n  listen = ,\n}", "unexpected symbol");
    assert_int_equal(problems.list[0].line, 2);
}

static void tells_all_that_is_wrong_at_once(void **state)
{
    (void)state;
    refuses("return { lisen = 1, settings = { ['server.fields'] = 1e9, nope = 1 }, listen = {} }", "unknown key");
    assert_true(problems.count >= 4);
}

static void runs_the_file_without_powers(void **state)
{
    (void)state;
    refuses("return { listen = os.getenv('HOME') }", "unknown name 'os'");
    refuses("io.open('/etc/passwd') return {}", "unknown name 'io'");
    refuses("return 7", "returns a table");
    refuses("error('no')", "no");
    refuses("while true do end", "");
    refuses("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end return {}", "");
    refuses("\27LJ", "");
    setenv("PERILUNE_WORKERS", "2", 1);
    accepts("return { rules = 'r' .. env('PERILUNE_WORKERS') }");
    assert_string_equal(config.key[CONFIG_RULES].text, "r2");
}

static void knows_groups_of_peers(void **state)
{
    (void)state;
    accepts("return { upstreams = { app = { 'http://a:1/x', 'http://b:2/x/' } } }");
    assert_int_equal(config.upstreams[0].peer_count, 2);
    assert_true(str_equal(config.upstreams[0].peers[1].host, STR("b")));
    accepts("return { upstreams = { app = { peers = { { url = 'http://a', weight = 3 }, 'http://b' }, balance = 'hash',"
            " hash = 'header:x-user', health = { path = '/h', interval_ms = 200, status = 204, timeout_ms = 100 },"
            " retries = 1, retry_on = { 503 }, try_timeout_ms = 50, hedge = true, slow_start_ms = 0,"
            " buffer_request = true } } }");
    const struct upstream_spec *u = &config.upstreams[0];
    assert_int_equal(u->peers[0].weight, 3);
    assert_int_equal(u->balance, BALANCE_HASH);
    assert_string_equal(u->hash_name, "x-user");
    assert_string_equal(u->health_path, "/h");
    assert_true(u->health_interval_ms == 200 && u->health_timeout_ms == 100 && u->health_status == 204);
    assert_true(u->retries == 1 && u->retry_503 && !u->retry_502 && u->try_timeout_ms == 50);
    assert_true(u->hedge == 0.95 && u->slow_start_ms == 0 && u->buffer_request);
}

static void refuses_groups_that_make_no_sense(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{}", "no peers"},
        {"{ peers = {} }", "no peers"},
        {"{ retries = 1 }", "no peers"},
        {"{ 'http://a', 7 }", "peer 2 is a number"},
        {"{ 'http://a/x', 'http://b/y' }", "different paths"},
        {"{ peers = { { url = 'http://a', weight = 0 } } }", "weight"},
        {"{ peers = { { url = 'http://a', wieght = 2 } } }", "wieght"},
        {"{ peers = { { weight = 2 } } }", "needs its url"},
        {"{ peers = { 'http://a' }, balanse = 'hash' }", "did you mean 'balance'"},
        {"{ peers = { 'http://a' }, balance = 'random' }", "two_choices"},
        {"{ peers = { 'http://a' }, balance = 'hash' }", "needs hash"},
        {"{ peers = { 'http://a' }, hash = 'path' }", "without balance"},
        {"{ peers = { 'http://a' }, balance = 'hash', hash = 'header:' }", "header:NAME"},
        {"{ peers = { 'http://a' }, health = { pth = '/' } }", "did you mean 'path'"},
        {"{ peers = { 'http://a' }, health = {} }", "needs its path"},
        {"{ peers = { 'http://a' }, health = { path = 'x' } }", "begins with '/'"},
        {"{ peers = { 'http://a' }, health = { path = '/', status = 99 } }", "status of health"},
        {"{ peers = { 'http://a' }, retries = 1.5 }", "retries is a whole number"},
        {"{ peers = { 'http://a' }, retry_on = { 500 } }", "502, 503 and 504"},
        {"{ peers = { 'http://a' }, hedge = 2 }", "quantile"},
        {"{ peers = { 'http://a' }, slow_start_ms = -1 }", "slow_start_ms"},
        {"{ peers = { 'http://a' }, buffer_request = 1 }", "true or false"},
        {"{ peers = { 'http://a' }, tls = {} }", "https"},
        {"{ peers = { 'https://a' }, tls = { cert = 'x' } }", "unknown key 'cert' of tls"},
        {"{ peers = { 'https://a' }, tls = { verify = 1 } }", "true or false"},
        {"{ peers = { 'https://a' }, tls = { ca = '/nonexistent.pem' } }", "/nonexistent.pem"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(text, sizeof text, "return { upstreams = { app = %s } }", cases[i][0]);
        refuses(text, cases[i][1]);
    }
    refuses("return { upstreams = { app = { 'http://a', 'http://b' } }, settings = { ['upstream.peers_max'] = 1 } }",
            "upstream.peers_max is 1");
}

static void knows_upstreams_by_url_and_by_name(void **state)
{
    (void)state;
    accepts("return { upstreams = { app = 'http://127.0.0.1:3000/base/' }, upstream = 'app' }");
    assert_string_equal(config.default_upstream, "app");
    assert_true(str_equal(config.upstreams[0].base_path, STR("/base")));
    assert_int_equal(config.upstreams[0].peers[0].port, 3000);
    accepts("return { upstream = 'http://127.0.0.1:3000' }");
    assert_non_null(config.default_upstream);
    accepts("return { upstreams = { app = { 'http://127.0.0.1:3000' } } }");
    refuses("return { upstream = 'ap', upstreams = { app = 'http://a' } }", "neither a URL");
    accepts("return { upstreams = { app = 'https://a' } }");
    assert_true(config.upstreams[0].peers[0].is_tls && config.upstreams[0].peers[0].port == 443);
    refuses("return { upstreams = { app = 7 } }", "must be a URL");
}

static void reads_addresses(void **state)
{
    (void)state;
    char host[64];
    uint16_t port;
    assert_true(config_address("127.0.0.1:0", host, sizeof host, &port) && port == 0);
    assert_true(config_address("[::1]:65535", host, sizeof host, &port) && port == 65535);
    assert_string_equal(host, "::1");
    const char *bad[] = {"", "127.0.0.1", ":", "a:b", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (config_address(bad[i], host, sizeof host, &port))
            fail_msg("'%s' was taken", bad[i]);
}

static int start_limits(void **state)
{
    (void)state;
    return limits_start();
}

static int stop_limits(void **state)
{
    (void)state;
    limits_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(flag_over_environment_over_file_over_default, begin, end),
        cmocka_unit_test_setup_teardown(settings_have_the_same_order, begin, end),
        cmocka_unit_test_setup_teardown(an_upstream_has_settings_of_its_own, begin, end),
        cmocka_unit_test_setup_teardown(workers_are_at_least_one, begin, end),
        cmocka_unit_test_setup_teardown(names_the_key_that_was_meant, begin, end),
        cmocka_unit_test_setup_teardown(tells_the_line, begin, end),
        cmocka_unit_test_setup_teardown(tells_all_that_is_wrong_at_once, begin, end),
        cmocka_unit_test_setup_teardown(runs_the_file_without_powers, begin, end),
        cmocka_unit_test_setup_teardown(knows_upstreams_by_url_and_by_name, begin, end),
        cmocka_unit_test_setup_teardown(knows_groups_of_peers, begin, end),
        cmocka_unit_test_setup_teardown(refuses_groups_that_make_no_sense, begin, end),
        cmocka_unit_test_setup_teardown(reads_addresses, begin, end),
    };
    return cmocka_run_group_tests(tests, start_limits, stop_limits);
}

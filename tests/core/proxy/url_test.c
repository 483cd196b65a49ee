// SPDX-License-Identifier: MIT
#include "proxy/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void reads(const char *text, const char *host, int port, const char *path)
{
    struct url url;
    const char *why = url_parse(str_from(text), &url);
    if (why)
        fail_msg("%s: %s", text, why);
    if (!str_equal(url.host, str_from(host)) || url.port != port || !str_equal(url.path, str_from(path)))
        fail_msg("%s: '%.*s' %d '%.*s'", text, STR_ARG(url.host), url.port, STR_ARG(url.path));
}

static void takes_host_port_and_path_apart(void **state)
{
    (void)state;
    reads("http://127.0.0.1:3000", "127.0.0.1", 3000, "");
    reads("http://localhost", "localhost", 80, "");
    reads("https://localhost/x", "localhost", 443, "/x");
    reads("https://[::1]:8443", "::1", 8443, "");
    reads("http://a.example:65535/x/y?z=1", "a.example", 65535, "/x/y?z=1");
    reads("http://[::1]:8080/x", "::1", 8080, "/x");
    reads("http://[fe80::1]", "fe80::1", 80, "");
    struct url url;
    assert_null(url_parse(STR("http://[::1]:8080/x"), &url));
    assert_true(str_equal(url.authority, STR("[::1]:8080")));
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    const char *bad[] = {"",           "127.0.0.1:80",      "ftp://a",        "https://",       "http://",
                         "http://:80", "http://a:0",        "http://a:65536", "http://a:x",      "http://user@a",
                         "http://[::1", "http://a b",       "http://a:80\r\nX: y", "http://a/\r\n", "http:///x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct url url;
        if (!url_parse(str_from(bad[i]), &url))
            fail_msg("'%s' was taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_host_port_and_path_apart), cmocka_unit_test(says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
#include "engine/collect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct config_tls no_tls;

static char folder[64], rules[96], path[256];
static struct problems problems;

static char *at(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text, size_t len)
{
    FILE *f = fopen(at(name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}

static int make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/perilune-bundle-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(rules, sizeof rules, "%s/rules", folder);
    mkdir(rules, 0755);
    mkdir(at("rules/routes"), 0755);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    problems_done(&problems);
    return system(command);
}

static void reads_lua_files_and_nothing_else(void **state)
{
    (void)state;
    put("rules/routes/b.lua", "return 2", 8);
    put("rules/routes/a.lua", "return\0001", 8);
    put("rules/routes/.hidden.lua", "x", 1);
    put("rules/routes/b.lua~", "x", 1);
    put("rules/notes.txt", "x", 1);
    put("perilune.lua", "return {}", 9);
    char config[256];
    strcpy(config, at("perilune.lua"));
    struct bundle *b = bundle_collect(&(struct bundle_from){.config = config, .rules = rules, .tls = NULL}, &problems);
    assert_non_null(b);
    assert_int_equal(b->own, 3);
    assert_true(b->count > b->own); /* the program's own routes */
    const struct source *a = bundle_find(b, "routes/a.lua");
    assert_non_null(a);
    assert_true(a->text.len == 8 && memcmp(a->text.p, "return\0001", 8) == 0);
    assert_non_null(bundle_find(b, BUNDLE_CONFIG));
    assert_null(bundle_find(b, "routes/.hidden.lua"));
    bundle_free(b);
}

static void comes_back_from_its_file_as_it_was(void **state)
{
    (void)state;
    put("rules/routes/a.lua", "return\n\0002\n", 10);
    put("rules/routes/empty.lua", "", 0);
    struct bundle *b = bundle_collect(&(struct bundle_from){.config = NULL, .rules = rules, .tls = NULL}, &problems);
    assert_non_null(b);
    assert_int_equal(bundle_save(b, at("saved")), 0);
    struct bundle *back = bundle_load(at("saved"), &problems);
    assert_non_null(back);
    assert_int_equal(back->own, 2);
    assert_true(back->hash == b->hash);
    assert_int_equal(bundle_find(back, "routes/a.lua")->text.len, 10);
    assert_int_equal(bundle_find(back, "routes/empty.lua")->text.len, 0);
    assert_int_equal(bundle_save(b, "/nowhere/x"), ERR_IO);
    bundle_free(b);
    bundle_free(back);
}

static void an_absent_folder_is_empty(void **state)
{
    (void)state;
    struct bundle *b = bundle_collect(&(struct bundle_from){.config = NULL, .rules = at("none"), .tls = NULL}, &problems);
    assert_non_null(b);
    assert_int_equal(b->own, 0);
    bundle_free(b);
    assert_null(bundle_collect(&(struct bundle_from){.config = at("no-such.lua"), .rules = rules, .tls = NULL}, &problems));
    assert_true(problems.count > 0);
}

static void refuses_a_torn_file(void **state)
{
    (void)state;
    put("rules/routes/a.lua", "return 1", 8);
    struct bundle *b = bundle_collect(&(struct bundle_from){.config = NULL, .rules = rules, .tls = NULL}, &problems);
    assert_int_equal(bundle_save(b, at("saved")), 0);
    bundle_free(b);
    struct stat st;
    stat(at("saved"), &st);
    char *whole = malloc((size_t)st.st_size);
    FILE *f = fopen(at("saved"), "r");
    assert_int_equal(fread(whole, 1, (size_t)st.st_size, f), st.st_size);
    fclose(f);
    size_t first_line = (size_t)((char *)memchr(whole, '\n', (size_t)st.st_size) - whole) + 1;
    for (size_t cut = 0; cut < (size_t)st.st_size; cut++) {
        if (cut == first_line)
            continue; /* a bundle without files is whole */
        put("torn", whole, cut);
        b = bundle_load(at("torn"), &problems);
        if (b)
            fail_msg("cut after %zu of %zu bytes was taken", cut, (size_t)st.st_size);
    }
    put("torn", "perilune-bundle 1\na\na\n99999999999999999999\nx\n", 45);
    assert_null(bundle_load(at("torn"), &problems));
    free(whole);
}

static void the_signature_changes_with_the_folder(void **state)
{
    (void)state;
    put("rules/routes/a.lua", "return 1", 8);
    uint64_t before = bundle_signature(&(struct bundle_from){.config = NULL, .state = "/nonexistent", .rules = rules, .tls = &no_tls});
    assert_true(before == bundle_signature(&(struct bundle_from){.config = NULL, .state = "/nonexistent", .rules = rules, .tls = &no_tls}));
    put("rules/routes/b.lua", "", 0);
    uint64_t after = bundle_signature(&(struct bundle_from){.config = NULL, .state = "/nonexistent", .rules = rules, .tls = &no_tls});
    assert_true(before != after);
    put("rules/routes/a.lua", "return 12", 9);
    assert_true(after != bundle_signature(&(struct bundle_from){.config = NULL, .state = "/nonexistent", .rules = rules, .tls = &no_tls}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_lua_files_and_nothing_else, make, end),
        cmocka_unit_test_setup_teardown(comes_back_from_its_file_as_it_was, make, end),
        cmocka_unit_test_setup_teardown(an_absent_folder_is_empty, make, end),
        cmocka_unit_test_setup_teardown(refuses_a_torn_file, make, end),
        cmocka_unit_test_setup_teardown(the_signature_changes_with_the_folder, make, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

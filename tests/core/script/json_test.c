// SPDX-License-Identifier: MIT
#include "script/json.h"

#include "base/err.h"

#include <lauxlib.h>
#include <lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static void run(lua_State *L, const char *code)
{
    if (luaL_dostring(L, code))
        fail_msg("%s", lua_tostring(L, -1));
}

static int setup(void **state)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    json_open(L);
    lua_setglobal(L, "json");
    run(L, "encode, decode, null, array = json.encode, json.decode, json.null, json.array\n"
           "function is(got, want)\n"
           "  if got ~= want then error(('got %s, want %s'):format(tostring(got), tostring(want)), 2) end\n"
           "end\n"
           "function fails(part, f, ...)\n"
           "  local ok, value, why = pcall(f, ...)\n"
           "  local text = not ok and value or why\n"
           "  if ok and value ~= nil then error('no error, want ' .. part, 2) end\n"
           "  if not text:find(part, 1, true) then error(text .. ', want ' .. part, 2) end\n"
           "end\n");
    *state = L;
    return 0;
}

static int teardown(void **state)
{
    lua_close(*state);
    return 0;
}

static void encodes_numbers_so_that_they_come_back(void **state)
{
    run(*state,
        "is(encode(0), '0') is(encode(-0), '0') is(encode(-1), '-1') is(encode(1234567890), '1234567890')\n"
        "is(encode(2^53), '9007199254740992') is(encode(-2^53), '-9007199254740992') is(encode(1e15), '1000000000000000')\n"
        "is(encode(0.1), '0.1') is(encode(-2.5), '-2.5') is(encode(1/3), '0.3333333333333333') is(encode(1e300), '1e+300')\n"
        "for _, n in ipairs{0.1 + 0.2, 1/3, 2^63, 5e-324, 1.7976931348623157e308, 123456.789e-30, 2^53 + 2, math.pi} do\n"
        "  is(decode(encode(n)), n) is(decode(encode(-n)), -n) is(decode(encode{n})[1], n)\n"
        "end\n"
        "fails('cannot encode NaN', encode, 0/0) fails('cannot encode infinity at .a[1]', encode, {a = {-1/0}})\n");
}

static void encodes_strings_with_escapes_and_replacements(void **state)
{
    run(*state,
        "is(encode('a\"b\\\\c/d'), '\"a\\\\\"b\\\\\\\\c/d\"') is(encode('\\n\\r\\t\\b\\f\\0\\1\\31'), '\"\\\\n\\\\r\\\\t\\\\b\\\\f\\\\u0000\\\\u0001\\\\u001f\"')\n"
        "is(encode('h\\195\\169 \\226\\130\\172 \\240\\159\\152\\128 \\127'), '\"h\\195\\169 \\226\\130\\172 \\240\\159\\152\\128 \\127\"')\n"
        "local bad = '\\239\\191\\189'\n"
        "for _, s in ipairs{'\\128', '\\255', '\\192\\128', '\\195', '\\224\\128\\128', '\\237\\160\\128', '\\240\\128\\128\\128',\n"
        "  '\\244\\144\\128\\128', '\\245\\128\\128\\128', '\\226\\130'} do\n"
        "  is(encode('x' .. s .. 'y'), '\"x' .. bad:rep(#s) .. 'y\"')\n"
        "  is(encode(s), '\"' .. bad:rep(#s) .. '\"')\n"
        "  fails('not valid UTF-8', decode, '\"x' .. s .. '\"')\n"
        "end\n"
        "for byte = 0, 255 do for at = 0, 20 do\n" /* every byte at every place of the 8-byte stride */
        "  local s = ('z'):rep(at) .. string.char(byte) .. ('z'):rep(20 - at)\n"
        "  is(decode(encode(s)), byte < 128 and s or ('z'):rep(at) .. bad .. ('z'):rep(20 - at))\n"
        "end end\n");
}

static void tells_lists_from_objects(void **state)
{
    run(*state,
        "is(encode{}, '{}') is(encode(array{}), '[]') is(encode(array()), '[]') is(encode{1, 2, 'x'}, '[1,2,\"x\"]')\n"
        "is(encode{{}, array{}, {1}}, '[{},[],[1]]') is(encode{a = 1}, '{\"a\":1}') is(encode{[2] = 1}, '{\"2\":1}')\n"
        "is(encode{[-1] = 1}, '{\"-1\":1}') is(encode{[0] = 1}, '{\"0\":1}') is(encode{['1'] = 1}, '{\"1\":1}')\n"
        "local t = {1, nil, 3} is(#encode(t), #'{\"1\":1,\"3\":3}')\n"
        "local t = {} for i = 100, 1, -1 do t[i] = i end is(encode(t):sub(1, 7), '[1,2,3,') is(#decode(encode(t)), 100)\n"
        "t.x = 1 is(encode(t):sub(1, 1), '{')\n"
        "is(encode(array{1, null}), '[1,null]') is(encode(null), 'null') is(encode(nil), 'null') is(encode{true, false}, '[true,false]')\n"
        "is(encode(setmetatable({1}, {__index = error, __len = error})), '[1]')\n"
        "is(encode(decode('[]')), '[]') is(encode(decode('{}')), '{}') is(encode(decode('[[],{}]')), '[[],{}]')\n");
}

static void names_what_it_cannot_encode_and_where(void **state)
{
    run(*state,
        "fails('cannot encode a function at .users[3].f', encode, {users = {1, 2, {f = print}}})\n"
        "fails('cannot encode a userdata at [1]', encode, {io.stdout}) fails('cannot encode a thread', encode, coroutine.create(print))\n"
        "fails('cannot encode a function at [\"a b\"][\"\"]', encode, {['a b'] = {[''] = print}})\n"
        "fails('cannot encode a function at [5]', encode, {[5] = print})\n"
        "fails('cannot encode a key of type boolean at .a', encode, {a = {[true] = 1}})\n"
        "fails('cannot encode a key that is a fraction', encode, {[1.5] = 1})\n"
        "fails('cannot encode a function at [\"' .. ('k'):rep(64) .. '\"]', encode, {[('k'):rep(1000)] = print})\n"
        "local loop = {} loop.again = loop fails('nested deeper than 64 levels (a cycle?) at .again.again', encode, loop)\n"
        "local deep = 1 for i = 1, 64 do deep = {deep} end is(encode(deep), ('['):rep(64) .. 1 .. (']'):rep(64))\n"
        "fails('nested deeper', encode, {deep}) is(encode('still works'), '\"still works\"')\n");
}

static void leaves_the_buffer_and_the_stack_alone_on_failure(void **state)
{
    lua_State *L = *state;
    struct buf out = {0};
    const char *why;
    buf_add(&out, "consumed|before", 15);
    buf_consume(&out, 9);
    run(L, "value = {1, {x = ('y'):rep(5000), f = print}}");
    lua_getglobal(L, "value");
    int top = lua_gettop(L);
    assert_false(json_encode(L, -1, &out, &why));
    assert_string_equal(why, "cannot encode a function at [2].f");
    assert_int_equal(lua_gettop(L), top);
    assert_true(str_equal(buf_str(&out), STR("before")));
    run(L, "value[2].f = nil value[2].x = 7");
    assert_true(json_encode(L, -1, &out, &why));
    assert_true(str_equal(buf_str(&out), STR("before[1,{\"x\":7}]")));
    assert_int_equal(lua_gettop(L), top);
    buf_done(&out);
}

static void decodes_what_the_standard_allows(void **state)
{
    run(*state,
        "is(decode('1'), 1) is(decode(' \\t\\r\\n-12 '), -12) is(decode('1.5e3'), 1500) is(decode('1E-2'), 0.01) is(decode('0'), 0)\n"
        "is(decode('-0'), 0) is(decode('0.25'), 0.25) is(decode('123456789012345678'), 123456789012345678)\n"
        "is(decode('1' .. ('0'):rep(100)), 1e100) is(decode('0.' .. ('3'):rep(400)), 1/3) is(decode('1e-999'), 0)\n"
        "is(decode('true'), true) is(decode('false'), false) is(decode('null'), null) is(decode('\"\"'), '')\n"
        "is(decode('\"\\\\u0041\\\\u00e9\\\\u20ac\\\\ud83d\\\\uDE00\\\\u0000\\\\/\\\\\"\\\\\\\\\\\\b\\\\f\\\\n\\\\r\\\\t\"'),\n"
        "  'A\\195\\169\\226\\130\\172\\240\\159\\152\\128\\0/\"\\\\\\b\\f\\n\\r\\t')\n"
        "local t = decode('{\"a\" : [1, {\"b\":null}, [] ], \"a\":{\"c\":[true]}, \"\":\"x\"}')\n"
        "is(t.a.c[1], true) is(t[''], 'x') is(#decode('[1,2,3]'), 3) is(decode('[null]')[1], null)\n"
        "is(getmetatable(decode('[]')), 'array') is(pcall(setmetatable, array(), {}), false)\n"
        "is(#decode('\"' .. ('x'):rep(1e6) .. '\\\\n' .. ('y'):rep(1e6) .. '\"'), 2e6 + 1)\n");
}

static void refuses_everything_else(void **state)
{
    run(*state,
        "local early = 'the text ends too early'\n"
        "for text, why in pairs{[''] = early, [' '] = early, ['['] = early, ['{'] = early, ['[1'] = early, ['[1,'] = early,\n"
        "  ['{\"a\"'] = early, ['{\"a\":'] = early, ['{\"a\":1'] = early, ['\"a'] = early, ['\"\\\\'] = early, ['\"\\\\u12'] = early,\n"
        "  ['-'] = early, ['1.'] = early, ['1e'] = early, ['1e+'] = early, ['tru'] = early, ['n'] = early,\n"
        "  ['[1,]'] = 'line 1 column 4: a value was expected', ['[,1]'] = 'a value was expected', ['[1 2]'] = \"',' or ']' was expected\",\n"
        "  ['{,}'] = 'a key in quotes', ['{\"a\":1,}'] = 'a key in quotes', ['{a:1}'] = 'a key in quotes', ['{1:1}'] = 'a key in quotes',\n"
        "  ['{\"a\" 1}'] = \"':' was expected\", ['{\"a\":1 \"b\":2}'] = \"',' or '}' was expected\", ['[1}'] = \"',' or ']'\",\n"
        "  ['01'] = 'something follows', ['-01'] = 'something follows', ['1 2'] = 'something follows', ['[] ]'] = 'something follows',\n"
        "  ['0x10'] = 'something follows', ['+1'] = 'a value', ['.5'] = 'a value', ['-a'] = 'a digit', ['1.x'] = 'a digit', ['1e x'] = 'a digit',\n"
        "  ['NaN'] = 'a value', ['nan'] = 'a value', ['Infinity'] = 'a value', ['-Infinity'] = 'a digit', ['True'] = 'a value', ['nulL'] = 'a value',\n"
        "  ['1e999'] = 'out of range', ['-1' .. ('0'):rep(400)] = 'out of range', [\"'a'\"] = 'a value', ['undefined'] = 'a value',\n"
        "  ['\"\\n\"'] = 'a control character', ['\"\\0\"'] = 'a control character', ['\"\\\\x41\"'] = 'no such escape', ['\"\\\\0\"'] = 'no such escape',\n"
        "  ['\"\\\\\\0\"'] = 'no such escape', ['\"\\\\u00g0\"'] = 'hexadecimal', ['\"\\\\ud800\"'] = 'surrogate', ['\"\\\\udc00\"'] = 'surrogate',\n"
        "  ['\"\\\\ud800\\\\u0041\"'] = 'surrogate', ['\"\\\\ud800x\"'] = 'surrogate', ['\\239\\187\\1911'] = 'a value', ['1\\0'] = 'something follows',\n"
        "  ['\\0'] = 'a value', ['[1]// x'] = 'something follows', ['/**/1'] = 'a value', ['[\\n1,\\n  x]'] = 'line 3 column 3: a value',\n"
        "  [('['):rep(65) .. (']'):rep(65)] = 'column 65: nested too deeply', [('['):rep(1e5)] = 'nested too deeply',\n"
        "  [('{\"a\":'):rep(1e5)] = 'nested too deeply'} do\n"
        "  fails(why, decode, text)\n"
        "end\n"
        "assert(decode(('['):rep(64) .. (']'):rep(64)))\n"
        "local whole = '{\"a\":[1,-2.5e3,\"\\\\u20ac\\\\n\",true,null],\"b\":{}}'\n"
        "assert(decode(whole)) for i = 0, #whole - 1 do fails('line 1', decode, whole:sub(1, i)) end\n");
}

/* The text is a malloc'ed block of exactly its size, so a sanitizer build
 * sees any read behind the end. */
static void reads_no_byte_beyond_the_text(void **state)
{
    lua_State *L = *state;
    static const char *const texts[] = {"12", "-", "1e5", "[1,2", "\"ab\\", "tru", "\"\xe2\x82", "0.1", "\"abcdefgh"};
    char why[64];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        size_t len = strlen(texts[i]);
        char *exact = malloc(len);
        memcpy(exact, texts[i], len);
        int top = lua_gettop(L);
        int err = json_decode(L, exact, len, 8, why, sizeof why);
        assert_true(err == 0 || err == ERR_INVAL);
        assert_int_equal(lua_gettop(L), top + (err == 0));
        lua_settop(L, top);
        free(exact);
    }
    assert_int_equal(json_decode(L, "[[1]]", 5, 1, why, sizeof why), ERR_TOO_LARGE);
    assert_string_equal(why, "line 1 column 2: nested too deeply");
}

static void round_trips_random_values(void **state)
{
    run(*state,
        "local seed = 7\n"
        "local function random(n) seed = (seed * 1103515245 + 12345) % 2147483648\n"
        "  return math.floor(seed / 65536) % n + 1 end\n"
        "local function text() local out = {} for i = 1, random(20) - 1 do\n"
        "  out[i] = ({'a', '\"', '\\\\', '\\n', '\\0', '\\195\\169', '\\240\\159\\152\\128', 'xyz', '/'})[random(9)] end\n"
        "  return table.concat(out) end\n"
        "local function make(depth)\n"
        "  local kind = random(depth > 0 and 8 or 5)\n"
        "  if kind == 1 then return random(1000) - 500 elseif kind == 2 then return (random(30000) - 15000) / random(30000)\n"
        "  elseif kind == 3 then return text() elseif kind == 4 then return random(2) == 1 elseif kind == 5 then return null end\n"
        "  local t = kind < 8 and {} or array()\n"
        "  for i = 1, random(6) - 1 do t[kind < 8 and 'k' .. text() or i] = make(depth - 1) end\n"
        "  return t\n"
        "end\n"
        "local function equal(a, b)\n"
        "  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end\n"
        "  if getmetatable(a) ~= getmetatable(b) then return false end\n"
        "  for k, v in pairs(a) do if not equal(v, b[k]) then return false end end\n"
        "  for k in pairs(b) do if a[k] == nil then return false end end\n"
        "  return true\n"
        "end\n"
        "for i = 1, 5000 do\n"
        "  local value = make(5) local once = encode(value) local back, why = decode(once) assert(not why, why)\n"
        "  if not equal(value, back) then error(once .. ' became ' .. encode(back)) end\n"
        "end\n"
        /* noise: never a crash, always a value or a message */
        "local bits = {'[', ']', '{', '}', ',', ':', '\"', '\\\\', 'u', '1', '-', '.', 'e', 'true', 'null', ' ', '\\200', '\\0', '\"a\"'}\n"
        "for i = 1, 50000 do\n"
        "  local out = {} for j = 1, random(12) do out[j] = bits[random(#bits)] end\n"
        "  local value, why = decode(table.concat(out))\n"
        "  assert(value ~= nil or why:find('^line %d+ column %d+: '))\n"
        "end\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(encodes_numbers_so_that_they_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(encodes_strings_with_escapes_and_replacements, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_lists_from_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(names_what_it_cannot_encode_and_where, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_the_buffer_and_the_stack_alone_on_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(decodes_what_the_standard_allows, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_everything_else, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_no_byte_beyond_the_text, setup, teardown),
        cmocka_unit_test_setup_teardown(round_trips_random_values, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

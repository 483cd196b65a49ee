// Compares our patterns with the stock ones, then throws bombs at them.
// SPDX-License-Identifier: MIT
#include "script/pattern.h"
#include "base/clock.h"
#include "script/text.h"

#include <lauxlib.h>
#include <lualib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static _Atomic double steps = 1e6;

/* `ours` and `stock` in the host decide which functions run; errors compare
 * without their position. */
static const char PRELUDE[] =
    "local function pack(...) return {n = select('#', ...), ...} end\n"
    "local function show(r)\n"
    "  local out = {}\n"
    "  for i = 1, r.n do out[i] = type(r[i]) .. ':' .. tostring(r[i]):gsub('%z', '\\\\0') end\n"
    "  return table.concat(out, ' | ')\n"
    "end\n"
    "local function all(f) return function(s, p)\n"
    "  local out = {}\n"
    "  for a, b, c in f(s, p) do\n"
    "    out[#out + 1] = show(pack(a, b, c))\n"
    "    if #out > 200 then break end\n"
    "  end\n"
    "  return table.concat(out, ';')\n"
    "end end\n"
    "function run(lib, name, ...)\n"
    "  local f = name == 'gmatch' and all(lib.gmatch) or lib[name]\n"
    "  local r = pack(pcall(f, ...))\n"
    "  if not r[1] then r[2] = r[2]:gsub(\"to '[^']*'\", 'to f') end\n"
    "  return show(r)\n"
    "end\n"
    "function same(name, ...)\n"
    "  local a, b = run(stock, name, ...), run(ours, name, ...)\n"
    "  if a ~= b then\n"
    "    local args = show(pack(...))\n"
    "    error(('%s(%s)\\n  stock %s\\n  ours  %s'):format(name, args, a, b), 0)\n"
    "  end\n"
    "end\n";

static void run(lua_State *L, const char *code)
{
    if (luaL_dostring(L, code))
        fail_msg("%s", lua_tostring(L, -1));
}

static int setup(void **state)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    run(L, "stock = {} for k, v in pairs(string) do stock[k] = v end ours = {gfind = 1}");
    lua_getglobal(L, "ours");
    pattern_open(L, &steps);
    lua_pop(L, 1);
    text_open(L);
    lua_setglobal(L, "text");
    run(L, PRELUDE);
    steps = 1e6;
    *state = L;
    return 0;
}

static int teardown(void **state)
{
    lua_close(*state);
    return 0;
}

static void agrees_with_stock_on_known_cases(void **state)
{
    run(*state,
        "local subjects = {'', 'a', 'aaa', 'abc', 'hello world', 'key = value', '[[x]]', '(a(b)c)d',\n"
        "  'THE (quick) fox', 'a\\0b', '\\0', 'x=1, y=22', '  trim me  ', '%d', 'a.b.c', ']', '^', '$x$',\n"
        "  '\\255\\200', ('ab'):rep(50), 'aXbXc', '2024-01-02T03:04:05', 'a-b', '/users/42/posts'}\n"
        "local patterns = {'', '.', '.*', '.-', '.+', '.?', '^', '$', '^$', 'a', 'a*', 'a-', 'a+', 'a?',\n"
        "  '^a', 'a$', '^a*$', '(a)', '(a*)', '()', '()a()', '(a)(b)', '((a)b)', '(.)%1', '(.-)%1', '%a+',\n"
        "  '%d+', '%s*', '%w+', '%p', '%c', '%l', '%u', '%x+', '%z', '%g', '%A', '%D', '%S+', '%W', '%P',\n"
        "  '%C', '%L', '%U', '%X', '%Z', '%G', '%y', '%%', '%.', '[abc]', '[^abc]', '[a-c]+', '[%a_][%w_]*',\n"
        "  '[]]', '[^]]', '[]-a]', '[a-]', '[-a]', '[a-%%]', '[%a-z]', '[%]]', '[^%s]', '[.]', '[*]+', '%b()',\n"
        "  '%b[]', '%baa', '%f[%a]%a+', '%f[%z]', '%f[^%a]', '^(%s*)(.-)%s*$', '(%w+)%s*=%s*(%w+)',\n"
        "  '(%d+)-(%d+)-(%d+)', '^/users/(%d+)/', '[^/]+$', 'b$c', '$a', 'a^', '.b', '**', '*',\n"
        "  '+', '?', '-', 'a**', 'a--', 'a?b', ']', ')x', 'x)', '(.)(.)(.)(.)', '[\\200-\\255]', '[z-a]', '[^', '[',\n"
        "  '[a', '[%', '[%a', '[]', '[^]', '%', 'a%', '(', '(()', ')', '.)', '(.))', '%1', '(a)%2', '(%1)', '(a%1)',\n"
        "  '%0', '%f', '%fa', '%f[', '%b', '%bx', ('()'):rep(32), ('()'):rep(33), '()%1', '.%1', '[a%', '[a-',\n"
        "  ('(.)'):rep(9) .. '%9', '(h)(e)(l)%3', '[%a-]+', '[+-]', '[%--/]', '(.*)(.*)', '(.-)(.-)$', '%f[%w](%w)'}\n"
        "local with = {'', 'x', '<%0>', '<%1>', '%2%1', '%%', '%', '%x', '%9', 7, {a = 'A', b = false, [1] = 'one'},\n"
        "  {a = {}}, function(a, b) return b or a end, function() end, function() return false end,\n"
        "  function() return {} end, function() error('no', 0) end}\n"
        "for _, s in ipairs(subjects) do for _, p in ipairs(patterns) do\n"
        "  for _, init in ipairs{1, 2, 3, 0, -1, -2, 100, -100} do\n"
        "    same('find', s, p, init) same('match', s, p, init) same('find', s, p, init, true)\n"
        "  end\n"
        "  same('find', s, p) same('match', s, p) same('gmatch', s, p)\n"
        "  for _, w in ipairs(with) do\n"
        "    same('gsub', s, p, w)\n"
        "    for _, n in ipairs{0, 1, 2, -1} do same('gsub', s, p, w, n) end\n"
        "  end\n"
        "end end\n");
}

static void agrees_with_stock_on_wrong_arguments(void **state)
{
    run(*state,
        "for _, name in ipairs{'find', 'match', 'gmatch', 'gsub'} do\n"
        "  same(name) same(name, 'a') same(name, {}) same(name, 'a', {}) same(name, nil, 'a') same(name, 12, 1)\n"
        "end\n"
        "for _, name in ipairs{'find', 'match'} do same(name, 'a', 'a', 'x') same(name, 'abc', 'b', '2') end\n"
        "same('gsub', 'a', 'a', nil) same('gsub', 'a', 'a', true) same('gsub', 'a', 'a', 'b', 'x')\n"
        "same('gsub', 123, 2, 4)\n"
        "local proxy = setmetatable({}, {__index = function(_, k) return k .. k end})\n"
        "same('gsub', 'abc', '%w', proxy)\n"
        "assert(ours.gfind == nil)\n");
}

static void agrees_with_stock_on_random_cases(void **state)
{
    run(*state,
        "local seed = 20240501\n"
        "local function random(n) seed = (seed * 1103515245 + 12345) % 2147483648\n"
        "  return math.floor(seed / 65536) % n + 1 end\n"
        "local pieces = {'a', 'b', 'c', '.', '%a', '%w', '%1', '%2', '(', ')', '()', '[ab]', '[^a]', '[a-b]', '*',\n"
        "  '+', '-', '?', '^', '$', '%bab', '%f[a]', '%f[^b]', '%', '[', ']', '(.-)', '(a*)', '%A', '%z', '-'}\n"
        "local function build(from, n)\n"
        "  local out = {}\n"
        "  for i = 1, random(n) - 1 do out[i] = from[random(#from)] end\n"
        "  return table.concat(out)\n"
        "end\n"
        "local letters = {'a', 'a', 'b', 'b', 'c', '\\0', ' '}\n"
        "local with = {'<%1>', '%0%0', '-', {a = 'x', b = 1}, function(a, b) return b end}\n"
        "for i = 1, 60000 do\n"
        "  local s, p = build(letters, 14), build(pieces, 9)\n"
        "  same('find', s, p, random(8) - 3) same('match', s, p) same('gmatch', s, p)\n"
        "  same('gsub', s, p, with[random(#with)]) same('gsub', s, p, with[random(#with)], random(3) - 1)\n"
        "end\n");
}

static void stops_backtracking_bombs(void **state)
{
    lua_State *L = *state;
    uint64_t start = clock_now_ns();
    run(L,
        "local function bomb(s, p)\n"
        "  for _, name in ipairs{'find', 'match', 'gmatch', 'gsub'} do\n"
        "    local r = run(ours, name, s, p, name == 'gsub' and '' or nil)\n"
        "    if not r:find('pattern did more than ' .. 1e6 + 8 * #s .. ' steps on ' .. #s .. ' bytes; make it simpler', 1, true)\n"
        "    then error(name .. ' ' .. p:sub(1, 60) .. ': ' .. r:sub(1, 200)) end\n"
        "  end\n"
        "end\n"
        "local eight = ('a'):rep(8192)\n"
        "bomb(('a'):rep(30) , ('a?'):rep(30) .. ('a'):rep(30) .. 'b')\n"
        "bomb(eight, ('.*'):rep(12) .. 'x')\n"
        "bomb(eight, ('.-'):rep(12) .. 'x')\n"
        "bomb(eight, '(.*)(.*)%1%2x')\n"
        "bomb(eight, '[' .. ('bcd'):rep(3000) .. ']*x')\n"
        "bomb(('('):rep(8192), '%b()')\n"
        "bomb((' '):rep(8192), '%s*$x')\n"
        "bomb(('a'):rep(1e6), '(.-)%1%1%1x')\n");
    uint64_t ms = (clock_now_ns() - start) / 1000000;
    if (ms > 30000) /* a sanitizer build takes about a second, a bomb that goes off years */
        fail_msg("32 bombs took %u ms", (unsigned)ms);
}

/* Where ours differs: for stock 5.1 a pattern ends at its first "\0". */
static void takes_nul_bytes_in_patterns_as_characters(void **state)
{
    run(*state, "assert(ours.find('a\\0bc', '\\0b.') == 2) assert(ours.match('a\\0b', '[\\0]b') == '\\0b')\n"
                "assert(ours.match('', '\\0*') == '') assert(ours.match('ab', 'a\\0?b') == 'ab')\n"
                "assert(ours.find('', '\\0-$') == 1) assert(ours.find('ab', '.\\0') == nil)");
}

static void bounds_the_c_stack(void **state)
{
    run(*state,
        "assert(run(ours, 'find', ('a'):rep(500), ('a?'):rep(500) .. 'x'):find('pattern too complex', 1, true))\n"
        "assert(run(ours, 'find', ('a'):rep(1e5), 'x' .. ('(a)'):rep(500)):find('nil'))\n"
        "local long = ('a'):rep(400000)\n"
        "local from, to = ours.find(long, '^a-$') assert(from == 1 and to == #long)\n"
        "assert(ours.match(long, '^(a*)$') == long)\n");
}

static void reads_the_limit_at_each_call(void **state)
{
    steps = 10;
    run(*state, "local ok, why = pcall(ours.find, ('a'):rep(20), '.-.-.-x')\n"
                "assert(not ok and why:find('more than 170 steps on 20 bytes', 1, true), why)");
    steps = 1e6;
    run(*state, "assert(ours.find(('a'):rep(20), '.-.-.-x') == nil)\n"
                "assert(#ours.gsub(('a'):rep(1e7), 'a', 'b') == 1e7)");
}

static void splits_and_trims_in_linear_time(void **state)
{
    run(*state,
        "local function list(...) return table.concat(text.split(...), '|') end\n"
        "assert(list('a,b,,c', ',') == 'a|b||c') assert(list('', ',') == '') assert(#text.split('', ',') == 1)\n"
        "assert(list('a,b,c', ',', 2) == 'a|b,c') assert(list('a,b', ',', 1) == 'a,b')\n"
        "assert(list('a, b, c', ', ') == 'a|b|c') assert(list(',', ',') == '|') assert(list('aaa', 'aa') == '|a')\n"
        "assert(list('a.b%c', '.') == 'a|b%c') assert(list('a\\0b', '\\0') == 'a|b')\n"
        "assert(not pcall(text.split, 'a', '')) assert(not pcall(text.split, 'a', ',', 0))\n"
        "assert(text.trim(' \\t\\r\\n a b \\v\\f') == 'a b') assert(text.trim('   ') == '') assert(text.trim('') == '')\n"
        "assert(text.trim('x') == 'x')\n"
        "assert(text.starts_with('abc', 'ab') and text.starts_with('abc', '') and not text.starts_with('a', 'ab'))\n"
        "assert(text.ends_with('abc', 'bc') and text.ends_with('abc', '') and not text.ends_with('c', 'bc'))\n"
        "assert(text.trim((' '):rep(1e6) .. 'x' .. (' '):rep(1e6)) == 'x')\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(agrees_with_stock_on_known_cases, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_with_stock_on_wrong_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(agrees_with_stock_on_random_cases, setup, teardown),
        cmocka_unit_test_setup_teardown(stops_backtracking_bombs, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_nul_bytes_in_patterns_as_characters, setup, teardown),
        cmocka_unit_test_setup_teardown(bounds_the_c_stack, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_the_limit_at_each_call, setup, teardown),
        cmocka_unit_test_setup_teardown(splits_and_trims_in_linear_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

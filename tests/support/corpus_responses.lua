--- What upstreams answer when they are broken, hostile or merely odd.
--
-- The upstream reads one request, sends `bytes` in one piece and closes:
--
--   name    what is odd about it
--   rfc     the section that says so
--   bytes   what the upstream sends
--   method  of the request, "GET" or "HEAD"
--   expect  "502": the head is malformed, nothing of it may be relayed;
--           "truncated": the head is fine and the body lies, so the client
--           must see a visibly broken answer or 502, never a complete one;
--           "ok": to be relayed. Bytes behind a complete answer are dropped
--           and that connection is not used again.
-- SPDX-License-Identifier: MIT

local list = {}
local rfc

local function section(source)
  rfc = source
end

local function add(name, bytes, expect, method)
  list[#list + 1] = { name = name, rfc = rfc, bytes = bytes, expect = expect, method = method or "GET" }
end

local OK = "HTTP/1.1 200 OK\r\n"
local POISON = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

local function fields(text, body) return OK .. text .. "\r\n" .. (body or "") end
local function chunked(body) return fields("Transfer-Encoding: chunked\r\n", body) end

-- ordinary answers ---------------------------------------------------------
section("9112 6.3")
add("content length", fields("Content-Length: 2\r\n", "ok"), "ok")
add("content length of 0", fields("Content-Length: 0\r\n"), "ok")
add("chunks", chunked("2\r\nok\r\n0\r\n\r\n"), "ok")
add("body until the end", fields("", "ok"), "ok")
add("empty body until the end", fields(""), "ok")
add("HTTP/1.0 until the end", "HTTP/1.0 200 OK\r\n\r\nok", "ok")
add("HTTP/1.0 with a length", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok")
add("chunks with extensions and trailers", chunked('2;a=b;c="d"\r\nok\r\n0\r\nA: b\r\n\r\n'), "ok")
add("trailers that would reframe",
  chunked("2\r\nok\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\n\r\n"), "ok")
section("9112 4")
add("no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok")
add("empty reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", "ok")
add("reason with high bytes", "HTTP/1.1 200 D'accord \xe9\r\nContent-Length: 2\r\n\r\nok", "ok")
add("status without a name", "HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", "ok")
section("9110 5.5")
add("value with high bytes and a tab", fields("A: \xe9\tb\r\nContent-Length: 2\r\n", "ok"), "ok")
section("9110 7.6.1")
add("hop-by-hop fields",
  fields("Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\n" ..
    "Content-Length: 2\r\n", "ok"), "ok")
add("Connection names Content-Length", fields("Connection: Content-Length\r\nContent-Length: 2\r\n", "ok"), "ok")

-- answers without a body ---------------------------------------------------
section("9112 6.3(1)")
add("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", "ok")
add("304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", "ok")
add("304 with chunks announced", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "ok")
add("304 and a second answer",
  "HTTP/1.1 304 Not Modified\r\nContent-Length: " .. #POISON .. "\r\n\r\n" .. POISON, "ok")
add("204", "HTTP/1.1 204 No Content\r\n\r\n", "ok")
add("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n", "ok")
add("204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", "ok")
add("204 with a body and no length", "HTTP/1.1 204 No Content\r\n\r\npoison", "ok")
add("HEAD with a length", fields("Content-Length: 6\r\n"), "ok", "HEAD")
add("HEAD with a body", fields("Content-Length: 6\r\n", "poison"), "ok", "HEAD")
add("HEAD with chunks announced", fields("Transfer-Encoding: chunked\r\n"), "ok", "HEAD")
add("HEAD with a body in chunks", chunked("6\r\npoison\r\n0\r\n\r\n"), "ok", "HEAD")
add("HEAD without a length", fields(""), "ok", "HEAD")

-- more than was asked for --------------------------------------------------
section("9112 9.3, 6.3")
add("bytes behind a body", fields("Content-Length: 2\r\n", "okpoison"), "ok")
add("bytes behind the last chunk", chunked("2\r\nok\r\n0\r\n\r\npoison"), "ok")
add("two answers", fields("Content-Length: 2\r\n", "ok") .. POISON, "ok")
add("two answers, the first empty", fields("Content-Length: 0\r\n") .. POISON, "ok")
add("two answers, the first in chunks", chunked("0\r\n\r\n") .. POISON, "ok")

-- interim answers ----------------------------------------------------------
section("9110 15.2")
add("100 before the answer", "HTTP/1.1 100 Continue\r\n\r\n" .. fields("Content-Length: 2\r\n", "ok"), "ok")
add("103 before the answer",
  "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" .. fields("Content-Length: 2\r\n", "ok"), "ok")
add("102 with a length before the answer",
  "HTTP/1.1 102 Processing\r\nContent-Length: 6\r\n\r\n" .. fields("Content-Length: 2\r\n", "ok"), "ok")
add("100 and then nothing", "HTTP/1.1 100 Continue\r\n\r\n", "502")
add("2000 interim answers",
  string.rep("HTTP/1.1 100 Continue\r\n\r\n", 2000) .. fields("Content-Length: 2\r\n", "ok"), "502")
add("unsolicited 101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "502")
add("unsolicited 101 and an answer", "HTTP/1.1 101 Switching Protocols\r\n\r\n" .. POISON, "502")
add("malformed answer behind 100", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20 OK\r\n\r\n", "502")

-- framing that is ambiguous ------------------------------------------------
section("9112 6.3, 9110 8.6")
add("length and chunks", fields("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), "502")
add("chunks and length", fields("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "2\r\nok\r\n0\r\n\r\n"), "502")
add("two lengths that differ", fields("Content-Length: 2\r\nContent-Length: 6\r\n", "okpois"), "502")
add("two lengths that agree", fields("Content-Length: 2\r\nContent-Length: 2\r\n", "ok"), "502")
add("length as a list", fields("Content-Length: 2, 6\r\n", "okpois"), "502")
add("length with a plus", fields("Content-Length: +2\r\n", "ok"), "502")
add("length below 0", fields("Content-Length: -2\r\n", "ok"), "502")
add("length in hexadecimal", fields("Content-Length: 0x2\r\n", "ok"), "502")
add("length that is empty", fields("Content-Length:\r\n", "ok"), "502")
add("length of 2^64", fields("Content-Length: 18446744073709551616\r\n", "ok"), "502")
add("malformed length on HEAD", fields("Content-Length: two\r\n"), "502", "HEAD")
add("malformed length on 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: two\r\n\r\n", "502")
section("9112 6.1")
add("chunked twice", fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "502")
add("chunked, gzip", fields("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), "502")
add("gzip, chunked", fields("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "502")
add("identity", fields("Transfer-Encoding: identity\r\n", "ok"), "502")
add("xchunked", fields("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "502")
add("empty coding", fields("Transfer-Encoding:\r\n", "ok"), "502")
add("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502")

-- status lines ---------------------------------------------------------------
section("9112 4, 2.3")
add("nothing at all", "", "502")
add("HTTP/0.9", "<html>hello</html>", "502")
add("HTTP/0.9 with lines", "<html>\r\nhello\r\n\r\n</html>", "502")
add("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("version in lower case", "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("another protocol", "ICY 200 OK\r\n\r\nok", "502")
add("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("status above 599", "HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("status with a letter", "HTTP/1.1 2O0 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("status below 0", "HTTP/1.1 -200 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("no status", "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("no space before the reason", "HTTP/1.1 200OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("two spaces before the status", "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", "502")
add("reason with a NUL", "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok", "502")
add("reason with an escape sequence", "HTTP/1.1 200 \27[31m\r\nContent-Length: 2\r\n\r\nok", "502")
add("empty line before the status line", "\r\n" .. fields("Content-Length: 2\r\n", "ok"), "502")

-- lines and fields -------------------------------------------------------------
section("9112 2.2, 5; 9110 5.5")
add("LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", "502")
add("LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "502")
add("LF behind a field", OK .. "Content-Length: 2\n\r\nok", "502")
add("CR inside a value", fields("A: b\rSet-Cookie: evil\r\nContent-Length: 2\r\n", "ok"), "502")
add("CR X for the empty line", OK .. "Content-Length: 2\r\n\rXok\r\n\r\n", "502")
add("folded value", fields("A: b\r\n c\r\nContent-Length: 2\r\n", "ok"), "502")
add("space before the first field", OK .. " A: b\r\nContent-Length: 2\r\n\r\nok", "502")
add("space before a colon", fields("Content-Length : 2\r\n", "ok"), "502")
add("field without a name", fields(": b\r\nContent-Length: 2\r\n", "ok"), "502")
add("field without a colon", fields("A\r\nContent-Length: 2\r\n", "ok"), "502")
add("name that is no token", fields("A b: c\r\nContent-Length: 2\r\n", "ok"), "502")
add("name with a high byte", fields("\xe9: c\r\nContent-Length: 2\r\n", "ok"), "502")
add("value with a NUL", fields("A: b\0c\r\nContent-Length: 2\r\n", "ok"), "502")
add("value with a control byte", fields("A: b\1c\r\nContent-Length: 2\r\n", "ok"), "502")
add("head of 70 KB", fields("A: " .. string.rep("b", 70000) .. "\r\nContent-Length: 2\r\n", "ok"), "502")
add("5000 fields", fields(string.rep("A: b\r\n", 5000) .. "Content-Length: 2\r\n", "ok"), "502")
add("status line of 70 KB", "HTTP/1.1 200 " .. string.rep("a", 70000) .. "\r\nContent-Length: 2\r\n\r\nok", "502")
add("head that breaks off", OK .. "Content-Length: 2\r\nA: b", "502")
add("head without its empty line", OK .. "Content-Length: 2\r\n", "502")

-- bodies that lie ----------------------------------------------------------------
section("9112 8")
add("shorter than its length", fields("Content-Length: 10\r\n", "short"), "truncated")
add("no body but a length", fields("Content-Length: 10\r\n"), "truncated")
add("length of 2^64 - 1", fields("Content-Length: 18446744073709551615\r\n", "short"), "truncated")
add("no chunk at all", chunked(""), "truncated")
add("no last chunk", chunked("2\r\nok\r\n"), "truncated")
add("chunk that breaks off", chunked("a\r\nshort"), "truncated")
add("last chunk that breaks off", chunked("2\r\nok\r\n0\r\n"), "truncated")
add("trailers that break off", chunked("2\r\nok\r\n0\r\nA: b\r\n"), "truncated")
section("9112 7.1")
add("chunk size with a plus", chunked("+2\r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size below 0", chunked("-2\r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size in 0x notation", chunked("0x2\r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size behind a space", chunked(" 2\r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size before a space", chunked("2 \r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size that is empty", chunked("\r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size that is no number", chunked("xyz\r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size of 17 digits", chunked("10000000000000002\r\nok\r\n0\r\n\r\n"), "truncated")
add("chunk size of 2^64 - 1", chunked("ffffffffffffffff\r\nok\r\n0\r\n\r\n"), "truncated")
add("LF behind a chunk size", chunked("2\nok\r\n0\r\n\r\n"), "truncated")
add("LF behind a chunk", chunked("2\r\nok\n0\r\n\r\n"), "truncated")
add("LF at the end", chunked("2\r\nok\r\n0\r\n\n"), "truncated")
add("chunk longer than its size", chunked("1\r\nok\r\n0\r\n\r\n"), "truncated")
add("second chunk malformed", chunked("2\r\nok\r\nzz\r\n"), "truncated")
add("plain text for chunks", chunked("hello, world"), "truncated")
section("9112 7.1.1")
add("extension with LF", chunked("2;a\nb\r\nok\r\n0\r\n\r\n"), "truncated")
add("extension with an open quote", chunked('2;a="\r\nok\r\n0\r\n\r\n'), "truncated")
add("extension of 64 KiB", chunked("2;" .. string.rep("a", 65536) .. "\r\nok\r\n0\r\n\r\n"), "truncated")
section("9110 6.5.1")
add("malformed trailer", chunked("2\r\nok\r\n0\r\nA b\r\n\r\n"), "truncated")
add("folded trailer", chunked("2\r\nok\r\n0\r\nA: b\r\n c\r\n\r\n"), "truncated")
add("trailers of 64 KiB", chunked("2\r\nok\r\n0\r\nA: " .. string.rep("b", 65536) .. "\r\n\r\n"), "truncated")

return list

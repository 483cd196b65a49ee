--- Requests that a proxy must refuse, and odd ones that it must not.
--
-- Each entry is sent in one piece on a connection of its own:
--
--   name    what is odd about it
--   row     which defect it belongs to, see the section titles
--   rfc     the section that says so
--   bytes   what is sent
--   expect  a status, a list of acceptable statuses, or "forward": it is valid
--           and must reach the upstream in clean, re-serialised form
--
-- No upstream may ever see a request for /smuggled, whatever else happens.
-- SPDX-License-Identifier: MIT

local list = {}
local row, rfc

--- Entries that follow belong to this row and RFC section.
local function section(number, source)
  row, rfc = number, source
end

local function add(name, bytes, expect, source)
  list[#list + 1] = { name = name, row = row, rfc = source or rfc, bytes = bytes, expect = expect }
end

local HOST = "Host: test\r\n"
local SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"

local function request(method, fields, body)
  return method .. " /x HTTP/1.1\r\n" .. HOST .. fields .. "\r\n" .. (body or "")
end
local function get(fields, body) return request("GET", fields, body) end
local function post(fields, body) return request("POST", fields, body) end
local function chunked(body) return post("Transfer-Encoding: chunked\r\n", body) end
local function line(first) return first .. "\r\n" .. HOST .. "\r\n" end

-- 1. Content-Length beside Transfer-Encoding ---------------------------------
section(1, "9112 6.1")
add("CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nX" .. SMUGGLED), 400)
add("TE.CL",
  post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "5c\r\n" .. SMUGGLED .. "\r\n0\r\n\r\n"), 400)
add("CL of 0 beside TE", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" .. SMUGGLED), 400)
add("CL that agrees with TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400)
add("CL and TE with other fields between",
  post("Content-Length: 5\r\nA: b\r\nB: c\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), 400)
add("CL beside an empty TE", post("Content-Length: 42\r\nTransfer-Encoding:\r\n", SMUGGLED), 400)
add("CL beside TE identity", post("Content-Length: 0\r\nTransfer-Encoding: identity\r\n", SMUGGLED), { 400, 501 })
add("CL and TE on GET", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400)
add("malformed CL beside TE", post("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400)

-- 2. Transfer-Encoding that two parsers read differently -----------------------
section(2, "9112 6.1, 6.3, 7")
local function coding(name, value, expect)
  add("TE " .. name, post("Transfer-Encoding:" .. value .. "\r\n", "0\r\n\r\n" .. SMUGGLED), expect)
end
coding("xchunked", " xchunked", { 400, 501 })
coding("chunkedx", " chunkedx", { 400, 501 })
coding("gzip", " gzip", { 400, 501 })
coding("gzip, chunked", " gzip, chunked", { 400, 501 })
coding("identity", " identity", { 400, 501 })
coding("identity, chunked", " identity, chunked", { 400, 501 })
coding("chunked, identity", " chunked, identity", { 400, 501 })
coding("chunked, gzip", " chunked, gzip", 400)
coding("chunked twice in a list", " chunked, chunked", 400)
coding("empty", "", 400)
coding("blank", " \t ", 400)
coding("with a leading comma", " , chunked", 400)
coding("with a trailing comma", " chunked,", 400)
coding("with a vertical tab", " \vchunked", 400)
coding("with a form feed", " \fchunked", 400)
coding("with a no-break space", " \xa0chunked", 400)
coding("with a NUL", " chunked\0", 400)
coding("with a DEL", " chunked\127", 400)
coding("quoted", ' "chunked"', 400)
coding("single-quoted", " 'chunked'", { 400, 501 })
coding("with a parameter", " chunked;q=1", 400)
coding("with a space inside", " chun ked", 400)
coding("with a bare CR", " x\rchunked", 400)
coding("with a bare LF", " x\nchunked", 400)
coding("folded", "\r\n chunked", 400)
coding("in full-width letters", " \xef\xbd\x83hunked", 400)
add("TE on two lines", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400)
add("TE chunked, then identity",
  post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), { 400, 501 })
add("TE gzip, then chunked",
  post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), { 400, 501 })
add("TE before a space and the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n" .. SMUGGLED), 400)
add("TE before a tab and the colon", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n" .. SMUGGLED), 400)
add("TE behind a leading space", post(" Transfer-Encoding: chunked\r\n", "0\r\n\r\n" .. SMUGGLED), 400)
add("TE behind a leading colon", post(":Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400)
add("TE in capitals", post("TRANSFER-ENCODING: CHUNKED\r\n", "2\r\nok\r\n0\r\n\r\n"), "forward")
add("TE with spaces around", post("Transfer-Encoding:   chunked  \r\n", "2\r\nok\r\n0\r\n\r\n"), "forward")
add("TE without a space", post("Transfer-Encoding:chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), "forward")
add("a field that only looks like TE", post("Transfer_Encoding: chunked\r\nContent-Length: 2\r\n", "ok"), "forward")

-- 3. Transfer-Encoding in HTTP/1.0 -----------------------------------------------
section(3, "9112 6.1")
local OLD = "POST /x HTTP/1.0\r\n" .. HOST
add("TE in HTTP/1.0", OLD .. "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" .. SMUGGLED, 400)
add("TE in HTTP/1.0 kept alive", OLD .. "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)
add("TE and CL in HTTP/1.0", OLD .. "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)

-- 4. Content-Length that is no number ----------------------------------------------
section(4, "9112 6.3")
local function length(name, value, expect)
  add("CL " .. name, post("Content-Length:" .. value .. "\r\n", "hello"), expect or 400)
end
length("with a plus", " +5")
length("with a minus", " -5")
length("minus zero", " -0")
length("in hexadecimal", " 0x5")
length("with hexadecimal digits", " a")
length("as a list", " 5, 5")
length("as a list of two lengths", " 5, 6")
length("with a trailing comma", " 5,")
length("empty", "")
length("blank", "  ")
length("with junk behind", " 5x")
length("with a space inside", " 5 5")
length("with a point", " 5.0")
length("with an exponent", " 5e0")
length("with an underscore", " 0_5")
length("quoted", ' "5"')
length("with a NUL", " 5\0")
length("with a vertical tab", " \v5")
length("in Arabic digits", " \xd9\xa5")
length("of 2^64", " 18446744073709551616")
length("of 2^64 and 5", " 18446744073709551621")
length("of thirty digits", " 999999999999999999999999999999")
length("of a thousand digits", " " .. string.rep("9", 1000))
length("folded", "\r\n 5")
length("of 2^63", " 9223372036854775808", 413)
length("of 2^64 - 1", " 18446744073709551615", 413)
add("CL before a space and the colon", post("Content-Length : 5\r\n", "hello"), 400, "9112 5.1")
add("CL with leading zeros", post("Content-Length: 005\r\n", "hello"), "forward")
add("CL with blanks around", post("Content-Length: \t 5 \r\n", "hello"), "forward")

-- 5. More than one Content-Length ---------------------------------------------------
section(5, "9110 8.6")
add("two CL that differ", post("Content-Length: 0\r\nContent-Length: 42\r\n", SMUGGLED), 400)
add("two CL that agree", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), { 400, "forward" })
add("two CL in other case", post("Content-Length: 5\r\ncontent-LENGTH: 6\r\n", "hello "), 400)
add("two CL, the first empty", post("Content-Length:\r\nContent-Length: 5\r\n", "hello"), 400)
add("three CL", post("Content-Length: 5\r\nA: b\r\nContent-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400)

-- 6. Bodies where none is expected --------------------------------------------------
section(6, "9112 6.3, 9.3")
add("GET with a body", get("Content-Length: " .. #SMUGGLED .. "\r\n", SMUGGLED), "forward")
add("DELETE with a body", request("DELETE", "Content-Length: " .. #SMUGGLED .. "\r\n", SMUGGLED), "forward")
add("OPTIONS with a chunked body",
  request("OPTIONS", "Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), "forward")
add("GET with a chunked body", get("Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), "forward")
add("POST without a length", post(""), "forward")
add("POST with a length of 0", post("Content-Length: 0\r\n"), "forward")

-- 7. Lines that begin with whitespace ------------------------------------------------
section(7, "9112 2.2, 5.2")
add("obs-fold with a space", get("A: b\r\n c\r\n"), 400)
add("obs-fold with a tab", get("A: b\r\n\tc\r\n"), 400)
add("obs-fold of an empty value", get("A:\r\n b\r\n"), 400)
add("obs-fold before a smuggled TE",
  post("A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400)
add("space before the first field", "GET /x HTTP/1.1\r\n " .. HOST .. "\r\n", 400)
add("tab before the first field", "GET /x HTTP/1.1\r\n\t" .. HOST .. "\r\n", 400)
add("a line of one space", get(" \r\n"), 400)
add("space before the request line", " " .. get(""), 400)

-- 8. Line ends -----------------------------------------------------------------------
section(8, "9112 2.2, 7.1")
add("LF behind the request line", "GET /x HTTP/1.1\n" .. HOST .. "\r\n", 400)
add("LF everywhere", "GET /x HTTP/1.1\nHost: test\n\n", 400)
add("LF behind a field", "GET /x HTTP/1.1\r\nHost: test\n\r\n", 400)
add("LF for the empty line", "GET /x HTTP/1.1\r\nHost: test\r\n\n", 400)
add("LF inside a value", get("A: b\nTransfer-Encoding: chunked\r\n"), 400)
add("CR inside a value", get("A: b\rc\r\n"), 400)
add("CR at the end of a value", get("A: b\r\r\n"), 400)
add("CR before a hidden field", get("A: b\rTransfer-Encoding: chunked\r\n"), 400)
add("CR for a line end", "GET /x HTTP/1.1\rHost: test\r\r", 400)
add("CR CR LF", "GET /x HTTP/1.1\r\r\nHost: test\r\n\r\n", 400)
add("CR X behind the last field", "GET /x HTTP/1.1\r\nHost: test\r\n\rXGET /smuggled HTTP/1.1\r\n\r\n", 400)
add("CR inside the request line", "GET /x\r HTTP/1.1\r\n" .. HOST .. "\r\n", 400)
add("LF before the request", "\n" .. get(""), 400)
add("three empty lines before the request", "\r\n\r\n\r\n" .. get(""), 400)
add("one empty line before the request", "\r\n" .. get(""), "forward")
add("LF behind a chunk size", chunked("5\nhello\r\n0\r\n\r\n"), 400)
add("LF behind chunk data", chunked("5\r\nhello\n0\r\n\r\n"), 400)
add("LF behind the last chunk", chunked("5\r\nhello\r\n0\n\r\n"), 400)
add("LF at the end of the body", chunked("5\r\nhello\r\n0\r\n\n"), 400)
add("CR behind a chunk size", chunked("5\rhello\r\n0\r\n\r\n"), 400)
add("CR X behind chunk data", chunked("5\r\nhello\rX0\r\n\r\n"), 400)
add("CR X at the end of the body", chunked("0\r\n\rX" .. SMUGGLED), 400)
add("nothing behind chunk data", chunked("5\r\nhello0\r\n\r\n"), 400)

-- 9. Chunk sizes ----------------------------------------------------------------------
section(9, "9112 7.1")
local function size(name, text, expect)
  add("chunk size " .. name, chunked(text .. "\r\nhello\r\n0\r\n\r\n" .. (expect and "" or SMUGGLED)), expect or 400)
end
size("with a plus", "+5")
size("with a minus", "-5")
size("in 0x notation", "0x5")
size("with an underscore", "0_5")
size("behind a space", " 5")
size("behind a tab", "\t5")
size("before a space", "5 ")
size("before a space and an extension", "5 ;a")
size("with a space inside", "0 5")
size("empty", "")
size("only an extension", ";a=b")
size("that is no number", "hello")
size("with a comma", "5,5")
size("with a NUL", "5\0")
size("of 17 digits", "00000000000000005")
size("of 2^64", "10000000000000000")
size("of 2^64 and 5", "10000000000000005")
size("of a thousand zeros", string.rep("0", 1000) .. "5")
size("in capitals with zeros", "0000000000000005", "forward")
add("chunk size in lower and upper case", chunked("a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n"), "forward")
add("chunk shorter than its size", chunked("6\r\nhello\r\n0\r\n\r\n"), 400)
add("chunk longer than its size", chunked("4\r\nhello\r\n0\r\n\r\n"), 400)
add("chunk that looks like the end", chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n"), "forward")

-- 10. Chunk extensions ------------------------------------------------------------------
section(10, "9112 7.1.1")
add("extension with LF", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), 400)
add("extension that ends in LF", chunked("5;a\nhello\r\n0\r\n\r\n"), 400)
add("extension with CR", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), 400)
add("extension with NUL", chunked("5;a\0b\r\nhello\r\n0\r\n\r\n"), 400)
add("extension with a quoted CRLF", chunked('5;a="\r\nhello\r\n0\r\n\r\n' .. SMUGGLED .. '"\r\n'), 400)
add("extension of 64 KiB", chunked("5;" .. string.rep("a", 65536) .. "\r\nhello\r\n0\r\n\r\n"), { 400, 413 })
add("extensions of 64 KiB in all",
  chunked(string.rep("1;" .. string.rep("a", 64) .. "\r\nx\r\n", 1024) .. "0\r\n\r\n"), { 400, 413 })
add("chunks of one byte without end", chunked(string.rep("1\r\nx\r\n", 20000) .. "0\r\n\r\n"), { 400, 413 })
add("extension with a value", chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"), "forward")
add("extension with a quoted value", chunked('5;a="b;c"\r\nhello\r\n0\r\n\r\n'), "forward")

-- 11. Trailers ----------------------------------------------------------------------------
section(11, "9110 6.5.1")
add("trailer folded", chunked("0\r\nA: b\r\n c\r\n\r\n"), 400)
add("trailer that begins with a space", chunked("0\r\n A: b\r\n\r\n"), 400)
add("trailer without a colon", chunked("0\r\nA\r\n\r\n"), 400)
add("trailer without a name", chunked("0\r\n: b\r\n\r\n"), 400)
add("trailer with a space before its colon", chunked("0\r\nA : b\r\n\r\n"), 400)
add("trailer that ends in LF", chunked("0\r\nA: b\n\r\n"), 400)
add("trailers that end in LF LF", chunked("0\r\nA: b\n\n" .. SMUGGLED), 400)
add("trailer with a CR", chunked("0\r\nA: b\rc\r\n\r\n"), 400)
add("trailer with a NUL", chunked("0\r\nA: \0\r\n\r\n"), 400)
add("a request where the trailers go", chunked("0\r\n" .. SMUGGLED), 400)
add("trailers of 64 KiB",
  chunked("0\r\n" .. string.rep("A: " .. string.rep("b", 58) .. "\r\n", 1024) .. "\r\n"), { 400, 413, 431 })
add("trailers with framing and credentials",
  chunked("2\r\nok\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n" ..
    "Authorization: evil\r\n\r\n"), "forward")
add("trailer announced",
  post("Trailer: A\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\nA: b\r\n\r\n"), "forward")

-- 13. Field names and values -----------------------------------------------------------------
section(13, "9110 5.1, 5.5")
add("field without a name", get(": b\r\n"), 400)
add("field without a colon", get("A\r\n"), 400)
add("field with a space before its colon", get("A : b\r\n"), 400)
add("field name with a space", get("A b: c\r\n"), 400)
add("field name with a parenthesis", get("A(b): c\r\n"), 400)
add("field name with a slash", get("A/b: c\r\n"), 400)
add("field name in quotes", get('"A": b\r\n'), 400)
add("field name with a high byte", get("A\xe9: b\r\n"), 400)
add("field name with a NUL", get("A\0: b\r\n"), 400)
add("field name with a control byte", get("A\1: b\r\n"), 400)
add("field name with a DEL", get("A\127: b\r\n"), 400)
add("field value with a NUL", get("A: b\0c\r\n"), 400)
add("field value with a backspace", get("A: b\bc\r\n"), 400)
add("field value with an escape sequence", get("A: \27[31m\r\n"), 400)
add("field value with a DEL", get("A: b\127c\r\n"), 400)
add("field value with high bytes", get("A: caf\xe9 \xf0\x9f\x98\x80\r\n"), "forward")
add("field value with a tab", get("A: b\tc\r\n"), "forward")
add("field value that is empty", get("A:\r\n"), "forward")
add("field name of every token byte", get("!#$%&'*+-.^_`|~09azAZ: b\r\n"), "forward")

-- 14. Limits -----------------------------------------------------------------------------------
section(14, "9110 15.5.15, 6585 5")
add("target of 70 KB", line("GET /" .. string.rep("a", 70000) .. " HTTP/1.1"), 414)
add("query of 70 KB", line("GET /?" .. string.rep("a", 70000) .. " HTTP/1.1"), 414)
add("field of 70 KB", get("A: " .. string.rep("b", 70000) .. "\r\n"), 431)
add("field name of 70 KB", get(string.rep("A", 70000) .. ": b\r\n"), 431)
add("2000 fields", get(string.rep("A: b\r\n", 2000)), 431)
add("101 fields", get(string.rep("A: b\r\n", 100)), 431)
add("100 fields", get(string.rep("A: b\r\n", 98)), "forward")
add("1000 Connection options", get("Connection: " .. string.rep("a,", 1000) .. "close\r\n"), { 400, 431 })
add("method of 70 KB", line(string.rep("A", 70000) .. " / HTTP/1.1"), { 400, 414, 431, 501 })

-- 15. Host ---------------------------------------------------------------------------------------
section(15, "9112 3.2")
local function host(name, value, expect)
  add("Host " .. name, "GET /x HTTP/1.1\r\nHost:" .. value .. "\r\n\r\n", expect or 400)
end
add("no Host", "GET /x HTTP/1.1\r\n\r\n", 400)
add("no Host but X-Forwarded-Host", "GET /x HTTP/1.1\r\nX-Forwarded-Host: test\r\n\r\n", 400)
add("two Hosts", "GET /x HTTP/1.1\r\nHost: test\r\nHost: evil\r\n\r\n", 400)
add("two Hosts that agree", "GET /x HTTP/1.1\r\nHost: test\r\nhost: test\r\n\r\n", 400)
add("two Hosts in HTTP/1.0", "GET /x HTTP/1.0\r\nHost: test\r\nHost: evil\r\n\r\n", 400)
host("empty", "")
host("with a comma", " test,evil")
host("with a space", " te st")
host("with a tab", " te\tst")
host("with userinfo", " user@test")
host("with a password", " user:pass@test")
host("with a path", " test/evil")
host("with a query", " test?evil")
host("with a fragment", " test#evil")
host("with a backslash", " test\\evil")
host("with a scheme", " http://test")
host("with a quote", ' te"st')
host("with angle brackets", " <test>")
host("with a high byte", " t\xe9st")
host("with a NUL", " test\0")
host("with a port that is no number", " test:http")
host("with a port above 65535", " test:65536")
host("with two ports", " test:80:80")
host("with a negative port", " test:-80")
host("that is only a port", " :80")
host("IPv6 without its end", " [::1")
host("IPv6 without brackets", " ::1")
host("IPv6 that is none", " [test]")
host("IPv6 with something behind", " [::1]test")
host("in capitals with a port", " TEST:8000", "forward")
host("as IPv6", " [::1]:8000", "forward")
host("with an underscore and a last dot", " my_test.example.", "forward")
add("no Host in HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", "forward")

-- 16. absolute-form ---------------------------------------------------------------------------------
section(16, "9112 3.2.2")
add("absolute-form", line("GET http://test/x HTTP/1.1"), "forward")
add("absolute-form in capitals", line("GET HTTP://TEST/x HTTP/1.1"), "forward")
add("absolute-form with another Host", "GET http://test/x HTTP/1.1\r\nHost: other\r\n\r\n", "forward")
add("absolute-form without a path", line("GET http://test HTTP/1.1"), "forward")
add("absolute-form with only a query", line("GET http://test?a=b HTTP/1.1"), "forward")
add("absolute-form without Host", "GET http://test/x HTTP/1.1\r\n\r\n", 400)
add("absolute-form with a bad Host", "GET http://test/x HTTP/1.1\r\nHost: a b\r\n\r\n", 400)
add("absolute-form with userinfo", line("GET http://user@test/x HTTP/1.1"), 400)
add("absolute-form without an authority", line("GET http:///x HTTP/1.1"), 400)
add("absolute-form of a file", line("GET file:///etc/passwd HTTP/1.1"), 400)
add("absolute-form of ftp", line("GET ftp://test/x HTTP/1.1"), 400)
add("absolute-form with one slash", line("GET http:/test/x HTTP/1.1"), 400)
add("absolute-form with a bad port", line("GET http://test:99999/x HTTP/1.1"), 400)
add("authority-form with GET", line("GET test:80 HTTP/1.1"), 400)

-- 17. The request line --------------------------------------------------------------------------------
section(17, "9112 3, 2.3")
add("HTTP/0.9", "GET /x\r\n\r\n", 400)
add("HTTP/0.9 with fields", "GET /x\r\n" .. HOST .. "\r\n", 400)
add("HTTP/0.9 with a length", "POST /x\r\n" .. HOST .. "Content-Length: 5\r\n\r\nhello", 400)
add("HTTP/2.0", line("GET /x HTTP/2.0"), 505)
add("HTTP/3.0", line("GET /x HTTP/3.0"), 505)
add("HTTP/0.9 written out", line("GET /x HTTP/0.9"), { 400, 505 })
add("HTTP/1.2", line("GET /x HTTP/1.2"), { 505, "forward" })
add("the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", { 400, 505 })
add("version without a minor", line("GET /x HTTP/1"), 400)
add("version of two digits", line("GET /x HTTP/1.10"), 400)
add("version in lower case", line("GET /x http/1.1"), 400)
add("version of something else", line("GET /x RTSP/1.0"), 400)
add("version with a letter", line("GET /x HTTP/1.x"), 400)
add("two spaces before the target", line("GET  /x HTTP/1.1"), 400)
add("two spaces before the version", line("GET /x  HTTP/1.1"), 400)
add("space behind the version", line("GET /x HTTP/1.1 "), 400)
add("tab for a space", line("GET\t/x\tHTTP/1.1"), 400)
add("space in the target", line("GET /x y HTTP/1.1"), 400)
add("a second version", line("GET /x HTTP/1.1 HTTP/1.1"), 400)
add("control byte in the target", line("GET /x\1 HTTP/1.1"), 400)
add("NUL in the target", line("GET /x\0 HTTP/1.1"), 400)
add("space and NUL in the target", line("GET /x \0.php HTTP/1.1"), 400)
add("DEL in the target", line("GET /x\127 HTTP/1.1"), 400)
add("high bytes in the target", line("GET /\xc3\xa9 HTTP/1.1"), 400)
add("fragment in the target", line("GET /x#y HTTP/1.1"), 400)
add("fragment in the query", line("GET /x?y#z HTTP/1.1"), 400)
add("target without a slash", line("GET x HTTP/1.1"), 400)
add("target that is a query", line("GET ?x HTTP/1.1"), 400)
add("no target", line("GET HTTP/1.1"), 400)
add("* with GET", line("GET * HTTP/1.1"), 400)
add("method with a colon", line("GE:T /x HTTP/1.1"), 400)
add("method with a high byte", line("G\xc9T /x HTTP/1.1"), 400)
add("no method", line("/x HTTP/1.1"), 400)
add("not HTTP at all", "\22\3\1\0\165\1\0\0\161\3\3\r\n\r\n", 400)

-- 18. Paths ----------------------------------------------------------------------------------------------
section(18, "3986 2.1, 6")
add("%00 in the path", line("GET /x%00 HTTP/1.1"), 400)
add("%00 in the query", line("GET /x?a=%00 HTTP/1.1"), 400)
add("escape of one digit", line("GET /x%4 HTTP/1.1"), 400)
add("escape without digits", line("GET /x% HTTP/1.1"), 400)
add("escape of letters", line("GET /%zz HTTP/1.1"), 400)
add("backslash in the path", line("GET /x\\..\\y HTTP/1.1"), 400)
add("path above the root", line("GET /../etc/passwd HTTP/1.1"), 400)
add("escaped path above the root", line("GET /x/%2e%2e/%2E./y HTTP/1.1"), 400)
add("dot segments", line("GET /x/./y/../z HTTP/1.1"), "forward")
add("escaped dot segments", line("GET /x/%2e/y/%2E%2e/z HTTP/1.1"), "forward")
add("two slashes", line("GET //x//y HTTP/1.1"), "forward")
add("escaped slash", line("GET /x%2fy HTTP/1.1"), "forward")
add("escaped letters", line("GET /%78%7E HTTP/1.1"), "forward")
add("escaped percent", line("GET /x%2500 HTTP/1.1"), "forward")
add("bytes that browsers do not escape", line("GET /x|y?a=[b]{c}^`\"<> HTTP/1.1"), "forward")
add("question marks in the query", line("GET /x?a?b??c HTTP/1.1"), "forward")
add("empty query", line("GET /x? HTTP/1.1"), "forward")

-- 19. Expect -----------------------------------------------------------------------------------------------
section(19, "9110 10.1.1")
add("unknown expectation", post("Expect: 200-ok\r\nContent-Length: 2\r\n", "ok"), 417)
add("two expectations", post("Expect: 100-continue, x\r\nContent-Length: 2\r\n", "ok"), 417)
add("empty expectation", post("Expect:\r\nContent-Length: 2\r\n", "ok"), { 400, 417, "forward" })
add("100-continue without a body", get("Expect: 100-continue\r\n"), "forward")
add("100-continue in HTTP/1.0",
  "POST /x HTTP/1.0\r\n" .. HOST .. "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok", "forward")

-- 22. Upgrade ------------------------------------------------------------------------------------------------
section(22, "9110 7.8")
local UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n" ..
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
add("upgrade with a length", get(UPGRADE .. "Content-Length: " .. #SMUGGLED .. "\r\n", SMUGGLED), 400)
add("upgrade with chunks", get(UPGRADE .. "Transfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), 400)
add("h2c with a body",
  post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" ..
    "Content-Length: 2\r\n", "ok"), 400)
add("h2c", get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), "forward")
add("Upgrade without Connection", get("Upgrade: h2c\r\n"), "forward")

-- 23. Methods --------------------------------------------------------------------------------------------------
section(23, "9110 9.3.6, 9.3.8")
add("CONNECT", line("CONNECT test:443 HTTP/1.1"), { 405, 501 })
add("CONNECT with a path", line("CONNECT /x HTTP/1.1"), { 400, 405, 501 })
add("CONNECT with a hidden request", line("CONNECT test:443 HTTP/1.1") .. SMUGGLED, { 405, 501 })
add("TRACE", line("TRACE /x HTTP/1.1"), { 405, 501 })
add("unknown method", line("BREW /x HTTP/1.1"), { 405, 501 })
add("method in lower case", line("get /x HTTP/1.1"), { 400, 405, 501 })
add("PATCH", request("PATCH", "Content-Length: 2\r\n", "ok"), "forward")

-- 27. Hop-by-hop fields --------------------------------------------------------------------------------------------
section(27, "9110 7.6.1")
add("Connection names Host", get("Connection: close, Host\r\n"), "forward")
add("Connection names Content-Length",
  post("Connection: Content-Length\r\nContent-Length: " .. #SMUGGLED .. "\r\n", SMUGGLED), "forward")
add("Connection names Transfer-Encoding",
  post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), "forward")
add("Connection names X-Forwarded-For", get("Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n"), "forward")
add("Connection names Authorization", get("Connection: Authorization\r\nAuthorization: Basic eA==\r\n"), "forward")
add("Connection names another field", get("Connection: X-Hop\r\nX-Hop: 1\r\n"), "forward")
add("every hop-by-hop field",
  get("Keep-Alive: 5\r\nProxy-Connection: close\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\n" ..
    ""), "forward")

return list

// SPDX-License-Identifier: MIT
#include "proxy/url.h"

const char *url_parse(struct str text, struct url *out)
{
    out->is_tls = str_starts(text, STR("https://"));
    if (!out->is_tls && !str_starts(text, STR("http://")))
        return "a URL begins with http:// or https://, like http://127.0.0.1:3000";
    uint64_t port = out->is_tls ? 443 : 80;
    size_t scheme = out->is_tls ? 8 : 7;
    struct str rest = {text.p + scheme, text.len - scheme};
    size_t end = 0;
    while (end < rest.len && !memchr("/?#", rest.p[end], 3))
        end++;
    out->authority = (struct str){rest.p, end};
    out->path = (struct str){rest.p + end, rest.len - end};
    struct str host = out->authority;
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.p[i] <= ' ' || (unsigned char)text.p[i] >= 0x7f)
            return "a URL holds no blanks, control or non-ASCII characters";
    if (memchr(text.p, '#', text.len))
        return "a URL here holds no '#fragment'";
    if (memchr(host.p, '@', host.len))
        return "a URL here holds no user name or password";
    const char *colon = memrchr(host.p, ':', host.len);
    if (host.len && host.p[0] == '[') {
        const char *close = memchr(host.p, ']', host.len);
        if (!close)
            return "an IPv6 address needs its closing ']'";
        colon = close + 1 < host.p + host.len ? close + 1 : NULL;
        if (colon && *colon != ':')
            return "behind ']' comes ':' and a port, or nothing";
        out->host = (struct str){host.p + 1, (size_t)(close - host.p - 1)};
    } else {
        out->host = (struct str){host.p, colon ? (size_t)(colon - host.p) : host.len};
    }
    if (colon) {
        struct str digits = {colon + 1, (size_t)(host.p + host.len - colon - 1)};
        if (!str_to_u64(digits, &port) || port == 0 || port > 65535)
            return "a port is a number from 1 to 65535";
    }
    if (!out->host.len || out->host.len > 255)
        return "a URL needs a host name of 1 to 255 characters";
    out->port = (uint16_t)port;
    return NULL;
}

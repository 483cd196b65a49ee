// SPDX-License-Identifier: MIT
#include "proxy/websocket.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>

static bool is_base64(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

bool websocket_is_asked(const struct head *request)
{
    return request->upgrade && str_iequal(head_get(request, FIELD_UPGRADE), STR("websocket"));
}

static unsigned count(const struct head *head, struct str name)
{
    unsigned n = 0;
    for (unsigned i = 0; i < head->field_count; i++)
        n += str_iequal(head->fields[i].name, name);
    return n;
}

static struct str refuse(struct websocket_refusal *refusal, int status, const char *detail)
{
    *refusal = (struct websocket_refusal){status, detail};
    return (struct str){NULL, 0};
}

/* 16 bytes in base64: 22 characters and "==". */
static bool is_key(struct str key)
{
    if (key.len != WEBSOCKET_KEY - 1 || key.p[22] != '=' || key.p[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++)
        if (!is_base64(key.p[i]))
            return false;
    return true;
}

struct str websocket_key(const struct head *request, struct websocket_refusal *refusal)
{
    struct str key = head_find(request, STR("sec-websocket-key"));
    if (request->method_id != METHOD_GET)
        return refuse(refusal, 400, "a WebSocket handshake is a GET");
    if (request->framing != FRAMING_NONE || request->has_content_length)
        return refuse(refusal, 400, "a WebSocket handshake has no body");
    if (count(request, STR("upgrade")) != 1 || count(request, STR("sec-websocket-key")) != 1 || !is_key(key))
        return refuse(refusal, 400, "a WebSocket handshake needs one Sec-WebSocket-Key of 16 bytes in base64");
    if (count(request, STR("sec-websocket-version")) != 1 ||
        !str_equal(head_find(request, STR("sec-websocket-version")), STR("13")))
        return refuse(refusal, 426, "this server knows version 13 of the WebSocket protocol");
    return key;
}

bool websocket_is_accepted(const struct head *response, const char *key)
{
    unsigned char digest[SHA_DIGEST_LENGTH], text[32];
    char salted[128];
    int len = snprintf(salted, sizeof salted, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    SHA1((const unsigned char *)salted, (size_t)len, digest);
    int size = EVP_EncodeBlock(text, digest, sizeof digest);
    return websocket_is_asked(response) && count(response, STR("upgrade")) == 1 &&
           count(response, STR("sec-websocket-accept")) == 1 &&
           str_equal(head_find(response, STR("sec-websocket-accept")), (struct str){(char *)text, (size_t)size});
}

/* One TLS connection between two buffers. OpenSSL reads and writes through a BIO
 * of ours: it takes from a view of what has arrived, and appends to what is to
 * leave, so that nothing is copied on the way. */
// SPDX-License-Identifier: MIT
#include "io/tls_parts.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORD_BYTES = 16 * 1024 };

struct tls {
    struct tls_context *context;
    SSL *ssl;
    struct str in;   /* ciphertext during tls_receive() */
    struct buf *out; /* where records go during a call */
    enum tls_state state;
    bool plain_http;
    char trouble[160];
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *to, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->in.len) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = tls->in.len < (size_t)size ? tls->in.len : (size_t)size;
    memcpy(to, tls->in.p, n);
    tls->in.p += n;
    tls->in.len -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *from, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->out)
        return -1;
    buf_add(tls->out, from, (size_t)size);
    return buf_ok(tls->out) ? size : -1;
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
    static BIO_METHOD *method; /* for the life of the process */
    if (!method && (method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "perilune"))) {
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_ctrl);
    }
    return method;
}

/* ---- sessions ---- */

static void name_peer(struct tls *tls, const char *name)
{
    unsigned char address[16];
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(param, name);
        return;
    }
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    X509_VERIFY_PARAM_set1_host(param, name, 0);
    SSL_set_tlsext_host_name(tls->ssl, name);
}

struct tls *tls_new(struct tls_context *context, const char *name)
{
    static const unsigned char alpn[] = "\x08http/1.1";
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = BIO_new(bio_method());
    if (!tls || !bio || !(tls->ssl = SSL_new(context->ctx[0]))) {
        BIO_free(bio);
        free(tls);
        return NULL;
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    tls->context = tls_context_retain(context);
    if (context->is_server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        SSL_set_alpn_protos(tls->ssl, alpn, sizeof alpn - 1);
        name_peer(tls, name);
    }
    return tls;
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    tls_context_release(tls->context);
    free(tls);
}

static void fail(struct tls *tls)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    long verify = SSL_get_verify_result(tls->ssl);
    tls->state = TLS_FAILED;
    tls->plain_http = ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST;
    if (verify != X509_V_OK && !tls->context->is_server)
        snprintf(tls->trouble, sizeof tls->trouble, "TLS: the peer's certificate is refused: %s",
                 X509_verify_cert_error_string(verify));
    else
        snprintf(tls->trouble, sizeof tls->trouble, "TLS: %s", reason ? reason : "the peer broke the protocol");
    ERR_clear_error();
}

/* Follows up on a call that returned <= 0: waiting for more is no failure. */
static void note(struct tls *tls, int result)
{
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return;
    case SSL_ERROR_ZERO_RETURN:
        tls->state = TLS_ENDED;
        return;
    default:
        fail(tls);
    }
}

static void read_records(struct tls *tls, struct buf *plain)
{
    while (tls->state == TLS_OPEN) {
        char *room = buf_room(plain, RECORD_BYTES);
        if (!room) {
            fail(tls);
            return;
        }
        int n = SSL_read(tls->ssl, room, RECORD_BYTES);
        if (n <= 0) {
            note(tls, n);
            return;
        }
        buf_wrote(plain, (size_t)n);
    }
}

enum tls_state tls_receive(struct tls *tls, struct str cipher, struct buf *plain, struct buf *wire)
{
    tls->in = cipher;
    tls->out = wire;
    ERR_clear_error();
    if (tls->state == TLS_SHAKING) {
        int result = SSL_do_handshake(tls->ssl);
        if (result == 1)
            tls->state = TLS_OPEN;
        else
            note(tls, result);
    }
    read_records(tls, plain);
    tls->in = (struct str){NULL, 0};
    tls->out = NULL;
    return tls->state;
}

bool tls_seal(struct tls *tls, struct str plain, struct buf *wire)
{
    if (tls->state != TLS_OPEN && tls->state != TLS_ENDED)
        return false;
    tls->out = wire;
    ERR_clear_error();
    while (plain.len) {
        size_t n = plain.len < (1 << 30) ? plain.len : 1 << 30;
        int wrote = SSL_write(tls->ssl, plain.p, (int)n);
        if (wrote <= 0) {
            fail(tls);
            break;
        }
        plain.p += wrote;
        plain.len -= (size_t)wrote;
    }
    tls->out = NULL;
    return !plain.len;
}

void tls_end(struct tls *tls, struct buf *wire)
{
    if (tls->state != TLS_OPEN && tls->state != TLS_ENDED)
        return;
    tls->out = wire;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
    tls->out = NULL;
}

enum tls_state tls_state(const struct tls *tls)
{
    return tls->state;
}

const char *tls_trouble(const struct tls *tls)
{
    return tls->trouble;
}

bool tls_got_plain_http(const struct tls *tls)
{
    return tls->plain_http;
}

const char *tls_version(const struct tls *tls)
{
    return SSL_get_version(tls->ssl);
}

bool tls_resumed(const struct tls *tls)
{
    return SSL_session_reused(tls->ssl) == 1;
}

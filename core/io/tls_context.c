/* What TLS connections share: certificates by name, tickets, trust. */
// SPDX-License-Identifier: MIT
#include "io/tls_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- tickets ---- */

static bool fill(struct tls_ticket_key *key)
{
    return RAND_bytes((unsigned char *)key, sizeof *key) == 1;
}

bool tls_tickets_init(struct tls_tickets *tickets, uint64_t unix_ms)
{
    for (int i = 0; i < TLS_TICKET_KEYS; i++)
        if (!fill(&tickets->keys[i]))
            return false;
    atomic_store(&tickets->rotated_ms, unix_ms);
    atomic_store(&tickets->newest, 0);
    return true;
}

void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t unix_ms)
{
    uint32_t next = (atomic_load(&tickets->newest) + 1) % TLS_TICKET_KEYS;
    if (fill(&tickets->keys[next]))
        atomic_store(&tickets->newest, next);
    atomic_store(&tickets->rotated_ms, unix_ms);
}

static bool use_mac(EVP_MAC_CTX *mac, struct tls_ticket_key *key)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_END,
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* OpenSSL's callback: 1 done, 2 done and please renew, 0 not ours, -1 error. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int seal)
{
    struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct tls_tickets *tickets = context->tickets;
    uint32_t newest = atomic_load(&tickets->newest);
    if (seal) {
        struct tls_ticket_key *key = &tickets->keys[newest];
        memcpy(name, key->name, sizeof key->name);
        if (RAND_bytes(iv, 16) != 1 ||
            EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) != 1 || !use_mac(mac, key))
            return -1;
        return 1;
    }
    for (uint32_t i = 0; i < TLS_TICKET_KEYS; i++) {
        struct tls_ticket_key *key = &tickets->keys[i];
        if (memcmp(name, key->name, sizeof key->name) != 0)
            continue;
        if (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv) != 1 || !use_mac(mac, key))
            return -1;
        return i == newest && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
    }
    return 0;
}

/* ---- names ---- */

static bool name_fits(struct str pattern, struct str name)
{
    if (str_iequal(pattern, name))
        return true;
    if (!str_starts(pattern, STR("*.")))
        return false;
    const char *dot = memchr(name.p, '.', name.len);
    struct str rest = {dot, dot ? (size_t)(name.p + name.len - dot) : 0};
    return dot && dot > name.p && str_iequal((struct str){pattern.p + 1, pattern.len - 1}, rest);
}

static bool certificate_names(SSL_CTX *ctx, struct str wanted)
{
    X509 *x = SSL_CTX_get0_certificate(ctx);
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
        if (n->type == GEN_DNS)
            found = name_fits((struct str){(const char *)ASN1_STRING_get0_data(n->d.dNSName),
                                           (size_t)ASN1_STRING_length(n->d.dNSName)}, wanted);
    }
    GENERAL_NAMES_free(names);
    return found;
}

static int on_name(SSL *ssl, int *alert, void *arg)
{
    struct tls_context *context = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    for (size_t i = 0; i < context->count; i++)
        if (certificate_names(context->ctx[i], str_from(name))) {
            SSL_set_SSL_CTX(ssl, context->ctx[i]);
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_OK; /* the first one; the client decides whether it will do */
}

/* http/1.1 or nothing: a client that offers only others is told so (RFC 7301 3.2). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                   unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- files ---- */

static const char *last_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    return reason ? reason : "unknown error";
}

/* Whether a file can be read; else says why. */
static bool is_readable(const char *path, const char *what, char *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(why, TLS_WHY, "%s %s: %s; give the path of a PEM file that this user can read", what, path,
                 strerror(errno));
        return false;
    }
    close(fd);
    return true;
}

/* A key with a pass phrase must not make the server ask for it. */
static int no_password(char *buffer, int size, int writing, void *asked)
{
    (void)buffer;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static bool use_files(SSL_CTX *ctx, const struct tls_files *files, char *why)
{
    bool asked = false;
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
    ERR_clear_error();
    if (!is_readable(files->certificate, "certificate", why) || !is_readable(files->key, "key", why))
        return false;
    if (SSL_CTX_use_certificate_chain_file(ctx, files->certificate) != 1) {
        bool small = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_EE_KEY_TOO_SMALL;
        snprintf(why, TLS_WHY, small ? "certificate %s: its key is too small (%s); make one of RSA 2048 bits or P-256"
                                     : "certificate %s: this is no PEM certificate (%s); it begins with "
                                       "-----BEGIN CERTIFICATE-----, the server's own first",
                 files->certificate, last_reason());
        return false;
    }
    ERR_clear_error();
    if (SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) != 1) {
        int reason = ERR_GET_REASON(ERR_peek_last_error());
        if (asked)
            snprintf(why, TLS_WHY, "key %s: it is encrypted with a pass phrase; remove it (openssl pkey -in %s -out FILE)",
                     files->key, files->key);
        else if (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH)
            snprintf(why, TLS_WHY, "key %s: it does not belong to certificate %s", files->key, files->certificate);
        else
            snprintf(why, TLS_WHY, "key %s: this is no PEM private key (%s); it begins with -----BEGIN PRIVATE KEY-----",
                     files->key, last_reason());
        return false;
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        snprintf(why, TLS_WHY, "key %s: it does not belong to certificate %s", files->key, files->certificate);
        return false;
    }
    return true;
}

static void warn(SSL_CTX *ctx, const char *path, char *warning)
{
    X509 *x = SSL_CTX_get0_certificate(ctx);
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
        snprintf(warning, TLS_WHY, "certificate %s has expired; clients will refuse it", path);
    else if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
        snprintf(warning, TLS_WHY, "certificate %s is not valid yet; clients will refuse it", path);
    else if (!names)
        snprintf(warning, TLS_WHY, "certificate %s names no host (no subjectAltName); clients will refuse it", path);
    GENERAL_NAMES_free(names);
}

/* ---- contexts ---- */

static SSL_CTX *new_ctx(const SSL_METHOD *method, struct tls_context *context)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx)
        return NULL;
    SSL_CTX_set_app_data(ctx, context);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA);
    /* TLS 1.2 with forward secrecy and authenticated encryption only (RFC 7525 4.2). */
    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
    return ctx;
}

static void free_context(struct tls_context *context)
{
    for (size_t i = 0; i < context->count; i++)
        SSL_CTX_free(context->ctx[i]);
    free(context);
}

struct tls_context *tls_context_retain(struct tls_context *context)
{
    context->references++;
    return context;
}

void tls_context_release(struct tls_context *context)
{
    if (context && --context->references == 0)
        free_context(context);
}

static struct tls_context *allocate(char *why)
{
    struct tls_context *context = calloc(1, sizeof *context);
    if (context)
        context->references = 1;
    else
        snprintf(why, TLS_WHY, "out of memory");
    return context;
}

static SSL_CTX *add_ctx(struct tls_context *context, const SSL_METHOD *method, char *why)
{
    SSL_CTX *ctx = new_ctx(method, context);
    if (ctx)
        context->ctx[context->count++] = ctx;
    else
        snprintf(why, TLS_WHY, "out of memory");
    return ctx;
}

static bool add_server(struct tls_context *context, const struct tls_server_opts *opts,
                       const struct tls_files *files, char *why, char *warning)
{
    SSL_CTX *ctx = add_ctx(context, TLS_server_method(), why);
    if (!ctx || !use_files(ctx, files, why))
        return false;
    if (warning)
        warn(ctx, files->certificate, warning);
    if (opts->require_1_3)
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"perilune", 8);
    if (opts->tickets) {
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
        SSL_CTX_set_num_tickets(ctx, 1);
    } else {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
    SSL_CTX_set_tlsext_servername_arg(ctx, context);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    return true;
}

struct tls_context *tls_server_context(const struct tls_server_opts *opts, char *why, char *warning)
{
    struct tls_context *context = allocate(why);
    if (warning)
        warning[0] = 0;
    if (!context)
        return NULL;
    context->is_server = true;
    context->tickets = opts->tickets;
    for (size_t i = 0; i < opts->count && i < TLS_CERTIFICATES_MAX; i++)
        if (!add_server(context, opts, &opts->files[i], why, warning)) {
            free_context(context);
            return NULL;
        }
    return context;
}

struct tls_context *tls_client_context(const struct tls_client_opts *opts, char *why)
{
    struct tls_context *context = allocate(why);
    SSL_CTX *ctx = context ? add_ctx(context, TLS_client_method(), why) : NULL;
    bool ok = ctx != NULL;
    if (ok && opts->ca_file) {
        ok = is_readable(opts->ca_file, "CA file", why);
        if (ok && SSL_CTX_load_verify_locations(ctx, opts->ca_file, NULL) != 1) {
            snprintf(why, TLS_WHY, "CA file %s: it holds no PEM certificate (%s)", opts->ca_file, last_reason());
            ok = false;
        }
    } else if (ok) {
        SSL_CTX_set_default_verify_paths(ctx);
    }
    if (ok && opts->own.certificate)
        ok = use_files(ctx, &opts->own, why);
    if (!ok) {
        if (context)
            free_context(context);
        return NULL;
    }
    SSL_CTX_set_verify(ctx, opts->no_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return context;
}

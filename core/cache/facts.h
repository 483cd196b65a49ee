/* facts.h - what an answer's fields say to a shared cache, and what follows:
 * may it be stored, how long is it fresh, how long may it be served stale.
 *
 * Sources: RFC 9111 3, 4.2; RFC 9213; RFC 5861.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "cache/directives.h"
#include "http/server.h"

enum { STATUS_TTLS_MAX = 16 };

struct facts {
    struct directives control; /* of the field that decides */
    bool has_expires, expires_valid;
    uint64_t expires_ms;
    bool has_date;
    uint64_t date_ms; /* of the answer, else when it came */
    uint64_t age_s;
    struct str etag; /* p NULL: none */
    bool etag_weak;
    struct str last_modified; /* p NULL: none, or no date */
    uint64_t last_modified_ms;
    bool has_vary;
    bool has_set_cookie;
    bool has_content_encoding;
    bool has_content_range;
};

struct fresh_opts {
    int status;
    bool authorized;      /* the request had Authorization */
    uint64_t requested_ms, responded_ms;
    /* of the policy; negative: none */
    double ttl_s;         /* for what says nothing itself */
    double force_ttl_s;   /* whatever the answer says, as long as it may be stored */
    double stale_while_s, stale_error_s;
    double heuristic;     /* share of the age since Last-Modified; 0: off */
    double heuristic_most_s;
    struct status_ttl {
        int status;
        double ttl_s;
    } by_status[STATUS_TTLS_MAX];
    unsigned by_status_count;
};

struct fresh {
    double initial_age_s;
    uint64_t fresh_until_ms; /* unix time */
    uint64_t stale_while_ms; /* behind fresh_until_ms */
    uint64_t stale_error_ms;
    bool never_stale;        /* must-revalidate and its like */
    bool always_validate;    /* no-cache */
};

/* Reads the fields of an answer that came at now_ms. */
void facts_read(struct facts *f, const struct http_header *headers, size_t count, uint64_t now_ms);

/* NULL when it may be stored, and fills *out; else why not, one word for Cache-Status. */
const char *facts_judge(const struct facts *f, const struct fresh_opts *opts, struct fresh *out);

/* Strong and weak comparison with a list "a", W/"b", * (RFC 9110 8.8.3.2, 13.1). */
bool etag_list_has(struct str list, struct str etag, bool strong);

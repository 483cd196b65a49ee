/* Exchanges without a client: a request of our own, for the same route. What is
 * answered meets the filters and nothing behind them, so the last filter ends
 * it with exchange_detached_over(). Not counted as traffic.
 */
// SPDX-License-Identifier: MIT
#include "http/conn.h"
#include "http/path.h"

static bool copy_request(struct exchange *ex, const struct exchange *like)
{
    struct head_limits limits = {.head_bytes = SIZE_MAX, .target_bytes = SIZE_MAX, .fields = HEAD_FIELDS_MAX};
    struct head_refusal refusal;
    struct head *head = arena_alloc(ex->arena, sizeof *head);
    struct conn *conn = arena_alloc(ex->arena, sizeof *conn);
    ex->raw_head = arena_copy(ex->arena, like->raw_head);
    if (!head || !conn || !ex->raw_head.p ||
        !head_parse_request(ex->raw_head.p, ex->raw_head.len, &limits, head, &refusal) ||
        head->framing != FRAMING_NONE || !path_canonical(ex->arena, head->path, &ex->path))
        return false;
    memset(conn, 0, sizeof *conn);
    conn->state = CONN_CLOSING; /* nothing is ever written to it */
    conn->processing = true;
    conn->server = ex->server;
    memcpy(conn->peer, like->conn->peer, sizeof conn->peer);
    conn->secure = like->conn->secure;
    head->method = STR("GET");
    head->method_id = METHOD_GET;
    ex->head = head;
    ex->conn = conn;
    return true;
}

struct exchange *exchange_detached_new(const struct exchange *like)
{
    struct server *s = like->server;
    struct exchange *ex = exchange_new(s);
    if (!ex)
        return NULL;
    if (!copy_request(ex, like)) {
        exchange_free(ex);
        return NULL;
    }
    ex->detached = true;
    ex->body_ended = true;
    ex->route = like->route;
    ex->started_ns = s->io->now_ns;
    ex->next = s->detached;
    if (ex->next)
        ex->next->prev = ex;
    s->detached = ex;
    return ex;
}

void exchange_detached_over(struct exchange *ex)
{
    if (ex->next)
        ex->next->prev = ex->prev;
    if (ex->prev)
        ex->prev->next = ex->next;
    else
        ex->server->detached = ex->next;
    exchange_free(ex);
}

void server_end_detached(struct server *s)
{
    while (s->detached) {
        struct exchange *ex = s->detached;
        if (ex->answer != ANSWER_ENDED)
            exchange_gone(ex);
        exchange_detached_over(ex);
    }
}

/* Publish/subscribe: one connection of a worker for all of its subscribers.
 *
 *     channel "news"  > link > listener A    queue: [message][message]
 *                     > link > listener B    queue: [message]
 *     pattern "user.*" > link > listener B
 *
 * A channel is subscribed to for its first listener and left after its last one.
 * When the connection is lost, the channels are subscribed to again as soon as
 * there is one; what was published meanwhile is lost, and each listener is told
 * that there is a gap. So is one that does not take its messages in time: its
 * queue is bounded, and nothing is added behind a gap before it was told.
 */
// SPDX-License-Identifier: MIT
#include "redis/parts.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHANNEL_BUCKETS = 256 };

struct link {
    struct link *next, *prev;      /* of the channel */
    struct redis_listener *listener;
    struct channel *channel;
};

struct channel {
    struct channel *next;          /* of its bucket */
    struct link *links;
    bool pattern;
    bool confirmed;                /* by the server, on this connection */
    size_t len;
    char name[];
};

struct redis_listener {
    struct redis_listener *next, *prev; /* of the hub */
    struct redis_listener *next_due;
    struct redis_hub *hub;
    void (*wake)(void *user);
    void *user;
    struct redis_error failed;     /* it was never open */
    struct redis_error gap;        /* "": none */
    struct timer timer;            /* until it is open */
    struct buf queue;              /* of messages: three lengths, then the bytes */
    size_t taken;                  /* of the message that was handed out last */
    bool open, due;
    size_t count;
    struct link links[];
};

struct redis_hub {
    struct redis_pool *pool;
    struct channel *buckets[CHANNEL_BUCKETS];
    struct redis_listener *listeners;
    struct redis_listener *due;    /* wake() is to be called */
    struct redis_lease *lease;     /* asked for, or held */
    struct redis_conn *conn;       /* NULL: there is none yet */
    uint64_t asked_ms;             /* since when a check is unanswered; 0: none is */
};

struct message_head {
    uint32_t pattern, channel, payload; /* lengths; pattern UINT32_MAX: none */
};

/* ---- telling ---- */

static void tell(struct redis_listener *l)
{
    struct redis_hub *hub = l->hub;
    if (l->due)
        return;
    l->due = true;
    l->next_due = hub->due;
    hub->due = l;
}

/* Listeners may end, also others, while one is told. */
void redis_hub_tell(struct redis_hub *hub)
{
    while (hub->due && !hub->pool->all->stopping) {
        struct redis_listener *l = hub->due;
        hub->due = l->next_due;
        l->due = false;
        l->wake(l->user);
    }
}

static void set_gap(struct redis_listener *l, const char *code, const char *why)
{
    if (!l->open || l->gap.code[0])
        return;
    redis_error_set(&l->gap, code, "%s", why);
    tell(l);
}

/* ---- channels ---- */

static struct channel **slot_of(struct redis_hub *hub, struct str name, bool pattern)
{
    uint64_t hash = board_hash(hub->pool->all->board, name, pattern);
    struct channel **at = &hub->buckets[hash % CHANNEL_BUCKETS];
    while (*at && !((*at)->pattern == pattern && str_equal((struct str){(*at)->name, (*at)->len}, name)))
        at = &(*at)->next;
    return at;
}

static void command(struct redis_hub *hub, const char *word, struct str name)
{
    if (!hub->conn)
        return;
    redis_add_head(&hub->conn->out, 2);
    redis_add_argument(&hub->conn->out, str_from(word));
    redis_add_argument(&hub->conn->out, name);
    redis_conn_wake(hub->conn);
}

static void subscribe(struct redis_hub *hub, const struct channel *ch)
{
    command(hub, ch->pattern ? "PSUBSCRIBE" : "SUBSCRIBE", (struct str){ch->name, ch->len});
}

static struct channel *channel_get(struct redis_hub *hub, struct str name, bool pattern)
{
    struct channel **at = slot_of(hub, name, pattern);
    if (*at)
        return *at;
    struct channel *ch = calloc(1, sizeof *ch + name.len + 1);
    if (!ch)
        return NULL;
    memcpy(ch->name, name.p, name.len);
    ch->len = name.len;
    ch->pattern = pattern;
    *at = ch;
    subscribe(hub, ch);
    return ch;
}

static void link_end(struct redis_hub *hub, struct link *link)
{
    struct channel *ch = link->channel;
    *(link->prev ? &link->prev->next : &ch->links) = link->next;
    if (link->next)
        link->next->prev = link->prev;
    if (ch->links)
        return;
    struct str name = {ch->name, ch->len};
    *slot_of(hub, name, ch->pattern) = ch->next;
    command(hub, ch->pattern ? "PUNSUBSCRIBE" : "UNSUBSCRIBE", name);
    free(ch);
}

static void check_open(struct redis_listener *l)
{
    for (size_t i = 0; i < l->count; i++)
        if (!l->links[i].channel->confirmed)
            return;
    if (l->open)
        return;
    l->open = true;
    wheel_clear(&l->timer);
    tell(l);
}

/* ---- what the server says ---- */

static void confirm(struct redis_hub *hub, struct str name, bool pattern)
{
    struct channel *ch = *slot_of(hub, name, pattern);
    if (!ch)
        return; /* left again meanwhile */
    ch->confirmed = true;
    for (struct link *link = ch->links; link; link = link->next)
        check_open(link->listener);
}

static void queue_message(struct redis_listener *l, const struct redis_message *m, size_t most)
{
    struct message_head head = {m->pattern.p ? (uint32_t)m->pattern.len : UINT32_MAX, (uint32_t)m->channel.len, (uint32_t)m->payload.len};
    if (l->gap.code[0])
        return;
    if (buf_len(&l->queue) - l->taken + m->payload.len + m->channel.len > most) {
        set_gap(l, "slow", "messages were dropped: they came faster than they were taken (pool.redis.backlog_bytes)");
        return;
    }
    buf_add(&l->queue, &head, sizeof head);
    if (m->pattern.p)
        buf_add_str(&l->queue, m->pattern);
    buf_add_str(&l->queue, m->channel);
    buf_add_str(&l->queue, m->payload);
    if (!buf_ok(&l->queue)) {
        buf_done(&l->queue);
        l->taken = 0;
        set_gap(l, "no_memory", "messages were dropped: out of memory");
    }
    tell(l);
}

static void deliver(struct redis_hub *hub, const struct redis_message *m)
{
    size_t most = (size_t)redis_setting(hub->pool, SETTING_POOL_REDIS_BACKLOG_BYTES);
    const struct channel *ch = *slot_of(hub, m->pattern.p ? m->pattern : m->channel, m->pattern.p != NULL);
    for (struct link *link = ch ? ch->links : NULL; link; link = link->next)
        if (link->listener->open)
            queue_message(link->listener, m, most);
}

/* Takes the text items of a list of at most `most`; how many it had, 0: it is something else. */
static unsigned take_texts(struct str rest, struct str *out, unsigned most)
{
    struct redis_item item;
    if (!redis_item_next(&rest, &item) || item.type != '*' || !item.count || item.count > most)
        return 0;
    unsigned count = item.count;
    for (unsigned i = 0; i < count; i++) {
        if (!redis_item_next(&rest, &item) || item.type == '*')
            return 0;
        out[i] = item.text; /* of a number: none */
    }
    return count;
}

void redis_hub_heard(struct redis_conn *c)
{
    struct redis_hub *hub = c->hub;
    struct str text[4] = {{0}};
    struct redis_message m = {0};
    hub->asked_ms = 0;
    if (c->reply.too_large) {
        for (struct redis_listener *l = hub->listeners; l; l = l->next)
            set_gap(l, "too_large", "a message was larger than pool.redis.result_bytes and was left out");
        redis_hub_tell(hub);
        return;
    }
    unsigned count = take_texts(buf_str(&c->reply.flat), text, 4);
    if (count == 3 && str_equal(text[0], STR("message"))) {
        m.channel = text[1];
        m.payload = text[2];
        deliver(hub, &m);
    } else if (count == 4 && str_equal(text[0], STR("pmessage"))) {
        m = (struct redis_message){.pattern = text[1], .channel = text[2], .payload = text[3]};
        deliver(hub, &m);
    } else if (count == 3 && str_equal(text[0], STR("subscribe"))) {
        confirm(hub, text[1], false);
    } else if (count == 3 && str_equal(text[0], STR("psubscribe"))) {
        confirm(hub, text[1], true);
    } else if (count == 0) {
        struct str rest = buf_str(&c->reply.flat), message;
        struct redis_item item;
        char code[REDIS_CODE] = "protocol", why[REDIS_WHY] = "it sent something that is no message";
        if (redis_item_next(&rest, &item) && item.type == '-') { /* NOPERM: this user may not listen there */
            redis_split_error(item.text, code, &message);
            snprintf(why, sizeof why, "%.*s", STR_ARG(message));
        }
        redis_conn_close(c, code, why);
    }
    redis_hub_tell(hub);
}

/* ---- its connection ---- */

static void fail_unopened(struct redis_hub *hub, const struct redis_error *why)
{
    for (struct redis_listener *l = hub->listeners; l; l = l->next) {
        if (l->open || l->failed.code[0])
            continue;
        redis_error_set(&l->failed, why->code, "%s", why->message ? why->message : "?");
        wheel_clear(&l->timer);
        tell(l);
    }
}

static void end_lease(struct redis_hub *hub)
{
    struct redis_lease *lease = hub->lease;
    hub->lease = NULL;
    if (lease)
        redis_lease_end(lease);
}

static void on_lease(struct redis_lease *lease)
{
    struct redis_hub *hub = lease->user;
    if (lease->error.code[0] || !lease->conn) {
        if (lease->error.code[0])
            fail_unopened(hub, &lease->error);
        end_lease(hub); /* the next tick asks for another */
        redis_hub_tell(hub);
        return;
    }
    hub->conn = lease->conn;
    hub->conn->hub = hub;
    hub->asked_ms = 0;
    for (int i = 0; i < CHANNEL_BUCKETS; i++)
        for (const struct channel *ch = hub->buckets[i]; ch; ch = ch->next)
            subscribe(hub, ch);
}

static void want_conn(struct redis_hub *hub)
{
    if (!hub->lease && !hub->conn)
        hub->lease = redis_lease_new(hub->pool, true, on_lease, hub);
}

void redis_hub_lost(struct redis_hub *hub, const char *code, const char *why)
{
    struct redis_error error = {0};
    if (!hub->conn)
        return;
    hub->conn = NULL;
    for (int i = 0; i < CHANNEL_BUCKETS; i++)
        for (struct channel *ch = hub->buckets[i]; ch; ch = ch->next)
            ch->confirmed = false;
    redis_error_set(&error, "lost", "the connection to Redis was lost, and with it what was published since: %s", why);
    for (struct redis_listener *l = hub->listeners; l; l = l->next)
        set_gap(l, error.code, error.message ? error.message : "?");
    redis_error_clear(&error);
    if (strcmp(code, "NOPERM") == 0 || strcmp(code, "ERR") == 0) { /* it would be refused again */
        redis_error_set(&error, code, "%s", why);
        fail_unopened(hub, &error);
        redis_error_clear(&error);
    }
}

bool redis_hub_is_used(const struct redis_hub *hub)
{
    return hub->listeners != NULL;
}

static void check(struct redis_hub *hub)
{
    struct redis_pool *pool = hub->pool;
    uint64_t now = redis_now_ms(pool), every = (uint64_t)redis_setting(pool, SETTING_RESOURCE_HEALTH_INTERVAL_S) * 1000;
    struct redis_conn *c = hub->conn;
    if (hub->asked_ms && now - hub->asked_ms >= (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_STALL_MS)) {
        redis_conn_close(c, "lost", "the server does not answer a check");
    } else if (!hub->asked_ms && now - c->heard_ms >= every) {
        hub->asked_ms = now;
        redis_add_head(&c->out, 1);
        redis_add_argument(&c->out, STR("PING"));
        redis_conn_wake(c);
    }
}

void redis_hub_tick(struct redis_pool *pool)
{
    struct redis_hub *hub = pool->hub;
    if (!hub || pool->all->stopping)
        return;
    if (!hub->listeners)
        end_lease(hub);
    else if (hub->conn)
        check(hub);
    if (!hub->conn && hub->lease && hub->lease->given)
        end_lease(hub); /* of the connection that was lost */
    if (hub->listeners)
        want_conn(hub);
    redis_hub_tell(hub);
}

void redis_hub_free(struct redis_hub *hub)
{
    if (!hub)
        return;
    for (int i = 0; i < CHANNEL_BUCKETS; i++)
        for (struct channel *ch = hub->buckets[i], *next; ch; ch = next) {
            next = ch->next;
            free(ch);
        }
    if (hub->lease) {
        wheel_clear(&hub->lease->timer);
        redis_error_clear(&hub->lease->error);
    }
    free(hub->lease);
    free(hub);
}

/* ---- listeners ---- */

static void on_late(struct timer *t)
{
    struct redis_listener *l = (struct redis_listener *)((char *)t - offsetof(struct redis_listener, timer));
    struct redis_hub *hub = l->hub;
    redis_error_set(&l->failed, "timeout", "Redis %s has not confirmed the subscription within %llu ms", hub->pool->spec.name,
                    (unsigned long long)redis_pool_wait_ms(hub->pool));
    tell(l);
    redis_hub_tell(hub);
}

static struct redis_hub *hub_of(struct redis_pool *pool)
{
    if (!pool->hub) {
        pool->hub = calloc(1, sizeof *pool->hub);
        if (pool->hub)
            pool->hub->pool = pool;
    }
    return pool->hub;
}

struct redis_listener *redis_listen(struct redis_pool *pool, const struct str *names, const bool *patterns, size_t count,
                                    void (*wake)(void *user), void *user)
{
    struct redis_hub *hub = hub_of(pool);
    struct redis_listener *l = hub ? calloc(1, sizeof *l + count * sizeof *l->links) : NULL;
    if (!l)
        return NULL;
    l->hub = hub;
    l->wake = wake;
    l->user = user;
    l->timer.on_fire = on_late;
    l->next = hub->listeners;
    if (l->next)
        l->next->prev = l;
    hub->listeners = l;
    for (size_t i = 0; i < count; i++) {
        struct link *link = &l->links[i];
        struct channel *ch = channel_get(hub, names[i], patterns[i]);
        if (!ch) {
            redis_listener_end(l);
            return NULL;
        }
        *link = (struct link){.listener = l, .channel = ch, .next = ch->links};
        if (link->next)
            link->next->prev = link;
        ch->links = link;
        l->count++;
    }
    wheel_set(&pool->all->io->wheel, &l->timer, redis_now_ms(pool) + redis_pool_wait_ms(pool));
    want_conn(hub);
    check_open(l); /* wake() comes at the end of the turn when others had subscribed already */
    return l;
}

void redis_listener_end(struct redis_listener *l)
{
    struct redis_hub *hub = l->hub;
    for (size_t i = 0; i < l->count; i++)
        link_end(hub, &l->links[i]);
    *(l->prev ? &l->prev->next : &hub->listeners) = l->next;
    if (l->next)
        l->next->prev = l->prev;
    for (struct redis_listener **at = &hub->due; l->due && *at; at = &(*at)->next_due)
        if (*at == l) {
            *at = l->next_due;
            break;
        }
    wheel_clear(&l->timer);
    redis_error_clear(&l->failed);
    redis_error_clear(&l->gap);
    buf_done(&l->queue);
    free(l);
}

bool redis_listener_is_open(const struct redis_listener *l)
{
    return l->open;
}

const struct redis_error *redis_listener_failed(const struct redis_listener *l)
{
    return l->failed.code[0] ? &l->failed : NULL;
}

enum redis_heard redis_listener_next(struct redis_listener *l, struct redis_message *out, struct redis_error *error)
{
    struct message_head head;
    buf_consume(&l->queue, l->taken);
    l->taken = 0;
    if (!buf_len(&l->queue)) {
        buf_clear(&l->queue);
        if (!l->gap.code[0])
            return REDIS_HEARD_NOTHING;
        *error = l->gap;
        l->gap = (struct redis_error){0};
        return REDIS_HEARD_GAP;
    }
    const char *p = l->queue.data + l->queue.start;
    memcpy(&head, p, sizeof head);
    p += sizeof head;
    size_t pattern = head.pattern == UINT32_MAX ? 0 : head.pattern;
    *out = (struct redis_message){
        .pattern = {head.pattern == UINT32_MAX ? NULL : p, pattern},
        .channel = {p + pattern, head.channel},
        .payload = {p + pattern + head.channel, head.payload},
    };
    l->taken = sizeof head + pattern + head.channel + head.payload;
    return REDIS_HEARD_MESSAGE;
}

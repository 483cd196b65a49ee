/* filter.h - what stands between an application's answer and the wire.
 *
 *     app > exchange_begin/send/end > filter > filter > head, framing, socket
 *
 * A filter gets the answer as the application said it and says its own to the
 * next one: at once, or later from the loop (work on another thread). It is
 * pushed before the answer begins; the one pushed last sees the answer first.
 * One that has nothing to do passes everything on.
 *
 * Owner:   the exchange's arena, or what contains it; `done` releases the rest.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/server.h"

struct filter_ops {
    /* `answer` and what it points at are valid during the call only. length -1
     * when unknown: a filter that changes the body says so with filter_begin(). */
    void (*begin)(struct exchange *ex, struct filter *f, const struct answer *answer);
    void (*send)(struct exchange *ex, struct filter *f, struct str bytes);
    /* What has been sent should reach the client soon. */
    void (*flush)(struct exchange *ex, struct filter *f);
    /* After this the application is done; ex lives until the wire has its end. */
    void (*end)(struct exchange *ex, struct filter *f);
    /* A whole answer at once; NULL: begin, send and end. */
    void (*answer)(struct exchange *ex, struct filter *f, const struct answer *answer, struct str body);
    /* The application broke off. True: the filter has given another answer, whole;
     * false: the connection is cut. NULL: never. */
    bool (*broken)(struct exchange *ex, struct filter *f);
    /* The exchange is over, for whatever reason, perhaps in the middle. Called once. */
    void (*done)(struct exchange *ex, struct filter *f);
};

struct filter {
    const struct filter_ops *ops;
    struct filter *next; /* nearer to the wire; NULL: the wire */
    size_t held_bytes;   /* kept by it for now: counts as pending, so that the app waits */
};

void filter_push(struct exchange *ex, struct filter *f);

/* Something to do when the exchange is over, for whatever reason. */
struct ending {
    void (*run)(struct exchange *ex, struct ending *e);
    struct ending *next;
};
void exchange_on_end(struct exchange *ex, struct ending *e);

/* To be called with f->next. After filter_end() and filter_answer() the exchange may be gone. */
void filter_begin(struct exchange *ex, struct filter *f, const struct answer *answer);
void filter_send(struct exchange *ex, struct filter *f, struct str bytes);
void filter_flush(struct exchange *ex, struct filter *f);
void filter_end(struct exchange *ex, struct filter *f);
void filter_answer(struct exchange *ex, struct filter *f, const struct answer *answer, struct str body);

// SPDX-License-Identifier: MIT
#include "stats/remotes.h"

#include "base/err.h"
#include "board/guests.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint64_t SILENT_NS = UINT64_C(60000000000);

struct sender {
    unsigned char id[PARCEL_SENDER];
    int fd; /* holds the lane's lock; -1: free */
    uint32_t lane;
    uint64_t sequence; /* of the last parcel */
    uint64_t seen_ns;
};

struct remotes {
    struct board *board;
    struct sender senders[GUESTS_MAX];
    struct parcel_entry entry; /* scratch */
};

struct remotes *remotes_new(struct board *board)
{
    struct remotes *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->board = board;
    for (int i = 0; i < GUESTS_MAX; i++)
        r->senders[i].fd = -1;
    return r;
}

static void let_go(struct sender *s)
{
    if (s->fd >= 0)
        close(s->fd); /* and with it the lock: guests_sweep() aborts what was begun */
    s->fd = -1;
}

void remotes_free(struct remotes *r)
{
    for (int i = 0; r && i < GUESTS_MAX; i++)
        let_go(&r->senders[i]);
    free(r);
}

void remotes_tick(struct remotes *r, uint64_t now_ns)
{
    for (int i = 0; i < GUESTS_MAX; i++)
        if (r->senders[i].fd >= 0 && now_ns > r->senders[i].seen_ns + SILENT_NS)
            let_go(&r->senders[i]);
}

unsigned remotes_count(const struct remotes *r)
{
    unsigned n = 0;
    for (int i = 0; i < GUESTS_MAX; i++)
        n += r->senders[i].fd >= 0;
    return n;
}

static int sender_of(struct remotes *r, const unsigned char id[PARCEL_SENDER], struct sender **out)
{
    struct sender *unused = NULL;
    for (struct sender *s = r->senders; s < r->senders + GUESTS_MAX; s++) {
        if (s->fd >= 0 && memcmp(s->id, id, PARCEL_SENDER) == 0) {
            *out = s;
            return 0;
        }
        if (s->fd < 0 && !unused)
            unused = s;
    }
    if (!unused)
        return ERR_BUSY;
    int fd = guest_open(r->board->fd);
    int lane = fd < 0 ? ERR_IO : guest_claim(r->board, fd);
    if (lane < 0) {
        if (fd >= 0)
            close(fd);
        return lane;
    }
    *unused = (struct sender){.fd = fd, .lane = (uint32_t)lane};
    memcpy(unused->id, id, PARCEL_SENDER);
    *out = unused;
    return 0;
}

static bool is_whole(struct remotes *r, struct str rest)
{
    do {
        if (parcel_next(&rest, &r->entry) != 0)
            return false;
    } while (r->entry.kind != PARCEL_END);
    return true;
}

int remotes_take(struct remotes *r, struct str parcel, uint64_t now_ns)
{
    struct parcel_head head;
    struct sender *s;
    int err = parcel_open(&parcel, &head);
    if (!err && !is_whole(r, parcel))
        err = ERR_INVAL;
    if (!err)
        err = sender_of(r, head.sender, &s);
    if (err)
        return err;
    s->seen_ns = now_ns;
    if (head.sequence <= s->sequence)
        return 0;
    s->sequence = head.sequence;
    struct lane *lane = board_lane(r->board, s->lane);
    lane_add(&lane->started, head.started);
    while (parcel_next(&parcel, &r->entry) == 0 && r->entry.kind != PARCEL_END) {
        uint32_t route = board_route(r->board, r->entry.method, r->entry.name);
        if (r->entry.kind == PARCEL_ROUTE)
            lane_merge(lane, route, &r->entry.counts);
        else
            lane_merge_slow(lane, route, &r->entry.slow);
    }
    lane_add(&lane->finished, head.finished);
    lane_add(&lane->aborted, head.aborted);
    if (head.last)
        let_go(s);
    return 0;
}

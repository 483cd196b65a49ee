// SPDX-License-Identifier: MIT
#include "board/guests.h"

#include "base/err.h"
#include "board/board.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Byte i of the segment stands for lane i; nobody else locks any. */
static struct flock lane_lock(uint32_t lane, short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = lane, .l_len = 1};
}

static bool lock_lane(int fd, uint32_t lane)
{
    struct flock lock = lane_lock(lane, F_WRLCK);
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static void unlock_lane(int fd, uint32_t lane)
{
    struct flock lock = lane_lock(lane, F_UNLCK);
    fcntl(fd, F_OFD_SETLK, &lock);
}

/* What its last writer had begun will never end. */
static void abandon(struct lane *lane)
{
    uint64_t open = lane_in_flight(lane);
    if (open)
        lane_add(&lane->aborted, open);
}

static void note_used(struct board *board, uint32_t lanes)
{
    uint32_t used = board_lanes(board);
    while (used < lanes && !atomic_compare_exchange_weak(&board->lanes_used, &used, lanes))
        ;
}

int guest_claim(struct board *board, int fd)
{
    for (uint32_t lane = board->workers; lane < board->lanes; lane++) {
        if (lock_lane(fd, lane)) {
            note_used(board, lane + 1);
            abandon(board_lane(board, lane));
            return (int)lane;
        }
        if (errno != EAGAIN && errno != EACCES)
            return ERR_IO;
    }
    return ERR_BUSY;
}

void guests_sweep(struct board *board, int fd)
{
    for (uint32_t lane = board->workers; lane < board_lanes(board); lane++) {
        if (!lane_in_flight(board_lane(board, lane)) || !lock_lane(fd, lane))
            continue;
        abandon(board_lane(board, lane));
        unlock_lane(fd, lane);
    }
}

int guest_open(int fd)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDWR | O_CLOEXEC);
}

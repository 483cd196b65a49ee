/* What a span costs from C: begin, a phase, end, on a private board. Prints ns. */
// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "embed/own.h"
#include "embed/recorder.h"

#include <stdio.h>

enum { SPANS = 5000000 };

int main(void)
{
    struct board *board = board_new(&(struct board_opts){.workers = 1, .peers_max = 1, .routes_max = 64, .is_private = true});
    static struct recorder recorder;
    recorder_init(&recorder, board, 0, NULL);
    uint32_t route = recorder_route(&recorder, STR("GET"), STR("/users/:id"));
    uint64_t began = clock_now_ns();
    for (int i = 0; i < SPANS; i++) {
        struct span span;
        span_begin(&recorder, route, &span);
        span_phase(&span, PHASE_DB, 1000);
        span_end(&span, &(struct span_result){.status = 200, .bytes_out = 100});
    }
    printf("%.1f\n", (double)(clock_now_ns() - began) / SPANS);
    board_free(board);
    return 0;
}

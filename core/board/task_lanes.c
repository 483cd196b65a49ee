// SPDX-License-Identifier: MIT
#include "board/task_lanes.h"

const char *task_kind_name(enum task_kind kind)
{
    static const char *const names[TASK_KINDS] = {
#define X(id, name) [TASK_##id] = name,
        TASK_KIND_LIST(X)
#undef X
    };
    return names[kind];
}

static const char *const priorities[TASK_PRIORITIES] = {"critical", "high", "normal", "low"};

const char *task_priority_name(enum task_priority priority)
{
    return priorities[priority];
}

enum task_priority task_priority_find(struct str name)
{
    int i = 0;
    while (i < TASK_PRIORITIES && !str_equal(name, str_from(priorities[i])))
        i++;
    return (enum task_priority)i;
}

void task_lanes_forget(struct task_process *p)
{
    atomic_store(&p->threads, 0);
    atomic_store(&p->lost, 0);
    atomic_store(&p->busy_share, 0);
    for (int k = 0; k < TASK_KINDS; k++)
        for (int i = 0; i < TASK_PRIORITIES; i++) {
            atomic_store(&p->lanes[k][i].queued, 0);
            atomic_store(&p->lanes[k][i].running, 0);
        }
}

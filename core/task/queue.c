// SPDX-License-Identifier: MIT
#include "task/parts.h"

void list_append(struct task_list *list, struct task *task)
{
    task->next = NULL;
    task->prev = list->last;
    if (list->last)
        list->last->next = task;
    else
        list->first = task;
    list->last = task;
}

void list_take(struct task_list *list, struct task *task)
{
    *(task->prev ? &task->prev->next : &list->first) = task->next;
    *(task->next ? &task->next->prev : &list->last) = task->prev;
    task->next = task->prev = NULL;
}

struct task *list_take_first(struct task_list *list)
{
    struct task *task = list->first;
    if (task)
        list_take(list, task);
    return task;
}

static struct task_list *most_urgent(struct tasks *t)
{
    for (int i = 0; i < TASK_PRIORITIES; i++)
        if (t->waiting[i].first)
            return &t->waiting[i];
    return NULL;
}

/* Each list is oldest first, so its head has risen most. */
static struct task_list *risen_most(struct tasks *t, uint64_t now_ns)
{
    struct task_list *best = NULL;
    double best_rank = 0, aging_ns = (double)task_setting(t, SETTING_TASKS_AGING_MS) * 1e6;
    for (int i = 0; i < TASK_PRIORITIES; i++) {
        const struct task *head = t->waiting[i].first;
        if (!head)
            continue;
        double waited_ns = now_ns > head->queued_ns ? (double)(now_ns - head->queued_ns) : 0;
        double rank = i - waited_ns / aging_ns;
        if (!best || rank < best_rank) {
            best = &t->waiting[i];
            best_rank = rank;
        }
    }
    return best;
}

struct task *queue_take(struct tasks *t, uint64_t now_ns)
{
    struct task_list *urgent = most_urgent(t), *chosen = urgent;
    if (!urgent)
        return NULL;
    if (++t->since_aged >= task_setting(t, SETTING_TASKS_AGED_EVERY)) {
        chosen = risen_most(t, now_ns);
        if (chosen != urgent)
            t->since_aged = 0;
    }
    return list_take_first(chosen);
}

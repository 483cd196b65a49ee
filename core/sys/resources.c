// SPDX-License-Identifier: MIT
#include "sys/resources_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const struct resource_info resource_infos[RESOURCE_COUNT] = {
#define X(id, section, name, unit, doc) [RESOURCE_##id] = {section, name, unit, doc},
    RESOURCE_LIST(X)
#undef X
};

static const char *const second_sample = "known from the second sample on";

void resource_set(struct resources *r, enum resource_id id, double value)
{
    r->value[id] = value;
    r->why[id] = NULL;
}

void resource_missing(struct resources *r, enum resource_id id, const char *why)
{
    r->value[id] = r->last[id] = NAN;
    r->why[id] = why;
}

void resources_missing(struct resources *r, enum resource_id first, enum resource_id last, const char *why)
{
    for (int id = (int)first; id <= (int)last; id++)
        resource_missing(r, (enum resource_id)id, why);
}

void resource_rate(struct resources *r, enum resource_id id, double counter, double unit)
{
    double before = r->last[id], span_s = (double)(r->now_ns - r->last_ns[id]) / 1e9;
    if (isnan(before) || counter < before || span_s <= 0)
        resource_missing(r, id, second_sample); /* a counter that went back began anew */
    else
        resource_set(r, id, (counter - before) * unit / span_s);
    r->last[id] = counter;
    r->last_ns[id] = r->now_ns;
}

void resource_share(struct resources *r, enum resource_id id, double last[2], double part, double whole)
{
    double parts = part - last[0], all = whole - last[1];
    if (isnan(all) || parts < 0 || all < 0)
        resource_missing(r, id, second_sample);
    else
        resource_set(r, id, all > 0 ? parts / all : 0);
    last[0] = part;
    last[1] = whole;
}

void resources_init(struct resources *r, const char *root, const char *disk_path)
{
    memset(r, 0, sizeof *r);
    snprintf(r->root, sizeof r->root, "%s", root);
    snprintf(r->disk_path, sizeof r->disk_path, "%s", disk_path ? disk_path : "");
    resources_missing(r, (enum resource_id)0, (enum resource_id)(RESOURCE_COUNT - 1), "not sampled yet");
    r->last_steal[1] = r->last_throttled[1] = NAN;
}

void resources_sample(struct resources *r, uint64_t now_ns)
{
    r->now_ns = now_ns;
    resources_cpu(r);
    resources_memory(r);
    resources_pressure(r);
    resources_disk(r);
    resources_io(r);
    resources_network(r);
    resources_files(r);
}

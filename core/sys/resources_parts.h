/* resources_parts.h - inside of resources*.c. */
// SPDX-License-Identifier: MIT
#pragma once

#include "sys/resources.h"
#include "sys/sysfile.h"

#include <stddef.h>

enum { RESOURCE_FILE_BYTES = 64 << 10 };

void resource_set(struct resources *r, enum resource_id id, double value);
void resource_missing(struct resources *r, enum resource_id id, const char *why);

/* The same for all from `first` to `last`. */
void resources_missing(struct resources *r, enum resource_id first, enum resource_id last, const char *why);

/* The rate of a counter per second; what it is counted in becomes `unit` times as much. */
void resource_rate(struct resources *r, enum resource_id id, double counter, double unit);

/* The growth of `part` over that of `whole`. */
void resource_share(struct resources *r, enum resource_id id, double last[2], double part, double whole);

void resources_cpu(struct resources *r);
void resources_memory(struct resources *r);
void resources_pressure(struct resources *r);
void resources_disk(struct resources *r);
void resources_io(struct resources *r);
void resources_network(struct resources *r);
void resources_files(struct resources *r);

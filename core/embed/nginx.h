/* nginx.h - one request of nginx, from its own variables into a lane.
 *
 *     log_by_lua > nginx_record(request) > ngx_http_get_variable(), ... > span
 *
 * A variable that is asked for in Lua becomes a string there first; for five of them that was more
 * than a quarter of what a small request takes in all. Here they are read where they lie. What is
 * called is what nginx exports to its modules and its Lua module to lua-resty-core; it is looked
 * up by name, so that the library loads where there is no nginx.
 *
 * Threads: that of nginx's worker.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "embed/recorder.h"

enum { NGINX_ROUTE_BYTES = BOARD_ROUTE_NAME };

/* Whether this process is an nginx whose functions can be called. */
bool nginx_here(void);

/* One span for a request that has ended. `request`: ngx_http_request_t; `route`: its template, of length 0: the path with
 * ids replaced. Only where nginx_here(). Nothing is recorded by a recorder that was closed. */
void nginx_record(struct recorder *r, void *request, const char *route, size_t route_len);

/* A path with those segments replaced by ":id" that differ from request to request: numbers, UUIDs, long hexadecimal
 * words, long mixed ones. Cut at the capacity of `out`; its length. */
size_t nginx_template(struct str path, char out[NGINX_ROUTE_BYTES]);

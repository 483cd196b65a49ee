/* status.h - status codes and their reason phrases (RFC 9110 15).
 *
 * Threads: any; read-only.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

/* "Not Found", or "Unknown" for a code without a registered phrase. */
struct str status_reason(int status);

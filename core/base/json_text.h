/* json_text.h - a text as JSON (RFC 8259) has it, for reports that are written as they come.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdio.h>

/* Writes it in quotes; NULL as null. Bytes above 126 are passed on: the text is UTF-8. */
void json_text(FILE *out, const char *text);

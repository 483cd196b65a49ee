/* opinion.h - a second reader for heads: llhttp.
 *
 * head.h decides; llhttp, a parser written by others and met by other bugs,
 * reads the same bytes. Where the two see different messages, somebody behind
 * us may as well, and the message is refused.
 *
 * llhttp is used in strict mode, on whole heads only; it never sees a body.
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/head.h"

/* Whether llhttp reads bytes[0..len), which head_parse_* accepted as *head, as
 * the same message: method or status, version, length and chunking. Methods
 * that we have no id for are not asked about: llhttp knows few of them. */
bool opinion_agrees(const char *bytes, size_t len, const struct head *head, bool response);

/* opinion.h - a second reader for heads: llhttp.
 *
 * head.h decides; llhttp, a parser written by others and met by other bugs,
 * reads the same bytes. Where the two see different messages, somebody behind
 * us may as well, and the message is refused.
 *
 * llhttp is used in strict mode, on whole heads only; it never sees a body. A
 * GET or HEAD without any field that bears on framing has nothing to differ
 * about, and is not shown to it: half of what such a request costs to read.
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/head.h"

/* Whether two readers could see different messages in an accepted request. */
static inline bool opinion_matters(const struct head *head)
{
    return (head->method_id != METHOD_GET && head->method_id != METHOD_HEAD) || head->minor != 1 ||
           head->first[FIELD_CONTENT_LENGTH] || head->first[FIELD_TRANSFER_ENCODING] ||
           head->first[FIELD_CONNECTION] || head->first[FIELD_UPGRADE] || head->first[FIELD_EXPECT] ||
           head->first[FIELD_TE] || head->first[FIELD_TRAILER];
}

/* Whether llhttp reads bytes[0..len), which head_parse_* accepted as *head, as
 * the same message: method or status, version, length and chunking. Methods
 * that we have no id for are not asked about: llhttp knows few of them. */
bool opinion_agrees(const char *bytes, size_t len, const struct head *head, bool response);

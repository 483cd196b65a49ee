/* measure.h - whether requests are measured: 1, unless a build for comparison
 * says -DMEASURE=0 (make MODE=bare), which counts requests and nothing else.
 */
// SPDX-License-Identifier: MIT
#pragma once

#ifndef MEASURE
#define MEASURE 1
#endif

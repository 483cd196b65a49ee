/* eigen.h - eigenvalues and vectors of a symmetric matrix, cyclic Jacobi.
 *
 * For up to some hundred columns, where its accuracy and shortness beat a
 * tridiagonal QR; off-diagonal weight falls quadratically, 6 to 10 sweeps.
 *
 * Source:  Golub, Van Loan: Matrix Computations, 8.5.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

/* Overwrites a (n x n, symmetric) and fills values[n], largest first, and
 * vectors (n x n), one eigenvector a row. */
void eigen_symmetric(double *a, size_t n, double *values, double *vectors);

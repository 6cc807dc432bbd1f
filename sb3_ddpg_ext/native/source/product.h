/* Products of matrices. */
#pragma once
#include "vectors.h"

enum { DEPTH = 128 }; /* terms of a sum that are added at a time: so much of B stays in the first cache */

typedef struct {
    const real *values;
    long row, depth; /* from A(i, k) to A(i + 1, k) and to A(i, k + 1) */
} Left;

typedef struct {
    const real *values;
    long row; /* from B(k, j) to B(k + 1, j); B(k, j + 1) is beside B(k, j) */
} Right;

typedef struct {
    real *values;
    long row, n_columns;
} Output;

/* A tile of C, which stays in registers while the sums over k grow. `start` has what they start from, or is NULL. */
INLINE void tile(const int rows, const int vectors, Left a, Right b, long depth, const real *start, long start_row, Output c) {
    vec sums[12][4];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) sums[i][j] = start ? load(start + i * start_row + j * V) : (vec){0};
    for (long k = 0; k < depth; k++) {
        vec right[4];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) right[j] = load(b.values + k * b.row + j * V);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const real left = a.values[i * a.row + k * a.depth];
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) sums[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) store_first(c.values + i * c.row + j * V, sums[i][j], c.n_columns - j * V);
}

/* A column of tiles. */
INLINE void strip(const int rows, const int vectors, Left a, Right b, long m, long depth, const real *start, long start_row,
                  Output c) {
    const int sizes[4] = {rows, 4, 2, 1};
    long i = 0;
#pragma GCC unroll 4
    for (int size = 0; size < 4; size++)
        for (; i + sizes[size] <= m; i += sizes[size])
            tile(sizes[size], vectors, (Left){a.values + i * a.row, a.row, a.depth}, b, depth,
                 start ? start + i * start_row : NULL, start_row, (Output){c.values + i * c.row, c.row, c.n_columns});
}

/*
 * C = A B, or A B + bias: m rows, sums of `depth` products. Each number of C is summed in one order, whatever m is.
 * B and the bias are read up to the end of a vector, with which nothing is done but to fill C where it has room.
 */
static void product(Left a, Right b, const real *bias, long m, long depth, Output c) {
    const long n_parts = depth ? (depth + DEPTH - 1) / DEPTH : 1, part = (depth + n_parts - 1) / n_parts;
    for (long j = 0; j < c.n_columns; j += WIDE * V) {
        const long vectors = (c.n_columns - j + V - 1) / V;
        const Output out = {c.values + j, c.row, c.n_columns - j};
        for (long k = 0; k < depth; k += part) {
            const Left left = {a.values + k * a.depth, a.row, a.depth};
            const Right right = {b.values + k * b.row + j, b.row};
            const long terms = depth - k < part ? depth - k : part;
            const real *start = k ? out.values : bias ? bias + j : NULL;
            const long start_row = k ? c.row : 0;
            if (WIDE == 4 && vectors >= 4)
                strip(6, 4, left, right, m, terms, start, start_row, out);
            else if (WIDE == 4 && vectors == 3)
                strip(8, 3, left, right, m, terms, start, start_row, out);
            else if (vectors >= 2)
                strip(WIDE == 4 ? 12 : 6, 2, left, right, m, terms, start, start_row, out);
            else
                strip(12, 1, left, right, m, terms, start, start_row, out);
        }
    }
}

/* to(j, i) = from(i, j) of V rows and V columns, by exchanging ever larger blocks. */
INLINE void transpose_block(const real *from, long from_row, real *to, long to_row) {
    vec rows[V];
#pragma GCC unroll 16
    for (int i = 0; i < V; i++) rows[i] = load(from + i * from_row);
#pragma GCC unroll 4
    for (int size = 1; size < V; size *= 2) {
        mask first, second;
#pragma GCC unroll 16
        for (int j = 0; j < V; j++) first[j] = j & size ? V + j - size : j, second[j] = j & size ? V + j : j + size;
#pragma GCC unroll 16
        for (int i = 0; i < V; i++)
            if (!(i & size)) {
                const vec upper = rows[i], lower = rows[i + size];
                rows[i] = __builtin_shuffle(upper, lower, first);
                rows[i + size] = __builtin_shuffle(upper, lower, second);
            }
    }
#pragma GCC unroll 16
    for (int i = 0; i < V; i++) store(to + i * to_row, rows[i]);
}

/* The same of any numbers of rows and columns. */
static void transpose(const real *from, long from_row, long n_rows, long n_columns, real *to, long to_row) {
    for (long i = 0; i < n_rows; i += V)
        for (long j = 0; j < n_columns; j += V)
            if (i + V <= n_rows && j + V <= n_columns)
                transpose_block(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
            else
                for (long jj = j; jj < n_columns && jj < j + V; jj++)
                    for (long ii = i; ii < n_rows && ii < i + V; ii++) to[jj * to_row + ii] = from[ii * from_row + jj];
}

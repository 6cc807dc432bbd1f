/* Products of matrices. With `in_pairs` the terms are words of two rounded numbers each, see pairs.h. */
#pragma once
#include "pairs.h"

enum { DEPTH = 150 }; /* terms of a sum that are added at a time: so much of B stays in the first cache */

/* A(i, k). Where k goes over several parts of memory, `part` leads from one to the next; so it is for B. */
typedef struct {
    const real *values;
    long row, depth, part; /* from A(i, k) to A(i + 1, k), to A(i, k + 1), and to the same place of the next part */
} Left;

typedef struct {
    const real *values;
    long row, part; /* from B(k, j) to B(k + 1, j); B(k, j + 1) is beside B(k, j) */
} Right;

typedef struct {
    real *values;
    long row, n_columns;
} Output;

typedef struct {
    long n_parts, terms; /* in each part */
} Depth;

enum Start { FROM_ZERO, FROM_BIAS, FROM_OUTPUT };

#include "tiles.h"

/* A tile of C, which stays in registers while its sums grow. */
INLINE void tile(const int in_pairs, const int rows, const int vectors, Left a, Right b, Depth depth, enum Start start, const real *bias, Output c) {
    vec sums[12][4];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sums[i][j] = start == FROM_OUTPUT ? load(c.values + i * c.row + j * V) : all(start == FROM_BIAS ? bias[i] : 0);
    for (long p = 0; p < depth.n_parts; p++) {
        const real *left = a.values + p * a.part, *right = b.values + p * b.part;
        for (long k = 0; k < depth.terms; k++, left += a.depth, right += b.row) {
            vec terms[4];
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) terms[j] = load(right + j * V);
#pragma GCC unroll 12
            for (int i = 0; i < rows; i++) {
                const real *factor = left + i * a.row;
#pragma GCC unroll 4
                for (int j = 0; j < vectors; j++)
                    sums[i][j] = in_pairs ? add_pairs(sums[i][j], factor, terms[j]) : sums[i][j] + *factor * terms[j];
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) store_first(c.values + i * c.row + j * V, sums[i][j], c.n_columns - j * V);
}

/* A column of tiles. */
INLINE void strip(const int in_pairs, const int rows, const int vectors, Left a, Right b, long m, Depth depth, enum Start start,
                  const real *bias, Output c) {
    const int sizes[4] = {rows, 4, 2, 1};
    long i = 0;
#pragma GCC unroll 4
    for (int size = 0; size < 4; size++)
        for (; i + sizes[size] <= m; i += sizes[size]) {
            const Left left = {a.values + i * a.row, a.row, a.depth, a.part};
            tile(in_pairs, sizes[size], vectors, left, b, depth, start, bias + i,
                 (Output){c.values + i * c.row, c.row, c.n_columns});
        }
}

INLINE void few_terms(const int in_pairs, Left a, Right b, long m, Depth depth, enum Start start, const real *bias, Output c) {
    for (long j = 0; j < c.n_columns; j += WIDE * V) {
        const long vectors = (c.n_columns - j + V - 1) / V;
        const Right right = {b.values + j, b.row, b.part};
        const Output out = {c.values + j, c.row, c.n_columns - j};
        if (WIDE == 4 && vectors >= 4)
            strip(in_pairs, 6, 4, a, right, m, depth, start, bias, out);
        else if (WIDE == 4 && vectors == 3)
            strip(in_pairs, 8, 3, a, right, m, depth, start, bias, out);
        else if (vectors >= 2)
            strip(in_pairs, WIDE == 4 ? 12 : 6, 2, a, right, m, depth, start, bias, out);
        else
            strip(in_pairs, 12, 1, a, right, m, depth, start, bias, out);
    }
}

/*
 * C = A B, A B + bias(i), or C + A B, of m rows. Each number of C is summed in one order, whatever the size of C is.
 * B is read up to the end of a vector, with which nothing is done but to fill C where it has room.
 */
INLINE void sums_of_products(const int in_pairs, Left a, Right b, long m, Depth depth, enum Start start, const real *bias, Output c) {
    const long n_pieces = (depth.terms + DEPTH - 1) / DEPTH;      /* of a part */
    const long piece = (depth.terms + n_pieces - 1) / n_pieces;   /* terms */
    const long at_once = n_pieces == 1 ? DEPTH / depth.terms : 1; /* parts */
    for (long p = 0; p < depth.n_parts; p += at_once)
        for (long k = 0; k < depth.terms; k += piece, start = FROM_OUTPUT) {
            const Left left = {a.values + p * a.part + k * a.depth, a.row, a.depth, a.part};
            const Right right = {b.values + p * b.part + k * b.row, b.row, b.part};
            const Depth some = {depth.n_parts - p < at_once ? depth.n_parts - p : at_once,
                                depth.terms - k < piece ? depth.terms - k : piece};
            few_terms(in_pairs, left, right, m, some, start, bias, c);
        }
}

static void product(Left a, Right b, long m, Depth depth, enum Start start, const real *bias, Output c) {
    sums_of_products(0, a, b, m, depth, start, bias, c);
}

static void product_of_pairs(Left a, Right b, long m, Depth depth, enum Start start, const real *bias, Output c) {
    if (IN_TILES)
        product_in_tiles(a, b, m, depth, start, bias, c);
    else if (ROUNDS)
        sums_of_products(1, a, b, m, depth, start, bias, c);
}

/* to(j, i) = from(i, j) of V rows and V columns, by exchanging ever larger blocks. */
INLINE void transpose_block(const real *from, long from_row, real *to, long to_row) {
    vec rows[V];
#pragma GCC unroll 16
    for (int i = 0; i < V; i++) rows[i] = load(from + i * from_row);
#if defined __clang__ /* has no __builtin_shuffle */
    for (int i = 0; i < V; i++)
        for (int j = 0; j < V; j++) to[j * to_row + i] = rows[i][j];
    return;
#else
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
#endif
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

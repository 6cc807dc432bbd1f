/*
 * Numbers rounded to bfloat16, in pairs: a word of 32 bits holds two that follow each other in the sum of a product, and one
 * instruction adds both of their products to a sum in float. Rounding is to the nearest, NaN stays NaN.
 */
#pragma once
#include "vectors.h"

#if defined __AVX512BF16__
#include <immintrin.h>

enum { ROUNDS = 1 };

/* sum(j) + the products of a pair and of those of the words (j). */
INLINE vec add_pairs(vec sum, const real *pair, vec words) {
    int word;
    memcpy(&word, pair, sizeof word);
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(word), (__m512bh)words);
}

/* Words of neighbours: (0, 1), (2, 3) ... of the first vector, then of the second. */
INLINE vec neighbours(vec first, vec second) { return (vec)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first); }

/* Words of what stands at the same place of two vectors. */
INLINE vec side_by_side(vec even, vec odd) {
    short index[32];
    for (int i = 0; i < 32; i++) index[i] = i / 2 + i % 2 * 16;
    return (vec)_mm512_permutexvar_epi16(_mm512_loadu_si512(index), (__m512i)neighbours(even, odd));
}
#else
enum { ROUNDS = 0 }; /* nothing of this is called */
INLINE vec add_pairs(vec sum, const real *pair, vec words) { return sum + *pair * words; }
INLINE vec neighbours(vec first, vec second) { return first + second; }
INLINE vec side_by_side(vec even, vec odd) { return even + odd; }
#endif

#if defined __AMX_BF16__
enum { IN_TILES = 1, WORDS = 16 }; /* see tiles.h */
#else
enum { IN_TILES = 0, WORDS = 1 };
#endif

/* Words of a sum of n products: with tiles whole rows of them, of which the last words are zero. */
INLINE long n_pairs(long n) { return rounded_up((n + 1) / 2, WORDS); }

/* Pairs of rows, of a matrix (n_rows, n): to(i / 2, j) = from(i, j), from(i + 1, j). A last one is beside zeros. */
static void pair_rows(const real *from, long from_row, long n_rows, long n, real *to, long to_row) {
    for (long i = 0; i < n_rows; i += 2)
        for (long j = 0; j < n; j += V) {
            const real *even = from + i * from_row + j;
            const vec odd = i + 1 < n_rows ? load_first(even + from_row, n - j) : (vec){0};
            store_first(to + i / 2 * to_row + j, side_by_side(load_first(even, n - j), odd), n - j);
        }
}

/* Pairs of columns: to(i, j / 2) = from(i, j), from(i, j + 1). A last one is beside zeros. */
static void pair_columns(const real *from, long from_row, long n_rows, long n, real *to, long to_row) {
    for (long i = 0; i < n_rows; i++)
        for (long j = 0; j < n; j += 2 * V) {
            const real *row = from + i * from_row + j;
            store_first(to + i * to_row + j / 2, neighbours(load_first(row, n - j), load_first(row + V, n - j - V)), n_pairs(n - j));
        }
}

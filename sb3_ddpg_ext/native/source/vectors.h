/* Vectors as wide as the processor's registers. The same source is compiled for each kind of processor, and for float and double. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined __AVX512F__
enum { BYTES = 64, WIDE = 4 }; /* of a vector; vectors in a row of a tile, see product.h */
#elif defined __AVX__
enum { BYTES = 32, WIDE = 2 };
#elif defined __ARM_NEON
enum { BYTES = 16, WIDE = 4 };
#else
enum { BYTES = 16, WIDE = 2 };
#endif
enum { V = BYTES / sizeof(real) }; /* numbers in a vector */

typedef real vec __attribute__((vector_size(BYTES)));
typedef real anywhere __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
typedef __typeof__((vec){0} < (vec){0}) mask; /* all bits of a number are set where a comparison holds */

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *from) { return *(const anywhere *)from; }

INLINE void store(real *to, vec value) { *(anywhere *)to = value; }

/* The first n numbers of a vector, or all of them. */
INLINE void store_first(real *to, vec value, long n) {
    if (n >= V)
        store(to, value);
    else if (n > 0)
        memcpy(to, &value, n * sizeof(real));
}

INLINE vec load_first(const real *from, long n) {
    if (n >= V) return load(from);
    vec value = {0};
    if (n > 0) memcpy(&value, from, n * sizeof(real));
    return value;
}

INLINE vec all(real value) { return (vec){0} + value; }

INLINE vec choose(mask which, vec yes, vec no) { return (vec)((which & (mask)yes) | (~which & (mask)no)); }

INLINE real sum_of(vec value) {
    real parts[V];
    store(parts, value);
    for (int n = V / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) parts[i] += parts[i + n];
    return parts[0];
}

INLINE vec square_root(vec value) {
    vec root;
    for (int i = 0; i < V; i++) root[i] = sizeof(real) == 4 ? sqrtf(value[i]) : sqrt(value[i]);
    return root;
}

static long rounded_up(long n, long to) { return (n + to - 1) / to * to; }

/* Numbers from one row to the next: an odd number of vectors, so that rows do not fall into the same sets of a cache. */
static long row_length(long n) { return (rounded_up(n, V) / V | 1) * V; }

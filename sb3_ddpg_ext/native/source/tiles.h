/*
 * Products of pairs by Intel's AMX. A tile is a register of 16 rows of 16 words; one instruction multiplies a tile of A by one of B,
 * both of pairs, and adds to a tile of C, of floats. Here four tiles of C grow at a time, of 32 rows and 32 columns.
 */
#pragma once
#include "pairs.h"

#if defined __AMX_BF16__
enum { SIDE = 16 }; /* rows of a tile, and words in each */

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t n_bytes[16]; /* in each row, of each register */
    uint8_t n_rows[16];
} Shapes;

/* A constant: some compilers do not know that all of it is read, and would leave out to write it. */
static const Shapes shapes = {.palette = 1, .n_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .n_rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static void begin_tiles(void) { _tile_loadconfig(&shapes); }

static void end_tiles(void) { _tile_release(); }

/*
 * The compiler takes the numbers of tiles as they stand, and some compilers do not know that a tile is loaded from memory: what has
 * been written before, also to A and B, has to be there. A row is some numbers after the one before.
 */
INLINE void load_after_writes(int number, const real *from, long row) {
    __asm__ volatile("" ::: "memory");
    switch (number) {
        case 0: _tile_loadd(0, from, row * sizeof(real)); break;
        case 1: _tile_loadd(1, from, row * sizeof(real)); break;
        case 2: _tile_loadd(2, from, row * sizeof(real)); break;
        default: _tile_loadd(3, from, row * sizeof(real));
    }
}

INLINE void store_tile(int number, real *to, long row) {
    switch (number) {
        case 0: _tile_stored(0, to, row * sizeof(real)); break;
        case 1: _tile_stored(1, to, row * sizeof(real)); break;
        case 2: _tile_stored(2, to, row * sizeof(real)); break;
        default: _tile_stored(3, to, row * sizeof(real));
    }
}

/* Tiles 0 to 3, which have been loaded, += A B of the rows from `a` and the columns from `b`; 2 x 2 tiles, or fewer at an edge. */
INLINE void add_products(Left a, Right b, Depth depth, int is_high, int is_wide) {
    const long a_row = a.row * sizeof(real), b_row = b.row * sizeof(real);
    for (long p = 0; p < depth.n_parts; p++)
        for (long k = 0; k < depth.terms; k += SIDE) {
            const real *left = a.values + p * a.part + k, *right = b.values + p * b.part + k * b.row;
            _tile_loadd(4, left, a_row);
            _tile_loadd(6, right, b_row);
            _tile_dpbf16ps(0, 4, 6);
            if (is_wide) {
                _tile_loadd(7, right + SIDE, b_row);
                _tile_dpbf16ps(1, 4, 7);
            }
            if (is_high) {
                _tile_loadd(5, left + SIDE * a.row, a_row);
                _tile_dpbf16ps(2, 5, 6);
                if (is_wide) _tile_dpbf16ps(3, 5, 7);
            }
        }
}

/* What the sums of a tile begin with, of which `n_rows` and `n_columns` are wanted. */
INLINE void begin_sums(int number, enum Start start, const real *bias, Output c, long n_rows, long n_columns, real *room) {
    if (start == FROM_OUTPUT && n_rows >= SIDE && n_columns >= SIDE) {
        load_after_writes(number, c.values, c.row);
        return;
    }
    for (long i = 0; i < SIDE; i++)
        store(room + i * SIDE, start == FROM_ZERO || i >= n_rows ? (vec){0}
                               : start == FROM_BIAS              ? all(bias[i])
                                                                 : load_first(c.values + i * c.row, n_columns));
    load_after_writes(number, room, SIDE);
}

INLINE void end_sums(int number, Output c, long n_rows, long n_columns, real *room) {
    if (n_rows >= SIDE && n_columns >= SIDE) {
        store_tile(number, c.values, c.row);
        return;
    }
    store_tile(number, room, SIDE);
    for (long i = 0; i < SIDE && i < n_rows; i++) store_first(c.values + i * c.row, load(room + i * SIDE), n_columns);
}

/*
 * As sums_of_products(). The words of a row of A are side by side, their number is a multiple of 16, and A and B have room for
 * whole tiles.
 */
static void product_in_tiles(Left a, Right b, long m, Depth depth, enum Start start, const real *bias, Output c) {
    _Alignas(64) real room[4][SIDE * SIDE];
    begin_tiles();
    for (long j = 0; j < c.n_columns; j += 2 * SIDE)
        for (long i = 0; i < m; i += 2 * SIDE) {
            const long n_rows = m - i, n_columns = c.n_columns - j;
            const int is_high = n_rows > SIDE, is_wide = n_columns > SIDE;
            for (int t = 0; t < 4; t++) {
                const long down = t / 2 * SIDE, right = t % 2 * SIDE;
                const Output out = {c.values + (i + down) * c.row + j + right, c.row, 0};
                if (down < n_rows && right < n_columns)
                    begin_sums(t, start, bias + i + down, out, n_rows - down, n_columns - right, room[t]);
            }
            add_products((Left){a.values + i * a.row, a.row, 1, a.part}, (Right){b.values + j, b.row, b.part}, depth, is_high, is_wide);
            for (int t = 0; t < 4; t++) {
                const long down = t / 2 * SIDE, right = t % 2 * SIDE;
                const Output out = {c.values + (i + down) * c.row + j + right, c.row, 0};
                if (down < n_rows && right < n_columns) end_sums(t, out, n_rows - down, n_columns - right, room[t]);
            }
        }
    end_tiles();
}
#else
static void product_in_tiles(Left a, Right b, long m, Depth depth, enum Start start, const real *bias, Output c) {
    (void)a, (void)b, (void)m, (void)depth, (void)start, (void)bias, (void)c; /* nothing of this is called */
}
#endif

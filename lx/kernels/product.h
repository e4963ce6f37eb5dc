// Products of matrices of bf16 numbers, added up in float32: C = A B.
//
// The processor multiplies two neighbours along the inner dimension at a time, so numbers travel in pairs. B is packed
// into panels of PANEL columns, panel[inner / 2][PANEL]; A is taken a few rows at a time, each pair broadcast to all
// columns; and a tile of C, ROWS x PANEL numbers, stays in registers until it is done.
#pragma once
#include "numbers.h"

enum { ROWS = 6, VECTORS = 4, PANEL = VECTORS * LANES };

// Pair k of row r of A is a[r * row_step + k * step]; row r of the tile is tile[r * tile_step]. The product is added to
// what the tile holds if `add` says so.
static inline __attribute__((always_inline)) void multiply(const int rows, const int vectors, long pairs, const pair *a,
                                                           long row_step, long step, const pair *panel, int add,
                                                           float *tile, long tile_step) {
    __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            sums[r][v] = _mm512_setzero_ps();
            if (add) _mm_prefetch(tile + r * tile_step + v * LANES, _MM_HINT_T0);
        }
    const pair *a3 = a + 3 * row_step; // two pointers and small multiples of a step reach all rows
    for (long k = 0; k < pairs; k++, a += step, a3 += step, panel += PANEL) {
        __m512bh columns[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) columns[v] = (__m512bh)_mm512_loadu_si512(panel + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512bh one = (__m512bh)_mm512_set1_epi32((int)(r < 3 ? a[r * row_step] : a3[(r - 3) * row_step]));
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], one, columns[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            float *to = tile + r * tile_step + v * LANES;
            _mm512_storeu_ps(to, add ? _mm512_add_ps(sums[r][v], _mm512_loadu_ps(to)) : sums[r][v]);
        }
}

// A case for each size of a tile, known when it is compiled: only then do all sums stay in registers.
#define OF_SIZE(rows, vectors)                                                                                         \
    case rows * 8 + vectors: multiply(rows, vectors, pairs, a, row_step, step, panel, add, tile, tile_step); break;
#define OF_ROWS(rows) OF_SIZE(rows, 1) OF_SIZE(rows, 2) OF_SIZE(rows, 3) OF_SIZE(rows, 4)
#define OF_ANY_SIZE                                                                                                    \
    switch (rows * 8 + vectors) { OF_ROWS(1) OF_ROWS(2) OF_ROWS(3) OF_ROWS(4) OF_ROWS(5) OF_ROWS(6) }

// A tile of A B, A as it lies in memory: its inner dimension is contiguous.
static __attribute__((noinline)) void multiply_rows(int rows, int vectors, long pairs, const pair *a, long row_step,
                                                    const pair *panel, float *tile, long tile_step) {
    const long step = 1;
    const int add = 0;
    OF_ANY_SIZE
}

// A tile of A B, A packed as B is: its rows are contiguous.
static __attribute__((noinline)) void multiply_packed(int rows, int vectors, long pairs, const pair *a, long step,
                                                      const pair *panel, int add, float *tile, long tile_step) {
    const long row_step = 1;
    OF_ANY_SIZE
}

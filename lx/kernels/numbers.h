// Numbers in vectors: bf16 to float32 and back, pairs of bf16, the exponential, random bits.
#pragma once
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef uint16_t bf16;
typedef uint32_t pair; // two bf16 numbers, the first in the lower half

enum { LANES = 16 }; // of float32

static inline long least(long a, long b) { return a < b ? a : b; }

static inline long rounded_up(long count, long multiple) { return (count + multiple - 1) / multiple * multiple; }

static inline __m512 load(const bf16 *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16));
}

static inline void store(bf16 *to, __m512 numbers) {
    _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh(numbers));
}

// Two rows of 32 numbers as 32 pairs, one of each row; a missing second row is zero.
static inline void interleave(const bf16 *first, const bf16 *second, pair *to) {
    __m512i numbers = _mm512_loadu_si512(first);
    __m512i others = second ? _mm512_loadu_si512(second) : _mm512_setzero_si512();
    __m512i lower = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5,
                                     36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    __m512i upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
    _mm512_storeu_si512(to, _mm512_permutex2var_epi16(numbers, lower, others));
    _mm512_storeu_si512(to + LANES, _mm512_permutex2var_epi16(numbers, upper, others));
}

// Two rows of 16 numbers, in bf16, one after the other.
static inline __m512i shortened(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }

// The same as 16 pairs.
static inline __m512i paired(__m512i rows) {
    __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                     20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, rows);
}

// The first and the second numbers of 16 pairs.
static inline __m512 first_of(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }

static inline __m512 second_of(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

// 16 rows of 16 pairs, rows for columns.
static inline __attribute__((always_inline)) void transpose(__m512i rows[LANES]) {
    __m512i half[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        half[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        half[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(half[i], half[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(half[i], half[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(half[i + 1], half[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(half[i + 1], half[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        half[i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
        half[4 + i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
        half[8 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
        half[12 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(half[i], half[8 + i], 0x88);
        rows[8 + i] = _mm512_shuffle_i32x4(half[i], half[8 + i], 0xdd);
        rows[4 + i] = _mm512_shuffle_i32x4(half[4 + i], half[12 + i], 0x88);
        rows[12 + i] = _mm512_shuffle_i32x4(half[4 + i], half[12 + i], 0xdd);
    }
}

// e to the x, right to 3e-6 of itself: a power of two times 2^rest for what remains between -1/2 and 1/2, by the
// polynomial of degree 4 with the least relative error there. Exactly zero where x is far below zero, and for minus
// infinity, since scaling by that makes zero even of what is not a number.
static inline __m512 exponential(__m512 x) {
    __m512 exponent = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    __m512 whole = _mm512_roundscale_ps(exponent, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(exponent, whole);
    __m512 y = _mm512_set1_ps(9.57010128e-3f);
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(5.59178591e-2f));
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(2.40247443e-1f));
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(6.93121791e-1f));
    y = _mm512_fmadd_ps(y, rest, _mm512_set1_ps(9.99999285e-1f));
    return _mm512_scalef_ps(y, whole);
}

// What a dropout needs: a number is kept where its 16 random bits are at least `threshold`, and then multiplied by
// `scale`. The bits are a function of the keys and of the number's place alone, so that they depend on no number of
// threads and can be had once more in the backward pass.
typedef struct {
    uint32_t keys[2], threshold;
    float scale;
} dropout;

// Which of 32 numbers in a row are kept; `group` counts them by 32. A counter is mixed by two rounds of multiplication
// and shift (the finalizer of MurmurHash3 with the constants of Wellons 2018), with a key before each.
static inline __mmask32 kept(const dropout *drop, uint32_t group) {
    __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i bits = _mm512_add_epi32(lane, _mm512_set1_epi32((int)(group * LANES)));
    bits = _mm512_xor_si512(bits, _mm512_set1_epi32((int)drop->keys[0]));
    bits = _mm512_xor_si512(bits, _mm512_srli_epi32(bits, 16));
    bits = _mm512_mullo_epi32(bits, _mm512_set1_epi32(0x7feb352d));
    bits = _mm512_add_epi32(bits, _mm512_set1_epi32((int)drop->keys[1]));
    bits = _mm512_xor_si512(bits, _mm512_srli_epi32(bits, 15));
    bits = _mm512_mullo_epi32(bits, _mm512_set1_epi32((int)0x846ca68b));
    bits = _mm512_xor_si512(bits, _mm512_srli_epi32(bits, 16));
    return _mm512_cmpge_epu16_mask(bits, _mm512_set1_epi16((short)drop->threshold));
}

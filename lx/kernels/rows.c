// What happens to rows of features between the products: embeddings, residual sums with dropout, and layer
// normalisation. Numbers are bf16, computed with in float32.
#include <math.h>
#include <omp.h>
#include <string.h>

#include "numbers.h"

enum {
    GROUP = 2 * LANES, // numbers that one draw of random bits decides about
    SHARE = 64,        // groups that a thread takes at a time
    BLOCK = 128,       // rows whose part of the gradients of gain and bias is computed by itself
    AHEAD = 16,        // rows of a table that are fetched before they are needed
};

static inline __m512 drop(__m512 numbers, const dropout *how, __mmask16 keep) {
    return _mm512_maskz_mul_ps(keep, numbers, _mm512_set1_ps(how->scale));
}

// out = x + y with dropout, over `size` numbers, a multiple of 32; without x it is the dropout alone.
void lx_add_dropped(const bf16 *x, const bf16 *y, bf16 *out, long size, const dropout *how) {
#pragma omp parallel for schedule(static)
    for (long share = 0; share < size; share += SHARE * GROUP)
        for (long i = share; i < least(size, share + SHARE * GROUP); i += GROUP) {
            __mmask32 keep = how->threshold ? kept(how, (uint32_t)(i / GROUP)) : ~(__mmask32)0;
            for (int v = 0; v < GROUP; v += LANES) {
                __m512 numbers = drop(load(y + i + v), how, (__mmask16)(keep >> v));
                if (x) numbers = _mm512_add_ps(numbers, load(x + i + v));
                store(out + i + v, numbers);
            }
        }
}

// out [M, D] = scale * table[ids], table [V, D] in float32.
void lx_embedding(const int64_t *ids, const float *table, bf16 *out, long m, long d, float scale) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < m; row++)
        for (long i = 0; i < d; i += LANES)
            store(out + row * d + i, _mm512_mul_ps(_mm512_loadu_ps(table + ids[row] * d + i), _mm512_set1_ps(scale)));
}

// The gradient of the table, zero where `ids` have nothing but `padding`. Each thread adds up some columns of all rows,
// so that no two write to one place and the order of each sum is that of the rows.
void lx_embedding_gradient(const int64_t *ids, const bf16 *dout, float *dtable, long m, long vocabulary, long d,
                           long padding, float scale) {
    long threads = least(omp_get_max_threads(), d / LANES);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (long row = 0; row < vocabulary; row++) memset(dtable + row * d, 0, (size_t)d * 4);
#pragma omp for schedule(static)
        for (long thread = 0; thread < threads; thread++) {
            long first = thread * (d / LANES) / threads * LANES, last = (thread + 1) * (d / LANES) / threads * LANES;
            for (long row = 0; row < m; row++) {
                if (row + AHEAD < m)
                    for (long i = first; i < last; i += LANES)
                        _mm_prefetch(dtable + ids[row + AHEAD] * d + i, _MM_HINT_T0);
                if (ids[row] == padding) continue;
                for (long i = first; i < last; i += LANES) {
                    float *to = dtable + ids[row] * d + i;
                    __m512 sum = _mm512_fmadd_ps(load(dout + row * d + i), _mm512_set1_ps(scale), _mm512_loadu_ps(to));
                    _mm512_storeu_ps(to, sum);
                }
            }
        }
    }
}

// (x - mean) / sqrt(variance + eps) * gain + bias over each row of D features, a multiple of 16. `moments` [M, 2] gets
// the mean and one over the standard deviation, unless it is missing.
void lx_layer_norm(const bf16 *x, const float *gain, const float *bias, bf16 *y, float *moments, long m, long d,
                   float eps) {
#pragma omp parallel for schedule(static)
    for (long row = 0; row < m; row++) {
        const bf16 *from = x + row * d;
        __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
        for (long i = 0; i < d; i += LANES) sum = _mm512_add_ps(sum, load(from + i));
        float mean = _mm512_reduce_add_ps(sum) / (float)d;
        for (long i = 0; i < d; i += LANES) {
            __m512 centred = _mm512_sub_ps(load(from + i), _mm512_set1_ps(mean));
            squares = _mm512_fmadd_ps(centred, centred, squares);
        }
        float scale = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)d + eps);
        for (long i = 0; i < d; i += LANES) {
            __m512 unit = _mm512_mul_ps(_mm512_sub_ps(load(from + i), _mm512_set1_ps(mean)), _mm512_set1_ps(scale));
            store(y + row * d + i, _mm512_fmadd_ps(unit, _mm512_loadu_ps(gain + i), _mm512_loadu_ps(bias + i)));
        }
        if (moments) moments[2 * row] = mean, moments[2 * row + 1] = scale;
    }
}

// The gradients of x, gain and bias. With g = dy * gain and u the normalised row,
// dx = (g - mean(g) - u mean(g u)) / standard deviation.
void lx_layer_norm_gradient(const bf16 *dy, const bf16 *x, const float *gain, const float *moments, bf16 *dx,
                            float *dgain, float *dbias, long m, long d) {
    long blocks = (m + BLOCK - 1) / BLOCK;
    float *parts = aligned_alloc(64, (size_t)(blocks * 2 * d) * 4);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (long block = 0; block < blocks; block++) {
            float *gains = parts + block * 2 * d, *biases = gains + d;
            memset(gains, 0, (size_t)(2 * d) * 4);
            for (long row = block * BLOCK; row < least(m, (block + 1) * BLOCK); row++) {
                __m512 mean = _mm512_set1_ps(moments[2 * row]), scale = _mm512_set1_ps(moments[2 * row + 1]);
                __m512 sum = _mm512_setzero_ps(), product = _mm512_setzero_ps();
                for (long i = 0; i < d; i += LANES) {
                    __m512 unit = _mm512_mul_ps(_mm512_sub_ps(load(x + row * d + i), mean), scale);
                    __m512 gradient = load(dy + row * d + i);
                    _mm512_storeu_ps(biases + i, _mm512_add_ps(_mm512_loadu_ps(biases + i), gradient));
                    _mm512_storeu_ps(gains + i, _mm512_fmadd_ps(gradient, unit, _mm512_loadu_ps(gains + i)));
                    gradient = _mm512_mul_ps(gradient, _mm512_loadu_ps(gain + i));
                    sum = _mm512_add_ps(sum, gradient);
                    product = _mm512_fmadd_ps(gradient, unit, product);
                }
                __m512 shift = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)d);
                __m512 slope = _mm512_set1_ps(_mm512_reduce_add_ps(product) / (float)d);
                for (long i = 0; i < d; i += LANES) {
                    __m512 unit = _mm512_mul_ps(_mm512_sub_ps(load(x + row * d + i), mean), scale);
                    __m512 gradient = _mm512_mul_ps(load(dy + row * d + i), _mm512_loadu_ps(gain + i));
                    gradient = _mm512_sub_ps(_mm512_fnmadd_ps(unit, slope, gradient), shift);
                    store(dx + row * d + i, _mm512_mul_ps(gradient, scale));
                }
            }
        }
#pragma omp for schedule(static)
        for (long i = 0; i < d; i += LANES) {
            __m512 gains = _mm512_setzero_ps(), biases = _mm512_setzero_ps();
            for (long block = 0; block < blocks; block++) {
                gains = _mm512_add_ps(gains, _mm512_loadu_ps(parts + block * 2 * d + i));
                biases = _mm512_add_ps(biases, _mm512_loadu_ps(parts + block * 2 * d + d + i));
            }
            _mm512_storeu_ps(dgain + i, gains);
            _mm512_storeu_ps(dbias + i, biases);
        }
    }
    free(parts);
}

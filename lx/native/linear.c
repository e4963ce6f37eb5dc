// Linear maps y = x Wᵀ + b and the feed-forward network: W [N, K] in float32, x [M, K] and y [M, N] in bf16.
//
// Axis legend: M rows of all texts, K inputs, N outputs, both multiples of 32. Sums run in an order that no number of
// threads changes.
#include <omp.h>
#include <string.h>

#include "product.h"

enum {
    STRETCH = 96, // rows that a thread takes at a time: they stay in its cache while panels pass by
    CHUNK = 512,  // rows whose part of a weight gradient is computed at a time: packed, they stay in the cache too
    SIZE = CHUNK / 2 * PANEL + 272, // of a packed panel; without the gap panels would compete for places in the cache
};

// What happens to a tile of a product before it is stored.
typedef enum { ALONE, GELU, TIMES } finish;

// Φ(z), and z φ(z) with the normal density φ. Abramowitz & Stegun 1964, equation 7.1.26: to seven digits.
static inline __m512 normal_distribution(__m512 z, __m512 *density) {
    __m512 magnitude = _mm512_abs_ps(z);
    __m512 t = _mm512_fmadd_ps(magnitude, _mm512_set1_ps(0.3275911f * 0.70710678f), _mm512_set1_ps(1.0f));
    t = _mm512_div_ps(_mm512_set1_ps(1.0f), t);
    __m512 y = _mm512_set1_ps(0.5f * 1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.5f * -1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.5f * 1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.5f * -0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.5f * 0.254829592f));
    __m512 bell = exponential(_mm512_mul_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(-0.5f)));
    *density = _mm512_mul_ps(_mm512_mul_ps(z, bell), _mm512_set1_ps(0.39894228f));
    __m512 tail = _mm512_mul_ps(_mm512_mul_ps(y, t), bell); // Φ(-|z|)
    __mmask16 positive = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_sub_ps(tail, positive, _mm512_set1_ps(1.0f), tail);
}

// Pairs along the inputs, panels of outputs: B = Wᵀ, of the forward product.
static void pack_transposed(const float *weight, long outputs, long inputs, pair *packed) {
#pragma omp parallel for collapse(2)
    for (long n = 0; n < outputs; n += LANES)
        for (long k = 0; k < inputs; k += 2 * LANES) {
            __m512i rows[LANES];
            for (int r = 0; r < LANES; r++) {
                const float *from = weight + (n + r) * inputs + k;
                rows[r] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + LANES), _mm512_loadu_ps(from));
            }
            transpose(rows);
            pair *to = packed + (n - n % PANEL) * (inputs / 2) + n % PANEL + k / 2 * PANEL;
            for (int r = 0; r < LANES; r++) _mm512_storeu_si512(to + r * PANEL, rows[r]);
        }
}

// Pairs along the outputs, panels of inputs: B = W, of the product for the gradient of x.
static void pack(const float *weight, long outputs, long inputs, pair *packed) {
#pragma omp parallel for
    for (long k = 0; k < inputs; k += 2 * LANES)
        for (long n = 0; n < outputs; n += 2) {
            bf16 rows[2][2 * LANES];
            for (int r = 0; r < 2; r++)
                for (int v = 0; v < 2; v++)
                    store(rows[r] + v * LANES, _mm512_loadu_ps(weight + (n + r) * inputs + k + v * LANES));
            interleave(rows[0], rows[1], packed + (k - k % PANEL) * (outputs / 2) + k % PANEL + n / 2 * PANEL);
        }
}

// c [m, n] = a [m, k] B, with a bias if there is one.
//   GELU: c = z Φ(z) of the sum z; `slope` gets the derivative Φ(z) + z φ(z), unless it is missing.
//   TIMES: c is multiplied by `slope`.
static void product(const bf16 *a, const pair *packed, const float *bias, bf16 *c, bf16 *slope, finish how, long m,
                    long n, long k) {
    float tile[ROWS * PANEL];
    for (long column = 0; column < n; column += PANEL) {
        int vectors = (int)least(PANEL, n - column) / LANES;
        const pair *panel = packed + column * (k / 2);
        for (long row = 0; row < m; row += ROWS) {
            int rows = (int)least(ROWS, m - row);
            multiply_rows(rows, vectors, k / 2, (const pair *)(a + row * k), k / 2, panel, tile, PANEL);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++) {
                    long to = (row + r) * n + column + v * LANES;
                    __m512 sum = _mm512_loadu_ps(tile + r * PANEL + v * LANES), density;
                    if (bias) sum = _mm512_add_ps(sum, _mm512_loadu_ps(bias + column + v * LANES));
                    if (how == GELU) {
                        __m512 distribution = normal_distribution(sum, &density);
                        if (slope) store(slope + to, _mm512_add_ps(distribution, density));
                        sum = _mm512_mul_ps(sum, distribution);
                    }
                    if (how == TIMES) sum = _mm512_mul_ps(sum, load(slope + to));
                    store(c + to, sum);
                }
        }
    }
}

static void plain_product(const bf16 *a, const pair *packed, const float *bias, bf16 *c, long m, long n, long k) {
#pragma omp parallel for schedule(static)
    for (long start = 0; start < m; start += STRETCH)
        product(a + start * k, packed, bias, c + start * n, NULL, ALONE, least(STRETCH, m - start), n, k);
}

// Some columns of x as pairs of neighbouring rows, in panels that lie SIZE pairs apart; adds the rows up if asked to.
static void pack_rows(const bf16 *x, long rows, long step, long width, pair *packed, float *sum) {
    for (long row = 0; row < rows; row += 2)
        for (long column = 0; column < width; column += 2 * LANES) {
            const bf16 *first = x + row * step + column, *second = row + 1 < rows ? first + step : NULL;
            interleave(first, second, packed + column / PANEL * SIZE + row / 2 * PANEL + column % PANEL);
            for (int v = 0; sum && v < 2; v++) {
                __m512 both = load(first + v * LANES);
                if (second) both = _mm512_add_ps(both, load(second + v * LANES));
                float *to = sum + column + v * LANES;
                _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), both));
            }
        }
}

// dw = dyᵀ x for some outputs and inputs, [n, k] of a matrix with `inputs` columns; db, the sum of dy's rows, unless it is
// missing. dy and x have `outputs` and `inputs` columns.
static void part_of_weight_gradient(const bf16 *dy, const bf16 *x, float *dw, float *db, long m, long n, long k,
                                    long outputs, long inputs) {
    long output_panels = rounded_up(n, PANEL) / PANEL, input_panels = rounded_up(k, PANEL) / PANEL;
    pair *packed = aligned_alloc(64, (size_t)((output_panels + input_panels) * SIZE) * 4);
    float tile[ROWS * PANEL];
    if (db) memset(db, 0, (size_t)n * 4);
    for (long start = 0; start < m; start += CHUNK) {
        long rows = least(CHUNK, m - start);
        pack_rows(dy + start * outputs, rows, outputs, n, packed, db);
        pack_rows(x + start * inputs, rows, inputs, k, packed + output_panels * SIZE, NULL);
        for (long i = 0; i < n; i += PANEL)
            for (long j = 0; j < k; j += PANEL) {
                const pair *left = packed + i / PANEL * SIZE, *right = packed + (output_panels + j / PANEL) * SIZE;
                int width = (int)least(PANEL, n - i), vectors = (int)least(PANEL, k - j) / LANES;
                for (int first = 0; first < width; first += ROWS) {
                    int count = (int)least(ROWS, width - first);
                    multiply_packed(count, vectors, (rows + 1) / 2, left + first, PANEL, right, tile, PANEL);
                    for (int r = 0; r < count; r++)
                        for (int v = 0; v < vectors; v++) {
                            float *to = dw + (i + first + r) * inputs + j + v * LANES;
                            __m512 sum = _mm512_loadu_ps(tile + r * PANEL + v * LANES);
                            if (start) sum = _mm512_add_ps(sum, _mm512_loadu_ps(to));
                            _mm512_storeu_ps(to, sum);
                        }
                }
            }
    }
    free(packed);
}

// dw [n, k] = dyᵀ x and db [n], unless it is missing. Each thread takes some panels of the wider of the two matrices and
// packs the whole of the other for itself: that costs less than to fetch it from the cache of another core.
static void weight_gradient(const bf16 *dy, const bf16 *x, float *dw, float *db, long m, long n, long k) {
    long width = n > k ? n : k, panels = rounded_up(width, PANEL) / PANEL;
    long threads = least(omp_get_max_threads(), panels);
#pragma omp parallel for schedule(static)
    for (long thread = 0; thread < threads; thread++) {
        long first = thread * panels / threads * PANEL, last = least((thread + 1) * panels / threads * PANEL, width);
        if (n > k)
            part_of_weight_gradient(dy + first, x, dw + first * k, db ? db + first : NULL, m, last - first, k, n, k);
        else
            part_of_weight_gradient(dy, x + first, dw + first, thread ? NULL : db, m, n, last - first, n, k);
    }
}

static pair *packed_weight(long n, long k) { return aligned_alloc(64, (size_t)(rounded_up(n, PANEL) * k) * 2); }

// y = x Wᵀ + b.
void lx_linear(const bf16 *x, const float *weight, const float *bias, bf16 *y, long m, long n, long k) {
    pair *packed = packed_weight(n, k);
    pack_transposed(weight, n, k, packed);
    plain_product(x, packed, bias, y, m, n, k);
    free(packed);
}

// The gradients of x, unless none is asked for, of W and of b.
void lx_linear_gradient(const bf16 *dy, const bf16 *x, const float *weight, bf16 *dx, float *dw, float *db, long m,
                        long n, long k) {
    weight_gradient(dy, x, dw, db, m, n, k);
    if (!dx) return;
    pair *packed = packed_weight(k, n);
    pack(weight, n, k, packed);
    plain_product(dy, packed, NULL, dx, m, k, n);
    free(packed);
}

// y = gelu(x W1ᵀ + b1) W2ᵀ + b2, with x and y [M, K] and N numbers between the two maps. What the backward pass needs is
// kept: the numbers behind the activation, and its slopes, unless they are not asked for. Rows go through both maps
// before the next ones do, so that what is between the maps does not leave the cache.
void lx_feedforward(const bf16 *x, const float *weight1, const float *bias1, const float *weight2, const float *bias2,
                    bf16 *slope, bf16 *active, bf16 *y, long m, long n, long k) {
    pair *packed1 = packed_weight(n, k), *packed2 = packed_weight(k, n);
    pack_transposed(weight1, n, k, packed1);
    pack_transposed(weight2, k, n, packed2);
#pragma omp parallel
    {
        bf16 *own = active ? NULL : aligned_alloc(64, (size_t)(STRETCH * n) * 2);
#pragma omp for schedule(static)
        for (long start = 0; start < m; start += STRETCH) {
            long rows = least(STRETCH, m - start);
            bf16 *between = active ? active + start * n : own;
            product(x + start * k, packed1, bias1, between, slope ? slope + start * n : NULL, GELU, rows, n, k);
            product(between, packed2, bias2, y + start * k, NULL, ALONE, rows, k, n);
        }
        free(own);
    }
    free(packed1), free(packed2);
}

void lx_feedforward_gradient(const bf16 *dy, const bf16 *x, const bf16 *slope, const bf16 *active, const float *weight1,
                             const float *weight2, bf16 *dhidden, bf16 *dx, float *dw1, float *db1, float *dw2,
                             float *db2, long m, long n, long k) {
    weight_gradient(dy, active, dw2, db2, m, k, n);
    pair *packed1 = packed_weight(k, n), *packed2 = packed_weight(n, k);
    pack(weight1, n, k, packed1);
    pack(weight2, k, n, packed2);
#pragma omp parallel for schedule(static)
    for (long start = 0; start < m; start += STRETCH) {
        long rows = least(STRETCH, m - start);
        bf16 *between = dhidden + start * n;
        product(dy + start * k, packed2, NULL, between, (bf16 *)slope + start * n, TIMES, rows, n, k);
        if (dx) product(between, packed1, NULL, dx + start * k, NULL, ALONE, rows, k, n);
    }
    free(packed1), free(packed2);
    weight_gradient(dhidden, x, dw1, db1, m, n, k);
}

// Linear maps y = x Wᵀ + b and the feed-forward network: W [N, K] in float32, x [M, K] and y [M, N] in bf16.
//
// Axis legend: M rows of all texts, K inputs, N outputs, both multiples of 32. Sums run in an order that no number of
// threads changes.
#include <math.h>
#include <omp.h>
#include <string.h>

#include "product.h"

enum {
    STRETCH = 96, // rows that a thread takes at a time: they stay in its cache while panels pass by
    CHUNK = 512,  // rows whose part of a weight gradient is computed at a time: packed, they stay in the cache too
    SIZE = CHUNK / 2 * PANEL + 272, // of a packed panel; without the gap panels would compete for places in the cache
};

// A matrix whose neighbouring rows lie in pairs, as products over the rows need it: panel[height][PANEL] for each PANEL
// columns. The rows of the feed-forward network's inner side are written so where they are computed.
typedef struct {
    pair *panels;
    long height; // pairs of rows
} row_pairs;

static inline pair *pairs_at(row_pairs matrix, long row, long column) {
    return matrix.panels + column / PANEL * matrix.height * PANEL + row / 2 * PANEL + column % PANEL;
}

// What happens to a tile of a product before it is stored.
typedef enum { ALONE, GELU, TIMES } finish;

// The Gaussian error linear unit (Hendrycks & Gimpel 2016) is z Φ(z) = max(z, 0) - u(|z|), with u(a) = a Φ(-a); its
// slope is u'(|z|) for negative z and 1 - u'(|z|) otherwise. u and u' are cubic between a = 0, 1/5.5, ..., 32/5.5, with
// the right values and derivatives there (Hermite), and zero beyond: right to 8e-6.
enum { PIECES = 2 * LANES };
static const double PIECES_PER_UNIT = 5.5;
static float tail[4][PIECES], tail_slope[4][PIECES]; // coefficients of 1, t, t², t³, with t from 0 to 1 in each piece

static void set_piece(float coefficients[4][PIECES], int piece, double value, double slope, double next,
                      double next_slope) {
    slope /= PIECES_PER_UNIT, next_slope /= PIECES_PER_UNIT;
    coefficients[0][piece] = (float)value;
    coefficients[1][piece] = (float)slope;
    coefficients[2][piece] = (float)(3 * (next - value) - 2 * slope - next_slope);
    coefficients[3][piece] = (float)(2 * (value - next) + slope + next_slope);
}

static __attribute__((constructor)) void set_pieces(void) {
    double u[PIECES + 1], du[PIECES + 1], ddu[PIECES + 1];
    for (int i = 0; i < PIECES; i++) {
        double a = i / PIECES_PER_UNIT, density = exp(-a * a / 2) / sqrt(2 * M_PI), below = erfc(a / sqrt(2)) / 2;
        u[i] = a * below, du[i] = below - a * density, ddu[i] = (a * a - 2) * density;
    }
    u[PIECES] = du[PIECES] = ddu[PIECES] = 0;
    for (int i = 0; i < PIECES; i++) {
        set_piece(tail, i, u[i], du[i], u[i + 1], du[i + 1]);
        set_piece(tail_slope, i, du[i], ddu[i], du[i + 1], ddu[i + 1]);
    }
}

static inline __m512 pick(const float table[PIECES], __m512i piece) {
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), piece, _mm512_loadu_ps(table + LANES));
}

static inline __m512 cubic(const float coefficients[4][PIECES], __m512i piece, __m512 t) {
    __m512 sum = pick(coefficients[3], piece);
    for (int power = 2; power >= 0; power--) sum = _mm512_fmadd_ps(sum, t, pick(coefficients[power], piece));
    return sum;
}

static inline __m512 gelu(__m512 z, int with_slope, __m512 *slope) {
    __m512 place = _mm512_mul_ps(_mm512_abs_ps(z), _mm512_set1_ps((float)PIECES_PER_UNIT));
    place = _mm512_min_ps(_mm512_set1_ps(PIECES - 1e-5f), place); // in this order what is not a number stays so
    __m512i piece = _mm512_cvttps_epi32(place);
    __m512 t = _mm512_reduce_ps(place, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    if (with_slope) {
        __mmask16 positive = _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GT_OQ);
        *slope = cubic(tail_slope, piece, t);
        *slope = _mm512_mask_sub_ps(*slope, positive, _mm512_set1_ps(1.0f), *slope);
    }
    return _mm512_sub_ps(_mm512_max_ps(z, _mm512_setzero_ps()), cubic(tail, piece, t));
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

// c [m, n] = a [m, k] B, with a bias if there is one. Rows of `pairs` and `slopes` are counted from `start` on.
//
// - GELU: c = z Φ(z) of the sum z; unless they are missing, `pairs` gets c too, and `slopes` the slope at z.
// - TIMES: c is multiplied by `slopes`, and `pairs` gets it too.
static inline __attribute__((always_inline)) void product(const finish how, const bf16 *a, const pair *packed,
                                                          const float *bias, bf16 *c, row_pairs pairs, row_pairs slopes,
                                                          long start, long m, long n, long k) {
    float tile[ROWS * PANEL] __attribute__((aligned(64)));
    for (long column = 0; column < n; column += PANEL) {
        int vectors = (int)least(PANEL, n - column) / LANES;
        const pair *panel = packed + column * (k / 2);
        pair *pairs_here = pairs_at(pairs, start, column), *slopes_here = pairs_at(slopes, start, column);
        for (long row = 0; row < m; row += ROWS) {
            int rows = (int)least(ROWS, m - row);
            multiply_rows(rows, vectors, k / 2, (const pair *)(a + row * k), k / 2, panel, tile, PANEL);
            for (int r = 0; r < rows; r += 2)
                for (int v = 0; v < vectors; v++) {
                    long at = column + v * LANES, pairs_before = (row + r) / 2 * PANEL + v * LANES;
                    int both = r + 1 < rows;
                    __m512 first = _mm512_load_ps(tile + r * PANEL + v * LANES), second = _mm512_setzero_ps();
                    if (both) second = _mm512_load_ps(tile + (r + 1) * PANEL + v * LANES);
                    if (bias) {
                        first = _mm512_add_ps(first, _mm512_loadu_ps(bias + at));
                        second = _mm512_add_ps(second, _mm512_loadu_ps(bias + at));
                    }
                    if (how == GELU) {
                        __m512 first_slope, second_slope;
                        int with_slope = slopes.panels != NULL;
                        first = gelu(first, with_slope, &first_slope), second = gelu(second, with_slope, &second_slope);
                        if (with_slope)
                            _mm512_stream_si512((void *)(slopes_here + pairs_before),
                                                paired(shortened(first_slope, second_slope)));
                    }
                    if (how == TIMES) {
                        __m512i slope = _mm512_load_si512(slopes_here + pairs_before);
                        first = _mm512_mul_ps(first, first_of(slope)), second = _mm512_mul_ps(second, second_of(slope));
                    }
                    __m512i sums = shortened(first, second);
                    bf16 *to = c + (row + r) * n + at;
                    _mm256_storeu_si256((void *)to, _mm512_castsi512_si256(sums));
                    if (both) _mm256_storeu_si256((void *)(to + n), _mm512_extracti64x4_epi64(sums, 1));
                    if (how != ALONE && pairs.panels)
                        _mm512_stream_si512((void *)(pairs_here + pairs_before), paired(sums));
                }
        }
    }
    // Stores that bypassed the cache must be visible before another thread sees that this one is done.
    if (how != ALONE) _mm_sfence();
}

static const row_pairs NO_PAIRS = {NULL, 0};

static void plain_product(const bf16 *a, const pair *packed, const float *bias, bf16 *c, long m, long n, long k) {
#pragma omp parallel for schedule(static)
    for (long start = 0; start < m; start += STRETCH)
        product(ALONE, a + start * k, packed, bias, c + start * n, NO_PAIRS, NO_PAIRS, 0, least(STRETCH, m - start), n,
                k);
}

// A factor of a weight gradient: its rows, or pairs of rows already.
typedef struct {
    const bf16 *rows;
    row_pairs pairs;
    long columns;
} factor;

// Up to PANEL columns of some rows as pairs of rows: packed into `space`, or just where they are.
static const pair *panel_of(const factor *matrix, long start, long rows, long column, pair *space) {
    if (!matrix->rows) return pairs_at(matrix->pairs, start, column);
    long width = least(PANEL, matrix->columns - column);
    for (long row = 0; row < rows; row += 2)
        for (long c = 0; c < width; c += 2 * LANES) {
            const bf16 *from = matrix->rows + (start + row) * matrix->columns + column + c;
            interleave(from, row + 1 < rows ? from + matrix->columns : NULL, space + row / 2 * PANEL + c);
        }
    return space;
}

// Add rows that lie in pairs to a sum.
static void add_rows(const pair *panel, long rows, long width, float *to) {
    for (long c = 0; c < width; c += LANES) {
        __m512 first = _mm512_loadu_ps(to + c), second = _mm512_setzero_ps();
        for (long row = 0; row < rows; row += 2) {
            __m512i both = _mm512_loadu_si512(panel + row / 2 * PANEL + c);
            first = _mm512_add_ps(first, first_of(both)), second = _mm512_add_ps(second, second_of(both));
        }
        _mm512_storeu_ps(to + c, _mm512_add_ps(first, second));
    }
}

// dw = dyᵀ x for the panels [first, last) of the wider of the two, and all of the other; db, the sum of dy's rows,
// unless it is missing.
static void part_of_weight_gradient(const factor *dy, const factor *x, float *dw, float *db, long m, long first,
                                    long last) {
    int dy_is_wide = dy->columns > x->columns;
    const factor *wide = dy_is_wide ? dy : x, *narrow = dy_is_wide ? x : dy;
    long narrow_panels = rounded_up(narrow->columns, PANEL) / PANEL;
    pair *space = aligned_alloc(64, (size_t)((narrow_panels + 1) * SIZE) * 4);
    const pair *inner[narrow_panels];
    for (long start = 0; start < m; start += CHUNK) {
        long rows = least(CHUNK, m - start);
        for (long j = 0; j < narrow_panels; j++)
            inner[j] = panel_of(narrow, start, rows, j * PANEL, space + (j + 1) * SIZE);
        for (long i = first; i < last; i++) {
            const pair *outer = panel_of(wide, start, rows, i * PANEL, space);
            for (long j = 0; j < narrow_panels; j++) {
                const pair *left = dy_is_wide ? outer : inner[j], *right = dy_is_wide ? inner[j] : outer;
                long output = (dy_is_wide ? i : j) * PANEL, input = (dy_is_wide ? j : i) * PANEL;
                int width = (int)least(PANEL, dy->columns - output);
                int vectors = (int)least(PANEL, x->columns - input) / LANES;
                long tiles = (width + ROWS - 1) / ROWS;
                for (long t = 0; t < tiles; t++) {
                    int count = (int)least(ROWS, width - t * ROWS);
                    float *to = dw + (output + t * ROWS) * x->columns + input;
                    multiply_packed(count, vectors, (rows + 1) / 2, left + t * ROWS, PANEL, right, start > 0, to,
                                    x->columns);
                }
                if (db && input == 0) add_rows(left, rows, width, db + output);
            }
        }
    }
    free(space);
}

// dw = dyᵀ x and db, unless it is missing. Each thread takes some panels of the wider of the two matrices and packs the
// whole of the other for itself: that costs less than to fetch it from the cache of another core.
static void weight_gradient(factor dy, factor x, float *dw, float *db, long m) {
    long panels = rounded_up(dy.columns > x.columns ? dy.columns : x.columns, PANEL) / PANEL;
    long threads = least(omp_get_max_threads(), panels);
    if (db) memset(db, 0, (size_t)dy.columns * 4);
#pragma omp parallel for schedule(static)
    for (long thread = 0; thread < threads; thread++)
        part_of_weight_gradient(&dy, &x, dw, db, m, thread * panels / threads, (thread + 1) * panels / threads);
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
    weight_gradient((factor){dy, NO_PAIRS, n}, (factor){x, NO_PAIRS, k}, dw, db, m);
    if (!dx) return;
    pair *packed = packed_weight(k, n);
    pack(weight, n, k, packed);
    plain_product(dy, packed, NULL, dx, m, k, n);
    free(packed);
}

// y = gelu(x W1ᵀ + b1) W2ᵀ + b2, with x and y [M, K] and N numbers between the two maps. What the backward pass needs
// is kept as pairs of rows: the numbers behind the activation, and its slopes, unless they are not asked for. Rows go
// through both maps before the next ones do, so that what is between the maps does not leave the cache.
void lx_feedforward(const bf16 *x, const float *weight1, const float *bias1, const float *weight2, const float *bias2,
                    pair *slopes, pair *active, bf16 *y, long m, long n, long k) {
    pair *packed1 = packed_weight(n, k), *packed2 = packed_weight(k, n);
    pack_transposed(weight1, n, k, packed1);
    pack_transposed(weight2, k, n, packed2);
    long height = (m + 1) / 2;
#pragma omp parallel
    {
        bf16 *between = aligned_alloc(64, (size_t)(STRETCH * n) * 2);
#pragma omp for schedule(static)
        for (long start = 0; start < m; start += STRETCH) {
            long rows = least(STRETCH, m - start);
            product(GELU, x + start * k, packed1, bias1, between, (row_pairs){active, height},
                    (row_pairs){slopes, height}, start, rows, n, k);
            product(ALONE, between, packed2, bias2, y + start * k, NO_PAIRS, NO_PAIRS, 0, rows, k, n);
        }
        free(between);
    }
    free(packed1), free(packed2);
}

void lx_feedforward_gradient(const bf16 *dy, const bf16 *x, const pair *slopes, const pair *active,
                             const float *weight1, const float *weight2, pair *dhidden, bf16 *dx, float *dw1,
                             float *db1, float *dw2, float *db2, long m, long n, long k) {
    long height = (m + 1) / 2;
    row_pairs slope = {(pair *)slopes, height}, gradient = {dhidden, height};
    weight_gradient((factor){dy, NO_PAIRS, k}, (factor){NULL, {(pair *)active, height}, n}, dw2, db2, m);
    pair *packed1 = packed_weight(k, n), *packed2 = packed_weight(n, k);
    pack(weight1, n, k, packed1);
    pack(weight2, k, n, packed2);
#pragma omp parallel
    {
        bf16 *between = aligned_alloc(64, (size_t)(STRETCH * n) * 2);
#pragma omp for schedule(static)
        for (long start = 0; start < m; start += STRETCH) {
            long rows = least(STRETCH, m - start);
            product(TIMES, dy + start * k, packed2, NULL, between, gradient, slope, start, rows, n, k);
            if (dx) product(ALONE, between, packed1, NULL, dx + start * k, NO_PAIRS, NO_PAIRS, 0, rows, k, n);
        }
        free(between);
    }
    free(packed1), free(packed2);
    weight_gradient((factor){NULL, gradient, n}, (factor){x, NO_PAIRS, k}, dw1, db1, m);
}

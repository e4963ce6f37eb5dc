// Scaled dot-product attention (Vaswani et al. 2017, equation 1), one head of one text at a time.
//
// Axis legend: B texts, H heads, T tokens, K head width, a multiple of 32. i counts queries, j keys. Scores are computed
// for ROWS queries at a time and never leave the cache; the backward pass computes them once more (Dao et al. 2022).
#include <math.h>
#include <string.h>

#include "product.h"

typedef struct {
    long texts, heads, tokens, width;
    long text_step, head_step, token_step, part_step; // between numbers of q, k and v: element [part, b, h, t, 0]
    long bias_text_step, bias_head_step, bias_query_step; // of bias [B, H, T, T]; zero where it is the same for all
} shape;

// One head of q, k and v, or of their gradients.
typedef struct {
    bf16 *query, *key, *value;
} head;

static inline head head_at(const bf16 *qkv, const shape *of, long text, long number) {
    bf16 *query = (bf16 *)qkv + text * of->text_step + number * of->head_step;
    return (head){query, query + of->part_step, query + 2 * of->part_step};
}

// Pairs along the features, panels of tokens: what the product with all tokens' vectors needs. Beyond the last token
// there are zeros.
static void pack_features(const bf16 *x, long tokens, long padded, long step, long width, pair *packed) {
    for (long token = 0; token < padded; token += LANES)
        for (long k = 0; k < width; k += 2 * LANES) {
            __m512i rows[LANES];
            for (int r = 0; r < LANES; r++)
                rows[r] = token + r < tokens ? _mm512_loadu_si512(x + (token + r) * step + k) : _mm512_setzero_si512();
            transpose(rows);
            pair *to = packed + (token - token % PANEL) * (width / 2) + token % PANEL + k / 2 * PANEL;
            for (int r = 0; r < LANES; r++) _mm512_storeu_si512(to + r * PANEL, rows[r]);
        }
}

// Pairs along the tokens, panels of features: what a sum over all tokens needs. Likewise.
static void pack_tokens(const bf16 *x, long tokens, long padded, long step, long width, pair *packed) {
    for (long k = 0; k < width; k += 2 * LANES) {
        pair *panel = packed + (k - k % PANEL) * (padded / 2) + k % PANEL;
        for (long token = 0; token < padded; token += 2) {
            pair *to = panel + token / 2 * PANEL;
            if (token < tokens)
                interleave(x + token * step + k, token + 1 < tokens ? x + (token + 1) * step + k : NULL, to);
            else
                for (int v = 0; v < 2; v++) _mm512_storeu_si512(to + v * LANES, _mm512_setzero_si512());
        }
    }
}

// scores[rows][padded] = the products of some rows of A with all tokens' vectors, which `pack_features` packed.
static void multiply_tokens(int rows, const bf16 *a, long step, const pair *packed, long width, long padded,
                            float *scores) {
    for (long token = 0; token < padded; token += PANEL)
        multiply_rows(rows, (int)least(PANEL, padded - token) / LANES, width / 2, (const pair *)a, step / 2,
                      packed + token * (width / 2), scores + token, padded);
}

// Rows of numbers in bf16 times what `pack_tokens` packed, each row then multiplied by a factor.
static void sum_tokens(int rows, const bf16 *a, long tokens, long padded, const pair *packed, long width,
                       const float *factors, bf16 *to, long step) {
    float tile[ROWS * PANEL];
    for (long k = 0; k < width; k += PANEL) {
        int vectors = (int)least(PANEL, width - k) / LANES;
        multiply_rows(rows, vectors, (tokens + 1) / 2, (const pair *)a, padded / 2, packed + k * (padded / 2), tile,
                      PANEL);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) {
                __m512 sum = _mm512_loadu_ps(tile + r * PANEL + v * LANES);
                store(to + r * step + k + v * LANES, _mm512_mul_ps(sum, _mm512_set1_ps(factors[r])));
            }
    }
}

// The same with the transpose of A, whose rows lie in pairs: to[j] = sum over i of A[i][j] x[i], times a factor.
static void sum_queries(const pair *a, long tokens, long padded, const pair *packed, long width, float factor, bf16 *to,
                        long step) {
    float tile[ROWS * PANEL];
    for (long token = 0; token < tokens; token += ROWS) {
        int rows = (int)least(ROWS, tokens - token);
        for (long k = 0; k < width; k += PANEL) {
            int vectors = (int)least(PANEL, width - k) / LANES;
            multiply_packed(rows, vectors, (tokens + 1) / 2, a + token, padded, packed + k * (padded / 2), tile, PANEL);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++) {
                    __m512 sum = _mm512_loadu_ps(tile + r * PANEL + v * LANES);
                    store(to + (token + r) * step + k + v * LANES, _mm512_mul_ps(sum, _mm512_set1_ps(factor)));
                }
        }
    }
}

// In place: score * scale + bias; minus infinity beyond the last key.
static inline __m512 biased(const float *score, const bf16 *bias, float scale, long left) {
    __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(score), _mm512_set1_ps(scale));
    if (left >= LANES) return _mm512_add_ps(sum, load(bias));
    __mmask16 there = (__mmask16)((1u << left) - 1);
    __m256i rest = _mm256_maskz_loadu_epi16(there, bias);
    __m512 numbers = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rest), 16));
    return _mm512_mask_add_ps(_mm512_set1_ps(-INFINITY), there, sum, numbers);
}

// out [B, T, H, K] = softmax(q kᵀ / sqrt(K) + bias) v with dropout on the weights. `log_sums` [B, H, T] gets the
// logarithm of each row's sum of exponentials, unless it is missing.
void lx_attention(const bf16 *qkv, const bf16 *bias, bf16 *out, float *log_sums, const shape *of, const dropout *how) {
    long tokens = of->tokens, width = of->width, padded = rounded_up(tokens, 2 * LANES), step = of->heads * width;
    float scale = 1.0f / sqrtf((float)width);
#pragma omp parallel
    {
        pair *keys = aligned_alloc(64, (size_t)(rounded_up(padded, PANEL) * width) * 2);
        pair *values = aligned_alloc(64, (size_t)(padded * rounded_up(width, PANEL)) * 2);
        float *scores = aligned_alloc(64, (size_t)(ROWS * padded) * 4);
        bf16 *weights = aligned_alloc(64, (size_t)(ROWS * padded) * 2);
#pragma omp for schedule(static)
        for (long number = 0; number < of->texts * of->heads; number++) {
            long text = number / of->heads, h = number % of->heads;
            head here = head_at(qkv, of, text, h);
            pack_features(here.key, tokens, padded, of->token_step, width, keys);
            pack_tokens(here.value, tokens, padded, of->token_step, width, values);
            for (long first = 0; first < tokens; first += ROWS) {
                int rows = (int)least(ROWS, tokens - first);
                float factors[ROWS];
                multiply_tokens(rows, here.query + first * of->token_step, of->token_step, keys, width, padded, scores);
                for (int r = 0; r < rows; r++) {
                    float *row = scores + r * padded;
                    const bf16 *added = bias + text * of->bias_text_step + h * of->bias_head_step +
                                        (first + r) * of->bias_query_step;
                    __m512 most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
                    for (long j = 0; j < padded; j += LANES) {
                        __m512 score = j < tokens ? biased(row + j, added + j, scale, tokens - j) : _mm512_set1_ps(-INFINITY);
                        _mm512_storeu_ps(row + j, score);
                        most = _mm512_max_ps(most, score);
                    }
                    float maximum = _mm512_reduce_max_ps(most);
                    uint32_t place = (uint32_t)((number * tokens + first + r) * (padded / (2 * LANES)));
                    for (long j = 0; j < padded; j += 2 * LANES, place++) {
                        __mmask32 keep = how->threshold ? kept(how, place) : ~(__mmask32)0;
                        for (int v = 0; v < 2 * LANES; v += LANES) {
                            __m512 weight = exponential(_mm512_sub_ps(_mm512_loadu_ps(row + j + v), _mm512_set1_ps(maximum)));
                            total = _mm512_add_ps(total, weight);
                            store(weights + r * padded + j + v, _mm512_maskz_mov_ps((__mmask16)(keep >> v), weight));
                        }
                    }
                    float sum = _mm512_reduce_add_ps(total);
                    factors[r] = how->scale / sum;
                    if (log_sums) log_sums[number * tokens + first + r] = maximum + logf(sum);
                }
                sum_tokens(rows, weights, tokens, padded, values, width, factors, out + (text * tokens + first) * step + h * width,
                           step);
            }
        }
        free(keys), free(values), free(scores), free(weights);
    }
}

// The gradient of q, k and v, laid out as they are. With weights w, kept ones m, and what dropout makes of a gradient,
// g = m dout vᵀ: dv = (m w)ᵀ dout, and the scores get ds = w (g - sum over j of w g).
void lx_attention_gradient(const bf16 *dout, const bf16 *qkv, const bf16 *bias, const bf16 *out, const float *log_sums,
                           bf16 *dqkv, const shape *of, const dropout *how) {
    long tokens = of->tokens, width = of->width, padded = rounded_up(tokens, 2 * LANES), step = of->heads * width;
    float scale = 1.0f / sqrtf((float)width);
    size_t by_feature = (size_t)(rounded_up(padded, PANEL) * width) * 2;
    size_t by_token = (size_t)(padded * rounded_up(width, PANEL)) * 2, square = (size_t)(padded * rounded_up(tokens, 2)) * 2;
#pragma omp parallel
    {
        pair *keys = aligned_alloc(64, by_feature), *values = aligned_alloc(64, by_feature);
        pair *key_rows = aligned_alloc(64, by_token), *query_rows = aligned_alloc(64, by_token);
        pair *dout_rows = aligned_alloc(64, by_token);
        pair *weights = aligned_alloc(64, square), *dscores = aligned_alloc(64, square);
        float *scores = aligned_alloc(64, (size_t)(ROWS * padded) * 4);
        float *dweights = aligned_alloc(64, (size_t)(ROWS * padded) * 4);
        bf16 *weight_rows = aligned_alloc(64, (size_t)(ROWS * padded) * 2);
        bf16 *dscore_rows = aligned_alloc(64, (size_t)(ROWS * padded) * 2);
#pragma omp for schedule(static)
        for (long number = 0; number < of->texts * of->heads; number++) {
            long text = number / of->heads, h = number % of->heads;
            head here = head_at(qkv, of, text, h), gradient = head_at(dqkv, of, text, h);
            const bf16 *gradients = dout + text * tokens * step + h * width, *outs = out + text * tokens * step + h * width;
            pack_features(here.key, tokens, padded, of->token_step, width, keys);
            pack_features(here.value, tokens, padded, of->token_step, width, values);
            pack_tokens(here.key, tokens, padded, of->token_step, width, key_rows);
            pack_tokens(here.query, tokens, padded, of->token_step, width, query_rows);
            pack_tokens(gradients, tokens, padded, step, width, dout_rows);
            for (long first = 0; first < tokens; first += ROWS) {
                int rows = (int)least(ROWS, tokens - first);
                float factors[ROWS];
                multiply_tokens(rows, here.query + first * of->token_step, of->token_step, keys, width, padded, scores);
                multiply_tokens(rows, gradients + first * step, step, values, width, padded, dweights);
                for (int r = 0; r < rows; r++) {
                    const bf16 *added = bias + text * of->bias_text_step + h * of->bias_head_step +
                                        (first + r) * of->bias_query_step;
                    const bf16 *got = outs + (first + r) * step, *wanted = gradients + (first + r) * step;
                    __m512 products = _mm512_setzero_ps(); // out · dout is the sum over j of w g
                    for (long k = 0; k < width; k += LANES) products = _mm512_fmadd_ps(load(got + k), load(wanted + k), products);
                    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(products));
                    __m512 log_sum = _mm512_set1_ps(log_sums[number * tokens + first + r]);
                    uint32_t place = (uint32_t)((number * tokens + first + r) * (padded / (2 * LANES)));
                    for (long j = 0; j < padded; j += 2 * LANES, place++) {
                        __mmask32 keep = how->threshold ? kept(how, place) : ~(__mmask32)0;
                        for (int v = 0; v < 2 * LANES; v += LANES) {
                            long at = r * padded + j + v;
                            __m512 weight = _mm512_setzero_ps();
                            if (j + v < tokens)
                                weight = exponential(_mm512_sub_ps(biased(scores + at, added + j + v, scale, tokens - j - v), log_sum));
                            __m512 factor = _mm512_maskz_mov_ps((__mmask16)(keep >> v), _mm512_set1_ps(how->scale));
                            store(weight_rows + at, _mm512_mul_ps(weight, factor));
                            __m512 slope = _mm512_fmsub_ps(_mm512_loadu_ps(dweights + at), factor, mean);
                            store(dscore_rows + at, _mm512_mul_ps(weight, slope));
                        }
                    }
                    factors[r] = scale;
                }
                for (int r = 0; r < rows; r += 2)
                    for (long j = 0; j < padded; j += 2 * LANES) {
                        long from = r * padded + j, to = (first + r) / 2 * padded + j;
                        int alone = r + 1 == rows;
                        interleave(weight_rows + from, alone ? NULL : weight_rows + from + padded, weights + to);
                        interleave(dscore_rows + from, alone ? NULL : dscore_rows + from + padded, dscores + to);
                    }
                sum_tokens(rows, dscore_rows, tokens, padded, key_rows, width, factors, gradient.query + first * of->token_step,
                           of->token_step);
            }
            sum_queries(weights, tokens, padded, dout_rows, width, 1.0f, gradient.value, of->token_step);
            sum_queries(dscores, tokens, padded, query_rows, width, scale, gradient.key, of->token_step);
        }
        free(keys), free(values), free(key_rows), free(query_rows), free(dout_rows), free(weights), free(dscores);
        free(scores), free(dweights), free(weight_rows), free(dscore_rows);
    }
}

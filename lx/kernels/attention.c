// Scaled dot-product attention (Vaswani et al. 2017, equation 1), one head of one text at a time.
//
// Axis legend: B texts, H heads, T tokens, K head width, a multiple of 32. i counts queries, j keys. Scores are
// computed for ROWS queries at a time and never leave the cache; the backward pass computes them once more (Dao et al.
// 2022).
#include <math.h>

#include "product.h"

typedef struct {
    long texts, heads, tokens, width;
    long text_step, head_step, token_step, part_step;     // between numbers of q, k and v: element [part, b, h, t, 0]
    long bias_text_step, bias_head_step, bias_query_step; // of bias [B, H, T, T]; zero where it is the same for all
} shape;

// One head of q, k and v, or of their gradients.
typedef struct {
    bf16 *query, *key, *value;
} head;

static inline head head_at(const bf16 *qkv, const shape *dims, long text, long number) {
    bf16 *query = (bf16 *)qkv + text * dims->text_step + number * dims->head_step;
    return (head){query, query + dims->part_step, query + 2 * dims->part_step};
}

// Have the cache fetch some rows of features: those of the next head, while this one is computed.
static inline void fetch(const bf16 *x, int rows, long step, long width) {
    for (int r = 0; r < rows; r++)
        for (long k = 0; k < width; k += 2 * LANES) _mm_prefetch(x + r * step + k, _MM_HINT_T1);
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
            multiply_packed(rows, vectors, (tokens + 1) / 2, a + token, padded, packed + k * (padded / 2), 0, tile,
                            PANEL);
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++) {
                    __m512 sum = _mm512_loadu_ps(tile + r * PANEL + v * LANES);
                    store(to + (token + r) * step + k + v * LANES, _mm512_mul_ps(sum, _mm512_set1_ps(factor)));
                }
        }
    }
}

// One row of the bias, of query i.
static inline const bf16 *bias_at(const bf16 *bias, const shape *dims, long text, long number, long query) {
    return bias + text * dims->bias_text_step + number * dims->bias_head_step + query * dims->bias_query_step;
}

// score * scale + bias for 16 keys of which `left` are there; minus infinity beyond them.
static inline __m512 biased(const float *score, const bf16 *bias, float scale, long left) {
    __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(score), _mm512_set1_ps(scale));
    if (left >= LANES) return _mm512_add_ps(sum, load(bias));
    if (left <= 0) return _mm512_set1_ps(-INFINITY);
    __mmask16 present = (__mmask16)((1u << left) - 1);
    __m256i rest = _mm256_maskz_loadu_epi16(present, bias);
    __m512 numbers = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rest), 16));
    return _mm512_mask_add_ps(_mm512_set1_ps(-INFINITY), present, sum, numbers);
}

// Which of 32 weights are kept; `row` counts the rows of all texts and heads.
static inline __mmask32 kept_weights(const dropout *how, long row, long key, long padded) {
    return how->threshold ? kept(how, (uint32_t)((row * padded + key) / (2 * LANES))) : ~(__mmask32)0;
}

// One row of scores, in place, and of weights: exponentials, those that are dropped zero, which are yet to be divided
// by their sum, which is returned. `log_sum` gets the logarithm of the sum of the exponentials of the scores
// themselves, unless it is missing.
static float weigh(float *scores, const bf16 *bias, float scale, const shape *dims, long padded, const dropout *how,
                   long row, bf16 *weights, float *log_sum) {
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (long j = 0; j < padded; j += LANES) {
        __m512 score = biased(scores + j, bias + j, scale, dims->tokens - j);
        _mm512_storeu_ps(scores + j, score);
        most = _mm512_max_ps(most, score);
    }
    float maximum = _mm512_reduce_max_ps(most);
    for (long j = 0; j < padded; j += 2 * LANES) {
        __mmask32 keep = kept_weights(how, row, j, padded);
        for (int v = 0; v < 2 * LANES; v += LANES) {
            __m512 weight = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + j + v), _mm512_set1_ps(maximum)));
            sum = _mm512_add_ps(sum, weight);
            store(weights + j + v, _mm512_maskz_mov_ps((__mmask16)(keep >> v), weight));
        }
    }
    float total = _mm512_reduce_add_ps(sum);
    if (log_sum) *log_sum = maximum + logf(total);
    return total;
}

// out [B, T, H, K] = softmax(q kᵀ / sqrt(K) + bias) v with dropout on the weights. `log_sums` [B, H, T] gets the
// logarithm of each row's sum of exponentials, unless it is missing.
void lx_attention(const bf16 *qkv, const bf16 *bias, bf16 *out, float *log_sums, const shape *dims,
                  const dropout *how) {
    long tokens = dims->tokens, width = dims->width, padded = rounded_up(tokens, 2 * LANES), step = dims->heads * width;
    float scale = 1.0f / sqrtf((float)width);
#pragma omp parallel
    {
        pair *keys = aligned_alloc(64, (size_t)(rounded_up(padded, PANEL) * width) * 2);
        pair *values = aligned_alloc(64, (size_t)(padded * rounded_up(width, PANEL)) * 2);
        float *scores = aligned_alloc(64, (size_t)(ROWS * padded) * 4);
        bf16 *weights = aligned_alloc(64, (size_t)(ROWS * padded) * 2);
#pragma omp for schedule(static)
        for (long number = 0; number < dims->texts * dims->heads; number++) {
            long text = number / dims->heads, h = number % dims->heads;
            head current = head_at(qkv, dims, text, h);
            pack_features(current.key, tokens, padded, dims->token_step, width, keys);
            pack_tokens(current.value, tokens, padded, dims->token_step, width, values);
            for (long first = 0; first < tokens; first += ROWS) {
                int rows = (int)least(ROWS, tokens - first);
                float factors[ROWS];
                multiply_tokens(rows, current.query + first * dims->token_step, dims->token_step, keys, width, padded,
                                scores);
                for (int r = 0; r < rows; r++) {
                    long i = first + r, row = number * tokens + i;
                    float total = weigh(scores + r * padded, bias_at(bias, dims, text, h, i), scale, dims, padded, how,
                                        row, weights + r * padded, log_sums ? log_sums + row : NULL);
                    factors[r] = how->scale / total;
                }
                bf16 *to = out + (text * tokens + first) * step + h * width;
                sum_tokens(rows, weights, tokens, padded, values, width, factors, to, step);
            }
        }
        free(keys), free(values), free(scores), free(weights);
    }
}

// One row of weights, those that are dropped zero and the others scaled up, and of the gradient of its scores:
// ds = w (g - mean) with the gradient g that the weights get, and the mean of g by w.
static void weigh_gradients(const float *scores, const float *dweights, const bf16 *bias, float scale, float log_sum,
                            float mean, const shape *dims, long padded, const dropout *how, long row, bf16 *weights,
                            bf16 *dscores) {
    for (long j = 0; j < padded; j += 2 * LANES) {
        __mmask32 keep = kept_weights(how, row, j, padded);
        for (int v = 0; v < 2 * LANES; v += LANES) {
            long at = j + v;
            __m512 score = biased(scores + at, bias + at, scale, dims->tokens - at);
            __m512 weight = exponential(_mm512_sub_ps(score, _mm512_set1_ps(log_sum)));
            __m512 factor = _mm512_maskz_mov_ps((__mmask16)(keep >> v), _mm512_set1_ps(how->scale));
            store(weights + at, _mm512_mul_ps(weight, factor));
            __m512 slope = _mm512_fmsub_ps(_mm512_loadu_ps(dweights + at), factor, _mm512_set1_ps(mean));
            store(dscores + at, _mm512_mul_ps(weight, slope));
        }
    }
}

static inline float inner_product(const bf16 *x, const bf16 *y, long width) {
    __m512 sum = _mm512_setzero_ps();
    for (long k = 0; k < width; k += LANES) sum = _mm512_fmadd_ps(load(x + k), load(y + k), sum);
    return _mm512_reduce_add_ps(sum);
}

// Rows as pairs of neighbouring rows, to[rows / 2][padded]; what the last of an odd number is paired with is zero.
static void pair_rows(const bf16 *x, int rows, long padded, pair *to) {
    for (int r = 0; r < rows; r += 2)
        for (long j = 0; j < padded; j += 2 * LANES) {
            const bf16 *first = x + r * padded + j;
            interleave(first, r + 1 < rows ? first + padded : NULL, to + r / 2 * padded + j);
        }
}

// The gradients of q, k and v, laid out as they are. With weights w, a mask m of those that are kept, scaled, and the
// gradient g = m dout vᵀ of the weights: dv = (m w)ᵀ dout, and dq and dk follow from the gradient of the scores. The
// mean of g by w is out · dout.
void lx_attention_gradient(const bf16 *dout, const bf16 *qkv, const bf16 *bias, const bf16 *out, const float *log_sums,
                           bf16 *dqkv, const shape *dims, const dropout *how) {
    long tokens = dims->tokens, width = dims->width, padded = rounded_up(tokens, 2 * LANES), step = dims->heads * width;
    float scale = 1.0f / sqrtf((float)width), scales[ROWS] = {scale, scale, scale, scale, scale, scale};
    size_t by_feature = (size_t)(rounded_up(padded, PANEL) * width) * 2;
    size_t by_token = (size_t)(padded * rounded_up(width, PANEL)) * 2;
    size_t square = (size_t)(rounded_up(tokens, 2) * padded) * 2, rows_of_floats = (size_t)(ROWS * padded) * 4;
#pragma omp parallel
    {
        pair *keys = aligned_alloc(64, by_feature), *values = aligned_alloc(64, by_feature);
        pair *key_rows = aligned_alloc(64, by_token), *query_rows = aligned_alloc(64, by_token);
        pair *dout_rows = aligned_alloc(64, by_token);
        pair *all_weights = aligned_alloc(64, square), *all_dscores = aligned_alloc(64, square);
        float *scores = aligned_alloc(64, rows_of_floats), *dweights = aligned_alloc(64, rows_of_floats);
        bf16 *weights = aligned_alloc(64, rows_of_floats / 2), *dscores = aligned_alloc(64, rows_of_floats / 2);
#pragma omp for schedule(static)
        for (long number = 0; number < dims->texts * dims->heads; number++) {
            long text = number / dims->heads, h = number % dims->heads, at = text * tokens * step + h * width;
            head current = head_at(qkv, dims, text, h), gradient = head_at(dqkv, dims, text, h);
            long next_text = (number + 1) / dims->heads, next_h = (number + 1) % dims->heads;
            head next = head_at(qkv, dims, next_text, next_h);
            const bf16 *next_parts[] = {next.query, next.key, next.value};
            long next_at = next_text * tokens * step + next_h * width;
            pack_features(current.key, tokens, padded, dims->token_step, width, keys);
            pack_features(current.value, tokens, padded, dims->token_step, width, values);
            pack_tokens(current.key, tokens, padded, dims->token_step, width, key_rows);
            pack_tokens(current.query, tokens, padded, dims->token_step, width, query_rows);
            pack_tokens(dout + at, tokens, padded, step, width, dout_rows);
            for (long first = 0; first < tokens; first += ROWS) {
                int rows = (int)least(ROWS, tokens - first);
                for (int part = 0; part < 3; part++)
                    fetch(next_parts[part] + first * dims->token_step, rows, dims->token_step, width);
                fetch(dout + next_at + first * step, rows, step, width);
                fetch(out + next_at + first * step, rows, step, width);
                multiply_tokens(rows, current.query + first * dims->token_step, dims->token_step, keys, width, padded,
                                scores);
                multiply_tokens(rows, dout + at + first * step, step, values, width, padded, dweights);
                for (int r = 0; r < rows; r++) {
                    long i = first + r, row = number * tokens + i;
                    float mean = inner_product(out + at + i * step, dout + at + i * step, width);
                    weigh_gradients(scores + r * padded, dweights + r * padded, bias_at(bias, dims, text, h, i), scale,
                                    log_sums[row], mean, dims, padded, how, row, weights + r * padded,
                                    dscores + r * padded);
                }
                pair_rows(weights, rows, padded, all_weights + first / 2 * padded);
                pair_rows(dscores, rows, padded, all_dscores + first / 2 * padded);
                bf16 *to = gradient.query + first * dims->token_step;
                sum_tokens(rows, dscores, tokens, padded, key_rows, width, scales, to, dims->token_step);
            }
            sum_queries(all_weights, tokens, padded, dout_rows, width, 1.0f, gradient.value, dims->token_step);
            sum_queries(all_dscores, tokens, padded, query_rows, width, scale, gradient.key, dims->token_step);
        }
        free(keys), free(values), free(key_rows), free(query_rows), free(dout_rows), free(all_weights);
        free(all_dscores), free(scores), free(dweights), free(weights), free(dscores);
    }
}

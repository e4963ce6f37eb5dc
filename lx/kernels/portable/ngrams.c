// Counted n-grams of texts, and their places in a sorted table: what lx/linear/ngrams.py and features.py compute with
// numpy, to the last bit.
#include <omp.h>
#include <stdint.h>
#include <string.h>

enum {
    HASH_BITS = 56,
    AHEAD = 16, // hashes whose places in the table are fetched before they are needed
};
#define MULTIPLIER UINT64_C(0x9E3779B97F4A7C15)
#define MIXER UINT64_C(0xD6E8FEB86659FD93)

static inline uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 32)) * MIXER;
    return value ^ (value >> 32);
}

// Hash the words of a text of n code points: letters and digits in lower case, by a table whose last entry is that of
// all code points beyond it. Returns their number.
static long hash_words(const uint32_t *text, long n, const uint32_t *word_characters, uint32_t last, uint64_t *words) {
    long count = 0;
    uint64_t hash = 0, power = 1;
    for (long i = 0; i <= n; i++) {
        uint32_t folded = i < n ? word_characters[text[i] < last ? text[i] : last] : 0;
        if (folded) {
            hash += folded * power;
            power *= MULTIPLIER;
        } else if (power != 1) {
            words[count++] = mix(hash);
            hash = 0, power = 1;
        }
    }
    return count;
}

// The different n-grams of a bag, in the order of their first occurrence: hashes and how often each occurs. `slots` is a
// hash table of them with open addressing: numbers from 1, 0 where there is none.
typedef struct {
    uint64_t *hashes;
    int64_t *counts;
    long size;
    uint32_t *slots;
    uint64_t mask;
} bag;

static inline void add(bag *to, uint64_t hash) {
    uint64_t slot = hash & to->mask;
    for (; to->slots[slot]; slot = (slot + 1) & to->mask)
        if (to->hashes[to->slots[slot] - 1] == hash) {
            to->counts[to->slots[slot] - 1]++;
            return;
        }
    to->hashes[to->size] = hash;
    to->counts[to->size] = 1;
    to->slots[slot] = (uint32_t)++to->size;
}

// Count the n-grams of n units, of lengths from orders[0] to orders[1].
static void count(const uint64_t *units, long n, const long *orders, uint64_t seed, bag *to) {
    long slots = 2;
    while (slots < 2 * n * (orders[1] - orders[0] + 1)) slots *= 2;
    memset(to->slots, 0, (size_t)slots * sizeof *to->slots);
    to->mask = (uint64_t)slots - 1;
    to->size = 0;
    for (long start = 0; start < n; start++) {
        uint64_t polynomial = seed, power = 1;
        for (long order = 1; order <= orders[1] && start + order <= n; order++, power *= MULTIPLIER) {
            polynomial += units[start + order - 1] * power;
            if (order >= orders[0]) add(to, mix(polynomial) >> (64 - HASH_BITS));
        }
    }
}

// Count the n-grams of the words and of the characters of texts.
//
// points: code points of all texts; ends: of each text in them; orders: shortest and longest n-gram of words, of
// characters; hashes, counts: of the entries of text t from `starts[t]` on, those of words first; sizes [2 * texts]:
// entries of each bag; units, slots: memory of each of `threads` threads, `units_size` and `slots_size` numbers.
void lx_count_ngrams(const uint32_t *points, const int64_t *ends, long texts, const uint32_t *word_characters,
                     long last_character, const long *orders, const int64_t *starts, uint64_t *hashes, int64_t *counts,
                     int64_t *sizes, long threads, uint64_t *units, long units_size, uint32_t *slots, long slots_size) {
#pragma omp parallel for schedule(dynamic, 4) num_threads((int)threads)
    for (long text = 0; text < texts; text++) {
        long thread = omp_get_thread_num(), first = text ? ends[text - 1] : 0, n = ends[text] - first;
        uint64_t *own_units = units + thread * units_size;
        bag words = {hashes + starts[text], counts + starts[text], 0, slots + thread * slots_size, 0};
        if (orders[1]) {
            long num_words = hash_words(points + first, n, word_characters, (uint32_t)last_character, own_units);
            count(own_units, num_words, orders, 0, &words);
        }
        bag characters = {words.hashes + words.size, words.counts + words.size, 0, words.slots, 0};
        if (orders[3]) {
            for (long i = 0; i < n; i++) own_units[i] = points[first + i] + UINT64_C(1);
            count(own_units, n, orders + 2, MIXER, &characters);
        }
        sizes[2 * text] = words.size;
        sizes[2 * text + 1] = characters.size;
    }
}

// Find n hashes in an ascending table of `size` hashes: indices, or -1. `buckets` [2^b + 1]: where in the table begin the
// hashes with each value of the upper b = HASH_BITS - `shift` bits.
void lx_find_hashes(const uint64_t *hashes, long n, const uint64_t *table, const int32_t *buckets, long shift,
                    int64_t *indices) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) {
        if (i + 2 * AHEAD < n) __builtin_prefetch(buckets + (hashes[i + 2 * AHEAD] >> shift));
        if (i + AHEAD < n) __builtin_prefetch(table + buckets[hashes[i + AHEAD] >> shift]);
        long low = buckets[hashes[i] >> shift], end = buckets[(hashes[i] >> shift) + 1], high = end;
        while (low < high) {
            long middle = (low + high) / 2;
            if (table[middle] < hashes[i]) low = middle + 1;
            else high = middle;
        }
        indices[i] = low < end && table[low] == hashes[i] ? low : -1;
    }
}

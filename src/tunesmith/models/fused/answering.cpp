// What answers are written with: a few rows at a time against all that was remembered.
//
// It waits for memory if nothing is done about it: every key and value comes from there once, also those that all rows
// share (Juravsky and others 2024, "Hydragen: High-Throughput LLM Inference with Shared Prefixes"), and the sums of a
// tile stay in registers meanwhile.

#include <omp.h>

#include <algorithm>
#include <utility>

#include "multiply.h"

namespace {

// Keep a loaded register: a compiler would rather load it again for each product, and loads are what these wait for.
#if defined(__x86_64__) && defined(__AVX__)
#define HELD(v) asm("" : "+v"(v))
#else
#define HELD(v)
#endif

// Numbers of a row that are multiplied at once, and added to sums.
template <class T>
struct Along {
    static constexpr long step = LANES;
    static lanes add(lanes sum, const T* a, const T* b) { return sum + load(a) * load(b); }
};
#if defined(__AVX512BF16__)
template <>
struct Along<bf16> {
    static constexpr long step = 2 * LANES;
    static lanes add(lanes sum, const bf16* a, const bf16* b) {
        auto x = (__m512bh)_mm512_loadu_si512(a), y = (__m512bh)_mm512_loadu_si512(b);
        return (lanes)_mm512_dpbf16_ps((__m512)sum, x, y);
    }
};
#endif

// Where number ``j`` of a register comes from when runs of H of two others, each 2 H long, become one of H in turn.
template <long H>
constexpr int origin(long j, long more) {
    return static_cast<int>(j / H / 2 * 2 * H + j % H + j / H % 2 * LANES + more);
}
template <long H, size_t... J>
inline lanes folded(lanes a, lanes b, std::index_sequence<J...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, origin<H>(J, 0)...) + __builtin_shufflevector(a, b, origin<H>(J, H)...);
#else
    typedef int places __attribute__((vector_size(4 * LANES)));
    return __builtin_shuffle(a, b, places{origin<H>(J, 0)...}) + __builtin_shuffle(a, b, places{origin<H>(J, H)...});
#endif
}

// The sum of each of LANES registers, in the order of these: added up together, since one alone takes nearly as long.
template <long H = LANES / 2>
inline lanes totals(lanes* each) {
    for (long c = 0; c < H; c++)
        each[c] = folded<H>(each[c], each[c + H], std::make_index_sequence<LANES>());
    if constexpr (H > 1)
        return totals<H / 2>(each);
    else
        return each[0];
}

// Products of R queries and ``length`` keys, and of the last one again until a register is full; y: (R, ys). What comes
// from memory is fetched on the way: as many rows of ``ahead`` as there are keys.
template <int R, class T>
inline void products(const T* query, const T* key, long length, long size, float* y, long ys, const T* ahead) {
    for (long i = 0; i < length; i += LANES) {
        const T* keys[LANES];
        for (long c = 0; c < LANES; c++) keys[c] = key + (i + c < length ? i + c : length - 1) * size;
        if (ahead) fetch(ahead + i * size, LANES * size * sizeof(T));
        for (int r = 0; r < R; r++) {
            const T* q = query + r * size;
            lanes sum[LANES] = {};
            long t = 0;
            for (; t + Along<T>::step <= size; t += Along<T>::step)
                for (long c = 0; c < LANES; c++) sum[c] = Along<T>::add(sum[c], q + t, keys[c] + t);
            for (; t + LANES <= size; t += LANES)
                for (long c = 0; c < LANES; c++) sum[c] += load(q + t) * load(keys[c] + t);
            lanes all = totals(sum);
            for (; t < size; t++)
                for (long c = 0; c < LANES; c++) all[c] += wide(q[t]) * wide(keys[c][t]);
            std::memcpy(y + r * ys + i, &all, sizeof all);
        }
    }
}

// Sums of R weighted rows of values, over C registers of their width; more: added to what y holds.
template <int R, int C, class T>
inline void mix(const float* weight, long weights, const T* value, long length, long size, float* y, bool more,
                const T* ahead) {
    lanes sum[R][C] = {};
    for (int r = 0; r < R && more; r++)
        for (int c = 0; c < C; c++) sum[r][c] = load(y + r * size + c * LANES);
    for (long t = 0; t < length; t++) {
        if (ahead) fetch(ahead + t * size, C * LANES * sizeof(T));
        lanes v[C];
        for (int c = 0; c < C; c++) {
            v[c] = load(value + t * size + c * LANES);
            HELD(v[c]);
        }
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) sum[r][c] += weight[r * weights + t] * v[c];
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) std::memcpy(y + r * size + c * LANES, &sum[r][c], sizeof(lanes));
}

template <int R, class T>
inline void mixed(const float* weight, long weights, const T* value, long length, long size, float* y, bool more,
                  const T* ahead) {
    long j = 0;
    for (; j + 4 * LANES <= size; j += 4 * LANES)
        mix<R, 4>(weight, weights, value + j, length, size, y + j, more, ahead ? ahead + j : ahead);
    for (; j + LANES <= size; j += LANES) mix<R, 1, T>(weight, weights, value + j, length, size, y + j, more, nullptr);
    for (; j < size; j++)
        for (int r = 0; r < R; r++) {
            float all = more ? y[r * size + j] : 0;
            for (long t = 0; t < length; t++) all += weight[r * weights + t] * wide(value[t * size + j]);
            y[r * size + j] = all;
        }
}

// What one head of keys and values remembers of a slot: ``prefix`` shared rows, and ``length`` of its own.
template <class T>
struct Memory {
    const T *key, *value, *own_key, *own_value;
    long prefix, length, size;
};

// R queries, one after the other, look at a memory; ``next``: keys that are asked for after this.
template <int R, class T>
inline void look(const T* query, const Memory<T>& m, float scale, T* out, const T* next) {
    static thread_local Room<float> weight_room, sum_room;
    long all = m.prefix + m.length, reach = rounded_up(all, LANES) + LANES;
    float *weight = weight_room.of(R * reach), *sum = sum_room.of(R * m.size), share[R];
    products<R, T>(query, m.key, m.prefix, m.size, weight, reach, nullptr);
    products<R, T>(query, m.own_key, m.length, m.size, weight + m.prefix, reach, m.own_value);
    for (int r = 0; r < R; r++) exponentials(weight + r * reach, all, all, scale, share[r]);
    mixed<R, T>(weight, reach, m.value, m.prefix, m.size, sum, false, nullptr);
    mixed<R, T>(weight + m.prefix, reach, m.own_value, m.length, m.size, sum, true, next);
    for (int r = 0; r < R; r++) narrow(sum + r * m.size, share[r], out + r * m.size, m.size);
}

// One new token of each slot attends to what all slots share and to all that its slot remembers. K heads of keys and
// values, each read once for the queries that share it. keys, values: (K, positions, size), first the shared ones,
// those of a slot from ``starts`` on; query: (slots, heads * size) with stride qs. One head after the other, so that
// what is shared of it stays in the cache while all slots pass by.
template <class T>
void remember(const T* query, long qs, const T* keys, const T* values, const int64_t* starts, const int64_t* lengths,
              long prefix, T* y, long ys, float scale, long slots, long heads, long shared, long positions, long size) {
    // some that follow each other, so that what is fetched for the next one is fetched by who will read it
    long group = heads / shared, all = shared * slots, threads = omp_get_max_threads();
    long piece = std::max(1L, std::min(8L, all / (4 * threads)));
#pragma omp parallel for schedule(dynamic, piece)
    for (long n = 0; n < all; n++) {
        long k = n / slots, i = n % slots, own = starts[i] * size, start = k * positions * size;
        const T *key = keys + start, *value = values + start;
        const T* next = keys + (i + 1 < slots ? start + starts[i + 1] * size : start);
        Memory<T> m{key, value, key + own, value + own, prefix, lengths[i], size};
        const T* q = query + i * qs + k * group * size;
        T* out = y + i * ys + k * group * size;
        long h = 0;
        for (; h + 3 <= group; h += 3) look<3, T>(q + h * size, m, scale, out + h * size, next);
        if (h + 2 == group) look<2, T>(q + h * size, m, scale, out + h * size, next);
        if (h + 1 == group) look<1, T>(q + h * size, m, scale, out + h * size, next);
    }
}

// Writes new keys and values, (rows, 2 * K * size) with stride xs, to their positions.
template <class T>
void keep(const T* x, long xs, const int64_t* places, T* keys, T* values, long rows, long shared, long positions,
          long size) {
#pragma omp parallel for if (rows > 64)
    for (long i = 0; i < rows; i++) {
        for (long k = 0; k < shared; k++) {
            long to = (k * positions + places[i]) * size;
            std::memcpy(keys + to, x + i * xs + k * size, size * sizeof(T));
            std::memcpy(values + to, x + i * xs + (shared + k) * size, size * sizeof(T));
        }
    }
}

// The place of the highest number of each row, the first of several; width is positive.
template <class T>
void highest(const T* x, long xs, int64_t* y, long rows, long width) {
    constexpr long piece = 1024;
#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < rows; i++) {
        const T* row = x + i * xs;
        float best = -std::numeric_limits<float>::infinity();
        long from = 0;
        for (long start = 0; start < width; start += piece) {
            long end = start + piece < width ? start + piece : width;
            float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
            for (long j = start; j < end; j++) top = wide(row[j]) > top ? wide(row[j]) : top;
            if (top > best) {
                best = top;
                from = start;
            }
        }
        while (from < width - 1 && wide(row[from]) != best) from++;
        y[i] = from;
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                               \
    extern "C" void remember_##NAME(const T* q, long qs, const T* k, const T* v, const int64_t* s, const int64_t* n,  \
                                    long prefix, T* y, long ys, float scale, long slots, long heads, long shared,     \
                                    long positions, long size) {                                                      \
        remember(q, qs, k, v, s, n, prefix, y, ys, scale, slots, heads, shared, positions, size);                     \
    }                                                                                                                 \
    extern "C" void keep_##NAME(const T* x, long xs, const int64_t* places, T* k, T* v, long rows, long shared,       \
                                long positions, long size) {                                                          \
        keep(x, xs, places, k, v, rows, shared, positions, size);                                                     \
    }                                                                                                                 \
    extern "C" void highest_##NAME(const T* x, long xs, int64_t* y, long rows, long width) {                          \
        highest(x, xs, y, rows, width);                                                                               \
    }

EXPORT(float, float)
EXPORT(bf16, bf16)

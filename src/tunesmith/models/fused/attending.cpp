// Causal attention of examples that lie end to end, forward and backward (Vaswani and others 2017).
//
// Examples of some hundred tokens are too short for what libraries offer: there, nearly every product is done by hand
// for half a matrix of zeros, and in bfloat16 one number at a time. Here the scores of a block of queries stay in the
// cache, keys that no query of it may see are left out, and all sums are float.

#include <algorithm>

#include "multiply.h"

namespace {

// Where shared rows are known, qkv and out have none of them: their keys and values are (keys, positions, size).
template <class T>
void attend(const T* qkv, long qs, T* out, long os, const int64_t* lengths, long count, long shared,
            const T* known_keys, const T* known_values, long positions, float* sums, float scale, long heads, long keys,
            long size) {
    using U = typename Units<T>::type;
    constexpr long in_one = Units<T>::in_one;
    auto all = examples(lengths, count, shared, known_keys, heads);
#pragma omp parallel for schedule(dynamic)
    for (long task = 0; task < count * heads; task++) {
        static thread_local Packed<T> key_room, value_room, query_room;
        static thread_local Room<float> score_room, answer_room;
        static thread_local Room<U> unit_room;
        const Example& e = all[task / heads];
        long h = task % heads, g = h / (heads / keys), padded = rounded_up(e.rows, LANES);
        const T *k = qkv + (heads + g) * size, *v = k + keys * size;
        const T* before = known_keys ? known_keys + g * positions * size : nullptr;
        const U* turned = key_room.turned(k, qs, e, size, padded, before);
        if (before) before = known_values + g * positions * size;
        const U* values = value_room.stacked(v, qs, e, 0, e.rows, size, padded, before);
        float *s = score_room.of(FEW * padded), *y = answer_room.of(FEW * size);
        for (long from = e.first; from < e.rows; from += FEW) {
            long to = from + FEW < e.rows ? from + FEW : e.rows, n = to - from, reach = rounded_up(to, LANES);
            const U* q = query_room.lying(qkv + h * size, qs, e, from, to, size);
            multiply(n, reach, size / in_one, q, size / in_one, 1, turned, padded, s, padded, false);
            float share[FEW];
            for (long r = 0; r < n; r++)
                sums[e.sums + h * e.rows + from + r] =
                    exponentials(s + r * padded, from + r + 1, reach, scale, share[r]);
            const U* p = as_units<T>(s, n, reach, padded, unit_room);
            multiply(n, size, reach / in_one, p, padded / in_one, 1, values, size, y, size, false);
            for (long r = 0; r < n; r++) narrow(y + r * size, share[r], out + e.at(from + r) * os + h * size, size);
        }
    }
}

template <class T>
void attend_backward(const T* dout, long dos, const T* qkv, long qs, const T* out, long os, T* dqkv, long ds,
                     const int64_t* lengths, long count, long shared, const float* sums, float scale, long heads,
                     long keys, long size) {
    constexpr long in_one = Units<T>::in_one;
    auto all = examples(lengths, count, shared, false, heads);
    std::vector<float> d_shared(count * keys * shared * 2 * size);
#pragma omp parallel for schedule(dynamic)
    for (long task = 0; task < count * keys; task++) {
        static thread_local Back<T> rooms;
        const Example& e = all[task / keys];
        long g = task % keys, each = heads / keys, padded = rounded_up(e.rows, LANES);
        const T *k = qkv + (heads + g) * size, *v = k + keys * size;
        auto turned_keys = rooms.turned_keys.turned(k, qs, e, size, padded);
        auto turned_values = rooms.turned_values.turned(v, qs, e, size, padded);
        auto stacked_keys = rooms.stacked_keys.stacked(k, qs, e, 0, e.rows, size, padded);
        float *s = rooms.scores.of(BLOCK * padded), *d = rooms.d_scores.of(BLOCK * padded);
        float *dq = rooms.dq.of(BLOCK * size), *dk = rooms.dk.of(padded * size), *dv = rooms.dv.of(padded * size);
        std::memset(dk, 0, padded * size * sizeof *dk);
        std::memset(dv, 0, padded * size * sizeof *dv);
        for (long h = g * each; h < (g + 1) * each; h++)
            for (long from = e.first; from < e.rows; from += BLOCK) {
                long to = from + BLOCK < e.rows ? from + BLOCK : e.rows, n = to - from, reach = rounded_up(to, LANES);
                long even = rounded_up(n, in_one);
                const T *x = qkv + h * size, *gradient = dout + h * size;
                auto q = rooms.queries.lying(x, qs, e, from, to, size);
                auto dy = rooms.gradients.lying(gradient, dos, e, from, to, size);
                for (long r = 0; r < n; r += ROWS) {  // a few queries at a time, so that little is computed in vain
                    long few = std::min<long>(ROWS, n - r), near = rounded_up(from + r + few, LANES);
                    long left = r * size / in_one;
                    multiply(few, near, size / in_one, q + left, size / in_one, 1, turned_keys, padded, s + r * padded,
                             padded, false);
                    multiply(few, near, size / in_one, dy + left, size / in_one, 1, turned_values, padded,
                             d + r * padded, padded, false);
                }
                for (long r = 0; r < n; r++) {
                    const T *a = gradient + e.at(from + r) * dos, *b = out + e.at(from + r) * os + h * size;
                    float *p = s + r * padded, *dp = d + r * padded, all_of_it = 0;
                    float sum = sums[e.sums + h * e.rows + from + r];
                    long seen = from + r + 1, full = rounded_up(seen, LANES);
#pragma omp simd reduction(+ : all_of_it)
                    for (long j = 0; j < size; j++) all_of_it += wide(a[j]) * wide(b[j]);
#pragma omp simd
                    for (long j = 0; j < full; j++) {
                        p[j] = exponential(p[j] * scale - sum);
                        dp[j] = p[j] * (dp[j] - all_of_it) * scale;
                    }
                    for (long j = seen; j < reach; j++) p[j] = dp[j] = 0;
                }
                auto lying = as_units<T>(d, n, reach, padded, rooms.units);
                for (long r = 0; r < n; r += ROWS) {
                    long few = std::min<long>(ROWS, n - r), near = rounded_up(from + r + few, LANES);
                    multiply(few, size, near / in_one, lying + r * padded / in_one, padded / in_one, 1, stacked_keys,
                             size, dq + r * size, size, false);
                }
                rows_out(dq, dqkv + h * size, ds, e, from, to, size);
                auto down_p = upright<T>(s, n, reach, padded, rooms.upright);
                auto down_d = upright<T>(d, n, reach, padded, rooms.d_upright);
                auto down_dy = rooms.stacked_gradients.stacked(gradient, dos, e, from, to, size, even);
                auto down_q = rooms.stacked_queries.stacked(x, qs, e, from, to, size, even);
                long sure = from / ROWS * ROWS;  // keys that all of these queries have seen
                for (long j = 0; j < to; j += j < sure ? sure : ROWS) {
                    long here = j < sure ? sure : std::min<long>(ROWS, to - j);
                    long first = std::max(0L, j - from) / in_one;
                    long depth = even / in_one - first, at = j + first * padded;
                    multiply(here, size, depth, down_p + at, 1, padded, down_dy + first * size, size, dv + j * size,
                             size, true);
                    multiply(here, size, depth, down_d + at, 1, padded, down_q + first * size, size, dk + j * size,
                             size, true);
                }
            }
        float* kept = d_shared.data() + task * shared * 2 * size;
        for (long r = 0; r < shared; r++) {
            std::memcpy(kept + r * 2 * size, dk + r * size, size * sizeof *dk);
            std::memcpy(kept + r * 2 * size + size, dv + r * size, size * sizeof *dv);
        }
        T* own = dqkv + (heads + g) * size;
        rows_out(dk + shared * size, own, ds, e, shared, e.rows, size);
        rows_out(dv + shared * size, own + keys * size, ds, e, shared, e.rows, size);
    }
#pragma omp parallel for
    for (long r = 0; r < shared; r++)  // what all examples say of the rows that they share
        for (long g = 0; g < keys; g++)
            for (long j = 0; j < 2 * size; j++) {
                float sum = 0;
                for (long e = 0; e < count; e++) sum += d_shared[((e * keys + g) * shared + r) * 2 * size + j];
                narrow(sum, dqkv[r * ds + (heads + g + (j < size ? 0 : keys)) * size + (j < size ? j : j - size)]);
            }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                               \
    extern "C" void attend_##NAME(const T* qkv, long qs, T* y, long ys, const int64_t* lengths, long n, long shared,  \
                                  const T* before_k, const T* before_v, long positions, float* sums, float scale,     \
                                  long h, long k, long d) {                                                           \
        attend(qkv, qs, y, ys, lengths, n, shared, before_k, before_v, positions, sums, scale, h, k, d);              \
    }                                                                                                                 \
    extern "C" void attend_backward_##NAME(const T* dy, long dys, const T* qkv, long qs, const T* y, long ys,         \
                                           T* dqkv, long ds, const int64_t* lengths, long n, long shared,             \
                                           const float* sums, float scale, long h, long k, long d) {                  \
        attend_backward(dy, dys, qkv, qs, y, ys, dqkv, ds, lengths, n, shared, sums, scale, h, k, d);                 \
    }

EXPORT(float, float)
#if !defined(__AMX_BF16__)  // whose matrix units torch uses, and these do not
EXPORT(bf16, bf16)
#endif

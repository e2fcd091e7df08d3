// Causal attention of examples that lie end to end, forward and backward (Vaswani and others 2017).
//
// Examples of some hundred tokens are too short for what libraries offer: there, nearly every product is done by hand
// for half a matrix of zeros, and in bfloat16 one number at a time. Here the scores of a block of queries stay in the
// cache, keys that no query of it may see are left out, and all sums are float.
//
// Every product is one function, ``multiply``: units of A, each broadcast, times rows of units of B. A unit is a float,
// or, where the processor multiplies two bfloat16 at once, a pair of them that follow each other in the sum.

#include "numbers.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr long BLOCK = 48;  // queries at a time; even, since they come in pairs
constexpr int ROWS = 6;     // of a tile of sums in registers
constexpr int WIDE = LANES == 16 ? 4 : 2;  // registers of a row of it

// What T is multiplied as.
template <class T>
struct Units {
    using type = float;
    static constexpr long in_one = 1;
};
#if defined(__AVX512BF16__)
template <>
struct Units<bf16> {
    using type = uint32_t;  // the earlier one in the lower half
    static constexpr long in_one = 2;
};

inline lanes multiply_add(lanes sum, uint32_t a, const uint32_t* b) {
    auto pairs = (__m512bh)_mm512_loadu_si512(b);
    return (lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(static_cast<int>(a)), pairs);
}
#endif
inline lanes multiply_add(lanes sum, float a, const float* b) { return sum + a * load(b); }

inline long rounded_up(long x, long to) { return (x + to - 1) / to * to; }

// c = a b, or c += a b, for R rows and N registers of columns.
template <int R, int N, class U>
inline void tile(const U* a, long ar, long ak, const U* b, long bs, long depth, float* c, long cs, bool more) {
    lanes sum[R][N];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) sum[r][n] = more ? load(c + r * cs + n * LANES) : lanes{};
    for (long k = 0; k < depth; k++)
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) sum[r][n] = multiply_add(sum[r][n], a[r * ar + k * ak], b + k * bs + n * LANES);
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) std::memcpy(c + r * cs + n * LANES, &sum[r][n], sizeof(lanes));
}

template <int N, class U>
void strip(long rows, const U* a, long ar, long ak, const U* b, long bs, long depth, float* c, long cs, bool more) {
    long r = 0;
    for (; r + ROWS <= rows; r += ROWS) tile<ROWS, N>(a + r * ar, ar, ak, b, bs, depth, c + r * cs, cs, more);
    for (; r + 2 <= rows; r += 2) tile<2, N>(a + r * ar, ar, ak, b, bs, depth, c + r * cs, cs, more);
    if (r < rows) tile<1, N>(a + r * ar, ar, ak, b, bs, depth, c + r * cs, cs, more);
}

// c = a b, or c += a b. Element (r, k) of a is at r * ar + k * ak; b has rows of bs units; columns fill registers.
template <class U>
void multiply(long rows, long columns, long depth, const U* a, long ar, long ak, const U* b, long bs, float* c, long cs,
              bool more) {
    long n = 0;
    for (; n + WIDE * LANES <= columns; n += WIDE * LANES)
        strip<WIDE>(rows, a, ar, ak, b + n, bs, depth, c + n, cs, more);
    if (n + 2 * LANES <= columns) {
        strip<2>(rows, a, ar, ak, b + n, bs, depth, c + n, cs, more);
        n += 2 * LANES;
    }
    if (n < columns) strip<1>(rows, a, ar, ak, b + n, bs, depth, c + n, cs, more);
}

// One row as units along its columns.
inline void along(const float* x, float* y, long width) { std::memcpy(y, x, width * sizeof *x); }
inline void along(const bf16* x, float* y, long width) {
    for (long j = 0; j < width; j++) y[j] = wide(x[j]);
}
inline void along(const bf16* x, uint32_t* y, long width) { std::memcpy(y, x, width * sizeof *x); }

// Rows that follow each other as units: one row of floats, or a pair of rows side by side.
inline void down(const float* x, const float*, float* y, long width) { along(x, y, width); }
inline void down(const bf16* x, const bf16*, float* y, long width) { along(x, y, width); }
inline void down(const bf16* x, const bf16* next, uint32_t* y, long width) {
    for (long j = 0; j < width; j++) y[j] = x[j].bits | static_cast<uint32_t>(next ? next[j].bits : 0) << 16;
}

// Sums as units, along a row and down two of them.
inline void along(const float* x, uint32_t* y, long width) {
    auto halves = reinterpret_cast<bf16*>(y);
#pragma omp simd
    for (long j = 0; j < width; j++) narrow(x[j], halves[j]);
}
inline void down(const float* x, const float* next, uint32_t* y, long width) {
#pragma omp simd
    for (long j = 0; j < width; j++) {
        bf16 first, second = {0};
        narrow(x[j], first);
        if (next) narrow(next[j], second);
        y[j] = first.bits | static_cast<uint32_t>(second.bits) << 16;
    }
}

// Memory of a thread that is used again and again.
template <class U>
struct Room {
    std::vector<U> held;
    U* of(long size) {
        if (static_cast<long>(held.size()) < size) held.resize(size);
        return held.data();
    }
};

// Where an example's rows are: first those that all share, then its own.
struct Example {
    long rows, shared, start, first;  // first: of its queries; shared ones are answered once at most, by the first
    long sums;                        // where what it keeps begins
    long at(long row) const { return row < shared ? row : start + row - shared; }
};

std::vector<Example> examples(const int64_t* lengths, long count, long shared, bool known, long heads) {
    std::vector<Example> found;
    long start = shared, sums = 0;
    for (long e = 0; e < count; e++) {
        found.push_back({shared + lengths[e], shared, start, e || known ? shared : 0, sums});
        start += lengths[e];
        sums += heads * (shared + lengths[e]);
    }
    return found;
}

// The columns of some rows of a matrix in the two orders in which products read them.
template <class T>
struct Packed {
    using U = typename Units<T>::type;
    static constexpr long in_one = Units<T>::in_one;
    Room<U> room, row;

    // (width / in_one, padded): units along the columns, rows beside each other.
    const U* turned(const T* x, long xs, const Example& e, long width, long padded) {
        U *to = room.of(width / in_one * padded), *one = row.of(width / in_one);
        for (long r = 0; r < padded; r++) {
            if (r < e.rows) along(x + e.at(r) * xs, one, width);
            for (long k = 0; k < width / in_one; k++) to[k * padded + r] = r < e.rows ? one[k] : U{};
        }
        return to;
    }
    // (padded / in_one, width): units down the rows ``from`` to ``to``.
    const U* stacked(const T* x, long xs, const Example& e, long from, long to, long width, long padded) {
        U* made = room.of(padded / in_one * width);
        for (long r = 0; r < padded; r += in_one) {
            U* here = made + r / in_one * width;
            const T* next = in_one == 2 && from + r + 1 < to ? x + e.at(from + r + 1) * xs : nullptr;
            if (from + r < to)
                down(x + e.at(from + r) * xs, next, here, width);
            else
                std::memset(here, 0, width * sizeof(U));
        }
        return made;
    }
    // (to - from, width / in_one): units along the columns.
    const U* lying(const T* x, long xs, const Example& e, long from, long to, long width) {
        U* made = room.of((to - from) * width / in_one);
        for (long r = from; r < to; r++) along(x + e.at(r) * xs, made + (r - from) * width / in_one, width);
        return made;
    }
};

// Turns the scores of one query into exponentials, of what it may not see into zeros; returns the log of their sum,
// of which ``share`` is the inverse.
inline float exponentials(float* s, long seen, long reach, float scale, float& share) {
    float top = -std::numeric_limits<float>::infinity(), sum = 0;
    long full = rounded_up(seen, LANES);  // registers are filled, since a number alone takes as long as sixteen
    for (long j = seen; j < full; j++) s[j] = top;
#pragma omp simd reduction(max : top)
    for (long j = 0; j < full; j++) top = s[j] > top ? s[j] : top;
#pragma omp simd reduction(+ : sum)
    for (long j = 0; j < full; j++) {
        s[j] = exponential((s[j] - top) * scale);  // of what is not seen below 1e-37
        sum += s[j];
    }
    for (long j = seen; j < reach; j++) s[j] = 0;
    share = 1.0f / sum;
    return top * scale + std::log(sum);
}

template <class T>
const typename Units<T>::type* as_units(const float* s, long rows, long columns, long stride,
                                        Room<typename Units<T>::type>& room) {
    if constexpr (Units<T>::in_one == 1) {
        return s;
    } else {
        auto made = room.of(rows * stride / 2);
        for (long r = 0; r < rows; r++) along(s + r * stride, made + r * stride / 2, columns);
        return made;
    }
}

// Scores of ``rows`` queries as units down the queries: element (key, pair of queries) is at key + pair * stride.
template <class T>
const typename Units<T>::type* upright(const float* s, long rows, long columns, long stride,
                                       Room<typename Units<T>::type>& room) {
    if constexpr (Units<T>::in_one == 1) {
        return s;
    } else {
        auto made = room.of(rounded_up(rows, 2) / 2 * stride);
        for (long r = 0; r < rows; r += 2)
            down(s + r * stride, r + 1 < rows ? s + (r + 1) * stride : nullptr, made + r / 2 * stride, columns);
        return made;
    }
}

template <class T>
void attend(const T* qkv, long qs, T* out, long os, const int64_t* lengths, long count, long shared, long known,
            float* sums, float scale, long heads, long keys, long size) {
    using U = typename Units<T>::type;
    constexpr long in_one = Units<T>::in_one;
    auto all = examples(lengths, count, shared, known, heads);
#pragma omp parallel for schedule(dynamic)
    for (long task = 0; task < count * heads; task++) {
        static thread_local Packed<T> key_room, value_room, query_room;
        static thread_local Room<float> score_room, answer_room;
        static thread_local Room<U> unit_room;
        const Example& e = all[task / heads];
        long h = task % heads, g = h / (heads / keys), padded = rounded_up(e.rows, LANES);
        const T *k = qkv + (heads + g) * size, *v = k + keys * size;
        const U* turned = key_room.turned(k, qs, e, size, padded);
        const U* values = value_room.stacked(v, qs, e, 0, e.rows, size, padded);
        float *s = score_room.of(BLOCK * padded), *y = answer_room.of(BLOCK * size);
        for (long from = e.first; from < e.rows; from += BLOCK) {
            long to = from + BLOCK < e.rows ? from + BLOCK : e.rows, n = to - from, reach = rounded_up(to, LANES);
            const U* q = query_room.lying(qkv + h * size, qs, e, from, to, size);
            multiply(n, reach, size / in_one, q, size / in_one, 1, turned, padded, s, padded, false);
            float share[BLOCK];
            for (long r = 0; r < n; r++)
                sums[e.sums + h * e.rows + from + r] =
                    exponentials(s + r * padded, from + r + 1, reach, scale, share[r]);
            const U* p = as_units<T>(s, n, reach, padded, unit_room);
            multiply(n, size, reach / in_one, p, padded / in_one, 1, values, size, y, size, false);
            for (long r = 0; r < n; r++) {
                T* o = out + e.at(from + r) * os + h * size;
#pragma omp simd
                for (long j = 0; j < size; j++) narrow(y[r * size + j] * share[r], o[j]);
            }
        }
    }
}

// The rooms of a thread that goes backward.
template <class T>
struct Back {
    Packed<T> turned_keys, turned_values, stacked_keys, queries, stacked_queries, gradients, stacked_gradients;
    Room<float> scores, d_scores, dq, dk, dv;
    Room<typename Units<T>::type> units, upright, d_upright;
};

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
                multiply(n, reach, size / in_one, q, size / in_one, 1, turned_keys, padded, s, padded, false);
                multiply(n, reach, size / in_one, dy, size / in_one, 1, turned_values, padded, d, padded, false);
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
                multiply(n, size, reach / in_one, lying, padded / in_one, 1, stacked_keys, size, dq, size, false);
                for (long r = 0; r < n; r++) {
                    T* y = dqkv + e.at(from + r) * ds + h * size;
#pragma omp simd
                    for (long j = 0; j < size; j++) narrow(dq[r * size + j], y[j]);
                }
                auto down_p = upright<T>(s, n, reach, padded, rooms.upright);
                auto down_d = upright<T>(d, n, reach, padded, rooms.d_upright);
                auto down_dy = rooms.stacked_gradients.stacked(gradient, dos, e, from, to, size, even);
                auto down_q = rooms.stacked_queries.stacked(x, qs, e, from, to, size, even);
                multiply(reach, size, even / in_one, down_p, 1, padded, down_dy, size, dv, size, true);
                multiply(reach, size, even / in_one, down_d, 1, padded, down_q, size, dk, size, true);
            }
        float* kept = d_shared.data() + task * shared * 2 * size;
        for (long r = 0; r < e.rows; r++) {
            const float *one = dk + r * size, *two = dv + r * size;
            if (r < shared) {
                std::memcpy(kept + r * 2 * size, one, size * sizeof *one);
                std::memcpy(kept + r * 2 * size + size, two, size * sizeof *two);
                continue;
            }
            T *y = dqkv + e.at(r) * ds + (heads + g) * size, *z = y + keys * size;
#pragma omp simd
            for (long j = 0; j < size; j++) {
                narrow(one[j], y[j]);
                narrow(two[j], z[j]);
            }
        }
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
                                  long known, float* sums, float scale, long h, long k, long d) {                     \
        attend(qkv, qs, y, ys, lengths, n, shared, known, sums, scale, h, k, d);                                      \
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

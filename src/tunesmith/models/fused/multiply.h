// Products of small matrices whose sums are float, and the orders in which they read what they multiply.
//
// Every product is one function, ``multiply``: units of A, each broadcast, times rows of units of B. A unit is a float,
// or, where the processor multiplies two bfloat16 at once, a pair of them that follow each other in the sum.

#pragma once

#include "numbers.h"

namespace {

constexpr int ROWS = 6;     // of a tile of sums in registers
constexpr long FEW = ROWS;  // queries at a time, of which the last one alone looks at all keys that are multiplied
constexpr long BLOCK = 48;  // and on the way back, where keys gather what all say; even, since they come in pairs
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
    narrow(x, 1.0f, reinterpret_cast<bf16*>(y), width);
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

// known: the shared rows stand elsewhere, and ``at`` of one of them tells where there.
inline std::vector<Example> examples(const int64_t* lengths, long count, long shared, bool known, long heads) {
    std::vector<Example> found;
    long start = known ? 0 : shared, sums = 0;
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

    // Row r of an example; before: the shared ones, each of ``width``, where they stand elsewhere.
    static const T* of(const T* x, long xs, const Example& e, long r, const T* before, long width) {
        return before && r < e.shared ? before + r * width : x + e.at(r) * xs;
    }
    // (width / in_one, padded): units along the columns, rows beside each other.
    const U* turned(const T* x, long xs, const Example& e, long width, long padded, const T* before = nullptr) {
        U *to = room.of(width / in_one * padded), *one = row.of(width / in_one);
        for (long r = 0; r < padded; r++) {
            if (r < e.rows) along(of(x, xs, e, r, before, width), one, width);
            for (long k = 0; k < width / in_one; k++) to[k * padded + r] = r < e.rows ? one[k] : U{};
        }
        return to;
    }
    // (padded / in_one, width): units down the rows ``from`` to ``to``.
    const U* stacked(const T* x, long xs, const Example& e, long from, long to, long width, long padded,
                     const T* before = nullptr) {
        U* made = room.of(padded / in_one * width);
        for (long r = 0; r < padded; r += in_one) {
            U* here = made + r / in_one * width;
            const T* next = in_one == 2 && from + r + 1 < to ? of(x, xs, e, from + r + 1, before, width) : nullptr;
            if (from + r < to)
                down(of(x, xs, e, from + r, before, width), next, here, width);
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

// The rooms of a thread that goes backward.
template <class T>
struct Back {
    Packed<T> turned_keys, turned_values, stacked_keys, queries, stacked_queries, gradients, stacked_gradients;
    Room<float> scores, d_scores, dq, dk, dv;
    Room<typename Units<T>::type> units, upright, d_upright;
};

// Writes sums, one row after the other, into the columns of an example's rows ``from`` to ``to``.
template <class T>
void rows_out(const float* x, T* y, long ys, const Example& e, long from, long to, long size) {
    for (long r = from; r < to; r++) narrow(x + (r - from) * size, 1.0f, y + e.at(r) * ys, size);
}

}  // namespace

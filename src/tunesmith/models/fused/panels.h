// Panels: as many columns of a matrix as two registers hold, one unit of depth after the other.

#pragma once

#include <algorithm>

#include "multiply.h"

namespace {

constexpr int TALL = 14;  // rows of a tile: its 28 sums, two registers of weights and one of inputs are nearly all 32
constexpr int BROAD = 2;  // registers of columns
constexpr long PANEL = BROAD * LANES;
constexpr long SOON = 16;  // units of depth after which a line that is fetched is read

// Zeros that a compiler does not know to be zeros: those of many registers it would write into memory first.
inline lanes nothing() {
    lanes v{};
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#endif
    return v;
}

// Tells ``put`` of every sum of a tile, by name: of sums that a loop looks for, all lie in memory, from the beginning.
template <int R, int B, class F>
inline void each(const lanes (&sum)[R][B], F put) {
#pragma GCC unroll 14
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int n = 0; n < B; n++) put(r, n * LANES, sum[r][n]);
}

#if defined(__AVX512F__)
// At most sixteen rows of as many units, turned: what stands in column d of them goes to row d of ``to``.
// Pairs are put together, then pairs of pairs, and so on; a unit alone takes as long to move as a register.
template <class T, class U>
inline void turn(const T* from, long apart, long rows, long columns, U* to) {
    constexpr int near = 0x44, far = 0xEE, even = 0x88, odd = 0xDD;  // quarters of two registers
    __m512i a[LANES], b[LANES];
    auto mask = static_cast<__mmask16>((1u << columns) - 1);
    for (long r = 0; r < LANES; r++)
        a[r] = r < rows ? _mm512_maskz_loadu_epi32(mask, from + r * apart) : _mm512_setzero_si512();
    for (long r = 0; r < LANES; r += 2) {
        b[r] = _mm512_unpacklo_epi32(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_epi32(a[r], a[r + 1]);
    }
    for (long r = 0; r < LANES; r += 4)
        for (long i = 0; i < 2; i++) {
            a[r + 2 * i] = _mm512_unpacklo_epi64(b[r + i], b[r + i + 2]);
            a[r + 2 * i + 1] = _mm512_unpackhi_epi64(b[r + i], b[r + i + 2]);
        }
    for (long c = 0; c < 4; c++) {  // quarter q of a[4 * i + c] is column 4 * q + c of rows 4 * i and on
        auto one = _mm512_shuffle_i32x4(a[c], a[4 + c], near), two = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], near);
        auto three = _mm512_shuffle_i32x4(a[c], a[4 + c], far), four = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], far);
        b[c] = _mm512_shuffle_i32x4(one, two, even), b[4 + c] = _mm512_shuffle_i32x4(one, two, odd);
        b[8 + c] = _mm512_shuffle_i32x4(three, four, even), b[12 + c] = _mm512_shuffle_i32x4(three, four, odd);
    }
    for (long d = 0; d < columns; d++) _mm512_storeu_si512(to + d * PANEL, b[d]);
}
#endif

// Panel p of a matrix (n, k) whose rows become columns, (k, PANEL), zero beyond the last one; turned: of (k, n), whose
// columns stay columns. gates: a register of the first half of the rows and one of the second take turns; then n is a
// multiple of PANEL. The last unit may lack rows, which are zeros, where columns stay columns.
template <class T>
void write_panel(const T* w, long ws, bool turned, bool gates, long n, long k, long p, typename Units<T>::type* to) {
    using U = typename Units<T>::type;
    constexpr long one = Units<T>::in_one;
    long columns = std::min(PANEL, n - p * PANEL), depth = (k + one - 1) / one;
    if (!turned) {
        for (long b = 0; b < BROAD; b++) {
            const T* first = w + (gates ? p * LANES + b * (n / 2) : p * PANEL + b * LANES) * ws;
            long rows = std::min(LANES, columns - b * LANES);
            for (long d = 0; d < depth; d += LANES) {
                for (long r = 0; r < rows; r++) __builtin_prefetch(first + r * ws + (d + SOON) * one);
                turn(first + d * one, ws, rows, std::min(LANES, depth - d), to + d * PANEL + b * LANES);
            }
        }
        return;
    }
    for (long d = 0; d < depth; d++, to += PANEL) {
        const T* from = w + d * one * ws + p * PANEL;
        for (long i = 0; i < one; i++) __builtin_prefetch(from + (SOON * one + i) * ws);
        down(from, d * one + one > k ? nullptr : from + (one - 1) * ws, to, columns);
        for (long j = columns; j < PANEL; j++) to[j] = U{};
    }
}

// How ``work`` on each of some panels is shared out, in order: one panel after the other, of which the last, one for
// each thread, come in pieces, so that nobody waits for long at the end. A panel is made once more for each piece.
struct Shares {
    long whole, work, pieces, piece, count;

    Shares(long panels, long work, long threads) : whole(std::max(0L, panels - threads)), work(work) {
        pieces = std::clamp(work / 16, 1L, std::max(4L, 4 * threads / std::max(1L, panels)));
        piece = (work + pieces - 1) / pieces;
        count = whole + (panels - whole) * pieces;
    }
    long panel(long i) const { return i < whole ? i : whole + (i - whole) / pieces; }
    long from(long i) const { return i < whole ? 0 : (i - whole) % pieces * piece; }
    long to(long i) const { return i < whole ? work : std::min(work, from(i) + piece); }
};

}  // namespace

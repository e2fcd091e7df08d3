// Panels: as many columns of a matrix as two registers hold, one unit of depth after the other.

#pragma once

#include <algorithm>

#include "multiply.h"

namespace {

constexpr int TALL = 14;  // rows of a tile: its 28 sums, two registers of weights and one of inputs are nearly all 32
constexpr int BROAD = 2;  // registers of columns
constexpr long PANEL = BROAD * LANES;
constexpr long SOON = 16;  // units of depth after which a line that is fetched is read

// Panel p of a matrix (n, k) whose rows become columns, (k, PANEL), zero beyond the last one; turned: of (k, n), whose
// columns stay columns. gates: a register of the first half of the rows and one of the second take turns; then n is a
// multiple of PANEL. The last unit may lack rows, which are zeros, where columns stay columns.
template <class T>
void write_panel(const T* w, long ws, bool turned, bool gates, long n, long k, long p, typename Units<T>::type* to) {
    using U = typename Units<T>::type;
    constexpr long one = Units<T>::in_one;
    long columns = std::min(PANEL, n - p * PANEL);
    for (long d = 0; d < (k + one - 1) / one; d++, to += PANEL) {
        if (turned) {
            const T* from = w + d * one * ws + p * PANEL;
            for (long i = 0; i < one; i++) __builtin_prefetch(from + (SOON * one + i) * ws);
            down(from, d * one + one > k ? nullptr : from + (one - 1) * ws, to, columns);
        } else {
            for (long j = 0; j < columns; j++) {
                long row = gates ? p * LANES + j % LANES + j / LANES * (n / 2) : p * PANEL + j;
                std::memcpy(to + j, w + row * ws + d * one, sizeof(U));
            }
        }
        for (long j = columns; j < PANEL; j++) to[j] = U{};
    }
}

// Pieces in which ``work`` is shared out beside ``panels``, until no thread waits for long at the end.
inline long pieces_of(long panels, long most, long threads) {
    long pieces = 1;
    while (pieces < most && 32 * rounded_up(panels * pieces, threads) > 33 * panels * pieces) pieces++;
    return pieces;
}

}  // namespace

// Gradients of weights: those of outputs, turned, times inputs, in float. What earlier batches have left is added to.
//
// Both are read down their rows, which are the depth of this product: inputs as panels, and gradients of outputs in
// tiles of as many columns as are multiplied at once. A library would compile a program for each number of rows.

#include <omp.h>

#include "panels.h"

namespace {

constexpr long DEEP = 512;  // units of depth at a time, so that a panel of them stays near

// R columns of ``a``, (depth, TALL), turned, times the panel ``b``.
template <int R, class U>
void sums(const U* a, const U* b, long depth, float* y, long ys, long columns, bool more) {
    lanes sum[R][BROAD];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < BROAD; n++) {
            sum[r][n] = nothing();
            __builtin_prefetch(y + r * ys + n * LANES, 1);
        }
    for (long k = 0; k < depth; k++) {
        __builtin_prefetch(a + (k + SOON) * TALL);
        for (int r = 0; r < R; r++)
            for (int n = 0; n < BROAD; n++)
                sum[r][n] = multiply_add(sum[r][n], a[k * TALL + r], b + k * PANEL + n * LANES);
    }
    if (columns == PANEL && more)
        return each(sum, [&](int r, int n, lanes one) { store(load(y + r * ys + n) + one, y + r * ys + n); });
    if (columns == PANEL) return each(sum, [&](int r, int n, lanes one) { store(one, y + r * ys + n); });
    float found[R][PANEL];
    each(sum, [&](int r, int n, lanes one) { store(one, found[r] + n); });
    for (int r = 0; r < R; r++)
        for (long j = 0; j < columns; j++) y[r * ys + j] = more ? y[r * ys + j] + found[r][j] : found[r][j];
}

template <int R, class U>
void last(long count, const U* a, const U* b, long depth, float* y, long ys, long columns, bool more) {
    if (count == R) return sums<R>(a, b, depth, y, ys, columns, more);
    if constexpr (R > 1) last<R - 1>(count, a, b, depth, y, ys, columns, more);
}

// Two rows of (rows, n), or one of floats, as units of all tiles, which are ``apart``.
template <class T>
void to_tiles(const T* x, const T* next, long n, typename Units<T>::type* to, long apart) {
    static thread_local Room<typename Units<T>::type> room;
    auto row = room.of(n);
    down(x, next, row, n);
    long j = 0;
    for (; j + TALL <= n; j += TALL, to += apart) std::memcpy(to, row + j, TALL * sizeof *row);  // a size known before
    if (j < n) std::memcpy(to, row + j, (n - j) * sizeof *row);
}

// y = dy^T x, or more of it. dy: (rows, n); x: (rows, k).
template <class T>
void weight_gradient(const T* dy, long ds, const T* x, long xs, float* y, long ys, long rows, long n, long k,
                     bool more) {
    using U = typename Units<T>::type;
    constexpr long one = Units<T>::in_one;
    static thread_local Room<U> turned;  // of who calls; the others are told where it is
    long panels = (k + PANEL - 1) / PANEL, tiles = (n + TALL - 1) / TALL;
    Shares shares(panels, tiles, omp_get_max_threads());
    for (long first = 0; first < rows; first += DEEP * one, more = true) {
        long here = std::min(DEEP * one, rows - first), depth = (here + one - 1) / one;
        U* in_tiles = turned.of(tiles * depth * TALL);
#pragma omp parallel
        {
#pragma omp for
            for (long d = 0; d < depth; d++) {
                const T* row = dy + (first + d * one) * ds;
                to_tiles(row, d * one + one > here ? nullptr : row + (one - 1) * ds, n, in_tiles + d * TALL,
                         depth * TALL);
            }
#pragma omp for schedule(dynamic)
            for (long i = 0; i < shares.count; i++) {
                static thread_local Room<U> room;
                U* panel = room.of(depth * PANEL);
                long p = shares.panel(i), columns = std::min(PANEL, k - p * PANEL);
                write_panel(x + first * xs, xs, true, false, k, here, p, panel);
                for (long t = shares.from(i); t < shares.to(i); t++)
                    last<TALL>(std::min<long>(TALL, n - t * TALL), in_tiles + t * depth * TALL, panel, depth,
                               y + t * TALL * ys + p * PANEL, ys, columns, more);
            }
        }
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                              \
    extern "C" void weight_gradient_##NAME(const T* dy, long ds, const T* x, long xs, float* y, long ys, long rows, \
                                           long n, long k, long more) {                                             \
        weight_gradient(dy, ds, x, xs, y, ys, rows, n, k, more);                                                    \
    }

WITH_PANELS(EXPORT)

// Products of rows with weights in panels: as many columns as two registers hold, one unit of depth after the other.
//
// A tile of sums stays in registers for the whole depth. Weights that answers are written with were laid out once, and
// while a panel is multiplied the next one comes from memory: with few rows a library for large products waits for it.
// Of weights that learn each panel is made when it is wanted, which the rows of a batch are worth; a library would
// compile a program for each number of rows, and no two batches have the same.

#include <omp.h>

#include "panels.h"

namespace {

constexpr long NEAR = 1 << 19;  // bytes of inputs that stay in the cache of a core
constexpr long STEPS = 4;  // of depth, between which lines are fetched

// R rows of inputs times a panel, or times B registers of its columns. Rows are found from every third one, which leaves
// enough registers for places.
template <int R, int B, class T>
struct Tile {
    using U = typename Units<T>::type;
    static constexpr int thirds = (R + 2) / 3;
    lanes sum[R][B];
    const U* x[thirds];
    long apart;

    Tile(const T* from, long xs) : apart(xs / Units<T>::in_one) {
        for (int r = 0; r < R; r++)
            for (int n = 0; n < B; n++) sum[r][n] = nothing();
        for (int r = 0; r < thirds; r++) x[r] = reinterpret_cast<const U*>(from + 3 * r * xs);
    }
    void step(const U* w, long k) {
        for (int r = 0; r < R; r++) {
            U a;
            std::memcpy(&a, x[r / 3] + r % 3 * apart + k, sizeof a);
            for (int n = 0; n < B; n++) sum[r][n] = multiply_add(sum[r][n], a, w + k * PANEL + n * LANES);
        }
    }
    void run(const U* w, long depth, const char* ahead, long lines) {
        long k = 0;
        for (; k + STEPS <= depth; k += STEPS) {
            fetch(ahead, lines * LINE);
            ahead += lines * LINE;
            step(w, 0), step(w, 1), step(w, 2), step(w, 3);
            for (int r = 0; r < thirds; r++) x[r] += STEPS;
            w += STEPS * PANEL;
        }
        for (long j = 0; k < depth; k++, j++) step(w, j);
    }
    void write(const T* add, long adds, T* y, long ys, long columns, bool gates) {
        if (columns == B * LANES && !gates && add)
            return each(sum, [&](int r, int n, lanes one) { store(one + load(add + r * adds + n), y + r * ys + n); });
        if (columns == B * LANES && !gates)
            return each(sum, [&](int r, int n, lanes one) { store(one, y + r * ys + n); });
        float found[R][B * LANES];
        each(sum, [&](int r, int n, lanes one) { store(one, found[r] + n); });
        for (int r = 0; r < R; r++) {
            if constexpr (B == BROAD)
                if (gates) {
                    gated(found[r], y + r * ys);
                    continue;
                }
            for (long j = 0; j < columns; j++)
                narrow(add ? found[r][j] + wide(add[r * adds + j]) : found[r][j], y[r * ys + j]);
        }
    }
    static inline void gated(const float* sums, T* y) {
        T gate[LANES], up[LANES];
        float let[LANES];
        store(load(sums), gate);  // rounded here, as where they are written down
        store(load(sums + LANES), up);
#pragma omp simd
        for (long j = 0; j < LANES; j++) let[j] = silu(wide(gate[j])) * wide(up[j]);
        store(load(let), y);
    }
};

// What rows are multiplied by, what is added, where answers go, and what is fetched meanwhile: lines every few steps.
// gates: the first register of columns is a gate, the second what it scales, and one answer comes of two.
template <class T>
struct Panel {
    const typename Units<T>::type* weights;
    long depth, columns;
    const T *x, *add;
    T* y;
    long xs, adds, ys;
    const char* ahead;
    long lines;
    bool gates;

    template <int R, int B>
    void rows(long from) {
        for (int r = 0; r < R; r++) {  // what is written and added at the end is fetched at the beginning
            __builtin_prefetch(y + (from + r) * ys, 1);
            if (add) __builtin_prefetch(add + (from + r) * adds);
        }
        Tile<R, B, T> tile(x + from * xs, xs);
        tile.run(weights, depth, ahead, lines);
        tile.write(add ? add + from * adds : add, adds, y + from * ys, ys, columns, gates);
        ahead += lines * LINE * (depth / STEPS);
    }
    template <int R, int B>
    void last(long from, long count) {
        if (count == R) return rows<R, B>(from);
        if constexpr (R > 1) last<R - 1, B>(from, count);
    }
    template <int B>
    void broad(long from, long to) {
        for (; from + TALL <= to; from += TALL) rows<TALL, B>(from);
        if (from < to) last<TALL - 1, B>(from, to - from);
    }
    void all(long from, long to) { columns > LANES ? broad<BROAD>(from, to) : broad<1>(from, to); }
};

// y = x w, plus ``add`` if it is there. x: (rows, k), k a multiple of what is in a unit; w: as ``lay_out`` wrote it.
// gates: y = silu(gate) * up instead, half as wide as w, whose first half is the gate.
template <class T>
void product(const T* x, long xs, const typename Units<T>::type* w, const T* add, long adds, T* y, long ys, long rows,
             long n, long k, bool gates) {
    long panels = (n + PANEL - 1) / PANEL, apart = gates ? LANES : PANEL;
    long depth = k / Units<T>::in_one, size = depth * PANEL;
    long threads = omp_get_max_threads(), tiles = (rows + TALL - 1) / TALL;
    long chunks = std::max(1L, (rows * k * static_cast<long>(sizeof(T)) + NEAR - 1) / NEAR);
    long chunk = (tiles + chunks - 1) / chunks * TALL;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (long c = 0; c < chunks; c++)
        for (long p = 0; p < panels; p++) {
            long from = c * chunk, to = std::min(rows, from + chunk);
            long pauses = (to - from + TALL - 1) / TALL * (depth / STEPS);
            long lines = pauses && p + threads < panels ? (size * 4 / LINE + pauses - 1) / pauses : 0;
            // the others are at the panels between this one and what will be next here
            auto ahead = reinterpret_cast<const char*>(w + std::min(p + threads, panels - 1) * size);
            Panel<T> panel{w + p * size, depth, std::min(PANEL, n - p * PANEL), x, add ? add + p * apart : add,
                           y + p * apart, xs, adds, ys, ahead, lines, gates};
            panel.all(from, to);
        }
}

template <class T>
void lay_out(const T* w, long ws, typename Units<T>::type* y, long n, long k, bool gates) {
#pragma omp parallel for
    for (long p = 0; p < (n + PANEL - 1) / PANEL; p++)
        write_panel(w, ws, false, gates, n, k, p, y + p * (k / Units<T>::in_one) * PANEL);
}

// The same with a matrix that lies as it is: each panel is made by who multiplies it, by many rows.
template <class T>
void product_as_is(const T* x, long xs, const T* w, long ws, bool turned, const T* add, long adds, T* y, long ys,
                   long rows, long n, long k) {
    using U = typename Units<T>::type;
    long panels = (n + PANEL - 1) / PANEL, depth = k / Units<T>::in_one;
    Shares shares(panels, (rows + TALL - 1) / TALL, omp_get_max_threads());
#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < shares.count; i++) {
        static thread_local Room<U> room;
        U* made = room.of(depth * PANEL);
        long p = shares.panel(i);
        write_panel(w, ws, turned, false, n, k, p, made);
        Panel<T> panel{made, depth, std::min(PANEL, n - p * PANEL), x, add ? add + p * PANEL : add, y + p * PANEL,
                       xs, adds, ys, reinterpret_cast<const char*>(x), 0, false};
        panel.all(shares.from(i) * TALL, std::min(rows, shares.to(i) * TALL));
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                               \
    extern "C" void product_##NAME(const T* x, long xs, const Units<T>::type* w, const T* add, long adds, T* y,       \
                                   long ys, long rows, long n, long k, long gates) {                                  \
        product(x, xs, w, add, adds, y, ys, rows, n, k, gates);                                                       \
    }                                                                                                                 \
    extern "C" void product_as_is_##NAME(const T* x, long xs, const T* w, long ws, long turned, const T* add,         \
                                         long adds, T* y, long ys, long rows, long n, long k) {                       \
        product_as_is(x, xs, w, ws, turned, add, adds, y, ys, rows, n, k);                                            \
    }                                                                                                                 \
    extern "C" void lay_out_##NAME(const T* w, long ws, Units<T>::type* y, long n, long k, long gates) {              \
        lay_out(w, ws, y, n, k, gates);                                                                               \
    }                                                                                                                 \
    extern "C" long panel_##NAME() { return PANEL; }

WITH_PANELS(EXPORT)

// What answers are written with: a few rows at a time against all that was remembered.
//
// It waits for memory if nothing is done about it: every key and value is read once, and the sums of a tile of rows
// stay in registers meanwhile.

#include "numbers.h"

namespace {

// Keep a loaded register: a compiler would rather load it again for each product, and loads are what these wait for.
#if defined(__x86_64__) && defined(__AVX__)
#define HELD(v) asm("" : "+v"(v))
#else
#define HELD(v)
#endif

inline float total(const lanes& v) {
    float part[LANES];
    std::memcpy(part, &v, sizeof part);
    for (long half = LANES / 2; half; half /= 2)
        for (long l = 0; l < half; l++) part[l] += part[l + half];
    return part[0];
}

// R rows of x by C rows of w: y = x w^T. R * C sums stay in registers.
template <int R, int C, class T>
inline void tile(const T* x, long xs, const T* w, long ws, long width, float* y, long ys) {
    lanes sum[R][C] = {};
    long t = 0;
    for (; t + LANES <= width; t += LANES) {
        lanes a[R];
        for (int r = 0; r < R; r++) {
            a[r] = load(x + r * xs + t);
            HELD(a[r]);
        }
        for (int c = 0; c < C; c++) {
            lanes b = load(w + c * ws + t);
            HELD(b);
            for (int r = 0; r < R; r++) sum[r][c] += a[r] * b;
        }
    }
    for (int r = 0; r < R; r++) {
        for (int c = 0; c < C; c++) {
            float all = total(sum[r][c]);
            for (long u = t; u < width; u++) all += wide(x[r * xs + u]) * wide(w[c * ws + u]);
            y[r * ys + c] = all;
        }
    }
}

template <int R, class T>
inline void strip(const T* x, long xs, const T* w, long ws, long columns, long width, float* y,
                  long ys) {
    long c = 0;
    for (; c + 4 <= columns; c += 4) tile<R, 4>(x, xs, w + c * ws, ws, width, y + c, ys);
    for (; c < columns; c++) tile<R, 1>(x, xs, w + c * ws, ws, width, y + c, ys);
}

// y = x w^T for a few rows of w, which stay in the nearest cache while all rows of x pass by.
template <class T>
void product(const T* x, long xs, const T* w, long ws, float* y, long ys, long rows, long columns,
             long width) {
    for (long i = 0; i < rows; i += 3) {
        const T* from = x + i * xs;
        float* to = y + i * ys;
        if (rows - i >= 3)
            strip<3>(from, xs, w, ws, columns, width, to, ys);
        else if (rows - i == 2)
            strip<2>(from, xs, w, ws, columns, width, to, ys);
        else
            strip<1>(from, xs, w, ws, columns, width, to, ys);
    }
}

// Sums of R weighted rows of values, over C registers of their width.
template <int R, int C, class T>
inline void mix(const float* weight, long weights, const T* value, long vs, long length, float* y, long ys) {
    lanes sum[R][C] = {};
    for (long t = 0; t < length; t++) {
        lanes v[C];
        for (int c = 0; c < C; c++) {
            v[c] = load(value + t * vs + c * LANES);
            HELD(v[c]);
        }
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) sum[r][c] += weight[r * weights + t] * v[c];
    }
    for (int r = 0; r < R; r++)
        for (int c = 0; c < C; c++) std::memcpy(y + r * ys + c * LANES, &sum[r][c], sizeof(lanes));
}

template <int R, class T>
inline void mixed(const float* weight, long weights, const T* value, long vs, long length, long size, float* y) {
    long j = 0;
    for (; j + 2 * LANES <= size; j += 2 * LANES) mix<R, 2>(weight, weights, value + j, vs, length, y + j, size);
    for (; j + LANES <= size; j += LANES) mix<R, 1>(weight, weights, value + j, vs, length, y + j, size);
    for (; j < size; j++)
        for (int r = 0; r < R; r++) {
            float all = 0;
            for (long t = 0; t < length; t++) all += weight[r * weights + t] * wide(value[t * vs + j]);
            y[r * size + j] = all;
        }
}

// One new token of each slot attends to all that its slot remembers. K heads of keys and values, each read once for the
// queries that share it. keys, values: (K, positions, size), those of a slot from ``starts`` on; query:
// (slots, heads * size) with stride qs. sums, where there is one: (slots, heads), the log of the sum of exponentials.
template <class T>
void remember(const T* query, long qs, const T* keys, const T* values, const int64_t* starts, const int64_t* lengths,
              T* y, long ys, float* sums, float scale, long slots, long heads, long shared, long positions, long size) {
    long group = heads / shared;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (long i = 0; i < slots; i++) {
        for (long k = 0; k < shared; k++) {
            long first = (k * positions + starts[i]) * size, length = lengths[i];
            const T *key = keys + first, *value = values + first;
            std::vector<float> weight(group * length), sum(group * size);
            product(query + i * qs + k * group * size, size, key, size, weight.data(), length, group, length, size);
            for (long h = 0; h < group; h++) {
                float *w = weight.data() + h * length, top = -std::numeric_limits<float>::infinity(), all = 0;
                for (long t = 0; t < length; t++) top = w[t] > top ? w[t] : top;
#pragma omp simd reduction(+ : all)
                for (long t = 0; t < length; t++) {
                    w[t] = exponential(scale * (w[t] - top));
                    all += w[t];
                }
                for (long t = 0; t < length; t++) w[t] /= all;
                if (sums) sums[i * heads + k * group + h] = scale * top + std::log(all);
            }
            for (long h = 0; h < group; h += 3) {
                const float* w = weight.data() + h * length;
                float* to = sum.data() + h * size;
                if (group - h >= 3)
                    mixed<3>(w, length, value, size, length, size, to);
                else if (group - h == 2)
                    mixed<2>(w, length, value, size, length, size, to);
                else
                    mixed<1>(w, length, value, size, length, size, to);
            }
            T* out = y + i * ys + k * group * size;
            for (long j = 0; j < group * size; j++) narrow(sum[j], out[j]);
        }
    }
}

}  // namespace

#define EXPORT_REMEMBER(NAME, T)                                                                                      \
    extern "C" void remember_##NAME(const T* q, long qs, const T* k, const T* v, const int64_t* s, const int64_t* n,  \
                                    T* y, long ys, float* sums, float scale, long slots, long heads, long shared,     \
                                    long positions, long size) {                                                                      \
        remember(q, qs, k, v, s, n, y, ys, sums, scale, slots, heads, shared, positions, size);                       \
    }

EXPORT_REMEMBER(float, float)
EXPORT_REMEMBER(bf16, bf16)

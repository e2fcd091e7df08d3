// The passes over memory between the matrix products of a transformer layer, each as one pass.
//
// Rows are tokens. Every matrix is row-major with a row stride in elements, so that a result can be written into a
// part of a wider matrix. T is float or bf16; sums and exponentials are float. No torch headers: compiled in about two
// seconds, called through ctypes.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float wide(float x) { return x; }
inline float wide(bf16 x) {
    uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}
inline void narrow(float x, float& y) { y = x; }
inline void narrow(float x, bf16& y) {  // to the nearest, ties to even; not a number stays so
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    y.bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}

// e^x by range reduction to 2^n * e^r, |r| <= ln(2)/2, and a polynomial of degree 7; relative error below 3e-7.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float n = x * 1.44269504f;
    n = static_cast<float>(static_cast<int32_t>(n + (n < 0 ? -0.5f : 0.5f)));
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return p * scale;
}

template <class T>
void rms_norm(const T* x, long xs, const T* weight, float eps, T* y, long ys, float* inverse, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T* a = x + i * xs;
        T* b = y + i * ys;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < width; j++) sum += wide(a[j]) * wide(a[j]);
        float r = 1.0f / std::sqrt(sum / width + eps);
        inverse[i] = r;
#pragma omp simd
        for (long j = 0; j < width; j++) {
            T hat;
            narrow(wide(a[j]) * r, hat);  // rounded here, as transformers does
            narrow(wide(hat) * wide(weight[j]), b[j]);
        }
    }
}

// dx += the gradient that arrives through the norm.
template <class T>
void rms_norm_backward(const T* dy, long dys, const T* x, long xs, const T* weight, const float* inverse, T* dx,
                       long dxs, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T *g = dy + i * dys, *a = x + i * xs;
        T* d = dx + i * dxs;
        float r = inverse[i], sum = 0;
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < width; j++) sum += wide(g[j]) * wide(weight[j]) * wide(a[j]);
        float c = sum * r * r * r / width;
#pragma omp simd
        for (long j = 0; j < width; j++) narrow(wide(d[j]) + wide(g[j]) * wide(weight[j]) * r - wide(a[j]) * c, d[j]);
    }
}

// Rotates the pairs (j, j + size/2) of every head in place, by +angle or, for the backward pass, by -angle.
template <class T>
void rotate(T* x, long xs, const float* cosine, const float* sine, float sign, long rows, long heads, long size) {
    long half = size / 2;
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const float *c = cosine + i * half, *s = sine + i * half;
        for (long h = 0; h < heads; h++) {
            T *a = x + i * xs + h * size, *b = a + half;
#pragma omp simd
            for (long j = 0; j < half; j++) {
                float u = wide(a[j]), v = wide(b[j]), t = sign * s[j];
                narrow(u * c[j] - v * t, a[j]);
                narrow(v * c[j] + u * t, b[j]);
            }
        }
    }
}

template <class T>
void swiglu(const T* gate_up, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T *gate = gate_up + i * 2 * width, *up = gate + width;
        T* b = y + i * ys;
#pragma omp simd
        for (long j = 0; j < width; j++) {
            float g = wide(gate[j]);
            narrow(g / (1.0f + exponential(-g)) * wide(up[j]), b[j]);
        }
    }
}

// gate_up becomes its gradient; y is written again, since it is cheaper to compute than to keep.
template <class T>
void swiglu_backward(const T* dy, long dys, T* gate_up, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T* d = dy + i * dys;
        T *gate = gate_up + i * 2 * width, *up = gate + width, *b = y + i * ys;
#pragma omp simd
        for (long j = 0; j < width; j++) {
            float g = wide(gate[j]), u = wide(up[j]), e = wide(d[j]);
            float s = 1.0f / (1.0f + exponential(-g));
            float silu = g * s;
            narrow(silu * u, b[j]);
            narrow(e * u * (s + silu * (1.0f - s)), gate[j]);
            narrow(e * silu, up[j]);
        }
    }
}

// gelu(gate) * up, with the tanh form of gelu; 1 + tanh(z) is 2 - 2 / (e^2z + 1).
inline float one_plus_tanh(float x) {
    float z = 0.7978845608f * (x + 0.044715f * x * x * x);
    return 2.0f - 2.0f / (exponential(2.0f * z) + 1.0f);
}

template <class T>
void geglu(const T* gate_up, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T *gate = gate_up + i * 2 * width, *up = gate + width;
        T* b = y + i * ys;
#pragma omp simd
        for (long j = 0; j < width; j++) {
            float g = wide(gate[j]);
            narrow(0.5f * g * one_plus_tanh(g) * wide(up[j]), b[j]);
        }
    }
}

// As swiglu_backward.
template <class T>
void geglu_backward(const T* dy, long dys, T* gate_up, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T* d = dy + i * dys;
        T *gate = gate_up + i * 2 * width, *up = gate + width, *b = y + i * ys;
#pragma omp simd
        for (long j = 0; j < width; j++) {
            float g = wide(gate[j]), u = wide(up[j]), e = wide(d[j]);
            float t = one_plus_tanh(g);
            float gelu = 0.5f * g * t;
            float slope = 0.5f * t + 0.5f * g * t * (2.0f - t) * 0.7978845608f * (1.0f + 0.134145f * g * g);
            narrow(gelu * u, b[j]);
            narrow(e * u * slope, gate[j]);
            narrow(e * gelu, up[j]);
        }
    }
}

// As many numbers as a register holds.
#if defined(__AVX512F__)
constexpr long LANES = 16;
#else
constexpr long LANES = 8;
#endif
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

inline lanes load(const float* at) {
    lanes v;
    std::memcpy(&v, at, sizeof v);
    return v;
}
inline lanes load(const bf16* at) {
    halves h;
    std::memcpy(&h, at, sizeof h);
    words bits = __builtin_convertvector(h, words) << 16;
    lanes v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

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

// R rows of x by C rows of w: y = x w^T, plus ``add`` where there is one. R * C sums stay in registers.
template <int R, int C, class T>
inline void tile(const T* x, long xs, const T* w, long ws, long width, const float* add, long as, float* y, long ys) {
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
            y[r * ys + c] = add ? all + add[r * as + c] : all;
        }
    }
}

template <int R, class T>
inline void strip(const T* x, long xs, const T* w, long ws, long columns, long width, const float* add, long as,
                  float* y, long ys) {
    long c = 0;
    for (; c + 4 <= columns; c += 4) tile<R, 4>(x, xs, w + c * ws, ws, width, add ? add + c : add, as, y + c, ys);
    for (; c < columns; c++) tile<R, 1>(x, xs, w + c * ws, ws, width, add ? add + c : add, as, y + c, ys);
}

// y = x w^T + add for a few rows of w, which stay in the nearest cache while all rows of x pass by.
template <class T>
void product(const T* x, long xs, const T* w, long ws, const float* add, long as, float* y, long ys, long rows,
             long columns, long width) {
    for (long i = 0; i < rows; i += 3) {
        const T* from = x + i * xs;
        const float* more = add ? add + i * as : add;
        float* to = y + i * ys;
        if (rows - i >= 3)
            strip<3>(from, xs, w, ws, columns, width, more, as, to, ys);
        else if (rows - i == 2)
            strip<2>(from, xs, w, ws, columns, width, more, as, to, ys);
        else
            strip<1>(from, xs, w, ws, columns, width, more, as, to, ys);
    }
}

// A product of a few rows with a large matrix: every row of w comes from memory once.
void few_rows(const float* x, long xs, const float* w, long ws, const float* add, long as, float* y, long ys,
              long rows, long out, long width) {
    constexpr long AT_ONCE = 8;
#pragma omp parallel for
    for (long c = 0; c < out; c += AT_ONCE) {
        long columns = out - c < AT_ONCE ? out - c : AT_ONCE;
        product(x, xs, w + c * ws, ws, add ? add + c : add, as, y + c, ys, rows, columns, width);
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
// (slots, heads * size) with stride qs.
template <class T>
void remember(const T* query, long qs, const T* keys, const T* values, const int64_t* starts, const int64_t* lengths,
              T* y, long ys, float scale, long slots, long heads, long shared, long positions, long size) {
    long group = heads / shared;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (long i = 0; i < slots; i++) {
        for (long k = 0; k < shared; k++) {
            long first = (k * positions + starts[i]) * size, length = lengths[i];
            const T *key = keys + first, *value = values + first;
            std::vector<float> weight(group * length), sum(group * size);
            product(query + i * qs + k * group * size, size, key, size, static_cast<const float*>(nullptr), 0,
                    weight.data(), length, group, length, size);
            for (long h = 0; h < group; h++) {
                float *w = weight.data() + h * length, top = -std::numeric_limits<float>::infinity(), all = 0;
                for (long t = 0; t < length; t++) top = w[t] > top ? w[t] : top;
#pragma omp simd reduction(+ : all)
                for (long t = 0; t < length; t++) {
                    w[t] = exponential(scale * (w[t] - top));
                    all += w[t];
                }
                for (long t = 0; t < length; t++) w[t] /= all;
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

// Per row: loss = logsumexp(x) - x[label]; x becomes softmax(x) - one_hot(label), the gradient of that.
template <class T>
void cross_entropy(T* x, const int64_t* labels, float* loss, long rows, long width) {
#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < rows; i++) {
        T* a = x + i * width;
        float top = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma omp simd reduction(max : top)
        for (long j = 0; j < width; j++) top = wide(a[j]) > top ? wide(a[j]) : top;
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < width; j++) sum += exponential(wide(a[j]) - top);
        float all = top + std::log(sum);
        loss[i] = all - wide(a[labels[i]]);
        float share = 1.0f / sum;
#pragma omp simd
        for (long j = 0; j < width; j++) narrow(exponential(wide(a[j]) - top) * share, a[j]);
        narrow(wide(a[labels[i]]) - 1.0f, a[labels[i]]);
    }
}

// A well mixed number for each number (Wellons 2018, "Prospecting for Hash Functions": lowbias32).
inline uint32_t mixed(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}

// Dropout: x is multiplied by 0 where the number of its place is below the limit, and elsewhere by scale. Numbers are
// those of seed, row and column, so that the same call draws the same mask again.
template <class T>
void drop(T* x, long xs, uint32_t seed, uint32_t more, uint32_t limit, float scale, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        T* a = x + i * xs;
        uint32_t row = mixed(mixed(static_cast<uint32_t>(i) + seed) ^ more);
#pragma omp simd
        for (long j = 0; j < width; j++) {
            float factor = mixed(static_cast<uint32_t>(j) + row) < limit ? 0.0f : scale;
            narrow(wide(a[j]) * factor, a[j]);
        }
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                               \
    extern "C" void rms_norm_##NAME(const T* x, long xs, const T* w, float eps, T* y, long ys, float* r, long n,      \
                                    long d) {                                                                         \
        rms_norm(x, xs, w, eps, y, ys, r, n, d);                                                                      \
    }                                                                                                                 \
    extern "C" void rms_norm_backward_##NAME(const T* dy, long dys, const T* x, long xs, const T* w, const float* r,  \
                                             T* dx, long dxs, long n, long d) {                                       \
        rms_norm_backward(dy, dys, x, xs, w, r, dx, dxs, n, d);                                                       \
    }                                                                                                                 \
    extern "C" void rotate_##NAME(T* x, long xs, const float* c, const float* s, float sign, long n, long h, long d) {\
        rotate(x, xs, c, s, sign, n, h, d);                                                                           \
    }                                                                                                                 \
    extern "C" void swiglu_##NAME(const T* gu, T* y, long ys, long n, long d) { swiglu(gu, y, ys, n, d); }            \
    extern "C" void swiglu_backward_##NAME(const T* dy, long dys, T* gu, T* y, long ys, long n, long d) {             \
        swiglu_backward(dy, dys, gu, y, ys, n, d);                                                                    \
    }                                                                                                                 \
    extern "C" void geglu_##NAME(const T* gu, T* y, long ys, long n, long d) { geglu(gu, y, ys, n, d); }              \
    extern "C" void geglu_backward_##NAME(const T* dy, long dys, T* gu, T* y, long ys, long n, long d) {              \
        geglu_backward(dy, dys, gu, y, ys, n, d);                                                                     \
    }                                                                                                                 \
    extern "C" void drop_##NAME(T* x, long xs, uint32_t seed, uint32_t more, uint32_t limit, float scale, long n,     \
                                long d) {                                                                             \
        drop(x, xs, seed, more, limit, scale, n, d);                                                                  \
    }                                                                                                                 \
    extern "C" void cross_entropy_##NAME(T* x, const int64_t* labels, float* loss, long n, long d) {                  \
        cross_entropy(x, labels, loss, n, d);                                                                         \
    }

#define EXPORT_REMEMBER(NAME, T)                                                                                      \
    extern "C" void remember_##NAME(const T* q, long qs, const T* k, const T* v, const int64_t* s, const int64_t* n,  \
                                    T* y, long ys, float scale, long slots, long heads, long shared, long positions,  \
                                    long size) {                                                                      \
        remember(q, qs, k, v, s, n, y, ys, scale, slots, heads, shared, positions, size);                             \
    }

extern "C" void few_rows_float(const float* x, long xs, const float* w, long ws, const float* add, long as, float* y,
                               long ys, long rows, long out, long width) {
    few_rows(x, xs, w, ws, add, as, y, ys, rows, out, width);
}

EXPORT(float, float)
EXPORT(bf16, bf16)
EXPORT_REMEMBER(float, float)
EXPORT_REMEMBER(bf16, bf16)

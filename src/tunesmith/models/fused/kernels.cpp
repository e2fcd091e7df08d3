// The passes over memory between the matrix products of a transformer layer, each as one pass.
//
// Rows are tokens. Every matrix is row-major with a row stride in elements, so that a result can be written into a
// part of a wider matrix. No torch headers: compiled in a few seconds, called through ctypes.

#include "numbers.h"

namespace {

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
void swiglu(const T* gate_up, long gs, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T *gate = gate_up + i * gs, *up = gate + width;
        T* b = y + i * ys;
#pragma omp simd
        for (long j = 0; j < width; j++) narrow(silu(wide(gate[j])) * wide(up[j]), b[j]);
    }
}

// gate_up becomes its gradient; y is written again, since it is cheaper to compute than to keep.
template <class T>
void swiglu_backward(const T* dy, long dys, T* gate_up, long gs, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T* d = dy + i * dys;
        T *gate = gate_up + i * gs, *up = gate + width, *b = y + i * ys;
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
void geglu(const T* gate_up, long gs, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T *gate = gate_up + i * gs, *up = gate + width;
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
void geglu_backward(const T* dy, long dys, T* gate_up, long gs, T* y, long ys, long rows, long width) {
#pragma omp parallel for
    for (long i = 0; i < rows; i++) {
        const T* d = dy + i * dys;
        T *gate = gate_up + i * gs, *up = gate + width, *b = y + i * ys;
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
    extern "C" void swiglu_##NAME(const T* gu, long gs, T* y, long ys, long n, long d) { swiglu(gu, gs, y, ys, n, d); }\
    extern "C" void swiglu_backward_##NAME(const T* dy, long dys, T* gu, long gs, T* y, long ys, long n, long d) {    \
        swiglu_backward(dy, dys, gu, gs, y, ys, n, d);                                                                \
    }                                                                                                                 \
    extern "C" void geglu_##NAME(const T* gu, long gs, T* y, long ys, long n, long d) { geglu(gu, gs, y, ys, n, d); } \
    extern "C" void geglu_backward_##NAME(const T* dy, long dys, T* gu, long gs, T* y, long ys, long n, long d) {     \
        geglu_backward(dy, dys, gu, gs, y, ys, n, d);                                                                 \
    }                                                                                                                 \
    extern "C" void drop_##NAME(T* x, long xs, uint32_t seed, uint32_t more, uint32_t limit, float scale, long n,     \
                                long d) {                                                                             \
        drop(x, xs, seed, more, limit, scale, n, d);                                                                  \
    }                                                                                                                 \
    extern "C" void cross_entropy_##NAME(T* x, const int64_t* labels, float* loss, long n, long d) {                  \
        cross_entropy(x, labels, loss, n, d);                                                                         \
    }

EXPORT(float, float)
EXPORT(bf16, bf16)

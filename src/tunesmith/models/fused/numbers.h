// Number formats, and what all kernels share. T is float or bf16; sums and exponentials are float.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

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

// a or b. Of ``which ? a : b`` with a constant a, compilers make two ways through all that follows; a loop over whole
// registers then takes both, divisions included.
inline float chosen(bool which, float a, float b) {
    uint32_t first, second, mask = -static_cast<uint32_t>(which);
    std::memcpy(&first, &a, 4);
    std::memcpy(&second, &b, 4);
    uint32_t bits = (first & mask) | (second & ~mask);
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}

// e^x by range reduction to 2^n * e^r, |r| <= ln(2)/2, and a polynomial of degree 7; relative error below 3e-7.
//
// Written so that each line is one instruction for a whole register: limits that a number that is none passes by, and
// n in the last bits of a float so large that it has no others.
inline float exponential(float x) {
    constexpr float large = 12582912.0f;  // 1.5 * 2^23
    x = chosen(x < -87.0f, -87.0f, chosen(x > 88.0f, 88.0f, x));
    float shifted = x * 1.44269504f + large, n = shifted - large;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits;
    std::memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + (127u << 23);
    float scale;
    std::memcpy(&scale, &bits, 4);
    return p * scale;
}

inline float silu(float x) { return x / (1.0f + exponential(-x)); }

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

inline void store(lanes v, float* at) { std::memcpy(at, &v, sizeof v); }
inline void store(lanes v, bf16* at) {
#if defined(__AVX512BF16__)  // one instruction; what is below 2^-126 becomes 0
    auto h = _mm512_cvtneps_pbh((__m512)v);
    std::memcpy(at, &h, sizeof h);
#else
    float x[LANES];
    std::memcpy(x, &v, sizeof v);
#pragma omp simd
    for (long j = 0; j < LANES; j++) narrow(x[j], at[j]);
#endif
}

// A row of sums, times a factor, as T.
template <class T>
inline void narrow(const float* x, float factor, T* y, long width) {
    long j = 0;
    for (; j + LANES <= width; j += LANES) store(load(x + j) * factor, y + j);
    for (; j < width; j++) narrow(x[j] * factor, y[j]);
}

// Number formats in which weights lie in panels: where that was measured, and oneDNN has no matrix units for it.
#if !defined(__AVX512F__)
#define WITH_PANELS(EXPORT)
#elif defined(__AVX512BF16__) && !defined(__AMX_BF16__)
#define WITH_PANELS(EXPORT) EXPORT(float, float) EXPORT(bf16, bf16)
#else
#define WITH_PANELS(EXPORT) EXPORT(float, float)
#endif

// Ask for memory that will be read soon, while there is something else to do.
constexpr long LINE = 64;  // bytes that memory gives at once
inline void fetch(const void* from, long bytes) {
    for (long i = 0; i < bytes; i += LINE) __builtin_prefetch(static_cast<const char*>(from) + i, 0, 2);
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

}  // namespace

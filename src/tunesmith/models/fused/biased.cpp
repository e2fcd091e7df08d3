// Attention with a learned bias for each distance between two tokens, forward and backward (Raffel and others 2020).
//
// Examples lie end to end. Queries may look at keys of their own row or of another one. The weights of a block of
// queries are computed once more on the way back, and so are the random masks.

#include "multiply.h"

namespace {

// What queries look at, and how: everything but the matrices.
template <class T>
struct Looking {
    const T* bias;  // (heads, longest, longest); null: none
    long longest, causal;
    const uint64_t* seeds;  // of the mask of each example; null: no dropout
    uint32_t limit;
    float scale;  // of what is left
    long heads, size;
};

struct Pair {
    Example queries, keys;
};

std::vector<Pair> pairs(const int64_t* queries, const int64_t* keys, long count) {
    std::vector<Pair> found;
    long q = 0, k = 0;
    for (long e = 0; e < count; q += queries[e], k += keys[e], e++)
        found.push_back({{queries[e], 0, q, 0, 0}, {keys[e], 0, k, 0, 0}});
    return found;
}

// By what the mask multiplies the weight of key j; ``row`` is that of a query.
template <class T>
inline float kept(const Looking<T>& how, uint32_t row, long j) {
    return mixed(static_cast<uint32_t>(j) + row) < how.limit ? 0.0f : how.scale;
}

template <class T>
inline uint32_t mask_row(const Looking<T>& how, long e, long row) {  // as ``drop`` numbers rows
    auto seed = how.seeds[e];
    return mixed(mixed(static_cast<uint32_t>(row) + static_cast<uint32_t>(seed)) ^ static_cast<uint32_t>(seed >> 32));
}

// Turns scores of query i into weights, zeros beyond what it sees.
template <class T>
inline void weigh(const Looking<T>& how, float* s, long h, long i, long keys, long reach) {
    long seen = how.causal ? i + 1 : keys;
    if (how.bias) {
        const T* b = how.bias + (h * how.longest + i) * how.longest;
#pragma omp simd
        for (long j = 0; j < seen; j++) s[j] += wide(b[j]);
    }
    float share;
    exponentials(s, seen, reach, 1.0f, share);
#pragma omp simd
    for (long j = 0; j < reach; j++) s[j] *= share;
}

template <class T>
void attend_biased(const T* q, long qs, const T* k, long ks, const T* v, long vs, T* out, long os,
                   const std::vector<Pair>& all, const Looking<T>& how) {
    using U = typename Units<T>::type;
    constexpr long in_one = Units<T>::in_one;
    long tasks = static_cast<long>(all.size()) * how.heads, size = how.size;
#pragma omp parallel for schedule(dynamic)
    for (long task = 0; task < tasks; task++) {
        static thread_local Packed<T> key_room, value_room, query_room;
        static thread_local Room<float> score_room, answer_room;
        static thread_local Room<U> unit_room;
        long e = task / how.heads, h = task % how.heads, column = h * size;
        const Example &mine = all[e].queries, &theirs = all[e].keys;
        long padded = rounded_up(theirs.rows, LANES);
        const U* turned = key_room.turned(k + column, ks, theirs, size, padded);
        const U* values = value_room.stacked(v + column, vs, theirs, 0, theirs.rows, size, padded);
        float *s = score_room.of(BLOCK * padded), *y = answer_room.of(BLOCK * size);
        for (long from = 0; from < mine.rows; from += BLOCK) {
            long to = from + BLOCK < mine.rows ? from + BLOCK : mine.rows, n = to - from;
            long reach = how.causal ? rounded_up(to, LANES) : padded;
            const U* x = query_room.lying(q + column, qs, mine, from, to, size);
            multiply(n, reach, size / in_one, x, size / in_one, 1, turned, padded, s, padded, false);
            for (long r = 0; r < n; r++) {
                float* p = s + r * padded;
                weigh(how, p, h, from + r, theirs.rows, reach);
                if (how.seeds) {
                    uint32_t row = mask_row(how, e, h * mine.rows + from + r);
#pragma omp simd
                    for (long j = 0; j < reach; j++) p[j] *= kept(how, row, j);
                }
            }
            const U* p = as_units<T>(s, n, reach, padded, unit_room);
            multiply(n, size, reach / in_one, p, padded / in_one, 1, values, size, y, size, false);
            rows_out(y, out + column, os, mine, from, to, size);
        }
    }
}

// Weights ``s`` and their gradients ``d`` to masked weights, and the gradients of scores.
template <class T>
inline void weigh_back(const Looking<T>& how, float* s, float* d, long e, long row, long reach, float* bias_gradient) {
    float sum = 0;
    uint32_t number = how.seeds ? mask_row(how, e, row) : 0;
    if (how.seeds)
#pragma omp simd
        for (long j = 0; j < reach; j++) d[j] *= kept(how, number, j);
#pragma omp simd reduction(+ : sum)
    for (long j = 0; j < reach; j++) sum += s[j] * d[j];
#pragma omp simd
    for (long j = 0; j < reach; j++) d[j] = s[j] * (d[j] - sum);
    if (bias_gradient)
        for (long j = 0; j < reach && j < how.longest; j++) bias_gradient[j] += d[j];
    if (how.seeds)
#pragma omp simd
        for (long j = 0; j < reach; j++) s[j] *= kept(how, number, j);
}

// The gradients of one head of one example.
template <class T>
void one_back(const T* dout, long dos, const T* q, long qs, const T* k, long ks, const T* v, long vs, T* dq, long dqs,
              T* dk, long dks, T* dv, long dvs, float* bias_gradient, const Pair& pair, long e, long h,
              const Looking<T>& how) {
    static thread_local Back<T> rooms;
    constexpr long in_one = Units<T>::in_one;
    const Example &mine = pair.queries, &theirs = pair.keys;
    long size = how.size, column = h * size, padded = rounded_up(theirs.rows, LANES);
    const T *query = q + column, *gradient = dout + column;
    auto turned_keys = rooms.turned_keys.turned(k + column, ks, theirs, size, padded);
    auto turned_values = rooms.turned_values.turned(v + column, vs, theirs, size, padded);
    auto stacked_keys = rooms.stacked_keys.stacked(k + column, ks, theirs, 0, theirs.rows, size, padded);
    float *s = rooms.scores.of(BLOCK * padded), *d = rooms.d_scores.of(BLOCK * padded);
    float *x = rooms.dq.of(BLOCK * size), *y = rooms.dk.of(padded * size), *z = rooms.dv.of(padded * size);
    std::memset(y, 0, padded * size * sizeof *y);
    std::memset(z, 0, padded * size * sizeof *z);
    for (long from = 0; from < mine.rows; from += BLOCK) {
        long to = from + BLOCK < mine.rows ? from + BLOCK : mine.rows, n = to - from, even = rounded_up(n, in_one);
        long reach = how.causal ? rounded_up(to, LANES) : padded;
        auto lying_q = rooms.queries.lying(query, qs, mine, from, to, size);
        auto lying_dy = rooms.gradients.lying(gradient, dos, mine, from, to, size);
        multiply(n, reach, size / in_one, lying_q, size / in_one, 1, turned_keys, padded, s, padded, false);
        multiply(n, reach, size / in_one, lying_dy, size / in_one, 1, turned_values, padded, d, padded, false);
        for (long r = 0; r < n; r++) {
            float* of_bias = bias_gradient ? bias_gradient + (h * how.longest + from + r) * how.longest : nullptr;
            weigh(how, s + r * padded, h, from + r, theirs.rows, reach);
            weigh_back(how, s + r * padded, d + r * padded, e, h * mine.rows + from + r, reach, of_bias);
        }
        auto lying = as_units<T>(d, n, reach, padded, rooms.units);
        multiply(n, size, reach / in_one, lying, padded / in_one, 1, stacked_keys, size, x, size, false);
        rows_out(x, dq + column, dqs, mine, from, to, size);
        auto down_p = upright<T>(s, n, reach, padded, rooms.upright);
        auto down_d = upright<T>(d, n, reach, padded, rooms.d_upright);
        auto down_dy = rooms.stacked_gradients.stacked(gradient, dos, mine, from, to, size, even);
        auto down_q = rooms.stacked_queries.stacked(query, qs, mine, from, to, size, even);
        multiply(reach, size, even / in_one, down_p, 1, padded, down_dy, size, z, size, true);
        multiply(reach, size, even / in_one, down_d, 1, padded, down_q, size, y, size, true);
    }
    rows_out(y, dk + column, dks, theirs, 0, theirs.rows, size);
    rows_out(z, dv + column, dvs, theirs, 0, theirs.rows, size);
}

template <class T>
void attend_biased_backward(const T* dout, long dos, const T* q, long qs, const T* k, long ks, const T* v, long vs,
                            T* dq, long dqs, T* dk, long dks, T* dv, long dvs, const std::vector<Pair>& all,
                            float* bias_gradient, const Looking<T>& how) {
    // Examples add to the same gradient of the bias, so that where it is wanted those of a head follow each other.
    long count = static_cast<long>(all.size()), at_once = bias_gradient ? 1 : count;
#pragma omp parallel for schedule(dynamic)
    for (long task = 0; task < at_once * how.heads; task++) {
        long first = task / how.heads, end = bias_gradient ? count : first + 1;
        for (long e = first; e < end; e++)
            one_back(dout, dos, q, qs, k, ks, v, vs, dq, dqs, dk, dks, dv, dvs, bias_gradient, all[e], e,
                     task % how.heads, how);
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                               \
    extern "C" void attend_biased_##NAME(                                                                             \
        const T* q, long qs, const T* k, long ks, const T* v, long vs, T* y, long ys, const int64_t* queries,         \
        const int64_t* keys, long n, const T* bias, long longest, long causal, const uint64_t* seeds, uint32_t limit, \
        float scale, long h, long d) {                                                                                \
        attend_biased<T>(q, qs, k, ks, v, vs, y, ys, pairs(queries, keys, n),                                         \
                         {bias, longest, causal, seeds, limit, scale, h, d});                                         \
    }                                                                                                                 \
    extern "C" void attend_biased_backward_##NAME(                                                                    \
        const T* dy, long dys, const T* q, long qs, const T* k, long ks, const T* v, long vs, T* dq, long dqs, T* dk, \
        long dks, T* dv, long dvs, const int64_t* queries, const int64_t* keys, long n, float* db, const T* bias,     \
        long longest, long causal, const uint64_t* seeds, uint32_t limit, float scale, long h, long d) {              \
        attend_biased_backward<T>(dy, dys, q, qs, k, ks, v, vs, dq, dqs, dk, dks, dv, dvs, pairs(queries, keys, n),   \
                                  db, {bias, longest, causal, seeds, limit, scale, h, d});                            \
    }

EXPORT(float, float)
#if !defined(__AMX_BF16__)  // whose matrix units torch uses, and these do not
EXPORT(bf16, bf16)
#endif

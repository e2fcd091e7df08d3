// One new token of each slot through all layers of a causal model, in one call: where tokens are few, telling a
// processor the parts of a layer one by one takes as long as they do.

#include "numbers.h"

namespace {

// The parts, compiled elsewhere; matrices are told by where they begin and how far apart their rows are.
struct Parts {
    long bytes;  // of a number
    void (*norm)(const void*, long, const void*, float, void*, long, float*, long, long);
    void (*product)(const void*, long, const void*, const void*, long, void*, long, long, long, long, long);
    void (*rotate)(void*, long, const float*, const float*, float, long, long, long);
    void (*keep)(const void*, long, const int64_t*, void*, void*, long, long, long, long);
    void (*remember)(const void*, long, const void*, const void*, const int64_t*, const int64_t*, long, void*, long,
                     float, long, long, long, long, long);
};

// One layer, in the order in which ``stepping.py`` tells it; ``bias`` may be missing.
struct Layer {
    const void *first, *qkv, *bias, *output, *second, *gate_up, *down;
    void *keys, *values;
};

struct Shape {
    long layers, width, inner, heads, shared, size, positions;
};

// Where the new tokens stand, and what their slots remember; see ``remember``.
struct Places {
    const float *cosine, *sine;
    const int64_t *here, *starts, *lengths;
    long prefix;
};

// x: (rows, width), becomes what leaves the last layer. room: for each row all that a layer makes on its way; rms: (rows).
void step(const Parts& run, const Layer* layers, const Shape& s, char* x, const Places& at, long rows, float eps,
          float scale, char* room, float* rms) {
    long queries = s.heads * s.size, all = queries + 2 * s.shared * s.size;
    auto next = [&](long columns) {
        char* here = room;
        room += rows * columns * run.bytes;
        return here;
    };
    char *h = next(s.width), *qkv = next(all), *attended = next(queries), *middle = next(s.width), *act = next(s.inner);
    for (const Layer* one = layers; one < layers + s.layers; one++) {
        run.norm(x, s.width, one->first, eps, h, s.width, rms, rows, s.width);
        run.product(h, s.width, one->qkv, one->bias, 0, qkv, all, rows, all, s.width, false);
        run.rotate(qkv, all, at.cosine, at.sine, 1.0f, rows, s.heads + s.shared, s.size);
        run.keep(qkv + queries * run.bytes, all, at.here, one->keys, one->values, rows, s.shared, s.positions, s.size);
        run.remember(qkv, all, one->keys, one->values, at.starts, at.lengths, at.prefix, attended, queries, scale, rows,
                     s.heads, s.shared, s.positions, s.size);
        run.product(attended, queries, one->output, x, s.width, middle, s.width, rows, s.width, queries, false);
        run.norm(middle, s.width, one->second, eps, h, s.width, rms, rows, s.width);
        run.product(h, s.width, one->gate_up, nullptr, 0, act, s.inner, rows, 2 * s.inner, s.width, true);
        run.product(act, s.inner, one->down, middle, s.width, x, s.width, rows, s.width, s.inner, false);
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                               \
    extern "C" void rms_norm_##NAME(const void*, long, const void*, float, void*, long, float*, long, long);          \
    extern "C" void product_##NAME(const void*, long, const void*, const void*, long, void*, long, long, long, long,  \
                                   long);                                                                             \
    extern "C" void rotate_##NAME(void*, long, const float*, const float*, float, long, long, long);                  \
    extern "C" void keep_##NAME(const void*, long, const int64_t*, void*, void*, long, long, long, long);             \
    extern "C" void remember_##NAME(const void*, long, const void*, const void*, const int64_t*, const int64_t*,      \
                                    long, void*, long, float, long, long, long, long, long);                          \
    extern "C" void step_##NAME(const Layer* layers, long count, long width, long inner, long heads, long shared,     \
                                long size, long positions, void* x, const float* cosine, const float* sine,           \
                                const int64_t* here, const int64_t* starts, const int64_t* lengths, long prefix,      \
                                long rows, float eps, float scale, void* room, float* rms) {                          \
        Parts run{sizeof(T), rms_norm_##NAME, product_##NAME, rotate_##NAME, keep_##NAME, remember_##NAME};           \
        step(run, layers, {count, width, inner, heads, shared, size, positions}, static_cast<char*>(x),               \
             {cosine, sine, here, starts, lengths, prefix}, rows, eps, scale, static_cast<char*>(room), rms);         \
    }

WITH_PANELS(EXPORT)

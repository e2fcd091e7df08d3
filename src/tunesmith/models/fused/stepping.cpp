// New tokens through all layers of a causal model, in one call: telling a processor the parts of a layer one by one
// takes as long as they do where tokens are few, and where they are many all cores but one wait meanwhile.

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
    void (*attend)(const void*, long, void*, long, const int64_t*, long, long, const void*, const void*, long, float*,
                   float, long, long, long);
};

// One layer, in the order in which ``stepping.py`` tells it; ``bias`` may be missing.
struct Layer {
    const char *first, *qkv, *bias, *output, *second, *gate_up, *down;
    void *keys, *values;
};

struct Shape {
    long layers, width, inner, heads, shared, size, positions;
    long alike, spare;  // see ``rows_apart`` in products.py
    float eps, scale;
};

// Some rows on their way through the layers, and what a layer makes of them on the way. x: (rows, width), is changed.
struct Way {
    struct Matrix {
        char* at;
        long apart;  // of its rows, in numbers
    };
    const Parts& run;
    const Shape& s;
    char* x;
    long rows, queries, all;
    const float *cosine, *sine;
    const int64_t* here;
    float* rms;
    Matrix h, qkv, attended, middle, act;

    Way(const Parts& run, const Shape& s, char* x, const float* cosine, const float* sine, const int64_t* here,
        long rows, char* room, float* rms)
        : run(run), s(s), x(x), rows(rows), queries(s.heads * s.size), all(queries + 2 * s.shared * s.size),
          cosine(cosine), sine(sine), here(here), rms(rms) {
        auto next = [&](long columns) {
            Matrix made{room, columns + (columns * run.bytes % s.alike ? 0 : s.spare)};
            room += rows * made.apart * run.bytes;
            return made;
        };
        h = next(s.width), qkv = next(all), attended = next(queries), middle = next(s.width), act = next(s.inner);
    }
    // Queries, keys and values, but for the first columns, and what slots remember of them.
    void ask(const Layer& one, long without = 0) {
        long skipped = without * run.bytes;
        run.norm(x, s.width, one.first, s.eps, h.at, h.apart, rms, rows, s.width);
        run.product(h.at, h.apart, one.qkv + skipped * s.width, one.bias ? one.bias + skipped : nullptr, 0,
                    qkv.at + skipped, qkv.apart, rows, all - without, s.width, false);
        run.rotate(qkv.at + skipped, qkv.apart, cosine, sine, 1.0f, rows, (queries - without) / s.size + s.shared,
                   s.size);
        run.keep(qkv.at + queries * run.bytes, qkv.apart, here, one.keys, one.values, rows, s.shared, s.positions,
                 s.size);
    }
    void onward(const Layer& one) {
        run.product(attended.at, attended.apart, one.output, x, s.width, middle.at, middle.apart, rows, s.width,
                    queries, false);
        run.norm(middle.at, middle.apart, one.second, s.eps, h.at, h.apart, rms, rows, s.width);
        run.product(h.at, h.apart, one.gate_up, nullptr, 0, act.at, act.apart, rows, 2 * s.inner, s.width, true);
        run.product(act.at, act.apart, one.down, middle.at, middle.apart, x, s.width, rows, s.width, s.inner, false);
    }
};

// One new token of each slot: x becomes what leaves the last layer. For the slots see ``remember``.
void step(const Layer* layers, Way way, const int64_t* starts, const int64_t* lengths, long prefix) {
    const Shape& s = way.s;
    for (const Layer* one = layers; one < layers + s.layers; one++) {
        way.ask(*one);
        way.run.remember(way.qkv.at, way.qkv.apart, one->keys, one->values, starts, lengths, prefix, way.attended.at,
                         way.attended.apart, s.scale, way.rows, s.heads, s.shared, s.positions, s.size);
        way.onward(*one);
    }
}

// Prompts, end to end: x becomes what enters the last layer, of which slots remember what they have to. For the
// examples see ``attend``. without: so many columns of queries of the last layer need not be known.
void read(const Layer* layers, Way way, const int64_t* lengths, long count, long prefix, float* sums, long without) {
    const Shape& s = way.s;
    const Layer* last = layers + s.layers - 1;
    for (const Layer* one = layers; one < last; one++) {
        way.ask(*one);
        way.run.attend(way.qkv.at, way.qkv.apart, way.attended.at, way.attended.apart, lengths, count, prefix,
                       one->keys, one->values, s.positions, sums, s.scale, s.heads, s.shared, s.size);
        way.onward(*one);
    }
    way.ask(*last, without);
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
    extern "C" void attend_##NAME(const void*, long, void*, long, const int64_t*, long, long, const void*,            \
                                  const void*, long, float*, float, long, long, long);                                \
    const Parts parts_##NAME{sizeof(T),   rms_norm_##NAME, product_##NAME, rotate_##NAME,                             \
                             keep_##NAME, remember_##NAME, attend_##NAME};                                            \
    extern "C" void step_##NAME(const Layer* layers, const Shape* shape, char* x, const float* cosine,                \
                                const float* sine, const int64_t* here, long rows, char* room, float* rms,            \
                                const int64_t* starts, const int64_t* lengths, long prefix) {                         \
        step(layers, Way(parts_##NAME, *shape, x, cosine, sine, here, rows, room, rms), starts, lengths, prefix);     \
    }                                                                                                                 \
    extern "C" void read_##NAME(const Layer* layers, const Shape* shape, char* x, const float* cosine,                \
                                const float* sine, const int64_t* here, long rows, char* room, float* rms,            \
                                const int64_t* lengths, long count, long prefix, float* sums, long without) {         \
        Way way(parts_##NAME, *shape, x, cosine, sine, here, rows, room, rms);                                        \
        read(layers, way, lengths, count, prefix, sums, without);                                                     \
    }

WITH_PANELS(EXPORT)

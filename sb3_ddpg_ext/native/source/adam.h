/* Adam and AdamW as in torch.optim, and Polyak averaging. */
#pragma once
#include "vectors.h"

enum { MAX_GROUPS = 4 };

typedef struct {
    double lr, beta1, beta2, epsilon, weight_decay;
    int is_decoupled; /* whether the decay is apart from the gradient */
} Group;

/* Parameters and what belongs to each of them, at the same place of four arrays. */
typedef struct {
    real *values, *gradients, *averages, *squares;
    float *steps; /* one for each tensor of parameters, all the same */
    long n_steps;
    Group groups[MAX_GROUPS];
} Adam;

/* A step of n parameters, from an index on. */
static void adam_step(const Adam *adam, int which, long first, long n) {
    const Group *group = &adam->groups[which];
    const double step = adam->steps[0];
    const real scale = group->lr / (1 - pow(group->beta1, step)), root = sqrt(1 - pow(group->beta2, step));
    const real rest1 = 1 - group->beta1, beta2 = group->beta2, rest2 = 1 - group->beta2, epsilon = group->epsilon;
    const real decay = group->is_decoupled ? 0 : group->weight_decay;
    const real kept = group->is_decoupled ? 1 - group->lr * group->weight_decay : 1;
    for (long i = first; i < first + n; i += V) {
        const long left = first + n - i;
        const vec value = load(adam->values + i) * kept, gradient = load(adam->gradients + i) + decay * value;
        const vec before = load(adam->averages + i), average = before + (gradient - before) * rest1;
        const vec square = load(adam->squares + i) * beta2 + gradient * gradient * rest2;
        store_first(adam->averages + i, average, left);
        store_first(adam->squares + i, square, left);
        store_first(adam->values + i, value - scale * average / (square_root(square) / root + epsilon), left);
    }
}

/* target <- target + tau (value - target), which is the value itself where tau is 1; as torch.lerp. */
static void move(real *target, const real *values, long n, real tau) {
    for (long i = 0; i < n; i += V) {
        const vec before = load(target + i), value = load(values + i);
        const vec after = tau < (real)0.5 ? before + tau * (value - before) : value - (1 - tau) * (value - before);
        store_first(target + i, after, n - i);
    }
}

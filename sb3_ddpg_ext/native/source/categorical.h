/*
 * Distributions of returns on a grid of atoms, Bellemare et al. (2017), Algorithm 1, of V transitions at a time: matrices have a
 * row for each atom, `width` apart.
 */
#pragma once
#include "functions.h"

typedef struct {
    const real *values; /* (n) */
    long n, width;
    real lowest, per_return; /* the first atom, and how many of them there are to a return of 1 */
} Atoms;

INLINE vec logarithm(vec x) {
    for (int i = 0; i < V; i++) x[i] = sizeof(real) == 4 ? logf(x[i]) : log(x[i]);
    return x;
}

INLINE vec largest_of(const real *z, Atoms atoms) {
    vec largest = load(z);
    for (long k = 1; k < atoms.n; k++) {
        const vec other = load(z + k * atoms.width);
        largest = choose(other > largest, other, largest);
    }
    return largest;
}

/* The softmax of z, to where `to` points, which may be the same place. Returns the expectation. */
INLINE vec probabilities(const real *z, Atoms atoms, real *to) {
    const vec largest = largest_of(z, atoms);
    vec sum = {0}, mean = {0};
    for (long k = 0; k < atoms.n; k++) {
        const vec part = exponential(load(z + k * atoms.width) - largest);
        store(to + k * atoms.width, part);
        sum += part;
    }
    const vec factor = 1 / sum;
    for (long k = 0; k < atoms.n; k++) {
        const vec p = load(to + k * atoms.width) * factor;
        store(to + k * atoms.width, p);
        mean += p * atoms.values[k];
    }
    return mean;
}

/* Share the probability of each return r + gamma z between the two atoms that it lies between. */
INLINE void project(const real *p, Atoms atoms, vec reward, vec discount, real low, real high, real *to) {
    const vec last = all(atoms.n - 1), last_lower = all(atoms.n - 2);
    for (long k = 0; k < atoms.n; k++) store(to + k * atoms.width, (vec){0});
    for (long k = 0; k < atoms.n; k++) {
        vec value = reward + discount * atoms.values[k];
        value = choose(value < low, all(low), choose(value > high, all(high), value));
        vec position = (value - atoms.lowest) * atoms.per_return;
        position = choose(position < 0, (vec){0}, choose(position > last, last, position));
        const vec place = choose(position == position, position, (vec){0}); /* NaN stays in the share */
        const mask lower = __builtin_convertvector(choose(place > last_lower, last_lower, place), mask);
        const vec upwards = position - __builtin_convertvector(lower, vec), probability = load(p + k * atoms.width);
        real to_lower[V], to_upper[V];
        store(to_lower, probability * (1 - upwards)), store(to_upper, probability * upwards);
        for (int i = 0; i < V; i++) {
            real *at = to + lower[i] * atoms.width + i;
            at[0] += to_lower[i], at[atoms.width] += to_upper[i];
        }
    }
}

/* -sum t log softmax(z); `gradient` takes its derivative by z. */
INLINE vec cross_entropy(const real *z, const real *target, Atoms atoms, real *gradient) {
    const vec largest = largest_of(z, atoms);
    vec sum = {0}, total = {0}, of_targets = {0};
    for (long k = 0; k < atoms.n; k++) {
        const vec above = load(z + k * atoms.width) - largest, part = exponential(above), t = load(target + k * atoms.width);
        store(gradient + k * atoms.width, part);
        sum += part, total += t, of_targets += t * above;
    }
    const vec factor = total / sum;
    for (long k = 0; k < atoms.n; k++)
        store(gradient + k * atoms.width, load(gradient + k * atoms.width) * factor - load(target + k * atoms.width));
    return total * logarithm(sum) - of_targets;
}

/* -sum t log t. */
INLINE vec entropy(const real *target, Atoms atoms) {
    vec sum = {0};
    for (long k = 0; k < atoms.n; k++) {
        const vec t = load(target + k * atoms.width);
        sum -= choose(t == 0, (vec){0}, t * logarithm(t));
    }
    return sum;
}

/* The gradient of the expectation by z, times a factor. Returns the expectation. */
INLINE vec climb(const real *z, Atoms atoms, real factor, real *gradient) {
    const vec mean = probabilities(z, atoms, gradient);
    for (long k = 0; k < atoms.n; k++)
        store(gradient + k * atoms.width, load(gradient + k * atoms.width) * (atoms.values[k] - mean) * factor);
    return mean;
}

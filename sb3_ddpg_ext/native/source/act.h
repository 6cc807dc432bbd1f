/*
 * Actions. For one observation: sums along the rows of the weights, as they are. For more: a block of them, as in training, which
 * reads each weight once.
 */
#pragma once
#include "network.h"

enum { AT_ONCE = 4 }; /* sums, so that one need not wait for the other */

/* y = W x + b. */
static void units(const Layer *layer, const real *x, real *y) {
    const long n = layer->n_in, whole = n / V * V;
    for (long unit = 0; unit < layer->n_out; unit += AT_ONCE) {
        const long some = layer->n_out - unit < AT_ONCE ? layer->n_out - unit : AT_ONCE;
        const real *rows[AT_ONCE];
        vec sums[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) rows[i] = layer->weight + (unit + (i < some ? i : 0)) * n, sums[i] = (vec){0};
        for (long k = 0; k < whole; k += V) {
            const vec inputs = load(x + k);
            for (int i = 0; i < AT_ONCE; i++) sums[i] += inputs * load(rows[i] + k);
        }
        real totals[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) totals[i] = sum_of(sums[i]);
        for (long k = whole; k < n; k++)
            for (int i = 0; i < AT_ONCE; i++) totals[i] += x[k] * rows[i][k];
        for (int i = 0; i < some; i++) y[unit + i] = layer->bias[unit + i] + totals[i];
    }
}

static void normalise_units(const Layer *layer, real *y) {
    real mean = 0, variance = 0;
    for (long i = 0; layer->running_mean && i < layer->n_normed; i++) {
        const real rstd = 1 / sqrt(layer->running_variance[i] + layer->epsilon);
        y[i] = (y[i] - layer->running_mean[i]) * rstd * layer->norm_weight[i] + layer->norm_bias[i];
    }
    if (layer->running_mean) return;
    for (long i = 0; i < layer->n_out; i++) mean += y[i];
    mean /= layer->n_out;
    for (long i = 0; i < layer->n_out; i++) variance += (y[i] - mean) * (y[i] - mean);
    const real rstd = 1 / sqrt(variance / layer->n_out + layer->epsilon);
    for (long i = 0; i < layer->n_out; i++) y[i] = (y[i] - mean) * rstd * layer->norm_weight[i] + layer->norm_bias[i];
}

/* From an observation to actions. `memory` has room for the outputs of two layers, each of `half` numbers, in whole vectors. */
static void act_on_one(const Network *network, const real *observation, real *memory, long half, real *actions) {
    const real *x = observation;
    for (int l = 0; l < network->n_layers; l++) {
        const Layer *layer = &network->layers[l];
        real *y = memory + l % 2 * half;
        if (layer->weight)
            units(layer, x, y);
        else
            memcpy(y, x, layer->n_out * sizeof(real));
        if (layer->norm_weight) normalise_units(layer, y);
        for (long j = 0; layer->activation != NONE && j < layer->n_out; j += V)
            store(y + j, activated(layer->activation, load(y + j), layer->alpha));
        x = y;
    }
    memcpy(actions, x, network->layers[network->n_layers - 1].n_out * sizeof(real));
}

/* From observations (n, n_in) to actions (n, n_out). `memory` has room for four halves and n numbers, rounded up to whole
 * vectors; a half is for a layer of all. */
static void act_on_block(const Network *network, const real *observations, long n, real *memory, long half, real *actions) {
    Network own = *network;
    const long width = rounded_up(n, V), n_in = own.layers[0].n_in, n_out = last_of(&own)->n_out;
    real *inputs = memory + 2 * half, *kept = memory + 3 * half; /* what only a backward pass reads */
    for (int l = 0; l < own.n_layers; l++) {
        Layer *layer = &own.layers[l];
        layer->outputs = memory + l % 2 * half, layer->standardised = layer->before = kept, layer->rstd = kept + half;
    }
    transpose(observations, n_in, n, n_in, inputs, width);
    forward(&own, inputs, (Block){0, width, n, width, 0});
    transpose(last_of(&own)->outputs, width, n_out, n, actions, n_out);
}

/* What acting reads and writes, again and again. What the units of actions are may be unknown: NULL. */
typedef struct {
    Network network;
    real *observations, *memory, *actions;
    long half;
    const real *low, *high, *half_range;
} Acting;

static int are_finite(const real *x, long n) {
    vec zeros = {0}; /* times infinity, or NaN, are NaN */
    for (long i = 0; i < n; i += V) zeros += 0 * (n - i < V ? load_first(x + i, n - i) : load(x + i));
    return sum_of(zeros) == 0;
}

/* From the interval [-1, 1] to the bounds, which rounding must not leave. */
static void to_units(const Acting *acting, long n, long n_actions) {
    for (long i = 0; i < n * n_actions; i++) {
        const long j = i % n_actions;
        const real action = (acting->actions[i] + 1) * acting->half_range[j] + acting->low[j];
        acting->actions[i] = action < acting->low[j] ? acting->low[j] : action > acting->high[j] ? acting->high[j] : action;
    }
}

/* Sums over the batch for BatchNorm, Ioffe & Szegedy (2015), of some units at a time: each in one order, whatever the blocks are. */
#pragma once
#include "network.h"

/* The first n numbers of a vector, and zeros. */
INLINE vec only_first(vec value, long n) { return n >= V ? value : load_first((const real *)&value, n); }

/*
 * The sums of some units' numbers, or of the squares of their deviations from `means`. Blocks are gone through one after the other,
 * so that what is read lies side by side.
 */
static void sum_units(const Layer *layer, long first, long last, Extent extent, const real *means, real *to) {
    const long width = extent.width;
    vec sums[UNITS] = {{0}};
    for (long part = 0; part < extent.n_parts; part++)
        for (long begin = 0; begin < extent.n; begin += width)
            for (long unit = first; unit < last; unit++) {
                const real *z = layer->standardised + (part * extent.n_blocks * width + begin) * layer->n_out + unit * width;
                vec sum = sums[unit - first];
                for (long j = 0; j < width && begin + j < extent.n; j += V) {
                    const vec value = means ? load(z + j) - means[unit - first] : load(z + j);
                    sum += only_first(means ? value * value : value, extent.n - begin - j);
                }
                sums[unit - first] = sum;
            }
    for (long i = 0; i < last - first; i++) to[i] = sum_of(sums[i]);
}

/* Statistics of units [first, last) over a batch, by which running ones move: by 1/n in the n-th batch, or by a fixed share. */
static void measure_units(Layer *layer, long first, long last, Extent extent) {
    const long size = extent.n * extent.n_parts;
    const real share = layer->momentum < 0 ? 1.0 / *layer->n_batches : layer->momentum, unbiased = (real)size / (size - 1);
    real means[UNITS], variances[UNITS];
    sum_units(layer, first, last, extent, NULL, means);
    for (long i = 0; i < last - first; i++) means[i] /= size;
    sum_units(layer, first, last, extent, means, variances);
    for (long unit = first; unit < last; unit++) {
        const real mean = means[unit - first], variance = variances[unit - first] / size;
        layer->mean[unit] = mean, layer->rstd[unit] = 1 / sqrt(variance + layer->epsilon);
        layer->running_mean[unit] = share * mean + (1 - share) * layer->running_mean[unit];
        layer->running_variance[unit] = share * variance * unbiased + (1 - share) * layer->running_variance[unit];
    }
}

/* From the gradients by the outputs of units [first, last) to those by what BatchNorm gives out; their sums. */
static void sum_gradients(Layer *layer, long first, long last, Extent extent) {
    const long width = extent.width;
    const real *before = needs_input(layer) ? layer->before : layer->outputs;
    vec sums[UNITS] = {{0}}, products[UNITS] = {{0}};
    for (long part = 0; part < extent.n_parts; part++)
        for (long begin = 0; begin < extent.n; begin += width)
            for (long unit = first; unit < last; unit++) {
                const long at = (part * extent.n_blocks * width + begin) * layer->n_out + unit * width;
                vec sum = sums[unit - first], product = products[unit - first];
                for (long j = 0; j < width && begin + j < extent.n; j += V) {
                    const vec derived = derive(layer, before, layer->outputs, layer->gradient, at + j);
                    const vec gradient = only_first(derived, extent.n - begin - j);
                    sum += gradient, product += gradient * load(layer->standardised + at + j);
                }
                sums[unit - first] = sum, products[unit - first] = product;
            }
    for (long unit = first; unit < last; unit++)
        layer->gradient_sum[unit] = sum_of(sums[unit - first]), layer->product_sum[unit] = sum_of(products[unit - first]);
}

/* Sums over the batch for BatchNorm, Ioffe & Szegedy (2015), unit by unit: each in one order, whatever the blocks are. */
#pragma once
#include "network.h"

/* The first n numbers of a vector, and zeros. */
INLINE vec only_first(vec value, long n) { return n >= V ? value : load_first((const real *)&value, n); }

/* Mean and variance of the numbers of a unit. */
INLINE void moments(const Layer *layer, long unit, Extent extent, real *mean, real *variance) {
    const long width = extent.width, size = extent.n * extent.n_parts;
    for (int is_second = 0; is_second < 2; is_second++) {
        vec sums = {0};
        for (long part = 0; part < extent.n_parts; part++)
            for (long first = 0; first < extent.n; first += width) {
                const real *z = layer->standardised + (part * extent.n_blocks * width + first) * layer->n_out + unit * width;
                for (long j = 0; j < width && first + j < extent.n; j += V) {
                    const vec value = is_second ? load(z + j) - *mean : load(z + j);
                    sums += only_first(is_second ? value * value : value, extent.n - first - j);
                }
            }
        *(is_second ? variance : mean) = sum_of(sums) / size;
    }
}

/* Statistics of units [first, last) over a batch, by which running ones move: by 1/n in the n-th batch, or by a fixed share. */
static void measure_units(Layer *layer, long first, long last, Extent extent) {
    const long size = extent.n * extent.n_parts;
    const real share = layer->momentum < 0 ? 1.0 / *layer->n_batches : layer->momentum, unbiased = (real)size / (size - 1);
    for (long unit = first; unit < last; unit++) {
        real mean, variance;
        moments(layer, unit, extent, &mean, &variance);
        layer->mean[unit] = mean, layer->rstd[unit] = 1 / sqrt(variance + layer->epsilon);
        layer->running_mean[unit] = share * mean + (1 - share) * layer->running_mean[unit];
        layer->running_variance[unit] = share * variance * unbiased + (1 - share) * layer->running_variance[unit];
    }
}

/* From the gradients by the outputs of units [first, last) to those by what BatchNorm gives out; their sums. */
static void sum_gradients(Layer *layer, long first, long last, Extent extent) {
    const long width = extent.width;
    for (long unit = first; unit < last; unit++) {
        vec sums = {0}, products = {0};
        for (long part = 0; part < extent.n_parts; part++)
            for (long begin = 0; begin < extent.n; begin += width) {
                const long at = (part * extent.n_blocks * width + begin) * layer->n_out + unit * width;
                const real *before = needs_input(layer) ? layer->before : layer->outputs;
                for (long j = 0; j < width && begin + j < extent.n; j += V) {
                    const vec derived = derive(layer, before, layer->outputs, layer->gradient, at + j);
                    const vec gradient = only_first(derived, extent.n - begin - j);
                    sums += gradient, products += gradient * load(layer->standardised + at + j);
                }
            }
        layer->gradient_sum[unit] = sum_of(sums), layer->product_sum[unit] = sum_of(products);
    }
}

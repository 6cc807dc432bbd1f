/*
 * A multilayer perceptron: what it gives out, and the gradients of its parameters and inputs.
 *
 * A batch is cut into blocks of some transitions. A matrix of a block has a row for each unit and a column for each transition,
 * so that vectors are of transitions: sums over units need no sums within vectors, and weights are read as torch has them.
 *
 * A block goes through all layers at once, but where BatchNorm needs the statistics of the batch: there it waits until all
 * blocks have come so far, see batch_norm.h.
 */
#pragma once
#include "functions.h"
#include "product.h"

enum { MAX_LAYERS = 16, UNITS = 48 }; /* so many units of a layer are one thread's at a time */

/* activation(norm(x W^T + b)). What is the caller's is pointed to, what the layer has worked out is behind it. */
typedef struct {
    real *weight, *bias;                     /* (n_out, n_in), (n_out); NULL for x, of which the first units are normalised */
    real *norm_weight, *norm_bias;           /* (n_normed), NULL without normalisation */
    real *running_mean, *running_variance;   /* (n_normed) of BatchNorm; NULL for LayerNorm */
    int64_t *n_batches;                      /* that these have taken in */
    long n_in, n_out, n_normed;              /* where there is a weight, the last is n_out, or 0 without normalisation */
    int activation;
    double alpha, epsilon; /* of ELU and of the normalisation */
    double momentum;       /* of running statistics; negative for the mean over all batches */
    double penalty;        /* the loss has penalty / 2 times the square of what the activation is given; mostly 0 */

    real *outputs;              /* (blocks, n_out, width) */
    real *before;               /* likewise: what the activation was given, where its derivative or the penalty needs it */
    real *standardised;         /* likewise: what is normalised, before weight and bias of the normalisation */
    real *mean, *rstd;          /* LayerNorm: 1 / standard deviation, (blocks, width); BatchNorm of the batch: both, (n_out) */
    real *gradient;             /* (blocks, n_out, width): of the loss by the outputs, in the end by x W^T + b */
    real *norm_gradient;        /* likewise: by what LayerNorm gives out */
    real *gradient_sum, *product_sum; /* (n_out): over the batch, of the gradients by what BatchNorm gives out, and times x */
    real *rows;                 /* (n, row): the outputs again, a row for each transition; not of the last layer */
    long row;

    int in_pairs; /* whether the layer's products are of rounded numbers, which are here along the sum of a product to come: */
    real *weight_pairs, *weight_columns;     /* (n_out, n_pairs(n_in)), (n_pairs(n_out), n_in); for tiles (n_in, n_pairs(n_out)) */
    real *input_pairs, *gradient_pairs;      /* (blocks, n_pairs(n_in), width), (blocks, n_pairs(n_out), width) */
    real *gradient_columns, *output_columns; /* (blocks, n_out, width / 2); of the outputs if the next layer rounds them */
} Layer;

typedef struct {
    int n_layers, of_batch; /* of_batch: whether BatchNorm normalises by the batch; else by its running statistics */
    Layer layers[MAX_LAYERS];
} Network;

/* The transitions of a block: columns [0, n) of matrices with `width` columns, of which `whole` are whole vectors. */
typedef struct {
    long number, width, n, whole;
    int is_next; /* in a joint pass those that only give targets, whose outputs have no gradient */
} Block;

INLINE int needs_input(const Layer *layer) {
    return layer->activation == SILU || layer->activation == MISH || layer->penalty > 0;
}

INLINE Layer *last_of(Network *network) { return &network->layers[network->n_layers - 1]; }

/* The first layer with a weight. */
INLINE Layer *first_of(Network *network) { return network->layers + (network->layers[0].weight == NULL); }

/* Whether a block has to wait in this layer until all are there. */
INLINE int waits(const Network *network, const Layer *layer) { return network->of_batch && layer->running_mean; }

INLINE real *of_block(real *matrices, const Layer *layer, Block block) {
    return matrices + block.number * layer->n_out * block.width;
}

/* LayerNorm of a block: (z - mean) / sqrt(variance + epsilon) * weight + bias, of each column. */
static void normalise(Layer *layer, Block block) {
    const long n = layer->n_out, width = block.width;
    for (long j = 0; j < block.whole; j += V) {
        real *z = of_block(layer->outputs, layer, block) + j, *standardised = of_block(layer->standardised, layer, block) + j;
        vec mean = {0}, variance = {0}, rstd;
        for (long i = 0; i < n; i++) mean += load(z + i * width);
        mean /= (real)n;
        for (long i = 0; i < n; i++) variance += (load(z + i * width) - mean) * (load(z + i * width) - mean);
        rstd = 1 / square_root(variance / (real)n + (real)layer->epsilon);
        store(layer->rstd + block.number * width + j, rstd);
        for (long i = 0; i < n; i++) {
            const vec x = (load(z + i * width) - mean) * rstd;
            store(standardised + i * width, x);
            store(z + i * width, x * layer->norm_weight[i] + layer->norm_bias[i]);
        }
    }
}

/* Its gradient by z from that by its output: rstd (g w - mean(g w) - x mean(g w x)). */
static void normalise_backward(Layer *layer, Block block) {
    const long n = layer->n_out, width = block.width;
    for (long j = 0; j < block.whole; j += V) {
        real *gradient = of_block(layer->gradient, layer, block) + j, *kept = of_block(layer->norm_gradient, layer, block) + j;
        const real *x = of_block(layer->standardised, layer, block) + j;
        vec mean = {0}, mean_of_products = {0};
        for (long i = 0; i < n; i++) {
            const vec weighted = load(gradient + i * width) * layer->norm_weight[i];
            store(kept + i * width, load(gradient + i * width));
            mean += weighted, mean_of_products += weighted * load(x + i * width);
        }
        mean /= (real)n, mean_of_products /= (real)n;
        const vec rstd = load(layer->rstd + block.number * width + j);
        for (long i = 0; i < n; i++) {
            const vec weighted = load(gradient + i * width) * layer->norm_weight[i];
            store(gradient + i * width, (weighted - mean - load(x + i * width) * mean_of_products) * rstd);
        }
    }
}

/* x W^T + b of a block, (n_in, width), or x itself without a weight. */
static void multiply(const Layer *layer, const real *x, Block block, real *to) {
    const Output out = {to, block.width, block.whole};
    if (!layer->weight) {
        memcpy(to, x, layer->n_normed * block.width * sizeof(real));
    } else if (layer->in_pairs) {
        const long n = n_pairs(layer->n_in);
        real *pairs = layer->input_pairs + block.number * n * block.width;
        pair_rows(x, block.width, layer->n_in, block.whole, pairs, block.width);
        product_of_pairs((Left){layer->weight_pairs, n, 1, 0}, (Right){pairs, block.width, 0}, layer->n_out, (Depth){1, n},
                         FROM_BIAS, layer->bias, out);
    } else
        product((Left){layer->weight, layer->n_in, 1, 0}, (Right){x, block.width, 0}, layer->n_out, (Depth){1, layer->n_in},
                FROM_BIAS, layer->bias, out);
}

/* What a layer without a weight leaves as it is. */
static void pass_on(const Layer *layer, const real *x, Block block) {
    const long first = layer->n_normed * block.width, n = layer->n_out * block.width - first;
    memcpy(of_block(layer->outputs, layer, block) + first, x + first, n * sizeof(real));
}

/* BatchNorm of a block, where the statistics are known, and the activation behind it. */
static void scale_units(Layer *layer, Block block, int of_batch) {
    real *z = of_block(of_batch ? layer->standardised : layer->outputs, layer, block), *y = of_block(layer->outputs, layer, block);
    real *before = needs_input(layer) ? of_block(layer->before, layer, block) : NULL;
    for (long i = 0; i < layer->n_normed; i++) {
        const real mean = of_batch ? layer->mean[i] : layer->running_mean[i];
        const real rstd = of_batch ? layer->rstd[i] : 1 / sqrt(layer->running_variance[i] + layer->epsilon);
        for (long j = i * block.width; j < i * block.width + block.whole; j += V) {
            const vec x = (load(z + j) - mean) * rstd, given = x * layer->norm_weight[i] + layer->norm_bias[i];
            if (of_batch) store(z + j, x);
            if (before) store(before + j, given);
            store(y + j, activated(layer->activation, given, layer->alpha));
        }
    }
}

/* Normalisation and activation of a block, after the product. */
static void finish(const Network *network, Layer *layer, Block block) {
    if (layer->running_mean) {
        scale_units(layer, block, network->of_batch);
        return;
    }
    real *outputs = of_block(layer->outputs, layer, block);
    real *before = needs_input(layer) ? of_block(layer->before, layer, block) : NULL;
    if (layer->norm_weight) normalise(layer, block);
    for (long i = 0; layer->activation != NONE && i < layer->n_out; i++)
        for (long j = i * block.width; j < i * block.width + block.whole; j += V) {
            if (before) store(before + j, load(outputs + j));
            store(outputs + j, activated(layer->activation, load(outputs + j), layer->alpha));
        }
}

/*
 * Take a block of inputs, (n_in, width), to the next layer in which it waits, or to the outputs of the last one. `from` is the
 * layer in which it has waited, or -1.
 */
static void advance(Network *network, int from, const real *x, Block block) {
    if (from >= 0) finish(network, &network->layers[from], block);
    for (int l = from + 1; l < network->n_layers; l++) {
        Layer *layer = &network->layers[l];
        const int is_waiting = waits(network, layer);
        const real *inputs = l ? of_block(layer[-1].outputs, &layer[-1], block) : x;
        multiply(layer, inputs, block, of_block(is_waiting ? layer->standardised : layer->outputs, layer, block));
        if (!layer->weight) pass_on(layer, inputs, block);
        if (is_waiting) return;
        finish(network, layer, block);
    }
}

/* The outputs for a block of inputs, where it has nothing to wait for. */
static void forward(Network *network, const real *x, Block block) { advance(network, -1, x, block); }

/* What parameter_gradients() needs of both passes beside the gradients. */
static void keep_rows(Network *network, Block block) {
    const long first = block.number * block.width, half = block.width / 2;
    for (Layer *layer = network->layers; layer <= last_of(network); layer++) {
        const real *outputs = of_block(layer->outputs, layer, block);
        if (layer->in_pairs)
            pair_columns(of_block(layer->gradient, layer, block), block.width, layer->n_out, block.n,
                         layer->gradient_columns + block.number * layer->n_out * half, half);
        if (layer == last_of(network)) return;
        if (layer[1].in_pairs) {
            real *columns = layer->output_columns + block.number * layer->n_out * half;
            pair_columns(outputs, block.width, layer->n_out, block.n, columns, half);
            transpose(columns, half, layer->n_out, n_pairs(block.n), layer->rows + first / 2 * layer->row, layer->row);
        } else
            transpose(outputs, block.width, layer->n_out, block.n, layer->rows + first * layer->row, layer->row);
    }
}

/* The gradient by z of BatchNorm with running statistics, which are constants. */
static void scale_gradients(const Layer *layer, Block block) {
    real *gradient = of_block(layer->gradient, layer, block);
    for (long i = 0; i < layer->n_normed; i++) {
        const real factor = layer->norm_weight[i] / sqrt(layer->running_variance[i] + layer->epsilon);
        for (long j = i * block.width; j < i * block.width + block.whole; j += V)
            store(gradient + j, load(gradient + j) * factor);
    }
}

/* With those of a batch of n: rstd w (g - mean(g) - x mean(g x)), the means over the batch. */
static void batch_backward(const Layer *layer, Block block, long n) {
    real *gradient = of_block(layer->gradient, layer, block);
    const real *x = of_block(layer->standardised, layer, block);
    for (long i = 0; i < layer->n_normed; i++) {
        const real mean = layer->gradient_sum[i] / n, mean_of_products = layer->product_sum[i] / n;
        const real factor = layer->rstd[i] * layer->norm_weight[i];
        for (long j = i * block.width; j < i * block.width + block.whole; j += V)
            store(gradient + j, (load(gradient + j) - mean - load(x + j) * mean_of_products) * factor);
    }
}

/* Turn the gradients by a unit's outputs, from number j on, into those by what its activation was given. */
INLINE vec derive(const Layer *layer, const real *before, const real *outputs, real *gradient, long j) {
    vec derived = gradient_before(layer->activation, load(gradient + j), load(before + j), load(outputs + j), layer->alpha);
    if (layer->penalty > 0) derived += (real)layer->penalty * load(before + j);
    store(gradient + j, derived);
    return derived;
}

/* The gradients by the inputs [first, first + n) of a layer, (n, width), from those by x W^T + b. */
static void multiply_back(const Layer *layer, Block block, real *to, long first, long n) {
    const real *gradient = of_block(layer->gradient, layer, block);
    const Output out = {to, block.width, block.whole};
    if (layer->in_pairs) {
        const long n_rows = n_pairs(layer->n_out);
        real *pairs = layer->gradient_pairs + block.number * n_rows * block.width;
        pair_rows(gradient, block.width, layer->n_out, block.whole, pairs, block.width);
        const Left weights = IN_TILES ? (Left){layer->weight_columns + first * n_rows, n_rows, 1, 0}
                                      : (Left){layer->weight_columns + first, 1, layer->n_in, 0};
        product_of_pairs(weights, (Right){pairs, block.width, 0}, n, (Depth){1, n_rows}, FROM_ZERO, NULL, out);
    } else
        product((Left){layer->weight + first, 1, layer->n_in, 0}, (Right){gradient, block.width, 0}, n,
                (Depth){1, layer->n_out}, FROM_ZERO, NULL, out);
}

/*
 * From the gradient by the outputs, in the last layer, to the next layer before it in which a block waits, or to the first.
 * `from` is the layer in which it has waited, in a batch of n_batch, or n_layers. `inputs`, (n, width), takes the gradient by n
 * inputs from `first` on, or is NULL.
 */
static void retreat(Network *network, int from, long n_batch, Block block, real *inputs, long first, long n) {
    for (int l = from < network->n_layers ? from : network->n_layers - 1; l >= 0; l--) {
        Layer *layer = &network->layers[l];
        if (l == from)
            batch_backward(layer, block, n_batch);
        else if (waits(network, layer))
            return;
        else {
            real *gradient = of_block(layer->gradient, layer, block);
            const real *outputs = of_block(layer->outputs, layer, block);
            const real *before = needs_input(layer) ? of_block(layer->before, layer, block) : outputs;
            for (long i = 0; layer->activation != NONE && i < layer->n_out; i++)
                for (long j = i * block.width; j < i * block.width + block.whole; j += V)
                    derive(layer, before, outputs, gradient, j);
            if (layer->running_mean)
                scale_gradients(layer, block);
            else if (layer->norm_weight)
                normalise_backward(layer, block);
        }
        const int is_first = layer == first_of(network);
        if (is_first && (inputs || l == 0)) {
            if (inputs) multiply_back(layer, block, inputs, first, n);
            return;
        }
        real *to = of_block(layer[-1].gradient, &layer[-1], block);
        const long wanted = is_first ? layer[-1].n_normed : layer->n_in;
        if (block.is_next && layer == last_of(network))
            memset(to, 0, wanted * block.width * sizeof(real));
        else
            multiply_back(layer, block, to, 0, wanted);
    }
}

/* The same where it has nothing to wait for. */
static void backward(Network *network, Block block, real *inputs, long first, long n) {
    retreat(network, network->n_layers, 0, block, inputs, first, n);
}

/* Where the gradients of a layer's parameters go. */
typedef struct {
    real *weight, *bias, *norm_weight, *norm_bias;
} Gradients;

/* The transitions of a pass: n in some blocks, as often as there are parts, whose blocks follow each other. */
typedef struct {
    long n, width, n_blocks, n_parts;
} Extent;

/* Over all transitions the sum of a unit's numbers, or of their products with others. */
static real sum_of_unit(const real *a, const real *b, const Layer *layer, long unit, Extent extent) {
    const long n = extent.n, width = extent.width;
    vec sums = {0};
    real sum = 0;
    for (long part = 0; part < extent.n_parts; part++)
        for (long first = 0; first < n; first += width) {
            const long at = (part * extent.n_blocks * width + first) * layer->n_out + unit * width;
            const long columns = n - first < width ? n - first : width;
            long j = 0;
            for (; j + V <= columns; j += V) sums += b ? load(a + at + j) * load(b + at + j) : load(a + at + j);
            for (; j < columns; j++) sum += b ? a[at + j] * b[at + j] : a[at + j];
        }
    return sum_of(sums) + sum;
}

/* The gradients of a layer's weight for units [first, last), summed over all transitions with the inputs x, after backward(). */
static void weight_gradients(const Layer *layer, const real *x, long x_row, Extent extent, long first, long last, real *to) {
    void (*const add)(Left, Right, long, Depth, enum Start, const real *, Output) = layer->in_pairs ? product_of_pairs : product;
    const long n_whole = extent.n / extent.width, rest = extent.n % extent.width;
    const long terms = layer->in_pairs ? extent.width / 2 : extent.width;
    const Output out = {to + first * layer->n_in, layer->n_in, layer->n_in};
    enum Start start = FROM_ZERO;
    for (long part = 0; part < extent.n_parts; part++) {
        const long block = part * extent.n_blocks;
        const real *gradients = (layer->in_pairs ? layer->gradient_columns : layer->gradient) + block * layer->n_out * terms;
        const Left a = {gradients + first * terms, terms, 1, layer->n_out * terms};
        const Right b = {x + block * terms * x_row, x_row, terms * x_row};
        if (n_whole) add(a, b, last - first, (Depth){n_whole, terms}, start, NULL, out), start = FROM_OUTPUT;
        if (rest) {
            const Left of_rest = {a.values + n_whole * a.part, a.row, a.depth, 0};
            const Depth depth = {1, layer->in_pairs ? n_pairs(rest) : rest};
            add(of_rest, (Right){b.values + n_whole * b.part, b.row, 0}, last - first, depth, start, NULL, out);
            start = FROM_OUTPUT;
        }
    }
}

/* The gradients of the parameters of units [first, last); `of_batch` as in Network. */
static void parameter_gradients(const Layer *layer, const real *x, long x_row, Extent extent, long first, long last, int of_batch,
                                Gradients to) {
    const int is_batch = of_batch && layer->running_mean;
    if (layer->weight) weight_gradients(layer, x, x_row, extent, first, last, to.weight);
    for (long unit = first; unit < last; unit++) {
        /* what is added to a unit for all transitions alike, BatchNorm takes away: the gradient is zero, not only to rounding */
        if (layer->weight) to.bias[unit] = is_batch ? 0 : sum_of_unit(layer->gradient, NULL, layer, unit, extent);
        if (!layer->norm_weight) continue;
        if (is_batch) {
            to.norm_weight[unit] = layer->product_sum[unit], to.norm_bias[unit] = layer->gradient_sum[unit];
        } else {
            to.norm_weight[unit] = sum_of_unit(layer->norm_gradient, layer->standardised, layer, unit, extent);
            to.norm_bias[unit] = sum_of_unit(layer->norm_gradient, NULL, layer, unit, extent);
        }
    }
}

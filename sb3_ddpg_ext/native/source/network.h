/*
 * A multilayer perceptron: what it gives out, and the gradients of its parameters and inputs.
 *
 * A batch is cut into blocks of some transitions. A matrix of a block has a row for each unit and a column for each transition,
 * so that vectors are of transitions: sums over units need no sums within vectors, and weights are read as torch has them.
 */
#pragma once
#include "functions.h"
#include "product.h"

enum { MAX_LAYERS = 16 };

/* activation(norm(x W^T + b)). What is the caller's is pointed to, what the layer has worked out is behind it. */
typedef struct {
    real *weight, *bias;           /* (n_out, n_in), (n_out) */
    real *norm_weight, *norm_bias; /* (n_out), NULL without LayerNorm */
    long n_in, n_out;
    int activation;
    double alpha, epsilon; /* of ELU and of LayerNorm */

    real *outputs;             /* (blocks, n_out, width) */
    real *before;              /* likewise: what the activation was given, where its derivative needs it */
    real *standardised, *rstd; /* likewise, (blocks, width): LayerNorm before its weight and bias, 1 / standard deviation */
    real *gradient;            /* (blocks, n_out, width): of the loss by the outputs, in the end by x W^T + b */
    real *norm_gradient;       /* likewise: by what LayerNorm gives out */
    real *rows;                /* (n, row): the outputs again, a row for each transition; not of the last layer */
    long row;

    int in_pairs; /* whether the layer's products are of rounded numbers, which are here along the sum of a product to come: */
    real *weight_pairs, *weight_columns;     /* (n_out, n_pairs(n_in)), (n_pairs(n_out), n_in) */
    real *input_pairs, *gradient_pairs;      /* (blocks, n_pairs(n_in), width), (blocks, n_pairs(n_out), width) */
    real *gradient_columns, *output_columns; /* (blocks, n_out, width / 2); of the outputs if the next layer rounds them */
} Layer;

typedef struct {
    int n_layers;
    Layer layers[MAX_LAYERS];
} Network;

/* The transitions of a block: columns [0, n) of matrices with `width` columns, of which `whole` are whole vectors. */
typedef struct {
    long number, width, n, whole;
} Block;

INLINE int needs_input(const Layer *layer) { return layer->activation == SILU || layer->activation == MISH; }

INLINE Layer *last_of(Network *network) { return &network->layers[network->n_layers - 1]; }

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

/* The outputs for a block of inputs, (n_in, width), in the last layer. */
static void forward(Network *network, const real *x, Block block) {
    for (Layer *layer = network->layers; layer <= last_of(network); layer++) {
        real *outputs = of_block(layer->outputs, layer, block);
        const Output out = {outputs, block.width, block.whole};
        if (layer->in_pairs) {
            const long n = n_pairs(layer->n_in);
            real *pairs = layer->input_pairs + block.number * n * block.width;
            pair_rows(x, block.width, layer->n_in, block.whole, pairs, block.width);
            product_of_pairs((Left){layer->weight_pairs, n, 1, 0}, (Right){pairs, block.width, 0}, layer->n_out, (Depth){1, n},
                             FROM_BIAS, layer->bias, out);
        } else
            product((Left){layer->weight, layer->n_in, 1, 0}, (Right){x, block.width, 0}, layer->n_out, (Depth){1, layer->n_in},
                    FROM_BIAS, layer->bias, out);
        if (layer->norm_weight) normalise(layer, block);
        real *before = needs_input(layer) ? of_block(layer->before, layer, block) : NULL;
        for (long i = 0; layer->activation != NONE && i < layer->n_out; i++)
            for (long j = i * block.width; j < i * block.width + block.whole; j += V) {
                if (before) store(before + j, load(outputs + j));
                store(outputs + j, activated(layer->activation, load(outputs + j), layer->alpha));
            }
        x = outputs;
    }
}

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

/*
 * From the gradient by the outputs, in the last layer, to those by each layer's x W^T + b. `inputs`, (n, width), takes the
 * gradient by n inputs from `first` on, or is NULL.
 */
static void backward(Network *network, Block block, real *inputs, long first, long n) {
    for (Layer *layer = last_of(network); layer >= network->layers; layer--) {
        real *gradient = of_block(layer->gradient, layer, block);
        const real *outputs = of_block(layer->outputs, layer, block);
        const real *before = needs_input(layer) ? of_block(layer->before, layer, block) : outputs;
        for (long i = 0; layer->activation != NONE && i < layer->n_out; i++)
            for (long j = i * block.width; j < i * block.width + block.whole; j += V)
                store(gradient + j, gradient_before(layer->activation, load(gradient + j), load(before + j), load(outputs + j),
                                                    layer->alpha));
        if (layer->norm_weight) normalise_backward(layer, block);
        const int is_first = layer == network->layers;
        if (is_first && !inputs) return;
        real *to = is_first ? inputs : of_block(layer[-1].gradient, &layer[-1], block);
        const long skipped = is_first ? first : 0, wanted = is_first ? n : layer->n_in;
        const Output out = {to, block.width, block.whole};
        if (layer->in_pairs) {
            const long n_rows = n_pairs(layer->n_out);
            real *pairs = layer->gradient_pairs + block.number * n_rows * block.width;
            pair_rows(gradient, block.width, layer->n_out, block.whole, pairs, block.width);
            product_of_pairs((Left){layer->weight_columns + skipped, 1, layer->n_in, 0}, (Right){pairs, block.width, 0}, wanted,
                             (Depth){1, n_rows}, FROM_ZERO, NULL, out);
        } else
            product((Left){layer->weight + skipped, 1, layer->n_in, 0}, (Right){gradient, block.width, 0}, wanted,
                    (Depth){1, layer->n_out}, FROM_ZERO, NULL, out);
    }
}

/* Where the gradients of a layer's parameters go. */
typedef struct {
    real *weight, *bias, *norm_weight, *norm_bias;
} Gradients;

/* Over all n transitions the sum of a unit's numbers, or of their products with others. */
static real sum_of_unit(const real *a, const real *b, const Layer *layer, long unit, long n, long width) {
    vec sums = {0};
    real sum = 0;
    for (long first = 0; first < n; first += width) {
        const long at = (first * layer->n_out) + unit * width, columns = n - first < width ? n - first : width;
        long j = 0;
        for (; j + V <= columns; j += V) sums += b ? load(a + at + j) * load(b + at + j) : load(a + at + j);
        for (; j < columns; j++) sum += b ? a[at + j] * b[at + j] : a[at + j];
    }
    return sum_of(sums) + sum;
}

/* The gradients of the parameters of units [first, last), summed over n transitions with the inputs x, after backward(). */
static void parameter_gradients(const Layer *layer, const real *x, long x_row, long n, long width, long first, long last,
                                Gradients to) {
    void (*const multiply)(Left, Right, long, Depth, enum Start, const real *, Output) = layer->in_pairs ? product_of_pairs : product;
    const real *gradients = layer->in_pairs ? layer->gradient_columns : layer->gradient;
    const long n_whole = n / width, rest = n % width, terms = layer->in_pairs ? width / 2 : width;
    const Output out = {to.weight + first * layer->n_in, layer->n_in, layer->n_in};
    const Left a = {gradients + first * terms, terms, 1, layer->n_out * terms};
    const Right b = {x, x_row, terms * x_row};
    multiply(a, b, last - first, (Depth){n_whole, terms}, FROM_ZERO, NULL, out);
    if (rest)
        multiply((Left){a.values + n_whole * a.part, a.row, a.depth, 0}, (Right){b.values + n_whole * b.part, b.row, 0}, last - first,
                 (Depth){1, layer->in_pairs ? n_pairs(rest) : rest}, n_whole ? FROM_OUTPUT : FROM_ZERO, NULL, out);
    for (long unit = first; unit < last; unit++) {
        to.bias[unit] = sum_of_unit(layer->gradient, NULL, layer, unit, n, width);
        if (!layer->norm_weight) continue;
        to.norm_weight[unit] = sum_of_unit(layer->norm_gradient, layer->standardised, layer, unit, n, width);
        to.norm_bias[unit] = sum_of_unit(layer->norm_gradient, NULL, layer, unit, n, width);
    }
}

/* A multilayer perceptron: what it gives out, and the gradients of its parameters and inputs. */
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

    long row;                  /* numbers from one row to the next of all that follows */
    real *transposed;          /* (n_in, n_out): W^T */
    real *outputs;             /* (n, n_out) */
    real *before;              /* (n, n_out): what the activation was given, where its derivative needs it */
    real *standardised, *rstd; /* (n, n_out), (n): LayerNorm before its weight and bias, and 1 / standard deviation */
    real *gradient;            /* (n, n_out): of the loss by the outputs, in the end by x W^T + b */
    real *norm_gradient;       /* (n, n_out): by what LayerNorm gives out */
} Layer;

typedef struct {
    int n_layers;
    Layer layers[MAX_LAYERS];
} Network;

INLINE int needs_input(const Layer *layer) { return layer->activation == SILU || layer->activation == MISH; }

INLINE Layer *last_of(Network *network) { return &network->layers[network->n_layers - 1]; }

/* Take over the present weights [first, last) of a layer. */
static void take_weights(Layer *layer, long first, long last) {
    transpose(layer->weight + first * layer->n_in, layer->n_in, last - first, layer->n_in, layer->transposed + first, layer->row);
}

/* LayerNorm of a row: (z - mean) / sqrt(variance + epsilon) * weight + bias. */
static void normalise_row(Layer *layer, long i) {
    const long n = layer->n_out, whole = n / V * V;
    real *z = layer->outputs + i * layer->row, *standardised = layer->standardised + i * layer->row;
    vec sums = {0}, squares = {0};
    real sum = 0, square = 0;
    for (long j = 0; j < whole; j += V) sums += load(z + j);
    for (long j = whole; j < n; j++) sum += z[j];
    const real mean = (sum_of(sums) + sum) / n;
    for (long j = 0; j < whole; j += V) squares += (load(z + j) - mean) * (load(z + j) - mean);
    for (long j = whole; j < n; j++) square += (z[j] - mean) * (z[j] - mean);
    const real rstd = 1 / sqrt((sum_of(squares) + square) / n + layer->epsilon);
    layer->rstd[i] = rstd;
    for (long j = 0; j < n; j += V) {
        const vec x = (load(z + j) - mean) * rstd;
        store(standardised + j, x);
        store(z + j, x * load(layer->norm_weight + j) + load(layer->norm_bias + j));
    }
}

/* Its gradient by z from that by its output: rstd (g w - mean(g w) - x mean(g w x)). */
static void normalise_row_backward(Layer *layer, long i) {
    const long n = layer->n_out;
    real *gradient = layer->gradient + i * layer->row;
    const real *x = layer->standardised + i * layer->row, *weight = layer->norm_weight;
    vec sums = {0}, products = {0};
    real sum = 0, of_products = 0;
    for (long j = 0; j < n; j += V) {
        store(layer->norm_gradient + i * layer->row + j, load(gradient + j));
        const vec weighted = load(gradient + j) * load(weight + j);
        store(gradient + j, weighted);
        if (j + V <= n)
            sums += weighted, products += weighted * load(x + j);
        else
            for (long last = j; last < n; last++) sum += gradient[last], of_products += gradient[last] * x[last];
    }
    const real mean = (sum_of(sums) + sum) / n, mean_of_products = (sum_of(products) + of_products) / n;
    for (long j = 0; j < n; j += V)
        store(gradient + j, (load(gradient + j) - mean - load(x + j) * mean_of_products) * layer->rstd[i]);
}

/* One output for each row: sums along the rows, where a product of matrices would waste most of its columns. */
static void single_output(Layer *layer, const real *x, long x_row, long first, long last) {
    const long n = layer->n_in, whole = n / V * V;
    for (long i = first; i < last; i++) {
        vec sums = {0};
        real sum = layer->bias[0];
        for (long k = 0; k < whole; k += V) sums += load(x + i * x_row + k) * load(layer->weight + k);
        for (long k = whole; k < n; k++) sum += x[i * x_row + k] * layer->weight[k];
        layer->outputs[i * layer->row] = sum_of(sums) + sum;
    }
}

/* The outputs of the rows [first, last) of x, in the last layer. */
static void forward(Network *network, const real *x, long x_row, long first, long last) {
    for (Layer *layer = network->layers; layer <= last_of(network); layer++) {
        const long columns = rounded_up(layer->n_out, V);
        if (layer->n_out == 1)
            single_output(layer, x, x_row, first, last);
        else
            product((Left){x + first * x_row, x_row, 1}, (Right){layer->transposed, layer->row}, layer->bias, last - first,
                    layer->n_in, (Output){layer->outputs + first * layer->row, layer->row, columns});
        if (layer->norm_weight)
            for (long i = first; i < last; i++) normalise_row(layer, i);
        if (layer->activation != NONE)
            for (long i = first; i < last; i++) {
                real *y = layer->outputs + i * layer->row;
                if (needs_input(layer)) memcpy(layer->before + i * layer->row, y, columns * sizeof(real));
                for (long j = 0; j < columns; j += V) store(y + j, activated(layer->activation, load(y + j), layer->alpha));
            }
        x = layer->outputs, x_row = layer->row;
    }
}

/*
 * From the gradient by the outputs, in the last layer, to those by each layer's x W^T + b; rows [first, last).
 * `inputs` takes the gradient by the columns of the input from `column` on, n_columns of it, or is NULL.
 */
static void backward(Network *network, long first, long last, long column, Output inputs) {
    for (Layer *layer = last_of(network); layer >= network->layers; layer--) {
        real *gradient = layer->gradient + first * layer->row;
        for (long i = first; i < last; i++) {
            for (long j = 0; layer->activation != NONE && j < layer->n_out; j += V) {
                const long at = i * layer->row + j;
                const vec before = needs_input(layer) ? load(layer->before + at) : (vec){0};
                store(layer->gradient + at, gradient_before(layer->activation, load(layer->gradient + at), before,
                                                            load(layer->outputs + at), layer->alpha));
            }
            if (layer->norm_weight) normalise_row_backward(layer, i);
        }
        const Left by_outputs = {gradient, layer->row, 1};
        if (layer > network->layers) {
            const Layer *below = layer - 1;
            product(by_outputs, (Right){layer->weight, layer->n_in}, NULL, last - first, layer->n_out,
                    (Output){below->gradient + first * below->row, below->row, rounded_up(below->n_out, V)});
        } else if (inputs.values) {
            product(by_outputs, (Right){layer->weight + column, layer->n_in}, NULL, last - first, layer->n_out,
                    (Output){inputs.values + first * inputs.row, inputs.row, inputs.n_columns});
        }
    }
}

/* to(j) = sum over i of a(i, j), or of a(i, j) b(i, j), for columns [first, last) of n rows. */
static void sum_columns(const real *a, const real *b, long row, long n, long first, long last, real *to) {
    for (long j = first; j < last; j += V) {
        vec sums = {0};
        for (long i = 0; i < n; i++) sums += b ? load(a + i * row + j) * load(b + i * row + j) : load(a + i * row + j);
        store_first(to + j, sums, last - j);
    }
}

/* Where the gradients of a layer's parameters go. */
typedef struct {
    real *weight, *bias, *norm_weight, *norm_bias;
} Gradients;

/* The gradients of the parameters of units [first, last), summed over n rows, after backward(). */
static void parameter_gradients(const Layer *layer, const real *x, long x_row, long n, long first, long last, Gradients to) {
    product((Left){layer->gradient + first, 1, layer->row}, (Right){x, x_row}, NULL, last - first, n,
            (Output){to.weight + first * layer->n_in, layer->n_in, layer->n_in});
    sum_columns(layer->gradient, NULL, layer->row, n, first, last, to.bias);
    if (!layer->norm_weight) return;
    sum_columns(layer->norm_gradient, layer->standardised, layer->row, n, first, last, to.norm_weight);
    sum_columns(layer->norm_gradient, NULL, layer->row, n, first, last, to.norm_bias);
}

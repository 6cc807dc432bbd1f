/* exp and the like of whole vectors: to the last bits in float; in double, where speed matters little, by the C library. */
#pragma once
#include "vectors.h"

/* exp(x) as 2^n exp(r) with |r| <= log(2) / 2; coefficients of Cephes' expf (S. Moshier). NaN stays NaN. */
INLINE vec exponential(vec x) {
    vec result;
    if (sizeof(real) == 8) {
        for (int i = 0; i < V; i++) result[i] = exp(x[i]);
        return result;
    }
    x = choose(x > 88, all(88), choose(x < -87, all(-87), x));
    const mask n = __builtin_convertvector(x * (real)1.44269504088896341 + choose(x < 0, all(-0.5), all(0.5)), mask);
    const vec whole = __builtin_convertvector(n, vec);
    const vec r = x - whole * (real)0.693359375 + whole * (real)2.12194440e-4;
    result = all(1.9875691500e-4);
    result = result * r + (real)1.3981999507e-3;
    result = result * r + (real)8.3334519073e-3;
    result = result * r + (real)4.1665795894e-2;
    result = result * r + (real)1.6666665459e-1;
    result = result * r + (real)5.0000001201e-1;
    result = result * r * r + r + 1;
    return result * (vec)((n + 127) << 23);
}

/* Cephes' tanhf: an odd polynomial near 0, and 1 - 2 / (exp(2x) + 1). */
INLINE vec hyperbolic_tangent(vec x) {
    vec result;
    if (sizeof(real) == 8) {
        for (int i = 0; i < V; i++) result[i] = tanh(x[i]);
        return result;
    }
    const vec z = x * x;
    result = all(-5.70498872745e-3);
    result = result * z + (real)2.06390887954e-2;
    result = result * z - (real)5.37397155531e-2;
    result = result * z + (real)1.33314422036e-1;
    result = result * z - (real)3.33332819422e-1;
    return choose(z < (real)(0.625 * 0.625), result * z * x + x, 1 - 2 / (exponential(2 * x) + 1));
}

INLINE vec sigmoid(vec x) { return 1 / (1 + exponential(-x)); }

/* tanh(softplus(x)) = (w^2 + 2w) / (w^2 + 2w + 2) with w = exp(x). */
INLINE vec tanh_of_softplus(vec x) {
    const vec w = exponential(choose(x > 30, all(30), x));
    const vec part = w * (w + 2);
    return choose(x > 20, x - x + 1, part / (part + 2));
}

enum Activation { NONE, RELU, TANH, ELU, SILU, MISH };

INLINE vec activated(int activation, vec x, real alpha) {
    switch (activation) {
        case RELU: return choose(x < 0, (vec){0}, x);
        case TANH: return hyperbolic_tangent(x);
        case ELU: return choose(x > 0, x, alpha * hyperbolic_tangent(x * (real)0.5) * (exponential(choose(x > 0, (vec){0}, x)) + 1));
        case SILU: return x * sigmoid(x);
        case MISH: return x * tanh_of_softplus(x);
        default: return x;
    }
}

/* From the gradient of the output y to that of the input x. */
INLINE vec gradient_before(int activation, vec gradient, vec x, vec y, real alpha) {
    switch (activation) {
        case RELU: return choose(y <= 0, (vec){0}, gradient);
        case TANH: return gradient * (1 - y * y);
        case ELU: return choose(y <= 0, gradient * (y + alpha), gradient);
        case SILU: {
            const vec s = sigmoid(x);
            return gradient * s * (1 + x * (1 - s));
        }
        case MISH: {
            const vec t = tanh_of_softplus(x);
            return gradient * (t + x * (1 - t * t) * sigmoid(x));
        }
        default: return gradient;
    }
}

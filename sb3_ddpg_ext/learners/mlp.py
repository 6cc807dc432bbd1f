"""A multilayer perceptron whose gradients are written out, computed in memory that is allocated once."""

from collections.abc import Callable
from typing import Any

import torch as th
from torch import nn

from sb3_ddpg_ext.networks import Layer, plain_layers

aten = th.ops.aten
SMALL_PRODUCT = 2e6  # multiply-adds, below which several threads gain nothing

# For each activation: itself in place, and its derivative, which turns the gradient g of the output into that of the input in
# place. Those of SiLU and Mish need the input; the others can be had from the output y.
FORWARD: dict[type, Callable[[th.Tensor, Any], th.Tensor]] = {
    nn.ReLU: lambda z, module: th.relu_(z),
    nn.Tanh: lambda z, module: th.tanh_(z),
    nn.ELU: lambda z, module: aten.elu_(z, module.alpha),
    nn.SiLU: lambda z, module: aten.silu_(z),
    nn.Mish: lambda z, module: aten.mish_(z),
}
BACKWARD: dict[type, Callable[[th.Tensor, th.Tensor, Any], th.Tensor]] = {
    nn.ReLU: lambda g, y, module: aten.threshold_backward.grad_input(g, y, 0, grad_input=g),
    nn.Tanh: lambda g, y, module: aten.tanh_backward.grad_input(g, y, grad_input=g),
    nn.ELU: lambda g, y, module: aten.elu_backward.grad_input(g, module.alpha, 1, 1, True, y, grad_input=g),
    nn.SiLU: lambda g, z, module: aten.silu_backward.grad_input(g, z, grad_input=g),
    nn.Mish: lambda g, z, module: g.copy_(aten.mish_backward(g, z)),
}


class Products:
    """
    Large matrix products by ``n_threads`` of torch's threads, within a context of one.

    What is between them is short and bound by memory; a second thread makes it slower. It would also see denormal numbers,
    which torch flushes in the calling thread only.
    """

    n_threads = 1

    def mm(self, a: th.Tensor, b: th.Tensor, out: th.Tensor) -> th.Tensor:
        if self.n_threads == 1 or out.numel() * a.shape[1] < SMALL_PRODUCT:
            return th.mm(a, b, out=out)
        th.set_num_threads(self.n_threads)
        th.mm(a, b, out=out)
        th.set_num_threads(1)
        return out


class FusedLayer:
    """
    ``activation(norm(linear(x)))`` and its gradients.

    :param layer: its modules; the parameters and, where they have one, the ``.grad`` are read and written in place
    :param products: computes the matrix products
    :param columns: of x, whose gradient ``backward`` can give
    """

    def __init__(self, layer: Layer, products: Products, columns: slice):
        linear, self.norm, self.activation = layer
        self.products = products
        self.weight, self.bias = linear.weight.data, linear.bias.data
        self.weight_t, self.weight_columns = self.weight.t(), self.weight[:, columns]
        self.grad_weight: Any = linear.weight.grad  # None in a target, which has no gradients
        self.grad_bias: Any = linear.bias.grad
        self.grad_norm: list[Any] = [p.grad for p in layer.norm.parameters()] if layer.norm is not None else []
        self.keeps_input = type(self.activation) in (nn.SiLU, nn.Mish)
        self.activate = FORWARD.get(type(self.activation))
        self.derive = BACKWARD.get(type(self.activation))

    def allocate(self, n: int) -> None:
        """Memory for batches of ``n``, among it ``grad``, where the gradient of the output is to be put."""
        self.z, self.grad = (self.weight.new_empty(n, len(self.weight)) for _ in range(2))
        self.grad_t = self.grad.t()
        if self.keeps_input:
            self.y = th.empty_like(self.z)

    def forward(self, x: th.Tensor) -> th.Tensor:
        """From x (batch, in) to y (batch, out), which is overwritten by the next call."""
        self.x = x
        y = self.products.mm(x, self.weight_t, out=self.z)
        y.add_(self.bias)  # not addmm, which begins by copying the bias to every row
        if self.norm is not None:
            norm = self.norm
            y, self.mean, self.rstd = th.native_layer_norm(y, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        self.before = y
        if self.activate is not None:
            y = self.activate(self.y.copy_(y) if self.keeps_input else y, self.activation)
        self.after = y
        return y

    def backward(self, wrt_parameters: bool, into: th.Tensor | None) -> None:
        """
        From ``grad``, which is overwritten.

        :param wrt_parameters: write the gradients of the parameters
        :param into: where the gradient of x's ``columns`` goes, if it is wanted
        """
        grad, grad_t = self.grad, self.grad_t
        if self.derive is not None:
            self.derive(grad, self.before if self.keeps_input else self.after, self.activation)
        if self.norm is not None:
            grad = self._norm_backward(wrt_parameters)
            grad_t = grad.t()
        if wrt_parameters:
            self.products.mm(grad_t, self.x, out=self.grad_weight)
            th.sum(grad, 0, out=self.grad_bias)
        if into is not None:
            self.products.mm(grad, self.weight_columns, out=into)

    def _norm_backward(self, wrt_parameters: bool) -> th.Tensor:
        norm = self.norm
        assert norm is not None
        grad_z, *grad_norm = aten.native_layer_norm_backward(
            self.grad, self.z, norm.normalized_shape, self.mean, self.rstd, norm.weight, norm.bias,
            [True, wrt_parameters, wrt_parameters],
        )  # fmt: skip
        if wrt_parameters:
            for mine, grad in zip(self.grad_norm, grad_norm, strict=True):
                mine.copy_(grad)
        return grad_z


class FusedMLP:
    """
    ``forward`` and ``backward`` of a plain ``Sequential``.

    :param net: see :func:`sb3_ddpg_ext.networks.plain_layers`
    :param products: computes the matrix products
    :param columns: of the input, whose gradient ``backward`` can give
    """

    def __init__(self, net: nn.Module, products: Products, columns: slice = slice(None)):
        layers = plain_layers(net)
        self.layers = [FusedLayer(layer, products, columns if i == 0 else slice(None)) for i, layer in enumerate(layers)]

    def allocate(self, n: int) -> None:
        """Memory for batches of ``n``, among it ``grad``, where the gradient of the output is to be put."""
        for layer in self.layers:
            layer.allocate(n)
        self.grad = self.layers[-1].grad  # (batch, out)

    def forward(self, x: th.Tensor) -> th.Tensor:
        """From x (batch, in) to (batch, out), which is overwritten by the next call."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, wrt_parameters: bool = True, into: th.Tensor | None = None) -> None:
        """
        From ``grad``, after the last ``forward``.

        :param wrt_parameters: write the gradients of the parameters into their ``.grad``
        :param into: where the gradient of the input's ``columns`` goes, if it is wanted
        """
        for i in reversed(range(1, len(self.layers))):
            self.layers[i].backward(wrt_parameters, self.layers[i - 1].grad)
        self.layers[0].backward(wrt_parameters, into)

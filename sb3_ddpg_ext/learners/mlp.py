"""A multilayer perceptron whose gradients are written out, computed in memory most of which is allocated once."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch as th
from torch import nn

from sb3_ddpg_ext.networks import Layer, normed_layers

aten = th.ops.aten
EVERYTHING = slice(None)
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


class Norm(ABC):
    """
    A normalisation and its gradients.

    :param norm: the module; its parameters and, where they have one, their ``.grad`` are read and written in place
    """

    def __init__(self, norm: Any):
        self.norm, self.weight, self.bias = norm, norm.weight.data, norm.bias.data
        self.gradients: list[Any] = [norm.weight.grad, norm.bias.grad]  # None in a target
        self.of_batch = False  # whether the last forward pass was by the statistics of the batch

    @abstractmethod
    def forward(self, z: th.Tensor, of_batch: bool) -> th.Tensor:
        """From z (batch, units) to the same shape. For ``of_batch`` see :class:`FusedMLP`."""

    def backward(self, grad: th.Tensor, z: th.Tensor, wrt_parameters: bool) -> th.Tensor:
        """The gradient of ``z`` from that of the output; those of the parameters go into their ``.grad``."""
        grad_z, *own = self._gradients(grad, z, [True, wrt_parameters, wrt_parameters])
        for mine, gradient in zip(self.gradients, own, strict=True) if wrt_parameters else ():
            mine.copy_(gradient)
        return grad_z

    @abstractmethod
    def _gradients(self, grad: th.Tensor, z: th.Tensor, wanted: list[bool]) -> tuple[th.Tensor, ...]:
        """Of ``z``, weight and bias."""


class LayerNorm(Norm):
    """Ba et al. (2016), of each transition by itself."""

    def forward(self, z: th.Tensor, of_batch: bool) -> th.Tensor:
        norm = self.norm
        y, self.mean, self.rstd = th.native_layer_norm(z, norm.normalized_shape, self.weight, self.bias, norm.eps)
        return y

    def _gradients(self, grad: th.Tensor, z: th.Tensor, wanted: list[bool]) -> tuple[th.Tensor, ...]:
        return aten.native_layer_norm_backward(
            grad, z, self.norm.normalized_shape, self.mean, self.rstd, self.weight, self.bias, wanted
        )


class BatchNorm(Norm):
    """
    Ioffe & Szegedy (2015). Each unit is normalised by the statistics of the batch, which move the running ones, or by the
    running ones. These are read and written in place.
    """

    def __init__(self, norm: Any):
        super().__init__(norm)
        self.buffers = norm._buffers

    def forward(self, z: th.Tensor, of_batch: bool) -> th.Tensor:
        momentum, running = self.norm.momentum, (self.buffers["running_mean"], self.buffers["running_var"])
        self.of_batch = of_batch
        if of_batch:
            n_batches = self.buffers["num_batches_tracked"].add_(1)
            momentum = 1 / int(n_batches) if momentum is None else momentum
        y, self.mean, self.rstd = th.native_batch_norm(
            z, self.weight, self.bias, *running, of_batch, momentum or 0.0, self.norm.eps
        )
        return y

    def _gradients(self, grad: th.Tensor, z: th.Tensor, wanted: list[bool]) -> tuple[th.Tensor, ...]:
        running = self.buffers["running_mean"], self.buffers["running_var"]
        return aten.native_batch_norm_backward(
            grad, z, self.weight, *running, self.mean, self.rstd, self.of_batch, self.norm.eps, wanted
        )


NORMS: dict[type, type[Norm]] = {nn.LayerNorm: LayerNorm, nn.BatchNorm1d: BatchNorm}


class FusedLayer:
    """
    ``activation(norm(linear(x)))`` and its gradients.

    :param layer: its modules; the parameters and, where they have one, the ``.grad`` are read and written in place
    :param products: computes the matrix products
    """

    def __init__(self, layer: Layer, products: Products):
        linear, norm, self.activation = layer
        self.products = products
        self.norm = None if norm is None else NORMS[type(norm)](norm)
        self.weight, self.bias = linear.weight.data, linear.bias.data
        self.weight_t = self.weight.t()
        self.grad_weight: Any = linear.weight.grad  # None in a target, which has no gradients
        self.grad_bias: Any = linear.bias.grad
        self.keeps_input = self.needs_input = type(self.activation) in (nn.SiLU, nn.Mish)
        self.activate = FORWARD.get(type(self.activation))
        self.derive = BACKWARD.get(type(self.activation))
        self.penalty = 0.0

    def penalise(self, weight: float) -> None:
        """:param weight: of the mean square of what the activation is given, in the loss; 0 for none"""
        self.penalty = weight
        self.keeps_input |= weight > 0

    def allocate(self, n: int) -> None:
        """Memory for batches of ``n``, among it ``grad``, where the gradient of the output is to be put."""
        self.z, self.grad = (self.weight.new_empty(n, len(self.weight)) for _ in range(2))
        if self.keeps_input:
            self.y = th.empty_like(self.z)

    def forward(self, x: th.Tensor, of_batch: bool) -> th.Tensor:
        """From x (batch, in) to y (batch, out), which is overwritten by the next call. See :class:`FusedMLP`."""
        self.x = x
        y = self.products.mm(x, self.weight_t, out=self.z)
        y.add_(self.bias)  # not addmm, which begins by copying the bias to every row
        if self.norm is not None:
            y = self.norm.forward(y, of_batch)
        self.before = y
        if self.activate is not None:
            y = self.activate(self.y.copy_(y) if self.keeps_input else y, self.activation)
        self.after = y
        return y

    def backward(
        self, wrt_parameters: bool, into: th.Tensor | None, columns: slice = EVERYTHING, n: int | None = None
    ) -> None:
        """
        From ``grad``, which is overwritten.

        :param wrt_parameters: write the gradients of the parameters
        :param into: where the gradient of x's ``columns`` goes, if it is wanted
        :param columns: of x
        :param n: so many rows of ``grad`` count, in a layer that is linear only; the others are taken as zero
        """
        grad, x = self.grad, self.x
        if n is not None:
            grad, x = grad[:n], x[:n]
            if into is not None:
                into[n:].zero_()
                into = into[:n]
        if self.derive is not None:
            self.derive(grad, self.before if self.needs_input else self.after, self.activation)
            if self.penalty:
                grad.add_(self.before, alpha=2 * self.penalty / grad.numel())
        if self.norm is not None:
            grad = self.norm.backward(grad, self.z, wrt_parameters)
        if wrt_parameters:
            self.products.mm(grad.t(), x, out=self.grad_weight)
            if self.norm is not None and self.norm.of_batch:  # which takes away what is added to all of the batch
                self.grad_bias.zero_()
            else:
                th.sum(grad, 0, out=self.grad_bias)
        if into is not None:
            self.products.mm(grad, self.weight if columns is EVERYTHING else self.weight[:, columns], out=into)


class InputNorm:
    """
    BatchNorm of the first inputs of a network; the others are left as they are.

    :param norm: the module
    :param n_inputs: of the network
    """

    def __init__(self, norm: Any, n_inputs: int):
        self.norm, self.n_inputs, self.n_normed = BatchNorm(norm), n_inputs, norm.num_features

    def allocate(self, n: int) -> None:
        """Memory for batches of ``n``, among it ``grad``, where the gradient of what is normalised is to be put."""
        self.grad, self.z = (self.norm.weight.new_empty(n, size) for size in (self.n_normed, self.n_inputs))

    def forward(self, x: th.Tensor, of_batch: bool) -> th.Tensor:
        """From x (batch, inputs) to the same shape."""
        n = self.n_normed
        self.x = x[:, :n]
        self.z[:, :n] = self.norm.forward(self.x, of_batch)
        self.z[:, n:] = x[:, n:]
        return self.z

    def backward(self) -> None:
        """Write the gradients of the parameters."""
        self.norm.backward(self.grad, self.x, wrt_parameters=True)


class FusedMLP:
    """
    ``forward`` and ``backward`` of a multilayer perceptron.

    :param net: see :func:`sb3_ddpg_ext.networks.normed_layers`
    :param products: computes the matrix products
    :param columns: of the input, whose gradient ``backward`` can give; they are not normalised
    """

    def __init__(self, net: nn.Module, products: Products, columns: slice = EVERYTHING):
        first, *others = layers = normed_layers(net)
        self.columns = columns
        self.input_norm = InputNorm(first.norm, others[0].n_inputs) if first.linear is None else None
        self.layers = [FusedLayer(layer, products) for layer in layers if layer.linear is not None]

    def allocate(self, n: int) -> None:
        """Memory for batches of ``n``, among it ``grad``, where the gradient of the output is to be put."""
        if self.input_norm is not None:
            self.input_norm.allocate(n)
        for layer in self.layers:
            layer.allocate(n)
        self.grad = self.layers[-1].grad  # (batch, out)

    def forward(self, x: th.Tensor, of_batch: bool) -> th.Tensor:
        """
        From x (batch, in) to (batch, out), which is overwritten by the next call.

        :param x: the inputs
        :param of_batch: whether BatchNorm normalises by the batch; else by its running statistics
        """
        if self.input_norm is not None:
            x = self.input_norm.forward(x, of_batch)
        for layer in self.layers:
            x = layer.forward(x, of_batch)
        return x

    def backward(self, wrt_parameters: bool = True, into: th.Tensor | None = None, n: int | None = None) -> None:
        """
        From ``grad``, after the last ``forward``.

        :param wrt_parameters: write the gradients of the parameters into their ``.grad``
        :param into: where the gradient of the input's ``columns`` goes; only with ``wrt_parameters=False``
        :param n: so many rows of ``grad`` count; the others are taken as zero
        """
        first, *others = self.layers
        for layer, before in zip(reversed(others), reversed(self.layers[:-1]), strict=True):
            layer.backward(wrt_parameters, before.grad, n=n)
            n = None
        if self.input_norm is not None and wrt_parameters:
            first.backward(True, self.input_norm.grad, slice(self.input_norm.n_normed), n)
            self.input_norm.backward()
        else:
            first.backward(wrt_parameters, into, self.columns, n)

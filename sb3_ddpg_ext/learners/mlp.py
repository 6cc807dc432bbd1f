"""A multilayer perceptron whose gradients are written out, computed in memory that is allocated once."""

from collections.abc import Callable
from typing import Any

import torch as th
from torch import nn

from sb3_ddpg_ext.networks import Layer, plain_layers

aten = th.ops.aten

# For each activation: itself in place, and its derivative, which turns the gradient g of the output into that of the input in
# place. SiLU's needs the input; the others can be had from the output y.
FORWARD: dict[type, Callable[[th.Tensor, Any], th.Tensor]] = {
    nn.ReLU: lambda z, module: th.relu_(z),
    nn.Tanh: lambda z, module: th.tanh_(z),
    nn.ELU: lambda z, module: aten.elu_(z, module.alpha),
    nn.SiLU: lambda z, module: aten.silu_(z),
}
BACKWARD: dict[type, Callable[[th.Tensor, th.Tensor, Any], th.Tensor]] = {
    nn.ReLU: lambda g, y, module: aten.threshold_backward.grad_input(g, y, 0, grad_input=g),
    nn.Tanh: lambda g, y, module: aten.tanh_backward.grad_input(g, y, grad_input=g),
    nn.ELU: lambda g, y, module: aten.elu_backward.grad_input(g, module.alpha, 1, 1, True, y, grad_input=g),
    nn.SiLU: lambda g, z, module: aten.silu_backward.grad_input(g, z, grad_input=g),
}
ALL, NONE = slice(None), slice(0, 0)
WIDE = 128  # smallest side of a matrix product that is worth being rounded to bfloat16


class FusedLayer:
    """
    ``activation(norm(linear(x)))`` and its gradients.

    :param layer: its modules; the parameters and, where they have one, the ``.grad`` are read and written in place
    :param bf16: compute its matrix products in bfloat16, if they are large enough
    """

    def __init__(self, layer: Layer, bf16: bool):
        self.linear, self.norm, self.activation = layer
        self.weight, self.bias = layer.linear.weight.data, layer.linear.bias.data
        self.weight_t = self.weight.t()
        self.grad_weight: Any = layer.linear.weight.grad  # None in a target, which has no gradients
        self.grad_bias: Any = layer.linear.bias.grad
        self.grad_norm: list[Any] = [p.grad for p in layer.norm.parameters()] if layer.norm is not None else []
        self.bf16 = bf16 and min(self.weight.shape) >= WIDE
        self.keeps_input = type(self.activation) is nn.SiLU
        self.forward_activation = FORWARD.get(type(self.activation))
        self.backward_activation = BACKWARD.get(type(self.activation))

    def allocate(self, n: int) -> None:
        """Memory for batches of ``n``."""
        n_out, n_in = self.weight.shape
        self.z = self.weight.new_empty(n, n_out)
        self.grad_x = self.weight.new_empty(n, n_in)
        self.y = th.empty_like(self.z) if self.keeps_input else self.z
        if self.bf16:
            self.weight_16 = self.weight.bfloat16()
            self.x_16, self.z_16, self.grad_16, self.grad_x_16, self.grad_weight_16 = (
                th.empty(shape, dtype=th.bfloat16) for shape in ((n, n_in), (n, n_out), (n, n_out), (n, n_in), (n_out, n_in))
            )

    def forward(self, x: th.Tensor) -> th.Tensor:
        """From x (batch, in) to y (batch, out), which is overwritten by the next call."""
        self.x = x
        if self.bf16:
            self.weight_16.copy_(self.weight)
            self.x_16.copy_(x)
            self.z.copy_(th.mm(self.x_16, self.weight_16.t(), out=self.z_16)).add_(self.bias)
        else:
            th.addmm(self.bias, x, self.weight_t, out=self.z)
        y = self.z
        if self.norm is not None:
            norm = self.norm
            y, self.mean, self.rstd = th.native_layer_norm(y, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        self.before = y
        if self.forward_activation is not None:
            if self.keeps_input:
                y = self.y.copy_(y)
            y = self.forward_activation(y, self.activation)
        self.after = y
        return y

    def backward(self, grad: th.Tensor, wrt_parameters: bool, wrt_input: slice) -> th.Tensor:
        """
        :param grad: of the output (batch, out); overwritten
        :param wrt_parameters: write the gradients of weight and bias
        :param wrt_input: columns of x
        :return: the gradient of those columns
        """
        if self.backward_activation is not None:
            grad = self.backward_activation(grad, self.before if self.keeps_input else self.after, self.activation)
        if self.norm is not None:
            grad = self._norm_backward(grad, wrt_parameters)
        if self.bf16:
            self.grad_16.copy_(grad)
        if wrt_parameters:
            if self.bf16:
                self.grad_weight.copy_(th.mm(self.grad_16.t(), self.x_16, out=self.grad_weight_16))
            else:
                th.mm(grad.t(), self.x, out=self.grad_weight)
            th.sum(grad, 0, out=self.grad_bias)
        if wrt_input == NONE:
            return grad
        if wrt_input != ALL:
            return th.mm(grad, self.weight[:, wrt_input])
        if self.bf16:
            return self.grad_x.copy_(th.mm(self.grad_16, self.weight_16, out=self.grad_x_16))
        return th.mm(grad, self.weight, out=self.grad_x)

    def _norm_backward(self, grad: th.Tensor, wrt_parameters: bool) -> th.Tensor:
        norm = self.norm
        assert norm is not None
        grad_z, grad_weight, grad_bias = aten.native_layer_norm_backward(
            grad, self.z, norm.normalized_shape, self.mean, self.rstd, norm.weight, norm.bias,
            [True, wrt_parameters, wrt_parameters],
        )  # fmt: skip
        if wrt_parameters:
            self.grad_norm[0].copy_(grad_weight)
            self.grad_norm[1].copy_(grad_bias)
        return grad_z


class FusedMLP:
    """
    ``forward`` and ``backward`` of a plain ``Sequential``.

    :param net: see :func:`sb3_ddpg_ext.networks.plain_layers`
    :param bf16: compute large matrix products in bfloat16, the others and all that is stored in float32
    """

    def __init__(self, net: nn.Module, bf16: bool = False):
        self.layers = [FusedLayer(layer, bf16) for layer in plain_layers(net)]
        self.batch_size = -1

    def forward(self, x: th.Tensor) -> th.Tensor:
        """From x (batch, in) to (batch, out), which is overwritten by the next call."""
        if len(x) != self.batch_size:
            self.batch_size = len(x)
            for layer in self.layers:
                layer.allocate(self.batch_size)
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: th.Tensor, wrt_parameters: bool = True, wrt_input: slice = NONE) -> th.Tensor:
        """
        Gradients after the last ``forward``.

        :param grad: of the output (batch, out); overwritten
        :param wrt_parameters: write the gradients of the parameters into their ``.grad``
        :param wrt_input: columns of x whose gradient to return
        """
        for i in reversed(range(len(self.layers))):
            grad = self.layers[i].backward(grad, wrt_parameters, ALL if i > 0 else wrt_input)
        return grad

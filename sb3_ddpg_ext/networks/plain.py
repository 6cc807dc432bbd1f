"""The layers of a plain multilayer perceptron, for code that computes it without calling its modules."""

import inspect
from collections.abc import Iterable
from itertools import chain, pairwise
from operator import is_
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules import module as nn_module

# Alike in training and evaluation, and without random draws.
PLAIN_ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.Mish)


class Layer(NamedTuple):
    """``activation(norm(linear(x)))``, the last two where they are not None."""

    linear: nn.Linear
    norm: nn.LayerNorm | None
    activation: nn.Module | None


class NotPlain(ValueError):
    """A network that is more than Linear layers, LayerNorm and the known activations; the message says what."""


def plain_layers(net: nn.Module) -> list[Layer]:
    """
    Take a ``Sequential`` of Linear, LayerNorm and activation apart.

    :raises NotPlain: if it holds anything else, or has hooks that a direct computation would leave out
    """
    if type(net) is not nn.Sequential:
        raise NotPlain(f"a {type(net).__name__} is not a plain Sequential")
    layers: list[Layer] = []
    for module in net:
        if type(module) is nn.Linear and module.bias is not None:
            layers.append(Layer(module, None, None))
        elif type(module) is nn.LayerNorm and layers and _normalises(module, layers[-1]):
            layers[-1] = layers[-1]._replace(norm=module)
        elif _is_plain_activation(module) and layers and layers[-1].activation is None:
            layers[-1] = layers[-1]._replace(activation=module)
        else:
            raise NotPlain(
                f"{module} is not one of its Linear (with bias), LayerNorm, ReLU, Tanh, ELU, SiLU, Mish in that order"
            )
    if any(hooks_of(net.modules())):
        raise NotPlain("its modules have forward or backward hooks")
    if not _fit(layers):
        raise NotPlain("the shapes of its parameters do not fit each other")
    return layers


def _is_plain_activation(module: nn.Module) -> bool:
    """Also by the range of ELU's alpha, where its derivative can be had from its output."""
    return type(module) in PLAIN_ACTIVATIONS and getattr(module, "alpha", 1.0) >= 0


def _fit(layers: list[Layer]) -> bool:
    """Whether each weight has as many columns as the one before has rows, and what belongs to it as many numbers as rows."""
    shapes = [layer.linear.weight.shape for layer in layers]
    vectors = [
        (vector.shape, len(linear.weight))
        for linear, norm, _ in layers
        for vector in (linear.bias, *(() if norm is None else (norm.weight, norm.bias)))
    ]
    follow = all(after[1] == before[0] for before, after in pairwise(shapes))
    return follow and all(shape == (n,) for shape, n in vectors)


def _normalises(norm: nn.LayerNorm, layer: Layer) -> bool:
    """Whether ``norm`` is over all outputs of a bare Linear, with weight and bias."""
    is_bare = layer.norm is None and layer.activation is None
    return (
        is_bare and norm.normalized_shape == (layer.linear.out_features,) and norm.elementwise_affine and norm.bias is not None
    )


def hooks_of(modules: Iterable[nn.Module]) -> list[dict]:
    """The dicts that hold the hooks of these modules, and those of all modules; most of them are empty."""
    own = [(m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks) for m in modules]
    everyones = (
        nn_module._global_forward_hooks,
        nn_module._global_forward_pre_hooks,
        nn_module._global_backward_hooks,
        nn_module._global_backward_pre_hooks,
    )
    return [register for registers in (everyones, *own) for register in registers]


def replaced_methods(thing: Any) -> list[str]:
    """:return: the names of methods that this object alone has been given in place of those of its class"""
    return [name for name in vars(thing) if inspect.isroutine(getattr(type(thing), name, None))]


class Snapshot:
    """
    Remembers the modules and parameters of some networks, to see quickly whether they have changed.

    :param networks: with all that is inside them
    """

    def __init__(self, *networks: nn.Module):
        modules = [module for network in networks for module in network.modules()]
        self.children = [module._modules for module in modules if module._modules]
        self.n_children, self.all_children = self._count(), self._all()
        self.own = [module._parameters for module in modules if module._parameters]
        self.parameters = self._parameters()
        self.modules, self.types = modules, list(map(type, modules))
        self.hooks = hooks_of(modules)

    def is_current(self) -> bool:
        """
        Whether no module or parameter was replaced, no module appended or changed in type, as parametrizations do, and none
        has hooks.
        """
        if any(self.hooks) or list(map(type, self.modules)) != self.types:
            return False
        if self._count() != self.n_children or self._all() != self.all_children:
            return False
        present = self._parameters()
        return len(present) == len(self.parameters) and all(map(is_, present, self.parameters))

    def _parameters(self) -> list[nn.Parameter | None]:
        return list(chain.from_iterable(map(dict.values, self.own)))

    def _count(self) -> list[int]:
        return list(map(len, self.children))

    def _all(self) -> list[nn.Module | None]:
        return list(chain.from_iterable(map(dict.values, self.children)))

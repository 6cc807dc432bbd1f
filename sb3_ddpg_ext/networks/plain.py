"""The layers of a plain multilayer perceptron, for code that computes it without calling its modules."""

import inspect
from collections.abc import Iterable
from itertools import chain, pairwise
from operator import is_
from typing import Any, NamedTuple

from torch import nn
from torch.nn.modules import module as nn_module

from sb3_ddpg_ext.networks.layers import LateAction

# Alike in training and evaluation, and without random draws.
PLAIN_ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.Mish)


class Layer(NamedTuple):
    """``activation(norm(linear(x)))``, those that are not None."""

    linear: Any  # nn.Linear; None only for what normed_layers() finds before the first one
    norm: Any  # nn.LayerNorm, from normed_layers() also nn.BatchNorm1d, or None
    activation: nn.Module | None

    @property
    def n_inputs(self) -> int:
        """Features that go in, or that are normalised."""
        return self.norm.num_features if self.linear is None else self.linear.weight.shape[1]

    def parameters(self) -> list[nn.Parameter | None]:
        """Weight, bias, and those of the normalisation, None where there are none."""
        return [
            p for module in (self.linear, self.norm) for p in (getattr(module, "weight", None), getattr(module, "bias", None))
        ]


class NotPlain(ValueError):
    """A network that is more than Linear layers, LayerNorm and the known activations; the message says what."""


def plain_layers(net: nn.Module) -> list[Layer]:
    """
    Take a ``Sequential`` of Linear, LayerNorm and activation apart.

    :raises NotPlain: if it holds anything else, or has hooks that a direct computation would leave out
    """
    if type(net) is not nn.Sequential:
        raise NotPlain(f"a {type(net).__name__} is not a plain Sequential")
    return _layers_of(net, net, (nn.LayerNorm,))


def normed_layers(net: nn.Module) -> list[Layer]:
    """
    The same with BatchNorm in place of LayerNorm, too, which is not alike in training and evaluation, and may come first: that
    is a layer without ``linear``. Before a critic's actions enter, :class:`LateAction` may have that much and no more.

    :raises NotPlain: if it holds anything else
    """
    norms = (nn.LayerNorm, nn.BatchNorm1d)
    if type(net) is nn.Sequential:
        return _layers_of(net, net, norms)
    if type(net) is not LateAction:
        return plain_layers(net)  # which says why not
    before, after, *branch = net.children()
    if branch or net.sums or type(before) is not nn.Sequential or [type(module) for module in before] != [nn.BatchNorm1d]:
        raise NotPlain(f"a {type(net).__name__} is not a plain Sequential behind BatchNorm of the observations")
    if type(after) is not nn.Sequential:
        raise NotPlain(f"a {type(after).__name__} is not a plain Sequential")
    return _layers_of(net, [*before, *after], norms, net.action_dim)


def _layers_of(net: nn.Module, modules: Iterable[nn.Module], norms: tuple[type, ...], n_beside: int = 0) -> list[Layer]:
    """:param n_beside: inputs that come in beside those which are normalised before the first Linear"""
    layers: list[Layer] = []
    for module in modules:
        if type(module) is nn.Linear and module.bias is not None:
            layers.append(Layer(module, None, None))
        elif not layers and type(module) is nn.BatchNorm1d and nn.BatchNorm1d in norms and _is_whole(module):
            layers.append(Layer(None, module, None))
        elif type(module) in norms and layers and _normalises(module, layers[-1]):
            layers[-1] = layers[-1]._replace(norm=module)
        elif _is_plain_activation(module) and layers and layers[-1].activation is None and layers[-1].linear is not None:
            layers[-1] = layers[-1]._replace(activation=module)
        else:
            names = ", ".join(norm.__name__ for norm in norms)
            raise NotPlain(
                f"{module} is not one of its Linear (with bias), {names}, ReLU, Tanh, ELU, SiLU, Mish in that order"
            )
    if any(hooks_of(net.modules())):
        raise NotPlain("its modules have forward or backward hooks")
    if not _fit(layers, n_beside):
        raise NotPlain("the shapes of its parameters do not fit each other")
    return layers


def _is_plain_activation(module: nn.Module) -> bool:
    """Also by the range of ELU's alpha, where its derivative can be had from its output."""
    return type(module) in PLAIN_ACTIVATIONS and getattr(module, "alpha", 1.0) >= 0


def _fit(layers: list[Layer], n_beside: int) -> bool:
    """Whether each weight has as many columns as the one before has rows, and what belongs to it as many numbers as rows."""
    sizes = [(own.n_inputs, own.n_inputs if own.linear is None else len(own.linear.weight)) for own in layers]
    vectors = [
        (vector.shape, n_outputs)
        for layer, (_, n_outputs) in zip(layers, sizes, strict=True)
        for vector in (*layer.parameters()[1:], *statistics_of(layer)[:2])
        if vector is not None
    ]
    beside = [n_beside if layer.linear is None else 0 for layer in layers]
    follow = all(after[0] == before[1] + more for (before, after), more in zip(pairwise(sizes), beside, strict=False))
    return follow and all(shape == (n,) for shape, n in vectors)


def statistics_of(layer: Layer) -> list[Any]:
    """The running mean and variance and the number of batches of BatchNorm; nothing without it."""
    buffers = getattr(layer.norm, "_buffers", {})
    return [buffers[name] for name in ("running_mean", "running_var", "num_batches_tracked") if name in buffers]


def _normalises(norm: Any, layer: Layer) -> bool:
    """Whether ``norm`` is over all outputs of a bare Linear, with weight and bias."""
    if layer.norm is not None or layer.activation is not None:
        return False
    n = layer.linear.out_features
    if type(norm) is nn.BatchNorm1d:
        return norm.num_features == n and _is_whole(norm)
    return norm.normalized_shape == (n,) and norm.elementwise_affine and norm.bias is not None


def _is_whole(norm: nn.BatchNorm1d) -> bool:
    """Whether it has weight, bias and running statistics of the same type, which are the networks' own."""
    parts: Any = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    if norm.num_batches_tracked is None or any(part is None for part in parts):
        return False
    return all(part.is_contiguous() for part in parts) and len({part.dtype for part in parts}) == 1


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
        registers: list[dict[str, Any]] = [register for m in modules for register in (m._modules, m._parameters)]
        self.registers = [register for register in registers if register]
        self.counts, self.contents = self._count(), self._all()
        self.modules, self.types = modules, list(map(type, modules))
        self.hooks = hooks_of(modules)

    def is_current(self) -> bool:
        """
        Whether no module or parameter was replaced, no module appended or changed in type, as parametrizations do, and none
        has hooks.
        """
        return not any(self.hooks) and self.has_the_same_modules()

    def has_the_same_modules(self) -> bool:
        """The same, whatever hooks there are."""
        return list(map(type, self.modules)) == self.types and self.has_the_same_parameters()

    def has_the_same_parameters(self) -> bool:
        """Whether no module or parameter was replaced, and no module appended."""
        return self._count() == self.counts and all(map(is_, self._all(), self.contents))

    def _count(self) -> list[int]:
        return list(map(len, self.registers))

    def _all(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self.registers)))

"""Initial weights of linear and convolutional layers."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch as th
from torch import nn

from sb3_ddpg_ext.networks.layers import output_layer
from sb3_ddpg_ext.validation import check_real

Initialiser = Callable[[nn.Module], None]


def torch() -> Initialiser:
    """What torch has drawn when it made the layer."""
    return lambda layer: None


def orthogonal(gain: float = math.sqrt(2)) -> Initialiser:
    """Orthogonal weights times ``gain`` (Saxe et al. 2014), biases 0."""
    return _weights_and_zeros(lambda weight: nn.init.orthogonal_(weight, gain))


def xavier(gain: float = 1.0) -> Initialiser:
    """Uniform with variance 2 gain^2 / (fan-in + fan-out) (Glorot & Bengio 2010), biases 0."""
    return _weights_and_zeros(lambda weight: nn.init.xavier_uniform_(weight, gain))


def normal(std: float = 0.1) -> Initialiser:
    """N(0, std^2), biases 0."""
    return _weights_and_zeros(lambda weight: nn.init.normal_(weight, 0, std))


def uniform(limit: float = 3e-3) -> Initialiser:
    """Weights and biases uniform in [-limit, limit]; Lillicrap et al. (2016), section 7, for the last layer."""

    def initialise(layer: nn.Module) -> None:
        for parameter in layer.parameters(recurse=False):
            nn.init.uniform_(parameter, -limit, limit)

    return initialise


def fan_in() -> Initialiser:
    """Weights and biases uniform in [-1/sqrt(f), 1/sqrt(f)] with f inputs to a unit; the same, for the other layers."""
    return lambda layer: uniform(1 / math.sqrt(layer.weight[0].numel()))(layer)  # type: ignore[arg-type, index]


def _weights_and_zeros(fill: Callable[[th.Tensor], Any]) -> Initialiser:
    def initialise(layer: nn.Module) -> None:
        fill(layer.weight)  # type: ignore[arg-type]
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    return initialise


KINDS: dict[str, Callable[..., Initialiser]] = {
    make.__name__: make for make in (torch, orthogonal, xavier, normal, uniform, fan_in)
}
FORMS = f'one of {sorted(KINDS)}, or a dict such as dict(kind="orthogonal", gain=0.01)'


def make_initialiser(name: str, spec: Any) -> Initialiser:
    """
    :param name: the argument's name, for the error
    :param spec: a kind, a dict with a kind and its argument, or a number, the limit of ``uniform``
    """
    if isinstance(spec, int | float) and not isinstance(spec, bool):
        spec = dict(kind="uniform", limit=spec)
    arguments = dict(spec) if isinstance(spec, dict) else {"kind": spec}
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{name}={spec!r} must be {FORMS}")
    allowed = list(inspect.signature(KINDS[kind]).parameters)
    if unknown := sorted(set(arguments) - set(allowed)):
        raise ValueError(f"{name}={spec!r}: {kind!r} has no argument {unknown[0]!r}; it has {allowed}")
    return KINDS[kind](**{key: check_real(f"{name}: {key}", value, low=0) for key, value in arguments.items()})


def initialise(network: nn.Module, every: Initialiser, last: Initialiser | None = None) -> None:
    """
    :param network: whose linear and convolutional layers are initialised, in order
    :param every: initialises them
    :param last: initialises the one that gives the outputs; None for ``every``
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            (last if last is not None and layer is output_layer(network) else every)(layer)

"""Initial weights of linear and convolutional layers."""

import math
from collections.abc import Callable
from typing import Any

import torch as th
from torch import nn

from sb3_ddpg_ext.kinds import Kinds
from sb3_ddpg_ext.networks.layers import output_layer
from sb3_ddpg_ext.validation import check_real, is_number, naming

LARGEST_INITIAL = 1e6  # of a scale
Initialiser = Callable[[nn.Module], None]  # of the weights and biases of one layer
INITIALISERS: Kinds[Initialiser] = Kinds(
    'a kind, a dict such as dict(kind="orthogonal", gain=0.01) or dict(kind="normal", std=0.1), or a function of a layer',
    accepts=callable,
)


@INITIALISERS.register("torch")
def torch() -> Initialiser:
    """What torch has drawn when it made the layer."""
    return lambda layer: None


@INITIALISERS.register("orthogonal")
def orthogonal(gain: float = math.sqrt(2)) -> Initialiser:
    """Orthogonal weights times ``gain`` (Saxe et al. 2014), biases 0."""
    check_real("gain", gain, 0, LARGEST_INITIAL)
    return _weights_and_zeros(lambda weight: nn.init.orthogonal_(weight, gain))


@INITIALISERS.register("xavier")
def xavier(gain: float = 1.0) -> Initialiser:
    """Uniform with variance 2 gain^2 / (fan-in + fan-out) (Glorot & Bengio 2010), biases 0."""
    check_real("gain", gain, 0, LARGEST_INITIAL)
    return _weights_and_zeros(lambda weight: nn.init.xavier_uniform_(weight, gain))


@INITIALISERS.register("normal")
def normal(std: float = 0.1) -> Initialiser:
    """N(0, std^2), biases 0."""
    check_real("std", std, 0, LARGEST_INITIAL)
    return _weights_and_zeros(lambda weight: nn.init.normal_(weight, 0, std))


@INITIALISERS.register("uniform")
def uniform(limit: float = 3e-3) -> Initialiser:
    """Weights and biases uniform in [-limit, limit]; Lillicrap et al. (2016), section 7, for the last layer."""
    check_real("limit", limit, 0, LARGEST_INITIAL)

    def initialise(layer: nn.Module) -> None:
        for parameter in layer.parameters(recurse=False):
            nn.init.uniform_(parameter, -limit, limit)

    return initialise


@INITIALISERS.register("fan_in")
def fan_in() -> Initialiser:
    """Weights and biases uniform in [-1/sqrt(f), 1/sqrt(f)] with f inputs to a unit; the same, for the other layers."""
    return lambda layer: uniform(1 / math.sqrt(layer.weight[0].numel()))(layer)  # type: ignore[arg-type, index]


def _weights_and_zeros(fill: Callable[[th.Tensor], Any]) -> Initialiser:
    def initialise(layer: nn.Module) -> None:
        fill(layer.weight)  # type: ignore[arg-type]
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    return initialise


def make_initialiser(name: str, spec: Any) -> Initialiser:
    """
    :param name: the argument's name, for the error
    :param spec: a kind, a dict with a kind and its argument, a number, the limit of ``uniform``, or a function of a layer
    """
    made = INITIALISERS.make(name, dict(kind="uniform", limit=spec) if is_number(spec) else spec, whole=spec)

    def checked(layer: nn.Module) -> None:
        with naming(name, spec, INITIALISERS.forms):
            made(layer)
            if not all(parameter.isfinite().all() for parameter in layer.parameters(recurse=False)):
                raise ValueError(f"it gave parameters of {layer} that are not finite")

    return checked


def initialise(network: nn.Module, every: Initialiser, last: Initialiser | None = None) -> None:
    """
    :param network: whose linear and convolutional layers are initialised, in order
    :param every: initialises them
    :param last: initialises the one that gives the outputs; None for ``every``
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            (last if last is not None and layer is output_layer(network) else every)(layer)

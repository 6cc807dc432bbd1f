"""Networks as operations: what each module of an actor is made of."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.td3 import policies as sb3_policies
from torch import nn

from sb3_ddpg_ext.export.names import ACTION_STATE, AFTER, CELL_STATES, PREVIOUS_REWARD
from sb3_ddpg_ext.export.program import NotExpressible, Program
from sb3_ddpg_ext.networks import (
    InvertingGradients,
    Normalised,
    ObservationNormaliser,
    OutputNormalisation,
    ResidualBlock,
    hooks_of,
    replaced_methods,
)
from sb3_ddpg_ext.policies.actor import Actor
from sb3_ddpg_ext.policies.encoded import RecurrentActor
from sb3_ddpg_ext.policies.paper import PaperCnn

Lowering = Callable[[Program, Any, Any], str]
LOWERINGS: dict[type, Lowering] = {}


def lowers(*classes: type) -> Callable[[Lowering], Lowering]:
    """:param classes: of modules that a function ``f(program, module, x)`` makes operations of"""

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(classes, function))
        return function

    return register


def lower(program: Program, module: nn.Module, x: Any) -> str:
    """
    Append what a module does in evaluation.

    :param program: the operations so far
    :param module: of a class in :data:`LOWERINGS`
    :param x: the value it is called with, or a dict of such
    :return: the value it gives
    :raises NotExpressible: for a module of another class, or one that has been changed from outside
    """
    name, function = f"{type(module).__module__}.{type(module).__qualname__}", LOWERINGS.get(type(module))
    if function is None:
        raise NotExpressible(f"{name} is none of {', '.join(sorted(cls.__name__ for cls in LOWERINGS))}")
    if any(hooks_of([module])) or replaced_methods(module):
        raise NotExpressible(f"a {name} has hooks, or methods of its own")
    return function(program, module, x)


@lowers(Actor, sb3_policies.Actor)
def _actor(program: Program, actor: Any, x: Any) -> str:
    return lower(program, actor.mu, lower(program, actor.features_extractor, x))


@lowers(RecurrentActor)
def _recurrent_actor(program: Program, actor: Any, x: Any) -> str:
    encoder = actor.encoder
    cell, features = encoder.cell, lower(program, encoder.extractor, x)
    inputs = [features]
    if encoder.previous_action:
        inputs.append(program.add("take", ACTION_STATE, index=0))
    if encoder.previous_reward:
        inputs.append(PREVIOUS_REWARD)
    y, states = program.add("concat", *inputs), []
    for layer in range(cell.num_layers):
        before = [program.add("take", name, index=layer) for name in CELL_STATES[: encoder.n_states]]
        y, *others = CELLS[type(cell)](program, cell, layer, y, before)
        states.append([y, *others])
    for name, parts in zip(CELL_STATES, zip(*states, strict=True), strict=False):
        program.give(AFTER + name, program.add("stack", *parts))
    mu = lower(program, actor.mu, program.add("concat", y, features))
    program.give(AFTER + ACTION_STATE, program.add("stack", mu))
    return mu


def _gates(program: Program, cell: Any, layer: int, x: str, h: str) -> tuple[str, str]:
    """The products with the inputs and with the state before."""
    of_input, of_state = (
        program.add("linear", value, *(program.hold(getattr(cell, f"{part}_{kind}_l{layer}")) for part in ("weight", "bias")))
        for kind, value in (("ih", x), ("hh", h))
    )
    return of_input, of_state


def _parts(program: Program, cell: Any, gates: str, number: int) -> list[str]:
    size = cell.hidden_size
    return [program.add("slice", gates, start=i * size, stop=(i + 1) * size) for i in range(number)]


def _lstm(program: Program, cell: Any, layer: int, x: str, state: list[str]) -> tuple[str, ...]:
    h, c = state
    i, f, g, o = _parts(program, cell, program.add("add", *_gates(program, cell, layer, x, h)), 4)
    i, f, o = (program.add("sigmoid", gate) for gate in (i, f, o))
    new = program.add("mul", i, program.add("tanh", g))
    c = program.add("add", program.add("mul", f, c), new)
    return program.add("mul", o, program.add("tanh", c)), c


def _gru(program: Program, cell: Any, layer: int, x: str, state: list[str]) -> tuple[str, ...]:
    (h,) = state
    of_input, of_state = (_parts(program, cell, gates, 3) for gates in _gates(program, cell, layer, x, h))
    r, z = (program.add("sigmoid", program.add("add", a, b)) for a, b in zip(of_input[:2], of_state[:2], strict=True))
    new = program.add("tanh", program.add("add", of_input[2], program.add("mul", r, of_state[2])))
    return (program.add("add", new, program.add("mul", z, program.add("sub", h, new))),)


CELLS: dict[type, Callable[..., tuple[str, ...]]] = {nn.LSTM: _lstm, nn.GRU: _gru}


@lowers(Normalised)
def _normalised(program: Program, module: Any, x: Any) -> str:
    return lower(program, module.extractor, lower(program, module.normaliser, x))


@lowers(nn.ModuleDict)
def _entries(program: Program, module: Any, x: Any) -> Any:
    return x | {key: lower(program, one, x[key]) for key, one in module.items()}


@lowers(ObservationNormaliser)
def _observation_normaliser(program: Program, module: Any, x: str) -> str:
    x = program.add("mul", program.add("sub", x, program.hold(module.shift)), program.hold(module.factor))
    return program.clip(x, -module.clip, module.clip, np.float32)


@lowers(CombinedExtractor)
def _combined(program: Program, module: Any, x: dict[str, str]) -> str:
    return program.add("concat", *(lower(program, part, x[key]) for key, part in module.extractors.items()))


@lowers(NatureCNN)
def _nature_cnn(program: Program, module: Any, x: str) -> str:
    return lower(program, module.linear, lower(program, module.cnn, x))


@lowers(PaperCnn)
def _paper_cnn(program: Program, module: Any, x: str) -> str:
    return lower(program, module.layers, x)


@lowers(nn.Sequential)
def _sequential(program: Program, module: Any, x: str) -> str:
    for child in module:
        x = lower(program, child, x)
    return x


@lowers(ResidualBlock)
def _residual(program: Program, module: Any, x: str) -> str:
    return program.add("add", x, lower(program, module.inside, x))


@lowers(FlattenExtractor, nn.Flatten)
def _flatten(program: Program, module: Any, x: str) -> str:
    return program.add("flatten", x)


@lowers(nn.Identity, nn.Dropout)
def _identity(program: Program, module: Any, x: str) -> str:
    return x


@lowers(nn.Linear)
def _linear(program: Program, module: Any, x: str) -> str:
    bias = np.zeros(module.out_features, np.float32) if module.bias is None else module.bias
    return program.add("linear", x, program.hold(module.weight), program.hold(bias))


@lowers(nn.Conv2d)
def _conv2d(program: Program, module: Any, x: str) -> str:
    plain = dict(padding_mode="zeros", dilation=(1, 1), groups=1)
    if any(getattr(module, name) != value for name, value in plain.items()) or module.padding in ("same", "valid"):
        raise NotExpressible(f"{module} must have {', '.join(f'{name}={value!r}' for name, value in plain.items())}")
    bias = np.zeros(module.out_channels, np.float32) if module.bias is None else module.bias
    settings = dict(stride=list(module.stride), padding=list(module.padding))
    return program.add("conv2d", x, program.hold(module.weight), program.hold(bias), **settings)


@lowers(nn.LayerNorm)
def _layer_norm(program: Program, module: Any, x: str) -> str:
    ones, zeros = np.ones(module.normalized_shape, np.float32), np.zeros(module.normalized_shape, np.float32)
    weight, bias = (own if given is None else given for own, given in ((ones, module.weight), (zeros, module.bias)))
    return program.add("layer_norm", x, program.hold(weight), program.hold(bias), eps=module.eps)


@lowers(nn.BatchNorm1d)
def _batch_norm(program: Program, module: Any, x: str) -> str:
    if module.running_mean is None:
        raise NotExpressible(f"{module} has no running statistics, so an action would depend on the others of its batch")
    x = program.add("sub", x, program.hold(module.running_mean))
    x = program.add("div", x, program.hold((module.running_var + module.eps).sqrt()))
    return _affine(program, x, module.weight, module.bias)


@lowers(BatchRenorm1d)
def _batch_renorm(program: Program, module: Any, x: str) -> str:
    x = program.add("sub", x, program.hold(module.ra_mean))
    x = program.add("div", x, program.hold((module.ra_var + module.eps).sqrt()))
    return _affine(program, x, module.scale, module.bias) if module.affine else x


def _affine(program: Program, x: str, weight: Any, bias: Any) -> str:
    x = x if weight is None else program.add("mul", x, program.hold(weight))
    return x if bias is None else program.add("add", x, program.hold(bias))


@lowers(OutputNormalisation)
def _output_normalisation(program: Program, module: Any, x: str) -> str:
    beta = program.hold(module.beta, np.float32)
    size = program.add("max", program.add("mean", program.add("abs", x)), beta)
    return program.add("mul", x, program.add("div", beta, size))


@lowers(InvertingGradients)
def _clamp(program: Program, module: Any, x: str) -> str:
    return program.clip(x, -1, 1, np.float32)


def _activation(operation: str) -> Lowering:
    return lambda program, module, x: program.add(operation, x)


LOWERINGS |= {nn.ReLU: _activation("relu"), nn.Tanh: _activation("tanh"), nn.Sigmoid: _activation("sigmoid")}


@lowers(nn.SiLU)
def _silu(program: Program, module: Any, x: str) -> str:
    return program.add("mul", x, program.add("sigmoid", x))


@lowers(nn.Mish)
def _mish(program: Program, module: Any, x: str) -> str:
    return program.add("mul", x, program.add("tanh", program.add("softplus", x)))


@lowers(nn.ELU)
def _elu(program: Program, module: Any, x: str) -> str:
    return program.add("elu", x, alpha=module.alpha)


@lowers(nn.LeakyReLU)
def _leaky_relu(program: Program, module: Any, x: str) -> str:
    return program.add("max", x, program.add("mul", x, program.hold(module.negative_slope, np.float32)))  # slopes below 1


def _box(program: Program, space: Any, x: str, normalize_images: bool) -> str:
    x = program.add("cast", x, dtype="float32")
    return program.add("div", x, program.hold(255, np.float32)) if normalize_images and is_image_space(space) else x


def _discrete(program: Program, space: Any, x: str, normalize_images: bool) -> str:
    return program.add("one_hot", x, n=int(space.n))


def _multi_discrete(program: Program, space: Any, x: str, normalize_images: bool) -> str:
    columns = [program.add("slice", x, start=i, stop=i + 1) for i in range(len(space.nvec))]
    parts = [program.add("one_hot", x, n=int(n)) for x, n in zip(columns, space.nvec.tolist(), strict=True)]
    return program.add("concat", *(program.add("flatten", part) for part in parts))


# What Stable-Baselines3's preprocess_obs does.
PREPROCESSING: dict[type, Callable[[Program, Any, str, bool], str]] = {
    spaces.Box: _box, spaces.MultiBinary: _box, spaces.Discrete: _discrete, spaces.MultiDiscrete: _multi_discrete,
}  # fmt: skip

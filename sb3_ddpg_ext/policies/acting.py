"""Acting with a plain actor in few calls, where the general way spends most of its time around them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext.networks import NotPlain, Snapshot, normalise, normed_layers, statistics_of, without_normaliser
from sb3_ddpg_ext.observations import has_keys, parts_of
from sb3_ddpg_ext.policies.actor import Actor
from sb3_ddpg_ext.policies.compiled_actor import CompiledActor, Units

IN_PLACE: dict[type[nn.Module], Callable[[th.Tensor], th.Tensor]] = {nn.ReLU: th.relu_, nn.Tanh: th.tanh_}


def joins(extractor: nn.Module) -> bool:
    """Whether all it does is to make one vector of an observation."""
    if type(extractor) is CombinedExtractor:
        return all(type(part) is nn.Flatten for part in extractor.extractors.values())
    return type(extractor) is FlattenExtractor


def is_preprocessed(space: spaces.Space, normalize_images: bool) -> bool:
    """Whether SB3 changes observations before the features extractor, other than to floats."""
    parts = parts_of(space).values()
    return any(not isinstance(part, spaces.Box) or (normalize_images and is_image_space(part)) for part in parts)


def _tensor(array: np.ndarray, like: th.Tensor) -> th.Tensor:
    if not (array.flags.c_contiguous and array.flags.writeable):  # which torch asks for
        array = np.array(array)
    x = th.from_numpy(array)
    return x if x.dtype is like.dtype and like.is_cpu else x.to(like.device, like.dtype)


def by_running_statistics(norm: nn.BatchNorm1d, x: th.Tensor) -> th.Tensor:
    """BatchNorm of x (batch, features) as in evaluation, whatever its mode is."""
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


def _flat(x: th.Tensor) -> th.Tensor:
    return x.flatten(1) if x.ndim > 1 else x[:, None]


class PlainActor:
    """
    mu(s) of SB3's ``Actor`` for observations that need no preprocessing: arrays, or dictionaries of arrays.

    It reads the parameters where the modules hold them, at each call.

    :param actor: a plain multilayer perceptron; BatchNorm is by running statistics
    :param is_exact: whether the actions have SB3's bits; else a few of them may be computed by the compiled library
    :param units: of the actions: their bounds, and half of their distance; None if they are unknown
    :raises NotPlain: if calling it involves more than its layers
    """

    def __init__(self, actor: Actor, is_exact: bool = True, units: Units | None = None):
        extractor, self.normaliser = without_normaliser(actor.features_extractor)
        if type(actor) is not Actor or not joins(extractor):
            raise NotPlain(f"{type(actor).__name__} with {type(extractor).__name__}")
        space = actor.observation_space
        if is_preprocessed(space, actor.normalize_images):
            raise NotPlain(f"observations are preprocessed: {space}")
        if any("forward" in module.__dict__ for module in actor.modules()):
            raise NotPlain("somebody has replaced forward()")
        shapes = {key: part.shape for key, part in parts_of(space).items()}
        self.has_keys = has_keys(space)
        self.obs_shape: Any = shapes if self.has_keys else shapes[""]
        self.actor, self.is_exact = actor, is_exact
        layers = normed_layers(actor.mu)
        self.has_batch_norm = any(map(statistics_of, layers))  # which takes no vectors
        self.steps: list[tuple[Any, Any, Any]] = [
            (
                None if layer.linear is None else layer.linear._parameters,
                partial(by_running_statistics, layer.norm) if statistics_of(layer) else layer.norm,
                layer.activation and IN_PLACE.get(type(layer.activation), layer.activation),
            )
            for layer in layers
        ]
        self.layers, self.is_direct = layers, not is_exact and self.normaliser is None and len(space.shape or ()) == 1
        own_units = units if type(layers[-1].activation) is nn.Tanh else None  # within which the library holds actions
        self.compiled = CompiledActor.make(layers, own_units) if self.is_direct else None
        self.snapshot = Snapshot(actor)
        if not self.snapshot.is_current():
            raise NotPlain("its modules have hooks")

    def is_current(self, actor: Actor, is_exact: bool) -> bool:
        """Whether the actor still is the one this was made of, and for actions of this kind."""
        return (
            actor is self.actor
            and is_exact is self.is_exact
            and "forward" not in actor.__dict__
            and self.snapshot.is_current()
        )

    def batch_of(self, observation: Any) -> tuple[Any, bool] | None:
        """
        :param observation: one, or several along a first dimension
        :return: as a batch, and whether it was one; None if it is not of the actor's space
        """
        if type(observation) is np.ndarray:
            if observation.shape == self.obs_shape:
                return observation[None], True
            return (observation, False) if observation.shape[1:] == self.obs_shape else None
        if not self.has_keys or type(observation) is not dict or observation.keys() != self.obs_shape.keys():
            return None
        if not all(type(part) is np.ndarray for part in observation.values()):
            return None
        if all(part.shape == self.obs_shape[key] for key, part in observation.items()):
            return {key: part[None] for key, part in observation.items()}, True
        n = len(next(iter(observation.values())))
        return (observation, False) if all(p.shape == (n, *self.obs_shape[key]) for key, p in observation.items()) else None

    def features(self, observations: Any, like: th.Tensor) -> th.Tensor:
        """
        What the first layer gets, of shape (n, features).

        :param observations: n of them
        :param like: whose type and device it gets
        """
        parts: Any
        if self.has_keys:
            parts = {key: _tensor(observations[key], like) for key in self.obs_shape}
            if self.normaliser is not None:
                parts = normalise(self.normaliser, parts)
            return th.cat([_flat(part) for part in parts.values()], dim=1)
        x = _tensor(observations, like)
        if self.normaliser is not None:
            x = self.normaliser(x)
        return _flat(x)

    def __call__(self, observations: Any) -> np.ndarray:
        """From observations (n, ...), or a dict of such, to actions (n, action_dim) on the [-1, 1] scale."""
        if (compiled := self._library_for(observations)) is not None:
            return compiled(observations)
        with th.inference_mode():
            bias: Any
            weight: Any = self.steps[-1][0]["weight"]
            x = self.features(observations, weight)
            alone = len(x) == 1 and not self.has_batch_norm  # a vector then: the same numbers from fewer calls
            if alone:
                x = x[0]
            for parameters, norm, activation in self.steps:
                if parameters is not None:
                    weight, bias = parameters["weight"], parameters["bias"]  # never None: see plain_layers
                    x = th.addmv(bias, weight, x) if alone else F.linear(x, weight, bias)
                if norm is not None:
                    x = norm(x)
                if activation is not None:
                    x = activation(x)
            actions = x.numpy() if x.is_cpu else x.cpu().numpy()
            return actions[None] if alone else actions

    def in_units(self, observations: Any) -> np.ndarray | None:
        """
        The actions in units, in one call of the library.

        :param observations: as a batch
        :return: of shape (n, action_dim); None where the library cannot tell them, or an observation is not finite
        """
        compiled = self._library_for(observations)
        return None if compiled is None else compiled.in_units(observations)

    def _library_for(self, observations: Any) -> CompiledActor | None:
        if self.compiled is None or not 0 < len(observations) <= self.compiled.at_most:
            return None
        if not self.compiled.is_current():
            self.compiled = CompiledActor.make(self.layers, self.compiled.units)
        return self.compiled

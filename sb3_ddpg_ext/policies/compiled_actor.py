"""Acting by the compiled library."""

from ctypes import addressof
from threading import Lock
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_ddpg_ext import native
from sb3_ddpg_ext.networks import Layer, NotPlain, normed_layers, statistics_of

AT_MOST = 64  # observations at once
WIDEST = 4096  # units of a layer, or numbers of an observation, of which so many are kept
Units = tuple[np.ndarray, np.ndarray, np.ndarray]
ROOM = 16  # numbers behind the end of an array, which may be read or written


class CompiledActor:
    """
    mu(s) of a plain multilayer perceptron, to rounding. It reads the parameters where they lie.

    :param layers: of the actor, see :func:`sb3_ddpg_ext.networks.normed_layers`
    :param units: of the actions, where they are known: the lower and the upper bound, and half of their distance
    """

    def __init__(self, layers: list[Layer], units: Units | None = None):
        self.layers, self.units, self.parameters = layers, units, _parameters_of(layers)
        self.norms = [layer for layer in layers if statistics_of(layer)]
        self.pointers = self._present_pointers()
        self.epsilons = [(layer.norm, layer.norm.eps) for layer in layers if layer.norm is not None]
        dtype = str(self.parameters[0].dtype)
        library: Any = native.library(native.TYPE_NAMES[dtype])
        as_numpy = np.dtype(dtype.removeprefix("torch."))
        n_actions = len(layers[-1].linear.weight)
        widest = max(n_actions, *(layer.n_inputs for layer in layers))
        self.at_most = AT_MOST if widest <= WIDEST else 1
        half = (widest + ROOM) * self.at_most
        self.inputs = np.zeros((self.at_most, layers[0].n_inputs), as_numpy)
        self.actions = np.zeros((self.at_most, n_actions), as_numpy)
        memory = np.zeros(4 * half + self.at_most, as_numpy)  # see act.h
        self.has_units = units is not None and all(
            array.shape == (n_actions,) and array.dtype == as_numpy and array.flags.c_contiguous for array in units
        )
        arrays = dict(observations=self.inputs, memory=memory, actions=self.actions)
        if units is not None and self.has_units:
            arrays |= dict(zip(("low", "high", "half_range"), units, strict=True))
        self.acting = native.Acting(half=half)
        native.describe(self.acting.network, layers)
        for name, array in arrays.items():
            setattr(self.acting, name, array.ctypes.data)
        self.arrays = arrays  # alive, as long as the library may read and write there
        self.act, self.at_acting = library.act, addressof(self.acting)
        self.lock = Lock()  # several threads may ask one policy

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledActor.make, (self.layers, self.units)

    @classmethod
    def make(cls, layers: list[Layer], units: Units | None = None) -> "CompiledActor | None":
        """:return: one, or None where the library cannot do it"""
        try:
            normed_layers(nn.Sequential(*(module for layer in layers for module in layer if module is not None)))
        except NotPlain:  # any more
            return None
        parameters = _parameters_of(layers)
        type_name = native.TYPE_NAMES.get(str(parameters[0].dtype))
        is_possible = type_name is not None and len(layers) <= native.MAX_LAYERS
        if not is_possible or native.library(type_name) is None:
            return None
        parameters += [buffer for layer in layers for buffer in statistics_of(layer)[:2]]
        alike = all(p.is_cpu and p.is_contiguous() and p.dtype is parameters[0].dtype for p in parameters)
        return cls(layers, units) if alike else None

    def is_current(self) -> bool:
        """
        Whether the parameters still lie where they did, in the same way, and epsilons are the same. That modules hold others,
        their owner sees.
        """
        return (
            self._present_pointers() == self.pointers
            and all(map(th.Tensor.is_contiguous, self.parameters))
            and all(norm.eps == eps for norm, eps in self.epsilons)
        )

    def _present_pointers(self) -> list[int]:
        """Running statistics may also be other tensors than before, which modules hold as buffers."""
        if not self.norms:
            return list(map(th.Tensor.data_ptr, self.parameters))
        statistics = [buffer for layer in self.norms for buffer in statistics_of(layer)[:2]]
        return list(map(th.Tensor.data_ptr, [*self.parameters, *statistics]))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """From observations (n, features) to actions (n, action_dim) on the [-1, 1] scale; at most ``at_most`` of them."""
        n = len(observations)
        with self.lock:
            self.inputs[:n] = observations
            self.act(self.at_acting, n, False)
            return self.actions[:n].copy()

    def in_units(self, observations: np.ndarray) -> np.ndarray | None:
        """The same in units, within the bounds; None if the units are unknown, or an observation is not finite."""
        if not self.has_units:
            return None
        n = len(observations)
        with self.lock:
            self.inputs[:n] = observations
            return self.actions[:n].copy() if self.act(self.at_acting, n, True) else None


def _parameters_of(layers: list[Layer]) -> list[th.Tensor]:
    return [p for layer in layers for p in layer.parameters() if p is not None]

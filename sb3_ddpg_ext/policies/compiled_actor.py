"""Acting by the compiled library."""

from threading import Lock
from typing import Any

import numpy as np
import torch as th
from torch import nn

from sb3_ddpg_ext import native
from sb3_ddpg_ext.networks import Layer, NotPlain, plain_layers

AT_MOST = 8  # observations at once: from there on products of matrices are faster
ROOM = 16  # numbers behind the end of an array, which may be read or written


class CompiledActor:
    """
    mu(s) of a plain multilayer perceptron, to rounding. It reads the parameters where they lie.

    :param layers: of the actor, see :func:`sb3_ddpg_ext.networks.plain_layers`
    """

    def __init__(self, layers: list[Layer]):
        self.layers, self.parameters = layers, _parameters_of(layers)
        self.pointers = list(map(th.Tensor.data_ptr, self.parameters))
        dtype = str(self.parameters[0].dtype)
        self.library: Any = native.library(native.TYPE_NAMES[dtype])
        self.network = native.Network()
        native.describe(self.network, layers)
        as_numpy = np.dtype(dtype.removeprefix("torch."))
        weights = [layer.linear.weight for layer in layers]
        self.half = max(map(len, weights)) + ROOM
        self.inputs = np.zeros((AT_MOST, weights[0].shape[1]), as_numpy)
        self.actions = np.zeros((AT_MOST, len(weights[-1])), as_numpy)
        self.memory = np.zeros(2 * self.half, as_numpy)
        of_arrays = (array.ctypes.data for array in (self.inputs, self.memory, self.actions))
        self.at_inputs, self.at_memory, self.at_actions = of_arrays
        self.lock = Lock()  # several threads may ask one policy

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledActor.make, (self.layers,)

    @classmethod
    def make(cls, layers: list[Layer]) -> "CompiledActor | None":
        """:return: one, or None where the library cannot do it"""
        try:
            plain_layers(nn.Sequential(*(module for layer in layers for module in layer if module is not None)))
        except NotPlain:  # any more
            return None
        parameters = _parameters_of(layers)
        type_name = native.TYPE_NAMES.get(str(parameters[0].dtype))
        is_possible = type_name is not None and len(layers) <= native.MAX_LAYERS
        if not is_possible or native.library(type_name) is None:
            return None
        alike = all(p.is_cpu and p.is_contiguous() and p.dtype is parameters[0].dtype for p in parameters)
        return cls(layers) if alike else None

    def is_current(self) -> bool:
        """Whether the parameters still lie where they did, in the same way. That modules hold others, their owner sees."""
        present = list(map(th.Tensor.data_ptr, self.parameters))
        return present == self.pointers and all(map(th.Tensor.is_contiguous, self.parameters))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """From observations (n, features) to actions (n, action_dim) on the [-1, 1] scale; at most ``AT_MOST`` of them."""
        n = len(observations)
        with self.lock:
            self.inputs[:n] = observations
            self.library.act(self.network, self.at_inputs, n, self.at_memory, self.half, self.at_actions)
            return self.actions[:n].copy()


def _parameters_of(layers: list[Layer]) -> list[th.Tensor]:
    return [p for linear, norm, _ in layers for module in (linear, norm) if module is not None for p in module.parameters()]

"""Acting by the compiled library."""

from threading import Lock
from typing import Any

import numpy as np

from sb3_ddpg_ext import native
from sb3_ddpg_ext.networks import Layer

AT_MOST = 8  # observations at once: from there on products of matrices are faster
ROOM = 16  # numbers behind the end of an array, which may be read or written


class CompiledActor:
    """
    mu(s) of a plain multilayer perceptron, to rounding. It reads the parameters where the modules hold them.

    :param layers: of the actor, see :func:`sb3_ddpg_ext.networks.plain_layers`
    """

    def __init__(self, layers: list[Layer]):
        self.layers = layers
        self.weights = [p for linear, norm, _ in layers for module in (linear, norm) if module for p in module.parameters()]
        dtype = str(self.weights[0].dtype)
        self.library: Any = native.library(native.TYPE_NAMES[dtype])
        self.network, self.pointers = native.Network(), [0]
        as_numpy = np.dtype(dtype.removeprefix("torch."))
        half = max(linear.out_features for linear, _, _ in layers) + ROOM
        self.inputs = np.zeros((AT_MOST, layers[0].linear.in_features), as_numpy)
        self.actions = np.zeros((AT_MOST, layers[-1].linear.out_features), as_numpy)
        self.memory = np.zeros(2 * half, as_numpy)
        of_arrays = (array.ctypes.data for array in (self.inputs, self.memory, self.actions))
        self.at_inputs, self.at_memory, self.at_actions = of_arrays
        self.half, self.lock = half, Lock()  # several threads may ask one policy

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledActor.make, (self.layers,)

    @classmethod
    def make(cls, layers: list[Layer]) -> "CompiledActor | None":
        """:return: one, or None where the library cannot do it"""
        of_weights = layers[0].linear.weight
        type_name = native.TYPE_NAMES.get(str(of_weights.dtype))
        is_possible = of_weights.is_cpu and type_name is not None and len(layers) <= native.MAX_LAYERS
        return cls(layers) if is_possible and native.library(type_name) is not None else None

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """From observations (n, features) to actions (n, action_dim) on the [-1, 1] scale; at most ``AT_MOST`` of them."""
        pointers, n = [weight.data_ptr() for weight in self.weights], len(observations)
        with self.lock:
            if pointers != self.pointers:
                native.describe(self.network, self.layers)
                self.pointers = pointers
            self.inputs[:n] = observations
            self.library.act(self.network, self.at_inputs, n, self.at_memory, self.half, self.at_actions)
            return self.actions[:n].copy()

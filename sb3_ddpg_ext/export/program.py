"""An actor as a list of a few operations on arrays, from which files are written."""

from typing import Any

import numpy as np
import torch as th


class NotExpressible(ValueError):
    """A module that is none of these operations; the message names it."""


class Program:
    """
    Operations in their order, as :class:`~sb3_ddpg_ext.runtime.NumpyActor` runs them.

    A value is known by its name: that of an input, of a constant, or of what an operation has given.
    """

    def __init__(self) -> None:
        self.operations: list[tuple[str, list[str], str, dict[str, Any]]] = []  # name, inputs, output, settings
        self.arrays: dict[str, np.ndarray] = {}
        self.outputs: dict[str, str] = {}  # values by the names they are to have in the file

    def add(self, operation: str, *inputs: str, **settings: Any) -> str:
        """
        :param operation: of :data:`~sb3_ddpg_ext.runtime.OPERATIONS`
        :param inputs: values
        :param settings: of the operation
        :return: the value it gives
        """
        output = f"/{operation}_{len(self.operations)}"  # no key of a dict of observations begins so
        self.operations.append((operation, list(inputs), output, settings))
        return output

    def hold(self, array: Any, dtype: Any = None) -> str:
        """
        :param array: a constant, an array or a tensor
        :param dtype: of the constant; None for its own
        :return: the value it is
        """
        as_array = array.detach().cpu().numpy() if th.is_tensor(array) else np.asarray(array)
        name = f"/constant_{len(self.arrays)}"
        self.arrays[name] = np.array(as_array, dtype, order="C")
        return name

    def clip(self, x: str, low: Any, high: Any, dtype: Any) -> str:
        """Minimum and maximum of a value, as constants of a type."""
        return self.add("clip", x, self.hold(low, dtype), self.hold(high, dtype))

    def give(self, name: str, value: str) -> None:
        """
        :param name: of an output
        :param value: what an operation has given for it
        """
        self.outputs[name] = value

    def named(self) -> list[tuple[str, list[str], str, dict[str, Any]]]:
        """:return: the operations, with the outputs by their names"""
        names = {value: name for name, value in self.outputs.items()}
        return [
            (operation, [names.get(one, one) for one in inputs], names.get(output, output), settings)
            for operation, inputs, output, settings in self.operations
        ]

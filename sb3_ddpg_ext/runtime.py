"""
Acts by an actor that was exported with ``format="safetensors"``, with NumPy and the standard library alone.

This file can be copied to a machine that has neither torch nor Stable-Baselines3::

    from runtime import load

    actor = load("actor.safetensors")
    action, state = actor.predict(observation)
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

FORMAT, VERSION = "sb3_ddpg_ext actor", 1
METADATA, MEMBER = "__metadata__", "actor"  # where a safetensors file has our description
TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "U8": "|u1"}
MOVES = {"CHW": (-1, -3), "HWC": (-3, -1)}  # how the channels of an image get from the other layout into this one
Arrays = dict[str, np.ndarray]


def load(path: str | Path) -> "NumpyActor":
    """
    :param path: a file that was exported with ``format="safetensors"``
    :raises ValueError: if it is something else, or damaged
    """
    about, arrays = read(path)
    return NumpyActor(about, arrays)


def read(path: str | Path) -> tuple[dict[str, Any], Arrays]:
    """
    :param path: of a safetensors file: the length of a JSON header in 8 bytes, the header, and behind it the arrays
    :return: our description of the actor, and the arrays by name
    :raises ValueError: if it is no such file, or none of ours
    """
    data = Path(path).read_bytes()
    try:
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        about = json.loads(header.pop(METADATA)[MEMBER])
        arrays = {name: _array(data, begin, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"path={str(path)!r} must be an actor exported with format='safetensors' ({error!r})") from error
    return check_format(path, about), arrays


def _array(data: bytes, begin: int, entry: dict[str, Any]) -> np.ndarray:
    first, last = (begin + offset for offset in entry["data_offsets"])
    array = np.frombuffer(data[first:last], TYPES[entry["dtype"]]).reshape(entry["shape"])  # a slice is a copy, and aligned
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))


def check_format(path: Any, about: dict[str, Any]) -> dict[str, Any]:
    """:raises ValueError: unless this version can read the description"""
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        found = (about.get("format"), about.get("version"))
        raise ValueError(f"path={str(path)!r} has the format and version {found}; they must be {(FORMAT, VERSION)}")
    return about


class Observation:
    """
    An observation, or one entry of a ``Dict``, as the file takes it.

    :param entry: of the description: name, shape and dtype of one; layout, "CHW" or "HWC", of images
    """

    def __init__(self, entry: dict[str, Any]):
        self.name, self.shape, self.dtype = entry["name"], tuple(entry["shape"]), np.dtype(entry["dtype"])
        move = MOVES.get(entry.get("layout", ""))
        self.move, self.other_shape = move, None if move is None else np.moveaxis(np.empty(self.shape), *move[::-1]).shape

    def batch(self, observation: Any) -> tuple[np.ndarray, bool]:
        """
        :param observation: one, or several along a first dimension; images in either layout
        :return: several, and whether it was one
        :raises ValueError: for another shape
        """
        array = np.asarray(observation, self.dtype)
        if array.shape == self.shape:
            return array[None], True
        if array.shape[1:] == self.shape and array.ndim:
            return array, False
        if self.move is not None and array.shape[-3:] == self.other_shape and array.ndim in (3, 4):
            return self.batch(np.moveaxis(array, *self.move))
        raise ValueError(f"{self.name!r} has the shape {array.shape}; it must be {self.shape}, or several of these")


class Actor:
    """
    What acts as ``predict`` of Stable-Baselines3's models does, from raw observations to actions within the bounds.

    :param about: the description in the file
    """

    def __init__(self, about: dict[str, Any]):
        self.about = about
        self.observations = {entry["key"]: Observation(entry) for entry in about["observation"]}
        self.only = self.observations.get(None)  # where observations have no keys
        self.states = [(entry["name"], entry["shape"]) for entry in about["state"]]
        self.low, self.high = (np.array(about["action"][name], about["action"]["dtype"]) for name in ("low", "high"))

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        """
        :param inputs: by name, several along their first dimension; states along their second
        :return: the actions, and the states after them
        """
        raise NotImplementedError

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: Any = None,
        deterministic: bool = True,
        previous_reward: Any = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        The action for a raw observation, in the environment's units and within its bounds.

        :param observation: one, or several along a first dimension; for a ``Dict`` a dict of such
        :param state: of a recurrent actor: what the call before gave; None at the beginning
        :param episode_start: of a recurrent actor: for which observations an episode begins, of shape (n,)
        :param deterministic: without effect: the action has no noise
        :param previous_reward: of shape (n,), where the actor takes it in
        :return: the action or actions, and the state after them
        :raises ValueError: for arrays of other shapes, a missing entry or a missing previous reward
        """
        if self.only is not None:
            array, is_single = self.only.batch(observation)
            inputs = {self.only.name: array}
        else:
            inputs, is_single = self._entries(observation)
        if self.states:
            n = len(next(iter(inputs.values())))
            begins = np.zeros(n, np.float32)
            if episode_start is not None:
                begins = begins + np.asarray(episode_start, np.float32).reshape(-1)
            inputs |= self._states(state, begins, n)
            if self.about["previous_reward"]:
                inputs["previous_reward"] = self._rewards(previous_reward, begins, state is None)
        action, *after = self.run(inputs)
        return action[0] if is_single else action, tuple(after) if self.states else state

    def _entries(self, observation: Any) -> tuple[Arrays, bool]:
        try:
            found = {one.name: one.batch(observation[key]) for key, one in self.observations.items()}
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"observation must be a dict with the keys {sorted(self.observations)} ({error!r})") from error
        inputs = {name: array for name, (array, _) in found.items()}
        if len({len(array) for array in inputs.values()}) != 1 or len({is_single for _, is_single in found.values()}) != 1:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise ValueError(f"observation must be one, or equally many in each entry; its shapes are {shapes}")
        return inputs, next(is_single for _, is_single in found.values())

    def _states(self, state: Any, begins: np.ndarray, n: int) -> Arrays:
        shapes = [(layers, n, size) for _, (layers, _, size) in self.states]
        if state is None:
            return {name: np.zeros(shape, np.float32) for (name, _), shape in zip(self.states, shapes, strict=True)}
        parts = [np.asarray(part, np.float32) for part in state]
        if [part.shape for part in parts] != shapes:
            raise ValueError(f"state has the shapes {[part.shape for part in parts]}; they must be {shapes}, as predict gives")
        goes_on = (1 - begins)[None, :, None]
        return {name: part * goes_on for (name, _), part in zip(self.states, parts, strict=True)}

    def _rewards(self, given: Any, begins: np.ndarray, is_first: bool) -> np.ndarray:
        if given is None and not (is_first or begins.all()):
            raise ValueError("previous_reward=None must be the rewards of the step before: this actor takes them in")
        rewards = np.zeros_like(begins) if given is None else np.asarray(given, np.float32).reshape(begins.shape)
        return (rewards * (1 - begins))[:, None]


class NumpyActor(Actor):
    """
    Runs the list of operations in the description.

    :param about: with ``"program"``: operations ``[name, inputs, output, settings]`` in their order
    :param arrays: the constants among their inputs, by name
    """

    def __init__(self, about: dict[str, Any], arrays: Arrays):
        super().__init__(about)
        self.constants: list[Any] = list(arrays.values())
        self.names = [entry["name"] for part in ("observation", "state") for entry in about[part]]
        self.names += ["previous_reward"] if about["previous_reward"] else []
        places = {name: number for number, name in enumerate([*arrays, *self.names])}  # in the list of all values
        self.steps: list[tuple[Callable[..., Any], list[int]]] = []
        for operation, inputs, output, settings in about["program"]:
            self.steps.append((partial(OPERATIONS[operation], **settings), [places[name] for name in inputs]))
            places[output] = len(places)
        self.outputs = [places[entry["output"]] for entry in (about["action"], *about["state"])]

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        values = [*self.constants, *(inputs[name] for name in self.names)]
        for function, places in self.steps:
            values.append(function(*[values[place] for place in places]))
        return [values[place] for place in self.outputs]


def _linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x @ weight.T + bias


def _conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: list[int], padding: list[int]) -> np.ndarray:
    """(n, channels, height, width) to (n, filters, ...), by a product of matrices."""
    x = np.pad(x, ((0, 0), (0, 0), *((size, size) for size in padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))  # type: ignore[call-overload]
    windows = windows[:, :, :: stride[0], :: stride[1]].transpose(0, 2, 3, 1, 4, 5)
    n, height, width = windows.shape[:3]
    outputs = windows.reshape(n * height * width, -1) @ weight.reshape(len(weight), -1).T + bias
    return outputs.reshape(n, height, width, -1).transpose(0, 3, 1, 2)


def _layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.float32(eps)) * weight + bias


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, np.float32(alpha) * np.expm1(np.minimum(x, 0)))


def _concat(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=1)


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "abs": np.abs,
    "add": np.add,
    "cast": lambda x, dtype: x.astype(dtype, copy=False),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "concat": _concat,
    "conv2d": _conv2d,
    "div": np.divide,
    "elu": _elu,
    "flatten": lambda x: x.reshape(len(x), -1),
    "layer_norm": _layer_norm,
    "linear": _linear,
    "max": np.maximum,
    "mean": lambda x: x.mean(axis=-1, keepdims=True),
    "mul": np.multiply,
    "one_hot": lambda x, n: (x[..., None] == np.arange(n)).astype(np.float32),
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "reshape": lambda x, shape: x.reshape(-1, *shape),
    "sigmoid": lambda x: np.float32(0.5) * (np.float32(1) + np.tanh(np.float32(0.5) * x)),  # never overflows
    "slice": lambda x, start, stop: x[:, start:stop],
    "softplus": lambda x: np.logaddexp(x, np.float32(0)),
    "stack": lambda *parts: np.stack(parts),
    "sub": np.subtract,
    "take": lambda x, index: x[index],
    "tanh": np.tanh,
    "transpose": lambda x, axes: x.transpose(axes),
}

"""Objects become what JSON has, and arrays."""

import math
from collections import deque
from collections.abc import Iterable
from enum import Enum
from functools import singledispatchmethod
from pathlib import PurePath
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.packing.names import HELD, CannotPack, may_hold, name_of


class Packer:
    """
    Turns objects into what JSON has, and collects their arrays. What stands at two places is written once.

    Numbers, strings, lists, tuples, dicts, sets, arrays, tensors, classes and random generators are packed, and objects of
    the modules in :data:`HELD`.

    :param known: objects that :class:`Unpacker` will be given, too; they are not packed, only named
    """

    def __init__(self, known: Iterable[Any] = ()) -> None:
        self.arrays: list[np.ndarray] = []
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no other object gets their id
        for each in known:
            self._remember(each)

    def pack(self, value: Any) -> Any:
        """
        :param value: any object
        :return: what :func:`json.dumps` takes
        :raises CannotPack: if it, or a part of it, is of another class
        """
        if id(value) in self._seen:
            return {"same": self._seen[id(value)]}
        return self._packed(value)

    def _remember(self, value: Any) -> None:
        self._seen[id(value)] = len(self._kept)
        self._kept.append(value)

    @singledispatchmethod
    def _packed(self, value: Any) -> Any:
        cls = type(value)
        if not may_hold(cls):
            raise CannotPack(f"{cls.__module__}.{cls.__qualname__}")
        make, arguments, *rest = value.__reduce_ex__(2)
        if make.__name__ != "__newobj__" or any(part is not None for part in rest[1:]):
            raise CannotPack(f"{cls.__module__}.{cls.__qualname__}")
        self._remember(value)
        state = rest[0] if rest else None
        return {"object": name_of(cls), "arguments": self.pack(list(arguments[1:])), "state": self.pack(state)}

    @_packed.register(type(None))
    @_packed.register(bool)
    @_packed.register(str)
    def _(self, value: Any) -> Any:
        return value

    @_packed.register(int)
    def _(self, value: int) -> Any:
        return int(value)

    @_packed.register(float)
    def _(self, value: float) -> Any:
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}

    @_packed.register(Enum)
    def _(self, value: Enum) -> Any:
        return {"enum": name_of(type(value), HELD), "value": self.pack(value.value)}

    @_packed.register(list)
    def _(self, value: list) -> Any:
        return [self.pack(each) for each in value]

    @_packed.register(tuple)
    def _(self, value: tuple) -> Any:
        packed = {"tuple": [self.pack(each) for each in value]}
        return packed | {"of": name_of(type(value), HELD)} if hasattr(value, "_fields") else packed

    @_packed.register(dict)
    def _(self, value: dict) -> Any:
        return {"dict": [[self.pack(key), self.pack(each)] for key, each in value.items()]}

    @_packed.register(set)
    @_packed.register(frozenset)
    def _(self, value: Any) -> Any:
        return {type(value).__name__: [self.pack(each) for each in value]}

    @_packed.register(deque)
    def _(self, value: deque) -> Any:
        return {"deque": [self.pack(each) for each in value], "maxlen": value.maxlen}

    @_packed.register(np.ndarray)
    def _(self, value: np.ndarray) -> Any:
        if value.dtype.hasobject or value.dtype.names:
            raise CannotPack(f"an array of {value.dtype}")
        self._remember(value)
        self.arrays.append(value)
        return {"array": len(self.arrays) - 1}

    @_packed.register(PurePath)
    def _(self, value: PurePath) -> Any:
        return {"path": str(value)}

    @_packed.register(bytes)
    def _(self, value: bytes) -> Any:
        return {"bytes": self.pack(np.frombuffer(value, np.uint8))}

    @_packed.register(np.generic)
    def _(self, value: np.generic) -> Any:
        return {"scalar": self.pack(np.asarray(value))}

    @_packed.register(np.dtype)
    def _(self, value: np.dtype) -> Any:
        return {"dtype": value.str}

    @_packed.register(th.Tensor)
    def _(self, value: th.Tensor) -> Any:
        return {"tensor": self.pack(value.numpy(force=True))}

    @_packed.register(th.nn.Module)
    def _(self, value: th.nn.Module) -> Any:
        raise CannotPack(f"{type(value).__module__}.{type(value).__qualname__}")

    @_packed.register(type)
    def _(self, value: type) -> Any:
        return {"class": name_of(value)}

    @_packed.register(np.random.Generator)
    def _(self, value: np.random.Generator) -> Any:
        self._remember(value)
        return {"generator": type(value.bit_generator).__name__, "state": self.pack(value.bit_generator.state)}

    @_packed.register(np.random.RandomState)
    def _(self, value: np.random.RandomState) -> Any:
        self._remember(value)
        return {"random_state": self.pack(value.get_state(legacy=False))}

"""What JSON has, and arrays, become objects."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.packing.names import HELD, NAMED, class_of
from sb3_ddpg_ext.packing.streams import STREAMS, checked_state
from sb3_ddpg_ext.packing.views import as_view

LARGEST_POOL = 8  # numbers in the pool of a SeedSequence, which has 4; many take time
GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class Unpacker:
    """
    Makes the objects anew.

    :param arrays: those that :class:`Packer` has collected, by their number
    :param known: the objects that it knew, or what stands for them now
    :param n_repeated: how many parts there may be beside those that are written out, each counted as often as it stands
        there; None for any. A list or the like that stands in itself is refused then, too: who shows or compares such objects
        would not come to an end
    """

    def __init__(self, arrays: Callable[[int], np.ndarray], known: Iterable[Any] = (), n_repeated: int | None = None):
        self._array, self._most, self._n_parts, self._n_written = arrays, n_repeated, 0, 0
        self._sizes: tuple[dict[int, int], dict[int, int]] = {}, {}  # in parts, of what was kept and shared, once it is whole
        self._kept: list[Any] = list(known)
        self._shared: list[Any] = []
        self._makers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "same": self._same,
            "shared": self._once_more,
            "float": lambda packed: float(packed["float"]),
            "hex": lambda packed: int(packed["hex"], 16),
            "tuple": self._tuple,
            "dict": lambda packed: self._mapping({}, packed["dict"]),
            "ordered": lambda packed: self._mapping(OrderedDict(), packed["ordered"]),
            "set": self._set,
            "frozenset": self._frozenset,
            "deque": self._deque,
            "array": lambda packed: self._keep(self._array(packed["array"])),
            "view": self._view,
            "turned": lambda packed: self._keep(self.unpack(packed["turned"]).transpose(np.argsort(packed["axes"]))),
            "path": lambda packed: Path(packed["path"]),
            "bytes": lambda packed: self.unpack(packed["bytes"]).tobytes(),
            "scalar": lambda packed: self.unpack(packed["scalar"])[()],
            "dtype": lambda packed: np.dtype(packed["dtype"]),
            "number": lambda packed: np.dtype(packed["number"]).type,
            "tensor": lambda packed: th.from_numpy(self.unpack(packed["tensor"]).copy()),
            "shared_tensor": lambda packed: self._share(th.from_numpy(self.unpack(packed["shared_tensor"]).copy(order="K"))),
            "seeds": self._seeds,
            "stream": lambda packed: STREAMS[packed["stream"]],
            "class": lambda packed: class_of(packed["class"], NAMED + HELD),
            "enum": lambda packed: _checked(class_of(packed["enum"], HELD), Enum)(self.unpack(packed["value"])),
            "generator": self._generator,
            "random_state": self._random_state,
            "object": self._object,
        }

    def unpack(self, packed: Any) -> Any:
        """
        :param packed: what :meth:`Packer.pack` returned
        :raises ValueError: for a class that a file may not name, and more repeated parts than there may be
        """
        if self._most is None:
            return self._unpacked(packed)
        before, numbers = self._n_parts, (len(self._kept), len(self._shared))
        self._n_parts, self._n_written = before + 1, self._n_written + 1
        made = self._unpacked(packed)
        for sizes, objects, number in zip(self._sizes, (self._kept, self._shared), numbers, strict=True):
            if len(objects) > number:
                sizes.setdefault(number, self._n_parts - before)
        return made

    def _count(self, n: int) -> None:
        self._n_parts += n
        if self._n_parts - self._n_written > self._most:  # type: ignore[operator]
            raise ValueError(f"it must have at most {self._most} parts once more, each counted as often as it stands there")

    def _once_more(self, packed: dict[str, Any]) -> Any:
        number = packed["shared"]
        if self._most is not None:
            if number not in self._sizes[1]:
                raise ValueError("a list or the like must not stand in itself")
            self._count(self._sizes[1][number])
        return self._shared[number]

    def _same(self, packed: dict[str, Any]) -> Any:
        if self._most is not None:
            self._count(self._sizes[0].get(packed["same"], 1))  # an object may lead back to itself
        return self._kept[packed["same"]]

    @singledispatchmethod
    def _unpacked(self, packed: Any) -> Any:
        return packed

    @_unpacked.register(list)
    def _(self, packed: list) -> Any:
        made = self._share([])
        made.extend(self.unpack(each) for each in packed)
        return made

    @_unpacked.register(dict)
    def _(self, packed: dict) -> Any:
        kind = next((name for name in self._makers if name in packed), None)
        if kind is None:
            raise ValueError(f"{sorted(packed)} must be one of {list(self._makers)}")
        return self._makers[kind](packed)

    def _keep(self, value: Any) -> Any:
        self._kept.append(value)
        return value

    def _share(self, value: Any) -> Any:
        self._shared.append(value)
        return value

    def _mapping(self, made: dict[Any, Any], items: Any) -> Any:
        self._share(made)
        for key, value in items:
            made[self.unpack(key)] = self.unpack(value)
        return made

    def _set(self, packed: dict[str, Any]) -> set[Any]:
        made = self._share(set())
        made.update(map(self.unpack, packed["set"]))
        return made

    def _frozenset(self, packed: dict[str, Any]) -> frozenset[Any]:
        number = len(self._shared)
        self._share(None)  # cannot be made before its elements are, which do not lead back to it
        self._shared[number] = frozenset(map(self.unpack, packed["frozenset"]))
        return self._shared[number]

    def _deque(self, packed: dict[str, Any]) -> deque[Any]:
        made = self._share(deque(maxlen=packed["maxlen"]))
        made.extend(map(self.unpack, packed["deque"]))
        return made

    def _tuple(self, packed: dict[str, Any]) -> Any:
        values = map(self.unpack, packed["tuple"])
        return tuple(values) if "of" not in packed else _checked(class_of(packed["of"], HELD), tuple)(*values)

    def _view(self, packed: dict[str, Any]) -> np.ndarray:
        owner = self.unpack(packed["view"])
        dtype = np.dtype(packed["dtype"])
        if dtype.hasobject or not isinstance(owner, np.ndarray):
            raise ValueError(f"a view of {dtype} must be one of numbers in an array")
        shape, strides = tuple(packed["shape"]), tuple(packed["strides"])
        return self._keep(as_view(owner, shape, dtype.str, packed["offset"], strides))

    def _object(self, packed: dict[str, Any]) -> Any:
        cls = class_of(packed["object"], HELD)
        made = cls.__new__(cls, *self.unpack(packed["arguments"]))
        self._keep(made)  # before its parts, which may lead back to it
        state = self.unpack(packed["state"])
        if hasattr(made, "__setstate__"):
            made.__setstate__(state)
        elif state is not None:
            made.__dict__.update(state)
        return made

    def _generator(self, packed: dict[str, Any]) -> np.random.Generator:
        if packed["generator"] not in GENERATORS:
            raise ValueError(f"the random generator {packed['generator']!r} must be one of {GENERATORS}")
        if "bits" in packed:
            return self._keep(np.random.Generator(self._shared[packed["bits"]]))
        number = len(self._kept), len(self._shared)
        self._keep(None)  # made when its seeds are known, which do not lead back to it
        self._share(None)
        state, seeds = checked_state(self.unpack(packed["state"])), self.unpack(packed.get("seed_sequence"))
        if not isinstance(seeds, np.random.SeedSequence | None):
            raise ValueError(f"the seeds of a random generator must be a SeedSequence, not {type(seeds).__name__}")
        bits = getattr(np.random, packed["generator"])(0 if seeds is None else seeds)
        bits.state = state
        self._kept[number[0]], self._shared[number[1]] = np.random.Generator(bits), bits
        return self._kept[number[0]]

    def _seeds(self, packed: dict[str, Any]) -> np.random.SeedSequence:
        number = len(self._shared)
        self._share(None)
        state = self.unpack(packed["seeds"])
        if not isinstance(state["pool_size"], int) or state["pool_size"] > LARGEST_POOL:
            raise ValueError(f"the pool of a SeedSequence must have at most {LARGEST_POOL} numbers: {state['pool_size']!r}")
        self._shared[number] = np.random.SeedSequence(**state)
        return self._shared[number]

    def _random_state(self, packed: dict[str, Any]) -> np.random.RandomState:
        made = self._keep(np.random.RandomState(0))
        made.set_state(checked_state(self.unpack(packed["random_state"])))
        return made


def _checked(cls: type, base: type) -> Any:
    """
    A class that is called with what a file has.

    :raises ValueError: for one of another kind, which could make anything of it
    """
    if not issubclass(cls, base):
        raise ValueError(f"the class {cls.__name__} must be a subclass of {base.__name__}")
    return cls

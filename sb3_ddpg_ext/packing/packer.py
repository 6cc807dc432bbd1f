"""Objects become what JSON has, and arrays."""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from enum import Enum
from functools import singledispatchmethod
from pathlib import PurePath
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.packing.names import HELD, CannotPack, may_hold, name_of
from sb3_ddpg_ext.packing.streams import name_of_stream
from sb3_ddpg_ext.packing.views import share_memory, view_of

# Of these, objects of a subclass are more than what is packed.
EXACTLY = (bool, int, float, str, bytes, list, dict, set, frozenset, deque, np.ndarray, th.Tensor, np.random.Generator,
           np.random.RandomState, np.random.SeedSequence)  # fmt: skip
AS_ARRAYS = (th.float64, th.float32, th.float16, th.complex64, th.complex128, th.int64, th.int32, th.int16, th.int8, th.uint8,
             th.bool)  # fmt: skip  # tensors that NumPy has, too

MOST_BITS = 10_000  # of a number in JSON: Python reads no more than 4300 digits


class Packer:
    """
    Turns objects into what JSON has, and collects their arrays. What stands at two places is written once.

    Numbers, strings, lists, tuples, dicts, sets, arrays, tensors, classes and random generators are packed, and objects of
    the modules in :data:`HELD`. An object of a subclass of these is not.

    :param known: objects that :class:`Unpacker` will be given, too; they are not packed, only named
    :param keeps_views: whether arrays that are views of another one are to be views of it again, see :meth:`shares_memory`.
        All of that one is packed then.
    """

    def __init__(self, known: Iterable[Any] = (), keeps_views: bool = False) -> None:
        self._keeps_views = keeps_views
        self.arrays: list[np.ndarray] = []
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no other object gets their id
        self._shared: dict[int, tuple[int, Any]] = {}  # lists and the like, which older files have not by number
        self.repeats = False  # whether something stood at two places
        self.closes_gaps = False  # whether there are gaps in memory between numbers that will not be there again
        for each in known:
            self._remember(each)

    def pack(self, value: Any) -> Any:
        """
        :param value: any object
        :return: what :func:`json.dumps` takes
        :raises CannotPack: if it, or a part of it, is of another class
        """
        if id(value) in self._seen or id(value) in self._shared:
            self.repeats = True
            of_objects = id(value) in self._seen
            return {"same": self._seen[id(value)]} if of_objects else {"shared": self._shared[id(value)][0]}
        if (stream := name_of_stream(value)) is not None:
            return {"stream": stream}
        if isinstance(value, Enum):  # also one that is a number
            return {"enum": name_of(type(value), HELD), "value": self.pack(value.value)}
        if isinstance(value, np.generic):  # of which some are floats of Python, too
            return {"scalar": self.pack(np.asarray(value))}
        if isinstance(value, EXACTLY) and type(value) not in (*EXACTLY, OrderedDict):
            raise CannotPack(f"{type(value).__module__}.{type(value).__qualname__}")
        return self._packed(value)

    def attempt(self, value: Any) -> Any:
        """
        As :meth:`pack`, but a failure leaves no trace in the numbers of what comes next.

        :param value: any object
        :raises CannotPack: likewise
        """
        before = len(self.arrays), len(self._kept), len(self._shared)
        try:
            return self.pack(value)
        except CannotPack:
            del self.arrays[before[0] :]
            for forgotten in self._kept[before[1] :]:
                del self._seen[id(forgotten)]
            del self._kept[before[1] :]
            self._shared = dict(list(self._shared.items())[: before[2]])
            raise

    def shares_memory(self) -> bool:
        """Whether two of the arrays lie in the same memory. Without ``keeps_views`` they will not, when they are unpacked."""
        return share_memory(self.arrays)

    def _remember(self, value: Any) -> None:
        self._seen[id(value)] = len(self._kept)
        self._kept.append(value)

    def _share(self, value: Any) -> None:
        self._shared[id(value)] = len(self._shared), value

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
        return int(value) if value.bit_length() < MOST_BITS else {"hex": hex(value)}

    @_packed.register(float)
    def _(self, value: float) -> Any:
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}

    @_packed.register(list)
    def _(self, value: list) -> Any:
        self._share(value)
        return [self.pack(each) for each in value]

    @_packed.register(tuple)
    def _(self, value: tuple) -> Any:
        if type(value) is not tuple and not hasattr(value, "_fields"):
            raise CannotPack(f"{type(value).__module__}.{type(value).__qualname__}")
        packed = {"tuple": [self.pack(each) for each in value]}
        return packed | {"of": name_of(type(value), HELD)} if hasattr(value, "_fields") else packed

    @_packed.register(dict)
    def _(self, value: dict) -> Any:
        self._share(value)
        kind = "ordered" if type(value) is OrderedDict else "dict"
        return {kind: [[self.pack(key), self.pack(each)] for key, each in value.items()]}

    @_packed.register(set)
    @_packed.register(frozenset)
    def _(self, value: Any) -> Any:
        self._share(value)
        return {type(value).__name__: [self.pack(each) for each in value]}

    @_packed.register(deque)
    def _(self, value: deque) -> Any:
        self._share(value)
        return {"deque": [self.pack(each) for each in value], "maxlen": value.maxlen}

    @_packed.register(np.ndarray)
    def _(self, value: np.ndarray) -> Any:
        if value.dtype.hasobject or value.dtype.names:
            raise CannotPack(f"an array of {value.dtype}")
        if self._keeps_views and (view := view_of(value)) is not None:
            packed = {"view": self.pack(view.owner), "shape": value.shape, "dtype": value.dtype.str}
            self._remember(value)
            return packed | {"offset": view.offset, "strides": value.strides}
        axes = sorted(range(value.ndim), key=lambda axis: -value.strides[axis])
        if not value.flags.forc and (turned := value.transpose(axes)).flags.c_contiguous:
            packed = {"turned": self.pack(turned), "axes": axes}  # what sums are depends on the order in memory
            self._remember(value)
            return packed
        self.closes_gaps |= not value.flags.forc
        self._remember(value)
        self.arrays.append(value)
        return {"array": len(self.arrays) - 1}

    @_packed.register(PurePath)
    def _(self, value: PurePath) -> Any:
        return {"path": str(value)}

    @_packed.register(bytes)
    def _(self, value: bytes) -> Any:
        return {"bytes": self.pack(np.frombuffer(value, np.uint8))}

    @_packed.register(np.dtype)
    def _(self, value: np.dtype) -> Any:
        return {"dtype": value.str}

    @_packed.register(th.Tensor)
    def _(self, value: th.Tensor) -> Any:
        if value.requires_grad or value.layout is not th.strided or value.dtype not in AS_ARRAYS:
            raise CannotPack(f"a tensor of {value.dtype}, {value.layout}, requires_grad={value.requires_grad}")
        packed = {"shared_tensor": self.pack(value.numpy(force=True))}
        self._share(value)
        return packed

    @_packed.register(th.nn.Module)
    def _(self, value: th.nn.Module) -> Any:
        raise CannotPack(f"{type(value).__module__}.{type(value).__qualname__}")

    @_packed.register(type)
    def _(self, value: type) -> Any:
        if issubclass(value, np.generic):  # such as np.float32
            return {"number": np.dtype(value).str}
        return {"class": name_of(value)}

    @_packed.register(np.random.Generator)
    def _(self, value: np.random.Generator) -> Any:
        self._remember(value)
        bits = value.bit_generator
        packed: dict[str, Any] = {"generator": type(bits).__name__}
        if id(bits) in self._shared:  # by another generator
            return packed | {"bits": self._shared[id(bits)][0]}
        self._share(bits)
        return packed | {"state": self.pack(bits.state), "seed_sequence": self.pack(bits.seed_seq)}

    @_packed.register(np.random.SeedSequence)
    def _(self, value: np.random.SeedSequence) -> Any:
        self._share(value)
        return {"seeds": self.pack(value.state)}

    @_packed.register(np.random.RandomState)
    def _(self, value: np.random.RandomState) -> Any:
        state = value.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            raise CannotPack(f"RandomState of {state['bit_generator']}")
        self._remember(value)
        return {"random_state": self.pack(state)}

"""The state of environments as a pickle, where it is more than numbers and arrays."""

import ctypes
import io
import pickle
from typing import Any

import cloudpickle
import numpy as np
import torch as th

from sb3_ddpg_ext.packing import STREAMS, as_view, imports_of, is_of_others, share_memory, view_of

NATIVE = ("pybullet", "pybullet_utils")  # modules whose objects are names for something outside, which no pickle has
LENDS = "mujoco."  # whose objects lend their memory to arrays
# What pickles of environments raise.
UNSAVED = (TypeError, AttributeError, pickle.PicklingError, NotImplementedError, RuntimeError, ValueError, RecursionError)


def pickled_states(states: list[Any], layers: list[Any], name: str) -> bytes:
    """
    :param states: of the layers of an environment
    :param layers: which are left out, since they are those of the new environment; the global random streams likewise
    :param name: of the innermost layer, for errors
    :raises ValueError: if they cannot be pickled, or would not be what they were
    """
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.memory = []
    pickler.names = {id(layer): number for number, layer in enumerate(layers)} | {id(each): n for n, each in STREAMS.items()}
    try:
        pickler.dump(states)
    except UNSAVED as error:
        raise ValueError(f"the state of {name} cannot be pickled ({error})") from error
    check_memory(pickler.memory, name)
    imported = imports_of(stream.getvalue())
    if any(each.startswith(LENDS) for each in imported) and any(map(is_of_others, pickler.memory)):
        raise ValueError(f"the state of {name} has an array in the memory of something outside Python")
    if outside := {each.split(".")[0] for each in imported} & set(NATIVE):
        raise ValueError(f"the state of {name} is outside Python, in {', '.join(sorted(outside))}")
    return stream.getvalue()


def unpickled_states(data: bytes, layers: list[Any]) -> list[Any]:
    """
    :param data: of :func:`pickled_states`
    :param layers: of the new environment
    """
    unpickler = _Unpickler(io.BytesIO(data))
    unpickler.known = dict(enumerate(layers)) | STREAMS
    return unpickler.load()


def check_memory(arrays: list[np.ndarray], name: str) -> None:
    """
    :param arrays: that an environment has
    :param name: of the environment
    :raises ValueError: for arrays and tensors that would not lie in the same memory any more
    """
    if share_memory(arrays):  # a tensor and an array, two tensors, or a view that has more numbers than there are
        raise ValueError(f"the state of {name} has an array or tensor that repeats the memory of another one")


class _Pickler(cloudpickle.Pickler):
    """Views of arrays stay views, unlike in other pickles."""

    names: dict[int, int | str]
    memory: list[np.ndarray]  # in which arrays and tensors lie

    def persistent_id(self, obj: Any) -> int | str | None:
        return self.names.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        view = view_of(obj) if type(obj) is np.ndarray else None
        if view is not None:
            return as_view, (view.owner, obj.shape, obj.dtype.str, view.offset, obj.strides)
        if isinstance(obj, np.ndarray):
            self.memory.append(obj)
        elif isinstance(obj, th.Tensor) and type(obj) is not th.nn.Parameter:  # which is pickled as a tensor in it
            self.memory.append(_bytes_of(obj))
        return super().reducer_override(obj)


class _Unpickler(pickle.Unpickler):
    known: dict[int | str, Any]

    def persistent_load(self, pid: int | str) -> Any:
        return self.known[pid]


def _bytes_of(tensor: th.Tensor) -> np.ndarray:
    """All of the memory that a tensor, or a view, has a part of."""
    storage = tensor.detach().untyped_storage()
    if not storage.nbytes():
        return np.empty(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_ubyte * storage.nbytes()).from_address(storage.data_ptr()))

"""The infos of an environment as JSON has them, and back."""

import warnings
from functools import singledispatch
from typing import Any

import numpy as np

ARRAY, KINDS = "__array__", "biufU"  # of arrays that are kept: numbers and texts


@singledispatch
def as_plain(value: Any) -> Any:
    """
    A value that JSON has, with lists for tuples; Ellipsis, with a warning, for what JSON cannot say.

    :param value: of an info, or the whole of it
    """
    warnings.warn(f"an info of type {type(value).__name__} is not saved with the replay buffer", stacklevel=2)
    return Ellipsis


_left_out = as_plain.dispatch(object)


@as_plain.register(bool)
@as_plain.register(int)
@as_plain.register(float)
@as_plain.register(str)
@as_plain.register(type(None))
def _(value: Any) -> Any:
    return value


@as_plain.register(list)
@as_plain.register(tuple)
def _(value: Any) -> Any:
    return [plain for each in value if (plain := as_plain(each)) is not Ellipsis]


@as_plain.register(np.ndarray)
@as_plain.register(np.generic)
def _(value: Any) -> Any:
    return {ARRAY: value.tolist(), "dtype": value.dtype.str} if value.dtype.kind in KINDS else _left_out(value)


@as_plain.register(dict)
def _(value: Any) -> Any:
    if ARRAY in value or set(map(type, value)) - {str}:
        return _left_out(value)
    return {key: plain for key, each in value.items() if (plain := as_plain(each)) is not Ellipsis}


@singledispatch
def as_rich(value: Any) -> Any:
    """
    The same with its arrays.

    :param value: what :func:`as_plain` gave
    :raises ValueError: for an array of another type
    """
    return value


@as_rich.register(list)
def _(value: Any) -> Any:
    return [as_rich(each) for each in value]


@as_rich.register(dict)
def _(value: Any) -> Any:
    if ARRAY in value:
        dtype = np.dtype(value["dtype"])
        if dtype.kind not in KINDS:
            raise ValueError(f"an array of an info must be of numbers or text, not of {dtype}")
        array = np.array(value[ARRAY], "U" if dtype.kind == "U" else dtype)  # a text takes the room that it needs
        return array if array.ndim else array[()]
    return {key: as_rich(each) for key, each in value.items()}

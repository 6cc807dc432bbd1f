"""Arrays that lie in the memory of others."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """
    Where an array lies.

    :param owner: the array whose memory it is
    :param offset: of its first number there, in bytes
    """

    owner: np.ndarray
    offset: int


def owner_of(array: np.ndarray) -> np.ndarray:
    """:return: the array whose memory it is a view of, or the array itself"""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def view_of(array: np.ndarray) -> View | None:
    """:return: where it lies, or None for an array with memory of its own, or of something that is no array"""
    owner = owner_of(array)
    if owner is array or type(owner) is not np.ndarray or not owner.flags.forc or array.nbytes > owner.nbytes:
        return None
    begin, first = (each.__array_interface__["data"][0] for each in (owner, array))
    return View(owner, first - begin)


def as_view(owner: np.ndarray, shape: tuple[int, ...], dtype: str, offset: int, strides: tuple[int, ...]) -> np.ndarray:
    """
    :param owner: whose memory it is
    :param shape: of the view
    :param dtype: of its numbers
    :param offset: of the first one, in bytes
    :param strides: in bytes
    :raises ValueError: if it would reach beyond the owner, or have more numbers than that
    """
    if math.prod(shape) * np.dtype(dtype).itemsize > owner.nbytes:
        raise ValueError(f"a view of the shape {shape} must not have more numbers than what it is a view of")
    return np.ndarray(shape, dtype, owner, offset, strides)  # type: ignore[call-overload]


def share_memory(arrays: Iterable[np.ndarray]) -> bool:
    """Whether two of them, of which one can be written to, lie in the same array or otherwise between the same addresses."""
    owners = [owner_of(array) for array in arrays if array.size]
    bounds = sorted((*_bounds(owner), owner.flags.writeable) for owner in owners)
    return any(end > begin and (one or other) for (_, end, one), (begin, _, other) in pairwise(bounds))


def _bounds(array: np.ndarray) -> tuple[int, int]:
    """The addresses of its first byte, and of the first behind it."""
    first = array.__array_interface__["data"][0]
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    return first + sum(each for each in reach if each < 0), first + sum(each for each in reach if each > 0) + array.itemsize


def is_of_others(array: np.ndarray) -> bool:
    """Whether it lies in memory that a library such as MuJoCo has lent, of which nobody sees what else is there."""
    return type(owner_of(array).base).__name__ == "PyCapsule"

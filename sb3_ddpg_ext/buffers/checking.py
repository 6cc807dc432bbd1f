"""Checks of what a file of a replay buffer says and holds, before anything is made of it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sb3_ddpg_ext.buffers.observations import array_prefix
from sb3_ddpg_ext.validation import MAX_ROWS, check_instance, check_integer, check_real

CHUNK = 65536  # rows that are read at once


def check_header(header: Mapping[str, Any]) -> None:
    """
    :param header: of the file
    :raises ValueError: for a number outside what is possible
    :raises TypeError: for a value of the wrong type
    :raises KeyError: where one is missing
    """
    check_instance("the header", header, dict, "a dict")
    check_instance("observations", header["observations"], dict, "a dict of shapes and types")
    for name, at_least in dict(version=1, buffer_size=1, n_envs=1, action_dim=1, pos=0, n_used=1).items():
        check_integer(name, header[name], at_least)
    check_instance("full", header["full"], bool, "true or false")
    n_rows, n_envs = header["buffer_size"] * header["n_envs"], header["n_envs"]
    if n_rows >= MAX_ROWS:
        raise ValueError(f"buffer_size={header['buffer_size']} must have less than {MAX_ROWS} transitions")
    if header["pos"] >= header["buffer_size"]:
        raise ValueError(f"pos={header['pos']} must be less than buffer_size={header['buffer_size']}")
    low, high = n_rows + n_envs, 2 * (n_rows + n_envs)  # each transition has at most one observation of its own behind it
    if not low <= header["n_used"] <= high:
        raise ValueError(f"n_used={header['n_used']} must be from {low} to {high}")
    goes_on = header["goes_on"]
    check_instance("goes_on", goes_on, list, "a list")
    if len(goes_on) != n_envs or set(goes_on) - {True, False}:
        raise ValueError(f"goes_on={goes_on} must be {n_envs} times true or false")
    if header["share"] is not None:
        check_real("share", header["share"], 0, 1)


def check_arrays(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """
    :param header: that :func:`check_header` has checked
    :param arrays: by name, of which slices are read in order
    :raises ValueError: for a shape, a type or a number that cannot be
    :raises KeyError: where an array is missing
    """
    n_rows, n_used = header["buffer_size"] * header["n_envs"], header["n_used"]
    n = n_rows if header["full"] else header["pos"] * header["n_envs"]
    terminated = lambda part: np.isin(part[:, -1], (0, 1)).all()  # noqa: E731
    is_there = lambda part: ((part < n) | (part >= n_rows)).all()  # noqa: E731
    _check("rest", arrays["rest"], (n, header["action_dim"] + 2), "f", also=terminated)
    _check("next", arrays["next"], (n,), "i", 0, n_used - 1, is_there)
    _check("timeouts", arrays["timeouts"], (n,), "b")
    if "before" in arrays:
        _check("before", arrays["before"], (n,), "i", 0)
    if "states" in arrays:
        _check("states", arrays["states"], (n, header.get("state_size", 0)), "f")
    n_observations = n + n_used - n_rows
    shapes = {array_prefix(key): tuple(shape) for key, (shape, _) in header["observations"].items()}
    for name, array in arrays.items():
        folder, _, last = name.rpartition("/")
        if not name.startswith("observations/"):
            continue
        if last == "rows":
            _check(name, array, (n_observations, *shapes[f"{folder}/"]), "biuf")
        elif last == "index":
            frames = arrays[f"{folder}/frames"]
            _check(name, array, (n_observations, *array.shape[1:]), "i", 0, max(len(frames) - 1, 0))
        else:
            _check(name, array, array.shape, "biuf")


def check_infos(header: Mapping[str, Any], infos: Any) -> None:
    """
    :param header: that :func:`check_header` has checked
    :param infos: of the transitions, or None
    :raises ValueError: if they are not one dict for each
    """
    n = (header["buffer_size"] if header["full"] else header["pos"]) * header["n_envs"]
    if infos is not None and (len(infos) not in (0, n) or not all(isinstance(info, dict) for info in infos)):
        raise ValueError(f"infos must be {n} dicts")


def _check(
    name: str, array: Any, shape: tuple[int, ...], kinds: str, low: float = -np.inf, high: float = np.inf,
    also: Callable[[np.ndarray], Any] | None = None,
) -> None:  # fmt: skip
    if array.shape != shape or array.dtype.kind not in kinds:
        raise ValueError(f"{name} has the shape {array.shape} and the type {array.dtype}; the shape must be {shape}")
    for start in range(0, len(array) if math.prod(shape) else 0, CHUNK):
        part = array[start : start + CHUNK]
        if not np.isfinite(part).all() or (part.size and (part.min() < low or part.max() > high)):
            raise ValueError(f"{name} must hold finite numbers from {low:g} to {high:g}")
        if also is not None and not also(part):
            raise ValueError(f"{name} holds numbers that cannot be")

"""What the contents of a model's file must be, so that it asks for no more than it brings and spoils no model."""

import copy
import inspect
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatch
from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from sb3_ddpg_ext.observations import parts_of
from sb3_ddpg_ext.validation import check_instance, check_integer

WITHOUT_TRUST = ("tensorboard_log",)  # paths in a file that is not trusted, which are not followed
BUFFER_PATHS = ("path", "demonstrations", "demonstration_share")
OF_RETURNS = ("v_min", "v_max")  # in policy_kwargs: no sizes
FLAT = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)  # spaces that have no others inside
LARGEST_COUNT = 10**9  # of transitions, episodes, environments and the like in such a file
LARGEST = dict.fromkeys(("buffer_size", "batch_size", "_stats_window_size", "n_steps"), LARGEST_COUNT)
LARGEST |= {"n_envs": 100_000, "n_threads": 4096}


def check_names(names: list[str], cls: type) -> None:
    """
    :param names: of attributes that are no pickles
    :param cls: of the model
    :raises ValueError: if one would take the place of a method
    """
    for name in names:
        if is_of_class(cls, name):
            raise ValueError(f"{name!r} must be an attribute of a model, not a method of {cls.__name__}")


def is_of_class(cls: type, name: str) -> bool:
    """Whether an attribute would take the place of a method or a property."""
    of_class = inspect.getattr_static(cls, name, None)
    return callable(of_class) or isinstance(of_class, property | classmethod | staticmethod)


def bounded(objects: dict[str, Any], n_bytes: int) -> dict[str, Any]:
    """
    What takes the place of paths in a file that is not trusted.

    :param objects: the attributes of a model, by name
    :param n_bytes: of the parameters in the file
    :raises ValueError: if it asks for more than it brings
    """
    for name, most in LARGEST.items():
        if check_integer(name, 1 if objects.get(name) is None else objects[name], at_least=1) > most:
            raise ValueError(f"{name}={objects[name]!r} must be at most {most}")
    policy_kwargs, own = objects.get("policy_kwargs") or {}, objects.get("replay_buffer_kwargs") or {}
    check_instance("policy_kwargs", policy_kwargs, dict, "a dict")
    check_instance("replay_buffer_kwargs", own, dict, "a dict")
    sizes = [_n_numbers(objects[name]) for name in ("observation_space", "action_space") if name in objects]
    if sum(_products(policy_kwargs)) + sum(sizes) > n_bytes:
        raise ValueError(f"policy_kwargs and spaces are of more numbers than there can be in its {n_bytes} bytes")
    kwargs = {name: value for name, value in own.items() if name not in BUFFER_PATHS}
    if max(_products(kwargs), default=0) > LARGEST_COUNT:
        raise ValueError(f"replay_buffer_kwargs={kwargs!r:.200} must hold no number above {LARGEST_COUNT}")
    return dict.fromkeys(WITHOUT_TRUST) | {"replay_buffer_kwargs": kwargs}


@contextmanager
def bounded_parameters(at_most: int) -> Iterator[None]:
    """
    Let the networks that this thread makes meanwhile have no more parameters and buffers than a file can bring. They are
    counted when they have been allocated, before they are filled, so that they take no memory.

    :param at_most: bytes
    :raises ValueError: for more
    """
    thread, n_bytes = threading.get_ident(), 0

    def count(module: th.nn.Module, name: str, tensor: th.Tensor | None) -> None:
        nonlocal n_bytes
        if tensor is not None and threading.get_ident() == thread:
            n_bytes += tensor.nbytes
            if n_bytes > at_most:
                raise ValueError(f"its networks must have no more parameters than it brings: {at_most} bytes of them")

    handles = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def without_address(objects: dict[str, Any], trusted: bool | None) -> dict[str, Any]:
    """
    :param objects: the attributes of a model, by name
    :param trusted: True where the file may say which Ray cluster is joined; what runs there could send anything
    :return: the same, with a collector that takes the user's own cluster
    """
    collector: Any = objects.get("collector")
    if trusted or getattr(collector, "address", None) is None:
        return objects
    warnings.warn(f"collector: address={collector.address!r} in the file is not followed without trusted=True", stacklevel=4)
    own = copy.copy(collector)
    own.address = None
    return objects | {"collector": own}


def _n_numbers(space: Any) -> int:
    """
    Inputs of a network for observations, or actions, of a space.

    :raises TypeError: for something else, or spaces that are nested deeper
    :raises ValueError: for a Box whose bounds are of another shape than itself
    """
    check_instance("a space", space, spaces.Space, "a space of gymnasium")
    parts = parts_of(space).values()
    for part in parts:
        check_instance("a space", part, FLAT, "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these")
        for bound in (getattr(part, name) for name in ("low", "high") if hasattr(part, name)):
            if bound.shape != part.shape:
                raise ValueError(f"the bounds of a space of the shape {part.shape} must have that shape, not {bound.shape}")
    return sum(spaces.flatdim(part) for part in parts)


@singledispatch
def _products(value: Any) -> list[int]:
    """Every whole number, and what neighbours in lists multiply to: the numbers of weights between layers."""
    return []


@_products.register(int)
def _(value: int) -> list[int]:
    return [abs(value)]


@_products.register(np.integer)
@_products.register(np.ndarray)
def _(value: Any) -> list[int]:
    return _products(value.tolist())


@_products.register(list)
@_products.register(tuple)
def _(value: Any) -> list[int]:
    parts = [_products(each) for each in value]
    return [*(a[0] * b[0] for a, b in pairwise(parts) if a and b), *(n for part in parts for n in part)]


@_products.register(dict)
def _(value: dict) -> list[int]:
    return [n for key, each in value.items() if key not in OF_RETURNS for n in _products(each)]


def check_finite_parameters(parameters: dict[str, Any], name: str) -> None:
    """
    :param parameters: state dicts by name
    :param name: where they are from, for the error
    :raises ValueError: if a number is not finite
    """
    for key, tensor in _tensors(parameters):
        if tensor.layout is not th.strided or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} has in {key} a tensor of more numbers than are there")
        if tensor.is_floating_point() and not bool(th.isfinite(tensor).all()):
            raise ValueError(f"{name} has numbers in {key} that are not finite; all of them must be")


def check_optimizers(policy: Any) -> None:
    """
    :param policy: into whose optimisers states have been loaded
    :raises ValueError: if these cannot be states for their parameters
    """
    for net in (policy.actor, policy.critic):
        _check_optimizer(net.optimizer)


def _check_optimizer(optimizer: th.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for name, default in optimizer.defaults.items():
            numbers = {float: [group[name]], tuple: group[name]}.get(type(default), ())
            if not all(isinstance(each, float | int | th.Tensor) for each in numbers):
                raise ValueError(f"the optimiser's {name}={group[name]!r} must be like {default!r}")
        for parameter in group["params"]:
            for name, of_parameter in optimizer.state[parameter].items():
                if isinstance(of_parameter, th.Tensor) and of_parameter.shape not in (parameter.shape, ()):
                    raise ValueError(f"the optimiser's {name} of a parameter of the shape {tuple(parameter.shape)} must have "
                                     f"that shape, not {tuple(of_parameter.shape)}")  # fmt: skip


@singledispatch
def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, th.Tensor]]:
    yield from ()


@_tensors.register(th.Tensor)
def _(value: th.Tensor, name: str = "") -> Iterator[tuple[str, th.Tensor]]:
    yield name, value


@_tensors.register(dict)
def _(value: dict, name: str = "") -> Iterator[tuple[str, th.Tensor]]:
    for key, each in value.items():
        yield from _tensors(each, f"{name}.{key}".lstrip("."))

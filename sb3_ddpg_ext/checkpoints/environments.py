"""The state of environments in the middle of their episodes, taken from outside."""

import inspect
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

import cloudpickle
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from sb3_ddpg_ext.checkpoints.pickled_states import UNSAVED, check_memory, pickled_states, unpickled_states
from sb3_ddpg_ext.model_checks import is_of_class
from sb3_ddpg_ext.packing import CannotPack, Packer, Unpacker

FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType)
# What stays that of the new environment: what is inside of what stands around it, what describes it, what draws and writes.
OUTER, INSIDE = (gym.Wrapper, VecEnv), {"env", "envs", "venv", "class_attributes"}
DRAWS = {"screen", "clock", "surf", "font", "viewer", "window", "renderer", "mujoco_renderer"}
DRAWS |= {"results_writer", "file_handler"}
# Modules of what draws and writes; other objects of these names are part of the state.
OF_DRAWING = {"_csv", "_io", "csv", "cv2", "glfw", "gymnasium", "matplotlib", "mujoco", "pygame", "pyglet", "sb3_contrib"}
OF_DRAWING |= {"stable_baselines3", "tkinter", "OpenGL"}
OF_PROCESSES = {"waiting", "_seeds", "_options", "reset_infos"}  # of a VecEnv: the rest are pipes and processes
WHERE_FILES_ARE = re.compile(r"(path|folder|directory|filename|_file|_dir|logdir)s?$|^file$")  # names of attributes
MOVED = {"sb3_ddpg_ext.validation.ShapeCheck": "sb3_ddpg_ext.env_checks.ShapeCheck"}  # as older checkpoints name them
METHODS = ("get_state", "set_state")  # of an environment that knows its state itself


class EnvironmentState(NamedTuple):
    """
    The state of an environment, or of vectorised ones.

    :param layers: the names of their classes, from the outermost to the innermost
    :param packed: what they know as JSON, see :mod:`sb3_ddpg_ext.packing`; None where it had to be pickled
    :param arrays: those that belong to it
    :param pickled: the same as a pickle, or None
    """

    layers: list[str]
    packed: str | None
    arrays: list[np.ndarray]
    pickled: bytes | None


STATE = f"{EnvironmentState.__module__}:{EnvironmentState.__name__}"  # as files name it


def environment_state(env: Any, known: Iterable[Any] = ()) -> EnvironmentState:
    """
    :param env: an environment, or vectorised ones; they stay as they are
    :param known: objects that are kept elsewhere, and are the same ones again
    :raises ValueError: if their state cannot be taken; it says why
    """
    layers = list(_layers_of(env))
    name = _names(layers)[-1]
    states = [_state_of(layer) for layer in layers]
    known = [*layers, *known]
    packer = Packer(known)
    try:
        packed = packer.pack(states)
        if packer.shares_memory() or packer.closes_gaps:
            packer = Packer(known, keeps_views=True)
            packed = packer.pack(states)
        if packer.closes_gaps:
            raise CannotPack("sums depend on the order in memory, which a pickle keeps")
        text = json.dumps(packed)
    except CannotPack:
        return EnvironmentState(_names(layers), None, [], pickled_states(states, known, name))
    except RecursionError as error:
        raise ValueError(f"the state of {name} is nested too deeply ({error})") from error
    check_memory(packer.arrays, name)
    return EnvironmentState(_names(layers), text, packer.arrays, None)


def restore_environment(env: Any, saved: EnvironmentState, trusted: bool | None = None, known: Iterable[Any] = ()) -> None:
    """
    :param env: made as the one that was saved
    :param saved: its state
    :param trusted: False where it may not be a pickle
    :param known: as when it was saved, of the present training
    :raises ValueError: if the environments are of other classes, or the state is of another class or shape, or a pickle that
        is not to be read
    """
    layers = list(_layers_of(env))
    if type(saved) is not EnvironmentState:
        raise ValueError(f"saved={saved!r:.100} must be the state of an environment")
    if trusted is False and saved.pickled is not None:
        raise ValueError("saved.pickled must be None with trusted=False, which reads no pickles")
    if _names(layers) != [MOVED.get(name, name) for name in saved.layers]:
        raise ValueError(f"env={_names(layers)} must be made of what it was when it was saved, {list(saved.layers)}")
    known = [*layers, *known]
    if saved.pickled is None:
        states = Unpacker(lambda n: saved.arrays[n].copy(order="K"), known).unpack(json.loads(saved.packed or "null"))
    else:
        states = unpickled_states(saved.pickled, known)
    for layer, state in zip(layers, states, strict=True):
        _restore(layer, state, trusted)


def may_unpickle(packed: Any) -> bool:
    """
    Whether what a :class:`~sb3_ddpg_ext.packing.Packer` gave holds the state of an environment as a pickle, at any depth.

    :param packed: as JSON has it; nothing of it is made
    """
    match packed:
        case list():
            return any(map(may_unpickle, packed))
        case dict():
            parts = list(packed.values())
            return not _is_packed_state(packed) if STATE in parts else any(map(may_unpickle, parts))
    return False


def _is_packed_state(packed: dict[str, Any]) -> bool:
    """Whether it is a state in the form that a packer gives it, and without a pickle."""
    match packed if packed.keys() == {"tuple", "of"} else None:
        case {"tuple": [layers, None, arrays, None]}:
            return not may_unpickle([layers, arrays])
        case {"tuple": [layers, str(inner), arrays, None]}:
            return not may_unpickle([layers, json.loads(inner), arrays])
    return False


def says_where_files_are(name: str, value: Any, present: Any = "") -> bool:
    """
    Whether an attribute is a path. A training that goes on may have folders of its own.

    :param name: of the attribute
    :param value: in the training that was saved
    :param present: in the new one, if there is one
    """
    return WHERE_FILES_ARE.search(name) is not None and (_is_path(value) or (isinstance(value, str) and _is_path(present)))


def _is_path(value: Any) -> bool:
    if isinstance(value, str):
        return {"/", "\\", "~"} & set(value) != set() or Path(value).suffix != "" or os.path.exists(value)
    return isinstance(value, Path | None)


def _layers_of(env: Any) -> Iterator[Any]:
    """Vectorised wrappers, the vectorised environment, and of each single environment its wrappers and itself."""
    while isinstance(env, VecEnvWrapper | gym.Wrapper):
        yield env
        env = env.venv if hasattr(env, "venv") else env.env
    yield env
    for single in getattr(env, "envs", ()):
        yield from _layers_of(single)


def _names(layers: list[Any]) -> list[str]:
    return [f"{type(layer).__module__}.{type(layer).__qualname__}" for layer in layers]


def _knows_itself(layer: Any) -> bool:
    is_innermost = isinstance(layer, gym.Env) and not isinstance(layer, gym.Wrapper)
    return is_innermost and all(name in dir(type(layer)) for name in METHODS)


def _state_of(layer: Any) -> Any:
    if hasattr(layer, "env_method") and not (
        hasattr(layer, "envs") or hasattr(layer, "venv")
    ):  # its environments are elsewhere
        return _state_of_processes(layer)
    if _knows_itself(layer):
        return {"own": layer.get_state()}
    if slots := [name for cls in type(layer).__mro__ for name in vars(cls).get("__slots__", ()) if name in dir(layer)]:
        raise ValueError(f"{type(layer).__name__} has attributes in __slots__ ({slots[0]}); give it get_state and set_state")
    own = vars(layer)
    given = {name: each for name, each in own.items() if isinstance(each, FUNCTIONS)}
    parts = [each for name, each in own.items() if name not in given and _is_state(layer, name, each)] if given else []
    functions = {name: each.__qualname__ for name, each in given.items() if not _is_method_of(each, parts)}
    if hidden := [name for name in own.keys() - functions.keys() if _hides_method(layer, name)]:
        raise ValueError(f"{type(layer).__name__} has an object in place of its method {hidden[0]}, which no checkpoint sets")
    state = {name: each for name, each in own.items() if name not in functions and _is_state(layer, name, each)}
    return {"attributes": state, "functions": functions}


def _is_state(layer: Any, name: str, value: Any) -> bool:
    """Whether an attribute is a part of the state, and neither what the class has nor what the new environment brings."""
    present, of_class = vars(layer).get(name), inspect.getattr_static(type(layer), name, None)
    if (isinstance(layer, OUTER) and name in INSIDE) or name == "spec":
        return False
    if is_of_class(type(layer), name) and not isinstance(of_class, property):  # a property's own value takes no place
        return False
    if name in DRAWS and (_draws(value) or _draws(present)):
        return False
    if isinstance(value, FUNCTIONS):  # only a pickle has one
        return present is None or isinstance(present, FUNCTIONS)
    return not isinstance(present, FUNCTIONS)


def _hides_method(layer: Any, name: str) -> bool:
    return is_of_class(type(layer), name) and not isinstance(inspect.getattr_static(type(layer), name), property)


def _is_method_of(function: Any, parts: list[Any]) -> bool:
    """Whether it is a method of a part of the state, and not a function that the new environment brings."""
    owner = getattr(function, "__self__", None)
    return owner is not None and any(owner is part for part in parts)


def _draws(value: Any) -> bool:
    """Whether an object that is named so draws or writes, which a part of the state does not, and can be pickled."""
    if type(value).__module__.split(".")[0] in OF_DRAWING:
        return True
    try:
        return not cloudpickle.dumps(value)
    except UNSAVED:
        return True


def _state_of_processes(env: VecEnv) -> Any:
    if not all(map(env.has_attr, METHODS)):
        raise ValueError(
            f"the environments of {type(env).__name__} are in other processes; wrap each of them in "
            "sb3_ddpg_ext.wrappers.Resumable, or give it get_state and set_state"
        )
    each = env.env_method("get_state")
    if refused := [state for state in each if isinstance(state, str)]:
        raise ValueError(refused[0])
    return {"attributes": {name: vars(env)[name] for name in OF_PROCESSES if name in vars(env)}, "each": each}


def _restore(layer: Any, state: Any, trusted: bool | None) -> None:
    if "own" in state and _knows_itself(layer):
        layer.set_state(state["own"])
    for name, saved in state.get("attributes", {}).items():
        present = vars(layer).get(name)
        if says_where_files_are(name, saved, present):
            if saved != present and (None in (saved, present) or not _is_path(saved)):
                warnings.warn(f"{type(layer).__name__}.{name} stays {present!r}, since it is named like a path, which no "
                              f"checkpoint sets; there it is {saved!r}", stacklevel=5)  # fmt: skip
        elif _is_state(layer, name, saved):
            vars(layer)[name] = saved
    for name, qualname in state.get("functions", {}).items():
        if getattr(vars(layer).get(name), "__qualname__", None) != qualname:
            warnings.warn(
                f"{type(layer).__name__}.{name} was the function {qualname}, which no checkpoint keeps", stacklevel=5
            )
    for number, each in enumerate(state.get("each", ())):
        if trusted is False and getattr(each, "pickled", None) is not None:
            raise ValueError("the state of an environment must be no pickle with trusted=False, which reads none")
        layer.env_method("set_state", each, indices=[number])

"""Checks of what a user or an environment hands in. Every error names the argument, its value and what is allowed."""

import math
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import get_device

from sb3_ddpg_ext.observations import parts_of

MANY = 10**9  # of what takes time: more would never end
MAX_WEIGHT = 1e6  # of a term of a loss
MAX_UNITS = 10**6  # of a layer
MAX_NETWORKS = 1000
MAX_N_STEPS = 10**5  # rewards in a return
MAX_ROWS = 2**31 - 1  # of all observations of a replay buffer: rows are counted in 32 bits
SMALLEST, LARGEST = 1e-30, 1e30  # of numbers that float32 holds with room for sums and quotients


def is_number(value: Any) -> bool:
    """Whether it is a real number, of Python or NumPy, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_subclass(value: Any, base: type) -> bool:
    """Whether it is a class derived from ``base``, or that itself; False for what is no class."""
    return isinstance(value, type) and issubclass(value, base)


def _as_float(number: Any) -> float:
    """The number as a float; infinity for one that is too large."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


@contextmanager
def naming(name: str, value: Any, allowed: str) -> Iterator[None]:
    """
    A context in which what a user has given is tried out. Whatever goes wrong in it becomes an error that names the argument.

    :param name: of the argument
    :param value: of the argument
    :param allowed: what it must be, in words
    :raises ValueError: for any other error
    :raises TypeError: for a ``TypeError``
    """
    text = f"{name}={value!r} must be {allowed}"
    try:
        yield
    except (TypeError, ValueError) as error:
        if str(error).startswith(name.partition("[")[0]):  # a part of it has been named already
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{text} ({error})") from error
    except Exception as error:
        raise ValueError(f"{text} ({type(error).__name__}: {error})") from error


def check_integer(name: str, value: Any, at_least: int, at_most: int | None = None) -> int:
    """Return ``value`` as an int. A float without fraction is taken (``1e6``), a bool or a string is not."""
    allowed = f"an integer >= {at_least}" + ("" if at_most is None else f" and <= {at_most}")
    if not is_number(value) or not (isinstance(value, Integral) or _as_float(value).is_integer()):
        raise TypeError(f"{name}={value!r} must be {allowed}")
    if value < at_least or (at_most is not None and value > at_most):
        raise ValueError(f"{name}={value!r} must be {allowed}")
    return int(value)


def check_real(name: str, value: Any, low: float, high: float = math.inf, above: bool = False) -> float:
    """Return ``value`` as a finite float within [``low``, ``high``], without ``low`` itself if ``above``."""
    allowed = "a finite number"
    if low > -math.inf:
        allowed = f"a finite number {'>' if above else '>='} {low:g}"
        if high >= MAX_WEIGHT:
            allowed += f" and <= {high:g}" if high < math.inf else ""
        else:
            allowed = f"a number in {'(' if above else '['}{low:g}, {high:g}]"
    if not is_number(value):
        raise TypeError(f"{name}={value!r} must be {allowed}")
    number = _as_float(value)
    if not (math.isfinite(number) and low <= number <= high) or (above and number == low):
        raise ValueError(f"{name}={value!r} must be {allowed}")
    return number


def check_instance(name: str, value: Any, allowed: type | tuple[type, ...], description: str) -> None:
    """Raise a ``TypeError`` unless ``value`` is an instance of ``allowed``, which ``description`` says in words."""
    if not isinstance(value, allowed):
        raise TypeError(f"{name}={value!r} must be {description}")


def is_one_of(value: Any, allowed: Collection[Any]) -> bool:
    """Whether it is; False for arrays and tensors of several entries, which are compared one by one."""
    try:
        return bool(value in allowed)
    except (TypeError, ValueError, RuntimeError):
        return False


def check_choice(name: str, value: Any, allowed: list[Any]) -> None:
    """Raise unless ``value`` is one of a few."""
    if not is_one_of(value, allowed):
        raise ValueError(f"{name}={value!r} must be one of {allowed}")


def check_flag(name: str, value: Any) -> bool:
    """Return True or False, which NumPy's truth values, 0 and 1 are taken for, too."""
    check_choice(name, value, [True, False])
    return bool(value)


def check_kwargs(name: str, value: Any) -> None:
    """Raise a ``TypeError`` unless ``value`` is None or a dict of arguments by their names."""
    check_instance(name, value, (dict, type(None)), "a dict or None")
    for key in value or ():
        check_instance(f"{name}: the key", key, str, "a string, the name of an argument")


def check_device(name: str, value: Any, allowed: str = '"auto", "cpu" or another device that is there') -> None:
    """
    Raise unless torch can put numbers on the device and bring them back.

    A GPU that is asked for by name and is not there is replaced by the CPU, as in Stable-Baselines3, with a warning.
    """
    with naming(name, value, allowed):
        device = get_device(value)
        th.zeros(1, device=device).item()
        if value != "auto" and device.type != th.device(value).type:
            text = f"{name}={value!r} is not there: torch {th.__version__} finds no CUDA device; the CPU is used instead"
            warnings.warn(text, stacklevel=4)  # where the model is made


def check_folder(name: str, path: Any) -> None:
    """Raise unless ``path`` is None, or may be the path of a folder, there or not."""
    if path is None:
        return
    check_instance(name, path, (str, os.PathLike), "the path of a folder, or None")
    try:
        is_good = os.path.isdir(path or ".") or not os.stat(path)
    except FileNotFoundError:
        is_good = True
    except (OSError, ValueError):  # in a file, too long, with a NUL
        is_good = False
    if not is_good:
        raise ValueError(f"{name}={path!r} must be the path of a folder, there or not")


def check_net_arch(name: str, net_arch: Any) -> list[int] | dict[str, list[int]] | None:
    """Return ``[400, 300]`` or ``{"pi": [...], "qf": [...]}`` (or None, the default) as lists of ints."""
    if net_arch is None:
        return None
    if isinstance(net_arch, dict):
        if set(net_arch) != {"pi", "qf"}:
            raise ValueError(f"{name}={net_arch!r} must have exactly the keys 'pi' (actor) and 'qf' (critic)")
        return {key: check_layers(f"{name}[{key!r}]", layers) for key, layers in net_arch.items()}
    return check_layers(name, net_arch)


def check_layers(name: str, layers: Any) -> list[int]:
    """Return the sizes of hidden layers as a list of ints."""
    check_instance(name, layers, (list, tuple), "a list of layer sizes, e.g. [400, 300], or dict(pi=[...], qf=[...])")
    return [check_integer(f"{name}: layer {i}", size, 1, MAX_UNITS) for i, size in enumerate(layers)]


def check_train_freq(train_freq: Any, n_envs: int) -> TrainFreq:
    """Return an int or a pair (int, "step" | "episode") as SB3's ``TrainFreq``."""
    allowed = 'a positive integer or a pair (positive integer, "step" | "episode")'
    pair = (train_freq, "step") if is_number(train_freq) else train_freq
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise TypeError(f"train_freq={train_freq!r} must be {allowed}")
    unit = getattr(pair[1], "value", pair[1])
    if not is_one_of(unit, ("step", "episode")):
        raise ValueError(f"train_freq={train_freq!r}: the unit {unit!r} is unknown; it must be {allowed}")
    if unit == "episode" and n_envs > 1:
        raise ValueError(f"train_freq={train_freq!r}: the unit 'episode' needs a single environment, here n_envs={n_envs}")
    return TrainFreq(check_integer("train_freq", pair[0], 1, MANY), TrainFrequencyUnit(unit))


def check_shape(observation: Any, space: spaces.Space, leading: tuple[int, ...] = ()) -> None:
    """Check the shape of an observation, or of each entry of a ``Dict`` observation, against its space."""
    if type(observation) is np.ndarray and observation.shape == leading + (space.shape or ()) and space.shape is not None:
        return  # at every step: the others can take longer
    if isinstance(space, spaces.Dict):
        check_instance("the environment's observation", observation, dict, f"a dict with the keys {sorted(space.keys())}")
        for key, subspace in space.items():
            if key not in observation:
                raise ValueError(f"the environment's observation lacks the key {key!r}; it has {sorted(observation)}")
            check_shape(observation[key], subspace, leading)
    elif space.shape is not None and np.shape(observation) != leading + space.shape:
        raise ValueError(
            f"the environment returned an observation of shape {np.shape(observation)}; "
            f"it must be {leading + space.shape}, the shape of its observation_space"
        )


def check_finite(name: str, value: Any, n_envs: int = 1) -> None:
    """
    Refuse NaN and infinity before they reach the replay buffer, where they would poison every later update. With several
    environments, one row each, the error has the number of the first that returned them.
    """
    if isinstance(value, dict):
        for key, entry in value.items():
            check_finite(f"{name}[{key!r}]", entry, n_envs)
        return
    if type(value) is tuple:  # what reset() gives, about which Stable-Baselines3 says more
        return
    array = np.asarray(value)
    if array.dtype.kind == "f" and np.count_nonzero(np.isfinite(array)) < array.size:
        which, shown = "the environment", value
        if n_envs > 1:
            number = int(np.argwhere(~np.isfinite(array))[0, 0])
            which, shown = f"environment {number} of {n_envs}", array[number]
        raise ValueError(f"{which} returned {name}={shown}, every entry must be finite")


def refuse_not_finite(name: str, value: Any) -> None:
    """
    :param name: of the argument
    :param value: an array, or a dict of arrays
    :raises ValueError: if a number in it is NaN or infinite
    """
    if hasattr(value, "items"):
        for key, part in value.items():
            refuse_not_finite(f"{name}[{key!r}]", part)
        return
    if type(value) is tuple:  # what reset() gives, about which Stable-Baselines3 says more
        return
    array = np.asarray(value)
    if array.dtype.kind == "f" and np.count_nonzero(np.isfinite(array)) < array.size:
        raise ValueError(f"{name}={value} must be finite in every entry")


def check_observation_space(space: spaces.Space) -> None:
    """
    :raises ValueError: for numbers that do not begin with 0, which Stable-Baselines3 cannot encode, and for empty parts
    """
    for key, part in parts_of(space).items():
        name = f"observation_space[{key!r}]" if key else "observation_space"
        if isinstance(part, spaces.Discrete | spaces.MultiDiscrete) and np.any(part.start):
            raise ValueError(f"{name}={part} must start at 0; gymnasium.wrappers.TransformObservation can subtract its start")
        if isinstance(part, spaces.Box) and (0 in part.shape or (key and part.shape == ())):
            raise ValueError(f"{name}={part} must have a shape with one number at least, such as (1,), not {part.shape}")

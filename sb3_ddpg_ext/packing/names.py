"""Classes by name: which ones a file may name."""

import importlib
import inspect
from typing import Any

# Modules whose classes a file may name. Others, such as those of a user, are code that only a pickle can bring.
NAMED = (
    "sb3_ddpg_ext.",
    "stable_baselines3.common.buffers",
    "stable_baselines3.common.policies",
    "stable_baselines3.common.sb2_compat.",
    "stable_baselines3.common.torch_layers",
    "stable_baselines3.her.",
    "stable_baselines3.td3.policies",
    "torch.nn.modules.",
    "torch.optim.",
)
# Modules of whose classes a file may hold objects, too: these are data.
HELD = (
    "gymnasium.spaces.",
    "sb3_ddpg_ext.batch",
    "sb3_ddpg_ext.buffers.episodes",
    "sb3_ddpg_ext.buffers.sampling",
    "sb3_ddpg_ext.buffers.sum_tree",
    "sb3_ddpg_ext.noise.",
    "sb3_ddpg_ext.checkpoints.environments",
    "sb3_ddpg_ext.distributed.settings",
    "sb3_ddpg_ext.schedules",
    "stable_baselines3.common.noise",
    "stable_baselines3.common.running_mean_std",
    "stable_baselines3.common.type_aliases",
    "stable_baselines3.common.utils",
    "stable_baselines3.her.goal_selection_strategy",
)


class CannotPack(TypeError):
    """An object of a class that a file may not hold."""


def _is_in(module: str, modules: tuple[str, ...]) -> bool:
    return any(module == each.rstrip(".") or module.startswith(f"{each.rstrip('.')}.") for each in modules)


def may_hold(cls: type) -> bool:
    """:param cls: a class, of whose objects a file may hold some"""
    return _is_in(cls.__module__, HELD)


def name_of(cls: type, modules: tuple[str, ...] = NAMED + HELD) -> str:
    """
    :param cls: a class
    :param modules: in which it may be
    :return: the name by which :func:`class_of` finds it
    :raises CannotPack: if it does not
    """
    name = f"{cls.__module__}:{cls.__qualname__}"
    try:
        found = class_of(name, modules)
    except ValueError:
        found = None
    if found is not cls:
        raise CannotPack(f"{cls.__module__}.{cls.__qualname__}")
    return name


def class_of(name: str, modules: tuple[str, ...]) -> Any:
    """
    The class that a file names. It is looked up where it was defined, and nowhere else.

    :param name: ``"module:class"``
    :param modules: in which it may be
    :raises ValueError: if it is not there, or elsewhere
    """
    module, _, qualname = name.partition(":")
    if not _is_in(module, modules):
        raise ValueError(f"the class {name!r} must be one of the modules {', '.join(modules)}")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = vars(found)[part]
    except (ImportError, KeyError, TypeError) as error:
        raise ValueError(f"the class {name!r} is not there ({error})") from None
    if getattr(found, "__module__", None) != module or not inspect.isclass(found):
        raise ValueError(f"{name!r} must be a class of that module")
    return found

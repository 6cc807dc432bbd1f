"""What callbacks know in the middle of a training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ddpg_ext.checkpoints.environments import environment_state, restore_environment
from sb3_ddpg_ext.packing import CannotPack, Packer

# What a training gives its callbacks anew.
GIVEN = {"model", "training_env", "_logger", "locals", "globals", "parent", "callbacks", "callback"}

WHERE_FILES_ARE = ("path", "folder", "dir", "file")  # in the names of attributes


def callback_states(callback: BaseCallback | None) -> tuple[list[Any], list[str]]:
    """
    :param callback: of a training, with all that it calls
    :return: of each the name, its attributes and the states of its own environments; and what of them could not be kept
    """
    states, left_out = [], []
    for each in () if callback is None else _each(callback):
        own = {name: value for name, value in vars(each).items() if name not in GIVEN and not _is_path(name, value)}
        kept: dict[str, Any] = {}
        environments: dict[str, Any] = {}
        for name, value in own.items():
            try:
                if isinstance(value, VecEnv):
                    environments[name] = environment_state(value)
                else:
                    Packer().pack(value)
                    kept[name] = value
            except (CannotPack, ValueError) as reason:
                left_out.append(f"{type(each).__name__}.{name} ({reason})")
        states.append((type(each).__name__, kept, environments))
    return states, left_out


def restore_callbacks(callback: BaseCallback, states: list[Any]) -> bool:
    """
    :param callback: of the new training
    :param states: of the old one
    :return: whether the callbacks are the same ones; if not, they begin anew
    """
    present = list(_each(callback))
    if [type(each).__name__ for each in present] != [name for name, _, _ in states]:
        return False
    for each, (_, kept, environments) in zip(present, states, strict=True):
        vars(each).update({name: value for name, value in kept.items() if name in vars(each)})
        for name, state in environments.items():
            restore_environment(vars(each)[name], state)
    return True


def _is_path(name: str, value: Any) -> bool:
    """Whether an attribute says where files are. The new training may have its own folder."""
    return isinstance(value, str | Path | None) and any(word in name for word in WHERE_FILES_ARE)


def _each(callback: BaseCallback) -> Iterator[BaseCallback]:
    """A callback, and those that it calls."""
    yield callback
    for inner in (*getattr(callback, "callbacks", ()), getattr(callback, "callback", None)):
        if isinstance(inner, BaseCallback):
            yield from _each(inner)

"""What callbacks know in the middle of a training."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ddpg_ext.checkpoints.environments import (
    FUNCTIONS,
    environment_state,
    restore_environment,
    says_where_files_are,
)
from sb3_ddpg_ext.model_checks import is_of_class
from sb3_ddpg_ext.packing import CannotPack, check_readable

# What a training gives its callbacks anew.
GIVEN = {"model", "training_env", "_logger", "locals", "globals", "parent", "callbacks", "callback"}


def callback_states(callback: BaseCallback | None) -> tuple[list[Any], list[str]]:
    """
    :param callback: of a training, with all that it calls
    :return: of each the name, its attributes and the states of its own environments; and what of them could not be kept
    """
    states, left_out = [], []
    for each in () if callback is None else each_callback(callback):
        own = {
            name: value
            for name, value in vars(each).items()
            if not (name in GIVEN or isinstance(value, FUNCTIONS) or says_where_files_are(name, value))
        }
        own = {} if isinstance(each, ProgressBarCallback) else own  # of which nothing is state
        kept: dict[str, Any] = {}
        environments: dict[str, Any] = {}
        for name, value in own.items():
            try:
                if isinstance(value, VecEnv):
                    environments[name] = environment_state(value)
                else:
                    check_readable(value)
                    kept[name] = value
            except (CannotPack, ValueError, RecursionError) as reason:
                left_out.append(f"{type(each).__name__}.{name} ({reason})")
        states.append((type(each).__name__, kept, environments))
    return states, left_out


def restore_callbacks(callback: BaseCallback, states: list[Any], trusted: bool | None = None) -> None:
    """
    Give callbacks what those of the same class knew. Others begin anew, with a warning.

    :param callback: of the new training
    :param states: of the old one; none if it had been saved without callbacks
    :param trusted: see :func:`~sb3_ddpg_ext.checkpoints.restore_environment`
    """
    present = _numbered([(type(each).__name__, each) for each in each_callback(callback)])
    saved = _numbered([(name, (kept, environments)) for name, kept, environments in states])
    for key in present.keys() & saved.keys():
        own, (kept, environments) = vars(present[key]), saved[key]
        own.update({name: value for name, value in kept.items() if _is_own(present[key], name, value)})
        for name, state in environments.items():
            if isinstance(own.get(name), VecEnv):
                restore_environment(own[name], state, trusted)
    lists = ("CallbackList", "ProgressBarCallback", "ConvertCallback")  # which know nothing that matters
    others = sorted({name for name, _ in present.keys() ^ saved.keys()} - set(lists))
    if saved and others:
        warnings.warn(f"callback must be what it was when the checkpoint was made: {', '.join(others)} had no state then, or "
                      "is not there now", stacklevel=4)  # fmt: skip


def _numbered(named: list[tuple[str, Any]]) -> dict[tuple[str, int], Any]:
    """By name and, of those with the same name, by number."""
    seen: Counter[str] = Counter()
    numbered = {}
    for name, each in named:
        numbered[name, seen[name]] = each
        seen[name] += 1
    return numbered


def _is_own(callback: BaseCallback, name: str, value: Any) -> bool:
    """Whether an attribute is what a callback knows, and neither a method nor what the new training brings."""
    is_path = says_where_files_are(name, value, vars(callback).get(name))
    return not (name in GIVEN or is_of_class(type(callback), name) or is_path)


def each_callback(callback: BaseCallback) -> Iterator[BaseCallback]:
    """A callback, and those that it calls."""
    yield callback
    for inner in (*getattr(callback, "callbacks", ()), getattr(callback, "callback", None)):
        if isinstance(inner, BaseCallback):
            yield from each_callback(inner)


def between_rollouts(callback: BaseCallback) -> list[Callable[[], None]]:
    """
    :param callback: of a training
    :return: what is to be called between two rollouts: the methods of that name, of callbacks that have one
    """
    return [each.between_rollouts for each in each_callback(callback) if hasattr(each, "between_rollouts")]

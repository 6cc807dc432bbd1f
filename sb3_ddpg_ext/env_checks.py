"""Checks of environments: what they are, and what their methods return."""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env

from sb3_ddpg_ext.validation import check_shape, is_subclass

RESULTS = {"reset": ("observation", "info"), "step": ("observation", "reward", "terminated", "truncated", "info")}
WRONG_NUMBER = "values to unpack"  # in Python's own errors
UNPACKING = ("gymnasium", "sb3_contrib", "sb3_ddpg_ext", "stable_baselines3")  # who takes results of environments apart


def made_env(env: Any, verbose: int) -> Any:
    """
    :param env: an environment, or the id of one
    :param verbose: as in Stable-Baselines3
    :return: the environment
    :raises ValueError: for an unknown id
    :raises TypeError: for a class in place of an environment
    """
    if is_subclass(env, object):
        raise TypeError(f"env={env!r} is a class; it must be an environment, such as {env.__name__}(), or the id of one")
    try:
        return maybe_make_env(env, verbose)
    except gym.error.DependencyNotInstalled:
        raise
    except gym.error.Error as error:
        raise ValueError(f"env={env!r} must be an environment, or the id of one ({error})") from error


def check_action_space(env: Any) -> None:
    """DDPG acts in a bounded box: tanh output and noise are scaled to its bounds."""
    space = getattr(env, "action_space", None)
    if space is None:
        raise TypeError(f"env={env!r} must be a gymnasium environment, the id of one, or a VecEnv")
    if not isinstance(space, spaces.Box):
        raise ValueError(f"env.action_space={space} must be a gymnasium.spaces.Box: DDPG's actions are continuous")
    with np.errstate(over="ignore"):
        ranges = space.high - space.low
    if not np.isfinite(ranges).all():
        raise ValueError(
            f"env.action_space={space} must have finite bounds and range; gymnasium.wrappers.TransformAction brings your own"
        )
    if not (space.low < space.high).all():
        raise ValueError(f"env.action_space={space} must have low < high; low={space.low}, high={space.high}")


def checked_result(method: str, result: Any) -> Any:
    """
    :param method: ``"reset"`` or ``"step"`` of an environment
    :param result: what it has returned
    :return: the same
    :raises TypeError: if that is not what gymnasium asks for, such as the results of the old gym's methods
    """
    names = RESULTS[method]
    is_one = hasattr(result, "dtype") or hasattr(result, "keys") or not hasattr(result, "__len__")
    n = 1 if is_one else len(result)
    if n != len(names):
        what = f"one value, of the type {type(result).__name__}" if is_one else f"{n} values"
        raise TypeError(
            f"the environment's {method}() returned {what}; it must return the {len(names)} of gymnasium's: {', '.join(names)}"
        )
    return result


@contextmanager
def results_named() -> Iterator[None]:
    """
    A context in which vectorised environments step or begin, whose members nobody has looked at.

    :raises TypeError: in place of Python's error, where a member returns another number of values than gymnasium's
    """
    try:
        yield
    except ValueError as error:
        *_, (frame, _) = walk_tb(error.__traceback__)
        if WRONG_NUMBER not in str(error) or not frame.f_globals["__name__"].startswith(UNPACKING):
            raise
        forms = " and ".join(f"{method}() must return {', '.join(names)}" for method, names in RESULTS.items())
        raise TypeError(f"an environment returned a wrong number of values ({error}): {forms}, as in gymnasium") from error


class ShapeCheck(gym.Wrapper):
    """
    Checks the shape of what an environment returns, before a ``DummyVecEnv`` broadcasts it into its own arrays.

    :raises ValueError: if an observation has not the shape of ``observation_space``
    :raises TypeError: if a reward is not a number, or ``reset`` and ``step`` do not return what gymnasium's do
    """

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = checked_result("reset", self.env.reset(**kwargs))
        check_shape(observation, self.observation_space)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = checked_result("step", self.env.step(action))
        check_shape(observation, self.observation_space)
        if type(reward) not in (float, np.float64, np.float32):
            reward = _number(reward)
        return observation, reward, terminated, truncated, info


def _number(reward: Any) -> float:
    """Turn a reward of another type, such as a tensor with one element or a decimal, into a float."""
    try:
        item = reward.item() if hasattr(reward, "item") else np.asarray(reward).item()
        if not isinstance(item, str | bytes):
            return float(item)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise TypeError(f"the environment returned reward={reward!r}, it must be a number")

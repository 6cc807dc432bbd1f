"""The class of a model's replay buffer, and the arguments for returns of several steps."""

import inspect
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.her import HerReplayBuffer

from sb3_ddpg_ext.buffers.her import HindsightReplayBuffer
from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer
from sb3_ddpg_ext.kinds import did_you_mean
from sb3_ddpg_ext.observations import has_keys
from sb3_ddpg_ext.validation import check_real, is_subclass

# For returns of several steps, which these classes of SB3 do not have.
EQUIVALENT: dict[type[ReplayBuffer], type[ReplayBuffer]] = {
    ReplayBuffer: TransitionReplayBuffer,
    DictReplayBuffer: TransitionReplayBuffer,
    HerReplayBuffer: HindsightReplayBuffer,
}
BESIDE = {"demonstrations", "demonstration_share"}  # in replay_buffer_kwargs, and not for the constructor
BY_THE_MODEL = {"self", "args", "kwargs", "buffer_size", "observation_space", "action_space", "device", "n_envs", "env"}


def choose_buffer(buffer_class: Any, n_steps: int) -> type[ReplayBuffer]:
    """
    :param buffer_class: the user's, or None
    :param n_steps: length of the returns; for more than one, ours take the place of SB3's classes that have only one
    """
    if buffer_class is None:
        return TransitionReplayBuffer
    if not is_subclass(buffer_class, ReplayBuffer):
        raise TypeError(f"replay_buffer_class={buffer_class!r} must be a subclass of ReplayBuffer or None")
    return EQUIVALENT.get(buffer_class, buffer_class) if n_steps > 1 else buffer_class


def is_ours(buffer: Any) -> bool:
    """:param buffer: a replay buffer or its class, one of ours or derived from one; or one of Stable-Baselines3, or None"""
    return getattr(buffer, "is_ours", False)


def check_buffer_kwargs(buffer_class: type[ReplayBuffer], given: dict[str, Any], space: spaces.Space) -> None:
    """
    :param buffer_class: what :func:`choose_buffer` gave
    :param given: the user's ``replay_buffer_kwargs``
    :param space: of the observations
    :raises TypeError: if one of ours does not take an argument
    :raises ValueError: if SB3's class is not for these observations
    """
    if buffer_class in (ReplayBuffer, NStepReplayBuffer) and has_keys(space):
        raise ValueError(
            f"replay_buffer_class={buffer_class.__name__} must be DictReplayBuffer, or None, with Dict observations {space}"
        )
    if is_subclass(buffer_class, DictReplayBuffer) and not has_keys(space):
        raise ValueError(f"replay_buffer_class={buffer_class.__name__} is for Dict observations, not for {space}")
    if not buffer_class.__module__.startswith(f"{__name__.split('.')[0]}."):  # a user's own may take anything
        return
    taken = {name for base in buffer_class.__mro__ if "__init__" in vars(base) for name in _arguments(base)} - BY_THE_MODEL
    for name in given:
        if name not in taken | BESIDE:
            raise TypeError(
                f"replay_buffer_kwargs[{name!r}] is not an argument of {buffer_class.__name__}"
                f"{did_you_mean(name, taken | BESIDE)} has {sorted(taken | BESIDE)}"
            )


def n_step_kwargs(buffer_class: type[ReplayBuffer], given: dict[str, Any], n_steps: int, gamma: float) -> dict[str, Any]:
    """
    The arguments ``n_steps`` and ``gamma`` of a buffer that takes them.

    :param given: the user's ``replay_buffer_kwargs``, where ``n_steps`` may stand too, as Stable-Baselines3 recommends
    :param n_steps: the model's; 1 leaves it to ``given``
    :param gamma: the model's
    :raises ValueError: if the two contradict each other, or returns of several steps are asked of a buffer without them
    """
    wanted = {"n_steps": given.get("n_steps", n_steps), "gamma": given.get("gamma", gamma)}
    check_real("replay_buffer_kwargs['gamma']", wanted["gamma"], 0, 1)
    if not takes_argument(buffer_class, "n_steps"):
        if wanted["n_steps"] > 1:
            raise ValueError(
                f"n_steps={wanted['n_steps']} must be 1 with {buffer_class.__name__}, which takes no argument n_steps"
            )
        return {}
    for name, own, is_default in (("n_steps", n_steps, n_steps == 1), ("gamma", gamma, False)):
        if wanted[name] != own and not is_default:
            raise ValueError(f"replay_buffer_kwargs[{name!r}]={wanted[name]!r} must equal the model's {name}={own}")
    return wanted


def takes_argument(cls: type, name: str) -> bool:
    """Whether the constructor of a class names this argument, or passes it on, by ``**kwargs``, to a base class that does."""
    for base in cls.__mro__:
        parameters = _arguments(base) if "__init__" in vars(base) else None
        if parameters is not None and name in parameters:
            return True
        if parameters is not None and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False


def _arguments(cls: type) -> Mapping[str, Any]:
    return inspect.signature(vars(cls)["__init__"]).parameters

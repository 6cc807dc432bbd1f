"""Which replay buffer, and with which n-step arguments."""

import inspect
from typing import Any

from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.her import HerReplayBuffer

from sb3_ddpg_ext.buffers.her import HindsightReplayBuffer
from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer

# For returns of several steps, which these classes of SB3 do not have.
EQUIVALENT: dict[type[ReplayBuffer], type[ReplayBuffer]] = {
    ReplayBuffer: TransitionReplayBuffer,
    DictReplayBuffer: TransitionReplayBuffer,
    HerReplayBuffer: HindsightReplayBuffer,
}


def choose_buffer(buffer_class: Any, n_steps: int) -> type[ReplayBuffer]:
    """
    :param buffer_class: the user's, or None
    :param n_steps: length of the returns; for more than one, ours take the place of SB3's classes that have only one
    """
    if buffer_class is None:
        return TransitionReplayBuffer
    if not (isinstance(buffer_class, type) and issubclass(buffer_class, ReplayBuffer)):
        raise TypeError(f"replay_buffer_class={buffer_class!r} must be a subclass of ReplayBuffer or None")
    return EQUIVALENT.get(buffer_class, buffer_class) if n_steps > 1 else buffer_class


def n_step_kwargs(buffer_class: type[ReplayBuffer], given: dict[str, Any], n_steps: int, gamma: float) -> dict[str, Any]:
    """
    The arguments ``n_steps`` and ``gamma`` of a buffer that takes them.

    :param given: the user's ``replay_buffer_kwargs``, where ``n_steps`` may stand too, as Stable-Baselines3 recommends
    :param n_steps: the model's; 1 leaves it to ``given``
    :param gamma: the model's
    :raises ValueError: if the two contradict each other, or returns of several steps are asked of a buffer without them
    """
    wanted = {"n_steps": given.get("n_steps", n_steps), "gamma": given.get("gamma", gamma)}
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
    """Whether the constructor of a class, or of one it may hand its keyword arguments on to, names this argument."""
    constructors = (vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base) and base is not object)
    return any(name in inspect.signature(constructor).parameters for constructor in constructors)

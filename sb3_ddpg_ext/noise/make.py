"""Noises from what a user gives for ``action_noise``."""

from typing import Any

import numpy as np
from stable_baselines3.common.noise import ActionNoise

from sb3_ddpg_ext.noise.base import NOISES, Noise
from sb3_ddpg_ext.noise.mixing import CombinedNoise
from sb3_ddpg_ext.noise.of_sb3 import SB3Noise


def make_action_noise(spec: Any, action_dim: int) -> ActionNoise | None:
    """
    :param spec: an ``ActionNoise`` (returned as it is), None, a string, a dict, or a list of strings, dicts and noises
    :param action_dim: number of action dimensions
    :raises ValueError: for an unknown kind, number or dimension
    :raises TypeError: for anything else
    """
    of_one = getattr(spec, "base_noise", spec)  # of a VectorizedActionNoise
    if isinstance(of_one, Noise):
        spec = of_one  # which is for several environments itself
    if isinstance(spec, ActionNoise):
        mean = getattr(of_one, "_mu", None)
        if mean is not None and np.size(mean) != action_dim:
            raise ValueError(f"action_noise={spec!r} has {np.size(mean)} dimensions; it must have the action's {action_dim}")
        return spec
    parts = [part.strip() for part in spec.split(",")] if isinstance(spec, str) else spec
    parts = parts if isinstance(parts, list | tuple) else [parts]
    noises = [NOISES.make("action_noise", part, whole=spec) for part in parts if not is_none(part)]
    return noises[0] if len(noises) == 1 else CombinedNoise(noises) if noises else None


def is_none(part: Any) -> bool:
    """Whether a part says that there is no noise."""
    return part is None or (isinstance(part, str) and part == "none")


def as_noise(action_noise: ActionNoise | None) -> Noise | None:
    """
    :param action_noise: what :func:`make_action_noise` gave
    :return: one of ours, which asks one of Stable-Baselines3 where it was that
    """
    return action_noise if action_noise is None or isinstance(action_noise, Noise) else SB3Noise(action_noise)

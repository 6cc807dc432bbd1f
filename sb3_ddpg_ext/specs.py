"""Strings from a YAML file or a command line, turned into objects. The only parser of strings."""

from typing import Any

import numpy as np
from stable_baselines3.common.noise import (
    ActionNoise,
    NormalActionNoise,
    OrnsteinUhlenbeckActionNoise,
    VectorizedActionNoise,
)
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule

from sb3_ddpg_ext.validation import check_real

NOISES: dict[str, type[NormalActionNoise] | type[OrnsteinUhlenbeckActionNoise]] = {
    "normal": NormalActionNoise,
    "ou": OrnsteinUhlenbeckActionNoise,
}
NOISE_FORMS = '"none", "normal_SIGMA" or "ou_SIGMA", with SIGMA a number >= 0 on the [-1, 1] action scale'
SCHEDULE_FORMS = 'a number >= 0, a function of the progress remaining, or "lin_VALUE" (linear from VALUE to 0)'


def split_number(name: str, spec: str, forms: str) -> tuple[str, float]:
    """Split ``"word_number"``."""
    word, _, number = spec.strip().rpartition("_")
    try:
        return word, check_real(name, float(number), low=0)
    except ValueError:
        raise ValueError(f"{name}={spec!r} must be {forms}") from None


def make_action_noise(spec: Any, action_dim: int) -> ActionNoise | None:
    """
    :param spec: an ``ActionNoise`` (returned as it is), None, or a string such as ``"normal_0.1"`` or ``"ou_0.2"``
    :param action_dim: number of action dimensions; each gets the same standard deviation
    """
    if isinstance(spec, ActionNoise):
        mean = getattr(spec.base_noise if isinstance(spec, VectorizedActionNoise) else spec, "_mu", None)
        if mean is not None and np.size(mean) != action_dim:
            raise ValueError(f"action_noise={spec!r} has {np.size(mean)} dimensions; it must have the action's {action_dim}")
        return spec
    if spec is None:
        return None
    if not isinstance(spec, str):
        raise TypeError(f"action_noise={spec!r} must be an ActionNoise, None, or one of {NOISE_FORMS}")
    if spec.strip() == "none":
        return None
    word, sigma = split_number("action_noise", spec, NOISE_FORMS)
    if word not in NOISES:
        raise ValueError(f"action_noise={spec!r}: the kind {word!r} is unknown; it must be {NOISE_FORMS}")
    return NOISES[word](mean=np.zeros(action_dim), sigma=sigma * np.ones(action_dim))


def make_schedule(name: str, spec: Any) -> float | Schedule:
    """
    :param name: the argument's name, for the error
    :param spec: a number, a callable, or ``"lin_7e-4"``, the string that rl_zoo3's YAML files know
    """
    if callable(spec):
        return spec
    if isinstance(spec, str):
        word, value = split_number(name, spec, SCHEDULE_FORMS)
        if word != "lin":
            raise ValueError(f"{name}={spec!r}: the schedule {word!r} is unknown; it must be {SCHEDULE_FORMS}")
        return LinearSchedule(start=value, end=0.0, end_fraction=1.0)
    return check_real(name, spec, low=0)

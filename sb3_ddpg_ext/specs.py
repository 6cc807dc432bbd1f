"""Strings and dicts from a YAML file or a command line, turned into objects. The only parser of strings."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import Schedule as SB3Schedule
from stable_baselines3.common.utils import FloatSchedule

from sb3_ddpg_ext.buffers import LossAdjusted, Prioritized, Sampling, Uniform
from sb3_ddpg_ext.noise import (
    AdaptiveParameterNoise,
    ColouredNoise,
    CombinedNoise,
    CorrelatedNoise,
    FixedParameterNoise,
    GaussianNoise,
    Noise,
    OrnsteinUhlenbeckNoise,
    UniformMixing,
)
from sb3_ddpg_ext.schedules import Constant, Exponential, Linear, Piecewise, Schedule
from sb3_ddpg_ext.validation import check_real

# kind -> what makes it; the number or schedule of a string is its first argument.
NOISES: dict[str, Callable[..., Noise]] = {
    "normal": GaussianNoise,
    "ou": OrnsteinUhlenbeckNoise,
    "pink": ColouredNoise,
    "red": partial(ColouredNoise, beta=2.0),
    "coloured": ColouredNoise,
    "correlated": CorrelatedNoise,
    "epsilon": UniformMixing,
    "param": FixedParameterNoise,
    "adaptive-param": AdaptiveParameterNoise,
}
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "const": Constant,
    "lin": Linear,
    "exp": Exponential,
    "piecewise": Piecewise,
}
SAMPLINGS: dict[str, Callable[..., Sampling]] = {"uniform": Uniform, "prioritized": Prioritized, "lap": LossAdjusted}
# Arguments of noises, and of ways of sampling, that may be schedules.
SCHEDULED = ("sigma", "scale", "epsilon", "target")
SAMPLING_SCHEDULED = ("beta",)

NOISE_FORMS = (
    '"KIND_NUMBER" such as "normal_0.1", "KIND_SCHEDULE" such as "normal_lin_0.5_0.05", several of them with commas between, '
    "a dict(kind=..., ...) with the arguments of its class, or a noise of sb3_ddpg_ext.noise, alone also an ActionNoise of "
    f"Stable-Baselines3; the kinds are {', '.join(NOISES)} and none"
)
SCHEDULE_FORMS = (
    'a number >= 0, a function of the progress remaining, "lin_START" (to 0), "lin_START_END", "exp_START_DECAY" (per step), '
    '"exp_START_DECAY_END", or a dict(kind=..., ...) with the arguments of its class; '
    f"the kinds are {', '.join(SCHEDULES)}"
)
SAMPLING_FORMS = (
    '"uniform", "prioritized", "lap", these two also with their alpha as in "prioritized_0.6", a dict(kind=..., ...) with the '
    "arguments of its class, or a Sampling of sb3_ddpg_ext.buffers"
)


def make_schedule(name: str, spec: Any) -> SB3Schedule:
    """
    :param name: the argument's name, for the error
    :param spec: a number, a callable, a string such as ``"lin_7e-4"``, which rl_zoo3's YAML files know, or a dict
    """
    if isinstance(spec, Schedule):
        return spec
    if isinstance(spec, dict):
        return _from_dict(name, spec, SCHEDULES, SCHEDULE_FORMS)
    if isinstance(spec, str):
        number = _number(spec)
        if number is None:
            return _schedule_of_words(name, spec, *spec.strip().split("_"))
        spec = number
    return FloatSchedule(spec if callable(spec) else check_real(name, spec, low=0))


def _number(text: str) -> float | None:
    """The number that a string is, as YAML makes one of 1e-3; but not Python's 1_000, which reads like a schedule's words."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _schedule_of_words(name: str, spec: str, kind: str, *words: str) -> Schedule:
    if kind not in SCHEDULES:
        raise ValueError(f"{name}={spec!r}: the schedule {kind!r} is unknown; it must be {SCHEDULE_FORMS}")
    try:
        return SCHEDULES[kind](*(float(word) for word in words))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={spec!r} must be {SCHEDULE_FORMS} ({error})") from None


def make_action_noise(spec: Any, action_dim: int) -> ActionNoise | None:
    """
    :param spec: an ``ActionNoise`` (returned as it is), None, a string, a dict, or a list of strings, dicts and noises
    :param action_dim: number of action dimensions
    :raises ValueError: for an unknown kind, number or dimension
    :raises TypeError: for anything else
    """
    if isinstance(spec, VectorizedActionNoise) and isinstance(spec.base_noise, Noise):
        spec = spec.base_noise  # which is for several environments itself
    if isinstance(spec, ActionNoise):
        mean = getattr(spec.base_noise if isinstance(spec, VectorizedActionNoise) else spec, "_mu", None)
        if mean is not None and np.size(mean) != action_dim:
            raise ValueError(f"action_noise={spec!r} has {np.size(mean)} dimensions; it must have the action's {action_dim}")
        return spec
    parts = [part.strip() for part in spec.split(",")] if isinstance(spec, str) else spec
    parts = parts if isinstance(parts, list | tuple) else [parts]
    noises = [noise for noise in (_make_noise(spec, part) for part in parts) if noise is not None]
    return noises[0] if len(noises) == 1 else CombinedNoise(noises) if noises else None


def _make_noise(spec: Any, part: Any) -> Noise | None:
    """One noise; ``spec`` is all that was given, for the error."""
    if part is None or part == "none" or isinstance(part, Noise):
        return part if isinstance(part, Noise) else None
    if isinstance(part, dict):
        return _from_dict("action_noise", _with_schedules("action_noise", part, SCHEDULED), NOISES, NOISE_FORMS)
    if not isinstance(part, str):
        raise TypeError(f"action_noise={spec!r}: {part!r} must be None or {NOISE_FORMS}")
    kind, _, strength = part.partition("_")
    if kind not in NOISES:
        raise ValueError(f"action_noise={spec!r}: the kind {kind!r} is unknown; it must be {NOISE_FORMS}")
    try:
        return NOISES[kind](_number_or_schedule("the number", strength))
    except (TypeError, ValueError) as error:
        raise ValueError(f"action_noise={spec!r}: {part!r} must be {NOISE_FORMS} ({error})") from None


def make_sampling(spec: Any) -> Sampling:
    """
    :param spec: a ``Sampling`` (returned as it is), a string or a dict
    :raises ValueError: for an unknown kind or number
    :raises TypeError: for anything else
    """
    name = "replay_buffer_kwargs['sampling']"
    if isinstance(spec, Sampling):
        return spec
    if isinstance(spec, dict):
        return _from_dict(name, _with_schedules(name, spec, SAMPLING_SCHEDULED), SAMPLINGS, SAMPLING_FORMS)
    if not isinstance(spec, str):
        raise TypeError(f"{name}={spec!r} must be {SAMPLING_FORMS}")
    kind, *words = spec.split("_")
    alpha = [_number(word) for word in words]
    if kind not in SAMPLINGS or len(alpha) > (kind != "uniform") or None in alpha:
        raise ValueError(f"{name}={spec!r} must be {SAMPLING_FORMS}")
    try:
        return SAMPLINGS[kind](*alpha)
    except ValueError as error:
        raise ValueError(f"{name}={spec!r}: {error}") from None


def _with_schedules(name: str, spec: dict[str, Any], scheduled: Sequence[str]) -> dict[str, Any]:
    """A dict whose strings and dicts under these keys are schedules."""
    return {
        key: _number_or_schedule(f"{name}: {key}", value) if key in scheduled and isinstance(value, str | dict) else value
        for key, value in spec.items()
    }


def _number_or_schedule(name: str, spec: str | dict[str, Any]) -> float | SB3Schedule:
    number = _number(spec) if isinstance(spec, str) else None
    return make_schedule(name, spec) if number is None else number


def _from_dict(name: str, spec: dict[str, Any], kinds: dict[str, Callable], forms: str) -> Any:
    arguments = dict(spec)
    kind = arguments.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{name}={spec!r}: the kind {kind!r} is unknown; it must be {forms}")
    allowed = list(inspect.signature(kinds[kind]).parameters)
    unknown = sorted(set(arguments) - set(allowed))
    if unknown:
        raise ValueError(f"{name}={spec!r}: {kind!r} has no argument {unknown[0]!r}; it has {allowed}")
    try:
        return kinds[kind](**arguments)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}={spec!r}: {error}") from None

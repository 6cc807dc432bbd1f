"""Numbers that change during training: learning rates, the scale of exploration noise."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import Schedule as SB3Schedule
from stable_baselines3.common.utils import FloatSchedule

from sb3_ddpg_ext.kinds import Kinds, number_of
from sb3_ddpg_ext.validation import LARGEST, check_choice, check_integer, check_real


class Schedule(ABC):
    """
    A value over the time of training, which is counted as a share of it (0 to 1) or in environment steps (``over_steps``).

    It is also a schedule of Stable-Baselines3's: a function of the progress remaining, 1 to 0. Schedules over steps need the
    number of steps, too, which :class:`sb3_ddpg_ext.DDPG` gives them.
    """

    over_steps = False

    def __call__(self, progress_remaining: float, num_timesteps: int = 0) -> float:
        return self.at(num_timesteps if self.over_steps else 1.0 - progress_remaining)

    @abstractmethod
    def at(self, time: float) -> float:
        """
        :param time: share of the training that is over, or environment steps where ``over_steps`` is set
        """

    def turns(self) -> list[float]:
        """:return: times between which nothing larger or smaller comes, for a check before the training"""
        return [0.0]

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name != "over_steps")
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]  # equal by value, and not frozen


SCHEDULES: Kinds[Schedule] = Kinds(
    'a number >= 0, a function of the progress remaining, "lin_START" (to 0), "lin_START_END", "exp_START_DECAY" (per step), '
    '"exp_START_DECAY_END", or a dict(kind=..., ...) with the arguments of its class',
    accepts=lambda spec: isinstance(spec, Schedule),
)


@SCHEDULES.register("const")
class Constant(Schedule):
    """
    The same value at all times.

    :param value: the value, >= 0
    """

    def __init__(self, value: float):
        self.value = check_real("value", value, low=0)

    def at(self, time: float) -> float:
        return self.value


@SCHEDULES.register("lin")
class Linear(Schedule):
    """
    A straight line from ``start`` to ``end``, and ``end`` from there on.

    :param start: value at the beginning, >= 0
    :param end: value at the end, >= 0
    :param steps: environment steps until ``end``; None to count in shares of the training
    :param fraction: share of the training until ``end``, in (0, 1], where ``steps`` is None
    """

    def __init__(self, start: float, end: float = 0.0, steps: int | None = None, fraction: float = 1.0):
        self.start, self.end = check_real("start", start, low=0), check_real("end", end, low=0)
        self.steps = steps if steps is None else check_integer("steps", steps, at_least=1)
        self.fraction = check_real("fraction", fraction, low=0, high=1, above=True)
        if steps is not None and self.fraction != 1:
            raise ValueError(f"fraction={fraction!r} must be 1 where steps={steps!r} says how long it takes")
        self.over_steps = steps is not None

    def at(self, time: float) -> float:
        length = self.fraction if self.steps is None else self.steps
        if time >= length:
            return self.end
        return self.start + time * (self.end - self.start) / length

    def turns(self) -> list[float]:
        return [0.0, self.fraction if self.steps is None else self.steps]


@SCHEDULES.register("exp")
class Exponential(Schedule):
    """
    ``start * decay ** steps``, not below ``end``; or, without ``decay``, from ``start`` to ``end`` by equal factors over the
    training.

    :param start: value at the beginning, > 0
    :param decay: factor for each environment step, in (0, 1]; None to reach ``end`` with the end of the training
    :param end: smallest value, >= 0, and > 0 without ``decay``
    """

    def __init__(self, start: float, decay: float | None = None, end: float = 0.0):
        self.start, self.end = check_real("start", start, low=0, above=True), check_real("end", end, low=0)
        self.decay = decay if decay is None else check_real("decay", decay, low=0, high=1, above=True)
        if decay is None and self.end == 0:
            raise ValueError(f"end={end!r} must be > 0 where decay=None: no number of equal factors leads to 0")
        if decay is not None and self.end > self.start:
            raise ValueError(f"end={end!r} must be <= start={start!r}: decay={decay!r} leads down")
        self.over_steps = decay is not None

    def at(self, time: float) -> float:
        if self.decay is None:
            return self.start * (self.end / self.start) ** min(max(time, 0.0), 1.0)
        return max(self.start * self.decay**time, self.end)

    def turns(self) -> list[float]:
        return [0.0, 1.0] if self.decay is None else [0.0]


@SCHEDULES.register("piecewise")
class Piecewise(Schedule):
    """
    Straight lines, or steps, between given points; the first and the last value beyond them.

    :param points: pairs (time, value) with increasing times; times are shares of the training, 0 to 1, or environment steps
    :param over: what the times count: ``"progress"`` (of the training) or ``"steps"``
    :param interpolation: ``"linear"``, or ``"constant"`` to hold each value until the next point
    """

    def __init__(self, points: Sequence[tuple[float, float]], over: str = "progress", interpolation: str = "linear"):
        check_choice("over", over, ["progress", "steps"])
        check_choice("interpolation", interpolation, ["linear", "constant"])
        try:
            pairs = [(time, value) for time, value in points]
        except (TypeError, ValueError):
            raise ValueError(f"points={points!r} must be pairs (time, value)") from None
        highest = 1.0 if over == "progress" else float("inf")
        self.points = [
            (check_real("points: time", time, low=0, high=highest), check_real("points: value", value, low=0))
            for time, value in pairs
        ]
        if not pairs or any(np.diff([time for time, _ in self.points]) <= 0):
            raise ValueError(f"points={points!r} must be one or more pairs (time, value) with increasing times")
        self.over, self.interpolation = over, interpolation
        self.over_steps = over == "steps"

    def at(self, time: float) -> float:
        times, values = zip(*self.points, strict=True)
        if self.interpolation == "linear":
            return float(np.interp(time, times, values))
        return values[max(int(np.searchsorted(times, time, side="right")) - 1, 0)]

    def turns(self) -> list[float]:
        return [time for time, _ in self.points]


def make_schedule(name: str, spec: Any) -> SB3Schedule:
    """
    :param name: the argument's name, for the error
    :param spec: a number, a callable, a string such as ``"lin_7e-4"``, which rl_zoo3's YAML files know, or a dict
    """
    number = number_of(spec)
    if number is None and isinstance(spec, str | dict | Schedule):
        return check_schedule(name, SCHEDULES.make(name, spec))
    value = spec if number is None else number
    if callable(value):
        evaluate(value, 1.0, 0, name=name)
    return FloatSchedule(value if callable(value) else check_real(name, value, low=0, high=LARGEST))


def check_schedule(name: str, schedule: Any, high: float = LARGEST) -> Any:
    """
    :param name: the argument's name, for the error
    :param schedule: of ours, which is looked at over the whole training, or a function, which is left alone until it is used
    :param high: largest value that is allowed
    :return: the schedule
    :raises ValueError: if a value is none, or outside what is allowed
    """
    for time in schedule.turns() if isinstance(schedule, Schedule) else ():
        steps = int(time) if schedule.over_steps else 0
        evaluate(schedule, 1.0 if schedule.over_steps else 1.0 - time, steps, high, name)
    return schedule


def check_scheduled(name: str, value: Any, high: float = LARGEST, above: bool = False) -> Any:
    """
    :param name: the argument's name, for the error
    :param value: a number, or what is called for one
    :param high: largest value that is allowed
    :param above: whether a number must not be 0
    :return: it, as a float where it is a number
    """
    if callable(value):
        return check_schedule(name, value, high)
    return check_real(name, value, low=0, high=high, above=above)


def number_or_schedule(name: str, spec: str | dict[str, Any]) -> float | SB3Schedule:
    """
    :param name: the argument's name, for the error
    :param spec: a string or a dict
    """
    number = number_of(spec)
    return make_schedule(name, spec) if number is None else number


def evaluate(
    schedule: Callable[..., float],
    progress_remaining: float,
    num_timesteps: int,
    high: float = LARGEST,
    name: str = "schedule",
) -> float:
    """
    Evaluate a schedule of ours, or any function of the progress remaining.

    :param high: largest value that is allowed
    :param name: the argument's name, for the error
    :raises ValueError: if it cannot be evaluated, or the value is not finite, negative or larger
    """
    is_ours = isinstance(schedule, Schedule)
    try:
        value = float(schedule(progress_remaining, num_timesteps) if is_ours else schedule(progress_remaining))
    except Exception as error:
        raise ValueError(
            f"{name}={schedule!r} must be a number, or a function from the progress remaining (1 to 0) to one ({error})"
        ) from error
    if not 0 <= value <= high:
        allowed = "a finite number >= 0" if high == LARGEST else f"a number in [0, {high:g}]"
        raise ValueError(f"the schedule {name}={schedule!r} is {value!r} at step {num_timesteps}; it must be {allowed}")
    return value

"""Schedules against their closed forms, and through a training where they should be seen."""

import math
import pickle

import cloudpickle
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.noise import GaussianNoise
from sb3_ddpg_ext.schedules import Constant, Exponential, Linear, Piecewise, Schedule, evaluate

POINTS = [(0.2, 1.0), (0.5, 0.4), (0.9, 0.8)]
SCHEDULES = [
    pytest.param(lambda: Constant(0.3), id="constant"),
    pytest.param(lambda: Linear(1.0, 0.1), id="linear"),
    pytest.param(lambda: Linear(1.0, 0.1, fraction=0.5), id="linear, fraction"),
    pytest.param(lambda: Linear(1.0, 0.1, steps=50), id="linear, steps"),
    pytest.param(lambda: Exponential(1.0, 0.99), id="exponential"),
    pytest.param(lambda: Exponential(1.0, 0.99, 0.1), id="exponential, floor"),
    pytest.param(lambda: Exponential(1.0, end=0.1), id="exponential, to the end"),
    pytest.param(lambda: Piecewise(POINTS), id="piecewise"),
    pytest.param(lambda: Piecewise(POINTS, interpolation="constant"), id="piecewise, constant"),
    pytest.param(lambda: Piecewise([(20, 1.0), (50, 0.4)], over="steps"), id="piecewise, steps"),
]


def over_progress(schedule, shares, num_timesteps=12345):
    """The values at shares of the training; the number of steps must make no difference."""
    values = [schedule(1 - share, num_timesteps) for share in shares]
    assert values == [schedule(1 - share) for share in shares]
    return values


def over_steps(schedule, steps, progress_remaining=0.7):
    """The values at numbers of steps; the progress must make no difference."""
    values = [schedule(progress_remaining, n) for n in steps]
    assert values == [schedule(0.0, n) for n in steps]
    return values


# ---- Closed forms


@pytest.mark.parametrize("value", [0, 1e-3, 5.0])
def test_constant(value):
    """It has its value at all times."""
    assert over_progress(Constant(value), [0.0, 0.5, 1.0, 1.1]) == [value] * 4
    assert over_steps(Constant(value), [0, 10, 10**9]) == [value] * 3


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.5, 0.05), (0.1, 0.4), (0.3, 0.3)])
@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.1])
def test_linear_over_the_training(start, end, fraction):
    """The line is start + (end - start) t / fraction until the fraction, and exactly end from there on."""
    schedule = Linear(start, end, fraction=fraction)
    shares = np.array([0.0, 0.25, 0.5, 0.9])
    assert over_progress(schedule, shares * fraction) == pytest.approx(start + (end - start) * shares)
    assert over_progress(schedule, [fraction, 1.0, 1.05]) == pytest.approx([end] * 3)
    assert schedule(0.0) == end


def test_linear_falls_to_zero_by_default():
    """Without an end, it falls to 0 over the whole training."""
    assert over_progress(Linear(0.8), [0.0, 0.25, 0.75, 1.0]) == pytest.approx([0.8, 0.6, 0.2, 0.0])


@pytest.mark.parametrize("steps", [200, 200.0, 1e3])
def test_linear_over_steps(steps):
    """The line is start + (end - start) n / steps until that many steps, and end from there on."""
    schedule = Linear(0.5, 0.05, steps=steps)
    times = [0, 1, 100, int(steps) - 1]
    assert over_steps(schedule, times) == pytest.approx([0.5 - 0.45 * n / steps for n in times])
    assert over_steps(schedule, [int(steps), 10**7]) == [0.05, 0.05]


@pytest.mark.parametrize(("start", "decay"), [(0.5, 0.999), (1e-3, 0.9), (0.7, 1.0)])
def test_exponential_over_steps(start, decay):
    """After n steps it is start decay^n, down to nothing."""
    times = [0, 1, 2, 10, 1000]
    assert over_steps(Exponential(start, decay), times) == pytest.approx([start * decay**n for n in times], rel=1e-12)
    assert over_steps(Exponential(start, decay), [10**9]) == [start if decay == 1 else 0.0]


def test_exponential_stays_at_its_floor():
    """It is max(start decay^n, end): 0.5 0.999^n reaches 0.1 between n = 1608 and 1609."""
    schedule = Exponential(0.5, 0.999, 0.1)
    assert over_steps(schedule, [1608]) == pytest.approx([0.5 * 0.999**1608])
    assert over_steps(schedule, [1608])[0] > 0.1
    assert over_steps(schedule, [1609, 1610, 10**6]) == [0.1] * 3


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.01), (1e-3, 1e-5), (0.1, 0.4)])
def test_exponential_over_the_training(start, end):
    """Without a decay it runs from start to end, and half-way it is at their geometric mean."""
    values = over_progress(Exponential(start, end=end), np.linspace(0, 1, 5))
    assert values[0] == start
    assert values[-1] == pytest.approx(end)
    assert values[2] == pytest.approx(math.sqrt(start * end))
    np.testing.assert_allclose(np.diff(np.log(values)), math.log(end / start) / 4)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Linear(1.0, 0.1), id="linear"),
        pytest.param(lambda: Exponential(1.0, end=0.1), id="exponential"),
        pytest.param(lambda: Piecewise([(0, 1.0), (1, 0.1)]), id="piecewise"),
    ],
)
def test_end_is_kept_when_the_training_is_over(make):
    """Where several environments step beyond total_timesteps, the progress remaining is below 0 and the value stays at end."""
    assert over_progress(make(), [1.0, 1.02, 2.0]) == pytest.approx([0.1] * 3)


def test_piecewise_lines_over_the_training():
    """Between two points lies a line; before the first and after the last is their value."""
    values = over_progress(Piecewise(POINTS), [0.0, 0.2, 0.35, 0.5, 0.6, 0.9, 0.95, 1.0])
    assert values == pytest.approx([1.0, 1.0, 0.7, 0.4, 0.5, 0.8, 0.8, 0.8])


def test_piecewise_steps_over_the_training():
    """With interpolation="constant" each value holds from its point until just before the next."""
    schedule = Piecewise([(0.25, 1.0), (0.5, 0.4), (0.75, 0.8)], interpolation="constant")
    shares = [0.0, 0.24, 0.25, 0.49, 0.5, 0.74, 0.75, 1.0]
    assert over_progress(schedule, shares) == [1.0, 1.0, 1.0, 1.0, 0.4, 0.4, 0.8, 0.8]


@pytest.mark.parametrize(
    ("interpolation", "between"), [("linear", [0.7, 0.4 + 0.3 / 450, 0.25]), ("constant", [1.0, 1.0, 0.4])]
)
def test_piecewise_over_steps(interpolation, between):
    """The same with times that are environment steps, 1e3 for 1000 too."""
    schedule = Piecewise([[100, 1.0], [1e3, 0.4], [2000, 0.1]], over="steps", interpolation=interpolation)
    assert over_steps(schedule, [0, 100, 1000, 2000, 10**8]) == [1.0, 1.0, 0.4, 0.1, 0.1]
    assert over_steps(schedule, [550, 999, 1500]) == pytest.approx(between)


@pytest.mark.parametrize("interpolation", ["linear", "constant"])
def test_piecewise_of_one_point_is_constant(interpolation):
    """Before and after its only point there is nothing else."""
    assert over_progress(Piecewise([(0.5, 0.3)], interpolation=interpolation), [0.0, 0.5, 1.0]) == [0.3] * 3


# ---- As objects


@pytest.mark.parametrize("make", SCHEDULES)
def test_schedule_is_one_of_sb3(make):
    """A float comes out for each progress remaining alone, and SB3's own schedules take it."""
    schedule = make()
    for progress_remaining in (1.0, 0.5, 0.0, np.float64(0.25)):
        assert isinstance(schedule(progress_remaining), float)
        assert FloatSchedule(schedule)(progress_remaining) == schedule(progress_remaining)


@pytest.mark.parametrize("start", [1e-3, 0.7])
def test_linear_is_that_of_sb3(start):
    """Linear(start, end, fraction) and SB3's LinearSchedule(start, end, fraction) are the same function."""
    ours, theirs = Linear(start, 0.1, fraction=0.4), LinearSchedule(start, 0.1, end_fraction=0.4)
    shares = np.linspace(0, 1, 21)
    assert [ours(1 - share) for share in shares] == pytest.approx([theirs(1 - share) for share in shares])


@pytest.mark.parametrize("make", SCHEDULES)
def test_over_steps_says_what_the_time_is(make):
    """Where over_steps is set the steps alone change the value, elsewhere the progress alone."""
    schedule = make()
    by_progress = {schedule(progress, 30) for progress in (1.0, 0.55, 0.0)}
    by_steps = {schedule(0.55, n) for n in (0, 30, 100)}
    if isinstance(schedule, Constant):
        assert len(by_progress) == len(by_steps) == 1
    else:
        assert (len(by_progress) > 1) is (not schedule.over_steps)
        assert (len(by_steps) > 1) is schedule.over_steps


@pytest.mark.parametrize("make", SCHEDULES)
def test_value_is_the_call_with_the_time(make):
    """value() takes the share of the training, or the steps where over_steps is set."""
    schedule = make()
    for share, steps in ((0.0, 0), (0.35, 35), (1.0, 100)):
        assert schedule.at(steps if schedule.over_steps else share) == pytest.approx(schedule(1 - share, steps))


def test_schedules_are_equal_by_value():
    """The same class with the same arguments is equal, all others are not, and neither is a number or a subclass."""
    made, again = ([make.values[0]() for make in SCHEDULES] for _ in range(2))
    for i, schedule in enumerate(made):
        for j, other in enumerate(again):
            assert (schedule == other) is (i == j)
    assert Constant(1) == Constant(1.0)
    assert Linear(0.5, steps=100) == Linear(0.5, steps=1e2)
    assert Piecewise([[0, 1], [1, 2]]) == Piecewise(((0.0, 1.0), (1.0, 2.0)))
    assert Piecewise([(0, 1.0), (1, 0.5)]) != Piecewise([(0, 1.0), (1, 0.5)], over="steps")
    assert Constant(0.3) != 0.3
    assert type("Other", (Constant,), {})(0.3) != Constant(0.3)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (Linear(1.0, 0.1), "Linear(start=1.0, end=0.1, steps=None, fraction=1.0)"),
        (Linear(1.0, 0.1, steps=50), "Linear(start=1.0, end=0.1, steps=50, fraction=1.0)"),
        (Exponential(1.0, 0.99, 0.1), "Exponential(start=1.0, end=0.1, decay=0.99)"),
        (Exponential(1.0, end=0.1), "Exponential(start=1.0, end=0.1, decay=None)"),
    ],
)
def test_repr_is_the_call(schedule, text):
    """Its repr is what makes it."""
    assert repr(schedule) == text
    assert eval(text) == schedule


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Constant(0.3), Constant(0.4)),
        (Piecewise(POINTS), Piecewise(POINTS[:2])),
        (Piecewise(POINTS), Piecewise(POINTS, interpolation="constant")),
        pytest.param(Piecewise([(0, 1.0), (1, 0.5)]), Piecewise([(0, 1.0), (1, 0.5)], over="steps")),
    ],
)
def test_repr_tells_schedules_apart(one, other):
    """What differs between two of a class is to be seen in a log."""
    assert repr(one) != repr(other)
    assert repr(one).startswith(f"{type(one).__name__}(")
    assert " at 0x" not in repr(one)


@pytest.mark.parametrize("make", SCHEDULES)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_pickled_schedule_is_the_same(make, pickler):
    """What comes out of a file is equal, of the same values and the same repr."""
    schedule = make()
    other = pickler.loads(pickler.dumps(schedule))
    assert other == schedule
    assert other(0.4, 40) == schedule(0.4, 40)
    assert repr(other) == repr(schedule)


@pytest.mark.parametrize("make", SCHEDULES)
def test_evaluate_gives_our_schedules_the_steps(make):
    """Both times reach a schedule of ours."""
    schedule = make()
    for progress_remaining, steps in ((1.0, 0), (0.6, 40), (0.0, 100)):
        assert evaluate(schedule, progress_remaining, steps) == schedule(progress_remaining, steps)


@pytest.mark.parametrize(
    "function",
    [lambda progress: progress**2, lambda progress: np.float32(progress**2), lambda progress: th.tensor(progress**2)],
    ids=["float", "numpy", "torch"],
)
def test_evaluate_gives_any_function_the_progress(function):
    """A function of one argument is called with the progress remaining, and a float comes out."""
    value = evaluate(function, 0.5, 40)
    assert type(value) is float
    assert value == 0.25


def test_schedule_of_the_users_own():
    """A subclass defines value(), and over_steps where it counts them."""

    class Cosine(Schedule):
        def at(self, time):
            return 0.5 + 0.5 * math.cos(math.pi * time)

    class Root(Schedule):
        over_steps = True

        def at(self, time):
            return 1 / math.sqrt(1 + time)

    assert over_progress(Cosine(), [0.0, 0.5, 1.0]) == pytest.approx([1.0, 0.5, 0.0])
    assert over_steps(Root(), [0, 3, 99]) == pytest.approx([1.0, 0.5, 0.1])
    assert evaluate(Root(), 0.5, 3) == pytest.approx(0.5)


# ---- What is refused


NUMBERS = [(-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError), (True, TypeError), ("0.1", TypeError)]
WRONG = [
    *((Constant, dict(), "value", value, error) for value, error in NUMBERS),
    *((Linear, dict(), "start", value, error) for value, error in NUMBERS),
    *((Linear, dict(start=1.0), "end", value, error) for value, error in NUMBERS),
    *((Linear, dict(start=1.0), "fraction", value, error) for value, error in NUMBERS),
    *((Exponential, dict(decay=0.9), "start", value, error) for value, error in NUMBERS),
    *((Exponential, dict(start=1.0), "decay", value, error) for value, error in NUMBERS),
    *((Exponential, dict(start=1.0, decay=0.9), "end", value, error) for value, error in NUMBERS),
    (Constant, dict(), "value", None, TypeError),
    (Linear, dict(start=1.0), "fraction", 0, ValueError),
    (Linear, dict(start=1.0), "fraction", 1.1, ValueError),
    (Linear, dict(start=1.0), "steps", 0, ValueError),
    (Linear, dict(start=1.0), "steps", -5, ValueError),
    (Linear, dict(start=1.0), "steps", 10.5, TypeError),
    (Linear, dict(start=1.0), "steps", True, TypeError),
    (Linear, dict(start=1.0), "steps", "10", TypeError),
    (Exponential, dict(decay=0.9), "start", 0, ValueError),
    (Exponential, dict(start=1.0), "decay", 0, ValueError),
    (Exponential, dict(start=1.0), "decay", 1.01, ValueError),
    (Exponential, dict(start=1.0), "end", 0, ValueError),
    (Piecewise, dict(points=POINTS), "over", "time", ValueError),
    (Piecewise, dict(points=POINTS), "over", None, ValueError),
    (Piecewise, dict(points=POINTS), "interpolation", "cubic", ValueError),
    (Piecewise, dict(), "points", [], ValueError),
    (Piecewise, dict(), "points", None, ValueError),
    (Piecewise, dict(), "points", 0.5, ValueError),
    (Piecewise, dict(), "points", [0.5, 1.0], ValueError),
    (Piecewise, dict(), "points", [(0.0, 1.0, 2.0)], ValueError),
    (Piecewise, dict(), "points", {0.0: 1.0}, ValueError),
    (Piecewise, dict(), "points", [(0.0, 1.0), (0.0, 2.0)], ValueError),
    (Piecewise, dict(), "points", [(0.5, 1.0), (0.2, 2.0)], ValueError),
]


@pytest.mark.parametrize(("cls", "others", "name", "value", "error"), WRONG)
def test_wrong_arguments_are_named(cls, others, name, value, error):
    """A value outside what is allowed, or of another type, is refused with its name and itself."""
    with pytest.raises(error) as caught:
        cls(**others, **{name: value})
    assert str(caught.value).startswith(f"{name}={value!r} must be")


@pytest.mark.parametrize(
    ("points", "over", "error", "named"),
    [
        ([(0.0, 1.0), (1.5, 0.5)], "progress", ValueError, "1.5"),
        ([(-0.1, 1.0)], "progress", ValueError, "-0.1"),
        ([(-1, 1.0)], "steps", ValueError, "-1"),
        ([(0.0, -1.0)], "progress", ValueError, "-1.0"),
        ([(0.0, math.nan)], "progress", ValueError, "nan"),
        ([(math.nan, 1.0)], "steps", ValueError, "nan"),
        ([(math.inf, 1.0)], "steps", ValueError, "inf"),
        ([("0", 1.0)], "progress", TypeError, "'0'"),
        ([(0.0, "1")], "progress", TypeError, "'1'"),
        ([(0.0, True)], "progress", TypeError, "True"),
        ([(0.0, None)], "progress", TypeError, "None"),
    ],
)
def test_wrong_points_are_named(points, over, error, named):
    """A time beyond the training, a negative value and what is no number are refused with points and the entry."""
    with pytest.raises(error, match="points") as caught:
        Piecewise(points, over=over)
    assert f"={named} must be" in str(caught.value)


# ---- In training


class Readings(BaseCallback):
    """The optimizers' learning rates after the update at each number of steps; the noise's scale as each step was acted."""

    def __init__(self):
        super().__init__()
        self.rates, self.noise = {}, {}

    def _on_rollout_start(self):
        self._read()

    def _on_training_end(self):
        self._read()

    def _read(self):
        optimizers = self.model.policy.actor.optimizer, self.model.policy.critic.optimizer
        self.rates[self.model.num_timesteps] = tuple(optimizer.param_groups[0]["lr"] for optimizer in optimizers)

    def _on_step(self):
        if self.model.action_noise is not None:
            before = self.model.num_timesteps - self.model.n_envs  # the step is counted already
            self.noise[before] = self.model.action_noise.statistics()
        return True


STEPS, STARTS = 150, 20


def make_model(n_envs=1, **kwargs):
    arguments = dict(
        learning_starts=STARTS, batch_size=4, buffer_size=400, policy_kwargs=dict(net_arch=[4]), device="cpu", seed=0
    )
    return DDPG("MlpPolicy", make_vec_env("Pendulum-v1", n_envs), **(arguments | kwargs))


def readings(total_timesteps=STEPS, n_envs=1, **kwargs):
    callback = Readings()
    make_model(n_envs, **kwargs).learn(total_timesteps, callback)
    return callback


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("learner", ["eager", "auto"])
def test_learning_rates_follow_their_schedules(n_envs, learner):
    """Each update has the actor's rate of its number of environment steps, and the critic's of its share of the training."""
    read = readings(
        n_envs=n_envs,
        learner=learner,
        learning_rate="exp_1e-3_0.99",
        qf_learning_rate={"kind": "piecewise", "points": [[0, 1e-3], [0.5, 1e-4]]},
    )
    updates = [n for n in read.rates if n > STARTS]
    assert updates == [n for n in range(n_envs, STEPS + 1, n_envs) if n > STARTS]
    for n in updates:
        actor, critic = read.rates[n]
        assert actor == pytest.approx(1e-3 * 0.99**n, rel=1e-9)
        assert critic == pytest.approx(max(1e-3 - 9e-4 * n / 75, 1e-4), rel=1e-9)


@pytest.mark.parametrize(
    ("learning_rate", "expected"),
    [
        (Linear(1e-3, 1e-4, steps=100), lambda n: 1e-3 - 9e-4 * min(n / 100, 1)),
        ("lin_1e-3_1e-4", lambda n: 1e-3 - 9e-4 * n / STEPS),
        ({"kind": "exp", "start": 1e-3, "end": 1e-5}, lambda n: 1e-3 * 0.01 ** (n / STEPS)),
        ("exp_1e-3_0.95_1e-4", lambda n: max(1e-3 * 0.95**n, 1e-4)),
        (lambda progress: 1e-3 * progress**2, lambda n: 1e-3 * (1 - n / STEPS) ** 2),
        (5e-4, lambda n: 5e-4),
    ],
    ids=["steps", "progress", "to the end", "floor", "function", "number"],
)
def test_critic_has_the_learning_rate_of_the_actor_by_default(learning_rate, expected):
    """Without qf_learning_rate, one schedule is both, whatever its form."""
    read = readings(learning_rate=learning_rate, train_freq=10)
    updates = [n for n in read.rates if n > STARTS]
    assert updates == list(range(30, STEPS + 1, 10))
    for n in updates:
        assert read.rates[n] == pytest.approx((expected(n), expected(n)), rel=1e-9)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(
    ("action_noise", "expected"),
    [
        ("normal_lin_0.5_0.05", lambda n: 0.5 - 0.45 * n / STEPS),
        ("normal_exp_0.5_0.99", lambda n: 0.5 * 0.99**n),
        ("ou_exp_0.5_0.99_0.2", lambda n: max(0.5 * 0.99**n, 0.2)),
        (
            {"kind": "pink", "sigma": {"kind": "lin", "start": 0.5, "end": 0.05, "steps": 100}},
            lambda n: max(0.5 - 0.0045 * n, 0.05),
        ),
        ({"kind": "normal", "sigma": [0.5], "scale": "lin_1_0.1"}, lambda n: 0.5 - 0.45 * n / STEPS),
    ],
    ids=["linear", "exponential", "floor", "steps", "scale"],
)
def test_noise_follows_its_schedule(n_envs, action_noise, expected):
    """Every action has the scale of the steps that were taken before it."""
    read = readings(n_envs=n_envs, action_noise=action_noise).noise
    acted = [n for n in read if n >= STARTS]
    assert acted == [n for n in range(0, STEPS, n_envs) if n >= STARTS]
    for n in acted:
        assert read[n] == pytest.approx({"sigma": expected(n)}, rel=1e-9)


def test_noise_reaches_the_end_of_its_schedule_with_the_training():
    """The last action has the scale that the schedule has one step before its end."""
    read = readings(total_timesteps=1000, action_noise="normal_lin_0.5_0.05", learning_starts=990).noise
    assert max(read) == 999
    assert read[999]["sigma"] == pytest.approx(0.05, abs=0.45 / 999)


def test_actions_have_the_scale_of_the_schedule():
    """An actor that says 0 acts 0.5 0.99^n N(0, 1) after n steps, with the random numbers of the same seed alone."""
    model = make_model(action_noise="normal_exp_0.5_0.99", learning_rate=0.0)
    with th.no_grad():
        for parameter in model.policy.actor.parameters():
            parameter.zero_()
    model.learn(STEPS)
    white = GaussianNoise(1.0).prepare(1, 1, seed=0)
    expected = [np.clip(0.5 * 0.99**n * white(), -1, 1) for n in range(STARTS, STEPS)]
    np.testing.assert_allclose(model.replay_buffer.actions[STARTS:STEPS], expected, rtol=1e-5, atol=1e-7)


def test_noise_in_warmup_follows_its_schedule():
    """With noise_in_warmup, the noise on random actions has the scale of its schedule too."""
    read = readings(action_noise="normal_exp_0.5_0.99", noise_in_warmup=True).noise
    assert [read[n]["sigma"] for n in range(STARTS)] == pytest.approx([0.5 * 0.99**n for n in range(STARTS)])


def test_second_training_begins_at_the_beginning_of_its_schedules():
    """The first action of a second learn(), without a warm-up, has the scale that the first action of a training has."""
    model = make_model(action_noise="normal_lin_0.5_0.05", learning_starts=0)
    model.learn(20)
    callback = Readings()
    model.learn(20, callback)
    assert callback.noise[0]["sigma"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Linear(1.0, steps=100, fraction=0.5), "fraction=0.5 must be 1 where steps=100"),
        (lambda: Exponential(0.1, decay=0.9, end=0.5), "end=0.5 must be <= start=0.1"),
        (lambda: Exponential(0.0, decay=0.9), "start=0.0 must be a finite number > 0"),
        (lambda: Exponential(1.0, decay=1.5), r"decay=1.5 must be a number in \(0, 1\]"),
    ],
)
def test_arguments_that_contradict_each_other(make, words):
    """Are refused instead of one being ignored."""
    with pytest.raises(ValueError, match=words):
        make()

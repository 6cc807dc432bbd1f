"""Strings and dicts from YAML become noise and schedules, or an error that says what they could have been."""

import numpy as np
import pytest
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import ConstantSchedule

from sb3_ddpg_ext.noise import (
    NOISES,
    AdaptiveParameterNoise,
    ColouredNoise,
    CombinedNoise,
    CorrelatedNoise,
    FixedParameterNoise,
    GaussianNoise,
    OrnsteinUhlenbeckNoise,
    UniformMixing,
    make_action_noise,
)
from sb3_ddpg_ext.schedules import Constant, Exponential, Linear, Piecewise, make_schedule


def attributes(noise):
    return {name: value for name, value in vars(noise).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ("normal_0.1", GaussianNoise(0.1)),
        ("normal_5e-2", GaussianNoise(0.05)),
        ("normal_0", GaussianNoise(0.0)),
        (" ou_0.2 ", OrnsteinUhlenbeckNoise(0.2)),
        ("pink_0.3", ColouredNoise(0.3, beta=1.0)),
        ("coloured_0.3", ColouredNoise(0.3, beta=1.0)),
        ("red_0.3", ColouredNoise(0.3, beta=2.0)),
        ("epsilon_0.25", UniformMixing(0.25)),
        ("param_0.1", FixedParameterNoise(0.1)),
        ("adaptive-param_0.2", AdaptiveParameterNoise(0.2)),
        ("normal_lin_0.5_0.05", GaussianNoise(Linear(0.5, 0.05))),
        ("ou_exp_0.5_0.999", OrnsteinUhlenbeckNoise(Exponential(0.5, 0.999))),
        ("adaptive-param_lin_0.6_0.1", AdaptiveParameterNoise(Linear(0.6, 0.1))),
        ("epsilon_const_0.5", UniformMixing(Constant(0.5))),
        (dict(kind="normal", sigma=[0.1, 0.2], clip=0.3, scale="lin_1_0.1"),
         GaussianNoise([0.1, 0.2], clip=0.3, scale=Linear(1.0, 0.1))),
        (dict(kind="ou", sigma=0.3, theta=0.2, dt=1.0, start="stationary"),
         OrnsteinUhlenbeckNoise(0.3, theta=0.2, dt=1.0, start="stationary")),
        (dict(kind="ou", sigma=dict(kind="piecewise", points=[[0, 0.5], [0.5, 0.1]])),
         OrnsteinUhlenbeckNoise(Piecewise([(0, 0.5), (0.5, 0.1)]))),
        (dict(kind="normal", sigma="1e-1"), GaussianNoise(0.1)),
        (dict(kind="red", sigma=0.2, length=50), ColouredNoise(0.2, beta=2.0, length=50)),
        (dict(kind="correlated", covariance=[[1, 0.5], [0.5, 1]]), CorrelatedNoise([[1, 0.5], [0.5, 1]])),
        (dict(kind="adaptive-param", target=0.3, shared=True, interval=10),
         AdaptiveParameterNoise(0.3, shared=True, interval=10)),
        (dict(kind="epsilon", epsilon="lin_1_0.1"), UniformMixing(Linear(1.0, 0.1))),
        ([GaussianNoise(0.1)], GaussianNoise(0.1)),
        ("none, normal_0.1", GaussianNoise(0.1)),
    ],
    ids=str,
)  # fmt: skip
def test_noise_of_a_spec(spec, same):
    """The kind gives the class, what follows its first argument, a dict all of them."""
    noise = make_action_noise(spec, action_dim=2)
    assert type(noise) is type(same)
    assert attributes(noise) == attributes(same)


@pytest.mark.parametrize(
    "spec",
    [
        "adaptive-param_0.2, normal_0.05",
        ["adaptive-param_0.2", "normal_0.05"],
        [dict(kind="adaptive-param", target=0.2), GaussianNoise(0.05)],
    ],
    ids=str,
)
def test_several_noises(spec):
    """Commas and lists combine kinds."""
    noise = make_action_noise(spec, action_dim=1)
    assert type(noise) is CombinedNoise
    assert [type(part) for part in noise.parts] == [AdaptiveParameterNoise, GaussianNoise]
    assert noise.parameter_noise is noise.parts[0]


@pytest.mark.parametrize("kind", NOISES)
def test_every_kind_has_an_example(kind):
    """A number is enough for every kind but the correlated, which needs its covariance."""
    if kind == "correlated":
        with pytest.raises(ValueError, match=r"covariance=0\.1 must be a square matrix"):
            make_action_noise("correlated_0.1", action_dim=1)
    else:
        assert make_action_noise(f"{kind}_0.1", action_dim=1) is not None


@pytest.mark.parametrize("spec", [None, "none", " none ", [], ["none", None]], ids=str)
def test_no_noise(spec):
    """None, "none" and nothing at all are no noise."""
    assert make_action_noise(spec, action_dim=2) is None


@pytest.mark.parametrize("noise", [NormalActionNoise(np.ones(2), np.ones(2)), GaussianNoise(0.1)])
def test_noise_object_is_taken_as_it_is(noise):
    """An ActionNoise of the user's own is not rebuilt."""
    assert make_action_noise(noise, action_dim=2) is noise


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("gaussian_0.1", ValueError, ["'gaussian' is unknown", "pink, normal", "adaptive-param"]),
        ("gaussian_0.1", ValueError, ["did you mean 'normal_0.1'?"]),
        ("norml_lin_0.5_0.1", ValueError, ["did you mean 'normal_lin_0.5_0.1'?"]),
        ("OU_0.2", ValueError, ["did you mean 'ou_0.2'?"]),
        ("pink0.3", ValueError, ["did you mean 'pink_0.3'?"]),
        ("ornstein-uhlenbeck_0.2", ValueError, ["did you mean 'ou_0.2'?"]),
        ("adaptive_param", ValueError, ["did you mean 'adaptive-param_0.1'?"]),
        (dict(kind="norml", sigma=0.1), ValueError, ["did you mean 'normal'?"]),
        (dict(kind="ou", sigm=0.1), ValueError, ["'ou' has no argument 'sigm', did you mean 'sigma'?"]),
        ("normal", ValueError, ["'normal' needs a value behind it, such as 'normal_0.1'"]),
        ("normal_", ValueError, ["'normal_' cannot be read, as 'normal_0.1' can"]),
        ("normal_much", ValueError, ["as 'normal_0.1' can", "'much' is unknown", "lin, exp"]),
        ("normal_-0.1", ValueError, ["sigma=-0.1", ">= 0"]),
        ("ou_nan", ValueError, ["sigma=nan"]),
        ("ou_inf", ValueError, ["sigma=inf"]),
        ("normal_0_5", ValueError, ["'0' is unknown"]),
        (dict(kind=["ou"]), ValueError, ["the kind ['ou'] is unknown"]),
        ("ou 0.2", ValueError, ["'ou 0.2' is unknown"]),
        ("normal_lin_0.5_0.1_0.2_0.3", ValueError, ["cannot be read"]),
        ("normal_exp_0.5", ValueError, ["end=0.0 must be > 0"]),
        ("epsilon_1.5", ValueError, ["epsilon=1.5", "[0, 1]"]),
        ("adaptive-param_0", ValueError, ["target=0"]),
        ("0.1", ValueError, ["'0.1' is unknown"]),
        ("", ValueError, ["'' is unknown"]),
        ("normal_0.1,", ValueError, ["'' is unknown"]),
        ("adaptive-param_0.2, param_0.1", ValueError, ["at most one noise of the parameters"]),
        ("epsilon_0.2, epsilon_0.1", ValueError, ["one UniformMixing"]),
        (dict(sigma=0.1), ValueError, ["the kind None is unknown"]),
        (dict(kind="ou", beta=1), ValueError, ["'ou' has no argument 'beta'", "'theta'"]),
        (dict(kind="ou", theta=-1), ValueError, ["theta=-1"]),
        (dict(kind="ou", sigma="lin"), ValueError, ["sigma='lin'", "'lin' needs a value behind it, such as 'lin_0.1'"]),
        (dict(kind="adaptive-param", shared=1), TypeError, ["shared=1", "bool"]),
        (0.1, TypeError, ["0.1 must be None or"]),
        ([NormalActionNoise(np.zeros(1), np.ones(1))], TypeError, ["NormalActionNoise", "must be None or"]),
        (NormalActionNoise, TypeError, ["must be None or"]),
    ],
    ids=str,
)
def test_wrong_noise_is_named(spec, error, words):
    """The error has the argument, its value and what is allowed."""
    with pytest.raises(error) as caught:
        make_action_noise(spec, action_dim=1)
    message = str(caught.value)
    assert message.startswith("action_noise=") or "sigma='lin'" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ("lin_1e-3", [1e-3, 7.5e-4, 5e-4, 0.0]),
        ("lin_0", [0.0, 0.0, 0.0, 0.0]),
        ("lin_1_0.2", [1.0, 0.8, 0.6, 0.2]),
        ("const_0.3", [0.3, 0.3, 0.3, 0.3]),
        (dict(kind="lin", start=1.0, end=0.5, fraction=0.5), [1.0, 0.75, 0.5, 0.5]),
        (dict(kind="exp", start=1.0, end=0.0625), [1.0, 0.5, 0.25, 0.0625]),
        (dict(kind="piecewise", points=[[0, 1.0], [0.5, 0.0]]), [1.0, 0.5, 0.0, 0.0]),
    ],
    ids=str,
)
def test_schedule_over_the_training(spec, values):
    """The values at progress remaining 1, 0.75, 0.5 and 0."""
    schedule = make_schedule("learning_rate", spec)
    assert [schedule(progress) for progress in (1.0, 0.75, 0.5, 0.0)] == pytest.approx(values)


@pytest.mark.parametrize("spec", ["exp_0.5_0.999", "exp_0.5_0.999_0.4", dict(kind="exp", start=0.5, decay=0.999)], ids=str)
def test_schedule_over_steps(spec):
    """The exponential of a string falls with each environment step, down to its end."""
    schedule, end = make_schedule("learning_rate", spec), 0.4 if str(spec).endswith("0.4") else 0.0
    for steps in (0, 1, 100, 5000):
        assert schedule(0.5, steps) == pytest.approx(max(0.5 * 0.999**steps, end))


@pytest.mark.parametrize("spec", [1e-3, np.float32(0.25), 1, 0, "1e-3", " 2 "])
def test_schedule_of_a_number(spec):
    """A number, and a string that is one, as YAML makes of 1e-3, is a float of the same value at all times."""
    schedule = make_schedule("learning_rate", spec)
    assert [type(schedule(progress)) for progress in (1, 0.5)] == [float, float]
    assert schedule(1) == schedule(0.5) == float(spec)


def test_schedule_object_is_taken_as_it_is():
    """Ours is not wrapped, another function of the progress remaining keeps its values."""
    ours = Exponential(1e-3, 0.9)
    assert make_schedule("learning_rate", ours) is ours
    assert make_schedule("learning_rate", ConstantSchedule(1e-3))(0.3) == 1e-3
    assert make_schedule("learning_rate", lambda progress: progress / 2)(0.3) == 0.15


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("cos_1e-3", ValueError),
        ("lin", ValueError),
        ("lin_", ValueError),
        ("lin_fast", ValueError),
        ("lin_-1", ValueError),
        ("lin_nan", ValueError),
        ("exp_1", ValueError),
        ("exp_1_2", ValueError),
        ("1_000", ValueError),
        ("", ValueError),
        (dict(start=1.0), ValueError),
        (dict(kind="lin", begin=1.0), ValueError),
        (dict(kind="piecewise", points=[[0.5, 1], [0.2, 1]]), ValueError),
        (-1e-3, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        (None, TypeError),
        ([1e-3], TypeError),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["learning_rate", "qf_learning_rate"])
def test_wrong_schedule_is_named(name, spec, error):
    """The error has the argument, its value and what is allowed."""
    with pytest.raises(error) as caught:
        make_schedule(name, spec)
    assert str(caught.value).startswith(f"{name}={spec!r}")

"""Strings from YAML become noise and schedules, or an error that says what they could have been."""

import numpy as np
import pytest
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import ConstantSchedule

from sb3_ddpg_ext.specs import make_action_noise, make_schedule


@pytest.mark.parametrize(
    ("spec", "noise_class", "sigma"),
    [
        ("normal_0.1", NormalActionNoise, 0.1),
        ("ou_0.2", OrnsteinUhlenbeckActionNoise, 0.2),
        ("normal_5e-2", NormalActionNoise, 0.05),
        ("ou_1", OrnsteinUhlenbeckActionNoise, 1.0),
        ("normal_0", NormalActionNoise, 0.0),
        (" ou_0.2 ", OrnsteinUhlenbeckActionNoise, 0.2),
    ],
)
def test_noise_of_a_string(spec, noise_class, sigma):
    """The word gives the class; the number is the standard deviation of every dimension around zero."""
    noise = make_action_noise(spec, action_dim=3)
    assert type(noise) is noise_class
    np.testing.assert_array_equal(noise._mu, np.zeros(3))
    np.testing.assert_array_equal(noise._sigma, np.full(3, sigma))


@pytest.mark.parametrize("spec", [None, "none", " none "])
def test_no_noise(spec):
    """None and "none" are both no noise."""
    assert make_action_noise(spec, action_dim=2) is None


def test_noise_object_is_taken_as_it_is():
    """An ActionNoise of the user's own is not copied or rebuilt."""
    noise = NormalActionNoise(np.ones(2), np.ones(2))
    assert make_action_noise(noise, action_dim=2) is noise


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("gaussian_0.1", ValueError),
        ("normal", ValueError),
        ("normal_", ValueError),
        ("normal_much", ValueError),
        ("normal_-0.1", ValueError),
        ("ou_nan", ValueError),
        ("ou_inf", ValueError),
        ("ou 0.2", ValueError),
        ("0.1", ValueError),
        ("", ValueError),
        (0.1, TypeError),
        (NormalActionNoise, TypeError),
    ],
)
def test_wrong_noise_is_named(spec, error):
    """The error has the argument, its value and the forms that are allowed."""
    with pytest.raises(error) as caught:
        make_action_noise(spec, action_dim=1)
    assert f"action_noise={spec!r}" in str(caught.value)
    assert '"none", "normal_SIGMA" or "ou_SIGMA"' in str(caught.value)


@pytest.mark.parametrize(("spec", "start"), [("lin_1e-3", 1e-3), ("lin_0.5", 0.5), ("lin_0", 0.0)])
def test_schedule_of_a_string(spec, start):
    """ "lin_VALUE" falls linearly from VALUE at progress remaining 1 to 0 at 0."""
    schedule = make_schedule("learning_rate", spec)
    assert [schedule(progress) for progress in (1.0, 0.75, 0.5, 0.0)] == pytest.approx([start, 0.75 * start, 0.5 * start, 0.0])


@pytest.mark.parametrize("spec", [1e-3, np.float32(0.25), 1, 0])
def test_schedule_of_a_number(spec):
    """A number comes back as a float of the same value."""
    value = make_schedule("learning_rate", spec)
    assert type(value) is float
    assert value == spec


def test_schedule_object_is_taken_as_it_is():
    """A function of the progress remaining is not wrapped."""
    schedule = ConstantSchedule(1e-3)
    assert make_schedule("learning_rate", schedule) is schedule


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("exp_1e-3", ValueError),
        ("lin", ValueError),
        ("lin_", ValueError),
        ("lin_fast", ValueError),
        ("lin_-1", ValueError),
        ("lin_nan", ValueError),
        ("1e-3", ValueError),
        ("", ValueError),
        (-1e-3, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        (None, TypeError),
        ([1e-3], TypeError),
    ],
)
@pytest.mark.parametrize("name", ["learning_rate", "qf_learning_rate"])
def test_wrong_schedule_is_named(name, spec, error):
    """The error has the argument, its value and what is allowed."""
    with pytest.raises(error) as caught:
        make_schedule(name, spec)
    assert str(caught.value).startswith(f"{name}={spec!r}")
    assert "number >= 0" in str(caught.value)

"""Arguments at random: each case trains, or is refused by an error that names one of its arguments."""

from functools import partial

import pytest
import torch as th
from fuzzing import outcome, single_cases
from fuzzing_values import SUBJECTS
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_ddpg_ext import DDPG

CASES = {subject: list(single_cases(subject)) for subject in SUBJECTS}
FINE = ("trains", "refused")
subjects = st.sampled_from(list(SUBJECTS))


@pytest.fixture(autouse=True)
def one_thread():
    """As every process of the tests has it."""
    before = th.get_num_threads()
    th.set_num_threads(1)
    yield
    th.set_num_threads(before)


@settings(max_examples=600, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_one_argument(data):
    """Of DDPG with vectors and with goals, and of RecurrentDDPG; all of them by ``python tests/fuzzing.py --cases 1``."""
    subject = data.draw(subjects)
    assert outcome(data.draw(st.sampled_from(CASES[subject])), subject) in FINE


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_two_arguments(data):
    """Whatever each of them alone does."""
    subject = data.draw(subjects)
    one, other = (data.draw(st.sampled_from(CASES[subject])) for _ in range(2))
    if {path[0] for path in one} != {path[0] for path in other}:
        assert outcome(one | other, subject) in FINE


def test_what_pairs_have_shown():
    """The faults that 60,000 cases found."""
    for kwargs in (
        dict(features_extractor_class=partial(FlattenExtractor), normalize_images=False),
        dict(dqda_clip=1e-300, action_branch=(1,)),
    ):
        assert outcome({("policy_kwargs", name): value for name, value in kwargs.items()}) == "refused"


def test_a_fault_is_found(monkeypatch):
    """The fuzzer would say what it is looking for: another error, one that names nothing, and a training without an end."""
    case = {("gamma",): 0.5}
    assert outcome(case) == "trains"
    assert outcome({("gamma",): 2}) == "refused"
    for error, expected in ((KeyError("lost"), "KeyError: 'lost'"), (ValueError("wrong"), "names nothing: ValueError: wrong")):
        monkeypatch.setattr(DDPG, "train", lambda *args, error=error, **kwargs: (_ for _ in ()).throw(error).__next__())
        assert outcome(case) == expected

"""The compiled learner: libraries, threads, numbers. That it agrees with eager in all options is in test_learners.py."""

import copy
import ctypes
import os
import pickle
import sys
import threading

import numpy as np
import pytest
import torch as th
from conftest import needs_library
from test_learners import SMALL, assert_equal_states, make_batch, make_model, state_of, train
from torch import nn

from sb3_ddpg_ext import DDPG, native
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners import CompiledLearner, EagerLearner, FusedLearner, UpdateSettings, compiled, tempo
from sb3_ddpg_ext.native.loading import FOLDER, library

pytestmark = needs_library


@pytest.fixture(params=native.LEVELS)
def level(request, monkeypatch):
    """A kind of processor that this one can be taken for."""
    if request.param not in native.levels_here():
        pytest.skip(f"this processor, or this build, has no {request.param}")
    monkeypatch.setattr(compiled.native, "library", lambda type_name: library(type_name, request.param))
    return request.param


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize("seed", range(6))
def test_any_shape_on_any_processor(seed, level):
    """Layers, batches and numbers of threads at random, each with parts of vectors and of tiles left over."""
    rng = np.random.default_rng(seed)
    arch = rng.integers(1, 140, rng.integers(1, 4)).tolist()
    activation = [nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.Mish, nn.ReLU][seed]
    kwargs = dict(
        policy_kwargs=dict(net_arch=arch, activation_fn=activation, n_critics=1 + seed % 2), layer_norm=seed % 3 == 2
    )
    models = [make_model(**kwargs) for _ in range(2)]
    batch_size, n_threads = int(rng.integers(1, 150)), int(rng.integers(1, 4))
    losses = [
        train(model, cls, 10, batch_size) for model, cls in zip(models, (EagerLearner, with_threads(n_threads)), strict=True)
    ]
    assert_equal_states(*models)
    for mine, its in zip(*losses, strict=True):
        assert mine == pytest.approx(its, rel=1e-9, abs=1e-12)


def with_threads(n):
    """The learner with a number of threads."""

    class Threaded(CompiledLearner):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.n_threads = n

    return Threaded


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize("activation_fn", [nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.Mish])
def test_float32_is_as_exact_as_torch(activation_fn, level):
    """After 50 updates, parameters are no farther from those of float64 than eager's in float32 are."""
    ends = {}
    for name, cls, dtype in (
        ("exact", EagerLearner, th.float64), ("eager", EagerLearner, th.float32), ("compiled", CompiledLearner, th.float32)
    ):  # fmt: skip
        model = make_model(dtype=dtype, policy_kwargs=dict(net_arch=[40, 30], activation_fn=activation_fn))
        model.actor.mu[0].weight.data.mul_(20)  # to where functions are flat, too
        learner = cls(model.policy, UpdateSettings())
        for i in range(50):
            batch = make_batch(th.Generator().manual_seed(i), 33)
            learner.update(Batch(*(part.to(dtype) for part in batch[:6])))
        ends[name] = th.cat([p.detach().double().flatten() for p in model.policy.parameters()])
    errors = {name: (end - ends["exact"]).abs() for name, end in ends.items()}
    assert 0 < errors["compiled"].median() < 1.2 * errors["eager"].median()


def test_numbers_do_not_depend_on_threads():
    """Nor on the blocks into which these cut a batch."""
    states = []
    for n in (1, 2, 3, 7):
        kwargs = dict(net_arch=[70, 50], n_critics=2)
        model = make_model(layer_norm=True, dtype=th.float32, policy_kwargs=kwargs)
        learner = with_threads(n)(model.policy, UpdateSettings(max_grad_norm=0.5))
        for i in range(5):
            learner.update(make_batch(th.Generator().manual_seed(i), 140, th.float32))
        states.append(state_of(model))
    for other in states[1:]:
        assert all(th.equal(value, other[key]) for key, value in states[0].items())


def test_several_trainings_at_once():
    """Whoever finds the threads taken works alone."""
    models = [make_model(dtype=th.float32, policy_kwargs=dict(net_arch=[64, 64])) for _ in range(4)]
    learners = [with_threads(3)(model.policy, UpdateSettings()) for model in models]
    batches = [make_batch(th.Generator().manual_seed(i), 128, th.float32) for i in range(50)]
    threads = [threading.Thread(target=lambda each=each: [each.update(batch) for batch in batches]) for each in learners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for other in models[1:]:
        assert_equal_states(models[0], other, 0)


def test_one_policy_acts_in_several_threads():
    """Each is given the action for its own observation."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    observations = np.random.default_rng(0).normal(size=(8, 300, 3)).astype(np.float32)
    expected = [model.predict(each)[0] for each in observations]
    got = [[] for _ in observations]
    threads = [
        threading.Thread(target=lambda to=to, own=own: to.extend(model.predict(one)[0] for one in own))
        for to, own in zip(got, observations, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_act_by_their_own_parameters(duplicate):
    """A copy of a policy that has acted does not see what the first learns."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    obs = np.ones(3, np.float32)
    before, _ = model.predict(obs)
    other = duplicate(model.policy)
    with th.no_grad():
        model.actor.mu[-2].bias.add_(0.5)
    np.testing.assert_array_equal(other.predict(obs)[0], before)
    assert model.predict(obs)[0] > before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_threads_of_its_own():
    """Those of its parent are not there."""
    model = make_model(dtype=th.float32, policy_kwargs=dict(net_arch=[64, 64]))
    learner = with_threads(2)(model.policy, UpdateSettings())
    batch = make_batch(th.Generator().manual_seed(0), 128, th.float32)
    learner.update(batch)
    child = os.fork()
    if child == 0:
        for _ in range(20):
            learner.update(batch)
        os._exit(0 if learner.n_updates == 21 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_without_the_library_fused_takes_over(monkeypatch, capsys):
    """As after an installation without a compiler; verbose=1 says why."""
    monkeypatch.setattr(compiled.native, "library", lambda type_name: None)
    model = DDPG("MlpPolicy", "Pendulum-v1", verbose=1, **SMALL)
    assert model.learner_name == "fused"
    assert "fused (compiled not: the package was installed without its compiled library)" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"learner='compiled' cannot train this model: .*without its compiled library"):
        DDPG("MlpPolicy", "Pendulum-v1", learner="compiled", **SMALL)


def test_what_it_leaves_to_fused():
    """Products in bfloat16, and more layers or critics than there is room for."""
    for kwargs, settings, reason in (
        ({}, UpdateSettings(precision="bf16"), "precision='bf16'"),
        (dict(net_arch=[2] * 20), UpdateSettings(), "21 layers"),
        (dict(n_critics=20), UpdateSettings(), "20 critics"),
    ):
        policy = make_model(dtype=th.float32, policy_kwargs=kwargs).policy
        assert reason in CompiledLearner.reason_against(policy, settings)
        assert FusedLearner.reason_against(policy, settings) is None
    assert "bfloat16" in CompiledLearner.reason_against(make_model(dtype=th.bfloat16).policy, UpdateSettings())


def test_structures_are_those_of_the_libraries(monkeypatch):
    """A library of another version is as good as none."""
    for level in native.levels_here():
        opened = library("float", level)
        assert opened.size_of_plan() == ctypes.sizeof(native.Plan)
        assert opened.size_of_step() == ctypes.sizeof(native.Step)
    monkeypatch.setattr(sys.modules["sb3_ddpg_ext.native.loading"], "Step", native.Plan)
    assert library.__wrapped__("float", native.levels_here()[0]) is None


def test_a_file_that_is_no_library(monkeypatch, tmp_path):
    """Such as one of another system."""
    (tmp_path / "ddpg_plain_float.so").write_bytes(b"no library")
    monkeypatch.setattr(sys.modules["sb3_ddpg_ext.native.loading"], "FOLDER", tmp_path)
    assert native.levels_here.__wrapped__() == ()
    assert list(FOLDER.glob("ddpg_plain_float.*"))


class Clock:
    """Time that passes as the number of threads wants it."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self):
        return self.now


def test_threads_are_chosen_by_time(monkeypatch):
    """The fastest number, and again when that changes; more threads must be worth it."""
    clock = Clock({1: 10, 2: 6, 4: 7})
    monkeypatch.setattr(tempo, "time", clock)
    chosen = tempo.Tempo(1e9, at_most=4)
    assert chosen.candidates == [1, 2, 4]

    def updates(n):
        numbers = []
        for _ in range(n):
            numbers.append(chosen.begin())
            clock.now += clock.seconds[numbers[-1]]
            chosen.end()
        return numbers

    trial = [1] * 4 + [2] * 4 + [4] * 4
    assert updates(12 + tempo.PERIOD) == trial + [2] * tempo.PERIOD
    clock.seconds = {1: 10, 2: 90, 4: 9.6}  # another program has come
    assert updates(12 + tempo.PERIOD) == trial + [1] * tempo.PERIOD


def test_small_updates_have_one_thread():
    """Waking a second one takes longer than the work."""
    assert tempo.Tempo(1e6, at_most=8).candidates == [1]
    assert tempo.Tempo(3 * tempo.SMALLEST_SHARE, at_most=64).candidates == [1, 2, 3]
    assert tempo.Tempo(1e12, at_most=6).candidates == [1, 2, 4, 6]
    assert max(tempo.Tempo(1e12).candidates) == tempo.n_cores()

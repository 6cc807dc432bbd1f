"""The compiled learner: libraries, threads, numbers. That it agrees with eager in all options is in test_learners.py."""

import copy
import ctypes
import os
import pickle
import shutil
import sys
import threading
from functools import partial

import numpy as np
import pytest
import torch as th
from conftest import needs_library
from gymnasium import spaces
from test_learners import SMALL, assert_equal_states, make_batch, make_model, state_of, train
from torch import nn

from sb3_ddpg_ext import DDPG, native
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners import CompiledLearner, EagerLearner, FusedLearner, UpdateSettings, compiled, tempo
from sb3_ddpg_ext.native.loading import FOLDER, library
from sb3_ddpg_ext.networks import normed_layers
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.policies.compiled_actor import CompiledActor

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
    """After 50 updates, parameters are about as near to those of float64 as eager's in float32 are."""
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


@pytest.mark.usefixtures("level")
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


class Rounded(th.autograd.Function):
    """A product of matrices that have been rounded to bfloat16, and its gradients by such products; sums are not rounded."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return rounded(x) @ rounded(weight).T

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return rounded(gradient) @ rounded(weight), rounded(gradient).T @ rounded(x)


def rounded(tensor):
    return tensor.to(th.bfloat16).to(tensor.dtype)


def rounding_linear(x, weight, bias, linear=th.nn.functional.linear):
    """The products that are rounded are those between wide layers."""
    is_wide = min(weight.shape) >= 64
    return Rounded.apply(x, weight) + bias if is_wide else linear(x, weight, bias)


@pytest.mark.skipif(library("bf16") is None, reason="needs a processor with AMX, or one of AMD's with AVX512_BF16")
@pytest.mark.parametrize("n", [1, 40, 77, 256])
@pytest.mark.parametrize("arch", [[64, 64], [131, 70, 65], [400, 300]], ids=str)
@pytest.mark.parametrize("is_joint", [False, True])
def test_bf16_rounds_what_products_of_wide_layers_multiply(monkeypatch, is_joint, arch, n):
    """Its gradients are those of rounded products to what a few numbers on an edge of rounding make of it."""
    norm = "layer" if n == 1 or not is_joint else "batch"
    kwargs = dict(net_arch=arch, n_critics=2, critic_norm=norm)
    if is_joint:
        kwargs |= dict(actor_norm=norm, target_networks=False, critic=dict(kind="categorical", n_atoms=21))
        eps = 1e-3 if norm == "batch" else 1e-8  # no steps of the rounding errors of biases before BatchNorm
        kwargs |= dict(optimizer_kwargs=dict(eps=eps))
    gradients = {}
    for name, cls, precision in (
        ("bf16", CompiledLearner, "bf16"), ("rounded", EagerLearner, "float32"), ("exact", EagerLearner, "float32")
    ):  # fmt: skip
        model = make_model(dtype=th.float32, policy_kwargs=kwargs)
        with monkeypatch.context() as patch:
            if name == "rounded":
                patch.setattr("torch.nn.functional.linear", rounding_linear)
            learner = cls(model.policy, UpdateSettings(precision=precision, tau=0.3))
            learner.update(make_batch(th.Generator().manual_seed(n), n, th.float32))
        networks = model.critic, model.actor
        gradients[name] = [th.cat([p.grad.flatten() for p in net.parameters()]) for net in networks]
        if name == "bf16":
            assert learner.eager is None
    share = 0.6 if is_joint else 0.1  # eager from parameters 1e-7 apart, by batch statistics: up to half of what rounding does
    for mine, its, exact in zip(*gradients.values(), strict=True):
        assert (mine - its).norm() < share * (its - exact).norm() < 0.1 * share * exact.norm()


@pytest.mark.skipif(library("bf16") is None, reason="needs a processor with AMX, or one of AMD's with AVX512_BF16")
@pytest.mark.parametrize("joint", [{}, dict(target_networks=False, critic_norm="batch")], ids=["targets", "joint"])
def test_bf16_depends_on_no_threads_and_passes_nan_on(joint):
    """As in float32, with blocks of any width; and parameters that a callback changes are seen."""
    states = []
    for n in (1, 2, 3, 7):
        model = make_model(dtype=th.float32, policy_kwargs=dict(net_arch=[70, 66], **joint))
        learner = with_threads(n)(model.policy, UpdateSettings(precision="bf16"))
        for i in range(4):
            learner.update(make_batch(th.Generator().manual_seed(i), 141, th.float32))
            hidden = next(p for p in model.critic.q_networks[0].parameters() if p.shape == (66, 70))
            hidden.data.mul_(0.9)
        states.append(state_of(model))
    for other in states[1:]:
        assert all(th.equal(value, other[key]) for key, value in states[0].items())
    hidden.data[3, 4] = th.nan
    assert np.isnan(learner.update(make_batch(th.Generator().manual_seed(9), 141, th.float32))["critic_loss"])


@pytest.mark.skipif(library("bf16") is None, reason="needs a processor with AMX, or one of AMD's with AVX512_BF16")
def test_bf16_keeps_a_transition_with_nan_apart():
    """What fills up rows of words is zero: NaN in one transition is in no other's error, and in no later batch."""
    batch, gradients = make_batch(th.Generator().manual_seed(3), 77, th.float32), []
    for has_nan in (True, False):
        model = make_model(dtype=th.float32, policy_kwargs=dict(net_arch=[131, 70, 65]))
        learner = CompiledLearner(model.policy, UpdateSettings(precision="bf16"))
        if has_nan:
            before = {key: value.clone() for key, value in state_of(model).items()}
            observations = batch.observations.clone()
            observations[75] = th.nan
            learner.update(batch._replace(observations=observations, indices=np.arange(77)))
            assert th.isfinite(learner.errors).flatten().logical_not().nonzero().tolist() == [[75]]
            for key, value in state_of(model).items():
                value.copy_(before[key]) if key in before else value.zero_()  # moments that the update has begun
        learner.update(batch)
        gradients.append([p.grad.clone() for net in (model.critic, model.actor) for p in net.parameters()])
    assert all(map(th.equal, *gradients))


def test_several_trainings_at_once():
    """Whoever finds the threads taken works alone."""
    models = [make_model(dtype=th.float32, policy_kwargs=dict(net_arch=[64, 64])) for _ in range(4)]
    learners = [with_threads(3)(model.policy, UpdateSettings()) for model in models]
    batches = [make_batch(th.Generator().manual_seed(i), 128, th.float32) for i in range(50)]
    threads = [threading.Thread(target=lambda each=each: [each.update(batch) for batch in batches]) for each in learners[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    for batch in batches:
        learners[0].update(batch)
    for learner, other in zip(learners[1:], models[1:], strict=True):
        assert learner.n_updates == len(batches)
        assert_equal_states(models[0], other, 0)


def replaced(policy):
    policy.actor.mu[0].weight = nn.Parameter(3 * policy.actor.mu[0].weight.detach())


def assigned(policy):
    policy.load_state_dict({key: 2 * value for key, value in policy.state_dict().items()}, assign=True)


def transposed(policy):
    policy.actor.mu[2].weight.data = th.from_numpy(np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16).T)


def turned(policy):
    policy.actor.mu[2].weight.data = policy.actor.mu[2].weight.data.t()


def widened(policy):
    for layer, shape in ((policy.actor.mu[0], (300, 3)), (policy.actor.mu[2], (16, 300))):
        layer.weight.data = th.linspace(-1, 1, 900 if shape[0] == 300 else 4800).view(shape)
    policy.actor.mu[0].bias.data = th.zeros(300)


@pytest.mark.parametrize(
    "change", [replaced, assigned, transposed, turned, widened, th.nn.Module.double], ids=lambda f: f.__name__
)
def test_acting_follows_the_parameters(change):
    """Whatever is done to them: what is not as it was is looked at anew."""
    policy = DDPG("MlpPolicy", "Pendulum-v1", **SMALL).policy
    obs = np.array([0.3, -1.0, 0.5], np.float32)
    before, _ = policy.predict(obs)
    change(policy)
    with th.no_grad():
        mu = policy.actor.mu(th.from_numpy(obs)[None].to(policy.actor.mu[0].weight.dtype))
    np.testing.assert_allclose(policy.predict(obs)[0], policy.unscale_action(mu.numpy())[0], atol=1e-5)
    if change is not nn.Module.double:
        assert abs(policy.predict(obs)[0] - before) > 1e-3


def test_functions_far_out():
    """SiLU's small values, where 1 - 1 would have nothing left."""
    policy = DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(policy_kwargs=dict(net_arch=[1], activation_fn=nn.SiLU))).policy
    for parameter in policy.actor.parameters():
        parameter.data.fill_(0)
    policy.actor.mu[0].weight.data[0, 0] = 1
    policy.actor.mu[2].weight.data.fill_(1e4)
    for x in (-15.0, -18.0, -3.0, 0.1):
        exact = np.tanh(1e4 * x / (1 + np.exp(-x)))
        acted = policy.plain_actor()(np.array([[x, 0, 0]], np.float32))[0, 0]
        assert acted == pytest.approx(exact, rel=1e-5)


def test_batches_that_do_not_fit():
    """A single weight is for all transitions, as with torch; what cannot be is an error, before C reads any of it."""
    batch = make_batch(th.Generator().manual_seed(0), 32, th.float32)
    losses = []
    for cls in (EagerLearner, CompiledLearner):
        learner = cls(make_model(dtype=th.float32).policy, UpdateSettings())
        losses.append(
            float(learner.update(batch._replace(weights=th.full((1, 1), 0.5), dones=batch.dones[:1]))["critic_loss"])
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, wrong in (("next_observations", batch.next_observations[:4]), ("actions", batch.actions[:, [0, 0]])):
        with pytest.raises(RuntimeError, match="size"):
            learner.update(batch._replace(**{name: wrong}))
    with pytest.raises(ValueError, match="rewards of the batch must be on the CPU, not on meta"):
        learner.update(batch._replace(rewards=batch.rewards.to("meta")))


def test_precision_of_a_living_model():
    """It is not ignored when it changes in the middle."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, **SMALL).learn(20)
    model.precision = "bf16"
    if library("bf16") is not None:
        model.train(1, 16)
        assert model._trainer.learner.library is library("bf16")
    else:
        with pytest.warns(UserWarning, match="the eager learner takes over from the compiled one: precision='bf16'"):
            model.train(1, 16)
        assert not model._trainer.learner.has_own_threads


def test_default_type_of_torch():
    """Adam counts its steps in float32 whatever that is."""
    model = make_model(dtype=th.float32)
    th.set_default_dtype(th.float64)
    try:
        learner = CompiledLearner(model.policy, UpdateSettings())
        for i in range(3):
            learner.update(make_batch(th.Generator().manual_seed(i), 8, th.float32))
    finally:
        th.set_default_dtype(th.float32)
    assert {state["step"].item() for state in model.actor.optimizer.state.values()} == {3.0}


def test_elu_with_a_negative_alpha():
    """Its derivative cannot be told from its output."""
    policy = make_model(policy_kwargs=dict(activation_fn=partial(nn.ELU, -0.5))).policy
    for cls in (CompiledLearner, FusedLearner):
        assert "ELU" in cls.reason_against(policy, UpdateSettings())


def test_another_level_where_a_library_is_missing(monkeypatch, tmp_path):
    """Each library is optional: the next best one is taken. One that is older than its sources is none."""
    module, level = sys.modules["sb3_ddpg_ext.native.loading"], native.levels_here()[-1]
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "update.c").write_text("")
    for built in native.levels_here():
        for type_name in ["float", "double"] if built == level else ["float"]:
            name = f"ddpg_{built}_{type_name}.so"
            shutil.copy(FOLDER / name, tmp_path / name)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    module.library.cache_clear()
    module.levels_here.cache_clear()
    try:
        assert library("double")._name == str(tmp_path / f"ddpg_{level}_double.so")
        os.utime(tmp_path / "source" / "update.c", (2e9, 2e9))
        module.library.cache_clear()
        module.levels_here.cache_clear()
        assert library("double") is None
    finally:
        module.library.cache_clear()
        module.levels_here.cache_clear()


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


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("activation_fn", [nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.Mish])
def test_acting_for_many_environments(activation_fn, norm, level):
    """Autograd's actions to rounding, for any number up to 64; those of one observation do not depend on the others."""
    policy = make_model(policy_kwargs=dict(net_arch=[37, 80], activation_fn=activation_fn, actor_norm=norm)).policy
    policy.actor.set_training_mode(False)
    observations = np.random.default_rng(0).normal(size=(64, 3)) * 3
    with th.no_grad():
        expected = policy.actor(th.from_numpy(observations)).numpy()
    compiled = CompiledActor.make(normed_layers(policy.actor.mu))
    whole = compiled(observations)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-12)
    for n in (1, 2, 3, 15, 16, 17, 63):
        some = compiled(observations[-n:])
        np.testing.assert_allclose(some, expected[-n:], rtol=0, atol=1e-12)
        assert n == 1 or np.array_equal(some, whole[-n:])


@pytest.mark.parametrize(("width", "n", "n_calls"), [(16, 64, 1), (16, 65, 0), (16, 0, 0), (5000, 1, 1), (5000, 2, 0)])
def test_acting_for_more_than_the_library_takes(width, n, n_calls, monkeypatch):
    """Torch acts for more than 64 observations, for none, and for several where layers are very wide."""
    policy = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[width]), learner="compiled").policy
    observations = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    with th.no_grad():
        expected = policy.unscale_action(policy.actor(th.from_numpy(observations)).numpy())
    calls, act = [], CompiledActor.in_units
    monkeypatch.setattr(CompiledActor, "in_units", lambda self, given: calls.append(1) or act(self, given))
    np.testing.assert_allclose(policy.predict(observations)[0], expected, atol=1e-5)
    assert len(calls) == n_calls


def acting_policy(space, n_inputs=19, cls=DDPGPolicy):
    policy = cls(spaces.Box(-1, 1, (n_inputs,)), space, lambda _: 1e-3, net_arch=[17])
    policy.acts_exactly = False
    return policy


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_acting_by_another_epsilon(norm):
    """It is seen at the next action."""
    kwargs = dict(net_arch=[16], actor_norm=norm)
    policy = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, learner="compiled", device="cpu").policy
    observations = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    before, _ = policy.predict(observations)
    policy.actor.mu[1].eps = 0.5
    after, _ = policy.predict(observations)
    assert not np.array_equal(after, before)
    policy.actor.set_training_mode(False)
    with th.no_grad():
        scaled = policy.actor(th.from_numpy(observations)).numpy()
    np.testing.assert_allclose(after, policy.unscale_action(scaled), rtol=1e-5, atol=1e-6)


UNEVEN = spaces.Box(np.array([-0.3, 0.1, -9], np.float32), np.array([0.7, 0.3, 1e6], np.float32))
DOUBLE = spaces.Box(-0.3, 0.7, (3,), np.float64)


@pytest.mark.parametrize(("space", "has_units"), [(UNEVEN, True), (DOUBLE, False), (spaces.Box(-1, 2, (3, 1)), False)])
@pytest.mark.parametrize("n", [1, 5])
def test_units_of_actions(space, has_units, n):
    """Actions are those of unscale_action to rounding, and never outside the bounds, whoever tells their units."""
    policy = acting_policy(space, 5)
    observations = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    assert policy.plain_actor().compiled.has_units == has_units
    for bias in (0.0, 50.0, -50.0):  # at the bounds, too
        with th.no_grad():
            policy.actor.mu[-2].bias.fill_(bias)
            scaled = policy.actor(th.from_numpy(observations)).numpy().reshape(n, *space.shape)
        actions, _ = policy.predict(observations if n > 1 else observations[0])
        np.testing.assert_allclose(np.reshape(actions, scaled.shape), policy.unscale_action(scaled), rtol=1e-5, atol=1e-6)
        assert all(map(space.contains, np.reshape(actions, scaled.shape).astype(space.dtype)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_observations", [1, 3, 40])
def test_observations_that_are_not_finite_are_seen_by_the_library(bad, n_observations):
    """Wherever they stand; a number that is only too large for float32 is not their kind."""
    policy = acting_policy(UNEVEN)
    assert policy.plain_actor().compiled.has_units
    for place in (0, n_observations * 19 // 2, n_observations * 19 - 1):
        observations = np.zeros((n_observations, 19), np.float32)
        observations.flat[place] = bad
        with pytest.raises(ValueError, match="must be finite in every entry"):
            policy.predict(observations)
    with np.errstate(over="ignore"):
        policy.predict(np.full(19, 1e300))
    assert policy.predict(np.zeros(19, np.float32))[0].shape == (3,)


@pytest.mark.parametrize("name", ["unscale_action", "_unscaled"])
@pytest.mark.parametrize("where", ["subclass", "object"])
def test_units_of_a_policy_of_ones_own(name, where):
    """Another way from [-1, 1] to units is asked, wherever it is."""

    def halved(policy, scaled):
        return getattr(DDPGPolicy, name)(policy, scaled) / 2

    plain, obs = acting_policy(UNEVEN), np.ones(19, np.float32)
    other = acting_policy(UNEVEN, cls=type("Own", (DDPGPolicy,), {name: halved}) if where == "subclass" else DDPGPolicy)
    other.load_state_dict(plain.state_dict())
    expected, _ = plain.predict(obs)
    if where == "object":
        np.testing.assert_array_equal(other.predict(obs)[0], expected)
        setattr(other, name, partial(halved, other))
    np.testing.assert_allclose(2 * other.predict(obs)[0], expected, rtol=1e-6)


def test_units_are_the_policys():
    """An actor of another policy acts within the bounds of this one, also where these were changed in place."""
    wide, narrow = (acting_policy(spaces.Box(-size, size, (3,), np.float32)) for size in (10, 1))
    wide.actor = narrow.actor
    obs = np.ones(19, np.float32)
    np.testing.assert_allclose(wide.predict(obs)[0], 10 * narrow.predict(obs)[0], rtol=1e-5)
    with th.no_grad():
        scaled = wide.actor(th.from_numpy(obs[None])).numpy()[0]
    wide.action_space.low[:] = -3
    expected = np.minimum(wide.unscale_action(scaled), 10)
    np.testing.assert_allclose(wide.predict(obs)[0], expected, rtol=1e-5)
    wide.action_space = spaces.Box(-1, 10, (3,), np.float32)
    np.testing.assert_allclose(wide.predict(obs)[0], wide.unscale_action(scaled), rtol=1e-5)


def test_an_actor_without_bounds_is_not_held_within_them():
    """As without the library: only where rounding of tanh would leave them."""
    policy, obs = acting_policy(spaces.Box(-2, 2, (3,))), np.ones(19, np.float32)
    del policy.actor.mu[-1]
    with th.no_grad():
        policy.actor.mu[-1].bias.fill_(5)
        expected = policy.unscale_action(policy.actor(th.from_numpy(obs[None])).numpy()[0])
    assert (expected > 2).all()
    np.testing.assert_allclose(policy.predict(obs)[0], expected, rtol=1e-5)


def test_a_subclass_that_chooses_its_actor():
    """It is asked at each prediction."""

    class Other(DDPGPolicy):
        def acting(self, deterministic):
            return self.actor_target

    policy, obs = acting_policy(UNEVEN, cls=Other), np.ones(19, np.float32)
    before, _ = policy.predict(obs)
    with th.no_grad():
        policy.actor.mu[-2].bias.add_(0.5)
    np.testing.assert_array_equal(policy.predict(obs)[0], before)
    with th.no_grad():
        policy.actor_target.mu[-2].bias.add_(0.5)
    assert (policy.predict(obs)[0] > before).all()


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
        try:
            for _ in range(20):
                learner.update(batch)
        finally:
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
    """More layers or critics than there is room for."""
    for kwargs, settings, reason in (
        (dict(net_arch=[2] * 20), UpdateSettings(), "21 layers"),
        (dict(n_critics=20), UpdateSettings(), "20 critics"),
    ):
        policy = make_model(dtype=th.float32, policy_kwargs=kwargs).policy
        assert reason in CompiledLearner.reason_against(policy, settings)
        assert FusedLearner.reason_against(policy, settings) is None
    assert "bfloat16" in CompiledLearner.reason_against(make_model(dtype=th.bfloat16).policy, UpdateSettings())


def test_where_bfloat16_is_slow_fused_takes_it(monkeypatch):
    """Or where the library was built without it; nothing rounds numbers of 64 bits."""
    in_bf16 = UpdateSettings(precision="bf16")
    assert "float32" in CompiledLearner.reason_against(make_model().policy, in_bf16)
    monkeypatch.setattr(compiled.native, "library", lambda type_name: None if type_name == "bf16" else library(type_name))
    policy = make_model(dtype=th.float32).policy
    assert "a processor that is fast with it" in CompiledLearner.reason_against(policy, in_bf16)
    assert FusedLearner.reason_against(policy, in_bf16) is None
    monkeypatch.setattr("sb3_ddpg_ext.learners.torch_settings.has_amx", lambda: False)
    with pytest.warns(UserWarning, match="brings nothing with learner='fused'"):
        assert DDPG("MlpPolicy", "Pendulum-v1", precision="bf16", **SMALL).learner_name == "fused"


def test_structures_are_those_of_the_libraries(monkeypatch):
    """A library of another version is as good as none."""
    for level in native.levels_here():
        opened = library("float", level)
        assert opened.size_of_plan() == ctypes.sizeof(native.Plan)
        assert opened.size_of_step() == ctypes.sizeof(native.Step)
        assert opened.size_of_acting() == ctypes.sizeof(native.Acting)
    loading = sys.modules["sb3_ddpg_ext.native.loading"]
    monkeypatch.setattr(loading, "ways_to_round", lambda: ["missing"])
    assert library.__wrapped__("bf16", native.levels_here()[0]) is None
    monkeypatch.setattr(loading, "Step", native.Plan)
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

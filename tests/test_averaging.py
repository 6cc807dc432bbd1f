"""The running average of the actor, by which predict(deterministic=True) acts."""

import copy
import pickle

import numpy as np
import pytest
import torch as th
from conftest import needs_library
from torch import nn

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.export import export, load

RATE = 0.1
BATCH_NORM = dict(actor_norm="batch", critic_norm="batch")


def make(rate=RATE, learner="eager", policy_kwargs=None, **kwargs):
    networks = dict(net_arch=[16], actor_average=rate) | (policy_kwargs or {})
    fixed = dict(buffer_size=500, learning_starts=20, batch_size=16, seed=0, device="cpu", action_noise="normal_0.3")
    return DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=networks, learner=learner, **(fixed | kwargs))


def numbers(actor):
    tensors = (*actor.named_parameters(), *actor.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in tensors if tensor.is_floating_point()}


COMPILED = pytest.param("compiled", marks=needs_library)
FORMS = [(name, norm) for name in ("eager", "fused", "compiled") for norm in ("none", "layer", "batch")]
FORMS.remove(("fused", "batch"))  # which it refuses


@pytest.mark.parametrize(
    ("learner", "norm"), [pytest.param(*form, marks=needs_library if form[0] == "compiled" else ()) for form in FORMS]
)
def test_average_follows_the_actor(learner, norm):
    """average <- (1 - rate) average + rate actor after each of the actor's steps, which are every second update here."""
    model = make(learner=learner, policy_kwargs=dict(actor_norm=norm), policy_delay=2)
    model.learn(30)
    for _ in range(7):
        before, n = numbers(model.policy.averaged_actor), model._n_updates
        model.train(1, 16)
        present = numbers(model.actor)
        for name, average in numbers(model.policy.averaged_actor).items():
            rate = RATE if (n + 1) % 2 == 0 else 0
            th.testing.assert_close(average, before[name] + rate * (present[name] - before[name]), rtol=1e-5, atol=1e-7)
    assert model.learner_name == learner


@pytest.mark.parametrize("learner", ["eager", COMPILED])
def test_training_is_as_without(learner):
    """Exploration and learning are by the actor itself: the same bits with and without an average."""
    without, averaged = (make(rate, learner, BATCH_NORM).learn(120) for rate in (0.0, RATE))
    for name, value in without.policy.state_dict().items():
        assert th.equal(averaged.policy.state_dict()[name], value), name
    obs = without._last_obs
    assert np.array_equal(without.predict(obs)[0], averaged.predict(obs)[0])
    assert np.array_equal(without.predict(obs)[0], without.predict(obs, deterministic=True)[0])
    assert not hasattr(without.policy, "averaged_actor")


@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("learner", ["eager", COMPILED])
def test_predict_asks_the_average(learner, hook):
    """With deterministic=True only; also where a hook closes the short way, and whatever mode the networks are in."""
    model = make(learner=learner, policy_kwargs=BATCH_NORM)
    model.learn(100)
    policy = model.policy
    seen = []
    if hook:
        policy.averaged_actor.register_forward_hook(lambda *_: seen.append(1))
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for actor, deterministic in ((policy.actor, False), (policy.averaged_actor, True)):
        policy.set_training_mode(False)
        with th.no_grad():
            expected = policy.unscale_action(actor(th.from_numpy(obs)).numpy())
        for mode in (True, False):
            policy.set_training_mode(mode)
            np.testing.assert_allclose(policy.predict(obs, deterministic=deterministic)[0], expected, atol=1e-5)
            each = [policy.predict(one, deterministic=deterministic)[0] for one in obs]
            np.testing.assert_allclose(each, expected, atol=1e-5)
    assert bool(seen) == hook


def test_copies_and_files_have_it(tmp_path):
    """And its parameters have memory of their own: none brings another's along."""
    model = make()
    model.learn(100)
    obs = np.ones(3, np.float32)
    actions = [model.predict(obs, deterministic=flag)[0] for flag in (False, True)]
    assert not np.allclose(*actions)
    model.save(tmp_path / "model")
    others = [DDPG.load(tmp_path / "model", env=model.get_env()), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for other in others:
        assert [other.predict(obs, deterministic=flag)[0] for flag in (False, True)] == actions
        before = other.policy.averaged_actor.mu[0].weight.clone()
        other.learn(40, reset_num_timesteps=False)
        assert not th.equal(other.policy.averaged_actor.mu[0].weight, before)
    assert model.predict(obs, deterministic=True)[0] == actions[1]
    for parameter in model.policy.averaged_actor.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * 4
        assert not parameter.requires_grad


def test_exported_actor_is_the_average(tmp_path):
    model = make(policy_kwargs=dict(BATCH_NORM, normalize_observations=True))
    model.learn(100)
    actor = load(tmp_path / export(model, tmp_path / "actor", "safetensors", env=model.get_env(), verbose=0)["file"])
    obs = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    np.testing.assert_allclose(actor.predict(obs)[0], model.predict(obs, deterministic=True)[0], atol=1e-5)
    assert not np.allclose(model.predict(obs)[0], model.predict(obs, deterministic=True)[0], atol=1e-3)


def test_normaliser_is_in_common():
    """The statistics of the observations are the policy's, not an average of them."""
    model = make(policy_kwargs=dict(normalize_observations=True))
    model.learn(100)
    assert model.policy.averaged_actor.features_extractor.normaliser is model.policy.normaliser


def test_other_layers_begin_a_new_average():
    model = make()
    model.learn(50)
    model.actor.mu[0] = nn.Linear(3, 16)
    model.actor.optimizer = th.optim.Adam(model.actor.parameters())
    model.learn(1, reset_num_timesteps=False)
    present, average = model.actor.mu[0].weight, model.policy.averaged_actor.mu[0].weight
    th.testing.assert_close(average, present)
    model.learn(20, reset_num_timesteps=False)
    assert not th.allclose(average, present)


def test_way_back_from_nan():
    """The average goes back with the networks, and a NaN in it is noticed."""
    model = make(on_nan="rollback")
    model.learn(60)
    model.actor.mu[0].weight.data[0, 0] = np.nan
    with pytest.warns(UserWarning, match="actor"):
        model.learn(300, reset_num_timesteps=False)
    assert all(th.isfinite(tensor).all() for tensor in numbers(model.policy.averaged_actor).values())


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan"), "0.1", None])
def test_rates_that_are_none(rate):
    with pytest.raises((ValueError, TypeError), match=r"policy_kwargs\['actor_average'\]=.*in \[0, 1\]"):
        make(rate)


def test_recurrent_policies_have_none():
    with pytest.raises(ValueError, match=r"policy_kwargs\['actor_average'\] must be 0 with a recurrent policy"):
        RecurrentDDPG("MlpLstmPolicy", "Pendulum-v1", policy_kwargs=dict(actor_average=0.1))


def test_average_of_an_actor_that_swings_is_steadier():
    """Of an actor that jumps to and fro around a point, the average stays near the point."""
    model = make(0.05)
    policy, generator = model.policy, th.Generator().manual_seed(0)
    centre = policy.actor.mu[0].weight.data.clone()
    for _ in range(300):
        policy.actor.mu[0].weight.data = centre + th.randn(centre.shape, generator=generator)
        policy.average_actor()
    distances = [(net.mu[0].weight - centre).square().mean().sqrt() for net in (policy.actor, policy.averaged_actor)]
    assert distances[1] < 0.25 * distances[0]  # rate / (2 - rate) of its variance: a sixth of its deviation

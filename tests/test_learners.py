"""Every learner against the eager one, and what surrounds an update."""

import contextlib
import copy
import dataclasses
import io
import itertools
import os
import re
import subprocess
import sys
import warnings
from contextlib import nullcontext
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import FASTEST, needs_library
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners import CompiledLearner, CudaGraphLearner, EagerLearner, FusedLearner, UpdateSettings, choose_learner
from sb3_ddpg_ext.learners import torch_settings as settings
from sb3_ddpg_ext.learners.torch_settings import TorchSettings, warn_if_oversubscribed
from sb3_ddpg_ext.policies import DDPGPolicy

OBS_DIM, ACTION_DIM = 3, 1
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU]


class Replayed(CudaGraphLearner):
    """A graph on the CPU: its replay runs the Python code again, with what was recorded."""

    _side_stream = contextlib.nullcontext

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for group in self._groups():
            group["foreach"] = False  # which on the CPU takes no tensor as learning rate

    def _record(self, update):
        self.n_recorded = getattr(self, "n_recorded", 0) + 1
        recorded_at = self.n_updates

        def replay():  # the branch that was recorded, without Python's side effects
            before, self.n_updates = self.n_updates, recorded_at
            losses = update()
            self.n_updates = before
            return losses

        return replay


FAST = [pytest.param(CompiledLearner, marks=needs_library, id="CompiledLearner"), FusedLearner, Replayed]
SMALL = dict(policy_kwargs=dict(net_arch=[16, 16]), batch_size=32, buffer_size=2000, device="cpu", seed=0)


def make_model(layer_norm=False, dtype=th.float64, policy_kwargs=None, policy="MlpPolicy", env="Pendulum-v1", **kwargs):
    """A Pendulum model, with LayerNorm after every hidden Linear where asked."""
    policy_kwargs = dict(net_arch=[16, 12]) | (policy_kwargs or {})
    model = DDPG(policy, env, policy_kwargs=policy_kwargs, buffer_size=100, device="cpu", seed=0, **kwargs)
    policy = model.policy
    if layer_norm:
        for net in (policy.actor, policy.actor_target):
            net.mu = with_layer_norm(net.mu)
        for net in (policy.critic, policy.critic_target):
            for i, q_network in enumerate(net.q_networks):
                net.q_networks[i] = with_layer_norm(q_network)
                setattr(net, f"qf{i}", net.q_networks[i])
        policy.actor.optimizer = th.optim.Adam(policy.actor.parameters(), lr=1e-3)
        policy.critic.optimizer = th.optim.Adam(policy.critic.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(30 if policy.observes else 0):
        obs = rng.normal(1, 2, (1, OBS_DIM))
        if isinstance(policy.observation_space, spaces.Dict):
            obs = {"angle": obs[:, :2], "velocity": obs[:, 2:]}
        policy.observe(obs, rng.normal(3, 1, 1), np.array([False]), 0.9)
    policy.to(dtype)
    return model


def with_layer_norm(net):
    """LayerNorm after each hidden Linear, away from its neutral values, the same in each copy."""
    modules = []
    for module, after in itertools.zip_longest(net, net[1:]):
        modules.append(module)
        if isinstance(module, nn.Linear) and isinstance(after, tuple(ACTIVATIONS)) and module.out_features > ACTION_DIM:
            norm = nn.LayerNorm(module.out_features)
            norm.weight.data = th.linspace(0.5, 1.5, module.out_features)
            norm.bias.data = th.linspace(-0.2, 0.2, module.out_features)
            modules.append(norm)
    return nn.Sequential(*modules)


def make_batch(generator, n, dtype=th.float64):
    draw = lambda *shape: th.randn(*shape, generator=generator, dtype=dtype)  # noqa: E731
    return Batch(
        draw(n, OBS_DIM),
        draw(n, ACTION_DIM).clamp(-1, 1),
        draw(n, OBS_DIM),
        (draw(n, 1) > 1).to(dtype),
        draw(n, 1),
        th.full((n, 1), 0.97, dtype=dtype),
    )


def fitting(model, batch):
    """With its observations in a dict where the model has them so."""
    if not isinstance(model.observation_space, spaces.Dict):
        return batch
    split = lambda obs: {"angle": obs[:, :2], "velocity": obs[:, 2:]}  # noqa: E731
    return batch._replace(observations=split(batch.observations), next_observations=split(batch.next_observations))


def train(model, learner_class, n_updates=50, batch_size=16, first=0, **kwargs):
    """Updates with batches and smoothing noise that depend on ``first`` alone."""
    learner = learner_class(model.policy, UpdateSettings(tau=0.02, **kwargs))
    learner.n_updates = first
    generator = th.Generator().manual_seed(first)
    th.manual_seed(first)
    losses = [learner.update(fitting(model, make_batch(generator, batch_size))) for _ in range(n_updates)]
    return [{name: float(loss) for name, loss in loss.items()} for loss in losses]


def state_of(model):
    """Parameters, targets, and both optimisers' moments and steps."""
    tensors = dict(model.policy.state_dict())
    for name, net in (("actor", model.policy.actor), ("critic", model.policy.critic)):
        for i, state in net.optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.optimizer.{i}.{key}": value for key, value in state.items()}
    return tensors


def assert_equal_states(model, other, tolerance=1e-12):
    mine, its = state_of(model), state_of(other)
    assert mine.keys() == its.keys()
    for key, value in mine.items():
        th.testing.assert_close(value, its[key], rtol=tolerance, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}")


# --- agreement with eager ---------------------------------------------------------------------------------------------------

NETS = [[16, 12], [7], dict(pi=[5], qf=[9, 4, 6]), []]


def compare(learner_class, layer_norm=False, policy_kwargs=None, batch_size=16, **kwargs):
    models = [make_model(layer_norm, policy_kwargs=policy_kwargs) for _ in range(2)]
    losses = [
        train(m, cls, batch_size=batch_size, **kwargs) for m, cls in zip(models, (EagerLearner, learner_class), strict=True)
    ]
    assert_equal_states(*models)
    for mine, its in zip(*losses, strict=True):
        assert mine == pytest.approx(its, rel=1e-9, abs=1e-12)
    initial = make_model(layer_norm, policy_kwargs=policy_kwargs)
    assert not th.equal(initial.critic_target.q_networks[0][0].weight, models[0].critic_target.q_networks[0][0].weight)
    return models


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize("learner_class", FAST, ids=lambda cls: getattr(cls, "__name__", None))
class TestAgreement:
    """In float64, after 50 updates, losses, parameters, targets, moments and steps are those of the eager learner."""

    @pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "layer_norm"])
    @pytest.mark.parametrize("activation_fn", ACTIVATIONS)
    @pytest.mark.parametrize("n_critics", [1, 2, 3])
    def test_networks(self, learner_class, n_critics, activation_fn, layer_norm):
        compare(learner_class, layer_norm, dict(n_critics=n_critics, activation_fn=activation_fn))

    @pytest.mark.parametrize("net_arch", NETS, ids=str)
    def test_shapes(self, learner_class, net_arch):
        compare(learner_class, policy_kwargs=dict(net_arch=net_arch))

    @pytest.mark.parametrize("batch_size", [1, 7, 64, 256])
    def test_batch_sizes(self, learner_class, batch_size):
        compare(learner_class, policy_kwargs=dict(n_critics=2), batch_size=batch_size)

    @pytest.mark.parametrize("policy_delay", [1, 2, 3])
    @pytest.mark.parametrize("target_policy_noise", [0.0, 0.2])
    def test_additions_of_td3(self, learner_class, policy_delay, target_policy_noise):
        compare(
            learner_class,
            policy_kwargs=dict(n_critics=2),
            policy_delay=policy_delay,
            target_policy_noise=target_policy_noise,
            target_noise_clip=0.3,
        )

    @pytest.mark.parametrize(
        ("optimizer_class", "optimizer_kwargs"),
        [
            (th.optim.Adam, dict(betas=(0.5, 0.9), eps=1e-5)),
            (th.optim.Adam, dict(weight_decay=1e-2)),
            (th.optim.AdamW, dict(weight_decay=0.1)),
        ],
        ids=["betas", "weight_decay", "AdamW"],
    )
    def test_optimizers(self, learner_class, optimizer_class, optimizer_kwargs):
        compare(learner_class, policy_kwargs=dict(optimizer_class=optimizer_class, optimizer_kwargs=optimizer_kwargs))

    @pytest.mark.parametrize(
        "policy_kwargs",
        [
            dict(critic_loss="huber"),
            dict(target_q_range=(-0.3, 0.5)),
            dict(n_critics=3, backup="mean", objective="mean", action_l2=0.1),
            dict(n_critics=3, objective="min"),
            dict(activation_fn="mish"),
            dict(critic_weight_decay=0.1),
            dict(critic_weight_decay=0.1, decoupled_weight_decay=True, n_critics=2, critic_norm="layer"),
            dict(normalize_observations=dict(clip=1.5)),
            dict(scale_returns=True),
            dict(action_l2=0.3),
            dict(preactivation_penalty=0.2),
            dict(
                critic_loss="huber", target_q_range=(-1, 1), n_critics=2, backup="mean", activation_fn="mish",
                actor_norm="layer", critic_norm="layer", critic_weight_decay=0.1, action_l2=0.1, preactivation_penalty=0.1,
                normalize_observations=True, scale_returns=True,
            ),
        ],
        ids=str,
    )  # fmt: skip
    @pytest.mark.parametrize("max_grad_norm", [None, 0.01])
    def test_options(self, learner_class, policy_kwargs, max_grad_norm):
        assert FusedLearner.reason_against(make_model(policy_kwargs=policy_kwargs).policy, UpdateSettings()) is None
        compare(learner_class, policy_kwargs=policy_kwargs, max_grad_norm=max_grad_norm)

    @pytest.mark.parametrize(
        "policy_kwargs",
        [{}, dict(normalize_observations=dict(clip=1.5)), dict(action_l2=1.0, normalize_observations=True, n_critics=2)],
        ids=str,
    )
    def test_dicts_of_vectors(self, learner_class, policy_kwargs, monkeypatch, dict_pendulum):
        """Are one vector to the networks; the recipe for goals is among what is fast."""
        monkeypatch.setitem(globals(), "make_model", partial(make_model, policy="MultiInputPolicy", env=dict_pendulum))
        assert FusedLearner.reason_against(make_model(policy_kwargs=policy_kwargs).policy, UpdateSettings()) is None
        compare(learner_class, policy_kwargs=policy_kwargs)

    def test_dicts_of_other_types(self, learner_class, monkeypatch, dict_pendulum):
        """Become floats one by one: large integers beside 16-bit floats stay what they are."""
        spaces_ = {"angle": spaces.Box(-1, 1, (2,), np.float16), "velocity": spaces.Box(-(10**6), 10**6, (1,), np.int32)}
        dict_pendulum.observation_space = spaces.Dict(spaces_)
        monkeypatch.setitem(globals(), "make_model", partial(make_model, policy="MultiInputPolicy", env=dict_pendulum))
        types = {"angle": th.float16, "velocity": th.int32}
        convert = lambda obs: {key: (70_000 * part if key == "velocity" else part).to(types[key]) for key, part in obs.items()}  # noqa: E731
        fit = fitting
        monkeypatch.setitem(
            globals(),
            "fitting",
            lambda model, batch: (fitted := fit(model, batch))._replace(
                observations=convert(fitted.observations), next_observations=convert(fitted.next_observations)
            ),
        )
        monkeypatch.setattr(
            "stable_baselines3.common.policies.preprocess_obs",
            lambda obs, *args, **kwargs: {key: part.double() for key, part in obs.items()},
        )
        models = compare(learner_class, policy_kwargs=dict(normalize_observations=True))
        assert all(value.isfinite().all() for value in state_of(models[1]).values())

    @pytest.mark.parametrize("target_update_interval", [1, 3, 5])
    @pytest.mark.parametrize("policy_delay", [1, 2])
    def test_target_update_interval(self, learner_class, policy_delay, target_update_interval):
        compare(learner_class, policy_delay=policy_delay, target_update_interval=target_update_interval)

    def test_batch_size_changes_between_updates(self, learner_class):
        models = [make_model() for _ in range(2)]
        for model, cls in zip(models, (EagerLearner, learner_class), strict=True):
            learner, generator = cls(model.policy, UpdateSettings(tau=0.02)), th.Generator().manual_seed(0)
            for n in (16, 5, 16, 32, 1, 5):
                learner.update(make_batch(generator, n))
        assert_equal_states(*models)

    def test_switching_in_the_middle(self, learner_class):
        """Eager, this one, eager, this one, on one live policy: as if eager had gone on alone."""
        switching, alone = make_model(), make_model()
        for i, cls in enumerate((EagerLearner, learner_class, EagerLearner, learner_class)):
            train(switching, cls, n_updates=10, first=10 * i)
            train(alone, EagerLearner, n_updates=10, first=10 * i)
        assert_equal_states(switching, alone)

    @pytest.mark.parametrize("order", list(itertools.permutations(["this", "eager"])), ids="-".join)
    def test_saved_by_one_loaded_by_the_other(self, learner_class, order, tmp_path):
        classes = {"this": learner_class, "eager": EagerLearner}
        model, alone = make_model(), make_model()
        train(model, classes[order[0]], n_updates=20)
        model.save(tmp_path / "model")
        loaded = make_model()
        loaded.set_parameters(tmp_path / "model.zip")
        train(loaded, classes[order[1]], n_updates=20, first=20)
        train(alone, EagerLearner, n_updates=20)
        train(alone, EagerLearner, n_updates=20, first=20)
        assert_equal_states(loaded, alone)

    def test_what_is_changed_outside_is_seen(self, learner_class):
        """Loading parameters and optimisers into a live policy, and new memory for its modules."""
        model, alone = make_model(), make_model()
        learner, eager = (
            learner_class(model.policy, UpdateSettings(tau=0.02)),
            EagerLearner(alone.policy, UpdateSettings(tau=0.02)),
        )
        generators = [th.Generator().manual_seed(0) for _ in range(2)]
        saved = [copy.deepcopy((m.policy.state_dict(), m.critic.optimizer.state_dict())) for m in (model, alone)]
        for step in range(12):
            for m, own, generator, (parameters, optimizer) in zip(
                (model, alone), (learner, eager), generators, saved, strict=True
            ):
                if step == 4:
                    m.policy.load_state_dict(parameters)
                if step == 6:
                    m.critic.optimizer.load_state_dict(optimizer)
                if step == 8:
                    for parameter in m.policy.parameters():
                        parameter.data = parameter.data.clone()
                own.update(make_batch(generator, 8))
        assert_equal_states(model, alone)


BATCH = dict(actor_norm="batch", critic_norm="batch", input_norm="batch")
BEYOND_FUSED = [
    (dict(popart=True), "PopArt"),
    (dict(critic="quantile"), "Quantile"),
    (dict(action_layer=1), "LateAction"),
    (dict(critic_dropout=0.1), "Dropout"),
    (dict(net_arch=[8, 8], residual=True), "ResidualBlock"),
    (dict(inverting_gradients=True), "InvertingGradients"),
    (dict(output_norm=1.0), "OutputNormalisation"),
    (dict(dqda_clip=0.1), "dqda_clip"),
]
OPTIONS = [dict(BATCH), dict(critic="categorical"), dict(target_networks=False), dict(preactivation_penalty=0.1)]
OPTIONS += [dict(n_critics=2, objective="mean")]
OPTIONS += [kwargs for kwargs, _ in BEYOND_FUSED if "critic_dropout" not in kwargs]


@pytest.mark.parametrize(("policy_kwargs", "reason"), BEYOND_FUSED, ids=lambda value: str(value))
def test_what_fused_leaves_to_others(policy_kwargs, reason):
    """It says which option it is, and "auto" takes the eager learner."""
    model = make_model(policy_kwargs=policy_kwargs, dtype=th.float32)
    assert reason in FusedLearner.reason_against(model.policy, UpdateSettings())
    assert type(model._trainer.learner) is EagerLearner
    with pytest.raises(ValueError, match=reason):
        make_model(policy_kwargs=policy_kwargs, learner="fused")


class OwnLoss(DDPGPolicy):
    """Counts how often its loss is asked for."""

    n_calls = 0

    def actor_loss(self, batch):
        type(self).n_calls += 1
        return super().actor_loss(batch)


def test_a_loss_of_ones_own_is_used():
    """What a subclass descends is what is trained on, so the written-out gradients are not taken."""
    model = DDPG(OwnLoss, "Pendulum-v1", **SMALL).learn(150)
    assert type(model._trainer.learner) is EagerLearner
    assert OwnLoss.n_calls == model._n_updates


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize("policy_kwargs", OPTIONS, ids=str)
def test_graphs_of_all_options_agree(policy_kwargs):
    """What is recorded and replayed is the eager update, running statistics included."""
    models = [make_model(policy_kwargs=policy_kwargs) for _ in range(2)]
    for model, cls in zip(models, (EagerLearner, Replayed), strict=True):
        model.policy.set_training_mode(True)
        train(model, cls, n_updates=20, policy_delay=2, target_update_interval=3, max_grad_norm=0.1)
    assert_equal_states(*models)


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize("learner_class", [EagerLearner, FusedLearner, pytest.param(CompiledLearner, marks=needs_library)])
def test_hard_copies(learner_class):
    """With tau=1 the targets are the online networks after each interval, and stay between."""
    model = make_model()
    learner = learner_class(model.policy, UpdateSettings(tau=1.0, target_update_interval=4))
    generator = th.Generator().manual_seed(0)
    online, target = model.policy.critic.parameters, model.policy.critic_target.parameters
    kept = [p.detach().clone() for p in target()]
    for step in range(1, 9):
        learner.update(make_batch(generator, 8))
        if step % 4 == 0:
            kept = [p.detach().clone() for p in online()]
        assert all(th.equal(p, q) for p, q in zip(target(), kept, strict=True))
        assert step % 4 == 0 or not any(th.equal(p, q) for p, q in zip(online(), kept, strict=True))


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize("learner_class", [EagerLearner, FusedLearner, pytest.param(CompiledLearner, marks=needs_library)])
def test_gradients_are_clipped_to_their_norm(learner_class):
    """Each network's after its step have the norm asked for, or their own smaller one."""
    model = make_model()
    learner = learner_class(model.policy, UpdateSettings(tau=0.02, max_grad_norm=1e-3))
    learner.update(make_batch(th.Generator().manual_seed(0), 8))
    for net in (model.policy.actor, model.policy.critic):
        norm = th.linalg.vector_norm(th.cat([p.grad.flatten() for p in net.parameters()])).item()
        assert norm == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("learner", ["fused", pytest.param("compiled", marks=needs_library)])
def test_training_agrees_to_rounding(learner):
    """
    Through collection and 200 updates of float32 in the environment, parameters stay within rounding of eager's, in two
    seeds of three: rounding may turn a ReLU on or off, whose gradient Adam makes a step of. Over 40 seeds, from perturbed
    parameters, the largest difference was 1e-6 or less in 39, and 2e-5 in one.
    """
    distances = []
    for seed in range(3):
        models = [
            DDPG("MlpPolicy", "Pendulum-v1", action_noise="normal_0.1", learner=name, **SMALL | dict(seed=seed)).learn(300)
            for name in ("eager", learner)
        ]
        assert [m._n_updates for m in models] == [200, 200]
        assert [m.learner_name for m in models] == ["eager", learner]
        states = [m.policy.state_dict() for m in models]
        distances.append(max((value - states[1][key]).abs().max().item() for key, value in states[0].items()))
    assert np.median(distances) < 5e-5


@pytest.mark.usefixtures("keep_float64")
def test_graphs_are_recorded_once_for_each_kind_of_update():
    """With the actor and without, and again when a constant or the memory changes; learning rates may change freely."""
    model, alone = make_model(), make_model()
    of_updates = UpdateSettings(policy_delay=2)
    learners = Replayed(model.policy, of_updates), EagerLearner(alone.policy, of_updates)
    generators = [th.Generator().manual_seed(0) for _ in range(2)]
    recorded = []
    for step in range(40):
        for m, learner, generator in zip((model, alone), learners, generators, strict=True):
            learner.settings = dataclasses.replace(of_updates, tau=0.02 if step < 20 else 0.1)
            for net in (m.policy.actor, m.policy.critic):
                net.optimizer.param_groups[0]["lr"] = 1e-3 / (1 + step)
                if step == 30:  # new moments, which what was recorded does not know
                    net.optimizer.load_state_dict(copy.deepcopy(net.optimizer.state_dict()))
            learner.update(make_batch(generator, 16))
        recorded.append(getattr(learners[0], "n_recorded", 0))
    assert [recorded[step] for step in (5, 7, 19, 29, 39)] == [0, 2, 2, 4, 6]
    assert_equal_states(model, alone)
    group = model.actor.optimizer.param_groups[0]
    assert (group["lr"], group["capturable"]) == (1e-3 / 40, False)


@pytest.mark.usefixtures("keep_float64")
@pytest.mark.parametrize(("in_place", "has_targets"), [(True, False), (False, False), (False, True)])
def test_graphs_are_recorded_again_for_other_statistics(in_place, has_targets):
    """What was recorded moves the old ones: new memory for a buffer, or a new buffer."""
    models = [make_model(policy_kwargs=dict(BATCH, target_networks=has_targets)) for _ in range(2)]
    learners = [cls(m.policy, UpdateSettings()) for cls, m in zip((EagerLearner, Replayed), models, strict=True)]
    recorded = []
    for step in range(12):
        for m, learner in zip(models, learners, strict=True):
            m.policy.set_training_mode(True)
            if step == 6:  # which changes nothing that was recorded
                m.actor.register_forward_hook(lambda *_: None)
            if step == 8 and in_place:
                m.actor.mu[2].running_mean.data = m.actor.mu[2].running_mean + 1
            elif step == 8:
                m.actor.mu[2].running_mean = m.actor.mu[2].running_mean + 1
            learner.update(make_batch(th.Generator().manual_seed(step), 16))
        recorded.append(getattr(learners[1], "n_recorded", 0))
    assert recorded == [0] * 3 + [1] * 5 + [2] * 4
    assert_equal_states(*models)


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {},
        *OPTIONS,
        dict(normalize_observations=True, scale_returns=True, critic_weight_decay=0.1, target_q_range=(-100, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("policy_delay", [1, 2])
def test_cuda_graph_on_a_gpu(policy_delay, policy_kwargs):
    """
    Recorded and replayed on a GPU: the parameters of the eager update to rounding, then saved and trained on by eager.

    With Adam's usual eps, a gradient that is zero but for rounding, as of a bias before BatchNorm, makes steps as long as
    any other, and so does a ReLU that rounding has flipped: from 1e-7 apart, eager trainings ended 30 of these tolerances
    apart with BatchNorm. With this eps it is a fiftieth of one at most, over six
    seeds of each option.
    """
    policy_kwargs = dict(net_arch=[16, 16], optimizer_kwargs=dict(eps=1e-3)) | policy_kwargs
    models = [
        DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(device="cuda", policy_kwargs=policy_kwargs),
             learner=name, policy_delay=policy_delay, replay_buffer_kwargs=dict(storage_device="cuda")).learn(200)
        for name in ("eager", "cuda_graph")
    ]  # fmt: skip
    for key, value in models[0].policy.state_dict().items():
        th.testing.assert_close(models[1].policy.state_dict()[key], value, rtol=1e-2, atol=1e-3)
    file = io.BytesIO()
    models[1].save(file)
    loaded = DDPG.load(io.BytesIO(file.getvalue()), env=gym.make("Pendulum-v1"), learner="eager")
    assert loaded.learn(200, reset_num_timesteps=False)._n_updates > models[1]._n_updates


@pytest.mark.usefixtures("keep_float64")
def test_agreement_in_the_long_run():
    """After 2,000 updates in float64 too, long after an error of the moments or of their steps would have grown."""
    models = [make_model(policy_kwargs=dict(net_arch=[32, 32])) for _ in range(2)]
    for model, cls in zip(models, (EagerLearner, FusedLearner), strict=True):
        train(model, cls, n_updates=2000)
    assert_equal_states(*models)  # 4e-15 at most from 20 perturbed beginnings


# --- which learner ----------------------------------------------------------------------------------------------------------


class Extractor(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=4)
        self.linear = nn.Linear(OBS_DIM, 4)

    def forward(self, observations):
        return self.linear(observations)


def frozen(model):
    next(model.actor.parameters()).requires_grad_(False)


def hooked(model):
    model.actor.mu[0].register_forward_hook(lambda *args: None)


def with_a_new_layer(model):
    model.actor.mu = nn.Sequential(nn.BatchNorm1d(OBS_DIM), *model.actor.mu)


@pytest.mark.parametrize(
    ("kwargs", "change", "reason"),
    [
        (dict(policy_kwargs=dict(features_extractor_class=Extractor)), None, "Extractor extracts features"),
        (dict(policy_kwargs=dict(optimizer_class=th.optim.RMSprop)), None, "RMSprop, not Adam"),
        (dict(policy_kwargs=dict(optimizer_kwargs=dict(amsgrad=True))), None, "amsgrad=True"),
        (dict(policy_kwargs=dict(activation_fn=nn.GELU)), None, "GELU"),
        ({}, frozen, "frozen"),
        ({}, hooked, "hooks"),
        ({}, with_a_new_layer, "holds other parameters"),
    ],
    ids=["extractor", "optimizer", "amsgrad", "activation", "frozen", "hooks", "new_layer"],
)
def test_fused_says_why_not(kwargs, change, reason):
    """What has no gradients written out is left to eager by "auto"; with "fused" the reason is an error."""
    model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=100, device="cpu", **kwargs)
    if change is not None:
        change(model)
    chosen = choose_learner("auto", model.policy, UpdateSettings())
    assert (chosen.name, chosen.make.func) == ("eager", EagerLearner)
    assert reason in chosen.reasons["fused"]
    with pytest.raises(ValueError, match=f"learner='fused' cannot train this model: .*{reason}"):
        choose_learner("fused", model.policy, UpdateSettings())


def reset_last_layer(model):
    model.critic.q_networks[0][-1] = nn.Linear(16, 1)
    model.critic.optimizer = th.optim.Adam(model.critic.parameters(), lr=1e-3)


def new_optimizer(model):
    model.critic.optimizer = th.optim.Adam(model.critic.parameters(), lr=1e-3)


def scaled_gradient(model):
    model.actor.mu[0].weight.register_hook(lambda gradient: 0.5 * gradient)


def hook_on_the_critic(model):
    model.critic.register_forward_hook(lambda *args: None)


@pytest.mark.parametrize("moment", ["between", "callback"])
@pytest.mark.parametrize("change", [frozen, hooked, reset_last_layer, new_optimizer, scaled_gradient, hook_on_the_critic])
def test_changes_are_seen(change, moment):
    """What is done to a trained model, between trainings or by a callback in one, has the effect that it has with eager."""
    models = []
    for learner in ("eager", "auto"):
        model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, learner=learner, **SMALL).learn(30)
        assert model.learner_name == (FASTEST if learner == "auto" else "eager")

        def callback(locals_, globals_, model=model):
            if model.num_timesteps == 40:
                th.manual_seed(1)
                change(model)
            return True

        if moment == "between":
            th.manual_seed(1)
            change(model)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the eager learner takes over")
            model.learn(40, reset_num_timesteps=False, callback=callback if moment == "callback" else None)
        models.append(model)
    for (key, value), other in zip(models[0].policy.state_dict().items(), models[1].policy.state_dict().values(), strict=True):
        th.testing.assert_close(other, value, rtol=0, atol=3e-3, msg=lambda text, key=key: f"{key}: {text}")
    assert len(models[0].critic.optimizer.state) == len(models[1].critic.optimizer.state)


def test_taking_over_is_warned_of():
    """When a callback hangs something onto a network, the eager learner does the rest, and says why."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, **SMALL).learn(30)
    calls = []
    model.actor.mu[0].register_forward_hook(lambda *args: calls.append(1))
    with pytest.warns(UserWarning, match=f"the eager learner takes over from the {FASTEST} one: .*hooks"):
        model.train(3, 32)
    assert len(calls) == 3


@pytest.mark.parametrize("learner", ["eager", "fused", pytest.param("compiled", marks=needs_library)])
@pytest.mark.parametrize("width", [7, 16])
def test_nan_is_not_hidden(learner, width):
    """A network that has diverged shows it, whatever its width."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(policy_kwargs=dict(net_arch=[width])), learner=learner)
    model.critic.qf0[0].weight.data.fill_(np.nan)
    losses = model._trainer.learner.update(make_batch(th.Generator().manual_seed(0), 8, th.float32))
    assert all(np.isnan(float(loss)) for loss in losses.values())
    assert all(p.isnan().any() for p in model.actor.parameters())


def test_shared_memory_is_kept():
    """Parameters that other processes see stay where these see them."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, **SMALL)
    model.policy.share_memory()
    assert all(p.is_shared() for p in model.learn(30).policy.parameters())


def test_frozen_actor_lets_the_critic_learn():
    """As in a pretraining of the critic."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, **SMALL)
    for parameter in model.actor.parameters():
        parameter.requires_grad_(False)
    before = [p.clone() for p in (*model.actor.parameters(), *model.critic.parameters())]
    model.learn(30)
    moved = [not th.equal(p, q) for p, q in zip(before, (*model.actor.parameters(), *model.critic.parameters()), strict=True)]
    assert moved == [False] * 6 + [True] * 6


def test_model_of_another_machine_can_predict(tmp_path):
    """A learner that cannot be had here is an error where it trains, not where the file is loaded."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    model.learner = "cuda_graph"
    model.save(tmp_path / "model")
    with pytest.warns(UserWarning, match="learner='cuda_graph' cannot train this model: the model is on cpu.*It can predict"):
        loaded = DDPG.load(tmp_path / "model", env=gym.make("Pendulum-v1"), device="cpu")
    np.testing.assert_array_equal(loaded.predict(np.ones(3))[0], model.predict(np.ones(3))[0])
    with pytest.raises(ValueError, match="learner='cuda_graph' cannot train this model"):
        loaded.learn(10)
    assert (
        DDPG.load(tmp_path / "model", env=gym.make("Pendulum-v1"), device="cpu", learner="auto").learn(10).num_timesteps == 10
    )
    loaded.learner = "fuse"
    with pytest.raises(
        ValueError, match=r"learner='fuse': the kind 'fuse' is unknown, did you mean 'fused'\? The kinds are auto, eager"
    ):
        loaded.learn(10)


def test_eager_takes_all_parameters_at_once():
    """Adam's foreach form is chosen, unless the user has chosen otherwise; steps are counted on the CPU."""
    for given, expected in ((None, True), (False, False)):
        kwargs = SMALL | dict(policy_kwargs=dict(net_arch=[8], optimizer_kwargs=dict(foreach=given)))
        model = DDPG("MlpPolicy", "Pendulum-v1", learner="eager", learning_starts=10, **kwargs).learn(15)
        for net in (model.actor, model.critic):
            assert net.optimizer.param_groups[0]["foreach"] is expected
            assert {state["step"].device.type for state in net.optimizer.state.values()} == {"cpu"}


def test_auto_is_announced(capsys):
    """verbose=1 says which learner was chosen, and why a faster one was not."""
    DDPG("MlpPolicy", "Pendulum-v1", verbose=1, **SMALL)
    assert f"Learner: {FASTEST}" in capsys.readouterr().out
    DDPG("MlpPolicy", "Pendulum-v1", verbose=1, **SMALL | dict(policy_kwargs=dict(popart=True)))
    assert re.search("Learner: eager .*fused not: the critic's outputs are those of PopArt", capsys.readouterr().out)


def test_learner_is_chosen_again_by_learn():
    """A layer frozen between two trainings stays as it is."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, **SMALL).learn(30)
    frozen(model)
    before = next(model.actor.parameters()).clone()
    model.learn(30, reset_num_timesteps=False)
    assert th.equal(next(model.actor.parameters()), before)
    assert model._n_updates == 50


# --- precision, flags, threads ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not settings.has_amx(), reason="needs a processor with AMX, which rounds to bfloat16")
@pytest.mark.parametrize("learner", ["eager", "fused"])
def test_bf16_is_close_to_float32(learner):
    """With wide layers, so that there is something to round: near the float32 update, but not equal to it."""
    kwargs = SMALL | dict(policy_kwargs=dict(net_arch=[400, 300]), batch_size=64)
    models = [
        DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, learner=learner, precision=precision, **kwargs).learn(40)
        for precision in ("float32", "bf16")
    ]
    weights = [model.actor.mu[2].weight for model in models]
    assert 0 < (weights[0] - weights[1]).abs().max() < 0.05
    assert all(p.dtype == th.float32 for p in models[1].policy.parameters())


def test_bf16_without_amx_is_warned_of(monkeypatch):
    """Where it brings nothing."""
    monkeypatch.setattr("sb3_ddpg_ext.learners.torch_settings.has_amx", lambda: False)
    with pytest.warns(UserWarning, match="precision='bf16' brings nothing"):
        DDPG("MlpPolicy", "Pendulum-v1", learner="fused", precision="bf16", **SMALL)


def flags():
    return (
        th.get_num_threads(),
        th.backends.mkldnn.matmul.fp32_precision,
        th.backends.mkldnn.fp32_precision,
        bool(np.float32(1e-40) * np.float32(1)),  # False where denormal numbers are flushed
        th.is_grad_enabled(),
        th.is_inference_mode_enabled(),
        th.get_default_dtype(),
    )


@pytest.mark.parametrize("learner", ["eager", "fused"])
@pytest.mark.parametrize("onednn", [False, True])
def test_flags_of_torch_are_left_alone(learner, onednn, monkeypatch):
    """Before and after training, after an error in it, and whatever flags are set in between."""
    monkeypatch.setattr(settings, "prefers_onednn", lambda: onednn)
    kwargs = SMALL | dict(policy_kwargs=dict(net_arch=[256, 256]), batch_size=64)
    before, precision = flags(), th.get_float32_matmul_precision()
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, learner=learner, n_threads=2, **kwargs).learn(20)
    assert flags() == before
    assert th.get_float32_matmul_precision() == precision
    inside = []
    monkeypatch.setattr(model._trainer.learner, "update", lambda batch: inside.append(flags()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.train(1, 64)
    assert flags() == before
    assert inside[0][0] == 2
    assert (inside[0][1] != before[1]) == (onednn and learner == "fused")
    assert inside[0][3] is False
    th.set_flush_denormal(True)  # the user's own flag stays set
    try:
        with pytest.raises(ZeroDivisionError):
            model.train(1, 64)
        assert flags()[3] is False
    finally:
        th.set_flush_denormal(False)


@pytest.mark.parametrize("learner", ["eager", "fused"])
def test_denormal_numbers_do_not_arise(learner):
    """Moments and parameters that have decayed below 1e-38 become zero, instead of slowing down every operation."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=10, learner=learner, **SMALL).learn(20)
    tiny = 1e-39
    with th.no_grad():
        model.actor.mu[0].weight[:4] = tiny  # units that have died: nothing comes in, and nothing goes on
        model.actor.mu[0].bias[:4] = -1
        model.actor.mu[2].weight[:, :4] = tiny
        for state in model.actor.optimizer.state.values():
            state["exp_avg"][:4] = tiny
            state["exp_avg_sq"][:4] = tiny
    model.train(3, 32)
    for state in model.actor.optimizer.state.values():
        for key in ("exp_avg", "exp_avg_sq"):
            magnitude = state[key].abs()
            assert not ((magnitude > 0) & (magnitude < 1e-38)).any(), key


def test_settings_inside_each_other():
    """Of two trainings at once, in threads, the last to end restores torch's setting; inheriting goes on."""
    matmul, parent = th.backends.mkldnn.matmul, th.backends.mkldnn
    before = matmul.fp32_precision, parent.fp32_precision
    first, second = settings.OneDNN(), settings.OneDNN()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert matmul.fp32_precision == "bf16"
    second.__exit__()
    assert (matmul.fp32_precision, parent.fp32_precision) == before
    try:
        parent.fp32_precision = "tf32"
        with settings.OneDNN():
            pass
        parent.fp32_precision = "ieee"
        assert matmul.fp32_precision == "ieee"
    finally:
        parent.fp32_precision = before[1]


def test_without_the_setting_of_torch_2_9(monkeypatch):
    """bf16 then means float32, and nothing is left set."""
    monkeypatch.setattr(settings, "MATMUL", None)
    before = flags()
    kwargs = SMALL | dict(policy_kwargs=dict(net_arch=[256, 256]), batch_size=64)
    with pytest.warns(UserWarning, match="bf16"):
        DDPG("MlpPolicy", "Pendulum-v1", learner="fused", learning_starts=10, precision="bf16", **kwargs).learn(15)
    assert flags() == before


def test_eager_keeps_to_sb3(monkeypatch):
    """learner="eager" means torch's own threads and matrix products, also where the others would choose differently."""
    monkeypatch.setattr(settings, "prefers_onednn", lambda: True)
    before = th.get_num_threads()
    try:
        th.set_num_threads(2)
        exactly, faster = (2, nullcontext), (1, settings.OneDNN)
        for learner, expected in (("eager", exactly), (dict(kind="eager"), exactly), ("auto", faster)):
            model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu", learner=learner)
            inside = model._trainer.torch_settings(256)
            assert (inside.threads.n, type(inside.products)) == expected
    finally:
        th.set_num_threads(before)


def test_only_large_products_use_several_threads(monkeypatch):
    """Everything else of the fused update is done by one, and the number is as before after it."""
    model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu", learner="fused")
    before, seen, mm = th.get_num_threads(), {}, th.mm
    sizes = lambda a, b: (*a.shape, b.shape[1])  # noqa: E731
    monkeypatch.setattr(th, "mm", lambda a, b, out: seen.update({sizes(a, b): th.get_num_threads()}) or mm(a, b, out=out))
    others = set()
    vecdot = th.linalg.vecdot
    monkeypatch.setattr(th.linalg, "vecdot", lambda *a, **k: others.add(th.get_num_threads()) or vecdot(*a, **k))
    with settings.Threads(2):
        model._trainer.learner.update(make_batch(th.Generator().manual_seed(0), 256, th.float32))
        assert th.get_num_threads() == 2
    assert th.get_num_threads() == before
    assert {n for size, n in seen.items() if np.prod(size) > 2e6} == {2}
    assert {n for size, n in seen.items() if np.prod(size) < 2e6} == {1} == others


def test_acting_uses_the_same_threads(monkeypatch):
    """As many as an update: a matrix product with many environments would wait for a busy machine too."""
    model = DDPG("MlpPolicy", "Pendulum-v1", n_threads=3, learner="fused", learning_starts=0, **SMALL)
    before, seen = th.get_num_threads(), []
    predict = model.predict
    monkeypatch.setattr(
        model, "predict", lambda *args, **kwargs: seen.append(th.get_num_threads()) or predict(*args, **kwargs)
    )
    model.learn(3)
    assert (seen, th.get_num_threads()) == ([3, 3, 3], before)


def test_threads_by_size():
    """One thread for the networks of the tutorials, torch's number for large ones, and what the user says in any case."""
    small, large, images = (
        DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu", policy_kwargs=dict(net_arch=net)).policy
        for net in ([400, 300], [1024, 1024], [256, 256])
    )
    before = th.get_num_threads()
    try:
        th.set_num_threads(2)
        assert TorchSettings(small, 256).threads.n == 1
        assert TorchSettings(large, 256).threads.n == 2
        assert TorchSettings(large, 16).threads.n == 1
        assert TorchSettings(images, 256).threads.n == 1
        images.actor.mu.append(nn.Conv2d(1, 1, 1))
        assert TorchSettings(images, 256).threads.n == 2
        assert TorchSettings(small, 256, n_threads=5).threads.n == 5
    finally:
        th.set_num_threads(before)


def test_busy_machine_is_warned_of_once(monkeypatch):
    """Where several threads share the cores with other work; one thread, or an idle machine, is fine."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("os.getloadavg", lambda: (4.2, 0, 0))
    assert not warn_if_oversubscribed(n_threads=1)
    with pytest.warns(UserWarning, match="n_threads=2, but 4.2 threads want this machine's 2 cores.*n_threads=1"):
        assert warn_if_oversubscribed(n_threads=2)
    model = DDPG("MlpPolicy", "Pendulum-v1", n_threads=2, learner="fused", learning_starts=10, **SMALL)
    with pytest.warns(UserWarning, match="n_threads=2") as record:
        model.learn(650, log_interval=1)
    assert len([w for w in record if "n_threads" in str(w.message)]) == 1
    monkeypatch.setattr("os.getloadavg", lambda: (2.0, 0, 0))
    assert not warn_if_oversubscribed(n_threads=2)


# --- in the long run, and beside others -------------------------------------------------------------------------------------

TRAIN = """
import sys, time
from sb3_ddpg_ext import DDPG
model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=100, device="cpu", buffer_size=2000).learn(110)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
model.learn(150, reset_num_timesteps=False)
print(time.perf_counter() - start)
"""


def seconds_of(n_trainings):
    """The slowest of some trainings that start at once, each with torch's default number of threads."""
    pipe = subprocess.PIPE
    runs = [subprocess.Popen([sys.executable, "-c", TRAIN], stdin=pipe, stdout=pipe, text=True) for _ in range(n_trainings)]
    for run in runs:
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    return max(float(run.communicate()[0]) for run in runs)


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_trainings_side_by_side():
    """Two processes on two cores take about as long as one alone: updates of one thread do not wait for each other.

    With torch's own two threads in each, both would take some fifty times as long.
    """
    alone, both = min(seconds_of(1) for _ in range(2)), min(seconds_of(2) for _ in range(2))
    assert both < 4 * alone  # other tests may run beside this one


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["eager", "fused"])
def test_memory_does_not_grow(learner):
    """Between 3,000 and 9,000 steps with their updates, long after the buffer is full, the process stays as it was."""
    code = (
        "import resource\n"
        "from sb3_ddpg_ext import DDPG\n"
        "model = DDPG('MlpPolicy', 'Pendulum-v1', policy_kwargs=dict(net_arch=[16]), batch_size=16, buffer_size=1000,\n"
        f"             learning_starts=10, device='cpu', learner={learner!r})\n"
        "for steps in (3000, 6000):\n"
        "    model.learn(steps, reset_num_timesteps=False, log_interval=None)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after = map(int, out.split())  # KiB on Linux
    assert after - before < 4000

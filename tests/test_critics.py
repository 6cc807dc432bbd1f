"""Critic and actor with their options, against the same by hand; BatchNorm, weight decay and the paper's networks."""

import math
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext import DDPG, DDPGPolicy, PaperCnnPolicy, PaperPolicy
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners import EagerLearner, UpdateSettings
from sb3_ddpg_ext.networks import is_norm
from sb3_ddpg_ext.policies import CnnPolicy, JointCritic
from sb3_ddpg_ext.policies.options import Options

VECTOR, ACTION = spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,))
BATCH_NORM = dict(actor_norm="batch", critic_norm="batch", input_norm="batch")


def make_policy(cls=DDPGPolicy, space=VECTOR, **kwargs):
    th.manual_seed(0)
    kwargs = dict(net_arch=[8, 6]) | kwargs if cls is DDPGPolicy else kwargs
    return cls(space, ACTION, lambda _: 1e-3, **kwargs)


def make_batch(n=16, dtype=th.float32, dones=None, seed=1):
    generator = th.Generator().manual_seed(seed)
    draw = lambda *shape: th.randn(shape, generator=generator, dtype=dtype)  # noqa: E731
    done = th.zeros(n, 1, dtype=dtype) if dones is None else th.as_tensor(dones, dtype=dtype).reshape(n, 1)
    actions, rewards = draw(n, 2).clamp(-1, 1), draw(n, 1)
    return Batch(draw(n, 3), actions, draw(n, 3), done, rewards, th.full((n, 1), 0.9, dtype=dtype))


def set_outputs(critic, outputs):
    """Let each network give out the same numbers for every input."""
    with th.no_grad():
        for net, values in zip(critic.q_networks, outputs, strict=True):
            net[-1].weight.zero_()
            net[-1].bias.copy_(th.tensor(values))


class TestSeveralCritics:
    @pytest.mark.parametrize(("backup", "next_q"), [("min", -2.0), ("mean", 1.0)])
    def test_scalar_backup(self, backup, next_q):
        """y = r + gamma (1 - d) min_i Q_i, or mean_i Q_i."""
        critic = make_policy(n_critics=3, backup=backup).critic
        set_outputs(critic, [[1.0], [-2.0], [4.0]])
        batch = make_batch(2, dones=[0, 1])
        expected = batch.rewards + th.tensor([[0.9 * next_q], [0.0]])
        assert th.allclose(critic.backup(batch, batch.actions), expected)

    @pytest.mark.parametrize(("objective", "value"), [("first", 1.0), ("mean", 1.0), ("min", -2.0)])
    @pytest.mark.parametrize("first", [1.0, 7.0])
    def test_what_the_actor_climbs(self, objective, value, first):
        """The first network, the mean, or the minimum."""
        critic = make_policy(n_critics=3, objective=objective).critic
        set_outputs(critic, [[first], [-2.0], [4.0]])
        expected = {"first": first, "mean": (first + 2.0) / 3, "min": -2.0}[objective]
        batch = make_batch(2)
        assert th.allclose(critic.value(batch.observations, batch.actions), th.full((2, 1), expected))

    def test_min_of_distributions_is_one_of_them(self):
        """With "min", the distribution of the smaller mean, not the smaller probability of each atom."""
        critic = make_policy(n_critics=2, critic=dict(kind="categorical", n_atoms=3, v_min=-1, v_max=1)).critic
        wide, narrow = [math.log(0.5), -40.0, math.log(0.5)], [-40.0, math.log(0.9), math.log(0.1)]  # means 0 and 0.1
        set_outputs(critic, [narrow, wide])
        batch = make_batch(2)._replace(rewards=th.zeros(2, 1), discounts=th.ones(2, 1))
        assert th.allclose(critic.backup(batch, batch.actions), th.tensor([[0.5, 0.0, 0.5]]).expand(2, -1), atol=1e-6)

    def test_min_is_taken_for_each_sample(self):
        """Another transition may have another network as the smaller one."""
        critic = make_policy(n_critics=2, net_arch=[], critic=dict(kind="quantile", n_quantiles=2)).critic
        with th.no_grad():
            for net, sign in zip(critic.q_networks, (1.0, -1.0), strict=True):
                net[0].weight.zero_()
                net[0].weight[:, 3] = sign
                net[0].bias.copy_(th.tensor([-0.1, 0.1]))
        batch = make_batch(2)._replace(rewards=th.zeros(2, 1), discounts=th.ones(2, 1))
        target = critic.backup(batch, th.tensor([[0.5, 0.0], [-0.3, 0.0]]))
        assert th.allclose(target, th.tensor([[-0.6, -0.4], [-0.4, -0.2]]))

    def test_mean_of_distributions(self):
        """With "mean", the average of the probabilities."""
        critic = make_policy(n_critics=2, backup="mean", critic=dict(kind="categorical", n_atoms=3, v_min=-1, v_max=1)).critic
        set_outputs(critic, [[0.0, -40.0, -40.0], [-40.0, -40.0, 0.0]])
        batch = make_batch(2)._replace(rewards=th.zeros(2, 1), discounts=th.ones(2, 1))
        assert th.allclose(critic.backup(batch, batch.actions), th.tensor([[0.5, 0.0, 0.5]]).expand(2, -1), atol=1e-6)

    def test_loss_is_summed_over_networks(self):
        """Each network learns as if it were alone."""
        policy, batch = make_policy(n_critics=2), make_batch()
        target = th.randn(16, 1)
        expected = sum(F.mse_loss(q, target) for q in policy.critic(batch.observations, batch.actions))
        assert th.allclose(policy.critic.loss(batch, target)[0], expected)


@pytest.mark.parametrize("kind", ["scalar", "categorical", "quantile"])
def test_td_errors(kind):
    """y - Q(s, a) of expectations, without effect on modes and statistics."""
    policy = make_policy(critic=kind, n_critics=2, **BATCH_NORM)
    policy.set_training_mode(True)
    batch, before = make_batch(dones=[1, 0] * 8), {name: b.clone() for name, b in policy.named_buffers()}
    next_actions = th.zeros(16, 2)
    errors = policy.critic.td_errors(batch, policy.critic_target, next_actions)
    assert policy.critic.training
    assert all(th.equal(buffer, before[name]) for name, buffer in policy.named_buffers())
    policy.set_training_mode(False)
    with th.no_grad():
        next_q = th.min(*policy.critic_target(batch.next_observations, next_actions))
        q = policy.critic(batch.observations, batch.actions)[0]
    expected = batch.rewards + 0.9 * (1 - batch.dones) * next_q - q
    assert th.allclose(errors, expected, atol=1e-2 if kind == "categorical" else 1e-5)  # whose ends cut a little off


def test_return_scaling_scales_rewards_alone():
    """In the target; the batch and its discounts stay."""
    policy, batch = make_policy(scale_returns=True), make_batch()
    policy.return_scaler.update(np.array([50.0]), np.array([False]), 0.9)
    plain = make_policy()
    plain.load_state_dict(policy.state_dict(), strict=False)
    factor = policy.return_scaler.factor
    assert 0 < factor < 0.2
    expected = plain.critic.backup(batch._replace(rewards=batch.rewards * factor), batch.actions)
    assert th.allclose(policy.critic.backup(batch, batch.actions), expected)


def test_features_extractors_are_initialised():
    """Convolutions and linear layers before the networks' own, in the targets too."""
    image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    policy = CnnPolicy(image, spaces.Box(-1, 1, (1,)), lambda _: 1e-3, [4], init=dict(kind="normal", std=3.0))
    for net in (policy.actor, policy.critic, policy.actor_target, policy.critic_target):
        layers = [m for m in net.features_extractor.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        assert len(layers) == 4
        assert all(2 < layer.weight.std() < 4 for layer in layers)


def test_range_of_targets_is_that_of_rewards():
    """With scaled returns the bounds are scaled too."""
    policy, batch = make_policy(scale_returns=True, target_q_range=(-100, 0)), make_batch(dones=[1] * 16)
    policy.return_scaler.factor.fill_(0.01)
    batch = batch._replace(rewards=th.linspace(-500, 300, 16)[:, None])
    target = policy.critic.backup(batch, batch.actions)
    assert th.allclose(target, batch.rewards.clamp(-100, 0) * 0.01)


class TestPopArt:
    @pytest.mark.parametrize(
        "kwargs", [{}, dict(action_layer=1, action_branch=[5]), dict(net_arch=[8, 8], residual=True)], ids=str
    )
    def test_value_is_preserved_when_the_critic_learns_a_new_scale(self, kwargs):
        """The loss moves the statistics; online and target networks keep their Q, to rounding."""
        policy, batch = make_policy(n_critics=2, popart=True, **kwargs).double(), make_batch(dtype=th.float64)
        before = [critic(batch.observations, batch.actions) for critic in (policy.critic, policy.critic_target)]
        policy.critic.loss(batch, 100 + 50 * th.randn(16, 1, dtype=th.float64))[0]
        assert policy.critic.head.popart.sigma > 20
        after = [critic(batch.observations, batch.actions) for critic in (policy.critic, policy.critic_target)]
        for was, now in zip(before, after, strict=True):
            assert all(th.allclose(a, b, atol=1e-9) for a, b in zip(was, now, strict=True))

    def test_statistics_are_one(self):
        """Both critics share them, so that the soft update mixes parameters of one scale."""
        policy = make_policy(popart=True)
        assert policy.critic.head.popart is policy.critic_target.head.popart


class TestJointCritic:
    def test_loss_by_hand(self):
        """One pass of both halves in training mode; the half of the next observations gives the target, without a gradient."""
        policy = make_policy(target_networks=False, **BATCH_NORM)
        batch, next_actions = make_batch(dones=[1, 0] * 8), th.rand(16, 2)
        policy.set_training_mode(True)
        loss = policy.critic.loss(batch, policy.critic.backup(batch, next_actions))[0]
        loss.backward()
        mine = [p.grad.clone() for p in policy.critic.parameters()]
        other = make_policy(target_networks=False, **BATCH_NORM)
        other.set_training_mode(True)
        x = th.cat([th.cat([batch.observations, batch.actions], 1), th.cat([batch.next_observations, next_actions], 1)])
        q, next_q = other.critic.qf0(x).chunk(2)
        expected = F.mse_loss(q, (batch.rewards + 0.9 * (1 - batch.dones) * next_q).detach())
        expected.backward()
        assert th.allclose(loss, expected)
        assert all(th.allclose(a, p.grad) for a, p in zip(mine, other.critic.parameters(), strict=True))

    def test_there_are_no_targets(self):
        """Actor and critic stand for them, and an update does not average anything with itself."""
        policy = make_policy(target_networks=False, **BATCH_NORM)
        assert policy.actor_target is policy.actor
        assert policy.critic_target is policy.critic
        assert type(policy.critic) is JointCritic
        learner = EagerLearner(policy, UpdateSettings(tau=0.5))
        policy.set_training_mode(True)
        before = policy.critic.qf0.get_submodule("1")[-1].weight.clone()
        learner.update(make_batch())
        step = (policy.critic.qf0.get_submodule("1")[-1].weight - before).abs().max()
        assert 0 < step <= 1.01e-3  # the first step of Adam with a learning rate of 1e-3, and nothing else

    def test_statistics_of_the_actor_are_of_its_own_step(self):
        """The next actions are taken in evaluation mode: BatchNorm of the actor counts one batch for each update."""
        policy = make_policy(target_networks=False, **BATCH_NORM)
        learner = EagerLearner(policy, UpdateSettings(tau=0.5))
        policy.set_training_mode(True)
        for _ in range(3):
            learner.update(make_batch())
        assert {int(m.num_batches_tracked) for m in policy.actor.modules() if isinstance(m, nn.BatchNorm1d)} == {3}
        assert {int(m.num_batches_tracked) for m in policy.critic.modules() if isinstance(m, nn.BatchNorm1d)} == {3}


class TestBatchNorm:
    @pytest.mark.parametrize("norm", ["batch", "batch-renorm"])
    def test_targets_copy_the_statistics(self, norm):
        """After an update they equal the online ones, while parameters are averaged."""
        policy = make_policy(actor_norm=norm, critic_norm=norm, input_norm=norm)
        learner = EagerLearner(policy, UpdateSettings(tau=0.1))
        for seed in range(3):
            policy.set_training_mode(True)
            learner.update(make_batch(seed=seed))
        for net, target in ((policy.actor, policy.actor_target), (policy.critic, policy.critic_target)):
            buffers = dict(target.named_buffers())
            assert len(buffers) >= 6
            assert all(th.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())
            assert not any(th.equal(p, q) for p, q in zip(net.parameters(), target.parameters(), strict=True) if p.ndim == 2)

    def test_the_actor_s_step_leaves_the_critic_s_statistics(self):
        """The critic has seen as many batches as there were updates of its own, and none with the actor's actions."""
        policy = make_policy(**BATCH_NORM)
        policy.set_training_mode(True)
        before = {name: b.clone() for name, b in policy.critic.named_buffers()}
        policy.actor.loss(make_batch().observations, policy.critic)
        assert all(th.equal(b, before[name]) for name, b in policy.critic.named_buffers())
        assert policy.critic.training

    def test_targets_stay_in_evaluation_mode(self):
        """Their statistics are never those of a batch."""
        policy = make_policy(**BATCH_NORM)
        policy.set_training_mode(True)
        assert not any(m.training for net in (policy.actor_target, policy.critic_target) for m in net.modules())

    @pytest.mark.parametrize("target_statistics", ["running", "batch"])
    def test_statistics_of_the_targets_in_an_update(self, target_statistics):
        """Running ones are copies; those of the batch make the target's layers see mean 0 and variance 1, dropout aside."""
        policy = make_policy(target_statistics=target_statistics, critic_dropout=0.3, **BATCH_NORM)
        policy.set_training_mode(True)
        batch, norm = make_batch()._replace(next_observations=5 + 3 * make_batch().observations), {}
        hook = policy.actor_target.mu[0].register_forward_hook(lambda module, inputs, output: norm.update(out=output))
        next_actions = policy.actor_target(batch.next_observations)
        hook.remove()
        mean, variance = norm["out"].mean(dim=0), norm["out"].var(dim=0, correction=0)
        assert th.allclose(mean, th.zeros(3), atol=1e-5) == (target_statistics == "batch")
        assert th.allclose(variance, th.ones(3), atol=1e-3) == (target_statistics == "batch")
        targets = [policy.critic_target.backup(batch, next_actions) for _ in range(2)]
        assert th.equal(*targets)
        policy.set_training_mode(False)
        assert not any(m.training for m in policy.actor_target.modules())

    def test_acting_uses_running_statistics(self):
        """One observation gets the action that it gets among others, and nothing is learnt from it."""
        model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[8], **BATCH_NORM), learning_starts=50, seed=0)
        model.learn(100)
        obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
        before = {name: b.clone() for name, b in model.policy.named_buffers()}
        together = model.predict(obs)[0]
        alone = np.concatenate([model.predict(one)[0][None] for one in obs])
        assert np.allclose(together, alone, atol=1e-6)
        assert all(th.equal(b, before[name]) for name, b in model.policy.named_buffers())


def test_dropout_is_for_the_critic_s_loss_alone():
    """What the actor climbs, and the target, are the whole network's."""
    policy, batch = make_policy(critic_dropout=0.5), make_batch()
    policy.set_training_mode(True)
    value = [policy.critic.value(batch.observations, batch.actions) for _ in range(2)]
    target = [policy.critic_target.backup(batch, batch.actions) for _ in range(2)]
    loss = [policy.critic.loss(batch, target[0])[0] for _ in range(2)]
    assert th.equal(*value)
    assert th.equal(*target)
    assert not th.equal(*loss)


class TestActor:
    def test_neutral_loss(self):
        """-1/N sum_i Q(s_i, mu(s_i)), bit for bit."""
        policy, batch = make_policy(), make_batch()
        expected = -policy.critic.q1_forward(batch.observations, policy.actor(batch.observations)).mean()
        assert th.equal(policy.actor.loss(batch.observations, policy.critic), expected)

    @pytest.mark.parametrize(("weight_p", "weight_a"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
    def test_penalties(self, weight_p, weight_a):
        """Mean squares of what goes into tanh, and of the actions."""
        policy = make_policy(preactivation_penalty=weight_p, action_l2=weight_a)
        batch, plain = make_batch(), make_policy()
        before = plain.actor.mu[:-1](batch.observations)
        expected = plain.actor.loss(batch.observations, plain.critic)
        expected = expected + weight_p * before.square().mean() + weight_a * before.tanh().square().mean()
        assert th.allclose(policy.actor.loss(batch.observations, policy.critic), expected)

    def test_an_actor_of_one_s_own(self):
        """A policy whose actor is no Sequential, and has no loss, learns by eq. 6, and is looked at in the log."""

        class OwnActor(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3, 1)
                self.n_calls = 0

            def forward(self, observations):
                self.n_calls += 1
                return self.linear(observations).tanh()

            def set_training_mode(self, mode):
                self.train(mode)

        class OwnPolicy(DDPGPolicy):
            def make_actor(self, features_extractor=None):
                return OwnActor()

            def _predict(self, observation, deterministic=False):
                return self.actor(observation)

        model = DDPG(OwnPolicy, "Pendulum-v1", learning_starts=50, batch_size=16, seed=0).learn(800)
        assert model.policy.actor.n_calls > 800
        assert model._trainer.diagnostics._n_updates > 0

    def test_forward_is_called(self):
        """What hangs on the actor's forward() sees the observations of its step."""
        policy, seen = make_policy(), []
        policy.actor.register_forward_hook(lambda module, inputs, output: seen.append(output))
        policy.actor_loss(make_batch())
        assert len(seen) == 1

    def test_critic_takes_no_gradient(self):
        """The actor's step leaves nothing behind in the critic (pitfall of stale gradients)."""
        policy = make_policy(**BATCH_NORM)
        learner = EagerLearner(policy, UpdateSettings(tau=0.1))
        policy.set_training_mode(True)
        learner.update(make_batch())
        after_critic = [p.grad.clone() for p in policy.critic.parameters()]
        learner.update_actor(make_batch(seed=5))
        assert all(th.equal(a, p.grad) for a, p in zip(after_critic, policy.critic.parameters(), strict=True))

    @pytest.mark.parametrize("kwargs", [dict(inverting_gradients=True), dict(output_norm=0.5)], ids=str)
    def test_actions_are_within_the_bounds(self, kwargs):
        """Whatever takes the place of tanh, or stands before it."""
        policy = make_policy(init=dict(kind="normal", std=3.0), **kwargs)
        actions = policy.actor(100 * make_batch().observations)
        assert actions.abs().max() <= 1
        if "output_norm" in kwargs:
            assert policy.actor.preactivation(100 * make_batch().observations).abs().mean(1).max() <= 0.5 + 1e-6

    def test_dqda_is_clipped(self):
        """The gradient that reaches the actor is that of dQ/da scaled down in each sample."""
        grads = []
        for kwargs in ({}, dict(dqda_clip=1e-3), dict(dqda_clip=1e9)):
            policy = make_policy(**kwargs)
            policy.actor.loss(make_batch().observations, policy.critic).backward()
            grads.append(policy.actor.mu[-2].bias.grad)
        assert th.equal(grads[0], grads[2])
        assert 0 < grads[1].norm() <= 1e-3 < grads[0].norm()


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(init="normal", last_init=3e-3),
        dict(actor_norm="layer", critic_norm="batch"),
        dict(action_layer=1, action_branch=[5]),
        dict(action_layer=2, action_join="sum"),
        dict(net_arch=[8, 8], residual=True),
        dict(critic="categorical", n_critics=2),
    ],
    ids=str,
)
def test_targets_begin_as_copies(kwargs):
    """Whatever is initialised is so before the copies are taken (pitfalls 12 and 14)."""
    policy = make_policy(**kwargs)
    for net, target in ((policy.actor, policy.actor_target), (policy.critic, policy.critic_target)):
        state = target.state_dict()
        assert all(th.equal(value, state[name]) for name, value in net.state_dict().items())
        assert not {id(p) for p in net.parameters()} & {id(p) for p in target.parameters()}


class TestWeightDecay:
    @pytest.mark.parametrize("norm", ["none", "layer", "batch", "batch-renorm"])
    @pytest.mark.parametrize(
        "kwargs",
        [{}, dict(action_layer=2, action_join="sum"), dict(action_branch=[5]), dict(popart=True)],
        ids=str,
    )
    def test_groups(self, norm, kwargs):
        """The weights of the critic's hidden layers and no others: no norm, no bias, no output, nothing of the actor."""
        policy = make_policy(critic_norm=norm, input_norm=norm, n_critics=2, critic_weight_decay=1e-2, **kwargs)
        decayed, rest = policy.critic.optimizer.param_groups
        linears = [[m for m in net.modules() if isinstance(m, nn.Linear)] for net in policy.critic.q_networks]
        expected = {id(layer.weight) for layers in linears for layer in layers if layer.out_features > 1}
        norms = {id(p) for m in policy.critic.modules() if is_norm(m) for p in m.parameters()}
        assert {id(p) for p in decayed["params"]} == expected
        assert not expected & norms
        assert decayed["weight_decay"] == 1e-2
        assert rest["weight_decay"] == 0
        assert len(decayed["params"]) + len(rest["params"]) == len(list(policy.critic.parameters()))
        assert [group["weight_decay"] for group in policy.actor.optimizer.param_groups] == [0]

    @pytest.mark.parametrize("decoupled", [False, True])
    def test_one_step(self, decoupled):
        """Adam with the decay in the gradient, or apart from it, written out for the first step."""
        policy = make_policy(critic_weight_decay=0.1, decoupled_weight_decay=decoupled).double()
        weight, batch = policy.critic.qf0[0].weight, make_batch(dtype=th.float64)
        before = weight.detach().clone()
        policy.critic.loss(batch, th.zeros(16, 1, dtype=th.float64))[0].backward()
        gradient = weight.grad.clone()
        policy.critic.optimizer.step()
        if decoupled:
            expected = before * (1 - 1e-3 * 0.1) - 1e-3 * gradient / (gradient.abs() + 1e-8)
        else:
            gradient = gradient + 0.1 * before
            expected = before - 1e-3 * gradient / (gradient.abs() + 1e-8)
        assert th.allclose(weight, expected, atol=1e-12)

    def test_activations_with_weights(self):
        """PReLU's slope is no weight of a layer."""
        policy = make_policy(activation_fn=nn.PReLU, critic_weight_decay=0.1)
        assert {p.ndim for p in policy.critic.optimizer.param_groups[0]["params"]} == {2}

    @pytest.mark.parametrize(
        "kwargs", [dict(), dict(critic_weight_decay=0.1, optimizer_class=th.optim.SGD)], ids=["no decay", "SGD"]
    )
    def test_decoupled_from_nothing(self, kwargs):
        """It is refused where there is nothing to decouple, or no way to."""
        with pytest.raises(ValueError, match="decoupled_weight_decay"):
            make_policy(decoupled_weight_decay=True, **kwargs)

    def test_adamw_takes_the_decay_too(self):
        """Its class decouples by itself."""
        policy = make_policy(critic_weight_decay=0.1, decoupled_weight_decay=True, optimizer_class=th.optim.AdamW)
        assert [group["weight_decay"] for group in policy.critic.optimizer.param_groups] == [0.1, 0]


class TestPaper:
    """Lillicrap et al. (2016), section 7."""

    def test_layers(self):
        """400 and 300 units, BatchNorm on the input, behind the actor's hidden layers and before the critic's action."""
        policy = make_policy(PaperPolicy)
        hidden = ["Linear", "BatchNorm1d", "ReLU"]
        names = lambda net: [type(module).__name__ for module in net]  # noqa: E731
        assert names(policy.actor.mu) == ["BatchNorm1d", *hidden, *hidden, "Linear", "Tanh"]
        before, after = policy.critic.qf0.children()
        assert names(before) == ["BatchNorm1d", *hidden]
        assert names(after) == ["Linear", "ReLU", "Linear"]
        assert (policy.actor.mu[1].out_features, policy.actor.mu[4].out_features) == (400, 300)
        assert tuple(policy.critic.qf0.get_submodule("1")[0].weight.shape) == (300, 400 + 2)
        assert policy.critic.optimizer.param_groups[0]["weight_decay"] == 1e-2

    @pytest.mark.parametrize(("cls", "last"), [(PaperPolicy, 3e-3), (PaperCnnPolicy, 3e-4)])
    def test_initial_weights(self, cls, last):
        """Weights and biases uniform in 1 / sqrt(fan-in), of the last layers in 3e-3, or 3e-4 for images."""
        space = VECTOR if cls is PaperPolicy else spaces.Box(0, 255, (9, 64, 64), np.uint8)
        policy = make_policy(cls, space)
        for net in (policy.actor.mu, policy.critic.qf0):
            layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
            for layer in layers:
                limit = last if layer is layers[-1] else 1 / math.sqrt(layer.in_features)
                for parameter in (layer.weight, layer.bias):
                    assert parameter.abs().max() <= limit
                assert layer.weight.abs().max() > 0.9 * limit

    def test_images(self):
        """Three convolutions of 32 filters without pooling, two layers of 200 units, about 430,000 parameters."""
        policy = make_policy(PaperCnnPolicy, spaces.Box(0, 255, (9, 64, 64), np.uint8))
        modules = list(policy.actor.modules())
        assert [m.out_channels for m in modules if isinstance(m, nn.Conv2d)] == [32, 32, 32]
        assert [m.out_features for m in modules if isinstance(m, nn.Linear)] == [200, 200, 2]
        assert not any("Pool" in type(m).__name__ for m in modules)
        assert 400_000 < sum(p.numel() for p in policy.actor.parameters()) < 450_000

    def test_a_subclass_may_change_any_default(self):
        """Those in the signature too, and the user's own choice comes first."""

        class TwoCritics(DDPGPolicy):
            defaults: ClassVar[dict] = dict(n_critics=2, activation_fn="tanh", critic_norm="layer")

        model = DDPG(TwoCritics, "Pendulum-v1", buffer_size=1, policy_kwargs=dict(net_arch=[8], activation_fn=nn.ELU))
        critic = model.critic
        assert critic.n_critics == 2
        assert [type(module) for module in critic.qf1] == [nn.Linear, nn.LayerNorm, nn.ELU, nn.Linear]

    def test_defaults_can_be_changed(self):
        """Each by its argument."""
        policy = make_policy(PaperPolicy, net_arch=[20, 10], critic_weight_decay=0.0, actor_norm="layer")
        assert policy.actor.mu[1].out_features == 20
        assert len(policy.critic.optimizer.param_groups) == 1
        assert isinstance(policy.actor.mu[2], nn.LayerNorm)

    def test_by_name(self):
        """``DDPG("PaperPolicy", ...)`` learns and acts."""
        model = DDPG("PaperPolicy", "Pendulum-v1", learning_starts=64, batch_size=64, seed=0).learn(100)
        assert model.predict(np.zeros(3, np.float32))[0].shape == (1,)

    def test_images_are_asked_for(self):
        """A vector is not one."""
        with pytest.raises(ValueError, match="'PaperCnnPolicy' needs images"):
            DDPG("PaperCnnPolicy", "Pendulum-v1")


WRONG = [
    *[(dict([(name, "group")]), "none, layer, batch, batch-renorm") for name in ("actor_norm", "critic_norm", "input_norm")],
    (dict(norm_after_action=1), "True or False"),
    (dict(residual="yes"), "True or False"),
    (dict(inverting_gradients=None), "True or False"),
    (dict(target_networks=0), "True or False"),
    (dict(decoupled_weight_decay=2), "True or False"),
    (dict(target_statistics="both"), "running"),
    (dict(init="he"), "orthogonal"),
    (dict(last_init="he"), "orthogonal"),
    (dict(action_layer=-1), ">= 0"),
    (dict(action_layer=2), "at most 1 .* sees states and actions together"),
    (dict(action_layer=3, action_join="sum"), "at most 2"),
    (dict(action_layer=0, action_join="sum"), "at least 1"),
    (dict(action_join="product"), "'concat', 'sum'"),
    (dict(action_branch=[0]), ">= 1"),
    (dict(critic_dropout=1.0), "less than 1"),
    (dict(critic_dropout=-0.1), r"\[0, 1\]"),
    (dict(normalize_observations=1), "True, False, or a dict"),
    (dict(scale_returns="yes"), "True, False, or a dict"),
    (dict(popart=0), "True, False, or a dict"),
    (dict(critic="c51"), "categorical"),
    (dict(critic=dict(kind="categorical", v_mni=1)), "v_min"),
    (dict(critic_loss="l1"), "huber"),
    (dict(backup="max"), "mean"),
    (dict(objective="last"), "first"),
    (dict(target_q_range=3), "a pair"),
    (dict(target_q_range=(1, 2, 3)), "a pair"),
    (dict(target_q_range=(2, 1)), "low < high"),
    (dict(critic_weight_decay=-1), ">= 0"),
    (dict(critic_weight_decay=0.1, optimizer_kwargs=dict(weight_decay=0.1)), "left out"),
    (dict(output_norm=0), ">= 1e-30"),
    (dict(dqda_clip=-1), ">= 1e-30"),
    (dict(preactivation_penalty=-1), ">= 0"),
    (dict(action_l2="x"), ">= 0"),
    (dict(activation_fn="gelu2"), "relu"),
    (dict(activation_fn=3), "relu"),
    (dict(residual=True), "one width"),
    (dict(net_arc=[3]), "net_arch"),
    (dict(critic="quantile", critic_loss="huber"), "its own loss"),
    (dict(critic="categorical", popart=True), "fixed"),
    (dict(popart=True, target_networks=False), "in one pass"),
    (dict(inverting_gradients=True, output_norm=1.0), "takes away"),
    (dict(actor_norm=partial(nn.GroupNorm, 1), net_arch=[1]), "actor_norm.*more than 1 value"),  # not for one observation
]


@pytest.mark.parametrize(("kwargs", "message"), WRONG, ids=lambda value: str(value))
def test_wrong_options(kwargs, message):
    """The error says which argument of policy_kwargs it is, its value, and what is allowed."""
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        make_policy(**kwargs)
    assert "policy_kwargs" in str(raised.value) or "critic: " in str(raised.value)


def test_options_are_given_back():
    """What a policy was made with is what it would be made with again."""
    policy = make_policy(critic_norm="layer", action_layer=1, last_init=3e-3)
    parameters = policy._get_constructor_parameters()
    assert Options(**{name: parameters[name] for name in Options.__dataclass_fields__}) == policy.options

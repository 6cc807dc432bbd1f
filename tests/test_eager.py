"""The update: against NumPy, against Stable-Baselines3, and what it must not touch."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DDPG as SB3DDPG
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners import UpdateSettings

OBS_DIM, ACTION_DIM, GAMMA, TAU, LR, QF_LR = 3, 1, 0.97, 0.02, 1e-3, 2e-3


@pytest.fixture(autouse=True)
def keep_float64(monkeypatch):
    """SB3 casts every observation to float32."""
    monkeypatch.setattr("stable_baselines3.common.policies.preprocess_obs", lambda obs, *args, **kwargs: obs)


def make_model(cls=DDPG, **kwargs):
    """A Pendulum model in float64."""
    kwargs = {"policy_kwargs": dict(net_arch=[8, 6]), "gamma": GAMMA, "tau": TAU, "learning_rate": LR, "seed": 0} | kwargs
    if cls is DDPG:
        kwargs["learner"] = "eager"
    model = cls("MlpPolicy", "Pendulum-v1", buffer_size=100, device="cpu", **kwargs)
    model.policy.double()
    return model


def make_samples(rng, batch_size=16):
    draw = lambda *shape: th.as_tensor(rng.standard_normal(shape))  # noqa: E731
    return ReplayBufferSamples(
        draw(batch_size, OBS_DIM),
        draw(batch_size, ACTION_DIM).clamp(-1, 1),
        draw(batch_size, OBS_DIM),
        th.as_tensor((rng.random((batch_size, 1)) < 0.3).astype(float)),
        draw(batch_size, 1),
    )


class NumpyMLP:
    """Linear, ReLU, ..., Linear with weights shared with nobody; Adam of Kingma & Ba (2015), Algorithm 1."""

    def __init__(self, sequential, lr=0.0):
        self.layers = [
            [layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()]
            for layer in sequential
            if isinstance(layer, th.nn.Linear)
        ]
        self.lr, self.step = lr, 0
        self.m = [[np.zeros_like(p) for p in layer] for layer in self.layers]
        self.v = [[np.zeros_like(p) for p in layer] for layer in self.layers]

    def forward(self, x):
        self.inputs = []
        for i, (weight, bias) in enumerate(self.layers):
            self.inputs.append(x)
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = np.maximum(x, 0)
        return x

    def backward(self, grad):
        """Gradients of the layers, and of the input, given the gradient of the output."""
        grads = []
        for i in reversed(range(len(self.layers))):
            grads.insert(0, [grad.T @ self.inputs[i], grad.sum(0)])
            grad = grad @ self.layers[i][0]
            if i > 0:
                grad = grad * (self.inputs[i] > 0)
        return grads, grad

    def adam(self, grads):
        self.step += 1
        for layer, ms, vs, gs in zip(self.layers, self.m, self.v, grads, strict=True):
            for p, m, v, g in zip(layer, ms, vs, gs, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g**2 - v)
                p -= self.lr * (m / (1 - 0.9**self.step)) / (np.sqrt(v / (1 - 0.999**self.step)) + 1e-8)

    def follow(self, other):
        for layer, other_layer in zip(self.layers, other.layers, strict=True):
            for p, q in zip(layer, other_layer, strict=True):
                p += TAU * (q - p)

    def distance(self, sequential):
        return max(np.abs(a - b).max() for mine, its in zip(self.layers, NumpyMLP(sequential).layers, strict=True)
                   for a, b in zip(mine, its, strict=True))  # fmt: skip


def numpy_update(actor, critic, actor_target, critic_target, batch):
    """Algorithm 1 of Lillicrap et al. (2016), lines 12 to 15, with the derivatives written out."""
    obs, action, next_obs, done, reward, discount = (x.numpy() for x in batch[:6])
    n = len(obs)
    next_action = np.tanh(actor_target.forward(next_obs))
    target = reward + discount * (1 - done) * critic_target.forward(np.hstack([next_obs, next_action]))
    q = critic.forward(np.hstack([obs, action]))
    critic_loss = np.mean((q - target) ** 2)
    critic.adam(critic.backward(2 * (q - target) / n)[0])
    mu = np.tanh(actor.forward(obs))
    actor_loss = -np.mean(critic.forward(np.hstack([obs, mu])))
    _, grad_input = critic.backward(np.full((n, 1), -1 / n))
    actor.adam(actor.backward(grad_input[:, OBS_DIM:] * (1 - mu**2))[0])
    critic_target.follow(critic)
    actor_target.follow(actor)
    return critic_loss, actor_loss


def test_update_equals_its_derivation_in_numpy():
    """Losses and all four networks agree to 1e-9 over 20 updates, with different learning rates for actor and critic."""
    model = make_model(qf_learning_rate=QF_LR)
    model.set_logger(Logger(None, []))
    nets = [
        NumpyMLP(model.actor.mu, LR),
        NumpyMLP(model.critic.qf0, QF_LR),
        NumpyMLP(model.actor_target.mu),
        NumpyMLP(model.critic_target.qf0),
    ]
    rng = np.random.default_rng(0)
    for optimizer, lr in ((model.actor.optimizer, LR), (model.critic.optimizer, QF_LR)):
        optimizer.param_groups[0]["lr"] = lr
    for _ in range(20):
        batch = Batch.from_samples(make_samples(rng), GAMMA)
        losses = model._trainer.learner.update(batch)
        critic_loss, actor_loss = numpy_update(*nets, batch)
        assert losses["critic_loss"].item() == pytest.approx(critic_loss, abs=1e-9)
        assert losses["actor_loss"].item() == pytest.approx(actor_loss, abs=1e-9)
    modules = (model.actor.mu, model.critic.qf0, model.actor_target.mu, model.critic_target.qf0)
    for net, module in zip(nets, modules, strict=True):
        assert net.distance(module) < 1e-9
    assert nets[2].distance(model.actor.mu) > 1e-6  # the targets lag: equality above is not that of one network with itself


@pytest.mark.parametrize("n_critics", [1, 2])
def test_same_batches_give_the_parameters_of_sb3(n_critics):
    """Fed 2,000 batches from one initial state in float64, ours and SB3's hold the same parameters."""
    kwargs = dict(policy_kwargs=dict(net_arch=[32, 32], n_critics=n_critics))
    ours, theirs = make_model(**kwargs), make_model(SB3DDPG, **kwargs)
    ours._trainer.diagnostics.is_due = lambda n_updates: False  # which would take a batch of its own
    for model in (ours, theirs):
        rng = np.random.default_rng(1)
        model.set_logger(Logger(None, []))
        model.replay_buffer = SimpleNamespace(sample=lambda batch_size, env, rng=rng: make_samples(rng, batch_size))
        model.train(2000, 32)
    for p, q in zip(ours.policy.state_dict().values(), theirs.policy.state_dict().values(), strict=True):
        th.testing.assert_close(p, q, rtol=1e-9, atol=1e-9)


def test_actor_step_leaves_no_gradient_in_the_critic():
    """The critic's gradients after an update are those of its own loss alone."""
    model = make_model()
    batch = Batch.from_samples(make_samples(np.random.default_rng(2)), GAMMA)
    with th.no_grad():
        target = model.critic_target.backup(batch, model.actor_target(batch.next_observations))
    expected = th.autograd.grad(model.critic.loss(batch, target)[0], list(model.critic.parameters()))
    model._trainer.learner.update(batch)
    for parameter, gradient in zip(model.critic.parameters(), expected, strict=True):
        assert th.equal(parameter.grad, gradient)


@pytest.mark.parametrize(("tau", "moves"), [(0.0, "not"), (1.0, "fully")])
def test_tau_at_its_ends(tau, moves):
    """tau = 0 leaves the targets alone, tau = 1 makes them copies."""
    model = make_model(tau=tau)
    before = [p.clone() for p in model.actor_target.parameters()]
    model._trainer.learner.update(Batch.from_samples(make_samples(np.random.default_rng(3)), GAMMA))
    expected = before if moves == "not" else list(model.actor.parameters())
    assert all(th.equal(p, q) for p, q in zip(model.actor_target.parameters(), expected, strict=True))


def test_buffers_of_the_targets_are_copies():
    """Running statistics of a normalisation layer are copied to the target, not averaged."""
    model = make_model()
    for actor in (model.actor, model.actor_target):
        actor.mu = th.nn.Sequential(th.nn.BatchNorm1d(OBS_DIM), *actor.mu).double()
    model._trainer.learner = type(model._trainer.learner)(model.policy, UpdateSettings(tau=TAU))
    model.actor.train()
    model.actor_target.eval()
    model._trainer.learner.update(Batch.from_samples(make_samples(np.random.default_rng(4)), GAMMA))
    assert model.actor.mu[0].running_mean.abs().max() > 0
    assert th.equal(model.actor_target.mu[0].running_mean, model.actor.mu[0].running_mean)
    assert th.equal(model.actor_target.mu[0].running_var, model.actor.mu[0].running_var)


def test_training_never_waits_for_the_device():
    """
    No result of an update is turned into a Python number: on the meta device, which has no values, that would raise. Only
    the look at each 200 updates waits.
    """
    model = make_model()
    model._trainer.diagnostics.is_due = lambda n_updates: False
    model.set_logger(Logger(None, []))
    model.policy.to("meta")
    for net in (model.actor, model.critic):
        net.optimizer = th.optim.Adam(net.parameters())
    model._trainer.learner = type(model._trainer.learner)(model.policy, UpdateSettings(tau=TAU))
    samples = ReplayBufferSamples(*(x.to("meta") for x in make_samples(np.random.default_rng(5))[:5]))
    model.replay_buffer = SimpleNamespace(sample=lambda batch_size, env: samples)
    model.train(3, 16)
    with pytest.raises(RuntimeError, match="meta"):  # only now
        model.logger.dump()

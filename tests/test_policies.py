"""Actor, critic and their targets: shapes and names, the backup, and the scale of actions."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.td3 import policies as sb3_policies
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext import DDPG, CnnPolicy, DDPGPolicy, MultiInputPolicy
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners import EagerLearner, UpdateSettings

VECTOR = spaces.Box(-1, 1, (3,))
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "vector": VECTOR})
ACTION = spaces.Box(-1, 1, (2,))
KINDS = [
    pytest.param(DDPGPolicy, sb3_policies.TD3Policy, VECTOR, id="Mlp"),
    pytest.param(CnnPolicy, sb3_policies.CnnPolicy, IMAGE, id="Cnn"),
    pytest.param(MultiInputPolicy, sb3_policies.MultiInputPolicy, DICT, id="MultiInput"),
]


class LinearExtractor(BaseFeaturesExtractor):
    """Two features, with parameters to learn."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=2)
        self.linear = nn.Linear(observation_space.shape[0], 2)

    def forward(self, observations):
        return self.linear(observations.to(self.linear.weight.dtype))


def make_policy(cls=DDPGPolicy, observation_space=VECTOR, action_space=ACTION, **kwargs):
    th.manual_seed(0)
    return cls(observation_space, action_space, lambda _: 1e-3, **kwargs)


def make_batch(n=8, rewards=None, dones=None, discounts=None):
    """Random transitions in float64, with the given rewards, dones and discounts."""
    generator = th.Generator().manual_seed(1)
    draw = lambda *shape: th.randn(shape, generator=generator, dtype=th.float64)  # noqa: E731
    column = lambda values: th.as_tensor(values, dtype=th.float64).reshape(-1, 1)  # noqa: E731
    return Batch(
        observations=draw(n, 3),
        actions=draw(n, 2).clamp(-1, 1),
        next_observations=draw(n, 3),
        dones=column(np.zeros(n) if dones is None else dones),
        rewards=draw(n, 1) if rewards is None else column(rewards),
        discounts=column(np.full(n, 0.99) if discounts is None else discounts),
    )


def plus_and_minus_critic():
    """Q0(s, a) = a_0 and Q1(s, a) = -a_0, so that the smaller one is -|a_0|."""
    critic = make_policy(net_arch=[], n_critics=2).double().critic
    with th.no_grad():
        for network, sign in zip(critic.q_networks, (1.0, -1.0), strict=True):
            network[0].weight.copy_(th.tensor([[0.0, 0.0, 0.0, sign, 0.0]]))
            network[0].bias.zero_()
    return critic


@pytest.mark.parametrize(("cls", "sb3_cls", "observation_space"), KINDS)
@pytest.mark.parametrize("share_features_extractor", [False, True])
def test_parameters_have_the_names_shapes_and_initial_values_of_sb3(cls, sb3_cls, observation_space, share_features_extractor):
    """From one seed, the state dict is that of SB3's policy with one critic, name by name and bit by bit."""
    kwargs = dict(observation_space=observation_space, n_critics=1, share_features_extractor=share_features_extractor)
    ours, theirs = make_policy(cls, **kwargs).state_dict(), make_policy(sb3_cls, **kwargs).state_dict()
    assert list(ours) == list(theirs)
    assert all(th.equal(ours[name], theirs[name]) for name in theirs)


def test_one_critic_is_the_default():
    """Unlike SB3's TD3Policy, ours has a single Q network unless asked for more."""
    assert len(make_policy().critic.q_networks) == 1


@pytest.mark.parametrize(("cls", "_sb3_cls", "observation_space"), KINDS)
def test_targets_start_as_separate_copies(cls, _sb3_cls, observation_space):
    """Every tensor of a target equals the online one, and lies elsewhere in memory."""
    policy = make_policy(cls, observation_space, n_critics=2)
    for online, target in ((policy.actor, policy.actor_target), (policy.critic, policy.critic_target)):
        pairs = list(zip(online.state_dict().values(), target.state_dict().values(), strict=True))
        assert all(th.equal(p, q) for p, q in pairs)
        assert all(p.data_ptr() != q.data_ptr() for p, q in pairs)


def test_backup_in_closed_form():
    """y = r + gamma^m (1 - d) Q(s', a'), with the transition's own discount, and only the reward after a termination."""
    critic = plus_and_minus_critic()
    batch = make_batch(4, rewards=[1, 2, 3, 4], dones=[0, 1, 0, 1], discounts=[0.9, 0.9, 0.81, 0.0])
    next_actions = th.full((4, 2), 0.5, dtype=th.float64)
    expected = th.tensor([[1 - 0.9 * 0.5], [2], [3 - 0.81 * 0.5], [4]], dtype=th.float64)
    th.testing.assert_close(critic.backup(batch, next_actions), expected)


def test_backup_takes_the_minimum_of_each_transition():
    """Where now one and now the other of two critics is smaller, the target is built from the smaller."""
    batch = make_batch(rewards=np.zeros(8), discounts=np.ones(8))
    next_actions = th.linspace(-1, 1, 8, dtype=th.float64).reshape(-1, 1).expand(8, 2)
    assert th.equal(plus_and_minus_critic().backup(batch, next_actions), -next_actions[:, :1].abs())


def test_loss_is_the_sum_over_the_critics():
    """Each critic's own mean-squared error is in the loss."""
    batch, target = make_batch(), th.full((8, 1), 0.3, dtype=th.float64)
    first = batch.actions[:, :1]
    expected = F.mse_loss(first, target) + F.mse_loss(-first, target)
    th.testing.assert_close(plus_and_minus_critic().loss(batch, target)[0], expected)


def test_actor_climbs_the_first_critic():
    """value() is Q0 alone, as in TD3, not the minimum."""
    batch = make_batch()
    assert th.equal(plus_and_minus_critic().value(batch.observations, batch.actions), batch.actions[:, :1])


@pytest.mark.parametrize(
    ("cls", "observation_space", "extractor_class"),
    [(CnnPolicy, IMAGE, NatureCNN), (MultiInputPolicy, DICT, CombinedExtractor)],
)
def test_features_extractor_of_the_policy(cls, observation_space, extractor_class):
    """CnnPolicy sees through a NatureCNN, MultiInputPolicy through a CombinedExtractor; actor and critic each have one."""
    policy = make_policy(cls, observation_space)
    assert type(policy.actor.features_extractor) is extractor_class
    assert type(policy.critic.features_extractor) is extractor_class
    assert policy.actor.features_extractor is not policy.critic.features_extractor


@pytest.mark.parametrize(
    ("cls", "observation_space", "net_arch", "actor_layers", "critic_layers"),
    [
        pytest.param(DDPGPolicy, VECTOR, None, [3, 400, 300, 2], [5, 400, 300, 1], id="default"),
        pytest.param(DDPGPolicy, VECTOR, [8], [3, 8, 2], [5, 8, 1], id="list"),
        pytest.param(DDPGPolicy, VECTOR, dict(pi=[8], qf=[7, 6]), [3, 8, 2], [5, 7, 6, 1], id="dict"),
        pytest.param(DDPGPolicy, VECTOR, [], [3, 2], [5, 1], id="linear"),
        pytest.param(CnnPolicy, IMAGE, None, [512, 256, 256, 2], [514, 256, 256, 1], id="default after a CNN"),
    ],
)
def test_net_arch(cls, observation_space, net_arch, actor_layers, critic_layers):
    """The widths from input to output are those of net_arch, the key pi for the actor and qf for the critic."""
    policy = make_policy(cls, observation_space, net_arch=net_arch)
    for net, widths in ((policy.actor.mu, actor_layers), (policy.critic.qf0, critic_layers)):
        linear = [module for module in net if isinstance(module, nn.Linear)]
        assert [module.in_features for module in linear] + [linear[-1].out_features] == widths


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (dict(net_arch=[64, 0]), ValueError, r"policy_kwargs\['net_arch'\]: layer 1=0"),
        (dict(net_arch=["64"]), TypeError, r"policy_kwargs\['net_arch'\]: layer 0='64'"),
        (dict(net_arch=64), TypeError, r"policy_kwargs\['net_arch'\]=64"),
        (dict(net_arch=dict(pi=[64])), ValueError, "'pi' .* and 'qf'"),
        (dict(net_arch=dict(pi=64, qf=[64])), TypeError, r"\['pi'\]=64 must be a list of layer sizes"),
        (dict(n_critics=0), ValueError, r"policy_kwargs\['n_critics'\]=0"),
    ],
)
def test_wrong_arguments_are_named(kwargs, error, message):
    """What cannot be an architecture is refused with name and value."""
    with pytest.raises(error, match=message):
        make_policy(**kwargs)


def test_shared_features_extractor_is_one_module_online_and_one_in_the_targets():
    """Actor and critic hold the same extractor, their targets another one."""
    policy = make_policy(features_extractor_class=LinearExtractor, share_features_extractor=True)
    assert policy.actor.features_extractor is policy.critic.features_extractor
    assert policy.actor_target.features_extractor is policy.critic_target.features_extractor
    assert policy.actor_target.features_extractor is not policy.actor.features_extractor


@pytest.mark.parametrize("share_features_extractor", [False, True])
def test_target_of_the_features_extractor_moves_by_tau_once(share_features_extractor):
    """After an update the target is (1 - tau) of itself and tau of the online extractor, shared or not."""
    tau = 0.1
    policy = make_policy(features_extractor_class=LinearExtractor, share_features_extractor=share_features_extractor).double()
    weight = policy.actor.features_extractor.linear.weight
    target = policy.actor_target.features_extractor.linear.weight
    before = target.detach().clone()
    EagerLearner(policy, UpdateSettings(tau=tau)).update(make_batch())
    assert not th.allclose(weight, before)
    th.testing.assert_close(target, (1 - tau) * before + tau * weight, rtol=0, atol=1e-12)


BOUNDS = spaces.Box(np.array([-2, 0, -10], np.float32), np.array([1, 5, -4], np.float32))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(0.0, [-0.5, 2.5, -7.0], id="middle"),
        pytest.param(100.0, [1.0, 5.0, -4.0], id="high"),
        pytest.param(-100.0, [-2.0, 0.0, -10.0], id="low"),
        pytest.param(np.arctanh(0.5), [0.25, 3.75, -5.5], id="half way up"),
    ],
)
def test_actions_are_scaled_to_each_dimension_s_bounds(output, expected):
    """tanh of the last layer's output, from -1 to 1, is mapped linearly onto the box."""
    policy = make_policy(action_space=BOUNDS, net_arch=[])
    with th.no_grad():
        policy.actor.mu[0].weight.zero_()
        policy.actor.mu[0].bias.fill_(output)
    action, _ = policy.predict(np.ones(3, np.float32))
    np.testing.assert_allclose(action, expected, rtol=1e-6)
    assert BOUNDS.contains(action)


def test_actions_stay_in_bounds_for_any_network():
    """Large random weights saturate tanh in every direction, and no action leaves the box."""
    policy = make_policy(action_space=BOUNDS)
    with th.no_grad():
        for parameter in policy.actor.parameters():
            parameter.normal_()
    actions, _ = policy.predict(np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32))
    np.testing.assert_array_equal([actions.min(axis=0), actions.max(axis=0)], [BOUNDS.low, BOUNDS.high])


@pytest.mark.parametrize(("cls", "_sb3_cls", "observation_space"), KINDS)
def test_saved_policy_can_be_loaded_alone(cls, _sb3_cls, observation_space, tmp_path):
    """policy.save() and load() give back the same parameters and number of critics without a model around them."""
    policy = make_policy(cls, observation_space, net_arch=[8], n_critics=3)
    policy.save(tmp_path / "policy.pth")
    loaded = cls.load(tmp_path / "policy.pth", device="cpu")
    assert type(loaded) is cls
    assert list(loaded.state_dict()) == list(policy.state_dict())
    assert all(th.equal(loaded.state_dict()[name], value) for name, value in policy.state_dict().items())


@pytest.mark.exact(reason="layers of one shape stand at other places, under other names")
@pytest.mark.parametrize(("actor_norm", "critic_norm"), [("layer", "none"), ("none", "layer"), ("layer", "layer")])
def test_layer_norm_before_each_hidden_activation(tmp_path, actor_norm, critic_norm):
    """In actor and critics separately, in their targets too, beside the same weights; saved with the policy."""
    kwargs = dict(net_arch=[16, 8], n_critics=2)
    plain = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, buffer_size=10, seed=0, device="cpu").policy
    kwargs |= dict(actor_norm=actor_norm, critic_norm=critic_norm)
    model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, learning_starts=10, buffer_size=50, seed=0, device="cpu")
    bare, normalised = [th.nn.Linear, th.nn.ReLU] * 2, [th.nn.Linear, th.nn.LayerNorm, th.nn.ReLU] * 2
    policy = model.policy
    for which, norm in (("actor", actor_norm), ("critic", critic_norm)):
        for net in (getattr(policy, which), getattr(policy, f"{which}_target")):
            for mlp in [net.mu] if which == "actor" else [net.qf0, *net.q_networks]:
                layers = normalised if norm == "layer" else bare
                assert [type(module) for module in mlp][: len(layers) + 1] == [*layers, th.nn.Linear]
    linears = [[m.weight for m in p.modules() if isinstance(m, th.nn.Linear)] for p in (plain, policy)]
    assert all(th.equal(a, b) for a, b in zip(*linears, strict=True))
    model.learn(20)
    policy.save(tmp_path / "policy")
    obs = np.ones((3, 3), np.float32)
    np.testing.assert_allclose(type(policy).load(tmp_path / "policy").predict(obs)[0], policy.predict(obs)[0], atol=1e-6)

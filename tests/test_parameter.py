"""Parameter noise: perturbed copies of the actor, side by side, as strong as they should be, and seen by nobody else."""

import copy
import pickle
import time

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv, DictPendulum
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ddpg_ext import DDPG, DDPGPolicy
from sb3_ddpg_ext.noise import AdaptiveParameterNoise, CombinedNoise, FixedParameterNoise, GaussianNoise
from sb3_ddpg_ext.schedules import Linear

SMALL = dict(batch_size=32, buffer_size=2000, device="cpu", seed=0)
LAYER_NORM = dict(net_arch=[16, 16], actor_norm="layer")


class NormalisedExtractor(BaseFeaturesExtractor):
    """A trained layer, batch normalisation and dropout before the actor."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=6)
        size = observation_space.shape[0]
        self.net = th.nn.Sequential(th.nn.Linear(size, 6), th.nn.BatchNorm1d(6), th.nn.ReLU(), th.nn.Dropout(0.5))

    def forward(self, observations):
        return self.net(observations)


def make_model(env="Pendulum-v1", policy="MlpPolicy", **kwargs):
    return DDPG(policy, env, **SMALL | dict(policy_kwargs=LAYER_NORM) | kwargs)


def prepare(noise, model, n_envs=1):
    return noise.prepare(model.action_space.shape[0], n_envs, seed=1)


def batch_of(model, n=256, seed=0):
    return th.as_tensor(np.random.default_rng(seed).normal(size=(n, *model.observation_space.shape)).astype(np.float32))


def copy_of_actor(model, noise, i):
    """The i-th perturbed actor as a network of its own."""
    actor = copy.deepcopy(model.policy.actor)
    parameters = dict(actor.named_parameters())
    with th.no_grad():
        for name, view in noise._stack.views.items():
            parameters[name].copy_(view[i])
    return actor


def differences(model, noise, i):
    """Perturbed minus own parameters, by name."""
    perturbed = dict(copy_of_actor(model, noise, i).named_parameters())
    return {name: (perturbed[name] - own).detach() for name, own in model.policy.actor.named_parameters()}


# --- how strong -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.05, 0.2, 0.6])
@pytest.mark.parametrize(("env", "root_mean_square"), [("Pendulum-v1", 1.2), ("HalfCheetah-v5", 1.0)])
def test_distance_settles_at_the_target(env, root_mean_square, target):
    """On a fixed actor and batch, from a sigma far off, the median of what is measured comes to within 5%."""
    model = make_model(env, policy_kwargs=dict(net_arch=[32, 32], actor_norm="layer"))
    noise = prepare(AdaptiveParameterNoise(target, initial_sigma=1.0, coefficient=1.02), model)
    obs = batch_of(model, 64)
    for _ in range(500):
        noise.adapt(model.policy, obs)
    distances = np.array([noise.adapt(model.policy, obs) for _ in range(2000)])
    assert np.median(distances) == pytest.approx(target, rel=0.05)
    assert np.sqrt(np.mean(distances**2)) == pytest.approx(root_mean_square * target, rel=0.1)


def test_sigma_moves_by_the_coefficient():
    """Up where the measured distance is below the target, down where it is above."""
    model = make_model()
    for initial, moved in ((1e-6, 1.01e-6), (1.0, 1 / 1.01)):
        noise = prepare(AdaptiveParameterNoise(0.01, initial_sigma=initial), model)
        noise.adapt(model.policy, batch_of(model))
        assert noise._sigma == pytest.approx(moved)


def test_distance_is_between_the_actions():
    """Root mean square over batch and dimensions, of an own copy, literally."""
    model = make_model("HalfCheetah-v5")
    noise, obs = prepare(AdaptiveParameterNoise(0.2), model), batch_of(model)
    stream = copy.deepcopy(noise._probe_generator)
    measured = noise.distance(model.policy, obs)
    actor, eps = copy.deepcopy(model.policy.actor), stream.standard_normal(noise._probe.n_perturbed, dtype=np.float32)
    used = 0
    with th.no_grad():
        for name, parameter in actor.named_parameters():
            if name in ("mu.0.weight", "mu.0.bias", "mu.3.weight", "mu.3.bias", "mu.6.weight", "mu.6.bias"):
                part = th.from_numpy(0.2 * eps[used : used + parameter.numel()])
                parameter += part.view(parameter.shape[::-1]).T if parameter.ndim == 2 else part
                used += parameter.numel()
        expected = ((actor(obs) - model.policy.actor(obs)) ** 2).mean().sqrt().item()
    assert used == len(eps)
    assert measured == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("interval", [1, 7, 50])
def test_adapts_every_interval_updates(interval):
    """Counted over updates, however they are spread over calls of train()."""
    noise = AdaptiveParameterNoise(0.2, interval=interval)
    model = make_model(action_noise=noise, learning_starts=20, train_freq=3, gradient_steps=4)
    calls = []
    model.parameter_noise.adapt = lambda policy, obs: calls.append(len(obs))
    model.learn(140)
    assert len(calls) == model._n_updates // interval > 0
    assert set(calls) == {model.batch_size}


def test_target_and_sigma_follow_their_schedules():
    """A scheduled target is what adaptation aims at, a scheduled sigma is the next copy's."""
    adaptive = make_model(action_noise=AdaptiveParameterNoise(Linear(0.6, 0.1)), learning_starts=10).learn(50)
    assert adaptive.parameter_noise._target == pytest.approx(0.6 - 0.5 * 49 / 50)
    fixed = make_model(action_noise=FixedParameterNoise(Linear(0.5, 0.0)), learning_starts=10).learn(50)
    assert fixed.parameter_noise._sigma == pytest.approx(0.5 / 50)


# --- what is perturbed ------------------------------------------------------------------------------------------------------


def test_normalisation_layers_are_never_perturbed():
    """LayerNorm and BatchNorm parameters are the actor's bit for bit, wherever they are; all others differ."""
    kwargs = LAYER_NORM | dict(features_extractor_class=NormalisedExtractor)
    model = make_model(policy_kwargs=kwargs, action_noise="param_0.3", learning_starts=10).learn(40)
    model.policy.set_training_mode(False)
    model.parameter_noise.reset()
    model.parameter_noise.act(model.policy, model._last_obs)
    changed = {name for name, difference in differences(model, model.parameter_noise, 0).items() if difference.any()}
    norms = {"mu.1", "mu.4", "features_extractor.net.1"}
    names = {name for name, _ in model.policy.actor.named_parameters()}
    assert changed == {name for name in names if name.rsplit(".", 1)[0] not in norms}
    assert {name.rsplit(".", 1)[0] for name in names - changed} == norms


def test_perturbation_is_gaussian_with_sigma():
    """Independent N(0, sigma^2) in each parameter."""
    model = make_model(policy_kwargs=dict(net_arch=[128, 128]))
    noise = prepare(FixedParameterNoise(0.3), model)
    noise.act(model.policy, np.zeros((1, 3), np.float32))
    sample = th.cat([difference.flatten() for difference in differences(model, noise, 0).values()]).numpy() / 0.3
    assert len(sample) > 17_000
    assert abs(sample.mean()) < 5 / np.sqrt(len(sample))
    assert np.mean(sample**2) == pytest.approx(1, abs=5 * np.sqrt(2 / len(sample)))
    assert np.mean(sample**4) == pytest.approx(3, abs=5 * np.sqrt(96 / len(sample)))


def test_naive_variant_shares_one_draw():
    """All parameters of a copy move by the same number, another one in each environment."""
    model = make_model()
    noise = prepare(FixedParameterNoise(0.3, shared=True), model, n_envs=3)
    noise.act(model.policy, np.zeros((3, 3), np.float32))
    numbers = []
    for i in range(3):
        moved = [d for name, d in differences(model, noise, i).items() if name.rsplit(".", 1)[0] not in ("mu.1", "mu.4")]
        values = th.cat([difference.flatten() for difference in moved])
        assert values.std() < 1e-6 < values[0].abs()
        numbers.append(values[0].item())
    assert len(set(numbers)) == 3


def test_sixteen_environments_hold_sixteen_perturbations():
    """Each acts with its own copy: one observation, sixteen actions."""
    model = make_model(make_vec_env("Pendulum-v1", 16), action_noise="adaptive-param_0.2", learning_starts=16).learn(64)
    assert len(th.unique(model.parameter_noise._copies, dim=0)) == 16
    actions = model.parameter_noise.act(model.policy, np.zeros((16, 3), np.float32))
    assert len(np.unique(actions)) == 16


# --- acting together --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "policy", "kwargs", "is_plain"),
    [
        ("Pendulum-v1", "MlpPolicy", dict(net_arch=[16, 16]), True),
        ("Pendulum-v1", "MlpPolicy", dict(net_arch=[]), True),
        ("Pendulum-v1", "MlpPolicy", LAYER_NORM, True),
        ("HalfCheetah-v5", "MlpPolicy", LAYER_NORM | dict(activation_fn=th.nn.SiLU), True),
        ("Pendulum-v1", "MlpPolicy", dict(net_arch=[16], activation_fn=th.nn.GELU), False),
        ("Pendulum-v1", "MlpPolicy", LAYER_NORM | dict(features_extractor_class=NormalisedExtractor), False),
        ("dict", "MultiInputPolicy", LAYER_NORM, True),
        ("image", "CnnPolicy", dict(net_arch=[8]), False),
        ("image", "CnnPolicy", dict(net_arch=[8], share_features_extractor=True), False),
    ],
    ids=str,
)
def test_copies_act_as_each_would_alone(env, policy, kwargs, is_plain):
    """Evaluated together, the copies' actions are those of networks with their parameters, one by one."""
    makers = {
        "dict": lambda: DictPendulum(gym.make("Pendulum-v1")),
        "image": lambda: FakeImageEnv(2, 40, 40, 3, discrete=False),
    }
    vec_env = DummyVecEnv([makers.get(env, lambda: gym.make(env))] * 3)
    model = make_model(vec_env, policy, policy_kwargs=kwargs)
    model.policy.set_training_mode(False)
    noise = prepare(FixedParameterNoise(0.2), model, n_envs=3)
    obs = model.env.reset()
    actions = noise.act(model.policy, obs)
    for i in range(3):
        own = {key: value[i : i + 1] for key, value in obs.items()} if isinstance(obs, dict) else obs[i : i + 1]
        with th.no_grad():
            alone = copy_of_actor(model, noise, i)(model.policy.obs_to_tensor(own)[0])
        np.testing.assert_allclose(actions[i], alone.numpy()[0], rtol=1e-4, atol=1e-4)  # float32, before tanh
    assert (noise._stack.plain is not None) == is_plain


def test_sigma_zero_is_the_actor():
    """Without noise the copies take the actor's actions."""
    model = make_model(make_vec_env("Pendulum-v1", 4))
    obs = model.env.reset()
    actions = prepare(FixedParameterNoise(0.0), model, n_envs=4).act(model.policy, obs)
    np.testing.assert_allclose(model.policy.unscale_action(actions), model.predict(obs)[0], atol=1e-6)


def test_copy_is_drawn_where_an_episode_ended_and_kept_in_between():
    """Environments with episodes of 3 and 5 steps draw after 3 and 5, from the actor as it is then."""
    env = DummyVecEnv([lambda n=n: CountingEnv(((n, "terminated"),)) for n in (3, 5)])
    model = make_model(env, action_noise="param_0.2", learning_starts=2)
    rows = []

    class Watch(BaseCallback):
        def _on_step(self):
            rows.append(self.model.parameter_noise._copies.clone() if self.num_timesteps > 2 else None)
            return True

    model.learn(40, callback=Watch())  # 20 steps of both; the first is random and needs no copy
    for env_index, length in enumerate((3, 5)):
        redrawn = [i for i in range(2, 20) if not th.equal(rows[i][env_index], rows[i - 1][env_index])]
        assert redrawn == [i for i in range(2, 20) if i % length == 0]


def test_environments_have_streams_of_their_own():
    """What the first environment draws does not depend on how many others there are, nor on their episodes."""
    model = make_model()
    rows = {}
    for n_envs in (1, 4):
        noise = prepare(FixedParameterNoise(0.2), model, n_envs)
        for episode in range(3):
            noise.act(model.policy, np.zeros((n_envs, 3), np.float32))
            rows[n_envs, episode] = noise._copies[0].clone()
            noise.reset([0] if episode == 0 else range(n_envs))
    assert all(th.equal(rows[1, episode], rows[4, episode]) for episode in range(3))
    assert not th.equal(rows[1, 0], rows[1, 1])


def test_acting_with_eight_copies_is_fast():
    """With a small network it costs at most twice what one actor costs by torch's layers, the best of many times in turn.

    (The compiled library, which acts for one actor only, is faster still.)
    """
    env = make_vec_env("Pendulum-v1", 8)
    models, best = {}, {}
    for noise in (None, "adaptive-param_0.2"):
        kwargs = dict(action_noise=noise, learning_starts=0, policy_kwargs=dict(net_arch=[64, 64]), learner="eager")
        models[noise] = make_model(env, **kwargs)
        models[noise]._setup_learn(1000)
    for _ in range(200):
        for noise, model in models.items():
            start = time.perf_counter()
            for _ in range(5):
                model._sample_action(0, model.action_noise, 8)
            best[noise] = min(best.get(noise, np.inf), time.perf_counter() - start)
    assert best["adaptive-param_0.2"] < 2 * best[None]


def test_actor_with_other_layers_is_noticed():
    """After layers were replaced, at once with a plain actor, the copies are of the new ones."""
    model = make_model()
    noise = prepare(FixedParameterNoise(0.0), model)
    obs = np.ones((1, 3), np.float32)
    noise.act(model.policy, obs)
    model.policy.actor.mu = th.nn.Sequential(th.nn.Linear(3, 8), th.nn.ReLU(), th.nn.Linear(8, 1), th.nn.Tanh())
    with th.no_grad():
        np.testing.assert_allclose(noise.act(model.policy, obs), model.policy.actor(th.from_numpy(obs)), rtol=1e-5)


class Recurrent(BaseFeaturesExtractor):
    """A GRU, which torch cannot evaluate for several sets of parameters at once."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=5)
        self.gru = th.nn.GRU(observation_space.shape[0], 5, batch_first=True)

    def forward(self, observations):
        return self.gru(observations[:, None])[0][:, 0]


@pytest.mark.parametrize("n_envs", [1, 3])
def test_what_cannot_be_batched_acts_in_turn(n_envs):
    """A GRU, and hooks that leave torch: the actions are those of each copy alone."""
    obs = np.random.default_rng(0).normal(size=(n_envs, 3)).astype(np.float32)
    gru = make_model(policy_kwargs=LAYER_NORM | dict(features_extractor_class=Recurrent))
    hooked, seen = make_model(), []
    hooked.policy.actor.mu[0].register_forward_hook(
        lambda module, inputs, output: seen.append(output.detach().numpy().item(0))
    )
    for model in (gru, hooked):
        noise = prepare(FixedParameterNoise(0.2), model, n_envs)
        actions = noise.act(model.policy, obs)
        for i in range(n_envs):
            with th.no_grad():
                alone = copy_of_actor(model, noise, i)(th.from_numpy(obs[i : i + 1])).numpy()[0]
            np.testing.assert_allclose(actions[i], alone, rtol=1e-4, atol=1e-6)
    assert len(seen) >= n_envs


@pytest.mark.parametrize("change", [np.asfortranarray, lambda obs: obs.astype(np.float64)[:, ::1], "read-only"])
def test_observations_as_they_may_come(change):
    """Of any memory layout, of 64 bits, read-only: the same actions, and no warning."""
    env = DummyVecEnv(
        [
            lambda: gym.wrappers.ReshapeObservation(
                gym.make("HalfCheetah-v5", exclude_current_positions_from_observation=False), (6, 3)
            )
        ]
        * 2
    )
    model = make_model(env)
    noise, obs = (
        prepare(FixedParameterNoise(0.2), model, 2),
        np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32),
    )
    expected, changed = noise.act(model.policy, obs), obs.copy() if change == "read-only" else change(obs)
    if change == "read-only":
        changed.flags.writeable = False
    np.testing.assert_allclose(noise.act(model.policy, changed), expected, rtol=1e-5)


def test_policy_with_another_way_to_an_action_is_refused():
    """Copies of its actor would act otherwise than it does."""

    class Constant(DDPGPolicy):
        def _predict(self, observation, deterministic=False):
            return th.full((len(observation), 1), 0.5)

    model = DDPG(Constant, "Pendulum-v1", action_noise="param_0.1", random_steps=0, **SMALL)
    with pytest.raises(ValueError, match="Constant has a forward"):
        model.learn(1)


def test_layer_with_norm_in_its_name_is_perturbed_if_it_has_a_matrix():
    """Only what scales and shifts is a normalisation layer."""

    class NormalHead(th.nn.Linear):
        pass

    class ScaleNorm(th.nn.Module):
        def __init__(self):
            super().__init__()
            self.g = th.nn.Parameter(th.ones(8))

        def forward(self, x):
            return self.g * x / x.norm(dim=-1, keepdim=True)

    model = make_model()
    model.policy.actor.mu = th.nn.Sequential(NormalHead(3, 8), ScaleNorm(), th.nn.Linear(8, 1), th.nn.Tanh())
    noise = prepare(FixedParameterNoise(0.2), model)
    noise.act(model.policy, np.ones((1, 3), np.float32))
    changed = {name for name, difference in differences(model, noise, 0).items() if difference.any()}
    assert changed == {"mu.0.weight", "mu.0.bias", "mu.2.weight", "mu.2.bias"}


def test_episodes_of_one_environment_draw_into_the_same_memory():
    """What evaluates the copies is made once a training, not once an episode."""
    model = make_model(CountingEnv(((4, "terminated"),)), action_noise="param_0.2", learning_starts=2).learn(10)
    stack = model.parameter_noise._stack
    model.learn(20, reset_num_timesteps=False)
    assert model.parameter_noise._stack is stack is not None


def test_target_out_of_reach_does_not_end_in_infinity():
    """Sigma stops at a thousand; targets that no tanh can reach are refused."""
    model = make_model()
    noise = prepare(AdaptiveParameterNoise(1.0, initial_sigma=999.0, coefficient=1.5), model)
    noise.distance = lambda policy, observations: 0.5
    for _ in range(3):
        noise.adapt(model.policy, None)
    assert noise._sigma == 1000
    with pytest.raises(ValueError, match=r"target=3.0 must be a number in \(0, 1\]"):
        AdaptiveParameterNoise(3.0)


# --- seen by nobody else ----------------------------------------------------------------------------------------------------


def test_evaluation_never_sees_the_perturbed_actor():
    """All actions of an EvalCallback in the middle of training are predict's, and acting leaves the policy as it was."""
    model = make_model(action_noise="adaptive-param_0.6, normal_0.3", learning_starts=20)
    seen = []

    class Recorded(gym.Wrapper):
        def reset(self, **kwargs):
            self.obs, info = self.env.reset(**kwargs)
            return self.obs, info

        def step(self, action):
            seen.append((model.predict(self.obs, deterministic=True)[0], action))
            self.obs, *rest = self.env.step(action)
            return self.obs, *rest

    model.learn(101, callback=EvalCallback(DummyVecEnv([lambda: Recorded(gym.make("Pendulum-v1"))]),
                                           eval_freq=50, n_eval_episodes=1, verbose=0))  # fmt: skip
    assert len(seen) == 400
    np.testing.assert_array_equal(*map(np.array, zip(*seen, strict=True)))
    before = copy.deepcopy(model.policy.state_dict())
    obs = np.zeros((1, 3), np.float32)
    perturbed = model.policy.unscale_action(model.parameter_noise.act(model.policy, obs))
    assert not np.array_equal(perturbed, model.predict(obs, deterministic=True)[0])
    model.parameter_noise.adapt(model.policy, batch_of(model))
    assert all(th.equal(value, before[key]) for key, value in model.policy.state_dict().items())


def test_measuring_leaves_what_acts_alone():
    """Neither the copies, nor their streams, nor running statistics, nor the training mode are touched."""
    kwargs = LAYER_NORM | dict(features_extractor_class=NormalisedExtractor)
    model = make_model(policy_kwargs=kwargs)
    model.policy.set_training_mode(True)
    noise, obs = prepare(AdaptiveParameterNoise(0.2), model, n_envs=2), batch_of(model)
    noise._stack = None
    model.policy.set_training_mode(False)
    noise.act(model.policy, np.zeros((2, 3), np.float32))
    model.policy.set_training_mode(True)
    copies, streams = noise._copies.clone(), pickle.dumps(noise._generators)
    statistics, state = copy.deepcopy(model.policy.state_dict()), th.get_rng_state()
    noise.adapt(model.policy, obs)
    assert th.equal(noise._copies, copies)
    assert pickle.dumps(noise._generators) == streams
    assert all(th.equal(value, statistics[key]) for key, value in model.policy.state_dict().items())
    assert th.equal(th.get_rng_state(), state)
    assert model.policy.actor.training


# --- saved ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["adaptive-param_0.2", "adaptive-param_0.2, pink_0.1", "param_0.3"])
def test_saved_in_the_middle_of_an_episode(tmp_path, spec):
    """Copies, sigma and streams are in the zip: the loaded model takes the actions that the saved one takes."""
    model = make_model(make_vec_env("Pendulum-v1", 3), action_noise=spec, learning_starts=30).learn(150)
    model.save(tmp_path / "model")
    env = make_vec_env("Pendulum-v1", 3)
    loaded = DDPG.load(tmp_path / "model", env=env, device="cpu", force_reset=False)
    obs = np.random.default_rng(0).normal(size=(8, 3, 3)).astype(np.float32)
    for step in range(8):
        if step == 4:
            for one in (model, loaded):
                one.action_noise.reset([1])
                one.parameter_noise.after_update(50, one.policy, th.from_numpy(obs[0]))
        mine, its = (one.action_noise.apply(one.parameter_noise.act(one.policy, obs[step])) for one in (model, loaded))
        np.testing.assert_array_equal(mine, its)
    assert loaded.parameter_noise._sigma == model.parameter_noise._sigma
    if "adaptive" in spec:
        assert loaded.parameter_noise._sigma != 0.2


def test_adapted_sigma_survives_another_number_of_environments(tmp_path):
    """Copies and streams are new, sigma stays."""
    model = make_model(make_vec_env("Pendulum-v1", 3), action_noise="adaptive-param_0.2, normal_0.1", learning_starts=30)
    model.learn(300).save(tmp_path / "model")
    loaded = DDPG.load(tmp_path / "model", env=make_vec_env("Pendulum-v1", 2), device="cpu")
    assert loaded.parameter_noise._sigma == model.parameter_noise._sigma != 0.2
    loaded.learn(50)
    assert loaded.parameter_noise._copies.shape[0] == 2


def test_given_noise_is_not_the_models():
    """One object can be given to two models: they share no state, and it is as it was."""
    given = CombinedNoise([AdaptiveParameterNoise(0.2), GaussianNoise(0.1)])
    models = [make_model(action_noise=given, learning_starts=20).learn(150) for _ in range(2)]
    assert given.n_envs == 0
    assert models[0].parameter_noise is not models[1].parameter_noise
    for key, value in models[0].policy.state_dict().items():
        assert th.equal(value, models[1].policy.state_dict()[key])

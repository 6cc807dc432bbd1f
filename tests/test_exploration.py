"""Warm-up, noise in collection, what is logged and what is saved."""

import csv

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv
from stable_baselines3 import DDPG as SB3DDPG
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.noise import AdaptiveParameterNoise, GaussianNoise

SMALL = dict(policy_kwargs=dict(net_arch=[16, 16]), batch_size=32, buffer_size=5000, device="cpu", seed=0)
KINDS = ["normal_0.3", "ou_0.3", "pink_0.3", "adaptive-param_0.3", "adaptive-param_0.3, normal_0.1", "epsilon_0.3, ou_0.2"]


class RandomActions(BaseCallback):
    """Remembers which steps took their action from the action space, and which were followed by an update."""

    def _on_training_start(self):
        self.steps, self.updates = [], []
        space, sample = self.model.action_space, type(self.model.action_space).sample

        def counting_sample():
            self.steps.append(self.model.num_timesteps)
            return sample(space)

        space.sample = counting_sample

    def _on_step(self):
        self.updates.append(self.model._n_updates)
        return True

    def _on_training_end(self):
        del self.model.action_space.sample


def share_at_bounds(model, n):
    return np.mean(np.abs(model.replay_buffer.actions[:n]) == 1)


# --- warm-up ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "share"), [(0.1, 0.044), (0.3, 0.123), (0.5, 0.200)])
def test_random_actions_pile_up_at_the_bounds_only_if_asked(sigma, share):
    """None of 4,000 uniform actions is at a bound; SB3's way, and SB3 itself, clip 4 to 20% of them there."""
    noise = NormalActionNoise(np.zeros(1), sigma * np.ones(1))
    for kwargs in (dict(random_steps=4000), dict(), dict(random_steps=4000, action_noise=f"normal_{sigma}")):
        model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=4000, **SMALL | dict(action_noise=noise) | kwargs).learn(4000)
        assert share_at_bounds(model, 4000) == 0
    shares = []
    for cls, kwargs in ((DDPG, dict(noise_in_warmup=True)), (SB3DDPG, {})):
        model = cls("MlpPolicy", "Pendulum-v1", learning_starts=4000, action_noise=noise, **SMALL, **kwargs).learn(4000)
        shares.append(share_at_bounds(model, 4000))
    assert shares[0] == shares[1] == pytest.approx(share, abs=5 * np.sqrt(share / 4000))


@pytest.mark.parametrize(
    ("random_steps", "learning_starts", "n_random", "first_update"),
    [(None, 50, 50, 51), (0, 50, 0, 51), (30, 50, 30, 51), (80, 50, 80, 51), (80, 0, 80, 1)],
)
def test_random_steps_and_learning_starts_are_two_things(random_steps, learning_starts, n_random, first_update):
    """As many random actions as random_steps, updates after learning_starts, whichever comes first."""
    watch = RandomActions()
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=learning_starts, random_steps=random_steps, **SMALL)
    model.learn(100, callback=watch)
    assert watch.steps == list(range(n_random))
    assert watch.updates == [max(0, step - first_update) for step in range(1, 101)]


def test_random_steps_go_on_where_learning_was_interrupted():
    """Also after updates have begun; a new learn() of a trained model takes none, nor does what continues that one."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=20, random_steps=80, **SMALL)
    counts = []
    for steps, reset in ((50, True), (50, False), (50, True), (50, False)):
        watch = RandomActions()
        model.learn(steps, callback=watch, reset_num_timesteps=reset)
        counts.append(len(watch.steps))
    assert counts == [50, 30, 0, 0]


@pytest.mark.parametrize(("repeat_warmup", "n_random"), [(False, 0), (True, 60)])
def test_random_steps_of_a_loaded_model(tmp_path, repeat_warmup, n_random):
    """A trained model takes no random action again unless repeat_warmup asks for it."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=20, random_steps=60, repeat_warmup=repeat_warmup, **SMALL)
    model.learn(100).save(tmp_path / "model")
    watch = RandomActions()
    DDPG.load(tmp_path / "model", env=gym.make("Pendulum-v1"), device="cpu").learn(100, callback=watch)
    assert len(watch.steps) == n_random


# --- in collection ----------------------------------------------------------------------------------------------------------


def test_share_of_uniform_actions():
    """With "epsilon_0.3" three of ten stored actions are uniform, the others the policy's."""
    model = DDPG("MlpPolicy", CountingEnv(), action_noise="epsilon_0.3", learning_starts=3000, random_steps=0, **SMALL)
    model.learn(3000)
    n = 3000
    observations = th.cat([model.replay_buffer._get_samples(np.arange(n)).observations])
    with th.no_grad():
        own = model.actor(observations).numpy()
    actions = model.replay_buffer.actions[:n].reshape(n, -1)
    is_random = np.abs(actions - own).max(axis=1) > 1e-5
    assert is_random.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / n))
    assert np.abs(actions[is_random]).mean() == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / (0.3 * n)))


@pytest.mark.parametrize("n_envs", [1, 3])
def test_noise_is_on_the_scale_of_the_actions(n_envs):
    """sigma is in units of half the range of each dimension, whatever its bounds, and the stored action is clipped."""
    low, high = [-2.0, 0.0], [6.0, 0.1]
    env = DummyVecEnv([lambda: CountingEnv(low=low, high=high)] * n_envs)
    model = DDPG("MlpPolicy", env, action_noise="normal_0.2", learning_starts=10_000, random_steps=0, **SMALL)
    with th.no_grad():
        model.actor.mu[-2].weight.zero_()
        model.actor.mu[-2].bias.zero_()
    model.learn(3000)
    stored = model.replay_buffer.actions[: 3000 // n_envs].reshape(-1, 2)
    taken = np.concatenate([single.unwrapped.actions for single in model.env.envs])
    assert stored.std(axis=0) == pytest.approx([0.2, 0.2], rel=0.08)
    assert taken.std(axis=0) == pytest.approx([0.2 * 4, 0.2 * 0.05], rel=0.08)
    assert taken.mean(axis=0) == pytest.approx([2.0, 0.05], abs=0.08)


@pytest.mark.parametrize("spec", KINDS)
def test_noise_resets_where_an_episode_ended(spec):
    """reset() is called with the environments whose episode ended, and all of them at the beginning."""
    env = DummyVecEnv([lambda n=n: CountingEnv(((n, "truncated"),)) for n in (3, 5)])
    model = DDPG("MlpPolicy", env, action_noise=spec, learning_starts=10, **SMALL)
    calls, reset = [], model.action_noise.reset
    model.action_noise.reset = lambda indices=None: (calls.append(indices and list(indices)), reset(indices))
    model.learn(30)
    assert calls == [None, [0], [1], [0], [0], [1], [0], [0], [1]]


@pytest.mark.parametrize("spec", KINDS)
def test_learning_in_two_parts_is_learning_in_one(spec):
    """An episode that goes on keeps its noise: not reset, not reseeded, bit for bit."""
    runs = []
    for parts in ((130,), (70, 60)):
        model = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", 2), action_noise=spec, learning_starts=20, **SMALL)
        for i, steps in enumerate(parts):
            model.learn(steps, reset_num_timesteps=i == 0)
        runs.append(model)
    np.testing.assert_array_equal(*(model.replay_buffer.actions[:65] for model in runs))
    for key, value in runs[0].policy.state_dict().items():
        assert th.equal(value, runs[1].policy.state_dict()[key]), key


@pytest.mark.parametrize("spec", KINDS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_seed_decides_the_noise(spec, n_envs):
    """The same seed gives the same actions whatever is done with NumPy's and torch's own streams; another does not."""
    runs = []
    for seed in (5, 5, 6):
        env = make_vec_env("Pendulum-v1", n_envs, seed=0)
        model = DDPG("MlpPolicy", env, action_noise=spec, random_steps=0, learning_starts=1000, **SMALL | dict(seed=seed))
        with th.no_grad():
            model.actor.mu[-2].weight.zero_()  # the same actor for both seeds
            model.actor.mu[-2].bias.zero_()
        np.random.seed(len(runs))
        th.manual_seed(len(runs))
        model.learn(60)
        runs.append(model.replay_buffer.actions[: 60 // n_envs].copy())
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    if n_envs > 1:
        assert len(np.unique(runs[0][-1])) == n_envs


def test_set_random_seed_reseeds_the_noise():
    """As it does the environments; a model without seed draws its own."""
    model = DDPG("MlpPolicy", "Pendulum-v1", action_noise="normal_1", **SMALL | dict(seed=None))
    other = DDPG("MlpPolicy", "Pendulum-v1", action_noise="normal_1", **SMALL | dict(seed=None))
    assert model.action_noise() != other.action_noise()
    draws = []
    for _ in range(2):
        model.set_random_seed(3)
        draws.append([model.action_noise() for _ in range(3)])
    np.testing.assert_array_equal(*draws)


def test_scheduled_noise_falls_during_training():
    """The stored actions spread as the schedule says, first wide, then narrow."""
    model = DDPG("MlpPolicy", CountingEnv(), action_noise="normal_lin_0.4_0", learning_starts=4000, random_steps=0, **SMALL)
    with th.no_grad():
        model.actor.mu[-2].weight.zero_()
        model.actor.mu[-2].bias.zero_()
    model.learn(4000)
    actions = model.replay_buffer.actions[:4000].reshape(4, 1000)
    assert actions.std(axis=1) == pytest.approx([0.35, 0.25, 0.15, 0.0577], rel=0.1)


def test_noise_of_sb3_is_used_as_ever():
    """Its objects are wrapped for several environments, and draw from NumPy's own stream."""
    model = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", 2), action_noise=NormalActionNoise(np.zeros(1), np.ones(1)), **SMALL)
    model.learn(10)
    assert type(model.action_noise).__name__ == "VectorizedActionNoise"
    np.random.seed(0)
    first = model.action_noise()
    np.random.seed(0)
    np.testing.assert_array_equal(model.action_noise(), first)


def test_unusual_shapes_of_actions():
    """Actions of two dimensions get noise in each entry."""

    class Matrix(CountingEnv):
        def __init__(self):
            super().__init__()
            self.action_space = gym.spaces.Box(-1, 1, (2, 3))

    model = DDPG("MlpPolicy", Matrix(), action_noise="normal_0.1, adaptive-param_0.1", learning_starts=10, **SMALL).learn(40)
    assert np.unique(model.replay_buffer.actions[11]).size == 6


def test_environments_in_processes_whose_spec_cannot_be_sent():
    """Only what the noise needs is asked of them, and what can go through a pipe."""
    gym.register("Unpicklable-v0", lambda **kwargs: gym.make("Pendulum-v1", max_episode_steps=50), kwargs=dict(f=lambda: 0))
    env = SubprocVecEnv([lambda: gym.make("Unpicklable-v0")] * 2, start_method="fork")
    for spec in ("normal_0.1", "pink_0.1, adaptive-param_0.1"):
        model = DDPG("MlpPolicy", env, action_noise=spec, random_steps=0, **SMALL).learn(4)
    assert model.action_noise.parts[0]._length == 50
    env.close()


def test_coloured_sequences_are_as_long_as_an_episode_may_be():
    """max_episode_steps, or 1000 where there is none."""
    for env, length in ((gym.make("Pendulum-v1", max_episode_steps=70), 70), (CountingEnv(), 1000)):
        assert DDPG("MlpPolicy", env, action_noise="pink_0.1", **SMALL).action_noise._length == length


@pytest.mark.parametrize("noise", [GaussianNoise(0.5), AdaptiveParameterNoise(0.5), "normal_0.5", dict(kind="ou")], ids=str)
def test_noise_of_a_live_model_can_be_replaced(noise):
    """Between two trainings, in every form the constructor takes."""
    model = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", 2), action_noise="normal_0.1", random_steps=0, **SMALL).learn(20)
    model.action_noise = noise
    assert model.learn(20).action_noise.n_envs == 2


def test_callbacks_see_the_noise_and_may_replace_it():
    """From their initialisation on."""
    seen = []

    class Replace(BaseCallback):
        def _init_callback(self):
            seen.append(self.model.action_noise)
            self.model.action_noise = GaussianNoise(0.7)

        def _on_step(self):
            seen.append(self.locals["action_noise"])
            return True

    model = DDPG("MlpPolicy", "Pendulum-v1", action_noise="normal_0.1", **SMALL)
    first = model.action_noise
    model.learn(1, callback=Replace())
    assert seen == [first, model.action_noise]
    assert repr(model.action_noise) == repr(GaussianNoise(0.7))


def test_sigma_of_a_live_noise_can_be_changed():
    """It counts from the next step on."""
    model = DDPG("MlpPolicy", CountingEnv(), action_noise="normal_0.1", random_steps=0, learning_starts=1000, **SMALL).learn(
        20
    )
    model.action_noise.sigma = 0.0
    model.learn(20, reset_num_timesteps=False)
    observations = model.replay_buffer._get_samples(np.arange(20, 40)).observations
    with th.no_grad():
        own = model.actor(observations).numpy()
    np.testing.assert_allclose(model.replay_buffer.actions[20:40].reshape(20, 1), own, atol=1e-6)


def test_noise_of_ours_in_sb3s_wrapper_is_unwrapped():
    """It is for several environments itself."""
    noise = VectorizedActionNoise(GaussianNoise(0.1), 2)
    model = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", 2), action_noise=noise, random_steps=0, **SMALL).learn(10)
    assert type(model.action_noise) is GaussianNoise


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (GaussianNoise(lambda progress: progress - 1.5), "is -0.5 at step 0; it must be a finite number >= 0"),
        (GaussianNoise(1.0, scale=lambda progress: float("nan")), "is nan at step 0"),
        ("epsilon_lin_2_0", r"is 2.0 at step 0; it must be a number in \[0, 1\]"),
    ],
)
def test_value_of_a_schedule_is_checked(noise, words):
    """Negative, infinite and impossible ones are refused."""
    with pytest.raises(ValueError, match=words):
        DDPG("MlpPolicy", "Pendulum-v1", action_noise=noise, **SMALL)


# --- saved ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["normal_lin_0.5_0.1", *KINDS[1:]])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_noise_is_saved_where_it_is(tmp_path, spec, n_envs):
    """Processes, schedules and streams go on after load() as they would have without."""
    model = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", n_envs), action_noise=spec, learning_starts=20, **SMALL).learn(90)
    model.save(tmp_path / "model")
    loaded = DDPG.load(tmp_path / "model", env=make_vec_env("Pendulum-v1", n_envs), device="cpu")
    assert repr(loaded.action_noise) == repr(model.action_noise)
    assert loaded.action_noise.statistics() == model.action_noise.statistics()
    zeros = np.zeros((n_envs, 1), np.float32)
    for _ in range(100):
        np.testing.assert_array_equal(loaded.action_noise.apply(zeros), model.action_noise.apply(zeros))


def test_load_with_other_noise(tmp_path):
    """What is given to load() replaces what was saved, all of it."""
    DDPG("MlpPolicy", "Pendulum-v1", action_noise="adaptive-param_0.2, ou_0.1", **SMALL).learn(20).save(tmp_path / "model")
    env = gym.make("Pendulum-v1")
    loaded = DDPG.load(tmp_path / "model", env=env, device="cpu", action_noise="normal_0.3").learn(20)
    assert (repr(loaded.action_noise), loaded.parameter_noise) == (repr(GaussianNoise(0.3)), None)
    assert DDPG.load(tmp_path / "model", env=env, device="cpu", action_noise=None).learn(20).action_noise is None


def test_load_with_a_seed_begins_new_streams(tmp_path):
    """Several trainings from one file explore differently; so does one with another number of environments."""
    model = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", 2), action_noise="normal_1", **SMALL)
    first = model.action_noise.apply(np.zeros((2, 1)))
    model.learn(20).save(tmp_path / "model")
    draws = [first[0, 0]]
    for n_envs, kwargs in ((2, dict(seed=1)), (2, dict(seed=2)), (2, {}), (3, {})):
        loaded = DDPG.load(tmp_path / "model", env=make_vec_env("Pendulum-v1", n_envs), device="cpu", **kwargs)
        draws.append(loaded.action_noise.apply(np.zeros((n_envs, 1)))[0, 0])
    assert len(set(draws)) == 5


def test_load_without_an_environment(tmp_path):
    """For prediction alone."""
    model = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", 2), action_noise="pink_0.3, adaptive-param_0.2", **SMALL).learn(20)
    model.save(tmp_path / "model")
    obs = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(DDPG.load(tmp_path / "model", device="cpu").predict(obs)[0], model.predict(obs)[0])


# --- seen in the log --------------------------------------------------------------------------------------------------------


def test_log(tmp_path):
    """Scales, sigma, distance and target, and the share at the bounds of each dimension, in CSV and TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    env = CountingEnv(((20, "terminated"),), low=[-1, -1], high=[1, 1])
    model = DDPG("MlpPolicy", env, action_noise="adaptive-param_0.2, normal_0.3", learning_starts=10, **SMALL)
    model.set_logger(configure(str(tmp_path), ["csv", "tensorboard"]))
    with th.no_grad():
        model.actor.mu[-2].weight.zero_()
        model.actor.mu[-2].bias.copy_(th.tensor([20.0, 0.0]))
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        optimizer.param_groups[0]["lr"] = 0.0
    model.lr_schedule = model.qf_lr_schedule = lambda progress: 0.0
    model.parameter_noise._sigma = 1e-6
    model.learn(480, log_interval=4)
    with (tmp_path / "progress.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    events = EventAccumulator(str(tmp_path)).Reload()
    names = ["sigma", "parameter_sigma", "parameter_target", "parameter_distance", "at_bounds", "at_bounds_0", "at_bounds_1"]
    values = {name: float(last[f"exploration/{name}"]) for name in names}
    for name, value in values.items():
        assert events.Scalars(f"exploration/{name}")[-1].value == pytest.approx(value, rel=1e-4)
    assert (values["sigma"], values["parameter_target"]) == (0.3, 0.2)
    assert values["parameter_sigma"] == pytest.approx(1e-6 * 1.01 ** (model._n_updates // 50), rel=1e-3)
    assert 0 < values["parameter_distance"] < 1e-3
    # The last 80 steps: half of the noise is past the bound that the first dimension sits at, none of the second's.
    stored = model.replay_buffer.actions[400:480].reshape(80, 2)
    assert values["at_bounds_0"] == pytest.approx(np.mean(np.abs(stored[:, 0]) == 1))
    assert values["at_bounds_0"] == pytest.approx(0.5, abs=0.2)
    assert values["at_bounds_1"] == np.mean(np.abs(stored[:, 1]) == 1) < 0.05
    assert values["at_bounds"] == pytest.approx((values["at_bounds_0"] + values["at_bounds_1"]) / 2)


def test_log_of_one_dimension_has_one_share(capsys):
    """Without noise too, and printed; single dimensions of several are for the files alone."""
    DDPG("MlpPolicy", CountingEnv(), verbose=1, **SMALL).learn(20, log_interval=1)
    DDPG("MlpPolicy", CountingEnv(low=[-1, -1], high=[1, 1]), verbose=1, **SMALL).learn(20, log_interval=1)
    printed = capsys.readouterr().out
    assert "at_bounds " in printed
    assert " sigma " not in printed
    assert "at_bounds_" not in printed


def test_scale_of_sb3s_noise_is_logged(tmp_path):
    """As of ours: rl_zoo3's noise_type makes such objects."""
    for i, env in enumerate((CountingEnv(), make_vec_env(CountingEnv, 2))):
        model = DDPG("MlpPolicy", env, action_noise=NormalActionNoise(np.zeros(1), np.full(1, 0.3)), **SMALL)
        model.set_logger(configure(str(tmp_path / str(i)), ["csv"]))
        model.learn(40, log_interval=1)
        with (tmp_path / str(i) / "progress.csv").open() as file:
            assert float(list(csv.DictReader(file))[-1]["exploration/sigma"]) == pytest.approx(0.3)

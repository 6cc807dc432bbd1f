"""The images of the DDPG paper: what is stacked, and how it is made small."""

import gymnasium as gym
import numpy as np
import pytest
from conftest import CountingEnv, DictPendulum
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.wrappers import PreviousReward, ScaledObservations, ScaledRewards, StackedRenderings


class Canvas(gym.Env):
    """Its rendering says how many steps there were; 16 x 8 pixels, the upper half dark."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, length=100, truncates=False, render_mode="rgb_array"):
        self.length, self.truncates, self.render_mode = length, truncates, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {"begin": True}

    def step(self, action):
        self.steps += 1
        ended = self.steps >= self.length
        return np.zeros(1, np.float32), 0.5, ended and not self.truncates, ended and self.truncates, {"steps": self.steps}

    def render(self):
        image = np.zeros((16, 8, 3), np.uint8)
        image[8:] = 10 * self.steps % 250
        return image


def of_frames(obs):
    """The number of steps that each frame shows."""
    return (obs[-1, 0].reshape(-1, 3)[:, 0] // 10).tolist()


def test_frames_of_a_repeated_action():
    """One for each repetition; rewards are summed, and an episode begins with one rendering in all places."""
    env = StackedRenderings(Canvas(), size=4)
    obs, info = env.reset(seed=0)
    assert of_frames(obs) == [0, 0, 0]
    assert info == {"begin": True}
    obs, reward, terminated, truncated, info = env.step(np.zeros(1))
    assert of_frames(obs) == [1, 2, 3]
    assert (reward, terminated, truncated, info["steps"]) == (1.5, False, False, 3)
    assert of_frames(env.step(np.zeros(1))[0]) == [4, 5, 6]


@pytest.mark.parametrize("truncates", [False, True])
def test_an_episode_that_ends_in_between(truncates):
    """No step is taken after its end, whose rendering fills the rest."""
    env = StackedRenderings(Canvas(length=5, truncates=truncates), size=4)
    env.reset()
    env.step(np.zeros(1))
    obs, reward, terminated, truncated, _ = env.step(np.zeros(1))
    assert of_frames(obs) == [4, 5, 5]
    assert (reward, terminated, truncated) == (1.0, not truncates, truncates)


def test_pixels_are_averaged():
    """Each is the mean of the area it stands for."""
    env = StackedRenderings(Canvas(), size=2, repeat=1)
    env.reset()
    obs = env.step(np.zeros(1))[0]
    assert obs.shape == (2, 2, 3)
    assert obs[:, 0, 0].tolist() == [0, 10]
    assert StackedRenderings(Canvas(), size=1, repeat=1).reset()[0].max() == 0
    one = StackedRenderings(Canvas(), size=1, repeat=2)
    one.reset()
    assert one.step(np.zeros(1))[0].ravel().tolist() == [5] * 3 + [10] * 3


def test_averages_are_rounded():
    """Of two rows with 0 and two with 99 and 100, to the nearest byte: 49.75 is 50."""

    class Rows(Canvas):
        def render(self):
            return np.repeat(np.array([0, 0, 99, 100], np.uint8), 12).reshape(4, 4, 3)

    assert StackedRenderings(Rows(), size=1, repeat=1).reset()[0].tolist() == [[[50, 50, 50]]]


def test_it_can_be_made_again_from_its_spec():
    """gymnasium records the arguments, and makes an environment with the same images of them."""
    env = StackedRenderings(gym.make("Pendulum-v1", render_mode="rgb_array"), size=32, repeat=2)
    assert gym.make(env.spec).observation_space.shape == (32, 32, 6)


def test_it_is_an_image_for_sb3():
    """The space is one of the paper's 9 channels of 64 x 64, and the environment passes SB3's checks."""
    env = StackedRenderings(Canvas())
    assert env.observation_space == gym.spaces.Box(0, 255, (64, 64, 9), np.uint8)
    assert is_image_space(env.observation_space)
    check_env(env)


def test_paper_s_policy_for_images_learns_from_it():
    """The whole of the pixel experiments, for some steps."""
    model = DDPG("PaperCnnPolicy", StackedRenderings(Canvas(length=20)), batch_size=16, learning_starts=20, buffer_size=100)
    model.learn(30)
    assert model.policy.actor.features_extractor.layers[0].in_channels == 9
    assert model._n_updates == 10


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (dict(size=0), ValueError, "size=0"),
        (dict(repeat=1.5), TypeError, "repeat=1.5"),
        (dict(render_mode=None), ValueError, "env.render_mode=None must be 'rgb_array'"),
    ],
    ids=str,
)
def test_wrong_arguments(kwargs, error, message):
    """The error names them."""
    env = Canvas(render_mode=kwargs.pop("render_mode", "rgb_array"))
    with pytest.raises(error, match=message):
        StackedRenderings(env, **kwargs)


def test_the_previous_reward():
    """Behind the observation, 0 at the beginning of an episode."""
    env = PreviousReward(CountingEnv(((3, "terminated"),)))
    assert env.reset()[0].tolist() == [0, 0, 0]
    assert [env.step(env.action_space.sample())[0].tolist() for _ in range(3)] == [[0, 1, 1], [0, 2, 2], [0, 3, 3]]
    assert env.reset()[0].tolist() == [1, 0, 0]
    check_env(PreviousReward(gym.make("Pendulum-v1")))
    again = gym.make(PreviousReward(gym.make("Pendulum-v1")).spec)
    assert again.observation_space.shape == (4,)
    with pytest.raises(ValueError, match="must be a Box of vectors of floats"):
        PreviousReward(gym.make("FrozenLake-v1"))


def test_scaled_observations():
    """The bounds become -1 and 1, and what lies between follows by a straight line."""
    env = ScaledObservations(gym.make("MountainCarContinuous-v0"))
    low, high = env.unwrapped.observation_space.low, env.unwrapped.observation_space.high
    assert env.observation_space == gym.spaces.Box(-1, 1, (2,), np.float32)
    obs, _ = env.reset(seed=0)
    assert np.allclose(obs, 2 * (env.unwrapped.state - low) / (high - low) - 1, atol=1e-6)
    for _ in range(20):
        obs, *_ = env.step(env.action_space.sample())
        assert np.allclose(obs, 2 * (env.unwrapped.state - low) / (high - low) - 1, atol=1e-6)


def test_scaled_observations_refuse_infinite_bounds():
    """The error names the environment and the dimensions, and what to use."""
    with pytest.raises(ValueError, match=r"HalfCheetah-v5.*dimensions \[0, 1, .*normalize_observations=True"):
        ScaledObservations(gym.make("HalfCheetah-v5"))
    with pytest.raises(ValueError, match="must be a Box of floats"):
        ScaledObservations(DictPendulum(gym.make("Pendulum-v1")))


def test_scaled_rewards():
    """What is learnt from is scaled, what is reported is not; the wrapper is made again from its spec."""
    env = make_vec_env("Pendulum-v1", 1, seed=0, wrapper_class=ScaledRewards, wrapper_kwargs=dict(factor=1000))
    plain = make_vec_env("Pendulum-v1", 1, seed=0)
    for each in (env, plain):
        each.reset()
    for _ in range(200):
        _, scaled, _, infos = env.step([[0.5]])
        _, reward, done, own = plain.step([[0.5]])
        assert np.isclose(scaled[0], 1000 * reward[0])
    assert done[0]
    assert infos[0]["episode"]["r"] == own[0]["episode"]["r"]
    again = gym.make(ScaledRewards(gym.make("Pendulum-v1"), 1e-3).spec)
    assert again.factor == 1e-3


@pytest.mark.parametrize("factor", [0, -1, float("nan"), "1"])
def test_scaled_rewards_refuse(factor):
    with pytest.raises((ValueError, TypeError), match=r"factor=.*must be a finite number > 0"):
        ScaledRewards(gym.make("Pendulum-v1"), factor)

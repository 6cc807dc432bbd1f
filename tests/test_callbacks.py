"""The callbacks on the mean return, and Stable-Baselines3's own callbacks with this DDPG."""

import gymnasium as gym
import imageio.v3
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from sb3_ddpg_ext import DDPG, SaveOnBestMeanReturn, StopTrainingOnMeanReturn
from sb3_ddpg_ext.callbacks import RecordVideos

OBS = np.ones(2, dtype=np.float32)


class ScriptedReturns(gym.Env):
    """Episodes of ``length`` steps whose returns are ``returns``, the last one for ever. Observation = (episode, step)."""

    def __init__(self, returns, length=2, reward_threshold=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.spec = EnvSpec("ScriptedReturns-v0", "no-entry-point", reward_threshold=reward_threshold)
        self.returns = returns
        self.length = length
        self.n_ended = 0

    def _obs(self):
        return np.array([self.n_ended, self.n_steps], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._obs(), {}

    def step(self, action):
        reward = self.returns[min(self.n_ended, len(self.returns) - 1)] / self.length
        self.n_steps += 1
        ended = self.n_steps == self.length
        self.n_ended += ended
        return self._obs(), reward, ended, False, {}


class Recorder(BaseCallback):
    """Remembers ``measure(model)`` at every step."""

    def __init__(self, measure):
        super().__init__()
        self.measure = measure
        self.at = {}

    def _on_step(self):
        self.at[self.num_timesteps] = self.measure(self.model)
        return True


def make_model(env, **kwargs):
    kwargs = {"learning_starts": 1000, "buffer_size": 100, "policy_kwargs": dict(net_arch=[8])} | kwargs
    return DDPG("MlpPolicy", env, seed=0, device="cpu", **kwargs)


@pytest.mark.parametrize(
    ("returns", "n_episodes", "steps"),
    [
        pytest.param([0, 0, 10, 10, 10], 2, 8, id="the mean, not the last return"),
        pytest.param([0, 20, 0], 2, 4, id="equality is enough"),
        pytest.param([50], 3, 6, id="not before n_episodes have ended"),
        pytest.param([100, 0, 0, 30, 0], 3, 6, id="the mean of few is no mean"),
        pytest.param([100, -100, 0, 10, 20], 3, 10, id="older episodes are forgotten"),
        pytest.param([9.5], 1, 20, id="never"),
    ],
)
def test_training_stops_at_the_episode_whose_mean_reaches_the_threshold(returns, n_episodes, steps):
    """With threshold 10 and episodes of two steps, the number of steps is that of the first mean of n_episodes >= 10."""
    model = make_model(ScriptedReturns(returns))
    model.learn(20, callback=StopTrainingOnMeanReturn(threshold=10, n_episodes=n_episodes))
    assert model.num_timesteps == steps


def test_episodes_of_all_environments_are_in_the_mean():
    """A return of 1 after two steps in one environment and of 9 after three in the other are a mean of 5 after three."""
    env = DummyVecEnv([lambda: Monitor(ScriptedReturns([1], length=2)), lambda: Monitor(ScriptedReturns([9], length=3))])
    model = make_model(env)
    model.learn(40, callback=StopTrainingOnMeanReturn(threshold=5, n_episodes=2))
    assert model.num_timesteps == 2 * 3


def test_threshold_is_by_default_that_of_the_environment():
    """Without a threshold, training stops when env.spec.reward_threshold is reached, seen through the wrappers."""
    model = make_model(ScriptedReturns([0, 6, 7, 0], reward_threshold=7.0))
    model.learn(20, callback=StopTrainingOnMeanReturn(n_episodes=1))
    assert model.num_timesteps == 6


def test_given_threshold_goes_before_that_of_the_environment():
    """With a threshold of 6, training does not go on to the environment's 7."""
    model = make_model(ScriptedReturns([0, 6, 7, 0], reward_threshold=7.0))
    model.learn(20, callback=StopTrainingOnMeanReturn(threshold=6, n_episodes=1))
    assert model.num_timesteps == 4


@pytest.mark.parametrize("has_spec", [True, False])
def test_no_threshold_at_all_is_an_error(has_spec):
    """Where neither the argument nor the environment gives a threshold, learn() says so before the first step."""
    env = ScriptedReturns([0])
    if not has_spec:
        env.spec = None
    model = make_model(env)
    with pytest.raises(ValueError, match=r"threshold=None.*reward_threshold"):
        model.learn(20, callback=StopTrainingOnMeanReturn())
    assert model.num_timesteps == 0


@pytest.mark.parametrize(("callback_class", "argument"), [(StopTrainingOnMeanReturn, 10), (SaveOnBestMeanReturn, "folder")])
def test_missing_monitor_is_an_error(callback_class, argument, tmp_path, monkeypatch):
    """Without a Monitor the callbacks name what to wrap, at the first end of an episode."""
    monkeypatch.chdir(tmp_path)
    model = make_model(DummyVecEnv([lambda: ScriptedReturns([0])]))
    with pytest.raises(ValueError, match=rf"{callback_class.__name__}.*Monitor.*VecMonitor"):
        model.learn(20, callback=callback_class(argument))
    assert model.num_timesteps == 2


def test_vec_monitor_is_as_good_as_monitor():
    """Returns are also taken from a VecMonitor around the vectorised environment."""
    model = make_model(VecMonitor(DummyVecEnv([lambda: ScriptedReturns([0, 10])])))
    model.learn(20, callback=StopTrainingOnMeanReturn(threshold=10, n_episodes=1))
    assert model.num_timesteps == 4


def test_stop_is_printed(capsys):
    """At verbose=1 the steps, the mean and the threshold are printed, once."""
    callback = StopTrainingOnMeanReturn(threshold=10, n_episodes=1, verbose=1)
    make_model(ScriptedReturns([0, 12])).learn(20, callback=callback)
    assert capsys.readouterr().out == ("Solved after 4 steps: the mean return of the last 1 episodes, 12.00, has reached 10\n")


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (dict(threshold="90"), TypeError, "threshold='90'"),
        (dict(threshold=float("nan")), ValueError, "threshold=nan"),
        (dict(n_episodes=0), ValueError, "n_episodes=0"),
        (dict(n_episodes=2.5), TypeError, "n_episodes=2.5"),
    ],
)
def test_wrong_arguments_are_named(kwargs, error, message):
    """What is not a threshold or a number of episodes is refused by the constructor, with name and value."""
    with pytest.raises(error, match=message):
        StopTrainingOnMeanReturn(**kwargs)


@pytest.mark.parametrize(
    ("returns", "n_episodes", "steps"),
    [
        pytest.param([1, 3, 2, 5, 4], 1, [2, 4, 8], id="only when better"),
        pytest.param([3, 3, 3], 1, [2], id="not when equal"),
        pytest.param([1, 3, 2, 5, 0], 2, [4, 6, 8], id="not before n_episodes have ended"),
        pytest.param([-5, -9, -4], 1, [2, 6], id="negative returns too"),
    ],
)
def test_model_is_saved_exactly_when_the_mean_is_the_best_so_far(returns, n_episodes, steps, tmp_path, monkeypatch):
    """With episodes of two steps, save() is called after those whose mean is higher than ever before."""
    model = make_model(ScriptedReturns(returns))
    saved_at = []
    monkeypatch.setattr(model, "save", lambda path: saved_at.append(model.num_timesteps))
    model.learn(2 * len(returns), callback=SaveOnBestMeanReturn(tmp_path, n_episodes))
    assert saved_at == steps


def test_saved_model_is_the_one_that_had_the_best_mean(tmp_path):
    """The file predicts as the model did at the best episode, not as it does after further training; its folder is made."""
    model = make_model(ScriptedReturns([1, 3, 2, 0]), learning_starts=0, batch_size=4, learning_rate=0.01)
    recorder = Recorder(lambda model: model.predict(OBS)[0])
    model.learn(8, callback=[SaveOnBestMeanReturn(tmp_path / "new" / "folder", n_episodes=1), recorder])
    best = DDPG.load(tmp_path / "new" / "folder" / "best_mean_return.zip", device="cpu")
    assert best.num_timesteps == 4
    np.testing.assert_array_equal(best.predict(OBS)[0], recorder.at[4])
    assert not np.array_equal(model.predict(OBS)[0], recorder.at[4])


def test_statistics_of_vec_normalize_lie_beside_the_model(tmp_path):
    """The pickled VecNormalize has the means of the best episode, and can wrap another environment."""
    make_env = lambda: DummyVecEnv([lambda: Monitor(ScriptedReturns([1, 3, 2, 0]))])  # noqa: E731
    env = VecNormalize(make_env())
    recorder = Recorder(lambda model: env.obs_rms.mean.copy())
    make_model(env).learn(8, callback=[SaveOnBestMeanReturn(tmp_path, n_episodes=1), recorder])
    restored = VecNormalize.load(str(tmp_path / "best_mean_return_vecnormalize.pkl"), make_env())
    np.testing.assert_array_equal(restored.obs_rms.mean, recorder.at[4])
    assert not np.array_equal(env.obs_rms.mean, recorder.at[4])


def test_best_mean_is_of_the_unnormalised_returns(tmp_path):
    """VecNormalize scales the rewards of training, not the returns that are compared."""
    callback = SaveOnBestMeanReturn(tmp_path, n_episodes=1)
    make_model(VecNormalize(DummyVecEnv([lambda: Monitor(ScriptedReturns([100, 300, 200]))]))).learn(6, callback=callback)
    assert callback.best_mean_return == 300


def test_without_vec_normalize_only_the_model_is_written(tmp_path):
    """There is no file of statistics where there are none."""
    make_model(ScriptedReturns([1])).learn(2, callback=SaveOnBestMeanReturn(tmp_path, n_episodes=1))
    assert [path.name for path in tmp_path.iterdir()] == ["best_mean_return.zip"]


def test_sb3_stops_training_on_a_reward_threshold():
    """Evaluated every 10 steps with the returns 1, 2, 3, ..., training ends at the third evaluation for a threshold of 3."""
    eval_env = Monitor(ScriptedReturns(range(1, 100)))
    callback = EvalCallback(eval_env, StopTrainingOnRewardThreshold(3), n_eval_episodes=1, eval_freq=10, verbose=0)
    model = make_model(ScriptedReturns([0]), learning_starts=5, batch_size=4).learn(100, callback=callback)
    assert model.num_timesteps == 30


def test_sb3_stops_training_without_improvement(tmp_path):
    """With the returns 1, 2, 0, 0, the second evaluation without a new best ends training; the best model is the second."""
    callback = EvalCallback(
        Monitor(ScriptedReturns([1, 2, 0])),
        callback_after_eval=StopTrainingOnNoModelImprovement(max_no_improvement_evals=1),
        n_eval_episodes=1,
        eval_freq=10,
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    model = make_model(ScriptedReturns([0]), learning_starts=5, batch_size=4).learn(100, callback=callback)
    assert model.num_timesteps == 40
    assert DDPG.load(tmp_path / "best_model.zip").num_timesteps == 20


def test_sb3_checkpoints_can_be_resumed(tmp_path):
    """A checkpoint after 20 of 25 steps gives back model and replay buffer, and training goes on counting from there."""
    env = ScriptedReturns([0])
    callback = CheckpointCallback(10, str(tmp_path), "ddpg", save_replay_buffer=True)
    make_model(env, learning_starts=5, batch_size=4).learn(25, callback=callback)
    model = DDPG.load(tmp_path / "ddpg_20_steps.zip", env=env)
    model.load_replay_buffer(tmp_path / "ddpg_replay_buffer_20_steps.pkl")
    assert model.replay_buffer.size() == 19  # callbacks come before the transition of their step is stored
    model.learn(5, reset_num_timesteps=False)
    assert model.num_timesteps == 25
    assert model.replay_buffer.size() == 24


def test_every_nth_episode_is_filmed(tmp_path):
    """Films of training episodes 2 and 4 with as many frames as they have; the environment is left as it was."""
    env = gym.make("Pendulum-v1", render_mode="rgb_array", max_episode_steps=20)
    model = DDPG("MlpPolicy", env, learning_starts=1000)
    before = model.get_env().envs[0]
    model.learn(95, callback=RecordVideos(every=2, folder=tmp_path / "films"))
    assert model.get_env().envs[0] is before
    assert sorted(path.name for path in (tmp_path / "films").glob("*.mp4")) == [
        "training-episode-2.mp4", "training-episode-4.mp4"
    ]  # fmt: skip
    frames = imageio.v3.imread(tmp_path / "films" / "training-episode-2.mp4")
    assert abs(len(frames) - 21) <= 1
    assert frames.std() > 0


def test_films_after_an_error(tmp_path):
    """A training that ended with an error leaves no recorder behind the next one's."""
    env = gym.make("Pendulum-v1", render_mode="rgb_array", max_episode_steps=20)
    model = DDPG("MlpPolicy", env, learning_starts=1000)
    before = model.get_env().envs[0]
    with pytest.raises(ZeroDivisionError):
        model.learn(5, callback=[RecordVideos(every=2, folder=tmp_path), ConvertCallback(lambda *_: 1 / 0)])
    model.learn(5, callback=RecordVideos(every=2, folder=tmp_path))
    assert model.get_env().envs[0] is before


def test_films_need_frames():
    """The error says which render_mode, and which kind of VecEnv."""
    with pytest.raises(ValueError, match="render_mode=None must be 'rgb_array' for RecordVideos"):
        DDPG("MlpPolicy", gym.make("Pendulum-v1")).learn(1, callback=RecordVideos())
    with pytest.raises(ValueError, match="every=1 must be an integer >= 2"):
        RecordVideos(every=1)

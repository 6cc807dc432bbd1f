"""What a user or an environment can get wrong is refused, with the argument, the value and what is allowed."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv, DictPendulum
from gymnasium import spaces
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_ddpg_ext import DDPG, DDPGPolicy, RecurrentDDPG
from sb3_ddpg_ext.noise import GaussianNoise


def space_env(space):
    """An environment with this action space."""
    env = CountingEnv()
    env.action_space = space
    return env


class OwnBuffer(ReplayBuffer):
    """Without returns of several steps."""


SMALL = dict(buffer_size=100, learning_starts=5, device="cpu")
DICT_PENDULUM = DictPendulum(gym.make("Pendulum-v1"))

# keyword arguments, error, what its text must contain: the argument's name, the value, what is allowed
BAD_ARGUMENTS = [
    (dict(policy="MlpPolcy"), ValueError, ["policy='MlpPolcy'", "MlpPolicy", "CnnPolicy"]),
    (dict(policy=SAC), TypeError, ["policy=", "SAC", "DDPGPolicy"]),
    (dict(policy=None), TypeError, ["policy=None", "MlpPolicy"]),
    (dict(env=None), ValueError, ["env=None", "environment"]),
    (dict(env="CartPole-v1"), ValueError, ["action_space=Discrete(2)", "Box"]),
    (dict(env=space_env(spaces.MultiBinary(3))), ValueError, ["action_space=MultiBinary(3)", "Box"]),
    (dict(env=space_env(spaces.Box(-np.inf, np.inf, (2,)))), ValueError, ["action_space=Box(-inf, inf", "finite bounds"]),
    (dict(env=space_env(spaces.Box(0, np.inf, (2,)))), ValueError, ["action_space=Box(0.0, inf", "finite bounds"]),
    (dict(env=space_env(spaces.Box(1, 1, (2,)))), ValueError, ["action_space=Box(1.0, 1.0", "low < high"]),
    (dict(learning_rate=-1e-3), ValueError, ["learning_rate=-0.001", ">= 0"]),
    (dict(learning_rate=float("nan")), ValueError, ["learning_rate=nan", "finite"]),
    (dict(learning_rate="cos_1e-3"), ValueError, ["learning_rate='cos_1e-3'", "'cos'", "lin, exp"]),
    (dict(learning_rate="lin_fast"), ValueError, ["learning_rate='lin_fast'", "as 'lin_0.1' can"]),
    (dict(learning_rate=None), TypeError, ["learning_rate=None", "number"]),
    (dict(qf_learning_rate=-1.0), ValueError, ["qf_learning_rate=-1.0", ">= 0"]),
    (dict(buffer_size=0), ValueError, ["buffer_size=0", ">= 1"]),
    (dict(buffer_size="1e6"), TypeError, ["buffer_size='1e6'", "integer"]),
    (dict(learning_starts=-1), ValueError, ["learning_starts=-1", ">= 0"]),
    (dict(batch_size=0), ValueError, ["batch_size=0", ">= 1"]),
    (dict(batch_size=32.5), TypeError, ["batch_size=32.5", "integer"]),
    (dict(batch_size=True), TypeError, ["batch_size=True", "integer"]),
    (dict(tau=-0.1), ValueError, ["tau=-0.1", "[0, 1]"]),
    (dict(tau=1.5), ValueError, ["tau=1.5", "[0, 1]"]),
    (dict(tau="soft"), TypeError, ["tau='soft'", "[0, 1]"]),
    (dict(gamma=1.01), ValueError, ["gamma=1.01", "[0, 1]"]),
    (dict(gamma=None), TypeError, ["gamma=None", "[0, 1]"]),
    (dict(train_freq=0), ValueError, ["train_freq=0", ">= 1"]),
    (dict(train_freq=1.5), TypeError, ["train_freq=1.5", "integer"]),
    (dict(train_freq="step"), TypeError, ["train_freq='step'", "pair"]),
    (dict(train_freq=(1, "epoch")), ValueError, ["train_freq=(1, 'epoch')", "'epoch'", '"episode"']),
    (dict(train_freq=(0, "episode")), ValueError, ["train_freq=0", ">= 1"]),
    (dict(train_freq=(1, 2, 3)), TypeError, ["train_freq=(1, 2, 3)", "pair"]),
    (dict(env=make_vec_env("Pendulum-v1", 2), train_freq=(1, "episode")), ValueError, ["train_freq=", "n_envs=2", "single"]),
    (dict(gradient_steps=-2), ValueError, ["gradient_steps=-2", ">= -1"]),
    (dict(policy_delay=0), ValueError, ["policy_delay=0", ">= 1"]),
    (dict(target_policy_noise=-0.2), ValueError, ["target_policy_noise=-0.2", ">= 0"]),
    (dict(target_noise_clip=float("inf")), ValueError, ["target_noise_clip=inf", "finite"]),
    (dict(learner="fast"), ValueError, ["learner='fast'", "auto", "eager", "fused"]),
    (dict(learner="cuda_graph"), ValueError, ["learner='cuda_graph'", "on cpu", "'auto'"]),
    (dict(precision="fp8"), ValueError, ["precision='fp8'", "'float32'", "'bf16'"]),
    (dict(n_threads=0), ValueError, ["n_threads=0", ">= 1"]),
    (dict(n_threads="all"), TypeError, ["n_threads='all'", "integer"]),
    (
        dict(action_noise="pinkish_0.1"),
        ValueError,
        ["action_noise='pinkish_0.1'", "'pinkish'", "red, pink, normal", "adaptive-param"],
    ),
    (dict(action_noise="normal"), ValueError, ["action_noise='normal'", "such as 'normal_0.1'"]),
    (dict(action_noise="normal_-0.1"), ValueError, ["action_noise='normal_-0.1'", ">= 0"]),
    (dict(action_noise=0.1), TypeError, ["action_noise=0.1", "ActionNoise"]),
    (dict(action_noise=GaussianNoise([0.1, 0.2])), ValueError, ["sigma=[0.1, 0.2]", "2 dimensions", "1"]),
    (dict(action_noise=dict(kind="ou", sgima=0.1)), ValueError, ["'sgima'", "'ou'", "theta", "start"]),
    (dict(random_steps=-1), ValueError, ["random_steps=-1", ">= 0"]),
    (dict(noise_in_warmup="no"), TypeError, ["noise_in_warmup='no'", "bool"]),
    (dict(policy_kwargs=dict(actor_norm="group")), ValueError, ["actor_norm", "'group'", "none, layer, batch"]),
    (dict(n_steps=0), ValueError, ["n_steps=0", ">= 1"]),
    (dict(n_steps=3, replay_buffer_kwargs=dict(gamma=0.5)), ValueError, ["replay_buffer_kwargs['gamma']=0.5", "gamma=0.99"]),
    (dict(replay_buffer_class=OwnBuffer, n_steps=3), ValueError, ["n_steps=3", "must be 1", "OwnBuffer"]),
    (
        dict(replay_buffer_kwargs=dict(sampling="prioritised")),
        ValueError,
        ["sampling", "'prioritised'", "did you mean 'prioritized'?"],
    ),
    (dict(replay_buffer_kwargs=dict(sampling="uniform_0.5")), ValueError, ["sampling", "'uniform_0.5'"]),
    (dict(replay_buffer_kwargs=dict(sampling="prioritized_-1")), ValueError, ["sampling", "alpha"]),
    (dict(replay_buffer_kwargs=dict(sampling=dict(kind="prioritized", beta=2))), ValueError, ["sampling", "beta"]),
    (dict(replay_buffer_kwargs=dict(sampling=dict(kind="lap", beta=1))), ValueError, ["'lap'", "'beta'", "alpha"]),
    (dict(replay_buffer_kwargs=dict(sampling=3)), TypeError, ["sampling", "3"]),
    (dict(replay_buffer_kwargs=dict(combined="no")), TypeError, ["combined='no'"]),
    (dict(replay_buffer_kwargs=dict(sampling=dict(kind="uniform", replacement="no"))), TypeError, ["replacement='no'"]),
    (dict(replay_buffer_kwargs=dict(n_steps="3")), TypeError, ["n_steps", "'3'"]),
    (dict(replay_buffer_kwargs=dict(sampling="lap")), ValueError, ["'lap'", "critic_loss", "huber"]),
    (
        dict(replay_buffer_class=ReplayBuffer, replay_buffer_kwargs=dict(sampling="uniform")),
        ValueError,
        ["sampling", "ReplayBuffer"],
    ),
    (dict(replay_buffer_class=RolloutBuffer), TypeError, ["replay_buffer_class=", "RolloutBuffer", "ReplayBuffer"]),
    (dict(replay_buffer_class="uniform"), TypeError, ["replay_buffer_class='uniform'", "ReplayBuffer"]),
    (dict(replay_buffer_kwargs=[1]), TypeError, ["replay_buffer_kwargs=[1]", "dict"]),
    (dict(policy_kwargs="net_arch"), TypeError, ["policy_kwargs='net_arch'", "dict"]),
    (dict(policy_kwargs=dict(net_arch=[64, -64])), ValueError, ["net_arch", "layer 1=-64", ">= 1"]),
    (dict(policy_kwargs=dict(net_arch=dict(pi=[64], vf=[64]))), ValueError, ["net_arch", "'vf'", "'qf'"]),
    (dict(policy_kwargs=dict(net_arch=dict(pi=[64], qf=[0]))), ValueError, ["net_arch']['qf']: layer 0=0", ">= 1"]),
    (dict(policy_kwargs=dict(net_arch=64)), TypeError, ["net_arch", "64", "list"]),
    (dict(policy_kwargs=dict(n_critics=0)), ValueError, ["n_critics", "0", ">= 1"]),
    (dict(policy_kwargs=dict(network=[64])), TypeError, ["'network'"]),
    (dict(stats_window_size=0), ValueError, ["stats_window_size=0", ">= 1"]),
    (dict(env=5), TypeError, ["env=5", "gymnasium environment"]),
    (dict(seed="a"), TypeError, ["seed='a'", "integer"]),
    (dict(policy="CnnPolicy"), ValueError, ["policy='CnnPolicy'", "images", "Box"]),
    (dict(policy="MultiInputPolicy"), ValueError, ["policy='MultiInputPolicy'", "Dict", "Box"]),
    (dict(replay_buffer_class=HerReplayBuffer), ValueError, ["HerReplayBuffer", "Dict"]),
    (dict(action_noise=NormalActionNoise(np.zeros(2), np.ones(2))), ValueError, ["action_noise=", "2 dimensions", "1"]),
    (dict(batch_size=1, policy_kwargs=dict(actor_norm="batch")), ValueError, ["batch_size=1", "BatchNorm"]),
    (dict(policy_kwargs=dict(critic=["categorical"])), TypeError, ["policy_kwargs['critic']", "kind"]),
    (dict(policy_kwargs=dict(popart={}, critic="categorical")), ValueError, ["popart", "categorical"]),
    (dict(policy_kwargs=dict(residual=True, norm_after_action=False)), ValueError, ["norm_after_action", "residual"]),
    (
        dict(n_steps=3, replay_buffer_kwargs=dict(n_steps=2)),
        ValueError,
        ["replay_buffer_kwargs['n_steps']=2", "n_steps=3"],
    ),
]

# What belongs in another place: given to DDPG, and what the error says of it
MISPLACED = [
    (dict(n_critics=2), "DDPG has no argument 'n_critics'. Put it in policy_kwargs: policy_kwargs=dict(n_critics=2)"),
    (dict(critic_loss="huber"), "Put it in policy_kwargs: policy_kwargs=dict(critic_loss='huber')"),
    (dict(critic_los="huber"), "'critic_los', did you mean 'critic_loss'? Put it in policy_kwargs"),
    (dict(n_workers=4), "no argument 'n_workers'. It is the collector's: collector=dict(kind=\"ray\", n_workers=4)"),
    (dict(sampling="lap"), "Put it in replay_buffer_kwargs: replay_buffer_kwargs=dict(sampling='lap')"),
    (dict(alpha=0.6), "It is the sampling's: replay_buffer_kwargs=dict(sampling=dict(kind='prioritized', alpha=0.6))"),
    (dict(sigma=0.1), "It is the noise's: action_noise=dict(kind='normal', sigma=0.1)"),
    (dict(theta=0.1), "It is the noise's: action_noise=dict(kind='ou', theta=0.1)"),
    (dict(learnin_rate=1e-3), "DDPG has no argument 'learnin_rate', did you mean 'learning_rate'?"),
    (dict(zzz=1), "DDPG has no argument 'zzz'; it has ["),
    (dict(policy_kwargs=dict(max_grad_norm=1)), "no argument 'max_grad_norm'. Give it to the model itself: max_grad_norm=1"),
    (dict(policy_kwargs=dict(sampling="lap")), "policy_kwargs has no argument 'sampling'. Put it in replay_buffer_kwargs"),
    (dict(policy_kwargs=dict(critic_los="mse")), "policy_kwargs has no argument 'critic_los', did you mean 'critic_loss'?"),
    (dict(replay_buffer_kwargs=dict(alpha=0.6)), "replay_buffer_kwargs=dict(sampling=dict(kind='prioritized', alpha=0.6))"),
    (dict(replay_buffer_kwargs=dict(smpling="lap")), "did you mean 'sampling'?"),
]


def name_of(value):
    return "+".join(value) if isinstance(value, dict) else ""


@pytest.mark.parametrize(("kwargs", "error", "texts"), BAD_ARGUMENTS, ids=name_of)
def test_bad_argument(kwargs, error, texts):
    """The constructor refuses it."""
    arguments = dict(policy="MlpPolicy", env="Pendulum-v1", buffer_size=100, device="cpu") | kwargs
    with pytest.raises(error) as info:
        DDPG(**arguments)
    for text in texts:
        assert text in str(info.value)


@pytest.mark.parametrize(("kwargs", "text"), MISPLACED, ids=str)
def test_misplaced_argument(kwargs, text):
    """The error says where it belongs, in a form that can be copied, or names the nearest."""
    with pytest.raises(TypeError) as info:
        DDPG("MlpPolicy", "Pendulum-v1", **SMALL | kwargs)
    assert text in str(info.value)


@pytest.mark.parametrize(
    "kwargs", [dict(policy_kwargs=dict(n_critics=2)), dict(action_noise=dict(kind="ou", theta=0.1))], ids=str
)
def test_what_the_error_says_works(kwargs):
    """The forms in these errors are taken."""
    DDPG("MlpPolicy", "Pendulum-v1", **SMALL | kwargs)


def test_misplaced_argument_of_load(tmp_path):
    """It would be without effect there."""
    DDPG("MlpPolicy", "Pendulum-v1", **SMALL).save(tmp_path / "model")
    with pytest.raises(TypeError, match=r"DDPG\.load has no argument 'n_critics'\. Put it in policy_kwargs"):
        DDPG.load(tmp_path / "model", n_critics=2)


class OwnPolicy(DDPGPolicy):
    """With an argument that is also one of the model's."""

    def __init__(self, *args, gamma=0.9, **kwargs):
        super().__init__(*args, **kwargs)
        self.own_gamma = gamma


def test_own_classes_may_take_any_argument():
    """A user's policy has an argument of the model's name."""
    model = DDPG(OwnPolicy, "Pendulum-v1", **SMALL | dict(policy_kwargs=dict(gamma=0.5)))
    assert model.policy.own_gamma == 0.5


@pytest.mark.parametrize(
    ("cls", "policy", "text"),
    [
        (DDPG, "MlpLstmPolicy", "policy='MlpLstmPolicy' is for RecurrentDDPG"),
        (DDPG, "MultiInputGruPolicy", "is for RecurrentDDPG"),
        (RecurrentDDPG, "MlpPolicy", "policy='MlpPolicy' is for DDPG"),
        (DDPG, "MlpPolcy", "did you mean 'MlpPolicy'?"),
    ],
)
def test_policy_of_the_other_class(cls, policy, text):
    """The error names the class that it is for."""
    with pytest.raises(ValueError) as info:  # noqa: PT011
        cls(policy, "Pendulum-v1", buffer_size=100, device="cpu")
    assert text in str(info.value)


def test_class_in_place_of_an_environment():
    with pytest.raises(TypeError, match=r"is a class; it must be an environment, such as CountingEnv\(\)"):
        DDPG("MlpPolicy", CountingEnv, **SMALL)


class OldStep(CountingEnv):
    """As in gym before 0.26."""

    def step(self, action):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class OldReset(CountingEnv):
    """As in gym before 0.26; its observation has two entries, which can be taken for observation and info."""

    def reset(self, **kwargs):
        return super().reset(**kwargs)[0]


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (OldStep, r"step\(\) returned 4 values; it must return the 5 .*observation, reward, terminated, truncated, info"),
        (OldReset, r"reset\(\) returned one value, of the type ndarray; it must return the 2 .*observation, info"),
    ],
)
def test_results_of_the_old_gym(cls, text):
    with pytest.raises(TypeError, match=text):
        DDPG("MlpPolicy", cls(), **SMALL).learn(10)


@pytest.mark.parametrize("make", [lambda cls: DummyVecEnv([cls]), lambda cls: make_vec_env(cls, 1)], ids=["bare", "Monitor"])
def test_results_of_the_old_gym_in_a_vec_env(make):
    """Whose members SB3 unpacks."""
    with pytest.raises(TypeError, match=r"expected 5, got 4.*step\(\) must return observation, reward, terminated, truncated"):
        DDPG("MlpPolicy", make(OldStep), **SMALL).learn(10)


def test_error_of_an_environments_own_is_left_alone():
    """That it unpacks something wrongly itself."""

    class Own(CountingEnv):
        def step(self, action):
            _first, _second = (1, 2, 3)

    with pytest.raises(ValueError, match="too many values to unpack"):
        DDPG("MlpPolicy", DummyVecEnv([Own]), **SMALL).learn(10)


@pytest.mark.skipif(th.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_not_there():
    """SB3 takes the CPU silently, and so does "auto"."""
    with pytest.warns(UserWarning, match="device='cuda' is not there.*CPU is used instead") as record:
        model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(device="cuda"))
    assert model.device.type == "cpu"
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(device="auto"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["vector", "dict", "memory"])
def test_predict_refuses_what_is_not_finite(which, bad):
    """One observation, or several."""
    if which == "memory":
        model = RecurrentDDPG("MlpLstmPolicy", "Pendulum-v1", buffer_size=100, device="cpu")
    else:
        env, policy = ("Pendulum-v1", "MlpPolicy") if which == "vector" else (DICT_PENDULUM, "MultiInputPolicy")
        model = DDPG(policy, env, **SMALL)
    space = model.observation_space
    obs = space.sample()
    model.predict(obs)
    part = obs["velocity"] if which == "dict" else obs
    part[-1] = bad
    with pytest.raises(ValueError, match=r"observation.* must be finite in every entry"):
        model.predict(obs)
    if which == "vector":
        with pytest.raises(ValueError, match=r"(?s)observation=.* must be finite in every entry"):
            model.predict(np.stack([space.sample(), obs]))


def test_bad_argument_of_load(tmp_path):
    """load() checks what it is given in addition, as the constructor would."""
    DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu").save(tmp_path / "model")
    with pytest.raises(ValueError, match="tau=2"):
        DDPG.load(tmp_path / "model", device="cpu", tau=2)


def test_floats_without_fraction_are_integers():
    """buffer_size=1e3, as people write it and YAML files give it."""
    kwargs = dict(policy_kwargs=dict(net_arch=(8.0, 4)))
    model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=1e3, learning_starts=1e1, device="cpu", **kwargs)
    assert model.policy.net_arch == [8, 4]
    assert model.replay_buffer.buffer_size == 1000
    assert isinstance(model.learning_starts, int)


@pytest.mark.parametrize(("total_timesteps", "error"), [(-5, ValueError), (2.5, TypeError), ("many", TypeError)])
def test_bad_total_timesteps(total_timesteps, error):
    """learn() refuses it."""
    with pytest.raises(error, match=f"total_timesteps={total_timesteps!r}"):
        DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu").learn(total_timesteps)


def test_learning_without_environment(tmp_path):
    """A model loaded for prediction says what it lacks."""
    DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu").save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"env=None.*set_env"):
        DDPG.load(tmp_path / "model", device="cpu").learn(10)


class BrokenEnv(CountingEnv):
    """Returns something else than it should from its third step on (or from its first reset)."""

    def __init__(self, obs=None, reward=1.0, at_reset=False, end=False):
        super().__init__(((3, "terminated") if end else (9, "terminated"),))
        self.bad_obs, self.reward, self.at_reset = obs, reward, at_reset

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        return (self.bad_obs if self.at_reset else obs), info

    def step(self, action):
        obs, _, *rest = super().step(action)
        if self.steps < 3:
            return obs, 1.0, *rest
        return (obs if self.bad_obs is None else self.bad_obs), self.reward, *rest


NAN, INF = np.full(2, np.nan, np.float32), np.full(2, np.inf, np.float32)
BAD_ENVIRONMENTS = [
    (dict(obs=NAN), ValueError, ["observation=", "nan", "finite"]),
    (dict(obs=INF), ValueError, ["observation=", "inf", "finite"]),
    (dict(obs=NAN, at_reset=True), ValueError, ["observation=", "nan", "finite"]),
    (dict(obs=NAN, end=True), ValueError, ["terminal_observation=", "nan", "finite"]),
    (dict(reward=float("nan")), ValueError, ["reward=", "nan", "finite"]),
    (dict(reward=-float("inf")), ValueError, ["reward=", "-inf", "finite"]),
]
BAD_SHAPES = [
    (dict(obs=np.zeros(3, np.float32)), ValueError, ["shape (3,)", "(2,)"]),
    (dict(obs=np.zeros(1, np.float32)), ValueError, ["shape (1,)", "(2,)"]),  # NumPy would broadcast it
    (dict(obs=np.zeros((2, 1), np.float32), at_reset=True), ValueError, ["shape (2, 1)", "(2,)"]),
    (dict(reward=np.zeros(2)), TypeError, ["reward=", "number"]),
    (dict(reward=None), TypeError, ["reward=None", "number"]),
]


@pytest.mark.parametrize(("kwargs", "error", "texts"), BAD_ENVIRONMENTS + BAD_SHAPES)
def test_bad_environment(kwargs, error, texts):
    """What the environment returns is refused before it is stored."""
    model = DDPG("MlpPolicy", BrokenEnv(**kwargs), buffer_size=100, device="cpu")
    with pytest.raises(error) as info:
        model.learn(10)
    assert all(text in str(info.value) for text in texts)
    assert model.replay_buffer.size() == (0 if kwargs.get("at_reset") else 2)


@pytest.mark.parametrize(("kwargs", "error", "texts"), BAD_ENVIRONMENTS)
def test_bad_vectorised_environment(kwargs, error, texts):
    """So is what is not finite in a VecEnv."""
    model = DDPG("MlpPolicy", DummyVecEnv([CountingEnv, lambda: BrokenEnv(**kwargs)]), buffer_size=100, device="cpu")
    with pytest.raises(error) as info:
        model.learn(10)
    assert all(text in str(info.value) for text in texts)


def test_infinity_is_not_hidden_by_vec_normalize():
    """Which clips it, and keeps what the environment returned for the buffer."""
    env = VecNormalize(DummyVecEnv([lambda: BrokenEnv(obs=INF)]), training=False)
    model = DDPG("MlpPolicy", env, buffer_size=100, device="cpu")
    with pytest.raises(ValueError, match=r"observation=.*inf"):
        model.learn(10)


@pytest.mark.parametrize("observation", [3, [0.5, 1.0]])
def test_observations_need_not_be_arrays(observation):
    """A DummyVecEnv hands on the last observation of an episode as the environment returned it."""
    env = BrokenEnv(obs=observation, at_reset=True, end=True)
    if isinstance(observation, int):
        env.observation_space = spaces.Discrete(5)
        env._obs = lambda: observation
    assert DDPG("MlpPolicy", env, buffer_size=100, device="cpu").learn(8).replay_buffer.size() == 8


def test_bad_log_interval():
    """learn() refuses 0; None is for no log."""
    model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu")
    with pytest.raises(ValueError, match="log_interval=0 must be an integer >= 1"):
        model.learn(5, log_interval=0)


def test_dict_observation_with_a_missing_key():
    """The error names the key."""
    env = DictPendulum(gym.make("Pendulum-v1"))
    env._split = lambda obs: {"angle": obs[:2]}
    with pytest.raises(ValueError, match="lacks the key 'velocity'"):
        DDPG("MultiInputPolicy", env, buffer_size=100, device="cpu").learn(10)

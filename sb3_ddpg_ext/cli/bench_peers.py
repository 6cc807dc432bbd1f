"""The libraries that the bench compares, behind one interface."""

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv

from sb3_ddpg_ext.cli.bench_cleanrl import CleanRLAgent
from sb3_ddpg_ext.cli.bench_options import OPTIONS
from sb3_ddpg_ext.cli.bench_task import Task

LEARNING_STARTS = 100


class Agent(Protocol):
    """What the bench calls. Work may still be under way on the device when a call returns; ``wait`` awaits its end."""

    buffer: ReplayBuffer

    def learn(self, steps: int) -> None: ...
    def collect(self, steps: int) -> None: ...
    def update(self, gradient_steps: int) -> None: ...
    def predict(self) -> None: ...
    def sample(self) -> None: ...
    def wait(self) -> None: ...


class ModelAgent:
    """An algorithm with Stable-Baselines3's interface."""

    def __init__(self, model: Any, task: Task):
        self.model = model
        self.batch_size = task.batch_size
        self.buffer = model.replay_buffer
        self.obs = model.observation_space.sample()

    def learn(self, steps: int) -> None:
        self.model.learn(steps, reset_num_timesteps=False)

    def collect(self, steps: int) -> None:
        gradient_steps, self.model.gradient_steps = self.model.gradient_steps, 0
        self.learn(steps)
        self.model.gradient_steps = gradient_steps

    def update(self, gradient_steps: int) -> None:
        self.model.train(gradient_steps=gradient_steps, batch_size=self.batch_size)

    def predict(self) -> None:
        self.model.predict(self.obs, deterministic=True)

    def sample(self) -> None:
        self.buffer.sample(self.batch_size)

    def wait(self) -> None:
        if self.model.device.type == "cuda":
            th.cuda.synchronize()


class SBXAgent(ModelAgent):
    """SBX, whose networks are JAX's."""

    def wait(self) -> None:
        import jax

        jax.block_until_ready((self.model.policy.actor_state, self.model.policy.qf_state))


def make_env(task: Task) -> gym.Env | VecEnv:
    if task.n_envs > 1:
        return make_vec_env(task.env, task.n_envs)
    return Monitor(gym.make(task.env))


def common_arguments(task: Task, env: gym.Env | VecEnv) -> dict[str, Any]:
    """The same algorithm in each library: net, batch, learning rates, updates per environment step, noise."""
    action_dim = env.action_space.shape[0]  # type: ignore[index]
    return dict(
        policy="MlpPolicy",
        env=env,
        learning_rate=1e-3,
        learning_starts=LEARNING_STARTS,
        batch_size=task.batch_size,
        train_freq=1,
        gradient_steps=task.n_envs,
        action_noise=NormalActionNoise(np.zeros(action_dim), np.full(action_dim, 0.1)),
        policy_kwargs=dict(net_arch=task.net),
        seed=task.repeat,
        device=task.device,
    )


def make_ours(task: Task, env: gym.Env | VecEnv) -> ModelAgent:
    from sb3_ddpg_ext.ddpg import DDPG

    speed: dict[str, Any] = dict(learner=task.learner, n_threads=task.threads, precision=task.precision)
    arguments = common_arguments(task, env) | speed
    if option := task.library.partition("+")[2]:
        policy_kwargs, others = OPTIONS[option]
        arguments |= others | dict(policy_kwargs=arguments["policy_kwargs"] | policy_kwargs)
    return ModelAgent(DDPG(**arguments), task)


def make_sb3(task: Task, env: gym.Env | VecEnv) -> ModelAgent:
    from stable_baselines3 import DDPG

    return ModelAgent(DDPG(**common_arguments(task, env)), task)


def make_sbx(task: Task, env: gym.Env | VecEnv) -> ModelAgent:
    import jax
    from sbx import DDPG

    if (task.device == "cpu") != (jax.default_backend() == "cpu"):
        raise RuntimeError(f"device={task.device!r}, but JAX runs on {jax.default_backend()!r}")
    arguments = common_arguments(task, env) | dict(device="auto", qf_learning_rate=1e-3)
    return SBXAgent(DDPG(**arguments), task)


def make_agent(task: Task, env: gym.Env | VecEnv | None = None) -> Agent:
    """
    :param task: names the library
    :param env: made for the task if None
    """
    if task.library.startswith("cleanrl"):
        return CleanRLAgent(task, LEARNING_STARTS)
    make = {"ours": make_ours, "sb3": make_sb3, "sbx": make_sbx}[task.library.partition("+")[0]]
    return make(task, make_env(task) if env is None else env)


def fill(buffer: ReplayBuffer, n_transitions: int, n_envs: int) -> None:
    """Random transitions, stored the way the library stores them."""
    rng = np.random.default_rng(0)
    obs_shape, obs_dtype = buffer.observation_space.shape, buffer.observation_space.dtype
    assert obs_shape is not None
    obs = rng.standard_normal((1000, n_envs, *obs_shape)).astype(obs_dtype)
    actions = rng.uniform(-1, 1, (1000, n_envs, buffer.action_dim)).astype(np.float32)
    rewards, dones = np.ones(n_envs, np.float32), np.zeros(n_envs, bool)
    infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
    for step in range(n_transitions // n_envs):
        i, j = step % 1000, (step + 1) % 1000
        buffer.add(obs[i], obs[j], actions[i], rewards, dones, infos)

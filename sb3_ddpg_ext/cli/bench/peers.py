"""The libraries that the bench compares, behind one interface."""

from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv

from sb3_ddpg_ext.cli.bench import buffers
from sb3_ddpg_ext.cli.bench.cleanrl import CleanRLAgent
from sb3_ddpg_ext.cli.bench.options import OPTIONS
from sb3_ddpg_ext.cli.bench.task import Task

LEARNING_STARTS = 100
EPISODE = 1000  # transitions


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
        self.errors = th.rand(100 * task.batch_size)

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
        rows = getattr(self.buffer.sample(self.batch_size), "indices", None)
        if rows is not None:  # what an update would tell a prioritised buffer
            self.buffer.update_priorities(rows, self.errors[: len(rows)])  # type: ignore[attr-defined]

    def wait(self) -> None:
        if self.model.device.type == "cuda":
            th.cuda.synchronize()


class SBXAgent(ModelAgent):
    """SBX, whose networks are JAX's."""

    def wait(self) -> None:
        import jax

        jax.block_until_ready((self.model.policy.actor_state, self.model.policy.qf_state))


def make_env(task: Task) -> gym.Env | VecEnv:
    wrapper = buffers.Goals if buffers.needs_goals(task.option) else None
    if task.n_envs > 1:
        return make_vec_env(task.env, task.n_envs, wrapper_class=wrapper)
    env = gym.make(task.env)
    return Monitor(env if wrapper is None else wrapper(env))


def common_arguments(task: Task, env: gym.Env | VecEnv) -> dict[str, Any]:
    """The same algorithm in each library: net, batch, learning rates, updates per environment step, noise."""
    action_dim = env.action_space.shape[0]  # type: ignore[index]
    return dict(
        policy="MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy",
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
    from sb3_ddpg_ext.recurrent import RecurrentDDPG

    speed: dict[str, Any] = dict(learner=task.learner, n_threads=task.threads or None, precision=task.precision)
    arguments = common_arguments(task, env) | speed
    if task.option in OPTIONS:
        policy_kwargs, others = OPTIONS[task.option]
        return ModelAgent(DDPG(**_merged(arguments, others | dict(policy_kwargs=policy_kwargs))), task)
    arguments = _merged(arguments, buffers.OURS[task.option] if task.option else {})
    if task.option.startswith("sequences"):
        batch = dict(policy="MlpLstmPolicy", batch_size=max(task.batch_size // buffers.SEQUENCES, 1))
        return ModelAgent(
            RecurrentDDPG(**arguments | batch), replace(task, cell=f"{task.cell.split('/')[0]}/{batch['batch_size']}")
        )
    if task.option != buffers.ON_DISK:
        return ModelAgent(DDPG(**arguments), task)
    folder = TemporaryDirectory()
    agent = ModelAgent(DDPG(**arguments, replay_buffer_kwargs=dict(path=folder.name)), task)
    agent.folder = folder  # type: ignore[attr-defined]  # as long as the agent
    return agent


def _merged(arguments: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return arguments | more | dict(policy_kwargs=arguments["policy_kwargs"] | more.get("policy_kwargs", {}))


def make_sb3(task: Task, env: gym.Env | VecEnv) -> ModelAgent:
    from stable_baselines3 import DDPG

    return ModelAgent(DDPG(**_merged(common_arguments(task, env), buffers.SB3[task.option] if task.option else {})), task)


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
    space = buffer.observation_space
    subspaces: dict[str, Any] = dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {"": space}
    obs = {key: rng.standard_normal((EPISODE, n_envs, *each.shape)).astype(each.dtype) for key, each in subspaces.items()}
    actions = rng.uniform(-1, 1, (EPISODE, n_envs, buffer.action_dim)).astype(np.float32)
    rewards, is_dict = np.ones(n_envs, np.float32), isinstance(space, gym.spaces.Dict)
    for step in range(n_transitions // n_envs):
        i, j = step % EPISODE, (step + 1) % EPISODE
        before, after = ({key: each[k] for key, each in obs.items()} for k in (i, j))
        ends = np.full(n_envs, j == 0)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(end)} for end in ends]
        if is_dict:
            buffer.add(before, after, actions[i], rewards, ends, infos)  # type: ignore[arg-type]
        else:
            buffer.add(before[""], after[""], actions[i], rewards, ends, infos)

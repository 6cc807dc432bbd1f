"""The bench's stand-in for a single-file DDPG: plain torch, the training loop written out."""

import gymnasium as gym
import numpy as np
import torch as th
import torch.nn.functional as F
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn

from sb3_ddpg_ext.cli.bench.task import Task

GAMMA = 0.99
TAU = 0.005
LEARNING_RATE = 1e-3
EXPLORATION_NOISE = 0.1


def mlp(inputs: int, net: list[int], outputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in net:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return [*layers, nn.Linear(inputs, outputs)]


class Actor(nn.Module):
    scale: th.Tensor
    bias: th.Tensor

    def __init__(self, obs_dim: int, space: gym.spaces.Box, net: list[int]):
        super().__init__()
        self.mu = nn.Sequential(*mlp(obs_dim, net, space.shape[0]), nn.Tanh())
        self.register_buffer("scale", th.tensor((space.high - space.low) / 2, dtype=th.float32))
        self.register_buffer("bias", th.tensor((space.high + space.low) / 2, dtype=th.float32))

    def forward(self, obs: th.Tensor) -> th.Tensor:
        return self.mu(obs) * self.scale + self.bias


class Critic(nn.Module):
    def __init__(self, obs_dim: int, action_dim: int, net: list[int]):
        super().__init__()
        self.qf = nn.Sequential(*mlp(obs_dim + action_dim, net, 1))

    def forward(self, obs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return self.qf(th.cat([obs, actions], dim=1)).flatten()


class CleanRLAgent:
    """
    DDPG in the manner of CleanRL's scripts, with the update after every environment step and no delayed actor.

    :param task: ``library="cleanrl-compile"`` puts the gradient step through ``torch.compile(mode="reduce-overhead")``
    :param learning_starts: random steps before the first update
    """

    def __init__(self, task: Task, learning_starts: int):
        th.manual_seed(task.repeat)
        self.device = th.device(task.device)
        self.n_envs, self.batch_size, self.learning_starts = task.n_envs, task.batch_size, learning_starts
        self.envs = SyncVectorEnv(
            [lambda: RecordEpisodeStatistics(gym.make(task.env))] * task.n_envs, autoreset_mode=AutoresetMode.SAME_STEP
        )
        obs_space, action_space = self.envs.single_observation_space, self.envs.single_action_space
        assert isinstance(obs_space, gym.spaces.Box)
        assert isinstance(action_space, gym.spaces.Box)
        obs_dim, self.action_space = obs_space.shape[0], action_space
        self.actor = Actor(obs_dim, action_space, task.net).to(self.device)
        self.target_actor = Actor(obs_dim, action_space, task.net).to(self.device)
        self.target_actor.load_state_dict(self.actor.state_dict())
        self.critic = Critic(obs_dim, action_space.shape[0], task.net).to(self.device)
        self.target_critic = Critic(obs_dim, action_space.shape[0], task.net).to(self.device)
        self.target_critic.load_state_dict(self.critic.state_dict())
        capturable = task.library == "cleanrl-compile" and self.device.type == "cuda"
        self.actor_optimizer = th.optim.Adam(self.actor.parameters(), lr=LEARNING_RATE, capturable=capturable)
        self.critic_optimizer = th.optim.Adam(self.critic.parameters(), lr=LEARNING_RATE, capturable=capturable)
        stored = gym.spaces.Box(-np.inf, np.inf, obs_space.shape, np.float32)  # as those scripts do with MuJoCo's float64
        self.buffer = ReplayBuffer(
            1_000_000, stored, action_space, self.device, n_envs=task.n_envs, handle_timeout_termination=False
        )
        self.obs, _ = self.envs.reset(seed=task.repeat)
        self.global_step = 0
        if task.library == "cleanrl-compile":
            self.gradient_step = th.compile(self.gradient_step, mode="reduce-overhead")  # type: ignore[method-assign]

    def learn(self, steps: int, with_updates: bool = True) -> None:
        for _ in range(steps // self.n_envs):
            self.environment_step()
            if with_updates and self.global_step > self.learning_starts:
                self.update(self.n_envs)

    def collect(self, steps: int) -> None:
        self.learn(steps, with_updates=False)

    def environment_step(self) -> None:
        if self.global_step < self.learning_starts:
            actions = self.envs.action_space.sample()
        else:
            with th.no_grad():
                mean = self.actor(th.as_tensor(self.obs, dtype=th.float32, device=self.device))
                noise = th.normal(0.0, self.actor.scale.expand_as(mean) * EXPLORATION_NOISE)
                actions = (mean + noise).cpu().numpy().clip(self.action_space.low, self.action_space.high)
        next_obs, rewards, terminations, truncations, infos = self.envs.step(actions)
        real_next_obs = next_obs.copy()
        for i in np.flatnonzero(terminations | truncations):
            real_next_obs[i] = infos["final_obs"][i]
        self.buffer.add(self.obs, real_next_obs, actions, rewards, terminations, [infos])
        self.obs = next_obs
        self.global_step += self.n_envs

    def update(self, gradient_steps: int) -> None:
        for _ in range(gradient_steps):
            data = self.buffer.sample(self.batch_size)
            self.gradient_step(
                data.observations, data.actions, data.next_observations, data.dones.flatten(), data.rewards.flatten()
            )

    def gradient_step(
        self, obs: th.Tensor, actions: th.Tensor, next_obs: th.Tensor, dones: th.Tensor, rewards: th.Tensor
    ) -> None:
        with th.no_grad():
            target = rewards + GAMMA * (1 - dones) * self.target_critic(next_obs, self.target_actor(next_obs))
        critic_loss = F.mse_loss(self.critic(obs, actions), target)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()

        actor_loss = -self.critic(obs, self.actor(obs)).mean()
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()

        with th.no_grad():
            for net, target_net in ((self.actor, self.target_actor), (self.critic, self.target_critic)):
                for parameter, target_parameter in zip(net.parameters(), target_net.parameters(), strict=True):
                    target_parameter.copy_(TAU * parameter + (1 - TAU) * target_parameter)

    def predict(self) -> None:
        with th.no_grad():
            self.actor(th.as_tensor(self.obs[:1], dtype=th.float32, device=self.device)).cpu().numpy()

    def sample(self) -> None:
        self.buffer.sample(self.batch_size)

    def wait(self) -> None:
        if self.device.type == "cuda":
            th.cuda.synchronize()

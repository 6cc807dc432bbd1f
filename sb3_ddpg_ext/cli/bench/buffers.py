"""What each replay buffer costs, beside Stable-Baselines3's: ``bench --buffers``."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_ddpg_ext.buffers import HindsightReplayBuffer

HINDSIGHT = dict(replay_buffer_class=HindsightReplayBuffer)
SEQUENCES = 32  # steps of a sequence; so many fewer of them are in a batch
ON_DISK = "on-disk"
# name -> arguments of the model
OURS: dict[str, dict[str, Any]] = {
    "n-step-3": dict(n_steps=3),
    "n-step-5": dict(n_steps=5),
    "prioritized": dict(replay_buffer_kwargs=dict(sampling="prioritized")),
    "prioritized-n-step-3": dict(replay_buffer_kwargs=dict(sampling="prioritized"), n_steps=3),
    "lap": dict(replay_buffer_kwargs=dict(sampling="lap"), policy_kwargs=dict(critic_loss="huber")),
    "combined": dict(replay_buffer_kwargs=dict(combined=True)),
    "without-replacement": dict(replay_buffer_kwargs=dict(sampling=dict(kind="uniform", replacement=False))),
    ON_DISK: {},
    "goals": {},
    "hindsight": HINDSIGHT,
    "hindsight-n-step-3": HINDSIGHT | dict(n_steps=3),
    "hindsight-prioritized": HINDSIGHT | dict(replay_buffer_kwargs=dict(sampling="prioritized")),
    "sequences": dict(replay_buffer_kwargs=dict(sequence_length=SEQUENCES, overlap=0)),
    "sequences-r2d2": dict(
        replay_buffer_kwargs=dict(sequence_length=SEQUENCES, overlap=16, burn_in=8, stored_state=True, sampling="prioritized")
    ),
    "sb3-uniform": dict(replay_buffer_class=ReplayBuffer),
    "sb3-hindsight": dict(replay_buffer_class=HerReplayBuffer),
}
SB3: dict[str, dict[str, Any]] = {
    "n-step-3": dict(n_steps=3),
    "n-step-5": dict(n_steps=5),
    "goals": {},
    "hindsight": dict(replay_buffer_class=HerReplayBuffer),
}


def libraries(names: list[str]) -> list[str]:
    """Plain ones, then each of ``names`` of ours, or all, with SB3's where there is one."""
    chosen = names or list(OURS)
    return ["ours", "sb3", *(f"{library}+{name}" for name in chosen for library in ("ours", "sb3") if name in has(library))]


def has(library: str) -> dict[str, dict[str, Any]]:
    return OURS if library == "ours" else SB3


def needs_goals(name: str) -> bool:
    return name == "goals" or "hindsight" in name


class Goals(gym.Wrapper):
    """Any environment as one with goals: to bring the first numbers of the observation to those drawn for the episode."""

    N = 3  # at most so many

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.n = min(self.N, env.observation_space.shape[0])  # type: ignore[index]
        goal = spaces.Box(-np.inf, np.inf, (self.n,), np.float64)
        self.observation_space = spaces.Dict(
            observation=env.observation_space,
            achieved_goal=goal,
            desired_goal=goal,  # type: ignore[arg-type]
        )
        self.goal = np.zeros(self.n)

    def _with_goals(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        return {"observation": obs, "achieved_goal": obs[: self.n].astype(np.float64), "desired_goal": self.goal}

    def reset(self, **kwargs: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        self.goal = self.np_random.standard_normal(self.n)
        return self._with_goals(obs), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        plain, _, terminated, truncated, info = self.env.step(action)
        obs = self._with_goals(plain)
        return obs, float(self.compute_reward(obs["achieved_goal"], self.goal, info)), terminated, truncated, info

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> np.ndarray:
        """Minus the distances, of shape (n,) or ()."""
        return -np.linalg.norm(achieved - desired, axis=-1)

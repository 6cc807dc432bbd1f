"""How far Q can be believed: the critic's estimates beside the returns that followed."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_ddpg_ext.validation import check_integer

UNSEEN = 0.1  # the share that what lies beyond a time limit may have in a return, by its discount


@dataclass
class Calibration:
    """
    :param estimates: Q(s, mu(s)) of each step, of shape (n,)
    :param returns: the discounted sum of the rewards from there on
    :param n_cut: steps left out, whose return a time limit hid
    """

    estimates: np.ndarray
    returns: np.ndarray
    n_cut: int = 0

    @property
    def bias(self) -> float:
        """Mean of estimate - return; above 0 the critic promises too much."""
        return float((self.estimates - self.returns).mean())

    @property
    def correlation(self) -> float:
        """Pearson's; NaN where one of the two does not vary."""
        if self.estimates.std() == 0 or self.returns.std() == 0:
            return float("nan")
        return float(np.corrcoef(self.estimates, self.returns)[0, 1])


def q_calibration(model: BaseAlgorithm, env: gym.Env | VecEnv, n_episodes: int = 10, seed: int | None = None) -> Calibration:
    """
    Act without noise and compare, as in Lillicrap et al. (2016), fig. 3.

    A return after which a time limit has cut the episode is known up to the factor gamma^k that the rewards beyond would
    have. Steps for which that is above 0.1 are left out, but never more than the second half of an episode.

    Both are in units of the environment's own rewards, also under ``VecNormalize``, whose statistics stay as they are.

    :param model: a trained :class:`~sb3_ddpg_ext.DDPG`
    :param env: a single environment, wrapped as in training; a ``VecNormalize`` with the ``norm_reward`` of training
    :param n_episodes: to the end
    :param seed: of the environment
    :raises ValueError: for several environments, or no episode
    """
    n_episodes = check_integer("n_episodes", n_episodes, at_least=1)
    vec_env = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
    if vec_env.num_envs != 1:
        raise ValueError(f"env.num_envs={vec_env.num_envs} must be 1")
    if seed is not None:
        vec_env.seed(seed)
    normaliser = unwrap_vec_normalize(vec_env)
    was_training = normaliser is not None and normaliser.training
    if normaliser is not None:
        normaliser.training = False
    try:
        parts = [_episode(model, vec_env, normaliser) for _ in range(n_episodes)]
    finally:
        if normaliser is not None:
            normaliser.training = was_training
    estimates, returns = (np.concatenate([part[i] for part in parts]) for i in range(2))
    if normaliser is not None and normaliser.norm_reward:  # divides rewards, so the critic's values, and subtracts nothing
        estimates *= np.sqrt(normaliser.ret_rms.var + normaliser.epsilon)
    return Calibration(estimates, returns, sum(part[2] for part in parts))


def _episode(model: Any, env: VecEnv, normaliser: VecNormalize | None) -> tuple[np.ndarray, np.ndarray, int]:
    """Estimates as the critic gives them, returns, and the number of steps left out."""
    obs, done = env.reset(), False
    estimates, rewards = [], []
    infos: list[dict[str, Any]] = [{}]
    while not done:
        actions, _ = model.predict(obs, deterministic=False)  # by the actor that the critic judges, not by its average
        estimates.append(model.policy.q_values(obs, actions)[0])
        obs, reward, dones, infos = env.step(actions)
        rewards.append((reward if normaliser is None else normaliser.get_original_reward())[0])
        done = bool(dones[0])
    returns = discounted_sums(np.array(rewards, dtype=np.float64), model.gamma)
    n = len(rewards)
    if infos[0].get("TimeLimit.truncated", False):
        seen = model.gamma ** np.arange(n, 0, -1)  # of each step: the factor of what lies beyond the end
        n = max(int(np.count_nonzero(seen <= UNSEEN)), (n + 1) // 2)
    return np.array(estimates[:n], dtype=np.float64), returns[:n], len(rewards) - n


def discounted_sums(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """For each step, r_t + gamma r_t+1 + gamma^2 r_t+2 + ... to the end."""
    sums = np.array(rewards)
    for t in range(len(rewards) - 2, -1, -1):
        sums[t] += gamma * sums[t + 1]
    return sums

"""What happens in an environment: episodes by random actions, or by a model."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_ddpg_ext.calibration import discounted_sums
from sb3_ddpg_ext.observations import each

N_STEPS = 5000  # at most, where episodes end: several episodes of 1000 steps, as in MuJoCo
ENDLESS = 10_000  # steps without an end after which an episode is said to have none: ten times the longest usual limit
SECONDS = 5.0  # at most
Act = Callable[[Any, Any, np.ndarray], tuple[np.ndarray, Any]]


@dataclass
class Episodes:
    """
    Steps in one environment, one after another.

    :param observations: in which the actions were taken, as a model gets them: of shape (n, ...), or a dict of such
    :param actions: in units of the environment, of shape (n, ...)
    :param rewards: as the environment gave them, of shape (n,)
    :param ends: number of steps after which each episode ended, rising
    :param is_cut: of each end, whether a time limit made it
    :param limit: the environment's ``spec.max_episode_steps``; None where it has none
    :param is_complete: whether there was time for all steps
    """

    observations: Any
    actions: np.ndarray
    rewards: np.ndarray
    ends: list[int]
    is_cut: list[bool]
    limit: int | None
    is_complete: bool = True

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def lengths(self) -> list[int]:
        """Steps of each episode that ended."""
        return np.diff([0, *self.ends]).tolist()

    def returns(self, gamma: float = 1.0) -> list[np.ndarray]:
        """
        :param gamma: discount factor
        :return: of each episode, the last and unfinished one too, the discounted sum of rewards from each step on
        """
        parts = np.split(self.rewards, self.ends)
        return [discounted_sums(part, gamma) for part in parts if len(part)]


def play(env: VecEnv, act: Act, n_steps: int = N_STEPS, seconds: float = SECONDS, seed: int = 0) -> Episodes:
    """
    :param env: a single environment, reset here; a ``VecNormalize`` around it keeps its statistics
    :param act: from observations, state and episode starts to actions and the next state, as ``predict``
    :param n_steps: at most; twice as many where no episode has ended and the environment names no limit
    :param seconds: at most
    :param seed: of the environment
    :raises ValueError: for several environments
    """
    if env.num_envs != 1:
        raise ValueError(f"env.num_envs={env.num_envs} must be 1")
    normaliser = unwrap_vec_normalize(env)
    was_training = normaliser is not None and normaliser.training
    if normaliser is not None:
        normaliser.training = False
    try:
        return _played(env, normaliser, act, n_steps, seconds, seed)
    finally:
        if normaliser is not None:
            normaliser.training = was_training


def _played(env: VecEnv, normaliser: Any, act: Act, n_steps: int, seconds: float, seed: int) -> Episodes:
    env.seed(seed)
    obs, state, starts = env.reset(), None, np.ones(1, bool)
    limit = _limit_of(env)
    observations: list[Any] = []
    all_actions: list[np.ndarray] = []
    rewards: list[float] = []
    ends: list[int] = []
    is_cut: list[bool] = []
    stop, stops_at = time.perf_counter() + seconds, n_steps
    while len(rewards) < stops_at and time.perf_counter() < stop:
        observations.append(each(lambda part: np.array(part[0]), obs))
        actions, state = act(obs, state, starts)
        obs, reward, starts, infos = env.step(actions)
        all_actions.append(np.array(actions[0]))
        rewards.append(float((reward if normaliser is None else normaliser.get_original_reward())[0]))
        if starts[0]:
            ends.append(len(rewards))
            is_cut.append(bool(infos[0].get("TimeLimit.truncated", False)))
        stops_at = n_steps if ends or limit is not None else max(n_steps, ENDLESS)
    return Episodes(
        _stacked(observations), np.array(all_actions), np.array(rewards), ends, is_cut, limit, len(rewards) >= stops_at
    )


def _limit_of(env: VecEnv) -> int | None:
    try:
        spec = env.get_attr("spec")[0]
    except AttributeError:
        return None
    return getattr(spec, "max_episode_steps", None)


def _stacked(observations: list[Any]) -> Any:
    one = observations[0]
    return (
        {key: np.stack([obs[key] for obs in observations]) for key in one} if hasattr(one, "keys") else np.stack(observations)
    )


def at_random(env: VecEnv, seed: int = 0) -> Act:
    """
    :param env: whose action space is drawn from
    :param seed: of these draws
    :return: an actor for :func:`play`
    """
    space = deepcopy(env.action_space)
    space.seed(seed)
    return lambda observations, state, starts: (np.array([space.sample()]), None)

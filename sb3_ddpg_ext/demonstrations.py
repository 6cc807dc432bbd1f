"""Episodes of an agent, recorded for another to learn from."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_ddpg_ext.buffers import Episode
from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.validation import check_integer


def record_episodes(model: Any, env: VecEnv, n_episodes: int = 10, deterministic: bool = True) -> list[Episode]:
    """
    Let a model act, and keep what happened; :func:`~sb3_ddpg_ext.buffers.write_episodes` writes it to a file.

    :param model: anything with Stable-Baselines3's ``predict``
    :param env: one or more environments; of ``VecNormalize`` the observations and rewards are kept as they were before it
    :param n_episodes: how many, those that end first
    :param deterministic: see ``predict``
    :return: the episodes, in the order in which they ended
    """
    n_episodes = check_integer("n_episodes", n_episodes, at_least=1)
    normalised = unwrap_vec_normalize(env)
    is_training = normalised is not None and normalised.training
    if normalised is not None:
        normalised.training = False  # recording leaves the statistics as they are
    try:
        return _record(model, env, normalised, n_episodes, deterministic)
    finally:
        if normalised is not None:
            normalised.training = is_training


def _record(model: Any, env: VecEnv, normalised: VecNormalize | None, n_episodes: int, deterministic: bool) -> list[Episode]:
    episodes: list[Episode] = []
    steps: list[list[tuple[Any, np.ndarray, float]]] = [[] for _ in range(env.num_envs)]
    state, episode_starts = None, np.ones(env.num_envs, bool)
    observations: Any = env.reset()
    raw = observations if normalised is None else normalised.get_original_obs()
    while len(episodes) < n_episodes:
        actions, state = model.predict(observations, state, episode_starts, deterministic)
        observations, rewards, episode_starts, infos = env.step(actions)
        if normalised is not None:
            rewards = normalised.get_original_reward()
        for i in range(env.num_envs):
            steps[i].append((_row(raw, i), actions[i], float(rewards[i])))
            if episode_starts[i]:
                last = infos[i]["terminal_observation"]
                last = last if normalised is None else normalised.unnormalize_obs(last)
                episodes.append(_episode(steps[i], last, not infos[i].get("TimeLimit.truncated", False)))
                steps[i] = []
        raw = observations if normalised is None else normalised.get_original_obs()
    return episodes[:n_episodes]


def _row(observations: Any, i: int) -> Any:
    return each(lambda part: part[i].copy(), observations)


def _episode(steps: list[tuple[Any, np.ndarray, float]], last: Any, terminated: bool) -> Episode:
    observations, actions, rewards = zip(*steps, strict=True)
    stacked = each(lambda *parts: np.stack(parts), *observations, last)
    return Episode(stacked, np.stack(actions), np.array(rewards), terminated)

"""Callbacks beside those of Stable-Baselines3: on the mean return of the last training episodes, and films of training."""

import pickle
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.validation import check_integer, check_real


class MeanReturnCallback(BaseCallback):
    """
    Knows the mean undiscounted return of the last ``n_episodes`` training episodes, over all environments.

    :param n_episodes: how many; there is no mean before that many have ended
    :param verbose: 1 to print what is done
    :raises ValueError: if an episode ends without a return, because no ``Monitor`` is around the environment
    """

    def __init__(self, n_episodes: int = 100, verbose: int = 0):
        super().__init__(verbose)
        self.n_episodes = check_integer("n_episodes", n_episodes, at_least=1)
        self.returns: deque[float] = deque(maxlen=self.n_episodes)

    def _on_training_start(self) -> None:
        if self.locals["reset_num_timesteps"]:
            self.returns.clear()

    def _on_step(self) -> bool:
        ended = False
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            if done:
                if "episode" not in info:
                    raise ValueError(
                        f"{type(self).__name__} needs the return of each episode in infos['episode']: "
                        "wrap the environment in a Monitor, or the vectorised environment in a VecMonitor"
                    )
                self.returns.append(info["episode"]["r"])
                ended = True
        if ended and len(self.returns) == self.n_episodes:
            return self._on_mean_return(float(np.mean(self.returns)))
        return True

    def _on_mean_return(self, mean_return: float) -> bool:
        """
        Called after every step with the end of an episode, once there are ``n_episodes`` of them.

        :return: False to stop the training
        """
        raise NotImplementedError


class StopTrainingOnMeanReturn(MeanReturnCallback):
    """
    Stop the training when the mean return of the last ``n_episodes`` episodes reaches a threshold.

    :param threshold: None for the environment's own ``spec.reward_threshold``, at which gymnasium calls it solved
    :param n_episodes: episodes in the mean
    :param verbose: 1 to print when it stops
    :raises ValueError: if ``threshold`` is None and the environment has none
    """

    def __init__(self, threshold: float | None = None, n_episodes: int = 100, verbose: int = 0):
        super().__init__(n_episodes, verbose)
        self.threshold = None if threshold is None else check_real("threshold", threshold, low=-np.inf)

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.reached_at = self.threshold
        if self.reached_at is None:
            spec: Any = self.training_env.get_attr("spec", indices=[0])[0]
            self.reached_at = None if spec is None else spec.reward_threshold
        if self.reached_at is None:
            raise ValueError("threshold=None: the environment has no reward_threshold of its own; threshold must be a number")

    def _on_mean_return(self, mean_return: float) -> bool:
        assert self.reached_at is not None
        if mean_return < self.reached_at:
            return True
        if self.verbose > 0:
            print(
                f"Solved after {self.num_timesteps} steps: the mean return of the last {self.n_episodes} episodes, "
                f"{mean_return:.2f}, has reached {self.reached_at:g}"
            )
        return False


class SaveOnBestMeanReturn(MeanReturnCallback):
    """
    Save the model whenever the mean return of the last ``n_episodes`` episodes is higher than ever before.

    Writes ``best_mean_return.zip``, and beside it ``best_mean_return_vecnormalize.pkl`` if the environment is normalised by
    ``VecNormalize``, without whose statistics the model is of no use.

    :param save_path: folder, made if need be
    :param n_episodes: episodes in the mean
    :param verbose: 1 to print each save
    """

    def __init__(self, save_path: str | Path, n_episodes: int = 100, verbose: int = 0):
        super().__init__(n_episodes, verbose)
        self.save_path = Path(save_path)
        self.best_mean_return = -np.inf

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.save_path.mkdir(parents=True, exist_ok=True)
        if self.locals["reset_num_timesteps"]:
            self.best_mean_return = -np.inf

    def _on_mean_return(self, mean_return: float) -> bool:
        if mean_return > self.best_mean_return:
            self.best_mean_return = mean_return
            self.model.save(self.save_path / "best_mean_return.zip")
            vec_normalize = self.model.get_vec_normalize_env()
            if vec_normalize is not None:
                with written_whole(self.save_path / "best_mean_return_vecnormalize.pkl") as file:
                    pickle.dump(vec_normalize, file)  # as VecNormalize.save does
            if self.verbose > 0:
                print(f"Best mean return of {self.n_episodes} episodes: {mean_return:.2f}, saved to {self.save_path}")
        return True


class RecordVideos(BaseCallback):
    """
    Film every n-th training episode of the first environment, by gymnasium's ``RecordVideo``.

    For rl_zoo3: ``callback: - sb3_ddpg_ext.callbacks.RecordVideos: {every: 20, folder: videos}`` and
    ``env_kwargs: {render_mode: rgb_array}`` in the YAML file. Episodes are counted from 1 in each ``learn()``; files are named
    ``training-episode-20.mp4``.

    :param every: episodes between two films, at least 2: the first episode has begun before a callback can see it
    :param folder: made if need be
    :raises ValueError: if the environments are in other processes, or have another ``render_mode`` than ``"rgb_array"``
    """

    def __init__(self, every: int = 20, folder: str | Path = "videos"):
        super().__init__()
        self.every = check_integer("every", every, at_least=2)
        self.folder = Path(folder)

    def _on_training_start(self) -> None:
        envs = self.training_env.unwrapped
        if not isinstance(envs, DummyVecEnv):
            raise ValueError(f"env={envs} must be a DummyVecEnv for RecordVideos, with its environments in this process")
        env = envs.envs[0]
        if isinstance(env, _CountedFromOne):  # left by a training that an error has ended
            env = env.env
        if env.render_mode != "rgb_array":
            raise ValueError(f"env.render_mode={env.render_mode!r} must be 'rgb_array' for RecordVideos")
        self._without = env
        envs.envs[0] = _CountedFromOne(env, str(self.folder), lambda episode: episode % self.every == 0)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        envs = self.training_env.unwrapped
        recorder = envs.envs[0]  # type: ignore[attr-defined]
        if recorder.recording:
            recorder.stop_recording()
        envs.envs[0] = self._without  # type: ignore[attr-defined]


class _CountedFromOne(gym.wrappers.RecordVideo):
    """
    Around an environment in the middle of its first episode.

    :param env: with ``render_mode="rgb_array"``
    :param folder: of the films
    :param is_due: whether to film an episode, by its number
    """

    def __init__(self, env: gym.Env, folder: str, is_due: Any):
        super().__init__(env, folder, episode_trigger=is_due, name_prefix="training", disable_logger=True)
        self.episode_id = 1

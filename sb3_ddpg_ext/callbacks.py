"""Callbacks on the mean return of the last training episodes, beside those of Stable-Baselines3."""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

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
                vec_normalize.save(str(self.save_path / "best_mean_return_vecnormalize.pkl"))
            if self.verbose > 0:
                print(f"Best mean return of {self.n_episodes} episodes: {mean_return:.2f}, saved to {self.save_path}")
        return True

"""Hindsight experience replay, with every way of sampling and returns of several steps."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.her.goal_selection_strategy import KEY_TO_GOAL_STRATEGY, GoalSelectionStrategy

from sb3_ddpg_ext.buffers.episode_index import EpisodeIndex
from sb3_ddpg_ext.buffers.row_array import RowArray
from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer
from sb3_ddpg_ext.observations import parts_of
from sb3_ddpg_ext.validation import check_choice, check_finite, check_instance, check_integer


class Relabelling:
    """
    Gives transitions other goals: ones that were reached in the same episode.

    :param episodes: where in its episode each transition is
    :param n_sampled_goal: new goals for each transition as it was; 0 for none
    :param strategy: ``"future"`` (this step or a later one), ``"final"`` (the last until now) or ``"episode"``
    :param env: whose first environment has ``compute_reward(achieved_goal, desired_goal, info)``, of whole batches
    :param infos: of the transitions, for ``compute_reward``; None for empty ones
    """

    def __init__(
        self,
        episodes: EpisodeIndex,
        n_sampled_goal: int,
        strategy: GoalSelectionStrategy,
        env: VecEnv | None,
        infos: RowArray | None,
    ):
        self.episodes, self.storage = episodes, episodes.storage
        self.n_sampled_goal, self.strategy, self.env, self.infos = n_sampled_goal, strategy, env, infos

    def relabel(self, steps: np.ndarray, observations: dict[str, th.Tensor], rest: th.Tensor) -> None:
        """
        Give the first transitions of a batch other goals, and the rewards for these.

        :param steps: rows of the transitions in each return, of shape (n_steps, n)
        :param observations: those of the first steps, and those after the returns; of shape (2 n, ...), changed in place
        :param rest: actions, rewards, terminations of all steps, of shape (n_steps * n, action_dim + 2), changed in place
        :raises ValueError: without environments, or for what ``compute_reward`` must not return
        """
        n_steps, n = steps.shape
        n_virtual = n * self.n_sampled_goal // (self.n_sampled_goal + 1)
        if n_virtual == 0:
            return
        if self.env is None:
            raise ValueError("env=None must be an environment, whose compute_reward says what another goal is worth")
        goals = self._reached(self._rows_of_goals(steps[0, :n_virtual]))
        desired = observations["desired_goal"]
        desired[:n_virtual] = desired[n : n + n_virtual] = goals.to(desired)
        relabelled = steps[:, :n_virtual].reshape(-1)
        infos = [{} for _ in relabelled] if self.infos is None else copy.deepcopy(self.infos.values[relabelled])
        achieved, wanted = self._reached(relabelled).numpy(force=True), np.tile(goals.numpy(force=True), (n_steps, 1))
        (rewards,) = self.env.env_method("compute_reward", achieved, wanted, infos, indices=[0])
        rewards = np.asarray(rewards)
        if rewards.size != len(relabelled):
            raise ValueError(
                f"the environment's compute_reward returned an array of shape {rewards.shape} for {len(relabelled)} goals; "
                f"it must be ({len(relabelled)},)"
            )
        check_finite("compute_reward", rewards)
        rest.view(n_steps, n, -1)[:, :n_virtual, -2] = th.as_tensor(rewards).to(rest).view(n_steps, n_virtual)

    def _reached(self, rows: np.ndarray) -> th.Tensor:
        """The goals at the end of these transitions."""
        return self.storage.obs.columns["achieved_goal"].gather(self.storage.follows.take(rows))

    def _rows_of_goals(self, rows: np.ndarray) -> np.ndarray:
        """For each transition one of the same episode, whose achieved goal becomes the desired one."""
        n_after = self.episodes.n_after(rows)
        if self.strategy is GoalSelectionStrategy.FINAL:
            offsets = n_after
        elif self.strategy is GoalSelectionStrategy.FUTURE:
            offsets = np.random.randint(0, n_after + 1)
        else:
            offsets = np.random.randint(-self.episodes.n_before(rows), n_after + 1)
        return (rows + offsets * self.storage.n_envs) % self.storage.n_rows

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"env": None}


class HindsightReplayBuffer(TransitionReplayBuffer):
    """
    Hindsight experience replay, HER, Andrychowicz et al. (2017), https://arxiv.org/abs/1707.01495, section 3.3.

    Of each batch ``n_sampled_goal`` of ``n_sampled_goal + 1`` transitions get another goal: one that was reached in the same
    episode. Their rewards, all those of a return of several steps, are what ``env.compute_reward`` says for that goal.

    Unlike SB3's ``HerReplayBuffer`` it replays the present episodes too, as far as they have gone, and overwrites an old
    episode step by step.

    :param buffer_size: transitions, over all environments
    :param observation_space: ``Dict`` with ``observation``, ``achieved_goal`` and ``desired_goal``
    :param action_space: action space
    :param env: whose first environment has ``compute_reward(achieved_goal, desired_goal, info)``, of whole batches
    :param device: where the samples go
    :param n_envs: number of environments
    :param n_sampled_goal: new goals for each transition as it was; 0 for none
    :param goal_selection_strategy: ``"future"`` (this step or a later one), ``"final"`` (the last until now) or ``"episode"``
    :param copy_info_dict: whether ``compute_reward`` gets the infos of the transitions rather than empty ones
    :param kwargs: arguments of :class:`TransitionReplayBuffer`. Goals with 64 bits are stored so, unless there is a ``path``,
        in which ``keep_float64=True`` does it.
    """

    exact_keys = ("achieved_goal", "desired_goal")  # rewards are of goals as they were, such as metres on a map

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Space,
        env: VecEnv | None,
        device: th.device | str = "auto",
        n_envs: int = 1,
        *,
        n_sampled_goal: int = 4,
        goal_selection_strategy: GoalSelectionStrategy | str = "future",
        copy_info_dict: bool = False,
        **kwargs: Any,
    ):
        self.n_sampled_goal = check_integer("n_sampled_goal", n_sampled_goal, at_least=0)
        self.goal_selection_strategy = _strategy(goal_selection_strategy)
        check_instance("copy_info_dict", copy_info_dict, bool, "True or False")
        self.copy_info_dict = copy_info_dict
        if copy_info_dict and kwargs.get("path") is not None:
            raise ValueError("copy_info_dict=True must be False with path: infos are any objects, which are kept in memory")
        if missing := {"observation", "achieved_goal", "desired_goal"} - set(parts_of(observation_space)):
            raise ValueError(
                f"{type(self).__name__} needs observations with the key {sorted(missing)[0]!r}: {observation_space}"
            )
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, **kwargs)
        self.set_env(env)

    def _make_parts(self) -> None:
        self.episodes = EpisodeIndex(self.storage)
        self.infos = RowArray(self.storage, "infos", (), object) if self.copy_info_dict else None
        self.relabelling = Relabelling(self.episodes, self.n_sampled_goal, self.goal_selection_strategy, None, self.infos)

    def _restore_parts(self, arrays: Mapping[str, Any]) -> None:
        self.episodes.restore(arrays)
        if self.infos is not None:
            self.infos.restore(arrays)

    @property
    def env(self) -> VecEnv | None:
        """The environments, whose ``compute_reward`` says what another goal is worth; None after it was loaded."""
        return self.relabelling.env

    @env.setter
    def env(self, env: VecEnv | None) -> None:
        self.set_env(env)

    def set_env(self, env: VecEnv | None) -> None:
        """:param env: the training environments, or None"""
        self.relabelling.env = env
        if self.demonstrations is not None:
            self.demonstrations.set_env(env)

    def _write_others(self, infos: list[dict[str, Any]], rows: slice) -> None:
        if self.infos is not None:
            self.infos.values[rows] = infos

    def _added(self, rows: slice, infos: list[dict[str, Any]]) -> None:
        self.episodes.added(rows)

    def relabel(self, steps: np.ndarray, observations: dict[str, th.Tensor], rest: th.Tensor) -> None:
        """See :meth:`Relabelling.relabel`."""
        self.relabelling.relabel(steps, observations, rest)

    def reset(self) -> None:
        super().reset()
        self.episodes.reset()

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.episodes.nbytes

    def layout(self) -> dict[str, Any]:
        layout = super().layout()
        return layout | {"arrays": [*layout["arrays"], "before", "infos"]}

    def state(self) -> dict[str, Any]:
        return super().state() | {"has_infos": self.copy_info_dict}

    def contents(self) -> dict[str, list[np.ndarray]]:
        infos = {"infos": [np.empty(0, object)]} if self.infos is None else self.infos.contents()
        return super().contents() | self.episodes.contents() | infos


def _strategy(given: GoalSelectionStrategy | str) -> GoalSelectionStrategy:
    by_name = KEY_TO_GOAL_STRATEGY | {strategy: strategy for strategy in GoalSelectionStrategy}
    check_choice("goal_selection_strategy", given, list(by_name))
    return by_name[given]

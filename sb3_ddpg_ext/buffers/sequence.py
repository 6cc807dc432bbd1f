"""Replay of sequences, for recurrent policies."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ddpg_ext.batch import Prefix, Sequences
from sb3_ddpg_ext.buffers.episode_index import BEFORE_OLDEST, EpisodeIndex
from sb3_ddpg_ext.buffers.row_array import RowArray
from sb3_ddpg_ext.buffers.sampling import can_set_priorities
from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer
from sb3_ddpg_ext.validation import check_instance, check_integer, check_real

MAX_STEPS = 10**6  # of a sequence


class SequenceReplayBuffer(TransitionReplayBuffer):
    """
    Replay memory of sequences of one episode: whole episodes as in RDPG (Heess et al. 2015, https://arxiv.org/abs/1512.04455,
    Algorithm 1), or overlapping segments with a burn-in and stored states as in R2D2 (Kapturowski et al. 2019, "Recurrent
    Experience Replay in Distributed Reinforcement Learning", section 3).

    Steps are drawn, uniformly, and the segment around each is taken: long episodes are replayed more often. With priorities
    segments are drawn, by ``eta * max + (1 - eta) * mean`` of the errors of their steps.

    :param args: as for :class:`~sb3_ddpg_ext.buffers.TransitionReplayBuffer`
    :param sequence_length: steps of a segment; None for whole episodes
    :param overlap: steps that a segment has in common with the one before; None for half of them
    :param burn_in: steps before the segment over which the state is warmed up without being trained
    :param stored_state: begin with the state that the networks had when they acted; else with zeros
    :param eta: see above, 0 to 1
    :param kwargs: as for :class:`~sb3_ddpg_ext.buffers.TransitionReplayBuffer`
    :raises ValueError: also for a sampling that takes errors and whose priorities cannot be set
    """

    copies = True  # its add() keeps nothing either
    of_sequences = True
    _states_to_come: np.ndarray | float = 0.0  # of the transitions that are added next

    def __init__(
        self,
        *args: Any,
        sequence_length: int | None = 32,
        overlap: int | None = None,
        burn_in: int = 0,
        stored_state: bool = False,
        eta: float = 0.9,
        **kwargs: Any,
    ):
        if sequence_length is not None:
            sequence_length = check_integer("sequence_length", sequence_length, 1, MAX_STEPS)
            overlap = check_integer("overlap", sequence_length // 2 if overlap is None else overlap, at_least=0)
            if overlap >= sequence_length:
                raise ValueError(f"overlap={overlap} must be less than sequence_length={sequence_length}")
        elif overlap is not None:
            raise ValueError(f"overlap={overlap} must be None where sequences are whole episodes")
        self.sequence_length, self.overlap = sequence_length, overlap or 0
        self.burn_in = check_integer("burn_in", burn_in, 0, MAX_STEPS)
        check_instance("stored_state", stored_state, bool, "True or False")
        self.stored_state, self.state_size = stored_state, 0
        self.eta = check_real("eta", eta, 0, 1)
        super().__init__(*args, **kwargs)
        if self.combined:
            raise ValueError("combined=True must be False for sequences")
        if self.sampling.takes_errors and not can_set_priorities(self.sampling):
            raise ValueError(
                f"sampling={self.sampling!r} must have priorities_of and set_priorities for sequences, drawn by their first "
                f"rows: {type(self.sampling).__name__} takes errors and lacks one of them"
            )

    def _make_parts(self) -> None:
        self.episodes = EpisodeIndex(self.storage)
        self.states = RowArray(self.storage, "states", (self.state_size,), np.float32)

    def _restore_parts(self, arrays: Mapping[str, Any]) -> None:
        self.episodes.restore(arrays)
        self.states.restore(arrays)

    def reserve_states(self, size: int) -> None:
        """
        Make room for the states of the networks.

        :param size: numbers in the state of one environment
        :raises ValueError: if the transitions in the folder of the buffer have states of another size
        """
        size, folder = size if self.stored_state else 0, self.storage.folder
        if folder is not None and self.n_written:
            folder.claim({"state_size": size})
        elif folder is not None:
            folder.sign(self.layout() | {"state_size": size})
        if size != self.state_size:
            self.state_size = size
            self.states = RowArray(self.storage, "states", (size,), np.float32, file=f"states.{size}")
            self.states.repeat()  # if a folder has been mended when it was opened
            self.warn_if_too_large()

    def hold_states(self, states: np.ndarray) -> None:
        """
        Have the states at hand that belong to the transitions that are added next.

        :param states: of shape (n_envs, state_size)
        """
        self._states_to_come = states

    @property
    def stride(self) -> int | None:
        """Steps from one segment to the next; None for whole episodes."""
        return None if self.sequence_length is None else self.sequence_length - self.overlap

    def add(self, *args: Any, **kwargs: Any) -> None:
        """As ``ReplayBuffer.add``. With priorities a segment is drawn by its first step that is still there."""
        rows = self.storage.next_rows
        new = np.arange(rows.start, rows.stop)
        follows = (new + self.n_envs) % self.storage.n_rows
        is_cut = (self.episodes.after[rows] != 0) & (self._into_segment(follows) > 0)  # of what is overwritten here
        kept = self.sampling.priorities_of(new[is_cut])
        super().add(*args, **kwargs)
        self.sampling.set_priorities(follows[is_cut], kept)
        self.sampling.set_priorities(new[self._into_segment(new) > 0], 0.0)

    def _write_others(self, infos: list[dict[str, Any]], rows: slice) -> None:
        self.states.values[rows], self._states_to_come = self._states_to_come, 0.0

    def _added(self, rows: slice, infos: list[dict[str, Any]]) -> None:
        self.episodes.added(rows)

    def reset(self) -> None:
        super().reset()
        self.episodes.reset()

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.episodes.nbytes + self.states.nbytes

    def layout(self) -> dict[str, Any]:
        layout = super().layout()
        return layout | {"arrays": [*layout["arrays"], "before", "states"]}

    def state(self) -> dict[str, Any]:
        return super().state() | {"state_size": self.state_size}

    def contents(self) -> dict[str, list[np.ndarray]]:
        return super().contents() | self.episodes.contents() | self.states.contents()

    def position(self) -> dict[str, Any]:
        return super().position() | {"parts": {BEFORE_OLDEST: self.episodes.before_oldest()}}

    def sampling_settings(self) -> dict[str, Any] | None:
        own = super().sampling_settings()
        return own and own | dict(sequence_length=self.sequence_length, overlap=self.overlap)

    def renew_sampling(self) -> None:
        super().renew_sampling()
        rows = np.arange(self.n_written)
        is_inside = (self._into_segment(rows) > 0) & (self.episodes.n_before(rows) > 0)
        self.sampling.set_priorities(rows[is_inside], 0.0)

    def _into_segment(self, rows: np.ndarray) -> np.ndarray:
        """The number of steps between the beginning of its segment and each row."""
        before = self.episodes.before.take(rows)
        return before if self.stride is None else before % self.stride

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Sequences:  # type: ignore[override]
        """
        :param batch_size: number of sequences
        :param env: normalises observations and rewards with its present statistics
        :raises ValueError: if the buffer is empty
        """
        rows = self._draw(batch_size)
        back = np.minimum(self._into_segment(rows), self.episodes.n_before(rows))  # what has been overwritten is left out
        sequences = self.sequences_of((rows - back * self.n_envs) % self.storage.n_rows, env)
        indices = sequences.indices if self.sampling.takes_errors else None
        return sequences._replace(weights=self._weights(rows), indices=indices)

    def update_priorities(self, rows: np.ndarray, errors: th.Tensor) -> None:
        """
        :param rows: ``indices`` of the sample
        :param errors: of the same length
        """
        starts, which = np.unique(rows, return_inverse=True)
        values = errors.numpy(force=True).astype(np.float64)
        largest = np.zeros(len(starts))
        np.maximum.at(largest, which, values)
        means = np.bincount(which, values) / np.bincount(which)
        self.sampling.update_priorities(starts, self.eta * largest + (1 - self.eta) * means)

    def sequences_of(self, rows: np.ndarray, env: VecNormalize | None = None) -> Sequences:
        """
        :param rows: of their first steps, of shape (n,)
        :param env: as in :meth:`sample`
        """
        lengths = self.episodes.n_after(rows) + 1
        if self.sequence_length is not None:
            lengths = np.minimum(lengths, self.sequence_length)
        times = np.arange(int(lengths.max()) + 1)[:, None]
        steps = (rows + np.minimum(times, lengths - 1) * self.n_envs) % self.storage.n_rows  # (T + 1, n)
        mask = times[:-1] < lengths
        is_first = self.episodes.n_before(rows) == 0
        rest = self.batches.rest(steps[:-1], env)
        before = self.batches.rest(self._previous(rows)[None], env) * th.from_numpy(~is_first)[None, :, None].to(
            self.storage.device
        )
        history = th.cat([before, rest])  # that of the step before, for each of T + 1
        rewards, terminated = (rest[..., i].numpy(force=True) for i in (-2, -1))
        returns, dones, discounts, follows = self._returns(rewards, terminated, lengths)
        b = np.minimum(self.burn_in, self.episodes.n_before(rows))
        begins = (rows - b * self.n_envs) % self.storage.n_rows
        rows_of_observations = np.where(times < lengths, steps, self.storage.follows.take(steps[-1]))
        return Sequences(
            observations=self.batches.observations(rows_of_observations, env),
            previous_actions=self.batches.to_device(history[..., :-2]),
            previous_rewards=self.batches.to_device(history[..., -2:-1]),
            actions=self.batches.to_device(rest[..., :-2]),
            rewards=self._column(returns),
            dones=self._column(dones),
            discounts=self._column(discounts),
            follows=self.to_torch(follows),
            mask=self.to_torch(mask),
            prefix=self._prefix(rows, b, env) if b.any() else None,
            states=self.to_torch(self.states.values[begins]) if self.stored_state else None,
            indices=np.broadcast_to(rows, mask.shape)[mask],
        )

    def _column(self, numbers: np.ndarray) -> th.Tensor:
        return self.to_torch(numbers[..., None].astype(np.float32))

    def _prefix(self, rows: np.ndarray, lengths: np.ndarray, env: VecNormalize | None) -> Prefix:
        back = np.arange(int(lengths.max()), 0, -1)[:, None]  # (B, 1)
        inside = back <= lengths
        steps = (rows - np.minimum(back, lengths) * self.n_envs) % self.storage.n_rows
        has_previous = th.from_numpy(self.episodes.n_before(rows) > back)[..., None].to(self.storage.device)
        history = self.batches.rest(self._previous(steps), env) * has_previous
        actions, rewards = (self.batches.to_device(part) for part in (history[..., :-2], history[..., -2:-1]))
        return Prefix(self.batches.observations(steps, env), actions, rewards, self.to_torch(inside))

    def _previous(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.n_envs) % self.storage.n_rows

    def _returns(self, rewards: np.ndarray, terminated: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
        """
        Of windows of at most ``n_steps`` that begin at each step and end with its sequence: four arrays of shape (T, n).

        :param rewards: of shape (T, n)
        :param terminated: the same
        :param lengths: of shape (n,)
        """
        times = np.arange(len(rewards))[:, None]
        m = np.clip(lengths - times, 1, self.n_steps)  # of those behind the end whatever can be indexed
        returns = np.zeros_like(rewards)
        for k in range(min(self.n_steps, len(rewards))):
            inside = (k < m) & (times + k < lengths)
            returns[: len(rewards) - k] += self.gamma**k * rewards[k:] * inside[: len(rewards) - k]
        last = np.minimum(times + m - 1, len(rewards) - 1)
        return (
            returns,
            np.take_along_axis(terminated, last, 0),
            self.gamma ** m.astype(np.float32),
            np.minimum(times + m, lengths),
        )

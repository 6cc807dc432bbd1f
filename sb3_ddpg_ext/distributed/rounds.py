"""Chunks of workers that run at their own speeds, as rows of all environments."""

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from sb3_ddpg_ext.distributed.chunk import Chunk, info_of
from sb3_ddpg_ext.observations import each


class Piece(NamedTuple):
    """
    One environment's part of a chunk.

    :param chunk: of its worker
    :param column: of the environment in it
    :param line: what it is a part of: the environment, and how often its worker had been started
    """

    chunk: Chunk
    column: int
    line: tuple[int, int]


class Round:
    """
    A piece for each column of the replay buffer, all of L steps.

    :param pieces: one for each of n columns
    :param begins: (n,), which columns do not go on from what they had before
    """

    def __init__(self, pieces: list[Piece], begins: np.ndarray):
        self.begins, self.n_steps, self.step = begins, len(pieces[0].chunk.rewards), 0
        self.observations = each(lambda *columns: np.stack(columns, axis=1), *(_column(piece) for piece in pieces))
        self.actions, self.rewards, self.dones = (
            np.stack([getattr(piece.chunk, name)[:, piece.column] for piece in pieces], axis=1)
            for name in ("actions", "rewards", "dones")
        )
        self.versions = np.array([piece.chunk.version for piece in pieces])
        has_states = pieces[0].chunk.states is not None
        self.states = np.stack([p.chunk.states[:, p.column] for p in pieces], axis=1) if has_states else None  # type: ignore[index]
        self._pieces = pieces

    @property
    def n_left(self) -> int:
        """Rows that have not been taken."""
        return self.n_steps - self.step

    def observations_at(self, step: int) -> Any:
        """:return: (n, \\*obs_shape), or a dict of such; new arrays"""
        return each(lambda part: part[step].copy(), self.observations)

    def infos_at(self, step: int) -> list[dict[str, Any]]:
        return [info_of(piece.chunk.infos.get((step, piece.column))) for piece in self._pieces]


def _column(piece: Piece) -> Any:
    return each(lambda part: part[:, piece.column], piece.chunk.observations)


class Rounds:
    """
    Gives each environment a column of the replay buffer, and makes rounds of what has come.

    Each column gets the chunks of its own environment, in order, so that episodes go on across their borders. Where an
    environment has sent nothing, because it is slow or its worker has died, while others are a whole chunk ahead, its column
    takes the newest chunk of the one that is furthest ahead: what comes then does not go on from what the column had, and the
    replay buffer is told so. So nobody waits for one of them, and nothing that has come is left out.

    :param n_workers: number of workers
    :param envs_per_worker: environments of each
    :param may_take: whether a column may take the chunk of another environment
    """

    def __init__(self, n_workers: int, envs_per_worker: int, may_take: bool = True):
        self.n_workers, self.envs_per_worker, self.may_take = n_workers, envs_per_worker, may_take
        self.n_taken = 0  # pieces that another column has taken
        self.forget()

    def forget(self) -> None:
        """Leave out what has come: the environments begin anew."""
        n = self.n_workers * self.envs_per_worker
        self._queues: list[deque[Piece]] = [deque() for _ in range(n)]
        self._last: list[tuple[tuple[int, int], int] | None] = [None] * n  # line and number of what a column had

    def put(self, worker: int, start: int, chunk: Chunk) -> None:
        """
        :param worker: whose chunk it is
        :param start: how often that worker had been started
        :param chunk: of as many steps as all others
        """
        for column in range(self.envs_per_worker):
            env = worker * self.envs_per_worker + column
            self._queues[env].append(Piece(chunk, column, (env, start)))

    def n_waiting(self, worker: int) -> int:
        """:return: how many chunks of a worker are in no round yet, in whole or in part"""
        first = worker * self.envs_per_worker
        return max(len(queue) for queue in self._queues[first : first + self.envs_per_worker])

    @property
    def n_pieces(self) -> int:
        """Pieces that are in no round yet."""
        return sum(map(len, self._queues))

    def next(self) -> Round | None:
        """:return: the next round; None where too little has come"""
        lacking = [column for column, queue in enumerate(self._queues) if not queue]
        if lacking and not (self.may_take and self.n_pieces >= len(self._queues)):
            return None
        taken = {column: self._take_from_the_longest() for column in lacking}
        pieces = [taken.get(column) or queue.popleft() for column, queue in enumerate(self._queues)]
        self.n_taken += len(taken)
        begins = np.array(
            [last != (piece.line, piece.chunk.number - 1) for last, piece in zip(self._last, pieces, strict=True)]
        )
        self._last = [(piece.line, piece.chunk.number) for piece in pieces]
        return Round(pieces, begins)

    def _take_from_the_longest(self) -> Piece:
        return max(self._queues, key=len).pop()

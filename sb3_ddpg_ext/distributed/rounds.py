"""Chunks of workers that run at their own speeds, as rows of all environments."""

from collections import deque
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from sb3_ddpg_ext.distributed.chunk import Chunk, info_of
from sb3_ddpg_ext.observations import each


class Piece(NamedTuple):
    """
    One environment's part of a chunk, or some steps of that.

    :param chunk: of its worker
    :param column: of the environment in it
    :param line: what it is a part of: the environment, and how often its worker had been started
    :param first: of its steps in the chunk
    :param end: the step after the last one
    :param is_repeated: whether the same steps are in another column, too
    """

    chunk: Chunk
    column: int
    line: tuple[int, int]
    first: int
    end: int
    is_repeated: bool = False

    @property
    def n_steps(self) -> int:
        return self.end - self.first

    def place(self, step: int) -> tuple[tuple[int, int], int]:
        """:return: the line, and how many steps it had before a step of the chunk"""
        return self.line, self.chunk.number * len(self.chunk.rewards) + step

    def cut(self, n_steps: int) -> tuple["Piece", "Piece"]:
        """:return: its first steps, and the others"""
        return self._replace(end=self.first + n_steps), self._replace(first=self.first + n_steps)

    def part(self, name: str) -> np.ndarray:
        """:return: actions, rewards, dones or states of its steps, (n_steps, ...)"""
        return getattr(self.chunk, name)[self.first : self.end, self.column]

    def observations(self) -> Any:
        """:return: (n_steps + 1, \\*obs_shape), or a dict of such"""
        return each(lambda part: part[self.first : self.end + 1, self.column], self.chunk.observations)

    def info(self, step: int) -> dict[str, Any]:
        """:return: of one of its steps; a repeated one ends no episode once more"""
        info = info_of(self.chunk.infos.get((self.first + step, self.column)))
        return {key: value for key, value in info.items() if key != "episode"} if self.is_repeated else info


class Round:
    """
    A piece for each column of the replay buffer, all of as many steps.

    :param pieces: one for each of n columns
    :param begins: (n,), which columns do not go on from what they had before
    """

    def __init__(self, pieces: list[Piece], begins: np.ndarray):
        self.begins, self.n_steps, self.step = begins, pieces[0].n_steps, 0
        self.observations = each(lambda *columns: np.stack(columns, axis=1), *(piece.observations() for piece in pieces))
        self.actions, self.rewards, self.dones = (
            np.stack([piece.part(name) for piece in pieces], axis=1) for name in ("actions", "rewards", "dones")
        )
        self.versions = np.array([piece.chunk.version for piece in pieces])
        has_states = pieces[0].chunk.states is not None
        self.states = np.stack([piece.part("states") for piece in pieces], axis=1) if has_states else None
        self._pieces = pieces

    @property
    def n_left(self) -> int:
        """Rows that have not been taken."""
        return self.n_steps - self.step

    def observations_at(self, step: int) -> Any:
        """:return: (n, \\*obs_shape), or a dict of such; new arrays"""
        return each(lambda part: part[step].copy(), self.observations)

    def infos_at(self, step: int) -> list[dict[str, Any]]:
        return [piece.info(step) for piece in self._pieces]


class Rounds:
    """
    Gives each environment a column of the replay buffer, and makes rounds of what has come.

    Each column gets the chunks of its own environment, in order, so that episodes go on across their borders. Where an
    environment has sent nothing, because it is slow or its worker has died, while others are a whole chunk ahead, its column
    takes the newest chunk of the one that is furthest ahead: what comes then does not go on from what the column had, and the
    replay buffer is told so. So nobody waits for one of them, and nothing that has come is left out. What is too little for a
    round at the end is in :meth:`rest`.

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
        n, self._has_ended = self.n_workers * self.envs_per_worker, False
        self._queues: list[deque[Piece]] = [deque() for _ in range(n)]
        self._last: list[tuple[tuple[int, int], int] | None] = [None] * n  # where the next step of a column would be

    def put(self, worker: int, start: int, chunk: Chunk) -> None:
        """
        :param worker: whose chunk it is
        :param start: how often that worker had been started
        :param chunk: of as many steps as all others
        """
        for column in range(self.envs_per_worker):
            env = worker * self.envs_per_worker + column
            self._queues[env].append(Piece(chunk, column, (env, start), 0, len(chunk.rewards)))

    def n_waiting(self, worker: int) -> int:
        """:return: how many chunks of a worker are in no round yet, in whole or in part"""
        first = worker * self.envs_per_worker
        return max(len(queue) for queue in self._queues[first : first + self.envs_per_worker])

    @property
    def n_pieces(self) -> int:
        """Pieces that are in no round yet."""
        return sum(map(len, self._queues))

    @property
    def n_steps(self) -> int:
        """Their steps."""
        return sum(map(_steps, self._queues))

    def next(self) -> Round | None:
        """:return: the next round; None where too little has come"""
        lacking = [column for column, queue in enumerate(self._queues) if not queue]
        if self._has_ended or (lacking and not (self.may_take and self.n_pieces >= len(self._queues))):
            return None
        taken = {column: self._take_from_the_longest() for column in lacking}
        pieces = [taken.get(column) or queue.popleft() for column, queue in enumerate(self._queues)]
        self.n_taken += len(taken)
        return self._round(pieces)

    def rest(self) -> Round | None:
        """
        A row of what is too little for a round, for a training that ends: no round comes after it. All columns get a share.
        Where that does not fill the rows, steps of another column are repeated; they are fewer than there are columns.

        :return: of one step; None once nothing is left
        """
        if not self.n_pieces:
            return None
        self._has_ended = True
        self._spread()
        steps = [self._next_step(queue) if queue else None for queue in self._queues]
        repeated = next(step for step in steps if step is not None)._replace(is_repeated=True)
        return self._round([repeated if step is None else step for step in steps])

    def _round(self, pieces: list[Piece]) -> Round:
        """A round of these, and take note of where its columns are then."""
        begins = np.array([last != piece.place(piece.first) for last, piece in zip(self._last, pieces, strict=True)])
        self._last = [piece.place(piece.end) for piece in pieces]
        return Round(pieces, begins)

    def _spread(self) -> None:
        """Move the ends of long queues to short ones, until none has more than its share."""
        aim = ceil(self.n_steps / len(self._queues))
        for queue in self._queues:
            while (lacks := aim - _steps(queue)) > 0 and (more := _steps(longest := max(self._queues, key=_steps)) - aim) > 0:
                piece = longest.pop()
                stays, goes = piece.cut(piece.n_steps - min(lacks, more, piece.n_steps))
                longest.extend([stays] if stays.n_steps else [])
                queue.append(goes)

    def _next_step(self, queue: deque[Piece]) -> Piece:
        step, later = queue.popleft().cut(1)
        queue.extendleft([later] if later.n_steps else [])
        return step

    def _take_from_the_longest(self) -> Piece:
        return max(self._queues, key=len).pop()


def _steps(queue: deque[Piece]) -> int:
    return sum(piece.n_steps for piece in queue)

"""Which transitions a batch consists of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from sb3_ddpg_ext.buffers.sum_tree import SumTree
from sb3_ddpg_ext.kinds import Kinds
from sb3_ddpg_ext.schedules import Linear, Schedule, check_scheduled, evaluate, number_or_schedule
from sb3_ddpg_ext.validation import check_instance, check_real

BOUNDS = 1e-100, 1e100  # of priorities, so that their sum and the least of them are numbers that can be divided by


class Sampling(ABC):
    """Draws rows of a replay buffer. Row ``pos * n_envs + env`` is the transition at ``pos`` of environment ``env``."""

    takes_errors: ClassVar[bool] = False  # whether it wants to know the critic's errors on what it drew
    critic_loss: ClassVar[str | None] = None  # with which alone its draws make sense; None for any

    def allocate(self, n_rows: int) -> None:  # noqa: B027  # nothing to do for most
        """Begin anew, for an empty buffer with so many rows."""

    def added(self, rows: slice) -> None:  # noqa: B027
        """Take note of new transitions in these rows."""

    @abstractmethod
    def draw(self, n: int, n_filled: int, n_envs: int) -> np.ndarray:
        """
        :param n: how many rows
        :param n_filled: positions that have been filled, of ``n_envs`` rows each
        :param n_envs: number of environments
        :return: rows of shape (n,), in random order, all of them below ``n_filled * n_envs``
        """

    def weights(self, rows: np.ndarray) -> np.ndarray | None:
        """Importance weights of shape (n,), at most 1; None for equal ones."""
        return None

    def update_priorities(self, rows: np.ndarray, errors: np.ndarray) -> None:  # noqa: B027
        """Take note of the critic's errors, of shape (n,), on what was drawn."""

    def advance(self, progress_remaining: float, num_timesteps: int) -> None:  # noqa: B027
        """Take note of how far the training is."""

    def priorities_of(self, rows: np.ndarray) -> np.ndarray | None:
        """:return: what these rows are drawn in proportion to, as :meth:`set_priorities` takes it; None without priorities"""
        return None

    def set_priorities(self, rows: np.ndarray, priorities: Any) -> None:  # noqa: B027
        """
        For replay of sequences, in which only the first row of each may be drawn.

        :param rows: which
        :param priorities: what :meth:`priorities_of` gave for as many rows, or 0 for rows that are never drawn
        """

    def settings(self) -> dict[str, Any] | None:
        """
        What the meaning of :meth:`contents` depends on, in values that JSON has. Only a sampling with the same settings reads
        what was saved.
        """
        return {"kind": type(self).__name__}

    def state(self) -> dict[str, Any]:
        """What is saved with a replay buffer beside arrays, in values that JSON has."""
        return {}

    def contents(self, n_rows: int) -> dict[str, np.ndarray]:
        """
        The arrays that are saved with a replay buffer, by name.

        :param n_rows: of transitions that have been written
        """
        return {}

    def restore(self, state: dict[str, Any], arrays: Mapping[str, Any]) -> None:  # noqa: B027
        """
        Take over what a sampling with the same settings has saved, after :meth:`allocate` and :meth:`added`.

        :param state: has what :meth:`state` gave
        :param arrays: has what :meth:`contents` gave, as arrays or what ``np.asarray`` makes one of
        """


def checked_draw(sampling: Sampling, n: int, n_filled: int, n_envs: int) -> np.ndarray:
    """
    What ``sampling.draw`` gives. That of a class from outside is looked at, which takes some microseconds.

    :raises ValueError: if these are not n rows that have been filled
    """
    rows = sampling.draw(n, n_filled, n_envs)
    if type(sampling).__module__ == __name__:
        return rows
    rows, name = np.asarray(rows), f"sampling: {type(sampling).__name__}.draw"
    allowed = f"{n} integers from 0 to {n_filled * n_envs - 1}, of the shape {(n,)}"
    if rows.shape != (n,) or rows.dtype.kind not in "iu":
        raise ValueError(f"{name} gave {rows.dtype} of the shape {rows.shape}; it must give {allowed}")
    if rows.min(initial=0) < 0 or rows.max(initial=0) >= n_filled * n_envs:
        raise ValueError(f"{name} gave rows from {rows.min()} to {rows.max()}; it must give {allowed}")
    return rows.astype(np.int64, copy=False)


def checked_weights(sampling: Sampling, rows: np.ndarray) -> np.ndarray | None:
    """
    What ``sampling.weights`` gives, as a column of 32-bit floats; None for equal ones.

    :raises ValueError: if there is not one for each row
    """
    weights = sampling.weights(rows)
    if weights is None:
        return None
    if np.shape(weights) != rows.shape:
        name, shape = f"sampling: {type(sampling).__name__}.weights", np.shape(weights)
        raise ValueError(f"{name} gave the shape {shape}; it must be {rows.shape}, or None in place of equal ones")
    return np.asarray(weights, np.float32)[:, None]


def can_set_priorities(sampling: Sampling) -> bool:
    """Whether it has the two methods by which replay of sequences changes priorities."""
    own = type(sampling)
    return own.priorities_of is not Sampling.priorities_of and own.set_priorities is not Sampling.set_priorities


SAMPLINGS: Kinds[Sampling] = Kinds(
    '"uniform", "prioritized", "lap", these two also with their alpha as in "prioritized_0.6", a dict(kind=..., ...) with the '
    "arguments of its class, or a Sampling of sb3_ddpg_ext.buffers",
    accepts=lambda spec: isinstance(spec, Sampling),
    readers=dict(beta=number_or_schedule),
)


def make_sampling(spec: Any) -> Sampling:
    """
    :param spec: a ``Sampling`` (returned as it is), a string or a dict
    :raises ValueError: for an unknown kind or number
    :raises TypeError: for anything else
    """
    return SAMPLINGS.make("replay_buffer_kwargs['sampling']", spec)


@SAMPLINGS.register("uniform")
class Uniform(Sampling):
    """
    Each transition with the same probability, Lin (1992).

    :param replacement: whether a transition may be in one batch twice; without, a batch larger than the buffer has each of
        them equally often, or once more
    """

    def __init__(self, replacement: bool = True):
        check_instance("sampling: replacement", replacement, bool, "True or False")
        self.replacement = replacement

    def draw(self, n: int, n_filled: int, n_envs: int) -> np.ndarray:
        if not self.replacement:
            return _distinct(n, n_filled * n_envs)
        positions = np.random.randint(0, n_filled, size=n)
        if n_envs == 1:  # SB3's draw of the environment takes nothing from the stream then
            return positions
        return positions * n_envs + np.random.randint(0, n_envs, size=n)


def _distinct(n: int, n_rows: int) -> np.ndarray:
    """Rows in random order, each at most once more than any other. The expected time is O(n) for any number of rows."""
    whole, rest = divmod(n, n_rows)
    if rest > n_rows // 4:
        few = np.random.permutation(n_rows)[:rest]
    else:
        few = np.empty(0, np.int64)
        while len(few) < rest:  # draw again what has been drawn already
            more = np.concatenate((few, np.random.randint(0, n_rows, size=rest - len(few))))
            few = more[np.sort(np.unique(more, return_index=True)[1])]
    if not whole:
        return few
    return np.random.permutation(np.concatenate((np.tile(np.arange(n_rows), whole), few)))


@SAMPLINGS.register("prioritized")
class Prioritized(Sampling):
    """
    Proportional prioritised replay, Schaul et al. (2016), https://arxiv.org/abs/1511.05952, section 3.3 and Algorithm 1:
    P(i) = p_i^alpha / sum_k p_k^alpha with p_i = abs(error of i) + epsilon, drawn in strata of equal probability, and
    w_i = (N P(i))^-beta / max_j w_j over the batch.

    A new transition has the largest priority seen until then, so that each is drawn soon. What is not finite changes no
    priority.

    :param alpha: 0 is uniform
    :param beta: how much of the bias the weights correct, 0 to 1, a number or a schedule
    :param epsilon: > 0, so that nothing is never drawn again
    """

    takes_errors = True

    def __init__(self, alpha: float = 0.6, beta: float | Schedule | None = None, epsilon: float = 1e-6):
        self.alpha = check_real("sampling: alpha", alpha, low=0)
        self.beta = Linear(0.4, 1.0) if beta is None else check_scheduled("sampling: beta", beta, high=1)
        self.epsilon = check_real("sampling: epsilon", epsilon, low=0, above=True)
        self._beta = self._beta_at(1.0, 0)
        self.largest = 1.0

    def allocate(self, n_rows: int) -> None:
        self.tree = SumTree(n_rows)
        self.largest = 1.0

    def added(self, rows: slice) -> None:
        self.tree.set(np.arange(rows.start, rows.stop), self.largest)

    def draw(self, n: int, n_filled: int, n_envs: int) -> np.ndarray:
        strata = (np.arange(n) + np.random.random_sample(n)) * (self.tree.total / n)
        rows = self.tree.find(strata)
        np.random.shuffle(rows)  # they come in the order of the buffer
        return rows

    def weights(self, rows: np.ndarray) -> np.ndarray | None:
        values = self.tree.values[rows]
        return (values.min() / values) ** self._beta  # N and the total cancel out

    def update_priorities(self, rows: np.ndarray, errors: np.ndarray) -> None:
        is_finite = np.isfinite(errors)
        if not is_finite.all():
            rows, errors = rows[is_finite], errors[is_finite]
        if len(rows):
            with np.errstate(over="ignore"):
                priorities = np.clip(self.priorities(np.abs(errors.astype(np.float64))), *BOUNDS)
            self.largest = max(self.largest, float(priorities.max()))
            self.tree.set(rows, priorities)

    def priorities(self, errors: np.ndarray) -> np.ndarray:
        """Turn absolute errors into the numbers that rows are drawn in proportion to."""
        return (errors + self.epsilon) ** self.alpha

    def priorities_of(self, rows: np.ndarray) -> np.ndarray:
        return self.tree.values[rows].copy()

    def set_priorities(self, rows: np.ndarray, priorities: Any) -> None:
        self.tree.set(rows, priorities)

    def settings(self) -> dict[str, Any]:
        return dict(kind=type(self).__name__, alpha=self.alpha, epsilon=self.epsilon)

    def state(self) -> dict[str, Any]:
        return dict(largest=self.largest)

    def contents(self, n_rows: int) -> dict[str, np.ndarray]:
        return dict(priorities=self.tree.values[:n_rows])

    def restore(self, state: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        values, largest = np.asarray(arrays["priorities"]), state["largest"]
        check_instance("largest", largest, (int, float), "a number")
        if not largest >= 0:
            raise ValueError(f"largest={largest} must be at least 0")
        if values.ndim != 1 or len(values) > len(self.tree.values) or not (values >= 0).all():
            raise ValueError(f"priorities must be at most {len(self.tree.values)} numbers >= 0")
        self.tree.set(np.arange(len(values)), np.where(values > 0, np.clip(values, *BOUNDS), 0))
        self.largest = min(largest, BOUNDS[1])

    def advance(self, progress_remaining: float, num_timesteps: int) -> None:
        self._beta = self._beta_at(progress_remaining, num_timesteps)

    def _beta_at(self, progress_remaining: float, num_timesteps: int) -> float:
        beta, name = self.beta, "sampling: beta"
        return evaluate(beta, progress_remaining, num_timesteps, 1, name) if callable(beta) else beta


@SAMPLINGS.register("lap")
class LossAdjusted(Prioritized):
    """
    Loss-adjusted prioritised replay, LAP, Fujimoto et al. (2020), https://arxiv.org/abs/2007.06049, section 5:
    P(i) in proportion to max(abs(error)^alpha, 1), with the Huber loss (``critic_loss="huber"``) and without weights.

    :param alpha: 0 is uniform
    """

    critic_loss = "huber"

    def __init__(self, alpha: float = 0.4):
        super().__init__(alpha=alpha, beta=0.0)

    def weights(self, rows: np.ndarray) -> None:
        return None

    def priorities(self, errors: np.ndarray) -> np.ndarray:
        return np.maximum(errors**self.alpha, 1.0)

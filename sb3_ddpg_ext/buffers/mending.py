"""A replay memory after it was stopped in the middle of a transition, or is to go back to an earlier time."""

from typing import Any

import numpy as np

from sb3_ddpg_ext.buffers.storage import ADDING, GOING_BACK, Storage, new_identity


def reopen(storage: Storage) -> None:
    """
    Go on with what is in a folder, except for transitions that were being added when the process ended.

    :param storage: whose arrays are the files of the folder
    """
    assert storage.counters is not None
    pos, n_rounds, stopped_in, identity = map(int, storage.counters)
    storage.n_added, storage.identity = pos + n_rounds * storage.n_positions, identity or new_identity()
    mend(storage, is_torn=stopped_in == ADDING)


def mend(storage: Storage, is_torn: bool) -> None:
    """
    Let there be whole transitions only, from which none goes on.

    :param storage: that was stopped while it was adding
    :param is_torn: whether the oldest transitions may have been overwritten in part; they become those that come next
    """
    obs, written = storage.obs, storage.follows[: storage.n_written]
    storage.goes_on[:], storage.repeated = False, None
    if storage.n_positions == 1 and is_torn:  # nothing else is there
        storage.reset()
        return
    obs.n_used = max(int(written.max(initial=0)) + 1, storage.newest.stop)
    obs.forget_unused(written)
    first, newest = storage.next_rows.start, storage.last_rows.start
    for env in range(storage.n_envs if storage.n_written else 0):
        if storage.follows[newest + env] in (first + env, storage.newest.start + env):  # where the next add() will write
            storage.follows[newest + env] = obs.copy_behind(int(storage.follows[newest + env]))
    if is_torn and storage.full:
        _fork(storage, 0)  # no earlier time has all that it had
        _repeat(storage, first, (first + storage.n_envs) % storage.n_rows)
    obs.forget_unused(written)
    storage.note()


def position_of(storage: Storage) -> dict[str, Any]:
    """What :func:`go_back` takes."""
    return storage.state() | dict(n_added=storage.n_added, identity=storage.identity)


def go_back(storage: Storage, position: dict[str, Any]) -> bool:
    """
    Forget what a folder has been given since an earlier time.

    :param storage: of the folder
    :param position: of that time
    :return: whether that was possible; if transitions of that time have been overwritten, all stay as they are
    """
    n_before = position["pos"] + storage.n_positions * position["full"]
    n_after = storage.n_added
    if "n_added" in position:
        n_before = position["n_added"]
        if n_before == 0:
            storage.reset()
            return True
        if n_before > _n_shared(storage, position["identity"]):
            return False
    elif storage.full:  # an older file, which does not say how often the position had come round
        n_after = storage.pos + storage.n_positions
    if n_after < n_before or (storage.full and n_after > n_before):
        return False
    if n_after > n_before:
        _fork(storage, n_before)
    storage.n_added, storage.repeated = n_before, None
    storage.note(GOING_BACK)  # until the newest observations are whole
    newest = storage.last_rows.start
    for env in range(storage.n_envs if storage.n_written else 0):
        storage.obs.copy(storage.newest.start + env, int(storage.follows[newest + env]))
        if position["goes_on"][env]:
            storage.follows[newest + env] = storage.newest.start + env
    storage.goes_on[:] = position["goes_on"]
    storage.obs.forget_unused(storage.follows[: storage.n_written])
    storage.note()
    return True


def _n_shared(storage: Storage, identity: int) -> int:
    """How many transitions are still those that the contents of this identity had."""
    if identity == storage.identity:
        return storage.n_added
    of_others = np.empty((0, 2), np.int64) if storage.forks is None else storage.forks
    return int(of_others[of_others[:, 0] == identity, 1].max(initial=0))


def _fork(storage: Storage, n: int) -> None:
    """Have another identity from now on, since what comes after the first n transitions will be others."""
    if storage.forks is not None:
        storage.forks[:] = np.roll(storage.forks, -1, axis=0)
        storage.forks[-1] = storage.identity, n
        np.minimum(storage.forks[:, 1], n, out=storage.forks[:, 1])
    storage.identity = new_identity()


def _repeat(storage: Storage, first: int, other: int) -> None:
    """Let the transitions from row ``first`` be those from row ``other``."""
    storage.repeated = slice(first, first + storage.n_envs), slice(other, other + storage.n_envs)
    for env in range(storage.n_envs):
        row, source = first + env, other + env
        storage.obs.copy(row, source)
        storage.rest.copy_row(row, source)
        storage.timeouts[row] = storage.timeouts[source]
        follows = int(storage.follows[source])
        storage.follows[row] = follows if follows < storage.n_rows else storage.obs.copy_behind(follows)

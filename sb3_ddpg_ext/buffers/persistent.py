"""What a replay buffer holds, in and from files: saved, pickled, or in a folder all the time."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_ddpg_ext.buffers.disk import Folder
from sb3_ddpg_ext.buffers.storage import TransitionStorage, array_prefix


class PersistentStorage(TransitionStorage):
    """
    :class:`TransitionStorage` that outlives its process.

    :param buffer_size: transitions, over all environments
    :param observation_space: also ``Dict``
    :param action_space: action space
    :param device: where the samples go
    :param n_envs: number of environments
    :param path: a folder for the transitions, which are there again when a buffer with the same arguments is made with it.
        What is in memory then is what the operating system keeps there. One process at a time.
    :param kwargs: as for :class:`TransitionStorage`
    """

    _derived: ClassVar[tuple[str, ...]] = ()  # of the arrays with an element for each transition those that follow from others

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        *,
        path: str | Path | None = None,
        **kwargs: Any,
    ):
        if path is not None and kwargs.get("storage_device") not in (None, "cpu", th.device("cpu")):
            raise ValueError(f"storage_device={str(kwargs['storage_device'])!r} must be None with path={str(path)!r}")
        self._folder, self._is_there = None if path is None else Folder(path), False
        if self._folder is not None:
            self._new_array = self._folder.new_array
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, **kwargs)
        if self._is_there:
            self._reopen()
        elif self._folder is not None:
            self._folder.sign(self.layout())

    def layout(self) -> dict[str, Any]:
        """What a file or a folder must agree with to hold this buffer's transitions."""
        space = self.observation_space
        subspaces = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        shapes = self.obs_shape if isinstance(self.obs_shape, dict) else {"": self.obs_shape}
        return dict(
            buffer_size=self.buffer_size,
            n_envs=self.n_envs,
            observations={key: [list(shapes[key]), self._stored_as(each.dtype).name] for key, each in subspaces.items()},
            action_dim=self.action_dim,
            arrays=[name.removeprefix("_") for name in self._per_row if name not in self._derived],
            frame_stack=self.frame_stack,
        )

    def _allocate(self, n_used: int) -> None:
        if self._folder is not None:
            self._is_there = self._folder.claim(self.layout())
        super()._allocate(n_used)
        if self._folder is not None:
            self._counters = self._new_array("counters", (3,), np.int64)  # pos, full, and whether something is being added

    def _warn_if_too_large(self) -> None:
        if self._folder is None:
            super()._warn_if_too_large()
        else:
            self._folder.warn_if_too_large(self.nbytes)

    def _adding(self) -> None:
        if self._folder is not None:
            self._folder.hold()
        self._note(True)

    def _added(self, rows: slice, infos: list[dict[str, Any]]) -> None:
        self._note(False)

    def reset(self) -> None:
        super().reset()
        self._note(False)

    @property
    def is_on_disk(self) -> bool:
        return self._folder is not None

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` is to know beside the arrays, as JSON has it."""
        return dict(pos=self.pos, full=self.full, n_used=self._n_used, goes_on=self._goes_on.tolist())

    def contents(self) -> dict[str, list[np.ndarray]]:
        """What has been written, without the room for more: arrays by name, each in parts that follow one another."""
        parts = [slice(0, self.n_written), slice(self._n_rows, self._n_used)]
        arrays = {"rest": [self._rest.array(parts[0])]}
        for key, column in self._obs.items():
            arrays |= {f"{array_prefix(key)}{name}": each for name, each in column.contents(parts).items()}
        saved = [name for name in self._per_row if name not in self._derived]
        return arrays | {name.removeprefix("_"): [getattr(self, name)[parts[0]]] for name in saved}

    def restore(self, state: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        """
        Take over what a buffer of the same size has saved. This one has been empty until now.

        :param state: of that buffer
        :param arrays: its contents, by name, of which slices are taken in order
        """
        self.pos, self.full, self._n_used = state["pos"], state["full"], state["n_used"]
        n_written = self.n_written
        parts = [slice(0, n_written), slice(self._n_rows, self._n_used)]
        self._rest.restore(parts[:1], {"rows": arrays["rest"]}, self.n_envs)
        for key, column in self._obs.items():
            if self._n_used > column.n_rows:
                column.grow(self._n_used + max(self._n_rows // 8, 16))
            own = array_prefix(key)
            saved = {name.removeprefix(own): arrays[name] for name in arrays if name.startswith(own)}
            column.restore(parts, saved, self.n_envs)
        for name in self._per_row:
            mine, its = getattr(self, name), arrays.get(name.removeprefix("_"))
            if its is not None and its.shape == (n_written, *mine.shape[1:]) and len(mine) == self._n_rows:
                mine[parts[0]] = its  # else one of the two has not asked for it
        self._goes_on[:] = state["goes_on"]
        self._derive(arrays)
        self._note(False)

    def _derive(self, arrays: Collection[str]) -> None:
        """Work out what has not been saved."""
        follows = self._next[: self.n_written]
        kept = set(follows[follows >= self._newest.stop].tolist())
        self._free = [row for row in range(self._newest.stop, self._n_used) if row not in kept]

    def _reopen(self) -> None:
        """Go on with what is in the folder, except for transitions that were being added when the process ended."""
        self.pos, self.full = int(self._counters[0]), bool(self._counters[1])
        is_torn = bool(self._counters[2])
        self._n_used = max(int(self._next[: self.n_written].max(initial=0)) + 1, self._newest.stop)
        self._derive(())
        first, newest = self.pos * self.n_envs, (self.pos - 1) % self.buffer_size * self.n_envs
        for env in range(self.n_envs if self.n_written else 0):
            if self._next[newest + env] in (first + env, self._newest.start + env):  # where the next add() will write
                self._next[newest + env] = self._keep(int(self._next[newest + env]))
        if is_torn and self.full:
            self._repeat(first, (first + self.n_envs) % self._n_rows)
        self._derive(())
        self._note(False)

    def _repeat(self, first: int, other: int) -> None:
        """Let the transitions from row ``first`` be those from row ``other``."""
        for env in range(self.n_envs):
            row, source = first + env, other + env
            for column in (*self._obs.values(), self._rest):
                column.copy_row(row, source)
            self._timeouts[row] = self._timeouts[source]
            follows = int(self._next[source])
            self._next[row] = follows if follows < self._n_rows else self._keep(follows)

    def _note(self, is_adding: bool) -> None:
        if self._folder is not None:
            self._counters[:] = self.pos, self.full, is_adding

    def __getstate__(self) -> dict[str, Any]:
        left_out = {*self._per_row, "_obs", "_rest", "_counters", "_folder", "_new_array"}
        state = {name: value for name, value in self.__dict__.items() if name not in left_out}
        contents = {name: np.concatenate(parts) for name, parts in self.contents().items()}
        return state | {"contents": contents, "state": self.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        contents, own = state.pop("contents"), state.pop("state")
        self.__dict__.update(state)
        self._folder = None
        self._allocate(self._n_used)
        self.restore(own, contents)

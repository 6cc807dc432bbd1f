"""Recorded episodes: from memory, NumPy files and Minari data sets, into a replay buffer."""

import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import is_image_space, maybe_transpose

from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.validation import check_finite, check_shape, naming

Observations = Any  # an array of shape (n, *obs_shape), or a dict of such
N_IMAGE_AXES = 3
FORMS = 'a list of Episode, the path of a file that write_episodes has written, "minari:DATASET", or a data set of minari'


class Episode(NamedTuple):
    """
    One episode of T steps as the environment had it.

    :param observations: T + 1 of them, in order: an array of shape ``(T + 1, *obs_shape)``, or a dict of such; images with
        their channels first or last
    :param actions: in the units of the environment, of shape ``(T, *action_shape)``
    :param rewards: of shape (T,)
    :param terminated: whether the last step was a termination; else a time limit, or whatever ended the recording
    """

    observations: Observations
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


def read_episodes(source: Any) -> list[Episode]:
    """
    :param source: a list of :class:`Episode`, the path of a file that :func:`write_episodes` has written,
        ``"minari:DATASET"``, or a data set of minari
    :raises ValueError: if it is none of these, or holds no step
    :raises ImportError: if minari is needed and missing
    """
    if isinstance(source, str) and source.startswith("minari:"):
        episodes = list(_from_minari(_load_minari(source.removeprefix("minari:"))))
    elif isinstance(source, str | Path):
        episodes = list(_from_file(_with_suffix(source)))
    elif hasattr(source, "iterate_episodes"):
        episodes = list(_from_minari(source))
    elif isinstance(source, list | tuple) and all(isinstance(each, Episode) for each in source):
        episodes = list(source)
    else:
        raise ValueError(f"demonstrations={source!r:.200} must be {FORMS}")
    with naming("demonstrations", episodes, FORMS):
        n_steps = sum(len(episode.rewards) for episode in episodes)
    if n_steps == 0:
        raise ValueError(f"demonstrations={source!r:.200} must hold at least one step")
    return episodes


def write_episodes(path: str | Path, episodes: Iterable[Episode]) -> None:
    """
    Write a NumPy file (``.npz``, arrays only, no pickle): ``observations`` (or ``observations/KEY`` for each entry),
    ``actions``, ``rewards``, one episode behind the other, and for each episode its ``lengths`` and ``terminated``.

    :param path: the file
    :param episodes: at least one
    """
    episodes, path = list(episodes), _with_suffix(path)
    if not episodes:
        raise ValueError("episodes=[] must have at least one")
    joined = each(lambda *parts: list(parts), *(episode.observations for episode in episodes))
    by_key = joined if isinstance(joined, dict) else {"": joined}
    columns = {f"observations/{key}".rstrip("/"): parts for key, parts in by_key.items()}
    columns |= {name: [getattr(e, name) for e in episodes] for name in ("actions", "rewards")}
    np.savez_compressed(
        path,
        **{name: np.concatenate(parts) for name, parts in columns.items()},  # type: ignore[arg-type]
        lengths=np.array([len(e.rewards) for e in episodes]),
        terminated=np.array([e.terminated for e in episodes], bool),
    )


def _with_suffix(path: str | Path) -> Path:
    """As NumPy writes it."""
    return Path(path) if Path(path).suffix == ".npz" else Path(f"{path}.npz")


def _from_file(path: Path) -> Iterator[Episode]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        lengths, terminated = arrays["lengths"], arrays["terminated"]
        actions, rewards = (np.split(arrays[name], np.cumsum(lengths)[:-1]) for name in ("actions", "rewards"))
        observations = {
            name: np.split(array, np.cumsum(lengths + 1)[:-1])
            for name, array in arrays.items()
            if name.startswith("observations")
        }
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"demonstrations={str(path)!r} must be a file that write_episodes has written ({error})") from error
    for i in range(len(lengths)):
        parts = {name.removeprefix("observations/"): each[i] for name, each in observations.items()}
        own = parts["observations"] if list(observations) == ["observations"] else parts
        yield Episode(own, actions[i], rewards[i], bool(terminated[i]))


def _load_minari(name: str) -> Any:
    try:
        import minari
    except ImportError as error:
        raise ImportError(f"demonstrations='minari:{name}' needs minari: pip install minari") from error

    return minari.load_dataset(name)


def _from_minari(dataset: Any) -> Iterator[Episode]:
    for episode in dataset.iterate_episodes():
        yield Episode(episode.observations, episode.actions, episode.rewards, bool(episode.terminations[-1]))


def store(buffer: ReplayBuffer, episodes: list[Episode]) -> None:
    """
    Add all steps of these episodes to a buffer. In one of several environments each of them takes an equal share of the steps;
    an episode that is cut by that goes on from the true next observation, and the last few steps may be there twice.

    :param buffer: of ``n_envs`` environments
    :param episodes: of the same spaces
    :raises ValueError: if a shape does not fit, or a number is not finite
    """
    steps: list[tuple] = []
    for i, episode in enumerate(episodes):
        try:
            steps.extend(_steps(buffer, episode))
        except ValueError as error:
            raise ValueError(f"demonstrations: episode {i}: {error}") from None
    n_envs = buffer.n_envs
    per_env = -(-len(steps) // n_envs)
    if per_env > buffer.buffer_size:
        raise ValueError(f"buffer_size={buffer.buffer_size * n_envs} must be at least the {len(steps)} steps to be stored")
    cut = getattr(buffer, "interrupt", lambda: None)
    cut()
    starts = [min(env * per_env, len(steps) - per_env) for env in range(n_envs)]
    for t in range(per_env):
        obs, next_obs, actions, rewards, dones, infos = zip(*(steps[start + t] for start in starts), strict=True)
        buffer.add(_stack(obs), _stack(next_obs), np.stack(actions), np.array(rewards), np.array(dones), list(infos))
    cut()


def _steps(buffer: ReplayBuffer, episode: Episode) -> Iterator[tuple[Any, Any, np.ndarray, float, bool, dict[str, Any]]]:
    observations, actions, rewards, terminated = episode
    observations = _transposed(observations, buffer.observation_space)
    n = len(rewards)
    space: Any = buffer.action_space
    check_shape(observations, buffer.observation_space, leading=(n + 1,))
    if np.shape(actions) != (n, *space.shape) or np.shape(rewards) != (n,):
        shapes = f"{np.shape(actions)} and {np.shape(rewards)}; they must be {(n, *space.shape)} and {(n,)}"
        raise ValueError(f"actions and rewards have the shapes {shapes}")
    for name, values in (("observation", observations), ("action", actions), ("reward", rewards)):
        check_finite(name, values)
    low, high = space.low, space.high
    scaled = np.clip(2 * (np.asarray(actions) - low) / (high - low) - 1, -1, 1)
    for t in range(n):
        is_last = t == n - 1
        info = {"TimeLimit.truncated": is_last and not terminated}
        yield _row(observations, t), _row(observations, t + 1), scaled[t], float(rewards[t]), is_last, info


def _transposed(observations: Observations, space: spaces.Space) -> Observations:
    """Images with the channels in front, as the model sees them."""
    if isinstance(space, spaces.Dict) and isinstance(observations, dict):
        return {k: _transposed(v, space[k]) if k in space.spaces else v for k, v in observations.items()}
    is_image = is_image_space(space) and np.ndim(observations) == N_IMAGE_AXES + 1
    return maybe_transpose(np.asarray(observations), space) if is_image else observations


def _row(observations: Observations, t: int) -> Any:
    return each(operator.itemgetter(t), observations)


def _stack(parts: tuple[Any, ...]) -> Any:
    return each(lambda *those: np.stack(those), *parts)

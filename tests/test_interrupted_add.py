"""Ctrl-C at every line of ``add``: a replay buffer has true transitions only, and goes on."""

import sys
from itertools import count, product
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from sb3_ddpg_ext.buffers import HindsightReplayBuffer, Prioritized, SequenceReplayBuffer, TransitionReplayBuffer

BOX, ACTIONS = spaces.Box(-1e6, 1e6, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32)
GOALS = spaces.Dict({key: BOX for key in ("observation", "achieved_goal", "desired_goal")})
BUFFERS = str(Path(sys.modules[TransitionReplayBuffer.__module__].__file__).parent)
LENGTH = 4  # of an episode


class Steps:
    """Episodes of numbered observations (episode, step), whose rewards say both."""

    def __init__(self, buffer):
        self.buffer, self.n_envs, self.episode, self.t = buffer, buffer.n_envs, 0, 0

    def observation(self, t):
        pairs = np.array([[self.episode + 100 * env, t] for env in range(self.n_envs)], np.float32)
        return dict.fromkeys(GOALS.spaces, pairs) if isinstance(self.buffer.observation_space, spaces.Dict) else pairs

    def begin_anew(self):
        self.episode, self.t = self.episode + 1, 0

    def take(self, n):
        for _ in range(n):
            now, after = self.observation(self.t), self.observation(self.t + 1)
            self.t += 1
            reward = 1000 * np.array([self.episode + 100 * env for env in range(self.n_envs)], float) + self.t
            done = np.full(self.n_envs, self.t == LENGTH)
            if isinstance(self.buffer, SequenceReplayBuffer):
                self.buffer.hold_states(reward[:, None])
            infos = [{"reward": float(each)} for each in reward]
            self.buffer.add(now, after, np.zeros((self.n_envs, 1)), reward, done, infos)
            if self.t == LENGTH:
                self.begin_anew()


def raise_at(line):
    """Let a Ctrl-C come at that line of the replay buffers' modules, counted from now on."""
    passed = count()

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(BUFFERS):
            return None
        if event == "line" and next(passed) == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)


def interrupt_at(line, call):
    """Whether a Ctrl-C came at that line of the replay buffers' modules, counted from the beginning of the call."""
    before = sys.gettrace()
    raise_at(line)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def check(buffer):
    n = buffer.size()
    arrays = [buffer.observations, buffer.next_observations]
    now, after = (array["achieved_goal"][:n] if isinstance(array, dict) else array[:n] for array in arrays)
    np.testing.assert_array_equal(after, now + np.float32([0, 1]))
    np.testing.assert_array_equal(buffer.rewards[:n], 1000 * now[..., 0] + after[..., 1])
    np.testing.assert_array_equal(buffer.dones[:n], after[..., 1] == LENGTH)
    of_rows = buffer.rewards[:n].reshape(-1)
    if isinstance(buffer, HindsightReplayBuffer):
        assert [info["reward"] for info in buffer.infos.values[: len(of_rows)]] == of_rows.tolist()
    if isinstance(buffer, SequenceReplayBuffer):
        np.testing.assert_array_equal(buffer.states.values[: len(of_rows), 0], of_rows)


def made(cls, n_positions, n_envs, **kwargs):
    if cls is HindsightReplayBuffer:
        kwargs |= dict(env=None, n_sampled_goal=0, copy_info_dict=True)
    if cls is SequenceReplayBuffer:
        kwargs |= dict(stored_state=True)
    space = GOALS if cls is HindsightReplayBuffer else BOX
    buffer = cls(n_positions * n_envs, space, ACTIONS, device="cpu", n_envs=n_envs, **kwargs)
    buffer.reserve_states(1)
    return buffer


@pytest.mark.parametrize("n_before", [0, 2, 3, 8, 9, 11], ids=lambda n: f"after{n}")
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_positions", [1, 8])
@pytest.mark.parametrize("cls", [TransitionReplayBuffer, HindsightReplayBuffer, SequenceReplayBuffer])
def test_no_false_transition(cls, n_positions, n_envs, n_before):
    """What is there is true, is sampled, and goes on with another episode; no more than one transition is lost."""
    for line in count():
        sampling = Prioritized()
        buffer = made(cls, n_positions, n_envs, sampling=sampling)
        steps = Steps(buffer)
        steps.take(n_before)
        if not interrupt_at(line, lambda steps=steps: steps.take(1)):
            break
        check(buffer)
        assert n_positions == 1 or min(n_before, n_positions) <= buffer.size() <= min(n_before + 1, n_positions)
        buffer.interrupt()
        steps.begin_anew()
        steps.take(3)
        check(buffer)
        rewards = buffer.sample(64).rewards.numpy()
        assert np.isfinite(rewards).all()
        assert rewards.all() or cls is SequenceReplayBuffer  # none of a row that was never written; sequences are padded
    assert line > 30


@pytest.mark.parametrize("n_before", [3, 11], ids=lambda n: f"after{n}")
@pytest.mark.parametrize("cls", [TransitionReplayBuffer, HindsightReplayBuffer, SequenceReplayBuffer])
def test_once_more_while_it_is_mended(cls, n_before):
    """A second Ctrl-C comes while the buffer tidies up after the first one."""
    n_seconds = n_whole = 0
    for first, second in product(range(3, 120, 9), range(0, 200, 4)):
        buffer = made(cls, 8, 2, sampling=Prioritized())
        steps, mend = Steps(buffer), buffer._mend
        steps.take(n_before)
        buffer._mend = lambda second=second, mend=mend: (raise_at(second), mend(), sys.settrace(None))
        interrupt_at(first, lambda steps=steps: steps.take(1))
        buffer._mend = mend
        n_seconds += buffer._adding_at is not None
        n_whole += buffer._is_mending and not buffer.storage.is_adding
        buffer.interrupt()
        check(buffer)
        steps.begin_anew()
        steps.take(3)
        check(buffer)
        assert np.isfinite(buffer.sample(16).rewards.numpy()).all()
    assert n_seconds > 20
    assert n_whole > 3  # behind what mends the storage


def test_priorities_stay():
    """Only the newest transitions are new to the sampling."""
    buffer = made(TransitionReplayBuffer, 8, 1, sampling=Prioritized(alpha=1.0, epsilon=1e-6))
    steps = Steps(buffer)
    steps.take(5)
    buffer.sampling.set_priorities(np.arange(5), np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert interrupt_at(40, lambda: steps.take(1))
    np.testing.assert_allclose(buffer.sampling.priorities_of(np.arange(4)), [0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("cls", [TransitionReplayBuffer, SequenceReplayBuffer])
@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("n_before", [3, 11])
def test_a_folder(n_before, is_killed, cls, tmp_path):
    """The folder, too, has true transitions only, for this process, unless it is killed there and then, and the next."""
    for line in range(0, 120, 7):
        path = tmp_path / str(line)
        buffer = made(cls, 8, 1, path=path)
        steps = Steps(buffer)
        steps.take(n_before)
        if is_killed:
            buffer._mend = lambda: None
        interrupt_at(line, lambda steps=steps: steps.take(1))
        if not is_killed:
            check(buffer)
        del buffer, steps
        again = made(cls, 8, 1, path=path)
        check(again)
        assert again.size() >= min(n_before, 8)


def test_a_folder_that_is_stopped_on_its_way_back(tmp_path):
    """It has true transitions, whichever line of ``go_back`` was the last."""
    for line in range(0, 90, 2):
        path = tmp_path / str(line)
        buffer = made(TransitionReplayBuffer, 32, 2, path=path)
        steps = Steps(buffer)
        steps.take(11)
        position = buffer.position()
        steps.take(6)
        buffer._restore_parts = lambda arrays: None
        interrupt_at(line, lambda buffer=buffer, position=position: buffer.go_back(position))
        del buffer, steps
        again = made(TransitionReplayBuffer, 32, 2, path=path)
        check(again)
        assert again.pos in (11, 17)


def test_an_error_before_anything_is_written():
    """Leaves the buffer as it was: the next transition goes on from the one before."""
    buffer = made(TransitionReplayBuffer, 8, 1)
    steps = Steps(buffer)
    steps.take(2)
    with pytest.raises(ValueError, match="reshape"):
        buffer.add(np.zeros((1, 7)), np.zeros((1, 7)), np.zeros((1, 1)), np.zeros(1), np.zeros(1, bool), [{}])
    steps.take(1)
    assert buffer.size() == 3
    assert buffer.storage.follows[:3].tolist() == [1, 2, 8]


@pytest.mark.parametrize("cls", [TransitionReplayBuffer, HindsightReplayBuffer, SequenceReplayBuffer])
def test_while_room_is_made(cls, monkeypatch):
    """Each transition ends an episode, and there is no room for one more last observation."""
    monkeypatch.setattr(sys.modules[__name__], "LENGTH", 1)
    n_grown = 0
    for line in count():
        buffer = made(cls, 64, 1)
        columns = buffer.storage.obs.columns.values()
        steps = Steps(buffer)
        steps.take(16)
        n_before = {column.n_rows for column in columns}
        if not interrupt_at(line, lambda steps=steps: steps.take(1)):
            break
        n_grown += {column.n_rows for column in columns} != n_before
        check(buffer)
        buffer.interrupt()
        steps.begin_anew()
        steps.take(3)
        check(buffer)
    assert n_grown > 10


class Stacks(Steps):
    """The same with the four newest observations, of which an episode begins with copies of its first."""

    def observation(self, t):
        stack = [np.array([[self.episode + 100 * env, max(t - k, 0)] for env in range(self.n_envs)]) for k in (3, 2, 1, 0)]
        return np.stack(stack, 1).astype(np.float32)


def check_stacks(buffer):
    n = buffer.size()
    now, after = buffer.observations[:n], buffer.next_observations[:n]
    ages = np.arange(3, -1, -1)
    for stacks, shift in ((now, 0), (after, 1)):
        episodes, times = now[..., -1, :1], now[..., -1, 1:] + shift
        np.testing.assert_array_equal(stacks[..., 0], np.broadcast_to(episodes, stacks[..., 0].shape))
        np.testing.assert_array_equal(stacks[..., 1], np.maximum(times - ages, 0))
    np.testing.assert_array_equal(buffer.rewards[:n], 1000 * now[..., -1, 0] + after[..., -1, 1])


@pytest.mark.parametrize("n_before", [3, 11], ids=lambda n: f"after{n}")
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_positions", [3, 8])
def test_stacked_frames(n_positions, n_envs, n_before):
    """Every stack has its own frames, also those that are added later, in the place of frames that nobody has any more."""
    space = spaces.Box(-1e6, 1e6, (4, 2), np.float32)
    for line in count(30):
        buffer = TransitionReplayBuffer(n_positions * n_envs, space, ACTIONS, device="cpu", n_envs=n_envs, frame_stack=4)
        steps = Stacks(buffer)
        steps.take(n_before)
        if not interrupt_at(line, lambda steps=steps: steps.take(1)):
            break
        check_stacks(buffer)
        buffer.interrupt()
        steps.begin_anew()
        for _ in range(14):
            steps.take(1)
            check_stacks(buffer)
    assert line > 100


@pytest.mark.parametrize("read", ["contents", "state", "sample"])
def test_what_is_read_after_the_second(read):
    """A buffer that is saved or sampled from after a second Ctrl-C has true transitions, too."""
    n_seconds = 0
    for first, second in product(range(41, 60, 3), (0, 1, 2, *range(3, 60, 8))):
        buffer = made(TransitionReplayBuffer, 8, 1)
        steps, mend = Steps(buffer), buffer._mend
        steps.take(11)
        buffer._mend = lambda second=second, mend=mend: (raise_at(second), mend(), sys.settrace(None))
        interrupt_at(first, lambda steps=steps: steps.take(1))
        del buffer._mend
        n_seconds += buffer._adding_at is not None
        buffer.sample(4) if read == "sample" else getattr(buffer, read)()
        check(buffer)
    assert n_seconds > 10


@pytest.mark.parametrize("n_more", [0, 1])
def test_a_full_folder_that_was_torn_is_not_what_it_was(n_more, tmp_path):
    """A kill in the first ``add`` after a checkpoint costs the oldest transition: nothing goes on exactly from there."""
    n_torn = 0
    for line in range(0, 60, 3):
        path = tmp_path / str(line)
        buffer = made(TransitionReplayBuffer, 8, 1, path=path)
        steps = Steps(buffer)
        steps.take(11)
        position, before = buffer.position(), buffer.rewards.copy()
        buffer._mend = lambda: None
        interrupt_at(line, lambda steps=steps: steps.take(1))
        del buffer, steps
        again = made(TransitionReplayBuffer, 8, 1, path=path)
        if n_more:  # reopened once more
            del again
            again = made(TransitionReplayBuffer, 8, 1, path=path)
        is_the_same = np.array_equal(again.rewards, before)
        n_torn += again.pos == 3 and not is_the_same
        is_back = again.go_back(position)
        assert is_the_same or not is_back
        assert is_back or line > 0  # before anything was written
    assert n_torn > 3


def test_a_full_folder_that_is_stopped_on_its_way_back(tmp_path):
    """It loses nothing by that: it can go back the next time."""
    for line in range(0, 60, 2):
        path = tmp_path / str(line)
        buffer = made(TransitionReplayBuffer, 8, 1, path=path)
        steps = Steps(buffer)
        steps.take(11)
        position, before = buffer.position(), buffer.rewards.copy()
        interrupt_at(line, lambda buffer=buffer, position=position: buffer.go_back(position))
        del buffer, steps
        again = made(TransitionReplayBuffer, 8, 1, path=path)
        assert again.go_back(position)
        np.testing.assert_array_equal(again.rewards, before)
        check(again)


def test_sequences_of_a_full_folder_stay_what_they_were(tmp_path, monkeypatch):
    """Also those of an episode whose beginning has been overwritten, after the folder was opened again."""
    monkeypatch.setattr(sys.modules[__name__], "LENGTH", 7)
    kwargs = dict(path=tmp_path, sequence_length=5, overlap=2)
    buffer = made(SequenceReplayBuffer, 8, 2, **kwargs)
    steps = Steps(buffer)
    steps.take(11)
    position, before = buffer.position(), buffer.episodes.before.copy()
    assert before[6] == 3  # of the oldest one, before which three have gone
    del buffer, steps
    again = made(SequenceReplayBuffer, 8, 2, **kwargs)
    assert not np.array_equal(again.episodes.before, before)
    assert again.go_back(position)
    np.testing.assert_array_equal(again.episodes.before, before)

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

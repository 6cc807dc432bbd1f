"""Replay buffers in a folder: there again after the end of the program, however it ended."""

import gc
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from conftest import CountingEnv
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from test_frames import pictures

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.buffers import HindsightReplayBuffer, TransitionReplayBuffer
from sb3_ddpg_ext.buffers.column import Column

pytestmark = pytest.mark.filterwarnings("ignore:.*which this model begins with")
NUMBER, ACTIONS = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Box(-1, 1, (1,), np.float32)


R2D2 = dict(sequence_length=4, stored_state=True, sampling="prioritized")


def make_model(path, cls=DDPG, policy="MlpPolicy", n_envs=1, env=None, **kwargs):
    env = env or DummyVecEnv([lambda: CountingEnv(((5, "terminated"), (7, "truncated"))) for _ in range(n_envs)])
    defaults = dict(buffer_size=50, learning_starts=20, batch_size=8, device="cpu", seed=0)
    defaults |= dict(policy_kwargs=dict(net_arch=[8]), replay_buffer_kwargs=dict(path=path))
    return cls(policy, env, **(defaults | kwargs))


def close(model):
    model.replay_buffer = None
    gc.collect()


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n", [30, 120])
def test_transitions_are_there_again(n, n_envs, tmp_path):
    """And none of them goes on with what the new model adds, which learns from all of them."""
    model = make_model(tmp_path, n_envs=n_envs).learn(n)
    wanted = {name: getattr(model.replay_buffer, name).copy() for name in ("observations", "next_observations", "actions")}
    rewards, pos, full = model.replay_buffer.rewards.copy(), model.replay_buffer.pos, model.replay_buffer.full
    close(model)
    again = make_model(tmp_path, n_envs=n_envs, learning_starts=0)
    buffer = again.replay_buffer
    assert (buffer.pos, buffer.full) == (pos, full)
    filled = slice(None) if full else slice(pos)
    for name, values in wanted.items():
        np.testing.assert_array_equal(getattr(buffer, name)[filled], values[filled])
    np.testing.assert_array_equal(buffer.rewards[filled], rewards[filled])
    newest = (pos - 1) % buffer.buffer_size
    again.learn(3 * n_envs)
    assert again._n_updates > 0
    np.testing.assert_array_equal(buffer.next_observations[newest], wanted["next_observations"][newest])


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(replay=dict(sampling="prioritized"), n_steps=3),
        dict(cls=RecurrentDDPG, policy="MlpLstmPolicy", replay=R2D2),
        dict(policy="CnnPolicy", env=pictures, replay={}),
    ],
    ids=["prioritized", "r2d2", "frames"],
)
def test_what_goes_with_it(kwargs, tmp_path):
    """Priorities begin anew; sequences, stored states and stacked frames are there again."""
    kwargs = dict(kwargs)
    kwargs["replay_buffer_kwargs"] = kwargs.pop("replay") | dict(path=tmp_path)
    env = kwargs.pop("env", lambda: None)
    model = make_model(tmp_path, env=env(), **kwargs).learn(130)
    before = model.replay_buffer.observations.copy()
    states = getattr(model.replay_buffer, "_states", np.zeros(0)).copy()
    close(model)
    again = make_model(tmp_path, env=env(), **kwargs)
    np.testing.assert_array_equal(again.replay_buffer.observations, before)
    np.testing.assert_array_equal(getattr(again.replay_buffer, "_states", np.zeros(0)), states)
    if hasattr(again.replay_buffer.sampling, "tree"):
        values = again.replay_buffer.sampling.tree.values
        assert set(values.tolist()) <= {0.0, 1.0}
        assert (values[:50] == 1).all() or isinstance(again, RecurrentDDPG)
    again.learn(60)


def test_who_may_use_a_folder(tmp_path):
    """One buffer at a time, with the same spaces and sizes; nothing else may be in it."""
    model = make_model(tmp_path / "one").learn(30)
    with pytest.raises(BlockingIOError, match="another replay buffer"):
        make_model(tmp_path / "one")
    model.save(tmp_path / "model")
    with pytest.warns(UserWarning, match="has an empty one in memory"):
        loaded = DDPG.load(tmp_path / "model", env=model.env)
    assert loaded.replay_buffer.size() == 0
    close(model)
    assert DDPG.load(tmp_path / "model").replay_buffer.size() == 0  # to act, it leaves the folder alone
    env = loaded.env
    loaded = DDPG.load(tmp_path / "model", env=env)
    assert loaded.replay_buffer.size() == 30
    close(loaded)
    for changes, name in ((dict(buffer_size=60), "buffer_size=50"), (dict(n_envs=2), "buffer_size=50")):
        with pytest.raises(ValueError, match=f"has a replay buffer with {name}"):
            make_model(tmp_path / "one", **changes)
    with pytest.raises(ValueError, match="has a replay buffer with arrays"):
        make_model(tmp_path / "one", RecurrentDDPG, "MlpLstmPolicy")
    with pytest.warns(UserWarning, match="buffer_size=50; it must be 70.*has an empty one in memory"):
        DDPG.load(tmp_path / "model", env=env, buffer_size=70)
    assert not DDPG.load(tmp_path / "model", env=env, buffer_size=1).replay_buffer.is_on_disk  # as rl_zoo3 does it
    with pytest.raises(ValueError, match="storage_device='cuda' must be None"):
        TransitionReplayBuffer(10, NUMBER, ACTIONS, "cpu", storage_device="cuda", path=tmp_path / "new")
    make_model(tmp_path / "empty")
    gc.collect()
    make_model(tmp_path / "empty", buffer_size=60)  # nothing had been added
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"an empty one: thesis\.tex"):
        make_model(tmp_path / "other")
    with pytest.raises(ValueError, match="copy_info_dict"):
        HindsightReplayBuffer(10, NUMBER, ACTIONS, None, "cpu", copy_info_dict=True, path=tmp_path / "new")


def test_files_are_loaded_into_it(tmp_path):
    """In place of what is there, if the size is the same."""
    model = make_model(None, replay_buffer_kwargs={}).learn(70)
    model.save_replay_buffer(tmp_path / "buffer")
    other = make_model(tmp_path / "one").learn(20)
    other.load_replay_buffer(tmp_path / "buffer")
    np.testing.assert_array_equal(other.replay_buffer.observations, model.replay_buffer.observations)
    close(other)
    again = make_model(tmp_path / "one")
    np.testing.assert_array_equal(again.replay_buffer.observations, model.replay_buffer.observations)
    smaller = make_model(tmp_path / "two", buffer_size=40).learn(30)
    with pytest.raises(ValueError, match="it must be that of the folder, 40"):
        smaller.load_replay_buffer(tmp_path / "buffer")
    data = (tmp_path / "buffer.pkl").read_bytes()
    (tmp_path / "flipped.pkl").write_bytes(data[:2000] + bytes([data[2000] ^ 255]) + data[2001:])
    with pytest.raises(ValueError, match="undamaged"):
        again.load_replay_buffer(tmp_path / "flipped")
    for model, n in ((smaller, 30), (again, 50)):
        assert model.replay_buffer.size() == n


@pytest.mark.parametrize("name", ["write", "rename", "replace"])
def test_loading_into_it_is_all_or_nothing(name, tmp_path, monkeypatch):
    """A process that is stopped anywhere leaves the old contents or the new ones. The folder is opened after each stop."""
    model = make_model(None, replay_buffer_kwargs={}).learn(70)
    model.save_replay_buffer(tmp_path / "buffer")
    where = dict(write=(Column, "restore"), rename=(os, "rename"), replace=(os, "replace"))[name]
    unpatched, seen = getattr(*where), []
    for allowed in itertools.count():
        path, left = tmp_path / f"{name}{allowed}", iter(range(allowed))
        with monkeypatch.context() as patches:
            target = make_model(path).learn(20)
            patches.setattr(*where, lambda *args, left=left: unpatched(*args) if next(left, None) is not None else 1 / 0)
            with suppress(ZeroDivisionError, ValueError):
                target.load_replay_buffer(tmp_path / "buffer")
        close(target)
        n = make_model(path).replay_buffer.size()
        seen.append(n)
        assert not {"incoming", "complete"} & {file.name for file in path.iterdir()}
        if next(left, None) is not None:  # it was not stopped
            break
    assert len(seen) > 1
    assert seen[-1] == 50
    assert set(seen) <= {20, 50}
    assert seen == sorted(seen)
    np.testing.assert_array_equal(make_model(path).replay_buffer.observations, model.replay_buffer.observations)


def test_a_buffer_in_memory_leaves_the_folder_alone(tmp_path):
    """Also when a saved buffer is loaded into a model that has not got, or not asked for, its folder."""
    path, env = tmp_path / "folder", make_model(tmp_path / "other").env
    model = make_model(path).learn(20)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    model.learn(20, reset_num_timesteps=False)
    with pytest.warns(UserWarning, match="has an empty one in memory"):
        second = DDPG.load(tmp_path / "model", env=env)
    second.load_replay_buffer(tmp_path / "buffer")
    assert (second.replay_buffer.size(), second.replay_buffer.is_on_disk) == (20, False)
    close(model)
    acting = DDPG.load(tmp_path / "model")
    acting.load_replay_buffer(tmp_path / "buffer")
    assert (acting.replay_buffer.size(), acting.replay_buffer.is_on_disk) == (20, False)
    assert make_model(path).replay_buffer.size() == 40


@pytest.mark.parametrize("path", ["file", "file/below", 3])
def test_what_is_no_folder(path, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises((ValueError, TypeError), match=r"path'?\]?=.*a folder"):
        make_model(path if path == 3 else tmp_path / path)


class Elsewhere:
    """An os.PathLike."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_paths_of_other_kinds(tmp_path):
    assert make_model(Elsewhere(tmp_path / "one")).learn(20).replay_buffer.is_on_disk
    assert (tmp_path / "one" / "header.json").exists()


def test_earlier_transitions_are_announced(tmp_path):
    """A second training in the same folder begins with those of the first, and says so."""
    make_model(str(tmp_path / "one")).learn(30)
    gc.collect()
    with pytest.warns(UserWarning, match="has 30 transitions, which this model begins with"):
        make_model(str(tmp_path / "one"), seed=1)


def test_relative_folders(tmp_path, monkeypatch):
    """Stay where the model was made."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = make_model("replay").learn(30)
    model.save("model")
    env = model.env
    close(model)
    monkeypatch.chdir(tmp_path / "there")
    assert DDPG.load(tmp_path / "here" / "model", env=env).replay_buffer.size() == 30
    assert not list((tmp_path / "there").iterdir())


def test_states_of_other_networks(tmp_path):
    """Are refused: with a state of another size, and with none."""
    for first, second in (((True, 8), (True, 4)), ((False, 8), (True, 8)), ((True, 8), (False, 8))):
        folder = tmp_path / f"{first}{second}"

        def make(stored_state, hidden_size, folder=folder):
            gc.collect()
            replay = dict(sequence_length=4, stored_state=stored_state, path=folder)
            networks = dict(net_arch=[8], hidden_size=hidden_size)
            return make_model(folder, RecurrentDDPG, "MlpLstmPolicy", replay_buffer_kwargs=replay, policy_kwargs=networks)

        make(*second)  # nothing is there yet
        make(*first).learn(20)
        with pytest.raises(ValueError, match="state_size"):
            make(*second)
        assert make(*first).replay_buffer.size() == 20


def test_growth(tmp_path):
    """Of files fills no holes; and when it was interrupted between two of them they grow later."""
    space = spaces.Dict(a=NUMBER, b=NUMBER)
    buffer = TransitionReplayBuffer(1000, space, ACTIONS, "cpu", path=tmp_path)

    def fill(first, n):
        for t in range(first, first + n):
            obs, after = ({key: np.full((1, 1), number) for key in "ab"} for number in (t, t + 0.5))
            buffer.add(obs, after, np.zeros((1, 1)), np.zeros(1), np.ones(1, bool), [{}])

    fill(0, 60)
    file = tmp_path / "observations.a.rows.bin"
    buffer.storage.obs.columns["a"].grow(400_000)
    buffer.storage.obs.columns["a"].grow(500_000)  # the holes of before stay holes
    assert file.stat().st_size == 2_000_000 > 10 * file.stat().st_blocks * 512
    del buffer
    gc.collect()
    buffer = TransitionReplayBuffer(1000, space, ACTIONS, "cpu", path=tmp_path)
    assert (buffer.storage.obs.columns["a"].n_rows, buffer.storage.obs.columns["b"].n_rows) == (500_000, 1063)
    fill(60, 440)
    for key in "ab":
        np.testing.assert_array_equal(buffer.observations[key][:500, 0, 0], np.arange(500))
        np.testing.assert_array_equal(buffer.next_observations[key][:500, 0, 0], np.arange(500) + 0.5)


def test_full_disk_is_foreseen(tmp_path, monkeypatch):
    """When the buffer is made, since later the operating system ends the process."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.warns(UserWarning, match="a full replay buffer takes .* GB are free"):
        TransitionReplayBuffer(1000, NUMBER, ACTIONS, "cpu", path=tmp_path)


def fill(buffer, n, first=0):
    """Transition t of environment i: from 1000000 * i + t to the number behind it, with the reward t; episodes of 6 steps."""
    offset = 1_000_000 * np.arange(buffer.n_envs)
    for t in range(first, first + n):
        obs = (offset + t).astype(np.float32)[:, None]
        done = np.full(buffer.n_envs, t % 6 == 5)
        buffer.add(obs, obs + 0.5 if t % 6 == 5 else obs + 1, np.zeros((buffer.n_envs, 1)), np.full(buffer.n_envs, t), done,
                   [{}] * buffer.n_envs)  # fmt: skip


def assert_consistent(buffer):
    """Each transition is one that was added, whole. Returns which."""
    n = buffer.buffer_size if buffer.full else buffer.pos
    obs, following = buffer.observations[:n, :, 0], buffer.next_observations[:n, :, 0]
    rewards, dones = buffer.rewards[:n], buffer.dones[:n]
    np.testing.assert_array_equal(obs % 1_000_000, rewards)
    np.testing.assert_array_equal(following, obs + np.where(rewards % 6 == 5, 0.5, 1))
    np.testing.assert_array_equal(dones, rewards % 6 == 5)
    return rewards[:, 0].astype(int).tolist()


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_before", [8, 23, 25, 41])
def test_interrupted_anywhere(n_before, n_envs, tmp_path):
    """
    The program ends after any line of add(): what is there then are whole transitions, all that had been there, save the one
    that was being overwritten; and adding goes on.
    """
    n_lines = 0
    while True:
        folder = tmp_path / f"{n_lines}"
        buffer = TransitionReplayBuffer(10 * n_envs, NUMBER, ACTIONS, "cpu", n_envs, path=folder)
        fill(buffer, n_before)
        seen = 0

        def trace(frame, event, _):
            nonlocal seen
            if event == "line" and "sb3_ddpg_ext/buffers" in frame.f_code.co_filename:
                seen += 1
                if seen > n_lines:  # noqa: B023  # it is called in this pass only
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            fill(buffer, 1, n_before)
            finished = True
        except KeyboardInterrupt:
            finished = False
        finally:
            sys.settrace(None)
        shutil.copytree(folder, copy := tmp_path / "copy")
        again = TransitionReplayBuffer(10 * n_envs, NUMBER, ACTIONS, "cpu", n_envs, path=copy)
        there = assert_consistent(again)
        everything = set(range(max(n_before - 10, 0), n_before))
        assert everything - {n_before - 10} <= set(there) <= everything | {n_before}
        fill(again, 4, 1000 * 6)
        assert assert_consistent(again)[(again.pos - 1) % 10] == 6003
        fill(again, 17, 2000 * 6)
        assert_consistent(again)
        assert again.storage.obs.n_used <= 2 * 10 * n_envs + 3 * n_envs
        del again
        shutil.rmtree(copy)
        if finished:
            break
        n_lines += 1
    assert n_lines > 20


def test_killed(tmp_path):
    """By the operating system, in the middle of a training, with what the process had in memory."""
    code = (
        "import sys; from test_disk import *\n"
        f"buffer = TransitionReplayBuffer(5000, NUMBER, ACTIONS, 'cpu', path={str(tmp_path)!r})\n"
        "print('begins', flush=True); fill(buffer, 10**9)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd="tests", stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begins\n"
    time.sleep(0.7)
    process.send_signal(signal.SIGKILL)
    process.wait()
    buffer = TransitionReplayBuffer(5000, NUMBER, ACTIONS, "cpu", path=tmp_path)
    there = assert_consistent(buffer)
    assert len(there) > 1000
    newest = there[(buffer.pos - 1) % 5000]
    assert newest + 1 >= len(there)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_processes_do_not_keep_it(tmp_path):
    """Those of SubprocVecEnv(start_method="fork") may live longer than the training that was killed."""
    code = (
        "import os, signal, sys, time; from test_disk import *\n"
        f"buffer = TransitionReplayBuffer(50, NUMBER, ACTIONS, 'cpu', path={str(tmp_path)!r})\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(60); os._exit(0)\n"
        "time.sleep(0.5); print(child, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd="tests", stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.wait()
    try:
        os.kill(child, 0)  # it is there
        TransitionReplayBuffer(50, NUMBER, ACTIONS, "cpu", path=tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_that_goes_on(tmp_path):
    """Takes the folder when it adds to it: not before its parent has ended, and nobody else has it then."""
    code = (
        "import os, sys, time; from test_disk import *\n"
        f"buffer = TransitionReplayBuffer(50, NUMBER, ACTIONS, 'cpu', path={str(tmp_path)!r})\n"
        "fill(buffer, 3)\n"
        "if os.fork(): time.sleep(1); os._exit(0)\n"
        "try: fill(buffer, 1)\n"
        "except BlockingIOError: print('busy', flush=True)\n"
        "time.sleep(2); fill(buffer, 1, 3); print(os.getpid(), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd="tests", stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "busy\n"
    child = int(process.stdout.readline())
    try:
        with pytest.raises(BlockingIOError, match="another replay buffer"):
            TransitionReplayBuffer(50, NUMBER, ACTIONS, "cpu", path=tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        process.wait()
    time.sleep(0.2)
    assert TransitionReplayBuffer(50, NUMBER, ACTIONS, "cpu", path=tmp_path).size() == 4


def test_takes_no_more_than_it_holds(tmp_path):
    """A million transitions of 100 numbers: the files have holes until they are written."""
    space = spaces.Box(-np.inf, np.inf, (100,), np.float32)
    buffer = TransitionReplayBuffer(1_000_000, space, ACTIONS, "cpu", path=tmp_path)
    for _ in range(10):
        buffer.add(np.ones((1, 100)), np.ones((1, 100)), np.zeros((1, 1)), np.zeros(1), np.zeros(1, bool), [{}])
    files = list(tmp_path.glob("*.bin"))
    assert sum(file.stat().st_size for file in files) > 400e6
    assert sum(file.stat().st_blocks * 512 for file in files) < 1e6

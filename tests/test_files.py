"""Files that are saved: whole, or as they were."""

import os
import random
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import TransitionReplayBuffer
from sb3_ddpg_ext.callbacks import SaveOnBestMeanReturn
from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.policies import MlpPolicy


def make_model(**kwargs):
    arguments = dict(policy_kwargs=dict(net_arch=[16]), learning_starts=10, buffer_size=300, seed=0) | kwargs
    return DDPG("MlpPolicy", "Pendulum-v1", **arguments)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def in_a_process(work):
    """The process id of a fork that does ``work`` and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def strays(folder):
    return [name for name in names(folder) if name.endswith(".unfinished")]


def test_content_and_name(tmp_path):
    """What is written is there under the name, with the suffix where it has none, and nothing beside."""
    for path, suffix, name in (("a", "zip", "a.zip"), ("b.pkl", "zip", "b.pkl"), ("c", "", "c")):
        with written_whole(tmp_path / path, suffix) as file:
            file.write(b"one")
            assert not (tmp_path / name).exists()
        assert (tmp_path / name).read_bytes() == b"one"
    assert names(tmp_path) == ["a.zip", "b.pkl", "c"]


def test_open_files_are_written_as_they_are(tmp_path):
    """They stay open."""
    with (tmp_path / "a").open("wb") as file:
        with written_whole(file) as same:
            same.write(b"one")
        assert same is file
        file.write(b"two")
    assert (tmp_path / "a").read_bytes() == b"onetwo"


def test_folders_as_in_sb3(tmp_path):
    """Missing ones are made; one of the same name puts _2 behind; both with SB3's warnings."""
    (tmp_path / "model.zip").mkdir()
    with (
        pytest.warns(UserWarning, match="is a folder. Will save instead to .*model.zip_2"),
        written_whole(tmp_path / "model", "zip") as file,
    ):
        file.write(b"one")
    with pytest.warns(UserWarning, match="does not exist. Will create it"), written_whole(tmp_path / "x" / "y" / "z") as file:
        file.write(b"one")
    assert names(tmp_path) == ["model.zip", "model.zip_2", "x"]
    assert names(tmp_path / "x" / "y") == ["z"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_file_of_before(error, tmp_path):
    """And nothing else."""
    (tmp_path / "a").write_bytes(b"before")

    def write():
        with written_whole(tmp_path / "a") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def test_links_and_permissions_stay(tmp_path):
    """A link goes on to point at the file, which keeps its mode."""
    (tmp_path / "target").write_bytes(b"before")
    (tmp_path / "target").chmod(0o640)
    (tmp_path / "link").symlink_to("target")
    with written_whole(tmp_path / "link") as file:
        file.write(b"after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"after"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640


def test_strays_go_with_the_next_file_but_not_what_is_being_written(tmp_path):
    """A process that was killed leaves one; one that still writes keeps its own."""
    read, write = os.pipe()

    def work():
        with written_whole(tmp_path / "a") as file:
            file.write(b"half")
            os.write(write, b"x")
            time.sleep(60)

    pid = in_a_process(work)
    os.read(read, 1)
    with written_whole(tmp_path / "b"):
        pass
    assert len(strays(tmp_path)) == 1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(strays(tmp_path)) == 1
    with written_whole(tmp_path / "b"):
        pass
    assert names(tmp_path) == ["b"]


def test_several_processes_write_the_same_file(tmp_path):
    """One after another's whole content is there, never a mixture, and none fails."""

    def work(content):
        for _ in range(100):
            with written_whole(tmp_path / "a") as file:
                file.write(content * 10_000)
        (tmp_path / f"done {content.decode()}").touch()

    pids = [in_a_process(lambda content=content: work(content)) for content in (b"1", b"2", b"3")]
    for pid in pids:
        os.waitpid(pid, 0)
    assert len(set((tmp_path / "a").read_bytes())) == 1
    assert names(tmp_path) == ["a", "done 1", "done 2", "done 3"]


@pytest.mark.parametrize("n", range(6))
def test_save_killed_at_any_part(n, tmp_path, monkeypatch):
    """A model that is killed while it is saved is the one of before; so it is where a part cannot be written."""
    model = make_model()
    model.save(tmp_path / "model")
    before = (tmp_path / "model.zip").read_bytes()
    write = th.save
    calls = []

    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) > n % 3:
            os._exit(9) if n < 3 else exec("raise OSError('disk full')")
        return write(*args, **kwargs)

    monkeypatch.setattr(th, "save", dying)
    if n < 3:
        os.waitpid(in_a_process(lambda: model.save(tmp_path / "model")), 0)
    else:
        with pytest.raises(OSError, match="disk full"):
            model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == before
    assert DDPG.load(tmp_path / "model").num_timesteps == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "best model", "policy", "buffer", "buffer of SB3", "checkpoints", "evaluations"])
def test_killed_at_random_moments(kind, tmp_path):
    """Fifteen processes that save again and again are killed: every file of a known name can be loaded, after each."""
    own = kind != "buffer of SB3"
    model = make_model(replay_buffer_class=TransitionReplayBuffer if own else ReplayBuffer).learn(60)
    env = gym.make("Pendulum-v1", max_episode_steps=5)
    best = SaveOnBestMeanReturn(tmp_path, n_episodes=1)
    best.init_callback(model)
    saves = {
        "model": lambda: model.save(tmp_path / "a"),
        "best model": lambda: (setattr(best, "best_mean_return", -np.inf), best._on_mean_return(0.0)),
        "policy": lambda: model.policy.save(tmp_path / "a"),
        "buffer": lambda: model.save_replay_buffer(tmp_path / "a"),
        "buffer of SB3": lambda: model.save_replay_buffer(tmp_path / "a"),
        "checkpoints": lambda: model.learn(50, CheckpointCallback(10, str(tmp_path), save_replay_buffer=True)),
        "evaluations": lambda: model.learn(
            50, EvalCallback(env, eval_freq=10, n_eval_episodes=1, best_model_save_path=str(tmp_path), warn=False, verbose=0)
        ),
    }

    def load_all():
        for path in tmp_path.iterdir():
            if path.suffix == ".unfinished":
                continue
            if path.suffix == ".zip":
                DDPG.load(path)
            elif path.suffix == ".pkl":
                model.load_replay_buffer(path)
            else:
                MlpPolicy.load(str(path))

    def work():
        while True:
            saves[kind]()

    chance = random.Random(0)
    saves[kind]()
    for _ in range(15):
        pid = in_a_process(work)
        time.sleep(chance.uniform(0.02, 0.2))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert len(strays(tmp_path)) <= 1
        load_all()
    saves[kind]()
    assert not strays(tmp_path)


BOX = spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("name", ["sign", "new_array"])
def test_a_folder_whose_making_was_killed_is_made_anew(is_new, name, tmp_path, monkeypatch):
    """Before each header and array, the first time and where an empty one is made again; a foreign folder stays refused."""
    from sb3_ddpg_ext.buffers.disk import Folder

    original = getattr(Folder, name)
    for n in range(20):
        path = tmp_path / str(n)
        if not is_new:
            TransitionReplayBuffer(10, BOX, BOX, "cpu", path=path)
        calls = []

        def dying(self, *args, n=n, calls=calls):
            calls.append(1)
            if len(calls) > n:
                os._exit(9)
            return original(self, *args)

        def work(path=path, dying=dying):
            monkeypatch.setattr(Folder, name, dying)
            TransitionReplayBuffer(10, BOX, BOX, "cpu", path=path)

        _, status = os.waitpid(in_a_process(work), 0)
        TransitionReplayBuffer(10, BOX, BOX, "cpu", path=path).add(*transition())
        assert TransitionReplayBuffer(10, BOX, BOX, "cpu", path=path).size() == 1
        if status == 0:
            break
    assert n > 0
    assert status == 0


def transition():
    row = np.zeros((1, 3), np.float32)
    return row, row, row, np.zeros(1), np.zeros(1), [{}]


def test_a_foreign_folder_is_refused(tmp_path):
    """Nothing of it is touched."""
    Path(tmp_path / "photo.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"photo\.bin"):
        TransitionReplayBuffer(10, BOX, BOX, "cpu", path=tmp_path)
    assert "photo.bin" in names(tmp_path)

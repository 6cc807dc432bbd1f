"""
Programs that are killed at random moments, and what is left of their files: python tests/kills.py --kills 100

model: DDPG.save over an older file. buffer: save_replay_buffer likewise. folder: the first creation of a replay buffer
in a folder. load: load_replay_buffer into a folder that has transitions. checkpoint: a training with checkpoints that goes
on after each kill. --library sb3 does the first two with SB3.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.checkpoint import ExactCheckpoint, resume

EVERY = 50  # steps between two checkpoints


def killed(function, seconds, has_begun=lambda: True):
    """Run a function in a process of its own, which is killed a time after it has begun. Whether that was before its end."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            function()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    while not has_begun() and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def is_fine(read):
    """Whether a file can be read."""
    try:
        read()
    except Exception as error:
        print(f"  {type(error).__name__}: {str(error)[:100]}")
        return False
    return True


def again_and_again(function):
    def run():
        while True:
            function()

    return run


def models(cls, folder, rng):
    """A model of 400-300 is saved again and again."""
    model = cls("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[400, 300]), buffer_size=10, device="cpu")
    model.save(folder / "model")
    took = _time_of(lambda: model.save(folder / "model"))
    killed(again_and_again(lambda: model.save(folder / "model")), rng.uniform(0, 5 * took))
    return is_fine(lambda: cls.load(folder / "model", device="cpu"))


def buffers(cls, folder, rng):
    """A replay buffer of 100,000 transitions is saved again and again."""
    model = cls("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[4]), buffer_size=100_000, device="cpu")
    obs = np.zeros((1, 3), np.float32)
    model.replay_buffer.pos = 0
    for _ in range(100):
        model.replay_buffer.add(obs, obs, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    model.save_replay_buffer(folder / "buffer")
    took = _time_of(lambda: model.save_replay_buffer(folder / "buffer"))
    killed(again_and_again(lambda: model.save_replay_buffer(folder / "buffer")), rng.uniform(0, 5 * took))
    return is_fine(lambda: model.load_replay_buffer(folder / "buffer"))


def folders(cls, folder, rng):
    """A replay buffer in a folder is made for the first time."""

    def make():
        kwargs = dict(replay_buffer_kwargs=dict(path=folder / "replay"), policy_kwargs=dict(net_arch=[4]), device="cpu")
        return cls("MlpPolicy", "Pendulum-v1", buffer_size=10_000, **kwargs)

    killed(make, rng.uniform(0, 0.04))
    return is_fine(make)


def loads(cls, folder, rng):
    """A file is loaded into a replay buffer in a folder, which holds its old transitions or the new ones after that."""
    kwargs = dict(buffer_size=50_000, policy_kwargs=dict(net_arch=[4]), device="cpu")
    obs, zeros = np.zeros((1, 3), np.float32), np.zeros(1)
    source = cls("MlpPolicy", "Pendulum-v1", **kwargs)
    for _ in range(2000):
        source.replay_buffer.add(obs, obs, zeros[None], zeros, zeros, [{}])
    source.save_replay_buffer(folder / "buffer")

    def make():
        return cls("MlpPolicy", "Pendulum-v1", replay_buffer_kwargs=dict(path=folder / "replay"), **kwargs)

    make().replay_buffer.add(obs, obs, zeros[None], zeros, zeros, [{}])
    killed(lambda: make().load_replay_buffer(folder / "buffer"), rng.uniform(0, 0.15))
    sizes = []
    return is_fine(lambda: sizes.append(make().replay_buffer.size())) and sizes[0] in (1, 2000)


def _time_of(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


class Steps(BaseCallback):
    """Lets the parent know how far the training is."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def _on_step(self):
        self.file.write_text(str(self.num_timesteps)) if self.num_timesteps % 5 == 0 else None
        return True


def checkpoints(n_kills, folder, rng):
    """A training of which each part is killed. Steps that were lost each time, and whether it ends as one that was let be."""
    kwargs = dict(
        policy_kwargs=dict(net_arch=[16]), batch_size=16, learning_starts=30, buffer_size=20_000, seed=3, device="cpu"
    )

    def train(where, total):
        try:
            model = resume(where, "Pendulum-v1")
        except FileNotFoundError:
            model = DDPG("MlpPolicy", "Pendulum-v1", action_noise="pink_0.3", **kwargs)
        return model.learn(total, callback=[Steps(folder / "at"), ExactCheckpoint(where, EVERY)])

    lost = []
    for _ in range(n_kills):
        (folder / "at").write_text("0")
        killed(
            lambda: train(folder / "killed", 10**6), rng.uniform(0, 0.4), lambda: (folder / "at").read_text() not in ("", "0")
        )
        try:
            begins = resume(folder / "killed", "Pendulum-v1").num_timesteps
        except FileNotFoundError:
            begins = 0
        lost.append(max(int((folder / "at").read_text() or 0) - begins, 0))
    total = begins + 100
    ends = [train(folder / name, total).policy.parameters() for name in ("killed", "whole")]
    return lost, all(th.equal(one, other) for one, other in zip(*ends, strict=True)), total


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--library", choices=["ours", "sb3"], default="ours")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    th.set_num_threads(1)
    warnings.simplefilter("ignore")
    rng = random.Random(arguments.seed)
    cls = DDPG if arguments.library == "ours" else sb3.DDPG
    bad = 0
    kinds = dict(model=models, buffer=buffers) | (dict(folder=folders, load=loads) if cls is DDPG else {})
    for name, kind in kinds.items():
        good = 0
        for _ in range(arguments.kills):
            with tempfile.TemporaryDirectory() as folder:
                good += kind(cls, Path(folder), rng)
        bad += arguments.kills - good
        print(f"{name}: {arguments.kills - good} of {arguments.kills} kills left no file that can be read", flush=True)
    if cls is DDPG:
        with tempfile.TemporaryDirectory() as folder:
            lost, same, total = checkpoints(arguments.kills, Path(folder), rng)
        whose = "those" if same else "NOT those"
        print(
            f"checkpoint, every {EVERY} steps: {len(lost)} kills, at most {max(lost)} steps lost, {np.mean(lost):.0f} in the "
            f"mean; after {total} steps the networks are {whose} of a training that was let be"
        )
        bad += not same
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()

"""Files are read without running what they bring along; damaged ones are refused by name, before anything is touched."""

import base64
import copy
import io
import json
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import contextmanager
from enum import IntEnum

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_ddpg_ext import DDPG, checkpoint
from sb3_ddpg_ext.buffers import Episode, HindsightReplayBuffer
from sb3_ddpg_ext.buffers.sum_tree import SumTree
from sb3_ddpg_ext.checkpoints import environment_state, restore_environment
from sb3_ddpg_ext.checkpoints.followers import callback_states, restore_callbacks
from sb3_ddpg_ext.distributed import RayCollector
from sb3_ddpg_ext.packing import CannotPack, Packer, Unpacker, imports_of
from sb3_ddpg_ext.wrappers import Resumable

SMALL = dict(buffer_size=200, learning_starts=20, batch_size=16, policy_kwargs=dict(net_arch=[8]), device="cpu", seed=0)


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def flag(tmp_path):
    """A folder that is there once a payload has run."""
    return tmp_path / "executed"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, a checkpoint and a replay buffer in files."""
    folder = tmp_path_factory.mktemp("saved")
    model = DDPG("MlpPolicy", "Pendulum-v1", action_noise="ou_0.2", learning_rate="lin_1e-3", **SMALL).learn(60)
    model.save(folder / "model.zip")
    checkpoint.save(model, folder / "checkpoint.zip")
    model.save_replay_buffer(folder / "buffer.pkl")
    return folder


def edited(source, target, **changes):
    """A copy of an archive, in which functions have changed members."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = changes[name](old.read(name)) if name in changes else old.read(name)
            if content is not None:
                new.writestr(name, content)
    return target


def with_payload(flag, key="x"):
    """A function that puts a payload into SB3's JSON."""

    def change(content):
        data = json.loads(content)
        data[key] = {":type:": "float", ":serialized:": base64.b64encode(cloudpickle.dumps(Payload(flag))).decode()}
        return json.dumps(data)

    return change


@pytest.mark.parametrize("key", ["x", "gamma", "policy_class", "action_noise"])
@pytest.mark.parametrize("file", ["model.zip", "checkpoint.zip"])
def test_payload_beside_the_json(key, file, saved, tmp_path, flag):
    """A pickle that has been added, or put in the place of another one, is not read."""
    path = edited(saved / file, tmp_path / "evil.zip", data=with_payload(flag, key))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = DDPG.load(path, env="Pendulum-v1", device="cpu")
    assert not flag.exists()
    assert model.gamma == 0.99


def test_payload_in_a_file_of_sb3(saved, tmp_path, flag):
    """``trusted=False`` refuses it, None warns before it reads it, so that a warning that is an error is in time."""
    path = edited(saved / "model.zip", tmp_path / "evil.zip", **{"data": with_payload(flag), "model.json": lambda _: None})
    with pytest.raises(ValueError, match=r"evil\.zip.* as pickles.*trusted=False reads none"):
        DDPG.load(path, trusted=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="can run any code"):
            DDPG.load(path)
    assert not flag.exists()


def test_payload_as_a_pickle_that_the_json_asks_for(tmp_path, flag):
    """A file of ours with an object of a user's own has a pickle, too."""
    DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(learning_rate=lambda progress: 1e-3)).save(tmp_path / "own")
    path = edited(tmp_path / "own.zip", tmp_path / "evil.zip", data=with_payload(flag, "learning_rate"))
    with pytest.raises(ValueError, match=r"learning_rate, .* as pickles"):
        DDPG.load(path, trusted=False)
    assert not flag.exists()
    names = dict.fromkeys(("learning_rate", "lr_schedule", "qf_lr_schedule"), 1e-3)
    assert DDPG.load(path, trusted=False, custom_objects=names, device="cpu").learning_rate == 1e-3
    assert not flag.exists()


@pytest.mark.parametrize("name", ["policy.pth", "actor.optimizer.pth"])
def test_payload_among_the_parameters(name, saved, tmp_path, flag):
    """They are read as weights alone, by ``load`` and by ``set_parameters``."""

    def poisoned(_):
        stream = io.BytesIO()
        th.save({"a": Payload(flag)}, stream)
        return stream.getvalue()

    path = edited(saved / "model.zip", tmp_path / "evil.zip", **{name: poisoned})
    with pytest.raises(ValueError, match=r"evil\.zip"):
        DDPG.load(path)
    with pytest.raises(ValueError, match=r"evil\.zip"):
        DDPG("MlpPolicy", "Pendulum-v1", **SMALL).set_parameters(path)
    assert not flag.exists()


def test_payload_as_a_replay_buffer(tmp_path, flag):
    """Which today's files are not."""
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload(flag)))
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    with pytest.raises(ValueError, match=r"evil\.pkl.* holds pickles.*trusted=False reads none"):
        model.load_replay_buffer(tmp_path / "evil.pkl", trusted=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="can run any code"):
            model.load_replay_buffer(tmp_path / "evil.pkl")
    assert not flag.exists()


@pytest.mark.parametrize("cls", ["os:system", "subprocess:Popen", "sb3_ddpg_ext.cli.bench.command:sys", "builtins:eval",
                                 "sb3_ddpg_ext.files:Path", "torch.nn.modules.module:OrderedDict", "nowhere:X"])  # fmt: skip
def test_classes_that_no_file_may_name(cls, saved, tmp_path):
    """Only classes, of the modules of a list, where they were defined."""

    def change(content):
        about = json.loads(content)
        about["attributes"]["policy_class"] = {"class": cls}
        return json.dumps(about)

    path = edited(saved / "model.zip", tmp_path / "evil.zip", **{"model.json": change})
    with pytest.raises(ValueError, match=r"evil\.zip.*class"):
        DDPG.load(path)


def test_paths_of_a_file_are_not_followed(tmp_path):
    """No folder is made, and nothing is read, because a file that is not trusted says so."""
    episode = Episode(np.zeros((3, 3), np.float32), np.zeros((2, 1), np.float32), np.zeros(2), True)
    kwargs = dict(path=tmp_path / "folder", demonstrations=[episode])
    arguments = SMALL | dict(replay_buffer_kwargs=kwargs, tensorboard_log=str(tmp_path / "logs"))
    model = DDPG("MlpPolicy", "Pendulum-v1", **arguments)
    model.save(tmp_path / "model")
    del model
    (tmp_path / "folder").rename(tmp_path / "moved")
    loaded = DDPG.load(tmp_path / "model", env="Pendulum-v1", trusted=False, device="cpu")
    assert loaded.tensorboard_log is None
    assert loaded.replay_buffer.demonstrations is None
    assert not (tmp_path / "folder").exists()


def test_addresses_of_a_file_are_not_followed(saved, tmp_path):
    """Another machine could send anything."""
    attributes = dict(collector=Packer().pack(RayCollector(address="192.0.2.1:6379")))
    path = edited(saved / "model.zip", tmp_path / "evil.zip", **with_attributes(**attributes))
    for trusted in (False, None):
        with pytest.warns(UserWarning, match=r"address='192\.0\.2\.1:6379' in the file is not followed without trusted=True"):
            assert DDPG.load(path, trusted=trusted, device="cpu").collector.address is None
    assert DDPG.load(path, trusted=True, device="cpu").collector.address == "192.0.2.1:6379"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("buffer_size", 10**15),
        ("n_envs", 10**12),
        ("policy_kwargs", {"dict": [["net_arch", [10**6, 10**6]]]}),
        ("policy_kwargs", {"dict": [["net_arch", {"dict": [["pi", [10**9]], ["qf", [1]]]}]]}),
        ("policy_kwargs", {"dict": [["net_arch", [8]], ["n_critics", 10**7]]}),
        ("policy_kwargs", {"dict": [["net_arch", [10, 20_000]], ["n_critics", 10**4]]}),
        ("observation_space", Packer().pack(gym.spaces.MultiBinary(500_000))),
    ],
)
@pytest.mark.parametrize("n_more", [0, 3_000_000])
def test_sizes_are_bounded(name, value, n_more, saved, tmp_path):
    """A small file makes no large memory, whatever else it holds."""

    def change(content):
        about = json.loads(content)
        about["attributes"][name] = value
        if name == "observation_space":
            about["attributes"]["policy_kwargs"] = {"dict": [["net_arch", [5000]]]}
        return json.dumps(about)

    changes = {"model.json": change, "policy.pth": with_parameters(lambda state: state.update(more=th.zeros(n_more // 4)))}
    path = edited(saved / "model.zip", tmp_path / "evil.zip", **changes)
    with memory_bounded(300), pytest.raises(ValueError, match=r"evil\.zip"):
        DDPG.load(path, trusted=False)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("file", ["model.zip", "checkpoint.zip", "buffer.pkl"])
def test_archives_that_would_grow_are_refused(file, method, saved, tmp_path):
    """Zeros in a thousandth of their size are refused before they are read; other methods only claim a size."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(saved / file) as old, zipfile.ZipFile(path, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("zeros.json", bytes(50_000_000))
    reason = "would grow" if method == zipfile.ZIP_DEFLATED else "must be stored or deflated"
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    load = model.load_replay_buffer if file == "buffer.pkl" else DDPG.load
    with pytest.raises(ValueError, match=rf"bomb\.zip.*{reason}"):
        load(path)


@contextmanager
def memory_bounded(megabytes):
    """Fails if the memory in use has grown by more than that meanwhile."""
    ballast = bytearray(b"x") * max(int((peak_memory() - memory()) * 1e6), 0)  # a former peak must not hide this one
    before = peak_memory()
    yield
    assert peak_memory() - before < megabytes
    del ballast


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def test_archives_in_archives_do_not_grow(saved, tmp_path):
    """torch reads what somebody has compressed once more."""

    def change(content):
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name) + bytes(500_000 if name.endswith("/data/0") else 0))
        return stream.getvalue()

    path = edited(saved / "model.zip", tmp_path / "bomb.zip", **{"policy.pth": change})
    with pytest.raises(ValueError, match=r"bomb\.zip.* in policy\.pth would grow"):
        DDPG.load(path)


def test_archives_in_archives_in_archives(saved, tmp_path):
    """Each would be read anew for each that it is in."""
    content = b"x"
    for _ in range(60):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.pth", content)
        content = stream.getvalue()
    path = edited(saved / "model.zip", tmp_path / "bomb.zip", **{"policy.pth": lambda _: content})
    with pytest.raises(ValueError, match=r"bomb\.zip.*a\.pth must not be in policy\.pth"):
        DDPG.load(path)


def test_members_that_lie_in_one_another(saved, tmp_path):
    """One piece of data is not read as many."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", bytes(10_000))
        first = archive.infolist()[0]
        for number in range(50):
            again = copy.copy(first)
            again.filename = f"more{number}"
            archive.filelist.append(again)
    with pytest.raises(ValueError, match=r"bomb\.zip.*one behind the other"):
        DDPG.load(path)


def with_header(content, **changes):
    """A ``.npy`` file whose header says something else."""
    stream = io.BytesIO(content)
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    about = dict(shape=shape, fortran_order=False, descr=np.lib.format.dtype_to_descr(dtype)) | changes
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, about)
    return out.getvalue() + stream.read()


@pytest.mark.parametrize("shape", [(2**60, 0), (-1, 3), (10**12, 3), ()], ids=str)
@pytest.mark.parametrize("member", ["observations/rows.npy", "next.npy", "more.npy", "sampling/priorities.npy"])
def test_arrays_of_replay_buffers_that_cannot_be(member, shape, tmp_path):
    """They are refused by name, at once, or make no difference."""
    kwargs = SMALL | dict(replay_buffer_kwargs=dict(sampling="prioritized"))
    model = DDPG("MlpPolicy", "Pendulum-v1", **kwargs).learn(30)
    model.save_replay_buffer(tmp_path / "good.pkl")
    begin = time.perf_counter()
    with zipfile.ZipFile(tmp_path / "good.pkl") as old, zipfile.ZipFile(tmp_path / "evil.pkl", "w") as new:
        for name in dict.fromkeys([*old.namelist(), member]):
            content = old.read(name if name in old.namelist() else "next.npy")
            new.writestr(name, with_header(content, shape=shape) if name == member else content)
    if (member, shape) == ("more.npy", (2**60, 0)):
        model.load_replay_buffer(tmp_path / "evil.pkl")
    else:
        with memory_bounded(300), pytest.raises(ValueError, match=r"evil\.pkl"):
            model.load_replay_buffer(tmp_path / "evil.pkl")
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize("info", [{"__array__": ["a"], "dtype": "S300000000"}, {"__array__": [[]], "dtype": "O"}, 5])
def test_infos_that_cannot_be(info, tmp_path):
    """They are refused by name, and take no memory."""
    kwargs = dict(replay_buffer_class=HindsightReplayBuffer, replay_buffer_kwargs=dict(copy_info_dict=True))
    model = DDPG("MultiInputPolicy", BitFlippingEnv(continuous=True), **SMALL, **kwargs).learn(30)
    model.save_replay_buffer(tmp_path / "good.pkl")
    infos = json.dumps([{"a": info} if isinstance(info, dict) else info] * 30)
    edited(tmp_path / "good.pkl", tmp_path / "evil.pkl", **{"infos.json": lambda content: infos})
    with memory_bounded(300), pytest.raises(ValueError, match=r"evil\.pkl"):
        model.load_replay_buffer(tmp_path / "evil.pkl")


def test_a_tree_of_priorities_takes_what_it_holds():
    """Any size is possible in a file, but memory is taken when it is drawn from."""
    packed = json.dumps(Packer().pack(SumTree(4)))
    arrays = [np.ones(4)]
    with memory_bounded(300):
        large = Unpacker(lambda n: arrays[n]).unpack(json.loads(packed.replace('["n", 4]', f'["n", {2**27}]')))
    assert large.n == 2**27
    with pytest.raises(ValueError, match="n="):
        Unpacker(lambda n: arrays[n]).unpack(json.loads(packed.replace('["n", 4]', f'["n", {10**15}]')))


@pytest.mark.parametrize("state", [dict(largest="x"), dict(largest=None), dict(largest=[1]), [], 3])
def test_states_of_a_sampling_that_cannot_be(state, tmp_path):
    """The error names the file."""
    kwargs = SMALL | dict(replay_buffer_kwargs=dict(sampling="prioritized"))
    model = DDPG("MlpPolicy", "Pendulum-v1", **kwargs).learn(30)
    model.save_replay_buffer(tmp_path / "good.pkl")

    def change(content):
        header = json.loads(content)
        header["sampling"]["state"] = state
        return json.dumps(header)

    edited(tmp_path / "good.pkl", tmp_path / "evil.pkl", **{"header.json": change})
    with pytest.raises(ValueError, match=r"evil\.pkl"):
        model.load_replay_buffer(tmp_path / "evil.pkl")


def with_attributes(**attributes):
    """A function that puts attributes into the JSON of a model."""

    def change(content):
        about = json.loads(content)
        about["attributes"] |= attributes
        return json.dumps(about)

    return {"model.json": change}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (dict(_setup_model=None), "'_setup_model' must be an attribute"),
        (dict(predict={"class": "torch.nn.modules.activation:ReLU"}), "'predict' must be"),
        (dict(policy_kwargs={"dict": [["net_arch", [100] * 10_000]]}), "more numbers than"),
        (dict(observation_space=Packer().pack(gym.spaces.MultiBinary(10**8))), "more numbers than"),
        (dict(observation_space=None), "must be a space"),
        (dict(action_space="x"), "must be a space"),
        (dict(policy_kwargs=[1]), "policy_kwargs"),
        (dict(replay_buffer_kwargs=5), "replay_buffer_kwargs"),
        (dict(replay_buffer_kwargs={"dict": [["frame_stack", 10**10]]}), "replay_buffer_kwargs"),
        (dict(gamma=9.9), "gamma=9.9"),
        (dict(seed="x"), "seed='x'"),
        (dict(num_timesteps="x"), "cannot be loaded"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_attributes_that_no_model_has(attributes, reason, saved, tmp_path):
    """The error names the file, whatever comes of them."""
    path = edited(saved / "model.zip", tmp_path / "evil.zip", **with_attributes(**attributes))
    with pytest.raises(ValueError, match=rf"evil\.zip.*{reason}"):
        DDPG.load(path, trusted=False)


def test_no_module_is_imported_for_an_environment_in_a_file(saved, tmp_path, monkeypatch):
    """gymnasium would import what stands before the colon of an id."""
    (tmp_path / "module_of_a_file.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    path = edited(saved / "model.zip", tmp_path / "evil.zip", **with_attributes(env="module_of_a_file:X-v0"))
    for trusted in (False, None, True):
        assert DDPG.load(path, trusted=trusted, device="cpu").env is None


def with_parameters(change):
    """A function that changes what torch has saved."""

    def poisoned(content):
        state = th.load(io.BytesIO(content), weights_only=True)
        changed = change(state)
        stream = io.BytesIO()
        th.save(state if changed is None else changed, stream)
        return stream.getvalue()

    return poisoned


FIRST = "actor.mu.0.weight"


@pytest.mark.parametrize(
    ("member", "change", "reason"),
    [
        ("policy.pth", lambda state: state.update({FIRST: th.zeros(1).expand(10**12)}), "more numbers than are there"),
        ("policy.pth", lambda state: state.update({FIRST: th.eye(3).to_sparse()}), "parameters alone, not"),
        ("policy.pth", lambda state: state.update({FIRST: th.zeros(3)}), "size mismatch"),
        ("policy.pth", lambda state: state.update({FIRST: "x"}), "cannot be loaded"),
        ("policy.pth", lambda state: {key: value for key, value in state.items() if key != FIRST}, "Missing key"),
        ("policy.pth", lambda state: [1], "cannot be loaded"),
        ("actor.optimizer.pth", lambda state: {"a": 1}, "cannot be loaded"),
        ("actor.optimizer.pth", lambda state: state["param_groups"][0].update(lr="x"), "lr='x'"),
        ("actor.optimizer.pth", lambda state: state["state"][0].update(exp_avg=th.zeros(2)), "exp_avg of a parameter"),
    ],
    ids=range(9),
)
def test_parameters_that_no_model_has(member, change, reason, saved, tmp_path):
    """The error names the file."""
    path = edited(saved / "model.zip", tmp_path / "evil.zip", **{member: with_parameters(change)})
    with pytest.raises(ValueError, match=rf"(?s)evil\.zip.*{reason}"):
        DDPG.load(path)


def damaged_at(content, n, rng):
    """As a torn copy, or with a flipped bit, n times each."""
    for place in rng.integers(0, len(content), n):
        yield content[:place]
        yield content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]


@pytest.mark.parametrize("file", ["model.zip", "checkpoint.zip"])
def test_damaged_files(file, saved, tmp_path):
    """One kind of error, which names the file; or the damage was where nothing stands, and the model is what it was."""
    whole = (saved / file).read_bytes()
    expected = DDPG.load(saved / file, device="cpu")
    path, refused, harmless = tmp_path / "damaged.zip", 0, 0
    for content in damaged_at(whole, 60, np.random.default_rng(0)):
        path.write_bytes(content)
        try:
            loaded = DDPG.load(path, env="Pendulum-v1", device="cpu")
        except ValueError as error:
            refused += "damaged.zip" in str(error)
        else:
            for one, other in zip(expected.policy.parameters(), loaded.policy.parameters(), strict=True):
                assert th.equal(one, other)
            harmless += 1
    assert refused + harmless == 120
    assert refused > 90


def test_parameters_that_do_not_fit_leave_the_model(saved, tmp_path):
    """Damaged ones, others, and NaN."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    (tmp_path / "torn.zip").write_bytes((saved / "model.zip").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"torn\.zip"):
        model.set_parameters(tmp_path / "torn.zip")
    others = DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(policy_kwargs=dict(net_arch=[8, 8]))).get_parameters()
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.set_parameters(others)
    broken = DDPG("MlpPolicy", "Pendulum-v1", **SMALL).get_parameters()
    broken["policy"]["critic.qf0.0.bias"] = th.full((8,), th.nan)
    with pytest.raises(ValueError, match=r"numbers in policy\.critic\.qf0\.0\.bias that are not finite"):
        model.set_parameters(broken)
    for parameter, kept in zip(model.policy.parameters(), before, strict=True):
        assert th.equal(parameter, kept)


def test_a_broken_model_overwrites_no_good_file(tmp_path):
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    model.save(tmp_path / "model")
    good = (tmp_path / "model.zip").read_bytes()
    with th.no_grad():
        next(model.actor.parameters()).fill_(th.nan)
    with pytest.raises(ValueError, match=r"model'.*actor has parameters that are not finite"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == good


def test_what_sb3_reads_is_still_there(saved):
    """The file is one of Stable-Baselines3, for its own functions."""
    data, parameters, _ = sb3.common.save_util.load_from_zip_file(saved / "model.zip")
    assert data["num_timesteps"] == 60
    assert set(parameters) == {"policy", "actor.optimizer", "critic.optimizer"}


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -2.5, float("inf"), "text", [1, (2, 3)], {"a": 1, 2: [None]}, {1, 2}, frozenset("ab"), b"bytes",
        np.float32(1.5), np.dtype("<i4"), th.nn.ReLU, th.optim.AdamW, gym.spaces.Box(-1, 1, (3,)),
        gym.spaces.Discrete(3, start=2),
        gym.spaces.Dict(a=gym.spaces.MultiBinary(2), b=gym.spaces.Tuple([gym.spaces.Text(3)])),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_come_back(value):
    """As they were, of the same type."""
    packer = Packer()
    packed = json.loads(json.dumps(packer.pack(value), allow_nan=False))
    back = Unpacker(packer.arrays.__getitem__).unpack(packed)
    assert back == value
    assert type(back) is type(value)


def test_arrays_generators_and_identity():
    """What stands at two places is one object again; a generator goes on where it was."""
    generator, array = np.random.default_rng(0), np.arange(6.0).reshape(2, 3).T
    generator.normal(size=7)
    packer = Packer()
    packed = packer.pack([generator, {"g": generator, "a": array}, array, np.random.RandomState(3)])
    arrays = [each.copy() for each in packer.arrays]
    back = Unpacker(arrays.__getitem__).unpack(json.loads(json.dumps(packed)))
    assert back[0] is back[1]["g"]
    assert back[1]["a"] is back[2]
    np.testing.assert_array_equal(back[2], array)
    assert back[0].normal() == generator.normal()
    assert back[3].normal() == np.random.RandomState(3).normal()


def test_tensors_and_seeds_at_two_places():
    """They are one again; what a generator spawns goes on where it was, of older files with new seeds."""
    tensor, generator = th.arange(3.0), np.random.default_rng(5)
    generator.spawn(2)
    packer = Packer()
    packed = json.loads(json.dumps(packer.pack([tensor, {"t": tensor}, generator, [1], generator.bit_generator.seed_seq])))
    back = Unpacker(lambda n: packer.arrays[n].copy()).unpack(packed)
    assert back[0] is back[1]["t"]
    assert back[0].tolist() == [0, 1, 2]
    assert back[3] == [1]
    assert back[4] is back[2].bit_generator.seed_seq
    assert back[2].spawn(1)[0].normal() == generator.spawn(1)[0].normal()
    assert Unpacker(lambda n: packer.arrays[n]).unpack(Packer().pack(np.random.mtrand._rand)) is np.random.mtrand._rand
    with pytest.raises(CannotPack, match="RandomState of PCG64"):
        Packer().pack(np.random.RandomState(np.random.PCG64(0)))
    older = Packer().pack(generator)
    del older["seed_sequence"]
    assert Unpacker(None).unpack(json.loads(json.dumps(older))).normal() == generator.normal()
    with pytest.raises(ValueError, match="at most 8 numbers"):
        Unpacker(None).unpack({"seeds": {"dict": [["entropy", 1], ["pool_size", 10**9]]}})


def test_containers_and_bits_at_two_places():
    """They are one again, also one that holds itself, and behind something that could not be packed."""
    numbers, bits, queue = [1, 2], np.random.PCG64(0), deque([3], maxlen=2)
    around: dict = {"numbers": numbers, "queue": queue, "set": {4}}
    around["itself"] = around
    generators = [np.random.Generator(bits), np.random.Generator(bits)]
    packer = Packer()
    with pytest.raises(CannotPack):
        packer.attempt([numbers, np.arange(3), generators[0], lambda: 0])
    packed = packer.attempt([around, numbers, queue, around["set"], generators, OrderedDict(b=1, a=2)])
    back = Unpacker(packer.arrays.__getitem__).unpack(json.loads(json.dumps(packed)))
    assert back[0]["itself"] is back[0]
    assert back[0]["numbers"] is back[1]
    assert back[0]["queue"] is back[2]
    assert back[2].maxlen == 2
    assert back[0]["set"] is back[3]
    assert back[4][0].bit_generator is back[4][1].bit_generator
    assert back[4][0].normal() == generators[0].normal()
    assert type(back[5]) is OrderedDict
    assert list(back[5]) == ["b", "a"]


class Text(str):
    """More than a string."""


class Number(IntEnum):
    """More than a number."""

    ONE = 1


@pytest.mark.parametrize(
    "value",
    [lambda: 0, th.nn.Linear(1, 1), np.array([object()]), Payload("x"), os.system, Payload, Counter("a"), defaultdict(list),
     Text("a"), Number.ONE, np.ma.masked_array([1, 2], [True, False]), th.nn.Parameter(th.zeros(1)), time.gmtime(0)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_code_and_what_is_more_than_it_seems_are_not_packed(value):
    with pytest.raises(CannotPack):
        Packer().pack(value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_imports_of_pickles(protocol, flag):
    """Found without running them, names that stand in the memo too."""
    data = pickle.dumps([Payload(flag), Payload(flag), np.float64, os.mkdir], protocol)
    assert {name.split(".")[-1] for name in imports_of(data)} == {"mkdir", "float64"}
    assert not flag.exists()


def inspect(*paths):
    command = [sys.executable, "-m", "sb3_ddpg_ext", "inspect", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True)


def test_inspect(saved, tmp_path, flag):
    """Says what is there, and whether opening it runs code, which it does not run."""
    model = sb3.DDPG("MlpPolicy", "Pendulum-v1", buffer_size=20)
    model.save(tmp_path / "sb3")
    evil = edited(tmp_path / "sb3.zip", tmp_path / "evil.zip", data=with_payload(flag))
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Payload(flag)))
    paths = [saved / "model.zip", saved / "checkpoint.zip", saved / "buffer.pkl", evil, tmp_path / "evil.pkl"]
    parts = inspect(*paths).stdout.split("\n\n")
    assert [part.splitlines()[0].removeprefix(f"{path}: ") for part, path in zip(parts, paths, strict=True)] == [
        "model of sb3_ddpg_ext, format 1",
        "checkpoint of sb3_ddpg_ext, format 1",
        "replay buffer",
        "model of Stable-Baselines3, or of sb3_ddpg_ext 0.1",
        "a pickle, as Stable-Baselines3 writes replay buffers and VecNormalize",
    ]
    assert ["Opening it runs no code." in part for part in parts] == [True, True, True, False, False]
    assert "OrnsteinUhlenbeckNoise(sigma=0.2" in parts[0]
    assert "DDPG after 60 of 60 steps" in parts[1]
    assert "transitions           60" in parts[2]
    assert all("posix.mkdir" in part for part in parts[3:])
    assert not flag.exists()


def test_inspect_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    done = inspect(tmp_path / "notes.txt")
    assert done.returncode == 1
    assert "is neither a model, nor a replay buffer, nor a checkpoint, nor a pickle" in done.stderr


STATE = "sb3_ddpg_ext.checkpoints.environments:EnvironmentState"


def hidden(pickled):
    """The state of an environment whose pickle is an array that counts as false: of its one field it is the last byte, 0."""
    content = pickled + b"\0"
    return np.frombuffer(
        content, np.dtype(dict(names=["a"], formats=["u1"], offsets=[len(content) - 1], itemsize=len(content)))
    )


def as_environments(state):
    return lambda packed: packed | {"environments": state}


def as_callbacks(name):
    return lambda state: lambda packed: packed | {"callbacks": [[name, {"dict": []}, {"dict": [["model", state]]}]]}


STATES = {  # of which the fourth part is the pickle, array 9999
    "an array": {"tuple": [["x"], None, [], {"array": 9999}], "of": STATE},
    "bytes": {"tuple": [["x"], None, [], {"bytes": {"array": 9999}}], "of": STATE},
    "an object": {"object": STATE, "arguments": [["x"], None, [], {"array": 9999}], "state": None},
    "an object that says it is of something else": {
        "of": "x",
        "object": STATE,
        "arguments": [["x"], None, [], {"bytes": {"array": 9999}}],
        "state": None,
    },
    "two forms": {
        "tuple": [["x"], None, [], None],
        "of": STATE,
        "object": STATE,
        "arguments": [["x"], None, [], {"array": 9999}],
    },
    "in its layers": {"tuple": [[{"tuple": [["x"], None, [], {"array": 9999}], "of": STATE}], None, [], None], "of": STATE},
    "in another one": {
        "tuple": [["x"], json.dumps([{"each": {"tuple": [["x"], None, [], {"array": 9999}], "of": STATE}}]), [], None],
        "of": STATE,
    },
    "in a list": [{"tuple": [["x"], None, [], {"array": 9999}], "of": STATE}],
    "by its number": {"tuple": [["x"], None, [], {"same": 0}], "of": STATE},
    "with text that is no text": {"tuple": [["x"], {"scalar": {"array": 9999}}, [], None], "of": STATE},
}


@pytest.mark.parametrize("place", ["environments", "CallbackList", "ConvertCallback", "EvalCallback"])
@pytest.mark.parametrize("state", STATES)
def test_no_pickle_of_an_environment_is_hidden(state, place, saved, tmp_path, flag):
    """Whatever form it has and wherever it stands, a checkpoint that is not trusted is refused, and ``inspect`` says so."""
    change = as_environments(STATES[state]) if place == "environments" else as_callbacks(place)(STATES[state])

    def of_state(content):
        packed = json.loads(content)
        return json.dumps({"dict": [list(item) for item in change(dict(packed["dict"])).items()]})

    path = edited(saved / "checkpoint.zip", tmp_path / "evil.zip", **{"checkpoint/state.json": of_state})
    stream = io.BytesIO()
    np.save(stream, hidden(pickle.dumps(Payload(flag))), allow_pickle=False)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("checkpoint/state.json.arrays/9999.npy", stream.getvalue())
    with pytest.raises(ValueError, match=r"evil\.zip"):
        checkpoint.resume(path, "Pendulum-v1", trusted=False).learn(100)
    assert "Opening it runs no code" not in inspect(path).stdout
    assert not flag.exists()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"view": {"array": 9999}, "shape": [3 * 10**9], "dtype": "|u1", "offset": 0, "strides": [0]}, "more numbers than"),
        ([{"array": 9999}, {"array": 9999}], "must stand at one place"),
    ],
    ids=["a view", "an array twice"],
)
def test_arrays_that_would_grow_are_refused(attributes, reason, saved, tmp_path):
    """Before there is room for them."""
    path = edited(saved / "model.zip", tmp_path / "model.zip", **with_attributes(sde_sample_freq=attributes))
    stream = io.BytesIO()
    np.save(stream, np.ones(8, np.uint8))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.json.arrays/9999.npy", stream.getvalue())
    with pytest.raises(ValueError, match=rf"model\.zip.*{reason}"):
        DDPG.load(path, trusted=False)


def test_pickles_of_environments_in_other_processes_are_seen(tmp_path):
    """Those of MuJoCo, inside the states that the processes have sent."""
    pytest.importorskip("mujoco")
    env = make_vec_env("InvertedPendulum-v5", 2, wrapper_class=Resumable, vec_env_cls=SubprocVecEnv)
    checkpoint.save(DDPG("MlpPolicy", env, **SMALL).learn(10), tmp_path / "model")
    with pytest.raises(ValueError, match="has the environments as pickles"):
        checkpoint.resume(tmp_path / "model.zip", env, trusted=False)
    assert checkpoint.resume(tmp_path / "model.zip", env, trusted=True).num_timesteps == 10
    env.close()


def test_what_callbacks_and_environments_bring_stays_theirs(saved, tmp_path):
    """Paths, methods and functions are those of the new training, whatever the file has."""
    env = Monitor(gym.make("Pendulum-v1"))
    state = environment_state(env)
    names = ["video_folder", "log_path", "step", "render", "unwrapped", "spec", "t_start"]
    packed = json.loads(state.packed)
    packed[0]["dict"][0][1]["dict"] += [[name, {"path": "/elsewhere"}] for name in names]
    env.video_folder, env.log_path = "mine", "mine"
    before = {name: getattr(env, name) for name in names[:-1]}
    restore_environment(env, state._replace(packed=json.dumps(packed)))
    assert {name: getattr(env, name) for name in names[:-1]} == before
    assert str(env.t_start) == "/elsewhere"  # which is state
    evaluation = EvalCallback(Monitor(gym.make("Pendulum-v1")), log_path=str(tmp_path), best_model_save_path=str(tmp_path))
    kept = dict(log_path="/elsewhere", best_model_save_path="/elsewhere", _on_step=3, on_step=3, n_calls=7, seen=1)
    before = dict(vars(evaluation))
    restore_callbacks(evaluation, [("EvalCallback", kept, {})])
    assert vars(evaluation) == before | dict(n_calls=7, seen=1)


def test_inspect_sees_every_pickle(saved, tmp_path, flag):
    """Also by an old operation, beside the header of a replay buffer, and in what only Stable-Baselines3 would read."""
    (tmp_path / "old.pkl").write_bytes(b"\x80\x02(S'echo'\nios\nsystem\n.")
    with zipfile.ZipFile(edited(saved / "buffer.pkl", tmp_path / "buffer.pkl"), "a") as archive:
        archive.writestr("more.pkl", pickle.dumps(Payload(flag)))
    with zipfile.ZipFile(edited(saved / "model.zip", tmp_path / "both.zip"), "a") as archive:
        archive.writestr("header.json", zipfile.ZipFile(saved / "buffer.pkl").read("header.json"))
    old, buffer, both = inspect(*(tmp_path / name for name in ("old.pkl", "buffer.pkl", "both.zip"))).stdout.split("\n\n")
    assert "os.system" in old
    assert "posix.mkdir" in buffer
    assert "both.zip: model of sb3_ddpg_ext" in both
    assert "Stable-Baselines3's own load would read pickles: " in both


def test_what_stands_in_itself_many_times(saved, tmp_path):
    """A space that would be written as 2^60 others takes no time, neither to show nor to refuse."""
    inside = ()  # without arrays, which other members of the file have by the same numbers
    for _ in range(61):
        space = gym.spaces.Tuple.__new__(gym.spaces.Tuple)
        vars(space).update(spaces=inside, _shape=None, dtype=None, _np_random=None)
        inside = (space, space)
    path = edited(saved / "model.zip", tmp_path / "model.zip", **with_attributes(observation_space=Packer().pack(space)))
    begin = time.perf_counter()
    assert "observation_space     Tuple of 2 spaces" in inspect(path).stdout
    with pytest.raises(ValueError, match=r"model\.zip"):
        DDPG.load(path, trusted=False)
    assert time.perf_counter() - begin < 30


@pytest.mark.parametrize("trusted", [None, True, False])
@pytest.mark.parametrize(
    ("cls", "env", "name"),
    [(sb3.PPO, "Pendulum-v1", "PPO, A2C or their kin"), (sb3.SAC, "Pendulum-v1", "SAC"), (sb3.DQN, "CartPole-v1", "DQN")],
)
def test_file_of_another_algorithm(cls, env, name, trusted, tmp_path):
    """It is named by its policy class, before any pickle is read or warned of."""
    size = dict(buffer_size=10) if cls is not sb3.PPO else {}
    cls("MlpPolicy", env, policy_kwargs=dict(net_arch=[8]), device="cpu", **size).save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            ValueError, match=rf"model' has been saved by another algorithm, {name} \(its policy is stable_baselines3"
        ):
            DDPG.load(tmp_path / "model", trusted=trusted)


@contextmanager
def within(seconds):
    """Fails if it takes longer."""

    def stop(*_):
        raise KeyboardInterrupt(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def twice(n, first=0):
    """A packed list that would be shown as 2^n others: each holds the next one twice."""
    return [twice(n - 1, first + 1), {"shared": first + 1}] if n else []


@pytest.mark.parametrize("name", ["gamma", "buffer_size", "train_freq", "nobody_reads_it"])
@pytest.mark.parametrize("trusted", [False, None])
def test_lists_that_stand_at_many_places(name, trusted, saved, tmp_path):
    """They are refused before anybody shows, compares or walks through them."""

    def change(content):
        about = json.loads(content)
        about["attributes"] = {name: twice(40)} | {key: each for key, each in about["attributes"].items() if key != name}
        return json.dumps(about)

    path = edited(saved / "model.zip", tmp_path / "evil.zip", **{"model.json": change})
    with within(5), pytest.raises(ValueError, match=r"evil\.zip.*at most \d+ parts"):
        DDPG.load(path, trusted=trusted, device="cpu")


def test_a_list_that_stands_in_itself(saved, tmp_path):
    """It is refused in a file, and is not put into one."""

    def change(content):
        about = json.loads(content)
        about["attributes"] = {"mine": [{"shared": 0}]} | about["attributes"]
        return json.dumps(about)

    path = edited(saved / "model.zip", tmp_path / "evil.zip", **{"model.json": change})
    with pytest.raises(ValueError, match=r"evil\.zip.* must not stand in itself"):
        DDPG.load(path, trusted=False, device="cpu")
    callback = StopTrainingOnMaxEpisodes(3)
    callback.mine = []
    callback.mine.append(callback.mine)
    (_, kept, _), *_ = callback_states(callback)[0]
    assert "mine" not in kept
    assert "max_episodes" in kept


@pytest.mark.parametrize("packed", [
    {"tuple": [0.0, 1.0, {"tuple": [40000, 40000]}], "of": "gymnasium.spaces.box:Box"},
    {"enum": "gymnasium.spaces.discrete:Discrete", "value": 3},
])  # fmt: skip
def test_only_tuples_and_enums_are_called(packed, saved, tmp_path):
    """Other classes would make of a few numbers whatever they ask for."""
    path = edited(saved / "model.zip", tmp_path / "evil.zip", **with_attributes(observation_space=packed))
    with memory_bounded(100), pytest.raises(ValueError, match=r"evil\.zip.*must be a subclass of"):
        DDPG.load(path, trusted=False, device="cpu")


@pytest.mark.parametrize(("make", "name", "position"), [
    (lambda: np.random.Generator(np.random.MT19937(0)), "pos", 10**8),
    (lambda: np.random.Generator(np.random.Philox(0)), "buffer_pos", -(10**8)),
    (lambda: np.random.RandomState(0), "pos", 625),
    (lambda: np.random.RandomState(0), "pos", True),
])  # fmt: skip
def test_positions_of_generators(make, name, position):
    """NumPy would read memory that is not the generator's, and end the process."""
    packer = Packer()
    text = json.dumps(packer.pack(make()))
    changed = re.sub(rf'\["{name}", \d+\]', json.dumps([name, position]), text)
    assert changed != text
    with pytest.raises(ValueError, match=f"must have {name} from 0 to"):
        Unpacker(lambda n: packer.arrays[n]).unpack(json.loads(changed))
    drawn = Unpacker(lambda n: packer.arrays[n].copy()).unpack(json.loads(text)).standard_normal(3)
    np.testing.assert_array_equal(drawn, make().standard_normal(3))


@pytest.mark.parametrize("change", [10**8, "x", None])
def test_streams_of_a_checkpoint(change, saved, tmp_path):
    """What cannot be the state of NumPy's global stream is an error that names the file."""

    def changed(content):
        text = content.decode()
        new = re.sub(r'\["pos", \d+\]', json.dumps(["pos", change]), text) if change else text.replace('"python"', '"p"')
        assert new != text
        return new

    path = edited(saved / "checkpoint.zip", tmp_path / "evil.zip", **{"checkpoint/state.json": changed})
    with pytest.raises(ValueError, match=r"evil\.zip"):
        checkpoint.resume(path, "Pendulum-v1", trusted=False, device="cpu").learn(70)


def pickle_of(*parts):
    return b"\x80\x02}X\x01\x00\x00\x00a" + b"".join(parts) + b"s."


NUMBER = pickle.BININT + (10**9).to_bytes(4, "little")
DICTS = b"}q\x00" + b"".join(b"}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cuq%c" % (i, i, i + 1) for i in range(40))

FILLED_LATER = b"(}q\x00%st" % b"".join(b"(X\x01\x00\x00\x00a}q%cX\x01\x00\x00\x00bh%cuh%c" % (i, i, i) for i in range(1, 41))
IN_ITSELF = b"]q\x00h\x00a"


@pytest.mark.parametrize("member", ["policy.pth", "actor.optimizer.pth"])
@pytest.mark.parametrize("content", [
    pickle_of(b"cbuiltins\nbytearray\n", NUMBER, b"\x85R"),
    pickle_of(b"ctorch\nFloatTensor\n", NUMBER, b"\x85R"),
    pickle_of(b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00utf-32\x86R"),
    pickle_of(DICTS),
    pickle_of(FILLED_LATER),
    pickle_of(IN_ITSELF),
], ids=["bytes", "tensor", "codec", "dicts", "filled later", "in itself"])  # fmt: skip
@pytest.mark.parametrize("form", ["archive", "older", "older, with an empty directory behind it"])
def test_parameters_that_would_grow(form, content, member, saved, tmp_path):
    """What torch calls for weights, too, is refused by name where it is not for parameters."""

    def changed(data):
        if form != "archive":  # as torch wrote them before 1.6
            number = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
            behind = b"PK\x05\x06" + bytes(18) if form != "older" else b""  # zipfile takes it for an archive, torch does not
            return number + pickle.dumps(dict(little_endian=True), 2) + content + pickle.dumps([], 2) + behind
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
            for name in old.namelist():
                new.writestr(name, content if name.endswith("data.pkl") else old.read(name))
        return stream.getvalue()

    path = edited(saved / "model.zip", tmp_path / "evil.zip", **{member: changed})
    with within(5), memory_bounded(100), pytest.raises(ValueError, match=rf"evil\.zip.*{member} must h"):
        DDPG.load(path, trusted=False, device="cpu")


def test_parameters_of_an_older_torch(saved, tmp_path):
    """They are read, as before."""

    def older(data):
        stream = io.BytesIO()
        th.save(th.load(io.BytesIO(data)), stream, _use_new_zipfile_serialization=False)
        return stream.getvalue()

    path = edited(saved / "model.zip", tmp_path / "old.zip", **{"policy.pth": older, "critic.optimizer.pth": older})
    loaded, wanted = (DDPG.load(each, trusted=False, device="cpu") for each in (path, saved / "model.zip"))
    assert all(map(th.equal, loaded.policy.parameters(), wanted.policy.parameters()))


@pytest.mark.parametrize("place", [6, 8, 9])
def test_a_damaged_directory(place, saved, tmp_path):
    """Of a version or with flags that ``zipfile`` does not read: the older checkpoint is found, and the file is named."""
    content = bytearray((saved / "checkpoint.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + place] ^= 0b01000001
    (tmp_path / "checkpoint_20_steps.zip").write_bytes(content)
    (tmp_path / "checkpoint_10_steps.zip").write_bytes((saved / "checkpoint.zip").read_bytes())
    with pytest.raises(ValueError, match=r"checkpoint_20_steps\.zip"):
        DDPG.load(tmp_path / "checkpoint_20_steps.zip", env="Pendulum-v1", device="cpu")
    assert checkpoint.resume(tmp_path, "Pendulum-v1", device="cpu").num_timesteps == 60

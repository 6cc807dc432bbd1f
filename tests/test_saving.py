"""Saved replay buffers: arrays and JSON, nothing that is run, everything that was there."""

import io
import json
import pickle
import zipfile
from functools import partial

import numpy as np
import pytest
from conftest import CountingEnv, DictPendulum
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from test_her import Walk

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.buffers import Episode, HindsightReplayBuffer, Sampling, write_episodes

RULES = ((5, "terminated"), (7, "truncated"))


def make_model(cls=DDPG, policy="MlpPolicy", env=CountingEnv, n_envs=2, **kwargs):
    env = DummyVecEnv([partial(env, RULES) if env is CountingEnv else env for _ in range(n_envs)])
    defaults = dict(buffer_size=80, learning_starts=20, batch_size=8, device="cpu", seed=0, policy_kwargs=dict(net_arch=[8]))
    return cls(policy, env, **(defaults | kwargs))


def pendulum():
    import gymnasium as gym

    return DictPendulum(gym.make("Pendulum-v1"))


KINDS = {
    "plain": dict(),
    "n-step": dict(n_steps=3),
    "prioritized": dict(replay_buffer_kwargs=dict(sampling="prioritized")),
    "lap": dict(replay_buffer_kwargs=dict(sampling="lap"), policy_kwargs=dict(net_arch=[8], critic_loss="huber")),
    "dict": dict(policy="MultiInputPolicy", env=pendulum),
    "her": dict(policy="MultiInputPolicy", env=Walk, replay_buffer_class=HindsightReplayBuffer),
    "her with infos": dict(
        policy="MultiInputPolicy", env=Walk, replay_buffer_class=HindsightReplayBuffer,
        replay_buffer_kwargs=dict(copy_info_dict=True),
    ),
    "r2d2": dict(
        cls=RecurrentDDPG, policy="MlpLstmPolicy", batch_size=4,
        replay_buffer_kwargs=dict(sequence_length=6, overlap=3, burn_in=2, stored_state=True, sampling="prioritized"),
    ),
}  # fmt: skip


def parts(sample):
    """All numbers of a batch, flat."""
    if hasattr(sample, "_asdict"):
        sample = sample._asdict()
    if isinstance(sample, dict):
        return [number for _, value in sorted(sample.items()) for number in parts(value)]
    return [] if sample is None else np.asarray(sample, np.float64).reshape(-1).tolist()


@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_samples(kind, n, tmp_path):
    """With the same random numbers, before and after, also when both go on: priorities, goals, infos, states."""
    model = make_model(**KINDS[kind]).learn(n)
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = make_model(**KINDS[kind])
    loaded.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=False)
    assert type(loaded.replay_buffer) is type(model.replay_buffer)
    for each in (model, loaded):
        each.replay_buffer.advance(0.5, n)  # the weights' exponent is not saved
    for _ in range(3):
        batches = []
        for buffer in (model.replay_buffer, loaded.replay_buffer):
            np.random.seed(1)
            batches.append(parts(buffer.sample(64)))
        np.testing.assert_array_equal(*batches)
        for each in (model, loaded):
            each.replay_buffer.interrupt()
        obs = model.replay_buffer.observations
        row = {key: value[3] for key, value in obs.items()} if isinstance(obs, dict) else obs[3]
        for each in (model, loaded):
            zeros = np.zeros((2, *each.action_space.shape), np.float32)
            each.replay_buffer.add(row, row, zeros, np.zeros(2), np.zeros(2, bool), [{"extra": 1}] * 2)


@pytest.mark.parametrize("kind", KINDS)
def test_no_pickle(kind, tmp_path):
    """What is in the archive: JSON, and arrays that NumPy reads without one."""
    make_model(**KINDS[kind]).learn(60).save_replay_buffer(tmp_path / "buffer")
    with zipfile.ZipFile(tmp_path / "buffer.pkl") as archive:
        header = json.loads(archive.read("header.json"))
        assert (header["format"], header["n_envs"], header["pos"]) == ("sb3_ddpg_ext replay buffer", 2, 30)
        names = [name for name in archive.namelist() if not name.endswith(".json")]
        assert names
        for name in names:
            with archive.open(name) as file:
                assert np.lib.format.read_array(file, allow_pickle=False).dtype != object
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "buffer.pkl").read_bytes())


def test_priorities_of_other_settings(tmp_path):
    """Begin anew: another alpha makes other numbers of the same errors."""
    model = make_model(replay_buffer_kwargs=dict(sampling="prioritized")).learn(60)
    model.save_replay_buffer(tmp_path / "buffer")
    for sampling, is_same in (("prioritized", True), (dict(kind="prioritized", alpha=0.9), False), ("lap", False)):
        other = make_model(replay_buffer_kwargs=dict(sampling=sampling), policy_kwargs=dict(net_arch=[8], critic_loss="huber"))
        other.load_replay_buffer(tmp_path / "buffer")
        values = other.replay_buffer.sampling.tree.values
        assert np.array_equal(values, model.replay_buffer.sampling.tree.values) == is_same
        assert is_same or (values[:60] == 1).all()
        assert not values[60:].any()


class Talks(Walk):
    """Infos of every kind."""

    def step(self, action):
        *result, info = super().step(action)
        more = {"array": np.arange(3, dtype=np.int16), "scalar": np.float64(0.5), "list": [1, None, "x"]}
        unsaid = {"when": np.datetime64("2026-01-01"), "odd": {"__array__": 1}, "numbered": {1: 2}}
        return *result, info | more | unsaid


def test_infos(tmp_path):
    """Come back with their types; what JSON cannot say is left out, and that is said."""
    kwargs = KINDS["her with infos"] | dict(env=Talks)
    model = make_model(**kwargs).learn(40)
    model.replay_buffer.infos.values[3]["object"] = object()
    with pytest.warns(UserWarning, match="an info of type (object|datetime64|dict) is not saved"):
        model.save_replay_buffer(tmp_path / "buffer")
    loaded = make_model(**kwargs)
    loaded.load_replay_buffer(tmp_path / "buffer")
    info, saved = loaded.replay_buffer.infos.values[3], model.replay_buffer.infos.values[3]
    assert set(info) == set(saved) - {"object", "when", "odd", "numbered"}
    assert (info["array"].dtype, info["array"].tolist()) == (np.int16, [0, 1, 2])
    assert (type(info["scalar"]), info["scalar"], info["list"]) == (np.float64, 0.5, [1, None, "x"])


def test_demonstrations(tmp_path):
    """Are in the file, with their share, so that their own need not be there any more."""
    episode = Episode(np.arange(12, dtype=np.float32).reshape(6, 2), np.zeros((5, 1), np.float32), np.arange(5.0), True)
    write_episodes(tmp_path / "demos.npz", [episode])
    kwargs = dict(replay_buffer_kwargs=dict(demonstrations=str(tmp_path / "demos.npz"), demonstration_share=0.5))
    make_model(**kwargs).learn(60).save_replay_buffer(tmp_path / "buffer")
    plain = make_model()
    plain.load_replay_buffer(tmp_path / "buffer")
    assert plain.replay_buffer.demonstration_share == 0.5
    np.testing.assert_array_equal(plain.replay_buffer.demonstrations.rewards[:, 0], np.arange(5.0))
    assert plain.replay_buffer.sample(8).n_demonstrations == 4
    make_model().learn(60).save_replay_buffer(tmp_path / "without")
    asking = make_model(**kwargs)
    asking.load_replay_buffer(tmp_path / "without")
    assert asking.replay_buffer.sample(8).n_demonstrations == 4


def test_what_does_not_fit(tmp_path):
    """Is refused, and the buffer stays."""
    make_model().learn(60).save_replay_buffer(tmp_path / "buffer")
    whole = (tmp_path / "buffer.pkl").read_bytes()
    (tmp_path / "cut.pkl").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.pkl").write_bytes(whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:])
    with zipfile.ZipFile(tmp_path / "other.pkl", "w") as archive:
        archive.writestr("word/document.xml", "")
    with zipfile.ZipFile(tmp_path / "later.pkl", "w") as archive:
        archive.writestr("header.json", json.dumps(dict(format="sb3_ddpg_ext replay buffer", version=2, share=None)))
    model = make_model().learn(60)
    before = model.replay_buffer
    for name, message in {
        "cut": "to its end", "flipped": "undamaged", "other": "must be a file", "later": "version 2"
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model.load_replay_buffer(tmp_path / name)
        assert model.replay_buffer is before
    for other, message in (
        (make_model(n_envs=1), "n_envs=2; it must be the model's n_envs=1"),
        (make_model(policy="MultiInputPolicy", env=pendulum), "has action_dim|has observations"),
    ):
        with pytest.raises(ValueError, match=message):
            other.load_replay_buffer(tmp_path / "buffer")
    model.learn(10)


def test_sequences_and_transitions_have_other_priorities(tmp_path):
    """Of the steps of a sequence only the first has one: loaded as transitions, or cut otherwise, all of them are new."""
    model = make_model(**KINDS["r2d2"]).learn(60)
    model.save_replay_buffer(tmp_path / "sequences")
    plain = make_model(**KINDS["prioritized"]).learn(60)
    plain.load_replay_buffer(tmp_path / "sequences")
    assert (plain.replay_buffer.sampling.tree.values[:60] == 1).all()
    plain.save_replay_buffer(tmp_path / "transitions")
    model.load_replay_buffer(tmp_path / "sequences")
    assert len(np.unique(model.replay_buffer.sampling.tree.values)) > 2
    kwargs = KINDS["r2d2"] | dict(replay_buffer_kwargs=dict(sequence_length=4, overlap=0, sampling="prioritized"))
    for name in ("sequences", "transitions"):
        other = make_model(**kwargs)
        other.load_replay_buffer(tmp_path / name)
        buffer = other.replay_buffer
        begins = buffer.episodes.before[:60] % 4 == 0
        np.testing.assert_array_equal(buffer.sampling.tree.values[:60], begins.astype(float))


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_with_and_without_infos(before, after, tmp_path):
    """What is not asked for is left out; what is not there is missed at once."""
    models = [make_model(**KINDS["her with infos" if each else "her"]) for each in (before, after)]
    models[0].learn(40).save_replay_buffer(tmp_path / "buffer")
    if after:
        with pytest.raises(ValueError, match="has no infos"):
            models[1].load_replay_buffer(tmp_path / "buffer")
        return
    models[1].load_replay_buffer(tmp_path / "buffer")
    models[1].learn(20)


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_with_and_without_stored_states(before, after, tmp_path):
    """The same of the states of recurrent networks."""
    kinds = [KINDS["r2d2"]["replay_buffer_kwargs"] | dict(stored_state=each) for each in (before, after)]
    models = [make_model(**KINDS["r2d2"] | dict(replay_buffer_kwargs=kwargs)) for kwargs in kinds]
    models[0].learn(40).save_replay_buffer(tmp_path / "buffer")
    if after:
        with pytest.raises(ValueError, match="states of 0 numbers"):
            models[1].load_replay_buffer(tmp_path / "buffer")
        return
    models[1].load_replay_buffer(tmp_path / "buffer")
    models[1].learn(20)


def test_a_failed_save_leaves_the_file_of_before(tmp_path, monkeypatch):
    """It is replaced when the new one is whole."""
    model = make_model().learn(40)
    model.save_replay_buffer(tmp_path / "buffer")
    before = (tmp_path / "buffer.pkl").read_bytes()

    def fails(file, buffer):
        file.write(b"PK")
        raise OSError("disk full")

    monkeypatch.setattr("sb3_ddpg_ext.buffer_files.write_buffer", fails)
    with pytest.raises(OSError, match="disk full"):
        model.learn(20).save_replay_buffer(tmp_path / "buffer")
    assert (tmp_path / "buffer.pkl").read_bytes() == before


def test_normalised_observations_of_64_bits(tmp_path):
    """A file of a model with VecNormalize, whose buffer keeps 64 bits, fits one without, and the other way round."""
    import gymnasium as gym
    from stable_baselines3.common.vec_env import VecNormalize

    class Fine(gym.ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

        def observation(self, obs):
            return obs.astype(np.float64)

    envs = [DummyVecEnv([lambda: Fine(CountingEnv(RULES))]) for _ in range(2)]
    models = [
        DDPG("MlpPolicy", env, device="cpu", buffer_size=50, learning_starts=10) for env in (envs[0], VecNormalize(envs[1]))
    ]
    assert [model.replay_buffer.observations.dtype for model in models] == [np.float32, np.float64]
    for i, model in enumerate(models):
        model.learn(30).save_replay_buffer(tmp_path / f"{i}")
        recorded = model.replay_buffer.observations[:30].copy()
        models[1 - i].load_replay_buffer(tmp_path / f"{i}")
        np.testing.assert_array_equal(models[1 - i].replay_buffer.observations[:30], recorded)
        models[1 - i].learn(20)


def test_hindsight_without_an_environment(tmp_path):
    """load, load_replay_buffer, set_env: in that order too."""
    model = make_model(**KINDS["her"]).learn(40)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = DDPG.load(tmp_path / "model")
    loaded.load_replay_buffer(tmp_path / "buffer")
    loaded.set_env(model.env)
    loaded.learn(20)


def test_keys_with_slashes(tmp_path):
    """Of dictionaries are names of files."""
    from sb3_ddpg_ext.buffers import BufferFile, TransitionReplayBuffer, write_buffer

    number = spaces.Box(-1, 1, (1,), np.float32)
    space = spaces.Dict({"a": number, "a/b": number, "rows": number})
    buffers = [TransitionReplayBuffer(5, space, number, "cpu", path=tmp_path / f"{i}") for i in range(2)]
    obs = {key: np.full((1, 1), i, np.float32) for i, key in enumerate(space)}
    for _ in range(7):
        buffers[0].add(obs, obs, np.zeros((1, 1)), np.zeros(1), np.zeros(1, bool), [{}])
    with (tmp_path / "buffer").open("wb") as file:
        write_buffer(file, buffers[0])
    with (tmp_path / "buffer").open("rb") as file:
        BufferFile(file, "it").restore(buffers[1])
    for i, key in enumerate(space):
        assert (buffers[1].observations[key] == i).all()


@pytest.mark.parametrize("kind", KINDS)
def test_loading_where_the_buffer_was_let_go(kind, tmp_path):
    """SB3's users set ``replay_buffer`` to None to free its memory, and load one later; a wrong file leaves it None."""
    model = make_model(**KINDS[kind]).learn(60)
    model.save_replay_buffer(tmp_path / "buffer")
    saved = {name: np.concatenate(parts) for name, parts in model.replay_buffer.contents().items()}
    model.replay_buffer = None
    (tmp_path / "wrong.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match="wrong' must be a file that save_replay_buffer has written"):
        model.load_replay_buffer(tmp_path / "wrong")
    assert model.replay_buffer is None
    model.load_replay_buffer(tmp_path / "buffer", truncate_last_traj=False)
    for name, parts in model.replay_buffer.contents().items():
        np.testing.assert_array_equal(np.concatenate(parts), saved[name])
    model.learn(60, reset_num_timesteps=False)


def changed_header(**new):
    return lambda name, content: json.dumps(json.loads(content) | new) if name == "header.json" else content


def changed_array(member, change):
    def changed(name, content):
        if name != member:
            return content
        file = io.BytesIO()
        np.save(file, change(np.load(io.BytesIO(content))))
        return file.getvalue()

    return changed


CONTRADICTIONS = {
    "negative position": changed_header(pos=-5),
    "position beyond the end": changed_header(pos=10**6),
    "position that is a word": changed_header(pos="a"),
    "full that is a number": changed_header(full=3),
    "version that is a word": changed_header(version="x"),
    "version 0": changed_header(version=0),
    "huge": changed_header(buffer_size=10**12),
    "few observations": changed_header(n_used=3),
    "many observations": changed_header(n_used=10**6),
    "ends of other environments": changed_header(goes_on=[True, True, True]),
    "rows out of range": changed_array("next.npy", lambda a: a + 10**8),
    "negative rows": changed_array("next.npy", lambda a: a * 0 - 7),
    "rows that are fractions": changed_array("next.npy", lambda a: a + 0.5),
    "few time limits": changed_array("timeouts.npy", lambda a: a[:3]),
    "words": changed_array("rest.npy", lambda a: a.astype("U9")),
    "rewards that are no numbers": changed_array("rest.npy", lambda a: a * np.nan),
    "observations that are infinite": changed_array("observations/rows.npy", lambda a: a + np.inf),
    "observations of another number": changed_array("observations/rows.npy", lambda a: a[:-1]),
}


@pytest.mark.parametrize("path", [None, "folder"])
@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_a_file_that_contradicts_itself(contradiction, path, tmp_path):
    """It is refused by its name, and the buffer of the model stays as it was, in a folder too."""
    kwargs = dict(replay_buffer_kwargs=dict(path=None if path is None else tmp_path / path))
    model = make_model(**kwargs).learn(30)
    model.save_replay_buffer(tmp_path / "good")
    change = CONTRADICTIONS[contradiction]
    with zipfile.ZipFile(tmp_path / "good.pkl") as good, zipfile.ZipFile(tmp_path / "bad.pkl", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, change(name, good.read(name)))
    buffer, rewards = model.replay_buffer, model.replay_buffer.rewards.copy()
    with pytest.raises(ValueError, match=r"bad\.pkl"):
        model.load_replay_buffer(tmp_path / "bad.pkl")
    assert model.replay_buffer is buffer
    np.testing.assert_array_equal(buffer.rewards, rewards)


def test_a_file_that_is_damaged(tmp_path):
    """Cut short, or with a bit turned over, at 300 places: it is refused by its name, or the bit was of no importance."""
    model = make_model(**KINDS["prioritized"]).learn(40)
    model.save_replay_buffer(tmp_path / "good")
    whole, rng = (tmp_path / "good.pkl").read_bytes(), np.random.default_rng(0)
    expected, refusals = model.replay_buffer.rewards.copy(), []
    for i in range(300):
        place = int(rng.integers(len(whole)))
        damaged = bytearray(whole[:place] if i % 2 else whole)
        if not i % 2:
            damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "bad.pkl").write_bytes(damaged)
        refusals.append(refusal(model, tmp_path / "bad.pkl"))
        np.testing.assert_array_equal(model.replay_buffer.rewards, expected)
    assert all("bad.pkl" in message for message in refusals if message)
    assert sum(map(bool, refusals)) > 250


def refusal(model, path):
    """What the error says; nothing where there is none."""
    try:
        model.load_replay_buffer(path)
    except ValueError as error:
        return str(error)
    return ""


class Counting(Sampling):
    """Has a state of NumPy's numbers under names that the file uses, too, and arrays of any shape."""

    def __init__(self, has_arrays=True):
        self.has_arrays = has_arrays
        self.numbers, self.array = dict(pos=np.int64(0), full=np.bool_(False), share=np.float32(0.5)), np.zeros(1)

    def draw(self, n, n_filled, n_envs):
        self.numbers["pos"] += 1
        self.array += 1.0
        return np.arange(n) % (n_filled * n_envs)

    def state(self):
        return self.numbers

    def contents(self, n_rows):
        return {"rest": self.array} if self.has_arrays else {}

    def restore(self, state, arrays):
        self.numbers = dict(state)
        self.array = np.asarray(arrays["rest"]) if self.has_arrays else self.array


@pytest.mark.parametrize("has_arrays", [True, False])
def test_a_sampling_of_ones_own_is_saved(has_arrays, tmp_path):
    """With names of its own, NumPy's numbers, arrays that can be written to, or none."""
    kwargs = dict(buffer_size=50, learning_starts=10, batch_size=4, policy_kwargs=dict(net_arch=[4]), device="cpu")
    kwargs["replay_buffer_kwargs"] = dict(sampling=Counting(has_arrays))
    model = DDPG("MlpPolicy", "Pendulum-v1", **kwargs).learn(30)
    model.save_replay_buffer(tmp_path / "buffer")
    other = DDPG("MlpPolicy", "Pendulum-v1", **kwargs)
    other.load_replay_buffer(tmp_path / "buffer")
    before, after = model.replay_buffer, other.replay_buffer
    assert after.sampling.numbers == before.sampling.numbers
    assert after.sampling.numbers["pos"] > 0
    assert (after.pos, after.full, after.size()) == (30, False, 30)
    assert after.sampling.array == (before.sampling.array if has_arrays else 0.0)
    other.learn(20)  # writes to the array
    before.sampling.array = np.array(0.0)
    if has_arrays:
        with pytest.raises(ValueError, match=r"Counting.contents\(\) must hold arrays of at least one dimension"):
            model.save_replay_buffer(tmp_path / "flat")

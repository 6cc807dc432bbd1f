"""Exported actors act as their models do, from raw observations to actions in the environment's units."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from torch import nn

from sb3_ddpg_ext import DDPG, RecurrentDDPG, runtime
from sb3_ddpg_ext.cli.bench import exported
from sb3_ddpg_ext.export import FORMATS, NotExpressible, ParityError, export, load

try:
    import onnx
    import onnxruntime
except ImportError:
    onnx = onnxruntime = None

needs_onnx = pytest.mark.skipif(onnx is None or onnxruntime is None, reason="onnx and onnxruntime are not installed")
of_each_format = pytest.mark.parametrize(
    "format", [pytest.param(name, marks=needs_onnx) if name == "onnx" else name for name in FORMATS]
)
ACTIONS = spaces.Box(-1, 1, (2,))
VECTOR = spaces.Box(-3, 3, (4,))
IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
MIXED = spaces.Dict(
    vector=VECTOR, matrix=spaces.Box(-1, 1, (2, 3)), discrete=spaces.Discrete(4), bits=spaces.MultiBinary(3),
    several=spaces.MultiDiscrete([2, 3]),
)  # fmt: skip
SMALL = dict(net_arch=[24, 16])


class Drawn(gym.Env):
    """Observations drawn from their space, in episodes of 30 steps; the reward is a number that follows the action."""

    def __init__(self, observation_space=VECTOR, action_space=ACTIONS, shift=0.0):
        self.observation_space, self.action_space, self.shift = observation_space, action_space, shift

    def _draw(self):
        drawn = self.observation_space.sample()
        return drawn + np.float32(self.shift) if self.shift else drawn

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(0 if seed is None else seed)
        self.steps = 0
        return self._draw(), {}

    def step(self, action):
        self.steps += 1
        return self._draw(), float(np.sum(action)), False, self.steps >= 30, {}


@th.no_grad()
def spread(model):
    """Let the actor's layers be of a size that makes actions differ, and statistics be none that a beginning would have."""
    generator = th.Generator().manual_seed(0)
    for module in model.policy.actor.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.mul_(2.0)
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.ndim == 1 and not isinstance(module, nn.Linear | nn.Conv2d | nn.LSTM | nn.GRU):
                drawn = th.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if "var" in name or name in ("weight", "scale", "factor") else drawn - 0.5)
    return model


def make(env, policy="MlpPolicy", cls=DDPG, **policy_kwargs):
    return spread(cls(policy, env, policy_kwargs=SMALL | policy_kwargs, seed=0, buffer_size=100))


def plain(**policy_kwargs):
    env = Drawn()
    return make(env, **policy_kwargs), None, env


def of(env, policy="MlpPolicy", cls=DDPG, **policy_kwargs):
    return make(env, policy, cls, **policy_kwargs), None, env


def under_vec_normalize(env, policy="MlpPolicy", cls=DDPG, **kwargs):
    normalised = VecNormalize(DummyVecEnv([lambda: env]), **kwargs)
    normalised.reset()
    for _ in range(40):
        normalised.step([env.action_space.sample()])
    normalised.training = False
    return make(normalised, policy, cls), normalised, env


def of_sb3(cls, tmp_path):
    cls("MlpPolicy", Drawn(), policy_kwargs=SMALL, seed=0, buffer_size=100).save(tmp_path / "sb3.zip")
    return DDPG.load(tmp_path / "sb3.zip", trusted=True), None, Drawn()


recurrent = partial(of, cls=RecurrentDDPG)
CASES = {
    "plain": plain,
    "deep": partial(plain, net_arch=[32] * 4),
    "linear": partial(plain, net_arch=[]),
    **{name: partial(plain, activation_fn=name) for name in ("tanh", "elu", "silu", "mish")},
    "leaky": partial(plain, activation_fn=partial(nn.LeakyReLU, 0.2)),
    "sigmoid": partial(plain, activation_fn=nn.Sigmoid),
    "layer norm": partial(plain, actor_norm="layer"),
    "batch norm": partial(plain, actor_norm="batch", input_norm="batch"),
    "batch renorm": partial(plain, actor_norm="batch-renorm"),
    "residual": partial(plain, net_arch=[16, 16], residual=True),
    "output norm": partial(plain, output_norm=0.3),
    "inverting gradients": partial(plain, inverting_gradients=True),
    "normaliser in the model": partial(plain, normalize_observations=True),
    "normaliser in the model, dict": lambda: of(Drawn(MIXED), "MultiInputPolicy", normalize_observations=True),
    "vec_normalize": lambda: under_vec_normalize(Drawn(shift=1000.0), clip_obs=1.5),
    "vec_normalize and memory": lambda: under_vec_normalize(Drawn(), "MlpGruPolicy", RecurrentDDPG),
    "vec_normalize, dict": lambda: under_vec_normalize(Drawn(MIXED), "MultiInputPolicy", norm_obs_keys=["vector"]),
    "float64": lambda: under_vec_normalize(Drawn(spaces.Box(-1e4, 1e4, (3,), np.float64))),
    "dict": lambda: of(Drawn(MIXED), "MultiInputPolicy"),
    "dict of one": lambda: of(Drawn(spaces.Dict(action=VECTOR)), "MultiInputPolicy"),
    "discrete": lambda: of(Drawn(spaces.Discrete(5))),
    "matrix": lambda: of(Drawn(spaces.Box(-1, 1, (2, 3)))),
    "image": lambda: of(Drawn(IMAGE), "CnnPolicy"),
    "image of the paper": lambda: of(Drawn(IMAGE), "PaperCnnPolicy", last_init="fan_in"),
    "image without preprocessing": lambda: of(Drawn(IMAGE), normalize_images=True),
    "dict with image": lambda: of(Drawn(spaces.Dict(camera=IMAGE, vector=VECTOR)), "MultiInputPolicy"),
    "asymmetric bounds": lambda: of(Drawn(action_space=spaces.Box(np.float32([-1, 0.1]), np.float32([0.7, 300])))),
    "narrow bounds far from 0": lambda: of(Drawn(action_space=spaces.Box(np.float32([1000]), np.float32([1001])))),
    "actions in float64": lambda: of(Drawn(action_space=spaces.Box(-2, 3, (2,), np.float64))),
    "matrix of actions": lambda: of(Drawn(action_space=spaces.Box(-2, 3, (2, 2)))),
    "lstm": lambda: recurrent(Drawn(), "MlpLstmPolicy"),
    "gru": lambda: recurrent(Drawn(), "MlpGruPolicy"),
    "lstm of two layers": lambda: recurrent(Drawn(), "MlpLstmPolicy", n_layers=2, hidden_size=12),
    "gru with reward, without action": lambda: recurrent(
        Drawn(), "MlpGruPolicy", previous_reward=True, previous_action=False, n_layers=2
    ),
    "lstm with reward": lambda: recurrent(Drawn(), "MlpLstmPolicy", previous_reward=True),
    "lstm, dict": lambda: recurrent(Drawn(MIXED), "MultiInputLstmPolicy", normalize_observations=True),
    "gru, image": lambda: recurrent(Drawn(IMAGE), "CnnGruPolicy"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A model, its VecNormalize or None, and an environment."""
    return CASES[request.param]()


def episode(model, normaliser, env, actor):
    """Actions of the model and of the exported actor, which sees raw observations, in an episode that the model acts in."""
    expected, actions = [], []
    state = own = None
    takes_reward = actor.about["previous_reward"]
    (obs, _), start, reward, over = env.reset(seed=3), np.ones(1, bool), np.zeros(1), False
    while not over:
        seen = obs if normaliser is None else normaliser.normalize_obs(obs)
        more = dict(previous_reward=reward) if takes_reward else {}
        action, state = model.predict(seen, state, start, deterministic=True, **more)
        mine, own = actor.predict(obs, own, start, deterministic=True, **more)
        expected.append(action)
        actions.append(mine)
        obs, reward, terminated, truncated, _ = env.step(action)
        reward, start, over = np.array([reward]), np.zeros(1, bool), terminated or truncated
    return np.array(expected), np.array(actions)


def agree(actions, expected, space):
    unit = 0.5 * (space.high.astype(np.float64) - space.low)
    assert actions.shape == expected.shape
    assert actions.dtype == expected.dtype
    np.testing.assert_allclose(actions / unit, expected / unit, rtol=0, atol=1e-5)


@of_each_format
def test_acts_as_the_model_in_a_whole_episode(case, format, tmp_path, capsys):
    """With one observation at a time, and states handed on."""
    model, normaliser, env = case
    path = tmp_path / "actor"
    card = export(model, path, format, vec_normalize=normaliser, env=env, n_observations=200)
    actor = load(tmp_path / card["file"])
    expected, actions = episode(model, normaliser, env, actor)
    assert len(expected) == 30
    unit = 0.5 * (env.action_space.high - env.action_space.low)
    assert (expected / unit).std(axis=0).max() > 0.02  # else anything would agree
    agree(actions, expected, env.action_space)
    assert (actions >= env.action_space.low).all()
    assert (actions <= env.action_space.high).all()
    assert "largest difference in 200 observations" in capsys.readouterr().out


@of_each_format
@pytest.mark.parametrize("cls", [sb3.DDPG, sb3.TD3], ids=["DDPG", "TD3"])
def test_models_of_sb3(cls, format, tmp_path):
    """Read from their zip file by ours, or as they are."""
    given = cls("MlpPolicy", Drawn(), policy_kwargs=SMALL, seed=0, buffer_size=100)
    spread(given).save(tmp_path / "sb3.zip")
    for name, model in (("own", given), ("loaded", DDPG.load(tmp_path / "sb3.zip", trusted=True))):
        card = export(model, tmp_path / name, format, env=Drawn(), n_observations=200, verbose=0)
        expected, actions = episode(given, None, Drawn(), load(tmp_path / card["file"]))
        agree(actions, expected, ACTIONS)


@of_each_format
def test_images_in_either_layout(format, tmp_path):
    """The environment's is the file's; the other one is taken, too, as Stable-Baselines3 does."""
    model, _, env = CASES["image"]()
    last, first = (load(tmp_path / export(model, tmp_path / name, format, env=given, verbose=0)["file"])
                   for name, given in (("last", env), ("first", None)))  # fmt: skip
    images = np.stack([IMAGE.sample() for _ in range(3)])
    expected, _ = model.predict(images)
    assert [actor.about["observation"][0]["layout"] for actor in (last, first)] == ["HWC", "CHW"]
    for actor in (last, first):
        agree(actor.predict(images)[0], expected, ACTIONS)
        agree(actor.predict(images.transpose(0, 3, 1, 2))[0], expected, ACTIONS)
        agree(actor.predict(images[0].transpose(2, 0, 1))[0], expected[0], ACTIONS)


@of_each_format
@pytest.mark.parametrize("name", ["plain", "dict with image", "lstm"])
def test_several_at_once(name, format, tmp_path):
    """A batch of any size, and for memories episodes that begin at different steps."""
    model, _, env = CASES[name]()
    actor = load(tmp_path / export(model, tmp_path / "actor", format, env=env, verbose=0)["file"])
    for n in (1, 2, 17):
        state = own = None
        for step in range(4):
            drawn = [env.observation_space.sample() for _ in range(n)]
            batch = {key: np.stack([one[key] for one in drawn]) for key in drawn[0]} if "dict" in name else np.stack(drawn)
            starts = np.arange(n) % 3 == step
            expected, state = model.predict(batch, state, starts)
            actions, own = actor.predict(batch, own, starts)
            agree(actions, expected, ACTIONS)
            assert (own is None) == (name != "lstm")


class Halved(BaseFeaturesExtractor):
    """An extractor that no list of operations has."""

    def __init__(self, observation_space):
        super().__init__(observation_space, 4)

    def forward(self, observations):
        return observations / 2


@of_each_format
def test_networks_of_a_users_own(format, tmp_path):
    """TorchScript traces them; the other formats name what they cannot express, and leave nothing."""
    model, env = make(Drawn(), features_extractor_class=Halved), Drawn()
    if format == "torchscript":
        actor = load(tmp_path / export(model, tmp_path / "actor", format, env=env, verbose=0)["file"])
        expected, actions = episode(model, None, env, actor)
        agree(actions, expected, ACTIONS)
        return
    with pytest.raises(NotExpressible, match=r"Halved is none of .*format='torchscript' traces any network"):
        export(model, tmp_path / "actor", format, env=env)
    assert not list(tmp_path.iterdir())


def test_changed_modules_are_refused(tmp_path):
    """A hook, or a method in place of a class's, is not in the list of operations."""
    for change in (
        lambda layer: layer.register_forward_hook(lambda *args: None),
        lambda layer: setattr(layer, "forward", abs),
    ):
        model = make(Drawn())
        change(model.policy.actor.mu[0])
        with pytest.raises(NotExpressible, match="Linear has hooks, or methods of its own"):
            export(model, tmp_path / "actor", "safetensors")


@of_each_format
@pytest.mark.parametrize("wrong", [2e-5, float("nan")])
def test_an_actor_that_differs_leaves_no_file(wrong, format, tmp_path, monkeypatch):
    """Nor does it take the place of an older one."""
    model = make(Drawn())
    old = tmp_path / f"old.{FORMATS[format].suffix}"
    old.write_text("older")
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda *args, **kwargs: (predict(*args, **kwargs)[0] + np.float32(wrong), None))
    for path in (old, tmp_path / "new"):
        with pytest.raises(ParityError, match="differs from the model by"):
            export(model, path, format)
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert old.read_text() == "older"
    if wrong < 1:
        assert export(model, old, format, tolerance=3e-5)["parity"]["tolerance"] == 3e-5


@of_each_format
def test_a_difference_in_an_episode_alone_is_found(format, tmp_path):
    """Observations of the environment are not those that its space says."""

    class Beyond(Drawn):
        def _draw(self):
            return np.full(4, 50, np.float32)

    model = make(Drawn())
    predict = model.predict
    model.predict = lambda obs, *args, **kwargs: (predict(obs, *args, **kwargs)[0] + np.float32(1e-3) * (obs.max() > 10), None)
    export(model, tmp_path / "good", format, env=Drawn())
    with pytest.raises(ParityError, match="an episode of 30 steps"):
        export(model, tmp_path / "bad", format, env=Beyond())


def test_the_card_says_what_there_is(tmp_path):
    """Names, shapes, bounds, versions, the differences that were found, and what is known of the training."""
    env = gym.make("Pendulum-v1")
    model = DDPG("MlpPolicy", env, policy_kwargs=SMALL | dict(normalize_observations=True), seed=5).learn(450)
    export(model, tmp_path / "actor.safetensors", "safetensors", env=env)
    card = json.loads((tmp_path / "actor.safetensors.json").read_text())
    assert card["environment"] == "Pendulum-v1"
    assert card["normalised"] == "the model"
    assert card["observation"] == [
        dict(key=None, name="observation", shape=[3], dtype="float32", space="Box", low=[-1, -1, -8], high=[1, 1, 8])
    ]
    assert (card["action"]["low"], card["action"]["high"], card["action"]["shape"]) == ([-2], [2], [1])
    assert card["bytes"] == (tmp_path / "actor.safetensors").stat().st_size
    assert set(card["parity"]["largest_difference"]) == {"1000 observations", "an episode of 200 steps"}
    assert card["training"]["steps"] == 450
    assert card["training"]["of_last_episodes"] == 2
    assert card["training"]["mean_return"] == np.mean([info["r"] for info in model.ep_info_buffer])
    assert set(card["versions"]) == {"sb3_ddpg_ext", "stable_baselines3", "torch", "numpy"}
    assert "Infinity" not in (tmp_path / "actor.safetensors.json").read_text()


@needs_onnx
def test_onnx_metadata(tmp_path):
    """What a program in another language finds: opset, names, dynamic batch, bounds."""
    model, _, env = CASES["lstm, dict"]()
    export(model, tmp_path / "actor.onnx", env=env)
    session = onnxruntime.InferenceSession(str(tmp_path / "actor.onnx"), providers=["CPUExecutionProvider"])
    inputs = {one.name: (one.type, one.shape) for one in session.get_inputs()}
    assert inputs["vector"] == ("tensor(float)", ["batch", 4])
    assert inputs["discrete"] == ("tensor(int64)", ["batch"])
    assert inputs["bits"] == ("tensor(int8)", ["batch", 3])
    assert inputs["state_h"] == inputs["state_c"] == ("tensor(float)", [1, "batch", 128])
    assert [one.name for one in session.get_outputs()] == ["action", "next_state_h", "next_state_c", "next_state_action"]
    about = json.loads(session.get_modelmeta().custom_metadata_map["actor"])
    assert about["opset"] == onnx.load(tmp_path / "actor.onnx").opset_import[0].version == 17
    assert about["action"]["low"] == [-1, -1]


def test_the_library_of_that_name_reads_safetensors(tmp_path):
    """The file is in its format, not in one that looks like it."""
    safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    model, normaliser, env = CASES["vec_normalize"]()
    export(model, tmp_path / "actor.safetensors", "safetensors", normaliser, env)
    _, ours = runtime.read(tmp_path / "actor.safetensors")
    theirs = safetensors_numpy.load_file(tmp_path / "actor.safetensors")
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    assert any(np.array_equal(array, model.policy.actor.mu[0].weight.detach()) for array in ours.values())


def test_runtime_needs_numpy_alone(tmp_path):
    """A copy of the file acts where torch and all that stands on it cannot be imported."""
    model, _, env = CASES["lstm, dict"]()
    export(model, tmp_path / "actor.safetensors", "safetensors", env=env)
    shutil.copy(runtime.__file__, tmp_path / "runtime.py")
    observations = {key: np.stack([part.sample() for _ in range(2)]) for key, part in MIXED.items()}
    np.savez(tmp_path / "observations.npz", **observations)
    code = """
import sys
for name in ("torch", "stable_baselines3", "gymnasium", "onnx", "sb3_ddpg_ext", "scipy", "pandas"):
    sys.modules[name] = None
before = set(sys.modules)
import numpy as np
from runtime import load
actor = load("actor.safetensors")
observations = dict(np.load("observations.npz"))
action, state = actor.predict(observations)
action, state = actor.predict(observations, state)
print(action.tolist())
top = {name.split(".")[0] for name in set(sys.modules) - before}
print(top - {"numpy", "runtime"} - set(sys.stdlib_module_names))
"""
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(Path(np.__file__).parent.parent)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    _, state = model.predict(observations)
    expected, _ = model.predict(observations, state)
    actions, others = result.stdout.splitlines()
    agree(np.array(json.loads(actions), np.float32), expected, ACTIONS)
    assert others == "set()"


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (dict(format="tflite"), ValueError, "format='tflite' must be one of"),
        (dict(model="model.zip"), TypeError, "model='model.zip' must be a DDPG or a TD3"),
        (dict(model=sb3.SAC("MlpPolicy", Drawn(), buffer_size=1)), TypeError, "must be a DDPG or a TD3"),
        (dict(vec_normalize=3), TypeError, "vec_normalize=3 must be a VecNormalize, or the path of a saved one"),
        (dict(env=3), TypeError, "env=3 must be an environment"),
        (dict(env=Drawn(MIXED)), ValueError, "has the observations Dict"),
        (dict(env=Drawn(spaces.Box(-1, 1, (5,)))), ValueError, r"observations have the shape \(5,\), the model's \(4,\)"),
        (dict(env=Drawn(action_space=spaces.Box(-1, 1, (3,)))), ValueError, "has the actions Box"),
        (dict(n_observations=0), ValueError, "n_observations=0 must be"),
        (dict(tolerance=0), ValueError, "tolerance=0 must be"),
    ],
    ids=range(10),
)
def test_errors_of_export(kwargs, error, message, tmp_path):
    """They name the argument, its value and what is allowed, and leave no file."""
    with pytest.raises(error, match=message):
        export(**(dict(model=make(Drawn()), path=tmp_path / "actor", format="safetensors") | kwargs))
    assert not list(tmp_path.iterdir())


def test_stacks_of_normalised_frames_are_refused(tmp_path):
    """One raw observation is not what the model has seen."""
    normalised = VecNormalize(DummyVecEnv([Drawn]))
    stacked = VecFrameStack(normalised, 2)
    model = make(stacked)
    with pytest.raises(ValueError, match="VecNormalize must be its outermost wrapper"):
        export(model, tmp_path / "actor", "safetensors", env=stacked)
    with pytest.raises(ValueError, match=r"have the shape \(4,\), the model's \(8,\); .* VecFrameStack, cannot be exported"):
        export(model, tmp_path / "actor", "safetensors", vec_normalize=normalised)


@of_each_format
def test_errors_of_predict(format, tmp_path):
    """For observations and states of another shape, and a reward that is missing."""

    def loaded(name):
        model, _, _ = CASES[name]()
        return load(tmp_path / export(model, tmp_path / name, format, verbose=0)["file"])

    with pytest.raises(ValueError, match=r"'observation' has the shape \(5,\); it must be \(4,\), or several of these"):
        loaded("plain").predict(np.zeros(5))
    with pytest.raises(ValueError, match=r"observation must be a dict with the keys \['action'\]"):
        loaded("dict of one").predict(np.zeros(4))
    actor = loaded("lstm with reward")
    _, state = actor.predict(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="state has the shapes"):
        actor.predict(np.zeros((3, 4)), state)
    with pytest.raises(ValueError, match="previous_reward=None must be the rewards"):
        actor.predict(np.zeros((2, 4)), state)


@pytest.mark.parametrize("damage", [b"", b"\x10\0\0\0\0\0\0\0{", b"\xff" * 8 + b"{}", b"\x02\0\0\0\0\0\0\0{}"], ids=range(4))
def test_damaged_files(damage, tmp_path):
    """They are named, and no array is made of what is not there."""
    (tmp_path / "actor.safetensors").write_bytes(damage)
    with pytest.raises(ValueError, match=r"actor\.safetensors' must be an actor exported"):
        runtime.load(tmp_path / "actor.safetensors")


@of_each_format
def test_files_cut_short(format, tmp_path):
    """A file of any format, and a model's own, which is none."""
    model = make(Drawn())
    path = tmp_path / export(model, tmp_path / "actor", format, verbose=0)["file"]
    path.write_bytes(path.read_bytes()[:-200])
    model.save(tmp_path / "model.zip")
    for wrong in (path, tmp_path / "model.zip"):
        with pytest.raises(ValueError, match=f"path='{wrong}' must be an"):
            load(wrong)


def test_files_of_another_version(tmp_path):
    """They say which there is."""
    export(make(Drawn()), tmp_path / "actor.safetensors", "safetensors")
    content = (tmp_path / "actor.safetensors").read_bytes()
    (tmp_path / "actor.safetensors").write_bytes(content.replace(b'\\"version\\": 1', b'\\"version\\": 9'))
    with pytest.raises(ValueError, match=r"has the format and version \('sb3_ddpg_ext actor', 9\); they must be"):
        load(tmp_path / "actor.safetensors")


def test_exporting_changes_nothing(tmp_path):
    """Neither parameters and statistics, nor what is drawn next."""
    model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=SMALL | dict(actor_norm="batch"), seed=0).learn(150)
    before, draw = (
        {name: tensor.clone() for name, tensor in model.policy.state_dict().items()},
        np.random.get_state()[1].copy(),
    )
    requires_grad = [parameter.requires_grad for parameter in model.policy.parameters()]
    for format in ("safetensors", "torchscript"):
        export(model, tmp_path / format, format)
    assert all(th.equal(before[name], tensor) for name, tensor in model.policy.state_dict().items())
    assert requires_grad == [parameter.requires_grad for parameter in model.policy.parameters()]
    assert (np.random.get_state()[1] == draw).all()


def command(*arguments, cwd):
    result = subprocess.run(
        [sys.executable, "-m", "sb3_ddpg_ext", "export", *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.slow
def test_command_of_a_model(tmp_path):
    """Statistics beside the model are found, wrappers and SB3's files are taken, and errors are a line."""
    env = VecNormalize(make_vec_env("Pendulum-v1"))
    RecurrentDDPG("MlpLstmPolicy", env, policy_kwargs=SMALL, seed=0).learn(100).save(tmp_path / "model.zip")
    env.save(tmp_path / "model_vecnormalize.pkl")
    code, output = command("model.zip", "--format", "safetensors", "--env", "Pendulum-v1", cwd=tmp_path)
    assert code == 0, output
    assert "Normalised by model_vecnormalize.pkl" in output
    assert "an episode of 200 steps" in output
    assert json.loads((tmp_path / "model.safetensors.json").read_text())["normalised"] == "VecNormalize"
    sb3.TD3("MlpPolicy", "Pendulum-v1", policy_kwargs=SMALL).save(tmp_path / "td3.zip")
    wrapper = "sb3_ddpg_ext.wrappers.ScaledObservations"
    code, output = command(
        "td3.zip", "--format", "torchscript", "--out", "a.pt", "--env", "Pendulum-v1", "--env-wrappers", wrapper, cwd=tmp_path
    )
    assert code == 0, output
    assert (tmp_path / "a.pt").exists()
    odd = ["td3.zip", "--env", "Pendulum-v1", "--env-kwargs", "nonsense:1"]
    for arguments, message in (
        (odd, "--env Pendulum-v1: "), (["none.zip"], "none.zip is not there"), ([], "export needs MODEL.zip, or --env and -f")
    ):  # fmt: skip
        code, output = command(*arguments, cwd=tmp_path)
        assert code == 1
        assert message in output


def test_bench_measures_each_format(tmp_path, monkeypatch, capsys):
    """A row for predict and each format; a second time, the rows of a label are replaced."""
    monkeypatch.setattr(exported, "ROUNDS", 1)
    monkeypatch.setattr(exported, "SECONDS", 1e-3)
    models = {"small": CASES["plain"](), "memory": CASES["vec_normalize and memory"]()}
    for label in ("small", "memory", "small"):
        model, normaliser, env = models[label]
        exported.measure(model, normaliser, env, label, tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    formats = ["predict", *(name for name in FORMATS if name != "onnx" or onnx is not None)]
    assert [(row["label"], row["format"]) for row in rows] == [
        (label, name) for label in ("memory", "small") for name in formats
    ]
    assert all(row["microseconds"] > 0 for row in rows)
    assert all((row["bytes"] > 1000) == (row["format"] != "predict") for row in rows)
    assert "`model.predict`" in capsys.readouterr().out


@pytest.mark.slow
@of_each_format
def test_return_on_an_environment_of_rl_zoo3(format, tmp_path):
    """Trained by rl_zoo3 with VecNormalize, exported from its folder: the same returns as evaluate_policy's."""
    pytest.importorskip("rl_zoo3", reason="rl_zoo3 is not installed")
    train = [sys.executable, "-m", "sb3_ddpg_ext.zoo", "train", "--algo", "ddpg_ext", "--env", "Pendulum-v1", "-n", "1500",
             "--eval-freq", "-1", "--seed", "0", "-f", "logs", "-params", "normalize:True"]  # fmt: skip
    subprocess.run(train, cwd=tmp_path, check=True, capture_output=True)
    code, output = command("--algo", "ddpg_ext", "--env", "Pendulum-v1", "-f", "logs", "--format", format, cwd=tmp_path)
    assert code == 0, output
    (statistics,) = tmp_path.rglob("vecnormalize.pkl")
    (path,) = tmp_path.rglob("Pendulum-v1.zip")
    normalised = VecNormalize.load(str(statistics), make_vec_env("Pendulum-v1", seed=7))
    normalised.training = normalised.norm_reward = False
    expected, _ = evaluate_policy(DDPG.load(path), normalised, 10, return_episode_rewards=True)
    actor = load(tmp_path / f"Pendulum-v1.{FORMATS[format].suffix}")
    returns, _ = evaluate_policy(actor, make_vec_env("Pendulum-v1", seed=7), 10, return_episode_rewards=True)
    np.testing.assert_allclose(returns, expected, rtol=1e-4)
    assert np.std(expected) > 1

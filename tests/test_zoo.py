"""rl_zoo3's own commands, in subprocesses as a user runs them, from another folder and without -conf."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import optuna
import pytest
import yaml
from gymnasium import spaces
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rl_zoo3.utils import get_callback_list
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv

from sb3_ddpg_ext import DDPG, RecurrentDDPG, zoo
from sb3_ddpg_ext.buffers import HindsightReplayBuffer
from sb3_ddpg_ext.cli.bench.buffers import Goals
from sb3_ddpg_ext.cli.plot.curves import read_folder
from sb3_ddpg_ext.noise import AdaptiveParameterNoise, OrnsteinUhlenbeckNoise
from sb3_ddpg_ext.presets import ABOUT, load_preset
from sb3_ddpg_ext.schedules import Exponential
from sb3_ddpg_ext.zoo import ALGO, convert_params, sample_params, sample_recurrent_params

RL_ZOO3 = Path(sys.executable).with_name("rl_zoo3")
QUICK = ["-params", "learning_starts:50", "buffer_size:1000", "policy_kwargs:dict(net_arch=[16])"]
CONFIG = {key: block for key, block in yaml.safe_load(load_preset(ALGO).path.read_text()).items() if key != ABOUT}


def run(*command, cwd, env=None, ok=True):
    """Run a command in a folder of its own and return what it printed."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy", "MPLBACKEND": "Agg"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = result.stdout + result.stderr
    assert (result.returncode == 0) == ok, output
    return output


def train(cwd, *more, steps=300, with_params=True, **kwargs):
    return run(
        RL_ZOO3, "train", "--algo", ALGO, "--env", "Pendulum-v1", "-n", steps, "--eval-freq", 200, "--eval-episodes", 1,
        "--seed", 0, *QUICK * with_params, *more, cwd=cwd, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which ``rl_zoo3 train`` ran, and what it printed."""
    cwd = tmp_path_factory.mktemp("zoo")
    return cwd, train(cwd, "--save-replay-buffer", "--progress", "-tb", "tb")


def test_train_finds_algorithm_and_hyperparameters(trained):
    """The plain command knows ddpg_ext and takes our YAML file."""
    cwd, output = trained
    assert f"Loading hyperparameters from: {load_preset(ALGO).path}" in output
    assert "('gamma', 0.98)" in output
    assert (cwd / "logs/ddpg_ext/Pendulum-v1_1/best_model.zip").exists()
    model = DDPG.load(cwd / "logs/ddpg_ext/Pendulum-v1_1/Pendulum-v1.zip")
    assert (model.num_timesteps, model._n_updates) == (300, 250)
    assert list((cwd / "tb" / "Pendulum-v1" / "DDPG_1").iterdir())


def test_enjoy(trained):
    """``rl_zoo3 enjoy`` plays the agent."""
    agent = ("--algo", ALGO, "--env", "Pendulum-v1", "-f", "logs")
    output = run(RL_ZOO3, "enjoy", *agent, "--no-render", "-n", 401, cwd=trained[0])
    assert "2 Episodes" in output


def test_continue_training(trained):
    """``-i`` goes on from a saved agent and its buffer, without random actions: from the first step it updates."""
    agent = "logs/ddpg_ext/Pendulum-v1_1/Pendulum-v1.zip"
    output = train(trained[0], "-i", agent, "-f", "continued", steps=100)
    assert "Loading replay buffer" in output
    assert DDPG.load(trained[0] / "continued/ddpg_ext/Pendulum-v1_1/Pendulum-v1.zip")._n_updates == 350


def test_checkpoint_goes_on_exactly(tmp_path):
    """
    ``-i`` with a checkpoint ends where the training would have ended that was not stopped, evaluations included. Arguments of
    the environment are in args.yml, too, where ``record_video`` looks for them.
    """
    (tmp_path / "c.yml").write_text(
        "Pendulum-v1:\n  n_timesteps: 600\n  policy: MlpPolicy\n  n_envs: 2\n  normalize: true\n  action_noise: pink_0.3\n"
        "  learning_starts: 50\n  policy_kwargs: dict(net_arch=[16])\n  env_kwargs: {g: 9.5}\n"
        "  callback: [{sb3_ddpg_ext.checkpoint.ExactCheckpoint: {path: kept, every: 200, keep: 9}}]\n"
    )
    for more in (("-f", "whole"), ("-f", "second", "-i", tmp_path / "kept" / "checkpoint_400_steps.zip")):
        train(tmp_path, "-conf", "c.yml", *more, steps=600, with_params=False)
    folders = [tmp_path / which / "ddpg_ext/Pendulum-v1_1" for which in ("whole", "second")]
    whole, second = (DDPG.load(folder / "Pendulum-v1.zip") for folder in folders)
    assert whole.num_timesteps == second.num_timesteps == 600
    assert " g: 9.5\n" in (folders[0] / "Pendulum-v1" / "args.yml").read_text()
    for one, other in zip(whole.policy.state_dict().values(), second.policy.state_dict().values(), strict=True):
        np.testing.assert_array_equal(one, other)
    evaluated = [np.load(folder / "evaluations.npz")["results"] for folder in folders]
    np.testing.assert_array_equal(*evaluated)


def test_plot_train(trained):
    """``rl_zoo3 plot_train`` draws the Monitor files."""
    run(RL_ZOO3, "plot_train", "-a", ALGO, "-e", "Pendulum", "-f", "logs", "-w", 1, cwd=trained[0])


@pytest.mark.slow
def test_record_video(trained):
    """``python -m rl_zoo3.record_video`` films the agent."""
    run(
        sys.executable, "-m", "rl_zoo3.record_video", "--algo", ALGO, "--env", "Pendulum-v1", "-f", "logs", "-n", 20,
        "-o", "videos", cwd=trained[0],
    )  # fmt: skip
    (video,) = (trained[0] / "videos").glob("*.mp4")
    assert video.stat().st_size > 1000


def test_report(trained):
    """``python -m sb3_ddpg_ext report`` says the verdict in one line, and leaves a curve, a film and a row."""
    output = run(
        sys.executable, "-m", "sb3_ddpg_ext", "report", "--env", "Pendulum-v1", "-n", 3,
        "--png", "a/curve.png", "--gif", "a/film.gif", "--csv", "a/rows.csv", cwd=trained[0],
    )  # fmt: skip
    assert re.search(
        r"^EVALUATED Pendulum-v1: mean return -[\d.]+ \+/- [\d.]+ over 3 evaluation episodes, "
        r"the environment has no threshold; 1 training episodes, 200 steps$",
        output,
        re.MULTILINE,
    )
    header, row = (trained[0] / "a/rows.csv").read_text().splitlines()
    assert header.startswith("env,algo,seed,mean_return")
    assert row.startswith("Pendulum-v1,ddpg_ext,0,-")
    assert (trained[0] / "a/curve.png").read_bytes().startswith(b"\x89PNG")
    assert (trained[0] / "a/film.gif").read_bytes().startswith(b"GIF89a")


def test_the_latest_experiment_with_a_model_is_taken(trained, tmp_path):
    """A search leaves folders without one, which report, enjoy and record_video pass over and count."""
    logs = shutil.copytree(trained[0] / "logs", tmp_path / "logs")
    for number in (2, 3):
        (logs / ALGO / f"Pendulum-v1_{number}" / "Pendulum-v1").mkdir(parents=True)
    agent = ("--algo", ALGO, "--env", "Pendulum-v1", "-f", "logs")
    line = "Loading experiment 1, the latest with a model; 2 after it have none"
    assert line in run(sys.executable, "-m", "sb3_ddpg_ext", "report", *agent, "-n", 1, cwd=tmp_path)
    assert line in run(RL_ZOO3, "enjoy", *agent, "--no-render", "-n", 5, cwd=tmp_path)
    video = run(sys.executable, "-m", "rl_zoo3.record_video", *agent, "-n", 5, "-o", "videos", cwd=tmp_path)
    assert line in video
    shutil.rmtree(logs / ALGO / "Pendulum-v1_1")
    output = run(sys.executable, "-m", "sb3_ddpg_ext", "report", *agent, cwd=tmp_path, ok=False)
    assert "no agent to report on: No model found for ddpg_ext on Pendulum-v1" in output


def test_train_command_without_a_finished_episode(tmp_path):
    """``python -m sb3_ddpg_ext train`` trains and reports; 20 steps are no episode, so there is no curve."""
    (tmp_path / "mine.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Mine-v0', entry_point='gymnasium.envs.classic_control:PendulumEnv', max_episode_steps=50)\n"
    )
    arguments = ("--env", "Mine-v0", "-n", 20, "--gym-packages", "mine", "-f", "out", "--n-episodes", 2)
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    output = run(sys.executable, "-m", "sb3_ddpg_ext", "train", *arguments, cwd=tmp_path, env=path)
    assert "Learning curve: none, as no training episode has come to its end" in output
    assert "EVALUATED Mine-v0: mean return" in output
    assert (tmp_path / "out/Mine-v0.gif").read_bytes().startswith(b"GIF89a")
    assert not (tmp_path / "out/Mine-v0.png").exists()
    assert "XDG_RUNTIME_DIR" not in output
    report = ("--env", "Mine-v0", "-f", "out", "-n", 1)
    assert "EVALUATED" in run(
        sys.executable, "-m", "sb3_ddpg_ext", "report", *report, "--gym-packages", "mine", cwd=tmp_path, env=path
    )
    assert "--gym-packages nowhere cannot be imported" in run(
        sys.executable, "-m", "sb3_ddpg_ext", "report", *report, "--gym-packages", "nowhere", cwd=tmp_path, ok=False
    )


def test_only_box_actions(tmp_path):
    """An environment with other actions gets our error, not an assertion about rl_zoo3's noise."""
    output = run(RL_ZOO3, "train", "--algo", ALGO, "--env", "CartPole-v1", "-n", 10, cwd=tmp_path, ok=False)
    assert "ValueError: env.action_space=Discrete(2) must be a gymnasium.spaces.Box" in output


def test_plot_curves_reads_the_logs(trained):
    """rl_zoo3's own folder, that of the algorithm in it, and one experiment: the label is the algorithm."""
    for folder in ("logs", f"logs/{ALGO}", f"logs/{ALGO}/Pendulum-v1_1"):
        runs = read_folder(trained[0] / folder)
        assert {key: list(evaluations) for key, evaluations in runs.items()} == {(ALGO, "0"): [200]}
    command = ("plot", "curves", "logs", "--env", "Pendulum-v1", "--png", "curves.png")
    assert "Curves: curves.png" in run(sys.executable, "-m", "sb3_ddpg_ext", *command, cwd=trained[0])


def test_push_to_hub_as_far_as_the_network(trained):
    """``python -m sb3_ddpg_ext.zoo push_to_hub`` evaluates, writes model, configuration and card, and uploads that folder."""
    (trained[0] / "push.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom huggingface_hub import HfApi\nfrom sb3_ddpg_ext import zoo\n"
        "HfApi.create_repo = lambda self, **kwargs: print('CREATE', kwargs['repo_id'])\n"
        "HfApi.snapshot_download = lambda self, repo_id, local_dir: Path(local_dir).mkdir(parents=True)\n"
        "HfApi.upload_folder = lambda self, repo_id, folder_path, commit_message: print('UPLOAD', repo_id, folder_path)\n"
        "zoo.main()\n"
    )
    agent = ("--algo", ALGO, "--env", "Pendulum-v1", "-f", "logs", "-orga", "me", "--no-render", "-n", 5)
    output = run(sys.executable, "push.py", "push_to_hub", *agent, cwd=trained[0])
    assert "CREATE me/ddpg_ext-Pendulum-v1" in output
    assert "UPLOAD me/ddpg_ext-Pendulum-v1 hub/ddpg_ext-Pendulum-v1" in output
    folder = trained[0] / "hub/ddpg_ext-Pendulum-v1"
    assert DDPG.load(folder / "ddpg_ext-Pendulum-v1.zip").num_timesteps == 300
    card = (folder / "README.md").read_text()
    assert "library_name: stable-baselines3" in card
    assert "mean_reward" in card
    assert (folder / "config.yml").is_file()


def test_recurrent(tmp_path):
    """The algorithm with a memory has a name and a YAML file too; ``enjoy`` hands its state on."""
    agent = ("--algo", "ddpg_ext_lstm", "--env", "PendulumNoVel-v1")
    quick = ("-params", "learning_starts:50", "policy_kwargs:dict(net_arch=[8], hidden_size=8)")
    output = run(RL_ZOO3, "train", *agent, "-n", 300, "--eval-freq", 200, "--eval-episodes", 1, *quick, cwd=tmp_path)
    assert f"Loading hyperparameters from: {load_preset('ddpg_ext_lstm').path}" in output
    assert "2 Episodes" in run(RL_ZOO3, "enjoy", *agent, "-f", "logs", "--no-render", "-n", 401, cwd=tmp_path)


@pytest.mark.slow
def test_collection_on_ray(tmp_path):
    """A collector in a configuration file of the user's: rl_zoo3 trains, evaluates and saves as often as was asked for."""
    pytest.importorskip("ray", reason="Ray is an extra of its own: pip install 'sb3_ddpg_ext[ray]'")
    block = dict(
        n_timesteps=600.0, policy="MlpPolicy", learning_starts=100, policy_kwargs="dict(net_arch=[8])", normalize=True,
        n_envs=2, collector=dict(kind="ray", n_workers=1, envs_per_worker=2, chunk=10, num_cpus=0.5), gradient_steps=-1,
    )  # fmt: skip
    (tmp_path / "ray.yml").write_text(yaml.safe_dump({"Pendulum-v1": block}))
    output = run(
        RL_ZOO3, "train", "--algo", ALGO, "--env", "Pendulum-v1", "--n-timesteps", 600, "--conf-file", "ray.yml",
        "--eval-freq", 300, "--eval-episodes", 1, "--save-freq", 400, cwd=tmp_path,
    )  # fmt: skip
    assert "Loading hyperparameters from: ray.yml" in output
    folder = tmp_path / "logs" / ALGO / "Pendulum-v1_1"
    assert np.load(folder / "evaluations.npz")["timesteps"].tolist() == [300, 600]
    assert (folder / "rl_model_400_steps.zip").exists()
    model = DDPG.load(folder / "Pendulum-v1.zip", trusted=False)
    assert (model.num_timesteps, model.collector.n_envs, model._n_updates) == (600, 2, 500)


def test_weights_and_biases_flags(tmp_path):
    """``--track`` reaches wandb with the run's arguments and our hyperparameters (a stand-in records the calls)."""
    (tmp_path / "wandb.py").write_text(
        "import json, types\n"
        "def init(**kwargs):\n"
        "    print('INIT', kwargs['project'], kwargs['config']['algo'])\n"
        "    return types.SimpleNamespace(config=types.SimpleNamespace(setdefaults=lambda args: print(\n"
        "        'CONFIG', json.dumps(args['saved_hyperparams']['gamma']))))\n"
    )
    output = train(tmp_path, "--track", "--wandb-project-name", "mine", steps=10, env={"PYTHONPATH": str(tmp_path)})
    assert "INIT mine ddpg_ext" in output
    assert "CONFIG 0.98" in output
    assert list(tmp_path.glob("runs/Pendulum-v1__ddpg_ext__0__*"))


@pytest.mark.parametrize("variable", ["SB3_DDPG_EXT_AUTOLOAD", "TORCH_DEVICE_BACKEND_AUTOLOAD"])
def test_registration_can_be_switched_off(tmp_path, variable):
    """Either variable leaves rl_zoo3 as it was."""
    output = run(RL_ZOO3, "train", "--algo", ALGO, "--help", cwd=tmp_path, env={variable: "0"}, ok=False)
    assert "invalid choice: 'ddpg_ext'" in output


def test_explicit_way(tmp_path):
    """``python -m sb3_ddpg_ext.zoo`` works with the automatic registration switched off."""
    switched_off = {"SB3_DDPG_EXT_AUTOLOAD": "0"}
    assert "ddpg_ext" in run(sys.executable, "-m", "sb3_ddpg_ext.zoo", "train", "--help", cwd=tmp_path, env=switched_off)
    help_text = run(sys.executable, "-m", "sb3_ddpg_ext.zoo", "record_video", "--help", cwd=tmp_path, env=switched_off)
    assert "ddpg_ext" in help_text
    assert "usage" in run(sys.executable, "-m", "sb3_ddpg_ext.zoo", cwd=tmp_path, ok=False)


def test_explicit_configuration_wins(tmp_path):
    """``-conf`` is taken, and other algorithms keep their own files."""
    (tmp_path / "mine.yml").write_text("Pendulum-v1: {n_timesteps: 10, policy: MlpPolicy, buffer_size: 50}")
    assert "Loading hyperparameters from: mine.yml" in train(tmp_path, "-conf", "mine.yml", steps=10)
    output = run(RL_ZOO3, "train", "--algo", "ddpg", "--env", "Pendulum-v1", "-n", 10, "--eval-freq", -1, cwd=tmp_path)
    assert re.search(r"Loading hyperparameters from: \S*rl_zoo3/hyperparams/ddpg.yml", output)


def test_import_torch_survives_a_broken_library(tmp_path):
    """With our package unimportable, torch and rl_zoo3's own algorithms work, and a warning says why."""
    code = (
        "import sys; sys.modules['sb3_ddpg_ext.ddpg'] = None; import torch; from rl_zoo3.train import train; "
        "sys.argv = ['train', '--algo', 'ddpg', '--env', 'Pendulum-v1', '-n', '5', '--eval-freq', '-1']; train()"
    )
    output = run(sys.executable, "-c", code, cwd=tmp_path)
    assert "sb3_ddpg_ext could not be registered in rl_zoo3" in output


def test_registration_loads_nothing_by_itself(tmp_path):
    """``import torch`` imports one small file of ours, neither the package nor SB3."""
    ours_or_heavy = "('sb3_ddpg_ext', '_sb3_ddpg_ext', 'stable_baselines3', 'rl_zoo3')"
    code = f"import sys, torch; print(*sorted(name for name in sys.modules if name.startswith({ours_or_heavy})))"
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip() == "_sb3_ddpg_ext_autoload"


def test_import_torch_survives_a_file_of_our_name(tmp_path):
    """A script's folder may hold a sb3_ddpg_ext.py."""
    (tmp_path / "sb3_ddpg_ext.py").write_text("raise RuntimeError")
    run(sys.executable, "-c", "import torch", cwd=tmp_path)


def test_looking_for_the_module_does_not_use_up_the_hook(tmp_path):
    """``importlib.util.find_spec`` on rl_zoo3's module, then its import: registered, and the finder gone."""
    code = (
        "import sys, torch; from importlib.util import find_spec; find_spec('rl_zoo3.exp_manager'); "
        "import rl_zoo3.exp_manager as m; print('ddpg_ext' in m.ALGOS, [f for f in sys.meta_path if 'Register' in str(f)])"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path).strip().endswith("True []")


def test_noise_of_the_command_line_wins(tmp_path):
    """``-params action_noise`` replaces the noise of the YAML file."""
    # QUICK ends with -params
    train(tmp_path, "action_noise:'adaptive-param_0.2, ou_0.3'", "learning_rate:'exp_1e-3_0.99'", steps=5)
    model = DDPG.load(tmp_path / "logs/ddpg_ext/Pendulum-v1_1/Pendulum-v1.zip")
    assert repr(model.action_noise.parts) == repr([AdaptiveParameterNoise(0.2), OrnsteinUhlenbeckNoise(0.3)])
    assert model.lr_schedule == Exponential(1e-3, 0.99)


def test_register_twice_is_once():
    """The second call changes nothing."""
    from rl_zoo3.exp_manager import ExperimentManager

    zoo.register()
    init = ExperimentManager.__init__
    zoo.register()
    assert ExperimentManager.__init__ is init


# --- optimisation -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_optimize(tmp_path):
    """``-optimize`` runs trials with our sampler, and --trial-id builds an agent from one of them."""
    storage = ["--storage", "study.log", "--study-name", "pendulum"]
    trials = ["--n-trials", 2, "--n-evaluations", 1, "--no-optim-plots", "--sampler", "random"]
    output = train(tmp_path, "-optimize", *trials, *storage)
    assert "Number of finished trials:  2" in output
    knobs = "learning_rate qf_learning_rate noise_kind noise_std tau batch_size_pow net_arch train_freq"
    assert all(f" {knob}: " in output for knob in knobs.split())
    study = optuna.load_study(study_name="pendulum", storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))
    for trial in study.trials[1:]:  # rl_zoo3 takes --trial-id 0 for none; -optimize made the first folder
        train(tmp_path, "--trial-id", trial.number, *storage, steps=5)
        model = DDPG.load(tmp_path / f"logs/ddpg_ext/Pendulum-v1_{trial.number + 1}/Pendulum-v1.zip")
        assert model.lr_schedule(1) == trial.params["learning_rate"]
        assert model.qf_lr_schedule(1) == trial.params["qf_learning_rate"]
        noise = model.action_noise
        sigma = "none" if noise is None else noise.target if noise.parameter_noise else noise.sigma
        assert sigma == ("none" if trial.params["noise_kind"] == "none" else pytest.approx(trial.params["noise_std"]))


@pytest.mark.parametrize("her", ["none", "sb3", "ours"])
def test_every_sample_makes_a_model(her):
    """Whatever is drawn is accepted by the constructor, and the stored parameters give the same arguments again."""
    additional_args = {"using_her_replay_buffer": her == "sb3", "her_kwargs": {"n_sampled_goal": 4} if her == "ours" else {}}
    kinds = set()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(16):
        trial = study.ask()
        params = sample_params(trial, n_actions=1, n_envs=1, additional_args=additional_args)
        study.tell(trial, 0.0)
        assert convert_params(study.trials[-1].params) == params
        env, policy = "Pendulum-v1", "MlpPolicy"
        if her != "none":
            env, policy = BitFlippingEnv(n_bits=2, continuous=True), "MultiInputPolicy"
            params["replay_buffer_class"] = HerReplayBuffer if her == "sb3" else HindsightReplayBuffer
            assert params["replay_buffer_kwargs"].keys() == {"n_sampled_goal", "goal_selection_strategy"}
        model = DDPG(policy, env, buffer_size=10, device="cpu", **params)
        kinds.add(type(model.action_noise).__name__)
    noises = {"GaussianNoise", "OrnsteinUhlenbeckNoise", "ColouredNoise", "AdaptiveParameterNoise"}
    assert kinds == {"NoneType"} | noises


def test_every_sample_makes_a_model_with_a_memory():
    """Noise in parameters is not among what is drawn, and batches are of sequences."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(8):
        trial = study.ask()
        params = sample_recurrent_params(trial, n_actions=1, n_envs=1, additional_args={})
        study.tell(trial, 0.0)
        assert convert_params(study.trials[-1].params) == params
        model = RecurrentDDPG("MlpLstmPolicy", "Pendulum-v1", buffer_size=10, device="cpu", **params)
        assert model.batch_size <= 64
        assert 8 <= model.replay_buffer.sequence_length <= 128


# --- hyperparameters --------------------------------------------------------------------------------------------------------


def test_has_every_environment_of_the_zoo():
    """And the MuJoCo v5 tasks and goal environments beside them."""
    import rl_zoo3

    theirs = yaml.safe_load((Path(rl_zoo3.__file__).parent / "hyperparams" / "ddpg.yml").read_text())
    mujoco = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid", "Swimmer", "InvertedPendulum", "InvertedDoublePendulum",
              "Reacher", "Pusher")  # fmt: skip
    ours = {*theirs, *(f"{name}-v5" for name in mujoco), "PandaReach-v3", "PandaPush-v3"}
    assert ours <= CONFIG.keys()


def test_every_block_says_where_its_values_come_from():
    """A comment stands directly above each."""
    lines = load_preset(ALGO).path.read_text().splitlines()
    for i, line in enumerate(lines):
        if re.match(r"\S+:", line):
            assert lines[i - 1].startswith("# "), line


def test_default_fits_any_box_environment():
    """A box environment that no block names trains with ``default``."""
    kwargs = {key: value for key, value in CONFIG["default"].items() if key not in ("n_timesteps", "noise_type", "noise_std")}
    kwargs["policy_kwargs"] = eval(kwargs["policy_kwargs"])
    env = gym.make("Pendulum-v1")
    env.action_space = spaces.Box(-3, 1, (4,))
    DDPG(env=env, device="cpu", **kwargs)


@pytest.mark.parametrize("env_id", CONFIG)
def test_every_block_makes_a_model(env_id):
    """The keys are known to rl_zoo3 or to the constructor, and the values pass its checks."""
    config = dict(CONFIG[env_id])
    assert int(config.pop("n_timesteps")) > 0
    assert isinstance(eval(config.pop("normalize", "{}")), dict)
    assert len(get_callback_list({"callback": config.pop("callback", None)})) <= 1
    if "action_noise" not in config:
        assert config.pop("noise_type") in ("normal", "ornstein-uhlenbeck")
        assert config.pop("noise_std") > 0
    for key in ("policy_kwargs", "replay_buffer_kwargs", "replay_buffer_class"):
        if key in config:
            config[key] = eval(config[key])
    env = Goals(gym.make("Pendulum-v1")) if config["policy"] == "MultiInputPolicy" else "Pendulum-v1"
    DDPG(env=env, device="cpu", **config | {"buffer_size": 10})

"""Blocks of rl_zoo3's YAML files become what rl_zoo3 train makes of them."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.experiment import evaluate_text, make_experiment, merge

SMALL = {"policy": "MlpPolicy", "learning_starts": 50, "policy_kwargs": {"net_arch": [8]}}


def test_same_model_as_by_hand():
    """A block without extras trains the same parameters as DDPG with these arguments in an environment of the same seed."""
    experiment = make_experiment(SMALL | {"n_timesteps": 300}, "Pendulum-v1", seed=3, device="cpu")
    experiment.model.learn(experiment.n_timesteps)
    env = make_experiment(SMALL | {"n_timesteps": 300}, "Pendulum-v1", seed=3, device="cpu").model.get_env()
    by_hand = DDPG("MlpPolicy", env, learning_starts=50, policy_kwargs={"net_arch": [8]}, seed=3, device="cpu").learn(300)
    for ours, theirs in zip(experiment.model.policy.parameters(), by_hand.policy.parameters(), strict=True):
        assert th.equal(ours, theirs)


def test_wrappers_normalisation_and_callbacks():
    """env_wrapper, normalize, n_envs, callback and noise_type mean what they mean to rl_zoo3; evaluation sees raw rewards."""
    block = SMALL | {
        "n_timesteps": 1e4,
        "n_envs": 2,
        "normalize": "dict(norm_obs=True, norm_reward=True)",
        "env_wrapper": [{"gymnasium.wrappers.RescaleAction": {"min_action": -0.5, "max_action": 0.5}}],
        "callback": [{"stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes": {"max_episodes": 7}}],
        "noise_type": "normal",
        "noise_std": 0.3,
        "gamma": 0.9,
    }
    before = repr(block)
    experiment = make_experiment(block, "Pendulum-v1")
    assert repr(block) == before
    env = experiment.model.get_env()
    assert isinstance(env, VecNormalize)
    assert env.norm_reward
    assert env.gamma == 0.9
    assert env.num_envs == 2
    assert env.action_space.high == [0.5]
    assert experiment.n_timesteps == 10_000
    (callback,) = experiment.callbacks
    assert isinstance(callback, StopTrainingOnMaxEpisodes)
    assert callback.max_episodes == 7
    assert np.allclose(experiment.model.action_noise._sigma, 0.3)
    eval_env = experiment.make_eval_env(5)
    assert isinstance(eval_env, VecNormalize)
    assert not eval_env.norm_reward
    assert not eval_env.training
    assert eval_env.action_space.high == [0.5]


def test_env_kwargs_reach_the_evaluation():
    """rl_zoo3 gives the evaluation environment those of the command line only."""
    experiment = make_experiment(SMALL | {"n_timesteps": 1, "env_kwargs": {"g": 1.5}}, "Pendulum-v1")
    assert experiment.model.get_env().get_attr("g") == [1.5]
    assert experiment.make_eval_env(0).get_attr("g") == [1.5]


def test_evaluation_environments_follow_their_seed():
    """The same seed gives the same first observation, another one another."""
    make = make_experiment(SMALL | {"n_timesteps": 1}, "Pendulum-v1").make_eval_env
    first, again, other = (make(seed).reset() for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("algo", "cls", "policy"), [("td3", TD3, "MlpPolicy"), ("ddpg_ext_lstm", RecurrentDDPG, "MlpLstmPolicy")]
)
def test_other_algorithms(algo, cls, policy):
    """Any algorithm that rl_zoo3 knows."""
    assert type(make_experiment({"policy": policy, "n_timesteps": 1}, "Pendulum-v1", algo=algo).model) is cls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algo": "dpg"}, "algo='dpg' must be one of"),
        ({"env_id": "Pendulum-v99"}, "env_id='Pendulum-v99' must be"),
        ({"hyperparams": {"policy": "MlpPolicy"}}, "n_timesteps=-1 must be"),
    ],
)
def test_wrong_arguments(arguments, message):
    """Errors name the argument, its value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make_experiment(**({"hyperparams": {"policy": "MlpPolicy", "n_timesteps": 1}, "env_id": "Pendulum-v1"} | arguments))


def test_silent_unless_verbose(capsys):
    """verbose=0 prints nothing."""
    make_experiment(SMALL | {"n_timesteps": 1, "noise_type": "normal", "noise_std": 0.1}, "Pendulum-v1").make_eval_env(0)
    assert capsys.readouterr().out == ""


def test_text_is_evaluated_as_rl_zoo3_does():
    """Also with the names of its module; other text stays."""
    block = evaluate_text({"policy_kwargs": "dict(net_arch=[4], activation_fn=nn.ELU)", "learning_rate": "lin_1e-3"})
    assert block == {"policy_kwargs": {"net_arch": [4], "activation_fn": th.nn.ELU}, "learning_rate": "lin_1e-3"}


def test_merge_goes_into_dictionaries_and_copies():
    """Key by key; what is merged shares nothing with its sources."""
    base = {"policy_kwargs": {"net_arch": [8], "n_critics": 1}, "tau": 0.1}
    merged = merge(base, {"policy_kwargs": {"n_critics": 2}, "gamma": 0.9})
    assert merged == {"policy_kwargs": {"net_arch": [8], "n_critics": 2}, "tau": 0.1, "gamma": 0.9}
    merged["policy_kwargs"]["net_arch"].append(4)
    assert base == {"policy_kwargs": {"net_arch": [8], "n_critics": 1}, "tau": 0.1}


def test_kinds_are_not_merged():
    """A noise in place of another has none of its arguments."""
    base = {"action_noise": {"kind": "ou", "sigma": 0.2, "dt": 1.0}}
    assert merge(base, {"action_noise": {"kind": "normal", "sigma": 0.1}}) == {
        "action_noise": {"kind": "normal", "sigma": 0.1}
    }
    assert merge(base, {"action_noise": {"sigma": 0.3}})["action_noise"] == {"kind": "ou", "sigma": 0.3, "dt": 1.0}

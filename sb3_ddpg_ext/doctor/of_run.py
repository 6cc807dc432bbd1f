"""Checks of the folder of a training, and of a model beside another environment than its own."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_ddpg_ext.doctor.check import register
from sb3_ddpg_ext.doctor.run_folder import Evaluations, RunFolder, Training

N_EVALUATIONS, N_EPISODES = 3, 20  # that must all disagree: one evaluation may meet a model at a bad moment

missing = register(
    "vecnormalize-not-saved",
    "The actor was trained on normalised observations. Without their statistics it acts on numbers that it has never seen.",
    'model.get_vec_normalize_env().save("vecnormalize.pkl") after the training; rl_zoo3 does so at the end of one, so let it '
    "end or stop it with Ctrl-C. policy_kwargs=dict(normalize_observations=True) keeps them in the model instead.",
)


@missing.by
def no_file(run: RunFolder) -> str | None:
    if not run.normalises or run.normaliser is not None or run.model is None:
        return None
    return f"config.yml says normalize={run.config['normalize']!r}, and there is no vecnormalize.pkl in {run.path}"


unused = register(
    "vecnormalize-not-loaded",
    "The model is used with observations on another scale than those it was trained on.",
    'VecNormalize.load("vecnormalize.pkl", env) around the environment, then env.training = False and env.norm_reward = '
    "False; rl_zoo3 enjoy does it.",
)


@unused.by
def other_statistics(model: Any, env: VecEnv) -> str | None:
    of_training, here = model.get_vec_normalize_env(), unwrap_vec_normalize(env)
    if of_training is None or not of_training.norm_obs or here is of_training:
        return None
    if here is None or not here.norm_obs:
        return "the model trains under VecNormalize, and the environment that was given has none"
    counts = [float(np.min([each.count for each in _moments(one)])) for one in (here, of_training)]
    if counts[0] < 1 <= counts[1]:
        return (
            "the VecNormalize of the environment that was given has seen no step: its statistics are not those of the training"
        )
    return None


def _moments(normaliser: Any) -> list[Any]:
    of_observations = normaliser.obs_rms
    return list(of_observations.values()) if hasattr(of_observations, "values") else [of_observations]


worse = register(
    "evaluation-worse",
    "The environment of the evaluation is another one than that of the training: VecNormalize is missing there or has "
    "statistics of its own, or a wrapper, a time limit, an argument. Else the actor lives from its noise, and does worse "
    "without it.",
    "Make both by one function, with the same wrappers; put VecNormalize(env, training=False, norm_reward=False) around that "
    "of EvalCallback, which copies the statistics itself; rl_zoo3 does all of this.",
)


@worse.by
def than_training(evaluations: Evaluations, training: Training) -> str | None:
    """Each of the last evaluations is below the worst of the training episodes just before it, by more than these spread."""
    if len(evaluations.steps) < N_EVALUATIONS:
        return None
    ended = np.cumsum(training.lengths)
    for step, returns in zip(evaluations.steps[-N_EVALUATIONS:], evaluations.returns[-N_EVALUATIONS:], strict=True):
        before = training.returns[ended <= step][-N_EPISODES:]
        if len(before) < N_EPISODES or returns.mean() >= before.min() - (before.max() - before.min()):
            return None
    return (
        f"the last {N_EVALUATIONS} evaluations had {evaluations.returns[-N_EVALUATIONS:].mean():.4g} in the mean, the "
        f"{N_EPISODES} training episodes before the last one {before.min():.4g} to {before.max():.4g}, with noise"
    )

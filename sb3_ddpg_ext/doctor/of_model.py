"""Checks of a model: its arguments, its counters, its parameters."""

from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.doctor.check import register
from sb3_ddpg_ext.noise import Noise
from sb3_ddpg_ext.schedules import evaluate

# Adam moves a weight by about the learning rate in each update: 1e-7 by 0.1 in a million of them, 0.01 by 1 in a hundred, and
# weights begin at 0.06 (256 inputs) and less.
# What is published for DDPG lies between 2.5e-5 and 2e-3, and rl_zoo3 searches up to 3e-3 here.
LOWEST_RATE, HIGHEST_RATE = 1e-7, 5e-3
AT = (1.0, 0.75, 0.5, 0.25)  # the progress remaining at which a schedule is looked at; its end may be 0
FEWEST_UPDATES, ENOUGH_STEPS = 0.01, 2000  # of updates by steps: papers and presets have 1 to 1/8
FEWEST_BATCHES = 10
TO_ACT = 1  # the buffer_size with which rl_zoo3 loads a model that is only to act
# Of the horizon 1 / (1 - gamma) and the longest episode: the presets and tuned tasks have 1/10 (MuJoCo) to 10 (Swimmer).
LONGEST_HORIZON, SHORTEST_HORIZON = 100.0, 1 / 50

not_finite = register(
    "not-finite",
    "The networks were destroyed: an infinite loss or gradient has made NaN of every weight. Rewards or observations that are "
    "huge or not finite, and learning rates that are too high, do that.",
    "Go back to an earlier checkpoint. sb3_ddpg_ext.DDPG does so itself with on_nan='rollback'; max_grad_norm=1 and a smaller "
    "learning_rate keep it from happening.",
)


@not_finite.by
def numbers(parameters: dict[str, Any]) -> str | None:
    tensors = {
        f"{part}.{name}": value for part, state in parameters.items() for name, value in state.items() if th.is_tensor(value)
    }
    wrong = [name for name, value in tensors.items() if value.is_floating_point() and not bool(th.isfinite(value).all())]
    return f"{len(wrong)} of {len(tensors)} tensors of parameters hold NaN or infinity, such as {wrong[0]}" if wrong else None


noise = register(
    "no-noise",
    "DDPG's actor is deterministic: without noise it takes the same action in the same state and finds nothing new after the "
    "random steps at the beginning.",
    'action_noise="normal_0.1"; "ou_0.2" or "pink_0.3" where actions must be kept up; in rl_zoo3 noise_type and noise_std.',
)


@noise.by
def sigma(noises: list[Noise]) -> str | None:
    if not noises:
        return "action_noise is None"
    return f"action_noise is {noises[0]!r}, whose sigma is 0" if all(map(_is_silent, noises)) else None


def _is_silent(noise: Noise) -> bool:
    """A noise that falls is 0 in the end, and no trouble."""
    falls = any(callable(getattr(noise, name, None)) for name in ("sigma", "scale"))
    return not falls and noise.statistics().get("sigma") == 0


rate = register(
    "learning-rate",
    "With a rate near 0 the networks stay what they were at the beginning. With one that is too high each update undoes the "
    "one before, Q diverges and the actor runs to its bounds.",
    "learning_rate=1e-3, and for the actor 1e-4 with qf_learning_rate=1e-3 where it gets stuck.",
)


@rate.by
def rates(model: Any) -> str | None:
    adam = "adam" in model.policy.optimizer_class.__name__.lower()
    for name, schedule in (("learning_rate", model.lr_schedule), ("qf_learning_rate", model.qf_lr_schedule)):
        largest = max(evaluate(schedule, remaining, 0, name=name) for remaining in AT)
        if largest < LOWEST_RATE:
            return f"{name} is {largest:g}, below {LOWEST_RATE:g}"
        if adam and largest > HIGHEST_RATE:
            return f"{name} is {largest:g}, above {HIGHEST_RATE:g}"
    return None


starts = register(
    "learning-starts",
    "Nothing has been learnt: until learning_starts only random actions are taken, and no update is made.",
    "A learning_starts well below the length of the training, such as learning_starts=1000, or a longer training.",
)


@starts.by
def before_learning(model: Any, n_updates: int) -> str | None:
    if n_updates > 0 or not 0 < model.num_timesteps <= model.learning_starts:
        return None
    return f"n_updates is 0: {model.num_timesteps} steps were made, and learning_starts is {model.learning_starts}"


updates = register(
    "no-updates",
    "The model has hardly learnt from what it saw. With train_freq=(1, 'episode') and gradient_steps=1 there is one update "
    "for a whole episode; with gradient_steps=0, or episodes that never end, there is none.",
    "train_freq=1, gradient_steps=1, or train_freq=(1, 'episode'), gradient_steps=-1: one update for each step.",
)


@updates.by
def few_updates(model: Any, n_updates: int) -> str | None:
    steps = model.num_timesteps - model.learning_starts
    how = f"with train_freq={_shown(model.train_freq)}, gradient_steps={model.gradient_steps}"
    if n_updates == 0 and steps > 0 and model.num_timesteps > 0:
        return f"n_updates is 0 after {model.num_timesteps} steps, of which {steps} came after learning_starts, {how}"
    if steps >= ENOUGH_STEPS and n_updates < FEWEST_UPDATES * steps:
        return f"{n_updates} updates were made for {steps} steps, {how}: less than one for {1 / FEWEST_UPDATES:.0f}"
    return None


@updates.by
def log_without_updates(progress: dict[str, np.ndarray]) -> str | None:
    steps, n_updates = progress.get("time/total_timesteps"), progress.get("train/n_updates")
    if steps is None or not len(steps) or np.nanmax(steps) < ENOUGH_STEPS:
        return None
    n = 0.0 if n_updates is None or np.isnan(n_updates).all() else float(np.nanmax(n_updates))
    return f"train/n_updates in progress.csv is {n:.0f} after {np.nanmax(steps):.0f} steps" if n == 0 else None


def _shown(train_freq: Any) -> str:
    unit = getattr(train_freq, "unit", None)
    return repr(train_freq) if unit is None else f"({train_freq.frequency}, {unit.value!r})"


buffer = register(
    "buffer-too-small",
    "The updates see only the last few transitions, which are alike: the critic forgets what is not among them, and what it "
    "learns from them is correlated.",
    "buffer_size=1_000_000, the default, which a buffer of ours stores in a third of the memory; or 100_000.",
)


@buffer.by
def transitions(model: Any, longest_episode: int) -> str | None:
    size = model.buffer_size
    if size == TO_ACT or model.num_timesteps <= size:  # nothing has been thrown away
        return None
    if size < longest_episode:
        return f"buffer_size is {size}, and an episode has up to {longest_episode} steps"
    batches = size / model.batch_size
    return f"buffer_size is {size}, {batches:.1f} minibatches of {model.batch_size}" if batches < FEWEST_BATCHES else None


discount = register(
    "discount",
    "With too small a gamma the agent does not see what its actions lead to; with one too near 1, where time limits end the "
    "episodes, Q is a sum over steps far beyond what was ever seen, and grows for a long time.",
    "A gamma whose horizon 1 / (1 - gamma) is a tenth of the episode's length up to ten times it: 0.98 or 0.99 as a rule.",
)


@discount.by
def horizon(model: Any, tried: Any, longest_episode: int) -> str | None:
    gamma, steps = model.gamma, 1 / (1 - model.gamma) if model.gamma < 1 else np.inf
    shown = f"gamma={gamma:g} looks {steps:.0f} steps ahead" if gamma < 1 else "gamma=1 has no horizon"
    if steps < SHORTEST_HORIZON * longest_episode:
        return f"{shown}, and an episode has {longest_episode}: less than a fiftieth"
    if all(tried.is_cut) and steps > LONGEST_HORIZON * longest_episode:
        return f"{shown}, and a time limit ends episodes after {longest_episode}: less than a hundredth of it"
    return None


monitor = register(
    "no-monitor",
    "Returns of episodes are neither logged nor written, so that nothing shows whether it learns.",
    "stable_baselines3.common.monitor.Monitor(env, 'folder') around each environment, or make_vec_env(..., "
    "monitor_dir='folder'), or VecMonitor. DDPG does it itself for a single environment, not for a VecEnv.",
)


@monitor.by
def episodes_without_returns(model: Any, n_episodes: int) -> str | None:
    if n_episodes == 0 or model.ep_info_buffer is None or len(model.ep_info_buffer):
        return None
    return f"{n_episodes} episodes have ended, and no return of any of them is known"


@monitor.by
def folder_without_returns(run: Any) -> str | None:
    return f"there is no *.monitor.csv in {run.path}, a folder of rl_zoo3" if run.settings and not run.has_monitor else None

"""Checks of the environment alone: its spaces, and what random actions do in it."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_ddpg_ext.doctor.check import register
from sb3_ddpg_ext.doctor.episodes import ENDLESS, Episodes

# Pendulum-v1 with its observations multiplied, 4,000 steps, three seeds each: by 3 (a size of 11) learnt by all, by 10 (36) by
# one, by 30 (109) by none; by 0.1 (0.36) by one, by 0.01 (0.036) by none. The largest of the tasks of MuJoCo has 9, but for
# Humanoid (365).
LARGEST_SIZE, SMALLEST_SIZE = 50.0, 0.05
MOST_APART = 1000.0  # the largest size by the smallest spread; Hopper has 88, Walker2d 115, and both are learnt
CONSTANT = 1e-6  # less spread than this is rounding: Humanoid has components of 1e-14
# The same with rewards: learnt by all with returns of 7,000, by two with 7 and with 70,000, by none with 0.7 and 700,000.
# Random actions get 4 on MountainCarContinuous, 4,000 on HumanoidStandup.
LARGEST_RETURN, SMALLEST_RETURN = 1e5, 0.1
DISCOUNT = 0.99  # for returns where no model says its own
WIDEST, NARROWEST = 1e3, 1e-3  # half of the distance of the bounds; MuJoCo's widest is 3
MOST_LOPSIDED = 10.0  # the longer side of 0 by the shorter one
N_EQUAL, SHORTEST = 4, 10  # episodes of one length that cannot be chance, and the length from which on they are looked at

not_finite = register(
    "environment-not-finite",
    "One such number makes every weight of the networks NaN. It comes from a division by zero, a sensor that is missing, or a "
    "simulation that has exploded.",
    "Repair the environment, or end the episode (terminated=True) before the number leaves it. A training with "
    "sb3_ddpg_ext.DDPG stops at it and stores nothing of it.",
)


@not_finite.by
def numbers(tried: Episodes) -> str | None:
    parts = tried.observations.values() if hasattr(tried.observations, "values") else [tried.observations]
    wrong = [~np.isfinite(np.asarray(part, dtype=float)).reshape(len(tried), -1).all(axis=1) for part in parts]
    wrong.append(~np.isfinite(tried.rewards))
    n = int(np.logical_or.reduce(wrong).sum())
    return f"{n} of {len(tried)} random steps had NaN or infinity in observation or reward" if n else None


bounds = register(
    "action-bounds",
    "The actor's [-1, 1] is stretched to the bounds of the action space. If these are far wider than the actions that make "
    "sense, every action near 0 is the same to the network, and noise of 0.1 is a tenth of the whole range.",
    "Give the action space the bounds of the actions that make sense, with gymnasium.wrappers.RescaleAction or "
    "gymnasium.wrappers.ClipAction around the environment, best symmetric.",
)


@bounds.by
def range_of_actions(action_space: spaces.Space) -> str | None:
    low, high = getattr(action_space, "low", None), getattr(action_space, "high", None)
    if low is None or high is None or not np.issubdtype(action_space.dtype, np.floating):
        return f"the action space is {action_space}; DDPG needs a Box of floats"
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return f"the bounds of the action space are infinite: {action_space}"
    half = (high.astype(float) - low) / 2
    if half.max() > WIDEST:
        return f"the actions go from {low.min():g} to {high.max():g}, more than {WIDEST:g} to each side"
    if half.min() < NARROWEST:
        return f"a component of the action goes from {low.flat[half.argmin()]:g} to {high.flat[half.argmin()]:g} only"
    across = (low < 0) & (high > 0)  # a range such as [0, 1] is no harm: the middle of it is 0 to the network
    if across.any():
        sides = np.sort(np.stack([-low[across], high[across]]).astype(float), axis=0)
        if (ratio := float((sides[1] / sides[0]).max())) > MOST_LOPSIDED:
            return (
                f"0, which usually does nothing, is far from the middle of the bounds: one side is {ratio:.0f} times the other"
            )
    return None


scale = register(
    "observation-scale",
    "The layers of the networks expect inputs of about 1. Large ones carry tanh to its flat ends, where nothing is learnt any "
    "more; tiny ones, or a component that is tiny beside others, are not seen.",
    "policy_kwargs=dict(normalize_observations=True), which is saved with the model; in rl_zoo3 -params "
    "policy_kwargs:\"dict(normalize_observations=True)\". Or VecNormalize, or policy_kwargs=dict(actor_norm='layer', "
    "critic_norm='layer').",
)


@scale.by
def sizes(vectors: dict[str, np.ndarray]) -> str | None:
    names = [
        f"{key}[{i}]".lstrip("[").rstrip("]") if key else f"{i}" for key, part in vectors.items() for i in range(part.shape[1])
    ]
    values = np.concatenate([part.astype(float) for part in vectors.values()], axis=1)
    size, spread = np.sqrt((values**2).mean(axis=0)), values.std(axis=0)
    moving = spread > CONSTANT
    most = int(size.argmax())
    if size[most] > LARGEST_SIZE:
        return f"component {names[most]} of the observation has a root mean square of {size[most]:.3g}, above {LARGEST_SIZE:g}"
    if moving.any() and size.max() < SMALLEST_SIZE:
        return f"the largest root mean square of a component of the observation is {size.max():.2g}, below {SMALLEST_SIZE:g}"
    if moving.sum() > 1:
        smallest = int(np.where(moving, spread, np.inf).argmin())
        if (ratio := size.max() / spread[smallest]) > MOST_APART:
            return (
                f"component {names[smallest]} of the observation has a standard deviation of {spread[smallest]:.2g}, "
                f"component {names[most]} a root mean square of {size[most]:.3g}: {ratio:.0f} times as much"
            )
    return None


rewards = register(
    "reward-scale",
    "Q has the scale of the returns. The critic starts near 0 and moves its outputs by small steps, so that large returns "
    "take long and their gradients drown the rest, and tiny ones are less than its own errors.",
    "policy_kwargs=dict(scale_returns=True), or VecNormalize with norm_reward=True, or a factor on the reward.",
)


@rewards.by
def size_of_returns(tried: Episodes, scales_rewards: bool, discount: float) -> str | None:
    if scales_rewards or not np.isfinite(tried.rewards).all():
        return None
    largest = float(np.abs(np.concatenate(tried.returns(min(discount, DISCOUNT)))).max())
    if largest > LARGEST_RETURN:
        return f"random actions get discounted returns of up to {largest:.2g} in magnitude, above {LARGEST_RETURN:g}"
    if 0 < largest < SMALLEST_RETURN:  # 0 alone is a sparse reward
        return f"random actions get discounted returns of at most {largest:.2g} in magnitude, below {SMALLEST_RETURN:g}"
    return None


limit = register(
    "time-limit-missing",
    "Nothing ends an episode, so that the environment is reset once and exploration never comes back to its beginning; no "
    "return is logged, and EvalCallback waits for ever.",
    "gymnasium.register(id, entry_point=..., max_episode_steps=1000), or gymnasium.wrappers.TimeLimit(env, 1000).",
)


@limit.by
def endless(tried: Episodes) -> str | None:
    if tried.ends or tried.limit is not None or len(tried) < ENDLESS:
        return None
    return f"no episode ended in {len(tried)} random steps, and the environment's spec has no max_episode_steps"


as_end = register(
    "time-limit-as-end",
    "Such an end looks like a death to the critic: it learns that nothing comes after it, at a moment that the observation "
    "does not show. DDPG's targets must go on beyond a time limit.",
    "Return truncated=True, not terminated=True, at the time limit, or leave it to gymnasium.wrappers.TimeLimit; "
    "replay_buffer_kwargs without handle_timeout_termination=False. Or have the time in the observation.",
)


@as_end.by
def equal_lengths(tried: Episodes) -> str | None:
    lengths = tried.lengths
    if len(lengths) < N_EQUAL or len(set(lengths)) > 1 or any(tried.is_cut) or lengths[0] < SHORTEST or _shows_time(tried):
        return None
    return f"each of {len(lengths)} random episodes was terminated, none truncated, after exactly {lengths[0]} steps"


@as_end.by
def buffer_without_limits(tried: Episodes, model: Any) -> str | None:
    if (model.replay_buffer_kwargs or {}).get("handle_timeout_termination", True) or not any(tried.is_cut):
        return None
    return (
        f"replay_buffer_kwargs has handle_timeout_termination=False, and a time limit ended {sum(tried.is_cut)} of "
        f"{len(tried.ends)} random episodes"
    )


def _shows_time(tried: Episodes) -> bool:
    """Whether a component of the observation counts the steps of an episode, up or down."""
    parts = tried.observations.values() if hasattr(tried.observations, "values") else [tried.observations]
    flat = np.concatenate([np.asarray(part, dtype=float).reshape(len(tried), -1) for part in parts], axis=1)
    steps = np.diff(flat[: tried.ends[0]], axis=0)
    return bool(((np.abs(steps - steps[0]) <= 1e-3 * np.abs(steps[0])).all(axis=0) & (steps[0] != 0)).any())

"""``plot q``: the critic's estimates against the returns that came."""

import argparse
import importlib
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ddpg_ext.calibration import Calibration, q_calibration
from sb3_ddpg_ext.cli.plot.figures import pyplot, save
from sb3_ddpg_ext.ddpg import DDPG


def run(args: argparse.Namespace) -> None:
    """Load, act, print, draw."""
    plt = pyplot()
    model = load(args.model)
    for package in args.gym_packages:
        import_module(package, f"--gym-packages {package}")
    calibration = q_calibration(model, make_env(args, model), args.episodes, args.seed)
    print(summary(calibration))
    save(draw(plt, calibration, args.title or args.env), args.png, args.svg)
    print(f"Q and returns: {args.png}")


def load(path: Path) -> DDPG:
    """Without the room for a replay buffer, which nothing is stored in."""
    if not path.is_file():
        raise SystemExit(f"{path} is not there; it must be a zip file written by DDPG.save")
    try:
        return DDPG.load(path, device="cpu", buffer_size=1)
    except ValueError as error:
        raise SystemExit(f"{path} must be a zip file written by DDPG.save: {error}") from error


def make_env(args: argparse.Namespace, model: DDPG) -> VecEnv:
    """
    The environment as the model wants it: in ``--wrapper``, normalised where there are statistics beside the model, images
    with their channels first.

    :raises SystemExit: if there is no such environment or wrapper, or its spaces are not the model's
    """
    import gymnasium as gym
    from stable_baselines3.common.env_util import make_vec_env

    wrapper = None if args.wrapper is None else wrapper_class(args.wrapper)
    try:
        # with renderings as arrays, for wrappers that need them
        env: VecEnv = make_vec_env(args.env, wrapper_class=wrapper, env_kwargs=dict(args.env_kwargs))
    except (gym.error.Error, TypeError) as error:
        raise SystemExit(f"--env {args.env}: {error}") from error
    statistics = statistics_path(args.model, args.env)
    if statistics is not None:
        try:
            env = VecNormalize.load(str(statistics), env)
        except (AssertionError, ValueError) as error:
            raise SystemExit(f"--env {args.env} does not fit the statistics in {statistics}: {error}") from error
        print(f"Normalised by {statistics}")
    env = DDPG._wrap_env(env, verbose=0)
    if env.observation_space != model.observation_space or env.action_space != model.action_space:
        raise SystemExit(
            f"--env {args.env}: its observations are {env.observation_space} and its actions {env.action_space}, "
            f"the model's {model.observation_space} and {model.action_space}"
        )
    return env


def statistics_path(model: Path, env_id: str) -> Path | None:
    """Of ``VecNormalize``, where rl_zoo3 or :class:`~sb3_ddpg_ext.callbacks.SaveOnBestMeanReturn` leaves them."""
    of_zoo = model.parent / env_id.replace("/", "-") / "vecnormalize.pkl"
    return next((path for path in (model.with_name(f"{model.stem}_vecnormalize.pkl"), of_zoo) if path.is_file()), None)


def wrapper_class(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    found = getattr(import_module(module, f"--wrapper {name}"), attribute, None) if module else None
    if found is None:
        raise SystemExit(f"--wrapper {name} must be PACKAGE.MODULE.CLASS of a class that is there")
    return found


def import_module(name: str, argument: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SystemExit(f"{argument} cannot be imported: {error}") from error


def summary(calibration: Calibration) -> str:
    n = len(calibration.returns)
    return (
        f"{n} steps: correlation {calibration.correlation:.3f}, mean estimate {calibration.estimates.mean():.2f}, mean return "
        f"{calibration.returns.mean():.2f}, bias {calibration.bias:+.2f} ({calibration.n_cut} steps near time limits left out)"
    )


def draw(plt: Any, calibration: Calibration, title: str) -> Any:
    """Density of the pairs, with the diagonal on which they should lie."""
    estimates, returns = calibration.estimates, calibration.returns
    low, high = min(estimates.min(), returns.min()), max(estimates.max(), returns.max())
    margin = 0.05 * (high - low or 1)
    extent = (low - margin, high + margin)
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    density = axes.hexbin(returns, estimates, gridsize=40, extent=(*extent, *extent), bins="log", cmap="viridis", mincnt=1)
    figure.colorbar(density, ax=axes, label="number of steps")
    axes.plot(extent, extent, color="black", linewidth=0.8, linestyle="--", label="estimate = return")
    axes.set(xlim=extent, ylim=extent, xlabel="Return that came (discounted)", ylabel="Q(s, mu(s))", aspect="equal")
    axes.legend(loc="lower right", frameon=False)
    axes.set_title(f"{title}\ncorrelation {calibration.correlation:.2f}, bias {calibration.bias:+.1f}")
    return figure

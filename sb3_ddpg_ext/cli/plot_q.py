"""``plot q``: the critic's estimates against the returns that came."""

import argparse
import importlib
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.calibration import Calibration, q_calibration
from sb3_ddpg_ext.cli.plot import pyplot, save
from sb3_ddpg_ext.ddpg import DDPG


def run(args: argparse.Namespace) -> None:
    """Load, act, print, draw."""
    plt = pyplot()
    model = load(args.model)
    for package in args.gym_packages:
        importlib.import_module(package)
    calibration = q_calibration(model, make_env(args.env, args.wrapper, model), args.episodes, args.seed)
    print(summary(calibration))
    save(draw(plt, calibration, args.title or args.env), args.png)
    print(f"Q and returns: {args.png}")


def load(path: Path) -> DDPG:
    if not path.is_file():
        raise SystemExit(f"{path} is not there; it must be a zip file written by DDPG.save")
    return DDPG.load(path, device="cpu")


def make_env(env_id: str, wrapper: str | None, model: DDPG) -> Any:
    """The environment, in ``wrapper`` (package.module.Class) if there is one."""
    import gymnasium as gym

    try:
        env = gym.make(env_id)
    except gym.error.Error as error:
        raise SystemExit(f"--env {env_id}: {error}") from error
    if wrapper is not None:
        module, _, name = wrapper.rpartition(".")
        env = getattr(importlib.import_module(module), name)(env)
    if env.observation_space.shape != model.observation_space.shape:
        raise SystemExit(
            f"--env {env_id}: its observations are {env.observation_space}, the model's {model.observation_space}"
        )
    return env


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
    figure, axes = plt.subplots(figsize=(5.4, 4.8), layout="constrained")
    density = axes.hexbin(returns, estimates, gridsize=40, extent=(*extent, *extent), bins="log", cmap="Blues", mincnt=1)
    figure.colorbar(density, ax=axes, label="steps")
    axes.plot(extent, extent, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlim=extent, ylim=extent, xlabel="Return that came (discounted)", ylabel="Q(s, mu(s))", aspect="equal")
    axes.set_title(f"{title}\ncorrelation {calibration.correlation:.2f}, bias {calibration.bias:+.1f}", fontsize="medium")
    return figure

"""``report``: evaluate an agent that ``rl_zoo3 train`` left behind, say whether it solves its task, and draw it."""

import argparse
import csv
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_ddpg_ext.cli.plot import figures
from sb3_ddpg_ext.cli.plot.q import import_module
from sb3_ddpg_ext.zoo import find_model, register


class Evaluation(NamedTuple):
    """What 100 evaluation episodes and the training's Monitor files say about one trained agent."""

    env: str
    algo: str
    seed: int
    mean_return: float
    std_return: float
    episodes: int
    threshold: float | None
    train_episodes: int
    train_steps: int
    train_seconds: float
    label: str = ""

    def verdict(self) -> str:
        """One line, e.g. ``SOLVED MountainCarContinuous-v0: mean return 93.50 +/- 0.10 over ...``."""
        if self.threshold is None:
            word, against = "EVALUATED", "the environment has no threshold"
        else:
            word = "SOLVED" if self.mean_return >= self.threshold else "NOT SOLVED"
            against = f"threshold {self.threshold:g}"
        return (
            f"{word} {self.env}: mean return {self.mean_return:.2f} +/- {self.std_return:.2f} over {self.episodes} "
            f"evaluation episodes, {against}; {self.train_episodes} training episodes, {self.train_steps} steps"
        )


def add_parser(commands: Any) -> None:
    """Add ``report`` and its arguments, named as in ``rl_zoo3 enjoy``."""
    parser = commands.add_parser("report", help="evaluate and draw an agent trained by rl_zoo3")
    parser.add_argument("--env", required=True, help="environment id")
    parser.add_argument("--algo", default="ddpg_ext", help="algorithm, as rl_zoo3 names it")
    parser.add_argument("-f", "--folder", default="logs", help="log folder of rl_zoo3 train")
    parser.add_argument("--exp-id", type=int, default=0, help="number of the experiment (0: the latest that has a model)")
    parser.add_argument("--gym-packages", nargs="*", default=[], help="to import before, as they register environments")
    parser.add_argument("--load-best", action="store_true", help="the best model of the EvalCallback, not the last one")
    parser.add_argument("-n", "--n-episodes", type=int, default=100, help="evaluation episodes")
    parser.add_argument("--seed", type=int, default=10_000, help="seed of the evaluation environment")
    parser.add_argument("--csv", type=Path, help="append the result to this file")
    parser.add_argument("--label", default="", help="last column of that row, to tell configurations apart")
    parser.add_argument("--png", type=Path, help="draw the learning curve")
    parser.add_argument("--svg", action="store_true", help="write a drawing (.svg) beside the picture")
    parser.add_argument("--gif", type=Path, help="film one episode")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate, print the verdict line, write what was asked for."""
    try:
        import rl_zoo3.import_envs  # noqa: F401  # registers the environments that rl_zoo3 knows
        from huggingface_sb3 import EnvironmentName
        from rl_zoo3 import utils
    except ImportError as error:
        raise SystemExit(f"report needs rl_zoo3 ({error}): pip install 'sb3_ddpg_ext[zoo]'") from error

    for package in args.gym_packages:
        import_module(package, f"--gym-packages {package}")
    register()
    env_name = EnvironmentName(args.env)
    try:
        get_model_path = inspect.unwrap(utils.get_model_path)
        _, model_path, log_path = find_model(get_model_path, args.exp_id, args.folder, args.algo, env_name, args.load_best)
    except (AssertionError, ValueError) as error:
        raise SystemExit(f"no agent to report on: {error}") from error
    evaluation = evaluate(args, model_path, os.path.join(log_path, env_name))
    if args.csv:
        append_row(evaluation, args.csv)
    if args.png and evaluation.train_episodes == 0:
        print("Learning curve: none, as no training episode has come to its end")
    elif args.png:
        draw_learning_curve(log_path, evaluation, args.png, args.svg)
        print(f"Learning curve: {args.png}")
    if args.gif:
        film(args, model_path, os.path.join(log_path, env_name), args.gif)
        print(f"Film: {args.gif}")
    print(evaluation.verdict())


def make_env(env_id: str, params_path: str, seed: int, env_kwargs: dict[str, Any] | None = None) -> Any:
    """The evaluation environment, wrapped and normalised as in training."""
    from rl_zoo3.utils import create_test_env, get_saved_hyperparams

    hyperparams, stats_path = get_saved_hyperparams(params_path, test_mode=True)
    env_kwargs = hyperparams.pop("env_kwargs", {}) | (train_arguments(params_path)["env_kwargs"] or {}) | (env_kwargs or {})
    return create_test_env(
        env_id, stats_path=stats_path, seed=seed, should_render=False, hyperparams=hyperparams, env_kwargs=env_kwargs
    )


def train_arguments(params_path: str) -> dict[str, Any]:
    """The command line of the training."""
    import yaml

    with open(os.path.join(params_path, "args.yml")) as file:
        return yaml.load(file, Loader=yaml.UnsafeLoader)  # an OrderedDict that rl_zoo3 wrote


def load_model(algo: str, model_path: str, env: Any) -> Any:
    from rl_zoo3.utils import ALGOS

    return ALGOS[algo].load(model_path, env=env, buffer_size=1)


def evaluate(args: argparse.Namespace, model_path: str, params_path: str) -> Evaluation:
    """Deterministic episodes with rl_zoo3's environment, and the training's figures from its Monitor files."""
    import gymnasium as gym
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import load_results

    env = make_env(args.env, params_path, args.seed)
    returns, _ = evaluate_policy(
        load_model(args.algo, model_path, env), env, args.n_episodes, deterministic=True, return_episode_rewards=True
    )
    env.close()
    training = load_results(str(Path(params_path).parent))
    return Evaluation(
        env=args.env,
        algo=args.algo,
        seed=train_arguments(params_path)["seed"],
        mean_return=float(np.mean(returns)),
        std_return=float(np.std(returns)),
        episodes=args.n_episodes,
        threshold=gym.spec(args.env).reward_threshold,
        train_episodes=len(training),
        train_steps=int(training["l"].sum()),
        train_seconds=float(training["t"].max()) if len(training) else 0.0,
        label=args.label,
    )


def append_row(evaluation: Evaluation, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    columns: Sequence[str] = Evaluation._fields
    if not is_new:
        with path.open(newline="") as file:
            columns = next(csv.reader(file))
        if evaluation.label and "label" not in columns:
            raise SystemExit(f"--label {evaluation.label!r}: {path} has no column for it; its columns are {columns}")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        if is_new:
            writer.writeheader()
        values = evaluation._asdict().items()
        writer.writerow({name: round(value, 3) if isinstance(value, float) else value for name, value in values})


def draw_learning_curve(log_path: str, evaluation: Evaluation, path: Path, svg: bool = False) -> None:
    """Return of each training episode, its running mean, and the threshold."""
    from stable_baselines3.common.monitor import load_results

    plt = figures.pyplot()
    training = load_results(log_path)
    steps, returns = training["l"].cumsum(), training["r"]
    window = max(1, min(100, len(returns) // 10))
    figure, axes = plt.subplots(figsize=(5.6, 4.2), layout="constrained")  # beside the film it is shown at half of a page
    blue, red = figures.PALETTE[:2]
    axes.plot(steps, returns, ".", color=blue, markersize=4, alpha=0.4, label="training episode, with noise")
    mean = returns.rolling(window, min_periods=1).mean()
    axes.plot(steps, mean, color=blue, linewidth=2, label=f"mean of the last {window}")
    if evaluation.threshold is not None:
        axes.axhline(evaluation.threshold, color="black", linestyle="--", label=f"threshold {evaluation.threshold:g}")
    trained = dict(marker="*", markersize=14, color=red, linestyle="none", clip_on=False)
    axes.plot(
        [steps.iloc[-1]], [evaluation.mean_return], **trained, label=f"trained, without noise: {evaluation.mean_return:.1f}"
    )
    axes.set_title(f"{evaluation.algo} on {evaluation.env}, seed {evaluation.seed}")
    axes.set(xlabel="environment steps", ylabel="return of an episode")
    axes.grid(alpha=0.3)
    figures.thousands(axes)
    figures.legend_below(figure, axes.get_legend_handles_labels()[0], columns=2)
    figures.save(figure, path, svg)


def film(args: argparse.Namespace, model_path: str, params_path: str, path: Path, max_frames: int = 120) -> None:
    """One deterministic episode as an endless GIF of at most ``max_frames`` frames."""
    from PIL import Image

    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else SDL complains where there is no screen, which nothing needs
    env = make_env(args.env, params_path, args.seed, {"render_mode": "rgb_array"})
    model = load_model(args.algo, model_path, env)
    observation, done, frames = env.reset(), False, []
    while not done:
        frames.append(env.render("rgb_array"))
        action, _ = model.predict(observation, deterministic=True)
        observation, _, dones, _ = env.step(action)
        done = dones[0]
    env.close()
    stride = -(-len(frames) // max_frames)
    images = [Image.fromarray(frame) for frame in frames[::stride]]
    images = [image.resize((320, round(320 * image.height / image.width))).quantize(64) for image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    images[0].save(path, save_all=True, append_images=images[1:], duration=40 * stride, loop=0, optimize=True)

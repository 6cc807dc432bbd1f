"""
How fast should the average follow the actor? Trainings of the preset `modern`, in which the actor and its averages at several
rates are evaluated.

    python results/actor_average.py Hopper-v5 Walker2d-v5 --seeds 0 1 2

An average changes nothing in the training, so these are the evaluations that `policy_kwargs=dict(actor_average=RATE)` has, at
all rates at once. What is there in the CSV file is not made again. `--picture` draws what there is.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.policies.averaging import ActorAverage

RATES = (0.03, 0.01, 0.003, 0.001)  # beside the actor itself, which is 0 in the file
FINAL = 20  # episodes of the last evaluation; of those on the way 5
COLUMNS = ["env", "seed", "step", "rate", "episodes", "mean_return"]


class Averages(BaseCallback):
    """Evaluates the actor and its averages."""

    def __init__(self, env_id: str, seed: int, every: int, episodes: int, final: int):
        super().__init__()
        self.env_id, self.seed, self.every, self.episodes, self.final = env_id, seed, every, episodes, final
        self.rows: list[list] = []

    def _on_training_start(self) -> None:
        policy = self.model.policy
        self.averages = {rate: ActorAverage(policy.actor, rate, policy.normaliser) for rate in RATES}
        policy.average_actor = lambda: [average.update() for average in self.averages.values()]

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            self.evaluate(self.episodes)
        return True

    def _on_training_end(self) -> None:
        self.evaluate(self.final)

    def evaluate(self, episodes: int) -> None:
        policy = self.model.policy
        for rate in (0, *RATES):
            policy.averaged_actor = policy.actor if rate == 0 else self.averages[rate].network
            env = make_vec_env(self.env_id, 1, seed=10_000 * (self.seed + 1) + self.num_timesteps % 9973)
            returns, _ = evaluate_policy(self.model, env, episodes, return_episode_rewards=True)
            env.close()
            self.rows.append([self.env_id, self.seed, self.num_timesteps, rate, episodes, round(float(np.mean(returns)), 2)])


def draw(file: Path) -> None:
    """The curves of the actor and of two averages, each the mean of the seeds."""
    import matplotlib.pyplot as plt

    curves: dict[tuple[str, float], dict[int, list[float]]] = {}
    with file.open() as opened:
        for row in csv.DictReader(opened):
            if int(row["episodes"]) < FINAL:
                of_step = curves.setdefault((row["env"], float(row["rate"])), {})
                of_step.setdefault(int(row["step"]), []).append(float(row["mean_return"]))
    envs = list(dict.fromkeys(env for env, _ in curves))
    figure, axes = plt.subplots(1, len(envs), figsize=(4 * len(envs), 3.4), squeeze=False)
    for ax, env in zip(axes[0], envs, strict=True):
        for rate, style in ((0, "C7-"), (0.01, "C0-"), (0.001, "C1--")):
            curve = curves[env, rate]
            label = "the actor itself" if rate == 0 else f"average, rate {rate}"
            ax.plot(list(curve), [np.mean(returns) for returns in curve.values()], style, label=label)
        n_seeds = max(map(len, curve.values()))
        ax.set(title=f"{env}, {n_seeds} seed{'s' * (n_seeds > 1)}", xlabel="environment steps")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    axes[0, 0].set_ylabel("mean return of 5 episodes")
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(file.with_suffix(".png"), dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envs", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=5000)
    parser.add_argument("--file", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--picture", action="store_true")
    args = parser.parse_args()
    if args.picture:
        return draw(args.file)
    th.set_num_threads(1)
    if not args.file.exists():
        args.file.write_text(",".join(COLUMNS) + "\n")
    for seed in args.seeds:
        for env_id in args.envs:
            with args.file.open() as file:
                if any((row["env"], row["seed"]) == (env_id, str(seed)) for row in csv.DictReader(file)):
                    continue
            callback = Averages(env_id, seed, args.every, 5, FINAL)
            DDPG.from_preset("modern", env_id, seed=seed).learn(args.steps, callback=callback)
            with args.file.open("a") as file:
                csv.writer(file, lineterminator="\n").writerows(callback.rows)
            print(env_id, seed, callback.rows[-len(RATES) - 1 :], flush=True)


if __name__ == "__main__":
    main()

"""``plot noise``: what exploration noise does in time, measured and by its theory."""

import argparse
import ast
import textwrap
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th

from sb3_ddpg_ext.cli.plot import figures
from sb3_ddpg_ext.cli.plot.noise_theory import Theory, Training, lagged_products, theory
from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.noise import AdaptiveParameterNoise, CombinedNoise, Noise, make_action_noise

N_TRACES = 3
N_BINS = 61  # odd, so that the mean lies within one
MEASURED, TRACES = figures.PALETTE[0], figures.PALETTE[1:4]
BOUND: dict[str, Any] = dict(color="black", linewidth=1, linestyle="-.")
TARGET: dict[str, Any] = dict(color="black", linewidth=1, linestyle=(0, (1, 1)), label="± target")
BATCH, SETTLING = 256, 2000  # observations and, at most, steps of the adaptation before anything is shown


@dataclass
class Row:
    """One kind of noise: what was measured, and what is known of it."""

    spec: str
    samples: np.ndarray  # of shape (episodes, steps)
    theory: Theory | None
    target: float | None = None  # root mean square over the training
    schedules: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line, e.g. ``std 0.1 (theory 0.1), correlation time 1 (theory 1) steps: normal_0.1``."""
        std, time = "no theory" if self.target is None else f"target {self.target:.3g}", "no theory"
        if self.theory is not None:
            std, time = f"theory {self.theory.std:.3g}", f"theory {correlation_time(self.theory.autocorrelation())}"
        measured = correlation_time(autocorrelation(self.samples))
        return f"std {self.samples.std():.3g} ({std}), correlation time {measured} ({time}) steps: {self.spec}"


class ActionSource:
    """Noise that is added to actions, or put in their place, where the policy's action is 0."""

    def __init__(self, noise: Noise, args: argparse.Namespace):
        self.noise = noise.prepare(args.action_dim, seed=args.seed, episode_length=args.steps)
        self._actions = np.zeros((1, args.action_dim), np.float32)

    def reset(self) -> None:
        """Begin an episode."""
        self.noise.reset()

    def step(self) -> float:
        """The noise in the first dimension of the next action, before it is cut to the bounds."""
        return self.noise.apply(self._actions)[0, 0]


class ActorSource:
    """
    What noise in the parameters of an untrained actor does to its actions, in an environment where the perturbed one acts.

    Before, adaptive noise settles on observations that random actions lead to; then it goes on as in a training with one
    update a step. An episode that the environment ends early is followed by another one, with a new copy of the actor.
    """

    def __init__(self, noise: Noise, args: argparse.Namespace):
        env = gym.make(args.env, max_episode_steps=args.steps)
        policy = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy"
        network = dict(net_arch=[64, 64], actor_norm="layer")
        self.model = DDPG(policy, env, action_noise=noise, policy_kwargs=network, buffer_size=1, seed=args.seed, device="cpu")
        self.noise: Noise = self.model.action_noise  # type: ignore[assignment]
        self.perturbation: Any = self.model.parameter_noise
        vec_env = self.model.get_env()
        assert vec_env is not None
        self._env, self._steps = vec_env, 0
        self._observations: Any = self._env.reset()
        self._batch = self.model.policy.obs_to_tensor(self._random_observations())[0]
        if isinstance(self.perturbation, AdaptiveParameterNoise):
            self._settle(self.perturbation)

    def _settle(self, perturbation: AdaptiveParameterNoise) -> None:
        """Adapt until the last 100 distances lie on either side of the target."""
        target, shorter = perturbation.statistics()["parameter_target"], []
        for _ in range(SETTLING):
            shorter.append(perturbation.adapt(self.model.policy, self._batch) < target)
            if len(shorter) >= 100 and 30 <= sum(shorter[-100:]) <= 70:
                break

    def _random_observations(self) -> Any:
        seen: list[Any] = [self._env.step(self.model.action_space.sample()[None])[0] for _ in range(BATCH)]
        if isinstance(seen[0], dict):
            return {key: np.concatenate([one[key] for one in seen]) for key in seen[0]}
        return np.concatenate(seen)

    def reset(self) -> None:
        """Begin an episode."""
        self._observations = self._env.reset()
        self.noise.reset([0])

    def step(self) -> float:
        """How far the next action is from the unperturbed actor's, in the first dimension, before it is cut to the bounds."""
        policy, observations = self.model.policy, self._observations
        noisy = self.noise.apply(self.perturbation.act(policy, observations))
        quiet = policy.scale_action(policy.predict(observations)[0])
        self._observations, _, dones, _ = self._env.step(policy.unscale_action(np.clip(noisy, -1, 1)))
        if dones[0]:
            self.noise.reset([0])
        self._steps += 1
        self.perturbation.after_update(self._steps, policy, self._batch)
        return (noisy - quiet).flat[0]


def run(args: argparse.Namespace) -> None:
    """Simulate, print a line for each kind, draw."""
    plt = figures.pyplot()
    th.set_num_threads(1)  # the networks are too small for more
    training = Training(args.episodes, args.steps)
    noises = [parse(spec, args.action_dim) for spec in args.specs]
    sources = [make_source(noise, args) for noise in noises]
    rows = []
    for spec, noise, source in zip(args.specs, noises, sources, strict=True):
        rows.append(examine(spec, noise, source, training))
        print(rows[-1].line(), flush=True)
    figures.save(draw(plt, rows), args.png, args.svg)
    print(f"Noise: {args.png}")


def parse(text: str, action_dim: int) -> Noise:
    try:
        spec = ast.literal_eval(text.strip()) if text.strip()[:1] in ("{", "[") else text
    except (SyntaxError, TypeError, ValueError) as error:
        raise SystemExit(f"SPEC {text!r} begins as a dict or a list, and must be a Python literal ({error})") from error
    try:
        noise = make_action_noise(spec, action_dim)
    except (TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if not isinstance(noise, Noise):
        raise SystemExit(f"SPEC {text!r} is no noise; there is nothing to draw")
    return noise


def make_source(noise: Noise, args: argparse.Namespace) -> ActionSource | ActorSource:
    try:
        return ActionSource(noise, args) if noise.parameter_noise is None else ActorSource(noise, args)
    except gym.error.Error as error:
        raise SystemExit(f"--env {args.env}: {error}") from error
    except (TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error


def examine(spec: str, noise: Noise, source: ActionSource | ActorSource, training: Training) -> Row:
    """Simulate one kind, and gather what is known of it."""
    row = Row(spec, simulate(source, training), theory(noise, training), schedules=schedules(noise, training))
    if isinstance(source, ActorSource):
        sigma = source.perturbation.statistics()["parameter_sigma"]
        if isinstance(source.perturbation, AdaptiveParameterNoise):
            row.target = float(np.sqrt(np.mean(training.values(source.perturbation.target) ** 2)))
            row.notes.append(f"sigma found = {sigma:.3g}")
        row.notes.append("no theory in time: that depends on actor and environment")
    elif row.theory is not None and row.theory.cdf is None:
        row.notes.append("no theory of this sum's density")
    return row


def simulate(source: ActionSource | ActorSource, training: Training) -> np.ndarray:
    """Samples of shape (episodes, steps), at the times that the training has."""
    samples = np.empty(training)
    for episode in range(training.episodes):
        source.reset()
        for step in range(training.steps):
            source.noise.set_progress(*training.time(episode * training.steps + step))
            samples[episode, step] = source.step()
    return samples


def schedules(noise: Noise, training: Training) -> list[str]:
    """What changes in the training that is shown, e.g. ``sigma 0.5 to 0.05 over the 100 episodes``."""
    parts = noise.parts if isinstance(noise, CombinedNoise) else [noise]
    scheduled = [(name, value) for part in parts for name, value in vars(part).items() if callable(value) and name[0] != "_"]
    values = [(name, training.values(value)) for name, value in scheduled]
    return [f"{name} {value[0, 0]:.3g} to {value[-1, -1]:.3g} over the {len(value)} episodes" for name, value in values]


def autocorrelation(samples: np.ndarray) -> np.ndarray:
    """As :meth:`Theory.autocorrelation`, with the mean over the episodes, at each step, taken off."""
    rest = samples - samples.mean(axis=0)
    squares = (rest**2).sum(axis=0).cumsum()[::-1]
    products = lagged_products(rest, rest, samples.shape[1])
    return np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0)


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Periodograms with a Hann window, without which the ends of an episode would hide steep spectra; mean over episodes."""
    window = np.hanning(samples.shape[1] + 1)[:-1]
    transforms = np.fft.rfft((samples - samples.mean(axis=0)) * window)[:, 1:]
    return np.mean(np.abs(transforms) ** 2, axis=0) / np.sum(window**2)


def correlation_time(correlation: np.ndarray) -> str:
    """The first lag below 1/e; within the first nine tenths, as the last lags have few pairs."""
    lags = np.flatnonzero(correlation[: len(correlation) * 9 // 10] < np.exp(-1))
    return str(lags[0]) if len(lags) else f"> {len(correlation) * 9 // 10 - 1}"


def draw(plt: Any, rows: list[Row]) -> Any:
    """One row of panels for each kind, and one legend below all."""
    figure = plt.figure(figsize=(figures.WIDTH, 2.25 * len(rows) + 0.5), layout="constrained")
    *parts, below = figure.subfigures(len(rows) + 1, 1, height_ratios=[2.25] * len(rows) + [0.5])
    handles: dict[str, Any] = {}
    for row, part in zip(rows, parts, strict=True):
        title = "; ".join([row.line(), *row.schedules, *row.notes])
        part.suptitle(textwrap.fill(title, 108), fontsize=9, x=0.01, ha="left")
        panels = part.subplots(1, 4, width_ratios=[1.5, 1, 1, 1])
        for axes, draw_panel in zip(panels, (draw_traces, draw_density, draw_autocorrelation, draw_spectrum), strict=True):
            draw_panel(axes, row)
            axes.tick_params(labelsize=8)
            axes.xaxis.label.set_fontsize(8)
            axes.title.set_fontsize(9)
            found, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, found, strict=True))
    below.legend(handles.values(), handles, loc="center", ncols=4, frameon=False, fontsize=8)
    return figure


def shown_lags(row: Row) -> int:
    """Where the autocorrelation has become small, but not beyond what an episode can tell."""
    own = autocorrelation(row.samples) if row.theory is None else row.theory.autocorrelation()
    n_steps, time = row.samples.shape[1], correlation_time(own)
    return min(n_steps * 3 // 4, max(20, 5 * int(time.strip("> "))))


def draw_traces(axes: Any, row: Row) -> None:
    n_episodes, n_steps = row.samples.shape
    n_shown = min(n_steps, max(100, 3 * shown_lags(row)))
    steps = np.arange(1, n_shown + 1)
    for i, episode in enumerate(np.linspace(0, n_episodes - 1, min(N_TRACES, n_episodes)).astype(int)):
        look = dict(color=TRACES[i], linestyle=("-", (0, (4, 1)), ":")[i], linewidth=(0.8, 0.9, 1.2)[i])
        axes.plot(steps, row.samples[episode, :n_shown], label=f"episode {episode + 1}", **look)
    if row.theory is not None:
        mean, std = (values[:n_shown] for values in row.theory.bands())
        axes.plot(steps, mean - std, steps, mean + std, **BOUND, label="mean ± standard deviation, theory")
    elif row.target is not None:
        for value in (-row.target, row.target):
            axes.axhline(value, **TARGET)
    axes.set(title="traces", xlabel="step of the episode")


def draw_density(axes: Any, row: Row) -> None:
    centre = row.samples.mean()
    reach = max(np.abs(row.samples - centre).max(), 1e-6) * 1.02
    edges = centre + np.linspace(-reach, reach, N_BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    measured, _ = np.histogram(row.samples, edges, density=True)
    second, first = np.sort(measured)[-2:]
    if first > 10 * second:  # a mass in one bin, which would hide all others
        axes.set_yscale("log")
        axes.plot(middles[measured > 0], measured[measured > 0], ".", color=MEASURED, label="measured density")
        axes.set_ylim(bottom=measured[measured > 0].min() / 3)
    else:
        axes.stairs(measured, edges, fill=True, color=MEASURED, alpha=0.5, label="measured density")
    if row.theory is not None and row.theory.cdf is not None:
        axes.plot(middles, row.theory.density(edges), "k--", linewidth=1, label="theory")
        if row.theory.limit is not None:
            axes.plot(middles, row.theory.density(edges, row.theory.limit), "k:", linewidth=1.2, label="theory, stationary")
    elif row.target is not None:
        for value in (-row.target, row.target):
            axes.axvline(value, **TARGET)
    axes.set(title="density", xlabel="noise")


def draw_autocorrelation(axes: Any, row: Row) -> None:
    lags = np.arange(shown_lags(row) + 1)
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.plot(lags, autocorrelation(row.samples)[: len(lags)], color=MEASURED, label="measured")
    if row.theory is not None:
        axes.plot(lags, row.theory.autocorrelation()[: len(lags)], "k--", linewidth=1, label="theory")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(title="autocorrelation", xlabel="lag in steps")


def draw_spectrum(axes: Any, row: Row) -> None:
    frequencies, measured = (x[1:] for x in (Training(*row.samples.shape).frequencies, spectrum(row.samples)))
    axes.plot(frequencies, measured, color=MEASURED)  # without the lowest: the window mixes the mean into it
    if row.theory is not None:
        axes.plot(frequencies, row.theory.spectrum()[1:], "k--", linewidth=1, label="theory")
    low, high = measured.min(), measured.max()
    axes.set(xscale="log", yscale="log" if high > 0 else "linear")
    if 0 < high < 100 * low:  # less than two decades would make a mountain range of what is flat
        middle = np.sqrt(low * high)
        axes.set_ylim(middle / 10, middle * 10)
    axes.set(title="power spectrum", xlabel="cycles per step")

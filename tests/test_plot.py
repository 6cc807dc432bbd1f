"""The theory of noise against numbers made without it, and the two commands that draw."""

import csv
import struct
import sys
from argparse import Namespace
from copy import deepcopy

import numpy as np
import pytest
from gymnasium.envs.registration import register, registry

from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.cli.plot import noise as plot_noise
from sb3_ddpg_ext.cli.plot import results as plot_results
from sb3_ddpg_ext.cli.plot.figures import pyplot
from sb3_ddpg_ext.cli.plot.noise_theory import Training, coloured, lagged_products, theory
from sb3_ddpg_ext.cli.reports.report import Evaluation, append_row
from sb3_ddpg_ext.noise import (
    NOISES,
    AdaptiveParameterNoise,
    ColouredNoise,
    CombinedNoise,
    CorrelatedNoise,
    FixedParameterNoise,
    GaussianNoise,
    Noise,
    OrnsteinUhlenbeckNoise,
    UniformMixing,
)
from sb3_ddpg_ext.noise.coloured import coloured_sequence
from sb3_ddpg_ext.schedules import Exponential, Linear


def run_plot(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "plot", *map(str, arguments)])
    main()


def assert_drawing(path, least_height):
    """A PNG that is more than white."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width >= 900
    assert height >= least_height
    assert len(content) > 10_000


def ar1(keep, drive, chains, steps, seed=0):
    """x[t] = keep x[t - 1] + drive N(0, 1), begun at 0."""
    rng, x, samples = np.random.default_rng(seed), np.zeros(chains), np.empty((chains, steps))
    for t in range(steps):
        x = keep * x + drive * rng.standard_normal(chains)
        samples[:, t] = x
    return samples


def simulated(noise, training, action_dim=1):
    source = plot_noise.ActionSource(noise, Namespace(action_dim=action_dim, steps=training.steps, seed=3))
    return plot_noise.simulate(source, training)


@pytest.mark.parametrize(("dt", "rtol"), [(0.01, 0.06), (1.0, 0.02)])
def test_ou_against_an_autoregression(dt, rtol):
    """Standard deviation over time and autocorrelation of the OU theory are those of 4000 simulated AR(1) chains."""
    samples = ar1(1 - 0.15 * dt, 0.2 * np.sqrt(dt), chains=4000, steps=400)
    found = theory(OrnsteinUhlenbeckNoise(0.2, theta=0.15, dt=dt), Training(2, 400))
    np.testing.assert_allclose(found.bands()[1], samples.std(axis=0), rtol=0.06)
    assert found.std == pytest.approx(samples.std(), rel=rtol)
    for k in (1, 3, 10, 100, 300):
        expected = np.sum(samples[:, k:] * samples[:, :-k]) / np.sum(samples[:, :-k] ** 2)
        assert found.autocorrelation()[k] == pytest.approx(expected, abs=0.03)
    edges = np.linspace(-1.2, 1.2, 31)
    expected, _ = np.histogram(samples, edges, density=True)
    np.testing.assert_allclose(found.density(edges), expected, atol=0.05 * expected.max())


@pytest.mark.parametrize(("theta", "dt"), [(0.15, 0.01), (0.15, 1.0), (1.5, 1.0)])
def test_ou_moments_are_those_of_the_recursion(theta, dt):
    """Mean and variance obey m' = m + theta (mean - m) dt, v' = (1 - theta dt)^2 v + sigma^2 dt, also where it oscillates."""
    found = theory(OrnsteinUhlenbeckNoise(0.2, theta, dt, mean=-0.1, start=0.5), Training(2, 50))
    mean, variance = 0.5, 0.0
    for t in range(50):
        mean, variance = mean + theta * (-0.1 - mean) * dt, (1 - theta * dt) ** 2 * variance + 0.2**2 * dt
        assert found.mean[1, t] == pytest.approx(mean)
        assert found.variance[1, t] == pytest.approx(variance)


def test_ou_that_begins_stationary():
    """Each step has the variance sigma^2 / (2 theta - theta^2 dt), and there is no other density to draw."""
    found = theory(OrnsteinUhlenbeckNoise(0.2, start="stationary"), Training(2, 50))
    np.testing.assert_allclose(found.variance, 0.2**2 / (2 * 0.15 - 0.15**2 * 0.01))
    assert found.limit is None


def test_stationary_density_of_ou_is_wider():
    """What the noise approaches in 667 steps has a lower peak than the average of 100 steps from zero."""
    found = theory(OrnsteinUhlenbeckNoise(0.2), Training(2, 100))
    edges = np.linspace(-0.02, 0.02, 2)
    stationary = found.density(edges, found.limit)[0]
    assert stationary == pytest.approx(1 / np.sqrt(2 * np.pi * 0.2**2 / (0.3 - 0.15**2 * 0.01)), rel=1e-3)
    assert found.density(edges)[0] > 3 * stationary


@pytest.mark.parametrize("keep", [0.85, 0.5, -0.5])
def test_ou_spectrum_is_the_transform_of_its_autocovariance(keep):
    """As Wiener and Khinchin say; its mean over all frequencies is the variance."""
    found = theory(OrnsteinUhlenbeckNoise(0.2, theta=1 - keep, dt=1.0, start="stationary"), Training(2, 400))
    variance, lags = 0.2**2 / (1 - keep**2), np.arange(1, 400)
    frequencies = np.fft.rfftfreq(400)[1:]
    transform = variance * (1 + 2 * np.cos(2 * np.pi * np.outer(frequencies, lags)) @ keep**lags)
    np.testing.assert_allclose(found.spectrum(), transform, rtol=1e-6)
    assert np.mean(found.spectrum()) == pytest.approx(variance, rel=0.05)


def test_spectrum_of_ou_that_begins_at_zero():
    """That of the stationary process: the fast motions that an episode can show are there from its first step."""
    spectra = [theory(OrnsteinUhlenbeckNoise(0.2, start=start), Training(2, 50)).spectrum() for start in (0.0, "stationary")]
    np.testing.assert_allclose(*spectra)


@pytest.mark.parametrize("noise", [GaussianNoise(0.3), CorrelatedNoise([[0.09, 0.01], [0.01, 0.5]])], ids=repr)
def test_white_noise(noise):
    """No autocorrelation, a flat spectrum of the height of the variance, a normal density of the first dimension."""
    found = theory(noise, Training(2, 30))
    assert found.std == pytest.approx(0.3)
    np.testing.assert_array_equal(found.autocorrelation(), [1] + [0] * 29)
    np.testing.assert_allclose(found.spectrum(), 0.09)
    density = found.density(np.array([-0.001, 0.001, 0.299, 0.301]))
    assert density[0] == pytest.approx(1 / (0.3 * np.sqrt(2 * np.pi)), rel=1e-4)
    assert density[2] == pytest.approx(np.exp(-0.5) / (0.3 * np.sqrt(2 * np.pi)), rel=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("length", [64, 65])
def test_coloured_autocorrelation_against_brute_force(beta, length):
    """It is the sum of cosines with the power of each frequency, and that of products over 20000 sequences."""
    correlation, _ = coloured(beta, length, np.fft.rfftfreq(length)[1:])
    powers = [max(min(j, length - j) / length, 1 / length) ** -beta for j in range(length)]
    cosines = [
        sum(power * np.cos(2 * np.pi * j * k / length) for j, power in enumerate(powers)) / sum(powers) for k in range(length)
    ]
    np.testing.assert_allclose(correlation, cosines, atol=1e-12)
    sequences = coloured_sequence(np.random.default_rng(0), beta, length, 20_000)
    products = [np.mean(sequences[0] * sequences[k]) for k in range(length)]
    np.testing.assert_allclose(correlation, products, atol=0.05)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_coloured_spectrum(beta):
    """A straight line of the slope -beta whose mean over all frequencies is the variance; level below 1 / length."""
    training = Training(2, 500)
    found = theory(ColouredNoise(0.3, beta), training).spectrum()
    slope = np.polyfit(np.log(training.frequencies), np.log(found), 1)[0]
    assert slope == pytest.approx(-beta)
    whole = np.concatenate([found[:1], found, found[:-1]])  # 0, the positive and the negative frequencies
    assert np.mean(whole) == pytest.approx(0.3**2)
    short = theory(ColouredNoise(0.3, beta, length=50), training).spectrum()
    assert short[8] == short[0] > short[10]


def test_sequences_shorter_than_the_episode():
    """No correlation across their ends: the mean over all pairs of a lag, most of them within one sequence or none."""
    correlation, _ = coloured(1.0, 8, np.array([0.1]))
    found = theory(ColouredNoise(0.3, length=8), Training(2, 20)).autocorrelation()
    for k in range(20):
        pairs = [correlation[k] if t // 8 == (t + k) // 8 else 0 for t in range(20 - k)]
        assert found[k] == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(("mean", "clip"), [(0.0, 0.5), (0.2, 0.3), (-0.6, 0.4)])
def test_clipped_noise(mean, clip):
    """Its moments, its density and the mass at its ends are those of two million clipped numbers."""
    found = theory(GaussianNoise(0.3, mean, clip), Training(2, 20))
    samples = np.clip(np.random.default_rng(0).normal(mean, 0.3, 2_000_000), -clip, clip)
    assert found.mean[0, 0] == pytest.approx(samples.mean(), abs=1e-3)
    assert found.std == pytest.approx(samples.std(), rel=3e-3)
    edges = np.linspace(-clip - 0.1, clip + 0.1, 22)
    expected, _ = np.histogram(samples, edges, density=True)
    np.testing.assert_allclose(found.density(edges), expected, atol=0.03)
    assert found.density(edges)[0] == 0


def test_uniform_mixing():
    """With the chance 1 - epsilon nothing, else uniform: a mass at 0, the density epsilon / 2, the variance epsilon / 3."""
    found = theory(UniformMixing(0.3), Training(2, 20))
    edges = np.linspace(-1.5, 1.5, 16)
    density = found.density(edges)
    assert found.std == pytest.approx(np.sqrt(0.3 / 3))
    assert density[7] == pytest.approx(0.7 / 0.2 + 0.15)
    np.testing.assert_allclose(density[[3, 5, 9, 11]], 0.15)
    np.testing.assert_allclose(density[[0, 1, 13, 14]], 0)
    np.testing.assert_allclose(found.spectrum(), 0.1)


def test_sum_of_noises():
    """Variances, autocovariances and spectra of independent noises add, and the sum of Gaussian ones is Gaussian."""
    training = Training(2, 100)
    parts = [OrnsteinUhlenbeckNoise(0.2, dt=1.0), GaussianNoise(0.1), ColouredNoise(0.3)]
    one = [theory(part, training) for part in parts]
    found = theory(CombinedNoise(parts), training)
    np.testing.assert_allclose(found.variance, sum(part.variance for part in one))
    np.testing.assert_allclose(found.spectrum(), sum(part.spectrum() for part in one))
    before = [part.variance[0].cumsum()[::-1] for part in one]
    covariances = sum(part.autocorrelation() * variance for part, variance in zip(one, before, strict=True))
    np.testing.assert_allclose(found.autocorrelation(), covariances / sum(before), atol=1e-12)
    peak = found.density(np.array([-1e-4, 1e-4]))[0]
    assert peak == pytest.approx(np.mean(1 / np.sqrt(2 * np.pi * found.variance)), rel=1e-4)


def test_sum_without_a_density():
    """Clipped noise adds its variance to a sum; the density stays open, also below a mixture with random actions."""
    parts = [GaussianNoise(0.3, clip=0.2), GaussianNoise(0.1), UniformMixing(0.5)]
    clipped = theory(parts[0], Training(2, 20))
    for n, variance in ((2, clipped.std**2 + 0.01), (3, 0.5 * (clipped.std**2 + 0.01) + 0.5 / 3)):
        found = theory(CombinedNoise(parts[:n]), Training(2, 20))
        assert found.std == pytest.approx(np.sqrt(variance))
        assert found.cdf is None


def test_time_of_schedules():
    """It runs from the first step of the first episode to the last step of the last, in shares and in steps."""
    training = Training(5, 20)
    linear = theory(GaussianNoise(Linear(1.0, 0.5)), training).variance
    np.testing.assert_allclose(linear, (1 - 0.5 * np.arange(100).reshape(5, 20) / 100) ** 2)
    over_steps = theory(GaussianNoise([0.3], scale=Exponential(1.0, 0.99)), training).variance
    np.testing.assert_allclose(over_steps, (0.3 * 0.99 ** np.arange(100).reshape(5, 20)) ** 2)


def test_no_theory_of_parameter_noise():
    """Nor of a sum with it, nor of a kind that nobody has a theory of."""

    class Strange(Noise):
        def apply(self, actions):
            return actions

    assert theory(FixedParameterNoise(0.1), Training(2, 20)) is None
    assert theory(CombinedNoise([AdaptiveParameterNoise(0.1), GaussianNoise(0.1)]), Training(2, 20)) is None
    assert theory(Strange(), Training(2, 20)) is None
    assert theory(CombinedNoise([GaussianNoise(0.1), Strange()]), Training(2, 20)) is None


def test_a_noise_of_ones_own_is_drawn(monkeypatch, tmp_path, capsys):
    """What is measured of it, without a theory."""

    class Alternating(Noise):
        def __init__(self, size):
            super().__init__()
            self.size, self.sign = size, 1.0

        def apply(self, actions):
            self.sign = -self.sign
            return actions + self.sign * self.size

    NOISES.register("alternating")(Alternating)
    try:
        run_plot(monkeypatch, "noise", "alternating_0.5", "--steps", 100, "--episodes", 20, "--png", tmp_path / "noise.png")
    finally:
        NOISES.unregister("alternating")
    assert "std 0.5 (no theory)" in capsys.readouterr().out
    assert_drawing(tmp_path / "noise.png", 300)


@pytest.mark.parametrize(
    "noise",
    [
        GaussianNoise(0.2, mean=0.1),
        GaussianNoise(0.3, clip=0.4),
        GaussianNoise(Linear(0.5, 0.1)),
        OrnsteinUhlenbeckNoise(0.2, dt=1.0),
        OrnsteinUhlenbeckNoise(0.2, dt=1.0, start=1.0, scale=Linear(1.0, 0.5)),
        OrnsteinUhlenbeckNoise(0.2, theta=1.5, dt=1.0, start="stationary"),
        ColouredNoise(0.3),
        ColouredNoise(0.3, length=16),
        CorrelatedNoise([[0.04, 0.02], [0.02, 0.09]], scale=2.0),
        UniformMixing(0.3),
        CombinedNoise([OrnsteinUhlenbeckNoise(0.2, dt=1.0, mean=0.3), UniformMixing(Linear(0.8, 0.0))]),
        CombinedNoise([ColouredNoise(0.2), GaussianNoise(0.1)]),
    ],
    ids=repr,
)
def test_theory_agrees_with_the_noise(noise):
    """Each kind has the moments, autocorrelation, spectrum and density that its theory says, within the error of 300 runs."""
    training = Training(300, 64)
    samples, found = simulated(noise, training, action_dim=2), theory(noise, training)
    assert samples.std() == pytest.approx(found.std, rel=0.05)
    assert samples.mean() == pytest.approx(found.mean.mean(), abs=0.04)
    np.testing.assert_allclose(samples.var(axis=0).mean(), found.bands()[1].mean() ** 2, rtol=0.1)
    np.testing.assert_allclose(plot_noise.autocorrelation(samples)[:32], found.autocorrelation()[:32], atol=0.08)
    ratios = plot_noise.spectrum(samples)[2:] / found.spectrum()[2:]
    np.testing.assert_allclose(ratios, 1, atol=0.5)
    assert np.mean(ratios) == pytest.approx(1, abs=0.07)
    edges = found.mean.mean() + np.linspace(-2.1, 2.1, 22)  # the mass at 0 within a bin
    measured, _ = np.histogram(samples, edges)
    np.testing.assert_allclose(found.density(edges) * np.diff(edges), measured / samples.size, atol=0.02)


@pytest.mark.parametrize("length", [1, 3, 7, 10, 99])
def test_lagged_products(length):
    """Those of a double loop, within pieces of ``length`` steps."""
    then, now = np.random.default_rng(0).normal(size=(2, 4, 10))
    expected = np.zeros(min(length, 10))
    for t in range(10):
        for k in range(10 - t):
            if t // length == (t + k) // length:
                expected[k] += then[:, t] @ now[:, t + k]
    np.testing.assert_allclose(lagged_products(then, now, length), expected, atol=1e-12)


def test_correlation_time():
    """The first lag below 1/e, or how far was looked."""
    assert plot_noise.correlation_time(np.array([1, 0.5, 0.36, 0.5] + [0] * 6)) == "2"
    assert plot_noise.correlation_time(0.9 ** np.arange(100)) == "10"
    assert plot_noise.correlation_time(np.linspace(1, 0.5, 100)) == "> 89"
    assert plot_noise.correlation_time(np.array([1.0] * 95 + [0.0] * 5)) == "> 89"


SPECS = {
    **{kind: f"{kind}_0.1" for kind in NOISES if kind != "correlated"},
    "correlated": "{'kind': 'correlated', 'covariance': [[0.04]]}",
    "clip": "{'kind': 'normal', 'sigma': 0.3, 'clip': 0.4}",
    "schedule": "normal_lin_0.5_0.05",
    "target": "adaptive-param_lin_0.5_0.1",
    "list": "[{'kind': 'normal', 'sigma': 0.3, 'clip': 0.4}, 'normal_0.1']",
    "sum": "adaptive-param_0.2, normal_0.05, epsilon_0.1",
    "zero": "normal_0",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_is_drawn(kind, monkeypatch, capsys, tmp_path):
    """One line for each spec, one for the file, which is a picture, and no warning."""
    path = tmp_path / "new" / "noise.png"
    monkeypatch.setattr(plot_noise, "SETTLING", 10)
    run_plot(monkeypatch, "noise", SPECS[kind], "--steps", 40, "--episodes", 3, "--png", path)
    line, last = capsys.readouterr().out.splitlines()
    assert line.startswith("std ")
    assert line.endswith(f" steps: {SPECS[kind]}")
    assert last == f"Noise: {path}"
    assert_drawing(path, least_height=300)


def test_line_of_a_spec(monkeypatch, capsys, tmp_path):
    """Standard deviations and correlation times, measured and in theory; a row of panels for each spec."""
    path = tmp_path / "noise.png"
    specs = ["normal_0.1", "{'kind': 'ou', 'sigma': 0.2, 'dt': 1.0, 'start': 'stationary'}"]
    run_plot(monkeypatch, "noise", *specs, "--steps", 200, "--episodes", 100, "--png", path, "--action-dim", 2)
    white, ou = (line.replace("(", "").replace(")", "").split() for line in capsys.readouterr().out.splitlines()[:2])
    assert float(white[1]) == pytest.approx(0.1, rel=0.02)
    assert [white[i] for i in (3, 6, 8)] == ["0.1,", "1", "1"]
    assert float(ou[1]) == pytest.approx(0.38, rel=0.05)
    assert [ou[i] for i in (3, 8)] == ["0.38,", "7"]
    assert int(ou[6]) in (6, 7, 8)
    assert_drawing(path, least_height=600)


@pytest.mark.parametrize("noise", [GaussianNoise(), FixedParameterNoise(), AdaptiveParameterNoise()], ids=repr)
def test_same_seed_same_noise(noise, monkeypatch):
    """And another one with another seed."""
    monkeypatch.setattr(plot_noise, "SETTLING", 10)
    training = Training(2, 20)
    arguments = [Namespace(action_dim=1, env="Pendulum-v1", steps=20, seed=seed) for seed in (0, 0, 1)]
    sources = [plot_noise.make_source(deepcopy(noise), each) for each in arguments]
    first, again, other = (plot_noise.simulate(source, training) for source in sources)
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def actor_samples(noise, env="Pendulum-v1", steps=30, episodes=3):
    """Of an actor with noise in its parameters."""
    source = plot_noise.ActorSource(noise, Namespace(env=env, steps=steps, seed=0))
    return source, plot_noise.simulate(source, Training(episodes, steps))


def test_actor_without_perturbation():
    """It acts as the unperturbed actor does, so the difference is rounding; what is added to it is seen whole."""
    _, samples = actor_samples(FixedParameterNoise(0.0))
    assert np.abs(samples).max() < 1e-6
    _, samples = actor_samples(CombinedNoise([FixedParameterNoise(0.0), GaussianNoise(0.0, mean=0.25)]))
    np.testing.assert_allclose(samples, 0.25, atol=1e-6)


def test_each_episode_has_its_own_copy():
    """The same observation leads to differences of its own in each episode, within an episode they are a function of it."""
    source, _ = actor_samples(FixedParameterNoise(0.05), episodes=1)
    begin, values = source._observations.copy(), []
    for _ in range(3):
        source.reset()
        for _ in range(2):
            source._observations = begin
            values.append(source.step())
    assert values[::2] == values[1::2]
    assert len(set(values)) == 3


@pytest.mark.parametrize("initial_sigma", [1e-3, 0.2])
def test_adaptive_noise_settles_on_its_target(initial_sigma):
    """From a sigma ten times too small or too large, before the first episode: about half of the distances are shorter."""
    source, _ = actor_samples(AdaptiveParameterNoise(0.2, initial_sigma=initial_sigma), episodes=1)
    distances = [source.perturbation.distance(source.model.policy, source._batch) for _ in range(200)]
    assert 0.25 < np.mean(np.array(distances) < 0.2) < 0.75


def test_adaptation_goes_on(monkeypatch):
    """Every ``interval`` steps, as with one update a step, after the steps before the first episode."""
    distances = []
    distance = AdaptiveParameterNoise.distance
    monkeypatch.setattr(AdaptiveParameterNoise, "distance", lambda *args: distances.append(1) or distance(*args))
    monkeypatch.setattr(plot_noise, "SETTLING", 7)
    actor_samples(AdaptiveParameterNoise(0.2, interval=8), steps=20, episodes=2)
    assert len(distances) == 7 + 40 // 8


def test_target_is_in_the_line_and_sigma_in_the_legend(monkeypatch):
    """Of adaptive noise; both come from the noise that acted."""
    args = Namespace(env="Pendulum-v1", steps=20, seed=0)
    noise, training = AdaptiveParameterNoise(Linear(0.4, 0.2)), Training(2, 20)
    row = plot_noise.examine("spec", noise, plot_noise.make_source(noise, args), training)
    assert row.target == pytest.approx(np.sqrt(np.mean((0.4 - 0.2 * np.arange(40) / 40) ** 2)))
    assert f"(target {row.target:.3g}), correlation time " in row.line()
    assert row.schedules == ["target 0.4 to 0.205 over the 2 episodes"]
    sigma = float(row.notes[0].removeprefix("sigma found = "))
    assert 1e-3 < sigma < 0.35  # it began at 0.4


def test_dict_observations(dict_pendulum, monkeypatch):
    """An actor sees them through its own features, perturbed or not."""
    monkeypatch.setattr(plot_noise.gym, "make", lambda *args, **kwargs: dict_pendulum)
    monkeypatch.setattr(plot_noise, "SETTLING", 5)
    assert np.abs(actor_samples(FixedParameterNoise(0.0), episodes=1)[1]).max() < 1e-6
    assert np.abs(actor_samples(AdaptiveParameterNoise(0.2), episodes=1)[1]).max() > 0.01


@pytest.fixture
def short_episodes():
    """The id of an environment whose episodes end after 5 steps, whatever the limit."""
    register("Short-v0", entry_point="conftest:CountingEnv")
    yield "Short-v0"
    del registry["Short-v0"]


def test_early_end_of_an_episode(short_episodes, monkeypatch):
    """Another copy acts from there on, as in training."""
    source, _ = actor_samples(FixedParameterNoise(0.05), env=short_episodes, steps=12, episodes=1)
    drawn = []
    draw = source.perturbation._draw
    monkeypatch.setattr(source.perturbation, "_draw", lambda *args: drawn.append(1) or draw(*args))
    source.reset()
    for _ in range(12):
        source.step()
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wrong_0.1"], r"action_noise='wrong_0.1': the kind 'wrong' is unknown, did you mean 'red_0.1'"),
        (["ou_0.2", "ou_-1"], r"sigma=-1.0 must be a finite number >= 0"),
        (["{'kind': 'ou', 'beta': 1}"], r"'ou' has no argument 'beta'"),
        (["{'kind': 'ou'"], r"SPEC \"\{'kind': 'ou'\" begins as a dict or a list, and must be a Python literal"),
        (["{'kind': open('x')}"], r"must be a Python literal"),
        (["none"], r"SPEC 'none' is no noise"),
        (["{'kind': 'normal', 'sigma': [0.1, 0.2]}"], r"has 2 dimensions; it must have the action's 1"),
        (["param_0.1", "--env", "Nowhere-v0"], r"--env Nowhere-v0: "),
        (["param_0.1", "--env", "CartPole-v1"], r"env.action_space=Discrete"),
    ],
)
def test_wrong_noise(arguments, message, monkeypatch, tmp_path, capsys):
    """The command ends with one line that says what is allowed, before anything is simulated or drawn."""
    path = tmp_path / "noise.png"
    with pytest.raises(SystemExit, match=message) as caught:
        run_plot(monkeypatch, "noise", *arguments, "--png", path)
    assert "\n" not in str(caught.value)
    assert "std" not in capsys.readouterr().out
    assert not path.exists()


@pytest.mark.parametrize("option", [("--steps", "19"), ("--episodes", "1"), ("--action-dim", "0")])
def test_wrong_numbers(option, monkeypatch, capsys):
    """The smallest that is allowed is in the message."""
    with pytest.raises(SystemExit, match="2"):
        run_plot(monkeypatch, "noise", "normal_0.1", *option)
    assert f"argument {option[0]}: {option[1]} must be at least {int(option[1]) + 1}" in capsys.readouterr().err


HEADER = "env,algo,seed,mean_return,std_return,episodes,threshold,train_episodes,train_steps,train_seconds,label\n"


def write_csv(path, rows, env="Pendulum-v1"):
    """From (label, seed, mean return, threshold)."""
    lines = [
        f'{env},ddpg_ext,{seed},{value},1.0,100,{threshold},5,1000,9.5,"{label}"\n' for label, seed, value, threshold in rows
    ]
    path.write_text(HEADER + "".join(lines))
    return path


ROWS = [
    *(("ou_0.5, epsilon_0.1", seed, value, 90) for seed, value in enumerate((0.0, 0.0, 0.0, 92.0))),
    *(("normal_0.1", seed, value, 90) for seed, value in enumerate((90.0, 89.999))),
    ("alone", 7, 93.25, 90),
]


def test_results(monkeypatch, capsys, tmp_path):
    """Rows in order of first appearance, shares that reach the threshold, the seeds themselves as they are fewer than five."""
    path = write_csv(tmp_path / "results.csv", [ROWS[4], *ROWS[:4], *ROWS[5:]])
    png = tmp_path / "new" / "results.png"
    run_plot(monkeypatch, "results", path, "--png", png, "--title", "Exploration")
    *table, last = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[0] == ["label", "seeds", "mean", "each seed, or 95% interval", "solved"]
    assert cells[2:] == [
        ["normal_0.1", "2", "90.0", "90.0, 90.0", "1/2"],
        ["ou_0.5, epsilon_0.1", "4", "23.0", "0.0, 0.0, 0.0, 92.0", "1/4"],
        ["alone", "1", "93.2", "93.2", "1/1"],
    ]
    assert last == f"Results: {png}"
    assert_drawing(png, least_height=200)


def test_interval_of_five_seeds(tmp_path, monkeypatch, capsys):
    """Takes the place of the seeds in the table: Student's t for four degrees of freedom is 2.776."""
    path = write_csv(tmp_path / "results.csv", [("a", seed, float(seed), "") for seed in range(5)])
    run_plot(monkeypatch, "results", path, "--png", tmp_path / "a.png")
    assert "| a     | 5     | 2.0  | 0.0 to 4.0 " in capsys.readouterr().out  # 2 -+ 2.776 * sqrt(2.5 / 5)


def test_results_without_threshold(tmp_path, monkeypatch, capsys):
    """No share; and a seed evaluated again counts once, as it was last."""
    path = write_csv(tmp_path / "results.csv", [("a", 0, -200.0, ""), ("a", 1, -160.0, ""), ("a", 0, -140.0, "")])
    monkeypatch.chdir(tmp_path)
    run_plot(monkeypatch, "results", path)
    assert "| a     | 2     | -150.0 | -140.0, -160.0             |        |" in capsys.readouterr().out
    assert_drawing(tmp_path / "results.png", least_height=200)


def texts_of(configurations):
    """What stands beside the rows, and at which returns the marks are."""
    figure = plot_results.draw(pyplot(), configurations, "title")
    (axes,) = figure.axes
    lines = [list(line.get_xdata()) for line in axes.lines]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    return [text.get_text() for text in axes.texts], [label.get_text() for label in axes.get_yticklabels()], lines, legend


def test_what_results_draw():
    """Every seed, the mean, the threshold, from five seeds on an interval; beside the row the share solved, or the mean."""
    texts, labels, lines, legend = texts_of([plot_results.Configuration("a", np.array([1.0, 5.0]), 3.0)])
    assert texts == ["solved 1/2"]
    assert labels == ["a"]
    assert lines == [[1, 5], [3], [3, 3]]
    assert legend == ["a seed", "mean of the seeds", "threshold 3"]
    texts, labels, lines, _ = texts_of([plot_results.Configuration("", np.array([1.0]), None)])
    assert texts == ["mean 1.0"]
    assert labels == ["(no label)"]
    assert lines == [[1], [1]]
    *_, lines, legend = texts_of([plot_results.Configuration("a", np.arange(5.0), None)])
    assert lines[:2] == [[0, 1, 2, 3, 4], [2]]
    assert lines[2] == pytest.approx([2 - 2.776 * 0.5**0.5, 2 + 2.776 * 0.5**0.5], abs=1e-3)
    assert legend[-1] == "95% t interval of the mean"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: .*No such file"),
        ("", "has no column 'env'"),
        (HEADER.replace(",label", "") + "Pendulum-v1,ddpg_ext,0,1,1,1,1,1,1,1\n", "has no column 'label'"),
        (HEADER, "has no rows"),
        (HEADER + "A-v0,d,0,1,1,1,,1,1,1,a\nB-v0,d,0,1,1,1,,1,1,1,a\n", "holds A-v0, B-v0; it must be one environment"),
        (HEADER + "A-v0,d,0,much,1,1,,1,1,1,a\n", "line 2: mean_return='much' must be a finite number"),
        (HEADER + "A-v0,d,0,nan,1,1,,1,1,1,a\n", "line 2: mean_return='nan' must be a finite number"),
        (HEADER + "A-v0,d,0,,1,1,,1,1,1,a\n", "line 2: mean_return='' must be a finite number"),
        (HEADER + "A-v0,d,0,1,1,1,high,1,1,1,a\n", "line 2: threshold='high' must be a finite number"),
    ],
)
def test_wrong_results(content, message, monkeypatch, tmp_path):
    """The file is named, and what is wrong with it."""
    path = tmp_path / "results.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=message) as caught:
        run_plot(monkeypatch, "results", path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("command", [("noise", "normal_0.1"), ("results", "results.csv")])
def test_without_matplotlib(command, monkeypatch):
    """The error says how to install it, before anything takes long."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"plot needs matplotlib .*pip install 'sb3_ddpg_ext\[plots\]'"):
        run_plot(monkeypatch, *command)


def test_rows_go_under_the_columns_that_are_there(tmp_path):
    """A file without labels stays without; a label that has no column is refused, and the file stays as it was."""
    evaluation = Evaluation("Pendulum-v1", "ddpg_ext", 3, -150.12345, 9.0, 100, None, 100, 20_000, 60.0)
    old = tmp_path / "old.csv"
    old.write_text(",".join(Evaluation._fields[:-1]) + "\n")
    append_row(evaluation, old)
    assert old.read_text().splitlines()[1:] == ["Pendulum-v1,ddpg_ext,3,-150.123,9.0,100,,100,20000,60.0"]
    before = old.read_bytes()
    with pytest.raises(SystemExit, match=r"--label 'pink': .*old\.csv has no column for it"):
        append_row(evaluation._replace(label="pink"), old)
    assert old.read_bytes() == before
    new = tmp_path / "new.csv"
    append_row(evaluation._replace(label="pink"), new)
    append_row(evaluation, new)
    assert [row["label"] for row in csv.DictReader(new.open())] == ["pink", ""]

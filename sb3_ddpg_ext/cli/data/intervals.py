"""What several seeds say together: their mean, the interquartile mean over environments, and intervals that cover 95%."""

from typing import Any

import numpy as np

LEAST_SEEDS = 5  # with fewer, each seed is shown and no interval
CONFIDENCE = 0.95
RESAMPLES = 2_000
SPREAD = "each seed, or 95% interval"  # the heading of what `spread` writes
Ends = tuple[np.ndarray, np.ndarray]


def mean_interval(values: np.ndarray) -> Ends | None:
    """
    Student's t interval of the mean of the seeds. ``tests/test_intervals.py`` simulates its coverage with 5 to 10 seeds: 95%
    where seeds are normal, 93% where they are skewed as a Gumbel distribution is, 88 to 90% where they are exponential. (A
    percentile bootstrap covers 83% of five normal seeds, and is the minimum and maximum of two or three.)

    :param values: of shape (seeds, ...)
    :return: both ends, of shape (...); None below five seeds
    """
    n = len(values)
    if n < LEAST_SEEDS:
        return None
    mean, half = np.mean(values, axis=0), t_quantile(n) * np.std(values, axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def interquartile_mean(scores: np.ndarray) -> float:
    """The mean of the middle half of all scores, of any shape: a quarter of them, rounded down, is left out at each end."""
    ordered = np.sort(scores, axis=None)
    cut = ordered.size // 4
    return float(ordered[cut : ordered.size - cut].mean())


def interquartile_interval(scores: np.ndarray) -> tuple[float, float] | None:
    """
    Of the interquartile mean over seeds and environments: the stratified bootstrap of Agarwal et al. (2021), "Deep
    Reinforcement Learning at the Edge of the Statistical Precipice", section 4, by rliable, widened for few seeds.

    :param scores: normalised, of shape (seeds, environments)
    :return: both ends; None below five seeds
    """
    if len(scores) < LEAST_SEEDS:
        return None
    try:
        from rliable import library
    except ImportError as error:
        raise SystemExit(f"intervals over environments need rliable ({error}): pip install 'sb3_ddpg_ext[plots]'") from error

    state = np.random.get_state()
    np.random.seed(0)  # rliable draws from NumPy's global generator, whatever random_state it is given
    try:
        bootstrap = library.StratifiedBootstrap(np.asarray(scores))
        low, high = bootstrap.conf_int(interquartile_mean, reps=RESAMPLES, size=CONFIDENCE, method="percentile")[:, 0]
    finally:
        np.random.set_state(state)
    return widen(interquartile_mean(scores), low, high, len(scores))


def widen(estimate: Any, low: Any, high: Any, n: int) -> tuple[Any, Any]:
    """
    The ends of a percentile bootstrap over ``n`` seeds, farther from the estimate. A resample of n seeds has (n - 1) / n of
    their variance, and how far seeds spread is itself only estimated, so t takes the normal distribution's place. Without
    them, the interval of five seeds covers 88 to 91%; with them 95 to 99%.
    """
    factor = np.sqrt(n / (n - 1)) * t_quantile(n) / normal_quantile()
    return estimate - factor * (estimate - low), estimate + factor * (high - estimate)


def t_quantile(n: int) -> float:
    """How many standard errors of ``n`` seeds lie between their mean and an end of its interval."""
    return float(distributions().t.ppf((1 + CONFIDENCE) / 2, n - 1))


def normal_quantile() -> float:
    """The same for infinitely many seeds."""
    return float(distributions().norm.ppf((1 + CONFIDENCE) / 2))


def distributions() -> Any:
    """``scipy.stats``."""
    try:
        from scipy import stats
    except ImportError as error:
        raise SystemExit(f"intervals need scipy ({error}): pip install 'sb3_ddpg_ext[plots]'") from error
    return stats


def spread(values: np.ndarray, digits: int = 0) -> str:
    """Each of up to four seeds, ``170, 104, 163``; the 95% interval of the mean of more, ``91.2 to 93.4``."""
    ends = mean_interval(values)
    if ends is None:
        return ", ".join(fixed(value, digits) for value in values)
    return f"{fixed(ends[0], digits)} to {fixed(ends[1], digits)}"


def fixed(value: Any, digits: int = 0) -> str:
    """So many digits behind the point, and no minus before a zero; nothing for NaN."""
    return "" if np.isnan(value) else f"{round(float(value), digits) + 0.0:.{digits}f}"

"""Which transitions are drawn: frequencies, weights, priorities, and what the learners do with them."""

import itertools
import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.buffers import LossAdjusted, Prioritized, Sampling, TransitionReplayBuffer, Uniform, make_sampling
from sb3_ddpg_ext.buffers.sum_tree import SumTree
from sb3_ddpg_ext.learners import EagerLearner, FusedLearner, UpdateSettings
from sb3_ddpg_ext.schedules import Constant, Linear

OBS, ACTIONS = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Box(-1, 1, (1,), np.float32)
SMALL = dict(learning_starts=40, batch_size=16, buffer_size=300, seed=0, device="cpu", policy_kwargs=dict(net_arch=[8]))


def make_buffer(n, size=None, n_envs=1, **kwargs):
    """With ``n`` transitions, each of whose observations is its number; those of the last environment are drawn apart."""
    buffer = TransitionReplayBuffer((size or n) * n_envs, OBS, ACTIONS, "cpu", n_envs, **kwargs)
    for i in range(n):
        obs = (i * n_envs + np.arange(n_envs, dtype=np.float32))[:, None]
        buffer.add(obs, obs + 0.5, np.zeros((n_envs, 1)), np.zeros(n_envs), np.ones(n_envs, bool), [{}] * n_envs)
    return buffer


def drawn(buffer, n=1, batch_size=10_000):
    return np.concatenate([buffer.sample(batch_size).observations[:, 0].numpy().astype(int) for _ in range(n)])


def is_as_expected(counts, probabilities):
    """Chi-square within five standard deviations of its mean."""
    expected = counts.sum() * probabilities
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = len(counts) - 1
    return chi_square < degrees + 5 * np.sqrt(2 * degrees)


class TestSumTree:
    @pytest.mark.parametrize("n", [1, 2, 3, 37, 1000])
    def test_against_cumulative_sums(self, n):
        """After 100,000 random operations, in blocks of any size, it finds what a naive cumulative sum finds."""
        rng, tree, values, n_operations = np.random.default_rng(n), SumTree(n), np.zeros(n), 0
        while n_operations < 100_000:
            m = int(rng.integers(1, 600))
            indices = rng.permutation(n)[:m] if rng.random() < 0.5 else rng.integers(0, n, m)
            new = rng.random(len(indices)) * 10.0 ** rng.integers(-6, 6) * (rng.random(len(indices)) < 0.7)
            tree.set(indices, new)
            for index, value in zip(indices, new, strict=True):
                values[index] = value
            n_operations += len(indices)
            np.testing.assert_array_equal(tree.values, values)
            if values.any():
                assert tree.total == pytest.approx(values.sum(), rel=1e-12)
                sums = rng.random(50) * values.sum()
                bounds, found = np.concatenate(([0], np.cumsum(values))), tree.find(sums)
                slack = 1e-12 * values.sum()
                assert (values[found] > 0).all()
                assert (bounds[found] <= sums + slack).all()
                assert (sums <= bounds[found + 1] + slack).all()

    def test_ends(self):
        """The smallest and the largest sum, and one beyond by rounding, give indices that have a value."""
        tree = SumTree(5)
        tree.set(np.array([1, 3]), np.array([0.1, 0.2]))
        assert tree.find(np.array([0.0, 0.1, tree.total, tree.total + 1e-9])).tolist() == [1, 3, 3, 3]

    def test_many_changes_before_a_look(self):
        """They are not kept one by one."""
        tree = SumTree(64)
        for i in range(10_000):
            tree.set(np.array([i % 64]), float(i))
        assert tree._changed is None
        assert tree.total == np.arange(10_000 - 64, 10_000).sum()

    def test_pickle_is_small(self):
        """Of a large tree with few values, which come back."""
        tree = SumTree(1_000_000)
        tree.set(np.arange(10), np.arange(10.0))
        assert len(pickle.dumps(tree)) < 1000
        assert pickle.loads(pickle.dumps(tree)).total == 45


class TestPrioritized:
    @pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
    @pytest.mark.parametrize("n_envs", [1, 3])
    def test_frequencies(self, alpha, n_envs):
        """In proportion to (abs(error) + epsilon)^alpha, of all environments together."""
        buffer = make_buffer(20, n_envs=n_envs, sampling=Prioritized(alpha, epsilon=1e-3))
        errors = np.random.default_rng(0).exponential(size=20 * n_envs)
        buffer.update_priorities(np.arange(20 * n_envs), th.tensor(-errors))
        priorities = (errors + 1e-3) ** alpha
        for batch_size in (1, 16, 10_000):
            counts = np.bincount(drawn(buffer, 30_000 // batch_size + 1, batch_size), minlength=20 * n_envs)
            assert is_as_expected(counts, priorities / priorities.sum())

    def test_strata(self):
        """A batch takes from each of its equal shares of the probability once, in random order."""
        buffer = make_buffer(16, sampling=Prioritized(1.0))
        rows = drawn(buffer, 1, 16)
        assert sorted(rows) == list(range(16))
        assert (rows != np.arange(16)).any()

    def test_weights(self):
        """(N P(i))^-beta, as a share of the largest in the batch."""
        buffer = make_buffer(20, sampling=Prioritized(0.7, beta=0.5))
        errors = np.random.default_rng(0).exponential(size=20)
        buffer.update_priorities(np.arange(20), th.tensor(errors))
        samples = buffer.sample(64)
        p = (errors + 1e-6) ** 0.7
        expected = (20 * p[samples.indices] / p.sum()) ** -0.5
        np.testing.assert_allclose(samples.weights[:, 0], expected / expected.max(), rtol=1e-5)
        assert samples.weights.dtype == th.float32
        np.testing.assert_array_equal(samples.indices, samples.observations[:, 0])

    def test_new_transitions_come_first(self):
        """With the largest priority so far, also when an old one is overwritten."""
        buffer = make_buffer(20, size=25, sampling=Prioritized(1.0))
        assert set(buffer.sampling.tree.values[:20]) == {1.0}
        buffer.update_priorities(np.array([3, 4]), th.tensor([7.0, 0.5]))
        for i in range(8):
            obs = np.array([[100.0 + i]], np.float32)
            buffer.add(obs, obs, np.zeros((1, 1)), np.zeros(1), np.ones(1, bool), [{}])
        values = buffer.sampling.tree.values
        np.testing.assert_allclose(values[[20, 24, 0, 2, 3, 4, 5]], [7, 7, 7, 7, 7, 0.5, 1], rtol=1e-5)

    def test_what_is_not_finite(self):
        """Changes no priority, and spoils no sum."""
        buffer = make_buffer(6, sampling=Prioritized(1.0))
        buffer.update_priorities(np.arange(6), th.tensor([1.0, float("nan"), 3.0, float("inf"), -float("inf"), 2.0]))
        np.testing.assert_allclose(buffer.sampling.tree.values, [1, 1, 3, 1, 1, 2], rtol=1e-5)
        buffer.update_priorities(np.arange(6), th.full((6,), float("nan")))
        assert buffer.sampling.largest == pytest.approx(3)
        assert np.isfinite(buffer.sample(10).weights).all()

    def test_beta_is_annealed(self):
        """From 0.4 to 1 over the training, or by a schedule of one's own; seen in the model's buffer."""
        default = Prioritized()
        for remaining, beta in ((1.0, 0.4), (0.5, 0.7), (0.0, 1.0)):
            default.advance(remaining, 0)
            assert default._beta == pytest.approx(beta)
        model = DDPG("MlpPolicy", "Pendulum-v1", replay_buffer_kwargs=dict(sampling="prioritized"), **SMALL).learn(100)
        assert model.replay_buffer.sampling._beta == pytest.approx(1.0, abs=0.02)

    def test_saved_and_loaded(self):
        """A pickle goes on with the same priorities."""
        buffer = make_buffer(20, sampling=Prioritized(1.0))
        buffer.update_priorities(np.arange(20), th.rand(20))
        loaded = pickle.loads(pickle.dumps(buffer))
        np.testing.assert_array_equal(loaded.sampling.tree.values, buffer.sampling.tree.values)
        state = np.random.get_state()
        rows = drawn(buffer, 1, 50)
        np.random.set_state(state)
        np.testing.assert_array_equal(drawn(loaded, 1, 50), rows)

    def test_reset(self):
        """Begins with an empty tree."""
        buffer = make_buffer(20, sampling=Prioritized(1.0))
        buffer.reset()
        assert buffer.sampling.tree.total == 0

    def test_two_buffers_of_one_object(self):
        """Have priorities of their own."""
        sampling = Prioritized(1.0)
        first, second = (make_buffer(5, sampling=sampling) for _ in range(2))
        first.update_priorities(np.arange(5), th.full((5,), 9.0))
        assert second.sampling.tree.total == 5


class TestLossAdjusted:
    def test_frequencies(self):
        """In proportion to max(abs(error)^alpha, 1), without weights."""
        buffer = make_buffer(10, sampling=LossAdjusted(0.4))
        errors = np.array([0.0, 0.5, 1, 2, 4, 8, 16, 32, 64, 128])
        buffer.update_priorities(np.arange(10), th.tensor(errors))
        priorities = np.maximum(errors**0.4, 1)
        assert is_as_expected(np.bincount(drawn(buffer, 3), minlength=10), priorities / priorities.sum())
        samples = buffer.sample(4)
        assert samples.weights is None
        assert len(samples.indices) == 4


class TestUniform:
    def test_without_replacement(self):
        """No transition is in a batch twice, and all are drawn equally often."""
        for size, n in ((50, 10), (50, 40), (50, 50)):
            buffer = make_buffer(size, sampling=Uniform(replacement=False))
            batches = [drawn(buffer, 1, n) for _ in range(400)]
            assert all(len(set(batch)) == n for batch in batches)
            counts = np.bincount(np.concatenate(batches), minlength=size)
            assert n == 50 or is_as_expected(counts, np.full(size, 1 / size))
            firsts = np.bincount([batch[0] for batch in batches], minlength=size)
            assert is_as_expected(firsts, np.full(size, 1 / size))  # any order

    def test_more_than_there_are(self):
        """Each as often as any other, or once more."""
        counts = np.bincount(drawn(make_buffer(7, sampling=Uniform(replacement=False)), 1, 24), minlength=7)
        assert sorted(counts) == [3, 3, 3, 3, 4, 4, 4]


@pytest.mark.parametrize("sampling", ["uniform", "prioritized", dict(kind="uniform", replacement=False)], ids=str)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_combined(sampling, n_envs):
    """Each batch has the newest transition of each environment, whatever it has else."""
    buffer = make_buffer(30, size=20, n_envs=n_envs, sampling=make_sampling(sampling), combined=True)
    newest = {29 * n_envs + env for env in range(n_envs)}
    for batch_size in (n_envs, 8):
        for _ in range(20):
            assert newest <= set(drawn(buffer, 1, batch_size))
    assert len(drawn(buffer, 1, 1)) == 1


class Own(Sampling):
    """Draws what it is given."""

    def __init__(self, rows=None, weights=None):
        self.rows, self.given = rows, weights

    def draw(self, n, n_filled, n_envs):
        return np.arange(n) if self.rows is None else self.rows(n)

    def weights(self, rows):
        return None if self.given is None else self.given(rows)


class TestOnesOwn:
    """What a class from outside gives is used, or refused by its name."""

    def test_weights_are_asked_for_without_errors(self):
        """Importance weights and errors for priorities are two things."""
        batch = make_buffer(9, sampling=Own(weights=lambda rows: 1 / (1 + rows))).sample(4)
        assert batch.weights[:, 0].tolist() == [1.0, 0.5, np.float32(1 / 3), 0.25]
        assert batch.indices is None

    def test_combined_leaves_its_array(self):
        """A sampling may give a part of an array that it goes on with."""
        order = np.arange(9)[::-1].copy()
        buffer = make_buffer(9, sampling=Own(rows=lambda n: order[:n]), combined=True)
        assert drawn(buffer, 1, 4).tolist() == [8, 7, 6, 8]
        assert order.tolist() == list(range(9))[::-1]

    def test_other_integers(self):
        """A list, or integers without a sign."""
        for rows in (lambda n: [2] * n, lambda n: np.full(n, 2, np.uint64)):
            assert drawn(make_buffer(9, sampling=Own(rows=rows)), 1, 4).tolist() == [2] * 4

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (lambda n: np.zeros(n - 1, int), r"gave int64 of the shape \(3,\); it must give 4 integers from 0 to 8"),
            (lambda n: np.zeros((n, 1), int), r"gave int64 of the shape \(4, 1\)"),
            (lambda n: np.zeros(n), "gave float64"),
            (lambda n: np.arange(n) + 6, "gave rows from 6 to 9; it must give 4 integers from 0 to 8"),
            (lambda n: np.arange(n) - 1, "gave rows from -1 to 2"),
        ],
        ids=["too few", "columns", "floats", "not filled", "negative"],
    )
    def test_wrong_rows(self, rows, words):
        with pytest.raises(ValueError, match=rf"sampling: Own\.draw {words}"):
            make_buffer(9, size=20, sampling=Own(rows=rows)).sample(4)

    def test_wrong_weights(self):
        """A column would be multiplied with each of the losses."""
        with pytest.raises(ValueError, match=r"sampling: Own\.weights gave the shape \(4, 1\); it must be \(4,\)"):
            make_buffer(9, sampling=Own(weights=lambda rows: rows[:, None])).sample(4)


class TestSpecs:
    @pytest.mark.parametrize(
        ("spec", "kind", "expected"),
        [
            ("uniform", Uniform, dict(replacement=True)),
            (dict(kind="uniform", replacement=False), Uniform, dict(replacement=False)),
            ("prioritized", Prioritized, dict(alpha=0.6, beta=Linear(0.4, 1.0))),
            ("prioritized_0.7", Prioritized, dict(alpha=0.7)),
            (dict(kind="prioritized", beta="lin_0.5_0.9"), Prioritized, dict(beta=Linear(0.5, 0.9))),
            (dict(kind="prioritized", beta="const_0.5", epsilon=0.1), Prioritized, dict(beta=Constant(0.5), epsilon=0.1)),
            (dict(kind="prioritized", beta="0.3"), Prioritized, dict(beta=0.3)),
            ("lap", LossAdjusted, dict(alpha=0.4)),
            ("lap_0.2", LossAdjusted, dict(alpha=0.2)),
        ],
        ids=lambda value: str(value) if isinstance(value, str | dict) else "",
    )
    def test_forms(self, spec, kind, expected):
        """Strings and dicts of a YAML file, with their defaults."""
        sampling = make_sampling(spec)
        assert type(sampling) is kind
        assert {name: getattr(sampling, name) for name in expected} == expected

    def test_objects_stay(self):
        sampling = Prioritized()
        assert make_sampling(sampling) is sampling
        assert isinstance(sampling, Sampling)


def batch_of(model, weights, seed=0):
    generator = th.Generator().manual_seed(seed)
    draw = lambda *shape: th.randn(*shape, generator=generator, dtype=th.float64)  # noqa: E731
    return Batch(
        draw(16, 3), draw(16, 1).clamp(-1, 1), draw(16, 3), (draw(16, 1) > 1).double(), draw(16, 1),
        th.full((16, 1), 0.9).double(), weights, np.arange(16),
    )  # fmt: skip


@pytest.fixture
def in_float64(monkeypatch):
    monkeypatch.setattr("stable_baselines3.common.policies.preprocess_obs", lambda obs, *args, **kwargs: obs)


@pytest.mark.usefixtures("in_float64")
class TestLearners:
    @pytest.mark.parametrize("learner", [EagerLearner, FusedLearner])
    @pytest.mark.parametrize(("loss", "n_critics"), itertools.product(["mse", "huber"], [1, 2]))
    def test_weighted_update(self, learner, loss, n_critics):
        """The critic's step is that of the mean of weight times loss; the errors are those before it, of the worse critic."""
        model = DDPG(
            "MlpPolicy", "Pendulum-v1", device="cpu", seed=0,
            policy_kwargs=dict(net_arch=[8], n_critics=n_critics, critic_loss=loss),
        )  # fmt: skip
        policy = model.policy.double()
        policy.set_training_mode(True)
        batch = batch_of(model, th.rand(16, 1, dtype=th.float64, generator=th.Generator().manual_seed(1)))
        with th.no_grad():
            target = policy.critic_target.backup(batch, policy.actor_target(batch.next_observations))
        errors = [target - q for q in policy.critic(batch.observations, batch.actions)]
        each = [e.square() if loss == "mse" else th.where(e.abs() < 1, e.square() / 2, e.abs() - 0.5) for e in errors]
        total = sum((batch.weights * part).mean() for part in each)
        gradients = th.autograd.grad(total, list(policy.critic.parameters()))
        own = learner(policy, UpdateSettings(tau=0.01))
        losses = own.update(batch)
        assert losses["critic_loss"].item() == pytest.approx(total.item(), rel=1e-12)
        for parameter, gradient in zip(policy.critic.parameters(), gradients, strict=True):
            th.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
        worse = th.cat(errors, dim=1).detach().abs().max(dim=1).values
        th.testing.assert_close(own.errors.clone(), worse, rtol=1e-9, atol=1e-12)

    def test_without_priorities_there_are_no_errors(self):
        """Nothing is computed that nobody asks for."""
        for learner in (EagerLearner, FusedLearner):
            model = DDPG("MlpPolicy", "Pendulum-v1", device="cpu", seed=0, policy_kwargs=dict(net_arch=[8]))
            model.policy.double()
            own = learner(model.policy, UpdateSettings(tau=0.01))
            own.update(batch_of(model, None)._replace(indices=None))
            assert own.errors is None


class Recorder(TransitionReplayBuffer):
    """Remembers the priorities that it was told."""

    told = ()

    def update_priorities(self, rows, errors):
        self.told = (*self.told, (rows, errors.clone().numpy()))
        super().update_priorities(rows, errors)


@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {},
        dict(critic="categorical"),
        dict(critic="quantile"),
        dict(popart=True),
        dict(target_networks=False),
        dict(n_critics=2),
    ],
    ids=str,
)
def test_in_training(policy_kwargs):
    """Each update tells the buffer about its own transitions; surprising ones get more."""
    model = DDPG(
        "MlpPolicy", "Pendulum-v1", replay_buffer_class=Recorder, replay_buffer_kwargs=dict(sampling="prioritized_1.0"),
        **SMALL | dict(policy_kwargs=dict(net_arch=[8]) | policy_kwargs),
    ).learn(60)  # fmt: skip
    told = model.replay_buffer.told
    assert len(told) == model._n_updates == 20
    assert all(rows.shape == errors.shape == (16,) for rows, errors in told)
    assert all((errors >= 0).all() and np.ptp(errors) > 0 for _, errors in told)
    rows, errors = told[-1]
    last = dict(zip(rows.tolist(), errors.tolist(), strict=True))
    values = model.replay_buffer.sampling.tree.values
    np.testing.assert_allclose([values[row] for row in last], np.array(list(last.values())) + 1e-6, rtol=1e-4)


@pytest.mark.parametrize(("alpha", "error"), [(9.0, 1e35), (60.0, 0.0), (0.6, 1e38)])
@pytest.mark.parametrize("cls", [Prioritized, LossAdjusted])
def test_extreme_priorities(cls, alpha, error):
    """Stay numbers that can be summed and divided by."""
    box = spaces.Box(-1, 1, (1,))
    buffer = TransitionReplayBuffer(10, box, box, "cpu", sampling=cls(alpha=alpha))
    for _ in range(3):
        buffer.add(np.zeros((1, 1)), np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    buffer.update_priorities(np.arange(3), th.full((3,), error))
    assert 0 < buffer.sampling.tree.total < np.inf
    weights = buffer.sample(4).weights
    assert weights is None or th.equal(weights, th.ones(4, 1))
    buffer.sampling.restore(dict(largest=np.inf), dict(priorities=np.array([np.inf, 1.0, 0.0])))  # of a file
    assert buffer.sampling.tree.total == 1e100 + 1
    assert buffer.sampling.largest == 1e100
    assert buffer.sampling.tree.values[2] == 0  # inside a sequence, which is drawn by its first step


def test_schedules_of_beta():
    """Stay within what a number may be."""
    for beta in (Linear(0.4, 3.0, steps=100), Linear(0.4, 3.0)):
        with pytest.raises(ValueError, match=r"sampling: beta=.* must be a number in \[0, 1\]"):
            Prioritized(beta=beta)
    sampling = Prioritized(beta=lambda progress: 0.4 + 2 * (1 - progress))
    with pytest.raises(ValueError, match=r"sampling: beta=.* must be a number in \[0, 1\]"):
        sampling.advance(0.0, 1000)


def test_divergence_of_a_categorical_critic():
    """Is zero where prediction and target agree, and else the cross-entropy above the target's entropy."""
    head = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=1, policy_kwargs=dict(critic="categorical")).critic.head
    outputs = th.randn(5, 51)
    assert head.errors(outputs, outputs.softmax(1)).abs().max() < 1e-5
    target = th.rand(5, 51).softmax(1)
    expected = (target * (target.log() - outputs.log_softmax(1))).sum(1, keepdim=True)
    th.testing.assert_close(head.errors(outputs, target), expected, rtol=1e-4, atol=1e-5)

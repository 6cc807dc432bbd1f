"""What a critic's outputs mean: projection, quantile regression, losses, each written again by loops."""

import math

import numpy as np
import pytest
import torch as th
from torch.nn import functional as F

from sb3_ddpg_ext.networks import PopArt
from sb3_ddpg_ext.policies.heads import Categorical, Quantile, Scalar, make_head

GENERATOR = np.random.default_rng(0)
RETURNS = np.concatenate(
    [
        GENERATOR.uniform(-3, 3, (20, 11)),  # beyond both ends too
        np.tile(np.linspace(-1, 1, 11), (1, 1)),  # on the atoms
        np.full((1, 11), -1.0),
        np.full((1, 11), 1.0),
        np.full((1, 11), 0.2),
        np.full((1, 11), 50.0),
    ]
)
PROBABILITIES = GENERATOR.dirichlet(np.ones(11), len(RETURNS))


def categorical(n_atoms=11, v_min=-1.0, v_max=1.0):
    head = Categorical(n_atoms, v_min, v_max)
    head.atoms = th.linspace(v_min, v_max, n_atoms, dtype=th.float64)
    return head


def project_by_loops(returns, probabilities, atoms):
    """Each return gives its probability to the atoms around it, in proportion to how near they are."""
    width, projected = atoms[1] - atoms[0], np.zeros((len(returns), len(atoms)))
    for i, row in enumerate(np.clip(returns, atoms[0], atoms[-1])):
        for j, value in enumerate(row):
            for k, atom in enumerate(atoms):
                projected[i, k] += probabilities[i, j] * max(0.0, 1 - abs(value - atom) / width)
    return projected


class TestCategorical:
    def test_projection(self):
        """It is that of Bellemare et al. (2017), Algorithm 1, on atoms, between them and beyond the ends."""
        head = categorical()
        projected = head.project(th.tensor(RETURNS), th.tensor(PROBABILITIES)).numpy()
        assert np.abs(projected - project_by_loops(RETURNS, PROBABILITIES, head.atoms.numpy())).max() < 1e-13

    def test_mass_is_conserved(self):
        """No probability is lost or made, not even where a return is an atom."""
        projected = categorical().project(th.tensor(RETURNS), th.tensor(PROBABILITIES))
        assert (projected.sum(dim=1) - 1).abs().max() < 1e-12
        assert projected.min() >= 0

    @pytest.mark.parametrize(("value", "atom"), [(-1.0, 0), (-7.0, 0), (1.0, 10), (9.0, 10), (0.0, 5)])
    def test_integer_positions_and_ends(self, value, atom):
        """All mass goes to the one atom that the return is, or is nearest to."""
        projected = categorical().project(
            th.full((1, 11), value, dtype=th.float64), th.full((1, 11), 1 / 11, dtype=th.float64)
        )
        assert projected[0, atom].item() == pytest.approx(1, abs=1e-12)

    def test_float32_positions_do_not_leave_the_atoms(self):
        """Rounding at the last atom neither raises nor loses mass, for supports that floats cannot hold exactly."""
        for v_max in (0.1, 1 / 3, 7.7):
            head = Categorical(51, -v_max, v_max)
            projected = head.project(head.atoms.expand(2, -1), th.full((2, 51), 1 / 51))
            assert (projected.sum(dim=1) - 1).abs().max() < 1e-5

    @pytest.mark.parametrize("clamp", [None, (-0.5, 0.3)], ids=str)
    def test_backup(self, clamp):
        """The atoms r + gamma z, clamped, with the probabilities of the next state; r alone after a termination."""
        head, p = categorical(), th.tensor(PROBABILITIES[:2])
        rewards, discounts = th.tensor([[0.3], [-0.2]]).double(), th.tensor([[0.9], [0.0]]).double()
        returns = rewards + discounts * head.atoms
        returns = returns if clamp is None else returns.clamp(*clamp)
        expected = project_by_loops(returns.numpy(), p.numpy(), head.atoms.numpy())
        target = head.backup(rewards, discounts, p, clamp)
        assert np.allclose(target.numpy(), expected, atol=1e-13)
        assert head.mean(target)[1].item() == pytest.approx(-0.2)

    def test_mean_is_preserved_inside_the_atoms(self):
        """The expectation of the projection is r + gamma E[z]."""
        head, p = categorical(51, -10, 10), th.tensor(GENERATOR.dirichlet(np.ones(51) * 5, 4))
        rewards, discounts = th.full((4, 1), 0.1).double(), th.full((4, 1), 0.5).double()
        assert th.allclose(head.mean(head.backup(rewards, discounts, p, None)), 0.1 + 0.5 * head.mean(p), atol=1e-7)

    def test_loss_and_gradient(self):
        """Cross-entropy, a mean over the batch; its gradient is (softmax - target) / N."""
        outputs = th.randn(6, 11, dtype=th.float64, requires_grad=True)
        target = th.tensor(PROBABILITIES[:6])
        loss = categorical().losses(outputs, target).mean()
        loss.backward()
        by_hand = -sum(target[i, j] * math.log(outputs.softmax(1)[i, j].item()) for i in range(6) for j in range(11)) / 6
        assert loss.item() == pytest.approx(by_hand.item(), rel=1e-12)
        assert th.allclose(outputs.grad, (outputs.softmax(1) - target).detach() / 6, atol=1e-14)

    def test_two_atoms(self):
        """The least there can be."""
        projected = categorical(2).project(th.tensor([[0.5, -3.0]]).double(), th.tensor([[0.4, 0.6]]).double())
        assert np.allclose(projected.numpy(), [[0.4 * 0.25 + 0.6, 0.4 * 0.75]])

    @pytest.mark.parametrize(
        "kwargs", [dict(n_atoms=1), dict(v_min=2, v_max=2), dict(v_min=math.inf), dict(n_atoms=2.5)], ids=str
    )
    def test_wrong_arguments(self, kwargs):
        """The error names the argument."""
        with pytest.raises((ValueError, TypeError), match=f"critic: {next(iter(kwargs))}="):
            Categorical(**kwargs)


class TestQuantile:
    @pytest.mark.parametrize("kappa", [1.0, 0.3])
    def test_loss(self, kappa):
        """Dabney et al. (2018), eq. 10: summed over the quantiles, a mean over those of the target and over the batch."""
        n, head = 5, Quantile(5, kappa).double()
        outputs, target = th.randn(4, n).double(), th.randn(4, n).double() * 2
        total = 0.0
        for b in range(4):
            for i in range(n):
                for j in range(n):
                    u = (target[b, j] - outputs[b, i]).item()
                    huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                    total += abs((2 * i + 1) / (2 * n) - (u < 0)) * huber / kappa / n / 4
        assert head.losses(outputs, target).mean().item() == pytest.approx(total, rel=1e-6)

    def test_finds_the_quantiles(self):
        """Descending the loss on samples of a distribution ends at its quantiles."""
        head, samples = Quantile(4, kappa=1e-3), th.linspace(-1, 1, 401)[None]
        outputs = th.zeros(1, 4, requires_grad=True)
        for _ in range(400):
            (gradient,) = th.autograd.grad(head.losses(outputs, samples).mean(), outputs)
            outputs.data -= 0.05 * gradient
        assert th.allclose(outputs.detach(), th.tensor([[-0.75, -0.25, 0.25, 0.75]]), atol=0.03)

    def test_backup(self):
        """Each quantile is r + gamma times the next one; r alone after a termination."""
        prediction = th.tensor([[1.0, 2.0], [3.0, 5.0]])
        target = Quantile(2).backup(th.tensor([[1.0], [4.0]]), th.tensor([[0.5], [0.0]]), prediction, (0, 1.8))
        assert target.tolist() == [[1.5, pytest.approx(1.8)], [pytest.approx(1.8)] * 2]
        assert Quantile(2).mean(prediction).tolist() == [[1.5], [4.0]]


class TestScalar:
    @pytest.mark.parametrize(("loss", "expected"), [("mse", (0.25 + 9) / 2), ("huber", (0.125 + 2.5) / 2)])
    def test_loss(self, loss, expected):
        """Squares, or half squares that go on straight beyond 1."""
        head = make_head("scalar", loss)
        assert head.losses(th.tensor([[0.5], [3.0]]), th.zeros(2, 1)).mean().item() == pytest.approx(expected)

    def test_backup(self):
        """r + gamma Q, clamped to the range."""
        rewards, discounts, q = th.tensor([[1.0], [1.0]]), th.tensor([[0.9], [0.0]]), th.tensor([[10.0], [10.0]])
        assert Scalar().backup(rewards, discounts, q, None).tolist() == [[10.0], [1.0]]
        assert Scalar().backup(rewards, discounts, q, (2, 5)).tolist() == [[5.0], [2.0]]

    @pytest.mark.parametrize("make", [lambda popart: Scalar(popart=popart), lambda popart: Quantile(1, popart=popart)])
    def test_popart(self, make):
        """Predictions are on the scale of returns, errors on the networks'."""
        popart = PopArt()
        popart.update(th.tensor([[10.0], [30.0]]))  # mean 20, standard deviation 10
        head, outputs = make(popart), th.tensor([[0.5]])
        assert head.predict(outputs).item() == pytest.approx(25)
        plain = make(None).losses(outputs, th.tensor([[-0.7]])).mean()
        assert head.losses(outputs, th.tensor([[13.0]])).mean().item() == pytest.approx(plain.item())


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("c51", {}, "scalar.*quantile.*categorical"),
        ("", {}, "kind ''"),
        ("categorical", dict(atoms=3), "'atoms'.*n_atoms"),
        ("quantile", dict(popart=None), "'popart'.*n_quantiles"),
        ("scalar", dict(n_atoms=3), "'n_atoms'"),
    ],
)
def test_unknown_heads(kind, arguments, message):
    """The error names what is unknown and what there is."""
    with pytest.raises(ValueError, match=message):
        make_head(dict(kind=kind, **arguments))


def test_huber_is_torch_s():
    """With its bend at 1."""
    assert make_head("scalar", "huber").error is F.huber_loss

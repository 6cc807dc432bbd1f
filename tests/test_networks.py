"""Layers, initial weights, shapes of networks and running statistics, each against its formula."""

import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import create_mlp
from torch import nn

from sb3_ddpg_ext.networks import (
    MLP,
    NORMS,
    ActionGradientClip,
    InvertingGradients,
    LateAction,
    NotPlain,
    ObservationNormaliser,
    OutputNormalisation,
    PopArt,
    ResidualBlock,
    ReturnScaler,
    evaluating,
    is_norm,
    output_layer,
    plain_layers,
)
from sb3_ddpg_ext.networks.initialise import INITIALISERS, initialise, make_initialiser
from sb3_ddpg_ext.networks.running import RunningMoments, make_normaliser, update_normaliser


def types(net):
    return [type(module).__name__ for module in net]


class TestInvertingGradients:
    """Hausknecht & Stone (2016), eq. 11, with bounds -1 and 1."""

    @pytest.mark.parametrize("p", [-1.7, -1.0, -0.4, 0.0, 0.3, 0.99, 1.0, 1.5])
    @pytest.mark.parametrize("gradient", [-2.0, 3.0])
    def test_backward(self, p, gradient):
        """The gradient of Q, which is minus that of the loss, is scaled by the distance to the bound that it points to."""
        x = th.tensor([p], dtype=th.float64, requires_grad=True)
        InvertingGradients()(x).backward(th.tensor([gradient], dtype=th.float64))
        of_q = -gradient
        expected = of_q * ((1 - p) / 2 if of_q > 0 else (p - -1) / 2)
        assert x.grad.item() == pytest.approx(-expected, abs=1e-15)

    def test_beyond_a_bound_the_gradient_is_inverted(self):
        """Where Q would have p still higher than 1.5, descending the loss brings it back."""
        x = th.tensor([1.5], requires_grad=True)
        (-InvertingGradients()(x)).backward()
        assert x.grad.item() > 0

    def test_forward_is_clamped(self):
        """Actions stay within their bounds, with and without gradients."""
        p = th.tensor([-3.0, -1.0, 0.2, 1.0, 7.0])
        expected = th.tensor([-1.0, -1.0, 0.2, 1.0, 1.0])
        assert th.equal(InvertingGradients()(p), expected)
        assert th.equal(InvertingGradients()(p.requires_grad_()).detach(), expected)


class TestOutputNormalisation:
    def test_formula(self):
        """mu beta / G where G = mean abs(mu) exceeds beta, and mu itself elsewhere."""
        mu = th.tensor([[3.0, -1.0], [0.5, -0.5], [1.0, 1.0]], dtype=th.float64)
        expected = th.tensor([[3 * 1.2 / 2, -1.2 / 2], [0.5, -0.5], [1.0, 1.0]], dtype=th.float64)
        assert th.allclose(OutputNormalisation(1.2)(mu), expected, atol=1e-15)

    def test_gradient(self):
        """It has the gradient of its formula."""
        mu = th.tensor([[3.0, -1.0, 2.5], [0.5, -0.5, 0.1]], dtype=th.float64, requires_grad=True)
        assert th.autograd.gradcheck(OutputNormalisation(1.0), (mu,))


def test_action_gradient_clip():
    """Actions pass; dQ/da of each sample, which the mean over the batch divides by its size, is scaled down to the norm."""
    actions = th.zeros(3, 2, dtype=th.float64, requires_grad=True)
    dqda = th.tensor([[3.0, 4.0], [0.3, -0.4], [0.0, 0.0]], dtype=th.float64)
    clipped = ActionGradientClip(1.0)(actions)
    assert th.equal(clipped, actions)
    (-(clipped * dqda).sum(dim=1).mean()).backward()
    expected = th.tensor([[0.6, 0.8], [0.3, -0.4], [0.0, 0.0]], dtype=th.float64)
    assert th.allclose(actions.grad, -expected / 3, atol=1e-15)


def test_residual_block():
    """x + W2 relu(W1 norm(x) + b1) + b2, with four times as many units inside."""
    block = ResidualBlock(3).double()
    x = th.randn(5, 3, dtype=th.float64)
    norm, first, _, second = block.inside
    normalised = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + norm.eps).sqrt()
    expected = x + (normalised @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
    assert first.out_features == 12
    assert th.allclose(block(x), expected, atol=1e-12)


class TestEvaluating:
    def test_running_statistics_are_used_and_kept(self):
        """Inside, BatchNorm takes a batch of one, and its statistics do not move."""
        norm = nn.BatchNorm1d(2)
        before = norm.running_mean.clone()
        with evaluating(norm):
            norm(th.ones(1, 2))
        assert th.equal(norm.running_mean, before)
        assert norm.training

    def test_modes_come_back_after_an_error(self):
        """What was training trains again, what was not does not."""
        net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        inside = []
        with pytest.raises(ZeroDivisionError), evaluating(net):
            inside.append(any(module.training for module in net) or 1 / 0)
        assert not inside
        assert [module.training for module in net] == [True, False]


class TestInitialise:
    LAYERS = (nn.Linear(300, 200), nn.Conv2d(8, 64, 5))

    @pytest.mark.parametrize("layer", LAYERS, ids=["Linear", "Conv2d"])
    @pytest.mark.parametrize(
        ("spec", "std", "largest"),
        [
            ("fan_in", lambda f, o: 1 / math.sqrt(3 * f), lambda f, o: 1 / math.sqrt(f)),
            (3e-3, lambda f, o: 3e-3 / math.sqrt(3), lambda f, o: 3e-3),
            (dict(kind="uniform", limit=0.2), lambda f, o: 0.2 / math.sqrt(3), lambda f, o: 0.2),
            ("normal", lambda f, o: 0.1, lambda f, o: math.inf),
            (dict(kind="normal", std=0.02), lambda f, o: 0.02, lambda f, o: math.inf),
            ("xavier", lambda f, o: math.sqrt(2 / (f + o)), lambda f, o: math.sqrt(6 / (f + o))),
        ],
        ids=["fan_in", "3e-3", "uniform", "normal", "normal-0.02", "xavier"],
    )
    def test_distribution(self, layer, spec, std, largest):
        """Weights have the standard deviation and the range of their distribution, biases its range or 0."""
        fan_in, fan_out = layer.weight[0].numel(), layer.weight[:, 0].numel()
        th.manual_seed(0)
        make_initialiser("init", spec)(layer)
        assert layer.weight.std().item() == pytest.approx(std(fan_in, fan_out), rel=0.03)
        assert layer.weight.abs().max().item() <= largest(fan_in, fan_out)
        has_biases = spec == "fan_in" or spec == 3e-3 or dict(spec if isinstance(spec, dict) else {}).get("kind") == "uniform"
        assert (layer.bias.abs().max().item() > 0) == has_biases
        assert layer.bias.abs().max().item() <= largest(fan_in, fan_out)

    @pytest.mark.parametrize(("spec", "gain"), [("orthogonal", math.sqrt(2)), (dict(kind="orthogonal", gain=0.01), 0.01)])
    def test_orthogonal(self, spec, gain):
        """W W^T = gain^2 I."""
        layer = nn.Linear(6, 4).double()
        make_initialiser("init", spec)(layer)
        assert th.allclose(layer.weight @ layer.weight.T, gain**2 * th.eye(4, dtype=th.float64), atol=1e-12)
        assert not layer.bias.any()

    def test_torch_changes_nothing(self):
        """The neutral value draws no random number either."""
        layer, state = nn.Linear(3, 3), th.get_rng_state()
        before = layer.weight.clone()
        make_initialiser("init", "torch")(layer)
        assert th.equal(layer.weight, before)
        assert th.equal(th.get_rng_state(), state)

    def test_last_layer(self):
        """``last`` is for the last linear layer alone."""
        net = nn.Sequential(nn.Linear(3, 50), nn.ReLU(), nn.Linear(50, 50), nn.Tanh())
        initialise(net, make_initialiser("init", "normal"), make_initialiser("last_init", 3e-3))
        assert 0 < net[2].weight.abs().max() <= 3e-3 < net[0].weight.abs().max()

    @pytest.mark.parametrize("branch", [None, [5]], ids=str)
    def test_last_layer_behind_a_late_action(self, branch):
        """The one that gives the output, whatever the order in which the parts were made."""
        net = MLP([50, 50]).build_with_action(3, 2, 1, layer=1, branch=branch)
        initialise(net, make_initialiser("init", "normal"), make_initialiser("last_init", 3e-3))
        small = [
            layer.out_features for layer in net.modules() if isinstance(layer, nn.Linear) if layer.weight.abs().max() <= 3e-3
        ]
        assert small == [1]
        assert output_layer(net).weight.abs().max() <= 3e-3
        assert output_layer(net)(th.ones(1, 50)).shape == (1, 1)

    @pytest.mark.parametrize("spec", ["he", dict(gain=1), dict(kind="normal", gain=1), dict(kind=3), True, None])
    def test_wrong_specs(self, spec):
        """The error names the argument, the value and the kinds or arguments there are."""
        with pytest.raises((ValueError, TypeError), match=r"my_init=.*(normal|std)"):
            make_initialiser("my_init", spec)

    def test_kinds_are_all_tested(self):
        """A new kind wants a test here."""
        assert set(INITIALISERS) == {"torch", "orthogonal", "xavier", "normal", "uniform", "fan_in"}


class TestMLP:
    @pytest.mark.parametrize("net_arch", [[], [8], [400, 300]], ids=str)
    def test_neutral_is_sb3_bit_for_bit(self, net_arch):
        """The same modules, with the same random draws, as SB3's ``create_mlp``."""
        th.manual_seed(0)
        ours = MLP(net_arch).build(3, 2)
        th.manual_seed(0)
        theirs = nn.Sequential(*create_mlp(3, 2, net_arch))
        assert types(ours) == types(theirs)
        assert all(th.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))

    def test_order_of_modules(self):
        """Linear, dropout, normalisation, activation; the input has its own normalisation, the output none."""
        net = MLP([8, 4], nn.ELU, norm="layer", input_norm="batch", dropout=0.1).build(3, 2, nn.Tanh())
        hidden = ["Linear", "Dropout", "LayerNorm", "ELU"]
        assert types(net) == ["BatchNorm1d", *hidden, *hidden, "Linear", "Tanh"]
        assert net[0].num_features == 3
        assert net[3].normalized_shape == (8,)

    @pytest.mark.parametrize("norm", NORMS)
    def test_each_norm(self, norm):
        """Each name makes its layer, which the parameters' users can tell from others."""
        net = MLP([8], norm=norm).build(3, 2)
        expected = {"none": [], "layer": ["LayerNorm"], "batch": ["BatchNorm1d"], "batch-renorm": ["BatchRenorm1d"]}[norm]
        assert [type(module).__name__ for module in net if is_norm(module)] == expected

    @pytest.mark.parametrize("residual", [False, True])
    def test_a_norm_of_ones_own(self, residual):
        """It counts as one whatever its name is, as it was made as one; the other modules do not."""

        class Standardised(nn.Module):
            def __init__(self, n):
                super().__init__()
                self.scale = nn.Parameter(th.ones(1, n))

            def forward(self, x):
                return self.scale * x

        net = MLP([8, 8], norm=Standardised, input_norm=Standardised, residual=residual).build(3, 2)
        norms = [module for module in net.modules() if is_norm(module)]
        assert {type(module) for module in norms} == {Standardised}
        assert len(norms) == (4 if residual else 3)

    def test_residual(self):
        """SimBa: a linear layer, a block for each number, a normalisation, the output."""
        net = MLP([8, 8], residual=True).build(3, 2)
        assert types(net) == ["Linear", "ResidualBlock", "ResidualBlock", "LayerNorm", "Linear"]
        assert net(th.zeros(5, 3)).shape == (5, 2)

    def test_late_action_of_the_paper(self):
        """With 400-300 and the action at the second layer, that layer has 400 + A inputs."""
        net = MLP([400, 300]).build_with_action(17, 6, 1, layer=1)
        first, second = net.get_submodule("0"), net.get_submodule("1")
        assert first[0].in_features == 17
        assert first[0].out_features == 400
        assert second[0].in_features == 406
        assert second[0].out_features == 300

    @pytest.mark.parametrize("layer", [0, 1, 2])
    @pytest.mark.parametrize("branch", [None, [5], [5, 3]], ids=str)
    @pytest.mark.parametrize("norm", ["none", "layer"])
    def test_late_action_by_hand(self, layer, branch, norm):
        """What comes out is after([before(features), branch(actions)]), and its gradient reaches the actions."""
        net = MLP([7, 4], nn.Tanh, norm=norm, input_norm=norm).build_with_action(3, 2, 1, layer=layer, branch=branch).double()
        x = th.randn(6, 5, dtype=th.float64, requires_grad=True)
        out = net(x)
        out.sum().backward()
        assert out.shape == (6, 1)
        assert x.grad[:, 3:].abs().min() > 0
        if isinstance(net, LateAction):
            before, after, *own = net.children()
            actions = own[0](x[:, 3:]) if branch else x[:, 3:]
            assert th.allclose(out, after(th.cat([before(x[:, :3]), actions], 1)), atol=1e-15)
            assert len([m for m in before if isinstance(m, nn.Linear)]) == layer
        else:
            assert layer == 0
            assert not branch
            assert norm == "none"

    @pytest.mark.parametrize("branch", [None, [5]], ids=str)
    @pytest.mark.parametrize("layer", [1, 2])
    def test_added_action_by_hand(self, layer, branch):
        """ReLU(LN(layer's outputs) + the actions' own layers), of which the last is as wide, as in Tabor's critic."""
        net = MLP([7, 4], norm="layer").build_with_action(3, 2, 1, layer, branch, norm_after=False, join="sum").double()
        x = th.randn(6, 5, dtype=th.float64)
        before, after, own = net.children()
        hidden, actions = x[:, :3], x[:, 3:]
        for i in range(layer):
            hidden = before[3 * i + 1](before[3 * i](hidden if i == 0 else hidden.relu()))
        for linear in own[::2]:
            actions = linear(actions).relu()
        hidden = (hidden + actions).relu()
        for linear in after[1:-1:2]:
            hidden = linear(hidden).relu()
        assert th.allclose(net(x), after[-1](hidden), atol=1e-15)
        assert [linear.out_features for linear in own[::2]] == [*(branch or []), [7, 4][layer - 1]]

    def test_states_and_actions_meet(self):
        """The best action depends on the state: Q(s, a) is no sum f(s) + g(a)."""
        net = MLP([7, 4]).build_with_action(3, 2, 1, 2, join="sum").double()
        s, a = th.randn(2, 50, 3, dtype=th.float64), th.randn(2, 50, 2, dtype=th.float64)
        q = [[net(th.cat([s[i], a[j]], 1)) for j in (0, 1)] for i in (0, 1)]
        assert ((q[0][0] - q[0][1]) - (q[1][0] - q[1][1])).abs().max() > 1e-3

    def test_no_norm_from_the_action_on(self):
        """With ``norm_after`` False, the paper's critic: BatchNorm on the input and before the action."""
        net = MLP([400, 300], norm="batch", input_norm="batch").build_with_action(3, 1, 1, layer=1, norm_after=False)
        assert types(net.get_submodule("0")) == ["BatchNorm1d", "Linear", "BatchNorm1d", "ReLU"]
        assert types(net.get_submodule("1")) == ["Linear", "ReLU", "Linear"]

    def test_no_norm_in_the_branch_of_the_actions(self):
        """Nor is the action normalised on its own way."""
        net = MLP([40, 30], norm="batch").build_with_action(3, 1, 1, layer=1, branch=[5], norm_after=False)
        assert types(net.get_submodule("2")) == ["Linear", "ReLU"]

    def test_no_norm_at_all(self):
        """Then there is nothing to leave out, and the network is the plain one."""
        assert types(MLP([8]).build_with_action(3, 1, 1, norm_after=False)) == ["Linear", "ReLU", "Linear"]


class TestRunningMoments:
    @pytest.mark.parametrize("chunks", [[1] * 60, [7, 1, 30, 22], [60]], ids=str)
    @pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
    def test_against_numpy(self, chunks, shape):
        """However the samples are cut, mean and variance are NumPy's over all of them."""
        samples = np.random.default_rng(0).normal(1e3, 2.0, (60, *shape))
        moments = RunningMoments(shape)
        for chunk in np.split(samples, np.cumsum(chunks)[:-1]):
            moments.update(chunk)
        assert np.allclose(moments.mean.numpy(), samples.mean(axis=0), rtol=1e-13)
        assert np.allclose(moments.variance.numpy(), samples.var(axis=0), rtol=1e-9)
        assert moments.count.item() == 60


class TestObservationNormaliser:
    def test_formula(self):
        """(x - mean) / std within [-clip, clip], in the type of x."""
        seen, x = np.random.default_rng(0).normal(5, 3, (100, 2)), th.tensor([[5.0, 6.0], [100.0, -100.0]])
        normaliser = ObservationNormaliser((2,), clip=4.0)
        assert th.equal(normaliser(x[:1] * 0.5), x[:1] * 0.5)  # the identity before there is anything
        normaliser.update(seen)
        expected = ((x.numpy() - seen.mean(axis=0)) / seen.std(axis=0)).clip(-4, 4)
        assert normaliser(x).dtype is th.float32
        assert np.allclose(normaliser(x).numpy(), expected, rtol=1e-5)

    def test_floor_of_the_standard_deviation(self):
        """A dimension that hardly ever changes is divided by ``min_std``."""
        normaliser = ObservationNormaliser((1,), min_std=0.5)
        normaliser.update(np.zeros((10, 1)))
        assert normaliser(th.tensor([[1.0]])).item() == pytest.approx(2.0)

    def test_state_dict(self):
        """The statistics are in it, and go on where they were."""
        first, second = ObservationNormaliser((2,)), ObservationNormaliser((2,))
        first.update(np.random.default_rng(0).normal(size=(9, 2)))
        second.load_state_dict(first.state_dict())
        for normaliser in (first, second):
            normaliser.update(np.ones((3, 2)))
        assert all(th.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))

    @pytest.mark.parametrize("kwargs", [dict(clip=0), dict(min_std=-1.0), dict(clip=math.nan)], ids=str)
    def test_wrong_arguments(self, kwargs):
        """The error names them."""
        with pytest.raises(ValueError, match=f"normalize_observations: {next(iter(kwargs))}="):
            ObservationNormaliser((1,), **kwargs)

    def test_dict_observations(self):
        """Boxes of numbers are normalised, images and discrete entries are left alone."""
        space = spaces.Dict(
            angle=spaces.Box(-1, 1, (2,)), image=spaces.Box(0, 255, (1, 36, 36), np.uint8), gear=spaces.Discrete(3)
        )
        normaliser = make_normaliser(space)
        assert list(normaliser) == ["angle"]
        update_normaliser(normaliser, {"angle": np.ones((4, 2))})
        assert th.equal(normaliser["angle"].moments.mean, th.ones(2, dtype=th.float64))

    @pytest.mark.parametrize(
        "space", [spaces.Discrete(3), spaces.Box(0, 255, (3, 36, 36), np.uint8)], ids=["Discrete", "image"]
    )
    def test_nothing_to_normalise(self, space):
        """That is an error rather than an option without effect."""
        with pytest.raises(ValueError, match="normalize_observations"):
            make_normaliser(space)


class TestReturnScaler:
    def test_against_a_literal_loop(self):
        """r / max(std(G), max abs(G) / bound), with G of each environment begun anew after its episode."""
        rng = np.random.default_rng(0)
        rewards, dones = rng.normal(2, 1, (50, 3)), rng.random((50, 3)) < 0.1
        scaler, returns, seen = ReturnScaler(bound=4.0), [0.0] * 3, []
        for reward, done in zip(rewards, dones, strict=True):
            scaler.update(reward, done, 0.9)
            for i in range(3):
                returns[i] = 0.9 * returns[i] + reward[i]
                seen.append(returns[i])
                returns[i] = 0.0 if done[i] else returns[i]
        expected = max(np.std(seen), np.abs(seen).max() / 4.0)
        assert scaler(th.ones(1)).item() == pytest.approx(1 / expected, rel=1e-6)

    def test_zero_stays_zero(self):
        """Nothing is subtracted, which would change tasks that end."""
        scaler = ReturnScaler()
        scaler.update(np.array([5.0]), np.array([False]), 0.9)
        assert scaler(th.zeros(2)).tolist() == [0.0, 0.0]

    def test_begin_episodes(self):
        """After a reset of all environments, old returns do not go on."""
        scaler = ReturnScaler()
        scaler.update(np.array([10.0]), np.array([False]), 1.0)
        scaler.begin_episodes()
        scaler.update(np.array([1.0]), np.array([False]), 1.0)
        assert scaler.moments.mean.item() == pytest.approx(5.5)

    def test_begin_some_episodes(self):
        """Only those of the environments that were reset."""
        scaler = ReturnScaler()
        scaler.update(np.array([10.0, 20.0]), np.array([False, False]), 1.0)
        scaler.begin_episodes(np.array([True, False]))
        scaler.update(np.array([1.0, 1.0]), np.array([False, False]), 1.0)
        assert scaler.get_extra_state().tolist() == [1.0, 21.0]


class TestPopArt:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(th.float32, 1e-6), (th.float64, 1e-12)])
    def test_outputs_are_preserved(self, dtype, tolerance):
        """When the statistics move, sigma f(x) + mu stays what it was, for each layer."""
        th.manual_seed(0)
        layers = [nn.Linear(4, 1).to(dtype), nn.Linear(4, 3).to(dtype)]
        popart, x = PopArt(beta=0.3), th.randn(20, 4, dtype=dtype)
        popart.preserve(layers)
        for scale in (1.0, 3.0, 0.5, 2.0):
            before = [popart(layer(x)) for layer in layers]
            sigma = popart.sigma.item()
            popart.update(th.randn(64, 1, dtype=dtype) * scale + scale)
            assert popart.sigma.item() != sigma
            for layer, was in zip(layers, before, strict=True):
                assert (popart(layer(x)) - was).abs().max() <= tolerance * (1 + was.abs().max())

    def test_statistics(self):
        """Moving means of targets and their squares with the weights beta (1 - beta)^k, scaled to sum to 1."""
        popart, batches = PopArt(beta=0.2), [th.randn(16, 1, dtype=th.float64) * k + k for k in range(1, 6)]
        for n, batch in enumerate(batches, 1):
            popart.update(batch)
            weights = np.array([0.2 * 0.8 ** (n - 1 - k) for k in range(n)])
            weights /= weights.sum()
            mean = sum(w * b.mean().item() for w, b in zip(weights, batches[:n], strict=True))
            square = sum(w * b.square().mean().item() for w, b in zip(weights, batches[:n], strict=True))
            assert popart.mean.item() == pytest.approx(mean, rel=1e-12)
            assert popart.sigma.item() == pytest.approx(math.sqrt(square - mean**2), rel=1e-9)

    def test_normalise_is_the_inverse(self):
        """From returns to the networks' scale and back."""
        popart, targets = PopArt(), th.randn(32, 1, dtype=th.float64) * 7 + 3
        popart.update(targets)
        normalised = popart.normalise(targets)
        assert abs(normalised.mean().item()) < 1e-12
        assert normalised.std(correction=0).item() == pytest.approx(1)
        assert th.allclose(popart(normalised), targets)


class TestPlain:
    def test_mish_is_plain(self):
        """The learner with written-out gradients knows it."""
        assert len(plain_layers(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Mish(), nn.Linear(3, 1)))) == 2

    @pytest.mark.parametrize("module", [nn.BatchNorm1d(3), nn.Dropout(), InvertingGradients(), OutputNormalisation()], ids=str)
    def test_not_plain(self, module):
        """What it cannot compute is refused by name."""
        with pytest.raises(NotPlain, match=type(module).__name__):
            plain_layers(nn.Sequential(nn.Linear(2, 3), module))

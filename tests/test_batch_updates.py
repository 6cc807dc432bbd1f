"""Updates where BatchNorm needs the whole batch, in a joint pass, and of categorical critics, against the eager one."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch as th
from conftest import FASTEST, needs_library
from test_compiled import level, with_threads  # noqa: F401  # level is a fixture
from test_learners import SMALL, assert_equal_states, make_batch, make_model, state_of
from torch import nn

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners import CompiledLearner, EagerLearner, FusedLearner, UpdateSettings
from sb3_ddpg_ext.networks import NotPlain, normed_layers
from sb3_ddpg_ext.noise.perturbed_actors import PerturbedActors

pytestmark = pytest.mark.usefixtures("keep_float64")
by_each = pytest.mark.parametrize("learner", [pytest.param(CompiledLearner, marks=needs_library), FusedLearner])

SLOW, FAST, EVER = (dict(kind="batch", momentum=momentum) for momentum in (0.01, 0.3, None))
NORMS = dict(actor_norm=SLOW, critic_norm=FAST, input_norm=EVER)
ATOMS = dict(kind="categorical", n_atoms=21, v_min=-5.0, v_max=5.0)
CATEGORICAL = [
    dict(critic=ATOMS),
    dict(critic=dict(kind="categorical", n_atoms=2, v_min=-0.3, v_max=0.4), n_critics=2),
    dict(critic=ATOMS, n_critics=3, backup="mean", objective="mean", scale_returns=True, critic_norm="layer"),
    dict(critic=ATOMS, n_critics=2, scale_returns=True, target_q_range=(-1.0, 2.0), normalize_observations=True),
    dict(critic=ATOMS, n_critics=3, objective="min"),
]
BATCH_NORM = [
    dict(critic_norm=FAST),
    dict(actor_norm=SLOW, activation_fn="silu", preactivation_penalty=0.1),
    dict(input_norm=EVER),
    dict(NORMS, target_statistics="batch", n_critics=2, objective="min"),
    dict(NORMS, action_l2=0.3, critic_weight_decay=0.1, critic_loss="huber", normalize_observations=True, activation_fn="elu"),
    dict(actor_norm="layer", critic_norm=FAST, input_norm=SLOW, activation_fn="mish", n_critics=2, backup="mean"),
]
JOINT = [
    dict(target_networks=False),
    dict(target_networks=False, critic_norm="layer", n_critics=2, objective="mean"),
    dict(target_networks=False, input_norm=SLOW),
    dict(target_networks=False, critic_norm=FAST, activation_fn="tanh"),
    dict(target_networks=False, n_critics=2, net_arch=[], objective="min", **NORMS),
]
CROSSQ = dict(
    target_networks=False, critic=ATOMS, n_critics=2, scale_returns=True, optimizer_kwargs=dict(betas=(0.5, 0.999)), **NORMS
)
OTHERS = [
    dict(preactivation_penalty=0.1),
    dict(objective="mean", preactivation_penalty=0.1),
    dict(objective="min", backup="mean"),
]
FORMS = [*CATEGORICAL, *BATCH_NORM, *JOINT, CROSSQ, *[CROSSQ | other for other in OTHERS]]


def make(policy_kwargs, dtype=th.float64, eps=1e-3):
    """
    A model whose normalisation is away from its neutral values, in training as an eager update wants it.

    A bias before BatchNorm has a gradient of zero, and eager's is 1e-17: with this eps Adam makes nothing of it.
    """
    optimizer_kwargs = policy_kwargs.get("optimizer_kwargs", {}) | dict(eps=eps)
    model = make_model(dtype=dtype, policy_kwargs=policy_kwargs | dict(optimizer_kwargs=optimizer_kwargs))
    model.policy.set_training_mode(True)
    pairs = ((model.actor, model.actor_target), (model.critic, model.critic_target))
    for net in itertools.chain(*pairs):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d):
                n = module.num_features
                module.weight.data, module.bias.data = (
                    th.linspace(a, b, n, dtype=dtype) for a, b in ((0.5, 1.5), (-0.3, 0.2))
                )
                module.running_mean.copy_(th.linspace(-0.4, 0.5, n))
                module.running_var.copy_(th.linspace(0.6, 2.0, n))
    return model


def train(model, cls, n_updates=50, batch_size=16, first=0, priorities=False, **settings):
    """Updates with batches and noise that depend on ``first`` alone; losses and errors."""
    learner = cls(model.policy, UpdateSettings(tau=0.02, **settings))
    learner.n_updates = first
    generator = th.Generator().manual_seed(first)
    th.manual_seed(first)
    dtype, numbers = next(model.actor.parameters()).dtype, []
    for _ in range(n_updates):
        batch = make_batch(generator, batch_size)
        if priorities:
            weights = th.rand(batch_size, 1, generator=generator, dtype=th.float64)
            batch = batch._replace(weights=weights, indices=np.arange(batch_size))
        batch = Batch(*(part.to(dtype) if th.is_tensor(part) else part for part in batch))
        numbers += map(float, learner.update(batch).values())
        numbers += learner.errors.flatten().tolist() if priorities else []
    assert getattr(learner, "eager", None) is None
    return numbers


@by_each
@pytest.mark.parametrize(("policy_kwargs", "is_td3"), [(form, i % 2 == 1) for i, form in enumerate(FORMS)], ids=str)
def test_agreement(policy_kwargs, is_td3, learner):
    """In float64, after 50 updates, losses, parameters, running statistics, moments and steps are those of eager."""
    settings = dict(policy_delay=3, target_policy_noise=0.2, max_grad_norm=0.01) if is_td3 else {}
    models = [make(policy_kwargs) for _ in range(2)]
    losses = [train(model, cls, **settings) for model, cls in zip(models, (EagerLearner, learner), strict=True)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9, abs=1e-12)
    assert_equal_states(*models)
    start = make(policy_kwargs).policy.state_dict()
    assert not any(th.equal(value, start[key]) for key, value in models[1].policy.state_dict().items() if "num_batches" in key)


@by_each
def test_agreement_with_the_usual_eps(learner):
    """Steps of eager's rounding errors in biases that change nothing are 1e-12 each; the rest agrees as far as they let it."""
    models = [make(CROSSQ, eps=1e-8) for _ in range(2)]
    for model, cls in zip(models, (EagerLearner, learner), strict=True):
        train(model, cls, policy_delay=3, target_policy_noise=0.2)
    assert_equal_states(*models, 1e-8)


@by_each
@pytest.mark.parametrize("policy_kwargs", [CATEGORICAL[0], CATEGORICAL[3], BATCH_NORM[3], CROSSQ], ids=str)
def test_priorities(policy_kwargs, learner):
    """Weights of the loss, and the errors that are told to the replay buffer."""
    models = [make(policy_kwargs) for _ in range(2)]
    numbers = [train(m, cls, 20, priorities=True) for m, cls in zip(models, (EagerLearner, learner), strict=True)]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-9, abs=1e-12)
    assert_equal_states(*models)


@needs_library
@pytest.mark.parametrize("seed", range(6))
def test_any_shape_on_any_processor(seed, level):  # noqa: F811
    """Layers, atoms, batches and numbers of threads at random, each with parts of vectors and of tiles left over."""
    rng = np.random.default_rng(seed)
    arch, n_atoms = rng.integers(1, 140, rng.integers(0, 4)).tolist(), int(rng.integers(2, 110))
    kwargs = dict(
        NORMS, net_arch=arch, n_critics=1 + seed % 3, critic=ATOMS | dict(n_atoms=n_atoms), target_networks=seed % 2 == 1,
        activation_fn=[nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.Mish, nn.ReLU][seed], preactivation_penalty=0.1 * (seed % 3 == 0),
        objective=["first", "mean", "min"][seed // 2],
    )  # fmt: skip
    models = [make(kwargs) for _ in range(2)]
    batch_size, n_threads = int(rng.integers(2, 150)), int(rng.integers(1, 4))
    losses = [
        train(model, cls, 10, batch_size) for model, cls in zip(models, (EagerLearner, with_threads(n_threads)), strict=True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-9, abs=1e-12)
    assert_equal_states(*models)


@needs_library
@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(
    "policy_kwargs",
    [CROSSQ | dict(objective="mean"), BATCH_NORM[3], CATEGORICAL[2]],
    ids=str,
)
def test_numbers_do_not_depend_on_threads(policy_kwargs):
    """Nor on the blocks into which these cut a batch."""
    states = []
    for n in (1, 2, 3, 7):
        model = make(policy_kwargs | dict(net_arch=[70, 50]), th.float32)
        train(model, with_threads(n), 5, 141, max_grad_norm=0.5)
        states.append(state_of(model))
    for other in states[1:]:
        assert all(th.equal(value, other[key]) for key, value in states[0].items())


@needs_library
@pytest.mark.parametrize("policy_kwargs", [CROSSQ, CATEGORICAL[2], BATCH_NORM[3]], ids=str)
def test_float32_is_as_exact_as_torch(policy_kwargs, level):  # noqa: F811
    """
    After 20 updates, parameters and running statistics are about as near to those of float64 as eager's in float32 are.
    """
    kwargs, ends = policy_kwargs | dict(net_arch=[40, 30]), {}
    for name, cls, dtype in (
        ("exact", EagerLearner, th.float64), ("eager", EagerLearner, th.float32), ("compiled", CompiledLearner, th.float32)
    ):  # fmt: skip
        model = make(kwargs, dtype)
        train(model, cls, 20, 33)
        ends[name] = th.cat([p.detach().double().flatten() for p in (*model.policy.parameters(), *model.policy.buffers())])
    errors = {name: (end - ends["exact"]).abs() for name, end in ends.items()}
    assert 0 < errors["compiled"].mean() < 1.5 * errors["eager"].mean()


@by_each
def test_switching_in_the_middle(learner):
    """Eager, another, eager, the other, on one live policy, which predicts between: as if eager had gone on alone."""
    switching, alone = make(CROSSQ), make(CROSSQ)
    for i, cls in enumerate((EagerLearner, learner, EagerLearner, learner)):
        switching.predict(np.zeros((9, 3), np.float32))  # in evaluation
        if cls is EagerLearner:
            switching.policy.set_training_mode(True)
        train(switching, cls, n_updates=10, first=10 * i)
        train(alone, EagerLearner, n_updates=10, first=10 * i)
    assert_equal_states(switching, alone)


@by_each
@pytest.mark.parametrize("is_first", [True, False])
def test_saved_by_one_loaded_by_the_other(learner, is_first, tmp_path):
    """Running statistics and moments are in the file."""
    order = (learner, EagerLearner) if is_first else (EagerLearner, learner)
    model, alone = make(CROSSQ), make(CROSSQ)
    train(model, order[0], n_updates=20)
    model.save(tmp_path / "model")
    loaded = make(CROSSQ)
    loaded.set_parameters(tmp_path / "model.zip")
    train(loaded, order[1], n_updates=20, first=20)
    train(alone, EagerLearner, n_updates=20)
    train(alone, EagerLearner, n_updates=20, first=20)
    assert_equal_states(loaded, alone)


@by_each
@pytest.mark.parametrize(
    "policy_kwargs",
    [CROSSQ, CROSSQ | dict(target_networks=True), CROSSQ | dict(critic_norm="layer", objective="mean", target_networks=True)],
    ids=["joint", "targets", "layer"],
)
def test_what_is_changed_outside_is_seen(learner, policy_kwargs):
    """New memory for running statistics and atoms, another momentum or epsilon; in the targets, too, where there are any."""
    models = make(policy_kwargs), make(policy_kwargs)
    learners = [cls(m.policy, UpdateSettings()) for cls, m in zip((EagerLearner, learner), models, strict=True)]
    for step in range(12):
        for model, own in zip(models, learners, strict=True):
            norm = model.actor.mu[2]
            assert isinstance(norm, nn.BatchNorm1d)
            if step == 3:
                norm.running_mean = norm.running_mean.clone() + 1
            if step == 5:
                norm.momentum = 0.7
            if step == 6:
                for module in model.policy.modules():
                    if isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
                        module.eps = 0.1
            if step == 7:
                for head in {model.critic.head, model.critic_target.head}:
                    head.atoms = head.atoms * 1.01
            if step == 10:
                for critic in (model.critic, model.critic_target):
                    critic.options = dataclasses.replace(critic.options, objective="min", backup="mean")
            if step == 8:
                model.actor.penalties = (0.1, 0.2)
            if step == 9:
                model.policy.load_state_dict(copy.deepcopy(model.policy.state_dict()))
            own.update(make_batch(th.Generator().manual_seed(step), 8))
    assert learners[1].eager is None
    assert_equal_states(*models)


@by_each
def test_batch_norm_in_one_of_the_critics(learner):
    """Put there by hand; the other, which comes first, has LayerNorm."""
    models = [make(dict(critic_norm="layer", n_critics=2, objective="min")) for _ in range(2)]
    for model, cls in zip(models, (EagerLearner, learner), strict=True):
        for critic in (model.critic, model.critic_target):
            net = critic.q_networks[1]
            i, layer = next((i, layer) for i, layer in enumerate(net) if isinstance(layer, nn.LayerNorm))
            net[i] = nn.BatchNorm1d(len(layer.weight), dtype=layer.weight.dtype)
            net[i].weight, net[i].bias = layer.weight, layer.bias
            net[i].train(layer.training)
        assert cls.reason_against(model.policy, UpdateSettings()) is None
        train(model, cls)
    assert_equal_states(*models)


@by_each
@pytest.mark.parametrize("policy_kwargs", [CROSSQ, BATCH_NORM[3]], ids=["joint", "targets"])
def test_batch_size_changes_between_updates(learner, policy_kwargs):
    """Memory is made anew, also for the two halves of a joint pass."""
    models = [make(policy_kwargs) for _ in range(2)]
    for model, cls in zip(models, (EagerLearner, learner), strict=True):
        own, generator = cls(model.policy, UpdateSettings(tau=0.02)), th.Generator().manual_seed(0)
        for n in (16, 5, 16, 32, 2, 5):
            own.update(make_batch(generator, n))
    assert_equal_states(*models)


@by_each
@pytest.mark.parametrize("policy_kwargs", [dict(NORMS), dict(NORMS, target_networks=False), dict(critic_norm=SLOW)], ids=str)
def test_a_batch_of_one_has_no_variance(policy_kwargs, learner):
    """As with torch, an error; a joint pass of the critic alone has two."""
    with pytest.raises(ValueError, match="batch_size=1 must be at least 2 with BatchNorm"):
        learner(make(policy_kwargs).policy, UpdateSettings()).update(make_batch(th.Generator().manual_seed(0), 1))
    models = [make(dict(critic_norm=SLOW, target_networks=False)) for _ in range(2)]
    for model, cls in zip(models, (EagerLearner, learner), strict=True):
        train(model, cls, 5, batch_size=1)
    assert_equal_states(*models)


@pytest.mark.parametrize("learner", [pytest.param(CompiledLearner, marks=needs_library), FusedLearner, EagerLearner])
def test_nan_is_passed_on(learner):
    """From a reward to losses and parameters, and written nowhere else."""
    for policy_kwargs in (CROSSQ, CROSSQ | dict(objective="min"), CATEGORICAL[2], dict(n_critics=2, objective="min")):
        model = make(policy_kwargs)
        batch = make_batch(th.Generator().manual_seed(0), 16)
        batch.rewards[3] = th.nan
        assert np.isnan(learner(model.policy, UpdateSettings()).update(batch)["critic_loss"])
        assert model.policy.not_finite() == "actor"
        assert normed_layers(model.critic.qf0)[-1].linear.weight.isnan().any()


def test_auto_takes_it():
    """Through the environment, with what CrossQ's form is made of."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(policy_kwargs=dict(net_arch=[16, 16], **CROSSQ)), policy_delay=3,
                 target_policy_noise=0.2, learning_starts=50).learn(200)  # fmt: skip
    assert (model.learner_name, model._trainer.learner.eager) == (FASTEST, None)
    batches = {int(module.num_batches_tracked) for module in model.critic.modules() if isinstance(module, nn.BatchNorm1d)}
    assert batches == {model._n_updates}


def with_norm_of_actions(policy):
    """Normalises the actions, too, through which the actor's gradient would have to go."""
    for critic in (policy.critic, policy.critic_target):
        critic.qf0 = nn.Sequential(nn.BatchNorm1d(4), *critic.qf0)
        critic.q_networks[0] = critic.qf0
    policy.critic.optimizer = th.optim.Adam(policy.critic.parameters())


def with_bounded_values(policy):
    for critic in {policy.critic, policy.critic_target}:
        critic.qf0 = critic.q_networks[0] = nn.Sequential(*critic.qf0, nn.Tanh())


def with_another_action(policy):
    for actor in {policy.actor, policy.actor_target}:
        actor.mu[-2] = nn.Linear(12, 3)
    policy.actor.optimizer = th.optim.Adam(policy.actor.parameters())


def without_weight(policy):
    policy.actor.mu[1] = nn.BatchNorm1d(16, affine=False)
    policy.actor.optimizer = th.optim.Adam(policy.actor.parameters())


def without_statistics(policy):
    policy.actor.mu[1] = nn.BatchNorm1d(16, track_running_stats=False)
    policy.actor.optimizer = th.optim.Adam(policy.actor.parameters())


def shared(policy):
    policy.critic_target = policy.critic


@pytest.mark.parametrize(
    ("policy_kwargs", "change", "reason"),
    [
        ({}, with_norm_of_actions, "first layers do not fit"),
        (dict(target_networks=False), with_bounded_values, "do not end in a Linear"),
        ({}, with_another_action, "does not give the 1 numbers of an action"),
        (dict(actor_norm="batch"), without_weight, "BatchNorm1d"),
        (dict(actor_norm="batch"), without_statistics, "BatchNorm1d"),
        ({}, shared, "the targets are not those of its critic"),
        (dict(input_norm="layer"), None, "LayerNorm"),
        (dict(input_norm="batch", action_layer=1), None, "LateAction"),
        (dict(critic="quantile"), None, "Quantile"),
        (dict(actor_norm="batch-renorm"), None, "BatchRenorm1d"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@by_each
def test_what_is_still_left_to_eager(policy_kwargs, change, reason, learner):
    """By its name."""
    policy = make_model(policy_kwargs=policy_kwargs).policy
    if change is not None:
        change(policy)
    assert reason in learner.reason_against(policy, UpdateSettings())


def test_layers_with_batch_norm():
    """What is before the actions of a critic is a layer without Linear; shapes that do not fit are refused."""
    policy = make_model(policy_kwargs=CROSSQ).policy
    first, *rest = normed_layers(policy.critic.qf0)
    assert (first.linear, first.n_inputs, len(rest)) == (None, 3, 3)
    assert [layer.n_inputs for layer in rest] == [4, 16, 12]
    policy.critic.qf0.get_submodule("1")[0] = nn.Linear(5, 16)
    with pytest.raises(NotPlain, match="do not fit"):
        normed_layers(policy.critic.qf0)


@pytest.mark.parametrize("is_exact", [True, False])
def test_acting_by_running_statistics(is_exact):
    """One or many observations, whatever the mode is; statistics that have moved, or are other tensors, are seen."""
    policy = make(CROSSQ, th.float32).policy
    policy.acts_exactly = is_exact
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for change in (0, 1, 2):
        norm = policy.actor.mu.get_submodule("2")
        if change == 1:
            norm.running_mean += 1
        if change == 2:
            norm.running_var = norm.running_var * 3
        policy.set_training_mode(False)
        with th.no_grad():
            expected = policy.unscale_action(policy.actor(th.from_numpy(observations)).numpy())
        for mode in (True, False):
            policy.set_training_mode(mode)
            np.testing.assert_allclose(policy.predict(observations)[0], expected, atol=1e-5)
            np.testing.assert_allclose([policy.predict(one)[0] for one in observations], expected, atol=1e-5)
    assert policy.plain_actor() is not None
    assert (policy.plain_actor().compiled is None) == is_exact


def test_perturbed_copies_act_by_running_statistics():
    """As the actor itself where nothing is perturbed."""
    policy = make(CROSSQ, th.float32).policy
    copies = PerturbedActors(policy, 3)
    for i in range(3):
        copies.perturb(i, np.zeros(1, np.float32))
    observations = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    np.testing.assert_allclose(policy.unscale_action(copies(observations)), policy.predict(observations)[0], atol=1e-5)

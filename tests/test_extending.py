"""Each kind of part can be a user's own, in one small class from outside: it trains, is saved, loaded and goes on."""

from contextlib import nullcontext
from dataclasses import dataclass, make_dataclass
from types import MethodType

import numpy as np
import pytest
import torch as th
from conftest import FASTEST
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import Episode, Sampling, TransitionReplayBuffer
from sb3_ddpg_ext.buffers.row_array import RowArray
from sb3_ddpg_ext.checkpoint import resume, save
from sb3_ddpg_ext.learners import LEARNERS, EagerLearner, UpdateSettings
from sb3_ddpg_ext.learners.flat import Flat
from sb3_ddpg_ext.networks import NORMS
from sb3_ddpg_ext.noise import NOISES, Noise
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.policies.heads import HEADS, LOSSES, Head
from sb3_ddpg_ext.policies.options import Options

SMALL = dict(learning_starts=20, batch_size=8, buffer_size=60, seed=0, device="cpu")


class Flips(Noise):
    """Takes the opposite action now and then."""

    def __init__(self, share=0.1):
        super().__init__()
        self.share = share

    def apply(self, actions):
        draws = np.array([generator.random() for generator in self._generators])
        return np.where(draws[:, None] < self.share, -actions, actions)


class ByReward(Sampling):
    """Draws by the last error alone, greedily; its priorities are to outlive the program."""

    takes_errors = True

    def allocate(self, n_rows):
        self.priorities = np.zeros(n_rows)

    def added(self, rows):
        self.priorities[rows] = 10.0

    def draw(self, n, n_filled, n_envs):
        p = self.priorities[: n_filled * n_envs] + 1e-3
        return np.random.choice(len(p), n, p=p / p.sum())

    def update_priorities(self, rows, errors):
        self.priorities[rows] = np.abs(errors)

    def contents(self, n_rows):
        return {"by_error": self.priorities[:n_rows]}

    def restore(self, state, arrays):
        self.priorities[: len(arrays["by_error"])] = np.asarray(arrays["by_error"])


class TwoHeads(Head):
    """Two estimates of the same return, which are averaged."""

    def __init__(self):
        super().__init__(2)

    def predict(self, outputs):
        return outputs

    def mean(self, prediction):
        return prediction.mean(dim=1, keepdim=True)

    def backup(self, rewards, discounts, prediction, clamp):
        return rewards + discounts * self.mean(prediction)

    def losses(self, outputs, target):
        return (outputs - target).square().sum(dim=1, keepdim=True)


def log_cosh(outputs, target, reduction="none"):
    error = outputs - target
    return error + F.softplus(-2 * error) - np.log(2)


class Centred(nn.Module):
    """Takes the mean over the features away."""

    def __init__(self, n_features):
        super().__init__()
        self.shift = nn.Parameter(th.zeros(n_features))

    def forward(self, x):
        return x - x.mean(dim=-1, keepdim=True) + self.shift


def tenths(layer):
    nn.init.constant_(layer.weight, 0.1)
    nn.init.zeros_(layer.bias)


@dataclass(frozen=True)
class SmoothOptions(Options):
    """
    :param smoothness: weight of the actor's change with a small change of the state
    """

    smoothness: float = 0.0


class SmoothPolicy(DDPGPolicy):
    """Its actor is to change little."""

    options_class = SmoothOptions

    def actor_loss(self, batch):
        near = batch.observations + 0.01
        change = (self.actor(near) - self.actor(batch.observations)).square().mean()
        return super().actor_loss(batch) + self.options.smoothness * change


class Halved(EagerLearner):
    """Moves the targets half as far."""

    def update_targets(self):
        kept = [parameter.clone() for parameter in self.tensors.target_parameters]
        super().update_targets()
        for parameter, before in zip(self.tensors.target_parameters, kept, strict=True):
            parameter.data.lerp_(before, 0.5)


PARTS = {
    "noise": dict(action_noise=Flips(0.3)),
    "sampling": dict(replay_buffer_kwargs=dict(sampling=ByReward())),
    "critic": dict(policy_kwargs=dict(critic=TwoHeads())),
    "critic_loss": dict(policy_kwargs=dict(critic_loss=log_cosh)),
    "norm": dict(policy_kwargs=dict(actor_norm=Centred, critic_norm=Centred)),
    "initialiser": dict(policy_kwargs=dict(init=tenths)),
    "policy": dict(policy=SmoothPolicy, policy_kwargs=dict(smoothness=0.1)),
    "learner": dict(learner=Halved),
}
SEEN_BY = {  # where a model has the part
    "noise": lambda model: isinstance(model.action_noise, Flips),
    "sampling": lambda model: isinstance(model.replay_buffer.sampling, ByReward),
    "critic": lambda model: isinstance(model.critic.head, TwoHeads) and model.critic.head is not model.critic_target.head,
    "critic_loss": lambda model: model.critic.head.error is log_cosh,
    "norm": lambda model: any(isinstance(module, Centred) for module in model.critic.modules()),
    "initialiser": lambda model: model.policy.options.init is tenths,
    "policy": lambda model: model.policy.options.smoothness == 0.1,
    "learner": lambda model: type(model._trainer.learner) is Halved,
}


def make_model(part, **kwargs):
    given = {"policy": "MlpPolicy", "policy_kwargs": {}} | SMALL | PARTS[part] | kwargs
    given["policy_kwargs"] = dict(net_arch=[8]) | given["policy_kwargs"]
    return DDPG(env="Pendulum-v1", **given)


@pytest.mark.parametrize("learner", ["eager", "auto"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_ones_own(part, learner, tmp_path):
    """It is used, and is there again with the model; what is learnt further is what would have been without the file."""
    kwargs = {} if part == "learner" else dict(learner=learner)
    model = make_model(part, **kwargs).learn(60)
    assert SEEN_BY[part](model)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = DDPG.load(tmp_path / "model", env="Pendulum-v1")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert SEEN_BY[part](loaded)
    for one in (model, loaded):
        th.manual_seed(0)
        np.random.seed(0)
        one.train(5, 8)
    for mine, its in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        th.testing.assert_close(its, mine)
    assert loaded.learn(30, reset_num_timesteps=False).num_timesteps == 90


@pytest.mark.parametrize("part", [part for part in PARTS if part != "learner"])
def test_learners_agree_on_a_part_of_ones_own(part):
    """The fast learner does it, or leaves it to the eager one; it never leaves it out."""
    models = [make_model(part, learner=learner).learn(30) for learner in ("eager", "auto")]
    for mine, its in zip(*(model.policy.parameters() for model in models), strict=True):
        th.testing.assert_close(its, mine, rtol=1e-3, atol=1e-5)


def test_an_option_changes_what_is_learnt():
    """So that the agreement says something."""
    models = [make_model("policy", policy_kwargs=dict(smoothness=value)).learn(60) for value in (0.0, 100.0)]
    actors = [th.cat([p.flatten() for p in model.actor.parameters()]) for model in models]
    assert (actors[0] - actors[1]).abs().max() > 1e-4


@pytest.fixture
def names():
    """Names for kinds, which are gone after the test."""
    families = (NOISES, HEADS, LOSSES, NORMS, LEARNERS)
    before = [set(family) for family in families]
    yield
    for family, kinds in zip(families, before, strict=True):
        for kind in set(family) - kinds:
            family.unregister(kind)


@pytest.mark.usefixtures("names")
def test_a_name_of_ones_own():
    """A line gives a class a name, by which strings and dicts of a YAML file find it."""
    NOISES.register("flips")(Flips)
    HEADS.register("two-heads")(TwoHeads)
    LOSSES.register("log-cosh")(lambda: log_cosh)
    NORMS.register("centred")(lambda: Centred)
    LEARNERS.register("halved")(Halved)
    model = DDPG(
        "MlpPolicy", "Pendulum-v1", action_noise="flips_0.2,normal_0.1", learner="halved",
        policy_kwargs=dict(net_arch=[8], critic_norm="centred", critic_loss="log-cosh"), **SMALL,
    )  # fmt: skip
    assert model.action_noise.parts[0].share == 0.2
    assert SEEN_BY["norm"](model)
    assert SEEN_BY["critic_loss"](model)
    assert SEEN_BY["learner"](model)
    model.learn(30)
    other = DDPG("MlpPolicy", "Pendulum-v1", action_noise=dict(kind="flips", share=0.1),
                 policy_kwargs=dict(net_arch=[8], critic="two-heads"), **SMALL)  # fmt: skip
    assert SEEN_BY["critic"](other.learn(30))
    with pytest.raises(ValueError, match=r"'flips' has no argument 'rate'.*share"):
        DDPG("MlpPolicy", "Pendulum-v1", action_noise=dict(kind="flips", rate=0.1), **SMALL)


def test_fused_knows_what_it_does_not_know():
    """Each of these is refused by name; the compiled learner asks the same questions."""
    for part, reason in dict(critic="TwoHeads", critic_loss="log_cosh", norm="Centred", policy="actor_loss").items():
        with pytest.raises(ValueError, match=f"learner='fused' cannot train this model: .*{reason}"):
            make_model(part, learner="fused")
    assert make_model("noise").learner_name == FASTEST


# A value of each option that is not its default, and what it needs beside it.
OTHER_VALUES = {
    "actor_norm": dict(actor_norm="layer"),
    "critic_norm": dict(critic_norm="layer"),
    "target_statistics": dict(target_statistics="batch", critic_norm="batch"),
    "input_norm": dict(input_norm="batch"),
    "norm_after_action": dict(norm_after_action=False, critic_norm="layer"),
    "init": dict(init="orthogonal"),
    "last_init": dict(last_init=3e-3),
    "residual": dict(residual=True),
    "action_layer": dict(action_layer=1, net_arch=[8, 8]),
    "action_branch": dict(action_branch=[4], action_layer=1, net_arch=[8, 8]),
    "action_join": dict(action_join="sum", action_layer=1, net_arch=[8, 8]),
    "critic_dropout": dict(critic_dropout=0.1),
    "normalize_observations": dict(normalize_observations=True),
    "scale_returns": dict(scale_returns=True),
    "popart": dict(popart=True),
    "critic": dict(critic="quantile"),
    "critic_loss": dict(critic_loss="huber"),
    "backup": dict(backup="mean", n_critics=2),
    "objective": dict(objective="mean", n_critics=2),
    "target_q_range": dict(target_q_range=(-5.0, 0.0)),
    "target_networks": dict(target_networks=False),
    "critic_weight_decay": dict(critic_weight_decay=0.1),
    "decoupled_weight_decay": dict(decoupled_weight_decay=True, critic_weight_decay=0.1),
    "inverting_gradients": dict(inverting_gradients=True),
    "output_norm": dict(output_norm=1.0),
    "dqda_clip": dict(dqda_clip=0.1),
    "preactivation_penalty": dict(preactivation_penalty=0.1),
    "action_l2": dict(action_l2=0.1),
    "actor_average": dict(actor_average=0.1),
    "behaviour_cloning": dict(behaviour_cloning=0.1),
    "q_filter": dict(q_filter=False),
}
EVERY_KIND = [
    *[dict(critic=kind) for kind in HEADS],
    *[dict(critic_loss=kind) for kind in LOSSES],
    *[{name: kind} for kind in NORMS for name in ("actor_norm", "critic_norm", "input_norm")],
]


# Biases before BatchNorm have no gradient but autograd's rounding, which Adam makes steps of unless its epsilon is larger.
CALM = dict(optimizer_kwargs=dict(eps=1e-3))


def after_updates(learner, policy_kwargs):
    """The parameters after updates on the same batches, or the reason why the learner makes none."""
    demonstrations = {}
    if "behaviour_cloning" in policy_kwargs:
        steps = np.linspace(-1, 1, 13, dtype=np.float32)
        episode = Episode(np.stack([steps] * 3, axis=1), steps[:-1, None], steps[:-1], True)
        demonstrations = dict(replay_buffer_kwargs=dict(demonstrations=[episode]))
    calm = CALM if "batch" in policy_kwargs.values() else {}
    model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[8]) | policy_kwargs | calm, **SMALL | demonstrations)
    reason = LEARNERS[learner].reason_against(model.policy, UpdateSettings())
    if reason is not None:
        return reason
    model.learner = learner
    model.learn(40)
    return th.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


@pytest.mark.parametrize("policy_kwargs", [*OTHER_VALUES.values(), *EVERY_KIND], ids=str)
def test_fast_learners_do_it_or_say_that_they_do_not(policy_kwargs):
    """Each option, head, loss and normalisation: the same parameters as by the eager learner, or a reason."""
    eager = after_updates("eager", policy_kwargs)
    for learner in ("fused", "compiled"):
        fast = after_updates(learner, policy_kwargs)
        if not isinstance(fast, str):
            th.testing.assert_close(fast, eager, rtol=1e-3, atol=1e-4)


def test_every_option_has_another_value():
    """So that a new one is tried by the test above. None of them is its default."""
    assert set(OTHER_VALUES) == set(Options.names())
    for name, values in OTHER_VALUES.items():
        assert values[name] != getattr(Options(), name)


def test_an_option_that_fused_does_not_know():
    """It is refused by its name, even where nothing else changes, and at its default, which may not be neutral."""
    model = DDPG(Renamed, "Pendulum-v1", policy_kwargs=dict(net_arch=[8], calm=0.5), **SMALL)
    assert (
        LEARNERS["fused"].reason_against(model.policy, UpdateSettings()) == "policy_kwargs['calm']=0.5 has no gradients there"
    )
    assert model.learner_name == "eager"
    assert DDPG(Renamed, "Pendulum-v1", policy_kwargs=dict(net_arch=[8]), **SMALL).learner_name == "eager"


@dataclass(frozen=True)
class CalmOptions(Options):
    """
    :param calm: of no effect here
    """

    calm: float = 0.0


class Renamed(DDPGPolicy):
    options_class = CalmOptions


def policy_with(name, annotation, default):
    """A policy whose options have another default."""
    options = make_dataclass("OwnOptions", [(name, annotation, default)], bases=(Options,), frozen=True)
    return type("OwnDefaults", (DDPGPolicy,), dict(options_class=options))


@pytest.mark.parametrize(
    ("name", "value"),
    [("preactivation_penalty", 10.0), ("dqda_clip", 1e-3), ("objective", "min"), ("action_l2", 1.0), ("critic_norm", "batch")],
)
def test_another_default_is_not_left_out(name, value):
    """A policy of one's own whose options have another default learns as one that is given the value does, by any learner."""
    kwargs = dict(net_arch=[8], n_critics=2) | (CALM if value == "batch" else {})
    own, given = policy_with(name, type(value), value), dict(policy_kwargs=kwargs | {name: value})
    expected = DDPG("MlpPolicy", "Pendulum-v1", learner="eager", gradient_steps=3, **SMALL | given).learn(60)
    model = DDPG(own, "Pendulum-v1", gradient_steps=3, policy_kwargs=kwargs, **SMALL).learn(60)
    assert (model.learner_name == FASTEST) == (name != "dqda_clip")
    for mine, its in zip(model.policy.parameters(), expected.policy.parameters(), strict=True):
        th.testing.assert_close(mine, its, rtol=1e-3, atol=1e-5)


def test_a_default_of_ones_own_is_refused_by_name():
    """Though it is the default."""
    policy = policy_with("dqda_clip", float, 10.0)
    for learner in ("fused", "compiled"):
        with pytest.raises(ValueError, match=r"policy_kwargs\['dqda_clip'\]=10.0 has no gradients there"):
            DDPG(policy, "Pendulum-v1", learner=learner, policy_kwargs=dict(net_arch=[8]), **SMALL)


@pytest.mark.parametrize("part", ["critic_norm", "actor_norm", "activation_fn"])
def test_a_layer_is_not_shared_with_the_target(part):
    """A function that gives one module again and again leaves nothing that the target could be a copy of."""
    shared = nn.PReLU() if part == "activation_fn" else nn.LayerNorm(8)
    kwargs = {"net_arch": [8], part: lambda *args: shared}
    with pytest.raises(ValueError, match=rf"policy_kwargs: .*{part}.* must make a new module each time; (mu|qf0)\.1\.weight"):
        make_model("norm", policy_kwargs=dict(actor_norm="none", critic_norm="none") | kwargs)
    same = make_model("norm", policy_kwargs=dict(actor_norm="none", critic_norm="none", target_networks=False) | kwargs)
    assert same.learn(30).critic_target is same.critic


def test_fast_learners_refuse_a_parameter_of_two_layers():
    """Each parameter has memory of its own there; one in two places would be written to twice."""
    shared = nn.LayerNorm(8)
    model = make_model("norm", policy_kwargs=dict(actor_norm="none", critic_norm="layer", n_critics=2))
    for net in (*model.critic.q_networks, *model.critic_target.q_networks):
        net[1] = shared
    model.critic.optimizer = th.optim.Adam(model.critic.parameters(), lr=1e-3)
    for learner in ("fused", "compiled"):
        reason = LEARNERS[learner].reason_against(model.policy, UpdateSettings())
        assert reason == "qf1.1.weight of Critic is a parameter of two layers"
    with pytest.raises(ValueError, match="parameters=2 of them must be different ones; 1 are there twice"):
        Flat([shared.weight, shared.weight], with_gradients=False)
    assert model.learn(30).learner_name == "eager"


def to_the_middle(policy, batch):
    return (policy.actor(batch.observations) - 0.5).square().mean()


def scaled_loss(critic, batch, target):
    loss, errors = type(critic).loss(critic, batch, target)
    return 0.1 * loss, errors


def negative(layer, x):
    return -type(layer).forward(layer, x)


def no_step(optimizer, closure=None):
    """Leaves the parameters."""


REPLACED = {  # on which object, by which name, and what
    "policy": (lambda model: model.policy, "actor_loss", to_the_middle, "DDPGPolicy has its own actor_loss"),
    "critic": (lambda model: model.critic, "loss", scaled_loss, "somebody has replaced loss of Critic"),
    "optimizer": (lambda model: model.actor.optimizer, "step", no_step, "somebody has replaced step of Adam"),
    "layer": (lambda model: model.critic.qf0[0], "forward", negative, "somebody has replaced forward of Linear"),
}


@pytest.mark.parametrize("moment", ["before", "between updates"])
@pytest.mark.parametrize("where", REPLACED)
def test_a_method_of_one_object(where, moment):
    """What an object alone has been given in place of a method is used by every learner, or refused by name."""
    find, name, function, reason = REPLACED[where]
    models = []
    for learner in ("eager", "auto"):
        model = DDPG("MlpPolicy", "Pendulum-v1", learner=learner, policy_kwargs=dict(net_arch=[8]), **SMALL)
        model.learn(25)
        setattr(find(model), name, MethodType(function, find(model)))
        for fast in ("fused", "compiled"):
            assert LEARNERS[fast].reason_against(model.policy, UpdateSettings()) == reason
        if moment == "before":
            model.learn(20, reset_num_timesteps=False)
        else:
            with pytest.warns(UserWarning, match=reason) if learner == "auto" else nullcontext():
                model.train(20, 8)
        models.append(model)
    for mine, its in zip(*(model.policy.parameters() for model in models), strict=True):
        th.testing.assert_close(its, mine, rtol=1e-3, atol=1e-5)


class Modes(DDPGPolicy):
    """Counts the trainings."""

    n_trainings = 0

    def set_training_mode(self, mode):
        self.n_trainings += mode
        super().set_training_mode(mode)


def test_a_training_mode_of_ones_own_is_set():
    """So the learner is one that sets it."""
    model = DDPG(Modes, "Pendulum-v1", policy_kwargs=dict(net_arch=[8]), **SMALL).learn(30)
    assert (model.learner_name, model.policy.n_trainings) == ("eager", 10)
    with pytest.raises(ValueError, match="Modes has its own set_training_mode"):
        DDPG(Modes, "Pendulum-v1", learner="fused", policy_kwargs=dict(net_arch=[8]), **SMALL)


class Counting(EagerLearner):
    """Counts its updates, and halves the actor's parameters at each 25th."""

    def __init__(self, policy, settings=None, rate=1.0):
        super().__init__(policy, settings)
        self.n, self.rate = 0, rate + 0.0

    def update(self, batch):
        losses = super().update(batch)
        self.n += 1
        if self.n % 25 == 0:
            with th.no_grad():
                for parameter in self.policy.actor.parameters():
                    parameter.mul_(0.5)
        return losses

    def state(self):
        return {"n": self.n}

    def restore(self, state):
        self.n = state["n"]


def test_the_state_of_a_learner_goes_on(tmp_path):
    """Over several trainings, and from a checkpoint; another learner begins without it."""
    whole = make_model("learner", learner=Counting).learn(40).learn(40, reset_num_timesteps=False)
    assert whole._trainer.learner.n == whole._n_updates == 60
    model = make_model("learner", learner=Counting).learn(40)
    save(model, tmp_path / "checkpoint")
    loaded = resume(tmp_path / "checkpoint.zip", "Pendulum-v1", trusted=True)
    assert loaded._trainer.learner.n == 20
    loaded.learn(80)
    assert loaded._trainer.learner.n == 60
    other = resume(tmp_path / "checkpoint.zip", "Pendulum-v1", trusted=True, learner=Halved)
    assert other.learn(80).learner_name == "Halved"


@pytest.mark.usefixtures("names")
def test_an_argument_of_a_learner():
    """It reaches the learner; an error names it."""
    LEARNERS.register("counting")(Counting)
    assert make_model("learner", learner=dict(kind="counting", rate=2))._trainer.learner.rate == 2.0
    with pytest.raises(TypeError, match=r"learner={'kind': 'counting', 'rate': 'x'}: .*str"):
        make_model("learner", learner=dict(kind="counting", rate="x"))


class Standardised(nn.Module):
    """By the statistics of the batch in training, by running ones else."""

    def __init__(self, n):
        super().__init__()
        self.register_buffer("mean", th.zeros(n))

    def forward(self, x):
        return x - (x.mean(dim=0) if self.training else self.mean)


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_statistics_of_the_targets_own_norm(statistics):
    """The option is also for a normalisation whose name says nothing."""
    model = make_model("norm", policy_kwargs=dict(actor_norm="none", critic_norm=Standardised, target_statistics=statistics))
    model.policy.set_training_mode(True)
    of_target = [module.training for module in model.critic_target.modules() if isinstance(module, Standardised)]
    assert of_target == [statistics == "batch"]


class OfHuber(ByReward):
    """Wants a loss, as LAP does."""

    critic_loss = "huber"


@pytest.mark.parametrize("sampling", ["lap", OfHuber()], ids=["lap", "own"])
def test_a_sampling_that_wants_a_loss(sampling):
    """By name or as the function itself. An error names the sampling."""
    for loss in ("huber", F.huber_loss):
        model = make_model("sampling", replay_buffer_kwargs=dict(sampling=sampling), policy_kwargs=dict(critic_loss=loss))
        assert model.learn(30).critic.head.error is F.huber_loss
    name = "lap" if sampling == "lap" else "OfHuber"
    for loss in ("mse", F.l1_loss):
        words = rf"policy_kwargs\['critic_loss'\]=.* must be 'huber' with replay_buffer_kwargs\['sampling'\]='{name}'"
        with pytest.raises(ValueError, match=words):
            make_model("sampling", replay_buffer_kwargs=dict(sampling=sampling), policy_kwargs=dict(critic_loss=loss))


class WithTemperature(TransitionReplayBuffer):
    """Stores a number of ``infos`` with each transition."""

    def _make_parts(self):
        super()._make_parts()
        self.temperature = RowArray(self.storage, "temperature", (), np.float32, file="temperature")

    def _added(self, rows, infos):
        super()._added(rows, infos)
        self.temperature.values[rows] = [info.get("temperature", 20.0) for info in infos]

    def contents(self):
        return super().contents() | self.temperature.contents()

    def _restore_parts(self, arrays):
        super()._restore_parts(arrays)
        self.temperature.restore(arrays)

    def layout(self):
        layout = super().layout()
        return layout | {"arrays": [*layout["arrays"], "temperature"]}


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_column_of_ones_own(place, tmp_path):
    """It is there again with a saved buffer, and in the folder of one that has a folder."""
    kwargs = dict(path=tmp_path / "folder") if place == "folder" else {}
    model = make_model("noise", replay_buffer_class=WithTemperature, replay_buffer_kwargs=kwargs).learn(40)
    model.replay_buffer.temperature.values[:40] = expected = np.arange(40)
    if place == "file":
        model.save_replay_buffer(tmp_path / "buffer")
    del model
    with pytest.warns(UserWarning, match="has 40 transitions") if place == "folder" else nullcontext():
        other = make_model("noise", replay_buffer_class=WithTemperature, replay_buffer_kwargs=kwargs)
    if place == "file":
        other.load_replay_buffer(tmp_path / "buffer")
    assert other.replay_buffer.temperature.values[:40].tolist() == expected.tolist()
    other.learn(20, reset_num_timesteps=False)
    assert other.replay_buffer.temperature.values[40:60].tolist() == [20.0] * 20


class Drifting(Flips):
    """Goes on from step to step, away from where it began."""

    def _prepare(self, episode_length):
        self._place = 0.0

    def apply(self, actions):
        self._place += 0.01
        return super().apply(actions) + self._place


def test_a_noise_is_given_once_more_to_a_checkpoint(tmp_path):
    """One that was given the same goes on where it was; another one begins."""
    whole = make_model("noise", action_noise=Drifting(0.3)).learn(60)
    save(make_model("noise", action_noise=Drifting(0.3)).learn(40), tmp_path / "checkpoint")
    same, other = (
        resume(tmp_path / "checkpoint.zip", "Pendulum-v1", trusted=True, action_noise=noise)
        for noise in (Drifting(0.3), Drifting(0.2))
    )
    assert same.action_noise._place == pytest.approx(0.2)  # of 20 steps that were not random
    assert (other.action_noise._place, other.action_noise.share) == (0.0, 0.2)
    same.learn(60)
    for mine, its in zip(same.policy.parameters(), whole.policy.parameters(), strict=True):
        th.testing.assert_close(mine, its)

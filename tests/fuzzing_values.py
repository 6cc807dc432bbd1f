"""What tests/fuzzing.py gives to each argument: values that are good, and others."""

from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.buffers import Episode, HindsightReplayBuffer, Prioritized, SequenceReplayBuffer, TransitionReplayBuffer
from sb3_ddpg_ext.learners import EagerLearner, Learner
from sb3_ddpg_ext.networks import ObservationNormaliser
from sb3_ddpg_ext.noise import GaussianNoise, OrnsteinUhlenbeckNoise
from sb3_ddpg_ext.policies import DDPGPolicy, MlpPolicy, PaperPolicy
from sb3_ddpg_ext.policies.heads import Categorical
from sb3_ddpg_ext.schedules import Constant, Linear

P, B = "policy_kwargs", "replay_buffer_kwargs"
NAN, INF, HUGE, MORE_THAN_A_FLOAT = float("nan"), float("inf"), 10**30, 10**400


class Tiny(gym.Env):
    """Two numbers are seen, one is done, the reward is near 0. An episode has ten steps."""

    goals = False

    def __init__(self):
        box = spaces.Box(-1, 1, (2,), np.float32)
        keys = ("achieved_goal", "desired_goal", "observation")
        self.observation_space = spaces.Dict(dict.fromkeys(keys, box)) if self.goals else box
        self.action_space = spaces.Box(-2, 2, (1,), np.float32)

    def _obs(self):
        obs = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {key: obs for key in self.observation_space} if self.goals else obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        return self._obs(), -(float(action[0]) ** 2), self.steps == 10, False, {}

    def compute_reward(self, achieved, desired, infos):
        return -np.linalg.norm(achieved - desired, axis=-1)


class TinyGoals(Tiny):
    """The same with goals."""

    goals = True


class Unshaped(nn.Module):
    """An activation that gives another shape."""

    def forward(self, x):
        return x[:, :1]


class Broken(nn.Module):
    """A module that cannot be made."""

    def __init__(self, *args):
        raise KeyError("broken")


class NoExtractor(nn.Module):
    """A features extractor by its arguments, but by no base class."""

    def __init__(self, observation_space):
        super().__init__()
        self.features_dim = 2


EPISODES = [Episode(np.ones((6, 2), np.float32), np.zeros((5, 1)), np.zeros(5), True)]
# What is tried for every argument. None of it may lead to an error that names nothing.
ANYTHING = [
    None, True, False, 0, 1, 2, -1, -2, 0.5, 1.0, 1.5, -0.5, 1e-300, 1e300, NAN, INF, -INF, 2**32, HUGE, -HUGE,
    MORE_THAN_A_FLOAT,
    "", "x", "auto", "none", "0.1", "lin", "lin_0_5", "lin_0.5", "normal_0.1", "nul\0", b"x",
    [], [1], (1,), [0], [-1], [1.5], ["x"], [None], [[1]], [HUGE], (1, 2), (2, 1), (NAN, 1), (0, INF), {}, {"x": 1},
    {1: 2}, {"kind": "x"},
    {"kind": ["x"]}, {"kind": None}, {"kind": "lin", "start": NAN}, {"kind": "normal", "std": "x"}, set(), {1, 2},
    np.array([0.1, 0.2]), np.array([1]), np.array(1.0), np.array("x"), np.float32(0.5), np.float64(NAN), np.int64(3),
    np.bool_(True),
    th.ones(2), th.tensor(1.0), th.device("cpu"), 1j, object(), object, int, len, print, lambda: 0, lambda x: x, lambda x: NAN,
    lambda x, y: 0, nn.ReLU, nn.ReLU(), nn.Linear, nn.GLU, Unshaped, Broken, Path("x"), Path("/dev/null/x"), "/dev/null/x",
    th.optim.Adam, ReplayBuffer, GaussianNoise, GaussianNoise(0.1), Linear(0.5), ValueError, Ellipsis, NotImplemented,
]  # fmt: skip
SCHEDULES = [
    1e-3, 0, np.float32(1e-3), "1e-3", "lin_1e-3", "lin_1e-3_1e-4", "exp_1e-3_0.9999", "const_1e-3",
    dict(kind="exp", start=1e-3, end=1e-4),
    dict(kind="piecewise", points=[(0, 1e-3), (0.5, 1e-4)]), dict(kind="lin", start=1e-3, steps=20), Linear(1e-3),
    Constant(1e-3),
    lambda progress: 1e-3 * progress, lambda progress: np.float32(1e-3), lambda progress, more=0: 1e-3,
    # Not so:
    lambda: 1e-3, lambda a, b: 1e-3, lambda progress: "x", lambda progress: None, lambda progress: NAN, lambda progress: -1.0,
    lambda progress: [1e-3], lambda progress: 1j, lambda progress: 1 / (progress - progress), lambda progress: {}["x"],
    lambda progress: INF,
    lambda progress: NAN if progress < 0.5 else 1e-3, lambda progress: progress - 0.5, "exp_1_1_1_1", "lin_1e400", "lin_1_2_3",
    "exp_0_0", dict(kind="lin", start=1e-3, steps=HUGE), dict(kind="lin", start=1e-3, steps=0),
    dict(kind="piecewise", points=3), dict(kind="piecewise", points=[(0, NAN)]), dict(kind="piecewise", points="ab"),
    dict(kind="piecewise", points=[]), dict(kind="piecewise", points={}), dict(kind="lin"), dict(kind="lin", start=[1]),
    dict(kind="lin", start=MORE_THAN_A_FLOAT), dict(kind="piecewise", points=[(0, 1)], over=["x"]),
    dict(kind="piecewise", points=[(0, 1)], interpolation=np.array([1, 2])), dict(kind="const", value=th.ones(2)), "lin_1e300",
]  # fmt: skip
NOISES = [
    "normal_0.1", "ou_0.2", "pink_0.3", "red_0.1", "coloured_0.1", "param_0.1", "adaptive-param_0.2", "epsilon_0.1",
    "normal_lin_0.5_0.05",
    "normal_0.1, epsilon_0.1", dict(kind="ou", sigma=0.2, dt=1.0), dict(kind="ou", sigma=0.2, start="stationary"),
    GaussianNoise([0.1]),
    NormalActionNoise(np.zeros(1), np.ones(1)), ["normal_0.1", "ou_0.1"],
    dict(kind="normal", sigma=[0.1], clip=0.2, scale="lin_1_0.1"),
    dict(kind="correlated", covariance=[[1.0]]), dict(kind="red", sigma=0.2, length=50), OrnsteinUhlenbeckNoise(Linear(0.5)),
    dict(kind="adaptive-param", target=0.3, shared=True, interval=10), dict(kind="normal", sigma=lambda progress: 0.1),
    # Not so:
    "epsilon_lin_0_5", "normal_nan", "normal_0.1,", "normal_0.1;ou_0.1", "param_-1", "normal_1e400", GaussianNoise([0.1, 0.2]),
    NormalActionNoise(np.zeros(2), np.ones(2)), NormalActionNoise, dict(kind="ou", theta=NAN), dict(kind="ou", dt=INF),
    dict(kind="ou", theta=HUGE),
    dict(kind="ou", start="x"), dict(kind="ou", start=["x"]), dict(kind="ou", start=np.array([1.0, 2.0])),
    dict(kind="ou", mean=[1, 2]),
    dict(kind="red", length=HUGE), dict(kind="red", length=2**32), dict(kind="pink", beta=1),
    dict(kind="normal", sigma=lambda: 0.1),
    dict(kind="normal", sigma=lambda progress: NAN), dict(kind="normal", sigma=lambda progress: "x"),
    dict(kind="epsilon", epsilon=lambda progress: 2),
    dict(kind="normal", sigma=[[0.1]]), dict(kind="normal", sigma=th.ones(1)), dict(kind="normal", sigma=np.array("x")),
    dict(kind="normal", clip="x"),
    dict(kind="correlated", covariance=[[-1.0]]), dict(kind="correlated", covariance=[[1, 0], [0, 1]]),
    dict(kind="correlated", covariance="x"),
    dict(kind="normal", scale=[1]), dict(kind="adaptive-param", target=HUGE), dict(kind="adaptive-param", interval=0),
    dict(kind="param", shared="x"),
    ["normal_0.1", ["ou_0.1"]], [NormalActionNoise(np.zeros(1), np.ones(1)), "normal_0.1"], ["x", 1],
    dict(kind="normal", sigma=MORE_THAN_A_FLOAT),
    dict(kind="normal", sigma=set()), dict(kind="normal", mean=NAN), dict(kind="adaptive-param", interval=HUGE),
    dict(kind="normal", sigma=1e300),
    dict(kind="param", sigma=1e300), dict(kind="ou", sigma=1e300), dict(kind="normal", **{"": 1}), {"kind": "normal", 1: 2},
    dict(kind="adaptive-param", sigma=HUGE), dict(kind="adaptive-param", factor=MORE_THAN_A_FLOAT),
    dict(kind="adaptive-param", factor=1),
    dict(kind="correlated", covariance=[[1e300]]), dict(kind="correlated", covariance=[[1], [1, 2]]),
]  # fmt: skip
SAMPLINGS = [
    "uniform", "prioritized", "prioritized_0.6", "lap", dict(kind="uniform", replacement=False),
    dict(kind="prioritized", beta="lin_0.4_1"),
    dict(kind="prioritized", alpha=0, beta=0.5, epsilon=0.1), Prioritized(0.5),
    # Not so:
    dict(kind="prioritized", beta="lin_0_5"), dict(kind="prioritized", beta=lambda progress: 0.5),
    dict(kind="prioritized", beta=2),
    dict(kind="prioritized", beta="x"), dict(kind="prioritized", beta={"kind": "lin"}),
    dict(kind="prioritized", beta=[1]), "prioritized_x", "uniform_1",
    dict(kind="uniform", replacement=1), dict(kind="prioritized", alpha=NAN), dict(kind="prioritized", alpha=HUGE),
    Prioritized,
    dict(kind="prioritized", epsilon=0), dict(kind="prioritized", epsilon=1e300), dict(kind="lap", beta=1),
    dict(kind="prioritized", beta=Linear(0.4, 3)),
    dict(kind="prioritized", alpha=MORE_THAN_A_FLOAT),
    dict(kind="prioritized", beta=dict(kind="piecewise", points=[(0.5, 2)])),
    dict(kind="prioritized", beta=dict(kind="exp", start=2, decay=0.5)), dict(kind="lap", alpha=1e300),
    dict(kind="prioritized", beta="exp_1_0.5"),
]  # fmt: skip
NORMS = [
    "none", "layer", "batch", "batch-renorm", dict(kind="layer", eps=1e-3), nn.LayerNorm, partial(nn.GroupNorm, 1),
    dict(kind="batch", momentum=0.5),
    # Not so:
    dict(kind="layer", eps="x"), dict(kind="layer", eps=NAN), dict(kind="layer", eps=-1), dict(kind="layer", eps=[1]),
    dict(kind="batch", momentum="x"),
    dict(kind="batch", momentum=NAN), dict(kind="batch", momentum=2), dict(kind="batch", momentum=-1),
    dict(kind="batch", eps=th.ones(2)), "layer_1e-3",
    "batch_x", lambda n: None, lambda n: 3, lambda n: nn.Linear(n, n + 1), lambda: nn.ReLU(), nn.Conv1d, nn.LSTM,
    nn.BatchNorm2d,
    dict(kind="layer", eps=INF), dict(kind="layer", eps=MORE_THAN_A_FLOAT),
]  # fmt: skip
INITIALISERS = [
    "torch", "orthogonal", "xavier", "normal", "uniform", "fan_in", dict(kind="normal", std=0.1),
    dict(kind="orthogonal", gain=0.01), "normal_0.1", 3e-3,
    lambda layer: None,
    # Not so:
    dict(kind="normal", std=HUGE), dict(kind="uniform", limit=HUGE), dict(kind="orthogonal", gain=HUGE),
    dict(kind="normal", std=1e39),
    dict(kind="normal", std=[1]), dict(kind="xavier", gain=NAN), "orthogonal_x", "normal_1_2", "fan_in_1", lambda: None,
    lambda a, b: None, 1e39, 3e38,
    lambda layer: layer.nothing, lambda layer: nn.init.constant_(layer.weight, NAN), nn.init.eye_,
    th.nn.init.orthogonal_, MORE_THAN_A_FLOAT,
]  # fmt: skip
FOLDER = "folder"
# (argument,) or (dict, argument) -> values for it beside those for all, good ones first.
VALUES = {
    ("policy", ): ["MlpPolicy", "PaperPolicy", MlpPolicy, PaperPolicy, DDPGPolicy, "MultiInputPolicy", "CnnPolicy",
                  "MlpLstmPolicy", "mlppolicy"],
    ("env",): [Tiny, "Pendulum-v1", TinyGoals, "CartPole-v1", "Nope-v0", Tiny.__name__],
    ("learning_rate",): SCHEDULES,
    ("qf_learning_rate",): [None, *SCHEDULES],
    ("buffer_size",): [100, 50, 1e2, 1, 2**31],
    ("learning_starts",): [10, 0, 25.0],
    ("batch_size",): [8, 1, 300, 16.0, 2**31],
    ("tau",): [0.005, 0, 1],
    ("gamma",): [0.99, 0, 1],
    ("train_freq", ): [1, 5, (1, "episode"), [2, "step"], (1, "x"), (1, ["step"]), (0, "step"), (HUGE, "step"),
                      (1, 2, 3), ("step", 1), (1, np.array([1, 2]))],
    ("gradient_steps",): [1, -1, 0, 3, 2.0, 10**18, 2**31],
    ("action_noise",): [None, *NOISES],
    ("replay_buffer_class", ): [None, TransitionReplayBuffer, ReplayBuffer, NStepReplayBuffer, DictReplayBuffer,
                               HindsightReplayBuffer,
                               SequenceReplayBuffer, dict, "ReplayBuffer"],
    (B,): [None, {}, {"sampling": "lap"}, {"x": 1}, {1: 1}, {"env": 1}, {"device": "cpu"}, {"buffer_size": 1}, []],
    ("optimize_memory_usage",): [False, True],
    ("n_steps",): [1, 3, 3.0, 1000],
    ("tensorboard_log",): [None, FOLDER, Path(FOLDER), Path("nul\0"), "a" * 300],
    (P, ): [None, {}, {"net_arch": [4]}, {"nothing": 1}, {1: 1}, {"observation_space": 1}, {"lr_schedule": 1},
           {"device": "cpu"}, {"self": 1}],
    ("verbose",): [0, 1, 2, 3],
    ("seed",): [None, 0, 3, 2**32 - 1, 1.0],
    ("device", ): ["auto", "cpu", th.device("cpu"), "cuda", "cuda:7", "cpu:0", "meta", "gpu", "xla", "cpu:x", "CPU",
                  "mps", "privateuseone", 0, "vulkan"],
    ("_init_setup_model",): [True, False],
    ("stats_window_size",): [100, 1, 10.0, 2**31],
    ("repeat_warmup",): [False, True],
    ("policy_delay",): [1, 2],
    ("target_policy_noise",): [0.0, 0.2, 3],
    ("target_noise_clip",): [0.5, 0],
    ("target_update_interval",): [None, 1, 3],
    ("max_grad_norm",): [None, 0.5, 10],
    ("learner", ): ["auto", "eager", "fused", "cuda_graph", EagerLearner, Learner, dict(kind="eager"),
                   dict(kind="eager", x=1), dict(kind="auto"),
                   "eager_1", dict(kind="eager", policy=1), EagerLearner.__new__(EagerLearner)],
    ("precision",): ["float32", "bf16", "float16", th.float32],
    ("n_threads",): [None, 1, 1.0],
    ("random_steps",): [None, 0, 10],
    ("noise_in_warmup",): [False, True],
    ("on_nan",): ["raise", "rollback", "ignore", ["raise"]],
    ("collector",): [None, "rays", "ray_0", dict(kind="ray", n_workers=0), dict(kind="ray", workers=1), dict(n_workers=1)],
    (P, "net_arch"): [[4], [4, 4], [], dict(pi=[4], qf=[8]), dict(pi=[4]), dict(pi=4, qf=4), [0], [4.0], [2**40],
                      [10**12], "44", [[4]], {4}, np.array([4, 4]),
                      dict(pi=[4], qf=[4], x=[4]), [True]],
    (P, "n_critics"): [1, 2, 3, 2.0, 10**5 * HUGE],
    (P, "activation_fn"): ["relu", "tanh", "elu", "silu", "mish", nn.ReLU, nn.Tanh, partial(nn.LeakyReLU, 0.2), "TANH",
                           "gelu", nn.GLU, nn.Softmax,
                           nn.Identity, nn.PReLU, lambda: nn.Tanh(), lambda: 3, Unshaped, Broken, nn.LSTM, nn.Flatten,
                           nn.MultiheadAttention, nn.Conv1d,
                           lambda: Broken(), lambda: nn.GLU(), nn.Module, partial(nn.LeakyReLU, "x"), nn.Bilinear,
                           nn.Dropout, nn.Embedding,
                           partial(nn.LeakyReLU, NAN)],
    (P, "actor_norm"): NORMS,
    (P, "critic_norm"): NORMS,
    (P, "input_norm"): NORMS,
    (P, "target_statistics"): ["running", "batch", "Batch"],
    (P, "norm_after_action"): [True, False],
    (P, "init"): INITIALISERS,
    (P, "last_init"): [None, *INITIALISERS],
    (P, "residual"): [False, True],
    (P, "action_layer"): [0, 1],
    (P, "action_branch"): [(), [4], [2**40], "4"],
    (P, "action_join"): ["concat", "sum"],
    (P, "critic_dropout"): [0.0, 0.1, 0.99],
    (P, "normalize_observations"): [False, True, dict(clip=5.0), dict(min_std=0.01), dict(clip=0), dict(clip=NAN),
                                    dict(x=1), dict(min_std="x"),
                                    dict(shape=1), ObservationNormaliser, dict(clip=[1]), dict(clip=MORE_THAN_A_FLOAT),
                                    dict(clip=HUGE), {3: 1}],
    (P, "scale_returns"): [False, True, dict(bound=5.0), dict(bound=0), dict(bound="x"), dict(bound=HUGE), dict(x=1),
                           dict(bound=1e-300), {3: 1, "a": 2}],
    (P, "popart"): [False, True, dict(beta=0.1), dict(beta=0), dict(beta=2), dict(beta="x"), dict(x=1), dict(beta=1e-300)],
    (P, "critic"): ["scalar", "categorical", "quantile", dict(kind="categorical", n_atoms=11, v_min=-5, v_max=5),
                    dict(kind="quantile", n_quantiles=5),
                    Categorical(11), Categorical, dict(kind="categorical", n_atoms=HUGE),
                    dict(kind="quantile", n_quantiles=HUGE), dict(kind="quantile", n_quantiles=0),
                    dict(kind="categorical", v_min=1, v_max=0), dict(kind="categorical", v_min=NAN),
                    dict(kind="categorical", v_min=-1e300, v_max=1e300),
                    dict(kind="categorical", v_max=HUGE), dict(kind="scalar", loss="mse"),
                    dict(kind="categorical", v_min=[1]), "quantile_5", "categorical_11",
                    dict(kind="categorical", v_max=MORE_THAN_A_FLOAT), dict(kind="categorical", v_min=0, v_max=1e-300),
                    "quantile_x",
                    dict(kind="categorical", n_atoms=2**40), dict(kind="quantile", n_quantiles=2**40)],
    (P, "critic_loss"): ["mse", "huber", nn.functional.l1_loss, nn.functional.smooth_l1_loss, lambda a, b,
                         reduction: (a - b) ** 2, "mse_1", "l1",
                         lambda a, b: a, lambda a, b, reduction: 0.0, lambda a, b, reduction: a.mean(), lambda a, b,
                         reduction: None, nn.MSELoss, nn.MSELoss(),
                         nn.functional.cross_entropy, nn.functional.cosine_similarity,
                         nn.functional.binary_cross_entropy, lambda a, b, reduction: {}["x"],
                         lambda a, b, reduction: (a - b).detach(), lambda a, b, reduction: a * NAN],
    (P, "backup"): ["min", "mean", "max"],
    (P, "objective"): ["first", "mean", "min", "max"],
    (P, "target_q_range"): [None, (-20, 0), [-1, 1.5], (0, 0), (1, "x"), (-HUGE, HUGE), (-1e300, 1e300), (0, 1, 2),
                            (-MORE_THAN_A_FLOAT, 0)],
    (P, "target_networks"): [True, False],
    (P, "critic_weight_decay"): [0.0, 1e-2, 1e-6],
    (P, "decoupled_weight_decay"): [False, True],
    (P, "inverting_gradients"): [False, True],
    (P, "output_norm"): [None, 1.0, 0.1],
    (P, "dqda_clip"): [None, 1.0, 0.1],
    (P, "preactivation_penalty"): [0.0, 1e-5],
    (P, "action_l2"): [0.0, 0.1],
    (P, "actor_average"): [0.0, 0.1, 1],
    (P, "behaviour_cloning"): [0.0, 0.1],
    (P, "q_filter"): [True, False],
    (P, "features_extractor_class"): [FlattenExtractor, NatureCNN, CombinedExtractor, NoExtractor, "FlattenExtractor",
                                      nn.Flatten, FlattenExtractor.__name__,
                                      partial(FlattenExtractor)],
    (P, "features_extractor_kwargs"): [None, {}, dict(x=1), dict(features_dim=3), {1: 1}, dict(observation_space=1)],
    (P, "normalize_images"): [True, False],
    (P, "optimizer_class"): [th.optim.Adam, th.optim.AdamW, th.optim.SGD, th.optim.RMSprop, th.optim.NAdam, "Adam",
                             "adam", th.optim.LBFGS, th.optim.SparseAdam,
                             th.optim.Optimizer, th.optim.Adam([nn.Parameter(th.ones(1))]),
                             th.optim.lr_scheduler.StepLR, partial(th.optim.Adam, eps=1e-5),
                             th.optim.Muon, th.optim.Adafactor, th.optim.Rprop, th.optim.ASGD, lambda parameters,
                             lr: th.optim.SGD(parameters, lr)],
    (P, "optimizer_kwargs"): [None, {}, dict(eps=1e-5), dict(weight_decay=0.1), dict(betas=(0.5, 0.9)), dict(x=1),
                              dict(lr=0.1), dict(eps="x"), dict(eps=-1),
                              dict(betas=3), dict(betas=(2, 2)), dict(params=[]), {1: 1}, dict(weight_decay=[1]),
                              dict(eps=NAN), dict(foreach=True),
                              dict(fused=True), dict(capturable=True), dict(maximize="x"), dict(amsgrad=True),
                              dict(betas=("x", "y")),
                              dict(foreach=True, fused=True), dict(differentiable=True), dict(betas=(0.9,)),
                              dict(eps=None), dict(weight_decay=INF)],
    (P, "share_features_extractor"): [False, True],
    (B, "handle_timeout_termination"): [True, False],
    (B, "n_steps"): [1, 3],
    (B, "gamma"): [0.99],
    (B, "sampling"): [None, *SAMPLINGS],
    (B, "combined"): [False, True],
    (B, "storage_device"): [None, "cpu", th.device("cpu"), "cuda", "meta", "gpu", "cpu:0", "privateuseone", 0],
    (B, "pin_memory"): [False, True],
    (B, "keep_float64"): [False, True],
    (B, "frame_stack"): [1, 2, 2**31],
    (B, "path"): [None, FOLDER, Path(FOLDER), Path("nul\0"), "a" * 300],
    (B, "demonstrations"): [None, EPISODES, "nothing.npz", Path("nothing"), [EPISODES[0]._replace(actions=np.zeros((5, 2)))],
                            [EPISODES[0]._replace(rewards=np.zeros(3))], [EPISODES[0]._replace(observations=np.zeros((6, 3)))],
                            [EPISODES[0]._replace(rewards=None)], [EPISODES[0]._replace(actions=np.full((5, 1), NAN))],
                            [EPISODES[0]._replace(terminated="x")], [EPISODES[0]._replace(observations={"x": 1})],
                            [EPISODES[0]._replace(actions="x")]],
    (B, "demonstration_share"): [None, 0.5],
}  # fmt: skip
OF_GOALS = {
    (B, "n_sampled_goal"): [4, 0, 1, 2.0],
    (B, "goal_selection_strategy"): ["future", "final", "episode", "random"],
    (B, "copy_info_dict"): [False, True],
    (B, "sampling"): [None, *SAMPLINGS],
    ("n_steps",): [1, 3],
    (P, "normalize_observations"): [False, True],
    (P, "features_extractor_class"): [CombinedExtractor, FlattenExtractor, NatureCNN],
    ("replay_buffer_class",): [HindsightReplayBuffer, None, DictReplayBuffer, ReplayBuffer, NStepReplayBuffer],
}
OF_SEQUENCES = {
    (B, "sequence_length"): [4, None, 1, 8.0, 10**5 * HUGE],
    (B, "overlap"): [None, 0, 2],
    (B, "burn_in"): [0, 2],
    (B, "stored_state"): [False, True],
    (B, "eta"): [0.9, 0, 1],
    (B, "sampling"): [None, *SAMPLINGS],
    (P, "cell"): [None, "lstm", "gru"],
    (P, "hidden_size"): [8, 4.0, 2**40],
    (P, "n_layers"): [1, 2],
    (P, "previous_action"): [True, False],
    (P, "previous_reward"): [False, True],
    (P, "actor_norm"): NORMS[:7],
    (P, "critic"): ["scalar", "quantile"],
    ("action_noise",): [None, *NOISES],
    ("policy",): ["MlpLstmPolicy", "MlpGruPolicy", "MlpPolicy"],
    ("replay_buffer_class",): [None, SequenceReplayBuffer, TransitionReplayBuffer],
}
OF_HINDSIGHT = dict(policy="MultiInputPolicy", env=TinyGoals, replay_buffer_class=HindsightReplayBuffer)
COMMON = dict(buffer_size=100, learning_starts=10, batch_size=8, device="cpu", seed=0)
# Who is given the arguments, what else, and the arguments.
SUBJECTS = {
    "plain": (DDPG, COMMON | dict(policy="MlpPolicy", env=Tiny), VALUES),
    "goals": (DDPG, COMMON | OF_HINDSIGHT, OF_GOALS),
    "sequences": (RecurrentDDPG, COMMON | dict(policy="MlpLstmPolicy", env=Tiny), OF_SEQUENCES),
}
OF_SUBJECTS = {
    "sequences": {P: dict(net_arch=[4], hidden_size=8), B: dict(sequence_length=4)},
    "goals": {P: dict(net_arch=[4])},
    "plain": {P: dict(net_arch=[4])},
}

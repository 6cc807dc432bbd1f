"""Deep Deterministic Policy Gradient as a Stable-Baselines3 algorithm."""

import warnings
from collections.abc import Iterable
from copy import deepcopy
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule, TrainFreq
from stable_baselines3.common.utils import should_collect_more_steps, update_learning_rate
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.patch_gym import _patch_env

from sb3_ddpg_ext import checkpoints, model_checks, model_file
from sb3_ddpg_ext.arguments import check_policy, check_together, check_what_sb3_takes, checked, convert_from_sb3
from sb3_ddpg_ext.batch import Batch, Sequences
from sb3_ddpg_ext.buffer_files import load_buffer, resume_buffer, save_buffer
from sb3_ddpg_ext.buffers import read_episodes, store
from sb3_ddpg_ext.distributed import RayCollector, environments, make_collection, make_collector, stopped_on_error
from sb3_ddpg_ext.env_checks import ShapeCheck, check_action_space, made_env, results_named
from sb3_ddpg_ext.explorer import Explorer, is_same_noise, needs_preparing, prepare_noise
from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.finite import NOT_FINITE, are_finite
from sb3_ddpg_ext.learners import Learner, UpdateSettings
from sb3_ddpg_ext.noise import Noise
from sb3_ddpg_ext.noise.base import PerturbedActor
from sb3_ddpg_ext.places import check_places, check_replacements
from sb3_ddpg_ext.plan import Plan
from sb3_ddpg_ext.policies import CnnPolicy, DDPGPolicy, MlpPolicy, MultiInputPolicy, PaperCnnPolicy, PaperPolicy
from sb3_ddpg_ext.recipe import Recipe, buffer_class_of, resolved
from sb3_ddpg_ext.replay import as_replay
from sb3_ddpg_ext.schedules import evaluate, make_schedule
from sb3_ddpg_ext.trainer import Trainer
from sb3_ddpg_ext.validation import check_flag, check_integer

SelfDDPG = TypeVar("SelfDDPG", bound="DDPG")


class DDPG(OffPolicyAlgorithm):
    """
    Deep Deterministic Policy Gradient, Lillicrap et al. (2016), https://arxiv.org/abs/1509.02971, Algorithm 1.

    Every argument of Stable-Baselines3's ``DDPG`` has the same name, default and meaning here. With those and
    ``noise_in_warmup=True`` the two take the same actions and learn the same parameters: bit for bit with ``learner="eager"``,
    to rounding with the others. The arguments after ``_init_setup_model`` are additions. Strings and dicts stand for objects
    that a YAML file cannot hold. ``DDPG.load`` also reads the files of Stable-Baselines3's DDPG and TD3.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, ``"PaperPolicy"``, ``"PaperCnnPolicy"`` or a
        subclass of :class:`DDPGPolicy`
    :param env: a gymnasium environment or its id, or a ``VecEnv``, with a bounded ``Box`` action space
    :param learning_rate: learning rate of the actor, and of the critic unless ``qf_learning_rate`` is given: a number, a
        function of the progress remaining (1 to 0), a schedule of :mod:`sb3_ddpg_ext.schedules`, or its description:
        ``"lin_1e-3"`` (to 0), ``"lin_1e-3_1e-4"``, ``"exp_1e-3_0.9999"`` (per step),
        ``dict(kind="piecewise", points=[(0, 1e-3), (0.5, 1e-4)])``
    :param buffer_size: transitions the replay buffer holds
    :param learning_starts: steps before the first update. Their actions are uniform random ones unless ``random_steps`` says
        otherwise; see also ``repeat_warmup``.
    :param batch_size: transitions in a minibatch
    :param tau: coefficient of the soft target update, in [0, 1]
    :param gamma: discount factor, in [0, 1]
    :param train_freq: environment steps between updates, or a pair such as ``(5, "step")`` or ``(1, "episode")``
    :param gradient_steps: number of updates each time; -1 for as many as environment steps were taken
    :param action_noise: exploration noise on the [-1, 1] action scale: None, a noise of :mod:`sb3_ddpg_ext.noise`, an
        ``ActionNoise`` of Stable-Baselines3, or a description: ``"normal_0.1"``, ``"ou_0.2"``, ``"pink_0.3"``,
        ``"adaptive-param_0.2"``, ``"epsilon_0.1"``, with a schedule ``"normal_lin_0.5_0.05"``, several with commas between
        them, with all arguments ``dict(kind="ou", sigma=0.2, dt=1.0)``. A noise of ours is copied, so that several models can
        be given the same one.
    :param replay_buffer_class: None for :class:`~sb3_ddpg_ext.buffers.TransitionReplayBuffer`, or
        :class:`~sb3_ddpg_ext.buffers.HindsightReplayBuffer`, or a class of Stable-Baselines3 or of your own
    :param replay_buffer_kwargs: further arguments of the replay buffer, such as ``dict(sampling="prioritized")`` or
        ``dict(combined=True)``
    :param optimize_memory_usage: passed to the replay buffer
    :param n_steps: number of rewards in the critic's target. A ``replay_buffer_class`` of your own that takes ``n_steps`` is
        given it and ``gamma``. Where a class of SB3 does not take it, ours takes its place.
    :param stats_window_size: episodes in the means that are logged
    :param tensorboard_log: directory for TensorBoard; None for no log
    :param policy_kwargs: arguments of the policy; see :class:`DDPGPolicy`
    :param verbose: 0 silent, 1 information, 2 debugging
    :param seed: seed of torch, NumPy, the environment, the action space and the noise
    :param device: ``"auto"`` takes a GPU if there is one
    :param _init_setup_model: whether to build the networks at once
    :param qf_learning_rate: learning rate of the critic, in the forms of ``learning_rate``; None for the same
    :param repeat_warmup: take the random warm-up again at each ``learn()`` that resets the timesteps, also with a trained
        model, as Stable-Baselines3 does. By default only an untrained model acts at random.
    :param policy_delay: updates of the critic for each update of the actor and the targets, Fujimoto et al. (2018), section
        5.2; 1 is DDPG
    :param target_policy_noise: standard deviation of the noise that smooths the target's actions, the same, section 5.3;
        0 is DDPG
    :param target_noise_clip: bound of that noise
    :param target_update_interval: updates of the critic for each update of the targets; None for ``policy_delay``. With
        ``tau=1`` the targets are copied each time.
    :param max_grad_norm: largest norm of the gradient of each network's parameters; None for no bound
    :param learner: what makes an update. ``"eager"`` uses autograd and SB3's own operations. ``"fused"`` has the gradients
        written out, for plain multilayer perceptrons on the CPU, and ``"compiled"`` has them in a C library, if it was built.
        ``"cuda_graph"`` records the eager update once and replays it on a GPU. ``"auto"`` takes compiled, fused or eager, the
        first that can train the model. A subclass of :class:`~sb3_ddpg_ext.learners.Learner` is a learner of your own.
    :param precision: ``"float32"``, or ``"bf16"`` to round what large matrix products multiply to bfloat16; on a CPU with AMX,
        which Intel's Xeon Scalable has since 2023, on one of AMD's with AVX512_BF16, or on a GPU
    :param n_threads: number of threads while the model learns. None chooses: with ``learner="compiled"``, whose numbers do not
        depend on it, what is fastest at the time; else one thread for small networks, torch's own number for large ones, for
        convolutions and for ``learner="eager"``. Several threads of torch are faster on an idle machine and much slower on a
        busy one; it acts with as many.
    :param random_steps: number of uniform random actions at the beginning; None for ``learning_starts``
    :param noise_in_warmup: add the noise to the random actions, too, as Stable-Baselines3 does. It sends 4 to 20% of them to
        the bounds.
    :param on_nan: what to do when the numbers of a network have become infinite or NaN, which is looked for at each action and
        every 200 updates. The networks become what they were when they were last seen to be finite. Then ``"raise"`` stops the
        training, and ``"rollback"`` goes on, at most three times from the same place.
    :param collector: where the environments are: None for this process, or ``dict(kind="ray", ...)`` with the arguments of
        :class:`~sb3_ddpg_ext.distributed.RayCollector` for workers on Ray, or such an object. ``env`` may be a function then.
    :param misplaced: none; an argument of another name is refused by an error that says where it belongs
    :raises ValueError: for a value outside what is allowed, or an observation or reward that is not finite
    :raises TypeError: for a value of the wrong type
    """

    has_memory: ClassVar[bool] = False
    policy_base: ClassVar[type[DDPGPolicy]] = DDPGPolicy
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
        "PaperPolicy": PaperPolicy,
        "PaperCnnPolicy": PaperCnnPolicy,
    }
    policy: DDPGPolicy
    plan: Plan | None = None  # of a preset
    _is_loading = False
    _is_past_warmup = False
    _resumption: checkpoints.Resumption | None = None  # of a checkpoint, until learn() has gone on
    on_nan = "raise"  # where an older file does not say it
    collector: RayCollector | None = None  # likewise

    def __init__(
        self,
        policy: str | type[DDPGPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule | str | dict[str, Any] = 1e-3,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | str | dict[str, Any] | list | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        stats_window_size: int = 100,
        qf_learning_rate: float | Schedule | str | dict[str, Any] | None = None,
        repeat_warmup: bool = False,
        policy_delay: int = 1,
        target_policy_noise: float = 0.0,
        target_noise_clip: float = 0.5,
        target_update_interval: int | None = None,
        max_grad_norm: float | None = None,
        learner: str | dict[str, Any] | type[Learner] = "auto",
        precision: str = "float32",
        n_threads: int | None = None,
        random_steps: int | None = None,
        noise_in_warmup: bool = False,
        on_nan: str = "raise",
        collector: RayCollector | dict[str, Any] | str | None = None,
        **misplaced: Any,
    ):
        check_policy(policy, self.policy_aliases, self.policy_base)
        kwargs: Any = dict(policy_kwargs=policy_kwargs, replay_buffer_kwargs=replay_buffer_kwargs)
        check_what_sb3_takes(**kwargs, verbose=verbose, device=device)
        check_places(type(self), misplaced, policy, replay_buffer_class, **kwargs)
        is_set_up = check_flag("_init_setup_model", _init_setup_model)
        if env is not None:  # None while a model is loaded for prediction only
            env = made_env(environments(env, collector), verbose)
            check_action_space(env)
        elif is_set_up:
            raise ValueError("env=None must be an environment, or the id of one")
        super().__init__(
            policy,
            env,
            learning_rate,  # type: ignore[arg-type]  # a string becomes a schedule, and a noise, in _setup_model
            buffer_size, learning_starts, batch_size, tau, gamma, train_freq, gradient_steps,
            action_noise,  # type: ignore[arg-type]
            replay_buffer_class, replay_buffer_kwargs, optimize_memory_usage, n_steps, policy_kwargs, stats_window_size,
            tensorboard_log, verbose, device, support_multi_env=True, seed=seed, sde_support=False,
        )  # fmt: skip
        self.qf_learning_rate, self.repeat_warmup, self.policy_delay = qf_learning_rate, repeat_warmup, policy_delay
        self.target_policy_noise, self.target_noise_clip = target_policy_noise, target_noise_clip
        self.target_update_interval, self.max_grad_norm = target_update_interval, max_grad_norm
        self.learner, self.precision, self.n_threads = learner, precision, n_threads
        self.random_steps, self.noise_in_warmup, self.on_nan = random_steps, noise_in_warmup, on_nan
        self.collector = collector  # type: ignore[assignment]  # which _setup_model makes an object
        self._is_loading = not is_set_up
        if is_set_up:
            self._setup_model()

    @classmethod
    def from_preset(cls: type[SelfDDPG], name: str, env: str, **overrides: Any) -> SelfDDPG:
        """
        A model by the hyperparameters of a paper or a tutorial, with the wrappers, the normalisation and the callbacks that
        rl_zoo3 would give it; ``learn()`` then needs no length. ``python -m sb3_ddpg_ext presets`` lists them; ``verbose=1``
        says whose values they are, and by which rules the preset fits other tasks.

        :param name: of the preset, such as ``"weekend"`` or ``"td3"``; ``"ddpg_ext"`` has our own, tuned hyperparameters
        :param env: id of a registered environment
        :param overrides: arguments of the constructor, or keys of rl_zoo3's YAML files such as ``n_timesteps`` and
            ``normalize``, in place of the preset's; dictionaries such as ``policy_kwargs`` are merged into the preset's
        :return: a :class:`RecurrentDDPG` where the preset is for one
        :raises ValueError: for an unknown preset or environment
        :raises TypeError: for an environment in place of its id
        :raises ImportError: if rl_zoo3 is missing
        """
        from sb3_ddpg_ext.experiment import from_preset

        return from_preset(cls, name, env, overrides)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        env = made_env(env, verbose)  # load() and set_env() take an id too
        if not isinstance(env, VecEnv):
            env = ShapeCheck(_patch_env(env))
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        """Make the parts from the attributes, which come from the constructor or from a saved file."""
        convert_from_sb3(self.__dict__)
        self.__dict__ |= checked(self.__dict__, self.policy_aliases)
        self._explorer, self.collector = Explorer(), make_collector(self.collector)
        self.action_noise = self._prepared(self.action_noise)
        self._setup_lr_schedule()
        if self.seed is not None:  # a loaded model does not see its first episodes again
            self.set_random_seed((self.seed + self.num_timesteps * self._is_loading) % 2**32)
        if self.replay_buffer is None:
            self.replay_buffer = self._make_replay_buffer()
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)
        check_together(self.policy, self.replay_buffer, self.batch_size, may_lack_demonstrations=self._is_loading)
        self._trainer = Trainer(self.policy)
        self._choose_learner()
        self._is_loading = False

    def _setup_lr_schedule(self) -> None:
        self.lr_schedule = make_schedule("learning_rate", self.learning_rate)
        of_critic = self.learning_rate if self.qf_learning_rate is None else self.qf_learning_rate
        self.qf_lr_schedule = make_schedule("qf_learning_rate", of_critic)

    def _prepared(self, action_noise: Any) -> ActionNoise | None:
        """The noise for these environments, from what was given or was in a file."""
        return prepare_noise(
            action_noise, self.action_space.shape, self.env, self.n_envs, self.seed, self.num_timesteps, self._is_loading,
            self.verbose,
        )  # fmt: skip

    def _choose_learner(self) -> None:
        self._trainer.n_threads = self.n_threads
        self._trainer.choose(self.learner, UpdateSettings.of(self), self.verbose, must_train=not self._is_loading)

    def _recipe(self) -> Recipe:
        """The recipe of the replay buffer, from the attributes as they are now."""
        self.replay_buffer_kwargs = resolved(self.replay_buffer_kwargs)
        return Recipe.of(
            self._buffer_class(), self.replay_buffer_kwargs, self.env, self._vec_normalize_env, self.n_steps, self.gamma,
            needs_env=not self._is_loading and self.replay_buffer is None,
            buffer_size=self.buffer_size, observation_space=self.observation_space, action_space=self.action_space,
            device=self.device, n_envs=self.n_envs, optimize_memory_usage=self.optimize_memory_usage,
        )  # fmt: skip

    def _buffer_class(self) -> type[ReplayBuffer]:
        return buffer_class_of(self.replay_buffer_class, self.n_steps, self.replay_buffer_kwargs)

    def _make_replay_buffer(self) -> ReplayBuffer:
        if self._is_loading:  # rl_zoo3 loads agents that are only to act with a buffer_size of 1
            return self._recipe().make_for_loaded(may_train=self.env is not None and self.buffer_size > self.n_envs)
        return self._recipe().make_first(self.replay_buffer_kwargs.get("frame_stack", 1))

    def learn(
        self: SelfDDPG,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int | None = 4,
        tb_log_name: str = "DDPG",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDDPG:
        """
        As in Stable-Baselines3. A model of :meth:`from_preset` knows its length and runs the preset's callbacks, too.

        A model that was loaded from a checkpoint goes on until it has made ``total_timesteps`` in all, unless
        ``reset_num_timesteps=False`` asks for so many more.

        :param total_timesteps: environment steps; None for the preset's, or the checkpoint's
        :param callback: called at every step
        :param log_interval: episodes between logs; None for no log
        :param tb_log_name: of the run, for TensorBoard
        :param reset_num_timesteps: whether to count steps from 0 again
        :param progress_bar: whether to show one
        :return: the model itself
        """
        resumed, self._resumption = self._resumption, None
        if resumed is not None and reset_num_timesteps:
            total_timesteps, reset_num_timesteps = resumed.remaining(total_timesteps, self.num_timesteps), False
        noise = None if resumed is None else deepcopy(self.action_noise)  # Stable-Baselines3 resets its own
        if self.plan is not None:
            total_timesteps, callback = self.plan.completes(total_timesteps, callback)
        elif total_timesteps is None:
            raise ValueError("total_timesteps=None must be an integer >= 0: only a model of from_preset knows its length")
        total_timesteps = check_integer("total_timesteps", total_timesteps, at_least=0)
        if log_interval is not None:
            log_interval = check_integer("log_interval", log_interval, at_least=1)
        with stopped_on_error(vars(self)):
            total_timesteps, callback = self._setup_learn(
                total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
            )
            callback.on_training_start(locals(), globals())
            self._choose_learner()  # after the callbacks, which may freeze parameters or watch modules
            self._trainer.begin_training(self._n_updates)
            if resumed is not None:
                self._is_past_warmup = resumed.apply(callback, self._logger)
                self.action_noise = noise
            between_rollouts = checkpoints.between_rollouts(callback)
            try:
                while self.num_timesteps < total_timesteps:
                    for call in between_rollouts:
                        call()
                    rollout = self.collect_rollouts(
                        self.env, callback, self.train_freq, self.replay_buffer,  # type: ignore[arg-type]
                        self.action_noise, self.learning_starts, log_interval,
                    )  # fmt: skip
                    if not rollout.continue_training:
                        self._last_obs = None  # as in SB3, what comes next begins with a new episode
                        break
                    n_updates = self._collector.updates(rollout.episode_timesteps, self.gradient_steps, self._may_update())
                    if n_updates > 0:
                        self.train(n_updates, self.batch_size)
            except BaseException:
                self._last_obs = None  # a step may be lost: what comes next must not follow the one before
                raise
        callback.on_training_end()
        return self

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError("env=None: the model has no environment to learn in; give one to load() or set_env()")
        replay, noise = as_replay(self.replay_buffer), self._adopted_noise()
        self._collector = make_collection(vars(self), replay, noise, self._mend_policy)
        self._last_obs = self._last_obs if self._collector.has_begun else None
        begins = reset_num_timesteps or self._last_obs is None
        if begins:
            replay.interrupt()
        replay.set_env(self.env)
        # SB3 would wrap our noise, reset it in the middle of an episode, and mark the last transition of our buffer as an end.
        kept = self.action_noise, self.optimize_memory_usage
        self.action_noise = None if noise is self.action_noise else self.action_noise
        self.optimize_memory_usage = self.optimize_memory_usage and not replay.is_ours
        try:
            with results_named():
                total_timesteps, _ = super()._setup_learn(total_timesteps, None, reset_num_timesteps, tb_log_name)
        finally:
            self.optimize_memory_usage = kept[1]
            self.action_noise = kept[0] if self.action_noise is None else self.action_noise
        callback = self._init_callback(callback, progress_bar)
        self._last_obs = self._collector.own(self._last_obs)
        self._collector.check_observation(self._last_obs)
        self._collector.check_normalisation(self.policy.options)
        noise = self._adopted_noise()  # a callback may have brought another one
        if begins:
            self.policy.begin_episodes()
            if noise is self.action_noise and noise is not None:
                noise.reset()
        if self._total_timesteps > 0:  # before the first step, SB3 still shows the end of the last training
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        if reset_num_timesteps or self.random_steps is None:  # else the warm-up goes on where it was
            self._is_past_warmup = self._n_updates > 0 and not self.repeat_warmup
        return total_timesteps, callback

    def _adopted_noise(self) -> Noise | None:
        """The present noise. It is prepared first if a user has put it there since the model was made."""
        if needs_preparing(self.action_noise):
            self.action_noise = self._prepared(self.action_noise)
        return self._explorer.noise_of(self.action_noise)

    def _may_update(self) -> bool:
        """Whether to update: after ``learning_starts`` steps, or, for a trained model, once that many are in the buffer."""
        if self.repeat_warmup or self._n_updates == 0:
            return self.num_timesteps > self.learning_starts
        buffer = self.replay_buffer
        return buffer.full or buffer.size() * self.n_envs > self.learning_starts  # type: ignore[union-attr]

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """
        As in Stable-Baselines3, in less time. Names of local variables are those that its callbacks know. The step at which a
        callback stops the training is stored, too.
        """
        if self._trainer.needs_modes:
            self.policy.set_training_mode(False)
        num_collected_steps, num_collected_episodes, continue_training, collector = 0, 0, True, self._collector
        callback.on_rollout_start()
        while should_collect_more_steps(train_freq, num_collected_steps, num_collected_episodes):
            if not collector.is_ready(vars(self)):
                break
            actions, buffer_actions = collector.acted() or self._sample_action(learning_starts, action_noise, env.num_envs)
            new_obs, rewards, dones, infos = collector.step(env, actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1

            callback.update_locals(locals())
            continue_training = callback.on_step()
            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)  # type: ignore[arg-type]
            if not continue_training:
                return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, continue_training)

            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for ended in np.flatnonzero(dones).tolist() if np.count_nonzero(dones) else ():
                num_collected_episodes += 1
                self._episode_num += 1
                self._explorer.end_episode(action_noise, ended)
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        callback.on_rollout_end()
        return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, continue_training=True)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The actions for the environments, and for the replay buffer the same on the [-1, 1] scale."""
        scaled = self._explored(learning_starts, action_noise)
        while not are_finite(scaled):
            self._recover(scaled, action_noise)
            scaled = self._explored(learning_starts, action_noise)
        return self.policy.unscale_action(scaled), scaled

    def _explored(self, learning_starts: int, action_noise: ActionNoise | None) -> np.ndarray:
        n_random = learning_starts if self.random_steps is None else self.random_steps
        return self._explorer.explore(
            self._act, self._random_actions, self._explorer.noise_of(action_noise),
            0 if self._is_past_warmup else n_random, self.noise_in_warmup,
            self._current_progress_remaining, self.num_timesteps,
        )  # fmt: skip

    def _recover(self, scaled: np.ndarray, action_noise: ActionNoise | None) -> None:
        """Go back to finite networks after an action that is not finite, or raise."""
        if self._mend_policy():
            return
        if not are_finite(self._act(None)):
            self._go_back("the parameters of the actor are so large that its actions are not finite")
        else:
            raise ValueError(f"action_noise={action_noise!r} gave actions={scaled} on the [-1, 1] scale; they must be finite")

    def _mend_policy(self) -> bool:
        """Go back to finite networks where they are not, and return whether that was so."""
        if (name := self.policy.not_finite()) is not None:
            self._go_back(f"the parameters of the {name} are not finite")
        return name is not None

    def _go_back(self, trouble: str) -> None:
        rates = self.learning_rate, self.qf_learning_rate
        self._trainer.last_finite.go_back(trouble, self._n_updates, rates, self.on_nan)
        if self.parameter_noise is not None:  # which acts by a copy of the actor
            self._explorer.noise_of(self.action_noise).reset()  # type: ignore[union-attr]

    def _random_actions(self) -> np.ndarray:
        """Uniform ones, on the [-1, 1] scale."""
        return self.policy.scale_action(np.array([self.action_space.sample() for _ in range(self.n_envs)]))

    def _act(self, perturbed: PerturbedActor | None) -> np.ndarray:
        """The actions of the policy, or of a perturbed copy of its actor, on the [-1, 1] scale."""
        with self._trainer.torch_settings(self.batch_size).threads:
            if perturbed is not None:
                return perturbed.act(self.policy, self._last_obs).reshape(-1, *self.action_space.shape)  # type: ignore[misc]
            actions, _ = self.predict(self._last_obs, deterministic=False)  # type: ignore[arg-type]
        return self.policy.scale_action(actions)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        self._collector.check_step(new_obs, reward, dones, infos)
        if self.policy.observes:
            self.policy.observe(self._last_obs, reward, dones, self.gamma)
        if self._vec_normalize_env is None and as_replay(replay_buffer).copies and not np.count_nonzero(dones):
            replay_buffer.add(self._last_obs, new_obs, buffer_action, reward, dones, infos)  # type: ignore[arg-type]
            self._last_original_obs, self._last_obs = self._last_obs, new_obs  # type: ignore[assignment]
        else:
            super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """
        Update critic, actor and targets by minibatches from the replay buffer. ``learn`` calls this.

        :param gradient_steps: number of updates
        :param batch_size: transitions in each minibatch; ``learn`` gives that of the model, and 100 is SB3's default
        """
        trainer = self._trainer
        if trainer.learner is None:
            self._choose_learner()
        assert trainer.learner is not None
        if not trainer.learner.settings.are_of(self):
            trainer.learner.settings = UpdateSettings.of(self)
        of_critic = self.lr_schedule if self.qf_learning_rate is None else self.qf_lr_schedule
        both = ("learning_rate", self.policy.actor, self.lr_schedule), ("qf_learning_rate", self.policy.critic, of_critic)
        for name, net, schedule in both:
            update_learning_rate(
                net.optimizer, evaluate(schedule, self._current_progress_remaining, self.num_timesteps, name=name)
            )
        replay = as_replay(self.replay_buffer)
        replay.advance(self._current_progress_remaining, self.num_timesteps)
        trainer.train(self._n_updates, gradient_steps, batch_size, self._draw, replay.update_priorities, self.parameter_noise)
        self._n_updates += gradient_steps
        if trainer.diagnostics.is_due(self._n_updates):
            if (broken := trainer.last_finite.look(self._n_updates)) is not None:
                self._go_back(f"the parameters of the {broken} are not finite")
            trainer.diagnose(self._n_updates, self.batch_size, self._draw, self.replay_buffer.size())  # type: ignore[union-attr]

    def _draw(self, batch_size: int) -> Batch | Sequences:
        """A minibatch from the replay buffer."""
        return as_replay(self.replay_buffer).batch(batch_size, self._vec_normalize_env, self.gamma)

    @property
    def actor(self) -> th.nn.Module:  # type: ignore[override]
        """The policy's actor."""
        return self.policy.actor

    @property
    def actor_target(self) -> th.nn.Module:
        return self.policy.actor_target

    @property
    def critic(self) -> th.nn.Module:
        return self.policy.critic

    @property
    def critic_target(self) -> th.nn.Module:
        return self.policy.critic_target

    @property
    def learner_name(self) -> str:
        """The learner that trains the model now: its kind, or the name of its class."""
        return self._trainer.learner_name

    @property
    def parameter_noise(self) -> PerturbedActor | None:
        """The part of ``action_noise`` that perturbs the actor's parameters, if there is one."""
        noise = self._explorer.noise_of(self.action_noise)
        return None if noise is None else noise.parameter_noise

    @property
    def logger(self) -> Logger:
        """
        SB3's logger. It holds the losses of the updates until now, as means since it was last dumped, and what else is
        logged of them. They are turned into floats when somebody asks for the logger, thus at the latest by ``dump_logs``.
        """
        self._trainer.record(self._logger, self._n_updates)
        return self._logger

    def dump_logs(self) -> None:
        """Write the log."""
        if self._n_updates > 0:
            self._trainer.warn_if_oversubscribed(self.batch_size)
        for name, value in self._explorer.statistics(self.action_noise).items():
            self.logger.record(f"exploration/{name}", value, exclude="stdout" if name.startswith("at_bounds_") else None)
        self._collector.record(self.logger)
        super().dump_logs()

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed torch, NumPy, the environments, the action space and the noise.

        :param seed: None to leave everything as it is
        """
        super().set_random_seed(seed)
        if seed is not None and not self._is_loading:
            self._seed_noise(seed)

    def _seed_noise(self, seed: int) -> None:
        """Seed a noise of ours. Those of Stable-Baselines3 draw from NumPy's global random numbers."""
        noise = self._explorer.noise_of(self.action_noise)
        if noise is self.action_noise and noise is not None:
            noise.seed(seed)

    def prefill(self, source: Any) -> None:
        """
        Put recorded episodes into the replay buffer, where later transitions will overwrite them.

        :param source: see :func:`~sb3_ddpg_ext.buffers.read_episodes`
        :raises ValueError: if the episodes are not of this environment, or too many for the buffer
        """
        assert self.replay_buffer is not None
        store(self.replay_buffer, read_episodes(source))

    def save_replay_buffer(self, path: str | Path | BufferedIOBase) -> None:
        """
        Save the replay buffer: one of ours as arrays and JSON in a zip archive, without a pickle; one of SB3's as SB3 does.

        An older file stays until the new one is whole.

        :param path: the file, with ".pkl" behind it if it has no suffix, as SB3's tools expect it
        """
        save_buffer(path, self.replay_buffer, self.verbose)  # type: ignore[arg-type]

    def load_replay_buffer(
        self, path: str | Path | BufferedIOBase, truncate_last_traj: bool = True, *, trusted: bool | None = None
    ) -> None:
        """
        Load what ``save_replay_buffer`` saved.

        Transitions, priorities, demonstrations and ``buffer_size`` are those of the file. They are replayed as this model
        replays: class of the buffer, ``n_steps``, ``gamma``, sampling. A file of SB3's is a pickle, which can run any
        code when it is read. Its transitions are taken over into a buffer of ours, where the model has one.

        :param path: the file
        :param truncate_last_traj: what is added next begins new episodes
        :param trusted: whether to read a pickle: None with a warning, True silently, False never
        :raises ValueError: if it does not fit the model; the present buffer stays
        """
        self.replay_buffer = load_buffer(
            self._recipe(), path, self._present_buffer(), self.env, self.verbose, truncate_last_traj, trusted
        )

    def _present_buffer(self) -> ReplayBuffer:
        """The replay buffer, or an empty one where a user has let it go."""
        return self._make_replay_buffer() if self.replay_buffer is None else self.replay_buffer

    def save(
        self, path: str | Path | BufferedIOBase, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """
        As in Stable-Baselines3, but an older file stays until the new one is whole.

        :param path: the file, with ".zip" behind it if it has no suffix
        :param exclude: attributes that are not to be saved
        :param include: attributes that are to be saved though they are not by default
        """
        if (broken := self.policy.not_finite()) is not None:
            raise ValueError(f"path={str(path)!r}: {broken} {NOT_FINITE}; it is not saved, and an older file stays")
        with written_whole(path, "zip") as file:
            model_file.write_model(file, lambda stream: super(DDPG, self).save(stream, exclude, include), vars(self))

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        As in Stable-Baselines3.

        :param env: other environments; with a collector, they are made on its workers
        :param force_reset: begin with new episodes
        """
        super().set_env(environments(env, self.collector), force_reset)

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: th.device | str = "auto") -> None:
        """
        As in Stable-Baselines3. If the parameters do not fit, those of the model stay as they are.

        :param load_path_or_dict: a file that :meth:`save` has written, or what ``get_parameters`` returned
        :param exact_match: whether all of them must be there
        :param device: where they are read to
        :raises ValueError: if the file is damaged, or a number is not finite
        """
        given, is_file = load_path_or_dict, not isinstance(load_path_or_dict, dict)
        parameters: Any = model_file.read_parameters(given, device) if is_file else given
        model_checks.check_finite_parameters(parameters, f"path={str(given)!r}" if is_file else "load_path_or_dict")
        before: Any = deepcopy(self.get_parameters())
        try:
            super().set_parameters(parameters, exact_match, device)
            model_checks.check_optimizers(self.policy)
        except Exception:
            super().set_parameters(before)
            raise

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfDDPG],
        path: str | Path | BufferedIOBase,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trusted: bool | None = None,
        **kwargs: Any,
    ) -> SelfDDPG:
        """
        Load what :meth:`save` saved, see Stable-Baselines3's ``BaseAlgorithm.load``.

        A checkpoint is loaded as a model like any other; with ``env`` it goes on exactly where it was, see
        :mod:`sb3_ddpg_ext.checkpoint`.

        Files of this library hold JSON and arrays, and are read without a pickle. Those of Stable-Baselines3, of version 0.1,
        and objects of your own, such as a function as a learning rate, are pickles, which can run any code when they are read.

        :param path: the file
        :param env: where to go on training; None to predict only
        :param device: where the networks are to be
        :param custom_objects: what replaces saved objects that cannot be read
        :param print_system_info: show the versions that it was saved with, and the present ones
        :param force_reset: begin with new episodes
        :param trusted: whether to read pickles: None with a warning, True silently, False never. With False, paths in the file
            (``tensorboard_log``, a folder for the replay buffer, demonstrations) are not followed, either. The address of a
            Ray cluster in the file is followed with True only.
        :param kwargs: arguments of the constructor that replace what was saved. The noise goes on where it was, unless
            ``action_noise`` replaces it, or ``seed`` gives it new random streams.
        :raises ValueError: if the file is damaged, of another algorithm, or needs a pickle and ``trusted=False``
        :raises TypeError: for an argument that is none of the constructor's
        """
        check_replacements(cls, kwargs)
        checkpoint = None if env is None else checkpoints.opened_checkpoint(path, trusted)
        stream, objects, at_most = model_file.without_pickle(path, custom_objects, trusted, cls)
        env = environments(env, kwargs.get("collector", objects.get("collector")))
        dim = int(np.prod(objects["action_space"].shape)) if "action_space" in objects else 1
        given = [kwargs.pop("action_noise")] if checkpoint is not None and "action_noise" in kwargs else []
        force_reset = force_reset and checkpoint is None
        with model_file.blamed_on(path, at_most):
            model = super().load(stream, env, device, objects, print_system_info, force_reset, **kwargs)  # type: ignore[arg-type]
        if checkpoint is not None:
            with model_file.blamed_on(path):
                model.go_on_from(checkpoint)
        elif kwargs.get("action_noise") is not None:
            model.action_noise = model._prepared(kwargs["action_noise"])
        elif kwargs.get("seed") is not None:
            model._seed_noise(kwargs["seed"])
        for noise in given:
            if not is_same_noise(noise, model.action_noise, dim):  # else the checkpoint's goes on where it was
                model.action_noise = model._prepared(noise)
        return model

    def write_checkpoint(self, file: BufferedIOBase, callback: BaseCallback | None = None) -> list[str]:
        """
        Write what :meth:`load` goes on from; :mod:`sb3_ddpg_ext.checkpoint` has the functions for it.

        :param file: open for writing
        :param callback: of the present training, whose state is kept, too
        :return: why it will not go on exactly; empty if it will
        """
        self._trainer.last_finite.look(self._n_updates)  # as the training does that goes on from here
        state = dict(
            class_name=type(self).__name__, num_timesteps=self.num_timesteps, total_timesteps=self._total_timesteps,
            is_past_warmup=self._is_past_warmup, parts=self.parts_state(), knows_action_space=True,
            logs=checkpoints.pending_logs(vars(self).get("_logger")),
        )  # fmt: skip
        return checkpoints.write_checkpoint(file, self.save, state, self.env, self.replay_buffer, callback, self.action_space)  # type: ignore[arg-type]

    def go_on_from(self, checkpoint: checkpoints.CheckpointFile) -> None:
        """
        Take over what a checkpoint has beside the model. :meth:`load` calls it.

        :param checkpoint: of this model
        """
        state = checkpoint.state
        reasons, known = list(state["reasons"]), [self.action_space] if "knows_action_space" in state else []
        self.replay_buffer, reason = resume_buffer(self._recipe(), checkpoint, self._present_buffer(), self.env)
        reasons += [] if reason is None else [reason]
        self.restore_parts(state["parts"])
        if state["environments"] is None:
            self._last_obs = None
        else:
            checkpoints.restore_environment(self.env, state["environments"], checkpoint.trusted, known)
        if reasons:
            warnings.warn(f"{checkpoint.name} does not go on exactly: {'; '.join(reasons)}", stacklevel=3)
        self._resumption = checkpoints.Resumption(checkpoint)

    def parts_state(self) -> dict[str, Any]:
        """What the parts of the model know that a file of a model does not have."""
        return dict(explorer=self._explorer.state(), trainer=self._trainer.state(), actions=self.action_space.np_random)

    def restore_parts(self, state: dict[str, Any]) -> None:
        """:param state: of :meth:`parts_state`"""
        self._explorer.restore(state["explorer"])
        self._trainer.restore(state["trainer"])
        self.action_space.np_random.bit_generator.state = state["actions"].bit_generator.state

    def _excluded_save_params(self) -> list[str]:
        own = ["_explorer", "_collector", "_trainer", "_is_loading", "_resumption", "plan"]
        return [*super()._excluded_save_params(), *own]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer"], []

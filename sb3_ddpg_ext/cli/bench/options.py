"""What each option of networks, critic and loss costs: ``bench --options``."""

from typing import Any

LAYER, BATCH = dict(actor_norm="layer", critic_norm="layer"), dict(actor_norm="batch", critic_norm="batch")
SLOW = dict(kind="batch", momentum=0.01)
# As "cq categorical smooth min of 2" of results/studies/modern_forms.yml.
CROSSQ: dict[str, Any] = dict(
    actor_norm=SLOW, critic_norm=SLOW, input_norm=SLOW, target_networks=False, n_critics=2, scale_returns=True,
    critic=dict(kind="categorical", n_atoms=101, v_min=-5.0, v_max=5.0), optimizer_kwargs=dict(betas=(0.5, 0.999)),
)  # fmt: skip
OF_CROSSQ: dict[str, Any] = dict(policy_delay=3, target_policy_noise=0.2)
# name -> policy_kwargs, and arguments of DDPG
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "eager": ({}, dict(learner="eager")),  # what those without written-out gradients are to be compared with
    "fused": ({}, dict(learner="fused")),
    **{name: (dict(activation_fn=name), {}) for name in ("tanh", "elu", "silu", "mish")},
    "layer-critic": (dict(critic_norm="layer"), {}),
    "layer": (LAYER, {}),
    "input-layer": (dict(input_norm="layer"), {}),
    "batch": (BATCH | dict(input_norm="batch"), {}),
    "batch-renorm": (dict(actor_norm="batch-renorm", critic_norm="batch-renorm"), {}),
    "residual": (dict(residual=True), {}),
    "late-action": (dict(action_layer=1), {}),
    "action-branch": (dict(action_branch=[64]), {}),
    "dropout": (dict(critic_dropout=0.01), {}),
    "normalize-observations": (dict(normalize_observations=True), {}),
    "scale-returns": (dict(scale_returns=True), {}),
    "popart": (dict(popart=True), {}),
    "two-critics": (dict(n_critics=2), {}),
    "two-critics-layer": (dict(n_critics=2) | LAYER, {}),
    "two-critics-mean": (dict(n_critics=2, backup="mean", objective="mean"), {}),
    "categorical": (dict(critic=dict(kind="categorical", n_atoms=101)), {}),
    "quantile": (dict(critic="quantile"), {}),
    "huber": (dict(critic_loss="huber"), {}),
    "target-range": (dict(target_q_range=(-100, 100)), {}),
    "crossq": (BATCH | dict(target_networks=False), {}),
    "crossq-categorical": (CROSSQ, OF_CROSSQ),
    "crossq-categorical-fused": (CROSSQ, OF_CROSSQ | dict(learner="fused")),
    "crossq-categorical-eager": (CROSSQ, OF_CROSSQ | dict(learner="eager")),
    "weight-decay": (dict(critic_weight_decay=1e-2), {}),
    "inverting-gradients": (dict(inverting_gradients=True), {}),
    "output-norm": (dict(output_norm=1.0), {}),
    "penalties": (dict(preactivation_penalty=1e-3, action_l2=1e-3), {}),
    "dqda-clip": (dict(dqda_clip=1.0), {}),
    "max-grad-norm": ({}, dict(max_grad_norm=1.0)),
    "smoothing": ({}, dict(target_policy_noise=0.2)),
    "policy-delay": ({}, dict(policy_delay=2)),
    "hard-targets": ({}, dict(tau=1.0, target_update_interval=100)),
}

"""What each option of networks, critic and loss costs: ``bench --options``."""

from pathlib import Path
from typing import Any

from sb3_ddpg_ext.cli.bench_report import Row, number
from sb3_ddpg_ext.cli.bench_task import MEASURES

LAYER, BATCH = dict(actor_norm="layer", critic_norm="layer"), dict(actor_norm="batch", critic_norm="batch")
# name -> policy_kwargs, and arguments of DDPG
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "eager": ({}, dict(learner="eager")),  # what those without written-out gradients are to be compared with
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
TICKS = (0.5, 1, 2, 4, 8, 16)  # of the picture's axis


def draw_options(rows: list[Row], title: str, path: Path) -> None:
    """Bars of the time or steps with each option, as multiples of plain DDPG's; one panel for each measure and cell."""
    from sb3_ddpg_ext.cli.plot import pyplot, save

    plt = pyplot()
    panels = list(dict.fromkeys((row.measure, row.cell) for row in rows))
    longest = max(sum((row.measure, row.cell) == panel for row in rows) for panel in panels)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1 + 4.5 * len(panels), 1.2 + 0.26 * longest), layout="constrained", squeeze=False, sharey=True
    )
    for ax, (measure, cell) in zip(axes[0], panels, strict=True):
        mine = [row for row in rows if (row.measure, row.cell) == (measure, cell) and row.speedup is not None][::-1]
        colours = ["C1" if row.library.startswith("sb3") else "C0" for row in mine]
        bars = ax.barh([row.library.removeprefix("ours+") for row in mine], [row.speedup for row in mine], color=colours)
        ax.bar_label(bars, [f"{row.speedup:.2f}  ({number(row.median)})" for row in mine], fontsize="x-small", padding=2)
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_title(
            f"{MEASURES[measure].title}, {cell}\nbehind the bars: times plain ({MEASURES[measure].unit})", fontsize="small"
        )
        ax.set_xlabel("cost as a multiple of plain DDPG's")
        ax.set_xscale("log")
        ax.set_xticks(TICKS, map(str, TICKS), minor=False)
        ax.set_xticks([], minor=True)
        ax.set_xlim(TICKS[0], 3 * max([2.0, *(row.speedup or 0.0 for row in mine)]))
    figure.suptitle(title, fontsize="small")
    save(figure, path)

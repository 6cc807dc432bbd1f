"""The bench measures what it says, alike for each library. Nothing here depends on how fast anything is."""

import json
import os
import re
import sys
from argparse import Namespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import FASTEST, needs_library
from stable_baselines3 import DDPG as SB3DDPG
from stable_baselines3.common.env_checker import check_env

from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.cli.bench import buffers as bench_buffers
from sb3_ddpg_ext.cli.bench import command as bench
from sb3_ddpg_ext.cli.bench import report as bench_report
from sb3_ddpg_ext.cli.bench.options import OPTIONS
from sb3_ddpg_ext.cli.bench.peers import fill, make_agent
from sb3_ddpg_ext.cli.bench.profile import kind, update_products
from sb3_ddpg_ext.cli.bench.task import MEASURES, Cell, Task
from sb3_ddpg_ext.cli.bench.timing import seconds_each
from sb3_ddpg_ext.cli.bench.worker import limit_threads, work
from sb3_ddpg_ext.cli.plot import bench as plot_bench
from sb3_ddpg_ext.cli.plot import roofline
from sb3_ddpg_ext.cli.plot.figures import pyplot

QUICK = ["--env", "Pendulum-v1", "--threads", "1", "--steps", "20", "--warmup", "120", "--fill", "100", "--min-seconds", "0"]


def run_bench(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "bench", *map(str, arguments)])
    main()


@pytest.fixture
def launched(monkeypatch):
    """No processes: the tasks that they would have been given. Ours does 200 steps/s, others 100, cleanrl fails."""
    tasks = []

    def launch(task):
        tasks.append(task)
        if task.library == "cleanrl":
            return {"error": "out of luck"}
        return {"measures": {"learn": 200.0 if task.library == "ours" else 100.0}, "learner": None}

    monkeypatch.setattr(bench, "launch", launch)
    return tasks


def make_task(**changes):
    defaults = dict(
        library="ours", threads=1, repeat=0, cell="16x8/8", env="Pendulum-v1", n_envs=1, device="cpu", learner="auto",
        precision="float32", measures=list(MEASURES), steps=20, gradient_steps=2, warmup=120, fill=100, min_seconds=0,
    )  # fmt: skip
    return Task(**(defaults | changes))


def test_a_real_run(monkeypatch, capsys, tmp_path):
    """Two libraries, each in a fresh process, every measure: the tables are printed and the JSON holds what they came from."""
    path = tmp_path / "new" / "bench.json"
    options = ["--libraries", "ours", "sb3", "--cells", "64x64/8", "--repeats", 1, "--measure", *MEASURES, "--json", path]
    run_bench(monkeypatch, *QUICK, *options)
    result = json.loads(path.read_text())
    assert [(run["library"], run["cell"], run["threads"], run["repeat"]) for run in result["runs"]] == [
        ("ours", "64x64/8", 1, 0), ("sb3", "64x64/8", 1, 0),
    ]  # fmt: skip
    assert [run["learner"] for run in result["runs"]] == [FASTEST, None]
    for run in result["runs"]:
        assert list(run["measures"]) == list(MEASURES)
        assert all(value > 0 for value in run["measures"].values())
    assert [(row["measure"], row["library"]) for row in result["summary"]] == [
        (measure, library) for measure in MEASURES for library in ("ours", "sb3")
    ]
    assert set(result["versions"]) >= {"python", "torch", "stable_baselines3", "gymnasium", "sb3_ddpg_ext"}
    assert result["machine"]["processor"]
    assert result["machine"]["cores"] == bench_report.usable_cores()
    assert result["failed"] == []
    assert result["settings"]["steps"] == 20
    out = capsys.readouterr().out
    assert all(f"{measure.title}, {measure.unit}\n| net/batch | library | threads |" in out for measure in MEASURES.values())
    speedup = result["summary"][1]["speedup"]
    assert speedup == result["runs"][0]["measures"]["learn"] / result["runs"][1]["measures"]["learn"]
    assert f"{speedup:.2f}x as fast" in out


def test_libraries_take_turns(monkeypatch, launched):
    """A B A B, cell by cell; the repetition is the seed."""
    arguments = [*QUICK, "--libraries", "ours", "sb3", "--threads", 1, 2, "--repeats", 2, "--cells", "8/4", "9/4"]
    run_bench(monkeypatch, *arguments)
    one_round = [("ours", 1), ("sb3", 1), ("ours", 2), ("sb3", 2)]
    assert [(task.library, task.threads) for task in launched] == one_round * 4
    assert [task.repeat for task in launched] == ([0] * 4 + [1] * 4) * 2
    assert [task.cell for task in launched] == ["8/4"] * 8 + ["9/4"] * 8


def test_defaults(monkeypatch, launched):
    """The cells and the thread counts that are compared if nothing is said, five times."""
    monkeypatch.setattr(bench_report, "usable_cores", lambda: 6)
    run_bench(monkeypatch, "--env", "Pendulum-v1", "--libraries", "ours")
    assert [(task.cell, task.threads) for task in launched[::5][::2]] == [
        ("400x300/256", 1), ("256x256/256", 1), ("400x300/64", 1), ("64x64/64", 1),
    ]  # fmt: skip
    assert {task.threads for task in launched} == {1, 6}
    assert len(launched) == 4 * 2 * 5


def test_threads_left_to_the_libraries(monkeypatch, launched, capsys):
    """A user's own setting is none: no thread count is set, and the tables say so."""
    run_bench(monkeypatch, *QUICK, "--libraries", "ours", "--threads", "default", "--repeats", 1, "--cells", "8/4")
    assert [task.threads for task in launched] == [0]
    assert "| 8/4       | ours    | default |" in capsys.readouterr().out
    before = th.get_num_threads()
    limit_threads(launched[0])
    assert th.get_num_threads() == before
    assert make_agent(make_task(threads=0)).model.n_threads is None
    with pytest.raises(SystemExit, match="--threads default must come alone"):
        run_bench(monkeypatch, *QUICK, "--threads", "default", 1)


def test_a_single_cell(monkeypatch, launched):
    """By --net and --batch-size."""
    run_bench(monkeypatch, *QUICK, "--libraries", "ours", "--repeats", 1, "--net", "32,16", "--batch-size", 7)
    assert [(task.net, task.batch_size) for task in launched] == [([32, 16], 7)]


def test_steps_and_warmup_are_multiples_of_n_envs(monkeypatch, launched):
    """As learn() stops only there; and the warm-up goes beyond the random steps."""
    run_bench(monkeypatch, *QUICK, "--libraries", "ours", "--repeats", 1, "--cells", "8/4", "--n-envs", 16)
    assert launched[0].steps == 32
    assert launched[0].warmup == 272


def test_a_failed_run_is_named_and_the_others_are_kept(monkeypatch, launched, capsys, tmp_path):
    """The reason stands in the output and in the JSON, and the exit status says so."""
    path = tmp_path / "bench.json"
    with pytest.raises(SystemExit, match="1 of 2 runs failed"):
        run_bench(monkeypatch, *QUICK, "--libraries", "ours", "cleanrl", "--repeats", 1, "--cells", "8/4", "--json", path)
    assert "8/4 cleanrl, threads: 1: failed: out of luck" in capsys.readouterr().out
    result = json.loads(path.read_text())
    assert [run["error"] for run in result["failed"]] == ["out of luck"]
    assert [row["library"] for row in result["summary"]] == ["ours"]


def test_interrupt_keeps_what_is_done(monkeypatch, launched, capsys):
    """Ctrl-C in the third run leaves a table of the first two."""
    launch = bench.launch

    def interrupted(task):
        if len(launched) == 2:
            raise KeyboardInterrupt
        return launch(task)

    monkeypatch.setattr(bench, "launch", interrupted)
    run_bench(monkeypatch, *QUICK, "--libraries", "ours", "sb3", "--cells", "8/4")
    assert "2.00x as fast" in capsys.readouterr().out


def test_what_a_worker_dies_of_is_reported():
    """The last line of its traceback."""
    assert bench.launch(make_task(learner="psychic"))["error"].startswith("ValueError: learner='psychic'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--libraries", "tianshou"], "choose from .*ours.*sb3.*sbx.*cleanrl"),
        (["--measure", "speed"], "choose from .*learn.*update.*collect.*predict.*sample"),
        (["--cells", "400,300"], "hidden layers and batch size, such as 400x300/256"),
        (["--cells", "0x3/8"], "hidden layers and batch size, such as 400x300/256"),
        (["--repeats", "0"], "at least 1"),
    ],
)
def test_wrong_arguments_name_what_is_allowed(monkeypatch, capsys, arguments, message):
    """argparse's own exit."""
    with pytest.raises(SystemExit, match="2"):
        run_bench(monkeypatch, *arguments)
    error = capsys.readouterr().err.replace("'", "")
    assert re.search(message, error), error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "Nowhere-v0"], "Nowhere"),
        (["--env", "CartPole-v1"], "actions must be a one-dimensional Box, not Discrete"),
        (["--cells", "8/4", "--net", "8"], "for a single cell"),
        (["--net", "8;8"], "such as 400,300"),
        (["--profile", "--device", "cuda"], "measures the CPU"),
    ],
)
def test_arguments_that_do_not_go_together(monkeypatch, launched, arguments, message):
    """Said before anything runs."""
    with pytest.raises(SystemExit, match=message):
        run_bench(monkeypatch, *QUICK, *arguments)
    assert launched == []


def test_sbx_is_optional(monkeypatch, launched, capsys, tmp_path):
    """Where it is missing it is skipped, with the extra to install, and the rest runs."""
    find_spec = bench.importlib.util.find_spec
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None if name == "sbx" else find_spec(name))
    path = tmp_path / "bench.json"
    run_bench(monkeypatch, *QUICK, "--libraries", "ours", "sbx", "sb3", "--repeats", 1, "--cells", "8/4", "--json", path)
    assert "sbx is skipped: the package sbx-rl is not installed: pip install 'sb3_ddpg_ext[bench]'" in capsys.readouterr().out
    assert [task.library for task in launched] == ["ours", "sb3"]
    assert list(json.loads(path.read_text())["skipped"]) == ["sbx"]


def runs_of(library, threads, measure, values, cell="8/4"):
    return [{"library": library, "cell": cell, "threads": threads, "measures": {measure: value}} for value in values]


def test_summary_of_a_rate():
    """Each library at the thread count with its highest median; ours over theirs."""
    runs = runs_of("ours", 1, "learn", [300, 100, 290]) + runs_of("ours", 2, "learn", [1000, 200, 210])
    runs += runs_of("sb3", 1, "learn", [100, 110, 90]) + runs_of("sb3", 2, "learn", [150, 145, 10])
    ours, sb3 = bench_report.summarise(runs)
    assert ours == ("learn", "8/4", "ours", 1, 290, 100, 300, 3, None)
    assert sb3 == ("learn", "8/4", "sb3", 2, 145, 10, 150, 3, 2.0)


def test_summary_of_a_time():
    """Each library at the thread count with its lowest median; theirs over ours; an even number of runs has a middle too."""
    runs = runs_of("sbx", 1, "update", [3.0, 5.0]) + runs_of("sbx", 2, "update", [4.5, 4.5])
    runs += runs_of("ours", 1, "update", [2.0, 2.0]) + runs_of("sbx", 1, "update", [9.0, 9.0], cell="16/4")
    first, second, other_cell = bench_report.summarise(runs)
    assert first == ("update", "8/4", "sbx", 1, 4.0, 3.0, 5.0, 2, 2.0)
    assert second.speedup is None
    assert other_cell.speedup is None  # ours was not run there


def test_table():
    """A row for each library."""
    rows = bench_report.summarise(runs_of("ours", 1, "learn", [1234.5]) + runs_of("sb3", 1, "learn", [0.12345]))
    lines = bench_report.tables(rows).splitlines()
    assert lines[0] == "learn() with one update per environment step, steps/s"
    assert [cell.strip() for cell in lines[3].split("|")] == ["", "8/4", "ours", "1", "1234", "1234 to 1234", "1", "", ""]
    assert "| 0.123 " in lines[4]
    assert "10000.00x as fast" in lines[4]


def test_units():
    """A rate is per second; a time is in its unit."""
    assert MEASURES["learn"].value(0.004) == 250
    assert MEASURES["update"].value(0.004) == pytest.approx(4)
    assert MEASURES["predict"].value(2e-5) == pytest.approx(20)


def test_seconds_each():
    """Calls until the time is up, waits for the device before it reads the clock, divides by all that was done."""
    clock, waits = [0.0], []

    def call():
        clock[0] += 0.5

    def wait():
        clock[0] += 0.25
        waits.append(clock[0])

    assert seconds_each(call, 10, wait, min_seconds=2.0, clock=lambda: clock[0]) == pytest.approx(0.075)
    assert len(waits) == 3


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("library", ["ours", "sb3", "cleanrl", pytest.param("sbx", marks=pytest.mark.slow)])
def test_each_library_does_the_same_work(library, n_envs):
    """One update for each environment step after the first 100, none in ``collect``, as many as asked for in ``update``."""
    if library == "sbx":
        pytest.importorskip("sbx")
    agent = make_agent(make_task(library=library, n_envs=n_envs))
    model, updates = getattr(agent, "model", None), []
    if model is None:
        gradient_step = agent.gradient_step
        agent.gradient_step = lambda *batch: updates.append(len(batch[0])) or gradient_step(*batch)
    n_updates = lambda: len(updates) if model is None else model._n_updates  # noqa: E731
    n_steps = lambda: agent.global_step if model is None else model.num_timesteps  # noqa: E731
    agent.learn(120)
    assert (n_steps(), n_updates()) == (120, 20)
    agent.collect(40)
    assert (n_steps(), n_updates()) == (160, 20)
    agent.learn(10)
    assert (n_steps(), n_updates()) == (170, 30)
    agent.update(3)
    agent.wait()
    assert n_updates() == 33
    assert set(updates) <= {8}


@pytest.mark.parametrize("library", ["ours", "sb3", "cleanrl", pytest.param("sbx", marks=pytest.mark.slow)])
def test_each_library_has_the_same_networks(library):
    """As many parameters as the net has, in actor and critic."""
    if library == "sbx":
        jax = pytest.importorskip("jax")
        pytest.importorskip("sbx")
    agent = make_agent(make_task(library=library))
    if library == "sbx":
        nets = [agent.model.policy.actor_state.params, agent.model.policy.qf_state.params]
        sizes = [sum(leaf.size for leaf in jax.tree_util.tree_leaves(net)) for net in nets]
    else:
        nets = [agent.actor, agent.critic] if library == "cleanrl" else [agent.model.actor, agent.model.critic]
        sizes = [sum(p.numel() for p in net.parameters()) for net in nets]
    assert sizes == [3 * 16 + 16 + 16 * 8 + 8 + 8 + 1, 4 * 16 + 16 + 16 * 8 + 8 + 8 + 1]


def test_single_file_stand_in_takes_float64_observations():
    """Of MuJoCo, which the default environment has."""
    pytest.importorskip("mujoco")
    agent = make_agent(make_task(library="cleanrl", env="HalfCheetah-v5"))
    assert agent.obs.dtype == np.float64
    agent.learn(110)
    agent.predict()
    assert all(p.isfinite().all() for p in agent.actor.parameters())


def test_single_file_update_is_that_of_sb3():
    """From the same parameters and transitions, the same parameters: the stand-in is a full DDPG."""
    task = make_task(library="cleanrl", env="MountainCarContinuous-v0")  # whose actions need no scaling
    agent = make_agent(task)
    model = SB3DDPG("MlpPolicy", task.env, batch_size=8, policy_kwargs=dict(net_arch=task.net), seed=1, device="cpu")
    model.learn(1)  # sets up the logger
    for net, sb3_net in ((agent.actor, model.actor), (agent.target_actor, model.actor_target)):
        net.mu.load_state_dict(sb3_net.mu.state_dict())
    for net, sb3_net in ((agent.critic, model.critic), (agent.target_critic, model.critic_target)):
        net.qf.load_state_dict(sb3_net.qf0.state_dict())
    model.replay_buffer.reset()
    for buffer in (agent.buffer, model.replay_buffer):
        fill(buffer, 50, 1)
    for owner in (agent, model):
        np.random.seed(0)
        owner.update(5) if owner is agent else owner.train(5, 8)
    assert agent.buffer.size() == model.replay_buffer.size() == 50
    pairs = ((agent.actor.mu, model.actor.mu), (agent.target_critic.qf, model.critic_target.qf0))
    for mine, theirs in pairs:
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            th.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_fill():
    """The transitions asked for, for each environment, finite and of the buffer's kind."""
    agent = make_agent(make_task(library="sb3", n_envs=2))
    fill(agent.buffer, 31, 2)
    assert agent.buffer.size() == 15
    assert np.abs(agent.buffer.observations[:15]).sum(axis=(1, 2)).min() > 0
    assert np.isfinite(agent.buffer.observations[:15]).all()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin a process to cores")
def test_sbx_is_held_to_its_cores():
    """As XLA has no setting for threads."""
    before = os.sched_getaffinity(0)
    try:
        limit_threads(make_task(library="sbx"))
        assert len(os.sched_getaffinity(0)) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_floor_of_a_small_net():
    """FLOP counted by hand: obs 3, action 1, net [2], batch 4, so the actor has 3*2 + 2*1 weights and the critic 4*2 + 2*1."""
    actor, critic, batch_size = 8, 10, 4
    target = actor + critic
    critic_step = critic + critic + 2  # forward, gradient of the weights, gradient of the hidden layer
    actor_step = actor + critic + (2 + 1 * 2) + actor + 2  # of the critic's input only the column of the action
    products = update_products(3, 1, [2], batch_size)
    assert sum(product.flops for product in products) == 2 * batch_size * (target + critic_step + actor_step)
    assert len(products) == 4 + 5 + 9


def test_floor_of_the_paper_s_net():
    """[400, 300] with 256 transitions of HalfCheetah, again by hand: about 650 MFLOP."""
    hidden = 400 * 300
    actor, critic = 17 * 400 + hidden + 300 * 6, 23 * 400 + hidden + 300
    inputs_of_critic, inputs_of_actor = hidden + 300, hidden + 300 * 6
    weights = (
        (actor + critic)
        + (2 * critic + inputs_of_critic)
        + (2 * actor + critic + inputs_of_critic + 6 * 400 + inputs_of_actor)
    )
    assert sum(product.flops for product in update_products(17, 6, [400, 300], 256)) == 2 * 256 * weights
    assert 2 * 256 * weights == pytest.approx(650e6, rel=0.01)


def test_profile():
    """The phases of a step add up to the step, for either learner; and the floor is that of the cell."""
    n_threads = th.get_num_threads()
    for learner in ("eager", "fused"):
        result = work(make_task(profile=True, learner=learner))
        phases = dict(result["phases_us"])
        assert result["learner"] == learner
        assert all(us is not None for us in phases.values())
        assert phases["update: matrix products"] > 0
        assert phases["update: optimiser"] > 0
        assert phases.pop("step") == pytest.approx(sum(phases.values()))
        assert result["floor_flops"] == sum(product.flops for product in update_products(3, 1, [16, 8], 8))
        assert result["update_per_floor"] == pytest.approx(result["update_ms"] / result["floor_ms"])
    th.set_num_threads(n_threads)
    table = bench_report.profile_table(result | {"cell": "16x8/8", "threads": 1})
    assert table.startswith("16x8/8, threads: 1, learner: fused\n")
    assert "times the floor" in table


@needs_library
def test_profile_of_one_call():
    """An update that is a single call has a single phase."""
    phases = work(make_task(profile=True, learner="compiled"))["phases_us"]
    assert phases["update"] > 0
    assert phases.pop("step") == pytest.approx(sum(phases.values()))


def test_profile_command(monkeypatch, capsys):
    """Only ours, once for each thread count."""
    tasks = []
    profile = {"learner": "fused", "update_ms": 2.0, "floor_ms": 1.0, "floor_flops": 1e6, "update_per_floor": 2.0}
    monkeypatch.setattr(
        bench, "launch", lambda task: tasks.append(task) or profile | {"phases_us": {"store": None, "step": 5.0}}
    )  # fmt: skip
    run_bench(monkeypatch, *QUICK, "--profile", "--cells", "8/4")
    assert [(task.library, task.profile) for task in tasks] == [("ours", True)]
    out = capsys.readouterr().out
    assert "1 GFLOP/s); 2.00 times the floor" in out
    assert "in other" in out


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["aten::mm"], "matrix products"),
        (["aten::addmm", "aten::linear"], "matrix products"),
        (["mkldnn::_linear_pointwise"], "matrix products"),
        (["aten::_fused_adam_"], "optimiser"),
        (["aten::lerp_", "Optimizer.step#Adam.step"], "optimiser"),
        (["aten::lerp_"], "rest"),
        (["aten::mul"], "rest"),
        (["aten::mean"], "rest"),
    ],
)
def test_kinds_of_kernels(names, expected):
    """By the kernel's name, or by what called it."""

    class Event:
        def __init__(self, name, cpu_parent):
            self.name, self.cpu_parent = name, cpu_parent

    event = None
    for name in reversed(names):
        event = Event(name, event)
    assert kind(event) == expected


def test_cell_in_and_out():
    """Written as it is read."""
    assert Cell.parse("400x300/256") == ((400, 300), 256)
    assert str(Cell((400, 300), 256)) == "400x300/256"


def test_help_names_the_command(monkeypatch, capsys):
    """``bench`` stands beside ``report``."""
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "bench" in capsys.readouterr().out


def test_options_are_measured_beside_plain(monkeypatch, launched):
    """One run of ours without options, then one with each, in turn, in the cell that all of them can have."""
    run_bench(monkeypatch, "--options", "layer", "residual", "--repeats", "2", "--threads", "1")
    assert [task.library for task in launched] == ["ours", "ours+layer", "ours+residual"] * 2
    assert {task.cell for task in launched} == {"256x256/256"}


def test_without_names_all_options(monkeypatch, launched):
    """Each of them, once in each repetition."""
    run_bench(monkeypatch, "--options", "--repeats", "1", "--threads", "1")
    assert [task.library for task in launched] == ["ours", *(f"ours+{name}" for name in OPTIONS)]


def test_beside(monkeypatch, launched, capsys):
    """Others in a cell of their own, in turn with ours; the picture of costs leaves them out: nothing there is plain."""
    others = ["--beside", "sb3@400x300/256", "ours+batch@8/4"]
    run_bench(monkeypatch, "--options", "layer", *others, "--repeats", "2", "--threads", "1")
    turn = [("ours", "256x256/256"), ("ours+layer", "256x256/256"), ("sb3", "400x300/256"), ("ours+batch", "8/4")]
    assert [(task.library, task.cell) for task in launched] == turn * 2
    rows = bench_report.summarise([dict(library=a, cell=b, threads=1, measures=dict(update=2.0)) for a, b in turn])
    assert [row.speedup for row in rows] == [None, 1.0, None, None]
    (axes,) = plot_bench.draw_costs(pyplot(), rows, []).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["layer"]
    for wrong in ("sb3", "sb4@8/4", "sb3@8"):
        with pytest.raises(SystemExit):
            run_bench(monkeypatch, "--beside", wrong)
    assert "such as" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--beside compares with others"):
        run_bench(monkeypatch, "--profile", "--beside", "sb3@8/4")


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_makes_an_agent(option):
    """With the option in its policy or its arguments, able to learn."""
    task = make_task(library=f"ours+{option}", cell="8x8/8")
    agent = make_agent(task)
    policy_kwargs, others = OPTIONS[option]
    assert policy_kwargs.items() <= agent.model.policy_kwargs.items()
    assert all(getattr(agent.model, name) == value for name, value in others.items())
    agent.learn(110)
    agent.update(2)


def test_buffers_are_measured_beside_those_of_sb3(monkeypatch, launched):
    """Plain ours and SB3's, then each of ours, followed by SB3's where there is one."""
    run_bench(monkeypatch, "--buffers", "n-step-3", "lap", "--repeats", "2", "--threads", "1")
    assert [task.library for task in launched] == ["ours", "sb3", "ours+n-step-3", "sb3+n-step-3", "ours+lap"] * 2
    assert {task.cell for task in launched} == {"256x256/256"}


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("library", bench_buffers.libraries([]))
def test_each_buffer_makes_an_agent(library, n_envs):
    """Which replays from it what fill() has put there."""
    task = make_task(library=library, cell="8x8/64", n_envs=n_envs)
    agent = make_agent(task)
    fill(agent.buffer, 2200, n_envs)
    agent.learn(110 * n_envs)
    agent.update(2)
    agent.sample()
    name = type(agent.buffer).__name__
    assert ("Hindsight" in name or "Her" in name) == ("hindsight" in library)
    assert ("NStep" in name) == library.startswith("sb3+n-step")
    assert getattr(agent.buffer, "is_on_disk", False) == library.endswith("on-disk")
    steps = re.search(r"n-step-(\d)", library)
    assert getattr(agent.buffer, "n_steps", 1) == (int(steps[1]) if steps else 1)


def test_goals_of_the_bench():
    """What hindsight expects: rewards that compute_reward gives again, goals that change with the episode."""
    env = bench_buffers.Goals(gym.make("Pendulum-v1"))
    check_env(env)
    first, _ = env.reset(seed=0)
    second, _ = env.reset()
    assert not np.array_equal(first["desired_goal"], second["desired_goal"])
    obs, reward, *_ = env.step(env.action_space.sample())
    goals = (np.stack([obs[name]] * 2) for name in ("achieved_goal", "desired_goal"))
    np.testing.assert_allclose(env.compute_reward(*goals, [{}, {}]), [reward, reward])


def bench_result(runs):
    machine = {"processor": "P", "cores": 2}
    return {"runs": runs, "settings": {"env": "Pendulum-v1", "device": "cpu"}, "machine": machine}


def test_picture_of_a_profile(tmp_path):
    """GFLOP/s of updates and of their products, a panel for each number of threads."""
    numbers = dict(learner="compiled", floor_flops=6e6, update_ms=3.0, floor_ms=2.0, phases_us={})
    runs = [numbers | dict(cell=cell, threads=n) for n in (1, 0) for cell in ("32x32/8", "64x64/8")]
    figure = roofline.draw(pyplot(), runs)
    assert [axes.get_title() for axes in figure.axes] == ["threads: default", "threads: 1"]
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[2.0, 2.0], [3.0, 3.0]]
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[32, 64]] * 2
    result = bench_result(runs)
    result["settings"]["profile"] = True
    (tmp_path / "x.json").write_text(json.dumps(result))
    plot_bench.run(Namespace(json=tmp_path / "x.json", png=tmp_path / "x.png", svg=False))
    assert (tmp_path / "x.png").exists()


def test_picture_of_speeds():
    """Bars as high as medians, relative to SB3's, and a dot for each run; of a time, the shortest is the fastest."""
    runs = runs_of("ours", 1, "update", [1.0, 2.0, 8.0]) + runs_of("sb3", 1, "update", [4.0])
    figure = plot_bench.draw_speeds(pyplot(), bench_report.summarise(runs), runs)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [2.0, 1.0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[4.0, 2.0, 0.5], [1.0]]
    assert [text.get_text() for text in axes.texts] == ["2.00", "4.00"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours: median", "sb3: median", "each run"]


def test_picture_of_options():
    """A dot at the cost of each option and one for each run; SB3 has another mark, and plain DDPG is the line at 1."""
    runs = runs_of("ours", 1, "update", [2.0]) + runs_of("ours+layer", 1, "update", [2.0, 4.0])
    runs += runs_of("sb3", 1, "update", [6.0])
    figure = plot_bench.draw_costs(pyplot(), bench_report.summarise(runs), runs)
    (axes,) = figure.axes
    marks = [(list(line.get_xdata()), line.get_marker()) for line in axes.lines]
    assert marks == [([1.5], "o"), ([1.0, 2.0], "o"), ([3.0], "s"), ([3.0], "o"), ([1, 1], "None")]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sb3", "layer"]


@pytest.mark.parametrize("names", [("ours", "sb3"), ("ours", "ours+layer")])
def test_picture_from_a_file(names, tmp_path, monkeypatch, capsys):
    """The command draws what bench --json wrote, again and without measuring."""
    runs = [run for name in names for run in runs_of(name, 1, "update", [2.0])]
    (tmp_path / "bench.json").write_text(json.dumps(bench_result(runs)))
    arguments = ["bench", tmp_path / "bench.json", "--png", tmp_path / "new" / "bench.png", "--svg"]
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "plot", *map(str, arguments)])
    main()
    assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "new" / "bench.svg").read_text()
    assert capsys.readouterr().out == f"Bench: {tmp_path / 'new' / 'bench.png'}\n"


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps(bench_result([])), '{"runs": [{"measures": {}}]}'])
def test_wrong_file_of_the_bench(content, tmp_path):
    """The file is named, and what writes such a file."""
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SystemExit, match=r"x\.json (must be a file of bench --json|has no measured runs)"):
        plot_bench.read(tmp_path / "x.json")

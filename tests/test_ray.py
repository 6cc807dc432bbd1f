"""Collection on a real Ray cluster of this machine: processes that are killed, hang, raise; files; rl_zoo3."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.collector import Moment
from sb3_ddpg_ext.distributed import RayCollector, WorkersLost, environments
from sb3_ddpg_ext.distributed.chunk import Order

ray = pytest.importorskip("ray", reason="Ray is an extra of its own: pip install 'sb3_ddpg_ext[ray]'")
SMALL = dict(net_arch=[8])
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


STORE = 100 * 2**20  # bytes of a node's object store


@pytest.fixture(scope="module")
def cluster():
    """A cluster on this machine, whose workers find this module."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        quick = dict(health_check_period_ms=500, health_check_failure_threshold=3, health_check_timeout_ms=1000)
        head = dict(num_cpus=8, object_store_memory=STORE, _system_config=quick, include_dashboard=False)
        made = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=made.address, log_to_driver=False)
        yield made
        ray.shutdown()
        made.shutdown()


def collector(**kwargs):
    return dict(kind="ray", n_workers=2, envs_per_worker=2, num_cpus=0.1) | kwargs


class Line(gym.Env):
    """Observation = (number of this environment, episode, step), with steps that take a while; episodes of 9 and 11."""

    def __init__(self, seconds=0.0):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.seconds, self.number, self.episode = seconds, int.from_bytes(os.urandom(2), "little"), -1

    def _obs(self):
        return np.array([self.number, self.episode, self.steps], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action):
        time.sleep(self.seconds)
        self.steps += 1
        ends = self.steps >= (9, 11)[self.episode % 2]
        return self._obs(), float(self.steps), ends and self.episode % 2 == 0, ends and self.episode % 2 == 1, {}


def check_lines(buffer):
    """Every stored transition, and every window of three, is what one environment did."""
    batch, rows = buffer.samples_of(np.arange(buffer.n_written)), buffer.n_written
    obs, after = batch.observations.numpy(), batch.next_observations.numpy()
    m = np.round(np.log(batch.discounts.numpy()[:, 0]) / np.log(buffer.gamma)).astype(int)
    np.testing.assert_array_equal(after[:, :2], obs[:, :2])
    np.testing.assert_array_equal(after[:, 2], obs[:, 2] + m)
    returns = sum(np.where(k < m, buffer.gamma**k * (obs[:, 2] + 1 + k), 0) for k in range(buffer.n_steps))
    np.testing.assert_allclose(batch.rewards.numpy()[:, 0], returns, rtol=1e-6)
    np.testing.assert_array_equal(batch.dones.numpy()[:, 0], (after[:, 2] == 9) & (obs[:, 1] % 2 == 0))
    return obs[:rows], m


def is_running(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def wait_until(true, seconds=120):
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.05)


def test_synchronous_is_one_process(cluster):
    """The oracle of the whole: on Ray, the replay buffer and the parameters are those of local environments, bit for bit."""
    kwargs = dict(seed=5, learning_starts=100, action_noise="ou_0.3", policy_kwargs=SMALL, n_steps=3)
    mine = DDPG("MlpPolicy", "Pendulum-v1", collector=collector(mode="synchronous"), **kwargs).learn(900)
    its = DDPG("MlpPolicy", DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1"))] * 4), **kwargs).learn(900)
    n = slice(0, 225)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(mine.replay_buffer, name)[n], getattr(its.replay_buffer, name)[n])
    for name, parameter in its.policy.state_dict().items():
        assert mine.policy.state_dict()[name].equal(parameter)
    assert mine.ep_info_buffer[0]["r"] == its.ep_info_buffer[0]["r"]
    mine.get_env().close()


class Killer(BaseCallback):
    """Kills a worker that is alive, at random moments."""

    def __init__(self, n, generator):
        super().__init__()
        self.left, self.generator, self.next, self.killed = n, generator, 0.0, []

    def _on_step(self):
        hands = [hand for hand in self.training_env.crew.hands if hand.pid not in (None, *self.killed)]
        if hands and time.monotonic() > self.next and self.left:
            pid = self.generator.choice(hands).pid
            os.kill(pid, signal.SIGKILL)
            self.killed.append(pid)
            self.left -= 1
            self.next = time.monotonic() + self.generator.exponential(0.2)
        crew = self.training_env.crew
        return (
            not (crew.n_restarts == len(self.killed) and not self.left and crew.n_alive == 2)
            or self.training_env.round.n_left > 0
        )


@pytest.mark.slow
def test_twenty_deaths(cluster):
    """Workers are killed at 20 random moments: training goes on, and what is stored is whole chunks of what was done."""
    killer = Killer(20, np.random.default_rng(0))
    model = DDPG(
        "MlpPolicy", lambda: Line(0.002), n_steps=3, policy_kwargs=SMALL, learning_starts=50, buffer_size=500_000,
        train_freq=4, collector=collector(envs_per_worker=1, chunk=5, tries=25),
    )  # fmt: skip
    model.learn(10**9, killer)  # until all are alive again
    assert len(set(killer.killed)) == 20
    assert model.get_env().crew.n_restarts == 20
    assert model._n_updates > 20
    obs, m = check_lines(model.replay_buffer)
    assert m.max() == 3
    counts = np.unique(obs[:, 0], return_counts=True)[1]
    assert len(counts) > 10  # environments that were made
    assert (counts % 5 == 0).all()
    model.get_env().close()
    wait_until(lambda: not any(map(is_running, killer.killed)))


class Moody(Line):
    """Raises once and hangs once, in the first environments that find no mark of it in a folder."""

    def __init__(self, folder):
        super().__init__(0.002)
        self.folder, self.n = Path(folder), 0

    def step(self, action):
        self.n += 1
        for mood, at in (("raises", 30), ("hangs", 45)):
            if self.n == at and not (self.folder / mood).exists():
                (self.folder / mood).touch()
                if mood == "raises":
                    raise OSError("the cable is out")
                time.sleep(1000)
        return super().step(action)


def test_environments_that_fail_once(cluster, tmp_path):
    """The worker of one that raises is started anew, and that of one that hangs, after its time limit; the other goes on."""
    model = DDPG(
        "MlpPolicy", lambda: Moody(tmp_path), n_steps=3, policy_kwargs=SMALL, learning_starts=50, buffer_size=200_000,
        train_freq=50, collector=collector(envs_per_worker=1, chunk=5, time_limit=3.0),
    )  # fmt: skip

    def until_restarted(local, _):
        crew = local["self"].get_env().crew
        return not (crew.n_restarts >= 2 and crew.n_alive == 2)

    with pytest.warns(RuntimeWarning) as warned:
        model.learn(10**8, until_restarted)
    said = [str(each.message) for each in warned if "is started anew" in str(each.message)]
    assert len(said) >= 2  # more where the machine is so busy that a whole worker is too slow
    for reason in ("OSError: the cable is out", "no chunk has come within 3 s (collector: time_limit)"):
        assert any(reason in each for each in said)
    check_lines(model.replay_buffer)
    model.get_env().close()


def test_an_environment_that_always_fails(cluster):
    """After the tries that were allowed the error has the environment's traceback; workers are gone, the model stays."""

    class Broken(Line):
        def step(self, action):
            raise OSError("the cable is out")

    model = DDPG("MlpPolicy", Broken, policy_kwargs=SMALL, collector=collector(n_workers=1, tries=0))
    with pytest.raises(WorkersLost, match=r"failed 1 times in a row") as raised:
        model.learn(100)
    assert 'raise OSError("the cable is out")' in str(raised.value)
    assert model.get_env().crew is None


def test_ctrl_c_stops_the_workers(cluster):
    """Also while the learner waits for them."""
    model = DDPG("MlpPolicy", lambda: Line(0.2), policy_kwargs=SMALL, collector=collector(n_workers=1, chunk=50))
    pids, has_ended = [], threading.Event()

    def press():
        try:
            wait_until(lambda: model.get_env().crew is not None and all(hand.pid for hand in model.get_env().crew.hands))
            pids.extend(hand.pid for hand in model.get_env().crew.hands)
            time.sleep(1)
        finally:
            while not has_ended.is_set():  # again, as a user would
                os.kill(os.getpid(), signal.SIGINT)
                has_ended.wait(60)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        model.learn(10**6)
    has_ended.set()
    assert pids
    wait_until(lambda: not any(map(is_running, pids)))


class Noted(Line):
    """Leaves a file behind when it is closed."""

    level = 0

    def __init__(self, folder, seconds):
        super().__init__(seconds)
        self.folder = Path(folder)

    def raised(self, level):
        self.level += level
        return os.getpid()

    def close(self):
        (self.folder / str(self.number)).touch()


def test_environments_are_closed_in_the_middle_of_a_chunk(cluster, tmp_path):
    """Which would take 50 seconds. It has begun: Ray can miss that a chunk is over which is still on its way to the worker."""
    model = DDPG("MlpPolicy", lambda: Noted(tmp_path, 0.001), policy_kwargs=SMALL, collector=collector(n_workers=1, chunk=5))
    model.learn(40)
    env = model.get_env()
    numbers = env.get_attr("number")
    env.set_attr("seconds", 0.05)
    env.crew.ask(env.crew.hands[0], model._collector._parameters, model_order(500))
    time.sleep(3)
    started = time.monotonic()
    env.close()
    assert time.monotonic() - started < 20
    assert {str(int(number)) for number in numbers} <= {path.name for path in tmp_path.iterdir()}


def model_order(n_steps):
    return Order(0, n_steps, Moment(0, 10**6, 0, False, 0), 0)


def test_what_workers_are_asked(cluster, tmp_path):
    """Before a training; what raises is of its own class; one that was killed is started anew, and asked then."""
    model = DDPG("MlpPolicy", lambda: Noted(tmp_path, 0.001), policy_kwargs=SMALL, collector=collector(n_workers=1, chunk=5))
    env = model.get_env()
    env.set_attr("seconds", 0.002)
    pids = env.env_method("raised", 3)
    assert os.getpid() not in pids
    assert not env.has_attr("nothing")
    model.learn(40)
    assert (env.get_attr("level"), env.get_attr("seconds")) == ([3, 3], [0.002, 0.002])
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: not is_running(pids[0]))
    with pytest.warns(RuntimeWarning, match="worker 0 is started anew"):
        assert env.get_attr("seconds") == [0.002, 0.002]
    assert env.env_method("raised", 1) != pids
    model.learn(100, reset_num_timesteps=False)
    env.close()


def test_callbacks_logs_and_files(cluster, tmp_path):
    """Callbacks count environment steps on the learner; the log says how it goes; files hold the model and its collector."""
    evaluation = EvalCallback(Monitor(gym.make("Pendulum-v1")), eval_freq=100, n_eval_episodes=1, log_path=str(tmp_path))
    checkpoints = CheckpointCallback(100, str(tmp_path), save_replay_buffer=True)
    model = DDPG(
        "MlpPolicy", "Pendulum-v1", seed=0, policy_kwargs=SMALL, action_noise="normal_0.3", gradient_steps=-1,
        collector=collector(n_workers=1, envs_per_worker=4, sync_every=100, scales="ladder"),
    )  # fmt: skip
    model.set_logger(configure(str(tmp_path / "log"), ["csv"]))
    model.learn(2000, [evaluation, checkpoints], log_interval=2)
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [400, 800, 1200, 1600, 2000]
    assert (tmp_path / "rl_model_2000_steps.zip").exists()
    header = (tmp_path / "log" / "progress.csv").read_text().splitlines()[0].split(",")
    names = {"steps_per_s", "updates_per_s", "busy", "queue", "workers_alive", "restarts", "taken", "weights_age"}
    assert {f"collection/{name}" for name in names} <= set(header)
    assert model._collector.statistics()["workers_alive"] == 1
    workers = model.get_env().crew.hands
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")

    loaded = DDPG.load(tmp_path / "model", env="Pendulum-v1", trusted=False)
    assert vars(loaded.collector) == vars(model.collector)
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.replay_buffer.n_written == 2000
    model.get_env().close()
    assert all(hand.tasks == type(hand.tasks)() for hand in workers)
    loaded.learn(400, reset_num_timesteps=False)
    loaded.learn(400, reset_num_timesteps=False)
    assert loaded.num_timesteps == 2800
    loaded.get_env().close()
    local = DDPG.load(tmp_path / "model", env="Pendulum-v1", collector=None)
    assert local.learn(10).num_timesteps == 10
    code = (
        "import sys; sys.modules['ray'] = None; from sb3_ddpg_ext import DDPG; import gymnasium as gym\n"
        f"model = DDPG.load({str(tmp_path / 'model')!r})\n"
        "print(model.predict(gym.make('Pendulum-v1').reset(seed=0)[0])[0].shape, model.collector.n_workers)\n"
        f"model = DDPG.load({str(tmp_path / 'model')!r}, env='Pendulum-v1')\n"
        "try:\n    model.learn(10)\nexcept ImportError as error:\n    print(error)\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[0] == "(1,) 1"
    assert "pip install 'sb3_ddpg_ext[ray]'" in output


def test_rl_zoo3(cluster):
    """A block of its YAML: wrappers, env_kwargs and normalisation go to the workers."""
    from sb3_ddpg_ext.experiment import make_experiment

    block = dict(
        policy="MlpPolicy", n_timesteps=600, normalize=True, learning_starts=100, env_kwargs=dict(g=5.0),
        env_wrapper={"gymnasium.wrappers.TimeLimit": dict(max_episode_steps=30)},
        collector=dict(kind="ray", n_workers=1, envs_per_worker=2, num_cpus=0.1, chunk=10), policy_kwargs="dict(net_arch=[8])",
    )  # fmt: skip
    model = make_experiment(block, "Pendulum-v1").model
    model.learn(600)
    env = model.get_env()
    assert (env.num_envs, env.get_attr("g"), model.num_timesteps) == (2, [5.0, 5.0], 600)
    assert model.replay_buffer.timeouts[:300].sum(axis=0).tolist() == [10, 10]  # by the wrapper, each 30 steps
    assert model.get_vec_normalize_env().obs_rms.count > 600
    env.close()


def test_a_node_goes(cluster):
    """Its worker finds no place any more; training goes on with the other."""
    model = DDPG(
        "MlpPolicy", lambda: Line(0.002), n_steps=3, train_freq=20, policy_kwargs=SMALL, learning_starts=50,
        buffer_size=100_000,
        collector=collector(envs_per_worker=1, chunk=5, num_cpus=4.5),
    )  # fmt: skip
    # The head has 8 processors, so that the second worker goes to the other node, once that has enough.
    big = cluster.add_node(num_cpus=5, object_store_memory=STORE)
    steps = []

    def until(local, _):
        crew, now = local["self"].get_env().crew, local["self"].num_timesteps
        if now >= 400 and not steps:
            cluster.remove_node(big, allow_graceful=False)
            steps.append(None)
        if crew.n_restarts and steps[-1] is None:
            steps.append(now)
        return not (len(steps) == 2 and now > steps[-1] + 2000)

    model.learn(10**8, until)
    crew = model.get_env().crew
    assert (crew.n_restarts, crew.n_alive) == (1, 1)
    check_lines(model.replay_buffer)
    model.get_env().close()


def test_no_place(cluster, monkeypatch):
    """The error says what was asked for, and what there is."""
    monkeypatch.setattr("sb3_ddpg_ext.distributed.crew.FIRST_LIMIT", 0.5)
    model = DDPG("MlpPolicy", "Pendulum-v1", collector=collector(num_cpus=100, time_limit=0.5))
    with pytest.raises(WorkersLost, match="no place has been found for 2 of n_workers=2, each of which asks for num_cpus=100"):
        model.learn(10)


def test_addresses():
    """One that is none is named; nothing is started for a model that does not learn."""
    assert environments("Pendulum-v1", None) == "Pendulum-v1"
    assert RayCollector(address="auto").address == "auto"
    code = (
        "from sb3_ddpg_ext import DDPG\n"
        "model = DDPG('MlpPolicy', 'Pendulum-v1', collector=dict(kind='ray', address='127.0.0.1:1'))\n"
        "try:\n    model.learn(10)\nexcept ConnectionError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "collector: address='127.0.0.1:1' must be that of a running Ray cluster" in result.stdout, result.stderr

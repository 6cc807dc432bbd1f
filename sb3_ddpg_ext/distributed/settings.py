"""What a user says of a collection on Ray."""

from typing import Any

from sb3_ddpg_ext.kinds import Kinds
from sb3_ddpg_ext.validation import MANY, check_choice, check_flag, check_instance, check_integer, check_kwargs, check_real

MODES = ["asynchronous", "synchronous"]
INFOS = ["all", "ends"]
LADDER = "ladder"
MAX_WORKERS = 10**5
LARGEST_CHUNK = 100  # steps; what a chunk costs beside its transitions is small by then


class RayCollector:
    """
    Workers on Ray own the environments, act by copies of the actor and send whole transitions; the model learns from these.

    As in Ape-X, Horgan et al. (2018), https://arxiv.org/abs/1803.00933, section 3 and Algorithms 1 and 2, but the learner adds
    the transitions to the replay buffer and gives them their first priorities.

    :param n_workers: processes, on any machine of the cluster
    :param envs_per_worker: environments of each; a worker steps them one after the other, unless ``threads`` is True
    :param address: of the Ray cluster, ``"auto"`` for the one that this machine belongs to, None for what ``RAY_ADDRESS``
        names; where it names none, Ray starts one on this machine
    :param sync_every: transitions between two times that the actor's parameters are sent to all workers
    :param chunk: steps of each environment that a worker sends at a time; None for a quarter of ``sync_every`` over the number
        of environments, at most 100. What acts is as old as ``sync_every`` and ``collection_ahead`` times all chunks, at most,
        while workers are in step.
    :param mode: ``"asynchronous"``, or ``"synchronous"``: each step waits for all workers, which act by the present actor, as
        the same number of local environments would
    :param ratio: updates per transition, > 0, after each ``train_freq``, in place of the model's ``gradient_steps``; None for
        these
    :param collection_ahead: chunks that each worker may collect before the model has learnt from those before, >= 1
    :param learning_ahead: updates that the model may make, with a ``ratio``, before the transitions for them have come, >= 0
    :param scales: factors on the noise that is added to the actions, one for each environment, >= 0; ``"ladder"`` for
        0.4^(7 i / (n - 1)) of environment i of n, the ratios of Ape-X's (section 4.1); None for 1
    :param threads: whether a worker steps its environments at the same time, in threads; for environments that wait, such as
        robots, and simulators that let go of Python's lock
    :param num_cpus: processors that Ray sets aside for each worker, >= 0; a fraction where environments wait
    :param resources: further resources of Ray that each worker asks for, such as ``{"robot": 1}``; None for none
    :param time_limit: seconds that a chunk may take, and the making of the environments, before a worker counts as hanging
    :param tries: times that a worker is started anew in a row, without a chunk between them, before the training ends
    :param infos: ``"all"``, or ``"ends"`` to send the infos at the end of episodes only, which makes chunks smaller
    :raises ValueError: for a value outside what is allowed
    :raises TypeError: for a value of the wrong type
    """

    def __init__(
        self,
        n_workers: int = 2,
        envs_per_worker: int = 1,
        address: str | None = None,
        sync_every: int = 1000,
        chunk: int | None = None,
        mode: str = "asynchronous",
        ratio: float | None = None,
        collection_ahead: int = 2,
        learning_ahead: int = 0,
        scales: str | list[float] | None = None,
        threads: bool = False,
        num_cpus: float = 1.0,
        resources: dict[str, float] | None = None,
        time_limit: float = 300.0,
        tries: int = 3,
        infos: str = "all",
    ):
        self.n_workers = check_integer("collector: n_workers", n_workers, 1, MAX_WORKERS)
        self.envs_per_worker = check_integer("collector: envs_per_worker", envs_per_worker, 1, MAX_WORKERS)
        check_instance("collector: address", address, (str, type(None)), "a string, the address of a Ray cluster, or None")
        self.address = address
        self.sync_every = check_integer("collector: sync_every", sync_every, 1, MANY)
        self.chunk = None if chunk is None else check_integer("collector: chunk", chunk, 1, MAX_WORKERS)
        check_choice("collector: mode", mode, MODES)
        self.mode = mode
        self.ratio = None if ratio is None else check_real("collector: ratio", ratio, 0, 1e6, above=True)
        self.collection_ahead = check_integer("collector: collection_ahead", collection_ahead, 1, 1000)
        self.learning_ahead = check_integer("collector: learning_ahead", learning_ahead, 0, MANY)
        self.scales = self._checked_scales(scales)
        self.threads = check_flag("collector: threads", threads)
        self.num_cpus = check_real("collector: num_cpus", num_cpus, 0, 1e6)
        check_kwargs("collector: resources", resources)
        self.resources = {name: check_real(f"collector: resources[{name!r}]", n, 0) for name, n in (resources or {}).items()}
        self.time_limit = check_real("collector: time_limit", time_limit, 0, above=True)
        self.tries = check_integer("collector: tries", tries, 0, MANY)
        check_choice("collector: infos", infos, INFOS)
        self.infos = infos
        self._check_together(chunk)

    def _checked_scales(self, given: Any) -> Any:
        if given is None or (isinstance(given, str) and given == LADDER):
            return given
        given = getattr(given, "tolist", lambda: given)()  # of an array
        check_instance("collector: scales", given, (list, tuple), f"{LADDER!r}, a number for each environment, or None")
        if len(given) != self.n_envs:
            raise ValueError(f"collector: scales={given!r} has {len(given)} numbers; it must have n_envs={self.n_envs}")
        return [check_real(f"collector: scales[{i}]", number, 0) for i, number in enumerate(given)]

    def _check_together(self, chunk: Any) -> None:
        if self.learning_ahead and self.ratio is None:
            raise ValueError(f"collector: learning_ahead={self.learning_ahead} must be 0 without a ratio")
        if not self.is_synchronous:
            return
        for name, value, neutral in (
            ("chunk", chunk, None),
            ("scales", self.scales, None),
            ("learning_ahead", self.learning_ahead, 0),
        ):
            if value != neutral:
                raise ValueError(f"collector: {name}={value!r} must be {neutral} with mode='synchronous'")

    @property
    def n_envs(self) -> int:
        """Environments of all workers."""
        return self.n_workers * self.envs_per_worker

    @property
    def is_synchronous(self) -> bool:
        return self.mode == MODES[1]

    @property
    def steps(self) -> int:
        """Steps of each environment in a chunk."""
        if self.is_synchronous:
            return 1
        return min(max(self.sync_every // (4 * self.n_envs), 1), LARGEST_CHUNK) if self.chunk is None else self.chunk

    @property
    def factors(self) -> list[float] | None:
        """What the noise of each environment is multiplied by; None for 1."""
        if self.scales != LADDER:
            return self.scales
        return [0.4 ** (7 * i / max(self.n_envs - 1, 1)) for i in range(self.n_envs)]

    def __repr__(self) -> str:
        return f"RayCollector({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


COLLECTORS: Kinds[RayCollector] = Kinds(
    'None for this process, "ray", "ray_8" for 8 workers, a dict(kind="ray", ...) with the arguments of RayCollector, or a '
    "RayCollector of sb3_ddpg_ext.distributed",
    accepts=lambda spec: isinstance(spec, RayCollector),
)
COLLECTORS.register("ray")(RayCollector)


def make_collector(spec: Any) -> RayCollector | None:
    """
    :param spec: None, a string, a dict or a :class:`RayCollector`, which is returned as it is
    :raises ValueError: for an unknown kind, argument or value
    :raises TypeError: for anything else
    """
    return None if spec is None else COLLECTORS.make("collector", spec)

"""Ray's functions that a collection uses, in this process: each task runs when somebody asks for its result."""

import time
from types import SimpleNamespace

import cloudpickle


class RayError(Exception):
    """As Ray's."""


class RayActorError(RayError):
    """Its process has died."""


class RayTaskError(RayError):
    """A task has raised something. What is raised here is of both classes, as with Ray."""


class GetTimeoutError(RayError, TimeoutError):
    """As Ray's."""


class Ref:
    """What a task gives, made once."""

    def __init__(self, make, actor=None, name=None):
        self.make, self.actor, self.name, self.value, self.is_made = make, actor, name, None, False

    def get(self):
        if not self.is_made:
            self.value, self.is_made = self.make(), True
        return self.value


class Actor:
    """One whose methods are tasks."""

    def __init__(self, instance):
        self.instance, self.is_dead, self.refs = instance, False, []

    def __getattr__(self, name):
        def task(*args):
            def run():
                if self.is_dead:
                    raise RayActorError("The actor died unexpectedly before finishing this task.")
                try:
                    return getattr(self.instance, name)(*(arg.get() if isinstance(arg, Ref) else arg for arg in args))
                except Exception as error:
                    both = type(type(error).__name__, (RayTaskError, type(error)), {})
                    raise both(f"{type(error).__name__}: {error}") from error

            self.refs.append(Ref(run, self, name))
            return self.refs[-1]

        return SimpleNamespace(remote=task)


class InlineRay:
    """
    :param stalls: from a worker's instance to whether nothing comes of it now
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, GetTimeoutError=GetTimeoutError)

    def __init__(self, stalls=lambda worker: False):
        self.stalls, self.actors = stalls, []

    def put(self, value):
        pickled = cloudpickle.dumps(value)
        return Ref(lambda: cloudpickle.loads(pickled))

    def get(self, ref, timeout=None):
        """Where there is a limit, chunks that the worker was asked for before take longer, as one that stalls does."""
        if timeout is not None and not ref.actor.is_dead:
            before = ref.actor.refs[: ref.actor.refs.index(ref)]
            if self.stalls(ref.actor.instance) or not all(each.is_made or each.name != "collect" for each in before):
                raise GetTimeoutError
        return ref.get()

    def cancel(self, ref):
        """Nobody asks for it, and so it does not run."""

    def wait(self, refs, num_returns, timeout):
        ready = [ref for ref in refs if ref.actor.is_dead or not self.stalls(ref.actor.instance)]
        if not ready:
            time.sleep(0.001)
        return ready, [ref for ref in refs if ref not in ready]

    def kill(self, actor, no_restart=True):
        actor.is_dead = True

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, cls):
        def make(*args):
            instance = cls(*(arg.get() if isinstance(arg, Ref) else arg for arg in args))
            instance.settle, instance.is_cancelled = (lambda: 0), (lambda: False)
            self.actors.append(Actor(instance))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=make))

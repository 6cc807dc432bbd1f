"""Ray's functions that a collection uses, in this process: each task runs when somebody asks for its result."""

import time
from types import SimpleNamespace

import cloudpickle


class RayError(Exception):
    """As Ray's."""


class Ref:
    """What a task gives, made once."""

    def __init__(self, make, actor=None):
        self.make, self.actor, self.value, self.is_made = make, actor, None, False

    def get(self):
        if not self.is_made:
            self.value, self.is_made = self.make(), True
        return self.value


class Actor:
    """One whose methods are tasks."""

    def __init__(self, instance):
        self.instance, self.is_dead = instance, False

    def __getattr__(self, name):
        def task(*args):
            def run():
                if self.is_dead:
                    raise RayError("the actor is dead")
                try:
                    return getattr(self.instance, name)(*(arg.get() if isinstance(arg, Ref) else arg for arg in args))
                except Exception as error:
                    raise RayError(f"{type(error).__name__}: {error}") from error

            return Ref(run, self)

        return SimpleNamespace(remote=task)


class InlineRay:
    """
    :param stalls: from a worker's instance to whether nothing comes of it now
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, stalls=lambda worker: False):
        self.stalls, self.actors = stalls, []

    def put(self, value):
        pickled = cloudpickle.dumps(value)
        return Ref(lambda: cloudpickle.loads(pickled))

    def get(self, ref, timeout=None):
        return ref.get()

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
            instance.settle = lambda: 0
            self.actors.append(Actor(instance))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=make))

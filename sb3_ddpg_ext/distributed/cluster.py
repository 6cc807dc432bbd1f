"""Ray, where it is used: the one module that imports it, inside functions."""

import logging
import math
import os
import socket
from typing import Any

from sb3_ddpg_ext.distributed.attributes import Setting
from sb3_ddpg_ext.distributed.settings import RayCollector
from sb3_ddpg_ext.distributed.worker import Worker


def import_ray() -> Any:
    """
    :return: the package
    :raises ImportError: if it is missing
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"collector=dict(kind='ray') needs Ray ({error}): pip install 'sb3_ddpg_ext[ray]'") from error
    return ray


def connect(settings: RayCollector) -> Any:
    """
    Connect to a Ray cluster, or start one on this machine, with room for all workers. A connection that there is is used.

    :param settings: of the collection
    :return: the package
    :raises ImportError: if Ray is missing
    :raises ConnectionError: if there is no cluster at the address
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray
    address = settings.address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = dict(log_to_driver=False, logging_level=logging.ERROR)
    if address is None:
        n_cpus = max(os.cpu_count() or 1, math.ceil(settings.n_workers * settings.num_cpus))
        ray.init(address="local", num_cpus=n_cpus, include_dashboard=False, **quiet)
        return ray
    try:
        knock(address)
        ray.init(address=address, **quiet)
    except Exception as error:
        raise ConnectionError(
            f"collector: address={address!r} must be that of a running Ray cluster, or None to start one here ({error})"
        ) from error
    return ray


def knock(address: str) -> None:
    """
    Ray ends the whole process where nobody answers.

    :param address: of a cluster; anything but ``HOST:PORT`` is left to Ray
    :raises OSError: if nobody does
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


class RayWorker(Worker):
    """As :class:`Worker`, in a process of Ray."""

    def is_cancelled(self) -> bool:
        """See :class:`Worker`. Versions of Ray that cannot say it let a chunk come to its end."""
        return getattr(import_ray().get_runtime_context(), "is_canceled", bool)()


def new_worker(ray: Any, settings: RayCollector, making: Any, index: int, start: int, told: list[Setting]) -> Any:
    """
    :param ray: the package
    :param settings: of the collection
    :param making: a reference to how environments are made, pickled
    :param index: of the worker
    :param start: how often it has been started
    :param told: attributes that its environments get
    :return: its actor, which Ray may still have to find a place for
    """
    options = dict(num_cpus=settings.num_cpus, resources=settings.resources or None, max_restarts=0, max_task_retries=0)
    return ray.remote(RayWorker).options(**options).remote(making, index, start, told)

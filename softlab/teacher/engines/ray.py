"""Shards of a dump on a Ray cluster: each worker is an actor that holds the teacher and computes one after another. A
shard is committed while the next one is computed, so that a worker tells of it with its next answer.

Ray places as many workers as the cluster has room for, up to the number that is asked for, and more of them when it
grows. One that dies, as with a preemptible machine, is replaced.
"""

import logging
import os
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from softlab.errors import SoftlabError, SoftlabWarning
from softlab.teacher.engines.engine import OnShard, OnWorkers
from softlab.teacher.engines.shard_queue import ShardQueue
from softlab.teacher.job import DumpJob
from softlab.teacher.options import DumpOptions
from softlab.teacher.shard_by_shard import ShardByShard

LOCAL = "local"
"""Ray's address of a cluster that is started on this machine, and ended with the dump."""

START_TRIES = 3

MOST_LOST = 10
"""Workers that may die one after the other without a shard that is finished; or 3 for each worker, if that is more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """What a worker says once it holds the teacher."""

    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a worker says of shards that it was given."""

    errors: Mapping[int, str | None]
    """By the number of each that is settled; None where the shard is there."""

    warned: tuple[tuple[type[SoftlabWarning], str], ...] = ()


class ShardWorker:
    """What an actor is. It is told of errors by what it returns: not each can be sent."""

    def __init__(self, sent: list[Any], folder: str, paths: list[str]) -> None:
        self._sent, self._folder, self._paths = sent, folder, paths
        self._shards: ShardByShard | None = None
        self._warned: list[warnings.WarningMessage] = []

    def begin(self) -> Begun:
        """Get the job, in the folder and with the modules that the driver has."""
        import ray

        with suppress(OSError):  # where it isn't, paths that begin there are told of when they are read
            os.chdir(self._folder)
        sys.path += [path for path in self._paths if path not in sys.path]
        try:
            self._shards = ShardByShard(pickle.loads(ray.get(self._sent[0])))
        except Exception as error:
            return Begun(error=f"{os.uname().nodename}: {_told(error)}")
        self._warned = warnings.catch_warnings(record=True).__enter__() or []  # to its end, on all of its threads
        warnings.simplefilter("ignore")  # others cost time wherever they are raised, and nobody is told of them
        warnings.simplefilter("always", SoftlabWarning)
        return Begun()

    def run(self, number: int | None) -> Told:
        """Compute a shard; without one wait for the last one's commit."""
        assert self._shards is not None, "it has begun"
        settled = self._shards.settle() if number is None else self._shards.do(number)
        warned = [self._warned.pop(0) for _ in range(len(self._warned))]  # a commit may add to them meanwhile
        return Told(
            errors={each.number: None if each.error is None else _told(each.error) for each in settled},
            warned=tuple((w.category, str(w.message)) for w in warned if issubclass(w.category, SoftlabWarning)),
        )


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, SoftlabError) else f"{type(error).__name__}: {error}"


class RayEngine:
    """An engine; the options say how many workers, what each takes, and on which cluster."""

    def __init__(self, options: DumpOptions) -> None:
        self._options = options
        self._ray = _library()

    def run(self, job: DumpJob, shards: ShardQueue, *, on_shard: OnShard, on_workers: OnWorkers) -> None:
        with _connected(self._ray, self._options.ray_address):
            crew = _Crew(self._ray, job, self._options, most=shards.num_left)
            try:
                crew.compute(shards, on_shard=on_shard, on_workers=on_workers)
            finally:
                crew.dismiss()


@dataclass(kw_only=True, slots=True, eq=False)
class _Worker:
    """One of the workers of a run."""

    actor: Any
    given: set[int] = field(default_factory=set)
    """Shards that it hasn't told of yet: the one that it computes, and the one before that."""

    is_ready: bool = False


class _Crew:
    """The workers of a run, and what each is at."""

    def __init__(self, ray: Any, job: DumpJob, options: DumpOptions, *, most: int) -> None:
        self._ray = ray
        cpus, gpus = _resources(ray, options)
        self._kind = ray.remote(ShardWorker).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        self._sent = ray.put(ray.cloudpickle.dumps(job))
        self._count = min(_num_workers(ray, options, cpus=cpus, gpus=gpus), most)
        self._at: dict[Any, _Worker] = {}
        """By the answer that is waited for."""

        self._idle: list[_Worker] = []
        self._num_ready = self._lost_in_a_row = 0
        self._warned: set[type[SoftlabWarning]] = set()

    def compute(self, shards: ShardQueue, *, on_shard: OnShard, on_workers: OnWorkers) -> None:
        for _ in range(self._count):
            self._hire()
        on_workers(0)
        while not shards.is_over:
            before = self._num_ready
            for answer in self._ray.wait(list(self._at), num_returns=1)[0]:
                self._take(answer, shards, on_shard=on_shard)
            self._hand_out(shards)
            if self._num_ready != before:
                on_workers(self._num_ready)

    def dismiss(self) -> None:
        """End all workers, whatever they are at."""
        for worker in [*self._idle, *self._at.values()]:
            self._ray.kill(worker.actor)

    def _hire(self) -> None:
        """Ray starts it when the cluster has room."""
        worker = _Worker(actor=self._kind.remote([self._sent], os.getcwd(), list(sys.path)))
        self._at[worker.actor.begin.remote()] = worker

    def _hand_out(self, shards: ShardQueue) -> None:
        """A shard to each that is idle; one that has none to compute is asked for the one it is committing."""
        idle, self._idle = self._idle, []
        for worker in idle:
            number = shards.take(has_others=bool(worker.given))
            if number is not None:
                worker.given.add(number)
            if worker.given:
                self._at[worker.actor.run.remote(number)] = worker
            else:
                self._idle.append(worker)

    def _take(self, answer: Any, shards: ShardQueue, *, on_shard: OnShard) -> None:
        worker = self._at.pop(answer)
        try:
            told = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._replace(worker, shards, reason=str(error))
            return
        self._idle.append(worker)
        if isinstance(told, Begun):
            worker.is_ready = True
            self._num_ready += 1
            if told.error is not None:
                raise SoftlabError(
                    f"a worker of the cluster can't begin: {told.error.rstrip('.')}. Install what is missing on all "
                    f"machines of the cluster, as here, then run the same command again to go on."
                )
            return
        self._warn(told)
        for number, failure in told.errors.items():
            worker.given.remove(number)
            self._lost_in_a_row = 0
            if failure is None:
                shards.done(number)
                on_shard(number)
            else:
                shards.failed(number, failure)

    def _replace(self, worker: _Worker, shards: ShardQueue, *, reason: str) -> None:
        self._num_ready -= worker.is_ready
        for number in sorted(worker.given):
            shards.lost(number)
        self._lost_in_a_row += 1
        if self._lost_in_a_row > max(MOST_LOST, 3 * self._count):
            at = f", the last one at shard number {max(worker.given)}" if worker.given else ""
            raise SoftlabError(
                f"{self._lost_in_a_row} workers have died one after the other{at}: {' '.join(reason.split())[:500]}. "
                f"Look whether the machines ran out of memory; the same command goes on where it stopped."
            )
        self._hire()

    def _warn(self, told: Told) -> None:
        """The first of each kind: others tell the same of other shards."""
        for kind, text in told.warned:
            if kind not in self._warned:
                self._warned.add(kind)
                warnings.warn(text, kind, stacklevel=2)


def _resources(ray: Any, options: DumpOptions) -> tuple[float, float]:
    """Cores and GPUs that each worker takes."""
    cpus = options.cpus_per_worker
    gpus = options.gpus_per_worker
    if gpus is None:
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        gpus = 1.0 if options.device.name == "cuda" or (options.device.name == "auto" and has_gpus) else 0.0
    return (1.0 + (options.device.workers or 0) if cpus is None else cpus), gpus


def _num_workers(ray: Any, options: DumpOptions, *, cpus: float, gpus: float) -> int:
    """As many as are asked for; for all, as there is room for now."""
    if options.num_devices is not None:
        return options.num_devices
    found, each = (ray.cluster_resources().get(name, 0) for name in ("GPU", "CPU")), (gpus, cpus)
    return max(1, int(min(total / share for total, share in zip(found, each, strict=True) if share)))


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """To the cluster at an address, or a local one that ends with this; to the one that this process is connected to
    already, if there is one. Its log stays in its own files."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _connect(ray, address or os.environ.get("RAY_ADDRESS") or LOCAL)
    ray._private.worker._worker_logs_enabled = False  # else it prints each worker that dies: here that is no event
    try:
        yield
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """A cluster that is started gives up after half a minute, which a busy machine may take."""
    for left in reversed(range(START_TRIES if address == LOCAL else 1)):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except Exception as error:  # some of Ray's are of no other class
            ray.shutdown()
            if left:
                continue
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise SoftlabError(
                f"the Ray cluster at {address} can't be reached: {reason}. Check `dump.ray_address`, and that the "
                f"cluster has the same versions of Ray and Python."
            ) from error
        return


def _library() -> Any:
    try:
        import ray
    except ImportError as error:
        raise SoftlabError("dump.engine = ray: Ray isn't installed. Install it: pip install 'softlab[ray]'") from error
    return ray

"""Shards that one process is given one after another: the teacher stays where it is, and a shard is committed while the
next one is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType

from softlab.loading.aligned import Aligned
from softlab.store.writer import StoreWriter
from softlab.teacher.commit import Targets
from softlab.teacher.compute import compute
from softlab.teacher.forward import Run
from softlab.teacher.job import DumpJob
from softlab.teacher.selections import Selections


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """A shard of which nothing more will come."""

    number: int
    error: BaseException | None = None
    """None where it is there."""


class ShardByShard:
    """Does shards of a job (`plan_dump`) as they are given, by one teacher: a context manager. On leaving, a shard that
    was computed is still committed.

        with ShardByShard(job) as shards:
            settled = [*shards.do(3), *shards.do(7), *shards.settle()]

    The store is held only while there is a shard to be committed. The teacher is compared with shards of other
    processes once, as soon as there are any, and again after an error, for which it is started anew.
    """

    def __init__(self, job: DumpJob) -> None:
        self._job = job
        self._running = ExitStack()
        self._run: Run | None = None
        self._is_compared = self._is_plan_settled = False
        self._own: set[str] = set()
        """Names of shards that were computed here."""

        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="softlab-commit")
        self._open: tuple[int, Future[None]] | None = None

    def __enter__(self) -> "ShardByShard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        self._end_run()

    def do(self, number: int) -> list[Settled]:
        """Compute a shard and begin its commit. What became of the shard before it, and of this one if it failed or is
        there already."""
        try:
            commit = self._compute(number)
        except Exception as error:
            self._end_run()
            return [*self.settle(), Settled(number=number, error=error)]
        settled = self.settle()
        if commit is None:
            return [*settled, Settled(number=number)]
        self._open = number, self._pool.submit(commit)
        return settled

    def settle(self) -> list[Settled]:
        """Wait for the shard whose commit has begun, and say what became of it; nothing where there is none."""
        if self._open is None:
            return []
        (number, commit), self._open = self._open, None
        return [Settled(number=number, error=commit.exception())]

    def _compute(self, number: int) -> Callable[[], None] | None:
        """What commits the shard; None where it is there already."""
        shard = self._job.shard(number)
        with ExitStack() as stack:
            writer = stack.enter_context(self._job.joined(part=shard.part, settles=not self._is_plan_settled))
            self._is_plan_settled = True
            if writer is None or writer.is_written(shard):
                return None
            run = self._started(writer)
            (output,) = compute(run, self._aligned, self._selections, [shard], options=self._job.options)
            self._own.add(shard.name)
            held = stack.pop_all()

        def commit() -> None:
            with held:
                self._job.commit_alone(output, writer, self._targets)

        return commit

    def _started(self, writer: StoreWriter) -> Run:
        if self._run is None:
            self._run = self._running.enter_context(self._job.teacher.start(self._job.options))
        if not self._is_compared:
            self._is_compared = self._job.check_teacher(self._run, writer, but=self._own)
        return self._run

    def _end_run(self) -> None:
        self._run, self._is_compared = None, False
        self._running.close()

    @cached_property
    def _aligned(self) -> Aligned:
        return self._job.aligned()

    @cached_property
    def _selections(self) -> Selections:
        return self._job.selections()

    @cached_property
    def _targets(self) -> Targets:
        return self._job.targets()

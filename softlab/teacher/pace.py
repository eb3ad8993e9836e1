"""How many samples a teacher computes in the time that one shard may take.

It is measured once, before a dump is begun, and then settled: all processes, and the same dump when it goes on, cut the
same shards. A teacher that fills the largest shard in that time has shards of the size that it would have without it.
"""

import time
from dataclasses import dataclass

from softlab.loading.aligned import Aligned
from softlab.loading.decoded import Decoded
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import spread_out
from softlab.loading.workers import choose_workers
from softlab.shards import MAX_SHARD_ROWS
from softlab.teacher.example import CHECKED_SAMPLES
from softlab.teacher.forward import TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.selections import TopK

TRIED_S = 1.0
"""A larger batch is tried while the one before took less: on a GPU it is nearly as quick as a small one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Measures a teacher on a source."""

    run: TeacherRun
    aligned: Aligned
    options: DumpOptions

    def most_rows(self, *, seen_s: float) -> int:
        """A power of two. `seen_s` is how long the example took."""
        enough = min(len(self.aligned.source), MAX_SHARD_ROWS)
        rows, largest = self._in_time(CHECKED_SAMPLES, seen_s), min(len(self.aligned.source), self.options.batch_size)
        count = largest if self.options.device.compile else min(CHECKED_SAMPLES, largest)
        spent = 0.0
        while rows < enough and spent < TRIED_S:
            spent = self._seconds_of(count)
            rows = self._in_time(count, spent)
            if count == largest:
                break
            count = min(4 * count, largest)
        return MAX_SHARD_ROWS if rows >= enough else 1 << (max(rows, 1).bit_length() - 1)

    def _in_time(self, count: int, spent: float) -> int:
        return int(60 * self.options.shard_minutes * count / max(spent, 1e-9))

    def _seconds_of(self, count: int) -> float:
        """Of one batch. Workers decode samples beside the teacher's work; without them that comes before it."""
        loader = BatchLoader(self.aligned, device=self.run.device, options=LoaderOptions(workers=0), decoded=Decoded(0))
        start = time.perf_counter()
        (batch,) = loader.load([spread_out(len(self.aligned.source), count=count)])
        loading = time.perf_counter() - start
        least = {each.name: TopK(k=1) for each in self.run.wanted if each.kind == "classes"}
        forward = []
        for _ in range(1 if self.run.device.type == "cpu" else 2):  # the first of a size chooses its kernels
            start = time.perf_counter()
            self.run.run(batch, selections=least).start_to_host().wait()
            forward.append(time.perf_counter() - start)
        workers = choose_workers(self.options.device.workers, self.run.device)
        return max(loading / workers, forward[-1]) if workers else loading + forward[-1]

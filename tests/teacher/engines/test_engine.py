"""A dump that is carried out with an engine: what is left, what is told, what is done twice."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from softlab.errors import DamagedShards, UnfinishedStore
from softlab.store.folder import is_unfinished
from softlab.teacher.engines.engine import OnShard, OnWorkers, finish_with
from softlab.teacher.engines.shard_queue import ShardQueue
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.planning import plan_dump
from tests.store.building import contents, flip_byte
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher


class InThisProcess:
    """An engine of one worker, which fails at some shards."""

    def __init__(self, *, fails: frozenset[int] = frozenset(), then: Callable[[], object] = lambda: None) -> None:
        self.fails, self.then = fails, then
        self.tried: list[int] = []

    def run(self, job: DumpJob, shards: ShardQueue, *, on_shard: OnShard, on_workers: OnWorkers) -> None:
        on_workers(1)
        while not shards.is_over and (number := shards.take()) is not None:
            self.tried.append(number)
            if number in self.fails:
                shards.failed(number, "ValueError: no such sample")
            else:
                job.run_shard(number)
                shards.done(number)
                on_shard(number)
        self.then()
        self.then = lambda: None


def plan(out: Path, *, views: int = 1) -> DumpJob:
    return plan_dump(make_teacher(), Pictures(), out, make_options(views=views), augment=AUGMENT if views > 1 else None)


def test_what_is_there_already_is_left_and_rows_of_all_are_counted(tmp_path: Path) -> None:
    dump(tmp_path / "alone", make_options(views=2), augment=AUGMENT)
    job, engine, steps = plan(tmp_path / "store", views=2), InThisProcess(), list[tuple[int, int]]()
    job.run_shard(1)

    rows = finish_with(engine, job, on_rows=lambda rows, workers: steps.append((rows, workers)))

    assert engine.tried == [0, 2, 3, 4, 5, 6, 7]
    assert rows == 84
    assert steps[:2] == [(16, 1), (32, 1)]
    assert steps[-1] == (100, 1)
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_a_finished_job_is_only_finalized(tmp_path: Path) -> None:
    job, engine = plan(tmp_path / "store"), InThisProcess()
    for number in range(job.num_shards):
        job.run_shard(number)

    rows = finish_with(engine, job, on_rows=lambda rows, workers: None)

    assert (rows, engine.tried, is_unfinished(tmp_path / "store")) == (0, [], False)


def test_a_shard_that_always_fails_is_named_when_the_others_are_finished(tmp_path: Path) -> None:
    out = tmp_path / "store"
    job, engine = plan(out), InThisProcess(fails=frozenset({1}))
    told = (
        f"{out}: 1 shard failed 3 times (view-00000-part-00001), and all others are finished. "
        f"view-00000-part-00001: ValueError: no such sample. Mend that, then run the same command again to go on."
    )

    with pytest.raises(UnfinishedStore, match=f"^{re.escape(told)}$"):
        finish_with(engine, job, on_rows=lambda rows, workers: None)
    engine.fails = frozenset()
    rows = finish_with(engine, job, on_rows=lambda rows, workers: None)

    assert engine.tried == [0, 1, 2, 3, 1, 1, 1]
    assert rows == 16
    assert finalize(out).num_rows == 50


def test_a_shard_that_is_found_damaged_at_the_end_is_computed_again(tmp_path: Path) -> None:
    dump(tmp_path / "alone")
    out = tmp_path / "store"
    job = plan(out)
    engine = InThisProcess(then=lambda: flip_byte(out / "outputs/logits/logits/c/0/1/0"))

    rows = finish_with(engine, job, on_rows=lambda rows, workers: None)

    assert (engine.tried, rows) == ([0, 1, 2, 3, 1], 66)
    assert contents(out) == contents(tmp_path / "alone")


def test_a_shard_that_is_found_damaged_at_the_beginning_is_told(tmp_path: Path) -> None:
    out = tmp_path / "store"
    job, engine = plan(out), InThisProcess()
    job.run_shard(0)
    (out / "commits/view-00000-part-00000.json").write_text("{}")

    with pytest.warns(DamagedShards, match="view-00000-part-00000 is not what was written"):
        finish_with(engine, job, on_rows=lambda rows, workers: None)

    assert engine.tried == [0, 1, 2, 3]

import itertools
import os
import socket
from pathlib import Path

import pytest

from softlab.errors import StoreWriteFailed
from softlab.store.folder import PLAN_NAME
from softlab.store.workers import WORKERS, WorkerRecord, at_work, read_workers


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of a dump under way."""
    (tmp_path / PLAN_NAME).parent.mkdir()
    (tmp_path / PLAN_NAME).touch()
    return tmp_path


def test_a_process_tells_what_it_has_done_and_how_fast_by_a_clock_that_is_never_put_back(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of day is put back by an hour at every look."""
    days = itertools.count(1e9, -3600)
    monkeypatch.setattr("softlab.store.workers.time.time", lambda: next(days))
    now, rates = 0.0, []

    with at_work(store, clock=lambda: now) as on_shard:
        for seconds in (10.0, 10.0, 20.0):
            now += seconds
            on_shard(100)
            rates += [each.rows_per_second for each in read_workers(store)]

    (ended,) = read_workers(store)
    assert rates == [10.0, 10.0, 7.5]
    assert (ended.shards, ended.rows, ended.has_ended, ended.pid) == (3, 300, True, os.getpid())


def test_of_many_shards_the_last_ones_tell_the_rate(store: Path) -> None:
    now = 0.0
    with at_work(store, clock=lambda: now) as on_shard:
        for seconds in [100.0] * 5 + [2.0] * 8:
            now += seconds
            on_shard(10)
        (found,) = read_workers(store)

    assert (found.rows_per_second, found.shard_seconds) == (5.0, 2.0)


@pytest.mark.parametrize(
    ("worker", "is_at_work"),
    [
        (WorkerRecord(host="far", pid=1, at_s=1000.0), True),
        (WorkerRecord(host="far", pid=1, at_s=1000.0, has_ended=True), False),
        (WorkerRecord(host="far", pid=1, at_s=-1000.0), False),
        (WorkerRecord(host="far", pid=1, at_s=-1000.0, shard_seconds=700.0), True),
        (WorkerRecord(host="far", pid=1, at_s=1e9), True),
        (WorkerRecord(host=socket.gethostname(), pid=os.getpid(), at_s=1000.0), True),
        (WorkerRecord(host=socket.gethostname(), pid=(1 << 22) + 1, at_s=1000.0), False),
    ],
    ids=["fresh", "ended", "silent", "slow", "of the future", "here", "killed here"],
)
def test_who_ended_or_was_silent_for_long_is_not_at_work(worker: WorkerRecord, is_at_work: bool) -> None:
    assert worker.is_at_work(1000.0) == is_at_work


def test_what_can_not_be_told_or_read_is_no_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreWriteFailed("full")

    with at_work(store):
        (store / WORKERS / "other-1.json").write_text("{")
        monkeypatch.setattr("softlab.store.place.write_whole", refuse)

    assert [each.has_ended for each in read_workers(store)] == [False]


def test_in_a_store_that_was_finished_meanwhile_nothing_is_left(tmp_path: Path) -> None:
    with at_work(tmp_path) as on_shard:
        on_shard(1)

    assert list(tmp_path.iterdir()) == []

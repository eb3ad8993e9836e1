from pathlib import Path

import pytest

from softlab.errors import NotAStore, TeacherError
from softlab.store.attempts import FailedShard, note_attempt
from softlab.store.dump_state import dump_state
from softlab.store.workers import at_work
from softlab.teacher.planning import plan_dump
from tests.store.building import contents
from tests.teacher.augmenting import AUGMENT, dump_views
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher


def test_of_a_dump_under_way_is_told_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    job = plan_dump(make_teacher(), Pictures(), tmp_path, make_options())
    job.run_shards([0, 3])
    before = contents(tmp_path)

    state = dump_state(str(tmp_path))

    assert (state.is_finished, state.shards, state.total_shards, state.missing) == (False, 2, 4, "1-2")
    assert (state.rows, state.total_rows) == (18, 50)
    assert state.bytes == sum(len(data) for path, data in before.items() if path.startswith("outputs/logits/"))
    assert contents(tmp_path) == before


def test_of_processes_at_work_the_rates_are_added_up_and_the_time_left_follows(tmp_path: Path) -> None:
    job = plan_dump(make_teacher(), Pictures(), tmp_path, make_options())
    job.run_shard(0)
    now = 0.0

    with at_work(tmp_path, clock=lambda: now) as on_shard:
        now = 2.0
        on_shard(16)
        state = dump_state(tmp_path)
    ended = dump_state(tmp_path)

    assert [(each.is_at_work, each.shards, each.rows) for each in state.workers] == [(True, 1, 16)]
    assert (state.rows_per_second, state.seconds_left) == (8.0, 34 / 8)
    assert [each.is_at_work for each in ended.workers] == [False]
    assert (ended.rows_per_second, ended.seconds_left) == (None, None)


def test_shards_that_failed_are_told_until_they_are_there(tmp_path: Path) -> None:
    job = plan_dump(make_teacher(), Pictures(), tmp_path, make_options())
    for number, error in [(2, "first"), (2, "second"), (1, "once")]:
        note_attempt(tmp_path, job.shard(number), TeacherError(error))
    job.run_shards([1])

    (failed,) = dump_state(tmp_path).failed

    assert failed == FailedShard(number=2, name="view-00000-part-00002", attempts=2, error="TeacherError: second")
    assert not failed.is_set_aside


def test_a_finished_store_has_all(tmp_path: Path) -> None:
    summary = dump(tmp_path)

    state = dump_state(tmp_path)

    assert (state.is_finished, state.shards, state.missing, state.rows) == (True, 4, "", 50)
    assert state.bytes == sum(file.bytes for file in summary.manifest.files)


def test_of_views_that_are_added_those_count(tmp_path: Path) -> None:
    dump_views(tmp_path, 2)
    options = make_options(views="+1", pixel_digests="all")
    plan_dump(make_teacher(), Pictures(), tmp_path, options, augment=AUGMENT).run_shard(1)

    state = dump_state(tmp_path)

    assert (state.is_finished, state.shards, state.total_shards, state.missing) == (False, 1, 4, "0,2-3")


def test_where_nobody_began_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStore):
        dump_state(tmp_path / "nothing")

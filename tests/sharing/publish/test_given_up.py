import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from softlab.errors import UnfinishedStore
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.sharing.publish import gc
from softlab.sharing.publish.gc import GcOptions, collect_garbage
from softlab.sharing.publish.given_up import find_given_up, remove_given_up
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.sharing.publishing import remote_of
from tests.store.building import contents, make_plan, write_some, write_store

WEEK = timedelta(days=7)


def make_old(folder: Path, *, days: float = 8) -> None:
    then = time.time() - days * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def test_a_dump_is_given_up_when_nothing_of_it_was_written_for_long(tmp_path: Path) -> None:
    write_some(tmp_path / "old", make_plan(), num_shards=2)
    make_old(tmp_path / "old")
    write_some(tmp_path / "young", make_plan(), num_shards=2)
    make_old(tmp_path / "young")
    write_some(tmp_path / "young", make_plan(), num_shards=1)
    write_store(tmp_path / "finished", make_plan())
    make_old(tmp_path / "finished")
    (tmp_path / "others").mkdir()

    found = find_given_up(remote_of(str(tmp_path)), age=WEEK)

    assert list(found) == ["old"]
    assert {each.path for each in found["old"]} == contents(tmp_path / "old").keys()
    assert remove_given_up(remote_of(str(tmp_path)), "old", age=WEEK)
    assert not contents(tmp_path / "old")
    assert not remove_given_up(remote_of(str(tmp_path)), "young", age=WEEK)
    assert (tmp_path / "young" / "commits" / "plan.json").exists()


def test_beside_a_finished_store_only_what_its_dump_left_goes(tmp_path: Path) -> None:
    write_some(tmp_path / "begun", make_plan(), num_shards=1)
    write_store(tmp_path / "store", make_plan())
    before = contents(tmp_path / "store")
    (tmp_path / "begun" / "commits").rename(tmp_path / "store" / "commits")
    make_old(tmp_path)

    assert remove_given_up(remote_of(str(tmp_path)), "store", age=WEEK)
    assert contents(tmp_path / "store") == before


def test_a_removal_that_was_killed_is_found_again_and_leaves_no_record_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_some(tmp_path / "old", make_plan(), num_shards=2)
    make_old(tmp_path / "old")
    remote = remote_of(str(tmp_path))
    delete = type(remote.backend).delete

    def delete_and_stop(backend: object, paths: list[str]) -> None:
        delete(remote.backend, paths[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(remote.backend), "delete", delete_and_stop)
        with pytest.raises(KeyboardInterrupt):
            remove_given_up(remote, "old", age=WEEK)
    write_some(tmp_path / "copy", make_plan(), num_shards=0)

    assert list(find_given_up(remote, age=timedelta(0)))[1:] == ["old"]
    write_store(tmp_path / "old", make_plan())
    assert verify_store(tmp_path / "old").is_intact


@pytest.mark.process
def test_gc_removes_them_at_an_address(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_some(tmp_path / "begun", make_plan(), num_shards=2)
    remote = connect(parse_address(f"{bucket}/runs"))
    for path, data in contents(tmp_path / "begun").items():
        remote.write(f"begun/{path}", data)
    monkeypatch.setattr(gc, "MIN_AGE_S", 0.0)
    with pytest.raises(UnfinishedStore):
        open_store(f"{bucket}/runs/begun")

    assert not collect_garbage(f"{bucket}/runs").leftovers
    time.sleep(1.1)  # the server's dates have whole seconds
    [leftover] = collect_garbage(f"{bucket}/runs", options=GcOptions(older_than_s=0.0)).leftovers

    assert (leftover.kind, leftover.path) == ("dump", "begun")
    assert not remote.list_objects()

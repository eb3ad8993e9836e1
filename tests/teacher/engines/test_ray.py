"""Dumps by workers of a real Ray cluster, against the same dump in this process."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from softlab.errors import SoftlabError, UnfinishedStore
from softlab.sources.source import Sample
from softlab.teacher.dump_progress import DumpProgress, OnProgress
from softlab.teacher.options import DumpOptions
from tests.clusters import cluster_environment
from tests.store.building import contents
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, dump, make_options, stop_at

pytestmark = pytest.mark.process

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    """One for all tests: it takes 6 s to start."""
    with cluster_environment() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        ray.init(address="local", num_cpus=2, log_to_driver=False, logging_level=logging.CRITICAL)
        yield
        ray.shutdown()


def on_a_cluster(test: Callable[..., None]) -> Callable[..., None]:
    """Slow: a worker takes seconds to import torch."""
    marked: Callable[..., None] = pytest.mark.slow(pytest.mark.usefixtures("_cluster")(test))
    return marked


def on_ray(**values: object) -> DumpOptions:
    """Of two workers, which leave room for whatever else runs on two cores."""
    return make_options(**{"engine": "ray", "devices": 2, "cpus_per_worker": 0.5} | values)


@dataclass(frozen=True, kw_only=True)
class Traps(Pictures):
    """Pictures, two of which do something to the worker that reads them."""

    folder: Path
    driver: int

    def read(self, index: int) -> Sample:
        if index in (3, 35) and os.getpid() != self.driver:
            self.spring(index)
        return super().read(index)

    def spring(self, index: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Deadly(Traps):
    """Each kills its reader, once."""

    def spring(self, index: int) -> None:
        marker = self.folder / str(index)
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class AlwaysDeadly(Traps):
    def spring(self, index: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Broken(Traps):
    """One of them can't be read; how often that was tried is a file."""

    def spring(self, index: int) -> None:
        if index == 35:
            with (self.folder / "tries").open("a") as tries:
                tries.write(".")
            raise OSError("the server with this picture is gone")


@dataclass(frozen=True, kw_only=True)
class Meeting(Traps):
    """The first one that reads picture 3 or 35 waits for another process that does: on a busy machine the first worker
    may else be done before the second one holds the teacher."""

    def spring(self, index: int) -> None:
        (self.folder / str(os.getpid())).touch()
        until = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 2:
            assert time.monotonic() < until, "there is no other worker"
            time.sleep(0.05)


def wait_until_all_cores_are_free() -> None:
    """A worker has its share until it has ended."""
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until, "there are still workers"
        time.sleep(0.1)


def keep(steps: list[DumpProgress]) -> OnProgress:
    return steps.append


@on_a_cluster
def test_two_workers_write_the_bytes_of_one_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone = dump(tmp_path / "alone", make_options(feature={"pooled": "relu:mean"}, views=2), augment=AUGMENT)
    steps: list[DumpProgress] = []
    (tmp_path / "met").mkdir()
    source = Meeting(folder=tmp_path / "met", driver=os.getpid())

    together = dump(
        tmp_path / "store",
        on_ray(feature={"pooled": "relu:mean"}, views=2),
        source=source,
        augment=AUGMENT,
        on_progress=keep(steps),
    )
    again = dump(tmp_path / "store", on_ray(feature={"pooled": "relu:mean"}, views=2), augment=AUGMENT)

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")
    assert alone.digest == together.digest == again.digest
    assert (together.rows_computed, again.rows_computed) == (100, 0)
    assert (steps[0].rows, steps[0].note) == (0, "0 workers")
    assert (steps[-1].rows, steps[-1].total_rows, steps[-1].note) == (100, 100, "2 workers")
    assert capfd.readouterr() == ("", "")


@on_a_cluster
def test_workers_that_are_killed_are_replaced(tmp_path: Path) -> None:
    dump(tmp_path / "alone")
    source = Deadly(folder=tmp_path, driver=os.getpid())

    dump(tmp_path / "store", on_ray(), source=source)

    assert {"3", "35"} <= {path.name for path in tmp_path.iterdir()}
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


@on_a_cluster
def test_a_shard_that_always_fails_is_named_when_the_others_are_finished(tmp_path: Path) -> None:
    dump(tmp_path / "alone")
    source = Broken(folder=tmp_path, driver=os.getpid())

    with pytest.raises(UnfinishedStore, match=r"1 shard failed 3 times \(view-00000-part-00002\), and all others are"):
        dump(tmp_path / "store", on_ray(), source=source)
    tries = (tmp_path / "tries").read_text()
    mended = dump(tmp_path / "store", on_ray())

    assert tries == "..."
    assert mended.rows_computed == 16
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


@on_a_cluster
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"of 4 shards finished\. Run the same command again to go on\.$"):
        dump(tmp_path / "store", on_ray(), on_progress=stop_at(16))

    wait_until_all_cores_are_free()
    assert dump(tmp_path / "store", on_ray()).manifest.num_rows == 50


@on_a_cluster
def test_a_shard_that_kills_each_worker_ends_the_dump_at_last(tmp_path: Path) -> None:
    source = AlwaysDeadly(folder=tmp_path, driver=os.getpid())

    with pytest.raises(SoftlabError, match=r"^11 workers have died one after the other, the last one at shard number"):
        dump(tmp_path / "store", on_ray(), source=source)

    assert len(list((tmp_path / "store/commits").glob("view-*.json"))) == 2


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # other tests have one

    with pytest.raises(
        SoftlabError, match=r"^the Ray cluster at 192\.0\.2\.1:6379 can't be reached: it is gone\. Check"
    ):
        dump(tmp_path / "store", on_ray(ray_address="192.0.2.1:6379"))


def refuse(**_: object) -> None:
    raise ConnectionError("it is gone\n")


def test_without_ray_an_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(SoftlabError, match=r"^dump\.engine = ray: Ray isn't installed\. .*'softlab\[ray\]'$"):
        dump(tmp_path / "store", on_ray())
    assert not (tmp_path / "store").exists()

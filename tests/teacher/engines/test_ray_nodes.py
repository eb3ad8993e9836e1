"""A Ray cluster that is running, to which a machine comes, and from which it goes, while a dump is made there."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from softlab.sources.source import Sample
from softlab.teacher.dump_progress import DumpProgress
from tests.clusters import cluster_environment
from tests.store.building import contents
from tests.teacher.dumping import Pictures, dump, make_options

pytestmark = [pytest.mark.process, pytest.mark.slow]

pytest.importorskip("ray")


@dataclass(frozen=True, kw_only=True)
class Slow(Pictures):
    """In workers."""

    driver: int

    def read(self, index: int) -> Sample:
        if os.getpid() != self.driver:
            time.sleep(0.05)
        return super().read(index)


def test_a_machine_that_comes_is_used_and_one_that_goes_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    dump(tmp_path / "alone", source=Pictures(count=640))
    with cluster_environment() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        added, counts = list[object](), list[int | None]()

        def on_progress(progress: DumpProgress) -> None:
            counts.append(progress.num_workers)
            if progress.rows >= 32 and not added:
                added.append(cluster.add_node(num_cpus=1))
            if progress.num_workers == 2 and len(added) == 1:
                cluster.remove_node(added[0], allow_graceful=False)
                added.append("gone")

        try:
            options = make_options(engine="ray", devices=2, ray_address=cluster.address)
            summary = dump(
                tmp_path / "store", options, source=Slow(count=640, driver=os.getpid()), on_progress=on_progress
            )
        finally:
            cluster.shutdown()

    assert (summary.rows_computed, len(added)) == (640, 2)
    assert [count for count, before in zip(counts, [None, *counts], strict=False) if count != before] == [0, 1, 2, 1]
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")

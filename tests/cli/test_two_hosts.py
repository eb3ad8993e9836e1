"""Two hosts of one torchrun: they dump one store and train one student, and a cable that is pulled for a while."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from softlab.store.folder import count_finished_shards
from tests.cli.program import DATA, TEACHER, Softlab, train
from tests.hosts import Host, two_hosts, wait_for
from tests.store.building import contents

pytestmark = [pytest.mark.process, pytest.mark.slow]

DUMP = ("dump-teacher", *TEACHER, "--device", "cpu", "--k", "4", "--set", "dump.shard_rows=16", "--batch-size", "16")
CUT_S = 30


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    with two_hosts(tmp_path_factory.mktemp("hosts")) as found:
        yield found


def run_on_both(hosts: list[Host], folder: Path, *arguments: object) -> list[str]:
    """What they print."""
    outs = [folder / f"{host.name}.out" for host in hosts]
    processes = [host.torchrun(*arguments, out=out) for host, out in zip(hosts, outs, strict=True)]
    codes = wait_for(processes)
    told = [out.read_text() for out in outs]
    assert codes == [0, 0], told
    return told


def test_two_hosts_dump_the_store_of_one_process_onto_a_shared_folder(
    hosts: list[Host], tmp_path: Path, softlab: Softlab
) -> None:
    source = ("--source", DATA / "train", "--limit", 320)
    assert softlab(*DUMP, *source, "--out", tmp_path / "alone").code == 0

    told = run_on_both(hosts, tmp_path, *DUMP, *source, "--out", tmp_path / "store")

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")
    assert [text.count("rows/s") for text in told] == [1, 0]


def test_two_hosts_train_the_student_of_one_process_each_with_a_cache_of_its_own(
    hosts: list[Host], stores: Path, tmp_path: Path, softlab: Softlab
) -> None:
    """Each epoch has the same order, whatever the number of ranks: the steps, and so the weights, are those of one."""
    arguments = (*train(stores / "train.zarr", tmp_path / "together"), "--device", "cpu", "--epochs", 2)
    alone = (*train(stores / "train.zarr", tmp_path / "alone"), "--device", "cpu", "--epochs", 2)
    assert softlab(*alone).code == 0

    told = run_on_both(hosts, tmp_path, *arguments)

    assert [text.count("Students of") for text in told] == [1, 0]
    weights, others = (load_file(tmp_path / name / "mlp/last.safetensors") for name in ("together", "alone"))
    torch.testing.assert_close(weights, others, rtol=1e-4, atol=1e-5)
    rows = [sorted(path.name for path in host.cache.rglob("outputs-logits-*")) for host in hosts]
    assert rows[0] == rows[1]
    assert len([name for name in rows[0] if name.endswith(".rows")]) == 1


def test_a_cable_that_is_pulled_for_half_a_minute_delays_a_dump_and_no_more(
    hosts: list[Host], tmp_path: Path, softlab: Softlab
) -> None:
    source, store = ("--source", DATA / "train", "--limit", 3200), tmp_path / "store"
    assert softlab(*DUMP, *source, "--out", tmp_path / "alone").code == 0
    outs = [tmp_path / f"{host.name}.out" for host in hosts]

    processes = [host.torchrun(*DUMP, *source, "--out", store, out=out) for host, out in zip(hosts, outs, strict=True)]
    while count_finished_shards(store) < 5:
        assert not any(process.poll() for process in processes), [out.read_text() for out in outs]
        time.sleep(0.05)
    hosts[1].plug(is_in=False)
    time.sleep(CUT_S)
    is_under_way = [process.poll() for process in processes]
    hosts[1].plug(is_in=True)
    codes = wait_for(processes)

    assert is_under_way == [None, None], [out.read_text() for out in outs]
    assert codes == [0, 0], [out.read_text() for out in outs]
    assert contents(store) == contents(tmp_path / "alone")

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from softlab.store.rows import Rows
from tests.benchmarks.peers.bench import PEERS, Turns, check, prepare, write_given
from tests.benchmarks.peers.own import prepare_take
from tests.benchmarks.peers.peer import Given, Peer, Reader


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return write_given(tmp_path_factory.mktemp("peers") / "given", num_samples=1000)


@pytest.mark.filterwarnings("ignore")  # what a peer warns of is not ours to mend
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_installed_peer_gives_back_the_rows_it_was_given(peer: Peer, tmp_path: Path, given: Given) -> None:
    prepared = prepare(peer, tmp_path, given)

    assert isinstance(prepared, Reader) or prepared.startswith("not installed")


def test_a_peer_without_its_package_is_a_line_that_says_so(tmp_path: Path, given: Given) -> None:
    def prepare_missing(folder: Path, given: Given) -> Reader:
        raise ImportError("No module named 'missing'")

    peer = Peer(name="missing", how="not at all", prepare=prepare_missing)

    assert prepare(peer, tmp_path, given) == "not installed (No module named 'missing')"


@pytest.mark.parametrize("way", ["sequential", "random", "shuffled"])
def test_a_reader_that_gives_other_rows_is_found_out(way: str, tmp_path: Path, given: Given) -> None:
    right = prepare_take(tmp_path, given)
    wrong = {
        "sequential": replace(right, sequential=lambda: (rows_BR[::-1] for rows_BR in right.sequential())),
        "random": replace(right, random=lambda source_B: given.rows_NR[np.sort(source_B)]),
        "shuffled": replace(right, shuffled=lambda: iter([(np.arange(7), given.rows_NR[1:8])])),
    }

    check(right, given, num_rows=len(given.rows_NR))
    with pytest.raises(AssertionError):
        check(wrong[way], given, num_rows=len(given.rows_NR))


def test_a_reader_that_leaves_rows_out_is_found_out(tmp_path: Path, given: Given) -> None:
    right = prepare_take(tmp_path, given)

    with pytest.raises(AssertionError):
        check(replace(right, sequential=lambda: iter([])), given, num_rows=len(given.rows_NR))


def test_a_pass_goes_on_in_the_next_turn_and_starts_again_at_its_end() -> None:
    started: list[int] = []

    def start_pass() -> Iterator[Rows]:
        started.append(0)
        for _ in range(3):
            started[-1] += 1
            yield np.zeros((2, 1), dtype=np.uint8)

    turns = Turns(start_pass, seconds=0)

    assert [turns() for _ in range(4)] == [2, 2, 2, 2]
    assert started == [3, 1]

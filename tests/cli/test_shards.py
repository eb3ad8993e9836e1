"""`dump-teacher --shards`, `finalize`: a dump that commands share that know nothing of each other."""

from pathlib import Path

import pytest

from tests.cli.program import SMALL, TEACHER, TRAIN, Softlab, assert_refused, open_uncached

DUMP = ("dump-teacher", *TEACHER, *TRAIN, *SMALL, "--device", "cpu")


def test_four_shares_and_finalize_make_the_store_of_one_command(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    out = tmp_path / "store"

    first = softlab(*DUMP, "--out", out, "--shards", "2/4")
    early = softlab("finalize", out)
    rest = [softlab(*DUMP, "--out", out, "--shards", text) for text in ("0", "3/4", "0-1")]
    finished = softlab("finalize", out)
    again = softlab("finalize", out)
    late = softlab(*DUMP, "--out", out, "--shards", "2/4")

    assert first.facts() == {
        "store": str(out),
        "shards": "1 of 4",
        "rows": "64 of 200",
        "bytes": first.facts()["bytes"],
        "missing": "0-1,3",
        "next": f"softlab finalize {out}, once all shards are there",
    }
    assert_refused(early, "3 of 4 shards are missing: 0-1,3. Run those", "then finalize again")
    assert rest[-1].facts()["next"] == f"softlab finalize {out}"
    assert [each.code for each in (first, *rest, finished, again, late)] == [0] * 7
    assert finished.out == again.out
    assert finished.facts()["digest"] == open_uncached(stores / "train.zarr").digest
    assert late.facts()["next"] == "nothing, the store is finished"


@pytest.mark.parametrize(
    ("shards", "told"),
    [("4/4", "I of I/N counts from 0"), ("9", "there is no shard 9, they are 0 to 3"), ("x", "Write `shards = 0/8`")],
)
def test_what_is_no_share_is_refused(tmp_path: Path, softlab: Softlab, shards: str, told: str) -> None:
    assert_refused(softlab(*DUMP, "--out", tmp_path / "store", "--shards", shards), told, "--shards")


def test_where_nobody_began_there_is_nothing_to_finalize(tmp_path: Path, softlab: Softlab) -> None:
    assert_refused(softlab("finalize", tmp_path / "nothing"), "nothing")

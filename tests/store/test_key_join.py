import unicodedata
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import StoreWriteFailed
from softlab.keys import Keys
from softlab.store import key_join
from softlab.store.key_join import find_among, hashes_of

# Few different ones, so that many are found, and found twice; of all lengths around words of 8 bytes.
TEXTS = st.text("aé\0", max_size=3) | st.integers(0, 40).map(lambda count: "x" * count) | st.text(max_size=20)
KEYS = st.lists(TEXTS, max_size=40)


def cut(keys: list[str], cuts: list[int]) -> list[Keys]:
    """Into blocks, of which some are empty."""
    bounds = sorted(min(each, len(keys)) for each in cuts)
    return [Keys(keys[start:stop]) for start, stop in zip([0, *bounds], [*bounds, len(keys)], strict=True)]


@pytest.fixture(params=[1 << 24, 0], ids=["in memory", "on the disk"], scope="module", autouse=True)
def where_hashes_are_sorted(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_join, "IN_MEMORY_KEYS", request.param)
        patch.setattr(key_join, "BLOCK_KEYS", 7)
        yield


@given(ours=KEYS, wanted=KEYS, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_they_are_found_where_all_keys_in_memory_find_them(ours: list[str], wanted: list[str], cuts: list[int]) -> None:
    ours = list(dict.fromkeys(unicodedata.normalize("NFC", key) for key in ours))
    blocks = cut(ours, cuts)

    found = find_among(lambda: blocks, Keys(wanted))
    assert found.tolist() == Keys(ours).find_in_any_form(Keys(wanted)).tolist()


@given(ours=KEYS, wanted=KEYS, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_of_keys_that_are_there_twice_the_first_one_is_found(
    ours: list[str], wanted: list[str], cuts: list[int]
) -> None:
    ours, wanted = ([key.encode("ascii", "replace").decode() for key in keys] for keys in (ours, wanted))
    blocks = cut(ours, cuts)

    assert find_among(lambda: blocks, Keys(wanted)).tolist() == Keys(ours).find(Keys(wanted)).tolist()


def test_a_key_of_a_mac_is_found_in_another_form_unless_two_have_it() -> None:
    decomposed, composed = "e\u0301.jpg", "\u00e9.jpg"

    assert find_among(lambda: [Keys(["a", decomposed])], Keys([composed])).tolist() == [1]
    assert find_among(lambda: [Keys([composed]), Keys(["a"])], Keys(["a", decomposed])).tolist() == [1, 0]
    two_forms = Keys(["q\u0307\u0323", "q\u0323\u0307"])  # both are another way to write the third one
    assert find_among(lambda: [two_forms], Keys(["q\u0323\u0307", "z\u0301"])).tolist() == [1, -1]


@given(keys=st.lists(TEXTS, min_size=1, max_size=40), data=st.data())
def test_a_hash_hangs_on_the_key_alone(keys: list[str], data: st.DataObject) -> None:
    """And not on where it lies in memory, or what lies beside it."""
    start = data.draw(st.integers(0, len(keys) - 1))
    alone = [int(hashes_of(Keys([key]))[0]) for key in keys[start:]]

    assert hashes_of(Keys(keys)[start:]).tolist() == alone
    assert len(set(alone)) == len(set(keys[start:]))


def test_hashes_of_similar_keys_are_spread_evenly() -> None:
    hashes = hashes_of(Keys(f"train/{number % 10}/{number:08d}.jpg" for number in range(200_000)))

    assert len(np.unique(hashes)) == 200_000
    counts = np.bincount((hashes >> np.uint64(54)).astype(np.int64), minlength=1024)
    assert counts.min() > 120
    assert counts.max() < 280


def test_temporary_files_are_gone_afterwards(tmp_path: Path) -> None:
    find_among(lambda: [Keys(["a", "b"])], Keys(["b"]), folder=tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_before_anything_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_join, "IN_MEMORY_KEYS", 0)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", lambda dir: FileIO("/dev/full", "wb"))

    with pytest.raises(StoreWriteFailed, match=r"No space left on device .* make room"):
        find_among(lambda: [Keys(["a"])], Keys(["a"]))


def test_keys_with_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_join, "hashes_of", lambda keys: np.zeros(len(keys), dtype=np.uint64))
    keys = [str(number) for number in range(20)]

    assert find_among(lambda: [Keys(keys)], Keys(["7", "x", "7", "19"])).tolist() == [7, -1, 7, 19]

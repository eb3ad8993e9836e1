"""A sequence of keys behaves as a list of the same strings would."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab import keys as keys_module
from softlab.errors import InvalidOption
from softlab.keys import KeyIndex, Keys, find_all, read_keys

texts = st.text("aü\0😀/", max_size=4) | st.text(max_size=4)
lists = st.lists(texts, max_size=12)
bounds = st.none() | st.integers(-15, 15)
slices = st.builds(slice, bounds, bounds, st.none() | st.integers(-4, 4).filter(bool))


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few keys are several blocks."""
    monkeypatch.setattr(keys_module, "BLOCK_KEYS", 3)


@given(lists)
def test_keys_are_the_strings_that_they_were_made_of(strings: list[str]) -> None:
    keys = Keys(strings)

    assert len(keys) == len(strings)
    assert list(keys) == strings
    assert [keys[number] for number in range(-len(strings), len(strings))] == strings + strings
    assert list(reversed(keys)) == strings[::-1]
    assert all(key in keys for key in strings)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7, 100])
def test_keys_may_come_one_by_one_in_any_number_of_blocks(count: int) -> None:
    strings = [f"ü{number}" for number in range(count)]

    assert list(Keys(string for string in strings)) == strings


@given(lists, slices, slices)
def test_a_slice_of_a_slice_is_that_of_the_list(strings: list[str], first: slice, second: slice) -> None:
    part = Keys(strings)[first][second]

    assert isinstance(part, Keys)
    assert list(part) == strings[first][second]
    assert part == strings[first][second]


@given(lists, lists | st.nothing())
def test_keys_are_equal_where_their_strings_are(one: list[str], other: list[str]) -> None:
    is_equal = one == other

    assert (Keys(one) == Keys(other)) == is_equal
    assert (Keys(one) == other) == is_equal
    assert (tuple(one) == Keys(other)) == is_equal
    assert (Keys(one) != Keys(other)) != is_equal


@given(lists, slices)
def test_a_slice_equals_keys_of_the_same_strings_wherever_they_lie(strings: list[str], chosen: slice) -> None:
    assert Keys(strings)[chosen] == Keys(strings[chosen])


def test_keys_equal_nothing_else_and_are_not_hashed() -> None:
    assert Keys(["a"]) != "a"
    assert Keys(["a"]) != {"a"}
    with pytest.raises(TypeError, match="unhashable"):
        hash(Keys(["a"]))


@pytest.mark.parametrize("number", [3, -4])
def test_there_is_no_key_beyond_the_last(number: int) -> None:
    with pytest.raises(IndexError):
        Keys(["a", "b", "c"])[number]


@given(st.lists(texts, unique=True), st.lists(texts))
def test_an_index_finds_what_a_search_of_all_keys_finds(strings: list[str], others: list[str]) -> None:
    keys, wanted = Keys(strings), [*others, *strings[::-2], *others]

    assert KeyIndex(keys).find(wanted).tolist() == keys.find(Keys(wanted)).tolist()


def test_an_index_takes_no_key_for_another_of_the_same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "_hashes", lambda keys: np.zeros(len(keys), dtype=np.uint64))

    assert KeyIndex(Keys(["a", "b"])).find(["a", "c"]).tolist() == [0, -1]


@given(lists, slices)
def test_a_pickled_slice_is_the_same_keys(strings: list[str], chosen: slice) -> None:
    assert list(pickle.loads(pickle.dumps(Keys(strings)[chosen]))) == strings[chosen]


def test_a_pickled_slice_leaves_the_other_keys_behind() -> None:
    keys = Keys(f"{number:100}" for number in range(10_000))

    assert len(pickle.dumps(keys)) > 1_000_000
    assert len(pickle.dumps(keys[5000:5003])) < 1000


@given(st.lists(lists, max_size=4), slices)
def test_joined_parts_follow_each_other(parts: list[list[str]], chosen: slice) -> None:
    joined = Keys.join(Keys(part)[chosen] for part in parts)

    assert list(joined) == [key for part in parts for key in part[chosen]]


@given(lists.filter(bool), st.data())
def test_keys_are_taken_by_their_numbers_with_repeats(strings: list[str], data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, len(strings) - 1)))

    assert list(Keys(strings).take(np.array(numbers, dtype=np.int64))) == [strings[number] for number in numbers]


@given(st.lists(texts, unique=True, max_size=12), lists, slices)
def test_other_keys_are_found_by_their_place(strings: list[str], others: list[str], chosen: slice) -> None:
    found = Keys(strings)[chosen].find(Keys(others))

    held = strings[chosen]
    assert found.dtype == np.int64
    assert found.tolist() == [held.index(other) if other in held else -1 for other in others]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.string_view()])
@given(chunks=st.lists(lists, max_size=3))
def test_keys_of_arrow_are_those_of_all_chunks(type_: pa.DataType, chunks: list[Sequence[str]]) -> None:
    keys = Keys.from_arrow(pa.chunked_array([pa.array(chunk, type_) for chunk in chunks], type_))

    assert list(keys) == [key for chunk in chunks for key in chunk]
    assert keys.to_arrow().type == pa.large_string()


@pytest.mark.parametrize("strings", [["a", None, "b"], [None, None]])
def test_an_arrow_array_with_a_null_is_refused(strings: list[str | None]) -> None:
    with pytest.raises(ValueError, match="keys are null"):
        Keys.from_arrow(pa.array(strings, pa.string()))


def test_a_string_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        Keys(["a", "\udcff"])


def test_a_key_takes_little_more_than_its_text() -> None:
    array = Keys(f"{number:022}" for number in range(100_000)).to_arrow()

    assert array.nbytes < 100_000 * (22 + 8 + 1)


def test_few_are_shown() -> None:
    assert repr(Keys("abcdef")) == "<6 keys: 'a', 'b', 'c', ...>"


# In a file.


@pytest.mark.parametrize("text", ["a\nb c\n\u00fc\n", "a\r\nb c\r\n\u00fc", "\ufeffa\n\nb c\n  \n\u00fc\n\n"])
def test_keys_are_read_from_a_file_one_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.txt").write_bytes(text.encode())

    assert read_keys(tmp_path / "keys.txt") == ["a", "b c", "\u00fc"]


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xff\xfe", None])
def test_a_file_without_keys_is_refused(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "keys.txt").write_bytes(data)

    with pytest.raises(InvalidOption, match="Give a text file with one key a line"):
        read_keys(tmp_path / "keys.txt")


def test_keys_are_found_in_the_order_of_those_they_are_among() -> None:
    assert find_all(Keys(["d", "a", "d"]), Keys("abcd"), where="here").tolist() == [0, 3]


def test_a_key_is_found_in_another_unicode_form_where_that_tells_one() -> None:
    """A folder that was copied from a Mac has é as two characters; here in both orders."""
    composed, apart = Keys(["é/1", "a/1", "ß/1"]), Keys(["e\u0301/1", "b/1", "a/1"])
    both = Keys(["é/1", "e\u0301/1"])

    assert composed.find(apart).tolist() == [-1, -1, 1]
    assert composed.find_in_any_form(apart).tolist() == [0, -1, 1]
    assert apart.find_in_any_form(composed).tolist() == [0, 2, -1]
    assert both.find_in_any_form(Keys(["e\u0301/1", "é/1", "é/2"])).tolist() == [1, 0, -1]

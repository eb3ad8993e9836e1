from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from softlab.identity import (
    ContentHashes,
    SourceFingerprint,
    content_hash,
    digest_of,
    fields_hash,
    keys_fingerprint,
    label_space_fingerprint,
    source_fingerprint,
)
from softlab.keys import Keys

EMPTY_BLAKE3 = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
"""From BLAKE3's published test vectors, input_len 0."""

Fields = dict[str, bytes | str | tuple[str, ...] | np.ndarray[Any, Any]]

keys = st.lists(st.text("ab\0", max_size=3), max_size=4)
contents = st.binary(max_size=3).map(content_hash)


def test_digests_are_blake3() -> None:
    assert digest_of(b"") == EMPTY_BLAKE3
    assert digest_of(memoryview(b"")) == EMPTY_BLAKE3


def test_a_content_hash_is_the_first_16_bytes_of_blake3() -> None:
    assert content_hash(b"") == bytes.fromhex(EMPTY_BLAKE3)[:16]


# Hashes of fields.


def test_a_single_field_of_bytes_has_the_hash_of_these_bytes() -> None:
    assert fields_hash({"image": b"abc"}) == fields_hash({"photo": b"abc"}) == content_hash(b"abc")


def test_hashes_of_fields_stay_the_same() -> None:
    """They are in stores on disk."""
    fields: Fields = {"text": "zwölf", "vector": np.array([[0.5, -1.0]], np.float32), "image": b"\0"}

    assert fields_hash(fields).hex() == "71826102e9900a6fb04abe49e5a9d8d5"
    assert fields_hash(fields | {"vector": np.array([[0.5, -1.0]], ">f4")}) == fields_hash(fields)


def test_different_fields_have_different_hashes() -> None:
    numbers = np.arange(6, dtype=np.int32)
    fields: list[Fields] = [
        {"a": "x"},
        {"b": "x"},
        {"a": "x", "b": ""},
        {"b": "", "a": "x"},
        {"a": "x", "b": b""},
        {"a": numbers},
        {"a": numbers.reshape(2, 3)},
        {"a": numbers.view(np.uint32)},
        {"a": numbers.astype(np.int64)},
        {"a": np.array(3)},
        {"a": b"x"},
        {"a": ("x",)},
        {"a": ("x", "y")},
        {"a": ("xy",)},
        {"a": ()},
    ]

    assert len({fields_hash(each) for each in fields}) == len(fields)


@given(keys, keys)
def test_different_keys_have_different_fingerprints(some: list[str], others: list[str]) -> None:
    assume(some != others)

    assert keys_fingerprint(some) != keys_fingerprint(others)


@given(st.lists(st.tuples(st.text("ab", max_size=2), contents), max_size=3), st.data())
def test_different_samples_have_different_fingerprints(some: list[tuple[str, bytes]], data: st.DataObject) -> None:
    others = data.draw(st.permutations(some) | st.lists(st.tuples(st.text("ab", max_size=2), contents), max_size=3))
    assume(some != others)

    assert fingerprint_of(some) != fingerprint_of(others)


def fingerprint_of(samples: list[tuple[str, bytes]]) -> str:
    return source_fingerprint([key for key, _ in samples], [content for _, content in samples])


@pytest.mark.parametrize("other", [["abc"], ["a", "bc"], ["ab", "c", ""], ["", "ab", "c"], ["ab\0c"], ["c", "ab"]])
def test_keys_do_not_run_together(other: list[str]) -> None:
    assert keys_fingerprint(["ab", "c"]) != keys_fingerprint(other)


def test_a_changed_content_changes_the_source() -> None:
    before = source_fingerprint(["a", "b"], [content_hash(b"cat"), content_hash(b"dog")])

    assert source_fingerprint(["a", "b"], [content_hash(b"cat"), content_hash(b"dog ")]) != before
    assert source_fingerprint(["a", "b"], [content_hash(b"dog"), content_hash(b"cat")]) != before


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    """Pinned, because stores of earlier versions carry it."""
    assert keys_fingerprint(["a", "b"]) == "16232d5b498e2b63c996827371a6129e80300923e033627284662f784f443744"
    assert (
        source_fingerprint(["a"], [content_hash(b"cat")])
        == "b62be98a460f8f5ebc26f9bde4bc954d3c2660a1442dfc712a70fd2558a58a37"
    )
    assert (
        label_space_fingerprint(2, ["cat", "dog"]) == "6c13eb9e820d5fb125cf7c26623489b8954cf453501ce75574d063cec5951d69"
    )


def test_fingerprints_of_many_keys_are_those_of_earlier_versions() -> None:
    """Pinned too; more than are made Python objects of at a time."""
    strings = [f"{number}/ü.png" for number in range(70_000)]
    hashes = [content_hash(key.encode()) for key in strings]
    of_keys = "0c0cf8fc47fe37cbfd4e4323a7f5223a5015973dcc47d437a3b6ae77f1d3ffdb"
    of_source = "c140b2e572a9503e0ab529f5743c8c23dd057c88b20fee498bfe4e755a5e9faf"

    assert keys_fingerprint(strings) == keys_fingerprint(Keys(strings)) == of_keys
    assert source_fingerprint(strings, hashes) == of_source
    assert source_fingerprint(Keys(strings), ContentHashes(hashes)) == of_source
    assert keys_fingerprint([]) == "fa0adbaf72a35fcc9f715e7944d32a973e1d4de90c193630e037d8f27466cb4f"


@given(st.lists(st.tuples(st.text(max_size=12), st.binary(min_size=16, max_size=16)), max_size=20))
def test_a_fingerprint_hashes_each_part_behind_its_length(samples: list[tuple[str, bytes]]) -> None:
    keys, hashes = [key for key, _ in samples], [content for _, content in samples]
    behind = [len(part).to_bytes(8, "little") + part for key, content in samples for part in (key.encode(), content)]

    of_keys, of_source = b"\4\0\0\0\0\0\0\0keys", b"\6\0\0\0\0\0\0\0source"
    assert keys_fingerprint(keys) == keys_fingerprint(Keys(keys)) == digest_of(of_keys + b"".join(behind[::2]))
    assert source_fingerprint(keys, hashes) == digest_of(of_source + b"".join(behind))
    assert source_fingerprint(Keys(["", *keys])[1:], ContentHashes(hashes)) == source_fingerprint(keys, hashes)


@given(samples=st.lists(st.tuples(st.text("ab\0", max_size=3), contents), max_size=8), data=st.data())
def test_a_fingerprint_of_samples_that_come_some_at_a_time_is_that_of_all(
    samples: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    found, start = SourceFingerprint(), 0
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=4)))
    for stop in [*cuts, len(samples)]:
        part = samples[start:stop]
        found.add([key for key, _ in part], [content for _, content in part])
        start = stop

    assert found.hexdigest() == source_fingerprint([key for key, _ in samples], [content for _, content in samples])


def test_every_key_needs_a_content_hash() -> None:
    with pytest.raises(ValueError, match="2 keys and 1 content hashes"):
        source_fingerprint(["a", "b"], [content_hash(b"cat")])


@pytest.mark.parametrize(
    "other",
    [
        lambda: label_space_fingerprint(2, ["dog", "cat"]),
        lambda: label_space_fingerprint(2, ["cat", "Dog"]),
        lambda: label_space_fingerprint(2, ["catdog", ""]),
        lambda: label_space_fingerprint(2, None),
        lambda: label_space_fingerprint(3, ["cat", "dog"]),
        lambda: keys_fingerprint(["2", "cat", "dog"]),  # what it is a fingerprint of is part of it
    ],
)
def test_a_label_space_is_its_classes_in_order(other: Callable[[], str]) -> None:
    assert label_space_fingerprint(2, ["cat", "dog"]) != other()


# Content hashes of many samples.

hash_lists = st.lists(st.binary(min_size=16, max_size=16), max_size=8)
bounds = st.none() | st.integers(-10, 10)
slices = st.builds(slice, bounds, bounds, st.none() | st.integers(-3, 3).filter(bool))


@given(hash_lists, slices)
def test_content_hashes_are_a_sequence_of_the_same_bytes(hashes: list[bytes], chosen: slice) -> None:
    held = ContentHashes(hashes)

    assert len(held) == len(hashes)
    assert list(held) == hashes
    assert [held[number] for number in range(-len(hashes), len(hashes))] == hashes + hashes
    assert list(held[chosen]) == hashes[chosen]
    assert held[chosen] == ContentHashes(hashes[chosen]) == hashes[chosen]


@given(hash_lists, hash_lists)
def test_content_hashes_are_equal_where_their_bytes_are(one: list[bytes], other: list[bytes]) -> None:
    assert (ContentHashes(one) == ContentHashes(other)) == (one == other)
    assert (one == ContentHashes(other)) == (one == other)


def test_content_hashes_are_not_copied() -> None:
    held = ContentHashes([content_hash(b"cat"), content_hash(b"dog")])

    assert ContentHashes(held).bytes_N16 is held.bytes_N16
    assert np.shares_memory(held[1:].bytes_N16, held.bytes_N16)
    assert np.shares_memory(ContentHashes.from_bytes(held.bytes_N16).bytes_N16, held.bytes_N16)


@pytest.mark.parametrize("hashes", [[bytes(15)], [bytes(16), bytes(17), bytes(15)]])
def test_a_content_hash_of_another_length_is_refused(hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"a content hash has 16 bytes, not 1[57]"):
        ContentHashes(hashes)

import json
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption, NotAStore, UnsupportedStore
from softlab.manifest import Manifest, check_plan, decode_manifest, encode
from softlab.manifest.strict_json import decode_strictly
from softlab.manifest.versions import TagRecord, VersionRecord, summarise
from softlab.store.published import decode_record
from tests.benchmarks.stores import write_manifest_alone
from tests.manifests import make_manifest, with_own_hash

GOOD = encode(make_manifest())
VERSION = VersionRecord(
    name="pets",
    version=3,
    digest="ab" * 32,
    manifest_bytes=len(GOOD),
    published="2026-01-02T03:04:05Z",
    writer="0" * 32,
    licence="CC0-1.0",
    terms="",
    summary=summarise(make_manifest()),
)
TAG = TagRecord(name="pets", tag="latest", version=3, moved="2026-01-02T03:04:05Z", writer="0" * 32)
RECORDS = {"manifest": msgspec.json.decode(GOOD, type=Manifest), "version": VERSION, "tag": TAG}


def with_arguments(text: bytes) -> bytes:
    """The good manifest with something in the one place where anything may stand."""
    assert GOOD.count(b'"num_classes": 5') == 2
    return GOOD.replace(b'"num_classes": 5', text, 1)


def nested(levels: int) -> bytes:
    return with_arguments(b'"x": ' + b"[" * levels + b"]" * levels)


# One meaning.


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_read_however_its_bytes_are_spaced(name: str) -> None:
    record: Any = RECORDS[name]
    tree = json.loads(encode(record))

    for text in (json.dumps(tree), json.dumps(tree, indent=7), json.dumps(dict(reversed(tree.items())))):
        assert decode_strictly(text.encode(), type(record)) == record


@pytest.mark.parametrize("name", RECORDS)
@given(data=st.data())
def test_no_key_may_stand_twice_in_any_object(name: str, data: st.DataObject) -> None:
    record: Any = RECORDS[name]
    lines = encode(record).split(b"\n")
    keyed = [number for number, line in enumerate(lines) if re.search(rb'": ["\d]', line)]
    number = data.draw(st.sampled_from(keyed))
    repeated = lines[number].rstrip(b",")
    twice = b"\n".join([*lines[:number], repeated + b",", *lines[number:]])

    with pytest.raises(ValueError, match="stands twice in one object"):
        decode_strictly(twice, type(record))


REPEATS = {
    "at the end": GOOD.rstrip(b"}\n") + b',"kind": "soft-labels"}',
    "spelt otherwise": GOOD.replace(b'"kind": ', b'"\\u006bind": "soft-labels", "kind": ', 1),
    "in a teacher's arguments": with_arguments(b'"num_classes": 7, "num_classes": 5'),
    "in arguments in arguments": with_arguments(b'"x": [{"y": {"z": 1, "z": 2}}]'),
    "a whole part": GOOD.replace(b'"coding": {', b'"coding": {"logits": "uint8", "gap_step": 1.0}, "coding": {', 1),
    "beside a key that may be left out": GOOD.replace(b'   "head": "softmax",\n', b"").replace(
        b'"kind": ', b'"kind": "soft-labels", "kind": ', 1
    ),
}


@pytest.mark.parametrize("name", REPEATS)
def test_a_manifest_in_which_a_key_stands_twice_is_refused(name: str) -> None:
    assert REPEATS[name] != GOOD

    with pytest.raises(NotAStore, match=re.escape("stands twice in one object. Get the store again.")):
        decode_manifest(REPEATS[name], where="store")


def test_a_key_that_may_be_left_out_may_be_left_out() -> None:
    older = json.loads(GOOD)
    del older["outputs"][0]["head"]

    manifest, _ = decode_manifest(with_own_hash(older), where="store")

    assert manifest == make_manifest()


# Bounds.

HOSTILE = {
    "NaN": with_arguments(b'"x": NaN'),
    "infinity": with_arguments(b'"x": -Infinity'),
    "a number beyond a double": with_arguments(b'"x": 1e400'),
    "an integer of 5,000 digits": with_arguments(b'"x": ' + b"7" * 5000),
    "an integer of 5,000 digits for a count": GOOD.replace(b'"num_views": 2', b'"num_views": ' + b"2" * 5000),
    "lists 17 deep": nested(17),
    "lists 900 deep": nested(900),
    "lists 100,000 deep": nested(100_000),
    "tables 100,000 deep": with_arguments(b'"x": ' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000),
    "deep lists in a transform": encode(
        make_manifest(views=msgspec.convert({"num_views": 2, "transforms": [{"name": "x", "arguments": {}}]}, Any))
    ).replace(b'"arguments": {}', b'"arguments": {"x": ' + b"[" * 40 + b"]" * 40 + b"}"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_numbers_and_nesting_are_refused_at_once(name: str) -> None:
    started = time.monotonic()

    with pytest.raises(NotAStore, match=re.escape("Get the store again.")):
        decode_manifest(HOSTILE[name], where="store")

    assert time.monotonic() - started < 1


def test_arguments_may_be_nested_as_deep_as_a_model_needs() -> None:
    manifest, _ = decode_manifest(with_own_hash(json.loads(nested(15))), where="store")

    assert str(manifest.teacher.arguments["x"]).count("[") == 15


def test_what_could_not_be_opened_is_not_planned_either() -> None:
    deep: dict[str, Any] = {}
    for _ in range(20):
        deep = {"x": deep}
    plan = decode_manifest(GOOD, where="store")[0].plan
    teacher = msgspec.structs.replace(plan.teacher, arguments=deep)

    with pytest.raises(InvalidOption, match="arguments are nested more than 16 deep"):
        check_plan(msgspec.structs.replace(plan, teacher=teacher))


def test_a_manifest_is_not_checked_by_pythons_own_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes ten times as long as decoding."""
    write_manifest_alone(tmp_path / "store", num_shards=20)
    data = (tmp_path / "store/manifest.json").read_bytes()
    monkeypatch.delattr(json.JSONDecoder, "raw_decode")

    assert decode_strictly(data, Manifest).storage == msgspec.json.decode(data, type=Manifest).storage


# Records of publications.


@pytest.mark.parametrize("record", [VERSION, TAG])
def test_records_of_a_newer_format_ask_for_an_upgrade(record: Any) -> None:
    tree = json.loads(encode(record)) | {"format_version": 2, "new": {}}

    with pytest.raises(UnsupportedStore, match=re.escape("Upgrade softlab.")):
        decode_record(json.dumps(tree).encode(), type(record), where="place/pets")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format_version": "1"}',
        b"[" * 100_000,
        encode(TAG).replace(b'"version": 3', b'"version": 3, "version": 4'),
        encode(TAG).replace(b'"version": 3', b'"version": 1e400'),
        encode(TAG).replace(b'"version": 3', b'"version": ' + b"3" * 5000),
        encode(TAG).replace(b'"pets"', b'"../pets"'),
        encode(VERSION),
    ],
)
def test_what_is_no_tag_is_refused(data: bytes) -> None:
    with pytest.raises(NotAStore, match=re.escape("Check the address.")):
        decode_record(data, TagRecord, where="place/pets/tags/latest.json")

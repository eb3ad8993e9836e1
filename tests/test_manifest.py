import contextlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import NotAStore, StoreError, UnsupportedStore
from softlab.identity import digest_of
from softlab.manifest import Statistics, add_up, decode_manifest, encode
from tests.manifests import GRID, make_manifest, set_at, with_own_hash

GOOD = encode(make_manifest())
SPAN = {"start": 0, "stop": 1, "precision": "float32"}
HEADER = b'{"format": "softlab", "format_version": 2, '


def decode(data: bytes) -> None:
    decode_manifest(data, where="store/manifest.json")


def changed(*changes: tuple[str, Any]) -> bytes:
    """The good manifest with other values at some paths such as `shards.0.view`."""
    tree = json.loads(GOOD)
    for path, value in changes:
        set_at(tree, path, value)
    return with_own_hash(tree)


def without(key: str) -> bytes:
    tree = json.loads(GOOD)
    del tree[key]
    return with_own_hash(tree)


def with_shards(*numbers: int) -> bytes:
    """The good manifest's shards in another order, repeated or left out."""
    return changed(("shards", [json.loads(GOOD)["shards"][number] for number in numbers]))


def with_fields(*numbers: int) -> tuple[str, Any]:
    """A change: the good manifest's arrays in another order, repeated or left out."""
    return ("storage.fields", [json.loads(GOOD)["storage"]["fields"][number] for number in numbers])


def field(name: str, row_shape: Sequence[int] = ()) -> dict[str, Any]:
    return {"name": name, "dtype": "uint16", "row_shape": list(row_shape), "chunk_rows": 1}


def test_what_is_encoded_is_decoded() -> None:
    manifest, digest = decode_manifest(GOOD, where="store")

    assert manifest == make_manifest()
    assert digest == digest_of(GOOD)


def test_the_same_manifest_is_the_same_bytes() -> None:
    libraries = {"torch": "2.6.0", "python": "3.11.7"}  # in another order

    assert encode(make_manifest(libraries=libraries)) == GOOD
    assert encode(decode_manifest(GOOD, where="store")[0]) == GOOD


def test_a_manifest_can_be_read_by_a_person() -> None:
    assert json.loads(GOOD)["outputs"][0]["selection"] == {"method": "topk", "k": 3, "temperatures": [1.0, 4.0]}
    assert GOOD.count(b"\n") > 100
    assert GOOD.endswith(b"}\n")


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused(position: int, flip: int) -> None:
    data = bytearray(GOOD)
    data[position] ^= flip

    with pytest.raises(StoreError):
        decode(bytes(data))


@given(st.integers(0, len(GOOD) - 3))
def test_a_cut_off_manifest_is_refused(length: int) -> None:
    with pytest.raises(NotAStore, match=re.escape("Get the store again.")):
        decode(GOOD[:length])


PARTS = {"part_rows": 6, "files": [json.loads(GOOD)["samples_file"] | {"path": "samples/part-00001.parquet"}]}
"""The second one of two parts of the table of samples."""

WRONG: dict[str, dict[str, bytes]] = {
    "is not a plain relative path inside the store": {
        "parent folder": changed(("samples_file.path", "../x")),
        "parent folder inside": changed(("samples_file.path", "outputs/../../x")),
        "absolute path": changed(("samples_file.path", "/etc/passwd")),
        "two leading slashes": changed(("samples_file.path", "//host/share")),
        "drive": changed(("samples_file.path", "C:/x")),
        "drive without a slash": changed(("samples_file.path", "C:x")),
        "backslash": changed(("samples_file.path", "..\\x")),
        "NUL": changed(("samples_file.path", "samples\0.parquet")),
        "line break": changed(("samples_file.path", "samples.parquet\n")),
        "right-to-left mark": changed(("samples_file.path", "samples\u202e.parquet")),
        "leading dot folder": changed(("samples_file.path", "./samples.parquet")),
        "dot folder inside": changed(("samples_file.path", "outputs/./x")),
        "the store itself": changed(("samples_file.path", ".")),
        "dot at the end": changed(("samples_file.path", "samples.parquet.")),
        "space at the end": changed(("samples_file.path", "outputs /x")),
        "doubled slash": changed(("samples_file.path", "outputs//x")),
        "slash at the end": changed(("samples_file.path", "outputs/")),
        "wildcard": changed(("samples_file.path", "outputs/*")),
        "unsafe layout file": changed(("layout_files.0.path", "../zarr.json")),
        "unsafe shard file": changed(("shards.5.files.2.path", "../0")),
    },
    "$.": {
        "no path": changed(("samples_file.path", "")),
        "path of 513 letters": changed(("samples_file.path", "x" * 513)),
        "unknown key inside": changed(("teacher.code", "import os")),
        "text for a number": changed(("source.num_samples", "10")),
        "number with a fraction": changed(("source.num_samples", 10.5)),
        "yes for a number": changed(("shards.0.view", True)),
        "format version as text": changed(("format_version", "2")),
        "null for a part": changed(("teacher", None)),
        "number for a path": changed(("samples_file.path", 7)),
        "float beyond a double": GOOD.replace(b"4.0", b"1e999", 1),
        "integer of 10,000 digits": GOOD.replace(b'"num_views": 2', b'"num_views": ' + b"2" * 10_000),
        "negative count": changed(("samples_file.bytes", -1)),
        "negative view": changed(("shards.0.view", -1)),
        "no samples": changed(("source.num_samples", 0), ("shards", [])),
        "temperature 0": changed(("outputs.0.selection.temperatures.0", 0.0)),
        "no temperature": changed(("outputs.0.selection.temperatures", [])),
        "short fingerprint": changed(("source_fingerprint", "abc")),
        "fingerprint and a line break": changed(("source_fingerprint", "a" * 64 + "\n")),
        "unknown head": changed(("outputs.0.head", "tanh")),
        "unknown kind": changed(("kind", "sigmoid")),
        "unknown kind of output": changed(("outputs.0.kind", "boxes")),
        "no kind of output": changed(("outputs.1", {"name": "pooled", "taken_from": "output"})),
        "values with a label space": changed(("outputs.0.kind", "values")),
        "classes without a label space": changed(("outputs.1.kind", "classes")),
        "no output": changed(("outputs", []), ("storage.fields", [])),
        "no input": changed(("inputs", [])),
        "output name with a slash": changed(("outputs.1.name", "a/b")),
        "output name of 65 letters": changed(("outputs.1.name", "x" * 65)),
        "no room for units": changed(("storage.shard_units", 0)),
        "statistics of no output": changed(("statistics", json.loads(GOOD)["statistics"]["logits"])),
        "hash of itself too long": GOOD.replace(b'"self": "', b'"self": "0'),
        "unknown store format": changed(("storage.format", "pickle")),
        "object arrays": changed(("storage.fields.0.dtype", "object")),
        "field outside of the groups": changed(("storage.fields.0.name", "commits/x")),
        "field name with a path": changed(("storage.fields.4.name", "outputs/../x")),
        "field name with a line break": changed(
            ("storage.fields.4.name", "outputs/pooled\n/values"), ("outputs.1.name", "pooled\n")
        ),
        "10**15 rows": changed(("source.num_samples", 10**15)),
        "row without values": changed(("storage.fields.4.row_shape", [8, 0])),
        "five axes": changed(("storage.fields.4.row_shape", [1, 1, 1, 1, 1])),
        "nested objects": b'{"format":' * 100_000,
        "parts without rows": changed(("format_version", 3), ("further_samples", PARTS | {"part_rows": 0})),
        "no further part": changed(("format_version", 3), ("further_samples", PARTS | {"files": []})),
    },
    "the hash of a file is not 64 lower-case hex digits": {
        "upper case": changed(("samples_file.blake3", "A" * 64)),
        "a letter beyond f": changed(("shards.5.files.2.blake3", "0" * 63 + "g")),
        "digits of another script": changed(("layout_files.0.blake3", "\u0663" * 64)),
        "a line break at the end": changed(("shards.0.files.0.blake3", "a" * 63 + "\n")),
    },
    "two files have the same path": {
        "one path twice": changed(("samples_file.path", "outputs/logits/zarr.json")),
        "one part twice": changed(
            ("format_version", 3), ("further_samples", PARTS | {"files": [json.loads(GOOD)["samples_file"]]})
        ),
        "paths that differ in case": changed(("samples_file.path", "Outputs/Logits/ZARR.json")),
        "paths that differ in case beyond ASCII": changed(
            ("samples_file.path", "stra\u00dfe"), ("layout_files.0.path", "STRASSE")
        ),
    },
    "not a valid softlab manifest": {
        "unknown key": changed(("speed", 1)),
        "a part of format 1": changed(("selection", {"method": "topk", "k": 3, "temperatures": [1.0, 4.0]})),
        "today's parts in format 1": changed(("format_version", 1)),
        "missing key": without("shards"),
        "missing format": without("format"),
        "missing format version": without("format_version"),
        "NaN": changed(("shards.0.statistics.logits.captured_mass.0", math.nan)),
        "infinity": changed(("outputs.0.selection.temperatures.1", math.inf)),
        "nothing": b"",
        "not JSON": b"PAR1\0\0\xff\xfe",
        "a list": b"[]",
        "another program's manifest": b'{"name": "app", "version": 1}',
        "UTF-16": GOOD.decode().encode("utf-16"),
        "not UTF-8": HEADER + b'"kind": "\xff"}',
        "half a surrogate pair": HEADER + b'"kind": "\\ud800"}',
        "two manifests": GOOD + GOOD,
        "comment": b"// softlab\n" + GOOD,
        "nested lists": b"[" * 100_000,
        "nested lists under an unknown key": HEADER + b'"x": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        "nested lists where anything goes": GOOD.replace(
            b'"num_classes": 5', b'"x": ' + b"[" * 100_000 + b"]" * 100_000, 1
        ),
    },
    "shards, expected": {
        "10**14 rows": changed(("source.num_samples", 10**14)),
        "2**96 shards": changed(
            ("source.num_samples", 1 << 48),
            ("views.num_views", 1 << 48),
            ("storage.shard_rows", 1),
            *((f"storage.fields.{number}.chunk_rows", 1) for number in range(5)),
        ),
        "no shard": with_shards(),
        "missing shard": with_shards(0, 1, 2, 3, 4),
        "one shard too many": changed(("source.num_samples", 8)),
    },
    "limit 1 GiB": {
        "10**14 rows in one shard": changed(("source.num_samples", 10**14), ("storage.shard_rows", 10**14)),
        "row over 1 GiB": changed(("storage.fields.4.row_shape", [1 << 40, 1 << 40, 1 << 40])),
        "shard over 1 GiB": changed(("storage.fields.4.row_shape", [(1 << 27) + 1])),
    },
    "don't divide shards": {
        "chunks that don't divide shards": changed(("storage.fields.0.chunk_rows", 3)),
        "chunks larger than shards": changed(("storage.fields.0.chunk_rows", 8)),
    },
    "its view recipe has the fingerprint": {
        "another seed": changed(("views.seed", 7)),
        "another transform": changed(("views.transforms", [{"name": "RandomHorizontalFlip", "arguments": {}}])),
        "mixing": changed(("views.mixing", {"mixup": 1.0, "cutmix": None, "share": 1.0, "cutmix_share": 0.5})),
        "another fingerprint": changed(("views.fingerprint", "a" * 64)),
    },
    "a table of samples of 2 parts in format version 2": {
        "parts in format 2": changed(("further_samples", PARTS)),
    },
    "a table of samples of 1 parts in format version 3": {
        "no parts in format 3": changed(("format_version", 3)),
    },
    "2 parts of the table of samples, expected": {
        "too few parts": changed(("format_version", 3), ("further_samples", PARTS | {"part_rows": 1})),
        "too many parts": changed(("format_version", 3), ("further_samples", PARTS | {"part_rows": 1 << 40})),
    },
    "files of pixel digests, expected": {
        "digests without files": changed(("views.digest_every", 64)),
        "files without digests": changed(
            ("digest_files", [json.loads(GOOD)["samples_file"] | {"path": "pixel_digests/0"}])
        ),
    },
    "of 2 classes": {
        "K > C": changed(("outputs.0.label_space.num_classes", 2), ("outputs.0.label_space.class_names", None)),
    },
    "2 class names for 5 classes": {
        "class names of another length": changed(("outputs.0.label_space.class_names", ["a", "b"])),
    },
    "two outputs have the name 'logits'": {
        "two outputs of one name": changed(("outputs.1.name", "logits")),
    },
    "room for units in shards, or outputs with units, but not both": {
        "units without room": changed(("outputs.1.units", True)),
        "room without units": changed(("storage.shard_units", 64)),
    },
    "for the outputs ['logits', 'pooled']": {
        "output without arrays": changed(with_fields(0, 1, 2, 3)),
        "output with another's arrays": changed(("storage.fields.4.name", "outputs/other/values")),
        "arrays in another order than the outputs": changed(with_fields(4, 0, 1, 2, 3)),
        "arrays where format 1 had them": changed(("storage.fields.4.name", "features/pooled")),
    },
    "for the outputs ['logits']": {
        "arrays without an output": changed(("outputs", json.loads(GOOD)["outputs"][:1])),
    },
    "the output logits has arrays of row shapes": {
        "arrays of another K": changed(("outputs.0.selection.k", 2)),
        "arrays of other temperatures": changed(("outputs.0.selection.temperatures", [1.0])),
        "missing array": changed(with_fields(1, 2, 3, 4)),
        "array too many": changed(("storage.fields.0", field("outputs/logits/entropy"))),
        "rows of different length without their length": changed(("outputs.0.valid", True)),
        "units without their numbers": changed(("outputs.0.units", True), ("storage.shard_units", 8)),
    },
    "the output pooled has arrays of row shapes": {
        "values under another name": changed(("storage.fields.4.name", "outputs/pooled/pooled")),
        "values and lengths": changed(with_fields(0, 1, 2, 3, 4, 4), ("storage.fields.5.name", "outputs/pooled/valid")),
        "numbers of units without units": changed(
            with_fields(0, 1, 2, 3, 4, 4), ("storage.fields.5", field("outputs/pooled/unit"))
        ),
    },
    "two arrays of the output logits have the same name": {
        "array twice": changed(with_fields(0, 0, 1, 2, 3, 4)),
    },
    "don't ascend": {
        "temperatures that descend": changed(("outputs.0.selection.temperatures", [4.0, 1.0])),
        "one temperature twice": changed(("outputs.0.selection.temperatures", [1.0, 1.0])),
    },
    "a gap_step of": {
        "gaps without a step": changed(("outputs.0.coding.logits", "uint8"), ("storage.fields.1.dtype", "uint8")),
        "step without gaps": changed(("outputs.0.coding.gap_step", 0.0625)),
    },
    "uint8 arrays for float16 logits": {
        "logits in another coding": changed(("storage.fields.1.dtype", "uint8")),
    },
    "a file would have 5,368,709,121 bytes (limit 5,368,709,120)": {
        "larger than an object may be": changed(("shards.0.files.0.bytes", (5 << 30) + 1)),
    },
    "5 tokens cut off of 0 samples": {
        "of none": changed(("shards.0.cut_off", 0), ("shards.0.tokens", {"read": 9, "cut_off": 5})),
        "of an unknown number": changed(("shards.0.tokens", {"read": 9, "cut_off": 5})),
    },
    "precisions of other samples than": {
        "before the shard": changed(("shards.1.precisions", [SPAN | {"start": 0}])),
        "behind the shard": changed(("shards.0.precisions", [SPAN | {"stop": 1000}])),
        "none": changed(("shards.0.precisions", [SPAN | {"start": 1}])),
        "twice": changed(("shards.0.precisions", [SPAN, SPAN])),
    },
    "stand where": {
        "shard of another view in its place": changed(("shards.5.view", 0)),
        "shards out of order": with_shards(1, 0, 2, 3, 4, 5),
        "overlapping shards": changed(("shards.1.start", 3)),
        "gap between shards": changed(("shards.0.stop", 3)),
        "shard beyond the samples": changed(("shards.2.stop", 12)),
    },
    "statistics of 0 rows, expected 20": {
        "statistics of other rows": changed(("statistics.logits.rows", 0)),
    },
    "without one captured mass a temperature": {
        "statistics of other temperatures": changed(("statistics.logits.captured_mass", [1.0])),
        "a shard's statistics of other temperatures": changed(("shards.0.statistics.logits.captured_mass", [])),
    },
    "statistics of other outputs than ['logits']": {
        "no statistics": changed(("statistics", {})),
        "statistics of another output": changed(
            ("statistics", {name: json.loads(GOOD)["statistics"]["logits"] for name in ("logits", "pooled")})
        ),
        "a shard without statistics": changed(("shards.5.statistics", {})),
    },
    "10 samples chosen from 9": {
        "more samples than there were": changed(("source.chosen_from", 9)),
    },
    "is a manifest of 'othello', not of softlab": {
        "another format": changed(("format", "othello")),
    },
}
"""Manifests by the reason that is given for refusing them; `$.` is followed by the place of a wrong value."""


@pytest.mark.parametrize(
    ("reason", "data"),
    [pytest.param(reason, data, id=name) for reason, cases in WRONG.items() for name, data in cases.items()],
)
def test_a_wrong_manifest_is_refused_for_its_reason(reason: str, data: bytes) -> None:
    assert data != GOOD

    with pytest.raises(NotAStore, match=re.escape(reason)) as refused:
        decode(data)

    assert str(refused.value).startswith("store/manifest.json: ")
    assert str(refused.value).endswith(("Get the store again.", "Check the path."))


@given(
    st.lists(st.text("aA.:/ \n\0\u0130\u00df", max_size=4) | st.text(min_size=1, max_size=3), min_size=2, max_size=2)
)
def test_two_paths_are_accepted_where_each_name_is_plain_and_they_differ_beyond_case(paths: list[str]) -> None:
    one, other = paths
    plain = [
        bool(path)
        and path.isprintable()
        and not re.search(r'[\\:*?"<>|]', path)
        and all(name and not name.endswith((".", " ")) for name in path.split("/"))
        for path in paths
    ]

    try:
        decode(changed(("layout_files.0.path", one), ("shards.5.files.2.path", other)))
        accepted = True
    except NotAStore:
        accepted = False
    assert accepted == (all(plain) and one.casefold() != other.casefold())


def test_a_newer_format_asks_for_an_upgrade_whatever_else_it_holds() -> None:
    with pytest.raises(UnsupportedStore, match=re.escape("this softlab reads versions 1 to 3. Upgrade softlab.")):
        decode(changed(("format_version", 4), ("shards", "somewhere else"), ("new", {})))


def test_encoded_values_are_plain_json() -> None:
    """NaN and infinity have no JSON: they become null, and are refused when read."""
    statistics = Statistics(rows=1, rows_with_target=1, correct=1, captured_mass=(math.nan, 1.0), clipped_logits=0)

    with pytest.raises(NotAStore):
        decode(encode(make_manifest(statistics={"logits": statistics})))


def paths_in(tree: Any, prefix: str = "") -> list[str]:
    """Where each value of a JSON tree is, such as `shards.0.view`."""
    if not isinstance(tree, dict | list):
        return []
    steps = list(tree) if isinstance(tree, dict) else range(len(tree))
    return [path for step in steps for path in (f"{prefix}{step}", *paths_in(tree[step], f"{prefix}{step}."))]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(paths_in(json.loads(GOOD))), JSON_VALUES)
def test_any_value_in_any_place_is_accepted_or_refused(path: str, value: object) -> None:
    with contextlib.suppress(NotAStore, UnsupportedStore):
        decode(changed((path, value)))


def test_the_files_of_a_manifest_are_all_that_it_vouches_for() -> None:
    manifest = make_manifest()

    paths = [file.path for file in manifest.files]
    assert paths[:2] == ["samples.parquet", "outputs/logits/zarr.json"]
    assert paths[2:] == [file.path for shard in manifest.shards for file in shard.files]


def test_fields_of_a_group_are_read_together() -> None:
    storage = make_manifest().storage

    assert [field.short_name for field in storage.fields_of("outputs/logits")] == [
        "class_ids",
        "logits",
        "max_logit",
        "log_tail",
    ]
    assert [field.name for field in storage.fields_of("outputs/pooled")] == ["outputs/pooled/values"]
    assert [field.row_bytes for field in storage.fields] == [6, 6, 2, 4, 32]


def test_the_grid_of_a_manifest_is_that_of_its_shards() -> None:
    assert make_manifest().grid == GRID


def test_statistics_add_up() -> None:
    parts = [
        Statistics(rows=4, rows_with_target=3, correct=2, captured_mass=(3.0, 2.0), clipped_logits=1),
        Statistics(rows=6, rows_with_target=1, correct=1, captured_mass=(5.0, 1.0), clipped_logits=0),
    ]

    total = add_up(parts)

    assert total == Statistics(rows=10, rows_with_target=4, correct=3, captured_mass=(8.0, 3.0), clipped_logits=1)
    assert total.accuracy == 0.75
    assert total.mean_captured_mass == (0.8, 0.3)


def test_statistics_add_up_alike_on_every_python() -> None:
    """Built-in sum of ten tenths is 1.0 from Python 3.12 on, and less before."""
    tenth = Statistics(rows=1, rows_with_target=0, correct=0, captured_mass=(0.1,), clipped_logits=0)

    assert add_up([tenth] * 10).captured_mass == (1.0,)


def test_without_hard_targets_the_accuracy_is_unknown() -> None:
    assert Statistics(rows=4, rows_with_target=0, correct=0, captured_mass=(), clipped_logits=0).accuracy is None

"""Manifests of format 1, as softlab wrote them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from softlab.errors import NotAStore, UnsupportedStore
from softlab.identity import digest_of
from softlab.labels.values_coding import ValuesCoding
from softlab.manifest import Manifest, StorePlan, decode_manifest, encode, in_version_1, in_version_2
from softlab.manifest.checks import find_plan_contradiction
from tests.manifests import make_manifest, set_at
from tests.store.building import make_plan

FIXTURE = Path(__file__).parents[1] / "fixtures" / "format_1"
FORMATS = ("zarr", "parquet")


def written(format: str) -> bytes:
    return (FIXTURE / format / "manifest.json").read_bytes()


def read(data: bytes) -> Manifest:
    return decode_manifest(data, where="store/manifest.json")[0]


def changed(*changes: tuple[str, Any]) -> bytes:
    """The manifest of the Zarr store with other values at some paths."""
    tree = json.loads(written("zarr"))
    for path, value in changes:
        set_at(tree, path, value)
    return json.dumps(tree).encode()


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_written_is_read_and_written_again_to_the_same_bytes(format: str) -> None:
    manifest, digest = decode_manifest(written(format), where="store")

    assert encode(manifest) == written(format)
    assert digest == digest_of(written(format))


def test_the_manifest_of_today_tells_the_same() -> None:
    old, manifest = json.loads(written("zarr")), read(written("zarr"))

    (labels,), (pool,) = manifest.classes, manifest.values
    assert (labels.name, labels.taken_from, labels.head) == ("logits", "output", "softmax")
    assert labels.absolute
    assert (labels.units, labels.valid) == (False, False)
    assert msgspec.to_builtins(labels.selection) | {"temperatures": [1.0, 2.0, 4.0]} == old["selection"]
    assert msgspec.to_builtins(labels.coding) == old["coding"]
    assert labels.label_space.num_classes == old["label_space"]["num_classes"]
    assert (pool.name, pool.taken_from) == ("pool", "layer:pool:none")
    assert [(each.field, each.modality) for each in manifest.inputs] == [("image", "images")]
    assert manifest.inputs[0].options == old["teacher"]["finishing"]
    assert msgspec.to_builtins(manifest.statistics["logits"])["rows"] == old["statistics"]["rows"] == manifest.num_rows


def test_its_arrays_keep_their_places() -> None:
    manifest = read(written("zarr"))

    assert [manifest.group_of(output) for output in manifest.outputs] == ["labels", "features/pool"]
    assert [field.name for field in manifest.storage.fields][-2:] == ["labels/log_tail", "features/pool"]
    assert [manifest.output_of(field).name for field in manifest.storage.fields] == ["logits"] * 4 + ["pool"]


def test_a_feature_that_has_the_name_of_the_labels_keeps_it() -> None:
    data = changed(("features.0.name", "logits"), ("storage.fields.4.name", "features/logits"))

    manifest = read(data)

    assert [output.name for output in manifest.outputs] == ["logits_", "logits"]
    assert json.loads(encode(manifest)) == json.loads(data)


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("$.storage.fields[0].dtype", changed(("storage.fields.0.dtype", "object"))),
        ("$.storage.fields[0].name", changed(("storage.fields.0.name", "labels/../x"))),
        ("unknown field `outputs`", changed(("outputs", []))),
        ("unknown field `shard_units` - at `$.storage`", changed(("storage.shard_units", 8))),
        ("missing required field `num_classes`", changed(("label_space", {}))),
        ("is not a plain relative path inside the store", changed(("samples_file.path", "../x"))),
        ("arrays of ['outputs/logits', ", changed(("storage.fields.0.name", "outputs/logits/class_ids"))),
        ("for the outputs ['logits', 'other']", changed(("features.0.name", "other"))),
        ("the output logits has arrays of row shapes", changed(("selection.k", 2))),
        ("statistics of 0 rows, expected 80", changed(("statistics.rows", 0))),
    ],
)
def test_a_wrong_manifest_is_refused_for_its_reason(reason: str, data: bytes) -> None:
    with pytest.raises(NotAStore) as refused:
        read(data)

    assert reason in str(refused.value)
    assert str(refused.value).endswith("Get the store again.")


def test_an_older_format_than_the_first_is_refused() -> None:
    with pytest.raises(UnsupportedStore, match="format version 0"):
        read(changed(("format_version", 0)))


# Plans, to go on with a store of format 1 or to write it anew.


def test_a_plan_of_today_in_format_1_is_read_as_it_was() -> None:
    old = in_version_1(make_plan(features={"pooled": (6,), "logits2": (3, 2)}))

    assert old is not None
    assert find_plan_contradiction(old) is None
    assert [field.name for field in old.storage.fields] == [
        "labels/class_ids",
        "labels/logits",
        "labels/max_logit",
        "labels/log_tail",
        "features/pooled",
        "features/logits2",
    ]
    assert in_version_2(old) == make_plan(features={"pooled": (6,), "logits2": (3, 2)})


@pytest.mark.parametrize("coding", ["float32", "int8", "int8_rotated"])
def test_a_plan_whose_values_are_not_float16_is_none_of_format_1(coding: ValuesCoding) -> None:
    assert in_version_1(make_plan(values_coding=coding)) is None


def test_a_plan_of_format_1_in_format_2_has_its_arrays_where_they_are_now() -> None:
    new = in_version_2(read(written("zarr")).plan)

    assert new.format_version == 2
    assert find_plan_contradiction(new) is None
    assert [field.name for field in new.storage.fields] == [
        "outputs/logits/class_ids",
        "outputs/logits/logits",
        "outputs/logits/max_logit",
        "outputs/logits/log_tail",
        "outputs/pool/values",
    ]
    assert in_version_1(new) == read(written("zarr")).plan


def test_a_plan_of_today_stays_as_it_is() -> None:
    plan = make_manifest().plan

    assert in_version_2(plan) == plan


def changed_labels(**changes: object) -> StorePlan:
    plan = make_plan()
    labels, *values = plan.outputs
    return msgspec.structs.replace(plan, outputs=(msgspec.structs.replace(labels, **changes), *values))


BEYOND: dict[str, Callable[[], StorePlan]] = {
    "two outputs of classes": lambda: msgspec.structs.replace(make_plan(), outputs=(make_plan().outputs[0],) * 2),
    "no output of classes": lambda: msgspec.structs.replace(make_plan(), outputs=make_plan().outputs[1:]),
    "units": lambda: changed_labels(units=True),
    "rows of different length": lambda: changed_labels(valid=True),
    "probabilities": lambda: changed_labels(absolute=False),
}


@pytest.mark.parametrize("what", BEYOND)
def test_what_format_1_could_not_hold_has_no_plan_in_it(what: str) -> None:
    assert in_version_1(BEYOND[what]()) is None

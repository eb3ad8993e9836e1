import hashlib
import json
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest

from softlab.disk import list_files
from softlab.manifest.versions import VersionRecord
from softlab.sharing.publish.metadata import metadata_files
from softlab.store.format import FormatName
from softlab.store.published import store_path
from softlab.store.reader import open_store
from tests.sharing.records import version_of
from tests.store.building import FORMATS, make_plan, write_store
from tests.store.parts import few_samples_are_very_many, in_its_format

# mlcroissant calls what its own JSON-LD library and pandas have deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index:DeprecationWarning"),
]


def publish(root: Path, format: FormatName = "zarr", **changes: str) -> tuple[VersionRecord, Path]:
    """A store where a published one lies, and its Croissant file."""
    write_store(root / "new", in_its_format(make_plan(format=format)))
    store = open_store(root / "new")
    version = version_of(store, "pets", 3, **changes)
    path = root / version.name / "versions" / "3.croissant.json"
    described = metadata_files(
        store,
        version,
        manifest=(root / "new/manifest.json").read_bytes(),
        address="s3://bucket/labels/pets@3",
        own_card=None,
    )
    path.parent.mkdir(parents=True)
    path.write_bytes(described["versions/3.croissant.json"])
    (root / store_path(version.name, version.digest)).parent.mkdir()
    (root / "new").rename(root / store_path(version.name, version.digest))
    return version, path


def described(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_croissants_own_library_finds_nothing_wrong(tmp_path: Path, format: FormatName) -> None:
    _, path = publish(tmp_path, format)

    issues = mlcroissant.Dataset(jsonld=path).metadata.ctx.issues

    assert (set(issues.errors), set(issues.warnings)) == (set(), set())


def test_croissants_own_library_reads_the_table_of_samples(tmp_path: Path) -> None:
    _, path = publish(tmp_path)

    records = list(mlcroissant.Dataset(jsonld=path).records("samples"))

    assert len(records) == 11
    assert records[4] == {"samples/sample": 4, "samples/key": b"004.png", "samples/target": 4}


@pytest.mark.parametrize("format", FORMATS)
def test_a_table_that_lies_in_parts_is_described_as_a_set_of_files(tmp_path: Path, format: FormatName) -> None:
    with few_samples_are_very_many():
        version, path = publish(tmp_path, format)

    issues = mlcroissant.Dataset(jsonld=path).metadata.ctx.issues
    parts = next(each for each in described(path)["distribution"] if each["@id"] == "samples-parts")
    found = (tmp_path / store_path(version.name, version.digest)).glob(parts["includes"])

    assert (set(issues.errors), set(issues.warnings)) == (set(), set())
    assert sorted(each.name for each in found) == [f"part-{part:05d}.parquet" for part in range(3)]
    (samples, *_) = described(path)["recordSet"]
    assert {field["source"]["fileSet"]["@id"] for field in samples["field"]} == {"samples-parts"}


def test_the_hashes_are_those_of_the_files_that_the_addresses_mean(tmp_path: Path) -> None:
    _, path = publish(tmp_path)

    files = {each["@id"]: each for each in described(path)["distribution"]}

    for name in ("manifest", "samples-file"):
        data = (path.parent / files[name]["contentUrl"]).read_bytes()
        assert files[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert files[name]["contentSize"] == f"{len(data)} B"
    assert (path.parent / files["store"]["contentUrl"]).is_dir()
    assert files["store"]["sha256"] == files["manifest"]["sha256"]


def test_label_columns_are_described_as_the_files_hold_them(tmp_path: Path) -> None:
    version, path = publish(tmp_path, "parquet")
    tree = tmp_path / store_path(version.name, version.digest)

    (parts,) = (each for each in described(path)["distribution"] if each["@type"] == "cr:FileSet")
    (labels,) = (each for each in described(path)["recordSet"] if each["@id"] == "labels")

    matched = {file.relative_to(tree).as_posix() for file in tree.glob(parts["includes"])}
    assert matched == {file for file in list_files(tree) if file.startswith("outputs/logits/")}
    schema = pq.read_schema(tree / min(matched))
    fields = {field["source"]["extract"]["column"]: field for field in labels["field"]}
    assert list(fields) == schema.names
    assert {name: field["dataType"] for name, field in fields.items()} == {
        "sample": "sc:Integer",
        "class_ids": "cr:UInt16",
        "logits": "cr:Float16",
        "max_logit": "cr:Float16",
        "log_tail": "cr:Float16",
    }
    assert [name for name, field in fields.items() if field.get("repeated")] == ["class_ids", "logits", "log_tail"]


def test_a_description_says_which_version_of_what_under_which_licence(tmp_path: Path) -> None:
    version, path = publish(tmp_path, licence="CC0-1.0", terms="For research only.")

    found = described(path)

    assert (found["name"], found["version"], found["license"]) == ("pets", "3.0.0", "CC0-1.0")
    assert found["url"] == "s3://bucket/labels/index.html#pets@3"
    assert version.digest in found["citeAs"]
    assert "For research only." in found["description"]

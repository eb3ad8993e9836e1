from pathlib import Path
from typing import Any

import msgspec
import pytest
from huggingface_hub import DatasetCard

from softlab.card.front_matter import hub_licence
from softlab.card.render import render_card
from softlab.manifest import Manifest, Statistics
from tests.manifests import make_manifest
from tests.sharing.records import make_version
from tests.store.building import make_plan, write_store


def read_by_a_hub(card: str) -> dict[str, Any]:
    found: dict[str, Any] = DatasetCard(card).data.to_dict()  # type: ignore[no-untyped-call]
    return found


def of_source(name: str) -> Manifest:
    manifest = make_manifest()
    return msgspec.structs.replace(manifest, source=msgspec.structs.replace(manifest.source, name=name))


def test_a_hub_reads_what_a_card_begins_with() -> None:
    card = render_card(make_manifest(), version=make_version(licence="CC-BY-NC-4.0"))

    assert read_by_a_hub(card) == {
        "pretty_name": "Soft labels: torchvision:resnet18 on folder:pets",
        "license": "cc-by-nc-4.0",
        "tags": ["softlab", "soft-labels", "knowledge-distillation"],
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-classification"],
        "configs": [{"config_name": "samples", "data_files": "samples.parquet"}],
        "size_categories": ["n<1K"],
    }


@pytest.mark.parametrize(
    ("modality", "units", "tasks"),
    [
        ("text", False, ["text-classification"]),
        ("text", True, None),  # of positions in it
        ("sounds.of.my.own", False, None),
    ],
)
def test_the_task_is_that_of_the_modality(modality: str, units: bool, tasks: list[str] | None) -> None:
    manifest = make_manifest()
    outputs = tuple(msgspec.structs.replace(output, units=units) for output in manifest.outputs)
    inputs = tuple(msgspec.structs.replace(each, modality=modality) for each in manifest.inputs)

    card = render_card(msgspec.structs.replace(manifest, outputs=outputs, inputs=inputs), version=None)

    assert read_by_a_hub(card).get("task_categories") == tasks


def test_a_licence_that_is_not_known_is_not_stated() -> None:
    assert "license" not in read_by_a_hub(render_card(make_manifest()))


def test_a_licence_that_hubs_do_not_list_is_another_one_with_a_name() -> None:
    card = render_card(make_manifest(), version=make_version(licence="Ask the team: \n license mit"))

    front = read_by_a_hub(card)
    assert (front["license"], front["license_name"]) == ("other", "ask-the-team-license-mit")


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", "mit"),
        ("Apache-2.0", "apache-2.0"),
        ("GPL-3.0-only", "gpl-3.0"),
        ("LGPL-2.1-or-later", "lgpl-2.1"),
        ("ODC-By-1.0", "odc-by"),
        ("ODbL-1.0", "odbl"),
        (" cc0-1.0 ", "cc0-1.0"),
        ("CC-BY-9.0", None),
        ("MIT or so", None),
        ("", None),
    ],
)
def test_spdx_identifiers_are_told_as_hubs_write_them(licence: str, expected: str | None) -> None:
    assert hub_licence(licence) == expected


def test_the_tables_of_a_parquet_store_are_named(tmp_path: Path) -> None:
    manifest = write_store(tmp_path, make_plan(format="parquet"))

    _, *outputs = read_by_a_hub(render_card(manifest))["configs"]

    assert [output["config_name"] for output in outputs] == ["logits", "pooled"]
    assert [len(list(tmp_path.glob(output["data_files"]))) for output in outputs] == [6, 6]


def test_an_output_that_is_called_samples_hides_no_table(tmp_path: Path) -> None:
    features = {"samples": (6,), "samples-table": (2,)}
    manifest = write_store(tmp_path, make_plan(format="parquet", features=features))

    tables = {each["config_name"]: each["data_files"] for each in read_by_a_hub(render_card(manifest))["configs"]}

    assert tables["samples"] == "outputs/samples/*/*.parquet"
    assert tables["samples-table-table"] == "samples.parquet"
    assert len(tables) == 4


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (999_999, "100K<n<1M"),
        (1_281_167, "1M<n<10M"),
        (10_000_000, "10M<n<100M"),
        (999_999_999_999, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_the_size_category_is_that_of_the_rows(rows: int, category: str) -> None:
    statistics = Statistics(rows=rows, rows_with_target=0, correct=0, captured_mass=(1.0, 1.0), clipped_logits=0)

    front = read_by_a_hub(render_card(make_manifest(statistics={"logits": statistics})))

    assert front["size_categories"] == [category]


def test_a_name_can_not_leave_its_line_of_yaml() -> None:
    name = 'a "quoted" name: with\nlicense: anything'

    front = read_by_a_hub(render_card(of_source(name)))

    assert front["pretty_name"] == f"Soft labels: torchvision:resnet18 on {name}"
    assert "license" not in front

import json
from pathlib import Path

import pytest

from softlab.manifest import FeatureRecord, SkippedRecord, Statistics
from softlab.store.card import render_card
from tests.manifests import make_manifest
from tests.store.building import make_plan, write_store


def front_matter(card: str) -> list[str]:
    """The lines of YAML that a hub reads."""
    _, yaml, _ = card.split("---\n", 2)
    return yaml.splitlines()


def make_statistics(*, rows: int = 20, rows_with_target: int = 20, correct: int = 15) -> Statistics:
    return Statistics(
        rows=rows,
        rows_with_target=rows_with_target,
        correct=correct,
        captured_mass=(0.9 * rows, 0.75 * rows),
        clipped_logits=1234,
    )


def test_a_card_begins_with_what_hubs_read() -> None:
    card = render_card(make_manifest())

    assert card.startswith("---\n")
    assert front_matter(card) == [
        'pretty_name: "Soft labels: torchvision:resnet18 on folder:pets"',
        "tags: [softlab, soft-labels, knowledge-distillation]",
        "size_categories:",
        "- n<1K",
    ]


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (999_999, "100K<n<1M"),
        (1_281_167, "1M<n<10M"),
        (10_000_000, "n>10M"),
    ],
)
def test_the_size_category_is_that_of_the_rows(rows: int, category: str) -> None:
    card = render_card(make_manifest(statistics=make_statistics(rows=rows)))

    assert front_matter(card)[-1] == f"- {category}"


def test_a_name_can_not_leave_its_line_of_yaml() -> None:
    source = make_manifest().source
    name = 'a "quoted" name: with\nlicense: anything'

    card = render_card(
        make_manifest(source=type(source)(name=name, num_samples=10, keys_fingerprint="0" * 64, skipped=()))
    )

    key, value = front_matter(card)[0].split(": ", 1)
    assert key == "pretty_name"
    assert json.loads(value) == f"Soft labels: torchvision:resnet18 on {name}"


def test_a_card_says_what_the_store_is_and_how_good() -> None:
    card = render_card(make_manifest(statistics=make_statistics()))

    for said in (
        "`torchvision:resnet18` (11,000,000 parameters",
        "10 samples, 2 view(s), 5 classes",
        "| kept | the 3 largest logits of each row |",
        "at temperatures 1, 4 |",
        "| coding | float16 |",
        "| features | pooled (layer layer4) |",
        "| format | zarr, softlab format version 1 |",
        "Teacher's accuracy on these samples: 75.00%.",
        "0.9000 at T=1, 0.7500 at T=4.",
        "Logits clipped by the coding: 1,234.",
    ):
        assert said in card


def test_a_card_says_what_is_not_there() -> None:
    card = render_card(make_manifest(features=(), statistics=make_statistics(rows_with_target=0, correct=0)))

    assert "| features | none |" in card
    assert "Teacher's accuracy on these samples: unknown (no hard targets)." in card


def test_a_card_counts_the_samples_left_out() -> None:
    source = make_manifest().source
    skipped = (SkippedRecord(key="a.png", reason="cut off"), SkippedRecord(key="b.png", reason="not an image"))

    card = render_card(
        make_manifest(source=type(source)(name="pets", num_samples=10, keys_fingerprint="0" * 64, skipped=skipped))
    )

    assert "| samples left out as unreadable | 2 |" in card


def test_every_feature_is_named_with_its_layer() -> None:
    features = tuple(FeatureRecord(name=name, layer=f"block.{name}", pooling="none") for name in "ab")

    assert "| features | a (layer block.a), b (layer block.b) |" in render_card(make_manifest(features=features))


def test_only_a_card_of_gaps_says_how_they_become_logits(tmp_path: Path) -> None:
    gaps = write_store(tmp_path / "uint8", make_plan(coding="uint8"))
    floats = write_store(tmp_path / "float16", make_plan(coding="float16"))

    assert "a row's logit k is -0.0625 times the sum of its gaps 0 to k." in render_card(gaps)
    assert "gaps" not in render_card(floats)


def test_the_card_of_a_store_is_the_one_of_its_manifest(tmp_path: Path) -> None:
    manifest = write_store(tmp_path, make_plan())

    assert (tmp_path / "README.md").read_text() == render_card(manifest)

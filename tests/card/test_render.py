from pathlib import Path

import msgspec

from softlab.card.render import render_card, renewed_card
from softlab.manifest import SkippedRecord, Statistics, ValuesRecord
from softlab.remote.address import parse_address
from tests.manifests import LABELS, make_manifest
from tests.sharing.records import make_version
from tests.store.building import make_plan, write_store


def make_statistics(*, rows: int = 20, rows_with_target: int = 20, correct: int = 15) -> dict[str, Statistics]:
    labels = Statistics(
        rows=rows,
        rows_with_target=rows_with_target,
        correct=correct,
        captured_mass=(0.9 * rows, 0.75 * rows),
        clipped_logits=1234,
    )
    return {"logits": labels}


def test_a_card_says_what_the_store_is_and_how_good() -> None:
    card = render_card(make_manifest(statistics=make_statistics()))

    for said in (
        "`torchvision:resnet18` (11,000,000 parameters",
        "10 samples, 2 view(s), 5 classes",
        "| kept | the 3 largest logits of each row |",
        "at temperatures 1, 4 |",
        "| coding | float16 |",
        "| features | pooled (layer layer4) |",
        "| format | zarr, softlab format version 2 |",
        "Teacher's accuracy on these samples: 75.00%.",
        "0.9000 at T=1, 0.7500 at T=4.",
        "Logits clipped by the coding: 1,234.",
    ):
        assert said in card


def test_a_card_says_what_is_not_there() -> None:
    card = render_card(make_manifest(outputs=(LABELS,), statistics=make_statistics(rows_with_target=0, correct=0)))

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
    features = tuple(ValuesRecord(name=name, taken_from=f"layer:block.{name}:none") for name in "ab")

    assert "| features | a (layer block.a), b (layer block.b) |" in render_card(
        make_manifest(outputs=(LABELS, *features))
    )


def test_only_a_card_of_gaps_says_how_they_become_logits(tmp_path: Path) -> None:
    gaps = write_store(tmp_path / "uint8", make_plan(coding="uint8"))
    floats = write_store(tmp_path / "float16", make_plan(coding="float16"))

    assert "a row's logit k is -0.0625 times the sum of its gaps 0 to k." in render_card(gaps)
    assert "gaps" not in render_card(floats)


def test_the_card_of_a_store_is_the_one_of_its_manifest(tmp_path: Path) -> None:
    manifest = write_store(tmp_path, make_plan())

    assert (tmp_path / "README.md").read_text() == render_card(manifest)


def test_words_of_others_stay_in_their_line_and_are_no_markup() -> None:
    hostile = "pets\n# Licence: none\n| <script> | [x](http://x.example) `y`"
    manifest = make_manifest()
    teacher = msgspec.structs.replace(manifest.teacher, model="a`b|c\nd")
    outputs = (LABELS, ValuesRecord(name="pooled", taken_from="layer:a|b:mean"))

    card = render_card(
        make_manifest(source=msgspec.structs.replace(manifest.source, name=hostile), teacher=teacher, outputs=outputs)
    )

    said = r"for pets \# Licence: none \| \<script\> \| \[x\](http://x.example) \`y\`: 10 samples"
    assert said in card
    assert "The output of the teacher `a'b/c d` (" in card
    assert r"| features | pooled (layer a\|b) |" in card


def test_the_card_of_a_version_says_its_licence_and_where_it_is() -> None:
    version = make_version(licence="CC-BY-4.0", terms="No <b>use</b>.")

    card = render_card(make_manifest(), version=version, address=parse_address("s3://bucket/labels/pets@3"))

    assert "Of these labels: CC-BY-4.0." in card
    assert r"outputs: No \<b\>use\</b\>." in card
    assert "\nsoftlab pull s3://bucket/labels/pets@3 pets\n" in card
    assert "under which terms" not in card


def test_what_a_person_filled_in_goes_on_when_the_store_changes() -> None:
    filled_in = render_card(make_manifest()).replace("_Not filled in: whom to ask?_", "The vision team.\n\nOr anyone.")

    card = renewed_card(filled_in, make_manifest(outputs=(LABELS,)))

    assert card == render_card(make_manifest(outputs=(LABELS,)), own_card=filled_in)
    assert "<!-- kept: contact -->\nThe vision team.\n\nOr anyone.\n<!-- end -->" in card
    assert "| features | none |" in card


def test_the_card_of_a_version_is_renewed_without_what_was_true_of_that_version_alone() -> None:
    published = render_card(make_manifest(), version=make_version(), address=parse_address("s3://bucket/labels/pets@3"))

    assert renewed_card(published, make_manifest(outputs=(LABELS,))) == render_card(make_manifest(outputs=(LABELS,)))


def test_a_card_changed_outside_its_sections_is_left_alone() -> None:
    changed = render_card(make_manifest()).replace("## How good", "## How good it is")

    assert renewed_card(changed, make_manifest(outputs=(LABELS,))) is None


def test_a_store_without_a_card_gets_one() -> None:
    assert renewed_card(None, make_manifest()) == render_card(make_manifest())


def test_the_card_of_a_store_without_soft_labels_tells_of_its_values_alone() -> None:
    embedding = ValuesRecord(name="embedding", taken_from="pooled")

    card = render_card(make_manifest(outputs=(embedding,), statistics={}))

    assert "10 samples, 2 view(s), no classes." in card
    assert "| features | embedding (pooled) |" in card
    assert " --loss cosine --set loss.output=embedding --alpha 1 --out RUN" in card
    assert "## How good" not in card
    assert "max_logit" not in card


def test_each_of_several_outputs_tells_how_good_it_is() -> None:
    other = msgspec.structs.replace(LABELS, name="coarse")
    statistics = make_statistics() | {"coarse": make_statistics(correct=20)["logits"]}

    card = render_card(make_manifest(outputs=(LABELS, other), statistics=statistics))

    assert "logits: Teacher's accuracy on these samples: 75.00%." in card
    assert "coarse: Teacher's accuracy on these samples: 100.00%." in card


def test_each_of_several_outputs_tells_what_is_kept_of_it() -> None:
    selection = msgspec.structs.replace(LABELS.selection, k=5, temperatures=(2.0, 8.0))
    coarse = msgspec.structs.replace(LABELS, name="coarse", head="sigmoid", selection=selection)
    statistics = make_statistics() | {"coarse": make_statistics()["logits"]}

    card = render_card(make_manifest(outputs=(LABELS, coarse), statistics=statistics))

    lines = card.splitlines()
    assert "| kept of logits | the 3 largest logits of each row |" in lines
    assert "| kept of coarse | the 5 largest logits of each row |" in lines
    assert "| tail of coarse | the exact log of its classes' mean probability at temperatures 2, 8 |" in lines
    assert "| head of coarse | sigmoid: each class a choice of its own (multi-label) |" in lines
    names = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    assert len(set(names)) == len(names), "no two rows of the table are of the same thing"

import json
from pathlib import Path

import pytest

from softlab.card.render import CARD_NAME
from softlab.errors import DamagedStore, InvalidOption
from softlab.sharing.publish.metadata import MAX_CARD_BYTES, metadata_files
from softlab.store.reader import open_store
from softlab.store.samples import SAMPLES_NAME
from tests.evaluation.values import make_values_store
from tests.sharing.records import version_of
from tests.store.building import flip_byte, make_plan, write_store

ADDRESS = "s3://bucket/labels/pets@3"
MANIFEST = b"{}"
"""Only its hash is published beside a version."""


def test_four_files_lie_beside_a_version_and_are_the_same_each_time(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    store = open_store(tmp_path)

    made = metadata_files(store, version_of(store), manifest=MANIFEST, address=ADDRESS, own_card=None)

    endings = ["about.json", "croissant.json", "figures.json", "md"]
    assert sorted(made) == [f"versions/3.{ending}" for ending in endings]
    assert made == metadata_files(store, version_of(store), manifest=MANIFEST, address=ADDRESS, own_card=None)
    assert json.loads(made["versions/3.figures.json"])["digest"] == store.digest


def test_a_store_of_values_alone_has_no_figures(tmp_path: Path) -> None:
    store = make_values_store(tmp_path)

    made = metadata_files(store, version_of(store), manifest=MANIFEST, address=ADDRESS, own_card=None)

    assert sorted(made) == [f"versions/3.{ending}" for ending in ["about.json", "croissant.json", "md"]]


def test_a_card_says_the_licence_and_how_to_get_the_store(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    store = open_store(tmp_path)

    asked = version_of(store, terms="Ask first.")
    made = metadata_files(store, asked, manifest=MANIFEST, address=ADDRESS, own_card=None)

    card = made["versions/3.md"].decode()
    assert "\nlicense: cc-by-4.0\n" in card
    assert "outputs: Ask first." in card
    assert "\nsoftlab pull s3://bucket/labels/pets@3 pets\nsoftlab train-student --store pets " in card


def test_what_a_person_filled_in_is_published(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    store, own_card = open_store(tmp_path), (tmp_path / CARD_NAME).read_text()
    filled_in = own_card.replace("_Not filled in: whom to ask?_", "The vision team.")

    made = metadata_files(store, version_of(store), manifest=MANIFEST, address=ADDRESS, own_card=filled_in)

    card = made["versions/3.md"].decode()
    assert "<!-- kept: contact -->\nThe vision team.\n<!-- end -->" in card
    assert "license: cc-by-4.0" in card


def test_a_card_that_a_person_has_rewritten_is_published_as_it_is(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    store = open_store(tmp_path)

    made = metadata_files(store, version_of(store), manifest=MANIFEST, address=ADDRESS, own_card="# Our labels\n")

    assert made["versions/3.md"] == b"# Our labels\n"


def test_a_card_is_measured_as_it_would_be_published(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    store, own_card = open_store(tmp_path), (tmp_path / CARD_NAME).read_text()
    filled_in = own_card.replace("_Not filled in: whom to ask?_", "€" * (MAX_CARD_BYTES // 2))
    assert len(filled_in) < MAX_CARD_BYTES

    with pytest.raises(InvalidOption, match=r"Shorten its README\.md"):
        metadata_files(store, version_of(store), manifest=MANIFEST, address=ADDRESS, own_card=filled_in)


def test_no_path_of_this_machine_is_told(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())
    store = open_store(tmp_path / "store")

    made = metadata_files(
        store, version_of(store), manifest=MANIFEST, address=f"{tmp_path}/labels/pets@3", own_card=None
    )

    assert not [path for path, data in made.items() if str(tmp_path).encode() in data]
    assert b"softlab pull CATALOGUE/pets@3 pets" in made["versions/3.md"]


def test_nothing_is_said_about_a_damaged_store(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    store = open_store(tmp_path)
    flip_byte(tmp_path / SAMPLES_NAME)

    with pytest.raises(DamagedStore, match="softlab verify"):
        metadata_files(store, version_of(store), manifest=MANIFEST, address=ADDRESS, own_card=None)

"""Views are added to a finished store: what is there stays as it is, and the end is that of one dump of all views."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from softlab.card.render import CARD_NAME, render_card
from softlab.errors import InvalidOption, NotAStore, StoreMismatch, UnfinishedStore
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.convert import convert_store
from softlab.store.folder import count_finished_shards, is_adding_views
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from softlab.teacher.dump import DumpSummary
from tests.store.building import FORMATS, contents
from tests.teacher.augmenting import AUGMENT, MIXING, dump_views, open_uncached, samples_of
from tests.teacher.dumping import Pictures, assert_same_labels, dump, make_options, make_teacher, stop_at

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
FEATURES = {"pooled": "relu:mean"}

Four = Callable[[FormatName], Path]


@pytest.fixture(scope="module")
def four_views(tmp_path_factory: pytest.TempPathFactory) -> Four:
    """Gives a finished store of four views, to be copied."""
    folder = tmp_path_factory.mktemp("four")

    def dump_once(format: FormatName) -> Path:
        if not (folder / format).exists():
            dump_views(folder / format, 4, format=format, feature=FEATURES)
        return folder / format

    return dump_once


@pytest.fixture
def store(four_views: Four, tmp_path: Path) -> Path:
    return Path(shutil.copytree(four_views("zarr"), tmp_path / "store"))


def add(out: Path, views: str = "+2", **options: Any) -> DumpSummary:
    return dump_views(out, views, **({"feature": FEATURES} | options))


def interrupted(out: Path, *, rows: int = 67) -> None:
    """Views are being added, and that was stopped: with 67 rows, after five of eight shards."""
    with pytest.raises(KeyboardInterrupt):
        add(out, on_progress=stop_at(rows))


def files_of_rows(found: dict[str, bytes]) -> dict[str, bytes]:
    """Shards and digests."""
    marks = ("pixel_digests/", "/c/", "/part-")
    return {name: data for name, data in found.items() if any(mark in name for mark in marks)}


# What comes of it.


def test_a_store_of_four_views_is_grown_to_six_and_once(store: Path, tmp_path: Path) -> None:
    added = Path(shutil.copytree(store, tmp_path / "added"))
    add(added, "+2")

    dump_views(store, 6, feature=FEATURES)
    again = dump_views(store, 6, feature=FEATURES)

    assert contents(store) == contents(added)
    assert again.rows_computed == 0


def test_views_that_were_begun_as_so_many_more_go_on_as_so_many_in_all(store: Path) -> None:
    interrupted(store)

    summary = dump_views(store, 6, feature=FEATURES)

    assert summary.manifest.views.num_views == 6
    assert not is_adding_views(store)


@BOTH_FORMATS
def test_two_views_added_to_four_make_the_store_of_six(tmp_path: Path, four_views: Four, format: FormatName) -> None:
    out = Path(shutil.copytree(four_views(format), tmp_path / "store"))
    before, parent = contents(out), open_uncached(out)
    dump_views(tmp_path / "at-once", 6, format=format, feature=FEATURES)

    summary = add(out, format=format)

    after, at_once = contents(out), contents(tmp_path / "at-once")
    rows = files_of_rows(before)
    assert {name: after[name] for name in rows} == rows, "no old shard is touched"
    assert after["samples.parquet"] == before["samples.parquet"]
    differing = {name for name in after.keys() | at_once.keys() if after.get(name) != at_once.get(name)}
    assert differing == {"manifest.json"}
    manifest, expected = open_uncached(out).manifest, open_uncached(tmp_path / "at-once").manifest
    assert summary.manifest == manifest
    assert (manifest.parent, expected.parent) == (parent.digest, None)
    assert {name for name in manifest.__struct_fields__ if getattr(manifest, name) != getattr(expected, name)} == {
        "parent"
    }
    assert manifest.views.num_views == 6
    assert summary.rows_computed == 2 * 50
    assert verify_store(out).is_intact


def test_what_was_read_before_is_read_after(store: Path, tmp_path: Path) -> None:
    """Also by a program that had opened the store before views were added."""
    opened = open_uncached(store)
    expected = [opened.read(samples_of(opened), view=view) for view in range(4)]

    add(store)

    for reader in (opened, open_uncached(store)):
        for view in range(4):
            assert_same_labels(reader.read(samples_of(reader), view=view), expected[view])
    assert (opened.num_views, open_uncached(store).num_views) == (4, 6)


@BOTH_FORMATS
def test_mixed_views_are_added_too(tmp_path: Path, format: FormatName) -> None:
    dump_views(tmp_path / "at-once", 3, augment=MIXING, format=format)
    dump_views(tmp_path / "store", 1, augment=MIXING, format=format)

    dump_views(tmp_path / "store", "+2", augment=MIXING, format=format)

    assert files_of_rows(contents(tmp_path / "store")) == files_of_rows(contents(tmp_path / "at-once"))


def test_views_may_be_added_again_and_again(store: Path, tmp_path: Path) -> None:
    digests = [open_uncached(store).digest]
    dump_views(tmp_path / "at-once", 7, feature=FEATURES)

    for views in ("+1", "+2"):
        add(store, views)
        assert open_uncached(store).manifest.parent == digests[-1]
        digests.append(open_uncached(store).digest)

    assert files_of_rows(contents(store)) == files_of_rows(contents(tmp_path / "at-once"))


def test_the_first_command_for_all_views_finds_them_there(store: Path) -> None:
    add(store)
    before = contents(store)

    assert dump_views(store, 6, feature=FEATURES).rows_computed == 0
    assert contents(store) == before


def test_a_converted_store_is_added_to_like_any_other(store: Path, tmp_path: Path) -> None:
    convert_store(open_uncached(store), tmp_path / "parquet", format="parquet")
    dump_views(tmp_path / "at-once", 6, format="parquet", feature=FEATURES)

    add(tmp_path / "parquet", format="parquet")

    found = open_uncached(tmp_path / "parquet")
    assert found.num_views == 6
    assert files_of_rows(contents(tmp_path / "parquet")) == files_of_rows(contents(tmp_path / "at-once"))


# The owner's files.


def test_a_card_as_it_was_written_is_renewed(store: Path) -> None:
    before = (store / CARD_NAME).read_text()

    manifest = add(store).manifest

    assert (store / CARD_NAME).read_text() == render_card(manifest) != before
    assert "6 view(s)" in render_card(manifest)


@pytest.mark.parametrize("card", ["# Our labels\n", ""])
def test_a_card_that_its_owner_has_edited_is_kept(store: Path, card: str) -> None:
    (store / CARD_NAME).write_text(card)

    add(store)

    assert (store / CARD_NAME).read_text() == card


def test_a_card_that_was_removed_is_written_anew(store: Path) -> None:
    (store / CARD_NAME).unlink()

    manifest = add(store).manifest

    assert (store / CARD_NAME).read_text() == render_card(manifest)


def test_files_of_the_owners_beside_the_store_survive(store: Path) -> None:
    names = ("LICENSE", "notes.tmp", "outputs/logits/notes.txt", ".git/HEAD")
    theirs = {name: f"{name} is not ours".encode() for name in names}
    for name, data in theirs.items():
        (store / name).parent.mkdir(exist_ok=True)
        (store / name).write_bytes(data)

    interrupted(store)
    add(store)

    found = contents(store)
    assert {name: found[name] for name in theirs} == theirs
    assert sorted(verify_store(store).foreign) == sorted(theirs)


# While it is under way.


@BOTH_FORMATS
def test_a_store_that_views_are_being_added_to_has_those_it_had(
    tmp_path: Path, four_views: Four, format: FormatName
) -> None:
    out = Path(shutil.copytree(four_views(format), tmp_path / "store"))
    before, expected = contents(out), open_uncached(out)

    with pytest.raises(KeyboardInterrupt, match="stopped with 5 of 8 shards finished"):
        add(out, format=format, on_progress=stop_at(67))

    opened, report = open_uncached(out), verify_store(out)
    assert (opened.num_views, opened.digest) == (4, expected.digest)
    for view in range(4):
        assert_same_labels(opened.read(samples_of(opened), view=view), expected.read(samples_of(expected), view=view))
    assert (report.is_intact, report.is_adding_views, report.digest) == (True, True, expected.digest)
    assert count_finished_shards(out) == 5
    found = contents(out)
    assert {name: found[name] for name in before} == before, "nothing of the finished store is touched"


@BOTH_FORMATS
@pytest.mark.parametrize("rows", [9, 50, 67, 100])
def test_adding_views_that_was_interrupted_ends_with_the_same_bytes(
    tmp_path: Path, four_views: Four, format: FormatName, rows: int
) -> None:
    undisturbed = Path(shutil.copytree(four_views(format), tmp_path / "undisturbed"))
    out = Path(shutil.copytree(four_views(format), tmp_path / "store"))
    add(undisturbed, format=format)
    with pytest.raises(KeyboardInterrupt):
        add(out, format=format, on_progress=stop_at(rows))

    summary = add(out, format=format)

    assert summary.rows_computed < 100 or rows == 9
    assert contents(out) == contents(undisturbed)
    assert not is_adding_views(out)


def test_damage_is_still_told_from_what_is_being_added(store: Path) -> None:
    interrupted(store)
    (store / "outputs/logits/logits/c/3/0/0").unlink()
    (store / "outputs/logits/logits/c/2/0/0").write_bytes(b"damaged")
    (store / "outputs/logits/logits/zarr.json").write_bytes(b"{}")
    (store / "outputs/logits/logits/c/6").mkdir()
    (store / "outputs/logits/logits/c/6/0").write_bytes(b"a view too many")

    report = verify_store(store)

    assert report.missing == ["outputs/logits/logits/c/3/0/0"]
    assert report.damaged == ["outputs/logits/logits/zarr.json", "outputs/logits/logits/c/2/0/0"]
    assert report.foreign == ["outputs/logits/logits/c/6/0"]


def test_another_number_of_views_is_not_added_on_top_of_those_being_added(store: Path) -> None:
    interrupted(store)
    before = contents(store)

    with pytest.raises(StoreMismatch, match=r"`dump.views` was 6, is now 7") as refused:
        add(store, "+3")

    assert "Repeat the first command to go on with it" in str(refused.value)
    assert contents(store) == before


def test_the_first_command_leaves_views_that_are_being_added_alone(store: Path, tmp_path: Path) -> None:
    interrupted(store)
    before = contents(store)

    assert dump_views(store, 4, feature=FEATURES).rows_computed == 0
    assert contents(store) == before


def test_the_same_command_adds_no_more_views_if_the_first_was_killed_before_it_had_tidied_up(
    store: Path, tmp_path: Path
) -> None:
    interrupted(store, rows=100)
    commits = tmp_path / "commits"
    shutil.copytree(store / "commits", commits)
    add(store)
    expected = contents(store)
    shutil.copytree(commits, store / "commits")
    assert verify_store(store).is_intact

    summary = add(store)

    assert (summary.rows_computed, summary.manifest.views.num_views) == (0, 6)
    assert contents(store) == expected


# What is refused.


def with_one_weight_changed() -> nn.Module:
    teacher = make_teacher()
    with torch.no_grad():
        teacher.get_submodule("classifier").get_parameter("weight")[0, 0] += 1e-6
    return teacher


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "teacher": ({"teacher": with_one_weight_changed()}, "the hash of the weights (`teacher.weights`) was "),
    "source": (
        {"source": Pictures(name="other")},
        "(`source.path`) was 'memory:pictures', is now 'other'",
    ),
    "seed": ({"augment": replace(AUGMENT, seed=6)}, "`augment.seed` was 5, is now 6"),
    "transforms": (
        {"augment": replace(AUGMENT, transforms=AUGMENT.transforms[::-1])},
        "`augment.transforms` was ['RandomCrop', 'RandomHorizontalFlip'], is now",
    ),
    "mixing": ({"augment": replace(AUGMENT, cutmix=1.0)}, "how views are mixed (`augment`)"),
    "k": ({"k": 6}, "`dump.k` was 5, is now 6"),
    "coding": ({"coding": "uint8"}, "`dump.coding` was 'float16', is now 'uint8'"),
    "temperatures": ({"temperature": (1.0, 3.0)}, "`dump.temperature` was [1.0, 2.0, 4.0], is now [1.0, 3.0]"),
    "features": (
        {"feature": {}},
        "the list of outputs was ['logits', 'pooled'], is now ['logits']",
    ),
    "format": ({"format": "parquet"}, "`dump.format` was 'zarr', is now 'parquet'"),
    "shards": ({"shard_rows": 32}, "`dump.shard_rows` was 16, is now 32"),
    "digests": ({"pixel_digests": "none"}, "`dump.pixel_digests`, one in so many, was 1, is now 0"),
    "precision": ({"autocast": "bfloat16"}, "the precision (`device.autocast`) was 'float32', is now 'bfloat16'"),
}


@pytest.mark.parametrize("count", [49, 51])
def test_views_of_fewer_or_more_samples_are_not_added(store: Path, count: int) -> None:
    before = contents(store)

    with pytest.raises(StoreMismatch, match=f"made from 50 samples, but memory:pictures has {count}"):
        add(store, source=Pictures(count=count))

    assert contents(store) == before


@pytest.mark.parametrize("change", OTHERS)
def test_views_of_something_else_are_not_added(store: Path, change: str) -> None:
    before = contents(store)
    asked, difference = OTHERS[change]

    with pytest.raises(StoreMismatch, match=re.escape(difference)) as refused:
        add(store, **asked)

    assert "views can only be added by the same teacher, over the same source, with the same options" in str(
        refused.value
    )
    assert "Repeat the command that made it, with `dump.views = 6`, or choose another `out`." in str(refused.value)
    assert contents(store) == before


def test_a_sample_that_changed_since_the_store_was_made_is_refused_by_its_key(store: Path) -> None:
    before = contents(store)

    with pytest.raises(StoreMismatch, match=r"'0007\.png'"):
        add(store, source=Pictures(black=frozenset({7})))

    assert contents(store) == before


def test_views_that_would_be_drawn_otherwise_than_those_there_are_not_added(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another version of torchvision."""
    before = contents(store)
    monkeypatch.setattr(v2.RandomHorizontalFlip, "transform", lambda self, image_CHW, params: image_CHW.flip(1))

    with pytest.raises(StoreMismatch, match="isn't what the teacher saw: its pixels differ") as refused:
        add(store)

    assert "Dump with those versions, or anew and into another `out`." in str(refused.value)
    assert contents(store) == before


def test_there_must_be_a_finished_store_to_add_to(tmp_path: Path) -> None:
    with pytest.raises(NotAStore, match="Check the address"):
        add(tmp_path / "nowhere")
    with pytest.raises(KeyboardInterrupt):
        dump_views(tmp_path / "unfinished", 4, feature=FEATURES, on_progress=stop_at(33))
    before = contents(tmp_path / "unfinished")

    with pytest.raises(UnfinishedStore, match=re.escape("again to go on with it.")):
        add(tmp_path / "unfinished")

    assert contents(tmp_path / "unfinished") == before
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_added_to_images_as_they_are(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(pixel_digests="all"))

    with pytest.raises(InvalidOption, match="without anything random they would all be the same"):
        dump_views(tmp_path / "store", "+1", augment=ViewRecipe())

"""Some views and features of a store, pulled as a store of their own."""

from pathlib import Path

import msgspec
import pytest

from softlab.errors import InvalidOption
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.store.folder import is_unfinished
from softlab.store.format import FormatName
from softlab.store.published import VERSION_NAME
from softlab.store.verify import verify_store
from tests.sharing.pulling import (
    FEATURES,
    assert_same_rows,
    open_uncached,
    plan_of_three_views,
    publish_new,
    write_keys,
)
from tests.store.building import FORMATS, contents

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
EVERYONE = range(11)


@BOTH_FORMATS
@pytest.mark.parametrize(("views", "features"), [("1-2", ("map",)), ("2", ()), ("0", None), (None, ("pooled",))])
def test_the_rows_of_a_part_are_those_of_the_whole_to_the_bit(
    tmp_path: Path, format: FormatName, views: str | None, features: tuple[str, ...] | None
) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared", plan_of_three_views(format=format))
    options = PullOptions(views=views, features=features)

    pulled = pull(address, tmp_path / "part", options)

    part, whole = open_uncached(tmp_path / "part"), open_uncached(store)
    chosen = options.parse_views() or range(3)
    assert_same_rows(
        part, whole, views=chosen, features=tuple(FEATURES) if features is None else features, samples=EVERYONE
    )
    assert verify_store(tmp_path / "part").is_intact
    assert pulled.digest == part.digest != whole.digest
    assert part.manifest.parent == whole.digest


def test_a_part_begins_with_the_view_of_the_recipe_that_it_was_asked_for(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", PullOptions(views="1-2"))

    pull(tmp_path / "part", tmp_path / "part of the part", PullOptions(views="1"))

    part, whole = open_uncached(tmp_path / "part of the part"), open_uncached(store)
    assert part.manifest.views == msgspec.structs.replace(whole.manifest.views, num_views=1, first=2)
    assert part.manifest.parent == open_uncached(tmp_path / "part").digest
    assert_same_rows(part, whole, views=[2], features=tuple(FEATURES), samples=EVERYONE)


def test_the_pixel_digests_of_its_views_come_with_a_part(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    pull(address, tmp_path / "part", PullOptions(views="1-2"))

    found, expected = open_uncached(tmp_path / "part").read_pixel_digests(1), open_uncached(store).read_pixel_digests(2)
    assert found.store_D.tolist() == expected.store_D.tolist() == [0, 2, 4, 6, 8, 10]
    assert found.digests_D.tolist() == expected.digests_D.tolist()


def test_only_the_files_of_a_part_are_fetched(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    pulled = pull(address, tmp_path / "part", PullOptions(views="1", features=()))

    whole = open_uncached(store).manifest
    shards = [
        file for shard in whole.shards if shard.view == 1 for file in shard.files if "outputs/logits/" in file.path
    ]
    files = [*shards, whole.samples_file, whole.digest_files[1]]
    assert pulled.bytes_fetched == sum(file.bytes for file in files) + (store / "manifest.json").stat().st_size


def test_the_files_of_a_part_are_those_of_the_whole_under_their_new_names(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    pull(address, tmp_path / "part", PullOptions(views="2"))

    whole = {name: data for name, data in contents(store).items() if "/c/2/" in name}
    part = {name: data for name, data in contents(tmp_path / "part").items() if "/c/" in name}
    assert part == {name.replace("/c/2/", "/c/0/"): data for name, data in whole.items()}


def test_what_was_said_about_the_whole_is_not_kept_beside_a_part(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    pulled = pull(address, tmp_path / "part", PullOptions(views="0"))

    assert pulled.version is not None
    assert not (tmp_path / "part" / VERSION_NAME).exists()
    assert (tmp_path / "part/README.md").read_text() != (store / "README.md").read_text()


@pytest.mark.parametrize("is_of_samples", [False, True])
def test_the_licence_and_what_the_owner_wrote_hold_for_a_part_too(tmp_path: Path, is_of_samples: bool) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    keys = write_keys(tmp_path / "keys.txt", ["001.png"]) if is_of_samples else None

    pull(address, tmp_path / "part", PullOptions(views="1", samples=keys))

    card = (tmp_path / "part/README.md").read_text()
    assert "Of these labels: CC0-1.0." in card
    assert "| first view | number 1 of the recipe's |" in card
    assert ("| samples chosen from | 11 |" in card) == is_of_samples
    assert "softlab pull" not in card


@pytest.mark.parametrize("options", [PullOptions(views="0-2"), PullOptions(features=("pooled", "map"))])
def test_a_part_that_leaves_nothing_out_is_the_whole(tmp_path: Path, options: PullOptions) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    assert pull(address, tmp_path / "copy", options).digest == open_uncached(store).digest


def test_a_part_is_pulled_again_to_the_same_bytes(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    options = PullOptions(views="1-2", features=())
    pull(address, tmp_path / "part", options)
    before = contents(tmp_path / "part")

    again = pull(address, tmp_path / "part", options)
    pull(address, tmp_path / "other", options)

    assert contents(tmp_path / "part") == contents(tmp_path / "other") == before
    assert again.bytes_fetched == len((tmp_path / "original/manifest.json").read_bytes())


# What is refused.


@pytest.mark.parametrize("views", ["", "a", "1-", "-1", "2-1", "0,1", "0-1-2", " 1"])
def test_views_are_one_or_a_run_of_them(views: str) -> None:
    with pytest.raises(InvalidOption, match="as in --views 0-3"):
        PullOptions(views=views)


def test_views_that_are_not_there_are_refused(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")

    with pytest.raises(InvalidOption, match=f"^{address}: has views 0 to 2, not 3"):
        pull(address, tmp_path / "part", PullOptions(views="1-3"))

    assert not is_unfinished(tmp_path / "part")


def test_features_that_are_not_there_are_refused(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")

    with pytest.raises(InvalidOption, match=f"^{address}: .* or say --features none"):
        pull(address, tmp_path / "part", PullOptions(features=("pool",)))

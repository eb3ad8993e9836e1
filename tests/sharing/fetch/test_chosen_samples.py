"""Some samples of a store, pulled as a store of their own."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from softlab.errors import DamagedStore, InvalidOption, StoreExists, StoreMismatch
from softlab.identity import keys_fingerprint, source_fingerprint
from softlab.labels.coding import Coding
from softlab.manifest import MixingRecord, StorePlan, encode, views_fingerprint
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.store.convert import convert_store
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from tests.sharing.pulling import (
    FEATURES,
    assert_same_rows,
    open_uncached,
    plan_of_three_views,
    publish,
    publish_new,
    write_keys,
)
from tests.store.building import (
    CODINGS,
    FORMATS,
    contents,
    digest_of_view,
    flip_byte,
    make_plan,
    make_samples,
    write_store,
)

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
SOME = [0, 3, 4, 5, 9, 10]
"""From all three shards of a view; they fill two."""


def keys_of(samples: list[int]) -> list[str]:
    return [f"{sample:03d}.png" for sample in samples]


def some(folder: Path, samples: list[int] = SOME, **options: str) -> PullOptions:
    """Options for these samples, whose keys are listed backwards."""
    return PullOptions(samples=write_keys(folder / "keys.txt", keys_of(samples)[::-1]), **options)  # type: ignore[arg-type]


@BOTH_FORMATS
@pytest.mark.parametrize("coding", CODINGS)
def test_the_rows_of_chosen_samples_are_those_of_the_whole_to_the_bit(
    tmp_path: Path, format: FormatName, coding: Coding
) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared", plan_of_three_views(format=format, coding=coding))

    pulled = pull(address, tmp_path / "part", some(tmp_path))

    part, whole = open_uncached(tmp_path / "part"), open_uncached(store)
    assert_same_rows(part, whole, views=range(3), features=tuple(FEATURES), samples=SOME)
    assert verify_store(tmp_path / "part").is_intact
    assert pulled.digest == part.digest
    assert part.manifest.parent == whole.digest


def test_a_part_of_a_part_still_knows_what_the_teacher_saw(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path, views="1-2"))

    pull(tmp_path / "part", tmp_path / "less", some(tmp_path, [3, 9, 10], views="1"))

    less = open_uncached(tmp_path / "less")
    recipe_N = less.read_samples().recipe_N
    assert_same_rows(less, open_uncached(store), views=[2], features=tuple(FEATURES), samples=[3, 9, 10])
    assert recipe_N is not None
    assert recipe_N.tolist() == [3, 9, 10]
    assert (less.manifest.source.chosen_from, less.manifest.views.first) == (11, 2)


def test_a_part_describes_its_own_samples(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    pull(address, tmp_path / "part", some(tmp_path))

    part, everyone = open_uncached(tmp_path / "part"), make_samples(open_uncached(store).manifest)
    hashes = [everyone.content_hashes[sample] for sample in SOME]
    table = part.read_samples()
    assert (table.keys, table.content_hashes) == (keys_of(SOME), hashes)
    assert table.targets_N is not None
    assert table.targets_N.tolist() == SOME
    assert part.manifest.source.keys_fingerprint == keys_fingerprint(keys_of(SOME))
    assert part.manifest.source_fingerprint == source_fingerprint(keys_of(SOME), hashes)


def test_the_pixel_digests_of_chosen_samples_come_with_them(tmp_path: Path) -> None:
    """Of view 1 they are kept of every odd sample."""
    _, address = publish_new(tmp_path, tmp_path / "shared")

    pull(address, tmp_path / "part", some(tmp_path, views="1-2"))

    found = open_uncached(tmp_path / "part").read_pixel_digests(0)
    assert [SOME[sample] for sample in found.store_D.tolist()] == [3, 5, 9]
    assert found.digests_D.tolist() == [digest_of_view(1, sample) for sample in (3, 5, 9)]


def test_what_is_told_of_chosen_samples_is_measured_on_them(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    pull(address, tmp_path / "part", some(tmp_path))

    part, whole = open_uncached(tmp_path / "part"), open_uncached(store)
    labels = [whole.read(SOME, view=view) for view in range(3)]
    hits = sum(int((each.class_ids_BK[:, 0].numpy() == SOME).sum()) for each in labels)
    masses = sum((1 - each.log_tail_BT.double().exp()).sum(dim=0).numpy() for each in labels)
    statistics = part.manifest.statistics
    assert (statistics["logits"].rows, statistics["logits"].rows_with_target, statistics["logits"].correct) == (
        18,
        18,
        hits,
    )
    np.testing.assert_allclose(statistics["logits"].captured_mass, masses, rtol=1e-12)


def test_logits_that_were_clipped_are_counted_at_most_as_often_as_in_the_whole(tmp_path: Path) -> None:
    """Part p of a view counts p of them. Which rows these are in is not known."""
    _, address = publish_new(tmp_path, tmp_path / "shared")

    pull(address, tmp_path / "last", some(tmp_path, [9, 10]))
    pull(address, tmp_path / "first", some(tmp_path, [0, 1]))

    assert open_uncached(tmp_path / "last").manifest.statistics["logits"].clipped_logits == 3 * 2
    assert open_uncached(tmp_path / "first").manifest.statistics["logits"].clipped_logits == 0


def test_only_shards_that_hold_a_chosen_sample_are_fetched_and_each_once(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    told: list[tuple[int, int]] = []
    options = some(tmp_path, [0, 1, 2, 8, 9, 10], views="1")

    pulled = pull(address, tmp_path / "part", options, on_bytes=lambda done, total: told.append((done, total)))

    whole = open_uncached(store).manifest
    shards = [shard for shard in whole.shards if shard.view == 1 and shard.start != 4]
    needed = sum(file.bytes for shard in shards for file in shard.files)
    assert told[-1] == (needed, needed)
    assert pulled.bytes_fetched == needed + whole.samples_file.bytes + (store / "manifest.json").stat().st_size


def test_shards_are_no_larger_than_the_chosen_samples_fill(tmp_path: Path) -> None:
    plan = make_plan(num_samples=64, shard_rows=32)
    fields = tuple(msgspec.structs.replace(field, chunk_rows=2) for field in plan.storage.fields)
    plan = msgspec.structs.replace(plan, storage=msgspec.structs.replace(plan.storage, fields=fields))
    store, address = publish_new(tmp_path, tmp_path / "shared", plan)

    pull(address, tmp_path / "part", some(tmp_path, [1, 40, 63]))

    part = open_uncached(tmp_path / "part")
    assert part.manifest.storage.shard_rows == 4
    assert_same_rows(part, open_uncached(store), views=range(2), features=("pooled",), samples=[1, 40, 63])


def test_a_file_that_names_every_key_leaves_the_store_whole(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")

    assert pull(address, tmp_path / "copy", some(tmp_path, list(range(11)))).digest == open_uncached(store).digest


def test_chosen_samples_that_are_there_are_not_fetched_again(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path))
    before = contents(tmp_path / "part")

    pull(address, tmp_path / "part", some(tmp_path), on_bytes=lambda done, total: pytest.fail("fetched"))

    assert contents(tmp_path / "part") == before


@pytest.mark.parametrize(
    "name", ["samples.parquet", "outputs/pooled/values/c/0/0/0", "pixel_digests/view-00001.parquet"]
)
def test_damage_to_chosen_samples_is_said_when_they_are_pulled_again(tmp_path: Path, name: str) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path))
    flip_byte(tmp_path / "part" / name)

    with pytest.raises(DamagedStore, match=f"{name}: its bytes are not.*Remove {tmp_path / 'part'} and pull again"):
        pull(address, tmp_path / "part", some(tmp_path))


def test_the_card_of_chosen_samples_is_written_again_where_it_is_gone(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path))
    before = contents(tmp_path / "part")
    (tmp_path / "part/README.md").unlink()

    pull(address, tmp_path / "part", some(tmp_path))

    assert contents(tmp_path / "part") == before


def test_what_a_killed_pull_left_of_the_card_is_swept_by_the_next(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path))
    before = contents(tmp_path / "part")
    (tmp_path / "part/README.md.0123456789ab.tmp").write_text("half")

    pull(address, tmp_path / "part", some(tmp_path))

    assert contents(tmp_path / "part") == before


def test_a_part_can_be_published_converted_and_pulled_again(tmp_path: Path) -> None:
    store, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path, views="1-2"))
    convert_store(open_uncached(tmp_path / "part"), tmp_path / "converted", format="parquet")

    pull(publish(tmp_path / "converted", tmp_path / "shared", name="some-pets"), tmp_path / "copy")

    copy = open_uncached(tmp_path / "copy")
    assert copy.digest == open_uncached(tmp_path / "converted").digest
    assert_same_rows(copy, open_uncached(store), views=[1, 2], features=tuple(FEATURES), samples=SOME)
    assert copy.read_pixel_digests(0).digests_D.tolist() == [digest_of_view(1, sample) for sample in (3, 5, 9)]


# What is refused.


def test_keys_that_are_of_no_sample_are_refused_with_the_first_of_them(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    keys = write_keys(tmp_path / "keys.txt", ["001.png", "cat.png", "dog.png"])

    with pytest.raises(InvalidOption, match=r"2 of 3 keys are of no sample, the first of them 'cat.png'. Correct"):
        pull(address, tmp_path / "part", PullOptions(samples=keys))


def test_samples_of_mixed_views_are_refused(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared", with_mixing(plan_of_three_views()))

    with pytest.raises(InvalidOption, match="Leave --samples out"):
        pull(address, tmp_path / "part", some(tmp_path))

    pull(address, tmp_path / "views", PullOptions(views="1"))
    assert open_uncached(tmp_path / "views").manifest.views.first == 1


def with_mixing(plan: StorePlan) -> StorePlan:
    mixing = MixingRecord(mixup=1.0, cutmix=None, cutmix_share=0.5, share=1.0)
    fingerprint = views_fingerprint(seed=0, transforms=(), mixing=mixing)
    views = msgspec.structs.replace(plan.views, mixing=mixing, fingerprint=fingerprint)
    return msgspec.structs.replace(plan, views=views)


def test_other_samples_are_not_pulled_into_the_same_folder(tmp_path: Path) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path))

    with pytest.raises(StoreExists, match="was made differently"):
        pull(address, tmp_path / "part", some(tmp_path, [1, 2]))


def test_an_interrupted_pull_of_other_samples_is_not_gone_on_with(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    _, address = publish_new(tmp_path, tmp_path / "shared")
    with pytest.raises(Stopped):
        pull(address, tmp_path / "part", some(tmp_path), on_bytes=stop)

    with pytest.raises(StoreMismatch, match="begun differently"):
        pull(address, tmp_path / "part", some(tmp_path, [1, 2]))


@pytest.mark.parametrize(
    ("chosen_from", "problem"), [(None, "that are not asked for"), (10, "has the recipe index 10 of 10")]
)
def test_numbers_that_contradict_the_manifest_are_refused(
    tmp_path: Path, chosen_from: int | None, problem: str
) -> None:
    _, address = publish_new(tmp_path, tmp_path / "shared")
    pull(address, tmp_path / "part", some(tmp_path))
    manifest = open_uncached(tmp_path / "part").manifest
    source = msgspec.structs.replace(manifest.source, chosen_from=chosen_from)
    (tmp_path / "part/manifest.json").write_bytes(encode(msgspec.structs.replace(manifest, source=source)))

    with pytest.raises(DamagedStore, match=f"{problem}.*Get the store again"):
        open_uncached(tmp_path / "part").read_samples()


def test_a_store_without_a_view_or_sample_left_out_says_nothing_of_it(tmp_path: Path) -> None:
    write_store(tmp_path / "store", make_plan())

    store = open_uncached(tmp_path / "store")

    assert (store.manifest.views.first, store.manifest.source.chosen_from) == (0, None)
    assert store.read_samples().recipe_N is None

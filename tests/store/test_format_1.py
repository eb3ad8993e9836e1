"""Stores that the previous release wrote.

In `tests/fixtures/format_1`, `zarr` has two augmented views, the uint8 coding and a feature; `parquet` has one view.
`images.parquet` is their source, and `expected.npz` holds what the previous release read.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from softlab.errors import StoreError
from softlab.manifest import MANIFEST_NAME, encode
from softlab.manifest.strict_json import decode_strictly
from softlab.manifest.version1 import Manifest1
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.opening import open_source
from softlab.models import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.convert import convert_store
from softlab.store.folder import PLAN_NAME
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from softlab.store.verify import verify_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.run_folder import StudentResult
from softlab.student.train import train_students
from softlab.teacher.dump import DumpSummary, dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.sharing.pulling import assert_same_rows, publish, write_keys
from tests.store.building import FORMATS, contents, make_plan, write_store
from tests.student.fashion import same_weights
from tests.student.flat_options import train_options

FIXTURE = Path(__file__).parents[1] / "fixtures" / "format_1"
NAMES: tuple[FormatName, ...] = ("zarr", "parquet")
BOTH = pytest.mark.parametrize("name", NAMES)
NO_CACHE = CacheOptions(max_bytes=0)
FEATURES: dict[str, tuple[str, ...]] = {"zarr": ("pool",), "parquet": ()}
MODEL = ModelOptions(model="softlab:grey_cnn", arguments={"num_classes": 6, "width": 4})


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    with np.load(FIXTURE / "expected.npz") as arrays:
        return dict(arrays)


def images() -> Source:
    return open_source(SourceOptions(path=str(FIXTURE / "images.parquet")))


def make_model(*, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model(MODEL)


# Reading.


@BOTH
def test_it_opens_and_is_intact(name: str, expected: dict[str, Any]) -> None:
    store = open_store(FIXTURE / name, cache=NO_CACHE)

    assert store.manifest.format_version == 1
    assert store.digest == expected[f"{name}/digest"]
    assert verify_store(FIXTURE / name).is_intact
    assert encode(store.manifest) == (FIXTURE / name / MANIFEST_NAME).read_bytes()


@pytest.mark.parametrize("is_cached", [True, False])
@BOTH
def test_its_rows_are_those_that_the_previous_release_read(
    name: str, is_cached: bool, expected: dict[str, Any], tmp_path: Path
) -> None:
    store = open_store(FIXTURE / name, cache=CacheOptions(dir=tmp_path) if is_cached else NO_CACHE)

    assert_expected_rows(store, name, expected)


def assert_expected_rows(store: Store, name: str, expected: dict[str, Any]) -> None:
    table = store.read_samples()
    assert list(table.keys) == expected[f"{name}/keys"].tolist()
    assert [each.hex() for each in table.content_hashes] == expected[f"{name}/content_hashes"].tolist()
    np.testing.assert_array_equal(table.targets_N, expected[f"{name}/targets"], strict=True)
    assert store.feature_names == FEATURES[name]
    for view in range(2 if name == "zarr" else 1):
        labels = store.read(range(40), view=view)
        found = {each: getattr(labels, each) for each in ("class_ids_BK", "logits_BK", "log_tail_BT", "max_logit_B")}
        found |= {each: store.read_features(each, range(40), view=view) for each in FEATURES[name]}
        found |= {"digests": torch.from_numpy(store.read_pixel_digests(view).digests_D.copy())}
        for each, tensor in found.items():
            np.testing.assert_array_equal(tensor.numpy(), expected[f"{name}/{view}/{each}"], strict=True)


@pytest.mark.parametrize("feature", ["unit", "scale", "class_ids", "logits", "values", "labels"])
def test_a_feature_may_have_the_name_that_something_else_has_today(
    tmp_path: Path, feature: str, expected: dict[str, Any]
) -> None:
    shutil.copytree(FIXTURE / "zarr", tmp_path / "store")
    (tmp_path / "store/features/pool").rename(tmp_path / "store/features" / feature)
    manifest = (tmp_path / "store" / MANIFEST_NAME).read_text()
    manifest = manifest.replace('"features/pool', f'"features/{feature}').replace(
        '"name": "pool"', f'"name": "{feature}"'
    )
    (tmp_path / "store" / MANIFEST_NAME).write_text(manifest)

    store = open_store(tmp_path / "store", cache=NO_CACHE)
    convert_store(store, tmp_path / "new", format="parquet")

    for each in (store, open_store(tmp_path / "new", cache=NO_CACHE)):
        values = each.read_features(feature, range(40), view=1)
        np.testing.assert_array_equal(values.numpy(), expected["zarr/1/pool"], strict=True)
        np.testing.assert_array_equal(each.read(range(40)).logits_BK.numpy(), expected["zarr/0/logits_BK"], strict=True)


# Going over to today's format.


@pytest.mark.parametrize("format", FORMATS)
@BOTH
def test_a_conversion_is_of_today_s_format_with_the_same_rows(
    tmp_path: Path, name: str, format: FormatName, expected: dict[str, Any]
) -> None:
    store = open_store(FIXTURE / name, cache=NO_CACHE)

    manifest = convert_store(store, tmp_path / "new", format=format)

    new = open_store(tmp_path / "new", cache=NO_CACHE)
    assert (manifest.format_version, manifest.storage.format, manifest.parent) == (2, format, store.digest)
    assert verify_store(tmp_path / "new").is_intact
    assert_expected_rows(new, name, expected)
    assert new.manifest.statistics == store.manifest.statistics
    folders = {path.split("/")[0] for path in contents(tmp_path / "new") if "/" in path}
    assert folders == {"outputs", "pixel_digests"}


def train(store: Store, name: str) -> tuple[nn.Module, StudentResult]:
    student = make_model(seed=1)
    feature = {each: FeatureLoss(layer=each) for each in FEATURES[name]}
    options = train_options(
        epochs=3, batch_size=8, device="cpu", temperature=2.0, alpha=0.7, feature=feature, track=(), workers=0
    )
    (result,) = train_students({"student": student}, images(), [store], options)
    return student, result


@BOTH
def test_a_student_of_it_is_that_of_its_conversion_to_the_bit(tmp_path: Path, name: FormatName) -> None:
    store = open_store(FIXTURE / name)
    convert_store(store, tmp_path / "new", format=name)

    student, result = train(store, name)
    other, _ = train(open_store(tmp_path / "new"), name)

    assert same_weights(student, other)
    assert result.train_loss == pytest.approx({"zarr": 0.774788, "parquet": 0.562456}[name], rel=1e-4)


# Going on with it.


PARTS = {
    "all": PullOptions(),
    "a view": PullOptions(views="1"),
    "no features": PullOptions(features=()),
    "a view without features": PullOptions(views="0", features=()),
}


@pytest.mark.parametrize("options", PARTS.values(), ids=PARTS)
def test_a_part_that_is_pulled_keeps_its_format(tmp_path: Path, options: PullOptions) -> None:
    address = publish(FIXTURE / "zarr", tmp_path / "shared")

    pulled = pull(address, tmp_path / "part", options)

    part, whole = open_store(tmp_path / "part", cache=NO_CACHE), open_store(FIXTURE / "zarr", cache=NO_CACHE)
    features = FEATURES["zarr"] if options.features is None else options.features
    assert part.manifest.format_version == 1
    assert pulled.is_whole == (part.digest == whole.digest) == (options == PullOptions())
    assert verify_store(tmp_path / "part").is_intact
    assert_same_rows(part, whole, views=options.parse_views() or range(2), features=features, samples=range(40))


@BOTH
def test_chosen_samples_that_are_pulled_keep_its_format(tmp_path: Path, name: str) -> None:
    whole = open_store(FIXTURE / name, cache=NO_CACHE)
    samples = [0, 1, 9, 17, 31, 39]
    keys = write_keys(tmp_path / "keys.txt", [whole.read_samples().keys[sample] for sample in samples])
    address = publish(FIXTURE / name, tmp_path / "shared")

    for _ in range(2):  # the second time it is there already
        pull(address, tmp_path / "part", PullOptions(samples=keys, views="0"))

    part = open_store(tmp_path / "part", cache=NO_CACHE)
    assert part.manifest.format_version == 1
    assert verify_store(tmp_path / "part").is_intact
    assert_same_rows(part, whole, views=[0], features=FEATURES[name], samples=samples)


def dump(out: Path, *, views: int | str) -> DumpSummary:
    """The dump that made the fixture."""
    arguments = {"num_classes": 6, "width": 4}
    teacher = Teacher(
        module=make_model(seed=0),
        name="softlab:grey_cnn",
        arguments=arguments,
        input=ImageInput(mean=(0.5,), std=(0.25,)),
    )
    options = DumpOptions(
        k=4,
        coding="uint8",
        gap_step=1 / 64,
        views=views,
        feature={"pool": "pool"},
        shard_rows=16,
        batch_size=8,
        device=DeviceOptions(name="cpu"),
        pixel_digests="all",
    )
    augment = ViewRecipe(transforms=("RandomCrop(12, padding=2)", "RandomHorizontalFlip()"), seed=3)
    return dump_teacher(teacher, images(), out, options, augment=augment)


def test_views_are_added_to_it_in_its_own_format(tmp_path: Path) -> None:
    shutil.copytree(FIXTURE / "zarr", tmp_path / "store")
    whole = open_store(FIXTURE / "zarr", cache=NO_CACHE)

    summary = dump(tmp_path / "store", views="+1")

    store = open_store(tmp_path / "store", cache=NO_CACHE)
    assert summary.rows_computed == 40
    assert (store.manifest.format_version, store.manifest.parent, store.num_views) == (1, whole.digest, 3)
    assert verify_store(tmp_path / "store").is_intact
    for view in range(2):
        np.testing.assert_array_equal(
            store.read_packed(range(40), view=view), whole.read_packed(range(40), view=view), strict=True
        )
    assert not store.read(range(40), view=2).logits_BK.equal(store.read(range(40), view=1).logits_BK)
    assert train(open_store(tmp_path / "store"), "zarr")[1].error is None


@pytest.mark.parametrize("views", [2, "+1"])
def test_the_same_dump_again_finds_it_finished(tmp_path: Path, views: int | str) -> None:
    shutil.copytree(FIXTURE / "zarr", tmp_path / "store")
    if views == "+1":
        dump(tmp_path / "store", views="+1")
    before = contents(tmp_path / "store")

    summary = dump(tmp_path / "store", views=2 if views == 2 else 3)

    assert summary.rows_computed == 0
    assert contents(tmp_path / "store") == before


def test_views_that_the_previous_release_began_to_add_are_not_gone_on_with(tmp_path: Path) -> None:
    """Its plan can't be read any more. But that is no reason to remove the store."""
    shutil.copytree(FIXTURE / "zarr", tmp_path / "store")
    manifest = json.loads((tmp_path / "store" / MANIFEST_NAME).read_bytes())
    ends = ("source_fingerprint", "samples_file", "layout_files", "shards", "statistics", "digest_files")
    plan = {key: manifest[key] for key in manifest if key not in ends}
    (tmp_path / "store/commits").mkdir()
    (tmp_path / "store" / PLAN_NAME).write_text(json.dumps(plan))

    for use in (verify_store, lambda store: dump(store, views="+1")):
        with pytest.raises(StoreError, match=re.escape(f"or remove {tmp_path / 'store/commits'} and add them again.")):
            use(tmp_path / "store")

    shutil.rmtree(tmp_path / "store/commits")
    dump(tmp_path / "store", views="+1")
    assert verify_store(tmp_path / "store").is_intact


# The other way round.


class Header(msgspec.Struct):
    """What the previous release reads of a manifest that it doesn't know."""

    format: str
    format_version: int


def test_today_s_manifest_tells_the_previous_release_to_be_upgraded(tmp_path: Path) -> None:
    """It tries to decode a manifest as its own, which must fail, and then looks at the header."""
    write_store(tmp_path, make_plan())
    data = (tmp_path / MANIFEST_NAME).read_bytes()

    with pytest.raises(ValueError, match="Invalid enum value 2"):
        decode_strictly(data, Manifest1)
    assert msgspec.json.decode(data, type=Header) == Header(format="softlab", format_version=2)
    assert list(json.loads(data))[:2] == ["format", "format_version"]

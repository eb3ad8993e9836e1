"""Training on stores that lie elsewhere: to the last bit as from this disk, and nothing is fetched twice."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.feature_losses import FeatureLoss
from tests.store.remote import open_counted, upload
from tests.student.fashion import same_weights
from tests.student.pictures import make_store, make_student, pictures, stop_at, train

AT_START = ("samples.parquet", "pixel_digests/view-00000.parquet", "pixel_digests/view-00001.parquet", "manifest.json")
SOURCE = pictures(count=96)
READERS = pytest.mark.parametrize("max_bytes", [1 << 30, 0], ids=["cached", "uncached"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two views in 12 shards each, with a feature."""
    root = tmp_path_factory.mktemp("streamed") / "store"
    augment = ViewRecipe(transforms=("RandomHorizontalFlip()",))
    options: dict[str, Any] = {"views": 2, "shard_rows": 8, "feature": {"mean": "conv:mean"}, "pixel_digests": "all"}
    make_store(root, source=SOURCE, augment=augment, **options)
    return root


@pytest.fixture(scope="module")
def expected(root: Path) -> nn.Module:
    """Trained from this disk, without a row cache."""
    return learn(open_store(root, cache=CacheOptions(max_bytes=0)))


def learn(store: Store, **options: Any) -> nn.Module:
    student = make_student()
    train(
        student,
        store,
        source=SOURCE,
        epochs=4,
        shuffle="blocks",
        feature={"mean": FeatureLoss(layer="conv:mean")},
        **options,
    )
    return student


@READERS
def test_a_student_learns_from_a_bucket_what_it_learns_from_the_disk(
    tmp_path: Path, root: Path, bucket: str, expected: nn.Module, max_bytes: int
) -> None:
    upload(root, bucket)
    cache = CacheOptions(dir=tmp_path, max_bytes=max_bytes)

    first, cached = (learn(open_store(bucket, cache=cache)) for _ in range(2))

    assert same_weights(first, expected)
    assert same_weights(cached, expected)


def test_each_object_is_fetched_once_and_by_a_second_run_only_what_is_checked_at_its_start(
    tmp_path: Path, root: Path, expected: nn.Module
) -> None:
    cache = CacheOptions(dir=tmp_path)
    store, first_reads = open_counted(root, cache=cache)
    first = learn(store)
    store, second_reads = open_counted(root, cache=cache)
    second = learn(store)

    paths = {file.path for file in store.manifest.files if not file.path.endswith("zarr.json")} | {"manifest.json"}
    assert first_reads.reads == dict.fromkeys(paths, 1)
    assert second_reads.reads == dict.fromkeys(AT_START, 1)
    assert same_weights(first, expected)
    assert same_weights(second, expected)


def test_the_row_cache_may_be_deleted_while_a_student_learns(tmp_path: Path, root: Path, expected: nn.Module) -> None:
    store, _ = open_counted(root, cache=CacheOptions(dir=tmp_path / "cache"))

    student = learn(store, on_progress=lambda progress: shutil.rmtree(tmp_path / "cache", ignore_errors=True))

    assert same_weights(student, expected)


def test_a_run_that_was_stopped_goes_on_from_another_copy_of_its_store(tmp_path: Path, root: Path, bucket: str) -> None:
    """Where a store lies is no part of what it is."""
    upload(root, bucket)
    whole, stopped = make_student(), make_student()
    train(whole, open_store(root), source=SOURCE)

    with pytest.raises(KeyboardInterrupt):
        train(
            stopped,
            open_store(root),
            source=SOURCE,
            out=tmp_path,
            on_progress=stop_at(5),
            checkpoint_steps=4,
        )
    resumed = make_student()
    train(resumed, open_store(bucket), source=SOURCE, out=tmp_path, checkpoint_steps=4)

    assert same_weights(resumed, whole)

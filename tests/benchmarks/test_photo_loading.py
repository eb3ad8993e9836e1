from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from softlab.modalities.images.decode import decode_image
from softlab.modalities.images.views.replay import ImageReplay
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from tests.benchmarks.peers.photo_libraries import LIBRARIES
from tests.benchmarks.peers.photo_loader import ALL, FEW, SIDE, Loaded, PhotoLoader, PhotoSet
from tests.benchmarks.peers.photo_own import OWN, STORED
from tests.benchmarks.peers.photo_published import write_fkd, write_tinyvit
from tests.benchmarks.photo_loading import HEADERS, NUM_VIEWS, bench_photographs, prepare, start
from tests.benchmarks.photo_turns import BATCH, GRADIENT, Loading
from tests.benchmarks.report import Report
from tests.forks import run_in_fork

pytestmark = [pytest.mark.process, pytest.mark.slow]

TORCHVISION = LIBRARIES[0]


def nothing() -> None: ...


@pytest.fixture(scope="module", autouse=True)
def forks_of_other_tests() -> None:
    """Their server is the first to start, as a process has only one, which imports what the first one asks for."""
    run_in_fork(nothing)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    folder = tmp_path_factory.mktemp("photos")
    return prepare(folder, count=20, originals=(), checkouts={"fkd": folder, "tinyvit": folder})


def _open(path: Path) -> Store:
    return open_store(path, cache=CacheOptions(max_bytes=0))


@pytest.mark.parametrize("loader", [*OWN, TORCHVISION])
def test_a_loader_gives_normalised_batches_without_end_and_a_loss_with_a_gradient(
    loader: PhotoLoader, photos: PhotoSet
) -> None:
    batches = loader.load(photos)

    for _ in range(3):
        batch = next(batches)
        logits_BC = torch.zeros(photos.batch_size, photos.num_classes, requires_grad=True)
        batch.loss(logits_BC).backward()  # type: ignore[no-untyped-call]
        assert batch.images_BCHW.shape == (photos.batch_size, 3, SIDE, SIDE)
        assert 0.3 < float(batch.images_BCHW.std()) < 3
        assert logits_BC.grad is not None
        assert float(logits_BC.grad.abs().max()) > 0


def test_files_for_fkd_hold_the_crops_and_probabilities_of_the_stored_views(photos: PhotoSet) -> None:
    store = _open(photos.stores[FEW])
    replay = ImageReplay(store.manifest.views, num_samples=store.num_samples)

    write_fkd(photos)

    index, key = 7, store.read_samples().keys[7]
    file = photos.scratch / "fkd" / photos.folder.name / Path(key).with_suffix(".tar")
    corners, flips, labels_V2K = torch.load(file)
    image_CHW = decode_image((photos.folder / key).read_bytes())
    height, width = image_CHW.shape[1:]
    for view in range(NUM_VIEWS):
        top, left, tall, wide = (
            round(float(share) * side) for share, side in zip(corners[view], (height, width) * 2, strict=True)
        )
        cut_CHW = functional.resized_crop(image_CHW, top, left, tall, wide, [SIDE, SIDE])
        (expected,) = replay.views([index], [view], lambda _: image_CHW)
        assert torch.equal(cut_CHW.flip(-1) if flips[view] else cut_CHW, expected.example)
        labels = store.read([index], view=view)
        assert torch.equal(labels_V2K[view, 0].int(), labels.class_ids_BK[0])
        assert torch.allclose(labels_V2K[view, 1], _probabilities(store, index, view=view), atol=1e-6)


def test_the_file_for_tinyvit_holds_a_seed_and_the_probabilities_of_each_sample(photos: PhotoSet) -> None:
    store = _open(photos.stores[ALL])

    write_tinyvit(photos)

    folder = photos.scratch / "tinyvit" / f"logits_top{store.k}_epoch0"
    values, size = (folder / "rank0-values.bin").read_bytes(), 4 + 4 * store.k
    assert (folder / "rank0-keys.txt").read_text().split() == [str(index) for index in range(store.num_samples)]
    for index in (0, 11):
        row = values[index * size : (index + 1) * size]
        class_ids_K = np.frombuffer(row[4 : 4 + 2 * store.k], dtype=np.int16)
        shares_K = np.frombuffer(row[4 + 2 * store.k :], dtype=np.float16)
        assert class_ids_K.tolist() == store.read([index]).class_ids_BK[0].tolist()
        assert np.allclose(shares_K, _probabilities(store, index, view=0).numpy(), atol=1e-3)


def _probabilities(store: Store, index: int, *, view: int) -> torch.Tensor:
    """Of the kept classes; the store's tail at temperature 1 is the probability of all others."""
    labels = store.read([index], view=view)
    (tail,) = labels.log_tail_BT[:, 0].exp()
    kept_K: torch.Tensor = labels.logits_BK[0].softmax(dim=0) * (1 - tail)
    return kept_K


def _load_nothing(_: PhotoSet) -> Iterator[Loaded]:
    raise ImportError("No module named 'missing'")


def _load_what_is_not_normalised(photos: PhotoSet) -> Iterator[Loaded]:
    yield Loaded(images_BCHW=torch.full((photos.batch_size, 3, SIDE, SIDE), 255.0), loss=torch.sum)


def test_a_peer_that_is_not_installed_is_a_line_that_says_so(photos: PhotoSet) -> None:
    assert start(replace(TORCHVISION, load=_load_nothing), photos) == "not installed (No module named 'missing')"
    assert start(replace(TORCHVISION, modules=("missing",)), photos) == "not installed (No module named 'missing')"


def test_a_loader_that_gives_something_else_is_found_out(photos: PhotoSet) -> None:
    with pytest.raises(RuntimeError, match="normalised"):
        start(replace(TORCHVISION, load=_load_what_is_not_normalised), photos)


def test_a_turn_has_its_batches_and_a_step_costs_more_than_loading(photos: PhotoSet) -> None:
    loading = Loading(STORED, photos)

    rates = [loading.turn(kind, batches=2) for kind in (BATCH, GRADIENT, BATCH, GRADIENT)]
    totals = loading.end()

    assert [each.samples for each in rates] == [2 * photos.batch_size] * 4
    assert rates[3].cpu_s > rates[2].cpu_s > 0
    assert loading.start.cpu_s > 0
    assert 0 < totals.memory_bytes < 2e9
    assert 10_000 < totals.bytes_a_sample < 200_000  # JPEGs of 30 to 80 kB


@pytest.mark.slow
def test_the_table_has_a_line_for_every_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()

    bench_photographs(report, tmp_path, rounds=1, count=32)
    report.bars()

    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    named = {row[0].split()[0]: row for row in rows}
    assert len(named["softlab"]) == len(named["torchvision"]) == len(HEADERS)
    assert float(named["torchvision"][4]) > 0
    assert "not installed (no checkout: --checkout fkd=FOLDER)" in named["FKD"][1]
    assert "not installed (no checkout: --checkout tinyvit=FOLDER)" in named["TinyViT"][1]
    assert "photographs to batches, stored labels against hard ones" in [row[0] for row in rows]

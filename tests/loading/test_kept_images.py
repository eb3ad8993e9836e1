"""Decoded images that are kept on disk: what is read is what was decoded, whoever writes, dies or damages the file."""

# Shape letters: C channels, H height, W width.

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, SlowReads, StoreWriteFailed
from softlab.loading import kept_images
from softlab.loading.kept_images import keep_images
from softlab.loading.loader import Batches
from softlab.modalities.images import modality as images_modality
from softlab.modalities.images.decoding import ImageDecoding
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.modality import MODALITY, Images
from softlab.modalities.opening import open_source
from softlab.models.device import DeviceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.options import RunOptions, TrainOptions
from softlab.student.train import train_students
from softlab.student.validation import Validation
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.loading.keeping import MIB, content, image, keeper
from tests.sources.pictures import encoded, picture, write_folder


@pytest.fixture
def reopened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As in a new process: the file is opened anew."""

    def reopen() -> None:
        for environment in kept_images._opened.values():
            environment.close()
        kept_images._opened.clear()

    return reopen


# What comes back.


def test_an_image_that_was_kept_comes_back_to_the_last_bit(tmp_path: Path, reopened: Callable[[], None]) -> None:
    keeper(tmp_path).keep({content(seed): image(seed) for seed in range(5)})
    reopened()

    found = [keeper(tmp_path).get(content(seed)) for seed in range(6)]

    assert found[5] is None
    for seed, each in enumerate(found[:5]):
        assert each is not None
        assert torch.equal(each, image(seed))
        assert each.permute(1, 2, 0).is_contiguous()  # as a decoder gives it


def test_images_that_are_decoded_otherwise_or_by_other_versions_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = CacheOptions(dir=tmp_path, images_gib=8 * MIB)
    kept = keep_images(options, MODALITY)
    assert kept is not None
    kept.keep({content(0): image(0)})

    others = [Images(ImageDecoding(background="black")), Images(ImageDecoding(shrink=9))]
    found = [keep_images(options, other) for other in others]
    monkeypatch.setattr(images_modality, "version", lambda name: "0.0.1" if name == "pillow" else "9")
    found.append(keep_images(options, MODALITY))

    assert kept.get(content(0)) is not None
    assert [each and each.get(content(0)) for each in found] == [None] * 3


def test_pixels_that_do_not_fit_their_hash_are_not_given_out(tmp_path: Path, reopened: Callable[[], None]) -> None:
    keeper(tmp_path).keep({content(0): image(0)})
    reopened()
    file = tmp_path / "images" / "data.mdb"
    data = bytearray(file.read_bytes())
    pixels = image(0).permute(1, 2, 0).numpy().tobytes()
    data[data.index(pixels[:64]) + 40] ^= 1
    file.write_bytes(data)

    assert keeper(tmp_path).get(content(0)) is None


# The bound.


def test_a_full_cache_says_so_once_keeps_its_bound_and_still_serves(tmp_path: Path) -> None:
    kept = keeper(tmp_path, gib=2 * MIB)

    def keep_all() -> None:
        for seed in range(200):
            kept.keep({content(seed): image(seed, side=64)})

    with pytest.warns(SlowReads, match=r"images is full \(0.00195312 GiB\), .* Raise `cache.images_gib`") as told:
        keep_all()

    assert len(told) == 1
    held = [seed for seed in range(200) if kept.get(content(seed)) is not None]
    assert held == list(range(len(held)))
    assert 50 < len(held) < 200
    assert (tmp_path / "images" / "data.mdb").stat().st_size <= 2 << 20


def test_of_a_batch_that_is_larger_than_the_room_a_part_is_kept(tmp_path: Path) -> None:
    kept = keeper(tmp_path, gib=2 * MIB)

    with pytest.warns(SlowReads):
        kept.keep({content(seed): image(seed, side=64) for seed in range(200)})

    assert sum(kept.get(content(seed)) is not None for seed in range(200)) > 10


def test_a_smaller_bound_than_what_is_there_reads_it_and_writes_no_more(
    tmp_path: Path, reopened: Callable[[], None]
) -> None:
    keeper(tmp_path).keep({content(seed): image(seed, side=64) for seed in range(200)})
    reopened()
    small = keeper(tmp_path, gib=MIB)

    assert all(small.get(content(seed)) is not None for seed in range(200))
    with pytest.warns(SlowReads):
        small.keep({content(900): image(900)})
    assert small.get(content(900)) is None


# Other processes.

WRITE = """
import sys
import time
from pathlib import Path
from tests.loading.keeping import content, image, keeper
kept = keeper(Path(sys.argv[1]), gib=float(sys.argv[2]))
print("begins", flush=True)
for seed in range(int(sys.argv[3]), int(sys.argv[4])):
    kept.keep({content(seed): image(seed)})
    print(seed, flush=True)
"""


def writer(folder: Path, first: int, stop: int, *, gib: float = 64 * MIB) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE, str(folder), str(gib), str(first), str(stop)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.process
def test_two_processes_write_and_read_at_once(tmp_path: Path) -> None:
    kept = keeper(tmp_path, gib=MIB)  # smaller than what the others write: the file outgrows its map
    kept.keep({content(999): image(999)})

    others = [writer(tmp_path, 0, 80), writer(tmp_path, 60, 140)]
    while any(other.poll() is None for other in others):
        assert kept.get(content(999)) is not None
        time.sleep(0.02)

    for other in others:
        assert other.wait() == 0
        assert other.stdout is not None
        other.stdout.close()
    for seed in (*range(140), 999):
        found = kept.get(content(seed))
        assert found is not None
        assert torch.equal(found, image(seed))


@pytest.mark.process
def test_a_process_that_is_killed_while_it_writes_leaves_all_that_was_there(tmp_path: Path) -> None:
    killed = writer(tmp_path, 0, 100_000)
    assert killed.stdout is not None
    first_lines = [killed.stdout.readline() for _ in range(9)]
    done = [int(line) for line in first_lines[1:]]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()

    kept = keeper(tmp_path)
    kept.keep({content(200_000): image(200_000)})  # the lock of the dead is free

    for seed in (*done, 200_000):
        found = kept.get(content(seed))
        assert found is not None
        assert torch.equal(found, image(seed))


@pytest.mark.process
def test_a_forked_process_opens_the_file_anew(tmp_path: Path) -> None:
    kept = keeper(tmp_path)
    kept.keep({content(0): image(0)})

    child = os.fork()
    if child == 0:
        code = 1
        try:
            found = kept.get(content(0))
            kept.keep({content(1): image(1)})
            another = threading.Thread(target=lambda: kept.keep({content(2): image(2)}), daemon=True)
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if kept.get(content(1)) is not None else 1)
            another.start()
            another.join(timeout=30)
            _, of_grandchild = os.waitpid(grandchild, 0)
            code = of_grandchild if found is not None and not another.is_alive() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert kept.get(content(1)) is not None
    assert kept.get(content(2)) is not None


# Files that aren't ours.


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b"what somebody else wrote" * 1000),
        lambda file: file.write_bytes(b""),
        lambda file: os.truncate(file, file.stat().st_size // 2),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["foreign", "empty", "cut off", "a folder"],
)
def test_a_damaged_or_foreign_file_is_refused_with_what_to_do(
    tmp_path: Path, spoil: Callable[[Path], Any], reopened: Callable[[], None]
) -> None:
    keeper(tmp_path).keep({content(seed): image(seed, side=64) for seed in range(50)})
    reopened()
    file = tmp_path / "images" / "data.mdb"
    spoil(file)

    if file.is_file() and not file.stat().st_size:  # as LMDB itself makes it
        assert keeper(tmp_path).get(content(0)) is None
        return
    with pytest.raises(StoreWriteFailed, match=r"images: .* Delete this folder, .* \(`cache.images_gib = 0`\)"):
        keeper(tmp_path).get(content(0))


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoreWriteFailed, match=r"is a link, .* \(`cache.images_gib = 0`\)"):
        keeper(tmp_path).get(content(0))


# Options, and whole runs.


@pytest.mark.parametrize("gib", [-1.0, float("inf"), float("nan")])
def test_a_bound_that_is_none_is_refused(gib: float) -> None:
    with pytest.raises(InvalidOption, match=r"cache.images_gib = .*: expected 0 or more"):
        CacheOptions(images_gib=gib)


def test_where_each_view_decodes_what_it_needs_there_is_nothing_to_keep(tmp_path: Path) -> None:
    options = CacheOptions(dir=tmp_path, images_gib=1)

    with pytest.raises(InvalidOption, match=r"with `input.jpeg = scaled` .* Say `input.shrink` too"):
        keep_images(options, Images(ImageDecoding(jpeg="scaled")))
    assert keep_images(options, Images(ImageDecoding(jpeg="scaled", shrink=9))) is not None
    assert keep_images(replace(options, images_gib=0), MODALITY) is None


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)

    with pytest.raises(
        InvalidOption, match=r"needs lmdb, which isn't installed\. .* pip install 'softlab\[image-cache\]'$"
    ):
        keep_images(CacheOptions(dir=tmp_path, images_gib=1), MODALITY)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    files = {f"{'ab'[seed % 2]}/{seed}.png": encoded(picture(seed=seed, size=(30, 24))) for seed in range(12)}
    return open_source(write_folder(tmp_path / "pets", files))


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(3 * 16, 2))


@pytest.mark.filterwarnings("ignore::softlab.errors.SoftlabWarning")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.process)])
@pytest.mark.parametrize("shrink", [None, 16])
def test_a_run_that_reads_kept_images_is_the_run_that_decodes_them(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch, workers: int, shrink: int | None
) -> None:
    teacher = Teacher(module=linear(), name="linear", arguments={}, input=ImageInput(size=(16, 16), shrink=shrink))
    dump_teacher(teacher, source, tmp_path / "s.zarr", DumpOptions(k=2, batch_size=4))
    how = TrainOptions(run=RunOptions(epochs=2, batch_size=4), device=DeviceOptions(workers=workers))

    def train(gib: float) -> Tensor:
        store = open_store(tmp_path / "s.zarr", cache=CacheOptions(dir=tmp_path / "cache", images_gib=gib))
        student = linear()
        train_students(
            {"small": student}, source, [store], how, input=ImageInput(size=(16, 16)), valid=Validation(source=source)
        )
        return torch.cat([each.detach().flatten() for each in student.parameters()])

    plain, filling = train(0), train(8 * MIB)
    monkeypatch.setattr(kept_images, "decode_sample", lambda *_: pytest.fail("decoded again"))
    kept = train(8 * MIB)

    assert torch.equal(plain, filling)
    assert torch.equal(plain, kept)
    assert sorted(os.listdir(tmp_path / "cache" / "images")) == ["data.mdb", "lock.mdb"]


def test_without_the_option_nothing_is_written(tmp_path: Path, source: Source) -> None:
    from softlab.indices import SourceIndex
    from softlab.loading.aligned import Aligned
    from softlab.loading.decoded import Decoded
    from softlab.loading.order import RowIndices

    aligned = Aligned(source=source, inputs=(ImageInput(),), cache=CacheOptions(dir=tmp_path / "cache"))

    Batches(aligned, Decoded(0)).make(RowIndices(SourceIndex(np.arange(3)), np.zeros(3, dtype=np.int64)))

    assert not (tmp_path / "cache").exists()

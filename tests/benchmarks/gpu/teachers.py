"""A dump against the teacher's bare forward pass: with a loader, and of images that lie on the GPU already."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from softlab.bench.timing import rates
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.rows import logits_of
from softlab.teacher.forward import Teacher, TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.overflow import run_batches
from softlab.teacher.selections import TopK
from tests.benchmarks.dumping import dump_anew, forward_only
from tests.benchmarks.gpu.finding import Finding
from tests.benchmarks.gpu.watching import Watched
from tests.benchmarks.gpu.work import RandomImages, Work

BAR, K = 0.97, 16
BARE, KEPT = "forward pass, images on the GPU", f"the same, K = {K} with tails, copied to the host"
LOOP, DUMP = "bare loop with its loader", "dump"
ONE_PROCESS = LoaderOptions(workers=0)


def measure_teacher(model: str, work: Work, folder: Path) -> list[Finding]:
    """Of one teacher with random weights."""
    teacher, options = make_teacher(model), dump_options(work)
    source = RandomImages(work.num_images, side=work.side)
    with TeacherRun(teacher, options) as run:
        loader = BatchLoader(Aligned(source=source, inputs=(teacher.input,)), device=run.device, options=ONE_PROCESS)
        (batch,) = loader.load(in_sequence(0, work.batch_size, batch_size=work.batch_size))
        batch = batch.to(run.device, channels_last=options.device.channels_last)
        ways = {
            BARE: Watched(partial(_forward, run, batch, work), run.device),
            KEPT: Watched(partial(_keep, run, batch, work), run.device),
            LOOP: Watched(partial(forward_only, teacher, source, options), run.device),
            DUMP: Watched(partial(dump_anew, teacher, source, folder / "teacher", options), run.device),
        }
        found = rates(ways, rounds=work.rounds)
    return [
        Finding(
            part=model.partition(":")[2],
            what=way,
            rate=found[way],
            relative=found[way] / found[LOOP if way in (LOOP, DUMP) else BARE],
            at_least=BAR if way in (KEPT, DUMP) else None,
            busy=watched.busy,
            peak_bytes=watched.peak_bytes or None,
        )
        for way, watched in ways.items()
    ]


def make_teacher(model: str) -> Teacher:
    torch.manual_seed(0)
    module = build_model(ModelOptions(model=model))
    return Teacher(module=module, name=model, arguments={}, input=ImageInput(channels=3))


def dump_options(work: Work) -> DumpOptions:
    return DumpOptions(
        k=K,
        output=("logits:classes",),
        device=work.placed,
        batch_size=work.batch_size,
        temperature=(1.0, 2.0, 4.0),
    )


@torch.inference_mode()
def _forward(run: TeacherRun, batch: Batch, work: Work) -> int:
    for _ in range(work.num_batches):
        logits_of(run.module, batch.inputs[0].inputs, device=run.device, autocast=work.autocast)
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    return work.num_batches * len(batch)


def _keep(run: TeacherRun, batch: Batch, work: Work) -> int:
    """As a dump does it, but for coding and writing."""
    selections = {"logits": TopK(k=K)}
    copies = [kept for _, kept in run_batches(run, _again(batch, work), selections=selections)]
    for each in copies:
        each.wait()
    return work.num_batches * len(batch)


def _again(batch: Batch, work: Work) -> Iterator[Batch]:
    for _ in range(work.num_batches):
        yield batch

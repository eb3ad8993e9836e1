"""A step of a loop in plain PyTorch with stored labels through a Collator, against the same loop without labels.

What any soft labels cost is measured too: probabilities of all classes in memory, with torch's own KL.
"""

# Shape letters: N samples, B samples in a batch, C classes, H height, W width.

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from softlab.bench.timing import rates
from softlab.labels.losses import distillation_loss
from softlab.labels.losses.teacher import distribution_at
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.collator import Collator
from softlab.loading.dataset_labels import DatasetLabels
from softlab.loading.own_loop import align
from softlab.loading.with_index import with_index
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.modality import decode_sample
from softlab.models.build import build_model
from softlab.models.device import choose_device
from softlab.sources.source import Source, hard_targets
from softlab.sources.subset import first
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.teacher.dump import dump_teacher
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report
from tests.benchmarks.training import CASES

HARD, STORED = "hard labels", "stored, K = 5, through a Collator"
DENSE = "soft labels of all classes, as a tensor in memory"
BATCH_SIZE, TEMPERATURE = 128, 4.0
TURN_STEPS, TURNS = {28: 20, 64: 2}, 9
"""Steps of a turn by the size of the images, about a quarter of a second; many short turns a round but the first: the
speed of a shared machine changes by more than what labels cost."""

NUM_IMAGES = 1280


def bench_own_loop(report: Report, folder: Path, source: Source, *, rounds: int, only_small: bool = False) -> None:
    """Batches of 128, decoded images in memory, without workers; `only_small` for the smallest student alone."""
    source = first(source, min(NUM_IMAGES, len(source)))
    dump_teacher(build_model(CASES[0].student).eval(), source, folder / "own-loop", DumpOptions(k=5))
    store = open_store(folder / "own-loop", cache=CacheOptions(dir=folder / "own-loop-cache"))
    labels = align(store, source)
    rows = []
    for case in CASES[:1] if only_small else CASES:
        torch.manual_seed(0)
        student, data = build_model(case.student), _in_memory(source, case.input)
        steps = TURN_STEPS[data.tensors[0].shape[-1]]
        ways = {
            HARD: _loop(student, data, cross_entropy, steps=steps),
            DENSE: _loop(student, _with_dense_labels(data, labels), _on_dense_labels, steps=steps),
            STORED: _loop(student, with_index(data), _on_stored_labels, steps=steps, collate_fn=Collator(labels)),
        }
        found = rates(ways, rounds=TURNS * (rounds - 1) + 1)
        report.bar(
            f"a plain loop with stored labels against one without: {case.title}",
            found[STORED] / found[HARD],
            at_least=0.98,
        )
        rows += [[case.title, way, f"{found[way]:,.0f}", f"{found[way] / found[HARD]:.3f}"] for way in ways]
    report.section(
        "A loop of one's own",
        f"Batches of {BATCH_SIZE} from a plain DataLoader without workers, images in memory, many short turns; samples "
        "per second, and relative to plain hard labels.",
        ["student", "labels", "samples per second", "relative"],
        rows,
    )


def _loop(
    student: nn.Module, data: Dataset[Any], loss_of: Callable[..., Tensor], *, steps: int, **options: Any
) -> Callable[[], int]:
    """Steps of one turn; returns how many samples they took."""
    device = choose_device("auto")
    student = copy.deepcopy(student).to(device).train()
    optimizer = torch.optim.AdamW(student.parameters())
    sampler = RandomSampler(data, num_samples=steps * BATCH_SIZE)  # type: ignore[arg-type]
    loader = DataLoader(data, batch_size=BATCH_SIZE, sampler=sampler, **options)

    def run() -> int:
        loss, count = torch.zeros(()), 0
        for images_BCHW, *labels in loader:
            loss = loss_of(student(images_BCHW.to(device)), *(each.to(device) for each in labels))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            count += len(images_BCHW)
        loss.item()  # waits for the device
        return count

    return run


def _on_stored_labels(logits_BC: Tensor, _: Tensor, soft_labels: SoftLabels) -> Tensor:
    return distillation_loss(logits_BC, soft_labels, temperature=TEMPERATURE)


def _with_dense_labels(data: TensorDataset, labels: DatasetLabels) -> TensorDataset:
    """The same labels as probabilities [N, C]: what a script without a store would keep in memory."""
    soft_labels = labels.read(range(len(data)))
    teacher = distribution_at(soft_labels, temperature=TEMPERATURE, tail="uniform")
    dense_NC = teacher.log_share_B.exp()[:, None].repeat(1, soft_labels.num_classes)
    dense_NC.scatter_(1, teacher.class_ids_BK, teacher.log_kept_BK.exp())
    return TensorDataset(data.tensors[0], dense_NC)


def _on_dense_labels(logits_BC: Tensor, dense_BC: Tensor) -> Tensor:
    return TEMPERATURE**2 * kl_div((logits_BC / TEMPERATURE).log_softmax(dim=1), dense_BC, reduction="batchmean")


def _in_memory(source: Source, input: ImageInput) -> TensorDataset:
    targets_N = hard_targets(source)
    assert targets_N is not None
    images_NCHW = make_input([decode_sample(source.read(index), MODALITY) for index in range(len(source))], input)
    return TensorDataset(images_NCHW, torch.from_numpy(np.asarray(targets_N)))

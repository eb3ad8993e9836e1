"""What a dump would keep, lose, weigh and take, from a few thousand samples; nothing is written."""

# Shape letters: B rows in a batch, N rows surveyed, C classes, K entries kept (K <= C), T temperatures.

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import TeacherError
from softlab.indices import SourceIndex
from softlab.labels.coding import LabelCoding
from softlab.labels.selection import keep_top_k, sorted_temperatures
from softlab.labels.soft_labels import Head
from softlab.loading.aligned import Aligned
from softlab.loading.batches import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices
from softlab.manifest import StorePlan
from softlab.modalities.modality import modality_of
from softlab.modalities.views import NoViews, ViewOptions, record_views
from softlab.sources.source import Source
from softlab.store.formats import format_named
from softlab.store.reader import Store
from softlab.teacher.extent import Extent, check_like, extent_like
from softlab.teacher.forward import Teacher, TeacherOutput, TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.record import choose_k, make_plan, plan_storage

SURVEYED_SAMPLES = 2048
SURVEYED_BYTES = 256 << 20
"""Of logits and features held at once: where they are large, fewer samples are surveyed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What one K would mean."""

    k: int
    captured_mass_T: tuple[float, ...]
    """Mean probability of the kept classes; under a sigmoid head the share that they have of the summed probability of
    all classes."""

    kl_T: tuple[float, ...]
    """Mean KL, in nats, from the teacher's full distribution to the stored one with its tail shared equally; under a
    sigmoid head from each class's own yes or no, mean over classes: by how much the binary cross-entropy is off."""

    bytes_per_row: float
    """Everything but keys, targets and content hashes of samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What is to be known before a dump."""

    num_samples: int
    num_views: int
    """To be dumped."""

    surveyed: int
    num_classes: int
    head: Head
    chosen_k: int
    temperatures: tuple[float, ...]
    rows_per_second: float
    choices: tuple[Choice, ...]

    @property
    def seconds(self) -> float:
        """For the whole dump, at the rate of the survey."""
        return self.num_views * self.num_samples / self.rows_per_second

    def store_bytes(self, choice: Choice) -> float:
        return choice.bytes_per_row * self.num_views * self.num_samples


def survey_teacher(
    teacher: Teacher,
    source: Source,
    options: DumpOptions,
    *,
    augment: ViewOptions | None = None,
    like: Store | None = None,
) -> Survey:
    """Run the teacher on one view of samples spread evenly over the source; raises as `dump_teacher`."""
    modality = modality_of(teacher.input)
    if like is None:
        recipe = augment or NoViews()
        extent = Extent(views=record_views(recipe, num_views=options.views_given, digest_every=options.digest_every))
    else:
        extent = extent_like(like, options, augment)
        check_like(like, source, modality)
    views = extent.views
    replay = modality.replay(views, num_samples=len(source), recipe_N=extent.recipe_N)
    with TeacherRun(teacher, options) as run:
        found = _run(run, Aligned(source=source, inputs=(teacher.input,), replay=replay), options)
    num_classes = found.logits_NC.shape[1]
    k, temperatures = choose_k(options, num_classes=num_classes), sorted_temperatures(options.temperature)
    plan = make_plan(teacher, source, options, views, example=found.keep(k, options))
    mass_KT, kl_KT = truncation(found.logits_NC, temperatures=temperatures, head=options.head)
    return Survey(
        num_samples=len(source),
        num_views=views.num_views,
        surveyed=len(found.logits_NC),
        num_classes=num_classes,
        head=options.head,
        chosen_k=k,
        temperatures=temperatures,
        rows_per_second=len(found.logits_NC) / found.seconds,
        choices=tuple(
            Choice(
                k=candidate,
                captured_mass_T=tuple(mass_KT[candidate - 1].tolist()),
                kl_T=tuple(kl_KT[candidate - 1].tolist()),
                bytes_per_row=_bytes_per_row(plan, options, found.keep(candidate, options)),
            )
            for candidate in _candidates(k, num_classes=num_classes)
        ),
    )


def truncation(logits_NC: Tensor, *, temperatures: Sequence[float], head: Head = "softmax") -> tuple[Tensor, Tensor]:
    """For every K from 1 to C: the mean captured mass and the mean KL error in nats, float64 [C, T] each.

    With tail mass m, KL(teacher || stored) is the sum of p log p over the tail, less m log(m / (C - K)): what is
    kept is exact, and the stored tail is uniform. Under a sigmoid head the same holds for the p of the classes outside,
    which sum to m, and once more for their 1 - p; the error is the sum of both over C.
    """
    ranked_NC = logits_NC.double().sort(dim=1, descending=True).values
    num_classes = ranked_NC.shape[1]
    masses, divergences = [], []
    for temperature in temperatures:
        scaled_NC = ranked_NC / temperature
        if head == "sigmoid":
            share_NC = functional.logsigmoid(scaled_NC).softmax(dim=1)
            error_NK = _error_of_uniform(scaled_NC.sigmoid()) + _error_of_uniform((-scaled_NC).sigmoid())
            error_NK /= num_classes
        else:
            share_NC = scaled_NC.softmax(dim=1)
            error_NK = _error_of_uniform(share_NC)
        masses.append(1 - _sum_after(share_NC).mean(dim=0))
        divergences.append(error_NK.clamp(min=0).mean(dim=0))
    return torch.stack(masses, dim=1), torch.stack(divergences, dim=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outputs:
    """The teacher's whole output for the surveyed rows, on the host."""

    logits_NC: Tensor
    features: dict[str, Tensor]
    seconds: float

    def keep(self, k: int, options: DumpOptions) -> TeacherOutput:
        labels = keep_top_k(self.logits_NC, k=k, temperatures=options.temperature, head=options.head)
        return TeacherOutput(labels=labels, features=self.features, is_finite_B=self.logits_NC.isfinite().all(dim=1))


def _run(run: TeacherRun, aligned: Aligned, options: DumpOptions) -> _Outputs:
    """The first batch is run twice, because the first forward pass of a model takes longer than the others."""
    count = min(SURVEYED_SAMPLES, len(aligned.source))
    spread_N = np.linspace(0, len(aligned.source) - 1, count).astype(np.int64)
    starts = range(0, count, options.batch_size)
    parts = [spread_N[start : start + options.batch_size] for start in starts]
    order = [RowIndices(SourceIndex(source_B), np.zeros_like(source_B)) for source_B in parts]
    loader = BatchLoader(aligned, device=run.device, options=LoaderOptions(workers=options.workers))
    batches = loader.load([order[0], *order])
    run.logits(next(batches))
    start, held_bytes = time.perf_counter(), 0
    logits: list[Tensor] = []
    features: list[dict[str, Tensor]] = []
    for batch in batches:
        logits.append(run.logits(batch).cpu())
        features.append({name: feature.cpu() for name, feature in run.features().items()})
        held_bytes += logits[-1].nbytes + sum(feature.nbytes for feature in features[-1].values())
        if held_bytes > SURVEYED_BYTES:
            break
    seconds = time.perf_counter() - start
    logits_NC = torch.cat(logits)
    if not logits_NC.isfinite().all():
        raise TeacherError("the teacher's logits are NaN or infinite for some samples. Check its weights and inputs.")
    joined = {name: torch.cat([each[name] for each in features]) for name in features[0]}
    return _Outputs(logits_NC=logits_NC, features=joined, seconds=seconds)


def _bytes_per_row(plan: StorePlan, options: DumpOptions, output: TeacherOutput) -> float:
    """By encoding the surveyed rows as the shards of a store of their own."""
    count = len(output.labels)
    (classes,) = plan.classes
    coding = LabelCoding(
        coding=options.coding, num_classes=output.labels.num_classes, temperatures=classes.selection.temperatures
    )
    plan = msgspec.structs.replace(
        plan,
        source=msgspec.structs.replace(plan.source, num_samples=count),
        views=msgspec.structs.replace(plan.views, num_views=1),
        storage=plan_storage(options, coding, output, num_samples=count),
    )
    arrays = {f"{plan.group_of(classes)}/{name}": array for name, array in coding.encode(output.labels).items()}
    arrays |= {f"outputs/{name}/values": feature.numpy() for name, feature in output.features.items()}
    encode, total = format_named(options.format).encode, 0
    for shard in plan.grid:
        files = encode(plan, shard, {name: array[shard.start : shard.stop] for name, array in arrays.items()})
        total += sum(len(data) for data in files.values())
    return total / count


def _candidates(k: int, *, num_classes: int) -> list[int]:
    """Powers of two up to 256, the K that was asked for, and all classes where that is in reach."""
    powers = {2**exponent for exponent in range(9)}
    return sorted(candidate for candidate in powers | {k, min(num_classes, 1024)} if candidate <= num_classes)


def _error_of_uniform(probability_NC: Tensor) -> Tensor:
    """Column K-1 is the sum of p log(p / mean p) over the columns from K on."""
    num_tail_K = torch.arange(probability_NC.shape[1] - 1, -1, -1, dtype=torch.float64)
    tail_NK = _sum_after(probability_NC)
    within_NK = _sum_after(torch.xlogy(probability_NC, probability_NC))
    return within_NK - torch.xlogy(tail_NK, tail_NK / num_tail_K.clamp(min=1))


def _sum_after(values_NC: Tensor) -> Tensor:
    """Column K-1 is the sum of the columns from K on: what lies outside the first K."""
    from_here_NC = values_NC.flip(1).cumsum(dim=1).flip(1)
    return from_here_NC - values_NC

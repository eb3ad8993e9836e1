"""What a dump would keep, lose, weigh and take, from a few thousand samples; nothing is written."""

# Shape letters: B rows in a batch, N rows surveyed, C classes, K entries kept (K <= C), T temperatures.

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, TeacherError
from softlab.indices import SourceIndex
from softlab.labels.gradient_angle import (
    KEPT_OF_MANY,
    MANY_CLASSES,
    MOST_DEGREES,
    MOST_DEGREES_OF_FEW,
    gradient_angle,
)
from softlab.labels.selection import sorted_temperatures
from softlab.labels.soft_labels import Head
from softlab.labels.values_coding import encode_values
from softlab.loading.aligned import Aligned
from softlab.loading.decoded import DECODED_BYTES, Decoded
from softlab.loading.label_check import label_note, warn_of_labels
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices
from softlab.manifest import StorePlan
from softlab.modalities.modality import modality_of, settle_input
from softlab.modalities.views import NoViews, ViewOptions, record_views
from softlab.models.rows import OutputRows
from softlab.sources.source import Source
from softlab.store.format import Array
from softlab.store.known_formats import format_named
from softlab.store.reader import Store
from softlab.store.unit_rows import UnitRows
from softlab.teacher.batch_check import check_alone
from softlab.teacher.dumped_views import ViewsToDump, check_seen_before, views_like
from softlab.teacher.example import check_classes
from softlab.teacher.forward import Teacher, TeacherOutput, TeacherRun, WholeOutput, keep
from softlab.teacher.options import DEFAULT_K, DumpOptions
from softlab.teacher.plan import coding_for, make_plan, plan_storage

SURVEYED_SAMPLES = 2048
SURVEYED_SECONDS = 30.0
"""By default: of a slow teacher, or data that are slow to read, fewer samples are surveyed."""

FIRST_SAMPLES = 8
"""Run first, to learn how long a sample takes."""

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

    angle_T: tuple[float, ...]
    """Degrees by which a student's first gradient turns away from that of the full distribution; empty under a sigmoid
    head."""

    bytes_per_row: float
    """Everything but keys, targets and content hashes of samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommended:
    """What to keep, and the temperature to train at."""

    k: int
    temperature: float
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyProgress:
    """How far a survey is."""

    done: int
    """Samples."""

    total: int
    note: str
    unit = "samples"


OnSurvey = Callable[[SurveyProgress], None]


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
    is_cut_short: bool = False
    """Whether the time was up before the samples were."""

    recommended: Recommended | None = None
    """None under a sigmoid head."""

    features: Mapping[str, str] = field(default_factory=dict)
    """Shape of a row by output of kind `values`: `768`, or `512x7x7`."""

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
    seconds: float = SURVEYED_SECONDS,
    on_progress: OnSurvey | None = None,
) -> Survey:
    """Run the teacher on one view of samples spread evenly over the source, for about so many seconds at most; raises
    as `dump_teacher`, and InvalidOption for no time at all. What was computed when the time is up is what counts."""
    if not seconds > 0:
        raise InvalidOption(f"plan_seconds = {seconds:g}: expected more than 0. Change `plan_seconds`.")
    if like is None:
        recipe = augment or NoViews()
        record = record_views(recipe, num_views=options.views_given, digest_every=options.digest_every)
        views = ViewsToDump(record=record)
    else:
        views = views_like(like, options, augment)
    teacher = replace(teacher, input=settle_input(teacher.input, source))
    check_seen_before(source, teacher.input, views)
    seen = () if like is None else like.manifest.inputs
    replay = modality_of(teacher.input).replay(views.record, num_samples=len(source), recipe_N=views.recipe_N)
    aligned = Aligned(source=source, inputs=(teacher.input,), replay=replay, seen=seen)
    with TeacherRun(teacher, options) as run:
        check_alone(run, aligned, Decoded(DECODED_BYTES))
        found = _run(run, aligned, options, seconds=seconds, on_progress=on_progress or _silent)
    chosen = check_classes(found.whole, options)
    if not chosen:
        raise InvalidOption("a plan shows what each K would keep, but no output of kind classes is asked for.")
    name = next(iter(chosen))
    logits_RC, temperatures = found.whole.logits[name].rows, sorted_temperatures(options.temperature)
    num_classes = logits_RC.shape[1]
    _check_labels(source, found, name)
    plan = make_plan(teacher, source, options, views, example=found.keep(chosen, options), most_units=found.most_units)
    mass_KT, kl_KT = truncation(logits_RC, temperatures=temperatures, head=options.head)
    angle_KT = gradient_angle(logits_RC, temperatures=temperatures) if options.head == "softmax" else None
    return Survey(
        num_samples=len(source),
        num_views=views.record.num_views,
        surveyed=found.num_samples,
        num_classes=num_classes,
        head=options.head,
        chosen_k=chosen[name],
        temperatures=temperatures,
        rows_per_second=found.num_samples / found.seconds,
        is_cut_short=found.is_cut_short,
        recommended=None if angle_KT is None or options.valid else _recommend(angle_KT, mass_KT, temperatures),
        choices=tuple(
            Choice(
                k=candidate,
                captured_mass_T=tuple(mass_KT[candidate - 1].tolist()),
                kl_T=tuple(kl_KT[candidate - 1].tolist()),
                angle_T=() if angle_KT is None else tuple(angle_KT[candidate - 1].tolist()),
                bytes_per_row=_bytes_per_row(plan, options, found.keep(chosen | {name: candidate}, options)),
            )
            for candidate in _candidates(chosen[name], num_classes=num_classes)
        ),
        features={each.name: plan.shape_in_words(each) for each in plan.values},
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
class _Surveyed:
    """The teacher's whole output for the surveyed samples, on the host."""

    whole: WholeOutput
    looked_at_S: NDArray[np.int64]
    """Their source indices."""

    seconds: float
    is_cut_short: bool

    @property
    def num_samples(self) -> int:
        return self.whole.num_samples

    @property
    def most_units(self) -> int | None:
        units = self.whole.with_units
        return None if units is None or units.counts_B is None else int(units.counts_B.max())

    def keep(self, k: Mapping[str, int], options: DumpOptions) -> TeacherOutput:
        return keep(self.whole, k=k, options=options)


def _silent(_: SurveyProgress) -> None:
    pass


def _run(
    run: TeacherRun, aligned: Aligned, options: DumpOptions, *, seconds: float, on_progress: OnSurvey
) -> _Surveyed:
    """Each size of a batch is run once before it counts, because the first forward pass of a model takes longer than
    the others; but not where a whole batch would take much of the time."""
    begun = time.perf_counter()
    total = min(SURVEYED_SAMPLES, len(aligned.source))
    spread_N = np.linspace(0, len(aligned.source) - 1, total).astype(np.int64)
    loader = BatchLoader(aligned, device=run.device, options=LoaderOptions(workers=options.device.workers))

    def run_on(parts: Sequence[NDArray[np.int64]]) -> Iterator[WholeOutput]:
        order = [RowIndices(SourceIndex(part), np.zeros_like(part)) for part in parts]
        with closing(loader.load(order)) as batches:
            for batch in batches:
                yield _on_host(run.whole(batch))

    on_progress(SurveyProgress(done=0, total=total, note="surveying"))
    size = _choose_size(run_on, spread_N, options, seconds=seconds)
    num_parts = -(-total // size)
    firsts = np.random.default_rng(0).permutation(num_parts)
    parts = [spread_N[first::num_parts] for first in firsts]  # all from all over, as the time may end
    if size == options.batch_size:
        list(run_on(parts[:1]))
    start, held_bytes, done, is_late = time.perf_counter(), 0, 0, False
    found: list[WholeOutput] = []
    for output in run_on(parts):
        found.append(output)
        held_bytes += sum(rows.rows.nbytes for rows in output.all_rows.values())
        done += output.num_samples
        on_progress(SurveyProgress(done=done, total=total, note="surveying"))
        is_late = time.perf_counter() - begun > seconds
        if held_bytes > SURVEYED_BYTES or is_late:
            break
    spent = time.perf_counter() - start
    whole = _join(found)
    finite = [*whole.values.values(), *([] if options.valid else whole.logits.values())]
    if not all(each.rows.isfinite().all() for each in finite):
        raise TeacherError("the teacher's outputs are NaN or infinite for some samples. Check its weights and inputs.")
    return _Surveyed(
        whole=whole,
        looked_at_S=np.concatenate(parts)[:done],
        seconds=spent,
        is_cut_short=is_late and done < total,
    )


def _choose_size(
    run_on: Callable[[Sequence[NDArray[np.int64]]], Iterator[WholeOutput]],
    spread_N: NDArray[np.int64],
    options: DumpOptions,
    *,
    seconds: float,
) -> int:
    """Of a batch: that of the dump, or a smaller one where eight of those would take longer than there is."""
    few = spread_N[:FIRST_SAMPLES]
    for _ in range(2):
        start = time.perf_counter()
        list(run_on([few]))
        spent = time.perf_counter() - start
        if spent > seconds / 8:
            break
    return min(options.batch_size, max(int(seconds / 8 / (spent / len(few))), 1))


def _recommend(angle_KT: Tensor, mass_KT: Tensor, temperatures: Sequence[float]) -> Recommended:
    """The default K, or of many classes the smallest one that is good enough at the lowest temperature; and the highest
    temperature that it is good enough at."""
    num_classes = len(angle_KT)
    are_many = num_classes > MANY_CLASSES
    able = [k for k in KEPT_OF_MANY if k < num_classes] if are_many else [min(DEFAULT_K, num_classes)]
    k = next((k for k in able if angle_KT[k - 1, 0] <= MOST_DEGREES), able[-1])
    most = MOST_DEGREES if are_many else MOST_DEGREES_OF_FEW
    good = [place for place in range(len(temperatures)) if angle_KT[k - 1, place] <= most]
    place = good[-1] if good else 0
    angle, mass, temperature = float(angle_KT[k - 1, place]), float(mass_KT[k - 1, place]), temperatures[place]
    why = f"it holds {mass:.2f} of the probability there, and turns a student's first gradient by {angle:.1f} degrees"
    if place + 1 < len(temperatures):
        worse = float(angle_KT[k - 1, place + 1])
        why += f"; at T={temperatures[place + 1]:g} by {worse:.1f}, where at most {most:g} are good"
    return Recommended(k=k, temperature=temperature, why=why)


def _check_labels(source: Source, found: _Surveyed, name: str) -> None:
    """Warns with OddLabels. Outputs with several rows a sample have no one target."""
    rows = found.whole.logits[name]
    if rows.counts_B is None:
        predicted_S = rows.rows.argmax(dim=1).numpy()
        warn_of_labels(label_note(source, found.looked_at_S, predicted_S, num_classes=rows.rows.shape[1]))


def _on_host(whole: WholeOutput) -> WholeOutput:
    def moved(rows: OutputRows) -> OutputRows:
        return OutputRows(
            rows=rows.rows.cpu(),
            counts_B=None if rows.counts_B is None else rows.counts_B.cpu(),
            positions_R=None if rows.positions_R is None else rows.positions_R.cpu(),
        )

    return WholeOutput(
        num_samples=whole.num_samples,
        logits={name: moved(rows) for name, rows in whole.logits.items()},
        values={name: moved(rows) for name, rows in whole.values.items()},
    )


def _join(parts: Sequence[WholeOutput]) -> WholeOutput:
    def joined(rows: Sequence[OutputRows]) -> OutputRows:
        counts = [each.counts_B for each in rows if each.counts_B is not None]
        positions = [each.positions_R for each in rows if each.positions_R is not None]
        return OutputRows(
            rows=torch.cat([each.rows for each in rows]),
            counts_B=torch.cat(counts) if counts else None,
            positions_R=torch.cat(positions) if positions else None,
        )

    return WholeOutput(
        num_samples=sum(part.num_samples for part in parts),
        logits={name: joined([part.logits[name] for part in parts]) for name in parts[0].logits},
        values={name: joined([part.values[name] for part in parts]) for name in parts[0].values},
    )


def _bytes_per_row(plan: StorePlan, options: DumpOptions, output: TeacherOutput) -> float:
    """By encoding the surveyed samples as the only shards of a store of their own. A row is a sample in one view, with
    all of its units."""
    count = len(output.is_finite_B)
    most_units = None if output.counts_B is None else int(output.counts_B.max())
    plan = msgspec.structs.replace(
        plan,
        source=msgspec.structs.replace(plan.source, num_samples=count),
        views=msgspec.structs.replace(plan.views, num_views=1),
        storage=plan_storage(options, output, num_samples=count, most_units=most_units),
    )
    arrays, rows_N = _arrays_of(output, options), None if output.counts_B is None else output.counts_B.numpy()
    units = None if rows_N is None else UnitRows(rows_N)
    encode, total = format_named(options.format).encode, 0
    for shard in plan.grid:
        cuts = {True: slice(*(units.span(shard) if units else (0, 0))), False: slice(shard.start, shard.stop)}
        own = {each.name: arrays[each.name][cuts[plan.output_of(each).units]] for each in plan.storage.fields}
        rows_S = None if rows_N is None else rows_N[shard.start : shard.stop]
        total += sum(len(data) for data in encode(plan, shard, own, rows_S=rows_S).values())
    return total / count


def _arrays_of(output: TeacherOutput, options: DumpOptions) -> dict[str, Array]:
    """All arrays of a store of one shard."""
    arrays: dict[str, Array] = {}
    for name, labels in output.labels.items():
        encoded = coding_for(options, labels).encode(labels)
        arrays |= {f"outputs/{name}/{array}": values for array, values in encoded.items()}
    for name, rows in output.values.items():
        encoded = encode_values(rows, options.values_coding)
        arrays |= {f"outputs/{name}/{array}": values for array, values in encoded.items()}
    if output.units_R is not None:
        units_R = output.units_R.numpy().astype("uint32")
        arrays |= {f"outputs/{name}/unit": units_R for name in output.with_units}
    return arrays


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

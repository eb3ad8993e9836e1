"""What a dump would keep, lose, weigh and take, from a few thousand samples; nothing is written."""

# Shape letters: B rows in a batch, N rows surveyed, C classes, K entries kept (K <= C), T temperatures.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.coding import LabelCoding
from softlab.labels.gradient_angle import (
    KEPT_OF_MANY,
    MANY_CLASSES,
    MOST_DEGREES,
    MOST_DEGREES_OF_FEW,
    gradient_angle,
)
from softlab.labels.selection import sorted_temperatures
from softlab.labels.soft_labels import Head, SoftLabels
from softlab.labels.truncation import truncation
from softlab.loading.aligned import Aligned
from softlab.loading.decoded import DECODED_BYTES, Decoded
from softlab.loading.label_check import label_note, warn_of_labels
from softlab.manifest import Statistics, StorePlan
from softlab.modalities.modality import modality_of, settle_input
from softlab.modalities.views import NoViews, ViewOptions, record_views
from softlab.sources.source import Source
from softlab.store.label_coding import coding_of
from softlab.store.reader import Store
from softlab.store.statistics import measure
from softlab.teacher.batch_check import check_alone
from softlab.teacher.counted_units import CountedUnits
from softlab.teacher.dumped_views import ViewsToDump, check_seen_before, views_like
from softlab.teacher.example import check_classes
from softlab.teacher.forward import Teacher, TeacherRun
from softlab.teacher.options import DumpOptions, default_k
from softlab.teacher.plan import make_plan
from softlab.teacher.planning import options_for, with_teachers_classes
from softlab.teacher.sampled_survey import SampledChoice, survey_sampled
from softlab.teacher.selections import Sampling, Selection, TopK, select_classes, some_logits
from softlab.teacher.store_size import bytes_of_samples, bytes_per_row
from softlab.teacher.survey_run import SURVEYED_SECONDS, OnSurvey, Surveyed, run_survey


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
    head, NaN where the teacher's outputs are near uniform."""

    bytes_per_row: float
    """Labels and features; not what a store holds of its samples and files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommended:
    """What to keep, and the temperature to train at."""

    k: int
    temperature: float
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What is to be known before a dump."""

    num_samples: int
    num_views: int
    """To be dumped."""

    surveyed: int
    num_rows: int
    """Of these samples: more than there are samples where these have units."""

    num_classes: int
    head: Head
    chosen: Selection
    rows_per_second: float
    temperatures: tuple[float, ...] = (1.0,)
    choices: tuple[Choice, ...] = ()
    """None where rows are sampled."""

    sampled: tuple[SampledChoice, ...] = ()
    """Of rows that are sampled."""

    is_cut_short: bool = False
    """Whether the time was up before the samples were."""

    num_redone: int = 0
    """Surveyed samples that overflowed in half precision, as a dump would run again in float32."""

    recommended: Recommended | None = None
    """None under a sigmoid head, and where outputs are near uniform."""

    features: Mapping[str, str] = field(default_factory=dict)
    """Shape of a row by output of kind `values`: `768`, or `512x7x7`."""

    gap_step: float | None = None
    """Nats, of the uint8 coding of the chosen K, by what was surveyed; None in other codings."""

    coding_cost: tuple[float, float] | None = None
    """Of that coding, in nats a row at the temperature where they are highest: the KL of what is stored, and by how
    much a loss's value moves."""

    clipped_logits: int = 0
    """Of the surveyed rows, with the chosen K."""

    bytes_of_samples: float = 0.0
    """Keys, targets, content hashes and pixel digests of all samples, and the list of files."""

    @property
    def chosen_k(self) -> int:
        """Classes kept of each row; of rows that are sampled at most."""
        return self.chosen.k if isinstance(self.chosen, TopK) else self.chosen.resolution + 1

    @property
    def seconds(self) -> float:
        """For the whole dump, at the rate of the survey."""
        return self.num_views * self.num_samples / self.rows_per_second

    def store_bytes(self, choice: Choice | SampledChoice) -> float:
        """The whole store: labels, features, samples, list of files."""
        return choice.bytes_per_row * self.num_views * self.num_samples + self.bytes_of_samples


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
    source, options = with_teachers_classes(source, teacher), options_for(teacher, options)
    teacher = replace(teacher, input=settle_input(teacher.input, source))
    check_seen_before(source, teacher.input, views)
    seen = teacher.seen if like is None else like.manifest.seen
    replay = modality_of(teacher.input).replay(views.record, num_samples=len(source), recipe_N=views.recipe_N)
    aligned = Aligned(source=source, inputs=(teacher.input,), replay=replay, seen=seen)
    with TeacherRun(teacher, options) as run:
        check_alone(run, aligned, Decoded(DECODED_BYTES))
        found = run_survey(run, aligned, options, seconds=seconds, on_progress=on_progress)
    chosen = check_classes(found.whole, options)
    if not chosen:
        raise InvalidOption("a plan shows what each K would keep, but no output of kind classes is asked for.")
    name = next(iter(chosen))
    _check_labels(source, found, name, options)
    kept = found.keep(chosen, options)
    plan = make_plan(teacher, source, options, views, example=kept, counted=CountedUnits(most=found.most_units))
    known = Survey(
        num_samples=len(source),
        num_views=views.record.num_views,
        surveyed=found.num_samples,
        num_rows=len(kept.labels[name]),
        num_classes=kept.labels[name].num_classes,
        head=options.head,
        chosen=chosen[name],
        rows_per_second=found.num_samples / found.seconds,
        is_cut_short=found.is_cut_short,
        num_redone=found.whole.num_redone,
        features={each.name: plan.shape_in_words(each) for each in plan.values},
        bytes_of_samples=bytes_of_samples(plan, source),
    )
    if isinstance(chosen[name], Sampling):
        return replace(known, sampled=survey_sampled(found, chosen, name, plan, options))
    return _with_choices(known, found, chosen, name, plan, options)


def _with_choices(
    known: Survey,
    found: Surveyed,
    chosen: Mapping[str, Selection],
    name: str,
    plan: StorePlan,
    options: DumpOptions,
) -> Survey:
    """What each K of the output `name` would mean."""
    temperatures, selection = sorted_temperatures(options.temperature), chosen[name]
    assert isinstance(selection, TopK), "rows that are sampled have other choices"
    logits_RC = some_logits(found.whole.logits[name])
    mass_KT, kl_KT = truncation(logits_RC, temperatures=temperatures, head=options.head)
    measured = _measure_coding(plan, found.keep(chosen, options).labels[name], name)
    angle_KT = gradient_angle(logits_RC, temperatures=temperatures) if options.head == "softmax" else None
    return replace(
        known,
        temperatures=temperatures,
        recommended=None if options.has_valid else _recommend(angle_KT, mass_KT, temperatures),
        choices=tuple(
            Choice(
                k=candidate,
                captured_mass_T=tuple(mass_KT[candidate - 1].tolist()),
                kl_T=tuple(kl_KT[candidate - 1].tolist()),
                angle_T=() if angle_KT is None else tuple(angle_KT[candidate - 1].tolist()),
                bytes_per_row=bytes_per_row(plan, options, found.keep({**chosen, name: TopK(k=candidate)}, options)),
            )
            for candidate in _candidates(selection.k, num_classes=logits_RC.shape[1])
        ),
        gap_step=next(each.coding.gap_step for each in plan.classes if each.name == name),
        coding_cost=measured.coding_cost,
        clipped_logits=measured.clipped_logits,
    )


def _recommend(angle_KT: Tensor | None, mass_KT: Tensor, temperatures: Sequence[float]) -> Recommended | None:
    """The default K, or of many classes the smallest one that is good enough at the lowest temperature; and the highest
    temperature that it is good enough at. None without angles."""
    if angle_KT is None or bool(angle_KT[:, 0].isnan().any()):
        return None
    num_classes = len(angle_KT)
    are_many = num_classes > MANY_CLASSES
    able = [k for k in KEPT_OF_MANY if k < num_classes] if are_many else [default_k(num_classes)]
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


def _check_labels(source: Source, found: Surveyed, name: str, options: DumpOptions) -> None:
    """Warns with OddLabels. Outputs with several rows a sample have no one target."""
    rows = found.whole.logits[name]
    if rows.counts_B is None:
        predicted_S, num_classes = select_classes(rows, options).numpy(), rows.rows.shape[1]
        note = label_note(source, found.looked_at_S, predicted_S, num_classes=num_classes, labels=options.labels)
        warn_of_labels(note)


def _measure_coding(plan: StorePlan, labels: SoftLabels, name: str) -> Statistics:
    """Of the surveyed rows, coded as the plan says."""
    coding = coding_of(next(each for each in plan.classes if each.name == name))
    assert isinstance(coding, LabelCoding), "rows that are sampled have no choice of coding"
    encoded = coding.encode(labels)
    stored = coding.decode(encoded) if coding.coding == "uint8" else None
    return measure(labels, targets_N=None, clipped_logits=coding.count_clipped(labels, encoded), stored=stored)


def _candidates(k: int, *, num_classes: int) -> list[int]:
    """Powers of two up to 256, the K that was asked for, and all classes where that is in reach."""
    powers = {2**exponent for exponent in range(9)}
    return sorted(candidate for candidate in powers | {k, min(num_classes, 1024)} if candidate <= num_classes)

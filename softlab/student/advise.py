"""What to train a student with: stored labels are looked at, candidates compete, and the best one is recommended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from softlab.errors import InvalidOption
from softlab.evaluation.best import AUTO
from softlab.labels.losses import LossName, LossOnValues
from softlab.modalities.modality import InputOptions, tells_targets
from softlab.modalities.views import ViewOptions
from softlab.sources.answers import answers_of
from softlab.sources.label_sequences import label_sequences
from softlab.sources.label_sets import label_sets
from softlab.sources.source import Source, hard_targets
from softlab.store.mapped import whole_of
from softlab.store.reader import Store
from softlab.student.advice_rounds import Contest, OnRound, Round, candidate_name, compete, reaches, with_alpha
from softlab.student.loop import OnProgress
from softlab.student.options import LearnOptions, RunOptions, TrainOptions
from softlab.student.stored_evidence import StoredEvidence, evidence_of
from softlab.student.target_metric import TargetMetric, read_target
from softlab.student.train import OnStart
from softlab.student.trials import Trial, loss_at, stored_temperatures
from softlab.student.validation import Validation

HARD = "hard"
"""The candidate without a teacher."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdviseOptions:
    """What advice is sought among."""

    loss: tuple[LossName, ...] = ()
    """Distillation losses to try; default: kl, of a teacher with a sigmoid head bce."""

    temperature: tuple[float, ...] = ()
    """Temperatures to try; default: the stored ones, with several stores those that all of them have a tail for."""

    alpha: tuple[float, ...] = (1.0, 0.7, 0.3)
    """Weights of the distillation loss to try; without hard targets 1 alone.

    Beside them hard targets alone are tried, where there are any."""

    half: bool = True
    """Also train the best one with half of the samples, which tells what more of them are worth."""

    until: str | None = None
    """Stop once a figure of validation is reached, such as accuracy>=0.92.

    Candidates are then compared by it."""

    def __post_init__(self) -> None:
        if not self.alpha or not all(0 < each <= 1 for each in self.alpha):
            raise InvalidOption(
                f"advise.alpha = {self.alpha}: expected numbers over 0, up to 1. Change `advise.alpha`."
            )
        if self.until is not None:
            read_target(self.until)

    @property
    def target(self) -> TargetMetric | None:
        """What ends the search early."""
        return None if self.until is None else read_target(self.until)


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """What is recommended, and why."""

    evidence: tuple[StoredEvidence, ...]
    """Of each store."""

    rounds: tuple[Round, ...]
    best: Trial
    """Of the last round. It has learnt with `run`."""

    half: Trial | None
    """The same with half of the samples, for as many steps; None where that wasn't asked for, or the search ended
    early."""

    is_reached: bool
    """Whether the figure that was asked for is reached; False too where none was."""

    @property
    def run(self) -> RunOptions:
        """Of the last round: shorter than the given one where the search ended early."""
        return self.rounds[-1].run

    @property
    def cost(self) -> float:
        """Of all that was trained, in whole runs of one student."""
        trained = sum(each.part * len(each.trials) for each in self.rounds)
        return trained + (0 if self.half is None else 1)

    @property
    def hard(self) -> Trial | None:
        """Hard targets alone, in the last round that had them."""
        found = [trial for each in self.rounds for trial in each.trials if trial.learn.teachers.alpha == 0]
        return found[-1] if found else None


def advise(
    make_student: Callable[[], nn.Module],
    source: Source,
    stores: Sequence[Store],
    options: TrainOptions,
    what: AdviseOptions | None = None,
    *,
    valid: Validation,
    input: InputOptions | None = None,
    augment: ViewOptions | None = None,
    out: str | Path,
    on_progress: OnProgress | None = None,
    on_start: OnStart | None = None,
    on_round: OnRound | None = None,
) -> Advice:
    """Which loss, temperature and alpha to train with, by `run.best_by` on the validation source.

    Each round is a training run of its own below `out`, so that advice that was interrupted goes on. `make_student`
    gives the same weights each time. `on_round` is called after each round. Raises as `train_students`, but for
    candidates that fail, and InvalidOption for stores that have no soft labels.
    """
    what = what or AdviseOptions()
    if not stores or isinstance(options.learn.loss, LossOnValues) or not all(store.has_labels for store in stores):
        raise InvalidOption(
            "advice is on losses of soft labels. Give a `store` that has them, and leave `loss.name` to advice; a "
            "student of values is trained by train-student."
        )
    if options.learn.head:
        raise InvalidOption(
            "head: advice is on how one output of a student learns, and this one has several. Leave them out, or "
            "train without advice."
        )
    options = replace(options, run=_judged_by(options.run, what.target), distil=replace(options.distil, baseline=False))
    contest = Contest(
        make_student=make_student,
        stores=stores,
        options=options,
        valid=valid,
        input=input,
        augment=augment,
        out=Path(out),
        on_progress=on_progress,
        on_start=on_start,
    )
    learn = _candidates(options.learn, what, stores, has_targets=_has_targets(source, input))
    rounds = compete(contest, source, learn, target=what.target, on_round=on_round)
    best, is_reached = rounds[-1].trials[0], reaches(rounds[-1], what.target)
    half = None
    if what.half and not is_reached and rounds[-1].num_samples >= 2 * options.run.batch_size:
        half = contest.with_half(source, best.learn)
    evidence = tuple(evidence_of(whole_of(store)) for store in stores)
    return Advice(evidence=evidence, rounds=tuple(rounds), best=best, half=half, is_reached=is_reached)


def _judged_by(run: RunOptions, target: TargetMetric | None) -> RunOptions:
    """Candidates are compared by the figure that is to be reached."""
    if target is None or run.best_by == target.metric:
        return run
    if run.best_by != AUTO:
        raise InvalidOption(
            f"advise.until = {target}: candidates are compared by `run.best_by = {run.best_by}`. Leave `run.best_by` "
            f"out, or name {target.metric} there."
        )
    return replace(run, best_by=target.metric)


def _has_targets(source: Source, input: InputOptions | None) -> bool:
    told = (hard_targets, label_sets, label_sequences, answers_of)
    return (input is not None and tells_targets(input)) or any(each(source) is not None for each in told)


def _candidates(
    learn: LearnOptions, what: AdviseOptions, stores: Sequence[Store], *, has_targets: bool
) -> dict[str, LearnOptions]:
    """By name: each loss at each temperature it has, with each alpha; and hard targets alone."""
    head = whole_of(stores[0]).head
    names: tuple[LossName, ...] = what.loss or (("bce",) if head == "sigmoid" else ("kl",))
    temperatures = what.temperature or tuple(stored_temperatures(stores))
    losses = dict.fromkeys(
        loss_at(learn.loss, name=name, temperature=temperature) for name in names for temperature in temperatures
    )
    alphas = what.alpha if has_targets else (1.0,)
    tried = {
        candidate_name(loss, alpha): with_alpha(replace(learn, loss=loss), alpha) for loss in losses for alpha in alphas
    }
    return tried | ({HARD: with_alpha(learn, 0.0)} if has_targets else {})

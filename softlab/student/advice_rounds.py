"""Candidates for how to train a student compete on a growing part of a run.

The rounds are those of successive halving (Jamieson, Talwalkar 2016): all candidates get a tenth of the run, the best
four a quarter, the best two all of it. Beside these two a third one is new: its alpha lies between theirs. With three
stored temperatures that is 5 whole runs. All candidates of a round share one pass over the data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from softlab.errors import TrainingFailed
from softlab.labels.losses import StudentLoss, temperature_of
from softlab.modalities.modality import InputOptions
from softlab.modalities.views import ViewOptions
from softlab.sources.source import Source
from softlab.sources.subset import chosen
from softlab.store.reader import Store
from softlab.student.loop import OnProgress
from softlab.student.options import LearnOptions, RunOptions, Student, TrainOptions
from softlab.student.target_metric import TargetMetric
from softlab.student.train import OnStart, train_students
from softlab.student.trials import Trial, all_failed, score_of
from softlab.student.validation import Validation

ROUNDS = ((1 / 10, None), (1 / 4, 4), (1.0, 3))
"""Of each round the part of a run, and how many candidates are in it; None: all."""

HALF = "half"


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Candidates that were trained for the same part of a run."""

    part: float
    """Of the samples' presentations of a whole run."""

    run: RunOptions
    num_samples: int
    trials: tuple[Trial, ...]
    """The best first."""

    @property
    def able(self) -> list[Trial]:
        """Those that didn't fail."""
        return [trial for trial in self.trials if trial.result.error is None]


OnRound = Callable[["Round"], None]


def compete(
    contest: "Contest",
    source: Source,
    learn: Mapping[str, LearnOptions],
    *,
    target: TargetMetric | None,
    on_round: OnRound | None,
) -> list[Round]:
    """All rounds, or those until one reaches the target."""
    rounds: list[Round] = []
    for number, (part, most) in enumerate(ROUNDS):
        kept = learn if not rounds else {each.result.name: each.learn for each in rounds[-1].able[:most]}
        if part == 1:
            kept = _with_one_between(kept)
        rounds.append(contest.round(source, kept, part=part, place=f"round-{number}"))
        if on_round is not None:
            on_round(rounds[-1])
        if reaches(rounds[-1], target):
            break
    return rounds


def _with_one_between(learn: Mapping[str, LearnOptions]) -> dict[str, LearnOptions]:
    """The best candidates, the last of which gives its place to one with an alpha between those of the first two; as
    they are where these two differ in more than alpha. Hard targets alone, of alpha 0, have no loss to differ in."""
    names = list(learn)
    if len(names) < 3:
        return dict(learn)
    less, more = sorted((learn[name] for name in names[:2]), key=lambda each: each.teachers.alpha)
    alphas = less.teachers.alpha, more.teachers.alpha
    if alphas[0] == alphas[1] or (alphas[0] > 0 and less.loss != more.loss):
        return dict(learn)
    between = round(sum(alphas) / 2, 3)
    return {name: learn[name] for name in names[:-1]} | {candidate_name(more.loss, between): with_alpha(more, between)}


def with_alpha(learn: LearnOptions, alpha: float) -> LearnOptions:
    """The same with this weight of the distillation loss from beginning to end."""
    return replace(learn, teachers=replace(learn.teachers, alpha=alpha, alpha_end=None))


def candidate_name(loss: StudentLoss, alpha: float) -> str:
    """`kl-T4-alpha0_7`, which is also the name of a folder."""
    temperature = temperature_of(loss)
    parts = [loss.name, *([] if temperature is None else [f"T{temperature:g}"]), f"alpha{alpha:g}"]
    return "-".join(parts).replace(".", "_")


def reaches(found: Round, target: TargetMetric | None) -> bool:
    """By its best candidate, which is what is recommended."""
    return target is not None and target.is_reached(found.trials[0].result.last)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """All of a training run but the students, their samples and how long it is."""

    make_student: Callable[[], nn.Module]
    stores: Sequence[Store]
    options: TrainOptions
    valid: Validation
    input: InputOptions | None
    augment: ViewOptions | None
    out: Path
    on_progress: OnProgress | None
    on_start: OnStart | None

    def round(self, source: Source, learn: Mapping[str, LearnOptions], *, part: float, place: str) -> Round:
        """Each candidate for a part of a run: fewer epochs, and where that is less than one pass, fewer samples."""
        run, whole = self.options.run, self._num_samples(source)
        epochs = max(round(run.epochs * part), run.views_per_image)  # so many show all samples
        wanted = min(1.0, run.epochs * part / epochs)
        count = max(int(whole * wanted), min(run.batch_size, whole))
        own = replace(run, epochs=epochs)
        trials = self._train(source, {name: _for_part(each, part) for name, each in learn.items()}, own, place, count)
        if all(trial.result.error for trial in trials):
            raise TrainingFailed(f"all {len(trials)} candidates failed; the first: {trials[0].result.error}")
        given = [replace(trial, learn=learn[trial.result.name]) for trial in trials]
        return Round(part=part, run=own, num_samples=count, trials=tuple(given))

    def with_half(self, source: Source, learn: LearnOptions) -> Trial:
        """The same with half of the samples, twice as often."""
        twice = replace(self.options.run, epochs=2 * self.options.run.epochs)
        optimizer = replace(learn.optimizer, warmup_epochs=2 * learn.optimizer.warmup_epochs)
        count = self._num_samples(source) // 2
        (trial,) = self._train(source, {HALF: replace(learn, optimizer=optimizer)}, twice, HALF, count)
        return replace(trial, learn=learn)

    def _num_samples(self, source: Source) -> int:
        """Of the whole run."""
        return min(self.options.run.max_samples or len(source), len(source))

    def _train(
        self, source: Source, learn: Mapping[str, LearnOptions], run: RunOptions, place: str, count: int
    ) -> list[Trial]:
        """On so many of the run's samples, chosen at random: every second one of a source might be of some classes
        alone. The best first."""
        students = {name: Student(module=self.make_student(), learn=own) for name, own in learn.items()}
        check, whole = self.options.check, self._num_samples(source)
        if count < whole:
            some = np.random.default_rng(run.seed).permutation(whole)[:count]
            source, check, run = (
                chosen(source, np.sort(some)),
                replace(check, subset=True),
                replace(run, max_samples=None),
            )
        try:
            results = train_students(
                students,
                source,
                self.stores,
                replace(self.options, run=run, check=check, learn=next(iter(learn.values()))),
                input=self.input,
                augment=self.augment,
                valid=self.valid,
                out=self.out / place,
                on_progress=self.on_progress,
                on_start=self.on_start if place == "round-0" else None,
            )
        except TrainingFailed as error:
            results = all_failed(students, error)
        trials = [Trial(learn=learn[each.name], result=each, score=score_of(each)) for each in results]
        return sorted(trials, key=lambda trial: -trial.score)


def _for_part(learn: LearnOptions, part: float) -> LearnOptions:
    """Its learning rate rises and falls in a part of the steps."""
    optimizer = learn.optimizer
    return replace(
        learn,
        optimizer=replace(
            optimizer,
            warmup_epochs=optimizer.warmup_epochs * part,
            warmup_steps=None if optimizer.warmup_steps is None else int(optimizer.warmup_steps * part),
            decay_steps=tuple(sorted({max(int(step * part), 1) for step in optimizer.decay_steps})),
        ),
    )

"""Find a loss, temperature and alpha on a validation source: trials are students, and a batch of them shares one pass.

Stored labels make this cheap: the teacher costs nothing a trial, and reading and decoding are paid once a batch.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from softlab.errors import InvalidOption, TrainingFailed
from softlab.labels.losses import LossName, LossOnValues, decision_loss
from softlab.labels.told import already_told
from softlab.modalities.modality import InputOptions
from softlab.modalities.views import ViewOptions
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.loop import OnProgress
from softlab.student.objective import make_objective
from softlab.student.options import LearnOptions, Student, TrainOptions
from softlab.student.train import OnStart, train_students
from softlab.student.trials import Trial, all_failed, loss_at, score_of, stored_temperatures
from softlab.student.validation import Validation

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as Asked


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """What a search tries."""

    trials: int
    """Students to try with different options.

    The best ones are printed."""

    together: int = 8
    """Trials in one pass over the data; those of the next pass learn from their results."""

    loss: tuple[LossName, ...] = ("kl",)
    """Distillation losses to try."""

    temperature: tuple[float, ...] = ()
    """Temperatures to try; default: the stored ones, with several stores those that all of them have a tail for."""

    alpha: tuple[float, ...] = (0.1, 1.0)
    """The lowest and the highest alpha to try."""

    seed: int = 0
    """Of the choice of trials."""

    def __post_init__(self) -> None:
        if self.trials < 1 or self.together < 1:
            raise InvalidOption(
                f"search.trials = {self.trials}, search.together = {self.together}: expected 1 or more of both. Change "
                f"`search.trials` or `search.together`."
            )
        if not self.loss:
            raise InvalidOption("search.loss = (): expected one or more. Give `search.loss`, or leave it out.")
        if len(self.alpha) != 2 or not 0 <= self.alpha[0] <= self.alpha[1] <= 1:
            raise InvalidOption(
                f"search.alpha = {self.alpha}: expected a lowest and a highest value, 0 to 1. Change `search.alpha`."
            )


def search(
    make_student: Callable[[], nn.Module],
    source: Source,
    stores: Sequence[Store],
    options: TrainOptions,
    what: SearchOptions,
    *,
    valid: Validation,
    input: InputOptions | None = None,
    augment: ViewOptions | None = None,
    out: str | Path,
    on_progress: OnProgress | None = None,
    on_start: OnStart | None = None,
) -> list[Trial]:
    """All trials of losses, temperatures and alphas, the best first.

    Each pass is a training run of its own below `out`, so a killed search goes on, and a finished one of whole passes
    can be repeated with more of them.

    The sampler is Optuna's tree-structured Parzen estimator (Bergstra et al. 2011): what it chooses is a function of
    its seed and of the scores so far. `make_student` gives the same weights each time. Raises as `train_students`, but
    for trials that fail.
    """
    if not stores:
        raise InvalidOption("a search needs a store: it tries how to learn from one. Give `store`.")
    if options.learn.head:
        raise InvalidOption(
            "head: a search tries how one output of a student learns, and this one has several. Leave them out, or "
            "train without `search`."
        )
    if isinstance(options.learn.loss, LossOnValues):
        raise InvalidOption(
            f"loss.name = {options.learn.loss.name}: a search tries losses on classes. Train without `search`, or say "
            f"`loss.name = kl`."
        )
    options = replace(options, distil=replace(options.distil, baseline=False))
    temperatures = what.temperature or stored_temperatures(stores)
    _check_all_can_be_tried(options.learn, what, temperatures, stores)
    study = _study(what)
    trials: list[Trial] = []
    for number in range(math.ceil(what.trials / what.together)):
        asked = [study.ask() for _ in range(min(what.together, what.trials - len(trials)))]
        students = {
            f"trial-{each.number:03d}": Student(
                module=make_student(), learn=_suggest(each, options.learn, what, temperatures)
            )
            for each in asked
        }
        try:
            results = train_students(
                students,
                source,
                stores,
                options,
                input=input,
                augment=augment,
                valid=valid,
                out=Path(out) / f"pass-{number:03d}",
                on_progress=on_progress,
                on_start=on_start if number == 0 else None,
            )
        except TrainingFailed as error:
            results = all_failed(students, error)
        for each, student, result in zip(asked, students.values(), results, strict=True):
            assert student.learn is not None, "each trial has its own"
            trial = Trial(learn=student.learn, result=result, score=score_of(result))
            study.tell(each, trial.score)
            trials.append(trial)
    if all(trial.result.error for trial in trials):
        raise TrainingFailed(f"all {len(trials)} trials failed; the first: {trials[0].result.error}")
    return sorted(trials, key=lambda trial: -trial.score)


def _check_all_can_be_tried(
    options: LearnOptions, what: SearchOptions, temperatures: Sequence[float], stores: Sequence[Store]
) -> None:
    """On one row: what can't be used with these stores would else end the search when it is first chosen."""
    for loss, temperature in itertools.product(what.loss, temperatures):
        tried = loss_at(options.loss, name=loss, temperature=temperature)
        make_objective(replace(options, loss=tried), num_stores=len(stores))
        for store in stores:
            labels = store.read([0], view=0)
            logits_BC, targets_B = torch.zeros(1, labels.num_classes), torch.zeros(1, dtype=torch.int64)
            with already_told():  # each run tells it
                decision_loss(logits_BC, labels, targets_B=targets_B, options=tried)


def _study(what: SearchOptions) -> "Study":
    if not find_spec("optuna") or not find_spec("tomli_w"):
        raise InvalidOption("a search needs Optuna. Run pip install 'softlab[search]'.")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=what.seed))


def _suggest(trial: "Asked", options: LearnOptions, what: SearchOptions, temperatures: Sequence[float]) -> LearnOptions:
    loss: LossName = trial.suggest_categorical("loss", what.loss)  # type: ignore[assignment]
    temperature = trial.suggest_categorical("temperature", list(temperatures))
    alpha = trial.suggest_float("alpha", *what.alpha)
    return replace(
        options,
        loss=loss_at(options.loss, name=loss, temperature=temperature),
        teachers=replace(options.teachers, alpha=round(alpha, 3)),
    )

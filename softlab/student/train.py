"""Train students from stored labels, all of them in one pass over the data; or a teacher, on hard targets alone."""

import copy
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.batches import Batch, BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.models.device import choose_device
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.evaluate import Evaluation, evaluate
from softlab.student.inputs import align_inputs
from softlab.student.learner import Learner
from softlab.student.objective import HARD_TARGETS, Objective
from softlab.student.options import TrainOptions
from softlab.student.run_folder import RESUME, Position, RunFolder, StudentResult
from softlab.student.run_record import describe_run
from softlab.student.validation import Validation, check_comparable
from softlab.views.finishing import Finishing
from softlab.views.view_recipe import ViewRecipe

HARD_SUFFIX = "-hard"
"""Of the name of a student's hard-target baseline."""

STUDENT_NAME = re.compile("[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainProgress:
    """How far a run is."""

    step: int
    num_steps: int
    epoch: int
    valid: dict[str, Evaluation]
    """By student, of the last epoch that was evaluated."""


OnProgress = Callable[[TrainProgress], None]


def train_students(
    students: Mapping[str, nn.Module],
    source: Source,
    stores: Sequence[Store],
    options: TrainOptions | None = None,
    *,
    finishing: Finishing | None = None,
    augment: ViewRecipe | None = None,
    valid: Validation | None = None,
    out: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[StudentResult]:
    """Train the given modules in place, in one pass over the data; their results in the same order.

    With one store, on its soft labels mixed with hard targets, and on the very views that the teacher saw; with none,
    on hard targets alone, each epoch on a fresh view as `augment` says. With `out`, weights
    and metrics are written there, a killed run goes on exactly where its last checkpoint was, and a finished one
    returns its results without training (the modules then stay as they are).

    Raises StoreMismatch if store, source, views, students or an interrupted run don't belong together, InvalidOption
    for more than one store or a temperature below the stored ones, TrainingFailed for a loss that isn't finite.
    """
    options = options or TrainOptions()
    if len(stores) > 1:
        raise InvalidOption(f"{len(stores)} stores: students learn from one store. Give one.")
    finishing = finishing or Finishing()
    device, loader = choose_device(options.device), LoaderOptions(workers=options.workers)
    inputs = align_inputs(source, stores, finishing, options, augment=augment)
    train_loader = BatchLoader(inputs.aligned, device=device, options=loader, keep_decoded=True)
    valid_loader = None
    if valid is not None:
        check_comparable(valid, source, stores)
        aligned = align_inputs(valid.source, [valid.store] if valid.store else [], finishing, options).aligned
        valid_loader = BatchLoader(aligned, device=device, options=loader, keep_decoded=True)
    order = ShuffledBatches(
        num_samples=min(options.max_samples or len(source), len(source)),
        batch_size=options.batch_size,
        epochs=options.epochs,
        seed=options.seed,
        num_views=inputs.num_views,
        view_order=options.view_order,
    )
    learners = _make_learners(students, options, order, device=device, has_store=bool(stores))
    folder = None
    if out is not None:
        folder = RunFolder(Path(out), describe_run(learners, source, stores, inputs, valid, options))
        finished = folder.results()
        if finished is not None:
            return finished
    return _Training(learners, train_loader, valid_loader, order, options, folder).run(on_progress)


class _Training:
    """The loop, and what it has to remember besides the learners' own state."""

    def __init__(
        self,
        learners: list[Learner],
        train_loader: BatchLoader,
        valid_loader: BatchLoader | None,
        order: ShuffledBatches,
        options: TrainOptions,
        folder: RunFolder | None,
    ) -> None:
        self._learners, self._loader, self._valid_loader = learners, train_loader, valid_loader
        self._order, self._options, self._folder = order, options, folder
        self._best: dict[str, Evaluation] = {}
        self._last: dict[str, Evaluation] = {}
        self._train_loss: dict[str, float] = {}
        self._seconds = {learner.name: 0.0 for learner in learners}

    def run(self, on_progress: OnProgress | None) -> list[StudentResult]:
        """Every step that is left. On Ctrl-C KeyboardInterrupt says how to go on."""
        try:
            self._train(on_progress)
        except KeyboardInterrupt:
            if self._folder is None:
                raise
            raise KeyboardInterrupt(
                f"{self._folder.root}: stopped. Run the same command again to go on from the last checkpoint."
            ) from None
        return self._finish()

    def _train(self, on_progress: OnProgress | None) -> None:
        first_step = self._resume()
        batches = self._loader.load(replace(self._order, first_step=first_step))
        for step, batch in enumerate(batches, start=first_step):
            if step == first_step:
                self._check_targets(batch)
            self._step(batch, step)
            if (step + 1) % self._order.steps_per_epoch == 0:
                self._end_epoch(step + 1)
            if (step + 1) % (self._options.checkpoint_steps or self._order.steps_per_epoch) == 0:
                self._save_state(step + 1)
            if on_progress is not None:
                epoch = step // self._order.steps_per_epoch + 1
                on_progress(
                    TrainProgress(step=step + 1, num_steps=self._order.num_steps, epoch=epoch, valid=self._last)
                )

    def _check_targets(self, batch: Batch) -> None:
        """Raises StoreMismatch for a hard target that a student has no output for; a GPU would only abort."""
        targets_N = self._loader.aligned.targets_N
        highest = -1 if targets_N is None else int(targets_N.max())
        on_device = batch.to(self._loader.device, channels_last=self._options.channels_last)
        for learner in self._learners:
            with torch.inference_mode():
                num_outputs = learner.evaluating()(on_device).shape[1]
            if learner.objective.alpha < 1 and highest >= num_outputs:
                raise StoreMismatch(
                    f"student {learner.name} has {num_outputs} outputs, but {self._loader.aligned.source.name} has "
                    f"hard targets up to {highest}. Build the student with num_classes = {highest + 1} or more."
                )

    def _step(self, batch: Batch, step: int) -> None:
        on_device = batch.to(self._loader.device, channels_last=self._options.channels_last)
        for learner in self._learners:
            start = time.perf_counter()
            learner.step(on_device, step=step)
            self._seconds[learner.name] += time.perf_counter() - start

    def _end_epoch(self, step: int) -> None:
        epoch = step // self._order.steps_per_epoch
        self._train_loss = {learner.name: learner.take_mean_loss(step=step) for learner in self._learners}
        if self._valid_loader is not None:
            forwards = {learner.name: learner.evaluating() for learner in self._learners}
            self._last = evaluate(
                forwards,
                self._valid_loader,
                batch_size=self._options.batch_size,
                channels_last=self._options.channels_last,
            )
        for learner in self._learners:
            valid = self._last.get(learner.name)
            if valid is not None and _score(valid) > _score(self._best.get(learner.name)):
                self._best[learner.name] = valid
                self._save_weights(learner, "best", epoch=epoch)
            if self._folder is not None:
                facts = {"epoch": epoch, "step": step, "student": learner.name}
                facts |= {
                    "train_loss": self._train_loss[learner.name],
                    "learning_rate": learner.learning_rate(step - 1),
                }
                self._folder.append_metrics(facts | {"valid": None if valid is None else asdict(valid)})

    def _finish(self) -> list[StudentResult]:
        results = []
        for learner in self._learners:
            self._save_weights(learner, "last", epoch=self._options.epochs)
            results.append(
                StudentResult(
                    name=learner.name,
                    num_parameters=sum(parameter.numel() for parameter in learner.module.parameters()),
                    train_loss=self._train_loss[learner.name],
                    last=self._last.get(learner.name),
                    best=self._best.get(learner.name),
                    seconds=self._seconds[learner.name],
                )
            )
        if self._folder is not None:
            self._folder.finish(results)
        return results

    def _resume(self) -> int:
        """The step to go on from, everything restored; 0 for a new run."""
        position = self._folder.position() if self._folder is not None else None
        if self._folder is None or position is None:
            return 0
        for learner in self._learners:
            learner.load_state(self._folder.load_state(position, learner.name))
        self._best, self._last, self._train_loss = dict(position.best), dict(position.last), dict(position.train_loss)
        self._seconds = dict(position.seconds)
        return position.step

    def _save_state(self, step: int) -> None:
        if self._folder is None:
            return
        position = Position(
            step=step,
            metrics_bytes=self._folder.metrics_bytes,
            best=self._best,
            last=self._last,
            train_loss=self._train_loss,
            seconds=self._seconds,
        )
        self._folder.save_state({learner.name: learner.state() for learner in self._learners}, position)

    def _save_weights(self, learner: Learner, kind: str, *, epoch: int) -> None:
        if self._folder is not None:
            valid = self._last.get(learner.name)
            facts = {"student": learner.name, "epoch": epoch, "valid": None if valid is None else asdict(valid)}
            self._folder.save_weights(learner.name, kind, learner.module.state_dict(), facts)


def _make_learners(
    students: Mapping[str, nn.Module],
    options: TrainOptions,
    order: ShuffledBatches,
    *,
    device: torch.device,
    has_store: bool,
) -> list[Learner]:
    """One a student, and one a baseline that starts from a copy of the same weights."""
    from_store = Objective(alpha=options.alpha, temperature=options.temperature, tail=options.tail)
    wanted = [(name, module, from_store if has_store else HARD_TARGETS) for name, module in students.items()]
    if options.baseline and has_store:
        wanted += [(name + HARD_SUFFIX, copy.deepcopy(module), HARD_TARGETS) for name, module in students.items()]
    if len({id(module) for module in students.values()}) < len(students):
        raise InvalidOption("one module is given as two students. Give each a module of its own.")
    if not wanted or len({name for name, _, _ in wanted}) < len(wanted):
        raise InvalidOption(
            f"students {', '.join(name for name, _, _ in wanted) or 'none'}: give each its own --student."
        )
    for name, _, _ in wanted:
        if not STUDENT_NAME.fullmatch(name) or name == RESUME:
            raise InvalidOption(
                f"student {name!r}: a name is 1 to 64 of a-z A-Z 0-9 _ -, and not {RESUME!r}, as it names a folder of "
                f"the run. Choose another name."
            )
    return [
        Learner(
            name,
            module,
            objective,
            options,
            device=device,
            num_steps=order.num_steps,
            steps_per_epoch=order.steps_per_epoch,
        )
        for name, module, objective in wanted
    ]


def _score(evaluation: Evaluation | None) -> float:
    """What makes an epoch the best one."""
    if evaluation is None:
        return -1.0
    if evaluation.accuracy is not None:
        return evaluation.accuracy
    return evaluation.teacher_agreement or 0.0

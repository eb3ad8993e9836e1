"""The loop of a training run: steps, epochs, checkpoints, and students that are set aside."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import msgspec
import torch

from softlab.errors import InvalidOption, ModelError, StoreError, StoreMismatch, TrainingFailed
from softlab.evaluation.best import is_better, score
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.measure import Forward, evaluate
from softlab.evaluation.tally import Given
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.lost_worker import find_lost_worker
from softlab.loading.order import ShuffledBatches
from softlab.loading.stored import BLOCK_BATCHES
from softlab.ranks import Ranks
from softlab.student.collectives import own_rows, parts_of
from softlab.student.first_batch import OutputCounts, check_given, check_hard_targets, count_outputs, units_of
from softlab.student.latest_loss import LatestLoss
from softlab.student.learner import Learner
from softlab.student.options import TrainOptions
from softlab.student.position import Position, Stopped
from softlab.student.run_folder import RunFolder, StudentResult
from softlab.student.trackers import Tracker, curves, finish_trackers, log, quiet_threads, start_trackers, step_curves
from softlab.student.validation import Comparison, reading_samples_of


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainProgress:
    """How far a run is."""

    step: int
    num_steps: int
    epoch: int
    valid: dict[str, Evaluation]
    """By student, of the last epoch that was evaluated."""

    best_by: str | None
    """The metric that makes an epoch the best; None where nothing is measured."""

    loss: dict[str, float]
    """By student, of the recent steps as far as it is known without waiting for the device; else of the last epoch."""

    unit = "steps"

    @property
    def done(self) -> int:
        return self.step

    @property
    def total(self) -> int:
        return self.num_steps

    @property
    def note(self) -> str:
        """`epoch 3, loss 1.234, accuracy 79.14%`; of several students the lowest and the highest loss, and the best
        one's figure."""
        parts = [f"epoch {self.epoch}"]
        if self.loss:
            lowest, highest = min(self.loss.values()), max(self.loss.values())
            parts.append(f"loss {lowest:.4g}" + (f" to {highest:.4g}" if len(self.loss) > 1 else ""))
        if self.best_by is not None and self.valid:
            best_by = self.best_by
            best = max(self.valid.values(), key=lambda valid: score(valid, by=best_by))
            of_all = "best " if len(self.valid) > 1 else ""
            parts += [of_all + best.figure(best_by)] if best_by in best.values else []
        return ", ".join(parts)


OnProgress = Callable[[TrainProgress], None]


class _SetAside(Exception):
    """The student that was to be measured has just left the run."""


class Training:
    """The loop, and what it has to remember besides the learners' own state."""

    def __init__(
        self,
        learners: list[Learner],
        train_loader: BatchLoader,
        comparison: Comparison | None,
        others: Mapping[str, BatchLoader],
        order: ShuffledBatches,
        options: TrainOptions,
        folder: RunFolder | None,
        ranks: Ranks,
    ) -> None:
        """`others` are further validation sources, which decide nothing."""
        self._ranks, self._others = ranks, others
        self._names = [learner.name for learner in learners]
        self._parameters = {
            learner.name: sum(parameter.numel() for parameter in learner.module.parameters()) for learner in learners
        }
        self._errors: dict[str, str] = {}
        self._trackers: list[Tracker] = []
        self._learners, self._loader, self._comparison = learners, train_loader, comparison
        self._best_by = None if comparison is None else comparison.best_by
        self._order, self._options, self._folder = order, options, folder
        self._best: dict[str, Evaluation] = {}
        self._last: dict[str, Evaluation] = {}
        self._also: dict[str, dict[str, Evaluation]] = {}
        self._train_loss: dict[str, float] = {}
        self._since_best: dict[str, int] = {}
        self._stopped: dict[str, Stopped] = {}
        self._seconds = {learner.name: 0.0 for learner in learners}
        self._latest_loss = {learner.name: LatestLoss() for learner in learners}

    def run(self, on_progress: OnProgress | None) -> list[StudentResult]:
        """Every step that is left. On Ctrl-C KeyboardInterrupt says how to go on."""
        try:
            with quiet_threads():
                self._train(on_progress)
        except KeyboardInterrupt:
            if self._folder is None:
                raise
            raise KeyboardInterrupt(
                f"{self._folder.root}: stopped. Run the same command again to go on from the last checkpoint."
            ) from None
        finally:
            if self._comparison is not None:
                self._comparison.loader.close()
            finish_trackers(self._trackers)
        return self._finish()

    def _train(self, on_progress: OnProgress | None) -> None:
        first_step = self._resume()
        if self._folder is not None and self._ranks.is_first:
            self._trackers = start_trackers(self._options.log.track, self._folder.root, first_step=first_step)
        for step, part, batch in self._parts(first_step):
            if (step, part) == (first_step, 0):
                self._look_at_first(batch)
            self._step(batch, step, part=part)
            if part < self._options.run.accumulate - 1:
                continue
            self._after_step(step + 1)
            if on_progress is not None:
                on_progress(self._progress(step))
            if not self._learners:
                return

    def _parts(self, first_step: int) -> Iterator[tuple[int, int, Batch]]:
        """The batches from a step on, each in the parts that are gone through one after the other."""
        parts = self._options.run.accumulate
        skip = first_step % (BLOCK_BATCHES // math.gcd(BLOCK_BATCHES, parts))  # stored rows are read in whole blocks
        batches = replace(self._order, first_step=first_step - skip)
        order = (part for rows in batches for part in parts_of(own_rows(rows, self._ranks), parts=parts))
        for index, batch in enumerate(self._loader.load(order, skip=skip * parts), start=first_step * parts):
            yield (*divmod(index, parts), batch)

    def _after_step(self, step: int) -> None:
        """What is due when so many steps are done."""
        log, steps_per_epoch = self._options.log, self._order.steps_per_epoch
        if log.log_steps is not None and step % log.log_steps == 0:
            self._log_steps(step, epoch=(step - 1) // steps_per_epoch + 1)
        if step % steps_per_epoch == 0:
            self._end_epoch(step)
        if step % (log.checkpoint_steps or steps_per_epoch) == 0:
            self._save_state(step)

    def _progress(self, step: int) -> TrainProgress:
        latest = {learner.name: self._latest_loss[learner.name].value for learner in self._learners}
        known = {name: self._train_loss.get(name) if loss is None else loss for name, loss in latest.items()}
        return TrainProgress(
            step=step + 1,
            num_steps=self._order.num_steps,
            epoch=step // self._order.steps_per_epoch + 1,
            valid=dict(self._last),
            best_by=self._best_by,
            loss={name: loss for name, loss in known.items() if loss is not None},
        )

    def _look_at_first(self, batch: Batch) -> None:
        """Raises as `check_units`, `check_given` and `check_hard_targets`, before the first step."""
        aligned, num_outputs = self._loader.aligned, dict[str, OutputCounts]()
        units_R = units_of(aligned, batch)
        on_device = batch.to(self._loader.device, channels_last=self._options.device.channels_last)
        for learner in list(self._learners):
            own = on_device.for_input(learner.input_index)
            with self._setting_aside(learner), torch.inference_mode():
                learner.check_units(own, units_R=units_R)
                given = learner.evaluating()(own)
                num_outputs[learner.name] = count_outputs(given)
                check_given(learner, given, own, best_by=self._best_by)
        for learner in self._learners:
            check_hard_targets(learner, num_outputs[learner.name], aligned)

    def _step(self, batch: Batch, step: int, *, part: int) -> None:
        on_device = batch.to(self._loader.device, channels_last=self._options.device.channels_last)
        for learner in list(self._learners):
            start = time.perf_counter()
            with self._setting_aside(learner):
                loss = learner.step(on_device, step=step, part=part, parts=self._options.run.accumulate)
                self._latest_loss[learner.name].add(loss)
            self._seconds[learner.name] += time.perf_counter() - start

    @contextmanager
    def _setting_aside(self, learner: Learner) -> Iterator[None]:
        """A student that fails inside leaves the run; its error is raised only if no other is left. What the user has
        to correct is raised at once, and in a run of several ranks, which would no longer do the same steps, all is."""
        try:
            yield
        except (InvalidOption, StoreError, StoreMismatch):
            raise
        except Exception as error:  # whatever a student's own code raises is its own failure
            if (lost := find_lost_worker(error)) is not None:  # of any loader, whatever this student was just about
                raise lost from None
            is_on_all_ranks = isinstance(error, TrainingFailed)  # of a mean loss, which they share
            error = _with_a_hint(error, learner.name, batch_size=self._options.run.batch_size)
            if len(self._learners) == 1 or (self._ranks.count > 1 and not is_on_all_ranks):
                raise error from error.__cause__
            self._learners = [other for other in self._learners if other is not learner]
            self._errors[learner.name] = f"{type(error).__name__}: {error}"
            learner.release()

    def _end_epoch(self, step: int) -> None:
        epoch = step // self._order.steps_per_epoch
        for learner in list(self._learners):
            with self._setting_aside(learner):
                self._train_loss[learner.name] = learner.take_mean_loss(step=step)
            learner.share_buffers()
        if self._comparison is not None:
            self._last |= self._evaluate(self._comparison.loader, section="valid")
        also = {name: self._evaluate(each, section=f"also_valid.{name}") for name, each in self._others.items()}
        values: dict[str, float] = {}
        for learner in list(self._learners):
            name, valid = learner.name, self._last.get(learner.name)
            self._also[name] = {other: found[name] for other, found in also.items()}
            if valid is not None:
                self._compare_with_best(learner, valid, epoch=epoch)
            if self._folder is not None and self._ranks.is_first:
                rate, loss = learner.learning_rate(step - 1), self._train_loss[name]
                facts = {"epoch": epoch, "step": step, "student": name, "train_loss": loss, "learning_rate": rate}
                measured = {"valid": valid} | ({"also_valid": self._also[name]} if also else {})
                self._folder.append_metrics(facts | msgspec.to_builtins(measured))
                values |= curves(name, train_loss=loss, learning_rate=rate, valid=valid)
                for other, found in self._also[name].items():
                    values |= curves(f"{name}/{other}", valid=found)
            if self._since_best.get(name, 0) == self._options.run.patience:
                self._stop(learner, epoch=epoch)
        log(self._trackers, values, step=step)

    def _compare_with_best(self, learner: Learner, valid: Evaluation, *, epoch: int) -> None:
        name = learner.name
        if self._is_best(valid, name):
            self._best[name], self._since_best[name] = valid, 0
            self._save_weights(learner, "best", epoch=epoch)
        else:
            self._since_best[name] = self._since_best.get(name, 0) + 1

    def _stop(self, learner: Learner, *, epoch: int) -> None:
        """A student that has learnt long enough leaves the run, as after a last step."""
        self._save_weights(learner, "last", epoch=epoch)
        self._stopped[learner.name] = Stopped(epoch=epoch, sparsity=learner.finish())
        self._learners = [other for other in self._learners if other is not learner]
        learner.release()

    def _log_steps(self, step: int, *, epoch: int) -> None:
        """The loss of the steps since the last time, beside what is written once an epoch."""
        values: dict[str, float] = {}
        for learner in list(self._learners):
            with self._setting_aside(learner):
                loss, rate = learner.recent_loss(step=step), learner.learning_rate(step - 1)
                values |= step_curves(learner.name, train_loss=loss, learning_rate=rate)
                if self._folder is not None and self._ranks.is_first:
                    facts = {"epoch": epoch, "step": step, "student": learner.name, "step_loss": loss}
                    self._folder.append_metrics(facts | {"learning_rate": rate})
        log(self._trackers, values, step=step)

    def _is_best(self, valid: Evaluation, student: str) -> bool:
        assert self._best_by is not None
        return is_better(valid, than=self._best.get(student), by=self._best_by)

    def _evaluate(self, loader: BatchLoader, *, section: str) -> dict[str, Evaluation]:
        """Of all students that can be measured: where one fails, the others are measured once more without it."""
        while True:
            forwards = {learner.name: self._evaluating(learner) for learner in self._learners}
            with suppress(_SetAside), reading_samples_of(section):
                return evaluate(
                    forwards,
                    loader,
                    input_of={learner.name: learner.input_index for learner in self._learners},
                    batch_size=self._options.run.batch_size,
                    channels_last=self._options.device.channels_last,
                )

    def _evaluating(self, learner: Learner) -> Forward:
        forward = learner.evaluating()

        def guarded(batch: Batch) -> Given:
            with self._setting_aside(learner):
                return forward(batch)
            raise _SetAside

        return guarded

    def _finish(self) -> list[StudentResult]:
        sparsity = {name: stopped.sparsity for name, stopped in self._stopped.items()}
        for learner in self._learners:
            self._save_weights(learner, "last", epoch=self._options.run.epochs)
            sparsity[learner.name] = learner.finish()
        results = [
            StudentResult(
                name=name,
                num_parameters=self._parameters[name],
                train_loss=self._train_loss.get(name),
                last=None if name in self._errors else self._last.get(name),
                best=self._best.get(name),
                best_by=self._best_by,
                also=self._also.get(name, {}),
                epochs=self._stopped[name].epoch if name in self._stopped else None,
                seconds=self._seconds[name],
                sparsity=sparsity.get(name),
                error=self._errors.get(name),
            )
            for name in self._names
        ]
        if self._folder is not None and self._ranks.is_first:
            self._folder.finish(results)
        self._ranks.wait()
        return results

    def _resume(self) -> int:
        """The step to go on from, everything restored; 0 for a new run."""
        position = self._folder.position() if self._folder is not None else None
        if self._folder is None or position is None:
            return 0
        self._errors, self._stopped = dict(position.errors), dict(position.stopped)
        for learner in self._learners:
            if learner.name in self._stopped:
                learner.finish()
                learner.module.load_state_dict(self._folder.load_weights(learner.name))
        gone = self._errors.keys() | self._stopped.keys()
        self._learners = [learner for learner in self._learners if learner.name not in gone]
        for learner in self._learners:
            learner.load_state(self._folder.load_state(position, learner.name))
        self._best, self._last, self._train_loss = dict(position.best), dict(position.last), dict(position.train_loss)
        self._seconds, self._since_best, self._also = (
            dict(position.seconds),
            dict(position.since_best),
            dict(position.also),
        )
        return position.step

    def _save_state(self, step: int) -> None:
        if self._folder is None:
            return
        states = {learner.name: learner.state() for learner in self._learners}
        if not self._ranks.is_first:
            return
        position = Position(
            step=step,
            metrics_bytes=self._folder.metrics_bytes,
            best=self._best,
            last=self._last,
            train_loss=self._train_loss,
            seconds=self._seconds,
            also=self._also,
            since_best=self._since_best,
            stopped=self._stopped,
            errors=self._errors,
        )
        self._folder.save_state(states, position)

    def _save_weights(self, learner: Learner, kind: str, *, epoch: int) -> None:
        if self._folder is not None and self._ranks.is_first:
            valid = msgspec.to_builtins(self._last.get(learner.name))
            facts = {"student": learner.name, "epoch": epoch, "valid": valid}
            self._folder.save_weights(learner.name, kind, learner.weights(), facts)


def _with_a_hint(error: Exception, name: str, *, batch_size: int) -> Exception:
    cause = error.__cause__ if isinstance(error, ModelError) else error  # a forward's own error is its cause
    if not isinstance(cause, torch.OutOfMemoryError):
        return error
    reason = str(cause).partition("\n")[0].rstrip(".")
    failure = TrainingFailed(
        f"student {name}: {reason}. Lower `run.batch_size` (now {batch_size}), raise `run.accumulate`, or train fewer "
        f"students in one pass."
    )
    failure.__cause__ = error
    return failure

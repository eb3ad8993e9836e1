"""From the students that a caller names to learners, and to their hard-target baselines."""

import copy
import re
from collections.abc import Mapping
from dataclasses import replace

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.order import ShuffledBatches, in_sequence
from softlab.ranks import Ranks
from softlab.store.reader import Store
from softlab.student.learner import Learner
from softlab.student.objective import HARD_TARGETS, Objective, make_objective
from softlab.student.options import Student, TrainOptions
from softlab.student.run_folder import RESUME

HARD_SUFFIX = "-hard"
"""Of the name of a student's hard-target baseline."""

STUDENT_NAME = re.compile("[A-Za-z0-9_-]{1,64}")


def make_learners(
    students: Mapping[str, Student],
    options: TrainOptions,
    order: ShuffledBatches,
    loader: BatchLoader,
    *,
    num_stores: int,
    ranks: Ranks,
) -> list[Learner]:
    """One a student, and one a baseline that starts from a copy of the same weights."""
    wanted = [
        (name, student, make_objective(student.options, num_stores=num_stores)) for name, student in students.items()
    ]
    if options.baseline and num_stores:
        wanted += [
            (
                name + HARD_SUFFIX,
                replace(student, module=copy.deepcopy(student.module)),
                replace(HARD_TARGETS, label_smoothing=student.options.label_smoothing),
            )
            for name, student in students.items()
        ]
    if loader.aligned.store is not None:
        for name, _, objective in wanted:
            _check_head(name, objective, loader.aligned.store, num_stores=num_stores)
    _check_modules(students)
    _check_names([name for name, _, _ in wanted])
    example = None
    if any(objective.features for _, _, objective in wanted):
        example = _example(loader, channels_last=options.channels_last)
    return [
        Learner(
            name,
            student.module,
            objective,
            student.options,
            device=loader.device,
            num_steps=order.num_steps,
            steps_per_epoch=order.steps_per_epoch,
            example=example,
            ranks=ranks,
            input_index=_input_index(student, loader),
        )
        for name, student, objective in wanted
    ]


def _input_index(student: Student, loader: BatchLoader) -> int:
    return 0 if student.input is None else loader.aligned.inputs.index(student.input)


def _example(loader: BatchLoader, *, channels_last: bool) -> Batch:
    """Two samples: they tell the shapes of the students' features and of the stored ones."""
    count = min(2, len(loader.aligned.source))
    (batch,) = loader.load(in_sequence(0, count, batch_size=count))
    return batch.to(loader.device, channels_last=channels_last)


def _check_head(name: str, objective: Objective, store: Store, *, num_stores: int) -> None:
    """Raises StoreMismatch for what a student can't learn from teachers with the head of the store."""
    if max(objective.alpha, objective.alpha_end or 0.0) == 0:
        _check_samples_are_rows(name, objective, store)
        return
    if not store.has_labels:
        raise StoreMismatch(
            f"student {name}: {store.name} holds no soft labels to learn. Learn its values as features "
            f"(--feature NAME=LAYER), with --alpha 0."
        )
    objective.loss.check_head(store.head)
    if store.labels.units and (objective.needs_targets or objective.weigh == "correctness"):
        raise StoreMismatch(
            f"student {name}: hard targets are one a sample, but {store.name} has a row for each unit of a sample. "
            f"Train on its labels alone, with --alpha 1 and a --loss that needs no targets, and without --baseline."
        )
    if store.head == "sigmoid" and num_stores > 1:
        raise StoreMismatch(
            f"{store.name}: is of a teacher with a sigmoid head, and only teachers with a softmax head can be "
            f"combined. Train from one --store."
        )
    if store.head == "sigmoid" and objective.needs_targets:
        raise StoreMismatch(
            f"student {name}: alpha below 1 adds hard targets, one class a sample, but {store.name} is of a teacher "
            f"with a sigmoid head, each class a choice of its own. Train on its labels alone, with --alpha 1 (in a "
            f"search --search-alpha 1 --search-alpha 1)."
        )


def _check_samples_are_rows(name: str, objective: Objective, store: Store) -> None:
    """Raises StoreMismatch for a student of hard targets beside a store whose samples have several rows."""
    if store.has_labels and store.labels.units:
        raise StoreMismatch(
            f"student {name}: learns hard targets, one a sample, but {store.name} has a row for each unit of a sample. "
            f"Train on its labels alone, with --alpha 1 and without --baseline."
        )


def _check_modules(students: Mapping[str, Student]) -> None:
    if len({id(student.module) for student in students.values()}) < len(students):
        raise InvalidOption("one module is given as two students. Give each a module of its own.")


def _check_names(names: list[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise InvalidOption(f"students {', '.join(names) or 'none'}: give each its own --student.")
    for name in names:
        if not STUDENT_NAME.fullmatch(name) or name == RESUME:
            raise InvalidOption(
                f"student {name!r}: a name is 1 to 64 of a-z A-Z 0-9 _ -, and not {RESUME!r}, as it names a folder of "
                f"the run. Choose another name."
            )

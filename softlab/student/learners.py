"""From the students that a caller names to learners, and to their hard-target baselines."""

import copy
import re
from collections.abc import Mapping
from dataclasses import replace

from softlab.errors import InvalidOption
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader
from softlab.loading.order import ShuffledBatches, in_sequence
from softlab.modalities.modality import tells_units
from softlab.ranks import Ranks
from softlab.sources.label_sequences import label_sequences
from softlab.student.heads.objective import HeadsObjective
from softlab.student.heads.objectives import objectives_of_heads
from softlab.student.heads.plan import HeadPlan
from softlab.student.learner import Learner
from softlab.student.objective import Objective
from softlab.student.objectives import HARD_SUFFIX, make_objectives
from softlab.student.options import Student, TrainOptions
from softlab.student.robust import hard_alone, make_robust_loss
from softlab.student.run_folder import RESUME

STUDENT_NAME = re.compile("[A-Za-z0-9_-]{1,64}")


def make_learners(
    students: Mapping[str, Student],
    options: TrainOptions,
    order: ShuffledBatches,
    loader: BatchLoader,
    *,
    num_stores: int,
    ranks: Ranks,
    plans: Mapping[str, HeadPlan],
) -> list[Learner]:
    """One a student, and one a baseline that starts from a copy of the same weights. `plans` are those of the students'
    heads, where they have any."""
    _check_rows_of_units(students, loader)
    learnt = {name: student.learn or options.learn for name, student in students.items()}
    wanted: Mapping[str, Objective | HeadsObjective]
    if plans:
        wanted = objectives_of_heads(plans, learnt, options, loader.aligned, order)
    else:
        wanted = make_objectives(students, options, loader.aligned, order, num_stores=num_stores)
    _check_modules(students)
    has_baselines = options.distil.baseline and num_stores > 0
    _check_names([*students, *(name + HARD_SUFFIX for name in students if has_baselines)])
    given = {name: replace(student, learn=learnt[name]) for name, student in students.items()}
    given |= {
        name + HARD_SUFFIX: replace(
            student,
            module=copy.deepcopy(student.module),
            learn=replace(learnt[name], robust=hard_alone(learnt[name].robust)),
        )
        for name, student in given.items()
        if has_baselines
    }
    example = None
    if any(map(_needs_example, wanted.values())):
        example = _example(loader, channels_last=options.device.channels_last)
    return [
        Learner(
            name,
            given[name].module,
            objective,
            optimizer=learn.optimizer,
            device=loader.device,
            place_on=options.device,
            num_steps=order.num_steps,
            steps_per_epoch=order.steps_per_epoch,
            seed=options.run.seed if learn.seed is None else learn.seed,
            prune=learn.prune,
            example=example,
            ranks=ranks,
            input_index=_input_index(given[name], loader),
            robust=make_robust_loss(name, learn, objective, loader.aligned, _input_index(given[name], loader)),
        )
        for name, objective in wanted.items()
        if (learn := given[name].learn) is not None
    ]


def _needs_example(objective: Objective | HeadsObjective) -> bool:
    """Whether it learns what has shapes of its own."""
    is_on_values = objective.on_values if isinstance(objective, HeadsObjective) else objective.values_output
    return bool(objective.features or is_on_values)


def _input_index(student: Student, loader: BatchLoader) -> int:
    return 0 if student.input is None else loader.aligned.inputs.index(student.input)


def _example(loader: BatchLoader, *, channels_last: bool) -> Batch:
    """Two samples: they tell the shapes of the students' features and of the stored ones."""
    count = min(2, len(loader.aligned.source))
    (rows,) = in_sequence(0, count, batch_size=count)
    return loader.load_one(rows).to(loader.device, channels_last=channels_last)


def _check_rows_of_units(students: Mapping[str, Student], loader: BatchLoader) -> None:
    """Raises InvalidOption for a student without a row for each unit, where each unit has a hard target."""
    for name, student in students.items():
        input = loader.aligned.inputs[_input_index(student, loader)]
        if label_sequences(loader.aligned.source) is not None and not tells_units(input):
            raise InvalidOption(
                f"student {name}: {loader.aligned.source.name} has a label for each unit of a sample, and the student "
                f"no row for each. Say `input.unit = word` where it answers for each token of a text, `frame` where "
                f"for each frame of a clip, or leave `source.label_sequences` out."
            )


def _check_modules(students: Mapping[str, Student]) -> None:
    if len({id(student.module) for student in students.values()}) < len(students):
        raise InvalidOption("one module is given as two students. Give each a module of its own.")


def _check_names(names: list[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise InvalidOption(f"students {', '.join(names) or 'none'}: give each a name of its own under `student`.")
    for name in names:
        if not STUDENT_NAME.fullmatch(name) or name == RESUME:
            raise InvalidOption(
                f"student {name!r}: a name is 1 to 64 of a-z A-Z 0-9 _ -, and not {RESUME!r}, as it names a folder of "
                f"the run. Choose another name."
            )

"""From the heads of a run's students to runs of one output each: which store a head learns from, and who learns it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from softlab.errors import InvalidOption
from softlab.labels.losses import LossOnValues
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.heads.options import HeadOptions
from softlab.student.heads.stores import check_all_taught, choose_store, output_of
from softlab.student.heads.targets import choose_target
from softlab.student.options import DistilOptions, LearnOptions, Student, TrainOptions
from softlab.student.temperatures import settle_temperatures
from softlab.student.values_outputs import settle_values_outputs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeadPlan:
    """One head of a run: what it would be as a run of its own, of students with this output alone."""

    name: str
    store: Store
    """Its soft labels are those of the head, where the head learns classes."""

    source: Source
    """Of the run, with all of its hard targets."""

    target: str | None
    """The source's hard targets of this head; None for none."""

    students: Mapping[str, Student]
    """Those that learn it, each with the options that it has for this head."""

    values_output: str | None
    """The stored output of values that it learns; None for classes."""

    @property
    def learnt(self) -> list[LearnOptions]:
        """By all of its students."""
        return [student.learn for student in self.students.values() if student.learn is not None]


def plan_heads(
    students: Mapping[str, Student], options: TrainOptions, source: Source, stores: Sequence[Store]
) -> dict[str, HeadPlan]:
    """By name the heads that all students of a run have; none where they have none.

    Raises InvalidOption for students of one run with other heads, for an option that heads don't have, and for a head
    that isn't in the stores, or of which isn't clear which one is meant; StoreMismatch for what a head can't learn.
    """
    own = {name: (student.learn or options.learn).head for name, student in students.items()}
    if not any(own.values()):
        return {}
    _check_effects(options, stores)
    _check_same_heads(own)
    _check_no_attack(students, options)
    for name, given in own.items():
        if not any(each.weight for each in given.values()):
            raise InvalidOption(f"student {name}: the weight of each of its heads is 0. Raise one, or leave it out.")
    heads = next(iter(own.values()))
    plans = {name: _plan(name, students, options, source, stores) for name in heads}
    check_all_taught(stores, {name: plan.store for name, plan in plans.items()})
    return plans


def _plan(
    head: str, students: Mapping[str, Student], options: TrainOptions, source: Source, stores: Sequence[Store]
) -> HeadPlan:
    learning = {
        name: replace(student, learn=_as_only_output(student.learn or options.learn, head))
        for name, student in students.items()
        if (student.learn or options.learn).head[head].weight > 0
    }
    if not learning:
        raise InvalidOption(
            f"head {head}: its weight is 0 for all students, so that none learns it. Leave the head out, or raise its "
            f"`weight`."
        )
    first = next(iter(learning))
    given = (students[first].learn or options.learn).head[head]
    learn = learning[first].learn
    assert learn is not None, "each has its own"
    gives_values = isinstance(learn.loss, LossOnValues)
    store = choose_store(head, given, stores, gives_values=gives_values)
    if gives_values:
        learning = {name: _with_output(student, output_of(head, given, store)) for name, student in learning.items()}
    try:
        learning, values_output = settle_values_outputs(learning, options.learn, [store])
    except InvalidOption as error:
        raise InvalidOption(f"head {head}: {error}") from error
    _, learning = settle_temperatures(options, learning, [store])
    return HeadPlan(
        name=head,
        store=store,
        source=source,
        target=choose_target(head, given, source),
        students=learning,
        values_output=values_output,
    )


def _as_only_output(learn: LearnOptions, head: str) -> LearnOptions:
    """What a student would learn that had this output alone."""
    given, teachers = learn.head[head], learn.teachers
    loss = learn.loss if given.loss is None else given.loss
    alpha = 1.0 if given.alpha is None and isinstance(loss, LossOnValues) else given.alpha
    if alpha is not None:
        teachers = replace(teachers, alpha=alpha, alpha_end=None)
    return replace(learn, teachers=teachers, loss=loss, head={}, feature={}, prune=None)


def _with_output(student: Student, output: str) -> Student:
    assert student.learn is not None, "each has its own"
    changed: Any = {"output": output}
    loss = student.learn.loss
    return replace(
        student,
        learn=replace(student.learn, loss=replace(loss, **changed) if isinstance(loss, LossOnValues) else loss),
    )


def _check_effects(options: TrainOptions, stores: Sequence[Store]) -> None:
    """Raises InvalidOption for options that heads don't have."""
    if not stores:
        raise InvalidOption("head: there is no store to learn from. Give `store`, or leave the heads out.")
    for name in ("new_classes", "keep"):
        default = next(each.default for each in fields(DistilOptions) if each.name == name)
        if getattr(options.distil, name) != default:
            raise InvalidOption(
                f"distil.{name}: students with several heads have no one output that it could be about. Leave it out."
            )
    given = options.learn.teachers
    if given.weight:
        raise InvalidOption(
            "teachers.weight: each head learns from one store. Leave it out; how much a head counts is its `weight`."
        )


def _check_no_attack(students: Mapping[str, Student], options: TrainOptions) -> None:
    """Raises InvalidOption for a student that is to withstand attacks, which raise the loss of one output."""
    for name, student in students.items():
        if (student.learn or options.learn).robust is not None:
            raise InvalidOption(
                f"student {name}: [robust] is for students with one output, and this one has several heads. Leave one "
                f"of them out."
            )


def _check_same_heads(heads: Mapping[str, Mapping[str, HeadOptions]]) -> None:
    """Raises InvalidOption for students that can't share batches and metrics."""

    def seen(options: Mapping[str, HeadOptions]) -> dict[str, tuple[str | None, str | None, str | None]]:
        return {name: (each.output, each.store, each.target) for name, each in options.items()}

    first, *others = heads
    for other in others:
        if seen(heads[first]) != seen(heads[other]):
            raise InvalidOption(
                f"students {first} and {other}: their heads are {_in_words(heads[first])} and "
                f"{_in_words(heads[other])}, but all students of a run have the same ones, with the same output, store "
                f"and target. Say `weight = 0` of one that a student doesn't learn, or train them in two runs."
            )


def _in_words(heads: Mapping[str, HeadOptions]) -> str:
    return ", ".join(heads) or "none"

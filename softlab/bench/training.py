"""What a training step costs on stored labels, against the same step on plain hard labels."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from softlab.bench.student_steps import LabelKind, Steps, StudentSteps
from softlab.bench.timing import ROUNDS, OnTurn, rates
from softlab.loading.decoded import DECODED_BYTES, Decoded
from softlab.modalities.modality import InputOptions, default_input, settle_input
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.options import TrainOptions

TURN_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRate:
    """How fast one student trains on one kind of labels."""

    student: str
    labels: LabelKind
    features: dict[str, str]
    """Stored features that are learnt too, each with the student's layer that learns it."""

    batch_size: int
    samples_per_second: float
    """Median over rounds."""

    relative: float
    """`samples_per_second` divided by that of plain hard labels."""


def measure_training(
    students: Mapping[str, nn.Module],
    source: Source,
    store: Store,
    options: TrainOptions | None = None,
    *,
    input: InputOptions | None = None,
    rounds: int = ROUNDS,
    turn_s: float = TURN_S,
    on_turn: OnTurn | None = None,
) -> list[StepRate]:
    """The step rates of each student on hard labels, on the store's labels, and on these together with features.

    The ways of a student take turns. All see the same batches of decoded samples in memory. If the options name no
    feature, the store's first one is learnt, if the student has a layer that it can be compared with. The modules are
    not changed. Raises StoreMismatch, InvalidOption and ModelError as `train_students`.
    """
    options, decoded = options or TrainOptions(), Decoded(DECODED_BYTES)
    input = settle_input(input or default_input(), source)
    found: list[StepRate] = []
    for name, module in students.items():
        steps = StudentSteps(name, module, source, store, options, input=input, decoded=decoded, turn_s=turn_s)
        found += _measure(name, steps, rounds=rounds, on_turn=on_turn)
    return found


def _measure(student: str, steps: StudentSteps, *, rounds: int, on_turn: OnTurn | None) -> list[StepRate]:
    ways: dict[LabelKind, Steps] = {"hard": steps.hard(), "stored": steps.stored()}
    with_features, layers = steps.stored_and_features() or (None, {})
    if with_features is not None:
        ways["stored and features"] = with_features
    found = rates(
        {str(labels): way for labels, way in ways.items()},
        rounds=rounds,
        on_turn=None if on_turn is None else lambda way, done, total: on_turn(f"{student}: {way}", done, total),
    )
    return [
        StepRate(
            student=student,
            labels=labels,
            features=layers if labels == "stored and features" else {},
            batch_size=steps.batch_size,
            samples_per_second=found[labels],
            relative=found[labels] / found["hard"],
        )
        for labels in ways
    ]

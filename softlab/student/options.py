"""How students are trained, by owner: what a whole run shares, and what is each student's own."""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from softlab.errors import InvalidOption, check_option
from softlab.evaluation.best import AUTO, check_best_by
from softlab.labels.ensembles import CombineBy, WeighBy
from softlab.labels.keep_rule import read_rule
from softlab.labels.losses import KlLoss, StudentLoss
from softlab.loading.options import CheckOptions
from softlab.loading.order import Shuffle, ViewOrder
from softlab.modalities.modality import InputOptions
from softlab.models.device import DeviceOptions
from softlab.student.feature_losses import FeatureLoss
from softlab.student.heads.options import HeadOptions
from softlab.student.optimizer import OptimizerOptions
from softlab.student.pruning import PruneOptions
from softlab.student.robust_options import RobustOptions
from softlab.student.trackers import TrackerName

BALANCED = "balanced"

HEAD_NAME = re.compile("[A-Za-z0-9_-]{1,64}")
"""Also part of the names of metrics and curves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What all students of a run share, because they share its batches."""

    epochs: int = 30
    """Passes over the training samples."""

    batch_size: int = 128
    """Samples of one step.

    What doesn't fill a batch at the end of an epoch waits for another epoch's order."""

    accumulate: int = 1
    """Parts that each batch is split into, one forward pass each: the step is that of the whole batch, the memory that
    of a part."""

    batch_by_length: bool = False
    """Batches of texts of similar length, so that less of them is padding.

    Within windows of 64 batches of the shuffled order (of a quarter of an epoch, where that is less); the batches are
    shuffled again. An epoch has the same samples as without."""

    views_per_image: int = 1
    """Views of each sample in a batch, which is read and decoded once for all of them.

    With m views, m epochs together have the rows that they have without, put together by sample: each sample comes
    once, in the m views that these epochs show of it. Epochs keep their number of steps."""

    max_samples: int | None = None
    """Train on the first samples of the source only.

    This many (of a folder: its first classes); the source must still match the store."""

    seed: int = 0
    """Of sample order, weights and dropout.

    Initial weights and dropout are those of students that have no seed of their own."""

    best_by: str = AUTO
    """The metric on the validation source that makes an epoch, or a trial of a search, the best, e.g.
    teacher_bucket_kl; auto: of language models perplexity; accuracy where targets are known, else KL to the teacher
    (teacher_kl, or teacher_bucket_kl of a store that keeps some classes), else teacher_agreement. Of students with
    several heads HEAD/METRIC, e.g. species/accuracy; auto: of the first head that all of them learn."""

    patience: int | None = None
    """A student stops after so many epochs in a row that were not its best; default: none stops early."""

    def __post_init__(self) -> None:
        check_option(self.epochs >= 1, "run.epochs", self.epochs, "1 or more")
        check_option(self.batch_size >= 1, "run.batch_size", self.batch_size, "1 or more")
        divides = self.accumulate >= 1 and self.batch_size % self.accumulate == 0
        check_option(divides, "run.accumulate", self.accumulate, f"a divisor of `run.batch_size`, {self.batch_size}")
        self._check_views_per_image()
        check_option(
            self.max_samples is None or self.max_samples >= 1, "run.max_samples", self.max_samples, "1 or more"
        )
        check_option(0 <= self.seed < 2**64, "run.seed", self.seed, "0 to 2^64 - 1")
        check_option(self.patience is None or self.patience >= 1, "run.patience", self.patience, "1 or more")
        check_best_by(self.best_by)

    def _check_views_per_image(self) -> None:
        views, rows = self.views_per_image, self.batch_size // self.accumulate
        part = "`run.batch_size`" if self.accumulate == 1 else "`run.batch_size` / `run.accumulate`"
        divides = views >= 1 and rows % views == 0
        check_option(divides, "run.views_per_image", views, f"a divisor of {part}, {rows}")
        check_option(views <= self.epochs, "run.views_per_image", views, f"1 to {self.epochs}, the epochs of the run")


@dataclass(frozen=True, kw_only=True, slots=True)
class DistilOptions:
    """How stores are gone through, and what is trained beside the students; shared by a run too."""

    baseline: bool = False
    """Each student on hard targets alone too.

    From the same initial weights, as NAME-hard."""

    new_classes: bool = False
    """The student has more classes than the teacher, the teacher's first: it keeps these from the store, and learns the
    others from hard targets (learning without forgetting)."""

    keep: str | None = None
    """Train on those samples alone that the stored labels say this of, such as "max_prob >= 0.9"; default: all.

    Figures at temperature 1: max_prob (the largest probability), margin (from it to the second) and entropy (in nats),
    or their quantile(..) among the samples of the same class. Facts: agree (all teachers have the same largest class),
    correct (it is the hard target), labelled (there is one). Joined by and, or, not and brackets."""

    view_order: ViewOrder = "cycle"
    """Which stored view an epoch shows: cycle, view e mod V in epoch e; random, each sample's V views in an order of
    its own, none twice in V epochs."""

    shuffle: Shuffle = "full"
    """Order of an epoch: full, all samples shuffled; blocks, those of 8 shards at a time, for stores that are larger
    than the row cache."""

    def __post_init__(self) -> None:
        if self.keep is not None:
            read_rule(self.keep)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogOptions:
    """What a run writes while it goes on, and how it begins; no student depends on it."""

    track: tuple[TrackerName, ...] = ("tensorboard",)
    """Where curves can be watched while a run with a folder goes on; [] for nowhere."""

    log_steps: int | None = None
    """Write the training loss every so many steps too, to the curves and to metrics.jsonl; default: once an epoch."""

    checkpoint_steps: int | None = None
    """Steps between checkpoints that a killed run goes on from; default: one epoch."""

    resume: Literal["auto", "no"] = "auto"
    """Go on with the folder's run, or begin anew.

    auto: go on with the run that the folder holds, or return its results; no: remove that run and begin anew."""

    def __post_init__(self) -> None:
        for name in ("log_steps", "checkpoint_steps"):
            steps = getattr(self, name)
            check_option(steps is None or steps >= 1, f"log.{name}", steps, "1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachersOptions:
    """How much a student learns from its teachers, and how several are made one."""

    alpha: float = 0.9
    """Weight of the distillation loss.

    1 - alpha is that of cross-entropy on hard targets. Beside a loss on values there are none: then it is 1."""

    alpha_end: float | None = None
    """Where alpha moves to, in equal steps over the run; default: it stays."""

    weight: tuple[float, ...] = ()
    """With several stores: the weight of each teacher, in their order, summing to 1; default: equal."""

    combine: CombineBy = "probabilities"
    """With several stores: the mean of the teachers' probabilities, or of their logits, at the temperature of the loss;
    for a loss without one, at the lowest that all stores hold."""

    weigh: WeighBy = "given"
    """With several stores: the given weights, or in each row by confidence (largest probability) or correctness."""

    def __post_init__(self) -> None:
        check_option(0 <= self.alpha <= 1, "teachers.alpha", self.alpha, "0 to 1")
        end = self.alpha_end
        check_option(end is None or 0 <= end <= 1, "teachers.alpha_end", end, "0 to 1")
        check_option(
            all(0 <= each < math.inf for each in self.weight), "teachers.weight", self.weight, "numbers of 0 or more"
        )
        total = sum(self.weight)
        right_sum = not self.weight or abs(total - 1) < 1e-3
        check_option(right_sum, "teachers.weight", self.weight, f"a sum of 1, not {total:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetOptions:
    """How hard targets are learnt."""

    label_smoothing: float = 0.0
    """The share of the target distribution that all classes have equally."""

    class_weights: tuple[float, ...] | str = ()
    """The weight of each class in cross-entropy, in their order; "balanced": as many times more as a class is rarer
    than the mean among the training samples. Default: equal."""

    def __post_init__(self) -> None:
        check_option(0 <= self.label_smoothing < 1, "targets.label_smoothing", self.label_smoothing, "0 to below 1")
        weights = self.class_weights
        if isinstance(weights, str):
            check_option(weights == BALANCED, "targets.class_weights", repr(weights), f"numbers, or {BALANCED!r}")
        else:
            are_weights = all(0 <= each < math.inf for each in weights) and (not weights or sum(weights) > 0)
            check_option(are_weights, "targets.class_weights", weights, "numbers of 0 or more, not all 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnOptions:
    """What one student learns, and how."""

    teachers: TeachersOptions = field(default_factory=TeachersOptions)
    loss: StudentLoss = field(default_factory=KlLoss)
    targets: TargetOptions = field(default_factory=TargetOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)

    feature: dict[str, FeatureLoss] = field(default_factory=dict)
    """Stored features to learn beside the labels, by their names."""

    head: dict[str, HeadOptions] = field(default_factory=dict)
    """Of a model with several outputs, what each learns, by its name."""

    prune: PruneOptions | None = None
    """Smallest weights set to zero on the way."""

    robust: RobustOptions | None = None
    """Learn to withstand attacks, on adversarial samples that the student itself is asked for."""

    seed: int | None = None
    """Of its dropout, and from a recipe of its initial weights; default: the run's."""

    def __post_init__(self) -> None:
        check_option(self.seed is None or 0 <= self.seed < 2**64, "seed", self.seed, "0 to 2^64 - 1")
        for name in self.head:
            check_option(
                HEAD_NAME.fullmatch(name) is not None, "head", repr(name), "names of 1 to 64 of a-z A-Z 0-9 _ -"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """Everything about a training run but the models, the data and the place."""

    run: RunOptions = field(default_factory=RunOptions)
    distil: DistilOptions = field(default_factory=DistilOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    check: CheckOptions = field(default_factory=CheckOptions)
    log: LogOptions = field(default_factory=LogOptions)

    learn: LearnOptions = field(default_factory=LearnOptions)
    """Of students that bring none of their own."""

    def __post_init__(self) -> None:
        if self.device.autocast == "float16":
            raise InvalidOption(
                "device.autocast = float16: gradients would vanish in it. Train in bfloat16, with `device.autocast = "
                "bfloat16`, or in full precision."
            )
        check_warmup(self.learn.optimizer, self.run)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Student:
    """A module to train, with options of its own."""

    module: nn.Module
    learn: LearnOptions | None = None
    """Default: those of the run."""

    input: InputOptions | None = None
    """How it wants its samples; default: as the run says."""


def check_warmup(optimizer: OptimizerOptions, run: RunOptions, *, student: str | None = None) -> None:
    """Raises InvalidOption for a warm-up that is longer than the run; `student` is the one whose own it is."""
    warmup, most = optimizer.warmup_epochs, run.epochs
    key = "optimizer.warmup_epochs" if student is None else f"student.{student}.optimizer.warmup_epochs"
    check_option(warmup <= most, key, warmup, f"0 to {most}, the epochs of the run")


def check_warmup_steps(optimizer: OptimizerOptions, *, num_steps: int, student: str) -> None:
    """Raises InvalidOption for a warm-up in steps that is longer than the run."""
    steps = optimizer.warmup_steps
    expected = f"0 to {num_steps:,}, the steps of the run of student {student}"
    check_option(steps is None or steps <= num_steps, "optimizer.warmup_steps", steps, expected)

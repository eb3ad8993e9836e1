"""How students are trained."""

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from softlab.errors import InvalidOption
from softlab.evaluation.best import AUTO, check_best_by
from softlab.labels.ensembles import CombineBy, WeighBy
from softlab.labels.losses import DecisionLoss, LossName, Tail
from softlab.loading.order import Shuffle, ViewOrder
from softlab.loading.sample_check import VerifyInputs
from softlab.modalities.modality import InputOptions
from softlab.student.feature_losses import FeatureLoss
from softlab.student.pruning import PruneOptions
from softlab.student.trackers import TrackerName


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """Everything about a training run but the models, the data and the place."""

    epochs: int = 30
    """Passes over the training samples."""

    batch_size: int = 128
    """Samples in one step; what doesn't fill a batch at the end of an epoch waits for another epoch's order."""

    alpha: float = 0.9
    """Weight of the distillation loss; 1 - alpha is that of cross-entropy on hard targets."""

    alpha_end: float | None = None
    """Where alpha moves to, in equal steps over the run; default: it stays."""

    loss: LossName = "kl"
    """The distillation loss, from the teacher's decisions; bce is for sigmoid heads, mse for any."""

    temperature: float = 4.0
    """Of both softmaxes in the distillation loss; mse, hinge and argmax have none, but where there are several teachers
    these are combined at it."""

    temperature_end: float | None = None
    """Where the temperature moves to, in equal steps over the run; default: it stays."""

    tail: Tail = "uniform"
    """What the classes outside the stored ones are taken to be."""

    balance: float = 0.5
    """symmetric_kl: weight of KL(teacher || student); 1 - balance is that of KL(student || teacher)."""

    beta: float = 0.5
    """jensen_shannon: the teacher's share of the mixture."""

    margin: float = 1.0
    """hinge: by how much the teacher's class should lead, in logits."""

    dkd_alpha: float = 1.0
    """dkd: weight of the target class against all others."""

    dkd_beta: float = 8.0
    """dkd: weight of the other classes among themselves."""

    dist_inter: float = 1.0
    """dist: weight of the correlation over the classes of a row."""

    dist_intra: float = 1.0
    """dist: weight of the correlation over the rows of a batch."""

    new_classes: bool = False
    """The student has more classes than the teacher, the teacher's first: it keeps these from the store, and learns the
    others from hard targets (learning without forgetting)."""

    label_smoothing: float = 0.0
    """Of the hard targets: the share that all classes have equally."""

    feature: dict[str, FeatureLoss] = field(default_factory=dict)
    """Stored features to learn beside the labels: NAME=LAYER or NAME=LAYER:POOLING of the student."""

    prune: PruneOptions | None = None
    """Smallest weights set to zero on the way."""

    teacher_weight: tuple[float, ...] = ()
    """With several stores: the weight of each teacher, in their order, summing to 1; default: equal."""

    combine: CombineBy = "probabilities"
    """With several stores: the mean of the teachers' probabilities, or of their logits."""

    weigh: WeighBy = "given"
    """With several stores: the given weights, or in each row by confidence (largest probability) or correctness."""

    view_order: ViewOrder = "cycle"
    """Which stored view an epoch shows: cycle, view e mod V in epoch e; random, each sample's V views in an order of
    its own, none twice in V epochs."""

    shuffle: Shuffle = "full"
    """Order of an epoch: full, all samples shuffled; blocks, those of 8 shards at a time, for stores that are larger
    than the row cache."""

    best_by: str = AUTO
    """The metric on the validation source that makes an epoch, or a trial of a search, the best, e.g. teacher_kl; auto:
    accuracy where targets are known, else teacher_agreement."""

    views_mismatch: Literal["refuse", "allow"] = "refuse"
    """Whether inputs may be other views than those the teacher saw; allowed, that is written into the run's record."""

    baseline: bool = False
    """Train each student once more on hard targets alone, from the same initial weights, as NAME-hard."""

    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd has Nesterov momentum."""

    learning_rate: float = 1e-3
    """The peak, after the warm-up."""

    momentum: float = 0.9
    """sgd only."""

    weight_decay: float = 1e-2
    """Decoupled for adamw, L2 for sgd."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: cosine to zero at the last step, or no change."""

    warmup_epochs: float = 1.0
    """The learning rate rises linearly from zero over so many epochs."""

    clip_norm: float | None = None
    """Largest norm of the gradient; default: not clipped."""

    seed: int = 0
    """Of the order of samples, of dropout, and from the command line of initial weights."""

    max_samples: int | None = None
    """Train on the first samples of the source only, this many (of a folder: its first classes); the source must still
    match the store."""

    subset: bool = False
    """Accept a source that holds only some of the store's samples; they are found by key."""

    verify_inputs: VerifyInputs = "some"
    """Which samples must have the content hash that the store records: some at random, or all."""

    workers: int | None = None
    """Processes that decode samples; default: 0 beside a CPU model, else up to 8."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    autocast: Literal["none", "bfloat16"] = "none"
    """Shorter dtype of the forward pass; losses stay float32."""

    channels_last: bool = False
    """Run convolutions in channels-last memory order."""

    compile: bool = False
    """Compile the students with torch.compile first."""

    track: tuple[TrackerName, ...] = ("tensorboard",)
    """Where curves can be watched while a run with a folder goes on; [] for nowhere."""

    checkpoint_steps: int | None = None
    """Steps between checkpoints that a killed run goes on from; default: one epoch."""

    def __post_init__(self) -> None:
        _check(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        _check(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        _check(0 <= self.alpha <= 1, "alpha", self.alpha, "0 to 1")
        _check(0 < self.temperature < math.inf, "temperature", self.temperature, "a positive number")
        _check(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "a positive number")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "0 to below 1")
        _check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _check(0 <= self.warmup_epochs <= self.epochs, "warmup_epochs", self.warmup_epochs, f"0 to {self.epochs}")
        _check(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "a positive number")
        _check(self.max_samples is None or self.max_samples >= 1, "max_samples", self.max_samples, "1 or more")
        steps = self.checkpoint_steps
        _check(steps is None or steps >= 1, "checkpoint_steps", steps, "1 or more")
        _check(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 to below 1")
        _check(self.alpha_end is None or 0 <= self.alpha_end <= 1, "alpha_end", self.alpha_end, "0 to 1")
        end = self.temperature_end
        _check(end is None or 0 < end < math.inf, "temperature_end", end, "a positive number")
        weights = self.teacher_weight
        _check(all(0 <= each < math.inf for each in weights), "teacher_weight", weights, "numbers of 0 or more")
        total = sum(weights)
        _check(not weights or abs(total - 1) < 1e-3, "teacher_weight", weights, f"a sum of 1, not {total:g}")
        check_best_by(self.best_by)
        _ = self.decision  # checks the loss's own options, which an assert would not under python -O
        _check(0 <= self.seed < 2**64, "seed", self.seed, "0 to 2^64 - 1")

    @property
    def decision(self) -> DecisionLoss:
        """The distillation loss, at the temperature of the first step."""
        return DecisionLoss(
            name=self.loss,
            temperature=self.temperature,
            tail=self.tail,
            balance=self.balance,
            beta=self.beta,
            margin=self.margin,
            dkd_alpha=self.dkd_alpha,
            dkd_beta=self.dkd_beta,
            dist_inter=self.dist_inter,
            dist_intra=self.dist_intra,
        )


OF_THE_RUN = (
    "epochs",
    "batch_size",
    "view_order",
    "shuffle",
    "new_classes",
    "best_by",
    "views_mismatch",
    "baseline",
    "max_samples",
    "subset",
    "verify_inputs",
    "workers",
    "device",
    "track",
    "checkpoint_steps",
)
"""Options that all students of a run share, because they share its batches."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Student:
    """A module to train, with options of its own."""

    module: nn.Module
    options: TrainOptions
    """Those in `OF_THE_RUN` must be the run's."""

    input: InputOptions | None = None
    """How it wants its samples; default: as the run says."""


def _check(is_right: bool, name: str, found: object, expected: str) -> None:
    if not is_right:
        raise InvalidOption(f"{name} = {found}: expected {expected}. Change --{name.replace('_', '-')}.")

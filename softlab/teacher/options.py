"""What to keep of a teacher's output, and how to run it."""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from softlab.errors import InvalidOption
from softlab.labels.chance import LabelClasses
from softlab.labels.coding import Coding
from softlab.labels.sampling import check_resolution
from softlab.labels.selection import sorted_temperatures
from softlab.labels.soft_labels import Head
from softlab.labels.values_coding import ValuesCoding
from softlab.models.device import DeviceOptions
from softlab.models.outputs import WantedOutput, parse_output
from softlab.store.format import FormatName

DEFAULT_K = 16

FEW_CLASSES = 64
"""All of so many are kept by default: without a tail, KL to the teacher is that over all classes. It costs up to three
times the bytes of 16: of 64 random logits 134 a row in float16, and not 44."""

ANSWER_K = 20
"""Logits kept of the beginnings and of the ends of answers, of some hundred words."""

DIGEST_EVERY = 64
"""A digest of 8 bytes for one view in so many weighs an eighth of a byte a row."""


MAX_VIEWS = 100_000
"""Given at once: more are a slip, and the list of their shards alone would fill the memory."""


MAX_GAP_STEP = 64
"""Nats; what a manifest may say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpOptions:
    """Everything about a dump but the teacher, the source and the place."""

    selection: Literal["auto", "topk", "sampled"] = "auto"
    """What is kept of a row: its largest logits and the exact tail, or an unbiased sample of its distribution.

    auto: a sample of rows over a vocabulary of tokens, unless `k` is given, and the largest logits of others."""

    resolution: int = 16
    """Of sampled rows: each class of probability 1 / resolution or more is kept, and so many draws stand for all
    others at most. 16 costs about 16 bytes a token of English, 32 about 24, 48 about 32."""

    k: int | None = None
    """Logits kept of each row, the largest ones; default: all of up to 64 classes, else 16. Of more than 100 classes
    16, 32, 64 or 128: the fewest by which a gradient at the lowest temperature turns by at most 5 degrees."""

    temperature: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Temperatures at which the exact tail mass is stored."""

    head: Head = "softmax"
    """How logits become probabilities: softmax, of one class among all; sigmoid, for multi-label teachers, each class a
    choice of its own."""

    views: int | str | None = None
    """Views of each sample, which a finished store with fewer is grown to; "+2" adds two to those it has. Default: 1,
    or those of the store that --like names."""

    pixel_digests: Literal["some", "all", "none"] = "some"
    """Of which views a digest of the pixels is kept, for students to compare theirs with: one in 64, all, or none."""

    output: tuple[str, ...] = ("logits",)
    """Outputs to store: NAME, NAME=FIELD of what the model returns, or NAME=layer:LAYER; soft labels over classes, or
    with NAME:values as they are (embeddings, maps, one score a sample). An output with a row for each position has
    units."""

    valid: bool = False
    """Rows may have fewer classes than others: the last ones are then -inf, as of a text with fewer positions."""

    masked: bool = False
    """Any classes of a row may be -inf: the row doesn't have them, and no loss counts them. Costs a bit for each class
    and row, before they are compressed."""

    feature: dict[str, str] = field(default_factory=dict)
    """Features to store: NAME=LAYER or NAME=LAYER:POOLING, pooling one of none, mean, cls, flatten;
    with :channels_last behind it where the layer gives [B, H, W, C]."""

    inputs: Literal["tokens", "none"] = "tokens"
    """What is stored of what the teacher has read: the tokens of language models, at a byte or two each, so that
    students need neither texts nor tokenizer; or nothing."""

    coding: Coding = "float16"
    """How logits are stored; uint8 holds the gaps between successive ones at about half the size of float16."""

    values_coding: ValuesCoding = "float16"
    """How features and other outputs of values are stored; int8 holds steps of a scale that each row has of its own, at
    about half the size of float16. int8_rotated is for hidden states, of which a few numbers are far larger than the
    others: vectors are rotated first, err 8 times less, and take a tenth more memory."""

    gap_step: float | None = None
    """Nats of one step of the uint8 coding; default: the largest of 1/4, 1/8, .. 1/64 that costs some samples at most
    8e-5 nats of KL. The value of a loss then moves by 2e-3 to 9e-3."""

    format: FormatName = "zarr"
    """zarr, or parquet for SQL and data-frame tools."""

    shard_rows: int | None = None
    """Rows of one shard, which is what a crash may cost; default: about 16 MiB, or fewer of a slow teacher."""

    shard_minutes: float = 5.0
    """Minutes of work that a shard may take, unless its rows are given: of a slow teacher a shard has fewer rows than
    its size would allow. That is measured when a dump is begun, and settled then."""

    batch_size: int = 256
    """Samples in one forward pass."""

    devices: int | str = 1
    """GPUs of this machine that share the work, each in a process of its own; "all" that there are. Under torchrun,
    which says how many, it counts for nothing. With the engine ray: workers."""

    tensor_parallel: int = 1
    """The teacher is larger than one GPU: so many processes of torchrun, or of `devices`, share each of its layers and
    are one teacher. For models of `hf:` that transformers has a plan for."""

    split: bool = False
    """The teacher is larger than one GPU: spread its layers over all GPUs of a process. For models of `hf:`."""

    engine: Literal["here", "ray"] = "here"
    """What computes shards: this machine, or the processes of torchrun; or workers on a Ray cluster, which may come and
    go.

    ray: `devices` says how many workers at most."""

    gpus_per_worker: float | None = None
    """Of the engine ray: GPUs that a worker takes, as 0.5 for two workers a GPU; default: 1 where the cluster has some,
    else 0."""

    cpus_per_worker: float | None = None
    """Of the engine ray: cores that a worker takes, as its processes that decode samples; default: 1, and 1 for each of
    `device.workers`."""

    ray_address: str | None = None
    """Of the engine ray: a cluster that is running, as auto on one of its machines, or ray://HOST:10001 from elsewhere;
    default: that of RAY_ADDRESS, or one on this machine alone that ends with the dump."""

    labels: LabelClasses = "auto"
    """Of which classes hard targets are: the same as the teacher's, or other ones, on which its accuracy isn't
    measured.

    auto: by their names; numbers without names, far fewer than the teacher's classes, are of other ones where it is
    right about them by chance at most."""

    teacher_version: str | None = None
    """Which version of the teacher it is, where its weights don't tell, as of a service or a model that runs outside
    of torch. By default such a teacher is known by what it gives for two samples."""

    device: DeviceOptions = field(default_factory=DeviceOptions, metadata={"elsewhere": True})
    """Where the teacher runs, and how."""

    def __post_init__(self) -> None:
        if self.views_given < 1:
            raise InvalidOption(f"dump.views = {self.views}: expected 1 or more. Change `dump.views`.")
        if self.views_given > MAX_VIEWS:
            raise InvalidOption(f"views = {self.views}: expected {MAX_VIEWS:,} or fewer. Change `dump.views`.")
        sorted_temperatures(self.temperature)
        self._check_selection()
        if self.k is not None and self.k < 1:
            raise InvalidOption(
                f"dump.k = {self.k}: expected 1 or more. Choose `dump.k` from 1 to the number of classes."
            )
        if self.num_devices is not None and self.num_devices < 1:
            raise InvalidOption(f"dump.devices = {self.devices}: expected 1 or more, or all. Change `dump.devices`.")
        if self.num_devices != 1 and ":" in self.device.name:
            raise InvalidOption(
                f"dump.devices = {self.devices} with device.name = {self.device.name}: each process takes a GPU of its "
                f"own. Leave `device.name` out, or `dump.devices`."
            )
        self._check_parts()
        self._check_workers()
        if self.gap_step is not None and self.coding != "uint8":
            raise InvalidOption(
                f"gap_step = {self.gap_step}: only the uint8 coding has one. Say `dump.coding = uint8` too."
            )
        if self.gap_step is not None and not 0 < self.gap_step <= MAX_GAP_STEP:
            raise InvalidOption(
                f"gap_step = {self.gap_step}: expected more than 0 and at most {MAX_GAP_STEP} nats. Leave "
                f"`dump.gap_step` out, and it is chosen from what the teacher says."
            )
        if not self.shard_minutes > 0:
            raise InvalidOption(
                f"dump.shard_minutes = {self.shard_minutes:g}: expected more than 0. Change `dump.shard_minutes`."
            )
        if self.batch_size < 1:
            raise InvalidOption(f"dump.batch_size = {self.batch_size}: expected 1 or more. Change `dump.batch_size`.")
        names = [each.name for each in self.wanted_outputs]
        for name in names:
            if names.count(name) > 1:
                raise InvalidOption(f"output {name}: two outputs have this name. Give each a name of its own.")
        if not names:
            raise InvalidOption("output: nothing is to be stored. Name one, as in `dump.output = logits`.")
        for name in self.feature:
            if not re.fullmatch("[A-Za-z0-9_-]{1,64}", name):
                raise InvalidOption(f"feature {name!r}: a name is 1 to 64 of a-z A-Z 0-9 _ -. Choose another name.")

    def _check_parts(self) -> None:
        if self.split and self.device.name not in ("auto", "cuda"):
            raise InvalidOption(
                f"dump.split with device.name = {self.device.name}: layers are spread over all GPUs. Leave "
                f"`device.name` out, or `dump.split`."
            )
        if self.tensor_parallel < 1:
            raise InvalidOption(
                f"dump.tensor_parallel = {self.tensor_parallel}: expected 1 or more. Change `dump.tensor_parallel`."
            )
        others = {"dump.split": self.split, "device.compile": self.device.compile, "dump.engine": self.engine == "ray"}
        for name in (name for name, is_given in others.items() if is_given and self.tensor_parallel > 1):
            raise InvalidOption(
                f"dump.tensor_parallel with {name}: they don't go together. Leave one of `dump.tensor_parallel` and "
                f"`{name}` out."
            )

    def _check_workers(self) -> None:
        for name in ("gpus_per_worker", "cpus_per_worker"):
            amount = getattr(self, name)
            if amount is not None and not (0 <= amount < math.inf and (amount <= 1 or amount.is_integer())):
                raise InvalidOption(
                    f"dump.{name} = {amount:g}: expected a part of one, as 0.5, or a whole number. Change "
                    f"`dump.{name}`."
                )
        if self.engine == "here":
            for name in ("gpus_per_worker", "cpus_per_worker", "ray_address"):
                if getattr(self, name) is not None:
                    raise InvalidOption(
                        f"dump.{name}: is of the engine ray. Say `dump.engine = ray` too, or leave `dump.{name}` out."
                    )

    def _check_selection(self) -> None:
        if self.selection not in ("auto", "topk", "sampled"):
            raise InvalidOption(
                f"dump.selection = {self.selection}: is none. Choose as `dump.selection` auto, topk or sampled."
            )
        if self.inputs not in ("tokens", "none"):
            raise InvalidOption(f"dump.inputs = {self.inputs}: is unknown. Say tokens or none.")
        check_resolution(self.resolution)
        if self.selection != "sampled":
            return
        default = DumpOptions()
        for name in ("k", "temperature", "head", "valid", "masked", "coding", "gap_step"):
            if getattr(self, name) != getattr(default, name):
                raise InvalidOption(
                    f"dump.{name} with dump.selection = sampled: a sample is of probabilities at temperature 1, and "
                    f"has a coding of its own. Leave `dump.{name}` out, or say `dump.selection = topk`."
                )

    @property
    def has_valid(self) -> bool:
        """Whether rows may have fewer classes than others."""
        return self.valid or self.masked

    @property
    def adds_views(self) -> bool:
        return str(self.views).startswith("+")

    @property
    def views_given(self) -> int:
        """In all, or to be added."""
        try:
            return 1 if self.views is None else int(self.views)
        except ValueError as error:
            raise InvalidOption(
                f"views = {self.views!r}: expected a number, as in `dump.views = 4`, or +N to add views, as in "
                f"`dump.views = +2`."
            ) from error

    @property
    def num_devices(self) -> int | None:
        """None for all that there are."""
        try:
            return None if self.devices == "all" else int(self.devices)
        except ValueError as error:
            raise InvalidOption(
                f"devices = {self.devices!r}: expected a number, or all. Change `dump.devices`."
            ) from error

    @property
    def digest_every(self) -> int:
        return {"some": DIGEST_EVERY, "all": 1, "none": 0}[self.pixel_digests]

    @property
    def wanted_outputs(self) -> tuple[WantedOutput, ...]:
        """What is stored, features last: they are outputs of kind `values`."""
        features = [
            WantedOutput(name=name, kind="values", place=f"layer:{layer}", is_sure=True)
            for name, layer in self.feature.items()
        ]
        return (*map(parse_output, self.output), *features)


def default_k(num_classes: int) -> int:
    """Of up to 100 classes; see `DumpOptions.k`."""
    return num_classes if num_classes <= FEW_CLASSES else DEFAULT_K

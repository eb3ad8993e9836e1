"""A complete dump of a teacher, or a plan of one."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from softlab.errors import InvalidOption, RandomWeights, first_few
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.modality import InputOptions, fitted_input, model_arguments, tells_models
from softlab.models.about import AboutWeights
from softlab.models.build import ModelOptions, build_model
from softlab.models.class_names import published_class_names, read_class_names
from softlab.models.device import DeviceOptions, choose_device
from softlab.models.tensor_parallel import join_group
from softlab.ranks import is_first_rank, srun_task
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan, open_samples
from softlab.recipes.published_input import input_of
from softlab.recipes.students import TeacherModel
from softlab.recipes.weights_input import about_weights, input_of_weights, seen_in_training
from softlab.sources.known_classes import class_relation
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.dump_state import DumpState, dump_state
from softlab.store.reader import open_store
from softlab.teacher.dump import DumpSummary, dump_teacher
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.dump_share import dump_share, finish_if_complete
from softlab.teacher.dumped_views import Settled, read_settled
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import how_seen, settle_teachers_input
from softlab.teacher.shares import Share
from softlab.teacher.survey import Survey, survey_teacher
from softlab.teacher.survey_run import SURVEYED_SECONDS, SurveyProgress

OnRecipe = Callable[[DumpProgress | SurveyProgress], None]


@dataclass(frozen=True, kw_only=True)
class DumpRecipe:
    """A complete dump."""

    flags: ClassVar[dict[str, str]] = {
        "out": "--out",
        "teacher.model": "--teacher",
        "teacher.weights": "--weights",
        "source.path": "--source",
        "source.limit": "--limit",
        "source.skip_unreadable": "--skip-unreadable",
        "input.size": "--size",
        "input.channels": "--channels",
        "input.mean": "--mean",
        "input.std": "--std",
        "augment.transforms": "--augment",
        "plan": "--plan",
        "shards": "--shards",
        "dump.k": "--k",
        "dump.temperature": "--temperature",
        "dump.head": "--head",
        "dump.output": "--output",
        "dump.feature": "--feature",
        "dump.views": "--views",
        "dump.coding": "--coding",
        "dump.format": "--format",
        "dump.shard_rows": "--shard-rows",
        "dump.batch_size": "--batch-size",
        "dump.devices": "--devices",
        "dump.engine": "--engine",
        "device.name": "--device",
        "device.autocast": "--autocast",
        "device.workers": "--workers",
    }
    """Of the command line, by key; all else is set in a recipe or with `--set`."""

    out: Path | None = None
    """Folder of the store to write, or its s3://, gs:// or az:// address; needed unless this is only a plan."""

    like: str | None = None
    """A store of another teacher, as a path, a URL or NAME@VERSION: run this one over the same samples and views, so
    that both teach together."""

    plan: bool = False
    """Run the teacher on up to 2,048 samples for half a minute, print what several K would keep, weigh and take, and
    write nothing."""

    plan_seconds: float = SURVEYED_SECONDS
    """How long a plan may run the teacher; what was computed by then counts."""

    shards: str | None = None
    """Do these shards and no others, then end: I/N, one of N shares with I counted from 0, or numbers such as 0,4,8-11.

    `softlab finalize` finishes the store once all are there."""

    class_names: Path | None = None
    """A text file with the names of the teacher's classes, one a line in its order, where they aren't those of the
    source; weights that torchvision publishes bring theirs."""

    teacher: TeacherModel
    source: SourceOptions
    input: ImageInput = field(default_factory=ImageInput)
    augment: ViewRecipe | None = None
    dump: DumpOptions = field(default_factory=DumpOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)

    def __post_init__(self) -> None:
        if self.out is None and not self.plan:
            raise InvalidOption("`out` is missing. Give it as a flag, with --set, or in a recipe.")
        if self.shards is not None and self.plan:
            raise InvalidOption("`shards` and `plan` contradict each other. Give one of them.")
        if self.shards is not None and self.dump.engine != "here":
            raise InvalidOption(
                f"`shards` with `dump.engine = {self.dump.engine}`: the engine shares the work out by itself. Leave "
                f"one of them out."
            )
        if self.shards is not None:
            Share.parse(self.shards)
        self._check_can_be_shared()

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `dump.k=8`. Raises InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set)

    def run(
        self, *, on_scan: OnScan | None = None, on_progress: OnRecipe | None = None
    ) -> DumpSummary | DumpState | Survey:
        """The finished store's summary; with `shards`, and in a task of srun that isn't the last, how far the dump is
        when its own are there; with `plan` what
        several K would keep, weigh and take, and nothing is written.

        An interrupted dump goes on when this is called again. Raises as `dump_teacher`. Warns with RandomWeights about
        a teacher that was given no weights, and with PublishedInput about the input of a known model.
        """
        about = about_weights(self.teacher)
        input: InputOptions = self._input(about)
        seen = () if about is None else seen_in_training(about, input)
        like = None if self.like is None else open_store(self.like)
        source = open_samples(
            self.source,
            modality=input.modality,
            inputs=(input,),
            seen=how_seen(input, self._settled, like) or seen,
            on_scan=on_scan,
        )
        if tells_models(input):
            input = settle_teachers_input(input, source, self._settled)
        teacher = replace(self._build_teacher(input), seen=seen, class_names=self._class_names(about, source))
        if self.plan:
            return survey_teacher(
                teacher,
                source,
                self.options,
                augment=self.augment,
                like=like,
                seconds=self.plan_seconds,
                on_progress=on_progress,
            )
        assert self.out is not None, "checked when it was built"
        share = self._share
        if share is not None:
            job = dump_share(
                teacher,
                source,
                self.out,
                share,
                self.options,
                augment=self.augment,
                like=like,
                on_progress=on_progress,
            )
            summary = finish_if_complete(job) if self.shards is None else None
            return summary or dump_state(self.out)
        return dump_teacher(
            teacher,
            source,
            self.out,
            self.options,
            augment=self.augment,
            like=like,
            on_progress=on_progress,
        )

    @property
    def options(self) -> DumpOptions:
        """Those of [dump] and [device]."""
        return replace(self.dump, device=self.device)

    @property
    def _share(self) -> Share | None:
        """As it was asked for, or of tasks that srun started together; None for the whole."""
        if self.shards is not None:
            return Share.parse(self.shards)
        task = srun_task()
        return None if task is None else Share(index=task[0], count=task[1])

    @property
    def _settled(self) -> Settled:
        """By a dump that was begun at the same place."""
        return Settled() if self.out is None or self.plan else read_settled(self.out)

    def _class_names(self, about: AboutWeights | None, source: Source) -> tuple[str, ...] | None:
        """Those that were given, or that the weights tell; or those of published weights, unless the source has as many
        other names, as of folders that are named by WordNet."""
        told = None if about is None else about.class_names
        given = None if self.class_names is None else read_class_names(self.class_names)
        if given is not None and told is not None and given != told:
            raise InvalidOption(
                f"{self.class_names}: has other class names than the weights were trained with ({first_few(told)}), or "
                f"in another order. Leave `class_names` out: they bring their own."
            )
        published = published_class_names(self.teacher)
        if given is not None or told is not None or published is None:
            return given or told
        is_of_files = self.teacher.model.startswith("torchvision:")  # others name their classes themselves
        is_renamed = (
            is_of_files
            and len(source.class_names or ()) == len(published)
            and class_relation(source, published) == "unclear"
        )
        return None if is_renamed else published

    def _build_teacher(self, input: InputOptions) -> Teacher:
        if is_first_rank() and _has_random_weights(self.teacher):
            warnings.warn("no `teacher.weights`, so the teacher's weights are random", RandomWeights, stacklevel=3)
        told = dict[str, object]()
        if self.dump.tensor_parallel > 1:
            join_group(self.dump.tensor_parallel, device=choose_device(self.device.name))
            told = {"tensor_parallel": self.dump.tensor_parallel}
        return Teacher(
            module=build_model(self.teacher, told=model_arguments(input) | told),
            name=self.teacher.model,
            arguments=self.teacher.arguments,
            input=input,
        )

    def _check_can_be_shared(self) -> None:
        if self.dump.tensor_parallel == 1:
            return
        if not self.teacher.model.startswith("hf:") or self.teacher.weights or "lora" in self.teacher.arguments:
            raise InvalidOption(
                f"dump.tensor_parallel with {self.teacher.model}: only models of `hf:` can be shared by processes, "
                f"with the weights that lie beside them and without adapters. Leave `dump.tensor_parallel` out."
            )
        if self.plan:
            raise InvalidOption(
                "dump.tensor_parallel with plan: a plan is made by one process. Leave `plan` out: a dump that is begun "
                "can be stopped at any time."
            )

    def _input(self, about: AboutWeights | None) -> ImageInput:
        """As the weights say, or else the recipe, or else as the model was published."""
        if about is None:
            used = self.teacher.input or input_of(self.teacher, self.input, key="teacher.input")
            fitted: ImageInput = fitted_input(used, model=self.teacher.model)
            return fitted
        key = "input" if self.teacher.input is None else "teacher.input"
        recorded: ImageInput = input_of_weights(about, self.teacher.input or self.input, key=key)
        return recorded


def _has_random_weights(options: ModelOptions) -> bool:
    """A user's own factory may load its weights itself."""
    origin = options.model.partition(":")[0]
    asked = {"weights", "pretrained"} & options.arguments.keys()
    return options.weights is None and not asked and origin in ("torchvision", "timm", "softlab")

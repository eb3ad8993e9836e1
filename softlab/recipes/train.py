"""A complete training run of students, or a search for how to train one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from softlab.errors import InvalidOption
from softlab.labels.class_map import ClassesOptions
from softlab.labels.losses import KlLoss, StudentLoss
from softlab.loading.options import CheckOptions
from softlab.manifest import InputRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.device import DeviceOptions
from softlab.ranks import is_first_rank
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan, ValidOptions, choose_outputs, open_samples, open_signed, open_validation
from softlab.recipes.options import KEY
from softlab.recipes.published_input import input_of
from softlab.recipes.students import (
    StudentModel,
    TeacherModel,
    build_students,
    inherit_layers,
    inputs_before_models,
)
from softlab.recipes.writing import write_recipe
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.mapped import map_store, map_stores, whole_of
from softlab.store.reader import Store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.heads.options import HeadOptions
from softlab.student.loop import OnProgress
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import (
    DistilOptions,
    LearnOptions,
    LogOptions,
    RunOptions,
    Student,
    TargetOptions,
    TeachersOptions,
    TrainOptions,
)
from softlab.student.pruning import PruneOptions
from softlab.student.robust_options import RobustOptions
from softlab.student.run_folder import StudentResult
from softlab.student.search import SearchOptions, search
from softlab.student.train import OnStart, train_students
from softlab.student.trials import Trial
from softlab.student.validation import Validation


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """A complete training run."""

    flags: ClassVar[dict[str, str]] = {
        "out": "--out",
        "store": "--store",
        "source.path": "--source",
        "valid.path": "--valid",
        "valid_store": "--valid-store",
        "student": "--student",
        "feature": "--feature",
        "input.size": "--size",
        "input.channels": "--channels",
        "input.mean": "--mean",
        "input.std": "--std",
        "run.epochs": "--epochs",
        "run.batch_size": "--batch-size",
        "run.max_samples": "--max-samples",
        "run.seed": "--seed",
        "teachers.alpha": "--alpha",
        "loss.name": "--loss",
        "loss.temperature": "--temperature",
        "optimizer.learning_rate": "--learning-rate",
        "distil.baseline": "--baseline",
        "check.subset": "--subset",
        "device.name": "--device",
        "device.workers": "--workers",
        "search.trials": "--search",
        "log.resume": "--resume",
        "require_signature": "--require-signature",
    }
    """Of the command line, by key; all else is set in a recipe or with `--set`."""

    out: Path
    """Folder for weights, metrics, checkpoints.

    A run that was killed goes on from there."""

    store: tuple[str, ...]
    """A teacher's output: a path, URL, or NAME@VERSION; several teach together.

    It is of the samples of the source; NAME@VERSION stands below the place where it is published."""

    valid_store: str | tuple[str, ...] | None = None
    """The teacher's output for the validation source.

    Of the teachers of a student's heads a list. Without it only what needs no teacher is measured."""

    valid_full: Path | None = None
    """A folder for the teacher's whole output for the validation source.

    In place of a store: [teacher] is run over it once, and what is there is used again. KL to the teacher is then over
    all classes, and exact."""

    output: str | None = None
    """Which output of the stores is taken as soft labels, where they hold several; without it the first one."""

    require_signature: Path | None = None
    """Train only from stores that this signer signed: PEM file of a public key or root certificate.

    The validation store is one of them."""

    identity: str | None = None
    """Train only from stores that this person signed: the name in the signer's certificate; for Sigstore the login."""

    issuer: str | None = None
    """For Sigstore, with identity and no require_signature: who vouches for the login, a URL."""

    min_version: int | None = None
    """Train only from signed stores that were published as this version or a later one, whatever a tag says."""

    student: dict[str, StudentModel]
    """A student to train; several share one pass."""

    teacher: TeacherModel | None = None
    """Whose layers students start from, if they ask for it, and whose own output `valid_full` asks for."""

    source: SourceOptions
    valid: SourceOptions | None = None

    also_valid: dict[str, ValidOptions] = field(default_factory=dict)
    """Further sources to measure on, which don't decide what epoch is the best."""

    input: ImageInput = field(default_factory=ImageInput)
    augment: ViewRecipe | None = None
    run_options: RunOptions = field(default_factory=RunOptions, metadata={KEY: "run"})
    distil: DistilOptions = field(default_factory=DistilOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    check: CheckOptions = field(default_factory=CheckOptions)
    log: LogOptions = field(default_factory=LogOptions)
    teachers: TeachersOptions = field(default_factory=TeachersOptions)
    loss: StudentLoss = field(default_factory=KlLoss)
    targets: TargetOptions = field(default_factory=TargetOptions)
    classes: ClassesOptions = field(default_factory=ClassesOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)

    feature: dict[str, FeatureLoss] = field(default_factory=dict)
    """A stored feature that a layer learns.

    Beside the labels; the layer is the student's."""

    head: dict[str, HeadOptions] = field(default_factory=dict)
    """An output of the students' models, by its name, that learns a stored output of its own.

    In place of the one output that a student has without."""

    prune: PruneOptions | None = None
    robust: RobustOptions | None = None
    search: SearchOptions | None = None
    cache: CacheOptions = field(default_factory=CacheOptions)

    def __post_init__(self) -> None:
        """Refuses what would otherwise fail after the data are opened."""
        if self.valid is None and self.valid_store is not None:
            raise InvalidOption("`valid_store` without a validation source. Give `valid.path`, or leave the store out.")
        if self.valid_full is not None:
            self._check_valid_full()
        if self.search is not None and (self.valid is None or len(self.student) != 1):
            raise InvalidOption(
                "a search tries one student on a validation source. Give one `student`, and `valid.path`."
            )
        heirs = [name for name, options in self.student.items() if options.inherit is not None]
        if heirs and (self.teacher is None or not self.teacher.has_weights):
            raise InvalidOption(
                f"[student.{heirs[0]}.inherit] needs a teacher with weights. Give `teacher.model` and "
                f"`teacher.weights`."
            )
        if any(model.learn(self.options.learn).head for model in self.student.values()):
            self._check_heads()
        _ = self.options  # checks what sections must be together

    def _check_heads(self) -> None:
        """Raises InvalidOption for what is about the one output that students have without heads."""
        for key, given in (("output", self.output), ("valid_full", self.valid_full)):
            if given is not None:
                raise InvalidOption(
                    f"`{key}` is for students with one output, and these have heads. Leave it out, or the heads."
                )
        if self.classes:
            raise InvalidOption("[classes] is for students with one output, and these have heads. Leave it out.")

    def _check_valid_full(self) -> None:
        if self.valid is None:
            raise InvalidOption("`valid_full` without a validation source. Give `valid.path`, or leave it out.")
        if self.valid_store is not None:
            raise InvalidOption("`valid_full` stands in place of `valid_store`. Leave one of them out.")
        if self.teacher is None or not self.teacher.has_weights:
            raise InvalidOption("`valid_full` needs the teacher itself. Give `teacher.model` and `teacher.weights`.")

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `run.epochs=5`. Raises InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set)

    @property
    def options(self) -> TrainOptions:
        """Of the run, and of students that have none of their own."""
        learn = LearnOptions(
            teachers=self.teachers,
            loss=self.loss,
            targets=self.targets,
            optimizer=self.optimizer,
            feature=self.feature,
            head=self.head,
            prune=self.prune,
            robust=self.robust,
        )
        return TrainOptions(
            run=self.run_options,
            distil=self.distil,
            device=self.device,
            check=self.check,
            log=self.log,
            learn=learn,
        )

    @property
    def best(self) -> Path:
        """Where a search writes the recipe of its best trial."""
        return self.out / "best.toml"

    def run(
        self,
        *,
        on_scan: OnScan | None = None,
        on_progress: OnProgress | None = None,
        on_start: OnStart | None = None,
    ) -> list[StudentResult] | list[Trial]:
        """The trained students in the order of the recipe; with `search` all trials, the best first.

        A killed run goes on exactly where its last checkpoint was when this is called again. A search also writes the
        recipe of its best trial. Raises as `train_students` and `open_trusted`.
        """
        opened = self.open(on_scan=on_scan)
        if self.search is not None:
            return self._search(self.search, opened, on_progress, on_start)
        return train_students(
            self.students(opened.inputs),
            opened.source,
            opened.stores,
            self.options,
            input=self.input,
            augment=self.augment,
            valid=opened.valid,
            also_valid=self._open_others(opened, on_scan),
            out=self.out,
            on_progress=on_progress,
            on_start=on_start,
        )

    def open(self, *, on_scan: OnScan | None = None) -> "OpenedRun":
        """What the recipe names, opened. Raises as `run`."""
        stores = map_stores(choose_outputs([self._open(path) for path in self.store], self.output), self.classes)
        inputs, seen = self._inputs, stores[0].manifest.seen if stores else ()
        source = open_samples(self.source, modality=self.input.modality, inputs=inputs, seen=seen, on_scan=on_scan)
        settled = inputs_before_models(self.student, dict(zip(self.student, inputs, strict=False)), source)
        measured = tuple(settled.values()) or inputs
        valid = self._with_full_store(
            self._open_validation(self.valid, self.valid_store, measured, seen, on_scan), stores
        )
        return OpenedRun(source=source, stores=stores, valid=valid, inputs=settled)

    def _open_validation(
        self,
        source: SourceOptions | None,
        stores: str | Sequence[str] | None,
        inputs: Sequence[ImageInput],
        seen: Sequence[InputRecord],
        on_scan: OnScan | None,
    ) -> Validation | None:
        paths = [stores] if isinstance(stores, str) else stores or ()
        opened = choose_outputs([self._open(path) for path in paths], self.output)
        found = [map_store(store, self.classes) for store in opened]
        first = found[0] if found else None
        valid = open_validation(source, inputs=inputs, seen=seen, store=first, on_scan=on_scan)
        return None if valid is None else replace(valid, others=tuple(found[1:]))

    def _with_full_store(self, valid: Validation | None, stores: Sequence[Store]) -> Validation | None:
        """With the teacher's own run over the validation source, where it is asked for."""
        if self.valid_full is None:
            return valid
        from softlab.recipes.full_store import full_store  # a dump's code, which no other run of training needs

        assert valid is not None, "checked when the recipe was built"
        assert self.teacher is not None, "likewise"
        first = next((whole_of(store) for store in stores if store.has_labels), None)
        store = full_store(
            self.teacher,
            valid.source,
            self.valid_full,
            input=self.input,
            device=self.device,
            head="softmax" if first is None else first.head,
            class_names=None if first is None else first.class_names,
            cache=self.cache,
        )
        return replace(valid, store=map_store(store, self.classes))

    def _open_others(self, run: "OpenedRun", on_scan: OnScan | None) -> dict[str, Validation]:
        inputs = tuple(run.inputs.values()) or self._inputs
        opened = {
            name: self._open_validation(each, each.store, inputs, run.seen, on_scan)
            for name, each in self.also_valid.items()
        }
        return {name: valid for name, valid in opened.items() if valid is not None}

    def _search(
        self, what: SearchOptions, opened: "OpenedRun", on_progress: OnProgress | None, on_start: OnStart | None
    ) -> list[Trial]:
        ((name, model),) = self.student.items()
        assert opened.valid is not None, "the recipe has checked it"
        trials = search(
            lambda: self.students(opened.inputs)[name].module,
            opened.source,
            opened.stores,
            replace(self.options, learn=model.learn(self.options.learn)),
            what,
            valid=opened.valid,
            input=opened.inputs[name],
            augment=self.augment,
            out=self.out,
            on_progress=on_progress,
            on_start=on_start,
        )
        if is_first_rank():
            write_recipe(self.best, replace(self.with_learn(trials[0].learn), search=None))
        return trials

    def with_learn(self, learn: LearnOptions) -> Self:
        """The recipe of one student, in `out/best`, that learns so."""
        ((name, model),) = self.student.items()
        found = {each.name: getattr(learn, each.name) for each in fields(LearnOptions)}
        own: dict[str, Any] = dict.fromkeys(found) | {"seed": found.pop("seed")}
        return replace(self, out=self.out / "best", student={name: replace(model, **own)}, **found)

    def _open(self, store: str) -> Store:
        return open_signed(
            store,
            require_signature=self.require_signature,
            identity=self.identity,
            issuer=self.issuer,
            min_version=self.min_version,
            cache=self.cache,
        )

    @property
    def _inputs(self) -> tuple[ImageInput, ...]:
        return tuple(self._input_of(name) for name in self.student) or (self.input,)

    def _input_of(self, name: str) -> ImageInput:
        """Of one student."""
        model = self.student[name]
        return model.input or input_of(model, self.input, key=f"student.{name}.input")

    def students(self, inputs: Mapping[str, ImageInput]) -> dict[str, Student]:
        """Each built anew, with the same weights each time."""
        seed, shared = self.run_options.seed, self.options.learn
        seeds = {name: seed if model.seed is None else model.seed for name, model in self.student.items()}
        modules = build_students(self.student, seeds=seeds, inputs=inputs)
        inherit_layers(modules, self.student, teacher=self.teacher)
        return {
            name: Student(module=modules[name], learn=model.learn(shared), input=inputs[name])
            for name, model in self.student.items()
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OpenedRun:
    """What a training recipe names."""

    source: Source
    stores: Sequence[Store]
    valid: Validation | None
    inputs: Mapping[str, ImageInput]
    """Of each student, settled where its model must know it."""

    @property
    def seen(self) -> Sequence[InputRecord]:
        """What the teacher read."""
        return self.stores[0].manifest.seen if self.stores else ()

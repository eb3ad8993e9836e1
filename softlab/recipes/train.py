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
from softlab.recipes.full_store import full_store
from softlab.recipes.opening import OnScan, ValidOptions, choose_output, open_samples, open_signed, open_validation
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
from softlab.student.search import SearchOptions, Trial, search
from softlab.student.train import OnStart, train_students
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

    valid_store: str | None = None
    """The teacher's output for the validation source.

    Without it only what needs no teacher is measured."""

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
        _ = self.options  # checks what sections must be together

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
        stores = map_stores([self._open(path) for path in self.store], self.classes)
        inputs, seen = self._inputs, stores[0].manifest.seen if stores else ()
        valid = self._open_validation(self.valid, self.valid_store, seen, on_scan)
        valid = self._with_full_store(valid, stores)
        source = open_samples(self.source, modality=self.input.modality, inputs=inputs, seen=seen, on_scan=on_scan)
        settled = inputs_before_models(self.student, dict(zip(self.student, inputs, strict=False)), source)
        if self.search is not None:
            assert valid is not None, "the recipe has checked it"
            return self._search(self.search, source, stores, valid, settled, on_progress, on_start)
        return train_students(
            self._students(settled),
            source,
            stores,
            self.options,
            input=self.input,
            augment=self.augment,
            valid=valid,
            also_valid=self._open_others(seen, on_scan),
            out=self.out,
            on_progress=on_progress,
            on_start=on_start,
        )

    def _open_validation(
        self,
        source: SourceOptions | None,
        store: str | None,
        seen: Sequence[InputRecord],
        on_scan: OnScan | None,
    ) -> Validation | None:
        opened = map_store(self._open(store), self.classes) if store else None
        return open_validation(source, inputs=self._inputs, seen=seen, store=opened, on_scan=on_scan)

    def _with_full_store(self, valid: Validation | None, stores: Sequence[Store]) -> Validation | None:
        """With the teacher's own run over the validation source, where it is asked for."""
        if self.valid_full is None:
            return valid
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

    def _open_others(self, seen: Sequence[InputRecord], on_scan: OnScan | None) -> dict[str, Validation]:
        opened = {
            name: self._open_validation(each, each.store, seen, on_scan) for name, each in self.also_valid.items()
        }
        return {name: valid for name, valid in opened.items() if valid is not None}

    def _search(
        self,
        what: SearchOptions,
        source: Source,
        stores: list[Store],
        valid: Validation,
        inputs: Mapping[str, ImageInput],
        on_progress: OnProgress | None,
        on_start: OnStart | None,
    ) -> list[Trial]:
        ((name, model),) = self.student.items()
        trials = search(
            lambda: self._students(inputs)[name].module,
            source,
            stores,
            replace(self.options, learn=model.learn(self.options.learn)),
            what,
            valid=valid,
            input=inputs[name],
            augment=self.augment,
            out=self.out,
            on_progress=on_progress,
            on_start=on_start,
        )
        if is_first_rank():
            found = {each.name: getattr(trials[0].learn, each.name) for each in fields(LearnOptions)}
            own: dict[str, Any] = dict.fromkeys(found) | {"seed": found.pop("seed")}
            student = replace(model, **own)
            best = replace(self, out=self.out / "best", student={name: student}, search=None, **found)
            write_recipe(self.best, best)
        return trials

    def _open(self, store: str) -> Store:
        opened = open_signed(
            store,
            require_signature=self.require_signature,
            identity=self.identity,
            issuer=self.issuer,
            min_version=self.min_version,
            cache=self.cache,
        )
        return choose_output(opened, self.output)

    @property
    def _inputs(self) -> tuple[ImageInput, ...]:
        return tuple(self._input_of(name) for name in self.student) or (self.input,)

    def _input_of(self, name: str) -> ImageInput:
        """Of one student."""
        model = self.student[name]
        return model.input or input_of(model, self.input, key=f"student.{name}.input")

    def _students(self, inputs: Mapping[str, ImageInput]) -> dict[str, Student]:
        seed, shared = self.run_options.seed, self.options.learn
        seeds = {name: seed if model.seed is None else model.seed for name, model in self.student.items()}
        modules = build_students(self.student, seeds=seeds, inputs=inputs)
        inherit_layers(modules, self.student, teacher=self.teacher)
        return {
            name: Student(module=modules[name], learn=model.learn(shared), input=inputs[name])
            for name, model in self.student.items()
        }

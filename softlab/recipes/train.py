"""A complete training run of students, or a search for how to train one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from softlab.errors import InvalidOption
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.opening import open_source
from softlab.ranks import is_first_rank
from softlab.recipes.building import load_recipe, overridden
from softlab.recipes.opening import OnScan, choose_output, open_signed, open_validation
from softlab.recipes.students import StudentModel, TeacherModel, build_students, inherit_layers
from softlab.recipes.writing import write_recipe
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store
from softlab.student.loop import OnProgress
from softlab.student.options import Student, TrainOptions
from softlab.student.run_folder import StudentResult
from softlab.student.search import SearchOptions, Trial, search
from softlab.student.train import train_students
from softlab.student.validation import Validation


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """A complete training run."""

    main_section: ClassVar[str] = "train"

    out: Path
    """Folder of the run: weights, metrics, what is needed to go on after a kill."""

    store: tuple[str, ...]
    """A teacher's output for the source: a path, a URL, or NAME@VERSION below where it is published; of several
    teachers if given several times."""

    valid_store: str | None = None
    """The teacher's output for the validation source; without it only accuracy is measured."""

    output: str | None = None
    """Which output of the stores is taken as soft labels, where they hold several; without it the first one."""

    require_signature: Path | None = None
    """Train only from stores, valid_store included, that this signer signed: PEM file of a public key or of a root
    certificate."""

    identity: str | None = None
    """Train only from stores that this person signed: the name in the signer's certificate; for Sigstore the login."""

    issuer: str | None = None
    """For Sigstore, with identity and no require_signature: who vouches for the login, a URL."""

    min_version: int | None = None
    """Train only from signed stores that were published as this version or a later one, whatever a tag says."""

    student: dict[str, StudentModel]
    """A student to train; give it several times to train several in one pass."""

    teacher: TeacherModel | None = None
    """Whose layers students start from, if they ask for it."""

    source: SourceOptions
    valid: SourceOptions | None = None
    input: ImageInput = field(default_factory=ImageInput)
    augment: ViewRecipe | None = None
    train: TrainOptions = field(default_factory=TrainOptions)
    search: SearchOptions | None = None
    cache: CacheOptions = field(default_factory=CacheOptions)

    def __post_init__(self) -> None:
        """Refuses what would otherwise fail after the data are opened."""
        if self.valid is None and self.valid_store is not None:
            raise InvalidOption("--valid-store without a validation source. Give --valid, or leave the store out.")
        if self.search is not None and (self.valid is None or len(self.student) != 1):
            raise InvalidOption("a search tries one student on a validation source. Give one --student, and --valid.")
        heirs = [name for name, options in self.student.items() if options.inherit is not None]
        if heirs and (self.teacher is None or self.teacher.weights is None):
            raise InvalidOption(
                f"[student.{heirs[0]}.inherit] needs a teacher with weights. Give --teacher and --teacher-weights."
            )
        for name in self.student:
            self.train_options(name)

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `train.epochs=5`. Raises InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set, main_section=cls.main_section)

    def train_options(self, student: str) -> TrainOptions:
        """Those of the run, with the student's own instead."""
        return overridden(self.train, self.student[student].train, where=f"[student.{student}.train]")

    @property
    def best(self) -> Path:
        """Where a search writes the recipe of its best trial."""
        return self.out / "best.toml"

    def run(
        self, *, on_scan: OnScan | None = None, on_progress: OnProgress | None = None
    ) -> list[StudentResult] | list[Trial]:
        """The trained students in the order of the recipe; with `search` all trials, the best first.

        A killed run goes on exactly where its last checkpoint was when this is called again. A search also writes the
        recipe of its best trial. Raises as `train_students` and `open_trusted`.
        """
        stores = [self._open(path) for path in self.store]
        valid_store = self._open(self.valid_store) if self.valid_store else None
        valid = open_validation(self.valid, modality=self.input.modality, store=valid_store, on_scan=on_scan)
        source = open_source(self.source, modality=self.input.modality, on_scan=on_scan)
        if self.search is not None:
            assert valid is not None, "the recipe has checked it"
            return self._search(self.search, source, stores, valid, on_progress)
        return train_students(
            self._students(),
            source,
            stores,
            self.train,
            input=self.input,
            augment=self.augment,
            valid=valid,
            out=self.out,
            on_progress=on_progress,
        )

    def _search(
        self,
        what: SearchOptions,
        source: Source,
        stores: list[Store],
        valid: Validation,
        on_progress: OnProgress | None,
    ) -> list[Trial]:
        ((name, model),) = self.student.items()
        trials = search(
            lambda: self._students()[name].module,
            source,
            stores,
            self.train_options(name),
            what,
            valid=valid,
            input=model.input or self.input,
            augment=self.augment,
            out=self.out,
            on_progress=on_progress,
        )
        if is_first_rank():
            out, train = self.out / "best", replace(trials[0].options, baseline=self.train.baseline)
            student = {name: replace(model, train={})}
            write_recipe(self.best, replace(self, out=out, student=student, train=train, search=None))
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

    def _students(self) -> dict[str, Student]:
        own = {name: self.train_options(name) for name in self.student}
        modules = build_students(self.student, seeds={name: options.seed for name, options in own.items()})
        inherit_layers(modules, self.student, teacher=self.teacher)
        return {name: Student(module=modules[name], options=own[name], input=self.student[name].input) for name in own}

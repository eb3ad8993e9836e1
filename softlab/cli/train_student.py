"""`softlab train-student`: train one or more students from a store, without the teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from softlab.cli.flags import recipe_command
from softlab.cli.opening import open_with_bar
from softlab.cli.training import print_results, print_trials, training_bar
from softlab.errors import InvalidOption, ModelError
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.build import ModelOptions, build_model
from softlab.models.inherit import InheritOptions, inherit
from softlab.ranks import is_first_rank
from softlab.recipe import overridden, write_recipe
from softlab.sharing.signers import required_signer
from softlab.sharing.trust import open_trusted
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.options import Student, TrainOptions
from softlab.student.search import SearchOptions, search
from softlab.student.train import train_students
from softlab.student.validation import Validation


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentModel(ModelOptions):
    """A student's model, and what it learns in another way than the others of its run."""

    train: dict[str, object] = field(default_factory=dict)
    """options of [train] that are this student's own, e.g. temperature or loss"""

    inherit: InheritOptions | None = None
    """which of the layers of [teacher] this student starts from"""


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """A complete training run."""

    out: Path
    """Folder of the run: weights, metrics, what is needed to go on after a kill."""

    store: tuple[str, ...]
    """What a teacher said about the source: a path, a URL, or NAME@VERSION below where it is published; of several
    teachers if given several times."""

    valid_store: str | None = None
    """What the teacher said about the validation source; without it only accuracy is measured."""

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

    teacher: ModelOptions | None = None
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

    def train_options(self, student: str) -> TrainOptions:
        """Those of the run, with the student's own instead."""
        return overridden(self.train, self.student[student].train, where=f"[student.{student}.train]")


@recipe_command(TrainRecipe, main_section="train")
def train_student(recipe: TrainRecipe) -> None:
    """Train students on stored soft labels mixed with hard targets; the teacher is not run.

    A killed run goes on exactly where its last checkpoint was when the same command is run again.
    """
    stores = [_open(path, recipe) for path in recipe.store]
    valid = None
    if recipe.valid is not None:
        valid_store = _open(recipe.valid_store, recipe) if recipe.valid_store else None
        valid = Validation(source=open_with_bar(recipe.valid), store=valid_store)
    source = open_with_bar(recipe.source)
    if recipe.search is not None:
        assert valid is not None, "the recipe has checked it"
        _search(recipe, recipe.search, source, stores, valid)
        return
    with training_bar() as on_progress:
        results = train_students(
            _students(recipe),
            source,
            stores,
            recipe.train,
            input=recipe.input,
            augment=recipe.augment,
            valid=valid,
            out=recipe.out,
            on_progress=on_progress,
        )
    print_results(results, out=recipe.out)


def _open(store: str, recipe: TrainRecipe) -> Store:
    signer = required_signer(
        recipe.require_signature,
        identity=recipe.identity,
        issuer=recipe.issuer,
        min_version=recipe.min_version,
    )
    if signer is None:
        return open_store(store, cache=recipe.cache)
    return open_trusted(store, signer=signer, min_version=recipe.min_version, cache=recipe.cache)


def _students(recipe: TrainRecipe) -> dict[str, Student]:
    own = {name: recipe.train_options(name) for name in recipe.student}
    modules = build_students(recipe.student, seeds={name: options.seed for name, options in own.items()})
    _inherit(recipe, modules)
    return {name: Student(module=modules[name], options=own[name]) for name in own}


def _inherit(recipe: TrainRecipe, modules: Mapping[str, nn.Module]) -> None:
    heirs = {name: options.inherit for name, options in recipe.student.items() if options.inherit is not None}
    if not heirs:
        return
    assert recipe.teacher is not None, "the recipe has checked it"
    teacher = build_model(recipe.teacher)
    for name, options in heirs.items():
        try:
            inherit(modules[name], teacher, options)
        except ModelError as error:
            raise ModelError(f"[student.{name}.inherit]: {error}") from error


def _search(recipe: TrainRecipe, what: SearchOptions, source: Source, stores: list[Store], valid: Validation) -> None:
    ((name, model),) = recipe.student.items()
    with training_bar() as on_progress:
        trials = search(
            lambda: _students(recipe)[name].module,
            source,
            stores,
            recipe.train_options(name),
            what,
            valid=valid,
            input=recipe.input,
            augment=recipe.augment,
            out=recipe.out,
            on_progress=on_progress,
        )
    if not is_first_rank():
        return
    best, out = recipe.out / "best.toml", recipe.out / "best"
    train = replace(trials[0].options, baseline=recipe.train.baseline)
    write_recipe(best, replace(recipe, out=out, student={name: replace(model, train={})}, train=train, search=None))
    print_trials(trials)
    print(f"The best as a recipe: softlab train-student {best}")


def build_students(students: Mapping[str, ModelOptions], *, seeds: Mapping[str, int]) -> dict[str, nn.Module]:
    """Each from its own seed, so that a student's initial weights don't depend on the others."""
    modules = {}
    for name, options in students.items():
        torch.manual_seed(seeds[name])
        modules[name] = build_model(options)
    return modules

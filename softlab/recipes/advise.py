"""Complete advice on how to train a student from stores, and the recipe that it comes to."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar

from softlab.errors import InvalidOption
from softlab.ranks import is_first_rank
from softlab.recipes.advice_text import evidence_lines
from softlab.recipes.opening import OnScan
from softlab.recipes.train import TrainRecipe
from softlab.recipes.writing import write_recipe
from softlab.student.advice_rounds import OnRound
from softlab.student.advise import Advice, AdviseOptions, advise
from softlab.student.loop import OnProgress
from softlab.student.train import OnStart


@dataclass(frozen=True, kw_only=True)
class AdviseRecipe(TrainRecipe):
    """A training run of one student, and what advice on it is sought among."""

    flags: ClassVar[dict[str, str]] = {
        **{
            key: flag
            for key, flag in TrainRecipe.flags.items()
            if key not in ("teachers.alpha", "loss.name", "loss.temperature", "distil.baseline", "search.trials")
        },
        "advise.until": "--until",
    }

    advise: AdviseOptions = field(default_factory=AdviseOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.valid is None or len(self.student) != 1:
            raise InvalidOption(
                "advice is on one student, by a validation source. Give one `student`, and `valid.path`."
            )
        if self.search is not None:
            raise InvalidOption("advice chooses what it tries by itself. Leave `search` out.")

    @property
    def recommended(self) -> Path:
        """Where the recipe is written that advice comes to."""
        return self.out / "advice.toml"

    def advise_on(
        self,
        *,
        on_scan: OnScan | None = None,
        on_progress: OnProgress | None = None,
        on_start: OnStart | None = None,
        on_round: OnRound | None = None,
    ) -> Advice:
        """Advice, and its recipe as a file; goes on where it was interrupted. Raises as `advise`, and as opening what
        the recipe names."""
        opened = self.open(on_scan=on_scan)
        ((name, model),) = self.student.items()
        assert opened.valid is not None, "checked when the recipe was built"
        found = advise(
            lambda: self.students(opened.inputs)[name].module,
            opened.source,
            opened.stores,
            replace(self.options, learn=model.learn(self.options.learn)),
            self.advise,
            valid=opened.valid,
            input=opened.inputs[name],
            augment=self.augment,
            out=self.out,
            on_progress=on_progress,
            on_start=on_start,
            on_round=on_round,
        )
        if is_first_rank():
            write_recipe(self.recommended, self.as_recommended(found), comments=evidence_lines(found))
        return found

    def as_recommended(self, found: Advice) -> TrainRecipe:
        """The training recipe of the best candidate."""
        best = self.with_learn(found.best.learn)
        given = {each.name: getattr(best, each.name) for each in fields(TrainRecipe)}
        return TrainRecipe(**given | {"run_options": found.run})

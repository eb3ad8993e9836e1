"""`softlab evaluate`: measure a model on a source, and against a store where one is given."""

from dataclasses import asdict, dataclass, field
from json import dumps
from pathlib import Path

from softlab.cli.flags import recipe_command
from softlab.cli.opening import open_with_bar
from softlab.cli.tables import format_share, print_facts
from softlab.models.build import ModelOptions, build_model
from softlab.sources.options import SourceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.measure import EvaluateOptions, evaluate_model
from softlab.views.finishing import Finishing


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """A complete evaluation."""

    store: Path | None = None
    """What a teacher said about the source, to measure agreement and KL."""

    json: bool = False
    """Print JSON."""

    model: ModelOptions
    source: SourceOptions
    input: Finishing = field(default_factory=Finishing)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)


@recipe_command(EvaluateRecipe, main_section="evaluate")
def evaluate(recipe: EvaluateRecipe) -> None:
    """Measure a model on a source: accuracy, and with --store how close it is to the teacher."""
    evaluation = evaluate_model(
        build_model(recipe.model),
        open_with_bar(recipe.source),
        store=None if recipe.store is None else open_store(recipe.store, cache=recipe.cache),
        finishing=recipe.input,
        options=recipe.evaluate,
    )
    if recipe.json:
        print(dumps(asdict(evaluation), indent=1))
        return
    facts = {"rows": f"{evaluation.rows:,}", "accuracy": format_share(evaluation.accuracy)}
    if evaluation.teacher_kl is not None:
        facts["agreement with the teacher"] = format_share(evaluation.teacher_agreement)
        facts["KL to the teacher"] = f"{evaluation.teacher_kl:.4f} nats"
    print_facts(facts)

"""What a file of predictions holds, where it doesn't tell itself."""

from dataclasses import dataclass
from typing import Literal, get_args

from softlab.errors import InvalidOption, suggest

Kind = Literal["logits", "log_probabilities", "probabilities", "votes", "values"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionOptions:
    """How predictions are read."""

    kind: Kind | None = None
    """What the numbers are: raw logits; (log-)probabilities; votes, counts of how often each class was given; or
    values, such as an embedding, which mean no classes. Default: the kind that a column is named by."""

    column: str | None = None
    """The column, array or field that holds them, as a list a row; default: the one with a kind's name, or else one
    column a class."""

    key_column: str = "key"
    """The column, array or field of the samples' keys; `custom_id` counts as one too."""

    num_classes: int | None = None
    """Of top-k predictions without class names: how many classes the teacher has."""

    by_position: bool = False
    """Predictions without keys are those of the samples in their order; allowed only where a column `content_hash`
    proves it, row by row."""

    token: int = 0
    """Of the answers of a chat service: which of the tokens that were written tells the class, counted from 0."""

    extra_keys: Literal["refuse", "leave_out"] = "refuse"
    """What happens to predictions for samples that the source doesn't have."""

    candidate_fields: tuple[str, ...] = ()
    """Fields of the source with the candidates of a query, which `logits` are the scores of: each row must have as many
    as its sample has candidates, and rows may have fewer than others."""

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise InvalidOption(f"predictions.kind = {self.kind}: unknown. {suggest(self.kind, KINDS)}")
        if self.num_classes is not None and self.num_classes < 1:
            raise InvalidOption(
                f"predictions.num_classes = {self.num_classes}: expected 1 or more. Change `predictions.num_classes`."
            )
        if not self.key_column:
            raise InvalidOption("`predictions.key_column` is empty. Name the column of the samples' keys.")

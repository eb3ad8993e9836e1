"""Which data set to open, and how; the fields are also the keys of a recipe's [source]."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from softlab.errors import InvalidOption, suggest

Kind = Literal["auto", "folder", "parquet", "datasets", "torchvision"]
DEFAULT_LABEL_COLUMN = "label"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    """A data set for `open_source`: a folder of class folders, Parquet files, what Hugging Face's `datasets` reads, or
    one of torchvision's sets."""

    path: str
    """Class folders, Parquet, or LIBRARY:NAME.

    Of Parquet a file, a folder or a glob of them; torchvision:NAME. Of Hugging Face's `datasets` datasets:FOLDER for
    what save_to_disk wrote, datasets:READER:PATH for one of its readers, such as datasets:csv:reviews/*.csv, or
    datasets:hub:OWNER/NAME; store:STORE for the tokens that a store holds, where a language model has read them."""

    kind: Kind = "auto"
    """How to read the path; auto decides by what is there."""

    root: Path | None = None
    """torchvision: the folder that holds the data set's files."""

    arguments: dict[str, object] = field(default_factory=dict)
    """torchvision, datasets: further keyword arguments of the data set, such as {train = true} or {split = "val"}."""

    image_column: str = "image"
    """Parquet, datasets: the column of encoded images, binary or a struct with the fields bytes and path."""

    fields: dict[str, str] = field(default_factory=dict)
    """Parquet, datasets: the column of each field of a sample, such as {text = "sentence"}; default: image, from
    image_column."""

    label_column: str = DEFAULT_LABEL_COLUMN
    """Parquet, datasets: the column of hard targets, integers or names of classes, or lists of them; the default may be
    missing."""

    label_columns: tuple[str, ...] = ()
    """Parquet, datasets: several columns of hard targets, in place of label_column, for students with several heads;
    each is a target by its name."""

    label_vectors: bool = False
    """Parquet, datasets: the label column's lists are a 0 or 1 for each class; default: the numbers or names of the
    classes that a sample is of (multi-label)."""

    label_sequences: bool = False
    """Parquet, datasets: the label column's lists have a label for each unit of a sample, such as a word of a text;
    null, an empty text or -100 where one has none."""

    answer_column: str | None = None
    """Parquet, datasets: the column of right answers within a text, for models that seek them: a struct of the lists
    text and answer_start, as SQuAD has it, or texts beside answer_start_column; default: none."""

    answer_start_column: str | None = None
    """Parquet, datasets: the column of the character at which each answer begins, where answer_column holds texts."""

    first_label: int = 0
    """The number of the first class: 1 where hard targets without names count from 1."""

    key_column: str | None = None
    """Parquet, datasets: the column of the samples' keys, texts or integers; default: the paths beside encoded data, or
    else row numbers."""

    class_names: tuple[str, ...] = ()
    """Folder, or labels that are texts: the classes in the order of their labels, those without a sample too; default:
    all that are found, sorted by name."""

    targets: tuple[int, ...] = ()
    """Only samples with these hard targets; default: all samples."""

    keys: Path | None = None
    """Only samples with these keys: a text file with one a line; default: all samples."""

    skip_unreadable: bool = False
    """Leave out samples that can't be decoded, and list them; costs one decoding pass over all samples."""

    limit: int | None = None
    """Only the first samples, this many of those that are left."""

    def __post_init__(self) -> None:
        if not self.path:
            raise InvalidOption("`source.path` is empty. Set it to a folder, a .parquet file or torchvision:NAME.")
        if self.kind not in get_args(Kind):
            raise InvalidOption(f"kind {self.kind!r} is unknown. {suggest(self.kind, get_args(Kind))}")
        if not self.image_column or not self.label_column or self.key_column == "":
            raise InvalidOption(
                "a column name is empty. Set `source.image_column`, `source.label_column` and `source.key_column`."
            )
        if self.answer_start_column and not self.answer_column:
            raise InvalidOption("`source.answer_start_column` without answers. Set `source.answer_column` too.")
        if not all(self.fields) or not all(self.fields.values()):
            raise InvalidOption("a field or its column has no name. Write `source.fields` as {FIELD = COLUMN}.")
        if len(set(self.class_names)) < len(self.class_names):
            raise InvalidOption("class_names holds a name twice. Name each class folder once.")
        if self.label_vectors and self.label_sequences:
            raise InvalidOption(
                "source.label_vectors and source.label_sequences: lists are a 0 or 1 for each class, or a label for "
                "each unit. Leave one of them out."
            )
        if self.label_columns:
            self._check_label_columns()
        if self.label_sequences and self.first_label:
            raise InvalidOption("source.first_label: labels of units count from 0. Leave it out.")
        if self.first_label < 0:
            raise InvalidOption(f"source.first_label = {self.first_label}: expected 0 or more. Change it.")
        if self.limit is not None and self.limit < 1:
            raise InvalidOption(f"source.limit = {self.limit} leaves no sample. Set `source.limit` to 1 or more.")

    def _check_label_columns(self) -> None:
        if not all(self.label_columns) or len(set(self.label_columns)) < len(self.label_columns):
            raise InvalidOption("source.label_columns: a name is empty, or there twice. Name each column once.")
        if self.label_column != DEFAULT_LABEL_COLUMN:
            raise InvalidOption("source.label_columns stands in place of `source.label_column`. Leave one of them out.")
        of_one = ("class_names", "targets", "label_vectors", "label_sequences", "first_label")
        given = [name for name in of_one if getattr(self, name)]
        if given:
            raise InvalidOption(
                f"source.{given[0]}: says something of one label column, and `source.label_columns` names several. "
                f"Leave `source.{given[0]}` out."
            )

    @property
    def columns(self) -> dict[str, str]:
        """Parquet, datasets: the column of each field."""
        return self.fields or {"image": self.image_column}

    @property
    def answer_columns(self) -> tuple[str, ...]:
        """Parquet, datasets: of right answers; none where there are none."""
        return tuple(filter(None, (self.answer_column, self.answer_start_column)))

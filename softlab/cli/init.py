"""`softlab init`: write a commented recipe for the user's own data and models."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from softlab.cli.say import say
from softlab.disk import write_whole
from softlab.errors import InvalidOption, StoreExists
from softlab.recipes.init import dump_draft, teacher_draft, train_draft

What = Literal["dump", "train", "teacher"]
COMMANDS: dict[str, str] = {"dump": "dump-teacher", "train": "train-student", "teacher": "train-teacher"}


def init(
    what: Annotated[What, typer.Argument(help="A recipe of dump-teacher, train-student or train-teacher.")],
    source: Annotated[str, typer.Option(help="Your data: a folder of class folders, or Parquet files.")],
    teacher: Annotated[str, typer.Option(help="dump, teacher: the model.")] = "",
    weights: Annotated[str | None, typer.Option(help="dump: the teacher's weights.")] = None,
    store: Annotated[str, typer.Option(help="train: what the teacher said.")] = "",
    student: Annotated[str, typer.Option(help="train: the model.")] = "",
    valid: Annotated[str | None, typer.Option(help="train, teacher: data to measure on.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: dump.toml, train.toml, ..")] = None,
) -> None:
    """Look at your data, model and store, and write a recipe with what was found; what else there is are comments."""
    path = out or Path(f"{what}.toml")
    if path.exists():
        raise StoreExists(f"{path}: is there already, and stays as it is. Give another file as --out.")
    if what == "dump":
        text = dump_draft(source, teacher=_given(teacher, "teacher"), weights=weights, out="runs/train.zarr")
    elif what == "train":
        store, student = _given(store, "store"), _given(student, "student")
        text = train_draft(store, source=source, student=student, valid=valid, out="runs/students")
    else:
        text = teacher_draft(source, teacher=_given(teacher, "teacher"), valid=valid, out="runs/teacher")
    write_whole(path.parent, {path.name: text.encode()})
    say(f"{path}: written. Look through it, then: softlab {COMMANDS[what]} {path}")


def _given(value: str, name: str) -> str:
    if not value:
        raise InvalidOption(f"--{name} is missing. Give --{name}.")
    return value

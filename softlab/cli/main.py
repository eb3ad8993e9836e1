"""The `softlab` program: its commands, and the one place where an error that a user can cause becomes one line."""

import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Container, Sequence
from importlib.metadata import version
from typing import Any, TextIO

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from softlab.cli.commands import load_command
from softlab.cli.messages import explain_flag, say_flags, with_flags
from softlab.cli.out_of_memory import explain_no_memory
from softlab.cli.say import say_beside
from softlab.errors import SoftlabError, SoftlabWarning
from softlab.imports import imported_for_good, uncollected
from softlab.ranks import is_first_to_fail

COMMANDS = {
    "dump-teacher": "Run a teacher once over a source and store what it says.",
    "progress": "Show how far a dump is, and who is at work on it.",
    "finalize": "Finish a store whose shards several processes wrote.",
    "import": "Make a store of predictions that a model made elsewhere.",
    "train-student": "Train one or more students from a store, without the teacher.",
    "advise": "Find out how to train a student from a store, and write the recipe.",
    "train-teacher": "Train a teacher on hard targets.",
    "chain": "Run several commands from one recipe, skipping what is finished.",
    "evaluate": "Measure a model on a source.",
    "report": "Show training runs side by side.",
    "inspect": "Show what a store holds and what it was made from.",
    "verify": "Check every file of a store against its manifest.",
    "sign": "Sign a store, so that others know whose it is.",
    "export": "Write a store's targets as a plain table, for other students.",
    "convert": "Write a store again in the other format.",
    "push": "Publish a store under a name and a version.",
    "pull": "Bring a store, or a part of it, to a disk.",
    "catalog": "Show what is published, and what of it is for your data.",
    "gc": "Remove what interrupted publications left behind.",
    "bench": "Measure a store and a student's step on this machine.",
    "options": "Print every option of a command, with its text and default.",
    "init": "Write a commented recipe for your data.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0, 1 for a SoftlabError, 2 for wrong usage, 130 for Ctrl-C."""
    is_program = arguments is None  # and not called by one, whose garbage is none of ours
    arguments = sys.argv[1:] if arguments is None else arguments
    warnings.showwarning = _show_note
    say_flags({}, ())
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stdout is None:  # closed; without something in its place a file of ours would become it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        try:
            build_app(arguments, is_program=is_program)(arguments, prog_name="softlab")
        finally:
            sys.stdout.flush()
    except SoftlabError as error:
        if is_first_to_fail():
            lines = with_flags(str(error)).splitlines()  # what another package says, in the middle, may have several
            say_beside(f"error: {' '.join(lines)}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()  # whoever read it has gone (`| head`)
        sys.exit(1)
    except Exception as error:
        told = explain_no_memory(error)
        if told is None and isinstance(error, OSError):
            told = _explain_refusal(error)
        if told is None:
            raise
        typer.echo(f"error: {told}", err=True)
        sys.exit(1)


def _explain_refusal(error: OSError) -> str | None:
    """What the system refused; None for an error that isn't the system's but of another package."""
    if error.filename is None and _is_output_refused():
        _drop_output()
        return f"standard output: can't be written: {error.strerror}. Send it to another place."
    if error.errno is None:
        return None
    where = "the system" if error.filename is None else error.filename
    return f"{where}: {error.strerror}. Mend that, then run the same command again to go on."


def _is_output_refused() -> bool:
    """Whether one more line can't be printed either."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_app(arguments: Container[str], *, is_program: bool = False) -> typer.Typer:
    """The program, importing only the commands that `arguments` name: torch alone takes seconds."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_softlab)
    for name, summary in COMMANDS.items():
        app.command(name, cls=_Command, short_help=summary)(
            _load(name, is_program=is_program) if name in arguments else _not_named
        )
    return app


class _Command(TyperCommand):
    """Takes any option as a flag under its key, and says of a flag that there isn't which option was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        kind = getattr(self.callback, "recipe_kind", None)
        if kind is None:
            return super().parse_args(ctx, args)
        from softlab.cli.key_flags import as_assignments  # most commands have no recipe, and start without it

        shown = [flag for parameter in self.params for flag in parameter.opts]
        try:
            return super().parse_args(ctx, as_assignments(args, kind, shown=shown))
        except TyperException as error:
            flag = getattr(error, "option_name", None)  # of the error for an unknown one, whose class isn't exported
            if flag is not None and (told := explain_flag(flag, kind)):
                error.message += f". {told}"
                error.possibilities = None  # type: ignore[attr-defined]
            raise


def _load(command: str, *, is_program: bool) -> Callable[..., Any]:
    with imported_for_good() if is_program else uncollected():
        function = load_command(command)

    @functools.wraps(function)
    def run(**options: Any) -> None:
        try:
            function(**options)
        except KeyboardInterrupt as interrupt:  # Typer makes it exit code 130, but drops its text
            if str(interrupt):
                say_beside(str(interrupt))
            raise

    return run


def _not_named() -> None:
    """Stands for a command in the list of `softlab --help`; it can't run, for then the arguments would name it."""


def _show_note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings as a note for the user; others as Python shows them."""
    is_ours = issubclass(category, SoftlabWarning)
    say_beside(f"note: {with_flags(str(message))}" if is_ours else f"{category.__name__}: {message}")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"softlab {version('softlab')}")
        raise typer.Exit


def _softlab(
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Offline soft labels for knowledge distillation: run the teacher once, train many students."""

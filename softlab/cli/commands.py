"""Where each command is: `dump-teacher` is the function `dump_teacher` in softlab/cli/dump_teacher.py."""

import importlib
from collections.abc import Callable
from typing import Any

FUNCTIONS = {"import": "import_predictions", "progress": "dump_progress"}
"""Of commands whose names no function can have, or another file has."""


def load_command(command: str) -> Callable[..., Any]:
    """Its function; imports what it needs."""
    name = FUNCTIONS.get(command, command.replace("-", "_"))
    function: Callable[..., Any] = getattr(importlib.import_module(f"softlab.cli.{name}"), name)
    return function

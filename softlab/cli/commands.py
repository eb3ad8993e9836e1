"""Where each command is: `dump-teacher` is the function `dump_teacher` in softlab/cli/dump_teacher.py."""

import importlib
from collections.abc import Callable
from typing import Any

FUNCTIONS = {"import": "import_predictions"}
"""Of commands whose names no function can have."""


def load_command(command: str) -> Callable[..., Any]:
    """Its function; imports what it needs."""
    name = FUNCTIONS.get(command, command.replace("-", "_"))
    function: Callable[..., Any] = getattr(importlib.import_module(f"softlab.cli.{name}"), name)
    return function

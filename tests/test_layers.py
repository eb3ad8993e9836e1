"""The layer table is kept by every import, also by those inside functions and under TYPE_CHECKING."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import softlab

# A room imports only from rows below its own; rooms of one row never import each other.
ROWS = """
    softlab | __main__
    cli
    recipe
    bench
    report
    teacher | student | sharing
    evaluation
    loading
    store | sources | views | models
    manifest
    remote
    labels | identity | keys | shards | ranks | disk
    errors
"""
HEIGHT = {room: -number for number, row in enumerate(ROWS.strip().splitlines()) for room in row.strip().split(" | ")}

# Packages whose interface is known to these files alone.
HOMES = {
    "typer": ("softlab.cli",),
    "obstore": ("softlab.remote.clients", "softlab.remote.object_store"),
    "boto3": ("softlab.remote.clients",),
    "fsspec": ("softlab.remote.hub",),
    "huggingface_hub": ("softlab.remote.hub",),
    "zarr": ("softlab.store.zarr_format",),
    "pyarrow": (
        "softlab.keys",
        "softlab.store.parquet_format",
        "softlab.store.samples",
        "softlab.store.pixel_digests",
        "softlab.sources.parquet",
    ),
    "model_signing": ("softlab.sharing.signatures",),
    "cryptography": ("softlab.sharing.signing_keys",),
}

ROOT = Path(softlab.__file__).parent


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def room(module: str) -> str:
    return ".".join(module.split(".")[1:2]) or "softlab"


def imported(module: str) -> Iterator[str]:
    """Full names of what a module imports; `from a import b` is `a.b` where that is a module of ours."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"{module}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_own_room_and_the_rows_below(module: str) -> None:
    ours = {name for name in imported(module) if name in MODULES}

    above = {name for name in ours if room(name) != room(module) and HEIGHT[room(name)] >= HEIGHT[room(module)]}
    assert not above


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_imported_only_where_it_is_at_home(package: str) -> None:
    users = {module for module in MODULES if package in {name.split(".")[0] for name in imported(module)}}

    strangers = {user for user in users if not any(f"{user}.".startswith(f"{home}.") for home in HOMES[package])}
    assert not strangers


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: {name for name in imported(module) if name in MODULES} for module in MODULES}

    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle

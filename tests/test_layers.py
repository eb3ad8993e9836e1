"""The layer table is kept by every import, also by those inside functions and under TYPE_CHECKING."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import softlab

# A room imports only from rows below its own; rooms of one row never import each other.
ROWS = """
    softlab | __main__ | testing
    cli
    recipes
    bench
    report
    teacher | student | sharing | integrations
    evaluation
    loading
    store
    models | modalities
    card
    manifest
    remote | sources | progress | predictions
    locks
    labels | identity | keys | shards | ranks | disk | users_code | foreign_parquet
    errors | imports | indices | amounts | plain_files | parquet_pages
"""
# The same for the folders of a room.
SHARING_ROWS = """
    sharing
    publish | fetch
    catalogue | signing
"""


def heights(rows: str) -> dict[str, int]:
    return {room: -number for number, row in enumerate(rows.strip().splitlines()) for room in row.strip().split(" | ")}


HOUSES = {"softlab": heights(ROWS), "softlab.sharing": heights(SHARING_ROWS)}

# Packages whose interface is known to these files alone.
HOMES = {
    "typer": ("softlab.cli",),
    "rich": ("softlab.cli", "softlab.progress"),
    "IPython": ("softlab.progress.notebook",),
    "obstore": ("softlab.remote.clients", "softlab.remote.object_store"),
    "boto3": ("softlab.remote.clients",),
    "fsspec": ("softlab.remote.hub",),
    "huggingface_hub": ("softlab.remote.hub",),
    "zarr": ("softlab.store.zarr_arrays",),
    "pyarrow": (
        "softlab.foreign_parquet",
        "softlab.keys",
        "softlab.predictions.coded_texts",
        "softlab.predictions.tables",
        "softlab.store.export",
        "softlab.store.key_join",
        "softlab.store.parquet_format",
        "softlab.store.samples",
        "softlab.store.pixel_digests",
        "softlab.sources.answers",
        "softlab.sources.parquet",
        "softlab.sources.cells",
        "softlab.sources.label_columns",
        "softlab.sources.label_sequences",
        "softlab.sources.label_sets",
    ),
    "datasets": ("softlab.sources.datasets_library",),
    "torchvision": ("softlab.modalities.images", "softlab.models"),
    "PIL": ("softlab.modalities.images", "softlab.models"),
    "pytest": ("softlab.testing",),
    "ray": ("softlab.teacher.engines.ray",),
    "peft": ("softlab.models.adapters",),
    "model_signing": ("softlab.sharing.signing.openssf",),
    "transformers": (
        "softlab.integrations.transformers",
        "softlab.modalities.text.tokenizer",
        "softlab.models.hugging_face",
    ),
    "soundfile": ("softlab.modalities.audio",),
    "soxr": ("softlab.modalities.audio",),
    "lmdb": ("softlab.loading.kept_images",),
    "simplejpeg": ("softlab.modalities.images.jpeg",),
    "tokenizers": ("softlab.modalities.text.tokenizer",),
    "cryptography": ("softlab.sharing.signing.keys",),
}

ROOT = Path(softlab.__file__).parent
PIPELINES = sorted((ROOT.parent / "pipelines").rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


INSIDE = [(house, module) for house in HOUSES for module in MODULES if f"{module}.".startswith(f"{house}.")]


def room(module: str, house: str) -> str:
    """In softlab.sharing: `publish` for softlab.sharing.publish.push, `sharing` for its own `__init__`."""
    parts, depth = module.split("."), len(house.split("."))
    return parts[min(depth, len(parts) - 1)]


def imported(module: str) -> Iterator[str]:
    """Full names of what a module imports."""
    return imported_in(MODULES[module])


def imported_in(path: Path) -> Iterator[str]:
    """Full names of what a file imports; `from a import b` is `a.b` where that is a module of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


@pytest.mark.parametrize(("house", "module"), INSIDE)
def test_a_module_imports_only_from_its_own_room_and_the_rows_below(house: str, module: str) -> None:
    own, height = room(module, house), HOUSES[house]
    rooms = {name: room(name, house) for name in imported(module) if (house, name) in INSIDE}

    above = {name for name, other in rooms.items() if other != own and height[other] >= height[own]}
    assert not above


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_imported_only_where_it_is_at_home(package: str) -> None:
    users = {module for module in MODULES if package in {name.split(".")[0] for name in imported(module)}}

    strangers = {user for user in users if not any(f"{user}.".startswith(f"{home}.") for home in HOMES[package])}
    assert not strangers


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: {name for name in imported(module) if name in MODULES} for module in MODULES}

    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_runs_recipes_and_never_imports_the_command_line(path: Path) -> None:
    assert not {name for name in imported_in(path) if f"{name}.".startswith("softlab.cli.")}


SELF_CONTAINED = ("softlab.modalities.audio", "softlab.modalities.pairs", "softlab.modalities.vectors")


@pytest.mark.parametrize("modality", SELF_CONTAINED)
def test_a_modality_of_one_folder_is_imported_by_no_file_outside_it(modality: str) -> None:
    outside = [module for module in MODULES if not f"{module}.".startswith(f"{modality}.")]

    assert not [user for user in outside if any(f"{name}.".startswith(f"{modality}.") for name in imported(user))]

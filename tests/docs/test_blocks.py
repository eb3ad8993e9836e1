"""Every code block of every page is run or read, in order, beside a part of the real data."""

import re
import shlex
import subprocess
import tomllib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

import softlab
from softlab.cli.main import main
from softlab.modalities.images.decode import decode_image
from softlab.recipes.building import recipe_from
from softlab.recipes.chain import COMMANDS as RECIPES
from softlab.recipes.toml import merged
from tests.docs.pages import LANGUAGES, PAGES, ROOT, Block, Page
from tests.student import language

FRONT = "README.md"
"""All other pages use what its commands make."""

LONG_PAGES = tuple(f"softlab/modalities/{name}/README.md" for name in ("audio", "text", "tokens"))
"""Whose blocks take a quarter of a minute or more."""

PARTS = {"train": 500, "test": 200}
"""So many images of each."""

LEAST: dict[str, dict[str, Any]] = {
    "dump-teacher": {
        "out": "store",
        "teacher": {"model": "softlab:grey_resnet"},
        "source": {"path": "data"},
    },
    "train-student": {
        "out": "run",
        "store": ["store"],
        "student": {"small": {"model": "softlab:grey_mlp"}},
        "source": {"path": "data"},
    },
}
"""What a recipe of a command needs."""


def your_own() -> dict[str, Any]:
    """What a loop of a reader's own has: a data set of torch, keys and bytes of its samples, a student."""
    rows = pq.read_table("data/fashion_mnist/train").to_pylist()
    student = softlab.build_model(softlab.ModelOptions(model="softlab:grey_mlp"))
    return {
        "softlab": softlab,
        "DataLoader": DataLoader,
        "store": softlab.open_store("runs/demo/train.zarr"),
        "dataset": [(decode_image(row["image"]["bytes"]) / 255, row["label"]) for row in rows],
        "keys": [row["image"]["path"] for row in rows],
        "read_bytes": lambda index: rows[index]["image"]["bytes"],
        "student": student,
        "optimizer": torch.optim.AdamW(student.parameters()),
    }


def your_views() -> dict[str, Any]:
    """And a store of augmented views, with the source that it was made from."""
    source = softlab.open_source("data/fashion_mnist/test")
    teacher = softlab.build_model(softlab.ModelOptions(model="softlab:grey_mlp"))
    augment = softlab.ViewRecipe(transforms=("RandomCrop(28, padding=2)",))
    softlab.dump_teacher(teacher, source, "runs/own-views", softlab.DumpOptions(k=4, views=2), augment=augment)
    return your_own() | {"source": source, "store": softlab.open_store("runs/own-views")}


def your_tokens() -> dict[str, Any]:
    """A store of a language model's rows, its tokenizer, and a student of transformers."""
    import transformers

    from softlab.integrations.transformers import DistillationOptions, DistillationTrainer

    folder = Path("runs/own-tokens")
    folder.mkdir(parents=True)
    source, input = language.open_documents(folder)
    store = language.dump_documents(folder / "store", source, input, teacher=language.small_model(seed=0, scale=3.0))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.pad_token = "</s>"
    quiet = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False}
    return {
        "softlab": softlab,
        "DataLoader": DataLoader,
        "DistillationOptions": DistillationOptions,
        "DistillationTrainer": DistillationTrainer,
        "DataCollatorForLanguageModeling": transformers.DataCollatorForLanguageModeling,
        "TrainingArguments": partial(transformers.TrainingArguments, **quiet),
        "store": store,
        "tokenizer": tokenizer,
        "student": language.small_llama(),
    }


YOURS: dict[str, Callable[[], dict[str, Any]]] = {
    "own-loop": your_own,
    "own-views": your_views,
    "own-tokens": your_tokens,
}
"""By the name of a block: what it takes to be there."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as that of the project, but with fewer images, where the first page was run."""
    root = tmp_path_factory.mktemp("workplace")
    for name in ("pipelines", "tests"):
        (root / name).symlink_to(ROOT / name)
    data, whole = root / "data/fashion_mnist", ROOT / "data/fashion_mnist"
    for name, count in PARTS.items():
        (file,) = (whole / name).glob("*.parquet")
        (data / name).mkdir(parents=True)
        pq.write_table(pq.read_table(file).slice(0, count), data / name / file.name)
    (data / "teacher.safetensors").symlink_to(whole / "teacher.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(warnings, "showwarning", warnings.showwarning)  # the program puts its own there
        run_page(PAGES[FRONT])
        yield root


@pytest.mark.process
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LONG_PAGES else ())
        for name, page in PAGES.items()
        if page.blocks
    ],
)
def test_every_block_of_a_page_runs(name: str) -> None:
    if name != FRONT:  # which the fixture has run
        run_page(PAGES[name])


def run_page(page: Page) -> None:
    names: dict[str, Any] = {}
    for block in page.blocks:
        if block.language == "console":
            for command in block.commands:
                run_command(command, where=block.place)
        elif block.language == "python":
            names |= YOURS[block.words]() if block.words else {}
            lines_before = "\n" * block.line  # so that a traceback tells the line of the page
            exec(compile(lines_before + block.text, page.name, "exec"), names)
        elif block.language == "toml":
            read_recipe(block)


def run_command(command: str, *, where: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "openssl":
        subprocess.run([program, *arguments], check=True, capture_output=True)
        return
    assert program == "softlab", f"{where}: {command}"
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None), f"{where}: {command}"


def read_recipe(block: Block) -> None:
    """A whole one goes to the file that its first line names."""
    command = block.words.removeprefix("part of ")
    given = tomllib.loads(block.text)
    whole = given if command == block.words else merged(LEAST[command], given)
    recipe_from(RECIPES[command], whole, where=block.place)
    path = re.match(r"# (runs/\S+\.toml)\n", block.text)
    if path:
        Path(path[1]).parent.mkdir(parents=True, exist_ok=True)
        Path(path[1]).write_text(block.text)


def test_every_block_says_what_it_is() -> None:
    for page in PAGES.values():
        for block in page.blocks:
            assert block.language in LANGUAGES, block.place
            if block.language == "toml":
                assert block.words.removeprefix("part of ") in RECIPES, block.place
            if block.language == "console":
                assert all(line.startswith("$ ") for line in block.lines), block.place


def test_what_a_reader_brings_along_is_for_a_block_that_there_is() -> None:
    blocks = [block for page in PAGES.values() for block in page.blocks if block.language == "python" and block.words]

    assert {block.words for block in blocks} == YOURS.keys()


def test_what_commands_that_are_only_shown_name_exists() -> None:
    makefile, project = (ROOT / "Makefile").read_text(), tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for page in PAGES.values():
        for command in (command for block in page.blocks if block.language == "sh" for command in block.commands):
            match shlex.split(command):
                case ["make", *words]:
                    targets = [word for word in words if "=" not in word]
                    assert all(f"\n{target}: " in makefile for target in targets), command
                case ["pip", "install", what]:
                    found = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
                    assert found, command
                    assert found[1] is None or found[1] in extras, command
                case ["python", "-m", module, *options]:
                    check_script(ROOT / f"{module.replace('.', '/')}.py", options)
                case ["python", path, *options]:
                    check_script(ROOT / path, options)
                case _:
                    pytest.fail(f"{page.name}: {command}: say how this is looked at")


def check_script(path: Path, options: list[str]) -> None:
    text = path.read_text()
    assert all(f'"{option}"' in text for option in options if option.startswith("--")), path

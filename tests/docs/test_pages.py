"""Pages lead to each other, and leave nothing out."""

import re
import shlex
from pathlib import Path

import pytest
import typer

import softlab
from softlab.cli.key_flags import flags_of_keys
from softlab.cli.main import COMMANDS, build_app
from softlab.cli.options import RECIPE_COMMANDS, recipe_kind
from tests.docs.pages import PAGES, ROOT, Page, read_page

README = PAGES["README.md"]


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_somewhere(name: str) -> None:
    page = PAGES[name]

    assert [link for link in page.links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Page, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.folder / path).resolve() if path else ROOT / page.name
    if not target.exists():
        return False
    return not anchor or anchor in read_page(target.relative_to(ROOT).as_posix()).anchors


def test_every_page_is_reached_from_the_first_one() -> None:
    reached: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in PAGES:
            continue
        reached.add(name)
        paths = [link.partition("#")[0] for link in PAGES[name].links]
        targets = [(PAGES[name].folder / path).resolve() for path in paths if path]
        waiting += [target.relative_to(ROOT).as_posix() for target in targets]

    assert reached >= PAGES.keys() - {"CHANGELOG.md"}


def test_the_first_page_is_short() -> None:
    assert README.text.count("\n") <= 130


def test_every_folder_and_file_of_softlab_is_in_the_tree_of_the_first_page() -> None:
    (tree,) = (block.text for block in README.blocks if block.text.startswith("softlab/\n"))
    listed = {line.split()[0] for line in tree.splitlines() if line.startswith("  ")}

    root = Path(softlab.__file__).parent
    there = {f"{path.name}/" for path in root.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    there |= {path.name for path in root.glob("*.py") if not path.name.startswith("__")}
    assert listed == there


def test_every_command_is_run_by_some_page() -> None:
    blocks = [block for page in PAGES.values() for block in page.blocks if block.language == "console"]
    run = {shlex.split(command)[1] for block in blocks for command in block.commands if command.startswith("softlab ")}

    assert run == set(COMMANDS)


def test_every_flag_that_a_page_names_exists() -> None:
    known = flags_of_all_commands() | flags_of_keys_of_recipes() | flags_of_scripts() | {"--help", "--set"}
    for page in PAGES.values():
        if page.name in ("CHANGELOG.md", "CONTRIBUTING.md"):
            continue
        named = {
            flag
            for code in page.code_in_prose
            if not code.startswith(("torchrun", "python", "pip", "make"))
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)
        }
        assert named - known == set(), page.name


def flags_of_all_commands() -> set[str]:
    """Those that `--help` shows."""
    program = typer.main.get_command(build_app(COMMANDS))
    commands = program.commands.values()  # type: ignore[attr-defined]
    return {flag for command in commands for each in command.params for flag in (*each.opts, *each.secondary_opts)}


def flags_of_keys_of_recipes() -> set[str]:
    return {flag for command in RECIPE_COMMANDS for flag in flags_of_keys(recipe_kind(command))}


def flags_of_scripts() -> set[str]:
    scripts = [*(ROOT / "pipelines").rglob("*.py"), ROOT / "tests/benchmarks/run.py"]
    return {flag for path in scripts for flag in re.findall(r'add_argument\("(--[a-z-]+)"', path.read_text())}


def test_no_figure_is_left_to_be_filled_in() -> None:
    for page in PAGES.values():
        assert re.findall(r"[A-Z]+_[A-Z]+|TODO", re.sub(r"`[^`]*`", "", page.prose)) == [], page.name

from pathlib import Path

import pytest

from softlab.errors import InvalidOption
from softlab.recipes.toml import merged, read_toml


def test_a_file_that_is_not_there_is_an_invalid_option(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"none\.toml: can't read this recipe .* Give the path of a TOML file\."):
        read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"out = 'a", b"out = 'a'\nout = 'b'", b"out = '\xff'"])
def test_a_file_that_is_not_toml_is_an_invalid_option(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)

    with pytest.raises(InvalidOption, match=r"recipe\.toml: not valid TOML: .* Correct the recipe there\."):
        read_toml(path)


def test_merged_tables_have_what_both_name_from_the_later_one() -> None:
    table = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": {"g": 3}}

    both = merged(table, {"a": {"c": {"d": 4, "h": 5}}, "e": [6], "f": 7})

    assert both == {"a": {"b": 1, "c": {"d": 4, "h": 5}}, "e": [6], "f": 7}
    assert table == {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": {"g": 3}}

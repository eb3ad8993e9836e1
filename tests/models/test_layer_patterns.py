import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.models.layer_patterns import Fit, check_pattern, fit, suggest_pattern, with_number

parts = st.text("abz_19-", min_size=1, max_size=4)
dotted_names = st.lists(parts, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("head", "head", Fit(layer="head", number=None, below="")),
        ("head", "head.weight", Fit(layer="head", number=None, below=".weight")),
        ("head", "header.weight", None),
        ("head", "old.head.weight", None),
        ("head.weight", "head.weight", Fit(layer="head.weight", number=None, below="")),
        ("head.weight", "headxweight", None),  # a dot is a dot
        ("blocks.{i}", "blocks.3.norm.weight", Fit(layer="blocks.3", number=3, below=".norm.weight")),
        ("blocks.{i}", "blocks.10", Fit(layer="blocks.10", number=10, below="")),
        ("blocks.{i}", "blocks", None),
        ("blocks.{i}", "blocks.norm", None),
        ("blocks.{i}", "blocks.3b.norm", None),
        ("blocks.{i}", "blocks.03.norm", None),  # 3 would not name it again
        ("blocks.{i}.norm", "blocks.0.norm.bias", Fit(layer="blocks.0.norm", number=0, below=".bias")),
        ("layer{i}.0", "layer4.0.conv1", Fit(layer="layer4.0", number=4, below=".conv1")),
        ("layer{i}", "layers.4", None),
    ],
)
def test_a_pattern_fits_a_layer_and_what_is_in_it(pattern: str, name: str, expected: Fit | None) -> None:
    assert fit(pattern, name) == expected


@given(dotted_names, dotted_names)
def test_a_name_without_a_number_fits_as_a_prefix_of_whole_parts(pattern: str, name: str) -> None:
    pattern_parts, name_parts = pattern.split("."), name.split(".")

    found = fit(pattern, name)

    assert (found is not None) == (name_parts[: len(pattern_parts)] == pattern_parts)
    if found is not None:
        assert found.layer + found.below == name


@given(dotted_names, st.integers(0, 200), dotted_names)
def test_a_layer_with_its_number_filled_in_fits_its_pattern_again(before: str, number: int, after: str) -> None:
    pattern = f"{before}.{{i}}.{after}"

    found = fit(pattern, with_number(pattern, number) + ".weight")

    assert found == Fit(layer=f"{before}.{number}.{after}", number=number, below=".weight")


@pytest.mark.parametrize("pattern", ["head", "head.0", "blocks.{i}", "layer{i}.conv1", "stage-1.blocks.{i}.attn"])
def test_names_of_layers_are_patterns(pattern: str) -> None:
    check_pattern(pattern, option="map")


@pytest.mark.parametrize(
    "pattern", ["", ".", "head.", ".head", "a..b", "blocks.*", "blocks.{j}", "{i}.blocks.{i}", "a b", "blocks.{i"]
)
def test_what_is_not_the_name_of_a_layer_is_refused(pattern: str) -> None:
    message = re.escape(f"fresh: {pattern!r} isn't the name of a layer. Write one like layer4.1 or blocks.{{i}}")
    with pytest.raises(InvalidOption, match=message):
        check_pattern(pattern, option="fresh")


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("block.{i}", "Did you mean blocks.{i}"),
        ("blocks.{i}.norm3", "Did you mean blocks.{i}.norm"),
        ("haed", "Did you mean head?"),
        ("xyz", "Known: blocks, blocks.0, blocks.0.norm"),
    ],
)
def test_a_pattern_that_fits_nothing_gets_the_nearest_layers(pattern: str, nearest: str) -> None:
    names = ["blocks.0.norm.weight", "blocks.1.norm.weight", "head.weight"]

    assert suggest_pattern(pattern, names).startswith(nearest)

from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.sources import SourceOptions


@pytest.mark.parametrize(
    ("wrong", "next_step"),
    [
        ({"path": ""}, "`source.path` is empty"),
        ({"kind": "parket"}, "Did you mean parquet?"),
        ({"limit": 0}, "Set `source.limit` to 1 or more"),
        ({"image_column": ""}, "Set `source.image_column`"),
        ({"class_names": ("cat", "dog", "cat")}, "Name each class folder once"),
    ],
)
def test_a_wrong_option_is_refused_when_it_is_built(wrong: dict[str, Any], next_step: str) -> None:
    with pytest.raises(InvalidOption, match=next_step):
        SourceOptions(**{"path": "images", **wrong})

"""What can't be tried is refused before the first step, not when it is first chosen."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption, SoftlabError, StoreMismatch
from softlab.store.reader import Store
from tests.student.pictures import make_store
from tests.student.searching import find


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ({"trials": 0}, InvalidOption, "search.trials = 0, search.together = 2: expected 1 or more of both."),
        ({"together": 0}, InvalidOption, "search.trials = 4, search.together = 0: expected 1 or more of both."),
        ({"loss": ()}, InvalidOption, "search.loss = (): expected one or more. Give `search.loss`, or leave it out."),
        (
            {"alpha": (0.9, 0.1)},
            InvalidOption,
            "search.alpha = (0.9, 0.1): expected a lowest and a highest value, 0 to 1. Change `search.alpha`.",
        ),
        ({"alpha": (0.5,)}, InvalidOption, "search.alpha = (0.5,): expected a lowest and a highest value, 0 to 1."),
        ({"loss": ("kl", "bce")}, StoreMismatch, "bce is for teachers with a sigmoid head"),
        ({"temperature": (4.0, 0.5)}, InvalidOption, "temperature 0.5: the stored temperatures are 1, 2, 4"),
        ({"temperature": (4.0, -1.0)}, InvalidOption, "loss.temperature = -1.0: expected a positive number."),
    ],
)
def test_what_can_not_be_tried_is_refused_before_the_first_step(
    tmp_path: Path, what: dict[str, Any], error: type[SoftlabError], message: str
) -> None:
    narrow = make_store(tmp_path / "narrow", k=3)

    with pytest.raises(error, match=f"^{re.escape(message)}"):
        find(narrow, tmp_path / "out", **what)

    assert not (tmp_path / "out").exists()


def test_a_mixture_that_a_loss_can_not_learn_from_is_refused_before_the_first_step(
    first: Store, second: Store, tmp_path: Path
) -> None:
    with pytest.raises(InvalidOption, match="mse compares raw logits, which a mixture of probabilities lacks"):
        find([first, second], tmp_path)


def test_a_search_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"a search needs a store: .* Give `store`\."):
        find([], tmp_path)


@pytest.mark.parametrize("package", ["optuna", "tomli_w"])
def test_a_search_without_its_packages_says_what_to_install(
    first: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(InvalidOption, match=r"Run pip install 'softlab\[search\]'\."):
        find(first, tmp_path)

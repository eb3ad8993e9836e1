import subprocess
import sys
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from softlab.errors import InvalidOption
from softlab.sources import Source, hard_targets


@dataclass
class Labelled:
    targets: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    name: str = "memory:labelled"


def source(*names: str) -> Source:
    return cast(Source, Labelled({name: np.full(3, place) for place, name in enumerate(names)}))


def test_the_only_hard_targets_are_those_of_a_run() -> None:
    only = hard_targets(source("label"))

    assert only is not None
    assert only.tolist() == [0, 0, 0]
    assert hard_targets(source()) is None


def test_of_several_the_named_ones_are_taken() -> None:
    named = hard_targets(source("fine", "coarse"), "coarse")

    assert named is not None
    assert named.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("names", "name", "message"),
    [
        (("fine", "coarse"), None, "has the hard targets fine, coarse. Name one of them"),
        (("fine",), "fin", "has no hard targets 'fin'. Did you mean fine?"),
    ],
)
def test_targets_that_are_not_told_apart_are_refused(names: tuple[str, ...], name: str | None, message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        hard_targets(source(*names), name)

    assert message in str(caught.value)


@pytest.mark.process
def test_sources_know_neither_torch_nor_images() -> None:
    code = (
        "import sys, softlab.sources.folder, softlab.sources.parquet, softlab.sources.subset\n"
        "assert not {'torch', 'torchvision', 'PIL'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", code], check=True)

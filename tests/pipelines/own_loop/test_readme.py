"""What the page beside the examples says: its lines run, and it lists every example."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import softlab
from tests.loading.own_data import WHOLE, OwnData, dump_plain
from tests.loading.seen import dump_what_is_seen

FOLDER = Path(__file__).parents[3] / "pipelines" / "own_loop"
README = (FOLDER / "README.md").read_text()
PLAIN, OF_VIEWS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(lines: str, names: dict[str, Any]) -> Any:
    """What the last line leaves as `loss`."""
    given = {"softlab": softlab, "DataLoader": DataLoader, "epochs": 2} | names
    exec(compile(lines, "README.md", "exec"), given)
    return given["loss"]


def test_its_lines_train_on_samples_as_they_are(tmp_path: Path) -> None:
    names = {
        "store": dump_plain(tmp_path / "store"),
        "keys": WHOLE.keys,
        "read_bytes": lambda index: WHOLE.read(index).fields["image"].tobytes(),  # type: ignore[union-attr]
        "my_dataset": OwnData("tuple"),
        "model": lambda images: nn.Flatten()(images.float()).requires_grad_(),
    }

    loss = run(PLAIN, names)

    assert loss.requires_grad


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")
def test_its_lines_train_on_views(tmp_path: Path) -> None:
    names = {"source": WHOLE, "store": dump_what_is_seen(tmp_path / "store", WHOLE), "model": nn.Flatten()}

    loss = run(OF_VIEWS.replace("(0.286,)", "(0.5,)").replace("(0.353,)", "(0.5,)"), names)

    torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-4, rtol=0)  # as the teacher is nn.Flatten too


def test_it_lists_every_example_and_how_to_run_it() -> None:
    examples = {path.name for path in FOLDER.glob("*.py")}

    assert set(re.findall(r"\]\((\w+\.py)\)", README)) == examples
    assert set(re.findall(r"`[a-z ]*pipelines/own_loop/(\w+\.py)`", README)) == examples - {"fashion.py"}

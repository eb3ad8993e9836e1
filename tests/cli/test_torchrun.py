"""`train-student` under torchrun: one run in several processes that share each batch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.program import DATA, ROOT, Softlab, train

pytestmark = pytest.mark.process

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "softlab")


@pytest.mark.slow
def test_two_processes_print_one_table_and_write_the_results_of_one(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    valid = ("--valid", str(DATA / "test"), "--set", "valid.limit=100", "--device", "cpu")
    together, alone = tmp_path / "together", tmp_path / "alone"
    command = [*TORCHRUN, *map(str, train(stores / "train.zarr", together, *valid))]

    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    expected = softlab(*train(stores / "train.zarr", alone, *valid))

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("Students of") == 1
    assert figures(ended.stdout) == figures(expected.out)
    ours, theirs = (json.loads((out / "summary.json").read_text()) for out in (together, alone))
    assert [result["name"] for result in ours] == ["mlp"]
    assert ours[0]["last"]["values"]["accuracy"] == theirs[0]["last"]["values"]["accuracy"]
    assert len((together / "metrics.jsonl").read_text().splitlines()) == 1
    assert sorted(path.name for path in together.iterdir()) == sorted(path.name for path in alone.iterdir())
    weights, others = (load_file(out / "mlp/last.safetensors") for out in (together, alone))
    torch.testing.assert_close(weights, others, rtol=1e-4, atol=1e-5)


def figures(table: str) -> list[str]:
    """The row of the student, without its time."""
    (row,) = [line for line in table.splitlines() if line.startswith("mlp")]
    figures, count = re.subn(r" [\d.]+ s ", " ", row)
    assert count == 1
    return figures.split()

"""The recipes of schedulers: what they would start is started here, with what a scheduler would tell it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from softlab.store.dump_state import dump_state
from softlab.store.reader import open_store
from tests.cli.program import ROOT

yaml = pytest.importorskip("yaml")  # comes with transformers
FOLDER = ROOT / "pipelines/many_machines"
OPTIONS = "--limit 96 --shard-rows 32 --device cpu"

SRUN = """#!/bin/sh
# Starts two tasks, as srun does.
shift
export SLURM_STEP_ID=0 SLURM_NTASKS=2
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" & second=$!
wait $first && wait $second
"""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def container(name: str) -> dict[str, Any]:
    (job,) = documents(name)
    (found,) = job["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.process
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_one_of_the_shell(path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0


def test_as_many_pods_are_started_as_there_are_shares() -> None:
    (job,) = documents("kubernetes.yaml")

    (command,) = container("kubernetes.yaml")["args"]
    assert command.endswith(f"--shards $JOB_COMPLETION_INDEX/{job['spec']['completions']}")


# The commands themselves.


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs a command where `softlab` and `srun` are programs, `/shared` is a folder of the test, and images are few."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "softlab").write_text(
        f'#!/bin/sh\ncase "$1" in dump-teacher) exec {sys.executable} -m softlab "$@" {OPTIONS};; '
        f'*) exec {sys.executable} -m softlab "$@";; esac\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)

    def run_it(*command: str, **told: object) -> None:
        environment = os.environ | {name: str(value) for name, value in told.items()}
        environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    return run_it


RECIPE = "pipelines/fashion_mnist/dump.toml"


@pytest.mark.process
@pytest.mark.slow
def test_all_of_them_make_the_same_store(tmp_path: Path, run: Any) -> None:
    alone = tmp_path / "alone.zarr"
    run("softlab", "dump-teacher", RECIPE, "--out", str(alone))

    array, tasks = tmp_path / "array.zarr", tmp_path / "tasks.zarr"
    for index in (1, 0):
        told = {"SLURM_ARRAY_TASK_ID": index, "SLURM_ARRAY_TASK_COUNT": 2}
        run("bash", str(FOLDER / "slurm_array.sh"), RECIPE, str(array), **told)
    run("softlab", "finalize", str(array))
    run("bash", str(FOLDER / "slurm_tasks.sh"), RECIPE, str(tasks))

    pods, nodes = tmp_path / "pods", tmp_path / "nodes"
    for folder in (pods, nodes):
        folder.mkdir()
        (folder / "dump.toml").write_text((ROOT / RECIPE).read_text())
    (command,), (finish,) = (container(name)["args"] for name in ("kubernetes.yaml", "kubernetes_finalize.yaml"))
    for index in (2, 0, 1):
        run("sh", "-c", command.replace("/shared", str(pods)), JOB_COMPLETION_INDEX=index)
    run("sh", "-c", finish.replace("/shared", str(pods)))
    (sky,) = documents("skypilot.yaml")
    for rank in (1, 0):
        told = {"SKYPILOT_NODE_RANK": rank, "SKYPILOT_NUM_NODES": 2}
        run("sh", "-c", sky["run"].replace("/shared", str(nodes)), **told)

    assert dump_state(nodes / "train.zarr").missing == ""
    run("softlab", "finalize", str(nodes / "train.zarr"))
    stores = (array, tasks, pods / "train.zarr", nodes / "train.zarr")
    assert {open_store(store).digest for store in stores} == {open_store(alone).digest}

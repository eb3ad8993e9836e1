import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from torch import nn

from softlab.errors import (
    DamagedCheckpoint,
    DamagedStore,
    ModelError,
    StoreBusy,
    StoreExists,
    StoreMismatch,
    StoreWriteFailed,
)
from softlab.evaluation.evaluation import Evaluation
from softlab.models import load_weights
from softlab.ranks import Ranks
from softlab.student.position import Position
from softlab.student.pruning import Sparsity
from softlab.student.run_folder import RunFolder, StudentResult, holding

RUN: dict[str, Any] = {"run": {"epochs": 2, "seed": 0}, "stores": ["abc"], "input": {"mean": (0.5,)}}
GOOD = Evaluation(rows=10, values={"accuracy": 0.75, "teacher_kl": 0.1 + 0.2})
STATE = {"weight": torch.arange(6.0).reshape(2, 3), "losses": torch.tensor(7), "mask": torch.arange(5).byte()}


def make_position(step: int, *, metrics_bytes: int = 0) -> Position:
    return Position(
        step=step,
        metrics_bytes=metrics_bytes,
        best={"small": GOOD},
        last={"small": GOOD},
        train_loss={"small": 1 / 3},
        seconds={"small": 1.5},
        errors={"other": "its loss is nan"},
    )


def make_result() -> StudentResult:
    return StudentResult(
        name="small", num_parameters=6, train_loss=1 / 3, last=GOOD, best=None, best_by="accuracy", seconds=1.5
    )


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


# Beginning, and going on with the same run only.


@pytest.mark.parametrize("exists", [False, True])
def test_a_run_begins_in_a_new_or_an_empty_folder(tmp_path: Path, exists: bool) -> None:
    root = tmp_path / "runs" / "one"
    if exists:
        root.mkdir(parents=True)

    folder = RunFolder(root, RUN)

    assert files(root) == ["run.json"]
    assert folder.position() is None
    assert folder.results() is None


def test_the_same_run_is_gone_on_with(tmp_path: Path) -> None:
    RunFolder(tmp_path, RUN)

    RunFolder(tmp_path, RUN)


def test_another_run_begins_anew_while_there_is_no_checkpoint(tmp_path: Path) -> None:
    """The first command may have been refused at its first step; the corrected one must not be held to it."""
    RunFolder(tmp_path, RUN)

    assert RunFolder(tmp_path, RUN | {"run": {"epochs": 3, "seed": 0}}).position() is None


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    RunFolder(tmp_path, RUN).save_state({"small": STATE}, make_position(5))

    with pytest.raises(StoreMismatch) as caught:
        RunFolder(tmp_path, RUN | {"run": {"epochs": 3, "seed": 0}})
    assert "epochs" in str(caught.value)
    assert "seed" not in str(caught.value)
    assert str(caught.value).endswith(
        "Repeat the first command to go on with it, choose another `out`, or say `log.resume = no` to remove it."
    )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(StoreExists, match="Choose another `out`"):
        RunFolder(tmp_path, RUN)
    assert files(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")

    with pytest.raises(StoreExists, match="Choose another `out`"):
        RunFolder(tmp_path / "run", RUN)


def test_a_run_that_was_killed_while_it_wrote_its_first_file_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "run.json.0123456789ab.tmp").write_bytes(b"{")

    assert RunFolder(tmp_path, RUN).position() is None
    assert files(tmp_path) == ["run.json"]


# Positions and states.


def test_position_and_states_come_back_to_the_bit(tmp_path: Path) -> None:
    RunFolder(tmp_path, RUN).save_state({"small": STATE}, make_position(5))

    folder = RunFolder(tmp_path, RUN)
    position = folder.position()

    assert position == make_position(5)
    assert position is not None
    state = folder.load_state(position, "small")
    assert state.keys() == STATE.keys()
    assert all(state[name].equal(tensor) and state[name].dtype == tensor.dtype for name, tensor in STATE.items())


def test_only_the_last_two_states_are_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    for step in (2, 5, 9):
        folder.save_state({"small": STATE, "large": STATE}, make_position(step))

    assert files(tmp_path / "resume") == ["position.json"] + [
        f"step-{step}/{name}"
        for step in ("00000005", "00000009")
        for name in ("large.safetensors", "position.json", "small.safetensors")
    ]
    assert (tmp_path / "resume/position.json").read_bytes() == (
        tmp_path / "resume/step-00000009/position.json"
    ).read_bytes()


def test_a_half_written_state_does_not_count(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.save_state({"small": STATE}, make_position(5))
    later = tmp_path / "resume" / "step-00000009.0123456789ab.tmp"
    later.mkdir()
    (later / "small.safetensors").write_bytes(b"half of it")

    position = RunFolder(tmp_path, RUN).position()

    assert position is not None
    assert position.step == 5
    assert folder.load_state(position, "small")["losses"] == 7


def test_half_written_files_are_removed_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.save_state({"small": STATE}, make_position(5))
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "best.safetensors.0123456789ab.tmp").write_bytes(b"half")

    folder.position()

    assert not [name for name in files(tmp_path) if name.endswith(".tmp")]
    assert (tmp_path / "resume" / "step-00000005" / "small.safetensors").exists()


def test_a_run_that_is_begun_anew_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    """Neither its curves nor a checkpoint that was being written when it was killed, of which one file was whole."""
    folder = RunFolder(tmp_path, RUN | {"students": {"small": {}}})
    folder.save_state({"small": STATE}, make_position(5))
    folder.save_weights("small", "best", {"weight": STATE["weight"]}, {})
    for name in ("tensorboard/events", "wandb/id", "resume/step-00000009.0123456789ab.tmp/small.safetensors"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("of before")

    RunFolder(tmp_path, RUN, begin_anew=True)

    assert files(tmp_path) == ["run.json"]


def test_a_run_that_cannot_be_removed_whole_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path, RUN | {"students": {"small": {}}})
    folder.save_weights("small", "best", {"weight": STATE["weight"]}, {})

    def refuse(path: str, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(StoreWriteFailed, match="Permission denied"):
            RunFolder(tmp_path, RUN, begin_anew=True)
    RunFolder(tmp_path, RUN, begin_anew=True)

    assert files(tmp_path) == ["run.json"]


def test_of_a_link_in_a_run_the_link_goes(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", RUN)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/events").write_text("of another")
    (tmp_path / "run/tensorboard").symlink_to(tmp_path / "elsewhere")

    RunFolder(tmp_path / "run", RUN, begin_anew=True)

    assert files(tmp_path / "run") == ["run.json"]
    assert (tmp_path / "elsewhere/events").read_text() == "of another"


# Damage.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
CHECKPOINT_FILES = ["position.json", "small.safetensors"]


def two_checkpoints(root: Path) -> None:
    folder = RunFolder(root, RUN)
    for step in (5, 9):
        folder.append_metrics({"epoch": step})
        folder.save_state({"small": STATE}, make_position(step, metrics_bytes=folder.metrics_bytes))


@DAMAGE
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    two_checkpoints(tmp_path)
    damage(tmp_path / "resume/step-00000009" / name)
    folder = RunFolder(tmp_path, RUN)

    with pytest.warns(DamagedCheckpoint, match=rf"step-00000009/{name}: .*goes on from the checkpoint before, step 5"):
        position = folder.position()

    assert position is not None
    assert position.step == 5
    assert folder.load_state(position, "small")["weight"].equal(STATE["weight"])
    assert metrics(tmp_path) == [{"epoch": 5}]
    assert not (tmp_path / "resume/step-00000009").exists()


@DAMAGE
@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_where_no_whole_checkpoint_is_left_one_line_says_what_helps(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    two_checkpoints(tmp_path)
    for step in tmp_path.glob("resume/step-*"):
        damage(step / name)

    with pytest.raises(DamagedStore, match=rf"step-00000009/{name}: .*`log.resume = no` to begin anew\.$"):
        RunFolder(tmp_path, RUN).position()

    assert RunFolder(tmp_path, RUN, begin_anew=True).position() is None


def test_a_damaged_copy_of_the_newest_position_harms_nothing(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    empty(tmp_path / "resume/position.json")

    position = RunFolder(tmp_path, RUN).position()

    assert position is not None
    assert position.step == 9


def flip_first(path: Path) -> None:
    path.write_bytes(b"[" + path.read_bytes()[1:])


@pytest.mark.parametrize("damage", [flip_first, empty, Path.unlink])
def test_damaged_metrics_are_said(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    two_checkpoints(tmp_path)
    damage(tmp_path / "metrics.jsonl")

    with pytest.raises(DamagedStore, match=r"metrics.jsonl: its first .* bytes are not those"):
        RunFolder(tmp_path, RUN).position()


def test_metrics_that_lost_their_end_are_those_of_the_checkpoint_before(tmp_path: Path) -> None:
    two_checkpoints(tmp_path)
    cut(tmp_path / "metrics.jsonl")

    with pytest.warns(DamagedCheckpoint, match=r"metrics.jsonl: its first .* from the checkpoint before, step 5"):
        RunFolder(tmp_path, RUN).position()

    assert metrics(tmp_path) == [{"epoch": 5}]


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("damage", [cut, empty, endless])
@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_a_damaged_record_is_said_with_what_helps(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = RunFolder(tmp_path, RUN | {"students": {"small": {}}})
    folder.save_weights("small", "last", {"weight": STATE["weight"]}, {})
    folder.finish([make_result()])
    damage(tmp_path / name)

    with pytest.raises(DamagedStore, match=rf"{name}: is damaged .*`log.resume = no` to begin anew\.$"):
        RunFolder(tmp_path, RUN | {"students": {"small": {}}}).results()

    RunFolder(tmp_path, RUN, begin_anew=True)
    assert files(tmp_path) == ["run.json"]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_weights_with_a_changed_bit_are_refused(tmp_path: Path, place: float) -> None:
    module, path = nn.Linear(64, 8), tmp_path / "small/best.safetensors"
    RunFolder(tmp_path, RUN).save_weights("small", "best", module.state_dict(), {})
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)

    with pytest.raises(ModelError, match=re.escape(str(path))):
        load_weights(nn.Linear(64, 8), path)


def test_one_process_trains_into_a_folder(tmp_path: Path) -> None:
    with holding(tmp_path / "run"):
        RunFolder(tmp_path / "run", RUN)
        with (
            pytest.raises(StoreBusy, match=r"run: another process is writing this training run\. Wait"),
            holding(tmp_path / "run"),
        ):
            pass

    with holding(tmp_path / "run"):
        RunFolder(tmp_path / "run", RUN).finish([make_result()])
    assert files(tmp_path / "run") == ["run.json", "summary.json"]


# Metrics.


def metrics(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]


def test_metrics_after_the_position_are_cut_off(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.append_metrics({"epoch": 1})
    folder.save_state({"small": STATE}, make_position(5, metrics_bytes=folder.metrics_bytes))
    folder.append_metrics({"epoch": 2, "valid": {"accuracy": 0.5}})

    RunFolder(tmp_path, RUN).position()

    assert metrics(tmp_path) == [{"epoch": 1}]


def test_more_metrics_than_there_are_is_damage_and_never_filled_up(tmp_path: Path) -> None:
    """Though the position vouches for itself."""
    folder = RunFolder(tmp_path, RUN)
    folder.append_metrics({"epoch": 1})
    folder.save_state({"small": STATE}, make_position(5, metrics_bytes=1 << 48))
    size = (tmp_path / "metrics.jsonl").stat().st_size

    with pytest.raises(DamagedStore, match=r"metrics\.jsonl: its first 281,474,976,710,656 bytes are not those"):
        RunFolder(tmp_path, RUN).position()

    assert (tmp_path / "metrics.jsonl").stat().st_size == size


def test_metrics_of_a_run_that_has_no_position_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    assert folder.metrics_bytes == 0
    folder.append_metrics({"epoch": 1})

    RunFolder(tmp_path, RUN).position()

    assert not (tmp_path / "metrics.jsonl").exists()


# Several processes.


def test_only_the_first_process_writes_and_cleans_up(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", RUN, ranks=Ranks(rank=1))
    assert not (tmp_path / "run").exists()

    folder = RunFolder(tmp_path / "run", RUN)
    folder.append_metrics({"epoch": 1})
    folder.save_state({"small": STATE}, make_position(5))
    (tmp_path / "run" / "best.json.0123456789ab.tmp").write_bytes(b"half")
    before = files(tmp_path)
    other = RunFolder(tmp_path / "run", RUN | {"run": {}}, ranks=Ranks(rank=1))

    assert other.position() == make_position(5)
    assert other.load_state(make_position(5), "small")["losses"] == 7
    assert files(tmp_path) == before
    assert metrics(tmp_path / "run") == [{"epoch": 1}]


# Weights and results.


def test_saved_weights_are_read_by_load_weights(tmp_path: Path) -> None:
    folder, module, other = RunFolder(tmp_path, RUN), nn.Linear(3, 2), nn.Linear(3, 2)

    folder.save_weights("small", "best", module.state_dict(), {"epoch": 2})
    load_weights(other, tmp_path / "small" / "best.safetensors")

    assert other.weight.equal(module.weight)
    assert json.loads((tmp_path / "small" / "best.json").read_text()) == {"epoch": 2}


def test_weights_that_share_memory_or_have_another_memory_order_are_saved(tmp_path: Path) -> None:
    tied = nn.Linear(3, 3)
    module = nn.Sequential(tied, nn.ReLU(), tied, nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last))

    RunFolder(tmp_path, RUN).save_weights("tied", "last", module.state_dict(), {})
    other = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Conv2d(2, 4, 3))
    load_weights(other, tmp_path / "tied" / "last.safetensors")

    assert all(other.state_dict()[name].equal(tensor) for name, tensor in module.state_dict().items())


def test_results_come_back_and_nothing_to_resume_is_left(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, RUN)
    folder.save_state({"small": STATE}, make_position(5))

    pruned = structs.replace(make_result(), sparsity=Sparsity(layers={"conv": 0.1 + 0.2}, overall=0.25))
    failed = structs.replace(make_result(), train_loss=None, last=None, error="its loss is nan")
    folder.finish([make_result(), pruned, failed])

    assert RunFolder(tmp_path, RUN).results() == [make_result(), pruned, failed]
    assert files(tmp_path) == ["run.json", "summary.json"]

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from softlab.store.reader import Store
from softlab.student.averaging import WeightAverage
from softlab.student.pruning import PruneOptions
from tests.student.fashion import same_weights
from tests.student.pictures import NUM_PICTURES, make_store, make_student, pictures, stop_at, train
from tests.teacher.dumping import images_of

DECAY = 0.9


def test_the_average_is_that_of_the_formula() -> None:
    module = nn.Linear(3, 2)
    average = WeightAverage(module, decay=DECAY)
    expected = None
    for _ in range(5):
        with torch.no_grad():
            module.weight.add_(torch.randn(2, 3))
        average.update(module)
        weight = module.weight.detach().double()
        expected = weight if expected is None else DECAY * expected + (1 - DECAY) * weight

    torch.testing.assert_close(average.module.get_parameter("weight").double(), expected, rtol=1e-5, atol=1e-6)


def test_what_is_measured_and_saved_and_left_in_the_module_is_the_average(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    plain, averaged = make_student(), make_student()
    train(plain, store)
    (result,) = train(averaged, store, ema=DECAY, valid=store, out=tmp_path / "run")

    saved = load_file(tmp_path / "run/small/last.safetensors")
    assert all(tensor.equal(saved[name]) for name, tensor in averaged.state_dict().items())
    assert not same_weights(plain, averaged)
    assert result.last is not None
    assert result.last.values["teacher_kl"] == pytest.approx(divergence(averaged, store), abs=1e-5)


def divergence(student: nn.Module, store: Store) -> float:
    """KL of what the module says, from torch's own function."""
    labels = store.read(range(NUM_PICTURES))
    logits_NC = student.eval()(images_of(pictures(), list(range(NUM_PICTURES))))
    teacher_NC = torch.full_like(logits_NC, 0).scatter(1, labels.class_ids_BK, labels.logits_BK).softmax(dim=1)
    return functional.kl_div(logits_NC.log_softmax(dim=1), teacher_NC, reduction="batchmean").item()


def test_an_interrupted_run_goes_on_with_its_average(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    straight = make_student()
    train(straight, store, ema=DECAY)

    with pytest.raises(KeyboardInterrupt):
        train(make_student(), store, ema=DECAY, out=tmp_path / "run", on_progress=stop_at(5), checkpoint_steps=1)
    gone_on = make_student()
    train(gone_on, store, ema=DECAY, out=tmp_path / "run", checkpoint_steps=1)

    assert same_weights(straight, gone_on)


def test_a_pruned_student_has_an_average_with_the_same_zeros(tmp_path: Path) -> None:
    student = make_student()
    prune = PruneOptions(amount=0.5, every_steps=1, keep_last=False)

    (result,) = train(student, make_store(tmp_path / "store"), ema=DECAY, prune=prune)

    assert result.sparsity is not None
    assert result.sparsity.overall == pytest.approx(0.5, abs=0.02)
    assert "conv.weight" in dict(student.named_parameters())

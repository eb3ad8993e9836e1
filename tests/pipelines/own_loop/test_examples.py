"""Each example reaches, step by step, the losses of softlab's own trainer on the same batches."""

import copy
import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler

import softlab
from softlab.loading.order import epoch_order
from softlab.modalities.opening import open_source
from tests.student.flat_options import train_options

ROOT = Path(__file__).parents[3]
COUNT, BATCH, EPOCHS = 300, 50, 2

# With what each is quiet and leaves nothing behind.
EXAMPLES: dict[str, dict[str, Any]] = {
    "plain_torch": {},
    "accelerate_loop": {},
    "timm_style": {},
    "lightning_module": {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
    "hugging_face": {
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    },
}


# It calls what torch will take away, and wants workers.
OF_LIGHTNING = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning", "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"
)


@pytest.fixture(autouse=True, scope="module")
def _beside_the_examples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.syspath_prepend(str(ROOT / "pipelines" / "own_loop"))
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> softlab.Store:
    dumped: softlab.Store = importlib.import_module("fashion").dump(tmp_path_factory.mktemp("own") / "s", limit=COUNT)
    return dumped


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those from which gradients are computed, one a step."""
    found: list[float] = []
    backward: Any = Tensor.backward

    def note(loss: Tensor, *arguments: Any, **options: Any) -> None:
        found.append(loss.item())
        backward(loss, *arguments, **options)

    monkeypatch.setattr(Tensor, "backward", note)
    return found


@pytest.fixture
def _in_softlabs_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a loader shuffles comes in the order of softlab's own trainer."""
    epochs = itertools.count()

    def order(sampler: RandomSampler) -> Iterator[int]:
        return iter(epoch_order(len(sampler), seed=0, epoch=next(epochs)).tolist())

    monkeypatch.setattr(RandomSampler, "__iter__", order)


def make_student() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return softlab.build_model(softlab.ModelOptions(model="softlab:grey_cnn"))


def train_with_softlab(student: nn.Module, store: softlab.Store, example: str) -> None:
    options = train_options(
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer="sgd" if example == "timm_style" else "adamw",
        learning_rate=0.01 if example == "timm_style" else 5e-3,
        weight_decay=0.0,
        schedule="constant",
        warmup_epochs=0.0,
        device="cpu",
        track=(),
    )
    source = open_source(softlab.SourceOptions(path="data/fashion_mnist/train", limit=COUNT))
    input = softlab.ImageInput(mean=(0.286,), std=(0.353,))
    softlab.train_students({"cnn": student}, source, [store], options, input=input)


@pytest.mark.usefixtures("_in_softlabs_order")
@pytest.mark.parametrize(
    "example",
    [pytest.param(name, marks=OF_LIGHTNING if name == "lightning_module" else ()) for name in EXAMPLES],
)
def test_an_example_computes_the_losses_of_softlabs_own_trainer(
    example: str, store: softlab.Store, losses: list[float], tmp_path: Path
) -> None:
    options = EXAMPLES[example] | ({"output_dir": str(tmp_path)} if example == "hugging_face" else {})
    student = make_student()
    train_with_softlab(copy.deepcopy(student), store, example)
    expected = losses.copy()
    losses.clear()

    data = importlib.import_module("fashion").FashionMNIST(limit=COUNT)
    importlib.import_module(example).main(student, data, store, epochs=EPOCHS, batch_size=BATCH, **options)

    assert len(expected) == EPOCHS * COUNT // BATCH
    assert losses == pytest.approx(expected, rel=0, abs=1e-5)
    assert losses[-1] < losses[0]

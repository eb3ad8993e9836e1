"""Embeddings and probabilities are refused where logits over classes are asked for, unless the user insists."""

# Shape letters: R rows, C classes.

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import TeacherError
from softlab.labels.soft_labels import Head
from softlab.models.outputs import WantedOutput, parse_output
from softlab.store.reader import open_store
from softlab.teacher.classifier_check import check_is_classifier
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import survey_teacher
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher

LOGITS = WantedOutput(name="logits")


def noise(num_columns: int, *, scale: float = 1.0, rows: int = 8) -> Tensor:
    return scale * torch.randn(rows, num_columns, generator=torch.Generator().manual_seed(0))


def check(logits_RC: Tensor, *, wanted: WantedOutput = LOGITS, k: int = 16, head: Head = "softmax") -> None:
    check_is_classifier(wanted, logits_RC, k=k, head=head)


class Embedding(nn.Module):
    """512 numbers a picture as a vector of unit length, of which none is a class."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.project = nn.Linear(3 * 4 * 6, 512)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return nn.functional.normalize(self.project(images_BCHW.flatten(1)))


class Probabilities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = make_teacher()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC.softmax(dim=1)


# What is refused, with the ways out.


def test_an_embedding_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(TeacherError) as refused:
        dump(tmp_path / "store", make_options(k=16), teacher=Embedding())

    found = str(refused.value)
    assert re.match(r"output logits: the 16 largest of its 512 numbers have 0\.0\d\d of the probability, ", found)
    assert "where any 16 would have 0.031: they look like those of an embedding, not like logits over classes." in found
    assert "Store it as it is with `dump.output = logits:values`, " in found
    assert "or say `dump.output = logits:classes` if these are classes all the same" in found
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("num_columns", [64, 384, 2048])
def test_embeddings_of_other_lengths_are_refused(num_columns: int) -> None:
    with pytest.raises(TeacherError, match="they look like those of an embedding"):
        check(noise(num_columns, scale=0.1), k=8)


@pytest.mark.parametrize(
    "embedding_RC",
    [noise(512, scale=0.4).relu(), noise(512, scale=0.2).abs(), nn.functional.layer_norm(noise(512), (512,))],
    ids=["ReLU", "no negative", "LayerNorm"],
)
def test_embeddings_of_a_wider_spread_are_refused_where_they_have_another_sign_of_one(embedding_RC: Tensor) -> None:
    with pytest.raises(TeacherError, match="they look like those of an embedding"):
        check(embedding_RC)


def test_probabilities_are_refused_with_all_ways_out(tmp_path: Path) -> None:
    with pytest.raises(TeacherError) as refused:
        dump(tmp_path / "store", teacher=Probabilities())

    assert str(refused.value) == (
        "output logits: its rows lie in 0..1 and sum to 1, so they are probabilities already, not logits. Take the "
        "layer before the softmax with `dump.output = logits=layer:LAYER`, store them as they are with "
        "`dump.output = logits:values`, or say `dump.output = logits:classes` if they are logits all the same."
    )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_probabilities_are_refused_in_half_precision_too(dtype: torch.dtype, num_classes: int) -> None:
    with pytest.raises(TeacherError, match="they are probabilities already"):
        check(noise(num_classes, scale=3).softmax(dim=1).to(dtype).float(), k=2)


@pytest.mark.parametrize("wanted", [LOGITS, parse_output("logits:classes")])
def test_a_single_logit_is_no_softmax(wanted: WantedOutput) -> None:
    with pytest.raises(TeacherError) as refused:
        check(noise(1), wanted=wanted, k=1)

    assert str(refused.value) == (
        "output logits: has one number a row, and the softmax over one class is 1 whatever that is. If it is the "
        "logit of a yes or no, say `dump.head = sigmoid`, then train with `loss.name = bce` and `teachers.alpha = 1`. "
        "If it is a score of a regression, say `dump.output = logits:values`."
    )


def test_a_single_logit_is_taken_under_a_sigmoid() -> None:
    check(noise(1), k=1, head="sigmoid")


def test_a_survey_refuses_them_too() -> None:
    for teacher in (Embedding(), Probabilities()):
        with pytest.raises(TeacherError, match=r"tore (it as it is|them as they are) with `dump.output = "):
            survey_teacher(as_teacher(teacher), Pictures(), make_options())


# The ways out.


@pytest.mark.parametrize("teacher", [Embedding(), Probabilities()])
def test_as_values_they_are_stored_as_they_are(tmp_path: Path, teacher: nn.Module) -> None:
    dump(tmp_path / "store", make_options(output=("embedding:values",)), teacher=teacher)

    store = open_store(tmp_path / "store")
    assert (store.has_labels, store.feature_names) == (False, ("embedding",))


@pytest.mark.parametrize("teacher", [Embedding(), Probabilities()])
def test_who_says_that_they_are_classes_is_believed(tmp_path: Path, teacher: nn.Module) -> None:
    dump(tmp_path / "store", make_options(output=("logits:classes",)), teacher=teacher)

    assert open_store(tmp_path / "store").k == 5


def test_the_layer_before_the_softmax_gives_logits(tmp_path: Path) -> None:
    dump(tmp_path / "logits")
    dump(tmp_path / "store", make_options(output=("logits=layer:teacher",)), teacher=Probabilities())

    found, expected = open_store(tmp_path / "store"), open_store(tmp_path / "logits")
    assert found.read(range(50)).logits_BK.equal(expected.read(range(50)).logits_BK)


# What passes.


@pytest.mark.parametrize(
    "logits_RC",
    [
        pytest.param(noise(63, scale=0), id="few classes, all alike"),
        pytest.param(noise(10, scale=0.01), id="an untrained model of ten classes"),
        pytest.param(noise(1000, scale=3), id="a classifier of a thousand classes"),
        pytest.param(noise(3).abs().clamp(max=0.3), id="positive, but no distribution"),
        pytest.param(torch.cat([noise(3, rows=7), torch.tensor([[0.2, 0.3, 0.5]])]), id="one row by chance"),
        pytest.param(noise(512, rows=0), id="no rows"),
    ],
)
def test_what_may_be_logits_passes(logits_RC: Tensor) -> None:
    check(logits_RC, k=min(16, logits_RC.shape[1]))


def test_where_most_classes_are_kept_nothing_tells_an_embedding() -> None:
    check(noise(512), k=128)


def test_a_sigmoid_head_has_logits_of_any_sum() -> None:
    check(noise(512), head="sigmoid")
    check(noise(10).softmax(dim=1), head="sigmoid")


@pytest.mark.parametrize("text", ["logits:classes", "logits:classes=layer:head"])
def test_a_kind_that_was_named_is_not_doubted(text: str) -> None:
    check(noise(512), wanted=parse_output(text))
    check(noise(10).softmax(dim=1), wanted=parse_output(text), k=5)


def test_an_untrained_small_model_is_dumped(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 10))

    assert dump(tmp_path / "store", teacher=untrained).rows_computed == 50

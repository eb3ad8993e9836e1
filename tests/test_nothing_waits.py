"""On a GPU no step of a dump or of training waits for the GPU's work, so that it is never without work itself.

Tests marked `gpu` see it on a real one; these see it anywhere, on a pretended one.
"""

# Shape letters: B rows in a batch, C classes, L positions, D width of hidden states, H height, W width.

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from softlab.labels.candidates import score_candidates, score_pairs
from softlab.labels.class_map import ClassMap
from softlab.labels.coding import LabelCoding
from softlab.labels.ensembles import CombineBy, WeighBy, combine, weigh
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses import LOSS_BY_NAME, VALUES_LOSSES, ValuesLoss, decision_loss, has_temperature, make_loss
from softlab.labels.losses.checks import TAKE_VALID
from softlab.labels.losses.features import LOSSES
from softlab.labels.losses.values import PairMatchingLoss
from softlab.labels.mapped_labels import map_labels
from softlab.labels.sampled_coding import SampledCoding
from softlab.labels.sampling import keep_sampled
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.batch import Batch
from softlab.loading.own_rows import OwnRows, StoredUnits, match_rows
from softlab.modalities.inputs import Collated, Inputs, Units
from softlab.models.rows import OutputRows
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from softlab.teacher.forward import TeacherRun
from softlab.teacher.planning import as_teacher
from softlab.teacher.selections import Drawn, Sampling, TopK, select
from tests.fake_gpu import FAKE_GPU, INDEXING, Waited, fake_gpu
from tests.teacher.dumping import make_options

ROWS, CLASSES, K = 6, 50, 8
SAMPLED = Sampling(resolution=16)


def logits(*shape: int) -> Tensor:
    return torch.zeros(shape or (ROWS, CLASSES), device=FAKE_GPU)


def targets(rows: int = ROWS) -> Tensor:
    return torch.zeros(rows, dtype=torch.int64, device=FAKE_GPU)


def labels(**options: Any) -> SoftLabels:
    return keep_top_k(logits(), k=K, temperatures=(1.0, 2.0), **options)


def sampled_labels() -> SoftLabels:
    return keep_sampled(logits(), resolution=16, uniforms_R2=torch.zeros((ROWS, 2), device=FAKE_GPU))


def make_batch(**values: Any) -> Batch:
    inputs = Inputs(positional=(logits(ROWS, 3, 8, 8),))
    views_B: Any = [0] * ROWS  # a number that is there, as it is on the host
    return Batch(
        source_B=torch.arange(ROWS),
        views_B=views_B,
        inputs=(Collated(inputs=inputs),),
        content_hashes=(),
        **values,
    )


@pytest.mark.parametrize(
    "wait",
    [
        lambda: logits().cpu(),
        lambda: torch.zeros(3).to(FAKE_GPU),
        lambda: torch.zeros(3).to(FAKE_GPU, non_blocking=True),
        lambda: torch.tensor([1.0, 2.0], device=FAKE_GPU),
        lambda: logits()[torch.arange(2)],
    ],
    ids=["to the host", "from it", "from memory that isn't page-locked", "a list", "an index of the host"],
)
def test_copies_that_wait_are_noticed(wait: Callable[[], object]) -> None:
    with fake_gpu(), pytest.raises(Waited):
        wait()


@pytest.mark.parametrize("wait", [lambda: bool(logits().any()), lambda: logits().nonzero(), lambda: logits().tolist()])
def test_numbers_that_only_the_gpu_knows_are_noticed(wait: Callable[[], object]) -> None:
    with fake_gpu(), pytest.raises(Exception, match="aten"):
        wait()


@pytest.mark.parametrize("options", [{}, {"head": "sigmoid"}, {"valid": True}, {"masked": True}], ids=str)
@pytest.mark.parametrize("selection", [TopK(k=K), SAMPLED], ids=["topk", "sampled"])
def test_selection_does_not_wait(selection: TopK | Sampling, options: dict[str, Any]) -> None:
    with fake_gpu():
        rows = OutputRows(rows=logits())
        drawn = Drawn(source_B=torch.arange(ROWS), view=1)

        found, is_finite_R = select(rows, selection, make_options(**options), drawn=drawn)

        assert found.class_ids_BK.device == is_finite_R.device == FAKE_GPU


@pytest.mark.parametrize("selection", [TopK(k=K), SAMPLED], ids=["topk", "sampled"])
def test_selection_of_tokens_does_not_wait(selection: TopK | Sampling) -> None:
    with fake_gpu():
        lazy = LazyLogits(hidden=logits(ROWS, 4), weight_CD=logits(CLASSES, 4))
        rows = OutputRows(rows=lazy, counts_B=targets(2), positions_R=targets())

        found, _ = select(rows, selection, make_options(), drawn=Drawn(source_B=torch.arange(2), view=0))

        assert len(found) == ROWS


class Pooled(nn.Module):
    """Its weights are no parameters, as torch can't move pretended ones."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.weight_CD = nn.ReLU(), logits(CLASSES, 3)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return functional.linear(self.relu(images_BCHW).mean(dim=(2, 3)), self.weight_CD)


@pytest.mark.gpu
@pytest.mark.parametrize("selection", [TopK(k=K), SAMPLED], ids=["topk", "sampled"])
def test_selection_of_tokens_does_not_wait_for_a_real_gpu(selection: TopK | Sampling) -> None:
    lazy = LazyLogits(hidden=logits(ROWS, 4), weight_CD=logits(CLASSES, 4))
    rows = OutputRows(rows=lazy, counts_B=targets(2) + ROWS // 2, positions_R=targets())
    drawn = Drawn(source_B=torch.arange(2), view=0)
    expected, _ = select(rows, selection, make_options(), drawn=drawn)  # loads kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, _ = select(rows, selection, make_options(), drawn=drawn)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert found.class_ids_BK.equal(expected.class_ids_BK)


@pytest.mark.parametrize("options", [{}, {"feature": {"relu": "relu:mean"}}, {"head": "sigmoid"}], ids=str)
def test_a_teachers_pass_does_not_wait(options: dict[str, Any]) -> None:
    with fake_gpu():
        with TeacherRun(as_teacher(Pooled()), make_options(device="cuda", **options)) as run:
            kept = run.run(make_batch(), selections={"logits": TopK(k=K)})

        assert kept.is_finite_B.device == FAKE_GPU


ON_ALL_CLASSES: list[tuple[str, dict[str, Any]]] = [
    (name, {"head": "sigmoid"} if name == "bce" else {}) for name in LOSS_BY_NAME
]
ON_SOME_CLASSES = [(name, {kind: True}) for name in TAKE_VALID for kind in ("has_valid", "masked")]


@pytest.mark.parametrize(("name", "labelled"), ON_ALL_CLASSES + ON_SOME_CLASSES, ids=str)
def test_no_loss_on_labels_waits(name: str, labelled: dict[str, Any]) -> None:
    options = make_loss(name, **({"temperature": 2.0} if has_temperature(LOSS_BY_NAME[name]()) else {}))
    with fake_gpu():
        loss = decision_loss(logits(), labels(**labelled), targets_B=targets(), options=options)

        assert loss.device == FAKE_GPU


@pytest.mark.parametrize("loss", LOSSES)
def test_no_loss_on_features_waits(loss: Any) -> None:
    with fake_gpu():
        shape = (ROWS, 4, 6, 6) if loss == "attention" else (ROWS, 4)

        assert LOSSES[loss](logits(*shape), logits(*shape)).device == FAKE_GPU


@pytest.mark.parametrize("options", get_args(ValuesLoss), ids=VALUES_LOSSES)
def test_no_loss_on_values_waits(options: Any) -> None:
    with fake_gpu():
        shape = (ROWS, 2, 4) if options is PairMatchingLoss else (ROWS, CLASSES)

        assert options()(logits(*shape), logits(*shape)).device == FAKE_GPU


@pytest.mark.parametrize("by", get_args(WeighBy))
@pytest.mark.parametrize("combined", get_args(CombineBy))
def test_combining_teachers_does_not_wait(by: WeighBy, combined: CombineBy) -> None:
    with fake_gpu():
        both = [labels(), labels()]

        weights_BS = weigh(both, given=(1.0, 2.0), by=by, targets_B=targets())

        assert len(combine(both, weights_BS, by=combined, temperature=2.0)) == ROWS


@pytest.mark.parametrize(
    ("groups", "head"), [(((3,), (1,)), "softmax"), (((3,), (1,)), "sigmoid"), (((1, 2), (3,)), "softmax")]
)
def test_mapping_classes_does_not_wait(groups: tuple[tuple[int, ...], ...], head: Any) -> None:
    with fake_gpu():
        classes = ClassMap(groups=groups, num_teacher=CLASSES, names=None)

        assert map_labels(labels(head=head), classes, temperature=1.0).num_classes == len(groups)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("class_weights", [(), (1.0,) * CLASSES], ids=["alike", "weighted"])
@pytest.mark.parametrize("make_labels", [labels, sampled_labels])
@pytest.mark.parametrize("is_lazy", [False, True], ids=["whole", "lazy"])
def test_an_objective_does_not_wait(
    alpha: float, class_weights: tuple[float, ...], make_labels: Callable[[], SoftLabels], is_lazy: bool
) -> None:
    objective = Objective(
        teachers=TeachersOptions(alpha=alpha),
        loss=make_loss("kl", temperature=1.0),
        class_weights=class_weights,
    )
    with fake_gpu():
        batch = make_batch(labels=make_labels(), targets_B=targets())
        given = LazyLogits(hidden=logits(ROWS, 4), weight_CD=logits(CLASSES, 4)) if is_lazy else logits()

        assert objective(given, batch).device == FAKE_GPU


@pytest.mark.parametrize("coding", ["float32", "float16", "uint8"])
def test_decoding_labels_does_not_wait(coding: Any) -> None:
    dtype = torch.uint8 if coding == "uint8" else getattr(torch, coding)
    of_floats = torch.float16 if coding == "uint8" else dtype
    with fake_gpu():
        stored = {
            "class_ids": logits(ROWS, K).to(torch.int16),
            "logits": logits(ROWS, K).to(dtype),
            "log_tail": logits(ROWS, 2).to(of_floats),
            "max_logit": logits(ROWS).to(of_floats),
        }

        found = LabelCoding(coding=coding, num_classes=CLASSES, temperatures=(1.0, 2.0)).decode_tensors(stored)

        assert found.logits_BK.device == FAKE_GPU


def test_decoding_samples_does_not_wait() -> None:
    with fake_gpu():
        coding = SampledCoding(num_classes=CLASSES, resolution=16, frequent=(3, 4))
        stored = {name: logits(ROWS).to(torch.uint8) for name in ("num_head", "num_drawn", "tail", "entropy")}
        stored |= {"gaps": logits(ROWS, 17).to(torch.uint8), "class_ids": logits(ROWS, 17).to(torch.int16)}

        assert coding.decode_tensors(stored).class_ids_BK.device == FAKE_GPU


def test_finding_the_rows_of_words_does_not_wait() -> None:
    counts_B, numbers_R = torch.tensor([2, 1]), torch.tensor([0, 1, 0])
    stored = StoredUnits(counts_B=torch.tensor([1, 1]), numbers_S=torch.tensor([1, 0]), where="store")
    units = Units(rows_B=counts_B, keys_R=torch.arange(3), numbers_R=numbers_R, totals_B=counts_B)
    text = Collated(inputs=Inputs(positional=(torch.zeros(2, 4),)), units=units)
    sent: list[list[int]] = []

    def copy_to(_: torch.device, tensor: Tensor) -> Tensor:
        sent.append(tensor.tolist())
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softlab.loading.own_rows.copy_to", copy_to)
        match_rows(text, OwnRows(counts_B=counts_B), stored=stored, key_of=str)

    assert sent == [[1, 1], [1, 2], [0, 1]]  # counts, rows of the model, and rows of the store


def test_scoring_candidates_waits_once_a_batch() -> None:
    """How many there are only the batch tells."""
    mask_BNL = torch.tensor([[[1, 1], [1, 0]], [[1, 0], [0, 0]]])
    named = {"input_ids": torch.ones_like(mask_BNL), "attention_mask": mask_BNL}
    waits: list[str] = []

    class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            waits.extend([str(func)] if func is torch.ops.aten.nonzero.default or _has_mask(func, args) else [])
            return func(*args, **(kwargs or {}))

    def read(ids_RL: Tensor, mask_RL: Tensor) -> Tensor:
        return (ids_RL * mask_RL).sum(dim=1, keepdim=True).float()

    with Counted():  # type: ignore[no-untyped-call]
        scores_BN = score_candidates(read, mask_BNL[:, 0], mask_BNL[:, 0], named["input_ids"], mask_BNL)
        pairs_BN = score_pairs(lambda input_ids, attention_mask: read(input_ids, attention_mask), named)

    assert scores_BN.tolist() == [[4.0, 2.0], [1.0, -torch.inf]]
    assert pairs_BN.tolist() == [[2.0, 1.0], [1.0, -torch.inf]]
    assert waits == ["aten.nonzero.default"] * 2


def _has_mask(func: Any, args: Any) -> bool:
    """Whether it is an index by a mask, which torch turns into numbers that a GPU tells."""
    return func in INDEXING and any(each is not None and each.dtype == torch.bool for each in args[1])

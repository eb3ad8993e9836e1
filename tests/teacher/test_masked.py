"""Classes that a row doesn't have, anywhere among the others: their logits are -inf, and no loss counts them."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import SilentRows, TeacherError
from softlab.labels.coding import Coding
from softlab.labels.losses import kl_rows
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from softlab.teacher.planning import plan_dump
from tests.store.building import FORMATS
from tests.store.format_reader import StoreReader
from tests.teacher.dumping import (
    NUM_CLASSES,
    AfraidOfTheDark,
    Pictures,
    dump,
    forward_of,
    make_options,
    make_teacher,
    read_all,
    stop_at,
)


class Masking(nn.Module):
    """A teacher that rules classes out: always the same ones, or by what it sees; of some rows all but two."""

    def __init__(self, *, by_sample: bool) -> None:
        super().__init__()
        self.teacher, self.by_sample = make_teacher(), by_sample

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW)
        is_out_BC = (torch.arange(NUM_CLASSES) % 3 == 1).expand_as(logits_BC)
        if self.by_sample:
            seen_B1 = images_BCHW.flatten(1).sum(dim=1, keepdim=True)
            is_out_BC = (seen_B1 * torch.arange(1, NUM_CLASSES + 1)).sin() > 0.2
            is_out_BC = is_out_BC | ((seen_B1 > 2) & (torch.arange(NUM_CLASSES) % 10 > 0))
            is_out_BC = is_out_BC & (torch.arange(NUM_CLASSES) != 10)
        return logits_BC.masked_fill(is_out_BC, -math.inf)


def dense_kl(student_NC: Tensor, teacher_NC: Tensor, *, k: int, temperature: float) -> Tensor:
    """float64 [N], by the words of the definition: the valid classes that aren't kept share what kept ones leave."""
    p_NC, log_q_NC = (teacher_NC.double() / temperature).softmax(1), (student_NC.double() / temperature).log_softmax(1)
    found = []
    for p_C, log_q_C, logits_C in zip(p_NC, log_q_NC, teacher_NC, strict=True):
        valid = logits_C.isfinite().nonzero()[:, 0].tolist()
        kept = sorted(valid, key=lambda each: -float(logits_C[each]))[:k]
        others = [each for each in valid if each not in kept]
        share = sum(float(p_C[each]) for each in others) / max(len(others), 1)
        pairs = [(float(p_C[each]), float(log_q_C[each])) for each in kept] + [
            (share, float(log_q_C[each])) for each in others
        ]
        found.append(sum(p * (math.log(p) - log_q) for p, log_q in pairs if p > 0))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("by_sample", [False, True])
@pytest.mark.parametrize(("coding", "close"), [("float32", 1e-5), ("float16", 5e-3), ("uint8", 0.05)])
def test_the_loss_of_a_masked_row_is_that_over_its_classes(
    tmp_path: Path, format: FormatName, by_sample: bool, coding: Coding, close: float
) -> None:
    teacher, options = Masking(by_sample=by_sample), make_options(masked=True, format=format, coding=coding)

    dump(tmp_path / "store", options, teacher=teacher)

    logits_NC = forward_of(teacher, Pictures(), options)
    _, labels = read_all(tmp_path / "store")
    student_NC = torch.randn(logits_NC.shape, generator=torch.Generator().manual_seed(1))
    assert labels.valid_B is not None
    assert labels.valid_B.tolist() == logits_NC.isfinite().sum(dim=1).tolist()
    for temperature in options.temperature:
        found_N = kl_rows(student_NC, labels, temperature=temperature)
        torch.testing.assert_close(
            found_N.double(), dense_kl(student_NC, logits_NC, k=5, temperature=temperature), rtol=close, atol=close
        )
    assert verify_store(tmp_path / "store").is_intact


@pytest.mark.parametrize("format", FORMATS)
def test_another_reader_that_knows_only_the_page_reads_the_same(tmp_path: Path, format: FormatName) -> None:
    dump(tmp_path / "store", make_options(masked=True, format=format), teacher=Masking(by_sample=True))

    reader = StoreReader(tmp_path / "store")

    _, labels = read_all(tmp_path / "store")
    (output,) = reader.outputs()
    found = reader.labels(output, view=0)
    assert output["masked"] is True
    assert torch.from_numpy(found.class_ids_RK).equal(labels.class_ids_BK)
    assert torch.from_numpy(found.logits_RK).equal(labels.logits_BK)


def test_a_masked_dump_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    teacher, options = Masking(by_sample=True), make_options(masked=True, coding="uint8")
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", options, teacher=teacher, on_progress=stop_at(40))

    assert dump(tmp_path / "store", options, teacher=teacher).manifest.num_rows == 50


def test_a_manifest_says_nothing_of_masks_where_there_are_none(tmp_path: Path) -> None:
    dump(tmp_path / "store")

    assert b"masked" not in (tmp_path / "store/manifest.json").read_bytes()


def test_masked_classes_that_nobody_spoke_of_are_refused_before_the_first_row(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"output logits: some of its logits are -inf\. .*`dump.masked = true`"):
        dump(tmp_path / "store", teacher=Masking(by_sample=False))
    assert not (tmp_path / "store").exists()


def test_those_of_later_samples_are_refused_with_their_names(tmp_path: Path) -> None:
    source = Pictures(black=frozenset({40}))

    with pytest.raises(
        TeacherError, match=r"-inf in some classes for 1 of 16 samples, such as '0040.png'.*`dump.masked"
    ):
        dump(tmp_path / "store", teacher=AfraidOfTheDark(-math.inf), source=source)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_inf_are_refused_all_the_same(tmp_path: Path, value: float) -> None:
    source = Pictures(black=frozenset({40}))

    with pytest.raises(TeacherError, match=r"NaN or infinite for 1 of 16 samples, such as '0040.png'"):
        dump(tmp_path / "store", make_options(masked=True), teacher=AfraidOfTheDark(value), source=source)


class Silent(AfraidOfTheDark):
    """Has the same logit for all classes of a black picture."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        is_black_B1 = (images_BCHW == -1).flatten(1).all(dim=1, keepdim=True)
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC.masked_fill(is_black_B1, self.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (-math.inf, "all classes are masked: .* -inf in each of them for 1 of 16 samples, such as '0040.png'"),
        (
            torch.finfo(torch.float32).min,
            r"the largest logit of a row is -3\.40282e\+38: all of its classes are masked",
        ),
    ],
)
def test_a_row_without_any_class_is_refused(tmp_path: Path, value: float, found: str) -> None:
    source = Pictures(black=frozenset({40}))

    with pytest.raises(TeacherError, match=found):
        dump(tmp_path / "store", make_options(masked=True), teacher=Silent(value), source=source)


@pytest.mark.parametrize("coding", ["float16", "float32", "uint8"])
def test_a_row_of_minima_that_fits_is_kept_and_told(tmp_path: Path, coding: Coding) -> None:
    source = Pictures(black=frozenset({40}))

    with pytest.warns(SilentRows, match=r"a row of minima, -10000 in all .* for 1 row, such as '0040\.png'"):
        dump(tmp_path / "store", make_options(coding=coding), teacher=Silent(-1e4), source=source)

    assert read_all(tmp_path / "store")[1].max_logit_B.lt(-9000).nonzero()[:, 0].tolist() == [40]


def test_a_row_of_minima_is_told_by_a_single_shard_too(tmp_path: Path) -> None:
    job = plan_dump(Silent(-1e4), Pictures(black=frozenset({20})), tmp_path / "store", make_options())

    assert job.run_shard(0) == "written"
    with pytest.warns(SilentRows, match=r"for 1 row, such as '0020.png'"):
        job.run_shard(1)


def test_low_logits_that_differ_are_no_row_of_minima(tmp_path: Path) -> None:
    class Low(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = make_teacher()

        def forward(self, images_BCHW: Tensor) -> Tensor:
            logits_BC: Tensor = self.teacher(images_BCHW)
            return logits_BC - 2000

    assert dump(tmp_path / "store", teacher=Low()).manifest.num_rows == 50

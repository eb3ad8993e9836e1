"""A multi-label teacher, whose classes are each a choice of their own: what is stored of it, measured and said."""

# Shape letters: N samples, C classes, K entries kept, T temperatures.

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from softlab.card.render import render_card
from softlab.errors import InvalidOption, StoreExists, StoreMismatch
from softlab.labels.coding import Coding
from softlab.labels.selection import keep_top_k
from softlab.labels.truncation import truncation
from softlab.manifest import decode_manifest
from softlab.store.convert import convert_store
from softlab.store.format import FormatName
from softlab.store.statistics import measure
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import survey_teacher
from tests.store.building import FORMATS, contents
from tests.teacher.augmenting import AUGMENT, dump_views, forward_of_view
from tests.teacher.dumping import (
    NUM_CLASSES,
    Pictures,
    assert_same_labels,
    dump,
    forward_of,
    make_options,
    make_teacher,
    read_all,
    stop_at,
)

K = 5
TEMPERATURES = (1.0, 2.0, 4.0)
SIGMOID = make_options(k=K, head="sigmoid", coding="float32")


def dense() -> Tensor:
    """float64 raw logits of all pictures [N, C]."""
    return forward_of(make_teacher(), Pictures(), SIGMOID).double()


def share_of_kept(logits_NC: Tensor, *, k: int, temperature: float) -> Tensor:
    """Of each row's summed probability, [N]."""
    probability_NC = (logits_NC.double() / temperature).sigmoid()
    return probability_NC.topk(k, dim=1).values.sum(dim=1) / probability_NC.sum(dim=1)


# What is stored.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("coding", "tolerance"), [("float32", 1e-5), ("float16", 1e-2), ("uint8", 5e-2)])
def test_a_store_holds_each_kept_class_and_the_mean_probability_of_the_others(
    tmp_path: Path, format: FormatName, coding: Coding, tolerance: float
) -> None:
    dump(tmp_path / "store", make_options(k=K, head="sigmoid", coding=coding, format=format))

    store, labels = read_all(tmp_path / "store")
    assert (store.head, labels.head) == ("sigmoid", "sigmoid")
    logits_NC = dense()
    raw_NK = (labels.logits_BK + labels.max_logit_B[:, None]).double()
    kept_NC = torch.zeros(logits_NC.shape, dtype=torch.bool).scatter(1, labels.class_ids_BK, True)
    assert logits_NC[kept_NC].min() > 0, "several classes of a picture are likely at once"
    for column, temperature in enumerate(TEMPERATURES):
        probability_NC = (logits_NC / temperature).sigmoid()
        kept_NK, outside_N = (raw_NK / temperature).sigmoid(), labels.log_tail_BT[:, column].double().exp()
        torch.testing.assert_close(kept_NK, probability_NC.gather(1, labels.class_ids_BK), rtol=0, atol=tolerance)
        mean_N = probability_NC.masked_fill(kept_NC, 0).sum(dim=1) / (NUM_CLASSES - K)
        torch.testing.assert_close(outside_N, mean_N, rtol=tolerance, atol=0)


def test_the_manifest_declares_the_head(tmp_path: Path) -> None:
    sigmoid, softmax = dump(tmp_path / "sigmoid", SIGMOID), dump(tmp_path / "softmax")

    assert sigmoid.manifest.classes[0].head == "sigmoid"
    assert softmax.manifest.classes[0].head == "softmax"
    assert sigmoid.manifest.classes[0].label_space.fingerprint == softmax.manifest.classes[0].label_space.fingerprint


def test_a_manifest_of_format_1_that_names_no_head_is_of_a_softmax_one() -> None:
    tree = json.loads((Path(__file__).parents[1] / "fixtures/format_1/zarr/manifest.json").read_text())
    del tree["label_space"]["head"]

    manifest, _ = decode_manifest(json.dumps(tree).encode(), where="store")

    assert manifest.classes[0].head == "softmax"


def test_other_readers_see_the_head(tmp_path: Path) -> None:
    dump(tmp_path / "zarr", SIGMOID)
    dump(tmp_path / "parquet", make_options(k=K, head="sigmoid", format="parquet"))

    group = zarr.open_group(tmp_path / "zarr/outputs/logits", mode="r")
    schema = pq.read_schema(next((tmp_path / "parquet/outputs/logits").rglob("*.parquet")))
    assert group.attrs["head"] == "sigmoid"
    assert json.loads(schema.metadata[b"softlab"])["head"] == "sigmoid"


def test_converted_rows_keep_their_head(tmp_path: Path) -> None:
    dump(tmp_path / "zarr", SIGMOID)
    store, labels = read_all(tmp_path / "zarr")

    convert_store(store, tmp_path / "parquet", format="parquet")

    converted, found = read_all(tmp_path / "parquet")
    assert (converted.head, found.head) == ("sigmoid", "sigmoid")
    assert_same_labels(found, labels)


# A dump that goes on, and views that are added.


def test_an_interrupted_dump_goes_on_with_the_same_head_alone(tmp_path: Path) -> None:
    dump(tmp_path / "undisturbed", SIGMOID)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", SIGMOID, on_progress=stop_at(33))

    with pytest.raises(StoreMismatch, match=re.escape("`dump.head` was 'sigmoid', is now 'softmax'")):
        dump(tmp_path / "store", make_options(k=K, coding="float32"))
    dump(tmp_path / "store", SIGMOID)

    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_finished_store_of_another_head_is_not_written_over(tmp_path: Path) -> None:
    dump(tmp_path / "store")

    with pytest.raises(StoreExists, match=re.escape("`dump.head` was 'softmax', is now 'sigmoid'")):
        dump(tmp_path / "store", make_options(head="sigmoid"))


def test_added_views_have_the_head_of_the_others(tmp_path: Path) -> None:
    out = tmp_path / "store"
    dump_views(out, 1, augment=AUGMENT, head="sigmoid", coding="float32", k=K)

    with pytest.raises(StoreMismatch, match=re.escape("`dump.head` was 'sigmoid', is now 'softmax'")):
        dump_views(out, "+1", augment=AUGMENT, coding="float32", k=K)
    dump_views(out, "+1", augment=AUGMENT, head="sigmoid", coding="float32", k=K)

    store, _ = read_all(out)
    logits_NC = forward_of_view(make_teacher(), Pictures(), 1, SIGMOID)
    expected = keep_top_k(logits_NC, k=K, temperatures=TEMPERATURES, head="sigmoid")
    assert store.num_views == 2
    assert_same_labels(store.read(range(50), view=1), expected)


def test_an_unknown_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="head"):
        dump(tmp_path / "store", make_options(head="tanh"))


# How much is kept.


@pytest.mark.parametrize("k", [1, K, NUM_CLASSES])
def test_the_captured_mass_is_the_kept_classes_share_of_the_summed_probability(tmp_path: Path, k: int) -> None:
    summary = dump(tmp_path / "store", make_options(k=k, head="sigmoid"))

    expected = [share_of_kept(dense(), k=k, temperature=t).mean().item() for t in TEMPERATURES]
    assert summary.manifest.statistics["logits"].mean_captured_mass == pytest.approx(expected, rel=1e-6)


def test_the_share_is_right_where_every_class_is_improbable() -> None:
    """In float32 all of these probabilities are 0."""
    logits_NC = torch.tensor([[-300.0, -301.0, -301.0]])

    labels = keep_top_k(logits_NC, k=1, temperatures=[1.0], head="sigmoid")

    (share,) = measure(labels, targets_N=None, clipped_logits=0).captured_mass
    assert share == pytest.approx(1 / (1 + 2 * np.exp(-1.0)), rel=1e-6)


def test_a_teacher_is_right_where_its_likeliest_class_is_the_target(tmp_path: Path) -> None:
    targets_N = dense().argmax(dim=1).numpy()
    targets_N[:10] = (targets_N[:10] + 1) % NUM_CLASSES

    summary = dump(tmp_path / "store", SIGMOID, source=Pictures(targets_N=targets_N))

    assert summary.manifest.statistics["logits"].accuracy == 0.8


# What it would keep and lose.


def cross_entropy_error(logits_NC: Tensor, *, k: int, temperature: float) -> float:
    """Nats a class: how far torch's BCE against a dense rebuild, where classes outside have their mean, lies above that
    against all logits, for the student that says what it is taught."""
    probability_NC = (logits_NC.double() / temperature).sigmoid()
    is_kept_NC = torch.zeros_like(probability_NC).scatter(1, logits_NC.topk(k, dim=1).indices, 1.0).bool()
    outside_N1 = probability_NC.masked_fill(is_kept_NC, 0).sum(dim=1, keepdim=True) / max(logits_NC.shape[1] - k, 1)
    rebuilt_NC = torch.where(is_kept_NC, probability_NC, outside_N1)
    error = binary_cross_entropy(rebuilt_NC, probability_NC) - binary_cross_entropy(probability_NC, probability_NC)
    return error.item()


@pytest.mark.parametrize("scale", [0.1, 3.0])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_mass_and_error_are_those_of_a_dense_rebuild(scale: float, temperature: float) -> None:
    logits_NC = scale * torch.randn(30, 12, generator=torch.Generator().manual_seed(1)) - 1

    mass_KT, error_KT = truncation(logits_NC, temperatures=[temperature], head="sigmoid")

    for k in range(1, 13):
        share = share_of_kept(logits_NC, k=k, temperature=temperature).mean().item()
        expected = cross_entropy_error(logits_NC, k=k, temperature=temperature)
        assert mass_KT[k - 1, 0].item() == pytest.approx(share)
        assert error_KT[k - 1, 0].item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_saturated_classes_lose_nothing() -> None:
    logits_NC = torch.tensor([[900.0, 800.0, -800.0, -900.0]])

    mass_KT, error_KT = truncation(logits_NC, temperatures=[1.0], head="sigmoid")

    assert mass_KT[:, 0].tolist() == [0.5, 1.0, 1.0, 1.0]
    assert error_KT[1:, 0].tolist() == [0.0, 0.0, 0.0]


def test_a_plan_measures_what_the_dump_will_hold(tmp_path: Path) -> None:
    found = survey_teacher(as_teacher(make_teacher()), Pictures(), SIGMOID)

    summary = dump(tmp_path / "store", SIGMOID)
    (chosen,) = [choice for choice in found.choices if choice.k == K]
    errors = [cross_entropy_error(dense(), k=K, temperature=t) for t in TEMPERATURES]
    assert found.head == "sigmoid"
    assert chosen.captured_mass_T == pytest.approx(summary.manifest.statistics["logits"].mean_captured_mass, rel=1e-6)
    assert chosen.kl_T == pytest.approx(errors, rel=1e-4)
    assert found.choices[-1].kl_T == pytest.approx([0, 0, 0], abs=1e-12)


# What the card says.


def test_only_the_card_of_a_multi_label_teacher_speaks_of_classes_by_themselves(tmp_path: Path) -> None:
    sigmoid, softmax = dump(tmp_path / "sigmoid", SIGMOID), dump(tmp_path / "softmax")
    said = (
        "| head | sigmoid: each class a choice of its own (multi-label) |",
        "| tail | the exact log of its classes' mean probability at temperatures 1, 2, 4 |",
        "Share of the summed probability that the kept classes have: ",
        "`log_tail` is the natural log of the\nmean probability of the classes that are not kept, one column",
        "--student torchvision:resnet18 --loss bce --alpha 1 --out RUN",
    )

    card, other = render_card(sigmoid.manifest), render_card(softmax.manifest)

    assert [text for text in said if text not in card] == []
    assert [text for text in said if text in other] == []
    assert "| head | softmax: " in other

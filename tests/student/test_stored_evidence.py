"""What stored rows tell before a student is trained, compared with the teacher's own logits."""

from pathlib import Path

import pytest
import torch

from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.student.stored_evidence import NEARLY_ALL, evidence_of
from tests.student.pictures import make_store


def test_mass_and_entropy_are_those_of_the_whole_distribution(tmp_path: Path) -> None:
    whole, top = make_store(tmp_path / "whole"), make_store(tmp_path / "top", k=3)
    labels = whole.read(range(whole.num_samples))
    logits_NC = torch.empty(len(labels), 5).scatter_(1, labels.class_ids_BK.long(), labels.logits_BK).double()

    for store in (whole, top):
        found = evidence_of(store)
        for at in found.at:
            cumulated_K = (logits_NC / at.temperature).softmax(1).sort(descending=True).values.cumsum(1).mean(0)
            enough = int((cumulated_K < NEARLY_ALL).sum()) + 1
            assert at.mass == pytest.approx(float(cumulated_K[store.k - 1]), abs=1e-5)
            assert at.enough_k == (enough if enough <= store.k else None)
    log_p_NC = logits_NC.log_softmax(1)
    assert evidence_of(whole).entropy == pytest.approx(float(-(log_p_NC.exp() * log_p_NC).sum(1).mean()), abs=1e-5)
    assert evidence_of(top).at[-1].enough_k is None, "of 5 classes 3 hold less at T=4"


def test_it_says_how_many_classes_entries_and_views_there_are(tmp_path: Path) -> None:
    flips = ViewRecipe(transforms=("RandomHorizontalFlip()",))
    found = evidence_of(make_store(tmp_path / "store", k=2, views=3, augment=flips))

    assert (found.num_classes, found.kept, found.num_views) == (5, "K = 2", 3)
    assert found.teacher_accuracy is not None


def test_the_entropy_is_not_told_where_the_tail_is_unknown_at_one(tmp_path: Path) -> None:
    assert evidence_of(make_store(tmp_path / "store", k=2, temperature=(2.0, 4.0))).entropy is None


def test_of_a_sigmoid_head_the_mass_is_its_share_of_all_probabilities(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", k=5, head="sigmoid", temperature=(1.0,))
    labels = store.read(range(store.num_samples))
    p_NC = (labels.logits_BK + labels.max_logit_B[:, None]).double().sigmoid()

    (at,) = evidence_of(store).at

    share_K = (p_NC / p_NC.sum(1, keepdim=True)).cumsum(1).mean(0)
    assert at.mass == pytest.approx(1.0)
    assert at.enough_k == int((share_K < NEARLY_ALL).sum()) + 1

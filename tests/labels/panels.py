"""Several teachers of the same rows, and their means made dense again in float64, by the words of their definition."""

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import log_softmax

from softlab.labels.coding import Coding, LabelCoding
from softlab.labels.ensembles import CombineBy
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import TEMPERATURES, dense_log_probabilities

# Shape letters: B rows in a batch, S teachers, C classes, K entries kept (K <= C).


@dataclass(frozen=True)
class Panel:
    """What teachers say, and what counts each of them in each row."""

    labels: list[SoftLabels]
    weights_BS: Tensor
    student_BC: Tensor
    targets_B: Tensor
    """-1 where unknown."""

    @property
    def num_classes(self) -> int:
        return self.labels[0].num_classes


@st.composite
def panels(
    draw: st.DrawFn, *, scales: tuple[float, ...] = (0.01, 1.0, 10.0), min_teachers: int = 1, with_tail: bool = False
) -> Panel:
    """Of one to four teachers, each with a K and a coding of its own; in a row they may rank the classes alike, keep
    none in common, or neither. Some tails have no mass, unless each must have some."""
    num_classes = draw(st.integers(2, 24))
    sizes = st.integers(1, min(num_classes, 5)) | st.integers(max(num_classes - 2, 1), num_classes)
    ks = draw(st.lists(sizes, min_size=min_teachers, max_size=4))
    kinds = draw(st.lists(st.sampled_from(["alike", "apart", "by chance"]), min_size=1, max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    labels = []
    for teacher, k in enumerate(ks):
        logits_BC = draw(st.sampled_from(scales)) * torch.randn(len(kinds), num_classes, generator=generator)
        ranked_BC = _assign(logits_BC, kinds, first=sum(ks[:teacher]), generator=generator)
        coded = _coded(keep_top_k(ranked_BC, k=k, temperatures=TEMPERATURES), draw(st.sampled_from(CODINGS)))
        is_bare_B1 = torch.rand(len(kinds), 1, generator=generator) < (0.0 if with_tail else 0.2)
        labels.append(replace(coded, log_tail_BT=coded.log_tail_BT.masked_fill(is_bare_B1, -torch.inf)))
    # Not below 0.01: log 0 is taken to be -65504, which a smaller share of it would show.
    weights_BS = torch.rand(len(kinds), len(ks), generator=generator).clamp(min=0.01)
    weights_BS = weights_BS.masked_fill(weights_BS < draw(st.sampled_from([0.0, 0.5])), 0.0)
    weights_BS[:, draw(st.integers(0, len(ks) - 1))] += 0.1
    return Panel(
        labels=labels,
        weights_BS=weights_BS / weights_BS.sum(dim=1, keepdim=True),
        student_BC=2 * torch.randn(len(kinds), num_classes, generator=generator),
        targets_B=torch.randint(-1, num_classes, (len(kinds),), generator=generator),
    )


CODINGS: tuple[Coding, ...] = ("float32", "float16", "uint8")


def _assign(logits_BC: Tensor, kinds: list[str], *, first: int, generator: torch.Generator) -> Tensor:
    """The same logits in each row, largest at class `first` and on from there, at class 0 and on, or left as drawn."""
    sorted_BC = logits_BC.sort(dim=1, descending=True).values
    rows = {"alike": sorted_BC, "apart": sorted_BC.roll(first, dims=1), "by chance": logits_BC}
    return torch.stack([rows[kind][row] for row, kind in enumerate(kinds)])


def _coded(labels: SoftLabels, coding: Coding) -> SoftLabels:
    """As a store gives them back."""
    store = LabelCoding(coding=coding, num_classes=labels.num_classes, temperatures=labels.temperatures)
    return store.decode(store.encode(labels))


def dense_logits(labels: SoftLabels, *, temperature: float) -> Tensor:
    """float64 [B, C], raw: of the kept classes, and for each other class the one that has its share of the tail."""
    log_p_BC = dense_log_probabilities(labels, temperature=temperature, tail="uniform")
    first_B1 = log_p_BC.gather(1, labels.class_ids_BK[:, :1])
    return temperature * (log_p_BC - first_B1) + labels.max_logit_B.double()[:, None]


def dense_mean(panel: Panel, *, by: CombineBy, temperature: float) -> Tensor:
    """The mean of the teachers' probabilities, or the softmax of that of their logits, float64 [B, C]."""
    if by == "logits":
        return log_softmax(mean_of_logits(panel, temperature=temperature) / temperature, dim=1).exp()
    weights_SB1 = panel.weights_BS.double().T[:, :, None]
    log_p = [dense_log_probabilities(each, temperature=temperature, tail="uniform") for each in panel.labels]
    return (weights_SB1 * torch.stack(log_p).exp()).sum(dim=0)


def mean_of_logits(panel: Panel, *, temperature: float) -> Tensor:
    """float64 [B, C], raw. What a teacher of weight 0 says is left out, however little it is."""
    weights_SB1 = panel.weights_BS.double().T[:, :, None]
    logits_SBC = torch.stack([dense_logits(each, temperature=temperature) for each in panel.labels])
    return (weights_SB1 * logits_SBC.where(weights_SB1 > 0, 0.0)).sum(dim=0)

"""A student whose named layers are tapped: its logits, and its features projected to the teacher's width."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from softlab.errors import StoreMismatch
from softlab.evaluation.tally import Given
from softlab.labels.joined_labels import finite_logits
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses import LossOnValues, StudentLoss
from softlab.labels.losses.values import ProjectedLoss
from softlab.loading.batch import Batch
from softlab.models.device import Autocast
from softlab.models.rows import OutputRows, logits_of, values_of
from softlab.models.taps import FeatureTaps
from softlab.student.feature_losses import FeatureLoss
from softlab.student.heads.objective import HeadsObjective
from softlab.student.heads.outputs import heads_of
from softlab.student.projector import make_projector

OWN = "own"
"""The key of the projector of a student's own output; those of features begin with `of-`, of heads with `head-`."""


class TappedStudent:
    """A module on its device, with one projector for each feature that it learns, and for its own output where that
    learns stored values; the projectors train with it, but are no part of its weights."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        features: Mapping[str, FeatureLoss],
        *,
        device: torch.device,
        autocast: Autocast,
        compiled: bool,
        example: Batch | None,
        seed: int,
        input_index: int = 0,
        loss: StudentLoss | None = None,
        heads: HeadsObjective | None = None,
    ) -> None:
        """`loss` is that of the student's own output, in place of which it may have several `heads`. `example` tells
        the shapes of the features and of stored values, where there are any. Raises ModelError for a layer that isn't
        there, StoreMismatch for features and values that can't be compared."""
        self.module, self._device, self._autocast, self.input_index = module, device, autocast, input_index
        self._name = name
        self._taps = FeatureTaps(module, {key: loss.tap for key, loss in features.items()})
        self._forward: Callable[..., object] = torch.compile(module) if compiled else module
        self._values_output = loss.output if isinstance(loss, LossOnValues) else None
        self._heads = {} if heads is None else dict(heads.gives_values)
        on_values = {OWN: loss} if isinstance(loss, LossOnValues) else {}
        self._on_values = on_values if heads is None else heads.on_values
        self.projectors = nn.ModuleDict()
        if features or self._on_values:
            assert example is not None, "features and values have an example"
            self.projectors = self._make_projectors(name, features, example, seed=seed).to(device)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that train."""
        both = [*self.module.parameters(), *self.projectors.parameters()]
        return [parameter for parameter in both if parameter.requires_grad]

    def logits(self, batch: Batch, *, forward: Callable[..., object] | None = None) -> Given:
        """[B, C] on the device, in the dtype of autocast; with units [R, C]; of a student of values, these [B, ...],
        not projected; of a large vocabulary LazyLogits; of one with several heads these of each. `forward` is called in
        place of the module where it is given. Raises StoreMismatch for other rows than the stored ones."""
        if not self._heads:
            return self.rows(batch, forward=forward).rows
        return heads_of(
            self._forward if forward is None else forward,
            batch.inputs[self.input_index].inputs,
            heads=self._heads,
            student=self._name,
            device=self._device,
            autocast=self._autocast,
        )

    def rows(self, batch: Batch, *, forward: Callable[..., object] | None = None) -> OutputRows:
        """The same, with how many rows each sample has and which positions they are."""
        collated, called = batch.inputs[self.input_index], self._forward if forward is None else forward
        if self._values_output is not None:
            values = values_of(
                called, collated.inputs, name=self._values_output, device=self._device, autocast=self._autocast
            )
            return OutputRows(rows=values)
        found = logits_of(
            called,
            collated.inputs,
            device=self._device,
            autocast=self._autocast,
            counted=collated.units,
            joined=collated.outputs,
        )
        if batch.labels is not None and len(found.rows) != len(batch.labels):
            raise StoreMismatch(
                f"student {self._name}: gives {len(found.rows):,} rows for {len(batch):,} samples, but the store holds "
                f"{len(batch.labels):,}. Build a student that answers at the positions that the teacher answered "
                f"at; of words or frames, say `input.unit = word` or `frame` too."
            )
        if not collated.outputs or isinstance(found.rows, LazyLogits):
            return found
        return replace(found, rows=finite_logits(found.rows, batch.labels))

    def check_units(self, batch: Batch, *, units_R: Tensor | None) -> None:
        """Raises StoreMismatch unless the student answers at the very positions that the stored rows are of; `units_R`
        are these. Of several heads each answers once a sample."""
        if self._heads:
            return
        found, labels = self.rows(batch), None if self._values_output is not None else batch.labels
        if labels is None or (found.counts_B is None and labels.counts_B is None):
            return
        if found.counts_B is None or found.positions_R is None or labels.counts_B is None or units_R is None:
            theirs = "one row a sample" if labels.counts_B is None else "a row for each unit of a sample"
            raise StoreMismatch(
                f"student {self._name}: gives {list(found.rows.shape)} for {len(batch)} samples, but the store holds "
                f"{theirs}. Build a student whose output is of the same kind; of words or frames, say `input.unit = "
                f"word` or `frame` too."
            )
        if batch.counts_B is not None:
            return  # units have numbers of their own, by which rows were chosen
        same_counts = found.counts_B.cpu().equal(labels.counts_B)
        if not same_counts or not found.positions_R.cpu().equal(units_R):
            raise StoreMismatch(
                f"student {self._name}: answers at other positions than the teacher, such as {_shown(found)} for the "
                f"first sample. Build a student of the same stride, or with the same tokens."
            )

    def logits_and_features(self, batch: Batch) -> tuple[Given, dict[str, Tensor]]:
        """The same, values projected, and the features of the same forward pass, projected too."""
        if not self.projectors:
            return self.logits(batch), {}
        with self._taps:
            given = self.logits(batch)
            found = self._taps.collect()
        return self._projected(given), {name: self.projectors[_key(name)](feature) for name, feature in found.items()}

    def _projected(self, given: Given) -> Given:
        if isinstance(given, Mapping):
            projected = {name: self.projectors[_key_of_head(name)](given[name]) for name in self._on_values}
            return {**given, **projected}
        return self.projectors[OWN](given) if OWN in self.projectors else given

    def _make_projectors(
        self,
        student: str,
        features: Mapping[str, FeatureLoss],
        example: Batch,
        *,
        seed: int,
    ) -> nn.ModuleDict:
        with torch.inference_mode(), self._taps:
            self.module.eval()
            given = self.logits(example)
            found = self._taps.collect()
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            projectors = nn.ModuleDict(
                {
                    _key(name): make_projector(
                        found[name].shape[1:],
                        example.features[name].shape[1:],
                        kind=feature.projector,
                        normalisation=feature.normalisation,
                        loss=feature.loss,
                        layer=f"student {student}: layer {feature.layer}",
                    )
                    for name, feature in features.items()
                }
            )
            for head, loss in self._on_values.items():
                assert loss.output is not None, "settled when the run began"
                own = given[head] if isinstance(given, Mapping) else given
                assert isinstance(own, Tensor), "values are"
                stored = example.heads[head].features if isinstance(given, Mapping) else example.features
                where = f"student {student}" + (f": head {head}" if isinstance(given, Mapping) else "")
                key = _key_of_head(head) if isinstance(given, Mapping) else OWN
                projectors[key] = _own_projector(loss, own, stored[loss.output], where=where)
            return projectors


def _own_projector(loss: LossOnValues, student_B: Tensor, stored_B: Tensor, *, where: str) -> nn.Module:
    """From what a student gives to what is stored; raises StoreMismatch for shapes that the loss can't compare."""
    shape, stored = student_B.shape[1:], stored_B.shape[1:]
    loss.check_shapes(shape, stored, where=where)
    if isinstance(loss, ProjectedLoss):
        return make_projector(shape, stored, kind=loss.projector, layer=where)
    return nn.Identity()


def _shown(rows: OutputRows) -> str:
    assert rows.counts_B is not None, "it has units"
    assert rows.positions_R is not None, "and positions"
    positions = rows.positions_R[: int(rows.counts_B[0])].tolist()
    return f"{len(positions)} positions ({', '.join(map(str, positions[:5]))}{', ...' if len(positions) > 5 else ''})"


def _key(feature: str) -> str:
    """A feature may have a name that ModuleDict keeps for itself, such as `values`."""
    return f"of-{feature}"


def _key_of_head(head: str) -> str:
    return f"head-{head}"

"""One student in training: its model, optimizer, schedule and random numbers, advanced a batch at a time."""

# Shape letters: B rows in a batch, C classes.

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import cast

import torch
from torch import Tensor, nn

from softlab.errors import TrainingFailed
from softlab.evaluation.tally import Given
from softlab.loading.batch import Batch
from softlab.models.device import DeviceOptions, place
from softlab.ranks import ALONE, Ranks
from softlab.student.activations import checkpoint_activations
from softlab.student.averaging import WeightAverage
from softlab.student.collectives import average_gradients, copy_first_rank, mean_of_ranks
from softlab.student.heads.objective import HeadsObjective
from softlab.student.objective import Objective
from softlab.student.optimizer import OptimizerOptions, Schedule, make_optimizer
from softlab.student.pruning import PruneOptions, Pruner, Sparsity, exported_state
from softlab.student.robust import RobustLoss
from softlab.student.tapped import TappedStudent

State = dict[str, Tensor]
"""Everything that a killed run needs, flat, so that it fits a safetensors file."""


class Learner:
    """Students share batches and nothing else: each has its own random numbers, so none depends on the others."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        objective: Objective | HeadsObjective,
        *,
        optimizer: OptimizerOptions,
        device: torch.device,
        place_on: DeviceOptions,
        num_steps: int,
        steps_per_epoch: int,
        seed: int,
        prune: PruneOptions | None = None,
        example: Batch | None = None,
        ranks: Ranks = ALONE,
        input_index: int = 0,
        robust: RobustLoss | None = None,
    ) -> None:
        """`place_on` says how the model runs on the device; `example` is a batch there, needed where features or
        values are learnt; `input_index` tells which of a batch's inputs is this student's; `robust` takes the place of
        the objective on a batch as it is."""
        self.name, self.objective, self.device, self.input_index = name, objective, device, input_index
        self.robust = robust
        self.module = place(module, device, channels_last=place_on.channels_last)
        if place_on.checkpoint_activations:
            checkpoint_activations(self.module, student=name)
        self._pruner = None if prune is None else Pruner(self.module, prune, num_steps=num_steps)
        if self._pruner is not None:
            self._pruner.prepare()
        self._student = TappedStudent(
            name,
            self.module,
            objective.features,
            device=device,
            autocast=place_on.autocast,
            compiled=place_on.compile,
            example=example,
            seed=seed,
            input_index=input_index,
            loss=objective.loss if isinstance(objective, Objective) else None,
            heads=objective if isinstance(objective, HeadsObjective) else None,
        )
        self.optimizer, self.prune, self.seed, self.channels_last = optimizer, prune, seed, place_on.channels_last
        self._num_steps, self._ranks = num_steps, ranks
        copy_first_rank([*self.module.parameters(), *self.module.buffers()], ranks)  # each may have begun with its own
        self.learning_rate = Schedule(options=optimizer, num_steps=num_steps, steps_per_epoch=steps_per_epoch)
        self._optimizer = make_optimizer(self._student.parameters, optimizer)
        self._average = None if optimizer.ema is None else WeightAverage(self.module, decay=optimizer.ema)
        self._losses = MeanLoss(device, ranks=ranks)

    def step(self, batch: Batch, *, step: int, part: int = 0, parts: int = 1) -> Tensor:
        """One update; the loss, still on the device, so that nothing waits for it.

        Of a batch in several parts each is a call of its own, and the last one makes the update, with the mean of their
        gradients.
        """
        batch = batch.for_input(self.input_index)
        with self._random_numbers_of(step, part=part):
            self.module.train()
            self._student.projectors.train()
            loss = self._loss(batch, progress=step / max(self._num_steps - 1, 1))
            if part == 0:
                self._optimizer.zero_grad()
            (loss if parts == 1 else loss / parts).backward()  # type: ignore[no-untyped-call]
        self._losses.add(loss.detach())
        if part == parts - 1:
            self._update(step)
        return loss.detach()

    def _loss(self, batch: Batch, *, progress: float) -> Tensor:
        if self.robust is not None:
            return self.robust(self._student, batch, progress=progress)
        given, features = self._student.logits_and_features(batch)
        objective = cast(Callable[..., Tensor], self.objective)
        return objective(given, batch.read_by(self.input_index), features=features, progress=progress)

    def _update(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        average_gradients(self._student.parameters, self._ranks)
        if self.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._student.parameters, self.optimizer.clip_norm)
        self._optimizer.step()
        if self._pruner is not None:
            self._pruner.step((step + 1) / self._num_steps)
        if self._average is not None:
            self._average.update(self.module)

    def weights(self) -> State:
        """Of the model as it would be used now: averaged if they are to be, pruned weights zero."""
        module = self.module if self._average is None else self._average.module
        state: State = module.state_dict() if self._pruner is None else exported_state(module)
        return state

    def finish(self) -> Sparsity | None:
        """Leave the module as it would be used, with its own names alone, after the last step; how much of it is
        pruned, if it is."""
        if self._average is not None:
            self.module.load_state_dict(self._average.module.state_dict())
            self._average = None
        if self._pruner is None:
            return None
        self._pruner.finish()
        return self._pruner.sparsity()

    def release(self) -> None:
        """Give back the memory that only further steps would need."""
        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.state.clear()

    def check_units(self, batch: Batch, *, units_R: Tensor | None) -> None:
        """As `TappedStudent.check_units`."""
        self.module.eval()
        self._student.check_units(batch, units_R=units_R)

    def evaluating(self) -> Callable[[Batch], Given]:
        """The student in eval mode, as a function from a batch to logits [B, C], or to values [B, ...], or to these of
        each of its heads, on the device, in the dtype of autocast; until the next step."""
        if self._average is None:
            self.module.eval()
            return self._student.logits
        average = self._average.module.eval()
        return lambda batch: self._student.logits(batch, forward=average)

    def take_mean_loss(self, *, step: int) -> float:
        """Mean over the steps since this was last asked. Raises TrainingFailed if it isn't finite."""
        return self._finite(self._losses.take(), step=step)

    def recent_loss(self, *, step: int) -> float:
        """Mean over the steps since this was last asked, or the mean loss was. Raises TrainingFailed as there."""
        return self._finite(self._losses.recent(), step=step)

    def _finite(self, mean: float, *, step: int) -> float:
        if not math.isfinite(mean):
            raise TrainingFailed(
                f"student {self.name}: its loss is {mean} by step {step}. Lower `optimizer.learning_rate`, or set "
                f"`optimizer.clip_norm = 1`, and train in another `out`."
            )
        return mean

    def state(self) -> State:
        """Weights, optimizer and projectors, as tensors on the CPU; random numbers are a function of the step."""
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
        projectors = self._student.projectors.state_dict()
        tensors |= {f"projector.{name}": tensor for name, tensor in projectors.items()}
        if self._average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self._average.state().items()}
        tensors |= {f"loss.{name}": tensor for name, tensor in self._losses.state().items()}
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}

    def load_state(self, tensors: State) -> None:
        """Go on from what `state` returned."""
        self.module.load_state_dict(_below(tensors, "model."))
        optimizer_state = self._optimizer.state_dict()
        optimizer_state["state"] = {}
        for name, tensor in _below(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            optimizer_state["state"].setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict(optimizer_state)
        self._student.projectors.load_state_dict(_below(tensors, "projector."))
        if self._average is not None:
            self._average.load_state(_below(tensors, "average."))
        self._losses.load_state(_below(tensors, "loss."))

    def share_buffers(self) -> None:
        """Give all ranks the statistics of the first, such as running means: each has seen other rows."""
        copy_first_rank(self.module.buffers(), self._ranks)

    @contextmanager
    def _random_numbers_of(self, step: int, *, part: int) -> Iterator[None]:
        """Random numbers of this student at this step inside, everyone else's left as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            seed = _draw(self.seed, step, self._ranks.rank + part * self._ranks.count)
            torch.default_generator.manual_seed(seed)
            if self.device.type == "cuda":
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            yield


class MeanLoss:
    """Adds up losses on the device, so that no step waits for them."""

    def __init__(self, device: torch.device, *, ranks: Ranks) -> None:
        self._sum = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        self._count, self._ranks = 0, ranks
        self._seen = (0.0, 0)

    def add(self, loss: Tensor) -> None:
        self._sum += loss
        self._count += 1

    def take(self) -> float:
        """Their mean; begins anew."""
        mean = mean_of_ranks(self._sum, self._ranks).item() / max(self._count, 1)
        self._sum.zero_()
        self._count, self._seen = 0, (0.0, 0)
        return mean

    def recent(self) -> float:
        """The mean of those since this was last asked."""
        (seen_sum, seen_count), total = self._seen, mean_of_ranks(self._sum, self._ranks).item()
        self._seen = (total, self._count)
        return (total - seen_sum) / max(self._count - seen_count, 1)

    def state(self) -> State:
        return {"sum": mean_of_ranks(self._sum, self._ranks), "count": torch.tensor(self._count)}

    def load_state(self, tensors: State) -> None:
        self._sum.copy_(tensors["sum"])
        self._count = int(tensors["count"])


def _draw(seed: int, step: int, place: int) -> int:
    """A seed for one step of one part of a batch: 32 bits, which is all that torch's generator keeps."""
    return int.from_bytes(blake2b(struct.pack("<QQQ", seed, step, place), digest_size=4).digest(), "little")


def _below(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

"""One student in training: its model, optimizer, schedule and random numbers, advanced a batch at a time."""

# Shape letters: B rows in a batch, C classes.

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

import torch
from torch import Tensor, nn

from softlab.errors import TrainingFailed
from softlab.loading.batch import Batch
from softlab.models.device import place
from softlab.ranks import ALONE, Ranks
from softlab.student.collectives import average_gradients, copy_first_rank, mean_of_ranks
from softlab.student.objective import Objective
from softlab.student.options import TrainOptions
from softlab.student.pruning import Pruner, Sparsity
from softlab.student.tapped import TappedStudent

State = dict[str, Tensor]
"""Everything that a killed run needs, flat, so that it fits a safetensors file."""


class Learner:
    """Students share batches and nothing else: each has its own random numbers, so none depends on the others."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        objective: Objective,
        options: TrainOptions,
        *,
        device: torch.device,
        num_steps: int,
        steps_per_epoch: int,
        example: Batch | None = None,
        ranks: Ranks = ALONE,
        input_index: int = 0,
    ) -> None:
        """`example` is a batch on the device, needed where features are learnt; `input_index` tells which of a batch's
        inputs is this student's."""
        self.name, self.objective, self.device, self.input_index = name, objective, device, input_index
        self.module = place(module, device, channels_last=options.channels_last)
        self._pruner = None if options.prune is None else Pruner(self.module, options.prune, num_steps=num_steps)
        if self._pruner is not None:
            self._pruner.prepare()
        self._student = TappedStudent(
            name,
            self.module,
            objective.features,
            device=device,
            autocast=options.autocast,
            compiled=options.compile,
            example=example,
            seed=options.seed,
            input_index=input_index,
        )
        self.options, self._num_steps, self._ranks = options, num_steps, ranks
        copy_first_rank([*self.module.parameters(), *self.module.buffers()], ranks)  # each may have begun with its own
        self._warmup_steps = options.warmup_epochs * steps_per_epoch
        self._optimizer = _make_optimizer(self._student.parameters, options)
        self._loss_sum = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        self._losses = 0

    def step(self, batch: Batch, *, step: int) -> Tensor:
        """One update; the loss, still on the device, so that nothing waits for it."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        with self._random_numbers_of(step):
            self.module.train()
            self._student.projectors.train()
            logits_BC, features = self._student.logits_and_features(batch)
            progress = step / max(self._num_steps - 1, 1)
            loss = self.objective(logits_BC, batch, features=features, progress=progress)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self._student.parameters, self._ranks)
        if self.options.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._student.parameters, self.options.clip_norm)
        self._optimizer.step()
        if self._pruner is not None:
            self._pruner.step((step + 1) / self._num_steps)
        self._loss_sum += loss.detach()
        self._losses += 1
        return loss.detach()

    def weights(self) -> State:
        """Of the model as it would be used now: pruned weights are zero."""
        state: State = self.module.state_dict() if self._pruner is None else self._pruner.exported_state()
        return state

    def finish(self) -> Sparsity | None:
        """Leave the module with its own names alone after the last step; how much of it is pruned, if it is."""
        if self._pruner is None:
            return None
        self._pruner.finish()
        return self._pruner.sparsity()

    def release(self) -> None:
        """Give back the memory that only further steps would need."""
        self._optimizer.zero_grad(set_to_none=True)
        self._optimizer.state.clear()

    def logits(self, batch: Batch) -> Tensor:
        """[B, C] on the device, in the dtype of autocast."""
        return self._student.logits(batch)

    def check_units(self, batch: Batch, *, units_R: Tensor | None) -> None:
        """As `TappedStudent.check_units`."""
        self.module.eval()
        self._student.check_units(batch, units_R=units_R)

    def evaluating(self) -> Callable[[Batch], Tensor]:
        """The student in eval mode, as a function from a batch to logits; until the next step."""
        self.module.eval()
        return self.logits

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then cosine to zero (Loshchilov, Hutter 2017, without restarts) or constant."""
        if step < self._warmup_steps:
            return self.options.learning_rate * (step + 1) / math.ceil(self._warmup_steps)
        if self.options.schedule == "constant":
            return self.options.learning_rate
        progress = (step - self._warmup_steps) / max(self._num_steps - self._warmup_steps, 1)
        return self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def take_mean_loss(self, *, step: int) -> float:
        """Mean over the steps since this was last asked. Raises TrainingFailed if it isn't finite."""
        mean = mean_of_ranks(self._loss_sum, self._ranks).item() / max(self._losses, 1)
        self._loss_sum.zero_()
        self._losses = 0
        if not math.isfinite(mean):
            raise TrainingFailed(
                f"student {self.name}: its loss is {mean} by step {step}. Lower --learning-rate, or set --clip-norm 1, "
                f"and train in another --out."
            )
        return mean

    def state(self) -> State:
        """Weights, optimizer and projectors, as tensors on the CPU; random numbers are a function of the step."""
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
        projectors = self._student.projectors.state_dict()
        tensors |= {f"projector.{name}": tensor for name, tensor in projectors.items()}
        tensors |= {"loss_sum": mean_of_ranks(self._loss_sum, self._ranks), "losses": torch.tensor(self._losses)}
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
        self._loss_sum.copy_(tensors["loss_sum"])
        self._losses = int(tensors["losses"])

    def share_buffers(self) -> None:
        """Give all ranks the statistics of the first, such as running means: each has seen other rows."""
        copy_first_rank(self.module.buffers(), self._ranks)

    @contextmanager
    def _random_numbers_of(self, step: int) -> Iterator[None]:
        """Random numbers of this student at this step inside, everyone else's left as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            seed = _draw(self.options.seed, step, self._ranks.rank)
            torch.default_generator.manual_seed(seed)
            if self.device.type == "cuda":
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            yield


def _draw(seed: int, step: int, rank: int) -> int:
    """A seed for one step of one rank: 32 bits, which is all that torch's generator keeps."""
    return int.from_bytes(blake2b(struct.pack("<QQQ", seed, step, rank), digest_size=4).digest(), "little")


def _make_optimizer(parameters: Sequence[nn.Parameter], options: TrainOptions) -> torch.optim.Optimizer:
    if options.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.momentum > 0,
    )


def _below(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

"""One student in training: its model, optimiser, schedule and random state, advanced a batch at a time."""

# Shape letters: B rows in a batch, C classes.

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from softlab.errors import TrainingFailed
from softlab.loading.batches import Batch
from softlab.models.device import place
from softlab.models.forward import logits_of
from softlab.student.objective import Objective
from softlab.student.options import TrainOptions

State = dict[str, Tensor]
"""Everything that a killed run needs, flat, so that it fits a safetensors file."""


class Learner:
    """Students share batches and nothing else: each has its own random state, so none depends on the others."""

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
    ) -> None:
        self.name, self.objective, self.device = name, objective, device
        self.module = place(module, device, channels_last=options.channels_last)
        self._forward: Callable[..., object] = torch.compile(self.module) if options.compile else self.module
        self._options, self._num_steps = options, num_steps
        self._warmup_steps = options.warmup_epochs * steps_per_epoch
        self._optimiser = _make_optimiser(self.module, options)
        self._cpu_rng, self._cuda_rng = _seeded(options.seed, device)
        self._loss_sum = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
        self._losses = 0

    def step(self, batch: Batch, *, step: int) -> Tensor:
        """One update; the loss, still on the device, so that nothing waits for it."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate(step)
        with self._own_random_state():
            self.module.train()
            loss = self.objective(self.logits(batch), batch)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        if self._options.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self._options.clip_norm)
        self._optimiser.step()
        self._loss_sum += loss.detach()
        self._losses += 1
        return loss.detach()

    def logits(self, batch: Batch) -> Tensor:
        """[B, C] on the device, in the dtype of autocast."""
        return logits_of(self._forward, batch.images_BCHW, device=self.device, autocast=self._options.autocast)

    def evaluating(self) -> Callable[[Batch], Tensor]:
        """The student in eval mode, as a function from a batch to logits; until the next step."""
        self.module.eval()
        return self.logits

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then cosine to zero (Loshchilov, Hutter 2017, without restarts) or constant."""
        if step < self._warmup_steps:
            return self._options.learning_rate * (step + 1) / math.ceil(self._warmup_steps)
        if self._options.schedule == "constant":
            return self._options.learning_rate
        progress = (step - self._warmup_steps) / max(self._num_steps - self._warmup_steps, 1)
        return self._options.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def take_mean_loss(self, *, step: int) -> float:
        """Mean over the steps since this was last asked. Raises TrainingFailed if it isn't finite."""
        mean = self._loss_sum.item() / max(self._losses, 1)
        self._loss_sum.zero_()
        self._losses = 0
        if not math.isfinite(mean):
            raise TrainingFailed(
                f"student {self.name}: its loss is {mean} by step {step}. Lower --learning-rate, or set --clip-norm 1, "
                f"and train in another --out."
            )
        return mean

    def state(self) -> State:
        """Weights, optimiser and random state, as tensors on the CPU."""
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for index, values in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
        tensors |= {"rng.cpu": self._cpu_rng, "loss_sum": self._loss_sum, "losses": torch.tensor(self._losses)}
        if self._cuda_rng is not None:
            tensors["rng.cuda"] = self._cuda_rng
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}

    def load_state(self, tensors: State) -> None:
        """Go on from what `state` returned."""
        self.module.load_state_dict(_below(tensors, "model."))
        optimiser_state = self._optimiser.state_dict()
        optimiser_state["state"] = {}
        for name, tensor in _below(tensors, "optimiser.").items():
            index, key = name.split(".", 1)
            optimiser_state["state"].setdefault(int(index), {})[key] = tensor
        self._optimiser.load_state_dict(optimiser_state)
        self._cpu_rng, self._cuda_rng = tensors["rng.cpu"], tensors.get("rng.cuda")
        self._loss_sum.copy_(tensors["loss_sum"])
        self._losses = int(tensors["losses"])

    @contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """This student's random numbers inside, everyone else's left as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.set_rng_state(self._cpu_rng)
            if self._cuda_rng is not None:
                torch.cuda.set_rng_state(self._cuda_rng, self.device)
            yield
            self._cpu_rng = torch.get_rng_state()
            if self._cuda_rng is not None:
                self._cuda_rng = torch.cuda.get_rng_state(self.device)


def _make_optimiser(module: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if options.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.momentum > 0,
    )


def _seeded(seed: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Random states of the CPU and, where the student runs on one, of the CUDA device."""
    cuda = torch.Generator(device).manual_seed(seed).get_state() if device.type == "cuda" else None
    return torch.Generator().manual_seed(seed).get_state(), cuda


def _below(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

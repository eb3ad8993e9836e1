"""What learning without forgetting keeps: a student that learns classes 5 to 9, measured on 0 to 4 too.

    python pipelines/fashion_mnist/forgetting.py [--seeds 5]

Runs the chain of forgetting.toml once a seed. Everything is written below runs/forgetting; run again, what is finished
is not repeated.
"""

# Shape letters: N test images, C classes.

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from printing import print_table
from torch import Tensor, nn

from softlab.evaluation.one_model import open_inputs
from softlab.loading.options import CheckOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.recipes.chain import ChainRecipe
from softlab.recipes.toml import read_toml
from softlab.sources.options import SourceOptions
from softlab.sources.source import hard_targets

RECIPE = Path("pipelines/fashion_mnist/forgetting.toml")
FOLDER = "runs/forgetting"
INPUT = ImageInput(mean=(0.286,), std=(0.353,))
NUM_OLD = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="chains to average over")
    parser.add_argument("--test", default="data/fashion_mnist/test", help="images to measure on")
    options = parser.parse_args()
    runs: dict[str, list[list[float | None]]] = {}
    for seed in range(options.seeds):
        chain = ChainRecipe.from_table(_with_seed(read_toml(RECIPE), seed), where=str(RECIPE))
        chain.run(on_stage=lambda number, stage: print(f"== {number}: {stage}", flush=True))
        students = Path(FOLDER, f"seed-{seed}", "students")
        weights = {"before": students.parent / "old" / "teacher" / "last.safetensors"}
        weights |= {name: students / name / "last.safetensors" for name in ("remembering", "fine-tuned")}
        for name, path in weights.items():
            runs.setdefault(name, []).append(_measure(path, options.test, num_classes=5 if name == "before" else 10))
    rows = [[name, *(_spread(list(column)) for column in zip(*found, strict=True))] for name, found in runs.items()]
    headers = ["", "0-4 among 0-4", "5-9 among 5-9", "all among all"]
    print_table(headers, rows, title=f"Accuracy in %, {options.seeds} seeds")


def _with_seed(value: Any, seed: int) -> Any:
    """The recipe with this seed in every stage that trains, and with folders of its own."""
    if isinstance(value, dict):
        changed = {name: _with_seed(inner, seed) for name, inner in value.items()}
        return changed | {"seed": seed} if "epochs" in changed else changed
    if isinstance(value, list):
        return [_with_seed(inner, seed) for inner in value]
    return value.replace(FOLDER, f"{FOLDER}/seed-{seed}") if isinstance(value, str) else value


def _measure(weights: Path, test: str, *, num_classes: int) -> list[float | None]:
    arguments: dict[str, object] = {"num_classes": num_classes}
    module = build_model(ModelOptions(model="softlab:grey_cnn", arguments=arguments, weights=weights)).eval()
    logits_NC, targets_N = _logits(module, test)
    is_old_N = targets_N < NUM_OLD
    old = _accuracy(logits_NC[is_old_N, :NUM_OLD], targets_N[is_old_N])
    new = _accuracy(logits_NC[~is_old_N, NUM_OLD:], targets_N[~is_old_N] - NUM_OLD)
    return [old, new, _accuracy(logits_NC, targets_N)]


@torch.inference_mode()
def _logits(module: nn.Module, test: str) -> tuple[Tensor, Tensor]:
    source = open_source(SourceOptions(path=test))
    loader = open_inputs(source, input=INPUT, device=DeviceOptions(name="cpu"), check=CheckOptions())
    batches = loader.load(in_sequence(0, len(source), batch_size=256))
    targets_N = hard_targets(source)
    assert targets_N is not None
    return torch.cat([module(*batch.inputs[0].inputs.positional) for batch in batches]), torch.from_numpy(targets_N)


def _accuracy(logits_NC: Tensor, targets_N: Tensor) -> float | None:
    """In %; None without outputs for these classes."""
    return 100 * (logits_NC.argmax(dim=1) == targets_N).float().mean().item() if logits_NC.shape[1] else None


def _spread(found: list[float | None]) -> str:
    values = [value for value in found if value is not None]
    if not values:
        return "-"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()

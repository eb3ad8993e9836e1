"""What the scripts of this folder share: a plain training loop, and tables of means over seeds."""

# Shape letters: N samples, B samples in a batch, F features, C classes.

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

import softlab

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of the student's output for the samples at some places."""

BATCH = 128


def write_source(file: Path, rows_NF: Tensor, labels_N: Tensor, *, field: str = "row") -> softlab.SourceOptions:
    """Numbers and hard targets as a Parquet file, and how it is opened."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = {field: list(rows_NF.numpy()), "label": labels_N.numpy()}
    pq.write_table(pa.table({name: pa.array(column) for name, column in table.items()}), file)
    return softlab.SourceOptions(path=str(file), fields={field: field})


def train(
    student: nn.Module, inputs_NF: Tensor, loss: Loss, *, steps: int, seed: int, learning_rate: float = 3e-3
) -> nn.Module:
    """Adam with a cosine schedule, over batches drawn anew in each pass."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(student.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    places_N = torch.empty(0, dtype=torch.int64)
    student.train()
    for _ in range(steps):
        if len(places_N) < BATCH:
            places_N = torch.cat([places_N, torch.randperm(len(inputs_NF), generator=generator)])
        places_B, places_N = places_N[:BATCH], places_N[BATCH:]
        optimizer.zero_grad()
        loss(student(inputs_NF[places_B]), places_B).backward()
        optimizer.step()
        schedule.step()
    return student.eval()


def take(labels: softlab.SoftLabels, places_B: Tensor) -> softlab.SoftLabels:
    """The soft labels at some places."""
    return labels.with_each(lambda tensor: tensor[places_B])


def print_means(title: str, rows: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """One line a method: mean and standard deviation over seeds of each figure."""
    heads = list(next(iter(rows.values()))[0])
    print(f"\n{title}\n\n| | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}")
    for name, found in rows.items():
        cells = []
        for head in heads:
            values = [each[head] for each in found]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")

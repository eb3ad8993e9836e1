"""What small language models learn from each selection: the tables of training of the page on language models.

    pip install '.[pipelines]'
    python pipelines/language/students.py [--seeds 3] [--only noised --near-tokens 1000000 --near-rate 1e-3]

The teacher is small too, so that two cores can run it in the loop: a causal transformer of 5.8 M parameters, whose
tokenizer of 4,096 tokens and whose weights are trained on the texts of runs/language/train.parquet. Its students learn
pieces of the first of these texts, each with the same batches and as many steps:

- far: of 2.6 M parameters, from random weights, 200,000 tokens twice;
- pruned: the teacher without its last two of six layers, as many tokens once;
- noised: copies of the teacher with noise on their weights, as many tokens once.

They learn the text alone (cross-entropy), or what the teacher says alone (KL at T = 1): in the loop, or from stores.
Measured on pieces of runs/language/valid.parquet: the loss on the text's own tokens, and the whole KL to the teacher.
"""

# Shape letters: R rows (tokens that have a next one), C classes.

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rows import Documents, bytes_a_token, dump, kl_rows, read, rows_of
from safetensors.torch import load_file, save_file
from texts import FOLDER, open_texts, read_texts, write_file, write_texts
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import softlab
from softlab.labels.losses.checks import Tail
from softlab.modalities.modality import model_arguments, settle_input
from softlab.modalities.tokens.inputs import TokensInput
from softlab.sources.source import Source

VOCABULARY, LENGTH, CHARACTERS = 4_096, 128, 400
"""Tokens, tokens of a piece that are read, and characters of a piece, of which hardly any is then cut off."""

CHARACTERS_A_TOKEN = 3.9
VALID_TOKENS = 20_000
TEACHER: dict[str, object] = {"width": 256, "num_layers": 6}
STUDENT: dict[str, object] = {"width": 192, "num_layers": 4}
RESOLUTIONS = (16, 32)
NEAR_RATES = {"pruned": 2e-4, "noised": 3e-4}
BATCH, WARMUP, CLIP, DECAY = 16, 0.05, 1.0, 0.01


@dataclass(frozen=True, kw_only=True)
class Regime:
    """Where students begin."""

    begin: Callable[[nn.Module, TokensInput], nn.Module]
    learning_rate: float
    tokens: int
    epochs: int


Loss = Callable[[Tensor, Documents], Tensor]
"""Of a student's logits [R, C] for some pieces; a mean over rows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind to average over")
    parser.add_argument("--only", choices=["far", "pruned", "noised"], help="students that begin so; default: all")
    parser.add_argument("--tokens", type=int, default=200_000, help="that far students learn, in one epoch")
    parser.add_argument("--near-tokens", type=int, default=200_000, help="that pruned and noised ones learn, once")
    parser.add_argument("--near-rate", type=float, help=f"learning rate of them; default: {NEAR_RATES}")
    parser.add_argument("--teacher-tokens", type=int, default=1_000_000, help="that the teacher learns, in one epoch")
    parser.add_argument("--epochs", type=int, default=2, help="of far students")
    parser.add_argument("--layers", type=int, default=4, help="of the teacher that pruned students keep")
    parser.add_argument("--noise", type=float, default=1.2, help="of noised students, in deviations of each weight")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    folder = FOLDER / f"students-{options.teacher_tokens}"
    all_texts = pieces("train", options.teacher_tokens, folder)
    input = settle_input(TokensInput(tokenizer=f"train:{VOCABULARY}", max_length=LENGTH), all_texts)
    teacher = train_teacher(all_texts, input, folder / "teacher.safetensors", device=torch.device(options.device))
    regimes = {"far": Regime(begin=fresh, learning_rate=2e-3, tokens=options.tokens, epochs=options.epochs)}
    copies = {"pruned": partial(pruned, num_layers=options.layers), "noised": partial(noised, noise=options.noise)}
    for name, begin in copies.items():
        rate = options.near_rate or NEAR_RATES[name]
        regimes[name] = Regime(begin=begin, learning_rate=rate, tokens=options.near_tokens, epochs=1)
    for name, regime in regimes.items():
        if options.only in (None, name):
            show(f"{name}, {regime.tokens:,} tokens", learn(regime, name, teacher, input, folder, seeds=options.seeds))


def learn(
    regime: Regime, name: str, teacher: nn.Module, input: TokensInput, folder: Path, *, seeds: int
) -> dict[str, list[Mapping[str, float]]]:
    """What students that begin so have learnt in each way, by seed."""
    train, valid = pieces("train", regime.tokens, folder), pieces("valid", VALID_TOKENS, folder)
    losses = ways_to_learn(teacher, train, input, folder / f"stores-{regime.tokens}")
    print(f"teacher: {in_words(measure(teacher, teacher, valid, input))}")
    found: dict[str, list[Mapping[str, float]]] = {}
    for seed in range(seeds):
        torch.manual_seed(seed)
        begin = regime.begin(teacher, input)
        found.setdefault("at the beginning", []).append(measure(begin, teacher, valid, input))
        for way, loss in losses.items():
            began, student = time.perf_counter(), copy.deepcopy(begin)
            train_model(student, loss, train, input, epochs=regime.epochs, rate=regime.learning_rate, seed=seed)
            found.setdefault(way, []).append(measure(student, teacher, valid, input))
            told = f"{in_words(found[way][-1])}, {time.perf_counter() - began:,.0f} s"
            print(f"{name}, seed {seed}, {way}: {told}", flush=True)
    return found


# Pieces of texts, and the teacher.


def pieces(part: str, tokens: int, folder: Path) -> Source:
    """About as many tokens of the first texts, whole lines of them in each piece."""
    path = folder / f"{part}-{tokens}.parquet"
    if not path.exists():
        left, found = tokens * CHARACTERS_A_TOKEN, {}
        for key, text in read_texts(write_texts()[part]).items():
            for number, piece in enumerate(cut(text)):
                if left > 0:
                    found[f"{key}/{number:02d}"], left = piece, left - len(piece)
        write_file(path, found)
    return open_texts(path)


def cut(text: str) -> Iterator[str]:
    """At ends of lines, or where one is longer than a piece."""
    piece = ""
    for line in text.splitlines(keepends=True):
        if len(piece) + len(line) > CHARACTERS and piece.strip():
            yield piece.strip("\n")
            piece = ""
        piece = (piece + line)[:CHARACTERS]
    if piece.strip():
        yield piece.strip("\n")


def train_teacher(source: Source, input: TokensInput, file: Path, *, device: torch.device) -> nn.Module:
    """Weights that are there are read."""
    torch.manual_seed(0)
    model = softlab.ModelOptions(model="softlab:tokens_transformer", arguments=TEACHER)
    teacher = softlab.build_model(model, told=model_arguments(input)).to(device)
    if file.exists():
        teacher.load_state_dict(load_file(file, device=str(device)))
    else:
        count = sum(each.numel() for each in teacher.parameters())
        print(f"teacher of {count / 1e6:.1f} M parameters, {len(source):,} pieces", flush=True)
        train_model(teacher, on_text, source, input, epochs=1, rate=1e-3, seed=0)
        save_file(teacher.state_dict(), file)
    return teacher.eval()


# Students.


def fresh(teacher: nn.Module, input: TokensInput) -> nn.Module:
    model = softlab.ModelOptions(model="softlab:tokens_transformer", arguments=STUDENT)
    return softlab.build_model(model, told=model_arguments(input)).to(next(teacher.parameters()).device)


def pruned(teacher: nn.Module, input: TokensInput, *, num_layers: int) -> nn.Module:
    """Its first layers, with its embedding and output."""
    model = softlab.ModelOptions(model="softlab:tokens_transformer", arguments={**TEACHER, "num_layers": num_layers})
    student = softlab.build_model(model, told=model_arguments(input)).to(next(teacher.parameters()).device)
    state = teacher.state_dict()
    student.load_state_dict({name: state[name] for name in student.state_dict()})
    return student


def noised(teacher: nn.Module, input: TokensInput, *, noise: float) -> nn.Module:
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.ndim > 1:
                parameter.add_(noise * parameter.std() * torch.randn_like(parameter))
    return student


def ways_to_learn(module: nn.Module, source: Source, input: TokensInput, folder: Path) -> dict[str, Loss]:
    teacher = softlab.Teacher(module=module, name="tokens_transformer", arguments=TEACHER, input=input)

    def stored(name: str, **options: object) -> softlab.Store:
        store = dump(teacher, source, folder / f"{name}.zarr", batch_size=BATCH, **options)
        print(f"{name}: {bytes_a_token(store):.1f} bytes a token on disk", flush=True)
        return store

    top = stored("top-16", selection="topk", k=16, temperature=(1.0,), coding="uint8")
    sampled = {each: stored(f"sampled-{each}", selection="sampled", resolution=each) for each in RESOLUTIONS}
    return {
        "the text alone": on_text,
        "whole distribution, in the loop": in_the_loop(module),
        "top-16, renormalised on both sides": on_store(top, tail="renormalise_both"),
        "top-16, the rest uniform": on_store(top),
        **{f"sampled, resolution {each}": on_store(store) for each, store in sampled.items()},
    }


def on_text(logits_RC: Tensor, pieces: Documents) -> Tensor:
    return cross_entropy(logits_RC, pieces.next_tokens_R.to(logits_RC.device))


def in_the_loop(teacher: nn.Module) -> Loss:
    def loss(logits_RC: Tensor, pieces: Documents) -> Tensor:
        with torch.no_grad():
            teacher_RC = rows_of(teacher, pieces)
        return kl_rows(teacher_RC, logits_RC).mean()

    return loss


def on_store(store: softlab.Store, *, tail: Tail = "uniform") -> Loss:
    def loss(logits_RC: Tensor, pieces: Documents) -> Tensor:
        labels = store.read(pieces.samples).to(logits_RC.device)
        return softlab.distillation_loss(logits_RC, labels, temperature=1.0, tail=tail)

    return loss


def train_model(
    module: nn.Module, loss: Loss, source: Source, input: TokensInput, *, epochs: int, rate: float, seed: int
) -> None:
    """AdamW, whose rate rises and then falls as a cosine; batches are those of the seed."""
    steps = epochs * (len(source) // BATCH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step / steps))
    module.train()
    for step, samples in enumerate(batches(len(source), epochs=epochs, seed=seed)):
        given = read(source, samples, input)
        value = loss(rows_of(module, given), given)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            print(f"  step {step + 1:,} of {steps:,}: {value.item():.3f}", flush=True)
    module.eval()


def rate_at(part: float) -> float:
    """Of the run; a factor."""
    return min(1.0, (part + 1e-3) / WARMUP) * (1 + math.cos(math.pi * part)) / 2


def batches(count: int, *, epochs: int, seed: int) -> Iterator[list[int]]:
    for epoch in range(epochs):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(1_000 * seed + epoch)).tolist()
        for start in range(0, count - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


# Figures.


@torch.inference_mode()
def measure(module: nn.Module, teacher: nn.Module, source: Source, input: TokensInput) -> dict[str, float]:
    """Means over all rows, in nats."""
    sums, count = {"loss": 0.0, "KL": 0.0}, 0
    for start in range(0, len(source), BATCH):
        given = read(source, range(start, min(start + BATCH, len(source))), input)
        logits_RC = rows_of(module, given)
        sums["loss"] += float(on_text(logits_RC, given)) * len(logits_RC)
        sums["KL"] += float(kl_rows(rows_of(teacher, given), logits_RC).sum())
        count += len(logits_RC)
    return {name: total / count for name, total in sums.items()}


def in_words(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def show(title: str, found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Mean and standard deviation over seeds."""
    print(f"\n| {title} | loss | KL to the teacher |\n| --- | --- | --- |")
    for name, rows in found.items():
        cells = []
        for figure in ("loss", "KL"):
            values = [row[figure] for row in rows]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        print(f"| {name} | {' | '.join(cells)} |")
    print(flush=True)


if __name__ == "__main__":
    main()

"""What is stored of a token, and how far it turns a student's gradient: the table of the page on language models.

    pip install '.[pipelines]'
    python pipelines/language/selections.py [--tokens 4096] [--stored 16384]

SmolLM2-135M-Instruct has read documents of runs/language/valid.parquet. A small student with its vocabulary, which has
learnt a little from other texts, reads the first of them, and for each way to store what the teacher says the gradient
of its loss, summed over all tokens, is compared with that of the whole distribution: the angle between them, over all
parameters, and over the body alone, which is all but the embeddings that are the output layer too. The stores are real
ones, and what is learnt is read from them; the 50 draws with replacement are coded as the script says.
"""

# Shape letters: R rows, C classes, P numbers of all parameters.

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numcodecs import Blosc
from rows import bytes_a_token, dump, read, rows_of
from safetensors.torch import load_file, save_file
from teacher import write_teacher
from texts import FOLDER, open_texts, write_texts
from torch import Tensor, nn

import softlab
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses.checks import Tail
from softlab.modalities.modality import model_arguments, settle_input
from softlab.modalities.tokens.inputs import TokensInput
from softlab.sources.source import Source

LENGTH = 257
"""Tokens of a document that are read, so that 256 have a row."""

RESOLUTIONS = (16, 32, 48)
DRAWS = 50
WIDTH, LAYERS = 64, 2
STEPS, BATCH, LEARNING_RATE = 1_500, 2, 3e-3
"""Of the student, on plain text: documents in a step. With fewer steps it has learnt little but how frequent each token
is, and all gradients have most of their length in common."""

Loss = Callable[[Tensor, int], Tensor]
"""Of a document's rows of the student's logits [R, C], summed over them; the document is an index in the source."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A line of the table."""

    loss: Loss
    bytes_a_token: float
    """On disk, without the tokens that the teacher has read."""

    row_bytes: float | None = None
    """In the row cache."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4_096, help="rows of the sum")
    parser.add_argument("--stored", type=int, default=16_384, help="rows of the stores, whose bytes are counted")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the student, before it is asked")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    files, name = write_texts(), f"hf:{write_teacher()}"
    some = range(-(-options.tokens // (LENGTH - 1)))
    source = open_texts(files["valid"], limit=max(len(some), -(-options.stored // (LENGTH - 1))))
    input = settle_input(TokensInput(tokenizer=name.removeprefix("hf:"), max_length=LENGTH), source)
    module = (
        softlab.build_model(softlab.ModelOptions(model=name, arguments={"task": "causal"})).eval().to(options.device)
    )
    teacher = softlab.Teacher(module=module, name=name, arguments={"task": "causal"}, input=input)
    student = train_student(open_texts(files["train"]), input, steps=options.steps, device=options.device)
    with torch.inference_mode():
        logits = {sample: rows_of(module, read(source, [sample], input)) for sample in some}
    ways = {"the whole distribution": whole(logits), **ways_to_store(teacher, source, logits)}
    show(ways, gradients(ways, student, source, some, input), student)


# The student.


def train_student(source: Source, input: TokensInput, *, steps: int, device: str) -> nn.Module:
    """Of 49,152 tokens, so that most of its parameters are embeddings. Weights that are there are read."""
    file = FOLDER / f"selections-student-{steps}.safetensors"
    torch.manual_seed(0)
    model = softlab.ModelOptions(model="softlab:tokens_transformer", arguments={"width": WIDTH, "num_layers": LAYERS})
    student = softlab.build_model(model, told=model_arguments(input)).to(device)
    if file.exists():
        student.load_state_dict(load_file(file, device=device))
        return student
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0)).tolist()
    for step in range(steps):
        given = read(source, [order[(step * BATCH + each) % len(order)] for each in range(BATCH)], input)
        loss = nn.functional.cross_entropy(rows_of(student, given), given.next_tokens_R.to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 50 == 49:
            print(f"the student, step {step + 1}: {loss.item():.2f} nats", flush=True)
    save_file(student.state_dict(), file)
    return student


# Ways to store what the teacher says.


def whole(logits: dict[int, Tensor]) -> Stored:
    """Float32 of all classes; what the angles are to."""
    num_classes = next(iter(logits.values())).shape[1]
    return Stored(loss=lambda rows_RC, sample: dense(rows_RC, logits[sample]), bytes_a_token=4 * num_classes)


def ways_to_store(teacher: softlab.Teacher, source: Source, logits: dict[int, Tensor]) -> dict[str, Stored]:
    def store_of(name: str, **values: object) -> softlab.Store:
        return dump(teacher, source, FOLDER / f"selections-{len(source)}" / f"{name}.zarr", batch_size=1, **values)

    top = {k: store_of(f"top-{k}", selection="topk", k=k, temperature=(1.0,), coding="uint8") for k in (16, 128)}
    found = {f"top-{k}, the rest uniform": labels_of(store, "uniform") for k, store in top.items()}
    found["top-16, renormalised on both sides"] = labels_of(top[16], "renormalise_both")
    found[f"{DRAWS} draws with replacement"] = draws_with_replacement(logits)
    for resolution in RESOLUTIONS:
        store = store_of(f"sampled-{resolution}", selection="sampled", resolution=resolution)
        found[f"sampled, resolution {resolution}"] = labels_of(store, "uniform")
    for coding in ("int8", "int8_rotated"):
        store = store_of(f"hidden-{coding}", output=("hidden:values=layer:model.norm",), values_coding=coding)
        found[f"last hidden state as {coding}"] = hidden_states_of(store, teacher.module)
    return found


def labels_of(store: softlab.Store, tail: Tail) -> Stored:
    def loss(rows_RC: Tensor, sample: int) -> Tensor:
        labels = store.read([sample]).to(rows_RC.device)
        return softlab.distillation_loss(rows_RC, labels, temperature=1.0, tail=tail) * len(rows_RC)

    return Stored(loss=loss, bytes_a_token=bytes_a_token(store), row_bytes=store.row_bytes())


def hidden_states_of(store: softlab.Store, module: nn.Module) -> Stored:
    """The teacher's output layer is what makes logits of them."""
    layer = module.get_output_embeddings()  # type: ignore[operator]

    def loss(rows_RC: Tensor, sample: int) -> Tensor:
        with torch.inference_mode():
            teacher_RC = LazyLogits(
                hidden=store.read_features("hidden", [sample]).to(rows_RC.device), weight_CD=layer.weight
            ).whole()
        return dense(rows_RC, teacher_RC.clone())

    return Stored(loss=loss, bytes_a_token=bytes_a_token(store), row_bytes=store.row_bytes("hidden"))


def draws_with_replacement(logits: dict[int, Tensor]) -> Stored:
    """Each weighs 1 / DRAWS (Anshumann et al. 2025). Stored are the different classes of a row, how often each was
    drawn, and how many they are: as bytes behind each other, in Blosc's zstd at its strongest."""
    generator = torch.Generator().manual_seed(0)
    drawn = {
        sample: torch.multinomial(rows_RC.softmax(dim=1).cpu(), DRAWS, replacement=True, generator=generator)
        for sample, rows_RC in logits.items()
    }
    rows = [np.unique(row, return_counts=True) for each in drawn.values() for row in each.numpy()]
    arrays = [
        np.concatenate([ids for ids, _ in rows]).astype(np.uint16),
        np.concatenate([counts for _, counts in rows]).astype(np.uint8),
        np.array([len(ids) for ids, _ in rows], dtype=np.uint8),
    ]
    coded = sum(min(len(Blosc("zstd", 9, shuffle).encode(each)) for shuffle in range(3)) for each in arrays)

    def loss(rows_RC: Tensor, sample: int) -> Tensor:
        return -rows_RC.log_softmax(dim=1).gather(1, drawn[sample].to(rows_RC.device)).mean(dim=1).sum()

    return Stored(loss=loss, bytes_a_token=coded / len(rows))


def dense(rows_RC: Tensor, teacher_RC: Tensor) -> Tensor:
    return -(teacher_RC.softmax(dim=1) * rows_RC.log_softmax(dim=1)).sum()


# Gradients.


def gradients(
    ways: dict[str, Stored], student: nn.Module, source: Source, some: range, input: TokensInput
) -> dict[str, Tensor]:
    """float32 [P], of each way, summed over some documents."""
    student.eval()
    parameters = list(student.parameters())
    found = {name: torch.zeros(sum(each.numel() for each in parameters)) for name in ways}
    for sample in some:
        rows_RC = rows_of(student, read(source, [sample], input))
        for name, way in ways.items():
            parts = torch.autograd.grad(way.loss(rows_RC, sample), parameters, retain_graph=True)
            found[name] += torch.cat([part.flatten() for part in parts]).cpu()
    return found


def show(ways: dict[str, Stored], found: dict[str, Tensor], student: nn.Module) -> None:
    is_body_P = torch.cat(
        [torch.full((each.numel(),), not name.startswith("embedding.")) for name, each in student.named_parameters()]
    )
    full_P = found["the whole distribution"]
    print("\n| what is stored | bytes a token | in the row cache | angle, all | angle, body |")
    print("| --- | --- | --- | --- | --- |")
    for name, way in ways.items():
        angles = [degrees(found[name], full_P), degrees(found[name][is_body_P], full_P[is_body_P])]
        cached = "-" if way.row_bytes is None else f"{way.row_bytes:.0f}"
        print(f"| {name} | {way.bytes_a_token:.1f} | {cached} | {angles[0]:.2f} | {angles[1]:.2f} |")


def degrees(one_P: Tensor, other_P: Tensor) -> float:
    one_P, other_P = one_P.double(), other_P.double()
    return math.degrees(2 * math.atan2(*(_unit_sums(one_P, other_P))))


def _unit_sums(one_P: Tensor, other_P: Tensor) -> Iterator[float]:
    """Lengths of the difference and of the sum of unit vectors, which tell small angles that a cosine doesn't."""
    one_P, other_P = one_P / one_P.norm(), other_P / other_P.norm()
    yield float((one_P - other_P).norm())
    yield float((one_P + other_P).norm())


if __name__ == "__main__":
    main()

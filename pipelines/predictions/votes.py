"""What people voted, imported: a student of words learns how they are divided, not the majority alone.

    pip install '.[pipelines]'
    python pipelines/predictions/votes.py [--seeds 3]

The lexicon of vaderSentiment (Hutto and Gilbert, 2014) has the ratings that ten people gave to each of some 7,500 words
and emoticons, from -4 to 4: negative, neutral or positive here.
"""

# Shape letters: N words, F features, C classes.

import argparse
import ast
import zlib
from pathlib import Path

import numpy as np
import torch
import vaderSentiment
from torch import Tensor, nn
from torch.nn import functional
from training import print_means, take, train, write_source

import softlab

FOLDER = Path("runs/predictions/votes")
SIGNS = ("negative", "neutral", "positive")
TRAIN, HASHES, STEPS = 3_000, 4_096, 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and students to average over")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, figures in run(seed).items():
            found.setdefault(name, []).append(figures)
    print_means(f"Sign of words, {TRAIN:,} words, {options.seeds} seeds", found)


def run(seed: int) -> dict[str, dict[str, float]]:
    """On the words that nobody was trained on."""
    inputs_NF, votes_NC = read_lexicon(seed)
    majority_N = votes_NC.argmax(dim=1)
    source = softlab.open_source(write_source(FOLDER / f"{seed}.parquet", inputs_NF[:TRAIN], majority_N[:TRAIN]))
    batch = {"key": list(source.keys), "votes": votes_NC[:TRAIN]}
    out = FOLDER / f"{seed}.zarr"
    softlab.import_predictions([batch], source, out, class_names=SIGNS, dump=softlab.DumpOptions(coding="float32"))
    labels = softlab.open_store(out).read(np.arange(TRAIN))
    losses = {
        "majority": lambda output, places: functional.cross_entropy(output, majority_N[places]),
        "votes": lambda output, places: softlab.distillation_loss(output, take(labels, places), temperature=1.0),
    }
    found = {}
    for name, loss in losses.items():
        torch.manual_seed(seed)
        student = train(make_student(), inputs_NF[:TRAIN], loss, steps=STEPS, seed=seed)
        found[name] = measure(student, inputs_NF[TRAIN:], votes_NC[TRAIN:])
    return found


def read_lexicon(seed: int) -> tuple[Tensor, Tensor]:
    """float32 [N, F], hashed groups of one to four letters; int64 [N, C], how many of ten people gave each sign."""
    file = Path(vaderSentiment.__file__).with_name("vader_lexicon.txt")
    words, ratings = [], []
    for line in file.read_text("utf-8").splitlines():
        word, _, _, given = line.split("\t")
        words.append(word)
        ratings.append(ast.literal_eval(given))
    order = np.random.default_rng(seed).permutation(len(words))
    votes = [[sum(np.sign(each) == sign for each in ratings[place]) for sign in (-1, 0, 1)] for place in order]
    inputs_NF = torch.zeros(len(words), HASHES)
    for row, place in enumerate(order):
        inputs_NF[row, _groups(words[place])] = 1
    return functional.normalize(inputs_NF), torch.tensor(votes)


def _groups(word: str) -> list[int]:
    text = f"<{word.lower()}>"
    groups = {text[start : start + length] for length in range(1, 5) for start in range(len(text) - length + 1)}
    return [zlib.crc32(group.encode()) % HASHES for group in groups]


def make_student() -> nn.Sequential:
    return nn.Sequential(nn.Linear(HASHES, 32), nn.ReLU(), nn.Linear(32, len(SIGNS)))


@torch.inference_mode()
def measure(student: nn.Module, inputs_NF: Tensor, votes_NC: Tensor) -> dict[str, float]:
    """Accuracy against the majority, and the mean KL from people to the student in nats."""
    log_q_NC = student(inputs_NF).log_softmax(dim=1)
    p_NC = votes_NC / votes_NC.sum(dim=1, keepdim=True)
    accuracy = (log_q_NC.argmax(dim=1) == votes_NC.argmax(dim=1)).float().mean()
    kl = (torch.xlogy(p_NC, p_NC) - p_NC * log_q_NC).sum(dim=1).mean()
    return {"accuracy, %": 100 * float(accuracy), "KL to people, nats": float(kl)}


if __name__ == "__main__":
    main()

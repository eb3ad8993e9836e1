import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

import softlab
from softlab.cli.main import main
from softlab.errors import InvalidOption, ModelError, OddSource, SourceError, StoreMismatch, UnreadableSample
from softlab.manifest import ViewsRecord
from softlab.modalities.audio.inputs import AudioInput
from softlab.modalities.audio.modality import MODALITY
from softlab.modalities.audio.models import audio_conv, audio_gru
from softlab.modalities.audio.views import AudioViews
from softlab.modalities.modality import InputOptions, Modality, settle_input
from softlab.modalities.views import ViewOptions, record_views
from softlab.sources.source import Raw, Source
from softlab.store.reader import Store
from softlab.student.run_folder import StudentResult
from softlab.testing.modalities import ModalityContract
from softlab.testing.sources import SourceContract
from tests.modalities.audio.clips import RATE, encode, tone, write_tones
from tests.student.flat_options import train_options

CPU = softlab.DeviceOptions(name="cpu")
INPUT = AudioInput(sample_rate=RATE, mels=16)
FRAMES = replace(INPUT, unit="frame")


class TestAudio(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        stereo = np.stack([tone(300), tone(500)], axis=1)
        return [
            encode(tone(300)),
            encode(tone(300), rate=16_000),
            encode(tone(300, seconds=0.01)),
            encode(stereo, format="FLAC"),
            encode(tone(300), format="OGG"),
        ]

    @pytest.fixture
    def inputs(self) -> Sequence[InputOptions]:
        return [AudioInput(), FRAMES, replace(FRAMES, features="wave"), replace(INPUT, seconds=0.2)]


class TestAudioWithRandomViews(TestAudio):
    @pytest.fixture
    def record(self) -> ViewsRecord:
        return record_views(AudioViews(crop=0.3, gain=6.0, noise=20.0, mask=0.2), num_views=3, digest_every=0)


class TestFolderOfSounds(SourceContract):
    @pytest.fixture
    def reopen(self, tmp_path: Path) -> object:
        write_tones(tmp_path / "tones")
        return lambda: softlab.open_source(tmp_path / "tones", modality="audio")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return softlab.open_source(write_tones(tmp_path / "tones"), modality="audio")


def dumped(
    folder: Path,
    source: Source,
    input: AudioInput,
    *,
    module: nn.Module | None = None,
    augment: ViewOptions | None = None,
    **options: Any,
) -> Store:
    torch.manual_seed(0)
    per_frame = bool(input.unit)
    module = module or audio_gru(mels=input.mels, width=16, num_classes=5 if per_frame else 2, per_frame=per_frame)
    teacher = softlab.Teacher(module=module, name="gru", arguments={}, input=input)
    told = softlab.DumpOptions(device=CPU, **options)
    softlab.dump_teacher(teacher, source, folder / "store", told, augment=augment)
    return softlab.open_store(folder / "store")


def trained(module: nn.Module, source: Source, store: Store, input: AudioInput, **options: Any) -> StudentResult:
    told = train_options(**{"epochs": 2, "batch_size": 4, "device": "cpu", "track": (), **options})
    (result,) = softlab.train_students({"small": module}, source, [store], told, input=input)
    return result


def student(input: AudioInput, *, num_classes: int = 5) -> nn.Module:
    torch.manual_seed(1)
    return audio_conv(mels=input.mels, width=16, num_classes=num_classes, per_frame=bool(input.unit))


# What is taken, and what is told of it.


def test_a_folder_of_sound_files_has_their_bytes_and_leaves_other_files_out(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "tones")
    (folder / "low" / "notes.txt").write_text("recorded at home")
    (folder / "low" / "cover.png").write_bytes(b"")

    with pytest.warns(
        OddSource, match=r"left out files that aren't sound files \(1 \.(txt|png), 1 \.(png|txt); \.aif, "
    ):
        source = softlab.open_source(folder, modality="audio")

    assert (source.class_names, source.field_names, len(source)) == (("high", "low"), ("audio",), 8)
    assert source.read(0).fields == {"audio": (folder / "high" / "0.wav").read_bytes()}


def test_a_folder_without_sound_files_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "0.png").write_bytes(b"")

    with pytest.raises(SourceError, match=r"no sound files in 1 class folders \(there are: 1 \.png\).*CLASS/CLIP\.wav"):
        softlab.open_source(tmp_path, modality="audio")


def test_a_parquet_column_of_bytes_is_read_as_clips(tmp_path: Path) -> None:
    column = [{"bytes": encode(tone(300 + 100 * number)), "path": f"{number}.wav"} for number in range(4)]
    pq.write_table(pa.table({"sound": column, "label": [0, 1, 0, 1]}), tmp_path / "clips.parquet")
    options = softlab.SourceOptions(path=str(tmp_path / "clips.parquet"), fields={"audio": "sound"})

    source = softlab.open_source(options, modality="audio")

    assert source.keys == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert MODALITY.decode(source.read(2).fields["audio"]).rate == RATE


def test_what_is_not_ordinary_is_told_in_one_line(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "tones")
    odd = {
        "silent": encode(np.zeros(4_000)),
        "stereo": encode(np.stack([tone(300)] * 2, axis=1)),
        "short": encode(tone(300, seconds=0.01)),
        "other": encode(tone(300, rate=44_100), rate=44_100),
        "damaged": b"RIFF",
    }
    for name, raw in odd.items():
        (folder / "low" / f"{name}.wav").write_bytes(raw)
    expected = (
        "of 13 clips looked at 5 longer than 0.3 s (they lose their end; raise `input.seconds` where the model can "
        "take more), 1 of 44,100 Hz (resampled to 8,000 Hz), 1 shorter than a window of 25 ms (filled up with "
        "silence), 1 silent (nothing is in them to learn), 1 of several channels (their mean is taken)"
    )

    with pytest.warns(OddSource, match=re.escape(expected)):
        settle_input(replace(INPUT, seconds=0.3), softlab.open_source(folder, modality="audio"))


def test_an_ordinary_source_is_told_nothing_of(source: Source) -> None:
    assert settle_input(INPUT, source) == INPUT


def test_a_damaged_file_stops_a_dump_with_its_key(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "tones")
    (folder / "low" / "3.wav").write_bytes((folder / "low" / "3.wav").read_bytes()[:-100])
    source = softlab.open_source(folder, modality="audio")

    with pytest.raises(
        UnreadableSample, match=r"sample 'low/3\.wav' can't be read: the file ends before its sound does"
    ):
        dumped(tmp_path, source, INPUT)


def test_damaged_files_are_left_out_where_that_is_wanted(tmp_path: Path) -> None:
    folder = write_tones(tmp_path / "tones")
    (folder / "low" / "3.wav").write_bytes(b"")
    options = softlab.SourceOptions(path=str(folder), skip_unreadable=True)

    source = softlab.open_source(options, modality="audio")

    assert [each.key for each in source.skipped] == ["low/3.wav"]


# From a teacher to students.


def test_a_student_of_clips_learns_from_a_teacher_with_another_rate(tmp_path: Path, source: Source) -> None:
    with pytest.warns(OddSource, match=r"8 of 8,000 Hz \(resampled to 16,000 Hz\)"):
        store = dumped(tmp_path, source, AudioInput(), module=audio_gru(width=16))

    result = trained(student(INPUT, num_classes=2), source, store, INPUT, epochs=30, learning_rate=3e-3)

    assert result.error is None
    assert result.train_loss is not None
    assert result.train_loss < 0.1


def test_frames_are_rows_and_students_learn_those_that_both_have(tmp_path: Path, source: Source) -> None:
    store = dumped(tmp_path, source, FRAMES)
    own = AudioInput(sample_rate=16_000, mels=20, seconds=0.25, unit="frame", window_ms=40.0)

    with pytest.warns(OddSource, match=r"8 of 8,000 Hz .*, 4 longer than 0\.25 s"):
        result = trained(student(own), source, store, own, alpha=1.0)

    assert store.manifest.outputs[0].units
    rows_N = store.read_samples().rows_N
    assert rows_N is not None
    assert rows_N.tolist() == [21, 26, 31, 36] * 2
    assert result.error is None


def test_a_sigmoid_teacher_of_frames_teaches_with_few_of_its_classes(tmp_path: Path, source: Source) -> None:
    torch.manual_seed(0)
    sure = audio_gru(mels=16, width=16, num_classes=20, per_frame=True)
    weight_CD, bias_C = list(sure.parameters())[-2:]
    nn.init.normal_(weight_CD, std=4.0)
    nn.init.constant_(bias_C, -4.0)
    store = dumped(tmp_path, source, FRAMES, module=sure, head="sigmoid", k=12)
    module = student(FRAMES, num_classes=20)

    result = trained(
        module, source, store, FRAMES, alpha=1.0, loss="bce", temperature=1.0, epochs=60, learning_rate=1e-2
    )

    inputs = MODALITY.collate([MODALITY.decode(source.read(5).fields["audio"])], FRAMES).inputs
    with torch.no_grad():
        theirs_LC, ours_LC = (each.eval()(*inputs.positional)[0] for each in (sure, module))
    assert (store.labels.head, result.error) == ("sigmoid", None)
    assert (theirs_LC.argmax(dim=1) == ours_LC.argmax(dim=1)).float().mean() > 0.9


def test_views_are_replayed_for_students(tmp_path: Path, source: Source) -> None:
    augment = AudioViews(crop=0.3, gain=6.0, noise=30.0, mask=0.2)
    store = dumped(tmp_path, source, FRAMES, views=2, augment=augment)

    result = trained(student(FRAMES), source, store, FRAMES, alpha=1.0)

    assert [transform.name for transform in store.manifest.views.transforms] == ["CutClip", "Gain", "Noise", "MaskTime"]
    assert result.error is None


def test_batches_may_have_clips_of_similar_length(tmp_path: Path, source: Source) -> None:
    store = dumped(tmp_path, source, INPUT)

    assert trained(student(INPUT, num_classes=2), source, store, INPUT, batch_by_length=True).error is None


# What doesn't fit.


def test_frame_rates_that_differ_are_refused_with_both(tmp_path: Path, source: Source) -> None:
    store = dumped(tmp_path, source, FRAMES)
    own = replace(FRAMES, hop_ms=20.0)

    with pytest.raises(
        StoreMismatch,
        match=r"input\.hop_ms = 20: this student has 50 frames a second, .* teacher's 100 \(input\.hop_ms = 10",
    ):
        trained(student(own), source, store, own, alpha=1.0)


class HalfTheFrames(nn.Module):
    """Gives a row for every other frame."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 5)

    def forward(self, spectra: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.layer(spectra[:, ::2])
        return logits


def test_a_model_with_another_frame_rate_than_its_input_is_refused(tmp_path: Path, source: Source) -> None:
    with pytest.raises(ModelError, match=r"has \d+ positions for inputs of \d+ tokens or frames.*input\.hop_ms"):
        dumped(tmp_path, source, FRAMES, module=HalfTheFrames())


def test_a_waveform_is_refused_by_a_model_of_spectra(tmp_path: Path, source: Source) -> None:
    with pytest.raises(ModelError, match=r"expected spectra .*`input\.features = log_mel`"):
        dumped(tmp_path, source, replace(INPUT, features="wave"))


def test_a_student_of_whole_clips_is_refused_with_rows_of_frames(tmp_path: Path, source: Source) -> None:
    store = dumped(tmp_path, source, FRAMES)

    with pytest.raises(StoreMismatch, match=r"gives 4 rows for 4 samples, but the store holds 104.* or `frame` too"):
        trained(student(INPUT), source, store, INPUT, alpha=1.0)


def test_views_of_images_are_refused(tmp_path: Path, source: Source) -> None:
    augment = softlab.ViewRecipe(transforms=("RandomHorizontalFlip()",))

    with pytest.raises(InvalidOption, match=r"RandomHorizontalFlip\(\) .*clips have no such views"):
        dumped(tmp_path, source, INPUT, augment=augment)


# Recipes.

TEACHER = """
[teacher]
model = "softlab:audio_gru"
arguments = {width = 16}

[input]
modality = "audio"
sample_rate = 8000
"""
STUDENT = """
[student.small]
model = "softlab:audio_conv"
arguments = {width = 8}
input = {mels = 20}

[input]
modality = "audio"
sample_rate = 8000
"""


def run_command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert not stopped.value.code


@pytest.mark.filterwarnings("ignore::softlab.errors.RandomWeights")
def test_the_commands_take_clips_from_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the program puts its own there
    tones, recipe, store, run = write_tones(tmp_path / "tones"), *(tmp_path / each for each in ("toml", "store", "run"))
    recipe.write_text(TEACHER)
    run_command("dump-teacher", recipe, "--source", tones, "--out", store)
    recipe.write_text(STUDENT)
    run_command(
        *("train-student", recipe, "--source", tones, "--store", store, "--out", run),
        *("--epochs", "1", "--batch-size", "4"),
    )
    weights = run / "small" / "last.safetensors"

    run_command(
        *("evaluate", "--model", "softlab:audio_conv", "--weights", weights, "--source", tones, "--device", "cpu"),
        *("--set", "model.arguments.width=8", "--set", "input.modality=audio"),
    )

    assert weights.is_file()

"""Sound as a modality."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from softlab.errors import StoreMismatch
from softlab.indices import RecipeIndex
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.audio.decode import Clip, as_clip, decode_clip, read_channels
from softlab.modalities.audio.inputs import AudioInput, collate_clips
from softlab.modalities.audio.views import ARGUMENTS, AudioViews, change_clip
from softlab.modalities.inputs import Collated
from softlab.modalities.modality import OpenDataSet
from softlab.modalities.views import EachAlone, tensor_digest
from softlab.sources.file_kind import FileKind
from softlab.sources.source import Raw

SOUND_FILES = FileKind(
    name="sound file",
    field="audio",
    suffixes=(".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"),
    example="CLIP.wav",
)


class Audio:
    """An example is a `Clip`."""

    name: ClassVar[str] = "audio"
    field: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = ("soundfile", "soxr", "numpy")
    input_options: ClassVar[type[AudioInput]] = AudioInput
    view_options: ClassVar[type[AudioViews]] = AudioViews
    data_sets: ClassVar[Mapping[str, OpenDataSet]] = MappingProxyType({})
    files: ClassVar[FileKind] = SOUND_FILES

    def decode(self, raw: Raw) -> Clip:
        return decode_clip(raw)

    def for_inputs(self, inputs: Sequence[AudioInput], seen: InputRecord | None) -> "Audio":
        """Raises StoreMismatch for an input with other frames than the teacher's."""
        for options in inputs if seen is not None and seen.options.get("unit") else ():
            theirs = float(seen.options["hop_ms"]) if seen is not None else 0.0
            if options.unit and options.hop_ms != theirs:
                raise StoreMismatch(
                    f"input.hop_ms = {options.hop_ms:g}: this student has {1000 / options.hop_ms:g} frames a second, "
                    f"and the store has a row for each of the teacher's {1000 / theirs:g} (input.hop_ms = {theirs:g}). "
                    f"Say the same `input.hop_ms`; sample rate and features may differ."
                )
        return self

    def settle_input(self, options: AudioInput, raws: Iterable[Raw]) -> tuple[AudioInput, str]:
        """The options as they are, and what is not ordinary about these clips."""
        return options, _note(raws, options)

    def model_arguments(self, options: AudioInput) -> dict[str, int]:
        """What a model that is built for this input may want to know."""
        told = {"per_frame": bool(options.unit)}
        return told | ({"mels": options.mels} if options.features == "log_mel" else {})

    def tells_units(self, options: AudioInput) -> bool:
        """Whether clips number the rows of models."""
        return bool(options.unit)

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> EachAlone:
        return EachAlone(record, change=change_clip, arguments=ARGUMENTS, samples="clips", recipe_N=recipe_N)

    def digest(self, example: Clip) -> int:
        """Of the waveform, and of its sample rate where that alone differs."""
        return tensor_digest(example.samples_T) ^ example.rate

    def length(self, example: Clip, options: AudioInput) -> int:
        """Samples that a model is given."""
        return min(options.num_samples(example), options.most_samples or options.num_samples(example))

    def collate(self, examples: Sequence[Clip], options: AudioInput) -> Collated:
        return collate_clips(examples, options)


MODALITY = Audio()


def _note(raws: Iterable[Raw], options: AudioInput) -> str:
    kinds, total = Counter[str](), 0
    for raw in raws:
        total += 1
        try:
            kinds.update(_kinds_of(raw, options))
        except (TypeError, ValueError):  # of a damaged file, which is told of by its key when it is decoded
            continue
    told = [f"{count:,} {kind}" for kind, count in kinds.items()]
    return f"of {total:,} clips looked at {', '.join(told)}" if told else ""


def _kinds_of(raw: Raw, options: AudioInput) -> list[str]:
    samples_TC, rate = read_channels(raw)
    clip = as_clip(samples_TC, rate)
    length = options.num_samples(clip)
    return [
        kind
        for kind, is_so in {
            f"of {clip.rate:,} Hz (resampled to {options.sample_rate:,} Hz)": clip.rate != options.sample_rate,
            "of several channels (their mean is taken)": samples_TC.shape[1] > 1,
            "silent (nothing is in them to learn)": clip.is_silent,
            f"shorter than a window of {options.window_ms:g} ms (filled up with silence)": options.features == "log_mel"
            and length < options.window,
            f"longer than {options.seconds or 0:g} s (they lose their end; raise `input.seconds` where the model can "
            f"take more)": length > (options.most_samples or length),
        }.items()
        if is_so
    ]

"""How a model wants its pairs: the options of its images and those of its texts."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from softlab.modalities.images.inputs import ImageInput, Interpolation
from softlab.modalities.inputs import RECORDED_IF_OTHER
from softlab.modalities.text.inputs import TextInput


@dataclass(frozen=True, kw_only=True, slots=True)
class PairInput:
    """How a model wants its pairs of an image and a text: size and normalisation, tokenizer and length."""

    modality: ClassVar[str] = "pairs"

    size: tuple[int, ...] = ()
    """Height, width; default: the image's own."""

    resize: int | None = None
    """Length of the shorter side before the centre is cut out; default: resize straight to the size."""

    interpolation: Interpolation = dataclasses.field(default="bilinear", metadata={RECORDED_IF_OTHER: True})
    """How pixels are found when an image is resized."""

    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for RGB; default: 3 where some images are RGB, else their own."""

    mean: tuple[float, ...] = (0.5,)
    """Mean of pixels in 0..1.

    It is subtracted; one value, or one a channel."""

    std: tuple[float, ...] = (0.5,)
    """Their standard deviation.

    It divides them then; one value, or one a channel."""

    tokenizer: str = ""
    """A folder, a tokenizer.json, a name on Hugging Face's hub, or train:VOCAB_SIZE.

    The last is trained on the source, and kept with the weights; default: that of an hf: model."""

    max_length: int | None = None
    """Tokens that are let in, special ones included; the rest is cut off.

    Default: as many as the tokenizer says, else 512."""

    identity: str = ""
    """BLAKE3 of what the tokenizer does; another one is refused. softlab fills it in."""

    trained: str = dataclasses.field(default="", metadata={RECORDED_IF_OTHER: True})
    """A tokenizer that was trained on a source. softlab fills it in."""

    def __post_init__(self) -> None:
        _ = self.image, self.text  # which check their own

    @property
    def image(self) -> ImageInput:
        """How the tower of images wants them."""
        return ImageInput(
            size=self.size,
            resize=self.resize,
            interpolation=self.interpolation,
            channels=self.channels,
            mean=self.mean,
            std=self.std,
        )

    @property
    def text(self) -> TextInput:
        """How the tower of texts wants them."""
        return TextInput(
            tokenizer=self.tokenizer, max_length=self.max_length, identity=self.identity, trained=self.trained
        )

    def with_parts(self, image: ImageInput, text: TextInput) -> "PairInput":
        """The same with what was settled of each."""
        return dataclasses.replace(
            self,
            channels=image.channels,
            tokenizer=text.tokenizer,
            max_length=text.max_length,
            identity=text.identity,
            trained=text.trained,
        )

"""Small pictures of samples, for pages."""

# Shape letters: C channels (1 grey, 3 RGB), H height, W width.

from io import BytesIO

from PIL import Image
from torch import Tensor


def thumbnail_png(image_CHW: Tensor, *, pixels: int) -> bytes:
    """The whole image in at most so many pixels each way, never enlarged."""
    pixels_HWC = image_CHW.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    image.thumbnail((pixels, pixels))
    sink = BytesIO()
    image.save(sink, format="PNG")
    return sink.getvalue()

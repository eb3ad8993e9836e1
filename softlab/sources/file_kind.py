"""Which files of a folder are samples: a modality says it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FileKind:
    """One kind of files, told by their suffixes."""

    name: str
    """What one of them is, for messages; an s makes several."""

    field: str
    """The field of a sample that holds a file's bytes."""

    suffixes: tuple[str, ...]
    """In lower case."""

    example: str
    """What a file may be called, for messages."""

    def takes(self, file_name: str) -> bool:
        """By its suffix; a hidden file isn't one."""
        return file_name.lower().endswith(self.suffixes) and not file_name.startswith(".")


IMAGE_FILES = FileKind(
    name="image",
    field="image",
    suffixes=(".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    example="IMAGE.png",
)

"""Data sets with stable sample indices: folders of images, Parquet files, torchvision's own sets."""

from softlab.sources.open import open_source
from softlab.sources.options import SourceOptions
from softlab.sources.source import Sample, SkippedSample, Source

__all__ = ["Sample", "SkippedSample", "Source", "SourceOptions", "open_source"]

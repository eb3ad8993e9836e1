"""Data sets with stable sample indices: folders and Parquet files. They give raw fields; a modality decodes them."""

from softlab.sources.options import SourceOptions
from softlab.sources.source import Sample, SkippedSample, Source, hard_targets

__all__ = ["Sample", "SkippedSample", "Source", "SourceOptions", "hard_targets"]

"""Data sets with stable sample indices: folders, Parquet files, what `datasets` reads. A modality decodes them."""

from softlab.sources.options import SourceOptions
from softlab.sources.source import Sample, SkippedSample, Source, hard_targets

__all__ = ["Sample", "SkippedSample", "Source", "SourceOptions", "hard_targets"]

"""Copies to a GPU that run beside its work."""

from collections.abc import Iterator

import torch

from softlab.loading.batch import Batch


def copied_beside(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches whose copies, and whatever else making one asks of the device, run on a stream of their own: while the
    step on one batch is still at work, the next one arrives. Nothing waits but the device's own stream."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    while True:
        with torch.cuda.stream(stream):
            batch = next(batches, None)
        if batch is None:
            return
        working = torch.cuda.current_stream(device)
        working.wait_stream(stream)
        for tensor in batch.device_tensors():
            tensor.record_stream(working)  # else its memory could be given to the next batch before it was used
        yield batch

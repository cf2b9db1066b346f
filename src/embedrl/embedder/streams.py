"""On a CPU two batches are under way at once, each on half of the threads.

While one is made ready in Python, the other is computed; and the small products of a batch are done sooner side by side than each
divided among all threads. Vectors do not depend on it beyond rounding, and equal calls stay equal to the last bit.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from embedrl.concurrency import map_concurrently

NUM_STREAMS = 2

A = TypeVar("A")


def encode_concurrently(encode: Callable[[A], Tensor], batches: Sequence[A], device: torch.device) -> Iterator[Tensor]:
    """Yield what `encode` makes of each batch, in order. One batch, one thread or an accelerator: one after the other, here.

    A thread that first uses torch while this runs is given as few threads as a stream.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads < NUM_STREAMS or len(batches) < NUM_STREAMS:
        yield from map(encode, batches)
        return

    def call(batch: A) -> Tensor:
        torch.set_num_threads(threads // NUM_STREAMS)  # of this thread
        return encode(batch)

    try:
        yield from map_concurrently(call, batches, NUM_STREAMS)
    finally:
        torch.set_num_threads(threads)

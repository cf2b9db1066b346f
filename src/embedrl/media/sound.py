"""A piece of sound as recognisers of speech take it: mono, 16 kHz, 16 bits."""

from typing import NamedTuple

import numpy as np

SAMPLE_RATE = 16_000
"""Samples a second."""
PIECE_S = 120.0
"""Longest piece; its samples take 3.8 MB."""
SILENCE = 33
"""Largest sample of a piece without a sound: -60 dB of full scale."""


class Sound(NamedTuple):
    """A piece of a video's sound."""

    samples: np.ndarray
    """int16 (N,), mono, at `SAMPLE_RATE`."""
    next_s: float | None
    """Where the next piece begins, seconds from the first frame; None at the end of the video."""
    has_track: bool = True
    """Whether the file has a track of sound at all."""

    @property
    def is_silent(self) -> bool:
        """Whether nothing can be heard."""
        return not self.samples.size or max(int(self.samples.max()), -int(self.samples.min())) <= SILENCE

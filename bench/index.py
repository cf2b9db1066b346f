"""How fast the index takes in files and answers, how good its approximate search is, and that its memory does not grow.

Models are fakes, so the figures are those of the machinery around them: decoding, records, table, search.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from embedrl.index import Index, IngestReport, ingest
from embedrl.index.row import Place, Row, Stamp, place_id
from embedrl.log import info, result, table
from embedrl.media.image import load_image, save_image
from embedrl.media.video import save_video
from embedrl.testing import FakeEmbedder, FakeReasoner
from embedrl.world.scenes import draw_example

DIM = 192
SIZES = (1_000, 10_000, 100_000)
NUM_QUERIES = 50
TOP = 10
NUM_FILES = 200
MAX_GROWTH = 1.25
"""Four times the files may take this much of the memory at most."""


def main() -> None:
    """Run all three and write their tables."""
    with tempfile.TemporaryDirectory() as folder:
        _ingest_speed(Path(folder))
        _search_speed(Path(folder))


if __name__ == "__main__":
    main()

"""Long media in bounded memory: a film and a PDF beside short ones, indexed with the nano Embedder, plain vectors.

    python bench/long_media.py [minutes of the film] [pages of the PDF]

Each is indexed by a process of its own: its peak resident memory, that of its largest decoder, units, seconds, and the share of that
time in which the model worked (tokenising and forward pass). Films have 160 x 120 pixels, 2 frames a second and a cut every 8 s.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import PIL.Image
import PIL.ImageDraw

from embedrl.embedder.embedder import Embedder
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.log import result, table
from embedrl.runtime.names import load_embedder

FPS, SHOT_S = 2, 8
SIZE = (160, 120)
SHORT_MINUTES, SHORT_PAGES = 2, 20
COLUMNS = ("medium", "units", "seconds", "a second", "peak MB", "largest decoder MB", "model busy")


def main(minutes: int = 120, pages: int = 2000) -> None:
    """Make the media, index each, and print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for kind, lengths, write in (("film", (SHORT_MINUTES, minutes), write_film), ("PDF", (SHORT_PAGES, pages), write_pdf)):
            for length in lengths:
                folder = Path(name) / f"{kind}-{length}"
                folder.mkdir()
                write(folder / ("film.mp4" if kind == "film" else "book.pdf"), length)
                figures = json.loads(subprocess.run([sys.executable, __file__, str(folder)], check=True, stdout=subprocess.PIPE).stdout)
                rows.append((f"{kind} of {length} {'minutes' if kind == 'film' else 'pages'}", *figures))
    table("Long media, nano Embedder", COLUMNS, rows)
    result("peak: of the process that indexes, with the model in it; the decoders are its children")


def write_film(path: Path, minutes: int) -> None:
    """Write shots of one background each, in which a disc moves."""
    rng = random.Random(minutes)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "28", "preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(minutes * 60 * FPS):
            at = number % (SHOT_S * FPS)
            if not at:
                background, disc = ([rng.randrange(256) for _ in range(3)] for _ in range(2))
                height = rng.randrange(20, 100)
            image = PIL.Image.new("RGB", SIZE, tuple(background))
            PIL.ImageDraw.Draw(image).ellipse((9 * at, height - 15, 9 * at + 30, height + 15), fill=tuple(disc))
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_pdf(path: Path, pages: int) -> None:
    """Write pages of 30 lines of text, with a text layer."""
    rng = random.Random(pages)
    words = ["river", "lamp", "stone", "paper", "green", "seven", "window", "garden", "morning", "letter"]
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    for number in range(1, pages + 1):
        lines = [f"Page {number}", *(" ".join(rng.choices(words, k=9)) for _ in range(30))]
        drawn = "BT /F 11 Tf 14 TL 50 740 Td " + " ".join(f"({line}) '" for line in lines) + " ET"
        look = "/MediaBox [0 0 612 792] /Resources << /Font << /F 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {look} /Contents {len(objects) + 2} 0 R >>")
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    objects[1] = f"<< /Type /Pages /Count {pages} /Kids [{' '.join(f'{4 + 2 * number} 0 R' for number in range(pages))}] >>"
    data, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, written in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{written}\nendobj\n".encode()
    entries = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n"
    path.write_bytes(bytes(data) + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{entries}".encode() + trailer.encode())


def measure(folder: Path) -> tuple[Any, ...]:
    """Index a folder and return the figures of a row."""
    embedder = load_embedder("nano")
    assert isinstance(embedder, Embedder)
    busy = Busy(embedder)
    index = Index.open(folder, embedder=embedder)
    started = time.perf_counter()
    report = ingest(folder, index, None, embedder, think=False, batch_size=32)
    seconds = time.perf_counter() - started
    assert not report.failures, report.failures
    units = len(index)
    own, decoders = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    figures = (f"{seconds:.0f}", f"{units / seconds:.1f}", f"{own:.0f}", f"{decoders:.0f}", f"{busy.seconds / seconds:.2f}")
    return (f"{units:,}", *figures)


class Busy:
    """Counts the seconds in which an Embedder's model works, in whichever thread."""

    def __init__(self, embedder: Embedder) -> None:
        self.seconds, self._num_working, self._since = 0.0, 0, 0.0
        self._counting, encode = threading.Lock(), embedder.encode

        def counted(inputs: Any) -> Any:
            self._count(1)
            try:
                return encode(inputs)
            finally:
                self._count(-1)

        embedder.encode = counted  # ty: ignore[invalid-assignment]

    def _count(self, change: int) -> None:
        with self._counting:
            now = time.perf_counter()
            self.seconds += now - self._since if self._num_working else 0.0
            self._num_working, self._since = self._num_working + change, now


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir():
        print(json.dumps(measure(Path(sys.argv[1]))))  # noqa: T201
    else:
        main(*map(int, sys.argv[1:]))

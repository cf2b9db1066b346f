"""Files that are small, and large once they are decoded."""

import zlib
from functools import lru_cache
from pathlib import Path

import PIL.Image

MIB = 2**20


@lru_cache
def packed_blanks(num_bytes: int, num_filters: int = 3) -> bytes:
    """Return blanks, deflated several times over."""
    packers = [zlib.compressobj(9) for _ in range(num_filters)]
    packed = bytearray()

    def feed(level: int, data: bytes, *, is_last: bool = False) -> None:
        if level == len(packers):
            packed.extend(data)
            return
        fed = packers[level].compress(data) + (packers[level].flush() if is_last else b"")
        if fed or is_last:
            feed(level + 1, fed, is_last=is_last)

    for _ in range(num_bytes // MIB):
        feed(0, b" " * MIB)
    feed(0, b"", is_last=True)
    return bytes(packed)


def bomb_pdf(num_bytes: int, num_pages: int = 2) -> bytes:
    """Make a document whose page 1 is empty; the content of each later page unpacks to so many bytes."""
    data, pages = packed_blanks(num_bytes), " ".join(f"{4 + number} 0 R" for number in range(num_pages))
    filters = b"[/FlateDecode/FlateDecode/FlateDecode]"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{pages}]/Count {num_pages}>>".encode(),
        b"<</Length %d/Filter%s>>stream\n%s\nendstream" % (len(data), filters, data),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>",
        *[b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 3 0 R>>"] * (num_pages - 1),
    ]
    body, starts = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + tail


def many_scans(path: Path, num_scans: int) -> None:
    """Write a progressive JPEG whose last scan comes again and again: each is decoded over the whole picture."""
    PIL.Image.new("L", (4000, 4000)).save(path, "JPEG", progressive=True)
    data = path.read_bytes()
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:-2] + data[last:-2] * num_scans + b"\xff\xd9")

"""Folders of other people's files (Pillow's own tests, say) through an index run: each file is indexed, or listed with a reason.

`python -m tests.attack.indexed_files [FOLDER ...]`, where a folder is an unpacked source package; without one, the test files of several
packages are fetched first. The files are copied, indexed with a fake Embedder, and counted by kind of name. A photo that was refused and
that Pillow reads to its end is listed with our reason, and so is one whose pixels another program decodes otherwise. Ends with an error if
a file has no outcome, or if a second run does anything again.
"""

import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from embedrl.index.failures import Failure
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.log import result, table
from embedrl.media.kinds import MEDIA
from embedrl.testing import FakeEmbedder
from tests.attack.other_decoders import compare
from tests.attack.other_files import pillow_reads
from tests.attack.source_packages import test_folders


def copy_files(folders: list[Path], target: Path) -> None:
    """Copy all files but hidden ones, each folder under its number."""
    for number, folder in enumerate(folders):
        shutil.copytree(folder, target / str(number), ignore=shutil.ignore_patterns(".*"), ignore_dangling_symlinks=True)


def index_files(folder: Path) -> IngestReport:
    """Index a folder by plain vectors of a fake Embedder."""
    return ingest(folder, Index.open(folder, embedder=FakeEmbedder()), None, FakeEmbedder(), think=False)


def reason_kind(failure: Failure) -> str:
    """Return the reason of a failure without its numbers and names."""
    return re.sub(r"'[^']*'", "'…'", re.sub(r"\d[\d,.]*", "N", failure.reason))[:100]


def disputed(folder: Path, failures: tuple[Failure, ...]) -> list[tuple[str, str]]:
    """Return the refused images that Pillow reads to their end, with our reasons."""
    images = [failure for failure in failures if failure.path.suffix.lower() in MEDIA["image"].suffixes]
    return [(failure.path.name, failure.reason[:100]) for failure in images if pillow_reads(folder / failure.path)]


def main() -> int:
    """Index all files twice, and print what came of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        copy_files([Path(argument) for argument in sys.argv[1:]] or test_folders(), folder)
        report = index_files(folder)
        places = list(Index.open(folder).places())
        indexed = {place.path for place in places}
        failed = {failure.path for failure in report.failures}
        left_out = report.unsupported + report.skipped.get("sidecars", 0)
        lost = report.num_files - len(indexed | failed) - left_out
        again = index_files(folder)
        contested = disputed(folder, report.failures)
        comparison = compare(folder, places)
    suffixes = Counter(path.suffix.lower() for path in indexed), Counter(path.suffix.lower() for path in failed)
    counts = [(suffix, suffixes[0][suffix], suffixes[1][suffix]) for suffix in sorted({*suffixes[0], *suffixes[1]})]
    table("files by name", ["suffix", "indexed", "refused"], counts)
    table("of kinds that are not read", ["suffix", "files"], list(report.unread_kinds.items()))
    table("refused", ["files", "reason"], [(n, reason) for reason, n in Counter(map(reason_kind, report.failures)).most_common()])
    table("refused, though Pillow reads them", ["file", "our reason"], contested)
    table("pixels beside another decoder", ["outcome", "files"], comparison.counts.most_common())
    table("decoded otherwise by another program", ["file", "difference"], comparison.different)
    by_name = sum(report.skipped.values()) - report.skipped.get("sidecars", 0)
    result(
        f"{report.num_files} files and {by_name} left out by name: {len(indexed)} indexed "
        f"as {report.added + report.reused} units, {len(failed)} refused with a reason ({len(contested)} of them read by Pillow), "
        f"{left_out} of kinds that are not read or sidecars, {lost} without an outcome; {report.seconds['total']:.0f} s"
    )
    result(f"second run: {again.added} new, {again.removed} removed, {again.unchanged} unchanged, {len(again.failures)} failures")
    return bool(lost or again.added or again.removed or len(again.failures) != len(report.failures))


if __name__ == "__main__":
    sys.exit(main())

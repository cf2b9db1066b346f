"""Source packages whose test files are odd media: fetched by pip as it is set up here, unpacked into a cache, never committed."""

import subprocess
import sys
import tarfile
from pathlib import Path

from embedrl.log import warn

PACKAGES = {
    "pillow": "Tests",
    "pypdf": "resources",
    "pypdfium2": "tests/resources",
    "pillow-heif": "tests",
    "img2pdf": "src/tests",
    "odfpy": "tests/examples",
    "hachoir": "tests/files",
    "mutagen": "tests/data",
}
"""Name of a package -> its folder of test files."""
CACHE = Path(__file__).parents[2] / ".cache" / "source-packages"
TIMEOUT_S = 240


def test_folders() -> list[Path]:
    """Return the folders of test files of the packages, fetched unless they are here; what cannot be fetched is said."""
    folders = []
    for name, inside in PACKAGES.items():
        target = CACHE / name
        if not target.is_dir():
            fetch(name, target)
        found = [path for path in target.glob(f"*/{inside}") if path.is_dir()]
        if not found:
            warn(f"{name}: its source package could not be fetched, or has no folder {inside!r}; its files are left out")
        folders += found
    return folders


def fetch(name: str, target: Path) -> None:
    """Download the source package of this name, without what it depends on, and unpack it."""
    downloads = CACHE / "downloads" / name
    downloads.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(downloads), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        warn(f"{name}: pip took more than {TIMEOUT_S} s")
        return
    if done.returncode:
        warn(f"{name}: pip: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}")
    for archive in downloads.glob("*.tar.gz"):
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")

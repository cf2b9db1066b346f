"""Image files of other people (Pillow's own tests, say) through our limited decoders: what is read, what is refused and why, peak memory.

`python -m tests.attack.other_files FOLDER`. A file that we refuse and Pillow reads to its end is listed with our reason. Ends with an error
if a file gives anything but pixels or a MediaError, or if a decoder takes more than its budget.
"""

import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

from embedrl.errors import MediaError
from embedrl.log import result, table
from embedrl.media.content import Image
from embedrl.media.decode import look
from embedrl.media.store import limits_in_force

MIB = 1024**2
BYTES = 2048 * MIB
TIMEOUT_S = 20
LOADS = "import sys, PIL.Image\nPIL.Image.MAX_IMAGE_PIXELS = None\nwith PIL.Image.open(sys.argv[1]) as image:\n    image.load()\n"


def pillow_reads(path: Path) -> bool:
    """Say whether Pillow alone reads a file to its end, in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", LOADS, str(path)],
            capture_output=True,
            timeout=TIMEOUT_S,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES)),
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def peak_mb() -> int:
    """Return the largest resident size that a decoder alive now has had."""
    children = Path("/proc/self/task").glob("*/children")
    pids = {pid for path in children for pid in path.read_text().split()}
    peaks = [0]
    for pid in pids:
        try:
            peaks += [int(size) // 1024 for size in re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())]
        except OSError:
            continue
    return max(peaks)


def main() -> int:
    """Try all files, and print what came of them."""
    reasons: Counter[str] = Counter()
    disputed, broken, num_read, peak = [], [], 0, 0
    files = [path for path in sorted(Path(sys.argv[1]).rglob("*")) if path.is_file()]
    for path in files:
        try:
            look(Image(path=path), "pixels")
            num_read += 1
        except MediaError as error:
            reason = re.sub(r"\d[\d,.]*", "N", str(error).replace(repr(str(path)), "").replace(str(path), "").strip(": "))[:90]
            reasons[reason] += 1
            if pillow_reads(path):
                disputed.append((path.name, str(error).replace(str(path), "")[:100]))
        except Exception as error:  # boundary: this is what is looked for
            broken.append((path.name, f"{type(error).__name__}: {error}"[:100]))
        peak = max(peak, peak_mb())
    budget = limits_in_force().decode_memory_bytes // MIB
    table("refused", ["files", "reason"], [(str(number), reason) for reason, number in reasons.most_common()])
    table("refused, though Pillow reads them", ["file", "our reason"], disputed)
    table("broken", ["file", "error"], broken)
    refused = f"{sum(reasons.values())} refused ({len(disputed)} of these read by Pillow)"
    result(f"{len(files)} files: {num_read} read, {refused}, {len(broken)} broken")
    result(f"a decoder took at most {peak} MB; its budget beyond its start is {budget} MB")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())

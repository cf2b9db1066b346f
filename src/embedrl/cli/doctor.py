"""`embedrl doctor`: check library versions, media decoders and models."""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedrl import log
from embedrl.config import library_versions
from embedrl.errors import ConfigError, EmbedRLError
from embedrl.media.content import Image, Page, Video
from embedrl.models.names import shipped


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    ok: bool
    detail: str


def examine() -> list[Check]:
    """Run all checks of the installation; a failed one does not stop the others."""
    versions = [Check(name, True, version) for name, version in library_versions().items()]
    with tempfile.TemporaryDirectory() as folder:
        media = [_attempt(name, work, Path(folder)) for name, work in (("images", _images), ("videos", _videos), ("documents", _documents))]
    models = [_model(f"{kind} {name}", folder) for kind in ("reasoner", "embedder") for name, folder in shipped(kind).items()]
    return [*versions, *media, *models]


def run_checks(
    benchmark: str | None = None,
    data: Path | None = None,
    datasets: Sequence[str] = (),
    *,
    embedder: str | None = None,
    server: str | None = None,
    extract_frames: bool = False,
    videos: Path | None = None,
) -> bool:
    """Check the installation, a benchmark's files, an index, or a model in other engines; return whether all passed."""
    if (extract_frames or videos) and (benchmark in (None, "parity", "index") or not extract_frames):
        raise ConfigError("--extract-frames and --videos belong to the files of a benchmark: embedrl doctor MMEB-V2 DIR --extract-frames")
    if benchmark == "parity":
        from embedrl.integrations.parity import examine_parity

        return examine_parity(embedder or "nano", server)
    if embedder or server:
        raise ConfigError("--embedder and --server belong to `embedrl doctor parity`")
    if benchmark == "index":
        if data is None:
            raise ConfigError("doctor index: give the indexed folder, as in `embedrl doctor index library`")
        return _check_index(data)
    if benchmark is not None:
        from embedrl.pipelines.inspect_files import examine_benchmark

        if data is None:
            raise ConfigError(f"doctor {benchmark}: give the folder of its files too")
        return examine_benchmark(benchmark, data, datasets, videos=(videos or data) if extract_frames else None)
    checks = examine()
    rows = [(check.name, "ok" if check.ok else "FAILED", check.detail) for check in checks]
    log.table("embedrl doctor", ["check", "state", "detail"], rows)
    return all(check.ok for check in checks)


def _check_index(folder: Path) -> bool:
    """Verify the checksums of an index; print what is damaged and how to repair it."""
    from embedrl.index.checksums import check_index

    damage = check_index(folder)
    unnoted = f", {damage.num_unnoted} without a checksum" if damage.num_unnoted else ""
    rows = [
        ("rows", damage.error is None and not damage.damaged_rows, damage.error or f"{damage.num_rows} read{unnoted}"),
        *((f"row of {place}", False, "is not as it was written") for place in damage.damaged_rows),
        ("files of the table", not damage.damaged_files, ", ".join(damage.damaged_files) or "all end as they were written"),
        *((name, not number, f"{number} damaged lines" if number else "whole") for name, number in damage.damaged_lines.items()),
    ]
    log.table(
        f"embedrl doctor index {folder}", ["what", "state", "detail"], [(name, "ok" if ok else "FAILED", why) for name, ok, why in rows]
    )
    if damage.damaged_rows or damage.damaged_files or damage.error:
        log.info("delete items.lance in the index and run `embedrl index` again: T-CoTs are stored separately and are kept")
    if any(damage.damaged_lines.values()):
        log.info("damaged lines are skipped: the next `embedrl index` restores their content")
    return damage.is_whole


def _attempt(name: str, work: Callable[[Path], str], folder: Path) -> Check:
    try:
        return Check(name, True, work(folder))
    except (EmbedRLError, ImportError, OSError, RuntimeError) as error:  # a broken library fails in its own ways; the report names it
        return Check(name, False, f"{type(error).__name__}: {error}")


def _images(folder: Path) -> str:
    from embedrl.media.decode import look
    from embedrl.media.image import save_image
    from embedrl.world.scenes import sample_scene

    drawn = sample_scene(random.Random(0), "test").draw()
    for suffix in ("png", "jpg"):
        save_image(drawn, folder / f"scene.{suffix}")
        size = look(Image(path=folder / f"scene.{suffix}"), "pixels").images[0].size
        if size != drawn.size:
            raise RuntimeError(f"a {suffix} of {drawn.size} pixels came back as {size}")
    return f"PNG and JPEG, {drawn.width} x {drawn.height} pixels, written and read"


def _videos(folder: Path) -> str:
    from embedrl.media.decode import look
    from embedrl.media.video import save_video
    from embedrl.world.clips import FPS, sample_clip

    frames = sample_clip(random.Random(0), "test").frames()
    save_video(frames, folder / "clip.mp4", fps=FPS)
    num_read = len(look(Video(path=folder / "clip.mp4"), "pixels", num_frames=len(frames.images)).images)
    if num_read != len(frames.images):
        raise RuntimeError(f"an MP4 of {len(frames.images)} frames came back with {num_read}")
    return f"MP4, {num_read} frames, written and read"


def _documents(folder: Path) -> str:
    from embedrl.media.decode import look
    from embedrl.media.document import save_pdf
    from embedrl.world.pages import sample_page

    save_pdf([sample_page(random.Random(0), "test").draw()], folder / "page.pdf")
    page = look(Page(path=folder / "page.pdf"), "pixels").images[0]
    return f"PDF, one page of {page.width} x {page.height} pixels, written and read"


def _model(name: str, folder: Path) -> Check:
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")] if folder.is_dir() else []
    if not sizes:
        return Check(name, False, f"no weights in {str(folder)!r}; `make nano` trains them")
    return Check(name, True, f"{log.size_text(sum(sizes))} in {str(folder)!r}")

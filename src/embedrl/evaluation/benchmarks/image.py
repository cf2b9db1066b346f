"""MMEB-V2 image datasets: each query ranks its own candidate list, of which the first is right.

A row: {"qry_inst": "<|image_1|>\\nDecide the scene.\\n", "qry_text": "", "qry_img_path": "SUN397/Test/1.jpg", "tgt_inst": "",
"tgt_text": ["beach", "harbour"], "tgt_img_path": ["", ""]}. Instructions are the rows' own, without the marks of images.
"""

from pathlib import Path

from embedrl.data.sources.media_folder import MediaFolder
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.pool import Pool
from embedrl.evaluation.benchmarks.queries import asks, shown
from embedrl.evaluation.benchmarks.rows import list_of, read_rows
from embedrl.evaluation.benchmarks.source import Layout, Source


def read_images(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read a dataset whose candidates are named by their text, by their image, or by both, as its layout says."""
    pool, ask = Pool(source, inspection), asks(source, data, num_frames)
    media = MediaFolder(data / source.media)
    for number, row in read_rows(
        source, data, inspection, ("tgt_text",), ("qry_inst", "qry_text", "qry_img_path", "tgt_inst", "tgt_img_path")
    ):
        texts = [text or "" for text in list_of(row, "tgt_text")]
        paths = [path or "" for path in (list_of(row, "tgt_img_path") if row.get("tgt_img_path") else [""] * len(texts))]
        if len(paths) != len(texts):
            inspection.report(source.name, f"{len(texts)} texts of candidates with {len(paths)} images; download the rows again", number)
            continue
        names = [_name(source, text, path) for text, path in zip(texts, paths, strict=True)]
        for name, text, path in zip(names, texts, paths, strict=True):
            pool.offer(name, lambda text=text, path=path: shown(media, text, path), number, row.get("tgt_inst") or "")
        pool.ask(lambda row=row: ask(row), dict.fromkeys(names[:1], 1.0), number, local=names)
    return pool


def _name(source: Source, text: str, path: str) -> str:
    match source.layout.name:
        case "image_text":
            return text
        case "image_path":
            return path
    return f"{path}:{text.strip(chr(34))}"


IMAGE_TEXT = Layout("image_text", read_images)
IMAGE_PATH = Layout("image_path", read_images, wanted="image")
IMAGE_BOTH = Layout("image_both", read_images, wanted="image")
"""They differ in what names a candidate: its text, its image, or both."""

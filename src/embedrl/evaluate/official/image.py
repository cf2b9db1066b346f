"""MMEB-V2's image datasets: a query, and the list of all candidates it ranks, of which the first is right.

A row: {"qry_inst": "<|image_1|>\\nDecide the scene.\\n", "qry_text": "", "qry_img_path": "SUN397/Test/1.jpg", "tgt_inst": "",
"tgt_text": ["beach", "harbour"], "tgt_img_path": ["", ""]}. Instructions are the rows' own, without the marks of pictures.
"""

from collections.abc import Callable
from pathlib import Path

from embedrl.data.sources.media_folder import MediaFolder
from embedrl.data.sources.side import side
from embedrl.evaluate.official.inspection import Inspection
from embedrl.evaluate.official.pool import Pool
from embedrl.evaluate.official.rows import read_rows
from embedrl.evaluate.official.source import Source
from embedrl.media.content import Content


def read_images(source: Source, data: Path, inspection: Inspection) -> Pool:
    """Read a dataset whose candidates are named by their text, by their picture, or by both, as its layout says."""
    pool = Pool(source, inspection, "text" if source.layout == "image_text" else "image")
    media = MediaFolder(data / source.media)
    for number, row in read_rows(
        source, data, inspection, ("tgt_text",), ("qry_inst", "qry_text", "qry_img_path", "tgt_inst", "tgt_img_path")
    ):
        texts = [text or "" for text in row["tgt_text"]]
        paths = [path or "" for path in row.get("tgt_img_path") or [""] * len(texts)]
        if len(paths) != len(texts):
            inspection.report(source.name, f"{len(texts)} texts of candidates with {len(paths)} pictures; download the rows again", number)
            continue
        names = [_name(source, text, path) for text, path in zip(texts, paths, strict=True)]
        for name, text, path in zip(names, texts, paths, strict=True):
            pool.offer(name, _shown(media, text, path), number, row.get("tgt_inst") or "")
        query = _shown(media, row.get("qry_text") or "", row.get("qry_img_path") or "")
        pool.ask(query, dict.fromkeys(names[:1], 1.0), number, local=names, instruction=row.get("qry_inst") or "")
    return pool


def _name(source: Source, text: str, path: str) -> str:
    match source.layout:
        case "image_text":
            return text
        case "image_path":
            return path
    return f"{path}:{text.strip(chr(34))}"


def _shown(media: MediaFolder, text: str, path: str) -> Callable[[], Content]:
    return lambda: side(text, *([media.image(path)] if path else []))

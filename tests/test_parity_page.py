"""docs/parity.md: what published models are shown beside what their authors' code shows them, held against facts (tests/reference.py).

`python -m tests.test_parity_page --write` writes its tables.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import Qwen3VLConfig

from embedrl.data import items
from embedrl.data.sample import Item
from embedrl.data.tcot import Evidence, TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import DecodedItem, collate
from embedrl.embedder.parity import collapse
from embedrl.media.content import Frames, Image, Page, Text, Video
from embedrl.media.video import save_video
from embedrl.models.load import empty_model, load_parts
from tests.checkpoints import qwen3_vl_config, write_instruct
from tests.published_files import PUBLISHED
from tests.reference import CLIPS, FAMILIES, STAGES, Clip, Reference
from tests.test_published_files import try_dataset

PAGE = Path(__file__).parents[1] / "docs" / "parity.md"
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "qwen3_vl_ids.json").read_text("utf-8"))
END = {"Embed-RL": "<emb>", "Qwen3-VL-Embedding": "<|endoftext|>"}
EXIF_ORIENTATION = 0x0112
BOX = TCoT(thinking="A cup.", evidence=Evidence(boxes=((0, 0, 500, 1000),)), rethink="It fits.", answer="a red cup")
MOMENT = TCoT(thinking="It turns.", evidence=Evidence(key_frames=(3,)), rethink="It fits.", answer="a red cup")


def write_tokenizer(folder: Path, end: str) -> None:
    """Put the published vocabulary into a folder, as far as the texts need it, with its ids."""
    special = {token: place for token, place in GOLDEN["special"].items() if token != "<emb>" or end == token}
    merges = [tuple(merge.split(" ")) for merge in GOLDEN["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={**GOLDEN["vocab"], **special}, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    pieces = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pieces), "isolated"), level])
    tokenizer.decoder = decoders.ByteLevel()
    for token in special:
        tokenizer.add_tokens([AddedToken(token, special=True, normalized=False)])
    ends = [] if end == "<emb>" else [processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, special[end])])]
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), *ends])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").write_text(json.dumps(GOLDEN["vocab"]), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(GOLDEN["merges"]) + "\n", "utf-8")
    path = folder / "tokenizer_config.json"
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    added = {str(place): {"content": token, **flags} for token, place in special.items()}
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "added_tokens_decoder": added}), "utf-8")


@cache
def embedder(family: str) -> Embedder:
    """Return an Embedder of a family, with the published ids and without weights: what it is shown is all that is looked at."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, end = Path(temporary) / "model", END[family]
        write_instruct(folder, added=("<emb>",) if end == "<emb>" else (), ends_with=None if end == "<emb>" else end)
        write_tokenizer(folder, end)
        processor = load_parts(folder)[1]
        named = {"emb_token_ids": [GOLDEN["special"]["<emb>"]]} if end == "<emb>" else {}
        return Embedder.on(empty_model(Qwen3VLConfig.from_dict(qwen3_vl_config(**named))), processor, family, folder)


def image(width: int, height: int) -> Image:
    return Image(pixels=PIL.Image.new("RGB", (width, height), "red"))


def eight_frames() -> Video:
    frames = tuple(PIL.Image.new("RGB", (640, 360), (30 * number,) * 3) for number in range(8))
    return Video(frames=Frames(frames, tuple(float(number) for number in range(8))))


def turned(folder: Path) -> Image:
    exif = PIL.Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    PIL.Image.new("RGB", (640, 480), "red").save(folder / "turned.jpg", exif=exif)
    return Image(path=folder / "turned.jpg")


INPUTS: dict[str, Callable[[Path], tuple[Item, TCoT | None]]] = {
    "text": lambda _: (items.query("a red star", ""), None),
    "text, instruction": lambda _: (items.query("a red star", "Find it."), None),
    "unicode": lambda _: (items.query("größe  星\t1,914 🜁", ""), None),
    "image, text, instruction": lambda _: (items.query((image(640, 480), Text(text="a red star")), "Find it."), None),
    **{
        f"image {width} x {height}": lambda _, size=(width, height): (items.query((image(*size),), ""), None)
        for width, height in ((640, 480), (20, 30), (64, 48), (1500, 1000), (4000, 3000), (3000, 20))
    },
    "page 1240 x 1754": lambda _: (items.query((Page(pixels=PIL.Image.new("RGB", (1240, 1754), "white")),), ""), None),
    "image 640 x 480, turned by EXIF": lambda folder: (items.query((turned(folder),), ""), None),
    "three images, text": lambda _: (items.query((*[image(640, 480)] * 3, Text(text="which?")), ""), None),
    "8 frames 640 x 360": lambda _: (items.query((eight_frames(),), ""), None),
    "8 frames, text": lambda _: (items.query((eight_frames(), Text(text="what happens?")), ""), None),
    "image, T-CoT with a box": lambda _: (items.query((image(640, 480),), ""), BOX),
    "8 frames, T-CoT with a key frame": lambda _: (items.query((eight_frames(),), ""), MOMENT),
}


def shown(family: str, name: str, folder: Path) -> Reference:
    """Return what a family's model is shown of an input by us; `ours` holds the pooled token."""
    model = embedder(family)
    item, tcot = INPUTS[name](folder)
    built = model.build(item, tcot)
    batch = collate(model.processor, [built])
    text, ids = collapse(model.processor, batch["input_ids"][0].tolist())
    rows = [tuple(row) for kind in ("video_grid_thw", "image_grid_thw") if kind in batch for row in batch[kind].tolist()]
    times = [time for video in built.videos for time in video.times_s]
    if tcot is MOMENT:
        times += [float(picture.getpixel((0, 0))[0] // 30) for picture in built.images]  # ty: ignore[not-subscriptable]
    last = model.processor.tokenizer.convert_ids_to_tokens(int(batch["input_ids"][0][-1]))
    return Reference(text, tuple(rows), tuple(times), {"ids": str(list(ids)), "position": last})


def compare(family: str, name: str, folder: Path) -> dict[str, str]:
    """Say for each stage whether it is equal, or why it is ours. A difference that is not written down fails; so does one that is gone."""
    expected, found = FAMILIES[family][name], shown(family, name, folder)
    same = {
        "text": found.text == expected.text,
        "ids": found.ours["ids"] == str(GOLDEN["ids"][family][name]),
        "grid": found.grids == expected.grids,
        "frames": found.times_s == expected.times_s,
        "position": found.ours["position"] == END[family],
    }
    for stage in STAGES:
        assert same[stage] == (stage not in expected.ours), (family, name, stage, found, expected)
    return {stage: f"ours: {expected.ours[stage]}" if stage in expected.ours else "equal" for stage in STAGES}


def clip(family: str, seconds: int, size: str, folder: Path) -> Clip:
    """Return what a family's model is shown of a video file."""
    model, (width, height) = embedder(family), map(int, size.split(" x "))
    path = folder / f"{seconds}-{width}.mp4"
    if not path.exists():
        fps = 4 if seconds < 100 else 1  # a frame a second is all that any rule takes
        save_video([PIL.Image.new("RGB", (width, height), (number % 255, 90, 90)) for number in range(fps * seconds)], path, fps=fps)
    (frames,) = DecodedItem(items.candidate(path), model.budget, model.factor).own
    assert isinstance(frames, Frames)
    columns, rows = (side // 16 for side in frames.images[0].size)
    pairs = -(-len(frames.images) // 2)
    return Clip(len(frames.images), (pairs, rows, columns), pairs * rows * columns // 4)


CASES = [pytest.param(family, name, id=f"{family}, {name}") for family, rows in FAMILIES.items() for name in rows]
CLIP_CASES = [pytest.param(family, *key, id=f"{family}, {key[0]} s {key[1]}") for family, rows in CLIPS.items() for key in rows]


@pytest.mark.parametrize(("family", "name"), CASES)
def test_an_input_is_shown_as_published_or_the_page_says_why_not(family: str, name: str, tmp_path: Path):
    assert input_line(name, family, compare(family, name, tmp_path)) in lines()


@pytest.mark.parametrize(("family", "seconds", "size"), CLIP_CASES)
def test_clips_are_sampled_and_scaled_by_the_rule_of_the_family(family: str, seconds: int, size: str, tmp_path: Path):
    expected = CLIPS[family][seconds, size]
    assert clip(family, seconds, size, tmp_path) == expected
    assert clip_line(family, seconds, size, expected) in lines()


def test_the_page_has_a_row_for_every_dataset(tmp_path: Path):
    benchmark, name = "MMEB-V2", "Charades-STA"
    assert dataset_line(benchmark, name, try_dataset(benchmark, name, tmp_path)) in lines()
    rows = [row.split(" | ")[:2] for row in lines() if row.startswith(("| MMEB-V2", "| UVRB"))]
    assert rows == [[f"| {benchmark}", name] for benchmark, datasets in PUBLISHED.items() for name in datasets]


def lines() -> list[str]:
    return PAGE.read_text("utf-8").splitlines()


def input_line(name: str, family: str, cells: dict[str, str]) -> str:
    return f"| {name} | {family} | {' | '.join(cells.values())} |"


def clip_line(family: str, seconds: int, size: str, clip: Clip) -> str:
    return f"| {seconds} s, {size} | {family} | {clip.num_frames} | {' x '.join(map(str, clip.grid))} | {clip.num_tokens:,} |"


def dataset_line(benchmark: str, name: str, cells: dict[str, str]) -> str:
    return f"| {benchmark} | {name} | {' | '.join(cells.values())} |"


def input_table(folder: Path) -> Iterator[str]:
    yield f"| input | family | {' | '.join(STAGES)} |"
    yield "|---" * (len(STAGES) + 2) + "|"
    for family, rows in FAMILIES.items():
        for name in rows:
            yield input_line(name, family, compare(family, name, folder))


def clip_table(folder: Path) -> Iterator[str]:
    yield "| video file | family | frames | patches | visual tokens |"
    yield "|---|---|---|---|---|"
    for family, rows in CLIPS.items():
        for seconds, size in rows:
            yield clip_line(family, seconds, size, clip(family, seconds, size, folder))


def dataset_table(folder: Path) -> Iterator[str]:
    yield "| benchmark | dataset | read | pool | labels | metric |"
    yield "|---|---|---|---|---|---|"
    for benchmark, datasets in PUBLISHED.items():
        for name in datasets:
            yield dataset_line(benchmark, name, try_dataset(benchmark, name, folder / benchmark / name))


def write_page() -> None:
    """Write the tables of docs/parity.md between their marks."""
    text = PAGE.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for table in (input_table, clip_table, dataset_table):
            mark = table.__name__.replace("_", " ")
            head, _, rest = text.partition(f"<!-- {mark} -->\n")
            _, _, tail = rest.partition("<!-- end -->\n")
            text = f"{head}<!-- {mark} -->\n" + "\n".join(table(Path(folder))) + f"\n<!-- end -->\n{tail}"
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write_page()

"""The golden test of formats and fingerprints: what users, clients and files on disk depend on stays as it is.

`tests/golden/formats.json` holds the command line, the HTTP interface, fingerprints and cache keys, the index, formats on disk and the
keys of recipes, a section each. A change that is meant is written with `python -m tests.test_formats --write` and committed with its
reason. Names of modules, classes and functions are no contract and appear nowhere in it.
"""

import difflib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lancedb
import PIL.Image
import pytest
from typer.main import get_command

from embedrl.cli.main import app, main
from embedrl.config import METRICS, Metrics, write_run_config
from embedrl.data.records import outcome_key, write_outcome
from embedrl.data.sample import Item, Pair, Role
from embedrl.data.sources.lines import Line, WholeLine
from embedrl.data.tcot import Evidence, FailureReason, ParseFailure, TCoT, parse, render
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.evaluation.cache import Cache, CachedEmbedder, CachedReasoner
from embedrl.index.failures import limits_hash
from embedrl.index.location import INDEX_NAME, IndexLocation, find_home, save_location
from embedrl.index.row import place_id
from embedrl.media.content import Content, FrameFiles, Frames, Image, Page, Text, Video, content_key
from embedrl.media.kinds import PACKAGES
from embedrl.media.resize import PAPER_BUDGET
from embedrl.media.store import Limits
from embedrl.models.names import shipped
from embedrl.nano.recipes import JudgeRecipe, ReasonerRecipe
from embedrl.pipelines.benchmark import BenchmarkRun
from embedrl.reasoner.prompts import SETS, prompt_hash
from embedrl.rl.config import PRESETS, Ablation, Recipe
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.testing import FakeEmbedder, FakeJudge, FakeReasoner
from tests.coloured_folder import make_folder
from tests.served import served
from tests.shapes import commands_of, fields_of, flat, keys_in, lines_of, operations_of
from tests.test_benchmarking import NAME, small_benchmark

GOLDEN = Path(__file__).parent / "golden" / "formats.json"
FAKES = ("--reasoner", "fake", "--embedder", "fake")
TCOT = TCoT(
    thinking='A "red" square.',
    evidence=Evidence(boxes=((1, 2, 300, 400), (0, 0, 1000, 1000)), key_frames=(2, 5), keywords=("größe", "a b")),
    rethink="It is red.",
    answer="a red square",
)
Facts = dict[str, Any]


def command_line(_: Path) -> Facts:
    root = get_command(app)
    move = root.commands["index"].make_context("index", ["move", "from", "to"]).command
    stats = root.commands["index"].make_context("index", ["stats", "from"]).command
    return commands_of(root) | commands_of(move, "embedrl index move") | commands_of(stats, "embedrl index stats")


def http(folder: Path) -> Facts:
    with served(make_folder(folder / "served")) as server:
        return operations_of(server.client.get("/openapi.json").json())


def pixels(mode: str, step: int) -> PIL.Image.Image:
    size = 6 * 4 * len(PIL.Image.new(mode, (1, 1)).getbands())
    return PIL.Image.frombytes(mode, (6, 4), bytes(index * step % 256 for index in range(size)))


def parts(folder: Path) -> dict[str, Content]:
    """One content of every kind of part and source; files hold fixed bytes, which nothing here decodes."""
    files = [folder / name for name in ("one.bin", "two.bin")]
    for file in files:
        file.write_bytes(f"the bytes of {file.name}".encode())
    frames = Frames((pixels("RGB", 3), pixels("RGB", 5)), (0.0, 0.5))
    picture, text = Image(pixels=pixels("RGB", 7)), Text(text="größe 尺寸")
    return {
        "text": (text,),
        "image in memory": (picture,),
        "grey image with alpha in memory": (Image(pixels=pixels("LA", 11)),),
        "image file": (Image(path=files[0]),),
        "video in memory": (Video(frames=frames),),
        "video file": (Video(path=files[0]),),
        "span of a video file": (Video(path=files[0], start_s=1.5, end_s=2),),
        "video of frame files": (Video(frame_files=FrameFiles(paths=tuple(files), times_s=(0.0, 1.0))),),
        "page in memory": (Page(pixels=pixels("RGB", 13)),),
        "page 2 of a file": (Page(path=files[1], number=2),),
        "text and image": (text, picture),
    }


def text_item(text: str, role: Role = Role.TARGET_TEXT) -> Item:
    return Item(content=(Text(text=text),), instruction="Find it.", role=role)


def fingerprints(folder: Path) -> Facts:
    item, reasoner, embedder = text_item("a red square"), FakeReasoner(), FakeEmbedder()
    with Cache(folder / "cache") as kept:
        tcots = CachedReasoner(reasoner, kept).reason([item])
        CachedEmbedder(embedder, kept.vectors).embed([item, item], [None, *tcots])
        cached = {"T-CoT": list(kept.tcots), "vectors": list(kept.vectors)}
    contents = parts(folder)
    library, index = folder / "texts", folder / "texts" / INDEX_NAME
    library.mkdir()
    (library / "note.md").write_text("a letter about an elephant", "utf-8")
    run("index", library, *FAKES)
    (row,) = table(index).to_arrow().select(["id", "key", "reasoner", "embedder"]).to_pylist()
    query = text_item("a red square", Role.QUERY_TEXT_TO_IMAGE)
    return {
        "content keys": {name: content_key(content) for name, content in contents.items()},
        "item keys": {name: Item(content=content, instruction="Find it.", role=Role.QUERY_IMAGE).key for name, content in contents.items()},
        "item key of each role": {role.value: text_item("a", role).key for role in Role},
        "pair key": Pair(task="t", query=query, target=item).key,
        "prompts": {name: prompt_hash(name) for name in SETS},
        "names": {"fakes": [reasoner.fingerprint, embedder.fingerprint, FakeJudge().fingerprint], **model_names()},
        "budget of the paper": PAPER_BUDGET.fingerprint,
        "limits": limits_hash(Limits(), PACKAGES),
        "place": [place_id(Path("a/b.pdf"), 2), place_id(Path("c.png"), None)],
        "record of an annotation": outcome_key(item, "fake-reasoner"),
        "cache of evaluate": cached,
        "index of a text": {**row, "T-CoT": [line["key"] for line in lines_of(index / "tcots.jsonl")]},
    }


@cache
def model_names() -> Facts:
    """Names of the shipped models; each is loaded once."""
    reasoners = {f"reasoner {name}": load_reasoner(name).fingerprint for name in shipped("reasoner")}
    return {
        **reasoners,
        "embedder nano": load_embedder("nano").fingerprint,
        "sampling nano": load_reasoner("nano", temperature=0.7).fingerprint,
    }


def table(index: Path) -> Any:
    store = lancedb.connect(str(index))
    (name,) = store.list_tables().tables
    return store.open_table(name)


def run(*words: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert int(ended.value.code or 0) == code, words


def index(folder: Path) -> Facts:
    library = make_folder(folder / "library")
    (library / "broken.png").write_bytes(b"no picture")
    with served(library, index=False, watch=True) as server:
        server.settle()
        server.search(text="red")
    home = library / INDEX_NAME
    held, other = table(home), folder / "other" / INDEX_NAME
    save_location(IndexLocation(directory=other, uri="s3://bucket/name", shelf="shelf"))
    assert find_home(other.parent).shelf == "shelf"
    jsonl = {path.name: keys_in(path) for path in sorted(home.glob("*.jsonl"))}
    return {
        "table": held.name,
        "columns": {field.name: str(field.type) for field in held.schema},
        "metadata": {name.decode(): value.decode() for name, value in (held.schema.metadata or {}).items()},
        "files": sorted(path.name for path in home.iterdir()),
        **jsonl,
        "keys of query-tcots.jsonl": [line["key"] for line in lines_of(home / "query-tcots.jsonl")],
        "pointer": {path.name: keys_in(path) for path in sorted(other.iterdir())},
    }


def formats(folder: Path) -> Facts:
    names = ("pairs.jsonl", "run", "benchmark", "annotated", "filtered", "world")
    pairs, run_folder, benchmark, annotated, filtered, world = (folder / name for name in names)
    run("world", "make", world, "--pairs", "15", "--seed", "3")
    lines = [{"query": {"text": f"a {name} square"}, "target": {"text": f"{name} square"}} for name in ("red", "blue", "grey")]
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    lines += [{"query": {"text": "a broken image"}, "target": {"image": "broken.png"}}, {"query": {}}]
    pairs.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    run("annotate", "lines", pairs, "--out", annotated, "--task", "squares", "--reasoner", "fake", code=1)
    shutil.copytree(annotated, filtered)
    run("filter", annotated, "--judge", "nano-judge")
    run("filter", filtered)
    run("evaluate", "world", *FAKES, "--num-queries", "2", "--pool-size", "8", "--out", folder / "evaluated")
    run("evaluate", "mmeb-v2", "--data", small_benchmark(folder / "data"), "--dataset", NAME, *FAKES, "--out", benchmark)
    write_run_config(run_folder, Recipe(out=run_folder), prompt_hashes={"nano": "0"})
    Metrics(run_folder / METRICS).write(3, {"rl/reward": 0.5})
    groups = ("systems", "systems.*.tasks", "differences", "pools", "seconds_per_system", "versions", "prompt_hashes")
    places = (world, annotated, filtered, folder / "evaluated", benchmark, run_folder)
    files = [path for place in places for path in sorted(place.rglob("*.json*")) if path.suffix != ".lock"]
    kept = ("pairs", "tcots", "failed", "reasoners", "verdicts")  # the key of a problem holds its path
    records = {name: [line["key"] for line in lines_of(annotated / f"{name}.jsonl")] for name in kept}
    models = {f"{kind} {name}": place / "embedrl.json" for kind in ("reasoner", "embedder") for name, place in shipped(kind).items()}
    assert parse(render(TCOT)) == TCOT
    return {
        "files and keys": {path.relative_to(folder).as_posix(): keys_in(path, (*groups, "metrics", "metrics.*")) for path in files},
        "files of a world": sorted({f"{path.relative_to(world).parent}/*{path.suffix}" for path in world.rglob("*.*")}),
        "keys of annotated records": records,
        "settings of model folders": {name: keys_in(path) for name, path in models.items()},
        "T-CoT": render(TCOT),
        "outcomes": [write_outcome(TCOT), write_outcome(ParseFailure(reason=FailureReason.TRUNCATED, text="<thinking>"))],
        "reasons of a failure": [reason.value for reason in FailureReason],
    }


def recipes(_: Path) -> Facts:
    models = {
        "train reasoner-sft": ReasonerRecipe,
        "train judge": JudgeRecipe,
        "train embedder": EmbedderRecipe,
        "train reasoner": Recipe,
        "bench ablation": Ablation,
        "settings of an evaluation": BenchmarkRun,
        "lines of pairs": Line,
        "lines of pairs as written": WholeLine,
    }
    return {name: fields_of(model) for name, model in models.items()} | {
        "reward presets": {name: preset.model_dump(mode="json") for name, preset in PRESETS.items()}
    }


SECTIONS: dict[str, Callable[[Path], Facts]] = {
    "command line": command_line,
    "HTTP": http,
    "fingerprints": fingerprints,
    "index": index,
    "formats": formats,
    "recipes": recipes,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_what_others_depend_on_is_as_it_was(section: str, tmp_path: Path):
    before = json.loads(GOLDEN.read_text("utf-8"))[section]
    today = json.loads(json.dumps(SECTIONS[section](tmp_path)))
    changes = list(difflib.unified_diff(flat(before), flat(today), "golden", "today", lineterm="", n=0))
    assert not changes, "\n".join([f"{section}: if this is meant, `python -m tests.test_formats --write`", *changes])


def write_golden() -> None:
    """Write down what holds today."""
    facts = {}
    for name, section in SECTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            facts[name] = section(Path(folder))
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write_golden()

"""The quickstart: the whole method on real media files, with the nano models, in minutes on a CPU."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from markupsafe import Markup

from embedrl import log
from embedrl.config import METRICS, read_metrics
from embedrl.data.protocols import Embeds, Reasons
from embedrl.data.sample import Item
from embedrl.evaluation.compare import compare, extremes
from embedrl.evaluation.evaluate import SystemResult
from embedrl.evaluation.report import Report, make_report, write_report
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.files import write_bytes
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.recommend import Examples, recommend
from embedrl.index.row import Modality
from embedrl.index.search import search
from embedrl.index.units import Unit, read_item
from embedrl.media.store import limits_in_force
from embedrl.pipelines.compare import case_card
from embedrl.pipelines.eg_rl import train_reasoner
from embedrl.pipelines.evaluate_world import SHIPPED, evaluate_systems, hit_rows
from embedrl.reports.cards import Search, Side, checked_side
from embedrl.reports.html import render_html, write_html
from embedrl.rl.config import Recipe
from embedrl.runtime.names import load_embedder, load_reasoner
from embedrl.world.tasks import TASKS
from embedrl.world.write import PAIRS, WrittenPair, make_world, read_world

NUM_HITS = 4
ABOUT = (
    "Held-out pairs of a small generated world: images, clips and document pages, each with hard negatives that differ in one "
    "detail. The Reasoner and the Embedder are nano models of a few million weights; everything ran on this machine."
)

NEXT = (
    ("search this library in a browser, before and after RL", "embedrl serve --index {library} --before nano-sft"),
    (
        "your own photos need models that see (`embedrl models` lists sizes)",
        "embedrl index ~/Pictures --reasoner Qwen/Qwen3-VL-2B-Instruct --embedder Qwen/Qwen3-VL-Embedding-2B",
    ),
)
"""What may come after a demo, and the command."""


class Direction(NamedTuple):
    """One search that the report shows: the world's task that asks it, and what it looks for."""

    title: str
    task: str
    modality: Modality


DIRECTIONS = (
    Direction("Text → image", "image_t2i", "image"),
    Direction("Text → video", "video_t2v", "video"),
    Direction("Video → text", "video_v2t", "text"),
    Direction("Image and text → image", "image_composed", "image"),
    Direction("Text → page", "visdoc_table", "page"),
)


def quickstart(
    out: Path,
    *,
    seed: int = 0,
    reasoners: Mapping[str, str] | None = None,
    embedder: str = "nano",
    live_steps: int = 0,
    tasks: Sequence[str] | None = None,
    num_queries: int = 8,
    pool_size: int = 64,
    num_library_pairs: int = 30,
) -> Report:
    """Make a library of media files, train with RL, evaluate on held-out tasks, index and search; write the report into `out`.

    `reasoners` maps the name of a system to the name of a Reasoner; the last one also reads the library. With
    `live_steps`, "before_rl" is trained for that many steps of EG-RL and takes part as "live_rl". `num_queries` and `pool_size` hold
    for each of the tasks (all by default). A library or a finished live run that is already there is used as it is.
    """
    started = time.perf_counter()
    embeds = load_embedder(embedder)
    names = dict(reasoners or SHIPPED)
    curve: list[dict[str, float]] = []
    if live_steps:
        run = live_recipe(out / "live-rl", names["before_rl"], embedder, live_steps, seed)
        names = {"before_rl": names["before_rl"], "live_rl": str(train_reasoner(run)), **names}
        curve = read_metrics(run.out / METRICS)
    reasons = {system: load_reasoner(name) for system, name in names.items()}
    library = _library(out / "library", num_library_pairs, seed)
    Index.open(out / "library", embedder=embeds)  # an index that holds another Embedder's vectors is refused before the long work
    log.info("drawing held-out tasks")
    drawn = world_tasks(seed=seed, tasks=tasks, num_queries=num_queries, pool_size=pool_size)
    systems = evaluate_systems(drawn, embeds, reasons)
    searches = search_library(out / "library", library, embeds, list(reasons.values())[-1])
    report = make_report(systems, seed=seed, seconds=time.perf_counter() - started)
    write_report(report, out / "report.json")
    trained = ("before_rl", "live_rl") if live_steps else None
    results = {system.name: system for system in systems}
    page = render_html(
        report,
        searches,
        about=ABOUT,
        curve=curve,
        num_tasks=len(TASKS),
        trained=trained,
        cases=_cases(drawn, results, *trained) if trained else (),
        following=[(purpose, command.format(library="library")) for purpose, command in NEXT],
    )
    write_html(page, out / "report.html")
    log.table("hit@1 and its 95 % interval, in %", *hit_rows(report))
    log.info(f"{out / 'report.html'} shows what was found, and why; next:")
    for purpose, command in NEXT:
        log.info(f"  {command.format(library=quote(str(out / 'library')))}   # {purpose}")
    return report


def _cases(tasks: Sequence[RetrievalTask], systems: Mapping[str, SystemResult], before: str, after: str) -> list[Markup]:
    """Render the largest gain and the largest loss of a training, each with the rank that its target has without T-CoTs."""
    plain = {(case.task, case.query.item.key): case.rank[0] for case in compare(tasks, systems["plain"], systems[after])}
    gains, losses = extremes(compare(tasks, systems[before], systems[after]), 1)
    return [case_card(case, plain[case.task, case.query.item.key]) for case in (*gains, *losses)]


def live_recipe(out: Path, start_from: str, embedder: str, steps: int, seed: int) -> Recipe:
    """Return a short EG-RL run: recipes/nano/reasoner.toml in a hurry: half of its batches, twice its learning rate, more KL.

    One family of each task: every turn of all tasks is about the same pairs, so the reward of the last can be held against the first.
    """
    trainer = {
        "max_steps": steps,
        "per_device_train_batch_size": 64,
        "num_generations": 8,
        "max_completion_length": 128,
        "temperature": 0.9,
        "learning_rate": 6e-4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 3,
        "beta": 0.15,
        "loss_type": "dapo",
        "scale_rewards": "batch",
        "bf16": False,
        "gradient_checkpointing": False,
        "save_steps": 10,
    }
    return Recipe(
        out=out,
        seed=seed,
        start_from=start_from,
        embedder=embedder,
        num_families=1,
        family_size=4,
        control_every=0,
        trainable=("language_model",),
        trainer=trainer,
    )


def search_library(folder: Path, pairs: Sequence[WrittenPair], embedder: Embeds, reasoner: Reasons) -> list[Search]:
    """Index a library and search it once in each direction, then for what is most like the first image found."""
    index = Index.open(folder, embedder=embedder)
    for kind in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        _ingest(kind, index, embedder, reasoner)
    searches: list[Search] = []
    first: Hit | None = None
    for direction in DIRECTIONS:
        pair = next((row.pair for row in pairs if row.pair.task == direction.task), None)
        if pair is None:
            continue
        only = Filter(modality=(direction.modality,))
        query = Query(content=pair.query.content, instruction=pair.query.instruction, filter=only, limit=NUM_HITS)
        result = search(index, query, embedder, reasoner)
        hits = tuple(_shown(index, hit, _place(folder, pair.target), reasoner.num_frames) for hit in result.hits)
        searches.append(Search(direction.title, checked_side(pair.query, result.query_tcot, reasoner.num_frames), hits))
        first = first or next((hit for hit in result.hits if hit.modality == "image"), None)
    if first is not None:
        alike = recommend(index, Examples(liked={first.key: 1.0}, filter=Filter(modality=("image",)), limit=NUM_HITS)).items
        query_side = replace(_shown(index, first, None, reasoner.num_frames), score=None)
        searches.append(Search("Image → image", query_side, tuple(_shown(index, match.hit, None, reasoner.num_frames) for match in alike)))
    return searches


def _ingest(folder: Path, index: Index, embedder: Embeds, reasoner: Reasons) -> None:
    with log.progress(None, f"index {folder.name}") as bar:
        report = ingest(folder, index, reasoner, embedder, on_progress=bar.reach)
    for failure in report.failures:
        log.warn(f"{failure.path}: {failure.reason}")


def _library(folder: Path, num_pairs: int, seed: int) -> list[WrittenPair]:
    """Write the world's files, and its texts as files too, so that they can be found; return the pairs."""
    if not (folder / PAIRS).exists():
        make_world(folder, num_pairs, seed)
    else:
        log.info(f"using the library in {folder}")
    pairs = read_world(folder)
    for row in pairs:
        for target in (row.pair.target, *row.pair.negatives):
            if target.visual is None:
                write_bytes(_text_file(folder, target), target.text.encode())
    return pairs


def _text_file(folder: Path, item: Item) -> Path:
    return folder / "texts" / f"{item.key[:16]}.txt"


def _place(folder: Path, item: Item) -> Path | None:
    """Return the file in which an item lies in the library."""
    path = item.visual.path if item.visual else _text_file(folder, item)
    return path.resolve() if path else None


def _shown(index: Index, hit: Hit, right: Path | None, num_frames: int) -> Side:
    path = index.locate(hit.path)
    name = f"{hit.path}, page {hit.page}" if hit.page else str(hit.path)
    is_right = right in {index.locate(place).resolve() for place in (hit.path, *hit.other_paths)}
    item = read_item(path, hit.modality, Unit(page=hit.page), limits_in_force())
    return Side(item, hit.tcot, hit.verification, name=name, score=hit.score, is_right=is_right, num_frames=num_frames)

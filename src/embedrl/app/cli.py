"""The command line. Heavy imports wait inside the commands, so that --help is quick and imports no torch."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import embedrl
from embedrl import log
from embedrl.app.arguments import modalities, need_file, need_folder, query_content
from embedrl.errors import EmbedRLError

_PLAIN: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False, "add_completion": False}
app = typer.Typer(**_PLAIN)
world_app = typer.Typer(
    **_PLAIN, help="The generated world, a small problem with known answers.\n\n\b\nExample: embedrl world make library --pairs 120"
)
train_app = typer.Typer(
    **_PLAIN, help="Train a model from a recipe.\n\n\b\nExample: embedrl train embedder recipes/nano/embedder.toml seed=1"
)
bench_app = typer.Typer(**_PLAIN, help="Measure the rewards.\n\n\b\nExample: embedrl bench reward-fidelity")
app.add_typer(world_app, name="world")
app.add_typer(train_app, name="train")
app.add_typer(bench_app, name="bench")

ReasonerName = Annotated[
    str, typer.Option("--reasoner", help="Who writes T-CoTs: nano-sft, a model folder, or a server's URL (http://host:8000/v1#model).")
]
EmbedderName = Annotated[str, typer.Option("--embedder", help="Who embeds: nano, or a model folder.")]
Think = Annotated[bool, typer.Option("--think/--no-think", help="Write T-CoTs before embedding, or embed items as they are.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Top = Annotated[int, typer.Option(min=1, help="How many hits to show.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
IndexFolder = Annotated[Path, typer.Option("--index", help="The folder that was indexed.")]
MinScore = Annotated[float | None, typer.Option(min=-1, max=1, help="Leave out hits below this cosine.")]
Modalities = Annotated[list[str] | None, typer.Option("--modality", help="Find only image, video, page or text; may be repeated.")]
Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="Only this dataset of the benchmark; may be repeated.")]
Recipe = Annotated[Path, typer.Argument(help="A recipe (TOML).")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace the recipe's: trainer.learning_rate=1e-4")
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 some items failed, 2 wrong usage."""
    try:
        app(None if arguments is None else list(arguments), prog_name="embedrl")
    except EmbedRLError as error:
        log.error(str(error))
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        log.result(embedrl.__version__)
        raise typer.Exit


@app.callback()
def _embedrl(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Multimodal retrieval that reasons before it embeds, and shows its evidence.

    \b
    Example: embedrl quickstart
    """


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("demo"),
    seed: Seed = 0,
    live_steps: Annotated[int, typer.Option(min=0, help="Also train the Reasoner with EG-RL for so many steps, and compare.")] = 0,
) -> None:
    """Show the whole method on generated media with the nano models, on a CPU.

    \b
    Example: embedrl quickstart --out demo --live-steps 24
    """
    from embedrl.app import quickstart as demo

    demo.quickstart(out, seed=seed, live_steps=live_steps)


@world_app.command("make")
def world_make(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    pairs: Annotated[int, typer.Option(min=1, help="How many (query, target) pairs, spread over all tasks.")] = 120,
    seed: Seed = 0,
    split: Annotated[Literal["train", "rl", "test"], typer.Option(help="Splits share no combination of attributes.")] = "test",
) -> None:
    """Write pictures, clips and pages with their pairs and their true T-CoTs.

    \b
    Example: embedrl world make library --pairs 120 --seed 7
    """
    from embedrl.world.write import make_world

    num_files = make_world(folder, pairs, seed, split)
    log.result(f"{folder}: {pairs} pairs in {num_files} media files")


@train_app.command("reasoner-sft")
def train_reasoner_sft(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train the Reasoner to write T-CoTs as an annotator did; a killed run goes on where it stopped.

    \b
    Example: embedrl train reasoner-sft recipes/nano/reasoner-sft.toml num_batches=100
    """
    need_file(recipe, "recipe")
    from embedrl.config import load_recipe
    from embedrl.nano.recipes import ReasonerRecipe

    wanted = load_recipe(recipe, overrides or [], ReasonerRecipe)
    from embedrl.nano.build import build_reasoner

    log.result(str(build_reasoner(wanted)))


@train_app.command("embedder")
def train_embedder(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train the Embedder contrastively on items and their T-CoTs; a killed run goes on where it stopped.

    \b
    Example: embedrl train embedder recipes/nano/embedder.toml trainer.learning_rate=3e-4
    """
    need_file(recipe, "recipe")
    from embedrl.config import load_recipe
    from embedrl.nano.recipes import EmbedderRecipe

    wanted = load_recipe(recipe, overrides or [], EmbedderRecipe)
    from embedrl.nano.build import build_embedder

    log.result(str(build_embedder(wanted)))


@train_app.command("reasoner")
def train_reasoner(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train the Reasoner with EG-RL, rewarded by the frozen Embedder; a killed run goes on where it stopped.

    \b
    Example: embedrl train reasoner recipes/nano/reasoner.toml rewards=paper out=runs/paper
    """
    need_file(recipe, "recipe")
    from embedrl.config import load_recipe
    from embedrl.rl.config import Recipe

    wanted = load_recipe(recipe, overrides or [], Recipe)
    from embedrl.app import train_reasoner as rl

    log.result(str(rl.train_reasoner(wanted)))


@bench_app.command("reward-fidelity")
def bench_reward_fidelity(
    recipe: Recipe = Path("recipes/nano/reasoner.toml"),
    num_families: Annotated[int, typer.Option(min=1, help="Families of pairs, for each task.")] = 4,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
) -> None:
    """Show how well each reward tracks the truth: its correlation, inside groups of rollouts, with the quality of T-CoTs.

    \b
    Example: embedrl bench reward-fidelity --num-families 8
    """
    need_file(recipe, "recipe")
    from embedrl.config import load_recipe
    from embedrl.rl.config import Recipe

    wanted = load_recipe(recipe, [], Recipe)
    from embedrl.app.fidelity import reward_fidelity

    found = reward_fidelity(wanted, num_families=num_families, seed=seed)
    rows = [[row.name, f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})", row.num_groups] for row in found]
    log.table("Correlation with the true quality, inside groups", ["reward", "r and its 95 % interval", "groups"], rows)
    if out is not None:
        from embedrl.evaluate.report import write_report

        write_report({"seed": seed, "rewards": [row._asdict() for row in found]}, out)


@app.command("evaluate")
def evaluate_on_benchmark(
    benchmark: Annotated[str, typer.Argument(metavar="BENCH", help="world (generated as it is needed), MMEB-V2 or UVRB.")],
    data: Annotated[Path | None, typer.Option(help="The folder of the benchmark's files; the world needs none.")] = None,
    reasoner: ReasonerName = "nano-sft",
    embedder: EmbedderName = "nano",
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/evaluate-BENCH unless given.")] = None,
    dataset: Datasets = None,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of a video, of a benchmark's files.")] = 8,
    mmeb_compat: Annotated[bool, typer.Option(help="Grade pages as MMEB-V2's evaluator does, bug for bug.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Where T-CoTs and vectors are kept, if not in the run folder.")] = None,
    num_queries: Annotated[int, typer.Option(min=1, help="Queries per task of the world.")] = 32,
    pool_size: Annotated[int, typer.Option(min=2, help="Candidates per task of the world, at least.")] = 256,
    seed: Seed = 0,
    think: Think = True,
) -> None:
    """Measure retrieval on the world, or on the official files of a benchmark; there, a killed run goes on where it stopped.

    \b
    Example: embedrl evaluate world --num-queries 32 --out runs/world
    Example: embedrl evaluate MMEB-V2 --data mmeb --reasoner qwen3-vl-8b --embedder embed-rl-2b --out runs/mmeb
    """
    out, thinker = out or Path(f"runs/evaluate-{benchmark.lower()}"), reasoner if think else None
    if benchmark.lower() == "world":
        from embedrl.app.evaluating import measure_world

        measure_world(thinker, embedder, out, num_queries=num_queries, pool_size=pool_size, seed=seed)
        return
    from embedrl.app.benchmarking import BenchmarkRun, measure

    run = BenchmarkRun(benchmark=benchmark, datasets=dataset or (), num_frames=num_frames, seed=seed, mmeb_compat=mmeb_compat)
    measure(run, data, thinker, embedder, out, cache)


@app.command("compare")
def compare_reasoners(
    after: Annotated[str, typer.Option(help="The Reasoner after training: a name or a model folder.")],
    before: Annotated[str, typer.Option(help="The Reasoner before.")] = "nano-sft",
    embedder: EmbedderName = "nano",
    out: Annotated[Path, typer.Option(help="Where compare.json and compare.html go.")] = Path("runs/compare"),
    num_queries: Annotated[int, typer.Option(min=1, help="Queries per task.")] = 20,
    pool_size: Annotated[int, typer.Option(min=2, help="Candidates per task, at least.")] = 256,
    seed: Seed = 0,
) -> None:
    """Show case by case what training changed: T-CoTs, similarity and rank, with the largest gains and the largest losses.

    \b
    Example: embedrl compare --after demo/live-rl/model
    """
    from embedrl.app import compare

    found = compare.compare_reasoners(before, after, embedder, out, num_queries=num_queries, pool_size=pool_size, seed=seed)
    for title, cases in (("Largest gains", found.gains), ("Largest losses", found.losses)):
        log.table(title, compare.COLUMNS, compare.case_rows(cases))
    log.info(f"{out / 'compare.html'} shows them with their pictures")


@app.command("report")
def report_scores(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_DIR...", help="Leaderboard files, or folders of score files; one for each system.")
    ],
    benchmark: Annotated[str | None, typer.Option(help="MMEB-V2 or UVRB, if the datasets do not say.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write tables.json and tables.html here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put scores on the field's benchmarks beside the published ones; a mean that lacks a dataset is not shown.

    \b
    Example: embedrl report runs/mmeb --out runs/mmeb/report
    """
    from embedrl.app.tables import console_rows, report_tables, tables_json, write_tables

    tables = report_tables(paths, benchmark)
    if out is not None:
        write_tables(tables, out)
    if as_json:
        log.print_json(tables_json(tables))
        return
    for table in tables:
        columns, rows, footnotes = console_rows(table)
        log.table(table.title, columns, rows)
        for note in footnotes:
            log.info(note)


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their metrics files.")],
    out: Annotated[Path, typer.Option(help="The picture to write, .png or .svg.")] = Path("curves.png"),
    figure: Annotated[list[str] | None, typer.Option(help="A figure to draw, such as rl/reward; may be repeated.")] = None,
) -> None:
    """Draw the training curves of one or several runs.

    \b
    Example: embedrl plot runs/nano/reasoner --figure rl/reward --figure rl/kl --out curves.png
    """
    from embedrl.app.plots import plot_curves

    num_panels = plot_curves(runs, out, figures=figure or ())
    log.result(f"{out}: {num_panels} figures")


@app.command("index")
def index_folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images, videos, PDFs and text files.")],
    reasoner: ReasonerName = "nano-sft",
    embedder: EmbedderName = "nano",
    think: Think = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Items that are reasoned about and embedded at once.")] = 32,
    as_json: AsJson = False,
) -> None:
    """Make a folder searchable, or take in what changed since. Files that cannot be read are listed; the exit code is then 1.

    \b
    Example: embedrl index library --no-think
    """
    need_folder(folder)
    from embedrl.app.listing import failure_line
    from embedrl.app.models import load_embedder, load_reasoner
    from embedrl.index.index import Index
    from embedrl.index.ingest import ingest

    embeds, reasons = load_embedder(embedder), load_reasoner(reasoner) if think else None
    opened = Index.open(folder, embedder=embeds)
    with log.progress(None, "index") as bar:
        found = ingest(folder, opened, reasons, embeds, think=think, batch_size=batch_size, on_progress=bar.reach)
    if as_json:
        log.print_json(found.model_dump(mode="json"))
    else:
        log.result(
            f"{folder}: {found.added} new, {found.reused} known from elsewhere, {found.unchanged} unchanged, {found.removed} removed, "
            f"{len(found.failures)} failed; {found.without_tcot} of the new have no T-CoT; {found.seconds['total']:.1f} s"
        )
    for failure in found.failures:
        log.warn(failure_line(failure))
    if found.failures:
        raise typer.Exit(1)


@app.command("search")
def search_index(
    text: Annotated[str | None, typer.Argument(help="What to look for; alone, or about the picture or video.")] = None,
    image: Annotated[Path | None, typer.Option(help="A picture to look for.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video to look for.")] = None,
    index: IndexFolder = Path(),
    reasoner: ReasonerName = "nano-sft",
    embedder: EmbedderName = "nano",
    think: Think = True,
    top: Top = 10,
    min_score: MinScore = None,
    modality: Modalities = None,
    as_json: AsJson = False,
) -> None:
    """Search an indexed folder with words, a picture or a video, and show why something was found.

    \b
    Example: embedrl search "a small red star" --index library --top 5 --modality image
    """
    content = query_content(text, image, video)
    from embedrl.app.listing import show
    from embedrl.app.models import load_embedder, load_reasoner
    from embedrl.index.index import Index
    from embedrl.index.search import search

    Index.open(index)  # a missing index is said before a model is loaded
    embeds, reasons = load_embedder(embedder), load_reasoner(reasoner) if think else None
    opened = Index.open(index, embedder=embeds)
    found = search(opened, embeds, reasons, content=content, think=think, top=top, min_score=min_score, modality=modalities(modality))
    show(found, as_json=as_json)


@app.command("similar")
def similar_items(
    key: Annotated[str, typer.Argument(help="The key of an indexed item, or its first 6 or more digits; search shows keys.")],
    index: IndexFolder = Path(),
    think: Annotated[bool, typer.Option("--think/--no-think", help="Compare items with their T-CoTs, or as they are.")] = True,
    top: Top = 10,
    min_score: MinScore = None,
    modality: Modalities = None,
    as_json: AsJson = False,
) -> None:
    """Recommend what is most like an item of the index. Needs no model.

    \b
    Example: embedrl similar 3fa94c --index library
    """
    from embedrl.app.listing import show
    from embedrl.index.index import Index
    from embedrl.index.search import similar

    found = similar(Index.open(index), key, think=think, top=top, min_score=min_score, modality=modalities(modality))
    show(found, as_json=as_json)


@app.command()
def doctor(
    benchmark: Annotated[str | None, typer.Argument(metavar="[BENCH", help="MMEB-V2 or UVRB: look at its files instead.")] = None,
    data: Annotated[Path | None, typer.Argument(metavar="DIR]", help="The folder of the benchmark's files.")] = None,
    dataset: Datasets = None,
) -> None:
    """Check this installation, or a benchmark's files: what is missing, wrong counts, what does not open. Exits with 1 if so.

    \b
    Example: embedrl doctor
    Example: embedrl doctor MMEB-V2 mmeb --dataset MSVD
    """
    from embedrl.app.doctor import tell

    if not tell(benchmark, data, dataset or ()):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()

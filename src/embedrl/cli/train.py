"""Commands `train`, `bench`, `plot` and `compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedrl import log
from embedrl.cli.arguments import need_extra
from embedrl.cli.help import MEASURING, TRAINING
from embedrl.cli.option_groups import ServerSettings
from embedrl.cli.options import (
    DryRun,
    EmbedderName,
    NumQueries,
    Overrides,
    PoolSize,
    Processes,
    Recipe,
    Seed,
    Tasks,
    Tflops,
    WorldName,
    commands,
)
from embedrl.cli.placement import places_models
from embedrl.cli.stopping import says_what_is_kept
from embedrl.parameters import expand_groups

if TYPE_CHECKING:
    from embedrl.pipelines.plan import Plan

app = commands()
train_app = commands(help="Train a model from a recipe.\n\n\b\nExample: embedrl train embedder recipes/nano/embedder.toml seed=1")
bench_app = commands(help="Experiments on rewards, Reasoners and data.\n\n\b\nExample: embedrl bench reward-fidelity")
app.add_typer(train_app, name="train", rich_help_panel=TRAINING)
app.add_typer(bench_app, name="bench", rich_help_panel=MEASURING)


@train_app.command("reasoner-sft", short_help="Train a Reasoner on written T-CoTs (SFT).")
@says_what_is_kept("the last checkpoint is kept; the same command goes on from it")
def train_reasoner_sft(recipe: Recipe, overrides: Overrides = None) -> None:
    """Supervised fine-tuning of the Reasoner on an annotator's T-CoTs; a killed run resumes.

    \b
    Example: embedrl train reasoner-sft recipes/nano/reasoner-sft.toml num_batches=100
    """
    from embedrl.config import load_recipe
    from embedrl.nano.recipes import ReasonerRecipe

    wanted = load_recipe(recipe, overrides or [], ReasonerRecipe)
    from embedrl.nano.build import build_reasoner

    log.result(str(build_reasoner(wanted)))


@train_app.command("judge", short_help="Train the nano judge.")
def train_judge(recipe: Recipe, overrides: Overrides = None) -> None:
    """Train the nano judge to pick the T-CoT that matches the anchor's.

    \b
    Example: embedrl train judge recipes/nano/judge.toml num_batches=100
    """
    from embedrl.config import load_recipe
    from embedrl.nano.recipes import JudgeRecipe

    wanted = load_recipe(recipe, overrides or [], JudgeRecipe)
    from embedrl.nano.build import build_judge

    log.result(str(build_judge(wanted)))


@train_app.command("embedder", short_help="Train an Embedder contrastively.")
@says_what_is_kept("the last checkpoint is kept; the same command goes on from it")
def train_embedder(
    recipe: Recipe, overrides: Overrides = None, dry_run: DryRun = False, processes: Processes = 1, tflops: Tflops = 400.0
) -> None:
    """Contrastive training of the Embedder on items and their T-CoTs; a killed run resumes.

    \b
    Example: embedrl train embedder recipes/nano/embedder.toml trainer.learning_rate=3e-4
    """
    from embedrl.config import load_recipe
    from embedrl.embedder.recipe import EmbedderRecipe

    wanted = load_recipe(recipe, overrides or [], EmbedderRecipe)
    if dry_run:
        from embedrl.pipelines.plan import plan_embedder

        _show_plan(plan_embedder(wanted, num_processes=processes, tflops=tflops))
        return
    need_extra("train")
    from embedrl.pipelines.train_embedder import train_embedder as train

    log.result(str(train(wanted)))


@train_app.command("reasoner", short_help="Train a Reasoner with EG-RL.")
@says_what_is_kept("the last checkpoint is kept; the same command goes on from it")
def train_reasoner(
    recipe: Recipe, overrides: Overrides = None, dry_run: DryRun = False, processes: Processes = 1, tflops: Tflops = 400.0
) -> None:
    """Train the Reasoner with EG-RL (GRPO, rewarded by the frozen Embedder); a killed run resumes.

    `method=rejection` is rejection sampling: supervised training on the best rollout of each group.

    \b
    Example: embedrl train reasoner recipes/nano/reasoner.toml rewards=paper out=runs/paper
    Example: embedrl train reasoner recipes/nano/reasoner.toml method=rejection rejection.learning_rate=3e-4 out=runs/rejection
    """
    from embedrl.config import load_recipe
    from embedrl.rl.config import Recipe

    wanted = load_recipe(recipe, overrides or [], Recipe)
    if dry_run:
        from embedrl.pipelines.plan import plan_reasoner

        _show_plan(plan_reasoner(wanted, num_processes=processes, tflops=tflops))
        return
    if wanted.method == "rejection":
        from embedrl.pipelines.rejection import train_by_rejection

        log.result(str(train_by_rejection(wanted)))
        return
    need_extra("train")
    from embedrl.pipelines import eg_rl as rl

    log.result(str(rl.train_reasoner(wanted)))


def _write_report(report: dict[str, Any], out: Path | None) -> None:
    """Write a report as JSON, where a file is named."""
    from embedrl.evaluation.report import write_report

    if out is not None:
        write_report(report, out)


def _show_plan(plan: "Plan") -> None:
    log.table("Plan", ["what", "how much"], plan.rows)
    for assumption in plan.assumptions:
        log.info(f"assumed: {assumption}")


@bench_app.command("reward-fidelity", short_help="Correlation of rewards with true quality.")
def bench_reward_fidelity(
    recipe: Recipe = Path("recipes/nano/reasoner.toml"),
    overrides: Overrides = None,
    num_families: Annotated[int, typer.Option(min=1, help="Families of pairs per task.")] = 4,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
) -> None:
    """Correlation of each reward with the true quality of T-CoTs, within groups of rollouts.

    \b
    Example: embedrl bench reward-fidelity --num-families 8
    """
    from embedrl.config import load_recipe
    from embedrl.rl.config import Recipe

    wanted = load_recipe(recipe, overrides or [], Recipe)
    from embedrl.pipelines.reward_fidelity import reward_fidelity

    correlations = reward_fidelity(wanted, num_families=num_families, seed=seed)
    rows = [
        [row.name, f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})", f"{row.best:+.3f}", row.num_groups, row.num_families]
        for row in correlations
    ]
    columns = ["reward", "r and its 95 % interval", "best of its group", "groups", "families"]
    log.table("Correlation with the true quality, inside groups", columns, rows)
    rewards = [{name: None if value != value else value for name, value in row._asdict().items()} for row in correlations]
    _write_report({"seed": seed, "rewards": rewards}, out)


@bench_app.command("ablation", short_help="Ablation of the training's settings.")
@says_what_is_kept("rows that are done are kept; the same command goes on with the others")
def bench_ablation(
    recipe: Recipe = Path("recipes/nano/ablation.toml"),
    only: Annotated[list[str] | None, typer.Option(help="Only this row; repeatable.")] = None,
) -> None:
    """Train the Reasoner once per row of an ablation and compare on held-out queries; finished rows are reused.

    \b
    Example: embedrl bench ablation --only "format only"
    """
    from embedrl.config import load_recipe
    from embedrl.rl.config import Ablation

    wanted = load_recipe(recipe, [], Ablation)
    from embedrl.pipelines.ablation import COLUMNS, ablate, table_rows

    log.table("Ablation: hit@1 after training, and the paired difference", COLUMNS, table_rows(ablate(wanted, only=tuple(only or ()))))


@bench_app.command("controls", short_help="Control experiments for a Reasoner's gain.")
@places_models
@expand_groups
def bench_controls(
    *,
    reasoner: Annotated[list[str], typer.Option(help="Reasoner; repeatable, to compare several.")],
    embedder: EmbedderName = "nano",
    judge: Annotated[str, typer.Option(help="Judge that reads T-CoTs only, by name.")] = "nano-judge",
    servers: ServerSettings,
    num_queries: NumQueries = 20,
    pool_size: PoolSize = 256,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
) -> None:
    """Control experiments: hit@1 with T-CoTs of other items, without media, and of a judge that reads T-CoTs only.

    \b
    Example: embedrl bench controls --reasoner nano-sft --reasoner runs/rl/model
    """
    *reasoner, judge = servers.added_to([*reasoner, judge])
    from embedrl.evaluation.report import figure_fields
    from embedrl.pipelines.controls import COLUMNS, measure_controls, table_rows

    controls = measure_controls(reasoner, embedder, judge, num_queries=num_queries, pool_size=pool_size, seed=seed)
    log.table("Controls, with 95 % intervals", COLUMNS, table_rows(controls))
    _write_report({"seed": seed, "judge": judge, "reasoners": [figure_fields(row) for row in controls]}, out)


@bench_app.command("perturbed", short_help="Robustness to perturbed media.")
@places_models
def bench_perturbed(
    reasoner: Annotated[list[str] | None, typer.Option(help="Reasoner; repeatable, to compare several.")] = None,
    embedder: EmbedderName = "nano",
    world: WorldName = "roomy",
    task: Tasks = None,
    media: Annotated[list[str] | None, typer.Option(help="Only this perturbation, by name; repeatable.")] = None,
    num_queries: NumQueries = 20,
    pool_size: PoolSize = 256,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
) -> None:
    """Robustness to perturbed media: JPEG, noise, resizing, re-encoded videos, shifts, a rotation, a border.

    \b
    Example: embedrl bench perturbed --num-queries 8
    Example: embedrl bench perturbed --reasoner nano --media "shifted by 4 pixels" --media "a border of 10%"
    """
    from embedrl.evaluation.report import figure_fields
    from embedrl.pipelines.perturbed import COLUMNS, measure_robustness, table_rows

    sizes = {"num_queries": num_queries, "pool_size": pool_size, "seed": seed}
    rows = measure_robustness(reasoner or ["nano-sft", "nano"], embedder, world=world, tasks=task or (), media=media or (), **sizes)
    log.table(f"Perturbed media of the {world} world, seed {seed}, with 95 % intervals", COLUMNS, table_rows(rows))
    _write_report({"seed": seed, "world": world, "media": [figure_fields(row) for row in rows]}, out)


@bench_app.command("room", short_help="Headroom of retrieval before RL.")
@places_models
def bench_room(
    embedder: EmbedderName = "nano",
    world: WorldName = "crowded",
    task: Tasks = None,
    num_queries: NumQueries = 20,
    pool_size: PoolSize = 256,
    split: Annotated[str, typer.Option(help="train, rl or test.")] = "test",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the report as JSON.")] = None,
) -> None:
    """Headroom before RL: retrieval with no T-CoTs, the annotator's, the best of eight, and ground truth.

    \b
    Example: embedrl bench room --embedder runs/nano/crowded-embedder/model --task image_layout
    """
    from embedrl.pipelines.room import measure_room, room_rows

    report = measure_room(embedder, world=world, tasks=task or (), num_queries=num_queries, pool_size=pool_size, split=split, seed=seed)
    size = report["groups"]["overall"]
    log.table(f"{size['num_queries']} queries of {size['num_families']} families, seed {seed}", *room_rows(report))
    _write_report(report, out)


@bench_app.command("selection", short_help="Which facts each reward teaches to select.")
def bench_selection(
    recipe: Recipe = Path("recipes/nano/crowded-reasoner.toml"),
    overrides: Overrides = None,
    reward: Annotated[list[str] | None, typer.Option(help="Reward by name (outcome, fullness, …); repeatable.")] = None,
    num_steps: Annotated[int, typer.Option(min=1, help="Policy-gradient steps per reward.")] = 45,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
) -> None:
    """Train a policy that selects among true facts with each reward, and show which facts it learns to name.

    \b
    Example: embedrl bench selection --reward outcome --reward fullness --reward shuffled_partners
    """
    from embedrl.config import load_recipe
    from embedrl.rl.config import Recipe

    wanted = load_recipe(recipe, overrides or [], Recipe)
    from embedrl.pipelines.selection import COLUMNS, learn_selection, table_rows

    learned = learn_selection(wanted, reward or ["outcome"], num_steps=num_steps, seed=seed)
    log.table(f"Facts named, and relevant ones among them; seed {seed}", COLUMNS, table_rows(learned))
    _write_report({"seed": seed, "num_steps": num_steps, "rewards": [row._asdict() for row in learned]}, out)


@bench_app.command("splits", short_help="Overlap of test and training data by meaning.")
def bench_splits(
    world: WorldName = "crowded",
    task: Tasks = None,
    num_queries: Annotated[int, typer.Option(min=1, help="Test queries per task.")] = 20,
    pool_size: PoolSize = 256,
    num_supervised: Annotated[int, typer.Option(min=1, help="Number of supervised batches of 16.")] = 2000,
    num_contrastive: Annotated[int, typer.Option(min=1, help="Number of contrastive batches of 64 pairs.")] = 400,
    num_families: Annotated[int, typer.Option(min=1, help="Number of RL families of 4 pairs, per task.")] = 48,
    seed: Seed = 0,
) -> None:
    """Overlap by meaning between the test split and the training data of the world's models.

    \b
    Example: embedrl bench splits --seed 101
    Example: embedrl bench splits --task visdoc_values --num-supervised 200 --num-contrastive 20 --num-families 4
    """
    from embedrl.pipelines.splits import COLUMNS, count_shared

    sizes = {"num_supervised": num_supervised, "num_contrastive": num_contrastive, "num_families": num_families}
    shared, num = count_shared(world=world, tasks=tuple(task or ()), num_queries=num_queries, pool_size=pool_size, seed=seed, **sizes)
    log.table(f"Of {num} test queries of the {world} world, seed {seed}", COLUMNS, [list(map(str, row)) for row in shared])


@app.command("compare", short_help="Compare two Reasoners query by query.", rich_help_panel=MEASURING)
@places_models
@expand_groups
def compare_reasoners(
    *,
    after: Annotated[str, typer.Option(help="The Reasoner after training: a name or a model folder.")] = "nano",
    before: Annotated[str, typer.Option(help="The Reasoner before.")] = "nano-sft",
    embedder: EmbedderName = "nano",
    out: Annotated[Path, typer.Option(help="Output folder of compare.json and compare.html.")] = Path("runs/compare"),
    servers: ServerSettings,
    num_queries: NumQueries = 20,
    pool_size: PoolSize = 256,
    world: WorldName = "roomy",
    seed: Seed = 0,
) -> None:
    """Compare two Reasoners query by query: T-CoTs, similarity and rank, with the largest gains and losses.

    \b
    Example: embedrl compare --after demo/live-rl/model
    Example: embedrl compare --world crowded --before runs/nano/crowded-reasoner-sft/model --after runs/nano/crowded-reasoner/model
    """
    before, after = servers.added_to([before, after])
    from embedrl.runtime.names import check_names

    for name in (before, after):
        check_names(name, embedder)
    from embedrl.pipelines import compare

    comparison = compare.compare_reasoners(
        before, after, embedder, out, num_queries=num_queries, pool_size=pool_size, seed=seed, world=world
    )
    for title, cases in (("Largest gains", comparison.gains), ("Largest losses", comparison.losses)):
        log.table(title, compare.COLUMNS, compare.case_rows(cases))
    log.info(f"{out / 'compare.html'} shows them with their images")


@app.command(short_help="Draw the training curves of runs.", rich_help_panel=TRAINING)
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their metrics files.")],
    out: Annotated[Path, typer.Option(help="Output image, .png or .svg.")] = Path("curves.png"),
    figure: Annotated[list[str] | None, typer.Option(help="Metric to plot, such as rl/reward; repeatable.")] = None,
) -> None:
    """Draw the training curves of one or several runs.

    \b
    Example: embedrl plot runs/nano/reasoner --figure rl/reward --figure rl/kl --out curves.png
    """
    from embedrl.reports.plots import plot_curves

    num_panels = plot_curves(runs, out, figures=figure or ())
    log.result(f"{out}: {num_panels} figures")

"""Distillation: vectors come to those of a frozen teacher that reads each item's T-CoT."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from embedrl.config import load_recipe, read_metrics
from embedrl.data.tcot import TCoT
from embedrl.embedder.distill import Labels, Teacher, mean_cosine
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import FILLER, Config, EmbedderModule, info_nce, item_ids
from embedrl.errors import ConfigError
from embedrl.models.names import shipped
from embedrl.nano.data import WorldRows
from embedrl.pipelines.plan import plan_embedder
from embedrl.pipelines.train_embedder import embedder_rows, train_embedder
from tests.conftest import make_random_embedder
from tests.families import write_instruct

ANSWER = "<thinking> A {} thing. </thinking>\n<rethink> Yes. </rethink>\n<answer> {} </answer>"
NANO = shipped("embedder")["nano"]


def write_pairs(path: Path, num: int = 8, *, without: tuple[int, str] = (-1, "")) -> Path:
    """Texts with T-CoTs on both sides; one side of one of them may lack its T-CoT."""
    lines: list[dict[str, Any]] = []
    for number in range(num):
        line = {"query": {"text": f"query {number}"}, "target": {"text": f"target {number}"}}
        line |= {f"{side}_tcot": ANSWER.format(side, number) for side in ("query", "target") if (number, side) != without}
        lines.append(line)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def recipe(out: Path, pairs: Path, **changes: Any) -> EmbedderRecipe:
    trainer = {"use_cpu": True, "learning_rate": 1e-3, "lr_scheduler_type": "constant", "save_strategy": "no", **changes.pop("trainer", {})}
    settings = [f'out="{out}"', f'start_from="{NANO}"', f'pairs.files.a="{pairs}"', "batch_size=4", "num_batches=4", "mini_batch_size=8"]
    settings += ["distill.teacher=nano", "pairs.tcot_dropout=1.0", "matryoshka_dims=[]"]
    loaded = load_recipe(None, settings, EmbedderRecipe)
    return loaded.model_copy(update={"trainer": trainer, **changes})


def teach(embedder: Embedder, rows: WorldRows, teacher: Embedder | None, weight: float = 2.0) -> EmbedderModule:
    def resolve(key: str) -> EmbedderInput:
        item, tcot, show_media = rows.resolve(key)
        return embedder.build(item, tcot, show_media=show_media)

    def with_tcot(key: str) -> EmbedderInput | None:
        return None if key.startswith(FILLER) else teacher.build(rows.resolve(key)[0], rows.tcot(key))

    return EmbedderModule(embedder, resolve, Teacher(teacher, with_tcot, weight=weight, mini_batch_size=3) if teacher else None)


def test_the_mean_cosine_by_hand() -> None:
    vectors = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])]
    targets = [torch.tensor([[0.6, 0.8, 0.0]]), torch.tensor([[0.0, 0.3, 0.9], [0.0, 0.0, 0.0]])]
    assert mean_cosine(vectors, targets).item() == pytest.approx((0.6 + 1.0) / 2), "of the first numbers; zero targets are left out"
    assert mean_cosine(vectors[:1], [torch.zeros(1, 3)]).item() == 0.0


def test_the_loss_is_the_contrastive_one_and_the_weighted_distance_to_the_teacher(random_embedder: Embedder) -> None:
    """The teacher's target is its vector of the item with its T-CoT, whatever the student is shown."""
    rows, teacher = WorldRows(3, 1, 4, plain_share=0.7, annotated_share=0.3, mixed_sides=True), Embedder.load(NANO)
    ((pairs),) = rows.datasets().values()
    module = teach(random_embedder, rows, teacher)
    plain = info_nce(SentenceTransformer(modules=[teach(random_embedder, rows, None)], device="cpu"), Config(out=Path()))
    loss = info_nce(SentenceTransformer(modules=[module], device="cpu"), Config(out=Path()))
    sides = [module.preprocess(keys) for keys in zip(*pairs, strict=True)]
    with torch.no_grad():
        value = loss([dict(side) for side in sides], None).item()
        contrastive = plain([dict(side) for side in sides], None).item()
    keys = [key for column in zip(*pairs, strict=True) for key in column]
    wanted = teacher.embed([rows.resolve(key)[0] for key in keys], [rows.tcot(key) for key in keys])
    shown = [rows.resolve(key) for key in keys]
    own = random_embedder.embed_built([random_embedder.build(item, tcot, show_media=media) for item, tcot, media in shown])
    assert value == pytest.approx(contrastive + 2.0 * (1 - float((own * wanted).sum(1).mean())), abs=1e-4)
    assert any(tcot is None for _, tcot, _ in shown)
    assert all(isinstance(rows.tcot(key), TCoT) for key in keys)


@pytest.mark.parametrize("dims", [(), (48,)])
def test_gradient_caching_changes_memory_not_the_gradient(random_embedder: Embedder, dims: tuple[int, ...]) -> None:
    """With a teacher, and with vectors in fewer numbers too: a batch that fits into a mini-batch could not be trained with these."""
    rows = WorldRows(3, 1, 4, tasks=("image_cls",))
    ((pairs),) = rows.datasets().values()
    gradients = {}
    for name, teacher in (("without", None), ("with", Embedder.load(NANO))):
        module = teach(random_embedder, rows, teacher)
        model = SentenceTransformer(modules=[module], device="cpu")
        sides = [module.preprocess([keys[0], FILLER + keys[1], *keys[2:]]) for keys in zip(*pairs, strict=True)]
        for size in (8, 2):
            model.zero_grad()
            config = Config(out=Path(), mini_batch_size=size, temperature=1.0, matryoshka_dims=dims)
            info_nce(model, config)([dict(side) for side in sides], None).backward()
            weights = [weight.grad.flatten() for weight in random_embedder.model.parameters() if weight.grad is not None]
            gradients[name, size] = torch.cat(weights)
    for name in ("without", "with"):
        assert (gradients[name, 8] - gradients[name, 2]).norm() < 1e-4 * gradients[name, 8].norm()
    assert (gradients["with", 8] - gradients["without", 8]).norm() > 1e-2 * gradients["without", 8].norm()


def test_a_filler_and_an_item_without_a_tcot_have_no_target() -> None:
    teacher = Embedder.load(NANO)
    rows = WorldRows(3, 1, 4, tasks=("image_t2i",))
    ((pairs),) = rows.datasets().values()
    module = teach(make_random_embedder(), rows, teacher)
    column = module.preprocess([pairs[0][0], FILLER + pairs[1][0]])
    targets = module.teacher.targets(column)
    assert targets[0].norm().item() == pytest.approx(1)
    assert not targets[1].any()
    only_fillers = module.teacher.targets(module.preprocess([FILLER + pairs[0][0]]))
    assert only_fillers.shape == (1, teacher.dim)
    vectors = [[torch.nn.functional.normalize(torch.ones(2, teacher.dim), dim=-1)]] * 2
    loss = info_nce(SentenceTransformer(modules=[module], device="cpu"), Config(out=Path()))
    ids = item_ids([column, column])
    without = loss.calculate_loss(vectors, Labels(ids, [torch.zeros_like(targets)] * 2))
    assert without.item() == pytest.approx(loss.calculate_loss(vectors, Labels(ids)).item() + loss.teacher.weight)


def test_plain_vectors_come_nearer_to_the_teachers_than_without_the_term(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    teacher, rows = Embedder.load(NANO), embedder_rows(recipe(tmp_path, pairs))
    keys = [key for row in rows.datasets()["pairs"] for key in row]
    items, tcots = [rows.resolve(key)[0] for key in keys], [rows.tcot(key) for key in keys]
    wanted = teacher.embed(items, tcots)
    cosines = {}
    for name, changes in {"with": {}, "without": {"distill": None}}.items():
        folder = train_embedder(recipe(tmp_path / name, pairs, trainer={"logging_steps": 1}, **changes))
        cosines[name] = (Embedder.load(folder).embed(items, [None] * len(items)) * wanted).sum(1).mean()
    before = (teacher.embed(items, [None] * len(items)) * wanted).sum(1).mean()
    assert cosines["with"] > before + 0.05
    assert cosines["with"] > cosines["without"] + 0.05
    logged = [row["embedder/teacher_cosine"] for row in read_metrics(tmp_path / "with/metrics.jsonl") if "embedder/loss" in row]
    assert logged[-1] > logged[0]
    assert len(logged) == 4
    saved = load_file(tmp_path / "with/model/model.safetensors")
    assert saved.keys() == load_file(NANO / "model.safetensors").keys(), "the teacher is no part of the student"


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl")

    def weights(name: str, *steps: int) -> dict[str, torch.Tensor]:
        for number in steps:
            train_embedder(
                recipe(tmp_path / name / str(number), pairs, trainer={"max_steps": number, "save_strategy": "steps", "save_steps": 1})
            )
            (tmp_path / name / "next").mkdir(exist_ok=True)
            (tmp_path / name / str(number) / "checkpoints").rename(tmp_path / name / "next/checkpoints")
            if number != steps[-1]:
                (tmp_path / name / "next").rename(tmp_path / name / str(number + 1))
        return load_file(tmp_path / name / f"next/checkpoints/checkpoint-{steps[-1]}/model.safetensors")

    whole = weights("whole", 2)
    resumed = weights("cut", 1, 2)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_what_cannot_be_distilled_is_refused(tmp_path: Path) -> None:
    for without in ((5, "query"), (2, "target")):
        pairs = write_pairs(tmp_path / f"{without[1]}.jsonl", without=without)
        with pytest.raises(ConfigError, match=rf"pairs\.files\.a=.*pair {without[0] + 1}: its {without[1]} has no T-CoT.*embedrl annotate"):
            train_embedder(recipe(tmp_path / "run", pairs))
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    with pytest.raises(ConfigError, match=r"distill\.teacher='nano': its vectors have 192 numbers, and those of start_from have \d+"):
        train_embedder(recipe(tmp_path / "other", pairs, start_from=write_instruct(tmp_path / "instruct")))
    with pytest.raises(ConfigError, match="embedder='nowhere': not a folder"):
        settings = recipe(tmp_path / "nowhere", pairs)
        assert settings.distill is not None
        train_embedder(settings.model_copy(update={"distill": settings.distill.model_copy(update={"teacher": "nowhere"})}))
    start = ["start_from=x", "num_batches=1", f'out="{tmp_path}"', "distill.teacher=nano"]
    with pytest.raises(ConfigError, match=r"plain_share=0: with \[distill\] some items must be shown without"):
        load_recipe(None, [*start, "plain_share=0"], EmbedderRecipe)
    with pytest.raises(ConfigError, match=r"pairs\.tcot_dropout=0"):
        load_recipe(None, [*start, f'pairs.files.a="{pairs}"', "pairs.tcot_dropout=0"], EmbedderRecipe)
    with pytest.raises(ConfigError, match=r"distill\.weight"):
        load_recipe(None, [*start, "distill.weight=0"], EmbedderRecipe)


def test_a_plan_counts_the_teacher(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    with_teacher, alone = (plan_embedder(recipe(tmp_path, pairs, **changes), num_sampled=4) for changes in ({}, {"distill": None}))
    assert "memory: teacher's weights" in dict(with_teacher.rows)
    assert with_teacher.flops > alone.flops
    broken = recipe(tmp_path, pairs)
    assert broken.distill is not None
    with pytest.raises(ConfigError, match=r"distill\.teacher: embedder='nowhere'"):
        plan_embedder(broken.model_copy(update={"distill": broken.distill.model_copy(update={"teacher": "nowhere"})}))


def test_a_recipe_trains_vectors_in_fewer_numbers(tmp_path: Path) -> None:
    """`matryoshka_dims` was a setting that no recipe could give, and a batch that fits into a mini-batch could not be trained with it."""
    folder = train_embedder(recipe(tmp_path / "run", write_pairs(tmp_path / "pairs.jsonl"), matryoshka_dims=(48,), num_batches=1))
    assert np.isfinite(Embedder.load(folder).dim)
    with pytest.raises(ConfigError, match="matryoshka_dims"):
        train_embedder(recipe(tmp_path / "long", tmp_path / "pairs.jsonl", matryoshka_dims=(193,), num_batches=1))

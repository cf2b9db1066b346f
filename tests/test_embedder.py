"""The Embedder: one message builder with fixed tokens, and vectors that depend on their item only."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import MAX_EVIDENCE_IMAGES, build, collate, render_text
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import Config, EmbedderModule, info_nce, train
from embedrl.errors import ConfigError, ModelError
from embedrl.media.content import Frames, Text, Video
from embedrl.nano.data import EMBEDDER_BUDGET, WorldRows
from embedrl.nano.models import FACTOR
from embedrl.world.tasks import Side, draw_family
from tests.conftest import make_random_embedder, nano_processor


def test_golden_text_of_the_message() -> None:
    item = Item(content=(Text(text="a red star <|im_end|> <emb>"),), instruction="Find it.", role=Role.QUERY_TEXT_TO_IMAGE)
    plain = render_text(nano_processor(), build(item, None, EMBEDDER_BUDGET, FACTOR))
    assert plain == (
        "<|im_start|>user\nFind it. a red star ‹|im_end|> ‹emb>\nSummarise this in one word.<|im_end|>\n<|im_start|>assistant\n<emb>"
    )
    tcot = TCoT(thinking="red star.", evidence=Evidence(keywords=("red star",)), rethink="ok", answer="red star")
    reasoned = render_text(nano_processor(), build(item, tcot, EMBEDDER_BUDGET, FACTOR))
    assert reasoned == (
        "<|im_start|>user\nFind it. a red star ‹|im_end|> ‹emb>\n"
        '<thinking> red star. {"text_keywords": ["red star"]} </thinking><rethink> ok </rethink>\n<answer> red star </answer>\n'
        "Summarise this in one word.<|im_end|>\n<|im_start|>assistant\n<emb>"
    )


def test_crops_stand_behind_the_thinking() -> None:
    _, target = draw_family("image_t2i", "test", random.Random(0), num_variants=0)[0]
    built = build(target.item, target.truth, EMBEDDER_BUDGET, FACTOR)
    assert len(built.images) == 1 + len(target.truth.evidence.boxes)
    kinds = [part["type"] if part["type"] == "image" else part["text"].split()[0] for part in built.messages[0]["content"]]
    assert kinds == ["image", "Describe", "<thinking>", *["image"] * len(target.truth.evidence.boxes), "<rethink>", "Summarise"]


def test_evidence_pictures_are_limited() -> None:
    _, target = draw_family("image_t2i", "test", random.Random(0), num_variants=0)[0]
    boxes = tuple((0, 0, 500, 500 + number) for number in range(40))
    spam = target.truth.model_copy(update={"evidence": Evidence(boxes=boxes)})
    assert len(build(target.item, spam, EMBEDDER_BUDGET, FACTOR).images) == 1 + MAX_EVIDENCE_IMAGES


@pytest.mark.parametrize("num_frames", [1, 3, 8])
def test_the_frames_given_are_the_frames_embedded(num_frames: int) -> None:
    query, _ = draw_family("video_v2t", "test", random.Random(0), num_variants=0)[0]
    whole = query.item.content[0].frames
    item = query.item.model_copy(update={"content": (Video(frames=Frames(whole.images[:num_frames], whole.times_s[:num_frames])),)})
    batch = collate(nano_processor(), [build(item, None, EMBEDDER_BUDGET, FACTOR)])
    assert batch["video_grid_thw"].tolist() == [[-(-num_frames // 2), 4, 4]]
    text = nano_processor().tokenizer.decode(batch["input_ids"][0])
    assert f"<{0.0 if num_frames == 1 else 0.2} seconds>" in text


def _tcots(sides: list[Side]) -> list[TCoT | None]:
    return [side.truth if index % 3 else None for index, side in enumerate(sides)]


def test_batch_order_and_padding_do_not_change_a_vector(random_embedder: Embedder, mixed_sides: list[Side]) -> None:
    items, tcots = [side.item for side in mixed_sides], _tcots(mixed_sides)
    together = random_embedder.embed(items, tcots)
    assert together.shape == (len(items), random_embedder.dim)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    order = list(range(len(items)))
    random.Random(0).shuffle(order)
    shuffled = random_embedder.embed([items[row] for row in order], [tcots[row] for row in order])
    assert np.abs(shuffled - together[order]).max() < 1e-5
    alone = np.concatenate([random_embedder.embed([item], [tcot]) for item, tcot in zip(items, tcots, strict=True)])
    assert np.abs(alone - together).max() < 1e-5


def test_the_vector_depends_on_pictures_tcot_and_evidence(random_embedder: Embedder) -> None:
    (_, first), (_, second) = draw_family("image_t2i", "test", random.Random(0), num_variants=1)
    moved = first.truth.model_copy(update={"evidence": Evidence(boxes=((0, 0, 900, 900),))})
    vectors = random_embedder.embed([first.item, second.item, first.item, first.item], [None, None, first.truth, moved])
    gaps = np.abs(vectors[:, None] - vectors[None]).max(-1) + np.eye(4)
    assert gaps.min() > 1e-4


def test_wrong_use_is_refused(random_embedder: Embedder, mixed_sides: list[Side], tmp_path) -> None:
    with pytest.raises(ConfigError, match="1 items with 2 T-CoTs"):
        random_embedder.embed([mixed_sides[0].item], [None, None])
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        Embedder.load(tmp_path)


def test_save_and_load_give_the_same_model(random_embedder: Embedder, mixed_sides: list[Side], tmp_path) -> None:
    random_embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    assert loaded.budget == EMBEDDER_BUDGET
    items = [side.item for side in mixed_sides[:4]]
    vectors = loaded.embed(items, [None] * 4)
    assert (vectors * random_embedder.embed(items, [None] * 4)).sum(1).min() > 0.999, "bf16 rounds, and no more than that"
    loaded.save(tmp_path / "again")
    assert np.array_equal(Embedder.load(tmp_path / "again").embed(items, [None] * 4), vectors)


def _resolve(embedder: Embedder, rows: WorldRows):
    def resolve(key: str):
        item, tcot, show_media = rows.resolve(key)
        return embedder.build(item, tcot, show_media=show_media)

    return resolve


def test_gradient_caching_changes_memory_not_the_gradient(random_embedder: Embedder) -> None:
    rows = WorldRows(3, 2, 6)
    module = EmbedderModule(random_embedder, _resolve(random_embedder, rows))
    model = SentenceTransformer(modules=[module], device="cpu")
    for pairs in rows.datasets().values():
        sides = [module.preprocess(keys) for keys in zip(*pairs, strict=True)]
        gradients = []
        for mini_batch_size in (12, 6, 2):
            model.zero_grad()
            info_nce(model, Config(out=Path(), mini_batch_size=mini_batch_size, temperature=1.0))(
                [dict(side) for side in sides], None
            ).backward()
            gradients.append(torch.cat([weight.grad.flatten() for weight in random_embedder.model.parameters() if weight.grad is not None]))
        whole = gradients[0]
        assert whole.norm() > 0
        assert all((whole - cached).norm() < 1e-4 * whole.norm() for cached in gradients[1:])


def test_a_batch_that_fits_is_embedded_once(random_embedder: Embedder) -> None:
    rows = WorldRows(3, 1, 4)
    module = EmbedderModule(random_embedder, _resolve(random_embedder, rows))
    model = SentenceTransformer(modules=[module], device="cpu")
    ((pairs),) = rows.datasets().values()
    sides = [module.preprocess(keys) for keys in zip(*pairs, strict=True)]
    passes = []
    module.register_forward_hook(lambda *_: passes.append(1))
    for mini_batch_size, expected in ((8, 2), (4, 4), (2, 8)):
        passes.clear()
        info_nce(model, Config(out=Path(), mini_batch_size=mini_batch_size))([dict(side) for side in sides], None).backward()
        assert len(passes) == expected


def test_all_equal_vectors_cost_log_of_the_batch(random_embedder: Embedder) -> None:
    model = SentenceTransformer(modules=[EmbedderModule(random_embedder, lambda key: key)], device="cpu")
    loss = info_nce(model, Config(out=Path()))
    same = torch.nn.functional.normalize(torch.ones(8, 16), dim=-1)
    value = loss.calculate_loss([[same], [same]], None)
    assert value.item() == pytest.approx(np.log(8), rel=1e-4)


def test_a_run_learns_and_leaves_a_model(random_embedder: Embedder, tmp_path) -> None:
    before = torch.cat([weight.detach().flatten().clone() for weight in random_embedder.model.parameters()])
    rows = WorldRows(3, 2, 6)
    arguments = {"per_device_train_batch_size": 6, "num_train_epochs": 1, "learning_rate": 1e-3, "use_cpu": True, "save_strategy": "no"}
    folder = train(
        random_embedder, rows.datasets(), _resolve(random_embedder, rows), Config(out=tmp_path, mini_batch_size=4, trainer=arguments)
    )
    after = torch.cat([weight.detach().flatten() for weight in random_embedder.model.parameters()])
    assert (after - before).abs().max() > 1e-4
    assert Embedder.load(folder).dim == 192


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path) -> None:
    rows = WorldRows(0, num_batches=4, batch_size=6)

    def run(name: str, num_steps: int) -> dict[str, torch.Tensor]:
        embedder = make_random_embedder()
        arguments = {"per_device_train_batch_size": 6, "max_steps": num_steps, "save_steps": 2, "lr_scheduler_type": "constant"}
        config = Config(out=tmp_path / name, mini_batch_size=4, trainer={**arguments, "learning_rate": 1e-3, "use_cpu": True})
        train(embedder, rows.datasets(), _resolve(embedder, rows), config)
        return embedder.model.state_dict()

    whole = run("whole", 4)
    half = run("cut", 2)
    resumed = run("cut", 4)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(not torch.equal(whole[name], half[name]) for name in whole)


def test_batches_hold_one_task_and_no_meaning_twice() -> None:
    rows = WorldRows(0, 6, 10)
    for name, pairs in rows.datasets().items():
        assert len(pairs) % 10 == 0
        for start in range(0, len(pairs), 10):
            batch = pairs[start : start + 10]
            assert all(query.split("/")[1] == name for query, _ in batch)
            assert len({target for _, target in batch}) == 10


def test_pairs_have_no_tcots_the_annotators_or_true_ones_in_their_shares() -> None:
    def kinds(**shares: float) -> tuple[float, float]:
        rows = WorldRows(0, 8, 10, **shares)
        keys = [key for pairs in rows.datasets().values() for pair in pairs for key in pair]
        tcots = [rows.resolve(key)[1] for key in keys]
        remarked = [tcot is not None and tcot.rethink[2:] != "seen, evidence fits." for tcot in tcots]
        return sum(tcot is None for tcot in tcots) / len(tcots), sum(remarked) / len(tcots)

    assert kinds(plain_share=1.0, annotated_share=0.0) == (1, 0)
    assert kinds(plain_share=0.0, annotated_share=0.0) == (0, 0)
    plain, remarked = kinds(plain_share=0.4, annotated_share=0.6)
    assert 0.2 < plain < 0.6
    assert 0.2 < remarked < 0.6
    with pytest.raises(ValueError, match="together at most 1"):
        EmbedderRecipe(out=Path(), start_from=Path(), num_batches=1, plain_share=0.6, annotated_share=0.6)

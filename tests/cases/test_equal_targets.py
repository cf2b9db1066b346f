"""Data sets are weighed by their pairs, and equal targets of a batch are never negatives of each other.

Reported: SUN397 with its 397 class names could not fill a batch of 512, and sets with repeated targets lost their share (models.md F7;
https://github.com/fartashf/vsepp/issues/6).
"""

import json
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedrl.data.pair_file_rows import PairFileRows, PairsConfig
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.loss import positives, symmetric_info_nce
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import Config, EmbedderModule, info_nce
from embedrl.errors import ConfigError
from embedrl.pipelines.plan import plan_embedder
from tests.checkpoints import write_instruct


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    rows = [{"query": {"text": query}, "target": {"text": target}} for query, target in pairs]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def class_names(path: Path, num_pairs: int, num_classes: int) -> Path:
    return write(path, [(f"picture {number}", f"class {number % num_classes}") for number in range(num_pairs)])


def test_fewer_classes_than_the_batch_fill_it(tmp_path: Path) -> None:
    config = PairsConfig(files={"SUN397": class_names(tmp_path / "s.jsonl", 2000, 397)})
    rows = PairFileRows(config, seed=0, batch_size=512, num_epochs=1)
    [listed] = rows.datasets().values()
    assert rows.num_batches == 3
    for start in range(0, len(listed), 512):
        batch = listed[start : start + 512]
        assert len({query for query, _ in batch}) == 512
        assert len({rows.resolve(target)[0].text for _, target in batch}) <= 397


def test_shares_weights_and_caps_are_those_of_pairs(tmp_path: Path) -> None:
    files = {"classes": class_names(tmp_path / "c.jsonl", 400, 10), "captions": class_names(tmp_path / "d.jsonl", 400, 400)}
    equal = PairFileRows(PairsConfig(files=files), seed=0, batch_size=8, num_epochs=1)
    assert [round(share.share, 3) for share in equal.shares()] == [0.5, 0.5]
    weighed = PairFileRows(PairsConfig(files=files, weights={"classes": 3.0}, caps={"captions": 200}), seed=0, batch_size=8, num_epochs=1)
    shares = {share.name: share for share in weighed.shares()}
    assert shares["classes"].share == pytest.approx(3 * 400 / (3 * 400 + 200))
    assert (shares["captions"].num_used, shares["captions"].num_pairs) == (200, 400)
    assert weighed.num_batches == 600 // 8, "an epoch is as many rows as pairs are used"
    [listed] = weighed.datasets().values()
    assert len({query for query, _ in listed if query.startswith("captions/")}) <= 200


def test_the_plan_shows_the_shares(tmp_path: Path) -> None:
    files = {"classes": class_names(tmp_path / "c.jsonl", 60, 5), "captions": class_names(tmp_path / "d.jsonl", 20, 20)}
    recipe = EmbedderRecipe(
        out=tmp_path / "run", start_from=write_instruct(tmp_path / "m"), pairs=PairsConfig(files=files), batch_size=10, num_epochs=1
    )
    table = dict(plan_embedder(recipe, num_sampled=10).rows)
    assert table["share of classes"].startswith("75.0%, from 60 of 60 pairs")
    assert table["share of captions"].startswith("25.0%, from 20 of 20 pairs")


def test_settings_that_name_no_data_set_are_refused(tmp_path: Path) -> None:
    file = class_names(tmp_path / "c.jsonl", 4, 4)
    for setting in ({"weights": {"b": 1}}, {"caps": {"b": 1}}, {"videos": ("b",)}):
        with pytest.raises(ConfigError, match="b: there is no such data set; choose from a"):
            PairFileRows(PairsConfig(files={"a": file}, **setting), seed=0, batch_size=2, num_batches=1)


def test_equal_targets_and_equal_queries_are_positives() -> None:
    queries, targets = torch.tensor([1, 2, 1, 3]), torch.tensor([7, 8, 9, 7])
    found = positives(queries, targets, torch.tensor([7, 8, 9, 7, 9]))
    assert found.int().tolist() == [[1, 0, 1, 1, 1], [0, 1, 0, 0, 0], [1, 0, 1, 1, 1], [1, 0, 0, 1, 0]]


def test_the_loss_by_hand() -> None:
    """Three rows on the unit circle; the first and the last have equal targets, and row 2 has a hard negative."""
    query = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.3, 1.0], [1.0, -0.5]]), dim=1)
    target = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), dim=1)
    negative = torch.nn.functional.normalize(torch.tensor([[0.5, 1.0]]), dim=1)
    documents = torch.cat([target, negative])
    answers = positives(torch.arange(3), torch.tensor([5, 6, 5]), torch.tensor([5, 6, 5, 8]))
    value = symmetric_info_nce(query, target, query, documents, answers, start=0, scale=4.0)
    s, t = 4 * query @ documents.T, 4 * target @ query.T
    rows = [
        ([s[0, 0], s[0, 1], s[0, 3]], [t[0, 0], t[0, 1]], s[0, 0]),
        ([s[1, 0], s[1, 1], s[1, 2], s[1, 3]], [t[1, 0], t[1, 1], t[1, 2]], s[1, 1]),
        ([s[2, 1], s[2, 2], s[2, 3]], [t[2, 1], t[2, 2]], s[2, 2]),
    ]
    expected = sum((torch.stack(q).logsumexp(0) + torch.stack(d).logsumexp(0)) / 2 - own for q, d, own in rows) / 3
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)


def test_equal_targets_do_not_push_each_other_away(random_embedder: Embedder, tmp_path: Path) -> None:
    """Two rows of one class: nothing is left to contrast, so the loss is 0; of two classes it is not."""
    for name, classes, is_zero in (("one", 1, True), ("two", 2, False)):
        rows = PairFileRows(
            PairsConfig(files={"a": class_names(tmp_path / f"{name}.jsonl", 2, classes)}), seed=0, batch_size=2, num_batches=1
        )

        def resolve(key: str, rows: PairFileRows = rows) -> EmbedderInput:
            item, tcot, show_media = rows.resolve(key)
            return random_embedder.build(item, tcot, show_media=show_media)

        module = EmbedderModule(random_embedder, resolve)
        model = SentenceTransformer(modules=[module], device="cpu")
        sides = [module.preprocess(list(keys)) for keys in zip(*rows.datasets()["pairs"], strict=True)]
        value = info_nce(model, Config(out=tmp_path, temperature=1.0))(sides, None).item()
        assert (value == pytest.approx(0, abs=1e-6)) == is_zero

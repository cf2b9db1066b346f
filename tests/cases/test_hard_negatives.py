"""Hard negatives of pairs reach the contrastive loss as documents of their own.

Reported: `negatives` of our JSON lines and `neg_text` of MMEB-train were read, checked, written, and dropped before training
(house/negatives.py).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedrl.data.pair_file_rows import PairFileRows, PairsConfig
from embedrl.data.sources.mmeb import read_mmeb
from embedrl.data.sources.row import SourceProblem
from embedrl.data.tcot import TCoT
from embedrl.embedder.distill import Labels
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import EmbedderInput
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.embedder.train import FILLER, Config, EmbedderModule, columns, fill, info_nce, item_ids
from embedrl.pipelines.plan import plan_embedder
from embedrl.pipelines.train_embedder import train_embedder
from tests.checkpoints import write_instruct

TCOT = "<thinking> A mug. </thinking>\n<rethink> Yes. </rethink>\n<answer> mug </answer>"


def line(number: int, *negatives: str, **more: Any) -> dict[str, Any]:
    row = {"query": {"text": f"red mug {number}"}, "target": {"text": f"a red mug, number {number}"}, **more}
    return {**row, "negatives": [{"text": text} for text in negatives]} if negatives else row


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def mugs(path: Path, **settings: Any) -> PairFileRows:
    rows = [line(number, f"a blue mug, number {number}", f"a green mug, number {number}") for number in range(8)]
    return PairFileRows(PairsConfig(files={"mugs": write(path / "p.jsonl", rows)}, **settings), seed=0, batch_size=4, num_epochs=1)


def test_every_pair_brings_its_own_negatives(tmp_path: Path) -> None:
    for wanted in (0, 1, 2, 5):
        rows = mugs(tmp_path, negatives=wanted)
        [listed] = rows.datasets().values()
        assert {len(row) for row in listed} == {2 + min(wanted, 2)}
        for query, _, *negatives in listed:
            number = rows.resolve(query)[0].text.split()[-1]
            texts = {rows.resolve(key)[0].text for key in negatives}
            assert len(texts) == len(negatives)
            assert texts <= {f"a blue mug, number {number}", f"a green mug, number {number}"}
    drawn = {key.rsplit("/", 1)[1] for row in mugs(tmp_path).datasets()["pairs"] for key in row[2:]}
    assert drawn == {"negative0", "negative1"}, "another one each time"


def test_neg_text_of_mmeb_train_reaches_the_rows(tmp_path: Path) -> None:
    rows = [{"qry": f"a mug {n}", "pos_text": f"red {n}", "neg_text": f"blue {n}"} for n in range(4)]
    (tmp_path / "mmeb.json").write_text(json.dumps(rows), "utf-8")
    pairs = [pair for pair in read_mmeb(tmp_path / "mmeb.json") if not isinstance(pair, SourceProblem)]
    lines = [{"pair": pair.model_dump(mode="json")} for pair in pairs]
    file = write(tmp_path / "p.jsonl", lines)
    read = PairFileRows(PairsConfig(files={"m": file}), seed=0, batch_size=4, num_epochs=1)
    texts = sorted(read.resolve(row[2])[0].text for row in read.datasets()["pairs"])
    assert texts == [f"blue {n}" for n in range(4)]


def test_rows_without_negatives_have_empty_keys_and_no_vector(tmp_path: Path, random_embedder: Embedder) -> None:
    rows = [line(0, "a blue mug"), line(1), line(2, "a red mug, number 1"), line(3)]
    read = PairFileRows(PairsConfig(files={"m": write(tmp_path / "p.jsonl", rows)}), seed=0, batch_size=4, num_epochs=1)
    table = columns(read.datasets())["pairs"]
    assert table.column_names == ["query", "target", "negative_1"]
    assert sorted(bool(key) for key in table["negative_1"]) == [False, False, True, True]
    module = EmbedderModule(random_embedder, resolver(random_embedder, read))
    assert len(module.preprocess(list(table["negative_1"]))["input_ids"]) == 2
    assert module.preprocess(["", ""]) == {}
    plain = PairFileRows(PairsConfig(files={"m": write(tmp_path / "q.jsonl", [line(0), line(1)])}), seed=0, batch_size=2, num_epochs=1)
    assert columns(plain.datasets())["pairs"].column_names == ["query", "target"]


def test_processes_run_as_many_passes_as_each_other(random_embedder: Embedder, tmp_path: Path) -> None:
    """Weights that are sharded are gathered in each pass, so rows without a negative embed a filler, which counts for nothing."""
    rows = [("q1", "t1", "n1"), ("q2", "t2"), ("q3", "t3"), ("q4", "t4")]
    assert fill(rows, 2) == [("q1", "t1", "n1"), ("q2", "t2", f"{FILLER}t2"), ("q3", "t3"), ("q4", "t4")]
    read = PairFileRows(
        PairsConfig(files={"m": write(tmp_path / "p.jsonl", [line(0, "a blue mug"), line(1)])}), seed=0, batch_size=2, num_batches=1
    )
    module = EmbedderModule(random_embedder, resolver(random_embedder, read))
    model, values = SentenceTransformer(modules=[module], device="cpu"), []
    for listed in (read.datasets()["pairs"], fill(read.datasets()["pairs"], 2)):
        table = columns({"pairs": listed})["pairs"]
        features = [module.preprocess(list(table[column])) for column in table.column_names]
        values.append(info_nce(model, Config(out=tmp_path, temperature=1.0), num_negatives=1)(features, None).item())
        assert len(features[2]["input_ids"]) == len(values)
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def resolver(embedder: Embedder, rows: PairFileRows) -> Any:
    def resolve(key: str) -> EmbedderInput:
        item, tcot, show_media = rows.resolve(key)
        return embedder.build(item, tcot, show_media=show_media)

    return resolve


@pytest.mark.parametrize(
    ("negative", "counts"),
    [("a blue mug", True), ("a red mug, number 0", False)],
    ids=["another item", "the target itself"],
)
def test_a_negative_counts_unless_it_equals_a_target(negative: str, counts: bool, random_embedder: Embedder, tmp_path: Path) -> None:
    values = []
    for name, rows in (("with", [line(0, negative), line(1)]), ("without", [line(0), line(1)])):
        config = PairsConfig(files={"m": write(tmp_path / f"{name}.jsonl", rows)}, tcot_dropout=1)
        read = PairFileRows(config, seed=0, batch_size=2, num_batches=1)
        module = EmbedderModule(random_embedder, resolver(random_embedder, read))
        model = SentenceTransformer(modules=[module], device="cpu")
        table = columns(read.datasets())["pairs"]
        features = [module.preprocess(list(table[column])) for column in table.column_names]
        loss = info_nce(model, Config(out=tmp_path, temperature=1.0, mini_batch_size=2), num_negatives=len(features) - 2)
        found = loss(features, None)
        found.backward()
        values.append(found.item())
        with torch.no_grad():
            vectors = [[module(dict(feature))["sentence_embedding"]] for feature in features]
            assert loss.calculate_loss(vectors, Labels(item_ids(features))).item() == pytest.approx(found.item(), abs=1e-5)
    only_of_row_0 = abs(values[0] - values[1]) > 1e-3
    assert values[0] >= values[1] - 1e-6
    assert only_of_row_0 or not counts


def test_a_missing_tcot_does_not_give_a_negative_away(tmp_path: Path) -> None:
    """Beside a target that is shown with its T-CoT, a negative has one too (as a target elsewhere), or is left out."""
    rows = [line(0, "a blue mug", "a red mug, number 1", query_tcot=TCOT, target_tcot=TCOT), line(1, query_tcot=TCOT, target_tcot=TCOT)]
    config = PairsConfig(files={"m": write(tmp_path / "p.jsonl", rows)}, negatives=2, media_dropout=0)
    read = PairFileRows(config, seed=0, batch_size=2, num_batches=40)
    kinds = set()
    for _, target, *negatives in read.datasets()["pairs"]:
        shown = [(read.resolve(key)[0].text, isinstance(read.resolve(key)[1], TCoT)) for key in negatives]
        reasoned = isinstance(read.resolve(target)[1], TCoT)
        if "number 0" in read.resolve(target)[0].text:
            kinds.add((reasoned, tuple(sorted(shown))))
    assert kinds == {
        (True, (("a red mug, number 1", True),)),
        (False, (("a blue mug", False), ("a red mug, number 1", False))),
    }


def test_a_run_trains_on_them_and_the_plan_counts_them(tmp_path: Path) -> None:
    rows = [line(number, f"a blue mug, number {number}") if number % 2 else line(number) for number in range(8)]
    files = {"mugs": write(tmp_path / "p.jsonl", rows), "plain": write(tmp_path / "q.jsonl", [line(n) for n in range(8)])}
    recipe = EmbedderRecipe(
        out=tmp_path / "run",
        start_from=write_instruct(tmp_path / "m"),
        pairs=PairsConfig(files=files),
        batch_size=4,
        num_batches=3,
        mini_batch_size=2,
        trainer={"use_cpu": True, "save_strategy": "no"},
    )
    table = dict(plan_embedder(recipe, num_sampled=12).rows)
    assert "4 have hard negatives" in table["share of mugs"]
    assert "0 have hard negatives" in table["share of plain"]
    assert table["rows with a hard negative beside them"] != "0.0% of the first 12"
    assert (train_embedder(recipe) / "model.safetensors").is_file()

"""bench/gate.py: gates that are fitted to a few queries, and what their orders keep."""

from types import ModuleType

import numpy as np
import pytest

from embedrl.data import items
from embedrl.media.content import Text
from tests.scripts import load_script


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load_script("bench/gate.py")


def measured(bench: ModuleType, number: int, instruction: str, *, plain: bool, reasoned: bool, tokens: int):
    """A query whose plain hits say nothing; only its instruction tells what reasoning costs and brings."""
    query = items.query((Text(text=f"query {number}"),)).model_copy(update={"instruction": instruction})
    pool = bench.Pool(np.eye(2), np.array([tokens, tokens]), (np.zeros(2), np.zeros(2)), np.array([True, False]))
    settings = {"task": instruction, "family": str(number), "plain_D": np.ones(2), "target_D": np.ones(2), "pool": pool}
    return bench.Measured(
        item=query, scores=(0.5, 0.4), hits=(plain, reasoned, False), gain=1.0 if reasoned else -1.0, num_tokens=tokens, **settings
    )


@pytest.fixture(scope="module")
def rows(bench: ModuleType) -> list:
    """Reasoning helps nine long queries of ten, and eight short ones, at a third of the tokens."""
    long = [measured(bench, number, "long", plain=False, reasoned=number != 0, tokens=90) for number in range(10)]
    return [*long, *(measured(bench, 10 + number, "short", plain=False, reasoned=number > 1, tokens=30) for number in range(10))]


def test_what_an_order_keeps_by_hand(bench: ModuleType) -> None:
    changes, tokens, alike = np.array([1.0, 0.0, 1.0, -1.0]), np.array([10.0, 10.0, 20.0, 40.0]), np.ones(4)
    assert bench.kept_by_order(np.array([4.0, 3.0, 2.0, 1.0]), changes, tokens, alike).tolist() == [1.0, 2.0, 1.5]
    assert bench.kept_by_order(np.array([1.0, 2.0, 3.0, 4.0]), changes, tokens, alike).tolist() == [-0.5, -1.0, 0.0]
    twice = bench.kept_by_order(np.array([4.0, 3.0, 2.0, 1.0]), changes, tokens, np.array([1.0, 1.0, 2.0, 1.0]))
    assert twice.tolist() == pytest.approx([0.625, 1.25, 1.3125]), "a query that was drawn twice counts twice"


def test_a_gate_per_token_spends_its_share_where_a_token_buys_most(bench: ModuleType, rows: list) -> None:
    hits = bench.hits_gate(rows, "embedder")
    per_token = bench.per_token(hits, rows)
    assert per_token.tokens == {"long": 90.0, "short": 30.0}
    assert sum(per_token.costs) == 10 * 90 + 10 * 30

    def wanted(gate) -> set[str]:
        return {row.item.instruction for row in rows if gate.wants(row.item, row.plain_D, row.scores)}

    assert wanted(hits.at(0.6)) == {"long"}
    assert wanted(per_token.at(0.3)) == {"short"}


def test_the_table_of_orders_names_every_gate_and_the_oracle(bench: ModuleType, rows: list) -> None:
    hits = bench.hits_gate(rows, "embedder")
    columns, table = bench.order_table(rows, {"hits": hits, "per token": bench.per_token(hits, rows)})
    assert [row[0] for row in table] == ["hits", "per token", "oracle"]
    assert len(columns) == len(table[0]) == 1 + len(bench.SHARES)
    assert table[0][1].endswith("; +0.00 (+0.00 to +0.00)")

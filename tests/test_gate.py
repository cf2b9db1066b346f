"""A gate decides which queries are reasoned about, and says so."""

import asyncio
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from embedrl.cli.dial import attach_values, gate_beside
from embedrl.cli.main import app
from embedrl.data import items
from embedrl.errors import ConfigError
from embedrl.index.gate import LinearGate, declined, read_gate, spread_of
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.models.names import shipped
from embedrl.models.weights import model_fingerprint
from embedrl.runtime.names import load_embedder
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.served import served

EMBEDDER = FakeEmbedder()
MARGIN = LinearGate(embedder=EMBEDDER.fingerprint, weights=(*(0.0,) * 64, 0.0, -1.0), scores=(-0.4, -0.3, -0.2, -0.1), share=0.5)
"""Reasons where the first two hits are less than .25 apart."""
ITEM = items.query((Text(text="a star"),))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    for name, text in (("a.txt", "a letter about an elephant"), ("b.txt", "a letter about a grocer"), ("c.txt", "nothing")):
        (folder / name).write_text(text)
    return folder


def test_the_margin_and_the_share_decide_by_hand() -> None:
    plain = np.zeros(64, np.float32)
    assert MARGIN.wants(ITEM, plain, [0.9, 0.8])
    assert not MARGIN.wants(ITEM, plain, [0.9, 0.5])
    assert not MARGIN.model_copy(update={"share": 0.25}).wants(ITEM, plain, [0.9, 0.7])
    assert not MARGIN.wants(ITEM, plain, [0.9]), "an only hit is far from the next"
    assert MARGIN.model_copy(update={"share": 1.0}).wants(ITEM, plain, [])
    assert not MARGIN.model_copy(update={"share": 0.0}).wants(ITEM, plain, [0.9, 0.9])
    with pytest.raises(ConfigError, match="64 numbers, not 3"):
        MARGIN.wants(ITEM, plain[:3], [0.9, 0.8])


def test_a_gate_that_knows_what_tcots_cost_reasons_where_a_token_buys_most() -> None:
    """Three quarters of a chance for 30 tokens come before nine tenths for 90; a share is then one of tokens."""
    plain, settings = np.zeros(64, np.float32), {"embedder": EMBEDDER.fingerprint, "weights": (*(0.0,) * 64, 0.0, 0.0)}
    chances = {"short": 0.75, "long": 0.9}
    logits = {name: math.log(chance / (1 - chance)) for name, chance in chances.items()}
    tokens = {"short": 30.0, "long": 90.0}
    gate = LinearGate(**settings, instructions=logits, tokens=tokens, scores=(0.025, 0.01, 0.025, 0.01), costs=(30, 90, 30, 90), share=0.5)
    asked = {name: ITEM.model_copy(update={"instruction": name}) for name in ("short", "long", "another")}
    scores = {name: gate.score(item, plain, ()) for name, item in asked.items()}
    assert scores == pytest.approx({"short": 0.75 / 30, "long": 0.9 / 90, "another": 0.5 / 60})
    free = LinearGate(**settings, instructions=logits, scores=(0.0, 1.0))
    assert free.score(asked["long"], plain, ()) > free.score(asked["short"], plain, ())
    wanted = [[name for name, item in asked.items() if gate.at(share).wants(item, plain, ())] for share in (0.0, 0.1, 0.3, 0.99, 1.0)]
    assert wanted == [[], [], ["short"], ["short"], ["short", "long", "another"]]
    assert [gate.at(share).threshold for share in (0.1, 0.25, 0.3, 0.99)] == [0.025, 0.01, 0.01, 0.01]
    assert gate.model_copy(update={"bias": 1e4}).score(asked["short"], plain, ()) == pytest.approx(1 / 30), "no overflow"
    assert gate.model_copy(update={"bias": -1e4}).score(asked["short"], plain, ()) == pytest.approx(0)


def test_gates_from_before_costs_keep_their_names() -> None:
    """An index notes by which gate an item was left out, and asks no gate twice."""
    settings = {"weights": (0.5, 0.25, -1.0), "spread": (1.0, 2.0, 3.0, 4.0, 5.0), "instructions": {"Find it.": 0.5}, "scores": (0.0, 1.0)}
    assert LinearGate(embedder="fake", **settings).fingerprint == "gate-6e443357-0.5"
    assert (
        LinearGate(embedder="fake", role="candidate", weights=(1.0, 0.0, 0.0), scores=(0.0, 1.0), share=0.25).fingerprint
        == "gate-c443c086-0.25"
    )
    assert len({LinearGate(embedder="fake", **settings, **more).fingerprint for more in ({}, {"bias": 1.0}, {"costs": (1, 2)})}) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"costs": (1.0,)}, "costs: give one for each of the 2 scores"),
        ({"costs": (0.0, 0.0)}, "not all of them 0"),
        ({"tokens": {"a": 0.0}}, "greater than 0"),
        ({"role": "candidate", "tokens": {"a": 1.0}}, "spread, instructions, tokens: a gate of candidates"),
    ],
)
def test_costs_that_fit_no_gate_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearGate(embedder="fake", weights=(0.0, 0.0, 0.0), scores=(0.0, 1.0), **wrong)


def test_a_search_reasons_only_where_the_gate_wants_it_and_each_hit_says_so(library: Path) -> None:
    reasoner = FakeReasoner()
    index = Index.open(library, embedder=EMBEDDER)
    ingest(library, index, reasoner, EMBEDDER)
    asked = reasoner.reasoned.total()
    sure = search(index, Query("elephant"), EMBEDDER, reasoner, gate=MARGIN)
    assert (sure.gate, sure.used_tcot, sure.query_tcot) == ("plain", False, None)
    assert all(hit.without_reasoning for hit in sure.hits)
    assert reasoner.reasoned.total() == asked
    unsure = search(index, Query("letter"), EMBEDDER, reasoner, gate=MARGIN)
    assert (unsure.gate, unsure.used_tcot) == ("reasoned", True)
    assert not any(hit.without_reasoning for hit in unsure.hits)
    assert search(index, Query("elephant"), EMBEDDER, reasoner).gate is None
    assert search(index, Query("letter", use_tcot=False), EMBEDDER, reasoner, gate=MARGIN).gate is None


def test_a_gated_query_is_embedded_once_each_way(library: Path) -> None:
    """What the gate read was embedded again for the search."""
    reasoner, embedder = FakeReasoner(), FakeEmbedder()
    index = Index.open(library, embedder=embedder)
    ingest(library, index, reasoner, embedder)
    sure, unsure = Query("elephant"), Query("letter")
    search(index, sure, embedder, reasoner, gate=MARGIN)
    assert embedder.embedded[sure.item.key] == 1, "the plain vector that the gate read"
    search(index, unsure, embedder, reasoner, gate=MARGIN)
    assert embedder.embedded[unsure.item.key] == 2, "plain for the gate, and with its T-CoT"
    (library / "d.txt").write_text("another letter")
    ingest(library, index, None, embedder, think=False)
    mixed = Query("letters")
    assert search(index, mixed, embedder, reasoner, gate=MARGIN.at(1.0)).used_tcot
    assert embedder.embedded[mixed.item.key] == 2, "items without a T-CoT are compared by the same plain vector"


def test_the_server_shows_what_the_gate_decided(library: Path) -> None:
    with served(library, gate=MARGIN) as server:
        sure, unsure = (server.search(text=text, think=True) for text in ("elephant", "letter"))
        assert (sure["gate"], sure["think"], sure["hits"][0]["without_reasoning"]) == ("plain", False, True)
        assert (unsure["gate"], unsure["think"], unsure["hits"][0]["without_reasoning"]) == ("reasoned", True, False)


def test_a_gate_is_read_with_a_share_and_belongs_to_its_embedder(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    path.write_text(MARGIN.model_dump_json())
    assert read_gate(path, 0.25, EMBEDDER.fingerprint).share == 0.25
    with pytest.raises(ConfigError, match="fitted to the Embedder 'fake-embedder', not to 'other'"):
        read_gate(path, 0.25, "other")
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is no gate"):
        read_gate(path, 0.25, "other")


def test_the_dial_of_a_search_over_http(library: Path) -> None:
    with served(library, gate=MARGIN) as server:
        by_gate = {think: server.search(text="elephant", think=think) for think in ("never", "auto", "always", "true", "false")}
        assert {think: answer["gate"] for think, answer in by_gate.items()} == {
            "never": None,
            "auto": "plain",
            "always": None,
            "true": "plain",
            "false": None,
        }
        assert {think for think, answer in by_gate.items() if answer["think"]} == {"always"}
        assert server.search(text="elephant", think="auto", think_budget=1)["gate"] == "reasoned"
        assert server.search(text="letter", think="auto", think_budget=0)["gate"] == "plain"
        refused = server.client.post("/api/search", data={"text": "a", "think": "always", "think_budget": "0.5"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_gate_asked")
        status = server.client.get("/api/status").json()
        assert (status["gate"], status["gated"]) == (True, True)


def test_the_dial_of_a_question_over_http(library: Path) -> None:
    """`/v1/ask` reasoned always, whatever the server was set to."""
    with served(library, gate=MARGIN) as server:

        def ask(**fields: Any) -> Any:
            answer = server.client.post("/v1/ask", json={"question": "elephant", **fields})
            assert answer.status_code == 200, answer.text
            return answer.json()["gate"]

        thinks = ("never", "auto", "always", True, False, None)
        assert [ask(think=think) for think in thinks] == [None, "plain", None, "plain", None, "plain"]
        assert ask(think="auto", think_budget=1) == "reasoned"
        refused = server.client.post("/v1/ask", json={"question": "elephant", "think": "always", "think_budget": 0.5})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_gate_asked")
    with served(library, index=False) as server:
        refused = server.client.post("/v1/ask", json={"question": "elephant", "think": "auto"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_gate")


def test_a_server_without_a_gate_says_so(library: Path) -> None:
    with served(library) as server:
        for path in ("/api/search", "/api/search/stream"):
            refused = server.client.post(path, data={"text": "a", "think": "auto"})
            assert refused.status_code == 422
            assert "no gate for its Embedder" in refused.text
        assert server.search(text="elephant", think="always")["think"] is True
        assert server.client.get("/api/status").json()["gate"] is False


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (["--think", "a star"], ["--think=always", "a star"]),
        (["a star", "--think"], ["a star", "--think=always"]),
        (["--think", "auto", "a star"], ["--think=auto", "a star"]),
        (["--think=never", "--no-think"], ["--think=never", "--no-think=never"]),
        (["--", "--think", "auto"], ["--", "--think", "auto"]),
    ],
)
def test_think_takes_a_mode_or_stands_alone(given: list[str], parsed: list[str]) -> None:
    assert attach_values(given) == parsed


@pytest.mark.parametrize("command", [["search", "a star"], ["serve"]])
@pytest.mark.parametrize("value", ["auto", "always", "never", ""])
def test_no_think_takes_no_value(command: list[str], value: str) -> None:
    """`--no-think=auto` was taken as `--think auto`."""
    result = CliRunner().invoke(app, [*command, f"--no-think={value}"])
    assert result.exit_code == 2
    assert "--no-think takes no value" in result.output


def _search(library: Path, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["search", "elephant", "--index", str(library), "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_the_dial_on_the_command_line(library: Path, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["index", str(library), "--reasoner", "fake", "--embedder", "fake"], catch_exceptions=False)
    gate = tmp_path / "gate.json"
    gate.write_text(MARGIN.model_dump_json())
    assert _search(library)["used_tcot"] is True
    assert _search(library, "--think")["used_tcot"] is True
    assert _search(library, "--think", "always")["used_tcot"] is True
    assert _search(library, "--no-think")["used_tcot"] is False
    assert _search(library, "--think", "never")["used_tcot"] is False
    assert _search(library, "--gate", str(gate))["gate"] == "plain"
    gated = _search(library, "--think", "auto", "--gate", str(gate))
    assert gated["gate"] == "plain"
    assert all(hit["without_reasoning"] for hit in gated["hits"])
    assert _search(library, "--think", "auto", "--gate", str(gate), "--think-budget", "1")["gate"] == "reasoned"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--think", "auto"], "no gate for the Embedder 'fake'"),
        (["--think-budget", "0.5"], "no gate for the Embedder 'fake'"),
        (["--think", "always", "--gate", "gate.json"], "only with --think auto, not with --think always"),
        (["--no-think", "--think-budget", "0.5"], "only with --think auto, not with --think never"),
    ],
)
def test_a_dial_without_its_gate_is_refused(library: Path, options: list[str], message: str) -> None:
    CliRunner().invoke(app, ["index", str(library), "--reasoner", "fake", "--embedder", "fake"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, ["search", "elephant", "--index", str(library), *options], catch_exceptions=False)


def test_a_server_told_not_to_reason_loads_no_reasoner(library: Path) -> None:
    """`serve --no-think` on an index that was made with a Reasoner loaded it all the same."""
    CliRunner().invoke(app, ["index", str(library), "--reasoner", "fake", "--embedder", "fake"], catch_exceptions=False)
    with _serving(library, "--no-think") as url:
        assert httpx.get(f"{url}/api/status", timeout=60, trust_env=False).json()["think"] is False


@contextmanager
def _serving(library: Path, *options: str) -> Generator[str]:
    """Run `embedrl serve` in a process, and yield its URL."""
    command = "from embedrl.cli.main import main; main()"
    arguments = ["serve", "--index", str(library), "--port", "0", *options]
    with subprocess.Popen([sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            yield next(match[0] for line in server.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)


def _wait(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_a_server_reasons_about_new_files_as_the_index_was_made(library: Path, candidate_gate: LinearGate, tmp_path: Path) -> None:
    gate = tmp_path / "gate.json"
    _run("index", str(library), "--reasoner", "fake", "--embedder", "fake", "--think", "auto", "--gate", str(gate))
    reason = declined(candidate_gate.fingerprint)
    (library / "d.txt").write_text("a letter about another grocer")  # --think always reasons about it
    with _serving(library, "--watch") as url:
        _wait(lambda: len(found := _failures(Index.open(library))) == 4 and "not asked" not in found.values())
        searched = CliRunner().invoke(app, ["search", "elephant", "--index", str(library)])
        assert f"asked {url}/" in searched.stderr, "what is noted besides the models makes them no others"
        assert httpx.get(f"{url}/api/status", timeout=60, trust_env=False).json()["think"] is True
    failures = _failures(Index.open(library))
    assert failures == {"a.txt": "", "b.txt": reason, "c.txt": reason, "d.txt": reason}
    gate.unlink()
    with pytest.raises(ConfigError, match="is not there; put it back"):
        CliRunner().invoke(app, ["serve", "--index", str(library), "--port", "0"], catch_exceptions=False)


@pytest.fixture
def candidate_gate(library: Path, tmp_path: Path) -> LinearGate:
    """A gate that wants the letter about an elephant reasoned about, and nothing else; it lies in gate.json."""
    index = Index.open(library, embedder=EMBEDDER)
    ingest(library, index, None, EMBEDDER, think=False)
    [row] = [row for row in index.rows([place.key for place in index.places()]) if row.place.path.name == "a.txt"]
    shutil.rmtree(index.directory)
    weights = (*row.plain.astype(float).tolist(), 0.0, 0.0)
    gate = LinearGate(embedder=EMBEDDER.fingerprint, role="candidate", weights=weights, scores=(0.9, 0.9))
    (tmp_path / "gate.json").write_text(gate.model_dump_json())
    return gate


def _failures(index: Index) -> dict[str, str]:
    rows = index.rows([place.key for place in index.places()])
    return {row.place.path.name: row.tcot_failure or ("" if row.tcot_text else "not asked") for row in rows}


def test_an_index_reasons_where_the_gate_wants_it_and_keeps_what_it_decided(library: Path, candidate_gate: LinearGate) -> None:
    reasoner, embedder = FakeReasoner(), FakeEmbedder()
    index = Index.open(library, embedder=embedder)
    report = ingest(library, index, reasoner, embedder, gate=candidate_gate)
    assert (report.added, report.declined, report.without_tcot, report.tcots.made) == (3, 2, 2, 1)
    assert sorted(embedder.embedded.values()) == [1, 1, 2], "plain once each, and with its T-CoT what was reasoned about"
    reason = declined(candidate_gate.fingerprint)
    assert _failures(index) == {"a.txt": "", "b.txt": reason, "c.txt": reason}
    assert reasoner.reasoned.total() == 1
    hits = search(index, Query("a letter about an elephant"), embedder, reasoner).hits
    assert {hit.path.name: hit.tcot is not None for hit in hits} == {"a.txt": True, "b.txt": False, "c.txt": False}
    assert all(hit.tcot_failure == reason for hit in hits if hit.tcot is None), "each hit says so"
    plain = {row.place.path.name: row for row in index.rows([place.key for place in index.places()])}["b.txt"]
    assert plain.plain.tolist() == plain.tcot.tolist()


def test_what_a_gate_declined_stays_so_until_another_gate_or_always(library: Path, candidate_gate: LinearGate) -> None:
    reasoner = FakeReasoner()
    index = Index.open(library, embedder=EMBEDDER)

    def again(**options: Any) -> tuple[int, int]:
        report = ingest(library, index, reasoner, EMBEDDER, **options)
        return report.added, report.unchanged

    assert again(gate=candidate_gate) == (3, 0)
    assert again(gate=candidate_gate) == (0, 3), "nothing is decided twice"
    assert again() == (0, 3)
    assert again(retry_failed=True) == (0, 3), "it is no failure"
    assert again(gate=candidate_gate.at(0.0)) == (2, 1), "another share decides anew, and takes no T-CoT away"
    assert set(_failures(index).values()) == {"", declined(candidate_gate.at(0.0).fingerprint)}
    assert again(redo_declined=True) == (2, 1)
    assert set(_failures(index).values()) == {""}
    with pytest.raises(ConfigError, match="needs a Reasoner"):
        ingest(library, index, None, EMBEDDER, think=False, gate=candidate_gate)


def _run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_dial_of_the_command_index(library: Path, candidate_gate: LinearGate, tmp_path: Path) -> None:
    models = ("--reasoner", "fake", "--embedder", "fake")
    gate = str(tmp_path / "gate.json")
    assert _run("index", str(library), *models, "--think", "auto", "--gate", gate)["declined"] == 2
    assert _run("index", str(library))["added"] == 0, "as the index was built"
    (library / "d.txt").write_text("another letter")
    assert _run("index", str(library))["declined"] == 1, "auto and its gate are remembered"
    (library / "d.txt").unlink()
    noted = Index.open(library).model_names.gate
    assert _run("index", str(library), "--think-budget", "1")["added"] == 2, "a budget alone keeps the noted gate"
    assert Index.open(library).model_names.gate == noted.model_copy(update={"share": 1.0})
    assert _run("index", str(library), "--gate", gate, "--think-budget", "1")["added"] == 0, "a gate alone means auto"
    (library / "d.txt").write_text("another grocer")
    assert _run("index", str(library), "--no-think")["added"] == 1
    assert Index.open(library).model_names.gate is not None, "a run without a Reasoner forgets no gate"
    assert _run("index", str(library), "--think")["added"] == 1
    assert Index.open(library).model_names.gate is None, "always forgets it"


def test_a_gate_of_candidates_is_none_of_queries(library: Path, candidate_gate: LinearGate, tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    assert read_gate(path, 0.5, EMBEDDER.fingerprint, "candidate").role == "candidate"
    with pytest.raises(ConfigError, match="was fitted to candidates, and these are queries"):
        read_gate(path, 0.5, EMBEDDER.fingerprint)
    with pytest.raises(ConfigError, match="--write-candidates FILE"):
        CliRunner().invoke(
            app, ["index", str(library), "--reasoner", "fake", "--embedder", "fake", "--think", "auto"], catch_exceptions=False
        )
    with pytest.raises(ConfigError, match="not with --think never"):
        CliRunner().invoke(app, ["index", str(library), "--no-think", "--gate", str(path)], catch_exceptions=False)


def test_a_question_is_reasoned_about_before_its_search_where_the_gate_wants_it(library: Path, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["index", str(library), "--reasoner", "fake", "--embedder", "fake"], catch_exceptions=False)
    gate = tmp_path / "queries.json"
    gate.write_text(MARGIN.model_dump_json())
    asked = ["ask", "elephant", "--index", str(library)]
    assert _run(*asked)["gate"] is None
    assert _run(*asked, "--gate", str(gate))["gate"] == "plain"
    assert _run(*asked, "--think", "auto", "--gate", str(gate), "--think-budget", "1")["gate"] == "reasoned"
    assert _run(*asked, "--no-think")["gate"] is None


def test_the_tools_of_an_mcp_server_say_what_was_answered_without_reasoning(library: Path) -> None:
    pytest.importorskip("mcp")
    from mcp import Client

    from embedrl.integrations.mcp import make_mcp_server

    reasoner = FakeReasoner()
    index = Index.open(library, embedder=EMBEDDER)
    ingest(library, index, reasoner, EMBEDDER)

    async def call(server: Any, tool: str, arguments: dict[str, str]) -> Any:
        async with Client(server) as client:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            value = result.structured_content
            return value["result"] if set(value) == {"result"} else value

    for gate, said in ((MARGIN, True), (MARGIN.at(1.0), False), (None, False)):
        server = make_mcp_server(index, EMBEDDER, reasoner, gate)
        hits = asyncio.run(call(server, "search", {"query": "elephant"}))
        assert [hit.get("without_reasoning", False) for hit in hits] == [said] * 3
    server = make_mcp_server(index, EMBEDDER, reasoner, MARGIN)
    assert asyncio.run(call(server, "ask", {"question": "elephant"}))["gate"] == "plain"


def test_a_gate_reads_the_spread_of_the_hits_the_instruction_and_the_length_by_hand() -> None:
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    five, ten, twenty, entropy, length = spread_of(ITEM, scores)
    assert (five, ten, twenty, length) == pytest.approx((0.4, 0.5, 0.5, 0.2)), "of fewer than 10 hits, the last"
    chances = np.exp((np.array(scores) - 0.9) / 0.02) / np.exp((np.array(scores) - 0.9) / 0.02).sum()
    assert entropy == pytest.approx(-(chances * np.log(chances)).sum())
    assert spread_of(ITEM, [0.9]) == pytest.approx((0, 0, 0, 0, 0.2), abs=1e-9)
    assert spread_of(ITEM, []) == pytest.approx((0, 0, 0, 0, 0.2), abs=1e-9)
    gate = MARGIN.model_copy(update={"spread": (1.0, 0.0, 0.0, 0.0, 10.0), "instructions": {ITEM.instruction: 100.0, "other": 7.0}})
    plain = np.zeros(64, np.float32)
    assert gate.score(ITEM, plain, scores) == pytest.approx(-0.1 + 0.4 + 2.0 + 100.0)
    assert MARGIN.score(ITEM, plain, scores) == pytest.approx(-0.1), "without weights they are not read"


def test_a_gate_with_a_part_of_its_weights_is_refused():
    for wrong in ({"spread": (1.0,)}, {"role": "candidate", "instructions": {"Find a cat.": 1.0}}):
        with pytest.raises(ValueError, match="spread"):
            LinearGate.model_validate({**MARGIN.model_dump(), **wrong})


def test_the_gate_of_the_embedder_that_sees_is_found_in_its_folder() -> None:
    """A gate beside the weights made the folder another Embedder than the one that it names, so that none was ever taken."""
    path = gate_beside("nano-sharp")
    assert path is not None
    embedder = load_embedder("nano-sharp")
    gate = read_gate(path, 0.5, embedder.fingerprint)
    assert gate.costs
    assert gate.at(0.25).threshold > gate.at(0.75).threshold


@pytest.mark.parametrize("name", ["gate.json", "gate-candidates.json"])
def test_a_gate_in_the_folder_is_no_part_of_the_model(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(shipped("embedder")["nano"], tmp_path / "model")
    before = model_fingerprint(folder)
    (folder / name).write_text("{}", "utf-8")
    assert model_fingerprint(folder) == before
    (folder / "other.json").write_text("{}", "utf-8")
    assert model_fingerprint(folder) != before

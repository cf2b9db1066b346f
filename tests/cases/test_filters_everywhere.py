"""Conditions that `search` knew and other ways of asking did not: `ask` had no camera and no area, MCP tools no date (issue 25)."""

import asyncio
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

from embedrl.cli.ask import ask_index
from embedrl.cli.main import app
from embedrl.cli.search import search_index, similar_items
from embedrl.index.filter import read_filter
from embedrl.index.index import Index
from embedrl.index.location import INDEX_NAME
from embedrl.index.model_names import ModelNames
from embedrl.server.ask_routes import Question
from embedrl.server.client import filter_fields
from embedrl.server.running import Announced
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.served import served

CONDITIONS = {"modality", "under", "since", "until", "words", "camera", "area"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two indexed photos: a red one of a Canon in 2019, a blue one of a Nikon in 2021."""
    folder = tmp_path_factory.mktemp("photos")
    for colour, camera, taken in (("red", "Canon EOS 80D", "2019:07:01 12:00:00"), ("blue", "Nikon Z6", "2021:07:01 12:00:00")):
        exif = PIL.Image.Exif()
        exif[0x0110] = camera
        exif.get_ifd(0x8769)[0x9003] = taken
        PIL.Image.new("RGB", (48, 48), colour).save(folder / f"{colour}.jpg", exif=exif)
    assert CliRunner().invoke(app, ["index", str(folder), "--reasoner", "fake", "--embedder", "fake"]).exit_code == 0
    return folder


@pytest.mark.parametrize("command", [search_index, similar_items, ask_index])
def test_commands_have_every_condition(command: Callable[..., None]):
    assert set(inspect.signature(command).parameters) >= CONDITIONS


def test_questions_over_http_have_every_condition():
    assert Question.model_fields.keys() >= CONDITIONS


def _cited(library: Path, *options: str) -> tuple[set[str], str]:
    result = CliRunner().invoke(app, ["ask", "red or blue", "--min-support", "0", "--index", str(library), "--json", *options])
    assert result.exit_code in (0, 1), result.output
    return {citation["path"] for citation in json.loads(result.stdout)["citations"]}, result.stderr


NARROWED = [
    (("--camera", "nikon"), {"blue.jpg"}),
    (("--since", "2021-01-01"), {"blue.jpg"}),
    (("--until", "2021-01-01"), {"red.jpg"}),
    (("--area", "48.86,2.29,5"), set()),
    (("--modality", "video"), set()),
]


@pytest.mark.parametrize(("options", "expected"), NARROWED)
def test_a_question_is_answered_from_what_meets_the_conditions(library: Path, options: tuple[str, ...], expected: set[str]):
    assert _cited(library, *options)[0] == expected


def test_a_running_server_is_asked_with_the_conditions(library: Path):
    with served(library, index=False) as server:
        announced = Announced(library / INDEX_NAME, "127.0.0.1", int(server.url.rpartition(":")[2]), ModelNames.of("fake", "fake"))
        for options, expected in NARROWED[:2]:
            paths, said = _cited(library, *options)
            assert f"asked {server.url}" in said
            assert paths == expected
        announced.close()


def test_conditions_survive_the_way_to_the_server():
    chosen = read_filter(["image", "page"], "trips", "2020-01-02T03:04:05", "2021-01-01", "red star", "canon", "48.85,2.29,5")
    assert read_filter(**filter_fields(chosen)) == chosen


@pytest.mark.parametrize("conditions", [{"until": "9999-12-31"}, {"since": "0001-01-01T00:00:00+14:00"}])
def test_the_ends_of_the_calendar_reach_the_server(conditions: dict[str, str]):
    sent = filter_fields(read_filter(**conditions))
    assert sent.keys() == conditions.keys()
    read_filter(**sent)


def test_tools_of_an_mcp_server_have_every_condition(library: Path):
    pytest.importorskip("mcp")
    from mcp import Client

    from embedrl.integrations.mcp import make_mcp_server

    embedder = FakeEmbedder()
    index = Index.open(library, embedder=embedder)

    async def talk() -> None:
        async with Client(make_mcp_server(index, embedder, FakeReasoner())) as client:
            schemas = {tool.name: tool.input_schema["properties"] for tool in (await client.list_tools()).tools}
            assert schemas["search"].keys() >= CONDITIONS
            assert schemas["ask"].keys() >= CONDITIONS
            found = await client.call_tool("search", {"query": "photo", "camera": "canon", "until": "2020-01-01"})
            assert [hit["path"] for hit in found.structured_content["result"]] == ["red.jpg"]
            assert (await client.call_tool("ask", {"question": "red?", "since": "never"})).is_error

    asyncio.run(talk())

"""LangChain, LlamaIndex and MCP, each with the client of the real package. Where a package is not installed, its tests are skipped."""

import asyncio
import importlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from embedrl.errors import ConfigError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.model_names import ModelNames
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import make_folder

NOT_THERE = "not installed: it comes with the development set-up, or with the extra of this integration"


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is {NOT_THERE}")


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, Index, FakeEmbedder, FakeReasoner]:
    folder = make_folder(tmp_path / "library")
    reasoner, embedder = FakeReasoner(), FakeEmbedder()
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, reasoner, embedder)
    return folder, index, embedder, reasoner


@pytest.mark.parametrize(("module", "package"), [("langchain", "langchain_core"), ("llama_index", "llama_index"), ("mcp", "mcp")])
def test_a_missing_extra_is_named(module: str, package: str, monkeypatch: pytest.MonkeyPatch):
    for imported in [name for name in sys.modules if name.split(".")[0] == package]:  # a submodule is found without its package
        monkeypatch.delitem(sys.modules, imported)
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, f"embedrl.integrations.{module}", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'embedrl\["):
        importlib.import_module(f"embedrl.integrations.{module}")


@needs("langchain_core")
def test_langchain(filled: tuple[Path, Index, FakeEmbedder, FakeReasoner]):
    from embedrl.integrations.langchain import EmbedRLEmbeddings, EmbedRLRetriever

    folder, index, embedder, reasoner = filled
    documents = EmbedRLRetriever(index=index, embedder=embedder, reasoner=reasoner, limit=3).invoke("something red")
    assert len(documents) == 3
    assert "red" in documents[0].page_content
    assert Path(documents[0].metadata["source"]).is_relative_to(folder.resolve())
    named = EmbedRLRetriever.open(folder, embedder="fake", reasoner="fake", limit=3).invoke("something red")
    assert [document.id for document in named] == [document.id for document in documents]
    vectors = EmbedRLEmbeddings("fake").embed_documents(["red", "blue"])
    assert [len(vector) for vector in vectors] == [embedder.dim] * 2
    assert len(EmbedRLEmbeddings(embedder).embed_query("red")) == embedder.dim
    assert EmbedRLEmbeddings(embedder).embed_documents([]) == []


@needs("llama_index")
def test_llama_index(filled: tuple[Path, Index, FakeEmbedder, FakeReasoner]):
    from embedrl.integrations.llama_index import EmbedRLEmbedding, EmbedRLRetriever

    folder, index, embedder, reasoner = filled
    nodes = EmbedRLRetriever(index, embedder, reasoner, limit=3).retrieve("something red")
    assert len(nodes) == 3
    assert "red" in nodes[0].node.get_content()
    assert nodes[0].score >= nodes[1].score
    assert Path(nodes[0].node.metadata["source"]).is_relative_to(folder.resolve())
    model = EmbedRLEmbedding("fake")
    assert len(model.get_query_embedding("red")) == embedder.dim
    assert [len(vector) for vector in model.get_text_embedding_batch(["red", "blue"])] == [embedder.dim] * 2


@needs("mcp")
def test_mcp_tools_through_a_client(filled: tuple[Path, Index, FakeEmbedder, FakeReasoner]):
    from mcp import Client

    from embedrl.integrations.mcp import make_mcp_server

    folder, index, embedder, reasoner = filled
    outside = folder.parent / "outside.txt"
    outside.write_text("a red secret")

    async def talk() -> None:
        async with Client(make_mcp_server(index, embedder, reasoner)) as client:
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == {"search", "similar", "get_evidence", "ask"}
            assert all(tool.annotations.read_only_hint for tool in tools)
            found = read(await client.call_tool("search", {"query": "something red", "limit": 3}))
            assert len(found) == 3
            near = read(await client.call_tool("similar", {"keys": [found[0]["key"]]}))
            assert found[0]["key"] not in [hit["key"] for hit in near]
            seen = read(await client.call_tool("get_evidence", {"key": found[0]["key"][:12]}))
            assert seen["evidence"] is not None
            answer = read(await client.call_tool("ask", {"question": "Where is the giraffe?"}))
            assert answer["citations"] == []
            assert (await client.call_tool("search", {"query": "x", "limit": 1000})).is_error
            assert (await client.call_tool("get_evidence", {"key": "ffffffffffff"})).is_error

    def read(result):
        assert not result.is_error, result.content
        value = result.structured_content
        return value["result"] if isinstance(value, dict) and set(value) == {"result"} else value

    asyncio.run(talk())


@needs("mcp")
@pytest.mark.slow
def test_mcp_over_stdio(filled: tuple[Path, Index, FakeEmbedder, FakeReasoner]):
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    arguments = ["-m", "embedrl.cli.main", "mcp", "--index", str(filled[0]), "--embedder", "fake", "--reasoner", "fake"]
    server = StdioServerParameters(
        command=sys.executable, args=arguments, env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    )

    async def talk() -> None:
        async with Client(stdio_client(server)) as client:
            result = await client.call_tool("search", {"query": "something red", "limit": 1})
            assert "red" in json.dumps(result.structured_content)

    asyncio.run(talk())


@needs("langchain_core")
def test_langchain_opens_an_index_with_the_models_that_it_remembers(filled: tuple[Path, Index, FakeEmbedder, FakeReasoner]):
    from embedrl.integrations.langchain import EmbedRLRetriever

    folder, index, *_ = filled
    index.note_models(ModelNames(reasoner="fake", embedder="fake"))
    assert isinstance(EmbedRLRetriever.open(folder).reasoner, FakeReasoner)
    assert EmbedRLRetriever.open(folder, think=False).reasoner is None

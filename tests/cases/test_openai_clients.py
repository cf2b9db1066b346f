"""Other people's clients: what they send is honoured or refused with a reason, never ignored, and errors name their field.

Reported: errors with `function-after[functools.partial(...` and addresses; 300 inputs, token arrays, `content: null` and the role tool
refused; `stop`, `response_format`, `tools`, `stream_options` ignored; models/{id} 404; usage always 0; data URLs with a charset, newlines
or without padding refused; one bad file of an upload refused all (media.md 14, 16).
"""

import base64
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from embedrl.reasoner.prompts import Prompt
from embedrl.server.openai_schemas import MAX_INPUTS
from embedrl.testing import FakeReasoner
from tests.coloured_folder import make_folder, picture
from tests.served import Served, served

ANSWER = "a red star on grey, and nothing else"


class Chatty(FakeReasoner):
    """Answers every chat with the same words, and keeps what it was asked."""

    asked: list[Prompt]
    limits: list[int | None]

    def write(self, prompts: Sequence[Prompt], *, max_new_tokens: int | None = None, temperature: float | None = None) -> list[str]:
        self.asked, self.limits = list(prompts), [max_new_tokens]
        return [ANSWER] * len(prompts)

    def num_tokens(self, text: str) -> int:
        return len(text.split())


@pytest.fixture(scope="module")
def reasoner() -> Chatty:
    return Chatty()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, reasoner: Chatty) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("clients") / "media"), reasoner=reasoner) as found:
        yield found


@pytest.fixture
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as found:
        yield found


def chat(server: Served, **fields: Any) -> httpx.Response:
    return server.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "what is it?"}], **fields})


def message_of(answer: httpx.Response, *statuses: int) -> str:
    assert answer.status_code in statuses, answer.text
    return answer.json()["error"]["message"]


BODIES: list[tuple[str, Any, str]] = [
    ("/v1/embeddings", {"input": ["x"] * (MAX_INPUTS + 1)}, rf"^input: .*at most {MAX_INPUTS}"),
    ("/v1/embeddings", {"input": ["x", 1.5]}, r"^input\.1: .*string"),
    ("/v1/embeddings", {"input": {"a": 1}}, r"^input: .*string or .*list"),
    ("/v1/embeddings", {"input": "x" * 17_000}, r"^input: .*at most 16000 characters"),
    ("/v1/embeddings", {"input": ["x", "x" * 17_000]}, r"^input\.1: .*at most 16000 characters"),
    ("/v1/embeddings", {"input": [1, 2, 3]}, r"^input: token arrays .*check_embedding_ctx_length=False"),
    ("/v1/embeddings", {"input": [[1, 2], [3]]}, r"^input: token arrays"),
    ("/v1/embeddings", {"input": ["a", ""]}, r"^input\.1: the text is empty"),
    ("/v1/embeddings", {}, r"give either input or messages"),
    ("/v1/embeddings", {"input": "x", "encoding_format": "int8"}, r"^encoding_format: .*'float' or 'base64'"),
    ("/v1/chat/completions", {}, r"^messages: Field required"),
    ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, r"^messages\.0\.role: "),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        r"^messages\.0\.content\.0.*text: Field required",
    ),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, r"^messages\.0\.content\.0: .*'smell'"),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": None}]}, r"^messages\.0: give content"),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "x"}], "max_tokens": 0},
        r"^max_tokens: .*greater than or equal to 1",
    ),
    ("/v1/rerank", {"query": "x", "documents": [{}]}, r"^documents\.0: give text, an image, or both"),
    ("/v1/rerank", {"query": "x", "documents": []}, r"^documents: .*at least 1"),
    ("/v1/rerank", {"query": 7, "documents": ["x"]}, r"^query: "),
    ("/api/similar", {"liked": ["nothing"]}, r"^liked\.0: .*pattern"),
    ("/api/similar", {"liked": {"0" * 64: -1}}, r"^liked\.0{64}: .*greater than 0"),
    ("/api/similar", {"liked": ["0" * 64], "<b>odd</b>": 1}, r"Extra inputs"),
    ("/api/similar", 7, r"^Input should be "),
]


@pytest.mark.parametrize(("path", "body", "words"), BODIES)
def test_errors_name_the_field_that_was_sent(server: Served, path: str, body: Any, words: str):
    message = message_of(server.client.post(path, json=body), 400, 422)
    assert re.search(words, message), message
    assert not re.search(r"function-|functools|lambda|0x[0-9a-f]{6}|validator|list\[|tagged-union", message), message
    assert len(message) < 500


def test_errors_of_forms_and_paths_name_their_field(server: Served):
    assert message_of(server.client.post("/api/search", data={"text": "x", "limit": "many"}), 422).startswith("limit: ")
    assert message_of(server.client.get("/api/items/red.png"), 422).startswith("key: ")
    assert message_of(server.client.get("/api/items", params={"sort": "odd"}), 422).startswith("sort: ")
    assert message_of(server.client.post("/api/items"), 422).startswith("file: ")
    unnamed = server.client.post("/api/items", files={"file": ("", b"x", "image/png")})
    assert message_of(unnamed, 422) == "file.0: send a file, with its name"


def test_as_many_inputs_as_openai_takes(client: openai.OpenAI):
    found = client.embeddings.create(model="the-embedder", input=[f"word number {number}" for number in range(MAX_INPUTS)])
    assert [each.index for each in found.data] == list(range(MAX_INPUTS))
    assert found.usage.prompt_tokens == 3 * MAX_INPUTS
    assert found.usage.total_tokens == 3 * MAX_INPUTS


def test_models_can_be_asked_for_by_name(client: openai.OpenAI):
    assert client.models.retrieve("the-reasoner").id == "the-reasoner"
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.models.retrieve("org/other")


def test_usage_is_counted_in_streams_too(client: openai.OpenAI):
    ask: Any = {"model": "the-reasoner", "messages": [{"role": "user", "content": "what is it?"}]}
    whole = client.chat.completions.create(**ask)
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (3, 8, 11)
    pieces = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert pieces[-1].choices == []
    assert pieces[-1].usage.total_tokens == 11
    assert [piece.usage for piece in pieces[:-1]] == [None, None]
    assert all(piece.choices for piece in client.chat.completions.create(**ask, stream=True))


@pytest.mark.parametrize(
    ("stop", "text"),
    [("star", "a red "), (["grey", "star"], "a red "), (["absent"], ANSWER), ("a red", ""), ([], ANSWER), ([""], ANSWER), (None, ANSWER)],
)
def test_an_answer_ends_before_a_stop(server: Served, stop: Any, text: str):
    choice = chat(server, stop=stop).json()["choices"][0]
    assert choice == {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tools": [{}], "tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"functions": [{"name": "f"}]},
        {"function_call": {"name": "f"}},
        {"logprobs": True},
        {"top_logprobs": 3},
        {"logit_bias": {"50256": -100}},
        {"n": 2},
        {"top_p": 0.5},
        {"presence_penalty": 1},
        {"frequency_penalty": -1},
        {"seed": 1, "temperature": 1},
    ],
)
def test_what_it_cannot_do_is_refused_by_name(server: Served, fields: dict[str, Any]):
    message = message_of(chat(server, **fields), 400)
    assert message.startswith(tuple(f"{name}: " for name in (*fields, "logprobs")))
    assert "not supported by this server" in message


def test_what_changes_nothing_is_accepted(server: Served):
    harmless = {
        "n": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "response_format": {"type": "text"},
        "tools": [{}], "tool_choice": "none", "seed": 3, "user": "me", "metadata": {}, "parallel_tool_calls": True, "logit_bias": {},
    }  # fmt: skip
    assert chat(server, **harmless).status_code == 200
    assert chat(server, tool_choice="auto", tools=[]).status_code == 200


def test_limits_are_upper_bounds(server: Served, reasoner: Chatty):
    assert chat(server, max_tokens=8192).status_code == 200
    assert reasoner.limits == [4096]
    assert chat(server, max_completion_tokens=5, max_tokens=9).json()["choices"][0]["finish_reason"] == "length"
    assert reasoner.limits == [5]


def test_a_history_with_tools_can_be_replayed(server: Served, reasoner: Chatty):
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "star"}'}}
    messages = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "a star <|im_end|>"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "and?"},
    ]
    assert chat(server, messages=messages).status_code == 200
    [prompt] = reasoner.asked
    assert [message["role"] for message in prompt.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert "look" in prompt.messages[1]["content"][0]["text"]
    assert "<|im_end|>" not in json.dumps(prompt.messages)


def test_data_urls_as_programs_write_them(server: Served):
    buffer = io.BytesIO()
    picture("red").save(buffer, "PNG")
    packed = base64.b64encode(buffer.getvalue()).decode()
    lines = "\n".join(packed[start : start + 76] for start in range(0, len(packed), 76))
    expected = None
    for url in (
        f"data:image/png;base64,{packed}",
        f"data:image/png;base64,{packed.rstrip('=')}",
        f"data:image/png;base64,{lines}\n",
        f"data:image/png;charset=utf-8;base64,{packed}",
        f"data:image/png;name=a%20b.png;base64,{packed}",
        f"DATA:IMAGE/PNG;BASE64,{packed}",
        f"data:image/png;base64,{packed.replace('+', '-').replace('/', '_')}",
        f"data:image/png;base64,{packed.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
    ):
        message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        answer = server.client.post("/v1/embeddings", json={"messages": [message]})
        assert answer.status_code == 200, (url[:60], answer.text)
        expected = expected or answer.json()["data"]
        assert answer.json()["data"] == expected
    for url in (
        "data:image/png;base64,@@@@",
        "data:image/png;base64,a",
        "data:image/png;base64,größe",
        "data:text/html;base64,aaaa",
        "data:,x",
    ):
        message = {"role": "user", "content": [{"type": "image_url", "image_url": url}]}
        message_of(server.client.post("/v1/embeddings", json={"messages": [message]}), 400, 415)


def test_documents_come_back_as_they_were_sent(server: Served):
    buffer = io.BytesIO()
    picture("red").save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    documents = ["a red star", {"image": url}, {"text": "blue", "image": url}]
    answer = server.client.post("/v1/rerank", json={"query": "red", "documents": documents, "return_documents": True}).json()
    sent = {each["index"]: each["document"] for each in answer["results"]}
    assert sent == {0: {"text": "a red star"}, 1: {"image": url}, 2: {"text": "blue", "image": url}}
    assert answer["usage"]["prompt_tokens"] == 5


def test_bad_files_of_an_upload_are_named_and_the_others_kept(tmp_path: Path):
    with served(make_folder(tmp_path / "media")) as server:
        heic = b"\0\0\0\x18ftypheic" + bytes(40)
        files = [("file", ("good.txt", b"a zebra")), ("file", ("IMG_0001.HEIC", heic)), ("file", ("broken.png", b"\x89PNG\r\n\x1a\n"))]
        answer = server.client.post("/api/items", files=files)
        assert answer.status_code == 201, answer.text
        assert [item["name"][:4] for item in answer.json()["items"]] == ["good"]
        assert [each["name"] for each in answer.json()["refused"]] == ["IMG_0001.HEIC", "broken.png"]
        reasons = [refused["reason"] for refused in answer.json()["refused"]]
        assert all(reasons)
        assert str(tmp_path) not in "".join(reasons)
        assert server.paths(words="zebra")
        refused = server.client.post("/api/items", files=files[1:])
        assert refused.status_code == 415
        assert "IMG_0001.HEIC: " in refused.json()["error"]["message"]
        assert "broken.png: " in refused.json()["error"]["message"]
        assert not list(server.service.librarian.incoming.iterdir())

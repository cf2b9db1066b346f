"""A server Reasoner survives what servers do: thinking models, cut answers, other addresses, proxies, errors inside a 200, endless answers.

Reported: models.md F5 and F15, attack.md 11; https://github.com/vllm-project/vllm/issues/17349 (answers filed as reasoning),
https://github.com/QuantumNous/new-api/issues/853 (base URLs with /v4), https://github.com/MoonshotAI/kimi-cli/issues/404 (socks proxies).
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from embedrl.cli.main import main
from embedrl.data.protocols import Refusal, Unanswered
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, render
from embedrl.errors import ConfigError, ModelError
from embedrl.media.content import Image, Text
from embedrl.models import server_answers
from embedrl.models.server_answers import ServerFailure
from embedrl.models.server_name import add_options, read_server_name
from embedrl.reasoner.chat_client import Reply
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import Prompt
from embedrl.reasoner.remote import ChatServer, RemoteReasoner
from embedrl.runtime.names import load_reasoner, shipped
from tests.chat_server import Answer, ScriptedServer, chat_server, completion
from tests.served import served

GOOD = TCoT(thinking="Two words.", rethink="Yes.", answer="a red card")
DRAFT = render(TCoT(thinking="A draft.", rethink="No.", answer="DRAFT"))
TEXT = render(GOOD)
THOUGHT = f"<think>\nI must write <thinking> then <rethink> then <answer>. Maybe {DRAFT} or so.\n</think>\n\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with chat_server() as running:
        yield running


def reasoner_of(server: ScriptedServer, **options: Any) -> RemoteReasoner:
    return RemoteReasoner(ChatServer(server.url, "m", backoff_s=0.001, num_retries=1), prompts="nano", **options)


def item(text: str = "a red card") -> Item:
    return Item(content=(Text(text=text),), role=Role.TARGET_TEXT)


def message(finish_reason: str = "stop", **fields: Any) -> dict[str, Any]:
    body = completion("", finish_reason=finish_reason)
    body["choices"][0]["message"] = {"role": "assistant", **fields}
    return body


@pytest.mark.parametrize(
    "fields",
    [
        {"content": TEXT},
        {"content": TEXT, "reasoning": THOUGHT},
        {"content": TEXT, "reasoning_content": DRAFT},
        {"content": THOUGHT + TEXT},
        {"content": THOUGHT.removeprefix("<think>") + TEXT},
        {"content": "x" * 30_000 + "</think>" + TEXT},
        {"content": [{"type": "text", "text": TEXT}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}, {"type": "text", "text": TEXT}]},
        {"content": [{"type": "output_text", "text": TEXT[:30]}, {"type": "output_text", "text": TEXT[30:]}]},
        {"content": [TEXT]},
        {"content": None, "reasoning_content": TEXT},
        {"content": "", "reasoning": f"\n{TEXT}\n"},
        {"content": " \n", "reasoning": None, "reasoning_content": TEXT, "tool_calls": []},
        {"content": {"type": "text", "text": TEXT}},
        {"content": [None, {"type": None, "text": TEXT}]},
        {"content": TEXT, "reasoning": {"content": DRAFT}, "reasoning_content": [], "refusal": False},
    ],
)
def test_the_answer_is_found_wherever_a_server_files_it(server: ScriptedServer, fields: dict[str, Any]):
    server.otherwise = Answer(message(**fields))
    assert reasoner_of(server).reason([item()]) == [GOOD]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (message(content=THOUGHT), FailureReason.EMPTY),
        (message(content=f"<think>\n{DRAFT} is not enough"), FailureReason.EMPTY),
        (message(content=None, reasoning_content=f"First {DRAFT} Then I was done."), FailureReason.EMPTY),
        (message(content=None), FailureReason.EMPTY),
        (message("length", content=f"<think>\n{DRAFT} and"), FailureReason.TRUNCATED),
        (message("length", content=None, reasoning_content="I must write <thinking>"), FailureReason.TRUNCATED),
        (message("length", content=""), FailureReason.TRUNCATED),
        (message("length", content="Let me see"), FailureReason.TRUNCATED),
        (message("length", content=TEXT.partition("<answer>")[0]), FailureReason.TRUNCATED),
        (message("model_length", content="Let me see"), FailureReason.TRUNCATED),
        (message("MAX_TOKENS", content=None), FailureReason.TRUNCATED),
        (message(content="Let me see"), FailureReason.MISSING_THINKING),
    ],
)
def test_a_draft_is_no_answer_and_a_cut_answer_says_so(server: ScriptedServer, body: dict[str, Any], reason: FailureReason):
    server.otherwise = Answer(body)
    (outcome,) = reasoner_of(server).reason([item()])
    assert isinstance(outcome, ParseFailure)
    assert outcome.reason == reason


def test_an_answer_that_is_whole_counts_although_the_limit_came_right_behind_it(server: ScriptedServer):
    server.otherwise = Answer(message("length", content=TEXT))
    assert reasoner_of(server).reason([item()]) == [GOOD]


@pytest.mark.parametrize(
    "body",
    [
        message("content_filter", content=None),
        message("content_filter", content="<thinking> A red"),
        message("sensitive", content=""),
        message(content=None, refusal="I can't look at that."),
    ],
)
def test_an_answer_that_a_filter_took_is_refused_for_this_item(server: ScriptedServer, body: dict[str, Any]):
    server.otherwise = Answer(body)
    with pytest.raises(Refusal, match="refused") as raised:
        reasoner_of(server).reason([item()])
    assert raised.value.about_item


@pytest.mark.parametrize("finish_reason", ["error", "abort", "network_error"])
def test_an_answer_that_the_server_broke_off_is_asked_for_again_by_the_next_run(server: ScriptedServer, finish_reason: str):
    server.otherwise = Answer(message(finish_reason, content="<thinking> A red"))
    with pytest.raises(Refusal, match="broke off") as raised:
        reasoner_of(server).reason([item()])
    assert raised.value.reason == "transport"


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + json.dumps(message(content=TEXT)).encode(),
        json.dumps(message(content=TEXT) | {"usage": "n/a"}).encode(),
        json.dumps(message(content=TEXT) | {"usage": {"prompt_tokens": 1.5, "completion_tokens": None}}).encode(),
        json.dumps(message(content=TEXT)).replace('"stop"', '{"type": "stop"}').encode(),
    ],
)
def test_what_stands_beside_an_answer_does_not_cost_it(server: ScriptedServer, body: bytes):
    server.otherwise = Answer(body)
    assert reasoner_of(server).reason([item()]) == [GOOD]


@pytest.mark.parametrize("half", [b"\\ud83d", b"\xe9"])
def test_half_a_character_of_a_server_is_replaced(server: ScriptedServer, half: bytes):
    server.otherwise = Answer(json.dumps(message(content=f"{TEXT} @")).encode().replace(b"@", half))
    assert reasoner_of(server).reason([item()]) == [GOOD]


def test_a_judge_that_thinks_is_given_room_for_it(server: ScriptedServer):
    server.otherwise = Answer(message("length", content=None, reasoning_content="Hm"))
    judge = reasoner_of(server, max_new_tokens=77)
    assert judge.match([(GOOD, GOOD)]) == [None]
    assert [body["max_tokens"] for body in server.asked] == [8, 77]
    (text,) = server.tries
    server.tries.clear()
    server.script(text, Answer(message("length", content="<think>")), Answer(message(content="<think>\nno?\n</think>\n\nyes")))
    assert judge.match([(GOOD, GOOD)]) == [True]


ROOTS = {
    "http://host:8000": "http://host:8000/v1",
    "http://host:8000/": "http://host:8000/v1",
    "http://host:8000/v1": "http://host:8000/v1",
    "http://host:8000/v1/": "http://host:8000/v1",
    "http://host/api/v3": "http://host/api/v3",
    "https://open.bigmodel.cn/api/paas/v4/": "https://open.bigmodel.cn/api/paas/v4",
    "https://host/v1beta/openai": "https://host/v1beta/openai",
    "https://host/v1beta/openai/": "https://host/v1beta/openai",
    "https://host/openai/v1": "https://host/openai/v1",
    "http://host/prefix": "http://host/prefix/v1",
    "http://host/v1/chat/completions": "http://host/v1",
    "http://host/api/paas/v4/chat/completions/": "http://host/api/paas/v4",
    "https://host/chat/completions": "https://host",
    "https://host/v1/completions": "https://host/v1",
    " http://[::1]:8000/v1 ": "http://[::1]:8000/v1",
}


@pytest.mark.parametrize("url", ROOTS)
def test_any_base_url_that_providers_document_is_taken(url: str):
    assert ChatServer(url, "m").root == ROOTS[url]


@pytest.mark.parametrize("url", ["http://xn--/v1", "http://host:99999/v1", "http://host:port/v1", "host:8000/v1", "http:///v1"])
def test_an_address_that_cannot_be_one_is_refused_before_it_is_asked(url: str):
    with pytest.raises(ConfigError, match=r"is not a URL|port 99999 is above 65535|give a server as"):
        ChatServer(url, "m")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:1080"),
        ("all_proxy", "socks5://127.0.0.1:1080"),
        ("HTTPS_PROXY", "nonsense://x"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("no_proxy", "[::1"),
    ],
)
def test_a_broken_environment_is_a_model_error_and_does_not_concern_this_machine(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=f"cannot be asked with .*{name}"):
        load_reasoner("https://elsewhere.invalid/v1#m")
    server.otherwise = Answer(completion(TEXT))
    for host in ("127.0.0.1", "localhost"):
        near = load_reasoner(server.url.replace("127.0.0.1", host) + "/v1#m")
        assert near.reason([item()]) == [GOOD], "this machine is reached without a proxy"


def complete(server: ScriptedServer, text: str = "hello", **options: Any) -> Reply | ServerFailure:
    prompt = Prompt([{"role": "user", "content": [{"type": "text", "text": text}]}])
    (outcome,) = ChatServer(server.url, "m", backoff_s=0.001, num_retries=2, **options).complete([prompt], max_tokens=16)
    return outcome


@pytest.mark.parametrize(
    ("answer", "tries", "begins"),
    [
        (Answer(b"slow", status=408), 3, "transport: 408: slow"),
        (Answer(b"busy", status=409), 3, "transport: 409: busy"),
        (Answer({"error": {"code": 429, "message": "slow down"}}), 3, "transport: 429: slow down"),
        (Answer({"error": {"code": "503", "message": "no provider"}}), 3, "transport: 503: no provider"),
        (Answer({"error": {"code": 401, "message": "no such key"}}), 1, "refused: 401: no such key"),
        (Answer({"error": "context length exceeded", "choices": []}), 1, "refused: error: context length exceeded"),
        (Answer({"choices": [{"error": {"code": 502, "message": "gone"}, "finish_reason": "error"}]}), 3, "transport: 502: gone"),
        (Answer({"error": {"message": "odd", "code": "invalid_request"}}), 1, "refused: error: odd"),
        (Answer({"error": None} | completion("hi")), 1, "hi"),
        (Answer({"error": {}} | completion("hi")), 1, "hi"),
        (Answer(completion('say "error"')), 1, 'say "error"'),
        (Answer(b'{"error": ' * 20_000), 1, "malformed"),
        (Answer({"error": {"code": 501, "message": "no chat here"}}, status=501), 1, "refused: 501: "),
        (Answer(b"\x1b\0", status=503, headers={"Content-Encoding": "br"}), 3, "transport: 503: an answer packed as 'br'"),
        (Answer(b"", status=307, headers={"Location": "/v2/chat"}), 1, "refused: 307: redirects to '/v2/chat'"),
    ],
)
def test_every_status_is_what_it_says_also_inside_a_200(server: ScriptedServer, answer: Answer, tries: int, begins: str):
    server.otherwise = answer
    outcome = complete(server)
    said = outcome.text if isinstance(outcome, Reply) else f"{outcome.reason}: {outcome.text}"
    assert said.startswith(begins)
    assert server.tries.total() == tries


@pytest.mark.parametrize(
    "message",
    [
        "input (3926 tokens) is too large to process. increase the physical batch size (current batch size: 2048)",
        "the input length exceeds the context length",
        "the request exceeds the available context size",
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    ],
)
def test_a_status_of_500_about_an_input_refuses_this_item_alone(server: ScriptedServer, message: str):
    """llama.cpp (ggml-org/llama.cpp#12295) and Ollama answer so; as a fault of the server it ended each run at the same file."""
    server.otherwise = Answer({"error": {"code": 500, "message": message, "type": "server_error"}}, status=500)
    outcome = complete(server)
    assert isinstance(outcome, ServerFailure)
    assert outcome.about_item
    assert server.tries.total() == 1


def test_answers_are_bounded_packed_and_unpacked(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_answers, "MAX_ANSWER_BYTES", 50_000)
    unpacked = json.dumps(completion("x" * 49_000)).encode()
    bomb = b" " * 60_000_000
    for body, encoding, good in (
        (unpacked, "", True),
        (unpacked + b" " * 2_000, "", False),
        (gzip.compress(unpacked), "gzip", True),
        (zlib.compress(unpacked), "deflate", True),
        (gzip.compress(unpacked[:3]) + gzip.compress(unpacked[3:]), "gzip", True),
        (zlib.compress(unpacked), "deflate", True),
        (zlib.compress(unpacked)[2:-4], "deflate", True),
        (gzip.compress(b" ") + gzip.compress(bomb), "gzip", False),
        (gzip.compress(bomb), "gzip", False),
        (gzip.compress(b"") * 1_000 + gzip.compress(unpacked), "gzip", False),
        (gzip.compress(gzip.compress(bomb)), "gzip", False),
        (unpacked, "br", False),
        (b"no gzip", "gzip", False),
    ):
        server.otherwise = Answer(body, headers={"Content-Encoding": encoding} if encoding else {})
        outcome = complete(server)
        assert isinstance(outcome, Reply) == good, (len(body), encoding)
        assert good or "malformed" in repr(outcome)
    server.otherwise = Answer(b"x" * 10_000_000, status=400)
    assert "more than 50,000 bytes" in complete(server).text


def test_settings_of_requests_can_be_left_out_or_go_by_another_name(server: ScriptedServer):
    complete(server, extra={"max_completion_tokens": 99, "temperature": None, "top_p": None, "chat_template_kwargs": {"a": 1}})
    (body,) = server.asked
    assert body.keys() == {"model", "messages", "max_completion_tokens", "chat_template_kwargs"}
    complete(server, extra={"max_tokens": None, "model": None})
    assert server.asked[1].keys() == {"model", "messages", "temperature", "top_p"}
    server.otherwise = Answer({"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens' instead."}}, status=400)
    outcome = complete(server)
    assert "give --server-option max_completion_tokens=" in outcome.text


def test_a_name_says_how_a_server_is_asked():
    name = read_server_name("http://h/v1#org%2Fm%3F?timeout_s=2.5&max_new_tokens=9&stop=%5B%22a%22%5D&a.b.c=false&note=it%3Dis&t=null")
    assert (name.url, name.model) == ("http://h/v1", "org/m?")
    assert name.client == {"timeout_s": 2.5, "max_new_tokens": 9}
    assert name.extra == {"stop": ["a"], "a": {"b": {"c": False}}, "note": "it=is", "t": None}
    assert read_server_name("http://h").model == ""
    longer = add_options("http://h#m?seed=1&top_k=2", [("seed", "3"), ("note", "a&b=c #?")])
    assert read_server_name(longer).extra == {"seed": 3, "top_k": 2, "note": "a&b=c #?"}
    for wrong, said in (("timeout_s=soon", "timeout_s='soon': give a number"), ("a=1&a.b=2", "'a' is a value already")):
        with pytest.raises(ConfigError, match=said):
            read_server_name(f"http://h#m?{wrong}")
    with pytest.raises(ConfigError, match="max_new_tokens=0"):
        RemoteReasoner.from_url("http://127.0.0.1:9#m?max_new_tokens=0")
    plain, longer_answers = (RemoteReasoner.from_url(f"http://127.0.0.1:9#m{options}") for options in ("", "?max_new_tokens=9&timeout_s=3"))
    assert plain.fingerprint == RemoteReasoner(ChatServer("http://127.0.0.1:9", "m")).fingerprint
    assert (longer_answers.max_new_tokens, longer_answers.server.timeout_s) == (9, 3.0)
    assert longer_answers.fingerprint != plain.fingerprint


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def test_options_reach_the_server_from_the_command_line(server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.txt").write_text("a red card")
    server.otherwise = Answer(completion(TEXT))
    options = ("--server-option", "seed=3", "--server-option", "chat_template_kwargs.enable_thinking=false", "--max-new-tokens", 1024)
    words = ("--reasoner", f"{server.url}/v1#m", "--embedder", "fake", "--server-timeout", 30, *options)
    assert run("index", tmp_path, *words) == 0
    assert run("search", "a card", "--index", tmp_path, *words) == 0
    assert len(server.asked) == 2
    for body in server.asked:
        assert (body["seed"], body["chat_template_kwargs"], body["max_tokens"]) == (3, {"enable_thinking": False}, 1024)
    server.otherwise = Answer(message("length", content="<thinking> A"))
    assert run("index", tmp_path, "--reasoner", f"{server.url}/v1#m2", "--embedder", "fake") == 1
    assert "1 item has no T-CoT (truncated): its answer was cut off: raise --max-new-tokens" in capsys.readouterr().err
    server.otherwise = Answer(completion(TEXT))
    assert run("index", tmp_path, "--reasoner", f"{server.url}/v1#m2", "--embedder", "fake") == 0, "length is asked again at once"
    assert run("index", tmp_path, "--reasoner", "fake", "--embedder", "fake", "--max-new-tokens", 9) == 2
    assert "max_new_tokens=9 is for a server" in capsys.readouterr().err
    assert run("index", tmp_path, *words, "--server-option", "seed") == 2
    assert "write key=value" in capsys.readouterr().err


def test_one_refusal_leaves_the_other_answers(server: ScriptedServer):
    server.otherwise = Answer(completion(TEXT))
    reasoner = reasoner_of(server)
    reasoner.reason([item("one"), item("two")])
    (two,) = [text for text in server.tries if "two" in text]
    for status, about_item in ((413, True), (400, True), (401, False), (404, False), (503, False)):
        server.script(two, Answer(b"no", status=status))
        with pytest.raises(Unanswered) as raised:
            reasoner.reason([item("one"), item("two")])
        first, second = raised.value.outcomes
        assert first == GOOD
        assert isinstance(second, Refusal)
        assert second.about_item == about_item


def test_a_reasoner_of_ours_behind_a_server_is_asked_as_it_was_trained(server: ScriptedServer, tmp_path: Path):
    local = load_reasoner("nano")
    folder = shipped("reasoner")["nano"]
    server.otherwise = Answer(completion(TEXT))
    remote = load_reasoner(f"{server.url}/v1#m?settings={folder}")
    assert isinstance(remote, RemoteReasoner)
    assert isinstance(local, LocalReasoner)
    settings = local.settings
    assert (remote.prompts, remote.budget, remote.max_new_tokens) == (settings.prompts, settings.budget, settings.max_new_tokens)
    assert remote.factor == 16
    assert local.factor == 16
    assert remote.fingerprint != load_reasoner(f"{server.url}/v1#m").fingerprint
    assert load_reasoner(f"{server.url}/v1#m?settings={folder}&max_new_tokens=9").max_new_tokens == 9  # ty: ignore[unresolved-attribute]
    for broken, said in (
        (tmp_path, "embedrl.json' cannot be read as JSON"),
        (f"{server.url}/v1#m?settings=server", "does not say how 'm' is asked"),
    ):
        with pytest.raises((ConfigError, ModelError), match=said):
            load_reasoner(broken if isinstance(broken, str) else f"{server.url}/v1#m?settings={broken}")
    (tmp_path / "embedrl.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"vision_config": {}}')
    with pytest.raises(ConfigError, match="does not say patch_size"):
        load_reasoner(f"{server.url}/v1#m?settings={tmp_path}")


def test_our_own_server_says_how_its_reasoner_is_asked_and_writes_the_same(tmp_path: Path):
    local, image = load_reasoner("nano"), PIL.Image.new("RGB", (96, 96), (220, 30, 30))
    asked = [item("a large red star left of a small blue ring"), Item(content=(Image(pixels=image),), role=Role.TARGET_IMAGE)]
    (tmp_path / "a.txt").write_text("a red star")
    with served(tmp_path, reasoner=local) as running:
        remote = load_reasoner(f"{running.url}/v1#{running.service.libraries[0].label}?settings=server")
        assert isinstance(remote, RemoteReasoner)
        assert remote.prompts == "nano"
        assert remote.reason(asked) == local.reason(asked)
        assert isinstance(local, LocalReasoner)
        local.settings = local.settings.model_copy(update={"max_new_tokens": 3})
        more = load_reasoner(f"{running.url}/v1#{running.service.libraries[0].label}?settings=server&max_new_tokens=99")
        for reasoner in (local, more):
            outcomes = reasoner.reason(asked)
            assert [outcome.reason for outcome in outcomes if isinstance(outcome, ParseFailure)] == [FailureReason.TRUNCATED] * 2

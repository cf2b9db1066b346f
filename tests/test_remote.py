"""The Reasoner behind a server: every prompt ends as an answer or as a named failure, in order, whatever the server does."""

import asyncio
import base64
import io
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import PIL.Image
import pytest

from embedrl.data.evidence import Evidence
from embedrl.data.protocols import Judges, Reasons
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, render
from embedrl.errors import ConfigError, ModelError
from embedrl.media.content import Frames, Image, Text, Video
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.models.model_server import _asked_wait_s
from embedrl.models.server_answers import API_KEY, ServerFailure, ServerFailureReason
from embedrl.reasoner.chat_client import Reply
from embedrl.reasoner.prompts import Prompt, match_prompt, pick_prompt
from embedrl.reasoner.remote import ChatServer, RemoteReasoner
from embedrl.runtime.names import load_reasoner
from tests.chat_server import Answer, ScriptedServer, chat_server, completion
from tests.test_house import python

SMALL = PixelRange(min_pixels=4096, max_pixels=8192)
QUICK: dict[str, Any] = {"backoff_s": 0.001, "max_wait_s": 0.01, "num_retries": 2}


@pytest.fixture(autouse=True)
def _no_proxy_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(API_KEY, raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with chat_server() as running:
        yield running


def client_of(server: ScriptedServer, **options: Any) -> ChatServer:
    return ChatServer(f"{server.url}/v1", "model-a", **(QUICK | options))


def text_prompt(text: str) -> Prompt:
    return Prompt([{"role": "user", "content": [{"type": "text", "text": text}]}])


def ask(client: ChatServer, *texts: str) -> list[Reply | ServerFailure]:
    return client.complete([text_prompt(text) for text in texts], max_tokens=16)


def seen(outcomes: list[Reply | ServerFailure]) -> list[str]:
    return [outcome.text if isinstance(outcome, Reply) else outcome.reason.value for outcome in outcomes]


def test_every_prompt_ends_as_an_answer_or_as_a_named_failure_in_order(server: ScriptedServer) -> None:
    server.script("429 once", Answer({"error": "busy"}, status=429, headers={"Retry-After": "0"}), Answer())
    quota = {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    server.script("no credit", Answer({"error": quota}, status=429, headers={"Retry-After": "0"}), Answer())
    server.script("500 twice", Answer(b"oops", status=500), Answer(b"oops", status=503), Answer())
    server.script("cut once", Answer(sent_share=0.5), Answer())
    server.script("hung up once", Answer(sent_share=0), Answer())
    server.script("always 500", Answer(b"oops", status=500))
    server.script("always cut", Answer(sent_share=0.9))
    server.script("404", Answer({"error": {"message": "no such model"}}, status=404))
    server.script("odd charset", Answer(b"no \xff", status=400, headers={"Content-Type": "text/plain; charset=base64"}))
    server.script("redirect", Answer(b"", status=307, headers={"Location": "/v2"}))
    server.script("no json", Answer(b"<html>hello</html>"))
    server.script("other shape", Answer({"choices": []}))
    server.script("list", Answer([1, 2]))
    server.script("number", Answer(completion(5)))
    server.script("bad gzip", Answer(b"no gzip", headers={"Content-Encoding": "gzip"}))
    server.script("empty", Answer(completion(" \n")))
    server.script("null", Answer(completion(None, finish_reason="length")))
    server.script("bursts", Answer(num_bursts=9))
    expected = {
        "plain": ("plain", 1),
        "429 once": ("429 once", 2),
        "no credit": ("refused", 1),
        "500 twice": ("500 twice", 3),
        "cut once": ("cut once", 2),
        "hung up once": ("hung up once", 2),
        "always 500": ("transport", 3),
        "always cut": ("transport", 3),
        "404": ("refused", 1),
        "odd charset": ("refused", 1),
        "redirect": ("refused", 1),
        "no json": ("malformed", 1),
        "other shape": ("malformed", 1),
        "list": ("malformed", 1),
        "number": ("malformed", 1),
        "bad gzip": ("malformed", 1),
        "empty": ("empty", 1),
        "null": ("empty", 1),
        "bursts": ("bursts", 1),
    }
    outcomes = ask(client_of(server), *expected)
    assert dict(zip(expected, seen(outcomes), strict=True)) == {text: outcome for text, (outcome, _) in expected.items()}
    assert server.tries == {text: tries for text, (_, tries) in expected.items()}
    by_text = dict(zip(expected, outcomes, strict=True))
    assert [bool(outcome) for outcome in outcomes] == [isinstance(outcome, Reply) for outcome in outcomes]
    assert by_text["always 500"].text == "500: oops (tried 3 times)"
    assert "the account has no credit left" in by_text["no credit"].text
    assert by_text["404"].text == '404: {"error": {"message": "no such model"}}'
    assert "choices" in by_text["other shape"].text
    assert "choices.0.message.content" in by_text["number"].text
    assert "'length'" in by_text["null"].text
    assert "<html>" in by_text["no json"].text


def test_an_unreachable_server_fails_every_prompt_and_no_prompts_need_no_server() -> None:
    with chat_server() as stopped:
        client = client_of(stopped, num_retries=1)
    assert seen(ask(client, "a", "b")) == ["transport", "transport"]
    assert ask(client) == []


def test_a_request_that_takes_too_long_is_sent_again(server: ScriptedServer) -> None:
    server.script("slow once", Answer(stuck=True), Answer())
    assert seen(ask(client_of(server, timeout_s=1, num_retries=9), "slow once")) == ["slow once"]
    assert server.tries["slow once"] > 1
    server.script("always slow", Answer(stuck=True))
    (outcome,) = ask(client_of(server, timeout_s=0.05), "always slow")
    assert outcome == ServerFailure(ServerFailureReason.TRANSPORT, "no answer within timeout_s=0.05 (tried 3 times)")


def test_requests_run_side_by_side_up_to_the_limit(server: ScriptedServer) -> None:
    server.otherwise = Answer(together=3, slow_s=0.1)
    texts = [str(number) for number in range(12)]
    assert seen(ask(client_of(server, max_in_flight=3), *texts)) == texts
    assert server.most_in_flight == 3
    server.otherwise, server.most_in_flight = Answer(slow_s=0.02), 0
    assert seen(ask(client_of(server, max_in_flight=1), *texts)) == texts
    assert server.most_in_flight == 1


def test_a_waiting_request_leaves_its_place_to_others(server: ScriptedServer) -> None:
    server.script("first", Answer(b"", status=503), Answer())
    assert seen(ask(client_of(server, max_in_flight=1), "first", "second")) == ["first", "second"]
    asked = [body["messages"][0]["content"][0]["text"] for body in server.asked]
    assert asked == ["first", "second", "first"]


def test_a_wait_that_the_server_asks_for_is_kept_or_the_request_given_up(server: ScriptedServer) -> None:
    server.script("an hour", Answer(b"", status=429, headers={"Retry-After": "3600"}), Answer())
    server.script("nonsense", Answer(b"", status=429, headers={"Retry-After": "soon"}), Answer())
    outcomes = ask(client_of(server), "an hour", "nonsense")
    assert seen(outcomes) == ["transport", "nonsense"]
    assert "asks to wait 3600 s" in outcomes[0].text
    assert server.tries == {"an hour": 1, "nonsense": 2}


def test_retry_after_is_a_number_or_a_date() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    assert _asked_wait_s("2.5") == 2.5
    assert 3000 < _asked_wait_s(format_datetime(later, usegmt=True)) < 3700
    for odd in (
        "",
        "-3",
        "nan",
        "inf",
        "soon",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "1 Jan 99999999999999999999 00:00:00 +9999",
        "\x00",
        "0 0 0",
    ):
        assert _asked_wait_s(odd) == 0


def test_a_reply_says_how_it_ended_and_what_it_cost(server: ScriptedServer) -> None:
    server.script("long", Answer(completion("and so", finish_reason="length")))
    server.script("uncounted", Answer({"choices": [{"message": {"content": "yes"}}]}))
    assert ask(client_of(server), "long", "uncounted") == [Reply("and so", "length", 7, 3), Reply("yes", None, None, None)]


def test_a_request_holds_the_settings_and_the_key_is_shown_to_the_server_only(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY, "secret-17\n")
    server.script("who", Answer(b"no such key: secret-17", status=401))
    client = client_of(server, extra={"seed": 3, "top_p": 0.9, "model": "other"})
    prompt = text_prompt("hello \ud800")
    client.complete([prompt], max_tokens=5, temperature=0.5)
    (body,) = server.asked
    assert {name: body[name] for name in body if name != "messages"} == {
        "model": "model-a",
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
    }
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hello ?"}]}]
    assert server.headers[0]["Authorization"] == "Bearer secret-17"
    assert ask(client, "who") == [ServerFailure(ServerFailureReason.REFUSED, "401: no such key: ***")]
    assert "secret" not in repr(vars(client))
    monkeypatch.setenv(API_KEY, "two words")
    with pytest.raises(ConfigError, match=API_KEY) as raised:
        ask(client, "hello")
    assert "words" not in str(raised.value)
    monkeypatch.delenv(API_KEY)
    ask(client, "hello")
    assert "Authorization" not in server.headers[-1]


def test_it_works_inside_a_running_event_loop_and_in_threads(server: ScriptedServer) -> None:
    client = client_of(server)

    async def inside() -> list[Reply | ServerFailure]:
        return ask(client, "a", "b")

    assert seen(asyncio.run(inside())) == ["a", "b"]
    found: dict[str, list[str]] = {}
    threads = [threading.Thread(target=lambda text=text: found.update({text: seen(ask(client, text, text))})) for text in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: [text, text] for text in "abc"}


def picture(colour: str, *, mode: str = "RGB", size: tuple[int, int] = (96, 64)) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, colour).convert(mode)


def sent_images(content: list[dict[str, Any]]) -> list[PIL.Image.Image]:
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2], validate=True)), formats=("PNG",)) for url in urls]


def test_pictures_arrive_at_their_place_as_png(server: ScriptedServer) -> None:
    images = (picture("red"), picture("lime", mode="P"), picture("blue", mode="CMYK"))
    parts = [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}, {"type": "image"}]
    client_of(server).complete([Prompt([{"role": "user", "content": parts}], images)], max_tokens=5)
    content = server.asked[0]["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text", "image_url", "image_url"]
    colours = [image.convert("RGB").getpixel((0, 0)) for image in sent_images(content)]
    assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    client_of(server).complete([Prompt([{"role": "user", "content": [{"type": "image"}]}], (noise,))], max_tokens=5)
    (arrived,) = sent_images(server.asked[1]["messages"][0]["content"])
    assert arrived.tobytes() == noise.tobytes()
    with pytest.raises(AssertionError, match="1 image parts, 3 images"):
        client_of(server).complete([Prompt([{"role": "user", "content": parts[:2]}], images)], max_tokens=5)


TCOT = TCoT(thinking="A red card.", evidence=Evidence(boxes=((0, 0, 1000, 1000),)), rethink="One colour.", answer="a red card")


def reasoner_of(server: ScriptedServer, **options: Any) -> RemoteReasoner:
    return RemoteReasoner(
        client_of(server), prompts="nano", budget=VisualBudget(image=SMALL, frame=SMALL, crop=SMALL), max_new_tokens=99, **options
    )


def query(text: str, *, colour: str = "red") -> Item:
    content = (Image(pixels=picture(colour)), Text(text=text))
    return Item(content=content, instruction="Find its like.", role=Role.QUERY_IMAGE)


def test_a_reasoner_writes_tcots_and_says_what_was_none(server: ScriptedServer) -> None:
    reasoner = reasoner_of(server, temperature=0.7)
    assert isinstance(reasoner, Reasons)
    assert isinstance(reasoner, Judges)
    server.otherwise = Answer(completion(render(TCOT)))
    clip = Video(frames=Frames((picture("red"), picture("blue")), (0.0, 0.5)))
    items = [query("a"), query("<|im_end|><|image_pad|>b<emb>"), Item(content=(clip,), instruction="", role=Role.TARGET_VIDEO)]
    assert reasoner.reason(items) == [TCOT] * 3
    by_text = {"".join(part.get("text", "") for part in body["messages"][0]["content"]): body for body in server.asked}
    assert not any(re.search(r"<\|\w+\|>|<emb>", text) for text in by_text)
    assert any("‹|im_end|>‹|image_pad|>b‹emb>" in text for text in by_text)
    film = next(body["messages"][0]["content"] for text, body in by_text.items() if "Frame 1 (0.0 s)" in text)
    assert [part["type"] for part in film[:4]] == ["text", "image_url", "text", "image_url"]
    assert all(side % 32 == 0 for image in sent_images(film) for side in image.size)
    assert all((body["max_tokens"], body["temperature"]) == (99, 0.7) for body in server.asked)
    server.otherwise = Answer(completion("<thinking> A red", finish_reason="length"))
    assert reasoner.reason(items[:1]) == [ParseFailure(reason=FailureReason.TRUNCATED, text="<thinking> A red")]
    server.otherwise = Answer(completion(""))
    assert reasoner.reason(items[:1]) == [ParseFailure(reason=FailureReason.EMPTY, text="")]


def test_a_failed_request_is_never_a_value(server: ScriptedServer) -> None:
    reasoner = reasoner_of(server)
    server.otherwise = Answer(completion(render(TCOT)))
    server.script("no", Answer())
    reasoner.reason([query("good"), query("bad")])
    (bad,) = [text for text in server.tries if "bad" in text]
    server.script(bad, Answer(b"too long", status=400))
    with pytest.raises(ModelError, match="did not answer for 1 of 2 items; the first: refused: 400: too long"):
        reasoner.reason([query("good"), query("bad")])


def test_no_path_leaves_the_machine(server: ScriptedServer, tmp_path: Any) -> None:
    path = tmp_path / "private-name.png"
    picture("red").save(path)
    reasoner_of(server).reason([Item(content=(Image(path=path),), instruction="", role=Role.QUERY_IMAGE)])
    assert "private-name" not in repr(server.asked)
    assert str(tmp_path) not in repr(server.asked)


def test_the_name_changes_with_what_changes_the_output(server: ScriptedServer) -> None:
    names = [
        reasoner_of(server).fingerprint,
        reasoner_of(server, temperature=1.0).fingerprint,
        reasoner_of(server, factor=28).fingerprint,
        RemoteReasoner(client_of(server)).fingerprint,
        RemoteReasoner(client_of(server), max_new_tokens=64).fingerprint,
        RemoteReasoner(client_of(server, extra={"top_k": 5})).fingerprint,
        RemoteReasoner(ChatServer(server.url, "model-b")).fingerprint,
    ]
    assert len(set(names)) == len(names)
    assert all(name.startswith("model-") for name in names)
    assert RemoteReasoner(ChatServer("http://elsewhere:1", "model-a", max_in_flight=1)).fingerprint == names[3]
    with pytest.raises(ConfigError, match="temperature=-1"):
        reasoner_of(server, temperature=-1.0)


def test_a_client_needs_no_torch() -> None:
    assert python("import sys, embedrl.reasoner.remote; print('torch' in sys.modules)") == "False"


def tcots(*answers: str) -> list[TCoT]:
    return [TCoT(thinking="", rethink="", answer=answer) for answer in answers]


def test_a_judge_says_yes_or_no_and_nothing_else(server: ScriptedServer) -> None:
    verdicts = {
        "yes": True,
        "No": False,
        " YES. ": True,
        "**no**\n": False,
        '"Yes!"': True,
        "yes, they do": None,
        "yes no": None,
        "not": None,
        "1. yes": None,
        "yesterday": None,
        "oui": None,
        "...": None,
        "": None,
    }
    pairs = [(first, second) for first, second in zip(tcots(*map(str, range(len(verdicts)))), tcots(*"x" * len(verdicts)), strict=True)]
    for (first, second), verdict in zip(pairs, verdicts, strict=True):
        server.script(match_prompt(first, second, "nano").messages[0]["content"][0]["text"], Answer(completion(verdict)))
    assert reasoner_of(server, temperature=1.0).match(pairs) == list(verdicts.values())
    assert {(body["temperature"], body["max_tokens"]) for body in server.asked} == {(0.0, 8)}
    server.scripts.clear()
    server.otherwise = Answer(completion("yes", finish_reason="length"))
    assert reasoner_of(server).match(pairs[:1]) == [None], "a cut answer is not the whole answer"
    server.otherwise = Answer(b"", status=500)
    assert reasoner_of(server).match(pairs[:2]) == [None, None]


def test_a_judge_picks_a_number_within_range_and_nothing_else(server: ScriptedServer) -> None:
    verdicts = {
        "1": 0,
        " 3\n": 2,
        "2.": 1,
        "[3]": 2,
        "(1).": 0,
        "12": 11,
        "13": None,
        "0": None,
        "-1": None,
        "1.5": None,
        "1 or 2": None,
        "Number 2": None,
        "two": None,
        "²": None,
        "٢": None,
        "": None,
    }
    candidates = tcots(*(f"note {number}" for number in range(12)))
    questions = [(anchor, candidates) for anchor in tcots(*map(str, range(len(verdicts))))]
    for (anchor, shown), verdict in zip(questions, verdicts, strict=True):
        server.script(pick_prompt(anchor, shown, "nano").messages[0]["content"][0]["text"], Answer(completion(verdict)))
    assert reasoner_of(server).pick(questions) == list(verdicts.values())
    server.scripts.clear()
    server.otherwise = Answer(sent_share=0)
    assert reasoner_of(server).pick(questions[:1]) == [None]
    with pytest.raises(ConfigError, match="1 candidates"):
        reasoner_of(server).pick([(candidates[0], candidates[:1])])


def test_a_url_names_the_model_or_the_server_does(server: ScriptedServer) -> None:
    named = load_reasoner(f"{server.url}/v1#org%2Fmodel b", temperature=0.5)
    assert isinstance(named, RemoteReasoner)
    assert named.fingerprint.startswith("org/model b-")
    assert "-t0.5-" in named.fingerprint
    only = load_reasoner(f"{server.url}/v1/")
    assert isinstance(only, RemoteReasoner)
    assert only.server.model == "org/model-a"
    assert only.server.url == server.url
    server.models = {"data": [{"id": "one"}, {"id": "two"}]}
    with pytest.raises(ConfigError, match="one, two"):
        load_reasoner(server.url)
    server.models = {"data": []}
    with pytest.raises(ConfigError, match="it has none"):
        load_reasoner(server.url)
    server.models = {"models": "what?"}
    with pytest.raises(ModelError, match="does not list its models \\(malformed: data"):
        load_reasoner(server.url)
    with pytest.raises(ModelError, match="refused: 404"):
        load_reasoner(f"{server.url}/elsewhere")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host", "give a server as"),
        ("http://", "give a server as"),
        ("http://host/v1?key=1", "give a server as"),
        ("http://host:port", "is not a URL"),
        ("http://me:hidden@host/v1", "holds a password"),
    ],
)
def test_an_odd_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        ChatServer.from_url(f"{url}#model")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("option", [{"max_in_flight": 0}, {"num_retries": -1}, {"timeout_s": 0}, {"backoff_s": float("nan")}])
def test_odd_options_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        ChatServer("http://host", "model", **option)

"""Reasoners asked for answers alone (`nano?form=answer`): fewer tokens, a fingerprint of their own, the same name everywhere."""

import random
from pathlib import Path

import pytest

from embedrl.data.reasoning import read_bare_answer
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import FailureReason, ParseFailure, TCoT, parse, render
from embedrl.errors import ConfigError
from embedrl.index.model_names import ModelNames
from embedrl.media.content import Text
from embedrl.models.names import shipped
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import SETS, answer_only, asks_for_answer, template
from embedrl.reasoner.remote import RemoteReasoner
from embedrl.reasoner.served_settings import check_settings
from embedrl.runtime.index_models import choose
from embedrl.runtime.names import load_both, load_embedder, load_reasoner
from embedrl.server.openai import _prompt_settings
from embedrl.world.tasks import draw_family
from tests.chat_server import Answer, chat_server, completion


@pytest.fixture(scope="module")
def brief() -> LocalReasoner:
    reasoner = load_reasoner("nano?form=answer")
    assert isinstance(reasoner, LocalReasoner)
    return reasoner


@pytest.fixture(scope="module")
def items() -> list[Item]:
    rng = random.Random(0)
    return [side.item for name in ("image_cls", "image_i2t") for pair in draw_family(name, "test", rng, num_variants=0) for side in pair]


def test_answers_alone_are_written_in_fewer_tokens(brief: LocalReasoner, items: list[Item]) -> None:
    whole = load_reasoner("nano")
    assert isinstance(whole, LocalReasoner)
    before = brief.num_written
    tcots, others = brief.reason(items), whole.reason(items)
    assert all(isinstance(tcot, TCoT) and tcot.answer == tcot.thinking and not tcot.evidence for tcot in tcots)
    assert 3 * (brief.num_written - before) < whole.num_written
    same = [tcot.answer == other.answer for tcot, other in zip(tcots, others, strict=True) if isinstance(tcot, TCoT) and other]
    assert sum(same) >= len(same) / 2, "both read the same media"
    assert brief.fingerprint != whole.fingerprint
    assert brief.settings.prompts == "nano-answer"


def test_both_models_are_loaded_by_a_name_with_a_form(brief: LocalReasoner) -> None:
    reasoner, embedder = load_both("nano?form=answer", "nano")
    assert reasoner is not None
    assert reasoner.fingerprint == brief.fingerprint
    assert embedder.fingerprint == load_embedder("nano").fingerprint


def test_a_form_is_part_of_the_name_that_an_index_notes(tmp_path: Path) -> None:
    assert choose("nano?form=answer", None, None, None, is_new=True).reasoner == "nano?form=answer"
    assert ModelNames.of("nano?form=answer", "nano").reasoner == "nano?form=answer"
    assert ModelNames.of(f"{tmp_path}?form=answer", "nano").reasoner == f"{tmp_path.resolve()}?form=answer"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nano?form=short", "form='short': choose one of tcot, answer"),
        ("nano?form=", "form='': choose one of"),
        ("nano?shape=answer", "'shape' is no option"),
        ("mine?form=answer", "reasoner='mine': not a folder"),
        ("http://127.0.0.1:9/v1#m?form=short", "form='short'"),
    ],
)
def test_an_unknown_form_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        load_reasoner(name)


def test_an_embedder_has_no_form() -> None:
    with pytest.raises(ConfigError, match="embedder='nano"):
        load_embedder("nano?form=answer")


def test_the_usual_form_can_be_named() -> None:
    assert load_reasoner("nano?form=tcot").fingerprint == load_reasoner("nano").fingerprint


def test_a_set_of_answers_is_judged_in_the_words_of_the_whole_one() -> None:
    assert {answer_only(name) for name in SETS} == {name for name in SETS if asks_for_answer(name)}
    assert template("nano-answer", "pick") == template("nano", "pick")
    assert template("full-answer", "query_image") != template("full", "query_image")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a red star on black", "a red star on black"),
        ("  a red\nstar <answer>", "a red star"),
        ("<think> Is it red? </think> a red star", "a red star"),
        (render(TCoT(thinking="red.", rethink="fits.", answer="a red star")), "a red star"),
        ("Answer: a red star", "a red star"),
        ("<think> red </think>\n**Final Answer:** a **red** star", "a **red** star"),
        ("**The answer is: a red star**", "a red star"),
        ("### answer:\na red star: five points", "a red star: five points"),
        ("答案：一颗红星", "一颗红星"),
        ("Answer sheet: five questions", "Answer sheet: five questions"),
        ("an answer: none", "an answer: none"),
    ],
)
def test_a_bare_answer_becomes_a_tcot(text: str, answer: str) -> None:
    tcot = read_bare_answer(text, is_cut=False)
    assert isinstance(tcot, TCoT)
    assert tcot.answer == answer
    assert parse(render(tcot)) == tcot


@pytest.mark.parametrize(
    ("text", "is_cut", "reason"),
    [
        ("", False, FailureReason.EMPTY),
        ("<answer> </answer>", False, FailureReason.EMPTY),
        ("Answer:", False, FailureReason.EMPTY),
        ("Answer: \u200b", False, FailureReason.EMPTY),
        ("<think> red </think>", False, FailureReason.EMPTY),
        ("<think> Is it red?", False, FailureReason.TRUNCATED),
        ("a red star on", True, FailureReason.TRUNCATED),
        ("a" * 20_001, False, FailureReason.TOO_LONG),
    ],
)
def test_what_is_no_answer_is_a_failure(text: str, is_cut: bool, reason: FailureReason) -> None:
    failure = read_bare_answer(text, is_cut=is_cut)
    assert isinstance(failure, ParseFailure)
    assert failure.reason == reason


def test_a_server_is_asked_for_answers_alone() -> None:
    item = Item(content=(Text(text="a red star"),), instruction="Find it.", role=Role.TARGET_TEXT)
    with chat_server() as server:
        server.otherwise = Answer(completion("a red star"))
        remote = load_reasoner(f"{server.url}/v1#m?form=answer")
        assert isinstance(remote, RemoteReasoner)
        assert remote.reason([item]) == [TCoT(thinking="a red star", rethink="", answer="a red star")]
        assert remote.fingerprint != load_reasoner(f"{server.url}/v1#m").fingerprint
        settings = f"settings={shipped('reasoner')['nano']}"
        assert load_reasoner(f"{server.url}/v1#m?{settings}&form=answer").prompts == "nano-answer"  # ty: ignore[unresolved-attribute]


def test_our_server_says_that_its_reasoner_writes_answers_alone(brief: LocalReasoner) -> None:
    settings = check_settings(_prompt_settings(brief), "a server")
    assert settings.prompts == "nano-answer"

"""Questions over an index: what answers, where it is cited, and when nothing does."""

import json
from pathlib import Path

import pytest

import embedrl
from embedrl.cli.main import main
from embedrl.data.evidence_kinds import Evidence
from embedrl.data.tcot import TCoT
from embedrl.errors import ConfigError
from embedrl.index.answer import NOTHING, ask
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.location import INDEX_NAME
from embedrl.index.model_names import ModelNames
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.index.support import answering, chunks, clauses, support
from embedrl.media.content import Text
from embedrl.server.running import Announced
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.coloured_folder import make_folder
from tests.served import served


class Tells(FakeReasoner):
    """Says of each item what it is told to, by the kind of its medium; of a question about it, something else."""

    def __init__(self, said: dict[str, TCoT], asked: TCoT) -> None:
        super().__init__("tells")
        self.said, self.asked = said, asked

    def _reason(self, item: embedrl.Item) -> TCoT:
        if len(item.content) > 1:
            return self.asked
        return self.said.get(item.content[0].kind, self.asked)


ROOM = TCoT(
    thinking="red chair, blue lamp.",
    evidence=Evidence(boxes=[[0, 0, 400, 1000], [600, 0, 900, 500]]),
    rethink="both are there",
    answer="red chair at left, blue lamp at right",
)
CLIP = TCoT(thinking="dog enters, dog leaves.", evidence=Evidence(key_frames=[1, 6]), rethink="ok", answer="dog enters, dog leaves")
ELSE = TCoT(thinking="a guess.", rethink="-", answer="a guess about it")


@pytest.fixture
def index(tmp_path: Path) -> tuple[Index, Tells, FakeEmbedder]:
    folder = make_folder(tmp_path / "library")
    (folder / "rent.txt").write_text("Dear tenant,\nthe rent of the flat is 900 euros.\nYours")
    models = Tells({"image": ROOM, "video": CLIP}, ELSE), FakeEmbedder()
    found = Index.open(folder, embedder=models[1])
    ingest(folder, found, *models)
    return found, *models


def test_words_are_matched_by_their_stems_and_side_by_side():
    assert chunks("When did the red ball appear?") == [["red", "ball", "appear"]]
    assert support("When did the red ball appear?", "a red ball appears, then a dog") == 1.0
    assert support("Where is the red circle?", "red star, blue circle") == 0.5
    assert support("What stands behind lima in the salt table?", "salt table: oslo 5, lima 65") == 1.0
    assert support("红色的球在哪里", "一个红色的球") > 0.5
    assert support("What is it?", "") == 1.0, "it names nothing"


def test_the_clause_that_answers_says_more_than_the_question():
    pieces = clauses("salt table: oslo 5, lima 6.5")
    assert pieces == ["oslo 5", "lima 6.5"]
    assert answering("What stands behind lima in the salt table?", pieces) == 1
    assert answering("Where is the red star?", ["red star"]) is None
    assert answering("Where is the red star?", ["red star"], adds=False) == 0


def test_an_answer_cites_the_box_that_belongs_to_it(index: tuple[Index, Tells, FakeEmbedder]):
    answer = ask(index[0], "Where is the blue lamp?", index[2], index[1])
    assert answer.text == "blue lamp at right"
    assert answer.citations[0].boxes == ((600, 0, 900, 500),)
    assert answer.citations[0].modality == "image"


def test_an_answer_cites_the_moment(index: tuple[Index, Tells, FakeEmbedder]):
    cited = ask(index[0], "When does the dog leave?", index[2], index[1]).citations[0]
    frames = index[0].rows([cited.key])[0].frame_times_s
    assert cited.times_s == (frames[5],)


def test_an_answer_cites_the_line(index: tuple[Index, Tells, FakeEmbedder]):
    cited = ask(index[0], "How much is the rent of the flat?", index[2], index[1], limit=32).citations[0]
    assert (str(cited.path), cited.line) == ("rent.txt", 2)
    assert cited.quote == "the rent of the flat is 900 euros."


def test_it_says_when_nothing_answers(index: tuple[Index, Tells, FakeEmbedder]):
    answer = ask(index[0], "Where is the green lamp?", index[2], index[1], limit=32)
    assert (answer.text, answer.citations, answer.is_answered) == (NOTHING, (), False)


def test_without_support_wanted_the_reasoner_is_asked(index: tuple[Index, Tells, FakeEmbedder]):
    answer = ask(index[0], "Where is the green giraffe?", index[2], index[1], min_support=0)
    assert answer.text == "a guess about it"


def test_without_a_reasoner_what_is_stored_answers(index: tuple[Index, Tells, FakeEmbedder]):
    assert ask(index[0], "Where is the red chair?", index[2], limit=32).text == "red chair at left"


def test_an_item_that_says_the_words_is_looked_at_wherever_its_vector_lies(tmp_path: Path):
    """Only the nearest by vectors were looked at: what a film says word for word was "nothing in this index answers"."""
    folder, embedder = make_folder(tmp_path / "library"), FakeEmbedder()
    question = "When does the quokka appear?"
    (folder / "red.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nthe quokka appears\n", "utf-8")
    for number in range(8):
        (folder / f"{number}.txt").write_text(f"when does it {number}, and when not", "utf-8")
    clip = next(path for path in folder.rglob("*.mp4"))
    (folder / "red.srt").rename(clip.with_suffix(".srt"))
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, None, embedder, think=False)
    nearest = search(index, Query((Text(text=question),), use_tcot=False, limit=1, unit="unit"), embedder).hits[0]
    assert nearest.modality != "video", "the vectors alone find it"
    [cited] = ask(index, question, embedder, limit=1).citations
    assert (cited.modality, cited.quote) == ("video", "the quokka appears")
    assert cited.times_s == (0.5,)


def test_words_that_must_occur_must_occur(index: tuple[Index, Tells, FakeEmbedder]):
    """`--words` only ranked: an item that holds none of them was cited."""
    question = "How much is the rent of the flat?"
    for words, files in ((("tenant",), ["rent.txt"]), (("invoice",), [])):
        answer = ask(index[0], question, index[2], limit=32, query=Query((), filter=Filter(words=words)))
        assert [str(citation.path) for citation in answer.citations] == files


def test_wrong_questions_are_refused(index: tuple[Index, Tells, FakeEmbedder]):
    with pytest.raises(ConfigError, match="empty"):
        ask(index[0], "  ", index[2], index[1])
    with pytest.raises(ConfigError, match="min_support=2"):
        ask(index[0], "what?", index[2], index[1], min_support=2)
    assert embedrl.ask is ask


def test_over_http_and_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_folder(tmp_path / "served")
    (folder / "rent.txt").write_text("Dear tenant,\nthe rent of the flat is 900 euros.")
    with served(folder, reasoner=Tells({"image": ROOM, "video": CLIP}, ELSE)) as server:
        found = server.client.post("/v1/ask", json={"question": "When does the dog leave?", "limit": 32}).json()
        assert found["answered"] is True
        cited = found["citations"][0]
        assert cited["media"] == f"/api/items/{cited['key']}/media#t={cited['times_s'][0]:g}"
        assert server.client.get(cited["media"]).status_code == 200
        nothing = server.client.post("/v1/ask", json={"question": "Where is the green giraffe?"}).json()
        assert (nothing["answered"], nothing["citations"]) == (False, [])
        assert server.client.post("/v1/ask", json={"question": " "}).status_code == 422
        announced = Announced(folder / INDEX_NAME, "127.0.0.1", int(server.url.rpartition(":")[2]), FAKES)
        for arguments, expected in ((["--json"], 0), ([], 0)):
            with pytest.raises(SystemExit) as ended:
                main(["ask", "How much is the rent of the flat?", "--look-at", "32", "--index", str(folder), *arguments])
            assert int(ended.value.code or 0) == expected
        announced.close()
    out, err = capsys.readouterr()
    assert "asked http" in err
    assert json.loads(out.partition("\n}\n")[0] + "}")["citations"][0]["line"] == 2
    assert "[1] rent.txt, line 2: the rent of the flat is 900 euros." in out


FAKES = ModelNames(reasoner="fake", embedder="fake")


def test_the_command_ends_with_1_where_nothing_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a text about boats")
    for words, code in (
        (["index", str(folder), "--embedder", "fake", "--no-think"], 0),
        (["ask", "Who sells giraffes?", "--index", str(folder)], 1),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert int(ended.value.code or 0) == code
    assert NOTHING in capsys.readouterr().out

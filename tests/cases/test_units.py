"""An event in a film was one eighth of its vector, and of a text only the first 2,000 characters were embedded (issue 23, 1)."""

import codecs
import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import PIL.Image
import pytest

from embedrl.cli.listing import hit_rows
from embedrl.data import items
from embedrl.data.vectors import ShortenedEmbedder
from embedrl.embedder.embedder import Embedder
from embedrl.embedder.inputs import DecodedItem, token_ends
from embedrl.index.checksums import check_index
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.row import ADDED_COLUMNS, Row
from embedrl.index.search import search
from embedrl.index.units import Splitting
from embedrl.media.content import Frames, Text, Video
from embedrl.media.passages import PassageLength, TextMeasure, passages
from embedrl.media.resize import PAPER_BUDGET
from embedrl.media.scenes import Differences, SceneSettings, scan_part, scenes
from embedrl.media.store import Limits
from embedrl.media.text import byte_offsets, load_long_text, load_text
from embedrl.media.video import save_video
from embedrl.reasoner.prompts import tcot_prompt
from embedrl.runtime.names import load_embedder
from embedrl.testing import COLOURS, FakeEmbedder
from tests.coloured_folder import picture
from tests.served import Served, served

SHOTS = ("red", "green", "blue", "yellow")
SHOT_S = 5.0


def write_film(path: Path, colours: tuple[str, ...] = SHOTS) -> None:
    """Write shots of five seconds, each all of one colour."""
    save_video([PIL.Image.new("RGB", (64, 48), COLOURS[colour]) for colour in colours for _ in range(10)], path, fps=2)


def write_long_text(path: Path, marked: int = 20) -> str:
    """Write 40 paragraphs, one of which is about an elephant."""
    rng = random.Random(0)
    words = ["nothing", "happens", "here", "today", "quiet", "rain", "falls", "again"]
    said = [" ".join(rng.choices(words, k=12)).capitalize() + "." for _ in range(40 * 12)]
    paragraphs = [" ".join(said[12 * number : 12 * number + 12]) for number in range(40)]
    paragraphs[marked] = " ".join(["An elephant walked by the river."] * 40)
    text = "\n\n".join(paragraphs)
    path.write_text(text, "utf-8")
    return text


def index_of(folder: Path, embedder: FakeEmbedder | None = None, splitting: Splitting | None = None) -> Index:
    index = Index.open(folder, embedder=embedder or FakeEmbedder())
    report = ingest(folder, index, None, embedder or FakeEmbedder(), think=False, splitting=splitting)
    assert report.failures == ()
    return index


def rows_of(index: Index) -> list[Row]:
    rows = index.rows({place.key for place in index.places()})
    return sorted(rows, key=lambda row: row.place.position)


def hits(index: Index, text: str, **options: object) -> tuple[Hit, ...]:
    return search(index, Query((Text(text=text),), use_tcot=False, **options), FakeEmbedder()).hits


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units") / "library"
    folder.mkdir()
    write_film(folder / "film.mp4")
    write_long_text(folder / "book.txt")
    picture("pink").save(folder / "pink.png")
    index_of(folder)
    return folder


def test_a_film_yields_its_scenes_and_itself(library: Path):
    film = [row for row in rows_of(Index.open(library)) if row.modality == "video"]
    assert [row.place.unit for row in film] == [0, 1, 2, 3, 4]
    assert [(row.start_s, row.end_s) for row in film] == [(0.0, 20.0), *((SHOT_S * n, SHOT_S * (n + 1)) for n in range(4))]
    for number, row in enumerate(film[1:]):
        assert SHOT_S * number <= row.frame_times_s[0]
        assert row.frame_times_s[-1] < SHOT_S * (number + 1)


@pytest.mark.parametrize("number", range(4))
def test_the_moment_is_found_and_others_are_folded_under_it(library: Path, number: int):
    index = Index.open(library, embedder=FakeEmbedder())
    best = hits(index, SHOTS[number])[0]
    assert (best.path.name, best.unit, best.num_units) == ("film.mp4", number + 1, 4)
    assert (best.start_s, best.end_s) == (SHOT_S * number, SHOT_S * (number + 1))
    assert best.num_other_units == 4
    assert {other.unit for other in best.other_units} == {0, 1, 2, 3, 4} - {number + 1}
    [row] = hit_rows([best])
    assert f"0:{5 * number:02}-0:{5 * number + 5:02}" in row[3]
    assert "4 more moments" in row[3]


def test_units_may_be_results_of_their_own(library: Path):
    index = Index.open(library, embedder=FakeEmbedder())
    files = [hit.path for hit in hits(index, "green", limit=100)]
    assert len(files) == len(set(files)) == 3
    every = hits(index, "green", unit="unit", limit=1000)
    assert len(every) == len(index)
    assert all(hit.num_other_units == 0 for hit in every)


def test_pages_of_folded_results_hold_every_file_once(tmp_path: Path):
    for number in range(4):
        write_long_text(tmp_path / f"{number}.txt", marked=number)
    index = index_of(tmp_path)
    pages = [hits(index, "elephant", limit=1, offset=offset) for offset in range(5)]
    assert sorted(hit.path.name for page in pages for hit in page) == ["0.txt", "1.txt", "2.txt", "3.txt"]


def test_the_right_passage_is_found_where_it_stands(library: Path):
    text = (library / "book.txt").read_text("utf-8")
    best = hits(Index.open(library, embedder=FakeEmbedder()), "an elephant by the river", filter=Filter(modality=("text",)))[0]
    assert best.path.name == "book.txt"
    assert "An elephant walked by the river." in text[best.start_char : best.end_char]
    assert best.end_char - best.start_char <= 1024


def test_what_a_query_shares_with_a_passage_is_named_wherever_it_stands(tmp_path: Path):
    words = "nothing happens and the rain falls on the river again " * 12
    (tmp_path / "a.txt").write_text(f"{words}. An elephant walked by the river at noon.")
    best = hits(index_of(tmp_path), "the elephant walked by the river, nothing falls again, rain happens, and river")[0]
    assert "elephant walked by the river" in best.shared
    assert best.shared == tuple(sorted(best.shared, key=(tmp_path / "a.txt").read_text().lower().find))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_offsets_in_characters_and_bytes_name_the_same_passage(tmp_path: Path, line_end: str, mark: bytes):
    path = tmp_path / "größe.txt"
    path.write_bytes(mark + line_end.join(f"Ünïcode {number} 写真. Über!" for number in range(400)).encode())
    rows = rows_of(index_of(tmp_path))
    assert len(rows) > 3
    data, text = path.read_bytes(), load_text(path)
    for row in rows:
        place = row.place
        assert text[place.start_char : place.end_char] == row.text
        assert data[place.start_byte : place.end_byte].decode().replace("\r\n", "\n") == row.text


def test_a_text_that_is_not_utf_8_has_no_byte_offsets(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("Der Bär läuft. ".encode("cp1252") * 400)
    for row in rows_of(index_of(tmp_path)):
        assert row.place.start_char is not None
        assert row.place.start_byte is None


def test_every_word_of_a_text_is_in_a_passage():
    rng = random.Random(1)
    for _ in range(30):
        pieces = [rng.choice(["word ", "end. ", "\n", "\n\n", "# head\n", "写真。", "x" * 700, " ", "title\n=====\n"]) for _ in range(400)]
        text = "".join(pieces)
        spans = passages(text, PassageLength(125, 500, 25))
        covered = bytearray(len(text))
        for start, end in spans:
            assert 0 < end - start <= 500
            assert text[start:end] == text[start:end].strip()
            covered[start:end] = b"x" * (end - start)
        assert not "".join(char for char, seen in zip(text, covered, strict=True) if not seen).strip()
        assert spans == sorted(spans)


def test_a_short_text_is_one_passage_as_it_is():
    assert passages(" short \n", PassageLength(500, 2000, 50)) == [(0, 8)]
    assert passages(" \n", PassageLength(500, 2000, 50)) == []


@pytest.fixture(scope="module")
def nano() -> Embedder:
    return load_embedder("nano")


def odd_text(rng: random.Random) -> str:
    """Words of its vocabulary, of none, scripts of other lengths a token, runs of signs and of spaces."""
    pieces = [
        "a small red ring ",
        "indemnification ",
        "end. ",
        "\n\n",
        "写真と文章。",
        "Ünïcode größe ",
        "=" * 300,
        " " * 400,
        "😀" * 40,
        "<emb>",
        "\n",
    ]
    return "".join(rng.choices(pieces, k=500))


def test_no_passage_has_more_tokens_than_it_may(nano: Embedder):
    """Passages were measured in characters: 2,000 of prose were 950 tokens of a small tokenizer, and nothing held them to what is read."""
    rng = random.Random(2)
    ends = nano.text_measure.token_ends
    for _ in range(5):
        text = odd_text(rng)
        spans = passages(text, PassageLength(100, 2000, 12), ends)
        assert max(nano.num_tokens(text[start:end]) for start, end in spans) <= 104
        assert max(end - start for start, end in spans) <= 2000
        covered = {position for span in spans for position in range(*span)}
        assert not "".join(char for position, char in enumerate(text) if position not in covered).strip()


def test_tokens_of_a_long_text_are_those_of_its_blocks(nano: Embedder):
    text = "a small red ring at the top, and Größe 写真 " * 4000
    encoded = nano.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert list(token_ends(text, nano.processor.tokenizer)) == [end for _, end in encoded["offset_mapping"]]


def test_a_passage_is_within_what_the_embedder_reads():
    for measure in (TextMeasure(max_tokens=100), TextMeasure(max_chars=300)):
        length = Splitting().passage_length(measure)
        assert length is not None
        assert length.tokens <= (measure.max_tokens or 256)
        assert length.chars <= (measure.max_chars or 2000)
    assert Splitting().passage_length(TextMeasure(max_tokens=8192, max_chars=None)) == PassageLength(256, 2000, 32)
    assert Splitting(max_passage_chars=None).passage_length(TextMeasure()) is None


def test_passages_of_an_index_are_cut_by_the_embedders_tokens(nano: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_long_text(tmp_path / "book.txt")
    index = Index.open(tmp_path, embedder=ShortenedEmbedder(nano, 16))
    assert ingest(tmp_path, index, None, ShortenedEmbedder(nano, 16), think=False).failures == ()
    counts = [nano.num_tokens(row.text) for row in rows_of(index)]
    assert 128 < max(counts) <= 260
    assert "no tokenizer" not in capsys.readouterr().err


def test_without_a_tokenizer_tokens_are_estimated_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(2):
        write_long_text(tmp_path / f"{number}.txt", marked=number)
    rows = rows_of(index_of(tmp_path))
    assert 512 < max(len(row.text) for row in rows) <= 1024
    assert capsys.readouterr().err.count("no tokenizer here: passages are measured in characters, 4 for a token") == 1


def test_the_paragraph_in_which_texts_differ_is_found_and_marked(nano: Embedder, tmp_path: Path):
    """The paragraph was a quarter of its passage, and the passage of another text was nearer: .45 of 20 (`bench/passages.py`)."""
    prose = "the parties agree that every delivery is accepted in writing within ten days of its arrival and payment is due"
    rng = random.Random(0)
    base = [" ".join(rng.choices(prose.split(), k=80)) + "." for _ in range(12)]
    scenes = ["a big red star at top and a tiny blue ring at left", "a small green heart at center and a large pink cross at right"]
    for number, scene in enumerate(scenes):
        paragraphs = [*base]
        paragraphs[3 + 5 * number] = " ".join([scene] * 8)
        (tmp_path / f"{number}.txt").write_text("\n\n".join(paragraphs), "utf-8")
    index = Index.open(tmp_path, embedder=nano)
    assert ingest(tmp_path, index, None, nano, think=False).failures == ()
    for number, scene in enumerate(scenes):
        best = search(index, Query((Text(text=scene),), use_tcot=False), nano).hits[0]
        assert best.path.name == f"{number}.txt"
        assert scene in (tmp_path / best.path).read_text("utf-8")[best.start_char : best.end_char]
        assert scene.removeprefix("a ") in best.shared


def test_a_paragraph_that_fits_is_whole_and_no_passage_is_a_few_words():
    words = ["word"] * 60
    paragraphs = [" ".join(words[: 40 + number % 20]) + "." for number in range(50)]
    spans = passages("\n\n".join(paragraphs), PassageLength(75, 300, 8))
    assert ["\n\n".join(paragraphs)[start:end] for start, end in spans] == paragraphs
    for count in range(100, 200):
        lengths = [end - start for start, end in passages("word " * count, PassageLength(75, 300, 8))]
        assert min(lengths) > 100


def test_what_is_written_behind_lines_leaves_the_passages_before_as_they_are():
    lines = [f"{number} happened at {number * 7 % 60} past" for number in range(400)]
    length = PassageLength(100, 400, 12)
    before, after = passages("\n".join(lines[:-1]), length), passages("\n".join(lines), length)
    assert len(before) > 20
    assert before[:-3] == after[: len(before) - 3]


def test_an_edit_redoes_the_passages_around_it(library: Path, tmp_path: Path):
    path, embedder = tmp_path / "book.txt", FakeEmbedder()
    text = write_long_text(path)
    index = index_of(tmp_path, embedder)
    embedder.embedded.clear()
    at = text.index("An elephant")
    path.write_text(f"{text[:at]}A giraffe and {text[at:]}", "utf-8")
    index_of(tmp_path, embedder)
    assert 1 <= len(embedder.embedded) <= 4
    rows = rows_of(index)
    changed = path.read_text("utf-8")
    for row in rows:
        assert changed[row.place.start_char : row.place.end_char] == row.text, "offsets behind the edit have moved"


def test_a_text_of_five_megabytes_is_read_and_one_beyond_the_limit_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "long.txt"
    path.write_text("Nothing of note happened. " * 200_000, "utf-8")
    text = load_long_text(path)
    assert len(text) == 5_200_000
    spans = passages(text, PassageLength(500, 2000, 50))
    assert len(spans) > 2_600
    assert spans[-1][1] == len(text.rstrip())
    assert byte_offsets(path, text, [0, 5_000_000]) == {0: 0, 5_000_000: 5_000_000}
    with pytest.raises(Exception, match="100 times max_text_chars=1000; split it"):
        load_long_text(path, Limits(max_text_chars=1000))


def test_a_clip_of_a_few_seconds_and_a_film_without_changes_are_one_unit_each(tmp_path: Path):
    write_film(tmp_path / "short.mp4", ("red",))
    write_film(tmp_path / "still.mp4", ("red",) * 4)
    assert [row.place.unit for row in rows_of(index_of(tmp_path))] == [None, None]


def test_shots_as_short_as_the_shortest_scene_are_scenes(tmp_path: Path):
    """Of cuts within 1.5 s only the clearest counted, whatever the shortest scene: real footage cuts faster (bench/footage.py)."""
    save_video([PIL.Image.new("RGB", (64, 48), COLOURS[colour]) for colour in SHOTS * 2 for _ in range(10)], tmp_path / "fast.mp4", fps=8)
    rows = rows_of(index_of(tmp_path, splitting=Splitting(scenes=SceneSettings(min_scene_s=1.0))))
    starts = [row.start_s for row in rows if row.place.unit]
    assert starts == pytest.approx([1.25 * number for number in range(8)], abs=0.25)


def scene_starts(path: Path, colours: Sequence[tuple[int, int, int]], settings: SceneSettings, fps: int = 8) -> list[float]:
    """Return where scenes begin in a film of frames of one colour each."""
    save_video([PIL.Image.new("RGB", (64, 48), colour) for colour in colours], path, fps=fps)
    parts = [scan_part(path, Differences(), settings, Limits())]
    return [start for start, _ in scenes(parts, settings)]


def test_a_short_shot_between_hard_cuts_is_a_scene(tmp_path: Path):
    """Of cuts within 2 s one was lost: a shot of a second had no unit (bench/footage.py)."""
    red, green, blue = (COLOURS[name] for name in ("red", "green", "blue"))
    short = [red] * 40 + [green] * 10 + [blue] * 40
    assert scene_starts(tmp_path / "short.mp4", short, SceneSettings()) == pytest.approx([0, 5, 6.25], abs=0.1)
    assert len(scene_starts(tmp_path / "merged.mp4", short, SceneSettings(min_shot_s=2.0))) == 2
    at_the_end = [red] * 80 + [green] * 10
    assert scene_starts(tmp_path / "end.mp4", at_the_end, SceneSettings()) == pytest.approx([0, 10], abs=0.1)


def test_a_flash_and_the_steps_of_a_fade_are_no_short_shots(tmp_path: Path):
    red, blue, white = COLOURS["red"], COLOURS["blue"], (255, 255, 255)
    assert scene_starts(tmp_path / "flash.mp4", [red] * 60 + [white] * 2 + [red] * 60, SceneSettings()) == [0]
    fade = [tuple(round(a + (b - a) * step / 4) for a, b in zip(red, blue, strict=True)) for step in (1, 2, 3)]
    assert len(scene_starts(tmp_path / "fade.mp4", [red] * 12 + fade + [blue] * 12, SceneSettings(), fps=2)) == 2


def test_where_nothing_cuts_there_are_windows(tmp_path: Path):
    write_film(tmp_path / "still.mp4", ("red",) * 15)
    spans = [(row.start_s, row.end_s) for row in rows_of(index_of(tmp_path))]
    assert spans == [(0.0, 75.0), (0.0, 25.0), (25.0, 50.0), (50.0, 75.0)]


def test_models_are_shown_a_scene_as_they_are_shown_a_clip(tmp_path: Path):
    """Frames of a scene carried times since the beginning of the film: minutes in, a model was shown times that it never learned."""
    write_film(tmp_path / "film.mp4")
    write_film(tmp_path / "clip.mp4", SHOTS[2:3])
    scene = Video(path=tmp_path / "film.mp4", start_s=10.0, end_s=15.0)
    shown, labels = [], []
    for video in (scene, Video(path=tmp_path / "clip.mp4")):
        item = items.candidate((video,))
        [frames] = DecodedItem(item, PAPER_BUDGET, 16).own
        assert isinstance(frames, Frames)
        shown.append(frames.times_s)
        labels.append([part.get("text") for part in tcot_prompt(item, "nano", PAPER_BUDGET, 16).messages[0]["content"]])
    assert shown[0] == shown[1]
    assert labels[0] == labels[1]


def test_files_may_be_left_whole(tmp_path: Path):
    write_film(tmp_path / "film.mp4")
    whole = Splitting(scenes=None, max_passage_chars=None)
    assert [row.place.unit for row in rows_of(index_of(tmp_path, splitting=whole))] == [None]
    assert [row.place.unit for row in rows_of(index_of(tmp_path))] == [0, 1, 2, 3, 4], "and be divided later"


def test_an_index_from_before_there_were_units_is_read_and_brought_up_to_date(tmp_path: Path):
    write_film(tmp_path / "film.mp4")
    picture("pink").save(tmp_path / "pink.png")
    index = index_of(tmp_path, splitting=Splitting(scenes=None))
    index.table._opened().drop_columns(list(ADDED_COLUMNS))
    old = Index.open(tmp_path, embedder=FakeEmbedder())
    assert hits(old, "pink")[0].path.name == "pink.png"
    assert len(hits(old, "red")) == 2
    embedder = FakeEmbedder()
    assert [row.place.unit for row in rows_of(index_of(tmp_path, embedder))] == [0, 1, 2, 3, 4, None]
    assert len(embedder.embedded) == 4, "what was known is not embedded again"
    assert check_index(tmp_path).is_whole


@pytest.fixture(scope="module")
def server(library: Path) -> Iterator[Served]:
    with served(library, index=False, think=False) as found:
        yield found


def test_http_folds_shows_the_scene_and_the_passage(server: Served):
    best = server.search(text="blue")["hits"][0]
    assert (best["name"], best["unit"], best["num_units"], best["start_s"], best["end_s"]) == ("film.mp4", 3, 4, 10.0, 15.0)
    assert best["num_other_units"] == 4
    assert best["other_units"][0]["key"] != best["key"]
    picture_of = server.client.get(best["picture"])
    assert picture_of.headers["content-type"] == "image/jpeg"
    red, green, blue = PIL.Image.open(io.BytesIO(picture_of.content)).convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert blue > max(red, green) + 50, "the picture of a scene is of that scene"
    assert len(server.search(text="blue", unit="unit", limit=100)["hits"]) == len(Index.open(server.folder))
    passage = server.search(text="an elephant by the river", modality="text")["hits"][0]
    shown = server.client.get(f"/api/items/{passage['key']}").json()
    assert "An elephant walked by the river." in shown["text"]
    assert shown["end_char"] - shown["start_char"] == len(shown["text"])
    assert server.client.get(best["media"]).status_code == 200
    assert server.client.get(passage["media"]).status_code == 200

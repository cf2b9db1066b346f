"""What is said in a film or stands in a picture could not be found: subtitles, speech and text in images (issue 23, 4)."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from embedrl.cli.listing import hit_rows
from embedrl.data.segments import TextSegment, as_told, locate, matching, read_segments
from embedrl.embedder.inputs import build
from embedrl.index.answer import ask
from embedrl.index.checksums import check_index
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.query import Query
from embedrl.index.row import Row
from embedrl.index.search import search
from embedrl.index.units import item_of
from embedrl.media.content import Text, Video
from embedrl.media.decode import read_subtitles
from embedrl.media.resize import PAPER_BUDGET
from embedrl.media.sidecars import is_sidecar, sidecars_of
from embedrl.media.store import limits_in_force
from embedrl.media.subtitles import parse_cues
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.cases.test_units import write_film
from tests.served import Served, served

SRT = """1
00:00:01,000 --> 00:00:03,000
<i>Good morning.</i>

2
00:00:06,500 --> 00:00:08,000
Look, a zebra crosses
the <b>river</b>.

3
00:00:16,000 --> 00:00:18,000
Time for tea &amp; cake.
"""
"""Words in the first, the second and the fourth scene of `write_film`: red, green, blue, yellow, five seconds each."""


def index_of(folder: Path, *, think: bool = False, retry: bool = False) -> tuple[Index, IngestReport]:
    index = Index.open(folder, embedder=FakeEmbedder())
    return index, ingest(folder, index, FakeReasoner() if think else None, FakeEmbedder(), think=think, retry_failed=retry)


def hits(index: Index, text: str, **options: object) -> tuple[Hit, ...]:
    return search(index, Query(content=(Text(text=text),), use_tcot=False, **options), FakeEmbedder()).hits


def rows_of(index: Index) -> list[Row]:
    return sorted(index.rows({place.key for place in index.places()}), key=lambda row: row.place.position)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    write_film(folder / "film.mp4")
    (folder / "film.en.srt").write_text(SRT)
    index_of(folder, think=True)
    return folder


@pytest.mark.parametrize(
    ("written", "cues", "num_broken"),
    [
        ("1\n00:00:01,000 --> 00:00:02,500\nHello\nthere\n\n2\n00:00:03,000 --> 00:00:04,000\n42\n", ["Hello\nthere", "42"], 0),
        ("\ufeff1\n0:00:01.5 --> 0:00:02\nno blank line\n2\n00:00:03,000 --> 00:00:04,000\nnext", ["no blank line", "next"], 0),
        ("1\n00:00:01,000 --> 00:00:02,000\nbefore\n\nafter\n\n2\n00:00:03,000 --> 00:00:04,000\nb\n", ["before\nafter", "b"], 0),
        ("1\n00:00:02,000 --> 00:00:01,000\nends\n\n2\nnever --> later\nlost\n\n3\n00:00:05,000 --> 00:00:06,000\nok\n", ["ok"], 2),
        ("1\n00:00:01,000 --> 00:00:02,000 X1:100 Y1:200\n{\\an8}<font color=\"red\">red</font>\n", ["red"], 0),
        ("WEBVTT - title\n\nSTYLE\n::cue { color: red }\n\nid\n00:01.000 --> 00:02.000 align:start\n<v Ann>1 &lt; 2</v>\n", ["1 < 2"], 0),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\none\n\nNOTE no\n\n00:02.000 --> 00:03.000\none\n<00:00:02.5><c>two</c>\n", ["one", "two"], 0),
        ("1\n00:00:01,000 --> 00:00:02,000\nYes.\n\n2\n00:00:09,000 --> 00:00:10,000\nYes.\n", ["Yes.", "Yes."], 0),
        ("just a text\nwithout times", [], 0),
    ],
)  # fmt: skip
def test_cues_of_files_as_programs_write_them(written: str, cues: list[str], num_broken: int):
    parsed, broken = parse_cues(written)
    assert [cue.text for cue in parsed] == cues
    assert broken == num_broken


def test_a_moment_is_found_by_what_is_said_in_it(film: Path):
    best = hits(Index.open(film), "a zebra crosses the river")[0]
    assert (best.start_s, best.end_s) == (5.0, 10.0)
    assert [(segment.text, segment.start_s, segment.source) for segment in best.read] == [
        ("Look, a zebra crosses\nthe river.", 6.5, "subtitles")
    ]
    assert 'subtitles: "Look, a zebra crosses the river." (6.5 s)' in hit_rows([best])[0][-1]


def test_exact_words_find_what_is_said(film: Path):
    found = hits(Index.open(film), "something", filter=Filter(words=("zebra",)), unit="unit")
    assert [hit.unit for hit in found] == [2]


def test_models_are_shown_the_words_of_the_scene_marked_as_subtitles(film: Path):
    rows = rows_of(Index.open(film))
    assert [row.text for row in rows] == [
        "",  # the film beside its scenes
        "Good morning.",
        "Look, a zebra crosses\nthe river.",
        "",
        "Time for tea & cake.",
    ]
    segments = (TextSegment(text="Good morning.", source="subtitles", start_s=1.0, end_s=3.0),)
    assert as_told(segments) == "Subtitles:\nGood morning."


def test_a_keyword_that_is_said_is_quoted_with_its_time(film: Path):
    best = hits(Index.open(film), "a zebra crosses the river")[0]
    assert best.tcot is not None
    assert best.verification is not None
    at = best.tcot.evidence.keywords.index("zebra")
    assert best.verification.keywords[at]
    place = best.keyword_places[at]
    assert place is not None
    assert (place.start_s, place.end_s) == (6.5, 8.0)


def test_the_next_run_changes_nothing_and_the_index_is_whole(film: Path):
    _, report = index_of(film, think=True)
    assert (report.added, report.reused, report.unchanged) == (0, 0, 5)
    assert report.skipped["sidecars"] == 1
    assert check_index(film).is_whole


def test_a_clip_looked_for_by_itself_is_the_first_hit_though_words_were_read_in_it(tmp_path: Path):
    for name, colour in (("clip", "red"), ("other", "red"), ("green", "green")):
        write_film(tmp_path / f"{name}.mp4", (colour, "black")[: 1 if name != "other" else 2])
    (tmp_path / "clip.srt").write_text(SRT)
    index, _ = index_of(tmp_path)
    clip = Video(path=tmp_path / "clip.mp4")
    found = search(index, Query(content=(clip,), use_tcot=False), FakeEmbedder()).hits
    assert found[0].path.name == "clip.mp4"
    composed = search(index, Query(content=(clip, Text(text="at night")), use_tcot=False), FakeEmbedder()).hits
    assert "clip.mp4" not in [hit.path.name for hit in composed]


def test_changed_subtitles_redo_the_scenes_that_they_change(tmp_path: Path):
    write_film(tmp_path / "film.mp4")
    (tmp_path / "film.srt").write_text(SRT)
    index_of(tmp_path)
    (tmp_path / "film.srt").write_text(SRT.replace("zebra", "giraffe"))
    index, report = index_of(tmp_path)
    assert report.added == 1
    assert hits(index, "a giraffe")[0].read[0].start_s == 6.5
    (tmp_path / "film.srt").write_text(SRT.replace("zebra", "giraffe").replace("06,500", "07,500"))
    index, report = index_of(tmp_path)
    assert report.added == 0
    assert hits(index, "a giraffe")[0].read[0].start_s == 7.5


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1251"])
def test_subtitles_of_other_encodings_are_read(tmp_path: Path, encoding: str):
    write_film(tmp_path / "film.mp4", ("red",))
    words = "Здравствуйте, дорогие друзья! Сегодня мы расскажем вам сказку о золотой рыбке."
    (tmp_path / "film.mp4.srt").write_bytes(f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n".encode(encoding))
    index, _ = index_of(tmp_path)
    assert [row.text for row in rows_of(index)] == [words]


ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.50,0:00:02.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:06.50,0:00:08.00,Default,,0,0,0,,{\\i1}Look, a zebra{\\i0}\\Ncrosses, slowly.
Dialogue: 0,0:00:16.00,0:00:18.00,Default,,0,0,0,,Time for tea.
"""
SSA = "[Events]\nFormat: Marked, Start, End, Text\nDialogue: Marked=0,0:00:06.50,0:00:08.00,Look, a zebra\\Ncrosses, slowly.\n"
SBV = "0:00:06.500,0:00:08.000\nLook, a zebra\ncrosses, slowly.\n\n0:00:16.000,0:00:18.000\nTime for tea.\n"


def test_lyrics_without_times_are_named(tmp_path: Path):
    """They broke the decoder."""
    write_film(tmp_path / "film.mp4", ("red",))
    (tmp_path / "film.lrc").write_text("no times here")
    _, report = index_of(tmp_path)
    assert "nor a line of lyrics" in report.failures[0].reason


@pytest.mark.parametrize(("name", "text"), [("film.ass", ASS), ("film.ssa", SSA), ("film.en.sbv", SBV)])
def test_other_formats_of_subtitles_are_words_of_the_film(tmp_path: Path, name: str, text: str):
    """Files of SubStation Alpha and of YouTube were texts of their own, and the film had no words."""
    write_film(tmp_path / "film.mp4")
    (tmp_path / name).write_text(text)
    index, report = index_of(tmp_path)
    assert report.failures == ()
    assert report.skipped == {"sidecars": 1}
    assert [row.text for row in rows_of(index) if row.place.unit == 2] == ["Look, a zebra\ncrosses, slowly."]
    assert not any("not shown" in row.text for row in rows_of(index))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no times in here", "holds no cue"),
        (b"\x00\x01\x02\x03" * 64, "is binary"),
        (b"", "is empty"),
        (b"1\n00:00:09,000 --> 00:00:01,000\nlost\n\n2\n00:00:01,000 --> 00:00:02,000\nkept\n", "1 of 2 cues have no valid time"),
    ],
)
def test_bad_subtitles_are_named_and_the_film_is_kept(tmp_path: Path, data: bytes, reason: str):
    write_film(tmp_path / "film.mp4", ("red",))
    (tmp_path / "film.srt").write_bytes(data)
    for _ in range(2):  # the second run changes nothing, and says it again
        index, report = index_of(tmp_path)
        assert [failure.path.name for failure in report.failures] == ["film.srt"]
        assert reason in report.failures[0].reason
        assert [place.path.name for place in index.places()] == ["film.mp4"]
    (tmp_path / "film.srt").write_text(SRT)
    index, report = index_of(tmp_path)
    assert report.failures == ()
    assert "Good morning." in rows_of(index)[0].text


def write_embedded(path: Path, film: Path) -> None:
    """Put a film and the subtitles beside it into one container."""
    with av.open(film) as source, av.open(film.with_suffix(".srt"), format="srt") as words, av.open(path, "w") as target:
        pictures, cues = source.streams.video[0], words.streams.subtitles[0]
        video, text = target.add_stream_from_template(pictures), target.add_stream_from_template(cues)
        for packets, stream in ((source.demux(pictures), video), (words.demux(cues), text)):
            for packet in packets:
                if packet.size and packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)


def test_a_stream_of_subtitles_in_the_container_is_read(tmp_path: Path):
    apart = tmp_path / "apart"
    apart.mkdir()
    write_film(apart / "film.mp4")
    (apart / "film.srt").write_text(SRT)
    library = tmp_path / "library"
    library.mkdir()
    write_embedded(library / "film.mkv", apart / "film.mp4")
    index, _ = index_of(library)
    best = hits(index, "a zebra crosses the river")[0]
    assert best.unit == 2
    assert best.read[0].start_s == pytest.approx(6.5, abs=0.01)
    answer = ask(index, "what crosses the river?", FakeEmbedder())
    assert answer.citations[0].times_s == pytest.approx((6.5,), abs=0.01)


def test_subtitles_that_lead_out_of_the_served_folders_are_not_followed(tmp_path: Path):
    library = tmp_path / "library"
    library.mkdir()
    write_film(library / "film.mp4", ("red",))
    (tmp_path / "secret.srt").write_text(SRT)
    os.symlink(tmp_path / "secret.srt", library / "film.srt")
    index = Index.open(library, embedder=FakeEmbedder())
    report = ingest(library, index, None, FakeEmbedder(), think=False, roots=[library])
    assert [row.text for row in rows_of(index)] == [""]
    assert "leads out" in report.failures[0].reason


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        *[("film.srt", True), ("film.mp4.srt", True), ("film.en.srt", True), ("film.pt-BR.forced.vtt", True)],
        *[("films.srt", False), ("other.en.srt", False)],
    ],
)
def test_what_belongs_to_a_film_by_its_name(tmp_path: Path, name: str, belongs: bool):
    (tmp_path / "film.mp4").touch()
    (tmp_path / name).touch()
    assert is_sidecar(tmp_path / name) is belongs


def test_a_phrase_may_run_over_segments_and_has_the_boxes_of_its_words():
    lines = (
        TextSegment(text="Total due:", source="image", boxes=((0, 0, 90, 10), (100, 0, 150, 10))),
        TextSegment(text="42 Euro", source="image", boxes=((0, 20, 40, 30), (50, 20, 90, 30))),
    )
    place = locate("due 42", lines)
    assert place is not None
    assert place.boxes == ((100, 0, 150, 10), (0, 20, 40, 30))
    assert locate("42 due", lines) is None
    assert matching(lines, "how many euro is it") == (lines[1],)
    assert matching(lines, "the of") == ()


def test_an_embedder_is_given_the_words_with_the_frames(film: Path):
    row = rows_of(Index.open(film))[2]
    item = item_of(row, film / "film.mp4", limits_in_force())
    assert item.key == row.place.key
    built = build(item, None, PAPER_BUDGET, 28)
    assert "Subtitles:\nLook, a zebra" in built.parts[1]["text"]


@pytest.fixture(scope="module")
def server(film: Path) -> Iterator[Served]:
    with served(film, index=False, think=False) as found:
        yield found


def test_http_shows_the_words_with_their_time(server: Served):
    hit = server.client.post("/api/search", data={"text": "a zebra crosses the river", "think": "false"}).json()["hits"][0]
    assert [(segment["text"], segment["start_s"]) for segment in hit["read"]] == [("Look, a zebra crosses\nthe river.", 6.5)]
    zebra = next(word for word in hit["evidence"]["keywords"] if word["text"] == "zebra")
    assert zebra["place"]["start_s"] == 6.5
    item = server.client.get(f"/api/items/{hit['key']}").json()
    assert [segment["start_s"] for segment in item["segments"]] == [6.5]


MICRODVD = "{1}{1}4.000\n{2}{6}{y:i}Good morning.\n{13}{16}Look, a zebra|crosses\n{20}{19}never\n"


@pytest.mark.parametrize("header", [True, False])
def test_subtitles_in_frames_have_the_rate_that_they_say_or_the_film_s(tmp_path: Path, header: bool):
    write_film(tmp_path / "film.mp4")
    (tmp_path / "film.en.sub").write_text(MICRODVD if header else MICRODVD.partition("\n")[2])
    cues, _, problems = read_subtitles(tmp_path / "film.mp4", sidecars_of(tmp_path / "film.mp4"))
    fps = 4 if header else 2  # of `write_film`
    assert [(cue.start_s, cue.end_s, cue.text) for cue in cues] == [
        (2 / fps, 6 / fps, "Good morning."),
        (13 / fps, 16 / fps, "Look, a zebra\ncrosses"),
    ]
    assert [reason for _, reason in problems] == ["1 of 3 cues have no valid time and are left out"]


def test_subtitles_that_are_pictures_are_told(tmp_path: Path):
    write_film(tmp_path / "film.mp4")
    (tmp_path / "film.sub").write_bytes(b"\0\0\1\xba" + bytes(2000))
    _, report = index_of(tmp_path)
    assert [(failure.path.name, failure.reason) for failure in report.failures] == [("film.sub", "is binary, not text")]


def test_titles_of_chapters_are_words_of_the_scenes_in_them(tmp_path: Path):
    write_film(tmp_path / "plain.mp4")
    titles = (("The opening", 0.0, 5.2), ("Chapter 02", 5.2, 9.9), ("A giraffe", 9.9, 20.0))
    with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(tmp_path / "film.mkv"), "w") as target:
        chapters = [
            {"id": number, "start": round(start * 10), "end": round(end * 10), "time_base": Fraction(1, 10), "metadata": {"title": title}}
            for number, (title, start, end) in enumerate(titles, 1)
        ]
        target.set_chapters(chapters)
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    (tmp_path / "plain.mp4").unlink()
    index, report = index_of(tmp_path)
    assert report.failures == ()
    words = [[(segment.text, segment.source) for segment in read_segments(row.segments)] for row in rows_of(index)]
    assert words == [[], [("The opening", "chapters")], [], [("A giraffe", "chapters")], [("A giraffe", "chapters")]]
    assert hits(index, "a giraffe")[0].start_s >= 10.0


@pytest.mark.parametrize(
    ("name", "written", "num_cues"),
    [
        ("film.sbv", "\n" * 900_000 + "0:00:01.000,0:00:02.000\nhello", 1),
        ("film.sub", "\n" * 900_000 + "{1}{1}25\n{25}{50}hello", 1),
        ("film.lrc", "[00:01]" * 19_000 + "word " * 150_000, 0),
        ("film.vtt", "00:01.000 --> 00:02.000\n" + "a\nb\n" * 99_999 + "\n00:02.000 --> 00:03.000\n" + "c\nd\n" * 99_999, 2),
    ],
)
def test_subtitles_of_any_form_are_read_in_time(film: Path, tmp_path: Path, name: str, written: str, num_cues: int):
    (tmp_path / name).write_text(written)  # quadratic, they would end at decode_timeout_s
    cues, _, problems = read_subtitles(film / "film.mp4", [tmp_path / name])
    assert len(cues) == num_cues
    assert [reason[:28] for _, reason in problems] == ["the subtitles have more than"] * (not num_cues)

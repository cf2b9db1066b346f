"""Audio files were left out: what is said in one becomes passages with times (issue 23, 2 and 4)."""

import io
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from embedrl.cli.listing import hit_rows
from embedrl.cli.main import main
from embedrl.errors import MediaError
from embedrl.index.checksums import check_index
from embedrl.index.contents import contents
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.media.decode import read_metadata, read_sound
from embedrl.media.sound import SAMPLE_RATE
from embedrl.media.store import Limits
from embedrl.media.subtitles import parse_lyrics
from embedrl.media.tracks import has_only_sound
from embedrl.server.sandbox import decode as decode_upload
from embedrl.testing import FakeEmbedder, FakeReasoner, FakeTranscriber
from tests.cases.test_speech import sound
from tests.served import served

CODECS = {".mp3": "libmp3lame", ".wav": "pcm_s16le", ".flac": "flac", ".ogg": "flac", ".opus": "libopus", ".m4a": "aac"}
SPOKEN = {"alder": 1.0, "cedar": 6.5, "poplar": 7.0, "olive": 16.0}
LENGTH_S = 20.0


def write_audio(
    path: Path, spoken: Mapping[str, float] = SPOKEN, length_s: float = LENGTH_S, tags: Mapping[str, str] | None = None
) -> None:
    """Write tones that are words."""
    with av.open(path, "w", format="ipod" if path.suffix == ".m4a" else None) as container:
        container.metadata.update(tags or {})
        rate = 48_000 if path.suffix == ".opus" else SAMPLE_RATE
        stream = container.add_stream(CODECS[path.suffix], rate=rate, layout="mono")
        resampler = av.AudioResampler(stream.format.name, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(sound(dict(spoken), length_s)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))


def write_track(path: Path, codec: str) -> None:
    """Write the same tones as the only track of a container."""
    with av.open(path, "w") as container:
        rate = 48_000
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(stream.format.name, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(sound(dict(SPOKEN), LENGTH_S)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))


def index_of(
    folder: Path, transcriber: FakeTranscriber | None = None, *, think: bool = False, retry: bool = False
) -> tuple[Index, IngestReport]:
    index = Index.open(folder, embedder=FakeEmbedder())
    reasoner = FakeReasoner() if think else None
    return index, ingest(folder, index, reasoner, FakeEmbedder(), think=think, retry_failed=retry, transcriber=transcriber)


def texts(index: Index) -> list[tuple[str, str]]:
    rows = index.rows({place.key for place in index.places()})
    return [(str(row.place.path), row.text) for row in sorted(rows, key=lambda row: row.place.position)]


def find(index: Index, words: str) -> Hit:
    return search(index, Query((Text(text=words),), use_tcot=False), FakeEmbedder()).hits[0]


@pytest.mark.parametrize("suffix", CODECS)
def test_sound_of_every_format_is_decoded_to_its_end(tmp_path: Path, suffix: str):
    path = tmp_path / f"talk{suffix}"
    write_audio(path, {word: SPOKEN[word] for word in ("alder", "cedar", "poplar")}, 10.0)
    decoded = read_sound(path, 0.0)
    assert decoded.next_s is None
    assert len(decoded.samples) / SAMPLE_RATE == pytest.approx(10.0, abs=0.2)
    [first, second] = FakeTranscriber().transcribe(decoded.samples)
    assert (first.text, second.text) == ("alder", "cedar poplar")
    assert first.start_s == pytest.approx(1.0, abs=0.15)
    assert second.start_s == pytest.approx(6.5, abs=0.15)


@pytest.mark.parametrize("suffix", [".mp3", ".flac"])
def test_long_sound_comes_in_pieces_that_join(tmp_path: Path, suffix: str):
    path = tmp_path / f"long{suffix}"
    write_audio(path, {"alder": 5.0, "cedar": 130.0, "olive": 200.0}, 250.0)
    start_s, said = 0.0, []
    while start_s is not None:
        piece = read_sound(path, start_s)
        said += [(each.text, each.start_s + start_s) for each in FakeTranscriber().transcribe(piece.samples)]
        end_s, start_s = start_s + len(piece.samples) / SAMPLE_RATE, piece.next_s
    assert [word for word, _ in said] == ["alder", "cedar", "olive"]
    assert [time_s for _, time_s in said] == pytest.approx([5.0, 130.0, 200.0], abs=0.15)
    assert end_s == pytest.approx(250.0, abs=0.2)


def add_lyrics(path: Path, lyrics: str) -> None:
    """Put lyrics before an MP3 as an ID3v2.3 tag holds them (USLT)."""
    body = b"\x00eng\x00" + lyrics.encode("latin-1")
    frame = b"USLT" + len(body).to_bytes(4) + b"\0\0" + body
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + frame + path.read_bytes())


def test_lyrics_in_the_tags_are_words_of_a_song(tmp_path: Path):
    """A song whose lyrics stand in the file itself was left out for want of a transcriber."""
    write_audio(tmp_path / "a.mp3")
    add_lyrics(tmp_path / "a.mp3", "An elephant walks\nby the river")
    write_audio(tmp_path / "b.flac", tags={"LYRICS": "[00:01.00]A zebra\n[00:04.50]in the rain"})
    write_audio(tmp_path / "c.m4a", tags={"lyrics": "Lions sleep"})
    write_audio(tmp_path / "d.mp3")
    index, report = index_of(tmp_path)
    assert texts(index) == [("a.mp3", "An elephant walks\nby the river"), ("b.flac", "A zebra\nin the rain"), ("c.m4a", "Lions sleep")]
    assert report.audio_left_out == {"no_transcriber": 1}
    assert find(index, "zebra").start_s == pytest.approx(1.0)
    assert index_of(tmp_path)[1].unchanged == 3


def test_what_is_said_is_found_with_its_second(tmp_path: Path):
    write_audio(tmp_path / "talk.mp3", tags={"title": "Trees", "artist": "Ada Grove", "album": "Woods", "date": "2019-07-01"})
    (tmp_path / "note.txt").write_text("nothing about plants", "utf-8")
    transcriber = FakeTranscriber()
    index, report = index_of(tmp_path, transcriber)
    assert report.failures == ()
    assert report.audio_left_out == {}
    assert (report.speech.num_heard, report.speech.num_with_speech) == (1, 1)
    best = find(index, "poplar")
    assert (best.path, best.modality) == (Path("talk.mp3"), "text")
    assert best.excerpt == "alder\ncedar poplar\nolive"
    assert (best.start_s, best.end_s) == pytest.approx((1.0, 16.5), abs=0.15)
    assert [(segment.text, segment.source) for segment in best.read] == [("cedar poplar", "speech")]
    assert best.read[0].start_s == pytest.approx(6.5, abs=0.15)
    assert best.about == "Trees\nAda Grove\nWoods"
    assert best.captured_from == "tags"
    assert search(index, Query(filter=Filter(words=("grove",)))).hits[0].path == Path("talk.mp3")
    assert contents(index).words == {"speech": 1}
    _, again = index_of(tmp_path, transcriber)
    assert (again.unchanged, again.added, transcriber.num_heard) == (2, 0, 1)
    _, without = index_of(tmp_path)
    assert (without.unchanged, without.removed, without.audio_left_out) == (2, 0, {})
    assert check_index(tmp_path).is_whole


def test_long_talks_are_passages_of_whole_phrases(tmp_path: Path):
    lines = [f"line {number} of a long talk about the weather and the sea" for number in range(200)]
    write_audio(tmp_path / "talk.ogg", {}, 5.0)
    cues = [
        f"{number + 1}\n00:{number // 60:02}:{number % 60:02},000 --> 00:{number // 60:02}:{number % 60:02},900\n{line}\n"
        for number, line in enumerate(lines)
    ]
    (tmp_path / "talk.srt").write_text("\n".join(cues), "utf-8")
    index, report = index_of(tmp_path)
    rows = sorted(index.rows({place.key for place in index.places()}), key=lambda row: row.place.position)
    assert len(rows) > 5
    assert [line for row in rows for line in row.text.split("\n")] == lines
    assert all(len(row.text) <= 2000 for row in rows)
    assert [row.start_s for row in rows[1:]] == [lines.index(row.text.split("\n")[0]) for row in rows[1:]]
    assert report.speech.num_heard == 0
    [hit] = search(index, Query((Text(text=rows[3].text),), use_tcot=False), FakeEmbedder()).hits
    assert (hit.unit, hit.num_units, hit.start_s) == (4, len(rows), rows[3].start_s)
    assert hit.num_other_units == len(rows) - 1
    assert hit.other_units[0].start_s is not None
    assert f"talk.ogg, {int(hit.start_s) // 60}:{int(hit.start_s) % 60:02}-" in hit_rows([hit])[0][3]


def test_a_sidecar_says_it_without_a_transcriber_which_is_then_not_asked(tmp_path: Path):
    write_audio(tmp_path / "song.mp3")
    (tmp_path / "song.lrc").write_text(
        "[ar:Ada]\n[offset:+500]\n[00:01.50]Birch trees\n[00:05.00][00:15.00]in a <00:05.50>row\n[00:09.00]\n", "utf-8"
    )
    transcriber = FakeTranscriber()
    index, report = index_of(tmp_path, transcriber)
    assert texts(index) == [("song.mp3", "Birch trees\nin a row\nin a row")]
    assert (transcriber.num_heard, report.skipped) == (0, {"sidecars": 1})
    hit = find(index, "birch")
    assert (hit.start_s, hit.end_s) == (1.0, 24.5)
    (tmp_path / "song.lrc").unlink()
    index, _ = index_of(tmp_path, transcriber)
    assert texts(index) == [("song.mp3", "alder\ncedar poplar\nolive")]


def test_lyrics_by_hand():
    cues, num_broken = parse_lyrics("[ti:A]\nno time\n[00:01.5]one\n[1:02.250]two\n[00:03]\n")
    assert [tuple(cue) for cue in cues] == [(1.5, 3.0, "one"), (62.25, 72.25, "two")]
    assert num_broken == 0


def test_lines_of_one_time_are_all_kept():
    cues, _ = parse_lyrics("[00:01]hello\n[00:01]ni hao\n[00:05]world\n[00:05]shi jie\n")
    assert [tuple(cue) for cue in cues] == [(1.0, 5.0, "hello"), (1.0, 5.0, "ni hao"), (5.0, 15.0, "world"), (5.0, 15.0, "shi jie")]


def test_what_was_heard_stays_while_nobody_listens(tmp_path: Path):
    write_audio(tmp_path / "talk.mp3")
    index_of(tmp_path, FakeTranscriber())
    other = FakeTranscriber(is_gone=True)
    other.fingerprint = "another transcriber"
    index, report = index_of(tmp_path, other)
    assert (report.removed, report.audio_left_out) == (0, {"not_transcribed": 1})
    assert texts(index) == [("talk.mp3", "alder\ncedar poplar\nolive")]
    os.utime(tmp_path / "talk.mp3", (1e9, 1e9))
    index, report = index_of(tmp_path)
    assert (report.removed, report.audio_left_out, len(texts(index))) == (0, {"no_transcriber": 1}, 1)
    (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nbirch\n", "utf-8")
    index, _ = index_of(tmp_path)
    assert texts(index) == [("talk.mp3", "birch")]
    (tmp_path / "talk.srt").unlink()
    index, report = index_of(tmp_path)
    assert (report.removed, texts(index)) == (1, []), "subtitles that are gone say nothing"


def test_a_phrase_is_told_in_one_passage_with_its_own_second(tmp_path: Path):
    write_audio(tmp_path / "talk.ogg", {}, 5.0)
    cues = ["0\n00:00:00,000 --> 00:10:00,000\nmusic\n"]
    cues += [f"{number}\n00:00:{number:02},000 --> 00:00:{number + 1:02},500\n{f'line {number} ' * 40}\n" for number in range(1, 50)]
    cues += ["50\n00:00:50,000 --> 00:00:51,000\n" + "endless " * 3000 + "\n"]
    (tmp_path / "talk.srt").write_text("\n".join(cues), "utf-8")
    index, report = index_of(tmp_path)
    assert report.failures == ()
    rows = sorted(index.rows({place.key for place in index.places()}), key=lambda row: row.place.position)
    lines = [line for row in rows for line in row.text.split("\n")]
    assert (len(rows) > 5, len(lines), lines.count("music"), len(set(lines))) == (True, 51, 1, 51)
    assert [row.start_s for row in rows[1:]] == [float(row.text.split()[1]) if "line" in row.text else 50.0 for row in rows[1:]]


def test_audio_without_words_is_counted_by_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_audio(tmp_path / "talk.wav")
    write_audio(tmp_path / "still.flac", {})
    (tmp_path / "broken.ogg").write_bytes(b"OggS" + bytes(200))
    _, report = index_of(tmp_path)
    assert report.audio_left_out == {"no_transcriber": 2}
    assert report.unread_kinds == {}
    assert report.unsupported == 2
    assert [str(failure.path) for failure in report.failures] == ["broken.ogg"]
    _, report = index_of(tmp_path, FakeTranscriber(is_gone=True))
    assert report.audio_left_out == {"not_transcribed": 1, "nothing_said": 1}
    assert report.unread_kinds == {}
    assert [Path(failure.path).name for failure in report.speech.failures] == ["talk.wav"]
    index, report = index_of(tmp_path, FakeTranscriber())
    assert texts(index) == [("talk.wav", "alder\ncedar poplar\nolive")]
    assert report.audio_left_out == {"nothing_said": 1}
    other = tmp_path / "other"
    other.mkdir()
    write_audio(other / "talk.wav")
    with pytest.raises(SystemExit) as stopped:
        main(["index", str(other), "--no-think", "--embedder", "nano"])
    assert stopped.value.code == 0
    assert "1 audio file left out: give --transcribe" in capsys.readouterr().err


def test_a_sidecar_of_audio_that_says_nothing_is_listed(tmp_path: Path):
    write_audio(tmp_path / "talk.mp3")
    (tmp_path / "talk.srt").write_text("no times here", "utf-8")
    _, report = index_of(tmp_path)
    assert [str(failure.path) for failure in report.failures] == ["talk.srt"]
    assert report.audio_left_out == {"no_transcriber": 1}


def test_the_same_words_have_their_own_times_everywhere(tmp_path: Path):
    for name, at_s in (("a.mp3", 1.0), ("b.mp3", 8.0)):
        write_audio(tmp_path / name, {"alder": at_s}, 12.0)
    (tmp_path / "c.txt").write_text("alder", "utf-8")
    index, report = index_of(tmp_path, FakeTranscriber())
    rows = sorted(index.rows({place.key for place in index.places()}), key=lambda row: row.place.position)
    assert [row.text for row in rows] == ["alder"] * 3
    assert [row.start_s for row in rows[:2]] == pytest.approx([1.0, 8.0], abs=0.15)
    assert rows[2].start_s is None
    assert (report.added, report.reused) == (1, 2)
    _, again = index_of(tmp_path, FakeTranscriber())
    assert (again.unchanged, again.added, again.reused) == (3, 0, 0)


def test_kinds_are_told_by_content(tmp_path: Path):
    write_audio(tmp_path / "talk.m4a")
    os.rename(tmp_path / "talk.m4a", tmp_path / "talk.bin")
    write_audio(tmp_path / "tone.mp3")
    os.rename(tmp_path / "tone.mp3", tmp_path / "tone.dat")
    index, _ = index_of(tmp_path, FakeTranscriber())
    assert [path for path, _ in texts(index)] == ["talk.bin", "tone.dat"]


def test_a_text_that_begins_like_a_tag_stays_a_text(tmp_path: Path):
    (tmp_path / "notes.md").write_text("ID3 is an algorithm for decision trees", "utf-8")
    index, report = index_of(tmp_path)
    assert (texts(index), report.audio_left_out) == ([("notes.md", "ID3 is an algorithm for decision trees")], {})


def test_a_tag_may_stand_before_other_formats_than_mp3(tmp_path: Path):
    path = tmp_path / "talk.flac"
    write_audio(path, {"alder": 1.0}, 5.0)
    path.write_bytes(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + path.read_bytes())
    assert len(read_sound(path, 0.0).samples) / SAMPLE_RATE == pytest.approx(5.0, abs=0.2)


def test_metadata_of_audio(tmp_path: Path):
    for suffix in (".mp3", ".flac", ".ogg", ".m4a"):
        path = tmp_path / f"song{suffix}"
        write_audio(path, {}, 1.0, tags={"title": "Oak", "artist": "Ada"})
        assert read_metadata(path, "text").about == "Oak\nAda"


def test_the_server_sends_audio_as_such(tmp_path: Path):
    write_audio(tmp_path / "talk.mp3")
    index_of(tmp_path, FakeTranscriber())
    with served(tmp_path, think=False, transcriber=FakeTranscriber()) as server:
        hit = server.search(text="poplar", think="never")["hits"][0]
        assert hit["name"] == "talk.mp3"
        assert hit["read"][0]["start_s"] == pytest.approx(6.5, abs=0.15)
        media = server.client.get(hit["media"], headers={"Range": "bytes=0-9"})
        assert (media.status_code, media.headers["content-type"]) == (206, "audio/mpeg")
        assert server.client.get(f"/api/items/{hit['key']}").json()["segments"][1]["text"] == "cedar poplar"


def test_noise_that_looks_like_a_frame_of_mp3_is_not_audio(tmp_path: Path):
    (tmp_path / "noise.bin").write_bytes(b"\xff\xfb" + np.random.default_rng(0).bytes(5000))
    _, report = index_of(tmp_path, FakeTranscriber())
    assert report.unread_kinds == {".bin": 1}


@pytest.mark.parametrize("container", ["talk.mp4", "talk.mov", "talk.mkv", "talk.webm"])
def test_a_container_of_videos_without_a_picture_is_audio(tmp_path: Path, container: str):
    """It was refused ("has no video, only audio"); recorders write such files."""
    codec = "libopus" if container.endswith((".mkv", ".webm")) else "aac"
    write_track(tmp_path / container, codec)
    (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nalder\n", "utf-8")
    index, report = index_of(tmp_path)
    assert report.failures == ()
    assert texts(index) == [(container, "alder")]
    (tmp_path / "talk.srt").unlink()
    index, report = index_of(tmp_path, FakeTranscriber())
    assert texts(index) == [(container, "alder\ncedar poplar\nolive")]


def test_damaged_and_nested_headers_say_nothing_of_tracks():
    matroska = b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\xff"
    for data, container in (
        (b"", "mov"),
        (b"\0\0\0\x08moov" * 2000, "mov"),
        (b"\xff\xff\xff\xffmoov" + bytes(20), "mov"),
        (matroska + b"\0" * 50, "matroska"),
        (matroska + b"\x16\x54\xae\x6b\x08\xae\x0f\x83\xff", "matroska"),
        (b"RIFF", "avi"),
    ):
        assert not has_only_sound(io.BytesIO(data), container)


@pytest.mark.parametrize("name", ["talk.flac", "talk.mp4"])
def test_as_query_and_upload_sound_is_refused_with_what_to_do(tmp_path: Path, name: str):
    """It was "not a supported file type", although the index takes it."""
    write_audio(tmp_path / name) if name.endswith(".flac") else write_track(tmp_path / name, "aac")
    with pytest.raises(MediaError, match=r"is an audio file.*search with those words.*indexed folder"):
        decode_upload(tmp_path / name, Limits(), num_frames=8)


def test_a_file_of_nested_boxes_is_not_walked_to_its_end():
    """8 x 1,000 x 1,000 boxes kept the server's own process busy for 20 s: the limit held for each level by itself."""

    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    def box(kind: bytes, content: bytes) -> bytes:
        return (8 + len(content)).to_bytes(4, "big") + kind + content

    data = box(b"ftyp", b"isom" + bytes(4)) + box(b"moov", box(b"trak", box(b"mdia", box(b"hdlr", bytes(12)) * 200) * 100) * 2)
    file = Counted(data)
    assert not has_only_sound(file, "mov")
    assert file.reads < 25_000


def test_sound_behind_other_bytes_is_known_and_what_is_none_is_said(tmp_path: Path):
    """MP3s behind padding were "of a kind that is not read", and so was noise of that name; damaged ones wanted a transcriber."""
    write_audio(tmp_path / "talk.mp3")
    (tmp_path / "padded.mp3").write_bytes(bytes(700) + (tmp_path / "talk.mp3").read_bytes())
    (tmp_path / "tag_alone.mp3").write_bytes(b"ID3\3\0\0\0\0\0\x0aTIT2" + bytes(100))
    for name in ("noise.flac", "noise.ogg", "noise.mp3"):
        (tmp_path / name).write_bytes(bytes(range(1, 9)) * 100)
    (tmp_path / "page.mp3").write_text("<html>not found</html>\n")
    index, report = index_of(tmp_path, FakeTranscriber())
    assert {name for name, _ in texts(index)} == {"talk.mp3", "padded.mp3"}
    reasons = {str(failure.path): failure.reason for failure in report.failures}
    assert "damaged" in reasons.pop("tag_alone.mp3")
    assert set(reasons) == {"noise.flac", "noise.ogg", "noise.mp3", "page.mp3"}
    assert all("named like an audio file" in reason for reason in reasons.values())
    assert (report.audio_left_out, report.unread_kinds) == ({}, {})

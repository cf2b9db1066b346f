"""Speech in films could not be found (issue 23, 4)."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from embedrl.cli.main import main
from embedrl.data.protocols import Refusal
from embedrl.data.segments import TextSegment, locate
from embedrl.errors import ConfigError, ModelError
from embedrl.index.answer import ask
from embedrl.index.checksums import check_index
from embedrl.index.contents import contents
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.query import Query
from embedrl.index.row import Row
from embedrl.index.search import search
from embedrl.media.content import Text
from embedrl.media.decode import read_sound
from embedrl.media.sound import PIECE_S, SAMPLE_RATE
from embedrl.media.video import save_video
from embedrl.models.remote_transcriber import RemoteTranscriber
from embedrl.models.transcript import HeardPhrase, HeardWord, segments_of
from embedrl.runtime.names import load_transcriber
from embedrl.testing import COLOURS, TONES, FakeEmbedder, FakeReasoner, FakeTranscriber
from tests.scripts import load_script
from tests.served import served
from tests.transcription_server import Request, TranscriptionServer, transcription_server

SHOTS = ("red", "green", "blue", "yellow")
SPOKEN = {"alder": 1.0, "cedar": 6.5, "poplar": 7.0, "olive": 16.0}
"""When each word begins, half a second long: in the first, the second and the fourth scene."""


def sound(spoken: dict[str, float], length_s: float) -> np.ndarray:
    samples = np.zeros(round(length_s * SAMPLE_RATE), np.int16)
    times = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    for word, at_s in spoken.items():
        start = round(at_s * SAMPLE_RATE)
        samples[start : start + len(times)] = 8000 * np.sin(2 * np.pi * TONES[word] * times)
    return samples


def write_film(path: Path, spoken: dict[str, float] = SPOKEN, shots: tuple[str, ...] = SHOTS, shot_s: int = 5, **options: object) -> None:
    """Write shots, each all of one colour, with tones that are words."""
    mute = path.with_name("mute.mp4")
    save_video([PIL.Image.new("RGB", (64, 48), COLOURS[colour]) for colour in shots for _ in range(2 * shot_s)], mute, fps=2)
    load_script("bench/speech.py").add_sound(mute, sound(spoken, len(shots) * shot_s), path, **options)
    mute.unlink()


def index_of(folder: Path, transcriber: object, *, think: bool = False, retry: bool = False) -> tuple[Index, IngestReport]:
    index = Index.open(folder, embedder=FakeEmbedder())
    reasoner = FakeReasoner() if think else None
    return index, ingest(folder, index, reasoner, FakeEmbedder(), think=think, retry_failed=retry, transcriber=transcriber)


def rows_of(index: Index) -> list[Row]:
    return sorted(index.rows({place.key for place in index.places()}), key=lambda row: row.place.position)


def words_of(index: Index) -> list[str]:
    return [row.text for row in rows_of(index)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    write_film(folder / "film.mp4")
    index_of(folder, FakeTranscriber(), think=True)
    return folder


def test_what_is_said_is_text_of_its_scene_marked_as_speech(folder: Path):
    rows = rows_of(Index.open(folder))
    assert [row.text for row in rows] == ["", "alder", "cedar poplar", "", "olive"]
    assert '"source": "speech"' in rows[1].segments


def test_a_moment_is_found_by_what_is_said_in_it_with_its_time(folder: Path):
    index = Index.open(folder)
    best = search(index, Query(content=(Text(text="poplar"),), use_tcot=False), FakeEmbedder()).hits[0]
    assert (best.start_s, best.end_s) == (5.0, 10.0)
    assert [(segment.text, segment.source) for segment in best.read] == [("cedar poplar", "speech")]
    assert best.read[0].start_s == pytest.approx(6.5, abs=0.1)
    assert [hit.unit for hit in search(index, Query(filter=Filter(words=("olive",)), unit="unit")).hits] == [4]


def test_a_keyword_found_in_speech_has_the_time_of_its_word(folder: Path):
    best = search(Index.open(folder), Query(content=(Text(text="poplar"),), use_tcot=False), FakeEmbedder()).hits[0]
    assert best.tcot is not None
    place = best.keyword_places[best.tcot.evidence.keywords.index("poplar")]
    assert place is not None
    assert (place.start_s, place.end_s) == pytest.approx((7.0, 7.5), abs=0.1)


def test_the_next_run_asks_for_nothing_and_one_without_a_transcriber_takes_nothing_away(folder: Path):
    transcriber = FakeTranscriber()
    _, report = index_of(folder, transcriber, think=True)
    assert (report.added, report.reused, report.unchanged) == (0, 0, 5)
    assert transcriber.num_heard == 0
    index, report = index_of(folder, None, think=True)
    assert report.unchanged == 5
    assert words_of(index)[1] == "alder"
    assert check_index(folder).is_whole


def test_an_index_made_without_a_transcriber_is_heard_when_there_is_one(tmp_path: Path):
    write_film(tmp_path / "film.mp4")
    index_of(tmp_path, None)
    index, report = index_of(tmp_path, FakeTranscriber())
    assert report.added == 3  # the scenes in which something is said
    assert words_of(index) == ["", "alder", "cedar poplar", "", "olive"]
    assert ask(index, "poplar and what?", FakeEmbedder()).citations[0].times_s == pytest.approx((6.5,), abs=0.1)
    assert contents(index).words == {"speech": 3}
    shutil.copy(tmp_path / "film.mp4", tmp_path / "copy.mp4")
    transcriber = FakeTranscriber()
    _, report = index_of(tmp_path, transcriber)
    assert (transcriber.num_heard, report.added, report.reused) == (0, 0, 5)


def test_subtitles_and_speech_stand_side_by_side(tmp_path: Path):
    write_film(tmp_path / "film.mp4")
    (tmp_path / "film.srt").write_text("1\n00:00:02,000 --> 00:00:03,000\nGood morning.\n")
    index, _ = index_of(tmp_path, FakeTranscriber())
    assert words_of(index)[1] == "alder\nGood morning."


def test_films_without_a_track_and_silent_ones_are_said(tmp_path: Path):
    save_video([PIL.Image.new("RGB", (64, 48), "red")] * 4, tmp_path / "mute.mp4", fps=2)
    (tmp_path / "a").mkdir()
    write_film(tmp_path / "a" / "silent.mp4", {}, ("red",))
    transcriber = FakeTranscriber()
    _, report = index_of(tmp_path, transcriber)
    assert report.speech.in_words == {"without a track of sound": 1, "silent": 1}
    assert (report.speech.failures, transcriber.num_heard) == ((), 0)


LONG_SHOTS = ("red", "green", "blue", "yellow", "red", "green")
LONG = {"alder": 10.0, "birch": 130.0, "cedar": 250.0, "maple": 290.0}
"""In a film of five minutes: three pieces."""


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    write_film(path, LONG, LONG_SHOTS, 50, codec="flac")
    return path


def test_pieces_of_sound_follow_one_another_and_are_bounded(long_film: Path):
    starts: list[float] = []
    pieces: list[np.ndarray] = []
    next_s: float | None = 0.0
    while next_s is not None:
        starts.append(next_s)
        piece = read_sound(long_film, next_s)
        pieces.append(piece.samples)
        next_s = piece.next_s
    assert max(map(len, pieces)) <= PIECE_S * SAMPLE_RATE
    assert len(pieces) == 3
    np.testing.assert_array_less(np.abs(np.concatenate(pieces).astype(int) - sound(LONG, 300)), 100)


def test_a_piece_that_is_refused_costs_that_piece(tmp_path: Path, long_film: Path):
    shutil.copy(long_film, tmp_path)
    transcriber = FakeTranscriber(refuses={"birch"})
    index, report = index_of(tmp_path, transcriber)
    assert " ".join(filter(None, words_of(index))) == "alder cedar maple"
    assert report.failures == ()
    [failure] = report.speech.failures
    assert contents(index).num_words_missing == len(words_of(index))
    assert (failure.reason, failure.start_s > 100, failure.is_asked_again) == ("refused", True, False)
    assert "does not listen to birch" in failure.text
    num_heard = transcriber.num_heard
    _, report = index_of(tmp_path, transcriber)  # it is about the sound, so it is not asked again
    assert (report.unchanged, transcriber.num_heard) == (len(words_of(index)), num_heard)
    transcriber.refuses = ()
    index, _ = index_of(tmp_path, transcriber, retry=True)
    assert " ".join(filter(None, words_of(index))) == "alder birch cedar maple"
    assert transcriber.num_heard == num_heard + 1


class _FailsAt(FakeTranscriber):
    """Is gone from one piece on."""

    def transcribe(self, samples: np.ndarray) -> tuple[TextSegment, ...]:
        heard = super().transcribe(samples)
        if any("birch" in segment.text for segment in heard):
            raise ModelError("it is gone")
        return heard


def test_the_next_run_asks_for_what_is_missing_by_itself(tmp_path: Path, long_film: Path):
    shutil.copy(long_film, tmp_path)
    index, report = index_of(tmp_path, _FailsAt())
    assert " ".join(filter(None, words_of(index))) == "alder cedar maple"
    assert [failure.is_asked_again for failure in report.speech.failures] == [True]
    transcriber = FakeTranscriber()
    index, report = index_of(tmp_path, transcriber)
    assert " ".join(filter(None, words_of(index))) == "alder birch cedar maple"
    assert transcriber.num_heard == 1
    assert report.added == 1


def test_a_transcriber_that_is_gone_is_given_up_and_the_films_are_indexed(tmp_path: Path):
    for number in range(6):
        write_film(tmp_path / f"{number}.mp4", {"alder": 1.0 + number / 10}, ("red",))
    transcriber = FakeTranscriber(is_gone=True)
    index, report = index_of(tmp_path, transcriber)
    assert len(words_of(index)) == 6
    assert transcriber.num_heard == 3
    assert [failure.reason for failure in report.speech.failures] == ["model_error"] * 3 + ["not_asked"] * 3
    index, report = index_of(tmp_path, FakeTranscriber())
    assert words_of(index) == ["alder"] * 6


def test_a_server_hears_what_is_put_into_its_folder(tmp_path: Path):
    with served(tmp_path, index=False, think=False, watch=True, watch_interval_s=0.1, transcriber=FakeTranscriber()) as server:
        (tmp_path.parent / "made").mkdir()
        write_film(tmp_path.parent / "made" / "film.mp4", {"maple": 1.0}, ("red",))
        shutil.move(tmp_path.parent / "made" / "film.mp4", tmp_path / "film.mp4")
        server.wait(lambda: server.paths(words="maple") == ["film.mp4"])
        [hit] = server.client.get("/api/items", params={"words": "maple"}).json()["items"]
        assert [(segment["text"], segment["source"]) for segment in hit["read"]] == [("maple", "speech")]


# ---- a server of /v1/audio/transcriptions


def heard_by(server: TranscriptionServer, options: str = "", spoken: dict[str, float] = SPOKEN) -> tuple[TextSegment, ...]:
    return RemoteTranscriber.from_url(server.url + options, backoff_s=0.001, max_wait_s=0.01).transcribe(sound(spoken, 20))


def test_a_server_is_asked_for_times_of_phrases_and_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMBEDRL_API_KEY", "secret-key")
    with transcription_server() as server:
        heard = heard_by(server, "?language=de&temperature=0")
        [request] = server.asked
    assert request.fields == {
        "model": ["whisper-tiny"],
        "response_format": ["verbose_json"],
        "timestamp_granularities[]": ["segment", "word"],
        "language": ["de"],
        "temperature": ["0"],
    }
    assert request.key == "Bearer secret-key"
    assert [segment.text for segment in heard] == ["alder.", "cedar poplar.", "olive."]
    place = locate("poplar", heard)
    assert place is not None
    assert place.start_s == pytest.approx(7.0, abs=0.1)


def test_a_server_without_times_of_words_gives_those_of_phrases():
    def answer(request: Request) -> tuple[int, object] | None:
        if "word" in request.fields["timestamp_granularities[]"]:
            return 400, {"error": {"message": "timestamp_granularities: word is not supported"}}
        return None

    with transcription_server() as server:
        server.answer = answer
        heard = heard_by(server)
    assert [(segment.text, segment.word_times) for segment in heard] == [("alder.", ()), ("cedar poplar.", ()), ("olive.", ())]


@pytest.mark.parametrize(
    ("reply", "reason", "about_item", "text"),
    [
        ((413, {"error": "too large"}), "refused", True, "413"),
        ((401, {"error": "no key"}), "refused", False, "401"),
        ((400, {"error": "response_format 'verbose_json' is not compatible"}), "refused", False, "verbose_json"),
        ((200, {"text": "words without times"}), "malformed", False, "verbose_json"),
        (
            (200, {"text": "a", "segments": [{"text": "a", "start": 95.0, "end": 99.0}]}),
            "malformed",
            False,
            "95 to 99 s in a piece of 20 s",
        ),
        ((200, {"text": "a", "segments": [{"text": "a", "start": 2.0, "end": 1.0}]}), "malformed", False, "2 to 1 s"),
        ((200, {"text": "a", "segments": [{"text": "a" * 30_000, "start": 0, "end": 1}]}), "malformed", False, "30000 characters"),
        ((200, ["no", "object"]), "malformed", False, "does not transcribe"),
    ],
)
def test_bad_answers_are_named(reply: tuple[int, object], reason: str, about_item: bool, text: str):
    with transcription_server() as server:
        server.answer = lambda request: reply
        with pytest.raises(Refusal, match=text) as refused:
            heard_by(server)
    assert (refused.value.reason, refused.value.about_item) == (reason, about_item)


def test_a_busy_server_is_asked_again_and_one_that_stays_busy_is_no_answer():
    with transcription_server() as server:
        server.answer = lambda request: (503, {"error": "busy"}) if len(server.asked) < 3 else None
        assert len(heard_by(server)) == 3
        server.answer = lambda request: (503, {"error": "busy"})
        with pytest.raises(ModelError, match="tried 2 times") as failed:
            heard_by(server, "?num_retries=1")
    assert not isinstance(failed.value, Refusal)


def test_an_empty_answer_is_silence_and_what_whisper_writes_into_silence_is_left_out():
    unsure = {"text": "Thanks for watching!", "start": 0.0, "end": 2.0, "no_speech_prob": 0.9, "avg_logprob": -1.4}
    with transcription_server() as server:
        server.answer = lambda request: (200, {"text": "", "segments": []})
        assert heard_by(server) == ()
        server.answer = lambda request: (200, {"text": "Thanks for watching!", "segments": [unsure]})
        assert heard_by(server) == ()


def test_what_is_written_behind_the_end_of_the_sound_is_left_out():
    phrases = [HeardPhrase(text="here", start=18.0, end=29.0), HeardPhrase(text="Thanks!", start=24.0, end=30.0)]
    assert [(phrase.text, phrase.end_s) for phrase in segments_of(phrases, (), 20)] == [("here", 20.0)]


def test_words_of_other_spellings_get_their_times_and_words_alone_become_phrases():
    words = [HeardWord(word=word, start=at, end=at + 0.4) for word, at in ((" Don", 1.0), ("'t", 1.4), (" go", 2.0), ("away", 9.0))]
    [phrase] = segments_of([HeardPhrase(text=" Don't go!", start=1.0, end=2.5)], words, 20)
    assert phrase.word_times == ((1.0, 1.8), (2.0, 2.4))
    assert [phrase.text for phrase in segments_of((), words, 20)] == ["Don 't go", "away"]
    [phrase] = segments_of([HeardPhrase(text="I left", start=1.0, end=2.5)], words, 20)
    assert phrase.word_times == ()


# ---- by name


def test_what_is_no_transcriber_is_named(tmp_path: Path):
    assert load_transcriber("none") is None
    with pytest.raises(ConfigError, match="folder of a Whisper model"):
        load_transcriber("whisper-tiny")
    with pytest.raises(ConfigError, match=r"model.bin, config.json, tokenizer.json"):
        load_transcriber(str(tmp_path))
    with pytest.raises(ConfigError, match="has language"):
        load_transcriber(f"{tmp_path}?beam=5")


def test_the_command_transcribes_and_remembers_that_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path.parent / f"{tmp_path.name}.toml"
    config.write_text('[words]\ntranscribe = "fake"\n')
    for options, name, words in (
        (["--config", str(config)], "first.mp4", "alder"),
        ([], "second.mp4", "birch"),
        (["--transcribe", "none"], "third.mp4", ""),
    ):
        write_film(tmp_path / name, {words or "maple": 1.0}, ("red",))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["index", str(tmp_path), "--no-think", "--embedder", "fake", "--json", *options])
        assert not ended.value.code
        assert json.loads(capsys.readouterr().out)["speech"]["num_with_speech"] == bool(words)
        assert next(row.text for row in rows_of(Index.open(tmp_path)) if row.place.path.name == name) == words


def write_whisper(folder: Path) -> None:
    """Write a Whisper model of random weights as faster-whisper keeps it, with an alphabet of bytes."""
    import ctranslate2
    import tokenizers
    import torch
    import transformers

    special = [f"<|{name}|>" for name in ("endoftext", "startoftranscript", "en", "translate", "transcribe", "startoflm", "startofprev")]
    special += ["<|nospeech|>", "<|notimestamps|>", *(f"<|{step * 0.02:.2f}|>" for step in range(1501))]
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    end, start = len(letters), len(letters) + 1
    config = transformers.WhisperConfig(
        **{"vocab_size": len(letters) + len(special), "d_model": 32, "encoder_layers": 1, "decoder_layers": 2},
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 32),
        **dict.fromkeys(("eos_token_id", "pad_token_id", "bos_token_id"), end),
        **{"decoder_start_token_id": start, "begin_suppress_tokens": [end], "suppress_tokens": []},
    )
    torch.manual_seed(0)
    source = folder.with_name("source")
    transformers.WhisperForConditionalGeneration(config).save_pretrained(source)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], unk_token=special[0]).save_pretrained(source)
    ctranslate2.converters.TransformersConverter(str(source), copy_files=["tokenizer.json"]).convert(str(folder))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("faster_whisper") is None, reason="the package faster-whisper is not installed")
def test_faster_whisper_is_asked_as_it_wants(tmp_path: Path):
    """The real package on random weights: what it writes means nothing, but has times within the sound."""
    folder = tmp_path / "whisper"
    write_whisper(folder)
    transcriber = load_transcriber(str(folder))
    assert transcriber is not None
    noise = (np.random.default_rng(0).normal(size=20 * SAMPLE_RATE) * 3000).astype(np.int16)
    for segment in transcriber.transcribe(noise):
        assert 0 <= segment.start_s <= segment.end_s <= 20
        assert len(segment.word_times) in (0, len(segment.text.split()))
    assert transcriber.transcribe(np.zeros(SAMPLE_RATE, np.int16)) is not None
    with pytest.raises(ConfigError, match="this model knows en"):
        load_transcriber(f"{folder}?language=de")
    (folder / "model.bin").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_transcriber(str(folder))

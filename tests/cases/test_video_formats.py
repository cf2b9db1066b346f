"""Videos of the archives that people have: camcorders, discs, old cameras and phones, Windows Media, Flash, editors' and lossless codecs.

Reported: of the four videos in Debian's package opencv-doc two were refused (Cinepak, MS-MPEG-4), and so were AVCHD, DVD, WMV, 3GP, FLV,
DV, ProRes and others. Files are written by FFmpeg's encoders; what it has no encoder for is told by its first bytes.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest

from embedrl.errors import MediaError
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.content import Video
from embedrl.media.decode import read_sound
from embedrl.media.kinds import MEDIA
from embedrl.media.sound import SAMPLE_RATE
from embedrl.media.store import Limits, audio_format, container_format, media_kind
from embedrl.media.video import load_frames, read_video
from embedrl.media.video_formats import CODECS
from embedrl.server.item_routes import media_type
from embedrl.server.sandbox import decode as decode_upload
from embedrl.testing import FakeEmbedder
from tests.odd_media import frame_number, moving_frames, numbered_frames

FPS, RATE = 25, 48_000


def film(
    path: Path,
    codec: str,
    container: str | None = None,
    *,
    frames: Sequence[PIL.Image.Image] | None = None,
    count: int = 24,
    size: tuple[int, int] = (64, 48),
    pixels: str = "yuv420p",
    ticks: Sequence[int] | None = None,
    sound: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    start: int = 0,
) -> Path:
    """Write numbered frames at 25 a second; `sound` is the codec of a tone that begins with the second half."""
    frames = frames or numbered_frames(count, size)
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=FPS, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.codec_context.bit_rate = 2_000_000
        track = output.add_stream(sound, rate=RATE, layout="stereo") if sound else None
        if track and not sound.startswith(("pcm", "adpcm")):
            track.codec_context.bit_rate = 128_000
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = start + (ticks[number] if ticks else number), Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if isinstance(track, av.AudioStream):
            add_tone(output, track, len(frames) / FPS, start / FPS)
    return path


def add_tone(output: Any, track: av.AudioStream, length_s: float, start_s: float) -> None:
    times = np.arange(round(length_s * RATE)) / RATE
    tone = (8000 * np.sin(2 * math.pi * 440 * times) * (times >= length_s / 2)).astype(np.int16)
    resampler = av.AudioResampler(track.format.name, "stereo", RATE, frame_size=track.codec_context.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(tone.repeat(2)[None], "s16", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, round(start_s * RATE), Fraction(1, RATE)
    for part in [*resampler.resample(frame), *resampler.resample(None), None]:
        output.mux(track.encode(part))


FILMS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "camcorder.mts": ("libx264", "mpegts", {"options": {"g": "8", "bf": "0"}, "container_options": {"mpegts_m2ts_mode": "1"}}),
    "broadcast.ts": ("mpeg2video", "mpegts", {"options": {"g": "8", "bf": "2"}}),
    "phone.ts": ("libx264", "mpegts", {"options": {"g": "8", "bf": "2"}}),
    "old.mpg": ("mpeg1video", "mpeg", {"options": {"g": "8"}}),
    "disc.vob": ("mpeg2video", "vob", {"options": {"g": "8", "bf": "2"}}),
    "bare.m2v": ("mpeg2video", "mpeg2video", {"options": {"g": "8"}}),
    "seven.wmv": ("wmv1", "asf", {}),
    "eight.wmv": ("wmv2", "asf", {}),
    "divx.asf": ("msmpeg4", "asf", {}),
    "divx3.avi": ("msmpeg4", "avi", {}),
    "divx2.avi": ("msmpeg4v2", "avi", {}),
    "xvid.divx": ("mpeg4", "avi", {"options": {"bf": "2"}}),
    "web.flv": ("flv", "flv", {}),
    "later.f4v": ("libx264", "flv", {"options": {"bf": "0"}}),
    "screen.flv": ("flashsv", "flv", {"pixels": "bgr24"}),
    "nokia.3gp": ("h263", "3gp", {"size": (176, 144)}),
    "nokia.3g2": ("mpeg4", "3g2", {}),
    "tape.dv": ("dvvideo", "dv", {"size": (720, 576)}),
    "tape.avi": ("dvvideo", "avi", {"size": (720, 576)}),
    "editor.mov": ("prores_ks", "mov", {"pixels": "yuv422p10le"}),
    "cineform.mov": ("cfhd", "mov", {"pixels": "yuv422p10le"}),
    "avid.mxf": ("mpeg2video", "mxf", {"options": {"g": "8"}}),
    "kept.mkv": ("ffv1", "matroska", {}),
    "capture.avi": ("huffyuv", "avi", {"pixels": "yuv422p"}),
    "lossless.avi": ("utvideo", "avi", {}),
    "raw.avi": ("rawvideo", "avi", {"pixels": "bgr24"}),
    "raw.mov": ("rawvideo", "mov", {"pixels": "uyvy422"}),
    "photos.mov": ("mjpeg", "mov", {"pixels": "yuvj420p"}),
    "digital.mov": ("jpeg2000", "mov", {"pixels": "rgb24"}),
    "animation.mov": ("qtrle", "mov", {"pixels": "rgb24"}),
    "cinepak.avi": ("cinepak", "avi", {"pixels": "rgb24"}),
    "sorenson.mov": ("svq1", "mov", {"pixels": "yuv410p"}),
    "real.rm": ("rv10", "rm", {}),
    "real2.rm": ("rv20", "rm", {}),
}


@pytest.mark.parametrize("name", FILMS)
def test_frames_are_read_at_their_times(tmp_path: Path, name: str):
    codec, container, options = FILMS[name]
    path = film(tmp_path / name, codec, container, **options)
    assert media_kind(path) == "video"
    for count in (24, 5, 1):
        frames, length_s = read_video(Video(path=path), count)
        assert length_s == pytest.approx(0.96, abs=0.002)
        assert len(frames.images) == count
        assert [frame_number(image) for image in frames.images] == [round(FPS * time_s) for time_s in frames.times_s]
    late = load_frames(Video(path=path, start_s=0.8), 1)
    assert frame_number(late.images[0]) == round(FPS * late.times_s[0]) >= 20


@pytest.mark.parametrize("name", ["camcorder.mts", "disc.vob", "eight.wmv", "web.flv", "editor.mov", "cinepak.avi", "tape.dv"])
def test_colours_are_those_of_another_decode(tmp_path: Path, name: str):
    codec, container, options = FILMS[name]
    size = options.get("size", (64, 48))
    bars = PIL.Image.new("RGB", size)
    for number, colour in enumerate([(220, 30, 30), (30, 200, 30), (30, 30, 220), (240, 240, 240)]):
        bars.paste(colour, (number * size[0] // 4, 0, (number + 1) * size[0] // 4, size[1]))
    path = film(tmp_path / name, codec, container, **{**options, "frames": [bars] * 12})
    shown = np.asarray(load_frames(Video(path=path), 1).images[0].resize((64, 48)), int)
    with av.open(str(path), format="mov" if container == "mov" else None) as opened:
        plain = np.asarray(next(opened.decode(video=0)).to_image().resize((64, 48)), int)
    assert np.abs(shown - plain).mean() < 3
    assert np.abs(shown - np.asarray(bars.resize((64, 48)), int)).mean() < 12


@pytest.mark.parametrize(("codec", "container"), [("libx264", "mpegts"), ("mpeg2video", "mpegts"), ("mpeg2video", "vob")])
def test_the_clock_may_begin_anywhere_wrap_and_jump(tmp_path: Path, codec: str, container: str):
    """Of 33 bits at 90 kHz, it wraps after 26.5 hours; joined recordings begin anew."""
    options = {"options": {"g": "8", "bf": "2"}}
    wrap = 2**33 // 3600 if container == "mpegts" else 90_000
    first = film(tmp_path / "first", codec, container, **options, start=wrap - 4)
    frames, length_s = read_video(Video(path=first), 24)
    assert [frame_number(image) for image in frames.images] == list(range(24))
    assert frames.times_s[0] == 0
    assert length_s == pytest.approx(0.96, abs=0.002)
    second = film(tmp_path / "second", codec, container, **options)
    (tmp_path / "joined").write_bytes(first.read_bytes() + second.read_bytes() + second.read_bytes())
    for count in (72, 9, 1):
        frames, length_s = read_video(Video(path=tmp_path / "joined"), count)
        assert length_s == pytest.approx(3 * 0.96, abs=0.05)
        assert [frame_number(image) for image in frames.images] == [round(FPS * time_s) % 24 for time_s in frames.times_s]
    last = load_frames(Video(path=tmp_path / "joined", start_s=2.4), 1)
    assert last.times_s[0] >= 2.4
    assert frame_number(last.images[0]) == round(FPS * last.times_s[0]) - 48


@pytest.mark.parametrize("drop", [1, 5, 100])
def test_a_transport_stream_may_begin_anywhere(tmp_path: Path, drop: int):
    whole = film(tmp_path / "whole.ts", "libx264", "mpegts", options={"g": "8", "bf": "0"}).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(whole[188 * 3 - drop :])
    assert container_format(path.read_bytes()[:4096]) == "mpegts"
    assert media_kind(path) == "video"


def test_a_recording_that_begins_between_key_frames_is_shown_from_the_first_one(tmp_path: Path):
    whole = film(tmp_path / "whole.ts", "libx264", "mpegts", options={"g": "8", "bf": "0"})
    with av.open(str(whole)) as opened:
        third = [packet.pos for packet in opened.demux(video=0) if packet.size][2]
    head = whole.read_bytes()
    (tmp_path / "cut.ts").write_bytes(head[: 3 * 188] + head[third:])
    frames = load_frames(Video(path=tmp_path / "cut.ts"), 24)
    assert [frame_number(image) for image in frames.images] == list(range(8, 24))


def test_a_variable_rate_is_kept(tmp_path: Path):
    ticks = [0, 1, 2, 3, 30, 31, 60, 75]
    path = film(tmp_path / "vfr.wmv", "wmv2", "asf", count=8, ticks=ticks)
    frames = load_frames(Video(path=path), 8)
    assert [frame_number(image) for image in frames.images] == list(range(8))
    assert frames.times_s == pytest.approx([tick / FPS for tick in ticks], abs=0.002)


@pytest.mark.parametrize(
    ("name", "codec", "container", "sound", "options"),
    [
        ("camcorder.mts", "libx264", "mpegts", "ac3", {"options": {"bf": "0"}}),
        ("disc.vob", "mpeg2video", "vob", "mp2", {}),
        ("eight.wmv", "wmv2", "asf", "wmav2", {}),
        ("web.flv", "flv", "flv", "libmp3lame", {}),
        ("divx.avi", "msmpeg4", "avi", "adpcm_ms", {}),
        ("editor.mov", "prores_ks", "mov", "pcm_s16le", {"pixels": "yuv422p10le"}),
    ],
)
def test_sound_is_heard_when_it_is_seen(tmp_path: Path, name, codec, container, sound, options):
    path = film(tmp_path / name, codec, container, count=50, sound=sound, start=25 if container in ("mpegts", "vob") else 0, **options)
    heard = read_sound(path, 0.0)
    assert heard.has_track
    assert abs(len(heard.samples) / SAMPLE_RATE - 2.0) < 0.1
    loudness = np.abs(heard.samples[: 18 * SAMPLE_RATE // 10].astype(int)).reshape(18, -1).mean(axis=1)
    assert loudness[:9].max() < 300
    assert loudness[12:].min() > 1000


def test_an_interlaced_frame_shows_one_moment(tmp_path: Path):
    comb = np.zeros((576, 720, 3), np.uint8)
    comb[0::2] = 200
    comb[1::2] = 40
    path = film(tmp_path / "comb.dv", "dvvideo", "dv", frames=[PIL.Image.fromarray(comb)] * 4)
    levels = np.asarray(load_frames(Video(path=path), 1).images[0].convert("L"), int)
    assert np.abs(np.diff(levels[8:-8, 300])).max() < 12
    assert levels.mean() > 180


def test_pixels_of_discs_and_tapes_are_stretched(tmp_path: Path):
    path = film(tmp_path / "wide.dv", "dvvideo", "dv", size=(720, 576), count=2)
    assert load_frames(Video(path=path), 1).images[0].size == (768, 576)


def test_typescript_is_text_and_a_stream_of_its_suffix_a_video(tmp_path: Path):
    (tmp_path / "code.ts").write_text("let answer: number = 42;\n" * 400, "utf-8")
    (tmp_path / "gs.ts").write_bytes(b"G" * 5000)
    film(tmp_path / "film.ts", "mpeg2video", "mpegts")
    assert [media_kind(tmp_path / name) for name in ("code.ts", "gs.ts", "film.ts")] == ["text", "text", "video"]
    assert container_format(bytes(4096)) is None
    assert container_format(b"\x47" * 4096) is None


@pytest.mark.parametrize("line", ["GET /health 200\n", "G1 X10.0 Y0.0 E\n", "Germany,2024,01\n", "Go. "])
def test_lines_of_equal_length_are_a_text(line: str, tmp_path: Path):
    """A "G" every 188 or 192 bytes was taken for the packets of a transport stream."""
    path = tmp_path / "lines.log"
    path.write_text(line * 1200)
    assert container_format(path.read_bytes()[:4096]) is None
    assert media_kind(path, Limits()) == "text"


@pytest.mark.parametrize("cut", [0.5, 0.9])
def test_a_windows_media_file_that_is_cut_short_is_refused(tmp_path: Path, cut: float):
    path = film(tmp_path / "cut.wmv", "wmv2", "asf")
    path.write_bytes(path.read_bytes()[: round(cut * path.stat().st_size)])
    with pytest.raises(MediaError, match=r"cut short \(\d+ bytes are missing\)"):
        load_frames(Video(path=path), 4)


def test_a_later_part_of_a_large_avi_that_is_missing_is_noticed(tmp_path: Path):
    path = film(tmp_path / "parts.avi", "mpeg4", "avi")
    path.write_bytes(path.read_bytes() + b"RIFF" + (1000).to_bytes(4, "little") + b"AVIX" + bytes(100))
    with pytest.raises(MediaError, match=r"cut short \(\d+ bytes are missing\)"):
        load_frames(Video(path=path), 4)


def test_what_comes_without_a_size_is_read_as_far_as_it_goes(tmp_path: Path):
    path = film(tmp_path / "cut.ts", "mpeg2video", "mpegts", options={"g": "8"})
    path.write_bytes(path.read_bytes()[: round(0.7 * path.stat().st_size)])
    frames = load_frames(Video(path=path), 3)
    assert [frame_number(image) for image in frames.images] == [round(FPS * time_s) for time_s in frames.times_s]


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_packets_that_were_lost_on_the_way_take_no_more_than_their_frames(tmp_path: Path, codec: str):
    path = film(tmp_path / "lossy.ts", codec, "mpegts", frames=moving_frames(24), options={"g": "6", "bf": "0"})
    data = bytearray(path.read_bytes())
    at = len(data) // 188 // 3 * 188
    data[at : at + 4 * 188] = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 4
    path.write_bytes(data)
    frames = load_frames(Video(path=path), 24)
    assert 10 <= len(frames.images) < 24
    assert frames.times_s[-1] > 0.7
    assert [frame_number(image) for image in frames.images] == [round(FPS * time_s) for time_s in frames.times_s]


def test_a_transport_stream_without_a_key_frame_is_no_frame_less(tmp_path: Path):
    whole = film(
        tmp_path / "whole.ts",
        "mpeg1video",
        "mpegts",
        frames=moving_frames(24),
        options={"g": "100", "bf": "0", "sc_threshold": "1000000000"},
    )
    with av.open(str(whole)) as opened:
        packets = [(packet.pos, packet.is_keyframe) for packet in opened.demux(video=0) if packet.size]
    assert [is_key for _, is_key in packets[:3]] == [True, False, False]
    head = whole.read_bytes()
    (tmp_path / "cut.ts").write_bytes(head[: 3 * 188] + head[packets[2][0] :])
    with pytest.raises(MediaError, match="cannot be decoded"):
        load_frames(Video(path=tmp_path / "cut.ts"), 4)


def test_a_codec_that_stays_out_is_named(tmp_path: Path):
    path = film(tmp_path / "snow.avi", "snow", "avi", options={"strict": "-2"})
    with pytest.raises(MediaError, match=r"its codec is 'snow', which is none of .*; convert it to H\.264"):
        load_frames(Video(path=path), 1)


def test_every_decoder_of_the_list_is_there():
    missing = [name for name in CODECS if name not in av.codecs_available or av.Codec(name, "r").type != "video"]
    assert missing == []


@pytest.mark.parametrize(
    ("head", "demuxer"),
    [
        (b"OggS\0\2" + bytes(22) + b"\x80theora\3\2", "ogg"),
        (b"OggS\0\2" + bytes(22) + b"fishead\0" + bytes(90) + b"OggS\0\2" + bytes(22) + b"\x80theora\3\2", "ogg"),
        (b"OggS\0\2" + bytes(22) + b"\1video\0\0\0DIV3", "ogg"),
        (b"OggS\0\2" + bytes(22) + b"\1vorbis", None),
        (b"FLV\1\5" + bytes(60), "flv"),
        (b"\0\0\1\xba\x44" + bytes(60), "mpeg"),
        (b".RMF\0\0\0\x12" + bytes(60), "rm"),
        (b"\0\0\1\0\1\0" + bytes(60), None),
    ],
)
def test_a_container_is_known_by_its_first_bytes(head: bytes, demuxer: str | None):
    assert container_format(head) == demuxer
    assert audio_format(".ogg", head) == ("ogg" if demuxer is None and head.startswith(b"OggS") else None)


def test_windows_media_sound_is_audio(tmp_path: Path):
    head = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    assert audio_format(".wma", head) == "asf"
    assert audio_format(".wmv", head) is None
    assert media_type("song.wma", head) == "audio/x-ms-wma"
    assert media_type("film.wmv", head) == "video/x-ms-wmv"


def test_a_folder_of_old_films_is_indexed_searched_and_uploaded(tmp_path: Path):
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("camcorder.mts", "broadcast.ts", "disc.vob", "eight.wmv", "web.flv", "cinepak.avi"):
        codec, container, options = FILMS[name]
        film(folder / name, codec, container, **options)
    (folder / "broadcast.srt").write_text("1\n00:00:00,000 --> 00:00:00,900\nthe kingfisher dives\n", "utf-8")
    embedder = FakeEmbedder()
    index = Index.open(folder, embedder=embedder)
    report = ingest(folder, index, None, embedder, think=False)
    assert (report.added, report.failures, report.unread_kinds) == (6, (), {})
    assert report.skipped == {"sidecars": 1}
    hits = search(index, Query(filter=Filter(words=("kingfisher",)))).hits
    assert [hit.path.name for hit in hits] == ["broadcast.ts"]
    clip = Video(path=folder / "disc.vob")
    assert search(index, Query(content=(clip,), use_tcot=False), embedder).hits[0].path.name == "disc.vob"
    upload = decode_upload(folder / "disc.vob", Limits(), num_frames=4)
    assert (upload.kind, upload.format, len(upload.images)) == ("video", "mpeg", 4)


def test_names_and_contents_of_videos_agree():
    assert {".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".3gp", ".flv", ".ogv", ".dv"} <= {*MEDIA["video"].suffixes}
    assert ".ts" not in MEDIA["video"].suffixes, "TypeScript"


LAYERED = [
    *(("png", ".mov", "rgba"), ("qtrle", ".mov", "argb"), ("ffv1", ".mkv", "bgra")),
    *(("libvpx", ".webm", "yuva420p"), ("libvpx-vp9", ".webm", "yuva420p")),
]


@pytest.mark.parametrize(("codec", "suffix", "pixels"), LAYERED)
def test_a_transparent_video_is_on_white_as_a_picture_is(tmp_path: Path, codec: str, suffix: str, pixels: str):
    """What lies under full transparency was shown."""
    sheet = PIL.Image.new("RGBA", (64, 48), (255, 0, 0, 0))
    sheet.paste((0, 0, 255, 255), (0, 0, 32, 48))
    path = tmp_path / f"film{suffix}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        if codec.startswith("libvpx"):
            stream.options, stream.codec_context.bit_rate = {"auto-alt-ref": "0"}, 2_000_000
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(sheet), format="rgba").reformat(format=pixels)))
        output.mux(stream.encode(None))
    image = load_frames(Video(path=path), 1).images[0]
    assert image.getpixel((4, 4)) == pytest.approx((0, 0, 255), abs=6)
    assert image.getpixel((60, 4)) == pytest.approx((255, 255, 255), abs=6)


@pytest.mark.parametrize("suffix", [".avi", ".mov"])
def test_a_film_of_256_colours_keeps_them_wherever_it_is_opened(tmp_path: Path, suffix: str):
    """Demuxers hand a palette out once: what was decoded after a search was black."""
    palette = np.full((256, 4), (255, 0, 0, 255), dtype=np.uint8)  # alpha, red, green, blue
    path = tmp_path / f"screen{suffix}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("rawvideo", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        for _ in range(24):
            output.mux(stream.encode(av.VideoFrame.from_ndarray((np.zeros((48, 64), dtype=np.uint8), palette), format="pal8")))
        output.mux(stream.encode(None))
    for count, start_s in ((4, 0.0), (1, 0.5)):
        for image in load_frames(Video(path=path, start_s=start_s), count).images:
            assert image.getpixel((4, 4)) == (0, 0, 255)


def test_a_film_that_is_protected_against_copying_is_said_to_be(tmp_path: Path):
    """It was "damaged or cut short"."""
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "42" * 16, "encryption_kid": "00" * 16}
    rented = film(tmp_path / "rented.mp4", "libx264", frames=moving_frames(12), container_options=key)
    plain = film(tmp_path / "plain.m4v", "libx264", "mp4", frames=moving_frames(12))
    bought = tmp_path / "bought.m4v"
    bought.write_bytes(plain.read_bytes().replace(b"avc1\0\0\0\0\0\0\0\1", b"drmi\0\0\0\0\0\0\0\1"))
    assert load_frames(Video(path=plain), 2)
    for path in (rented, bought):
        with pytest.raises(MediaError, match="is protected against copying"):
            load_frames(Video(path=path), 2)

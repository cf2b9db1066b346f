"""Dates were those of the last copy; cameras, places, titles and sidecars were not read (report on media, case 18; issue 23, 3)."""

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import PIL.Image
import pytest

from embedrl.errors import ConfigError
from embedrl.index.filter import Filter, read_area, read_filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.dates import seconds, seconds_in_name
from embedrl.media.decode import read_metadata
from embedrl.media.image import save_image
from embedrl.media.metadata import Metadata, from_exif, from_xmp, merge
from embedrl.media.sandbox import pool
from embedrl.media.sidecars import is_sidecar, sidecars_of
from embedrl.testing import FakeEmbedder
from tests.coloured_folder import picture

PARIS, TOKYO = (48.8583, 2.2945), (35.6586, 139.7454)


def local(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose time zone is set by its environment, as in a container."""
    pool().close()
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
    pool().close()


def write_photo(
    path: Path, taken: str | None = None, *, camera: str = "", point: tuple[float, float] | None = None, offset: str = ""
) -> None:
    exif = PIL.Image.Exif()
    taken_ifd = exif.get_ifd(0x8769)
    taken_ifd[0x9003] = taken
    if offset:
        taken_ifd[0x9011] = offset
    if camera:
        exif[0x010F], exif[0x0110] = camera.split()[0], camera
    if point:
        place = exif.get_ifd(0x8825)
        for number, degrees, signs in ((1, point[0], "NS"), (3, point[1], "EW")):
            place[number] = signs[degrees < 0]
            place[number + 1] = (int(abs(degrees)), int(abs(degrees) * 60 % 60), Fraction(abs(degrees) * 3600 % 60).limit_denominator(1000))
    picture("red").save(path, exif=exif)


def write_video(path: Path, tags: dict[str, str]) -> None:
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(tags)
        stream = container.add_stream("libx264", rate=2)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for colour in ("red", "blue"):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(colour))))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("dates") / "library"
    folder.mkdir()
    write_photo(folder / "old.jpg", "2019:07:01 12:34:56", camera="Canon EOS 80D", point=PARIS)
    write_photo(folder / "zoned.jpg", "2021:01:01 00:30:00", offset="+09:00", camera="Apple iPhone 12", point=TOKYO)
    write_video(
        folder / "clip.mp4",
        {"com.apple.quicktime.creationdate": "2018-05-06T07:08:09+0200", "location": "+48.8583+002.2945/", "title": "Spring fair"},
    )
    picture("blue").save(folder / "IMG_20170102_030405.png")
    picture("green").save(folder / "export.png")
    takeout = {"photoTakenTime": {"timestamp": "1262304000"}, "geoData": {"latitude": 0.0, "longitude": 0.0}, "description": "Grandmother"}
    (folder / "export.png.json").write_text(json.dumps(takeout))
    picture("yellow").save(folder / "plain.png")
    os.utime(folder / "plain.png", (local("2024-02-03T04:05:06"),) * 2)
    found = Index.open(folder, embedder=FakeEmbedder())
    report = ingest(folder, found, None, FakeEmbedder(), think=False)
    assert report.failures == ()
    assert report.skipped == {"sidecars": 1}
    assert report.unread_kinds == {}
    return found


def listed(index: Index, sort: str = "name", **conditions: object) -> list[str]:
    return [hit.path.name for hit in search(index, Query(filter=Filter(**conditions), sort=sort)).hits]


def hit_of(index: Index, name: str) -> Hit:
    return next(hit for hit in search(index, Query()).hits if hit.path.name == name)


def test_a_date_without_a_zone_is_one_of_the_zone_of_the_process(in_tokyo: None, tmp_path: Path):
    """Decoders did not know a time zone that the environment sets: names of images and EXIF were read as UTC, those of texts were not."""
    save_image(picture("red"), tmp_path / "IMG_20170102_030405.png")
    (tmp_path / "note 2017-01-02 03.04.05.txt").write_text("a note")
    write_photo(tmp_path / "old.jpg", "2017:01:02 03:04:05")
    expected = datetime.fromisoformat("2017-01-02T03:04:05+09:00").timestamp()
    found = {path.name: read_metadata(path, "text" if path.suffix == ".txt" else "image").captured_s for path in tmp_path.iterdir()}
    assert found == dict.fromkeys(("IMG_20170102_030405.png", "note 2017-01-02 03.04.05.txt", "old.jpg"), expected)


@pytest.mark.parametrize(
    ("name", "taken", "source"),
    [
        ("old.jpg", "2019-07-01T12:34:56", "exif"),
        ("zoned.jpg", "2021-01-01T00:30:00+09:00", "exif"),
        ("clip.mp4", "2018-05-06T07:08:09+02:00", "quicktime"),
        ("IMG_20170102_030405.png", "2017-01-02T03:04:05", "name"),
        ("export.png", "2010-01-01T00:00:00+00:00", "sidecar"),
    ],
)
def test_when_a_file_was_taken_is_read_where_it_says_so(index: Index, name: str, taken: str, source: str):
    hit = hit_of(index, name)
    assert (hit.captured_s, hit.captured_from) == (local(taken), source)


def test_without_a_word_of_it_the_file_s_own_date_counts(index: Index):
    hit = hit_of(index, "plain.png")
    assert (hit.captured_s, hit.captured_from) == (None, None)
    assert listed(index, since_s=local("2024-02-03"), until_s=local("2024-02-04")) == ["plain.png"]


def test_filters_and_order_are_by_the_day_it_was_taken(index: Index):
    assert listed(index, since_s=local("2019-01-01"), until_s=local("2020-01-01")) == ["old.jpg"]
    assert listed(index, "oldest") == ["export.png", "IMG_20170102_030405.png", "clip.mp4", "old.jpg", "zoned.jpg", "plain.png"]
    assert listed(index, "newest") == listed(index, "oldest")[::-1]


def test_filters_by_camera_and_area(index: Index):
    assert hit_of(index, "old.jpg").camera == "Canon EOS 80D"
    assert listed(index, camera="canon 80d") == ["old.jpg"]
    assert listed(index, camera="nikon") == []
    assert listed(index, area=(*PARIS, 5.0)) == ["clip.mp4", "old.jpg"]
    assert listed(index, area=(35.0, 139.0, 36.0, 140.0)) == ["zoned.jpg"]
    assert listed(index, area=(-90.0, 170.0, 90.0, 140.0)) == ["clip.mp4", "old.jpg", "zoned.jpg"], "across the 180th meridian"
    near = hit_of(index, "zoned.jpg")
    assert near.latitude == pytest.approx(TOKYO[0], abs=1e-5)
    assert near.longitude == pytest.approx(TOKYO[1], abs=1e-5)


def test_titles_and_cameras_are_found_by_their_words(index: Index):
    assert listed(index, words=("fair",)) == ["clip.mp4"]
    assert listed(index, words=("grandmother",)) == ["export.png"]
    assert listed(index, words=("iphone",)) == ["zoned.jpg"]


def test_a_sidecar_that_changes_is_read_anew(tmp_path: Path):
    picture("red").save(tmp_path / "a.png")
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    for year in (2001, 2002):
        xmp = f'<x xmlns:e="urn:e" e:DateTimeOriginal="{year}-02-03T04:05:06Z" e:GPSLatitude="48,51.5N" e:GPSLongitude="2,17.67E"/>'
        (tmp_path / "a.xmp").write_text(xmp)
        report = ingest(tmp_path, index, None, embedder := FakeEmbedder(), think=False)
        hit = hit_of(index, "a.png")
        assert hit.captured_s == local(f"{year}-02-03T04:05:06+00:00")
        assert hit.latitude == pytest.approx(48 + 51.5 / 60)
    assert report.added == 0
    assert not embedder.embedded


@pytest.mark.parametrize(
    "text", ["0000:00:00 00:00:00", "1904-01-01 00:00:00", "1970:01:01 00:00:00", "2019:13:01 00:00:00", "2098:01:01 00:00:00", "soon", ""]
)
def test_dates_that_no_camera_means_are_none(text: str):
    assert seconds(text) is None


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("PXL_20210304_050607089.jpg", "2021-03-04T05:06:07+00:00"),
        ("PXL_20210304_050607089.PORTRAIT.jpg", "2021-03-04T05:06:07+00:00"),
        ("VID-20190701-WA0001.mp4", "2019-07-01T12:00:00"),
        ("Screenshot 2020-02-29 at 10.11.12.png", "2020-02-29T10:11:12"),
        ("Screen Shot 2020-02-29 at 1.11.12 PM.png", "2020-02-29T13:11:12"),
        ("Screenshot 2020-02-29 at 12.11.12\u202fAM.png", "2020-02-29T00:11:12"),
        ("Bildschirmfoto 2020-02-29 um 10.11.12.png", "2020-02-29T10:11:12"),
        ("Captura de pantalla 2020-02-29 a las 10.11.12.png", "2020-02-29T10:11:12"),
        ("Screenshot 2020-02-29 101112.png", "2020-02-29T10:11:12"),
        ("Screenshot from 2020-02-29 10-11-12.png", "2020-02-29T10:11:12"),
        ("Screenshot_20200229-101112_Maps.jpg", "2020-02-29T10:11:12"),
        ("Screenshot_2020-02-29-10-11-12-123_com.app.jpg", "2020-02-29T10:11:12"),
        ("WhatsApp Image 2020-02-29 at 10.11.12 (1).jpeg", "2020-02-29T10:11:12"),
        ("WhatsApp Video 2020-02-29 at 1.11.12 PM.mp4", "2020-02-29T13:11:12"),
        ("signal-2020-02-29-101112.jpg", "2020-02-29T10:11:12"),
        ("signal-2020-02-29-10-11-12-123.jpg", "2020-02-29T10:11:12"),
        ("photo_2@29-02-2020_10-11-12.jpg", "2020-02-29T10:11:12"),
        ("00000IMG_00000_BURST20200229101112123_COVER.jpg", "2020-02-29T10:11:12"),
        ("20200229_101112_001.jpg", "2020-02-29T10:11:12"),
        ("WIN_20200229_10_11_12_Pro.mp4", "2020-02-29T10:11:12"),
        ("2020-02-29T10_11_12Z.jpg", "2020-02-29T10:11:12+00:00"),
        ("FB_IMG_1561978496000.jpg", "2019-07-01T10:54:56+00:00"),
        ("mmexport1561978496000.jpg", "2019-07-01T10:54:56+00:00"),
        ("1561978496000.jpg", "2019-07-01T10:54:56+00:00"),
        ("9781561978496.jpg", None),
        ("Plan 2098-01-02.pdf", None),
        ("2020-02-29 (1).jpg", "2020-02-29T12:00:00"),
        ("2020-02-29 12 apples 34.jpg", "2020-02-29T12:00:00"),
        ("2019-07-01 08.09.10.jpg", "2019-07-01T08:09:10"),
        ("IMG_20190701_231545.jpg", "2019-07-01T23:15:45"),
        ("Screenshot_20190701-203015.png", "2019-07-01T20:30:15"),
        ("20190701_256199.jpg", "2019-07-01T12:00:00"),
        ("invoice 20193344.pdf", None),
        ("2019-02-30.jpg", None),
        ("120190701123.jpg", None),
    ],
)
def test_dates_in_names(name: str, taken: str | None):
    assert seconds_in_name(name) == (None if taken is None else local(taken))


def test_a_digitised_and_a_changed_photo_have_zones_of_their_own(tmp_path: Path):
    """Zones were read of DateTimeOriginal alone."""
    for name, tag, zone in (("digitised.jpg", 0x9004, 0x9012), ("changed.jpg", 0x0132, 0x9010)):
        exif = PIL.Image.Exif()
        taken = exif.get_ifd(0x8769)
        taken[zone] = "-05:00"
        (exif if tag == 0x0132 else taken)[tag] = "2020:02:29 10:11:12"
        picture("red").save(tmp_path / name, exif=exif)
        assert read_metadata(tmp_path / name, "image").captured_s == local("2020-02-29T10:11:12-05:00")


@pytest.mark.parametrize(
    ("utc", "zone"),
    [((4, 26, 12), "+05:45"), ((13, 11, 40), "-03:00"), ((10, 18, 0), "+09:00"), ((10,), "+09:00"), (None, "+09:00")],
    ids=["Nepal", "Brazil", "a fix of long ago", "damaged", "none"],
)
def test_a_photo_without_a_zone_has_that_of_its_gps(in_tokyo: None, tmp_path: Path, utc: tuple[int, ...] | None, zone: str):
    """Photos of a journey were dated in the zone of the machine at home."""
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2020:02:29 10:11:12"
    if utc is not None:
        exif.get_ifd(0x8825).update({7: utc, 29: "2020:02:29"})
    picture("red").save(tmp_path / "photo.jpg", exif=exif)
    assert read_metadata(tmp_path / "photo.jpg", "image").captured_s == local(f"2020-02-29T10:11:12{zone}")


def test_a_zone_beside_the_same_date_is_that_date_s(in_tokyo: None, tmp_path: Path):
    """Programs write a zone for one of three equal dates."""
    exif = PIL.Image.Exif()
    exif[0x0132] = exif.get_ifd(0x8769)[0x9003] = "2020:02:29 10:11:12"
    exif.get_ifd(0x8769)[0x9010] = "-05:00"
    picture("red").save(tmp_path / "photo.jpg", exif=exif)
    assert read_metadata(tmp_path / "photo.jpg", "image").captured_s == local("2020-02-29T10:11:12-05:00")


DAYS = [
    ("Europe/Berlin", "2024-03-31", 23),
    ("Europe/Berlin", "2024-10-27", 25),
    ("America/Sao_Paulo", "2018-11-04", 23),
    ("Pacific/Apia", "2011-12-29", 24),
    ("Asia/Kathmandu", "2024-05-01", 24),
    ("UTC", "2024-02-29", 24),
]


@pytest.mark.parametrize(("zone", "day", "hours"), DAYS)
def test_a_day_is_as_long_as_it_is_where_the_machine_stands(monkeypatch: pytest.MonkeyPatch, zone: str, day: str, hours: int):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        of_day = read_filter(since=day, until=day, zone=None)
        assert of_day.until_s - of_day.since_s == 3600 * hours
        assert of_day.since_s <= local(f"{day}T12:00") < of_day.until_s
        assert read_filter(since=f"{day}T12:00+09:00", zone=None).since_s == local(f"{day}T12:00+09:00")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("written", ["20200229", "2020-02-29"])
def test_a_film_s_day_counts_as_its_noon(tmp_path: Path, written: str):
    """As yt-dlp writes it."""
    write_video(tmp_path / "clip.mkv", {"DATE": written})
    assert read_metadata(tmp_path / "clip.mkv", "video").captured_s == local("2020-02-29T12:00:00")


def write_note(path: Path, words: str) -> None:
    path.write_text(json.dumps({"title": "x", "description": words, "photoTakenTime": {"timestamp": "1262304000"}}))


LONG = "a_long_name_that_somebody_gave_to_the_photo_00012345.jpg"


@pytest.mark.parametrize(
    ("medium", "note"),
    [
        ("photo.jpg", "photo.jpg.json"),
        ("photo.jpg", "photo.jpg.supplemental-metadata.json"),
        ("photo.jpg", "photo.jpg.supplemental-meta.json"),
        ("photo.jpg", "photo.jpg.s.json"),
        ("photo.jpg", "photo.jpg..json"),
        ("PHOTO.JPG", "PHOTO.JPG.supplemental-metadata.json"),
        ("photo(1).jpg", "photo.jpg(1).json"),
        ("photo(1).jpg", "photo.jpg.supplemental-metadata(1).json"),
        ("photo(1).jpg", "photo(1).jpg.json"),
        ("photo-edited.jpg", "photo.jpg.json"),
        ("photo-edited(2).jpg", "photo.jpg.supplemental-metadata(2).json"),
        ("photo-bearbeitet.jpg", "photo.jpg.supplemental-metadata.json"),
        (LONG, f"{LONG[:46]}.json"),
        ("IMG_1.MOV", "IMG_1.HEIC.supplemental-metadata.json"),
    ],
)
def test_takeout_s_notes_belong_to_their_media_whatever_it_calls_them(tmp_path: Path, medium: str, note: str):
    """Numbered, cut and edited names lost their dates (facts: Google Takeout's own names; 51 characters at most)."""
    original = note.split(".supp")[0].split(".json")[0]
    for name in {medium, *([original] if original.startswith("IMG_1") else [])}:
        (tmp_path / name).write_bytes(b"x")
    write_note(tmp_path / note, "a lake")
    assert sidecars_of(tmp_path / medium) == [tmp_path / note]
    assert is_sidecar(tmp_path / note)


def test_notes_of_other_media_are_not_taken(tmp_path: Path):
    for name in ("photo.jpg", "photo(1).jpg", "photo-night.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("photo.jpg.json", "photo.jpg(1).json", "photo.jpg(2).json", "metadata.json"):
        write_note(tmp_path / name, name)
    assert sidecars_of(tmp_path / "photo.jpg") == [tmp_path / "photo.jpg.json"]
    assert sidecars_of(tmp_path / "photo(1).jpg") == [tmp_path / "photo.jpg(1).json"]
    assert sidecars_of(tmp_path / "photo-night.jpg") == []
    assert not is_sidecar(tmp_path / "photo.jpg(2).json")
    assert not is_sidecar(tmp_path / "metadata.json")


def test_a_sidecar_that_comes_later_is_seen_at_once(tmp_path: Path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    os.utime(tmp_path, (1e9, 1e9))
    assert sidecars_of(tmp_path / "photo.jpg") == []
    write_note(tmp_path / "photo.jpg.json", "a lake")
    assert sidecars_of(tmp_path / "photo.jpg") == [tmp_path / "photo.jpg.json"]


@pytest.mark.parametrize("packet", [b"", b"<", b"<a", b"\0" * 100, b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', b"<x>" * 10_000])
def test_xmp_that_is_none_says_nothing(packet: bytes):
    assert set(from_xmp(packet)) <= {"damaged"}


def test_deep_xmp_is_read_in_one_pass():
    packet = b"<x><a:title xmlns:a='a'><b><c>Tulips</c></b></a:title>%s</x>" % (b"<a>" * 140_000 + b"</a>" * 140_000)
    assert from_xmp(packet)["about"] == ["Tulips"]


def test_damaged_metadata_leaves_the_picture_in_peace(tmp_path: Path):
    picture("red").save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(256)) * 4)
    (tmp_path / "a.jpg.json").write_text('{"photoTakenTime": [], "geoData": {"latitude": "x"}}')
    metadata = read_metadata(tmp_path / "a.jpg", "image")
    assert isinstance(metadata, Metadata)
    assert "sidecar" in metadata.damaged


@pytest.mark.parametrize("name", ["a.jpg.json", "a.xmp"])
def test_a_sidecar_that_leads_out_of_the_served_folders_is_not_read(tmp_path: Path, name: str):
    library = tmp_path / "library"
    library.mkdir()
    picture("red").save(library / "a.jpg")
    packet = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    packet += 'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreateDate="2001-02-03T04:05:06"/></rdf:RDF></x:xmpmeta>'
    (tmp_path / "secret").write_text(
        packet if name == "a.xmp" else '{"description": "secret", "photoTakenTime": {"timestamp": "981173106"}}'
    )
    (library / name).symlink_to(tmp_path / "secret")
    index = Index.open(library, embedder=FakeEmbedder())
    report = ingest(library, index, None, FakeEmbedder(), think=False, roots=[library])
    assert [place.captured_from for place in index.places()] == [None]
    assert [failure.path.name for failure in report.failures] == [name]
    assert "leads out" in report.failures[0].reason
    (library / name).unlink()
    (tmp_path / "secret").rename(library / name)
    ingest(library, index, None, FakeEmbedder(), think=False, roots=[library])
    assert [place.captured_from for place in index.places()] == ["sidecar"]


DAMAGED_PLACES = [{2: ("x", 1, 2)}, {2: (48, 51, 29)}, {2: (48, 51, 29), 4: (400, 0, 0)}, {2: 7.0, 4: (2, 0, 0)}]


@pytest.mark.parametrize("place", DAMAGED_PLACES)
def test_a_damaged_position_takes_neither_date_nor_camera_with_it(tmp_path: Path, place: dict[int, object]):
    image, exif = picture("red"), PIL.Image.Exif()
    exif[0x0110], exif[0x010E] = "EOS 80D", "a title"
    exif.get_ifd(0x8769)[0x9003] = "2019:07:01 12:34:56"
    exif.get_ifd(0x8825).update(place)
    image.getexif().update(exif)
    image.getexif()._ifds.update(exif._ifds)
    assert merge(from_exif(image)) == Metadata(
        captured_s=local("2019-07-01T12:34:56"), captured_from="exif", camera="EOS 80D", about="a title", damaged=("GPS",)
    )


def test_damaged_groups_are_told_and_the_others_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_photo(tmp_path / "a.jpg", "2019:07:01 12:34:56", camera="EOS 80D", point=PARIS)
    data = (tmp_path / "a.jpg").read_bytes()
    entry = b"\x03\x00\x02\x00" if b"II*\0" in data else b"\x00\x03\x00\x02"  # GPSLongitudeRef, which is of type 2
    at = data.index(entry) - 8  # the number of values and the place of GPSLatitude, in the entry before it
    (tmp_path / "a.jpg").write_bytes(data[:at] + b"\0\0\0\0" + b"\xff" * 4 + data[at + 8 :])
    (tmp_path / "b.png").write_bytes(b"")
    picture("blue").save(tmp_path / "b.png")
    (tmp_path / "b.png.json").write_text(
        '{"description": "a lake", "photoTakenTime": {"timestamp": "1561984496"}, "geoData": {"latitude": "x", "longitude": 1}}'
    )
    report = ingest(tmp_path, Index.open(tmp_path, embedder=FakeEmbedder()), None, FakeEmbedder(), think=False)
    assert report.damaged_metadata == {"GPS": 1, "sidecar": 1}
    err = capsys.readouterr().err
    assert "a.jpg: its GPS cannot be read; the rest of its metadata is kept" in " ".join(err.split())
    places = {place.path.name: place for place in Index.open(tmp_path).places()}
    assert (places["a.jpg"].camera, places["a.jpg"].captured_from, places["a.jpg"].latitude) == ("EOS 80D", "exif", None)
    assert (places["b.png"].captured_s, places["b.png"].about, places["b.png"].latitude) == (1561984496.0, "a lake", None)


@pytest.mark.parametrize("text", ["48", "91,0,1", "1,2,-3", "1,2,3,4,5", "a,b,c", "2,0,1,0", "nan,0,1"])
def test_an_area_that_is_none_is_said(text: str):
    with pytest.raises(ConfigError, match="give latitude,longitude,km"):
        read_area(text)


def test_camera_and_area_are_read():
    found = read_filter(camera="EOS", area="48.86,2.35,10")
    assert (found.camera, found.area) == ("EOS", (48.86, 2.35, 10.0))

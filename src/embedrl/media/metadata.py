"""Metadata of files: when and where they were taken, with what, title, words; EXIF, IPTC, XMP, QuickTime, PDF, documents, sidecars, names.

Read in the child process that decodes. Times without a zone are of this machine's zone, as cameras write them.
"""

import hashlib
import json
import os
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import PIL.ExifTags
import PIL.Image
import PIL.ImageFile
from PIL import IptcImagePlugin
from pydantic import BaseModel, ConfigDict, Field

from embedrl.media.content import well_formed
from embedrl.media.kinds import AUDIO, MEDIA, SHARED_VIDEO_SUFFIXES
from embedrl.media.store import status_of
from embedrl.media.subtitles import SUFFIXES, stems, subtitle_files

Source = Literal["sidecar", "exif", "quicktime", "xmp", "pdf", "mail", "office", "epub", "html", "tags", "name", "mtime"]
SIDECARS = (".xmp", ".json", ".supplemental-metadata.json", *SUFFIXES)
"""Suffixes of files that belong to a medium of the same name: after the whole name (`a.jpg.json`) or after its stem (`a.srt`)."""
_SPOKEN = (*MEDIA["video"].suffixes, *SHARED_VIDEO_SUFFIXES, *AUDIO)
"""Suffixes of media in which words are said."""
_MAX_SIDECAR_BYTES = 1024**2
_MAX_CHARS = 1000
_DATE_IN_NAME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:[-_ T.]{0,3}([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)\d{0,3})?(?!\d)"
)
"""IMG_20190701_123456, PXL_20190701_123456789, VID-20190701-WA0001, 2019-07-01 12.34.56, …"""
_EXIF_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?")
_PDF_TIME = re.compile(r"D:(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)()(Z|[+-]\d\d'?\d\d)?")
_EARLIEST = datetime(1826, 1, 1)
_NO_DATES = {datetime(1904, 1, 1), datetime(1970, 1, 1)}
"""What clocks that were never set write."""
_ISO6709 = re.compile(r"^([+-]\d+(?:\.\d+)?)([+-]\d+(?:\.\d+)?)")


class Metadata(BaseModel):
    """What a file says of itself; None and "" where it says nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    captured_s: float | None = None
    """When it was taken, seconds since 1970."""
    captured_from: Source | None = None
    """What says so."""
    camera: str = Field(default="", max_length=_MAX_CHARS)
    latitude: float | None = Field(default=None, ge=-90, le=90)
    longitude: float | None = Field(default=None, ge=-180, le=180)
    """Where it was taken, degrees (WGS 84)."""
    about: str = Field(default="", max_length=2 * _MAX_CHARS)
    """Title, description and keywords."""
    damaged: tuple[str, ...] = ()
    """Groups of tags that are there and cannot be read: EXIF, EXIF date, GPS, XMP, IPTC, sidecar, properties (of a document)."""


def merge(sources: Iterable[Mapping[str, Any]]) -> Metadata:
    """Put together what several sources say, the first that says something counting; titles and keywords of all are kept."""
    merged: dict[str, Any] = {}
    about: list[str] = []
    damaged: list[str] = []
    for source in sources:
        damaged += source.get("damaged", [])
        words = source.get("about", [])
        about += [text for word in words if (text := _text(word)) and text not in about]
        if "captured_s" not in merged and source.get("captured_s") is not None:
            merged |= {"captured_s": source["captured_s"], "captured_from": source["captured_from"]}
        if not merged.get("camera") and (camera := _text(source.get("camera"))):
            merged["camera"] = camera
        if "latitude" not in merged and (point := source.get("point")) is not None and _is_point(*point):
            merged |= {"latitude": round(point[0], 7), "longitude": round(point[1], 7)}
    return Metadata(**merged, about="\n".join(about)[: 2 * _MAX_CHARS], damaged=tuple(dict.fromkeys(damaged)))


def _is_point(latitude: float, longitude: float) -> bool:
    return abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)


def _text(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return " ".join(well_formed(text).replace("\0", " ").split())[:_MAX_CHARS]


def seconds(text: object, offset: object = None) -> float | None:
    """Return seconds since 1970 of a date and time as EXIF (`2019:07:01 12:34:56`), XMP or QuickTime write it; None for no such thing."""
    written = _text(text)
    match = _EXIF_TIME.match(written) or _PDF_TIME.match(written)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    zone = zone or (_text(offset) or None)
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0))
        if moment in _NO_DATES or moment < _EARLIEST:
            return None
        if zone:
            zone = "+00:00" if zone == "Z" else zone.replace("'", "")
            moment = moment.replace(tzinfo=datetime.strptime(zone.replace(":", ""), "%z").tzinfo)
        return moment.timestamp() + float(fraction or 0)
    except (ValueError, OverflowError):
        return None


def from_name(name: str) -> dict[str, Any]:
    """Read a date in a file's name; a name with a day alone counts as its noon."""
    if match := _DATE_IN_NAME.search(name):
        year, _, month, day, hour, minute, second = match.groups()
        if (time_s := seconds(f"{year}-{month}-{day} {hour or 12}:{minute or '00'}:{second or '00'}")) is not None:
            return {"captured_s": time_s, "captured_from": "name"}
    return {}


def from_exif(image: PIL.Image.Image) -> list[dict[str, Any]]:
    """Read what a still says: EXIF, then XMP, then IPTC. A group that is damaged takes no other with it, and is named as damaged."""
    sources: list[dict[str, Any]] = []
    with damage_noted(sources, "EXIF date"):
        sources.append(_date(image.getexif()))
    with damage_noted(sources, "EXIF"):
        sources.append(_description(image.getexif()))
    with damage_noted(sources, "GPS"):
        sources.append(_position(image.getexif()))
    if isinstance(packet := image.info.get("xmp"), bytes | str):
        sources.append(from_xmp(packet if isinstance(packet, bytes) else packet.encode("utf-8", "replace")))
    with damage_noted(sources, "IPTC"):
        iptc = (IptcImagePlugin.getiptcinfo(image) if isinstance(image, PIL.ImageFile.ImageFile) else None) or {}
        words = [iptc.get((2, 5)), iptc.get((2, 120)), iptc.get((2, 25))]
        sources.append({"about": [word for group in words for word in (group if isinstance(group, list) else [group])]})
    return sources


@contextmanager
def damage_noted(sources: list[dict[str, Any]], group: str) -> Generator[None]:
    """Note a group of metadata as damaged instead of raising."""
    # Boundary: readers of metadata fail in many ways on damaged files, and the pixels or the text are fine.
    try:
        yield
    except MemoryError:
        raise
    except Exception:
        sources.append({"damaged": [group]})


def _description(exif: PIL.Image.Exif) -> dict[str, Any]:
    tags = PIL.ExifTags.Base
    make, model = _text(exif.get(tags.Make)), _text(exif.get(tags.Model))
    camera = model if model.startswith(make) else f"{make} {model}".strip()
    return {"camera": camera, "about": [exif.get(tags.ImageDescription)], **_captured(seconds(exif.get(tags.DateTime)), "exif")}


def _date(exif: PIL.Image.Exif) -> dict[str, Any]:
    tags = PIL.ExifTags.Base
    taken = exif.get_ifd(PIL.ExifTags.IFD.Exif)
    time_s = seconds(taken.get(tags.DateTimeOriginal), taken.get(tags.OffsetTimeOriginal))
    time_s = seconds(taken.get(tags.DateTimeDigitized)) if time_s is None else time_s
    return _captured(time_s, "exif")


def _captured(time_s: float | None, source: Source) -> dict[str, Any]:
    return {} if time_s is None else {"captured_s": time_s, "captured_from": source}


def _position(exif: PIL.Image.Exif) -> dict[str, Any]:
    tags = PIL.ExifTags.GPS
    place = exif.get_ifd(PIL.ExifTags.IFD.GPSInfo)
    if tags.GPSLatitude not in place and tags.GPSLongitude not in place:
        return {}
    latitude = _degrees(place[tags.GPSLatitude], place.get(tags.GPSLatitudeRef), "S")
    longitude = _degrees(place[tags.GPSLongitude], place.get(tags.GPSLongitudeRef), "W")
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # nor NaN
        raise ValueError(latitude, longitude)
    return {"point": [latitude, longitude]}


def _degrees(values: Any, direction: object, negative: str) -> float:
    degrees = sum(float(value) / 60**power for power, value in enumerate(values))
    return -degrees if _text(direction).upper().startswith(negative) else degrees


def from_xmp(packet: bytes, source: Source = "xmp") -> dict[str, Any]:
    """Read an XMP packet: the elements and attributes of any namespace whose local names are known."""
    packet = packet[:_MAX_SIDECAR_BYTES].strip(b"\0 \r\n")
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        return {}
    try:
        root = ElementTree.fromstring(packet)
    except (ElementTree.ParseError, ValueError, LookupError):
        return {"damaged": ["XMP"]} if packet else {}
    values: dict[str, list[str]] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            values.setdefault(name.rpartition("}")[2], []).append(value)
        texts = [text for child in element.iter() if (text := (child.text or "").strip())]
        values.setdefault(element.tag.rpartition("}")[2], []).extend(texts)

    def first(*names: str) -> str:
        return next((value for name in names for value in values.get(name, ()) if value), "")

    found: dict[str, Any] = {"about": [*values.get("title", []), *values.get("description", []), *values.get("subject", [])]}
    time_s = seconds(first("DateTimeOriginal", "DateCreated", "CreateDate"))
    if time_s is not None:
        found |= {"captured_s": time_s, "captured_from": source}
    found["camera"] = first("Model")
    latitude, longitude = (_xmp_degrees(first(name)) for name in ("GPSLatitude", "GPSLongitude"))
    if latitude is not None and longitude is not None:
        found["point"] = [latitude, longitude]
    return found


def _xmp_degrees(text: str) -> float | None:
    """Read `48,51.4950N`, `48,51,29N` or `48.858`."""
    match = re.fullmatch(r"([+-]?[\d.]+)(?:,([\d.]+))?(?:,([\d.]+))?\s*([NSEW]?)", text.strip())
    try:
        degrees = sum(float(part or 0) / 60**power for power, part in enumerate(match.groups()[:3])) if match else None
    except ValueError:
        return None
    return -degrees if degrees is not None and match and match[4] in ("S", "W") else degrees


def from_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """Read the tags of a video container (QuickTime, MP4, Matroska), or the metadata of a PDF."""
    lower = {name.lower(): value for name, value in tags.items()}
    is_pdf = "creationdate" in lower or "producer" in lower
    apple = "com.apple.quicktime."
    titles = ("title", "author", "artist", "album", "subject", "keywords", "description", "comment", f"{apple}title", f"{apple}keywords")
    camera = (lower.get(f"{apple}{name}") or lower.get(name) for name in ("make", "model"))
    found: dict[str, Any] = {"about": [lower.get(name) for name in titles], "camera": " ".join(filter(None, camera))}
    for name in (f"{apple}creationdate", "date_utc", "creation_time", "date", "creationdate"):
        written = lower.get(name, "")
        if (time_s := seconds(written)) is not None:
            found |= {"captured_s": time_s, "captured_from": "pdf" if is_pdf else "quicktime"}
            break
    for name in (f"{apple}location.iso6709", "location", "location-eng"):
        if match := _ISO6709.match(lower.get(name, "")):
            found["point"] = [float(match[1]), float(match[2])]
            break
    return found


def from_sidecar(path: Path) -> list[dict[str, Any]]:
    """Read a sidecar: XMP, or the JSON that Takeout puts beside a photo. What cannot be read of it is named as damaged."""
    sources: list[dict[str, Any]] = []
    if path.suffix.lower() not in (".xmp", ".json"):
        return sources
    with damage_noted(sources, "sidecar"):
        with path.open("rb") as file:
            data = file.read(_MAX_SIDECAR_BYTES)
        if path.suffix.lower() == ".xmp":
            return [from_xmp(data, "sidecar")]
        content = json.loads(data)
        if not isinstance(content, dict):  # no sidecar of Takeout's
            return sources
        sources.append({"about": [content.get("description")]})
        with damage_noted(sources, "sidecar"):
            sources.append({"about": [person.get("name") for person in content.get("people", [])]})
        with damage_noted(sources, "sidecar"):
            if stamp := (content.get("photoTakenTime") or {}).get("timestamp"):
                sources.append(_captured(datetime.fromtimestamp(int(stamp), UTC).timestamp(), "sidecar"))
        with damage_noted(sources, "sidecar"):
            if place := content.get("geoData"):
                sources.append({"point": [float(place["latitude"]), float(place["longitude"])]})
    return sources


def sidecars_of(path: Path) -> list[Path]:
    """Return the files that belong to a medium and that are there."""
    names = [path.with_name(path.name + suffix) for suffix in SIDECARS] + [path.with_suffix(suffix) for suffix in (".xmp", *SUFFIXES)]
    names += subtitle_files(path) if path.suffix.lower() in _SPOKEN else []
    return [name for name in dict.fromkeys(names) if name != path and os.path.isfile(name)]  # a name may be too long: then there is none


def sidecars_hash(sidecars: Sequence[Path]) -> str:
    """Return what changes whenever a sidecar of a medium comes, goes or changes; "" if there is none."""
    statuses = [(sidecar.name, status_of(sidecar.resolve())) for sidecar in sidecars]
    stamps = [(name, status.st_size, status.st_mtime_ns) for name, status in statuses if status]
    return hashlib.sha256(repr(stamps).encode("utf-8", "surrogatepass")).hexdigest()[:12] if stamps else ""


def is_sidecar(path: Path) -> bool:
    """Say whether a file belongs to a medium that lies beside it."""
    if path.suffix.lower() not in (".json", ".xmp", *SUFFIXES):
        return False
    media = {*_SPOKEN} | {suffix for medium in MEDIA.values() for suffix in medium.suffixes if medium.noun != MEDIA["text"].noun}
    stem = path.name.removesuffix(".json").removesuffix(".supplemental-metadata") if path.suffix == ".json" else path.stem
    names = {stem} if Path(stem).suffix.lower() in media else set()
    names |= set() if path.suffix == ".json" else {f"{stem}{suffix}" for suffix in media} | {f"{stem}{suffix.upper()}" for suffix in media}
    for tagless in stems(path.name)[1:] if path.suffix.lower() in SUFFIXES else ():  # film.en.srt
        names |= {tagless} | {f"{tagless}{suffix}" for suffix in _SPOKEN} | {f"{tagless}{suffix.upper()}" for suffix in _SPOKEN}
    return any(os.path.isfile(path.parent / name) for name in names)

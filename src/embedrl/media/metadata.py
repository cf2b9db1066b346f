"""Metadata of files: when and where they were taken, with what, title, words; EXIF, IPTC, XMP, QuickTime, PDF, documents, sidecars, names.

Read in the child process that decodes. Times without a zone are of this machine's zone, as cameras write them.
"""

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from xml.etree import ElementTree

import PIL.ExifTags
import PIL.Image
import PIL.ImageFile
from PIL import IptcImagePlugin
from pydantic import BaseModel, ConfigDict, Field

from embedrl.media.content import well_formed
from embedrl.media.dates import first_seconds, seconds, seconds_in_name

Source = Literal["sidecar", "exif", "quicktime", "xmp", "pdf", "mail", "office", "epub", "html", "front_matter", "tags", "name", "mtime"]
MAX_PACKET_BYTES = 1024**2
"""Of an XMP packet or a sidecar, what is read."""
_MAX_CHARS = 1000
_QUARTER_S, _MAX_QUARTERS = 900, 4 * 14
"""Zones differ from UTC by whole quarters of an hour, 14 hours at most."""
_GPS_LAG_S = 120
"""How far the last fix of a GPS may lie from the moment of a photo."""
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


def from_name(name: str) -> dict[str, Any]:
    """Read a date in a file's name."""
    return captured(seconds_in_name(name), "name")


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
    return {"camera": camera, "about": [exif.get(tags.ImageDescription)], **captured(seconds(_text(exif.get(tags.DateTime))), "exif")}


def _date(exif: PIL.Image.Exif) -> dict[str, Any]:
    tags = PIL.ExifTags.Base
    taken = exif.get_ifd(PIL.ExifTags.IFD.Exif)
    dates = (
        (taken.get(tags.DateTimeOriginal), taken.get(tags.OffsetTimeOriginal)),
        (taken.get(tags.DateTimeDigitized), taken.get(tags.OffsetTimeDigitized)),
        (exif.get(tags.DateTime), taken.get(tags.OffsetTime)),
    )
    zones = {_text(date): _text(zone) for date, zone in dates if zone}
    for date in (_text(date) for date, _ in dates):
        if (time_s := seconds(date, zones.get(date) or _zone_of_place(exif, date))) is not None:
            return captured(time_s, "exif")
    return {}


def _zone_of_place(exif: PIL.Image.Exif, date: str) -> str:
    """Return the zone of a date by the time of the GPS, which is in UTC; "" if there is none, or one of another moment."""
    tags = PIL.ExifTags.GPS
    # Boundary: damaged tags of the place are named by the reader of positions.
    try:
        place = exif.get_ifd(PIL.ExifTags.IFD.GPSInfo)
        clock = ":".join(f"{int(part):02}" for part in place[tags.GPSTimeStamp])
        moment_s, local_s = seconds(f"{_text(place[tags.GPSDateStamp])} {clock}", "Z"), seconds(date, "Z")
    except MemoryError:
        raise
    except Exception:
        return ""
    if moment_s is None or local_s is None:
        return ""
    quarters = round((local_s - moment_s) / _QUARTER_S)
    if abs(quarters) > _MAX_QUARTERS or abs(local_s - moment_s - quarters * _QUARTER_S) > _GPS_LAG_S:
        return ""
    return f"{'-' if quarters < 0 else '+'}{abs(quarters) // 4:02}:{abs(quarters) % 4 * 15:02}"


def captured(time_s: float | None, source: Source) -> dict[str, Any]:
    """Return a time as a source of `merge`, and no time as one that says nothing."""
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
    packet = packet[:MAX_PACKET_BYTES].strip(b"\0 \r\n")
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
        inside = (element, *element.iterfind("*"), *element.iterfind("*/*"))  # a list, and its entries
        texts = [text for child in inside if (text := (child.text or "").strip())]
        values.setdefault(element.tag.rpartition("}")[2], []).extend(texts)

    def first(*names: str) -> str:
        return next((value for name in names for value in values.get(name, ()) if value), "")

    metadata: dict[str, Any] = {"about": [*values.get("title", []), *values.get("description", []), *values.get("subject", [])]}
    metadata |= captured(first_seconds(first(name) for name in ("DateTimeOriginal", "DateCreated", "CreateDate")), source)
    metadata["camera"] = first("Model")
    latitude, longitude = (_xmp_degrees(first(name)) for name in ("GPSLatitude", "GPSLongitude"))
    if latitude is not None and longitude is not None:
        metadata["point"] = [latitude, longitude]
    return metadata


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
    metadata: dict[str, Any] = {"about": [lower.get(name) for name in titles], "camera": " ".join(filter(None, camera))}
    for name in (f"{apple}creationdate", "date_utc", "creation_time", "date", "creationdate"):
        if (time_s := first_seconds([_text(lower.get(name))])) is not None:
            metadata |= {"captured_s": time_s, "captured_from": "pdf" if is_pdf else "quicktime"}
            break
    for name in (f"{apple}location.iso6709", "location", "location-eng"):
        if match := _ISO6709.match(lower.get(name, "")):
            metadata["point"] = [float(match[1]), float(match[2])]
            break
    return metadata

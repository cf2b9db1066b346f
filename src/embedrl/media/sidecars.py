"""Sidecars: files that belong to a medium beside them, by their names: XMP, subtitles, and the JSON of Google Takeout.

Takeout names the JSON of `photo.jpg` `photo.jpg.json` or `photo.jpg.supplemental-metadata.json`, cuts that name to 46 characters and
`.json`, puts the number of `photo(1).jpg` behind it (`photo.jpg(1).json`), and writes none for `photo-edited.jpg` and for the film of a
live photo.
"""

import hashlib
import json
import os
import re
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from embedrl.media.dates import past
from embedrl.media.kinds import AUDIO, MEDIA, SHARED_VIDEO_SUFFIXES
from embedrl.media.metadata import MAX_PACKET_BYTES, captured, damage_noted, from_xmp
from embedrl.media.store import status_of
from embedrl.media.subtitles import SUFFIXES, stems

_FILMS = (*MEDIA["video"].suffixes, *SHARED_VIDEO_SUFFIXES)
_SPOKEN = (*_FILMS, *AUDIO)
"""Suffixes of media in which words are said."""
_MEDIA = {*_SPOKEN, *MEDIA["image"].suffixes, *MEDIA["page"].suffixes}
_ORDER = (".xmp", ".json", *SUFFIXES)
"""Suffixes of sidecars; of what several say, the first counts."""
_TAKEOUT = ".supplemental-metadata"
_LEAST_CUT = 40
"""Takeout cuts names at 46 characters or a few less, where some of them take several bytes."""
_NUMBERED = re.compile(r"(.*)(\(\d{1,4}\))(\.[^.]+)")
_EDITED = re.compile(
    r"(.*)-(?:edited|effects|smile|mix|bearbeitet|modifié|ha editado|editado|editada|editat|modificato|bewerkt|redigerad|redigeret"
    r"|edytowane|upravené|изменено|編集済み|수정됨)((?:\(\d{1,4}\))?\.[^.]+)",
    re.I,
)
"""What the languages of Google Photos put behind the name of an edited copy."""
_SETTLED_S = 2.0
"""File systems round the time of a folder's last change: a folder that changed so lately is listed anew."""


class _Beside(NamedTuple):
    sidecars: dict[str, tuple[str, ...]]
    """Of each medium of a folder that has any."""
    owned: frozenset[str]


_NOTHING = _Beside({}, frozenset())


def sidecars_of(path: Path) -> list[Path]:
    """Return the files that belong to a medium and that are there."""
    return [path.with_name(name) for name in _beside(path.parent).sidecars.get(path.name, ())]


def is_sidecar(path: Path) -> bool:
    """Say whether a file belongs to a medium that lies beside it."""
    return path.suffix.lower() in _ORDER and path.name in _beside(path.parent).owned


def sidecars_hash(sidecars: Sequence[Path]) -> str:
    """Return what changes whenever a sidecar of a medium comes, goes or changes; "" if there is none."""
    statuses = [(sidecar.name, status_of(sidecar.resolve())) for sidecar in sidecars]
    stamps = [(name, status.st_size, status.st_mtime_ns) for name, status in statuses if status]
    return hashlib.sha256(repr(stamps).encode("utf-8", "surrogatepass")).hexdigest()[:12] if stamps else ""


def _beside(folder: Path) -> _Beside:
    try:
        changed_ns = folder.stat().st_mtime_ns
        is_settled = not 0 <= time.time() - changed_ns / 1e9 < _SETTLED_S
        return (_cached if is_settled else _listed)(folder, changed_ns)
    except OSError:
        return _NOTHING


def _listed(folder: Path, changed_ns: int) -> _Beside:
    """List a folder, and match its sidecars with its media."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if _is_file(entry))
    beside = [name for name in names if _suffix(name) in _ORDER]
    media = [name for name in names if _suffix(name) in _MEDIA] if beside else []
    owners: defaultdict[str, list[str]] = defaultdict(list)
    """Media by their whole name and by its stem."""
    for name in media:
        for known in {_key(name), _key(_stem(name))}:
            owners[known].append(name)
    sidecars: defaultdict[str, list[str]] = defaultdict(list)
    notes = {_key(_stem(name)): name for name in beside if _suffix(name) == ".json"}
    for name in beside:
        if _suffix(name) != ".json":
            belongs = owners.get(_key(_stem(name)), [])
            tagless = stems(name)[1:] if _suffix(name) in SUFFIXES else []  # film.en.srt
            spoken = [owner for stem in tagless for owner in owners.get(_key(stem), ()) if _suffix(owner) in _SPOKEN]
            for owner in {*belongs, *spoken}:
                sidecars[owner].append(name)
    noted = {name: own for name in media if (own := _notes_of(name, notes))}
    for name, own in noted.items():
        films = owners[_key(_stem(name))] if _suffix(name) in MEDIA["image"].suffixes else []  # of a live photo
        for owner in (name, *(film for film in films if _suffix(film) in _FILMS and film not in noted)):
            sidecars[owner] += own
    ordered = {name: tuple(sorted(dict.fromkeys(beside), key=_rank)) for name, beside in sidecars.items()}
    return _Beside(ordered, frozenset(name for beside in ordered.values() for name in beside))


_cached = lru_cache(maxsize=64)(_listed)


def _notes_of(name: str, notes: dict[str, str]) -> list[str]:
    """Return the JSON files of a medium, of all that its folder has by what stands before `.json`."""
    edited = _EDITED.fullmatch(_key(name))
    for own in (_key(name), edited[1] + edited[2]) if edited else (_key(name),):
        candidates = [notes[candidate] for candidate in _note_names(own) if candidate in notes]
        if candidates:
            return [note for note in candidates if _key(_stem(note)) in (own, own + _TAKEOUT)] or candidates[:1]
    return []


def _note_names(name: str) -> Iterator[str]:
    """Yield what may stand before `.json`, the likeliest first."""
    numbered = _NUMBERED.fullmatch(name)
    for base, number in ((name, ""), (numbered[1] + numbered[3], numbered[2])) if numbered else ((name, ""),):
        for length in range(len(_TAKEOUT), -1, -1):
            yield base + _TAKEOUT[:length] + number
        for length in range(len(base) - 1, _LEAST_CUT - 1, -1):
            yield base[:length] + number


def _is_file(entry: os.DirEntry[str]) -> bool:
    return os.path.isfile(entry) if entry.is_symlink() else entry.is_file(follow_symlinks=False)  # a link may lead in a circle


def _key(name: str) -> str:
    """Return a name as names are compared: whatever its case, and however its accents are written."""
    return unicodedata.normalize("NFC", name).casefold()


def _rank(name: str) -> tuple[int, int, str]:
    return _ORDER.index(_suffix(name)), len(name), name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def from_sidecar(path: Path) -> list[dict[str, Any]]:
    """Read a sidecar: XMP, or the JSON that Takeout puts beside a photo. What cannot be read of it is named as damaged."""
    sources: list[dict[str, Any]] = []
    if path.suffix.lower() not in (".xmp", ".json"):
        return sources
    with damage_noted(sources, "sidecar"):
        with path.open("rb") as file:
            data = file.read(MAX_PACKET_BYTES)
        if path.suffix.lower() == ".xmp":
            return [from_xmp(data, "sidecar")]
        content = json.loads(data)
        if not isinstance(content, dict):  # no sidecar of Takeout's
            return sources
        sources.append({"about": [content.get("description")]})
        with damage_noted(sources, "sidecar"):
            sources.append({"about": [person.get("name") for person in content.get("people", [])]})
        with damage_noted(sources, "sidecar"):
            if time_s := int((content.get("photoTakenTime") or {}).get("timestamp") or 0):
                sources.append(captured(past(datetime.fromtimestamp(time_s, UTC).timestamp()), "sidecar"))
        with damage_noted(sources, "sidecar"):
            if place := content.get("geoData"):
                sources.append({"point": [float(place["latitude"]), float(place["longitude"])]})
    return sources

"""Dates as metadata, documents and file names write them, as seconds since 1970."""

import re
import time
from collections.abc import Iterable
from datetime import datetime

_EARLIEST = datetime(1826, 1, 1)
_NO_DATES = {datetime(1904, 1, 1), datetime(1970, 1, 1)}
"""What clocks that were never set write."""
_DAY_S = 24 * 3600
_EXIF_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?")
_PDF_TIME = re.compile(r"D:(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)()(Z|[+-]\d\d'?\d\d)?")
_DAY = re.compile(r"\s*(\d{4})([-:]?)(\d\d)\2(\d\d)\s*")
_YEAR = r"(?<!\d)((?:19|20)\d\d)"
_CLOCK = r"([01]\d|2[0-3]|\d(?=[-_.:h]))[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)"
"""An hour of one digit has a mark behind it: 231545 is 23:15:45, not 2:31:54."""
_BETWEEN = r"(?:[-_ T.,]{0,3}|\s(?:[^\W\d_]{1,5}\.?\s){1,2})"
"""Between a day and its time: a mark, or a word of the language that the program speaks (`at`, `um`, `kl.`, `a las`)."""
_IN_NAME = re.compile(
    rf"{_YEAR}([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    rf"(?:{_BETWEEN}{_CLOCK}\d{{0,3}}(?:\s?([AP])M\b|(Z|\+\d{{4}})(?![^\W_]))?)?(?!\d)",
    re.I,
)
"""IMG_20190701_123456, VID-20190701-WA0001, 2019-07-01 12.34.56, WhatsApp Image 2019-07-01 at 1.34.56 PM, …"""
_DAY_FIRST = re.compile(rf"@(0[1-9]|[12]\d|3[01])-(0[1-9]|1[0-2])-((?:19|20)\d\d)[_ ]{_CLOCK}(?!\d)")
"""photo_12@01-07-2019_12-34-56, as Telegram exports."""
_MILLISECONDS = re.compile(r"(?:^|FB_IMG_|mmexport|wx_camera_)(1\d{12})(?=[-_(. ]|$)")
"""FB_IMG_1561978496000, mmexport1561978496000, 1561978496000: milliseconds since 1970 (Facebook, WeChat, LINE)."""
_IN_UTC = "PXL_"
"""Begin of the names that Google's Pixel gives, in UTC; other cameras write what their clock shows."""


def seconds(text: str, offset: str = "") -> float | None:
    """Return seconds since 1970 of a date and time as EXIF (`2019:07:01 12:34:56`), XMP, QuickTime or a PDF writes it; else None.

    A time without a zone, here or in `offset`, is one of this machine's zone. What lies in the future is no time: a clock was wrong.
    """
    match = _EXIF_TIME.match(text) or _PDF_TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    zone = zone or offset
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0))
        if moment in _NO_DATES or moment < _EARLIEST:
            return None
        if zone:
            zone = "+00:00" if zone == "Z" else zone.replace("'", "")
            moment = moment.replace(tzinfo=datetime.strptime(zone.replace(":", ""), "%z").tzinfo)
        return past(moment.timestamp() + float(fraction or 0))
    except (ValueError, OverflowError):
        return None


def past(time_s: float) -> float | None:
    """Return a time unless it lies in the future, by more than zones may differ."""
    return time_s if time_s <= time.time() + _DAY_S else None


def first_seconds(dates: Iterable[str]) -> float | None:
    """Return the first date that can be read; a day alone (`2019-07-01`, `20190701`) counts as its noon."""
    for text in dates:
        day = _DAY.fullmatch(text)
        if (time_s := seconds(f"{day[1]}-{day[3]}-{day[4]} 12:00" if day else text.strip())) is not None:
            return time_s
    return None


def seconds_in_name(name: str) -> float | None:
    """Return seconds since 1970 of the date in a file's name, None for none; a day alone counts as its noon."""
    if match := _IN_NAME.search(name):
        year, _, month, day, hour, minute, second, half, zone = match.groups()
        if half and hour:
            hour = str(int(hour) % 12 + 12 * (half in "Pp"))
        zone = (zone or "").upper() or ("Z" if hour and name.startswith(_IN_UTC) else "")
    elif match := _DAY_FIRST.search(name):
        day, month, year, hour, minute, second = match.groups()
        zone = ""
    elif match := _MILLISECONDS.search(name):
        return past(int(match[1]) / 1000)
    else:
        return None
    return seconds(f"{year}-{month}-{day} {(hour or '12').zfill(2)}:{minute or '00'}:{second or '00'}", zone)

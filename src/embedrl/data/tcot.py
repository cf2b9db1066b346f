"""Traceability chain of thought (T-CoT): parsing and rendering.

Written form (paper, §3.1)::

    <thinking> A red star, top left. {"bbox_2d": [[60, 80, 320, 340]]} </thinking>
    <rethink> One object; the box covers it. </rethink>
    <answer> a red star at the top left </answer>

Model output is untrusted. `parse` never raises: it returns a `TCoT` or a `ParseFailure` with the reason.
"""

import json
import re
from bisect import bisect_left
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator

from embedrl.data.crops import Box
from embedrl.data.evidence_json import IMAGE_KEY, has_evidence, read_evidence
from embedrl.data.evidence_kinds import EVIDENCE_KINDS, Evidence
from embedrl.data.plain_text import SPECIAL_TOKEN, TAG, THOUGHT, neutralise, plain, special_tokens, well_formed, without_end

__all__ = [
    "SPECIAL_TOKEN",
    "Box",
    "Evidence",
    "FailureReason",
    "ParseFailure",
    "Reading",
    "TCoT",
    "count_words",
    "neutralise",
    "parse",
    "read",
    "render",
    "render_evidence",
    "render_parts",
    "special_tokens",
    "tcot_or_none",
    "with_facts",
]

MAX_CHARS = 20_000
"""Longer model output is a ParseFailure."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TCoT(_Row):
    """A parsed traceability chain of thought (T-CoT): thinking with evidence, rethink, answer (Embed-RL, §3.1).

    Text fields hold no tags, no special tokens and single spaces; `thinking` holds no braces.
    """

    thinking: str
    evidence: Evidence = Evidence()
    rethink: str
    answer: str

    @field_validator("rethink", "answer")
    @classmethod
    def _clean(cls, text: str) -> str:
        return plain(text)

    @field_validator("thinking")
    @classmethod
    def _clean_thinking(cls, text: str) -> str:
        text, before = plain(text.translate(_NO_BRACES)), None
        while text != before:
            text, before = plain(_EMPTY_FENCE.sub(" ", text)), text
        return text


def tcot_or_none(outcome: object) -> TCoT | None:
    """Return what a Reasoner answered if it is a T-CoT; None for a failure, and where it was not asked."""
    return outcome if isinstance(outcome, TCoT) else None


class FailureReason(StrEnum):
    """Why a text is not a T-CoT."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"
    """The text stops before the answer is closed."""
    MISSING_THINKING = "missing_thinking"
    MISSING_RETHINK = "missing_rethink"
    MISSING_ANSWER = "missing_answer"
    BAD_EVIDENCE = "bad_evidence"
    """The thinking is only evidence that cannot be parsed."""


class ParseFailure(_Row):
    """Model output that is not a T-CoT: the raw text and the reason."""

    reason: FailureReason
    text: str

    @field_validator("text")
    @classmethod
    def _clean(cls, text: str) -> str:
        return well_formed(text)

    def __bool__(self) -> bool:
        return False


class Reading(NamedTuple):
    """Outcome of parsing a text, with its repairs and losses."""

    outcome: TCoT | ParseFailure
    repaired: tuple[str, ...] = ()
    """Deviations from the written form that were repaired."""
    dropped: tuple[str, ...] = ()
    """Evidence that could not be parsed, or stands outside the thinking."""

    def written(self, num_frames: int | None = None) -> TCoT | ParseFailure:
        """Return the outcome, with `num_frames` and the number of losses added to its evidence (`with_facts`)."""
        if isinstance(self.outcome, ParseFailure):
            return self.outcome
        return with_facts(self.outcome, num_frames=num_frames, num_unread=len(self.dropped))


def count_words(text: str) -> int:
    """Count whitespace-separated words, the default measure of length."""
    return len(text.split())


_SECTIONS = {
    "thinking": FailureReason.MISSING_THINKING,
    "rethink": FailureReason.MISSING_RETHINK,
    "answer": FailureReason.MISSING_ANSWER,
}
_NO_BRACES = str.maketrans("{}｛｝", "()()")
_EMPTY_FENCE = re.compile(r"```(?:\w*\s)?```")
"""What is left of a code fence around evidence."""


def render(tcot: TCoT) -> str:
    """Render a T-CoT in canonical form; `parse(render(x)) == x` for a non-empty answer."""
    return "\n".join(render_parts(tcot))


def render_parts(tcot: TCoT) -> tuple[str, str]:
    """Render a T-CoT in two parts, split after `</thinking>`, where the Embedder is shown crops and key frames."""
    thinking = " ".join(filter(None, [tcot.thinking, *render_evidence(tcot.evidence)]))
    return f"<thinking> {thinking} </thinking>", f"<rethink> {tcot.rethink} </rethink>\n<answer> {tcot.answer} </answer>"


def render_evidence(evidence: Evidence) -> list[str]:
    """Render evidence as one JSON object per kind present; boxes of other images than the first as separate objects."""
    written = []
    for kind in EVIDENCE_KINDS:
        for image, pieces in groupby(kind.located(evidence), key=lambda piece: piece[1]):
            row = {kind.key: [piece for piece, _ in pieces]} | ({} if image == 1 else {IMAGE_KEY: image})
            written.append(json.dumps(row, ensure_ascii=False))
    return written


def parse(text: str) -> TCoT | ParseFailure:
    """Parse model output as a T-CoT; never raises. See `read`."""
    return read(text).outcome


def with_facts(tcot: TCoT, *, num_frames: int | None = None, num_unread: int = 0) -> TCoT:
    """Return a T-CoT with facts that its text lacks: frames shown (at most) and number of pieces that could not be parsed.

    Without key frames there is nothing to count, and what is known already stands.
    """
    evidence, facts = tcot.evidence, {}
    if num_frames is not None and evidence.key_frames and evidence.num_frames is None:
        facts["num_frames"] = num_frames
    if num_unread and not evidence.num_unread:
        facts["num_unread"] = num_unread
    return tcot.model_copy(update={"evidence": evidence.model_copy(update=facts)}) if facts else tcot


def read(text: str) -> Reading:
    """Parse model output as a T-CoT, listing repairs and losses; never raises.

    The last complete T-CoT counts, and only if it does not stand in a block of thinking that precedes the answer (`<think>`, `[THINK]`, …).
    Inner sections may be unclosed; so may the answer, if the token of the turn's end follows it (`<|im_end|>`). Evidence in the thinking is
    read wherever it stands in it; a piece that cannot be read is dropped.
    """
    original, text = text, well_formed(text)
    if not text.strip():
        return Reading(ParseFailure(reason=FailureReason.EMPTY, text=text))
    if len(text) > MAX_CHARS:
        return Reading(ParseFailure(reason=FailureReason.TOO_LONG, text=text[:MAX_CHARS]))
    ended, closing = without_end(text), ""
    if not ended:
        return Reading(ParseFailure(reason=FailureReason.EMPTY, text=text))
    tags = _Tags(ended)
    sections = tags.last_complete()
    if sections is None and ended != text.rstrip() and tags.all and tags.all[-1][2] == "answer":
        closing = "</answer>"
        sections = _Tags(ended + closing).last_complete()
    if sections is None:
        return Reading(ParseFailure(reason=tags.reason(), text=text))
    section = read_evidence(sections.thinking)
    if section.is_lost:
        return Reading(ParseFailure(reason=FailureReason.BAD_EVIDENCE, text=text), dropped=tuple(section.notes.dropped))
    between = read_evidence(sections.between)
    notes = section.notes
    for kind in EVIDENCE_KINDS:
        if between.pieces[kind.name]:
            notes.repaired.append(f"{kind.key}: behind </thinking>")
            section.pieces[kind.name] += between.pieces[kind.name]
    section.box_images += between.box_images
    notes.repaired += between.notes.repaired
    notes.dropped += between.notes.dropped
    notes.dropped += [f"evidence {where}" for where, other in sections.elsewhere.items() if has_evidence(other)]
    if text != original:
        notes.repaired.append("half a character")
    answer = without_end(sections.answer)
    if closing or answer != sections.answer.rstrip():
        notes.repaired.append("an answer that the token of its turn's end closes")
    evidence = Evidence.model_validate({**section.pieces, "box_images": section.box_images})
    outcome = TCoT(thinking=section.text, evidence=evidence, rethink=sections.rethink, answer=answer)
    return Reading(outcome, tuple(notes.repaired), tuple(notes.dropped))


class _Sections(NamedTuple):
    thinking: str
    between: str
    """Text between `</thinking>` and the rethink."""
    rethink: str
    answer: str
    elsewhere: dict[str, str]
    """Texts outside the thinking, by section."""


class _Tags:
    """The tags of a text: those of T-CoTs, and those of thinking that precedes an answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.all = [(match.start(), match.end(), _name(match["name"], match["close"])) for match in TAG.finditer(text)]
        self.starts = [start for start, _, _ in self.all]
        self.places: dict[str, list[int]] = {}
        """By name ("thinking", "/thinking"): where in `all`, rising."""
        for place, (_, _, name) in enumerate(self.all):
            self.places.setdefault(name, []).append(place)
        self.thoughts = [(match.start(), match.end(), any(match.groups())) for match in THOUGHT.finditer(text)]
        self.last_thought_end = max((end for _, end, closes in self.thoughts if closes), default=0)

    def last_complete(self) -> _Sections | None:
        """Return the sections of the last complete T-CoT that does not stand in a block of thinking."""
        for place in reversed(self.places.get("thinking", [])):
            sections, end = self._from(place) or (None, 0)
            if sections is not None and end > self.last_thought_end and not self._in_thought(self.all[place][0]):
                return sections
        return None

    def reason(self) -> FailureReason:
        """Say why there is no complete T-CoT behind the last block of thinking."""
        position = self.last_thought_end
        opened = next((start for start, _, closes in self.thoughts if start >= position and not closes), None)
        rest = self.text[position:opened]
        if not rest.strip():
            return FailureReason.EMPTY if opened is None else FailureReason.TRUNCATED
        tags = [tag for tag in self.all if position <= tag[0] < position + len(rest)]
        for number, (name, missing) in enumerate(_SECTIONS.items()):
            place = next((place for place, tag in enumerate(tags) if tag[2] == name), None)
            if place is None:
                is_cut = opened is not None or (number > 0 and not rest.rstrip().endswith(">"))
                return FailureReason.TRUNCATED if is_cut else missing
            tags = tags[place + 1 :]
            if not tags:
                return FailureReason.TRUNCATED
        return FailureReason.MISSING_ANSWER

    def _in_thought(self, position: int) -> bool:
        before = bisect_left(self.thoughts, (position,)) - 1
        return before >= 0 and not self.thoughts[before][2]

    def _next(self, name: str, place: int) -> int | None:
        """Return the first tag of that name at or behind a place of `all`."""
        places = self.places.get(name, [])
        number = bisect_left(places, place)
        return places[number] if number < len(places) else None

    def _last(self, name: str, start: int, stop: int) -> int | None:
        """Return the last tag of that name from one place of `all` up to another."""
        places = self.places.get(name, [])
        number = bisect_left(places, stop) - 1
        return places[number] if number >= 0 and places[number] >= start else None

    def _section(self, name: str, place: int, following: str) -> tuple[int, int] | None:
        """Return where a section's text ends (a place of `all`), and the tag that opens the next one.

        A tag that is named inside the section does not end it, as long as the section is closed.
        """
        closer = self._next(f"/{name}", place)
        opener = self._next(following, place if closer is None else closer)
        if closer is not None and opener is None:
            opener = self._next(following, place)
        if opener is None:
            return None
        closer = self._last(f"/{name}", place, opener)
        return (opener if closer is None else closer), opener

    def _from(self, thinking: int) -> tuple[_Sections, int] | None:
        """Return the T-CoT that opens with a tag, and where it ends; None if it is not complete."""
        first = self._section("thinking", thinking + 1, "rethink")
        second = self._section("rethink", first[1] + 1, "answer") if first else None
        if first is None or second is None:
            return None
        answer = second[1]
        closer = self._next("/answer", answer + 1)
        if closer is None and answer + 1 < len(self.all):
            closer = answer + 1
        if closer is None:
            return None
        answer_text = self.text[self.all[answer][1] : self.all[closer][0]]
        if not plain(without_end(answer_text)):
            return None
        while thinking > 0 and self.all[thinking - 1][2] == "thinking" and not self._thought_between(thinking - 1, thinking):
            thinking -= 1  # the tag is doubled, or named in the thinking
        opener, end = self.all[thinking], self.all[closer][1]
        rethink = self.text[self.all[first[1]][1] : self.all[second[0]][0]]
        sections = _Sections(
            thinking=self.text[opener[1] : self.all[first[0]][0]],
            between=self.text[self.all[first[0]][1] : self.all[first[1]][0]] if first[0] != first[1] else "",
            rethink=rethink,
            answer=answer_text,
            elsewhere={
                "before the thinking": self.text[: opener[0]] if not (thinking or self.thoughts) else "",  # else it may be a draft's
                "in the rethink": rethink,
                "in the answer": answer_text,
                "behind the answer": self.text[end:],
            },
        )
        return sections, end

    def _thought_between(self, place: int, other: int) -> bool:
        start, stop = self.all[place][1], self.all[other][0]
        number = bisect_left(self.thoughts, (start,))
        return number < len(self.thoughts) and self.thoughts[number][0] < stop


def _name(name: str, close: str) -> str:
    name = name.lower()
    return close + ("rethink" if name == "rethinking" else name)

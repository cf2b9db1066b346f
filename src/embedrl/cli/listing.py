"""Hits and failures as table rows for a terminal."""

from collections.abc import Sequence

from embedrl import log
from embedrl.data.evidence_kinds import EVIDENCE_KINDS
from embedrl.data.reasoning import MEDIA, TCoTCounts
from embedrl.data.segments import MARKS
from embedrl.data.tcot import FailureReason
from embedrl.index.failures import Failure
from embedrl.index.hit import Hit
from embedrl.index.location import find_home
from embedrl.index.recommend import Recommendations
from embedrl.index.search import SearchResult
from embedrl.index.words import AudioLeftOut

AUDIO_LEFT_OUT: dict[AudioLeftOut, str] = {
    "no_transcriber": "give --transcribe, or put what is said beside them (.srt, .vtt, .ass, .lrc)",
    "nothing_said": "nothing is said in them",
    "not_transcribed": "the transcriber gave no answer; the next run asks again",
}
HIT_COLUMNS = ("score", "modality", "key", "path", "answer", "evidence")


_LENGTH = "its answer was cut off: raise --max-new-tokens, or max_new_tokens in the embedrl.json of a model folder"


def warn_of_failures(counts: TCoTCounts, answered: str = "", unanswered: str = "the next run asks again", *, system: str = "") -> None:
    """Print how many items have no T-CoT, by reason, and how to retry them."""
    for reason, count in sorted(counts.failed.items(), key=lambda row: (-row[1], row[0])):
        items = "1 item has" if count == 1 else f"{count:,} items have"
        if reason == FailureReason.TRUNCATED:
            remedy = _LENGTH
        elif reason in {known.value for known in FailureReason}:
            remedy = "; ".join(filter(None, [f"the answer begins {counts.examples[reason][:60]!r}", answered]))
        else:
            remedy = counts.examples[reason].removeprefix(f"{reason}: ") + ("" if reason == MEDIA else f"; {unanswered}")
        log.warn(f"{system}{': ' if system else ''}{items} no T-CoT ({reason}): {remedy}")


def show(result: SearchResult, *, as_json: bool) -> None:
    """Print the result of a search, as a table or as JSON."""
    if as_json:
        log.print_json(result.model_dump(mode="json"))
        return
    warn_of_plain(result)
    if result.fused_words:
        log.info(f"ranked by meaning and by the words {', '.join(result.fused_words)}; the score is that of the meaning alone")
    if result.hits:
        log.table("Hits, best first", HIT_COLUMNS, hit_rows(result.hits))
        without = sum(hit.tcot is None for hit in result.hits)
        if result.used_tcot and 0 < without < len(result.hits):
            log.info(
                f"{without} of these have no T-CoT: they keep their rank of the search without reasoning, and their scores are not to be "
                "compared with the others"
            )
    else:
        log.info("no hits")


def warn_of_plain(result: SearchResult) -> None:
    """Warn if the query has no T-CoT although one was requested."""
    if result.gate == "plain":
        log.info("answered without reasoning: the gate expects no gain for this query (--think-budget 1 reasons always)")
    if result.query_tcot_failure:
        reason = result.query_tcot_error or result.query_tcot_failure
        log.warn(f"the Reasoner wrote no T-CoT for the query ({reason}); the search used plain vectors")


def show_paths(index: str, hits: Sequence[Hit]) -> None:
    """Print the distinct file paths of hits, best first."""
    home = find_home(index)
    log.print_paths(dict.fromkeys(home.locate(hit.path) for hit in hits))
    if not hits:
        log.info("no hits")


def show_recommended(result: Recommendations, *, asked_for_tcots: bool, as_json: bool) -> None:
    """Print recommendations with their reasons, as a table or as JSON."""
    if as_json:
        hits = [{**item.hit.model_dump(mode="json"), "reason": item.reason.model_dump(mode="json")} for item in result.items]
        log.print_json({"hits": hits, "more": result.more, "used_tcot": result.used_tcot})
        return
    if asked_for_tcots and not result.used_tcot:
        log.warn("an example has no T-CoT; the recommendation used plain vectors")
    if result.items:
        rows = zip(hit_rows([item.hit for item in result.items]), result.items, strict=True)
        log.table("Recommended", (*HIT_COLUMNS, "reason"), [(*row, item.reason.say(item.reason.key[:12])) for row, item in rows])
    else:
        log.info("no hits")


def hit_rows(hits: Sequence[Hit]) -> list[tuple[str, ...]]:
    """Return one row of `HIT_COLUMNS` for each Hit."""
    return [(f"{hit.score:.3f}", hit.modality, hit.key[:12], _place(hit), hit.answer or hit.excerpt[:80], evidence(hit)) for hit in hits]


def evidence(hit: Hit) -> str:
    """Format a Hit's evidence; pieces that fail verification are marked, as "(not quoted)".

    First what was read in it that holds words of the query, with its time.
    """
    pieces = [f'{MARKS[segment.source].lower()}: "{segment.text}"{_at(segment.start_s)}'.replace("\n", " ") for segment in hit.read]
    if hit.tcot is None:
        return "; ".join(pieces)
    times = {"key_frames": _times(hit), "keywords": [place.start_s if place else None for place in hit.keyword_places]}
    for kind in EVIDENCE_KINDS:
        checked = kind.checked(hit.tcot.evidence, hit.verification)
        for (piece, holds), time_s in zip(checked, times.get(kind.name) or (None,) * len(checked), strict=True):
            pieces.append(f"{kind.tell(piece)}{_at(time_s)}{'' if holds else f' ({kind.say(holds)})'}")
    return "; ".join(pieces)


def failure_line(failure: Failure) -> str:
    """Format a failure in one line: path, page or part, reason."""
    unit = {None: "", 0: ", as a whole"}.get(failure.unit, f", part {failure.unit}")
    return f"{failure.path}{_page(failure.page)}{unit}: {failure.reason}"


def _place(hit: Hit) -> str:
    more = f" (and {len(hit.other_paths)} more)" if hit.other_paths else ""
    return f"{hit.path}{_page(hit.page)}{_unit(hit)}{more}{_others(hit)}"


def _unit(hit: Hit) -> str:
    if hit.unit and hit.end_s is not None:
        return f", {_clock(hit.start_s)}-{_clock(hit.end_s)}"
    if hit.unit and hit.modality == "image":
        return f", image {hit.unit}"
    return f", characters {hit.start_char:,}-{hit.end_char:,}" if hit.start_char is not None else ""


def _others(hit: Hit) -> str:
    """Format the number of further units of the file among the hits, and where the best of them are."""
    if not hit.num_other_units:
        return ""
    noun = {"video": "moment", "text": "passage", "image": "image"}.get(hit.modality, "page")
    others = [other for other in hit.other_units if other.unit != 0]
    where = [str(other.page or other.unit) if other.start_s is None else _clock(other.start_s) for other in others]
    return f" ({hit.num_other_units} more {noun}{'' if hit.num_other_units == 1 else 's'}: {', '.join(where)})"


def _clock(time_s: float | None) -> str:
    minutes, seconds = divmod(int(time_s or 0.0), 60)
    return f"{minutes}:{seconds:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _page(number: int | None) -> str:
    return f", page {number}" if number else ""


def _times(hit: Hit) -> Sequence[float | None]:
    numbers = hit.tcot.evidence.key_frames if hit.tcot else ()
    return hit.key_frame_times_s if len(hit.key_frame_times_s) == len(numbers) else (None,) * len(numbers)


def _at(time_s: float | None) -> str:
    return "" if time_s is None else f" ({time_s:.1f} s)"

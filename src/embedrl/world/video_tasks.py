"""Tasks about clips: classification, question answering, captions both ways, moments."""

import random

from embedrl.data.sample import Role
from embedrl.media.content import Video
from embedrl.world import clips
from embedrl.world.facts import Truth
from embedrl.world.side import Family, Side, captioned, distinct, item, label, text_side


def _clip_family(rng: random.Random, split: str, count: int, index: int | None = None) -> list[clips.Clip]:
    base = clips.sample_clip(rng, split)
    return distinct(lambda: clips.variant(rng, base, split, index=index), base, count)


def _clip_side(clip: clips.Clip, role: Role, task: str, side: str, *, text: str = "", seen: Truth | None = None) -> Side:
    seen = seen or clip.truth()
    return Side(lambda: item(role, task, side, Video(frames=clip.frames()), text=text), seen, seen, clip.signature() + text)


def _half_side(clip: clips.Clip, index: int, role: Role, task: str, side: str, signature: str) -> Side:
    truth = clip.half_truth(index)
    return Side(lambda: item(role, task, side, Video(frames=clip.half_frames(index))), truth, truth, signature)


def text_to_video(rng: random.Random, split: str, count: int) -> Family:
    """A caption of both events, and its clip."""
    return captioned(rng, _clip_family(rng, split, count), _clip_side, "video_t2v", (Role.QUERY_TEXT_TO_VIDEO, Role.TARGET_VIDEO))


def video_to_text(rng: random.Random, split: str, count: int) -> Family:
    """A clip, and a caption of both events."""
    return captioned(rng, _clip_family(rng, split, count), _clip_side, "video_v2t", (Role.QUERY_VIDEO, Role.TARGET_TEXT))


def classify(rng: random.Random, split: str, count: int) -> Family:
    """Half a clip with one event, and its class label."""
    family, index = [], rng.randrange(2)
    for clip in _clip_family(rng, split, count, index):
        text, facts = label(clip.events[index].fact(), "")
        query = _half_side(clip, index, Role.QUERY_VIDEO, "video_cls", "query", _moment_signature(clip, index))
        family.append((query, text_side(text, facts, Role.TARGET_TEXT, "video_cls", "target")))
    return family


def answer(rng: random.Random, split: str, count: int) -> Family:
    """A clip with a question about its first or last event, and the answer."""
    family, index = [], rng.randrange(2)
    for clip in _clip_family(rng, split, count, index):
        fact, setting = clip.events[index].fact(), f"on {clip.background}"
        text, facts = label(fact, setting)
        question = f"What happens {('first', 'last')[index]}?"
        query = _clip_side(clip, Role.QUERY_VIDEO, "video_qa", "query", text=question, seen=Truth((fact,), setting, "video"))
        family.append((query, text_side(text, facts, Role.TARGET_TEXT, "video_qa", "target")))
    return family


def moment(rng: random.Random, split: str, count: int) -> Family:
    """Moment retrieval: a clip with the name of one event, and the half that shows it."""
    base = clips.sample_clip(rng, split)
    moments = {_moment_signature(base, index): (base, index) for index in (0, 1)}
    for attempt in range(20 * count):
        if len(moments) > count:
            break
        index = attempt % 2
        clip = clips.variant(rng, base, split, index=index)
        moments.setdefault(_moment_signature(clip, index), (clip, index))
    family = []
    for signature, (clip, index) in list(moments.items())[: count + 1]:
        fact = clip.events[index].fact()
        seen = Truth((fact,), f"on {clip.background}", "video")
        query = _clip_side(clip, Role.QUERY_VIDEO, "video_moment", "query", text=f"the moment when the {fact.tell()}", seen=seen)
        family.append((query, _half_side(clip, index, Role.TARGET_VIDEO, "video_moment", "target", signature)))
    return family


def _moment_signature(clip: clips.Clip, index: int) -> str:
    return f"half: {clip.events[index].fact().tell()} on {clip.background}"

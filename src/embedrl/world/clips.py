"""Clips: eight frames at 2 fps with two consecutive events."""

import random
from dataclasses import dataclass, replace

import PIL.Image

from embedrl.media.content import Frames
from embedrl.world.facts import Fact, Truth
from embedrl.world.objects import BACKGROUNDS, COLOURS, SHAPES, SIZES, Thing, allowed, draw_things, sample_other, sample_thing

GRID = 2
SIDE = 192
NUM_FRAMES = 8
FPS = 2.0
EVENTS = ("enters", "leaves", "moves", "grows", "shrinks", "blinks", "turns")
_STARTS = ((1, 2), (5, 6))
"""In which frame (1-based) the first and the second event may start; each takes three frames."""


@dataclass(frozen=True)
class Event:
    """An event of one object, over three frames from `start` (1-based)."""

    thing: Thing
    verb: str
    start: int
    to: str = ""
    """New colour, of a colour change."""
    to_cell: int = 0
    """Final cell, of a movement."""

    def at(self, frame: int) -> Thing | None:
        """Return the object in a 1-based frame; None if absent."""
        step = frame - self.start
        progress = min(max(step / 2, 0.0), 1.0)
        thing = self.thing
        outward = -1 if thing.cell % GRID == 0 else 1
        match self.verb:
            case "enters":
                return None if step < 1 else replace(thing, dx=thing.dx + outward * 0.6 * (1 - progress))
            case "leaves":
                return None if step > 1 else replace(thing, dx=thing.dx + outward * 0.6 * progress)
            case "moves":
                rows, columns = (b - a for a, b in zip(divmod(thing.cell, GRID), divmod(self.to_cell, GRID), strict=True))
                return replace(thing, dx=thing.dx + columns * progress, dy=thing.dy + rows * progress)
            case "grows":
                return replace(thing, size="small", scale=1 + 0.86 * progress)
            case "shrinks":
                return replace(thing, size="large", scale=1 - 0.46 * progress)
            case "blinks":
                return None if step == 1 else thing
            case "turns":
                return replace(thing, colour=self.to) if step >= 1 else thing
        return thing

    def fact(self) -> Fact:
        """Return the event as a fact, with its key frame."""
        verb = f"turns {self.to}" if self.verb == "turns" else self.verb
        slots = (("colour", self.thing.colour), ("shape", self.thing.shape), ("event", verb))
        return Fact(slots, key_frame=self.start + 1)


@dataclass(frozen=True)
class Clip:
    """Two consecutive events of two objects on a background."""

    events: tuple[Event, Event]
    background: str

    def frames(self, side: int = SIDE) -> Frames:
        """Render all frames, with timestamps."""
        images = tuple(self.frame(number, side) for number in range(1, NUM_FRAMES + 1))
        return Frames(images, tuple(number / FPS for number in range(NUM_FRAMES)))

    def things(self, number: int) -> tuple[Thing, ...]:
        """Return the visible objects of a 1-based frame."""
        return tuple(thing for event in self.events if (thing := event.at(number)) is not None)

    def frame(self, number: int, side: int = SIDE) -> PIL.Image.Image:
        """Render a 1-based frame: RGB (side, side)."""
        return draw_things(self.things(number), self.background, GRID, side)

    def truth(self) -> Truth:
        """Ground-truth facts; the first event is more salient than the second."""
        return Truth((self.events[0].fact(), self.events[1].fact()), f"on {self.background}", "video")

    def half_frames(self, index: int) -> Frames:
        """Render the first or last four frames as a clip: one event, with the other object at rest."""
        frames = self.frames()
        span = slice(4 * index, 4 * index + 4)
        return Frames(frames.images[span], frames.times_s[span])

    def half_truth(self, index: int) -> Truth:
        """Ground-truth fact of the first or last four frames."""
        fact = self.events[index].fact()
        assert fact.key_frame is not None
        return Truth((replace(fact, key_frame=fact.key_frame - 4 * index),), f"on {self.background}", "video")

    def signature(self) -> str:
        """Identity up to geometry and exact timing."""
        return f"{self.background}:" + "|".join(event.fact().tell() for event in self.events)


def sample_event(rng: random.Random, split: str, cell: int, index: int, *, verb: str | None = None) -> Event:
    """Sample an event for the first or second half of a clip."""
    verb = verb or rng.choice(EVENTS)
    while True:
        thing = sample_thing(rng, split, cell, jitter=0.06)
        if verb in ("enters", "leaves", "moves", "blinks", "turns"):
            thing = replace(thing, size="large")
        event = Event(thing, verb, rng.choice(_STARTS[index]))
        if verb == "turns":
            event = replace(event, to=rng.choice([colour for colour in COLOURS if colour != thing.colour]))
        if _may_show(event, split):
            return event


def _may_show(event: Event, split: str) -> bool:
    """Return whether the split allows the event's object in its first and last state."""
    sizes = tuple(SIZES) if event.verb in ("grows", "shrinks") else (event.thing.size,)
    colours = (event.thing.colour, event.to or event.thing.colour)
    return all(allowed(replace(event.thing, size=size, colour=colour), split) for size in sizes for colour in colours)


def sample_clip(rng: random.Random, split: str) -> Clip:
    """Sample a clip; its two objects differ in colour and shape."""
    while True:
        cells = rng.sample(range(GRID * GRID), 4)
        events = tuple(_settle(sample_event(rng, split, cells[index], index), cells[2 + index]) for index in (0, 1))
        first, second = events
        if first.thing.colour != second.thing.colour and first.thing.shape != second.thing.shape:
            return Clip((first, second), rng.choice(list(BACKGROUNDS)))


def _settle(event: Event, free_cell: int) -> Event:
    return replace(event, to_cell=free_cell) if event.verb == "moves" else event


def variant(rng: random.Random, clip: Clip, split: str, *, index: int | None = None) -> Clip:
    """Sample a variant that differs in one attribute of one event: colour, shape or action."""
    for _ in range(100):
        which = rng.randrange(2) if index is None else index
        event, other = clip.events[which], clip.events[1 - which]
        attribute = rng.choice(("colour", "shape", "verb"))
        if attribute == "verb":
            verb = rng.choice([verb for verb in EVENTS if verb != event.verb])
            taken = {event.thing.cell, other.thing.cell, other.to_cell if other.verb == "moves" else -1}
            free = rng.choice([cell for cell in range(GRID * GRID) if cell not in taken])
            new = replace(sample_event(rng, split, event.thing.cell, which, verb=verb), start=event.start)
            thing = replace(new.thing, shape=event.thing.shape, colour=event.thing.colour)
            new = _settle(replace(new, thing=thing), free)
        else:
            choices = tuple(COLOURS) if attribute == "colour" else SHAPES
            new = replace(event, thing=sample_other(rng, event.thing, attribute, split, choices))
        if new.to == new.thing.colour or not _may_show(new, split):
            continue
        if new.thing.colour != other.thing.colour and new.thing.shape != other.thing.shape:
            events = (new, other) if which == 0 else (other, new)
            return replace(clip, events=events)
    raise AssertionError("a clip of this world always has a variant")

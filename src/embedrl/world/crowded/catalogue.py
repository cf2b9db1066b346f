"""The words of the catalogue: targets are described in them, queries in the words that people use.

People and catalogues seldom choose the same word for one thing (Furnas et al., "The vocabulary problem in human-system communication",
1987), which is why retrieval needs an Embedder that learned what words mean. Without this gap the words that a pair shares are what
matters, and comparing words finds them. Clutter keeps its words on both sides: sizes and backgrounds agree by chance, and never matter.
"""

from dataclasses import replace

from embedrl.world.facts import Fact

_COLOURS = {"red": "ruby", "green": "jade", "blue": "navy", "yellow": "gold"}
_COLOURS |= {"purple": "plum", "orange": "amber", "cyan": "teal", "pink": "rose"}
_SHAPES = {"circle": "disc", "square": "tile", "triangle": "wedge", "star": "spark"}
_SHAPES |= {"cross": "plus", "ring": "hoop", "diamond": "kite", "heart": "love"}
_PLACES = {"top-left": "nw", "top": "n", "top-right": "ne", "left": "w", "center": "mid", "right": "e"}
_PLACES |= {"bottom-left": "sw", "bottom": "s", "bottom-right": "se"}
_EVENTS = {"enters": "comes", "leaves": "exits", "moves": "shifts", "grows": "swells", "shrinks": "wanes"}
_EVENTS |= {"blinks": "flashes", "turns": "becomes"}
_ORDER = {"first": "opens", "second": "follows", "last": "ends"}
_CITIES = {"oslo": "norway", "lima": "peru", "cairo": "egypt", "paris": "france", "delhi": "india"}
_CITIES |= {"tokyo": "japan", "quito": "ecuador", "accra": "ghana", "milan": "italy", "perth": "australia"}
_TOPICS = {"coffee": "mocha", "tea": "chai", "sugar": "cane", "rice": "paddy", "cotton": "denim", "steel": "alloy"}
_TOPICS |= {"paper": "pulp", "glass": "pane", "wool": "fleece", "salt": "brine", "corn": "maize", "honey": "nectar"}
_VALUES = {"low": "slight", "mid": "medium", "high": "tall", "top": "peak"}
_VALUES |= {"cheap": "budget", "dear": "costly", "fresh": "crisp", "late": "tardy", "rare": "scarce"}
_VALUES |= {"sold": "gone", "good": "fine", "bad": "poor", "new": "recent", "old": "aged"}
_TENS = ("x", "xx", "xxx", "xl", "l", "lx", "lxx", "lxxx", "xc")
_VALUES |= {str(10 * number + unit): ten + "v" * (unit > 0) for number, ten in enumerate(_TENS, start=1) for unit in (0, 5)}

WORDS: dict[str, dict[str, str]] = {
    "colour": _COLOURS,
    "shape": _SHAPES,
    "place": _PLACES,
    "event": _EVENTS | _COLOURS,
    "order": _ORDER,
    "city": {"lists": "row"} | _CITIES,
    "topic": {"about": "re"} | _TOPICS,
    "kind": {"a": "as", "notes": "memo", "table": "grid", "chart": "bars"},
    "value": {"says": "reads"} | _VALUES,
}
"""The catalogue's word for each of people's, by slot."""


def catalogued(fact: Fact) -> Fact:
    """Return a fact in the words of the catalogue; what it does not rename stays as it is."""
    return replace(fact, slots=tuple((slot, _reworded(text, WORDS.get(slot, {}))) for slot, text in fact.slots))


def _reworded(text: str, words: dict[str, str]) -> str:
    return " ".join(words.get(word, word) for word in text.split())

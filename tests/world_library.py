"""A library whose evidence is known: files of the world, a few odd ones, and a Reasoner that knows them all."""

from pathlib import Path

import PIL.Image

from embedrl.data.sample import Item
from embedrl.data.tcot import Evidence, ParseFailure, TCoT
from embedrl.media.image import save_image
from embedrl.testing import FakeReasoner
from embedrl.world.write import PAIRS, make_world, read_world

SCRIPT = "<img src=x onerror=\"document.title='attacked'\"><script>document.title='attacked'</script>"
HOSTILE_NAME = "a <b>bold<b> <img src=x onerror=alert(1)>.png"
LETTER = "letter.txt"


class KnowingReasoner(FakeReasoner):
    """Writes the T-CoT that a file is known to deserve; reads what it does not know as its parent does."""

    def __init__(self, truths: dict[str, TCoT], name: str = "knowing") -> None:
        super().__init__(name)
        self.truths = truths

    def _reason(self, item: Item) -> TCoT | ParseFailure:
        path = getattr(item.visual, "path", None)
        return self.truths[path.name] if path is not None and path.name in self.truths else super()._reason(item)


def make_library(folder: Path) -> dict[str, TCoT]:
    """Write files of every task of the world, a hostile picture and a letter; return the T-CoTs that are true of them, by file name."""
    make_world(folder, num_pairs=15, seed=3)
    truths = {}
    for pair in read_world(folder):
        sides = [(pair.pair.target, pair.target_truth), *zip(pair.pair.negatives, pair.negative_truths, strict=True)]
        truths |= {path.name: truth for item, truth in sides if (path := getattr(item.visual, "path", None)) is not None}
    (folder / PAIRS).unlink()
    save_image(PIL.Image.new("RGB", (300, 100), "#444"), folder / HOSTILE_NAME)
    truths[HOSTILE_NAME] = TCoT(
        thinking=SCRIPT,
        evidence=Evidence(boxes=((100, 200, 500, 800), (900, 100, 1400, 200)), key_frames=(99,), keywords=(SCRIPT, "nowhere")),
        rethink=SCRIPT,
        answer=f"{SCRIPT} hostile",
    )
    (folder / LETTER).write_text("Dear elephant, the invoice is in the <b>post</b>. Your grocer", "utf-8")
    return truths

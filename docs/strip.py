"""Write docs/images/strip.png: the first hit of one query without reasoning, with T-CoTs before RL, and after RL (`make strip`).

The query is the first of those drawn whose target only the Reasoner after RL brings to the first rank; over all queries: docs/miniature.md.
"""

import textwrap
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from embedrl import load_embedder, load_reasoner
from embedrl.data.evidence import draw_boxes
from embedrl.data.tcot import TCoT
from embedrl.evaluation.evaluate import SystemResult, evaluate
from embedrl.evaluation.task import RetrievalTask
from embedrl.evaluation.world import world_tasks
from embedrl.media.content import Image

OUT = Path(__file__).parent / "images" / "strip.png"
NUM_QUERIES, POOL_SIZE, SEED = 6, 32, 0
SIDE, MARGIN, HEAD, FOOT = 300, 24, 92, 112
TITLES = ("without reasoning", "reasoning, before RL", "reasoning, after RL")
INK, PALE, RIGHT, WRONG = "#1d2330", "#5c6474", "#1a7f4b", "#b3423a"


def font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    """Return Pillow's own font at a size in pixels."""
    return PIL.ImageFont.load_default(size)


def choose(systems: list[SystemResult]) -> int:
    """Return the number of the first query that only the last system answers."""
    ranks = [[ranking.rank for ranking in system.tasks[0].rankings] for system in systems]
    for number, (plain, before, after) in enumerate(zip(*ranks, strict=True)):
        if after == 1 and plain > 1 and before > 1:
            return number
    raise SystemExit(f"no query of {len(ranks[0])} is answered by the last system alone: draw more")


def panel(task: RetrievalTask, system: SystemResult, number: int, title: str) -> PIL.Image.Image:
    """Draw a system's first hit with its boxes, what was seen in it, and where the target is."""
    ranking = system.tasks[0].rankings[number]
    item = task.items[ranking.top[0][0]]
    assert isinstance(item.visual, Image)
    assert item.visual.pixels is not None
    tcot = system.tcots.get(item.key)
    picture = item.visual.pixels.convert("RGB").resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS)
    if isinstance(tcot, TCoT):
        picture = draw_boxes(picture, tcot.evidence)
    is_right = ranking.rank == 1
    drawn = PIL.Image.new("RGB", (SIDE, 34 + SIDE + FOOT), "white")
    draw = PIL.ImageDraw.Draw(drawn)
    draw.text((0, 4), title, font=font(20), fill=INK)
    drawn.paste(picture, (0, 34))
    draw.rectangle((0, 34, SIDE - 1, 33 + SIDE), outline=RIGHT if is_right else WRONG, width=4)
    verdict = "the right picture" if is_right else f"wrong; the right one is number {ranking.rank}"
    draw.text((0, 42 + SIDE), verdict, font=font(18), fill=RIGHT if is_right else WRONG)
    seen = f"seen: {tcot.answer}" if isinstance(tcot, TCoT) else "nothing was written about it"
    draw.multiline_text((0, 68 + SIDE), "\n".join(textwrap.wrap(seen, 38)[:3]), font=font(16), fill=PALE, spacing=3)
    return drawn


def strip() -> PIL.Image.Image:
    """Return the picture."""
    [task] = world_tasks(seed=SEED, tasks=["image_t2i"], num_queries=NUM_QUERIES, pool_size=POOL_SIZE)
    embedder = load_embedder("nano")
    systems = [
        evaluate([task], embedder, name=name or "plain", reasoner=load_reasoner(name) if name else None)
        for name in (None, "nano-sft", "nano")
    ]
    number = choose(systems)
    panels = [panel(task, system, number, title) for system, title in zip(systems, TITLES, strict=True)]
    drawn = PIL.Image.new("RGB", (MARGIN + len(panels) * (SIDE + MARGIN), HEAD + panels[0].height + MARGIN // 2), "white")
    draw = PIL.ImageDraw.Draw(drawn)
    asked = "\n".join(textwrap.wrap(f"“{task.queries[number].text}”", 84)[:2])
    draw.multiline_text((MARGIN, MARGIN // 2), asked, font=font(22), fill=INK, spacing=6)
    for place, part in enumerate(panels):
        drawn.paste(part, (MARGIN + place * (SIDE + MARGIN), HEAD - 14))
    return drawn


if __name__ == "__main__":
    strip().quantize(128, dither=PIL.Image.Dither.NONE).save(OUT, optimize=True)

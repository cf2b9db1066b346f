"""A folder of media that the fakes understand: each thing has a colour."""

from pathlib import Path

import PIL.Image

from embedrl.media.document import save_pdf
from embedrl.media.image import save_image
from embedrl.media.video import save_video
from embedrl.testing import COLOURS


def picture(colour: str, side: int = 48) -> PIL.Image.Image:
    """White, with a square of a colour in the middle."""
    image = PIL.Image.new("RGB", (side, side), "white")
    image.paste(COLOURS[colour], (side // 4, side // 4, side * 3 // 4, side * 3 // 4))
    return image


def make_folder(folder: Path) -> Path:
    """Write five pictures (one twice), a clip, a document of two pages and two texts: ten places, nine items."""
    (folder / "deep" / "er").mkdir(parents=True)
    for colour in ("red", "green", "blue", "yellow"):
        save_image(picture(colour), folder / f"{colour}.png")
    save_image(picture("red"), folder / "deep" / "er" / "red again.png")
    frames = [picture("blue")] * 2 + [picture("purple")] * 6
    save_video(frames, folder / "deep" / "clip.mp4", fps=2)
    save_pdf([picture("pink"), picture("orange")], folder / "pages.pdf")
    (folder / "line\nbreak \u2603.txt").write_text("the invoice of the green grocer", "utf-8")
    (folder / "note.md").write_text("a letter about an elephant", "utf-8")
    return folder


NUM_PLACES, NUM_ITEMS = 10, 9

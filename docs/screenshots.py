"""Write docs/images/search.png and moments.png: a search and four more views of the page, with the shipped models (`make screenshots`).

Needs Chromium or Chrome on the PATH. The library: pictures, clips and pages of the world, a film of its clips with their captions as
subtitles, a journal of passages, and photos with dates of capture.
"""

import random
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from bench._browser import CHROMIUM
from playwright.sync_api import Browser, Page, sync_playwright
from tests.served import running

from embedrl import Index, ingest, load_embedder, load_reasoner
from embedrl.media.video import save_video
from embedrl.server.run import make_service
from embedrl.server.settings import Settings
from embedrl.world.clips import FPS, sample_clip
from embedrl.world.scenes import sample_scene
from embedrl.world.wording import caption
from embedrl.world.write import PAIRS, make_world

IMAGES = Path(__file__).parent / "images"
SEED, NUM_CLIPS, NUM_PHOTOS, NUM_PASSAGES = 4, 12, 12, 10
WHOLE, SIZE = (1280, 860), (620, 580)
MARGIN, HEAD, NUM_COLOURS = 24, 40, 160
SETTLE_MS = 1500
"""For the player to draw its frame."""
TAKEN = (0x9003, 0x0132)
"""EXIF tags: when a photo was taken, and when it was changed."""


def make_library(folder: Path) -> None:
    """Write the files."""
    rng = random.Random(SEED)
    make_world(folder, num_pairs=24, seed=SEED)
    (folder / PAIRS).unlink()
    frames, cues = [], []
    for number, clip in enumerate([sample_clip(rng, "test") for _ in range(NUM_CLIPS)], 1):
        start_s = len(frames) / FPS
        frames += clip.frames().images
        cues.append(f"{number}\n{stamp(start_s)} --> {stamp(len(frames) / FPS)}\n{caption(rng, clip.truth())[0]}\n")
    save_video(frames, folder / "films" / "film.mp4", FPS)
    (folder / "films" / "film.srt").write_text("\n".join(cues), "utf-8")
    for number in range(NUM_PHOTOS):
        exif = PIL.Image.Exif()
        for tag in TAKEN:
            exif[tag] = f"2024:{number + 1:02}:{number + 11} 10:30:00"
        path = folder / "photos" / f"IMG_2024{number + 1:02}{number + 11}.jpg"
        path.parent.mkdir(exist_ok=True)
        sample_scene(rng, "test").draw().resize((480, 480)).save(path, exif=exif)
    paragraphs = [" ".join(sentence(rng) for _ in range(12)) for _ in range(NUM_PASSAGES)]
    (folder / "journal.md").write_text("\n\n".join(paragraphs), "utf-8")


def sentence(rng: random.Random) -> str:
    """Describe a clip."""
    return f"{caption(rng, sample_clip(rng, 'test').truth())[0].capitalize()}."


def stamp(time_s: float) -> str:
    """Write a time as SubRip does."""
    return f"{int(time_s) // 3600:02}:{int(time_s) // 60 % 60:02}:{int(time_s) % 60:02},{int(time_s * 1000) % 1000:03}"


@contextmanager
def served(folder: Path) -> Generator[str]:
    """Index a folder with the shipped models, serve it, and yield the URL."""
    embedder, reasoner = load_embedder("nano"), load_reasoner("nano")
    ingest(folder, Index.open(folder, embedder=embedder), reasoner, embedder)
    service = make_service(Settings(port=0), {"main": (folder, "nano", reasoner)}, embedder, "nano")
    with running(service) as url:
        yield url


def dismiss(page: Page) -> None:
    """Put the line about nano models away."""
    page.locator("#blind-dismiss").click()


def moment(page: Page) -> None:
    """Open the film at the second where words of its subtitles were said."""
    dismiss(page)
    page.locator(".card.video .open").first.click()
    page.locator("dialog video").wait_for()
    page.wait_for_timeout(SETTLE_MS)


def passage(page: Page) -> None:
    """Open the best passage of the journal, with what was asked marked in it."""
    dismiss(page)
    page.locator(".card.text .open").first.click()
    page.locator("dialog .prose mark").first.wait_for()


def folded(page: Page) -> None:
    """Show the film as one result with its other moments."""
    dismiss(page)
    page.locator(".card .others").first.wait_for()
    to_top(page, "#summary")


def dated(page: Page) -> None:
    """Show the filters."""
    dismiss(page)
    page.locator("#filters summary").click()
    to_top(page, "#filters .fields")


def to_top(page: Page, selector: str) -> None:
    """Scroll a part of the page to the top."""
    page.locator(selector).evaluate("node => scrollBy({top: node.getBoundingClientRect().top - 12, behavior: 'instant'})")


VIEWS: tuple[tuple[str, dict[str, str], Callable[[Page], None]], ...] = (
    ("A moment in a film, by what was said", {"q": "a red star blinks", "under": "films"}, moment),
    ("A passage of a text, the words marked", {"q": "a cyan circle shrinks", "under": "journal.md"}, passage),
    ("One result a film, with its other moments", {"q": "a red star blinks", "modality": "video"}, folded),
    ("Photos by the day they were taken", {"q": "a red circle", "since": "2024-05-01", "until": "2024-08-31"}, dated),
)
"""Title, address, and what to do there."""
SEARCH = {"q": "a yellow circle and a cyan star", "modality": "image"}


def shoot(browser: Browser, url: str, address: dict[str, str], size: tuple[int, int], prepare: Callable[[Page], None]) -> PIL.Image.Image:
    """Return the page at an address, after something was done there."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", locale="en-US")
    page.goto(f"{url}/?{urlencode(address)}")
    page.locator("#results[aria-busy=false] .card").first.wait_for()
    prepare(page)
    page.wait_for_load_state("networkidle")
    return PIL.Image.open(BytesIO(page.screenshot())).convert("RGB")


def strip(views: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """Return the views with their titles, two by two."""
    width, height = SIZE
    drawn = PIL.Image.new("RGB", (MARGIN + 2 * (width + MARGIN), 2 * (HEAD + height + MARGIN)), "white")
    draw, font = PIL.ImageDraw.Draw(drawn), PIL.ImageFont.load_default(22)
    for number, ((title, _, _), view) in enumerate(zip(VIEWS, views, strict=True)):
        left, top = MARGIN + number % 2 * (width + MARGIN), number // 2 * (HEAD + height + MARGIN)
        draw.text((left, top + 8), title, font=font, fill="#1d2330")
        drawn.paste(view, (left, top + HEAD))
        draw.rectangle((left - 1, top + HEAD - 1, left + width, top + HEAD + height), outline="#d5d8de")
    return drawn


def save(image: PIL.Image.Image, name: str) -> None:
    """Write an image with few colours."""
    image.quantize(NUM_COLOURS, dither=PIL.Image.Dither.NONE).save(IMAGES / name, optimize=True)


def main() -> None:
    """Write both."""
    if CHROMIUM is None:
        raise SystemExit("no Chromium or Chrome on the PATH")
    with tempfile.TemporaryDirectory() as name:
        library = Path(name) / "library"
        make_library(library)
        with served(library) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            save(shoot(browser, url, SEARCH, WHOLE, lambda _: None), "search.png")
            save(strip([shoot(browser, url, address, SIZE, prepare) for _, address, prepare in VIEWS]), "moments.png")
            browser.close()


if __name__ == "__main__":
    main()

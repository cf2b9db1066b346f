"""Files that break a decoder, or take more memory or time than there is: they cost a child process, and are failures by name.

Reported: an 823-byte PDF killed the server, each restart of it and `embedrl index`; four PNGs of 790 kB took 3.8 GB; a JPEG of 187 kB
took more than 200 s (attack.md 1 and 9, media.md 9).
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from embedrl.errors import MediaError
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.marks import MARK_AFTER_S, Marks
from embedrl.index.row import Stamp
from embedrl.media import decode, sandbox
from embedrl.media.content import Frames, Image, Page, Video
from embedrl.media.image import load_image, save_image
from embedrl.media.sandbox import Pool, pool
from embedrl.media.store import Limits
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.bombs import MIB, bomb_pdf, many_scans
from tests.coloured_folder import picture
from tests.forking import finish, fork
from tests.odd_media import encode, frame_number, numbered_frames
from tests.served import served

SMALL = Limits(decode_memory_bytes=160 * MIB, decode_timeout_s=30)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    data = bomb_pdf(320 * MIB)
    assert len(data) < 1000
    return data


def test_a_page_that_breaks_the_decoder_is_a_failure_and_nothing_else_is_lost(bomb: bytes, tmp_path: Path):
    (tmp_path / "bomb.pdf").write_bytes(bomb)
    save_image(picture("red"), tmp_path / "red.png")
    embedder = FakeEmbedder()
    index = Index.open(tmp_path, embedder=embedder)
    report = ingest(tmp_path, index, FakeReasoner(limits=SMALL), embedder, limits=SMALL)
    [failure] = report.failures
    assert (failure.path.name, failure.page) == ("bomb.pdf", 2)
    assert "breaks the decoder" in failure.reason
    assert {(place.path.name, place.page) for place in index.places()} == {("red.png", None), ("bomb.pdf", 1)}
    pool().close()
    again = ingest(tmp_path, index, FakeReasoner(limits=SMALL), embedder, limits=SMALL)
    assert (again.failures, again.unchanged) == (report.failures, 2)
    assert not pool()._children, "it is not tried again"


def test_a_file_that_breaks_decoders_is_given_up_with_all_its_pages(tmp_path: Path):
    path = tmp_path / "bomb.pdf"
    path.write_bytes(bomb_pdf(320 * MIB, num_pages=9))
    for number in (2, 3):
        with pytest.raises(MediaError, match="breaks the decoder"):
            decode.load_visual(Page(path=path, number=number), limits=SMALL)
    pool().close()
    for number in range(1, 10):
        with pytest.raises(MediaError, match="not tried again until it changes"):
            decode.load_visual(Page(path=path, number=number), limits=SMALL)
    assert not pool()._children
    save_image(picture("red"), tmp_path / "red.png")
    (tmp_path / "red.png").replace(path)
    assert decode.load_visual(Image(path=path), limits=SMALL)


def test_an_uploaded_bomb_costs_the_server_one_child(bomb: bytes, tmp_path: Path):
    save_image(picture("red"), tmp_path / "red.png")
    with served(tmp_path, limits=SMALL, library_limits=SMALL) as server:
        answer = server.client.post("/api/items", files={"file": ("a.pdf", bomb)})
        assert answer.status_code == 201, answer.text
        assert "red.png" in server.paths(text="red")
        assert server.client.post("/api/search", files={"file": ("b.pdf", bomb)}).status_code == 415
        [key] = answer.json()["items"][0]["keys"]
        assert server.client.get(f"/api/items/{key}/picture").status_code == 200, "page 1 is as good as any"
        server.settle()
        assert server.client.get("/api/status").json()["failures"]["count"] == 1
    with served(tmp_path, index=False, limits=SMALL, library_limits=SMALL) as server:
        server.settle()
        assert "red.png" in server.paths(text="red")


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "1", "P", "L"])
def test_large_stills_are_converted_strip_by_strip(tmp_path: Path, mode: str):
    side, path = 5120, tmp_path / "large.png"
    image = PIL.Image.fromarray(np.full((side, side), 30_000, np.uint16)) if mode == "I;16" else PIL.Image.new(mode, (side, side), 0)
    image.save(path, compress_level=1, **({"transparency": 0} if mode in "1P" else {}))
    shown = decode.load_visual(Image(path=path), limits=Limits(decode_memory_bytes=224 * MIB))
    assert isinstance(shown, PIL.Image.Image)
    assert shown.size == (side // 2, side // 2)
    assert shown.getpixel((9, 9)) == {"I;16": (117,) * 3, "L": (0,) * 3}.get(mode, (255,) * 3)


def test_strips_join_to_the_picture_that_the_whole_gives(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (3001, 2999, 4), dtype=np.uint8)
    path = tmp_path / "noise.png"
    PIL.Image.fromarray(noise).save(path, compress_level=1)
    small = load_image(path, Limits(max_kept_pixels=1501 * 1500))
    assert small.tobytes() == load_image(path).reduce(2).tobytes()


def test_large_frames_are_scaled_as_they_are_decoded(tmp_path: Path):
    path = tmp_path / "large.avi"
    encode(path, numbered_frames(4, (4000, 3000)), "mjpeg", pixel_format="yuvj420p")
    limits = Limits(decode_memory_bytes=256 * MIB, max_kept_pixels=1_000_000)
    frames = decode.load_visual(Video(path=path), num_frames=4, limits=limits)
    assert isinstance(frames, Frames)
    assert [image.size for image in frames.images] == [(1000, 750)] * 4
    assert [frame_number(image) for image in frames.images] == list(range(4))


def test_what_needs_more_than_its_share_is_decoded_alone_and_what_needs_more_than_all_is_refused(tmp_path: Path):
    PIL.Image.new("RGBA", (6000, 6000)).save(tmp_path / "large.png", compress_level=1)
    decoders = Pool(4)
    try:
        job = decode.job_of(Image(path=tmp_path / "large.png"), "pixels", limits=Limits(decode_memory_bytes=512 * MIB))
        assert decoders.decode(job, tmp_path / "large.png", Limits(decode_memory_bytes=512 * MIB)).images[0].size == (3000, 3000)
        with pytest.raises(MediaError, match=r"large\.png.*more memory than decode_memory_bytes=104857600"):
            decoders.decode(job, tmp_path / "large.png", Limits(decode_memory_bytes=100 * MIB))
    finally:
        decoders.close()


def test_a_still_that_takes_for_ever_is_ended(tmp_path: Path):
    path = tmp_path / "scans.jpg"
    many_scans(path, 2000)
    with pytest.raises(MediaError, match=r"scans\.jpg.*longer than decode_timeout_s=1"):
        decode.check(Image(path=path), Limits(decode_timeout_s=1))


def test_a_decoder_that_is_killed_is_replaced(tmp_path: Path):
    save_image(picture("red"), tmp_path / "red.png")
    decode.check(Image(path=tmp_path / "red.png"))
    for child in pool()._children:
        os.kill(child._process.pid, signal.SIGKILL)
        child._process.wait()
    decode.check(Image(path=tmp_path / "red.png"))


def test_decoders_that_were_killed_while_idle_are_no_fault_of_a_file(tmp_path: Path):
    """Where memory ran out, the kernel ended all idle decoders; the next file was tried on two of them, and was a failure."""
    save_image(picture("red"), tmp_path / "red.png")
    limits, decoders = Limits(), Pool(3)
    job = decode.job_of(Image(path=tmp_path / "red.png"), "pixels", limits=limits)
    try:
        children = [sandbox._Child() for _ in range(3)]
        decoders._children.update(children)
        decoders._idle += children
        for child in children:
            os.kill(child._process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, child._process.pid, os.WEXITED | os.WNOWAIT)
        assert decoders.decode(job, tmp_path / "red.png", limits).images
        assert not decoders._children & set(children)
        assert not decoders._broken
    finally:
        decoders.close()


def test_a_process_that_forks_has_decoders_of_its_own(tmp_path: Path):
    save_image(picture("red"), tmp_path / "red.png")
    decode.check(Image(path=tmp_path / "red.png"))

    def look_too() -> None:
        assert sandbox._current is None
        decode.check(Image(path=tmp_path / "red.png"))

    finish(fork(look_too))
    decode.check(Image(path=tmp_path / "red.png"))


def test_a_file_that_ended_two_processes_is_skipped_by_the_third(tmp_path: Path):
    save_image(picture("red"), tmp_path / "red.png")
    save_image(picture("blue"), tmp_path / "blue.png")
    embedder = FakeEmbedder()
    index = Index.open(tmp_path, embedder=embedder)
    status = (tmp_path / "red.png").stat()
    stamp = Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns)

    def die() -> None:
        with Marks(index.directory).decoding(Path("red.png"), stamp):
            time.sleep(2 * MARK_AFTER_S)
            os.kill(os.getpid(), signal.SIGKILL)

    index.directory.mkdir(exist_ok=True)
    for num_deaths in (1, 2):
        pid = fork(die)
        os.waitpid(pid, 0)
        assert Marks(index.directory).num_deaths(Path("red.png"), stamp) == num_deaths
    report = ingest(tmp_path, index, None, embedder, think=False)
    [failure] = report.failures
    assert (failure.path.name, report.added) == ("red.png", 1)
    assert "2 processes ended while they decoded it" in failure.reason
    again = ingest(tmp_path, index, None, embedder, think=False)
    assert again.failures == report.failures
    os.utime(tmp_path / "red.png", (1, 1))
    assert ingest(tmp_path, index, None, embedder, think=False).failures == (), "it changed, so it is tried"


def test_a_large_webp_that_finds_no_memory_is_not_called_damaged(tmp_path: Path):
    """Its decoder says the same of both; where memory is the reason, all of it is given to the file alone."""
    path = tmp_path / "large.webp"
    PIL.Image.new("RGB", (4000, 3000), "red").save(path, quality=20, method=0)
    with pytest.raises(MediaError, match="more memory than decode_memory_bytes"):
        decode.load_visual(Image(path=path), limits=Limits(decode_memory_bytes=64 * MIB))
    assert decode.load_visual(Image(path=path), limits=Limits(decode_memory_bytes=300 * MIB))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MediaError, match="damaged or cut short"):
        decode.load_visual(Image(path=path), limits=Limits(decode_memory_bytes=300 * MIB))

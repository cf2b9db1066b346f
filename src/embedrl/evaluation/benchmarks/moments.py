"""MMEB-V2 moment retrieval: video and description to clips, each a folder of frames."""

from pathlib import Path, PurePosixPath

from embedrl.data.sources.media_folder import MediaFolder
from embedrl.evaluation.benchmarks.inspection import Inspection
from embedrl.evaluation.benchmarks.pool import Pool
from embedrl.evaluation.benchmarks.queries import QUERY, FrameFolders, asks, clip_folder
from embedrl.evaluation.benchmarks.rows import read_rows
from embedrl.evaluation.benchmarks.source import Layout, Source

POSITIVE = "positive"


def read_moments(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read rows {"query": …, "video_path": …}: the folder of a video holds `query`, `positive…` and other clips."""
    pool, ask = Pool(source, inspection), asks(source, data, num_frames)
    frames = FrameFolders(MediaFolder(data / source.media), num_frames)
    for number, row in read_rows(source, data, inspection, ("query", "video_path")):
        name = PurePosixPath(str(row["video_path"])).stem
        folder = data / source.media / name
        clips = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else []
        right = [clip for clip in clips if clip.startswith(POSITIVE)]
        if QUERY not in clips or not right:
            inspection.report(source.name, f"{str(folder)!r} lacks `{QUERY}` or `{POSITIVE}…`; unpack the frames again", number)
            continue
        names = {clip: f"{name}/{clip}" for clip in clips if clip != QUERY}
        for clip in names.values():
            pool.offer(clip, lambda clip=clip: (frames.video(clip),), number)
        pool.ask(lambda row=row: ask(row), {names[clip]: 1.0 for clip in right[:1]}, number, local=names.values())
    return pool


def read_momentseeker(source: Source, data: Path, inspection: Inspection, num_frames: int) -> Pool:
    """Read MomentSeeker: a query is a text, alone or with an image or a clip; clips are named by the video they were cut from."""
    pool, ask = Pool(source, inspection), asks(source, data, num_frames)
    frames = FrameFolders(MediaFolder(data / source.media), num_frames)
    for number, row in read_rows(source, data, inspection, ("query", "positive_frames", "negative_frames"), ("input_frames",)):
        right, wrong = ([clip_folder(str(clip["output_path"])) for clip in row[side]] for side in ("positive_frames", "negative_frames"))
        for name in (*right, *wrong):
            pool.offer(name, lambda name=name: (frames.video(name),), number)
        pool.ask(lambda row=row: ask(row), dict.fromkeys(right, 1.0), number, local=(*right, *wrong))
    return pool


MOMENTS = Layout("moments", read_moments, wanted="video")
MOMENTSEEKER = Layout("momentseeker", read_momentseeker, wanted="video")

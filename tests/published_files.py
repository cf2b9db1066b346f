"""All 78 datasets of MMEB-V2 and all 16 of UVRB, tiny, with the file names and columns in which they are published, and what is in them.

File names: those that Embed-RL's evaluation opens (75cfbba, data_pipe/eval_cot_generate). Columns, names of candidates and labels: what
VLM2Vec (6e1e1d4, src/data/eval_dataset) and Embed-RL's UVRB evaluation (87b52f7) read. Rows are invented.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.official_files import lines
from tests.source_files import encoded, write_json, write_parquet

Label = str | int


@dataclass(frozen=True)
class Published:
    """What a tiny dataset says, by the benchmark's own evaluator."""

    rows: str
    """Its files, relative to the folder of all, as the fixture wrote them."""
    labels: tuple[Mapping[Label, float], ...]
    """Per query: what is right, by the names of the benchmark, with grades."""
    lists: tuple[tuple[Label, ...], ...] | None
    """Per query: the names that it ranks; None: all."""
    pool: tuple[Label, ...]
    """All candidates."""
    query: str
    """Text of the first query."""
    candidate: str
    """Text of the first candidate."""
    metric: str


TEXTS = (
    *("ImageNet-1K", "N24News", "HatefulMemes", "VOC2007", "SUN397", "Place365", "ImageNet-A", "ImageNet-R", "ObjectNet", "Country211"),
    *("OK-VQA", "A-OKVQA", "DocVQA", "InfographicsVQA", "ChartQA", "Visual7W", "ScienceQA", "VizWiz", "GQA", "TextVQA"),
    *("MSCOCO_i2t", "VisualNews_i2t"),
)
PATHS = ("VisDial", "MSCOCO_t2i", "VisualNews_t2i", "WebQA", "EDIS", "Wiki-SS-NQ")
BOTH = ("CIRR", "NIGHTS", "OVEN", "FashionIQ", "MSCOCO", "RefCOCO", "RefCOCO-Matching", "Visual7W-Pointing")
CAPTIONED = ("WebQA", "EDIS", "OVEN", "RefCOCO-Matching")
LABELLED = {
    "K700": ("Kinetics-700", "K700", 700),
    "HMDB51": ("HMDB51", "HMDB51", 51),
    "UCF101": ("UCF101", "UCF101", 101),
    "Breakfast": ("Breakfast", "Breakfast", 10),
}
MVBENCH = (
    *("episodic_reasoning", "action_sequence", "action_prediction", "action_antonym", "fine_grained_action", "unexpected_action"),
    *("object_existence", "object_interaction", "object_shuffle", "moving_direction", "action_localization", "scene_transition"),
    *("action_count", "moving_count", "moving_attribute", "state_change", "fine_grained_pose", "character_order"),
    *("egocentric_navigation", "counterfactual_inference"),
)
PAGES = {
    "ViDoRe_arxivqa": ("vidore/arxivqa_test_subsampled_beir", "ViDoRe_arxivqa"),
    "ViDoRe_docvqa": ("vidore/docvqa_test_subsampled_beir", "ViDoRe_docvqa"),
    "ViDoRe_infovqa": ("vidore/infovqa_test_subsampled_beir", "ViDoRe_infovqa"),
    "ViDoRe_tabfquad": ("vidore/tabfquad_test_subsampled_beir", "ViDoRe_tabfquad"),
    "ViDoRe_tatdqa": ("vidore/tatdqa_test_beir", "ViDoRe_tatdqa"),
    "ViDoRe_shiftproject": ("vidore/shiftproject_test_beir", "ViDoRe_shiftproject"),
    **{
        f"ViDoRe_syntheticDocQA_{topic}": (f"vidore/syntheticDocQA_{topic}_test_beir", f"ViDoRe_syntheticDocQA_{topic}")
        for topic in ("artificial_intelligence", "energy", "government_reports", "healthcare_industry")
    },
    "ViDoRe_esg_reports_human_labeled_v2": ("vidore/esg_reports_human_labeled_v2", "esg_reports_human_labeled_v2"),
    **{
        f"ViDoRe_{topic}_v2_multilingual": (f"vidore/{topic}_v2", f"{topic}_v2_multilingual")
        for topic in ("biomedical_lectures", "economics_reports", "esg_reports")
    },
    "ViDoSeek-page": ("VLM2Vec/ViDoSeek-page-fixed", "ViDoSeek-page"),
    "ViDoSeek-doc": ("VLM2Vec/ViDoSeek", "ViDoSeek-doc"),
    "MMLongBench-page": ("VLM2Vec/MMLongBench-page-fixed", "MMLongBench-page"),
    "MMLongBench-doc": ("VLM2Vec/MMLongBench-doc", "MMLongBench-doc"),
}
GRADED = ("ViDoSeek-doc", "MMLongBench-doc", "ViDoRe_esg_reports_human_labeled_v2")
VISRAG = ("ArxivQA", "ChartQA", "MP-DocVQA", "SlideVQA", "InfoVQA", "PlotQA")
UVRB_METRICS = {
    **dict.fromkeys(
        ("MSRVTT", "DiDeMo", "CRB-G", "CRB-S", "VDC-O", "CRB-T", "DREAM-E", "PEV-K", "LoVR-V", "VDC-D", "MSRVTT-I2V", "LoVR-C2V"), "hit@1"
    ),
    **dict.fromkeys(("CMRB", "LoVR-TH"), "hit@10"),
    **dict.fromkeys(("MS-TI", "MS-TV"), "precision@1"),
}


@cache
def _jpeg(level: int) -> bytes:
    return encoded(level, "JPEG")


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_jpeg(hashlib.sha256(str(path).encode()).digest()[0]))


def _frames(folder: Path, *, pattern: str = "frame_{:04}.jpg") -> None:
    for number in (1, 2, 10):  # as text, 10 would come before 2
        _picture(folder / pattern.format(number))


def _image(name: str, data: Path) -> Published:
    rows, folder = f"ziyjiang/MMEB_Test_Instruct/{name}/test-00000-of-00001.parquet", data / "image-tasks"
    paths = [f"{name}/Test/{number}.jpg" for number in range(4)]
    for path in paths:
        _picture(folder / path)
    asked = {"qry_inst": "<|image_1|>\nDecide the scene.\n", "qry_text": "", "qry_img_path": paths[0], "tgt_inst": ""}
    if name in TEXTS:
        lists = (("beach", "harbour"), ("harbour", "beach", "a market"))
        written = [{**asked, "tgt_text": list(names), "tgt_img_path": [""] * len(names)} for names in lists]
        labels, pool, query, candidate = ("beach", "harbour"), ("beach", "harbour", "a market"), "", "beach"
    else:
        captions = ['a "left" cup', "a dog"] if name in CAPTIONED else ["", ""]
        asked |= {"tgt_inst": "<|image_1|>\nLook at it.", "qry_text": "a red cup"} | ({"qry_img_path": ""} if name in PATHS else {})
        listed = (paths[1:3], paths[2:4])
        written = [{**asked, "tgt_text": captions, "tgt_img_path": listed_paths} for listed_paths in listed]

        def named(path: str, caption: str) -> str:
            return path if name in PATHS else f"{path}:{caption}"

        bare = (captions[0].strip('"'), captions[1])
        lists = tuple(tuple(named(path, caption) for path, caption in zip(row, bare, strict=True)) for row in listed)
        labels, pool = tuple(row[0] for row in lists), tuple(dict.fromkeys(entry for row in lists for entry in row))
        query, candidate = "a red cup", captions[0]
    write_parquet(data / rows, written)
    return Published(rows, tuple({label: 1.0} for label in labels), lists, pool, query, candidate, "hit@1")


def _labelled(name: str, data: Path) -> Published:
    repository, folder, number = LABELLED[name]
    rows = f"VLM2Vec/{repository}/data/test.jsonl"
    lines(data / rows, [{"video_id": "v_1", "pos_text": "class_5"}, {"video_id": "v_2", "pos_text": "class_0"}])
    classes = [f"class_{place}" for place in range(number)]
    (data / f"VLM2Vec/{repository}/labels.txt").write_text("\n".join(classes) + "\n")
    for video in ("v_1", "v_2"):
        _frames(data / "video-tasks/frames/video_cls" / folder / video, pattern="{:04}.jpeg")
    first = ("class_5", "class_0")
    pool = (*first, *(entry for entry in classes if entry not in first))
    return Published(rows, ({"class_5": 1.0}, {"class_0": 1.0}), None, pool, "", "class_5", "hit@1")


def _something(_: str, data: Path) -> Published:
    rows, listed = "VLM2Vec/SmthSmthV2/data/test.jsonl", ["Dropping a cup", "Lifting a cup"]
    lines(data / rows, [{"video_id": str(number), "pos_text": listed[number], "neg_text": listed} for number in range(2)])
    for number in range(2):
        _frames(data / "video-tasks/frames/video_cls/SSv2" / str(number))
    return Published(rows, tuple({text: 1.0} for text in listed), (tuple(listed),) * 2, tuple(listed), "", listed[0], "hit@1")


def _mvbench(_: str, data: Path) -> Published:
    for part in MVBENCH:
        row = {"video": "clip.mp4", "question": "Which?", "candidates": ["red", "blue"], "answer": "blue", "start": 0.0, "end": 2.5}
        write_json(data / f"VLM2Vec/MVBench/json/{part}.json", [row])
        _frames(data / "video-tasks/frames/video_qa/MVBench" / part / "clip.mp4")
    listed = ("(A) red", "(B) blue")
    query = "Which?\n(A) red\n(B) blue"
    rows = "VLM2Vec/MVBench/json/*.json"
    return Published(rows, ({"(B) blue": 1.0},) * len(MVBENCH), (listed,) * len(MVBENCH), listed, query, "(A) red", "hit@1")


def _video_mme(_: str, data: Path) -> Published:
    rows, options = "VLM2Vec/Video-MME/videomme/test-00000-of-00001.parquet", ["A. It is red.", "B. Blue.", "C. None.", "D. Both."]
    row = {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Art", "question_id": "001-1", "task_type": "OCR"}
    write_parquet(data / rows, [{**row, "videoID": "fFjv93ACGo8", "question": "Which?", "options": options, "answer": "B"}] * 2)
    _frames(data / "video-tasks/frames/video_qa/Video-MME/fFjv93ACGo8")
    return Published(
        rows, ({"B. Blue.": 1.0},) * 2, (tuple(options),) * 2, tuple(options), "\n".join(["Which?", *options]), "It is red", "hit@1"
    )


def _nextqa(_: str, data: Path) -> Published:
    rows, options = "VLM2Vec/NExTQA/MC/test-00000-of-00001.parquet", ["red", "blue", "to hide", "to sing", "no"]
    answers = {f"a{place}": option for place, option in enumerate(options)}
    row = {"video": 4010069381, "frame_count": 369, "width": 640, "height": 480, "question": "why", "qid": 6, "type": "CW", **answers}
    write_parquet(data / rows, [{**row, "answer": number} for number in (2, 0)])
    _frames(data / "video-tasks/frames/video_qa/NExTQA/4010069381")
    query = "\n".join(["why", *(f"({'ABCDE'[place]}) {option}" for place, option in enumerate(options))])
    return Published(rows, ({"to hide": 1.0}, {"red": 1.0}), (tuple(options),) * 2, tuple(options), query, "red", "hit@1")


def _egoschema(_: str, data: Path) -> Published:
    rows, options = "VLM2Vec/EgoSchema/Subset/test-00000-of-00001.parquet", [f"{letter}. C does {letter}." for letter in "ABCDE"]
    row = {"question_idx": "9", "question": "What?", "video_idx": "001934bb", "option": options, "answer": "3"}
    write_parquet(data / rows, [row] * 2)
    _frames(data / "video-tasks/frames/video_qa/EgoSchema/001934bb")
    return Published(
        rows, ({options[3]: 1.0},) * 2, (tuple(options),) * 2, tuple(options), "\n".join(["What?", *options]), "C does A", "hit@1"
    )


def _activitynet(_: str, data: Path) -> Published:
    rows = "VLM2Vec/ActivityNetQA/data/test-00000-of-00001.parquet"
    row = {"video_name": "1QIUV7WYKXg", "question": "is it a dog", "question_id": "v_1QIUV7WYKXg_3", "type": "3"}
    write_parquet(data / rows, [{**row, "answer": answer} for answer in ("yes", "no")])
    _frames(data / "video-tasks/frames/video_qa/ActivityNetQA/v_1QIUV7WYKXg")
    return Published(rows, ({"yes": 1.0}, {"no": 1.0}), (("yes", "no"),) * 2, ("yes", "no"), "is it a dog\nyes\nno", "yes", "hit@1")


RETRIEVED: dict[str, tuple[str, tuple[str, str], Callable[[str], dict[str, Any]]]] = {
    "DiDeMo": (
        "VLM2Vec/DiDeMo/didemo_test.json",
        ("54322086@N00_2408598493_274c77d26a", "a"),
        lambda name: {"video": f"didemo/test/{name}.mp4", "caption": "it runs", "source": "DiDeMo"},
    ),
    "MSR-VTT": (
        "VLM2Vec/MSR-VTT/msrvtt_test_1k.json",
        ("video7020", "video7021"),
        lambda name: {"video_id": name, "video": f"{name}.mp4", "caption": "it runs", "category": 9},
    ),
    "MSVD": (
        "VLM2Vec/MSVD/msvd_test.json",
        ("mv89psg6zh4_33_46", "b"),
        lambda name: {"video_id": name, "video": f"{name}.avi", "caption": ["it runs", "it goes"]},
    ),
    "VATEX": (
        "VLM2Vec/VATEX/vatex_test/test-00000-of-00001.parquet",
        ("G9zN5TTuGO4_000179_000189", "c"),
        lambda name: {"videoID": name, "enCap": ["it runs", "it goes"], "chCap": ["它跑"]},
    ),
    "YouCook2": (
        "lmms-lab/YouCook2/data/val-00000-of-00001.parquet",
        ("xHr8X2Wpmno_0", "d"),
        lambda name: {"id": name, "video_path": f"val/{name}.mp4", "sentence": "it runs", "youtube_id": "x", "segment": [1, 2]},
    ),
}


def _retrieved(name: str, data: Path) -> Published:
    rows, videos, row = RETRIEVED[name]
    (write_json if rows.endswith(".json") else write_parquet)(data / rows, [row(video) for video in videos])
    for video in videos:
        _frames(data / "video-tasks/frames/video_ret" / name / video)
    return Published(rows, tuple({video: 1.0} for video in videos), None, videos, "it runs", "", "hit@1")


def _moments(name: str, data: Path) -> Published:
    rows = f"VLM2Vec/{name}/data/test-00000-of-00001.parquet"
    videos = ("NUsG9BgSes0_210.0_360.0", "AO8RW")
    write_parquet(data / rows, [{"query": "she laughs", "video_path": f"long/{video}.mp4", "clip_start": 1.0} for video in videos])
    clips = ("negative_clip_0", "negative_clip_1", "positive")
    for video in videos:
        for clip in ("query", *clips):
            _frames(data / "video-tasks/frames/video_mret" / name.replace("-", "_") / video / clip)
    lists = tuple(tuple(f"{video}/{clip}" for clip in clips) for video in videos)
    pool = tuple(clip for row in lists for clip in row)
    return Published(rows, tuple({f"{video}/positive": 1.0} for video in videos), lists, pool, "she laughs", "", "hit@1")


def _momentseeker(_: str, data: Path) -> Published:
    rows, folder = "VLM2Vec/MomentSeeker/data/test-00000-of-00001.parquet", data / "video-tasks/frames/video_mret/MomentSeeker"
    clips = {
        "positive_frames": [{"output_path": "movie_a/1.mp4"}, {"output_path": "movie_a/2.mp4"}],
        "negative_frames": [{"output_path": "movie_b/3.mp4_x"}],
    }
    write_parquet(data / rows, [{"query": "the red cup", "input_frames": name, **clips} for name in ("", "cup.jpg", "movie_c/7.mp4")])
    for clip in ("movie_a_1", "movie_a_2", "movie_b_3", "movie_c_7"):
        _frames(folder / "video_frames" / clip)
    _picture(folder / "query_cup.jpg")
    names = tuple(f"video_frames/{clip}" for clip in ("movie_a_1", "movie_a_2", "movie_b_3"))
    return Published(rows, (dict.fromkeys(names[:2], 1.0),) * 3, (names,) * 3, names, "the red cup", "", "hit@1")


def _beir(
    rows: str, data: Path, split: str, ids: Sequence[Label], queries: Sequence[Mapping[str, Any]], grade: int, **more: Any
) -> Published:
    parts: dict[str, list[dict[str, Any]]] = {
        "queries": [{"query-id": number, **query} for number, query in enumerate(queries)],
        "corpus": [{"corpus-id": page, "image": {"bytes": _jpeg(place), "path": None}, **more} for place, page in enumerate(ids)],
        "qrels": [{"query-id": number, "corpus-id": ids[number], "score": grade} for number in range(len(queries))],
    }
    parts["qrels"] += [{"query-id": 0, "corpus-id": ids[0], "score": 1}, {"query-id": 0, "corpus-id": ids[2], "score": 0}]
    for part, written in parts.items():
        write_parquet(data / rows / part / f"{split}-00000-of-00001.parquet", written)
    labels = tuple({ids[number]: float(grade)} for number in range(len(queries)))
    return Published(f"{rows}/{{queries,corpus,qrels}}/{split}-*.parquet", labels, None, tuple(ids), "who signed?", "", "ndcg_linear@5")


def _pages(name: str, data: Path) -> Published:
    queries = [{"query": "who signed?", "language": "english"}, {"query": "qui a signé ?", "language": "french"}]
    return _beir(PAGES[name][0], data, "test", (17, 18, 400), queries, 3 if name in GRADED else 1, **{"doc-id": "report"})


def _visrag(name: str, data: Path) -> Published:
    ids = ("2210.1234_3.jpg", f"{'long' * 20}.png", "b.jpg")
    return _beir(
        f"openbmb/VisRAG-Ret-Test-{name.removeprefix('VisRAG_')}", data, "train", ids, [{"query": "who signed?"}, {"query": "b"}], 1
    )


def _uvrb(name: str, data: Path) -> Published:
    root = data / name / "UVRB" / name
    videos = ("sub/one.mp4", "sub/two.mp4") if name.startswith("VDC") else ("one.mp4", "two.mp4")
    text = "" if name in ("MSRVTT-I2V", "LoVR-C2V") else "it tilts up"
    image = "frame.jpg" if name in ("MS-TI", "MSRVTT-I2V") else ""
    video = "clip.mp4" if name in ("MS-TV", "LoVR-C2V") else ""
    several = name.startswith("MS-")
    lines(root / "jsonl/queries.jsonl", [{"id": f"q{number}", "text": text, "image": image, "video": video} for number in range(2)])
    lines(root / "jsonl/corpus.jsonl", [{"id": f"d{number}", "video": path} for number, path in enumerate(videos)])
    instances = [{"qid": "q0", "pos": ["d0"]}, {"qid": "q1", "pos": ["d1"]}] + [{"qid": "q1", "pos": ["d0"]}] * several
    lines(root / "jsonl/instances.jsonl", instances)
    for path in (*videos, *([video] if video else [])):
        _frames(root / "videos_frames" / path.removesuffix(".mp4"), pattern="{:06}.jpg")
    if image:
        _picture(root / "images" / image)
    labels = ({"d0": 1.0}, {"d1": 1.0, "d0": 1.0} if several else {"d1": 1.0})
    rows = f"{name}/UVRB/{name}/jsonl/{{queries,corpus,instances}}.jsonl"
    return Published(rows, labels, None, ("d0", "d1"), text, "", UVRB_METRICS[name])


MMEB_V2: dict[str, Callable[[str, Path], Published]] = {
    **dict.fromkeys((*TEXTS, *PATHS, *BOTH), _image),
    **dict.fromkeys(LABELLED, _labelled),
    "SmthSmthV2": _something,
    "MVBench": _mvbench,
    "Video-MME": _video_mme,
    "NExTQA": _nextqa,
    "EgoSchema": _egoschema,
    "ActivityNetQA": _activitynet,
    **dict.fromkeys(RETRIEVED, _retrieved),
    **dict.fromkeys(("QVHighlight", "Charades-STA"), _moments),
    "MomentSeeker": _momentseeker,
    **dict.fromkeys(PAGES, _pages),
    **{f"VisRAG_{name}": _visrag for name in VISRAG},
}
UVRB: dict[str, Callable[[str, Path], Published]] = dict.fromkeys(UVRB_METRICS, _uvrb)
PUBLISHED = {"MMEB-V2": MMEB_V2, "UVRB": UVRB}


def every() -> Iterator[tuple[str, str]]:
    """Yield each benchmark's name with that of a dataset."""
    for benchmark, datasets in PUBLISHED.items():
        for name in datasets:
            yield benchmark, name

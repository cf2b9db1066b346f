"""MMEB-V2: table of its datasets, their files, instructions and metrics.

Rows are dataset repositories, downloaded under their own names ("VLM2Vec/MSVD/…"). Images, frames and pages are those of
TIGER-Lab/MMEB-V2, unpacked into `image-tasks`, `video-tasks/frames` and `visdoc-tasks`. The image rows bring their instructions;
the others are worded here, since the benchmark keeps its own in code.
"""

from typing import Any

from embedrl.data.items import DESCRIBE, FIND
from embedrl.evaluation.benchmarks.image import IMAGE_BOTH, IMAGE_PATH, IMAGE_TEXT
from embedrl.evaluation.benchmarks.moments import MOMENTS, MOMENTSEEKER
from embedrl.evaluation.benchmarks.pages import PAGES
from embedrl.evaluation.benchmarks.source import Layout, Official, Source
from embedrl.evaluation.benchmarks.video import QUESTION_LAYOUTS, TEXT_VIDEO, VIDEO_LABEL, VIDEO_TEXTS
from embedrl.evaluation.tables import Benchmark, Dataset, by_group

_NUM_IMAGE_QUERIES = 1000

_IMAGE = {
    "I-CLS": (
        ("ImageNet-1K", "N24News", "HatefulMemes", "VOC2007", "SUN397"),
        ("Place365", "ImageNet-A", "ImageNet-R", "ObjectNet", "Country211"),
    ),
    "I-QA": (
        ("OK-VQA", "A-OKVQA", "DocVQA", "InfographicsVQA", "ChartQA", "Visual7W"),
        ("ScienceQA", "VizWiz", "GQA", "TextVQA"),
    ),
    "I-RET": (
        ("VisDial", "CIRR", "VisualNews_t2i", "VisualNews_i2t", "MSCOCO_t2i", "MSCOCO_i2t", "NIGHTS", "WebQA"),
        ("FashionIQ", "Wiki-SS-NQ", "OVEN", "EDIS"),
    ),
    "I-GD": (("MSCOCO",), ("RefCOCO", "RefCOCO-Matching", "Visual7W-Pointing")),
}
"""Column -> its datasets in distribution, and out of it."""

_VIDEO = {
    "V-CLS": {"K700": 1000, "SmthSmthV2": 1000, "HMDB51": 1000, "UCF101": 1000, "Breakfast": 433},
    "V-QA": {"MVBench": 4000, "Video-MME": 2700, "NExTQA": 8564, "EgoSchema": 500, "ActivityNetQA": 1000},
    "V-RET": {"DiDeMo": 1004, "MSR-VTT": 1000, "MSVD": 670, "VATEX": 4478, "YouCook2": 3179},
    "V-MRET": {"QVHighlight": 1083, "Charades-STA": 727, "MomentSeeker": 1602},
}
"""Column -> its datasets and their numbers of queries."""

_VISDOC = {
    "VD-VDRv1": {
        "ViDoRe_arxivqa": 500,
        "ViDoRe_docvqa": 451,
        "ViDoRe_infovqa": 494,
        "ViDoRe_tabfquad": 280,
        "ViDoRe_tatdqa": 1646,
        "ViDoRe_shiftproject": 100,
        "ViDoRe_syntheticDocQA_artificial_intelligence": 100,
        "ViDoRe_syntheticDocQA_energy": 100,
        "ViDoRe_syntheticDocQA_government_reports": 100,
        "ViDoRe_syntheticDocQA_healthcare_industry": 100,
    },
    "VD-VDRv2": {
        "ViDoRe_esg_reports_human_labeled_v2": 52,
        "ViDoRe_biomedical_lectures_v2_multilingual": 640,
        "ViDoRe_economics_reports_v2_multilingual": 232,
        "ViDoRe_esg_reports_v2_multilingual": 228,
    },
    "VD-VR": {
        "VisRAG_ArxivQA": 816,
        "VisRAG_ChartQA": 63,
        "VisRAG_MP-DocVQA": 591,
        "VisRAG_SlideVQA": 556,
        "VisRAG_InfoVQA": 718,
        "VisRAG_PlotQA": 863,
    },
    "VD-OOD": {"ViDoSeek-page": 1142, "ViDoSeek-doc": 1142, "MMLongBench-page": 838, "MMLongBench-doc": 838},
}

_CORRECTED = {"ViDoSeek-page": "ViDoSeek-page-fixed", "MMLongBench-page": "MMLongBench-page-fixed"}
"""Their labels were off by a page until 2025-11, see https://github.com/TIGER-AI-Lab/VLM2Vec/issues/167"""

DATASETS = (
    *(
        Dataset(name, "image", (group,), "hit@1", _NUM_IMAGE_QUERIES, in_distribution=is_in)
        for group, splits in _IMAGE.items()
        for is_in, names in zip((True, False), splits, strict=True)
        for name in names
    ),
    *(Dataset(name, "video", (group,), "hit@1", num) for group, rows in _VIDEO.items() for name, num in rows.items()),
    *(
        Dataset(name, "visdoc", (group,), "ndcg_linear@5", num, corrected=_CORRECTED.get(name, ""))
        for group, rows in _VISDOC.items()
        for name, num in rows.items()
    ),
)


def _of(modality: str) -> tuple[str, ...]:
    return tuple(row.name for row in DATASETS if row.modality == modality)


MMEB_V2 = Benchmark(
    name="MMEB-V2",
    datasets=DATASETS,
    columns={
        **by_group(DATASETS, *_IMAGE),
        "image": _of("image"),
        **by_group(DATASETS, *_VIDEO),
        "video": _of("video"),
        **by_group(DATASETS, *_VISDOC),
        "visdoc": _of("visdoc"),
        "all": tuple(row.name for row in DATASETS),
    },
    unscored={
        "MomentSeeker_1k8": "video",
        "ViDoRe_biomedical_lectures_v2": "visdoc",
        "ViDoRe_economics_reports_v2": "visdoc",
        "ViDoRe_esg_reports_v2": "visdoc",
    },
)


_BY_PATH = ("VisDial", "MSCOCO_t2i", "VisualNews_t2i", "WebQA", "EDIS", "Wiki-SS-NQ")
_BY_BOTH = ("CIRR", "NIGHTS", "OVEN", "FashionIQ", "MSCOCO", "RefCOCO", "RefCOCO-Matching", "Visual7W-Pointing")

_LABELS = {
    "K700": ("VLM2Vec/Kinetics-700", 700, "Name the kind of action in the video."),
    "HMDB51": ("VLM2Vec/HMDB51", 51, "Name the action that the person in the video performs."),
    "UCF101": ("VLM2Vec/UCF101", 101, "Name the activity or sport in the video."),
    "Breakfast": ("VLM2Vec/Breakfast", 10, "Name the breakfast that is made in the video."),
}
"""Dataset -> repository, classes, instruction."""

_QUESTIONS: dict[str, tuple[Layout, str, str]] = {
    "Video-MME": (QUESTION_LAYOUTS["videomme"], "", "Video-MME"),
    "NExTQA": (QUESTION_LAYOUTS["nextqa"], "MC", "NExTQA"),
    "EgoSchema": (QUESTION_LAYOUTS["egoschema"], "Subset", "EgoSchema"),
    "ActivityNetQA": (QUESTION_LAYOUTS["activitynetqa"], "", "ActivityNetQA"),
}
"""Dataset -> layout, configuration, folder of frames."""

_PUBLISHED = {
    "MVBench": ("json/{config}.json", "OpenGVLab/MVBench"),
    "Video-MME": ("videomme/test-*.parquet", "lmms-lab/Video-MME"),
    "DiDeMo": ("didemo_test.json", ""),
    "MSR-VTT": ("msrvtt_test_1k.json", "friedrichor/MSR-VTT"),
    "MSVD": ("msvd_test.json", ""),
    "VATEX": ("vatex_test/test-*.parquet", "lmms-lab/VATEX"),
}
"""Dataset -> names of its files, and another repository of the same rows."""

_MVBENCH = (
    *("action_sequence", "moving_count", "action_prediction", "episodic_reasoning", "action_antonym", "action_count", "scene_transition"),
    *("object_shuffle", "object_existence", "fine_grained_pose", "unexpected_action", "moving_direction", "state_change"),
    *("object_interaction", "character_order", "action_localization", "counterfactual_inference", "fine_grained_action"),
    *("moving_attribute", "egocentric_navigation"),
)

_RETRIEVAL = {
    "DiDeMo": ("VLM2Vec/DiDeMo", "", "test", ("video", "caption")),
    "MSR-VTT": ("VLM2Vec/MSR-VTT", "test_1k", "test", ("video_id", "caption")),
    "MSVD": ("VLM2Vec/MSVD", "", "test", ("video_id", "caption")),
    "VATEX": ("VLM2Vec/VATEX", "", "test", ("videoID", "enCap")),
    "YouCook2": ("lmms-lab/YouCook2", "", "val", ("id", "sentence")),
}
"""Dataset -> repository, configuration, split, columns of the video and of its caption."""

_CHOOSE = "Choose the option that answers the question about the video."
_MOMENT = ("Find the moment of the video that is described.", DESCRIBE["video"])

_VIDORE = {
    **{
        name: f"vidore/{name}_test_{kind}"
        for kind, names in {
            "subsampled_beir": ("arxivqa", "docvqa", "infovqa", "tabfquad"),
            "beir": (
                *("tatdqa", "shiftproject", "syntheticDocQA_artificial_intelligence", "syntheticDocQA_energy"),
                *("syntheticDocQA_government_reports", "syntheticDocQA_healthcare_industry"),
            ),
        }.items()
        for name in names
    },
    "esg_reports_human_labeled_v2": "vidore/esg_reports_human_labeled_v2",
    **{f"{name}_v2_multilingual": f"vidore/{name}_v2" for name in ("biomedical_lectures", "economics_reports", "esg_reports")},
    **{f"{name}_v2": f"vidore/{name}_v2" for name in ("biomedical_lectures", "economics_reports", "esg_reports")},
}
"""ViDoRe's datasets -> repository."""

_OTHER_PAGES = {
    "ViDoSeek-page": "VLM2Vec/ViDoSeek-page-fixed",
    "ViDoSeek-doc": "VLM2Vec/ViDoSeek",
    "MMLongBench-page": "VLM2Vec/MMLongBench-page-fixed",
    "MMLongBench-doc": "VLM2Vec/MMLongBench-doc",
}


def _image(name: str) -> Source:
    layout = IMAGE_PATH if name in _BY_PATH else IMAGE_BOTH if name in _BY_BOTH else IMAGE_TEXT
    return Source(name, "image", layout, "ziyjiang/MMEB_Test_Instruct", config=name, media="image-tasks")


def _frames(name: str) -> str:
    return f"video-tasks/frames/{name}"


def _files(name: str) -> dict[str, Any]:
    published, other = _PUBLISHED.get(name, ("", ""))
    return {"published": published, "also": (other,) if other else ()}


def _pages(name: str, rows: str, folder: str, *, split: str = "test", language: str = "") -> Source:
    wording = (FIND["page"], DESCRIBE["page"])
    return Source(name, "visdoc", PAGES, rows, split=split, media=f"visdoc-tasks/{folder}", instructions=wording, language=language)


def _vidore(name: str, rows: str) -> Source:
    is_second = rows.endswith("_v2")
    is_english = name.endswith("_v2") and name != "esg_reports_human_labeled_v2"
    return _pages(f"ViDoRe_{name}", rows, name if is_second else f"ViDoRe_{name}", language="english" if is_english else "")


_VIDEO_SOURCES = (
    *(
        Source(name, "video", VIDEO_LABEL, rows, media=_frames(f"video_cls/{name}"), instructions=(wording, ""), num_labels=num)
        for name, (rows, num, wording) in _LABELS.items()
    ),
    Source(
        *("SmthSmthV2", "video", VIDEO_TEXTS, "VLM2Vec/SmthSmthV2"),
        media=_frames("video_cls/SSv2"),
        instructions=("Name what is done with which object in the video.", ""),
        max_rows=1000,
    ),
    Source(
        *("MVBench", "video", QUESTION_LAYOUTS["mvbench"], "VLM2Vec/MVBench"),
        config=" ".join(_MVBENCH),
        split="train",
        **_files("MVBench"),
        media=_frames("video_qa/MVBench"),
        instructions=(_CHOOSE, ""),
    ),
    *(
        Source(
            *(name, "video", layout, f"VLM2Vec/{name}", config),
            media=_frames(f"video_qa/{folder}"),
            instructions=(_CHOOSE, ""),
            **_files(name),
        )
        for name, (layout, config, folder) in _QUESTIONS.items()
    ),
    *(
        Source(
            *(name, "video", TEXT_VIDEO, rows, config, split),
            media=_frames(f"video_ret/{name}"),
            **_files(name),
            instructions=(FIND["video"], DESCRIBE["video"]),
            columns=columns,
        )
        for name, (rows, config, split, columns) in _RETRIEVAL.items()
    ),
    *(
        Source(name, "video", MOMENTS, f"VLM2Vec/{name}", media=_frames(f"video_mret/{folder}"), instructions=_MOMENT)
        for name, folder in (("QVHighlight", "QVHighlight"), ("Charades-STA", "Charades_STA"))
    ),
    Source("MomentSeeker", "video", MOMENTSEEKER, "VLM2Vec/MomentSeeker", media=_frames("video_mret/MomentSeeker"), instructions=_MOMENT),
)

_VISDOC_SOURCES = (
    *(_vidore(name, rows) for name, rows in _VIDORE.items()),
    *(
        _pages(f"VisRAG_{name}", f"openbmb/VisRAG-Ret-Test-{name}", f"VisRAG_{name}", split="train")
        for name in ("ArxivQA", "ChartQA", "MP-DocVQA", "SlideVQA", "InfoVQA", "PlotQA")
    ),
    *(_pages(name, rows, name) for name, rows in _OTHER_PAGES.items()),
)

MMEB_V2_FILES = Official(
    MMEB_V2,
    (*(_image(row.name) for row in MMEB_V2.datasets if row.modality == "image"), *_VIDEO_SOURCES, *_VISDOC_SOURCES),
    download="rows: the dataset repositories, each under its name; images, frames and pages: the archives of TIGER-Lab/MMEB-V2",
)

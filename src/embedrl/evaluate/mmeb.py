"""MMEB-V2 (arXiv 2507.04590): 78 datasets of images, videos and document pages, and the 16 columns that papers print.

Every column is an unweighted mean over datasets: that of a modality is no mean of its groups, and the last counts all 78 alike.
Names, metrics and numbers of queries are those of github.com/TIGER-AI-Lab/VLM2Vec and of the score files in
github.com/ZoengHN/Embed-RL.
"""

from embedrl.evaluate.tables import Benchmark, Dataset, by_group

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

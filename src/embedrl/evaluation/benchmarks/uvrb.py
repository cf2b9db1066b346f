"""UVRB: table of its datasets, their files, instructions and metrics."""

from embedrl.data.items import DESCRIBE
from embedrl.evaluation.benchmarks.read_uvrb import UVRB_ROWS
from embedrl.evaluation.benchmarks.source import Official, Source
from embedrl.evaluation.tables import Benchmark, Dataset, by_group


def _row(name: str, groups: str, metric: str, num_queries: int) -> Dataset:
    underscored = name.replace("-", "_")
    return Dataset(name, "video", tuple(groups.split()), metric, num_queries, alias="" if underscored == name else underscored)


DATASETS = (
    _row("MSRVTT", "TXT CG", "hit@1", 1000),
    _row("DiDeMo", "TXT CG", "hit@1", 1004),
    _row("CRB-G", "TXT CG", "hit@1", 1000),
    _row("CRB-S", "TXT FG S", "hit@1", 1000),
    _row("VDC-O", "TXT FG S", "hit@1", 1027),
    _row("CRB-T", "TXT FG T", "hit@1", 1000),
    _row("CMRB", "TXT FG T", "hit@10", 728),
    _row("DREAM-E", "TXT FG PR", "hit@1", 6251),
    _row("LoVR-TH", "TXT FG PR", "hit@10", 8854),
    _row("PEV-K", "TXT FG PR", "hit@1", 14427),
    _row("LoVR-V", "TXT LC", "hit@1", 100),
    _row("VDC-D", "TXT LC", "hit@1", 1000),
    _row("MS-TI", "CMP", "precision@1", 400),
    _row("MS-TV", "CMP", "precision@1", 400),
    _row("MSRVTT-I2V", "VIS", "hit@1", 1000),
    _row("LoVR-C2V", "VIS", "hit@1", 467),
)

ABILITIES = ("TXT", "CMP", "VIS", "CG", "FG", "LC")

UVRB = Benchmark(
    name="UVRB",
    datasets=DATASETS,
    columns={
        **by_group(DATASETS, *ABILITIES, "S", "T", "PR"),
        "ability mean": ABILITIES,
        "dataset mean": tuple(row.name for row in DATASETS),
    },
)


_CANDIDATES = {
    "MSRVTT": 1000,
    "DiDeMo": 1004,
    "CRB-G": 1000,
    "CRB-S": 1000,
    "VDC-O": 1027,
    "CRB-T": 1000,
    "CMRB": 1071,
    "DREAM-E": 1000,
    "LoVR-TH": 8854,
    "PEV-K": 15000,
    "LoVR-V": 467,
    "VDC-D": 1027,
    "MSRVTT-I2V": 1000,
    "LoVR-C2V": 467,
}
"""Videos of a corpus. The paper prints 10 for MS-TI and MS-TV, a query's share of a corpus of unknown size."""

_WORDINGS = {
    "CRB-S": "Find the video whose objects and places fit the text.",
    "VDC-O": "Find the video whose main objects fit the text.",
    "CRB-T": "Find the video whose actions, in their order, fit the text.",
    "CMRB": "Find the video in which the camera moves as the text says.",
    "DREAM-E": "Find the video in which the event of the text happens.",
    "LoVR-TH": "Find the clip with the theme of the text.",
    "PEV-K": "Find the video that fits the keywords.",
    "LoVR-V": "Find the long video that the text tells in full.",
    "VDC-D": "Find the video that the detailed text describes.",
    "MS-TI": "Find the video moment that fits the text and the picture.",
    "MS-TV": "Find the video moment that fits the text and the clip.",
    "MSRVTT-I2V": "Find the video that the picture was taken from.",
    "LoVR-C2V": "Find the long video that the clip was cut from.",
}

UVRB_FILES = Official(
    UVRB,
    tuple(
        Source(
            *(row.name, "video", UVRB_ROWS, "Alibaba-NLP/UVRB"),
            instructions=(_WORDINGS.get(row.name, "Find the video that fits the text."), DESCRIBE["video"]),
            num_candidates=_CANDIDATES.get(row.name, 0),
        )
        for row in UVRB.datasets
    ),
    download="the dataset repository Alibaba-NLP/UVRB",
)

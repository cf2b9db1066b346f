"""The files of UVRB: Alibaba-NLP/UVRB, downloaded into the data folder. Its instructions are worded here."""

from embedrl.data.instructions import DESCRIBE
from embedrl.evaluate.benchmarks.source import Official, Source
from embedrl.evaluate.uvrb import UVRB

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
            *(row.name, "video", "uvrb", "Alibaba-NLP/UVRB"),
            instructions=(_WORDINGS.get(row.name, "Find the video that fits the text."), DESCRIBE["video"]),
            num_candidates=_CANDIDATES.get(row.name, 0),
        )
        for row in UVRB.datasets
    ),
    download="the dataset repository Alibaba-NLP/UVRB",
)

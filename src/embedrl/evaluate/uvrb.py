"""UVRB, the Universal Video Retrieval Benchmark (arXiv 2510.27571): 16 datasets of video retrieval, and two overall means.

Tasks are text to video (TXT), text with an image or a video to video (CMP), and picture or clip to video (VIS). The text tasks
are coarse (CG), fine (FG: spatial S, temporal T, partially relevant PR) or of long context (LC). Papers print a mean of the six
columns TXT, CMP, VIS, CG, FG and LC, and a mean of the 16 datasets; a text dataset weighs twice in the first.

The benchmark's R@k is computed as the share of queries with any right video among the first k, which is hit@k here.
"""

from embedrl.evaluate.tables import Benchmark, Dataset, by_group


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

"""Registry of the benchmarks. Another one (MMEB-V3, say) is its table of datasets and a line here."""

from embedrl.evaluation.benchmarks.mmeb_v2 import MMEB_V2_FILES
from embedrl.evaluation.benchmarks.uvrb import UVRB_FILES

OFFICIAL = {official.benchmark.name: official for official in (MMEB_V2_FILES, UVRB_FILES)}
BENCHMARKS = {name: official.benchmark for name, official in OFFICIAL.items()}

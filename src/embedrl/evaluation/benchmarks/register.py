"""Registry of the benchmarks. Another one (MMEB-V3, say) is its table of datasets and a line here."""

from embedrl.errors import ConfigError
from embedrl.evaluation.benchmarks.mmeb_v2 import MMEB_V2_FILES
from embedrl.evaluation.benchmarks.source import Official
from embedrl.evaluation.benchmarks.uvrb import UVRB_FILES

OFFICIAL = {official.benchmark.name: official for official in (MMEB_V2_FILES, UVRB_FILES)}
BENCHMARKS = {name: official.benchmark for name, official in OFFICIAL.items()}


def find_benchmark(name: str, *others: str) -> Official:
    """Return a benchmark by name, ignoring case. Raises ConfigError naming all, and `others` that are no official ones."""
    official = {spelling.casefold(): official for spelling, official in OFFICIAL.items()}.get(name.casefold())
    if official is None:
        raise ConfigError(f"benchmark {name!r}: choose from {', '.join([*OFFICIAL, *others])}")
    return official

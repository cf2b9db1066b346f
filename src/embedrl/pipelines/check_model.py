"""`embedrl models check`: load a model, let it do its work on probes of every medium, and say what differs from plain transformers."""

import time
from dataclasses import dataclass, field
from typing import Any

from embedrl.data.tcot import TCoT
from embedrl.embedder.embedder import Embedder
from embedrl.errors import EmbedRLError, ModelError
from embedrl.integrations.parity import compare_by_name, probes
from embedrl.models.names import is_server
from embedrl.models.placement import chosen_device, peak_memory_bytes, reset_peak_memory
from embedrl.reasoner.local import LocalReasoner
from embedrl.runtime.names import load_embedder, load_reasoner


@dataclass
class RoleReport:
    """What a model is good for in one role."""

    role: str
    fingerprint: str = ""
    load_s: float = 0.0
    run_s: float = 0.0
    """For all probes."""
    weight_bytes: int | None = None
    """Of its weights in memory; None for one on a server."""
    peak_bytes: int | None = None
    """The most memory held at once while it was loaded and ran: of the accelerator, or of the whole process on a CPU."""
    differences: list[str] = field(default_factory=list)
    """Probes on which it differs from plain transformers, and how."""
    by_design: list[str] = field(default_factory=list)
    """Probes on which it differs as it should, and why."""
    outcomes: list[str] = field(default_factory=list)
    """What it made of each probe."""
    error: str = ""
    """Why it cannot be used in this role."""


def check_model(name: str) -> list[RoleReport]:
    """Check a model in both roles. Raises ConfigError for an unknown name, ModelError if it can be used in neither."""
    reports = [_check_embedder(name), _check_reasoner(name)]
    if all(report.error for report in reports):
        raise ModelError("; ".join(f"as {report.role}: {report.error}" for report in reports))
    return reports


def _check_embedder(name: str) -> RoleReport:
    report, samples = RoleReport("Embedder"), probes()
    try:
        reset_peak_memory(chosen_device())
        started = time.perf_counter()
        embedder = load_embedder(name)
        report.load_s, report.fingerprint = time.perf_counter() - started, embedder.fingerprint
        started = time.perf_counter()
        vectors = embedder.embed([probe.item for probe in samples], [probe.tcot for probe in samples])
        report.run_s = time.perf_counter() - started
    except ModelError as error:
        report.error = str(error)
        return report
    report.outcomes = [f"{probe.name}: {len(vector)} numbers" for probe, vector in zip(samples, vectors, strict=True)]
    if isinstance(embedder, Embedder):
        report.weight_bytes, report.peak_bytes = _footprint(embedder.model), peak_memory_bytes(embedder.model.device)
        try:
            findings = compare_by_name(embedder, name, samples)
        except ModelError as error:  # one with quantized weights, say
            report.outcomes.append(f"not compared with other engines: {error}")
            return report
        report.differences = [
            f"{row.probe}, {row.engine}: {row.stage}{'' if row.cosine is None else f' (cosine {row.cosine:.5f})'}"
            for row in findings
            if not row.is_same
        ]
        report.outcomes += [f"{row.probe}, {row.engine}: {row.stage}" for row in findings if row.cosine is None]
        report.by_design = [
            f"{row.probe}, {row.engine}: {row.stage} (cosine {row.cosine:.5f}; {row.by_design})" for row in findings if row.by_design
        ]
    return report


def _check_reasoner(name: str) -> RoleReport:
    report, items = RoleReport("Reasoner"), [probe.item for probe in probes()]
    try:
        reset_peak_memory(chosen_device())
        started = time.perf_counter()
        reasoner = load_reasoner(name)
        report.load_s, report.fingerprint = time.perf_counter() - started, reasoner.fingerprint
        started = time.perf_counter()
        outcomes = reasoner.reason(items)
        report.run_s = time.perf_counter() - started
    except EmbedRLError as error:
        if not isinstance(error, ModelError) and is_server(name):
            raise
        report.error = str(error)
        return report
    report.outcomes = [
        f"{probe.name}: {'T-CoT' if isinstance(outcome, TCoT) else outcome.reason.value}"
        for probe, outcome in zip(probes(), outcomes, strict=True)
    ]
    if isinstance(reasoner, LocalReasoner):
        report.weight_bytes, report.peak_bytes = _footprint(reasoner.model), peak_memory_bytes(reasoner.model.device)
        plain = load_reasoner(name, fast=False)
        assert isinstance(plain, LocalReasoner)
        plain.continuous = False  # transformers' own generate
        alone = [plain.reason([item])[0] for item in items]
        report.differences = [
            f"{probe.name}, transformers: another text"
            for probe, fast, plain_outcome in zip(probes(), outcomes, alone, strict=True)
            if fast != plain_outcome
        ]
    return report


def _footprint(model: Any) -> int:
    return int(model.get_memory_footprint())

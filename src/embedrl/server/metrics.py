"""Prometheus metrics of the server."""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counts requests by route and status, and how long they took. `gauges` are asked when the figures are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: dict[str, float] = {}
        self._within: Counter[tuple[str, float]] = Counter()
        self._counts: Counter[str] = Counter()
        self._in_flight = 0
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """Name -> (help, value); a name that ends with `_total` is a counter."""

    @contextmanager
    def in_flight(self) -> Generator[None]:
        """Count a request as being answered."""
        with self._lock:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered; status 0 for one whose client left."""
        with self._lock:
            self._requests[method if method.isalpha() and len(method) < 10 else "OTHER", route, status] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds
            self._counts[route] += 1
            for bound in BUCKETS_S:
                if seconds <= bound:
                    self._within[route, bound] += 1

    def text(self) -> str:
        """Return all figures."""
        with self._lock:
            lines = ["# HELP embedrl_requests_total Requests that were answered.", "# TYPE embedrl_requests_total counter"]
            for (method, route, status), number in sorted(self._requests.items()):
                lines.append(_line("embedrl_requests_total", {"method": method, "route": route, "status": str(status)}, number))
            lines += ["# HELP embedrl_request_seconds Time to answer a request.", "# TYPE embedrl_request_seconds histogram"]
            for route in sorted(self._counts):
                for bound in BUCKETS_S:
                    lines.append(_line("embedrl_request_seconds_bucket", {"route": route, "le": f"{bound:g}"}, self._within[route, bound]))
                lines.append(_line("embedrl_request_seconds_bucket", {"route": route, "le": "+Inf"}, self._counts[route]))
                lines.append(_line("embedrl_request_seconds_sum", {"route": route}, self._seconds[route]))
                lines.append(_line("embedrl_request_seconds_count", {"route": route}, self._counts[route]))
            in_flight = self._in_flight
        gauges = {"embedrl_requests_in_flight": ("Requests that are being answered.", lambda: in_flight), **self.gauges}
        for name, (help_text, value) in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", _line(name, {}, value())]
        return "\n".join(lines) + "\n"


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

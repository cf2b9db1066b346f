"""Prometheus metrics of the server, with labels from closed sets."""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH")
"""All others count as OTHER."""
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_POINT = re.compile(r'\.0(?="|$)', re.MULTILINE)

disable_created_metrics()  # no `_created` series beside each counter


class Metrics(Collector):
    """Request counts and durations by route and status; `gauges` are read at collection."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("embedrl_requests", "Requests that were answered.", ["method", "route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "embedrl_request_seconds", "Time to answer a request.", ["route"], buckets=BUCKETS_S, registry=self._registry
        )
        self._in_flight = Gauge("embedrl_requests_in_flight", "Requests that are being answered.", registry=self._registry)
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """Name -> (help, value); a name that ends with `_total` is a counter."""
        self._registry.register(self)

    @contextmanager
    def in_flight(self) -> Generator[None]:
        """Count a request as in flight."""
        with self._in_flight.track_inprogress():
            yield

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a finished request; status 0 if its client disconnected."""
        self._requests.labels(method if method in METHODS else "OTHER", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the current gauges."""
        for name, (help_text, value) in self.gauges.items():
            yield (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(name, help_text, value=value())

    def text(self) -> str:
        """Return all metrics in the Prometheus text format, integers without a decimal point."""
        return _POINT.sub("", generate_latest(self._registry).decode())

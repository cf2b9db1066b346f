"""Every route as OpenAPI describes it, asked with what fits the description and what does not: no 5xx, nothing undescribed."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.coloured_folder import make_folder
from tests.served import Served, served

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("schema") / "media")) as found:
        yield found


@pytest.fixture(scope="module")
def api(server: Served):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_5xx_and_nothing_that_is_not_described(case: schemathesis.Case):
    case.call_and_validate(checks=CHECKS, timeout=60)

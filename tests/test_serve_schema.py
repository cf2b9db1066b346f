"""Every route as OpenAPI describes it, asked with what fits the description and what does not: no 5xx, nothing undescribed."""

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from tests.coloured_folder import make_folder
from tests.served import Served, served

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NUM_EXAMPLES = 6
"""Of each route and kind; a nightly run may take hundreds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(make_folder(tmp_path_factory.mktemp("schema") / "media")) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_5xx_and_nothing_that_is_not_described(server: Served, mode: GenerationMode):
    api = schemathesis.openapi.from_dict(server.client.get("/openapi.json").json())
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 18
    assert not [operation for operation in operations if operation is None]
    wrong = []
    with requests.Session() as session:
        session.trust_env = False
        for operation in operations:
            if mode == GenerationMode.NEGATIVE and not list(operation.iter_parameters()) and not operation.body:
                continue  # nothing can be wrong about it

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=NUM_EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: schemathesis.Case) -> None:
                case.call_and_validate(base_url=server.url, session=session, checks=CHECKS, timeout=120)

            try:
                ask()
            except (Exception, BaseExceptionGroup) as error:
                wrong.append(f"{operation.label}: {error!r:.3000}")
    assert wrong == []

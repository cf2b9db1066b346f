"""Dockerfile, .dockerignore and compose.yaml fit the repository and each other; no image is built here."""

import json
import re
import shlex
from pathlib import Path

import yaml
from typer.main import get_command

from embedrl.cli.main import app

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def _instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {source for words in map(shlex.split, _instructions("COPY")) for source in words[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_the_command_is_one_of_ours_with_options_that_exist() -> None:
    [[entry]], [words] = map(json.loads, _instructions("ENTRYPOINT")), map(json.loads, _instructions("CMD"))
    assert entry == "embedrl"
    command = get_command(app).commands[words[0]]
    assert {word for word in words if word.startswith("--")} <= {name for parameter in command.params for name in parameter.opts}


def test_the_container_runs_as_nobody_special_and_port_and_volumes_agree() -> None:
    [user], [port], [volumes] = _instructions("USER"), _instructions("EXPOSE"), map(json.loads, _instructions("VOLUME"))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    service = COMPOSE["services"]["embedrl"]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    mounted = dict(reversed(volume.rsplit(":", 1)) for volume in service["volumes"])
    assert set(mounted) == set(volumes)
    assert {source for source in mounted.values() if re.fullmatch(r"\w+", source)} == set(COMPOSE["volumes"])


def test_compose_asks_for_what_has_no_default() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")
    variables = re.findall(r"\$\{(\w+)(:\?[^}]+)?\}", text)
    assert {name for name, _ in variables} == {"EMBEDRL_TOKEN", "LIBRARY"}
    assert all(message for _, message in variables)

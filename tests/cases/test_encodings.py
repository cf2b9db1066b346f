"""No command ends in a traceback because standard output cannot write a character (report of five users, finding 8)."""

from pathlib import Path

import pytest

from tests.cases.test_early_refusals import LOCALES, run

NAMES = ("Käse 東京.txt", "smörgås.png")


@pytest.mark.parametrize("locale", [name for name in LOCALES if name != "UTF-8"])
def test_commands_write_what_the_encoding_lacks(locale: str, tmp_path: Path):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / NAMES[0]).write_text("Käse from 東京", "utf-8")
    (folder / NAMES[1]).write_bytes(b"no image")
    models = ("--reasoner", "fake", "--embedder", "fake")
    commands = (
        ("index", folder, *models),
        ("index", folder, *models, "--json"),
        ("index", "stats", folder),
        ("index", "stats", folder, "--json"),
        ("search", "Tokyo", "--index", folder, "--words", "from"),
        ("ask", "what is from here?", "--index", folder),
        ("doctor", "index", folder),
        ("models",),
        ("world", "make", tmp_path / "world", "--pairs", "1"),
    )
    for words, said in zip(commands, run(*commands, **LOCALES[locale]), strict=True):
        assert "Traceback" not in said.err, (words, said.err)
        assert said.code in (0, 1), (words, said.err)

"""An error of the operating system reached the user as a bare "Permission denied", without what to do about it."""

import errno
import os
from pathlib import Path

import pytest

from embedrl.cli.main import main
from embedrl.errors import MediaError, StoreError, cause, unreadable, unwritable
from embedrl.index.row import Stamp

REMEDIES = {
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.ENOENT: "make the missing folder",
    errno.ENOTDIR: "is a file",
    errno.EISDIR: "give a file",
    errno.ENOSPC: "free some space",
    errno.EROFS: "choose another place",
    errno.ENAMETOOLONG: "255 bytes a name",
    errno.EMFILE: "ulimit -n",
    errno.EIO: "check the disk",
    errno.EPROTO: "check the path",
}


@pytest.mark.parametrize("number", REMEDIES)
def test_each_error_of_the_system_says_the_cause_and_what_to_do(number: int):
    error = OSError(number, os.strerror(number), "x")
    assert cause(error).startswith(f"({os.strerror(number)}); ")
    assert REMEDIES[number] in cause(error)
    for failure in (unwritable(Path("x"), error), unreadable(Path("x"), error)):
        assert isinstance(failure, StoreError)
        assert failure.errno == number
        assert cause(error) in str(failure)


def refused(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_a_command_names_the_file_the_cause_and_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "file").write_text("no folder")
    said = refused(capsys, "world", "make", tmp_path / "file" / "world", "--pairs", 1)
    assert "cannot be used (Not a directory)" in said
    assert "move it, or correct the path" in said
    said = refused(capsys, "world", "make", tmp_path / ("n" * 300), "--pairs", 1)
    assert "(File name too long); give a shorter one: most file systems take 255 bytes a name" in said


def test_a_medium_that_is_gone_says_what_to_do(tmp_path: Path):
    with pytest.raises(MediaError, match=r"cannot be read \(No such file or directory\); make the missing folder, or correct the path"):
        Stamp.of(tmp_path / "gone.png")

"""Files that are pipes, links, devices or in another format, and terminals of other encodings."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from tests.fixtures.agents import request

from carpool_worker.exceptions import WorkerError
from carpool_worker.files.request_files import opened
from carpool_worker.files.writing import replacing

LINES = "".join(json.dumps({"custom_id": f"r{n}", "params": request("é")}) + "\n" for n in range(3))
CARPOOL = [sys.executable, "-m", "carpool_worker.cli"]


def test_a_pipe_is_read_as_often_as_a_file(tmp_path: Path) -> None:
    # Given a pipe with a name, whose writer writes once
    pipe = tmp_path / "requests"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(LINES,))
    writer.start()

    # When it is opened, Then it can be read twice
    with opened(str(pipe)) as source:
        first = source.read()
        source.seek(0)
        assert (first, source.read()) == (LINES.encode(), LINES.encode())
    writer.join()


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (gzip.compress(LINES.encode()), "gzip"),
        (bz2.compress(LINES.encode()), "bzip2"),
        (lzma.compress(LINES.encode()), "xz"),
        (zstandard.compress(LINES.encode()), "zstd"),
        (b"PK\x03\x04rest", "zip"),
        (LINES.encode("utf-16"), "UTF-16"),
        (LINES.encode("utf-16-le"), "UTF-16LE"),
        (LINES.encode("utf-16-be"), "UTF-16BE"),
        (LINES.encode("utf-32"), "UTF-32"),
        (b" \n[" + LINES.encode() + b"]", "a JSON array"),
        (b"\xef\xbb\xbf[]", "a JSON array"),
    ],
)
def test_another_format_is_named_with_what_to_do(tmp_path: Path, head: bytes, named: str) -> None:
    (tmp_path / "requests").write_bytes(head)

    with pytest.raises(WorkerError, match=rf"requests is .*{named}.*; requests are a JSON object a line"):
        opened(str(tmp_path / "requests")).__enter__()


def test_a_folder_is_no_file_of_requests(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="can't be read: Is a directory"):
        opened(str(tmp_path)).__enter__()


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    # Given a link over a link to a file in another folder
    (tmp_path / "there").mkdir()
    file, near, far = tmp_path / "there" / "answers", tmp_path / "near", tmp_path / "far"
    file.write_text("old")
    file.chmod(0o640)
    near.symlink_to(far)
    far.symlink_to(Path("there") / "answers")

    # When
    with replacing(near) as out:
        out.write(b"new")
        assert file.read_text() == "old"

    # Then
    assert (near.is_symlink(), far.is_symlink(), file.is_symlink()) == (True, True, False)
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["answers"]


def test_a_link_to_nothing_yet_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "answers")

    with replacing(tmp_path / "link") as out:
        out.write(b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "answers").read_text() == "new"


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    # Given a link to a device, as /dev/stdout is one
    null = tmp_path / "null"
    null.symlink_to(os.devnull)

    for path in (null, Path(os.devnull)):
        with replacing(path) as out:
            out.write(b"new")

    assert null.is_symlink()
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert list(tmp_path.iterdir()) == [null]


def test_a_pipe_gets_what_is_written(tmp_path: Path) -> None:
    pipe = tmp_path / "answers"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()

    with replacing(pipe) as out:
        out.write(b"new")
    reader.join()

    assert read == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_name_for_an_open_file_is_not_replaced_by_another(tmp_path: Path) -> None:
    # Given a shell's `> answers`
    with (tmp_path / "answers").open("wb") as redirected:
        inode = os.fstat(redirected.fileno()).st_ino

        # When it is named by its number
        with replacing(Path(f"/dev/fd/{redirected.fileno()}")) as out:
            out.write(b"new")

    # Then it is still that file
    assert (tmp_path / "answers").read_bytes() == b"new"
    assert (tmp_path / "answers").stat().st_ino == inode


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
)
@pytest.mark.parametrize("command", ["status", "usage", "enqueue --help"])
def test_a_terminal_without_utf8_gets_what_it_can_show(
    command: str, environment: dict[str, str], sqlite_url: str, migrated: Callable[[str], None]
) -> None:
    migrated(sqlite_url)
    settings = {"CARPOOL_DATABASE_URL": sqlite_url, "CARPOOL_REDIS_URL": "redis://127.0.0.1:1/0"}

    run = subprocess.run(
        [*CARPOOL, *command.split()], env=os.environ | settings | environment, capture_output=True, timeout=60
    )

    assert b"Traceback" not in run.stderr
    assert run.stdout + run.stderr
    (run.stdout + run.stderr).decode("ascii")

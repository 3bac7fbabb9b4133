"""Recognizes files that are not a JSON object a line, to name what they are instead of what is wrong with line 1."""

from __future__ import annotations

import codecs
from typing import IO

from carpool_worker.exceptions import WorkerError

PACKED = {
    b"\x1f\x8b": ("compressed by gzip", "gunzip -c {} | carpool enqueue -f - …"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "zstd -dc {} | carpool enqueue -f - …"),
    b"BZh": ("compressed by bzip2", "bunzip2 -c {} | carpool enqueue -f - …"),
    b"\xfd7zXZ": ("compressed by xz", "xz -dc {} | carpool enqueue -f - …"),
    b"PK\x03\x04": ("a zip archive", "unzip it"),
    b"PAR1": ("a Parquet file", "convert it to JSON lines"),
    b"SQLite format 3": ("an SQLite database", "write its rows as JSON lines"),
}
"""By their first bytes: what a file is, and what to do."""

UTF_16 = "iconv -f {} -t UTF-8 {} | carpool enqueue -f - …"
ARRAY = "jq -c '.[]' {} | carpool enqueue -f - …"
HEAD_BYTES = 4_096


def refuse_other_formats(name: str, source: IO[bytes]) -> None:
    """Raise WorkerError if a file, which is at its beginning and stays there, is of a format that is not taken."""
    head = source.read(HEAD_BYTES)
    source.seek(0)
    for magic, (what, remedy) in PACKED.items():
        if head.startswith(magic):
            raise _refusal(name, what, remedy.format(name))
    if encoding := _wide_encoding(head):
        raise _refusal(name, f"in {encoding}", UTF_16.format(encoding, name))
    if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise _refusal(name, "a JSON array", ARRAY.format(name))


def _wide_encoding(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    # Without a mark: a line begins with a brace, which is two bytes then.
    if head.startswith(b"{\0"):
        return "UTF-16LE"
    return "UTF-16BE" if head.startswith(b"\0{") else None


def _refusal(name: str, what: str, remedy: str) -> WorkerError:
    return WorkerError(f"{name} is {what}; requests are a JSON object a line, in UTF-8: {remedy}")

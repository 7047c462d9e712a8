"""Result files: written by a query, read back page by page.

`<id>.csv` of a SELECT, `<id>.txt` of DDL, and beside each `.metadata`: the columns as a protocol buffer, as far as its
fields are known (https://github.com/burtcorp/athena-jdbc, AthenaMetaDataParser).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_COLUMNS, _NULLABLE = 4, {"NOT_NULL": 1, "NULLABLE": 2, "UNKNOWN": 3}
_TEXTS = {"CatalogName": 1, "Name": 4, "Label": 5, "Type": 6}
_NUMBERS = {"Precision": 7, "Scale": 8}


def metadata(columns: list[dict[str, Any]]) -> bytes:
    """The `.metadata` file of these ColumnInfos."""
    return b"".join(_field(_COLUMNS, _column(each)) for each in columns)


def _column(info: dict[str, Any]) -> bytes:
    texts = b"".join(_field(number, info[name].encode()) for name, number in _TEXTS.items())
    numbers = b"".join(_varint(number << 3) + _varint(info[name]) for name, number in _NUMBERS.items())
    nullable = _varint(9 << 3) + _varint(_NULLABLE[info["Nullable"]])
    return texts + numbers + nullable + _varint(10 << 3) + _varint(int(info["CaseSensitive"]))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def csv_rows(data: bytes, start: int) -> Iterator[tuple[list[str | None], int]]:
    """(fields, where the next row begins) of a CSV file from a byte on; an empty field without quotes is NULL."""
    at = start
    while at < len(data):
        row: list[str | None] = []
        while True:
            if data[at : at + 1] == b'"':
                end = at + 1
                while True:
                    end = data.index(b'"', end)
                    if data[end + 1 : end + 2] != b'"':
                        break
                    end += 2
                row.append(data[at + 1 : end].replace(b'""', b'"').decode())
                at = end + 1
            else:
                row.append(None)
            ended = data[at : at + 1] != b","
            at += 1
            if ended:
                break
        yield row, at


def text_rows(data: bytes, start: int) -> Iterator[tuple[list[str | None], int]]:
    """Lines of a text file, a field for each tab."""
    at = start
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        fields: list[str | None] = list(data[at:end].decode().split("\t"))
        yield fields, end + 1
        at = end + 1


@dataclass
class Result:
    """What a statement leaves. `output` where it is no result file; `manifest`: the URIs of what it wrote into files."""

    columns: list[dict[str, Any]] = field(default_factory=list)
    data: bytes = b""
    suffix: str = "txt"
    update_count: int | None = None
    output: str = ""
    manifest: list[str] | None = None

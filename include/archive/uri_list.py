"""A list of images that somebody made: S3 URIs, or rows as S3 Batch Operations wants them, plain or gzipped.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-create-job.html#specify-batchjob-manifest: rows are
``bucket,key[,versionId]``, keys URL-encoded. The lines are read once; what is wrong is told by line number. What the list
does not say of an object (ETag, size, date) is looked up in the order of the keys, whatever order the list has.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import logging
import zlib
from bisect import bisect_left
from collections.abc import Collection, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from include.archive.ahead import in_order
from include.archive.fetch import open_object
from include.archive.found import Skipped, found_table
from include.archive.lines import LISTED, parse_lines
from include.archive.look_up import Looked, look_up
from include.errors import SelectionError
from include.scratch import scratch_folder
from include.selection import split_uri

log = logging.getLogger(__name__)

BROKEN: Final = "broken lines, kept in broken_lines.csv"
LINES_SHOWN: Final = 5
# Where more are broken than that, the list is.
MOST_KEPT: Final = 1_000_000

BLOCK_BYTES: Final = 4 * 1024**2
LINES_IN_MEMORY: Final = 500_000
SAMPLES_A_BLOCK: Final = 200
# Keys that one thread looks up at a time: a listing's page has so many.
MOST_AT_A_TIME: Final = 1_000
LEAST_AT_A_TIME: Final = 100


class BrokenLines:
    """Lines that cannot be used, with the reason: the first few in words, the first million in a temporary file of CSV."""

    def __init__(self, file: IO[bytes]) -> None:
        self.count = 0
        self.shown: list[str] = []
        self.file = file
        self._add("line", "problem", "text")

    def add(self, line: int, problem: str, text: str) -> None:
        if len(self.shown) < LINES_SHOWN:
            self.shown.append(f"line {line:,}: {problem}: {text[:200]!r}")
        self.count += 1
        if self.count <= MOST_KEPT:
            self._add(str(line), problem, text)

    def _add(self, *fields: str) -> None:
        row = io.StringIO()
        csv.writer(row).writerow(fields)
        self.file.write(row.getvalue().encode(errors="backslashreplace"))

    def to_csv(self) -> bytes:
        self.file.seek(0)
        return self.file.read()

    def in_words(self) -> str:
        more = f"\n  and {self.count - len(self.shown):,} more" if self.count > len(self.shown) else ""
        return "\n".join(f"  {line}" for line in self.shown) + more


@dataclass(frozen=True, slots=True)
class UriList:
    """A list whose lines have been read. ``lines``: the good ones; ``buckets``: of these."""

    uri: str
    lines: int
    buckets: tuple[str, ...]
    broken: BrokenLines
    skip_broken_lines: bool
    folder: Path
    samples: tuple[str, ...]

    @property
    def spill(self) -> Path:
        return self.folder / "lines.arrow"

    def refuse_broken_lines(self) -> None:
        """:raises SelectionError: where some are broken, and nobody said to go on without them."""
        if self.broken.count and not self.skip_broken_lines:
            raise SelectionError(
                f"{self.broken.count:,} of the lines of {self.uri} cannot be used:\n{self.broken.in_words()}\n"
                "Mend them (keys with + or % as they stand need url_encoded=false), or go on without them: "
                "skip_broken_lines=true keeps them in a file beside the plan."
            )


@contextmanager
def open_list(
    s3: Any, uri: str, *, allowed: Collection[str], url_encoded: bool | None, skip_broken_lines: bool
) -> Iterator[UriList]:
    """Fetch a list and read its lines, into a temporary folder that lives as long as this context.

    :param allowed: buckets whose images may be labelled.
    :raises SelectionError: where there is no list, or lines are broken and must not be.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        local = stack.enter_context((folder / "list").open("w+b"))
        broken = BrokenLines(stack.enter_context((folder / "broken.csv").open("w+b")))
        _download(s3, uri, local)
        buckets: set[str] = set()
        samples: list[str] = []
        lines = 0
        with pa.OSFile(str(folder / "lines.arrow"), "wb") as sink, pa.ipc.new_stream(sink, LISTED) as writer:
            for table in _parsed(uri, local, allowed, url_encoded, broken):
                in_places = table.sort_by([("place", "ascending"), ("line", "ascending")])
                step = max(1, table.num_rows // SAMPLES_A_BLOCK)
                samples += in_places["place"].take(pa.array(range(0, table.num_rows, step))).to_pylist()
                buckets.update(pc.unique(table["bucket"]).to_pylist())
                lines += table.num_rows
                writer.write_table(in_places)
        listed = UriList(uri, lines, tuple(sorted(buckets)), broken, skip_broken_lines, folder, tuple(samples))
        listed.refuse_broken_lines()
        log.info("%s names %s objects, which are looked up.", uri, f"{lines:,}")
        yield listed


def find_listed(s3: Any, listed: UriList, threads: int, skipped: Skipped) -> Generator[pa.Table, None, None]:
    """Tables of ``FOUND``, in the order of buckets and keys, each object once. Lines of what is not there become broken."""
    for part in _parts(listed):
        with closing(in_order(lambda rows: look_up(s3, rows), _slices(part, threads), threads=threads)) as found:
            for looked in found:
                yield _taken(looked, listed.broken, skipped)


def _taken(looked: Looked, broken: BrokenLines, skipped: Skipped) -> pa.Table:
    skipped.update(looked.skipped)
    for line, problem, key in looked.gone:
        broken.add(line, problem, f"s3://{looked.bucket}/{key}")
    return found_table(looked.bucket, looked.items)


def _download(s3: Any, uri: str, to: IO[bytes]) -> None:
    bucket, key = split_uri(uri)
    body = open_object(s3, bucket, key, missing="there is no such list.")
    while chunk := body.read(BLOCK_BYTES):
        to.write(chunk)
    to.flush()


def _parsed(
    uri: str, local: IO[bytes], allowed: Collection[str], url_encoded: bool | None, broken: BrokenLines
) -> Iterator[pa.Table]:
    local.seek(0)
    is_gzipped = local.read(2) == b"\x1f\x8b"
    local.seek(0)
    number = 1
    try:
        with gzip.open(local) if is_gzipped else nullcontext(local) as stream:
            for block in _blocks(uri, stream):
                parsed = parse_lines(block, number, allowed=allowed, url_encoded=url_encoded)
                for line, problem, text in parsed.broken:
                    broken.add(line, problem, text)
                number += parsed.lines
                if parsed.table.num_rows:
                    yield parsed.table
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise SelectionError(f"{uri} ends early or is no gzip ({err}): write it again.") from err


def _blocks(uri: str, stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time, without a byte order mark."""
    rest = stream.read(len(codecs.BOM_UTF8))
    if rest[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise SelectionError(f"{uri} is UTF-16: save it as UTF-8.")
    rest = rest.removeprefix(codecs.BOM_UTF8)
    while chunk := stream.read(BLOCK_BYTES):
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        if lines or newline:
            yield lines + newline
        elif len(rest) > BLOCK_BYTES:
            raise SelectionError(f"{uri} has {len(rest):,} bytes without a line's end: it is no list.")
    if rest:
        yield rest


def _parts(listed: UriList) -> Iterator[pa.Table]:
    """The list's lines in the order of buckets and keys, in parts that fit into memory."""
    count = -(-listed.lines // LINES_IN_MEMORY)
    samples = sorted(listed.samples)
    edges = [samples[len(samples) * number // count] for number in range(1, count)]
    files = [listed.folder / f"part-{number}.arrow" for number in range(count)]
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(str(file), LISTED)) for file in files]
        for table in _tables(listed.spill):
            cuts = [0, *(_position(table, edge) for edge in edges), table.num_rows]
            for writer, (start, end) in zip(writers, itertools.pairwise(cuts), strict=True):
                writer.write_table(table.slice(start, end - start))
    for file in files:
        yield pa.Table.from_batches(list(_batches(file)), schema=LISTED).sort_by(
            [("place", "ascending"), ("line", "ascending")]
        )
        file.unlink()


def _position(table: pa.Table, edge: str) -> int:
    return bisect_left(range(table.num_rows), edge, key=lambda row: str(table["place"][row].as_py()))


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader


def _tables(file: Path) -> Iterator[pa.Table]:
    for batch in _batches(file):
        yield pa.Table.from_batches([batch])


def _slices(part: pa.Table, threads: int) -> Iterator[pa.Table]:
    """As many objects as one thread looks up at a time; all lines of an object together, and one bucket's only."""
    places, buckets = part["place"].combine_chunks(), part["bucket"].combine_chunks()
    first = np.flatnonzero(_differs(places))
    size = min(MOST_AT_A_TIME, max(LEAST_AT_A_TIME, -(-len(first) // threads)))
    cuts = np.unique(np.concatenate([first[::size], np.flatnonzero(_differs(buckets)), [part.num_rows]]))
    for start, end in itertools.pairwise(cuts.tolist()):
        yield part.slice(start, end - start)


def _differs(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Rows that are not as the row before."""
    changes = pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[True], changes]).astype(np.bool_)

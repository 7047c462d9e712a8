"""URL-encoded keys, decoded a column at a time."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

_PERCENT: Final = ord("%")
_HEX: Final = np.full(256, -1, dtype=np.int16)
for _digit in "0123456789abcdefABCDEF":
    _HEX[ord(_digit)] = int(_digit, 16)


def decode(column: pa.Array) -> tuple[pa.Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Decoded keys (binary: whoever encoded them may have meant bytes that are no UTF-8), and which are badly encoded.

    As forms encode, since S3 Inventory and S3 Batch Operations do: ``+`` is a space, ``%2B`` a plus.

    :param column: binary or string, without nulls, not chunked.
    """
    column = pa.concat_arrays([column.cast(pa.binary())])  # its own buffers, from the start
    _, offset_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[column.offset :][: len(column) + 1] if len(column) else None
    if offsets is None or data_buffer is None or offsets[-1] == offsets[0]:
        return column, np.zeros(len(column), dtype=np.bool_)
    begin = int(offsets[0])
    text = np.frombuffer(data_buffer, dtype=np.uint8)[begin : int(offsets[-1])].copy()
    offsets = offsets - begin
    text[text == ord("+")] = ord(" ")
    escapes = np.flatnonzero(text == _PERCENT)
    rows = np.searchsorted(offsets, escapes, side="right") - 1
    # Two characters of the same row must follow; where none do, any will do, for the row is broken.
    fits = escapes + 2 < offsets[rows + 1]
    last = len(text) - 1
    high, low = _HEX[text[np.minimum(escapes + 1, last)]], _HEX[text[np.minimum(escapes + 2, last)]]
    good = fits & (high >= 0) & (low >= 0)
    broken = np.zeros(len(column), dtype=np.bool_)
    broken[rows[~good]] = True
    escapes = escapes[good]
    text[escapes] = (high[good] * 16 + low[good]).astype(np.uint8)
    kept = np.ones(len(text), dtype=np.bool_)
    kept[escapes + 1] = kept[escapes + 2] = False
    ends = np.concatenate([[0], np.cumsum(kept)])[offsets].astype(np.int32)
    decoded = pa.Array.from_buffers(
        pa.binary(), len(column), [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(text[kept].tobytes())]
    )
    return decoded, broken

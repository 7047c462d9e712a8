"""Images by 16 bytes instead of their names, for as many as there are."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes: TypeAlias = npt.NDArray[np.uint64]

# SipHash takes keys of 16 characters; two of them make 128 bits: two of a billion images are taken for one another with
# a probability of 10^-21.
_FIRST: Final = "first 64 bits of"
_SECOND: Final = "other 64 bits of"


def hash_keys(keys: Any) -> Hashes:
    """64 bits of each key, the same wherever and whenever."""
    return _hash(keys, _FIRST)


def hash_identities(bucket: Any, key: Any, etag: Any) -> tuple[Hashes, Hashes]:
    """128 bits of bucket, key and ETag, each a column of strings or one value."""
    joined = pc.binary_join_element_wise(bucket, key, etag, "\0")
    return _hash(joined, _FIRST), _hash(joined, _SECOND)


def _hash(column: Any, hash_key: str) -> Hashes:
    # Here, since it takes as long to import as everything else that a Dag file does.
    from pandas.util import hash_array  # type: ignore[import-untyped]

    values = column.cast(pa.binary()).to_numpy(
        **({} if isinstance(column, pa.ChunkedArray) else {"zero_copy_only": False})
    )
    return np.asarray(hash_array(values, hash_key=hash_key, categorize=False), dtype=np.uint64)

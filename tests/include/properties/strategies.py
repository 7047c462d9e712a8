"""What strangers send: keys, JSON, labels."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from hypothesis import strategies as st

from include.layout import MAX_KEY_BYTES

# Characters on which somebody's decoder, path or terminal has stumbled before.
_AWKWARD: Final = st.sampled_from(
    [
        "+", "%", "%25", "%2F", "%2e%2e/", "../", "./", "/", "//", " ", "\\", "~", "#", "?", "&", "=", ":", "*", '"', "'",
        "\0", "\n", "\r", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "\u202e", "é", "e\u0301", "ﬁ", "İ",
        "ß", "日", "🦊", "👩\u200d👩\u200d👧", ".jpg", ".JPG", ".error.json", ".json", "~0123456789abcdef", "a", "A",
    ]
)  # fmt: skip
_CHARACTERS: Final = st.characters(exclude_categories=("Cs",))


def in_the_bucket(key: str) -> bool:
    """Whether S3 takes a key: each ``..`` has a name before it (Amazon S3 user guide, "Naming objects")."""
    depth = 0
    for part in key.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    return True


def _cut(text: str) -> str:
    return text.encode()[:MAX_KEY_BYTES].decode(errors="ignore")


def _stretched(pieces: list[str], times: int) -> str:
    return _cut("".join(pieces) * times)


raw_keys: Final = st.builds(
    _stretched,
    st.lists(_AWKWARD | st.text(_CHARACTERS, max_size=8), min_size=1, max_size=12),
    st.sampled_from([1, 1, 300]),
).filter(bool)
keys: Final = raw_keys.filter(in_the_bucket)

json_values: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)

# Names as a hostile trainer of a model, or a broken service, may make them.
label_names: Final = st.sampled_from(
    [
        "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", 'a"b', "a,b;c\td", "line\nbreak\r\n",
        "NUL\0NUL", "\u202egpj.exe", "x" * 5_000, "", "NULL", "NaN", "🦊", "e\u0301", "é",
    ]
) | st.text(_CHARACTERS, max_size=30)  # fmt: skip
half_characters: Final = st.sampled_from(["\ud800", "\udfff", "a\udc80b"])


def relatives(key: str) -> list[str]:
    """Keys that something careless would take for this one."""
    return [
        key.lower(),
        key.upper(),
        *(unicodedata.normalize(form, key) for form in ("NFC", "NFD", "NFKC", "NFKD")),
        key.replace("+", " "),
        key.replace("%25", "%"),
        key.replace("%2F", "/"),
        key.replace("//", "/"),
        key.strip("/ "),
        f"{key}.json",
        f"{key}.error.json",
        f"{key}~{'0' * 32}",
    ]

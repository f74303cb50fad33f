"""The value of a YAML scalar in kubectl and the API server: the rules of sigs.k8s.io/yaml, which reads with go-yaml v2.

They match neither YAML 1.1 nor 1.2: `yes` and `on` are booleans, 0777 is octal, but 190:20:30 and dates are strings.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from decimal import Decimal

Scalar = str | int | float | bool | None

_PREFIX = "tag:yaml.org,2002:"
STRING_TAG, BINARY_TAG, MERGE_TAG = f"{_PREFIX}str", f"{_PREFIX}binary", f"{_PREFIX}merge"
_TYPES = {f"{_PREFIX}{name}": name for name in ("bool", "int", "float", "null", "timestamp")}

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_POINT_FLOAT = re.compile(r"\.[0-9](_?[0-9])*([eE][-+]?[0-9](_?[0-9])*)?", re.ASCII)
"""Scalars that begin with a point follow Go's own rules: digits may be separated by single underscores."""
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?", re.ASCII)
_INT64, _UINT64 = 2**63, 2**64


def scalar(text: str, tag: str | None, *, is_plain: bool) -> Scalar:
    """Return the JSON value of a scalar. Integral floats are integers, as they are after Kubernetes has written them as JSON.

    `tag` is the full tag, or None; unknown tags mean a string. Raises ValueError with a sentence for a value that JSON does
    not have (NaN and the infinities), or that does not fit its tag.
    """
    value = _typed(text, tag, is_plain=is_plain)
    if isinstance(value, int) and value >= _INT64:
        return float(value)  # the API's own integers are signed 64-bit numbers
    if not isinstance(value, float):
        return value
    if math.isnan(value) or abs(value) == math.inf:
        raise ValueError(f"{text} is a number that JSON does not have; quote it if it is meant as a string")
    return int(value) if value.is_integer() and abs(value) < _INT64 else value


def key_text(text: str, tag: str | None, *, is_plain: bool) -> str:
    """Return a mapping's key as in JSON, from the same arguments. Also raises ValueError for null, which cannot be a key."""
    value = _typed(text, tag, is_plain=is_plain)
    if value is None:
        raise ValueError("null cannot be a key; quote it if it is meant as a string")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value >= _INT64:
        raise ValueError(f"{text} is too large a number for a key; quote it if it is meant as a string")
    return _float_key(value) if isinstance(value, float) else str(value)


def _typed(text: str, tag: str | None, *, is_plain: bool) -> Scalar:
    if tag is None and not is_plain:
        return text
    if tag == BINARY_TAG:
        try:
            return base64.b64decode(text.replace("\n", ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("a !!binary value does not contain base64-encoded text") from error
    wanted = _TYPES.get(tag or "")
    if tag is not None and wanted is None:
        return text
    value = _resolved(text)
    if wanted is not None and not _fits(value, wanted, text):
        raise ValueError(f"{text[:40]!r} is not a value of its tag !!{wanted}")
    return text if wanted == "timestamp" else value


def _resolved(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if text[0] == ".":
        return _float(text) if _POINT_FLOAT.fullmatch(text) else text
    plain = text.replace("_", "")
    found = _INTEGER.fullmatch(plain)
    if found is not None:
        sign, hexadecimal, binary, octal, decimal = found.groups()
        digits, base = next((digits, base) for digits, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10)) if digits)
        if len(digits) > 400:
            return text
        number = int(digits, base) * (-1 if sign == "-" else 1)
        if -_INT64 <= number < _INT64:
            return number
        if not sign and number < _UINT64:
            return number
    return _float(plain, text) if _FLOAT.fullmatch(plain) else text


def _float(plain: str, text: str | None = None) -> Scalar:
    """Parse a float; text that is too large for one stays a string."""
    value = float(plain)
    return value if abs(value) != math.inf else text or plain


def _fits(value: Scalar, wanted: str, text: str) -> bool:
    match wanted:
        case "null":
            return value is None
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
    return _TIMESTAMP.fullmatch(text) is not None


def _float_key(value: float) -> str:
    """Return the text Go writes for a 32-bit float: the fewest digits that identify it."""
    if math.isnan(value):
        return ".nan"
    try:
        single = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        single = math.copysign(math.inf, value)
    if abs(single) == math.inf:
        return ".inf" if value > 0 else "-.inf"
    for digits in range(1, 10):
        mantissa, _, exponent = f"{single:.{digits - 1}e}".partition("e")
        if struct.unpack("f", struct.pack("f", float(f"{mantissa}e{exponent}")))[0] == single:
            break
    return f"{mantissa}e{exponent}" if not -4 <= int(exponent) < 6 else f"{Decimal(f'{mantissa}e{exponent}'):f}"

"""What stands beside an image (sidecar files, other columns) as one JSON text: the image's metadata.

>>> sidecar_metadata({"json": b'{"a": 1}', "txt": b"a cat"})
'{"a": 1, "txt": "a cat"}'
"""

import json
import math
from collections.abc import Mapping

MAX_METADATA = 2**20  # bytes of one sidecar, or of the JSON of one row
LEFT_OUT = '{"note": "left out: over 1 MiB"}'
_JSON = json.JSONEncoder(default=str)


def sidecar_metadata(sidecars: Mapping[str, bytes | None]) -> str | None:
    """The sidecars of an image as a JSON object.

    Args:
        sidecars: extension → content, None where it is larger than MAX_METADATA.

    Returns:
        The entries of a json object, everything else as text under its extension; None where there are no sidecars.
    """
    merged = dict[str, object]()
    for extension in sorted(sidecars):
        body = sidecars[extension]
        if body is None:
            merged.setdefault(f"{extension}_note", f"left out: over {MAX_METADATA:,} bytes")
        elif extension == "json":
            merged |= _parsed(body)
        else:
            merged[extension] = body.decode("utf-8", "replace")
    return json.dumps(merged, default=str) if merged else None


def _parsed(body: bytes) -> dict[str, object]:
    try:
        value = json.loads(body, parse_constant=lambda name: None)  # NaN and Infinity are not JSON
        json.dumps(value)
        return value if isinstance(value, dict) else {"json": value}
    except (ValueError, RecursionError) as error:
        return {"json_note": f"left out: not JSON ({type(error).__name__})"}


def row_metadata(values: Mapping[str, object]) -> str | None:
    """The columns of a table's row as a JSON object, without bytes and nulls; None where nothing is left."""
    kept = dict[str, object]()
    for name, value in values.items():
        if type(value) is str:
            if len(value) > MAX_METADATA:
                return LEFT_OUT
            kept[name] = value
        elif value is not None and not isinstance(value, bytes):
            kept[name] = value if type(value) is int else _plain(value)
    text = _JSON.encode(kept) if kept else None
    return LEFT_OUT if text and len(text) > MAX_METADATA else text


def _plain(value: object) -> object:
    """`value` with null for what JSON has no form of: bytes and numbers that are not finite."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)) else value

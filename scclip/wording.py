"""Numbers with their nouns, as sentences and pages have them: `counted(1, "unit")` is `1 unit`.

This needs nothing, so that every part can say it.
"""


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 unit`, `2,000 classes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"

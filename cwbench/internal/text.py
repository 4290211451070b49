"""Text for tables: names that cannot do harm, and shares in percent."""

import re


def plain(cell: object, style: str) -> str:
    """Return text that cannot steer a terminal or break out of a Markdown cell: names come from whoever wrote them."""
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(cell))
    return re.sub(r"([\\`*_<>|]|(?<=\])\()", r"\\\1", text) if style == "markdown" else text


def percent(share: float | None) -> str:
    """Return a share of 1 in percent with one decimal, and a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"

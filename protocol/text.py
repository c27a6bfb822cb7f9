"""Text from peers, cleaned where a message is made or read: one line that can neither steer a terminal nor forge a log.

Control characters (C0, C1, ESC), marks of direction, line separators and surrogates (Unicode's general categories C
and Z, as `str.isprintable`) are replaced; so a word is never turned round, and no second line begins. Brackets are
text, as are other marks that some program reads as markup: whoever shows text shows it as such. `fednet.text` is the
same for what comes from files, since protocol and fednet do not import each other; a test compares the two.
"""

from __future__ import annotations

JOINERS = "\u200c\u200d"
"""Characters of width zero that scripts and emoji need."""
REPLACEMENT = "\ufffd"
SEEN = rf"^(?:[ {JOINERS}]|[^\p{{C}}\p{{Z}}])*$"
"""What `plain_text` leaves as it is, for names, which are refused instead: a regular expression of pydantic's."""


def plain_text(text: str) -> str:
    """The text in one line: runs of white space, newlines too, are one space each; all else unseen is replaced."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in JOINERS else REPLACEMENT for one in " ".join(text.split()))

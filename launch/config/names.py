"""Names of runs as people write them, and the slug by which the wire and the file system know them. Pure.

A name is normalised (NFC, Unicode Standard Annex 15). Its slug is what is left of it in a-z 0-9 _ -: compatibility
forms, accents and capitals are folded, and where letters are lost a part of the name's hash takes their place. Names
that fold to one slug collide, which whoever uses the slug must refuse; letters of other scripts that look alike do not
collide, and are not told apart either.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

MAX_CHARACTERS = 64
_HASH_CHARACTERS = 8
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def written_name(text: str) -> str:
    """A name in its normal form.

    Raises:
        ValueError: it is empty or too long, begins or ends with a space or a dot, or holds a character that is not
            seen (control characters, marks of direction and of width zero) or that separates paths.
    """
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= MAX_CHARACTERS:
        raise ValueError(f"expected a name of 1 to {MAX_CHARACTERS} characters, got {len(name)}")
    if name != name.strip(" ."):
        raise ValueError("a name neither begins nor ends with a space or a dot")
    for character in name:
        if character in "/\\" or (character != " " and unicodedata.category(character)[0] in "CZ"):
            label = unicodedata.name(character, f"U+{ord(character):04X}")
            shown = repr(character) if character in "/\\" else label
            raise ValueError(
                f"expected a name without {shown}: no separators of paths, and nothing that cannot be seen"
            )
    return name


def slug(name: str) -> str:
    """What stands for a name where only a-z 0-9 _ - may stand: at most 64 characters; a plain name as it is."""
    if _PLAIN.fullmatch(name):
        return name
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", name).casefold())
    bare = "".join(character for character in folded if not unicodedata.combining(character))
    plain = re.sub(r"[^a-z0-9_]+", "-", bare).strip("-_")
    if len(plain) <= MAX_CHARACTERS and plain and not any(each.isalnum() and not each.isascii() for each in bare):
        return plain
    lost = hashlib.sha256(bare.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{plain[: MAX_CHARACTERS - _HASH_CHARACTERS - 1].strip('-_')}-{lost}".lstrip("-")

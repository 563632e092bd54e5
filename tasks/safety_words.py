"""Finds words of a list in a prompt, also where somebody has tried to hide them."""

from __future__ import annotations

import re
import unicodedata

WORDS = (
    *("nude", "nudes", "nudity", "naked", "nsfw", "porn", "porno", "pornographic", "pornography", "hentai"),
    *("sex", "sexual", "erotic", "genitals", "penis", "vagina", "nipple", "nipples", "orgasm", "masturbating"),
    *("gore", "gory", "beheaded", "beheading", "decapitated", "mutilated", "dismembered", "corpse", "corpses"),
)
"""They must stand by themselves: 'Essex' is a county."""
STEMS = ("누드", "나체", "알몸", "포르노", "야동", "야설", "섹스", "참수", "시체")
"""They may be part of a longer word, because in Korean other words are joined to them."""
LOOKALIKES = str.maketrans("013457@$!|", "oieastasii")
TWINS = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u043a\u043c\u0442\u0501\u04bb\u0458"
    "\u03b1\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
    "aeopcyxiskmtdhjaeikvoptux",
)
"""Cyrillic and Greek letters that look like Latin ones."""
DROPPED = {"Mn", "Cf", "Me"}  # accents, invisible characters, circles around letters
WORD = re.compile(r"[^\W_]+")
REPEATED = re.compile(r"(.)\1+")


def find_banned(prompt: str) -> str | None:
    """Return the first word of the list that a prompt has, as the list spells it."""
    plain = _plain(prompt)
    words = WORD.findall(plain)
    spelled = "".join(word if len(word) == 1 else " " for word in words)  # n u d e
    found = {*words, *WORD.findall(plain.translate(LOOKALIKES))}
    for banned, pattern in BANNED_WORDS:
        if pattern in found or pattern in spelled:
            return banned
    return next((banned for banned, pattern in BANNED_STEMS if any(pattern in word for word in words)), None)


def _plain(text: str) -> str:
    """Return text without capitals, accents, invisible characters, repeated letters and twins from other scripts."""
    apart = unicodedata.normalize("NFKD", text.casefold()).translate(TWINS)
    return REPEATED.sub(r"\1", "".join(one for one in apart if unicodedata.category(one) not in DROPPED))


BANNED_WORDS = [(word, _plain(word)) for word in WORDS]
BANNED_STEMS = [(stem, _plain(stem)) for stem in STEMS]

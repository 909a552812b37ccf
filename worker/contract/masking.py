"""Takes keys out of text that goes to a log or a user: providers quote them, and addresses hold them."""

import re
from collections.abc import Iterable

HIDDEN = "***"

READ = 8000
"""Characters of a text that are looked at; what follows is cut off."""

_KEYS = re.compile(
    r"""
      \b(?:sk|rk|pk|gsk|xai|pplx|nvapi|hf|r8|gh[oprsu]|github_pat|glpat|xox[a-z]|fw|csk|tgp)[-_][\w.*-]+
    | \bAIza[\w*-]+ | \bAKIA[A-Z0-9*]+                                        # Google's, Amazon's
    | \beyJ[\w-]{8,}(?:\.[\w-]*)*                                             # a token that is signed JSON
    """,
    re.VERBOSE,
)
_NAMED = re.compile(
    r"""
      (?P<before>\b(?:bearer|basic)(?::?\s+|=))(?!auth|token|key|scheme|tier|plan|is\b|was\b)[^\s"',;]+
    | (?P<field>\b(?:x-)?(?:(?:api|access|secret|subscription|client|auth)[-_ ]?(?:key|token|secret)(?:\s+provided)?
        |password|token(?=["']|\s*=))["']?\s*[:=]\s*["']?)[^\s"',;}&]+
    | (?P<quoted>\b(?:api|access)[-_ ]?(?:key|token)\s+["'`])[^\s"'`]{6,}
    | (?P<loose>\b(?:api[-_ ]?key|token)["'`]?[:=\s]\s{0,3}["'`]?)(?=[\w.-]{0,99}\d)(?=[\w.-]{0,99}[a-z])[\w.-]{10,}
    | (?P<header>\bauthorization["']?\s*[:=]\s*["']?(?:(?:token|(?:api-?)?key|digest)\s+)?)(?!bearer|basic)[^\s"',;}]+
    | (?P<query>[?&](?:key|token|sig|signature|secret|password|code|access_token|api[-_]?key)=)[^\s"'&\#]+
    | (?P<url>\b[a-z][a-z0-9+.-]{1,15}://)[^\s/@"'?\#]+@
    """,
    re.VERBOSE | re.IGNORECASE,
)


FRAGMENT = 8
"""Characters of a secret that are hidden also without the rest of it: quotes and line ends can split it."""

_WORD = re.compile(r"""[^\s"'=:,]+""")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` without ``secrets``, and without what looks like a key, a token or a URL's credentials."""
    text = text[:READ]
    if HIDDEN in text:  # a provider masks a key in part
        text = _WORD.sub(lambda word: HIDDEN if HIDDEN in word[0] else word[0], text)
    for secret in secrets:
        text = _without(text.replace(secret, HIDDEN), secret)
    return _KEYS.sub(HIDDEN, _NAMED.sub(_hide, text))


def _without(text: str, secret: str) -> str:
    pieces = (word[at : at + FRAGMENT] for word in secret.split() for at in range(len(word) - FRAGMENT + 1))
    parts = set(pieces)
    marked = list(text)
    for at in range(len(text) - FRAGMENT + 1 if parts else 0):
        if text[at : at + FRAGMENT] in parts:
            marked[at : at + FRAGMENT] = "\0" * FRAGMENT
    return re.sub("\0+", HIDDEN, "".join(marked))


def _hide(found: re.Match[str]) -> str:
    kept = next(part for part in found.groups() if part is not None)
    return f"{kept}{HIDDEN}{'@' if found.lastgroup == 'url' else ''}"

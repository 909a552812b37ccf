"""The fleet's tokens: one secret, or a file of which members send the first line and the host accepts every line.

A line is a token that is good for every role, or a role, a space and a token that only members of that role may show.
"""

import hmac
from pathlib import Path
from typing import NamedTuple, Self

from fleet import logs
from fleet.process import files

log = logs.logger(__name__)

SHORTEST = 16
"""Characters that a token has at least: beyond guessing over a network."""


MEMBERS = ("gateway", "worker")
OTHERS = "other"
"""The role of AutoGen's own members."""
ROLES = (*MEMBERS, OTHERS)
"""The roles that a token can name."""


class Token(NamedTuple):
    """A token and the role that it is good for; None for any."""

    secret: str
    role: str | None = None

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line of a file. Raises ``ValueError`` with the rule that it breaks."""
        role, blank, secret = line.rpartition(" ")
        if blank and role not in ROLES:
            raise ValueError(
                f"a line must be a token without spaces, or one of {', '.join(ROLES)}, a space and a token"
            )
        if len(secret) < SHORTEST or not secret.isprintable():
            raise ValueError(f"a token must be {SHORTEST} or more printable characters without spaces")
        if secret.startswith("#"):
            raise ValueError("a token must not begin with #, as comments do; the file holds tokens only")
        return cls(secret, role or None)

    def __str__(self) -> str:
        return f"{self.role} {self.secret}" if self.role else self.secret


class TokenError(ValueError):
    """The file holds no usable token; the text names the file."""


class Tokens:
    """Reads the file again whenever it changed, so that a token can be replaced while the fleet runs.

    Raises :class:`TokenError` at construction; a file that becomes unusable later is reported and changes nothing.
    """

    def __init__(self, token: str | None, file: Path | None) -> None:
        self._file = file
        self._tokens = [Token(token)] if token else []
        if file is not None:
            self._changes = files.Changes(lambda: self._stamp_of(file))
            self._tokens = self._read(file)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def own(self) -> str | None:
        self._refresh()
        return self._tokens[0].secret if self._tokens else None

    def all(self) -> list[Token]:
        """Every token, the newest first."""
        self._refresh()
        return list(self._tokens)

    def accepts(self, header: str | bytes) -> bool:
        """Whether an ``authorization`` header carries one of them. Takes as long for a wrong one as for a right one."""
        return bool(self._shown(header))

    def roles(self, header: str | bytes) -> frozenset[str]:
        shown = self._shown(header)
        return frozenset(ROLES if any(token.role is None for token in shown) else filter(None, (t.role for t in shown)))

    def name_roles(self) -> bool:
        self._refresh()
        return all(token.role is not None for token in self._tokens)

    def _shown(self, header: str | bytes) -> list[Token]:
        self._refresh()
        given = header.encode() if isinstance(header, str) else header
        matches = [hmac.compare_digest(given, f"Bearer {token.secret}".encode()) for token in self._tokens]
        return [token for token, same in zip(self._tokens, matches, strict=True) if same]

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            stamp = self._changes.found()
            if stamp is None:
                return
            self._tokens = self._read(self._file)
        except TokenError as error:
            if self._changes.refuse(str(error)):
                log.warning("a changed token file cannot be used, going on with the old one", reason=str(error))
        else:
            self._changes.accept(stamp)
            log.info("using a changed token file")

    def _stamp_of(self, file: Path) -> files.Stamp:
        try:
            return files.stamp(file)
        except OSError as error:
            raise TokenError(f"{file}: {files.reason(file, error)}") from None

    def _read(self, file: Path) -> list[Token]:
        try:
            lines = files.text(file, "ascii").split("\n")
        except OSError as error:
            raise TokenError(f"{file}: {files.reason(file, error)}") from None
        except UnicodeDecodeError:
            raise TokenError(f"{file}: a token must be printable ASCII") from None
        try:
            tokens = [Token.parse(line.strip()) for line in lines if line.strip()]
        except ValueError as error:
            raise TokenError(f"{file}: {error}") from None
        if not tokens:
            raise TokenError(f"{file}: holds no token")
        return tokens

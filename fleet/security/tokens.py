"""The fleet's token: one secret, or a file whose first line members send and of which the host takes every line."""

import hmac
from pathlib import Path

from fleet import files, logs

log = logs.logger(__name__)

SHORTEST = 16
"""Characters that a token has at least: beyond guessing over a network."""


class TokenError(ValueError):
    """The file holds no usable token; the text names the file."""


class Tokens:
    """Reads the file again whenever it changed, so that a token can be replaced while the fleet runs.

    Raises :class:`TokenError` at construction; a file that becomes unusable later is reported and changes nothing.
    """

    def __init__(self, token: str | None, file: Path | None) -> None:
        self._file = file
        self._stamp: files.Stamp | None = None
        self._tokens = [token] if token else []
        self._reported = ""
        if file is not None:
            self._stamp, self._tokens = self._read(file)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._tokens)

    def own(self) -> str | None:
        """What this member sends."""
        self._refresh()
        return self._tokens[0] if self._tokens else None

    def all(self) -> list[str]:
        """Every token, the newest first."""
        self._refresh()
        return list(self._tokens)

    def accepts(self, header: str | bytes) -> bool:
        """Whether an ``authorization`` header carries one of them. Takes as long for a wrong one as for a right one."""
        self._refresh()
        given = header.encode() if isinstance(header, str) else header
        return sum(hmac.compare_digest(given, f"Bearer {token}".encode()) for token in self._tokens) > 0

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            if self._stamp != self._look(self._file):
                self._stamp, self._tokens = self._read(self._file)
                self._reported = ""
                log.info("took up a changed token file")
        except TokenError as error:
            if str(error) != self._reported:
                self._reported = str(error)
                log.warning("a changed token file cannot be used, going on with the old one", reason=str(error))

    def _look(self, file: Path) -> files.Stamp:
        try:
            return files.stamp(file)
        except OSError as error:
            raise TokenError(f"{file}: {(error.strerror or '').lower()}") from None

    def _read(self, file: Path) -> tuple[files.Stamp, list[str]]:
        stamp = self._look(file)
        try:
            tokens = file.read_text("ascii").split("\n")
        except OSError as error:
            raise TokenError(f"{file}: {(error.strerror or '').lower()}") from None
        except UnicodeDecodeError:
            raise TokenError(f"{file}: a token must be printable ASCII") from None
        tokens = [token.strip() for token in tokens if token.strip()]
        if not tokens:
            raise TokenError(f"{file}: holds no token")
        if any(len(token) < SHORTEST or not token.isprintable() or " " in token for token in tokens):
            raise TokenError(f"{file}: a token must be {SHORTEST} or more printable characters without spaces")
        if any(token.startswith("#") for token in tokens):
            raise TokenError(f"{file}: a token must not begin with #, as comments do; the file holds tokens only")
        return stamp, tokens

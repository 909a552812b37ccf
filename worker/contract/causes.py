"""What is wrong with a connection, in words that name no host: they are for users too."""

import contextlib
import os
import socket
import ssl

import httpx2

CLOSED = "the connection was closed"

_BROKE = frozenset({"ReadError", "WriteError", "CloseError", "ConnectionResetError", "BrokenPipeError"})
"""The HTTP libraries' and Python's names for a connection that ended after it was made."""

_TIMEOUTS = {
    "ConnectTimeout": "no connection was made in time",
    "ReadTimeout": "nothing was received in time",
    "WriteTimeout": "the request was not taken in time",
}


def causes(error: BaseException) -> list[BaseException]:
    """``error``, and what it was raised from."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def broke(error: BaseException) -> bool:
    """Whether there was a connection, so that the model may have got the request."""
    names = {type(cause).__name__ for cause in causes(error)}
    return "ConnectError" not in names and not names.isdisjoint(_BROKE)


def host(error: BaseException) -> str:
    """Whom the request was for at which it happened; nothing where that is not known. For the log only."""
    for cause in causes(error):
        with contextlib.suppress(RuntimeError):  # httpx2's answer where there is none
            url = getattr(getattr(cause, "request", None), "url", None)
            if isinstance(url, httpx2.URL):
                return url.netloc.decode("ascii", "replace")
    return ""


def in_words(error: BaseException) -> str:
    """Why there was no answer; nothing where it is not known. The innermost cause is the most exact."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return next(filter(None, map(_words, reversed(chain))), "")


def _words(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"TLS: its certificate is not trusted ({_detail(error, 'verify_message')})"
        case ssl.SSLError():
            return f"TLS: {_detail(error, 'reason')}"
        case socket.gaierror():
            return "its host name was not found"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError() | httpx2.ReadError():
            return CLOSED
        case TimeoutError() if error.errno is None:
            return ""
        case OSError() if error.errno:
            return os.strerror(error.errno).lower()
        case httpx2.RemoteProtocolError():
            return "what it sent is no HTTP/1.1"
        case httpx2.UnsupportedProtocol():
            return "its base_url must begin with http:// or https://"
        case _:
            return _TIMEOUTS.get(type(error).__name__, "")


def _detail(error: ssl.SSLError, name: str) -> str:
    """One of OpenSSL's texts, up to the comma after which it names the host."""
    text: str = getattr(error, name, None) or "the handshake failed"
    return text.partition(",")[0].replace("_", " ").lower()

"""A connection's fault in words."""

import errno
import itertools
import socket
import ssl

import httpx2
import openai
import pytest

from worker.contract.causes import host, in_words


def chain(*errors: Exception) -> Exception:
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("x")
    error.verify_message = "Hostname mismatch, certificate is not valid for 'inner.example'."
    return error


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "its host name was not found"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "('10.0.0.1', 1)"), "connection refused"),
        (ConnectionResetError(), "the connection was closed"),
        (OSError(errno.ENETUNREACH, "x"), "network is unreachable"),
        (untrusted(), "TLS: its certificate is not trusted (hostname mismatch)"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), "TLS: the handshake failed"),
        (httpx2.ConnectTimeout("10.0.0.1"), "no connection was made in time"),
        (httpx2.ReadTimeout("x"), "nothing was received in time"),
        (httpx2.UnsupportedProtocol("x"), "its base_url must begin with http:// or https://"),
        (ValueError("x"), ""),
    ],
)
def test_the_innermost_cause_is_told_without_a_host(cause: Exception, words: str) -> None:
    request = httpx2.Request("POST", "http://127.0.0.1/v1")
    assert in_words(cause) == words
    assert in_words(chain(openai.APIConnectionError(request=request), httpx2.ConnectError("10.0.0.1"), cause)) == words


def test_a_cause_that_was_hidden_counts_too() -> None:
    error = ConnectionError("no server")
    error.__context__ = ConnectionRefusedError(errno.ECONNREFUSED, "x")
    error.__suppress_context__ = True  # as `raise … from None` does
    assert in_words(error) == "connection refused"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (
            openai.APIConnectionError(request=httpx2.Request("POST", "https://user:secret@a.example:81/v1")),
            "a.example:81",
        ),
        (httpx2.ConnectError("x", request=httpx2.Request("POST", "http://[::1]:80/")), "[::1]"),
        (
            chain(RuntimeError("x"), httpx2.ConnectError("x", request=httpx2.Request("GET", "http://b.example/"))),
            "b.example",
        ),
        (httpx2.ConnectError("x"), ""),
        (ValueError("x"), ""),
    ],
)
def test_it_is_known_for_whom_the_request_was(error: Exception, name: str) -> None:
    assert host(error) == name

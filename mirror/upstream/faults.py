"""Faults: aiohttp's exceptions and what takes too long, in the words that clients are told."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
from aiohttp import http_exceptions as http
from yarl import URL

from mirror.oci.errors import (
    HostUnreachable,
    UpstreamFailure,
    UpstreamMisbehaved,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)

PROXY_LOGIN = "the proxy wants a login, or another one (407)"
_LONGEST = 200  # characters of a reason
_UNNUMBERED: dict[type[OSError], str] = {  # asyncio's own, which have no number
    TimeoutError: "it takes too long",
    ConnectionAbortedError: "it takes too long",  # a handshake
    ConnectionResetError: "the connection was lost",
}
_BREACHES: tuple[tuple[type[Exception], str], ...] = (  # what is of a kind before its kind
    (http.LineTooLong, "a line of its head is too long"),
    (http.InvalidHeader, "a line of its head is no header"),
    (http.BadHttpMethod, "its method is none"),
    (http.BadStatusLine, "its first line is none of HTTP's"),
    (http.InvalidURLError, "its target is no URL"),
    (aiohttp.InvalidURL, "a URL of it is none"),
    (http.TransferEncodingError, "its body is not in chunks, as its head says"),
    (http.ContentLengthError, "its body is not as long as its head says"),
)
_OTHER_BREACH = "its head cannot be read"


@contextmanager
def named_faults(url: URL) -> Iterator[None]:
    """Turn aiohttp's exceptions, once, at this edge, into what clients are told."""
    try:
        yield
    except UpstreamFailure:
        raise
    except (TimeoutError, aiohttp.ServerTimeoutError) as error:
        raise UpstreamTimeout(f"upstream {url.host} does not answer") from error
    except aiohttp.ClientHttpProxyError as error:
        says = PROXY_LOGIN if error.status == 407 else f"the proxy answers {error.status}"
        raise HostUnreachable(f"cannot reach upstream {url.host}: {says}") from error
    except aiohttp.ClientPayloadError as error:
        raise UpstreamUnavailable(f"upstream {url.host} broke off") from error
    except aiohttp.ClientConnectorError as error:
        says = _reason(error)
        raise HostUnreachable(f"cannot reach upstream {url.host}: {says}") from error
    except (aiohttp.ClientConnectionError, OSError) as error:
        says = _reason(error)
        raise UpstreamUnreachable(f"cannot reach upstream {url.host}: {says}") from error
    except (aiohttp.ClientError, ValueError) as error:
        # Not its text: that has the URL, and a redirect's URL has a signature.
        says = breach(error.__cause__ or error)
        raise UpstreamMisbehaved(f"upstream {url.host} does not speak HTTP: {says}") from error


def breach(error: BaseException) -> str:
    """Say which rule of HTTP was broken, of what aiohttp could not read."""
    return next((words for kind, words in _BREACHES if isinstance(error, kind)), _OTHER_BREACH)


def _reason(error: aiohttp.ClientConnectionError | OSError) -> str:
    """Say why in our own words or the system's: an exception's text may hold what upstream sent.

    aiohttp's for a connection that ends within the headers is these headers, tokens and all.
    """
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it hung up"
    cause: Exception = error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(cause, OSError):
        of_tls = isinstance(cause, ssl.SSLError)
        known = isinstance(cause, ssl.SSLCertVerificationError)
        return ("TLS fails: " * (of_tls and not known) + of_system(cause))[:_LONGEST]
    return "the connection is closed"


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message.partition(",")[0]  # a name that it is not for comes behind
        return f"certificate verify failed: {what}"
    return (error.reason or "no reason is given").replace("_", " ").lower()


def of_system(error: OSError) -> str:
    """Name an error by its number, or as the resolver does, whose numbers are its own."""
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or _UNNUMBERED.get(type(error), "no reason is given")


async def read_capped(
    response: aiohttp.ClientResponse,
    cap: int,
    what: str,
    error: type[UpstreamMisbehaved] = UpstreamMisbehaved,
) -> bytes:
    """Read a whole body of at most `cap` bytes; raises `error` beyond it."""
    with named_faults(response.url):
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > cap:
                response.close()
                raise error(f"upstream's {what} is larger than {cap} bytes")
        return bytes(body)


@asynccontextmanager
async def deadline(seconds: float, url: URL) -> AsyncIterator[None]:
    """Bound a question and its retries as a whole; raises UpstreamTimeout."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise UpstreamTimeout(f"upstream {url.host} does not answer") from error

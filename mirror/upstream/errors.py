"""Errors of upstream: aiohttp's exceptions and timeouts, with messages for clients."""

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

PROXY_LOGIN = "the proxy requires a valid login (407)"
_LONGEST = 200  # characters of a reason
_UNNUMBERED: dict[type[OSError], str] = {  # asyncio's exceptions, without a number
    TimeoutError: "it takes too long",
    ConnectionAbortedError: "it takes too long",  # of a TLS handshake
    ConnectionResetError: "the connection was lost",
}
_BREACHES: tuple[tuple[type[Exception], str], ...] = (  # a subclass before its base class
    (http.LineTooLong, "a header line is too long"),
    (http.InvalidHeader, "a header line is invalid"),
    (http.BadHttpMethod, "the method is invalid"),
    (http.BadStatusLine, "the first line is not HTTP"),
    (http.InvalidURLError, "the target is not a URL"),
    (aiohttp.InvalidURL, "a URL in it is invalid"),
    (http.TransferEncodingError, "the body is not chunked, as announced"),
    (http.ContentLengthError, "the body is not as long as announced"),
)
_OTHER_BREACH = "the headers cannot be parsed"


@contextmanager
def named_faults(url: URL) -> Iterator[None]:
    """Translate aiohttp's exceptions into errors for clients; used at this edge only."""
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
        raise UpstreamUnavailable(f"upstream {url.host} broke off its response") from error
    except aiohttp.ClientConnectorError as error:
        says = _reason(error)
        raise HostUnreachable(f"cannot reach upstream {url.host}: {says}") from error
    except (aiohttp.ClientConnectionError, OSError) as error:
        says = _reason(error)
        raise UpstreamUnreachable(f"cannot reach upstream {url.host}: {says}") from error
    except (aiohttp.ClientError, ValueError) as error:
        # Not the exception's text: it has the URL, and a redirect's URL has a signature.
        says = breach(error.__cause__ or error)
        raise UpstreamMisbehaved(f"upstream {url.host} sent invalid HTTP: {says}") from error


def breach(error: BaseException) -> str:
    """Name the broken rule of HTTP, from aiohttp's exception."""
    return next((words for kind, words in _BREACHES if isinstance(error, kind)), _OTHER_BREACH)


def _reason(error: aiohttp.ClientConnectionError | OSError) -> str:
    """Name the cause in fixed words or the system's: an exception's text may quote upstream.

    aiohttp's text for a connection that ends within the headers is these headers, tokens included.
    """
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    cause: Exception = error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(cause, OSError):
        of_tls = isinstance(cause, ssl.SSLError)
        known = isinstance(cause, ssl.SSLCertVerificationError)
        return ("TLS failed: " * (of_tls and not known) + of_system(cause))[:_LONGEST]
    return "the connection is closed"


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = error.verify_message.partition(",")[0]  # a mismatched name follows the comma
        return f"certificate verify failed: {what}"
    return (error.reason or "no reason given").replace("_", " ").lower()


def of_system(error: OSError) -> str:
    """Name an error by its number, or in the resolver's words: its numbers differ."""
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or _UNNUMBERED.get(type(error), "no reason given")


async def read_capped(
    response: aiohttp.ClientResponse,
    cap: int,
    what: str,
    error: type[UpstreamMisbehaved] = UpstreamMisbehaved,
) -> bytes:
    """Read a whole body of at most `cap` bytes; raises `error` beyond that."""
    with named_faults(response.url):
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > cap:
                response.close()
                raise error(f"upstream's {what} is larger than {cap} bytes")
        return bytes(body)


@asynccontextmanager
async def deadline(seconds: float | None, url: URL | None = None) -> AsyncIterator[None]:
    """Bound the wait for upstream, None for no bound; raises UpstreamTimeout.

    `url` is named in the error if the wait is for one request.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        late = "upstream takes too long"
        raise UpstreamTimeout(f"upstream {url.host} does not answer" if url else late) from error

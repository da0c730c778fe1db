"""Requests to an OpenAI-compatible endpoint: keys, waiting, and what it says when it refuses."""

from __future__ import annotations

import email.utils
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from nestvec.errors import EndpointError
from nestvec.extras import require

__all__ = ["KEY_VARIABLES", "Endpoint", "EndpointRefusalError"]

KEY_VARIABLES = ("NESTVEC_API_KEY", "OPENAI_API_KEY")
"""Environment variables that a key is taken from, the first that is set."""

_ASKED_AGAIN = {408, 409, 425, 429}  # and 500 and above
_MAY_BE_TOO_MUCH, _SAY_ANYTHING = {400, 413, 422}, {200, 500}
_NAMES_OF_SENTENCES = ("error", "message", "detail", "msg", "error_msg", "errors")
_NEVER_ASKED_AGAIN = {"insufficient_quota", "billing_hard_limit_reached", "invalid_api_key"}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_MOST_CHARACTERS = 500
_ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{80,}|(?:[A-Za-z0-9+/=_-]{40,} ){2,}[A-Za-z0-9+/=_-]*")  # base64 and the like
_TOO_MANY = re.compile(
    r"\b(?:too (?:many|large|long)|exceed\w*|(?:larger|greater|more) than|at most|maximum)\b", re.IGNORECASE
)
_USER = re.compile(r"(?<=//)[^/@]*@")


class EndpointRefusalError(EndpointError):
    """An endpoint says no to a request.

    Attributes:
        may_be_too_much: Whether fewer texts may be taken.
    """

    def __init__(self, message: str, *, may_be_too_much: bool) -> None:
        """Keep what it answered."""
        super().__init__(message)
        self.may_be_too_much = may_be_too_much


class Endpoint:
    """An address that answers POST requests with JSON."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        retries: int = 8,
        timeout_s: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Name it; nothing is sent yet.

        Args:
            base_url: Up to and with the version, such as `http://localhost:8000/v1`.
            api_key: Sent as a bearer token, and never shown; None takes one of `KEY_VARIABLES`, or none.
            retries: How often a request is sent again while the endpoint is busy or cannot be reached.
            timeout_s: Longest wait for an answer, and longest that the endpoint may ask to wait, in seconds.
            sleep: What waits.
        """
        self._address = base_url.rstrip("/")
        self.base_url = _USER.sub("", self._address)
        """The address as it is shown and known: without a user and password."""
        self._api_key = api_key
        self._retries = retries
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._was_reached = False

    def __repr__(self) -> str:
        """Show the address, and no key."""
        return f"Endpoint({self.base_url!r})"

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request, and again as long as the endpoint asks to wait.

        Args:
            path: Behind the address, such as `embeddings`.
            body: JSON values by name.

        Returns:
            The JSON that it answers.

        Raises:
            EndpointError: It cannot be reached, or is busy for longer than is allowed.
            EndpointRefusalError: It says no.
            MissingExtraError: httpx2 is not installed.
        """
        httpx = require("httpx2", extra="remote")
        attempt = 0
        while True:
            try:
                answer = self._client.post(f"{self._address}/{path}", json=body)
            except httpx.TransportError as error:
                cause = self._safe(str(error) or type(error).__name__)
                # One that was never reached is not there; one that was is busy, or started anew.
                answered = (httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError, httpx.WriteError)
                self._was_reached |= isinstance(error, (*answered, httpx.RemoteProtocolError))
                if not self._was_reached or attempt >= self._retries:
                    raise EndpointError(
                        f"Cannot reach {self.base_url}{_times(attempt)}: {cause} Check the address and that it runs."
                    ) from error
                self._sleep(_backoff(attempt))
                attempt += 1
                continue
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                raise EndpointError(f"Cannot ask {self.base_url}: {self._safe(str(error))}") from error
            self._was_reached = True
            found, sentence, code = _read(answer)
            if answer.status_code < 400 and sentence is None:
                return found
            said = self._safe(sentence or "nothing")
            status = answer.status_code
            too_much = status in _MAY_BE_TOO_MUCH or (status in _SAY_ANYTHING and _TOO_MANY.search(said) is not None)
            if too_much or not _is_busy(answer, code) or attempt >= self._retries:
                message = f"{self.base_url} refused with status {status}{_times(attempt)}. It says: {said}"
                raise EndpointRefusalError(message, may_be_too_much=too_much)
            self._wait(answer, attempt, said)
            attempt += 1

    def _wait(self, answer: Any, attempt: int, said: str) -> None:
        asked = _asked_wait(answer.headers)
        if asked is not None and asked > self._timeout_s:
            raise EndpointError(
                f"{self.base_url} asks to wait {asked:,.0f} s, longer than the {self._timeout_s:,.0f} s that are "
                f"allowed (--endpoint-timeout). It says: {said}"
            )
        self._sleep(_backoff(attempt) if asked is None else asked)

    @cached_property
    def _client(self) -> Any:
        httpx = require("httpx2", extra="remote")
        key = self._api_key or next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
        headers = {}
        if key is not None and key.strip():
            if not (key.strip().isascii() and key.strip().isprintable()):
                raise EndpointError(
                    "The key holds a line end, or characters that no key has. It is not shown here: check "
                    f"{' or '.join(KEY_VARIABLES)}, or the file that holds it."
                )
            headers = {"Authorization": f"Bearer {key.strip()}"}
        self._api_key = key
        return httpx.Client(headers=headers, timeout=self._timeout_s, follow_redirects=True)

    def _safe(self, text: str) -> str:
        """What others say, on one line, without the key, and without vectors as text."""
        flat = " ".join(text.split())
        if self._api_key and self._api_key.strip():
            flat = flat.replace(self._api_key.strip(), "(the key)")
        flat = _ENCODED.sub(lambda found: f"({len(found[0]):,} characters)", flat)
        flat = flat if len(flat) <= _MOST_CHARACTERS else f"{flat[:_MOST_CHARACTERS]} ..."
        return flat if flat.endswith((".", "!", "?", "...")) else f"{flat}."


def _times(attempt: int) -> str:
    return f" ({attempt + 1} times; --endpoint-retries allows more)" if attempt else ""


def _read(answer: Any) -> tuple[Any, str | None, str | None]:
    """The JSON of an answer; what it says and its code, where it is an error, whatever its status."""
    try:
        found = answer.json()
    except ValueError:
        text = re.sub(r"<[^>]+>", " ", answer.text)
        return None, f"something else than JSON: {text.strip() or '(nothing)'}", None
    if answer.status_code < 400 and not _is_error(found):
        return found, None, None
    error = found.get("error") if isinstance(found, dict) else None
    code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else None
    return found, _sentence(found), code


def _is_error(found: Any) -> bool:
    """Whether an answer says what went wrong, in the forms that servers have for it, whatever its status."""
    if not isinstance(found, dict) or "data" in found:
        return isinstance(found, dict) and bool(found.get("error"))
    return found.get("object") == "error" or any(found.get(name) for name in _NAMES_OF_SENTENCES)


def _sentence(found: Any) -> str:
    """What an error object says."""
    if isinstance(found, str):
        return found
    if isinstance(found, dict):
        for name in _NAMES_OF_SENTENCES:
            if found.get(name):
                return _sentence(found[name])
    if isinstance(found, list) and found:
        return "; ".join(_sentence(item) for item in found[:3])
    return json.dumps(found)


def _is_busy(answer: Any, code: str | None) -> bool:
    told = answer.headers.get("x-should-retry", "").lower()
    if told in ("true", "false"):
        return bool(told == "true")
    status = answer.status_code
    return (status in _ASKED_AGAIN or status >= 500) and status != 501 and code not in _NEVER_ASKED_AGAIN


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """How long the endpoint asks to wait, in seconds; None where it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    try:
        moment = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def _backoff(attempt: int) -> float:
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**attempt) * random.uniform(0.75, 1.0)

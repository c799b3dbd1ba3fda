"""Who is logged in: a signed cookie says it, and the passwords are the key.

So all processes know the same sessions, and a new password ends them. Nothing is stored.
"""

import hashlib
import hmac
import json
import time
from collections import deque
from dataclasses import asdict, dataclass
from functools import cache

from app.inspector.settings import settings

SESSION_SECONDS = 8 * 3600
WINDOW_SECONDS = 60  # in which so many passwords may be wrong:
MAX_FAILURES_OF_ONE = 5
MAX_FAILURES = 50


@dataclass(frozen=True)
class Session:
    """Somebody who knows a password.

    Args:
        name: What they call themselves, for the record of replays.
        expires_at: In seconds since the epoch.
    """

    name: str
    may_replay: bool
    expires_at: float


def log_in(name: str, password: str) -> Session | None:
    """Return a session, if it is one of the passwords."""
    may_replay = _is_password(password, settings.password)
    may_read = _is_password(password, settings.read_password)
    if not (may_replay or may_read):
        return None
    return Session(name, may_replay, time.time() + SESSION_SECONDS)


def _is_password(given: str, password: str | None) -> bool:
    return hmac.compare_digest(given.encode(), (password or "").encode()) and bool(password)


def to_cookie(session: Session) -> str:
    """Return a session as text that only this service can make."""
    text = json.dumps(asdict(session)).encode().hex()
    return f"{text}.{_sign('session', text)}"


def from_cookie(cookie: str) -> Session | None:
    """Return the session of a cookie, unless it is not ours, or has expired."""
    text, _, signature = cookie.partition(".")
    if not _is_signature(signature, "session", text):
        return None
    session = Session(**json.loads(bytes.fromhex(text)))
    return session if session.expires_at > time.time() else None


def csrf_token(cookie: str) -> str:
    """Return what a form has to hold, so that no other site can send it."""
    return _sign("csrf", cookie)


def is_csrf_token(token: str, cookie: str) -> bool:
    """Tell whether a form was made for this session."""
    return _is_signature(token, "csrf", cookie)


def _sign(purpose: str, text: str) -> str:
    return hmac.new(signing_key(), f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def _is_signature(given: str, purpose: str, text: str) -> bool:
    return hmac.compare_digest(given.encode(), _sign(purpose, text).encode())


def signing_key() -> bytes:
    """Return what sessions are signed with."""
    return _derive(settings.password or "", settings.read_password or "")


@cache
def _derive(*passwords: str) -> bytes:
    # Slow, because who knows one password could guess the other one from a cookie.
    secret = json.dumps(passwords).encode()
    return hashlib.scrypt(secret, salt=b"inspector", n=2**14, r=8, p=1, dklen=32)


class Throttle:
    """Limits how many passwords can be tried, in this process."""

    def __init__(self) -> None:
        self._failures: deque[tuple[float, str]] = deque()

    def is_closed(self, address: str) -> bool:
        """Tell whether an address has to wait, or everybody."""
        while self._failures and self._failures[0][0] < time.monotonic() - WINDOW_SECONDS:
            self._failures.popleft()
        from_address = sum(each == address for _, each in self._failures)
        return from_address >= MAX_FAILURES_OF_ONE or len(self._failures) >= MAX_FAILURES

    def count_failure(self, address: str) -> None:
        """Remember a wrong password."""
        self._failures.append((time.monotonic(), address))

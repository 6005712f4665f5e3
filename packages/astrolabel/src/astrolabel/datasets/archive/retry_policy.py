"""The retry policy: how many requests at once, how long the waits."""

from __future__ import annotations

import email.utils
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class RetryPolicy:
    """Requests at once, tries and waits; times in seconds."""

    parallel: int = 4
    """Downloads at once; browsers open six."""
    attempts: int = 6
    """Tries of one file without a new byte: with the waits below, about a minute."""
    first_wait_s: float = 1.0
    """Before the second try; doubles with each."""
    longest_wait_s: float = 300.0
    """A server that asks for more is taken at its word: the run ends and says when."""
    timeout_s: float = 60.0
    """Without a byte from the server."""
    first_poll_s: float = 2.0
    """Before a queued query is asked for; grows by half each time."""
    longest_poll_s: float = 30.0
    job_limit_s: float = 86400.0
    """Queries of HSC's database end within a day or not at all."""

    def wait_s(self, url: str, attempt: int) -> float:
        """Exponential backoff; half of it spread by a hash of address and attempt.

        The spread keeps parallel downloads from coming back all at once, and yet a run's
        waits are the same every time.
        """
        digest = hashlib.sha256(f"{url} {attempt}".encode()).digest()
        spread = int.from_bytes(digest[:4]) / 2**32
        return min(self.first_wait_s * 2.0**attempt, self.longest_wait_s) * (0.5 + 0.5 * spread)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, given as such or as a date."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+", text):
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)

"""Opaque, sortable identifiers with a prefix, as API section "Conventions" asks."""

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_RANDOM_BITS = 80
_LENGTH = 26  # (48 bits of time + 80 of chance) / 5, rounded up
_TIME_LENGTH = 10

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Make an identifier such as `ses_06f3…`, greater than every one made before in this process.

    The first ten characters encode the time in milliseconds, so that ids sort by creation; the rest is chance (the
    layout of a ULID). Within one millisecond, or when the clock steps back, the last one is counted up by a random
    step, so that the next id cannot be guessed.
    """
    global _last  # noqa: PLW0603 - order within the process needs the last value
    value = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        if value <= _last:
            value = _last + 1 + secrets.randbits(_RANDOM_BITS - 16)
        _last = value
    return f"{prefix}_{''.join(_ALPHABET[(value >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))}"


def made_at(identifier: str) -> float:
    """When `new_id` made it, in seconds since the epoch, to the millisecond."""
    value = 0
    for character in identifier.partition("_")[2][:_TIME_LENGTH]:
        value = value << 5 | _ALPHABET.index(character)
    return value / 1000

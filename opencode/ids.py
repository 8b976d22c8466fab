"""Opaque, sortable identifiers with a prefix, as API section "Conventions" asks."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_RANDOM_BITS = 80
_LENGTH = 26  # (48 bits of time + 80 of chance) / 5, rounded up


def new_id(prefix: str) -> str:
    """Make an identifier such as `ses_06f3…`.

    The first ten characters encode the time in milliseconds, so that ids sort by creation; the rest is chance
    (the layout of a ULID).
    """
    value = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    digits = [_ALPHABET[(value >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5)]
    return f"{prefix}_{''.join(digits)}"

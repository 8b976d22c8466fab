"""Idempotency keys, as requests bring them."""

from dataclasses import dataclass

from opencode.errors import IdempotencyConflict
from opencode.records import RememberedKey


@dataclass(frozen=True, slots=True)
class Key:
    """An `Idempotency-Key` as it came: with the request's method and path, and a hash of its body."""

    scope: str
    key: str
    body_hash: str

    def remembered(self, owner: str, session_id: str, turn_id: str | None = None) -> RememberedKey:
        return RememberedKey(
            owner=owner,
            scope=self.scope,
            key=self.key,
            body_hash=self.body_hash,
            session_id=session_id,
            turn_id=turn_id,
        )

    def check(self, found: RememberedKey) -> None:
        """Raise `IdempotencyConflict` where the key was used with another body."""
        if found.body_hash != self.body_hash:
            raise IdempotencyConflict("This Idempotency-Key was used before, with another body.")

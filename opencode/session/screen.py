"""Shared terminal screens as values: their names, and the ids of what is seen on them.

An id is `<epoch>-<n>`. The epoch is the screen's own id; `n` holds a place among the screen's own events and one in the
log of its session. Both only grow, and so does `n`; whoever comes back with one, to whatever process, gets what he
lacks of both.
"""

from dataclasses import dataclass
from typing import Any

from opencode import frames
from opencode.records import Screen, ScreenView, ToShow

#: Numbers of a session's log stay below.
_LOG = 10**10
#: Of `n`: more than any screen has, and few enough to be read as a number.
_DIGITS = 28


@dataclass(frozen=True, slots=True)
class ScreenName:
    """A screen belongs to its owner, under its name."""

    owner: str
    name: str


@dataclass(frozen=True, slots=True, order=True)
class ScreenPlace:
    """Behind the screen's own event `number`, and behind `seq` in the session that it shows from there on."""

    number: int
    seq: int

    def event_id(self, epoch: str) -> str:
        """The id of the event that ends here."""
        return f"{epoch}-{self.number * _LOG + self.seq}"


def place_of(event_id: str, epoch: str) -> ScreenPlace | None:
    """The place that a client's last id names; None where it is one of another screen, or none at all."""
    own, _, digits = event_id.rpartition("-")
    if own != epoch or not (digits.isascii() and digits.isdigit()) or len(digits) > _DIGITS:
        return None
    return ScreenPlace(*divmod(int(digits), _LOG))


def place_now(view: ScreenView) -> ScreenPlace:
    """Behind all that there is."""
    return ScreenPlace(view.screen.number, view.seq)


def state(view: ScreenView) -> dict[str, Any]:
    """What a newcomer needs to draw the screen; `last_event_id` is where to follow on from."""
    screen = view.screen
    return {
        "prompt": screen.prompt.text,
        "cursor": screen.prompt.cursor,
        "session_id": screen.session_id,
        "model": screen.model,
        "permissions": [
            {
                "permission_id": asked.id,
                "turn_id": asked.turn_id,
                "tool": asked.tool,
                "params": asked.params,
                "call_id": asked.call_id,
            }
            for asked in view.permissions
        ],
        "last_event_id": place_now(view).event_id(screen.id),
    }


def to_show(event: str, data: dict[str, Any], *, shows: tuple[str, int] | None = None) -> ToShow:
    """An event for a screen."""
    return ToShow(frames.body(event, data), shows)


def selected(place: tuple[str, int]) -> ToShow:
    """The event that makes a session the active one, shown from behind the number `place` has with it."""
    return to_show("session_selected", {"session_id": place[0]}, shows=place)


def prompt_of(screen: Screen) -> ToShow:
    """The event that shows the prompt line as it is."""
    return to_show("prompt", {"text": screen.prompt.text, "cursor": screen.prompt.cursor})


def toast(message: str, *, level: str = "info", **more: object) -> ToShow:
    """The event that tells people something in passing."""
    return to_show("toast", {"message": message, "level": level, **more})

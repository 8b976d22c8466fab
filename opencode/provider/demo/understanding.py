"""From the user's words to steps."""

import re

from opencode.provider.demo.changing import CHANGING
from opencode.provider.demo.forms import recognise
from opencode.provider.demo.looking import ABOUT, LOOKING
from opencode.provider.demo.quoting import Phrase, clean
from opencode.provider.demo.requests import Incomplete, Request, RunCommand, Search, Step, Unclear, WriteFile

MAX_CHARS = 20_000
MAX_STEPS = 8

_FORMS = (*ABOUT, *CHANGING, *LOOKING)
_THEN = re.compile(r"(?:[,;.]?\s(?:and\s)?|[,;.]?\n)then\b[,:]?\s", re.IGNORECASE)
_NUMBERED = re.compile(r"(?:^|\n)[ \t]{0,8}(?:[0-9]{1,3}[.)]|[-*•])[ \t]")
_JOINED = re.compile(r"[,;.]\sand\s|[,;.]\s|\sand\s|;|\n", re.IGNORECASE)
_POLITE_START = re.compile(
    r"(?:(?:please|now|first|next|finally|also|and|then|hey|hi|hello|ok|okay|so|just|kindly|let's|let\sus|go\sahead\sand"
    r"|(?:can|could|would|will)\syou|i\s(?:want|need)\syou\sto|i\swould\slike\syou\sto|i'd\slike\syou\sto)[,:!]?\s+)+",
    re.IGNORECASE,
)
_POLITE_END = re.compile(r"[,\s](?:please|for me|now|thanks|thank you|first)$", re.IGNORECASE)
_SHOWN = 60
_MAX_CUTS = 40


def understand(text: str) -> list[Step] | Unclear:
    """The steps that a message asks for; all of them are understood, or none is carried out."""
    if len(text) > MAX_CHARS:
        return Unclear((f"a request of {len(text):,} characters; I read up to {MAX_CHARS:,}",))
    phrase = Phrase(clean(text)).stripped()
    if not phrase.text:
        return Unclear(())
    steps: list[Step] = []
    unclear: list[str] = []
    for part in _parts(phrase):
        found = _steps_of(part)
        if found is None:
            unclear.append(shorten(part.text))
        else:
            steps += found
    advice = tuple(step.request.advice for step in steps if isinstance(step.request, Incomplete))
    if unclear or advice:
        return Unclear(tuple(unclear), advice)
    if len(steps) > MAX_STEPS:
        return Unclear((f"{len(steps)} steps at once; I take up to {MAX_STEPS}",))
    return steps


def shorten(text: str, limit: int = _SHOWN) -> str:
    """Text on one line, cut to `limit` characters."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _parts(phrase: Phrase) -> list[Phrase]:
    """Numbered lines, and what stands between one "then" and the next."""
    lines = _split(phrase, _NUMBERED)
    if len(lines) > 1 and not _NUMBERED.match(phrase.mask):
        # Above the list stands "do this:", or a request of its own whose text is the list.
        lines = lines[1:] if _request(phrase) is None and lines[0].text.endswith(":") else [phrase]
    return [part for line in lines if line.text for part in _around_then(line)]


def _around_then(phrase: Phrase) -> list[Phrase]:
    """The phrase cut at each "then", save where "then" belongs to a text or a command.

    It does where the words after it are no request, and those before it take any words: `write a.txt with now
    and then`, `run if true; then ls; fi`.
    """
    parts: list[Phrase] = []
    start = 0
    for begin, end in _bounds(phrase, _THEN):
        piece = phrase.part(begin, end)
        if parts and _steps_of(piece) is None and _takes_any_words(parts[-1]):
            parts[-1] = phrase.part(start, end)
            continue
        start = begin
        parts.append(piece)
    return [part for part in parts if part.text]


def _takes_any_words(phrase: Phrase) -> bool:
    return not phrase.mask.endswith("\x00") and isinstance(_request(phrase), WriteFile | RunCommand | Search)


def _steps_of(phrase: Phrase) -> list[Step] | None:
    """One request; or, where the whole is none, several joined by "and", commas or lines, if all are understood."""
    request = _request(phrase)
    if request is not None:
        return [Step(request, shorten(phrase.text))]
    pieces = [piece for piece in _split(phrase, _JOINED) if piece.text]
    if not 1 < len(pieces) <= MAX_STEPS:
        return None
    requests = [_request(piece) for piece in pieces]
    steps = [Step(req, shorten(piece.text)) for req, piece in zip(requests, pieces, strict=True) if req is not None]
    return steps if len(steps) == len(pieces) else None


def _split(phrase: Phrase, separator: re.Pattern[str]) -> list[Phrase]:
    pieces = [phrase.part(begin, end) for begin, end in _bounds(phrase, separator)]
    return pieces if pieces[0].text else pieces[1:]


def _bounds(phrase: Phrase, separator: re.Pattern[str]) -> list[tuple[int, int]]:
    """Where the pieces begin and end; one piece where there would be more than anybody means as steps."""
    cuts = [end for match in separator.finditer(phrase.mask) for end in match.span()]
    bounds = [0, *(cuts if len(cuts) <= 2 * _MAX_CUTS else ()), len(phrase.text)]
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def _request(phrase: Phrase) -> Request | None:
    """The phrase as it stands; else without words and marks of courtesy."""
    # The typographic apostrophe is one of the ways to write "what's".
    phrase = Phrase(phrase.text, phrase.mask.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    start = _POLITE_START.match(phrase.mask)
    candidates = [phrase, phrase.part(start.end(), len(phrase.text))] if start else [phrase]
    for candidate in candidates:
        request = recognise(candidate, _FORMS) if candidate.text else None
        if request is not None:
            return request
    bare = _without_courtesy(candidates[-1])
    return recognise(bare, _FORMS) if bare.text and bare.text != candidates[-1].text else None


def _without_courtesy(phrase: Phrase) -> Phrase:
    for _ in range(3):
        phrase = phrase.part(0, len(phrase.text.rstrip("?!., ")))
        end = _POLITE_END.search(phrase.mask)
        if end is None:
            break
        phrase = phrase.part(0, end.start())
    return phrase

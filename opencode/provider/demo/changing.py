"""Requests that do something: write, replace, run."""

import re

from opencode.provider.demo.forms import Fields, Form, form
from opencode.provider.demo.quoting import Phrase
from opencode.provider.demo.requests import Incomplete, ReplaceText, Request, RunCommand, RunTests, WriteFile

_NEW_FILE = (
    r"(?:(?:(?:write|create|save|make|put) \s+ (?:(?:a|an|the) \s+)? (?:new \s+)? (?:text \s+)? (?P<file>file) \s+"
    r"(?:named \s+|called \s+)?) | (?:(?:write|create|save|overwrite) \s+ (?:(?:a|the) \s+)? (?:new \s+)?))"
    r"(?P<path> [^\s:,]+)"
)
# "the text", "the following:" and the like lead to the content and are no part of it.
_LEAD = (
    r"(?: (?:(?:the|this) \s+ (?:following \s+)? (?:text|contents?|lines?) | the \s+ following) \s* :? \s+"
    r"| (?:text|contents?) \s* : \s* | (?:text|contents?) \s+ (?=\x00) )?"
)
_WITH = r",? \s+ (?:with|containing|saying|(?:that|which) \s+ (?:says|contains|reads)) \s* :? \s+"
_EVERYWHERE = re.compile(r"\s(?:everywhere|throughout)$|^(?:all|every|each)\s(?:of\sthe\s|the\s)?", re.IGNORECASE)
_OCCURRENCES = re.compile(r"^(?:occurrences?\sof\s)", re.IGNORECASE)
_WHAT = re.compile(r"^(?:the\s)?(?:text|word|line|string)\s(?=\x00)", re.IGNORECASE)
_WITH_WORD = re.compile(r"(?P<old>.+?)\s(?:with|by)\s(?P<new>.+)", re.IGNORECASE | re.DOTALL)
_TO_WORD = re.compile(r"(?P<old>.+?)\s(?:to|into|with)\s(?P<new>.+)", re.IGNORECASE | re.DOTALL)
_NO_COMMAND = {"the", "a", "an", "my", "all", "it", "this", "that", "these", "those", "some", "your", "our", "every"}
_NO_COMMAND |= {"tests", "test", "for", "away", "into", "in", "on", "out", "command"}
_RUNNERS = {".py": "python3", ".sh": "sh", ".js": "node"}
_REPLACE_ADVICE = 'Say it like this: `replace "old text" with "new text" in notes.txt`.'


def _write(fields: Fields) -> Request | None:
    path = fields.file()
    return None if path is None else WriteFile(path, fields.get("text").content())


def _write_nothing(fields: Fields) -> Request | None:
    path = fields.file()
    return None if path is None else Incomplete(f'Say what to write in it: `write {path} with "some text"`.')


def _write_empty(fields: Fields) -> Request | None:
    path = fields.get("path").path()
    return WriteFile(path, "") if path else None


def _replace(fields: Fields) -> Request | None:
    path = fields.file()
    what, everywhere = _cut(_EVERYWHERE, fields.get("what"))
    what, _ = _cut(_OCCURRENCES, what)
    what, _ = _cut(_WHAT, what)
    pattern = _WITH_WORD if fields.match["verb"].lower() in {"replace", "substitute"} else _TO_WORD
    match = pattern.fullmatch(what.mask)
    old, new = (what.group(match, "old"), what.group(match, "new")) if match else (None, None)
    if path is None or old is None or new is None or not old.content():
        return None
    return ReplaceText(path, old.content(), new.content(), everywhere)


def _cut(pattern: re.Pattern[str], phrase: Phrase) -> tuple[Phrase, bool]:
    match = pattern.search(phrase.mask)
    if match is None:
        return phrase, False
    if match.start() == 0:
        return phrase.part(match.end(), len(phrase.text)), True
    return phrase.part(0, match.start()), True


def _run(fields: Fields) -> Request | None:
    phrase = fields.get("command")
    command = phrase.content().strip()
    words = command.split(maxsplit=1)
    if not words or (not phrase.quoted and words[0].lower().rstrip(".,:!?") in _NO_COMMAND):
        return None
    if not phrase.quoted and phrase.text.startswith("`"):
        return None  # a quoted command and more words: the shell would take the backticks as its own
    if command[-1] == "." and command[-2:-1].isalnum() and not phrase.quoted:
        command = command[:-1]
    runner = next((runner for ending, runner in _RUNNERS.items() if words[0].endswith(ending)), None)
    return RunCommand(f"{runner} {command}" if runner and "/" not in words[0] else command)


def _run_as_written(fields: Fields) -> Request | None:
    command = fields.get("command").content().strip()
    return RunCommand(command) if command else None


CHANGING: tuple[Form, ...] = (
    form(
        r"(?:(?:run|execute|check|do|try|launch|re-?run|start)"
        r"(?:\s+ (?:all|of|the|my|its|this|these|our|project's|unit))*"
        r"\s+ (?:unit)?tests? (?:\s? suite)? | (?:all \s+)? (?:the \s+)? tests?"
        r"| test (?:\s+ (?:it|this|everything|all|the \s+ (?:project|code|program)))"
        r"| (?:do|are|will) \s+ (?:all \s+)? (?:the \s+)? tests \s+ (?:pass(?:ing)?|green|ok|run))"
        r"(?:\s+ (?:again|once \s+ more|now))?",
        lambda _: RunTests(),
    ),
    form(r"\$ \s+ (?P<command> .+)", _run_as_written),
    form(r"(?P<command> \x00+)", lambda fields: _run_as_written(fields) if fields.phrase.text[0] == "`" else None),
    form(
        r"(?:run|execute|exec|bash|shell) (?=[\s:])"
        r"(?: \s+ (?: (?:(?:the|this|a) \s+)? (?:(?:shell|bash|following) \s+)? command"
        r"| this | the \s+ following) (?=[\s:]))?"
        r" \s* :? \s* (?P<command> .+)",
        _run,
    ),
    form(
        r"(?P<command> ls \s+ -.* | pwd | (?:make|npm) \s+ test | pytest (?:\s .*)? | git \s+ (?:status|diff|log) .*)",
        _run,
    ),
    form(
        r"(?:create|write|make|touch) \s+ (?:(?:a|an|the) \s+)? (?:new \s+)? empty \s+ (?:text \s+)? file \s+"
        r"(?:named \s+|called \s+)? (?P<path> \S+)",
        _write_empty,
    ),
    form(_NEW_FILE + _WITH + _LEAD + r"(?P<text> .+)", _write),
    form(_NEW_FILE + r"(?: \s* : \s* | \s* \n | \s+ (?=\x00+$)) (?P<text> .+)", _write),
    form(
        r"(?:write|save|put) \s+" + _LEAD + r"(?P<text> .+?) \s (?:to|into|in) \s (?:(?:the|a) \s+)? (?:new \s+)?"
        r"(?P<file> file \s+)? (?:named \s+|called \s+)? (?P<path> \S+)",
        _write,
    ),
    form(_NEW_FILE, _write_nothing),
    form(
        r"(?P<verb> replace|substitute|change|rename) \s+ (?P<what> .+) \s (?:in|inside|within) \s+"
        r"(?:(?:the|all \s of) \s+)? (?P<file> file \s+)? (?P<path> \S+)",
        _replace,
    ),
    form(
        r"in \s+ (?:the \s+)? (?P<file> file \s+)? (?P<path> [^\s,:]+) [,:]? \s+"
        r"(?P<verb> replace|substitute|change|rename) \s+ (?P<what> .+)",
        _replace,
    ),
    form(r"(?:replace|substitute) (?:\s .*)?", lambda _: Incomplete(_REPLACE_ADVICE)),
    form(r"(?:run|execute)", lambda _: Incomplete("Say which command: `run ls -la`.")),
    form(r"(?:write|save|create)", lambda _: Incomplete('Say what and where: `write notes.txt with "some text"`.')),
)

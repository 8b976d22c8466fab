"""What tool results say; wording is not relied upon where a form will do."""

import re
from dataclasses import dataclass

from opencode.provider.port import ToolResult

_EXIT_CODE = re.compile(r"\[exit code (-?[0-9]{1,6})[^\]\n]{0,80}\]\s*\Z")
_SIZE = re.compile(r"\s\s\([^()]{1,40}\)\Z")
_NUMBERED = re.compile(r" {0,12}([0-9]{1,9})\t(.*)")
_MATCH = re.compile(r"[^\n:]{1,1000}:[0-9]{1,9}:")
_RAN = re.compile(r"^Ran ([0-9]{1,9}) tests? in", re.MULTILINE)
_UNITTEST = re.compile(r"\b(?:failures|errors)=([0-9]{1,9})")
_FAILED = re.compile(r"\b([0-9]{1,9}) (?:failed|failing|errors?\b)|^# fail ([1-9][0-9]{0,8})", re.MULTILINE)
_PASSED = re.compile(r"\b([0-9]{1,9}) (?:passed|passing)|^# pass ([0-9]{1,9})", re.MULTILINE)
_FAILING_NAME = re.compile(r"^(?:FAIL|ERROR):? ([\w.:/\[\]-]{1,200})|^FAILED ([\w.:/\[\]-]{1,200})", re.MULTILINE)
_ASSERTION = re.compile(r"^(?:E\s+)?(AssertionError: [^\n]{1,200})", re.MULTILINE)
_TAIL_CHARS = 20_000


def failed(result: ToolResult) -> bool:
    return result.is_error or exit_code(result) != 0


def exit_code(result: ToolResult) -> int:
    match = _EXIT_CODE.search(result.content[-200:])
    return int(match[1]) if match else 0


def lines(result: ToolResult) -> list[str]:
    return [line.rstrip("\r") for line in result.content.split("\n") if line.strip()]


def notes(result: ToolResult) -> list[str]:
    """Lines in brackets, such as `[12 more match]`."""
    return [line for line in lines(result)[-2:] if line.startswith("[") and line.endswith("]")]


def names(result: ToolResult) -> list[str]:
    """The names in a listing, folders with a slash at their end."""
    if result.is_error:
        return []
    found = [_SIZE.sub("", line) for line in lines(result) if not (line.startswith("[") and line.endswith("]"))]
    return [name for name in found if not (name.startswith("(") and name.endswith(")"))]


def files(result: ToolResult) -> list[str]:
    """The paths that a search for files found."""
    return [line.removeprefix("./") for line in lines(result) if not line.startswith(("[", "(", "No "))]


def numbered_lines(result: ToolResult) -> list[tuple[int, str]]:
    """The lines of a file that was read, with their numbers."""
    matches = (_NUMBERED.fullmatch(line.rstrip("\r")) for line in result.content.split("\n"))
    return [(int(match[1]), match[2]) for match in matches if match]


def matches(result: ToolResult) -> list[str]:
    """The `path:line: text` lines of a search."""
    return [line.removeprefix("./") for line in lines(result) if _MATCH.match(line)]


@dataclass(frozen=True, slots=True)
class TestReport:
    """What a test run printed: counts are None where they could not be made out."""

    __test__ = False

    passed: bool
    total: int | None
    failing: int | None
    names: tuple[str, ...]
    reason: str | None


def test_report(result: ToolResult) -> TestReport:
    text = result.content[-_TAIL_CHARS:]
    ran = _RAN.search(text)
    if ran:
        total: int | None = int(ran[1])
        failing: int | None = sum(int(count) for count in _UNITTEST.findall(text.rpartition("FAILED")[2]))
    else:
        failing, good = _last_count(_FAILED, text), _last_count(_PASSED, text)
        total = None if failing is None and good is None else (failing or 0) + (good or 0)
    found = [first or second for first, second in _FAILING_NAME.findall(text)]
    reason = _ASSERTION.search(text)
    return TestReport(
        passed=not failed(result) and total != 0,
        total=total,
        failing=failing,
        names=tuple(dict.fromkeys(found)),
        reason=reason[1] if reason else None,
    )


def _last_count(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.findall(text)
    return int(found[-1][0] or found[-1][1]) if found else None

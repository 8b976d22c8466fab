"""Requests that only look: list, read, find files, search; and those about the guide itself."""

from opencode.provider.demo.forms import Fields, Form, form
from opencode.provider.demo.requests import (
    FindFiles,
    Greeting,
    Help,
    Incomplete,
    ListFiles,
    ReadFile,
    Request,
    Search,
    Tour,
)

_OUTSIDE = r"(?: \s+ (?:in|of|under|inside|from|at|within) \s+ (?:(?:the|this) \s+)? (?P<path> \S+)"
_IN_DIRECTORY = _OUTSIDE + r" (?: \s+ (?:directory|folder|dir|project))? )?"
_OF_FILE = r"\s+ (?:of|from|in) \s+ (?:the \s+)? (?P<file> file \s+)? (?P<path> \S+)"
_RANGE = r"lines? \s+ (?P<first> [0-9]{1,7}) (?: \s* (?:-|\u2013|\.\.|to|through|until|and) \s* (?P<last> [0-9]{1,7}))?"
_SHOW = r"(?:read|show|open|cat|print|display|view|see|let \s+ me \s+ see|look \s+ at) (?: \s+ me)?"
_ENDINGS = {"python": "py", "javascript": "js", "typescript": "ts", "markdown": "md", "text": "txt", "rust": "rs"}
_ENDINGS |= {"go": "go", "java": "java", "json": "json", "yaml": "yaml", "html": "html", "css": "css", "c": "c"}
_GLOB_CHARACTERS = "*?["
_NOT_SEARCHED = {"me", "a", "an", "out", "my", "your", "it", "someone", "for"}


def _list(fields: Fields) -> Request | None:
    path = fields.directory()
    return None if path is not None and path.startswith("-") else ListFiles(path)


def _read(fields: Fields) -> Request | None:
    path = fields.file()
    return _lines(fields, path)


def _read_any(fields: Fields) -> Request | None:
    return _lines(fields, fields.file(strict=False))


def _lines(fields: Fields, path: str | None) -> Request | None:
    if path is None:
        return None
    first, last = fields.number("first"), fields.number("last")
    if first is not None and last is None:
        last = first
    if first is not None and last is not None and last < first:
        return Incomplete(f"Lines {first} to {last} are none: the first number is the smaller one.")
    return ReadFile(path, max(first, 1) if first is not None else None, last)


def _read_top(fields: Fields) -> Request | None:
    path = fields.file()
    return None if path is None else ReadFile(path, 1, fields.number("count") or 1)


def _read_whole(fields: Fields) -> Request | None:
    path = fields.file()
    return None if path is None else ReadFile(path)


def _find(fields: Fields) -> Request | None:
    pattern = fields.get("pattern").path()
    is_ending = fields.match["kind"] != "" or (pattern.startswith(".") and "/" not in pattern)
    if is_ending and not any(character in pattern for character in _GLOB_CHARACTERS):
        pattern = f"*.{pattern.removeprefix('.')}"
    return FindFiles(pattern) if pattern else None


def _find_language(fields: Fields) -> Request | None:
    ending = _ENDINGS.get(fields.get("language").text.lower())
    return FindFiles(f"*.{ending}") if ending else None


def _find_bare(fields: Fields) -> Request | None:
    phrase = fields.get("pattern")
    pattern = phrase.path()
    is_glob = any(character in pattern for character in _GLOB_CHARACTERS)
    is_file = "." in pattern.rpartition("/")[2].strip(".") and "(" not in pattern and not phrase.quoted
    return FindFiles(pattern) if is_glob or is_file else None


def _search(fields: Fields) -> Request | None:
    phrase = fields.get("text")
    text = phrase.content()
    if not phrase.quoted:
        words = text.split()
        if not words or text.startswith("-") or (len(words) > 1 and words[0].lower() in _NOT_SEARCHED):
            return None
        text = text.rstrip("?").removesuffix(" please").strip() or text
    return Search(text, fields.directory()) if text else None


_THE = r"(?:\s+ (?:all|of|the|my|your|every|its))*"
_TEXT = r"(?: the \s+ (?:text|word|string|phrase|name) \s+)? (?P<text> .+?)"
_IN_PATH = (
    r"(?: \s (?:in|inside|within|under) \s+ (?:(?:the|this|all) \s+)* (?:(?:file|folder|directory) \s+)?"
    r" (?P<path> \S+) (?: \s+ (?:folder|directory|file))? )?"
)

LOOKING: tuple[Form, ...] = (
    form(
        r"(?:list|show|display|ls|dir|see|print) (?:\s+ me)?" + _THE + r"\s+ (?:files?|contents?|directory|folders?|"
        r"directories|everything|entries|project) (?:\s+ and \s+ (?:folders|directories))?"
        r"(?:\s+ (?:here|there))?" + _IN_DIRECTORY,
        _list,
    ),
    form(
        r"(?:what|which) \s+ (?:files|things) \s+ (?:are|do \s+ (?:you|we|i)) (?:\s+ (?:see|have|there|here))?"
        + _IN_DIRECTORY,
        _list,
    ),
    form(
        r"what (?:'s|\s+ is) \s+ (?:in \s+)? (?P<path> here|there|this \s+ (?:directory|folder|project))",
        lambda _: ListFiles(),
    ),
    form(r"(?:list|ls|dir) (?: \s+ (?:the \s+)? (?P<path> \S+) (?:\s+ (?:directory|folder))? )?", _list),
    form(_SHOW + r" (?: \s+ the)? (?: \s+ code \s+ (?:on|in))? \s+ " + _RANGE + _OF_FILE, _read),
    form(_SHOW + r" (?: \s+ the)? \s+ first \s+ (?P<count> [0-9]{1,7}) \s+ lines" + _OF_FILE, _read_top),
    form(
        _SHOW + r" (?: \s+ the)? (?: \s+ (?:contents?|text|code) \s+ of)? (?: \s+ the)? (?P<file> \s+ file)?"
        r" \s+ (?P<path> \S+) (?: \s+ file)? (?: ,? \s+ (?:from \s+)? " + _RANGE + ")?",
        _read,
    ),
    form(r"(?:read|cat|open) \s+ (?P<path> \S+) (?: ,? \s+ (?:from \s+)? " + _RANGE + ")?", _read_any),
    form(r"what (?:'s|\s+ is) \s+ in \s+ (?:the \s+)? (?P<file> file \s+)? (?P<path> \S+)", _read_whole),
    form(r"what \s+ does \s+ (?P<path> \S+) \s+ (?:contain|say|have \s+ in \s+ it) \??", _read_whole),
    form(
        r"(?:find|list|show|search (?:\s+ for)?|get|glob|locate|which) (?:\s+ me)?" + _THE + r"\s+ files? \s+"
        r"(?P<kind>) (?:matching|match|named|called|like|that \s+ match|with \s+ (?:the \s+)? (?:name|pattern))"
        r"(?:\s+ the \s+ pattern)? \s+ (?P<pattern> \S+)",
        _find,
    ),
    form(
        r"(?:find|list|show|search (?:\s+ for)?|get|locate) (?:\s+ me)?" + _THE + r"\s+ files? \s+"
        r"(?:that \s+)? (?P<kind>ending|ends?|with) (?:\s+ (?:in|with|the|extension|ending))* \s+ (?P<pattern> \S+)",
        _find,
    ),
    form(
        r"(?:find|list|show|search \s+ for|get|locate) (?:\s+ me)?" + _THE + r"\s+ (?P<language> \w+) \s+ files",
        _find_language,
    ),
    form(r"(?:find|glob|locate) (?:\s+ (?:the|file))* \s+ (?P<pattern> \S+)", _find_bare),
    form(
        r"(?:search|grep) \s+ (?:(?:in|through) \s+)? (?:(?:the|all|file|folder) \s+)* (?P<path> (?!for\b)\S+)"
        r" \s+ for \s+ (?: the \s+ (?:text|word|string|phrase|name) \s+)? (?P<text> .+)",
        _search,
    ),
    form(r"(?:search|grep|find|scan|look|locate) (?:\s+ for)? \s+ " + _TEXT + _IN_PATH, _search),
    form(
        r"where \s+ (?:is|are|do \s+ we) \s+ " + _TEXT + r"(?: \s (?:used|defined|mentioned|called))? (?P<path>)\??",
        _search,
    ),
)

ABOUT: tuple[Form, ...] = (
    form(
        r"(?:re-?)? start (?:\s+ over)?"
        r"| (?:(?:start|begin|take|do|show|run|restart|give) \s+ (?:me \s+)? (?:(?:the|a|your|another) \s+)?)?"
        r" (?:guided \s+)? (?:tour|demo) (?:\s+ again)? | begin | show \s+ me \s+ around"
        r"| (?:find|fix|repair) (?:\s+ and \s+ fix)? \s+ (?:the|this|that) \s+"
        r" (?:bug|failing \s+ tests?|broken \s+ tests?|tests?)",
        lambda _: Tour(),
    ),
    form(
        r"help (?:\s+ me)? | \?+"
        r"| what \s+ (?:can|could|do) \s+ (?:you|i|we) \s+ (?:do|ask|say|type|understand|know) (?:\s+ here)?"
        r"| (?:who|what) \s+ are \s+ you | are \s+ you \s+ (?:an? \s+)? (?:ai|model|real|robot|bot|human|person)"
        r"| how \s+ does \s+ (?:this|it) \s+ work | how \s+ do \s+ i \s+ (?:use \s+ (?:this|you|it)|start|begin)"
        r"| (?:the \s+)? (?:commands|usage|instructions|manual) | what \s+ is \s+ this | what \s+ now",
        lambda _: Help(),
    ),
    form(
        r"(?:hello|hi|hey|hallo|good \s+ (?:morning|day|evening|afternoon)|greetings|howdy|yo|moin|test \s+ message)"
        r"(?:,? \s+ (?:there|guide|you|demo|world|claude|everyone))?",
        lambda _: Greeting(),
    ),
    form(r"(?:read|open|cat|show)", lambda _: Incomplete("Say which file: `read README.md`.")),
    form(r"(?:search|grep|find|look) (?:\s+ for)?", lambda _: Incomplete("Say for what: `search for TODO`.")),
)

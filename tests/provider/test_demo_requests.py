"""What the guide understands."""

import time

import pytest

from opencode.provider.demo.requests import (
    FindFiles,
    Greeting,
    Help,
    ListFiles,
    ReadFile,
    ReplaceText,
    RunCommand,
    RunTests,
    Search,
    Tour,
    Unclear,
    WriteFile,
)
from opencode.provider.demo.understanding import MAX_CHARS, MAX_STEPS, understand

pytestmark = pytest.mark.once

PHRASES = [
    ("list the files", ListFiles()),
    ("LIST ALL FILES IN src", ListFiles("src")),
    ("show me the files", ListFiles()),
    ("ls", ListFiles()),
    ("ls src", ListFiles("src")),
    ("list files in the src directory, please", ListFiles("src")),
    ("what files are here?", ListFiles()),
    ("what's in here?", ListFiles()),
    ("what\N{RIGHT SINGLE QUOTATION MARK}s here?", ListFiles()),
    ("could you please list the files in this folder?", ListFiles()),
    ("read calculator.py", ReadFile("calculator.py")),
    ("Read the file `calculator.py`, please.", ReadFile("calculator.py")),
    ("show me calculator.py", ReadFile("calculator.py")),
    ('open "my notes.txt"', ReadFile("my notes.txt")),
    ("show me the readme", ReadFile("README.md")),
    ("cat Makefile", ReadFile("Makefile")),
    ("read lines 3-7 of calculator.py", ReadFile("calculator.py", 3, 7)),
    ("read calculator.py lines 10 to 20", ReadFile("calculator.py", 10, 20)),
    ("show line 4 of calculator.py", ReadFile("calculator.py", 4, 4)),
    ("show the first 5 lines of README.md", ReadFile("README.md", 1, 5)),
    ("what is in calculator.py?", ReadFile("calculator.py")),
    ("search for TODO", Search("TODO")),
    ("search for TODO please", Search("TODO")),
    ('search for "def add" in calculator.py', Search("def add", "calculator.py")),
    ("grep divide", Search("divide")),
    ("find divide in src", Search("divide", "src")),
    ("look for divide in the files", Search("divide")),
    ("search calculator.py for divide", Search("divide", "calculator.py")),
    ("where is divide defined?", Search("divide")),
    ("find files matching *.py", FindFiles("*.py")),
    ("find all python files", FindFiles("*.py")),
    ("find src/**/*.ts", FindFiles("src/**/*.ts")),
    ("find all files ending in .md", FindFiles("*.md")),
    ("find calculator.py", FindFiles("calculator.py")),
    ("write hello.txt with hello world", WriteFile("hello.txt", "hello world")),
    ('create a file notes.md containing "buy milk"', WriteFile("notes.md", "buy milk")),
    ('write "hello" to hello.txt', WriteFile("hello.txt", "hello")),
    ("create hello.txt: hi there", WriteFile("hello.txt", "hi there")),
    ("write a.py:\n```python\nprint(1)\n```", WriteFile("a.py", "print(1)\n")),
    ("write todo.md:\n1. milk\n2. eggs", WriteFile("todo.md", "1. milk\n2. eggs")),
    ("create a new file called todo with the text 'x y'", WriteFile("todo", "x y")),
    ("create an empty file x.txt", WriteFile("x.txt", "")),
    ("replace foo with bar in a.txt", ReplaceText("a.txt", "foo", "bar")),
    ('replace "a // b" with "a / b" in calculator.py', ReplaceText("calculator.py", "a // b", "a / b")),
    ("change 'a' to 'b' in x.py.", ReplaceText("x.py", "a", "b")),
    ("in x.py, replace `a` with `b`", ReplaceText("x.py", "a", "b")),
    ('replace all "a" with "b" in x.py', ReplaceText("x.py", "a", "b", everywhere=True)),
    ('replace "in" with "" in the file x.py', ReplaceText("x.py", "in", "")),
    ("run ls -la", RunCommand("ls -la")),
    ("run: make", RunCommand("make")),
    ('run `echo "a then b"`', RunCommand('echo "a then b"')),
    ("execute the command `ls`", RunCommand("ls")),
    ("$ echo hi", RunCommand("echo hi")),
    ("`pwd`", RunCommand("pwd")),
    ("ls -la", RunCommand("ls -la")),
    ("run calculator.py", RunCommand("python3 calculator.py")),
    ("run if true; then echo hi; fi", RunCommand("if true; then echo hi; fi")),
    ("run the tests", RunTests()),
    ("Run all the tests again!", RunTests()),
    ("do the tests pass?", RunTests()),
    ("test", RunTests()),
    ("start", Tour()),
    ("Start the tour!", Tour()),
    ("tour", Tour()),
    ("fix the failing test", Tour()),
    ("what can you do?", Help()),
    ("help", Help()),
    ("are you an AI?", Help()),
    ("Hello!", Greeting()),
]


@pytest.mark.parametrize(("text", "request_"), PHRASES, ids=[text[:50] for text, _ in PHRASES])
def test_plain_requests_are_understood(text, request_):
    steps = understand(text)
    assert isinstance(steps, list), steps
    assert [step.request for step in steps] == [request_]


CHAINS = [
    ("list the files then read a.md then run the tests", [ListFiles(), ReadFile("a.md"), RunTests()]),
    (
        "list the files, then read a.md; then run the tests. Then ls",
        [ListFiles(), ReadFile("a.md"), RunTests(), ListFiles()],
    ),
    ("first list the files and then read a.md", [ListFiles(), ReadFile("a.md")]),
    ("read a.md and run the tests", [ReadFile("a.md"), RunTests()]),
    ("1. list the files\n2. read a.md\n3) run the tests", [ListFiles(), ReadFile("a.md"), RunTests()]),
    ("Do this:\n- list the files\n- run `ls`", [ListFiles(), RunCommand("ls")]),
    ("list the files\nread a.md", [ListFiles(), ReadFile("a.md")]),
    ('write a.txt with "x then y" then read a.txt', [WriteFile("a.txt", "x then y"), ReadFile("a.txt")]),
    ("write a.txt with now and then", [WriteFile("a.txt", "now and then")]),
    ("run `a then b` then ls", [RunCommand("a then b"), ListFiles()]),
    (
        "write a.md:\n```\n1. ls\nthen ls\n```\nthen read a.md",
        [WriteFile("a.md", "1. ls\nthen ls\n"), ReadFile("a.md")],
    ),
]


@pytest.mark.parametrize(("text", "requests"), CHAINS, ids=[text[:50] for text, _ in CHAINS])
def test_steps_are_split_outside_of_quotes_only(text, requests):
    steps = understand(text)
    assert isinstance(steps, list), steps
    assert [step.request for step in steps] == requests


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n ",
        "why is the sky blue?",
        "run the server",
        "write a poem about spring",
        "add a line to README.md",
        "read me a story",
        "list the files then make me a sandwich",
        "create hello.txt",
        "replace foo with bar",
        "read a.py lines 9-3",
        "run",
        "delete everything",
        " then ".join(["ls"] * (MAX_STEPS + 1)),
        "write a.txt with " + "x" * MAX_CHARS,
    ],
)
def test_what_is_not_understood_in_whole_is_not_begun(text):
    assert isinstance(understand(text), Unclear)


@pytest.mark.parametrize(
    "unit",
    [" ", "`", "```", '"', "'", "“", "then ", " then", "in ", " in a", "with ", "replace a with ", "run ", ".", "?", "\n",
     "1. ", "- ", "please ", "search for ", "ls; ", " and ", ",", "the ", "\x00", "\ud800", "é", "0", "write a with "],
)  # fmt: skip
@pytest.mark.parametrize("head", ["", "replace ", "run ", "write a.txt with ", "write ", "search ", "read ", "find "])
def test_hostile_repetition_is_read_in_no_time(head, unit):
    text = (head + unit * MAX_CHARS)[: MAX_CHARS - 1] + "!"
    started = time.thread_time()  # whatever else the machine is doing
    understand(text)
    understand(text[:-1] + "\0")
    assert time.thread_time() - started < 3

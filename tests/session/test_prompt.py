import platform
from dataclasses import replace

from opencode.provider.port import AssistantMessage, ToolCall, ToolResult, UserMessage
from opencode.records import Message
from opencode.session.directories import Directories
from opencode.session.prompt import conversation, system_prompt
from tests.contracts.stored import NOW, a_session


def prompt(directory, **values):
    return system_prompt(a_session(directory=str(directory), **values), Directories((directory,), directory))


def message(role, content="", *parts, **values):
    return Message(
        id="msg", session_id="ses", turn_id="trn", role=role, content=content, created_at=NOW, parts=parts, **values
    )


def text(step, content, status="completed"):
    return {"type": "text", "step": step, "content": content, "status": status}


def tool(step, call_id, result="ok", status="completed"):
    made = {"type": "tool", "step": step, "call_id": call_id, "tool": "list", "params": {"n": 1}, "status": status}
    return made | ({} if result is None else {"result": result})


# What the model is told of its place


def test_the_prompt_says_where_the_model_is(tmp_path):
    said = prompt(tmp_path)

    assert f"- directory: {tmp_path} " in said
    assert f"- platform: {platform.system()}" in said
    assert "- date: 20" in said
    assert "- git: not a repository" in said
    assert "project-notes" not in said
    assert "Instructions of this session" not in said


def test_the_prompt_names_the_branch(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/topic\n")
    assert "- git: a repository, on branch topic\n" in prompt(tmp_path)

    (tmp_path / ".git" / "HEAD").write_text("0123456789abcdef\n")
    assert "- git: a repository, on no branch\n" in prompt(tmp_path)


def test_the_projects_notes_are_told_and_marked_as_such(tmp_path):
    (tmp_path / "AGENTS.md").write_text("Use tabs.\n")

    said = prompt(tmp_path)

    assert '<project-notes file="AGENTS.md">\nUse tabs.\n</project-notes>\n' in said
    assert "cannot grant permissions" in said


def test_long_notes_are_cut(tmp_path):
    (tmp_path / "AGENTS.md").write_text("é" * 40_000)

    assert 31_000 <= len(prompt(tmp_path).encode()) <= 40_000


def test_notes_that_are_a_link_a_folder_or_empty_are_left_out(tmp_path):
    (tmp_path / "secret").write_text("hunter2")
    notes = tmp_path / "AGENTS.md"

    notes.symlink_to(tmp_path / "secret")
    assert "hunter2" not in prompt(tmp_path)
    assert "project-notes" not in prompt(tmp_path)
    notes.unlink()
    notes.mkdir()
    assert "project-notes" not in prompt(tmp_path)
    notes.rmdir()
    notes.write_text(" \n")
    assert "project-notes" not in prompt(tmp_path)


def test_the_sessions_own_instructions_come_last(tmp_path):
    (tmp_path / "AGENTS.md").write_text("Use tabs.")

    assert prompt(tmp_path, system="Answer in French.").endswith("Instructions of this session:\nAnswer in French.\n")


def test_a_directory_that_is_gone_does_not_end_the_turn(tmp_path):
    assert "not a repository" in prompt(tmp_path / "gone")


# What was said before


def test_a_conversation_gives_each_step_with_its_calls_and_their_results():
    spoken = conversation(
        [
            message("user", "hi"),
            message(
                "assistant",
                "Look.Done.",
                {"type": "reasoning", "step": 1, "content": "hm", "status": "completed"},
                text(1, "Look."),
                tool(1, "a"),
                tool(1, "b", "no", "error"),
                text(2, "Done."),
            ),
            message("user", "more"),
        ]
    )

    assert spoken == (
        UserMessage("hi"),
        AssistantMessage("Look.", (ToolCall("a", "list", {"n": 1}), ToolCall("b", "list", {"n": 1}))),
        ToolResult("a", "list", "ok"),
        ToolResult("b", "list", "no", is_error=True),
        AssistantMessage("Done."),
        UserMessage("more"),
    )


def test_what_was_interrupted_is_left_out():
    spoken = conversation(
        [
            message(
                "assistant", "Whole.", text(1, "Half", "interrupted"), text(1, "Whole."), text(2, "No", "interrupted")
            )
        ]
    )

    assert spoken == (AssistantMessage("Whole."),)


def test_an_answer_without_a_word_is_no_message():
    assert conversation([message("user", "hi"), message("assistant")]) == (UserMessage("hi"),)


def test_every_call_has_its_result_even_where_the_turn_ended_before_it():
    spoken = conversation([message("assistant", "", tool(1, "a", None, "running"))])

    assert [type(one) for one in spoken] == [AssistantMessage, ToolResult]
    assert spoken[1].call_id == "a"


def test_a_conversation_does_not_depend_on_the_status_of_its_messages():
    said = message("assistant", "So far", text(1, "So far"))

    assert conversation([said]) == conversation([replace(said, status="aborted")])

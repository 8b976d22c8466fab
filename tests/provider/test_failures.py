import pytest

from opencode.provider.failures import Source, from_body

KEY = "sk-ant-api03-secret"
SOURCE = Source("Anthropic", "ANTHROPIC_API_KEY", KEY)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no such model", "type": "x"}}, "no such model"),
        ({"message": "no such model", "type": "x"}, "no such model"),
        ({"error": "does not support tools"}, "does not support tools"),
        ({"detail": [{"msg": "field required"}]}, "field required"),
        ({"object": "error", "message": "bad template", "code": 400}, "bad template"),
        ("<h1>Bad <b>Gateway</b></h1>", "Bad Gateway"),
    ],
)
def test_the_providers_own_words_are_found_wherever_it_puts_them(body, words):
    assert words in from_body(SOURCE, body, status=400).message


def test_no_secret_is_repeated_from_the_providers_message():
    told = f"key {KEY} or sk-other-12345678 or Bearer abc at https://me:word@proxy.example/x"

    message = from_body(SOURCE, {"error": {"message": told}}, status=400).message

    assert all(secret not in message for secret in (KEY, "12345678", "abc", "me:word"))
    assert "proxy.example" in message


def test_a_long_page_of_markup_becomes_a_short_line():
    page = "<html><head><style>p {}</style></head><body><h1>502 Bad Gateway</h1>" + "<p>x</p>\n" * 500

    failure = from_body(SOURCE, page, status=502)

    assert "502 Bad Gateway x x" in failure.message
    assert "<" not in failure.message
    assert len(failure.message) < 400


def test_a_gateway_of_ones_own_is_named_by_its_host():
    source = Source("OpenAI", "OPENAI_API_KEY", None, "https://me:word@gateway.example:8443/v1")

    message = from_body(source, {}, status=500).message

    assert message.startswith("OpenAI (gateway.example:8443) is not available")

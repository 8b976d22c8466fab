import pytest

from opencode.errors import InvalidRequest
from opencode.provider.anthropic import Anthropic
from opencode.provider.discovery import LocalServer
from opencode.provider.models import ModelNames, ModelRef, choose_default
from opencode.provider.openai import OpenAI
from opencode.provider.scripted import Scripted

OLLAMA = LocalServer("ollama", "http://127.0.0.1:11434/v1", ("qwen3:8b", "gpt-oss:20b", "hf.co/some/model"))


class Guide(Scripted):
    def models(self):
        return ["guide"]


@pytest.fixture
def providers():
    return {
        "anthropic": Anthropic(api_key="sk-ant-x", base_url=None, timeout_s=1),
        "openai": OpenAI(api_key=None, base_url=None, timeout_s=1),
        "ollama": OpenAI(api_key=None, base_url=OLLAMA.base_url, timeout_s=1, name="ollama", models=OLLAMA.models),
        "demo": Guide([[]], name="demo"),
    }


@pytest.fixture
def names(providers):
    return ModelNames(providers, {"fast": "ollama/qwen3:8b"}, "sonnet")


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (None, "anthropic/claude-sonnet-5-5"),
        ("claude-3-sonnet", "anthropic/claude-sonnet-5-5"),
        ("claude-3.5-sonnet", "anthropic/claude-sonnet-5-5"),
        ("opus", "anthropic/claude-opus-5-5"),
        ("claude-3-haiku", "anthropic/claude-haiku-5-5"),
        ("gpt-4o", "openai/gpt-6.2-sol"),
        ("claude-of-the-future", "anthropic/claude-of-the-future"),
        ("gpt-7", "openai/gpt-7"),
        ("o3-mini", "openai/o3-mini"),
        ("anthropic/anything", "anthropic/anything"),
        ("openai/anything", "openai/anything"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("ollama/just-pulled", "ollama/just-pulled"),
        ("qwen3:8b", "ollama/qwen3:8b"),
        ("gpt-oss:20b", "ollama/gpt-oss:20b"),
        ("hf.co/some/model", "ollama/hf.co/some/model"),
        ("fast", "ollama/qwen3:8b"),
        ("demo/guide", "demo/guide"),
        ("guide", "demo/guide"),
    ],
)
def test_a_name_means_one_model(names, asked, meant):
    assert str(names.resolve(asked)) == meant


@pytest.mark.parametrize(
    "asked", ["", "llama", "mistral/large", "demo/oracle", "openai/", "openai/ ", "/gpt-7", "Claude"]
)
def test_an_unknown_name_is_refused_with_a_list_of_what_is_usable(names, asked):
    with pytest.raises(InvalidRequest) as caught:
        names.resolve(asked)

    assert "anthropic/claude-sonnet-5-5" in caught.value.message
    assert "openai/<model>" in caught.value.message
    assert "demo/<model>" not in caught.value.message
    assert caught.value.details[0]["field"] == "model"


def test_a_very_long_name_is_not_repeated_whole(names):
    with pytest.raises(InvalidRequest) as caught:
        names.resolve("x" * 10_000)

    assert len(caught.value.message) < 2000


def test_an_alias_of_the_settings_goes_before_the_ones_that_ship(providers):
    names = ModelNames(providers, {"sonnet": "openai/gpt-7"}, "sonnet")

    assert names.resolve(None) == ModelRef("openai", "gpt-7")


def test_an_unknown_default_is_refused_when_it_is_used(providers):
    names = ModelNames(providers, {}, "nonsense")

    with pytest.raises(InvalidRequest, match="nonsense"):
        names.resolve(None)
    assert all(not model.default for model in names.usable())


def test_models_say_whether_they_are_configured_and_which_is_the_default(names):
    models = {model.id: model for model in names.usable()}

    assert [model.id for model in models.values() if model.default] == ["anthropic/claude-sonnet-5-5"]
    assert models["anthropic/claude-sonnet-5-5"].configured
    assert models["ollama/qwen3:8b"].configured
    assert not models["openai/gpt-6.2-sol"].configured
    assert "OPENAI_API_KEY" in models["openai/gpt-6.2-sol"].missing


def test_a_default_that_no_provider_lists_stands_among_the_models(providers):
    names = ModelNames(providers, {}, "openai/private")

    assert [model.id for model in names.usable() if model.default] == ["openai/private"]


@pytest.mark.parametrize(
    ("given", "name", "why"),
    [
        ({"configured": "opus", "anthropic_key": True}, "opus", "OPENCODE_MODEL or --model names it"),
        ({"anthropic_key": True, "openai_key": True}, "anthropic/claude-sonnet-5-5", "ANTHROPIC_API_KEY is set"),
        ({"openai_key": True, "local": OLLAMA}, "openai/gpt-6.2-sol", "OPENAI_API_KEY is set"),
        ({"local": OLLAMA}, "ollama/qwen3:8b", "Ollama answers on 127.0.0.1:11434"),
        ({}, "demo/guide", "no key and no local model server found"),
    ],
)
def test_the_default_is_the_best_that_is_there_and_says_why(given, name, why):
    nothing = {"configured": None, "anthropic_key": False, "openai_key": False, "local": None}

    assert choose_default(**(nothing | given)) == (name, why)

"""The way from an SDK to a provider: through a proxy or not, and to nobody whose certificate is not trusted."""

import socket
import ssl

import pytest

from opencode.provider.openai import OpenAI
from opencode.provider.port import Text
from tests.provider.asking import ask, failure_of
from tests.wire.certificate import make_certificate
from tests.wire.openai_server import OpenAIWire

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def wire():
    with OpenAIWire([[{"text": "one"}]], loop=True) as wire:
        yield wire


@pytest.fixture
def provider_at():
    made = []

    def make(base_url):
        made.append(OpenAI(api_key="k", base_url=base_url, timeout_s=10))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.mark.parametrize("given", ["http://{}", "{}", "http://me:word@{}"])
def test_a_proxy_of_the_environment_is_asked_for_a_host_beyond(monkeypatch, wire, provider_at, given):
    monkeypatch.setenv("http_proxy", given.format(wire.address.removeprefix("http://")))

    failure_of(provider_at("http://models.example/v1"))  # the wire is no proxy, and says so

    [request] = wire.requests
    assert request.path == "http://models.example/v1/chat/completions"
    assert request.headers.get("Host", request.headers.get("host")) == "models.example"
    assert ("proxy-authorization" in {name.lower() for name in request.headers}) == ("word" in given)


def test_no_proxy_stands_between_the_server_and_its_own_machine(monkeypatch, wire, provider_at, closed_port):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{closed_port}")

    assert Text("one") in ask(provider_at(wire.base_url))


def test_a_host_that_no_proxy_names_is_asked_directly(monkeypatch, wire, provider_at):
    monkeypatch.setenv("http_proxy", wire.address)
    monkeypatch.setenv("no_proxy", "models.invalid")

    failure = failure_of(provider_at("http://models.invalid/v1"))

    assert failure.code == "PROVIDER_UNAVAILABLE"
    assert wire.requests == []


def test_a_certificate_that_nobody_vouches_for_ends_the_call(tmp_path, provider_at):
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with OpenAIWire([[{"text": "one"}]], tls=context) as wire:
        failure = failure_of(provider_at(wire.base_url))

    assert (failure.code, failure.retryable) == ("PROVIDER_UNAVAILABLE", True)
    assert "certificate" in failure.message
    assert wire.requests == []


def test_a_refused_connection_is_told_in_the_systems_words(provider_at, closed_port):
    failure = failure_of(provider_at(f"http://127.0.0.1:{closed_port}/v1"))

    assert "Connection refused" in failure.message
    assert "urllib3" not in failure.message
    assert "HTTPConnection" not in failure.message

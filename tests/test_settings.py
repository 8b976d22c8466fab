"""Settings: where they come from, which source wins, and what is said of a wrong one."""

import json
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from opencode.errors import SettingsError
from opencode.settings import Settings, is_loopback, load, variable

pytestmark = pytest.mark.once

FIELDS = Settings.model_fields
VARIABLES = {variable(field): name for name, field in FIELDS.items()}
#: Of each kind of value one that is not the default, as text and as what it becomes.
PAIRS = ("bash=ask,write=deny", {"bash": "ask", "write": "deny"})
SECRET = "hunter2-very-secret-and-long-enough"


SPECIAL = {
    "permission": PAIRS,
    "model_aliases": ("fast=demo/guide, big=openai/x", {"fast": "demo/guide", "big": "openai/x"}),
    "auth": ("on", True),
    "auth_tokens": ("one, two", ("one", "two")),
    "rate_limit": ("off", False),
    "pump": ("off", False),
    "shared_shell": ("on", True),
    "open_browser": ("on", True),
    "sandbox_network": ("off", False),
    "cors_credentials": ("yes", True),
    "trusted_proxies": ("2", 2),
    "public_url": (" HTTPS://Box.example:443/ ", "https://box.example"),
    "cors_origins": ("https://A.example/, http://[::1]:5173, *", ("https://a.example", "http://[::1]:5173", "*")),
    "secret_key": (SECRET, SECRET),
}


def sample(name):
    """A text for the field's variable, and the value it stands for; neither is the default."""
    field = FIELDS[name]
    if name in SPECIAL:
        return SPECIAL[name]
    if get_origin(field.annotation) is Literal:
        other = next(value for value in get_args(field.annotation) if value != field.default)
        return other, other
    kinds = get_args(field.annotation) or (field.annotation,)
    if isinstance(field.default, tuple):
        return " one, two ,,", ("one", "two")
    by_kind = {int: ("6000", 6000), float: ("17.5", 17.5), Path: ("/some/where", Path("/some/where"))}
    return next((by_kind[kind] for kind in kinds if kind in by_kind), ("some-value", "some-value"))


def settings_of(tmp_path, environ=None, toml=None):
    if toml is not None:
        (tmp_path / "opencode.toml").write_text(toml)
    return load(environ or {}, directory=tmp_path)


def refusal(tmp_path, environ=None, toml=None):
    with pytest.raises(SettingsError) as refused:
        settings_of(tmp_path, environ, toml)
    return str(refused.value)


# Where a value comes from


def test_without_anything_the_defaults_hold_and_nothing_is_warned_of(tmp_path):
    settings, warnings = settings_of(tmp_path)

    assert settings == Settings()
    assert warnings == []
    assert (settings.host, settings.port, settings.max_streams, settings.max_turns) == ("localhost", 3000, 100, 20)
    assert (settings.rate_limit_max_requests, settings.rate_limit_max_sessions) == (100, 10)


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_is_set_by_its_variable(tmp_path, name):
    text, value = sample(name)

    settings, warnings = settings_of(tmp_path, {variable(FIELDS[name]): text})

    assert getattr(settings, name) == value != FIELDS[name].default
    assert settings == Settings(**{name: value})
    assert warnings == []


def test_every_field_has_a_variable_of_its_own_a_meaning_and_a_form():
    assert len(VARIABLES) == len(FIELDS)
    for field in FIELDS.values():
        assert field.description
        assert field.json_schema_extra["form"]


def test_an_empty_variable_is_as_good_as_none(tmp_path):
    assert settings_of(tmp_path, dict.fromkeys(VARIABLES, "")) == (Settings(), [])


def test_the_environment_goes_before_the_file_and_the_file_before_the_defaults(tmp_path):
    toml = 'model = "demo/guide"\nturn_timeout_s = 7\nlog_level = "debug"\n'

    settings, _ = settings_of(tmp_path, {"OPENCODE_MODEL": "openai/x", "OPENCODE_LOG_LEVEL": ""}, toml)

    assert (settings.model, settings.turn_timeout_s, settings.log_level) == ("openai/x", 7, "debug")
    assert settings.max_tokens == Settings().max_tokens


def test_the_file_may_use_tomls_own_types(tmp_path):
    toml = (
        'permission_timeout_s = 7\nturn_timeout_s = 1.5\ncors_methods = ["GET"]\n[model_aliases]\nfast = "demo/guide"\n'
    )

    settings, warnings = settings_of(tmp_path, toml=toml)

    assert (settings.permission_timeout_s, settings.turn_timeout_s, settings.cors_methods) == (7, 1.5, ("GET",))
    assert settings.model_aliases == {"fast": "demo/guide"}
    assert warnings == []


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1


# Forms


@pytest.mark.parametrize("text", ["on", "ON", "true", "yes", "1", " on "])
def test_on_may_be_said_in_several_ways(tmp_path, text):
    assert settings_of(tmp_path, {"OPENCODE_AUTH": text})[0].auth is True


@pytest.mark.parametrize("text", ["off", "Off", "false", "no", "0"])
def test_off_may_be_said_in_several_ways(tmp_path, text):
    assert settings_of(tmp_path, {"OPENCODE_RATE_LIMIT": text})[0].rate_limit is False


@pytest.mark.parametrize(
    "text",
    [
        "bash=ask,write=deny",
        " bash = ask , write = deny ",
        '{"bash": "ask", "write": "deny"}',
        ' {"bash":"ask","write":"deny"}',
    ],
)
def test_permission_may_be_pairs_or_a_json_object(tmp_path, text):
    assert settings_of(tmp_path, {"OPENCODE_PERMISSION": text})[0].permission == PAIRS[1]


def test_an_alias_may_stand_for_a_name_with_an_equals_sign(tmp_path):
    assert settings_of(tmp_path, {"OPENCODE_MODEL_ALIASES": "a=b/c=d"})[0].model_aliases == {"a": "b/c=d"}


def test_host_names_are_those_that_the_header_shows(tmp_path):
    given = {"OPENCODE_ALLOWED_HOSTS": "Box.Example., under_score, xn--bcher-kva.example,[::1],10.0.0.1"}

    hosts = settings_of(tmp_path, given)[0].allowed_hosts

    assert hosts == ("box.example", "under_score", "xn--bcher-kva.example", "[::1]", "10.0.0.1")


# What is wrong

NO_ORIGINS = [
    "box.example", "localhost:3000", "//box.example", "ftp://box.example", "https://", "https:///path", "null",
    "https://box.example/app", "https://box.example/?a=1", "https://box.example#a", "https://ann@box.example",
    "https://box.example:high", "https://box.example:99999", "https://*.example.com", "https://b\u00fccher.example",
    "https://box example", "https://box.example\n.evil", "javascript:alert(1)", "https://[::1", "https://a;b",
]  # fmt: skip


NO_HOSTS = [
    "https://box.example", "box.example:3000", "*.example", "*", ".example", "box.example/app", "b\u00fccher.example",
    "ann@box.example", "fine.example,no one",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("PORT", "high", "a whole number up to 65535"),
        ("PORT", "65536", "a whole number up to 65535"),
        ("PORT", "-1", "a whole number up to 65535"),
        ("PORT", "80.5", "a whole number up to 65535"),
        ("OPENCODE_AUTH", "maybe", "on or off"),
        ("OPENCODE_DURABILITY", "total", "process or power"),
        ("OPENCODE_LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("OPENCODE_MAX_STEPS", "0", "a whole number"),
        ("OPENCODE_TURN_TIMEOUT_S", "soon", "seconds"),
        ("OPENCODE_TURN_TIMEOUT_S", "nan", "seconds"),
        ("OPENCODE_RATE_LIMIT_WINDOW_MS", "10", "milliseconds"),
        ("OPENCODE_PERMISSION", "bash=maybe", "tool=allow|ask|deny pairs, or a JSON object"),
        ("OPENCODE_PERMISSION", "bash", "tool=allow|ask|deny pairs, or a JSON object"),
        ("OPENCODE_PERMISSION", "bash=", "tool=allow|ask|deny pairs, or a JSON object"),
        ("OPENCODE_PERMISSION", '{"bash": ', "tool=allow|ask|deny pairs, or a JSON object"),
        ("OPENCODE_PERMISSION", '{"bash": 1}', "tool=allow|ask|deny pairs, or a JSON object"),
        ("OPENCODE_MODEL_ALIASES", "x", "name=provider/model"),
        *(("OPENCODE_PUBLIC_URL", text, "https://name[:port]") for text in NO_ORIGINS),
        *(("OPENCODE_CORS_ORIGINS", text, "https://name[:port], by comma") for text in NO_ORIGINS),
        *(("OPENCODE_ALLOWED_HOSTS", text, "host names without scheme, port and *, by comma") for text in NO_HOSTS),
        ("OPENCODE_CORS_ORIGINS", "https://fine.example,fine.example", "https://name[:port], by comma"),
    ],
)
def test_a_malformed_value_is_refused_with_its_variable_form_and_a_way_out(tmp_path, name, text, form):
    said = refusal(tmp_path, {name: text})

    assert said.startswith(f"{name} must be {form}")
    assert repr(text) in said
    assert FIELDS[VARIABLES[name]].description in said
    assert "Correct it, or unset it" in said


def test_a_short_secret_key_is_refused_and_not_shown(tmp_path):
    said = refusal(tmp_path, {"OPENCODE_SECRET_KEY": SECRET[:31]})

    assert said.startswith("OPENCODE_SECRET_KEY must be at least 32 random characters")
    assert SECRET[:31] not in said


def test_the_default_is_told_where_there_is_one(tmp_path):
    assert "Its default is 3000." in refusal(tmp_path, {"PORT": "x"})
    assert "default is" not in refusal(tmp_path, {"OPENCODE_PERMISSION": "x"})


def test_a_malformed_value_in_the_file_is_refused_with_its_key_and_the_file(tmp_path):
    said = refusal(tmp_path, toml='turn_timeout_s = "many"\n')

    assert said.startswith("turn_timeout_s in opencode.toml must be seconds")


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if not field.repr])
def test_a_secret_is_shown_neither_in_messages_nor_in_what_is_printed(tmp_path, name):
    settings, _ = settings_of(tmp_path, {variable(FIELDS[name]): SECRET})

    assert SECRET in str(getattr(settings, name))
    assert SECRET not in repr(settings) + str(settings)
    said = refusal(tmp_path, toml=f"{name} = [{json.dumps(SECRET)}, 1]\n")
    assert name in said
    assert SECRET not in said


@pytest.mark.parametrize("name", [name for name in FIELDS if name.endswith(("_key", "auth_tokens", "_secret"))])
def test_what_is_named_like_a_secret_is_treated_as_one(name):
    assert FIELDS[name].repr is False


def test_an_unknown_name_of_ours_is_warned_of_and_others_are_none_of_our_business(tmp_path):
    environ = {"OPENCODE_PORT": "1", "OPENCODE_FUTURE": SECRET, "HOME": "/x", "ANTHROPIC_LOG": "debug"}

    settings, warnings = settings_of(tmp_path, environ, toml="future = 1\n")

    assert settings == Settings()
    assert len(warnings) == 3
    assert [any(name in warning for warning in warnings) for name in ("OPENCODE_PORT", "OPENCODE_FUTURE")] == [True] * 2
    assert sum("opencode.toml: future" in warning for warning in warnings) == 1
    assert SECRET not in str(warnings)


# What a file in the served directory may not do

TOML_REFUSED = {
    *("host", "auth", "auth_tokens", "allowed_hosts", "cors_origins", "cors_credentials", "project_roots"),
    *("permission", "directory", "public_url", "trusted_proxies", "rate_limit", "data_dir", "database_url", "script"),
    *("anthropic_api_key", "anthropic_base_url", "openai_api_key", "openai_base_url", "max_steps", "max_tokens"),
    *(
        "rate_limit_max_requests",
        "rate_limit_max_sessions",
        "rate_limit_window_ms",
        "max_streams",
        "max_turns",
        "max_body_bytes",
    ),
    *("shared_shell", "secret_key"),
    *("shared_shell", "sandbox", "sandbox_network", "sandbox_readable"),
    *("shared_shell", "rate_limit_max_keys", "body_timeout_s"),
    *("budget_tokens", "budget_seconds", "session_budget_tokens", "session_budget_seconds"),
}


@pytest.mark.parametrize("name", sorted(TOML_REFUSED))
def test_what_opens_the_door_cannot_be_set_in_the_file(tmp_path, name):
    said = refusal(tmp_path, toml=f'{name} = "{SECRET}"\n')

    assert f"opencode.toml: {name} cannot be set here" in said
    assert f"Set {variable(FIELDS[name])} in the environment" in said
    assert SECRET not in said


def test_a_closed_key_is_refused_even_where_the_environment_outweighs_it(tmp_path):
    assert "host cannot be set here" in refusal(tmp_path, {"OPENCODE_HOST": "localhost"}, 'host = "0.0.0.0"\n')


@pytest.mark.parametrize("toml", ["max_steps = \n", "= 1", "[", "max_steps = 1\nmax_steps = 2\n"])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path, toml):
    assert "opencode.toml is not valid TOML" in refusal(tmp_path, toml=toml)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path):
    (tmp_path / "opencode.toml").write_bytes(b"\xff\xfe")
    assert "opencode.toml cannot be read" in refusal(tmp_path)
    (tmp_path / "opencode.toml").unlink()
    (tmp_path / "opencode.toml").mkdir()
    assert "opencode.toml cannot be read" in refusal(tmp_path)


# What follows from them


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        *((host, True) for host in ("localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "example.org", "localhost.x", "")),
    ],
)
def test_only_loopback_is_loopback(host, only_here):
    assert is_loopback(host) is only_here


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OPENCODE_HOST": "0.0.0.0"}, True),
        ({"OPENCODE_AUTH_TOKENS": "t"}, True),
        ({"OPENCODE_AUTH": "on"}, True),
        ({"OPENCODE_AUTH": "off", "OPENCODE_AUTH_TOKENS": "t"}, False),
    ],
)
def test_a_token_is_asked_for_beyond_loopback_and_where_tokens_are_set(tmp_path, environ, on):
    assert settings_of(tmp_path, environ)[0].auth_on is on

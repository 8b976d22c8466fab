"""Packages of types that are imported without what they list."""

import importlib
import json
import subprocess
import sys
import textwrap
import threading

import pytest

from opencode.provider.sdk_types import types_on_demand

FILES = {
    "__init__.py": "from . import types\n",
    "client.py": "from .types.one import ONE\n",
    "types/__init__.py": "from .one import ONE as ONE\nfrom .two import TWO as TWO\n__all__ = ['ONE', 'TWO']\n",
    "types/one.py": "ONE = 1\n",
    "types/two.py": "TWO = 2\n",
    "types/more/__init__.py": "from . import three\nfrom .three import THREE\nfrom ..two import TWO\n",
    "types/more/three.py": "THREE = 3\n",
    "types/broken/__init__.py": "from . import missing\n",
}


@pytest.fixture
def sdk(tmp_path, monkeypatch):
    """A package of its own for each test, imported so; gives its name and what of it is loaded."""
    name = f"sdk_{tmp_path.name}"
    for path, text in FILES.items():
        file = tmp_path / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with types_on_demand(f"{name}.types"):
        module = importlib.import_module(name)

    def loaded():
        return {own.removeprefix(f"{name}.") for own in sys.modules if own.startswith(f"{name}.")}

    yield module, loaded
    for own in [own for own in sys.modules if own.split(".")[0] == name]:
        del sys.modules[own]


def test_a_module_of_the_package_is_imported_alone(sdk):
    module, loaded = sdk
    importlib.import_module(f"{module.__name__}.client")

    assert loaded() == {"client", "types", "types.one"}


def test_what_is_asked_of_the_package_itself_is_there(sdk):
    module, loaded = sdk

    assert loaded() == {"types"}
    assert module.types.TWO == 2
    assert loaded() == {"types", "types.one", "types.two"}
    assert sorted(module.types.__all__) == ["ONE", "TWO"]


def test_the_package_lists_what_it_has(sdk):
    module, _loaded = sdk

    assert {"ONE", "TWO", "one", "two"} <= set(dir(module.types))


def test_a_package_within_it_that_imports_from_itself_is_whole(sdk):
    module, _loaded = sdk
    with types_on_demand(f"{module.__name__}.types"):
        more = importlib.import_module(f"{module.__name__}.types.more")

    assert (more.THREE, more.TWO, more.three.THREE) == (3, 2, 3)


def test_what_the_package_has_not_is_an_attribute_error(sdk):
    module, _loaded = sdk

    with pytest.raises(AttributeError, match=r"module 'sdk_.*\.types' has no attribute 'FOUR'"):
        _ = module.types.FOUR


def test_the_package_is_run_once_so_that_what_is_set_in_it_stays(sdk):
    module, _loaded = sdk
    assert module.types.TWO == 2
    module.types.TWO = 5

    assert not hasattr(module.types, "FOUR")
    assert module.types.TWO == 5


def test_a_package_that_cannot_be_imported_says_so_whenever_it_is_asked(sdk):
    module, _loaded = sdk
    with types_on_demand(f"{module.__name__}.types"):
        broken = importlib.import_module(f"{module.__name__}.types.broken")

    for _ in range(2):
        with pytest.raises(ImportError, match="missing"):
            _ = broken.anything


def test_threads_that_ask_at_the_same_time_all_get_it(sdk):
    module, _loaded = sdk
    together = threading.Barrier(8)
    found = []

    def ask():
        together.wait(30)
        found.append(module.types.TWO)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert found == [2] * 8


def test_afterwards_imports_are_as_ever():
    before = list(sys.meta_path)
    with types_on_demand("no_such_sdk.types"):
        assert len(sys.meta_path) == len(before) + 1
    assert sys.meta_path == before


def test_openais_sdk_works_without_its_catalogue_which_is_there_for_others():
    code = """
        import json, sys
        from opencode.provider.openai import OpenAI
        provider = OpenAI(api_key="sk-test", base_url=None, timeout_s=5)
        provider.warm()
        before = [name for name in sys.modules if name.startswith("openai.types.responses.")]
        from openai.types.responses import Response
        from openai.types import Batch
        import openai
        provider.close()
        print(json.dumps([before, Response.__name__, Batch.__name__, openai.types.chat.ChatCompletion.__name__]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True
    )

    before, *names = json.loads(done.stdout)
    assert len(before) < 10, "a catalogue of 250 modules"
    assert names == ["Response", "Batch", "ChatCompletion"]

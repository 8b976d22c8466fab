"""Fixtures that every suite shares."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from opencode.provider.anthropic import Anthropic
from opencode.provider.openai import OpenAI
from opencode.provider.port import Provider, Text, Usage
from opencode.provider.scripted import Scripted, Step
from opencode.server.auth_handler import AuthHandler
from opencode.server.factory import create_app
from opencode.settings import Settings
from opencode.storage.sql import open_store
from opencode.wiring import build_services
from tests.databases import Postgres, Valkey

HELLO: list[Step] = [[Text("Hello, "), Text("world."), Usage(7, 3, 2)]]


class Apps:
    """Starts apps on real stores under one folder; all work in its `work`. Limits are off unless a test asks."""

    def __init__(self, folder: Path, empty_store: Path) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        self._empty_store = empty_store
        self._folder = folder
        self._running: list[Flask] = []
        self._count = 0

    def settings(self, **settings: object) -> Settings:
        self._count += 1
        data_dir = self._folder / f"data{self._count}"
        # Bringing the schema up is half of a start: it is done once, and copied.
        shutil.copytree(self._empty_store, data_dir)
        own: dict[str, object] = {
            "directory": self.work,
            "data_dir": data_dir,
            "model": "scripted/script",
            "rate_limit": False,
            "shared_shell": True,
        }
        return Settings.model_validate(own | settings)

    def __call__(
        self,
        script: list[Step] | None = None,
        *,
        auth_handler: AuthHandler | None = None,
        clock: Callable[[], float] = time.time,
        **settings: object,
    ) -> Flask:
        """An app whose model plays `script`, over and over; Anthropic and OpenAI are there without a key."""
        return self.again(self.settings(**settings), script, auth_handler=auth_handler, clock=clock)

    def again(
        self,
        settings: Settings,
        script: list[Step] | None = None,
        *,
        auth_handler: AuthHandler | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Flask:
        """An app on the store of one that was stopped."""
        providers: dict[str, Provider] = {
            "scripted": Scripted(script or HELLO, loop=True),
            "anthropic": Anthropic(api_key=None, base_url=None, timeout_s=5.0),
            "openai": OpenAI(api_key=None, base_url=None, timeout_s=5.0),
        }
        services = build_services(settings, {"PATH": os.defpath}, providers=providers)
        try:
            app = create_app(services=services, auth_handler=auth_handler, clock=clock)
        except BaseException:
            services.stop(0.0)
            raise
        self._running.append(app)
        return app

    def stop(self, app: Flask, timeout_s: float = 0.0) -> None:
        self._running.remove(app)
        app.extensions["opencode"].stop(timeout_s)

    def stop_all(self) -> None:
        for app in list(self._running):
            self.stop(app)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty") / "data"
    open_store(None, folder).close()
    return folder


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; its database `template_store` has our schema, and is there to be copied."""
    server = Postgres()
    server.execute("CREATE DATABASE template_store")
    open_store(server.url("template_store"), Path("/unused")).close()
    server.shared = server.database("template_store")
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres: Postgres):
    """An empty store on PostgreSQL. Emptying one is ten times as fast as making another."""
    tables = ("sessions", "spending", "idempotency", "secrets", "marks", "webhooks", "screens")
    postgres.execute(*(f"DELETE FROM {table}" for table in tables), database=postgres.shared)
    return postgres.url(postgres.shared)


@pytest.fixture
def valkey():
    server = Valkey()
    yield server
    server.remove()


@pytest.fixture
def make_app(tmp_path: Path, empty_store: Path):
    apps = Apps(tmp_path, empty_store)
    yield apps
    apps.stop_all()


@pytest.fixture(scope="module")
def make_lasting_app(tmp_path_factory: pytest.TempPathFactory, empty_store: Path):
    """As `make_app`, for apps that all tests of a module share: what one of them stores, the others see."""
    apps = Apps(tmp_path_factory.mktemp("lasting"), empty_store)
    yield apps
    apps.stop_all()


@pytest.fixture
def app(make_app: Apps) -> Flask:
    return make_app()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()

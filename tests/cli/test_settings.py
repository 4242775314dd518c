"""Settings: arguments, then the environment, then defaults."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config import Settings, place


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TIDEGATE_{name.upper()}", raising=False)


def test_the_defaults_bind_to_this_machine_only_and_are_durable() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.engine, settings.synchronous) == ("sqlite", "full")
    assert settings.openai_api_key is None


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=7000).port == 7000


def test_a_list_is_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_ALLOWED_HOSTS", "chat.example, other.example,")
    assert Settings().allowed_hosts == ("chat.example", "other.example")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_MODEL", "")
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert Settings().model is None
    assert Settings().openai_api_key is None


def test_the_key_comes_from_its_usual_name_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    key = Settings().openai_api_key
    assert key is not None
    assert key.get_secret_value() == "very-secret"
    assert "very-secret" not in repr(Settings())


def test_settings_never_change_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # the rule under test
    with pytest.raises(ValidationError, match="prot"):
        Settings(prot=1)  # type: ignore[call-arg]  # the rule under test


@pytest.mark.parametrize(
    "engine",
    [
        "sqlite",
        "memory",
        "postgresql://tidegate@db/chat",
        "postgres://tidegate:p%40ss@db:6432/chat?sslmode=require",
        "postgresql://a:b@one:5432,[::1]:5433/chat?target_session_attrs=primary",
        "postgresql:///chat?host=/run/postgresql",
    ],
)
def test_an_engine_is_one_of_two_words_or_the_url_of_a_postgres_database(engine: str) -> None:
    assert Settings(engine=engine).engine == engine


@pytest.mark.parametrize(
    "engine",
    [
        "tape",
        "mysql://u:very-secret@h/d",
        "postgresql:/u:very-secret@h/d",
        "postgresql://u:very-secret@h:port/d",
        "postgresql://u:very/secret@h/d",
        "postgresql://u:very-secret#@h/d",
        "postgresql://u:1?very-secret@h/d",
        "postgresql://u:very-secret@[h/d",
    ],
)
def test_what_is_refused_as_an_engine_is_not_repeated(engine: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(engine=engine)
    assert "secret" not in str(refused.value)


def test_no_password_of_a_database_is_shown() -> None:
    url = "postgresql://tidegate:very-secret@db/chat?password=very-secret"
    assert "very-secret" not in repr(Settings(engine=url, engine_direct=url))
    assert place(url) == "db:5432/chat"
    for careless in ("very/secret", "very@secret", "very:secret", "very?secret", "1?very@secret"):
        assert "secret" not in place(f"postgresql://me:{careless}@host/db")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:6432/d", "h:6432/d"),
        ("postgresql://u:p@one,two:5433/d", "one:5432,two:5433/d"),
        ("postgresql://u@[::1]/d", "[::1]:5432/d"),
        ("postgresql:///d?host=/run/postgresql&port=5433", "/run/postgresql:5433/d"),
        ("postgresql://u:p@h", "h:5432/u"),
        ("postgresql://h", "h:5432"),
    ],
)
def test_the_place_of_a_database_is_its_address_without_secrets(url: str, shown: str) -> None:
    assert place(url) == shown

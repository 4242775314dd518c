"""Settings: arguments, then the environment, then defaults."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config import Settings


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

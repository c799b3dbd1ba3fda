"""Settings: one that cannot be used is named, with its remedy, and a secret is never shown."""

import logging
from pathlib import Path

import pytest

from app.settings import Secrets, Settings, load, read_secrets, settings
from app.webhooks.endpoint import Endpoint
from app.webhooks.route import webhook_router
from tests.engine.service import SharedSecret, handle

PLACEHOLDERS = [
    "whsec_replace_me",
    "CHANGE-ME",
    "changeit",
    "your-secret",
    "an example",
    "xxxx",
    "whsec_",
    "whsec_xxxx",
    "whsec_...",
    "<secret>",
    "${THE_SECRET}",
    "{{ secret }}",
    "todo",
    "secret",
]
REAL = ["whsec_Zm9vYmFy", "0f1e2d3c4b5a", "q9<Zf}{$w;%T)=*x!K7.@:ß~_r(|^?[`"]


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder without a `.env`, and without the environment of the tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("ENVIRONMENT", "DATABASE_URL", "THE_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def start(*values: str, remedy: str = "ask the sender") -> None:
    """Make the router of an endpoint with these secrets, as an application does."""
    verify = SharedSecret(Secrets("THE_SECRET", values, remedy))
    webhook_router([Endpoint("test", verify=verify, handler=handle)])


@pytest.mark.parametrize("value", PLACEHOLDERS)
def test_production_does_not_start_with_a_placeholder_for_a_secret(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setattr(settings, "environment", "production")

    with pytest.raises(SystemExit) as refusal:
        start("0f1e2d3c4b5a", value)

    assert str(refusal.value) == "THE_SECRET is still a placeholder: ask the sender"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ((), "THE_SECRET is not set: ask the sender"),
        (("0f1e\x1b",), "THE_SECRET has characters that do not print: ask the sender"),
    ],
)
def test_production_does_not_start_without_a_usable_secret(
    monkeypatch: pytest.MonkeyPatch, values: tuple[str, ...], problem: str
) -> None:
    monkeypatch.setattr(settings, "environment", "production")

    with pytest.raises(SystemExit) as refusal:
        start(*values)

    assert str(refusal.value) == problem


def test_production_starts_with_real_secrets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "environment", "production")

    start(*REAL)

    assert caplog.records == []


def test_in_development_a_warning_will_do(caplog: pytest.LogCaptureFixture) -> None:
    start()

    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "THE_SECRET is not set: ask the sender",
    )


def test_it_is_production_unless_somebody_says_otherwise(in_folder: Path) -> None:
    assert load(Settings).environment == "production"


def test_secrets_are_separated_by_commas(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", " the-current-one,\n the-previous-one ,")

    assert tuple(read_secrets("THE_SECRET")) == ("the-current-one", "the-previous-one")


def test_the_environment_comes_before_the_env_file(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "THE_SECRET=from-the-file\r\nMAX_ATTEMPTS=7\r\nCONCURRENCY=7\r\n"
    (in_folder / ".env").write_bytes(lines.encode())
    monkeypatch.setenv("CONCURRENCY", "8")

    loaded = load(Settings)
    assert (loaded.max_attempts, loaded.concurrency) == (7, 8)
    assert tuple(read_secrets("THE_SECRET")) == ("from-the-file",)
    monkeypatch.setenv("THE_SECRET", "from-the-environment")
    assert tuple(read_secrets("THE_SECRET")) == ("from-the-environment",)


def test_a_blank_value_is_an_unset_one(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ATTEMPTS", "")
    monkeypatch.setenv("THE_SECRET", " , ")

    assert load(Settings).max_attempts == Settings.model_fields["max_attempts"].default
    assert tuple(read_secrets("THE_SECRET")) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENVIRONMENT", "prod"),
        ("MAX_ATTEMPTS", "many"),
        ("MAX_ATTEMPTS", "0"),
        ("CONCURRENCY", "-1"),
        ("MAX_BODY_BYTES", "1MB"),
        ("HANDLER_TIMEOUT_SECONDS", "0"),
        ("HANDLER_TIMEOUT_SECONDS", "inf"),
        ("RETRY_CAP_SECONDS", "nan"),
        ("ACK_DEADLINE_SECONDS", "5s"),
    ],
)
def test_a_setting_without_a_usable_value_is_named(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as refusal:
        load(Settings)

    line = str(refusal.value)
    assert line.startswith(f"{name}: ")
    assert "\n" not in line


def test_all_settings_without_a_usable_value_are_named_at_once(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_ATTEMPTS", "many")
    monkeypatch.setenv("RETRY_CAP_SECONDS", "-1")

    with pytest.raises(SystemExit, match=r"^MAX_ATTEMPTS: .*; RETRY_CAP_SECONDS: "):
        load(Settings)


def test_secrets_and_passwords_are_not_shown(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_SECRET", "0f1e2d3c4b5a")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:the-password@host/name")

    assert "0f1e2d3c4b5a" not in repr(read_secrets("THE_SECRET"))
    assert "the-password" not in repr(load(Settings))

"""Settings: what is wrong is named, with its remedy; what is secret is not shown."""

import pytest

from app import config
from app.config import Settings, load, require


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this is production."""
    settings = config.settings.model_copy(update={"environment": "production"})
    monkeypatch.setattr(config, "settings", settings)


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize(
    ("secrets", "problem"),
    [
        ((), "is not set"),
        (("whsec_replace_me",), "placeholder"),
        (("good", "CHANGE-ME"), "placeholder"),
        (("your-secret",), "placeholder"),
        (("xxxx",), "placeholder"),
    ],
)
def test_a_secret_that_is_none_stops_production(secrets: tuple[str, ...], problem: str) -> None:
    with pytest.raises(SystemExit, match=f"^THE_SECRET .*{problem}.*: ask for it$"):
        require("THE_SECRET", secrets, "ask for it")


@pytest.mark.usefixtures("production")
def test_real_secrets_are_accepted() -> None:
    secrets = ("whsec_Zm9vYmFy", "0f1e2d3c4b5a")
    assert require("THE_SECRET", secrets, "ask for it") == secrets


def test_in_development_a_warning_will_do(caplog: pytest.LogCaptureFixture) -> None:
    assert require("THE_SECRET", (), "ask for it") == ()
    assert "THE_SECRET is not set: ask for it" in caplog.text


def test_what_has_no_usable_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ATTEMPTS", "many")
    monkeypatch.setenv("RETRY_CAP_SECONDS", "-1")
    with pytest.raises(SystemExit, match=r"^MAX_ATTEMPTS: .*; RETRY_CAP_SECONDS: ") as refusal:
        load(Settings)
    assert "many" not in str(refusal.value)


def test_blank_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ATTEMPTS", "")
    assert load(Settings).max_attempts == Settings.model_fields["max_attempts"].default


def test_where_the_database_is_stays_out_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:the-password@host/name")
    assert "the-password" not in repr(load(Settings))

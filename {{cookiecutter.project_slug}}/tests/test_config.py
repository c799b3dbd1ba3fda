"""Settings: what is wrong is named, with its remedy; what is secret is not shown."""

import runpy

import pytest

from app import config
from app.config import Settings, load, require
from tests.support import ROOT


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
        (("whsec_...",), "placeholder"),
        (("whsec_",), "placeholder"),
        (("whsec_xxxx",), "placeholder"),
        (("<secret>",), "placeholder"),
        (("todo",), "placeholder"),
        (("changeit",), "placeholder"),
        (("${THE_SECRET}",), "placeholder"),
        (("0f1e2d3c4b5a\x1b",), "is not text"),
    ],
)
def test_a_secret_that_is_none_stops_production(secrets: tuple[str, ...], problem: str) -> None:
    with pytest.raises(SystemExit, match=f"^THE_SECRET .*{problem}.*: ask for it$"):
        require("THE_SECRET", secrets, "ask for it")


@pytest.mark.usefixtures("production")
def test_real_secrets_are_accepted() -> None:
    secrets = ("whsec_Zm9vYmFy", "0f1e2d3c4b5a", "q9<Zf}{$w;%T)=*x!K7.@:ß~_r(|^?[`")
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


@pytest.mark.parametrize("value", ["inf", "nan", "0"])
def test_a_time_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HANDLER_TIMEOUT_SECONDS", value)
    with pytest.raises(SystemExit, match=r"^HANDLER_TIMEOUT_SECONDS: "):
        load(Settings)


def database(monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, object]:
    """Return what a process with this DATABASE_URL begins with."""
    settings = config.settings.model_copy(update={"database_url": url})
    monkeypatch.setattr(config, "settings", settings)
    return runpy.run_path(str(ROOT / "app" / "database.py"))


@pytest.mark.parametrize(
    "url", ["nonsense", "postgresql://host:port/inbox", "mysql://localhost/inbox"]
)
def test_a_database_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(SystemExit, match=r"^DATABASE_URL (is no URL|names mysql)"):
        database(monkeypatch, url)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=1",
        "sqlite:///file:x?mode=memory&uri=1",
    ],
)
def test_a_database_that_would_not_last_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(SystemExit, match=r"^DATABASE_URL names no file"):
        database(monkeypatch, url)


def test_postgresql_goes_by_both_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("postgres", "postgresql"):
        assert not database(monkeypatch, f"{scheme}://me@host/name")["is_sqlite"]


def test_blank_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ATTEMPTS", "")
    assert load(Settings).max_attempts == Settings.model_fields["max_attempts"].default


def test_where_the_database_is_stays_out_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:the-password@host/name")
    assert "the-password" not in repr(load(Settings))

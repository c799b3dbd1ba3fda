"""The inspector's settings. It is off unless `INSPECTOR_PASSWORD` is set."""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.settings import ENV_FILE, PLACEHOLDER, load

MIN_LENGTH = 12  # characters of a password


def _check_password(text: str | None) -> str | None:
    if text is not None and len(text) < MIN_LENGTH:
        raise PydanticCustomError("short", f"must have at least {MIN_LENGTH} characters")
    if text is not None and PLACEHOLDER.search(text):
        raise PydanticCustomError("placeholder", "is still a placeholder: choose a password")
    return text


Password = Annotated[str | None, Field(repr=False), AfterValidator(_check_password)]


class InspectorSettings(BaseSettings):
    """Who may see the events, and who may replay them."""

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", env_prefix="INSPECTOR_"
    )

    password: Password = None
    """For those who may replay events."""
    read_password: Password = None
    """For those who may only look."""

    @field_validator("read_password")
    @classmethod
    def _check_other(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None and "password" in info.data:
            if info.data["password"] is None:
                raise PydanticCustomError("alone", "needs INSPECTOR_PASSWORD to be set, too")
            if info.data["password"] == text:
                raise PydanticCustomError("same", "must differ from INSPECTOR_PASSWORD")
        return text


settings = load(InspectorSettings)

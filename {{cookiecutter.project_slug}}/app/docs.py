"""Real examples, signed when they are asked for, so that `/docs` can try the endpoint out."""

import json
import uuid
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from app import providers

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"


def fixtures(provider: str) -> dict[str, Path]:
    """Return the sample payloads of a provider by event type."""
    folder = FIXTURES / provider
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def add_examples(app: FastAPI) -> None:
    """Let the OpenAPI document show a delivery of each provider, with headers that verify."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        for name, provider in providers.load().items():
            for type, path in list(fixtures(name).items())[:1]:
                data = json.loads(path.read_text("utf-8"))
                body, headers = provider.deliver(data, f"evt_{uuid.uuid4().hex}", type)
                operation = document["paths"][f"/webhooks/{name}"]["post"]
                operation["parameters"] = [
                    {
                        "name": header,
                        "in": "header",
                        "required": True,
                        "schema": {"type": "string"},
                        "example": value,
                    }
                    for header, value in headers.items()
                ]
                example = {"schema": {"type": "object"}, "example": json.loads(body)}
                operation["requestBody"] = {"content": {"application/json": example}}
        return document

    app.openapi = openapi  # type: ignore[method-assign]

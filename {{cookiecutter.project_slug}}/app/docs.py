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
            type, path = next(iter(fixtures(name).items()))
            data = json.loads(path.read_text("utf-8"))
            body, headers = provider.deliver(data, f"evt_{uuid.uuid4().hex}", type)
            shown = {"in": "header", "required": True, "schema": {"type": "string"}}
            document["paths"][f"/webhooks/{name}"]["post"] |= {
                "parameters": [{"name": key, "example": headers[key]} | shown for key in headers],
                "requestBody": {"content": {"application/json": {"example": json.loads(body)}}},
            }
        return document

    app.openapi = openapi  # type: ignore[method-assign]

"""An example in `/docs` that can be tried out: it is signed whenever the page is loaded."""

import json
from typing import Any

from fastapi import FastAPI

from app import providers
from samples import delivery, fixtures

HINT = "The example is signed for this moment: send it within five minutes, and as it stands."


def add_examples(app: FastAPI) -> None:
    """Let the OpenAPI document show a delivery of each provider, with headers that verify."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        for name in filter(fixtures, providers.load()):
            operation = document["paths"][f"/webhooks/{name}"]["post"]
            _, body, headers = delivery(name, next(iter(fixtures(name))))
            shown = {"in": "header", "required": True, "schema": {"type": "string"}}
            operation |= {
                "parameters": [{"name": key, "example": headers[key]} | shown for key in headers],
                "requestBody": {"content": {"application/json": {"example": json.loads(body)}}},
            }
            if headers and HINT not in operation["description"]:
                operation["description"] += f"\n\n{HINT}"
        return document

    app.openapi = openapi  # type: ignore[method-assign]

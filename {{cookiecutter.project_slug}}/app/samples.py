"""Sample deliveries, signed as their sender would sign them: for `send`, `/docs` and the tests.

The samples are the files in `tests/fixtures/<provider>/`. Production has none of them.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from pydantic import BaseModel

from app.webhooks.endpoint import Endpoint, nobody
from app.webhooks.verifier import Verifier

FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
HINT = "The example is signed for this moment: send it within five minutes, and unchanged."


@dataclass(frozen=True)
class Sample:
    """A delivery, ready to be sent."""

    event_id: str
    body: bytes
    headers: dict[str, str]


def sample_files(endpoint: Endpoint) -> dict[str, Path]:
    """Return the files with samples for an endpoint, by event type.

    A type with a slash is a file in a folder: `orders/paid` is `orders/paid.json`. What a file's
    name cannot hold is percent-encoded: `/paid` is `%2Fpaid.json`.
    """
    if not isinstance(endpoint.verify, Verifier):
        return {}  # nobody can sign for a verifier of another kind
    folder = FIXTURES / endpoint.verify.provider
    files = sorted(folder.rglob("*.json"))
    return {unquote(file.relative_to(folder).with_suffix("").as_posix()): file for file in files}


def sample(endpoint: Endpoint, event_type: str, event_id: str = "", **changes: Any) -> Sample:
    """Return a delivery of a sample, signed now.

    Args:
        event_id: The event's id; a new one if not given.
        changes: Fields to set, by their path: `data__object__amount=1`.

    Raises:
        KeyError: there is no sample of this type.
    """
    assert isinstance(endpoint.verify, Verifier)  # noqa: S101
    data = json.loads(sample_files(endpoint)[event_type].read_text("utf-8"))
    for path, value in changes.items():
        *parents, name = path.split("__")
        target = data
        for parent in parents:
            target = target[parent]
        target[name] = value
    event_id = event_id or f"evt_{uuid.uuid4().hex}"
    body, headers = endpoint.verify.sample(data, event_id, event_type)
    return Sample(event_id, body, headers)


def add_examples(app: FastAPI, endpoints: Sequence[Endpoint]) -> None:
    """Let `/docs` show a delivery for each endpoint that can be tried out.

    See https://fastapi.tiangolo.com/how-to/extending-openapi/.
    """
    plain_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain_openapi()
        for endpoint in endpoints:
            if endpoint.verify is nobody:
                continue
            example = _example(endpoint)
            operation = document["paths"].get(app.url_path_for(endpoint.name), {}).get("post")
            if example is not None and operation is not None:
                _show(operation, example)
            model = getattr(endpoint.verify, "model", None)
            if model is not None and operation is not None:
                _show_model(document, operation, model)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _example(endpoint: Endpoint) -> Sample | None:
    """Return the first sample that is JSON: of a form, `/docs` would send other bytes."""
    for event_type in sample_files(endpoint):
        example = sample(endpoint, event_type)
        if example.body.startswith(b"{"):
            return example
    return None


def _show(operation: dict[str, Any], example: Sample) -> None:
    content = {"application/json": {"example": json.loads(example.body)}}
    operation["requestBody"] = {"content": content}
    operation["parameters"] = [
        {"in": "header", "name": name, "example": value, "schema": {"type": "string"}}
        for name, value in example.headers.items()
    ]
    if example.headers and HINT not in operation["description"]:
        operation["description"] += f"\n\n{HINT}"


def _show_model(
    document: dict[str, Any], operation: dict[str, Any], model: type[BaseModel]
) -> None:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = schema.pop("$defs", {}) | {model.__name__: schema}
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    body = operation.setdefault("requestBody", {}).setdefault("content", {})
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    body.setdefault("application/json", {})["schema"] = reference

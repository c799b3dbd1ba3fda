"""Fails closed: no start without a real secret, no 5xx for a malformed request, guards that run."""

from mutants.mutant import ENGINE, Mutant

ANSWERS, EVENTS, FASTAPI, MAIN, SETTINGS, SIGNATURES = (
    f"{ENGINE}{name}.py"
    for name in ("answers", "events", "fastapi", "main", "settings", "signatures")
)

MUTANTS = [
    Mutant(
        "production starts without a real secret",
        "app/webhooks/route.py",
        '    if problem and settings.environment == "production":\n',
        "    if False:\n",
        MAIN,
    ),
    Mutant(
        "an unset secret is accepted",
        "app/settings.py",
        "        if not self.values:\n",
        "        if False:\n",
        SETTINGS,
    ),
    Mutant(
        "a placeholder is accepted",
        "app/settings.py",
        "        if any(PLACEHOLDER.search(value) for value in self.values):\n",
        "        if False:\n",
        SETTINGS,
    ),
    Mutant(
        "a secret that does not print is accepted",
        "app/settings.py",
        "        if not all(value.isprintable() for value in self.values):\n",
        "        if False:\n",
        SETTINGS,
    ),
    Mutant(
        "an empty secret counts as one",
        "app/settings.py",
        "tuple(part for part in parts if part)",
        "tuple(parts)",
        SETTINGS,
    ),
    Mutant(
        "development is the default",
        "app/settings.py",
        '["development", "production"] = "production"',
        '["development", "production"] = "development"',
        SETTINGS,
    ),
    Mutant(
        "a secret is shown",
        "app/settings.py",
        "values: tuple[str, ...] = field(repr=False)",
        "values: tuple[str, ...]",
        SETTINGS,
    ),
    Mutant(
        "the verifier is not a dependency of the route",
        "app/webhooks/route.py",
        "    verified = Annotated[Delivery, Depends(endpoint.verify)]\n",
        "    async def verify(request: Request) -> Delivery:\n"
        "        from app.webhooks.body import read_body\n"
        "        return await endpoint.verify(request, await read_body(request))\n\n"
        "    verified = Annotated[Delivery, Depends(verify)]\n",
        FASTAPI,
    ),
    Mutant(
        "a header that is not ASCII is a server error",
        "app/webhooks/signatures.py",
        "            if hmac.compare_digest(text.encode(), expected):\n",
        "            if hmac.compare_digest(text, expected.decode()):\n",
        f"{ENGINE}stripe.py",
    ),
    Mutant(
        "a timestamp that is none is a server error",
        "app/webhooks/signatures.py",
        "    if not is_number:\n",
        "    if False:\n",
        SIGNATURES,
    ),
    Mutant(
        "a body that is nested too deeply is a server error",
        "app/events.py",
        "    except (ValueError, RecursionError):\n",
        "    except ValueError:\n",
        EVENTS,
    ),
    Mutant(
        "a body that is no object is a server error",
        "app/webhooks/stripe.py",
        "        if not isinstance(data, dict):\n",
        "        if False:\n",
        f"{ENGINE}stripe.py",
    ),
    Mutant(
        "a body that does not fit is a server error",
        "app/webhooks/unsigned.py",
        "        except ValidationError as error:\n",
        "        except ZeroDivisionError as error:\n",
        f"{ENGINE}unsigned.py",
        provider="unsigned",
    ),
    Mutant(
        "a handler that no endpoint uses starts in silence",
        "app/webhooks/endpoint.py",
        "        if inspect.iscoroutinefunction(handle) and handle not in used:\n",
        "        if False:\n",
        f"{ENGINE}endpoints.py",
    ),
]

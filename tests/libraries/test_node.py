"""The providers' own libraries for Node agree with the projects: both ways, body for body."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Install
from project import Variant, run

NODE = shutil.which("node")
NPM = shutil.which("npm")

# Prints a signature of the library's own making, and what it thinks of one of ours.
SHOPIFY = """
import "@shopify/shopify-api/adapters/node";

import { shopifyApi, ApiVersion } from "@shopify/shopify-api";
const [secret, body, ours] = process.argv.slice(2);
const api = shopifyApi({
  apiKey: "key", apiSecretKey: secret, hostName: "example.com",
  apiVersion: Object.values(ApiVersion).at(-1), isEmbeddedApp: false,
  logger: { log: () => {} },
});
const headers = JSON.parse(ours);
const check = async (sent) => (await api.webhooks.validate(
  { rawBody: sent, rawRequest: { headers, method: "POST", url: "/" }, rawResponse: {} }
)).valid;
console.log(JSON.stringify([await check(body), await check(body + " ")]));
"""

SAMPLE = """
import json, sys
from app.settings import Secrets
from app.webhooks.shopify import Shopify

verifier = Shopify(Secrets("SHOPIFY_WEBHOOK_SECRET", (sys.argv[1],), ""))
body, headers = verifier.sample({"name": "Zo\u00eb"}, "evt_1", "orders/paid")
print(json.dumps([body.decode(), headers]))
"""


@pytest.mark.skipif(not (NODE and NPM), reason="node and npm are not installed")
def test_shopify_s_library_accepts_what_a_sample_is_signed_with(
    install: Install, tmp_path: Path
) -> None:
    project = install(Variant("shopify", "background"))
    try:
        run(["npm", "install", "--silent", "--no-audit", "@shopify/shopify-api"], tmp_path, 300)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"@shopify/shopify-api cannot be installed: {error}"[:200])
    (tmp_path / "check.mjs").write_text(SHOPIFY, encoding="utf-8")
    (tmp_path / "sample.py").write_text(SAMPLE, encoding="utf-8")
    key = "shpss_made_up_for_the_tests"
    printed = project.run(f".venv/bin/python {tmp_path / 'sample.py'} {key}", PYTHONPATH=".")
    body, headers = json.loads(printed)
    checked = run(["node", "check.mjs", key, body, json.dumps(headers)], tmp_path)
    assert json.loads(checked.splitlines()[-1]) == [True, False]

"""What a generated project, and the template itself, consist of."""

import ast
import json
import os
import re
from fnmatch import fnmatch
from itertools import product
from pathlib import Path, PurePosixPath

import pytest
import yaml
from conftest import Baked
from cookiecutter.utils import create_env_with_context
from jinja2 import nodes
from project import (
    CHOICES,
    CONFIG,
    FACTS,
    PAGES,
    PROMPTS,
    QUESTIONS,
    ROOT,
    TEMPLATE,
    TEXTS,
    Project,
    Variant,
    bake,
    repository_files,
)

# The questions whose answers are folders laid over the project.
OVERLAYS = ("provider", "processing")

# Words that belong only in the projects of a choice, as patterns. A choice that is not listed goes
# by its own name. The first three are ordinary words, which mean nothing where they appear.
WORDS = {
    "custom": [],
    "unsigned": [],
    "background": [],
    "github": ["github(?!/|\\.com|\\.io|\\.workflow|\\.ref|_env)"],
    "standard-webhooks": ["standard[-_ ]?webhooks"],
    "celery": ["celery", "kombu", "rabbitmq", "amqps?", "pyamqp", "redis", "rediss"],
    "arq": ["arq", "fakeredis", "redis", "rediss"],
}

INBOX = "app/inbox/inbox.py"

TEMPLATE_FILES = {
    file.relative_to(TEMPLATE).as_posix(): file
    for file in repository_files()
    if file.is_relative_to(TEMPLATE)
}


def is_copied(name: str) -> bool:
    """Tell whether a file of the template is copied as it is, rather than rendered."""
    path = PurePosixPath(name)
    paths = [path, *path.parents]
    patterns = CONFIG["_copy_without_render"]
    return any(fnmatch(str(each), pattern) for each in paths for pattern in patterns)


RENDERED = [name for name in TEMPLATE_FILES if not is_copied(name)]


def overlay(question: str, choice: str) -> set[str]:
    """Return the files that an answer adds, as the paths they have in the project."""
    folder = f"{question}/{choice}/"
    return {name.removeprefix(folder) for name in TEMPLATE_FILES if name.startswith(folder)}


def common_files() -> set[str]:
    """Return the files that every project has."""
    return {name for name in TEMPLATE_FILES if name.partition("/")[0] not in OVERLAYS}


def test_a_project_has_the_common_files_those_of_its_answers_and_a_first_env(
    variant: Variant, project: Project
) -> None:
    provider = overlay("provider", variant.provider)
    processing = overlay("processing", variant.processing)
    common = common_files() - set(FACTS[variant.provider]["without"])
    assert project.files == sorted(common | provider | processing | {".env"})


def test_what_a_provider_does_without_is_a_common_file() -> None:
    for provider in CHOICES["provider"]:
        assert set(FACTS[provider]["without"]) <= common_files(), provider


def test_every_provider_has_the_files_that_the_readme_and_the_tests_expect() -> None:
    for provider in CHOICES["provider"]:
        module = provider.replace("-", "_")
        expected = {
            "app/endpoints.py",
            f"app/handlers/{module}.py",
            f"app/webhooks/{module}.py",
            f"tests/handlers/test_{module}.py",
            f"tests/fixtures/{provider}/{FACTS[provider]['sample']}.json",
        }
        assert expected <= overlay("provider", provider), provider


def test_every_processing_has_a_queue_and_those_with_workers_a_worker() -> None:
    for processing in CHOICES["processing"]:
        files = overlay("processing", processing)
        assert "app/processing/queue.py" in files, processing
        has_workers = FACTS[processing]["worker"] != ""
        assert ("app/worker.py" in files) == has_workers, processing
        assert ("app/processing/worker.py" in files) == has_workers, processing


def test_every_choice_has_a_folder_and_every_folder_is_a_choice() -> None:
    for question in OVERLAYS:
        names = [name.split("/") for name in TEMPLATE_FILES if name.startswith(f"{question}/")]
        assert {parts[1] for parts in names} == set(CHOICES[question])


def test_the_folder_of_an_answer_replaces_no_common_file() -> None:
    for question in OVERLAYS:
        for choice in CHOICES[question]:
            assert overlay(question, choice) & common_files() == set()


def test_the_folders_of_a_provider_and_of_a_processing_share_no_file() -> None:
    for provider, processing in product(CHOICES["provider"], CHOICES["processing"]):
        assert overlay("provider", provider) & overlay("processing", processing) == set()


def test_facts_are_stated_for_each_choice_and_for_nothing_else() -> None:
    assert set(FACTS) == {choice for question in OVERLAYS for choice in CHOICES[question]}
    for question in OVERLAYS:
        facts_of_one = set(FACTS[CHOICES[question][0]])
        for choice in CHOICES[question]:
            assert set(FACTS[choice]) == facts_of_one, choice


def test_no_file_and_no_folder_is_empty(project: Project) -> None:
    assert [file for file in project.files if not project.read(file).strip()] == []
    folders = [path for path in project.path.rglob("*") if path.is_dir()]
    assert [folder for folder in folders if not any(folder.iterdir())] == []


def test_what_an_answer_leaves_out_leaves_no_gap(project: Project) -> None:
    for file in project.files:
        text = project.read(file)
        most_blank_lines = 2 if file.endswith(".py") else 1
        assert text.endswith("\n"), file
        assert text == text.strip() + "\n", file
        assert "\n" * (most_blank_lines + 2) not in text, file
        assert "\r" not in text, file
        assert re.search(r"[ \t]$", text, re.MULTILINE) is None, file


def test_no_sentence_begins_right_after_another(project: Project) -> None:
    # As a condition does that swallows the line break before it.
    for file in project.files:
        assert re.search(r"[a-z]\.[A-Z][a-z]+ [a-z]", project.read(file)) is None, file


def is_illegal_on_windows(path: str) -> bool:
    return any(
        re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', part)
        or re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", part, re.IGNORECASE)
        for part in PurePosixPath(path).parts
    )


def test_every_name_is_legal_on_windows(project: Project) -> None:
    assert [file for file in project.files if is_illegal_on_windows(file)] == []
    assert len({file.casefold() for file in project.files}) == len(project.files)
    assert max(map(len, project.files)) <= 100


def test_the_template_can_be_checked_out_on_windows() -> None:
    files = [file.relative_to(ROOT).as_posix() for file in repository_files()]
    assert [file for file in files if is_illegal_on_windows(file)] == []
    assert len({file.casefold() for file in files}) == len(files)
    assert max(map(len, files)) <= 140  # Windows allows 260 characters in all


def test_nothing_of_jinja_remains(project: Project) -> None:
    for file in project.files:
        if file == ".cookiecutter.yaml":
            continue  # Cookiecutter renders it again: see test_hooks.py
        residue = r"(?<!\$)\{\{|\{%|\{#"
        if file.endswith(".py"):
            residue = r"\{\{ *cookiecutter|\{%"
        elif file.startswith("app/inspector/templates/"):  # which the service itself renders
            residue = "cookiecutter"
        assert re.search(residue, project.read(file)) is None, file


def test_python_sources_hold_no_jinja() -> None:
    sources = [name for name in TEMPLATE_FILES if name.endswith(".py")]
    assert sources
    assert set(sources) & set(RENDERED) == set()
    for source in sources:
        ast.parse(TEMPLATE_FILES[source].read_bytes(), source)


def test_no_project_names_what_was_not_chosen(variant: Variant, project: Project) -> None:
    chosen = {word for answer in variant.answers.values() for word in WORDS.get(answer, [answer])}
    choices = [choice for question in OVERLAYS for choice in CHOICES[question]]
    others = {word for choice in choices for word in WORDS.get(choice, [choice])} - chosen
    named = re.compile(f"(?<![a-z])(?:{'|'.join(sorted(others))})(?![a-z])", re.IGNORECASE)
    for file in project.files:
        lines = [file, *project.read(file).splitlines()]
        assert [line for line in lines if named.search(line)] == [], file


def conditions(template: nodes.Template) -> list[nodes.If | nodes.CondExpr]:
    return [*template.find_all(nodes.If), *template.find_all(nodes.CondExpr)]


@pytest.mark.parametrize("file", RENDERED)
def test_every_condition_is_true_for_some_answers_and_false_for_others(file: str) -> None:
    environment = create_env_with_context({"cookiecutter": {}})
    seen: set[tuple[int, bool]] = set()

    def observe(number: int, outcome: object) -> object:
        seen.add((number, bool(outcome)))
        return outcome

    template = environment.parse(TEMPLATE_FILES[file].read_text(encoding="utf-8"))
    found = conditions(template)
    for number, condition in enumerate(found):
        arguments = [nodes.Const(number), condition.test]
        condition.test = nodes.Call(nodes.Name("observe", "load"), arguments, [], None, None)
    compiled = environment.from_string(template)
    for *chosen, text in product(*CHOICES.values(), ["", "words"]):
        answers = dict.fromkeys(TEXTS, text) | dict(zip(CHOICES, chosen, strict=True))
        compiled.render(cookiecutter=answers | {"_facts": FACTS}, observe=observe)
    assert seen == set(product(range(len(found)), (True, False)))


def test_every_prompt_is_a_question_that_explains_each_choice() -> None:
    assert PROMPTS.keys() == QUESTIONS.keys()
    for question, prompt in PROMPTS.items():
        if question not in CHOICES:
            assert prompt.endswith("?")
            continue
        assert prompt["__prompt__"].endswith("?")
        assert [choice for choice in prompt if choice != "__prompt__"] == CHOICES[question]
        for choice in CHOICES[question]:
            assert prompt[choice].startswith(f"{choice}: "), choice


def test_two_projects_of_the_same_answers_have_the_same_bytes(
    variant: Variant, project: Project, tmp_path: Path
) -> None:
    again = bake(tmp_path / "elsewhere", **variant.answers)
    assert again.files == project.files
    for file in project.files:
        one, other = project.path / file, again.path / file
        assert one.read_bytes() == other.read_bytes(), file
        assert one.stat().st_mode == other.stat().st_mode, file


def answers_used(text: str) -> set[tuple[str, str]]:
    """Return the questions that a text reads or answers, each with the answer it gives, if any."""
    reads = {(key, "") for key in re.findall(r"\{[{%][^}]*?\bcookiecutter\.([a-z]\w*)", text)}
    commands = re.findall(r"cookiecutter [^\n|]*--no-input[^\n|]*(?:\\\n[^\n|]*)*", text)
    given = [pair for command in commands for pair in re.findall(r"\s([a-z]\w*)=(\S+)", command)]
    return reads | set(given)


def test_every_answer_that_is_used_somewhere_exists() -> None:
    # Cookiecutter ignores the ones that it does not know.
    used: set[tuple[str, str]] = set()
    for file in repository_files():
        if file.suffix != ".png":
            used |= answers_used(file.read_text(encoding="utf-8"))
    assert used
    for key, value in used:
        assert key in QUESTIONS, f"{key}={value}"
        assert not value or key in TEXTS or value.strip("`\"'") in CHOICES[key], f"{key}={value}"


def test_every_sample_is_a_json_object(project: Project) -> None:
    samples = [file for file in project.files if file.startswith("tests/fixtures/")]
    assert samples
    for sample in samples:
        assert isinstance(json.loads(project.read(sample)), dict), sample


def variables_read(project: Project) -> set[str]:
    """Return the environment variables that the service reads, as its sources declare them."""
    variables: set[str] = set()
    for file in project.files:
        if file.startswith("app/") and file.endswith(".py"):
            for node in ast.walk(ast.parse(project.read(file))):
                if isinstance(node, ast.ClassDef) and is_settings(node):
                    variables |= settings_of(node)
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "read_secrets":
                    variables.add(ast.literal_eval(node.args[0]))
    return variables


def is_settings(definition: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith("Settings") for base in definition.bases)


def settings_of(settings: ast.ClassDef) -> set[str]:
    fields = [ast.unparse(each.target) for each in settings.body if isinstance(each, ast.AnnAssign)]
    (prefix,) = re.findall(r"env_prefix='(\w+)'", ast.unparse(settings)) or [""]
    return {f"{prefix}{field}".upper() for field in fields}


def test_env_example_has_the_variables_that_the_service_reads(
    variant: Variant, project: Project
) -> None:
    shown = set(re.findall(r"^([A-Z_]+)=", project.read(".env.example"), re.MULTILINE))
    read = variables_read(project)
    if variant.processing == "background":
        read.remove("REQUEUE_AFTER_SECONDS")  # of no use without a queue
    assert shown - {"POSTGRES_PASSWORD"} == read


def test_containers_have_longer_to_stop_than_the_service_takes(project: Project) -> None:
    dockerfile = project.read("Dockerfile")
    (requests,) = re.findall(r'"--timeout-graceful-shutdown", "(\d+)"', dockerfile)
    (handlers,) = re.findall(
        r"^GRACE_PERIOD_SECONDS=(\d+)$", project.read(".env.example"), re.MULTILINE
    )
    the_rest = 5
    services = yaml.safe_load(project.read("compose.yaml"))["services"]
    web = int(services["web"]["stop_grace_period"].removesuffix("s"))
    assert web > int(requests) + int(handlers) + the_rest
    if "worker" in services:
        worker = int(services["worker"]["stop_grace_period"].removesuffix("s"))
        assert worker > int(handlers) + the_rest


# How long senders wait for an answer, in seconds, where that is not much longer than our own limit.
PATIENCE = {"linear": 5, "shopify": 5, "slack": 3}


def test_an_answer_waits_for_a_transaction_on_sqlite_but_not_longer_than_its_sender(
    variant: Variant, project: Project
) -> None:
    (transaction,) = re.findall(
        r"^SQLITE_TRANSACTION_SECONDS = (\d+)", project.read(INBOX), re.MULTILINE
    )
    (answer,) = re.findall(
        r"^ACK_DEADLINE_SECONDS=(.+)$", project.read(".env.example"), re.MULTILINE
    )
    assert int(transaction) < float(answer) < PATIENCE.get(variant.provider, 10)


def test_idle_connections_are_kept_longer_than_a_proxy_keeps_them(project: Project) -> None:
    # nginx keeps them for 60 s, AWS's load balancers, too.
    (seconds,) = re.findall(r'"--timeout-keep-alive", "(\d+)"', project.read("Dockerfile"))
    assert int(seconds) > 60


def test_the_settings_that_are_shown_for_other_senders_are_those_that_are_tested(
    baked: Baked,
) -> None:
    project = baked(Variant("custom", "background"))
    _, _, section = project.read("docs/provider.md").partition("## Settings for twelve senders\n")
    section, _, _ = section.partition("\n## ")
    rows = re.findall(r"^\| \[(.+)\]\(https://\S+\) \| (.+) \|$", section, re.MULTILINE)
    shown = {
        sender: {name.lower(): value for name, value in re.findall(r"`([A-Z_]+)=(.+?)`", settings)}
        for sender, settings in rows
    }
    tests = ast.parse(project.read("tests/engine/test_custom_senders.py"))
    [tested] = [
        ast.literal_eval(statement.value)
        for statement in tests.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "SETTINGS"
    ]
    assert shown == tested
    assert len(shown) == 12


def test_the_pages_of_the_documentation_are_known_and_linked(project: Project) -> None:
    assert {file for file in project.files if file.endswith(".md")} == set(PAGES)
    readme = project.read("README.md")
    assert [page for page in PAGES[1:] if f"({page})" not in readme] == []


def test_no_link_within_the_documentation_dangles(project: Project) -> None:
    anchors = {page: anchors_of(project.read(page)) for page in PAGES}
    for page in PAGES:
        for target, _, anchor in links_of(project.read(page)):
            file = PurePosixPath(os.path.normpath(PurePosixPath(page).parent / target))
            linked = file.as_posix() if target else page
            assert linked in project.files, f"{page} links to {target}"
            if anchor:
                assert anchor in anchors[linked], f"{page} links to {target}#{anchor}"


def anchors_of(markdown: str) -> set[str]:
    """Return what links to the headings of a page are called."""
    text = re.sub(r"^ *```.*?^ *```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in headings}


def links_of(markdown: str) -> list[tuple[str, str, str]]:
    """Return the links within the documentation, as target, "#" or "", and anchor."""
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", markdown)
    return [target.partition("#") for target in targets]


def test_every_test_that_a_document_names_exists() -> None:
    files = repository_files()
    for document in (file for file in files if file.suffix == ".md"):
        text = document.read_text(encoding="utf-8")
        for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
            sources = [file.read_text(encoding="utf-8") for file in files if file.match(path)]
            assert any(f"def {test}(" in source for source in sources), f"{document}: {test}"

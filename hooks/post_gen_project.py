"""Keep what the answers chose, make a first .env, say what to do next."""

import os
import sys

SLUG = "{{ cookiecutter.project_slug }}"
PROVIDER = "{{ cookiecutter.provider }}"
PROCESSING = "{{ cookiecutter.processing }}"

WORKERS = {"celery": "celery -A app.queue worker", "arq": "arq app.queue.WorkerSettings"}


def refuse_the_name_of_a_dependency() -> None:
    """Stop before a project that would depend on itself, which uv cannot install."""
    with open("pyproject.toml", encoding="utf-8") as pyproject:
        names = {line.strip(' "').partition(">=")[0].partition("[")[0] for line in pyproject}
    if SLUG.lower().replace("_", "-").replace(".", "-") in names:
        sys.exit(
            f"project_slug {SLUG} is the name of a package the project installs:"
            f" answer another, like {SLUG}-app"
        )


def keep(question: str, choice: str) -> None:
    """Lay the chosen answer's folder over the project, and remove the question's folder."""
    # By hand: importing shutil takes longer than all the rest of this script.
    chosen = os.path.join(question, choice)
    for folder, _, files in os.walk(chosen):
        project_folder = os.path.relpath(folder, chosen)
        os.makedirs(project_folder, exist_ok=True)
        for file in files:
            os.replace(os.path.join(folder, file), os.path.join(project_folder, file))
    for folder, _, files in os.walk(question, topdown=False):
        for file in files:
            os.remove(os.path.join(folder, file))
        os.rmdir(folder)


def next_steps() -> str:
    """Return commands that work as they stand, a block for each terminal."""
    handlers = f"app/handlers/{PROVIDER.replace('-', '_')}.py"
    with open(handlers, encoding="utf-8") as source:
        # The first event the handlers know is one worth sending.
        event = next(line.split('"')[1] for line in source if line.lstrip().startswith('case "'))
    blocks = [["uv run uvicorn app.main:app --reload"]]
    if worker := WORKERS.get(PROCESSING):
        blocks.append([f"uv run {worker}"])
    blocks.append([f"uv run python -m app send {event}", "uv run pytest"])
    needs = "; Redis must answer at the BROKER_URL of .env" if PROCESSING == "arq" else ""
    commands = "\n\n".join("\n  ".join([f"  cd {SLUG}", *block]) for block in blocks)
    return (
        f"\nNext steps (a terminal for each block{needs}):\n\n{commands}\n\n"
        f"Then write your handlers in {handlers}."
    )


refuse_the_name_of_a_dependency()
keep("provider", PROVIDER)
keep("processing", PROCESSING)
if not os.path.exists(".env"):
    with open(".env.example", "rb") as example, open(".env", "xb") as env:
        env.write(example.read())
print(next_steps())

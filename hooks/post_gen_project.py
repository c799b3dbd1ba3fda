"""Copy the chosen folders into the project, make a first .env, print the next steps."""

import shutil
from pathlib import Path

SLUG = "{{ cookiecutter.project_slug }}"
PROVIDER = "{{ cookiecutter.provider }}"
PROCESSING = "{{ cookiecutter.processing }}"
SAMPLE = "{{ cookiecutter._facts[cookiecutter.provider].sample }}"
WITHOUT = "{{ cookiecutter._facts[cookiecutter.provider].without | join(' ') }}"
WORKER = "{{ cookiecutter._facts[cookiecutter.processing].worker }}"
BROKER = "{{ cookiecutter._facts[cookiecutter.processing].development_broker }}"


def keep(question: str, choice: str) -> None:
    """Copy the folder of the chosen answer into the project, and remove the question's folder."""
    shutil.copytree(f"{question}/{choice}", ".", dirs_exist_ok=True)
    shutil.rmtree(question)


def next_steps() -> str:
    """Return commands that work as they stand, a block for each terminal."""
    blocks = [
        ["uv run uvicorn app.main:app --reload"],
        [f"uv run python -m app send {SAMPLE}", "uv run pytest"],
    ]
    if WORKER:
        blocks.insert(1, [f"uv run {WORKER}"])
    lines = ["Next steps, a terminal for each block:", ""]
    if BROKER.startswith("redis:"):
        lines.insert(0, "Redis must answer at the BROKER_URL of .env.")
    for commands in blocks:
        lines += [f"  {command}" for command in [f"cd {SLUG}", *commands]]
        lines.append("")
    lines.append("Commit the project before you change it: updates of the template build on that.")
    lines.append(f"Then write your handlers in app/handlers/{PROVIDER.replace('-', '_')}.py.")
    return "\n".join(lines)


for unused in WITHOUT.split():
    Path(unused).unlink()
keep("provider", PROVIDER)
keep("processing", PROCESSING)
if not Path(".env").exists():
    shutil.copyfile(".env.example", ".env")
print(f"\n{next_steps()}")

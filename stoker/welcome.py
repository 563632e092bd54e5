"""What is said when everything is ready: where it is, how to get in, and a first call to copy."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

_EXAMPLES: dict[str, dict[str, object]] = {
    "text": {"prompt": "Say hello."},
    "image": {"prompt": "a red circle"},
    "embedding": {"texts": ["Hello."]},
}


def welcome(client: Mapping[str, str], client_file: Path, catalog: Path) -> str:
    """The text for the terminal."""
    flower_url = client["STOKER_FLOWER_URL"].rpartition("@")[2]
    lines = [
        f"  API     {client['STOKER_URL']}    (docs: {client['STOKER_URL']}/docs)",
        f"  Flower  http://{flower_url}    (with its password: STOKER_FLOWER_URL in {client_file})",
        f"  Key     …{client['STOKER_API_KEY'][-4:]}    (whole in {client_file})",
    ]
    if job := _first_job(catalog):
        lines += ["Your first job:", *_curl(job, client_file)]
    return "\n".join(lines)


def _curl(job: dict[str, object], client_file: Path) -> list[str]:
    return [
        f"  . {client_file}",
        '  curl -sS "$STOKER_URL/v1/jobs" -H "Authorization: Bearer $STOKER_API_KEY" \\',
        "    -H 'Content-Type: application/json' -H 'Prefer: wait=30' \\",
        f"    -d '{_shell_json(job)}'",
        "Not done yet? Ask again with the id from the answer:",
        '  curl -sS "$STOKER_URL/v1/jobs/ID" -H "Authorization: Bearer $STOKER_API_KEY" -H \'Prefer: wait=30\'',
    ]


def _first_job(catalog: Path) -> dict[str, object] | None:
    """A job for the catalog's first model, with its own warm-up example where it has one."""
    try:
        models = tomllib.loads(catalog.read_text(encoding="utf-8"))["models"]
        alias, model = next(iter(models.items()))
        example = model.get("warm_up") or _EXAMPLES[model["kind"]]
        return {"kind": model["kind"], "model": alias, "input": example}
    except (OSError, ValueError, KeyError, AttributeError, StopIteration):
        return None  # the parts have already said what is wrong with it


def _shell_json(job: dict[str, object]) -> str:
    """JSON for between single quotes."""
    return json.dumps(job, ensure_ascii=False).replace("'", "'\\''")

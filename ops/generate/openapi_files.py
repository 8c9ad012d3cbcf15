"""Writes the OpenAPI descriptions of all HTTP endpoints: ``python -m unlost.ops.generate.openapi_files``."""

import json
from pathlib import Path

import unlost.listener.app.openapi
import unlost.ops.console.openapi
import unlost.producer.app.openapi

HERE = Path(__file__).parents[3] / "docs" / "reference" / "openapi"


def written() -> dict[Path, str]:
    """Return each file's path and content."""
    made = {
        "producer": unlost.producer.app.openapi.DOCUMENT,
        "listener": unlost.listener.app.openapi.DOCUMENT,
        "console": unlost.ops.console.openapi.DOCUMENT,
    }
    return {HERE / f"{name}.json": json.dumps(document, indent=2) + "\n" for name, document in made.items()}


def main() -> None:
    """Write all files."""
    HERE.mkdir(exist_ok=True)
    for path, text in written().items():
        path.write_text(text)


if __name__ == "__main__":
    main()

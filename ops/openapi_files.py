"""The descriptions of all HTTP endpoints as files: ``python -m ops.openapi_files`` writes them, for the documents."""

import json
from pathlib import Path

import listener.openapi
import ops.console.openapi
import producer.openapi

HERE = Path(__file__).parents[1] / "docs" / "reference" / "openapi"


def written() -> dict[Path, str]:
    """Each file with what stands in it."""
    made = {
        "producer": producer.openapi.DOCUMENT,
        "listener": listener.openapi.DOCUMENT,
        "console": ops.console.openapi.DOCUMENT,
    }
    return {HERE / f"{name}.json": json.dumps(told, indent=2) + "\n" for name, told in made.items()}


def main() -> None:
    """Write them all."""
    HERE.mkdir(exist_ok=True)
    for path, text in written().items():
        path.write_text(text)


if __name__ == "__main__":
    main()

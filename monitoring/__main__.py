"""``python -m monitoring``: write what is made of the catalogue into the repository."""

import argparse

from monitoring.files import files

DOES = "Write alert rules and dashboards, as made of the catalogue of metrics, into deploy/."


def main() -> None:
    argparse.ArgumentParser(prog="python -m monitoring", description=DOES, allow_abbrev=False).parse_args()
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()

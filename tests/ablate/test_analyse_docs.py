"""The worked example of docs/analyse.md is what the command prints."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from ablate.cli import app

DOCS = Path(__file__).parents[2] / "docs" / "analyse.md"


def test_the_worked_example_prints_what_it_says(tmp_path, monkeypatch):
    """`ABLATE_REGENERATE=1` writes the table anew; read the difference before keeping it."""
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text()
    csv, printed = (re.search(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1] for kind in ("csv", "text"))
    command = re.search(r"^ablate (analyse .*)$", text, re.MULTILINE)[1]
    Path("results.csv").write_text(csv)
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.stderr
    if os.environ.get("ABLATE_REGENERATE"):
        now = re.search(r"^rank .*?\n(?=\n)", done.stdout, re.MULTILINE | re.DOTALL)[0]
        DOCS.write_text(text.replace(printed, now))
    else:
        assert printed in done.stdout, done.stdout


def test_every_option_of_the_command_is_in_the_docs():
    text = DOCS.read_text()
    helped = CliRunner().invoke(app, ["analyse", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    options = set(re.findall(r"--[a-z][a-z-]+", helped)) - {"--help", "--runs"}
    assert options and not [option for option in sorted(options) if option not in text]

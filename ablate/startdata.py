"""A starter study on somebody's own pairs, and synthetic pairs as files."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

from ablate.detect import Detected, detect
from ablate.disk import SHARED, write_atomically
from ablate.problems import Problem, StudyError
from ablate.start import write_starter
from ablate.yamlfile import write_yaml
from trainers.families import LAYOUTS
from trainers.options import places

SMALL_TILE = 64  # px
EXAMPLE = "stabilizer"
TEMPLATE = """\
# yaml-language-server: $schema=./study.schema.json
#
{found}
#
# Look at the pairs first:  ablate data check {name}.yaml --out preview.png
# What it will do and cost: ablate plan {name}.yaml
# Run it, or go on:         ablate run {name}.yaml
#
# The arms are those of {example}.yaml beside this file. Its networks are narrow enough for two CPU cores; for a GPU add
#     --set base.generator.width=64 --set base.discriminator.width=64 --set base.optimizer.lr=2e-4
#     --set 'base.budget={{images: 80000}}' --set base.evaluate.every=8000 --set seeds=5

extends: {example}.yaml
name: {name}

{data}"""


def write_starter_on(folder: Path, pairs: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Write a study on the pairs in a folder, what it extends and the schema; the paths, and what is doubtful.

    Raises DataError for a folder in which no layout is recognised, StudyError where files are there already.
    """
    found = detect(pairs)
    name = "study"
    path = folder / f"{name}.yaml"
    if path.exists():
        raise StudyError([Problem(str(path), 0, 0, "", "is there already; it is left as it is")])
    written = write_starter(folder, EXAMPLE)
    text = TEMPLATE.format(
        name=name, example=EXAMPLE, found=_commented(pairs, found),
        data=write_yaml({"base.data": _relative(found.options, folder)}),
    )  # fmt: skip
    write_atomically(path, text, mode=SHARED)
    return [path, *written], found.doubts


def _relative(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths as the study's file, which will lie in `folder`, names them."""
    named = places(LAYOUTS.options(options["layout"]))
    return {
        key: os.path.relpath(value, folder) if key in named and not os.path.isabs(value) else value
        for key, value in options.items()
    }  # fmt: skip


def _commented(pairs: Path, found: Detected) -> str:
    lines = [f"Written by `ablate init --data`: found in {pairs.name}/"]
    lines += [f"  {text}" for text in found.found]
    lines += [f"  TO CHECK: {text}" for text in found.doubts]
    if found.options["tile"] < SMALL_TILE:
        lines.append(f"  tiles of {found.options['tile']} px are small: pix2pix has 256")
    wrapped = [part for line in lines for part in textwrap.wrap(line, 116, subsequent_indent="    ")]
    return "\n".join(f"# {line}" for line in wrapped)


def write_scenes(out: Path, *, layout: str, kind: str, scenes: int, size: int, seed: int) -> str:
    """Write synthetic pairs; the line that says how a study reads them."""
    from trainers.export import export
    from trainers.layouts.synthetic import Options

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError([Problem(str(out), 0, 0, "", "is there already and not empty; it is left as it is")])
    tile = min(size, SMALL_TILE)
    export(out, Options(scenes=scenes, size=size, tile=tile, seed=seed), kind, layout=layout)
    return f"{out}: {scenes} scenes of {size} px; a study on them: ablate init --data {out} NEW_FOLDER"

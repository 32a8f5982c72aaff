"""`ablate data ...`: what a data set holds, how it looks, scenes to try things on, and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ablate.terminal import RUNS, Json, Runs, Sets, load, plain_errors, private, say, show_json

if TYPE_CHECKING:
    from ablate.datachecked import Checked
    from trainers.layouts._common import Data

app = typer.Typer(no_args_is_help=True, help="Check, preview, make and cache data.")

Target = Annotated[str, typer.Argument(metavar="STUDY|FOLDER", help="A study, or a folder of pairs.")]
FINDINGS = 1  # exit code of `ablate data check`


@app.command()
def check(
    target: Target, runs: Runs = RUNS, set: Sets = None, json: Json = False,
    out: Annotated[Path | None, typer.Option(help="The picture sheet, a PNG; none by default.")] = None,
) -> None:  # fmt: skip
    """Say what a data set holds and what is wrong with it. Exit code 1 where anything is."""
    from ablate.datacheck import document
    from ablate.datacheck_words import describe
    from ablate.datafaults import faults

    with plain_errors():
        _check_out(out)
        found = _examined(target, runs, set)
        if out is not None:
            _draw(found, out)
    if json:
        show_json(document(found))
    else:
        say(describe(found))
        say(f"\npictures: {out}" if out else "\npictures: add --out preview.png, or ablate data preview")
    raise typer.Exit(FINDINGS if any(faults(found)) else 0)


@app.command()
def preview(
    target: Target, runs: Runs = RUNS, set: Sets = None,
    out: Annotated[Path, typer.Option(help="The picture sheet, a PNG.")] = Path("preview.png"),
) -> None:  # fmt: skip
    """Draw a picture sheet: SAR, optical, and the edges of both on each other."""
    with plain_errors():
        _check_out(out)
        _draw(_examined(target, runs, set), out)
    say(out)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make; it must not hold anything yet.")],
    layout: Annotated[Literal["folders", "scenes"], typer.Option(help="The layout that reads it.")] = "folders",
    kind: Annotated[Literal["geotiff", "png"], typer.Option(help="Kind of files.")] = "geotiff",
    scenes: Annotated[int, typer.Option(help="Number of scenes.", min=2, max=10_000)] = 24,
    size: Annotated[int, typer.Option(help="Side of a scene in px.", min=32, max=4096)] = 192,
    seed: Annotated[int, typer.Option(help="Another seed, other scenes.", min=0)] = 0,
) -> None:
    """Write synthetic scenes as image files, to try things on."""
    from ablate.startdata import write_scenes

    with plain_errors():
        say(write_scenes(out, layout=layout, kind=kind, scenes=scenes, size=size, seed=seed))


@app.command()
def cache(
    runs: Runs = RUNS, json: Json = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what no study under the runs folder uses.")] = False,
) -> None:  # fmt: skip
    """List prepared data sets: their size, and which studies use them."""
    from ablate.datacache import describe, entries, prune_unused

    with plain_errors(), private():
        found = prune_unused(runs) if prune else entries(runs)
    if json:
        show_json(found)
    else:
        say(describe(found, runs))


def _examined(target: str, runs: Path, sets: list[str] | None) -> Checked:
    from ablate.datacheck import check as examine

    data, assumed = _data_of(target, runs, sets)
    return examine(data, assumed=assumed)


def _data_of(target: str, runs: Path, sets: list[str] | None) -> tuple[Data, tuple[str, ...]]:
    """The data options of a study's base, or of a folder, whose layout is then detected; and what was guessed."""
    from ablate.detect import detect
    from ablate.problems import Problem, StudyError
    from ablate.resolve import resolve

    if Path(target).is_dir():
        if sets:
            raise StudyError([Problem("--set", 0, 0, "", "belongs to a study; a folder has no options to change")])
        found = detect(Path(target))
        return found.data, found.doubts
    study = load(target, runs, sets)
    return resolve(study.base, {}, ranks=study.resources.ranks).recipe.data, ()


def _check_out(out: Path | None) -> None:
    """Said before minutes of reading, rather than after them."""
    from ablate.problems import Problem, StudyError

    if out is not None and out.is_dir():
        raise StudyError([Problem("--out", 0, 0, "", f"{out} is a folder; expected a file for the picture, a PNG")])


def _draw(found: Checked, out: Path) -> None:
    from ablate.sheet import draw

    draw(found, out)

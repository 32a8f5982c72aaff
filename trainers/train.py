"""One trial: `spec.json` in, `events.jsonl` out, `stop` obeyed whenever health is read."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.artifacts import ended, tidy
from ablate.disk import remove_leftovers
from ablate.events import Ended, Event, EventWriter, Measured, Saved, Started, Warned, read
from ablate.failpoints import failpoint
from ablate.records import Status, TrialFolder, TrialSpec, write_atomically
from trainers import branches, checkpoint, ways
from trainers.branches import Branch, Sharing
from trainers.diagnosis import Finding
from trainers.evaluate import Predict, Scorer, Scores
from trainers.ranks import Ranks, join
from trainers.recipe import Recipe
from trainers.resident import since_taken
from trainers.samples import save_sample
from trainers.tiles import Tiles
from trainers.training import Training
from trainers.versions import versions
from trainers.watch import Watch
from trainers.watchdog import Limits, Process, Watchdog, end_rank

EVAL_BATCH = 16


def run(folder: Path) -> None:
    """Train the trial in `folder` to its end, from its newest checkpoint if it has one."""
    paths = TrialFolder(folder)
    document = json.loads(paths.spec.read_text())
    spec = TrialSpec.from_json(document["spec"])
    torch.set_num_threads(spec.threads)
    limits = Limits.from_environment()
    watchdog = Watchdog(limits, expire=end_rank(paths))
    with watchdog.running(), join(spec.device, patience=limits.collective) as ranks:
        watchdog.peers = tuple(itertools.starmap(Process, ranks.gather((ranks.rank, os.uname().nodename, os.getpid()))))
        if ranks.size != spec.ranks:
            raise RuntimeError(f"the trial states {spec.ranks} ranks, but {ranks.size} were started")
        start = {role: paths.beside(place) for role, place in document.get("start", {}).items()}
        Trial(
            paths, spec, tuple(document["metrics"]), paths.beside(document["cache"]), ranks, start, watchdog,
            Sharing.of(document, folder),
        ).run()  # fmt: skip


class Trial:
    """One training run on one rank: when it evaluates, reports, stops and resumes."""

    def __init__(
        self, paths: TrialFolder, spec: TrialSpec, metrics: tuple[str, ...], cache: Path, ranks: Ranks,
        start: Mapping[str, Path] | None = None, watchdog: Watchdog | None = None, sharing: Sharing | None = None,
    ):  # fmt: skip
        self.paths, self.spec, self.metrics, self.ranks = paths, spec, metrics, ranks
        self.sharing = sharing or Sharing()
        self.watchdog = watchdog or Watchdog()
        self.recipe = Recipe.from_document(spec.recipe)
        self.tiles = Tiles.open(cache)
        self.validation = self.tiles.split("validation")
        self.scorer = self._scorer(self.validation)
        self.ways = ways_of(ranks.device)
        self.training = Training(self.recipe, spec, self.tiles, ranks, start, self.ways)
        self.watch = Watch(self.training, self.tiles, ranks)

    def _scorer(self, indices: np.ndarray) -> Scorer:
        return Scorer(self.tiles, indices, metrics=self.metrics, batch=EVAL_BATCH,
                      rank=self.ranks.rank, ranks=self.ranks.size, device=self.ranks.device)  # fmt: skip

    @property
    def step(self) -> int:
        """Generator updates done."""
        return self.training.done

    # -- the loop -------------------------------------------------------------------------------

    def run(self) -> None:
        self.began = time.monotonic()
        if not self._take_up():
            return self._close()
        evals, readings = set(self.recipe.eval_steps), set(self.recipe.reading_steps)
        while self.step < self.recipe.steps:
            self.training.advance()
            failpoint("step")
            self.watchdog.enter("step", self.step)
            if self.step not in readings | evals:
                continue
            outcome = self._close_window(reading=self.step in readings)
            if outcome:
                return self._end(*outcome)
            if self.step in evals:
                self._evaluate(final=self.step == self.recipe.steps)
            self._leave_branch()
            if self.step < self.recipe.steps and self.ranks.agree(self.ranks.first and self.paths.stop.exists()):
                self._save_checkpoint()
                return self._close()
        self._end(Status.done)

    def _take_up(self) -> bool:
        """Open the stream and go on from the newest checkpoint; False where the trial has ended."""
        self.writer = EventWriter(self.paths.events) if self.ranks.first else None
        if self.writer:
            remove_leftovers(self.paths.root)
        self.ranks.agree(True)  # nobody reads before rank 0 holds the stream
        before = read(self.paths.events)
        if ended(before):
            return False
        if self.writer:
            self.writer.attempt = 1 + sum(isinstance(event, Started) for event in before)
        damaged, branch = self._restore(before)
        self._event(Started, world_size=self.ranks.size, threads=self.spec.threads,
                    device=self._device_name(), versions=versions(), step=self.step, start_up=_age(),
                    taken_over=branch.seconds if branch else 0.0, ways=",".join(self.ways),
                    beside=ways.beside())  # fmt: skip
        for what in damaged:
            said = f"{branches.RESUMED}{what}; taken up from update {self.step}"
            self._event(Warned, step=self.step, message=said)
        if branch:
            self._take_over(branch)
        self.left = branches.left(before, self.paths)
        self._leave_branch()
        return True

    # -- what leaves the loop -------------------------------------------------------------------

    def _event(self, kind, **fields: Any) -> None:
        if self.writer:
            self.writer.append(kind, **fields)

    def _measured(self, split: str, values: dict[str, float], *, mode: str = "") -> None:
        images = self.step * self.recipe.batch
        self._event(Measured, step=self.step, images=images, split=split, values=values, mode=mode)

    def _close_window(self, *, reading: bool) -> tuple[Status, str] | None:
        """Report the means since the last time; status and sentence if the run ends here.

        A window closes at every reading of health, and before every evaluation: a checkpoint holds no open one.
        """
        training = self.training
        training.settle()
        values = self.watch.close_window()
        values |= dict(zip(("lr", "lr_d"), training.rates, strict=True))
        if self.recipe.stages:
            values |= {"stage": float(training.course.index + 1), "stage_began": float(training.course.began)}
        probe, findings = self.watch.read() if reading else ({}, [])
        values |= probe
        self._measured("train", values)
        broken = {key: value for key, value in sorted(values.items()) if not math.isfinite(value)}
        if broken:
            findings += self.watch.diverge(broken)
        for finding in findings:
            self._event(Warned, step=self.step, message=finding.message, evidence=finding.evidence)
        return self._outcome(findings)

    def _outcome(self, findings: list[Finding]) -> tuple[Status, str] | None:
        ending = {"diverged": Status.diverged}
        if self.recipe.health.collapse == "end":
            ending["collapsed"] = Status.collapsed
        found = next((finding for finding in findings if finding.kind in ending), None)
        return found and (ending[found.kind], f"{found.message}, at update {self.step}")

    def _evaluate(self, *, final: bool) -> None:
        self.watchdog.enter("evaluation", self.step)
        predict = self._heard(self.training.predictor())
        scores = self.scorer.score(predict)
        self._measured("validation", scores.means(), mode=self.recipe.evaluate.mode)
        if final and self.recipe.evaluate.test and len(test := self.tiles.split("test")):
            tested = self._scorer(test).score(predict)
            self._measured("test", tested.means(), mode=self.recipe.evaluate.mode)
            self._save_scores("test", test, tested)
        if self.ranks.first:
            path, sha = save_sample(self.paths.samples, self.step, predict, self.tiles, self.ranks.device)
            failpoint("sample-saved")
            self._event(Saved, step=self.step, what="sample", path=self._relative(path), sha256=sha)
            if final:
                self._save_final(scores)
        if not final:
            self._save_checkpoint()
        elif self.writer:
            self.writer.sync()

    def _save_scores(self, split: str, indices: np.ndarray, scores: Scores) -> None:
        """Write the scores per tile; the first rank alone."""
        if not self.ranks.first:
            return
        lines = [",".join(("tile", "scene", *scores.metrics))]
        for index, scene, row in zip(indices, scores.scenes, scores.table, strict=True):
            lines.append(",".join((self.tiles.names[index], scene, *map(repr, map(float, row)))))
        path, table = self.paths.scores_of(split), ("\n".join(lines) + "\n").encode()
        write_atomically(path, table)
        failpoint("scores-saved")
        sha = hashlib.sha256(table).hexdigest()
        self._event(Saved, step=self.step, what="scores", path=self._relative(path), sha256=sha)

    def _save_final(self, scores: Scores) -> None:
        self._save_scores("validation", self.validation, scores)
        if self.spec.keep != "generator":
            return
        state = {
            "generator": self.training.result.state_dict(), "recipe": dict(self.spec.recipe),
            "bands": [self.tiles.sar_bands, self.tiles.optical_bands], "tile": self.tiles.tile,
        }  # fmt: skip
        path = self.paths.checkpoints / checkpoint.FINAL
        sha = checkpoint.write(path, state)
        failpoint("generator-saved")
        self._event(Saved, step=self.step, what="generator", path=self._relative(path), sha256=sha)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.paths.root).as_posix()

    def _end(self, status: Status, why: str = "") -> None:
        found = self.watch.monitor.diagnosis()
        self._event(Ended, step=self.step, images=self.step * self.recipe.batch, status=status.value, why=why,
                    seconds=time.monotonic() - self.began, diagnosis=found.kind, evidence=found.evidence,
                    findings=found.messages, ways=str(self.training.fast),
                    peak_memory=self._peak_memory())  # fmt: skip
        self._close()

    def _close(self) -> None:
        """Make the stream durable; where it holds an end, what only a running trial needs goes."""
        if self.writer:
            self.writer.sync()
            failpoint("stream-durable")
            tidy(self.paths)
            self.writer.close()

    # -- resume ---------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        """Make the stream durable first: what a checkpoint has behind it is never measured again."""
        self.watchdog.enter("checkpoint", self.step)
        if not self.ranks.first:
            return
        self.writer.sync()
        path, sha = checkpoint.Checkpoints(self.paths.checkpoints).save(self.step, self._state())
        self._event(Saved, step=self.step, what="checkpoint", path=self._relative(path), sha256=sha)
        self.writer.sync()
        failpoint("checkpoint-told")

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step, "world_size": self.ranks.size, **self.training.state_dict(),
            "watch": self.watch.state_dict(),
        }  # fmt: skip

    def _restore(self, before: list[Event]) -> tuple[tuple[str, ...], Branch | None]:
        """Take up the newest whole checkpoint, or else what the trunk has left; what was damaged, a sentence each, and
        the branch, if it is that. Every rank reads the same file.
        """
        saved = [event for event in before if isinstance(event, Saved) and event.what == "checkpoint"]
        vouched = {Path(event.path).name: event.sha256 for event in saved}
        found = checkpoint.Checkpoints(self.paths.checkpoints).find(vouched)
        branch = None
        if self.sharing.trunk and not any(self.ranks.gather(found.state is not None)):
            mine = {"device": self._device_name(), "versions": versions(), "recipe": self.recipe}
            branch = branches.find_on_all(self.sharing, self.ranks, **mine)
        state = found.state or (branch and branch.state) or {"step": 0, "world_size": self.ranks.size}
        if len(steps := set(self.ranks.gather(state["step"]))) > 1:
            raise OSError(f"{self.paths.checkpoints}: ranks found checkpoints of different updates: {sorted(steps)}")
        if state["world_size"] != self.ranks.size:
            raise RuntimeError(f"the checkpoint is of {state['world_size']} ranks, these are {self.ranks.size}")
        if state["step"]:
            self.training.load_state_dict(state)
            self.watch.load_state_dict(state["watch"])
        return found.damaged, branch

    # -- what is shared with other trials -------------------------------------------------------

    def _leave_branch(self) -> None:
        """A checkpoint for those that go on from here. What it has behind it is durable in the stream."""
        if self.step not in self.sharing.leaves or self.step in self.left:
            return
        self.watchdog.enter("checkpoint", self.step)
        if self.ranks.first:
            self.writer.sync()
            path = branches.path_of(self.paths, self.step)
            sha = checkpoint.write(path, self._state())
            failpoint("branch-saved")
            self._event(Saved, step=self.step, what="branch", path=self._relative(path), sha256=sha)
            self.writer.sync()
        self.left.add(self.step)

    def _take_over(self, branch: Branch) -> None:
        """Write what the trunk has measured as this trial's own, and a checkpoint: from then on it needs no trunk.

        Killed meanwhile it takes all of it over once more: lines that are there twice say the same.
        """
        if self.writer:
            branch.write(self.paths, self.writer)
            failpoint("branch-taken")
        self._save_checkpoint()

    def _heard(self, predict: Predict) -> Predict:
        """The predictor, each batch of which the watchdog hears of."""

        def heard(sar: Tensor) -> Tensor:
            self.watchdog.beat()
            return predict(sar)

        return heard

    def _peak_memory(self) -> int | None:
        cuda = self.ranks.device.type == "cuda"
        return torch.cuda.max_memory_reserved(self.ranks.device) if cuda else None

    def _device_name(self) -> str:
        if self.ranks.device.type == "cuda":
            return torch.cuda.get_device_name(self.ranks.device)
        return platform.processor() or platform.machine()


def ways_of(device: torch.device) -> tuple[str, ...]:
    """The faster ways that a trial on this device is asked for: none but on CUDA."""
    return ways.asked() if device.type == "cuda" else ()


def _age() -> float | None:
    """Seconds since this process was born, or took this trial if it stays; None where the kernel doesn't say."""
    if (seconds := since_taken()) is not None:
        return round(seconds, 3)
    try:
        born = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return round(time.clock_gettime(time.CLOCK_BOOTTIME) - born, 3)
    except (OSError, AttributeError, ValueError, IndexError):
        return None

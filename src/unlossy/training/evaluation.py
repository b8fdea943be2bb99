"""Models, the input and the classical filters on one split: rows, sets, strips, summary, table.

rows.csv       one row per (model, clip), or per (model:output, clip)
summary.json   per model: means over all clips, distances between sets, the same per source
panels/test/   strips of some clips
gallery/       a frame, a film and a flicker strip of some clips (training/gallery.py)
frames/        with save=true, every frame of every clip (report/saved_frames.py)

Several ranks share the clips. Each fits the filters to all of theirs, writes the pictures of those
that it scores, and tells the others its rows and features; tables are the first rank's to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import Progress

from unlossy.data.video_data import VideoData
from unlossy.errors import UserError
from unlossy.metrics.fid import SetScores
from unlossy.metrics.suite import VideoScores
from unlossy.models.baselines import Identity
from unlossy.models.model import EnhancementModel
from unlossy.report.saved_frames import SavedFrames
from unlossy.report.table import print_table, summarise
from unlossy.sample import Clip, Degradation, Sample
from unlossy.training import folder as folders
from unlossy.training import ranks
from unlossy.training.enhancer import match
from unlossy.training.gallery import Gallery
from unlossy.training.scoring import Row, Strips, label, outputs_of, score, truth_of

STRIPS = 8  # clips of a split that are drawn


@dataclass(frozen=True)
class Contender:
    """A model in the table: who it is, what it was trained on ("" for nothing), with which seed."""

    model: EnhancementModel
    loss: str
    seed: int


def suitable(
    filters: Mapping[str, EnhancementModel], degradation: Degradation
) -> tuple[dict[str, EnhancementModel], list[str]]:
    """Return the filters that fit the medium, and the names of those that one might miss.

    Nobody misses a filter of another scale, nor one that fills gaps where there are none.
    """
    kept, missed = {}, []
    for name, model in filters.items():
        if model.interpolates != (degradation.every > 1) or model.scale != degradation.scale:
            continue
        try:
            match(model, degradation)
            kept[name] = model
        except UserError:
            missed.append(name)
    return kept, missed


def contenders(
    filters: Mapping[str, EnhancementModel],
    trained: Mapping[str, Contender],
    data: VideoData,
    seed: int,
) -> dict[str, Contender]:
    """Return the input, the filters and the trained models, all of which fit the medium.

    Where the medium shrinks, the pixels of the input are repeated; where it drops frames, the
    nearest one is held.

    Raises:
        UserError: one does not fit.
    """
    untrained = {"input": Identity(data.degradation.scale), **filters}
    everyone = {name: Contender(model, "", seed) for name, model in untrained.items()}
    everyone |= trained
    for contender in everyone.values():
        match(contender.model, data.degradation)
    return everyone


def evaluate_split(
    everyone: Mapping[str, Contender],
    data: VideoData,
    split: Literal["test", "val"],
    degradation: str,
    scores: VideoScores,
    device: torch.device,
    run_folder: Path,
    save: bool,
    seed: int = 0,
) -> tuple[list[Row], dict[str, str]]:
    """Score everyone on a split, write and print the results.

    Args:
        everyone: name in the table -> contender.
        data: prepared.
        split: `test` or `val`.
        degradation: its name in the table.
        scores: the metric suite.
        device: where trained models and metrics run.
        run_folder: receives rows.csv, summary.json, panels/test and gallery.
        save: whether it also receives every frame.
        seed: of what the models draw.

    Returns:
        The rows of all clips, and what the filters chose when they were fitted.

    Raises:
        UserError: the split has no clips.
    """
    rank, world = ranks.rank(), ranks.world()
    loader = data.whole(split, rank, world)
    models = {name: contender.model.to(device) for name, contender in everyone.items()}
    filters = {name: one.model for name, one in everyone.items() if not one.loss}
    for model in filters.values():  # a checkpoint was fitted when it was made
        if data.clips[model.fits_on]:  # else every filter keeps its middle setting
            model.fit(data.whole(model.fits_on))
    sets = scores.start_set(device)
    learnt = {name: one.model for name, one in everyone.items() if one.loss}
    shown = [
        "input",
        *(label(n, output) for n, model in learnt.items() for output in outputs_of(model)),
    ]
    gallery = Gallery(run_folder, data.clips[split], degradation, shown)
    strips = Strips(
        run_folder / "panels" / "test",
        shown,
        [label(name, picture) for name, model in learnt.items() for picture in model.pictures],
        max(1, len(data.clips[split]) // STRIPS),
        rank,
        world,
    )
    saved = SavedFrames(run_folder / "frames") if save else None
    rows: list[Row] = []
    samples = _placed(loader, scores, sets, rank, world)
    with Progress(console=Console(stderr=True), disable=rank > 0) as progress:
        total = len(loader) * sum(len(outputs_of(model)) for model in models.values())
        task = progress.add_task("scoring", total=total)
        for name, row in score(models, samples, scores, sets, strips, saved, device, seed, gallery):
            contender = everyone[name]
            row |= {"loss": contender.loss, "seed": contender.seed, "degradation": degradation}
            row["source"] = data.source_of(row["clip"])
            rows.append(row)
            progress.advance(task)
    gallery.write_index()
    rows = folders.finished(_in_order(ranks.gathered(rows), data.clips[split]))
    features = ranks.gathered([sets.features()])
    if rank == 0:
        lines = summarise(rows)
        folders.write_rows(run_folder / "rows.csv", rows)
        distances = sets.compute(features)
        folders.write_json(run_folder / "summary.json", _summary(rows, lines, distances))
        print_table(rows, lines)
    return rows, {name: model.label for name, model in filters.items() if model.label}


def _in_order(rows: Sequence[Row], clips: Sequence[Clip]) -> list[Row]:
    """Return the rows of all ranks as one process would have made them: clip by clip."""
    places = {clip.name: place for place, clip in enumerate(clips)}
    return sorted(rows, key=lambda row: places[row["clip"]])


def _placed(
    loader: Iterable[Sample], scores: VideoScores, sets: SetScores, rank: int, world: int
) -> Iterator[Sample]:
    """Yield this rank's clips; tell the sets before each how many frames the clips before it have.

    Sets look at every n-th of the frames of a split, whoever restores it.
    """
    if world == 1 or not scores.distances:
        yield from loader
        return
    own = []
    for number, sample in enumerate(loader):
        truth = truth_of(scores, sample, "cpu")
        kept = sum(truth.exact) if truth.gaps else 0
        own.append((number * world + rank, len(truth.exact) - kept))
    starts = [0, *accumulate(count for _, count in sorted(ranks.gathered(own)))]
    for sample, start in zip(loader, starts[:-1][rank::world], strict=True):
        sets.go_to(start)
        yield sample


def _summary(
    rows: Sequence[Row], lines: Sequence[Row], distances: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return per model: means over all clips, distances between sets, and means per source."""
    summary: dict[str, Any] = {}
    for line in summarise({**row, "source": "all"} for row in rows):
        name = line["model"]
        columns = {k: None if v != v else v for k, v in distances.get(name, {}).items()}
        sources = {one["source"]: one for one in lines if one["model"] == name}
        summary[name] = {**line, **columns, "sources": sources}
    return summary

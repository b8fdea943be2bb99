"""A W&B workspace for ablations, made of what finished runs hold: `report.py DIR --wandb PROJECT`.

    validation by loss, by model    curves, mean and deviation over seeds
    test by degradation, by loss    bars, a panel per source and metric
    clips                           the rows of all selected runs
    pictures                        panels over training, strips of scored clips
    comparison                      in which settings the selected runs differ

`ablation` makes it without any account; `save` needs one. Every saving makes another view, so what
somebody changed by hand in an earlier one stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlossy.errors import UserError
from unlossy.report import wandb_names as names
from unlossy.report.plots import read_curves
from unlossy.report.rows import Run, find_runs
from unlossy.report.table import summarise

if TYPE_CHECKING:
    from wandb_workspaces import workspaces

TITLE = "Ablations"
RUNS_SHOWN = 100  # in a panel; W&B's own default is ten
BARS = ("psnr", "gain", "ssim", "lpips_alex")
PATIENCE = {  # with a server that does not answer; W&B's own is half an hour
    "x_graphql_retry_max": 1,
    "x_graphql_timeout_seconds": 10,
    "x_graphql_retry_wait_min_seconds": 0.2,
    "x_graphql_retry_wait_max_seconds": 1,
}


def save_dashboard(root: Path, target: str) -> str:
    """Make a dashboard for the runs under `root` and save it in W&B; return its address.

    Args:
        root: finished runs; what they measured is what the panels show.
        target: `ENTITY/PROJECT`, or `PROJECT` of the account's own entity.

    Raises:
        UserError: `target` is no such name, there are no runs, no `wandb-workspaces`, no key, or
            the server cannot be reached.
    """
    parts = target.split("/")
    if len(parts) > 2 or not all(parts):
        raise UserError(f"--wandb {target} is no project; name one as ENTITY/PROJECT or PROJECT.")
    runs = find_runs(root)
    try:
        from wandb_workspaces import workspaces  # noqa: F401 (asks whether the extra is there)
    except ImportError:
        raise UserError(
            '--wandb needs wandb-workspaces; install it by pip install "unlossy[dashboards]".'
        ) from None
    import wandb

    sync = f"wandb sync {root}/*/*/wandb/offline-run-*"
    wandb.setup(wandb.Settings(silent=True, **PATIENCE))
    try:
        entity = parts[0] if len(parts) == 2 else wandb.Api().default_entity
        saved = ablation(entity, parts[-1], runs).save()  # type: ignore[no-untyped-call]
        return str(saved.url)
    except wandb.errors.UsageError:
        raise UserError(
            f"--wandb {target}: no key of W&B is known here; run wandb login, and {sync} for runs "
            f"that were kept offline."
        ) from None
    except (wandb.errors.Error, OSError, ValueError) as error:
        reason = str(error).splitlines()[0].split(" giving up")[0].rstrip(".: ")
        raise UserError(
            f"--wandb {target}: W&B did not take the dashboard ({reason}); check the network, the "
            f"name and wandb login, and upload runs that were kept offline by {sync}."
        ) from error


def ablation(entity: str, project: str, runs: Sequence[Run]) -> workspaces.Workspace:
    """Return a workspace that shows what `runs` measured, unsaved; no account is needed.

    Args:
        entity: user or team.
        project: of the runs in W&B.
        runs: finished ones, as they lie on this machine.
    """
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports.v2.interface import (
        MediaBrowser,
        RunComparer,
        WeavePanelSummaryTable,
    )

    losses, models = (names.choice(group) for group in ("loss", "model"))
    curves = list(dict.fromkeys(name for run in runs for name in read_curves(run.folder)))
    sections = {
        "Validation by loss": [_curve(name, losses) for name in curves],
        "Validation by model": [_curve(name, models) for name in curves],
        "Test by degradation": _bars(runs, names.choice("degradation"), learnt=False),
        "Test by loss": _bars(runs, losses, learnt=True),
        "Clips": [WeavePanelSummaryTable(table_name=names.CLIPS)],
        "Pictures": [
            MediaBrowser(title=key, media_keys=[key], mode="gallery", gallery_axis="step")
            for key in _pictures(runs)
        ],
        "Comparison": [RunComparer(diff_only="split")],
    }
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=TITLE,
        sections=[
            workspaces.Section(name=name, panels=panels, is_open=name != "Comparison")
            for name, panels in sections.items()
            if panels
        ],
        settings=workspaces.WorkspaceSettings(x_axis=names.STEP, max_runs=RUNS_SHOWN),
        # Stages are not scored; take the filter away to see how they learnt.
        runset_settings=workspaces.RunsetSettings(
            filters="JobType in ['train', 'eval']",
            pinned_columns=[f"config:{_stored(losses)}", f"config:{_stored(models)}"],
        ),
    )


def _curve(name: str, group: str) -> Any:
    from wandb_workspaces.reports.v2.interface import Config, LinePlot

    return LinePlot(
        title=name,
        x=names.STEP,
        y=[name],
        groupby=Config(group),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_runs_to_show=RUNS_SHOWN,
    )


def _bars(runs: Sequence[Run], group: str, learnt: bool) -> list[Any]:
    """Return a panel per source and metric: a bar per model and value of `group`, over seeds.

    What no run measured would be asked for in vain, such as LPIPS after metrics=pixel.
    """
    from wandb_workspaces.reports.v2.interface import BarPlot, Config

    lines = [line for run in runs for line in summarise(run.rows) if line["loss"] or not learnt]
    measured = {
        (source, metric): _distinct(
            line["model"] for line in lines if line["source"] == source and line[metric] is not None
        )
        for source in _distinct(line["source"] for line in lines)
        for metric in BARS
    }
    return [
        BarPlot(
            title=f"{metric}, {source}",
            metrics=[names.tested(source, model, metric) for model in models],
            groupby=Config(group),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=RUNS_SHOWN,
            max_bars_to_show=RUNS_SHOWN,
        )
        for (source, metric), models in measured.items()
        if models
    ]


def _pictures(runs: Sequence[Run]) -> list[str]:
    """Return the names of the pictures that the runs left in panels/ and panels/test/."""
    drawn = [run.folder / "panels" for run in runs]
    over_time = [path.stem.rpartition("_")[0] for folder in drawn for path in folder.glob("*.png")]
    scored = [path.stem for folder in drawn for path in folder.glob("test/*.png")]
    return [
        *(names.panel(clip) for clip in sorted(set(over_time))),
        *(names.test_panel(clip) for clip in sorted(set(scored))),
    ]


def _stored(key: str) -> str:
    """Return where W&B stores a nested key of a configuration."""
    first, _, rest = key.partition(".")
    return f"{first}.value.{rest}"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))

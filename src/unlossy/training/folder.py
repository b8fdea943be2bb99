"""A run folder: where it lies, what it holds, how a killed run finds it again.

    runs/<name>/<date>_<time>_<hash>/
        run.json  rows.csv  summary.json  metrics.csv  checkpoints/{best,last}.ckpt  panels/
        gallery/ (pictures of some test clips)  frames/ (with save=true)

The hash is of the resolved configuration without what does not change the result (where runs lie,
which checkpoint to go on from, loggers, workers), so `ckpt=last` finds the run it continues.
"""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import torch

import unlossy
from unlossy.errors import UserError
from unlossy.training.secrets import redacted

COLUMNS = (
    "model", "loss", "degradation", "source", "clip", "frames", "psnr", "psnr_all", "ssim",
    "ssim_uniform7", "lpips_alex", "bits", "bpp", "seconds_per_frame", "exact", "seed",
    "warp_error", "warp_floor", "tof", "tlp", "mabd", "flicker_flat", "flicker_textured",
    "psnr_std", "nll", "nll_conditioning", "nll_prior", "consistency", "msssim_scaled", "msssim2",
    "diversity", "psnr_clip",
)  # fmt: skip
LIBRARIES = (
    *("torch", "lightning", "torchmetrics", "hydra-core", "lpips", "kornia", "av", "pillow"),
    "opencv-python-headless",
)
# Where a run lies, what it goes on from, who watches it or may end it, how it is fed, which frames
# it keeps: none changes the result.
WITHOUT_EFFECT = ("ckpt", "logger", "run_root", "name", "data.workers", "save", "trial")
# How long it runs and what is scored afterwards: does not change what was trained so far.
AFTERWARDS = ("trainer", "test", "baselines", "metrics", "checkpoint_every")
# Where other checkpoints lie. What they held is in the run's own, as weights and as `after`.
ELSEWHERE = ("init", "trained", "stages")


def config_hash(config: Mapping[str, Any]) -> str:
    """Return 8 hexadecimal digits that stand for everything in `config` that changes the result."""
    kept = {key: value for key, value in flat(redacted(config)) if not _within(key, WITHOUT_EFFECT)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def first_difference(run_folder: Path, config: Mapping[str, Any]) -> str:
    """Return the first setting in which a run's recipe differs from `config`, "" if in none.

    Paths of checkpoints are no settings: runs may be moved.

    Raises:
        UserError: the folder has no readable run.json.
    """
    path = run_folder / "run.json"
    try:
        theirs = dict(flat(json.loads(path.read_text(encoding="utf-8"))["config"]))
    except (OSError, ValueError, KeyError):
        raise UserError(f"{path} does not tell a run's settings; start a new run.") from None
    ours = dict(flat(redacted(config)))
    skipped = (*WITHOUT_EFFECT, *AFTERWARDS, *ELSEWHERE)
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        if key.endswith("ckpt") or _within(key, skipped):
            continue
        if ours.get(key) != theirs.get(key):
            return f"{key} ({theirs.get(key)})"
    return ""


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested mappings."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _within(key: str, groups: Sequence[str]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def remove_if_empty(folder: Path) -> None:
    """Take a run folder away in which nothing was written."""
    with suppress(OSError):
        folder.rmdir()


def make(root: Path, name: str, digest: str) -> Path:
    """Create and return a run folder that no other run has, even one started in the same second.

    Raises:
        UserError: the folder cannot be written.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    for attempt in range(100):
        folder = root / name / (f"{stamp}_{digest}" + (f"-{attempt}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.is_dir():
                continue
            raise UserError(f"{root} is a file; name a folder with run_root=FOLDER.") from None
        except OSError as error:
            raise UserError(
                f"Cannot create the run folder {folder} ({error.strerror}); choose a writable one "
                f"with run_root=FOLDER."
            ) from None
        return folder
    raise UserError(f"A hundred runs named {name} were started this second; try again.")


def runs_of(root: Path, name: str, digest: str, holding: str) -> tuple[list[Path], list[Path]]:
    """Return the run folders that hold something, by age: of this configuration, and of any."""
    runs = sorted(path for path in (root / name).glob("*") if (path / holding).exists())
    return [run for run in runs if run.name.split("_")[-1].split("-")[0] == digest], runs


def find_last(root: Path, name: str, digest: str) -> Path:
    """Return last.ckpt of the newest run with this name and configuration.

    Raises:
        UserError: there is none; the newest run of another configuration is named.
    """
    holding = "checkpoints/last.ckpt"
    same, runs = runs_of(root, name, digest, holding)
    if same:
        return same[-1] / holding
    other = f", or go on with other settings by ckpt={runs[-1] / holding}" if runs else ""
    raise UserError(
        f"ckpt=last: no run under {root / name} has this configuration and got as far as "
        f"{holding}; start one by leaving ckpt out{other}."
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write atomically, keys in the order given."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(text)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows.csv atomically: the fixed columns first, then any others; NaN is an empty cell."""
    extra = sorted({key for row in rows for key in row} - set(COLUMNS))
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *extra])
        for row in rows:
            writer.writerow([_cell(row.get(column)) for column in (*COLUMNS, *extra)])


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return "" if value is None else value


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Yield a file that becomes `path` when it is complete, even where several processes write it.

    Its name is its own on every machine that shares the folder.
    """
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def run_card(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a run repeatable: configuration, code, versions, machine."""
    return {
        "format": 1,
        "unlossy": unlossy.__version__,
        "git": _git_revision(),
        "choices": dict(choices),
        "config": redacted(config),
        "seed": config["seed"],
        "versions": {"python": platform.python_version()} | {n: version(n) for n in LIBRARIES},
        "device": _device(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _git_revision() -> str | None:
    """Return the commit, with `-dirty` if code or configuration differ from it.

    Tables, documentation and run cards may differ: an experiment that is published changes them.
    """
    code = Path(unlossy.__file__)
    git = ["git", "--no-optional-locks", "-C", str(code.parent)]
    commands = (
        [*git, "ls-files", "--error-unmatch", code.name],  # a wheel within another repository
        [*git, "describe", "--always", "--abbrev=12"],
        [*git, "status", "--porcelain", "--", ":/src", ":/conf", ":(top,glob)*.py"],
    )
    try:
        _, commit, changed = (
            subprocess.run(
                command, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.SubprocessError):
        return None  # a wheel, or no git
    return f"{commit}-dirty" if changed else commit


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def finished(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows ordered by model as first met, so that one model's clips stand together."""
    listed = [dict(row) for row in rows]
    order = list(dict.fromkeys(row["model"] for row in listed))
    return sorted(listed, key=lambda row: order.index(row["model"]))

"""What this machine has, what it lacks, and how to mend it: `unlossy doctor`, `make doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from unlossy import __version__, assets
from unlossy.errors import UserError

NEEDED_SPACE = 2 * 10**9  # bytes: assets, decoded film and degraded clips of the default run
STATES = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]bad[/]"}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis. `bad` means that the main job cannot run; `note` that it can."""

    what: str
    found: str
    state: Literal["ok", "note", "bad"] = "ok"
    remedy: str = ""


def doctor() -> int:
    """Print the diagnosis and return the exit code: 0 if the main job can run, else 1."""
    findings = list(examine())
    table = Table(title=f"unlossy {__version__}", title_justify="left", box=None, pad_edge=False)
    for heading in ("", "what", "found", "remedy"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(STATES[finding.state], finding.what, finding.found, finding.remedy)
    console = Console()
    console.print(table)
    bad = sum(finding.state == "bad" for finding in findings)
    console.print(f"{bad} to mend, see the remedies." if bad else "Ready: make train.")
    return 1 if bad else 0


def examine() -> Iterator[Finding]:
    """Yield every finding; nothing is changed and nothing is fetched."""
    yield Finding("python", f"{platform.python_version()} on {platform.system()}")
    yield from _packages()
    yield _torchvision()
    yield _device()
    yield from _codecs()
    yield from _media()
    yield from _cache()
    yield from _assets()


def _packages() -> Iterator[Finding]:
    """Installed versions against the lower bounds of our own metadata."""
    for line in metadata.requires("unlossy") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue  # of an extra
        remedy = f'pip install "{wanted.name}{wanted.specifier}"'
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield Finding(wanted.name, "not installed", "bad", remedy)
            continue
        sound = wanted.specifier.contains(version, prereleases=True)
        yield (
            Finding(wanted.name, version)
            if sound
            else Finding(wanted.name, f"{version}, wanted {wanted.specifier}", "bad", remedy)
        )


def _torchvision() -> Finding:
    try:
        from unlossy._torchvision import SCHEMAS
    except Exception as error:  # whatever a half-installed C++ library may raise
        remedy = "install the torchvision that goes with this torch (constraints.txt names a pair)"
        return Finding("torchvision", f"cannot be imported: {error}", "bad", remedy)
    if SCHEMAS is None:
        return Finding("torchvision", "imports as it is")
    return Finding("torchvision", "linked against CUDA beside a CPU-only torch; worked around")


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return Finding("device", f"CPU, {count} cores; the default run is made for it")
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    precision = "bf16" if torch.cuda.is_bf16_supported() else "float32"
    name = torch.cuda.get_device_name()
    return Finding("device", f"{name}, {memory:.0f} GB, {precision}: try trainer=gpu")


def _codecs() -> Iterator[Finding]:
    """Write a frame with each encoder that `enhance` uses, and read it back."""
    import torch

    from unlossy import video

    frame = video.Frame(torch.zeros(3, 32, 32, dtype=torch.uint8), None, Fraction(0), Fraction(1))
    for name, suffix in (("H.264", ".mp4"), ("VP9", ".webm")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"frame{suffix}"
            try:
                with video.VideoWriter(path, 32, 32, Fraction(25)) as writer:
                    writer.add(frame)
                video.read_frames(path)
            except (UserError, ValueError) as error:  # PyAV's unknown encoder is a ValueError
                remedy = "pip install --force-reinstall av: its wheels bring FFmpeg with both"
                yield Finding(f"codec {name}", f"no {suffix}: {error}", "note", remedy)
            else:
                yield Finding(f"codec {name}", f"writes and reads {suffix}")


def _media() -> Iterator[Finding]:
    """Construct each degradation that leans on an encoder: it looks whether there is one."""
    from unlossy.degradations import codec, hevc, still

    kinds: dict[str, Callable[[], object]] = {
        "H.265": hevc.HEVC,
        "H.264": codec.H264,
        "VP9": codec.VP9,
        "AV1": codec.AV1,
        "JPEG": still.JPEG,
        "WebP": still.WebP,
        "JPEG 2000": still.JPEG2000,
        "AVIF": still.AVIF,
    }
    made = []
    for name, kind in kinds.items():
        try:
            kind()
        except UserError as error:
            yield Finding(f"medium {name}", "cannot be made", "note", str(error))
        else:
            made.append(name)
    yield Finding("media", ", ".join(["GIF", *made]))


def _cache() -> Iterator[Finding]:
    root = assets.cache_root()
    remedy = "set UNLOSSY_CACHE to a folder that can be written"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        yield Finding("cache", f"{root}: {error.strerror}", "bad", remedy)
        return
    free = shutil.disk_usage(root).free
    yield (
        Finding("cache", f"{root}, {free / 1e9:.1f} GB free")
        if free > NEEDED_SPACE
        else Finding(
            "cache",
            f"{root}, {free / 1e9:.1f} GB free",
            "note",
            f"free {NEEDED_SPACE / 1e9:.0f} GB, or set UNLOSSY_CACHE to another disk",
        )
    )


def _assets() -> Iterator[Finding]:
    for name, asset in assets.ASSETS.items():
        if not asset.home().exists():
            size = f"not cached, {asset.archive.size / 1e6:.0f} MB to fetch"
            remedy = "fetched on first use; `unlossy fetch` gets it now"
            yield Finding(f"asset {name}", size, "note", remedy)
            continue
        try:
            assets.fetch(name)  # it is there: only its files are checked
        except UserError as error:
            yield Finding(f"asset {name}", "damaged", "bad", str(error))
        else:
            yield Finding(f"asset {name}", "cached")

"""What this machine has, what it lacks, and how to mend it: `unlossy doctor`, `make doctor`."""

from __future__ import annotations

import netrc
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
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
NEEDED_MEMORY = 4 * 10**9  # bytes
# extra of ours -> its distribution, and what it is for.
EXTRAS = {
    "joblib": ("hydra-joblib-launcher", "several runs of a sweep at a time"),
    "optuna": ("optuna", "searches: -m sweep=ccdnet_optuna"),
    "slurm": ("hydra-submitit-launcher", "runs of a sweep as jobs of SLURM"),
    "ray": ("hydra-ray-launcher", "runs of a sweep on a Ray cluster"),
    "dashboards": ("wandb-workspaces", "dashboards in W&B: report.py --wandb"),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Where Linux says how much of the machine this process may use: version 2 of it, then version 1.
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
STATES = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "bad": "[red]bad[/]"}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis. `bad` means that the main job cannot run; `note` that it can."""

    what: str
    found: str
    state: Literal["ok", "note", "bad"] = "ok"
    remedy: str = ""


def doctor(*, as_json: bool = False) -> int:
    """Print the diagnosis and return the exit code: 0 if the main job can run, else 1."""
    findings = list(examine())
    bad = sum(finding.state == "bad" for finding in findings)
    if as_json:
        Console().print_json(data=[asdict(finding) for finding in findings])
        return 1 if bad else 0
    table = Table(title=f"unlossy {__version__}", title_justify="left", box=None, pad_edge=False)
    for heading in ("", "what", "found", "remedy"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(STATES[finding.state], finding.what, finding.found, finding.remedy)
    console = Console()
    console.print(table)
    console.print(f"{bad} to mend, see the remedies." if bad else _next(findings), highlight=False)
    return 1 if bad else 0


def _next(findings: list[Finding]) -> str:
    """Return the commands to go on with."""
    gpu = any(f.what == "device" and "trainer=gpu" in f.found for f in findings)
    lacking = any(f.what.startswith("asset") and f.state == "note" for f in findings)
    return "\n".join(
        [
            "Ready: make train." if not gpu else 'Ready: make train ARGS="trainer=gpu".',
            *(["To work without a network later: make fetch."] if lacking else []),
            "What else there is: python train.py --help.",
        ]
    )


def examine() -> Iterator[Finding]:
    """Yield every finding; nothing is changed and nothing is fetched. No check ends the others."""
    yield Finding("python", f"{platform.python_version()} on {platform.system()}")
    checks = (
        *(_packages, _torchvision, _device, _processor, _codecs, _media, _cache, _runs, _assets),
        *(_extras, _browser, _wandb),
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever a half-installed library may raise
            what = check.__name__.strip("_")
            yield Finding(what, f"cannot be checked: {type(error).__name__}: {error}", "note")


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


def _torchvision() -> Iterator[Finding]:
    try:
        from unlossy._torchvision import SCHEMAS
    except Exception as error:  # whatever a half-installed C++ library may raise
        remedy = "install the torchvision that goes with this torch (constraints.txt names a pair)"
        yield Finding("torchvision", f"cannot be imported: {error}", "bad", remedy)
        return
    worked_around = "linked against CUDA beside a CPU-only torch; worked around"
    yield Finding("torchvision", worked_around if SCHEMAS else "imports as it is")


def _device() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding("device", "CPU; the default run is made for it")
        return
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    precision = "bf16" if torch.cuda.is_bf16_supported() else "float32"
    name = torch.cuda.get_device_name()
    yield Finding("device", f"{name}, {memory:.0f} GB, {precision}: try trainer=gpu")


def _processor() -> Iterator[Finding]:
    """Cores and memory that this process may use, by its affinity and its cgroup."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    remedy = "" if threads == cores else "OMP_NUM_THREADS sets it"
    yield Finding("processor", f"{cores} cores, of which torch uses {threads}", "ok", remedy)
    if memory := _memory():
        scarce = memory < NEEDED_MEMORY
        yield Finding(
            "memory",
            f"{memory / 1e9:.1f} GB",
            "note" if scarce else "ok",
            "if a run is killed: data.workers=0, a smaller data.batch" if scarce else "",
        )


def _memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes of memory that there are for this process; None where nothing tells."""
    found = []
    with suppress(AttributeError, ValueError, OSError):  # not on every system
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # "max" is no number
            found.append(int((cgroup / limit).read_text()))
    return min(found, default=None)


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
    with suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
    yield _folder("cache", root, "set UNLOSSY_CACHE to a folder", NEEDED_SPACE)


def _runs() -> Iterator[Finding]:
    """Where runs will lie: `runs` here, which the first one makes."""
    yield _folder("run_root", Path("runs").resolve(), "pass run_root=FOLDER, one", 0)


def _folder(what: str, folder: Path, instead: str, needed: int) -> Finding:
    """Try whether a folder, or the one that it will be made in, can be written."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(what, f"{folder}: {error.strerror}", "bad", f"{instead} that can be written")
    free = shutil.disk_usage(place).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    if free < needed:
        remedy = f"free {needed / 1e9:.0f} GB, or {instead} on another disk"
        return Finding(what, found, "note", remedy)
    return Finding(what, found)


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


def _extras() -> Iterator[Finding]:
    """What only some need."""
    for extra, (distribution, purpose) in EXTRAS.items():
        try:
            yield Finding(f"extra {extra}", f"{distribution} {metadata.version(distribution)}")
        except metadata.PackageNotFoundError:
            remedy = f"pip install 'unlossy[{extra}]', for {purpose}"
            yield Finding(f"extra {extra}", "not installed", "note", remedy)


def _browser() -> Iterator[Finding]:
    name = next((name for name in BROWSERS if shutil.which(name)), None)
    remedy = "" if name else "only the tests of the report page want one: apt-get install chromium"
    yield Finding("browser", name or "no Chromium", "ok" if name else "note", remedy)


def _wandb() -> Iterator[Finding]:
    """Whether runs go online; the key itself is not looked at."""
    mode = os.environ.get("WANDB_MODE", "online")
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rpartition("//")[2]
    known = "WANDB_API_KEY" in os.environ
    with suppress(OSError, netrc.NetrcParseError):
        logins = netrc.netrc(Path(os.environ.get("NETRC", "~/.netrc")).expanduser())
        known = known or logins.authenticators(host) is not None
    if mode != "online":
        yield Finding("W&B", f"{mode}, by WANDB_MODE")
    elif known:
        yield Finding("W&B", f"a key for {host}: runs go online")
    else:
        remedy = "wandb login, for runs that go online; wandb sync uploads those that were kept"
        yield Finding("W&B", "no key: runs are kept offline", "note", remedy)

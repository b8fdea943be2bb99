"""Damage a file, enhance it, tell what happened: one case for every line on stdin.

    python fuzz_worker.py FOLDER        lines in: KIND SEED        lines out: JSON

Run by hand, `echo gif 17 | python fuzz_worker.py FOLDER` repeats a case of test_fuzz.py.
"""

import contextlib
import io
import json
import resource
import sys
import tempfile
import traceback
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from unlossy.errors import UserError
from unlossy.gif_file import CLEAR, write_gif
from unlossy.inference.enhance import enhance
from unlossy.models.baselines import Identity
from unlossy.video import Frame, VideoWriter, shown_frames

HEIGHT, WIDTH, FRAMES = 12, 16, 4
ROOM = 3 * 2**30  # of address space beside what the libraries take
TARGETS = (".mp4", ".gif", ".webm", "")


def seed_gif() -> bytes:
    """Frames with tables of their own, see-through pixels and several delays."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 16, (FRAMES, HEIGHT, WIDTH)).astype(np.uint8)
    tables = [rng.integers(0, 256, (16, 3)).astype(np.uint8) for _ in frames]
    return write_gif(frames, tables, [4, 0, 7, 1], transparent=[None, 3, 5, None], disposal=CLEAR)


def seed_mp4(folder: Path) -> bytes:
    """Moving noise in H.264, with sound, and the index in front."""
    rng = np.random.default_rng(0)
    plain, path = folder / "plain.mp4", folder / "seed.mp4"
    picture = torch.from_numpy(rng.integers(0, 256, (3, HEIGHT, WIDTH)).astype(np.uint8))
    with VideoWriter(plain, WIDTH, HEIGHT, Fraction(25)) as writer:
        for k in range(FRAMES):
            moved = picture.roll(k, 2)
            writer.add(Frame(moved, None, Fraction(k, 25), Fraction(1, 25)))
    with (
        av.open(str(plain)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as container,
    ):
        video = container.add_stream_from_template(source.streams.video[0])
        audio = container.add_stream("aac", rate=8000, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(audio.encode(silence))
        container.mux(audio.encode(None))
    content = path.read_bytes()
    plain.unlink()
    path.unlink()
    return content


def peak_kb() -> int:
    """Return the most memory this process has held; getrusage would count its parent's."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def damaged(content: bytes, seed: int) -> bytes:
    """Cut, or flip up to eight bits, in every second case among the first 100 bytes or so."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.25:
        return content[: rng.integers(0, len(content))]
    found = bytearray(content)
    reach = len(content) if rng.random() < 0.5 else min(len(content), 2 ** rng.integers(4, 11))
    for at in rng.integers(0, reach, rng.integers(1, 9)):
        found[at] ^= 1 << rng.integers(0, 8)
    return bytes(found)


def outcome(folder: Path, name: str, content: bytes, seed: int) -> str | None:
    """Return what is wrong with how a damaged file was treated."""
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        source = Path(inner) / name
        target = source.with_name(f"out{TARGETS[seed % len(TARGETS)]}")
        source.write_bytes(content)
        try:
            enhance(source, target, model=Identity())
        except UserError as error:
            said, expected = str(error), {source}
            if "\n" in said or not said.endswith(".") or name not in said:
                return f"not a sentence about the file: {said}"
        except BaseException:  # the point of the test
            return traceback.format_exc()
        else:
            expected = {source, target}
            sum(frame.rgb.numel() for frame in shown_frames(target))  # raises unless sound
        found = set(source.parent.iterdir())
        return None if found == expected else f"left behind: {found - expected}"


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    contents = {"gif": seed_gif(), "mp4": seed_mp4(folder)}
    for kind, content in contents.items():  # the seeds themselves are sound
        with contextlib.redirect_stderr(io.StringIO()):
            assert outcome(folder, f"whole.{kind}", content, 1) is None, kind
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    print("ready", flush=True)
    for line in sys.stdin:
        kind, number = line.split()
        content = damaged(contents[kind], int(number))
        with contextlib.redirect_stderr(io.StringIO()):
            wrong = outcome(folder, f"a {kind}.{kind}", content, int(number))
        print(json.dumps({"wrong": wrong, "peak_kb": peak_kb()}), flush=True)


if __name__ == "__main__":
    main()

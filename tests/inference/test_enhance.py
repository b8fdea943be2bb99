from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import unlossy
from unlossy import assets, checkpoint, cli
from unlossy.degradations.gif import Gif
from unlossy.errors import UserError
from unlossy.gif_file import CLEAR, KEEP, write_gif
from unlossy.inference import enhance as door
from unlossy.inference import gif_colors, overlap
from unlossy.inference.choosing import newest_checkpoint
from unlossy.inference.enhance import enhance
from unlossy.inference.look import look_at, palette_of
from unlossy.inference.outputs import Clip, GifStyle, write
from unlossy.inference.timeline import Timing
from unlossy.models.baselines import Identity
from unlossy.models.ccdnet import CCDNet
from unlossy.models.interpolation_baselines import FrameAverage
from unlossy.models.model import EnhancementModel
from unlossy.models.spynet import SPyNetWarp
from unlossy.networks.quantizer import quantize
from unlossy.sample import Restored, Sample, check, pristine
from unlossy.video import Frame, VideoWriter, probe, read_frames, shown_frames


class Same(EnhancementModel):
    """Gives back what it gets."""

    def forward(self, batch: Sample) -> Restored:
        check(batch)
        return Restored(estimate=batch["degraded"], extras={})


class InPalette(Same):
    """Also checks that every pixel is a colour of its frame's palette."""

    needs = frozenset({"palette", "palette_size"})

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, batch: Sample) -> Restored:
        frames = batch["degraded"].flatten(0, 1)
        size = batch["side"]["palette_size"].flatten()
        nearest = quantize(frames, batch["side"]["palette"].flatten(0, 1), size)
        assert torch.equal(nearest, frames)
        self.sizes += size.tolist()
        return super().forward(batch)


class Twice(Same):
    scale = 2

    def forward(self, batch: Sample) -> Restored:
        frames = functional.interpolate(batch["degraded"][0], scale_factor=2)
        return Restored(estimate=frames[None], extras={})


def picture(colors: int, height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices that use every colour if there is room, and the palette."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, colors, (height, width)).astype(np.uint8)
    used = min(colors, index.size)
    index.reshape(-1)[:used] = np.arange(used)
    codes = rng.choice(2**24, colors, replace=False)
    return index, np.stack((codes >> 16, codes >> 8 & 255, codes & 255), 1).astype(np.uint8)


def gif(
    path: Path,
    frames: int = 3,
    colors: int = 8,
    size: tuple[int, int] = (6, 7),
    *,
    delays: list[int] | None = None,
    loop: int | None = 0,
    hole: int | None = None,
) -> Path:
    drawn = [picture(colors, *size, seed) for seed in range(frames)]
    path.write_bytes(
        write_gif(
            [index for index, _ in drawn],
            [palette for _, palette in drawn] * (2 if frames == 1 else 1),  # local tables
            delays or [4] * frames,
            loop=loop,
            transparent=[hole] * frames,
            disposal=KEEP if hole is None else CLEAR,
        )
    )
    return path


def same_frames(ours: Path, theirs: Path) -> None:
    for a, b in zip(shown_frames(ours), shown_frames(theirs), strict=True):
        assert torch.equal(a.rgb, b.rgb)
        assert a[2:] == b[2:]
        assert (a.alpha is None) == (b.alpha is None)
        assert a.alpha is None or torch.equal(a.alpha, b.alpha)


def test_gif_to_gif_keeps_everything(tmp_path):
    source = gif(tmp_path / "my cat.gif", 20, delays=[k % 7 for k in range(20)], loop=3)
    target = tmp_path / "my other cat.gif"
    assert enhance(source, target, model=Same()) == target
    same_frames(target, source)
    assert probe(target) == probe(source)
    assert probe(target).loop == 3


@pytest.mark.parametrize("loop", [None, 0, 1])
def test_loop_is_kept(tmp_path, loop):
    enhance(gif(tmp_path / "a.gif", loop=loop), tmp_path / "b.gif", model=Same())
    assert probe(tmp_path / "b.gif").loop == loop


def test_alpha_is_carried(tmp_path):
    source = gif(tmp_path / "a.gif", hole=3)
    assert all(frame.alpha is not None for frame in shown_frames(source))
    enhance(source, tmp_path / "b.gif", model=InPalette())
    for ours, theirs in zip(shown_frames(tmp_path / "b.gif"), shown_frames(source), strict=True):
        assert torch.equal(ours.alpha, theirs.alpha)
        assert torch.equal(ours.rgb * (ours.alpha > 0), theirs.rgb * (theirs.alpha > 0))
    enhance(source, tmp_path / "frames", model=Twice())
    alpha = next(shown_frames(tmp_path / "frames")).alpha
    assert alpha.shape == (12, 14)
    assert {0, 255} < set(alpha.flatten().tolist())
    enhance(source, tmp_path / "b.webm", model=Same())
    assert probe(tmp_path / "b.webm").width == 7


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webm", ""])
@pytest.mark.parametrize(
    ("frames", "colors", "size"),
    [(1, 8, (6, 7)), (1, 1, (1, 1)), (3, 2, (1, 1)), (2, 2, (5, 3)), (9, 256, (33, 17))],
)
def test_small_and_odd_gifs_simply_work(tmp_path, suffix, frames, colors, size):
    source, target = gif(tmp_path / "a.gif", frames, colors, size), tmp_path / f"b c{suffix}"
    enhance(source, target, model=InPalette())
    found = read_frames(target)
    height, width = (s + s % 2 if suffix == ".mp4" else s for s in size)
    assert found.shape == (frames, 3, height, width)
    if suffix in (".gif", ""):
        assert torch.equal(found, read_frames(source))
    if suffix:
        last = list(shown_frames(target))[-1]
        assert last.time + last.duration == Fraction(4 * frames, 100)


def test_one_frame_to_png(tmp_path):
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    enhance(tmp_path / "a.png", tmp_path / "b.png", model=Same())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), photo)
    enhance(gif(tmp_path / "a.gif", 1), tmp_path / "c.png", model=InPalette())
    assert torch.equal(read_frames(tmp_path / "c.png"), read_frames(tmp_path / "a.gif"))


def test_a_photo_becomes_a_gif_of_256_colours(tmp_path, capsys):
    ramp = np.linspace(0, 255, 64)
    photo = np.stack(np.broadcast_arrays(ramp[:, None], ramp, 99), -1).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    enhance(tmp_path / "a.png", tmp_path / "b.gif", model=Same())
    reduced = read_frames(tmp_path / "b.gif")[0].permute(1, 2, 0).numpy()
    assert len(np.unique(reduced.reshape(-1, 3), axis=0)) <= 256
    assert np.square(reduced - photo.astype(float)).mean() < 40  # 32 dB
    assert "256 colours" in capsys.readouterr().err


def test_the_palette_is_that_of_the_composited_frame(tmp_path):
    """Two images of 200 colours, the second over half of the first, show about 300."""
    first, palette = picture(200, 20, 20, 0)
    second, other = picture(200, 20, 20, 1)
    second[:, :10] = 0
    data = write_gif([first, second], [palette, other], [4, 4], transparent=[None, 0])
    (tmp_path / "a.gif").write_bytes(data)
    colors = [
        len(np.unique(f.permute(1, 2, 0).reshape(-1, 3).numpy(), axis=0))
        for f in read_frames(tmp_path / "a.gif")
    ]
    model = InPalette()
    enhance(tmp_path / "a.gif", tmp_path / "b", model=model)
    assert colors[1] > 256
    assert model.sizes == colors
    assert torch.equal(read_frames(tmp_path / "b"), read_frames(tmp_path / "a.gif"))


def test_a_frame_with_nothing_to_see(tmp_path):
    frame = Frame(
        torch.full((3, 2, 2), 7).byte(), torch.zeros(2, 2).byte(), Fraction(0), Fraction(1)
    )
    palette, filled = palette_of(frame)
    assert palette.tolist() == [[0, 0, 0]]
    assert not filled.any()


def video(path: Path, frames: int = 5) -> Path:
    with VideoWriter(path, 32, 16, Fraction(25), time_base=Fraction(1, 25)) as writer:
        for k in range(frames):
            rgb = torch.full((3, 16, 32), 40 * k).byte()
            rgb[:, :8] += torch.arange(32).byte()
            writer.add(Frame(rgb, None, Fraction(k, 25), Fraction(1, 25)))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ""])
def test_a_video_in(tmp_path, suffix):
    source, target = video(tmp_path / "a.mp4"), tmp_path / f"b{suffix}"
    enhance(source, target, model=Same())
    difference = read_frames(target).int() - read_frames(source).int()
    assert difference.abs().float().mean() < (1 if suffix != ".gif" else 2)
    found = [(frame.time, frame.duration) for frame in shown_frames(target)]
    assert found == [(Fraction(k, 25), Fraction(1, 25)) for k in range(5)]


def run(root: Path, name: str, time: str, *, needs: bool = True, degradation=None) -> Path:
    path = root / name / time / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    steps = 2 if needs else 1
    content = checkpoint.pack(
        CCDNet(steps, 2),
        {"_target_": "unlossy.models.ccdnet.CCDNet", "steps": steps, "channels": 2},
        {
            "model": "ccdnet",
            "loss": "grad",
            "degradation": degradation or {"colors": 32, "dither": "none"},
            "source": "mixed",
            "needs": ["palette", "palette_size"] if needs else [],
            "scale": 1,
            "seed": 0,
        },
    )
    torch.save(content, path)
    return path


def test_the_newest_checkpoint_that_fits(tmp_path, capsys):
    runs = tmp_path / "runs"
    source = gif(tmp_path / "a.gif")
    with pytest.raises(UserError, match=r"train one with python train.py model=ccdnet"):
        enhance(source, tmp_path / "b.gif", run_root=runs)
    run(runs, "zoo", "2026-01-01_000000_a")
    wanted = run(runs, "ant", "2026-01-03_000000_c")
    run(runs, "bee", "2026-01-02_000000_b")
    codec = run(runs, "cow", "2026-01-04_000000_d", needs=False, degradation={"crf": 35})
    broken = runs / "dog" / "2026-01-05_000000_e" / "checkpoints"
    broken.mkdir(parents=True)
    (broken / "best.ckpt").write_bytes(b"half")
    assert newest_checkpoint(runs, source, 32) == wanted
    assert newest_checkpoint(runs, source, None) == codec
    enhance(source, tmp_path / "b.gif", run_root=runs)
    assert str(wanted) in capsys.readouterr().err
    same_frames(tmp_path / "b.gif", source)  # a CCDNet starts as the identity


def test_a_network_that_restores_nothing_is_not_chosen_and_refused_by_name(tmp_path):
    runs, source = tmp_path / "runs", video(tmp_path / "a.mp4")
    wanted = run(runs, "cow", "2026-01-04_000000_d", needs=False, degradation={"crf": 35})
    flow = runs / "spynet" / "2026-01-05_000000_e" / "checkpoints" / "best.ckpt"
    flow.parent.mkdir(parents=True)
    content = torch.load(wanted, weights_only=True)
    training = content["unlossy"]["training"] | {"model": "spynet"}
    config = {"_target_": "unlossy.models.spynet.SPyNetWarp"}
    torch.save(checkpoint.pack(SPyNetWarp(), config, training), flow)
    assert newest_checkpoint(runs, source, None) == wanted
    for model in (flow, SPyNetWarp()):
        with pytest.raises(UserError, match=r"^SPyNetWarp restores nothing: .*; give"):
            enhance(source, tmp_path / "b.mp4", model=model)
    assert not (tmp_path / "b.mp4").exists()


def blobs(dither: bool) -> np.ndarray:
    """A smooth picture reduced to two grey levels, plainly or by error diffusion (Pillow's)."""
    smooth = np.add.outer(np.linspace(0, 128, 60), np.linspace(0, 127, 80)).astype(np.uint8)
    mode = Image.Dither.FLOYDSTEINBERG if dither else Image.Dither.NONE
    return np.asarray(Image.fromarray(smooth).convert("1", dither=mode)).astype(np.uint8)


@pytest.mark.parametrize(
    ("dither", "colors", "degradation", "said"),
    [
        (False, 8, {"colors": 32, "dither": "none"}, ""),
        (False, 8, {"colors": 4, "dither": "none"}, "up to 8 colours a frame (trained on 4)"),
        (True, 2, {"colors": 32, "dither": "none"}, "looks dithered"),
        (True, 2, {"colors": 32, "dither": "floyd_steinberg"}, ""),
        (True, 2, {"fewest": 16, "most": 256}, ""),
        (True, 2, {"stages": [{"every": 2}, {"colors": 32, "dither": "none"}]}, "looks dithered"),
    ],
)
def test_warns_of_an_input_unlike_the_training_data(
    tmp_path, capsys, dither, colors, degradation, said
):
    source = tmp_path / "a.gif"
    index = blobs(dither)
    palette = np.arange(colors)[:, None].repeat(3, 1).astype(np.uint8) * (255 // (colors - 1))
    if not dither:
        index[:4] = np.arange(colors).repeat(80 // colors)
    source.write_bytes(write_gif([index], [palette], [4]))
    ckpt = run(tmp_path, "x", "y", degradation=degradation)
    enhance(source, tmp_path / "b.gif", model=ckpt)
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == bool(said)
    assert said in "".join(lines)


@pytest.mark.parametrize(
    ("frames", "colors", "size", "said"),
    [
        (3, 8, (60, 70), "3 frames, up to 8 colours each, one palette, "),
        (3, 200, (60, 70), "3 frames, up to 200 colours each, a palette per frame, "),
        (1, 8, (60, 70), "1 frame, 8 colours, one palette, "),
    ],
)
def test_says_what_the_input_looks_like(tmp_path, capsys, frames, colors, size, said):
    source = gif(tmp_path / "my cat.gif", frames, colors, size)  # noise, as if dithered
    enhance(source, tmp_path / "b.gif", model=Same())
    assert f"{source}: {said}" in capsys.readouterr().err


def test_says_whether_it_looks_dithered(tmp_path, capsys):
    palette = np.array([[0] * 3, [255] * 3], np.uint8)
    for dither, said in ((False, "not dithered"), (True, "looks dithered")):
        (tmp_path / "a.gif").write_bytes(write_gif([blobs(dither)], [palette], [4]))
        enhance(tmp_path / "a.gif", tmp_path / "b.gif", model=Same())
        assert f"1 frame, 2 colours, one palette, {said}\n" in capsys.readouterr().err
    noise = np.random.default_rng(0).integers(0, 256, (60, 70, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    enhance(tmp_path / "a.png", tmp_path / "b.png", model=Same())
    assert "a.png: 1 frame, more than 1024 colours\n" in capsys.readouterr().err


def test_a_gif_cannot_hold_a_frame_for_an_hour(tmp_path):
    frames = (Frame(torch.zeros(3, 2, 2).byte(), None, Fraction(0), Fraction(3600)),) * 2
    clip = Clip(tmp_path / "a.mp4", 2, 2, 2, Fraction(1), Fraction(1), None, 0, False)
    assert write(tmp_path / "b.gif", iter(frames), clip) == 2
    assert [f.duration for f in shown_frames(tmp_path / "b.gif")] == [Fraction(65535, 100)] * 2


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("a.gif", "is the input itself"),
        ("./none/../a.gif", "does not exist"),
        ("none/b.gif", "does not exist"),
        ("b.jpg", r"cannot write \.jpg"),
        ("b.png", "has 3 frames and a PNG holds one"),
        ("b.mp4", "transparent pixels, which MP4 cannot hold"),
        ("taken", "is no empty folder"),
        ("taken.gif", "is a folder"),
    ],
)
def test_refusals_come_before_any_work(tmp_path, target, sentence):
    class Never(Same):
        def forward(self, batch: Sample) -> Restored:
            raise AssertionError

    source = gif(tmp_path / "a.gif", hole=1)
    for folder in ("taken", "taken.gif"):
        (tmp_path / folder).mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    before = entries(tmp_path), source.read_bytes()
    with pytest.raises(UserError, match=sentence) as caught:
        enhance(source, tmp_path / target, model=Never())
    assert "\n" not in str(caught.value)
    assert (entries(tmp_path), source.read_bytes()) == before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder where not even root may write")
def test_an_unwritable_output(tmp_path):
    with pytest.raises(UserError, match=r"cannot write /proc/b\.gif"):
        enhance(gif(tmp_path / "a.gif"), Path("/proc/b.gif"), model=Same())


@pytest.mark.assets("clips")
@pytest.mark.parametrize("colors", [16, 256])
@pytest.mark.parametrize("clip", ["bikes", "carphone_pristine", "bigbuckbunny"])
def test_dither_is_told_from_noise(tmp_path, clip, colors):
    (path,) = assets.fetch("clips").rglob(f"{clip}.mp4")
    frames = read_frames(path, 30, 2, size=(320, 180), every=60)
    for dither in ("none", "floyd_steinberg"):
        draws = torch.Generator()
        degraded = Gif(colors=colors, dither=dither)(pristine(clip, frames), draws)
        (tmp_path / "a.gif").write_bytes(degraded["stream"])
        look = look_at(tmp_path / "a.gif", probe(tmp_path / "a.gif"))
        assert look.dithered == (dither != "none")
        assert look.colors == colors
        assert look.scope == ("global" if colors < 129 else "frame")
        assert not look.alpha


def test_a_model_that_does_not_fit(tmp_path):
    source = video(tmp_path / "a.mp4")
    ckpt = run(tmp_path / "runs", "x", "y")
    with pytest.raises(UserError, match=r"needs their palette.*give the GIF itself"):
        enhance(source, tmp_path / "b.mp4", model=ckpt)
    with pytest.raises(UserError, match="no checkpoint under"):
        enhance(source, tmp_path / "b.mp4", run_root=tmp_path / "runs")
    blocks = Same()
    blocks.needs = frozenset({"qp"})
    with pytest.raises(UserError, match="needs qp"):
        enhance(source, tmp_path / "b.mp4", model=blocks)
    with pytest.raises(UserError, match="device 'toaster'"):
        enhance(gif(tmp_path / "a.gif"), tmp_path / "b.gif", model=ckpt, device="toaster")
    assert entries(tmp_path) == ["a.gif", "a.mp4", "runs"]


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webm", ""])
@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_nothing_is_half_written(tmp_path, suffix, error):
    class Stops(Same):
        def forward(self, batch: Sample) -> Restored:
            if self.calls == 2:
                raise error
            self.calls += 1
            return super().forward(batch)

    model = Stops().train()
    model.calls = 0
    source = gif(tmp_path / "a.gif", 30)
    with pytest.raises(error):
        enhance(source, tmp_path / f"b{suffix}", model=model)
    assert model.calls == 2
    assert entries(tmp_path) == ["a.gif"]
    assert model.training


def test_a_late_colourful_frame_is_refused_and_nothing_left(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(40):  # every second one is looked at beforehand
        photo = rng.integers(0, 256 if k == 37 else 2, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(photo).save(folder / f"{k}.png")
    with pytest.raises(UserError, match="more than 1024 colours"):
        enhance(folder, tmp_path / "b.webm", model=InPalette())
    assert entries(tmp_path) == ["frames"]


def interrupting(monkeypatch, work: Event, left: Event) -> None:
    """Ctrl-C where the main thread waits for the writer, once that is at work."""

    class Telling(Event):
        def set(self) -> None:
            super().set()
            left.set()

    def interrupted() -> None:
        work.wait(2)
        raise KeyboardInterrupt

    class Pool(ThreadPoolExecutor):
        def submit(self, *call: Any) -> Future:
            future = super().submit(*call)
            if self._thread_name_prefix == "writer":
                future.result = interrupted
            return future

    monkeypatch.setattr(overlap, "Event", Telling)
    monkeypatch.setattr(overlap, "ThreadPoolExecutor", Pool)


def test_an_interrupt_in_the_second_pass_leaves_nothing(tmp_path, monkeypatch):
    work, left, mapped = Event(), Event(), []

    class Slow(gif_colors.PaletteUse):
        def __call__(self, rgb: torch.Tensor) -> torch.Tensor:
            mapped.append(rgb)
            work.set()
            left.wait(2)
            return super().__call__(rgb)

    source = gif(tmp_path / "a.gif", 5)
    monkeypatch.setattr(gif_colors, "PaletteUse", Slow)
    interrupting(monkeypatch, work, left)
    with pytest.raises(KeyboardInterrupt):
        enhance(source, tmp_path / "b.gif", model=Same(), style=GifStyle("global", 2))
    assert len(mapped) == 1
    assert entries(tmp_path) == ["a.gif"]


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".png", ""])
def test_an_interrupt_before_the_file_gets_its_name_leaves_nothing(tmp_path, monkeypatch, suffix):
    work, left = Event(), Event()
    real = door.write

    def last(frames):
        yield from frames
        work.set()
        left.wait(2)

    source = gif(tmp_path / "a.gif", 1)
    monkeypatch.setattr(
        door, "write", lambda target, frames, *others: real(target, last(frames), *others)
    )
    interrupting(monkeypatch, work, left)
    with pytest.raises(KeyboardInterrupt):
        enhance(source, tmp_path / f"b{suffix}", model=Same(), compare=True)
    assert entries(tmp_path) == ["a.gif"]


def test_a_video_that_does_not_tell_its_frames_is_no_png(tmp_path, monkeypatch):
    source = video(tmp_path / "a.webm")
    told = replace(probe(source), frames=1, exact=False)  # as browsers record them
    monkeypatch.setattr(door, "probe", lambda path: told)
    with pytest.raises(UserError, match=r"a\.webm has several frames and a PNG holds one; write"):
        enhance(source, tmp_path / "b.png", model=Same())
    assert entries(tmp_path) == ["a.webm"]


def test_a_frame_that_is_lost_on_the_way_leaves_no_file(tmp_path, monkeypatch):
    def losing(*arguments, **options):
        results = door_results(*arguments, **options)
        next(results)
        yield from results

    door_results = door.restored_frames
    monkeypatch.setattr(door, "restored_frames", losing)
    with pytest.raises(RuntimeError, match="2 of 3 frames"):
        enhance(gif(tmp_path / "a.gif"), tmp_path / "b.gif", model=Same(), compare=True)
    assert entries(tmp_path) == ["a.gif"]


def test_a_comparison_that_fails_at_its_end_leaves_no_target(tmp_path, monkeypatch):
    def full(self, picture) -> None:
        if picture is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_mux", full)
    with pytest.raises(UserError, match=r"b\.compare\.mp4 \(No space left"):
        enhance(gif(tmp_path / "a.gif"), tmp_path / "b.gif", model=Same(), compare=True)
    assert entries(tmp_path) == ["a.gif"]


def test_the_note_on_colours_tells_those_asked_for(tmp_path, capsys):
    for style, said in (
        (GifStyle(), "at most 256 colours a frame;"),
        (GifStyle(colors=8), "at most 8 colours a frame;"),
        (GifStyle("global", 8), "at most 8 colours for all frames;"),
    ):
        enhance(gif(tmp_path / "a.gif"), tmp_path / "b.gif", model=Same(), style=style)
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("slow", [Fraction(2), Fraction(1, 2)])
def test_the_note_on_sound_is_true_of_both_directions(tmp_path, capsys, monkeypatch, slow):
    source = video(tmp_path / "a.mp4")
    told = replace(probe(source), audio="aac")
    monkeypatch.setattr(door, "probe", lambda path: told)
    timing = Timing(factor=Fraction(1), slow=slow)
    enhance(source, tmp_path / "b.mp4", model=Same(), timing=timing)
    assert "the sound is left out, because the film's length changes\n" in capsys.readouterr().err


def test_frames_that_nobody_asked_for_are_not_refused(tmp_path, capsys):
    source = gif(tmp_path / "a.gif", delays=[3, 3, 3])
    enhance(source, tmp_path / "b.gif", model=FrameAverage())
    same_frames(tmp_path / "b.gif", source)
    assert "note: no frames are added, as twice as many would be over 50" in capsys.readouterr().err
    enhance(source, tmp_path / "b.mp4", model=FrameAverage())
    assert len(read_frames(tmp_path / "b.mp4")) == 6


def test_python_chooses_device_and_precision(tmp_path, capsys):
    source, target = gif(tmp_path / "a.gif"), tmp_path / "b.gif"
    with pytest.raises(UserError, match="device 'meta' is not there"):
        unlossy.enhance(source, target, model=Identity(), device="meta")
    with pytest.raises(UserError, match="precision 'half' is unknown"):
        unlossy.enhance(source, target, model=Identity(), precision="half")
    assert entries(tmp_path) == ["a.gif"]
    unlossy.enhance(source, target, model=Identity(), device="cpu", precision="float32")
    assert "stays where it is" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ckpt", "CKPT", "--device", "meta"], "device 'meta' is not there"),
        (["--ckpt", "CKPT", "--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--model", "identity", "--device", "cuda:99"], "device 'cuda:99' is not there"),
        (["--model", "../loss/l1"], "--model ../loss/l1 is unknown"),
        (["--model", "../model/identity"], "--model ../model/identity is unknown"),
    ],
)
def test_what_is_no_device_or_no_filter_is_one_sentence(
    tmp_path, capsys, monkeypatch, options, words
):
    source, ckpt = gif(tmp_path / "a.gif"), run(tmp_path / "runs", "x", "y")
    options = [str(ckpt) if option == "CKPT" else option for option in options]
    arguments = ["enhance", str(source), str(tmp_path / "b.gif"), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.enhance()
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert ended.value.code == 2
    assert len(errors) == 1
    assert words in errors[0]
    assert entries(tmp_path) == ["a.gif", "runs"]

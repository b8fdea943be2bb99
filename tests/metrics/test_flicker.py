"""Flicker by hand, by OpenCV and NumPy alone, and on clips whose motion is known."""

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unlossy.metrics import flicker
from unlossy.metrics.flicker import Flicker, FlickerScores

CPU = torch.device("cpu")


def texture(height: int = 96, width: int = 128, seed: int = 0) -> Tensor:
    """A smooth random picture, uint8 (3, H, W)."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=draws)
    fine = nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine[0].clamp(0, 1).mul(255).byte()


def panning(frames: int = 4, step: int = 2) -> Tensor:
    """A window that moves over a picture by `step` pixels to the right and one down a frame."""
    picture = texture(96 + frames, 128 + step * frames)
    windows = [picture[:, t : t + 96, step * t : step * t + 128] for t in range(frames)]
    return torch.stack(windows)


def grey_clip(values: list[list[list[int]]]) -> Tensor:
    """(T, H, W) levels of grey as uint8 (T, 3, H, W)."""
    return torch.tensor(values, dtype=torch.uint8)[:, None].expand(-1, 3, -1, -1).contiguous()


def columns(restored: Tensor, clean: Tensor, moved: Tensor | None = None) -> dict[str, float]:
    measure, scores = Flicker(), FlickerScores()
    motion = measure.motion(clean, measure.flat(clean, CPU))
    scores.add(restored, motion, torch.empty(0) if moved is None else moved)
    return scores.means()


def test_a_known_shift_is_undone() -> None:
    clip = panning()
    shift = torch.zeros(3, 2, 96, 128)
    shift[:, 0], shift[:, 1] = -2.0, -1.0  # the content moves against the window
    seen = flicker.visible(shift, -shift)
    assert seen.float().mean() == pytest.approx((127 - 1) * 95 / (128 * 96), abs=1e-6)
    assert flicker.warp_errors(clip[:-1], clip[1:], shift, seen) == pytest.approx(
        [0, 0, 0], abs=1e-4
    )
    still = torch.zeros_like(shift)
    assert min(flicker.warp_errors(clip[:-1], clip[1:], still, seen)) > 5


def test_farneback_finds_the_shift_and_the_floor_is_low() -> None:
    clip = panning()
    motion = Flicker().motion(clip, Flicker().flat(clip, CPU))
    inner = motion.flow[..., 16:-16, 16:-16]
    assert inner.mean((0, 2, 3)).tolist() == pytest.approx([-2, -1], abs=0.1)
    assert max(motion.floors) < 1
    assert 0.5 < motion.visible.float().mean() < 1


def test_warp_error_by_hand() -> None:
    """No motion: 1e4 times the mean square over RGB of what is visible, levels as parts of 255."""
    first = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    second = first.clone()
    second[0, 0, 1, 1], second[0, 2, 3, 4] = 51, 102  # 0.2 and 0.4
    flow, seen = torch.zeros(1, 2, 4, 5), torch.ones(1, 4, 5, dtype=torch.bool)
    (found,) = flicker.warp_errors(first, second, flow, seen)
    assert found == pytest.approx(1e4 * (0.04 + 0.16) / 60)
    seen[0, 3, 4] = False
    (found,) = flicker.warp_errors(first, second, flow, seen)
    assert found == pytest.approx(1e4 * 0.04 / 57)
    assert math.isnan(flicker.warp_errors(first, second, flow, ~seen.logical_or(~seen))[0])


def test_what_is_visible_by_hand() -> None:
    """A step of the flow is a motion boundary; what does not return is occluded; nor is outside."""
    flow = torch.zeros(1, 2, 6, 12)
    flow[0, 0, :, 6:] = 1.0
    seen = flicker.visible(flow, -flow)[0]
    # Central differences see the step at columns 5 and 6; of 1.0 pixels column 11 leaves.
    assert seen.all(0).tolist() == [True] * 5 + [False] * 2 + [True] * 4 + [False]
    far = torch.full((1, 2, 6, 12), 0.0)
    far[:, 1] = 2.0
    back = torch.zeros_like(far)  # |2|^2 = 4 > 0.01 * 4 + 0.5
    assert not flicker.visible(far, back).any()
    near = far / 4  # 0.25 <= 0.0025 + 0.5
    assert flicker.visible(near, back)[0, :5].all()
    assert not flicker.visible(near, back)[0, 5].any()  # half a pixel below the last row


def test_tof_is_opencvs_flow_of_the_two_clips_apart() -> None:
    clean = panning()
    restored = (clean.int() + 12 * torch.randn(clean.shape[0], 1, 96, 128)).clamp(0, 255).byte()
    flows = {}
    for name, clip in (("restored", restored), ("clean", clean)):
        grey = [
            cv2.cvtColor(np.ascontiguousarray(f.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY)
            for f in clip
        ]
        flows[name] = [
            cv2.calcOpticalFlowFarneback(grey[t], grey[t + 1], None, 0.5, 3, 15, 3, 5, 1.2, 0)
            for t in range(3)
        ]
    apart = np.stack(flows["restored"]) - np.stack(flows["clean"])
    wanted = np.linalg.norm(apart, axis=-1).mean()
    assert wanted > 0.1
    assert columns(restored, clean)["tof"] == pytest.approx(wanted, rel=2e-3)
    assert columns(clean, clean)["tof"] == 0.0


def test_mabd_by_hand() -> None:
    """Clean brightness rises by 10, then 0; restored by 10, then 4: ((10 - 10)^2 + 4^2) / 2."""
    clean = grey_clip([[[10] * 4] * 4, [[20] * 4] * 4, [[20] * 4] * 4])
    restored = grey_clip([[[50] * 4] * 4, [[60] * 4] * 4, [[64] * 4] * 4])
    assert columns(restored, clean)["mabd"] == pytest.approx(8.0, abs=1e-4)
    shifted = grey_clip([[[0] * 4] * 4, [[10] * 4] * 4, [[10] * 4] * 4])
    assert columns(shifted, clean)["mabd"] == pytest.approx(0.0, abs=1e-6)


def test_mabd_weighs_colors_as_luma() -> None:
    clean = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        restored = clean.clone()
        restored[1, channel] = 20
        assert columns(restored, clean)["mabd"] == pytest.approx((20 * weight) ** 2, rel=1e-5)


def luma_by_numpy(clip: Tensor) -> NDArray[np.float64]:
    weights = torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)
    return (clip.double() * weights).sum(1).numpy()


def variance_by_numpy(clean: Tensor) -> NDArray[np.float64]:
    """Of 27 explicit neighbours, edges repeated."""
    padded = np.pad(np.rint(luma_by_numpy(clean)), 1, mode="edge")
    frames, height, width = (side - 2 for side in padded.shape)
    cubes = [
        padded[t : t + frames, y : y + height, x : x + width]
        for t in range(3)
        for y in range(3)
        for x in range(3)
    ]
    return np.stack(cubes).var(0)


def flicker_by_numpy(restored: Tensor, clean: Tensor) -> tuple[float, float]:
    """F in flat and in textured places, by NumPy's median."""
    variance = variance_by_numpy(clean)
    flat = (variance <= np.median(variance))[:-1]
    changes = [np.diff(luma_by_numpy(clip), axis=0) for clip in (restored, clean)]
    apart = np.abs(changes[0] - changes[1])
    return apart[flat].mean(), apart[~flat].mean()


def test_flicker_in_flat_and_textured_places_equals_numpy() -> None:
    clean = panning(5)
    clean[..., :40] //= 16  # a dark, nearly flat part
    noise = torch.randn(5, 1, 96, 128)
    noise[..., :40] *= 3  # that flickers more
    restored = (clean.int() + 4 * noise).clamp(0, 255).round().byte()
    found = columns(restored, clean)
    wanted = flicker_by_numpy(restored, clean)
    assert wanted[0] > 1.2 * wanted[1]
    assert (found["flicker_flat"], found["flicker_textured"]) == pytest.approx(wanted, rel=1e-2)


def test_flicker_by_hand_on_a_clip_of_two_halves() -> None:
    """The left half is flat, the right one a checkerboard; only the left one flickers, by 6."""
    board = [[40 + 80 * ((x + y) % 2) if x > 3 else 40 for x in range(8)] for y in range(6)]
    clean = grey_clip([board] * 3)
    restored = clean.clone()
    restored[1, :, :, :3] += 6
    found = columns(restored, clean)
    # Flat: the columns 0 to 2, whose neighbours are flat too; the median is above 0 then, at the
    # least of the rest, columns 3 and 4 or the corners. All pixels at the median count as flat.
    flat = Flicker().flat(clean, CPU)
    assert flat[..., :3].all()
    assert found["flicker_flat"] == pytest.approx(6 * 3 * 6 / int(flat[0].sum()), rel=1e-5)
    assert found["flicker_textured"] == 0.0


def test_a_static_difference_does_not_flicker() -> None:
    clean = panning()
    restored = clean.clamp(max=225) + 30
    clean = clean.clamp(max=225)
    found = columns(restored, clean)
    for name in ("flicker_flat", "flicker_textured", "mabd"):
        assert found[name] == pytest.approx(0, abs=1e-4)
    assert found["warp_error"] == pytest.approx(found["warp_floor"], rel=1e-3)


def test_a_flat_clip_has_no_textured_place() -> None:
    clean = torch.full((3, 3, 16, 16), 90, dtype=torch.uint8)
    found = columns(clean, clean)
    assert found["flicker_flat"] == 0.0
    assert math.isnan(found["flicker_textured"])


def test_tlp_is_a_hundred_times_the_mean_gap() -> None:
    clean = panning()
    found = columns(clean, clean, torch.tensor([0.01, -0.02, 0.03]))
    assert found["tlp"] == pytest.approx(2.0, rel=1e-6)
    assert math.isnan(columns(clean, clean)["tlp"])


def test_pairs_across_a_cut_do_not_count() -> None:
    """Two shots one after the other score as the mean of the four pairs within them.

    One is the negative of the other: what is flat in it is so in both together.
    """
    dark = panning(3) // 3
    clean = torch.cat([dark, 255 - dark])
    restored = (clean.int() + 5 * torch.randn(6, 1, 96, 128)).clamp(0, 255).byte()
    whole = columns(restored, clean)
    halves = [columns(restored[s], clean[s]) for s in (slice(0, 3), slice(3, 6))]
    for name in set(flicker.COLUMNS) - {"tlp"}:
        assert whole[name] == pytest.approx((halves[0][name] + halves[1][name]) / 2, rel=1e-6)
    motion = Flicker().motion(clean, Flicker().flat(clean, CPU))
    assert motion.firsts == [0, 1, 3, 4]
    assert Flicker(cut=1.0).motion(clean, Flicker().flat(clean, CPU)).firsts == [0, 1, 2, 3, 4]
    only_a_cut = clean[2:4]
    assert all(math.isnan(value) for value in columns(only_a_cut, only_a_cut).values())


def test_what_is_flat_ends_at_a_cut() -> None:
    """Shots of unlike texture, one of them a single frame: 27 neighbours, none of another shot."""
    shots = [panning(3) // 2, 255 - panning(1) // 8, panning(2, step=4) // 4]
    variance = np.concatenate([variance_by_numpy(shot) for shot in shots])
    flat = Flicker().flat(torch.cat(shots), CPU).numpy()
    # Deviations are compared in steps of 1/27 level.
    unlike = np.abs(np.sqrt(variance) - np.sqrt(np.median(variance))) > 2 / 27
    assert unlike.mean() > 0.9
    assert np.array_equal(flat[unlike], (variance <= np.median(variance))[unlike])


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 7), (1, 40), (33, 31)])
def test_small_and_odd_frames(size: tuple[int, int]) -> None:
    clean = texture(48, 64)[:, : size[0], : size[1]].expand(3, -1, -1, -1).contiguous()
    found = columns(clean, clean)
    assert (found["tof"], found["mabd"], found["flicker_flat"]) == (0.0, 0.0, 0.0)
    assert found["warp_error"] == found["warp_floor"]

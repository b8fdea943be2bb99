"""The parity command: passes on the authors' tensors, of any size, and fails on anything else."""

from pathlib import Path

import pytest
import torch
from check import main, within
from safetensors.torch import load_file, save_file

from unlossy.models.basicvsr import BasicVSR
from unlossy.models.ccdnet import CCDNet
from unlossy.models.film import FILM
from unlossy.networks.flow_unet import FlowUNet

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["ccdnet", "patchgan", "basicvsr", "slomo", "film"])
def test_our_networks_give_the_authors_results(name, capsys):
    assert main([str(HERE / f"{name}.safetensors")]) == 0
    assert "FAILED" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("ccdnet", "refine.upconv2.up.bias", 1e-2),
        ("patchgan", "net.6.running_var", 1e-3),
        ("slomo", "netA.outconv.bias", 1e-3),
        ("slomo", "netB.upconv5.conv.2.bias", 1e-2),
    ],
)
def test_a_slightly_wrong_weight_fails(tmp_path, name, key, change):
    tensors = load_file(HERE / f"{name}.safetensors")
    tensors[key] += change
    save_file(tensors, tmp_path / "wrong.safetensors")
    assert main([str(tmp_path / "wrong.safetensors")]) == 1


@pytest.mark.parametrize("name", ["ccdnet", "patchgan"])
def test_not_a_number_fails(tmp_path, name):
    tensors = load_file(HERE / f"{name}.safetensors")
    tensors["logits" if name == "patchgan" else "iter2"].view(-1)[7] = torch.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    assert main([str(tmp_path / "nan.safetensors")]) == 1


@pytest.mark.parametrize(("steps", "channels", "colors"), [(4, 4, 7), (2, 12, 300), (1, 4, 5)])
def test_sizes_come_from_the_shapes(tmp_path, steps, channels, colors):
    """Made with our own network: proves that sizes are found, not that they are right."""
    model = CCDNet(steps, channels, update="tanh").eval()
    gif, palette = torch.rand(2, 3, 33, 50) * 2 - 1, torch.rand(2, colors, 3) * 2 - 1
    side = {
        "palette": (palette[:, None] + 1) / 2,
        "palette_size": torch.full((2, 1), colors),
    }
    with torch.no_grad():
        outputs = model({"degraded": (gif[:, None] + 1) / 2, "side": side})["extras"]["steps"]
    file = {f"iter{k}" if k else "init": outputs[:, k, 0] * 2 - 1 for k in range(steps)}
    file = {key: value.contiguous() for key, value in file.items()}
    save_file({**file, **model.state_dict(), "gif": gif, "palette": palette}, tmp_path / "own")
    assert main([str(tmp_path / "own")]) == 0


@pytest.mark.parametrize(
    ("channels", "blocks", "shape"), [(5, 3, (2, 2, 3, 17, 20)), (12, 1, (1, 1, 3, 9, 30))]
)
def test_sizes_of_a_basicvsr_come_from_the_shapes(tmp_path, channels, blocks, shape):
    """Made with our own network: proves that sizes are found, not that they are right."""
    model, frames = BasicVSR(channels, blocks, scale=4).eval(), torch.rand(shape)
    for weight in model.parameters():
        weight.data += 0.02 * torch.randn_like(weight)
    with torch.no_grad():
        file = {"frames": frames, "upsampled_x4": model({"degraded": frames})["estimate"]}
        if shape[1] > 1:
            file["flow_0_to_1"] = model.spynet(frames[:, 0], frames[:, 1])
    file |= {f"net.{key}": value.contiguous() for key, value in model.state_dict().items()}
    save_file(file, tmp_path / "own")
    assert main([str(tmp_path / "own")]) == 0


@pytest.mark.parametrize(
    ("widths", "times", "size"),
    [((2, 3), [0.1], (33, 50)), ((3, 2), [0.3, 0.5, 0.6, 0.9], (64, 32))],
)
def test_sizes_of_a_slomo_come_from_the_shapes(tmp_path, widths, times, size):
    """Against the pipeline written out in its own range, [-1, 1] and shares of 30 pixels."""
    nets = {"netA": FlowUNet(6, 2, widths[0]), "netB": FlowUNet(16, 5, widths[1])}
    file = {}
    for name, net in nets.items():
        torch.nn.init.normal_(net.outconv.weight, std=0.02)
        file |= {f"{name}.{key}": value for key, value in net.state_dict().items()}
    images = torch.rand(4, 2, 3, *size) * 2 - 1
    file |= dict(zip(("gif0", "gif1", "frame0", "frame1"), images.unbind(), strict=True))
    gif0, gif1, first, last = images

    def warped(x, flow):
        grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in size[::-1]), indexing="xy"))
        grid = (grid + 30 * flow).movedim(1, -1) * 2 / (torch.tensor(size[::-1]) - 1) - 1
        return torch.nn.functional.grid_sample(x, grid.clamp(-1, 1), align_corners=True)

    with torch.no_grad():
        flow01 = nets["netA"](torch.cat([gif0, gif1], 1)).tanh()
        flow10 = nets["netA"](torch.cat([gif1, gif0], 1)).tanh()
        frames, to_first, to_last, visible = [], [], [], []
        for t in times:
            f0 = -t * (1 - t) * flow01 + t * t * flow10
            f1 = (1 - t) ** 2 * flow01 - t * (1 - t) * flow10
            seen = torch.cat([first, last, warped(first, f0), warped(last, f1), f0, f1], 1)
            told = nets["netB"](seen).tanh()
            v0 = (told[:, 4:] + 1) / 2
            a, b = (1 - t) * v0, t * (1 - v0)
            mixed = a * warped(first, told[:, :2]) + b * warped(last, told[:, 2:4])
            frames.append(mixed / (a + b + 1e-8))
            to_first.append(f0)
            to_last.append(f1)
            visible.append(v0)
    file |= {"flow01": flow01, "flow10": flow10, "times": torch.tensor(times)}
    lists = {"interpolated": frames, "flow_t0": to_first, "flow_t1": to_last}
    lists["visibility_t0"] = visible
    file |= {name: torch.stack(values, 1) for name, values in lists.items()}
    save_file({k: v.contiguous() for k, v in file.items()}, tmp_path / "own")
    assert main([str(tmp_path / "own")]) == 0


@pytest.mark.parametrize(("levels", "size"), [(4, (33, 50)), (6, (64, 40))])
def test_sizes_of_frames_and_the_levels_of_a_film_come_from_the_file(tmp_path, levels, size):
    """Made with our own network: proves that sizes are found, not that they are right."""
    file = load_file(HERE / "film.safetensors") | {"pyramid_levels": torch.tensor(levels)}
    network = FILM.from_official(within(file, "weights/"), levels).network
    file["frame0"], file["frame1"] = torch.rand(2, 2, 3, *size)
    with torch.no_grad():
        made = network(file["frame0"], file["frame1"])
    file |= {"image": made.image, "x0_warped": made.warped_first, "x1_warped": made.warped_last}
    file |= {"forward_flow": 2 * made.to_last, "backward_flow": 2 * made.to_first}
    file = {key: value.contiguous() for key, value in file.items()}
    save_file(file, tmp_path / "own")
    assert main([str(tmp_path / "own")]) == 0
    network.out.bias.data += 1e-3
    with torch.no_grad():
        file["image"] = network(file["frame0"], file["frame1"]).image
    save_file(file, tmp_path / "wrong")
    assert main([str(tmp_path / "wrong")]) == 1


@pytest.mark.parametrize("case", ["none", "missing", "garbage", "unknown"])
def test_an_unusable_file_gets_a_sentence_and_code_2(tmp_path, case, capsys):
    path = tmp_path / "file.safetensors"
    if case == "garbage":
        path.write_bytes(b"no tensors here")
    if case == "unknown":
        save_file({"weight": torch.zeros(3)}, path)
    assert main([] if case == "none" else [str(path)]) == 2
    assert capsys.readouterr().err


def test_within_keeps_only_the_prefix():
    assert within({"a.b": 1, "a.c.d": 2, "ab": 3}, "a.") == {"b": 1, "c.d": 2}

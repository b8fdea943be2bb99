import pytest
import torch
from torch import nn

from unlossy import _torchvision  # noqa: F401
from unlossy.data.samples import Steps, TrainingSamples
from unlossy.data.video_data import VideoData
from unlossy.errors import UserError
from unlossy.sample import check, to_float

from lightning import LightningModule, Trainer  # isort: skip
from lightning.pytorch.callbacks import ModelCheckpoint  # isort: skip


def prepared(*args, **kwargs) -> VideoData:
    data = VideoData(*args, **kwargs)
    data.prepare_data()
    return data


def samples(data: VideoData, crop: int, frames: int = 1, seed: int = 0) -> TrainingSamples:
    return TrainingSamples(data.cache, data.clips["train"], crop, frames, seed)


def same(one, other) -> bool:
    keys = ("degraded", "clean", "t_in", "t_out", "bits")
    tensors = all(torch.equal(one[key], other[key]) for key in keys)
    side = all(torch.equal(one["side"][key], other["side"][key]) for key in one["side"])
    return tensors and side and one["name"] == other["name"]


def test_a_sample_depends_on_seed_and_index_alone(drift, grey):
    data = prepared(drift(), grey())
    drawn = [samples(data, 16)[i] for i in range(40)]
    torch.manual_seed(3)
    again = samples(data, 16)
    assert all(same(drawn[i], again[i]) for i in reversed(range(40)))
    assert not same(drawn[0], samples(data, 16, seed=1)[0])
    assert len({sample["name"][0] for sample in drawn}) == 3
    assert len({float(sample["clean"].float().mean()) for sample in drawn}) > 35


def test_degraded_and_clean_show_the_same_place(drift, grey, half, halved):
    data = prepared(drift(), grey())
    for i in range(20):
        sample = samples(data, 16, frames=2)[i]
        check(to_float(sample))
        colors = int(sample["side"]["palette_size"][0, 0])
        green = sample["clean"][0, :, 1].int() * (colors - 1) // 255
        assert torch.equal(sample["degraded"][0, :, 1].int(), green * 255 // (colors - 1))
        assert sample["t_out"].tolist() == sample["t_in"].tolist()
    data = prepared(drift(), half())
    for i in range(20):
        sample = samples(data, 16)[i]
        assert sample["clean"].shape[-2:] == (32, 32)
        assert torch.equal(halved(sample["clean"]), sample["degraded"])


def test_frames_between_the_kept_ones_are_wanted(drift, half, halved):
    data = prepared(drift(frames=9), half(every=3))
    sample = samples(data, 16, frames=2)[0]
    first = int(sample["t_in"][0, 0])
    assert first in (0, 3)
    assert sample["t_in"].tolist() == [[first, first + 3]]
    assert sample["t_out"].tolist() == [[first, first + 1, first + 2, first + 3]]
    assert torch.equal(halved(sample["clean"][:, [0, 3]]), sample["degraded"])
    whole = next(iter(data.test_dataloader()))
    assert whole["t_in"].tolist() == [[0, 3, 6]]
    assert whole["t_out"].tolist() == [list(range(7))]


def test_a_small_clip_is_continued_by_its_edge(drift, half):
    data = prepared(drift(height=10, width=40), half())
    sample = samples(data, 16)[0]
    assert sample["degraded"].shape == (1, 1, 3, 16, 16)
    assert sample["clean"].shape == (1, 1, 3, 32, 32)
    edges = [sample["clean"][..., row, :] for row in ([9, 31], [22, 0])]  # flipped or not
    assert any(torch.equal(pair[..., 0, :], pair[..., 1, :]) for pair in edges)


def test_a_window_longer_than_every_clip_is_refused(drift, grey):
    data = prepared(drift(), grey(), frames=6)
    with pytest.raises(UserError, match=r"6 frame\(s\) .* the longest of 3 clips has 5"):
        data.train_dataloader()


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"crop": -1}, {"frames": 0}, {"workers": -1}])
def test_sizes_are_checked_at_construction(drift, grey, wrong):
    with pytest.raises(UserError, match=f"data.{next(iter(wrong))}="):
        VideoData(drift(), grey(), **wrong)


def test_steps_are_numbered_over_ranks_and_count_from_the_beginning():
    whole = [list(Steps(0, 6, 2, rank, 2)) for rank in (0, 1)]
    flat = [i for step in zip(*whole, strict=True) for rank in step for i in rank]
    assert flat == list(range(24))
    assert list(Steps(4, 6, 2, 1, 2)) == whole[1][4:]
    assert len(Steps(4, 6, 2)) == 6
    with pytest.raises(TypeError, match="endless"):
        len(Steps(0, -1, 2))


def test_whole_clips_wait_as_bytes_and_the_clean_ones_are_not_copied(drift, grey):
    data = prepared(drift(), grey())
    batches = list(data.test_dataloader())
    assert [batch["name"] for batch in batches] == [["test/0"], ["test/1"]]
    for batch in batches:
        assert batch["degraded"].dtype == batch["clean"].dtype == torch.uint8
        assert batch["clean"].shape == (1, 5, 3, 40, 48)
        assert batch["bits"].tolist() == [24]
        check(to_float(batch))


def test_the_card_counts_what_was_used(drift, grey):
    data = prepared(drift(), grey())
    card = data.describe()
    assert card["train"] == {"drift": {"clips": 3, "frames": 15, "bits": 72}}
    assert card["digest"] == VideoData(drift(), grey(), seed=5).digest()
    assert card["digest"] != VideoData(drift(train=2), grey()).digest()
    assert data.source_of("test/1") == "drift"


@pytest.mark.parametrize(("other", "refused"), [("train", True), ("test", False)])
def test_only_validation_and_test_may_share_clips(drift, grey, other, refused):
    class Shared(drift):
        def clips(self, split):
            return super().clips(other if split == "val" else split)

    data = VideoData(Shared(), grey())
    if refused:
        with pytest.raises(UserError, match="two clips named train/0"):
            data.prepare_data()
    else:
        data.prepare_data()
        assert len(data.val_dataloader()) == len(data.test_dataloader()) == 2


class Recorder(LightningModule):
    """Notes every batch it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        assert batch["clean"].dtype == torch.float32
        self.seen.append((batch_idx, batch["name"], batch["clean"].clone()))
        return self.weight * batch["clean"].mean()

    def validation_step(self, batch, batch_idx):
        assert batch["clean"].dtype == torch.uint8
        self.validated.append(batch["name"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, folder, resume=None) -> Recorder:
    """Six steps, a checkpoint after the third, which is between two validations."""
    recorder = Recorder()
    trainer = Trainer(
        max_steps=6,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        callbacks=[ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        val_check_interval=2,
    )
    trainer.fit(recorder, datamodule=data, ckpt_path=resume, weights_only=True)
    assert trainer.global_step == 6
    return recorder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_resumed_run_sees_the_samples_an_uninterrupted_one_does(drift, grey, tmp_path):
    def data(workers: int) -> VideoData:
        return VideoData(drift(), grey(), batch=3, crop=8, workers=workers)

    whole = fit(data(0), tmp_path)
    rest = fit(data(2), tmp_path, resume=tmp_path / "step=3.ckpt")
    assert [step for step, _, _ in whole.seen] == list(range(6))
    assert [step for step, _, _ in rest.seen] == [3, 4, 5]
    for one, other in zip(rest.seen, whole.seen[3:], strict=True):
        assert one[1] == other[1]
        assert torch.equal(one[2], other[2])
    assert whole.validated == [["val/0"]] * 3


def test_reading_draws_nothing_from_the_global_generator(drift, grey):
    data = prepared(drift(), grey(), workers=0)
    before = torch.get_rng_state()
    next(iter(data.train_dataloader()))
    next(iter(data.val_dataloader()))
    assert torch.equal(before, torch.get_rng_state())

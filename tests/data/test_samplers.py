"""Orders of samples: whole, and dealt out to several processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import lightning.pytorch as pl
import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.samplers import EpochSampler, Share, ShareSampler


@pytest.mark.parametrize("length", [0, 1, 5, 8])
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_no_image_is_lost_or_seen_twice(length: int, processes: int) -> None:
    shares = [list(ShareSampler(length, Share(rank, processes))) for rank in range(processes)]
    assert sorted(index for share in shares[: max(length, 1)] for index in share) == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(shares) or not length
    assert [len(ShareSampler(length, Share(rank, processes))) for rank in range(processes)] == list(map(len, shares))


def test_long_epochs_take_every_image_equally() -> None:
    sampler = EpochSampler(5, seed=1, samples=12)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 12
    assert len(set(keys)) == 12
    assert sorted(index for index, _ in keys[:5]) == sorted(index for index, _ in keys[5:10]) == list(range(5))
    sampler.set_epoch(1)
    assert not set(sampler) & set(keys)
    assert len(list(EpochSampler(5, seed=1, samples=3))) == 3


@pytest.mark.parametrize(("length", "samples"), [(12, None), (13, None), (5, 23), (40, 12)])
@pytest.mark.parametrize("epoch", [0, 3])
def test_processes_take_the_batches_of_one(length: int, samples: int | None, epoch: int) -> None:
    processes, batch = 3, 2
    alone = EpochSampler(length, seed=4, samples=samples)
    together = [EpochSampler(length, 4, samples, Share(rank, processes)) for rank in range(processes)]
    for sampler in (alone, *together):
        sampler.set_epoch(epoch)
    whole, parts = list(alone), [list(sampler) for sampler in together]
    assert {len(part) for part in parts} == {len(sampler) for sampler in together} == {len(whole) // processes}
    size = batch * processes
    assert len(whole) // size == len(parts[0]) // batch  # as many steps
    for step in range(len(whole) // size):
        of_processes = [key for part in parts for key in part[step * batch : (step + 1) * batch]]
        assert sorted(of_processes) == sorted(whole[step * size : (step + 1) * size])


def test_other_epochs_leave_out_other_images() -> None:
    left_out = set()
    for epoch in range(8):
        shares = [EpochSampler(5, 0, share=Share(rank, 2)) for rank in range(2)]
        for sampler in shares:
            sampler.set_epoch(epoch)
        (missing,) = set(range(5)) - {index for sampler in shares for index, _ in sampler}
        left_out.add(missing)
    assert len(left_out) > 1


def test_too_few_samples_for_the_processes_are_refused() -> None:
    with pytest.raises(
        SettingError, match=r"^epoch_samples=null makes an epoch of 3 .* \(4\)\. Give at least 4"
    ) as raised:
        EpochSampler(3, 0, share=Share(0, 4))
    assert raised.value.setting == "epoch_samples"
    with pytest.raises(SettingError, match=r"^epoch_samples=0 "):
        EpochSampler(3, 0, samples=0)
    assert len(EpochSampler(3, 0, samples=4, share=Share(3, 4))) == 1


def test_orders_follow_the_seed() -> None:
    first, second, third = (list(EpochSampler(20, seed)) for seed in (1, 1, 2))
    assert first == second != third
    assert {index for index, _ in first} == set(range(20))


def test_skipping_leaves_out_the_first_samples_of_each_process() -> None:
    for share in (Share(), Share(1, 3)):
        sampler = EpochSampler(12, seed=4, share=share)
        everything = list(sampler)
        sampler.skip = 2
        assert list(sampler) == everything[2:]


def test_the_share_is_the_trainer_s() -> None:
    trainer = cast(pl.Trainer, SimpleNamespace(global_rank=2, world_size=5))
    assert Share.under(trainer) == Share(2, 5)
    assert Share.under(None) == Share(0, 1)

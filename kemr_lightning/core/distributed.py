"""Training in several processes: which of them writes, what all agree on, batch normalisation over all batches."""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from typing_extensions import override


def is_first() -> bool:
    """Whether this process is the one that writes files; a single process always is."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def quieten_others() -> None:
    """Let all processes but the first log errors only, because they would repeat everything else."""
    if not is_first():
        logging.getLogger().setLevel(logging.ERROR)


def everywhere(condition: bool, device: torch.device | str = "cpu") -> bool:
    """Whether a condition holds in every process. All processes must call this together.

    Args:
        condition: Whether it holds in this process.
        device: Where the processes exchange tensors.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return condition
    flag = torch.tensor([condition], dtype=torch.int32, device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag.item())


def from_all(value: str) -> list[str]:
    """The texts of all processes, in the order of their ranks. All processes must call this together."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    texts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(texts, value)
    return texts


class BatchNormOverProcesses(nn.BatchNorm2d):
    """Batch normalisation with the mean and variance of all processes' batches, on any device.

    PyTorch's `SyncBatchNorm` does the same, with kernels that exist for GPUs only. Gradients flow through the
    statistics to every process. In evaluation mode, and in a single process, this is a plain `BatchNorm2d`.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same shape. B, H and W may differ between processes."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        # float64: E[x^2] - E[x]^2 in float32 loses the variance of features far from zero.
        wide = input.double()
        count = wide.new_full((1,), input.numel() / input.shape[1])
        own = torch.cat([wide.sum(dim=(0, 2, 3)), wide.square().sum(dim=(0, 2, 3)), count])
        total = cast(Tensor, all_reduce(own))  # type: ignore[no-untyped-call]
        number = total[-1]
        mean, square = (total[:-1] / number).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        self._follow(mean.detach(), variance.detach() * (number / (number - 1).clamp(min=1)).detach())
        scale = (variance + self.eps).rsqrt()
        shift = -mean * scale
        scale, shift = scale.to(input.dtype), shift.to(input.dtype)
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return input * scale[:, None, None] + shift[:, None, None]

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as `BatchNorm2d` does, with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        part = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), part)
        self.running_var.lerp_(variance.to(self.running_var.dtype), part)


class BatchNormSync(TorchSyncBatchNorm):
    """Lightning's plug-in for synchronised batch normalisation: PyTorch's layers on GPUs, ours elsewhere.

    Every process then has the same running statistics, so all score their share of the validation images with the same
    model, and a step has the effect that it would have in a single process.
    """

    @override
    def apply(self, model: nn.Module) -> nn.Module:
        if dist.is_initialized() and dist.get_backend() == "nccl":
            return super().apply(model)
        return _exchange(model, nn.BatchNorm2d, BatchNormOverProcesses)

    @override
    def revert(self, model: nn.Module) -> nn.Module:
        return super().revert(_exchange(model, BatchNormOverProcesses, nn.BatchNorm2d))


def _exchange(model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> nn.Module:
    """Turn all layers of one class into layers of another class with the same attributes."""
    for layer in model.modules():
        if type(layer) is old:
            layer.__class__ = new
    return model

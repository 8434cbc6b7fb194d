"""One training by several processes, each on a device of its own (``training.devices``): its ranks.

Every rank draws and augments the whole batch, by the same generators, and sends its share of the patches through the
network. Logits and features of all shares are gathered, and every rank computes the loss L of the whole batch. So a
loss that compares patches (MMD, CORAL, discriminators, groups) is that of one device, and so are the statistics of
batch normalisation, which are taken over all shares.

Gradients are averaged over the ranks. What is gathered sends its gradient back times the number n of ranks, so that a
rank has ``n ∂L/∂θ`` by its own share, and the mean is ``∇L``. What every rank computes in full (a discriminator, a
pass of an align part over other images) has the gradient ``∇L`` on each of them, and so has the mean.

Fabric's DDP strategy gives the device, the precision and the process group. torch's ``DistributedDataParallel`` is not
wrapped around the network: it expects one forward pass per backward pass, and a step has several here, some of which
end at a layer. Its one advantage, that gradients travel while others are still computed, is lost with it.
"""

from __future__ import annotations

import inspect
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others; the first one validates meanwhile."""

_BATCH_NORM = inspect.signature(functional.batch_norm)


class Ranks:
    """The ranks of a training, as one of them sees them. Of one rank alone every method gives back what it is given.

    Args:
        rank: number of this process, from 0. The first one writes, validates and decides.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self._device = torch.device("cpu")

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def fabric(self, accelerator: str, precision: Any) -> Fabric:
        """Fabric on this rank's device; several ranks have joined their process group before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics 0.9.3 warns that pkg_resources is going away
            from lightning_fabric import Fabric

        if self.count == 1:
            return Fabric(accelerator=accelerator, devices=1, precision=precision)
        from stainda.training.rank_environment import RankEnvironment

        fabric = Fabric(
            accelerator=accelerator, devices=1, num_nodes=self.count, precision=precision, strategy="ddp",
            plugins=[RankEnvironment(self.rank)],
        )  # fmt: skip
        threads = torch.get_num_threads()
        fabric.launch()
        torch.set_num_threads(threads)  # Fabric sets its own
        self._device = fabric.device
        return fabric

    def forward(self, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The network, its batches shared among the ranks; a batch that cannot be shared evenly goes through each."""
        return network if self.count == 1 else partial(self._forward, network)

    def _forward(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        if len(images) % self.count:
            return network(images)
        with self._own_draws(images.device), BatchNormOverRanks():
            logits = network(images.chunk(self.count)[self.rank])
        return self.whole(logits, len(images))

    def whole(self, output: Tensor, size: int) -> Tensor:
        """The output for a batch of ``size`` patches, ``[size, ...]``, from that for the share of each rank."""
        if self.count == 1 or len(output) == size:
            return output
        return _gathered(output, same=True).flatten(0, 1)

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """The mean over the ranks becomes the gradient on each."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count == 1 or not gradients:
            return
        means = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, mean in zip(gradients, means.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks, the same bits on each."""
        if self.count == 1:
            return values
        values = values.clone()
        distributed.all_reduce(values)
        return values / self.count

    def sum(self, value: float) -> float:
        """Over the ranks."""
        return value if self.count == 1 else self.count * float(self.mean(self._number(value)))

    def of_first(self, value: float) -> float:
        """The number that the first rank has."""
        if self.count == 1:
            return value
        distributed.broadcast(number := self._number(value), 0)
        return float(number)

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self._device)

    @contextmanager
    def _own_draws(self, device: torch.device) -> Iterator[None]:
        """Inside the block each rank draws for itself (dropout); afterwards torch's generators are as one on all of
        them: where nothing was drawn, as before."""
        seed = zlib.crc32(torch.get_rng_state().numpy().tobytes()) + self.rank
        drawn = False
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            before = _states(device)
            try:
                yield
            finally:
                drawn = any(not torch.equal(*pair) for pair in zip(before, _states(device), strict=True))
        if drawn:
            torch.rand(())


def _states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


class _Gathered(torch.autograd.Function):
    """What all ranks have, ``[n, ...]``; the gradient that a rank sends back is the sum over the ranks.

    Where every rank computes the ``same`` from it, that is n times its own, and nothing is sent.
    """

    @staticmethod
    def forward(context: Any, own: Tensor, same: bool) -> Tensor:
        context.same = same
        own = own.contiguous()
        all_ranks = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(all_ranks, own)
        return torch.stack(all_ranks)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if context.same:
            return gradient[distributed.get_rank()] * len(gradient), None
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient[distributed.get_rank()], None


def _gathered(own: Tensor, same: bool) -> Tensor:
    result: Tensor = _Gathered.apply(own, same)  # type: ignore[no-untyped-call]
    return result


class BatchNormOverRanks(TorchFunctionMode):
    """Inside the block batch normalisation that normalises by the batch does so by the batches of all ranks.

    Whatever module it is of: torch's ``SyncBatchNorm`` would have to replace it, and runs on GPUs alone.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is functional.batch_norm:
            given = _BATCH_NORM.bind(*args, **(kwargs or {}))
            given.apply_defaults()
            if given.arguments.pop("training"):
                return batch_norm_over_ranks(**given.arguments)
        return function(*args, **(kwargs or {}))


def batch_norm_over_ranks(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As :func:`torch.nn.functional.batch_norm` in training, of the shares ``[N, C, ...]`` of all ranks, alike in size.

    ``mean = Σ mean_r / n`` and ``var = Σ (var_r + (mean_r - mean)²) / n``, differentiable through all ranks.
    """
    values = input.to(torch.promote_types(input.dtype, torch.float32))
    over = [0, *range(2, values.dim())]
    each = _gathered(torch.stack([values.mean(over), values.var(over, unbiased=False)]), same=False)
    mean = each[:, 0].mean(0)
    var = (each[:, 1] + (each[:, 0] - mean).square()).mean(0)
    if running_mean is not None and running_var is not None:
        count = len(each) * values.numel() // values.shape[1]
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var), momentum)
    shape = (1, -1, *[1] * (values.dim() - 2))
    scale = torch.rsqrt(var + eps) if weight is None else torch.rsqrt(var + eps) * weight
    result = (values - mean.view(shape)) * scale.view(shape)
    return (result if bias is None else result + bias.view(shape)).to(input.dtype)

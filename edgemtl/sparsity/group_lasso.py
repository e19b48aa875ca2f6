"""SPARSE-MTL: channel groups of the network become exactly zero by a group lasso, and are removed by export.

After R. Upadhyay et al., "Less is More" (arXiv 2308.12114): behind each step of AdamW a proximal step minimises

    Σ_t L_t  +  λ Σ_g √n_g ‖w_g‖₂

over groups of n_g weights each, in AdamW's own metric (`sparsity.proximal`). What a group is, is chosen: what makes one
removable channel ("coupled", the default), a filter ("output"), or what a convolution reads of a channel ("input", the
thesis'). The penalty is in the proximal step alone, its state is never reset, and weight decay leaves the groups out.

With a fixed λ how much goes is found out afterwards. With a target it is held: ``wanted`` moves along a line from the
start to the deadline, and each step the groups of least worth for what they cost are zeroed until the line is met. A
group's worth is the running mean of the square of

    Σ_{i in g} w_i ∂L/∂w_i

the first order of what the loss changes by without it (Molchanov et al. 2019, arXiv 1906.10771), over the whole group
at once, so that a channel's scale and shift speak for the weights before them, whose own sum is 0 by normalisation. It
is set against what the group's removal saves now, in whatever the target counts; channels of a layer go so many at a
time (``multiple``, `sparsity.blocks`). λ follows at a share ``pull`` of the
strength that would zero as many groups by itself. At the target the pattern is frozen: the shift of a zeroed group
still has a gradient, and would make a constant channel of it at the next optimiser step.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgemtl_export.groups import channel_groups
from edgemtl_models.aligned import AlignedTrunk

from ..config import Sparsity
from ..errors import ConfigError
from ..losses import Weights
from .blocks import Blocks
from .costs import applied, cost
from .partition import penalised
from .proximal import adamw_metric, shrunk, shrunk_in, thresholds

MEMORY = 0.05
"""Share of the last step in a group's worth."""
TINY = 1e-9


class ChannelSparsity:
    """Call `step` after every optimiser step, and `mask` on any copy of the weights."""

    def __init__(self, network: nn.Module, images: dict[str, Tensor], settings: Sparsity, steps: int) -> None:
        """``images`` are examples by name, on the CPU, as is the network then."""
        trunk = getattr(network, "trunk", None)
        twins = trunk.twins() if isinstance(trunk, AlignedTrunk) else []
        groups = channel_groups(network, (), images, [[f"trunk.{name}" for name in each] for each in twins])
        self.settings, self.steps = settings, steps
        self.scope = "" if settings.scope == "all" else settings.scope
        self.penalised = penalised(network, groups, settings.groups, self.scope)
        self.partition = self.penalised.partition
        multiple = settings.channel_multiple if settings.groups == "coupled" else 1
        self.blocks = Blocks(self.penalised.layers, self.partition.count, multiple)
        self.places, _ = applied(network, images)
        self.pixels = next(iter(images.values())).shape[-2:].numel()
        self.cost = cost(settings.metric, network, groups, images, self.scope)
        self.dense = self.cost()
        self.target = settings.target
        if settings.max_cost:
            self.target = 1 - settings.max_cost / self.dense
            if self.target <= 0:
                raise ConfigError(
                    f"sparsity.max_cost={settings.max_cost:g}: there are but {self.dense:g} {settings.metric}"
                )
        self.zeroed(torch.zeros(self.partition.count, dtype=torch.bool))
        self.levels, self.level = self._levels()
        start = 0.0 if self.target else math.log(max(settings.strength, 1e-30))
        self.log_strength = torch.full((len(self.levels),), start)
        """With a target: of each level's strength beside ``scale``."""
        self.scale = torch.zeros(()) if self.target else torch.ones(())
        self.worth = torch.zeros(self.partition.count)
        """With a target: the running mean of the squared first order of the loss without each group."""
        self.saves = torch.zeros(self.partition.count)
        """With a target: the share of the cost that each group's removal saves now."""
        self.frozen = False
        self.network, self.parameters = network, self.partition.parameters(network)

    def to(self, device: torch.device) -> ChannelSparsity:
        """Move what belongs to a network that has been moved."""
        self.partition.to(device)
        self.dead, self.level = self.dead.to(device), self.level.to(device)
        self.log_strength, self.scale = self.log_strength.to(device), self.scale.to(device)
        self.worth, self.saves = self.worth.to(device), self.saves.to(device)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Return what changes from step to step."""
        return {"dead": self.dead, "scale": self.scale, "worth": self.worth, "saves": self.saves}

    def load(self, tensors: dict[str, Tensor], frozen: bool) -> None:
        """Go on from what `tensors` gave."""
        device = self.dead.device
        self.zeroed(tensors["dead"].to(device))
        self.scale, self.worth, self.saves = (tensors[name].to(device) for name in ("scale", "worth", "saves"))
        self.frozen = frozen

    def zeroed(self, dead: Tensor) -> None:
        """Take note of which groups are zero now, (count,), and of the share of the cost that is gone with them."""
        self.dead = dead
        self.share = self._share(dead.cpu().numpy())

    @property
    def live(self) -> int:
        """How many groups are not zero."""
        return int((~self.dead).sum())

    def figures(self) -> dict[str, float]:
        """Return what the log tells of a step."""
        row = {"gone": self.share, "live": float(self.live)}
        strengths = self.strengths().tolist() if not self.frozen else []
        return row | {f"strength {name}": value for name, value in zip(self.levels, strengths, strict=False)}

    def strengths(self) -> Tensor:
        """Return the strength of every level, differentiable by ``log_strength``."""
        return self.scale * self.log_strength.exp()

    def acts(self, step: int) -> bool:
        """Whether a proximal step follows optimiser step ``step``."""
        return not self.frozen and (step + 1) / self.steps >= self.settings.begin

    def freeze(self) -> None:
        """Keep zero what is zero now, and stop shrinking what is not."""
        self.zeroed(self.partition.norms(self.network) == 0)
        self.frozen = True

    @torch.no_grad()
    def observe(self) -> None:
        """Take note of the gradients of a step, before the optimiser takes it."""
        if self.frozen or not self.target:
            return
        parts = [p * p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        self.worth.lerp_(self.partition.sums(self.partition.gather(parts)).square(), MEMORY)

    @torch.no_grad()
    def step(self, step: int, lr: float, optimizer: torch.optim.AdamW) -> None:
        """Apply the proximal step that belongs to optimiser step ``step`` (from 0), or the frozen pattern."""
        if self.frozen:
            self.mask(self.network)
            return
        if not self.acts(step):
            return
        w = self.partition.gather(self.parameters).detach()
        metric = self.partition.gather(adamw_metric(optimizer, self.parameters))
        reach = thresholds(metric, w, self.partition) / self.partition.root_size
        spared = self._strongest(self.worth if self.target else reach)
        forced = torch.zeros_like(self.dead)
        if self.target:
            span = max(self.settings.end - self.settings.begin, 1e-9)
            wanted = self.target * min(1.0, ((step + 1) / self.steps - self.settings.begin) / span)
            strength = self.log_strength.detach().exp()[self.level]
            forced = self._least_to(wanted, strength, spared)
            even = (reach / strength).masked_fill(spared, float("inf"))
            count = int(forced.sum())
            self.scale = self.settings.reg_ratio * (even.kthvalue(count).values if count else even.new_zeros(())) / lr
        tau = lr * self.strengths().detach()[self.level]
        untouched = spared | (reach <= tau) if self.target and self.blocks.whole else spared  # the line says what goes
        w, dead = shrunk_in(metric, w, (tau * self.partition.root_size).masked_fill(untouched, 0.0), self.partition)
        self.zeroed((dead | forced) & ~(spared & (reach > 0)))
        self.partition.put(self._living(w), self.parameters)
        self.frozen = bool(self.target) and self.share >= self.target

    def settled(self, at: Weights, rate: float, metric: Weights | None) -> Weights:
        """Return weights by name after a proximal step, differentiable by them and by ``log_strength``.

        In ``metric`` by name, or the Euclidean one. With a target what is zero stays so.
        """
        w = self._gathered(at)
        tau = rate * self.strengths()[self.level] * self.partition.root_size
        if metric is None:
            shorter, _ = shrunk(w, tau, self.partition)
        else:
            shorter, _ = shrunk_in(self._gathered(metric), w, tau, self.partition)
        return self._placed(self._living(shorter) if self.target else shorter, at)

    def kept(self, at: Weights) -> Weights:
        """Return weights by name with the groups zero that are zero now."""
        return self._placed(self._living(self._gathered(at)), at)

    def lasting(self, before: Weights, after: Weights) -> Tensor:
        """Return what the living groups cost, as a share, each by the part of its norm that a step has left."""
        u, x = (self.partition.sums(self._gathered(at).square()) for at in (before, after))
        left = (x.clamp(min=TINY**2) / u.detach().clamp(min=TINY**2)).sqrt()
        return (self.saves.to(left) * left).masked_fill(self.dead, 0.0).sum()

    def _gathered(self, at: Weights) -> Tensor:
        return self.partition.gather([at[name] for name in self.partition.names])

    def _placed(self, flat: Tensor, at: Weights) -> Weights:
        names = self.partition.names
        return at | dict(zip(names, self.partition.placed(flat, [at[name] for name in names]), strict=True))

    def _living(self, flat: Tensor) -> Tensor:
        return flat * self.partition.spread((~self.dead).to(flat))

    def mask(self, network: nn.Module) -> None:
        """Make the zero groups exactly zero in a network of the same parameters."""
        self.partition.scale(network, (~self.dead).to(self.partition.root_size))

    def _levels(self) -> tuple[list[str], Tensor]:
        """Name the levels, and return each group's: that of the first weight in it."""
        first = torch.full((self.partition.count,), -1)
        names = [n for n in self.partition.names if n in self.places]
        for index, name in reversed(list(enumerate(names))):
            first[self.partition.groups_of(name)] = index
        if self.settings.granularity == "global":
            return ["all"], torch.zeros_like(first)
        told = names if self.settings.granularity == "layer" else [self._stage(n) for n in names]
        kinds = list(dict.fromkeys(told))
        return kinds, torch.tensor([kinds.index(name) for name in told])[first]

    def _stage(self, name: str) -> str:
        """Name a weight's stage by the stride of what it makes."""
        places = self.places[name]
        return "picture" if places == 1 else f"stride {round((self.pixels / places) ** 0.5)}"

    def _share(self, dead: NDArray[np.bool_]) -> float:
        return 1 - self.cost(self.penalised.gone(dead)) / self.dense

    def _strongest(self, worth: Tensor) -> Tensor:
        """Return the groups among the strongest ``keep`` of any layer, and of any part of one: at least one of each."""
        spared = torch.zeros_like(self.dead)
        for members in self.blocks.parts:
            groups = torch.from_numpy(members).to(worth.device)
            if self.settings.min_keep_ratio:
                spared[groups[worth[groups].topk(int(np.ceil(self.settings.min_keep_ratio * len(groups)))).indices]] = (
                    True
                )
        return spared

    def _least_to(self, wanted: float, strength: Tensor, spared: Tensor) -> Tensor:
        """Return the fewest groups, those of least worth for their cost first, that make a share ``wanted`` go."""
        saves = self.penalised.shared_out(self.cost.saves(self.penalised.gone(self.dead.cpu().numpy())))
        self.saves = torch.from_numpy(saves / self.dense).to(self.dead.device)
        worth = (self.worth.sqrt() / strength).square().masked_fill(spared, float("inf")).cpu().numpy()
        # what saves nothing goes last
        order, ends = self.blocks.order(worth.astype(np.float64), np.maximum(saves, TINY * self.dense))
        low, high = 0, len(ends) - 1
        dead = np.zeros(self.partition.count, bool)
        while low < high:
            middle = (low + high) // 2
            dead[:] = False
            dead[order[: ends[middle]]] = True
            low, high = (low, middle) if self._share(dead) >= wanted else (middle + 1, high)
        dead[:] = False
        dead[order[: ends[low]]] = True
        return torch.from_numpy(dead).to(self.dead.device)

"""The optimizer Muon (Jordan et al., 2024): momentum, made orthogonal, for the matrices inside the layers."""

import math

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration, from the authors: fast towards singular values near one rather than exact."""


class Muon(torch.optim.Optimizer):
    """The step's size is 0.2 * sqrt(longer side), which makes it AdamW's for the same rate (Liu et al., 2025).
    `precision` is what the iteration is computed in: bf16 is enough, where it is fast."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        lr: float,
        precision: torch.dtype = torch.float32,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        self.precision = precision
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[torch.nn.Parameter, torch.Tensor]]] = {}
            for parameter in group["params"]:
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(momentum, group["momentum"])
                wide = update if update.shape[0] <= update.shape[1] else update.T
                by_shape.setdefault(wide.shape, []).append((parameter, wide))
            for shape, pairs in by_shape.items():
                updates = orthogonal(torch.stack([update for _, update in pairs]), self.precision)
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    update = update if parameter.shape[0] <= parameter.shape[1] else update.T
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))


def orthogonal(matrices: torch.Tensor, precision: torch.dtype = torch.float32) -> torch.Tensor:
    """`[count, n, m]` with n <= m: the nearest matrices with orthogonal rows, about."""
    a, b, c = COEFFICIENTS
    x = matrices.to(precision)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.float()

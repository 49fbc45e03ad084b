"""The patch auto-encoder: principal components found by gradient descent, and what a non-linearity adds."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.patches import aggregate_patches, extract_patches
from labkit.runtime import generator, progress
from labkit.validation import describe, validate_choice, validate_image, validate_integer, validate_number

__all__ = ["PatchAutoencoder"]


class PatchAutoencoder(nn.Module):
    """Squeeze patches through a few numbers and rebuild them: p̂ = p̄ + W₂ ρ(W₁ (p − p̄)).

    >>> labkit.filtering.PatchAutoencoder(patch_size=5, rank=3)(torch.zeros(10, 25)).shape
    torch.Size([10, 25])

    With ρ the identity, the best W₂ W₁ is the projection on the first principal components of the patches (Baldi,
    Hornik 1989). With `activation="relu"` (and biases) the code is never negative.

    Parameters
    ----------
    patch_size : side n of a patch, in pixels.
    rank : how many numbers encode a patch, from 1 to D = C n².
    channels : C.
    activation : ρ, `None` or `"relu"`.
    seed : of the first weights.

    Attributes
    ----------
    losses : list of float, the mean squared error of every training step so far.

    References
    ----------
    Baldi, Hornik, "Neural networks and principal component analysis", 1989. Lecture part I, "MLP AE Interpretation".
    """

    def __init__(self, *, patch_size: int, rank: int, channels: int = 1, activation: str | None = None, seed: int = 0):
        super().__init__()
        validate_integer(patch_size, name="patch_size", minimum=1)
        validate_integer(channels, name="channels", minimum=1)
        values = channels * patch_size ** 2
        validate_integer(rank, name="rank", minimum=1, maximum=values)
        validate_choice(activation, name="activation", choices=(None, "relu"))
        self.settings = {"patch_size": patch_size, "rank": rank, "channels": channels, "activation": activation}
        self.encoder = nn.utils.skip_init(nn.Linear, values, rank, bias=activation is not None)
        self.decoder = nn.utils.skip_init(nn.Linear, rank, values, bias=activation is not None)
        self.register_buffer("mean", torch.zeros(values))
        # a random projection: orthonormal rows, and the decoder is their transpose
        nn.init.orthogonal_(self.encoder.weight, generator=generator(seed))
        with torch.no_grad():
            self.decoder.weight.copy_(self.encoder.weight.T)
            if activation is not None:
                self.encoder.bias.zero_()
                self.decoder.bias.zero_()
        self.losses: list[float] = []
        self._optimizer = torch.optim.Adam(self.parameters())
        self._batches: torch.Generator | None = None

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    def forward(self, patches: Tensor) -> Tensor:
        """Rebuild patches (…, D)."""
        code = self.encoder(patches - self.mean)
        if self.settings["activation"] == "relu":
            code = code.relu()
        return self.mean + self.decoder(code)

    def fit(self, patches: Tensor, *, steps: int = 1500, batch_size: int = 1024, learning_rate: float = 1e-2,
            seed: int = 0) -> PatchAutoencoder:
        """Train on random batches with Adam, with a progress bar; interrupting it keeps what was learnt.

        A second call goes on where the first stopped: n steps and then m are n + m steps.

        Parameters
        ----------
        patches : (number, D) float tensor; the first call takes its mean for p̄.
        steps : how many batches to learn from.
        batch_size : patches in a batch, drawn with replacement.
        learning_rate : of Adam, above 0.
        seed : of the order of batches; a later call continues the order of the first.

        Returns
        -------
        PatchAutoencoder : itself.

        Raises
        ------
        ValueError : patches of another length, or a number out of its range.
        """
        if not isinstance(patches, Tensor) or not patches.is_floating_point() or patches.ndim != 2 \
                or len(patches) == 0 or patches.shape[1] != len(self.mean):
            raise ValueError(f"patches is {describe(patches)}; expected a floating-point tensor "
                             f"(number, {len(self.mean)})")
        validate_integer(steps, name="steps", minimum=1)
        validate_integer(batch_size, name="batch_size", minimum=1)
        validate_number(learning_rate, name="learning_rate", above=0)
        patches = patches.detach().to(self.mean)
        if self._batches is None:
            self._batches = generator(seed)
            self.mean.copy_(patches.mean(dim=0))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        try:
            for _ in progress(range(steps), description="patch auto-encoder"):
                chosen = torch.randint(len(patches), (batch_size,), generator=self._batches).to(patches.device)
                batch = patches[chosen]
                loss = (self(batch) - batch).square().mean()
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                self.losses.append(loss.item())
        except KeyboardInterrupt:
            pass    # the reader's way to say "enough": the weights and losses so far stay
        return self

    @torch.no_grad()
    def subspace(self) -> Tensor:
        """An orthonormal basis (D, rank) of what the decoder can say, apart from p̄ and its bias."""
        return torch.linalg.qr(self.decoder.weight).Q

    @torch.no_grad()
    def denoise(self, image: Tensor) -> Tensor:
        """Rebuild all patches of an image and average them where they overlap.

        Parameters
        ----------
        image : (C, H, W) or (N, C, H, W), with the channels of this auto-encoder and a patch in either direction.

        Returns
        -------
        Tensor of the shape, dtype and device of `image`.
        """
        patch_size = self.settings["patch_size"]
        validate_image(image, channels=(self.settings["channels"],))
        height, width = image.shape[-2:]
        patches = extract_patches(image, patch_size=patch_size)
        return aggregate_patches(self(patches.to(self.mean)).to(patches), height=height, width=width,
                                 patch_size=patch_size)

    def state(self) -> dict:
        """All that training needs to go on: weights, optimizer, order of batches, losses and the settings."""
        return {"settings": self.settings, "weights": self.state_dict(), "optimizer": self._optimizer.state_dict(),
                "batches": None if self._batches is None else self._batches.get_state(), "losses": list(self.losses)}

    def save(self, path: str | os.PathLike) -> None:
        """Write `state()` to a file; an interrupted write leaves the old file."""
        path = Path(path)
        unfinished = path.with_name(path.name + ".unfinished")
        torch.save(self.state(), unfinished)
        unfinished.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike, *, device: str | torch.device = "cpu") -> PatchAutoencoder:
        """The auto-encoder that `save` wrote, ready for more training."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self = cls(**state["settings"])
        self.load_state_dict(state["weights"])
        self.to(device)
        self._optimizer.load_state_dict(state["optimizer"])
        if state["batches"] is not None:
            self._batches = generator().set_state(state["batches"])
        self.losses = state["losses"]
        return self

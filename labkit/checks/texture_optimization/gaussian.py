"""The check of a texture with the exemplar's spectrum and the phases of noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from labkit.checks.engine import Mistake, Task, exercise
from labkit.checks.pieces import clamped, float64_picture

__all__ = ["random_phase_texture"]


# --- 3 · Random phases ----------------------------------------------------------------------------------------------

def _phases(image: Tensor, noise: Tensor) -> Tensor:
    angle = torch.fft.fft2(noise).angle()
    angle[0, 0] = 0
    return angle


def _spectrum_times(factor: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The picture whose spectrum is that of the image times `factor(image, noise)`."""
    def answer(image: Tensor, noise: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(image) * factor(image, noise)).real
    return answer


def _with_phases(angle: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return _spectrum_times(lambda image, noise: torch.exp(1j * angle(image, noise)))


def _random_phase_texture(image: Tensor, noise: Tensor) -> Tensor:
    """The phases of the noise added to those of the image, in all channels alike, and the mean as it was."""
    return _with_phases(_phases)(image, noise)


@exercise(points=2, minutes=25, reference=_random_phase_texture, withholds=(
    "labkit.texture_optimization.random_phase_texture", "labkit.texture_optimization.spot_noise"))
def random_phase_texture(task: Task) -> None:
    def noise(height: int, width: int, mean: int) -> Tensor:
        """Noise whose mean has that sign. What rounding leaves of the mean, once subtracted, is below 0 in either case."""
        def make() -> Tensor:
            values = task.normal(height, width).double()
            return values if mean * float(values.mean()) > 0 else -values

        return task.draw_until(make, lambda values: float(torch.fft.fft2(values - values.mean())[0, 0].real) < 0)

    def picture(height: int, width: int, channels: int = 3) -> Tensor:
        # contrast as in a texture with dark and bright places: without it nothing would leave [0, 1]
        return float64_picture(task, height, width, channels).pow(3)

    own, real, complex_ = False, True, "It returned complex numbers: take their real part, `.real`; the imaginary one is rounding."

    def compare(image: Tensor, noise: Tensor, tolerance: float = 1e-6) -> None:
        task.require(real, complex_)
        task.compare(image, noise, tolerance=tolerance)

    with task.property("returns a real picture"):
        image, first, second = picture(8, 10), noise(8, 10, 1), noise(8, 10, 1)
        made = [task.call(image, given, shape=(3, 8, 10)) for given in (first, first, second)]
        own = not torch.allclose(made[0], made[1]) or torch.allclose(made[0], made[2])
        real = not made[0].is_complex()
        task.require(real, complex_)
    with task.property("takes its phases from the noise", share=1.0 if own else 0.0, mistake="phases_of_its_own"):
        task.require(not own, "With the same noise it gives the same picture, with another one another; yours does not.")
    if own:
        return      # no number that it returns can be compared
    with task.property("adds the phases of the noise to those of a grey picture", share=0.3):
        compare(picture(12, 12, 1), noise(12, 12, 1))
        compare(picture(8, 14, 1), noise(8, 14, 1))
    with task.property("adds the same phases to all channels, also in pictures with odd sides", share=0.4):
        for height, width in ((13, 12), (10, 11), (9, 15)):
            compare(picture(height, width), noise(height, width, 1))
    with task.property("keeps the mean, whatever that of the noise", share=0.3, mistake="mean_moved"):
        for height, width in ((12, 10), (9, 13)):
            compare(picture(height, width), noise(height, width, -1))
    with task.property("keeps the power spectrum of each channel"):
        task.require(real, complex_)
        image = picture(11, 14)
        result = task.call(image, noise(11, 14, -1), shape=(3, 11, 14))
        gap = (torch.fft.fft2(result.double()).abs() - torch.fft.fft2(image).abs()).abs().max()
        task.require(float(gap) < 1e-4, f"The modulus of the spectrum has changed, by up to {float(gap):.3g}.")
    with task.property("keeps the dtype"):
        compare(picture(10, 9).float(), noise(10, 9, 1).float(), tolerance=1e-5)


def _moved_mean(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fft2(noise).angle()


def _keep_first(factor: Tensor) -> Tensor:
    factor = factor.clone()
    factor[0, 0] = 1
    return factor


def _replaced(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image).abs() * torch.exp(1j * _phases(image, noise))).real


def _modulus_lost(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.exp(1j * (torch.fft.fft2(image).angle() + _phases(image, noise)))).real


def _spectrum_of_noise(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fft2(noise)


def _first_kept(factor: Callable[[Tensor, Tensor], Tensor], *,
                divisor: Callable[[Tensor], float] = lambda noise: 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """The picture whose spectrum is multiplied by a factor, all but the mean."""
    return _spectrum_times(lambda image, noise: _keep_first(factor(image, noise) / divisor(noise)))


def _noise_itself(image: Tensor, noise: Tensor) -> Tensor:
    return noise


def _noise_but_first(image: Tensor, noise: Tensor) -> Tensor:
    angle = noise.clone()
    angle[0, 0] = 0
    return angle


def _absolute_value(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image) * torch.exp(1j * _phases(image, noise))).abs()


def _exchanged(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(noise).abs() * torch.exp(1j * torch.fft.fft2(image).angle())).real


def _rows_only(image: Tensor, noise: Tensor) -> Tensor:
    angle = torch.fft.fft(noise).angle()
    angle[0, 0] = 0
    return torch.fft.ifft(torch.fft.fft(image) * torch.exp(1j * angle)).real


def _centred(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fftshift(_phases(image, noise))


def _row_of_zeros(image: Tensor, noise: Tensor) -> Tensor:
    angle = torch.fft.fft2(noise).angle()
    angle[0] = 0
    return angle


def _noise_centred(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.fft2(noise - noise.mean()).angle()


def _modulus_times_noise(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image).abs() * torch.fft.fft2(noise)).real


def _phases_of_its_own(image: Tensor, noise: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(image) * torch.exp(2j * math.pi * torch.rand_like(image))).real


def _half_spectrum(image: Tensor, noise: Tensor) -> Tensor:
    """rfft2 and irfft2 without the size: of an odd width one column is lost."""
    angle = torch.fft.rfft2(noise).angle()
    angle[0, 0] = 0
    return torch.fft.irfft2(torch.fft.rfft2(image) * torch.exp(1j * angle))


random_phase_texture.knows({
    "phases_replaced": Mistake("the phases of the image are replaced by θ; θ is *added* to them. (Replaced, all "
                               "channels have the same phases, and the colours are lost)", _replaced, 2),
    "mean_moved": Mistake("the phase at frequency 0 is not set to 0: where the noise has a negative mean, the picture "
                          "becomes a negative one", _with_phases(_moved_mean), 3),
    "mean_lost": Mistake(
        "the mean is gone: the spectrum at frequency 0 is set to 0; it is the *phase* there that becomes 0",
        lambda image, noise: _random_phase_texture(image, noise) - image.mean((1, 2), keepdim=True), 3),
    "modulus_of_the_noise_kept": Mistake("the spectrum is multiplied by that of the noise; only the phase of the noise "
                                         "is wanted: divide it by its modulus, or take `.angle()`",
                                         _spectrum_times(_spectrum_of_noise), 1),
    "modulus_kept_mean_kept": Mistake("the spectrum is multiplied by that of the noise, all but the mean; only the "
                                      "phase of the noise is wanted", _first_kept(_spectrum_of_noise), 1),
    "spot_noise": Mistake("this is spot noise, the image convolved with noise: the modulus of the noise's spectrum has "
                          "been left in",
                          _first_kept(_spectrum_of_noise, divisor=lambda noise: math.sqrt(noise.numel())), 1),
    "spot_noise_mean_moved": Mistake(
        "this is spot noise, the image convolved with noise: the modulus of the noise's spectrum has been left in, "
        "and the mean has changed",
        _spectrum_times(lambda image, noise: torch.fft.fft2(noise) / math.sqrt(noise.numel())), 1),
    "modulus_times_noise": Mistake(
        "the modulus of the image's spectrum is multiplied by the spectrum of the noise; the image keeps its phases, "
        "and only the *phase* of the noise is added",
        _modulus_times_noise, 2),
    "row_of_zeros": Mistake(
        "θ is set to 0 in the whole first row of frequencies; only at frequency 0: `theta[0, 0] = 0`",
        _with_phases(_row_of_zeros), 3),
    "noise_centred": Mistake(
        "the noise's mean is subtracted instead of setting θ(0) = 0; by rounding the sum is then hardly ever 0 but a "
        "tiny number, and where it is negative its phase is π",
        _with_phases(_noise_centred), 3),
    "phases_of_its_own": Mistake(
        "the phases do not come from `noise`: with the same noise the picture is the same, with another one it is "
        "another (and phases without the symmetry θ(−ξ) = −θ(ξ) do not make a real picture)",
        _phases_of_its_own, 1),
    "noise_as_phase": Mistake("the noise itself is taken for the phases; they are the phases of its *Fourier "
                              "transform*, which alone have the symmetry θ(−ξ) = −θ(ξ) of a real picture",
                              _with_phases(_noise_itself), 1),
    "noise_as_phase_mean_kept": Mistake("the noise itself is taken for the phases, with 0 at frequency 0; they are the "
                                        "phases of its *Fourier transform*", _with_phases(_noise_but_first), 1),
    "phase_negated": Mistake("θ is subtracted; it is added",
                             _with_phases(lambda image, noise: -_phases(image, noise)), 2),
    "phase_not_on_the_circle": Mistake("the spectrum is multiplied by θ itself; it is multiplied by exp(iθ)",
                                       _spectrum_times(_phases), 2),
    "i_forgotten": Mistake("the spectrum is multiplied by exp(θ), without the i",
                           _spectrum_times(lambda *both: torch.exp(_phases(*both))), 2),
    "cosine_only": Mistake("the spectrum is multiplied by cos θ; exp(iθ) is cos θ + i sin θ",
                           _spectrum_times(lambda *both: torch.cos(_phases(*both))), 2),
    "modulus_lost": Mistake("the modulus of the image's spectrum is lost: it is what the texture looks like",
                            _modulus_lost, 2),
    "exchanged": Mistake("the phases of the image are put on the modulus of the noise; it is the other way round",
                         _exchanged, 2),
    "absolute": Mistake("the modulus of the result is taken; take its real part (the imaginary one is rounding)",
                        _absolute_value, 4),
    "rows_only": Mistake("the Fourier transform runs along the rows only: take fft2", _rows_only, 4),
    "shifted": Mistake("the phases are shifted by fftshift, and the image's spectrum is not: they belong to other "
                       "frequencies", _with_phases(_centred), 4),
    "odd_width_lost": Mistake("irfft2 makes pictures of even width unless it is told the size: s=image.shape[-2:]",
                              _half_spectrum, 4),
    "clipped": Mistake("the result is clipped to [0, 1]: that changes its mean and its spectrum",
                       clamped(_random_phase_texture), 4),
})

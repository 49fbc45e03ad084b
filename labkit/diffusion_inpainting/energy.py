"""What a computation costs in electricity and CO₂: a product of three numbers, two of which are guesses.

An estimate, not a measurement: it takes the power a processor is designed for as if it were drawn all the time, and leaves out
memory, screen, the making of the machine, and whatever was tried before the run that counts. It is good for orders of magnitude:
a minute of training or a month.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.validation import validate_choice, validate_number

__all__ = ["WATTS", "EnergyEstimate", "energy_estimate"]

# Watts at full load, as the makers specify them (thermal design power). The thesis's Table V.3 comes out with 250 W (and 300 W for
# the training of RePaint) and about 150 W for the patch method, which ran on a CPU.
WATTS = {"laptop": 45.0, "workstation": 150.0, "v100": 250.0, "v100-sxm2": 300.0, "a100": 400.0, "h100": 700.0}
# g CO₂ equivalent per kWh, France 2021, Base Empreinte (ADEME), as in the thesis. Some grids emit ten times as much.
FRANCE_2021 = 56.9


@dataclass(frozen=True)
class EnergyEstimate:
    """Electricity in watt-hours and CO₂ equivalent in grams, with the assumptions they follow from."""

    watt_hours: float
    grams_co2: float
    seconds: float
    watts: float
    overhead: float
    grams_per_kwh: float

    def __str__(self) -> str:
        return (f"about {self.watt_hours:.2g} Wh and {self.grams_co2:.2g} g CO₂ ({self.seconds:.3g} s at {self.watts:g} W"
                f"{'' if self.overhead == 1 else f' × {self.overhead:g}'}, {self.grams_per_kwh:g} g/kWh)")


def energy_estimate(seconds: float, *, device: str = "laptop", watts: float | None = None, overhead: float = 1.0,
                    grams_per_kwh: float = FRANCE_2021) -> EnergyEstimate:
    """Estimate the electricity and the CO₂ of a computation from how long it took.

    >>> print(labkit.diffusion_inpainting.energy_estimate(60, device="laptop"))
    about 0.75 Wh and 0.043 g CO₂ (60 s at 45 W, 56.9 g/kWh)

    Parameters
    ----------
    seconds : duration.
    device : whose design power to take, a name in `WATTS`.
    watts : power, instead of a device's: measured with a plug meter it beats any table.
    overhead : what the building adds (cooling, conversion), as a factor of at least 1; about 1.5 in a data centre.
    grams_per_kwh : CO₂ equivalent of the electricity, by default that of France in 2021.

    Returns
    -------
    EnergyEstimate

    Raises
    ------
    ValueError : a number out of its range, or an unknown device.

    References
    ----------
    Lacoste, Luccioni, Schmidt, Dandres, "Quantifying the Carbon Emissions of Machine Learning", 2019. Thesis, section V.3.4.
    """
    validate_number(seconds, name="seconds", minimum=0)
    validate_number(overhead, name="overhead", minimum=1)
    validate_number(grams_per_kwh, name="grams_per_kwh", minimum=0)
    if watts is None:
        validate_choice(device, name="device", choices=tuple(WATTS))
        watts = WATTS[device]
    validate_number(watts, name="watts", above=0)
    watt_hours = seconds / 3600 * watts * overhead
    return EnergyEstimate(watt_hours, watt_hours / 1000 * grams_per_kwh, seconds, watts, overhead, grams_per_kwh)

# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# labkit:
#   title: Texture optimisation
#   minutes: 330
#   needs: two cores, no GPU
#   summary: From a small example grow a texture of any size, and from a single picture many others like it.
# ---

# %% [markdown]
# # 3 · Texture optimisation
#
# A **texture** is a picture that looks alike everywhere: sand, leaves, a brick wall. Given a small one, the *exemplar* $\tilde u$, make another picture $u$, of any size, that is *not a copy* and yet could have been cut from the same wall. What does "looks alike" mean, if no pixel need be the same?
#
# This chapter's answer is that of chapters 1 and 2: **every patch of $u$ should look like some patch of $\tilde u$.** The methods differ in how they make it so.
#
# | method | how it makes patches agree | what it may do wrong |
# | --- | --- | --- |
# | Efros–Leung | adds one pixel at a time, copied from where its neighbourhood looks alike | grows garbage; is slow |
# | quilting | adds one block at a time, and cuts where blocks agree | repeats itself |
# | Gaussian textures | not at all: keeps the power spectrum, draws the phases | knows no edges |
# | texture optimisation | starts from anything, lowers one energy over all patches | blurs; forgets rare patches |
# | PSin, PSinOT, GPNN | the same for whole pictures, from coarse to fine | copies large pieces |
#
# The first three grow a texture once and for all: sections 3.1 to 3.5. From section 3.6 on, patches that overlap must agree with each other, and out of that comes an energy that can be lowered.

# %% [markdown]
# ## How this notebook works
#
# It works like chapters 1 and 2: replace the line that raises `NotImplementedError`, run the cell, run the check under it; hints unfold; after each exercise the notebook goes on with labkit's own function, so **you can skip one
# and come back**. There are ten exercises.
#
# Images are tensors `(channels, rows, columns)`, float32 or float64, with values in $[0, 1]$, and positions are *(row, column)*. A patch of side $n$ is named by its first (top-left) pixel, as in chapter 2. All randomness comes in as an argument (a number, a picture of noise), so
# your function, like any other, has one right answer. Return the dtype that came in, and leave the arguments unchanged.

# %%
import math
import time

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

import labkit
from labkit import figures, images, metrics, runtime, widgets
from labkit.checks import texture_optimization as check

print(runtime.summary())
side = runtime.choose({"quick": 48, "laptop": 96, "gpu": 128})  # exemplars are this many pixels wide

# %% [markdown]
# Here is where we are going: autumn leaves, half as large again, by every method of this chapter. (The first run compiles them all; later runs take seconds.) Look for three things: leaves that are no leaves, leaves that you see twice, and edges that have been smoothed away.

# %% tags=["demonstration"]
leaves = images.load("leaves", size=side)
larger = (3 * side // 2, 3 * side // 2)
synthesis = labkit.texture_optimization
methods = {
    "Efros–Leung": lambda: synthesis.efros_leung(leaves, size=larger, patch_size=9),
    "quilting": lambda: synthesis.image_quilting(leaves, size=larger, patch_size=side // 4),
    "Gaussian texture": lambda: synthesis.random_phase_texture(leaves, size=larger),
    "texture optimisation": lambda: synthesis.optimize_texture(leaves, size=larger).image,
    "PSin": lambda: synthesis.psin(leaves, size=larger).image,
    "PSinOT": lambda: synthesis.psin_ot(leaves, size=larger).image,
    "GPNN": lambda: synthesis.gpnn(leaves, size=larger).image,
}
made, seconds = {}, {}
for name, method in methods.items():
    start = time.perf_counter()
    made[name] = method()
    seconds[name] = time.perf_counter() - start
figures.show(
    [leaves, *made.values()],
    titles=["exemplar", *(f"{name}, {seconds[name]:.1f} s" for name in made)],
    columns=4,
    width=216,
    alt="autumn leaves, yellow, orange and brown",
    caption=f"One exemplar of {side}×{side} pixels, seven pictures of {larger[1]}×{larger[0]}. The times include compiling, where something is run for the first time.",
)

# %% [markdown]
# ## 3.1 One pixel at a time
#
# Shannon wrote English by machine in 1948: open a book anywhere, read on to the letters you have just written, copy the letter that follows; open it again, and so on. Nobody needs a table of probabilities: *the book is the table*. Efros and Leung (1999) do that with pixels.
#
# A texture is taken for a **Markov field**: given the pixels in the $n \times n$ window around it, a pixel does not depend on the rest of the picture. To draw it, look for windows of the exemplar that agree with what is known of its window, choose one of them at random, and copy its centre. With
# $k(\tau) = 1$ where the window's pixel $\tau \in \{0, \dots, n-1\}^2$ is known, else 0,
#
# $$d(y) = \sum_{\tau} g(\tau)\, k(\tau) \sum_c \big( u_c(x + \tau) - \tilde u_c(y + \tau) \big)^2, \qquad g(\tau) = \exp\Big( \! -\frac{\|\tau - (r, r)\|^2}{2 \sigma^2} \Big), \quad r = \lfloor n/2 \rfloor, \; \sigma = \frac{n}{6.4},$$
#
# where $x$ and $y$ are the windows' first pixels. The Gaussian $g$ makes sure that the new pixel agrees with its *nearest* neighbours above all. Drawn is one of the windows with $d(y) \le (1 + \varepsilon) \min d$: with $\varepsilon = 0$ it is always the best, and the texture soon goes round in circles. (Divided by $\sum g k$, $d$ would be a
# mean; since it is only compared with its own minimum, that changes nothing.)

# %% [markdown]
# ### Exercise 1 · `draw_pixel` (2 points, about 30 minutes)
#
# Write `draw_pixel(window, known, exemplar, tolerance, draw)`.
#
# - `window` is `(C, n, n)`, n odd, with the pixels around the one that is wanted. `known` is a boolean `(n, n)`: `True` where they are known. The centre is not, and other pixels may not be; what stands there is arbitrary. At least one is known.
# - `exemplar` is `(C, h, w)`. Its windows are all those that lie wholly inside: $(h - n + 1)(w - n + 1)$.
# - `tolerance` is $\varepsilon \ge 0$. List the windows with $d \le (1 + \varepsilon) \min d$ in reading order (along the rows, the first row first). If there are K of them, take number `int(draw * K)`, counted from 0; `draw` is a number in $[0, 1)$.
#
# Return two whole numbers, `(row, column)`: the position, in the exemplar, of the pixel that is copied. That is the **centre** of the chosen window.
#
# <details><summary>Hint 1: all windows at once</summary>
#
# `windows = exemplar.unfold(1, n, 1).unfold(2, n, 1)` has the shape `(C, h - n + 1, w - n + 1, n, n)` and copies nothing; `window[:, None, None]` fits to it. Square the difference, multiply by the weights and by `known`, `.sum((0, 3, 4))`. (Or two loops over the windows; the check's exemplars are small.)
# </details>
#
# <details><summary>Hint 2: the weights</summary>
#
# `offset = torch.arange(n) - n // 2` is 0 at the centre; `line = torch.exp(-offset**2 / (2 * sigma**2))` with `sigma = n / 6.4`, and `line[:, None] * line` is the Gaussian in two dimensions.
# </details>
#
# <details><summary>Hint 3: the list</summary>
#
# `(errors <= (1 + tolerance) * errors.min()).nonzero()` gives the positions of all near windows in reading order, a tensor `(K, 2)`. The `.tolist()` of a row of it is a row number and a column number.
# </details>
#
# <details><summary>Hint 4: whose position?</summary>
#
# A place in `errors` is that of a window's *first* pixel. The centre lies `n // 2` further down and `n // 2` further to the right. If you flatten `errors`, a row of it has `w - n + 1` entries.
# </details>


# %% exercise="draw_pixel"
def draw_pixel(window, known, exemplar, tolerance, draw):
    """Efros and Leung's step: where in the exemplar to copy the window's centre from."""
    ### BEGIN SOLUTION
    n = window.shape[-1]
    offset = torch.arange(n, dtype=window.dtype) - n // 2
    line = torch.exp(-(offset**2) / (2 * (n / 6.4) ** 2))
    weights = line[:, None] * line * known
    windows = exemplar.unfold(1, n, 1).unfold(2, n, 1)
    errors = (weights * (windows - window[:, None, None]) ** 2).sum((0, 3, 4))
    near = (errors <= (1 + tolerance) * errors.min()).nonzero()
    row, column = near[int(draw * len(near))].tolist()
    return row + n // 2, column + n // 2
    ### END SOLUTION


# %% check="draw_pixel"
check.draw_pixel(draw_pixel)

# %% [markdown]
# ## 3.2 Like the skins of an onion
#
# Which pixel comes next? One that knows much of its window. A seed of 3×3 pixels, cut from the exemplar, lies in the middle; the pixels next to what is known are the next **layer**; within it, those whose windows know most come first, and what has been drawn is known to the next one. Every layer is one step wider:

# %% tags=["demonstration"]
skins = []
labkit.texture_optimization.efros_leung(
    leaves, size=(side, side), patch_size=9, seed=3, callback=lambda layer, image: skins.append(image)
)
shown = [skins[round(k * (len(skins) - 1))] for k in (0.1, 0.3, 0.6, 1)]
figures.show(
    shown,
    titles=["a tenth of the layers", "three tenths", "six tenths", "all"],
    columns=4,
    width=216,
    alt="a piece of autumn leaves that grows from the middle until it fills the picture",
    caption="From the middle outwards. Nothing is ever revised.",
)

# %% [markdown]
# **How large should the window be?** Think before you run the next cell. The exemplar is a cloth whose pattern repeats four times across. What will a window do that is smaller than one of the pattern's hooks? What one that holds more than half of a repeat?

# %% tags=["demonstration"]
cloth = images.load("cloth", size=side)
windows = runtime.choose({"quick": (3, 5, 9), "laptop": (5, 9, 15), "gpu": (7, 13, 21)})
grown = [labkit.texture_optimization.efros_leung(cloth, size=larger, patch_size=n) for n in windows]
figures.show(
    [cloth, *grown],
    titles=["exemplar", *(f"window {n}×{n}" for n in windows)],
    columns=4,
    width=216,
    alt="a houndstooth cloth, dark blue and white",
    caption="Too small a window knows threads but no pattern. A large one knows everything, and leaves nothing to chance.",
)

# %% [markdown]
# Two things go wrong, and they pull in opposite directions. Below, each pixel of three pictures of leaves is coloured by the *shift* between it and the place that its surroundings come from (found with chapter 2's exhaustive search; see its key for the colours, what matters here is where they change). A region of one colour is a **verbatim copy**.

# %% tags=["demonstration"]
windows = (5, 11, 17)
grown = [
    labkit.texture_optimization.efros_leung(leaves, size=(side, side), patch_size=n, seed=1) for n in windows
]
sources = [labkit.patchmatch.exact_nnf(image, leaves, patch_size=5) for image in grown]
figures.show(
    [
        *grown,
        *(figures.color_wheel(labkit.patchmatch.shift_map(match.nnf), largest=side / 2) for match in sources),
    ],
    titles=[*(f"window {n}×{n}" for n in windows), *("where it comes from" for _ in windows)],
    columns=3,
    width=240,
    alt="autumn leaves, and under them regions of one colour that grow with the window",
    caption="Even a small window copies, where it happens to find its way. Elsewhere it makes crumbs, too small to be leaves; a large one makes larger pieces.",
)

# %% [markdown]
# The other failure is **growing garbage**: once a wrong turn has led to surroundings that occur nowhere in the exemplar, the nearest windows are nearest by accident, the next pixel is worse, and nothing ever leads back. You saw it in the cloth with the smallest window. Since pixels are never revised, no later step can mend it. (That is the difference to everything from section 3.6 on.)
#
# The same procedure fills **holes**, from the border inwards, and **continues** a picture outwards. The exemplar is then the rest of the picture. Predict: in which of the two will the last pixels be worse, and why?

# %% tags=["demonstration"]
scales = images.load("scales", size=side)
reach, middle = side // 6, side // 2
hole = torch.zeros(1, side, side, dtype=torch.bool)
hole[:, middle - reach : middle + reach, middle - reach : middle + reach] = True
frame = torch.ones(1, side, side, dtype=torch.bool)
frame[:, side // 6 : -(side // 6), side // 6 : -(side // 6)] = False
figures.show(
    [
        torch.where(hole, torch.ones_like(scales), scales),
        labkit.texture_optimization.fill_hole(scales, hole, patch_size=11),
        torch.where(frame, torch.ones_like(scales), scales),
        labkit.texture_optimization.fill_hole(scales, frame, patch_size=11),
    ],
    titles=["hole", "filled", "frame", "continued"],
    columns=4,
    width=216,
    alt="roof scales, green and brown, with a missing square or a missing frame",
    caption="A hole is closed in on from all sides; a frame has known pixels on one side only, and errors grow on the way out.",
)

# %% [markdown]
# Compare with chapter 2, section 2.11, which lowers an energy over all patches that touch the hole: there, the two sides meet.

# %% [markdown]
# ## 3.3 Quilting
#
# Neighbouring pixels of a synthesis mostly come from neighbouring places: why not copy whole *blocks*? **Image quilting** (Efros & Freeman, 2001) lays square blocks in rows, each drawn among those that agree with what lies already there in a narrow **overlap**. Where two blocks overlap, each pixel must come from one of them.
# The straight line down the middle shows. Better is the line along which the two blocks happen to agree, the **minimum-error boundary cut**.
#
# Let $e(i, j) = \sum_c (B^1_c(i, j) - B^2_c(i, j))^2$ be the squared difference of the two blocks in the overlap. The cheapest way from the first row to row $i$ that ends in column $j$ comes from one of three pixels above:
#
# $$E(0, j) = e(0, j), \qquad E(i, j) = e(i, j) + \min\big( E(i-1, j-1),\; E(i-1, j),\; E(i-1, j+1) \big).$$
#
# (Outside the overlap there is nothing to come from.) The least entry of the last row is the cost of the best cut. From there go back up, each time to the pixel above with the least $E$. That is **dynamic programming**: up to $3^{\text{rows} - 1}$ ways from each pixel of the first row, for the work of three comparisons a pixel.

# %% [markdown]
# ### Exercise 2 · `boundary_cut` (2 points, about 30 minutes)
#
# Write `boundary_cut(error)` for `error` = $e$, a tensor `(rows, columns)` of at least one row and one column. Return the column of the cheapest cut in each row, from the first row to the last: an int64 tensor `(rows,)`. From one row to the next the column changes by one at most. (No two sums are equal in the check, so there are no ties to break.)
#
# <details><summary>Hint 1: going down</summary>
#
# `total = error.clone()`, then for each row from the second: `total[i] += ` the least of the row above moved to the right, as it is, and moved to the left.
# </details>
#
# <details><summary>Hint 2: going up</summary>
#
# Start at `total[-1].argmin()`. In the row above look at columns `first = max(column - 1, 0)` to `column + 1` only: `total[i, first : column + 2].argmin()` counts from `first`, so add that. The list comes out from the bottom to the top.
# </details>
#
# <details><summary>Hint 3: the border</summary>
#
# `above = F.pad(total[i - 1], (1, 1), value=math.inf)` puts infinity on both sides; `above[:-2]`, `above[1:-1]` and `above[2:]` are the three rows to take the minimum of.
# </details>


# %% exercise="boundary_cut"
def boundary_cut(error):
    """The column, row by row, of the way down along which an error adds up to the least."""
    ### BEGIN SOLUTION
    total = error.clone()
    for i in range(1, len(total)):
        above = F.pad(total[i - 1], (1, 1), value=math.inf)
        total[i] += torch.stack([above[:-2], above[1:-1], above[2:]]).amin(0)
    column = int(total[-1].argmin())
    cut = [column]
    for i in range(len(total) - 2, -1, -1):
        first = max(column - 1, 0)
        column = first + int(total[i, first : column + 2].argmin())
        cut.append(column)
    return torch.tensor(cut[::-1])
    ### END SOLUTION


# %% check="boundary_cut"
check.boundary_cut(boundary_cut)

# %% [markdown]
# Here is one seam. The block on the left is given; of all blocks of the texture (but the one that follows it there, which would fit perfectly and copy the texture) the one on the right agrees best with it in the overlap.

# %% tags=["demonstration"]
pebbles = images.load("pebbles", size=side)
block, overlap = side // 2, side // 8
given = pebbles[:, :block, :block]
strips = pebbles.unfold(1, block, 1).unfold(2, overlap, 1)[:, :, : side - block + 1]
errors = (strips - given[:, None, None, :, -overlap:]).square().sum((0, 3, 4))
errors[:4, block - overlap - 4 : block - overlap + 4] = math.inf  # the block that follows, and its neighbours
row, column = divmod(int(errors.argmin()), errors.shape[1])
fitting = pebbles[:, row : row + block, column : column + block]

error = (given[:, :, -overlap:] - fitting[:, :, :overlap]).square().sum(0)
cut = labkit.texture_optimization.minimum_error_boundary_cut(error)
right_of_cut = torch.arange(overlap) >= cut[:, None]
straight = torch.cat([given[:, :, : -(overlap // 2)], fitting[:, :, overlap - overlap // 2 :]], dim=2)
seam = torch.where(right_of_cut, fitting[:, :, :overlap], given[:, :, -overlap:])
joined = torch.cat([given[:, :, :-overlap], seam, fitting[:, :, overlap:]], dim=2)
drawn = joined.clone()
drawn[:, torch.arange(block), block - overlap + cut] = torch.tensor([[1.0], [1.0], [0.0]])
middle_cost = float(error[:, overlap // 2].sum())
figures.show(
    [straight, joined, drawn],
    titles=[
        f"straight cut, cost {middle_cost:.1f}",
        f"best cut, cost {float(error[torch.arange(block), cut].sum()):.1f}",
        "… drawn in yellow",
    ],
    columns=3,
    width=300,
    alt="two blocks of pebbles side by side; a yellow line winds down between them",
    caption="The cut goes round stones where it can, and through shadows.",
)

# %% [markdown]
# A whole quilt needs, for most blocks, two cuts: one through the overlap on the left and one through that above. Blocks are drawn among those whose error in the overlap is within a tenth of the least, as pixels were in section 3.1. Move the sliders: what does the size of the blocks do that the window did in section 3.2? When do you begin to see the same stone twice?

# %% tags=["demonstration"]
widgets.Explorer(
    lambda image, patch_size, tolerance: labkit.texture_optimization.image_quilting(
        image, size=larger, patch_size=patch_size, tolerance=tolerance
    ),
    {name: images.load(name, size=side) for name in ("pebbles", "leaves", "scales", "terrazzo")},
    patch_size=(6, side // 2, side // 4),
    tolerance=(0.0, 1.0, 0.1),
    compare=False,
    labels={"patch_size": "side of a block", "tolerance": "tolerance ε"},
    alt="a texture and a larger quilt made of its blocks",
    caption="Quilting: larger blocks keep larger things whole, and leave fewer different quilts.",
)

# %% [markdown]
# ## 3.4 Texture transfer
#
# A block may be chosen by a second wish: to be as *bright* as the place where it goes in another picture. With $e$ the mean squared difference from what is there and $\gamma$ that of its brightness from the target's, the block's error is $(1 - w)\, e + w\, \gamma$. Large $w$ gives the picture, small $w$ the texture; so one begins with large blocks and large $w$, and repeats
# with smaller ones, each time on top of the last result. What will happen where the target is flat, and where it is darker than anything in the texture? (labkit first gives the target the texture's distribution of brightness: why?)

# %% tags=["demonstration"]
target = images.load("camera", size=3 * side // 2)
stones = images.load("pebbles", size=5 * side // 4)
passes = [
    labkit.texture_optimization.transfer_texture(
        stones, target, patch_size=side // 6, weight=0.3, iterations=iterations
    )
    for iterations in (1, 3)
]
figures.show(
    [target, stones, *passes],
    titles=["target", "texture", "one pass", "three passes"],
    columns=4,
    width=216,
    alt="a photographer beside his camera, painted with pebbles",
    caption="A photographer of stone. Where the target is flat, few blocks are as bright as it, and they come again and again.",
)

# %% [markdown]
# ## 3.5 Gaussian textures
#
# A completely different answer to "what is a texture": a **stationary Gaussian field**. Nothing but the mean and the correlation of pixels at each distance count, or, in Fourier, the mean and the **power spectrum** $|\hat u(\xi)|^2$. Two pictures with the same power spectrum then are the same texture, and to make another one keep the modulus of the Fourier transform and
# draw its *phases* at random:
#
# $$\hat u_c(\xi) = \hat{\tilde u}_c(\xi)\; e^{i \theta(\xi)}, \qquad \theta(\xi) \text{ uniform on } [-\pi, \pi], \quad \theta(-\xi) = -\theta(\xi), \quad \theta(0) = 0.$$
#
# The symmetry keeps $u$ real; $\theta(0) = 0$ keeps its mean. The simplest way to phases with the right symmetry is to take them from a picture that has it: the phases of white Gaussian noise, $\theta = \arg \hat w$. Note that $\theta$ is *added* to the phases of the exemplar, and is the same for all channels: so the differences of phase *between* channels, which
# make the colours, survive. (This is the lecture of Galerne, and Galerne, Gousseau & Morel, 2011: no patch anywhere.)

# %% [markdown]
# ### Exercise 3 · `random_phase_texture` (2 points, about 25 minutes)
#
# Write `random_phase_texture(image, noise)`. `image` is `(C, H, W)` and `noise` a picture `(H, W)` of white Gaussian noise of the same dtype. Take $\theta$ = the phase of the noise's Fourier transform, with $\theta(0)$ set to 0, and add it to the phases of every channel of the image. Return a real picture of the shape and dtype of `image`;
# do not clip it. Sides may be even or odd.
#
# <details><summary>Hint 1: the phases</summary>
#
# `torch.fft.fft2(noise)` is complex, `(H, W)`; `.angle()` gives the phase of each entry. (Or divide the complex number by its modulus: $\hat w / |\hat w| = e^{i\theta}$.)
# </details>
#
# <details><summary>Hint 2: adding a phase</summary>
#
# Multiplying by $e^{i\theta}$ adds $\theta$ to the phase and leaves the modulus alone: `torch.fft.fft2(image) * torch.exp(1j * theta)`. A tensor `(H, W)` is broadcast over the channels.
# </details>
#
# <details><summary>Hint 3: the mean</summary>
#
# Entry `[0, 0]` of the transform is the sum of all pixels. Noise has a sum too, and if it is negative its phase is π. Set `theta[0, 0] = 0`.
# </details>
#
# <details><summary>Hint 4: back to a picture</summary>
#
# `torch.fft.ifft2(…).real`. `fft2` runs over the last two axes, which are rows and columns here. With `rfft2`, tell `irfft2` the size: `s=image.shape[-2:]`.
# </details>


# %% exercise="random_phase_texture"
def random_phase_texture(image, noise):
    """Keep the modulus of each channel's spectrum and add the phases of a noise to its own."""
    ### BEGIN SOLUTION
    theta = torch.fft.fft2(noise).angle()
    theta[0, 0] = 0
    spectrum = torch.fft.fft2(image) * torch.exp(1j * theta)
    return torch.fft.ifft2(spectrum).real
    ### END SOLUTION


# %% check="random_phase_texture"
check.random_phase_texture(random_phase_texture)

# %% [markdown]
# Before you look: which of *sand, wood, bricks, leaves* are Gaussian textures? Think of what an edge is: a place where waves of all lengths are in step.

# %% tags=["demonstration"]
names = ("sand", "wood", "wall", "leaves")
exemplars = [images.load(name, size=2 * side) for name in names]
gaussian = [labkit.texture_optimization.random_phase_texture(exemplar) for exemplar in exemplars]
figures.show(
    [*exemplars, *gaussian],
    titles=[*names, *("random phases" for _ in names)],
    columns=4,
    width=216,
    alt="sand, wood, a brick wall and leaves; under each a texture with the same spectrum",
    caption="Ripples and grain survive. Bricks become a plaid in the colours of bricks: it has their rows and columns, and not one edge.",
)

# %% [markdown]
# Phases carry the *things* in a picture. Below, two photographs exchange their phases.

# %% tags=["demonstration"]
pair = [images.to_grey(images.load(name, size=(2 * side, 2 * side))) for name in ("astronaut", "coffee")]
spectra = [torch.fft.fft2(image) for image in pair]
mixed = [
    torch.fft.ifft2(torch.polar(spectra[k].abs(), spectra[1 - k].angle())).real.clamp(0, 1) for k in (0, 1)
]
figures.show(
    [*pair, *mixed],
    titles=[
        "astronaut",
        "coffee",
        "phases of the coffee",
        "phases of the astronaut",
    ],
    columns=4,
    width=216,
    alt="two grey photographs, and two mixtures of them",
    caption="Each of the last two has the modulus of one photograph and the phases of the other. One sees what the phases come from.",
)

# %% [markdown]
# Two details that matter in practice.
#
# **The border.** The Fourier transform takes the picture for one tile of an endless floor. Where the right border does not fit to the left one, the tiles meet in an edge, and an edge that long adds a strong cross to the spectrum: a texture with stripes. So the exemplar is first replaced by its **periodic component** (Moisan, 2011): $u = p + s$, with $s$ smooth, and all the jumps at the border in $s$.

# %% tags=["demonstration"]
marble = images.load("marble", size=2 * side)
periodic = labkit.texture_optimization.periodic_component(marble)
spectrum = [
    figures.colorize(
        torch.fft.fftshift(torch.fft.fft2(images.to_grey(x))[0].abs().add(1).log()), low=0, high=6
    )
    for x in (marble, periodic)
]
tiles = [torch.cat([torch.cat([x, x], dim=1)] * 2, dim=2).clamp(0, 1) for x in (marble, periodic)]
figures.show(
    [tiles[0], spectrum[0], tiles[1], spectrum[1]],
    titles=["marble, four times", "its spectrum, log", "periodic component, four times", "its spectrum, log"],
    columns=2,
    width=300,
    alt="marble laid out two by two, with visible borders in the first picture; spectra with and without a bright cross",
    caption="The cross in the first spectrum is the border, and no part of the texture.",
)

# %% [markdown]
# **Spot noise.** The same texture can be *thrown*: scatter $m$ copies of the exemplar (less its mean) over the plane, at random places that wrap around, add them up, divide by $\sqrt m$. By the central limit theorem this tends to a Gaussian field with the exemplar's correlations, the **asymptotic discrete spot noise**: the exemplar convolved with white noise. In Fourier it multiplies by
# $\hat w / \sqrt{HW}$, where random phases multiply by $\hat w / |\hat w|$: spot noise leaves the modulus random too. How many spots until you can no longer make out a single one?

# %% tags=["demonstration"]
spots = (1, 4, 32, 1000)
thrown = [labkit.texture_optimization.spot_noise(exemplars[2], spots=m) for m in spots]
figures.show(
    thrown,
    titles=[f"{m} spot{'s' if m > 1 else ''}" for m in spots],
    columns=4,
    width=216,
    alt="a brick wall, moved; then several walls on top of each other; then a plaid",
    caption="From one wall, moved, to a Gaussian texture.",
)

# %% [markdown]
# ## 3.6 Where patches overlap
#
# Efros and Leung never look back, and a Gaussian texture never looks at a patch. The rest of this chapter does both: it starts from some picture $u$ and improves it until all its patches look like patches of the exemplar. Suppose that for patches of $u$ at positions $x$, on a grid, we have found **matches** $q_x$ (patches of the exemplar, by chapter 2). What picture has them
# as its patches? None: they overlap, and where they do, they disagree. We can only ask for the least disagreement,
#
# $$E(u) = \sum_x \big\| p_u(x) - q_x \big\|^r .$$
#
# - $r = 2$: the minimum is the **mean**, pixel by pixel, of what the patches say. That is the voting of chapter 2.
# - $r = 1$, with $\|\cdot\|$ the sum of absolute differences (for every other $r$ it is the Euclidean norm): the **median**, pixel by pixel and channel by channel.
# - $r = 0.8$ is Kwatra's choice (2005): a patch that fits badly anyway should not drag the others along. There is no formula for the minimum, but there is for a smaller value than now. With $d_x = \|p_u(x) - q_x\|^2$ *of the current picture*, take the mean with weights
#
# $$w_x = (d_x + \epsilon)^{(r-2)/2}, \qquad \hat u(z) = \frac{\sum_{x \ni z} w_x\, q_x(z - x)}{\sum_{x \ni z} w_x} ,$$
#
# and repeat: **iteratively reweighted least squares**. (Why it works: $t \mapsto (t + \epsilon)^{r/2}$ is concave, so it lies below its tangent at $d_x$, whose slope is $\frac r2 w_x$. The weighted mean minimises the sum of the tangents; at the current picture tangents and energy agree; so the energy falls. The small $\epsilon$ keeps the weight of a perfect match finite.)
#
# What does it mean for one pixel about which four patches say 0.2, 0.25, 0.3 and 0.9? Predict the three minima before you run the cell.

# %%
said = torch.tensor([0.2, 0.25, 0.3, 0.9])
value = torch.linspace(0, 1, 501)
gap = (value[:, None] - said).abs()
chart = Figure(figsize=(7, 3.2))
axes = chart.subplots()
minima = []
for r, style in ((2, "-"), (1, "--"), (0.8, ":")):
    energy = (gap**r).sum(1)
    energy = energy / energy.max()
    minima.append(float(value[energy.argmin()]))
    axes.plot(value, energy, style, label=f"r = {r:g}", linewidth=2)
axes.plot(said, torch.zeros(4), "k^", label="what the patches say")
axes.set(xlabel="value of the pixel", ylabel="energy, largest = 1", ylim=(-0.03, 1))
axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
figures.chart(
    chart,
    alt="three curves with their minima; the parabola's lies furthest to the right",
    caption=f"The mean ({minima[0]:.2f}) is drawn to the outlier; the median is anything from 0.25 to 0.3; r = 0.8 has its least value at {minima[2]:.2f}, one of the things said.",
)

# %% [markdown]
# ### Exercise 4 · `aggregate` (3 points, about 40 minutes)
#
# Write `aggregate(matches, positions, image, r)`.
#
# - `matches` is `(N, C, n, n)`: for each of N patches the pixels $q_x$ of its match.
# - `positions` is int64 `(N, 2)`: the first pixels (row, column) of the patches in the picture, in any order. Together they hold every pixel.
# - `image` is `(C, H, W)`, the current picture $u$; it is needed for the weights.
# - `r`: for 2 return the mean; for 1 the **median**, per pixel and channel, of an even number of values the *lower* of the two middle ones (as `torch.median` takes it); for any other $0 < r < 2$ the weighted mean above, with one weight for each patch, $d_x$ summed over its channels and pixels, and $\epsilon = 10^{-8}\, C n^2$.
#
# Return a picture of the shape and dtype of `image`.
#
# <details><summary>Hint 1: adding up</summary>
#
# `for match, (i, j) in zip(matches, positions.tolist()):` and `total[:, i : i + n, j : j + n] += match`. Count in a second picture how many there were, and divide at the end.
# </details>
#
# <details><summary>Hint 2: the median</summary>
#
# Give each patch a whole picture full of `math.nan`, write its match into it, and stack them: `layers.nanmedian(0).values` leaves NaN out of account. (There are few patches in the check, so there is room for that.)
# </details>
#
# <details><summary>Hint 3: the weights</summary>
#
# `d = ((image[:, i : i + n, j : j + n] - match) ** 2).sum()` is one number; so is `weight = (d + 1e-8 * match.numel()) ** ((r - 2) / 2)`. Add `weight * match` to one picture and `weight` to another, and divide the first by the second. For r = 2 the weight is 1.
# </details>


# %% exercise="aggregate"
def aggregate(matches, positions, image, r):
    """The picture that overlapping patches agree on: mean, median, or a mean that trusts good matches."""
    ### BEGIN SOLUTION
    n = matches.shape[-1]
    if r == 1:
        layers = torch.full((len(matches), *image.shape), math.nan, dtype=image.dtype)
        for layer, match, (i, j) in zip(layers, matches, positions.tolist()):
            layer[:, i : i + n, j : j + n] = match
        return layers.nanmedian(0).values
    total, mass = torch.zeros_like(image), torch.zeros_like(image)
    for match, (i, j) in zip(matches, positions.tolist()):
        d = ((image[:, i : i + n, j : j + n] - match) ** 2).sum()
        weight = (d + 1e-8 * match.numel()) ** ((r - 2) / 2)
        total[:, i : i + n, j : j + n] += weight * match
        mass[:, i : i + n, j : j + n] += weight
    return total / mass
    ### END SOLUTION


# %% check="aggregate"
check.aggregate(aggregate)

# %% [markdown]
# ## 3.7 Matching and aggregating in turn
#
# Exercise 4 answered half a question: *if* we knew which patch of the exemplar belongs to each place, what should the picture be? The other half is chapter 2's: if we knew the picture, which patch is nearest? **Kwatra, Essa,
# Bobick & Kwatra** (2005) put both into one energy, a sum over the patches of the picture $u$ that we want:
#
# $$E(u) = \min_{\psi} \sum_{x \in \Omega'} \big\| p_u(x) - p_{\tilde u}(\psi(x)) \big\|^r .$$
#
# A picture has a low energy if each of its patches looks like *some* patch of the exemplar. The sum runs over a grid $\Omega'$ of every *stride*-th row and column: neighbouring patches overlap anyway, and say much the same. Minimise it **in turn**:
#
# 1. *match*: with $u$ fixed, $\psi(x)$ is the nearest patch of the exemplar, among **all** of them, not only those on a grid;
# 2. *aggregate*: with $\psi$ fixed, $u$ is the mean of what the overlapping matches say (for $r = 2$; exercise 4 for the others).
#
# Each step minimises the same sum over one of its two unknowns, so $E$ never rises. (That is for $r = 2$ and for $r = 1$; for others, the reweighted mean of section 3.6 lowers it as well, if it is written with the same $\epsilon$. Kwatra et al. call this expectation–maximisation; it is $k$-means in disguise, with the exemplar's patches in place of the centres.) But it stops at the nearest *local* minimum. What helps is to go **from coarse to fine**: in a small
# picture a patch spans a large part of the texture and fixes the layout, the finer scales add the detail.
#
# One more thing is odd about this energy. Its smallest value is 0, and the exemplar itself reaches it: *the best solution is the one that nobody wants*. What we are after is a good local minimum, and which one we get is decided by the start.

# %% [markdown]
# ### Exercise 5 · `optimize_texture` (3 points, about 40 minutes)
#
# Write `optimize_texture(exemplar, start, patch_size, stride, levels, iterations)` for $r = 2$. Work through the scales of `labkit.pyramids.gaussian_pyramid(exemplar, levels=levels)`, the coarsest first. `start`, a picture `(C, h, w)` of any size, is the
# picture to begin with at the *coarsest* scale. At each scale, match and aggregate `iterations` times; then, unless it was the finest scale, double the picture's sides with `labkit.pyramids.upsample(picture, ratio=2)`.
#
# The grid of the picture's patches is that of `labkit.patches.extract_patches(picture, patch_size=…, stride=…, cover=True)`, and `labkit.patches.aggregate_patches` puts patches of that grid together again. Return two things: the picture, and a list of `levels * iterations` numbers,
# the energy after each aggregation: the *mean over the grid's patches* of $\|p_u(x) - p_{\tilde u}(\psi(x))\|^2$ (a sum over the patch and its channels), for the *new* picture and the matches it was made of.
#
# (The checks use pictures with noise in them: no two patches are equally near.)
#
# <details><summary>Hint 1: matching</summary>
#
# `keys = extract_patches(exemplar at this scale, patch_size=patch_size)`, without a stride: all of them. `seen = extract_patches(picture, patch_size=patch_size, stride=stride, cover=True)`. Then `labkit.patches.squared_distances(seen, keys).argmin(1)` (or `torch.cdist`) numbers
# the nearest ones, and `matches = keys[that]` has a row for each patch of the grid.
# </details>
#
# <details><summary>Hint 2: aggregating, and the energy</summary>
#
# `aggregate_patches(matches, height=…, width=…, patch_size=…, stride=…, cover=True)` with the picture's height and width. Then extract the patches of the *new* picture: `((new - matches) ** 2).sum(1).mean()`.
# </details>
#
# <details><summary>Hint 3: the scales</summary>
#
# `for level in reversed(pyramid)`, and inside it `for _ in range(iterations)`. The list of energies is made once, before both loops. Enlarge at the *beginning* of every scale but the first, or at the end of every one but the last.
# </details>


# %% exercise="optimize_texture"
def optimize_texture(exemplar, start, patch_size, stride, levels, iterations):
    """Nearest patches and their mean in turn, from coarse to fine: the picture, and its energy after each round."""
    ### BEGIN SOLUTION
    grid = {"patch_size": patch_size, "stride": stride, "cover": True}
    picture, energies = start, []
    for number, level in enumerate(reversed(labkit.pyramids.gaussian_pyramid(exemplar, levels=levels))):
        if number > 0:
            picture = labkit.pyramids.upsample(picture, ratio=2)
        height, width = picture.shape[1:]
        keys = labkit.patches.extract_patches(level, patch_size=patch_size)
        for _ in range(iterations):
            seen = labkit.patches.extract_patches(picture, **grid)
            matches = keys[torch.cdist(seen, keys).argmin(1)]
            picture = labkit.patches.aggregate_patches(matches, height=height, width=width, **grid)
            seen = labkit.patches.extract_patches(picture, **grid)
            energies.append(((seen - matches) ** 2).sum(1).mean().item())
    return picture, energies
    ### END SOLUTION


# %% check="optimize_texture"
check.optimize_texture(optimize_texture)

# %% [markdown]
# Run yours on real textures, in a cell of your own. After `torch.manual_seed(0)`, `optimize_texture(images.load("scales", size=64), torch.rand(3, 24, 24), 8, 2, 3, 10)` takes about a second and gives 96×96 pixels of roof scales out of noise; the last energy is about 0.23. Then try `"pebbles"` with a stride of 4: most of it turns into a grey weave. That is no mistake of yours. Section 3.9 says why, and what helps.
#
# labkit's function has the same name, in `labkit.texture_optimization`. It can do more: several sizes of patches at each scale, large ones first; $r = 0.8$ as well as 1 and 2; and where there are many patches it searches with PatchMatch. Play the film, from the coarsest scale to the finest. When is it decided where the bricks go?

# %% tags=["demonstration"]
small = 2 * side // 3
wall = images.load("wall", size=small)
film = synthesis.optimize_texture(wall, size=(side, side), trace=True)
widgets.SynthesisPlayer(
    film,
    exemplar=wall,
    alt="a brick wall that grows out of noise, and the wall it was learnt from",
    caption="Texture optimisation, from coarse to fine: layout first, then detail.",
)

# %% [markdown]
# And the energy? **Guess first:** does the curve fall all the way?

# %%
chart = Figure(figsize=(7, 3))
axes = chart.subplots()
begin = 1
for number, values in enumerate(film.energy):
    axes.plot(range(begin, begin + len(values)), values, "o-" if number % 2 == 0 else "s--", markersize=4)
    begin += len(values)
axes.set(xlabel="round", ylabel="energy (mean over patches)", yscale="log")
rises = sum(later > earlier + 1e-6 for values in film.energy for earlier, later in zip(values, values[1:]))
figures.chart(
    chart,
    alt="pieces of falling curves, one for each scale and size of patches",
    caption=f"One piece of curve for each scale and size of patches. Within a piece the energy rose {rises} times.",
)

# %% [markdown]
# It falls within each piece, and *may* jump between two: a finer scale has another exemplar, and patches of another size are other patches. Their energies cannot be compared. (A piece ends early when no match changes any more: from then on every round would be the same.)

# %% [markdown]
# ## 3.8 Scales, patches, and the exponent
#
# Four knobs decide what comes out. **Before you turn them, predict:**
#
# - a *single scale* and small patches: what happens to bricks that are longer than a patch?
# - a *stride* as large as the patch: what will be seen where patches meet?
# - $r = 2$ or $r = 0.8$: which one is sharper? Exercise 4 knows the answer.

# %% tags=["demonstration"]
names = ("pebbles", "wall", "tiles", "leaves")
widgets.Explorer(
    lambda image, patch_sizes, levels, stride, r: (
        synthesis.optimize_texture(
            image, size=(side, side), patch_sizes=patch_sizes, levels=levels, stride=stride, r=r, iterations=6
        ).image
    ),
    {name: images.load(name, size=small) for name in names},
    patch_sizes=[("16, then 8", (16, 8)), ("16", (16,)), ("8", (8,)), ("6", (6,))],
    levels=(1, 4, 3),
    stride=(2, 6, 4),
    r=[("0.8: reweighted mean", 0.8), ("1: median", 1), ("2: mean", 2)],
    alt="a texture grown by texture optimisation",
    caption="Texture optimisation. Stride in pixels; every change starts a new synthesis.",
    labels={"patch_sizes": "patch sizes (pixels)", "levels": "scales", "r": "exponent r"},
)

# %% [markdown]
# Side by side, all else equal:

# %%
pebbles = images.load("pebbles", size=small)
settings = {
    "one scale, n = 8": {"levels": 1, "patch_sizes": (8,)},
    "three scales, n = 8": {"patch_sizes": (8,)},
    "r = 2: mean": {"r": 2},
    "r = 1: median": {"r": 1},
    "r = 0.8": {},
}
made = [
    synthesis.optimize_texture(pebbles, size=(side, side), iterations=8, seed=1, **options).image
    for options in settings.values()
]
figures.show(
    [pebbles, *made],
    titles=["exemplar", *settings],
    columns=3,
    width=220,
    alt="pebbles, and five syntheses of pebbles",
    caption="With small patches alone a grey weave takes over (section 3.9 says why); large patches first prevent that. "
    "The mean is a little softer than the others.",
)

# %% [markdown]
# **Where to begin.** Some textures repeat exactly: tiles, cloth, a brick wall. Patches smaller than a period know nothing of it, and from a random start every region finds its own phase. A *lattice start* looks for the period in the exemplar's autocorrelation and begins with the exemplar, repeated at that period (after Kaspar et al., 2015).
# The optimisation then only has to mend the seams.

# %%
shown = []
for name in ("wall", "cloth"):
    exemplar = images.load(name, size=small)
    shown.append(exemplar)
    for start in ("random", "lattice"):
        grown = synthesis.optimize_texture(
            exemplar, size=(side, side), patch_sizes=(8,), levels=2, start=start
        )
        shown.append(grown.image)
figures.show(
    shown,
    titles=["exemplar", "random start", "lattice start"] * 2,
    columns=3,
    width=220,
    alt="a brick wall and houndstooth cloth, each with two syntheses",
    caption="Two scales and patches of 8 pixels, from two starts.",
)

# %% [markdown]
# ## 3.9 Every patch counts
#
# Nothing in $E$ asks that *all* of the exemplar be used. Every patch takes its nearest one, flat patches are near to many others, and so a synthesis may consist of a few favourites. A constraint helps (Gutierrez, Galerne, Rabin & Hurtut, 2017): **each patch of the
# exemplar is taken equally often**. If there are as many patches $p_1, \dots, p_N$ in the picture as candidates $q_1, \dots, q_N$ in the exemplar, the matches are a permutation,
#
# $$\sigma = \arg\min_{\sigma \text{ permutation}} \sum_{i} \| p_i - q_{\sigma(i)} \|^2 .$$
#
# This is the **linear sum assignment problem** (LSAP). The best permutation is found exactly in about $N^3$ steps by relatives of the *Hungarian algorithm*; SciPy has one. What is lost: the patches no longer decide independently.
#
# With $N$ patches and another number $M$ of candidates, let each candidate be taken *at most* $\lceil N / M \rceil$ times: give it that many places.

# %% [markdown]
# ### Exercise 6 · `assign_patches` (2 points, about 25 minutes)
#
# Write `assign_patches(patches, candidates)`. `patches` is a matrix `(N, D)`, `candidates` one `(M, D)`, patches as rows. Return an `int64` tensor `(N,)`: the number, from 0 to M − 1, of the candidate that each patch takes, such that no candidate is taken more than $\lceil N / M \rceil$ times and the sum of
# the squared distances is as small as possible. Use `linear_sum_assignment(cost)`, imported at the top, with a NumPy matrix of costs.
#
# <details><summary>Hint 1: the table of costs</summary>
#
# A row for each patch, a column for each candidate: `torch.cdist(patches, candidates) ** 2`, or `labkit.patches.squared_distances(patches, candidates)`. `.numpy()` turns it into an array.
# </details>
#
# <details><summary>Hint 2: what comes back</summary>
#
# `rows, columns = linear_sum_assignment(cost)`: the patch `rows[k]` takes the candidate `columns[k]`. If there are at least as many columns as rows, `rows` is just 0, 1, 2, …, so that `columns` is the answer: `torch.from_numpy(columns)`, which is `int64`.
# </details>
#
# <details><summary>Hint 3: more patches than candidates</summary>
#
# Repeat the *columns*: with `copies = math.ceil(N / M)`, the table `cost.repeat(1, copies)` holds $q_1, \dots, q_M, q_1, \dots, q_M, \dots$ Column `k` then stands for the candidate `k % M`.
# </details>


# %% exercise="assign_patches"
def assign_patches(patches, candidates):
    """The candidate of each patch, for the least sum of squares; none is taken more than ⌈N/M⌉ times."""
    ### BEGIN SOLUTION
    cost = torch.cdist(patches, candidates) ** 2
    copies = math.ceil(len(patches) / len(candidates))
    rows, columns = linear_sum_assignment(cost.repeat(1, copies).numpy())
    return torch.from_numpy(columns % len(candidates))
    ### END SOLUTION


# %% check="assign_patches"
check.assign_patches(assign_patches)

# %% [markdown]
# What does it change? Below, a texture is grown from noise with patches of one size and only two scales, which is hard, without and with the constraint. **Guess** what goes wrong without it.

# %%
pebbles = images.load("pebbles", size=small)
by_assignment = {
    name: synthesis.optimize_texture(pebbles, patch_sizes=(8,), levels=2, assignment=assignment, seed=3).image
    for name, assignment in (("each takes its nearest", None), ("assignment", "lsap"))
}
figures.show(
    [pebbles, *by_assignment.values()],
    titles=["exemplar", *by_assignment],
    width=240,
    alt="pebbles; a grey weave; and pebbles again, somewhat blurred",
    caption="The average of many disagreeing patches is grey. Grey patches are near to it, and once they have spread, they stay.",
)

# %% [markdown]
# The curves count how often each of the exemplar's patches is the nearest one to a patch of the result, the most popular first. What would the ideal curve look like?

# %%
chart = Figure(figsize=(7, 3))
axes = chart.subplots()
columns = small - 7
for (name, grown), style in zip(by_assignment.items(), ("-", "--")):
    found = labkit.patchmatch.exact_nnf(grown, pebbles, patch_size=8).nnf
    use = (
        torch.bincount((found[0] * columns + found[1]).flatten(), minlength=columns**2)
        .sort(descending=True)
        .values
    )
    axes.plot(
        range(1, len(use) + 1), use, style, label=f"{name}: {100 * (use > 0).float().mean():.0f} % are used"
    )
axes.set(
    xlabel="patch of the exemplar, by how often it is used",
    ylabel="times used",
    xscale="log",
    yscale="symlog",
    ylim=(0, None),
)
axes.legend()
figures.chart(
    chart,
    alt="two falling curves; the one with assignment begins lower and reaches further",
    caption="How often each patch of the exemplar is the nearest one. Ideal would be a flat line: each of them once.",
)

# %% [markdown]
# The assignment alone does not make a sharp picture: where a patch must go, it goes, even if it fits badly. But no colour is lost. In practice one helps with the start, the scales and the sizes of patches, as above.

# %% [markdown]
# ## 3.10 Keeping near something
#
# An energy can be added to. **Fidelity** asks that the picture resemble a target $t$, where it has the choice: minimise $E(u) + \alpha F(u)$, with $F(u) = \sum_z \|u(z) - t(z)\|^2$. Only the aggregation changes. The lecture blends after each aggregation, $u \leftarrow (u + \alpha t) / (1 + \alpha)$. When patches have weights $w_x$ (of the reweighting, or because
# some are trusted more), the blend has to know them. So let the target speak wherever a patch does:
#
# $$\min_u \sum_x \Big( w_x \| p_u(x) - q_x \|^2 + \alpha \| p_u(x) - p_t(x) \|^2 \Big) \quad\Longrightarrow\quad
# u(z) = \frac{\sum_x w_x\, q_x(z - x) + \alpha\, k(z)\, t(z)}{\sum_x w_x + \alpha\, k(z)},$$
#
# where the sums run over the $k(z)$ patches that hold the pixel $z$, and $q_x(z - x)$ is what the match of $x$ says about it. With all $w_x = 1$ that is the lecture's formula. A **border** is harder: a frame of the target is simply copied, so that the new picture fits into an old one.

# %% [markdown]
# ### Exercise 7 · `aggregate_towards` (2 points, about 25 minutes)
#
# Write `aggregate_towards(matches, positions, weights, target, alpha, border)`. As in exercise 4, `matches` is `(N, C, n, n)` and `positions` `(N, 2)` holds the first pixel (row, column) of the place that each stands for; every pixel of the picture belongs to at least one. `weights` is `(N,)`, all above 0; `target` is `(C, H, W)`, the size
# of the result; `alpha` is 0 or more. In the end, a frame of `border` pixels (0 or more) on all four sides is the target's.
#
# <details><summary>Hint 1: what to add up</summary>
#
# Three pictures of zeros, filled in one loop over the patches: `total` collects `weight * match`, `weight_sum` collects `weight`, `count` collects 1. The latter two may have a single channel: `(1, H, W)`.
# </details>
#
# <details><summary>Hint 2: the blend</summary>
#
# `(total + alpha * count * target) / (weight_sum + alpha * count)`: numerator and denominator of the formula, for all pixels at once. It is *not* a blend of the weighted mean with fixed shares.
# </details>
#
# <details><summary>Hint 3: the frame</summary>
#
# Start from `result = target.clone()` and copy the *inside*: `[:, border : height - border, border : width - border]`. The other way round has a trap: `result[:, -border:]` with `border = 0` is everything.
# </details>


# %% exercise="aggregate_towards"
def aggregate_towards(matches, positions, weights, target, alpha, border):
    """Weighted mean of overlapping patches, drawn to a target with strength alpha; the frame is the target's."""
    ### BEGIN SOLUTION
    n, (height, width) = matches.shape[-1], target.shape[1:]
    total = torch.zeros_like(target)
    weight_sum, count = torch.zeros_like(target[:1]), torch.zeros_like(target[:1])
    for match, (i, j), weight in zip(matches, positions.tolist(), weights):
        total[:, i : i + n, j : j + n] += weight * match
        weight_sum[:, i : i + n, j : j + n] += weight
        count[:, i : i + n, j : j + n] += 1
    blended = (total + alpha * count * target) / (weight_sum + alpha * count)
    result, inside = target.clone(), (slice(border, height - border), slice(border, width - border))
    result[:, inside[0], inside[1]] = blended[:, inside[0], inside[1]]
    return result
    ### END SOLUTION


# %% check="aggregate_towards"
check.aggregate_towards(aggregate_towards)

# %% [markdown]
# First the fidelity, with a target that is no texture at all: a soft disc, from the exemplar's dark colours to its bright ones. The patches are assigned as in section 3.9, so that there are bright stones for the disc and dark ones left for its surroundings. What do you get for $\alpha = 0$, and what for a large $\alpha$? (No stones any more. Why?)

# %% tags=["demonstration"]
rows, columns = torch.meshgrid(*2 * [torch.linspace(-1, 1, side)], indexing="ij")
disc = torch.sigmoid(12 * (0.6 - (rows**2 + columns**2).sqrt()))
dark, bright = (torch.quantile(pebbles.flatten(1), share, dim=1)[:, None, None] for share in (0.2, 0.8))
aim = dark + (bright - dark) * disc
widgets.Explorer(
    lambda image, alpha: (
        synthesis.optimize_texture(
            image, size=(side, side), fidelity=(aim, alpha), assignment="lsap", iterations=6
        ).image
    ),
    pebbles,
    alpha=(0.0, 0.5, 0.15, 0.05),
    alt="pebbles, bright in a disc and dark around it",
    caption="Texture optimisation with fidelity to a disc.",
    labels={"alpha": "fidelity α"},
)

# %% [markdown]
# Then the border: keep a frame of some pebbles, and let the inside be invented. If the exemplar is the picture itself, what is the solution of least energy? It is found all too easily. So the second synthesis uses the mirrored picture.

# %%
frame = side // 8
beach = images.load("pebbles", size=side)
inside = torch.zeros(1, side, side, dtype=torch.bool)
inside[:, frame:-frame, frame:-frame] = True
invented = [
    synthesis.optimize_texture(exemplar, border=(beach, frame), iterations=6, seed=2).image
    for exemplar in (beach, beach.flip(2))
]
figures.show(
    [beach, torch.where(inside, torch.ones_like(beach), beach), *invented],
    titles=["pebbles", "what is kept", "from the picture itself", "from its mirror image"],
    columns=4,
    width=200,
    alt="pebbles, a frame of them, the same pebbles, and other pebbles within the same frame",
    caption="Both go on where the frame ends, without a seam. Only the last one is new.",
)

# %% [markdown]
# ## 3.11 The manner of one, the matter of another
#
# Fidelity to a *photograph*, patches of a *painting*: that is style transfer by texture optimisation (a simple form of Elad & Milanfar, 2017). The content $c$ is given the style's colours, is the start, and stays as the target:
#
# $$\min_u \min_\psi \sum_x \| p_u(x) - p_s(\psi(x)) \|^r + w\, \| u - c \|^2 .$$
#
# Large patches carry more of the style over, and small weights $w$ leave it more room. How little content is enough for you to recognise the cup?

# %% tags=["demonstration"]
cup = images.load("coffee", size=side)
styles = {name: images.load(name, size=side) for name in ("terrazzo", "pebbles", "wood")}
widgets.Explorer(
    lambda style, content_weight, patch_sizes: (
        synthesis.transfer_style_by_patches(
            cup, style, content_weight=content_weight, patch_sizes=patch_sizes
        ).image
    ),
    styles,
    content_weight=(0.0, 1.0, 0.1, 0.02),
    patch_sizes=[("21, 13, 9", (21, 13, 9)), ("9", (9,)), ("5", (5,))],
    alt="a cup of coffee made of patches of a texture",
    caption="Style transfer by patches: w = 0 knows the content from the start only, w = 1 keeps half of it.",
    labels={"content_weight": "content weight w", "patch_sizes": "patch sizes (pixels)"},
)

# %% [markdown]
# ## 3.12 One photograph, many pictures
#
# So far the exemplar was a texture: any region of it was like any other. A photograph is not: sky belongs above, ground below. **Single-image generation** asks for new pictures *with the patches of one photograph, each at a plausible place*. The method stays the same; what changes is how coarse it begins. If the coarsest picture is only
# about three patches wide, each patch there shows a third of the world, and only layouts that make sense fit together. **PSin** (Cherel, Almansa, Gousseau & Newson, 2022) starts from noise of mean ½ and standard deviation 1, uses patches of 11×11 pixels at four scales of ratio 2, and ten rounds each.
#
# Two details make it work. The first is the reconstruction: a **weighted mean**, in which a vote counts less if its patch fits badly,
#
# $$u(z) = \frac{\sum_x e^{-d_x / 2\sigma^2}\; \tilde u\big(\psi(x) + z - x\big)}{\sum_x e^{-d_x / 2\sigma^2}}, \qquad d_x = \| p_u(x) - p_{\tilde u}(\psi(x)) \|^2, \qquad \sigma = \max(1,\; d_{75\,\%}),$$
#
# over the patches $x$ that hold $z$. (In the paper and in Cherel's thesis, eq. III.4, the denominator is missing, and so is $\sigma$, without which all weights are practically 0: distances of patches of 11×11 are in the tens. The authors' code has both, with $\sigma$ the upper quartile of all distances, the value that three in four stay
# below. That the quartile of a *squared* distance stands where a distance should is odd; we keep it.)

# %% [markdown]
# ### Exercise 8 · `weighted_reconstruction` (2 points, about 25 minutes)
#
# Write `weighted_reconstruction(nnf, distance, exemplar, patch_size)`. `nnf` is a field of matches as in chapter 2, `int32` `(2, H', W')`, of patches of side n = `patch_size`, and `distance` holds the squared distances $d_x$, `(H', W')`, in the dtype of the exemplar. The result is $(C, H' + n - 1, W' + n - 1)$. Take `torch.quantile(distance, 0.75)` for the quartile, and **no weight below 1e-30**. You may use
# `labkit.patchmatch.reconstruct(nnf, exemplar, patch_size=…, weights=…)`, or your own voting from chapter 2.
#
# <details><summary>Hint 1: σ</summary>
#
# `sigma = torch.quantile(distance, 0.75).clamp(min=1)`: one number for the whole picture, at least 1.
# </details>
#
# <details><summary>Hint 2: the weights</summary>
#
# `torch.exp(-distance / (2 * sigma**2))`, with brackets around the denominator. `distance` is squared already, `sigma` is not.
# </details>
#
# <details><summary>Hint 3: voting</summary>
#
# As in `reconstruct` of chapter 2, but what is added is `weights * exemplar[…]`, and what is counted is `weights` instead of 1. If every patch of a pixel fits very badly, all its weights underflow to 0, and 0/0 is not a colour: `.clamp(min=1e-30)` before you start.
# </details>


# %% exercise="weighted_reconstruction"
def weighted_reconstruction(nnf, distance, exemplar, patch_size):
    """The picture that the matches vote for, each patch weighted by how well it fits."""
    ### BEGIN SOLUTION
    sigma = torch.quantile(distance, 0.75).clamp(min=1)
    weights = torch.exp(-distance / (2 * sigma**2)).clamp(min=1e-30)
    rows, columns = distance.shape
    total = exemplar.new_zeros(len(exemplar), rows + patch_size - 1, columns + patch_size - 1)
    votes = torch.zeros_like(total)
    for a in range(patch_size):
        for b in range(patch_size):
            total[:, a : a + rows, b : b + columns] += weights * exemplar[:, nnf[0] + a, nnf[1] + b]
            votes[:, a : a + rows, b : b + columns] += weights
    return total / votes
    ### END SOLUTION


# %% check="weighted_reconstruction"
check.weighted_reconstruction(weighted_reconstruction)

# %% [markdown]
# The second detail: between two scales PSin enlarges not the picture but the **matches**. An enlarged picture is blurred, and the nearest patches of something blurred are the flat ones; an enlarged *field* points at once to sharp patches of the finer exemplar. Patches are named by their first pixels. If the coarse patch $p^*$ has its match at
# $\psi_{\ell+1}(p^*)$, then at twice the size the fine patch $2p^*$ has its own at $2\psi_{\ell+1}(p^*)$, and its neighbours' matches lie beside that one:
#
# $$\psi_\ell(p) = 2\, \psi_{\ell+1}(p^*) + (p - 2p^*), \qquad p^* = \arg\min_{p'} \| p - 2p' \| .$$
#
# (Cherel's thesis, eq. III.6. labkit compares the *middles* of the patches instead of their first pixels, which treats all four borders alike.)

# %% [markdown]
# ### Exercise 9 · `upsample_field` (2 points, about 20 minutes)
#
# Write `upsample_field(nnf, image_size, exemplar_size, patch_size)`. `nnf` is the coarse field, `int32` `(2, h', w')`, of patches of side n = `patch_size`; `image_size` and `exemplar_size` are (height, width) of the *finer* image and exemplar, about twice the coarse ones. Return the field of the finer image, `int32` of shape `(2, H - n + 1, W - n + 1)`. Rows and columns do not mix: for the row $p$ of a fine patch, $p^*$ is
# `p // 2` (of two coarse rows that are equally near, the earlier one), but at most the last row of the coarse field. Move every match to the nearest position at which its patch lies inside the exemplar.
#
# <details><summary>Hint 1: the formula</summary>
#
# With `rows` and `coarse_rows` (p and p*), and the same for the columns, `nnf[0][coarse_rows][:, coarse_columns]` picks the coarse matches' rows. Twice that, plus `(rows - 2 * coarse_rows)[:, None]`, which is the same for a whole row. For the columns, `nnf[1]`, and
# `columns - 2 * coarse_columns` without the `None`.
# </details>
#
# <details><summary>Hint 2: which coarse patch</summary>
#
# `rows = torch.arange(image_size[0] - patch_size + 1)` and `coarse_rows = (rows // 2).clamp(max=nnf.shape[1] - 1)`. The fine field has *more* than twice as many rows as the coarse one: the last ones all use the last coarse row, and $p - 2p^*$ is larger than 1 there.
# </details>
#
# <details><summary>Hint 3: inside the exemplar</summary>
#
# `.clamp(0, exemplar_size[0] - patch_size)` for the rows. It matters when one of the pictures has an odd side, and its half was rounded. At the end, `.to(torch.int32)`.
# </details>


# %% exercise="upsample_field"
def upsample_field(nnf, image_size, exemplar_size, patch_size):
    """The field of a scale from that of the next coarser one: positions doubled, neighbours side by side."""
    ### BEGIN SOLUTION
    rows, columns = (torch.arange(length - patch_size + 1) for length in image_size)
    coarse_rows = (rows // 2).clamp(max=nnf.shape[1] - 1)
    coarse_columns = (columns // 2).clamp(max=nnf.shape[2] - 1)
    found = nnf[:, coarse_rows][:, :, coarse_columns]
    match_rows = 2 * found[0] + (rows - 2 * coarse_rows)[:, None]
    match_columns = 2 * found[1] + (columns - 2 * coarse_columns)
    match_rows = match_rows.clamp(0, exemplar_size[0] - patch_size)
    match_columns = match_columns.clamp(0, exemplar_size[1] - patch_size)
    return torch.stack([match_rows, match_columns]).to(torch.int32)
    ### END SOLUTION


# %% check="upsample_field"
check.upsample_field(upsample_field)

# %% [markdown]
# Both are inside `labkit.texture_optimization.psin`. Below are two of its pictures, and for each the shifts $\psi(x) - x$ in the colours of chapter 2: a region of one colour is a piece of the photograph, copied as a whole. **Look for the seams**: they are where the picture
# is new. How many pieces do you count? And is anything of the photograph missing?

# %%
width = runtime.choose({"quick": 48, "laptop": 128, "gpu": 256})
# the coarsest picture is to be two or three patches wide
levels = runtime.choose({"quick": 2, "laptop": 3, "gpu": 4})
launch_pad = images.load("rocket", size=width)
pictures = [synthesis.psin(launch_pad, levels=levels, seed=seed) for seed in (0, 1)]
shifts = [
    figures.color_wheel(labkit.patchmatch.shift_map(picture.nnf), largest=width / 2) for picture in pictures
]
figures.show(
    [launch_pad, pictures[0].image, pictures[1].image, figures.color_wheel_key(), *shifts],
    titles=["photograph", "PSin", "PSin, other noise", f"key, ±{width // 2} pixels", "shifts", "shifts"],
    columns=3,
    width=260,
    alt="a rocket on its launch pad between towers; two new pictures with several rockets and towers; regions of one colour",
    caption="Every patch fits. But nobody asked that there be one rocket, or that nothing be left out.",
)

# %% [markdown]
# **GPNN** (Granot et al., 2022) has an answer to the second question. It divides the distance of a patch $p$ and a candidate $q$ by how well $q$ is served already,
#
# $$\psi(x) = \arg\min_y \frac{\| p_u(x) - p_{\tilde u}(y) \|^2}{\alpha + \min_{x'} \| p_u(x') - p_{\tilde u}(y) \|^2} :$$
#
# a patch of the exemplar that nothing in the picture resembles yet has a large denominator and is cheap, however badly it fits. With a small $\alpha$ the result becomes **complete**: all of the photograph is in it. The price is diversity, and time, for the denominator needs a search in the other direction. In place of pure noise it starts from the photograph itself at
# the coarsest scale, *plus* noise. What will you see if the noise is weak? If it is strong?

# %% tags=["demonstration"]
widgets.Explorer(
    lambda image, alpha, noise_deviation, seed: (
        synthesis.gpnn(image, alpha=alpha, noise_deviation=noise_deviation, seed=seed, iterations=4).image
    ),
    images.load("rocket", size=width // 2),
    alpha=[("0.005: complete", 0.005), ("10: not complete", 10.0)],
    noise_deviation=(0.0, 1.5, 0.75, 0.25),
    seed=(0, 9, 0),
    alt="a launch pad, rearranged",
    caption="GPNN on a small picture.",
    labels={"alpha": "α", "noise_deviation": "standard deviation of the noise"},
)

# %% [markdown]
# ## 3.13 The right patches, equally often
#
# Completeness says "at least once", the assignment of section 3.9 "equally often". The assignment costs $N^3$ operations and needs as many patches here as there. **Optimal transport** asks the same with a price list. Let every patch $q$ of the exemplar have a price reduction $\beta_q$; each of the $n$ patches $p$ of the picture takes the cheapest of the $m$ patches
# of the exemplar, at cost $\|p - q\|^2 - \beta_q$. If some $q$ is taken too often, lower its $\beta_q$; if nobody takes it, raise it. The right prices are the maximum of a concave function, the **semi-dual** of optimal transport:
#
# $$W(\beta) = \frac1n \sum_{p} \min_{q} \big( \| p - q \|^2 - \beta_q \big) + \frac1m \sum_{q} \beta_q, \qquad
# \frac{\partial W}{\partial \beta_q} = \frac1m - \frac{\#\{ p : p \text{ takes } q \}}{n} .$$
#
# The gradient is what we said in words: the share that $q$ should have, less the share that it has. At the maximum, $W$ is the **transport cost** between the two sets of patches, the least mean of $\|p - q\|^2$ at which the one can be rearranged to the other. (Eq. III.5 of the thesis has sums where means stand here. If $n \ne m$, add the same constant to all $\beta_q$: the sums grow
# without bound, the means do not change.)

# %% [markdown]
# ### Exercise 10 · `semi_dual_step` (2 points, about 20 minutes)
#
# Write `semi_dual_step(cost, beta, step)`. `cost` is the matrix `(n, m)` of all $\|p - q\|^2$, `beta` is `(m,)`. Return two things: the new $\beta$ after *one step of gradient ascent* of length `step`, $\beta + \texttt{step} \cdot \nabla W(\beta)$, and the value $W(\beta)$ *before* that step (a number, or a tensor with one entry). `beta` itself stays as it is.
#
# <details><summary>Hint 1: who takes what</summary>
#
# `smallest, taken = (cost - beta).min(1)`: torch subtracts `beta` from each row. `smallest.mean() + beta.mean()` is the value.
# </details>
#
# <details><summary>Hint 2: the gradient</summary>
#
# `torch.bincount(taken, minlength=m)` counts how often each `q` is taken, those that are never taken included. Divide by `n`, and subtract that from `1 / m`.
# </details>
#
# <details><summary>Hint 3: up</summary>
#
# Ascent adds the gradient. The value is the old one, so compute it with the old `beta`; the new one is `beta + step * gradient`, a new tensor. Return `(new, value)`.
# </details>


# %% exercise="semi_dual_step"
def semi_dual_step(cost, beta, step):
    """One step of gradient ascent of the semi-dual of optimal transport: the new beta, and the value before."""
    ### BEGIN SOLUTION
    n, m = cost.shape
    smallest, taken = (cost - beta).min(1)
    share = torch.bincount(taken, minlength=m) / n
    return beta + step * (1 / m - share), smallest.mean() + beta.mean()
    ### END SOLUTION


# %% check="semi_dual_step"
check.semi_dual_step(semi_dual_step)

# %% [markdown]
# Every $\beta$ gives a lower bound of the transport cost, and ascent raises it. `labkit.metrics.patch_transport_cost` does a thousand such steps (each shorter than the one before). **Guess, before you run it:** of two syntheses of the same texture, without and with the assignment of section 3.9, which one has the smaller transport cost to the exemplar? And what is the cost of the exemplar, mirrored?

# %%
compared = by_assignment | {"exemplar, mirrored": pebbles.flip(2)}
number_of_steps = (1, 10, 100, 1000)
rows = [
    [
        name,
        *(
            float(metrics.patch_transport_cost(picture, pebbles, patch_size=8, stride=2, steps=s))
            for s in number_of_steps
        ),
    ]
    for name, picture in compared.items()
]
figures.table(
    rows,
    header=["", *(f"{s} step{'s' if s > 1 else ''}" for s in number_of_steps)],
    caption="Lower bounds of the transport cost to the exemplar, patches of 8×8.",
)

# %% [markdown]
# Grey patches are near to *some* patch of the exemplar, but far from most: that is what the transport cost sees and the energy of section 3.7 does not. (In the mirror, every patch is there once, but none of them the right way round.)

# %% [markdown]
# **PSinOT** puts this in front of PSin: at the two coarsest scales it alternates between a few steps in $\beta$, the matches $\psi(x) = \arg\min_y \|p_u(x) - p_{\tilde u}(y)\|^2 - \beta_y$, and the reconstruction; PSin then takes over with these matches. It is slower, since it needs all distances, and is done where the picture is small. That is where the layout is decided.

# %%
still_life = images.load("flash", size=width)
seeds = (0, 1, 2)
made_by = {
    "PSin": [synthesis.psin(still_life, levels=levels, seed=seed).image for seed in seeds],
    "PSinOT": [synthesis.psin_ot(still_life, levels=levels, seed=seed).image for seed in seeds],
}
figures.show(
    [still_life, *made_by["PSin"], still_life, *made_by["PSinOT"]],
    titles=["photograph", *(f"PSin, seed {seed}" for seed in seeds), "photograph"]
    + [f"PSinOT, seed {seed}" for seed in seeds],
    columns=4,
    width=200,
    alt="a vase, balls and books on a table; pictures of little more than wallpaper; and pictures with all of the things in another order",
    caption="The same noise, without and with transport at the coarse scales. Wallpaper is near to everything: PSin is content with it.",
)

# %%
rows = []
for name, results in made_by.items():
    costs = [
        metrics.patch_transport_cost(picture, still_life, max_patches=1000, steps=300) for picture in results
    ]
    distances = [metrics.single_image_distance(picture, still_life) for picture in results]
    diversity = metrics.pixel_diversity(torch.stack(results), reference=still_life)
    rows.append(
        [
            name,
            float(sum(costs)) / len(costs),
            1000 * float(sum(distances)) / len(distances),
            float(diversity),
        ]
    )
figures.table(
    rows,
    header=["", "transport cost (1000 patches)", "feature distance, thousandths", "diversity"],
    caption="Means over three pictures. Small costs and distances are faithful, a large diversity is various.",
)

# %% [markdown]
# **Transport as a texture model.** The price list has another use (Galerne, Leclaire & Rabin, 2018). Learn $\beta$ once, not between two pictures, but between the *endless* patches of a random texture, a Gaussian one as in exercise 3, and the exemplar's: draw some patches, make your step of exercise 10 with them, draw others, and so on. Then the map
# $T(p) = \arg\min_q \|p - q\|^2 - \beta_q$ turns the patches of *any* sample of the Gaussian texture into the exemplar's, each equally often.
#
# Synthesis needs no iteration any more: draw a coarse Gaussian texture, apply $T$ to all patches, average, enlarge, and go on with the $T$ of the next scale. The optimisation has moved from each picture to the training, which is done once: the idea behind the texture
# networks of chapter 6. Transport by a finite price list from a continuous distribution is called *semi-discrete*. (`labkit.texture_optimization.transport_texture` does this
# with one simplification: it learns $\beta$ anew for each picture, from a sample of the picture's own patches.) **Where will it fail?** Its patches are small, 3×3 pixels, and there is no second round.

# %%
shown = []
for name in ("leaves", "wood"):
    exemplar = images.load(name, size=small)
    shown += [
        exemplar,
        synthesis.random_phase_texture(exemplar, size=(side, side)),
        synthesis.transport_texture(exemplar, size=(side, side)).image,
    ]
figures.show(
    shown,
    titles=["exemplar", "Gaussian texture", "transport texture"] * 2,
    columns=3,
    width=220,
    alt="leaves and wood, each with a cloudy texture and one with sharper forms",
    caption="From a Gaussian texture to one whose patches are the exemplar's, by one transport map at each scale.",
)

# %% [markdown]
# ## 3.14 Other shapes, and pictures to order
#
# Nothing ties a new picture to the size of the old one. PSinOT fills the new shape with as many patches of each kind as the photograph has, in proportion. GPNN without noise *retargets*: it starts from the photograph *deformed* to the new size, and as its patches must be undeformed ones, things keep their shape and the space between them gives way.

# %%
height = launch_pad.shape[1]
shape = (height, 3 * width // 2)
stretched = images.resize(launch_pad, size=shape)
wider = synthesis.psin_ot(launch_pad, levels=levels, size=shape, seed=1).image
retargeted = synthesis.gpnn(launch_pad, size=shape, noise_deviation=0.0, iterations=3).image
figures.show(
    [stretched, wider, retargeted],
    titles=["merely stretched", "PSinOT", "GPNN, without noise"],
    columns=1,
    width=480,
    alt="the launch pad, half as wide again: with fat lamps, with more towers, and with more sky between them",
    caption="The photograph, half as wide again, by three methods.",
)

# %% [markdown]
# **Paint to image.** If PSin starts from a rough painting instead of noise, the layout is the painter's. Use the colours of the photograph: they are what patches are compared by. Add a second rocket, move the horizon, paint a tower, then press *Generate*. What does it do with a colour that the photograph does not have?

# %% tags=["demonstration"]
widgets.Painter(
    launch_pad,
    generate=lambda painting: synthesis.psin(launch_pad, start=painting, levels=levels).image,
    alt="a rough painting of a launch pad, and a picture of that layout with the patches of the photograph",
    caption="Paint in the colours of the photograph, then press Generate.",
)

# %% [markdown]
# ## 3.15 All methods, three textures
#
# Sand, pebbles and a wall, made half as large again by everything in this chapter. **Before you look:** which methods will do well with sand, and which one fails with the wall for certain? Then look for what each of them *cannot* do.

# %% tags=["demonstration"]
from labkit.results.texture_optimization import gallery

gallery(size=runtime.choose({"quick": 32, "laptop": 48, "gpu": 64}))

# %% [markdown]
# ## 3.16 Does it work?
#
# Cherel's thesis compares PSin, PSinOT and GPNN on 50 photographs by three numbers: feature distance and transport cost to the photograph (small is faithful) and diversity among samples (large is various). The stored tables were computed by `labkit results 03` on the course's own pictures, at 64×64 pixels, with the transport cost over all patches. Its features are random filters, not those of a trained network: compare
# *orders*, not numbers.

# %%
labkit.results.show("03")

# %%
labkit.results.show("03", table=1)

# %% [markdown]
# That PSin forgets and the other two do not holds on every picture. But PSin is *not* the most diverse here, as it is in the thesis. Look once more at the still life of section 3.13: pictures of nothing but wallpaper do not differ much. (The thesis measured 50 photographs of scenes, about four times as wide.) And whether PSinOT or GPNN is nearer to the
# photograph's patches depends on the picture. A small cost alone says little, the photograph itself has none; a small cost and a large diversity are worth something *together*.
#
# Much is decided by one ratio, that of the coarsest picture to the patch. If the coarsest picture is hardly larger than one patch, there is hardly more than one place for each, and the "new" picture may be a copy; if it is much larger, nothing holds the layout together.

# %%
labkit.results.show("03", table=3)

# %% [markdown]
# Pictures of twice the size, with patches of 11 as in the thesis:

# %%
labkit.results.show("03", table=4)

# %% [markdown]
# What does it cost? No method here is trained; these are times for one picture, start to end.

# %%
labkit.results.show("03", table=5)

# %% [markdown]
# And a row of the first table, computed here and now:

# %% tags=["demonstration"]
labkit.results.live("03", size=runtime.choose({"quick": 32, "laptop": 48, "gpu": 64}))

# %% [markdown]
# ## Go further
#
# - The exemplar itself has energy 0. Add a term that *punishes* copies: let each patch of the result forbid the shifts of its neighbours. What happens to bricks?
# - Write exercise 5 with $r = 0.8$ and your `aggregate`. Does the energy $\sum \|\cdot\|^{0.8}$ still never rise? Why may one minimise a *weighted* sum of squares instead?
# - Exact search compares every patch with every other. Replace it by chapter 2's `patchmatch`, started from the last round's field: how many iterations per round are enough?
# - The assignment of section 3.9 and the prices of section 3.13 solve the same problem when $n = m$. Compare `assign_patches` with the matches that a thousand of your `semi_dual_step` lead to. Which pairs differ, and by how much does the sum?
# - With a *temperature*, the minimum in $W$ becomes a soft minimum, and its gradient smooth (Sinkhorn). What does a high temperature do to the prices?
# - Swap the two sides in GPNN: ask that every patch of the *result* be served, with the exemplar's as queries. What does that measure?
# - PSin copies. What would you have to change to make it *invent*: a face that is in nobody's photograph? (Chapters 6 and 8 have an answer.)

# %% [markdown]
# ## Glossary
#
# | term | meaning |
# | --- | --- |
# | **texture** | a picture of which any region looks like any other; *stationary* |
# | **exemplar** $\tilde u$ | the picture that patches are taken from |
# | **synthesis** | making a new picture like the exemplar |
# | **onion skin** | the layer of unknown pixels that touch known ones, filled before the next layer |
# | **growing garbage** | surroundings that occur nowhere in the exemplar, from which a synthesis does not find back |
# | **verbatim copying** | a synthesis that repeats large pieces of the exemplar |
# | **minimum-error boundary cut** | the path through an overlap along which two blocks differ least |
# | **random phase** | the exemplar's power spectrum with a phase of noise |
# | **spot noise** | many copies of a spot (or of a texture, less its mean) added at random places |
# | **aggregation** | one picture from overlapping patches: mean, median or weighted mean |
# | **alternate minimisation** | over one unknown at a time, the others fixed |
# | **reweighted least squares** | a mean whose weights come from the last residuals; minimises $\sum \|\cdot\|^r$ for $r < 2$ |
# | **stride** | how far apart the matched patches are |
# | **assignment** (LSAP) | matches of least total cost in which every candidate is used as often as any other |
# | **lattice** | the grid of an exemplar that repeats itself |
# | **fidelity** | a term that keeps the picture near a target |
# | **complete** | of a synthesis in which every patch of the exemplar occurs |
# | **optimal transport** | the cheapest way to turn one distribution into another |
# | **semi-dual** | its value as a maximum over prices on one side |
# | **retargeting** | another size or aspect ratio with things in their own shape |

# %% [markdown]
# ## References
#
# - A. A. Efros, T. K. Leung, *Texture synthesis by non-parametric sampling*, ICCV 1999. [doi:10.1109/ICCV.1999.790383](https://doi.org/10.1109/ICCV.1999.790383)
# - A. A. Efros, W. T. Freeman, *Image quilting for texture synthesis and transfer*, SIGGRAPH 2001. [doi:10.1145/383259.383296](https://doi.org/10.1145/383259.383296)
# - B. Galerne, Y. Gousseau, J.-M. Morel, *Random phase textures: theory and synthesis*, IEEE Trans. Image Processing 2011. [doi:10.1109/TIP.2010.2052822](https://doi.org/10.1109/TIP.2010.2052822)
# - V. Kwatra, I. Essa, A. Bobick, N. Kwatra, *Texture optimization for example-based synthesis*, SIGGRAPH 2005. [doi:10.1145/1073204.1073263](https://doi.org/10.1145/1073204.1073263)
# - A. Kaspar, B. Neubert, D. Lischinski, M. Pauly, J. Kopf, *Self tuning texture optimization*, Eurographics 2015. [doi:10.1111/cgf.12565](https://doi.org/10.1111/cgf.12565)
# - J. Gutierrez, B. Galerne, J. Rabin, T. Hurtut, *Optimal patch assignment for statistically constrained texture synthesis*, SSVM 2017. [doi:10.1007/978-3-319-58771-4_14](https://doi.org/10.1007/978-3-319-58771-4_14)
# - M. Elad, P. Milanfar, *Style transfer via texture synthesis*, IEEE Trans. Image Processing 2017. [doi:10.1109/TIP.2017.2678168](https://doi.org/10.1109/TIP.2017.2678168)
# - T. R. Shaham, T. Dekel, T. Michaeli, *SinGAN: learning a generative model from a single natural image*, ICCV 2019. [doi:10.1109/ICCV.2019.00467](https://doi.org/10.1109/ICCV.2019.00467)
# - N. Granot, B. Feinstein, A. Shocher, S. Bagon, M. Irani, *Drop the GAN: in defense of patches nearest neighbors as single image generative models*, CVPR 2022. [doi:10.1109/CVPR52688.2022.01310](https://doi.org/10.1109/CVPR52688.2022.01310)
# - N. Cherel, A. Almansa, Y. Gousseau, A. Newson, *A patch-based algorithm for diverse and high fidelity single image generation*, ICIP 2022. [doi:10.1109/ICIP46576.2022.9897913](https://doi.org/10.1109/ICIP46576.2022.9897913)
# - A. Houdard, A. Leclaire, N. Papadakis, J. Rabin, *Wasserstein generative models for patch-based texture synthesis*, SSVM 2021. [doi:10.1007/978-3-030-75549-2_22](https://doi.org/10.1007/978-3-030-75549-2_22)
# - B. Galerne, A. Leclaire, J. Rabin, *A texture synthesis model based on semi-discrete optimal transport in patch space*, SIAM J. Imaging Sciences 2018. [doi:10.1137/18M1175781](https://doi.org/10.1137/18M1175781)
# - N. Cherel, doctoral thesis on internal methods for images and videos (*the thesis* in this notebook), chapter III and Algorithm 3. Equation III.4 is printed without its normalisation and III.5 with sums; this notebook corrects both.
# - J. Rabin, *Generative models, part I: patch-based methods*, lecture, ENSICAEN, from "Texture synthesis" on.

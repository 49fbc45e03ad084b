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
#   title: Filtering
#   minutes: 240
#   needs: two cores, no GPU
#   summary: Nine filters from the Gaussian to attention, and why comparing patches beats comparing pixels.
# ---

# %% [markdown]
# # 1 · Filtering
#
# Almost every filter in this chapter does one thing: it replaces a pixel by a **weighted average of pixels**.
# They differ in one decision only: *whom to average with, and how much*.
#
# $$\hat u(x) = \frac{1}{C(x)} \sum_{y \in \Omega} w(x, y)\, u(y), \qquad C(x) = \sum_{y \in \Omega} w(x, y)$$
#
# | filter | weight $w(x, y)$ asks |
# | --- | --- |
# | Gaussian, box | is $y$ near $x$? |
# | bilateral | … and has it a similar colour? |
# | cross-bilateral, guided | … a similar colour *in another picture*? |
# | rolling guidance | … in the result so far? |
# | non-local means | … do the *patches* around $x$ and $y$ look alike? |
# | attention | … do their *features*? |
#
# (Non-local PCA goes one step further: it estimates whole patches, and averages those.)
#
# By the end you will have written nine of them, know which one to take for which job, and have met the idea that carries
# the rest of the course: **compare patches**.

# %% [markdown]
# ## How this notebook works
#
# - An **exercise** is a cell with `# YOUR CODE HERE`. Replace the line that raises `NotImplementedError`, and run the cell.
# - The cell under it is its **check**. Run it as often as you like: it says what is right, and when something is wrong it
#   tells you what it looks like, with pictures.
# - **Hints** unfold, one step at a time. Each exercise says its points and about how long it takes.
# - After each exercise the notebook goes on with labkit's own function, so **you can skip one and come back**.
# - Pictures with sliders react to the mouse and to the keyboard (Tab to reach a slider, arrow keys to move it).
#
# An image is a torch tensor of shape `(channels, rows, columns)` with values from 0 (black) to 1 (white).
# Positions are always *(row, column)*. Every filter you write keeps the shape and the dtype of its input (float32 or float64), and leaves the input itself unchanged: a noisy picture may well have
# values below 0 or above 1, and they stay.
#
# `images.pad(image, amount=r, border="zero")` continues a picture by `r` pixels on every side; `border` may also be `"reflect"`, `"replicate"` or `"periodic"`. You will need it often.

# %%
import math
import time
from functools import partial

import torch
import torch.nn.functional as F

import labkit
from labkit import figures, images, metrics, runtime, widgets
from labkit.checks import filtering as check

print(runtime.summary())
side = runtime.choose({"quick": 96, "laptop": 256, "gpu": 512})  # pictures are this many pixels wide

# %%
photo = images.load("astronaut", size=side)
noisy = images.add_gaussian_noise(photo, sigma=25 / 255)

figures.show(
    [photo, noisy],
    titles=["clean photograph u", "noisy observation v = u + w, σ = 25/255"],
    alt="portrait of a smiling astronaut in an orange suit, clean and with noise",
    caption="The photograph that goes through this chapter, and the same with white Gaussian noise of standard "
    "deviation 25/255.",
)

# %% [markdown]
# Here is where we are going: the same noisy photograph after five filters of this chapter. **PSNR** (peak
# signal-to-noise ratio, in decibels; higher is better) measures how near each comes to the clean picture.

# %%
results = {
    "noisy": noisy,
    "Gaussian": labkit.filtering.gaussian_filter(noisy, sigma=1.0),
    "bilateral": labkit.filtering.bilateral_filter(noisy, sigma_space=3.0, sigma_color=0.35),
    "guided": labkit.filtering.guided_filter(noisy, radius=3, eps=0.02),
    "non-local means": labkit.filtering.nonlocal_means(noisy, h=0.65 * 25 / 255, sigma=25 / 255),
    "non-local PCA": labkit.filtering.nonlocal_pca(noisy, sigma=25 / 255),
}
figures.show(
    list(results.values()),
    titles=[f"{name}, {metrics.psnr(image, photo):.1f} dB" for name, image in results.items()],
    columns=3,
    width=256,
    alt="the astronaut's portrait after a filter",
    caption="One noisy photograph, five answers. The Gaussian blurs edges and noise alike; the others look before they "
    "average.",
)

# %% [markdown]
# ## 1.1 Gaussian filter
#
# The oldest answer: near pixels count more.
#
# $$\hat u(x) = \frac{1}{C(x)} \sum_{y \in \Omega} u(y)\, e^{-\frac{\|x - y\|^2}{2\sigma^2}}, \qquad
# C(x) = \sum_{y \in \Omega} e^{-\frac{\|x - y\|^2}{2\sigma^2}}$$
#
# Three practical questions decide whether it is right and fast:
#
# 1. **How far to sum?** The weights fall off quickly, so we keep a window $|x_1 - y_1| \le r$, $|x_2 - y_2| \le r$ (the *radius* $r$).
# 2. **What happens at the border?** The sum runs over $y \in \Omega$, pixels that exist. Near the border there are fewer of
#    them, so $C(x)$ is smaller there: *it depends on $x$*. (Other conventions invent the missing pixels:
#    zeros – Dirichlet –, mirrored – Neumann –, or periodic.)
# 3. **How much work?** A window of side $2r + 1$ has $(2r + 1)^2$ pixels. But $e^{-\|x-y\|^2 / 2\sigma^2}$ is a product of a function of the row and one
#    of the column: the filter is **separable**, and so is $C(x)$. Smooth along the rows, then smooth the result along the columns: $2(2r + 1)$ operations per pixel.

# %% [markdown]
# ### Exercise 1 · `gaussian_filter` (2 points, about 20 minutes)
#
# Write `gaussian_filter(image, sigma, radius)`. `image` is a tensor `(C, H, W)`; the result has the same shape and dtype. Average over the pixels
# *inside the picture* only, and divide by their own sum of weights $C(x)$. Use two one-dimensional passes. Each channel is filtered
# by itself.
#
# <details><summary>Hint 1: the two passes</summary>
#
# `F.conv2d(u, kernel, padding=(0, radius))` with a kernel of shape `(1, 1, 1, 2 * radius + 1)` sums along the rows; a kernel of shape
# `(1, 1, 2 * radius + 1, 1)` with `padding=(radius, 0)` along the columns. `conv2d` wants `(N, 1, H, W)`: let the channels be the batch, `image[:, None]`.
# </details>
#
# <details><summary>Hint 2: the weights</summary>
#
# `t = torch.arange(-radius, radius + 1, dtype=image.dtype)` are the distances, both ends included, and the weights are
# $e^{-t^2 / (2\sigma^2)}$. They must be divided by their sum somewhere, or the picture gets brighter.
# </details>
#
# <details><summary>Hint 3: C(x) at the border</summary>
#
# `conv2d` pads with zeros, so the weighted sum of $u$ is already right: the pixels outside add nothing. What is $C(x)$? The same weighted sum of a
# picture whose pixels are all 1. Filter `torch.ones_like(u)` the same way and divide.
# </details>


# %% exercise="gaussian_filter"
def gaussian_filter(image, sigma, radius):
    """Gaussian filter of an image (C, H, W); only pixels inside the picture count."""
    ### BEGIN SOLUTION
    x = torch.arange(-radius, radius + 1, dtype=image.dtype)
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    u = image[:, None]
    total, norm = u, torch.ones_like(u)
    for kernel, padding in (
        (weights[None, None, None, :], (0, radius)),
        (weights[None, None, :, None], (radius, 0)),
    ):
        total = F.conv2d(total, kernel, padding=padding)
        norm = F.conv2d(norm, kernel, padding=padding)
    return (total / norm)[:, 0]
    ### END SOLUTION


# %% check="gaussian_filter"
check.gaussian_filter(gaussian_filter)

# %% [markdown]
# Now play. What does a small σ leave of the noise? What does a large one leave of the face? Look at the border when you change the
# border condition: which one lets black leak in from outside?

# %% tags=["demonstration"]
widgets.Explorer(
    labkit.filtering.gaussian_filter,
    noisy,
    sigma=(0.3, 10.0, 1.5),
    border=["reflect", "normalized", "zero", "periodic", "replicate"],
    upload=True,
    alt="the noisy portrait, smoothed by a Gaussian",
    caption="Gaussian filter. Choose a picture of your own with the upload button.",
)

# %% [markdown]
# **Difference of Gaussians.** What a narrow Gaussian keeps and a wide one loses is detail of one size: the difference of two Gaussians is
# an edge detector, and close to what the ganglion cells of our retina compute.

# %%
dog = labkit.filtering.difference_of_gaussians(photo, sigma=1.0)
figures.show(
    [photo, (0.5 + 3 * dog).clamp(0, 1)],
    titles=["u", "difference of Gaussians, σ = 1 and 1.6"],
    alt="the portrait and its edges in grey relief",
    caption="Flat regions become grey; edges stand out, light on one side and dark on the other.",
)

# %% [markdown]
# ## 1.2 Box filter
#
# A cruder average: all pixels of the window count the same,
#
# $$\hat u(x) = \frac{1}{|W(x)|} \sum_{y \in W(x)} u(y), \qquad W(x) = \{ y \in \Omega : \|y - x\|_\infty \le r \}.$$
#
# Its charm is its price. Build once the **integral image** $S(i, j) = \sum_{i' < i,\, j' < j} u(i', j')$, the sum of everything above and to the left. Then the sum over
# *any* rectangle takes four look-ups:
#
# $$\sum_{t \le i < b}\ \sum_{l \le j < e} u(i, j) = S(b, e) - S(t, e) - S(b, l) + S(t, l)$$
#
# where row $b$ and column $e$ are the first *outside*. $S$ has $H + 1$ rows and $W + 1$ columns, the first of each all zeros. Four look-ups, whatever the size: a box of radius 50 costs no more than one of radius 1.

# %% [markdown]
# ### Exercise 2 · `box_filter` (2 points, about 25 minutes)
#
# Write `box_filter(image, radius)` with an integral image. The window of a pixel has $2r + 1$ rows and columns, *cut at the border of the picture*; divide by
# the number of pixels that are left in it. (The check compares values only; the integral image is what makes it fast.)
#
# <details><summary>Hint 1: the integral image</summary>
#
# `image.cumsum(1).cumsum(2)` sums from the top-left corner. Rows are axis 1, columns axis 2.
# </details>
#
# <details><summary>Hint 2: half-open windows</summary>
#
# Let $S$ have one row and one column of zeros in front, `F.pad(S, (1, 0, 1, 0))`, so that `S[:, i, j]` is the sum of the `i` first rows and `j` first columns.
# The window of row `y` then starts at `top = y - radius` and ends *before* `bottom = y + radius + 1`; clamp both to `0 … H`. With index tensors,
# `S[:, bottom][:, :, right]` looks up all pixels at once.
# </details>
#
# <details><summary>Hint 3: area and digits</summary>
#
# The window holds `(bottom - top)[:, None] * (right - left)[None, :]` pixels. And $S$ grows up to the sum of the whole picture, hundreds of thousands, while float32
# keeps seven digits: the differences of such sums have lost the rest. Sum in `float64` and convert at the end.
# </details>


# %% exercise="box_filter"
def box_filter(image, radius):
    """Average over the window of half-width `radius`, cut at the border, by an integral image."""
    ### BEGIN SOLUTION
    height, width = image.shape[-2:]
    table = F.pad(image.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    rows, columns = torch.arange(height), torch.arange(width)
    top, bottom = (rows - radius).clamp(min=0), (rows + radius + 1).clamp(max=height)
    left, right = (columns - radius).clamp(min=0), (columns + radius + 1).clamp(max=width)
    total = (
        table[:, bottom][:, :, right]
        - table[:, top][:, :, right]
        - table[:, bottom][:, :, left]
        + table[:, top][:, :, left]
    )
    area = (bottom - top)[:, None] * (right - left)[None, :]
    return (total / area).to(image.dtype)
    ### END SOLUTION


# %% check="box_filter"
check.box_filter(box_filter)

# %% [markdown]
# Does the cost depend on the radius? Time it, next to the direct Gaussian sum, whose cost grows with the window:

# %% tags=["demonstration"]
labkit.filtering.box_filter(
    photo, radius=1
)  # the first call loads compiled code; leave that out of the timing
rows = []
for radius in (1, 4, 16):
    start = time.perf_counter()
    labkit.filtering.box_filter(photo, radius=radius)
    middle = time.perf_counter()
    labkit.filtering.gaussian_filter(photo, sigma=radius / 2, radius=radius, method="direct")
    rows.append([f"radius {radius}", 1000 * (middle - start), 1000 * (time.perf_counter() - middle)])
figures.table(
    rows,
    header=["", "box filter, ms", "Gaussian, direct sum, ms"],
    caption="The integral image does not care how large the window is.",
)

# %% [markdown]
# A box is no Gaussian: its Fourier transform is a sinc, which lets some fine stripes through and even inverts them. But three boxes in a row come
# close to a Gaussian (the central limit theorem at work), still at a cost that does not depend on σ.

# %% tags=["demonstration"]
once = labkit.filtering.box_filter(photo, radius=6)
thrice = photo
for _ in range(3):
    thrice = labkit.filtering.box_filter(thrice, radius=6)
same = labkit.filtering.gaussian_filter(
    photo, sigma=math.sqrt(3 * (13**2 - 1) / 12)
)  # a box of side n has variance (n² - 1)/12
figures.show(
    [once, thrice, same],
    titles=[
        "one box",
        f"three boxes, {metrics.psnr(thrice, same):.0f} dB from →",
        "Gaussian of the same variance",
    ],
    alt="the portrait, smoothed",
    caption="One box leaves rectangular streaks; three are hard to tell from a Gaussian.",
)

# %% [markdown]
# **Not every filter is an average.** The *median* of the window ignores outliers altogether, which makes it the tool against salt-and-pepper noise; smallest and largest value
# give the *erosion* and *dilation* of mathematical morphology.

# %% tags=["demonstration"]
peppered = images.add_salt_and_pepper_noise(photo, amount=0.15)
figures.show(
    [
        peppered,
        labkit.filtering.gaussian_filter(peppered, sigma=1.2),
        labkit.filtering.median_filter(peppered, radius=1),
    ],
    titles=["15 % of the pixels lost", "Gaussian, σ = 1.2", "median, 3×3"],
    alt="the portrait with black and white dots, and two repairs",
    caption="An average spreads every outlier over its neighbours; the median throws it away.",
)

# %% [markdown]
# ## 1.3 Bilateral filter
#
# The Gaussian blurs edges because it averages across them. The **bilateral filter** (Tomasi & Manduchi, 1998) asks a second question before it trusts a neighbour: *is its colour like
# mine?*
#
# $$\hat u(x) = \frac{1}{C(x)} \sum_{y \in \Omega} u(y)\;
# \underbrace{e^{-\frac{\|x - y\|^2}{2\sigma^2}}}_{\text{near in space}}\;
# \underbrace{e^{-\frac{\|u(x) - u(y)\|^2}{2h^2}}}_{\text{near in colour}}$$
#
# $\|u(x) - u(y)\|^2 = \sum_i (u_i(x) - u_i(y))^2$ compares whole *colours*: there is one weight for the three channels. The weights now depend on the picture itself, so this is no
# convolution any more: no separability, no Fourier transform. We loop over the $(2r + 1)^2$ offsets of the window instead, and treat all pixels at once for each.

# %% [markdown]
# ### Exercise 3 · `bilateral_filter` (2 points, about 25 minutes)
#
# Write `bilateral_filter(image, sigma_space, sigma_color, radius)`, with $\sigma$ = `sigma_space` (pixels) and $h$ = `sigma_color` (intensity). The sum runs over the square window of half-width `radius`,
# pixels inside the picture only.
#
# <details><summary>Hint 1: all pixels at once</summary>
#
# Loop over `dy` and `dx` from `-radius` to `radius`. For one offset, the neighbours of *all* pixels form a picture: the same picture, moved by `(dy, dx)`. Keep two running sums,
# `total` (weight × neighbour) and `norm` (weight), and return `total / norm` at the end.
# </details>
#
# <details><summary>Hint 2: one weight for a colour</summary>
#
# `((neighbour - image) ** 2).sum(0, keepdim=True)` has shape `(1, H, W)` and multiplies all channels by broadcasting.
# </details>
#
# <details><summary>Hint 3: the moved picture, and the pixels that do not exist</summary>
#
# Pad once, `padded = images.pad(image, amount=radius, border="zero")`; the neighbours at `(dy, dx)` are
# `padded[:, radius + dy : radius + dy + H, radius + dx : radius + dx + W]`. Pad a picture of ones the same way: it is 0 where the neighbour lies outside, and multiplying the weight with it
# leaves those out. And `range(-radius, radius + 1)` includes both ends.
# </details>


# %% exercise="bilateral_filter"
def bilateral_filter(image, sigma_space, sigma_color, radius):
    """Average of the near pixels of a similar colour."""
    ### BEGIN SOLUTION
    height, width = image.shape[-2:]
    padded = images.pad(image, amount=radius, border="zero")
    inside = images.pad(torch.ones_like(image[:1]), amount=radius, border="zero")
    total, norm = torch.zeros_like(image), torch.zeros_like(image[:1])
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            rows = slice(radius + dy, radius + dy + height)
            columns = slice(radius + dx, radius + dx + width)
            neighbour = padded[:, rows, columns]
            near_in_space = math.exp(-(dy**2 + dx**2) / (2 * sigma_space**2))
            near_in_color = torch.exp(-((neighbour - image) ** 2).sum(0, keepdim=True) / (2 * sigma_color**2))
            weight = near_in_space * near_in_color * inside[:, rows, columns]
            total = total + weight * neighbour
            norm = norm + weight
    return total / norm
    ### END SOLUTION


# %% check="bilateral_filter"
check.bilateral_filter(bilateral_filter)

# %%
figures.show(
    [
        photo,
        labkit.filtering.gaussian_filter(photo, sigma=3.0),
        labkit.filtering.bilateral_filter(photo, sigma_space=3.0, sigma_color=0.2),
    ],
    titles=["u", "Gaussian, σ = 3", "bilateral, σ = 3, h = 0.2"],
    alt="the portrait",
    caption="The same window, two decisions: the bilateral filter flattens skin and cloth and keeps their outlines.",
)

# %% [markdown]
# Find the two limits with the sliders: which filter do you get for a large $h$? What happens for a very small one? On the noisy picture, why does a small $h$ leave isolated
# specks?

# %% tags=["demonstration"]
widgets.Explorer(
    labkit.filtering.bilateral_filter,
    {"photograph": photo, "noisy photograph": noisy},
    sigma_space=(0.5, 8.0, 3.0),
    sigma_color=(0.02, 1.0, 0.2),
    upload=True,
    alt="the portrait after a bilateral filter",
    caption="Bilateral filter: σ in pixels, h in intensity.",
)

# %% [markdown]
# ## 1.4 Cross-bilateral filter
#
# Nothing says that the colours we *compare* must be those we *average*. A room photographed without flash has the right mood and too few photons; with flash it is sharp and cold.
# The **cross-bilateral filter** (Eisemann & Durand, 2004; Petschnigg et al., 2004) takes the values from one picture $u$ and the weights from another, the guide $g$:
#
# $$\hat u(x) = \frac{1}{C(x)} \sum_{y \in \Omega} u(y)\; e^{-\frac{\|x - y\|^2}{2\sigma^2}}\; e^{-\frac{\|g(x) - g(y)\|^2}{2h^2}}$$

# %%
flash, no_flash, truth = (images.load(name) for name in ("flash", "no_flash", "no_flash_clean"))
figures.show(
    [flash, no_flash],
    titles=["guide g: with flash", "picture u: without flash"],
    alt="a still life on a table",
    caption="The same still life, drawn by labkit: with flash (sharp, cold, hard shadows), and by lamplight (warm, dim, "
    "noisy).",
)

# %% [markdown]
# ### Exercise 4 · `cross_bilateral_filter` (2 points, about 15 minutes)
#
# Write `cross_bilateral_filter(image, guide, sigma_space, sigma_color, radius)`. `image` and `guide` have the same height and width; either may have one channel or three.
#
# <details><summary>Hint 1: who gives what</summary>
#
# Start from your bilateral filter. The neighbours that are *averaged* come from `image`; the two colours that are *compared* both come from `guide`.
# </details>
#
# <details><summary>Hint 2: padding</summary>
#
# You need three padded pictures now: `image`, `guide` and the ones. The exponent compares `guide_neighbour - guide`, summed over the guide's channels.
# </details>


# %% exercise="cross_bilateral_filter"
def cross_bilateral_filter(image, guide, sigma_space, sigma_color, radius):
    """Average of the near pixels of `image` whose colours in `guide` are similar."""
    ### BEGIN SOLUTION
    height, width = image.shape[-2:]
    padded = images.pad(image, amount=radius, border="zero")
    padded_guide = images.pad(guide, amount=radius, border="zero")
    inside = images.pad(torch.ones_like(image[:1]), amount=radius, border="zero")
    total, norm = torch.zeros_like(image), torch.zeros_like(image[:1])
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            rows = slice(radius + dy, radius + dy + height)
            columns = slice(radius + dx, radius + dx + width)
            near_in_space = math.exp(-(dy**2 + dx**2) / (2 * sigma_space**2))
            difference = padded_guide[:, rows, columns] - guide
            near_in_color = torch.exp(-(difference**2).sum(0, keepdim=True) / (2 * sigma_color**2))
            weight = near_in_space * near_in_color * inside[:, rows, columns]
            total = total + weight * padded[:, rows, columns]
            norm = norm + weight
    return total / norm
    ### END SOLUTION


# %% check="cross_bilateral_filter"
check.cross_bilateral_filter(cross_bilateral_filter)

# %%
own = labkit.filtering.bilateral_filter(no_flash, sigma_space=3.0, sigma_color=0.3)
crossed = labkit.filtering.cross_bilateral_filter(no_flash, guide=flash, sigma_space=3.0, sigma_color=0.1)
figures.show(
    [no_flash, own, crossed, truth],
    columns=2,
    titles=[
        f"without flash, {metrics.psnr(no_flash, truth):.1f} dB",
        f"bilateral, its own guide, {metrics.psnr(own, truth):.1f} dB",
        f"cross-bilateral, {metrics.psnr(crossed, truth):.1f} dB",
        "the same without photon noise",
    ],
    alt="the still life by lamplight",
    caption="The guide knows where the edges are, even where noise has drowned them.",
)

# %% [markdown]
# Where does it fail? Look for places where the guide has an edge that the lamplight picture has not (the flash throws shadows of its own), and the other way round.

# %% tags=["demonstration"]
widgets.Explorer(
    partial(labkit.filtering.cross_bilateral_filter, guide=flash),
    no_flash,
    sigma_space=(0.5, 8.0, 3.0),
    sigma_color=(0.02, 1.0, 0.1),
    alt="the still life by lamplight, denoised with the flash picture as guide",
    caption="Cross-bilateral filter with the flash picture as guide.",
)

# %% [markdown]
# ## 1.5 Guided filter
#
# The bilateral filter visits $(2r + 1)^2$ neighbours per pixel. The **guided filter** (He, Sun & Tang, 2010) reaches a similar result with box filters only, so its cost does not depend on the radius.
# It assumes that in every window $W$ the result is a *linear function of the guide*, $\hat u = a\,g + b$, and fits $a$ and $b$ by least squares, with a small price
# on the slope, $\min_{a, b} \sum_{y \in W} \big[ (a\, g(y) + b - u(y))^2 + \varepsilon a^2 \big]$:
#
# $$a_W = \frac{\operatorname{cov}_W(g, u)}{\operatorname{var}_W(g) + \varepsilon}, \qquad b_W = \bar u_W - a_W\, \bar g_W.$$
#
# A pixel lies in many windows, and each window that contains $x$ offers the value $a_W\, g(x) + b_W$ *at* $x$. The result is the mean of these offers: average $a$ and $b$ first, then apply them to $g(x)$.
#
# $$\hat u(x) = \bar a(x)\, g(x) + \bar b(x), \qquad \bar a(x) = \frac{1}{|W(x)|}\sum_{W \ni x} a_W, \quad \bar b(x) \text{ likewise}.$$
#
# On a flat window $\operatorname{var}(g) \ll \varepsilon$, so $a \approx 0$ and the result is the mean: smoothing. Across an edge $\operatorname{var}(g) \gg \varepsilon$, so $a \approx \operatorname{cov}/\operatorname{var}$ and the
# edge of the guide comes through. When a picture guides itself ($g = u$) the slope is $a = \operatorname{var}/(\operatorname{var} + \varepsilon)$.
#
# *(He and the lecture write the ridge term λ or ε; here it is ε, a squared intensity: "variance below which a window counts as flat".)*

# %% [markdown]
# ### Exercise 5 · `guided_filter` (3 points, about 30 minutes)
#
# Write `guided_filter(image, guide, radius, eps)` for a **grey** guide `(1, H, W)`; `image` has one or three channels, each filtered with that guide. All means are box filters over the window cut at the border: use
# `labkit.filtering.box_filter(x, radius=radius, border="normalized")`, or your own.
#
# <details><summary>Hint 1: covariance from means</summary>
#
# $\operatorname{cov}(g, u) = \overline{g u} - \bar g\, \bar u$ and $\operatorname{var}(g) = \overline{g^2} - \bar g^2$: four box filters.
# </details>
#
# <details><summary>Hint 2: the coefficients</summary>
#
# `a = cov / (var + eps)` and `b = mean_image - a * mean_guide`. All of them are whole pictures; `(1, H, W)` broadcasts against `(3, H, W)`.
# </details>
#
# <details><summary>Hint 3: the second average, and digits</summary>
#
# Every window that contains $x$ is centred at a pixel of the window around $x$: so $\bar a$ and $\bar b$ are box filters of `a` and `b`. For a small ε, do the arithmetic in float64: the variance
# is a small difference of two larger numbers.
# </details>


# %% exercise="guided_filter"
def guided_filter(image, guide, radius, eps):
    """Edge-preserving smoothing by a linear fit on a grey guide in every window."""

    ### BEGIN SOLUTION
    def mean(x):
        return labkit.filtering.box_filter(x, radius=radius, border="normalized")

    u, g = image.double(), guide.double()
    mean_guide, mean_image = mean(g), mean(u)
    covariance = mean(g * u) - mean_guide * mean_image
    variance = mean(g * g) - mean_guide**2
    a = covariance / (variance + eps)
    b = mean_image - a * mean_guide
    return (mean(a) * g + mean(b)).to(image.dtype)
    ### END SOLUTION


# %% check="guided_filter"
check.guided_filter(guided_filter)

# %% [markdown]
# A grey guide cannot see an edge between two colours of the same brightness. With a **colour guide** the slope becomes a vector, $\hat u = a^\top g + b$ with $a = (\Sigma_W + \varepsilon I)^{-1} \operatorname{cov}_W(g, u)$ and $\Sigma_W$ the
# 3×3 covariance of the guide's colours. `labkit.filtering.guided_filter` does that when it is given a colour guide.

# %%
square = torch.zeros(3, 96, 96) + torch.tensor([0.80, 0.30, 0.30])[:, None, None]
square[:, 24:72, 24:72] = torch.tensor([0.30, 0.5549, 0.30])[:, None, None]  # another colour, the same grey
bright = square.mean(0, keepdim=True) + torch.where(square[1:2] > 0.4, 0.4, 0.0)
rough = images.add_gaussian_noise(bright, sigma=0.1)
by_grey = labkit.filtering.guided_filter(rough, guide=images.to_grey(square), radius=5, eps=1e-3)
by_color = labkit.filtering.guided_filter(rough, guide=square, radius=5, eps=1e-3)
figures.show(
    [square, images.to_grey(square), rough, by_grey, by_color],
    titles=[
        "colour guide",
        "the guide in grey",
        "picture to filter",
        "with the grey guide",
        "with the colour guide",
    ],
    width=180,
    alt="a square on a background",
    caption="Two colours of the same brightness: in grey the guide is blind, and the edge is blurred.",
)

# %% tags=["demonstration"]
widgets.Explorer(
    labkit.filtering.guided_filter,
    {"photograph": photo, "noisy photograph": noisy},
    radius=(1, 16, 4),
    eps=(1e-4, 1.0, 0.02),
    upload=True,
    alt="the portrait after a guided filter",
    caption="Guided filter, the picture guides itself. Radius in pixels, ε in squared intensity.",
)

# %% [markdown]
# ## 1.6 Rolling guidance
#
# How do we remove *texture* (small things of high contrast) and keep *structure* (large things)? The bilateral filter cannot: texture has high contrast, so it is kept. Iterating it does not help either.
# **Rolling guidance** (Zhang et al., 2014) starts from a picture whose small things are gone, the Gaussian filter of $u$, and uses it as the *guide* of a cross-bilateral filter of the *original*. The result has sharper
# edges, and becomes the next guide:
#
# $$u_1 = G_\sigma * u, \qquad u_{k+1}(x) = \frac{1}{C(x)} \sum_{y \in \Omega} \underbrace{u(y)}_{\text{always the original}}\, e^{-\frac{\|x - y\|^2}{2\sigma^2}}\; e^{-\frac{\|u_k(x) - u_k(y)\|^2}{2h^2}}$$
#
# What was erased by the Gaussian never comes back, because no guide shows it; what was merely blurred gets sharp again. This is *not* iterating the filter: there, $u(y)$ would be $u_k(y)$.

# %% [markdown]
# ### Exercise 6 · `rolling_guidance_filter` (2 points, about 15 minutes)
#
# Write `rolling_guidance_filter(image, sigma_space, sigma_color, iterations, radius)`, which returns $u_k$ for $k$ = `iterations`: the Gaussian filter is
# the first iteration, and `iterations - 1` cross-bilateral passes follow. You may call
# `labkit.filtering.gaussian_filter(image, sigma=…, radius=…, border="normalized")` and
# `labkit.filtering.cross_bilateral_filter(image, guide=…, sigma_space=…, sigma_color=…, radius=…)`, or your own functions.
#
# <details><summary>Hint 1: who is averaged</summary>
#
# In every pass the *original* `image` is averaged. Only the guide changes.
# </details>
#
# <details><summary>Hint 2: the first guide</summary>
#
# The first guide is the Gaussian filter of the picture with the same σ and radius. With the picture itself as the first guide, its texture would survive.
# </details>
#
# <details><summary>Hint 3: counting</summary>
#
# `iterations=1` is the Gaussian alone; `iterations=2` is the Gaussian and *one* cross-bilateral pass.
# </details>


# %% exercise="rolling_guidance_filter"
def rolling_guidance_filter(image, sigma_space, sigma_color, iterations, radius):
    """Remove what is smaller than sigma_space, keep the edges of what is larger."""
    ### BEGIN SOLUTION
    result = labkit.filtering.gaussian_filter(image, sigma=sigma_space, radius=radius, border="normalized")
    for _ in range(iterations - 1):
        result = labkit.filtering.cross_bilateral_filter(
            image, guide=result, sigma_space=sigma_space, sigma_color=sigma_color, radius=radius
        )
    return result
    ### END SOLUTION


# %% check="rolling_guidance_filter"
check.rolling_guidance_filter(rolling_guidance_filter)

# %%
stone = images.load("terrazzo")
settings = {"sigma_space": 3.0, "sigma_color": 0.1}
rolled = labkit.filtering.rolling_guidance_filter(stone, iterations=5, **settings)
iterated = stone
for _ in range(5):
    iterated = labkit.filtering.bilateral_filter(iterated, **settings)

figures.show(
    [stone, iterated, rolled],
    titles=["u", "bilateral filter, 5 times", "rolling guidance, 5 iterations"],
    alt="stone chips of two sizes in pale cement",
    caption="Iterating the filter keeps the smallest chips, whose contrast is high. Rolling guidance removes what is "
    "smaller than σ, but for faint smudges, and keeps the large chips, at the price of rounded corners.",
)

# %% tags=["demonstration"]
widgets.Explorer(
    labkit.filtering.rolling_guidance_filter,
    {"terrazzo": stone, "photograph": photo},
    sigma_space=(0.5, 6.0, 3.0),
    sigma_color=(0.02, 0.5, 0.1),
    iterations=(1, 8, 4),
    upload=True,
    alt="a picture after rolling guidance",
    caption="Rolling guidance: σ is the size of what is removed.",
)

# %% [markdown]
# ## 1.7 Non-local means
#
# All these filters compare *single pixels*, and a single noisy pixel says little. **Non-local means** (Buades, Coll & Morel, 2005) compares the **patches** around them. A patch $p_u(x)$ of side $n$ holds
# the $c\,n^2$ values of the $c$ channels of $u$ at $x + t$, $t \in \omega$, the $n \times n$ square around 0; so $x$ is its centre pixel, and the picture is mirrored at its border (without repeating the edge pixel) so that every pixel has a patch.
#
# $$\hat u(x) = \frac{1}{C(x)} \sum_{y \in W(x)} u(y)\; \exp\!\left(- \frac{\max(d^2(x, y) - 2\sigma^2,\, 0)}{h^2}\right), \qquad
# d^2(x, y) = \frac{1}{c\,n^2}\, \| p_u(x) - p_u(y) \|^2$$
#
# - $d^2$ is the **mean** squared difference, over the pixels of the patch and the channels.
# - Two patches that are equal but for noise of variance $\sigma^2$ differ by $2\sigma^2$ on average: that much is forgiven.
# - $W(x)$ is a square window: $y$ may be far from $x$. Inside the window, distance plays no role.
#
# With patches of one pixel and σ = 0 this is a bilateral filter with a flat window (and another scale of $h$).

# %% [markdown]
# ### Exercise 7 · `nonlocal_means` (3 points, about 35 minutes)
#
# Write `nonlocal_means(image, patch_size, window_size, h, sigma)`. `patch_size` and `window_size` are odd *sides*, in pixels. The window holds the pixels inside the picture only. Patches at the border see the mirrored picture:
# `images.pad(image, amount=patch_size // 2, border="reflect")`.
#
# <details><summary>Hint 1: the same loop</summary>
#
# It is the bilateral filter's loop over offsets, from `-(window_size // 2)` to `window_size // 2`, with another weight. The pixel itself is one of the candidates.
# </details>
#
# <details><summary>Hint 2: all patches at once</summary>
#
# `F.unfold(padded[None], patch_size)` puts the patch of every pixel into a column; `.reshape(-1, H, W)` makes a "picture" with $c\,n^2$ channels. Compare it with itself moved by the offset; the *mean* of the squared
# differences over axis 0 is $d^2$, one number for all channels of the image.
# </details>
#
# <details><summary>Hint 3: the weight</summary>
#
# `torch.exp(-(d2 - 2 * sigma**2).clamp(min=0) / h**2)`, times 0 where the offset leads outside the picture.
# </details>


# %% exercise="nonlocal_means"
def nonlocal_means(image, patch_size, window_size, h, sigma):
    """Average of the pixels whose patches look alike."""
    ### BEGIN SOLUTION
    height, width = image.shape[-2:]
    reach = window_size // 2
    mirrored = images.pad(image, amount=patch_size // 2, border="reflect")
    patches = F.unfold(mirrored[None], patch_size).reshape(-1, height, width)
    padded = images.pad(image, amount=reach, border="zero")
    padded_patches = images.pad(patches, amount=reach, border="zero")
    inside = images.pad(torch.ones_like(image[:1]), amount=reach, border="zero")
    total, norm = torch.zeros_like(image), torch.zeros_like(image[:1])
    for dy in range(window_size):
        for dx in range(window_size):
            rows, columns = slice(dy, dy + height), slice(dx, dx + width)
            d2 = ((padded_patches[:, rows, columns] - patches) ** 2).mean(0, keepdim=True)
            weight = torch.exp(-(d2 - 2 * sigma**2).clamp(min=0) / h**2) * inside[:, rows, columns]
            total = total + weight * padded[:, rows, columns]
            norm = norm + weight
    return total / norm
    ### END SOLUTION


# %% check="nonlocal_means"
check.nonlocal_means(nonlocal_means)

# %% [markdown]
# **Whom does each filter trust?** Click a pixel (or move the cross with the arrow keys): the maps show the weight that each filter gives to the pixels around it. Try a flat region, an edge, and a thin line, on the noisy
# picture. Which filter still finds the line?

# %% tags=["demonstration"]
weights_at = labkit.filtering.weights_at
widgets.WeightsExplorer(
    noisy,
    {
        "Gaussian": partial(weights_at, filter="gaussian", sigma=3.0),
        "bilateral": partial(weights_at, filter="bilateral", sigma_space=3.0, sigma_color=0.35),
        "guided": partial(weights_at, filter="guided", radius=5, eps=0.02),
        "rolling guidance": partial(weights_at, filter="rolling_guidance", sigma_space=3.0, sigma_color=0.1),
        "non-local means": partial(weights_at, filter="nonlocal_means", h=0.1, sigma=25 / 255),
    },
    pixel=(3 * side // 5, side // 10),
    alt="the noisy portrait with a cross on the chosen pixel, and the weights that each filter gives its neighbours",
    caption="The weights that five filters give to the neighbours of one pixel of the noisy photograph.",
)

# %% tags=["demonstration"]
widgets.Explorer(
    labkit.filtering.nonlocal_means,
    noisy,
    patch_size=(1, 9, 5, 2),
    window_size=(9, 31, 21, 2),
    h=(0.01, 0.3, 0.064),
    sigma=(0.0, 0.2, 0.1),
    upload=True,
    alt="the noisy portrait after non-local means",
    caption="Non-local means. With patches of one pixel it is as blind as the bilateral filter.",
)

# %% [markdown]
# ## 1.8 Non-local PCA
#
# Non-local means returns an average *pixel*. Why not estimate whole *patches*, and let every pixel collect the opinions of all patches it belongs to? **Patch PCA** (Deledalle, Salmon & Dalalyan, 2011) does so in three steps:
#
# 1. Collect the patches of a window (or of the whole picture), as vectors $p \in \mathbb{R}^D$; let $\bar p$ be the mean patch and $v_1, \dots, v_D$ the eigenvectors of their covariance: their PCA basis.
# 2. **Filtered projection**: the picture is concentrated in a few directions, noise spreads evenly over all. So keep the large coefficients only,
#    $$\hat p = \bar p + \sum_{k=1}^{D} \rho\big(\langle p - \bar p, v_k \rangle\big)\, v_k, \qquad \rho(z) = \begin{cases} z & |z| > \tau \\ 0 & \text{otherwise.}\end{cases}$$
#    Noise alone gives coefficients of standard deviation σ; few of $D$ such numbers exceed $\tau = 2.75\,\sigma$, a good default.
# 3. **Aggregation**: every pixel is the average of the estimates of all patches that contain it. That is $n^2$ of them inside the picture, and fewer near its border.

# %% [markdown]
# ### Exercise 8 · `pca_filter` (2 points, about 35 minutes)
#
# Write `pca_filter(image, patch_size, threshold)`: the three steps, with *all* patches of the picture in one group. `labkit.patches.extract_patches(image, patch_size=patch_size)` gives the patches, shape `(N, D)` with $D = c\,n^2$; each
# patch lies inside the picture.
#
# <details><summary>Hint 1: the basis</summary>
#
# $\bar p$ is the mean over the patches (`patches.mean(0)`, one vector of length $D$). With `centred = patches - mean`, the covariance is `centred.T @ centred / len(centred)`, and `torch.linalg.eigh` returns its eigenvectors as the **columns** of
# the second output. The coefficients of all patches are `centred @ basis`.
# </details>
#
# <details><summary>Hint 2: the threshold</summary>
#
# `torch.where(z.abs() > threshold, z, 0)` keeps or kills each coefficient of each patch by itself. Back with `@ basis.T`, and do not forget the mean.
# </details>
#
# <details><summary>Hint 3: aggregation</summary>
#
# `F.fold(estimates.T[None], (H, W), patch_size)[0]` adds overlapping patches up, in the same order in which `extract_patches` takes them. Fold a tensor of ones the same way to count how many patches cover each pixel, and divide.
# </details>


# %% exercise="pca_filter"
def pca_filter(image, patch_size, threshold):
    """Patch PCA with a hard threshold, then the average of the overlapping patches."""
    ### BEGIN SOLUTION
    patches = labkit.patches.extract_patches(image, patch_size=patch_size)
    mean = patches.mean(0)
    centred = patches - mean
    basis = torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors
    coefficients = centred @ basis
    kept = torch.where(coefficients.abs() > threshold, coefficients, 0)
    estimates = kept @ basis.T + mean
    total = F.fold(estimates.T[None], image.shape[-2:], patch_size)[0]
    count = F.fold(torch.ones_like(estimates).T[None], image.shape[-2:], patch_size)[0]
    return total / count
    ### END SOLUTION


# %% check="pca_filter"
check.pca_filter(pca_filter)

# %% [markdown]
# **Global or local?** One basis for the whole picture has to serve skin, cloth and stars alike. Non-local PCA finds one in every window. On a tiny picture the two are equal; the gain grows with the size, and with it the variety:

# %%
whole = labkit.filtering.pca_filter(noisy, patch_size=7, threshold=2.75 * 25 / 255)
local = labkit.filtering.nonlocal_pca(noisy, sigma=25 / 255)
figures.show(
    [noisy, whole, local],
    titles=[
        "noisy",
        f"one basis, {metrics.psnr(whole, photo):.2f} dB",
        f"a basis per window, {metrics.psnr(local, photo):.2f} dB",
    ],
    alt="the portrait",
    caption="Patch PCA with one basis for the picture, and with one basis per window.",
)

# %% [markdown]
# **A network that does the same.** Project, apply a non-linearity, project back: that is an **auto-encoder** with one hidden layer. Trained on patches to return what it is given through a bottleneck of $k$ numbers, a *linear* one finds the span of the
# first $k$ principal components. With a ReLU in between it is no longer bound to, but on patches the subspace is hard to beat.

# %% tags=["demonstration"]
rank = 12
training = labkit.patches.extract_patches(noisy, patch_size=5)
steps = runtime.choose({"quick": 150, "laptop": 1500, "gpu": 3000})
rows = []
for name, activation in (("linear", None), ("with a ReLU", "relu")):
    network = labkit.filtering.PatchAutoencoder(patch_size=5, channels=3, rank=rank, activation=activation)
    network.fit(training, steps=steps)
    rows.append(
        [
            f"auto-encoder, {name}",
            float(metrics.psnr(network.denoise(noisy), photo)),
            1e3 * network.losses[-1],
        ]
    )
mean = training.mean(0)
basis = torch.linalg.eigh((training - mean).T @ (training - mean)).eigenvectors[:, -rank:]
projected = (training - mean) @ basis @ basis.T + mean
best = labkit.patches.aggregate_patches(projected, height=noisy.shape[1], width=noisy.shape[2], patch_size=5)
rows.append(
    [
        f"PCA, {rank} components",
        float(metrics.psnr(best, photo)),
        1e3 * float((projected - training).square().mean()),
    ]
)
figures.table(
    rows,
    header=["", "PSNR, dB", "mean squared error on patches, ×1000"],
    caption=f"A bottleneck of {rank} numbers for the 75 of a 5×5 colour patch, {steps} training steps.",
)

# %% [markdown]
# ## 1.9 Non-local means is attention
#
# Write non-local means with matrices. Let the rows of $Q \in \mathbb{R}^{N \times D}$ be the patches we want to denoise (*queries*), the rows of $K \in \mathbb{R}^{M \times D}$ those we compare with (*keys*), and the rows of $V \in \mathbb{R}^{M \times c}$ the pixels in
# their centres (*values*). To keep it simple take σ = 0, let every key be a candidate, and *sum* over the $D$ entries (this $h$ is $\sqrt{D}$ times that of section 1.7). Then
#
# $$\hat v_i = \sum_j \frac{e^{-\|q_i - k_j\|^2 / h^2}}{\sum_{j'} e^{-\|q_i - k_{j'}\|^2 / h^2}}\; v_j
# \qquad\text{that is}\qquad \hat V = \operatorname{softmax}\!\big(S\big)\, V, \quad S_{ij} = -\|q_i - k_j\|^2 / h^2 .$$
#
# This is the **attention** of a Transformer, but for the similarity: there $S_{ij} = \langle q_i, k_j \rangle / \sqrt{D}$ (Vaswani et al., 2017). Expand the square,
#
# $$-\|q_i - k_j\|^2 = 2 \langle q_i, k_j \rangle - \|q_i\|^2 - \|k_j\|^2 ,$$
#
# and see what separates them: $\|q_i\|^2$ is the same for all keys, so the softmax cancels it; $\|k_j\|^2$ is not. Dot-product attention prefers keys of large norm, bright patches, even to the query itself.

# %% [markdown]
# ### Exercise 9 · `nonlocal_attention` (2 points, about 25 minutes)
#
# Write `nonlocal_attention(query, key, value, h)` for tensors of shapes `(N, D)`, `(M, D)` and `(M, c)`; the result has shape `(N, c)`. Use torch operations only: the check also asks for its **gradients** with respect to the three tensors, as a network that
# learns through this layer would. Here $\|\cdot\|^2$ is a plain sum over the $D$ entries.
#
# <details><summary>Hint 1: all distances at once</summary>
#
# `query[:, None] - key[None]` has shape `(N, M, D)`; square it and sum over the last axis. That is the similarity up to a sign and $h^2$; the result is a weighted sum of *values*, `weights @ value`.
# </details>
#
# <details><summary>Hint 2: the softmax</summary>
#
# `torch.softmax(S, dim=1)`: for each query (row) the weights of all keys (columns) sum to one. It subtracts the largest entry of each row before it takes exponentials, without which $e^{-1000} = 0$ and $0/0$ is NaN.
# </details>
#
# <details><summary>Hint 3: without N × M × D numbers</summary>
#
# Expand the square: `query.square().sum(1)[:, None] + key.square().sum(1)[None] - 2 * query @ key.T`. Which of the three terms could you leave out?
# </details>


# %% exercise="nonlocal_attention"
def nonlocal_attention(query, key, value, h):
    """Average of the values, each weighted by how near its key is to the query."""
    ### BEGIN SOLUTION
    d2 = query.square().sum(1)[:, None] + key.square().sum(1)[None] - 2 * query @ key.T
    return torch.softmax(-d2 / h**2, dim=1) @ value
    ### END SOLUTION


# %% check="nonlocal_attention"
check.nonlocal_attention(nonlocal_attention)

# %% [markdown]
# Does it matter? Let us denoise a small picture by attention of all patches to all patches, with three similarities: the dot product, $S = \langle q, k \rangle / T$; the dot product of *centred* patches (minus the mean patch, which makes
# their norms more equal); and the distance. Each is shown at the best of the temperatures tried:

# %%
clean_small = images.crop(images.load("astronaut", size=256), row=40, column=96, height=48, width=48)
small = images.add_gaussian_noise(clean_small, sigma=25 / 255)
patches = labkit.patches.extract_patches(images.pad(small, amount=2, border="reflect"), patch_size=5)
centred = patches - patches.mean(0)
pixels = small.reshape(3, -1).T

temperatures = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
tried = {
    "dot product": {
        t: labkit.filtering.dot_product_attention(patches, patches, pixels, temperature=t)
        for t in temperatures
    },
    "centred dot product": {
        t: labkit.filtering.dot_product_attention(centred, centred, pixels, temperature=t)
        for t in temperatures
    },
    "distance": {
        h: labkit.filtering.nonlocal_attention(patches, patches, pixels, h=h)
        for h in (0.4, 0.6, 0.8, 1.0, 1.5)
    },
}
shown = {"noisy": small}
for name, results in tried.items():
    pictures = [result.T.reshape(small.shape) for result in results.values()]
    shown[name] = max(pictures, key=lambda picture: float(metrics.psnr(picture, clean_small)))
    if name == "dot product":
        shown["dot product, T = 0.01"] = pictures[0]

figures.show(
    [*shown.values(), clean_small],
    titles=[
        *(f"{name}: {metrics.psnr(picture, clean_small):.1f} dB" for name, picture in shown.items()),
        "clean",
    ],
    width=180,
    alt="the astronaut's face, 48 by 48 pixels",
    caption="Attention over all patches of a 48×48 crop. At a low temperature the dot product lets the brightest patch "
    "win, whoever asks; its best is little better than one mean colour for all.",
)

# %% [markdown]
# Full attention compares all $N^2$ pairs: for a 512×512 picture that is 69 billion numbers. Non-local means restricts it to a window; PatchMatch, the subject of chapter 2, finds the few keys that matter anywhere in the picture.

# %% [markdown]
# ## 1.10 Does it work?
#
# Every filter of this chapter, on two photographs with noise of σ = 25/255, each with parameters tuned on those pictures. The stored table below was computed at full size by `labkit results 01`; the last one is computed here and now, on a crop.

# %%
labkit.results.show("01")

# %%
labkit.results.live("01", size=runtime.choose({"quick": 64, "laptop": 128, "gpu": 256}))

# %% [markdown]
# Read it as a story. Averaging near pixels gains most of all (box, Gaussian). Asking for a similar colour before averaging gains half a decibel to two more (bilateral, guided, rolling guidance, whose guide is less noisy than the picture).
# Comparing patches, which noise drowns less easily than single pixels, gives the next step (non-local means), and estimating whole patches the last (non-local PCA), at a price in time. That is the order of the lecture, from pixels to
# patches, on both pictures.

# %% [markdown]
# ## Go further
#
# - The bilateral filter with a small $h$ leaves specks in the noisy picture. Explain them with the weights explorer. What would a weighted *median* of the neighbours do?
# - Non-local means forgives $2\sigma^2$. Derive it: what is the expectation of $d^2$ for two equal patches with independent noise? And its standard deviation, as a function of $n$? What does that say about small patches?
# - Show that one step of gradient descent on $\sum_{x,y} w(x, y) \|u(x) - u(y)\|^2$, with fixed symmetric weights, is an average with neighbours. Which step size (it may depend on $x$) makes it the filter of this chapter?
# - Replace the hard threshold of exercise 8 by a Wiener gain $z \mapsto z \max(0, 1 - \sigma^2/z^2)$. Does it do better?
# - The rows of the attention matrix sum to one; its columns do not. Which pixels are listened to most? Make the matrix doubly stochastic (Sinkhorn) and see what changes.

# %% [markdown]
# ## Glossary
#
# | term | meaning |
# | --- | --- |
# | **radius** $r$ | half-width of a square window; its side is $2r + 1$ |
# | **separable** | a two-dimensional filter that equals two one-dimensional ones in a row |
# | **integral image** | table of the sums over all rectangles that start in the top-left corner |
# | **normalisation** $C(x)$ | the sum of the weights at $x$; near the border it has fewer terms |
# | **guide** $g$ | the picture whose colours decide the weights |
# | **patch** $p_u(x)$ | the values of $u$ in a small square around $x$, as one vector |
# | **hard threshold** | keep a number when its absolute value is large, else put 0 |
# | **aggregation** | averaging the estimates that overlapping patches make of one pixel |
# | **PCA** | principal component analysis: the eigenvectors of the covariance, the directions in which data vary most |
# | **query, key, value** | who asks, who is compared, and what is averaged |
# | **softmax** | exponentials divided by their sum: positive weights that sum to one |
# | **PSNR** | $10 \log_{10}(1 / \text{mean squared error})$ for values in $[0, 1]$, in decibels |
# | **SSIM** | structural similarity: compares local means, variances and correlation; 1 is best |

# %% [markdown]
# ## References
#
# - C. Tomasi, R. Manduchi, *Bilateral filtering for gray and color images*, ICCV 1998. [doi:10.1109/ICCV.1998.710815](https://doi.org/10.1109/ICCV.1998.710815)
# - E. Eisemann, F. Durand, *Flash photography enhancement via intrinsic relighting*, ACM TOG 2004. [doi:10.1145/1015706.1015778](https://doi.org/10.1145/1015706.1015778)
# - G. Petschnigg et al., *Digital photography with flash and no-flash image pairs*, ACM TOG 2004. [doi:10.1145/1015706.1015777](https://doi.org/10.1145/1015706.1015777)
# - A. Buades, B. Coll, J.-M. Morel, *A non-local algorithm for image denoising*, CVPR 2005. [doi:10.1109/CVPR.2005.38](https://doi.org/10.1109/CVPR.2005.38)
# - K. He, J. Sun, X. Tang, *Guided image filtering*, ECCV 2010. [doi:10.1007/978-3-642-15549-9_1](https://doi.org/10.1007/978-3-642-15549-9_1)
# - C.-A. Deledalle, J. Salmon, A. Dalalyan, *Image denoising with patch based PCA: local versus global*, BMVC 2011. [doi:10.5244/C.25.25](https://doi.org/10.5244/C.25.25)
# - Q. Zhang, X. Shen, L. Xu, J. Jia, *Rolling guidance filter*, ECCV 2014. [doi:10.1007/978-3-319-10578-9_53](https://doi.org/10.1007/978-3-319-10578-9_53)
# - A. Vaswani et al., *Attention is all you need*, NeurIPS 2017.
# - J. Rabin, *Generative models, part I: patch-based methods*, lecture, ENSICAEN. Where its slides write $h$ or $\lambda$ for a ridge term, this notebook writes ε; its non-local means has $2\varepsilon^2$ where we write $h^2$.

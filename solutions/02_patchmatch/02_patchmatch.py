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
#   title: PatchMatch
#   minutes: 270
#   needs: two cores; a GPU is simulated where there is none
#   summary: Find for every patch of a picture a near one in another, fast; mend holes, shuffle textures and see depth with it.
# ---

# %% [markdown]
# # 2 · PatchMatch
#
# Chapter 1 compared patches within a window. This chapter asks the same question of a whole picture: given an image $u : \Omega \to \mathbb{R}^d$ and an *exemplar* $\tilde u$, **which patch of the
# exemplar is nearest to each patch of the image?** The answer is a map of positions, the **nearest-neighbour field**
#
# $$\psi(x) = \arg\min_{y} D(x, y), \qquad D(x, y) = \| p_u(x) - p_{\tilde u}(y) \|^2 = \sum_{\tau \in \{0, \dots, n-1\}^2} \| u(x + \tau) - \tilde u(y + \tau) \|^2 .$$
#
# | what you match | what you get |
# | --- | --- |
# | a picture with another | one picture built from the other's patches |
# | the left eye's view with the right eye's | how far away things are |
# | a hole's surroundings with the rest of the picture | the hole, mended |
# | a texture with itself, in another order | more of the texture |
#
# Comparing all pairs of patches is hopeless: two pictures of two megapixels have $4 \cdot 10^{12}$ of them. **PatchMatch** (Barnes, Shechtman, Finkelstein & Goldman, 2009) needs a few dozen comparisons per patch, because it
# knows one thing about pictures: *where my neighbour's match is, mine is probably next to it*. You will write it step by step, then make it parallel, compile it, and put it on a GPU.

# %% [markdown]
# ## How this notebook works
#
# It works like chapter 1: replace the line that raises `NotImplementedError`, run the cell, run the check under it; hints unfold; after each exercise the notebook goes on with labkit's own function, so **you can skip one and
# come back**.
#
# A patch of side $n$ is named by its **first (top-left) pixel**, as *(row, column)*, and lies wholly inside its picture. A picture of $H \times W$ pixels thus has $H' \times W'$ patches, $H' = H - n + 1$ and $W' = W - n + 1$. A
# field is an `int32` tensor of shape `(2, H', W')`: `nnf[0, i, j]` and `nnf[1, i, j]` are row and column of the match of the patch at `(i, j)`. These are *positions* in the exemplar, not shifts, and the exemplar may have
# another size than the image ($\tilde H \times \tilde W$).
#
# Loops over patches in Python are slow, and in the exercises that is fine: the checks use pictures of about ten by ten pixels. For everything larger the notebook takes labkit's compiled kernels. You will write two such kernels yourself.

# %%
import math
import os
import time
import warnings

import torch
import torch.nn.functional as F

# Exercise 9 is a CUDA kernel. Where there is no GPU, numba can act as if there were one; it looks at this when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

import numpy as np
import skimage
from matplotlib.figure import Figure
from numba import NumbaPerformanceWarning, cuda, njit, prange
from skimage.restoration import inpaint_biharmonic

import labkit
from labkit import figures, images, metrics, runtime, widgets
from labkit.checks import patchmatch as check

# numba warns of kernels with nothing in them to run in parallel: yours, as long as it is not written
warnings.filterwarnings("ignore", category=NumbaPerformanceWarning)

print(runtime.summary())
side = runtime.choose({"quick": 96, "laptop": 256, "gpu": 512})  # pictures are this many pixels wide

# %% [markdown]
# Here is where we are going. The portrait on the left is rebuilt *from patches of a cup of coffee alone*: from random matches, after one iteration of PatchMatch, and after five.

# %%
portrait, coffee = images.load("astronaut", size=side), images.load("coffee", size=side)
match = labkit.patchmatch.patchmatch(portrait, coffee, patch_size=7, iterations=5, trace=True)
rebuilt = [labkit.patchmatch.reconstruct(match.fields[i], coffee, patch_size=7) for i in (0, 1, 5)]
figures.show(
    [portrait, coffee, *rebuilt],
    titles=["image u", "exemplar ũ", "random matches", "one iteration", "five iterations"],
    columns=5,
    width=200,
    alt="portrait of an astronaut and a red cup of coffee; the portrait in the colours of the coffee",
    caption="Every pixel of the last three pictures is an average of pixels of the cup.",
)

# %% [markdown]
# ## 2.1 The distance of two patches
#
# All of this chapter minimises one number, the sum of squared differences over the patch and the channels:
#
# $$D(x, y) = \sum_{c} \sum_{a=0}^{n-1} \sum_{b=0}^{n-1} \big( u_c(x_1 + a,\; x_2 + b) - \tilde u_c(y_1 + a,\; y_2 + b) \big)^2 .$$
#
# No mean, no square root: neither would change which patch is nearest, and both cost time. (The lecture that this chapter follows, see the references, writes the distance with its root; other metrics, such as ℓ1 or colours in Lab, are a parameter of
# `labkit.patchmatch.patchmatch`.)

# %% [markdown]
# ### Exercise 1 · `patch_distance` (1 point, about 10 minutes)
#
# Write `patch_distance(image, exemplar, position, match, patch_size)`: the distance between the patch of `image` whose first pixel is `position = (row, column)` and the patch of `exemplar` whose first pixel is `match`. Return a
# number, or a tensor with one entry.
#
# <details><summary>Hint 1: cutting out a patch</summary>
#
# `image[:, row : row + patch_size, column : column + patch_size]`: all channels, `patch_size` rows, `patch_size` columns. The end of a slice is not in it.
# </details>
#
# <details><summary>Hint 2: the distance</summary>
#
# Difference, square, sum over *everything*: `((p - q) ** 2).sum()`.
# </details>


# %% exercise="patch_distance"
def patch_distance(image, exemplar, position, match, patch_size):
    """Sum of the squared differences of two patches, given by their first pixels (row, column)."""
    ### BEGIN SOLUTION
    row, column = position
    match_row, match_column = match
    p = image[:, row : row + patch_size, column : column + patch_size]
    q = exemplar[:, match_row : match_row + patch_size, match_column : match_column + patch_size]
    return ((p - q) ** 2).sum()
    ### END SOLUTION


# %% check="patch_distance"
check.patch_distance(patch_distance)

# %% [markdown]
# ## 2.2 Exhaustive search
#
# The definition, taken at its word: for each patch of the image compute the distance to *every* patch of the exemplar, and keep the smallest. It is slow, but exact: the ground truth that everything faster is measured against.

# %% [markdown]
# ### Exercise 2 · `exhaustive_search` (2 points, about 25 minutes)
#
# Write `exhaustive_search(image, exemplar, patch_size)`. Return two tensors: the field, `int32` of shape `(2, H', W')`, and the distances $D(x, \psi(x))$, of shape `(H', W')` and the image's dtype.
#
# <details><summary>Hint 1: all patches of the exemplar</summary>
#
# `labkit.patches.extract_patches(exemplar, patch_size=patch_size)` gives them as rows of a matrix, `(number, C * n * n)`, in reading order: first the patches that begin in row 0, from left to right. There are
# `(exemplar height - n + 1) * (exemplar width - n + 1)`, the last ones included. The patches of the image come the same way.
# </details>
#
# <details><summary>Hint 2: one patch against all</summary>
#
# `((candidates - patch) ** 2).sum(1)` compares one patch with all rows at once, and `.min(0)` gives the smallest distance *and* its index. Or all at once: `torch.cdist(patches, candidates) ** 2` has a row for each patch and a column for each candidate; there it is `.min(1)`, over the candidates.
# </details>
#
# <details><summary>Hint 3: from the index to the position</summary>
#
# A row holds `columns = exemplar width - n + 1` patches. So index `k` means row `k // columns` and column `k % columns`. Make the field with `dtype=torch.int32`, first the rows, then the columns.
# </details>


# %% exercise="exhaustive_search"
def exhaustive_search(image, exemplar, patch_size):
    """The nearest patch of the exemplar for each patch of the image: field and distances."""
    ### BEGIN SOLUTION
    height, width = image.shape[1] - patch_size + 1, image.shape[2] - patch_size + 1
    columns = exemplar.shape[2] - patch_size + 1
    candidates = labkit.patches.extract_patches(exemplar, patch_size=patch_size)
    nearest = []
    for patch in labkit.patches.extract_patches(image, patch_size=patch_size):
        nearest.append(((candidates - patch) ** 2).sum(1).min(0))
    distance = torch.stack([d for d, _ in nearest]).reshape(height, width)
    index = torch.stack([k for _, k in nearest]).reshape(height, width)
    nnf = torch.stack([index // columns, index % columns]).to(torch.int32)
    return nnf, distance
    ### END SOLUTION


# %% check="exhaustive_search"
check.exhaustive_search(exhaustive_search)

# %% [markdown]
# What does an exact field look like? Below, the left eye's view of a motorcycle is matched with the right eye's. The shift $\psi(x) - x$ of every patch is shown as a colour: its direction as hue (see the key), its length as
# the distance from grey.

# %%
left, right = (images.load(f"motorcycle_{eye}", size=side) for eye in ("left", "right"))
exact = labkit.patchmatch.exact_nnf(left, right, patch_size=7)
figures.show(
    [
        left,
        right,
        figures.color_wheel(labkit.patchmatch.shift_map(exact.nnf), largest=side / 10),
        figures.color_wheel_key(),
    ],
    titles=[
        "image: left eye",
        "exemplar: right eye",
        "exact field, as shifts",
        f"key, ±{side / 10:.0f} pixels",
    ],
    width=240,
    alt="a motorcycle in a workshop, seen by two eyes; regions of nearly one colour each",
    caption="Large regions move together: the field is piecewise constant, with noise where all patches look alike.",
)

# %% [markdown]
# And what does it cost? The number of pairs grows with the *square* of the number of pixels. The table finds the matches of one photograph in another, at growing sizes, exhaustively (as a blocked matrix product, with
# $\|p - q\|^2 = \|p\|^2 - 2\langle p, q\rangle + \|q\|^2$) and by PatchMatch:

# %% tags=["demonstration"]
sizes = runtime.choose({"quick": (32, 48, 64), "laptop": (48, 64, 96, 128), "gpu": (64, 96, 128, 192)})
rows, costs = [], []
for size in sizes:
    pair = [images.load(name, size=(size, size)) for name in ("astronaut", "coffee")]
    seconds = []
    for search in (labkit.patchmatch.exact_nnf, labkit.patchmatch.patchmatch):
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            search(*pair, patch_size=7)
            best = min(best, time.perf_counter() - start)
        seconds.append(best)
    rows.append([f"{size}×{size}", 1000 * seconds[0], 1000 * seconds[1]])
    costs.append(seconds)
growth = [math.log(costs[-1][k] / costs[0][k]) / (2 * math.log(sizes[-1] / sizes[0])) for k in (0, 1)]
figures.table(
    rows,
    header=["pixels", "exhaustive search, ms", "PatchMatch, five iterations, ms"],
    caption=f"Best of three runs. Over this range the times grow like (pixels)^{growth[0]:.2f} and (pixels)^{growth[1]:.2f}.",
)

# %% [markdown]
# ## 2.3 Propagation
#
# The exact field above is **piecewise constant** as a map of shifts: neighbouring patches mostly have neighbouring matches. So suppose that, by luck, the patch at $x + t$ has found a good match $\psi(x + t)$. Then $x$, which lies
# $-t$ from there, should try the place that lies $-t$ from that match:
#
# $$\psi(x) \;\leftarrow\; \arg\min_{y \in \{\psi(x),\; \psi(x+a) - a,\; \psi(x+b) - b\}} D(x, y).$$
#
# In a scan from left to right and top to bottom, the two neighbours that have been improved already are $a = (0, -1)$, on the left, and $b = (-1, 0)$, above, in *(row, column)*. (The lecture's slide has $(0, -1)$ twice, a slip.) In
# a backward scan they are $(0, 1)$ and $(1, 0)$. One lucky match so spreads over its whole region in a single scan.

# %% [markdown]
# ### Exercise 3 · `propagate` (2 points, about 25 minutes)
#
# Write `propagate(image, exemplar, nnf, distance, position, direction, patch_size)` for *one* patch, the one at `position = (row, column)`. `nnf` is the field so far and `distance` its distances, `(H', W')`. `direction` is 1 in a forward scan
# (neighbours on the left and above) and −1 in a backward one (right and below). Return three numbers, the row and the column of the best match and its distance.
#
# A neighbour outside the field gives no candidate; neither does one whose candidate would stick out of the exemplar. Leave `nnf` and `distance` unchanged.
#
# <details><summary>Hint 1: the candidate</summary>
#
# With the offset `(down, right)` that leads from this patch *to* the neighbour, the candidate is the neighbour's match *minus* that offset: `nnf[0, i, j] - down, nnf[1, i, j] - right`. On the left, `right` is −1: the
# candidate lies one pixel to the right of the left neighbour's match.
# </details>
#
# <details><summary>Hint 2: which neighbours</summary>
#
# `for down, right in ((0, -direction), (-direction, 0)):` takes care of both directions. Test that `0 <= i < H'` and `0 <= j < W'` yourself: to Python, index −1 is the last one.
# </details>
#
# <details><summary>Hint 3: comparing</summary>
#
# The candidate's first pixel must lie in `0 … exemplar height - n` and `0 … exemplar width - n`. Compute the distance of *this* patch to it, and compare with the best *so far*: when the first candidate is accepted, the second one has to
# beat it.
# </details>


# %% exercise="propagate"
def propagate(image, exemplar, nnf, distance, position, direction, patch_size):
    """The best of a patch's match and those its two visited neighbours suggest, with its distance."""
    ### BEGIN SOLUTION
    n, (row, column) = patch_size, position
    patch = image[:, row : row + n, column : column + n]
    (best_row, best_column), best = nnf[:, row, column].tolist(), distance[row, column].item()
    for down, right in ((0, -direction), (-direction, 0)):
        i, j = row + down, column + right
        if not (0 <= i < nnf.shape[1] and 0 <= j < nnf.shape[2]):
            continue
        r, c = nnf[0, i, j].item() - down, nnf[1, i, j].item() - right
        if not (0 <= r <= exemplar.shape[1] - n and 0 <= c <= exemplar.shape[2] - n):
            continue
        found = ((patch - exemplar[:, r : r + n, c : c + n]) ** 2).sum().item()
        if found < best:
            best_row, best_column, best = r, c, found
    return best_row, best_column, best
    ### END SOLUTION


# %% check="propagate"
check.propagate(propagate)

# %% [markdown]
# How lucky must one be? A random match of a patch in an exemplar with $\tilde N$ patches is the right one with probability $1/\tilde N$; but a region of $M$ patches that move together needs only *one* of them to be right, which
# happens with probability $1 - (1 - 1/\tilde N)^M \approx 1 - e^{-M/\tilde N}$. Two thirds of the regions as large as the exemplar, one in ten of those a tenth as large, before anything has been searched.

# %% [markdown]
# ## 2.4 Random search
#
# Propagation spreads good matches; it cannot invent any. So each patch also throws darts around its match $y_0 = \psi(x)$, in windows that shrink from the whole exemplar to a single pixel:
#
# $$y_i = y_0 + R\,\alpha^i X_i, \qquad X_i \sim \mathcal{U}\big([-1, 1]^2\big), \qquad i = 0, 1, 2, \dots \text{ while } R\,\alpha^i \ge 1,$$
#
# with $\alpha = \tfrac12$ and $R$ the larger side of the exemplar: $\lfloor \log_2 R \rfloor + 1$ candidates. The wide windows leave a wrong region altogether, the narrow ones straighten out a nearly right match. All windows are centred at $y_0$, the match with
# which the search *began*.

# %% [markdown]
# ### Exercise 4 · `random_search` (2 points, about 25 minutes)
#
# Write `random_search(image, exemplar, position, match, distance, numbers, patch_size)` for one patch, whose match `(row, column)` and distance are given. `numbers` is a tensor `(draws, 2)` with values in $[-1, 1]$: its row `i` is $X_i$, as (row, column). Try every row of `numbers`, however many there are. Round
# $R \alpha^i X_i$ to the nearest whole numbers, and **clamp** each candidate so that its patch lies inside the exemplar. Return three numbers again: row and column of
# the best match, and its distance.
#
# <details><summary>Hint 1: the windows</summary>
#
# `radius = max(exemplar.shape[1:])` at first; halve it after each draw, `radius / 2` with its fraction (not `//`). Python's `round` takes a number to the nearest integer: `round(radius * x)`, with `x = numbers[i, 0].item()` for the row and `numbers[i, 1].item()` for the column.
# </details>
#
# <details><summary>Hint 2: who is the centre, who is the best</summary>
#
# Two different things! The centre is the `match` that was given, for all windows. The best match and its distance change as better candidates are found, and each candidate is compared with the best so far.
# </details>
#
# <details><summary>Hint 3: clamping</summary>
#
# `row = min(max(row, 0), exemplar.shape[1] - patch_size)`, and the same for the column with `exemplar.shape[2]`.
# </details>


# %% exercise="random_search"
def random_search(image, exemplar, position, match, distance, numbers, patch_size):
    """The best of a match and random candidates around it, in windows of half the radius each time."""
    ### BEGIN SOLUTION
    n, (row, column) = patch_size, position
    patch = image[:, row : row + n, column : column + n]
    (best_row, best_column), best, radius = match, distance, max(exemplar.shape[1:])
    for x in numbers.tolist():
        r = min(max(match[0] + round(radius * x[0]), 0), exemplar.shape[1] - n)
        c = min(max(match[1] + round(radius * x[1]), 0), exemplar.shape[2] - n)
        found = ((patch - exemplar[:, r : r + n, c : c + n]) ** 2).sum().item()
        if found < best:
            best_row, best_column, best = r, c, found
        radius = radius / 2
    return best_row, best_column, best
    ### END SOLUTION


# %% check="random_search"
check.random_search(random_search)

# %% [markdown]
# (Clamping sends everything that falls outside to the border, which is tried a little too often. labkit's kernels draw uniformly from the part of the window that lies inside instead.)

# %% [markdown]
# ## 2.5 The whole loop
#
# That is all. PatchMatch starts from a random field and repeats, for every patch: propagate, then search. Odd iterations scan forward, from the top left, and look left and up; even ones scan backward, from the bottom right, and
# look right and down, so that good matches travel both ways.

# %% [markdown]
# ### Exercise 5 · `patchmatch` (3 points, about 35 minutes)
#
# Write `patchmatch(image, exemplar, start, numbers, patch_size)`. `start` is the field to begin with, `(2, H', W')`, and `numbers` has the shape `(iterations, H', W', draws, 2)`: `numbers[t, i, j]` are the random numbers of the patch `(i, j)` in
# iteration `t`, counted from 0, which is the first and scans forward. At each patch propagation comes first, with the field *as it is at that moment*; the random search then starts from what propagation has left. Return the field (`int32`) and its distances
# (dtype of the image). You may call your `propagate` and `random_search`, or write the steps out, and `labkit.patchmatch.nnf_distance(image, exemplar, nnf, patch_size=…)` gives the distances of a whole field.
#
# <details><summary>Hint 1: forward and backward</summary>
#
# `for i in range(rows)[::direction]` runs through the rows forward for `direction = 1` and backward for `direction = -1`. The same for the columns; and the same `direction` chooses the neighbours.
# </details>
#
# <details><summary>Hint 2: what to update, and when</summary>
#
# Work on `nnf = start.clone()`. After each patch, store *both* its match and its distance, before you go on to the next one: the next patch reads them.
# </details>
#
# <details><summary>Hint 3: the random search</summary>
#
# Give it the match and the distance that propagation has left, and `numbers[t, i, j]`.
# </details>


# %% exercise="patchmatch"
def patchmatch(image, exemplar, start, numbers, patch_size):
    """Nearest-neighbour field by propagation and random search: field and distances."""
    ### BEGIN SOLUTION
    n, nnf = patch_size, start.clone()
    rows, columns = nnf.shape[1:]
    last_row, last_column = exemplar.shape[1] - n, exemplar.shape[2] - n
    distance = labkit.patchmatch.nnf_distance(image, exemplar, nnf, patch_size=n)
    for iteration in range(len(numbers)):
        direction = 1 if iteration % 2 == 0 else -1
        for i in range(rows)[::direction]:
            for j in range(columns)[::direction]:
                patch = image[:, i : i + n, j : j + n]
                match, best = nnf[:, i, j].tolist(), distance[i, j].item()

                candidates = []
                for down, right in ((0, -direction), (-direction, 0)):
                    if 0 <= i + down < rows and 0 <= j + right < columns:
                        r = nnf[0, i + down, j + right].item() - down
                        c = nnf[1, i + down, j + right].item() - right
                        if 0 <= r <= last_row and 0 <= c <= last_column:
                            candidates.append((r, c))
                for r, c in candidates:
                    found = ((patch - exemplar[:, r : r + n, c : c + n]) ** 2).sum().item()
                    if found < best:
                        match, best = (r, c), found

                centre, radius = match, max(exemplar.shape[1:])
                for x in numbers[iteration, i, j].tolist():
                    r = min(max(centre[0] + round(radius * x[0]), 0), last_row)
                    c = min(max(centre[1] + round(radius * x[1]), 0), last_column)
                    found = ((patch - exemplar[:, r : r + n, c : c + n]) ** 2).sum().item()
                    if found < best:
                        match, best = (r, c), found
                    radius = radius / 2

                nnf[0, i, j], nnf[1, i, j] = match
                distance[i, j] = best
    return nnf, distance
    ### END SOLUTION


# %% check="patchmatch"
check.patchmatch(patchmatch)

# %% [markdown]
# Your function works on real pictures, if you give it time. Try it on two of 32×32 pixels, with `start = labkit.patchmatch.random_nnf(small, other, patch_size=7)` and `numbers = 2 * torch.rand(5, 26, 26, 6, 2) - 1`, and compare its
# mean distance with that of `exhaustive_search`: after five iterations it should lie two or three per cent above.
#
# Below, labkit's kernel does the same. Move through the iterations: where do the first good matches appear? How do they travel in the first iteration, and how in the second?

# %% tags=["demonstration"]
stereo_match = labkit.patchmatch.patchmatch(left, right, patch_size=7, iterations=5, trace=True)
widgets.FieldPlayer(
    stereo_match,
    image=left,
    exemplar=right,
    largest=side / 10,
    alt="the field of shifts from the left to the right view of the motorcycle, and the left view rebuilt from the right one",
    caption="The left view matched with the right one: from noise to regions of one colour in two scans.",
)

# %% [markdown]
# And this is what happens at one patch. Point at the portrait (or move the patch with the arrow keys): its match lights up in the coffee, with the candidates that this iteration has tried. In later iterations, which candidates
# are still accepted?

# %% tags=["demonstration"]
widgets.MatchExplorer(
    match,
    image=portrait,
    exemplar=coffee,
    alt="the portrait and the cup of coffee, with one patch and its candidates outlined",
    caption="What PatchMatch tries at one patch: the matches its neighbours suggest, and random places around the best.",
)

# %% [markdown]
# **How near does it come to the optimum?** The exact search tells. Mean distances can only fall, by construction; the curve shows how fast.

# %%
half = [images.load(name, size=side // 2) for name in ("astronaut", "coffee")]
curves = {
    "portrait from coffee": (
        labkit.patchmatch.patchmatch(*half, patch_size=7).history,
        labkit.patchmatch.exact_nnf(*half, patch_size=7),
    ),
    "left from right view": (stereo_match.history, exact),
}
chart = Figure(figsize=(7, 3.4))
axes = chart.subplots()
excess = {}
for (name, (history, best)), style in zip(curves.items(), ("o-", "s--")):
    excess[name] = [100 * (mean / best.history[0] - 1) for mean in history]
    axes.plot(excess[name], style, label=name)
axes.axhline(10, color="0.6", linewidth=1, label="10 % above the optimum")
axes.set(xlabel="iteration", ylabel="mean distance above\nthe optimum, %", yscale="log")
axes.legend()
last = " and ".join(f"{values[-1]:.0f} % ({name})" for name, values in excess.items())
figures.chart(
    chart,
    alt="two falling curves over the iterations",
    caption=f"Mean patch distance above the exact optimum. After five iterations: {last}.",
)

# %% [markdown]
# ## 2.6 Voting
#
# A field says, for every *patch*, what it should look like. A pixel lies in up to $n^2$ patches, and each of their matches has an opinion about it. Let them **vote**: the pixel becomes the mean of what they say,
#
# $$\hat u(z) = \frac{1}{|\{x : z \in x + \{0, \dots, n-1\}^2\}|} \sum_{x \,:\, z - x \in \{0, \dots, n-1\}^2} \tilde u\big(\psi(x) + z - x\big).$$
#
# This is the aggregation of chapter 1 (exercise 8). Given the field, it is also the picture that minimises $\sum_x \|p_{\hat u}(x) - p_{\tilde u}(\psi(x))\|^2$: set the derivative with respect to $\hat u(z)$ to zero and see.

# %% [markdown]
# ### Exercise 6 · `reconstruct` (2 points, about 25 minutes)
#
# Write `reconstruct(nnf, exemplar, patch_size)`. The result has as many channels as the exemplar, its dtype, and $H' + n - 1$ rows and $W' + n - 1$ columns.
#
# <details><summary>Hint 1: one offset at a time</summary>
#
# Take the pixel `(a, b)` of *every* patch at once. The patch at `(i, j)` says that pixel `(i + a, j + b)` is `exemplar[:, nnf[0, i, j] + a, nnf[1, i, j] + b]`, and `exemplar[:, nnf[0] + a, nnf[1] + b]` looks that up for the whole field: a
# tensor `(C, H', W')`.
# </details>
#
# <details><summary>Hint 2: adding up and counting</summary>
#
# Add it to `total[:, a : a + rows, b : b + columns]`, and add 1 to the same part of a picture that counts the votes; divide at the end. Near the border there are fewer votes.
# </details>
#
# <details><summary>Hint 3: shapes</summary>
#
# `total = exemplar.new_zeros(C, rows + n - 1, columns + n - 1)` with `rows, columns = nnf.shape[1:]`. The loops over `a` and `b` run from 0 to n − 1.
# </details>


# %% exercise="reconstruct"
def reconstruct(nnf, exemplar, patch_size):
    """The picture that the matches vote for."""
    ### BEGIN SOLUTION
    rows, columns = nnf.shape[1:]
    total = exemplar.new_zeros(len(exemplar), rows + patch_size - 1, columns + patch_size - 1)
    votes = torch.zeros_like(total)
    for a in range(patch_size):
        for b in range(patch_size):
            total[:, a : a + rows, b : b + columns] += exemplar[:, nnf[0] + a, nnf[1] + b]
            votes[:, a : a + rows, b : b + columns] += 1
    return total / votes
    ### END SOLUTION


# %% check="reconstruct"
check.reconstruct(reconstruct)

# %% [markdown]
# The size of the patch decides between fidelity and structure: small patches find near matches anywhere and rebuild almost any picture; large ones must be taken as they are.

# %%
patch_sizes = (1, 3, 7, 15)
by_size = []
for n in patch_sizes:
    found = labkit.patchmatch.patchmatch(portrait, coffee, patch_size=n, iterations=8)
    by_size.append(labkit.patchmatch.reconstruct(found.nnf, coffee, patch_size=n))
figures.show(
    by_size,
    titles=[f"n = {n}, {metrics.psnr(picture, portrait):.1f} dB" for n, picture in zip(patch_sizes, by_size)],
    columns=4,
    width=240,
    alt="the portrait rebuilt from patches of the coffee",
    caption="With single pixels only the palette is the coffee's; with large patches the average of many disagreeing votes "
    "is blurred.",
)

# %% [markdown]
# ## 2.7 Jump flooding
#
# The scan has one flaw: it is a queue. A patch needs the *finished* results of its left and upper neighbours. Only patches on the same anti-diagonal do not wait for each other, so an $H' \times W'$ field takes at least $H' + W' - 1$ rounds, and most processors
# of a GPU stand idle. (labkit's `"sequential"` kernel does use that freedom: tiles of an anti-diagonal run on different cores.)
#
# **Jump flooding** (Rong & Tan, 2006) lets all patches work at once. Each looks at four neighbours, up, down, left and right, not one but $\ell$ patches away,
#
# $$\text{candidates of } p: \quad \psi(p + \delta) - \delta, \qquad \delta \in \{(-\ell, 0),\ (\ell, 0),\ (0, -\ell),\ (0, \ell)\},$$
#
# and $\ell$ takes a few values, such as 8, 4, 2, 1, so that a good match still travels far in one iteration. The thesis that the course follows (Cherel, Algorithm 4, see the references) updates $\psi$ *in place* while other threads read it: what a patch sees then depends on who happens to be
# faster, and no two runs are alike. We **double-buffer**: one step reads the old field only and writes a new one.

# %% [markdown]
# ### Exercise 7 · `jump_flood` (2 points, about 35 minutes)
#
# Write `jump_flood(image, exemplar, nnf, distance, step, patch_size)`: *one* step of length $\ell$ = `step`, for all patches. All four directions read the field that was given. Neighbours outside the field, and candidates that
# stick out of the exemplar, do not count. Return a new field (`int32`) and its distances. No loop over the patches: work with whole tensors, one direction after the other. (A loop passes the check, too, only slowly.)
#
# <details><summary>Hint 1: all neighbours of one direction</summary>
#
# `nnf[:, (i + down).clamp(0, rows - 1), (j + right).clamp(0, columns - 1)]` with index tensors `i = torch.arange(rows)[:, None]` and `j = torch.arange(columns)[None, :]` looks up the neighbours at the offset
# `(down, right)`. Subtract the offset from the rows and the columns of what you find.
# </details>
#
# <details><summary>Hint 2: compare and keep</summary>
#
# `labkit.patchmatch.nnf_distance(image, exemplar, candidate, patch_size=…)` computes the distances of a whole field. Keep `best = nnf.clone()` and `best_distance = distance.clone()` beside the *unchanged* `nnf`: candidates come from `nnf`, comparisons are with
# `best_distance`, and `torch.where(better, candidate, best)` merges.
# </details>
#
# <details><summary>Hint 3: what does not count, and dtypes</summary>
#
# Where the neighbour lies outside the field or the candidate outside the exemplar, put the patch's own match instead: it is no worse and no better. `nnf_distance` wants candidates that lie inside. Index tensors are int64; `.to(nnf.dtype)` brings the field back to int32.
# </details>


# %% exercise="jump_flood"
def jump_flood(image, exemplar, nnf, distance, step, patch_size):
    """One double-buffered step of jump flooding: the new field and its distances."""
    ### BEGIN SOLUTION
    rows, columns = distance.shape
    last_row, last_column = exemplar.shape[1] - patch_size, exemplar.shape[2] - patch_size
    i, j = torch.arange(rows)[:, None], torch.arange(columns)[None, :]
    best, best_distance = nnf.clone(), distance.clone()
    for down, right in ((-step, 0), (step, 0), (0, -step), (0, step)):
        a, b = i + down, j + right
        seen = nnf[:, a.clamp(0, rows - 1), b.clamp(0, columns - 1)]
        r, c = seen[0] - down, seen[1] - right
        counts = (a >= 0) & (a < rows) & (b >= 0) & (b < columns)
        counts = counts & (r >= 0) & (r <= last_row) & (c >= 0) & (c <= last_column)
        candidate = torch.where(counts, torch.stack([r, c]), nnf)
        found = labkit.patchmatch.nnf_distance(image, exemplar, candidate, patch_size=patch_size)
        better = found < best_distance
        best = torch.where(better, candidate, best)
        best_distance = torch.where(better, found, best_distance)
    return best, best_distance
    ### END SOLUTION


# %% check="jump_flood"
check.jump_flood(jump_flood)

# %% [markdown]
# What does the other order cost? Red-black, a third schedule, colours the patches like a chessboard and updates one colour while it reads the other. Each schedule runs with random search after its propagation, five iterations:

# %%
rows = []
optimum = exact.history[0]
for schedule in ("sequential", "jump_flooding", "red_black"):
    labkit.patchmatch.patchmatch(
        left, right, patch_size=7, iterations=1, schedule=schedule
    )  # load the compiled code
    start = time.perf_counter()
    found = labkit.patchmatch.patchmatch(left, right, patch_size=7, iterations=5, schedule=schedule)
    seconds = time.perf_counter() - start
    rows.append([schedule.replace("_", " "), 1000 * seconds, 100 * (found.history[-1] / optimum - 1)])
figures.table(
    rows,
    header=["schedule", "ms", "mean distance above the optimum, %"],
    caption=f"Left from right view, {left.shape[2]}×{left.shape[1]} pixels, patches of 7, five iterations, {runtime.threads()} threads.",
)

# %% [markdown]
# ## 2.8 The same, compiled: numba
#
# Python is slow because it looks up the type of everything, every time. **numba** reads a function once, for the types it is called with, and compiles it to machine code: `@njit` above the `def` is all it takes, and loops then cost nothing. It knows NumPy
# arrays, numbers and tuples, not torch. `@njit(parallel=True)` also shares out every loop written with `prange` instead of `range` among the cores.
#
# `prange` is a promise: *no round of this loop needs what another one writes*. Double-buffered jump flooding keeps it, since a round reads the old arrays and writes its own row of the new ones. The sequential scan would break it: row $i$ reads what row
# $i - 1$ has just written. numba does not notice! It would compile, run, and might return something else every time.

# %% [markdown]
# ### Exercise 8 · `parallel_jump_flood` (3 points, about 40 minutes)
#
# Write the body of `parallel_jump_flood(image, exemplar, nnf, distance, step, patch_size)`, the same step as in exercise 7, on NumPy arrays, with plain loops: over the rows with `prange`, over columns, directions, channels, and rows and columns
# of the patch. Return the new field and its distances, `return new_nnf, new_distance`.
#
# Compiled code does not notice when an index is out of bounds: it reads whatever lies there, or crashes. If something is odd, call `parallel_jump_flood.py_func(…)`: the same function, as plain Python, with error messages.
#
# <details><summary>Hint 1: the distance</summary>
#
# For each candidate set `total = 0.0`, then add the squared differences in three nested loops: `image[channel, row + a, column + b] - exemplar[channel, r + a, c + b]`. Set it *inside* the loop over the directions, so that it begins at 0 for each.
# </details>
#
# <details><summary>Hint 2: old and new</summary>
#
# `new_nnf, new_distance = nnf.copy(), distance.copy()`. Neighbours are read from `nnf`; comparisons are with `new_distance[row, column]`, and accepted candidates go into `new_nnf` and `new_distance`, at this patch only.
# </details>
#
# <details><summary>Hint 3: directions and borders</summary>
#
# `for down, right in ((-step, 0), (step, 0), (0, -step), (0, step)):` compiles. `continue` skips a neighbour outside the field, or a candidate that sticks out of the exemplar.
# </details>


# %% exercise="parallel_jump_flood"
@njit(parallel=True)
def parallel_jump_flood(image, exemplar, nnf, distance, step, patch_size):
    """One double-buffered step of jump flooding, rows in parallel: the new field and its distances."""
    ### BEGIN SOLUTION
    rows, columns = distance.shape
    last_row, last_column = exemplar.shape[1] - patch_size, exemplar.shape[2] - patch_size
    new_nnf, new_distance = nnf.copy(), distance.copy()
    for row in prange(rows):
        for column in range(columns):
            for down, right in ((-step, 0), (step, 0), (0, -step), (0, step)):
                i, j = row + down, column + right
                if i < 0 or i >= rows or j < 0 or j >= columns:
                    continue
                r, c = nnf[0, i, j] - down, nnf[1, i, j] - right
                if r < 0 or r > last_row or c < 0 or c > last_column:
                    continue
                total = 0.0
                for channel in range(image.shape[0]):
                    for a in range(patch_size):
                        for b in range(patch_size):
                            difference = image[channel, row + a, column + b] - exemplar[channel, r + a, c + b]
                            total += difference * difference
                if total < new_distance[row, column]:
                    new_distance[row, column] = total
                    new_nnf[0, row, column] = r
                    new_nnf[1, row, column] = c
    return new_nnf, new_distance
    ### END SOLUTION


# %% check="parallel_jump_flood"
check.parallel_jump_flood(parallel_jump_flood)

# %% [markdown]
# (The first call compiles, which takes a moment; look at the second one.) labkit's kernels do two things more. They stop adding as soon as the sum exceeds the best distance so far (*early termination*: most candidates are bad, and
# that is clear after a row or two), and they draw their random numbers by **counting**: candidate 17 of patch 4711 in iteration 3 is a hash of (seed, 3, 4711, 17), whoever computes it, so that the result has the same bits on one core and on a hundred.

# %%
once, again = (
    labkit.patchmatch.patchmatch(portrait, coffee, patch_size=7, schedule="jump_flooding", seed=1)
    for _ in (1, 2)
)
print("the same field, to the bit:", torch.equal(once.nnf, again.nnf))

# %% [markdown]
# ## 2.9 A first CUDA kernel
#
# A GPU runs thousands of *threads* at once. A **kernel** is the program of one thread; all run the same one, and each asks who it is. Threads come in blocks, blocks in a grid. A launch `kernel[grid, block](…)` with
# `grid = (2, 3)` and `block = (16, 16)` starts $2 \cdot 16$ threads along $x$ and $3 \cdot 16$ along $y$, and in a kernel
#
# ```python
# x, y = cuda.grid(2)
# ```
#
# tells a thread its place. Two conventions trip up everyone once. First, **$x$ runs along the columns** and $y$ along the rows: neighbouring threads of a block have neighbouring $x$, and should read neighbouring memory. Second, blocks have a fixed size
# and pictures have not, so **there are threads outside the picture**; each must see for itself that it has nothing to do. An index out of bounds raises no error on a GPU: it reads or overwrites something else.
#
# Jump flooding fits a GPU as it is, one thread per patch. We begin with its innermost part.
#
# Without a GPU, this notebook runs CUDA kernels on numba's **simulator**: the same code, each thread run by Python, correct and very slow.

# %%
print(
    "CUDA kernels run on",
    f"the {torch.cuda.get_device_name()}."
    if torch.cuda.is_available()
    else "numba's simulator, since there is no GPU.",
)

# %% [markdown]
# ### Exercise 9 · `cuda_distance` (2 points, about 30 minutes)
#
# Write the body of the kernel `cuda_distance(image, exemplar, nnf, patch_size, out)`: each thread computes the distance of *one* patch to its match and stores it in `out`, of shape `(H', W')`. A kernel returns nothing. There may be more threads than
# patches, along both axes. (`debug=True, opt=False` lets errors inside a kernel reach you; in earnest one leaves them out, for speed.)
#
# <details><summary>Hint 1: which patch is mine?</summary>
#
# `column, row = cuda.grid(2)`: the first number is $x$.
# </details>
#
# <details><summary>Hint 2: am I needed at all?</summary>
#
# `if row < out.shape[0] and column < out.shape[1]:` and everything else inside it.
# </details>
#
# <details><summary>Hint 3: the distance</summary>
#
# Row and column of the match are `nnf[0, row, column]` and `nnf[1, row, column]`. Then the three loops of exercise 8, into a variable `total = 0.0` of the thread's own, and at the end `out[row, column] = total`.
# </details>


# %% exercise="cuda_distance"
@cuda.jit(debug=True, opt=False)
def cuda_distance(image, exemplar, nnf, patch_size, out):
    """The distance of each patch to its match; one thread for each."""
    ### BEGIN SOLUTION
    column, row = cuda.grid(2)
    if row < out.shape[0] and column < out.shape[1]:
        r, c = nnf[0, row, column], nnf[1, row, column]
        total = 0.0
        for channel in range(image.shape[0]):
            for a in range(patch_size):
                for b in range(patch_size):
                    difference = image[channel, row + a, column + b] - exemplar[channel, r + a, c + b]
                    total += difference * difference
        out[row, column] = total
    ### END SOLUTION


# %% check="cuda_distance"
check.cuda_distance(cuda_distance)

# %% [markdown]
# That was the last exercise. The rest of the chapter is harvest: four things that a good field is good for.

# %% [markdown]
# ## 2.10 Reshuffling a texture
#
# Lay out pieces of a texture at random, like a shuffled jigsaw. Inside a piece all is well; at its seams there are patches that look like nothing in the texture. Now alternate, from coarse to fine: find the nearest patch of the texture for every patch of the picture, and let
# them vote. The seams go, because their patches are replaced by real ones; the rest stays. The result may have any size.

# %% tags=["demonstration"]
names = ("pebbles", "leaves", "tiles")
gap = torch.ones(3, side // 2, 6)
shown = []
for name in names:
    texture = images.load(name, size=side // 2)
    wider = labkit.patchmatch.reshuffle(texture, size=(side // 2, side), seed=2)
    shown.append(torch.cat([texture, gap, wider], dim=2))
figures.show(
    shown,
    titles=[f"{name}, and a wider picture of it" for name in names],
    columns=1,
    width=560,
    alt="on the left a texture, on the right a picture of the same texture in another order, twice as wide",
    caption="Textures without a plan are happy with any order. Tiles have a plan, a grid, and patches smaller than a tile do "
    "not know it.",
)

# %% [markdown]
# Look closely: the result holds large copies of the original. It is new in its layout, not in its parts. Chapters 3, 5 and 6 do something about that.

# %% [markdown]
# ## 2.11 Filling holes
#
# A photograph has a hole $M$. What should be there? Something *whose patches all occur in the rest of the picture* (Wexler, Shechtman & Irani, 2007):
#
# $$E(u, \psi) = \sum_{x \,:\, p_u(x) \text{ touches } M} \big\| p_u(x) - p_u(\psi(x)) \big\|^2, \qquad \psi(x) \text{ a patch that does not touch } M.$$
#
# It depends on two unknowns, and each is easy when the other is known: given $u$, the best $\psi$ is a nearest-neighbour field; given $\psi$, the best $u$ in the hole is the vote. Alternating between them never raises $E$ (with exact matches), and leads into the nearest *local* minimum. What decides is
# the start, and so one works from coarse to fine: in a picture so small that the hole is hardly larger than a patch, there is not much to be wrong about, and every finer scale starts from the field of the coarser one.

# %%
launch_pad = images.load("rocket", size=side)
height, width = launch_pad.shape[1:]
mask = torch.zeros(1, height, width, dtype=torch.bool)
mask[:, int(0.28 * height) : int(0.93 * height), int(0.455 * width) : int(0.545 * width)] = True
filled = labkit.patchmatch.inpaint(launch_pad, mask)
figures.show(
    [launch_pad, torch.where(mask, torch.ones_like(launch_pad), launch_pad), filled],
    titles=["photograph", "hole", "filled"],
    alt="a rocket on its launch pad at dusk between four towers; in the last picture the rocket is gone",
    caption="Lift-off. Sky and lights in the hole are copies of sky and lights elsewhere in the picture.",
)

# %% [markdown]
# Now you: paint over what should go, with the mouse or the keyboard, and press *Fill*. Where does it fail? (Try half of a tower: does it grow back? And half of a face, in a picture of your own:
# nothing in the picture knows what the other half should look like.)

# %% tags=["demonstration"]
widgets.Eraser(
    launch_pad,
    fill=labkit.patchmatch.inpaint,
    mask=mask,
    alt="a rocket on its launch pad at dusk, with a painted hole, and the picture filled",
    caption="Paint over what should disappear, then press Fill. Try a picture of your own, too.",
)

# %% [markdown]
# Against what should one compare? The smoothest surface through the border of the hole (the *biharmonic* fill of scikit-image) knows no patches. Where the truth is known, one can measure; but a fill may be perfectly believable and still, pixel by pixel, far from the truth.

# %% tags=["demonstration"]
texture = images.load("leaves", size=side // 2)
middle, reach = side // 4, side // 12
hole = torch.zeros(1, side // 2, side // 2, dtype=torch.bool)
hole[:, middle - reach : middle + reach, middle - reach : middle + reach] = True
with_hole = torch.where(hole, torch.ones_like(texture), texture)
smooth = images.from_array(inpaint_biharmonic(images.to_array(with_hole), hole[0].numpy(), channel_axis=-1))
patched = labkit.patchmatch.inpaint(texture, hole)
figures.show(
    [with_hole, smooth.to(texture).clamp(0, 1), patched, texture],
    titles=["hole", "biharmonic", "patches", "truth"],
    width=240,
    alt="autumn leaves",
    caption="A smooth surface is a fair guess of every pixel and a poor guess of the picture.",
)

# %% [markdown]
# The same with patches that have a *duration*, boxes of pixels and frames, fills holes in videos: `labkit.patchmatch.inpaint_video`. It is the baseline of chapter 9.

# %% [markdown]
# ## 2.12 Stereo
#
# A point that the left eye sees at column $j$ the right eye sees at $j - d$, and $d$, the **disparity**, is inversely proportional to its distance. (The pictures are *rectified*: points stay in their row.) So the field of section 2.2 is a map of depth. The rest is craft:
# search along the row only; compare how neighbours are *ordered* in brightness rather than colours, which differ between two cameras; match both ways and distrust points on which the two disagree, for they are hidden from one eye; smooth what is left with a weighted median.

# %%
height, width = left.shape[1:]
truth = torch.from_numpy(skimage.data.stereo_motorcycle()[2])
i, j = (((torch.arange(n) + 0.5) * full / n).long() for n, full in zip((height, width), truth.shape))
truth = truth[i][:, j] * width / truth.shape[1]  # at the size of our pictures
known = torch.isfinite(truth)

plain = F.pad(-labkit.patchmatch.shift_map(exact.nnf)[1:], (3, 3, 3, 3), mode="replicate")[0]
stereo = labkit.patchmatch.stereo_disparity(left, right, largest=side // 8)[0]
estimates = {"nearest patches, exact": plain, "stereo_disparity": stereo}
shown = {**estimates, "truth": torch.where(known, truth, 0)}
figures.show(
    [left, *(figures.colorize(d, low=0, high=side / 11) for d in shown.values())],
    titles=["left eye", *shown],
    columns=2,
    alt="a motorcycle in a workshop, and its depth: near things bright, far things dark",
    caption="Disparity, bright is near. In the truth, black is unknown.",
)

# %%
rows = []
for name, estimate in estimates.items():
    error = (estimate - truth).abs()[known]
    rows.append([name, float(error.mean()), float(error.median()), 100 * float((error > 1).float().mean())])
figures.table(
    rows,
    header=["", "mean error, pixels", "median error, pixels", "off by more than one pixel, %"],
    caption=f"Disparity against the measured one, where that is known, at {width}×{height} pixels.",
)

# %% [markdown]
# ## 2.13 In another's manner
#
# Finally, a picture of one thing made of the patches of another: **stylisation**. It is the opening picture of this chapter, with three additions (after Samuth, Tschumperlé & Rabin). It works from coarse to fine. Patches of the style that are used often become dearer, or one flat patch would fill every
# flat region. And after each vote the picture is blended with the content, so that it stays in sight. (Before all that, the content takes over the mean and
# covariance of the style's colours.)

# %% tags=["demonstration"]
examples = [("chelsea", "leaves"), ("coffee", "terrazzo")]
small = 3 * side // 4
shown = []
for names in examples:
    content, style = (images.load(name, size=small) for name in names)
    shown += [content, style, labkit.patchmatch.stylize(content, style)]
figures.show(
    shown,
    titles=["content", "style", "content in the manner of the style"] * len(examples),
    columns=3,
    width=260,
    alt="a cat or a cup of coffee; leaves or terrazzo; and the first made of the second",
    caption="A cat of leaves, and a cup of stone chips.",
)

# %% [markdown]
# ## 2.14 Does it work?
#
# The stored tables were computed by `labkit results 02`. First: how near does each schedule come to the exhaustive optimum? Barnes et al. report that the field is nearly converged after four or five iterations.

# %%
labkit.results.show("02")

# %%
labkit.results.live("02", size=runtime.choose({"quick": 64, "laptop": 128, "gpu": 256}))

# %% [markdown]
# After five iterations jump flooding has come nearest: it tries sixteen neighbours where the scan tries two.
#
# Second: cost. With $N$ patches an iteration compares about $N (2 + \log_2 R)$ pairs, and $R$ grows like $\sqrt N$: the time should grow like $N \log N$, hardly more than in proportion.

# %%
labkit.results.show("02", table=1)

# %% [markdown]
# Third: holes in textures, where the truth is known. In regular textures (tiles, scales) the copies land where they belong. In leaves and pebbles a believable fill puts other leaves and stones where the truth has these, and scores that compare with the truth do not like it better
# than a blur: compare the numbers with what you saw in section 2.11.

# %%
labkit.results.show("02", table=2)

# %% [markdown]
# Fourth: stereo. The nearest patch anywhere is often the wrong one; looking along the row, asking both views, and the median remove most of the errors.

# %%
labkit.results.show("02", table=3)

# %% [markdown]
# ## Go further
#
# - In section 2.3 we computed the chance that a region gets a lucky match at the start. Random search helps as well: what is the chance that a random candidate hits the *neighbourhood* of the right match, from where the smaller windows find it?
# - Random search centred at $y_0$, or following the best match as it improves: does it make a difference? Change your `patchmatch` and compare the curves, over several seeds.
# - Keep the $k$ best matches of every patch instead of one (`k=3`), and propagate all of them. What does voting with all $k$ do to the reconstruction? When is the second-best match interesting?
# - Write the whole of jump flooding as CUDA kernels: your `cuda_distance` is its inner part. Where do the random numbers come from, if the result must not depend on the number of threads?
# - The sequential scan needs $H' + W' - 1$ rounds if every anti-diagonal is a round. Show that a scan *down the columns* gives the same field as one along the rows. Which other orders do?
# - Voting minimises the sum of squares. Which vote minimises $\sum \|\cdot\|_1$? Would it be sharper?
# - Let `transforms=("identity", "rotate_90")` search rotated patches too. For which pictures does that pay?

# %% [markdown]
# ## Glossary
#
# | term | meaning |
# | --- | --- |
# | **exemplar** $\tilde u$ | the picture in which matches are looked for |
# | **match** | the nearest (or a near) patch of the exemplar |
# | **nearest-neighbour field** $\psi$ | for every patch the position of its match; "nnf" for short |
# | **shift** | $\psi(x) - x$; the lecture and Barnes et al. call it offset |
# | **propagation** | trying the matches of neighbours, moved along |
# | **random search** | trying random places around a match, in windows of half the radius each time |
# | **scan order** | along the rows, from the first row to the last |
# | **voting** | every pixel is the mean of what the matches of all patches that hold it say |
# | **jump flooding** | propagation from neighbours $\ell$ patches away, all patches at once |
# | **double buffer** | read one copy, write another, exchange them |
# | **race** | a result that depends on which thread is faster |
# | **kernel** | on a GPU, the program of one thread; elsewhere in labkit, any compiled inner loop (and not the kernel of a filter) |
# | **block, grid** | threads that run together; all blocks of a launch |
# | **disparity** | how far apart two eyes see the same point, in pixels |
# | **coarse to fine** | solve it in a small picture first, start the next larger one from there |

# %% [markdown]
# ## References
#
# - C. Barnes, E. Shechtman, A. Finkelstein, D. B. Goldman, *PatchMatch: a randomized correspondence algorithm for structural image editing*, ACM TOG 2009. [doi:10.1145/1531326.1531330](https://doi.org/10.1145/1531326.1531330)
# - C. Barnes, E. Shechtman, D. B. Goldman, A. Finkelstein, *The generalized PatchMatch correspondence algorithm*, ECCV 2010. [doi:10.1007/978-3-642-15558-1_3](https://doi.org/10.1007/978-3-642-15558-1_3)
# - G. Rong, T.-S. Tan, *Jump flooding in GPU with applications to Voronoi diagram and distance transform*, I3D 2006. [doi:10.1145/1111411.1111431](https://doi.org/10.1145/1111411.1111431)
# - Y. Wexler, E. Shechtman, M. Irani, *Space-time completion of video*, IEEE TPAMI 2007. [doi:10.1109/TPAMI.2007.60](https://doi.org/10.1109/TPAMI.2007.60)
# - A. Newson, A. Almansa, M. Fradet, Y. Gousseau, P. Pérez, *Video inpainting of complex scenes*, SIAM J. Imaging Sciences 2014. [doi:10.1137/140954933](https://doi.org/10.1137/140954933)
# - D. Scharstein et al., *High-resolution stereo datasets with subpixel-accurate ground truth*, GCPR 2014 (the motorcycle). [doi:10.1007/978-3-319-11752-2_3](https://doi.org/10.1007/978-3-319-11752-2_3)
# - B. Samuth, D. Tschumperlé, J. Rabin, *A patch-based approach for artistic style transfer via constrained multi-scale image matching*, ICIP 2022.
# - N. Cherel, thesis, chapter IV and Algorithm 4. There the update is in place; this notebook double-buffers it.
# - J. Rabin, *Generative models, part I: patch-based methods*, lecture, ENSICAEN. On its slide "PatchMatch: details" both neighbours are $(0, -1)$; the upper one is $(-1, 0)$.

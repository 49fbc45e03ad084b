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
#   title: Diffusion inpainting
#   minutes: 330
#   needs: chapters 1 and 2; two cores, a GPU is welcome
#   summary: Train a small diffusion model on a single picture and draw from it what may have been in a hole, as often as you like.
# ---

# %% [markdown]
# # 8 · Diffusion inpainting
#
# Chapter 2 filled a hole with patches that fit. It gave *one* fill, the best it could find. But what was in the hole? Other roof scales, of other colours; nobody knows, and many answers are equally good. This chapter does not ask for the best fill. It asks: **draw me one of those that may have been there**. And another. And another.
#
# | method | gives | learns |
# | --- | --- | --- |
# | patches, chapter 2 | one fill, a patchwork of copies | nothing |
# | regression with a network | one fill, the mean of all plausible ones: blurred | from one picture |
# | **diffusion** with the same network | as many fills as you like, each of them sharp | from one picture |
# | diffusion with the picture's own patches | as many fills as you like, a patchwork of copies | nothing |
#
# **The idea.** Add noise to a picture in many small steps, until nothing but noise is left. One small step can be undone, nearly: a *denoiser* guesses what the picture may be, and we go a little way towards its guess. So start from pure noise and undo all the steps, one by one. At every step there is a little chance in it,
# and at the end stands a picture, another one each time.
#
# **Why a network for one picture?** The famous diffusion models have hundreds of millions of weights and have seen as many pictures. For a single texture that is not needed: its scales explain each other (the one observation that this course rests on). A network of 160,000 weights, trained for
# minutes on *the picture with the hole itself*, will do. Methods that look at nothing but the picture at hand are called **internal**. (The chapter follows chapter V of N. Cherel's thesis, see the references.)
#
# The number of the chapter tells its place in the course; it needs chapters 1 (non-local means) and 2 only.

# %% [markdown]
# ## How this notebook works
#
# It works like the chapters before: replace the line that raises `NotImplementedError`, run the cell, run the check under it; hints unfold; after each exercise the notebook goes on with labkit's own function, so **you can skip one and come back**. There are nine exercises.
#
# - **Letters.** In earlier chapters $x$ was a pixel. Here, as everywhere in the literature on diffusion, $x_0$ is a picture, and $x_1, x_2, \dots$ are its noisy versions. The noise itself is $\varepsilon$: independent normal numbers of mean 0 and variance 1, one for each value of the picture.
# - **Values.** Outside, pictures have values in $[0, 1]$. Inside the chain $x_0 = 2u - 1$ has values in $[-1, 1]$. `to_chain` and `from_chain` of `labkit.diffusion_inpainting` translate.
# - **Batches.** In the chain there are several pictures at once: tensors `(N, C, H, W)`, $N$ pictures of $C$ channels.
# - **Steps** are counted $t = 1, \dots, \text{steps}$, and $t = 0$ is the picture. A table such as `betas` has steps + 1 entries, so that **entry $t$ belongs to step $t$**; `betas[0]` is 0.
# - **Masks** are `True` where a pixel is missing, as in chapter 2.
#
# All randomness comes in as an argument, so your functions have one right answer. Return the dtype that came in, and leave the arguments unchanged.

# %%
import math
import time

import torch
from matplotlib.figure import Figure

import labkit
from labkit import figures, images, metrics, runtime, widgets
from labkit.checks import diffusion_inpainting as check
from labkit.diffusion_inpainting import from_chain, to_chain

print(runtime.summary())
side = runtime.choose({"quick": 32, "laptop": 96, "gpu": 256})  # pictures are this many pixels wide

# %% [markdown]
# Here is where we are going: a picture with a hole, and four fills. Look at the hole only. Which of them are plausible? Without the words below, would you have found the truth among them? (Nothing has been trained for this one. It is a diffusion model without a network, made of the picture's own patches; you will write it in the last exercise.)

# %%
small = runtime.choose({"quick": 48, "laptop": 64, "gpu": 96})
scales = images.load("scales", size=small)
gap = labkit.diffusion_inpainting.brush_mask(small, small, thickness=small / 6, length=small / 4, seed=10)
denoiser = labkit.diffusion_inpainting.PatchDenoiser(scales, gap, patch_size=small // 12 * 2 + 1)
fills = labkit.diffusion_inpainting.inpaint(scales, gap, model=denoiser, samples=4, sampling_steps=60, seed=1)
figures.show(
    [torch.where(gap, torch.ones_like(scales), scales), *fills, scales],
    titles=["hole", "a fill", "another fill", "and another", "and another", "what was there"],
    columns=3,
    width=200,
    alt="coloured scales with a white stroke of a brush through them, and the same with other scales in its place",
    caption="Four draws from the same model, and the truth, which the model has not seen.",
)

# %% [markdown]
# ## 8.1 Into the noise
#
# One step fades the picture a little and adds a little noise:
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \varepsilon_t, \qquad t = 1, \dots, \text{steps}.$$
#
# The numbers $\beta_t$, the **schedule**, are small and given: usually they grow evenly from $\beta_1 = 10^{-4}$ to $\beta_{1000} = 0.02$. All these noises are independent. This sequence of pictures is the **chain**; $x_t$ depends on what was before only through $x_{t-1}$.
#
# *Before you read on:* say the values of $x_{t-1}$ have variance 1. What variance have those of $x_t$? So why the fading?
#
# (They have variance $(1 - \beta_t) \cdot 1 + \beta_t = 1$ again. Without the fading the values would grow and grow.)
#
# Put two steps together. With $\alpha_t = 1 - \beta_t$, the picture has been multiplied by $\sqrt{\alpha_1 \alpha_2}$, and what has been added is a sum of two independent normal noises: $\sqrt{\alpha_2 \beta_1}\, \varepsilon_1 + \sqrt{\beta_2}\, \varepsilon_2$, which is normal again, and the variances add up: $\alpha_2 (1 - \alpha_1) + 1 - \alpha_2 = 1 - \alpha_1 \alpha_2$. And so on. There is no need to go step by step:
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon, \qquad \bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t, \qquad \bar\alpha_0 = 1.$$
#
# In the language of probability: $q(x_t \mid x_0)$, the distribution of $x_t$ when the picture is $x_0$, is normal, with mean $\sqrt{\bar\alpha_t}\, x_0$ and variance $1 - \bar\alpha_t$.

# %% [markdown]
# ### Exercise 1 · `add_noise` (1 point, about 15 minutes)
#
# Write `add_noise(x0, t, noise, betas)`: the pictures $x_t$, in one go. `x0` and `noise` are `(N, C, H, W)`; `t` is an integer tensor `(N,)`, **a step for each picture**, from 0 on; `betas` is `(steps + 1,)` and of the dtype of `x0`. For $t = 0$ the result is the picture itself.
#
# <details><summary>Hint 1: the table</summary>
#
# `(1 - betas).cumprod(0)` are all $\bar\alpha_t$ at once. As `betas[0]` is 0, its entry 0 is 1, and entry $t$ is $\bar\alpha_t$.
# </details>
#
# <details><summary>Hint 2: the mixture</summary>
#
# Numbers that multiply pictures are *roots of variances*: $\sqrt{\bar\alpha_t}$ for the picture and $\sqrt{1 - \bar\alpha_t}$ for the noise. (The noise is used once, not $t$ times.)
# </details>
#
# <details><summary>Hint 3: a number for each picture</summary>
#
# `alpha_bars[t]` has the shape `(N,)`; next to a tensor `(N, C, H, W)`, torch would lay it along the columns. `[:, None, None, None]` makes it `(N, 1, 1, 1)`.
# </details>


# %% exercise="add_noise"
def add_noise(x0, t, noise, betas):
    """The pictures x0 after t steps of the chain."""
    ### BEGIN SOLUTION
    alpha_bars = (1 - betas).cumprod(0)
    kept = alpha_bars[t][:, None, None, None]
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    ### END SOLUTION


# %% check="add_noise"
check.add_noise(add_noise)

# %% [markdown]
# From here on the notebook takes labkit's chain, `Diffusion`, which holds the schedule and everything that can be computed from it, and a picture that stays with us, the scales of a roof. Move the slider: at which step do you cease to see scales? At which step could you no longer tell this from pure noise, if you did not know? (The noise is the same at all steps; only the mixture changes.)

# %%
picture = images.load("scales", size=side)
diffusion = labkit.diffusion_inpainting.Diffusion()  # 1000 steps, β from 0.0001 to 0.02
noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
widgets.Explorer(
    lambda image, t: from_chain(diffusion.add_noise(to_chain(image)[None], t, noise)[0]).clamp(0, 1),
    picture,
    t=(0, 1000, 60),
    labels={"t": "step t"},
    alt="Coloured roof scales under noise.",
    caption="The picture after t of 1000 steps.",
)

# %%
half = int((diffusion.alpha_bars > 0.5).sum())
print(f"From step {half} on there is more noise than picture: there ᾱ_t falls below one half.")
print(f"At the last step ᾱ_t is {float(diffusion.alpha_bars[-1]):.6f}: nothing of the picture is left.")

# %% [markdown]
# The schedule as curves. $\bar\alpha_t$ is the share of the picture in the variance, $1 - \bar\alpha_t$ that of the noise; their quotient is the **signal-to-noise ratio**
#
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1 - \bar\alpha_t}.$$
#
# In the first quarter of the steps, where the SNR is above 1, the eye still finds scales. The other three quarters look like noise to us, and are not wasted: on the way back, colours and large shapes are decided there, before any detail.

# %% tags=["demonstration"]
figure = Figure(figsize=(8.5, 2.8), layout="constrained")
shares, ratio = figure.subplots(1, 2)
steps = torch.arange(1, diffusion.steps + 1)
shares.plot(steps, diffusion.alpha_bars[1:], label=r"picture, $\bar\alpha_t$")
shares.plot(steps, 1 - diffusion.alpha_bars[1:], "--", label=r"noise, $1 - \bar\alpha_t$")
shares.set(xlabel="step t", ylabel="share of the variance")
shares.legend(frameon=False)
ratio.semilogy(steps, diffusion.snr(steps))
ratio.axhline(1, color="grey", linewidth=0.8)
ratio.set(xlabel="step t", ylabel="SNR(t), logarithmic")
figures.chart(
    figure,
    alt="the share of the picture falls from 1 to 0 along an S, that of the noise rises; the ratio falls from 10000 to below 0.0001",
    caption="The usual schedule. Picture and noise are equal where the ratio is 1.",
)

# %% [markdown]
# ## 8.2 One step back
#
# Suppose we are at $x_t$, and somebody tells us the picture $x_0$. Where was the chain one step before? Bayes' rule answers: both $q(x_{t-1} \mid x_0)$ and $q(x_t \mid x_{t-1})$ are normal, so the **posterior** $q(x_{t-1} \mid x_t, x_0)$, which weighs one against the other, is normal too. Its mean lies on the way from $x_t$ to $x_0$,
#
# $$\tilde\mu_t(x_t, x_0) = \frac{\sqrt{\bar\alpha_{t-1}}\; \beta_t}{1 - \bar\alpha_t}\; x_0 + \frac{\sqrt{\alpha_t}\; (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\; x_t, \qquad\text{and its variance is}\qquad \sigma_t^2 = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t .$$
#
# Nobody tells us the picture. But a **denoiser** can guess it from $x_t$, and with its guess $\hat x_0$ in the place of $x_0$ we get the **reverse chain**: draw $x_{\text{steps}}$ from pure noise, then for $t = \text{steps}, \dots, 1$
#
# $$x_{t-1} = \tilde\mu_t(x_t, \hat x_0) + \sigma_t\, z_t, \qquad z_t \text{ fresh normal noise.}$$
#
# The guess at $t = 900$ is a blur. That does no harm: only a small step is made towards it, and at $t = 899$ a new guess is made, from a picture with a little less noise.
#
# (Mind the root in the factor of $x_t$. The thesis, eq. V.3, prints $\sqrt{\bar\alpha_t}$ there; it has to be $\sqrt{\alpha_t}$. Under the exercise you can see what difference that makes.)
#
# **Three ways to say the same.** A denoiser need not speak of the picture. As $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon$ and $x_t$ is known, a guess of the *noise* is a guess of the picture:
#
# $$\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\; \hat\varepsilon}{\sqrt{\bar\alpha_t}},$$
#
# and a third denoiser may answer with the *mean* $\tilde\mu_t$ itself. These are called **parametrisations**: for the reverse chain they are the same, for training they are not (section 8.3). Most large models predict the noise; ours predicts the picture.
#
# *A question:* $t$ is 990, and a guess of the noise is wrong by 0.01. By how much is the guess of the picture wrong? (By $\sqrt{1 - \bar\alpha_t} / \sqrt{\bar\alpha_t}$ times as much, which is about 140 there: 1.4, where the range is from $-1$ to 1. And at $t = 5$? There it is the other way round: a small error of the picture is a large one of the noise.)

# %% [markdown]
# ### Exercise 2 · `posterior_mean` (2 points, about 25 minutes)
#
# Write `posterior_mean(prediction, x_t, t, betas, given)`: the mean $\tilde\mu_t$. `prediction` is what a denoiser said, `(N, C, H, W)` like `x_t`, and `given` says what it is: `"image"` for $\hat x_0$, `"noise"` for $\hat\varepsilon$, `"mean"` for the mean itself. `t` is one whole number for all pictures, from 1 to steps, and
# `betas` is `(steps + 1,)`.
#
# <details><summary>Hint 1: the entries</summary>
#
# `alpha_bars = (1 - betas).cumprod(0)` as before. Then $\beta_t$ is `betas[t]`, $\alpha_t$ is `1 - betas[t]`, $\bar\alpha_t$ is `alpha_bars[t]` and $\bar\alpha_{t-1}$ is `alpha_bars[t - 1]`, which is 1 for $t = 1$.
# </details>
#
# <details><summary>Hint 2: the two factors</summary>
#
# Both are divided by $1 - \bar\alpha_t$. The picture's has $\sqrt{\bar\alpha_{t-1}}$ (*bar*, one step before) and $\beta_t$; that of $x_t$ has $\sqrt{\alpha_t}$ (*no bar*) and $1 - \bar\alpha_{t-1}$. Test yourself: for $t = 1$ they are 1 and 0, and the mean is the guess itself.
# </details>
#
# <details><summary>Hint 3: noise and mean</summary>
#
# Turn a guess of the noise into one of the picture, $(x_t - \sqrt{1 - \bar\alpha_t}\, \hat\varepsilon) / \sqrt{\bar\alpha_t}$, and go on as if that had been given. (Put together, this is $(x_t - \beta_t / \sqrt{1 - \bar\alpha_t}\; \hat\varepsilon) / \sqrt{\alpha_t}$, which you may use as well.) A mean is the result already.
# </details>


# %% exercise="posterior_mean"
def posterior_mean(prediction, x_t, t, betas, given):
    """Mean of where the chain was one step before x_t, for a prediction of the image, the noise or the mean."""
    ### BEGIN SOLUTION
    alpha_bars = (1 - betas).cumprod(0)
    alpha, beta, bar, before = 1 - betas[t], betas[t], alpha_bars[t], alpha_bars[t - 1]
    if given == "mean":
        return prediction
    image = prediction
    if given == "noise":
        image = (x_t - (1 - bar).sqrt() * prediction) / bar.sqrt()
    return before.sqrt() * beta / (1 - bar) * image + alpha.sqrt() * (1 - before) / (1 - bar) * x_t
    ### END SOLUTION


# %% check="posterior_mean"
check.posterior_mean(posterior_mean)

# %% [markdown]
# Does the reverse chain draw what it should? Try it where everything is known: let "pictures" be single numbers, drawn from a normal distribution of mean 0.3 and standard deviation 0.2. Then the best denoiser is a formula: the mean of $x_0$, given $x_t$, is
#
# $$\hat x_0 = 0.3 + \frac{\sqrt{\bar\alpha_t}\; 0.2^2}{\bar\alpha_t\, 0.2^2 + 1 - \bar\alpha_t} \left( x_t - \sqrt{\bar\alpha_t}\; 0.3 \right).$$
#
# The reverse chain starts from pure noise, 20,000 times, once with $\sqrt{\alpha_t}$ in the mean and once with the misprint. Denoiser and noises are the same.

# %% tags=["demonstration"]
alphas, bars = diffusion.alphas, diffusion.alpha_bars
rows = [["wanted", 0.3, 0.2]]
for name, roots in (("√α_t", alphas.sqrt()), ("√ᾱ_t, as printed", bars.sqrt())):
    noises = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, generator=noises)
    for t in range(diffusion.steps, 0, -1):
        guess = 0.3 + bars[t].sqrt() * 0.04 / (bars[t] * 0.04 + 1 - bars[t]) * (x - bars[t].sqrt() * 0.3)
        x = (bars[t - 1].sqrt() * (1 - alphas[t]) * guess + roots[t] * (1 - bars[t - 1]) * x) / (1 - bars[t])
        x = x + diffusion.posterior_variance(t) ** 0.5 * torch.randn(20_000, generator=noises)
    rows.append([name, round(float(x.mean()), 3), round(float(x.std()), 3)])
figures.table(
    rows,
    header=["factor of x_t in the mean", "mean", "standard deviation"],
    caption="What the reverse chain draws, with the best possible denoiser.",
)

# %% [markdown]
# With the right factor the reverse chain draws what it should, up to chance. With the misprint the fault is one of the *chain*, and no training could mend it. A formula of two lines is worth a test of ten.

# %% [markdown]
# ## 8.3 What the error of a step counts
#
# A network $f_\theta$ is to become the denoiser. So: take a picture, draw $t$ and $\varepsilon$, make $x_t$, let the network guess, and lower the squared error. But an error of the picture and an error of the noise are not the same number, and there are a thousand steps. **What should the error of step $t$ count?**
#
# The theory (Ho, Jain & Abbeel, 2020) says: make each reverse step as near as possible to the true one, near in the sense of the Kullback–Leibler divergence, which measures how different two distributions are. Both are normal with the same variance $\sigma_t^2$, so the divergence is
#
# $$L_t = \frac{1}{2 \sigma_t^2} \big\| \tilde\mu_t(x_t, x_0) - \tilde\mu_t(x_t, \hat x_0) \big\|^2 .$$
#
# The sum of all $L_t$ bounds the log-likelihood of the data from below, up to sign and constants, hence the name **ELBO**, *evidence lower bound*. In the difference $x_t$ cancels, and what is left is the factor of $x_0$, squared: for a network that predicts the image
#
# $$L_t = \frac{\bar\alpha_{t-1}\, \beta_t^2}{2 \sigma_t^2\, (1 - \bar\alpha_t)^2}\; \| x_0 - \hat x_0 \|^2 ,$$
#
# and, since $x_0 - \hat x_0 = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}\; (\hat\varepsilon - \varepsilon)$, for one that predicts the noise
#
# $$L_t = \frac{\beta_t^2}{2 \sigma_t^2\, \alpha_t\, (1 - \bar\alpha_t)}\; \| \varepsilon - \hat\varepsilon \|^2 .$$
#
# (The last line of the thesis's appendix A.1.3 has a square too many in this denominator; the line before it is right.) At $t = 1$ there is $\sigma_1^2 = 0$ and the weight is infinite: the last step is no longer random. One takes $\sigma_2^2$ **in the place of** $\sigma_1^2$, as Ho et al. do in their code.
#
# The ELBO looks for the best likelihood, and spends most of its weight on the smallest noises, which nobody sees. Others do better for the eye:
#
# - **uniform**: weight 1 for every step. In the thesis, and here, for the *image*.
# - **Min-SNR** (Hang et al., 2023): for the image $\min(\mathrm{SNR}(t), 5)$. For the noise the same loss is written with the weight $\min(\mathrm{SNR}(t), 5) / \mathrm{SNR}(t)$, because $\| x_0 - \hat x_0 \|^2 = \| \varepsilon - \hat\varepsilon \|^2 / \mathrm{SNR}(t)$.

# %% [markdown]
# ### Exercise 3 · `loss_weights` (2 points, about 30 minutes)
#
# Write `loss_weights(t, betas, kind, target)`: the weight of each step in `t`, an integer tensor `(N,)` with entries from 1 to steps. `betas` is `(steps + 1,)`, float64, with at least two steps. `kind` is `"elbo"` or `"min_snr"`, `target` is `"image"` or `"noise"`: what the network predicts and its error is measured on. Return a tensor `(N,)` of the dtype of
# `betas`; do not normalise it.
#
# <details><summary>Hint 1: the entries</summary>
#
# With `alpha_bars` from exercise 1, `betas[t]`, `alpha_bars[t]` and `alpha_bars[t - 1]` are tensors `(N,)`: indexing with a tensor picks an entry for each step. The variance is $\sigma_t^2 = (1 - \bar\alpha_{t-1}) / (1 - \bar\alpha_t) \cdot \beta_t$, section 8.2.
# </details>
#
# <details><summary>Hint 2: ELBO</summary>
#
# Image: `before * beta**2 / (2 * variance * (1 - bar) ** 2)`. Noise: `beta**2 / (2 * variance * alpha * (1 - bar))`, with $\alpha_t$ (no bar), and without a square on $1 - \bar\alpha_t$.
# </details>
#
# <details><summary>Hint 3: the first step</summary>
#
# Only $\sigma_1$ is replaced, everything else in the formula stays that of $t = 1$. So compute the variance at `s = t.clamp(min=2)` and the rest at `t`.
# </details>
#
# <details><summary>Hint 4: Min-SNR</summary>
#
# `snr = bar / (1 - bar)`, and `snr.clamp(max=5)` is the smaller of the two. For the noise, divide the result by `snr`.
# </details>


# %% exercise="loss_weights"
def loss_weights(t, betas, kind, target):
    """What the squared error of each step counts in the loss."""
    ### BEGIN SOLUTION
    alpha_bars = (1 - betas).cumprod(0)
    beta, bar, before = betas[t], alpha_bars[t], alpha_bars[t - 1]
    if kind == "min_snr":
        snr = bar / (1 - bar)
        return snr.clamp(max=5) / snr if target == "noise" else snr.clamp(max=5)
    s = t.clamp(min=2)
    variance = (1 - alpha_bars[s - 1]) / (1 - alpha_bars[s]) * betas[s]
    if target == "noise":
        return beta**2 / (2 * variance * (1 - beta) * (1 - bar))
    return before * beta**2 / (2 * variance * (1 - bar) ** 2)
    ### END SOLUTION


# %% check="loss_weights"
check.loss_weights(loss_weights)

# %% [markdown]
# All weights on one scale, as they fall on an error of the *image*. *Before you look:* a large model is usually trained with weight 1 on the error of the *noise*. What weight is that on the error of the image? Which steps does it favour, compared with ours?

# %% tags=["demonstration"]
figure = Figure(figsize=(8.5, 3), layout="constrained")
axes = figure.subplots()
curves = {
    "uniform, on the image (ours)": torch.ones(diffusion.steps, dtype=torch.float64),
    "uniform, on the noise: SNR(t)": diffusion.snr(steps),
    "Min-SNR": diffusion.loss_weights(steps, kind="min_snr"),
    "ELBO": diffusion.loss_weights(steps, kind="elbo"),
}
for (name, weights), style in zip(curves.items(), ("-", "--", "-.", ":")):
    axes.loglog(steps, weights, style, label=name)
axes.set(xlabel="step t, logarithmic", ylabel="weight, logarithmic")
axes.legend(frameon=False)
figures.chart(
    figure,
    alt="four falling curves, the uniform one level; the weight of the noise falls by eight powers of ten, that of the ELBO even faster",
    caption="What an error of the image counts at each step. Only the shape matters: a constant factor is a matter of the learning rate.",
)

# %% [markdown]
# Weight 1 on the noise is weight SNR on the image: 9999 for the first step and less than 0.1 in the middle of the chain. Uniform weights on the image let the *noisy* steps dominate instead, because there the error is largest. That is where a fill gets its shapes, and the details may suffer. Section 8.9 has another way out: train one interval of
# steps after the other.

# %% [markdown]
# ## 8.4 Holes to practise on
#
# What the network has to learn is to fill holes. It is never shown the truth in *our* hole; nobody has it. So we paint other holes over parts of the picture that are known, and let it guess those. They should be like the real one, which was painted with a brush, to and fro.
#
# The thesis (Fig. V.2, after Yu et al., 2019) draws a path of $N$ segments with corners $c_0, \dots, c_N$. It starts at a random point $c_0$. Segment $i = 1, \dots, N$ has a random angle $\theta_i$ and a random length $\ell_i$; on *every second* segment, for $i$ even, the angle is $2\pi - \theta_i$ instead of $\theta_i$, and so
#
# $$c_i = c_{i-1} + \ell_i \begin{pmatrix} \sin \theta \\ \cos \theta \end{pmatrix} \qquad \text{in (row, column), that is } \cos\theta \text{ to the right and } \sin\theta \text{ down.}$$
#
# With angles between 0 and $\pi / 2$ this goes right and down, right and up, right and down: a zigzag. A point that would run out of the picture is moved to the nearest place inside. Then a round brush is led along the path: every pixel whose distance from a segment is at most half the brush's thickness is painted.

# %% [markdown]
# ### Exercise 4 · `brush_mask` (2 points, about 30 minutes)
#
# Write `brush_mask(start, angles, lengths, height, width, thickness)`. `start` is a tensor `(2,)`, the point $c_0$ as (row, column); `angles` (in radians) and `lengths` (in pixels) are `(N,)`, all of float64. The pixel in row $i$ and column $j$ lies at the point $(i, j)$. After each segment, the new corner is clamped to rows $0 \dots H - 1$ and columns $0 \dots W - 1$. `thickness` is
# the brush's diameter, at least 2. Return a boolean tensor `(1, H, W)`, `True` where the distance to some segment is at most `thickness / 2`. A segment may have length 0; then it is a dot.
#
# <details><summary>Hint 1: the corners</summary>
#
# `for i in range(N)` counts from 0, so the mirrored segments are those with `i % 2 == 1`. `torch.stack([angle.sin(), angle.cos()])` is the direction as (row, column). `clamp(min=0)` and `minimum(last)` keep the corner inside, and *from there* the next segment begins.
# </details>
#
# <details><summary>Hint 2: the nearest point of a segment</summary>
#
# Let $d = c_i - c_{i-1}$. The point $c_{i-1} + s\, d$ of the whole line is nearest to the pixel $a$ for $s = \langle a - c_{i-1}, d \rangle / \|d\|^2$. The segment only has $0 \le s \le 1$: clamp $s$. Where $d$ is 0, clamp $\|d\|^2$ to a tiny number from below, and $s$ is 0.
# </details>
#
# <details><summary>Hint 3: the distance, for all pixels at once</summary>
#
# `rows = torch.arange(height)[:, None]` and `columns = torch.arange(width)` broadcast to all pixels. `torch.hypot(down, right)` is the length of a difference. Compare it with `thickness / 2`, unite the segments with `|`, and add the first axis at the end: `mask[None]`.
# </details>


# %% exercise="brush_mask"
def brush_mask(start, angles, lengths, height, width, thickness):
    """Where a round brush has been that was led along a path."""
    ### BEGIN SOLUTION
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    last = torch.tensor([height - 1, width - 1])
    mask, corner = torch.zeros(height, width, dtype=torch.bool), start
    for i in range(len(angles)):
        angle = angles[i] if i % 2 == 0 else 2 * math.pi - angles[i]
        following = corner + lengths[i] * torch.stack([angle.sin(), angle.cos()])
        following = following.clamp(min=0).minimum(last)
        down, right = following - corner
        squared = (down**2 + right**2).clamp(min=1e-12)
        s = (((rows - corner[0]) * down + (columns - corner[1]) * right) / squared).clamp(0, 1)
        distance = torch.hypot(rows - corner[0] - s * down, columns - corner[1] - s * right)
        mask = mask | (distance <= thickness / 2)
        corner = following
    return mask[None]
    ### END SOLUTION


# %% check="brush_mask"
check.brush_mask(brush_mask)

# %% [markdown]
# Paint with chance: `labkit.diffusion_inpainting.brush_mask` draws the numbers itself. Which settings give holes like those that you would paint? Which angles make it run to the right?

# %%
widgets.Explorer(
    lambda image, segments, thickness, length, max_angle, seed: torch.where(
        labkit.diffusion_inpainting.brush_mask(
            side, side, segments=segments, thickness=thickness, length=length, max_angle=max_angle, seed=seed
        ),
        torch.ones_like(image),
        image,
    ),
    picture,
    segments=(1, 12, 6),
    thickness=(2.0, side / 3, side / 8),
    length=(2.0, float(side), 0.3 * side),
    max_angle=(0.2, 6.28, 6.28),
    seed=(0, 50, 0),
    labels={
        "segments": "segments N",
        "thickness": "thickness (pixels)",
        "length": "longest segment (pixels)",
        "max_angle": "largest angle (radians)",
    },
    alt="Coloured roof scales with a white stroke of a brush.",
    caption="A random stroke. White pixels are missing.",
)

# %% [markdown]
# ## 8.5 Learning without peeking
#
# Now there are two holes, and they must not be confused:
#
# | | who made it | what is under it | what for |
# | --- | --- | --- | --- |
# | $M_\text{test}$, the real hole | you, with the eraser | nobody knows | to be filled in the end |
# | $M_\text{train}$, a painted hole | `brush_mask`, anew in every training step | known to us, hidden from the network | to practise |
#
# The network is told where the chain is, $x_t$; what is known, $y = (1 - M) \odot x_0$, zero in the hole; the hole $M$ itself; and the step $t$. Its error counts **in the hole only** (thesis, eq. V.2),
#
# $$\mathbb{E}\; \big\| M \odot \big( x_0 - f_\theta(x_t, y, M, t) \big) \big\|^2 ,$$
#
# the mean over pieces of the picture, painted holes, steps and noises; $\odot$ multiplies pixel by pixel.
#
# A **crop** is a square piece of the picture. A large picture offers enough crops that do not touch $M_\text{test}$; on those, $M = M_\text{train}$ and all is well. In a small picture there are not enough of them, and then crops must be used that have a part of the real hole in them. Whatever stands under it (black, the paint of your brush, or, in an experiment, the truth) **must not have the slightest influence**, or the
# network learns to paint the eraser's white, or, worse, the experiment is a fraud: it knows the answer. There are three ways for a value to leak:
#
# - through $y$: hide *both* holes from the network, $M = M_\text{test}$ or $M_\text{train}$, and $y = (1 - M) \odot x_0$;
# - through $x_t$, which is easily forgotten: it is a noisy version of $x_0$, and at small $t$ it shows nearly everything. So $x_t = \sqrt{\bar\alpha_t}\, (1 - M_\text{test}) \odot x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon$, with noise *everywhere*;
# - through the loss: where nothing is known there is nothing to compare with. The error counts where $M_\text{train} \odot (1 - M_\text{test})$ is 1.
#
# *A question:* why does $x_t$ keep the picture under $M_\text{train}$, though that is what is to be guessed? (Because in use it will be there: in the reverse chain $x_t$ holds, in the hole, the noisy version of the fill so far. Seeing through noise is the task.)

# %% [markdown]
# ### Exercise 5 · `leak_free_example` (2 points, about 25 minutes)
#
# Write `leak_free_example(crop, missing, painted, noise, alpha_bar)`: what one training step shows and asks. `crop` is $x_0$ and `noise` is $\varepsilon$, both `(N, C, H, W)` in the chain's values; `missing` is $M_\text{test}$ and `painted` is $M_\text{train}$, both boolean `(N, 1, H, W)`; `alpha_bar` is $\bar\alpha_t$, one Python float (its root is `alpha_bar ** 0.5`). Return four tensors: $x_t$, $y$, the hole $M$ and where the error
# counts; the first two of the dtype of `crop`, the last two boolean `(N, 1, H, W)`.
#
# <details><summary>Hint 1: nothing goes further</summary>
#
# Begin with a copy of the crop without its missing pixels, `torch.where(missing, 0, crop)`, and never use `crop` again. Then nothing can leak.
# </details>
#
# <details><summary>Hint 2: what is seen</summary>
#
# $M$ is `missing | painted`. $y$ is 0 wherever $M$ is. $x_t$ is the mixture of exercise 1, of that copy and the noise: where pixels are missing only noise is left, where they are painted over the picture is still there.
# </details>
#
# <details><summary>Hint 3: what counts</summary>
#
# Painted *and not* missing: `painted & ~missing`.
# </details>


# %% exercise="leak_free_example"
def leak_free_example(crop, missing, painted, noise, alpha_bar):
    """What a training step shows the network, x_t, y and M, and where its error counts."""
    ### BEGIN SOLUTION
    known = torch.where(missing, 0, crop)
    x_t = alpha_bar**0.5 * known + (1 - alpha_bar) ** 0.5 * noise
    mask = missing | painted
    return x_t, torch.where(mask, 0, known), mask, painted & ~missing
    ### END SOLUTION


# %% check="leak_free_example"
check.leak_free_example(leak_free_example)

# %% [markdown]
# The same on our picture, at $t = 100$. The first hole is the one that the rest of this chapter fills; the second was painted to practise on, and crosses it.

# %% tags=["demonstration"]
hole = labkit.diffusion_inpainting.brush_mask(side, side, thickness=side / 6, length=side / 4, seed=23)
with_hole = torch.where(hole, torch.ones_like(picture), picture)
painted = labkit.diffusion_inpainting.brush_mask(
    side, side, thickness=side / 7, length=side / 3, segments=3, seed=134
)
crop, visible, stroke = to_chain(picture)[None], ~hole[None], painted[None]
x_t = diffusion.add_noise(torch.where(visible, crop, 0), 100, noise)
hidden, counted = ~visible | stroke, stroke & visible
y = torch.where(hidden, 0, crop)
figures.show(
    [with_hole, from_chain(x_t[0]).clamp(0, 1), from_chain(y[0]), hidden[0].float(), counted[0].float()],
    titles=["the real hole", "x_t, t = 100", "y, what is known", "M, both holes", "where the error counts"],
    columns=5,
    width=170,
    alt="scales with a white stroke; noisy scales; scales with two grey strokes; both strokes on black; the second without what it shares with the first",
    caption="What one training step shows and asks. Zero, in the chain, is middle grey.",
)

# %% [markdown]
# And does nothing leak? Put something outrageous under the real hole, and let an untrained network say what its error is:

# %%
torch.manual_seed(0)  # the weights of an untrained network are random
network = labkit.diffusion_inpainting.UNet(3)
for name, value in (
    ("the truth", crop),
    ("black", -torch.ones_like(crop)),
    ("a thousand", torch.full_like(crop, 1000.0)),
):
    loss = labkit.diffusion_inpainting.inpainter.inpainting_loss(
        network,
        torch.where(visible, crop, value),
        known=visible,
        painted=stroke,
        t=torch.tensor([100]),
        noise=noise,
        diffusion=diffusion,
    )
    print(f"{name:10s} under the real hole: the loss is {loss.item():.9f}")
# %% [markdown]
# ## 8.6 The network, and how it learns
#
# What should guess a picture from $x_t$, $y$, $M$ and $t$? Something that looks at a pixel's near surroundings for detail and at its far ones for shape: a **U-Net**. On the way down, $3 \times 3$ convolutions and max-pooling, three times, from full resolution to an eighth of it; on the way up, nearest-neighbour enlarging and convolutions again. At each resolution, what was
# seen on the way down is laid beside what comes from below (a *skip connection*), so that no detail gets lost. Each layer has 32 channels. The step $t$ comes as one more channel, which is $t / \text{steps}$ everywhere, and all inputs are simply put on top of one another: $3 + 3 + 1 + 1 = 8$ channels in, 3 out.

# %%
network = labkit.diffusion_inpainting.UNet(3)
weights = sum(parameter.numel() for parameter in network.parameters())
pixels = int(picture.numel())
print(f"{weights:,} weights; our picture has {pixels:,} values. RePaint's network: 450 million weights.")

# %% [markdown]
# *A question:* at an eighth of the resolution, one $3 \times 3$ convolution sees $24 \times 24$ pixels of the picture. What can this network *not* know about a picture of $1000 \times 1000$ pixels? And why does that hardly matter for scales? (Two distant parts of the hole cannot agree on anything that is not written in the pixels between them. A texture does
# not need such agreements; a face, with its two eyes, does.)
#
# **What training is,** in case you have not met it. A network is a function with many adjustable numbers, its *weights*. A $3 \times 3$ convolution with several channels is one of chapter 1's filters for each pair of a channel in and a channel out, with numbers that are learnt; max-pooling takes the largest of $2 \times 2$ values. The *loss* says how wrong the function is. Its *gradient* says for each weight
# whether the loss rises or falls when that weight grows: `loss.backward()` computes it and *adds* it to what is already there, so `optimizer.zero_grad()` comes first; `optimizer.step()` then changes every weight a little against its gradient. How much is the *learning rate*. An *optimizer* such as Adam, with its weights and its rate, is made once and used for all steps.
#
# The U-Net has no idea of a probability. It is trained with nothing but a **squared error**, and the answer of least squared error to "what is $x_0$?" is the *mean* of all pictures $x_0$ that may lie behind $x_t$. So the guess at large $t$ is blurred, as it should be. One **training step** is
#
# 1. take crops $x_0$ of the picture, and paint a hole in each (sections 8.4 and 8.5);
# 2. draw a step $t$ and noise $\varepsilon$ for each, make $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\; \varepsilon$ and $y = (1 - M) \odot x_0$;
# 3. let the network guess $\hat x_0 = f_\theta(x_t, y, M, t / \text{steps})$;
# 4. average $\| x_0 - \hat x_0 \|^2$ over the values that count, and move the weights a little against its gradient.

# %% [markdown]
# ### Exercise 6 · `inpainting_step` (3 points, about 35 minutes)
#
# Write `inpainting_step(network, optimizer, x0, missing, counted, t, noise, betas)`: one training step, with everything random given.
#
# - `x0` and `noise` are `(N, C, H, W)`. Where the picture's own pixels are missing ($M_\text{test}$), `x0` is 0 already.
# - `missing` is $M$, all that is hidden from the network, and `counted` is where the error counts, as exercise 5 made them: boolean, `(N, 1, H, W)`, `counted` a part of `missing`, not empty.
# - `t` is an integer tensor `(N,)`, from 1 to steps; `betas` is `(steps + 1,)`, of the dtype of `x0`.
# - `network(x_t, y, mask, level)` guesses $x_0$; give it $M$ of the dtype of `x0`, and for `level` $t / \text{steps}$, `(N,)`. `optimizer` holds its weights.
#
# The loss is the mean of the squared errors over **all values that count in the batch**: if 20 pixels count and there are 3 channels, it is the mean of 60 squares. All steps of the chain have weight 1. Change the weights by one step of the optimizer, and return the loss that was there before it: a number, or a tensor with one entry.
#
# <details><summary>Hint 1: the noisy crops</summary>
#
# That is your exercise 1: `alpha_bars = (1 - betas).cumprod(0)` and `alpha_bars[t][:, None, None, None]`. All pixels are noised, the known ones too.
# </details>
#
# <details><summary>Hint 2: what the network is given</summary>
#
# In this order: $x_t$; $y$, `torch.where(missing, 0, x0)`; the mask, `missing.to(x0)`; and `t / steps`, where steps is `len(betas) - 1`.
# </details>
#
# <details><summary>Hint 3: what counts</summary>
#
# `counted` has one channel and the errors have C; multiplied, it is repeated for each of them. So the sum of `counted * errors**2` is divided by `counted.sum() * x0.shape[1]`. `.mean()` would divide by all values of the batch.
# </details>
#
# <details><summary>Hint 4: the optimizer</summary>
#
# `optimizer.zero_grad()` throws away the gradients of the step before, `loss.backward()` computes new ones, `optimizer.step()` changes the weights. Return `loss.item()`, or `loss.detach()`.
# </details>


# %% exercise="inpainting_step"
def inpainting_step(network, optimizer, x0, missing, counted, t, noise, betas):
    """One step of training: the weights change, and the loss before it is returned."""
    ### BEGIN SOLUTION
    alpha_bars = (1 - betas).cumprod(0)
    kept = alpha_bars[t][:, None, None, None]
    x_t = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    y = torch.where(missing, 0, x0)
    estimate = network(x_t, y, missing.to(x0), t / (len(betas) - 1))
    loss = (counted * (x0 - estimate) ** 2).sum() / (counted.sum() * x0.shape[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION


# %% check="inpainting_step"
check.inpainting_step(inpainting_step)

# %% [markdown]
# That step, over and over, on our picture. `labkit.diffusion_inpainting.train_inpainter` adds four things: it takes crops that avoid the real hole where there are enough of them; it lets the learning rate fall along a cosine; it keeps a slow average of the weights, which is what is used in the end; and it can be interrupted (stop button: you keep what was learnt) and resumed (`checkpoint="scales.pt"`).
#
# *Predict:* the loss is the error of a *guess*, averaged over all $t$. Will it come near 0? (And then look at it again with section 8.10 in mind.)

# %% tags=["demonstration"]
training_steps = runtime.choose({"quick": 150, "laptop": 2000, "gpu": 15000})
batch_size = runtime.choose({"quick": 2, "laptop": 4, "gpu": 16})
device = runtime.device()
here = picture.to(device)

with widgets.TrainingMonitor(
    training_steps,
    alt="a loss that falls fast, then slowly, with much noise; beside it the picture, filled by the network so far",
    caption="Mean loss of 25 steps, and from time to time a fill by the network so far, in ten steps of the chain.",
) as monitor:

    def watch(training):
        if training.step % 5 == 0:
            recent = training.history["loss"][-25:]
            monitor.update(training.step - 1, loss=sum(recent) / len(recent))
        if training.step % (training_steps // 5) == 0:
            so_far = labkit.diffusion_inpainting.Inpainter(training.averaged)
            fill = labkit.diffusion_inpainting.inpaint(
                here, hole, model=so_far, sampler="ddim", sampling_steps=10
            )
            monitor.update(training.step - 1, picture=fill[0].cpu())

    model = labkit.diffusion_inpainting.train_inpainter(
        here, hole, steps=training_steps, batch_size=batch_size, callback=watch
    )
print(model)

# %% [markdown]
# The model is one small file, `model.save("scales.pt")`: the weights, the chain, and where they come from.

# %%
for name in ("labkit", "torch", "device", "steps", "seconds"):
    print(f"{name:8s} {model.provenance[name]}")

# %% [markdown]
# How good is a guess, at which step? (For this look only, $x_t$ is made from the true picture, hole included; in use the hole holds the fill so far. That is why a small $t$ is sharp.) Below, $x_t$ at four steps, and what the network makes of it in one go. *Before you look:* at which $t$ will the guess in the hole be sharp, and at which will it be a blur?

# %% tags=["demonstration"]
known = torch.where(hole, 0, to_chain(picture))[None].to(device)
shown, titles = [], []
for t in (20, 200, 500, 900):
    x_t = diffusion.add_noise(to_chain(picture)[None], t, noise).to(device)
    guess = model.predict(x_t, known, hole[None].to(device), t)
    shown += [from_chain(x_t[0]).cpu().clamp(0, 1), from_chain(guess[0]).cpu().clamp(0, 1)]
    titles += [f"x_t, t = {t}", "guess of x_0"]
figures.show(
    shown,
    titles=titles,
    columns=4,
    width=180,
    alt="scales under more and more noise, and beside each the guess, more and more blurred",
    caption="Look at the hole only: outside, nothing was ever asked of the network, and its guess is of no use. The true pixels are known there.",
)

# %% [markdown]
# ## 8.7 Back along the chain
#
# Now all is there: start at noise, and for $t = \text{steps}, \dots, 1$ draw $x_{t-1}$ from the posterior of section 8.2, with the network's guess in the place of the truth,
#
# $$x_{t-1} = \frac{\sqrt{\bar\alpha_{t-1}}\; \beta_t}{1 - \bar\alpha_t}\; \hat x_0 + \frac{\sqrt{\alpha_t}\; (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\; x_t + \sigma_t\, z, \qquad \sigma_t^2 = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t .$$
#
# This is **ancestral sampling**. Before the guess is used, two things that we know better than the network are put right:
#
# - pictures have values in $[-1, 1]$: **clip** it;
# - outside the hole the picture is known: **put the known pixels back** (re-projection), $\hat x_0 \leftarrow M \odot \hat x_0 + y$.
#
# They are put into the *guess*, which is a picture without noise. In $x_t$ they would be out of place: there everything has to be as noisy as step $t$ says.

# %% [markdown]
# ### Exercise 7 · `ancestral_sampling` (3 points, about 35 minutes)
#
# Write `ancestral_sampling(denoiser, known, mask, noise, betas)`: $N$ fills, $x_0$ in the chain's values, `(N, C, H, W)`.
#
# - `denoiser(x_t, known, mask, t)` returns its guess of $x_0$; `t` is a whole number. Call it once for each $t$, from steps down to 1. Its guess is neither clipped nor re-projected.
# - `known` is $y$, `(N, C, H, W)`, 0 in the hole, and `mask` is $M$, boolean `(N, 1, H, W)`.
# - `noise` is `(steps + 1, N, C, H, W)`. The chain starts at `noise[steps]`, and the step from $t$ to $t - 1$ adds $\sigma_t$ times `noise[t - 1]`: entry $t$ is the noise that was drawn to make $x_t$. (So `noise[0]` has no influence, for $\sigma_1 = 0$.)
# - `betas` is `(steps + 1,)`. All are of one dtype.
#
# <details><summary>Hint 1: the guess</summary>
#
# `torch.where(mask, guess.clamp(-1, 1), known)`. Nothing else is clipped or put back.
# </details>
#
# <details><summary>Hint 2: the mean</summary>
#
# That is your exercise 2. The factor of $\hat x_0$ has $\sqrt{\bar\alpha_{t-1}}$ and $\beta_t$, that of $x_t$ has $\sqrt{\alpha_t}$ (no bar) and $1 - \bar\alpha_{t-1}$; both are divided by $1 - \bar\alpha_t$.
# </details>
#
# <details><summary>Hint 3: noise and loop</summary>
#
# `for t in range(steps, 0, -1):` ends with $t = 1$. Multiply the noise with the *root* of $\sigma_t^2$. At $t = 1$ it is 0 by itself, as $\bar\alpha_0 = 1$: no exception is needed.
# </details>


# %% exercise="ancestral_sampling"
def ancestral_sampling(denoiser, known, mask, noise, betas):
    """Fills of a hole: from noise back along the whole chain."""
    ### BEGIN SOLUTION
    alpha_bars = (1 - betas).cumprod(0)
    steps = len(betas) - 1
    x = noise[steps]
    for t in range(steps, 0, -1):
        bar, before = alpha_bars[t], alpha_bars[t - 1]
        estimate = denoiser(x, known, mask, t).clamp(-1, 1)
        estimate = torch.where(mask, estimate, known)
        mean = before.sqrt() * betas[t] / (1 - bar) * estimate
        mean = mean + (1 - betas[t]).sqrt() * (1 - before) / (1 - bar) * x
        variance = (1 - before) / (1 - bar) * betas[t]
        x = mean + variance.sqrt() * noise[t - 1]
    return x
    ### END SOLUTION


# %% check="ancestral_sampling"
check.ancestral_sampling(ancestral_sampling)

# %% [markdown]
# Let it run on our picture, and keep some frames on the way. Play the film (it is Fig. V.4 of the thesis): the left picture is $x_t$, the right one the guess $\hat x_0(t)$. *What is decided first, what last?*

# %% tags=["demonstration"]
sampling_steps = runtime.choose({"quick": 50, "laptop": 250, "gpu": 1000})
frames = labkit.diffusion_inpainting.Film(frames=12)
fill = labkit.diffusion_inpainting.inpaint(
    here, hole, model=model, sampling_steps=sampling_steps, seed=1, callback=frames
)
widgets.Film(
    [(x[0].clamp(0, 1), guess[0].clamp(0, 1)) for x, guess in zip(frames.chain, frames.estimates)],
    titles=["x_t", "guess of x_0"],
    captions=[f"t = {t}" for t in frames.times],
    beside={"truth": picture},
    alt="scales appear in noise; beside it the guess, whose hole is a blur at first and becomes sharper",
    caption=f"Back along the chain in {sampling_steps} steps, twelve of them shown.",
)

# %% [markdown]
# Colours and large shapes come first, out of pure noise; edges come in the last third. That is the order of section 8.1's slider, backwards. And since each step adds chance, another seed decides otherwise:

# %% tags=["demonstration"]
start = time.perf_counter()
samples = labkit.diffusion_inpainting.inpaint(
    here, hole, model=model, sampling_steps=sampling_steps, samples=4, seed=2
).cpu()
seconds_for_four = time.perf_counter() - start
figures.show(
    [with_hole, *samples, picture],
    titles=["hole", "a fill", "another fill", "and another", "and another", "what was there"],
    columns=3,
    width=200,
    alt="coloured roof scales with a hole, four times filled, and whole",
    caption=f"Four fills by the network, {training_steps} training steps.",
)

# %% [markdown]
# (At profile `quick` the network trains for seconds on a tiny picture, and learns the mean colour, hardly more: all its fills are alike, and no section below can show what it is about. Do not judge the method by them. At `laptop` it takes minutes, and draws scales.)
#
# Two checks that any inpainting must pass. Known pixels come back as they were, to the bit; and whatever stands under the hole has no influence:

# %%
kept = bool((samples == picture)[~hole.expand_as(samples)].all())
scribbled = torch.where(hole.to(device), torch.rand_like(here), here)
again = labkit.diffusion_inpainting.inpaint(scribbled, hole, model=model, sampling_steps=10, seed=2)
before = labkit.diffusion_inpainting.inpaint(here, hole, model=model, sampling_steps=10, seed=2)
print("known pixels are as they were, to the bit:", kept)
print(
    "the same fill, whatever stands under the hole:", torch.equal(again[:, :, hole[0]], before[:, :, hole[0]])
)

# %% [markdown]
# ## 8.8 Fewer steps
#
# A thousand calls of the network for one picture are many. Can the chain skip steps, from $t$ to some $s < t$ at once? One can use the posterior of such a leap, $q(x_s \mid x_t, x_0)$, as labkit does in `sampling_steps`. **DDIM** (Song, Meng & Ermon, 2021) looks at it in another way. The guess of the picture is also a guess of the *noise* that is in $x_t$,
#
# $$\hat\varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\; \hat x_0}{\sqrt{1 - \bar\alpha_t}},$$
#
# and if these two are what $x_t$ is made of, then $x_s$ is the same two, mixed as step $s$ wants it. Some of the old noise may be replaced by fresh noise $z$, as long as the variances add up to $1 - \bar\alpha_s$:
#
# $$x_s = \sqrt{\bar\alpha_s}\; \hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\; \hat\varepsilon + \sigma z, \qquad \sigma^2 = \eta^2\; \frac{1 - \bar\alpha_s}{1 - \bar\alpha_t} \Big( 1 - \frac{\bar\alpha_t}{\bar\alpha_s} \Big).$$
#
# The parameter $\eta$ goes from 0 to 1. With $\eta = 1$ this is the posterior again: DDIM *contains* ancestral sampling. With $\eta = 0$ there is no chance on the way at all, and the fill is a function of $x_\text{steps}$.

# %% [markdown]
# ### Exercise 8 · `ddim_sampling` (3 points, about 30 minutes)
#
# Write `ddim_sampling(denoiser, known, mask, noise, betas, times, eta)`. `denoiser`, `known`, `mask` and `betas` are those of exercise 7, and again the guess is clipped and the known pixels are put back. `times` is a list of decreasing whole numbers that begins with steps and ends with 0, such as `[9, 6, 2, 0]`; the chain stands
# at these times only. `noise` is `(len(times), N, C, H, W)`: the chain starts at `noise[0]`, and the leap from `times[k]` to `times[k + 1]` adds $\sigma$ times `noise[k + 1]`. `eta` is a number from 0 to 1. Return $x_0$.
#
# <details><summary>Hint 1: the loop</summary>
#
# `for k, (t, s) in enumerate(zip(times, times[1:])):` gives each leap and its number. The denoiser is asked at $t$; $\bar\alpha_s$ is `alpha_bars[s]`. The first lines, up to the clipped and re-projected guess, are those of exercise 7.
# </details>
#
# <details><summary>Hint 2: σ</summary>
#
# Compute `variance` = $\sigma^2$, with `eta**2`. It stands as it is under the root of the old noise, and its own root multiplies the fresh noise.
# </details>
#
# <details><summary>Hint 3: the old noise</summary>
#
# $\hat\varepsilon$ comes from the guess *as it is used*, clipped and with the known pixels, so that $\hat x_0$ and $\hat\varepsilon$ together make $x_t$ exactly.
# </details>


# %% exercise="ddim_sampling"
def ddim_sampling(denoiser, known, mask, noise, betas, times, eta):
    """Fills of a hole: from noise back along some steps of the chain."""
    ### BEGIN SOLUTION
    alpha_bars = (1 - betas).cumprod(0)
    x = noise[0]
    for k, (t, s) in enumerate(zip(times, times[1:])):
        bar, before = alpha_bars[t], alpha_bars[s]
        estimate = denoiser(x, known, mask, t).clamp(-1, 1)
        estimate = torch.where(mask, estimate, known)
        direction = (x - bar.sqrt() * estimate) / (1 - bar).sqrt()
        variance = eta**2 * (1 - before) / (1 - bar) * (1 - bar / before)
        x = before.sqrt() * estimate + (1 - before - variance).sqrt() * direction
        x = x + variance.sqrt() * noise[k + 1]
    return x
    ### END SOLUTION


# %% check="ddim_sampling"
check.ddim_sampling(ddim_sampling)

# %% [markdown]
# How few steps will do? *Predict:* what does a chain of **one** step return, whatever the sampler? (The denoiser's guess from pure noise, and that is: the mean of all fills, a blur.) Look along the rows.

# %% tags=["demonstration"]
counts = (1, 4, 16, 64)
shown, titles = [], []
for eta in (1.0, 0.5, 0.0):
    for count in counts:
        fill = labkit.diffusion_inpainting.inpaint(
            here, hole, model=model, sampler="ddim", eta=eta, sampling_steps=count, seed=3
        )
        shown.append(fill[0].cpu())
        titles.append(f"η = {eta:g}, {count} step{'s'[: count > 1]}")
figures.show(
    shown,
    titles=titles,
    columns=4,
    width=180,
    alt="filled scales in three rows; on the left the fill is a blur, to the right it becomes sharper",
    caption="One seed. The first row is ancestral sampling, the last is without chance on the way.",
)

# %% [markdown]
# ## 8.9 One interval after the other
#
# One network has to serve a thousand steps, from "which colour?" to "which shade, exactly?". With uniform weights the noisy steps dominate the loss. Weights (section 8.3) shift that, but a gain for one step remains a loss for another: 160,000 weights have to be shared. **Interval training** (thesis, section VI.2.3) does not share them. It divides the chain into intervals,
# trains the network for the noisiest one, keeps a copy, *trains on* for the next one, and so on. At sampling time each copy serves its own interval. The number of training steps, all intervals together, is that of one network.
#
# *Question:* why begin at the noisy end, and not at the clean one? Think of what Algorithm 5 of the thesis does: sample each interval as soon as it is trained. How many networks must then be kept at a time? (One. Sampling comes down from the noisy end, too: when an interval has been sampled, its weights are not needed any more and can be trained on for the next.)
#
# The thesis reports for textures (Table VI.4): PSNR 28.02 dB for one network and **28.33** for intervals, SSIM **0.908** and 0.907, LPIPS 0.057 and **0.042** (lower is better). Our stored experiment is in section 8.16; to try it yourself, here is all it takes. `inpaint` accepts the list of models in the place of one.
#
# ```python
# models = labkit.diffusion_inpainting.train_intervals(picture, hole, intervals=10, steps=1500)  # of all intervals together
# fills = labkit.diffusion_inpainting.inpaint(picture, hole, model=models, samples=4)
# ```

# %% [markdown]
# ## 8.10 The mean of all fills
#
# Train the *same* network to guess the hole directly, without any noise (thesis, eq. V.4):
#
# $$\mathbb{E}\; \| M \odot (x_0 - f_\theta(y, M)) \|^2 .$$
#
# That is **regression**. Its answer of least error is the mean $\mathbb{E}[x_0 \mid y]$ of all plausible fills. A scale may be green or orange; the mean is neither, but a dull in-between.
#
# *Predict, before you run the next cells.* Four candidates for one hole: regression, one fill of the diffusion, the mean of many fills, and the patch method of chapter 2. Which has the highest PSNR? Which would you hang on the wall?
#
# (At profile `quick` all fills are alike, and the figures of this section say nothing.)

# %% tags=["demonstration"]
regression = labkit.diffusion_inpainting.regress(
    here, hole, steps=training_steps, batch_size=batch_size
).cpu()
labkit.patchmatch.inpaint(picture, hole)  # the first call compiles
start = time.perf_counter()
patched = labkit.patchmatch.inpaint(picture, hole)
patch_seconds = time.perf_counter() - start
many = labkit.diffusion_inpainting.inpaint(
    here,
    hole,
    model=model,
    sampler="ddim",
    eta=1.0,
    sampling_steps=runtime.choose({"quick": 20, "laptop": 50, "gpu": 100}),
    samples=runtime.choose({"quick": 8, "laptop": 16, "gpu": 100}),
).cpu()
candidates = {
    "regression": regression,
    "one fill": many[0],
    f"mean of {len(many)} fills": many.mean(0),
    "patches, chapter 2": patched,
    "truth": picture,
}
figures.show(
    [with_hole, *candidates.values()],
    titles=["hole", *candidates],
    columns=3,
    width=200,
    alt="coloured roof scales with a hole and filled; the regression and the mean are blurred in the hole",
    caption="Regression, as long trained as the diffusion, blurs what it cannot know. Where a texture is as regular as this one, the mean of the fills is nearly one of them.",
)

# %% tags=["demonstration"]
rows = []
inside = hole.expand_as(picture)
for name, candidate in candidates.items():
    if name != "truth":
        error = (candidate - picture)[inside].square().mean()
        rows.append(
            [
                name,
                float(-10 * torch.log10(error)),
                float(metrics.ssim(candidate, picture)),
                1000 * float(metrics.single_image_distance(candidate, picture)),
            ]
        )
figures.table(
    rows,
    header=["", "PSNR inside the hole, dB", "SSIM", "random-feature distance × 1000"],
    caption="Higher is better in the first two columns, lower in the last. One hole, one picture: no ranking yet; that is in section 8.16.",
)

# %% [markdown]
# **Averaging is how to buy PSNR.** Take $N$ independent fills $a_1, \dots, a_N$ from the very distribution that the truth $x_0$ comes from, with mean $m$ and variance $v$ at some pixel. Then
#
# $$\mathbb{E}\, (a_1 - x_0)^2 = 2 v, \qquad \mathbb{E}\, \Big( \frac{1}{N} \sum_i a_i - x_0 \Big)^2 = \Big( 1 + \frac{1}{N} \Big) v, \qquad \mathbb{E}\, (m - x_0)^2 = v .$$
#
# A *perfect* sampler, whose fills nobody can tell from the truth, has twice the squared error of the blurred mean: it loses $10 \log_{10} 2 \approx 3$ dB. That is no flaw of the sampler; it is what PSNR asks for. (In the thesis's Table V.2, averaging 100 samples raises the PSNR by 1.65 dB, and makes every perceptual measure worse.) Check with our fills:

# %%
errors = (many - picture)[:, inside].square()
single = float(errors.mean())
fewer = [k for k in (1, 2, 4, 8, 16, 100) if k <= len(many)]
for k in fewer:
    mean_of_k = (many[:k].mean(0) - picture)[inside].square().mean()
    print(f"mean of {k:3d}: {float(-10 * torch.log10(mean_of_k)):5.2f} dB")
print(f"one fill, on average: {-10 * math.log10(single):5.2f} dB")

# %% [markdown]
# How much there is to gain depends on how much the fills differ. These scales repeat, and little is left to chance; over the six textures of section 8.16, some of them wilder, the mean gains more.
#
# What regression cannot give is the **variance map**: where do the fills agree, where not? *Predict:* where in the hole will the variance be largest, and where near zero?

# %%
variance = labkit.diffusion_inpainting.variance_map(many)
deviation = variance.sqrt()
figures.show(
    [with_hole, many.mean(0), figures.colorize(deviation[0])],
    titles=["hole", "mean", f"deviation, up to {float(deviation.max()):.2f}"],
    columns=3,
    width=200,
    alt="scales with a hole, the mean of the fills, and a map that is dark but in the hole, brightest in its middle",
    caption="At the border of the hole the surroundings decide; further in, chance does.",
)

# %% [markdown]
# ## 8.11 The denoiser that needs no training
#
# What *is* the best guess? Say that $x_0$ is one of $K$ patches $p_1, \dots, p_K$, all equally likely, and we see $x_t = \sqrt{\bar\alpha_t}\, p + \sqrt{1 - \bar\alpha_t}\; \varepsilon$. Bayes' rule gives the probability of each of them, and the guess of least squared error is their mean with these weights:
#
# $$\hat x_0 = \sum_k w_k\, p_k, \qquad w_k = \frac{e_k}{\sum_j e_j}, \qquad e_k = \exp\Big( \! - \frac{\| x_t - \sqrt{\bar\alpha_t}\; p_k \|^2}{2 (1 - \bar\alpha_t)} \Big).$$
#
# No network, no training: that formula *is* the function which a network of unlimited size would learn from these patches. And you know it:
#
# | | non-local means (chapter 1) | this denoiser |
# | --- | --- | --- |
# | looks at | the noisy picture's own patches, in a window | the known patches of the picture |
# | distance | mean squared difference | *sum* of squared differences, to the faded patch |
# | range | $h^2$, chosen by hand | $2 (1 - \bar\alpha_t)$, from Bayes' rule |
# | weights | softmax | softmax |
#
# It is attention: the noisy patches ask, the picture's patches answer. At large $t$ all weights are alike, and the guess is the mean patch. At small $t$ one patch takes all: the nearest one, and that is PatchMatch (chapter 2). **The chain leads from one to the other.**

# %% [markdown]
# ### Exercise 9 · `patch_denoiser` (3 points, about 35 minutes)
#
# Write `patch_denoiser(x_t, picture, mask, alpha_bar, patch_size)`: the guess of $x_0$ for a whole picture, patch by patch.
#
# - `x_t` is `(C, H, W)`, a noisy picture. Every patch of it is denoised by the formula. Where patches overlap, a pixel of the result is the mean of what the patches that hold it say.
# - `picture` is `(C, h, w)`, in the chain's values and of any size, and `mask` is boolean `(1, h, w)`, `True` where it is not known. The $p_k$ are all its patches *without a missing pixel*; there is at least one.
# - `alpha_bar` is $\bar\alpha_t$, a Python float between 0 and 1 (its root is `alpha_bar ** 0.5`), and `patch_size` is the side $n$ of the patches. Return `(C, H, W)`. All are of one dtype.
#
# `labkit.patches` has `extract_patches(image, patch_size=n)`, the patches as rows of a matrix, and `aggregate_patches(rows, height=…, width=…, patch_size=n)`, which averages them into a picture. $\bar\alpha_t$ may be very near 1.
#
# <details><summary>Hint 1: the exponents</summary>
#
# Rows `q` from $x_t$, rows `p` from the picture: `((q[:, None] - alpha_bar**0.5 * p[None]) ** 2).sum(-1)` has a row for each noisy patch and a column for each $p_k$; the squares are added up over the whole patch. Divide by `2 * (1 - alpha_bar)`, and mind the minus.
# </details>
#
# <details><summary>Hint 2: the weights</summary>
#
# In each *row* they add up to 1: `.softmax(1)`. If you write `exp` and divide by the sum yourself, then with $\bar\alpha_t$ near 1 all `exp` are 0, and 0 / 0 is no number; softmax subtracts the largest exponent first.
# </details>
#
# <details><summary>Hint 3: the patches</summary>
#
# The mask has patches as well: `extract_patches(mask.to(picture.dtype), patch_size=n)`, and a patch is whole where the largest entry of its row is 0. Average `p` itself, not the faded `alpha_bar**0.5 * p`: a matrix product of the weights and `p`. `aggregate_patches` takes the mean.
# </details>


# %% exercise="patch_denoiser"
def patch_denoiser(x_t, picture, mask, alpha_bar, patch_size):
    """The guess of least squared error, were all pictures made of the known patches of one."""
    ### BEGIN SOLUTION
    missing = labkit.patches.extract_patches(mask.to(picture.dtype), patch_size=patch_size)
    whole = missing.amax(1) == 0
    p = labkit.patches.extract_patches(picture, patch_size=patch_size)[whole]
    q = labkit.patches.extract_patches(x_t, patch_size=patch_size)
    squared = ((q[:, None] - alpha_bar**0.5 * p[None]) ** 2).sum(-1)
    weights = (-squared / (2 * (1 - alpha_bar))).softmax(1)
    height, width = x_t.shape[1:]
    return labkit.patches.aggregate_patches(weights @ p, height=height, width=width, patch_size=patch_size)
    ### END SOLUTION


# %% check="patch_denoiser"
check.patch_denoiser(patch_denoiser)

# %% [markdown]
# That was the last exercise. `labkit.diffusion_inpainting.PatchDenoiser` drew the opening picture of this chapter. It adds three things to yours: known pixels are compared as they are, without noise; only the middle of each patch is kept, because a mean of overlapping patches is a blur; and the noisy steps look at coarser versions of the picture, where a patch sees more.
#
# *Predict:* what will be wrong with patches of 3×3, and what with patches of 13×13? (Section 3.2, if you have done chapter 3, asked the same of a window.)

# %% tags=["demonstration"]
sizes = (3, 7, 13)
by_patches, patch_diffusion_seconds = [], 0.0
for n in sizes:
    start = time.perf_counter()
    own_patches = labkit.diffusion_inpainting.PatchDenoiser(here, hole, patch_size=n)
    fill = labkit.diffusion_inpainting.inpaint(
        here, hole, model=own_patches, sampler="ddim", sampling_steps=25, seed=4
    )
    by_patches.append(fill[0].cpu())
    patch_diffusion_seconds = max(patch_diffusion_seconds, time.perf_counter() - start)
figures.show(
    [*by_patches, samples[0]],
    titles=[*(f"patches of {n}×{n}" for n in sizes), "network"],
    columns=4,
    width=200,
    alt="scales, filled with the help of small, middle and large patches, and by the network",
    caption="The same chain with another denoiser. The network was trained, the patches were not.",
)

# %% [markdown]
# The closed form can only *copy*. The network is smaller than what it would need to learn all patches by heart: it has to make do with what they have in common, and its fills may hold scales that are nowhere in the picture. Its errors are what makes it creative (Kamb & Ganguli, 2025).

# %% [markdown]
# ## 8.12 A model that was never told of holes
#
# The most famous diffusion models were trained on whole pictures. Can such a model fill a hole? **RePaint** (Lugmayr et al., 2022) takes it as it is. At every step back, the hole comes from the model and everything else from the picture, *noised to the same step*. (Compare section 8.7, where known pixels went into the guess. This model does not look at $y$ at all: it sees what is known only through $x_t$.)
#
# Hole and surroundings are then drawn without regard to each other, and meet at a seam. So RePaint goes *up* again: after some steps down it adds noise, by section 8.1's forward chain, as many steps up, and comes down anew. With each round hole and surroundings get to know each other better.
#
# *Predict:* what will the seam look like without the rounds? And is there anything that no number of rounds can give, if the model is poor?

# %% tags=["demonstration"]
square = torch.zeros(1, side, side, dtype=torch.bool)
square[:, 3 * side // 8 : 5 * side // 8, 3 * side // 4 :] = True
whole_pictures = labkit.diffusion_inpainting.train_unconditional(
    here,
    square,
    steps=runtime.choose({"quick": 60, "laptop": 1000, "gpu": 8000}),
    crop_size=side // 2,
    batch_size=batch_size,
)
levels = runtime.choose({"quick": 15, "laptop": 100, "gpu": 250})
repainted = {
    f"{rounds} round{'s'[: rounds > 1]}": labkit.diffusion_inpainting.inpaint_by_resampling(
        here,
        square,
        model=whole_pictures,
        sampling_steps=levels,
        resamplings=rounds,
        jump_length=5,
        seed=1,
    )[0].cpu()
    for rounds in (1, 5)
}
figures.show(
    [torch.where(square, torch.ones_like(picture), picture), *repainted.values(), picture],
    titles=["hole", *repainted, "truth"],
    columns=4,
    width=200,
    alt="scales with a white square at the right border, filled twice, and whole",
    caption="RePaint with a model of this picture, trained on crops that do not touch the hole.",
)

# %% [markdown]
# The rounds cost: five rounds are about five times as many calls of the network. RePaint buys generality with time (ten minutes for a picture of $256 \times 256$ in the thesis's Table V.4; 3 s for the model that was told of holes).

# %% [markdown]
# ## 8.13 The magic eraser
#
# Paint over what should disappear, press *Fill*, and see three fills and their mean. The eraser uses the picture's own patches, so that nothing has to be trained: try a picture of your own.
#
# *Question:* why does it not use our trained `model`? It knows these scales well. (Too well: it was trained on everything but *our* hole. Paint another one, and it has seen what was there. That would be no fill, but a memory.)

# %% tags=["demonstration"]
widgets.Eraser(
    picture,
    fill=lambda image, mask: labkit.diffusion_inpainting.inpaint(
        image,
        mask,
        model=labkit.diffusion_inpainting.PatchDenoiser(image, mask),
        samples=3,
        sampler="ddim",
        sampling_steps=20,
    ),
    mask=hole,
    size=runtime.choose({"quick": 32, "laptop": 96, "gpu": 256}),
    mean=True,
    alt="coloured roof scales with a painted hole, and three fills of it with their mean",
    caption="Paint over what should disappear, then press Fill.",
)

# %% [markdown]
# And with a network. It is trained anew for the hole that you paint, so *Fill* takes its time (at profile `laptop` about a minute; at `quick` it learns next to nothing).

# %% tags=["demonstration"]
chelsea = images.load("chelsea", size=runtime.choose({"quick": 32, "laptop": 64, "gpu": 256}))
widgets.Eraser(
    chelsea,
    fill=lambda image, mask: labkit.diffusion_inpainting.inpaint(
        image,
        mask,
        model=labkit.diffusion_inpainting.train_inpainter(
            image.to(device),
            mask,
            steps=runtime.choose({"quick": 40, "laptop": 400, "gpu": 5000}),
            batch_size=batch_size,
        ),
        samples=3,
        sampler="ddim",
    ),
    size=runtime.choose({"quick": 32, "laptop": 64, "gpu": 256}),
    mean=True,
    alt="a cat with a painted ellipse, and three fills of it with their mean",
    caption="A network of its own for every hole.",
)

# %% [markdown]
# A cat is no texture. What the network has learnt from the rest of the picture is fur; it can not know that behind the hole there was a nose, which occurs nowhere else. That is the limit of every internal method (thesis, Fig. V.8), and there the large models are at home: they have seen other cats.

# %% [markdown]
# Drawings are kinder: a line goes on as it came. The thesis has a prototype for that (Fig. V.7): draw a little, paint a hole, and let the style of your strokes fill it. *Predict:* will the lines meet in the middle of the hole, when each side knows nothing of the other?

# %% tags=["demonstration"]
i, j = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
level = i / 4 + 1.5 * torch.sin(j / 7) + 1.2 * torch.sin((i + j) / 11)
drawing = (torch.sin(2 * math.pi * level / 1.6).clamp(-0.5, 0.5) + 0.5)[None]
strokes = labkit.diffusion_inpainting.PatchDenoiser(drawing, hole)
redrawn = labkit.diffusion_inpainting.inpaint(
    drawing, hole, model=strokes, samples=3, sampler="ddim", eta=1.0, sampling_steps=25
)
figures.show(
    [torch.where(hole, torch.full_like(drawing, 0.5), drawing), *redrawn, drawing],
    titles=["hole, in grey", "a fill", "another", "and another", "what was there"],
    columns=5,
    width=180,
    alt="black wavy lines with a grey hole, three times continued through it, and whole",
    caption="Own patches as denoiser. The lines continue; where too many arrive on one side, some end or join.",
)

# %% [markdown]
# ## 8.14 What it costs
#
# Watt-hours are a product: time × power. The time we have measured; for the power, take the number that the maker prints on the processor; for the CO₂, a mean for a country's electricity. Two of three factors are guesses, and making the machine is left out. For *orders of magnitude* that is good enough.
#
# *Predict:* how many fills cost as much as the training?

# %%
machine = runtime.choose({"quick": "laptop", "laptop": "laptop", "gpu": "h100"})
rows = []
for name, seconds in (
    ("patches, chapter 2: a fill", patch_seconds),
    ("own patches as a denoiser: a fill", patch_diffusion_seconds),
    ("network: training", model.provenance["seconds"]),
    ("network: a fill", seconds_for_four / 4),
):
    estimate = labkit.diffusion_inpainting.energy_estimate(seconds, device=machine)
    rows.append([name, seconds, 1000 * estimate.watt_hours, 1000 * estimate.grams_co2])
figures.table(
    rows,
    header=["", "seconds", "mWh", "mg CO₂"],
    caption=f"This run, {side}×{side} pixels, at {estimate.watts:g} W and {estimate.grams_per_kwh:g} g CO₂ per kWh (France, 2021). Estimates.",
)

# %% [markdown]
# The thesis (Table V.3, pictures of $256 \times 256$, the patch method on a processor and the others on a V100):
#
# | | training, hours | g CO₂ | one fill, hours | g CO₂ |
# | --- | --- | --- | --- | --- |
# | patches (Newson et al.) | 0 | 0 | 0.03 | 0.25 |
# | DeepFill | 120 | 1707 | 0.001 | 0.01 |
# | RePaint | 576 | 9832 | 0.17 | 2.4 |
# | this chapter's model | 0.25 | 3.5 | 0.001 | 0.01 |
#
# RePaint is trained once for all pictures, ours once for *each*. *Question:* you want $k$ fills of one picture. From which $k$ on does our model emit less than RePaint, even if RePaint's training costs nothing? (One fill: $3.5$ g against $2.4$ g. Two: still about $3.5$ g against $4.8$ g.) And with one fill for each picture, after how many pictures has RePaint's training paid
# off? (It saves $1.1$ g a picture: after about 9,000.)

# %% [markdown]
# ## 8.15 How should it be judged?
#
# Section 8.10 has shown what PSNR likes: the blur. There are measures that ask whether two pictures *look* alike, and each of them takes sides:
#
# - **LPIPS** and **DISTS** compare features of a network (VGG, for instance) that was trained to recognise things. "Using VGG would be unfair when evaluating a model trained with the perceptual loss based on VGG", says the lecture: who was taught by the examiner knows the answers. Chapters 5 and 6 have such models. *This* chapter's model was trained by a squared error, and so LPIPS is a fair judge, where its weights are at hand.
# - **Patch transport** (chapter 3) asks whether two pictures hold the same patches, equally often. It needs no weights. *Is it fair to the patch method of chapter 2, and to `PatchDenoiser`?* (They paste patches of this picture: it is their home game.)
# - **Random-feature distance** compares statistics of features that nobody trained. It is nobody's home game, and a coarse judge.
# - **FLIP** was made for flipping between two pictures: it compares pixel by pixel, and therefore ranks like PSNR here, not like the eye.
#
# And with a hole, everything outside it is equal by construction: numbers over the whole picture are dominated by what nobody had to do. Ours are taken in the hole, or in it and a few pixels around.
#
# A judge can be put to the test: give it two pictures that *no* method has made. One is the truth, blurred in the hole; the other has, in the hole, another piece of the same texture, seams and all. *Predict:* which one is nearer to the truth by PSNR? Which one ought to be, by a measure of how things look?

# %%
labkit.results.show("08", table=5)

# %% [markdown]
# ## 8.16 Does it work?
#
# The thesis compares on textures, with regions of $256 \times 256$ pixels (Tables V.1 and V.2):
#
# | | PSNR, dB ↑ | SSIM ↑ | LPIPS ↓ | FLIP ↓ | DISTS ↓ |
# | --- | --- | --- | --- | --- | --- |
# | patches (Newson et al.) | 28.12 | 0.902 | **0.046** | 0.064 | **0.026** |
# | DeepFill (Yu et al., 2019: a network trained on photographs) | 21.55 | 0.870 | 0.105 | 0.156 | 0.149 |
# | RePaint | 26.77 | 0.899 | 0.053 | 0.078 | 0.031 |
# | regression | **30.31** | **0.923** | 0.157 | **0.045** | 0.099 |
# | one sample | 28.02 | 0.908 | 0.057 | 0.054 | 0.031 |
# | mean of 100 samples | 29.67 | 0.921 | 0.141 | 0.071 | 0.093 |
#
# Two orders, which are opposite. By PSNR: regression, then the mean of the samples, then one sample. By LPIPS and DISTS, and to the eye: one sample first, the blurred ones last. Here is our experiment, on smaller textures and with measures that need no download, computed by `labkit results 08`.

# %%
labkit.results.show("08")

# %% [markdown]
# Which of the thesis's orders hold here, and on how many textures? *Before you look:* on which kind of texture would you expect an order to fail? (Where there is hardly any chance in the hole, as in a regular tiling, the mean of all fills is one of the fills.)

# %%
labkit.results.show("08", table=1)

# %% [markdown]
# By PSNR the order is the thesis's. The opposite order shows in *detail*, the total variation in the hole as a share of the truth's: regression loses most of it, the mean of the samples some, one sample next to nothing. The feature distance puts regression last as well, the transport cost hardly tells the three apart, and on most textures neither prefers one sample to the mean of eight. Regions of
# 64×64 pixels and minutes of training on two cores are not 256×256 and fifteen thousand steps: a sample that is wrong in the large is not saved by being sharp. And on tiles, where a copy is the truth, patches are as good as the best network, without any training.

# %%
labkit.results.live("08", size=runtime.choose({"quick": 16, "laptop": 48, "gpu": 64}))

# %% [markdown]
# That was computed here and now, for one texture and with a short training. Last, interval training (section 8.9) against one network for all steps, with as many training steps in all; beside it Table VI.4 of the thesis.

# %%
labkit.results.show("08", table=3)

# %%
labkit.results.show("08", table=4)

# %% [markdown]
# ## Go further
#
# - Put $\sqrt{\bar\alpha_t}$ in the place of $\sqrt{\alpha_t}$ in your `ancestral_sampling`, as it is misprinted in the thesis, and fill the hole. What becomes of the variance, and why does clipping hide a part of it?
# - Leave out the re-projection. Does the network, which is told $y$, keep the known pixels by itself? Where does the seam show?
# - Train with `weighting="min_snr"` and with `"elbo"`. Which fills are sharper, which are better in colour? Measure both with the same seeds.
# - Predict the noise instead of the picture. What changes in your `inpainting_step`, and why is the guess useless at large $t$ (section 8.2)?
# - DDIM with $\eta = 0$ is a function from noise to fills. Move from one noise to another along a circle, $\cos\varphi\; \varepsilon_1 + \sin\varphi\; \varepsilon_2$, and film the fills. Why a circle and not a straight line?
# - Fill a hole that is larger than what the network sees. What happens in its middle?
# - `PatchDenoiser` without a hole and with a full mask draws new pictures from one. How do they compare with chapter 3's?
# - Give the network two pictures of the same place. Can it fill what is hidden in one and visible in the other? Chapter 9 does that with the frames of a video.

# %% [markdown]
# ## Glossary
#
# | term | meaning |
# | --- | --- |
# | **chain** | the sequence $x_0, x_1, \dots, x_\text{steps}$, from a picture to noise |
# | **schedule** | the variances $\beta_t$ of the noise that each step adds |
# | **denoiser** | what guesses $x_0$ from $x_t$ (and from what else is known) |
# | **posterior** | where the chain was one step before, given $x_t$ and $x_0$ |
# | **parametrisation** | whether a network says the picture, the noise, or the posterior's mean |
# | **ELBO** | evidence lower bound: the likelihood that training can get hold of |
# | **SNR** | signal-to-noise ratio $\bar\alpha_t / (1 - \bar\alpha_t)$ |
# | **crop** | a square piece of a picture |
# | **U-Net** | a network that goes down in resolution and up again, with skip connections |
# | **ancestral sampling** | back along the chain, each step drawn from the posterior |
# | **re-projection** | putting the known pixels back into the guess |
# | **DDPM, DDIM** | denoising diffusion probabilistic (implicit) models |
# | **regression** | guessing the hole directly; the least squared error is at the mean of all fills |
# | **variance map** | how much fills differ, pixel by pixel |
# | **interval training** | one network after the other, each for a part of the chain |
# | **unconditional** | a model of whole pictures, which is told of no hole |
# | **internal** | of a method that looks at nothing but the picture at hand |

# %% [markdown]
# ## References
#
# - J. Ho, A. Jain, P. Abbeel, *Denoising diffusion probabilistic models*, NeurIPS 2020. [arXiv:2006.11239](https://arxiv.org/abs/2006.11239)
# - J. Song, C. Meng, S. Ermon, *Denoising diffusion implicit models*, ICLR 2021. [arXiv:2010.02502](https://arxiv.org/abs/2010.02502)
# - A. Lugmayr et al., *RePaint: inpainting using denoising diffusion probabilistic models*, CVPR 2022. [arXiv:2201.09865](https://arxiv.org/abs/2201.09865)
# - T. Hang et al., *Efficient diffusion training via Min-SNR weighting strategy*, ICCV 2023. [arXiv:2303.09556](https://arxiv.org/abs/2303.09556)
# - J. Yu et al., *Free-form image inpainting with gated convolution*, ICCV 2019. [arXiv:1806.03589](https://arxiv.org/abs/1806.03589)
# - O. Ronneberger, P. Fischer, T. Brox, *U-Net: convolutional networks for biomedical image segmentation*, MICCAI 2015. [arXiv:1505.04597](https://arxiv.org/abs/1505.04597)
# - N. Cherel, A. Almansa, Y. Gousseau, A. Newson, *Modèle de diffusion frugal pour l'inpainting d'images*, GRETSI 2023. [hal-04199282](https://hal.science/hal-04199282)
# - N. Cherel, thesis, chapters V and VI and appendix A. Eq. V.3 prints $\sqrt{\bar\alpha_t}$ for $\sqrt{\alpha_t}$, and the last line of A.1.3 a square too many in the denominator; this notebook has the right forms.
# - A. Buades, B. Coll, J.-M. Morel, *A non-local algorithm for image denoising*, CVPR 2005. [doi:10.1109/CVPR.2005.38](https://doi.org/10.1109/CVPR.2005.38)
# - M. Kamb, S. Ganguli, *An analytic theory of creativity in convolutional diffusion models*, ICML 2025. [arXiv:2412.20292](https://arxiv.org/abs/2412.20292)
# - Y. Blau, T. Michaeli, *The perception-distortion tradeoff*, CVPR 2018. [arXiv:1711.06077](https://arxiv.org/abs/1711.06077)
# - A. Lacoste, A. Luccioni, V. Schmidt, T. Dandres, *Quantifying the carbon emissions of machine learning*, 2019. [arXiv:1910.09700](https://arxiv.org/abs/1910.09700)
# - J. Rabin, *Generative models, part II: deep methods*, lecture, ENSICAEN (on judging with VGG).

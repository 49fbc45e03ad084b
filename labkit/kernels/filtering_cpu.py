"""Chapter 1's local filters on the CPU: `gaussian`, `box`, `bilateral`, `guided`.

Parallel: rows (Gaussian, bilateral) or strips of rows (box, guided). A row or a strip is computed by one thread, in an
order that depends on the size of the picture alone, so the result is the same to the bit for any number of threads.
Shared between threads: nothing that is written; each works in its own row buffers, small enough for the caches.
Bytes per pixel and channel beyond input and output, for numbers of s bytes: Gaussian and box none; bilateral s for the
padded image and s for each channel of the padded guide; guided s (G + 1) for the coefficients of G guide channels.

All arrays are C-contiguous: images (N, C, H, W) and outputs of the same dtype, float32 or float64.

How the loops are written: LLVM turns only an innermost loop over contiguous memory into vector instructions, and only
where it can show in about eight comparisons that nothing written is read through another pointer. Hence row buffers
that live in one array, at constant distances (`BLOCK`), and several short loops over x rather than one long one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic, overload

from labkit.kernels.cache import kept

__all__ = ["bilateral", "box", "exp2", "gaussian", "guided"]

# Multiply and add may fuse. Nothing else of "fast math": reassociation would undo the rounding trick in `exp2`.
# Division by zero gives infinity as in NumPy: a check for it would keep a loop from becoming vector instructions.
HOW: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}
BLOCK = 512           # columns that the bilateral filter works on at a time: its eleven row buffers take 22 kB
SOLVE = 128           # columns that the guided filter solves at a time: its planes of moments take 30 kB
TOGETHER = 4          # running sums advanced side by side: one alone waits for each addition to finish
OUTSIDE = 1e18        # guide value of pixels outside the picture: their weight is the lowest that `exp2` gives, 1e-30


def compiled(function):
    return kept(njit(**HOW)(function))


def parallel(function):
    return kept(njit(parallel=True, **HOW)(function))


# --- 2 ** z, in vector instructions ---------------------------------------------------------------------------------

def exp2(z):
    """2 ** z for z <= 0, with a relative error below 3e-7 (float32) or 1e-15 (float64).

    It goes no lower than 2 ** -100 (float32) or 2 ** -1000 (float64): beside the weight 1 of the pixel itself that is
    nothing, and products with it are not yet the denormal numbers that processors are slow at.
    """
    return type(z)(2) ** max(z, type(z)(-100 if z.itemsize == 4 else -1000))     # with NUMBA_DISABLE_JIT=1, to debug a kernel


@intrinsic
def _add_exponent(typing_context, value, shifted):
    """`value * 2 ** k`, where k stands in the lowest bits of the mantissa of `shifted`."""
    integer, real, mantissa = {types.float32: (ir.IntType(32), ir.FloatType(), 23),
                               types.float64: (ir.IntType(64), ir.DoubleType(), 52)}[value]

    def generate(context, builder, signature, arguments):
        bits, exponent = (builder.bitcast(argument, integer) for argument in arguments)
        exponent = builder.shl(exponent, ir.Constant(integer, mantissa))
        return builder.bitcast(builder.add(bits, exponent), real)

    return value(value, value), generate


def _exp2_for(real, degree, lowest, magic):
    # Taylor's series of 2 ** f on [-1/2, 1/2], highest power first.
    series = tuple(real(math.log(2) ** k / math.factorial(k)) for k in range(degree, -1, -1))
    lowest, magic = real(lowest), real(magic)

    def implementation(z):
        z = max(z, lowest)
        shifted = z + magic                  # rounds z to a whole number k, left in the lowest bits
        f = z - (shifted - magic)
        power = series[0]
        for k in range(1, degree + 1):
            power = power * f + series[k]
        return _add_exponent(power, shifted)

    return implementation


_exp2_single = _exp2_for(np.float32, 6, -100, 1.5 * 2 ** 23)
_exp2_double = _exp2_for(np.float64, 13, -1000, 1.5 * 2 ** 52)


@overload(exp2, jit_options={"fastmath": HOW["fastmath"]})
def _choose_exp2(z):
    return {types.float32: _exp2_single, types.float64: _exp2_double}.get(z)


# --- Gaussian -------------------------------------------------------------------------------------------------------

def gaussian(image, out, weights, rows, columns, row_gain, column_gain):
    """Separable convolution with symmetric weights.

    Parameters
    ----------
    weights : (2 radius + 1,), of the image's dtype.
    rows, columns : (H + 2 radius,) and (W + 2 radius,) int64, the row or column that stands at each place of the
        picture continued by `radius` on both sides; -1 where there is nothing.
    row_gain, column_gain : (H,) and (W,), factors of the result.
    """
    _gaussian(image, out, weights, rows, columns, row_gain, column_gain)


# In all loops below, numba counts prange's index without a sign, and mixed with signed numbers it would become a float.

@parallel
def _gaussian(image, out, weights, rows, columns, row_gain, column_gain):
    count, channels, height, _ = image.shape
    for task in prange(count * channels * height):
        plane, y = divmod(np.int64(task), height)
        n, c = divmod(plane, channels)
        _gaussian_row(image[n, c], out[n, c, y], weights, rows, columns, row_gain[y], column_gain, y)


@compiled
def _gaussian_row(image, out, weights, rows, columns, gain, column_gain, y):
    width, radius = image.shape[1], weights.size // 2
    line = np.zeros(width, image.dtype)
    for k in range(radius):                          # the two rows at the same distance share a weight
        above, below = rows[y + k], rows[y + 2 * radius - k]
        if above >= 0 and below >= 0:
            _add_two(line, image[above], image[below], weights[k])
        elif above >= 0:
            _add_one(line, image[above], weights[k])
        elif below >= 0:
            _add_one(line, image[below], weights[k])
    _add_one(line, image[y], weights[radius])
    wide = np.empty(width + 2 * radius, image.dtype)
    for i in range(width + 2 * radius):
        wide[i] = line[columns[i]] if columns[i] >= 0 else 0
    for x in range(width):
        line[x] = 0
    for k in range(radius):
        _add_two(line, wide[k:], wide[2 * radius - k:], weights[k])
    _add_one(line, wide[radius:], weights[radius])
    for x in range(width):
        out[x] = line[x] * (gain * column_gain[x])


@compiled
def _add_two(line, first, second, weight):
    for x in range(line.size):
        line[x] += weight * (first[x] + second[x])


@compiled
def _add_one(line, values, weight):
    for x in range(line.size):
        line[x] += weight * values[x]


# --- box ------------------------------------------------------------------------------------------------------------

def box(image, out, rows, columns, row_gain, column_gain):
    """Sum over a square window, times the gains; running sums in float64, so its cost does not depend on the radius.

    Parameters
    ----------
    rows, columns : (H + 2 radius,) and (W + 2 radius,) int64, as in `gaussian`.
    row_gain, column_gain : (H,) and (W,) float64, factors of the result.
    """
    _box(image, out, rows, columns, row_gain, column_gain, _strip((rows.size - image.shape[2]) // 2))


def _strip(radius):
    """Rows in a strip: starting one costs 2 radius + 1 rows, which must stay a small part of the work."""
    return TOGETHER * max(16, radius)


@parallel
def _box(image, out, rows, columns, row_gain, column_gain, strip):
    count, channels, height, _ = image.shape
    strips = (height + strip - 1) // strip
    for task in prange(count * channels * strips):
        plane, s = divmod(np.int64(task), strips)
        n, c = divmod(plane, channels)
        _box_strip(image[n, c], out[n, c], rows, columns, row_gain, column_gain, s * strip,
                   min(height, (s + 1) * strip))


@compiled
def _box_strip(image, out, rows, columns, row_gain, column_gain, start, stop):
    width = image.shape[1]
    side = columns.size - width + 1
    column = np.zeros(width)                         # sums over the rows of the window, one for each column
    lines = np.zeros((TOGETHER, width))
    prefix = np.zeros((TOGETHER, columns.size + 1))
    for k in range(start, start + side - 1):
        if rows[k] >= 0:
            _move(column, image[rows[k]], 1.0)
    for y in range(start, stop, TOGETHER):
        several = min(TOGETHER, stop - y)
        for j in range(several):
            enters, leaves = rows[y + j + side - 1], rows[y + j]
            if enters >= 0:
                _move(column, image[enters], 1.0)
            _copy(lines[j], column)
            if leaves >= 0:
                _move(column, image[leaves], -1.0)
        _prefix(lines, prefix, columns)
        for j in range(several):
            _window(out[y + j], prefix[j], side, row_gain[y + j], column_gain)


@compiled
def _move(sums, values, sign):
    for x in range(sums.size):
        sums[x] += sign * values[x]


@compiled
def _copy(out, values):
    for x in range(out.size):
        out[x] = values[x]


@compiled
def _window(out, prefix, side, gain, column_gain):
    ahead = prefix[side:]
    for x in range(out.size):
        out[x] = (ahead[x] - prefix[x]) * (gain * column_gain[x])


@compiled
def _prefix(lines, prefix, columns):
    """Sums of each line from its start, the line continued as `columns` says: (K, W) to (K, W + 2 radius + 1)."""
    for k in range(0, lines.shape[0], TOGETHER):
        a, b, c, d = lines[k], lines[k + 1], lines[k + 2], lines[k + 3]
        to_a, to_b, to_c, to_d = prefix[k, 1:], prefix[k + 1, 1:], prefix[k + 2, 1:], prefix[k + 3, 1:]
        sum_a = sum_b = sum_c = sum_d = 0.0
        for i in range(columns.size):
            x = columns[i]
            if x >= 0:
                sum_a += a[x]
                sum_b += b[x]
                sum_c += c[x]
                sum_d += d[x]
            to_a[i], to_b[i], to_c[i], to_d[i] = sum_a, sum_b, sum_c, sum_d


# --- bilateral ------------------------------------------------------------------------------------------------------

def bilateral(image, guide, out, radius, sigma_space, sigma_color):
    """Mean over a square window inside the picture, weighted by distance and by the colours of `guide`.

    Parameters
    ----------
    guide : (N, G, H, W); it may be the image itself.
    radius : half-width of the window. sigma_space in pixels, sigma_color in intensity, both above 0.
    """
    real = image.dtype.type
    side = np.arange(-radius, radius + 1) / sigma_space
    # Exponents of 2. Groups of four offsets overhang the window; no weight there.
    space = np.full((2 * radius + 1, (2 * radius + 4) // 4 * 4), -1e30)
    space[:, :2 * radius + 1] = np.maximum(-(side[:, None] ** 2 + side ** 2) / (2 * math.log(2)), -1e30)
    # Within these bounds a colour distance of zero weighs 1 and a distance of OUTSIDE weighs nothing.
    color = min(max(1 / (2 * math.log(2) * sigma_color ** 2), 1e-30), 1e30)
    _bilateral(image, guide, out, space.astype(image.dtype), real(color))


@parallel
def _bilateral(image, guide, out, space, color):
    count, _, height, width = image.shape
    # The last block of columns is rounded up to whole vectors, and the last group of offsets to four.
    total = (width + 15) // 16 * 16 + space.shape[1]
    for n in range(count):
        inside = np.empty((height, image.shape[1], total), image.dtype)
        look = np.empty((height, guide.shape[1], total), image.dtype)
        for y in prange(height):
            _continue_row(image[n], inside[y], np.int64(y), space.shape[0] // 2, 0.0)
            _continue_row(guide[n], look[y], np.int64(y), space.shape[0] // 2, OUTSIDE)
        for y in prange(height):
            _bilateral_row(inside, look, out[n], space, color, np.int64(y))


@compiled
def _continue_row(image, line, y, radius, outside):
    width = image.shape[2]
    for c in range(image.shape[0]):
        for x in range(line.shape[1]):
            line[c, x] = image[c, y, x - radius] if radius <= x < radius + width else outside


@compiled
def _bilateral_row(image, guide, out, space, color, y):
    height, channels, _ = image.shape
    guides, width, radius = guide.shape[1], out.shape[2], space.shape[0] // 2
    memory = np.empty((4 + guides + 1 + channels) * BLOCK + 16, image.dtype)
    first = -(memory.ctypes.data // memory.itemsize) % 16         # a vector that straddles cache lines costs double
    weights = memory[first:]                                      # of four neighbours side by side
    centre = weights[4 * BLOCK:]                                  # the guide at the pixel itself
    norm = centre[guides * BLOCK:]
    total = norm[BLOCK:]
    for start in range(0, width, BLOCK):
        used = min(BLOCK, width - start)
        n = (used + 15) // 16 * 16
        for x in range((1 + channels) * BLOCK):
            norm[x] = 0
        for c in range(guides):
            for x in range(n):
                centre[c * BLOCK + x] = guide[y, c, start + radius + x]
        for other in range(max(0, y - radius), min(height, y + radius + 1)):
            exponents = space[other - y + radius]
            for k in range(0, exponents.size, 4):                 # column offset k - radius, and the next three
                if guides == 3:
                    _weights_of_colour(weights, centre, guide[other, 0, start + k:], guide[other, 1, start + k:],
                                       guide[other, 2, start + k:], n, exponents[k:], color)
                else:
                    _start_exponents(weights, n, exponents[k:])
                    for c in range(guides):
                        _subtract_distance(weights, centre[c * BLOCK:], guide[other, c, start + k:], n, color)
                    for j in range(4):
                        _exp2_in_place(weights[j * BLOCK:j * BLOCK + n])
                _add_weights(norm, weights, n)
                for c in range(channels):
                    _add_weighted(total[c * BLOCK:], weights, image[other, c, start + k:], n)
        for c in range(channels):
            for x in range(used):
                out[c, y, start + x] = total[c * BLOCK + x] / norm[x]


@compiled
def _weights_of_colour(weights, centre, red, green, blue, n, exponents, color):
    s0, s1, s2, s3 = exponents[0], exponents[1], exponents[2], exponents[3]
    for x in range(n):
        r, g, b = centre[x], centre[BLOCK + x], centre[2 * BLOCK + x]
        p, q, t = r - red[x], g - green[x], b - blue[x]
        weights[x] = exp2(s0 - color * (p * p + q * q + t * t))
        p, q, t = r - red[x + 1], g - green[x + 1], b - blue[x + 1]
        weights[BLOCK + x] = exp2(s1 - color * (p * p + q * q + t * t))
        p, q, t = r - red[x + 2], g - green[x + 2], b - blue[x + 2]
        weights[2 * BLOCK + x] = exp2(s2 - color * (p * p + q * q + t * t))
        p, q, t = r - red[x + 3], g - green[x + 3], b - blue[x + 3]
        weights[3 * BLOCK + x] = exp2(s3 - color * (p * p + q * q + t * t))


@compiled
def _start_exponents(weights, n, exponents):
    s0, s1, s2, s3 = exponents[0], exponents[1], exponents[2], exponents[3]
    for x in range(n):
        weights[x], weights[BLOCK + x], weights[2 * BLOCK + x], weights[3 * BLOCK + x] = s0, s1, s2, s3


@compiled
def _subtract_distance(weights, centre, guide, n, color):
    for x in range(n):
        p, q, r, s = (centre[x] - guide[x], centre[x] - guide[x + 1], centre[x] - guide[x + 2],
                      centre[x] - guide[x + 3])
        weights[x] -= color * (p * p)
        weights[BLOCK + x] -= color * (q * q)
        weights[2 * BLOCK + x] -= color * (r * r)
        weights[3 * BLOCK + x] -= color * (s * s)


@compiled
def _exp2_in_place(values):
    for x in range(values.size):
        values[x] = exp2(values[x])


@compiled
def _add_weights(norm, weights, n):
    for x in range(n):
        norm[x] += (weights[x] + weights[BLOCK + x]) + (weights[2 * BLOCK + x] + weights[3 * BLOCK + x])


@compiled
def _add_weighted(total, weights, image, n):
    for x in range(n):
        total[x] += (weights[x] * image[x] + weights[BLOCK + x] * image[x + 1]) + (
            weights[2 * BLOCK + x] * image[x + 2] + weights[3 * BLOCK + x] * image[x + 3])


# --- guided ---------------------------------------------------------------------------------------------------------

def guided(image, guide, coefficients, out, radius, eps):
    """Local linear regression of the image on its guide, in windows clipped to the picture.

    Parameters
    ----------
    guide : (N, G, H, W), G = 1 or 3.
    coefficients : (C (G + 1), H, W), room for the regression of one image of the batch: for each channel of the image
        the G slopes and the intercept.
    radius : half-width of the window. eps : ridge term, above 0.
    """
    height, width = image.shape[2:]
    columns = np.full(width + 2 * radius, -1)
    columns[radius:radius + width] = np.arange(width)
    for n in range(image.shape[0]):
        _guided_fit(image[n], guide[n], coefficients, columns, float(eps), _strip(radius))
        _guided_apply(coefficients, guide[n], out[n], columns, _strip(radius))


@parallel
def _guided_fit(image, guide, coefficients, columns, eps, strip):
    height = image.shape[1]
    for s in prange((height + strip - 1) // strip):
        start = np.int64(s) * strip
        _fit_strip(image, guide, coefficients, columns, eps, start, min(height, start + strip))


@compiled
def _fit_strip(image, guide, coefficients, columns, eps, start, stop):
    channels, height, width = image.shape
    guides = guide.shape[0]
    radius = (columns.size - width) // 2
    pairs = guides * (guides + 1) // 2
    planes = guides + pairs + channels * (1 + guides)
    sums = np.zeros(((planes + TOGETHER - 1) // TOGETHER * TOGETHER, width))
    prefix = np.zeros((sums.shape[0], columns.size + 1))
    # Blocks of means, in the order of `sums`, then four results (slopes, intercept).
    moments = np.zeros((planes + 4) * SOLVE)
    for y in range(max(0, start - radius), min(height, start + radius)):
        _add_moments(sums, image, guide, y, 1.0)
    for y in range(start, stop):
        if y + radius < height:
            _add_moments(sums, image, guide, y + radius, 1.0)
        _prefix(sums, prefix, columns)
        inside = min(height, y + radius + 1) - max(0, y - radius)
        for left in range(0, width, SOLVE):
            n = min(SOLVE, width - left)
            for k in range(planes):
                _means(moments[k * SOLVE:], prefix[k, left:], 2 * radius + 1, inside, left, radius, width, n)
            image_means = moments[(guides + pairs) * SOLVE:]
            covariances = image_means[channels * SOLVE:]
            result = moments[planes * SOLVE:]
            if guides == 3:
                _factor_colour(moments, eps, n)
            for c in range(channels):
                if guides == 3:
                    _solve_colour(result, moments, image_means[c * SOLVE:], covariances[3 * c * SOLVE:], n)
                else:
                    _solve_grey(result, moments, image_means[c * SOLVE:], covariances[c * SOLVE:], eps, n)
                for k in range(guides + 1):
                    for x in range(n):
                        coefficients[c * (guides + 1) + k, y, left + x] = result[k * SOLVE + x]
        if y - radius >= 0:
            _add_moments(sums, image, guide, y - radius, -1.0)


@compiled
def _add_moments(sums, image, guide, y, sign):
    """Add (or take away) one row: guide; products of its channels, pair by pair; image; image times guide."""
    guides = guide.shape[0]
    k = 0
    for g in range(guides):
        _move(sums[k], guide[g, y], sign)
        k += 1
    for g in range(guides):
        for h in range(g, guides):
            _move_product(sums[k], guide[g, y], guide[h, y], sign)
            k += 1
    for c in range(image.shape[0]):
        _move(sums[k], image[c, y], sign)
        k += 1
    for c in range(image.shape[0]):
        for g in range(guides):
            _move_product(sums[k], image[c, y], guide[g, y], sign)
            k += 1


@compiled
def _move_product(sums, first, second, sign):
    for x in range(sums.size):                      # multiplied in float64, where products of float32 are exact
        sums[x] += sign * first[x] * second[x]


@compiled
def _means(out, prefix, side, rows, left, radius, width, n):
    ahead = prefix[side:]
    for x in range(n):
        columns = min(width, left + x + radius + 1) - max(0, left + x - radius)
        out[x] = (ahead[x] - prefix[x]) / (rows * columns)


@compiled
def _solve_grey(result, moments, image_mean, covariance, eps, n):
    for x in range(n):
        guide_mean = moments[x]
        a = (covariance[x] - guide_mean * image_mean[x]) / (moments[SOLVE + x] - guide_mean * guide_mean + eps)
        result[x] = a
        result[SOLVE + x] = image_mean[x] - a * guide_mean


@compiled
def _factor_colour(m, eps, n):
    """Replace the six second moments (planes 3 to 8) by L and D of covariance + eps = L D L', L with unit diagonal."""
    for x in range(n):
        r, g, b = m[x], m[SOLVE + x], m[2 * SOLVE + x]
        rr, rg, rb = m[3 * SOLVE + x] - r * r + eps, m[4 * SOLVE + x] - r * g, m[5 * SOLVE + x] - r * b
        gg, gb, bb = m[6 * SOLVE + x] - g * g + eps, m[7 * SOLVE + x] - g * b, m[8 * SOLVE + x] - b * b + eps
        d0 = 1 / rr
        l10, l20 = rg * d0, rb * d0
        d1 = 1 / (gg - l10 * rg)
        e21 = gb - l20 * rg
        l21 = e21 * d1
        d2 = 1 / (bb - l20 * rb - l21 * e21)
        m[3 * SOLVE + x], m[4 * SOLVE + x], m[5 * SOLVE + x] = d0, l10, l20
        m[6 * SOLVE + x], m[7 * SOLVE + x], m[8 * SOLVE + x] = d1, l21, d2


@compiled
def _solve_colour(result, m, image_mean, covariance, n):
    for x in range(n):
        r, g, b, p = m[x], m[SOLVE + x], m[2 * SOLVE + x], image_mean[x]
        d0, l10, l20 = m[3 * SOLVE + x], m[4 * SOLVE + x], m[5 * SOLVE + x]
        d1, l21, d2 = m[6 * SOLVE + x], m[7 * SOLVE + x], m[8 * SOLVE + x]
        c0, c1, c2 = (covariance[x] - r * p, covariance[SOLVE + x] - g * p, covariance[2 * SOLVE + x] - b * p)
        c1 -= l10 * c0
        c2 -= l20 * c0 + l21 * c1
        a2 = c2 * d2
        a1 = c1 * d1 - l21 * a2
        a0 = c0 * d0 - l10 * a1 - l20 * a2
        result[x], result[SOLVE + x], result[2 * SOLVE + x] = a0, a1, a2
        result[3 * SOLVE + x] = p - (a0 * r + a1 * g + a2 * b)


@parallel
def _guided_apply(coefficients, guide, out, columns, strip):
    height = guide.shape[1]
    for s in prange((height + strip - 1) // strip):
        start = np.int64(s) * strip
        _apply_strip(coefficients, guide, out, columns, start, min(height, start + strip))


@compiled
def _apply_strip(coefficients, guide, out, columns, start, stop):
    guides, height, width = guide.shape
    radius = (columns.size - width) // 2
    planes = coefficients.shape[0]
    sums = np.zeros(((planes + TOGETHER - 1) // TOGETHER * TOGETHER, width))
    prefix = np.zeros((sums.shape[0], columns.size + 1))
    mean, value = np.zeros(width), np.zeros(width)
    for y in range(max(0, start - radius), min(height, start + radius)):
        for k in range(planes):
            _move(sums[k], coefficients[k, y], 1.0)
    for y in range(start, stop):
        if y + radius < height:
            for k in range(planes):
                _move(sums[k], coefficients[k, y + radius], 1.0)
        _prefix(sums, prefix, columns)
        inside = min(height, y + radius + 1) - max(0, y - radius)
        for c in range(out.shape[0]):
            k = c * (guides + 1)
            _means(value, prefix[k + guides], 2 * radius + 1, inside, 0, radius, width, width)
            for g in range(guides):
                _means(mean, prefix[k + g], 2 * radius + 1, inside, 0, radius, width, width)
                _multiply_add(value, mean, guide[g, y])
            _copy(out[c, y], value)
        if y - radius >= 0:
            for k in range(planes):
                _move(sums[k], coefficients[k, y - radius], -1.0)


@compiled
def _multiply_add(value, slope, guide):
    for x in range(value.size):
        value[x] += slope[x] * guide[x]

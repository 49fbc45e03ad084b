"""What this machine offers to labkit, and for each thing that is missing the command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit import __version__

__all__ = ["BROWSERS", "EXTRAS", "INDENT", "MARKS", "PIP", "VERSIONED", "Finding", "findings", "machine", "quoted",
           "report", "versions"]

OK, MISSING, BROKEN = "ok", "missing", "broken"
INDENT = " " * 14
MARKS = {OK: "✔", MISSING: "○", BROKEN: "✘"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
EXTRAS = {"metrics": "metrics that other packages compute", "bench": "the filters that labkit is compared with",
          "cluster": "grading on several machines", "dev": "the tests", "cuda": "kernels for NVIDIA GPUs"}
def quoted(word: object) -> str:
    """A word as it must stand in a command line, to be pasted: a path may hold spaces."""
    text = str(word)
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


PIP = f"{quoted(sys.executable)} -m pip install"    # a bare pip may belong to another Python
VERSIONED = ("torch", "torchvision", "numpy", "numba", "scipy", "scikit-image", "pillow")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name, detail : what it is and what was found.
    state : `"ok"`, `"missing"` (labkit works without it) or `"broken"` (it does not).
    remedy : the command that mends it, as it can be pasted, or a sentence; empty when all is well.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        text = textwrap.fill(self.detail, 110, initial_indent=f"{MARKS[self.state]} {self.name:<12}",
                             subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
        # a command stays on one line, to be copied
        return f"{text}\n{INDENT}→ {self.remedy}" if self.remedy else text


def findings() -> Iterator[Finding]:
    """Look at everything, one thing after the other."""
    yield _python()
    yield from _packages()
    for look in (_torch, _threads, _profile, _kernel, _pictures, _numba_cache, _descriptor, _browser, _bubblewrap):
        try:
            yield look()
        except Exception as error:  # a broken installation can fail in any way, and this command is there to say how
            yield Finding(look.__name__.strip("_").replace("_", " "), BROKEN, f"{type(error).__name__}: {error}",
                          "delete .venv and run make install, or install labkit and its packages anew")


def report(found: list[Finding] | None = None) -> str:
    """What was found, as text, what is broken first; `None` looks at everything now."""
    found = list(findings()) if found is None else found
    broken = [finding for finding in found if finding.state == BROKEN]
    verdict = "Everything that labkit needs is here."
    if broken:
        verdict = f"Broken: {', '.join(finding.name for finding in broken)}. The lines with → say how to mend that."
    others = [finding for finding in found if finding.state != BROKEN]
    return "\n".join([verdict, *map(str, broken), "", f"labkit {__version__} on {machine()}", "", *map(str, others)])


def machine() -> str:
    """What kind of machine this is, without its name: cores, memory, GPU, system."""
    import psutil

    cores = os.cpu_count() or 1
    parts = [f"{cores} CPU core{'s' if cores > 1 else ''}", f"{psutil.virtual_memory().total / 2**30:.0f} GB of memory"]
    try:
        import torch

        parts += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    except (ImportError, OSError):
        pass    # a torch that cannot be imported is a finding of its own; what is known of the machine stays true
    return f"{', '.join(parts)}, {platform.system()}"


def versions(*names: str) -> dict[str, str]:
    """Python's and labkit's version and those of the packages that decide numbers and times; `names` adds more.

    torchvision is left out where it is not installed: no number or time comes from it.
    """
    found = {"python": platform.python_version(), "labkit": __version__}
    for name in (*VERSIONED, *names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "torchvision":
                raise
    return found


# --- one function for each thing ------------------------------------------------------------------------------------

def _python() -> Finding:
    detail = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    if not (3, 11) <= sys.version_info < (3, 15):      # this command tells what of an installation is broken
        return Finding("Python", BROKEN, detail, "labkit needs Python 3.11, 3.12, 3.13 or 3.14")
    return Finding("Python", OK, detail)


def _packages() -> Iterator[Finding]:
    """labkit's own list of what it needs, against what is installed."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(text) for text in importlib.metadata.requires("labkit") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", BROKEN, "labkit is not installed in this Python", f"{PIP} -e {quoted(Path(__file__).resolve().parent.parent)}")
        return
    yield _group("packages", [r for r in needed if r.marker is None], required=True)
    for extra, purpose in EXTRAS.items():
        if extra == "cuda" and shutil.which("nvidia-smi") is None:
            continue
        wanted = [r for r in needed if r.marker and r.marker.evaluate({"extra": extra})]
        if wanted:
            yield _group(f"[{extra}]", wanted, required=False, purpose=purpose)


def _group(name: str, wanted: list, *, required: bool, purpose: str = "") -> Finding:
    present, absent = [], []
    for requirement in wanted:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            absent.append((requirement, "is not installed"))
            continue
        if requirement.specifier.contains(version, prereleases=True):
            present.append(f"{requirement.name} {version}")
        else:
            absent.append((requirement, f"is {version}"))
    if not absent:
        return Finding(name, OK, ", ".join(present))
    listed = ", ".join(f"{requirement.name} {what}" for requirement, what in absent)
    command = f"{PIP} " + " ".join(f'"{requirement.name}{_extras(requirement)}{requirement.specifier}"'
                                    for requirement, _ in absent)
    if required:
        return Finding(name, BROKEN, listed, command)
    return Finding(name, MISSING, f"{listed} (only for {purpose})", command)


def _extras(requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


def _torch() -> Finding:
    """torch and torchvision come in pairs; of two that do not belong together the second fails when it is imported.

    Little needs the second, so that breaks nothing else.
    """
    import torch

    pair = f"torch {torch.__version__}"
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        return Finding("torch", MISSING, f"{pair} works, its torchvision does not: {error}. Only the metrics GMSD, FSIM, HaarPSI, "
                                         "VIF, LPIPS and DISTS need it; both must come from the same place.",
                       f"{PIP} --force-reinstall torch torchvision")
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no NVIDIA GPU"
    return Finding("torch", OK, f"{pair} with torchvision {torchvision.__version__}, {threads} CPU thread"
                                f"{'s' if threads > 1 else ''}, {where}")


def _threads() -> Finding:
    """How long they wait awake for each other, which costs much where other programs run."""
    from labkit import openmp

    if found := openmp.trouble():
        return Finding("threads", MISSING, *found)
    return Finding("threads", OK, "those that wait for others soon sleep, so that a busy machine stays quick")


def _profile() -> Finding:
    from labkit import runtime

    try:
        return Finding("profile", OK, f"{runtime.profile()} on {runtime.device()}; LABKIT_PROFILE chooses another")
    except ValueError as error:
        return Finding("profile", BROKEN, str(error), "unset LABKIT_PROFILE")


def _kernel() -> Finding:
    """The notebooks' kernel `python3` must be this Python, or they do not find labkit."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    mend = f"{quoted(sys.executable)} -m ipykernel install --sys-prefix"
    try:
        program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Finding("kernel", BROKEN, "Jupyter knows no kernel python3", mend)
    found = shutil.which(program) or program
    # Jupyter takes a bare "python" to mean the Python it runs in
    if Path(program).name == program or os.path.abspath(found) == os.path.abspath(sys.executable) \
            or Path(found).parent == Path(sys.executable).parent:
        return Finding("kernel", OK, "notebooks run in this Python")
    return Finding("kernel", BROKEN, f"notebooks run in {found}, which is not this Python", mend)


def _pictures() -> Finding:
    from labkit import images

    try:
        return Finding("pictures", OK, f"{len(images.names())} by name, the course's own in {images.data_folder()}")
    except FileNotFoundError as error:
        return Finding("pictures", BROKEN, str(error), "set LABKIT_DATA to the repository's folder data")


def _numba_cache() -> Finding:
    """Compiled kernels are kept where they really will be: beside labkit, in the user's cache, or among temporary files."""
    from labkit.kernels import cache

    place = cache.folder()
    if place is None:
        return Finding("numba cache", MISSING, "no folder to keep compiled kernels in: every start compiles them again",
                       "set NUMBA_CACHE_DIR to a folder you can write to")
    if (temporary := cache.temporary()) and place.is_relative_to(temporary):
        return Finding("numba cache", MISSING, f"kernels are kept in {place} until temporary files are removed, as neither labkit's "
                       "folder nor your home can be written to", "set NUMBA_CACHE_DIR to a folder you can write to")
    if damaged := cache.damaged(place):
        return Finding("numba cache", MISSING, f"damaged: {', '.join(path.name for path in damaged)} in {place}; these kernels are "
                       "compiled anew when they are first called")
    return Finding("numba cache", OK, f"kernels are compiled once and kept in {place}")


def _descriptor() -> Finding:
    """VGG-19's weights, as torchvision stores them."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    weights = next(iter(sorted(folder.glob("vgg19-*.pth"))), None)
    if weights:
        return Finding("descriptor", OK, f"VGG-19, from {weights}")
    return Finding("descriptor", MISSING, "VGG-19's weights are not here; random filters serve in their place. With a network:",
                   f"{quoted(sys.executable)} -c \"import torchvision; torchvision.models.vgg19(weights='DEFAULT')\"")


def _browser() -> Finding:
    names = (os.environ.get("LABKIT_BROWSER", ""), *BROWSERS)
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found and importlib.util.find_spec("playwright"):
        return Finding("browser", OK, f"{found}, for the tests of the widgets")
    if found:
        return Finding("browser", MISSING, f"{found}, but not playwright: the tests of the widgets are skipped",
                       f"{PIP} playwright")
    return Finding("browser", MISSING, "no Chromium or Chrome: the tests of the widgets are skipped",
                   "sudo apt install chromium, or set LABKIT_BROWSER to the program of your Chrome")


def _bubblewrap() -> Finding:
    without = "grading isolates submissions less without it"
    if platform.system() != "Linux":
        return Finding("bubblewrap", MISSING, f"does not exist for {platform.system()}; {without}")
    program = shutil.which("bwrap")
    if program is None:
        return Finding("bubblewrap", MISSING, f"not installed; {without}", "sudo apt install bubblewrap")
    tried = subprocess.run([program, "--ro-bind", "/", "/", "--unshare-all", "true"], capture_output=True, text=True,
                           timeout=20, check=False)
    if tried.returncode:
        return Finding("bubblewrap", MISSING, f"{program} is not allowed to work here: {tried.stderr.strip()}",
                       f"allow unprivileged user namespaces, or leave it: {without}")
    return Finding("bubblewrap", OK, f"{program}, isolates submissions when grading")

"""What a run found: one JSON file, and a short table."""

from __future__ import annotations

import json
import math
from pathlib import Path

__all__ = ["BAD", "counted", "print_table", "rows", "write"]

BAD = ("differs", "failed")


def write(report: dict, path: Path) -> None:
    """Write a report to a file; whoever reads it meanwhile finds the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(
        json.dumps(_finite(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    unfinished.replace(path)


def _finite(value: object) -> object:
    """JSON knows neither infinity nor what is no number."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def rows(report: dict) -> list[tuple[str, ...]]:
    """The table: a line for each case, and one for each other step."""
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for entry in report["steps"]:
        found.setdefault((entry["part"], entry["case"]), {})[entry["kind"]] = entry
    table = [("part", "what", "result", "card, ms", "CPU / card", "torch / card", "of bandwidth", "of float32", "aim")]
    for (part, case), kinds in found.items():
        result, timed = kinds.get("result"), kinds.get("time", {})
        if result is None:
            one = next(iter(kinds.values()))
            said = f"{one['outcome']}: {one['why']}" if "why" in one else one["outcome"]
            table.append((part, case, said, *[""] * 6))
            continue
        said = (
            f"{result['outcome']}, {result['difference']:.2g} (at most {result['tolerance']:.2g})"
            if "difference" in result
            else f"{result['outcome']}: {result['why']}"
        )
        if timed.get("outcome") in BAD:
            said += f"; its time: {timed['why']}"
        table.append((part, case, said, *_figures(timed, report["limits"])))
    return table


def _figures(timed: dict, limits: dict | None) -> tuple[str, ...]:
    if timed.get("outcome") != "timed":
        return ("",) * 6
    card = timed["device"]["median"]

    def ratio(name: str) -> str:
        return f"{timed[name]['median'] / card:.3g}" if name in timed else ""

    def share(count: str, limit: str) -> str:
        return f"{timed[count] / (card / 1000) / limits[limit]:.1%}" if limits and timed[count] else ""

    aim = timed.get("aim")
    return (
        f"{card:.3g}",
        ratio("cpu"),
        ratio("plain"),
        share("bytes", "bytes_per_s"),
        share("operations", "float32_per_s"),
        f"{aim['extrapolated_s']:.3g} s of {aim['seconds']:g} s (extrapolated)" if aim else "",
    )


def print_table(report: dict) -> None:
    """Print the table, the limits, and the ends of what failed."""
    table = [tuple(cell if len(cell) <= 90 else cell[:87] + "..." for cell in row) for row in rows(report)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if report["limits"]:
        print(
            f"\nLimits, measured: {report['limits']['bytes_per_s'] / 1e9:.4g} GB/s, {report['limits']['float32_per_s'] / 1e12:.3g} float32 "
            "Top/s. Bytes and operations are the least that a call needs, so shares say how far its time is from that."
        )
    for entry in report["steps"]:
        if entry["outcome"] in BAD:
            print(f"\n{entry['part']}, {entry['case']}, {entry['kind']}: {entry['outcome']}. {entry.get('why', '')}")
            ends = [entry.get("traceback", [])] + [
                [f"{one['test']}:", *one["end"]] for one in entry.get("failures", [])
            ]
            print("\n".join(f"    {line}" for end in ends for line in end))


def counted(report: dict) -> str:
    """How many steps came to what, in words."""
    names = {"agrees": "agree", "differs": "differ", "failed": "failed", "left out": "left out", "timed": "timed"}
    counts = {name: sum(entry["outcome"] == outcome for entry in report["steps"]) for outcome, name in names.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items())

"""Prints the newest measurements of a file that benchmark_against.py --log wrote, as Markdown, and draws them.

    python examples/benchmark_report.py                    # all networks and processors in benchmarks.jsonl
    python examples/benchmark_report.py --only R50 --plot times.png
    python examples/benchmark_report.py --only R50 --readme README.md

A measurement is one run of benchmark_against.py. Of several measurements with the same processor, network, size of
pictures, batch and number of threads, the last one is shown. A ratio is the median over the rounds of (the engine's
time / the time of the first row of nphybrid), so it is the best comparison on a machine whose speed varies.
"""
import argparse
import json
import re
import sys
from pathlib import Path

from benchmark_against import row_name
from PIL import ImageDraw

from nphybrid.explain import drawing
from nphybrid.explain.drawing import MARGIN

OURS, PEER = "#0072b2", "#9aa5b1"
WIDTH, BAR, GAP, NAMES = 1300, 44, 22, 760                # in dots
MARKS = "<!-- benchmark -->", "<!-- /benchmark -->"


def measurements(path, only=""):
    """Read a file.  -> {description: rows}.  The rows of a measurement are sorted by their seconds.

    `only` is a description, or a part of one.
    """
    groups = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        threads = f", {row['threads']} threads" if "threads" in row else ""
        about = "{network}, {height} x {width}, batch {batch}{threads}; {cpu}".format(**row | {"threads": threads})
        if "label" in row:
            about += "; from the start of a process to the label"
        rows = groups.setdefault(about, [])
        if rows and rows[0]["date"] != row["date"]:       # all rows of a run have one date, which contains the time
            rows.clear()
        rows.append(row)
    chosen = [only] if only in groups else [about for about in groups if only in about]
    return {about: sorted(groups[about], key=lambda row: row["median"]) for about in chosen}


def table(about, rows):
    """A measurement as a Markdown table."""
    lines = ["| engine | version | median s | quartiles | error | peak MB | ratio |", "| --- " * 7 + "|"]
    for row in rows:
        low, _, high = row["quartiles"] if len(row["quartiles"]) == 3 else row["quartiles"] * 3
        error = f"{row['error']:.1e}" if "error" in row else ""
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else "-"
        cells = (row_name(row), row.get("version", ""), f"{row['median']:.4f}", f"{low:.4f} to {high:.4f}", error,
                 f"{row['peak'] / 1e6:,.0f}", ratio)
        lines.append(f"| {' | '.join(cells)} |")
    first = rows[0]
    load = f", load average {first['load']:.1f} before the measurement" if first.get("load") is not None else ""
    return "\n".join([f"{about}; {first['date'][:10]}, revision {first['revision']}{load}", "", *lines])


def plot(found):
    """Draw a bar for each row of each measurement.  The shortest bar is the fastest engine."""
    rows = sum(map(len, found.values()))
    page, y = drawing.sheet("Time of one call", "Median seconds. Measurements of different processors and networks "
                            "cannot be compared with each other.", NAMES + WIDTH + 2 * MARGIN + 200,
                            (BAR + GAP) * rows + 140 * len(found) + MARGIN)
    for about, measurement in found.items():
        drawing.write(page, MARGIN, y + 20, about)
        y += 100
        longest = max(row["median"] for row in measurement)
        for row in measurement:
            right = MARGIN + NAMES + WIDTH * row["median"] / longest
            colour = OURS if row["engine"] == "nphybrid" else PEER
            drawing.write(page, MARGIN + NAMES - 20, y + BAR / 2, row_name(row), anchor="rm")
            ImageDraw.Draw(page).rectangle((MARGIN + NAMES, y, right, y + BAR), colour)
            drawing.write(page, right + 16, y + BAR / 2, f"{row['median']:.3g} s", anchor="lm")
            y += BAR + GAP
        y += 40
    return drawing.trimmed(page)


def main():
    """Parse the command line, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).with_name("benchmarks.jsonl"))
    parser.add_argument("--only", default="", help="a part of the line above a table, for example the processor")
    parser.add_argument("--plot", type=Path, help="write a picture into this file")
    parser.add_argument("--readme", type=Path, help=f"write the tables into this file, between {' and '.join(MARKS)}")
    args = parser.parse_args()
    found = measurements(args.file, args.only)
    if not found:
        sys.exit(f"{args.file}: expected a measurement with {args.only!r} in its description, found none")
    text = "\n\n".join(table(*item) for item in found.items())
    print(text)
    if args.plot:
        plot(found).save(args.plot)
    if args.readme:
        write_between_marks(args.readme, text)


def write_between_marks(path, text):
    """Replace the text between the two marks in a file.  Exits if a mark is missing."""
    first, last = MARKS
    between = re.compile(f"(?<={first}\n).*?(?={last})", re.DOTALL)
    new, count = between.subn(lambda _: f"{text}\n", path.read_text("utf-8"))
    if not count:
        sys.exit(f"{path}: expected the line {first} before the line {last}, found no such pair")
    path.write_text(new, "utf-8")


if __name__ == "__main__":
    main()

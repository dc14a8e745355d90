"""The peak memory of one process after 200 pictures and at the end, in KiB, as JSON.

    python tests/tools/peak_memory.py FOLDER TIMES         the pictures of FOLDER, TIMES times

By the 200th picture, the plan of the usual batch is recorded (nphybrid/ops/plans.py).
"""
import json
import sys

from nphybrid.batch import inputs, rows, run
from nphybrid.batch.pipeline import pipeline


def peak():
    """The peak of this process so far, in KiB: VmHWM of Linux."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main(folder, times):
    """Classify the pictures and print the peaks."""
    pipe = pipeline("image-classification")
    sources = inputs.find_pictures([folder] * times)
    prepare, first = run.preparer(pipe.image_processor), None
    with rows.writer("/dev/null", "jsonl") as write:
        for row in run.compute_rows(sources, prepare, lambda x: pipe.model(x).logits):
            write(rows.labelled_fields(row, pipe.model.config))
            if row.position == 199:
                first = peak()
    print(json.dumps({"pictures": len(sources), "first": first, "last": peak()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

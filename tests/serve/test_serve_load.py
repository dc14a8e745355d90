"""Eight clients send 200 requests each, hostile ones among them: right answers, refusals, bounded memory."""
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from nphybrid.batch.pipeline import pipeline

from oracles.pictures import encode, png

pytestmark = pytest.mark.slow

CLIENTS, REQUESTS = 8, 200
# The limits are those of `nphybrid serve`.
CODE = """
from nphybrid import default_model
from nphybrid.api.load import load
from nphybrid.serve.server import Server
from nphybrid.serve.service import Service
if __name__ == "__main__":
    service = Service(load(default_model()), "a model")
    with Server(service, port=0) as server:
        print(server.server_address[1], service.decoder.process.pid, flush=True)
        server.serve_forever(0.1)
"""


def peak(pid):
    """The peak memory of a process in MiB: VmHWM of Linux."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


@pytest.fixture(scope="module")
def pictures(cat):
    """Pictures of several formats and sizes, and one of exactly 64 million pixels."""
    rng = np.random.default_rng(20261128)
    found = [cat.read_bytes()]
    for format, size in (("JPEG", (640, 480)), ("PNG", (65, 38)), ("WEBP", (301, 97)), ("GIF", (33, 190))):
        found.append(encode(Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)), format))
    return found, png(8000, 8000, bytes(1001 * 8000), 1, 0)


class Client:
    """Sends requests to a port, and compares the answers with those of the pipeline."""

    def __init__(self, port, pictures, large, labels):
        self.port, self.pictures, self.large, self.labels = port, pictures, large, labels

    def exchange(self, body=b"", length=None, headers=(), path="/classify", pause=0.0):
        """Send a request.  -> status, the JSON or HTML of the answer

        `pause` is the time after each byte of a slow sender, which never sends the last byte.
        """
        lines = {"Host": f"127.0.0.1:{self.port}", "Content-Length": len(body) if length is None else length,
                 **dict(headers)}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        request = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
        with socket.create_connection(("127.0.0.1", self.port), timeout=300) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if pause:
                    connection.settimeout(pause)
                    for i in range(len(request) - 1):
                        connection.sendall(request[i:i + 1])
                        with contextlib.suppress(TimeoutError):
                            connection.recv(1, socket.MSG_PEEK)
                            break
                    connection.settimeout(300)
                else:
                    connection.sendall(request)
                    connection.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            text = answer.read()
        return answer.status, text if answer.headers.get_content_type() == "text/html" else json.loads(text)

    def is_right(self, row, i):
        """Whether a row has the labels of picture i, with every bit of the scores."""
        return [{"label": label["label"], "score": label["score"]} for label in row["labels"]] == self.labels[i]

    def good(self, i):
        status, row = self.exchange(self.pictures[i])
        return status == 200 and self.is_right(row, i)

    def good_form(self, i):
        part = b'--b\r\nContent-Disposition: form-data; name="p"; filename="a"\r\n\r\n%s\r\n'
        other = (i + 1) % len(self.pictures)
        body = b"".join(part % data for data in (self.pictures[i], b"broken", self.pictures[other])) + b"--b--"
        status, rows = self.exchange(body, headers={"Content-Type": "multipart/form-data; boundary=b"}.items())
        return status == 200 and self.is_right(rows[0], i) and "error" in rows[1] and self.is_right(rows[2], other)

    def explained(self, i):
        status, page = self.exchange(self.pictures[i], path="/explain")
        return status == 200 and page.startswith(b"<!doctype html>")

    def good_of_64_megapixels(self, _):
        status, row = self.exchange(self.large)
        return status == 200 and self.is_right(row, len(self.pictures))

    def bomb_of_64_megapixels(self, _):
        status, row = self.exchange(png(8001, 8000))
        return status == 422 and "expected at most 64,000,000" in row["error"]

    def truncated(self, i):
        data = self.pictures[i]
        status, row = self.exchange(data[:len(data) // 2])
        return status == 422 and "error" in row

    def length_too_large(self, i):
        status, answer = self.exchange(self.pictures[i], len(self.pictures[i]) + 7)
        return status == 400 and "the connection ended" in answer["error"]

    def length_too_small(self, i):
        status, row = self.exchange(self.pictures[i], len(self.pictures[i]) // 2)
        return status == 422 and "error" in row

    def length_beyond_the_limit(self, i):
        return self.exchange(self.pictures[i], 1 << 40)[0] == 413

    def another_host(self, i):
        return self.exchange(self.pictures[i], headers={"Host": "evil.example"}.items())[0] == 403

    def another_origin(self, i):
        return self.exchange(self.pictures[i], headers={"Origin": "http://evil.example"}.items())[0] == 403

    def slow_sender(self, i):
        status, answer = self.exchange(self.pictures[i], pause=0.1)
        return status == 408 and "did not arrive within 20 seconds" in answer["error"]

    def leaves(self, i):
        """A client that closes the connection in the middle of a request; there is no answer to compare."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"POST /classify HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Le".encode())
        return True


# How often each client sends each request.
MIX = {"good": 102, "good_form": 20, "explained": 2, "good_of_64_megapixels": 1, "bomb_of_64_megapixels": 10,
       "truncated": 15, "length_too_large": 10, "length_too_small": 10, "length_beyond_the_limit": 8,
       "another_host": 8, "another_origin": 8, "slow_sender": 1, "leaves": 5}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_eight_clients_with_hostile_requests(pictures, tmp_path):
    assert sum(MIX.values()) == REQUESTS
    small, large = pictures
    pipe = pipeline("image-classification")
    labels = [pipe(data) for data in (*small, large)]
    assert len({str(label) for label in labels}) == len(labels)            # an answer to another picture is wrong
    (tmp_path / "run_server.py").write_text(CODE)
    process = subprocess.Popen([sys.executable, str(tmp_path / "run_server.py")], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        port, decoder = map(int, process.stdout.readline().split())
        before = peak(process.pid), peak(decoder)
        client, found, failures, milliseconds = Client(port, small, large, labels), Counter(), [], []

        def send_all(seed):
            order = [kind for kind, count in MIX.items() for _ in range(count)]
            random.Random(seed).shuffle(order)
            for number, kind in enumerate(order):
                start = time.monotonic()
                try:
                    right = getattr(client, kind)(number % len(small))
                except Exception as error:
                    right = repr(error)
                milliseconds.append((time.monotonic() - start) * 1000)
                found[kind] += 1
                if right is not True:
                    failures.append((kind, number, right))
        start = time.monotonic()
        threads = [threading.Thread(target=send_all, args=(seed,)) for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - start
        assert failures == [] and found == {kind: CLIENTS * count for kind, count in MIX.items()}
        after = peak(process.pid), peak(decoder)
        assert client.good(0)
        threads_left = len(os.listdir(f"/proc/{process.pid}/task"))
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        ended = time.monotonic() - start
    finally:
        process.kill()
    print(f"\n{len(milliseconds):,} requests in {seconds:.1f} s; milliseconds: median {np.median(milliseconds):.0f}, "
          f"99 % {np.percentile(milliseconds, 99):.0f}, most {max(milliseconds):.0f}\n"
          f"peak of the server {before[0]:.0f} -> {after[0]:.0f} MiB, of the decoder {before[1]:.0f} -> {after[1]:.0f} "
          f"MiB; {threads_left} threads at the end; Ctrl-C ended it after {ended:.2f} s")
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    # A picture of 64 million pixels has 183 MiB as RGB. The largest peaks observed are 1,126 and 657 MiB.
    assert after[0] < 1500 and after[1] < 1000

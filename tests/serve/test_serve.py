"""The server: right answers, each refusal with its status and its message, and no effect of one request on another."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nphybrid import open_picture
from nphybrid.batch.pipeline import pipeline
from nphybrid.cli import main
from nphybrid.explain.page import page
from nphybrid.pictures.decode import formats
from nphybrid.serve import decoder
from nphybrid.serve.addresses import served_hosts
from nphybrid.serve.forms import Upload, uploads
from nphybrid.serve.limits import Limits, Refusal
from nphybrid.serve.server import Server
from nphybrid.serve.service import Service

from oracles.pictures import PICTURES, bombs, encode

# The times are long, because a computer that runs tests may be slow.
LIMITS = Limits(bytes=1 << 20, pictures=3, connections=4, receive_seconds=60, compute_seconds=60, send_seconds=60)
BOUNDARY = "x y"
FORM = {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}


@contextlib.contextmanager
def serving(service, **limits):
    """A server in a thread of this process."""
    with Server(service, port=0, limits=LIMITS._replace(**limits)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server(model):
    with serving(Service(model, "a model", top_k=3)) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(model):
    """A server that cuts off clients after half a second."""
    with serving(Service(model, "a model", top_k=3), receive_seconds=0.5) as server:
        yield server


@pytest.fixture
def data(cat):
    return cat.read_bytes()


@pytest.fixture(scope="module")
def labels(model, cat):
    """What the pipeline says about the cat."""
    return pipeline("image-classification", model)(str(cat), top_k=3)


def host(server):
    return f"127.0.0.1:{server.server_address[1]}"


def connected(server):
    return socket.create_connection(server.server_address[:2], timeout=30)


def answered(connection):
    """The answer on a connection.  -> status, headers, the bytes of the body"""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    body = answer.read()
    assert len(body) == int(answer.headers["Content-Length"]) and answer.headers["Connection"] == "close"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    return answer.status, answer.headers, body


def sent(server, *pieces):
    """The answer to the bytes of a request.  ADDRESS in them stands for the address of the server."""
    with connected(server) as connection:
        connection.sendall(b"".join(pieces).replace(b"ADDRESS", host(server).encode()))
        return answered(connection)


def asked(server, method, path, body=None, **headers):
    """The answer to a request.  -> status, headers, body, from JSON where it is JSON"""
    lines = {"Host": host(server), **headers}
    if body is not None:
        lines.setdefault("Content-Length", len(body))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    status, found, body = sent(server, head.encode(), body or b"")
    return status, found, json.loads(body) if found["Content-Type"] == "application/json" else body


def form(*files):
    """A form with (name, data) of each file, as browsers write it."""
    head = '--{}\r\nContent-Disposition: form-data; name="p"; filename="{}"\r\nContent-Type: image/png\r\n\r\n'
    parts = [head.format(BOUNDARY, name).encode() + data + b"\r\n" for name, data in files]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def is_well(server, data, labels):
    """Whether the server answers as ever."""
    status, _, row = asked(server, "POST", "/classify", data)
    return status == 200 and [{key: label[key] for key in ("label", "score")} for label in row["labels"]] == labels


# ---------------------------------------------------------------- right answers

def test_one_picture_has_the_labels_of_the_pipeline(server, data, labels, model):
    status, headers, row = asked(server, "POST", "/classify", data)
    assert status == 200 and headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Cache-Control"] == "no-store"
    assert row == {"position": 0, "path": "picture", "labels": [
        {"index": model.config.label2id[label["label"]], **label} for label in labels]}
    assert labels[0]["label"] == "cat"


def test_a_form_has_the_rows_of_the_command_line(server, cat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [("cat.png", cat.read_bytes()), ("böse \udce4.png", cat.read_bytes()[:5000]), ("text.jpg", b"no picture")]
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name, _ in files]
    for name, (_, data) in zip(names, files):
        (tmp_path / name).write_bytes(data)
    assert main(["classify", *names, "--format", "json", "--top-k", "3", "--engine", "reference"]) == 1
    expected = json.loads(capsys.readouterr().out)
    body = form(*[(name, data) for name, (_, data) in zip(names, files)])
    status, _, found = asked(server, "POST", "/classify", body, **FORM)
    assert (status, found) == (200, expected) and "error" in found[1] and "error" in found[2]


def test_the_explain_page_is_that_of_explain(server, data, cat, model):
    status, headers, found = asked(server, "POST", "/explain", form(("a <b>.png", data)), **FORM)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "sandbox allow-scripts;" in headers["Content-Security-Policy"]
    assert found.decode() == page(model, open_picture(cat), "a <b>.png")


def test_health_and_the_page(server, model):
    from nphybrid import __version__
    status, _, found = asked(server, "GET", "/health")
    assert (status, found) == (200, {"status": "ok", "version": __version__, "model": "a model", "classes": 10,
                               "formats": list(formats())})
    status, headers, found = asked(server, "GET", "/")
    assert status == 200 and b"<!doctype html>" in found and "unsafe" not in headers["Content-Security-Policy"]
    # Relative, so that the page also works below a prefix of a proxy.
    paths = re.findall(rb'(?:src|href)="([^":]*)"', found)
    assert sorted(paths) == [b"page.css", b"page.js"]
    for path in paths:
        status, _, text = asked(server, "GET", f"/{path.decode()}")
        assert status == 200 and not re.search(rb'"/\w', text)
    assert sent(server, b"GET /health HTTP/1.1\r\nHost: LOCALHOST:", host(server)[10:].encode(), b"\r\n\r\n")[0] == 200
    assert asked(server, "GET", "/health", Origin=f"http://{host(server)}")[0] == 200


def test_head_has_no_body(server):
    with connected(server) as connection:
        connection.sendall(f"HEAD / HTTP/1.1\r\nHost: {host(server)}\r\n\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 200 ") and received.endswith(b"\r\n\r\n")


def test_a_client_that_asks_is_told_to_send_the_body(server, data, labels):
    """curl asks before it sends more than 1 MB; a request that is refused is not sent."""
    head = f"POST /classify HTTP/1.1\r\nHost: {host(server)}\r\nExpect: 100-continue\r\nContent-Length: "
    with connected(server) as connection:
        connection.sendall(f"{head}{len(data)}\r\n\r\n".encode())
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(data)
        status, _, body = answered(connection)
    assert status == 200 and json.loads(body)["labels"][0]["label"] == labels[0]["label"]
    assert sent(server, head.encode(), b"9999999999\r\n\r\n")[0] == 413


def test_every_kind_of_picture_is_opened_or_refused_as_a_file(server):
    """Every seventh picture of the tables of test_decode.py, which are right there."""
    refused = 0
    for name, (source, _) in list(PICTURES.items())[::7]:
        if not isinstance(source, bytes) or len(source) > LIMITS.bytes:
            continue
        try:
            expected = np.asarray(open_picture(source))
        except ValueError as error:
            refused += 1
            message = str(error).removeprefix("picture from bytes: ")
            assert asked(server, "POST", "/classify", source)[::2] == (
                422, {"position": 0, "path": "picture", "error": f"picture: {message}"}), name
        else:
            found = server.worker.do(60, server.service.decoder.open, Upload("picture", source))
            assert found.mode == "RGB" and np.array_equal(np.asarray(found), expected), name
    assert refused > 5


# ---------------------------------------------------------------- refusals

POST = b"POST /classify HTTP/1.1\r\nHost: ADDRESS\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="p"; filename="a.png"\r\n\r\nx\r\n'


def posted(kind, body, path=b"classify"):
    head = b"Content-Type: " + kind + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    return POST.replace(b"classify", path) + head + body


REFUSED = {
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "found 0 headers Host; expected one"),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: ADDRESS\r\nHost: evil\r\n\r\n", 400, "found 2 headers Host"),
    "another Host": (b"GET / HTTP/1.1\r\nHost: evil.example:8000\r\n\r\n", 403,
                     r"the Host is 'evil.example:8000', which is not an address of this server; expected one of 127\."),
    "no port": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 403, "the Host is 'localhost'"),
    "another port": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", 403, "the Host is '127.0.0.1:1'"),
    "suffix of Host": (b"GET / HTTP/1.1\r\nHost: ADDRESS.evil\r\n\r\n", 403, "the Host is"),
    "another Origin": (POST + b"Origin: http://evil.example\r\nContent-Length: 1\r\n\r\nx", 403,
                       "the Origin is 'http://evil.example'; expected http://127"),
    "Origin null": (POST + b"Origin: null\r\nContent-Length: 1\r\n\r\nx", 403, "the Origin is 'null'"),
    "Origin of https": (POST + b"Origin: https://ADDRESS\r\nContent-Length: 1\r\n\r\nx", 403, "the Origin is 'https:"),
    "headers that cannot be read": (POST + b"Content-Length: 1\r\n"
                                    b"Content-Type: multipart/form-data; a*=1; a*1*\r\n\r\nx", 400,
                                    "the headers cannot be read"),
    "another path": (b"GET /etc/passwd HTTP/1.1\r\nHost: ADDRESS\r\n\r\n", 404, "found the path '/etc/passwd'; exp"),
    "a path upwards": (b"GET /../page.py HTTP/1.1\r\nHost: ADDRESS\r\n\r\n", 404, r"found the path '/\.\./page\.py'"),
    "a proxy": (b"GET http://ADDRESS/ HTTP/1.1\r\nHost: ADDRESS\r\n\r\n", 404, "found the path 'http:"),
    "GET": (b"GET /classify HTTP/1.1\r\nHost: ADDRESS\r\n\r\n", 405, "found the method GET; expected POST"),
    "POST": (b"POST / HTTP/1.1\r\nHost: ADDRESS\r\nContent-Length: 0\r\n\r\n", 405, "found the method POST"),
    "preflight": (b"OPTIONS /classify HTTP/1.1\r\nHost: ADDRESS\r\nAccess-Control-Request-Method: POST\r\n\r\n", 405,
                  "found the method OPTIONS"),
    "PUT": (b"PUT /classify HTTP/1.1\r\nHost: ADDRESS\r\nContent-Length: 0\r\n\r\n", 405, "found the method PUT"),
    "DELETE": (b"DELETE / HTTP/1.1\r\nHost: ADDRESS\r\n\r\n", 405, "found the method DELETE; expected GET"),
    "a query": (POST.replace(b"classify", b"classify?top_k=1") + b"Content-Length: 1\r\n\r\nx", 400,
                r"found the query 'top_k=1'; expected none\. Options are given to nphybrid serve"),
    "another method": (b"BREW / HTTP/1.1\r\nHost: ADDRESS\r\n\r\n", 501, "Unsupported method"),
    "no length": (POST + b"\r\n", 411, "found no Content-Length"),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400, "found the Content-Length '1, 2'"),
    "negative length": (POST + b"Content-Length: -1\r\n\r\n", 400, "found the Content-Length '-1'; expected one num"),
    "no number": (POST + b"Content-Length: 1_0\r\n\r\n", 400, "found the Content-Length '1_0'"),
    "a long number": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, "found the Content-Length '9"),
    "chunked": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501, "found a Transfer-Encoding"),
    "too large": (POST + b"Content-Length: 1048577\r\n\r\n", 413, "expected at most 1,048,576 .1 MiB.$"),
    "no picture": (posted(b"text/plain", b"hello"), 422, "picture: is none of JPEG, PNG"),
    "nothing": (posted(b"image/png", b""), 422, "picture: .*empty"),
    "another multipart": (posted(b"multipart/mixed; boundary=b", PART), 415, "found the Content-Type multipart/mixed"),
    "no boundary": (posted(b"multipart/form-data", PART), 400, "the form has no boundary"),
    "a long boundary": (posted(b"multipart/form-data; boundary=" + b"b" * 71, PART), 400, "the form has no boundary"),
    "truncated form": (posted(b"multipart/form-data; boundary=b", PART), 400, "the form is truncated"),
    "another boundary": (posted(b"multipart/form-data; boundary=c", PART + b"--b--"), 400, "the form is truncated"),
    "an empty form": (posted(b"multipart/form-data; boundary=b", b"--b--\r\n"), 400, "the form has no file"),
    "four files": (posted(b"multipart/form-data; boundary=b", 4 * PART + b"--b--"), 413, "more than 3 files; expec"),
    "boundaries": (posted(b"multipart/form-data; boundary=b", b"--b\r\n" * 200_000), 413, "more than 3 files"),
    "a name in an unknown encoding": (posted(b"multipart/form-data; boundary=b", PART.replace(
        b'filename="a.png"', b"filename*=idna'x'abc") + b"--b--"), 400, "the headers of part 1 of the form cannot be"),
    "a field": (posted(b"multipart/form-data; boundary=b", PART + PART.replace(b'; filename="a.png"', b"") + b"--b--"),
                400, "part 2 of the form is not a file"),
    "no empty line": (posted(b"multipart/form-data; boundary=b", PART.replace(b"\r\n\r\n", b"") + b"--b--"), 400,
                      "part 1 of the form is malformed"),
    "a long part head": (posted(b"multipart/form-data; boundary=b",
                                PART.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 9000 + b"\r\n\r\n") + b"--b--"), 400,
                         "part 1 of the form is malformed"),
    "two to explain": (posted(b"multipart/form-data; boundary=b", 2 * PART + b"--b--", b"explain"), 400,
                       "found 2 pictures; expected one"),
    "no picture to explain": (posted(b"image/png", b"hello", b"explain"), 422, "picture: is none of JPEG"),
    "no HTTP": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400, "Bad request|Bad HTTP"),
    "HTTP 3": (b"GET / HTTP/3.0\r\nHost: ADDRESS\r\n\r\n", 505, "Invalid HTTP version"),
    "a long path": (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414, "URI"),
    "a long header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431, "Line too long"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431, "Too many headers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_why(name, server):
    request, status, message = REFUSED[name]
    found, headers, body = sent(server, request)
    assert found == status and headers["Content-Type"] == "application/json", body
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert re.search(message, json.loads(body)["error"]), body
    assert (headers["Allow"] is not None) == (status == 405)


def test_each_refusal_is_a_line_on_stderr(server, data, capfd):
    server.lines = 0
    asked(server, "GET", "/\x1b[31m")
    asked(server, "POST", "/classify", b"no picture")
    asked(server, "GET", "/health", Host="evil")
    asked(server, "GET", "/health")
    asked(server, "POST", "/classify", data)
    lines = capfd.readouterr().err.splitlines()
    assert [line[:25] for line in lines] == [f"nphybrid: 127.0.0.1: {status} " for status in (404, 422, 403)], lines
    assert "\x1b" not in str(lines) and "is none of JPEG" in lines[1] and "the Host is 'evil'" in lines[2]


def test_the_lines_about_refusals_are_limited(server, capfd):
    server.lines, server.lines_since = 0, time.monotonic() + 1000
    for _ in range(30):
        asked(server, "GET", "/nowhere")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 20 and lines[-1].endswith(" (no more lines for up to 10 seconds)")
    server.lines_since = time.monotonic() - 10
    asked(server, "GET", "/nowhere")
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name, source, message", list(bombs()), ids=lambda value: value if type(value) is str else "")
def test_bombs_are_refused(name, source, message, server):
    status, _, found = asked(server, "POST", "/classify", source)
    assert status == 422 and re.search(message, found["error"])


def test_a_body_that_ends_early_is_refused(server):
    with connected(server) as connection:
        connection.sendall(POST.replace(b"ADDRESS", host(server).encode()) + b"Content-Length: 1000\r\n\r\nshort")
        connection.shutdown(socket.SHUT_WR)
        status, _, body = answered(connection)
    assert status == 400 and "ended after 5 bytes of the body; expected 1,000" in json.loads(body)["error"]


@pytest.mark.parametrize("start", [b"", b"GET /hea", POST, POST + b"Content-Length: 100\r\n\r\nabc"],
                         ids=["nothing", "request line", "headers", "body"])
@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_slow_senders_are_cut_off(start, drips, hasty):
    """Also one that goes on to send a byte from time to time."""
    with connected(hasty) as connection:
        connection.sendall(start.replace(b"ADDRESS", host(hasty).encode()))
        stop = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while drips and not stop.wait(0.1):
                    connection.sendall(b"x")
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            status, _, body = answered(connection)
        finally:
            stop.set()
            thread.join()
    assert status == 408 and json.loads(body)["error"] == "the request did not arrive within 0.5 seconds"


def test_too_many_connections_are_refused(hasty, data, labels):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(hasty)) for _ in range(LIMITS.connections)]
        status, headers, body = sent(hasty, POST, b"\r\n")
        assert (status, headers["Retry-After"]) == (503, "5")
        assert json.loads(body)["error"] == "the server has too many connections; try again later"
        assert [answered(connection)[0] for connection in idle] == [408] * LIMITS.connections
    wait_until(lambda: is_well(hasty, data, labels))


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_client_that_leaves_changes_nothing(server, data, labels, capfd):
    for size in (0, 10, 60, len(data)):
        with connected(server) as connection:
            head = POST.replace(b"ADDRESS", host(server).encode()) + b"Content-Length: %d\r\n\r\n" % len(data)
            connection.sendall((head + data)[:size])
            # The connection is reset, not closed.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wait_until(lambda: is_well(server, data, labels))
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- failures

def test_an_error_of_the_server_is_one_answer(server, data, labels, monkeypatch, capfd):
    def fail(*_):
        raise KeyError("a secret")
    with monkeypatch.context() as patch:
        patch.setattr(server.service, "row", fail)
        status, _, found = asked(server, "POST", "/classify", data)
    assert (status, found) == (500, {"error": "the server has an error (KeyError)"})
    assert "KeyError: 'a secret'" in capfd.readouterr().err
    assert is_well(server, data, labels)


def test_a_lack_of_memory_is_not_the_fault_of_the_picture(server, data, labels, monkeypatch):
    def fail(*_):
        raise MemoryError("Unable to allocate 9 GiB")
    with monkeypatch.context() as patch:
        patch.setattr(server.service.decoder, "open", fail)
        assert asked(server, "POST", "/explain", data)[::2] == (503, {"error": "not enough memory"})
        status, _, found = asked(server, "POST", "/classify", data)
        assert status == 503 and "not enough memory (Unable to allocate 9 GiB)" in found["error"]
    assert is_well(server, data, labels)


def test_a_busy_server_says_so(model, data, labels):
    with serving(Service(model, "a model", 3), compute_seconds=0.5) as server:
        held, called = threading.Event(), []
        waiting = threading.Thread(target=lambda: server.worker.do(60, held.wait))
        waiting.start()
        status, headers, found = asked(server, "POST", "/classify", data)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert found["error"].startswith("there was no result after 0.5 seconds")
        with pytest.raises(Refusal):
            server.worker.do(0.01, called.append, 1)
        assert asked(server, "GET", "/health")[0] == 200
        held.set()
        waiting.join()
        server.limits = server.limits._replace(compute_seconds=60)
        assert is_well(server, data, labels) and called == []


def scans(count):
    """A JPEG whose last scan is repeated: 16 million pixels, and 31 bytes for each pass over them."""
    jpeg = encode(Image.new("RGB", (4000, 4000), "teal"), "JPEG", progressive=True)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda"):-2] * count + jpeg[-2:]


def test_a_picture_that_takes_too_long_is_refused(model, data, labels):
    """5,000 scans take minutes."""
    with serving(Service(model, "a model", 3, decode_seconds=1)) as server:
        status, _, found = asked(server, "POST", "/classify", scans(5000))
        assert (status, found["error"]) == (422, "picture: was not decoded within 1 seconds")
        server.service.decoder.seconds = 60
        assert is_well(server, data, labels)


@pytest.mark.skipif(not hasattr(signal, "SIGSEGV") or os.name == "nt", reason="needs signals")
def test_a_crash_of_a_decoder_is_one_answer(server, data, labels):
    old = server.service.decoder.process
    os.kill(old.pid, signal.SIGSTOP)                              # so that it crashes after the picture arrived
    found = []
    thread = threading.Thread(target=lambda: found.append(asked(server, "POST", "/classify", data)))
    thread.start()
    time.sleep(0.3)
    os.kill(old.pid, signal.SIGSEGV)
    os.kill(old.pid, signal.SIGCONT)
    thread.join()
    [(status, _, row)] = found
    assert (status, row["error"]) == (422, "picture: ended the process that decodes pictures")
    assert is_well(server, data, labels) and server.service.decoder.process.pid != old.pid


def test_the_messages_of_the_decoder(monkeypatch, data):
    answer, pixels = decoder._decoded("a.png", data)
    assert answer == {"width": 451, "height": 300} and len(pixels) == 451 * 300 * 3
    monkeypatch.setattr(decoder, "open_picture", lambda _: bytes(10**15))
    assert decoder._decoded("a.png", data) == ({"error": "a.png: not enough memory", "memory": True}, b"")


# ---------------------------------------------------------------- forms and addresses

def test_a_file_may_contain_anything_but_the_boundary():
    files = [b"", b"\r\n", b"\r\n--", b"-b", b"\n--b--", b"a\r\n\r\nb\r\n-", bytes(range(256))]
    body = b"before" + b"".join(b'\r\n--b \t\r\nContent-Disposition: form-data; filename="f"\r\n\r\n' + file
                                for file in files) + b"\r\n--b--\r\nafter"
    assert uploads(body, "b", 7) == [Upload("f", file) for file in files]


def test_names_of_files():
    for head, name in ((b'filename="\xc3\xa9 %22.png"', 'é %22.png'), (b"filename*=UTF-8''%c3%a9.png", "é.png"),
                       (b'filename=""', "part 1"), (b'filename="../a;b.png"', "../a;b.png"),
                       (b"filename=\xff.png", "\ufffd.png")):
        body = b"--b\r\ncontent-disposition: form-data; " + head + b"\r\nContent-Type: image/png\r\n\r\nx\r\n--b--"
        assert uploads(body, "b", 1) == [Upload(name, b"x")]


@pytest.mark.parametrize("name, address", [("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"),
                                           ("::1", "http://[::1]:80"), ("box", "http://box:80")])
def test_the_address_that_is_printed_is_accepted(name, address):
    found = Server.address.fget(SimpleNamespace(name=name, server_address=(name, 80)))
    local = {"box": "10.0.0.7"}.get(name, found[7:-3].strip("[]"))
    assert found == address and found[7:] in served_hosts(local, 80, name)


def test_addresses_of_connections():
    assert served_hosts("::ffff:127.0.0.1", 8000, "::") == {"127.0.0.1:8000", "localhost:8000"}
    assert served_hosts("fe80::1%eth0", 8000, "::") == {"[fe80::1]:8000"}
    assert served_hosts("10.0.0.7", 80, "Box.local") == {"10.0.0.7", "10.0.0.7:80", "box.local", "box.local:80"}


# ---------------------------------------------------------------- the command

@contextlib.contextmanager
def command(*args):
    """`nphybrid serve` in a process of its own.  -> process, port"""
    line = [sys.executable, "-m", "nphybrid", "serve", "--port", "0", "--engine", "reference", *args]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline()
        yield process, int(re.match(r"http://[\w.\[\]:]+:(\d+) ", address)[1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process of Windows")
def test_ctrl_c_ends_the_command_in_the_middle_of_a_picture(data):
    with command() as (process, port):
        address = "127.0.0.1", port
        idle = socket.create_connection(address)
        bomb = scans(5000)
        busy = socket.create_connection(address)
        head = POST.replace(b"ADDRESS", f"127.0.0.1:{port}".encode()) + b"Content-Length: %d\r\n\r\n" % len(bomb)
        busy.sendall(head + bomb)
        time.sleep(1)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        print(f"ended after {time.monotonic() - start:.2f} s")
        assert process.returncode == 130 and "Traceback" not in errors, errors
        idle.close()
        busy.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals can be sent to one process of Windows")
def test_a_request_in_progress_is_answered_after_sigterm():
    """The signal comes while the picture of 16 million pixels is decoded."""
    picture = scans(10)
    with command() as (process, port):
        busy = socket.create_connection(("127.0.0.1", port))
        head = POST.replace(b"ADDRESS", f"127.0.0.1:{port}".encode()) + b"Content-Length: %d\r\n\r\n" % len(picture)
        busy.sendall(head + picture)
        time.sleep(0.5)
        process.terminate()
        status, _, body = answered(busy)
        assert status == 200 and "labels" in json.loads(body)
        busy.close()
        assert process.communicate(timeout=60)[1] == "nphybrid: stopped\n" and process.returncode == 143


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no signals can be sent to one process of Windows")
def test_a_handler_of_sigterm_is_set_and_removed():
    """Without a handler, Linux ignores SIGTERM in the first process of a container."""
    from nphybrid.cli import streams
    before = signal.getsignal(signal.SIGTERM)
    assert before == signal.SIG_DFL
    with pytest.raises(streams.Terminated), streams.raise_at_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with streams.raise_at_sigterm():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_the_command_tells_what_it_serves(data, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"name {i}" for i in range(10)))
    with command("--host", "0.0.0.0", "--class-names", str(tmp_path / "names.txt"), "--top-k", "1") as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/classify", data)
        assert [label["label"] for label in json.load(connection.getresponse())["labels"]] == ["name 3"]
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/health", headers={"Host": f"evil:{port}"})
        assert connection.getresponse().status == 403
        process.terminate()
        assert "every computer that reaches an IP address of this computer" in process.communicate()[1]


def test_a_port_in_use_is_refused(server, capsys):
    port = server.server_address[1]
    assert main(["serve", "--port", str(port), "--engine", "reference"]) == 3
    assert (f"the address 127.0.0.1:{port} cannot be served (Address already in use); another port can be given"
            ) in capsys.readouterr().err
    for name in "no.such.name.invalid", "a" * 80:
        assert main(["serve", "--host", name, "--port", "0", "--engine", "reference"]) == 3
        printed = capsys.readouterr().err
        assert f"the address {name}:0 cannot be served" in printed and "port 0 is any free port" not in printed


@pytest.mark.parametrize("text", ["-1", "65536", "a", "8_0"])
def test_a_port_is_a_number(text, capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--port", text])
    assert "expected a whole number from 0 to 65535" in capsys.readouterr().err


WRITES = """
import os, sys
written = []
def hook(event, args):
    if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(args[0])
    if event in ("os.mkdir", "os.rename", "os.symlink", "os.link", "tempfile.mkstemp", "tempfile.mkdtemp"):
        written.append((event, args))
from nphybrid import default_model
from nphybrid.api.load import load
from nphybrid.serve import decoder
from nphybrid.serve.forms import Upload
from nphybrid.serve.service import Service
service = Service(load(default_model(), engine="reference"), "a model")
sys.addaudithook(hook)
upload = Upload("cat.png", open(sys.argv[1], "rb").read())
service.row(upload, 0), service.explain(upload), decoder._decoded(*upload)
print(written)
written = [0]
open(sys.argv[2], "w")
print(written[1:] == [sys.argv[2]])
"""


def test_nothing_is_written_to_disk(cat, tmp_path):
    from tools.process import run_python
    done = run_python("-B", "-c", WRITES, cat, tmp_path / "probe")
    assert done.stdout.splitlines() == ["[]", "True"], done.stdout + done.stderr


def test_hosts_that_are_allowed(model, data):
    """As behind the port mapping of a container, and behind a proxy that adds encryption."""
    head = "POST /classify HTTP/1.1\r\nHost: {}\r\n{}Content-Length: " + f"{len(data)}\r\n\r\n"
    with Server(Service(model, "a model"), port=0, limits=LIMITS, allowed=["localhost:9000", "Example.org"]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            for name, origin, status in (
                    ("localhost:9000", "", 200), ("LOCALHOST:9000", "http://localhost:9000", 200),
                    ("example.org", "https://example.org", 200), (host(server), "", 200),
                    ("example.org", "https://evil.example", 403), ("example.org:80", "", 403),
                    ("localhost:9001", "", 403), ("www.example.org", "", 403),
                    (host(server), f"https://{host(server)}", 403)):
                line = f"Origin: {origin}\r\n" if origin else ""
                assert sent(server, head.format(name, line).encode() + data)[0] == status, (name, origin)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["http://localhost:9000", "a b", "", "localhost:", "a/b", "[::1", "a:123456",
                                  "a:65536"])
def test_what_is_no_host(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--allow-host", name])
    assert caught.value.code == 2 and "expected a host as in a URL" in capsys.readouterr().err

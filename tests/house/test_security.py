"""SECURITY.md: every promise has a test file that exists, and nothing here opens a network connection."""
import ast
import re

from nphybrid.serve.limits import Limits
from nphybrid.serve.server import LINE_SECONDS, MOST_LINES

from oracles.pictures import PICTURES
from tools.imports import SOURCES, nodes, users


def test_every_promise_names_its_tests(root):
    text = (root / "SECURITY.md").read_text("utf-8")
    promises = [line for line in text.splitlines() if line.startswith("| ")][1:]
    rows = [re.findall(r"\]\((tests/\w+/\w+\.py)\)", line) for line in promises if not line.startswith("| ---")]
    assert len(rows) >= 8 and all(rows)
    assert all((root / path).exists() for row in rows for path in row)


def test_the_count_of_pictures_is_true(root):
    assert f"{len(PICTURES)} pictures" in (root / "SECURITY.md").read_text("utf-8")


def test_the_limits_of_the_server_are_true(root):
    text, most = " ".join((root / "SECURITY.md").read_text("utf-8").split()), Limits()
    for stated in (f"{most.bytes >> 20} MiB and {most.pictures} pictures in a request, {most.connections} connections",
                   f"{most.receive_seconds:g} seconds until a request has arrived",
                   f"waited for {most.compute_seconds:g} seconds gets 503", f"the bytes of {most.connections} requests",
                   f"at most {MOST_LINES} lines in {LINE_SECONDS:g} seconds"):
        assert stated in text


def test_no_code_opens_a_connection():
    """Only the server uses sockets, and it only accepts connections.  Two libraries open connections if one asks."""
    assert users("socketserver") == {"serve/server.py"} and users("http") == {"serve/handler.py"}
    assert users("socket") == {"serve/handler.py", "serve/server.py"}
    calls = {node.attr for name in users("socket") for node in nodes(SOURCES[name]) if isinstance(node, ast.Attribute)}
    assert not calls & {"connect", "connect_ex", "create_connection", "sendto"}
    assert users("distributed") == {"batch/cluster.py"} and users("huggingface_hub") == {"checkpoint/hub.py"}
    for module in "ssl urllib ftplib smtplib requests httpx aiohttp asyncio".split():
        assert users(module) == set(), module

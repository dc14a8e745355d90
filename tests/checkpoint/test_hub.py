"""Models by name, from a small hub that these tests serve; and that nothing else touches a network."""
import hashlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nphybrid import (FormatError, ViTHybridConfig, ViTHybridForImageClassification, ViTHybridImageProcessor,
                      checkpoint, default_model)
from nphybrid.checkpoint import hub
from nphybrid.modelfile.convert import convert
from nphybrid.tensorfile import h5_documents, read_sharded, write_safetensors

pytestmark = pytest.mark.slow

needs_client = pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="needs nphybrid[hub]")
NAME = "owner/tiny-hybrid.v1"
CONFIG = ViTHybridConfig(backbone_config=dict(layer_type="bottleneck", depths=[1, 1], hidden_sizes=[8, 12],
                                              embedding_size=8, num_groups=2, global_padding="SAME",
                                              embedding_dynamic_padding=True, out_features=["stage2"]),
                         image_size=32, hidden_size=6, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=9, num_labels=3)
X = "np.linspace(-1, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)"
# Some versions of the client wait half a minute between their attempts to reach a hub.
IMPATIENT = "import sys, time; time.sleep = lambda seconds: None; "
# The process must not wait at all.
PATIENT = """import sys, time
def sleep(seconds):
    raise AssertionError("waits for the hub")
time.sleep = sleep
"""
NEEDED = ["config.json", "model.safetensors", "preprocessor_config.json"]


class Hub(BaseHTTPRequestHandler):
    """/OWNER/NAME/resolve/REVISION/FILE as huggingface.co answers it."""
    models, gated, asked = {}, set(), []            # {name: {revision: {file: bytes}}}; [(verb, file)]

    def do_HEAD(self):
        found = re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if not found:                               # newer clients ask /api/… about themselves
            return self._answer(404, {})
        name, revision, file = found.groups()
        self.asked.append((self.command, file))
        if name not in self.models:
            return self._answer(401, {"X-Error-Code": "RepoNotFound"})
        if name in self.gated:
            return self._answer(403, {"X-Error-Code": "GatedRepo"})
        if revision not in (*self.models[name], *map(commit, self.models[name])):
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        branch = next(each for each in self.models[name] if revision in (each, commit(each)))
        headers, data = {"X-Repo-Commit": commit(branch)}, self.models[name][branch].get(file)
        if data is None:
            return self._answer(404, headers | {"X-Error-Code": "EntryNotFound"})
        self._answer(200, headers | {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}, data)

    do_GET = do_HEAD

    def _answer(self, status, headers, data=b""):
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        pass


MOVED = {}


def commit(branch):
    """The hash of a branch's last commit."""
    return hashlib.sha1(MOVED.get(branch, branch).encode()).hexdigest()


@contextmanager
def serving(handler):
    """An address on this computer at which the handler answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def model(seed):
    made = ViTHybridForImageClassification(CONFIG, engine="reference", seed=seed)
    made.processor = ViTHybridImageProcessor(size=32, crop_size=32, image_mean=0.5, image_std=0.5)
    return made


def logits(made):
    return made(eval(X)).logits.tobytes().hex()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{seed: {file: bytes}} of two models, as a repository holds them, with what nobody needs beside it."""
    found = {}
    for seed in 1, 2:
        folder = tmp_path_factory.mktemp("model")
        model(seed).save_pretrained(folder)
        found[seed] = {path.name: path.read_bytes() for path in folder.iterdir()} | {
            "README.md": b"# tiny", "pytorch_model.bin": b"\x80\x02}q\x00.", "flax_model.msgpack": b"\x81",
            "model.fp16.safetensors": b"another"}
    return found


@pytest.fixture
def served(files):
    """The hub, with NAME in it; `asked` tells what was asked of it."""
    Hub.models, Hub.gated, Hub.asked = {NAME: {"main": files[1], "other": files[2]}}, set(), []
    with serving(Hub) as Hub.address:
        yield Hub


def got(served, verb="GET"):
    return sorted(file for asked, file in served.asked if asked == verb)


@pytest.fixture
def python(served, tmp_path):
    """Run Python in a process whose hub is the one that is served, and whose cache is empty at first."""
    (tmp_path / "work").mkdir()
    own = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}

    def run(*args, **environment):
        environment = {**own, "NO_PROXY": "*",
                       "HF_ENDPOINT": served.address, "HF_HOME": str(tmp_path / "home"), **environment}
        return subprocess.run([sys.executable, *map(str, args)], cwd=tmp_path / "work", env=environment, text=True,
                              capture_output=True, timeout=120)
    return run


@pytest.fixture
def logits_of(python):
    """The logits of models by their names, computed in one process of their own."""
    def load(*calls, **environment):
        done = python("-c", IMPATIENT + f"""import numpy as np
from nphybrid import ViTHybridForImageClassification
for name, options in {[call if isinstance(call, tuple) else (call, {}) for call in calls]}:
    model = ViTHybridForImageClassification.from_pretrained(name, engine="reference", **options)
    print(model({X}).logits.tobytes().hex())""", **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()
    return load


# ------------------------------------------------------------------ what is fetched, and when

@needs_client
def test_a_model_is_fetched_once_and_only_what_is_needed(served, logits_of):
    assert logits_of(NAME) == [logits(model(1))]
    assert got(served) == NEEDED
    served.asked.clear()
    assert logits_of(NAME) == [logits(model(1))]
    assert (got(served), got(served, "HEAD")) == ([], ["config.json"]), "whether the branch has moved, no more"


@needs_client
def test_spellings_of_a_name(served, logits_of):
    one = NAME, f"{NAME}@main", (f"{NAME}@main", {"revision": "main"}), f"hf-hub:{NAME}"
    two = (f"{NAME}@other", (NAME, {"revision": "other"}), f"hf_hub:{NAME}@other", f"{NAME}@{commit('other')}",
           (NAME, {"revision": commit("other")}))
    assert logits_of(*one, *two) == [logits(model(1))] * len(one) + [logits(model(2))] * len(two)
    assert got(served) == sorted([*NEEDED, "model.safetensors"]), "what two revisions share is fetched once"


@needs_client
def test_a_moved_branch_is_followed_and_a_commit_is_not(served, files, logits_of, monkeypatch):
    assert logits_of(NAME) == [logits(model(1))]
    old = commit("main")
    monkeypatch.setitem(MOVED, "main", "later")
    served.models[NAME] = {"main": files[2]}
    assert commit("main") != old
    assert logits_of(NAME, f"{NAME}@{old}") == [logits(model(2)), logits(model(1))]


@needs_client
def test_all_files_are_of_one_commit(served, files, logits_of, monkeypatch):
    """A branch that moves between two files: the rest is asked for by the first one's commit."""
    paths = []

    def noted(self):
        if self.path != "/":                        # whether the hub answers
            paths.append(self.path)
        return do_head(self)
    do_head = Hub.do_HEAD
    monkeypatch.setattr(Hub, "do_HEAD", noted)
    logits_of(NAME)
    assert [path.split("/")[4] for path in paths] == ["main"] + [commit("main")] * (len(paths) - 1)


@needs_client
def test_shards(served, files, logits_of, tmp_path):
    state, shards = model(1).state_dict(), {}
    for i, names in enumerate((sorted(state)[0::2], sorted(state)[1::2])):
        shard = f"model-0000{i + 1}-of-00002.safetensors"
        write_safetensors(tmp_path / shard, {name: state[name] for name in names})
        shards[shard] = names
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    served.models[NAME]["main"] = {
        **{name: files[1][name] for name in ("config.json", "pytorch_model.bin")},
        **{shard: (tmp_path / shard).read_bytes() for shard in shards}, "model-00003-of-00003.safetensors": b"stray",
        "model.safetensors.index.json": json.dumps(index).encode()}
    for environment in {}, {"HF_ENDPOINT": "http://127.0.0.1:9"}:
        assert logits_of(NAME, **environment) == [logits(model(1))]
    # A cache that `hf download` filled does not remember what there is not.
    (remembered,) = tmp_path.glob("home/hub/models--*/.no_exist")
    shutil.rmtree(remembered)
    assert logits_of(NAME, HF_HUB_OFFLINE="1") == [logits(model(1))]
    assert got(served) == ["config.json", *shards, "model.safetensors.index.json"]


@needs_client
def test_an_index_that_reaches_out_of_its_folder_is_refused(served, files, python):
    index = {"weight_map": {"a": "../../../x.safetensors"}}
    served.models[NAME]["main"] = {"config.json": files[1]["config.json"],
                                   "model.safetensors.index.json": json.dumps(index).encode()}
    done = python("-m", "nphybrid", "convert", NAME, "m.h5")
    assert done.returncode == 3 and "shard is not a plain file name: found '../../../x.safetensors'" in done.stderr
    assert got(served) == ["config.json", "model.safetensors.index.json"]


@needs_client
def test_a_configuration_needs_no_weights(served, python):
    done = python("-c", f"""import json
from nphybrid import ViTHybridConfig, ViTHybridImageProcessor
print(json.dumps([ViTHybridConfig.from_pretrained("{NAME}").to_dict(),
                  ViTHybridImageProcessor.from_pretrained("{NAME}", revision="other").to_dict()]))""")
    config, processor = json.loads(done.stdout)
    assert config["hidden_size"] == 6 and processor["size"] == {"shortest_edge": 32}
    summary = python("-m", "nphybrid", "summary", NAME)
    assert summary.returncode == 0 and f"{model(1).num_parameters():,}" in summary.stdout
    assert "model.safetensors" not in dict(served.asked).values() and "model.safetensors" not in got(served, "HEAD")


@needs_client
def test_a_model_of_timm(served, python, tmp_path):
    """Its card lacks what a Hugging Face configuration has, and comes without an image processor's file."""
    dialect = {"name": "timm", "resampling": "antialiased"}
    backbone = dict(layer_type="bottleneck", depths=[1, 1], hidden_sizes=[128, 256], embedding_size=32,
                    global_padding="SAME", embedding_dynamic_padding=True)
    made = ViTHybridForImageClassification(ViTHybridConfig(
        backbone, image_size=32, hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=9,
        layer_norm_eps=1e-6, num_labels=3, dialect=dialect), engine="reference", seed=3)
    convert(made, tmp_path / "card", "timm")
    served.models["timm/tiny_r2_s8_32.v1"] = {"main": {path.name: path.read_bytes()
                                                       for path in (tmp_path / "card").iterdir()}}
    done = python("-c", f"""import numpy as np
from nphybrid import ViTHybridForImageClassification, ViTHybridImageProcessor
name = "hf-hub:timm/tiny_r2_s8_32.v1"
model = ViTHybridForImageClassification.from_pretrained(name, engine="reference")
print(model({X}).logits.tobytes().hex())
processor = ViTHybridImageProcessor.from_pretrained(name)
print(processor.to_dict() == ViTHybridImageProcessor.from_dict(model.processor).to_dict())""")
    assert done.stdout.split() == [logits(made), "True"], done.stderr
    assert got(served) == ["config.json", "model.safetensors"]


# ------------------------------------------------------------------ the command line and the pipeline

@needs_client
def test_classify_and_convert(served, python, root, tmp_path):
    cat = root / "examples" / "images" / "cat.png"
    command = ["-m", "nphybrid", "classify", cat, "--model", NAME, "--engine", "reference", "--format", "json"]
    done = python(*command)
    assert done.returncode == 0, done.stderr
    converted = python("-m", "nphybrid", "convert", f"{NAME}@main", "m.h5")
    assert converted.returncode == 0, converted.stderr
    target = tmp_path / "work" / "m.h5"
    again = python(*command[:5], target, *command[6:])
    assert json.loads(again.stdout) == json.loads(done.stdout)
    assert h5_documents(target)["manifest"]["source"] == {
        "name": f"{NAME}@{commit('main')}", "sha256": hashlib.sha256(served.models[NAME]["main"]["model.safetensors"]
                                                                     ).hexdigest()}


@needs_client
def test_the_command_for_1000_classes_in_the_readme(served, python, root, tmp_path):
    """With a made checkpoint under the published name.  The published one was not run here."""
    line = next(line for line in (root / "README.md").read_text("utf-8").splitlines() if "1,000 classes of" in line)
    install, command = re.search("`(pip install .*) && nphybrid (.*)`", line).groups()
    assert install == "pip install huggingface_hub"
    made = ViTHybridForImageClassification(ViTHybridConfig.from_dict(CONFIG.to_dict(), num_labels=1000),
                                           engine="reference", seed=4)
    made.processor = ViTHybridImageProcessor(size=32, crop_size=32, image_mean=0.5, image_std=0.5)
    made.config.id2label[7] = "the seventh"
    state = made.state_dict()
    state["classifier.bias"][7] = 9
    made.load_state_dict(state)
    made.save_pretrained(tmp_path / "made")
    served.models["google/vit-hybrid-base-bit-384"] = {
        "main": {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}}
    (tmp_path / "work" / "photo.jpg").write_bytes((root / "examples" / "images" / "cat.png").read_bytes())
    done = python("-m", "nphybrid", *command.split(), "--engine", "reference")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0].startswith("the seventh") and done.stdout.count("\n") == 5
    assert got(served) == NEEDED


@needs_client
def test_pipeline(python, root):
    done = python("-c", f"""from nphybrid import pipeline
pipe = pipeline("image-classification", "{NAME}", revision="other", engine="reference")
print(pipe.model({X.replace("np.", "__import__('numpy').")}).logits.tobytes().hex())
pipe = pipeline("image-classification", image_processor="{NAME}")
print(pipe.image_processor.size)""")
    assert done.stdout.split("\n")[:2] == [logits(model(2)), "{'shortest_edge': 32}"], done.stderr


# ------------------------------------------------------------------ what is told

SENTENCES = {
    "owner/nothing": "owner/nothing: no such file or folder on this computer, and no such model on HUB; for a "
                     "private model, run `hf auth login`, or set HF_TOKEN",
    "owner/gated": "owner/gated is gated: accept its terms on HUB/owner/gated, then run `hf auth login`, or set "
                   "HF_TOKEN",
    f"{NAME}@v9": f"{NAME} on HUB has no revision 'v9'",
    "owner/pickle": f"owner/pickle at {commit('main')}: no model.safetensors and no model.safetensors.index.json on "
                    "HUB; pickles (.bin) are never downloaded",
    "owner/data": "owner/data at main: no config.json on HUB; pickles (.bin) are never downloaded",
}


@needs_client
def test_one_sentence_each(served, files, python):
    served.models |= {"owner/gated": {"main": files[1]}, "owner/data": {"main": {"data.csv": b"1"}}, "owner/pickle": {
        "main": {name: files[1][name] for name in ("config.json", "pytorch_model.bin")}}}
    served.gated = {"owner/gated"}
    done = python("-c", f"""from nphybrid.__main__ import main
print([main(["convert", name, "m.h5"]) for name in {list(SENTENCES)}])""")
    assert done.stdout == f"{[3] * len(SENTENCES)}\n"
    assert done.stderr.splitlines() == [f"nphybrid: {told.replace('HUB', served.address)}"
                                        for told in SENTENCES.values()]


@needs_client
@pytest.mark.parametrize("environment, told", [
    ({"HF_HUB_OFFLINE": "1"}, "at main: no config.json in the cache .*home.hub, and HF_HUB_OFFLINE is set$"),
    ({"HF_ENDPOINT": "http://127.0.0.1:9"},
     "the revision main is not in the cache, and cannot be downloaded from http://127.0.0.1:9: .*refused"),
])
def test_without_a_network(environment, told, served, python, logits_of):
    """One line on stderr, and no long wait.  huggingface_hub itself waits 1 + 2 + 4 + 8 + 8 seconds."""
    command = PATIENT + "from nphybrid.__main__ import main; sys.exit(main())"
    done = python("-c", command, "convert", NAME, "m.h5", **environment)
    assert done.returncode == 3 and re.fullmatch(f"nphybrid: {NAME}:? {told}.*\n", done.stderr)
    logits_of(NAME)
    served.asked.clear()
    assert logits_of(NAME, **environment) == [logits(model(1))] and served.asked == []


@needs_client
@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_cache_that_has_only_pickles(tmp_path, name):
    """As transformers leaves it behind for a model without safetensors."""
    snapshot = tmp_path / "models--owner--old" / "snapshots" / commit("main")
    snapshot.mkdir(parents=True)
    for file in "config.json", name:
        (snapshot / file).write_text("{}")
    (tmp_path / "models--owner--old" / "refs").mkdir()
    (tmp_path / "models--owner--old" / "refs" / "main").write_text(commit("main"))
    with pytest.raises(FileNotFoundError, match=f"(?s)no model.safetensors and .* in the cache .*The cache has "
                                                f"[^ ]*{name}, an? .*examples/convert_checkpoint.py [^ ]*{name}\n"
                                                f"Then pass the path of the folder {snapshot}$"):
        ViTHybridForImageClassification.from_pretrained("owner/old", cache_dir=tmp_path, local_files_only=True)


@needs_client
def test_a_hub_that_never_answers(python, served, logits_of):
    """As behind a firewall that drops what is sent: the connection is accepted, and no byte comes back."""
    logits_of(NAME)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}", "HF_HUB_ETAG_TIMEOUT": "1"}
        code = "from nphybrid.__main__ import main; sys.exit(main())"
        done = python("-c", PATIENT + code, "convert", "owner/other", "m.h5", **environment)
        assert done.returncode == 3 and re.fullmatch("nphybrid: owner/other: .*timed out.*\n", done.stderr, re.I)
        done = python("-c", PATIENT + code, "convert", NAME, "m.h5", **environment)
        assert done.returncode == 0, done.stderr


@needs_client
def test_a_hub_that_breaks_off(served, python, monkeypatch):
    """What the client's own HTTP library raises is told in one line too."""
    monkeypatch.setattr(Hub, "do_GET", lambda self: self._answer(418, {}))
    done = python("-m", "nphybrid", "convert", NAME, "m.h5")
    assert done.returncode == 3 and f"{NAME} on {served.address}: " in done.stderr and "418" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ what is never asked

@pytest.fixture
def no_client(monkeypatch):
    """`import huggingface_hub` fails."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)


def test_without_the_client(no_client):
    for load in ViTHybridForImageClassification.from_pretrained, checkpoint.read_config, checkpoint.read_processor:
        with pytest.raises(FileNotFoundError) as refused:
            load("google/vit-hybrid-base-bit-384")
        assert "pip install huggingface_hub" in str(refused.value)
        assert "hf download google/vit-hybrid-base-bit-384 --local-dir FOLDER" in str(refused.value)


@pytest.mark.parametrize("path", ["nowhere", "models/mine.h5", "models/mine.safetensors", "a/config.json", "./a/b",
                                  "../a", "/a/b", "a/b/c", "a/b/", "a\\b", "~/a", "R50+ViT-B/16", "a/b@", "a b/c", ""])
def test_what_is_no_name(path, no_client):
    assert not hub.is_name(path)
    if path:
        with pytest.raises(FileNotFoundError, match="no such file or folder on this computer; expected"):
            checkpoint.read(path)


def test_a_path_object_is_no_name(no_client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder on this computer; expected"):
        checkpoint.read(type(tmp_path)("owner/name"))


def test_a_path_that_exists_wins(no_client, tmp_path, monkeypatch):
    model(2).save_pretrained(tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    local = ViTHybridForImageClassification.from_pretrained(NAME, engine="reference")
    assert logits(local) == logits(model(2))


def test_revisions_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match="revision is 'main', but .* is a path"):
        ViTHybridForImageClassification.from_pretrained(default_model(), revision="main")
    with pytest.raises(ValueError, match="a/b@one names another revision than revision='two'; expected one revision"):
        ViTHybridForImageClassification.from_pretrained("a/b@one", revision="two")


NO_NETWORK = """
import socket, sys
def refused(*args, **kwargs):
    raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = refused
from nphybrid import ViTHybridConfig, ViTHybridImageProcessor, default_model
from nphybrid.__main__ import main
image, engine = sys.argv[1], ["--engine", "reference"]
assert main(["classify", image, *engine]) == 0
assert main(["convert", str(default_model()), "m.h5"]) == 0
assert main(["classify", image, "--model", "m.h5", *engine]) == 0
assert main(["summary", "m.h5"]) == main(["summary", "R50+ViT-B/16"]) == 0
ViTHybridConfig.from_pretrained("m.h5"), ViTHybridImageProcessor.from_pretrained("m.h5")
assert main(["classify", image, "--model", "nowhere.h5"]) == 3
assert not {"huggingface_hub", "requests", "httpx", "http.client", "urllib.request"} & set(sys.modules)
"""


def test_no_network_without_a_name(root, tmp_path):
    done = subprocess.run([sys.executable, "-c", NO_NETWORK, root / "examples" / "images" / "cat.png"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------ the cache's layout

@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_shards_that_several_models_share(tmp_path):
    """Newer clients: cache/models--a--b/snapshots/1/shard -> ../../blobs/E -> ../../blobs/ab/HASH."""
    own, snapshot, store = (tmp_path / "cache" / part for part in (
        "models--a--b/blobs", "models--a--b/snapshots/1", "blobs/ab"))
    for folder in own, snapshot, store:
        folder.mkdir(parents=True)
    write_safetensors(store / "ab12", {"a": np.float32([1, 2])})
    (own / "E1").symlink_to("../../blobs/ab/ab12")
    (own / "E2").write_text('{"weight_map": {"a": "one.safetensors"}}')
    (snapshot / "one.safetensors").symlink_to("../../blobs/E1")
    (snapshot / "model.safetensors.index.json").symlink_to("../../blobs/E2")
    assert read_sharded(snapshot / "model.safetensors.index.json")["a"].tolist() == [1, 2]

    elsewhere = tmp_path / "elsewhere" / "ab"
    store.rename(elsewhere.parent.mkdir() or elsewhere)
    (own / "E1").unlink()
    (own / "E1").symlink_to(elsewhere / "ab12")
    with pytest.raises(FormatError, match="shard is a link out of the folder"):
        read_sharded(snapshot / "model.safetensors.index.json")

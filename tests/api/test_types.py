"""What editors and type checkers see: arguments, results and the names of the package."""
import ast
import inspect
import json
import shutil
import subprocess
import sys

import pytest

import nphybrid
from nphybrid import (BitBackbone, BitForImageClassification, BitModel, ViTForImageClassification,
                      ViTHybridForImageClassification, ViTHybridModel, ViTModel)

pytestmark = pytest.mark.slow

CLASSES = [BitBackbone, BitForImageClassification, BitModel, ViTForImageClassification,
           ViTHybridForImageClassification, ViTHybridModel, ViTModel]

SNIPPET = """
import numpy as np
import nphybrid
from nphybrid import BitBackbone, ViTHybridForImageClassification, ViTHybridModel, default_model

pixels = np.zeros((1, 3, 64, 64), np.float32)
model = ViTHybridForImageClassification.from_pretrained(default_model())
reveal_type(nphybrid.ViTHybridModel)                                # type[ViTHybridModel]
reveal_type(nphybrid.pipeline)                                      # ImageClassificationPipeline
reveal_type(model)                                                  # ViTHybridForImageClassification
reveal_type(model(pixels))                                          # ImageClassifierOutput
reveal_type(model(pixels).logits)                                   # ndarray
reveal_type(ViTHybridModel.from_pretrained("x")(pixels))            # BaseModelOutputWithPooling
reveal_type(BitBackbone.from_pretrained("x")(pixels).feature_maps)  # tuple[ndarray
reveal_type(model.trace(pixels))                                    # Trace
reveal_type(model.network_config.grid)                              # tuple[int, int]
reveal_type(model.image_processor()(pixels))                        # BatchFeature
model(pixels, labels=[1], output_attentions=True)
x: int = model(pixels)                                              # error
model(pixels, output_atentions=True)                                # error
model(pixels).logit                                                 # error
nphybrid.ViTHybrid                                                  # error
model.network_config.gird                                           # error
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory, root):
    """{line of the snippet: pyright's report}"""
    if not shutil.which("pyright"):
        pytest.skip("pyright is not installed")
    folder = tmp_path_factory.mktemp("types")
    (folder / "snippet.py").write_text(SNIPPET)
    settings = {"include": ["snippet.py"], "extraPaths": [str(root)], "pythonVersion": "3.10",
                "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(["pyright", "--outputjson", "--pythonpath", sys.executable], cwd=folder, capture_output=True,
                          text=True)
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not run: {done.stderr}")
    found = {}
    for report in json.loads(done.stdout)["generalDiagnostics"]:
        line = report["range"]["start"]["line"]
        found[line] = (report["severity"], report["message"])
    return found


@pytest.mark.parametrize("number, line", [(i, line) for i, line in enumerate(SNIPPET.splitlines()) if "  # " in line],
                         ids=lambda value: value.split("  # ")[0].strip() if isinstance(value, str) else "")
def test_what_a_type_checker_reports(number, line, reports):
    expected = line.split("  # ")[1]
    severity, message = reports.get(number, ("nothing", ""))
    if expected == "error":
        assert severity == "error", message
    else:
        assert severity == "information" and expected in message.replace('"', "").removeprefix("Type of ")


def test_nothing_else_is_reported(reports):
    lines = SNIPPET.splitlines()
    assert all("  # " in lines[number] for number in reports)


def test_the_package_states_that_it_has_types(root):
    assert (root / "nphybrid" / "py.typed").read_text() == ""
    assert "nphybrid = py.typed" in (root / "setup.cfg").read_text("utf-8").splitlines()


def test_editors_see_every_public_name():
    """The imports for type checkers are those that `__getattr__` does."""
    tree = ast.parse(inspect.getsource(nphybrid))
    imports = {alias.asname: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level
               for alias in node.names if alias.name == alias.asname}
    assert imports == nphybrid._HOME
    assert set(imports) == set(nphybrid.__all__) - {"__version__"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_call_has_the_arguments_of_forward(kind):
    assert inspect.signature(kind.__call__) == inspect.signature(kind.forward)


def test_a_call_passes_every_argument_on():
    """Each argument of a call reaches the argument of `forward` with its name."""
    for kind in CLASSES:
        names = list(inspect.signature(kind.forward).parameters)[1:]

        class Recording(kind):
            def forward(self, *arguments, **inputs):
                return dict(zip(names, arguments)) | inputs
        sent = {name: object() for name in names}
        assert Recording.__call__(object.__new__(Recording), **sent) == sent


def test_the_processor_passes_every_option_on():
    processor = nphybrid.ViTHybridImageProcessor
    ours = inspect.signature(processor.__call__).parameters
    assert list(ours) == list(inspect.signature(processor.preprocess).parameters)
    sent = {name: object() for name in list(ours)[1:]}

    class Recording(processor):
        def preprocess(self, images, **options):
            return {"images": images} | options
    assert Recording()(**sent) == sent

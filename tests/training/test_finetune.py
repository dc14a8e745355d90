"""Fine-tuning of a tiny network, in this process: the steps, the files of a run, the command line, and its refusals."""
import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTHybridConfig, ViTHybridForImageClassification, ViTHybridModel, training
from nphybrid.__main__ import main
from nphybrid.api.load import load
from nphybrid.params import named_leaves
from nphybrid.tensorfile import owned
from nphybrid.training import Settings, curves, folder, loop, pictures
from nphybrid.training.augmentation import generator
from nphybrid.training.folder import Epoch, RunFolder
from nphybrid.training.settings import is_trained

from tools.folders import KILL_AND_RESUME
from tools.process import run_python

BIT = dict(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2, layer_type="bottleneck",
           global_padding="same", embedding_dynamic_padding=True)
HYBRID = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, num_labels=5,
              image_size=32, backbone_config=BIT)
SQUARE = dict(height=32, width=32)
PROCESSOR = dict(size=SQUARE, crop_size=SQUARE, image_mean=[0.5] * 3, image_std=[0.5] * 3)
NAMES = ("light", "dark")


def tiny(**options):
    model = ViTHybridForImageClassification(ViTHybridConfig(**HYBRID), **{"engine": "reference", **options})
    model.processor = PROCESSOR
    return model


def picture(k, i):
    rng = np.random.default_rng([k, i])
    return Image.fromarray(np.clip(rng.normal(150 - 60 * k, 40, (36, 40, 3)), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos():
    """Twelve pictures of each class, and their names."""
    return [picture(k, i) for k in (0, 1) for i in range(12)], [NAMES[k] for k in (0, 1) for _ in range(12)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photos and a model."""
    place = tmp_path_factory.mktemp("finetune")
    for k, name in enumerate(NAMES):
        (place / "photos" / name).mkdir(parents=True)
        for i in range(8):
            picture(k, i).save(place / "photos" / name / f"{i}.png")
    tiny().save(place / "tiny.h5")
    return place


def test_validation_pictures_that_are_copies_are_told(photos):
    """Only the new pictures: 3 of 5 validation pictures are training pictures."""
    others = [*photos[0][:3], picture(0, 90), picture(1, 91)], ["light"] * 4 + ["dark"]
    with pytest.warns(UserWarning, match="3 of 5 validation pictures are copies of training pictures, so the accuracy"):
        training.finetune(tiny(engine="numba"), *photos, Settings(epochs=1, train="head"), validation=others)


@pytest.fixture
def small_curves(monkeypatch):
    """Writing a picture of the real size takes 0.5 s."""
    monkeypatch.setattr(curves, "curves", lambda rows, title: Image.new("L", (len(rows), 1)))


def trainer(photos, settings, prepare=None, mix=None, **options):
    """A Trainer that trains on all photos, without validation pictures."""
    known = pictures.Labelled(photos[0], np.repeat([0, 1], 12))
    model = type(tiny())(ViTHybridConfig(**{**HYBRID, "num_labels": 2}), **{"engine": "reference", **options})
    model.processor = PROCESSOR
    return loop.Trainer(model, known, known.part(np.arange(0)), settings, prepare, mix)


# -- steps

@pytest.mark.filterwarnings("ignore:24 of 24 validation pictures are copies")
def test_the_loss_falls(photos):
    """Without augmentation, a tiny network learns its own training pictures by heart."""
    steps = []
    settings = Settings(epochs=6, learning_rate=3e-3, augment="none")
    found = training.finetune(tiny(), *photos, settings, validation=photos,
                              watch=lambda result: steps.append(result) if hasattr(result, "step") else None)
    assert [step.step for step in steps] == list(range(1, 19)) and steps[0].steps == 18
    assert steps[-1].learning_rate == pytest.approx(3e-3 / 18)
    assert np.mean([step.loss for step in steps[-3:]]) < 0.8 * np.mean([step.loss for step in steps[:3]])
    assert found.best.right >= 20 and found.stopped is None and found.errors == {}


@pytest.mark.parametrize("results, expected", [
    ([(2, 0.3), (4, 0.5), (4, 0.25), (4, 0.6)], 2),               # the smallest loss
    ([(4, 0.9), (4, 0.5), (4, 0.5)], 2), ([(5, 0.9), (4, 0.1)], 0), ([(0, None), (0, None)], 1)])
def test_which_epoch_is_the_best(results, expected):
    class Trained:
        def state(self, epoch, best):
            return epoch
    best = loop._Best(None, None)
    for i, (right, loss) in enumerate(results):
        best.finish(Trained(), Epoch(i, loss, right, 6))
    assert best.epoch.epoch == best.state() == expected


def test_the_result_answers_as_the_best_epoch(photos):
    found = training.finetune(tiny(), *photos, Settings(epochs=2, learning_rate=1e-3), validation=0.25)
    assert list(found.model.config.id2label.values()) == ["dark", "light"] and found.best.count == 6
    held_out = pictures.split(np.array([name == "light" for name in photos[1]], int), 0.25, 42)[1]
    answers = [found.model(found.model.prepared(photos[0][i])).logits.argmax() for i in held_out]
    right = sum(found.model.config.id2label[int(k)] == photos[1][i] for k, i in zip(answers, held_out))
    assert right == found.best.right


def test_a_run_without_training_is_the_probe(photos):
    """Epoch 0 is the fitted head on the unchanged network."""
    epochs = []
    training.finetune(tiny(), *photos, Settings(epochs=1, train="head", learning_rate=1e-9), validation=0.25,
                      watch=lambda result: epochs.append(result) if isinstance(result, Epoch) else None)
    assert epochs[0]._replace(epoch=1, loss=None) == epochs[1]._replace(loss=None)
    assert epochs[0].loss == pytest.approx(epochs[1].loss, rel=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_accumulated_batches_are_one_batch(photos, dtype):
    """24 pictures at once, in 3 batches of 8, and in 5 batches of 5 of which the last has 4."""
    weights = []
    for batch, accumulate in ((24, 1), (8, 3), (5, 5)):
        settings = Settings(epochs=1, batch=batch, accumulate=accumulate, learning_rate=1e-3)
        one = trainer(photos, settings, dtype=dtype)
        step, = one.epoch(1)
        weights.append((step, {name: array.copy() for name, array in one.weights.items()}))
    (first, expected), *others = weights
    for step, found in others:
        assert step.loss == pytest.approx(first.loss, rel=1e-5)
        assert step.gradient_norm == pytest.approx(first.gradient_norm, rel=1e-4)
        if dtype == "float64":            # in float32, AdamW's first step has the sign of a gradient that is almost 0
            assert max(np.abs(found[name] - array).max() for name, array in expected.items()) <= 1e-12


@pytest.mark.parametrize("clip, longest", [(0.1, 0.1), (0, 1e9)])
def test_the_gradient_is_clipped(photos, clip, longest):
    """The first step of SGD moves the weights by the learning rate times the clipped gradient."""
    one = trainer(photos, Settings(epochs=1, batch=24, clip=clip, optimizer="sgd", learning_rate=0.1), dtype="float64")
    before = {name: array.copy() for name, array in one.weights.items()}
    step, = one.epoch(1)
    moved = np.sqrt(sum(np.square(array - before[name]).sum() for name, array in one.weights.items()))
    assert step.gradient_norm > 0.2 and moved == pytest.approx(0.1 * min(step.gradient_norm, longest), rel=1e-5)


def test_pictures_change_from_epoch_to_epoch(photos):
    processor = tiny().image_processor()
    found = {}
    for augment in ("crop-flip", "crop", "none"):
        prepare = pictures.Preparer(processor, augment, 42)
        first, second = (np.stack([prepare(source, epoch, i) for i, source in enumerate(photos[0])])
                         for epoch in (1, 2))
        assert first.shape == (24, 3, 32, 32) and first.dtype == np.float32
        assert np.array_equal(first, second) == (augment == "none")
        assert np.array_equal(first[7], prepare(photos[0][7], 1, 7))
        found[augment] = first
    plain = np.stack([processor(source, return_tensors="np").pixel_values[0] for source in photos[0]])
    assert np.array_equal(found["none"], plain)
    same = [np.array_equal(a, b) for a, b in zip(found["crop-flip"], found["crop"])]
    mirrored = [np.array_equal(a[..., ::-1], b) for a, b in zip(found["crop-flip"], found["crop"])]
    assert all(a != b for a, b in zip(same, mirrored)) and 4 < sum(mirrored) < 20


def test_another_preparation_and_mixed_batches(photos):
    """The loss is that of the pictures and of the targets that `mix` returns."""
    def prepare(source, epoch, position):
        return np.full((3, 32, 32), 100 * epoch + position, np.float32)

    def mix(x, targets, rng):
        assert sorted(x[:, 0, 0, 0] - 100) == list(range(24)) and (x == x[:, :1, :1, :1]).all()
        label = (x[:, 0, 0, 0] - 100 >= 12).astype(int)
        assert np.allclose(targets, np.where(np.arange(2) == label[:, None], 0.9, 0.1), atol=1e-15)
        return pixels, np.tile([0.25, 0.75], (24, 1))
    pixels = np.random.default_rng(0).standard_normal((24, 3, 32, 32)).astype(np.float32)
    one = trainer(photos, Settings(batch=24, smoothing=0.2), prepare, mix, dtype="float64")
    logits = one.model(pixels).logits
    logarithms = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    step, = one.epoch(1)
    assert step.loss == pytest.approx(-(logarithms @ [0.25, 0.75]).mean(), rel=1e-6)


def test_each_batch_is_mixed_with_its_own_random_numbers(photos):
    """They depend on the seed, the epoch and the batch only, so a continued run mixes as an undisturbed run does."""
    def numbers(seed, *epochs):
        found = []

        def mix(x, targets, rng):
            found.append(rng.random())
            return x, targets
        one = trainer(photos, Settings(epochs=3, seed=seed), mix=mix)
        for epoch in epochs:
            for _ in one.epoch(epoch):
                pass
        return found
    undisturbed = numbers(1, 1, 2)
    assert len({*undisturbed, *numbers(2, 1, 2)}) == 12
    assert numbers(1, 2) == undisturbed[3:]
    assert not {*undisturbed} & {generator(1, epoch, i).random() for epoch in (1, 2) for i in range(24)}


@pytest.mark.parametrize("train, untrained", [
    ("head", lambda name: not name.startswith("head.")),
    ("last:1", lambda name: name.startswith(("stem", "stages", "tokens", "blocks.0"))),
    ("all", lambda name: False)])
def test_only_the_chosen_arrays_change(photos, train, untrained):
    one = trainer(photos, Settings(epochs=1, train=train, learning_rate=1e-2, weight_decay=0.1), dtype="float64")
    before = {name: array.copy() for name, array in named_leaves(one.learned).items()}
    for _ in one.epoch(1):
        pass
    same = {name for name, array in named_leaves(one.learned).items() if np.array_equal(array, before[name])}
    keys = {"blocks.0.key.bias", "blocks.1.key.bias"}     # their gradients are 0, apart from rounding errors
    assert same - keys == {name for name in before if untrained(name)} - keys


def test_the_average_is_validated_and_returned(photos):
    one = trainer(photos, Settings(epochs=1, average=0.5, learning_rate=1e-2), dtype="float64")
    expected = {name: array.copy() for name, array in one.weights.items()}
    for _ in one.epoch(1):
        expected = {name: 0.5 * expected[name] + 0.5 * array for name, array in one.weights.items()}
    one.load_model()
    state = one.model.state_dict()
    assert np.allclose(state["classifier.weight"], expected["head.kernel"].T, atol=1e-13)
    assert not np.allclose(state["classifier.weight"], one.weights["head.kernel"].T, atol=1e-6)


def test_which_arrays_are_trained():
    names = ["stem.conv", "tokens.cls", "blocks.0.key.bias", "blocks.1.norm1.scale", "norm.bias", "head.kernel"]
    assert [is_trained("last:2", 2, name) for name in names] == [False, False, True, True, True, True]
    assert [is_trained("head", 2, name) for name in names] == [False] * 5 + [True]


def test_every_class_keeps_two_pictures():
    classes = np.repeat([0, 1, 2, 3], [2, 3, 10, 1])
    for share, expected in ((0.5, [0, 1, 5, 0]), (0.9, [0, 1, 8, 0]), (0.0, [0, 0, 0, 0])):
        known, held_out = pictures.split(classes, share, 0)
        assert np.bincount(classes[held_out], minlength=4).tolist() == expected
        assert sorted([*known, *held_out]) == list(range(16))


# -- divergence

@pytest.mark.parametrize("folder", [False, True])
def test_a_loss_that_is_not_finite_stops_the_run(photos, folder, tmp_path):
    settings = Settings(epochs=3, learning_rate=1e20, clip=0)
    with pytest.warns(RuntimeWarning, match=r"^step 2: the loss is nan; .* is the first state .* is epoch 0"):
        found = training.finetune(tiny(), *photos, settings, folder=tmp_path / "run" if folder else None)
    assert found.best.epoch == 0 and "first state" in str(found.stopped)
    assert all(np.isfinite(array).all() for array in found.model.state_dict().values())


def test_a_gradient_that_is_not_finite_is_named(photos, monkeypatch):
    def broken(*args, **options):
        found = original(*args, **options)
        found.parameters.head.kernel[0, 1] = np.inf
        return found
    original = loop.loss_and_gradients
    monkeypatch.setattr(loop, "loss_and_gradients", broken)
    with pytest.warns(RuntimeWarning, match="step 1: the gradient of head.kernel contains a number that is not finite"):
        training.finetune(tiny(), *photos, Settings(epochs=1))


def test_weights_that_are_not_finite_are_named(photos):
    one = trainer(photos, Settings())
    one.weights["head.bias"][1] = np.nan
    with pytest.raises(loop.NonFiniteError, match=r"validation after epoch 2: head.bias holds nan at \[1\]"):
        one.evaluate(2)


# -- what is refused

@pytest.mark.parametrize("options, message", [
    (dict(epochs=0), "epochs: found 0; expected 1 or more"), (dict(batch=0), "batch: found 0"),
    (dict(learning_rate=0), "learning-rate: found 0; expected a number above 0"),
    (dict(learning_rate=float("nan")), "learning-rate: found nan"), (dict(warmup=-1), "warmup: found -1"),
    (dict(smoothing=1), "smoothing: found 1; expected a number from 0 to below 1"), (dict(average=-0.1), "average"),
    (dict(optimizer="adam"), "optimizer: found adam; expected one of adamw, sgd"), (dict(schedule="step"), "schedule"),
    (dict(augment="flip"), "augment: found flip"), (dict(train="last:0"), "train: found last:0; expected all, head or"),
    (dict(epochs="3"), "epochs: found '3'; expected an integer"), (dict(batch=2.5), "batch: found 2.5; expected"),
    (dict(warmup=1.5), "warmup: found 1.5; expected an integer"), (dict(seed=True), "seed: found True; expected"),
    (dict(train=None), "train: found None; expected a string"), (dict(clip="1"), "clip: found '1'; expected a number"),
    (dict(train="last:3"), "train: found last:3, but the encoder has 2 blocks"), (dict(train="blocks"), "train"),
])
def test_settings_that_are_not_possible(photos, options, message):
    with pytest.raises(ValueError, match=message):
        training.finetune(tiny(), *photos, Settings(**options))


def test_pictures_and_models_that_are_not_possible(photos):
    sources, names = photos
    with pytest.raises(ValueError, match="found a model with dtype bfloat16; expected float32, or float64"):
        training.finetune(tiny(engine="numba", dtype="bfloat16"), sources, names)
    with pytest.raises(ValueError, match="fewer than two pictures of 'dark'"):
        training.finetune(tiny(), sources[:13], names[:13])
    with pytest.raises(ValueError, match="the only class is 'light'"):
        training.finetune(tiny(), sources[:12], names[:12])
    with pytest.raises(ValueError, match="validation: found the classes grey, which no training picture has"):
        training.finetune(tiny(), sources, names, validation=(sources[:1], ["grey"]))
    with pytest.raises(ValueError, match="pictures: found 23 pictures and 24 class names; expected one class name for"):
        training.finetune(tiny(), sources[:23], names)
    with pytest.raises(ValueError, match="validation: found 2 pictures and 1 class names; expected one class name for"):
        training.finetune(tiny(), sources, names, validation=(sources[:2], ["dark"]))
    with pytest.raises(TypeError, match="names of classes: found 0; expected strings"):
        training.finetune(tiny(), sources, [0] * 12 + [1] * 12)
    with pytest.raises(ValueError, match="validation: the share 0.03 of 24 pictures is no picture; expected more"):
        training.finetune(tiny(), sources, names, validation=0.03)
    with pytest.raises(ValueError, match="validation: found 1.5; expected a number from 0 to below 1"):
        training.finetune(tiny(), sources, names, validation=1.5)
    shape = tiny()
    shape.processor = dict(PROCESSOR, size=dict(shortest_edge=32), do_center_crop=False)
    with pytest.raises(ValueError, match="augment: the image processor makes pictures of different sizes"):
        loop.Trainer(shape, *[pictures.Labelled(sources, np.zeros(24, int))] * 2, Settings())


def test_a_model_without_a_classifier_gets_one(photos):
    bare = ViTHybridModel(ViTHybridConfig(**HYBRID), engine="reference", dtype="float64")
    bare.processor = PROCESSOR
    found = training.finetune(bare, *photos, Settings(epochs=1, train="last:1"))
    assert type(found.model).__name__ == "ViTHybridForImageClassification" and found.model.dtype == "float64"
    for name, array in bare.state_dict().items():
        if "layer.0." in name or "backbone" in name:
            assert np.array_equal(found.model.state_dict()[f"vit.{name}"], array)


# -- the folder of a run

def finetune(place, output, *options, code=0):
    """Run the command.  -> the path of the model, the path of the run's folder"""
    more = ["--model", str(place / "tiny.h5"), "--engine", "reference", "--learning-rate", "1e-3", *options]
    assert main(["finetune", str(place / "photos"), "-o", str(output), *more]) == code
    return Path(output), Path(f"{output}.run")


def contents(output, folder):
    return {path.name: path.read_bytes() for path in [output, *folder.iterdir()]}


WHOLE = "--epochs", "2", "--average", "0.9"


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """The files of an undisturbed run of two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "curves", lambda rows, title: Image.new("L", (len(rows), 1)))
        return contents(*finetune(place, tmp_path_factory.mktemp("whole") / "out.h5", *WHOLE))


def test_the_command_line(place, tmp_path, capsys):
    output, folder = finetune(place, tmp_path / "out.h5", "--format", "json")
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["labels"] == ["dark", "light"] and document["epochs"] == 3 and document["count"] == 4
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row.get("step") for row in rows] == [None, 1, 2, None, 3, 4, None, 5, 6, None]
    assert set(rows[1]) == {"epoch", "step", "steps", "loss", "learning_rate", "gradient_norm"}
    assert [line.split()[:2] for line in printed.err.splitlines()] == [["epoch", str(n)] for n in range(4)]
    best = max(rows[0::3], key=lambda row: (row["right"], -row["loss"], row["epoch"]))
    assert (document["epoch"], document["right"]) == (best["epoch"], best["right"])
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"settings.json", "unreadable.json", "log.jsonl", "curves.png", "epoch-3.h5",
                    f"epoch-{best['epoch']}.h5"}
    with Image.open(folder / "curves.png") as page:
        assert page.width > 1000 and page.info["dpi"] == pytest.approx((300, 300), abs=1)
    model = load(output, engine="reference")
    state, _ = RunFolder(folder).read(document["epoch"])
    assert np.array_equal(model.state_dict()["classifier.weight"], state.weights["head.kernel"].T)
    assert main(["verify", str(output)]) == 0


def test_equal_runs_write_equal_bytes(place, tmp_path, whole, small_curves):
    """In another folder, at another time, and with another number of threads."""
    assert contents(*finetune(place, tmp_path / "out.h5", *WHOLE, "--threads", "1", "--quiet")) == whole


def test_an_epoch_file_has_only_the_trained_arrays(place, tmp_path, small_curves):
    _, folder = finetune(place, tmp_path / "out.h5", "--epochs", "1", "--train", "head", "--average", "0.9")
    state, _ = RunFolder(folder).read(1)
    assert set(state.weights) == set(state.average) == {"head.kernel", "head.bias"}
    assert set(state.optimizer) == {"steps", *(f"{m}.head.{name}" for m in "mv" for name in ("kernel", "bias"))}


INTERRUPTS = {"third step": (loop.Trainer, "_step", 3), "second save": (RunFolder, "save", 2),
              "fifth row": (RunFolder, "add_row", 5)}


@pytest.mark.parametrize("when", INTERRUPTS)
def test_an_interrupted_run_continues(place, tmp_path, whole, small_curves, monkeypatch, capsys, when):
    """Ctrl-C in a step, before an epoch is saved, and after a part of a row was written."""
    owner, method, call = INTERRUPTS[when]
    original, calls = getattr(owner, method), []

    def interrupt(*args):
        calls.append(args)
        if len(calls) < call:
            return original(*args)
        if method == "add_row":
            with open(args[0].log, "a") as log:
                log.write('{"epoch": 1, "st')
        raise KeyboardInterrupt
    monkeypatch.setattr(owner, method, interrupt)
    output, folder = finetune(place, tmp_path / "out.h5", *WHOLE, code=130)
    assert "--resume continues after the last epoch in" in capsys.readouterr().err and not output.exists()
    monkeypatch.setattr(owner, method, original)
    assert contents(*finetune(place, output, *WHOLE, "--resume")) == whole


def test_a_finished_run_is_written_again(place, tmp_path, whole, small_curves):
    output, _ = finetune(place, tmp_path / "out.h5", *WHOLE)
    output.unlink()
    assert contents(*finetune(place, output, *WHOLE, "--resume")) == whole


@pytest.mark.parametrize("validation", [0.25, 0])
@pytest.mark.parametrize("k", [0, 1])
def test_a_class_that_cannot_be_read_is_refused(photos, k, validation):
    """Its number must not go to another class."""
    bad = [b"junk" if name == NAMES[k] else source for source, name in zip(*photos)]
    with pytest.raises(ValueError, match=f"fewer than two pictures of '{NAMES[k]}' could be read"):
        training.finetune(tiny(), bad, photos[1], Settings(epochs=1), validation=validation)


def test_settings_are_numbers_of_python():
    """So a run folder can store them as JSON."""
    found = Settings(epochs=np.int64(1), learning_rate=np.float32(0.5), average=0).checked()
    assert found == Settings(epochs=1, learning_rate=0.5)
    assert [type(value) for value in found] == [type(value) for value in Settings()]


def test_a_run_of_other_classes_is_not_continued(photos, tmp_path, small_curves):
    settings = Settings(epochs=1, train="head", augment="none")
    training.finetune(tiny(), *photos, settings, folder=tmp_path / "run")
    sources, names = photos
    for others in ([f"very {name}" for name in names], names[::-1]):
        with pytest.raises(ValueError, match="cannot be continued, because another run wrote it: classes"):
            training.finetune(tiny(), sources, others, settings, folder=tmp_path / "run", resume=True)
    found = training.finetune(tiny(), *photos, settings, folder=tmp_path / "run", resume=True)
    assert [*found.model.config.id2label.values()] == ["dark", "light"]


def test_another_run_is_refused(place, tmp_path, small_curves, capsys):
    output, folder = finetune(place, tmp_path / "out.h5", "--epochs", "1")
    before = contents(output, folder)
    capsys.readouterr()
    finetune(place, output, "--epochs", "1", code=3)
    assert "holds an interrupted or finished run; continue it with --resume, or delete" in capsys.readouterr().err
    finetune(place, output, "--epochs", "2", "--resume", code=3)
    assert "another run wrote it: epochs (found 1, expected 2)" in capsys.readouterr().err
    assert contents(output, folder) == before
    (folder / "log.jsonl").write_text("")
    finetune(place, output, "--epochs", "1", "--resume", code=3)
    assert "log.jsonl has 0 bytes; expected at least" in capsys.readouterr().err


def test_a_second_run_at_the_same_time_is_refused(place, tmp_path, capsys):
    with owned(tmp_path / "out.h5"):
        finetune(place, tmp_path / "out.h5", "--resume", code=3)
    assert "cannot be written, because process" in capsys.readouterr().err and not list(tmp_path.glob("out*"))


def test_two_runs_in_one_folder(photos, tmp_path):
    """The second run is refused at each moment of the first, and the first has the files of an undisturbed run."""
    options = dict(settings=Settings(epochs=1, train="head"), resume=True)
    refused = []

    def second(result):
        with pytest.raises(BlockingIOError, match=r"log.jsonl cannot be written, because process \d+ on the machine"):
            training.finetune(tiny(), *photos, folder=tmp_path / "run", **options)
        refused.append(result)
    for name, watch in (("run", second), ("alone", lambda result: None)):
        training.finetune(tiny(), *photos, folder=tmp_path / name, watch=watch, **options)
    assert len(refused) == 5              # epoch 0, three steps, epoch 1
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("run", "alone")]
    assert files[0] == files[1]


def test_a_run_without_an_epoch_is_replaced(place, tmp_path, whole, small_curves):
    folder = tmp_path / "out.h5.run"
    folder.mkdir()
    (folder / "settings.json").write_text('{"epochs": 7}')
    (folder / "log.jsonl").write_text("half a row")
    assert contents(*finetune(place, tmp_path / "out.h5", *WHOLE)) == whole


def test_pictures_that_cannot_be_read(place, tmp_path, small_curves, capsys):
    """They are listed, the others are used, and the exit code is 1."""
    shutil.copytree(place / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "dark" / "broken.png").write_bytes(b"no picture")
    shutil.copy(place / "tiny.h5", tmp_path)
    output, _ = finetune(tmp_path, tmp_path / "out.h5", "--epochs", "1", "--format", "json", code=1)
    printed = capsys.readouterr()
    assert "broken.png" in printed.err and json.loads(printed.out)["failed"] == 1
    before = output.read_bytes()
    finetune(tmp_path, output, "--epochs", "1", "--resume", code=1)
    assert output.read_bytes() == before


def test_a_validation_folder(place, tmp_path, small_curves, capsys):
    finetune(place, tmp_path / "out.h5", "--epochs", "1", "--validation", str(place / "photos"), "--format", "json")
    assert json.loads(capsys.readouterr().out)["count"] == 16
    finetune(place, tmp_path / "last.h5", "--epochs", "1", "--validation", "0", "--format", "json")
    document = json.loads(capsys.readouterr().out)
    assert (document["epoch"], document["count"], document["accuracy"]) == (1, 0, None)


def test_fewer_pictures(place, tmp_path, small_curves):
    _, folder = finetune(place, tmp_path / "out.h5", "--epochs", "1", "--max-images", "9")
    assert json.loads((folder / "settings.json").read_text())["pictures"] == 9


@pytest.mark.parametrize("options, message", [
    (["--learning-rate", "0"], "learning-rate: found 0.0; expected a number above 0"),
    (["--learning-rate", "fast"], "found fast; expected a number that is 0 or larger"),
    (["--validation", "1.5"], "argument --validation: found 1.5; expected a folder that contains"),
    (["--train", "tail"], "train: found tail; expected all, head or last:N"),
    (["--seed", "-1"], "found -1; expected a whole number from 0"),
])
def test_usage_errors(place, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        finetune(place, tmp_path / "out.h5", *options)
    assert stopped.value.code == 2 and message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_the_command_line_refuses(place, tmp_path, capsys):
    finetune(place, tmp_path / "out.h5", "--train", "last:9", code=3)
    assert "the encoder has 2 blocks" in capsys.readouterr().err
    (tmp_path / "photos" / "one").mkdir(parents=True)
    (tmp_path / "photos" / "two").mkdir()
    for name in ("one/a.png", "one/b.png", "two/a.png"):
        picture(0, 0).save(tmp_path / "photos" / name)
    shutil.copy(place / "tiny.h5", tmp_path)
    finetune(tmp_path, tmp_path / "out.h5", code=3)
    assert "fewer than two pictures of 'two'" in capsys.readouterr().err
    assert not (tmp_path / "out.h5.run").exists()


def test_labels_in_a_file(place, tmp_path, small_curves, capsys):
    """They replace the names of the folders.  A file that does not fit is refused, and nothing is written."""
    paths = sorted((place / "photos").glob("*/*.png"))
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(f"{path},{'even' if int(path.stem) % 2 else 'odd'}" for path in paths))
    finetune(place, tmp_path / "out.h5", "--epochs", "1", "--labels", str(labels), "--format", "json")
    assert json.loads(capsys.readouterr().out)["labels"] == ["even", "odd"]
    labels.write_text("\n".join(["even", "odd"] * 4))
    finetune(place, tmp_path / "no.h5", "--labels", str(labels), code=3)
    assert "holds 8 labels for 16 pictures; expected one label per picture" in capsys.readouterr().err
    labels.write_text(f"{paths[0]},even")
    finetune(place, tmp_path / "no.h5", "--labels", str(labels), code=3)
    assert "has no label for 15 of 16 pictures" in capsys.readouterr().err
    finetune(place, tmp_path / "no.h5", "--validation", str(place), code=3)
    assert "validation: found the classes photos, which no training picture has" in capsys.readouterr().err
    assert not list(tmp_path.glob("no.h5*"))


def test_a_rate_that_explodes(place, tmp_path, small_curves, capsys):
    """MODEL.h5 is the best epoch before, and the exit code is 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        output, folder = finetune(place, tmp_path / "out.h5", "--learning-rate", "1e9", "--clip", "0", code=3)
    printed = capsys.readouterr().err
    assert "The run was stopped, and the result is epoch 0. A smaller learning rate may help." in printed
    assert load(output, engine="reference").config.id2label == {0: "dark", 1: "light"}
    assert (folder / "epoch-0.h5").exists() and (folder / "curves.png").exists()


def test_a_training_that_makes_the_classifier_worse(place, tmp_path, small_curves, capsys):
    finetune(place, tmp_path / "out.h5", "--learning-rate", "1e3", "--epochs", "1", "--optimizer", "sgd")
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0].startswith("epoch 0 (the fitted classifier, before the training)   validation")
    assert "2 classes, epoch 0 of 1, accuracy" in printed.out
    assert "\nThe training made the fitted classifier worse. A smaller --learning-rate may help." in printed.out


def test_a_full_disk_loses_nothing(place, tmp_path, whole, small_curves, monkeypatch, capsys):
    def full(path, *rest):
        if "epoch-2" in str(path):
            raise OSError(28, "No space left on device", str(path))
        return original(path, *rest)
    original = folder.write_h5
    monkeypatch.setattr(folder, "write_h5", full)
    output, _ = finetune(place, tmp_path / "out.h5", *WHOLE, code=3)
    assert "No space left on device" in (text := capsys.readouterr().err) and "epoch-2.h5" in text
    monkeypatch.setattr(folder, "write_h5", original)
    assert contents(*finetune(place, output, *WHOLE, "--resume")) == whole


def killed_and_resumed(place, tmp_path, kills, *more):
    """SIGKILL at random moments.  The model, the log and all other files have the bytes of an undisturbed run."""
    options = ["--model", place / "tiny.h5", "--batch", "2", *more]
    done = run_python(KILL_AND_RESUME, "finetune", place / "photos", tmp_path / "out.h5", kills, *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] and found["exit"] == 0
    # A run may end before it is killed, if the last rows come faster than the file is checked.
    assert kills // 2 <= found["kills"] <= kills and len(set(found["rows"])) > kills // 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL, fork and waitpid")
@pytest.mark.parametrize("engine", ["reference", "numba"])
def test_killed_and_resumed(place, tmp_path, engine):
    killed_and_resumed(place, tmp_path, 2, "--engine", engine, "--epochs", "2")


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL, fork and waitpid")
@pytest.mark.parametrize("engine, more", [("reference", ["--train", "last:1"]),
                                          ("numba", ["--average", "0.9", "--optimizer", "sgd"])])
def test_killed_often_and_resumed(place, tmp_path, engine, more):
    killed_and_resumed(place, tmp_path, 10, "--engine", engine, *more)

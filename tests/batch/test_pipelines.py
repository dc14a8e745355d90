"""`pipeline`: pictures of every kind, one or many, each with the answer that it has alone."""
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nphybrid import BitBackbone, BitConfig, PictureError, default_model, open_picture, pipeline

from tools.folders import write_pictures

COUNT = 7


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"), COUNT)[0]


@pytest.fixture(scope="module", params=["image-classification", "image-feature-extraction"])
def pipe(request):
    return pipeline(request.param)


def test_one_picture_of_every_kind(pipe, paths):
    """A path, a Path, bytes, an open file, a Pillow picture and an array are the same picture."""
    expected = pipe(paths[0])
    picture = open_picture(paths[0])
    with open(paths[0], "rb") as file:
        kinds = [Path(paths[0]), Path(paths[0]).read_bytes(), file, picture, np.asarray(picture)]
        assert [pipe(kind) == expected for kind in kinds] == [True] * 5


def test_a_tensor_of_pytorch_is_an_array(pipe, paths):
    torch = pytest.importorskip("torch")
    picture = np.asarray(open_picture(paths[0]))
    assert pipe(torch.from_numpy(picture.copy())) == pipe(picture)
    assert pipe([torch.from_numpy(picture.copy())] * 2) == [pipe(picture)] * 2


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_lists_and_generators(pipe, paths, batch_size):
    expected = [pipe(path) for path in paths]
    assert pipe(paths, batch_size=batch_size) == expected
    assert pipe(tuple(paths), batch_size=batch_size) == expected
    answers = pipe((path for path in paths), batch_size=batch_size)
    assert isinstance(answers, types.GeneratorType) and list(answers) == expected
    assert list(pipe(iter(paths), batch_size=batch_size)) == expected
    mixed = [Image.open(paths[0]), np.asarray(Image.open(paths[1])), paths[2]]
    assert pipe(mixed, batch_size=batch_size) == [pipe(picture) for picture in mixed]


def test_a_generator_is_not_taken_ahead(pipe, paths):
    """It may give the same array again and again, as a camera does."""
    frame, pictures = np.zeros((64, 64, 3), np.uint8), [np.asarray(open_picture(path)) for path in paths]

    def camera():
        for picture in pictures:
            frame[:32, :32] = picture
            yield frame
    padded = [np.pad(picture, ((0, 32), (0, 32), (0, 0))) for picture in pictures]
    for batch_size in 1, 3:
        assert list(pipe(camera(), batch_size=batch_size)) == pipe(padded)


def test_arguments_of_transformers(cat):
    pipe = pipeline("image-classification", engine="reference", device=-1, framework="pt", use_fast=False,
                    model_kwargs={"dtype": "float64", "low_cpu_mem_usage": True}, tokenizer=None, num_workers=2)
    assert pipe.model.dtype == "float64"
    again = pipeline("image-classification", pipe.model, device="cpu")
    assert again(cat, top_k=2) == pipe(cat, top_k=2)


@pytest.mark.parametrize("options, error, told", [
    ({"batch_size": 8}, ValueError, r"give batch_size to each call, as in pipe\(pictures, batch_size=8\)"),
    ({"feature_extractor": "x"}, ValueError, "expected the argument image_processor"),
    ({"tokenizer": "x"}, ValueError, "needs no tokenizer"), ({"framework": "tf"}, ValueError, "NumPy and Numba"),
    ({"device": "cuda"}, ValueError, "nphybrid computes on the CPU"),
    ({"engin": "reference"}, TypeError, "Did you mean engine?")])
def test_arguments_of_transformers_that_are_refused(options, error, told):
    with pytest.raises(error, match=told):
        pipeline("image-classification", **options)


@pytest.mark.parametrize("task, told", [
    ("image-clasification", "Did you mean image-classification?"),
    ("google/bit-50", r"A model is the second argument, as in pipeline\('image-classification', 'google/bit-50'\)"),
    (default_model(), "A model is the second argument, as in pipeline")])
def test_a_task_that_is_none(task, told):
    with pytest.raises(ValueError, match=told):
        pipeline(task)


@pytest.mark.parametrize("options, told", [
    ({"topk": 3}, "found the argument topk; expected some of inputs, .*Did you mean top_k?"),
    ({"timeout": 3}, "nphybrid opens no URL"),
    ({"zebra": 3}, "found the argument zebra; expected some of inputs, [^.]*$")])
def test_an_argument_that_a_call_does_not_have(options, told, cat):
    pipe = pipeline("image-classification", engine="reference")
    with pytest.raises(TypeError, match=told):
        pipe(cat, **options)


@pytest.mark.parametrize("source, told", [
    ("https://example.com/cat.jpg", r"found the URL https://example.com/cat.jpg; .*Run curl -L -o FILE 'https://exam"),
    ("https://huggingface.co/a/b/resolve/main/cat.jpg", "Run curl -L -o FILE"),
    ("FOLDER", "found the folder FOLDER; expected a picture, or a list of pictures, such as .*find_pictures")])
def test_urls_and_folders(pipe, source, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").mkdir()
    with pytest.raises(PictureError, match=told):
        pipe(source)


def test_the_url_of_a_model():
    with pytest.raises(ValueError, match="expected the name google/bit-50$"):
        pipeline("image-classification", "https://huggingface.co/google/bit-50/")


def test_a_bad_picture_raises_where_it_stands(pipe, paths):
    answers = pipe(path for path in [paths[0], "nothing.png", paths[1]])
    assert next(answers) == pipe(paths[0])
    with pytest.raises(FileNotFoundError):
        next(answers)
    with pytest.raises(PictureError):
        pipe([paths[0], b"no picture"])
    with pytest.raises(ValueError, match="expected a picture with 2 or 3 axes. Several pictures must be given "
                                         "as a list.$"):
        pipe(np.zeros((2, 32, 32, 3), np.uint8))


def test_features_are_the_model_s(paths):
    pipe = pipeline("image-feature-extraction", default_model(), num_threads=1)
    assert type(pipe.model).__name__ == "ViTHybridModel"
    x = pipe.image_processor(open_picture(paths[0]), return_tensors="np").pixel_values
    expected = pipe.model(x).last_hidden_state
    assert np.array_equal(pipe(paths[0], return_tensors=True), expected) and pipe(paths[0]) == expected.tolist()
    with pytest.raises(ValueError, match="No pooled output"):
        pipe(paths[0], pool=True)
    grey = pipe(paths[0], image_processor_kwargs={"do_normalize": False})
    assert grey != pipe(paths[0]) and np.shape(grey) == (1, 65, 192)


def test_who_cannot():
    with pytest.raises(ValueError, match="'image-classification', 'image-feature-extraction'"):
        pipeline("object-detection")
    config = BitConfig(embedding_size=8, hidden_sizes=[32], depths=[1], num_groups=4)
    with pytest.raises(ValueError, match="found a BitBackbone, which returns several feature maps; expected a "
                                         "BitModel$"):
        pipeline("image-feature-extraction", BitBackbone(config))

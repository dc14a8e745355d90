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

"""A picture that JavaScript prepares, compared with Pillow: all bytes are equal."""
import numpy as np
import PIL
import pytest

from nphybrid.image import Steps, prepare

from tools.javascript import numbers, text

pytestmark = pytest.mark.slow

HEIGHT_FIRST = int(PIL.__version__.split(".")[0]) >= 13             # see `resize` in network/image.js


@pytest.mark.parametrize("filter", [2, 3])
@pytest.mark.parametrize("shape, steps", [
    ((33, 47), Steps(size=64, crop=(64, 64))), ((300, 451), Steps(size=64, crop=(64, 64))),
    ((1, 17), Steps(size=5, crop=(8, 8))), ((64, 64), Steps(size=64, crop=(64, 64))),
    ((211, 97), Steps(size=(40, 63), crop=None)), ((20, 300), Steps(size=(31, 7), crop=(30, 11))),
    ((70, 90), Steps(size=None, crop=(63, 97), crop_rounding="half_even")),
    ((90, 73), Steps(size=None, crop=(63, 70), crop_rounding="half_even")),
    ((500, 60), Steps(size=(20, 40), crop=None))])
def test_a_picture_is_prepared_as_pillow_does(run, shape, steps, filter):
    """All bytes are equal, and so are all bits of the input of the network."""
    if shape == (500, 60) and not HEIGHT_FIRST:
        pytest.skip("Pillow 12 and earlier always resize the width first")
    image = np.random.default_rng(shape[0]).integers(0, 256, (*shape, 3), np.uint8)
    image[:, ::3] = [0, 255, 128]                                        # steep edges, where bicubic overshoots
    steps = steps._replace(resample=filter, mean=(0.485, 0.456, 0.5), std=(0.229, 0.5, 0.3))
    photograph = {"factor": steps.factor, "mean": steps.mean, "std": steps.std}
    found, pixels, values = run({"image": text(image), "shape": image.shape, "steps": steps._asdict(),
                                 "photograph": photograph})
    expected = prepare(image, steps._replace(factor=None, mean=None))
    assert (numbers(pixels, np.uint8).reshape(found) == expected).all()
    assert (numbers(values).reshape(found) == prepare(image, steps)).all()

"""Grids that are not square, weights that are added up, pixels without a patch: what is drawn."""
import numpy as np
import pytest

from nphybrid import ViTConfig, ViTForImageClassification, ViTHybridImageProcessor
from nphybrid.explain import colours, measures, scene
from nphybrid.explain.page import page

from oracles import sights

browsers = pytest.importorskip("tools.browser")
from tools.explained import click, drawn, opened, same_colours, says  # noqa: E402

pytestmark = [pytest.mark.slow, browsers.NEEDED]


def opened_wide(browser, cat_picture, tmp_path):
    """A network whose grid is 3 x 5; its page.  -> trace of the cat, learned arrays"""
    model = sights.network("wide")
    (tmp_path / "page.html").write_text(page(model, cat_picture), "utf-8")
    opened(browser, (tmp_path / "page.html").as_uri())
    x = ViTHybridImageProcessor.from_dict(model.processor)(cat_picture, return_tensors="np").pixel_values
    return model.trace(x), model.learned()


def test_where_keys_are_added_up_a_cell_shows_their_sum(browser, cat_picture, tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "EXACT_BYTES", 0)
    monkeypatch.setattr(scene, "MAX_BYTES", 3 * 2 * 16 * 6)            # 2 x 3 sums, the last of them of fewer
    trace, _ = opened_wide(browser, cat_picture, tmp_path)
    click(browser, "attention-heads", 2, 0, 3, 2)
    cells = measures.attention(trace, 3)[2, 0, 1 + 7, 1:].reshape(3, 5)
    sums = [[cells[i:i + 2, j:j + 2].sum() for j in (0, 2, 4)] for i in (0, 2)]
    click(browser, "attention-query", 1, 2, 3, 5)
    found = drawn(browser, "attention-keys", 3, 5, corner=0.3)
    expected = np.repeat(np.repeat(sums, 2, 0), 2, 1)[:3, :5]
    assert same_colours(found, expected, 0, np.max(sums))
    click(browser, "attention-keys", 2, 4, 3, 5)
    value = float(says(browser, "attention-says").split("gives the weight ")[1].split(" %")[0]) / 100
    assert abs(value - sums[1][2]) < np.max(sums) / 510 + 6e-4


def test_the_pictures_of_a_wide_network(browser, cat_picture, tmp_path):
    """Rows are not columns: what is drawn, read back where a grid is 3 x 5 and the picture 24 x 40."""
    trace, p = opened_wide(browser, cat_picture, tmp_path)
    click(browser, "attention-heads", 2, 0, 3, 2)
    weights = measures.attention(trace, 3)
    processor = ViTHybridImageProcessor.from_dict(sights.network("wide").processor)
    pixels = processor(cat_picture, do_rescale=False, do_normalize=False, return_tensors="np").pixel_values
    picture = pixels[0].transpose(1, 2, 0).astype(int)

    found = drawn(browser, "photograph-input", 24, 40, corner=0.5)
    away = np.ones((24, 40), bool)
    away[10:15, 18:23] = False                                    # the frame around the pixel in the middle
    assert np.abs(found - picture)[away].max() <= 1 and np.ptp(picture) > 150

    click(browser, "attention-query", 2, 1, 3, 5)
    given = weights[2, 0, 1 + 11, 1:].reshape(3, 5)
    assert same_colours(drawn(browser, "attention-keys", 3, 5, corner=0.3), given, 0, given.max())
    found = drawn(browser, "attention-query", 24, 40, corner=0.5)
    darkness = 0.9 * (1 - np.kron(given, np.ones((8, 8))) / given.max())[:, :, None]
    expected = picture * (1 - darkness) + np.array([12, 10, 8]) * darkness
    away = np.ones((24, 40), bool)
    away[15:, 7:17] = False
    assert np.abs(found - expected)[away].max() <= 3

    alike = measures.position_similarity(p.tokens.positions, (3, 5))
    most = np.abs(alike[~np.eye(15, dtype=bool)]).max()
    found = drawn(browser, "positions-one", 3, 5, corner=0.3)
    expected = colours.coloured(alike[11].reshape(3, 5), -most, most, colours.DIVERGING).astype(int)
    assert np.abs(found - expected).max() <= 6                    # cosines are kept in 8 bits
    small = drawn(browser, "positions-all", 9, 25, corner=0.5).reshape(3, 3, 5, 5, 3).transpose(0, 2, 1, 3, 4)
    middles = colours.coloured(alike[:, 7].reshape(3, 5), -most, most, colours.DIVERGING).astype(int)
    assert np.abs(small[:, :, 1, 2] - middles).max() <= 6         # of each small map the cell in the middle

    rolled = measures.rollout(weights)[-1, 0, 1:].reshape(3, 5)
    assert same_colours(drawn(browser, "rollout-map", 3, 5, corner=0.3), rolled, 0, rolled.max())

    click(browser, "stages-1", 0, 6, 2, 8)
    state = trace["stages.1.1"][0]
    channel = state[:, :, np.argsort(-state.var((0, 1)), kind="stable")[6]]
    assert same_colours(drawn(browser, "stages-map", *channel.shape, corner=0.3), channel, 0, channel.max())
    click(browser, "stages-photo", 2, 3, *channel.shape)
    assert says(browser, "stages-says").split(": ")[0].endswith("row 2, column 3")


def test_pixels_that_no_patch_covers_are_not_drawn(browser, cat_picture, tmp_path):
    """In 50 x 61 pixels lie 6 x 7 patches of 8: cells are 8 pixels wide on the page as well."""
    config = ViTConfig(image_size=[50, 61], patch_size=8, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
                       intermediate_size=32)
    model = ViTForImageClassification(config, engine="reference")
    model.processor = ViTHybridImageProcessor(size={"height": 50, "width": 61}, do_center_crop=False)
    (tmp_path / "page.html").write_text(page(model, cat_picture), "utf-8")
    opened(browser, (tmp_path / "page.html").as_uri())
    click(browser, "attention-query", 44, 30, 50, 61)             # a pixel of row 44, column 30
    assert "row 5, column 3" in says(browser, "attention-says")
    found = drawn(browser, "attention-keys", 50, 61, corner=0.5)
    assert (found[:48, :56].sum(-1) > 0).all() and (found[49:] == 0).all() and (found[:, 57:] == 0).all()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_numbers_of_blocks_and_heads_stand_beside_their_maps(browser, cat_page, width):
    opened(browser, cat_page, width)
    columns, rows, (left, top, wide, high) = browser.execute_script("""
        const box = (node) => node.getBoundingClientRect();
        const spans = (name) => [...document.querySelectorAll(`#attention-table ${name} span`)];
        const canvas = box(document.getElementById("attention-heads"));
        return [
            spans(".columns").map((node) => [node.textContent, box(node).left + box(node).width / 2]),
            spans(".rows").map((node) => [node.textContent, box(node).top + box(node).height / 2]),
            [canvas.left, canvas.top, canvas.width, canvas.height]];""")
    assert [name for name, _ in columns] == ["head 0", "head 1", "head 2"]
    assert [name for name, _ in rows] == [f"block {l}" for l in range(4)]
    for places, start, size in ((columns, left, wide), (rows, top, high)):
        middles = start + size * (np.arange(len(places)) + 0.5) / len(places)
        assert np.abs([place for _, place in places] - middles).max() < 1


@pytest.mark.parametrize("grid, found", [((3, 3), 9), ((2, 3), 6)])
def test_neighbours_in_a_small_grid(browser, cat_picture, tmp_path, grid, found):
    """By chance, 5 of 9 or 4.4 of 6 cells would have a neighbour with the largest cosine; here, all cells have one."""
    size = {"height": 8 * grid[0], "width": 8 * grid[1]}
    config = ViTConfig(image_size=list(size.values()), patch_size=8, hidden_size=24, num_hidden_layers=1,
                       num_attention_heads=2, intermediate_size=32)
    model = ViTForImageClassification(config, engine="reference")
    model.processor = ViTHybridImageProcessor(size=size, do_center_crop=False)
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    angles = np.stack([rows, columns]) * 0.4
    state = model.state_dict()
    places = np.concatenate([np.cos(angles), np.sin(angles)]).T.astype(np.float32)
    state["vit.embeddings.position_embeddings"][0, 1:] = np.pad(places, ((0, 0), (0, 20)))
    model.load_state_dict(state)
    (tmp_path / "page.html").write_text(page(model, cat_picture), "utf-8")
    opened(browser, (tmp_path / "page.html").as_uri())
    text = says(browser, "positions-near")
    assert f"for {found} of {grid[0] * grid[1]} cells" in text and "position vectors of neighbours are often" in text

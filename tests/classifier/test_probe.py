"""The probes, each against its definition: loops, normal equations, and an optimum that no small step improves."""
import math
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from nphybrid.classifier import classes as class_names, logistic as newton, probe, scores, teach
from nphybrid.classifier.logistic import logistic_regression, loss
from nphybrid.explain import drawing
from nphybrid.explain.colours import SEQUENTIAL, rgb
from nphybrid.features import contents


def blobs(n, D, K, seed=0, apart=1.0):
    """Features of K overlapping classes on very different scales, and their classes."""
    rng = np.random.default_rng(seed)
    classes = np.concatenate([np.arange(K), rng.integers(0, K, n - K)])
    features = rng.standard_normal((n, D)) + apart * rng.standard_normal((K, D))[classes]
    return features * np.exp(rng.uniform(-3, 3, D)) + 10 * rng.standard_normal(D), classes


def loss_by_loops(X, y, W, b, C):
    """What logistic regression minimizes, number by number."""
    n, K, total = len(X), len(b), 0.0
    for x, k in zip(X, y):
        logits = [math.fsum(x * W[:, c]) + b[c] for c in range(K)]
        total -= logits[k] - math.log(math.fsum(map(math.exp, logits)))
    # scikit-learn: of two classes, half the square of the difference of the two columns
    square = 4 * math.fsum(W[:, 1] ** 2) if K == 2 else math.fsum((W ** 2).ravel())
    return total / n + square / (2 * C * n)


@pytest.mark.parametrize("n, D, K, C", [(40, 5, 3, 0.7), (31, 50, 4, 0.01), (60, 3, 2, 1.0), (25, 7, 5, 300.0)])
def test_the_loss_is_its_definition_and_no_step_lowers_it(n, D, K, C):
    X, y = blobs(n, D, K)
    X = (X - X.mean(0)) / X.std(0)
    (W, b), = logistic_regression(X, y, K, [C], tolerance=1e-11)
    best = loss_by_loops(X, y, W, b, C)
    assert loss(X, y, W, b, C) == pytest.approx(best, rel=1e-9)
    rng = np.random.default_rng(1)
    for _ in range(20):
        dW, db = rng.standard_normal(W.shape), rng.standard_normal(b.shape)
        dW = np.stack([-dW[:, 1], dW[:, 1]], 1) if K == 2 else dW
        ahead, behind = (loss_by_loops(X, y, W + h * dW, b + h * db, C) for h in (1e-4, -1e-4))
        assert min(ahead, behind) > best                    # convex: with a slope of 0 this is the optimum
        assert abs(ahead - behind) / 2e-4 < 1e-6            # the slope, observed 2e-7


def test_one_path_or_many_searches_end_at_the_same_place():
    X, y = blobs(80, 6, 3)
    X = (X - X.mean(0)) / X.std(0)
    strengths = [1e-3, 1.0, 30.0]
    for (W, b), C in zip(logistic_regression(X, y, 3, strengths, 1e-10), strengths):
        (alone, bias), = logistic_regression(X, y, 3, [C], 1e-10)
        assert np.abs(W - alone).max() < 1e-6 and np.abs(b - bias).max() < 1e-6


def test_a_separable_set_with_hardly_any_penalty_is_still_solved():
    X, y = blobs(60, 80, 4, apart=3)
    X = (X - X.mean(0)) / X.std(0)
    (W, b), = logistic_regression(X, y, 4, [1e6], 1e-8)
    assert ((X @ W + b).argmax(1) == y).all() and loss(X, y, W, b, 1e6) < 1e-3


def test_a_search_that_cannot_end_says_so():
    X, y = blobs(30, 4, 2)
    with pytest.raises(ValueError, match="after 200 steps .* expected at most 1e-300"):
        logistic_regression(X, y, 2, [1.0], tolerance=1e-300)


@pytest.mark.parametrize("n, D, K", [(40, 6, 3), (12, 30, 4), (9, 9, 2)])
def test_ridge_solves_the_normal_equations(n, D, K):
    """With a column of ones that is not penalized, as a plain linear system."""
    X, y = blobs(n, D, K)
    Z = (X - X.mean(0)) / X.std(0)
    A, Y = np.column_stack([Z, np.ones(n)]), np.where(np.arange(K) == y[:, None], 1.0, -1.0)
    for C, head in zip((0.01, 1.0, 50.0), probe.ridge(X, y, K, (0.01, 1.0, 50.0))):
        expected = np.linalg.solve(A.T @ A + np.diag([1 / C] * D + [0.0]), A.T @ Y)
        assert np.abs(X @ head.kernel + head.bias - A @ expected).max() < 1e-9      # observed 2e-12


@pytest.mark.parametrize("method", probe.METHODS)
def test_answers_do_not_depend_on_the_scale_of_a_feature(method):
    X, y = blobs(60, 7, 3)
    scales = np.exp(np.linspace(-6, 6, 7))
    fit = probe.METHODS[method][0]
    for a, b in zip(fit(X, y, 3, (0.1, 1.0)), fit(X * scales - 5, y, 3, (0.1, 1.0))):
        assert np.abs(X @ a.kernel + a.bias - (X * scales - 5) @ b.kernel - b.bias).max() < 1e-5


@pytest.mark.parametrize("method", probe.METHODS)
def test_a_feature_that_never_varies_counts_nothing(method):
    X, y = blobs(40, 4, 3)
    more = np.column_stack([X, np.full(40, 0.1), np.zeros(40)])
    head, = probe.METHODS[method][0](more, y, 3, (1.0,))
    plain, = probe.METHODS[method][0](X, y, 3, (1.0,))
    assert (head.kernel[4:] == 0).all() and np.abs(head.kernel[:4] - plain.kernel).max() < 1e-6


@pytest.mark.parametrize("method", probe.METHODS)
def test_no_picture_is_answered_by_what_was_fitted_to_it(method):
    """Noise with labels by chance: a classifier that was fitted to a picture knows its label, the others do not."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((200, 400)), rng.integers(0, 4, 200)
    found = probe.fit_probe(X, y, 4, method, strengths=(1.0, 100.0))
    assert (probe.predict(X, found.head) == y).all()
    assert (found.answers == y).mean() < 0.4                # chance is 0.25
    assert (probe.neighbours(X, y, 4, probe.stratified_folds(y, 5)) == y).mean() < 0.4


def test_cross_validation_by_loops():
    X, y = blobs(50, 6, 3)
    fold, strengths = probe.stratified_folds(y, 4, seed=7), (1.0, 0.01, 0.1)
    found = probe.fit_probe(X, y, 3, "ridge", 4, strengths, seed=7)
    accuracies, answers = {}, {}
    for C in strengths:
        answers[C], shares = np.empty(50, int), []
        for f in range(4):
            head, = probe.ridge(X[fold != f], y[fold != f], 3, (C,))
            answers[C][fold == f] = probe.predict(X[fold == f], head)
            shares.append((answers[C] == y)[fold == f].mean())
        accuracies[C] = sum(shares) / 4
    best = min(C for C in strengths if accuracies[C] == max(accuracies.values()))
    assert found.accuracies == pytest.approx(accuracies) and found.strength == best
    assert (found.answers == answers[best]).all()
    head, = probe.ridge(X, y, 3, (best,))
    assert (found.head.kernel == head.kernel).all()


@pytest.mark.parametrize("counts, folds", [((17, 9, 31), 5), ((2, 2, 3), 4), ((2, 50), 2)])
def test_folds_are_even_and_leave_some_of_every_class(counts, folds):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    fold = probe.stratified_folds(y, folds)
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for k, count in enumerate(counts):
        held = np.bincount(fold[y == k], minlength=folds)
        assert held.max() - held.min() <= 1 and held.max() < count
    assert (fold == probe.stratified_folds(y, folds)).all() and (fold != probe.stratified_folds(y, folds, seed=1)).any()


def test_neighbours_by_loops():
    X, y = blobs(45, 3, 4)
    X[7] = 0                                                # no direction: as far from all others
    fold = probe.stratified_folds(y, 3)
    for k in (1, 2, 5, 100):
        expected = []
        for i in range(45):
            def cosine(j):
                lengths = np.linalg.norm(X[i]) * np.linalg.norm(X[j])
                return X[i] @ X[j] / lengths if lengths else 0.0
            near = sorted((j for j in range(45) if fold[j] != fold[i]), key=lambda j: -cosine(j))[:k]
            votes = [sum(y[j] == c for j in near) for c in range(4)]
            expected.append(next(y[j] for j in near if votes[y[j]] == max(votes)))
        answers = probe.neighbours(X, y, 4, fold, k)
        assert np.delete(answers, 7).tolist() == np.delete(expected, 7).tolist(), k


def test_neighbours_of_many_pictures_are_searched_in_bounded_memory(monkeypatch):
    X, y = blobs(2500, 3, 4)
    fold = probe.stratified_folds(y, 2)
    whole = probe.neighbours(X, y, 4, fold)                 # 1,250 x 1,250: one block
    monkeypatch.setattr(probe, "MOST_BYTES", 1 << 20)
    tracemalloc.start()
    answers = probe.neighbours(X, y, 4, fold)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answers == whole).all() and peak < 1.5e6        # observed 1.2 MB; 25 MB in one block


@pytest.mark.parametrize("D, blocks, most", [(63, 40, 1.6), (300, 1, 12)])
def test_blocks_of_the_hessian_are_few_and_held_once(D, blocks, most):
    """In float32, beside what one class takes in float64: observed 1.2 and 6 times; 5 times with a list of float64.

    NumPy 2.5 shows tracemalloc the working memory of `inv`, which older versions need too: 1.3 and 9.4 times.
    """
    rng, K = np.random.default_rng(0), 40
    Z = rng.standard_normal((100, D + 1)).astype(np.float32)
    P = rng.dirichlet(np.ones(K), 100)
    tracemalloc.start()
    inverses = newton.inverse_blocks(Z, P, np.ones((D + 1, 1)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert inverses.shape == (blocks, D + 1, D + 1) and inverses.dtype == np.float32
    assert peak < most * inverses.nbytes
    own = [Z.T.astype(np.float64) @ np.diag(p * (1 - p)) @ Z / 100 + np.eye(D + 1) for p in P.T]
    expected = np.linalg.inv(own if blocks > 1 else [np.mean(own, axis=0)])
    assert np.abs(inverses - expected).max() < 1e-5


@pytest.mark.parametrize("K", [2, 7])
def test_the_optimum_is_the_same_with_one_block_for_all_classes(K, monkeypatch):
    X, y = blobs(150, 6, K)
    X = (X - X.mean(0)) / X.std(0)
    (W, b), = logistic_regression(X, y, K, [0.3], 1e-10)
    monkeypatch.setattr(newton, "MOST_NUMBERS", 0)
    (one, bias), = logistic_regression(X, y, K, [0.3], 1e-10)
    assert np.abs(W - one).max() < 1e-7 and np.abs(b - bias).max() < 1e-7


def test_what_cannot_be_fitted_is_refused():
    X, y = blobs(20, 3, 2)
    with pytest.raises(ValueError, match=r"fewer than two pictures of '1';"):
        probe.fit_probe(X, np.r_[1, np.zeros(19, int)], 2)
    with pytest.raises(ValueError, match="^the only class is '0'; expected two classes or more$"):
        probe.fit_probe(X, np.zeros(20, int), 1)
    with pytest.raises(ValueError, match="there is no class"):
        probe.fit_probe(X[:0], y[:0], 0)
    with pytest.raises(ValueError, match=r"shape \[20, 3\] and classes \[19\]"):
        probe.fit_probe(X, y[1:], 2)
    with pytest.raises(ValueError, match="expected two folds or more, found 1"):
        probe.fit_probe(X, y, 2, folds=1)
    with pytest.raises(ValueError, match="method is 'svm'; expected one of ridge, logistic"):
        probe.fit_probe(X, y, 2, "svm")
    for strengths in ([], [1.0, 0.0], [-1.0], [np.inf], [np.nan]):
        with pytest.raises(ValueError, match="strengths are .*; expected one or more finite numbers above 0"):
            probe.fit_probe(X, y, 2, "ridge", strengths=strengths)
    for classes, found in ((y + 1, ": found 2"), (y - 1, ": found -1"), (y.astype(str), " have the dtype <U"),
                           (y / 2, " have the dtype float64")):
        with pytest.raises(ValueError, match=f"classes{found}.*; expected integers from 0 to 1"):
            probe.fit_probe(X, classes, 2)
    for folds in (np.zeros(20, int), np.arange(19)):
        with pytest.raises(ValueError, match=r"folds have the shape .*; expected the shape \(20,\) and two folds"):
            probe.fit_probe(X, y, 2, folds=folds)
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"found {k} neighbours; expected 1 or more"):
            probe.neighbours(X, y, 2, np.arange(20), k)
    assert probe.fit_probe(X, y.tolist(), 2, "ridge").strength == probe.fit_probe(X, y, 2, "ridge").strength
    X[13, 1] = np.inf
    with pytest.raises(ValueError, match="not finite in 1 rows, the first is row 13; expected finite numbers"):
        probe.fit_probe(X, y, 2)


def test_names_of_classes_are_strings():
    with pytest.raises(TypeError, match="names of classes: found 1; expected strings"):
        class_names.in_order(["0", 1])


def test_classes_called_by_numbers_come_in_their_order():
    X, y = blobs(30, 4, 3, apart=5)
    found = contents.Features(X.astype(np.float32), [str(i) for i in range(30)], "", "norm", "token")
    head, report = teach.fit_head(found, [("10", "9", "a")[k] for k in y], "ridge", 3)
    assert head.labels == report["labels"] == ["9", "10", "a"]
    assert ((X @ head.kernel + head.bias).argmax(1) == np.array([1, 0, 2])[y]).mean() > 0.9


@pytest.mark.parametrize("folds, told", [(3, 3), (1000, 11)])
def test_the_report_says_how_many_folds_there_are(folds, told):
    X, y = blobs(11, 4, 2, seed=3)
    found = contents.Features(X.astype(np.float32), [str(i) for i in range(11)], "", "norm", "token")
    head, report = teach.fit_head(found, [f"c{k}" for k in y], "ridge", folds)
    assert report["folds"] == head.made["folds"] == told
    assert f" features. Cross-validation with {told} folds: each fold is classified by " in teach.text(report)


def test_copies_of_pictures_change_neither_the_head_nor_the_accuracy():
    """Equal features of another class are no copy. With copies in other folds, each copy would be recognized."""
    X, y = blobs(60, 200, 4, apart=0.1)
    X[1], y[0], y[1] = X[0], 0, 1
    names, values = [f"c{k}" for k in y], X.astype(np.float32)
    head, report = teach.fit_head(contents.Features(values, names, "", "norm", "token"), names)
    assert report["copies"] == 0 and report["pictures"] == 60 and report["accuracy"]["right"] < 40  # observed 19
    order = np.concatenate([np.arange(60), np.random.default_rng(0).permutation(60), [5, 5, 7]])
    repeated = [names[i] for i in order]
    again, other = teach.fit_head(contents.Features(values[order], repeated, "", "norm", "token"), repeated)
    assert {**other, "copies": 0} == report and other["copies"] == 63
    assert (again.kernel == head.kernel).all() and (again.bias == head.bias).all() and again.made == head.made
    assert "63 more pictures are copies of these pictures and were left out." in teach.text(other)
    assert "copies" not in teach.text(report)


def test_a_class_of_copies_of_one_picture_is_refused():
    X, y = blobs(12, 3, 2)
    X[y == 1] = X[1]
    with pytest.raises(ValueError, match="fewer than two different pictures of 'c1'; expected two or more different"):
        teach.fit_head(contents.Features(X.astype(np.float32), [""] * 12, "", "norm", "token"), [f"c{k}" for k in y])


def test_classes_are_those_of_the_pictures_that_could_be_read():
    names = ["owl", "cat", "owl", "cat", "dog", "dog", "dog"]
    assert teach.readable_names(names, {4: "is empty"}) == ["owl", "cat", "owl", "cat", "dog", "dog"]
    with pytest.raises(ValueError, match="fewer than two pictures of 'dog', 'owl' could be read"):
        teach.readable_names(names, {0: "", 2: "", 4: "", 5: ""})
    with pytest.raises(ValueError, match="fewer than two pictures of 'owl'; expected"):
        teach.readable_names(names[1:])
    with pytest.raises(ValueError, match="the only class is 'dog'; expected two classes or more"):
        teach.readable_names(names[4:])


# ------------------------------------------------------------------ scores

@pytest.mark.parametrize("right, count", [(0, 7), (3, 9), (8536, 10_000), (12, 12), (1, 1000)])
def test_the_interval_holds_every_share_that_the_count_does_not_contradict(right, count):
    """Wilson's ends are the shares p that lie 1.96 deviations, sqrt(p (1 - p) / count), from right / count."""
    low, high = scores.interval(right, count)
    assert 0 <= low <= right / count <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert abs(right / count - end) == pytest.approx(scores.Z95 * math.sqrt(end * (1 - end) / count))
    assert (low == 0) == (right == 0) and (high == 1) == (right == count)


def test_confusion_by_loops():
    rng = np.random.default_rng(5)
    classes, answers = rng.integers(0, 4, (2, 60))
    expected = np.zeros((4, 4), int)
    for row, column in zip(classes, answers):
        expected[row, column] += 1
    assert (scores.confusion(classes, answers, 4) == expected).all()


def test_names_of_any_script_are_whole_in_the_text():
    """A long name with accents is shortened, and not escaped."""
    text = scores.confusion_table(np.eye(2, dtype=int), ["Größenordnungsüberschreitung", "猫"])
    assert "Größenordnungsüberschre…" in text and "猫" in text and "\\x" not in text


def test_the_matrix_as_text():
    matrix = np.zeros((13, 13), int)
    matrix[2, 5], matrix[7, 1], matrix[3, 3] = 4, 9, 1000
    names = [f"c{k}" for k in range(13)]
    assert scores.confusion_table(matrix, names).split() == (
        "The most frequent mistakes: c7 taken for c1 9 of 9 c2 taken for c5 4 of 4".split())
    small = scores.confusion_table(matrix[:4, :4], names[:4]).splitlines()
    assert small[1].split() == names[:4] and small[-1].split() == ["c3", ".", ".", ".", "1,000"]


LONG = "the common tench of European lakes and rivers"


@pytest.mark.parametrize("names, labels", [
    (["猫", "cat", "собака", "كلب", "हाथी", "emoji 🐈"], ["#0", "cat", "#2", "#3", "#4", "#5"]),
    (["Käse", "Kase", "Brot?"], ["#0", "Kase", "Brot?"]),
    ([LONG, f"{LONG} and seas", "goldfish"], ["#0", "#1", "goldfish"]),
    ([LONG, "goldfish"], ["the common tench of Europ…", "goldfish"])])
def test_labels_of_a_matrix(names, labels, tmp_path, monkeypatch, recwarn):
    """Without the fonts of a system, no letter is changed, no two labels are equal, and the file names each number."""
    monkeypatch.setattr(drawing, "SYSTEM_FONTS", ())
    written, write = [], drawing.write

    def noted(page, x, y, words, *more, **options):
        written.append(words)
        write(page, x, y, words, *more, **options)
    monkeypatch.setattr(drawing, "write", noted)
    scores.save_picture(scores.confusion_picture(np.eye(len(names), dtype=int), names, "t"), tmp_path / "x.png")
    assert [words for words in written if words in labels] == labels
    assert "share of the class, square-root scale" in written and written.count("100 %") == len(names)
    with Image.open(tmp_path / "x.png") as picture:
        description = picture.text["Description"]
    told = [f"#{k} is {name}" for k, (name, label) in enumerate(zip(names, labels)) if label == f"#{k}"]
    assert all(words in description and words in str(recwarn[0].message) for words in told)
    assert len(recwarn) == bool(told)


@pytest.mark.parametrize("K", [1, 2, 5, 24])
def test_long_names_leave_room_for_the_matrix(K):
    page = np.asarray(scores.confusion_picture(np.eye(K, dtype=int), [f"{k} {'W' * 300}" for k in range(K)], "t"))
    columns = (page == rgb(SEQUENTIAL[-1])).all(-1).sum(0).nonzero()[0]
    # The diagonal reaches from the left to the right end of the matrix.
    assert columns[-1] - columns[0] > 0.48 * page.shape[1]                  # observed 0.50 to 0.75


@pytest.mark.parametrize("K", [2, 30, 70])
def test_the_picture_shows_each_share_in_its_place(K):
    """A cell's colour is that of its share, wherever on the sheet the matrix is."""
    from nphybrid.explain.drawing import Scale, painted
    matrix = np.zeros((K, K), int)
    matrix[0, 0], matrix[0, 1], matrix[1, 0] = 1, 3, 5
    for k in range(2, K):
        matrix[k, k] = 1
    page = np.asarray(scores.confusion_picture(matrix, [f"class {k}" for k in range(K)], "t"))
    quarter, three, all_ = painted(np.array([0.25, 0.75, 1.0]), Scale(0, 1, power=0.5))
    where = [np.argwhere((page == colour).all(-1)) for colour in (quarter, three, all_)]
    first, second = (np.median(rows, axis=0) for rows in where[:2])
    assert abs(first[0] - second[0]) < 9 and second[1] > first[1]          # the same row, one column on
    assert {len(where[i]) > 30 for i in range(3)} == {True}
    assert where[2][:, 0].min() > first[0]                                  # class 1 is in the next row

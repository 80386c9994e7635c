"""The student learns what it is shown, does not learn from ignored pixels, and is the same for the same seed."""

import numpy as np
import torch

from scclip.demo.student import IGNORE, Sample, Student, StudentConfig, predict, train

QUICK = StudentConfig(steps=40, batch=2, widths=(8, 12))


def samples(wrong: int | None = None) -> list[Sample]:
    """Red and blue halves, categories 1 and 2; with `wrong` the blue half is labeled so."""
    random, made = np.random.default_rng(0), []
    for size in ((60, 90), (80, 64), (50, 50)):
        labels = np.ones(size, np.uint8)
        labels[:, size[1] // 2 :] = 2
        image = random.integers(0, 60, (*size, 3)).astype(np.uint8)
        image[labels == 1, 0] += 180
        image[labels == 2, 2] += 180
        made.append((image, np.where(labels == 2, wrong, labels).astype(np.uint8) if wrong else labels))
    return made


def test_it_learns_what_it_is_shown() -> None:
    losses: list[float] = []
    student = train(samples(), 2, QUICK, lambda step, loss: losses.append(loss))
    for image, labels in samples():
        found = predict(student, image)
        assert found.shape == labels.shape and found.dtype == np.uint8
        assert np.mean(found == labels) > 0.9


def test_ignored_pixels_teach_nothing() -> None:
    """Where the blue half is ignored, a third category is never learned, and nothing ignored changes the weights."""
    student = train(samples(wrong=IGNORE), 2, QUICK)
    assert all(np.mean(predict(student, image)[labels == 1] == 1) > 0.9 for image, labels in samples())
    nothing = [(image, np.full_like(labels, IGNORE)) for image, labels in samples()]
    untouched, fresh = train(nothing, 2, QUICK), train(nothing, 2, StudentConfig(steps=1, batch=2, widths=(8, 12)))
    for one, other in zip(untouched.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_same_seed_gives_the_same_student() -> None:
    short = StudentConfig(steps=3, batch=2, widths=(8, 12))
    one, other = (train(samples(), 2, short).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_any_size_is_predicted() -> None:
    student = Student(3, (8, 12, 16)).eval()
    for size in ((33, 57), (128, 40), (17, 200)):
        labels = predict(student, np.zeros((*size, 3), np.uint8))
        assert labels.shape == size and labels.min() >= 1 and labels.max() <= 3

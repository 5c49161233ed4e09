"""Comparisons image by image; expected values by hand, and coverage measured in simulated experiments."""

import math

import numpy as np
import pytest
from scipy import stats

from explorer.frontier import MetricCurve, best_by_budget, trials_frame
from explorer.frontier.paired import resampled_together, shares_correct
from explorer.frontier.uncertainty import floored_error, percentiles, resampled_means
from explorer.ledger.correct_images import CorrectImages
from tests.ledger.test_ledger import make_header, make_inventory, make_record

EASY, HARD = [True] * 90, [False] * 10


def recorded(flags) -> CorrectImages:
    return CorrectImages.of(np.array(flags))


def test_shares_by_hand():
    runs = [recorded([True, True, False]), recorded([True, False, False])]
    assert shares_correct([runs, runs[:1]]).tolist() == [[1, 0.5, 0], [1, 1, 0]]
    assert shares_correct([runs, [*runs, None]]) is None  # of an earlier release
    assert shares_correct([runs, [math.nan]]) is None  # what a table has in place of it
    assert shares_correct([runs, [recorded([True])]]) is None
    assert shares_correct([runs, []]) is None
    assert shares_correct([]) is None


def test_trainings_that_agree_on_all_images_deviate_together():
    """Each 90 % of 100 images: 3 points of error that both have, and (1 / 102) of a difference that nobody has seen."""
    share_NI = np.array([EASY + HARD] * 2, float)
    draws_DN = resampled_together([0.9, 0.9], [0, 0], [3, 3], share_NI, draws=20_000)
    # Of each: the sample variance .9 * .1 * 100 / 99 over 100 images, and half of (1 / 102)^2; draws above 1 are cut.
    own = draws_DN[:, 0][draws_DN[:, 0] < 1]
    assert np.subtract(0.9, np.quantile(own, 0.025)) == pytest.approx(1.96 * (0.09 / 99 + 0.5 / 102**2) ** 0.5, rel=0.05)
    difference_D = draws_DN[:, 1] - draws_DN[:, 0]
    assert difference_D.std() == pytest.approx(1 / 102, rel=0.05)
    # Counted as independent, the difference would have four times this error.
    independent = resampled_means([0.9, 0.9], floored_error([0.9] * 2, [0, 0], [3, 3], [100] * 2), [3, 3])
    assert np.ptp(percentiles(independent[:, 1] - independent[:, 0])) > 3 * np.ptp(percentiles(difference_D))


def test_trainings_that_err_on_other_images_do_not():
    """One errs on images 0 to 9, the other on 10 to 19: the difference has (20 + 1) / 100^2 or so, as of independent ones."""
    share_NI = np.array([HARD + EASY, [True] * 10 + HARD + [True] * 80], float)
    difference_D = np.subtract(*resampled_together([0.9, 0.9], [0, 0], [3, 3], share_NI, draws=20_000).T)
    assert difference_D.std() == pytest.approx((0.2 / 99 + 1 / 102**2) ** 0.5, rel=0.05)


def test_seeds_that_agree_by_chance_still_disagree_on_images():
    """Two seeds, both 50 %, one on the even and one on the odd images: images alone give the mean an error of sqrt(25) / 100."""
    share_NI = np.full((1, 100), 0.5)
    low, high = percentiles(resampled_together([0.5], [0.0], [2], share_NI, draws=20_000)[:, 0])
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.01)


@pytest.mark.parametrize(("seeds", "scatter", "images"), [(3, 0.1, 400), (5, 0.02, 2000)])
def test_the_interval_of_a_difference_covers_the_truth(seeds, scatter, images):
    """300 experiments with two methods, each with other test images and seeds. Images are easy or hard for both."""
    generator = np.random.default_rng(0)

    def correct(ability, difficulty):
        probability = 1 / (1 + np.exp(difficulty - ability))
        return generator.random(probability.shape) < probability

    def many_abilities(mean):
        return correct(generator.normal(mean, scatter, 1_000_000), generator.normal(0, 2, 1_000_000)).mean()

    truth, covered, ratios = many_abilities(2.2) - many_abilities(2.0), [], []
    for _ in range(300):
        difficulty_I = generator.normal(0, 2, images)
        flags = [correct(generator.normal(mean, scatter, (seeds, 1)), difficulty_I) for mean in (2.0, 2.2)]
        means, errors = ([read(each.mean(axis=1)) for each in flags] for read in (np.mean, stats.sem))
        share_NI = np.stack([each.mean(axis=0) for each in flags])
        low, high = percentiles(np.diff(resampled_together(means, errors, [seeds] * 2, share_NI))[:, 0])
        covered.append(low <= truth <= high)
        floored = floored_error(means, errors, [seeds] * 2, [images] * 2)
        ratios.append((high - low) / np.ptp(percentiles(np.diff(resampled_means(means, floored, [seeds] * 2))[:, 0])))
    assert np.mean(covered) > 0.94
    assert np.median(ratios) < 0.95


def records(correct) -> list:
    """Fresh runs of the full model at 100 %, and of staged training at 25 and 100 %: 85, 90 and 95 of 100 images, three seeds."""
    made = []
    for kind, budget, first_wrong in (("baseline", "100%", 90), ("staged", "25%", 85), ("staged", "100%", 95)):
        searched = f"{budget}-{kind}"
        flags = np.arange(100) < first_wrong
        made.append(make_record(searched, kind=kind, budget=budget, test=flags.mean()))
        for seed in (1, 2, 3):
            record = make_record(
                f"{searched}-{seed}", kind=kind, budget=budget, test=flags.mean(), seed=seed, repeat_of=searched
            )
            with_flags = record.outcome.model_copy(update={"test_correct": CorrectImages.of(flags) if correct else None})
            made.append(record.model_copy(update={"outcome": with_flags}))
    return made


def test_the_cost_to_match_is_more_certain_where_the_images_are_known():
    """The staged curve passes 90 % half way between 25 and 100 %, at 50 %, by five images that nobody else gets right."""
    header = make_header().model_copy(update={"inventory": make_inventory()})
    matches = []
    for correct in (True, False):
        best = best_by_budget(trials_frame(records(correct), header))
        staged = MetricCurve.through(best[best.kind == "staged"])
        matches.append(staged.cost_to_match(best[best.kind == "baseline"].iloc[0]))
    paired, independent = matches
    assert paired.cost == independent.cost == pytest.approx(0.5, rel=1e-2)
    assert 0.25 < paired.low < 0.4
    assert 0.6 < paired.high < 1
    assert (independent.low, independent.high) == (0.25, math.inf)


def test_records_of_earlier_releases_are_compared_as_before():
    header = make_header().model_copy(update={"inventory": make_inventory()})
    some = [*records(correct=True)[:-1], records(correct=False)[-1]]
    best = best_by_budget(trials_frame(some, header))
    assert [shares_correct([runs]) is None for runs in best.test_correct] == [False, True, False]
    assert shares_correct(MetricCurve.through(best[best.kind == "staged"]).test_correct) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": 9, "packed": "/w=="}, "must have 9 bits, but has 1 bytes"),
        ({"images": 8, "packed": "?"}, "must be base64"),
        ({"images": 0, "packed": ""}, "greater than or equal to 1"),
    ],
)
def test_damaged_flags_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        CorrectImages.model_validate(content)


def test_flags_survive_packing():
    for images in (1, 7, 8, 9, 360):
        flags = np.random.default_rng(0).random(images) < 0.5
        assert (CorrectImages.model_validate_json(CorrectImages.of(flags).model_dump_json()).flags() == flags).all()
    assert CorrectImages.of(None) is None
    assert CorrectImages.of(np.ones(200_001, bool)) is None

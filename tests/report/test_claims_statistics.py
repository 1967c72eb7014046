"""Statistics of the claims, compared with scipy's tests, written-out formulas and published examples."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from repro.report.claims.statistics import (
    Contrast,
    Sample,
    binomial_error,
    combined,
    describe,
    holm,
    paired,
    prediction,
    replication_bayes_factor,
    trend,
    welch,
)

A = [8.61, 8.44, 8.73, 8.52, 8.9]
B = [9.02, 9.31, 8.87, 9.4]
VALUES = st.lists(st.integers(600, 900).map(lambda errors: errors / 100), min_size=2, max_size=7)


def against(values: list[float], number: float) -> Contrast:
    return combined([(1, describe(values))], number)


def test_the_deviation_is_over_seeds_with_n_minus_1():
    sample = describe(A)
    assert (sample.n, sample.mean) == (5, pytest.approx(8.64))
    assert sample.std == pytest.approx(math.sqrt(sum((x - 8.64) ** 2 for x in A) / 4))
    assert describe([7.0]) == Sample(1, 7.0, None)


def test_welch_is_scipys():
    ours, theirs = welch(describe(A), describe(B)), stats.ttest_ind(A, B, equal_var=False)
    assert (ours.t, ours.p, ours.df) == pytest.approx((theirs.statistic, theirs.pvalue, theirs.df))
    assert ours.interval(0.05) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_welch_with_a_published_mean_and_deviation_is_scipys():
    ours = welch(describe(A), Sample(5, 6.61, 0.16))
    theirs = stats.ttest_ind_from_stats(statistics.fmean(A), statistics.stdev(A), 5, 6.61, 0.16, 5, equal_var=False)
    assert (ours.t, ours.p) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_welchs_degrees_of_freedom_of_a_worked_example():
    # Rows of s^2/n 0.25 and 1: df = 1.25^2 / (0.25^2/3 + 1^2/8), by hand.
    assert welch(Sample(4, 10, 1.0), Sample(9, 12, 3.0)).df == pytest.approx(1.5625 / (0.0625 / 3 + 1 / 8))


def test_pairs_and_one_sample_are_scipys():
    theirs = stats.ttest_rel(A[:4], B)
    assert (paired(A[:4], B).t, paired(A[:4], B).p) == pytest.approx((theirs.statistic, theirs.pvalue))
    theirs = stats.ttest_1samp(A, 9)
    assert (against(A, 9).t, against(A, 9).p) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_student_s_sleep_data_of_1908_in_pairs():
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired(second, first)
    assert (found.t, found.df, found.p) == (pytest.approx(4.0621, abs=1e-4), 9, pytest.approx(0.002833, abs=1e-6))


def test_a_single_published_run_has_the_wider_interval_of_one_more_run():
    found = prediction(describe(A), 8.75)
    half = 2.776445 * statistics.stdev(A) * math.sqrt(1 + 1 / 5)
    assert found.interval(0.05) == pytest.approx((8.64 - 8.75 - half, 8.64 - 8.75 + half))
    assert found.half_width(0.05) > 2 * against(A, 8.75).half_width(0.05)


def test_one_more_run_lies_within_its_interval_as_often_as_it_should():
    runs = numpy.random.default_rng(1).normal(8.7, 0.2, (4000, 6))
    outside = sum(prediction(describe(list(row[:5])), row[5]).p < 0.05 for row in runs)
    assert 0.035 < outside / 4000 < 0.065


def test_the_gap_of_one_more_pair():
    found = combined([(1, describe(B)), (-1, describe(A))], 0.5, single_runs=True)
    variances = [statistics.variance(x) * (1 + 1 / len(x)) for x in (B, A)]
    assert found.difference == pytest.approx(statistics.fmean(B) - statistics.fmean(A) - 0.5)
    assert found.error == pytest.approx(math.sqrt(sum(variances)))


def test_equivalence_is_two_one_sided_tests():
    contrast = welch(describe(A), describe(B))
    upper = stats.t.cdf((contrast.difference - 1.5) / contrast.error, contrast.df)
    lower = stats.t.sf((contrast.difference + 1.5) / contrast.error, contrast.df)
    assert contrast.p_within(1.5) == pytest.approx(max(upper, lower))
    assert contrast.p_within(0.3) > 0.5
    assert contrast.p_beyond(0.1) == pytest.approx(
        2 * stats.t.sf((-contrast.difference - 0.1) / contrast.error, contrast.df)
    )


def test_equivalence_agrees_with_the_interval_of_90_percent():
    for shift in (0.0, 0.2, 0.4, 0.6, 0.8):
        contrast = welch(describe([a + shift for a in A]), describe(B))
        low, high = contrast.interval(0.1)
        assert (contrast.p_within(0.5) < 0.05) == (low > -0.5 and high < 0.5)


def test_seeds_that_agree_have_the_spread_of_one_count():
    found = combined([(1, describe([90.0] * 5, resolution=0.01))], 60)
    assert (found.error, found.df) == (pytest.approx(0.01 / math.sqrt(5)), pytest.approx(4))
    assert describe(A, resolution=0.01).std == statistics.stdev(A)
    assert describe([8.7], resolution=0.01).std is None
    assert paired([8.1 + 0.2, 7.1 + 0.2, 6.3 + 0.2], [8.1, 7.1, 6.3], 0.01).error == pytest.approx(0.01 / math.sqrt(3))


def test_an_interaction_is_the_difference_of_two_differences():
    groups = [A, B, [7.1, 7.3, 7.6], [9.0, 9.9, 9.2]]
    found = combined([(w, describe(g)) for w, g in zip((1, -1, -1, 1), groups, strict=True)])
    means = [statistics.fmean(group) for group in groups]
    shares = [(statistics.variance(group) / len(group), len(group) - 1) for group in groups]
    assert found.difference == pytest.approx((means[3] - means[2]) - (means[1] - means[0]))
    assert found.error == pytest.approx(math.sqrt(sum(share for share, _ in shares)))
    assert found.df == pytest.approx(found.error**4 / sum(share**2 / df for share, df in shares))


def test_a_known_variance_widens_the_error_and_frees_it():
    bare, wide = combined([(1, describe(A))], 8), combined([(1, describe(A))], 8, more_variance=0.04)
    assert wide.error == pytest.approx(math.hypot(bare.error, 0.2))
    assert wide.df > 4 * bare.df


def test_one_sided_tests_are_scipys():
    theirs = stats.ttest_1samp(A, 8.5, alternative="greater")
    found = combined([(1, describe(A))])
    assert found.p_above(8.5) == pytest.approx(theirs.pvalue)
    assert found.p_below(8.5) == pytest.approx(1 - theirs.pvalue)


def test_the_replication_bayes_factor_is_the_formula_of_verhagen_and_wagenmakers():
    parts = [(1.0, describe(B)), (-1.0, describe(A))]
    mean, single = combined(parts), math.sqrt(statistics.variance(A) + statistics.variance(B))
    published = stats.t(combined(parts, 0.5, single_runs=True).df, 0.5, math.hypot(single, mean.error))
    none = stats.t(mean.df, 0, mean.error)
    expected = published.pdf(mean.difference) / none.pdf(mean.difference)
    assert replication_bayes_factor(parts, 0.5) == pytest.approx(expected)


def test_runs_near_the_published_effect_speak_for_it_and_equal_nets_against():
    def factor(difference: float) -> float:
        return replication_bayes_factor([(1.0, Sample(5, difference, 0.16)), (-1.0, Sample(5, 0, 0.16))], 0.6)

    assert factor(0.6) > 10 > 1 > factor(0.0)


def test_one_group_may_be_without_a_spread():
    assert welch(describe([1.0, 1.0]), describe([2.0, 3.0, 2.5])).df == pytest.approx(2)


@given(VALUES, VALUES)
def test_swapping_the_groups_flips_the_sign_and_nothing_else(a, b):
    assume(len({*a}) > 1 or len({*b}) > 1)
    one, other = welch(describe(a), describe(b)), welch(describe(b), describe(a))
    assert one.difference == pytest.approx(-other.difference)
    assert (one.p, one.df, one.p_within(0.5)) == pytest.approx((other.p, other.df, other.p_within(0.5)))
    assert one.interval(0.05)[0] == pytest.approx(-other.interval(0.05)[1])


def test_power_of_a_published_table():
    # Cohen's table: two groups of 17 find a difference of one standard deviation with a power of 80 %.
    found = welch(Sample(17, 0, 1.0), Sample(17, 0, 1.0))
    assert found.detectable(0.05, 0.8) == pytest.approx(0.99, abs=0.01)


def test_five_seeds_find_two_standard_deviations_and_no_less():
    found = welch(Sample(5, 0, 0.16), Sample(5, 0, 0.16))
    assert found.detectable(0.05, 0.8) / 0.16 == pytest.approx(2.02, abs=0.01)
    draws = numpy.random.default_rng(2).normal(0, 0.16, (2000, 10))
    draws[:, 5:] += found.detectable(0.05, 0.8)
    rejected = stats.ttest_ind(draws[:, :5], draws[:, 5:], axis=1).pvalue < 0.05
    assert rejected.mean() == pytest.approx(0.8, abs=0.03)


def test_a_trend_counts_the_pairs_that_rise():
    found = trend([[1.0, 2.0], [2.0, 4.0], [5.0]])
    # By hand: (1,2) (1,4) (1,5) (2,4) (2,5) (2,5) (4,5) rise, (2,2) is a tie.
    assert (found.j, found.pairs, found.rising) == (7.5, 8, True)


def test_a_trend_has_the_p_of_all_permutations():
    groups = [[9.0, 9.2], [8.1, 8.4], [7.7, 8.2]]
    values = [x for group in groups for x in group]

    def j(order):
        return sum(
            (order[b] > order[a]) + (order[b] == order[a]) / 2 for a in range(6) for b in range(6) if a // 2 < b // 2
        )

    exact = stats.permutation_test((values,), j, permutation_type="pairings", vectorized=False, n_resamples=1000)
    assert trend(groups).p == pytest.approx(exact.pvalue, abs=0.01)


def test_a_trend_finds_what_no_pair_of_neighbours_does():
    offsets = [-0.2, -0.1, 0.0, 0.1, 0.2]
    groups = [[8.0 - 0.1 * depth + offset for offset in offsets] for depth in range(5)]
    neighbours = [welch(describe(a), describe(b)).p for a, b in itertools.pairwise(groups)]
    found = trend(groups)
    assert min(neighbours) > 0.2
    assert found.p < 0.01 and not found.rising


def test_a_trend_is_called_by_chance_as_often_as_alpha_allows():
    draws = numpy.random.default_rng(3).normal(8, 0.2, (150, 4, 4))
    assert sum(trend(list(groups)).p < 0.05 for groups in draws) <= 15


@given(st.lists(VALUES, min_size=3, max_size=4))
def test_a_trend_the_other_way_round_is_the_mirror_image(groups):
    forward, back = trend(groups), trend(groups[::-1])
    assert forward.j + back.j == forward.pairs


def test_holm_on_the_example_of_his_method():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_declared_test_that_was_not_made_makes_no_other_surer():
    assert holm([0.01, 0.02], 5) == pytest.approx([0.05, 0.08])
    assert holm([], 3) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 3))
def test_holm_corrects_upwards_keeps_the_order_and_is_never_above_bonferroni(ps, unmade):
    total = len(ps) + unmade
    corrected = holm(ps, total)
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert all(p <= q <= 1 for p, q in zip(ps, corrected, strict=True))
    assert [corrected[i] for i in order] == sorted(corrected)
    assert all(q <= min(1, total * p) + 1e-12 for p, q in zip([ps[order[0]]], [corrected[order[0]]], strict=True))


def test_what_10000_images_allow_a_single_run():
    assert binomial_error(8.75, 10_000) == pytest.approx(0.2826, abs=1e-4)
    assert binomial_error(0.0, 10_000) == 0

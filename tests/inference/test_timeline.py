"""When output frames are shown; witnesses count on the fingers or search for the frame shown."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlossy.errors import UserError
from unlossy.inference.timeline import LONGEST, Planned, Slot, Timeline, Timing, exactly
from unlossy.video import Frame

RGB = torch.zeros(3, 1, 1, dtype=torch.uint8)


def frames(durations: list[F], start: F = F(0)) -> list[Frame]:
    found = []
    for duration in durations:
        found.append(Frame(RGB, None, start, duration))
        start += duration
    return found


def planned(timeline: Timeline, durations: list[F], start: F = F(0)) -> list[Planned]:
    return list(timeline.plan(iter(frames(durations, start))))


def slots(timeline: Timeline, durations: list[F], start: F = F(0)) -> list[tuple[F, Slot]]:
    """All output frames, with the place in the input that they ask for."""
    found = planned(timeline, durations, start)
    return [(i + slot.at, slot) for i, (_, each) in enumerate(found) for slot in each]


def test_a_factor_divides_every_delay_of_a_gif():
    found = slots(Timeline(2, F(10)), [F(4, 100), F(10, 100), F(3, 100)])
    assert [place for place, _ in found] == [0, F(1, 2), 1, F(3, 2), 2, 2]
    assert [slot.duration for _, slot in found] == [
        F(2, 100), F(2, 100), F(5, 100), F(5, 100), F(3, 200), F(3, 200)
    ]  # fmt: skip
    assert [slot.time * 200 for _, slot in found] == [0, 4, 8, 18, 28, 31]


def test_24_to_60():
    """Two and a half frames for each one: 0, .4, .8, 1.2, 1.6, 2, 2.4, 2.8, and the last held."""
    found = slots(Timing(fps=F(60)).timeline(F(24), 1), [F(1, 24)] * 4)
    assert [place for place, _ in found] == [F(2 * k, 5) for k in range(8)] + [3, 3]
    assert [slot.time for _, slot in found] == [F(k, 60) for k in range(10)]
    assert {slot.duration for _, slot in found} == {F(1, 60)}


def test_variable_frame_rate_on_an_even_grid():
    """Shown from 0, 10, 15 and 45 ms until 60 ms; asked for every 10 ms."""
    found = slots(Timeline(None, F(100)), [F(10, 1000), F(5, 1000), F(30, 1000), F(15, 1000)])
    assert [place for place, _ in found] == [0, 1, 2 + F(1, 6), 2 + F(1, 2), 2 + F(5, 6), 3]


def test_slow_motion_at_the_same_rate():
    found = slots(Timing(slow=F(4)).timeline(F(25), 1), [F(1, 25)] * 2)
    assert [slot.time for _, slot in found] == [F(k, 25) for k in range(8)]
    assert [place for place, _ in found] == [0, F(1, 4), F(1, 2), F(3, 4), 1, 1, 1, 1]
    uneven = slots(Timing(slow=F(5, 2)).timeline(F(25), 1), [F(1, 25)] * 2)
    assert [place for place, _ in uneven] == [0, F(2, 5), F(4, 5), 1, 1]
    still = slots(Timing(slow=F(4), factor=F(1)).timeline(F(25), 1), [F(1, 25)] * 2)
    assert [tuple(slot) for _, slot in still] == [(0, 0, F(4, 25)), (0, F(4, 25), F(4, 25))]


def test_what_is_not_asked_for_is_not_touched():
    durations = [F(0), F(7, 100), F(0), F(4, 100)]
    for timing in (Timing(), Timing(factor=F(1)), Timing(fps=F(30)), Timing(fps=F("29.9999"))):
        timeline = timing.timeline(F(30), 1)
        assert timeline.untouched
        for frame, each in planned(timeline, durations):
            assert each == [Slot(F(0), frame.time, frame.duration)]
        assert timeline.clock(F(1, 77)) == F(1, 77)
    assert not Timing(fps=F(30000, 1001)).timeline(F(30), 1).untouched


def test_the_mean_rate_of_uneven_frames_is_an_even_grid():
    """Shown for 20 and 200 ms by turns; asked for every 110 ms."""
    timeline = Timing(fps=F(100, 11)).timeline(F(100, 11), 1, even=False)
    found = slots(timeline, [F(2, 100), F(20, 100)] * 2)
    assert [place for place, _ in found] == [0, 1 + F(9, 20), 2 + F(0), 3]
    assert {slot.duration for _, slot in found} == {F(11, 100)}


def test_clocks_that_count_milliseconds_do_not_ask_for_blurred_frames():
    """The 24th of a second as WebM stores it, brought to 24 frames a second."""
    stamps = [F(round(1000 * F(k, 24)), 1000) for k in range(49)]
    durations = [b - a for a, b in pairwise(stamps)]
    found = slots(Timeline(None, F(24)), durations)
    assert [place for place, _ in found] == list(range(48))
    slowed = slots(Timeline(None, F(24), F(4)), durations)
    assert [place for place, _ in slowed[::4]] == list(range(48))


def test_a_frame_shown_for_long_moves_from_the_start_to_the_end():
    found = slots(Timeline(None, F(60)), [F(2), F(1, 60)])
    assert [place for place, _ in found] == [F(k, 120) for k in range(121)]


def test_input_frames_faster_than_the_snap_are_told_apart():
    """A grid of 3 ms over frames of 2 ms: nothing moves by more than a quarter of 3 ms."""
    found = slots(Timeline(None, F(1000, 3)), [F(1, 500)] * 6)
    assert [place for place, _ in found] == [0, F(3, 2), 3, F(9, 2)]


@settings(max_examples=40)
@given(
    durations=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    rate=st.fractions(F(1, 2), F(240), max_denominator=1001),
    slow=st.fractions(F(1, 4), F(8), max_denominator=7),
    start=st.integers(0, 50),
)
def test_an_even_grid_shows_what_is_shown_then(durations, rate, slow, start):
    shown = [F(d, 1000) for d in durations]
    timeline, first = Timeline(None, rate, slow), F(start, 1000)
    found = slots(timeline, shown, first)
    times = [slot.time for _, slot in found]
    assert times == [first * slow + k / rate for k in range(len(times))]
    assert len(times) == timeline.count(len(shown), sum(shown), shown[-1])
    length = len(times) / rate
    assert abs(length - sum(shown) * slow) < 1 / rate or len(times) == 1
    begins = [sum(shown[:i], F(0)) for i in range(len(shown))]
    for place, slot in found[:: max(1, len(found) // 100)]:
        at = slot.time / slow - first  # in the input
        i = max(k for k, begin in enumerate(begins) if begin <= at)
        wanted = i + ((at - begins[i]) / shown[i] if i < len(shown) - 1 else 0)
        moved = abs(place - wanted) * shown[min(i, len(shown) - 1)]
        assert place == wanted or (moved <= F(1, 1000) and place.denominator == 1)
        assert moved <= 1 / (4 * rate * slow)


@settings(max_examples=40)
@given(
    durations=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    parts=st.integers(1, 9),
    slow=st.fractions(F(1, 4), F(8), max_denominator=7),
)
def test_a_factor_keeps_number_and_length_exactly(durations, parts, slow):
    shown = [F(d, 100) for d in durations]
    timeline = Timeline(parts, F(25), slow)
    found = slots(timeline, shown)
    assert len(found) == parts * len(shown) == timeline.count(len(shown), sum(shown), shown[-1])
    assert found[-1][1].time + found[-1][1].duration == sum(shown) * slow
    for (_, a), (_, b) in pairwise(found):
        assert a.time + a.duration == b.time
    tick = timeline.clock(F(1, 100))
    if not timeline.untouched:
        assert all((slot.time / tick).denominator == 1 for _, slot in found)


def test_the_clock_of_an_even_grid_holds_its_times():
    for rate in (F(60), F(60000, 1001), F(25, 2)):
        tick = Timeline(None, rate).clock(F(1, 1000))
        assert all((k / rate / tick).denominator == 1 for k in range(9))
        assert (F(7, 1000) / tick).denominator == 1  # a film that starts late
        assert F(1, 10**6) <= tick <= F(1, 90_000)
    odd = Timeline(None, F(60000, 1001)).clock(F(1, 12_288))
    assert (F(1001, 60000) / odd).denominator == 1
    assert F(1, 10**6) <= odd <= F(1, 90_000)


def test_time_stamps_that_stand_still():
    """Two frames with one stamp: neither a division by zero nor a frame too few."""
    stream = [Frame(RGB, None, t, F(1, 25)) for t in (F(0), F(1, 25), F(1, 25), F(2, 25))]
    two = [(len(each), each[0].at) for _, each in Timeline(2, F(50)).plan(iter(stream))]
    assert two == [(2, 0)] * 4
    even = [[slot.at for slot in each] for _, each in Timeline(None, F(50)).plan(iter(stream))]
    assert even == [[0, F(1, 2)], [], [0, F(1, 2)], [0, 0]]


def test_time_that_runs_back():
    stream = [Frame(RGB, None, t, F(1, 25)) for t in (F(0), F(2, 25), F(1, 25))]
    with pytest.raises(UserError, match=r"^frame 2 is stamped earlier.*--factor"):
        list(Timeline(None, F(50)).plan(iter(stream)))
    assert sum(len(each) for _, each in Timeline(2, F(50)).plan(iter(stream))) == 6


def test_a_gap_of_hours_is_refused():
    with pytest.raises(UserError, match=r"^frame 1 stays for 7200 seconds.*lower --fps"):
        slots(Timeline(None, F(60)), [F(1, 25), F(7200), F(1, 25)])
    assert LONGEST / 60 > 655.35  # what a GIF may hold


@pytest.mark.parametrize(
    ("timing", "sentence"),
    [
        ({"factor": F(2), "fps": F(60)}, "give one"),
        ({"fps": F(0)}, "--fps 0 does not work"),
        ({"factor": F(-2)}, "--factor -2"),
        ({"slow": F(0)}, "--slow 0"),
    ],
)
def test_nonsense_is_refused(timing, sentence):
    with pytest.raises(UserError, match=sentence):
        Timing(**timing)


def test_more_frames_than_milliseconds_are_refused():
    with pytest.raises(UserError, match="at most 1000"):
        Timing(factor=F(100)).timeline(F(25), 1)
    assert Timing(factor=F(100), slow=F(100)).timeline(F(25), 1).rate == 25
    assert Timing().timeline(F(90_000), 1).untouched  # what a damaged file may claim


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60", F(60)),
        ("2.5", F(5, 2)),
        ("30000/1001", F(30000, 1001)),
        ("23.976", F(24000, 1001)),
        ("29.97", F(30000, 1001)),
        ("59.94", F(60000, 1001)),
        ("24", F(24)),
        ("25.5", F(51, 2)),
    ],
)
def test_numbers_as_users_write_them(text, value):
    assert exactly(text) == value


@pytest.mark.parametrize("text", ["", "fast", "1/0", "nan", "inf"])
def test_what_is_no_number(text):
    with pytest.raises(UserError, match="no number"):
        exactly(text)

"""What a process knows of epochs without asking: never what has changed, however words and answers interleave."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from pooling.store._known import Known

NAMES = ["a", "b", "c", "d"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def listening(clock: Clock | None = None, **options) -> Known:
    known = Known(clock or Clock(), **options)
    known.open()
    known.trust(10.0)
    return known


def test_a_value_is_kept_until_it_changes():
    known = listening()
    assert known.vector(["a"]) is None
    known.keep(known.begin(), ["a", "b"], (b"1", b"2"))
    assert known.vector(["b", "a"]) == (b"2", b"1")
    known.changed(["a", "unheard of"])
    assert known.vector(["a"]) is None
    assert known.vector(["b"]) == (b"2",)


def test_a_change_between_reading_and_keeping_is_not_overwritten():
    known = listening()
    begun = known.begin()
    known.changed(["a"])
    known.keep(begun, ["a", "b"], (b"old", b"2"))
    assert known.vector(["a"]) is None
    assert known.vector(["b"]) == (b"2",)
    known.keep(known.begin(), ["a"], (b"new",))
    assert known.vector(["a"]) == (b"new",)


def test_what_was_read_before_a_loss_is_not_kept_after_it():
    known = listening()
    for lose in (known.all_changed, known.close):
        begun = known.begin()
        lose()
        known.open()
        known.trust(10.0)
        known.keep(begun, ["a"], (b"old",))
        assert known.vector(["a"]) is None


def test_nothing_is_kept_while_no_change_can_be_told():
    known = Known(Clock())
    begun = known.begin()
    known.keep(begun, ["a"], (b"1",))
    known.open()
    known.trust(10.0)
    known.keep(begun, ["a"], (b"1",))
    assert known.vector(["a"]) is None
    known.close()
    known.trust(10.0)  # an answer that comes too late
    assert known.vector([]) is None


def test_what_is_known_counts_until_the_time_that_was_said():
    clock = Clock()
    known = listening(clock)
    known.keep(known.begin(), ["a"], (b"1",))
    clock.now = 9.99
    assert known.vector(["a"]) == (b"1",)
    clock.now = 10.0
    assert known.vector(["a"]) is None
    known.trust(11.0)
    assert known.vector(["a"]) == (b"1",)


class Words(RuleBasedStateMachine):
    """A server whose words come late, and readers whose answers do. ``limit`` is so low that all is forgotten often."""

    begun = Bundle("begun")

    @initialize(limit=st.integers(3, 6))
    def start(self, limit: int) -> None:
        self.known = listening(limit=limit)
        self.limit = limit
        self.values = dict.fromkeys(NAMES, 0)
        self.told: list[str | None] = []  # by the server, not heard yet

    @rule(target=begun, names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    def ask(self, names):
        number = self.known.begin()
        return number, names, tuple(b"%d" % self.values[name] for name in names)

    @rule(asked=consumes(begun))
    def answer(self, asked):
        self.known.keep(*asked)

    @rule(name=st.sampled_from(NAMES))
    def write(self, name):
        self.values[name] += 1
        self.told.append(name)

    @rule(name=st.sampled_from(NAMES))
    def write_here(self, name):
        self.write(name)
        self.known.changed([name])

    @rule()
    def hear(self):
        if self.told:
            self.known.changed([self.told.pop(0)])

    @rule()
    def lose(self):
        self.told.clear()
        self.known.close()
        self.known.open()
        self.known.trust(10.0)

    @invariant()
    def nothing_old_is_known(self):
        if not hasattr(self, "known"):
            return
        assert len(self.known._values) <= self.limit
        assert len(self.known._changes) <= self.limit
        for name in set(NAMES) - set(self.told):
            vector = self.known.vector([name])
            assert vector is None or vector == (b"%d" % self.values[name],)


TestWords = Words.TestCase
TestWords.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

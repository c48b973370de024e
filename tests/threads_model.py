"""A model of base/threads.c: all interleavings of its atomic operations, for a few threads, jobs, steps and units.

    threads_model.py THREADS JOBS UNITS...      UNITS: of each step of a job

A state is all that the threads share, and for each thread where it is in the program and its variables. `explore` follows
every order in which the threads can go on, one atomic operation at a time, and checks that

  - every unit is computed exactly once, after all units of the step before;
  - no thread is in the function of a job that is over, whose arguments may be gone;
  - a state in which no thread can go on is the end, and from every state the end can be reached: no wake-up is lost.

Memory is sequentially consistent here. In C the operations on `claimed` are relaxed, as a word's own order is all that they
need, and what a step has written is released through `done` and acquired through `now`. A thread may stop spinning at any
time, and each step may have any number of shares: threads without one leave. Every thread with a share is woken, by
threads.c no more than there are processors: nobody waits for the others. Names are those of threads.c. `broken` leaves
something out of it; tests show that the model notices.
"""

import sys
from collections import namedtuple

State = namedtuple("State", "gate now done claimed sleepers asleep blocked disbanded computed alive threads")
# pc: where it is; then: where it goes on after a check (`then` if the wait is over) or after waking others
Thread = namedtuple("Thread", "pc then step job back_at left shares share old piece finished kind look")
START = Thread("spin", None, 1, 0, 99, False, 0, 0, None, None, 0, "work", None)
BROKEN = ("no second look", "no wake after a step", "no wake when leaving", "nobody counts the threads inside",
          "claims are not tagged", "the step ends with the claims")  # fmt: skip


class Model:
    def __init__(self, threads, jobs, units, broken=None):
        self.threads, self.jobs, self.units, self.broken = threads, jobs, units, broken

    def start(self):
        n = self.threads
        threads = (START._replace(pc="begin"),) + (START,) * (n - 1)
        computed = (0,) * (self.jobs * sum(self.units))
        return State((0, False, 0), (0, n), 0, ((0, 0),) * n, 0, (0,) * n, (False,) * n, False, computed, False, threads)

    def is_end(self, s):
        return all(t.pc == "end" for t in s.threads)

    def successors(self, s):
        for i, t in enumerate(s.threads):
            if t.pc != "end" and not s.blocked[i]:
                yield from getattr(self, t.pc)(s, i, t)

    # --- Waiting: every look is as many atomic loads as in C.

    def is_over(self, s, i, t):
        number, shares = s.now
        if t.kind == "step":
            return number >= t.step
        if t.kind == "left":
            return s.gate[2] == 0 or self.broken == "nobody counts the threads inside"
        job, is_open, _ = t.look
        return s.disbanded or (is_open and i < shares and (job != t.job or number >= t.back_at))

    def look(self, s, i, t, over, not_over):
        """Loads the gate and then the rest: `now` may be newer."""
        if t.kind == "work" and t.look is None:
            yield put(s, i, look=s.gate)
        else:
            yield put(s, i, pc=over if self.is_over(s, i, t) else not_over, look=None)

    def spin(self, s, i, t):
        yield from self.look(s, i, t, t.then or "disband_or_join", "count_sleeper")

    def count_sleeper(self, s, i, t):
        yield put(s._replace(sleepers=s.sleepers + 1), i, pc="fall_asleep")

    def fall_asleep(self, s, i, t):
        yield put(s._replace(asleep=at(s.asleep, i, 1)), i,
                  pc="futex_wait" if self.broken == "no second look" else "look_again")  # fmt: skip

    def look_again(self, s, i, t):
        yield from self.look(s, i, t, "rise", "futex_wait")

    def futex_wait(self, s, i, t):
        yield put(s._replace(blocked=at(s.blocked, i, s.asleep[i] == 1)), i, pc="rise")

    def rise(self, s, i, t):
        yield put(s._replace(asleep=at(s.asleep, i, 0)), i, pc="uncount_sleeper")

    def uncount_sleeper(self, s, i, t):
        yield put(s._replace(sleepers=s.sleepers - 1), i, pc="spin")

    # --- Waking others: `old` is who is looked at next, `piece` the end of the range.

    def wake_range(self, s, i, t):
        yield put(s, i, pc="wake" if s.sleepers else t.then)

    def wake(self, s, i, t):
        yield put(s, i, pc=t.then if t.old == t.piece else "exchange" if s.asleep[t.old] else "wake",
                  old=t.old + (t.old < t.piece and not s.asleep[t.old]))  # fmt: skip

    def exchange(self, s, i, t):
        was = s.asleep[t.old]
        yield put(s._replace(asleep=at(s.asleep, t.old, 0)), i, pc="futex_wake" if was else "wake",
                  old=t.old + (not was))  # fmt: skip

    def futex_wake(self, s, i, t):
        yield put(s._replace(blocked=at(s.blocked, t.old, False)), i, pc="wake", old=t.old + 1)

    # --- Steps

    def team_step(self, s, i, t):
        """Takes part in the step if it is the present one, else goes on to the next."""
        assert s.alive, f"thread {i} is in a job that is over"
        if t.step > len(self.units):
            yield put(s, i, pc="close" if i == 0 else "leave")
            return
        present, shares = not t.left and s.now[0] == t.step, s.now[1]
        if present and i >= shares:
            yield put(s, i, left=True, back_at=t.step, step=t.step + 1)
        else:
            yield put(s, i, pc="load_claimed" if present else "team_step", step=t.step + 1, shares=shares if present else 0,
                      share=0, finished=0)  # fmt: skip

    def load_claimed(self, s, i, t):
        if t.share == t.shares:
            yield put(s, i, pc="add_done" if t.finished else "wait_for_step")
        else:
            yield put(s, i, pc="claim", old=s.claimed[(i + t.share) % t.shares])

    def claim(self, s, i, t):
        number, share = t.step - 1, (i + t.share) % t.shares
        n = self.units[number - 1]
        size, rest = divmod(n, t.shares)
        begin, units = share * size + min(share, rest), size + (share < rest)
        tagged = self.broken != "claims are not tagged"
        gone = t.old[1] if t.old[0] == number or not tagged else 0
        if (t.old[0] > number and tagged) or gone >= units:
            yield put(s, i, pc="load_claimed", share=t.share + 1)
        elif s.claimed[share] != t.old:
            yield put(s, i, old=s.claimed[share])
        else:
            to = units if t.shares == 1 else gone + (units - gone + 1) // 2
            s = s._replace(claimed=at(s.claimed, share, (number, to)))
            if self.broken == "the step ends with the claims":
                done = s.done + to - gone
                s = s._replace(done=done % n, now=(s.now[0] + (done == n), s.now[1]))
            yield put(s, i, pc="compute", piece=(begin + gone, begin + to))

    def compute(self, s, i, t):
        assert s.alive, f"thread {i} computes for a job that is over"
        number, computed = t.step - 1, list(s.computed)
        job = (s.gate[0] - 1) * sum(self.units)
        first = job + sum(self.units[: number - 1])
        assert all(computed[job:first]), f"step {number} begins before the one before it is done"
        for unit in range(first + t.piece[0], first + t.piece[1]):
            computed[unit] += 1
            assert computed[unit] == 1, f"unit {unit} is computed twice"
        finished = 0 if self.broken == "the step ends with the claims" else t.finished + t.piece[1] - t.piece[0]
        yield put(s._replace(computed=tuple(computed)), i, pc="load_claimed", finished=finished, piece=None, old=None)

    def add_done(self, s, i, t):
        done = s.done + t.finished
        last = done == self.units[t.step - 2]
        yield put(s._replace(done=done), i, pc="reset_done" if last else "wait_for_step", finished=0)

    def reset_done(self, s, i, t):
        yield put(s._replace(done=0), i, pc="begin_step")

    def begin_step(self, s, i, t):
        wakes = self.broken != "no wake after a step"
        for shares in range(1, self.threads + 1):
            yield put(s._replace(now=(t.step, shares)), i, pc="wake_range" if wakes else "team_step", then="team_step",
                      old=0, piece=shares)  # fmt: skip

    def wait_for_step(self, s, i, t):
        if i == 0:
            yield put(s, i, pc="spin", kind="step", then="team_step", old=None)
        else:  # spins; may stop at any time
            leaves = s.now[0] < t.step
            yield put(s, i, pc="team_step", left=leaves, back_at=t.step if leaves else 99, old=None)

    # --- Jobs: the first thread

    def begin(self, s, i, t):
        """What team_run sets up while nobody is in the job: one operation, as nobody can see the parts."""
        assert s.gate[2] == 0 or not s.gate[1]
        if s.gate[0] == self.jobs:
            yield put(s._replace(disbanded=True), i, pc="wake_range", then="end", old=1, piece=self.threads)
            return
        for shares in range(1, self.threads + 1):
            after = s._replace(claimed=((0, 0),) * self.threads, done=0, now=(1, shares), alive=True)
            yield put(after, i, pc="open_gate", step=1)

    def open_gate(self, s, i, t):
        yield put(s._replace(gate=(s.gate[0] + 1, True, s.gate[2])), i, pc="wake_range", then="team_step", old=1,
                  piece=self.threads)  # fmt: skip

    def close(self, s, i, t):
        yield put(s._replace(gate=(s.gate[0], False, s.gate[2])), i, pc="spin", kind="left", then="return_", old=None)

    def return_(self, s, i, t):
        end = s.gate[0] * sum(self.units)
        assert all(s.computed[:end]), "a job returns before it is done"
        yield put(s._replace(alive=False), i, pc="begin", then=None)

    # --- Jobs: the others

    def disband_or_join(self, s, i, t):
        yield put(s, i, pc="end" if s.disbanded else "join")

    def join(self, s, i, t):
        job, is_open, inside = s.gate
        s = s._replace(gate=(job, is_open, inside + 1))
        if is_open:
            yield put(s, i, pc="team_step", job=job, step=1, back_at=99, left=False)
        else:
            yield put(s, i, pc="leave")

    def leave(self, s, i, t):
        job, is_open, inside = s.gate
        s = s._replace(gate=(job, is_open, inside - 1))
        last = inside == 1 and not is_open and self.broken != "no wake when leaving"
        # wake(&seats[0]) does not ask for sleepers.
        yield put(s, i, pc="wake" if last else "spin", then="back", old=0, piece=1) if last else \
            put(s, i, pc="spin", then=None, old=None)  # fmt: skip

    def back(self, s, i, t):
        yield put(s, i, pc="spin", then=None, old=None, piece=None)


pool = {}  # keeps equal parts of states once: millions of states share some tens of thousands of threads


def at(items, i, value):
    changed = items[:i] + (value,) + items[i + 1 :]
    return pool.setdefault(changed, changed)


def put(s, i, **changes):
    changed = s.threads[i]._replace(**changes)
    return s._replace(threads=at(s.threads, i, pool.setdefault(changed, changed)))


def explore(model):
    """The number of states. AssertionError: something in the list above is wrong."""
    start = model.start()
    index, before, ends, todo = {start: 0}, [[]], [], [start]
    while todo:
        s = todo.pop()
        here, following = index[s], 0
        for after in model.successors(s):
            following += 1
            there = index.setdefault(after, len(before))
            if there == len(before):
                before.append([])
                todo.append(after)
            before[there].append(here)
        if not following:
            assert model.is_end(s), f"all threads sleep: {s}"
            ends.append(here)
    seen, todo = set(ends), ends
    while todo:
        for one in before[todo.pop()]:
            if one not in seen:
                seen.add(one)
                todo.append(one)
    assert len(seen) == len(before), f"the end cannot be reached from {len(before) - len(seen)} states"
    return len(before)


if __name__ == "__main__":
    threads, jobs, *units = map(int, sys.argv[1:])
    print(f"{explore(Model(threads, jobs, tuple(units)))} states: all is well")

"""Traces, bridges and guards that fail for PyPy; the same lines come out without its compiler."""
import re
import sys


class Square:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side * self.side


class Strip(Square):
    def area(self):
        return 2 * self.side


def total(shapes):
    return sum(s.area() for s in shapes)


def collatz(n):
    steps = 0
    while n != 1:
        n = 3 * n + 1 if n & 1 else n // 2
        steps += 1
    return steps


def floats(n):
    x = 0.5
    for i in range(n):
        x = 3.9 * x * (1 - x) if i % 5 else (x + 1 / (i + 2)) % 1
    return x


def raises(n):
    caught = 0
    for i in range(n):
        try:
            caught += 10 // (i % 3)
        except ZeroDivisionError as e:
            caught += len(str(e))
    return caught


for turn in range(int(sys.argv[1])):
    kinds = [Square, Strip, Square][: 1 + turn % 3]
    made = [kinds[i % len(kinds)](i + turn) for i in range(3000)]
    scope = {}
    exec(f'def made_now(a):\n s = 0\n for i in range(5000): s += (i * a) % {turn + 7}\n return s', scope)
    words = re.findall(r'w(\d+)', ' '.join(f'w{i * 7919 % 1009}' for i in range(3000)))
    counts = {}
    for w in words:
        counts[w] = counts.get(w, 0) + 1
    print(turn, total(made), total([*made, Square(0.25)]), max(map(collatz, range(1, 1500 + turn))), repr(floats(20000)),
          raises(3000), scope['made_now'](turn), len(counts), 3 ** (200 + turn) % 10 ** 40)

# Method calls, attributes, exceptions, generators: plain Python code.
class Node:
    __slots__ = ('key', 'left', 'right')

    def __init__(self, key):
        self.key = key
        self.left = self.right = None

    def insert(self, key):
        node = self
        while True:
            side = 'left' if key < node.key else 'right'
            child = getattr(node, side)
            if child is None:
                setattr(node, side, Node(key))
                return
            node = child

    def walk(self):
        if self.left:
            yield from self.left.walk()
        yield self.key
        if self.right:
            yield from self.right.walk()


def random_keys(n):
    x = 12345
    for _ in range(n):
        x = (x * 1103515245 + 12345) & 0x7fffffff
        yield x


def checked(x):
    if x % 7 == 0:
        raise ValueError(x)
    return x


root = Node(1 << 30)
for k in random_keys(12000):
    root.insert(k)
total = caught = 0
for k in root.walk():
    try:
        total += checked(k)
    except ValueError:
        caught += 1
print(total, caught)

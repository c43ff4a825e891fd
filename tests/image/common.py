"""What the tests of `ruche image` share: running it and qemu-img, raw disks, TAP on stdout."""
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUCHE = ROOT / 'build/release/ruche'
QEMU = shutil.which('qemu-img')
TIMEOUT = 60
MIB = 1 << 20

number = failed = 0
wanted = sys.argv[1:]


class Bad(Exception):
    pass


def run(*argv, status=0, data=None):
    p = subprocess.run([str(a) for a in argv], input=data, capture_output=True, timeout=TIMEOUT)
    if p.returncode != status:
        raise Bad(f'{" ".join(map(str, argv))}: status {p.returncode}, not {status}: '
                  f'{p.stdout.decode(errors="replace")}{p.stderr.decode(errors="replace")}')
    return p.stdout


def ruche(*argv, **kw):
    return run(RUCHE, 'image', *argv, **kw)


def qemu(*argv, **kw):
    return run(QEMU, *argv, **kw)


def check(name, test, *args):
    global number, failed
    if wanted and not any(w in name for w in wanted):
        return
    number += 1
    with tempfile.TemporaryDirectory(prefix='ruche-image-') as folder:
        try:
            test(Path(folder), *args)
            print(f'ok {number} - image {name}', flush=True)
        except (Bad, subprocess.TimeoutExpired, OSError) as e:
            failed += 1
            print(f'not ok {number} - image {name}', flush=True)
            print('\n'.join(f'# {line}' for line in str(e).splitlines()[:20]))


def same(a, b):
    if a.read_bytes() != b.read_bytes():
        raise Bad(f'{a.name} and {b.name} differ')


def make_raw(path, size, kind):
    """Pieces of text, of noise, of zeros and holes; some at odd places, one at the very end."""
    rng = random.Random(size)
    with open(path, 'wb') as f:
        f.truncate(size)
        for _ in range(0 if kind == 'empty' else 24):
            piece = rng.choice([700, 4096, 65536, 300000])
            what = rng.choice([b'text ' * (piece // 5), rng.randbytes(piece), bytes(piece)])
            f.seek(rng.randrange(max(size - piece, 1)))
            f.write(what[:size - f.tell()])
        if kind == 'full':
            f.seek(0)
            f.write(rng.randbytes(size))
        elif kind == 'mixed':
            f.seek(size - 512)
            f.write(rng.randbytes(512))


def finish():
    print(f'1..{number}')
    sys.exit(1 if failed else 0)

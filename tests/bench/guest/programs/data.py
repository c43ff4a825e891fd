# Dictionaries, strings, lists, sorting, comprehensions, regular expressions.
import re

with open('/bench/data/text', encoding='latin-1') as f:
    text = f.read(700000)
words = {}
for w in re.findall(r'[A-Za-z_]\w+', text):
    words[w] = words.get(w, 0) + 1
top = sorted(words.items(), key=lambda kv: (-kv[1], kv[0]))[:200]
lines = [x.strip() for x in text.split('\n') if x and not x.startswith('#')]
joined = ' '.join(x.upper() for x in lines if len(x) > 10)
pairs = {(a[0], b[0]): a[1] * b[1] for a in top for b in top}
print(len(words), top[0], len(joined), sum(pairs.values()) & 0xffff, joined.count('STRUCT'))

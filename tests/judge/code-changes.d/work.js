// Makes V8's tiers compile, deoptimize and patch; WebAssembly too. Everything has a known answer.
'use strict';
const rounds = Number(process.argv[2]);
const assert = require('assert');

// (func (export "gcd") (param i32 i32) (result i32)), Euclid with a loop
const wasm = Uint8Array.from([
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 7, 1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f, 3, 2, 1, 0, 7, 7, 1, 3, 0x67, 0x63, 0x64,
  0, 0, 0x0a, 0x21, 1, 0x1f, 1, 1, 0x7f, 3, 0x40, 0x20, 1, 4, 0x40, 0x20, 0, 0x20, 1, 0x70, 0x21, 2, 0x20, 1, 0x21,
  0, 0x20, 2, 0x21, 1, 0x0c, 1, 0x0b, 0x0b, 0x20, 0, 0x0b]);

function gcd(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}

function shapes(round) {
  // The same function sees integers, doubles, strings, objects of changing shape.
  const add = new Function('a', 'b', `/* ${round} */ return a + b;`);
  let s = 0;
  for (let i = 0; i < 20000; i++) s = add(s, i & 7);
  assert.strictEqual(s, 70000);
  for (let i = 0; i < 20000; i++) s = add(s, 0.5);
  assert.strictEqual(s, 80000);
  assert.strictEqual(add('a', round), 'a' + round);
  const objects = [{ x: 1 }, { y: 2, x: 2 }, { z: 1, y: 0, x: 3 }, { w: 0, x: 4 }, { v: 0, u: 1, x: 5 }];
  let t = 0;
  for (let i = 0; i < 50000; i++) t += objects[i % (1 + i % 5)].x;
  let want = 0;
  for (let i = 0; i < 50000; i++) want += 1 + i % (1 + i % 5);
  assert.strictEqual(t, want);
}

function text(round) {
  const words = [];
  for (let i = 0; i < 3000; i++) words.push('w' + (i * 7919 % 1009));
  const all = words.join(' ');
  const counts = new Map();
  for (const m of all.matchAll(/w(\d+)/g)) counts.set(m[1], (counts.get(m[1]) || 0) + 1);
  assert.strictEqual(counts.size, 1009);
  const again = JSON.parse(JSON.stringify([...counts].sort()));
  assert.strictEqual(again.reduce((n, x) => n + x[1], 0), 3000);
  assert.strictEqual(new RegExp('(a|b)*c' + round).exec('abababc' + round)[1], 'b');
}

function* squares(n) {
  for (let i = 0; i < n; i++) yield i * i;
}

for (let round = 0; round < rounds; round++) {
  shapes(round);
  text(round);
  const module = new WebAssembly.Instance(new WebAssembly.Module(wasm));
  for (let i = 1; i < 20000; i++)
    if (module.exports.gcd(i * 12, i * 18 + round) !== gcd(i * 12, i * 18 + round)) throw new Error('gcd ' + i);
  let sum = 0n;
  for (const x of squares(2000)) sum += BigInt(x) ** 3n;
  assert.strictEqual(sum, [...Array(2000).keys()].reduce((n, x) => n + BigInt(x) ** 6n, 0n));
  try {
    null.x;
  } catch (e) {
    assert(e instanceof TypeError);
  }
  if (global.gc) global.gc();
}
console.log('all as expected');

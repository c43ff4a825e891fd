#!/bin/sh
# What the guest and the host both do: builds a program from its source and leaves object files, programs and
# what they said in the folder "result". usage: debian-build.sh PROGRAM, in a folder that has source.tar
set -eu
program=$1
build=/root/build # the same everywhere: debug information has it
result=$PWD/result
source=$PWD/source.tar
cd "${source%/*}"
rm -rf $build "$result"
mkdir -p $build "$result"
cd $build
tar -x -f "$source" --strip-components=1
export CFLAGS="-g -O2" LC_ALL=C
jobs=-j$(nproc)
case $program in
zlib)
    ./configure --static >/dev/null
    make "$jobs" minigzip example libz.a >/dev/null
    {
        ./example
        ./minigzip -9 <"$source" >zipped
        sha256sum <zipped
        ./minigzip -d <zipped | cmp - "$source" && echo same
    } >output 2>&1
    ;;
lua)
    make -C src "$jobs" generic MYCFLAGS=-g >/dev/null
    cat >work.lua <<'T'
local t, s = {}, 0
for i = 1, 200000 do t[i] = (i * 7919) % 10007 + i / 7 end
table.sort(t)
for i = 1, #t, 997 do s = s + t[i] * i end
print(string.format("%.17g", s), ("x"):rep(50):gsub("x", "%0y"))
print(string.format("%a", math.sin(1) + math.exp(1) ^ 0.5), 7 // 2, -7 % 3, 1 << 62)
print(select("#", table.unpack(t, 1, 100)), pcall(error, { 1 }))
T
    src/lua work.lua >output
    sed -i 's/table: 0x.*/table/' output
    ;;
sqlite) # the amalgamation: a quarter of a million lines in one file
    ./configure --disable-shared --disable-readline --disable-tcl >/dev/null
    make "$jobs" sqlite3.c shell.c >/dev/null
    gcc $CFLAGS -c shell.c &
    gcc $CFLAGS -c sqlite3.c
    wait $!
    gcc -o sqlite3 shell.o sqlite3.o -lm
    cat >work.sql <<'T'
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into t select i, printf('%05d', (i * 7919) % 20011), 1.0 / (i * 37 % 1009 + 1) from n;
create index tb on t(b);
select count(*), sum(a), max(b), printf('%.17g', total(c)) from t;
select t.a, u.b from t join t u on u.b = printf('%05d', t.a) order by t.c limit 5;
select a % 10, count(*), group_concat(b) from t where a < 60 group by 1;
pragma integrity_check;
T
    ./sqlite3 base <work.sql >output
    sha256sum <base >>output
    ;;
esac
find . -name '*.[oa]' -o -type f -perm -u+x ! -name '*.*' ! -name configure ! -name install-sh -o -name output |
    LC_ALL=C sort | while read -r f; do
    cp "$f" "$result/$(echo "${f#./}" | tr / _)"
done
ls "$result" | wc -l

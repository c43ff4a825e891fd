# What configure scripts and package scripts do: many short programs, substitutions, pipes, files.
i=0
while [ $i -lt "$1" ]; do
    name=$(echo "some/path/file$i.c" | sed 's/\.c$/.o/')
    base=$(basename "$name" .o)
    echo "#define HAVE_$i 1" >/tmp/conf.$$
    if grep -q "HAVE_$i" /tmp/conf.$$ && test -s /tmp/conf.$$; then
        lines=$(cat /tmp/conf.$$ | tr a-z A-Z | wc -l)
    fi
    rm -f /tmp/conf.$$
    i=$((i + 1))
done
echo "$base $lines"

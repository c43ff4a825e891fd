# Arithmetic, tests, functions, parameter expansion, without a single fork.
step() {
    case $(($1 % 5)) in
    0) total=$((total + $1)) ;;
    1) total=$((total ^ $1)) ;;
    *) text=${text#?}$1 ;;
    esac
}
total=0 text=abcdefgh i=0
while [ $i -lt "$1" ]; do
    step $i
    [ ${#text} -gt 40 ] && text=${text%%[0-4]*}x
    i=$((i + 1))
done
echo "$total $text"

# Arrays, string operations, here-strings, arithmetic of bash.
declare -A count
declare -a list
for ((i = 0; i < $1; i++)); do
    key=$((i * 7919 % 1009))
    count[$key]=$((${count[$key]:-0} + i))
    list[i % 500]=${key//1/one}
    [[ ${list[i % 500]} =~ ^one.*[0-9]$ ]] && ((hits++))
done
echo "${#count[@]} ${count[5]} ${list[7]} $hits"

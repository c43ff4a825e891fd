# Arithmetic, arrays, subroutine calls.
sub gcd { my ($x, $y) = @_; ($x, $y) = ($y, $x % $y) while $y; return $x }
my ($sum, @a) = (0);
for my $i (1 .. 60000) {
    push @a, gcd($i, 3600) + $i / 7;
    $sum += $a[$i * 31 % @a];
}
printf "%.3f\n", $sum;

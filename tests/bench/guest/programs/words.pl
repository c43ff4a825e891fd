# Regular expressions, hashes, string building, sorting.
open(my $f, '<', '/bench/data/text') or die;
my (%count, $out);
my $lines = 0;
while (<$f>) {
    last if ++$lines > 20000;
    $count{lc $1}++ while /(\w+)/g;
    s/\s+/ /g;
    $out .= reverse if /^(?:static|extern)\b.*\(/ || $lines % 5 == 0;
}
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print scalar(@top), " @top[0..9] ", length($out), "\n";

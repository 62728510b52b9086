#!/usr/bin/perl
# coverage.pl LCOV [FILE]: a table of the lines of src/ that were executed, or the
# lines of FILE that were not. Tests inside of src/ do not count as lines.
use strict;
use warnings;
use Cwd;

my ($lcov, $wanted) = @ARGV;
my $here = getcwd;

# Where a file's tests begin: they stand at its end.
sub tests_begin {
	my ($file) = @_;
	open my $source, '<', $file or die "$file: $!\n";
	my ($before, $number) = ('', 0);
	while (my $line = <$source>) {
		$number++;
		return $number if $before =~ /^#\[cfg\(.*\btest\b/ && $line =~ /^mod \w+ \{/;
		$before = $line;
	}
	return $number + 1;
}

my (%lines, $file, $end);
open my $in, '<', $lcov or die "$lcov: $!\n";
while (<$in>) {
	if (/^SF:(.*)/) {
		my $name = $1;
		($file) = $name =~ m{^(?:\Q$here\E/|\./)?(src/.*)};
		$end = !$file || $file =~ m{/tests\.rs$} ? 0 : tests_begin($file);
	} elsif (/^DA:(\d+),(\d+)/ && $1 < $end) {
		$lines{$file}{$1} += $2;
	}
}

if ($wanted) {
	my $counts = $lines{$wanted} or die "$wanted: nothing in it is executable, or there is no such file\n";
	open my $source, '<', $wanted or die "$wanted: $!\n";
	while (my $line = <$source>) {
		print "$.: $line" if defined $counts->{$.} && !$counts->{$.};
	}
	exit;
}

my (%sum, @rows);
for my $name (sort keys %lines) {
	my @counts = values %{ $lines{$name} };
	my $hit = grep { $_ } @counts;
	my ($part) = $name =~ m{^src/(\w+)/};
	for ($part // 'lib', 'total') {
		$sum{$_}[0] += @counts;
		$sum{$_}[1] += $hit;
	}
	push @rows, [ $name, scalar @counts, $hit ];
}
sub row { printf "| %s | %d | %d | %.1f %% |\n", @_, 100 * $_[2] / $_[1]; }
print "| file | lines | executed | |\n| --- | ---: | ---: | ---: |\n";
row(@$_) for @rows;
print "\n| part | lines | executed | |\n| --- | ---: | ---: | ---: |\n";
row($_, @{ $sum{$_} }) for (grep { $_ ne 'total' } sort keys %sum), 'total';

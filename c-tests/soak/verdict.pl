# SPDX-License-Identifier: MIT OR Apache-2.0
#
# verdict.pl FOLDER CLIENTS: what soak.sh has gathered there as a table, and whether it may be so.
use strict;
use warnings;

my ($root, $clients) = @ARGV;
my @wrong;

sub lines {
	my ($name) = @_;
	open my $file, '<', "$root/$name" or die "$name: $!\n";
	return map { chomp; [split] } <$file>;
}

sub median {
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[@sorted / 2];
}

# What was lost, by kind. A request may fail whose connection was there when a backend ended, and each client once.
my @kills = grep { $_->[0] =~ /KILL|QUIT/ } lines('events');
my %events;
$events{ $_->[0] }++ for lines('events');
my (%expected, %unexpected, @by_kill);
for my $f (grep { $_->[0] eq 'fail' } lines('clients.log')) {
	my (undef, $start, $end, $manner, $why) = @$f;
	my ($kill) = grep { $start <= $kills[$_][2] + 0.05 && $end >= $kills[$_][1] - 0.05 } 0 .. $#kills;
	if (defined $kill && $manner ne 'admin') {
		$expected{"$manner $why"}++;
		$by_kill[$kill]++;
	} else {
		$unexpected{"$manner $why"}++;
		push @wrong, "$manner: $why" . (@wrong < 5 ? " ($start to $end)" : '') if $unexpected{"$manner $why"} == 1;
	}
}
for my $kill (0 .. $#kills) {
	my $n = $by_kill[$kill] // 0;
	push @wrong, "$n requests failed when one backend ended, of $clients clients" if $n > $clients;
}

my @samples = grep { @$_ == 8 } lines('samples');
push @wrong, 'too few samples: ' . @samples if @samples < 20;
printf "\n%8s %10s %12s %8s %6s %12s %10s %8s\n", 'seconds', 'RSS kB', 'descriptors', 'threads', 'conns', 'RSS 2nd kB',
	'requests', 'failed';
my $every = @samples > 25 ? @samples / 25 : 1;
for (my $at = 0; $at < @samples; $at += $every) {
	printf "%8d %10d %12d %8d %6d %12d %10d %8d\n", @{ $samples[$at] };
}

printf "\n%-14s %12s %10s %8s\n", 'clients', 'connections', 'requests', 'failed';
for my $m (grep { $_->[0] eq 'manner' } lines('clients.log')) {
	printf "%-14s %12d %10d %8d\n", @$m[1 .. 4];
	push @wrong, "no client was $m->[1]" unless $m->[2];
	push @wrong, "no request of $m->[1] was answered" unless $m->[3] || $m->[1] =~ /aborted|idle|greedy/;
}
print "\n", join(', ', map { "$_: $events{$_}" } sort keys %events), "\n";
print "failed as a backend ended: ", join(', ', map { "$_: $expected{$_}" } sort keys %expected), "\n" if %expected;
print "failed without reason: ", join(', ', map { "$_: $unexpected{$_}" } sort keys %unexpected), "\n" if %unexpected;

# What the lasting proxy has counted. Clients and servers reset connections here; nothing else may have gone wrong.
my %info = map { $_->[0] =~ s/:$//r => $_->[1] } lines('info');
print join(', ', map { "$_: $info{$_}" } grep { /CumConns|RefusedConns|Errors_/ } sort keys %info), "\n";
for my $kind (grep { /^Errors_/ && !/client_reset|server_reset|idle_timeout/ } sort keys %info) {
	push @wrong, "$kind: $info{$kind}" if $info{$kind};
}
for my $line (grep { /keel:|EMERG|ALERT|CRIT|ERROR/ } map { join ' ', @$_ } lines('log')) {
	push @wrong, "a proxy says: $line" if @wrong < 20;
}

for my $rest (lines('rest')) {
	my ($what, $before, $after) = @$rest;
	print "$what at rest: $before, then $after\n" if $what ne 'sources';
	push @wrong, "$what: $before at the beginning, $after at the end" if $what ne 'sources' && $before != $after;
	push @wrong, "$before sources have connections at the end" if $what eq 'sources' && $before != 0;
}
my %threads = map { $_->[3] => 1 } @samples;
push @wrong, 'threads: ' . join(', ', sort keys %threads) if keys %threads != 1;

if (@samples >= 20) {
	my $fifth = int(@samples / 5);
	my $early = median(map { $_->[1] } @samples[$fifth .. 2 * $fifth - 1]);
	my $late = median(map { $_->[1] } @samples[-$fifth .. -1]);
	my $change = 100 * ($late - $early) / $early;
	printf "RSS, medians: %d kB in the second fifth, %d kB in the last: %+.2f %%\n", $early, $late, $change;
	push @wrong, sprintf 'RSS is not flat: %+.2f %%', $change if abs $change > 2;
}

print map { "WRONG: $_\n" } @wrong;
print @wrong ? "soak: failed\n" : "soak: passed\n";
exit(@wrong ? 1 : 0);

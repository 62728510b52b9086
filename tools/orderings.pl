#!/usr/bin/perl
# orderings.pl [--list|--programs|--models] [FILE…]: takes every ordering stronger than Relaxed, and
# every fence, away from the sources in turn (each half of AcqRel alone), and
# sees a test turn red: an engine's models, then C programs under
# ThreadSanitizer. No build is made for each: src/sync/weaken.rs reads which one
# it is. MODELS is where the models are, built already, as the
# C programs are (`make mutants` does it); JOBS how many run at a time. A site whose comment
# says "UNSEEN: why" (or "UNSEEN (acquire): why", of one half) is known to be missed by all, and has to be.
use strict;
use warnings;

my $list = @ARGV && $ARGV[0] eq '--list' && shift;
my $models_alone = @ARGV && $ARGV[0] eq '--models' && shift;
my $models   = $ENV{MODELS}   || 'target/loom/model/deps';
my $programs = 'build/tsan/c-tests';
my $jobs     = $ENV{JOBS}     || 2;
my $limit    = $ENV{LIMIT}    || 300;
my $log      = 'build/mutants/orderings';

# Which tests are asked about a file, in this order.
my @askers = (
	['src/callout/',  [qw(callout runtime)], [qw(race/callout_storms race/callout_reuse api/test_callout)]],
	['src/fd/',       [qw(fd)],      [qw(race/fd_close_once api/test_fd)]],
	['src/pool/',     [qw(pool)],            [qw(api/test_pool_museum race/pool_grows api/test_pool)]],
	['src/stick_table/freq_ctr', [qw(freq_ctr)], [qw(api/test_freq_ctr)]],
	['src/stick_table/', [qw(stick_table)],  [qw(race/stick_few_keys race/stick_free race/stick_updates api/test_stick_table api/test_stick_entries)]],
	['src/task/',     [qw(task runtime)],   [qw(api/test_task_museum api/test_task)]],
	['src/runtime/',  [qw(runtime task callout)], [qw(api/test_runtime api/test_task api/test_adversity race/callout_storms)]],
	['src/sync/rw_lock', [],                 [qw(race/stick_few_keys race/stick_updates api/test_stick_entries)]],
	['src/sync/lock', [],                    [qw(race/callout_storms api/test_task_museum race/stick_same_key)]],
	['src/sync/',     [qw(runtime task stick_table callout fd)], [qw(race/callout_storms)]],
	['src/sys/',      [],                    [qw(api/test_adversity api/test_runtime)]],
);

sub slurp { open my $f, '<', $_[0] or die "$_[0]: $!\n"; local $/; <$f> }

# Every site of a file: where it is, and what can be taken from it.
sub sites {
	my ($file) = @_;
	my $whole = slurp($file);
	my $text = $whole;
	$text =~ s/^#\[cfg\((?:all\(|any\()?test[,)].*//ms;
	$text =~ s{(//[^\n]*)}{' ' x length $1}ge;
	# What models alone have.
	$text =~ s/(#\[cfg\((?:loom|model|shuttle)\)\]\s*(?:[^;{}]*;|[^;{}]*(\{(?:[^{}]++|(?2))*\})))/$1 =~ s{[^\n]}{ }gr/ge;
	my @lines = split /\n/, $whole;
	my @found;
	my $add = sub {
		my ($at, $op, $order, @halves) = @_;
		my $before = substr $text, 0, $at;
		my $line = 1 + ($before =~ tr/\n//);
		my $column = $at - rindex($before, "\n");
		my ($fn) = $before =~ /.*\bfn\s+(\w+)/s;
		# The comment above, or at the end of, the statement.
		my $note = '';
		for (my $i = $line - 1; $i >= 0 && $i > $line - 9; $i--) {
			$note = "$lines[$i]\n$note";
			last if $i < $line - 1 && $lines[$i] =~ /[;{}]\s*$/;
		}
		my ($one, $why) = $note =~ m{//.*\bUNSEEN(?: \((\w+)\))?:\s*(.*)};
		push @found, { file => $file, line => $line, column => $column, fn => $fn || '-', op => $op, order => $order, half => $_, why => !$one || $one eq $_ ? $why : undef } for @halves;
	};
	while ($text =~ /\.(load|store|swap|compare_exchange(?:_weak)?|fetch_\w+)\s*(\((?:[^()]++|(?2))*\))/g) {
		my ($op, $args, $at) = ($1, $2, $-[1]);
		# Calls within the arguments have their turn.
		pos($text) = $-[2] + 1;
		(my $own = substr $args, 1, -1) =~ s/(\((?:[^()]++|(?1))*\))/' ' x length $1/ge;
		my @orders = $own =~ /\b(Relaxed|Acquire|Release|AcqRel|SeqCst)\b/g;
		my $first = shift @orders;
		next unless defined $first;
		$add->($at, $op, $first, $first =~ /AcqRel|SeqCst/ && $op !~ /^(?:load|store)$/ ? qw(acquire release) : 'all') if $first ne 'Relaxed';
		$add->($at, $op, "failure $orders[0]", 'failure') if @orders && $op =~ /^compare|update/ && $orders[0] ne 'Relaxed';
	}
	while ($text =~ /(?<!fn )(?<![\w:])((?:\w+::)*(full|light|heavy)_fence)\(\)/g) {
		$add->($-[1], "$2_fence", 'SeqCst', 'all');
	}
	return @found;
}

sub programs { my %all = map { ($_ => 1) } map { @{ $_->[2] } } @askers; sort keys %all }
if (@ARGV && $ARGV[0] eq '--programs') {
	print "build/tsan/c-tests/$_\n" for programs();
	exit;
}
my @files = @ARGV;
if (!@files) {
	@files = grep { !m{^src/(?:sync/(?:weaken|mod|asymmetric|model)|callout/pause)\.rs$|/tests\.rs$} } split /\n/, `find src -name '*.rs' | sort`;
}
my @sites = map { sites($_) } @files;
if ($list) {
	print "$_->{file}:$_->{line}:$_->{column}\t$_->{fn}\t$_->{op}\t$_->{order}\t$_->{half}\n" for @sites;
	exit;
}

sub newest { my @all = grep { !/\.d$/ && -x } glob "$models/loom_$_[0]-*"; (sort { -M $a <=> -M $b } @all)[0] }

# The first test of a program of models that turns red: it is enough, the others
# may take minutes.
sub red {
	my ($program, $out) = @_;
	my $pid = open my $lines, '-|', "exec timeout $limit '$program' --test-threads=1 2> '$out'" or die "$program: $!\n";
	my $last = '';
	while (my $line = <$lines>) {
		$last = $1 if $line =~ /^test (\S+) \.\.\. /;
		if ($line =~ /FAILED$/) {
			kill 'TERM', $pid;
			close $lines;
			return $last;
		}
	}
	return '' if close $lines;
	die "$program: died of $?\n" if $? & 127 || $? >> 8 != 124;
	die "$last: no end in $limit s\n";
}

# Whether models have a file at all.
sub in_models {
	my ($dir, $name) = $_[0] =~ m{(.*)/(\w+)\.rs$};
	my $parent = $name eq 'mod' ? slurp($dir =~ s{/\w+$}{/mod.rs}r) : slurp("$dir/mod.rs");
	return $parent !~ /#\[cfg\(not\(model\)\)\]\n(?:pub(?:\([^)]*\))? )?mod $name;/;
}

# The first test that turns red, or nothing.
sub ask {
	my ($site, $out) = @_;
	my ($asker) = grep { index($site->{file}, $_->[0]) == 0 } @askers or die "nobody to ask about $site->{file}\n";
	$ENV{KEEL_WEAKEN} = "$site->{file}:$site->{line}:$site->{column}:$site->{half}";
	for my $model (in_models($site->{file}) ? @{ $asker->[1] } : ()) {
		my $program = newest($model) or die "no loom_$model in $models\n";
		my $by = red($program, $out);
		return "loom_${model}::$by" if $by ne '';
	}
	for my $name ($models_alone ? () : @{ $asker->[2] }) {
		return "c-tests/$name" . (slurp($out) =~ /ThreadSanitizer/ ? ' under TSan' : '') if fails($name, $out);
	}
	return '';
}

# Runs a C program: whether it turned red.
sub fails {
	my ($program, $out) = @_;
	-x "$programs/$program" or die "no $programs/$program\n";
	return system("TSAN_OPTIONS='halt_on_error=1 exitcode=66' CK_TIMEOUT_MULTIPLIER=10 timeout $limit '$programs/$program' > '$out' 2>&1") != 0;
}

system "mkdir -p $log" and die;
if (!$models_alone) {
	fails($_, "$log/out") and die "$_: red, and nothing is weakened\n" for programs();
}
my (%running, @result);
my $wait = sub {
	my $pid = wait;
	my $i = delete $running{$pid};
	my ($site, $by) = ($sites[$i], slurp("$log/$i.by") // '');
	my $failed = $by =~ s/^!//;
	my $good = !$failed && ($by ne '') != defined $site->{why};
	push @result, $good;
	printf "%-11s %s:%d %s: %s %s -%s%s\n",
		$failed ? 'FAILED' : $by ne '' ? ($good ? 'caught' : 'SEEN') : $good ? 'unseen' : 'NOT CAUGHT',
		@$site{qw(file line fn op order half)}, $by ne '' ? "  ($by)" : defined $site->{why} ? "  ($site->{why})" : '';
};
$| = 1;
for my $i (0 .. $#sites) {
	$wait->() if keys %running >= $jobs;
	my $pid = fork // die "fork: $!\n";
	if (!$pid) {
		my $by = eval { ask($sites[$i], "$log/$i.out") } // "!$@";
		open my $f, '>', "$log/$i.by" or die "$!\n";
		print $f $by;
		close $f;
		exit;
	}
	$running{$pid} = $i;
}
$wait->() while %running;
my $bad = grep { !$_ } @result;
my $unseen = grep { defined $_->{why} } @sites;
printf "%d orderings weakened: %d caught, %d known to be unseen, %d wrong\n", scalar @result, @result - $bad - $unseen, $unseen, $bad;
exit($bad > 0);

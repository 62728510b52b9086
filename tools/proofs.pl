#!/usr/bin/perl
# proofs.pl [--check] [DIR]: which code keeps each invariant, and which models,
# tests and mutants show it. Reads the tags KEEPS:, SHOWS:, WINDOW(name): and
# Breaks: (CONTRIBUTING.md says where they stand) and prints docs/proofs.md, of
# which docs/proofs.md.in is the frame. --check: one TAP line for each thing
# that can be wrong with the tags, and one for a page that is out of date.
use strict;
use warnings;

my $check = @ARGV && $ARGV[0] eq '--check' ? shift : '';
chdir($ARGV[0] // '.') or die "$ARGV[0]: $!\n";

my $ID = qr/(?:C?INV|DEV|[A-Z]+)-\d+/;
my (@items, %item, %row, @rows, %window, @windows, %test, @tests, @mutants);
my (%kept, %shown, %broken);    # id => places, tests, mutants
my %wrong;                      # rule => what breaks it

sub wrong { my ($rule, $what) = @_; push @{ $wrong{$rule} }, $what }

sub lines {
	my ($file) = @_;
	open my $in, '<', $file or die "$file: $!\n";
	chomp(my @lines = <$in>);
	return @lines;
}

# All files below a directory that match, sorted.
sub files {
	my ($match, @dirs) = @_;
	my @found;
	while (defined(my $dir = shift @dirs)) {
		for (sort glob "$dir/*") {
			if (-d) { push @dirs, $_ }
			elsif (/$match/) { push @found, $_ }
		}
	}
	return sort @found;
}

# The ids that follow a tag in a line, or none where it does not have it.
sub tagged {
	my ($tag, $line) = @_;
	$line =~ /\b$tag:\s*(.*?)[\s.]*(?:\*\/\s*)?$/ or return;
	return split /\s*,\s*/, $1;
}

# --- the statements ---------------------------------------------------------

for my $file (files(qr/\/invariants\.md$/, 'src')) {
	my ($engine) = $file =~ m{^src/(.*)/invariants\.md$};
	my $item;
	for (lines($file)) {
		if (/^- \*\*($ID)\*\* (.*)/) {
			$item = { id => $1, text => $2, engine => $engine, file => $file };
			wrong('tags-known', "$file: $1 is there twice") if $item{$1};
			push @items, $item;
			$item{$1} = $item;
		} elsif (/^  (\S.*)/ && $item) {
			$item->{text} .= " $1";
		} else {
			undef $item;
		}
	}
}
$_->{none} = $_->{text} =~ /Nothing keeps it/ for @items;

for my $file (files(qr/-museum\.md$/, 'docs')) {
	for (lines($file)) {
		/^\| ($ID)( ★)? \| (.*?) \| (.*) \|$/ or next;
		$row{$1} = { id => $1, star => $2, what => $3, shown => $4, file => $file };
		push @rows, $row{$1};
	}
}

# The frame names the seeds: they need evidence as stars do.
my @frame = lines('docs/proofs.md.in');
for (map { /^\@story ($ID)$/ ? $1 : () } @frame) {
	if ($row{$_}) { $row{$_}{seed} = 1 }
	else { wrong('tags-known', "docs/proofs.md.in: no museum has $_") }
}
my @stars = grep { $_->{star} || $_->{seed} } @rows;

# --- src/: KEEPS and WINDOW -------------------------------------------------

my $COMMENT = qr{^\s*(?://|/?\*)};
my $ATTRIBUTE = qr/^\s*#!?\[|^\s*[\w("=, .)]*\)\]$/;
my $RUST_ITEM = qr/^\s*(?:(?:pub(?:\([^)]*\))?|default|const|unsafe|extern(?:\s"C")?)\s+)*
	(?:(?:fn|struct|enum|trait|union|mod|type|static|const|macro_rules!)\s+(\w+)
	|impl\b(?:<.*?>)?\s+(?:.*\bfor\s+)?(\w+))/x;
my $C_ITEM = qr/^(?:#define\s+(\w+)|[a-z][\w\s*]*?\b(\w+)\()/;

# The item that line $at is about: the one that follows its comment, else the
# one around it. Nothing where it is about the whole file.
sub item_at {
	my ($lines, $at, $match) = @_;
	return '' if $lines->[$at] =~ m{^\s*//!};
	my $next = $at;
	$next++ while $next < @$lines && ($lines->[$next] =~ $COMMENT || $lines->[$next] =~ $ATTRIBUTE);
	return $1 // $2 if $next < @$lines && $lines->[$next] =~ $match;
	my ($indent) = $lines->[$at] =~ /^(\s*)/;
	for (my $up = $at - 1; $up >= 0; $up--) {
		$lines->[$up] =~ /^(\s*)\S/ or next;
		next if length $1 >= length $indent;
		my $around = $1;
		return $1 // $2 if $lines->[$up] =~ $match;
		# The end of a signature of several lines: its begin stands as far in.
		$indent = $lines->[$up] =~ /^\s*(?:\)|where\b)/ ? "$around " : $around;
	}
	return '';
}

for my $file (files(qr/\.(?:rs|c|h)$/, 'src')) {
	my @lines = lines($file);
	my $match = $file =~ /\.rs$/ ? $RUST_ITEM : $C_ITEM;
	for my $at (0 .. $#lines) {
		for my $id (tagged('KEEPS', $lines[$at])) {
			my $place = { file => $file, item => item_at(\@lines, $at, $match) };
			push @{ $kept{$id} }, $place;
			wrong('tags-known', "$file:" . ($at + 1) . ": KEEPS $id, which no invariants.md states")
				unless $item{$id};
		}
		next if $lines[$at] =~ /\bSHOWS:/;
		$lines[$at] =~ m{^\s*(?://[/!]?|/?\*)\s*(.*?)\bWINDOW\b(?:\(([a-z0-9-]+)\))?(.*)} or next;
		my ($name, $text) = ($2, $3);
		if (!defined $name || $text !~ s/^:\s*//) {
			wrong('windows-named', "$file:" . ($at + 1) . ': WINDOW(name): and what repairs it');
			next;
		}
		# To the end of its paragraph.
		for my $more ($at + 1 .. $#lines) {
			last unless $lines[$more] =~ m{^\s*//[/!]?\s*(.+?)\s*$};
			last if $1 =~ /^(?:[A-Z]+(?:\([a-z0-9-]+\))?:|# )/;
			$text .= " $1";
		}
		push @windows, $name unless $window{$name};
		push @{ $window{$name} }, { file => $file, item => item_at(\@lines, $at, $match), text => $text };
	}
}

# --- tests ------------------------------------------------------------------

# Museum rows and invariants that a test is named after: fd_3_8_, M_15_and_M_30_.
sub named_after {
	my ($name) = @_;
	my @ids;
	while ($name =~ /(?:^|_and_)([A-Za-z]+)((?:_\d+)+)(?=_|$)/g) {
		my $prefix = uc $1;
		push @ids, grep { $row{$_} || $item{$_} } map { "$prefix-$_" } grep { length } split /_/, $2;
	}
	return @ids;
}

# A test: its file, its name as Caught-by has it, and the lines of comment above.
sub add_test {
	my ($file, $path, $name, @comment) = @_;
	my $kind = $file =~ m{^tests/loom_} ? 'model' : $file =~ m{^(?:c-tests/(?:race|stress)/|tests/shuttle_)} ? 'stress' : 'test';
	my $test = { file => $file, path => $path, name => $name, kind => $kind, order => scalar @tests };
	push @tests, $test;
	$test{$path} = $test;
	my %seen;
	for my $id (grep { !$seen{$_}++ } named_after($name), map { tagged('SHOWS', $_) } @comment) {
		push @{ $shown{$id} }, $test;
		wrong('tags-known', "$file: $name SHOWS $id, which is nowhere")
			unless $item{$id} || $row{$id} || ($id =~ /^WINDOW\((.*)\)$/ && $window{$1});
	}
	return $test;
}

# The numbers of preemptions that a function explores: its own call of the
# file's explore() or model(), or those of the functions that it calls.
sub bounds {
	my ($name, $body, $whole, $depth) = @_;
	my @found = $body->{$name} =~ /\b(?:explore|model)\(\s*(?:(?:"[^"]*"|\w+),\s*)?(None|Some\(\d+\))/g;
	return @found if @found || $depth > 3;
	my %called;
	$called{$_}++ for $body->{$name} =~ /\b(\w+)\(/g;
	delete @called{ $name, 'explore', 'model' };
	@found = map { $body->{$_} ? bounds($_, $body, $whole, $depth + 1) : () } sort keys %called;
	return @found if @found;
	return $body->{$name} =~ /\bmodel\(/ ? @$whole : ();
}

sub rust_tests {
	my ($file) = @_;
	my @lines = lines($file);
	my $module = $file;
	$module =~ s{^tests/|\.rs$}{}g;
	$module =~ s{^src/}{lib/};
	$module =~ s{/mod$}{};
	$module =~ s{/}{::}g;
	my ($inner, %body, @found, %placed);
	for my $at (0 .. $#lines) {
		$inner = $1 if $lines[$at] =~ /^(?:pub )?mod (\w+) \{/;
		undef $inner if $lines[$at] eq '}';
		$lines[$at] =~ /^(\s*)(?:pub(?:\([^)]*\))? |unsafe |extern "C" )*fn (\w+)/ or next;
		my ($indent, $name) = ($1, $2);
		my $end = $at;
		$end++ until $end >= $#lines || $lines[$end] =~ /^$indent\}/;
		$body{$name} = join "\n", @lines[$at .. $end];
		my $top = $at;
		$top-- while $top > 0 && ($lines[$top - 1] =~ $COMMENT || $lines[$top - 1] =~ $ATTRIBUTE);
		next unless grep { /#\[test\]/ } @lines[$top .. $at];
		$placed{$_} = 1 for $top .. $at;
		push @found, add_test($file, join('::', $module, $inner // (), $name), $name, grep { /$COMMENT/ } @lines[$top .. $at]);
	}
	misplaced($file, \@lines, \%placed);
	return unless $file =~ m{^tests/loom_};
	my @whole = map { /preemption_bound = (Some\(\d+\)|None)/ ? $1 : () } @lines;
	for my $test (@found) {
		my %seen;
		my @bounds = grep { !$seen{$_}++ } map { /(\d+)/ ? "≤$1" : 'every' } bounds($test->{name}, \%body, \@whole, 0);
		wrong('models-bound', "$file: no bound found in $test->{name}") unless @bounds;
		$test->{bound} = join '/', @bounds;
	}
}

# SHOWS that stand above no test.
sub misplaced {
	my ($file, $lines, $placed) = @_;
	for (grep { !$placed->{$_} && $lines->[$_] =~ /\bSHOWS:/ } 0 .. $#$lines) {
		wrong('tags-placed', "$file:" . ($_ + 1) . ': SHOWS: above no test');
	}
}

sub c_tests {
	my ($file) = @_;
	my @lines = lines($file);
	my ($program) = $file =~ m{([^/]+)\.c$};
	my %placed;
	for my $at (0 .. $#lines) {
		$lines[$at] =~ /^START_TEST\((\w+)\)/ or next;
		my ($name, $top) = ($1, $at);
		$top-- while $top > 0 && $lines[$top - 1] =~ /\S/ && $lines[$top - 1] !~ /^[^\s\/]/
			&& $lines[$top] !~ m{^/\*};
		$placed{$_} = 1 for $top .. $at;
		(my $path = $file) =~ s/\.c$/::$name/;
		add_test($file, $path, $name, @lines[$top .. $at]);
	}
	# A program of one piece: the comment at its head.
	if (!%placed) {
		my $end = 0;
		$end++ until $end >= $#lines || $lines[$end] !~ m{^(?:/| ?\*|\t|   |\s*$| )};
		$placed{$_} = 1 for 0 .. $end;
		(my $path = $file) =~ s/\.c$//;
		add_test($file, $path, $program, @lines[0 .. $end]);
	}
	misplaced($file, \@lines, \%placed);
}

rust_tests($_) for files(qr/\.rs$/, 'tests', 'src');
c_tests($_) for files(qr/\.c$/, 'c-tests');

# --- mutants ----------------------------------------------------------------

for my $file (files(qr/\.patch$/, 'tests/mutants')) {
	my ($name) = $file =~ m{([^/]+)\.patch$};
	my (@by, %breaks, $what);
	for (lines($file)) {
		last if /^(?:---|diff) /;
		$what //= $_;
		push @by, $1 if /^Caught-by: *(\S+)/;
		for my $id (tagged('Breaks', $_)) {
			$breaks{$id} = 1;
			wrong('tags-known', "$file: Breaks $id, which is nowhere") unless $item{$id} || $row{$id};
		}
	}
	$breaks{$1} = 1 if $name =~ /^($ID)(?:-|$)/ && ($row{$1} || $item{$1});
	my $mutant = { name => $name, file => $file, what => $what };
	push @mutants, $mutant;
	push @{ $broken{$_} }, $mutant for keys %breaks;
	wrong('mutants-break', "$file: no Breaks:, and no row or invariant of its name") unless %breaks;
	wrong('mutants-caught', "$file: no Caught-by:") unless @by;
	wrong('mutants-caught', "$file: there is no test $_") for grep { !$test{$_} } @by;
}

# --- what lacks -------------------------------------------------------------

for (grep { !$_->{none} } @items) {
	wrong('invariants-kept', "$_->{file}: nothing has KEEPS: $_->{id}") unless $kept{ $_->{id} };
	wrong('invariants-shown', "$_->{file}: no test has SHOWS: $_->{id}") unless $shown{ $_->{id} };
}
for (@stars) {
	wrong('rows-shown', "$_->{file}: no test for $_->{id}") unless $shown{ $_->{id} };
	wrong('rows-broken', "$_->{file}: no mutant for $_->{id}, and no 'no mutant: reason'")
		unless $broken{ $_->{id} } || $_->{shown} =~ /no mutant: \S/;
}
for my $name (@windows) {
	wrong('windows-shown', "$window{$name}[0]{file}: no test has SHOWS: WINDOW($name)") unless $shown{"WINDOW($name)"};
}

# --- the page ---------------------------------------------------------------

sub link_to { my ($text, $file) = @_; return "[$text](" . ($file =~ m{^docs/(.*)} ? $1 : "../$file") . ')' }
sub code { my ($text) = @_; return $text eq '' ? '' : "`$text`" }

# Things of several files: each file once, linked, with what is in it.
sub by_file {
	my ($format, @things) = @_;
	my (@files, %in);
	for (@things) {
		push @files, $_->{file} unless $in{ $_->{file} };
		my $text = $format->($_);
		next if grep { $_ eq $text } @{ $in{ $_->{file} } };
		push @{ $in{ $_->{file} } }, $text;
	}
	return join '; ', map {
		my ($base) = m{([^/]+)$};
		my @texts = grep { length } @{ $in{$_} };
		$base =~ s/\.(?:rs|c)$// unless m{^src/};
		link_to($base, $_) . (@texts ? ': ' . join(', ', @texts) : '')
	} @files;
}
sub places { return by_file(sub { code($_[0]{item}) }, @_) }
sub tests_in { return by_file(sub { $_[0]{path} =~ /::/ ? code($_[0]{name}) : '' }, @_) }
sub models_in { return join ', ', map { code($_->{name}) . " $_->{bound}" } @_ }
sub mutants_in {
	my %key = map { $_->{name} => $_->{name} =~ s/(\d+)/sprintf '%04d', $1/ger } @_;
	return join ', ', map { link_to($_->{name}, $_->{file}) } sort { $key{ $a->{name} } cmp $key{ $b->{name} } } @_;
}

sub evidence {
	my ($id) = @_;
	my @all = sort { $a->{order} <=> $b->{order} } @{ $shown{$id} // [] };
	return ([ grep { $_->{kind} eq 'model' } @all ], [ grep { $_->{kind} ne 'model' } @all ], $broken{$id} // []);
}
sub cells { my ($models, $tests, $mutants) = evidence($_[0]); return (models_in(@$models), tests_in(@$tests), mutants_in(@$mutants)) }
sub line { return '| ' . join(' | ', map { s/\|/\\|/gr } @_) . " |\n" }
sub table { my (@heads) = @_; return line(@heads) . line(('---') x @heads) }

sub story {
	my ($id) = @_;
	my ($models, $tests, $mutants) = evidence($id);
	my @stress = grep { $_->{kind} eq 'stress' } @$tests;
	my @others = grep { $_->{kind} ne 'stress' } @$tests;
	my ($base) = $row{$id}{file} =~ m{([^/]+)$};
	my @facts = (
		[ 'Models', models_in(@$models) ],
		[ 'Races and stress', tests_in(@stress) ],
		[ 'Other tests', tests_in(@others) ],
		[ 'Mutants', join '; ', map { link_to($_->{name}, $_->{file}) . ': ' . lcfirst($_->{what} =~ s/\.$//r) } @$mutants ],
	);
	return join '', "Seed $id ([museum]($base)): $row{$id}{what}.\n\n", map { "- $_->[0]: $_->[1].\n" } grep { length $_->[1] } @facts;
}

# "INV-60 One close." of an item's text: its first sentence.
sub title { my ($item) = @_; return link_to($item->{id}, $item->{file}) . ' ' . ($item->{text} =~ /^(.*?[.:;])(?:\s|$)/ ? $1 =~ s/[:;]$/./r : $item->{text}) }

sub engines {
	my (@order, %of);
	for (@items) {
		push @order, $_->{engine} unless $of{ $_->{engine} };
		push @{ $of{ $_->{engine} } }, $_;
	}
	my $page = '';
	for my $engine (@order) {
		$page .= "### `src/$engine/`\n\n" . table('invariant', 'kept by', 'models', 'other tests', 'mutants');
		for (@{ $of{$engine} }) {
			my @cells = $_->{none} ? (($_->{text} =~ /(Nothing keeps it.*)/)[0], '', '', '')
				: (places(@{ $kept{ $_->{id} } // [] }), cells($_->{id}));
			$page .= line(title($_), @cells);
		}
		$page .= "\n";
	}
	return $page =~ s/\n+$/\n/r;
}

sub windows {
	my $page = table('window', 'where', 'what it is, and what repairs it', 'shown by');
	for my $name (@windows) {
		my ($models, $tests) = evidence("WINDOW($name)");
		my @texts = grep { !/^as (?:in|at)\b/ } map { $_->{text} } @{ $window{$name} };
		$page .= line($name, places(@{ $window{$name} }), $texts[0] // '', join '; ', grep { length } models_in(@$models), tests_in(@$tests));
	}
	return $page;
}

sub stars {
	my $page = table('row', 'the mistake', 'models', 'other tests', 'mutants');
	for (@stars) {
		my @cells = cells($_->{id});
		$cells[2] ||= 'none: ' . ($_->{shown} =~ /no mutant: (.*?)\.?$/)[0] if $_->{shown} =~ /no mutant: /;
		$page .= line(link_to($_->{id}, $_->{file}), $_->{what}, @cells);
	}
	return $page;
}

# "@name argument" stands for what is found.
my $page = "<!-- made by `make proofs` from docs/proofs.md.in and the tags: not by hand -->\n";
for (@frame) {
	if (/^\@story ($ID)$/) { $page .= $row{$1} ? story($1) : '' }
	elsif ($_ eq '@engines') { $page .= engines() }
	elsif ($_ eq '@windows') { $page .= windows() }
	elsif ($_ eq '@stars') { $page .= stars() }
	elsif (/^\@/) { wrong('tags-known', "docs/proofs.md.in: $_") }
	else { $page .= "$_\n" }
}
my %count = (
	invariants => scalar @items, mutants => scalar @mutants, tests => scalar @tests,
	models => scalar(grep { $_->{kind} eq 'model' } @tests),
	exhaustive => scalar(grep { ($_->{bound} // '') eq 'every' } @tests),
);
$page =~ s/\{(\w+)\}/$count{$1} \/\/ "{$1}"/ge;

if (!$check) {
	print $page;
	exit 0;
}
my $there = -e 'docs/proofs.md' ? join("\n", lines('docs/proofs.md')) . "\n" : '';
wrong('page-fresh', "docs/proofs.md: run 'make proofs'") if $there ne $page;
for (
	[ 'tags-known',       'tags name invariants, rows of a museum, and windows that there are' ],
	[ 'tags-placed',      'SHOWS: stands directly above a test, or at the head of a program' ],
	[ 'invariants-kept',  'each says where it is kept, or that nothing keeps it' ],
	[ 'invariants-shown', 'each has a test that would fail' ],
	[ 'rows-shown',       'a row with a star and a seed have a test' ],
	[ 'rows-broken',      'a row with a star and a seed have a mutant' ],
	[ 'mutants-caught',   'a mutant names the test that catches it' ],
	[ 'mutants-break',    'a mutant says what it breaks' ],
	[ 'models-bound',     'the bound of each model is found' ],
	[ 'windows-named',    'a race that is left open has a name' ],
	[ 'windows-shown',    'a test shows what repairs it' ],
	[ 'page-fresh',       'the page is what the tags say' ],
) {
	my ($rule, $advice) = @$_;
	my $list = $wrong{$rule};
	print map { "    $_\n" } @{ $list // [] };
	print $list ? "not ok $rule: $advice\n" : "ok $rule\n";
}
exit(%wrong ? 1 : 0);

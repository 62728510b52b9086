#!/usr/bin/perl
# abi-sizes.pl DWARF INCLUDE: the rest of a C program that prints each structure and union
# which the headers below INCLUDE define, with its fields, as the compiler recorded them in
# DWARF, the output of `readelf --debug-dump=info`. Fails where one of them is not there.
use strict;
use warnings;

my ($dwarf, $include) = @ARGV;

my %defined;
for my $file (glob "$include/keel/*.h") {
    open my $in, '<', $file or die "$file: $!\n";
    while (<$in>) {
        $defined{"$1 $2"} = $file if /^\s*(?:typedef )?(struct|union) (?:KEEL_ALIGNED\(\d+\) )?(\w+) \{/;
        die "$file:$.: a structure without a name has no line in sizes.txt\n" if /\b(struct|union) \{/;
    }
}

# The fields by structure; of one, its name, and its bits where it has no address.
my (%fields, $type, $fields, $field);
open my $in, '<', $dwarf or die "$dwarf: $!\n";
while (<$in>) {
    if (/^ <(\d+)><[0-9a-f]+>: .*\((DW_TAG_\w+)\)/) {
        my ($level, $tag) = ($1, $2);
        undef $field;
        if ($level == 1) {
            undef $fields;
            undef $type;
            $type = $1 eq 'structure' ? 'struct' : 'union' if $tag =~ /^DW_TAG_(structure|union)_type/;
        } elsif ($level == 2 && $tag eq 'DW_TAG_member' && $fields) {
            push @$fields, $field = {};
        }
    } elsif (/DW_AT_name\s*: (?:\(.*\): )?(\w+)\s*$/) {
        if ($field) {
            $field->{name} = $1;
        } elsif ($type && !$fields) {
            $fields = $fields{"$type $1"} ||= [];
        }
    } elsif (/DW_AT_bit_size\s*: (\d+)/ && $field) {
        $field->{bits} = $1;
    }
}

print "#include <stddef.h>\n#include <stdio.h>\n\nint main(void)\n{\n";
for my $name (sort keys %defined) {
    my $list = $fields{$name} or die "$name of $defined{$name} is not among what the compiler recorded\n";
    print "\tprintf(\"$name: %zu bytes, aligned to %zu\\n\", sizeof($name), _Alignof($name));\n";
    for my $field (@$list) {
        my $f = $field->{name} or die "$name has a field without a name\n";
        if ($field->{bits}) {
            print "\tprintf(\"           %d bits  $f\\n\", $field->{bits});\n";
        } else {
            print "\tprintf(\"  at %4zu %4zu bytes  $f\\n\", offsetof($name, $f), sizeof((($name *)0)->$f));\n";
        }
    }
}
print "\treturn 0;\n}\n";

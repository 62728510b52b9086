#!/bin/sh
# proofs-test.sh: a tree of a few lines in which all tags are right, and one
# mistake at a time: the rule that it breaks fires, and no other.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
proofs=$(cd "$(dirname "$0")" && pwd)/proofs.pl
result=0

plant() {
	cd "$work" && rm -rf "$work/tree"
	mkdir -p "$work/tree" && cd "$work/tree" || exit 1
	mkdir -p docs src/pool tests/mutants c-tests/race c-tests/api
	cat > docs/proofs.md.in <<-'END'
		{models} models, {mutants} mutants
		@story POOL-1
		@engines
		@windows
		@stars
	END
	cat > docs/pool-museum.md <<-'END'
		| POOL-1 | the seed | model |
		| POOL-2 ★ | a star | unit |
		| POOL-3 ★ | another one | race; no mutant: nothing is there to break |
		| POOL-4 | nobody looks at this one | none |
	END
	cat > src/pool/invariants.md <<-'END'
		- **INV-1** One. It goes on
		  in a second line.
		- **INV-2** Two. Nothing keeps it: there is no such thing.
		- **INV-3** Three.
	END
	cat > src/pool/list.rs <<-'END'
		/// A list.
		/// KEEPS: INV-1
		pub struct List {
		    head: u32,
		}

		impl List {
		    pub fn push(
		        &self,
		    ) {
		        // KEEPS: INV-1, INV-3
		        // WINDOW(full): somebody may have filled it;
		        // the next one looks again.
		        self.look();
		    }
		}

		#[cfg(test)]
		mod tests {
		    // SHOWS: WINDOW(full)
		    #[test]
		    fn pool_2_a_unit_test() {}
		}
	END
	cat > tests/loom_pool.rs <<-'END'
		fn explore(bound: Option<usize>, f: impl Fn()) {
		    builder.preemption_bound = bound;
		}

		fn twice() {
		    explore(Some(3), || {});
		}

		/// What it does.
		/// SHOWS: INV-1, WINDOW(full)
		#[test]
		fn pool_1_a_model() {
		    explore(None, || {});
		}

		#[test]
		fn another_model() {
		    twice();
		}
	END
	printf '/* A race.\n * SHOWS: POOL-3 */\nint main(void)\n{\n}\n' > c-tests/race/pool.c
	printf '/* SHOWS: INV-3 */\nSTART_TEST(a_test_in_c)\n{\n}\nEND_TEST\n' > c-tests/api/test_pool.c
	printf 'A mistake.\nCaught-by: loom_pool::pool_1_a_model\n\n--- a/x\n' > tests/mutants/POOL-1.patch
	printf 'A mistake.\nCaught-by: lib::pool::list::tests::pool_2_a_unit_test\nBreaks: INV-1\n\n--- a/x\n' > tests/mutants/POOL-2-TWO.patch
	printf 'A mistake.\nCaught-by: c-tests/api/test_pool::a_test_in_c\nBreaks: INV-3\n\n--- a/x\n' > tests/mutants/LIST.patch
	printf 'A mistake.\nCaught-by: c-tests/race/pool\nBreaks: POOL-1\n\n--- a/x\n' > tests/mutants/RACE.patch
}
fired() { "$proofs" --check . | sed -n 's/^not ok \([a-z-]*\):.*/\1/p' | tr '\n' ' '; }

# breach 'RULE…' FILE EXPRESSION…: sed changes the file; without any it goes.
breach() {
	rules=$1 file=$2
	shift 2
	plant
	cp "$file" "$work/before"
	for expression; do sed -i "$expression" "$file"; done
	[ $# -gt 0 ] || rm "$file"
	"$proofs" > docs/proofs.md
	what="$rules ($file: ${*:-gone})"
	if cmp -s "$file" "$work/before"; then
		printf 'not ok proofs see: %s: that changes nothing\n' "$what"
		result=1
	elif [ "$(fired)" = "$rules " ]; then
		printf 'ok proofs see: %s\n' "$what"
	else
		printf 'not ok proofs see: %s: fired %s\n' "$what" "$(fired)"
		result=1
	fi
}

# says TEXT: a part of the page that the tree makes.
says() {
	if grep -qF "$1" docs/proofs.md; then
		echo "ok proofs say: $1"
	else
		echo "not ok proofs say: $1"
		result=1
	fi
}

plant
"$proofs" > docs/proofs.md
if [ -z "$(fired)" ]; then echo 'ok proofs let a right tree pass'; else
	"$proofs" --check
	echo 'not ok proofs let a right tree pass'
	result=1
fi
says '2 models, 4 mutants'
says '| [INV-1](../src/pool/invariants.md) One. | [list.rs](../src/pool/list.rs): `List`, `push` | `pool_1_a_model` every |  | [POOL-2-TWO]'
says '| [INV-2](../src/pool/invariants.md) Two. | Nothing keeps it: there is no such thing. |'
says '[test_pool](../c-tests/api/test_pool.c): `a_test_in_c`'
says '| full | [list.rs](../src/pool/list.rs): `push` | somebody may have filled it; the next one looks again. | `pool_1_a_model` every; [list.rs](../src/pool/list.rs): `pool_2_a_unit_test` |'
says '| [POOL-3](pool-museum.md) | another one |  | [pool](../c-tests/race/pool.c) | none: nothing is there to break |'

plant
sed -i 's/SHOWS: INV-1,/SHOWS: POOL-2, INV-1,/' tests/loom_pool.rs
sed -i 's|// KEEPS: INV-1, INV-3|// KEEPS: INV-3|' src/pool/list.rs
sed -i 's/^fn another_model/fn pool_3_another_model/' tests/loom_pool.rs
"$proofs" > docs/proofs.md
says '| `pool_3_another_model` ≤3 |'
if [ -z "$(fired)" ]; then echo 'ok proofs let other tags pass'; else
	echo "not ok proofs let other tags pass: fired '$(fired)'"
	result=1
fi

breach tags-known src/pool/list.rs 's/KEEPS: INV-1$/KEEPS: INV-1, INV-9/'
breach tags-known tests/loom_pool.rs 's/SHOWS: INV-1/SHOWS: INV-1, POOL-9/'
breach tags-known tests/loom_pool.rs 's/SHOWS: /SHOWS: WINDOW(empty), /'
breach tags-known tests/mutants/LIST.patch 's/Breaks: /Breaks: FD-1, /'
breach tags-known docs/proofs.md.in 's/@story POOL-1/@story POOL-9/'
breach tags-known docs/proofs.md.in 's/@stars/@stories/'
breach tags-known src/pool/invariants.md 's/^- .*Three/- **INV-3** Again.\n&/'
breach tags-placed tests/loom_pool.rs 's|^fn twice|// SHOWS: INV-1\n&|'
breach tags-placed c-tests/api/test_pool.c 's|^END_TEST|&\n/* SHOWS: INV-1 */|'
breach invariants-kept src/pool/list.rs 's/KEEPS: INV-1, INV-3/KEEPS: INV-1/'
breach 'invariants-kept invariants-shown' src/pool/invariants.md 's/Nothing keeps it: //'
breach invariants-shown c-tests/api/test_pool.c 's/SHOWS: INV-3/Shows nothing./'
breach rows-shown c-tests/race/pool.c 's/SHOWS/Shows/'
breach rows-shown docs/pool-museum.md 's/POOL-4/POOL-4 ★/' 's/none |/no mutant: nothing does it |/'
breach rows-broken docs/pool-museum.md 's/no mutant: .* |/no mutant |/'
breach rows-broken tests/mutants/POOL-2-TWO.patch
breach mutants-caught tests/mutants/POOL-1.patch '/^Caught-by/d'
breach mutants-caught tests/mutants/POOL-1.patch 's/a_model/a_lost_model/'
breach mutants-caught tests/mutants/LIST.patch 's|test_pool::|test_task::|'
breach mutants-caught tests/mutants/RACE.patch 's|race/pool|race/no_pool|'
breach mutants-break tests/mutants/LIST.patch '/^Breaks/d'
breach models-bound tests/loom_pool.rs 's/explore(Some(3)/explore(few()/'
breach 'tags-known windows-named' src/pool/list.rs 's/WINDOW(full):/WINDOW:/'
breach windows-shown src/pool/list.rs 's|// KEEPS: INV-1, INV-3|&\n        // WINDOW(empty): nobody looks.|'

plant
echo 'an old page' > docs/proofs.md
if [ "$(fired)" = 'page-fresh ' ]; then echo 'ok proofs see: page-fresh'; else
	echo "not ok proofs see: page-fresh: fired '$(fired)'"
	result=1
fi
exit $result

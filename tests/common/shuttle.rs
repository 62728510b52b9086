//! How the scenarios in tests/shuttle_*.rs are run: each many times, by a
//! scheduler that takes any thread at each step, and by one that hardly ever
//! changes its mind (PCT: it finds what needs few but awkward switches).
//!
//! SHUTTLE_ITERATIONS says how often. A failure prints its schedule; with that
//! text in a file, SHUTTLE_REPLAY=FILE and the name of the test run it again.

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use std::sync::Arc;

pub const THREADS: usize = 8;

/// Schedules of each kind.
const ITERATIONS: usize = 2000;

/// Switches that PCT makes beside those for threads that wait.
const SWITCHES: usize = 4;

pub fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    if let Some(file) = std::env::var_os("SHUTTLE_REPLAY") {
        let replay = ReplayScheduler::new_from_file(file).expect("SHUTTLE_REPLAY");
        return run(replay, scenario);
    }
    let iterations = match std::env::var("SHUTTLE_ITERATIONS") {
        Ok(n) => n.parse().expect("SHUTTLE_ITERATIONS"),
        Err(_) => ITERATIONS,
    };
    run(RandomScheduler::new(iterations), scenario.clone());
    run(PctScheduler::new(SWITCHES, iterations), scenario);
}

fn run(scheduler: impl Scheduler + 'static, scenario: Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    // A wheel is larger than the stack that threads have otherwise.
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || scenario());
}

/// Eight threads do `f` with what they share, and end; what each returned.
pub fn together<W: Send + Sync + 'static, R: Send + 'static>(
    world: &Arc<W>,
    f: impl Fn(&W, usize) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let f = Arc::new(f);
    let threads: Vec<_> = (0..THREADS)
        .map(|me| {
            let (world, f) = (world.clone(), f.clone());
            thread::spawn(move || f(&world, me))
        })
        .collect();
    threads.into_iter().map(|t| t.join().unwrap()).collect()
}

/// A number below `n`, which a replay chooses again.
pub fn any(n: usize) -> usize {
    thread_rng().gen_range(0..n)
}

//! What `init` makes and `deinit` frees.

use super::HOOKS;
use super::callouts::now_sbt;
use super::common_date::CommonDate;
use super::config::Config;
use super::dedicated::Dedicated;
use super::hooks::WARNING;
use super::isolation::Isolation;
use super::thread::Thread;
use crate::callout::Callouts;
use crate::callout::time::granule;
use crate::fd::FdTable;
use crate::pool::{self, Registry};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use crate::sync::{self, Mutex};
use crate::sys::{self, clock, memory};
use crate::task::{self, Task, Tasklet, Tasks};
use core::ffi::CStr;
use core::ptr;

static POOLS: Registry = Registry::with_words_of(Some(c"KEEL_POOL_DEBUG"));
static CORE: AtomicPtr<Core> = AtomicPtr::new(ptr::null_mut());
// Held while the core is made or freed, and while threads come and go.
static LIFE: Mutex<()> = Mutex::new(());

// Ticks start 5 s before they wrap, so that no program's tests miss the
// wrap; 64-bit dates start high enough for dates in the past.
const WRAPS_AFTER_MS: u64 = 5_000;
const FIRST_WRAP: u64 = 1 << 33;

/// Everything that exists between `init` and `deinit`.
pub struct Core {
    /// The configuration.
    pub config: Config,
    /// The task engine.
    pub tasks: Tasks,
    /// The descriptor table.
    pub fds: FdTable,
    /// The callout engine.
    pub callouts: Callouts,
    /// Threads that serve callouts alone.
    pub(super) dedicated: Dedicated,
    /// The rendez-vous.
    pub isolation: Isolation,
    /// Every loop is to end.
    pub stopping: AtomicBool,
    /// A call of `run` is under way.
    pub running: AtomicBool,
    /// Ids in use.
    pub(super) registered: AtomicU64,
    /// Ids whose threads are not there, in the child of a fork.
    pub(super) vanished: AtomicU64,
    /// Added to CLOCK_MONOTONIC's milliseconds.
    offset_ms: u64,
    /// The latest date that any thread knows.
    pub(super) common_date: CommonDate,
    threads: *mut Thread,
}

// SAFETY: its parts are, and the thread records live as long as it does.
unsafe impl Sync for Core {}

impl Core {
    /// The records of all ids.
    #[inline]
    pub fn threads(&self) -> &[Thread] {
        // SAFETY: init made nbthread records.
        unsafe { core::slice::from_raw_parts(self.threads, self.config.nbthread) }
    }

    /// The date now, in milliseconds that never wrap.
    pub fn now_ms(&self) -> u64 {
        self.ms_of(clock::monotonic_ns())
    }

    /// The same where the clock was just read.
    pub fn ms_of(&self, monotonic_ns: u64) -> u64 {
        self.common_date
            .advance(monotonic_ns / 1_000_000 + self.offset_ms)
    }

    /// The CLOCK_MONOTONIC date of `date`, ns.
    pub fn ns_of(&self, date: u64) -> u64 {
        date.saturating_sub(self.offset_ms)
            .saturating_mul(1_000_000)
    }
}

/// The object pools; they exist before `init`.
#[inline]
pub fn pools() -> &'static Registry {
    &POOLS
}

/// The core, if `init` made one.
#[inline]
pub fn core() -> Option<&'static Core> {
    // PAIRS: init's Release.
    // UNSEEN: a program has means of its own to say that keel_init() is over.
    // SAFETY: NULL, or what init made; deinit frees it when all have left.
    unsafe { CORE.load(Ordering::Acquire).as_ref() }
}

/// The core. Its absence is the host's mistake.
#[inline]
pub fn require_core() -> &'static Core {
    match core() {
        Some(core) => core,
        None => panic!("keel_init() has not been called"),
    }
}

/// Whether `init` was called.
pub fn started() -> bool {
    core().is_some()
}

/// The lock behind [`life`].
pub(super) fn life_lock() -> &'static Mutex<()> {
    &LIFE
}

/// Serialises coming and going.
pub(super) fn life() -> crate::sync::MutexGuard<'static, ()> {
    LIFE.lock()
}

/// Makes the core: 0 or a negative errno.
pub fn init(config: Config) -> i32 {
    let _life = life();
    if started() {
        return -sys::EALREADY;
    }
    HOOKS.install(&config);
    sync::prepare();
    if !super::fork::install() {
        return -sys::ENOMEM;
    }
    match build(config) {
        Ok(core) => {
            // PAIRS, UNSEEN: core's Acquire.
            CORE.store(core, Ordering::Release);
            POOLS.set_started(true);
            0
        }
        Err(rc) => rc,
    }
}

/// A pool of the library's own, which lives until deinit, or until init fails.
/// Not to be merged with others of its size: its objects are counted.
struct OwnPool(&'static pool::Head);

impl OwnPool {
    fn new(name: &CStr, size: usize) -> Result<Self, i32> {
        let head = POOLS
            .create(name.to_bytes(), size as u32, 0, 0)
            .map_err(|e| -e)?;
        // SAFETY: the use that create counted is given back by `drop` and deinit alone.
        Ok(Self(unsafe { head.as_ref() }))
    }
}

impl Drop for OwnPool {
    fn drop(&mut self) {
        // SAFETY: whoever was to use it was dropped before it.
        unsafe { POOLS.destroy(ptr::NonNull::from(self.0), None) };
    }
}

fn build(config: Config) -> Result<*mut Core, i32> {
    let poller = super::pollers::best().ok_or(-sys::EINVAL)?;
    POOLS.set_cache_bytes(config.cache_bytes);
    POOLS.set_threads(config.nbthread);
    match POOLS.make_declared_pools() {
        0 => {}
        rc => return Err(rc),
    }
    let task_pool = OwnPool::new(c"task", size_of::<Task>())?;
    let tasklet_pool = OwnPool::new(c"tasklet", size_of::<Tasklet>())?;
    let pools = task::Pools {
        registry: &POOLS,
        tasks: task_pool.0,
        tasklets: tasklet_pool.0,
    };
    let offset_ms = FIRST_WRAP - WRAPS_AFTER_MS - clock::monotonic_ns() / 1_000_000;
    let engine = task::Config {
        depth: config.depth,
        low_latency: config.low_latency,
        profiling: config.profiling,
    };
    let now = FIRST_WRAP - WRAPS_AFTER_MS;
    let tasks = Tasks::new(config.nbthread, engine, now, pools).ok_or(-sys::ENOMEM)?;
    let fds = FdTable::new(config.maxsock, config.nbthread, poller)?;
    let granule = granule(now_sbt());
    let callouts =
        Callouts::new(config.nbthread, config.callout_hz, granule).ok_or(-sys::ENOMEM)?;
    let area = memory::alloc_zeroed(config.nbthread * size_of::<Thread>(), align_of::<Thread>());
    let threads: *mut Thread = area.cast();
    if threads.is_null() {
        return Err(-sys::ENOMEM);
    }
    for tid in 0..config.nbthread {
        // SAFETY: the area holds nbthread records.
        unsafe { threads.add(tid).write(Thread::new(tid)) };
    }
    let core: *mut Core = memory::alloc(size_of::<Core>(), align_of::<Core>()).cast();
    if core.is_null() {
        // SAFETY: nobody has seen the records.
        unsafe { memory::free(area) };
        return Err(-sys::ENOMEM);
    }
    // SAFETY: the area has a Core's size.
    unsafe {
        core.write(Core {
            config,
            tasks,
            fds,
            callouts,
            dedicated: Dedicated::new(),
            isolation: Isolation::new(),
            stopping: AtomicBool::new(false),
            running: AtomicBool::new(false),
            registered: AtomicU64::new(0),
            vanished: AtomicU64::new(0),
            offset_ms,
            common_date: CommonDate::new(now),
            threads,
        });
    }
    core::mem::forget((task_pool, tasklet_pool));
    Ok(core)
}

/// Frees the core and every pool. No thread is registered any more.
pub fn deinit() {
    let life = life();
    let Some(core) = core() else { return };
    let left = core.registered.load(Ordering::Relaxed);
    assert!(
        left == 0,
        "keel_deinit: threads {left:#x} are still registered"
    );
    super::tables::deinit_all();
    let pending = core.callouts.clear();
    // SAFETY: no thread is registered.
    unsafe { core.tasks.drain(core.now_ms()) };
    for t in core.threads() {
        t.close();
    }
    let threads = core.threads;
    let core = CORE.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: nobody else is there; both areas came from build.
    unsafe {
        core.drop_in_place();
        memory::free(core.cast());
        memory::free(threads.cast());
    }
    POOLS.set_started(false);
    // SAFETY: no thread is registered; objects still in use are the host's
    // leak, and their pools stay.
    unsafe { POOLS.destroy_all(None) };
    // The hook may call anything.
    drop(life);
    if pending > 0 {
        HOOKS.log(
            WARNING,
            format_args!("keel_deinit: {pending} callouts were pending and are idle now"),
        );
    }
}

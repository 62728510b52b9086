//! What a table's entries may hold: the data types that every table shares,
//! and the types of keys.

use super::key::*;
use super::units::{self, Fault};
use crate::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering::*};
use core::ffi::{CStr, c_char};

/// Types that always exist; their indices are ABI.
pub const STATIC: usize = 27;
/// Slots for types that a program registers.
pub const EXTRA: usize = 16;
/// All slots.
pub const TYPES: usize = STATIC + EXTRA;

/// An `int`.
pub const SINT: i32 = 0;
/// An `unsigned int`.
pub const UINT: i32 = 1;
/// An `unsigned long long`.
pub const ULL: i32 = 2;
/// A `struct freq_ctr`.
pub const FRQP: i32 = 3;
/// A pointer to what a dictionary owns.
pub const DICT: i32 = 4;

/// The type takes no argument.
pub const ARG_NONE: i32 = 0;
/// A decimal `int`.
pub const ARG_INT: i32 = 1;
/// A period, in HAProxy's units of time.
pub const ARG_DELAY: i32 = 2;

/// No such type.
pub const PE_ENUM_OOR: i32 = 1;
/// The table has it already.
pub const PE_EXIST: i32 = 2;
/// An argument lacks.
pub const PE_ARG_MISSING: i32 = 3;
/// An argument too many.
pub const PE_ARG_NOT_USED: i32 = 4;
/// An argument cannot be read.
pub const PE_ARG_INVC: i32 = 5;
/// An argument is too small or too large.
pub const PE_ARG_VALUE_OOR: i32 = 8;

/// Elements of an array at most.
pub const MAX_ELEMENTS: u32 = 100;
/// A rate's shortest period, in ms: a counter's date has 1 ms lost to its lock bit.
pub const MIN_PERIOD: u32 = 2;

/// A type of keys.
pub struct KeyType {
    /// Its word in a table's line.
    pub name: &'static CStr,
    /// `SMP_T_*`.
    pub key_type: u64,
    /// `key_size` where the line names none.
    pub default_size: usize,
    /// Whether `len` may follow.
    pub custom_size: bool,
}

/// Every type of keys, the aliases last.
pub static KEY_TYPES: [KeyType; 6] = [
    key_type(c"integer", SMP_T_SINT, 4, false),
    key_type(c"ip", SMP_T_IPV4, 4, false),
    key_type(c"ipv6", SMP_T_IPV6, 16, false),
    key_type(c"string", SMP_T_STR, 32, true),
    key_type(c"binary", SMP_T_BIN, 32, true),
    key_type(c"ipv4", SMP_T_IPV4, 4, false),
];

const fn key_type(
    name: &'static CStr,
    key_type: u64,
    default_size: usize,
    custom_size: bool,
) -> KeyType {
    KeyType {
        name,
        key_type,
        default_size,
        custom_size,
    }
}

const IS_ARRAY: u32 = 1;
const IS_LOCAL: u32 = 2;
const AS_IS: u32 = 4;
/// A registration owns the slot; C's bit-fields leave this bit unnamed.
const TAKEN: u32 = 1 << 31;

/// One slot, laid out as C's `struct stktable_data_type`.
#[repr(C)]
pub struct DataType {
    name: AtomicPtr<c_char>,
    std_type: AtomicI32,
    arg_type: AtomicI32,
    bits: AtomicU32,
}

/// All slots: `stktable_data_types[]`. Types come and never go.
#[repr(transparent)]
pub struct Catalog([DataType; TYPES]);

/// A slot that is in use.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Its name.
    pub name: &'static CStr,
    /// `SINT` to `DICT`.
    pub std_type: i32,
    /// `ARG_*`: of each element, if it is an array.
    pub arg_type: i32,
    /// Several elements, as many as its first argument says.
    pub is_array: bool,
    /// Never learned from other processes.
    pub is_local: bool,
    /// A tag, not a sum: no arithmetic on it.
    pub as_is: bool,
}

/// The types that always exist.
#[cfg(not(model))]
const KNOWN: [(&CStr, i32, i32, u32); STATIC] = [
    (c"server_id", SINT, ARG_NONE, AS_IS),
    (c"gpt0", UINT, ARG_NONE, AS_IS),
    (c"gpc0", UINT, ARG_NONE, 0),
    (c"gpc0_rate", FRQP, ARG_DELAY, 0),
    (c"conn_cnt", UINT, ARG_NONE, 0),
    (c"conn_rate", FRQP, ARG_DELAY, 0),
    (c"conn_cur", UINT, ARG_NONE, IS_LOCAL),
    (c"sess_cnt", UINT, ARG_NONE, 0),
    (c"sess_rate", FRQP, ARG_DELAY, 0),
    (c"http_req_cnt", UINT, ARG_NONE, 0),
    (c"http_req_rate", FRQP, ARG_DELAY, 0),
    (c"http_err_cnt", UINT, ARG_NONE, 0),
    (c"http_err_rate", FRQP, ARG_DELAY, 0),
    (c"bytes_in_cnt", ULL, ARG_NONE, 0),
    (c"bytes_in_rate", FRQP, ARG_DELAY, 0),
    (c"bytes_out_cnt", ULL, ARG_NONE, 0),
    (c"bytes_out_rate", FRQP, ARG_DELAY, 0),
    (c"gpc1", UINT, ARG_NONE, 0),
    (c"gpc1_rate", FRQP, ARG_DELAY, 0),
    (c"server_key", DICT, ARG_NONE, AS_IS),
    (c"http_fail_cnt", UINT, ARG_NONE, 0),
    (c"http_fail_rate", FRQP, ARG_DELAY, 0),
    (c"gpt", UINT, ARG_NONE, IS_ARRAY | AS_IS),
    (c"gpc", UINT, ARG_NONE, IS_ARRAY),
    (c"gpc_rate", FRQP, ARG_DELAY, IS_ARRAY),
    (c"glitch_cnt", UINT, ARG_NONE, 0),
    (c"glitch_rate", FRQP, ARG_DELAY, 0),
];

impl Catalog {
    /// The types that always exist, and free slots.
    // Loom's atomics are no constants.
    #[cfg(not(model))]
    #[allow(clippy::new_without_default)] // Default cannot be const
    pub const fn new() -> Self {
        let mut all = [const { DataType::new(core::ptr::null(), 0, 0, 0) }; TYPES];
        let mut i = 0;
        while i < STATIC {
            let (name, std_type, arg_type, bits) = KNOWN[i];
            all[i] = DataType::new(name.as_ptr(), std_type, arg_type, bits | TAKEN);
            i += 1;
        }
        Self(all)
    }

    /// The index of the type called `name`; `server_name` is `server_key`.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let name = if name == b"server_name" {
            b"server_key"
        } else {
            name
        };
        self.0
            .iter()
            .position(|slot| slot.name().is_some_and(|n| n.to_bytes() == name))
    }

    /// What is known of the type with that index.
    pub fn get(&self, index: usize) -> Option<Info> {
        let slot = self.0.get(index)?;
        let name = slot.name()?;
        // Relaxed: written before the name, which was acquired.
        let bits = slot.bits.load(Relaxed);
        Some(Info {
            name,
            std_type: slot.std_type.load(Relaxed),
            arg_type: slot.arg_type.load(Relaxed),
            is_array: bits & IS_ARRAY != 0,
            is_local: bits & IS_LOCAL != 0,
            as_is: bits & AS_IS != 0,
        })
    }

    /// Registers a type in the free slot `index`, or in the first free one if
    /// that is negative. Returns the index, or -1: no such slot, it is taken,
    /// the name is in use or empty, or there is no such std or arg type.
    ///
    /// # Safety
    /// `name` is NULL or a string that stays for as long as the catalogue.
    // WINDOW(one-name-twice): two that register one name at once may both get a
    // slot; the lower one is then found by name, and no datum goes astray.
    pub unsafe fn register(
        &self,
        index: i32,
        name: *const c_char,
        std_type: i32,
        arg_type: i32,
    ) -> i32 {
        if name.is_null() || size_of_std(std_type) == 0 {
            return -1;
        }
        // SAFETY: a string, by this function's contract.
        let text = unsafe { CStr::from_ptr(name) }.to_bytes();
        if text.is_empty() || !(ARG_NONE..=ARG_DELAY).contains(&arg_type) {
            return -1;
        }
        if self.find(text).is_some() {
            return -1;
        }
        let slots = match usize::try_from(index) {
            Ok(index) if index >= TYPES => return -1,
            Ok(index) => index..index + 1,
            Err(_) => STATIC..TYPES,
        };
        for index in slots {
            let slot = &self.0[index];
            // Relaxed: whoever sets the bit owns the slot; the name publishes.
            if slot.bits.fetch_or(TAKEN, Relaxed) & TAKEN == 0 {
                slot.std_type.store(std_type, Relaxed);
                slot.arg_type.store(arg_type, Relaxed);
                // PAIRS: DataType::name, which thereby sees both types.
                // UNSEEN: they are atomics, and tried on x86 alone.
                slot.name.store(name.cast_mut(), Release);
                return index as i32;
            }
        }
        -1
    }
}

impl DataType {
    #[cfg(not(model))]
    const fn new(name: *const c_char, std_type: i32, arg_type: i32, bits: u32) -> Self {
        Self {
            name: AtomicPtr::new(name.cast_mut()),
            std_type: AtomicI32::new(std_type),
            arg_type: AtomicI32::new(arg_type),
            bits: AtomicU32::new(bits),
        }
    }

    /// Its name, if it is in use.
    fn name(&self) -> Option<&'static CStr> {
        // PAIRS, UNSEEN: Catalog::register, which published the slot with it.
        let name = self.name.load(Acquire);
        // SAFETY: a literal, or a string that stays, as register() demands.
        (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
    }
}

/// Bytes of a datum; 0 for an unknown type.
pub const fn size_of_std(std_type: i32) -> usize {
    match std_type {
        SINT | UINT => 4,
        ULL => 8,
        FRQP => 12,
        DICT => size_of::<*const u8>(),
        _ => 0,
    }
}

/// Reads a type's arguments: how many elements, and the argument of each (ms
/// for a period, the bits of an `int`). An array takes its number of elements
/// first, then the argument; other types one argument or none. `Err`: `PE_*`.
pub fn arguments(info: &Info, sa: Option<&[u8]>, sa2: Option<&[u8]>) -> Result<(u32, u32), i32> {
    if !info.is_array {
        let arg = argument(info.arg_type, sa)?;
        return if sa2.is_some() {
            Err(PE_ARG_NOT_USED)
        } else {
            Ok((1, arg))
        };
    }
    let count = units::number(present(sa)?).map_err(error)?;
    if !(1..=u64::from(MAX_ELEMENTS)).contains(&count) {
        return Err(PE_ARG_VALUE_OOR);
    }
    Ok((count as u32, argument(info.arg_type, sa2)?))
}

fn argument(arg_type: i32, text: Option<&[u8]>) -> Result<u32, i32> {
    match arg_type {
        ARG_NONE if text.is_some() => Err(PE_ARG_NOT_USED),
        ARG_NONE => Ok(0),
        ARG_INT => {
            let value = units::signed(present(text)?).map_err(error)?;
            i32::try_from(value)
                .map(|v| v as u32)
                .map_err(|_| PE_ARG_VALUE_OOR)
        }
        _ => match units::time(present(text)?).map_err(error)? {
            period if period < MIN_PERIOD => Err(PE_ARG_VALUE_OOR),
            period => Ok(period),
        },
    }
}

fn present(text: Option<&[u8]>) -> Result<&[u8], i32> {
    text.filter(|t| !t.is_empty()).ok_or(PE_ARG_MISSING)
}

fn error(fault: Fault) -> i32 {
    match fault {
        Fault::Syntax => PE_ARG_INVC,
        Fault::Range => PE_ARG_VALUE_OOR,
    }
}

#[cfg(all(test, not(model)))]
mod tests {
    use super::*;

    #[test]
    fn the_static_types_have_their_indices() {
        let catalog = Catalog::new();
        for (name, index) in [
            ("server_id", 0),
            ("conn_rate", 5),
            ("gpc1_rate", 18),
            ("server_key", 19),
            ("server_name", 19),
            ("gpt", 22),
            ("gpc_rate", 24),
            ("glitch_rate", 26),
        ] {
            assert_eq!(catalog.find(name.as_bytes()), Some(index), "{name}");
        }
        assert_eq!(catalog.find(b""), None);
        assert_eq!(catalog.find(b"conn"), None);
        assert!(catalog.get(STATIC - 1).is_some());
        assert!(catalog.get(STATIC).is_none());
        assert!(catalog.get(TYPES).is_none());
    }

    #[test]
    fn it_is_laid_out_as_c_wants() {
        assert_eq!(size_of::<DataType>(), 24);
        assert_eq!(size_of::<Catalog>(), 24 * TYPES);
        let catalog = Catalog::new();
        assert_eq!(catalog.0[6].bits.load(Relaxed) & 7, 2); // conn_cur
        assert_eq!(catalog.0[22].bits.load(Relaxed) & 7, 5); // gpt
    }

    #[test]
    fn extra_slots_can_be_registered_once() {
        let catalog = Catalog::new();
        // SAFETY: literals.
        let add = |index, name: &'static CStr, std_type, arg_type| unsafe {
            catalog.register(index, name.as_ptr(), std_type, arg_type)
        };
        let first = STATIC as i32;
        assert_eq!(add(first + 1, c"mine", ULL, ARG_INT), first + 1);
        assert_eq!(add(first + 1, c"other", ULL, ARG_INT), -1);
        assert_eq!(add(-1, c"mine", ULL, ARG_INT), -1);
        assert_eq!(add(-1, c"server_name", ULL, ARG_INT), -1);
        assert_eq!(add(-1, c"", ULL, ARG_INT), -1);
        assert_eq!(add(-1, c"bad", 5, ARG_INT), -1);
        assert_eq!(add(-1, c"bad", ULL, 3), -1);
        assert_eq!(add(0, c"bad", ULL, ARG_INT), -1);
        assert_eq!(add(TYPES as i32, c"bad", ULL, ARG_INT), -1);
        // SAFETY: NULL is refused.
        assert_eq!(unsafe { catalog.register(-1, core::ptr::null(), 0, 0) }, -1);
        assert_eq!(add(-1, c"first", FRQP, ARG_DELAY), first);
        assert_eq!(add(-1, c"third", SINT, ARG_NONE), first + 2);
        let info = catalog.get(STATIC + 1).unwrap();
        assert_eq!((info.name, info.std_type), (c"mine", ULL));
        assert_eq!((info.arg_type, info.is_array), (ARG_INT, false));
        for i in 3..EXTRA {
            let name = Box::leak(format!("x{i}\0").into_boxed_str());
            let name = CStr::from_bytes_with_nul(name.as_bytes()).unwrap();
            assert_eq!(add(-1, name, UINT, ARG_NONE), first + i as i32);
        }
        assert_eq!(add(-1, c"full", UINT, ARG_NONE), -1);
    }

    /// Two have seen that nobody has the name, and each has got a slot.
    // SHOWS: WINDOW(one-name-twice)
    #[test]
    fn the_lower_one_of_two_of_a_name_is_found() {
        let catalog = Catalog::new();
        let add = |index: usize, name: &'static CStr| {
            // SAFETY: literals.
            unsafe { catalog.register(index as i32, name.as_ptr(), UINT, ARG_NONE) }
        };
        let (first, second) = (STATIC + 1, STATIC + 2);
        assert_eq!(add(first, c"other"), first as i32);
        assert_eq!(add(second, c"mine"), second as i32);
        catalog.0[first]
            .name
            .store(c"mine".as_ptr().cast_mut(), Relaxed);
        assert_eq!(catalog.find(b"mine"), Some(first));
        assert_eq!(catalog.get(second).unwrap().name, c"mine");
        assert_eq!(add(STATIC, c"mine"), -1);
    }

    #[test]
    fn arguments_are_checked() {
        let catalog = Catalog::new();
        let check = |name: &str, sa: Option<&str>, sa2: Option<&str>| {
            let info = catalog.get(catalog.find(name.as_bytes()).unwrap()).unwrap();
            arguments(&info, sa.map(str::as_bytes), sa2.map(str::as_bytes))
        };
        assert_eq!(check("conn_cnt", None, None), Ok((1, 0)));
        assert_eq!(check("conn_cnt", Some("1"), None), Err(PE_ARG_NOT_USED));
        assert_eq!(check("conn_rate", Some("10s"), None), Ok((1, 10_000)));
        assert_eq!(
            check("conn_rate", Some("1s"), Some("")),
            Err(PE_ARG_NOT_USED)
        );
        assert_eq!(check("conn_rate", None, None), Err(PE_ARG_MISSING));
        assert_eq!(check("conn_rate", Some(""), None), Err(PE_ARG_MISSING));
        assert_eq!(check("conn_rate", Some("10x"), None), Err(PE_ARG_INVC));
        assert_eq!(check("conn_rate", Some("1"), None), Err(PE_ARG_VALUE_OOR));
        assert_eq!(check("conn_rate", Some("2"), None), Ok((1, 2)));
        assert_eq!(check("conn_rate", Some("25d"), None), Err(PE_ARG_VALUE_OOR));
        assert_eq!(check("gpc", Some("100"), None), Ok((100, 0)));
        assert_eq!(check("gpc", Some("101"), None), Err(PE_ARG_VALUE_OOR));
        assert_eq!(check("gpc", Some("0"), None), Err(PE_ARG_VALUE_OOR));
        assert_eq!(check("gpc", Some("4k"), None), Err(PE_ARG_INVC));
        assert_eq!(check("gpc", None, None), Err(PE_ARG_MISSING));
        assert_eq!(check("gpc", Some("4"), Some("1s")), Err(PE_ARG_NOT_USED));
        assert_eq!(check("gpc_rate", Some("4"), None), Err(PE_ARG_MISSING));
        assert_eq!(check("gpc_rate", Some("4"), Some("1m")), Ok((4, 60_000)));
    }
}

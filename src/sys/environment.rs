//! Environment variables.

use core::ffi::{CStr, c_char};

unsafe extern "C" {
    fn secure_getenv(name: *const c_char) -> *const c_char;
}

/// The value of a variable. None if it is not set, or if the program runs with
/// more rights than the user who set it.
///
/// The value is good until somebody changes the environment: who asks looks at
/// it at once.
pub fn value(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: the name ends with a 0, and so does what is found.
    unsafe {
        let value = secure_getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
    }
}

//! Which place in the program an address is.

use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;
use core::ptr;

/// A code address and, as far as the dynamic linker knows, its place.
pub struct Place {
    /// The file that is mapped there, without its directories, and the
    /// address from the file's start on.
    pub file: Option<(&'static str, usize)>,
    /// The function there, and the address from its start on.
    pub function: Option<(&'static str, usize)>,
}

/// The place of `address`.
pub fn place(address: usize) -> Place {
    let Some(info) = look_up(address) else {
        return Place {
            file: None,
            function: None,
        };
    };
    let named = |name: *const c_char, start: *mut c_void| {
        if name.is_null() {
            return None;
        }
        // SAFETY: what is named ends with a 0 and stays as long as its file is
        // mapped: the caller is one of its functions.
        let name = unsafe { CStr::from_ptr(name) }.to_str().ok()?;
        Some((name, address.wrapping_sub(start.addr())))
    };
    Place {
        file: named(info.dli_fname, info.dli_fbase)
            .map(|(path, offset)| (path.rsplit('/').next().unwrap_or(path), offset)),
        function: named(info.dli_sname, info.dli_saddr),
    }
}

/// Where the file starts that is mapped at `address`.
pub fn file_start(address: usize) -> Option<usize> {
    look_up(address).map(|info| info.dli_fbase.addr())
}

/// What the dynamic linker knows of `address`.
fn look_up(address: usize) -> Option<libc::Dl_info> {
    let mut info = MaybeUninit::zeroed();
    // SAFETY: any address may be asked about; all-zero bytes are a Dl_info.
    unsafe {
        let found = libc::dladdr(ptr::without_provenance(address), info.as_mut_ptr());
        (found != 0).then(|| info.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_libc_are_found() {
        let address = libc::malloc as *const () as usize;
        let place = place(address);
        assert_eq!(place.function, Some(("malloc", 0)));
        assert!(
            place
                .file
                .is_some_and(|(file, at)| file.contains(".so") && at > 0)
        );
    }

    #[test]
    fn nothing_is_found_on_the_stack() {
        let variable = 0u8;
        let place = place((&raw const variable).addr());
        assert!(place.file.is_none() && place.function.is_none());
    }
}

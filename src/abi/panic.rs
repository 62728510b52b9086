//! Panics end here: a sentence with its file and line for the host's hook,
//! then the end of the process. Nothing unwinds and nothing is allocated.

use core::ffi::CStr;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut message = Sentence::new();
    let _ = write!(message, "{}", info.message());
    let mut file = Sentence::new();
    let line = match info.location() {
        Some(location) => {
            let _ = file.write_str(location.file());
            location.line()
        }
        None => 0,
    };
    crate::runtime::panicked(file.as_c_str(), line, message.as_c_str())
}

/// A C string on the stack; what does not fit is cut off.
struct Sentence {
    len: usize,
    bytes: [u8; Self::SIZE],
}

impl Sentence {
    const SIZE: usize = 512;

    fn new() -> Self {
        Self {
            len: 0,
            bytes: [0; Self::SIZE],
        }
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl Write for Sentence {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The last byte stays 0, and a 0 in the text would end it early.
        for &byte in text.as_bytes().iter().filter(|&&b| b != 0) {
            let Some(slot) = self.bytes[..Self::SIZE - 1].get_mut(self.len) else {
                break;
            };
            *slot = byte;
            self.len += 1;
        }
        Ok(())
    }
}

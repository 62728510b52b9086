//! Panics end here: a sentence with its file and line for the host's hook,
//! then the end of the process. Nothing unwinds and nothing is allocated.

use crate::runtime::callouts::LastHandlers;
use crate::runtime::hooks::Line;
use core::fmt::Write;
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut message = Line::new();
    let _ = write!(message, "{}{}", info.message(), LastHandlers);
    let mut file = Line::new();
    let line = match info.location() {
        Some(location) => {
            let _ = file.write_str(location.file());
            location.line()
        }
        None => 0,
    };
    crate::runtime::panicked(file.as_cstr(), line, message.as_cstr())
}

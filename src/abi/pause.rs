//! Pause points for the tests in c-tests/pause/, whose pause.h declares this.

use crate::callout::pause::{self, Hook};

/// Installs the function that is called at each point; NULL: none.
///
/// Thread rule: *any thread*.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn keel_pause(hook: Option<Hook>) {
    pause::set(hook);
}

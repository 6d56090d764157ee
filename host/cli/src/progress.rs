//! Progress on a terminal: a bar of bytes for downloads and uploads, and the elapsed time while the host works.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fetch::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const BYTES: &str = "{spinner} {msg} {wide_bar} {bytes}/{total_bytes}, {eta}";

/// Draws a bar on a terminal; otherwise, the log says when each transfer is done.
pub fn bytes() -> Box<Progress> {
    if !std::io::stderr().is_terminal() {
        return Box::new(|_, _, _| {});
    }
    let current: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    Box::new(move |name, done, total| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = match &mut *current {
            Some((current_name, bar)) if current_name == name => bar,
            other => {
                &mut other
                    .insert((name.to_owned(), new_bar(name.to_owned(), BYTES)))
                    .1
            }
        };
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if total == Some(done) {
            bar.finish_and_clear();
            *current = None;
        }
    })
}

/// Shows a message with the elapsed time, until it is cleared.
pub fn waiting(message: String) -> ProgressBar {
    let bar = new_bar(message, "{spinner} {msg} ({elapsed})");
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn new_bar(message: String, template: &str) -> ProgressBar {
    let bar =
        ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_message(message);
    // The templates are constants; if one were malformed, the default style would do.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

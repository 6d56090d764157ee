//! Progress, where somebody is looking: a bar of bytes for components on their way from or to a registry, and the time that has gone
//! by while the host works.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fetch::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const BYTES: &str = "{spinner} {msg} {wide_bar} {bytes}/{total_bytes}, {eta}";

/// Draws a bar on a terminal; elsewhere the log tells when each is through.
pub fn bytes() -> Box<Progress> {
    if !std::io::stderr().is_terminal() {
        return Box::new(|_, _, _| {});
    }
    let current: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
    Box::new(move |name, through, whole| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = match &mut *current {
            Some((of, bar)) if of == name => bar,
            other => {
                &mut other
                    .insert((name.to_owned(), new_bar(name.to_owned(), BYTES)))
                    .1
            }
        };
        if let Some(whole) = whole {
            bar.set_length(whole);
        }
        bar.set_position(through);
        if whole == Some(through) {
            bar.finish_and_clear();
            *current = None;
        }
    })
}

/// Says what is waited for, and for how long, until it is cleared.
pub fn waiting(message: String) -> ProgressBar {
    let bar = new_bar(message, "{spinner} {msg} ({elapsed})");
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn new_bar(message: String, template: &str) -> ProgressBar {
    let bar =
        ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_message(message);
    // The templates are constants; where one is malformed, the bar's own style is as good.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

//! Standard output. `println!` panics once its reader has gone, as in `whisper-host logs | head`; here the program ends.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// `println!`, for programs whose output is what they are for.
macro_rules! say {
    ($($part:tt)*) => { $crate::say::line(format_args!($($part)*)) };
}
pub(crate) use say;

/// Write a line or end: without a reader there is nothing left to do, which is no failure; anything else is one.
pub fn line(text: Arguments<'_>) {
    match write(text) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            complain(format_args!("cannot write to standard output: {error}"));
            exit(1)
        }
    }
}

/// Write a line, for callers that tolerate a closed standard output.
pub fn write(text: Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// An error, on standard error. Where that is closed, too, the exit status is all that is left to say it with.
pub fn complain(text: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "error: {text}");
}

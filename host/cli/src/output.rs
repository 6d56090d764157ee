//! Standard output and error. `println!` panics once its reader has exited, as in `whisper-host logs | head`; here the program exits.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// Like `println!`, but exits if standard output is closed.
macro_rules! outln {
    ($($part:tt)*) => { $crate::output::print_line(format_args!($($part)*)) };
}
pub(crate) use outln;

/// Prints a line or exits: with success if the reader has exited, since nothing is left to do, and with failure on other errors.
pub fn print_line(text: Arguments<'_>) {
    match try_print_line(text) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            print_error(format_args!("cannot write to standard output: {error}"));
            exit(1)
        }
    }
}

/// Prints a line, for callers that tolerate a closed standard output.
pub fn try_print_line(text: Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Prints an error on standard error. If that is closed, too, only the exit status reports the error.
pub fn print_error(text: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "error: {text}");
}

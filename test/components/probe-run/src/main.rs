//! A program for tests: the variable `DO` says what it does.

fn main() {
    println!("running");
    match std::env::var("DO").as_deref() {
        Ok("exit") => std::process::exit(3),
        Ok("trap") => panic!("a trap was asked for"),
        Ok("sleep") => std::thread::sleep(std::time::Duration::from_millis(2500)),
        _ => {}
    }
}

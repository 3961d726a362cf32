//! The validator as a process that tests start: the same entry as the shipped binary's.

fn main() -> std::process::ExitCode {
    validator::main(std::env::args_os())
}

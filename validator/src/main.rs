//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    validator::main(std::env::args_os())
}

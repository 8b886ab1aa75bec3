//! The seqgate program: arguments and environment in, exit code out.

fn main() -> std::process::ExitCode {
    seqgate::cli::main(std::env::args_os(), std::env::vars_os())
}

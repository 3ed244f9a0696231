//! The `thalweg` program; see the library beside it.

fn main() -> std::process::ExitCode {
    thalweg_cli::main()
}

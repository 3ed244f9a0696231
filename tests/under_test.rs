//! The `thalweg` program, built where the integration tests can find it.

fn main() -> std::process::ExitCode {
    thalweg_cli::main()
}

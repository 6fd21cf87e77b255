//! The command line's outcome: help, a check, a signal, or a server that runs until it is told to stop.

use std::{path::Path, process::ExitCode};

use weir_conf::{
    ConfErrors, Invocation, Options, Persona, RunRequest, SystemSources, TLS_HELP, UsageError, usage_text,
};

use crate::{
    COMPATIBLE_VERSION, VERSION, entrance, lifecycle,
    log::{self, LogOptions},
    ocsp::Revocations,
    resolver, signal_command, store_command,
};

/// How this program was started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) persona: Persona,
    /// The file name of the executable as it was called.
    pub(crate) name: String,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|text| text.to_string_lossy().into_owned());
    let called = arguments.next().unwrap_or_else(|| "weir".to_owned());
    let name = Path::new(&called).file_name().map(|name| name.to_string_lossy().into_owned());
    let program = Program { persona: Persona::from_program(&called), name: name.unwrap_or(called) };
    let arguments: Vec<String> = arguments.collect();
    if let (Persona::Weir, Some((word, words))) = (program.persona, arguments.split_first())
        && word == "store"
    {
        return store_command::run(words);
    }
    match Invocation::from_args(&arguments, &SystemSources) {
        Ok(invocation) => obey(invocation, &program),
        Err(error) => refuse(&error, &program),
    }
}

fn obey(invocation: Invocation, program: &Program) -> ExitCode {
    let name = program.persona.name();
    match invocation {
        Invocation::Help => print!("{}", usage_text(name)),
        Invocation::HelpTls => print!("{TLS_HELP}"),
        Invocation::Version => println!("{name}: v{}", version(program.persona)),
        Invocation::ConfigIsValid { file, digest, options } => {
            if let Err(message) = check(&options, program.persona) {
                eprintln!("{name}: {file}: {message}");
                return ExitCode::FAILURE;
            }
            eprintln!("{name}: configuration file {file} is valid ({digest})");
        }
        Invocation::Signal(request) => {
            if let Err(message) = signal_command::send(&request, &program.name) {
                eprintln!("{name}: {message}");
                return ExitCode::FAILURE;
            }
        }
        Invocation::Run(request) => return run(*request, program),
    }
    ExitCode::SUCCESS
}

/// What can be checked of options without serving them: certificates and keys, and, under our own
/// name, what keeps a server with operators from starting.
fn check(options: &Options, persona: Persona) -> Result<(), String> {
    entrance::load(options, &Revocations::default())?;
    match persona {
        Persona::NatsServer => Ok(()),
        Persona::Weir => resolver::check(options),
    }
}

/// What `-v` shows.
fn version(persona: Persona) -> &'static str {
    match persona {
        Persona::Weir => VERSION,
        Persona::NatsServer => COMPATIBLE_VERSION,
    }
}

/// Says what is wrong with the arguments or the configuration.
fn refuse(error: &UsageError, program: &Program) -> ExitCode {
    match (program.persona, error) {
        // The reference shows its help and exits with 0: scripts may rely on it.
        (Persona::NatsServer, UsageError::Flag(message)) => {
            eprintln!("{message}");
            print!("{}", usage_text(program.persona.name()));
            ExitCode::SUCCESS
        }
        (Persona::NatsServer, _) => {
            eprintln!("{}: {error}", program.persona.name());
            ExitCode::FAILURE
        }
        (Persona::Weir, UsageError::Flag(message)) => {
            log::fatal(message);
            eprint!("{}", usage_text(program.persona.name()));
            ExitCode::FAILURE
        }
        (Persona::Weir, _) => {
            log::fatal(&error.located());
            ExitCode::FAILURE
        }
    }
}

fn run(request: RunRequest, program: &Program) -> ExitCode {
    let warnings = &request.options.warnings;
    if program.persona == Persona::NatsServer && !warnings.is_empty() {
        // That program prints them before it has a log.
        eprint!("{}", ConfErrors { errors: warnings.clone(), list: true });
    }
    if let Err(message) = log::install(&LogOptions::of(&request.options), &program.name) {
        eprintln!("{}: {message}", program.persona.name());
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("weir")
        .on_thread_park(weir_hub::write_deferred)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            log::fatal(&format!("Can't start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(lifecycle::run(request, program.clone()));
    // Tasks that ignore the end of their server must not hold up the end of the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            log::fatal(&message);
            ExitCode::FAILURE
        }
    }
}
